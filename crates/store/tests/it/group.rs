//! How many syncs acceptance costs (QUEUE-7), and how much memory what waits (QUEUE-10).

use std::path::Path;

use galerne_core::queue::{MessageNo, Place, QueueStore, StoreFault};
use galerne_store::SqliteQueue;
use galerne_store::queue::Options;

use crate::help::{child, faultfs, futures, message, open, options, root};
use crate::replay;

const MESSAGES: usize = 400;

/// The syncs of the log and of segments while a child accepts messages, in that order.
fn syncs(work: &str) -> (usize, usize) {
    let (root, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let layer = faultfs(tools.path());
    let log = tools.path().join("record");
    let mut child = child(
        "group::child_accepts",
        root.path(),
        &[
            ("QUEUE_CHILD", work),
            ("LD_PRELOAD", layer.to_str().unwrap()),
            ("FAULTFS_ROOT", root.path().to_str().unwrap()),
            ("FAULTFS_LOG", log.to_str().unwrap()),
        ],
    );
    assert!(child.wait().unwrap().success());
    let operations = replay::read(&std::fs::read(log).unwrap());
    let place = |name: &str| {
        let mut paths = operations.iter().map(|operation| &operation.path);
        let place = paths.position(|path| path.ends_with(name));
        place.unwrap_or_else(|| panic!("no {name}"))
    };
    let between = &operations[place("begin")..place("end")];
    let synced = |part: &str| {
        let of_part = |path: &Path| path.to_string_lossy().contains(part);
        let syncs = between.iter().filter(|operation| operation.kind == b'S');
        syncs.filter(|sync| of_part(&sync.path)).count()
    };
    (synced("queue.db-wal"), synced("seg-"))
}

#[test]
#[ignore = "a child of the others"]
fn child_accepts() {
    let Ok(work) = std::env::var("QUEUE_CHILD") else {
        return;
    };
    let root = root();
    let queue = match work.as_str() {
        "unsafe" => {
            let sync = false;
            let options = Options { sync, ..options() };
            SqliteQueue::open(&root.join("queue"), options).unwrap()
        }
        _ => open(&root),
    };
    std::fs::write(root.join("begin"), "").unwrap();
    let accept = |n| {
        let octets = if work == "large" { 30_000 } else { 3_000 };
        queue.accept(message(&format!("m{n}-{octets}")))
    };
    let numbers: Vec<Result<MessageNo, StoreFault>> = match work.as_str() {
        "alone" => (0..MESSAGES).map(|n| futures(accept(n))).collect(),
        // All that come at once; each is answered for itself.
        _ => {
            let answers: Vec<_> = (0..MESSAGES).map(accept).collect();
            answers.into_iter().map(futures).collect()
        }
    };
    std::fs::write(root.join("end"), "").unwrap();
    assert!(numbers.iter().all(Result::is_ok));
    assert_eq!(queue.amount().messages, MESSAGES as u64);
}

#[test]
fn queue_7_many_that_come_at_once_share_a_sync() {
    let (log, segments) = syncs("at once");
    assert!((1..=MESSAGES / 8).contains(&log), "{log} syncs");
    assert_eq!(segments, 0);
    let (log, segments) = syncs("large");
    assert!((1..=MESSAGES / 4).contains(&log), "{log} syncs");
    assert!((1..=MESSAGES / 4).contains(&segments), "{segments} syncs");
    // Who comes alone has one for himself.
    let (log, _) = syncs("alone");
    assert!(log >= MESSAGES, "{log} syncs");
}

#[test]
fn queue_7_sync_0_waits_for_no_disk() {
    assert_eq!(syncs("unsafe"), (0, 0));
}

/// The most memory that a child needs to open a queue and read what waits in it, in KiB.
fn memory(root: &Path) -> u64 {
    let mut child = child("group::child_reads", root, &[("QUEUE_CHILD", "1")]);
    assert!(child.wait().unwrap().success());
    let told = std::fs::read_to_string(root.join("memory")).unwrap();
    told.trim().parse().unwrap()
}

#[test]
#[ignore = "a child of the others"]
fn child_reads() {
    if std::env::var_os("QUEUE_CHILD").is_none() {
        return;
    }
    let root = root();
    let queue = open(&root);
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = queue.page(after, 1000).unwrap();
        let Some(last) = page.last() else { break };
        seen += page.len();
        after = Some(Place {
            next: last.progress.next,
            delivery: last.delivery,
        });
    }
    assert_eq!(seen, 3_100);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    std::fs::write(root.join("memory"), words[1]).unwrap();
}

#[test]
fn queue_10_memory_at_the_start_does_not_grow_with_the_bodies() {
    let fill = |in_row: usize, in_segment: usize| {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path());
        let accept = |(n, octets): (usize, usize)| queue.accept(message(&format!("m{n}-{octets}")));
        let rows = (0..3_000).map(|n| (n, in_row));
        let segments = (3_000..3_100).map(|n| (n, in_segment));
        let answers: Vec<_> = rows.chain(segments).map(accept).collect();
        for answer in answers {
            futures(answer).unwrap();
        }
        drop(queue);
        folder
    };
    let (small, large) = (fill(10, 10), fill(16_000, 300_000));
    let (of_small, of_large) = (memory(small.path()), memory(large.path()));
    // 78 MB of bodies.
    assert!(of_large < of_small + 8 * 1024, "{of_small} {of_large} KiB");
}
