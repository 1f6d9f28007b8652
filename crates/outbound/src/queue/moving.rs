//! `galerne queue move` (QUEUE-16): deliveries go on by another way. The message is taken over once
//! more with a changed directive, and then its old deliveries are over. There is no moment in which
//! neither is on disk; a crash between the two leaves both, so that a recipient may get the message
//! twice at worst.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use galerne_core::content::Patch;
use galerne_core::directive::OutboundName;
use galerne_core::model::Submission;
use galerne_core::queue::carry::submission;
use galerne_core::queue::moving::{is_followed, moved, progress};
use galerne_core::queue::{
    Change, Envelope, Kept, Listed, MessageNo, NewMessage, Progress, StoreFault, What,
};
use galerne_core::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::dispatch::Order;
use super::selection::{Selection, Touch};
use super::{Queue, domain_of, numbers};
use crate::prepare::asked;

/// Messages that are moved at a time: they share syncs.
const AT_ONCE: usize = 64;
/// Different reasons that are told.
const MOST_REASONS: usize = 10;

/// What became of a move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub touch: Touch,
    /// Deliveries that were under way, or not loaded yet: they stay where they are.
    pub busy: u64,
    /// Deliveries that may not or would not go that way, with why.
    pub refused: BTreeMap<String, u64>,
}

impl Moved {
    fn refuse(&mut self, why: String, count: u64) {
        let has_room = self.refused.len() < MOST_REASONS || self.refused.contains_key(&why);
        let why = if has_room { why } else { "other".to_owned() };
        *self.refused.entry(why).or_default() += count;
    }

    /// Counts another move in.
    pub fn add(&mut self, other: Moved) {
        self.touch.deliveries += other.touch.deliveries;
        self.touch.messages += other.touch.messages;
        self.busy += other.busy;
        for (why, count) in other.refused {
            self.refuse(why, count);
        }
    }
}

/// A message with its new way, and what of it can go there.
struct Prepared {
    envelope: Envelope,
    message: Submission,
    deliveries: Vec<(u32, Progress)>,
}

impl Queue {
    /// Has all deliveries that are meant go on by another way.
    ///
    /// # Errors
    /// The store refused; what was moved until then stays so.
    pub async fn move_all(
        self: &Arc<Self>,
        selection: &Selection,
        way: &[OutboundName],
    ) -> Result<Moved, StoreFault> {
        let way: Arc<[OutboundName]> = way.into();
        let (mut result, mut after) = (Moved::default(), None);
        // What the move itself takes over has higher numbers, and is not moved again.
        let mut end: Option<MessageNo> = None;
        loop {
            let page = self.select(selection, after, usize::MAX).await?;
            let mut messages: BTreeMap<MessageNo, Vec<Listed>> = BTreeMap::new();
            for row in page.rows {
                let number = row.listed.stored.delivery.message;
                messages.entry(number).or_default().push(row.listed);
            }
            if let Some(end) = end {
                messages.retain(|number, _| *number < end);
            }
            let mut jobs = JoinSet::new();
            let mut messages = messages.into_iter();
            loop {
                while jobs.len() < AT_ONCE
                    && let Some((number, listed)) = messages.next()
                {
                    let (queue, way) = (self.clone(), way.clone());
                    jobs.spawn(async move { queue.move_one(number, &listed, &way).await });
                }
                let Some(done) = jobs.join_next().await else {
                    break;
                };
                let (one, new) =
                    done.unwrap_or_else(|error| Err(StoreFault::Broken(error.to_string())))?;
                result.add(one);
                end = [end, new].into_iter().flatten().min();
            }
            after = page
                .next
                .filter(|next| end.is_none_or(|end| next.message < end));
            if after.is_none() {
                return Ok(result);
            }
        }
    }

    /// Moves deliveries of one message; also gives the number that it has now.
    async fn move_one(
        self: Arc<Self>,
        old: MessageNo,
        listed: &[Listed],
        way: &[OutboundName],
    ) -> Result<(Moved, Option<MessageNo>), StoreFault> {
        let wanted: Vec<u32> = listed.iter().map(|l| l.stored.delivery.recipient).collect();
        let all = wanted.len() as u64;
        let take = move |_: &Queue, board: &mut galerne_core::queue::board::Board, now: u64| {
            board.withdraw(now, old, Some(&wanted))
        };
        let taken = self.ask(take).await.ok_or(StoreFault::Closed)?;
        let mut result = Moved {
            busy: all - taken.len() as u64,
            ..Moved::default()
        };
        if taken.is_empty() {
            return Ok((result, None));
        }
        // Nobody else touches them now; they are read as they stand.
        self.cache.take(old, &taken);
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.read(old)).await;
        let read = read.unwrap_or_else(|error| Err(StoreFault::Broken(error.to_string())));
        let mut kept = match read {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok((result, None)),
            Err(fault) => {
                self.put_back_unread(listed, &taken);
                return Err(fault);
            }
        };
        kept.deliveries
            .retain(|(recipient, _)| taken.contains(recipient));
        let snapshot = self.snapshot();
        let prepared = match self.prepare_move(&kept, &snapshot, way, &mut result) {
            Some(prepared) => prepared,
            None => {
                self.put_back(listed, &kept, &snapshot, |_| true);
                return Ok((result, None));
            }
        };
        let goes = |recipient: u32| prepared.deliveries.iter().any(|(r, _)| *r == recipient);
        self.put_back(listed, &kept, &snapshot, |recipient| !goes(recipient));
        let accepted = self.store.accept(NewMessage {
            envelope: Arc::new(prepared.envelope.clone()),
            content: kept.content.clone(),
            patch: Patch::default(),
            deliveries: prepared.deliveries.clone(),
        });
        let new = match accepted.await {
            Ok(new) => new,
            Err(fault) => {
                self.put_back(listed, &kept, &snapshot, goes);
                return Err(fault);
            }
        };
        result.touch.messages = 1;
        result.touch.deliveries = prepared.deliveries.len() as u64;
        self.begin_again(old, new, &prepared, &snapshot).await;
        Ok((result, Some(new)))
    }

    /// What of a message can go the new way; `None`: nothing. The others are refused in `result`.
    fn prepare_move(
        &self,
        kept: &Kept,
        snapshot: &Arc<Snapshot>,
        way: &[OutboundName],
        result: &mut Moved,
    ) -> Option<Prepared> {
        let made = moved(&kept.envelope, way).and_then(|envelope| {
            let content = kept.content.clone();
            let message = submission(&envelope, content, snapshot, Instant::now())?;
            Ok((envelope, message))
        });
        let (envelope, message) = match made {
            Ok(made) => made,
            Err(why) => {
                result.refuse(why, kept.deliveries.len() as u64);
                return None;
            }
        };
        let now = self.now();
        let mut deliveries = Vec::new();
        let asked = asked(&message, None);
        for (index, before) in &kept.deliveries {
            let Some(recipient) = message.recipients.get(*index as usize) else {
                continue;
            };
            match is_followed(snapshot, &asked, &recipient.mailbox, way) {
                Ok(()) => deliveries.push((*index, progress(before, now))),
                Err(why) => result.refuse(why, 1),
            }
        }
        (!deliveries.is_empty()).then_some(Prepared {
            envelope,
            message,
            deliveries,
        })
    }

    /// The new message is on disk: the scheduler hears of it, and the old deliveries are over.
    async fn begin_again(
        &self,
        old: MessageNo,
        new: MessageNo,
        prepared: &Prepared,
        snapshot: &Arc<Snapshot>,
    ) {
        for (index, _) in &prepared.deliveries {
            if let Some(recipient) = prepared.envelope.recipients.get(*index as usize) {
                self.tell(
                    &prepared.envelope,
                    What::Operator {
                        recipient: recipient.address.clone(),
                        what: "move".to_owned(),
                    },
                );
            }
        }
        let recipients = prepared.deliveries.iter().map(|(index, _)| *index);
        let over = vec![Change::Done(numbers(old, recipients))];
        if let Err(fault) = self.store.change(over.clone()).await {
            tracing::error!(%fault, id = %prepared.envelope.id, "a moved message is on disk twice for now");
            self.store.change_soon(over);
        }
        self.schedule(
            new,
            &prepared.message,
            snapshot,
            &prepared.envelope,
            &prepared.deliveries,
        );
    }

    fn schedule(
        &self,
        number: MessageNo,
        message: &Submission,
        snapshot: &Arc<Snapshot>,
        envelope: &Envelope,
        deliveries: &[(u32, Progress)],
    ) {
        self.order(Order::New {
            message: number,
            account: envelope.user.clone().unwrap_or_default(),
            sender: domain_of(&envelope.sender),
            received: envelope.received_at,
            jobs: self.jobs(message, snapshot, deliveries),
        });
    }

    /// Some deliveries of a message were not moved: the scheduler has them again.
    fn put_back(
        &self,
        listed: &[Listed],
        kept: &Kept,
        snapshot: &Arc<Snapshot>,
        which: impl Fn(u32) -> bool,
    ) {
        let back = kept
            .deliveries
            .iter()
            .filter(|(recipient, _)| which(*recipient));
        let back: Vec<(u32, Progress)> = back.cloned().collect();
        let Some(of_it) = listed.first().filter(|_| !back.is_empty()) else {
            return;
        };
        let number = of_it.stored.delivery.message;
        let content = kept.content.clone();
        match submission(&kept.envelope, content, snapshot, Instant::now()) {
            Ok(message) => self.schedule(number, &message, snapshot, &kept.envelope, &back),
            // It is set aside when its time has come.
            Err(why) => {
                tracing::error!(id = %kept.envelope.id, %why, "a message of the queue is damaged");
                let taken: Vec<u32> = back.iter().map(|(recipient, _)| *recipient).collect();
                self.put_back_unread(listed, &taken);
            }
        }
    }

    /// The same where the message could not be read.
    fn put_back_unread(&self, listed: &[Listed], taken: &[u32]) {
        let snapshot = self.snapshot();
        let back = listed
            .iter()
            .filter(|l| taken.contains(&l.stored.delivery.recipient));
        let found = back.map(|listed| super::loading::found(&snapshot, listed.stored.clone()));
        self.order(Order::Found(found.collect()));
    }
}
