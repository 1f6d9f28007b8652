//! Who is told what by a delivery status notification (RET-33, RET-37). How one is built is in
//! `galerne_mail::dsn`; that the synchronous relay makes one only for a mixed result, in
//! [`crate::answer::combine`].

use galerne_smtp::ReversePath;

use crate::model::{Notify, Outcome, Recipient, Settled};

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    Failure,
    Delay,
    Success,
}

/// Whether a notification is due. `is_dsn`: the message is one itself.
///
/// Never for a null sender, for NOTIFY=NEVER or for a notification, so that none causes another.
/// Without NOTIFY only failures are told.
pub fn is_due(
    occasion: Occasion,
    sender: &ReversePath,
    is_dsn: bool,
    notify: Option<Notify>,
) -> bool {
    if is_dsn || *sender == ReversePath::Null {
        return false;
    }
    match (notify, occasion) {
        (None, occasion) => occasion == Occasion::Failure,
        (Some(notify), _) if notify.never => false,
        (Some(notify), Occasion::Failure) => notify.failure,
        (Some(notify), Occasion::Delay) => notify.delay,
        (Some(notify), Occasion::Success) => notify.success,
    }
}

/// Whether we say ourselves that a delivered message was passed on: success was to be told, and the
/// server that took the message knows no notifications (RET-34, RFC 3461 §5.2.2).
pub fn is_relayed_due(
    sender: &ReversePath,
    is_dsn: bool,
    recipient: &Recipient,
    settled: &Settled,
) -> bool {
    let last = settled.last_attempt();
    settled.outcome == Outcome::Delivered
        && last.is_some_and(|attempt| !attempt.dsn)
        && is_due(Occasion::Success, sender, is_dsn, recipient.notify)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Occasion; 3] = [Occasion::Failure, Occasion::Delay, Occasion::Success];

    fn every() -> Option<Notify> {
        Some(Notify {
            never: false,
            success: true,
            failure: true,
            delay: true,
        })
    }

    fn somebody() -> ReversePath {
        ReversePath::parse("a@example.com").unwrap()
    }

    #[test]
    fn ret_37_never_for_a_null_sender_for_never_or_for_a_dsn() {
        let never = Notify {
            never: true,
            ..Notify::default()
        };
        for occasion in ALL {
            assert!(!is_due(occasion, &ReversePath::Null, false, every()));
            assert!(!is_due(occasion, &somebody(), false, Some(never)));
            assert!(!is_due(occasion, &somebody(), true, every()));
            assert!(is_due(occasion, &somebody(), false, every()));
        }
    }

    #[test]
    fn ret_37_ret_33_without_notify_failures_alone_are_told() {
        let told = ALL.map(|occasion| is_due(occasion, &somebody(), false, None));
        assert_eq!(told, [true, false, false]);
        let delay = Notify {
            delay: true,
            ..Notify::default()
        };
        let told = ALL.map(|occasion| is_due(occasion, &somebody(), false, Some(delay)));
        assert_eq!(told, [false, true, false]);
    }

    #[test]
    fn ret_34_relayed_is_told_where_success_was_asked_and_the_remote_will_not_tell() {
        let attempt = |dsn| crate::model::Attempt {
            hop: 1,
            outbound: crate::testing::outbound("192.0.2.10", "mta10.example.net"),
            remote: crate::model::Remote {
                host: "mx.example.org".into(),
                address: crate::testing::socket("198.51.100.25:25"),
            },
            stage: crate::model::Stage::Dot,
            reply: None,
            failure: None,
            qualification: None,
            tls: None,
            dsn,
            duration: std::time::Duration::ZERO,
        };
        let due = |sender: &ReversePath, is_dsn, notify, text: &str, dsn| {
            let recipient = Recipient {
                mailbox: crate::testing::mailbox("anna@example.org"),
                notify,
                orcpt: None,
            };
            let settled = Settled {
                attempts: vec![attempt(dsn)],
                ..crate::testing::settled("anna@example.org", text)
            };
            is_relayed_due(sender, is_dsn, &recipient, &settled)
        };
        let failures = Some(Notify {
            failure: true,
            ..Notify::default()
        });
        let (ok, no) = ("250 2.0.0 ok", "550 5.1.1 no");
        assert!(due(&somebody(), false, every(), ok, false));
        assert!(
            !due(&somebody(), false, every(), ok, true),
            "the remote tells"
        );
        assert!(
            !due(&somebody(), false, every(), no, false),
            "not delivered"
        );
        assert!(!due(&somebody(), false, failures, ok, false));
        assert!(!due(&somebody(), false, None, ok, false));
        assert!(!due(&ReversePath::Null, false, every(), ok, false));
        assert!(!due(&somebody(), true, every(), ok, false));
    }
}
