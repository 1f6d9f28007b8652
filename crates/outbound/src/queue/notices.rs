//! Notifications that the queue owes to senders (RET-35 to RET-39): each is in the queue itself
//! before the delivery that it is about is decided.

use std::sync::Arc;
use std::time::Duration;

use galerne_core::dsn;
use galerne_core::model::{Recipient, Reply, ReversePath, Settled, Submission};
use galerne_core::notification::{Occasion, is_due, is_relayed_due};
use galerne_core::queue::board::Delayed;
use galerne_core::queue::carry::{envelope, submission};
use galerne_core::queue::retry::Ending;
use galerne_core::queue::{Change, DeliveryNo, Envelope, Progress, What};
use galerne_mail::dsn::{Action, ReportedRecipient};
use tokio::time::sleep;

use super::Queue;
use crate::notify::{Kind, report, submission_of};

/// When a sender is told of a delay, from the arrival on (RET-39).
pub(super) const DELAY: Duration = Duration::from_secs(4 * 3600);
/// Pause before a notification that could not be stored is stored again.
const PAUSE: Duration = Duration::from_secs(5);

/// What a sender is to be told of one recipient.
pub(super) struct Notice {
    kind: Kind,
    reported: ReportedRecipient,
}

impl Notice {
    /// Of a delivery that is decided.
    pub(super) fn of_end(
        message: &Submission,
        recipient: &Recipient,
        ending: &Ending,
        end: &Settled,
    ) -> Option<Notice> {
        let path = &message.sender.path;
        match ending {
            Ending::Delivered => {
                is_relayed_due(path, message.is_dsn, recipient, end).then(|| Notice {
                    kind: Kind::Relayed,
                    reported: report(recipient, end, Action::Relayed),
                })
            }
            Ending::Failed { .. } => is_failure_due(message, recipient).then(|| Notice {
                kind: Kind::Failed,
                reported: report(recipient, end, Action::Failed),
            }),
            Ending::Expired { reply } => Notice::of_expiry(message, recipient, reply),
        }
    }

    /// Of a delivery whose time is over.
    pub(super) fn of_expiry(
        message: &Submission,
        recipient: &Recipient,
        reply: &Reply,
    ) -> Option<Notice> {
        is_failure_due(message, recipient).then(|| Notice {
            kind: Kind::Failed,
            reported: ReportedRecipient {
                original: recipient.orcpt.clone(),
                recipient: recipient.mailbox.as_str().to_owned(),
                action: Action::Failed,
                status: dsn::status(reply),
                remote: None,
                diagnostic: dsn::diagnostic(reply),
                last_attempt: std::time::SystemTime::now(),
            },
        })
    }

    /// Of a delivery that takes long (RET-39).
    fn of_delay(message: &Submission, recipient: &Recipient, last_reply: &str) -> Option<Notice> {
        let diagnostic = match last_reply.is_empty() {
            true => "451 4.4.7 it could not be tried yet".to_owned(),
            false => last_reply.to_owned(),
        };
        wants_delay(message, recipient).then(|| Notice {
            kind: Kind::Delayed,
            reported: ReportedRecipient {
                original: recipient.orcpt.clone(),
                recipient: recipient.mailbox.as_str().to_owned(),
                action: Action::Delayed,
                status: "4.4.7".to_owned(),
                remote: None,
                diagnostic,
                last_attempt: std::time::SystemTime::now(),
            },
        })
    }
}

/// Whether the sender is to be told of a delay.
pub(super) fn wants_delay(message: &Submission, recipient: &Recipient) -> bool {
    let path = &message.sender.path;
    is_due(Occasion::Delay, path, message.is_dsn, recipient.notify)
}

fn is_failure_due(message: &Submission, recipient: &Recipient) -> bool {
    let path = &message.sender.path;
    is_due(Occasion::Failure, path, message.is_dsn, recipient.notify)
}

impl Queue {
    /// Some deliveries of a message take long: the sender is told, once.
    pub(super) async fn tell_of_delay(self: Arc<Self>, delayed: Delayed) {
        let (store, message) = (self.store.clone(), delayed.message);
        let read = tokio::task::spawn_blocking(move || store.read(message)).await;
        let kept = match read {
            Ok(Ok(Some(kept))) => kept,
            Ok(Ok(None)) => return,
            // It is told of at the end, then.
            _ => return tracing::warn!(message = message.0, "a delay could not be told"),
        };
        let snapshot = self.snapshot();
        let now = tokio::time::Instant::now().into_std();
        let whole = match submission(&kept.envelope, kept.content, &snapshot, now) {
            Ok(whole) => whole,
            Err(why) => {
                return tracing::warn!(message = message.0, %why, "a delay could not be told");
            }
        };
        let (mut notices, mut changes) = (Vec::new(), Vec::new());
        for (index, progress) in kept.deliveries {
            let recipient = whole.recipients.get(index as usize);
            let is_meant = delayed.recipients.as_slice().contains(&index) && !progress.delay_told;
            let Some(recipient) = recipient.filter(|_| is_meant) else {
                continue;
            };
            notices.extend(Notice::of_delay(&whole, recipient, &progress.last_reply));
            let number = DeliveryNo {
                message,
                recipient: index,
            };
            let delay_told = true;
            changes.push(Change::Put(
                number,
                Progress {
                    delay_told,
                    ..progress
                },
            ));
        }
        self.notify(&whole, &envelope(&whole), notices).await;
        self.store.change_soon(changes);
    }

    /// Puts the notifications of a message into the queue.
    pub(super) async fn notify(&self, message: &Submission, kept: &Envelope, notices: Vec<Notice>) {
        let ReversePath::Mailbox(sender) = &message.sender.path else {
            return;
        };
        for kind in [Kind::Failed, Kind::Delayed, Kind::Relayed] {
            let of_kind = notices.iter().filter(|notice| notice.kind == kind);
            let reported: Vec<_> = of_kind.map(|notice| notice.reported.clone()).collect();
            if reported.is_empty() {
                continue;
            }
            let mut notification = submission_of(message, sender, &reported, kind);
            notification.queued = true;
            let notification = Arc::new(notification);
            self.store_notification(&notification).await;
            for recipient in reported {
                self.tell(
                    kept,
                    What::Notified {
                        recipient: recipient.recipient,
                        action: kind.suffix().to_owned(),
                        notification: notification.message_id.clone(),
                    },
                );
            }
        }
    }

    /// A notification is not lost because the disk refuses now.
    async fn store_notification(&self, notification: &Arc<Submission>) {
        loop {
            match self.take_ours(notification).await {
                Ok(()) => return,
                Err(_) if *self.stopping.borrow() && !self.store.is_ready() => return,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}
