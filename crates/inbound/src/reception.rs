//! The one door: SMTP, HTTP and job orders all hand the same [`Letter`] to [`Reception::receive`].
//! Acceptance is decided nowhere else.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use galerne_core::accept::{Circumstances, examine};
use galerne_core::content::Content;
use galerne_core::model::{Answer, Client, Recipient, Sender, Submission};
use galerne_core::plan::mode;
use galerne_core::ports::{BoxFuture, DeliverNow, EventSink, Refused};
use galerne_core::refusal::Refusal;
use galerne_core::settings::Mode;
use galerne_core::snapshot::Snapshot;
use galerne_mail::trace::{Trace, protocol};
use galerne_smtp::Reply;
use ulid::Ulid;

/// A message at the door.
pub struct Letter {
    pub snapshot: Arc<Snapshot>,
    pub client: Client,
    pub sender: Sender,
    pub recipients: Vec<Recipient>,
    pub content: Content,
    /// The content has bare CR, bare LF or NUL that the policy does not let through.
    pub bare: bool,
    /// It has bare CR or LF that the policy lets through as they are (RELAY-18).
    pub passed_bare: bool,
    /// The client greeted with EHLO.
    pub extended: bool,
    pub received: Instant,
    pub prdr: bool,
}

/// The door.
#[derive(Clone)]
pub struct Reception {
    pub deliver: Arc<dyn DeliverNow>,
    pub events: Arc<dyn EventSink>,
}

impl Reception {
    /// Examines, then delivers. A refusal is recorded and told; otherwise the answer is the
    /// remote's. `client_gone` resolves when the client has disconnected.
    pub async fn receive(
        &self,
        letter: Letter,
        client_gone: BoxFuture<'_, ()>,
    ) -> Result<Answer, Reply> {
        self.judge(letter, None, client_gone).await
    }

    /// Takes a message over from somebody who does not wait, whatever mode account and directive
    /// name (QUEUE-24). It is ours when the answer says so, with 2xx.
    pub async fn take_over(&self, letter: Letter) -> Result<Answer, Reply> {
        let nobody_waits = Box::pin(std::future::pending());
        self.judge(letter, Some(Mode::Queue), nobody_waits).await
    }

    async fn judge(
        &self,
        letter: Letter,
        forced: Option<Mode>,
        client_gone: BoxFuture<'_, ()>,
    ) -> Result<Answer, Reply> {
        let received_at = SystemTime::now();
        let message_id = Ulid::generate().to_string();
        match submission(letter, message_id, received_at, forced) {
            Ok(submission) => Ok(self.deliver.deliver(submission, client_gone).await),
            Err(refused) => {
                let reply = refused.reply.clone();
                self.events.refused(*refused);
                Err(reply)
            }
        }
    }
}

fn submission(
    letter: Letter,
    message_id: String,
    received_at: SystemTime,
    forced: Option<Mode>,
) -> Result<Arc<Submission>, Box<Refused>> {
    let snapshot = letter.snapshot.clone();
    let settings = &snapshot.settings.rfrelay;
    let trace = Trace {
        helo: &letter.client.helo,
        peer: letter.client.peer.ip(),
        by: &snapshot.settings.hostname,
        with: protocol(
            letter.extended,
            letter.client.tls,
            letter.client.account.is_some(),
            letter.sender.smtputf8,
        ),
        id: &message_id,
        recipient: match letter.recipients.as_slice() {
            [only] => Some(only.mailbox.as_str()),
            _ => None,
        },
        at: received_at,
    };
    let circumstances = Circumstances {
        account: letter.client.account.as_deref(),
        null_sender: letter.sender.path.mailbox().is_none(),
        bare: letter.bare,
        has_more: letter.content.spill.is_some(),
        keep_directive: settings.keepdirective,
        own_name: &snapshot.settings.hostname,
        trace: (settings.received == Some(true)).then_some(&trace),
    };
    let examined = match examine(&letter.content.memory, &circumstances) {
        Ok(examined) => examined,
        Err(refusal) => {
            return Err(Box::new(refused(
                &letter,
                &message_id,
                received_at,
                &refusal,
            )));
        }
    };
    let account = letter.client.account.as_deref();
    let mode = forced.unwrap_or_else(|| mode(&snapshot.settings, account, &examined.directive));
    let reference = examined
        .directive
        .reference
        .clone()
        .unwrap_or_else(|| message_id.to_ascii_lowercase());
    let mut patch = examined.patch;
    // Loops must be seen in what is taken over (QUEUE-2).
    if mode != Mode::Sync && settings.received.is_none() {
        patch.prefix = trace.field();
    }
    Ok(Arc::new(Submission {
        reference,
        message_id,
        settings: snapshot,
        client: letter.client,
        sender: letter.sender,
        recipients: letter.recipients,
        content: letter.content,
        patch,
        directive: examined.directive,
        header_id: examined.message_id,
        tls_not_required: examined.tls_not_required,
        header_from: examined.header_from,
        received: letter.received,
        received_at,
        prdr: letter.prdr,
        needs_chunking: letter.passed_bare,
        is_dsn: false,
        mode,
        queued: false,
        without: Vec::new(),
        closed: Vec::new(),
        first: None,
    }))
}

fn refused(letter: &Letter, message_id: &str, at: SystemTime, refusal: &Refusal) -> Refused {
    let recipients: Vec<&str> = letter
        .recipients
        .iter()
        .map(|r| r.mailbox.as_str())
        .collect();
    Refused {
        at,
        session_id: letter.client.session_id.clone(),
        user: letter
            .client
            .account
            .as_ref()
            .map(|account| account.name.clone()),
        peer: letter.client.peer.ip(),
        sender: letter.sender.path.as_str().to_owned(),
        recipient: recipients.join(" "),
        reference: message_id.to_ascii_lowercase(),
        reply: refusal.reply(letter.snapshot.settings.rfrelay.permcode),
        rule: refusal.rule().to_owned(),
        size: letter.content.len(),
    }
}
