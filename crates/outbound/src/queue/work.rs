//! One job of the queue: an attempt for some deliveries of a message, and what follows from it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use galerne_core::model::{Reply, Settled, Submission};
use galerne_core::queue::board::{After, End, Expired, Job};
use galerne_core::queue::carry::{envelope, submission};
use galerne_core::queue::retry::{self, Effect, Next, Terms};
use galerne_core::queue::{
    Change, DeliveryNo, Filter, Kept, MessageNo, Progress, StoreFault, What, lane, story,
};
use galerne_mail::dsn::ReportedRecipient;
use tokio::time::sleep;

use super::dispatch::{BackAgain, Ended, Order};
use super::notices::NotNotified;
use super::{Queue, numbers};
use crate::settle;

/// Most recipients of one message.
const MOST_RECIPIENTS: usize = 100_000;
/// Pause before a job that our own store held up is tried again.
const LATER: u64 = 5_000;

/// A message that is to be tried.
struct Ready {
    /// With all recipients.
    submission: Arc<Submission>,
    /// Those of the job.
    deliveries: Vec<(u32, Progress)>,
}

/// What of a job is over.
struct Over {
    after: After,
    again: Vec<BackAgain>,
    account: String,
}

impl Queue {
    /// Does one job, and says how it ended.
    pub(super) async fn work(self: Arc<Self>, job: Job) {
        let over = match self.ready(job.message, job.recipients.as_slice()).await {
            Ok(Some(ready)) => self.attempt(&job, ready).await,
            // An operator removed it.
            Ok(None) => Over {
                after: After::Nothing,
                again: Vec::new(),
                account: String::new(),
            },
            Err(fault) => {
                tracing::error!(message = job.message.0, %fault, "a message of the queue cannot be read now");
                self.later(&job, String::new())
            }
        };
        self.order(Order::Ended(Ended {
            ticket: job.ticket,
            message: job.message,
            account: over.account,
            after: over.after,
            again: over.again,
        }));
    }

    /// Once more, soon, with everything as it is.
    fn later(&self, job: &Job, account: String) -> Over {
        Over {
            after: After::Nothing,
            again: vec![BackAgain {
                recipients: job.recipients.as_slice().to_vec(),
                due: self.now() + LATER,
                tell: job.tell,
                lane: None,
                end: End::Front,
            }],
            account,
        }
    }

    /// The message, from memory or the store; `None`: it is not there any more.
    async fn ready(
        &self,
        message: MessageNo,
        recipients: &[u32],
    ) -> Result<Option<Ready>, StoreFault> {
        if let Some(cached) = self.cache.take(message, recipients) {
            return Ok(Some(Ready {
                submission: cached.submission,
                deliveries: cached.deliveries,
            }));
        }
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.read(message)).await;
        let kept = match read.unwrap_or_else(|error| Err(StoreFault::Broken(error.to_string()))) {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(None),
            Err(StoreFault::Damaged(why)) => {
                self.set_aside(message, why).await?;
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        };
        let Kept {
            envelope,
            content,
            mut deliveries,
        } = kept;
        deliveries.retain(|(recipient, _)| recipients.contains(recipient));
        // What runs is not held, also where its release is not on disk yet.
        deliveries
            .iter_mut()
            .for_each(|(_, progress)| progress.held = false);
        if deliveries.is_empty() {
            return Ok(None);
        }
        let snapshot = self.snapshot();
        match submission(
            &envelope,
            content,
            &snapshot,
            tokio::time::Instant::now().into_std(),
        ) {
            Ok(submission) => Ok(Some(Ready {
                submission: Arc::new(submission),
                deliveries,
            })),
            Err(why) => {
                self.set_aside(message, why).await?;
                Ok(None)
            }
        }
    }

    /// A message that cannot be read goes to the quarantine; the rest goes on.
    async fn set_aside(&self, message: MessageNo, why: String) -> Result<(), StoreFault> {
        tracing::error!(message = message.0, %why, "a message of the queue is damaged and set aside");
        let store = self.store.clone();
        let set_aside = move || {
            let behind = message.0.checked_sub(1).map(|before| DeliveryNo {
                message: MessageNo(before),
                recipient: u32::MAX,
            });
            let mut of_it = store.list(
                &Filter {
                    after: behind,
                    ..Filter::default()
                },
                MOST_RECIPIENTS,
            )?;
            of_it.retain(|listed| listed.stored.delivery.message == message);
            store.quarantine(message, &why)?;
            Ok(of_it)
        };
        let done = tokio::task::spawn_blocking(set_aside).await;
        let gone = done.unwrap_or_else(|error| Err(StoreFault::Broken(error.to_string())))?;
        // They hold no place in the queue any more.
        if let Some(first) = gone.first() {
            let account = first.stored.user.as_deref().unwrap_or("");
            self.bounds.remove(account, gone.len() as u64);
        }
        Ok(())
    }

    async fn attempt(&self, job: &Job, ready: Ready) -> Over {
        let whole = &ready.submission;
        let account = whole.client.account.as_ref();
        let account = account.map_or_else(String::new, |account| account.name.clone());
        let recipients: Vec<u32> = ready.deliveries.iter().map(|(index, _)| *index).collect();
        // The mark is durable before the final dot (QUEUE-6).
        if ready
            .deliveries
            .iter()
            .any(|(_, progress)| !progress.handed)
        {
            let handed = Change::Handed(numbers(job.message, recipients.iter().copied()));
            if self.store.change(vec![handed]).await.is_err() {
                return self.later(job, account);
            }
        }
        let part = Submission {
            first: retry::first_outbound(&ready.deliveries),
            ..self.part(whole, &recipients, job)
        };
        let settled = self
            .delivery
            .try_all(&part, Box::pin(std::future::pending()))
            .await;
        settle::book(&self.delivery, &part, &settled);
        self.delivery.events.attempted(&part, &settled);
        let mut deliveries = ready.deliveries;
        for (_, progress) in &mut deliveries {
            // It may have been told while the attempt began.
            progress.delay_told |= job.tell.is_none();
        }
        self.conclude(job, &part, deliveries, settled, account)
            .await
    }

    /// The message for some of its recipients, as it is tried now.
    fn part(&self, whole: &Submission, recipients: &[u32], job: &Job) -> Submission {
        let of = |index: &u32| whole.recipients.get(*index as usize).cloned();
        let snapshot = self.snapshot();
        let account = whole.client.account.as_ref().and_then(|old| {
            let mut accounts = snapshot.settings.accounts.iter();
            accounts.find(|account| account.name == old.name).cloned()
        });
        let mut client = whole.client.clone();
        client.account = account;
        Submission {
            recipients: recipients.iter().filter_map(of).collect(),
            received: tokio::time::Instant::now().into_std(),
            settings: snapshot,
            client,
            queued: true,
            prdr: false,
            without: job.without.clone(),
            closed: job.closed.clone(),
            ..whole.clone()
        }
    }

    /// What follows for each delivery: on disk before anything else happens with it.
    async fn conclude(
        &self,
        job: &Job,
        part: &Submission,
        deliveries: Vec<(u32, Progress)>,
        settled: Vec<Settled>,
        account: String,
    ) -> Over {
        let now = self.now();
        let keys = &part.settings.queue;
        let terms = Terms {
            retry: &keys.retry,
            maxage: keys.maxage,
            unknowndelay: keys.unknowndelay,
            received: job.received,
            now,
        };
        let kept = envelope(part);
        let mut entropy = self.delivery.entropy();
        let mut over = Over {
            after: After::Nothing,
            again: Vec::new(),
            account,
        };
        let (mut done, mut changes, mut notices) = (Vec::new(), Vec::new(), Vec::new());
        let each = deliveries
            .into_iter()
            .zip(part.recipients.iter().zip(settled));
        for ((index, progress), (recipient, end)) in each {
            let number = DeliveryNo {
                message: job.message,
                recipient: index,
            };
            self.tell_attempts(&kept, &progress, &end);
            let address = recipient.mailbox.as_str().to_owned();
            let possible = progress.duplicate_possible;
            match retry::next(&progress, &end, &terms, entropy()) {
                Next::Over(ending) => {
                    let outcome = ending.word().to_owned();
                    self.tell(
                        &kept,
                        What::Ended {
                            recipient: address,
                            outcome,
                            reply: end.reply.to_log(),
                            duplicate_possible: possible,
                        },
                    );
                    let at = SystemTime::now();
                    notices.extend(story::of_end(part, recipient, &ending, &end, at));
                    done.push(number);
                }
                Next::Again {
                    mut progress,
                    effect,
                } => {
                    shown(&mut progress, &end);
                    self.tell(
                        &kept,
                        What::Again {
                            recipient: address,
                            state: progress.state,
                            next: progress.next,
                            reply: end.reply.to_log(),
                            duplicate_possible: progress.duplicate_possible,
                        },
                    );
                    over.again.push(BackAgain {
                        recipients: vec![index],
                        due: progress.next,
                        tell: story::tell_at(&progress, job.received),
                        lane: lane::of_settled(&end, &recipient.mailbox.ascii_domain()),
                        end: match effect {
                            Effect::NoRoom { .. } => End::Front,
                            _ => End::Back,
                        },
                    });
                    changes.push(Change::Put(number, progress));
                    over.after = effect.after(over.after, entropy());
                    continue;
                }
            }
            over.after = retry::reached(over.after, &end);
        }
        merge(&mut over.again);
        self.keep(part, &kept, done, changes, notices, &over.account)
            .await;
        over
    }

    /// Brings the outcome of a job to disk: first the notifications that are owed, then that the
    /// deliveries are decided.
    async fn keep(
        &self,
        part: &Submission,
        kept: &galerne_core::queue::Envelope,
        done: Vec<DeliveryNo>,
        mut changes: Vec<Change>,
        notices: Vec<ReportedRecipient>,
        account: &str,
    ) {
        // Without them nothing is decided: the next start tries again.
        if let Err(NotNotified) = self.notify(part, kept, notices).await {
            tracing::error!(id = %kept.id, "a notification is not on disk at the end");
            return;
        }
        let count = done.len() as u64;
        let is_urgent = !changes.is_empty();
        if !done.is_empty() {
            changes.push(Change::Done(done));
        }
        if is_urgent {
            // The store keeps what it could not write; until then it stands in the scheduler.
            if let Err(fault) = self.store.change(changes.clone()).await {
                tracing::error!(%fault, "what became of a message is not on disk yet");
                self.store.change_soon(changes);
            }
        } else if !changes.is_empty() {
            self.store.change_soon(changes);
        }
        if count > 0 {
            self.bounds.remove(account, count);
        }
    }

    fn tell_attempts(
        &self,
        kept: &galerne_core::queue::Envelope,
        progress: &Progress,
        end: &Settled,
    ) {
        for attempt in &end.attempts {
            let said = attempt.reply.as_ref().map(Reply::to_log);
            let said = said.or_else(|| attempt.failure.clone()).unwrap_or_default();
            let qualification = attempt.qualification.as_ref();
            self.tell(
                kept,
                What::Attempt {
                    recipient: end.recipient.as_str().to_owned(),
                    number: progress.attempts + progress.greys + 1,
                    hop: attempt.hop,
                    group: end
                        .group
                        .as_ref()
                        .map_or_else(String::new, |g| g.name.clone()),
                    route: end.route.clone().unwrap_or_default(),
                    outbound: attempt.outbound.address.to_string(),
                    remote: format!("{} [{}]", attempt.remote.host, attempt.remote.address),
                    stage: attempt.stage.word().to_owned(),
                    reply: said,
                    pattern: qualification.and_then(|q| q.pattern.clone()),
                    tls: attempt.tls.clone(),
                    milliseconds: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
                },
            );
        }
    }

    /// The time of some deliveries is over, or an operator ended them: their senders are told.
    pub(super) async fn expire(self: Arc<Self>, expired: Expired) {
        let ready = loop {
            match self
                .ready(expired.message, expired.recipients.as_slice())
                .await
            {
                Ok(Some(ready)) => break ready,
                Ok(None) => return,
                Err(StoreFault::Closed | StoreFault::Damaged(_)) => return,
                Err(_) => sleep(Duration::from_millis(LATER)).await,
            }
        };
        let whole = &ready.submission;
        let kept = envelope(whole);
        let (mut done, mut notices) = (Vec::new(), Vec::new());
        for (index, progress) in &ready.deliveries {
            let Some(recipient) = whole.recipients.get(*index as usize) else {
                continue;
            };
            let (word, reply) = retry::expired(progress, expired.by_operator);
            self.tell(
                &kept,
                What::Ended {
                    recipient: recipient.mailbox.as_str().to_owned(),
                    outcome: word.to_owned(),
                    reply: reply.to_log(),
                    duplicate_possible: progress.duplicate_possible,
                },
            );
            let at = SystemTime::now();
            notices.extend(story::of_expiry(whole, recipient, &reply, at));
            done.push(DeliveryNo {
                message: expired.message,
                recipient: *index,
            });
        }
        let account = whole
            .client
            .account
            .as_ref()
            .map_or("", |a| a.name.as_str())
            .to_owned();
        self.keep(whole, &kept, done, Vec::new(), notices, &account)
            .await;
    }
}

/// What lists show of the last attempt.
fn shown(progress: &mut Progress, end: &Settled) {
    progress.group = end
        .group
        .as_ref()
        .map_or_else(String::new, |group| group.name.clone());
    progress.route = end.route.clone().unwrap_or_default();
    let last = end.attempts.last();
    progress.outbound = last.map_or_else(String::new, |a| a.outbound.address.to_string());
    progress.last_reply = end.reply.to_log();
}

/// Recipients that go on alike go on together.
fn merge(again: &mut Vec<BackAgain>) {
    let mut merged: Vec<BackAgain> = Vec::with_capacity(again.len());
    for back in again.drain(..) {
        let same = merged.iter_mut().find(|other| {
            other.due == back.due
                && other.tell == back.tell
                && other.lane == back.lane
                && other.end == back.end
        });
        match same {
            Some(other) => other.recipients.extend(back.recipients),
            None => merged.push(back),
        }
    }
    *again = merged;
}
