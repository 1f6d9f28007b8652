//! In-session delivery: the `DeliverNow` of the house. One message, all its recipients, until each
//! has its outcome (RELAY-1, RELAY-60 to RELAY-72).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use galerne_core::bundle::{self, Planned};
use galerne_core::model::{Answer, Settled, Submission};
use galerne_core::ports::{BoxFuture, DeliverNow, EventSink, GroupBook, Lists};
use galerne_core::routes::{self, Draw};
use galerne_dns::Resolver;
use galerne_store::PolicyStore;
use tokio::sync::Semaphore;

use crate::attempt::Tools;
use crate::bundle::run_bundle;
use crate::cancel::{Cancel, Cancelled};
use crate::dial::Dial;
use crate::memory::Addresses;
use crate::pace::Pace;
use crate::pool::Pool;
use crate::prepare::{Prepared, Unprepared, prepare};
use crate::queue::Queue;
use crate::seal::{Sealer, Seals};
use crate::settle;
use crate::slots::Slots;
use crate::sts::Policies;
use crate::tls::ClientTls;
use crate::tls_counts::TlsCounts;

/// What changes with the settings.
#[derive(Clone)]
pub struct Edge {
    pub resolver: Arc<dyn Resolver>,
    pub tls: ClientTls,
    /// `[rfmta]threadnb`.
    pub slots: usize,
    /// `[rfmta]idle`.
    pub idle: Duration,
}

/// What a delivery needs of the rest of the house.
pub struct World {
    pub dial: Box<dyn Dial>,
    pub lists: Arc<dyn Lists>,
    pub book: Arc<dyn GroupBook>,
    pub events: Arc<dyn EventSink>,
    /// MTA-STS policies that were fetched.
    pub policies: Arc<PolicyStore>,
    /// Flow control.
    pub pace: Arc<Pace>,
    /// The route table.
    pub routes: Arc<routes::Live>,
    /// Secret of the tags in generated return addresses (RET-13).
    pub verp_secret: Vec<u8>,
}

/// The exit. One per process.
pub struct Delivery {
    pub(crate) tools: Tools,
    pub(crate) lists: Arc<dyn Lists>,
    pub(crate) book: Arc<dyn GroupBook>,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) verp_secret: Vec<u8>,
    pub(crate) timed_out: Addresses,
    pub(crate) policies: Arc<Policies>,
    pub(crate) routes: Arc<routes::Live>,
    pub(crate) slots: Slots,
    give_up: Cancel,
    edge: RwLock<Edge>,
    rotation: AtomicUsize,
    pub(crate) sealer: Sealer,
    pub(crate) pace: Arc<Pace>,
    /// Takes over what we owe; none: it is delivered at once.
    queue: OnceLock<Weak<Queue>>,
    /// Places for what is delivered beside any session.
    beside: Arc<Semaphore>,
    shared: Weak<Delivery>,
}

/// Notifications delivered beside any session at a time. Each takes a slot like any delivery.
const BESIDE: u32 = 16;

impl Delivery {
    /// Ready to deliver. The caller spawns `Pool::sweep` for `pool()`.
    pub fn new(world: World, edge: Edge) -> Arc<Self> {
        let (give_up, given_up) = Cancel::new();
        let (dial, counts) = (
            Arc::<dyn Dial>::from(world.dial),
            Arc::<TlsCounts>::default(),
        );
        let policies = Policies::new(world.policies, dial.clone(), counts.clone());
        Arc::new_cyclic(|shared| Delivery {
            tools: Tools {
                dial,
                pool: Arc::default(),
                broken_tls: Addresses::broken_tls(),
                counts,
                given_up,
            },
            give_up,
            lists: world.lists,
            book: world.book,
            events: world.events,
            verp_secret: world.verp_secret,
            timed_out: Addresses::timed_out(),
            policies,
            routes: world.routes,
            slots: Slots::new(edge.slots),
            edge: RwLock::new(edge),
            rotation: AtomicUsize::new(0),
            sealer: Sealer::default(),
            pace: world.pace,
            queue: OnceLock::new(),
            beside: Arc::new(Semaphore::new(BESIDE as usize)),
            shared: shared.clone(),
        })
    }

    /// Itself, for what goes on when a session has its answer.
    pub(crate) fn shared(&self) -> Option<Arc<Delivery>> {
        self.shared.upgrade()
    }

    /// From now on the queue takes over what is owed: notifications.
    pub(crate) fn join(&self, queue: &Arc<Queue>) {
        // There is one queue in a house.
        let _ = self.queue.set(Arc::downgrade(queue));
    }

    /// The queue, if there is one.
    pub(crate) fn queue(&self) -> Option<Arc<Queue>> {
        self.queue.get()?.upgrade()
    }

    /// The places beside the sessions.
    pub(crate) fn beside(&self) -> Arc<Semaphore> {
        self.beside.clone()
    }

    /// Resolves when nothing is delivered beside the sessions.
    pub async fn quiet(&self) {
        let _ = self.beside.acquire_many(BESIDE).await;
    }

    /// Flow control.
    pub fn pace(&self) -> Arc<Pace> {
        self.pace.clone()
    }

    /// The idle sessions.
    pub fn pool(&self) -> Arc<Pool> {
        self.tools.pool.clone()
    }

    /// How often TLS came about, and why not.
    pub fn tls_counts(&self) -> Arc<TlsCounts> {
        self.tools.counts.clone()
    }

    /// What is in force now.
    pub fn edge(&self) -> Edge {
        self.edge
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// New settings came into force. Attempts under way go on as they began.
    pub fn renew(&self, edge: Edge) {
        let mut current = self.edge.write().unwrap_or_else(PoisonError::into_inner);
        self.slots.resize(current.slots, edge.slots);
        *current = edge;
    }

    /// The time for a stop is over (QUEUE-19): what has not sent its final dot is aborted, the
    /// outcome of what has is unknown and recorded so.
    pub fn give_up(&self) {
        self.give_up.cancel();
    }

    /// A number that grows by one each time: the rotation of outbounds until flow control exists.
    pub(crate) fn turn(&self) -> usize {
        self.rotation.fetch_add(1, Ordering::Relaxed)
    }

    /// Numbers for the order of equal MX hosts. Not secret, only spread.
    pub(crate) fn entropy(&self) -> impl FnMut() -> u64 + Send + use<> {
        let mut state = RandomState::new().build_hasher().finish() | 1;
        move || {
            // xorshift64*
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }
    }

    /// Tries until every recipient has its outcome, or the client has gone or the program stops.
    pub(crate) async fn try_all(
        &self,
        submission: &Submission,
        mut client_gone: BoxFuture<'_, ()>,
    ) -> Vec<Settled> {
        let (cancel, cancelled) = Cancel::new();
        let work = self.deliver_all(submission, cancelled);
        tokio::pin!(work);
        let mut given_up = self.tools.given_up.clone();
        tokio::select! {
            biased;
            settled = &mut work => settled,
            () = &mut client_gone => {
                cancel.cancel();
                work.await
            }
            () = given_up.wait() => {
                cancel.cancel();
                work.await
            }
        }
    }

    /// All recipients, each until its outcome.
    async fn deliver_all(&self, submission: &Submission, mut cancelled: Cancelled) -> Vec<Settled> {
        let count = submission.recipients.len();
        let found = tokio::select! {
            biased;
            found = self.prepare_all(submission) => found,
            () = cancelled.wait() => return (0..count).map(|i| settle::cancelled(submission, i)).collect(),
        };
        let mut settled: Vec<Option<Settled>> = (0..count).map(|_| None).collect();
        let mut ready: Vec<(usize, Arc<Prepared>)> = Vec::with_capacity(count);
        for (index, result) in found.into_iter().enumerate() {
            match (result, settled.get_mut(index)) {
                (Ok(prepared), _) => ready.push((index, prepared)),
                (Err(why), Some(place)) => {
                    *place = Some(settle::unprepared(submission, index, &why))
                }
                (Err(_), None) => {}
            }
        }
        let planned: Vec<Planned<'_>> = ready
            .iter()
            .map(|(_, p)| Planned {
                plans: &p.plans,
                exchangers: &p.exchangers,
            })
            .collect();
        let seals = Seals::default();
        let mut bundles = bundle::bundles(&planned).into_iter().map(|members| {
            let members = members.into_iter().filter_map(|i| ready.get(i).cloned());
            members.collect::<Vec<_>>()
        });
        let ends = match (bundles.next(), bundles.len()) {
            (None, _) => Vec::new(),
            // One for itself needs no list of futures.
            (Some(only), 0) => run_bundle((self, &seals), submission, only, cancelled).await,
            (Some(first), _) => {
                let run = |members| {
                    let cancelled = cancelled.clone();
                    Box::pin(run_bundle((self, &seals), submission, members, cancelled))
                };
                let ends = join_all(std::iter::once(first).chain(bundles).map(run)).await;
                ends.into_iter().flatten().collect()
            }
        };
        for (index, end) in ends {
            if let Some(place) = settled.get_mut(index) {
                *place = Some(end);
            }
        }
        let each = settled.into_iter().enumerate();
        each.map(|(index, end)| end.unwrap_or_else(|| settle::internal_error(submission, index)))
            .collect()
    }

    /// What is decided before the first attempt, for each recipient; once for each domain.
    async fn prepare_all(
        &self,
        submission: &Submission,
    ) -> Vec<Result<Arc<Prepared>, Arc<Unprepared>>> {
        let routes = Draw::new(self.routes.now());
        if let [only] = &*submission.recipients {
            let domain = only.mailbox.ascii_domain();
            let found = prepare(self, submission, &routes, &domain).await;
            return vec![found.map(Arc::new).map_err(Arc::new)];
        }
        let domains: Vec<String> = submission
            .recipients
            .iter()
            .map(|r| r.mailbox.ascii_domain().into_owned())
            .collect();
        let mut different: Vec<&str> = domains.iter().map(String::as_str).collect();
        different.sort_unstable();
        different.dedup();
        let found = join_all(
            different
                .iter()
                .map(|domain| prepare(self, submission, &routes, domain)),
        )
        .await;
        let found: Vec<_> = found
            .into_iter()
            .map(|f| f.map(Arc::new).map_err(Arc::new))
            .collect();
        let of_domain = |domain: &String| {
            let place = different.binary_search(&domain.as_str()).ok()?;
            found.get(place).cloned()
        };
        domains.iter().filter_map(of_domain).collect()
    }
}

impl DeliverNow for Delivery {
    fn deliver<'a>(
        &'a self,
        submission: Arc<Submission>,
        client_gone: BoxFuture<'a, ()>,
    ) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let settled = self.try_all(&submission, client_gone).await;
            settle::settle(self, &submission, settled).await
        })
    }
}
