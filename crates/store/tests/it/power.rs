//! Power cuts: at many moments of a recorded run the folder is built as the disk would have it, and
//! the queue is opened on it.

use std::collections::BTreeSet;
use std::path::Path;

use galerne_core::queue::QueueStore;

use crate::help::{Chance, Told, child, faultfs, is_long, open};
use crate::replay::{Disk, Fate, Operation, read};

/// Records a child that does so many messages.
fn record(messages: u64, seed: u64, root: &Path, tools: &Path) -> Vec<Operation> {
    let log = tools.join("record");
    let layer = faultfs(tools);
    let (round, most) = (seed.to_string(), messages.to_string());
    let mut child = child(
        "child::child_works",
        root,
        &[
            ("QUEUE_ROUND", &round),
            ("QUEUE_MOST", &most),
            ("LD_PRELOAD", layer.to_str().unwrap()),
            ("FAULTFS_ROOT", root.to_str().unwrap()),
            ("FAULTFS_LOG", log.to_str().unwrap()),
        ],
    );
    assert!(child.wait().unwrap().success());
    read(&std::fs::read(log).unwrap())
}

/// The moments at which the power is cut: around syncs and names, and by chance.
fn moments(operations: &[Operation], most: u64, chance: &mut Chance) -> BTreeSet<usize> {
    let mut moments = BTreeSet::from([0, operations.len()]);
    let special: Vec<_> = operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| matches!(operation.kind, b'S' | b'C' | b'R' | b'U' | b'D'))
        .map(|(n, _)| n)
        .collect();
    while (moments.len() as u64) < most.min(operations.len() as u64) {
        let moment = match chance.one_in(2) {
            true => special[chance.below(special.len() as u64) as usize] + chance.below(2) as usize,
            false => chance.below(operations.len() as u64) as usize,
        };
        moments.insert(moment);
    }
    moments
}

#[test]
fn t_31_queue_2_queue_5_after_a_power_cut_nothing_answered_is_lost() {
    let (seeds, messages, cuts) = if is_long() {
        (20, 400, 400)
    } else {
        (2, 60, 16)
    };
    let mut reached = 0;
    for seed in 1..=seeds {
        let (root, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let operations = record(messages, seed, root.path(), tools.path());
        assert!(operations.iter().filter(|o| o.kind == b'S').count() > 10);
        let mut chance = Chance::new(seed);
        let (mut disk, mut acks, mut done) = (Disk::default(), Vec::new(), 0);
        for moment in moments(&operations, cuts, &mut chance) {
            for operation in &operations[done..moment] {
                if operation.path.ends_with("acks") {
                    // The client heard it: no part of the disk.
                    acks.extend_from_slice(&operation.data);
                } else {
                    disk.apply(operation);
                }
            }
            done = moment;
            let told = Told::read(&acks);
            for fate in [Fate::Nothing, Fate::Everything, Fate::Some] {
                let cut = tempfile::tempdir().unwrap();
                disk.build(root.path(), cut.path(), fate, &mut chance);
                let when = format!("seed {seed}, cut at {moment}, {fate:?} survives");
                let queue = open(cut.path());
                told.check(&queue, &when);
                queue.close();
                drop(queue);
                // And it stays so.
                told.check(&open(cut.path()), &when);
            }
            reached = reached.max(told.accepted());
        }
    }
    assert!(reached > 20, "{reached}");
}

/// The test can fail: without syncs the same cuts lose mail.
#[test]
fn t_31_without_syncs_a_power_cut_is_noticed() {
    let (root, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut operations = record(40, 7, root.path(), tools.path());
    let first = operations.iter().position(|o| o.path.ends_with("acks"));
    let rest = operations.split_off(first.unwrap());
    let mut disk = Disk::default();
    operations
        .iter()
        .for_each(|operation| disk.apply(operation));
    let mut acks = Vec::new();
    for operation in rest.iter().take_while(|o| o.kind != b'U') {
        match operation.kind {
            _ if operation.path.ends_with("acks") => acks.extend_from_slice(&operation.data),
            b'S' => {}
            _ => disk.apply(operation),
        }
    }
    let told = Told::read(&acks);
    assert!(told.accepted() > 3);
    let cut = tempfile::tempdir().unwrap();
    disk.build(root.path(), cut.path(), Fate::Nothing, &mut Chance::new(1));
    let queue = open(cut.path());
    let there = queue.amount().messages;
    assert!(there < told.accepted() as u64 / 2, "{there}");
}
