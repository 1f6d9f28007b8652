//! The exit as the door sees it, with all three modes (QUEUE-1 to QUEUE-3): answer with the remote's
//! own reply, take the message over, or both.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use galerne_core::model::{Answer, Outcome, Settled, Submission};
use galerne_core::ports::{BoxFuture, DeliverNow};
use galerne_core::queue::Progress;
use galerne_core::queue::carry::envelope;
use galerne_core::queue::retry::{self, Ending, Next, Terms};
use galerne_core::queue::story;
use galerne_core::refusal::Refusal;
use galerne_core::settings::{Account, Mode};

use tokio::time::timeout;

use super::notices::NotNotified;
use super::{Queue, at, not_written, queued};
use crate::settle;

/// A client waits no longer for a notification to be written while the disk refuses.
const NOTIFY_TIME: Duration = Duration::from_secs(30);

/// In-session delivery with the queue behind it.
pub struct Post(pub Arc<Queue>);

impl DeliverNow for Post {
    fn deliver<'a>(
        &'a self,
        submission: Arc<Submission>,
        client_gone: BoxFuture<'a, ()>,
    ) -> BoxFuture<'a, Answer> {
        match submission.mode {
            Mode::Sync => self.0.delivery.deliver(submission, client_gone),
            Mode::Queue => Box::pin(self.0.take_all(submission)),
            Mode::Auto => Box::pin(self.0.try_then_take(submission, client_gone)),
        }
    }

    fn may_come(&self, account: Option<&Account>) -> Result<(), Refusal> {
        self.0.may_come(account)
    }
}

impl Queue {
    /// Store and forward (QUEUE-2).
    async fn take_all(&self, submission: Arc<Submission>) -> Answer {
        let waiting = |index: usize| {
            let progress = Progress {
                next: self.now(),
                ..Progress::default()
            };
            (u32::try_from(index).unwrap_or(u32::MAX), progress)
        };
        let undecided = (0..submission.recipients.len()).map(waiting).collect();
        let reply = match self.take(&submission, undecided).await {
            Ok(_) => queued(&submission.message_id),
            Err(refusal) => refusal.reply(false),
        };
        let answer = Answer {
            reply,
            settled: Vec::new(),
        };
        self.delivery.events.transaction(&submission, &answer);
        answer
    }

    /// The truth if there is one now, else the message is taken over (QUEUE-3).
    async fn try_then_take(
        &self,
        submission: Arc<Submission>,
        client_gone: BoxFuture<'_, ()>,
    ) -> Answer {
        let settled = self.delivery.try_all(&submission, client_gone).await;
        let keys = &submission.settings.queue;
        let terms = Terms {
            retry: &keys.retry,
            maxage: keys.maxage,
            unknowndelay: keys.unknowndelay,
            received: at(submission.received_at),
            now: self.now(),
        };
        let mut entropy = self.delivery.entropy();
        let mut undecided = Vec::new();
        let mut over: Vec<(usize, Ending)> = Vec::new();
        for (index, end) in settled.iter().enumerate() {
            match retry::in_session(&Progress::default(), end, &terms, entropy()) {
                Next::Over(ending) => over.push((index, ending)),
                Next::Again { progress, .. } => {
                    undecided.push((u32::try_from(index).unwrap_or(u32::MAX), progress));
                }
            }
        }
        // A client that left before its answer comes again.
        let is_gone = settled.iter().any(|end| end.outcome == Outcome::Cancelled);
        if undecided.is_empty() || is_gone {
            return settle::settle(&self.delivery, &submission, settled).await;
        }
        if self.take(&submission, undecided).await.is_err() {
            // Nothing is ours: the client hears what came of the attempt.
            return settle::settle(&self.delivery, &submission, settled).await;
        }
        self.taken(&submission, settled, &over).await
    }

    /// Some recipients are in the queue now: those that failed are told by a notification, since the
    /// client hears 250.
    async fn taken(
        &self,
        submission: &Arc<Submission>,
        settled: Vec<Settled>,
        over: &[(usize, Ending)],
    ) -> Answer {
        settle::book(&self.delivery, submission, &settled);
        let notices = over.iter().filter_map(|(index, ending)| {
            let recipient = submission.recipients.get(*index)?;
            let end = settled.get(*index)?;
            story::of_end(submission, recipient, ending, end, SystemTime::now())
        });
        let notices = notices.collect();
        let kept = envelope(submission);
        let notified = timeout(NOTIFY_TIME, self.notify(submission, &kept, notices));
        let id = &submission.message_id;
        let reply = match notified.await {
            Ok(Ok(())) => queued(id),
            // Twice is better than a failure that nobody hears of.
            Ok(Err(NotNotified)) | Err(_) => not_written(id).reply(false),
        };
        let answer = Answer { reply, settled };
        self.delivery.events.transaction(submission, &answer);
        // One reply for all (PRDR or not): the message is ours.
        Answer {
            settled: Vec::new(),
            ..answer
        }
    }
}
