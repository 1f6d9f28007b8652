//! Delivery flow control: how fast mail may go from an address and for a sender domain to a group,
//! and how that changes by itself (FLOW-1 to FLOW-52).
//!
//! Pure: `now` is an argument, states live in memory here and are stored by somebody else. The way
//! of a message: [`desk::Desk::ask`] says whether it may go now; the caller then reports when MAIL
//! was sent, how it ended, and when the session closed.

pub mod choice;
pub mod configured;
pub mod desk;
pub mod forecast;
pub mod history;
mod ips;
pub mod params;
mod slots;
pub mod state;

use std::fmt;
use std::time::Duration;

pub use crate::model::FlowSetName as Set;

/// A moment of flow control: milliseconds since 1970. It never runs backwards within a process,
/// whatever the host's clock does (T-49, T-65).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// So much later.
    pub fn after(self, length: Duration) -> Moment {
        Moment(self.0.saturating_add(millis(length)))
    }

    /// So much earlier, not before 1970.
    pub fn before(self, length: Duration) -> Moment {
        Moment(self.0.saturating_sub(millis(length)))
    }

    /// The time from `earlier` until this; zero if it is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// Which of the two controls (FLOW-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Control {
    /// `ipflow`: per sending IP.
    Ip,
    /// `sdflow`: per sender domain.
    Sender,
}

impl Control {
    /// As sections begin: `ipflow`, `sdflow`.
    pub fn word(self) -> &'static str {
        match self {
            Control::Ip => "ipflow",
            Control::Sender => "sdflow",
        }
    }
}

/// What limits a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// The set was entered by FLOW() and sleeps.
    SleepTtl,
    /// All sessions are in use.
    ThreadMax,
    /// A slot pauses between two sessions.
    WaitTime,
    /// The shorter window is full.
    VolMaxLow,
    /// The longer window is full.
    VolMaxHigh,
}

impl Limit {
    /// The key that sets it.
    pub fn key(self) -> &'static str {
        match self {
            Limit::SleepTtl => "sleepttl",
            Limit::ThreadMax => "threadmax",
            Limit::WaitTime => "waittime",
            Limit::VolMaxLow => "volmaxlow",
            Limit::VolMaxHigh => "volmaxhigh",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// Whether a message may go (FLOW-3, FLOW-29: never a failure, only a delay).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Now,
    /// Not before that moment, because of that limit of that control.
    NotBefore(Moment, Control, Limit),
    /// Not before a session ends: its end is reported, and then it may.
    WhenFree(Control),
}

#[cfg(test)]
mod tests;
