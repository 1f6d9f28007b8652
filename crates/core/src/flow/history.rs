//! How many messages went in any stretch of the past, in little memory.
//!
//! Events are kept in stretches that grow with their age: at most a 64th of it. A sliding window
//! counts a stretch whole while any of it may lie inside, so that it can let a message wait a
//! little longer than it must, but never lets one too many go (FLOW-26).

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flow::Moment;

/// A stretch is at most this part of its age.
const PART: u64 = 64;

/// Messages of a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    first: u64,
    last: u64,
    /// Messages before this stretch, since the beginning of all.
    before: u64,
}

/// Past messages. Look-ups cost the logarithm of what is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct History {
    /// Oldest first.
    stretches: VecDeque<Stretch>,
    /// Messages since the beginning of all.
    total: u64,
    tidy_at: usize,
}

/// First, last and count of each stretch.
type Stored = Vec<(u64, u64, u64)>;

impl From<Stored> for History {
    fn from(stored: Stored) -> Self {
        let mut history = History::default();
        for (first, last, count) in stored {
            let before = history.total;
            history.stretches.push_back(Stretch {
                first,
                last,
                before,
            });
            history.total += count;
        }
        history
    }
}

impl From<History> for Stored {
    fn from(history: History) -> Self {
        let ends = history.stretches.iter().skip(1).map(|next| next.before);
        let ends = ends.chain([history.total]);
        let each = history.stretches.iter().zip(ends);
        each.map(|(s, end)| (s.first, s.last, end - s.before))
            .collect()
    }
}

impl History {
    /// `count` messages went at `now`. What is older than `keep` is forgotten.
    pub fn add(&mut self, now: Moment, count: u64, keep: Duration) {
        let now = now.0.max(self.stretches.back().map_or(0, |last| last.last));
        if self.stretches.back().is_none_or(|last| last.last != now) {
            self.stretches.push_back(Stretch {
                first: now,
                last: now,
                before: self.total,
            });
        }
        self.total += count;
        if self.stretches.len() >= self.tidy_at {
            self.tidy(now, Moment(now).before(keep).0);
        }
    }

    /// Messages after `edge`; those of a stretch that straddles it are all counted.
    pub fn at_most_since(&self, edge: Moment) -> u64 {
        let outside = self.stretches.partition_point(|s| s.last <= edge.0);
        self.from(outside)
    }

    /// Messages after `edge`; of a stretch that straddles it none is counted.
    pub fn at_least_since(&self, edge: Moment) -> u64 {
        let outside = self.stretches.partition_point(|s| s.first <= edge.0);
        self.from(outside)
    }

    /// Messages of the stretch at that place and of all later ones.
    fn from(&self, place: usize) -> u64 {
        let before = self.stretches.get(place).map(|stretch| stretch.before);
        before.map_or(0, |before| self.total - before)
    }

    /// When the last `window` holds fewer than `max` messages again, if nothing more is sent;
    /// `now` if it does already. `max` must not be 0.
    pub fn below(&self, now: Moment, window: Duration, max: u64) -> Moment {
        // The newest stretch with which `max` is reached: it and all before must leave the window.
        let Some(most) = self.total.checked_sub(max) else {
            return now;
        };
        let newer = self.stretches.partition_point(|s| s.before <= most);
        let decisive = newer.checked_sub(1).and_then(|i| self.stretches.get(i));
        let free = decisive.map(|stretch| Moment(stretch.last).after(window));
        free.map_or(now, |moment| moment.max(now))
    }

    /// Messages in the last `window`, and when the next stretch leaves it; `None`: it is empty.
    pub fn inside(&self, now: Moment, window: Duration) -> (u64, Option<Moment>) {
        let edge = now.before(window);
        let outside = self.stretches.partition_point(|s| s.last <= edge.0);
        let Some(oldest) = self.stretches.get(outside) else {
            return (0, None);
        };
        let leaves = Moment(oldest.last).after(window);
        (self.total - oldest.before, Some(leaves))
    }

    /// `count` messages did not go at `at` after all. Gives how many of them were remembered.
    pub fn take_back(&mut self, at: Moment, count: u64) -> u64 {
        let place = self.stretches.partition_point(|s| s.last < at.0);
        let ends = self.stretches.get(place + 1).map(|next| next.before);
        let Some(stretch) = self.stretches.get(place).copied() else {
            return 0;
        };
        let held = ends.unwrap_or(self.total) - stretch.before;
        let taken = count.min(held);
        for later in self.stretches.iter_mut().skip(place + 1) {
            later.before -= taken;
        }
        self.total -= taken;
        if taken == held {
            self.stretches.remove(place);
        }
        taken
    }

    /// The last message that is remembered.
    pub fn latest(&self) -> Option<Moment> {
        self.stretches.back().map(|stretch| Moment(stretch.last))
    }

    /// Moves everything by so many milliseconds to the past: the clock of the host was set back
    /// while we did not run.
    pub fn earlier(&mut self, ahead: u64) {
        for stretch in &mut self.stretches {
            stretch.first = stretch.first.saturating_sub(ahead);
            stretch.last = stretch.last.saturating_sub(ahead);
        }
    }

    /// Stretches held: the memory it needs.
    pub fn stretches(&self) -> usize {
        self.stretches.len()
    }

    fn tidy(&mut self, now: u64, forget: u64) {
        let mut kept: VecDeque<Stretch> = VecDeque::new();
        for stretch in self.stretches.drain(..).filter(|s| s.last > forget) {
            match kept.back_mut() {
                Some(earlier)
                    if stretch.last - earlier.first <= now.saturating_sub(stretch.last) / PART =>
                {
                    earlier.last = stretch.last;
                }
                _ => kept.push_back(stretch),
            }
        }
        self.tidy_at = kept.len() + kept.len() / 2 + 64;
        self.stretches = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Duration = Duration::from_secs(31 * 86_400);

    fn seconds(n: u64) -> Moment {
        Moment(1_000_000_000_000 + n * 1000)
    }

    #[test]
    fn flow_26_a_window_slides() {
        let mut history = History::default();
        for second in 0..5 {
            history.add(seconds(second), 1, MONTH);
        }
        let ten = Duration::from_secs(10);
        assert_eq!(history.at_most_since(seconds(4).before(ten)), 5);
        assert_eq!(history.below(seconds(4), ten, 6), seconds(4));
        // The first leaves at 10, the third at 12.
        assert_eq!(history.below(seconds(4), ten, 5), seconds(10));
        assert_eq!(history.below(seconds(4), ten, 3), seconds(12));
        assert_eq!(history.at_most_since(seconds(11).before(ten)), 3);
    }

    #[test]
    fn flow_26_old_stretches_are_coarse_within_a_64th_and_never_count_too_little() {
        let mut history = History::default();
        let mut exact: Vec<(u64, u64)> = Vec::new();
        let mut state = 12345u64;
        let mut at = 0;
        for _ in 0..200_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            at += state % 30_000;
            history.add(Moment(at), 1 + state % 3, MONTH);
            exact.push((at, 1 + state % 3));
        }
        assert!(history.stretches() < 2500, "{}", history.stretches());
        for window in [1_000, 60_000, 600_000, 86_400_000, 2_000_000_000u64] {
            let edge = at - window;
            let count = |edge: u64| -> u64 {
                let inside = exact.iter().rev().take_while(|(t, _)| *t > edge);
                inside.map(|(_, n)| n).sum()
            };
            let most = history.at_most_since(Moment(edge));
            let least = history.at_least_since(Moment(edge));
            assert!(most >= count(edge) && least <= count(edge), "{window}");
            let coarse = window / 60;
            assert!(most <= count(edge - coarse), "{window}");
            assert!(least >= count(edge + coarse), "{window}");
        }
    }

    #[test]
    fn flow_27_what_did_not_go_is_taken_back_from_its_own_moment() {
        let mut history = History::default();
        for (second, count) in [(0, 2), (5, 3), (9, 1)] {
            history.add(seconds(second), count, MONTH);
        }
        assert_eq!(history.take_back(seconds(5), 2), 2);
        let since = |second: u64| history.at_most_since(Moment(seconds(second).0 - 1));
        assert_eq!([since(0), since(5), since(9)], [4, 2, 1]);
        assert_eq!(
            history.take_back(seconds(5), 9),
            1,
            "no more than there were"
        );
        assert_eq!(history.stretches(), 2);
        let ten = Duration::from_secs(10);
        assert_eq!(history.below(seconds(9), ten, 2), seconds(10));
        assert_eq!(history.inside(seconds(9), ten), (3, Some(seconds(10))));
        assert_eq!(history.inside(seconds(10), ten), (1, Some(seconds(19))));
        assert_eq!(history.inside(seconds(19), ten), (0, None));
    }

    #[test]
    fn t_65_a_clock_that_was_set_back_loses_nothing_and_blocks_nothing_for_ever() {
        let mut history = History::default();
        history.add(seconds(86_400), 7, MONTH);
        history.earlier(86_400_000);
        let hour = Duration::from_secs(3600);
        assert_eq!(history.at_most_since(seconds(0).before(hour)), 7);
        assert_eq!(history.below(seconds(0), hour, 7), seconds(3600));
        // Within a process time does not run backwards, but if it did, nothing would be lost.
        history.add(Moment(5), 1, MONTH);
        assert_eq!(history.at_most_since(seconds(0).before(hour)), 8);
    }

    #[test]
    fn conf_36_it_survives_as_text() {
        let mut history = History::default();
        history.add(seconds(1), 2, MONTH);
        history.add(seconds(2), 1, MONTH);
        let text = serde_json::to_string(&history).unwrap();
        let back: History = serde_json::from_str(&text).unwrap();
        assert_eq!(back.stretches, history.stretches);
        assert_eq!(back.total, history.total);
        assert_eq!(
            text,
            "[[1000000001000,1000000001000,2],[1000000002000,1000000002000,1]]"
        );
    }
}
