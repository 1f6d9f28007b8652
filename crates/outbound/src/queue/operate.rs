//! What operators do with the queue while it works (QUEUE-16, QUEUE-18): on disk and in the
//! scheduler, and each call says how many deliveries it touched.

use std::collections::BTreeMap;

use galerne_core::queue::board::{Board, Counts, LaneRow, Rule, RuleNo, Touched};
use galerne_core::queue::{Change, DeliveryNo, Filter, Listed, MessageNo, StoreFault, What};
use tokio::sync::oneshot;

use super::dispatch::Order;
use super::{Queue, numbers};

/// Something to be done where the scheduler is.
pub struct Operation(Box<Act>);

type Act = dyn FnOnce(&Queue, &mut Board, u64) + Send;

impl Operation {
    pub(super) fn new(act: impl FnOnce(&Queue, &mut Board, u64) + Send + 'static) -> Self {
        Operation(Box::new(act))
    }

    pub(super) fn run(self, queue: &Queue, board: &mut Board, now: u64) {
        (self.0)(queue, board, now);
    }
}

/// What is done to deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Due now.
    Retry,
    Hold,
    Release,
    /// Failed: the sender is told.
    Bounce,
    /// Forgotten: nobody is told.
    Delete,
}

impl Verb {
    /// The word of the command.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Retry => "retry",
            Verb::Hold => "hold",
            Verb::Release => "release",
            Verb::Bounce => "bounce",
            Verb::Delete => "delete",
        }
    }
}

/// How the queue stands.
#[derive(Clone, Debug)]
pub struct Status {
    pub counts: Counts,
    /// When the oldest undecided message came, in milliseconds since 1970.
    pub oldest: Option<u64>,
    pub now: u64,
    pub is_ready: bool,
    pub is_loaded: bool,
}

impl Queue {
    /// Does something where the scheduler is. `None`: the queue is closed.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Queue, &mut Board, u64) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let act = move |queue: &Queue, board: &mut Board, now: u64| {
            // Who asked may have gone.
            let _ = sender.send(act(queue, board, now));
        };
        self.order(Order::Operate(Operation::new(act)));
        answer.await.ok()
    }

    /// Deliveries that a filter lets through, the oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(&self, filter: Filter, most: usize) -> Result<Vec<Listed>, StoreFault> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.list(&filter, most)).await;
        read.unwrap_or_else(|error| Err(StoreFault::Broken(error.to_string())))
    }

    /// Does this to deliveries, and gives those that it touched.
    pub(super) async fn act_on(
        &self,
        verb: Verb,
        found: &[Listed],
    ) -> Result<Vec<DeliveryNo>, StoreFault> {
        let mut messages: BTreeMap<MessageNo, Vec<u32>> = BTreeMap::new();
        for listed in found {
            let delivery = listed.stored.delivery;
            messages
                .entry(delivery.message)
                .or_default()
                .push(delivery.recipient);
        }
        let wanted = messages.clone();
        let act = move |_: &Queue, board: &mut Board, now: u64| {
            let touch = |(message, recipients): (MessageNo, Vec<u32>)| {
                let which = Some(recipients.as_slice());
                let touched = match verb {
                    Verb::Retry => board.retry(now, message, which),
                    Verb::Hold => board.hold(now, message, which),
                    Verb::Release => board.release(now, message, which),
                    Verb::Bounce => board.expire(now, message, which),
                    Verb::Delete => board.remove(now, message, which),
                };
                (message, touched)
            };
            wanted
                .into_iter()
                .map(touch)
                .collect::<Vec<(MessageNo, Touched)>>()
        };
        let touched = self.ask(act).await.ok_or(StoreFault::Closed)?;
        self.store_touched(verb, found, &touched).await?;
        let each = touched.iter().flat_map(|(message, touched)| {
            let recipients = touched.now.iter().chain(&touched.later).copied();
            numbers(*message, recipients)
        });
        Ok(each.collect())
    }

    /// Brings to disk what was done, and tells it.
    async fn store_touched(
        &self,
        verb: Verb,
        found: &[Listed],
        touched: &[(MessageNo, Touched)],
    ) -> Result<(), StoreFault> {
        let is_touched = |listed: &&Listed, later: bool| {
            let delivery = listed.stored.delivery;
            let place = touched.binary_search_by_key(&delivery.message, |(message, _)| *message);
            let touched = place.ok().and_then(|place| touched.get(place));
            touched.is_some_and(|(_, touched)| {
                touched.now.contains(&delivery.recipient)
                    || (later && touched.later.contains(&delivery.recipient))
            })
        };
        let (mut changes, mut held) = (Vec::new(), Vec::new());
        for listed in found.iter().filter(|listed| is_touched(listed, true)) {
            self.tell_of(
                listed,
                What::Operator {
                    recipient: listed.stored.recipient.clone(),
                    what: verb.word().to_owned(),
                },
            );
            let now = is_touched(&listed, false);
            let progress = &listed.stored.progress;
            match verb {
                Verb::Hold | Verb::Release if now => held.push(listed.stored.delivery),
                Verb::Delete if now => {
                    let delivery = listed.stored.delivery;
                    self.cache.take(delivery.message, &[delivery.recipient]);
                    let account = listed.stored.user.as_deref().unwrap_or("");
                    self.bounds.remove(account, 1);
                    self.tell_of(
                        listed,
                        What::Ended {
                            recipient: listed.stored.recipient.clone(),
                            outcome: "deleted".to_owned(),
                            reply: String::new(),
                            duplicate_possible: progress.duplicate_possible,
                        },
                    );
                    changes.push(Change::Done(numbers(
                        delivery.message,
                        [delivery.recipient],
                    )));
                }
                _ => {}
            }
        }
        if !held.is_empty() {
            changes.push(Change::Held(held, verb == Verb::Hold));
        }
        match changes.is_empty() {
            true => Ok(()),
            false => self.store.change(changes).await,
        }
    }

    fn tell_of(&self, listed: &Listed, what: What) {
        self.stories.tell(galerne_core::queue::Told {
            at: self.now(),
            id: listed.id.clone(),
            reference: listed.reference.clone(),
            header_id: listed.header_id.clone(),
            what,
        });
    }

    /// How the queue stands; `None`: it is closed.
    pub async fn status(&self) -> Option<Status> {
        self.ask(|queue, board, now| Status {
            counts: board.counts(),
            oldest: board.oldest(),
            now,
            is_ready: queue.store.is_ready(),
            is_loaded: queue.is_loaded.load(std::sync::atomic::Ordering::Relaxed),
        })
        .await
    }

    /// All lanes, and the suspensions in force.
    pub async fn lanes(&self) -> Option<(Vec<LaneRow>, Vec<(RuleNo, Rule)>)> {
        self.ask(|_, board, _| {
            let rules = board.rules().map(|(number, rule)| (number, rule.clone()));
            let rules = rules.collect();
            (board.rows(), rules)
        })
        .await
    }
}
