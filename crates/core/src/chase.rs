//! The hop machine: which outbound tries which remote next, and what the end of an attempt means
//! (RELAY-42, RELAY-60 to RELAY-70, ROUTE-35, ROUTE-37). Called by the delivery driver, which
//! connects, waits and keeps the timeout.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use galerne_smtp::client::RemoteAnswer;
use galerne_smtp::{EnhancedCode, Reply};

use crate::model::{Class, Outcome, Qualification, Remote, Stage};
use crate::settings::{OutboundIp, Outbounds};

/// The hops of one bundle of recipients that share next hop, group and outbounds.
///
/// Only pairs of one address family are made (ROUTE-37), no pair twice (RELAY-42), at most
/// `maxhop` of them (RELAY-41).
pub struct Chase {
    remotes: Vec<RemoteState>,
    outbounds: Outbounds,
    /// Outbounds that were blocked, by place.
    blocked: Vec<usize>,
    /// Pairs (outbound, remote) tried, the last one last.
    tried: Vec<(usize, usize)>,
    maxhop: u32,
    /// How the last hop ended.
    last: End,
    /// How the one before it ended.
    before: End,
    /// The last pair was already repeated on a new connection.
    repeated: bool,
    /// `next` has to repeat the last pair.
    repeat: bool,
}

struct RemoteState {
    remote: Remote,
    failed: bool,
}

/// Which of several outbounds is taken; they are named by their places.
pub trait Pick {
    /// The one to take among those that `may` be taken.
    fn best(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize>;

    /// The same among those from which somebody may go now.
    fn best_free(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize>;

    /// Whether somebody may go from there now.
    fn is_free(&mut self, outbounds: &Outbounds, place: usize) -> bool;
}

/// In the given order; nothing is known of who may go.
struct Given;

impl Pick for Given {
    fn best(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize> {
        (0..outbounds.len()).find(|place| may(*place))
    }

    fn best_free(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.best(outbounds, may)
    }

    fn is_free(&mut self, _: &Outbounds, _: usize) -> bool {
        true
    }
}

/// In rotation: from this place on.
pub struct Rotation(pub usize);

impl Pick for Rotation {
    fn best(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize> {
        let count = outbounds.len();
        (0..count)
            .map(|step| (self.0 % count.max(1) + step) % count)
            .find(|place| may(*place))
    }

    fn best_free(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.best(outbounds, may)
    }

    fn is_free(&mut self, _: &Outbounds, _: usize) -> bool {
        true
    }
}

/// From one outbound alone.
struct Only(usize);

impl Pick for Only {
    fn best(&mut self, _: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize> {
        Some(self.0).filter(|place| may(*place))
    }

    fn best_free(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.best(outbounds, may)
    }

    fn is_free(&mut self, _: &Outbounds, _: usize) -> bool {
        true
    }
}

/// Outbounds that a hop could be made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternatives {
    /// The one chosen.
    pub chosen: usize,
    ipv4: bool,
    ipv6: bool,
    /// Those that have no pair left, by place.
    without: Vec<usize>,
}

impl Alternatives {
    /// Any of them, `chosen` first.
    pub fn any(chosen: usize) -> Self {
        Alternatives {
            chosen,
            ipv4: true,
            ipv6: true,
            without: Vec::new(),
        }
    }

    /// The chosen one and no other.
    pub fn only(chosen: usize) -> Self {
        Alternatives {
            ipv4: false,
            ipv6: false,
            ..Alternatives::any(chosen)
        }
    }

    /// Whether this one is among them.
    pub fn may(&self, place: usize, outbound: &OutboundIp) -> bool {
        let family = match outbound.address {
            IpAddr::V4(_) => self.ipv4,
            IpAddr::V6(_) => self.ipv6,
        };
        place == self.chosen || (family && !self.without.contains(&place))
    }

    /// Whether they are the same outbounds, whichever was chosen.
    pub fn same(&self, other: &Alternatives) -> bool {
        let is_one = |of: &Alternatives| !of.ipv4 && !of.ipv6;
        (self.ipv4, self.ipv6) == (other.ipv4, other.ipv6)
            && self.without == other.without
            && (!is_one(self) || self.chosen == other.chosen)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// No hop ended yet, or its end says nothing about the next.
    Open,
    Failed,
    Blocked,
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Next {
    /// Connect (or take an idle session) from `outbound` to `remote`; `hop` counts from 1.
    Try {
        outbound: Arc<OutboundIp>,
        remote: Remote,
        hop: u32,
    },
    /// `maxhop` is reached or every pair was tried: the last attempt speaks (RELAY-65).
    Exhausted,
}

impl Chase {
    /// `remotes` in order of preference.
    pub fn new(remotes: Vec<Remote>, outbounds: Outbounds, maxhop: u32) -> Self {
        Chase {
            remotes: remotes
                .into_iter()
                .map(|remote| RemoteState {
                    remote,
                    failed: false,
                })
                .collect(),
            outbounds,
            blocked: Vec::new(),
            tried: Vec::new(),
            maxhop,
            last: End::Open,
            before: End::Open,
            repeated: false,
            repeat: false,
        }
    }

    /// The next hop, with the outbounds in their given order. Remotes that `recently_timed_out`
    /// come when no other pair is left (ROUTE-35).
    pub fn next(&mut self, recently_timed_out: &dyn Fn(SocketAddr) -> bool) -> Next {
        self.next_free(recently_timed_out, &mut Given)
    }

    /// As `next`; `pick` takes the outbound, and those that are not free come when no other has a
    /// pair left (RELAY-57).
    pub fn next_free(
        &mut self,
        recently_timed_out: &dyn Fn(SocketAddr) -> bool,
        pick: &mut dyn Pick,
    ) -> Next {
        if std::mem::take(&mut self.repeat) {
            self.repeated = true;
        } else {
            if self.hops() >= self.maxhop {
                return Next::Exhausted;
            }
            let Some(pair) = self.best_pair(recently_timed_out, pick) else {
                return Next::Exhausted;
            };
            self.take(pair);
            self.repeated = false;
        }
        match self.last_pair() {
            Some((o, r)) => Next::Try {
                outbound: o.clone(),
                remote: r.remote.clone(),
                hop: self.tried.len() as u32,
            },
            None => Next::Exhausted,
        }
    }

    fn take(&mut self, pair: (usize, usize)) {
        self.tried.push(pair);
        self.before = std::mem::replace(&mut self.last, End::Open);
    }

    /// The outbounds that the last hop could have been made from.
    pub fn alternatives(&self) -> Alternatives {
        let Some(&(chosen, _)) = self.tried.last() else {
            return Alternatives::any(usize::MAX);
        };
        let has_pair = |o: usize| (0..self.remotes.len()).any(|r| self.is_pair(o, r));
        let tried = self.tried.iter().map(|(o, _)| *o);
        let has = |v4: bool| {
            let mut remotes = self.remotes.iter();
            remotes.any(|r| r.remote.address.is_ipv4() == v4)
        };
        Alternatives {
            chosen,
            ipv4: has(true),
            ipv6: has(false),
            without: tried.filter(|&o| o != chosen && !has_pair(o)).collect(),
        }
    }

    /// The last hop is made from this outbound instead, which became free first; it is no further
    /// hop. `None`: it has no pair, and the hop stays as it was.
    pub fn instead(
        &mut self,
        outbound: IpAddr,
        recently_timed_out: &dyn Fn(SocketAddr) -> bool,
    ) -> Option<(Arc<OutboundIp>, Remote)> {
        let place = self.outbounds.place(outbound)?;
        let replaced = self.tried.pop()?;
        self.last = self.before;
        let found = self.best_pair(recently_timed_out, &mut Only(place));
        let found = found.filter(|(o, _)| *o == place);
        self.take(found.unwrap_or(replaced));
        found?;
        self.current()
    }

    /// The pair of the last hop.
    pub fn current(&self) -> Option<(Arc<OutboundIp>, Remote)> {
        let (o, r) = self.last_pair()?;
        Some((o.clone(), r.remote.clone()))
    }

    /// Whether the pair may be tried: of one address family, and not tried yet.
    fn is_pair(&self, o: usize, r: usize) -> bool {
        let outbound = self.outbounds.get(o).map(|o| o.address.is_ipv4());
        let remote = self.remotes.get(r).map(|r| r.remote.address.is_ipv4());
        outbound == remote && !self.tried.contains(&(o, r))
    }

    /// The last hop ended without a usable connection: another remote address comes first.
    pub fn connection_failed(&mut self) {
        self.last = End::Failed;
        let last = self.tried.last().copied();
        if let Some(state) = last.and_then(|(_, r)| self.remotes.get_mut(r)) {
            state.failed = true;
        }
    }

    /// The last hop ended in a block: another outbound to the same remote comes first.
    pub fn blocked(&mut self) {
        self.last = End::Blocked;
        if let Some(&(o, _)) = self.tried.last()
            && !self.blocked.contains(&o)
        {
            self.blocked.push(o);
        }
    }

    /// The last hop used an idle session that proved closed, or answered 421 before its MAIL was
    /// accepted: `next` gives the same pair once more, to be used on a new connection, and no hop
    /// is counted (RELAY-42). False if that was done already: then it is a connection failure.
    pub fn session_was_stale(&mut self) -> bool {
        self.repeat = !self.repeated && !self.tried.is_empty();
        self.repeat
    }

    /// Hops taken.
    pub fn hops(&self) -> u32 {
        self.tried.len() as u32
    }

    fn last_pair(&self) -> Option<(&Arc<OutboundIp>, &RemoteState)> {
        let (o, r) = *self.tried.last()?;
        Some((self.outbounds.get(o)?, self.remotes.get(r)?))
    }

    /// The untried pair that ranks first (RELAY-68).
    fn best_pair(
        &self,
        recently_timed_out: &dyn Fn(SocketAddr) -> bool,
        pick: &mut dyn Pick,
    ) -> Option<(usize, usize)> {
        let timed_out = |r: &RemoteState| recently_timed_out(r.remote.address);
        let timed_out: Vec<bool> = self.remotes.iter().map(timed_out).collect();
        self.best_of(&timed_out, Need::Free, pick)
            .or_else(|| self.best_of(&timed_out, Need::Any, pick))
    }

    fn best_of(
        &self,
        timed_out: &[bool],
        need: Need,
        pick: &mut dyn Pick,
    ) -> Option<(usize, usize)> {
        let current = self.tried.last().copied();
        let mut best: Option<(Rank, (usize, usize))> = None;
        for (r, (remote, timed_out)) in self.remotes.iter().zip(timed_out).enumerate() {
            for blocked in [false, true] {
                if blocked && self.blocked.is_empty() {
                    break;
                }
                let rank = Rank {
                    // A remote that has just blocked us is alive: ask it again from elsewhere.
                    elsewhere: self.last == End::Blocked && current.is_none_or(|(_, cr)| cr != r),
                    timed_out: *timed_out,
                    failed: remote.failed,
                    blocked,
                    preference: r,
                };
                if best.as_ref().is_some_and(|(better, _)| *better <= rank) {
                    break;
                }
                let here = current.map(|(o, _)| o);
                if let Some(o) = self.best_outbound((r, blocked), here, need, pick) {
                    best = Some((rank, (o, r)));
                    break;
                }
            }
        }
        best.map(|(_, pair)| pair)
    }

    /// The outbound to take to a remote among those that are (not) blocked: where the last hop was
    /// made from goes on.
    fn best_outbound(
        &self,
        (r, blocked): (usize, bool),
        here: Option<usize>,
        need: Need,
        pick: &mut dyn Pick,
    ) -> Option<usize> {
        let may = |o: usize| self.is_pair(o, r) && self.blocked.contains(&o) == blocked;
        let here = here.filter(|&o| may(o));
        match need {
            Need::Any => here.or_else(|| pick.best(&self.outbounds, &may)),
            Need::Free => here
                .filter(|&o| pick.is_free(&self.outbounds, o))
                .or_else(|| pick.best_free(&self.outbounds, &may)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Free,
    Any,
}

/// What makes one pair better than another; fields in order of weight, smaller is better.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    elsewhere: bool,
    timed_out: bool,
    failed: bool,
    blocked: bool,
    preference: usize,
}

/// What the end of an attempt means for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is over; `answer::conclude` makes the reply.
    Final(Outcome),
    /// Blocked: `Chase::blocked`, then `next`.
    NextOutbound,
    /// `Chase::connection_failed`, then `next`.
    NextRemote,
    /// Too many recipients for this transaction: send to this one in the next, same session.
    SameTransactionAgain,
}

/// Judges all recipients of one transaction: `ends` and `qualifications` in the same order.
/// `SameTransactionAgain` is said only when another recipient of it was not refused, so that a
/// driver that follows it comes to an end.
pub fn judge_all(
    ends: &[(Stage, RemoteAnswer)],
    qualifications: &[Option<Qualification>],
    dot_sent: bool,
) -> Vec<Verdict> {
    let progress = ends.iter().any(|(stage, _)| *stage >= Stage::Data);
    let qualifications = qualifications
        .iter()
        .map(Option::as_ref)
        .chain(std::iter::repeat(None));
    ends.iter()
        .zip(qualifications)
        .map(|((stage, answer), qualification)| {
            match judge(*stage, answer, qualification, dot_sent) {
                Verdict::SameTransactionAgain if !progress => Verdict::Final(Outcome::Deferred),
                verdict => verdict,
            }
        })
        .collect()
}

/// Judges the end of an attempt for one recipient: `answer` came at `stage`. `dot_sent`: the
/// final dot of its transaction was sent. See `judge_all`, which is safe against loops.
pub fn judge(
    stage: Stage,
    answer: &RemoteAnswer,
    qualification: Option<&Qualification>,
    dot_sent: bool,
) -> Verdict {
    match answer {
        // RELAY-70: the remote may have it; nobody else gets it.
        RemoteAnswer::Lost(_) if dot_sent => Verdict::Final(Outcome::Unknown),
        RemoteAnswer::Lost(_) => Verdict::NextRemote,
        // Breakdown before MAIL (RELAY-61); later it is a reply like any other (RELAY-74).
        RemoteAnswer::Malformed(_) if stage < Stage::Mail => Verdict::NextRemote,
        RemoteAnswer::Malformed(_) => Verdict::Final(Outcome::Deferred),
        RemoteAnswer::Reply(reply) => judge_reply(stage, reply, qualification),
    }
}

fn judge_reply(stage: Stage, reply: &Reply, qualification: Option<&Qualification>) -> Verdict {
    if stage == Stage::Dot && reply.code() / 100 == 2 {
        return Verdict::Final(Outcome::Delivered);
    }
    // Without a pattern the qualification is soft by default (FLOW-61) and says nothing here.
    let class = qualification
        .filter(|q| q.pattern.is_some())
        .map(|q| &q.class);
    match class {
        Some(Class::Flow { .. }) => return Verdict::NextOutbound,
        // ROUTE-42: a refusal of our credentials says nothing about the recipient.
        _ if stage == Stage::Auth => return Verdict::NextRemote,
        None if stage < Stage::Mail => return Verdict::NextRemote,
        None | Some(Class::Soft) if wants_fewer_recipients(stage, reply) => {
            return Verdict::SameTransactionAgain;
        }
        _ => {}
    }
    Verdict::Final(failure(reply, class))
}

/// `452` at RCPT that speaks of the number of recipients (RFC 5321 §4.5.3.1.10), not of this one.
fn wants_fewer_recipients(stage: Stage, reply: &Reply) -> bool {
    let about_number = matches!(reply.enhanced(), None | Some(EnhancedCode(4, 5, 3)));
    stage == Stage::Rcpt && reply.code() == 452 && about_number
}

/// How a refused delivery is booked: HARD and SPAM are for good whatever the code (FLOW-68,
/// FLOW-69), otherwise the code says it.
pub(crate) fn failure(reply: &Reply, class: Option<&Class>) -> Outcome {
    let for_good = matches!(class, Some(Class::Hard | Class::Spam));
    if for_good || reply.code() / 100 == 5 {
        Outcome::Failed
    } else {
        Outcome::Deferred
    }
}

#[cfg(test)]
mod tests;
