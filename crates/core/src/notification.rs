//! Who is told what by a delivery status notification (RET-33, RET-37). How one is built is in
//! `galerne_mail::dsn`; that the synchronous relay makes one only for a mixed result, in
//! [`crate::answer::combine`].

use galerne_smtp::ReversePath;

use crate::model::Notify;

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
}
