//! Notifications that the queue owes to senders (RET-35 to RET-39): each is in the queue itself
//! before the delivery that it is about is decided. What is told is decided in
//! `galerne_core::queue::story`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use galerne_core::model::{ReversePath, Submission};
use galerne_core::queue::board::Delayed;
use galerne_core::queue::carry::{envelope, submission};
use galerne_core::queue::{Change, DeliveryNo, Envelope, What, story};
use galerne_mail::dsn::{Action, ReportedRecipient};
use tokio::time::sleep;

use super::Queue;
use crate::notify::{Kind, submission_of};

/// Pause before a notification that could not be stored is stored again.
const PAUSE: Duration = Duration::from_secs(5);

/// The server ends, and a notification is not on disk: what it is about must not be decided.
pub(super) struct NotNotified;

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
        let (mut notices, mut told) = (Vec::new(), Vec::new());
        for (index, progress) in kept.deliveries {
            let recipient = whole.recipients.get(index as usize);
            let is_meant = delayed.recipients.as_slice().contains(&index) && !progress.delay_told;
            let Some(recipient) = recipient.filter(|_| is_meant) else {
                continue;
            };
            let now = SystemTime::now();
            notices.extend(story::of_delay(&whole, recipient, &progress, now));
            told.push(DeliveryNo {
                message,
                recipient: index,
            });
        }
        if let Ok(()) = self.notify(&whole, &envelope(&whole), notices).await {
            // Their attempts may have begun meanwhile: nothing else of them is touched.
            self.store.change_soon(vec![Change::DelayTold(told)]);
        }
    }

    /// Puts the notifications of a message into the queue.
    ///
    /// # Errors
    /// They are not all there, since the server ends.
    pub(super) async fn notify(
        &self,
        message: &Submission,
        kept: &Envelope,
        notices: Vec<ReportedRecipient>,
    ) -> Result<(), NotNotified> {
        let ReversePath::Mailbox(sender) = &message.sender.path else {
            return Ok(());
        };
        for (kind, action) in [
            (Kind::Failed, Action::Failed),
            (Kind::Delayed, Action::Delayed),
            (Kind::Relayed, Action::Relayed),
        ] {
            let of_kind = notices.iter().filter(|notice| notice.action == action);
            let reported: Vec<ReportedRecipient> = of_kind.cloned().collect();
            if reported.is_empty() {
                continue;
            }
            let mut notification = submission_of(message, sender, &reported, kind);
            notification.queued = true;
            let notification = Arc::new(notification);
            self.store_notification(&notification).await?;
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
        Ok(())
    }

    /// A notification is not lost because the disk refuses now.
    async fn store_notification(&self, notification: &Arc<Submission>) -> Result<(), NotNotified> {
        loop {
            match self.take_ours(notification).await {
                Ok(()) => return Ok(()),
                Err(_) if *self.stopping.borrow() && !self.store.is_ready() => {
                    return Err(NotNotified);
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}
