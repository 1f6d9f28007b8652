use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::content::Content;
use crate::model::{Attempt, Notify, Outcome, Remote, ReversePath, Stage};
use crate::queue::carry::submission;
use crate::queue::retry::{Why, expired};
use crate::queue::{Envelope, QueuedRecipient};
use crate::snapshot::Snapshot;
use crate::testing;

const T: u64 = 1_700_000_000_000;

fn message(notify: Option<&str>) -> Submission {
    let envelope = Envelope {
        id: "01J".into(),
        reference: "ref-1".into(),
        tags: Vec::new(),
        header_id: None,
        user: None,
        login: None,
        peer: "192.0.2.1:25".parse().unwrap(),
        helo: "client".into(),
        tls: true,
        session_id: "s".into(),
        sender: "a@example.com".into(),
        ret: None,
        envid: None,
        eight_bit: false,
        smtputf8: false,
        requiretls: false,
        tls_not_required: false,
        recipients: vec![QueuedRecipient {
            address: "anna@example.org".into(),
            notify: notify.map(str::to_owned),
            orcpt: Some(("rfc822".into(), "c@example.org".into())),
        }],
        directive: None,
        header_from: None,
        received_at: T,
        needs_chunking: false,
        is_dsn: false,
    };
    let snapshot = Snapshot::new(Arc::new(testing::settings()));
    let content = Content::in_memory(b"x".to_vec());
    submission(&envelope, content, &snapshot, Instant::now()).unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH
}

fn end(text: &str, dsn: bool) -> Settled {
    let attempt = Attempt {
        hop: 1,
        outbound: testing::outbound("192.0.2.10", "mta10.example.net"),
        remote: Remote {
            host: "mx.example.org".into(),
            address: testing::socket("198.51.100.25:25"),
        },
        stage: Stage::Dot,
        reply: Some(testing::reply(text)),
        failure: None,
        qualification: None,
        tls: None,
        dsn,
        duration: Duration::ZERO,
    };
    Settled {
        attempts: vec![attempt],
        ..testing::settled("anna@example.org", text)
    }
}

fn failed(text: &str) -> Ending {
    Ending::Failed {
        why: Why::Permanent,
        reply: testing::reply(text),
    }
}

/// What is told with that NOTIFY: (action, status).
fn told(notify: Option<&str>, ending: &Ending, end: &Settled) -> Option<(Action, String)> {
    let message = message(notify);
    let told = of_end(&message, &message.recipients[0], ending, end, now())?;
    Some((told.action, told.status))
}

#[test]
fn ret_33_ret_35_a_failure_is_told_unless_the_sender_said_otherwise() {
    let (no, text) = (failed("550 5.1.1 who"), "550 5.1.1 who");
    let said = Some((Action::Failed, "5.1.1".to_owned()));
    for notify in [None, Some("FAILURE"), Some("SUCCESS,FAILURE,DELAY")] {
        assert_eq!(told(notify, &no, &end(text, false)), said);
    }
    for notify in ["NEVER", "SUCCESS", "DELAY"] {
        assert_eq!(told(Some(notify), &no, &end(text, false)), None);
    }
    let message = message(None);
    let told = of_end(
        &message,
        &message.recipients[0],
        &no,
        &end(text, false),
        now(),
    )
    .unwrap();
    assert_eq!(told.remote.as_deref(), Some("mx.example.org"));
    assert_eq!(told.diagnostic, text);
    assert_eq!(told.original, message.recipients[0].orcpt);
}

#[test]
fn ret_34_success_is_told_where_the_server_does_not() {
    let relayed = Some((Action::Relayed, "2.0.0".to_owned()));
    let of = |notify, dsn| told(notify, &Ending::Delivered, &end("250 2.0.0 ok", dsn));
    assert_eq!(of(Some("SUCCESS"), false), relayed);
    assert_eq!(of(Some("SUCCESS"), true), None);
    assert_eq!(of(None, false), None);
}

#[test]
fn ret_37_queue_25_never_of_a_notification_or_to_nobody() {
    let all = Some("SUCCESS,FAILURE,DELAY");
    let mut dsn = message(all);
    dsn.is_dsn = true;
    let mut null = message(all);
    null.sender.path = ReversePath::Null;
    let progress = Progress::default();
    let reply = testing::reply("451 4.4.7 over");
    for message in [dsn, null] {
        let recipient = &message.recipients[0];
        let ended = |ending, text| of_end(&message, recipient, ending, &end(text, false), now());
        let no = failed("550 no");
        assert!(ended(&no, "550 no").is_none());
        assert!(ended(&Ending::Delivered, "250 ok").is_none());
        assert!(of_expiry(&message, recipient, &reply, now()).is_none());
        assert!(of_delay(&message, recipient, &progress, now()).is_none());
        assert!(!wants_delay(&message, recipient));
    }
}

#[test]
fn ret_39_the_status_is_the_remotes_or_4_4_7_or_that_of_our_refusal() {
    let message = message(None);
    let recipient = &message.recipients[0];
    let status = |last_reply: &str, by_operator| {
        let progress = Progress {
            last_reply: last_reply.to_owned(),
            ..Progress::default()
        };
        let (_, reply) = expired(&progress, by_operator);
        of_expiry(&message, recipient, &reply, now())
            .unwrap()
            .status
    };
    assert_eq!(status("450 4.2.2 full", false), "4.4.7");
    assert_eq!(status("", false), "4.4.7");
    // FLOW-73.
    assert_eq!(status("550 5.1.1 who", false), "5.1.1");
    assert_eq!(status("450 4.2.2 full", true), "5.0.0");
    for (code, expected) in [
        (Code::NoSuchDomain, "5.1.2"),
        (Code::BadRecipient, "5.1.3"),
        (Code::Listed, "5.7.1"),
        (Code::BadValue, "5.0.0"),
    ] {
        let refusal = Refusal::new(code, "why", "rule");
        let reply = refusal.reply(false);
        let end = Settled {
            outcome: Outcome::Failed,
            reply: reply.clone(),
            refusal: Some(refusal),
            ..end("451 x", false)
        };
        let why = Why::Refused;
        let ending = Ending::Failed { why, reply };
        let told = of_end(&message, recipient, &ending, &end, now()).unwrap();
        assert_eq!((told.status.as_str(), told.remote), (expected, None));
    }
}

#[test]
fn ret_39_a_delay_is_told_four_hours_after_the_first_attempt_once() {
    let hours = 3_600_000;
    let mut progress = Progress::default();
    let plain = message(None);
    assert!(!wants_delay(&plain, &plain.recipients[0]));
    let message = message(Some("DELAY"));
    let recipient = &message.recipients[0];
    assert!(recipient.notify.is_some_and(|notify: Notify| notify.delay));
    assert!(wants_delay(&message, recipient));
    let at = |progress: &Progress| tell_at(progress, T);
    assert_eq!(at(&progress), Some(T + 4 * hours));
    let told = |progress: &Progress| of_delay(&message, recipient, progress, now());
    let first = told(&progress).unwrap();
    assert_eq!(
        (first.action, first.status.as_str()),
        (Action::Delayed, "4.4.7")
    );
    progress.last_reply = "550 5.1.1 who / really".to_owned();
    let second = told(&progress).unwrap();
    assert_eq!(
        (second.status.as_str(), second.diagnostic.as_str()),
        ("4.0.0", "550 5.1.1 who really")
    );
    progress.last_reply = "450 4.2.2 full".to_owned();
    assert_eq!(told(&progress).unwrap().status, "4.2.2");
    progress.delay_told = true;
    assert!(told(&progress).is_none());
    assert_eq!(at(&progress), None);
}
