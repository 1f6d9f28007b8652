//! What was in the store when it was opened goes to the scheduler page by page, while new mail is
//! taken already (QUEUE-10).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use galerne_core::queue::recover::after_crash;
use galerne_core::queue::{Change, DeliveryNo, Place, Stored, What, lane};
use galerne_core::snapshot::Snapshot;
use galerne_smtp::Mailbox;

use super::Queue;
use super::dispatch::{FoundJob, Order};

/// Deliveries of one page.
const PAGE: usize = 10_000;
/// Pause after a page that could not be read.
const PAUSE: Duration = Duration::from_secs(5);

/// Reads everything, the earliest first.
pub(super) async fn load(queue: Arc<Queue>) {
    let last = queue.store.opened_at();
    let mut after: Option<Place> = None;
    // What is tried meanwhile gets another moment, and may come again.
    let mut seen: HashSet<DeliveryNo> = HashSet::new();
    loop {
        let store = queue.store.clone();
        let read = tokio::task::spawn_blocking(move || store.page(after, PAGE)).await;
        let page = match read {
            Ok(Ok(page)) => page,
            Ok(Err(galerne_core::queue::StoreFault::Closed)) => return,
            Ok(Err(fault)) => {
                tracing::error!(%fault, "the queue cannot be read; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(_) => return tracing::error!("reading the queue failed unexpectedly"),
        };
        let Some(end) = page.last() else { break };
        after = Some(Place {
            next: end.progress.next,
            delivery: end.delivery,
        });
        // What came since is in the scheduler already.
        let page: Vec<Stored> = page
            .into_iter()
            .filter(|s| s.delivery.message <= last && seen.insert(s.delivery))
            .collect();
        take(&queue, page).await;
    }
    queue.is_loaded.store(true, Ordering::Relaxed);
    if !seen.is_empty() {
        tracing::info!(deliveries = seen.len(), "the queue is loaded");
    }
}

async fn take(queue: &Arc<Queue>, mut page: Vec<Stored>) {
    let (now, delay) = (queue.now(), queue.snapshot().queue.unknowndelay);
    let mut changes = Vec::new();
    let mut unknown = Vec::new();
    for stored in &mut page {
        // It was given to a session, and we do not know what came of it (QUEUE-6).
        if let Some(progress) = after_crash(&stored.progress, now, delay) {
            changes.push(Change::Put(stored.delivery, progress.clone()));
            stored.progress = progress;
        }
        // Also when it was so before: the last server may have ended before it could tell.
        if stored.progress.duplicate_possible {
            unknown.push(stored.clone());
        }
    }
    // Durable before any further attempt (QUEUE-4).
    while !changes.is_empty() {
        match queue.store.change(changes.clone()).await {
            Ok(()) => break,
            Err(galerne_core::queue::StoreFault::Closed) => return,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    tell(queue, unknown).await;
    let snapshot = queue.snapshot();
    let found = page.into_iter().map(|stored| {
        queue.bounds.add(stored.user.as_deref().unwrap_or(""), 1);
        found(&snapshot, stored)
    });
    queue.order(Order::Found(found.collect()));
}

/// The stories say that a crash came between (QUEUE-4, QUEUE-6).
async fn tell(queue: &Arc<Queue>, unknown: Vec<Stored>) {
    if unknown.is_empty() {
        return;
    }
    let queue = queue.clone();
    let telling = tokio::task::spawn_blocking(move || {
        for stored in unknown {
            // What cannot be read is told of when its time has come.
            let Ok(Some(kept)) = queue.store.read(stored.delivery.message) else {
                continue;
            };
            let again = What::Again {
                recipient: stored.recipient,
                state: stored.progress.state,
                next: stored.progress.next,
                reply: "the server ended while it was being delivered".to_owned(),
                duplicate_possible: true,
            };
            queue.tell(&kept.envelope, again);
        }
    });
    if telling.await.is_err() {
        tracing::error!("telling of interrupted deliveries failed unexpectedly");
    }
}

/// A stored delivery with the lane of its domain.
pub(super) fn found(snapshot: &Snapshot, stored: Stored) -> FoundJob {
    let domain = Mailbox::parse(&stored.recipient).map(|m| m.ascii_domain().into_owned());
    let lane = lane::of_domain(snapshot, &domain.unwrap_or_default());
    FoundJob { stored, lane }
}
