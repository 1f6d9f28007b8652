//! The durable queue at work: messages are taken over, and tried until each of their deliveries is
//! decided (QUEUE-2 to QUEUE-18). What is decided is decided in `galerne_core::queue`.

mod bounds;
mod cache;
mod dispatch;
mod loading;
mod moving;
mod notices;
pub mod operate;
mod post;
pub mod selection;
mod suspended;
mod work;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

use galerne_core::directive::Directive;
use galerne_core::model::{Reply, Submission};
use galerne_core::plan::mode;
use galerne_core::queue::carry::{envelope, milliseconds};
use galerne_core::queue::lane;
use galerne_core::queue::{
    Change, DeliveryNo, MessageNo, NewMessage, Progress, QueueStore, State, StoreFault, Stories,
    Told, What, story,
};
use galerne_core::refusal::Refusal;
use galerne_core::settings::{Account, Mode};
use galerne_core::snapshot::Snapshot;
use tokio::sync::{mpsc, watch};

use crate::delivery::Delivery;
use crate::prepare::asked;
use bounds::Bounds;
use cache::Cache;
use dispatch::Order;
pub use moving::Moved;
pub use post::Post;
pub use selection::{Look, Page, Selected, Selection, Touch};
pub use suspended::NotSuspended;
use suspended::Suspended;

/// What the queue needs of the rest of the house.
pub struct QueueWorld {
    pub store: Arc<dyn QueueStore>,
    pub stories: Arc<dyn Stories>,
    pub delivery: Arc<Delivery>,
    pub snapshot: Arc<Snapshot>,
    /// Free octets of the disk.
    pub free: Box<dyn Fn() -> io::Result<u64> + Send + Sync>,
    /// Where suspensions are kept: `system/suspended.json`.
    pub suspended: PathBuf,
}

/// The queue of this process.
pub struct Queue {
    store: Arc<dyn QueueStore>,
    stories: Arc<dyn Stories>,
    delivery: Arc<Delivery>,
    snapshot: RwLock<Arc<Snapshot>>,
    free: Box<dyn Fn() -> io::Result<u64> + Send + Sync>,
    orders: mpsc::UnboundedSender<Order>,
    bounds: Bounds,
    cache: Cache,
    suspended: Suspended,
    /// Suspensions change one after the other, each on disk before the next.
    suspending: tokio::sync::Mutex<()>,
    /// Where a message that comes now is not tried at once.
    busy: RwLock<Busy>,
    /// Everything that was stored is in the scheduler.
    is_loaded: AtomicBool,
    /// Nothing more is started.
    stopping: watch::Sender<bool>,
    /// Jobs under way.
    running: watch::Sender<usize>,
}

/// Where nothing starts at once.
#[derive(Debug, PartialEq, Eq)]
enum Busy {
    All,
    /// In these lanes, others are ready and wait.
    Lanes(Vec<Arc<str>>),
}

impl Queue {
    /// Opens the queue and begins to deliver what is in it. Needs a runtime.
    pub fn open(world: QueueWorld) -> Arc<Queue> {
        let (orders, received) = mpsc::unbounded_channel();
        let queue = Arc::new(Queue {
            store: world.store,
            stories: world.stories,
            delivery: world.delivery,
            snapshot: RwLock::new(world.snapshot),
            free: world.free,
            orders,
            bounds: Bounds::default(),
            cache: Cache::default(),
            suspended: Suspended::new(world.suspended),
            suspending: tokio::sync::Mutex::default(),
            busy: RwLock::new(Busy::All),
            is_loaded: AtomicBool::new(false),
            stopping: watch::channel(false).0,
            running: watch::channel(0).0,
        });
        queue.delivery.join(&queue);
        queue.look_at_the_disk();
        // The first that the dispatcher hears: nothing starts before.
        queue.suspend_again();
        tokio::spawn(dispatch::run(queue.clone(), received));
        tokio::spawn(loading::load(queue.clone()));
        queue
    }

    /// New settings came into force.
    pub fn renew(&self, snapshot: Arc<Snapshot>) {
        *self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let snapshot = self.snapshot.read();
        snapshot.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Milliseconds since 1970, never going back.
    fn now(&self) -> u64 {
        self.delivery.pace.now().0
    }

    /// Whether messages can be taken over now (readiness).
    pub fn is_ready(&self) -> bool {
        self.store.is_ready()
    }

    /// Deliveries that are not decided.
    pub fn total(&self) -> u64 {
        self.bounds.total()
    }

    /// Why mail of the account is not taken over now, before its content comes (QUEUE-9).
    ///
    /// # Errors
    /// 452 4.3.1.
    pub fn may_come(&self, account: Option<&Account>) -> Result<(), Refusal> {
        let snapshot = self.snapshot();
        if mode(&snapshot, account, &Directive::default()) == Mode::Sync {
            return Ok(());
        }
        let name = account.map_or("", |account| &account.name);
        self.bounds.may_take(name, snapshot.queue.qmsize)
    }

    /// Takes the undecided recipients of a message over. On stable storage when it returns.
    ///
    /// # Errors
    /// It was not taken over: a temporary failure.
    pub async fn take(
        &self,
        submission: &Arc<Submission>,
        undecided: Vec<(u32, Progress)>,
    ) -> Result<MessageNo, Refusal> {
        let snapshot = self.snapshot();
        let account = submission.client.account.as_ref();
        let account = account.map_or("", |account| account.name.as_str());
        // What we have to tell ourselves finds room: it is in place of a message that was there.
        let is_bounded = !submission.is_dsn;
        if is_bounded {
            self.bounds.may_take(account, snapshot.queue.qmsize)?;
        }
        let mut deliveries = undecided;
        let now = self.now();
        for (index, progress) in &mut deliveries {
            let recipient = submission.recipients.get(*index as usize);
            progress.delay_told |= !recipient.is_some_and(|r| story::wants_delay(submission, r));
        }
        let jobs = self.jobs(submission, &snapshot, &deliveries);
        if is_bounded {
            let lanes = jobs.iter().map(|job| job.lane.as_str());
            self.bounds.may_take_for(lanes)?;
        }
        // Who is tried at once is marked at once: one sync less (QUEUE-6). And the group is listed
        // before the first attempt, too, as far as it is known (QUEUE-16).
        let mut at_once = false;
        for job in &jobs {
            let is_free = !self.is_busy(&job.lane);
            at_once |= is_free;
            let group = lane::group_of(&job.lane);
            // In the order of the deliveries.
            let mut of_job = job.recipients.iter().peekable();
            for (index, progress) in &mut deliveries {
                if of_job.next_if(|wanted| **wanted == *index).is_none() {
                    continue;
                }
                progress.handed =
                    is_free && progress.next <= now && progress.state != State::Unknown;
                if let Some(group) = group {
                    group.clone_into(&mut progress.group);
                }
            }
        }
        let envelope = Arc::new(envelope(submission));
        let message = NewMessage {
            envelope: envelope.clone(),
            content: submission.content.clone(),
            patch: submission.patch.clone(),
            deliveries: deliveries.clone(),
        };
        let count = deliveries.len() as u64;
        self.bounds.add(account, count);
        let number = match self.store.accept(message).await {
            Ok(number) => number,
            Err(fault) => {
                self.bounds.remove(account, count);
                return Err(not_stored(submission, &fault));
            }
        };
        self.tell(
            &envelope,
            What::Received {
                user: envelope.user.clone(),
                peer: envelope.peer.ip().to_string(),
                sender: envelope.sender.clone(),
                recipients: envelope
                    .recipients
                    .iter()
                    .map(|r| r.address.clone())
                    .collect(),
                size: submission.content.len(),
                mode: match (submission.is_dsn, submission.mode) {
                    (true, _) => "dsn",
                    (false, Mode::Auto) => "auto",
                    (false, _) => "queue",
                }
                .to_owned(),
            },
        );
        self.cache.put(number, submission, deliveries, at_once);
        let order = Order::New {
            message: number,
            account: account.to_owned(),
            sender: domain_of(envelope.sender.as_str()).to_owned(),
            received: envelope.received_at,
            jobs,
        };
        self.order(order);
        Ok(number)
    }

    /// Takes over what we have to tell ourselves.
    ///
    /// # Errors
    /// As `take`.
    pub(crate) async fn take_ours(&self, message: &Arc<Submission>) -> Result<(), Refusal> {
        let progress = Progress {
            next: self.now(),
            ..Progress::default()
        };
        self.take(message, vec![(0, progress)]).await.map(|_| ())
    }

    /// The deliveries of a message by lane and moment.
    fn jobs(
        &self,
        submission: &Submission,
        snapshot: &Snapshot,
        deliveries: &[(u32, Progress)],
    ) -> Vec<dispatch::NewJob> {
        let mut jobs: Vec<dispatch::NewJob> = Vec::with_capacity(1);
        let asked = asked(submission, None);
        for (index, progress) in deliveries {
            let recipient = submission.recipients.get(*index as usize);
            let Some(recipient) = recipient else { continue };
            let domain = recipient.mailbox.ascii_domain();
            let lane = lane::lane(snapshot, &asked, &domain);
            let tell = story::tell_at(progress, milliseconds(submission.received_at));
            let same = jobs
                .iter_mut()
                .find(|job| job.lane == lane && job.due == progress.next && job.tell == tell);
            match same {
                Some(job) => job.recipients.push(*index),
                None => jobs.push(dispatch::NewJob {
                    lane,
                    recipients: vec![*index],
                    due: progress.next,
                    tell,
                    held: progress.held,
                }),
            }
        }
        jobs
    }

    fn set_busy(&self, busy: Busy) {
        if *self.busy.read().unwrap_or_else(PoisonError::into_inner) != busy {
            *self.busy.write().unwrap_or_else(PoisonError::into_inner) = busy;
        }
    }

    fn is_busy(&self, lane: &str) -> bool {
        match &*self.busy.read().unwrap_or_else(PoisonError::into_inner) {
            Busy::All => true,
            Busy::Lanes(lanes) => lanes.iter().any(|busy| **busy == *lane),
        }
    }

    fn tell(&self, envelope: &galerne_core::queue::Envelope, what: What) {
        self.stories.tell(Told {
            at: self.now(),
            id: envelope.id.clone(),
            reference: envelope.reference.clone(),
            header_id: envelope.header_id.clone(),
            what,
        });
    }

    fn order(&self, order: Order) {
        // The dispatcher ends after everything else.
        let _ = self.orders.send(order);
    }

    /// Whether the disk has the space that it must have.
    fn look_at_the_disk(&self) {
        match (self.free)() {
            Ok(free) => self.bounds.set_space(free >= self.snapshot().queue.minfree),
            Err(error) => tracing::error!(%error, "the free space of the queue's disk is unknown"),
        }
    }

    /// Starts nothing more, and returns when nothing is under way (QUEUE-19).
    pub async fn quiet(&self) {
        self.stopping.send_replace(true);
        let mut running = self.running.subscribe();
        let _ = running.wait_for(|running| *running == 0).await;
    }

    /// Brings everything to disk. Waits for it: not for a network thread.
    pub fn close(&self) {
        self.stopping.send_replace(true);
        // Who was to be tried at once and was not, waits as everybody else does.
        let mut changes = Vec::new();
        for (message, cached) in self.cache.drain() {
            for (recipient, progress) in cached.deliveries {
                if progress.handed {
                    let number = DeliveryNo { message, recipient };
                    let handed = false;
                    changes.push(Change::Put(number, Progress { handed, ..progress }));
                }
            }
        }
        if !changes.is_empty() {
            self.store.change_soon(changes);
        }
        self.store.close();
    }
}

/// The answer to a message that was taken over.
pub fn queued(id: &str) -> Reply {
    Reply::new(250, format!("2.0.0 queued as {id}"))
}

fn not_stored(submission: &Submission, fault: &StoreFault) -> Refusal {
    let id = &submission.message_id;
    tracing::error!(message_id = %id, %fault, "a message was not taken over");
    match fault {
        StoreFault::Full => Refusal::standard(452, "4.3.1 insufficient system storage", "QUEUE-9"),
        StoreFault::Broken(_) | StoreFault::Damaged(_) | StoreFault::Closed => not_written(id),
    }
}

fn not_written(id: &str) -> Refusal {
    let text = format!("4.3.0 the queue cannot be written, id {id}");
    Refusal::standard(451, text, "QUEUE-8")
}

/// The domain of an address, lower case; empty for the null sender.
fn domain_of(address: &str) -> String {
    let (_, domain) = address.rsplit_once('@').unwrap_or(("", ""));
    domain.to_ascii_lowercase()
}

/// The deliveries of a message.
fn numbers(message: MessageNo, recipients: impl IntoIterator<Item = u32>) -> Vec<DeliveryNo> {
    let number = |recipient| DeliveryNo { message, recipient };
    recipients.into_iter().map(number).collect()
}

/// A moment of the wall clock as the queue counts it.
fn at(moment: std::time::SystemTime) -> u64 {
    milliseconds(moment)
}
