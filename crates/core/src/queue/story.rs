//! What the sender of a message is to be told of its deliveries in the queue, and with which status
//! (RET-33 to RET-39, QUEUE-25). How a notification is built is in `galerne_mail::dsn`; the
//! dispatcher puts it into the queue before it decides the delivery.

use std::time::{Duration, SystemTime};

use galerne_mail::dsn::{Action, ReportedRecipient};

use super::Progress;
use super::retry::Ending;
use crate::dsn;
use crate::model::{Recipient, Reply, Settled, Submission};
use crate::notification::{Occasion, is_due, is_relayed_due};
use crate::qualify::reply_from_text;
use crate::refusal::{Code, Refusal};

/// After this time a sender who asked for it is told that a delivery is delayed, once (RET-39).
const DELAY: Duration = Duration::from_secs(4 * 3600);

/// When the sender is to be told of a delay, in milliseconds since 1970; `None`: never (any more).
/// Counted from the arrival, when the first attempt is due: mail that we keep back ourselves is
/// late as well. `delay_told` is set where it is not wanted ([`wants_delay`]).
pub fn tell_at(progress: &Progress, received: u64) -> Option<u64> {
    let delay = u64::try_from(DELAY.as_millis()).unwrap_or(u64::MAX);
    (!progress.delay_told).then(|| received.saturating_add(delay))
}

/// Whether the sender is to be told of a delay.
pub fn wants_delay(message: &Submission, recipient: &Recipient) -> bool {
    wants(Occasion::Delay, message, recipient)
}

/// What is to be told of a delivery that an attempt has decided. Success only where the server that
/// took it tells nothing itself (RET-34).
pub fn of_end(
    message: &Submission,
    recipient: &Recipient,
    ending: &Ending,
    end: &Settled,
    now: SystemTime,
) -> Option<ReportedRecipient> {
    let (action, reply) = match ending {
        Ending::Delivered => {
            let path = &message.sender.path;
            let is_due = is_relayed_due(path, message.is_dsn, recipient, end);
            return is_due.then(|| {
                let last = end.last_attempt().map(|a| a.remote.host.to_string());
                let status = dsn::status(&end.reply);
                report(recipient, Action::Relayed, status, last, &end.reply, now)
            });
        }
        Ending::Failed { reply, .. } | Ending::Expired { reply } => (Action::Failed, reply),
    };
    wants(Occasion::Failure, message, recipient).then(|| {
        let status = match (ending, &end.refusal) {
            (Ending::Failed { .. }, Some(refusal)) => status_of(refusal),
            _ => dsn::status(reply),
        };
        let spoke = end.last_attempt().filter(|_| end.refusal.is_none());
        let remote = spoke.map(|attempt| attempt.remote.host.to_string());
        report(recipient, action, status, remote, reply, now)
    })
}

/// What is to be told of a delivery whose time is over, or that an operator ended. `reply`: of
/// [`super::retry::expired`].
pub fn of_expiry(
    message: &Submission,
    recipient: &Recipient,
    reply: &Reply,
    now: SystemTime,
) -> Option<ReportedRecipient> {
    let is_due = wants(Occasion::Failure, message, recipient);
    let status = dsn::status(reply);
    is_due.then(|| report(recipient, Action::Failed, status, None, reply, now))
}

/// What is to be told of a delivery that takes long.
pub fn of_delay(
    message: &Submission,
    recipient: &Recipient,
    progress: &Progress,
    now: SystemTime,
) -> Option<ReportedRecipient> {
    let is_due = !progress.delay_told && wants_delay(message, recipient);
    is_due.then(|| {
        let said = reply_from_text(&progress.last_reply.replace(" / ", "\n"));
        let reply = said.unwrap_or(Reply::new(451, "4.4.7 it could not be tried yet"));
        // It is no failure yet, whatever was said (RFC 3464 §2.3.4).
        let status = match dsn::status(&reply) {
            status if status.starts_with('4') => status,
            _ => "4.0.0".to_owned(),
        };
        report(recipient, Action::Delayed, status, None, &reply, now)
    })
}

fn wants(occasion: Occasion, message: &Submission, recipient: &Recipient) -> bool {
    let path = &message.sender.path;
    is_due(occasion, path, message.is_dsn, recipient.notify)
}

fn report(
    recipient: &Recipient,
    action: Action,
    status: String,
    remote: Option<String>,
    reply: &Reply,
    now: SystemTime,
) -> ReportedRecipient {
    ReportedRecipient {
        original: recipient.orcpt.clone(),
        recipient: recipient.mailbox.as_str().to_owned(),
        action,
        status,
        remote,
        diagnostic: dsn::diagnostic(reply),
        last_attempt: now,
    }
}

/// The status of a refusal of ours that is for good: class 9 is ours alone, and its basic code is
/// that of a temporary failure.
fn status_of(refusal: &Refusal) -> String {
    let status = match refusal {
        Refusal::Standard { reply, .. } => return dsn::status(reply),
        Refusal::Ours { code, .. } => match code {
            Code::NoSuchDomain => "5.1.2",
            Code::BadRecipient => "5.1.3",
            Code::Listed | Code::Filtered | Code::SenderNotAllowed => "5.7.1",
            Code::NotAllowed | Code::NoKey => "5.7.1",
            _ => "5.0.0",
        },
    };
    status.to_owned()
}

#[cfg(test)]
mod tests;
