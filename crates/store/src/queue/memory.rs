//! The queue in memory: the reference for the one on disk, and for tests and the demo. Nothing
//! outlives the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use galerne_core::content::{Content, Patch, kept};
use galerne_core::ports::BoxFuture;
use galerne_core::queue::{
    self, Amount, Change, Damage, DeliveryNo, Envelope, Filter, Listed, MessageNo, NewMessage,
    Place, Progress, QueueStore, StoreFault, Stored,
};

use super::filter;

/// Messages by number.
#[derive(Default)]
pub struct MemoryQueue(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    last: u64,
    messages: BTreeMap<MessageNo, Message>,
    deliveries: u64,
    closed: bool,
}

struct Message {
    envelope: Arc<Envelope>,
    content: Content,
    undecided: BTreeMap<u32, Progress>,
}

impl MemoryQueue {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.0)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn take(&mut self, message: NewMessage) -> Result<MessageNo, StoreFault> {
        if self.closed {
            return Err(StoreFault::Closed);
        }
        self.last += 1;
        let number = MessageNo(self.last);
        self.deliveries += message.deliveries.len() as u64;
        let stored = Message {
            content: patched(&message.content, &message.patch),
            envelope: message.envelope,
            undecided: message.deliveries.into_iter().collect(),
        };
        self.messages.insert(number, stored);
        Ok(number)
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(delivery, progress) => {
                if let Some(kept) = self.progress(delivery) {
                    *kept = progress;
                }
            }
            Change::Handed(deliveries) => {
                for delivery in deliveries {
                    if let Some(kept) = self.progress(delivery) {
                        kept.handed = true;
                    }
                }
            }
            Change::Held(deliveries, held) => {
                for delivery in deliveries {
                    if let Some(kept) = self.progress(delivery) {
                        kept.held = held;
                    }
                }
            }
            Change::DelayTold(deliveries) => {
                for delivery in deliveries {
                    if let Some(kept) = self.progress(delivery) {
                        kept.delay_told = true;
                    }
                }
            }
            Change::Done(deliveries) => {
                for delivery in deliveries {
                    self.decide(delivery);
                }
            }
        }
    }

    fn progress(&mut self, delivery: DeliveryNo) -> Option<&mut Progress> {
        let message = self.messages.get_mut(&delivery.message)?;
        message.undecided.get_mut(&delivery.recipient)
    }

    fn decide(&mut self, delivery: DeliveryNo) {
        let Some(message) = self.messages.get_mut(&delivery.message) else {
            return;
        };
        if message.undecided.remove(&delivery.recipient).is_some() {
            self.deliveries -= 1;
        }
        if message.undecided.is_empty() {
            self.messages.remove(&delivery.message);
        }
    }

    fn all(&self) -> impl Iterator<Item = Listed> {
        self.messages.iter().flat_map(|(&number, message)| {
            message
                .undecided
                .iter()
                .map(move |(&recipient, progress)| message.listed(number, recipient, progress))
        })
    }
}

impl Message {
    fn listed(&self, message: MessageNo, recipient: u32, progress: &Progress) -> Listed {
        let envelope = &self.envelope;
        let address = envelope.recipients.get(recipient as usize);
        Listed {
            stored: Stored {
                delivery: DeliveryNo { message, recipient },
                recipient: address.map(|r| r.address.clone()).unwrap_or_default(),
                user: envelope.user.clone(),
                sender: envelope.sender.clone(),
                received_at: envelope.received_at,
                progress: progress.clone(),
            },
            id: envelope.id.clone(),
            reference: envelope.reference.clone(),
            tags: envelope.tags.clone(),
            header_id: envelope.header_id.clone(),
            size: self.content.len(),
        }
    }
}

/// What the recipients are to have: the patch made.
fn patched(content: &Content, patch: &Patch) -> Content {
    let mut memory = patch.prefix.clone();
    for range in kept(content.memory.len(), &patch.cuts) {
        memory.extend_from_slice(content.memory.get(range).unwrap_or_default());
    }
    Content {
        memory: Arc::new(memory),
        spill: content.spill.clone(),
    }
}

impl QueueStore for MemoryQueue {
    fn accept(&self, message: NewMessage) -> BoxFuture<'static, Result<MessageNo, StoreFault>> {
        let kept = self.0.clone();
        Box::pin(async move { lock(&kept).take(message) })
    }

    fn change(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), StoreFault>> {
        let closed = self.kept().closed;
        if !closed {
            self.change_soon(changes);
        }
        Box::pin(std::future::ready(match closed {
            true => Err(StoreFault::Closed),
            false => Ok(()),
        }))
    }

    fn change_soon(&self, changes: Vec<Change>) {
        let mut kept = self.kept();
        if !kept.closed {
            changes.into_iter().for_each(|change| kept.apply(change));
        }
    }

    fn opened_at(&self) -> MessageNo {
        MessageNo(0)
    }

    fn page(&self, after: Option<Place>, most: usize) -> Result<Vec<Stored>, StoreFault> {
        let place = |stored: &Stored| Place {
            next: stored.progress.next,
            delivery: stored.delivery,
        };
        let mut found: Vec<_> = self
            .kept()
            .all()
            .map(|listed| listed.stored)
            .filter(|stored| after.is_none_or(|after| place(stored) > after))
            .collect();
        found.sort_by_key(place);
        found.truncate(most);
        Ok(found)
    }

    fn read(&self, message: MessageNo) -> Result<Option<queue::Kept>, StoreFault> {
        let kept = self.kept();
        let found = kept.messages.get(&message);
        Ok(found.map(|m| queue::Kept {
            envelope: Envelope::clone(&m.envelope),
            content: m.content.clone(),
            deliveries: m.undecided.iter().map(|(&n, p)| (n, p.clone())).collect(),
        }))
    }

    fn list(&self, wanted: &Filter, most: usize) -> Result<Vec<Listed>, StoreFault> {
        let kept = self.kept();
        let found = kept.all().filter(|listed| filter::matches(wanted, listed));
        Ok(found.take(most).collect())
    }

    fn amount(&self) -> Amount {
        let kept = self.kept();
        Amount {
            messages: kept.messages.len() as u64,
            deliveries: kept.deliveries,
        }
    }

    fn is_ready(&self) -> bool {
        !self.kept().closed
    }

    fn quarantine(&self, message: MessageNo, _why: &str) -> Result<(), StoreFault> {
        let mut kept = self.kept();
        if let Some(gone) = kept.messages.remove(&message) {
            kept.deliveries -= gone.undecided.len() as u64;
        }
        Ok(())
    }

    fn check(&self, _repair: bool) -> Result<Vec<Damage>, StoreFault> {
        Ok(Vec::new())
    }

    fn close(&self) {
        self.kept().closed = true;
    }
}
