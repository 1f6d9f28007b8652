//! One timer for all the waits of a session. What it waits for is in `session`.
//!
//! A session waits many times for each message, and nearly always in vain: what it waits for comes
//! long before. Setting and taking back a timer each time would cost more than reading the octets,
//! so one that is set already is left alone as long as it rings early enough.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer; not set before the first wait.
#[derive(Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Resolves when `deadline` has passed.
    pub async fn rings(&mut self, deadline: Instant) {
        let set = || Box::pin(sleep_until(deadline));
        let sleep = self.0.get_or_insert_with(set);
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            sleep.as_mut().await;
            if deadline <= sleep.deadline() {
                return;
            }
            // It was set for an earlier wait, which has ended meanwhile.
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout_at;

    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[tokio::test(start_paused = true)]
    async fn t_18_each_wait_ends_at_its_own_deadline() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        // Waits that end before their time leave the timer as it is, or as it was before them.
        for (wait, until) in [(300, 10), (180, 20), (400, 30), (50, 40)] {
            let waiting = alarm.rings(start + seconds(wait));
            assert!(timeout_at(start + seconds(until), waiting).await.is_err());
        }
        for deadline in [350, 360, 400, 360] {
            let before = Instant::now();
            alarm.rings(start + seconds(deadline)).await;
            let expected = before.max(start + seconds(deadline));
            let late = Instant::now().duration_since(expected);
            assert!(Instant::now() >= expected && late <= Duration::from_millis(2));
        }
    }
}
