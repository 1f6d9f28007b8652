//! The state of one IP or sender towards one group: its set, what it sent, and when it switches
//! (FLOW-3, FLOW-24 to FLOW-50).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flow::history::History;
use crate::flow::params::{Params, Rule, Target, Window, target};
use crate::flow::{Limit, Moment, Set};

/// What is remembered at least, so that a set with longer windows finds its past.
const KEEP: Duration = Duration::from_secs(31 * 86_400);

/// Why a set was left for another (FLOW-41).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// So many were delivered in the period of the up rule.
    Up(u64),
    /// Only so many were delivered in the period of the down rule.
    Down(u64),
    /// A reply qualified FLOW, by the pattern of that name.
    Reply(String),
    /// So many unknown errors one after the other.
    Errors(u32),
    /// The operator or the API said so.
    Demand,
}

/// A switch from one set to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub at: Moment,
    pub from: Set,
    pub to: Set,
    pub cause: Cause,
}

/// The state of one IP or one sender. What is serialised survives a restart (CONF-36).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    #[serde(with = "word")]
    set: Set,
    entered: u64,
    #[serde(default)]
    sleeps_until: u64,
    #[serde(default)]
    locked: bool,
    /// Messages whose MAIL was sent (FLOW-27).
    sent: History,
    /// Messages delivered (FLOW-35).
    delivered: History,
    /// Delivered since the set was entered (FLOW-33).
    #[serde(default)]
    since_entry: u64,
    #[serde(default)]
    unknown_errors: u32,
    /// The latest moment that it has seen.
    #[serde(default)]
    seen: u64,
    /// Let go, and MAIL not yet sent.
    #[serde(skip)]
    pending: u64,
}

impl State {
    /// A new IP or sender begins with warmup (FLOW-9).
    pub fn new(now: Moment) -> Self {
        State {
            set: Set::Warmup,
            entered: now.0,
            sleeps_until: 0,
            locked: false,
            sent: History::default(),
            delivered: History::default(),
            since_entry: 0,
            unknown_errors: 0,
            seen: now.0,
            pending: 0,
        }
    }

    /// The set in force.
    pub fn set(&self) -> Set {
        self.set
    }

    /// Since when.
    pub fn entered(&self) -> Moment {
        Moment(self.entered)
    }

    /// Until when it sleeps; a moment of the past if it does not.
    pub fn sleeps_until(&self) -> Moment {
        Moment(self.sleeps_until)
    }

    /// When it last sent something, or entered its set.
    pub fn latest(&self) -> Moment {
        let entered = Moment(self.entered);
        self.sent.latest().map_or(entered, |at| at.max(entered))
    }

    /// Whether only an operator may switch it (FLOW-50).
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Messages in the window, those that were let go included.
    pub fn fill(&self, now: Moment, window: Window) -> u64 {
        self.sent.at_most_since(now.before(window.ttl)) + self.pending
    }

    /// After a restart: nothing lies in the future of a clock that was set back (T-65). All of it
    /// moves together, as if no time had passed since. Gives whether anything was moved.
    pub fn restored(&mut self, now: Moment) -> bool {
        let latest = [&self.sent, &self.delivered].map(History::latest);
        let latest = latest.into_iter().flatten().map(|at| at.0);
        let seen = latest.fold(self.seen.max(self.entered), u64::max);
        let ahead = seen.saturating_sub(now.0);
        self.sent.earlier(ahead);
        self.delivered.earlier(ahead);
        for moment in [&mut self.sleeps_until, &mut self.entered, &mut self.seen] {
            *moment = moment.saturating_sub(ahead);
        }
        ahead > 0
    }

    /// How many of `wanted` messages may go now, at least one; else until when none may, and why.
    /// `None` as the moment: until a message that was let go has been sent or given back.
    pub fn may_send(
        &self,
        now: Moment,
        params: &Params,
        wanted: u64,
    ) -> Result<u64, (Option<Moment>, Limit)> {
        let mut granted = wanted;
        let asleep = Moment(self.sleeps_until);
        let mut refused = (asleep > now).then_some((Some(asleep), Limit::SleepTtl));
        let windows = [
            (params.low, Limit::VolMaxLow),
            (params.high, Limit::VolMaxHigh),
        ];
        for (window, limit) in windows {
            if !window.is_on() {
                continue;
            }
            let room = window.max.saturating_sub(self.fill(now, window));
            granted = granted.min(room);
            if room > 0 {
                continue;
            }
            let most = window.max.saturating_sub(self.pending);
            let until = match most {
                0 => None,
                most => Some(self.sent.below(now, window.ttl, most)),
            };
            // The latest of all refusals counts; a moment that is not known is the latest.
            refused = match refused {
                Some((None, limit)) => Some((None, limit)),
                Some((Some(at), _)) if until.is_none_or(|other| other >= at) => {
                    Some((until, limit))
                }
                Some(earlier) => Some(earlier),
                None => Some((until, limit)),
            };
        }
        match refused {
            Some(refused) => Err(refused),
            None => Ok(granted),
        }
    }

    /// The part of the windows that is still unused, in millionths: the smaller of both (FLOW-23).
    pub fn unused(&self, now: Moment, params: &Params) -> u64 {
        self.standing(now, params).1
    }

    /// `count` messages may go: they fill the windows from now on.
    pub fn let_go(&mut self, count: u64) {
        self.pending += count;
    }

    /// MAIL was sent for `count` of them (FLOW-27).
    pub fn mail_sent(&mut self, now: Moment, params: &Params, count: u64) {
        self.pending = self.pending.saturating_sub(count);
        self.sent.add(now, count, keep(params));
    }

    /// MAIL was sent at `at` for `count` of them, and nobody heard it: they are let go as before.
    pub fn mail_unheard(&mut self, at: Moment, count: u64) {
        self.pending += self.sent.take_back(at, count);
    }

    /// Whether a message may go now, the unused part of the windows as `unused` says it, and until
    /// when both hold if nothing is reported.
    pub fn standing(&self, now: Moment, params: &Params) -> (bool, u64, Moment) {
        let asleep = Moment(self.sleeps_until);
        if asleep > now {
            return (false, 0, asleep);
        }
        let (mut unused, mut until) = (WHOLE, Moment(u64::MAX));
        for window in [params.low, params.high] {
            if !window.is_on() {
                continue;
            }
            let (sent, leaves) = self.sent.inside(now, window.ttl);
            unused = unused.min(share(window, sent + self.pending));
            until = leaves.map_or(until, |at| at.min(until));
        }
        (unused > 0, unused, until)
    }

    /// Stretches of the past that it holds.
    pub fn stretches(&self) -> usize {
        self.sent.stretches() + self.delivered.stretches()
    }

    /// MAIL was never sent for `count` of them: they do not count.
    pub fn given_back(&mut self, count: u64) {
        self.pending = self.pending.saturating_sub(count);
    }

    /// `count` messages were delivered.
    pub fn delivered(&mut self, now: Moment, params: &Params, count: u64) {
        self.delivered.add(now, count, keep(params));
        self.since_entry += count;
        self.unknown_errors = 0;
    }

    /// A reply that some pattern knows (FLOW-48).
    pub fn known_error(&mut self) {
        self.unknown_errors = 0;
    }

    /// An error that matches no pattern (FLOW-47, FLOW-48).
    pub fn unknown_error(&mut self, now: Moment, params: &Params) -> Option<Change> {
        if params.errmax == 0 || params.flowerr == Target::Omitted {
            return None;
        }
        self.unknown_errors += 1;
        if self.unknown_errors < params.errmax || self.locked {
            return None;
        }
        let count = std::mem::take(&mut self.unknown_errors);
        let to = target(self.set, params.flowerr, Target::Omitted);
        self.enter(now, to, Cause::Errors(count))
    }

    /// A reply qualified FLOW names `to` (FLOW-42 to FLOW-45). `sleepttl` is that of `to`.
    pub fn blocked(
        &mut self,
        now: Moment,
        to: Set,
        sleepttl: Duration,
        pattern: &str,
    ) -> Option<Change> {
        self.unknown_errors = 0;
        self.seen = self.seen.max(now.0);
        // A late reply must not lift a stricter block.
        if self.locked || to > self.set {
            return None;
        }
        let change = self.enter(now, to, Cause::Reply(pattern.to_owned()));
        self.sleeps_until = self.sleeps_until.max(now.after(sleepttl).0);
        change
    }

    /// The operator or the API switches (FLOW-49, FLOW-50). `sleepttl`: if asked for.
    pub fn demanded(
        &mut self,
        now: Moment,
        to: Set,
        sleepttl: Option<Duration>,
        lock: bool,
    ) -> Option<Change> {
        self.locked = lock;
        self.seen = self.seen.max(now.0);
        let change = self.enter(now, to, Cause::Demand);
        self.sleeps_until = sleepttl.map_or(0, |length| now.after(length).0);
        change
    }

    /// Evaluates the rules by volume: up before down, one step (FLOW-33 to FLOW-36). Called at
    /// each delivery and at least once a minute.
    pub fn evaluate(&mut self, now: Moment, params: &Params) -> Option<Change> {
        if self.locked {
            return None;
        }
        let in_force = now.since(Moment(self.entered));
        let Rule { ttl, volume, .. } = params.up;
        if volume > 0 && in_force >= ttl {
            let count = match ttl.is_zero() {
                true => self.since_entry,
                false => self.delivered.at_least_since(now.before(ttl)),
            };
            let to = target(self.set, params.up.target, Target::Up);
            if count >= volume && to != self.set {
                return self.enter(now, to, Cause::Up(count));
            }
        }
        let Rule { ttl, volume, .. } = params.down;
        if volume > 0 && !ttl.is_zero() && in_force >= ttl {
            let count = self.delivered.at_most_since(now.before(ttl));
            let to = target(self.set, params.down.target, Target::Down);
            if count < volume && to != self.set {
                return self.enter(now, to, Cause::Down(count));
            }
        }
        None
    }

    /// Enters a set. The one in force stays in force, with its time (FLOW-44).
    fn enter(&mut self, now: Moment, to: Set, cause: Cause) -> Option<Change> {
        if to == self.set {
            return None;
        }
        let change = Change {
            at: now,
            from: self.set,
            to,
            cause,
        };
        self.set = to;
        self.entered = now.0;
        self.since_entry = 0;
        self.unknown_errors = 0;
        Some(change)
    }
}

/// All of a window, in the words of `unused`.
const WHOLE: u64 = 1_000_000;

/// The unused part of a window that holds so many; at least 1 while there is room for one.
fn share(window: Window, sent: u64) -> u64 {
    let room = window.max.saturating_sub(sent);
    let share = u128::from(room) * u128::from(WHOLE) / u128::from(window.max);
    u64::try_from(share).unwrap_or(WHOLE).max(room.min(1))
}

/// How long the past of a state with these parameters matters.
fn keep(params: &Params) -> Duration {
    let lengths = [
        params.low.ttl,
        params.high.ttl,
        params.up.ttl,
        params.down.ttl,
    ];
    lengths.into_iter().max().unwrap_or(KEEP).max(KEEP)
}

/// Sets as their words.
mod word {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::flow::Set;

    pub fn serialize<S: Serializer>(set: &Set, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(set.word())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Set, D::Error> {
        let word = String::deserialize(deserializer)?;
        Set::parse(&word).ok_or_else(|| de::Error::custom(format!("no flow set: {word}")))
    }
}

#[cfg(test)]
mod tests;
