//! Mail that is moved while its envelope cannot be read (QUEUE-16).

use std::sync::Arc;
use std::time::Duration;

use galerne_core::content::{Content, Patch};
use galerne_core::directive::OutboundName;
use galerne_core::queue::{Envelope, NewMessage, Progress, QueueStore as _};
use galerne_outbound::queue::operate::Verb;
use galerne_outbound::queue::selection::Selection;
use galerne_store::MemoryQueue;
use tokio::time::sleep;

use super::loading::{Reopened, envelope};
use crate::world::{MESSAGE, World};

#[tokio::test(start_paused = true)]
async fn queue_16_what_cannot_be_read_is_not_lost_by_a_move_and_is_set_aside_in_its_time() {
    let store = Arc::new(MemoryQueue::default());
    for (to, directive) in [
        ("broken@example.org", Some("{")),
        ("anna@example.org", None),
    ] {
        let message = NewMessage {
            envelope: Arc::new(Envelope {
                directive: directive.map(str::to_owned),
                ..envelope(to.to_owned())
            }),
            content: Content::in_memory(MESSAGE.as_bytes().to_vec()),
            patch: Patch::default(),
            deliveries: vec![(
                0,
                Progress {
                    held: true,
                    ..Progress::default()
                },
            )],
        };
        store.accept(message).await.unwrap();
    }
    let is_slow = false;
    let world = World::with_queue(
        "",
        Arc::new(Reopened {
            store,
            is_slow,
            ..Reopened::default()
        }),
    );
    let mx = world.mx("example.org", "198.51.100.25");
    sleep(Duration::from_secs(1)).await;
    let queue = world.queued().queue.clone();
    let all = Selection::default();
    let way = [OutboundName::Ip("192.0.2.11".parse().unwrap())];
    let moved = queue.move_all(&all, &way).await.unwrap();
    assert_eq!(moved.touch.deliveries, 1, "{moved:?}");
    assert_eq!(moved.refused.values().sum::<u64>(), 1, "{moved:?}");
    // The scheduler has it as it was: held.
    let touched = queue.act_on_all(Verb::Release, &all).await.unwrap();
    assert_eq!(touched.deliveries, 2, "{touched:?}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(queue.total(), 0, "the damaged one is in the quarantine");
    assert_eq!(world.queued().list().await, []);
    assert_eq!(mx.messages().len(), 1);
    assert_eq!(mx.messages()[0].recipients, ["anna@example.org"]);
}
