//! What follows an attempt for one delivery: it is over, or tried again and when (QUEUE-3, QUEUE-4,
//! QUEUE-11, QUEUE-12, FLOW-46, FLOW-70, FLOW-73); and what its lane learns from it (QUEUE-15).

use std::net::IpAddr;
use std::time::Duration;

use super::board::{After, Whom, spread};
use super::{Progress, State, lane};
use crate::flow::Control;
use crate::model::{Attempt, Class, Outcome, Reply, Settled, Stage};
use crate::refusal::{Code, Refusal};
use crate::relay_service;
use crate::settings::HostKind;

/// Most attempts of a delivery that are grey-listed without using up a retry (FLOW-70).
const MOST_GREYS: u32 = 10;
/// Shortest pause after a block, in milliseconds: the same outbounds would be asked again.
const BLOCKED: u64 = 60_000;
/// Longest time, in milliseconds, after which flow control is asked again: it may have switched.
const LONGEST_HOLD: u64 = 300_000;
/// The pause when none is configured, in milliseconds.
const HOUR: u64 = 3_600_000;

/// What the time of the next attempt depends on.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Pauses; the last one repeats.
    pub retry: &'a [Duration],
    pub maxage: Duration,
    pub unknowndelay: Duration,
    /// When the message came, in milliseconds since 1970.
    pub received: u64,
    pub now: u64,
}

impl Terms<'_> {
    fn is_over(&self) -> bool {
        self.now >= self.received.saturating_add(millis(self.maxage))
    }

    fn age(&self) -> Duration {
        Duration::from_millis(self.now.saturating_sub(self.received))
    }
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The delivery is decided.
    Over(Ending),
    /// It is tried again at `progress.next`.
    Again { progress: Progress, effect: Effect },
}

/// How a delivery was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Delivered,
    /// For good.
    Failed {
        why: Why,
        reply: Reply,
    },
    /// Its time is over.
    Expired {
        reply: Reply,
    },
}

impl Ending {
    /// The word of `queue trace`.
    pub fn word(&self) -> &'static str {
        match self {
            Ending::Delivered => "delivered",
            Ending::Failed { .. } => "failed",
            Ending::Expired { .. } => "expired",
        }
    }
}

/// Why a delivery failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A pattern says that there is no such recipient (FLOW-68).
    Hard,
    /// A pattern says that its content is not wanted (FLOW-69).
    Spam,
    /// A decision of ours.
    Refused,
    /// A 5xx that no pattern knows, after the last retry (FLOW-73), or while the client waits.
    Permanent,
}

/// What a lane learns from an attempt that did not end its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    Reached,
    Unreachable { why: String },
    NoRoom { not_before: Option<u64>, whom: Whom },
}

impl Effect {
    /// What a job tells of which other recipients told `sofar`. `chance`: any random number.
    pub fn after(self, sofar: After, chance: u64) -> After {
        let this = match self {
            Effect::Nothing => After::Nothing,
            Effect::Reached => After::Reached,
            Effect::Unreachable { why } => After::Unreachable { why, chance },
            Effect::NoRoom { not_before, whom } => After::NoRoom { not_before, whom },
        };
        stronger(sofar, this)
    }
}

/// The same after an attempt that ended its delivery.
pub fn reached(sofar: After, end: &Settled) -> After {
    match was_reached(end) {
        true => stronger(sofar, After::Reached),
        false => sofar,
    }
}

/// Whoever was let in shows that the others could have been; whoever was not let go comes first.
fn stronger(one: After, other: After) -> After {
    let rank = |after: &After| match after {
        After::Nothing => 0,
        After::Unreachable { .. } => 1,
        After::Reached => 2,
        After::NoRoom { .. } => 3,
    };
    if rank(&other) > rank(&one) {
        other
    } else {
        one
    }
}

/// What follows an attempt while the client waits for the truth: a permanent result is its answer,
/// qualified or not (QUEUE-3).
pub fn in_session(progress: &Progress, end: &Settled, terms: &Terms<'_>, chance: u64) -> Next {
    match (kind(end), &end.outcome) {
        (Kind::Soft | Kind::Grey(_) | Kind::Blocked, Outcome::Failed) => {
            Next::Over(Ending::Failed {
                why: Why::Permanent,
                reply: end.reply.clone(),
            })
        }
        _ => next(progress, end, terms, chance),
    }
}

/// The outbound from which a grey-listed delivery is tried again: another address would be a
/// stranger once more (T-52).
pub fn first_outbound(deliveries: &[(u32, Progress)]) -> Option<IpAddr> {
    let mut grey = deliveries.iter().filter(|(_, progress)| progress.greys > 0);
    grey.find_map(|(_, progress)| progress.outbound.parse().ok())
}

/// What follows an attempt in the queue. `chance`: any random number.
pub fn next(progress: &Progress, end: &Settled, terms: &Terms<'_>, chance: u64) -> Next {
    let kind = kind(end);
    match kind {
        Kind::Delivered => return Next::Over(Ending::Delivered),
        Kind::Final(why) => {
            let reply = end.reply.clone();
            return Next::Over(Ending::Failed { why, reply });
        }
        // It was no attempt: the scheduler knows when its time is over.
        Kind::NoRoom | Kind::Cancelled => {}
        Kind::Soft | Kind::Grey(_) | Kind::Blocked | Kind::Unknown => {
            if terms.is_over() {
                return Next::Over(too_old(&end.reply, end.refusal.is_none()));
            }
        }
    }
    let mut progress = Progress {
        handed: false,
        ..progress.clone()
    };
    let is_tried = !matches!(kind, Kind::NoRoom | Kind::Cancelled);
    if is_tried || !end.attempts.is_empty() {
        progress.state = State::Deferred;
    }
    let later = |pause: u64| terms.now.saturating_add(pause);
    match kind {
        Kind::NoRoom | Kind::Cancelled => progress.next = terms.now,
        Kind::Blocked => progress.next = later(longer(BLOCKED, chance)),
        Kind::Grey(pause) if progress.greys < MOST_GREYS => {
            progress.greys += 1;
            progress.next = later(longer(millis(pause), chance));
        }
        Kind::Unknown => {
            progress.state = State::Unknown;
            progress.duplicate_possible = true;
            progress.attempts = progress.attempts.saturating_add(1);
            progress.next = later(millis(terms.unknowndelay));
        }
        Kind::Soft | Kind::Grey(_) | Kind::Delivered | Kind::Final(_) => {
            progress.attempts = progress.attempts.saturating_add(1);
            let Some(pause) = pause(progress.attempts, end, terms) else {
                return Next::Over(too_old(&end.reply, end.refusal.is_none()));
            };
            progress.next = later(spread(pause, chance));
        }
    }
    Next::Again {
        effect: effect(&kind, end, terms.now),
        progress,
    }
}

/// What is told of a delivery whose time is over, or that an operator ended: the word of `queue
/// trace`, and the reply, whose enhanced code is the status (RET-39).
pub fn expired(progress: &Progress, by_operator: bool) -> (&'static str, Reply) {
    let last = crate::qualify::reply_from_text(&progress.last_reply.replace(" / ", "\n"));
    if by_operator {
        let text = "5.0.0 ended by an operator of this server";
        return ("bounced", Reply::new(554, with_last(text, last.as_ref())));
    }
    let ending = match &last {
        Some(last) => too_old(last, true),
        None => Ending::Expired {
            reply: Reply::new(451, EXPIRED),
        },
    };
    let word = ending.word();
    match ending {
        Ending::Failed { reply, .. } | Ending::Expired { reply } => (word, reply),
        Ending::Delivered => (word, Reply::new(451, EXPIRED)),
    }
}

const EXPIRED: &str = "4.4.7 the time for retries is over";

/// A 5xx of a remote that spoke last keeps its own code (FLOW-73), everything else is 4.4.7.
fn too_old(last: &Reply, is_remote: bool) -> Ending {
    if is_remote && last.code() / 100 == 5 {
        return Ending::Failed {
            why: Why::Permanent,
            reply: last.clone(),
        };
    }
    Ending::Expired {
        reply: Reply::new(451, with_last(EXPIRED, Some(last))),
    }
}

fn with_last(text: &str, last: Option<&Reply>) -> String {
    match last {
        Some(last) => format!("{text}; the last attempt ended with: {}", last.to_log()),
        None => text.to_owned(),
    }
}

/// How an attempt ended, as far as the queue is concerned.
enum Kind {
    Delivered,
    Final(Why),
    Soft,
    Grey(Duration),
    /// All that was tried is blocked.
    Blocked,
    /// Flow control gave no leave.
    NoRoom,
    Unknown,
    /// We stopped before the final dot.
    Cancelled,
}

fn kind(end: &Settled) -> Kind {
    match (&end.outcome, &end.refusal) {
        (Outcome::Delivered, _) => Kind::Delivered,
        (Outcome::Unknown, _) => Kind::Unknown,
        (Outcome::Cancelled, _) => Kind::Cancelled,
        (_, Some(Refusal::Ours { code, .. })) if *code == Code::NoOutbound => Kind::NoRoom,
        (Outcome::Failed, Some(_)) => Kind::Final(Why::Refused),
        (Outcome::Deferred, Some(_)) => Kind::Soft,
        (Outcome::Failed | Outcome::Deferred, None) => match class(end.last_attempt()) {
            Some(Class::Hard) => Kind::Final(Why::Hard),
            Some(Class::Spam) => Kind::Final(Why::Spam),
            Some(Class::Grey(pause)) => Kind::Grey(*pause),
            Some(Class::Flow { .. }) => Kind::Blocked,
            // Also a 5xx (FLOW-73).
            Some(Class::Soft) | None => Kind::Soft,
        },
    }
}

/// What a pattern says that the reply of an attempt means.
fn class(attempt: Option<&Attempt>) -> Option<&Class> {
    let qualification = attempt?.qualification.as_ref()?;
    qualification.pattern.as_ref()?;
    Some(&qualification.class)
}

fn effect(kind: &Kind, end: &Settled, now: u64) -> Effect {
    let no_room = Effect::NoRoom {
        not_before: None,
        whom: Whom::Lane,
    };
    match kind {
        // It goes to its own lane, and says nothing of this one.
        Kind::NoRoom if lane::is_suspended(end) => Effect::Nothing,
        // The limit of one sender is not that of its lane: other mail may go.
        Kind::NoRoom => match end.hold {
            Some(hold) if hold.control == Control::Sender => Effect::NoRoom {
                not_before: hold
                    .not_before
                    .map(|moment| moment.0.min(now + LONGEST_HOLD)),
                whom: Whom::Sender,
            },
            _ => no_room,
        },
        // A lane in which everything is blocked is no better than one that may not go on.
        Kind::Blocked => no_room,
        Kind::Cancelled | Kind::Unknown => Effect::Nothing,
        _ if was_reached(end) => Effect::Reached,
        _ if could_not_be_reached(end) => Effect::Unreachable {
            why: end.reply.to_log(),
        },
        _ => Effect::Nothing,
    }
}

/// A server took our MAIL, whatever it said then, or said at once what a pattern knows.
fn was_reached(end: &Settled) -> bool {
    let mut attempts = end.attempts.iter();
    attempts.any(|a| class(Some(a)).is_some() || (a.stage >= Stage::Mail && a.reply.is_some()))
}

/// No attempt came as far as a dialogue. What failed later, TLS or a login, is not the same for
/// everybody and says nothing.
fn could_not_be_reached(end: &Settled) -> bool {
    let is_unknown = matches!(
        &end.refusal,
        Some(Refusal::Ours { code, .. }) if *code == Code::DnsFailed
    );
    let mut attempts = end.attempts.iter();
    is_unknown || (!end.attempts.is_empty() && attempts.all(|a| a.stage <= Stage::Ehlo))
}

/// The pause after so many attempts, in milliseconds; `None`: there is no other.
fn pause(attempts: u32, end: &Settled, terms: &Terms<'_>) -> Option<u64> {
    let is_service = |kind| kind == HostKind::Service;
    if end.host.as_ref().is_some_and(|host| is_service(host.kind)) {
        return relay_service::pause(attempts, terms.age()).map(millis);
    }
    let step = attempts.saturating_sub(1) as usize;
    let pause = terms.retry.get(step).or(terms.retry.last());
    Some(pause.map_or(HOUR, |pause| millis(*pause)))
}

/// A length, or up to a tenth more.
fn longer(length: u64, chance: u64) -> u64 {
    length.saturating_add(chance % (length / 10 + 1))
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
