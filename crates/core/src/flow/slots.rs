//! The sessions of one IP or sender: how many may be open, and the pause of each slot after a
//! session ended (FLOW-20, FLOW-21).

use std::time::Duration;

use crate::flow::{Limit, Moment};

/// Why no session may be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Until one ends.
    InUse,
    /// Until a slot has paused.
    Pausing(Moment),
}

impl Full {
    pub(super) fn limit(self) -> Limit {
        match self {
            Full::InUse => Limit::ThreadMax,
            Full::Pausing(_) => Limit::WaitTime,
        }
    }
}

/// Open sessions and pausing slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    open: u32,
    /// Of these, those that wait for the next message.
    idle: u32,
    /// When each pausing slot may be used again.
    pauses: Vec<Moment>,
}

impl Slots {
    /// Whether another session may begin; `threadmax` 0 is no limit, and then nothing pauses.
    pub(super) fn may_open(&self, now: Moment, threadmax: u32) -> Result<(), Full> {
        if threadmax == 0 {
            return Ok(());
        }
        let pausing = self.pauses.iter().filter(|until| **until > now);
        let used = u64::from(self.open) + pausing.clone().count() as u64;
        if used < u64::from(threadmax) {
            return Ok(());
        }
        if self.open >= threadmax {
            return Err(Full::InUse);
        }
        // So many pauses must end first; there are more than threads only after a slower set
        // was entered.
        let mut until: Vec<Moment> = pausing.copied().collect();
        until.sort_unstable();
        let surplus = used - u64::from(threadmax);
        let ends = usize::try_from(surplus).ok().and_then(|i| until.get(i));
        Err(ends.map_or(Full::InUse, |at| Full::Pausing(*at)))
    }

    pub(super) fn opened(&mut self) {
        self.open += 1;
    }

    pub(super) fn closed(&mut self, now: Moment, waittime: Duration) {
        self.open = self.open.saturating_sub(1);
        self.idle = self.idle.min(self.open);
        self.pauses.retain(|until| *until > now);
        if !waittime.is_zero() {
            self.pauses.push(now.after(waittime));
        }
    }

    /// One of the open sessions is idle from now on, or no longer.
    pub(super) fn idle_changed(&mut self, is_idle: bool) {
        self.idle = match is_idle {
            true => self.idle.saturating_add(1).min(self.open),
            false => self.idle.saturating_sub(1),
        };
    }

    /// Idle sessions.
    pub(super) fn idle(&self) -> u32 {
        self.idle
    }

    /// From when on a message may go, in another session or in an idle one, if nothing is reported.
    pub(super) fn free_at(&self, now: Moment, threadmax: u32) -> Moment {
        match self.may_open(now, threadmax) {
            Ok(()) => Moment(0),
            Err(_) if self.idle > 0 => Moment(0),
            Err(Full::Pausing(until)) => until,
            Err(Full::InUse) => Moment(u64::MAX),
        }
    }

    /// Sessions open now.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// Whether it may be forgotten.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.open == 0 && self.pauses.iter().all(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_20_flow_21_threads_and_the_pause_of_each_slot() {
        let wait = Duration::from_secs(10);
        let at = |seconds: u64| Moment(seconds * 1000);
        let mut slots = Slots::default();
        slots.opened();
        slots.opened();
        assert_eq!(slots.may_open(at(0), 2), Err(Full::InUse));
        assert_eq!(slots.may_open(at(0), 3), Ok(()));
        assert_eq!(slots.may_open(at(0), 0), Ok(()));
        slots.closed(at(1), wait);
        assert_eq!(slots.may_open(at(1), 2), Err(Full::Pausing(at(11))));
        slots.closed(at(5), wait);
        // Each slot pauses on its own.
        assert_eq!(slots.may_open(at(10), 2), Err(Full::Pausing(at(11))));
        assert_eq!(slots.may_open(at(11), 2), Ok(()));
        assert!(!slots.is_idle(at(14)));
        assert!(slots.is_idle(at(15)));
    }

    #[test]
    fn flow_20_after_a_slower_set_more_pauses_than_threads_must_end() {
        let at = Moment;
        let mut slots = Slots::default();
        for end in 0..3 {
            slots.opened();
            slots.closed(at(end), Duration::from_millis(100));
        }
        // Pauses end at 100, 101, 102; one thread is free when all but none are left.
        assert_eq!(slots.may_open(at(50), 1), Err(Full::Pausing(at(102))));
        assert_eq!(slots.may_open(at(50), 2), Err(Full::Pausing(at(101))));
        assert_eq!(slots.may_open(at(102), 1), Ok(()));
    }
}
