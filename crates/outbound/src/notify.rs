//! Notifications that the synchronous relay owes: of a mixed result (RELAY-20), delivered in the
//! session, before the reply; and of what was passed on to a server that knows no notifications
//! (RET-34), delivered beside the session, since the client's message has arrived and its reply
//! must not wait for another.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use galerne_core::content::{Content, Patch};
use galerne_core::directive::Directive;
use galerne_core::model::{Client, Outcome, Recipient, Ret, Sender, Settled, Submission};
use galerne_core::notification::{Occasion, is_due, is_relayed_due};
use galerne_core::plan::{Asked, timeout};
use galerne_core::ports::{DeliverNow, Module};
use galerne_core::settings::{Mode, Sign};
use galerne_mail::dsn::{Action, Report, ReportedRecipient, Returned, build};
use galerne_smtp::{Mailbox, ReversePath};

use crate::content::kept;
use crate::delivery::Delivery;
use crate::settle::elapsed;

/// How much of a message comes back at most with RET=FULL; beyond, only its header.
const MOST_RETURNED: usize = 256 * 1024;

/// The notification could not be delivered.
#[derive(Debug)]
pub struct Undelivered;

/// Tells the envelope sender of the failed recipients. Nothing is sent, and that is no error, to
/// a null sender, for a notification, or where NOTIFY forbids it (RET-37).
pub async fn notify(
    delivery: &Delivery,
    submission: &Arc<Submission>,
    failed: &[(usize, &Settled)],
) -> Result<(), Undelivered> {
    let ReversePath::Mailbox(sender) = &submission.sender.path else {
        return Ok(());
    };
    let is_due = |recipient: &Recipient| {
        is_due(
            Occasion::Failure,
            &submission.sender.path,
            submission.is_dsn,
            recipient.notify,
        )
    };
    let reported: Vec<ReportedRecipient> = failed
        .iter()
        .filter_map(|&(index, settled)| Some((submission.recipients.get(index)?, settled)))
        .filter(|(recipient, _)| is_due(recipient))
        .map(|(recipient, settled)| report(recipient, settled, Action::Failed))
        .collect();
    if reported.is_empty() {
        return Ok(());
    }
    let message = submission_of(submission, sender, &reported, Kind::Failed);
    let message = Arc::new(message);
    if let Some(queue) = delivery.queue() {
        let taken = queue.take_ours(&message).await;
        return taken.map_err(|_| Undelivered);
    }
    let answer = delivery
        .deliver(message, Box::pin(std::future::pending()))
        .await;
    match answer.settled.first().map(|end| &end.outcome) {
        Some(Outcome::Delivered) => Ok(()),
        _ => {
            tracing::warn!(message_id = %submission.message_id, "the notification of a mixed result could not be delivered");
            Err(Undelivered)
        }
    }
}

/// Tells the envelope sender of the recipients whose server will not tell of its success (RET-34).
/// The client's reply does not depend on it: what cannot be told is logged.
pub fn relayed(delivery: &Delivery, submission: &Arc<Submission>, settled: &[Settled]) {
    let ReversePath::Mailbox(sender) = &submission.sender.path else {
        return;
    };
    let path = &submission.sender.path;
    let each = submission.recipients.iter().zip(settled);
    let reported: Vec<ReportedRecipient> = each
        .filter(|(recipient, end)| is_relayed_due(path, submission.is_dsn, recipient, end))
        .map(|(recipient, end)| report(recipient, end, Action::Relayed))
        .collect();
    if reported.is_empty() {
        return;
    }
    let (Some(delivery), Ok(place)) = (delivery.shared(), delivery.beside().try_acquire_owned())
    else {
        missed(delivery, submission, "too many of them wait");
        return;
    };
    let original = submission.clone();
    let sender = sender.clone();
    tokio::spawn(async move {
        let _place = place;
        let message = submission_of(&original, &sender, &reported, Kind::Relayed);
        if let Some(queue) = delivery.queue() {
            if let Err(refusal) = queue.take_ours(&Arc::new(message)).await {
                missed(&delivery, &original, &refusal.reply(false).to_log());
            }
            return;
        }
        let answer = delivery
            .deliver(Arc::new(message), Box::pin(std::future::pending()))
            .await;
        match answer.settled.first() {
            Some(end) if end.outcome == Outcome::Delivered => {}
            _ => missed(&delivery, &original, &answer.reply.to_log()),
        }
    });
}

fn missed(delivery: &Delivery, original: &Submission, why: &str) {
    let id = &original.message_id;
    let text = format!("{id}: the notification that it was passed on is lost: {why}");
    tracing::warn!("{text}");
    delivery.events.note(Module::RfMta, &text);
}

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failed,
    Delayed,
    Relayed,
}

impl Kind {
    /// What is added to the id of the message.
    pub fn suffix(self) -> &'static str {
        match self {
            Kind::Failed => "dsn",
            Kind::Delayed => "delayed",
            Kind::Relayed => "relayed",
        }
    }
}

/// What is told of one recipient.
pub fn report(recipient: &Recipient, settled: &Settled, action: Action) -> ReportedRecipient {
    let last = settled.last_attempt().filter(|_| settled.refusal.is_none());
    ReportedRecipient {
        original: recipient.orcpt.clone(),
        recipient: recipient.mailbox.as_str().to_owned(),
        action,
        status: galerne_core::dsn::status(&settled.reply),
        remote: last.map(|attempt| attempt.remote.host.to_string()),
        diagnostic: galerne_core::dsn::diagnostic(&settled.reply),
        last_attempt: SystemTime::now(),
    }
}

/// The notification for the sender of a message.
pub fn submission_of(
    original: &Submission,
    sender: &Mailbox,
    reported: &[ReportedRecipient],
    kind: Kind,
) -> Submission {
    let id = format!("{}-{}", original.message_id, kind.suffix());
    let settings = &original.settings;
    let memory = &original.content.memory;
    let whole = original.content.spill.is_none() && memory.len() <= MOST_RETURNED;
    let kept = without_directive(original);
    let report = Report {
        id: &id,
        reporting_mta: &settings.hostname,
        from_domain: sender.domain(),
        to: sender.as_str(),
        envid: original.sender.envid.as_deref(),
        arrival: original.received_at,
        now: SystemTime::now(),
        recipients: reported,
        returned: match original.sender.ret {
            // RET is for failures; of others the header comes back (RFC 3461 §4.3).
            // Of what requires TLS the header too (RFC 8689 §5).
            Some(Ret::Full) if whole && kind == Kind::Failed && !original.sender.requiretls => {
                Returned::Full(&kept)
            }
            _ => Returned::Headers(galerne_core::dsn::header_of(&kept)),
        },
    };
    let content = build(&report);
    Submission {
        message_id: id,
        settings: settings.clone(),
        client: Client {
            account: None,
            login: None,
            ..original.client.clone()
        },
        sender: Sender {
            path: ReversePath::Null,
            ret: None,
            envid: None,
            eight_bit: !content.is_ascii(),
            smtputf8: !sender.is_ascii(),
            // What had to be protected stays so (RFC 8689 §5).
            requiretls: original.sender.requiretls,
        },
        recipients: vec![Recipient {
            mailbox: sender.clone(),
            notify: None,
            orcpt: None,
        }],
        content: Content::in_memory(content),
        patch: Patch::default(),
        directive: Directive {
            timeout: Some(time_left(original)),
            sign: (!may_sign(original, sender)).then_some(Sign::None),
            ..Directive::default()
        },
        tls_not_required: false,
        header_from: Mailbox::parse(&format!("postmaster@{}", sender.domain())).ok(),
        header_id: None,
        reference: original.reference.clone(),
        received: original.received,
        received_at: SystemTime::now(),
        prdr: false,
        needs_chunking: false,
        is_dsn: true,
        mode: Mode::Sync,
        queued: false,
        without: Vec::new(),
        closed: Vec::new(),
        first: None,
    }
}

/// Whether the domain of the notification is one in whose name the account may sign (RELAY-48).
fn may_sign(original: &Submission, sender: &Mailbox) -> bool {
    let account = original.client.account.as_ref();
    let permitted = account.and_then(|account| account.authorizedsender.as_ref());
    permitted.is_none_or(|list| list.iter().any(|name| *name == sender.ascii_domain()))
}

/// The timeout of the notification, counted from the client's end of data like that of the
/// message: the client still waits, and must not be kept until it gives up.
fn time_left(original: &Submission) -> Duration {
    let nobody = Directive::default();
    let asked = Asked {
        account: None,
        login: None,
        routes: None,
        directive: &nobody,
        sender: &ReversePath::Null,
        header_from: None,
    };
    elapsed(original) + timeout(&original.settings, &asked)
}

/// The content in memory as the recipients were to have it: what was meant for us is left out.
fn without_directive(original: &Submission) -> Vec<u8> {
    let memory = &original.content.memory;
    let pieces = kept(memory.len(), &original.patch.cuts).filter_map(|range| memory.get(range));
    pieces.collect::<Vec<_>>().concat()
}
