//! How long a client may take (RELAY-16, T-18). No clock of its own: the session tells the time.

use std::time::Duration;

use tokio::time::Instant;

/// Time for one whole command (RELAY-16).
const COMMAND_TIME: Duration = Duration::from_secs(5 * 60);
/// Content must bring `CONTENT_STEP` octets in each such time: at least 512 in a second.
const CONTENT_TIME: Duration = Duration::from_secs(180);
const CONTENT_STEP: u64 = 180 * CONTENT_RATE;
const CONTENT_RATE: u64 = 512;
/// Time for a whole transaction, besides what its content may take at the least rate. Without it,
/// chunks of one octet would hold a session for ever.
const TRANSACTION_TIME: Duration = Duration::from_secs(60 * 60);

/// The clock of one session.
pub struct Pace {
    /// Where the present command or step of content began.
    began: Instant,
    /// Octets of content since then.
    step: u64,
    /// When MAIL came.
    transaction: Instant,
    /// Octets of content since then.
    total: u64,
    content: bool,
    commands: u32,
}

impl Pace {
    /// A session that begins now.
    pub fn new(now: Instant) -> Self {
        Pace {
            began: now,
            step: 0,
            transaction: now,
            total: 0,
            content: false,
            commands: 0,
        }
    }

    /// MAIL came.
    pub fn transaction(&mut self, now: Instant) {
        (self.transaction, self.total) = (now, 0);
    }

    /// Where the dialogue stands: whether content is due, and how many commands came so far. True
    /// if it has gone on since the last time; octets of an unfinished command are no progress.
    pub fn at(&mut self, content: bool, commands: u32, now: Instant) -> bool {
        let moved = content != self.content || commands != self.commands;
        if moved {
            (self.began, self.step) = (now, 0);
            (self.content, self.commands) = (content, commands);
        }
        moved
    }

    /// So many octets came. True if they were content.
    pub fn took(&mut self, octets: usize, now: impl FnOnce() -> Instant) -> bool {
        if self.content {
            self.step += octets as u64;
            self.total += octets as u64;
            if self.step >= CONTENT_STEP {
                (self.began, self.step) = (now(), 0);
            }
        }
        self.content
    }

    /// Until when the client must have gone on.
    pub fn deadline(&self, in_transaction: bool) -> Instant {
        let next = self.began
            + if self.content {
                CONTENT_TIME
            } else {
                COMMAND_TIME
            };
        let allowed = TRANSACTION_TIME + Duration::from_secs(self.total / CONTENT_RATE);
        if in_transaction {
            next.min(self.transaction + allowed)
        } else {
            next
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn relay_16_each_command_has_five_minutes() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.deadline(false), start + seconds(300));
        // Octets alone do not count, a whole command does.
        pace.took(1, || start + seconds(100));
        assert!(!pace.at(false, 0, start + seconds(100)));
        assert_eq!(pace.deadline(false), start + seconds(300));
        assert!(pace.at(false, 1, start + seconds(200)));
        assert_eq!(pace.deadline(false), start + seconds(500));
    }

    #[test]
    fn t_18_content_has_three_minutes_from_its_own_beginning() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.at(false, 3, start);
        pace.transaction(start);
        // 354 came long after MAIL.
        pace.at(true, 4, start + seconds(290));
        assert_eq!(pace.deadline(true), start + seconds(470));
    }

    #[test]
    fn t_18_a_fast_beginning_buys_no_slow_end() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.transaction(start);
        pace.at(true, 1, start);
        assert!(pace.took(19 << 20, || start + seconds(1)));
        assert_eq!(pace.deadline(true), start + seconds(181));
        for second in 2..180 {
            pace.took(1, || start + seconds(second));
        }
        assert_eq!(pace.deadline(true), start + seconds(181));
        pace.took(92_160, || start + seconds(180));
        assert_eq!(pace.deadline(true), start + seconds(360));
    }

    #[test]
    fn t_18_chunks_of_one_octet_do_not_go_on_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.transaction(start);
        let mut now = start;
        let mut commands = 1;
        while now < pace.deadline(true) {
            pace.at(true, commands, now);
            pace.took(1, || now);
            pace.at(false, commands, now);
            commands += 1;
            now += seconds(200);
        }
        assert!(now - start < seconds(3900), "{:?}", now - start);
        // What is no transaction is limited by the number of its commands.
        assert_eq!(pace.deadline(false), pace.began + seconds(300));
    }
}
