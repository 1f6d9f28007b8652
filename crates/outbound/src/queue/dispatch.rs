//! The task that owns the scheduler: it hears what comes and what has ended, and starts what may
//! start.

use std::sync::Arc;
use std::time::Duration;

use galerne_core::queue::board::{After, Again, Board, End, Entry, Job, Recipients, Start, Ticket};
use galerne_core::queue::{Change, MessageNo, Stored, story};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::operate::Operation;
use super::{Busy, Queue, bounds, domain_of, numbers};

/// Orders taken at a time.
const AT_ONCE: usize = 512;
/// Lanes with a backlog that new mail is told of; with more, none is tried at once.
const MOST_BUSY: usize = 32;
/// How often settings and the disk are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What the dispatcher is told.
pub(super) enum Order {
    /// A message was taken over.
    New {
        message: MessageNo,
        account: String,
        sender: String,
        received: u64,
        jobs: Vec<NewJob>,
    },
    /// These were in the store when it was opened.
    Found(Vec<FoundJob>),
    /// A job has ended.
    Ended(Ended),
    Operate(Operation),
}

/// Deliveries of a message that share a lane.
pub(super) struct NewJob {
    pub lane: String,
    pub recipients: Vec<u32>,
    pub due: u64,
    pub tell: Option<u64>,
    pub held: bool,
}

/// A stored delivery with its lane.
pub(super) struct FoundJob {
    pub stored: Stored,
    pub lane: String,
}

/// How a job ended.
pub(super) struct Ended {
    pub ticket: Ticket,
    pub message: MessageNo,
    pub account: String,
    pub after: After,
    pub again: Vec<BackAgain>,
}

/// Recipients that are tried again.
pub(super) struct BackAgain {
    pub recipients: Vec<u32>,
    pub due: u64,
    pub tell: Option<u64>,
    pub lane: Option<String>,
    pub end: End,
}

/// Runs until the queue is gone.
pub(super) async fn run(queue: Arc<Queue>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut dispatcher = Dispatcher {
        board: Board::new(0),
        queue: Arc::downgrade(&queue),
        running: 0,
        has_full_lanes: false,
    };
    dispatcher.look(&queue);
    let mut stopping = queue.stopping.subscribe();
    drop(queue);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(AT_ONCE);
    loop {
        let Some(wake) = dispatcher.start_all() else {
            return;
        };
        tokio::select! {
            count = orders.recv_many(&mut batch, AT_ONCE) => {
                if count == 0 {
                    return;
                }
                for order in batch.drain(..) {
                    dispatcher.take(order);
                }
            }
            () = until(wake) => {}
            _ = look.tick() => {
                let Some(queue) = dispatcher.queue.upgrade() else { return };
                dispatcher.look(&queue);
            }
            _ = stopping.changed() => {}
        }
    }
}

/// Waits for a moment; for ever without one.
async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

struct Dispatcher {
    board: Board,
    queue: std::sync::Weak<Queue>,
    running: u32,
    /// Some lane holds as much as it may, as new mail was told.
    has_full_lanes: bool,
}

impl Dispatcher {
    /// What may change beside the orders.
    fn look(&mut self, queue: &Queue) {
        // Clients that wait in a session find a place as well.
        let slots = queue.snapshot().rfmta.threadnb;
        let places = (slots - slots / 4).max(1);
        self.board
            .set_places(u32::try_from(places).unwrap_or(u32::MAX));
        let most = bounds::part(queue.snapshot().queue.qmsize);
        self.board.set_most_of_lane(most);
        queue.look_at_the_disk();
    }

    /// New mail is told which lanes are full (QUEUE-9).
    fn tell_full_lanes(&mut self, queue: &Queue) {
        let full = self.board.full_lanes();
        if self.has_full_lanes || !full.is_empty() {
            self.has_full_lanes = !full.is_empty();
            queue.bounds.set_full_lanes(full);
        }
    }

    /// Starts what may start. Gives when to look again; `None`: the queue is gone.
    fn start_all(&mut self) -> Option<Option<Instant>> {
        let queue = self.queue.upgrade()?;
        self.tell_full_lanes(&queue);
        if *queue.stopping.borrow() {
            queue.set_busy(Busy::All);
            return Some(None);
        }
        let now = queue.now();
        while let Some(start) = self.board.next(now) {
            match start {
                Start::Try(job) => self.start(&queue, job),
                Start::Expired(expired) => {
                    tokio::spawn(queue.clone().expire(expired));
                }
                Start::Delayed(delayed) => {
                    tokio::spawn(queue.clone().tell_of_delay(delayed));
                }
            }
        }
        let has_places = u64::from(self.running) * 2 < self.places(&queue);
        let busy = self.board.busy_lanes(MOST_BUSY).filter(|_| has_places);
        queue.set_busy(busy.map_or(Busy::All, Busy::Lanes));
        let wake = self.board.wake_at().map(|moment| {
            let length = moment.saturating_sub(now).max(1);
            Instant::now() + Duration::from_millis(length)
        });
        Some(wake)
    }

    fn places(&self, queue: &Queue) -> u64 {
        queue.snapshot().rfmta.threadnb as u64
    }

    fn start(&mut self, queue: &Arc<Queue>, job: Job) {
        self.running += 1;
        queue.running.send_modify(|running| *running += 1);
        tokio::spawn(queue.clone().work(job));
    }

    fn take(&mut self, order: Order) {
        let Some(queue) = self.queue.upgrade() else {
            return;
        };
        let now = queue.now();
        match order {
            Order::New {
                message,
                account,
                sender,
                received,
                jobs,
            } => {
                let expires = expires(&queue, received);
                for job in jobs {
                    self.board.add(
                        now,
                        Entry {
                            message,
                            recipients: job.recipients.into(),
                            lane: &job.lane,
                            account: &account,
                            sender: &sender,
                            received,
                            due: job.due,
                            expires,
                            tell: job.tell,
                            held: job.held,
                        },
                    );
                }
            }
            Order::Found(found) => found
                .into_iter()
                .for_each(|one| self.found(&queue, now, one)),
            Order::Ended(ended) => self.ended(&queue, now, ended),
            Order::Operate(operation) => operation.run(&queue, &mut self.board, now),
        }
    }

    fn found(&mut self, queue: &Queue, now: u64, FoundJob { stored, lane }: FoundJob) {
        let progress = &stored.progress;
        self.board.add(
            now,
            Entry {
                message: stored.delivery.message,
                recipients: Recipients::One(stored.delivery.recipient),
                lane: &lane,
                account: stored.user.as_deref().unwrap_or(""),
                sender: &domain_of(&stored.sender),
                received: stored.received_at,
                due: progress.next,
                expires: expires(queue, stored.received_at),
                tell: story::tell_at(progress, stored.received_at),
                held: progress.held,
            },
        );
    }

    fn ended(&mut self, queue: &Queue, now: u64, ended: Ended) {
        self.running = self.running.saturating_sub(1);
        let again = ended.again.iter().map(|back| Again {
            recipients: back.recipients.clone().into(),
            due: back.due,
            tell: back.tell,
            lane: back.lane.as_deref(),
            end: back.end,
        });
        let again = again.collect();
        if let Some(wanted) = self.board.done(now, ended.ticket, ended.after, again) {
            // An operator removed them while their job ran.
            if !wanted.removed.is_empty() {
                queue
                    .bounds
                    .remove(&ended.account, wanted.removed.len() as u64);
                let gone = numbers(ended.message, wanted.removed);
                queue.store.change_soon(vec![Change::Done(gone)]);
            }
            // Or held them.
            if !wanted.held.is_empty() {
                let held = numbers(ended.message, wanted.held);
                queue.store.change_soon(vec![Change::Held(held, true)]);
            }
        }
        queue
            .running
            .send_modify(|running| *running = running.saturating_sub(1));
    }
}

/// When a message is too old (QUEUE-11).
fn expires(queue: &Queue, received: u64) -> u64 {
    let age = queue.snapshot().queue.maxage.as_millis();
    received.saturating_add(u64::try_from(age).unwrap_or(u64::MAX))
}
