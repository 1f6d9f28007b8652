//! A copy of a queue at work (T-40): a snapshot of the file system is a power cut to the copy.

use std::fs;
use std::path::Path;

use galerne_sim::sink::{Rule, Sink, Stage};
use rustix::process::Signal;

use super::{list, ok};
use crate::process::{MESSAGE, Tree, until};

const MAIN: &str = "[relay]\nmode = queue\ntimeout = 1\n[queue]\nretry = 1s\nminfree = 0\n[dns]\nresolver = 127.0.0.1:1\n";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_40_a_snapshot_of_a_live_queue_is_whole_and_delivers_each_message_once() {
    let tree = Tree::new(MAIN);
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    sink.rule(Rule::at(Stage::Rcpt).reply("451 4.2.0 Later"));
    tree.route_to(sink.address(), "");
    let server = tree.run();
    let mut client = tree.greeted().await;
    let large = format!("{MESSAGE}{}", "0123456789abcdef\r\n".repeat(3000));
    let mut taken = Vec::new();
    for number in 0..40 {
        let to = format!("m{number}@example.org");
        let content = if number % 4 == 0 { &large } else { MESSAGE };
        let recipients = [to.as_str()];
        let sent = client.transaction("orders@example.com", &recipients, content.as_bytes());
        assert_eq!(sent.await.unwrap().code, 250);
        taken.push(to);
    }
    // All files at one moment, while attempts are under way.
    let saved = Tree::new(MAIN);
    let other = Sink::bind(saved.place(2)).await.unwrap();
    saved.route_to(other.address(), "");
    server.signal(Signal::STOP);
    copy(&tree.path("system/queue"), &saved.path("system/queue"));
    server.signal(Signal::CONT);
    // What comes later is not in the copy.
    let late = ["late@example.org"];
    let late = client.transaction("orders@example.com", &late, MESSAGE.as_bytes());
    assert_eq!(late.await.unwrap().code, 250);
    server.signal(Signal::KILL);
    server.end();
    assert_eq!(ok(saved.command("fsck")), "the queue is sound\n");
    assert_eq!(list(&saved, "").len(), taken.len());
    let server = saved.run();
    // What was given to a session at that moment is held back; nobody waits for it here.
    let all = || (other.accepted() == taken.len() as u64).then_some(());
    let done = until(|| {
        saved.command("queue retry --all");
        all()
    });
    assert!(done.is_some(), "{} of {}", other.accepted(), taken.len());
    assert!(until(|| list(&saved, "").is_empty().then_some(())).is_some());
    let messages = other.messages().into_iter();
    let mut arrived: Vec<String> = messages.flat_map(|m| m.recipients).collect();
    arrived.sort();
    taken.sort();
    assert_eq!(arrived, taken, "each once");
    assert_eq!(server.stop().code, Some(0));
}
