//! Where every delivery ends, and nowhere else: events, lists, notifications, the combined reply.

use std::sync::Arc;
use std::time::Duration;

use galerne_core::answer::{Ending, Manner, combine, conclude, without_dsn};
use galerne_core::model::{Answer, Attempt, Class, Outcome, Qualification, Settled, Submission};
use galerne_core::plan;
use galerne_core::ports::{ListEntry, UnknownError};
use galerne_core::queue::lane;
use galerne_core::refusal::Refusal;
use galerne_core::settings::{Group, HostKind};
use galerne_smtp::Reply;

use crate::delivery::Delivery;
use crate::notify;
use crate::prepare::{Unprepared, asked, time_for_names};

/// The system list of hard bounces (CONF-58).
const HARD_LIST: &str = "rfhard";

/// Books all ends of one message and makes the answer for the client.
pub async fn settle(
    delivery: &Delivery,
    submission: &Arc<Submission>,
    settled: Vec<Settled>,
) -> Answer {
    book(delivery, submission, &settled);
    let combined = combine(&settled);
    let mut reply = combined.reply;
    if !submission.prdr && !combined.dsn_for.is_empty() {
        let failed: Vec<_> = combined
            .dsn_for
            .iter()
            .filter_map(|&i| Some((i, settled.get(i)?)))
            .collect();
        // A notification that this rule needs is delivered before the 250 (RELAY-20).
        let notified = Box::pin(notify::notify(delivery, submission, &failed)).await;
        if notified.is_err() {
            reply = without_dsn(&settled);
        }
    }
    notify::relayed(delivery, submission, &settled);
    let answer = Answer { reply, settled };
    delivery.events.transaction(submission, &answer);
    answer
}

/// What is learned from the ends of deliveries, whoever asked for them.
pub fn book(delivery: &Delivery, submission: &Submission, settled: &[Settled]) {
    for end in settled {
        enrich_list(delivery, end);
        record_unknown(delivery, submission, end);
    }
}

/// A HARD reply adds the recipient to the system list (RELAY-84); a block never does (RELAY-66).
fn enrich_list(delivery: &Delivery, end: &Settled) {
    if end.outcome != Outcome::Failed {
        return;
    }
    let Some(qualification) = end
        .last_attempt()
        .and_then(|attempt| attempt.qualification.as_ref())
    else {
        return;
    };
    if qualification.class == Class::Hard && tells_of_recipient(end, qualification) {
        let reason = end.reply.to_log();
        let entry = ListEntry {
            email: end.recipient.as_str().to_owned(),
            source: "mta",
            reason,
        };
        delivery.lists.add(HARD_LIST, entry);
    }
}

/// What one's own relay refuses is policy, unless its own file says otherwise (ROUTE-58).
fn tells_of_recipient(end: &Settled, qualification: &Qualification) -> bool {
    match end.host.as_deref() {
        Some(host) if host.kind == HostKind::Service => {
            host.group.as_deref().is_some_and(|group| {
                let line = qualification.source.strip_prefix(&group.file);
                line.is_some_and(|line| line.starts_with(':'))
            })
        }
        _ => true,
    }
}

/// Remote errors that no pattern matches go to the group's log (RELAY-83, FLOW-74).
fn record_unknown(delivery: &Delivery, submission: &Submission, end: &Settled) {
    let Some(group) = &end.group else { return };
    for attempt in &end.attempts {
        if let Some(error) = unknown(submission, group, attempt) {
            delivery.events.unknown_error(error);
        }
    }
}

fn unknown(submission: &Submission, group: &Group, attempt: &Attempt) -> Option<UnknownError> {
    let qualification = attempt.qualification.as_ref()?;
    if qualification.pattern.is_some() {
        return None;
    }
    let reply = attempt.reply.as_ref()?;
    Some(UnknownError {
        group: group.name.clone(),
        at: std::time::SystemTime::now(),
        reference: submission.reference.clone(),
        outbound: attempt.outbound.address,
        remote: attempt.remote.address.ip(),
        stage: attempt.stage,
        reply: as_received(reply),
    })
}

/// The reply with its lines as they came: the log of the group is for those who write patterns.
fn as_received(reply: &Reply) -> String {
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    String::from_utf8_lossy(&wire)
        .trim_end()
        .replace("\r\n", "\n")
}

/// The end of a recipient that could not be tried at all.
pub fn unprepared(submission: &Submission, index: usize, why: &Unprepared) -> Settled {
    match why {
        Unprepared::Refused { refusal, group } => {
            end(submission, index, group.clone(), Ending::Refused(refusal))
        }
        Unprepared::Suspended { lane, group, host } => Settled {
            host: host.clone(),
            ..end(
                submission,
                index,
                Some(group.clone()),
                Ending::Refused(&lane::suspended(lane)),
            )
        },
        Unprepared::DnsFailed { domain } => {
            end(submission, index, None, Ending::DnsFailed { domain })
        }
    }
}

/// The end of a recipient whose client went away before anything was tried.
pub fn cancelled(submission: &Submission, index: usize) -> Settled {
    end(submission, index, None, Ending::Cancelled)
}

/// Time since the client's end of data.
pub fn elapsed(submission: &Submission) -> Duration {
    tokio::time::Instant::now()
        .into_std()
        .saturating_duration_since(submission.received)
}

/// A recipient that was forgotten by a mistake of ours: a temporary failure, said aloud.
pub fn internal_error(submission: &Submission, index: usize) -> Settled {
    tracing::error!(message_id = %submission.message_id, index, "a recipient was left without an outcome");
    let refusal = Refusal::standard(
        451,
        format!("4.3.0 internal error, id {}", submission.message_id),
        "bug",
    );
    end(submission, index, None, Ending::Refused(&refusal))
}

fn end(
    submission: &Submission,
    index: usize,
    group: Option<Arc<Group>>,
    ending: Ending<'_>,
) -> Settled {
    let settings = &submission.settings;
    let manner = Manner {
        blocktemp: settings.rfrelay.blocktemp,
        permcode: settings.rfrelay.permcode,
    };
    let timeout = plan::timeout(settings, &asked(submission, None));
    let timeout = match ending {
        Ending::DnsFailed { .. } => time_for_names(submission, timeout),
        _ => timeout,
    };
    let conclusion = conclude(ending, manner, timeout);
    let recipient = match submission
        .recipients
        .get(index)
        .or_else(|| submission.recipients.first())
    {
        Some(recipient) => recipient.mailbox.clone(),
        None => galerne_smtp::Mailbox::parse("unknown@invalid").unwrap_or_else(|_| unreachable!()),
    };
    Settled {
        recipient,
        outcome: conclusion.outcome,
        reply: conclusion.reply,
        refusal: conclusion.refusal,
        hold: None,
        group,
        route: None,
        host: None,
        sender: submission.sender.path.clone(),
        attempts: Vec::new(),
        duration: elapsed(submission),
    }
}
