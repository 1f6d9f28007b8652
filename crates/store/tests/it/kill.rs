//! `kill -9` under load, by chance and at every step between the end of data and the answer.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::help::{Chance, Told, child, is_long, open};

/// Every step.
const PLACES: [&str; 8] = [
    "queue.before_append",
    "queue.after_append",
    "queue.before_segment_sync",
    "queue.after_segment_sync",
    "queue.before_commit",
    "queue.after_commit",
    "queue.before_answer",
    "queue.between_answers",
];

fn told(root: &Path) -> Told {
    Told::read(&std::fs::read(root.join("acks")).unwrap_or_default())
}

/// Runs a child until it is killed, by its own hand or after a while; true: it was killed.
fn run(root: &Path, round: u64, failpoint: Option<&str>, after: Option<Duration>) -> bool {
    let round = round.to_string();
    let mut variables = vec![("QUEUE_ROUND", &*round), ("QUEUE_MOST", "2000")];
    variables.extend(failpoint.map(|f| ("GALERNE_FAILPOINT", f)));
    let mut child = child("child::child_works", root, &variables);
    if let Some(after) = after {
        std::thread::sleep(after);
        child.kill().unwrap();
    }
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            use std::os::unix::process::ExitStatusExt;
            assert!(status.success() || status.signal() == Some(9), "{status}");
            return !status.success();
        }
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn t_30_queue_5_killed_at_each_step_nothing_answered_is_lost() {
    let rounds: &[u64] = if is_long() {
        &[1, 2, 5, 9, 17, 40]
    } else {
        &[1, 13]
    };
    let folder = tempfile::tempdir().unwrap();
    let mut round = 0;
    for place in PLACES {
        for at in rounds {
            round += 1;
            let point = format!("{place}:kill@{at}");
            let killed = run(folder.path(), round, Some(&point), None);
            assert!(killed, "{point} was not reached");
            told(folder.path()).check(&open(folder.path()), &point);
        }
    }
    assert!(told(folder.path()).accepted() > 10);
}

#[test]
fn t_30_t_36_queue_5_killed_under_load_nothing_answered_is_lost() {
    let (kills, seed) = (if is_long() { 500 } else { 12 }, 1);
    let mut folder = tempfile::tempdir().unwrap();
    let mut chance = Chance::new(seed);
    let (mut killed, mut accepted) = (0, 0);
    for round in 0..kills {
        // Each time everything is read again: now and then it begins anew.
        if round % 20 == 19 {
            accepted += told(folder.path()).accepted();
            folder = tempfile::tempdir().unwrap();
        }
        let after = Duration::from_millis(20 + chance.below(250));
        killed += u64::from(run(folder.path(), round, None, Some(after)));
        told(folder.path()).check(&open(folder.path()), &format!("kill {round}"));
    }
    accepted += told(folder.path()).accepted();
    assert!(killed > kills / 2, "{killed}");
    assert!(accepted > 20);
}
