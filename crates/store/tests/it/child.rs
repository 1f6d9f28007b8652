//! The child that works until it is done, or killed: acceptors that tell what they were told.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use galerne_core::queue::{Change, DeliveryNo, Progress, QueueStore, State, StoreFault};

use crate::help::{Chance, futures, message, open, root};

const SIZES: [usize; 6] = [0, 900, 5000, 16_384, 20_000, 300_000];

/// `QUEUE_ROUND` names the ids, `QUEUE_MOST` is how many messages there are.
#[test]
#[ignore = "a child of the others"]
fn child_works() {
    let Some(round) = number("QUEUE_ROUND") else {
        return;
    };
    let (root, most) = (root(), number("QUEUE_MOST").unwrap());
    let queue = open(&root);
    let acks = acks(&root);
    let count = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (queue, acks, count) = (&queue, &acks, &count);
            scope.spawn(move || {
                let mut chance = Chance::new(round * 8 + thread + 1);
                while count.fetch_add(1, Relaxed) < most {
                    let n = count.load(Relaxed);
                    match work(queue, acks, &format!("r{round}-t{thread}-{n}"), &mut chance) {
                        Ok(()) | Err(StoreFault::Full | StoreFault::Broken(_)) => {}
                        Err(fault) => panic!("{fault}"),
                    }
                }
            });
        }
    });
}

fn work(
    queue: &dyn QueueStore,
    acks: &File,
    id: &str,
    chance: &mut Chance,
) -> Result<(), StoreFault> {
    let size = SIZES[chance.below(SIZES.len() as u64) as usize];
    let id = format!("{id}-{size}");
    let number = futures(queue.accept(message(&id)))?;
    tell(acks, &format!("A {} {id}\n", number.0));
    let delivery = DeliveryNo {
        message: number,
        recipient: 0,
    };
    if chance.one_in(2) {
        futures(queue.change(vec![Change::Handed(vec![delivery])]))?;
        tell(acks, &format!("H {}\n", number.0));
    }
    match chance.below(5) {
        0 => {}
        1 => {
            let deferred = Progress {
                state: State::Deferred,
                handed: true,
                attempts: 1,
                next: chance.below(1000),
                ..Progress::default()
            };
            queue.change_soon(vec![Change::Put(delivery, deferred)]);
        }
        _ => {
            tell(acks, &format!("D {}\n", number.0));
            queue.change_soon(vec![Change::Done(vec![delivery])]);
        }
    }
    Ok(())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What a client was told: one write for each line.
fn acks(root: &Path) -> File {
    let path = root.join("acks");
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
}

fn tell(mut acks: &File, line: &str) {
    acks.write_all(line.as_bytes()).unwrap();
}
