//! The durable queue of the running server: where it is, and what it needs of the host.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use galerne_core::settings::QueueKeys;
use galerne_core::snapshot::Snapshot;
use galerne_events::StoryFiles;
use galerne_outbound::{Delivery, Queue, QueueWorld};
use galerne_store::SqliteQueue;
use galerne_store::queue::Options;

/// Where the queue is, below the root.
pub const FOLDER: &str = "system/queue";
/// Where suspensions are kept.
const SUSPENDED: &str = "system/suspended.json";

/// Opens the queue and begins to deliver what is in it. Needs a runtime.
pub fn open(
    root: &Path,
    snapshot: &Arc<Snapshot>,
    delivery: &Arc<Delivery>,
) -> Result<(Arc<Queue>, Arc<StoryFiles>), String> {
    let keys = &snapshot.queue;
    if !keys.sync {
        tracing::warn!(
            "[queue]sync = 0: mail that was answered with 250 is lost by a power cut; this is unsafe"
        );
    }
    let options = Options {
        sync: keys.sync,
        in_row: keys.qmmemo.saturating_mul(1024),
        ..Options::default()
    };
    let folder = root.join(FOLDER);
    let store = SqliteQueue::open(&folder, options).map_err(|e| format!("{FOLDER}: {e}"))?;
    let stories =
        StoryFiles::open(root, stories_for(keys)).map_err(|e| format!("system/trace: {e}"))?;
    let stories = Arc::new(stories);
    let queue = Queue::open(QueueWorld {
        store: Arc::new(store),
        stories: stories.clone(),
        delivery: delivery.clone(),
        snapshot: snapshot.clone(),
        free: Box::new(move || free(&folder)),
        suspended: root.join(SUSPENDED),
    });
    Ok((queue, stories))
}

/// How long stories are kept: that of a message begins when it comes, and `tracekeep` counts from its
/// end (QUEUE-17).
pub fn stories_for(keys: &QueueKeys) -> Duration {
    keys.tracekeep.saturating_add(keys.maxage)
}

/// Octets of the disk that we may still use.
fn free(folder: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
