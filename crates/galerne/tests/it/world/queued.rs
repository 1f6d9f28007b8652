//! The durable queue of a world.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use galerne_core::queue::{Filter, Listed, QueueStore, Stories, Told, What};
use galerne_core::snapshot::Snapshot;
use galerne_outbound::{Delivery, Queue, QueueWorld};

/// The queue with what a test sees of it.
pub struct Queued {
    pub queue: Arc<Queue>,
    pub store: Arc<dyn QueueStore>,
    pub stories: Arc<Heard>,
    /// Free octets of its disk.
    pub free: Arc<AtomicU64>,
}

/// Everything that was told.
#[derive(Default)]
pub struct Heard(Mutex<Vec<Told>>);

impl Stories for Heard {
    fn tell(&self, told: Told) {
        self.0.lock().unwrap().push(told);
    }
}

impl Queued {
    pub fn open(
        root: &Path,
        store: Arc<dyn QueueStore>,
        snapshot: &Arc<Snapshot>,
        delivery: &Arc<Delivery>,
    ) -> Queued {
        let stories = Arc::<Heard>::default();
        let free = Arc::new(AtomicU64::new(u64::MAX));
        let of_disk = free.clone();
        let queue = Queue::open(QueueWorld {
            store: store.clone(),
            stories: stories.clone(),
            delivery: delivery.clone(),
            snapshot: snapshot.clone(),
            suspended: root.join("system/suspended.json"),
            free: Box::new(move || Ok(of_disk.load(Ordering::Relaxed))),
        });
        Queued {
            queue,
            store,
            stories,
            free,
        }
    }

    /// What was told, in order.
    pub fn told(&self) -> Vec<Told> {
        self.stories.0.lock().unwrap().clone()
    }

    /// How deliveries ended: recipient and word.
    pub fn ended(&self) -> Vec<(String, String)> {
        let told = self.told().into_iter();
        told.filter_map(|told| match told.what {
            What::Ended {
                recipient, outcome, ..
            } => Some((recipient, outcome)),
            _ => None,
        })
        .collect()
    }

    /// All that is undecided, as operators see it.
    pub async fn list(&self) -> Vec<Listed> {
        self.queue.list(Filter::default(), 1000).await.unwrap()
    }

    /// Waits until nothing is undecided.
    pub async fn empty(&self) {
        while self.queue.total() > 0 {
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        }
    }
}
