//! Places where a test may end or stop the process: `GALERNE_FAILPOINT`, read once when the queue
//! is opened. Without the variable there is nothing but an empty list.
//!
//! `queue.before_commit:kill@17,queue.before_answer:kill@3`: the 17th time there, and the third.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The variable.
pub const VARIABLE: &str = "GALERNE_FAILPOINT";

/// Which places do what.
#[derive(Debug, Default)]
pub struct Failpoints(Vec<Failpoint>);

#[derive(Debug)]
struct Failpoint {
    name: String,
    at: u64,
    seen: AtomicU64,
}

impl Failpoints {
    /// As the variable says.
    pub fn from_environment() -> Failpoints {
        std::env::var(VARIABLE).map_or_else(|_| Failpoints::default(), |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Failpoints {
        let point = |word: &str| {
            let (name, what) = word.trim().split_once(':')?;
            let at = what.strip_prefix("kill@")?.parse().ok()?;
            Some(Failpoint {
                name: name.to_owned(),
                at,
                seen: AtomicU64::new(0),
            })
        };
        Failpoints(text.split(',').filter_map(point).collect())
    }

    /// The process is at a place; it may end here, as by `kill -9`.
    pub fn at(&self, name: &str) {
        for point in &self.0 {
            if point.name == name && point.seen.fetch_add(1, Relaxed) + 1 == point.at {
                let me = rustix::process::getpid();
                // If even that is refused, the test that waits for the end says so.
                let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_from_the_text() {
        let points = Failpoints::parse("queue.a:kill@17, queue.b:kill@3,nonsense,queue.c:kill@x");
        let read: Vec<_> = points.0.iter().map(|p| (p.name.as_str(), p.at)).collect();
        assert_eq!(read, [("queue.a", 17), ("queue.b", 3)]);
        points.at("queue.a");
        assert_eq!(points.0[0].seen.load(Relaxed), 1);
    }
}
