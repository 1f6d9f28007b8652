//! A submission as the queue keeps it, and a submission again when its time has come.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use galerne_smtp::{Mailbox, ReversePath};

use super::{Envelope, QueuedRecipient};
use crate::content::{Content, Patch};
use crate::directive::{self, Directive};
use crate::dsn;
use crate::model::{Client, Notify, Recipient, Ret, Sender, Submission};
use crate::settings::Mode;
use crate::snapshot::Snapshot;

/// What is kept of a submission.
pub fn envelope(submission: &Submission) -> Envelope {
    let (client, sender) = (&submission.client, &submission.sender);
    let recipients = submission
        .recipients
        .iter()
        .map(|recipient| QueuedRecipient {
            address: recipient.mailbox.as_str().to_owned(),
            notify: dsn::parameters(recipient).0,
            orcpt: recipient.orcpt.clone(),
        });
    Envelope {
        id: submission.message_id.clone(),
        reference: submission.reference.clone(),
        tags: submission.directive.tags.clone(),
        header_id: submission.header_id.clone(),
        user: client.account.as_ref().map(|account| account.name.clone()),
        login: client.login.clone(),
        peer: client.peer,
        helo: client.helo.clone(),
        tls: client.tls,
        session_id: client.session_id.clone(),
        sender: sender.path.as_str().to_owned(),
        ret: sender.ret.map(|ret| ret_word(ret).to_owned()),
        envid: sender.envid.clone(),
        eight_bit: sender.eight_bit,
        smtputf8: sender.smtputf8,
        requiretls: sender.requiretls,
        tls_not_required: submission.tls_not_required,
        recipients: recipients.collect(),
        directive: submission.directive.to_json(),
        header_from: submission
            .header_from
            .as_ref()
            .map(|m| m.as_str().to_owned()),
        received_at: milliseconds(submission.received_at),
        needs_chunking: submission.needs_chunking,
        is_dsn: submission.is_dsn,
    }
}

/// The submission of what was kept, for an attempt that begins at `now`, with the settings of
/// today. An account that is gone sends with the rights of nobody.
///
/// # Errors
/// What was kept is damaged, in words.
pub fn submission(
    envelope: &Envelope,
    content: Content,
    snapshot: &Arc<Snapshot>,
    now: Instant,
) -> Result<Submission, String> {
    let mailbox = |text: &str| Mailbox::parse(text).map_err(|_| format!("address {text:?}"));
    let account = envelope.user.as_deref().and_then(|name| {
        let mut accounts = snapshot.settings.accounts.iter();
        accounts.find(|account| account.name == name).cloned()
    });
    let directive = match &envelope.directive {
        Some(text) => directive::parse(text.as_bytes()).map_err(|_| "directive".to_owned())?,
        None => Directive::default(),
    };
    let recipients = envelope.recipients.iter().map(|kept| {
        Ok(Recipient {
            mailbox: mailbox(&kept.address)?,
            notify: kept.notify.as_deref().map(notify),
            orcpt: kept.orcpt.clone(),
        })
    });
    let header_from = envelope.header_from.as_deref().map(mailbox).transpose()?;
    Ok(Submission {
        message_id: envelope.id.clone(),
        settings: snapshot.clone(),
        client: Client {
            login: envelope.login.clone().filter(|_| account.is_some()),
            account,
            peer: envelope.peer,
            helo: envelope.helo.clone(),
            tls: envelope.tls,
            session_id: envelope.session_id.clone(),
        },
        sender: Sender {
            path: ReversePath::parse(&envelope.sender).map_err(|_| "sender".to_owned())?,
            ret: envelope.ret.as_deref().and_then(ret),
            envid: envelope.envid.clone(),
            eight_bit: envelope.eight_bit,
            smtputf8: envelope.smtputf8,
            requiretls: envelope.requiretls,
        },
        recipients: recipients.collect::<Result<_, String>>()?,
        content,
        patch: Patch::default(),
        directive,
        tls_not_required: envelope.tls_not_required,
        header_from,
        header_id: envelope.header_id.clone(),
        reference: envelope.reference.clone(),
        received: now,
        received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(envelope.received_at),
        prdr: false,
        needs_chunking: envelope.needs_chunking,
        is_dsn: envelope.is_dsn,
        mode: Mode::Queue,
        queued: true,
        without: Vec::new(),
        closed: Vec::new(),
        first: None,
    })
}

/// Milliseconds since 1970; 0 for what was before.
pub fn milliseconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |length| {
        u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
    })
}

fn ret_word(ret: Ret) -> &'static str {
    match ret {
        Ret::Full => "FULL",
        Ret::Hdrs => "HDRS",
    }
}

fn ret(word: &str) -> Option<Ret> {
    [Ret::Full, Ret::Hdrs]
        .into_iter()
        .find(|ret| ret_word(*ret) == word)
}

fn notify(words: &str) -> Notify {
    let has = |word| words.split(',').any(|w| w == word);
    Notify {
        never: has("NEVER"),
        success: has("SUCCESS"),
        failure: has("FAILURE"),
        delay: has("DELAY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn queue_5_what_is_kept_comes_back_whole() {
        let snapshot = Snapshot::new(Arc::new(testing::settings()));
        let mut given = Envelope {
            id: "01J".into(),
            reference: "ref-1".into(),
            tags: vec!["a".into()],
            header_id: Some("x@example.com".into()),
            user: None,
            login: None,
            peer: "192.0.2.1:25".parse().unwrap(),
            helo: "client".into(),
            tls: true,
            session_id: "s".into(),
            sender: "a@example.com".into(),
            ret: Some("FULL".into()),
            envid: Some("env".into()),
            eight_bit: true,
            smtputf8: true,
            requiretls: true,
            tls_not_required: false,
            recipients: vec![QueuedRecipient {
                address: "b@example.org".into(),
                notify: Some("SUCCESS,DELAY".into()),
                orcpt: Some(("rfc822".into(), "c@example.org".into())),
            }],
            directive: Some(r#"{"message":{"tags":["a"]}}"#.into()),
            header_from: Some("a@example.com".into()),
            received_at: 1_800_000_000_123,
            needs_chunking: true,
            is_dsn: true,
        };
        for notify in [None, Some("NEVER"), Some("SUCCESS,FAILURE,DELAY")] {
            given.recipients[0].notify = notify.map(str::to_owned);
            let content = Content::in_memory(b"x".to_vec());
            let made = submission(&given, content, &snapshot, Instant::now()).unwrap();
            assert!(made.queued);
            assert_eq!(envelope(&made), given);
        }
        given.sender = "no address".into();
        let content = Content::in_memory(b"x".to_vec());
        let damaged = submission(&given, content, &snapshot, Instant::now());
        assert_eq!(damaged.unwrap_err(), "sender");
    }
}
