//! What the client is told: the final reply of each recipient (RELAY-66, RELAY-67, RELAY-73 to
//! RELAY-77) and the combined reply of a transaction (RELAY-20).

use std::time::Duration;

use crate::chase::RemoteAnswer;
use galerne_smtp::Reply;

use crate::model::{Outcome, Qualification, Settled, Stage};
use crate::refusal::Refusal;

/// Why the delivery to one recipient is over.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// The last attempt speaks (RELAY-65).
    Attempt {
        /// Name of the remote, for the text.
        host: &'a str,
        stage: Stage,
        answer: &'a RemoteAnswer,
        qualification: Option<&'a Qualification>,
        /// The final dot of its transaction was sent.
        dot_sent: bool,
    },
    /// No outbound became free within the timeout: 9.3.1.
    NoOutbound,
    /// No attempt was possible: no remote address of the family of any outbound: 9.3.2.
    NoPair { host: &'a str },
    /// DNS failed temporarily until the timeout: 9.3.4.
    DnsFailed { domain: &'a str },
    /// No such domain or a null MX: 9.2.4.
    NoSuchDomain { domain: &'a str, null_mx: bool },
    /// The timeout ended before anything else did: 9.3.0.
    Timeout,
    /// The client went away before the final dot (RELAY-71).
    Cancelled,
    /// Refused by a decision of ours.
    Refused(&'a Refusal),
}

/// How replies are told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// `[rfrelay]blocktemp`.
    pub blocktemp: bool,
    /// `[rfrelay]permcode`.
    pub permcode: bool,
}

/// The end of one delivery as the client sees it.
#[derive(Clone, Debug)]
pub struct Conclusion {
    pub outcome: Outcome,
    pub reply: Reply,
    /// Set where the reply is ours and no remote's.
    pub refusal: Option<Refusal>,
}

/// The final reply of one recipient. `timeout` is the time that was allowed (the plan's).
pub fn conclude(_ending: Ending<'_>, _manner: Manner, _timeout: Duration) -> Conclusion {
    todo!()
}

/// The combined reply and who needs a DSN.
#[derive(Clone, Debug)]
pub struct Combined {
    pub reply: Reply,
    /// Indices into the settled recipients.
    pub dsn_for: Vec<usize>,
}

/// Combines the ends of all recipients, in the order of RCPT (RELAY-20).
pub fn combine(_settled: &[Settled]) -> Combined {
    todo!()
}

/// With PRDR: one reply per recipient, no DSN.
pub fn per_recipient(settled: &[Settled]) -> Vec<Reply> {
    settled.iter().map(|s| s.reply.clone()).collect()
}

/// The reply when a DSN that `combine` asked for could be neither delivered nor queued:
/// `451 4.3.0` naming the recipients that were delivered.
pub fn without_dsn(_settled: &[Settled]) -> Reply {
    todo!()
}
