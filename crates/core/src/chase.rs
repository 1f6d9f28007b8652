//! The hop machine: which outbound tries which remote next, and what the end of an attempt means
//! (RELAY-42, RELAY-60 to RELAY-70, ROUTE-35, ROUTE-37). Called by the delivery driver.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::{Outcome, Qualification, Remote, Stage};
use crate::settings::OutboundIp;

/// What a remote answered at one step. (Becomes a re-export of `galerne_smtp::client`.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteAnswer {
    Reply(galerne_smtp::Reply),
    /// What came instead of a reply, escaped and cut.
    Malformed(String),
    /// No reply: closed, reset, timed out.
    Lost(String),
}

/// The hops of one bundle of recipients.
pub struct Chase {}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Next {
    /// Connect (or take an idle session) from `outbound` to `remote`; `hop` counts from 1.
    Try {
        outbound: Arc<OutboundIp>,
        remote: Remote,
        hop: u32,
    },
    /// `maxhop` is reached or every pair was tried: the last attempt speaks.
    Exhausted,
}

impl Chase {
    /// `remotes` in order of preference, `outbounds` in the order to use (already rotated).
    pub fn new(_remotes: Vec<Remote>, _outbounds: Vec<Arc<OutboundIp>>, _maxhop: u32) -> Self {
        todo!()
    }
    /// The next hop.
    pub fn next(&mut self, _recently_timed_out: &dyn Fn(SocketAddr) -> bool) -> Next {
        todo!()
    }
    /// The last hop ended without a usable connection: another remote address comes first.
    pub fn connection_failed(&mut self) {}
    /// The last hop ended in a block: another outbound to the same remote comes first.
    pub fn blocked(&mut self) {}
    /// The last hop used an idle session that proved closed, or answered 421 before its MAIL was
    /// accepted: `next` gives the same pair once more, on a new connection, and no hop is counted.
    /// False if that was done already: then it is a connection failure.
    pub fn session_was_stale(&mut self) -> bool {
        todo!()
    }
    /// Hops taken.
    pub fn hops(&self) -> u32 {
        todo!()
    }
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

/// Judges one recipient's end of an attempt. Prefer `judge_all`, which cannot loop.
pub fn judge(
    _stage: Stage,
    _answer: &RemoteAnswer,
    _qualification: Option<&Qualification>,
    _dot_sent: bool,
) -> Verdict {
    todo!()
}

/// Judges all recipients of one transaction; `SameTransactionAgain` only when another recipient
/// of it got through.
pub fn judge_all(
    _ends: &[(Stage, RemoteAnswer)],
    _qualifications: &[Option<Qualification>],
    _dot_sent: bool,
) -> Vec<Verdict> {
    todo!()
}
