//! What a crash leaves behind.

use std::time::Duration;

use super::{Progress, State};

/// How a stored delivery stands after a start; `None`: as it is stored. One that was given to a
/// session may have been delivered: its outcome is unknown, and it is tried again after `delay`, once
/// (QUEUE-4, QUEUE-6).
pub fn after_crash(progress: &Progress, now: u64, delay: Duration) -> Option<Progress> {
    if !progress.handed {
        return None;
    }
    let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    Some(Progress {
        state: State::Unknown,
        handed: false,
        duplicate_possible: true,
        next: now.saturating_add(delay),
        ..progress.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_6_what_was_given_to_a_session_is_unknown_after_a_crash() {
        let delay = Duration::from_secs(900);
        let mut progress = Progress {
            attempts: 2,
            next: 5,
            ..Progress::default()
        };
        assert_eq!(after_crash(&progress, 1000, delay), None);
        progress.handed = true;
        let after = after_crash(&progress, 1000, delay).unwrap();
        assert_eq!((after.state, after.next), (State::Unknown, 901_000));
        assert!(after.duplicate_possible && !after.handed);
        assert_eq!(after.attempts, 2);
        assert_eq!(after_crash(&after, 2000, delay), None, "once");
    }
}
