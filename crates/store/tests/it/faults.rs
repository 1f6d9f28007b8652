//! Disks that fail: a sync once, no room, read-only. The queue refuses, says that it is not ready,
//! opens itself again, and has lost and invented nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use galerne_core::queue::{Change, DeliveryNo, Filter, MessageNo, QueueStore, StoreFault};
use galerne_store::SqliteQueue;

use crate::help::{all, child, faultfs, futures, message, octets, open, root};

const EIO: u32 = 5;
const ENOSPC: u32 = 28;
const EROFS: u32 = 30;

/// Runs a child with the layer under it.
fn under_faults(test: &str) {
    let (root, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let layer = faultfs(tools.path());
    let rules = root.path().join("rules");
    let mut child = child(
        test,
        root.path(),
        &[
            ("QUEUE_CHILD", "1"),
            ("LD_PRELOAD", layer.to_str().unwrap()),
            ("FAULTFS_ROOT", root.path().join("queue").to_str().unwrap()),
            ("FAULTFS_RULES", rules.to_str().unwrap()),
        ],
    );
    assert!(child.wait().unwrap().success());
    // And with nothing under it.
    assert_eq!(open(root.path()).check(false).unwrap(), []);
}

/// In a child: a queue, and the file with what fails.
struct World {
    queue: SqliteQueue,
    root: std::path::PathBuf,
}

impl World {
    fn new() -> Option<World> {
        std::env::var_os("QUEUE_CHILD")?;
        let root = root();
        Some(World {
            queue: open(&root),
            root,
        })
    }

    fn fails(&self, rules: &str) {
        let new = self.root.join("rules-new");
        std::fs::write(&new, rules).unwrap();
        std::fs::rename(new, self.root.join("rules")).unwrap();
    }

    fn is_well_again(&self) {
        let _ = std::fs::remove_file(self.root.join("rules"));
        self.until("it is ready", || self.queue.is_ready());
    }

    fn until(&self, what: &str, is: impl Fn() -> bool) {
        let start = Instant::now();
        while !is() {
            assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn accept(&self, id: &str) -> Result<MessageNo, StoreFault> {
        futures(self.queue.accept(message(id)))
    }

    fn ids(&self) -> Vec<String> {
        let listed = self.queue.list(&Filter::default(), 1000).unwrap();
        listed.into_iter().map(|listed| listed.id).collect()
    }

    fn done(&self, number: MessageNo) {
        let delivery = DeliveryNo {
            message: number,
            recipient: 0,
        };
        self.queue.change_soon(vec![Change::Done(vec![delivery])]);
    }

    fn is_whole(&self, number: MessageNo, id: &str) {
        let kept = self.queue.read(number).unwrap().unwrap();
        assert!(all(&kept.content) == octets(id));
    }
}

#[test]
fn t_32_queue_8_a_failed_sync_is_not_tried_again_on_the_same_file() {
    under_faults("faults::child_fails_to_sync");
}

#[test]
#[ignore = "a child of the others"]
fn child_fails_to_sync() {
    let Some(world) = World::new() else { return };
    let before = world.accept("before-100").unwrap();
    let large = world.accept("large-100000").unwrap();
    for (part, id) in [("queue.db-wal", "a-100"), ("seg-", "b-100000")] {
        world.fails(&format!("sync {part} {EIO} 1\n"));
        let refused = world.accept(id);
        assert!(matches!(refused, Err(StoreFault::Broken(_))), "{refused:?}");
        assert!(!world.queue.is_ready());
        let refused = world.accept("meanwhile-10");
        assert!(matches!(refused, Err(StoreFault::Broken(_))), "{refused:?}");
        // What is there can be read, and what is decided meanwhile is not forgotten.
        world.is_whole(large, "large-100000");
        let gone = world.accept("gone-10");
        world.is_well_again();
        assert!(gone.is_err());
        world.accept(&format!("after-{id}")).unwrap();
    }
    world.is_whole(before, "before-100");
    assert_eq!(
        world.ids(),
        [
            "before-100",
            "large-100000",
            "after-a-100",
            "after-b-100000"
        ]
    );
    // A segment that failed is not written again.
    let segments = std::fs::read_dir(world.root.join("queue")).unwrap();
    let names = segments.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("seg-")).count(), 2);
}

#[test]
fn t_32_queue_5_what_is_decided_while_the_disk_fails_stays_decided() {
    under_faults("faults::child_decides_while_the_disk_fails");
}

#[test]
#[ignore = "a child of the others"]
fn child_decides_while_the_disk_fails() {
    let Some(world) = World::new() else { return };
    let first = world.accept("first-100").unwrap();
    let second = world.accept("second-100000").unwrap();
    world.accept("third-100").unwrap();
    world.fails(&format!("sync queue.db-wal {EIO} *\n"));
    world.done(first);
    world.until("it is broken", || !world.queue.is_ready());
    world.done(second);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!world.queue.is_ready());
    world.is_well_again();
    world.until("it is written", || world.queue.amount().messages == 1);
    assert_eq!(world.ids(), ["third-100"]);
}

#[test]
fn t_33_queue_9_a_full_disk_refuses_and_recovers_alone() {
    under_faults("faults::child_has_no_room");
}

#[test]
#[ignore = "a child of the others"]
fn child_has_no_room() {
    let Some(world) = World::new() else { return };
    let first = world.accept("first-100").unwrap();
    let second = world.accept("second-100000").unwrap();
    for call in [
        "write",
        "write seg-",
        "write queue.db-wal",
        "open seg-",
        "*",
    ] {
        let (call, part) = call.split_once(' ').unwrap_or((call, "*"));
        world.fails(&format!("{call} {part} {ENOSPC} *\n"));
        let small = part != "seg-";
        // A new segment is made only where the last is full, or has failed.
        let refused = match small {
            true => world.accept("small-100"),
            false => (0..50)
                .map(|_| world.accept("big-300000"))
                .find(Result::is_err)
                .unwrap(),
        };
        assert_eq!(refused, Err(StoreFault::Full), "{call} {part}");
        assert!(!world.queue.is_ready());
        // Mail that is there goes on.
        world.is_whole(first, "first-100");
        world.is_whole(second, "second-100000");
        assert!(world.queue.page(None, 10).unwrap().len() >= 2);
        world.is_well_again();
        let number = world.accept("after-100").unwrap();
        world.done(number);
    }
    world.done(first);
    world.done(second);
    world.until("it is written", || {
        !world.ids().iter().any(|id| !id.starts_with("big"))
    });
}

#[test]
fn t_34_a_disk_that_cannot_be_written_refuses_and_recovers_alone() {
    under_faults("faults::child_is_read_only");
}

#[test]
#[ignore = "a child of the others"]
fn child_is_read_only() {
    let Some(world) = World::new() else { return };
    let first = world.accept("first-100").unwrap();
    let second = world.accept("second-100000").unwrap();
    for error in [EROFS, EIO] {
        world.fails(&format!("* * {error} *\n"));
        for id in ["small-100", "large-300000"] {
            let refused = world.accept(id);
            assert!(matches!(refused, Err(StoreFault::Broken(_))), "{refused:?}");
        }
        assert!(!world.queue.is_ready());
        world.is_whole(first, "first-100");
        world.is_whole(second, "second-100000");
        std::thread::sleep(Duration::from_millis(300));
        assert!(!world.queue.is_ready());
        world.is_well_again();
        world.accept(&format!("after-{error}")).unwrap();
    }
    assert_eq!(
        world.ids(),
        ["first-100", "second-100000", "after-30", "after-5"]
    );
}

/// The layer does something: without it the children would prove nothing.
#[test]
fn t_32_the_layer_lets_calls_fail() {
    let (root, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let layer = faultfs(tools.path());
    let rules = root.path().join("rules");
    std::fs::write(&rules, format!("open new {EROFS} *\n")).unwrap();
    let touch = |name: &str, root: &Path| {
        let status = std::process::Command::new("sh")
            .args(["-c", &format!(": > {}", root.join(name).display())])
            .env("LD_PRELOAD", &layer)
            .env("FAULTFS_ROOT", root)
            .env("FAULTFS_RULES", &rules)
            .stderr(std::process::Stdio::null())
            .status();
        status.unwrap().success()
    };
    assert!(!touch("new", root.path()));
    assert!(touch("other", root.path()));
}
