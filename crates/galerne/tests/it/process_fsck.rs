//! `galerne fsck` on the queue of the real program (QUEUE-26).

use std::fs;
use std::path::PathBuf;

use galerne_sim::sink::{Rule, Sink, Stage};
use serde_json::Value;

use crate::process::{Output, PATIENCE, Tree, until};

/// A tree in queue mode whose destination puts everybody off.
async fn tree() -> (Tree, Sink) {
    let tree = Tree::new("[relay]\nmode = queue\n");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    sink.rule(Rule::at(Stage::Rcpt).reply("451 4.7.1 come again"));
    tree.route_to(sink.address(), "");
    (tree, sink)
}

/// Hands a message over and gives its id.
async fn queue(tree: &Tree, recipient: &str, body: &str) -> String {
    let mut client = tree.greeted().await;
    let message = format!("From: <orders@example.com>\r\nSubject: Hi\r\n\r\n{body}\r\n");
    let reply = client
        .transaction("orders@example.com", &[recipient], message.as_bytes())
        .await;
    let text = reply.unwrap().text();
    let id = text.strip_prefix("250 2.0.0 queued as ");
    id.unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn fsck(tree: &Tree, flags: &str) -> Output {
    tree.command(&format!("fsck {flags}"))
}

fn sound(output: Output) {
    assert_eq!(
        (output.code, &*output.stdout),
        (Some(0), "the queue is sound\n"),
        "{output:?}"
    );
}

/// The file that holds some octets, and where.
fn find(tree: &Tree, octets: &[u8]) -> (PathBuf, usize) {
    for entry in fs::read_dir(tree.path("system/queue")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("seg-") {
            continue;
        }
        let content = fs::read(&path).unwrap();
        if let Some(at) = content
            .windows(octets.len())
            .position(|part| part == octets)
        {
            return (path, at);
        }
    }
    panic!("no segment holds it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_26_fsck_finds_the_damaged_message_and_sets_that_one_aside() {
    let (tree, sink) = tree().await;
    sound(fsck(&tree, ""));
    assert!(!tree.path("system/queue").exists(), "looking makes nothing");
    let server = tree.run();
    let mark = "this stands in a file of its own";
    let large = format!("{mark}\r\n{}", "0123456789abcdef\r\n".repeat(3000));
    let damaged = queue(&tree, "anna@example.org", &large).await;
    let whole = queue(&tree, "bert@example.org", &large.replace("this", "that")).await;
    let small = queue(&tree, "carl@example.org", "small").await;
    let beside = fsck(&tree, "");
    assert!(
        beside
            .stderr
            .contains("a server runs: the database, its counters and each message were read"),
        "{beside:?}"
    );
    sound(beside);
    let refused = fsck(&tree, "--repair");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("stop it before a repair"),
        "{refused:?}"
    );
    assert_eq!(server.stop().code, Some(0));
    sound(fsck(&tree, ""));

    let (file, at) = find(&tree, mark.as_bytes());
    let mut content = fs::read(&file).unwrap();
    content[at] ^= 0x20;
    fs::write(&file, content).unwrap();
    let found = fsck(&tree, "");
    assert_eq!(found.code, Some(1), "{found:?}");
    assert_eq!(found.stdout.lines().count(), 1, "{found:?}");
    assert!(
        found.stdout.starts_with(&damaged) && found.stdout.contains("checksum"),
        "{found:?}"
    );
    assert!(found.stderr.contains("galerne fsck --repair"), "{found:?}");
    let document: Value = serde_json::from_str(&fsck(&tree, "--json").stdout).unwrap();
    assert_eq!(
        (&document["damage"][0]["id"], &document["whole"]),
        (&damaged.as_str().into(), &true.into())
    );

    let repaired = fsck(&tree, "--repair");
    assert_eq!(repaired.code, Some(1), "{repaired:?}");
    assert!(
        repaired.stdout.contains("set aside")
            && repaired.stderr.contains("system/queue/quarantine"),
        "{repaired:?}"
    );
    sound(fsck(&tree, ""));
    let kept = fs::read_dir(tree.path("system/queue/quarantine")).unwrap();
    let names: Vec<String> = kept
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names.len() == 2 && names.iter().all(|name| name.contains(&damaged)),
        "{names:?}"
    );

    // The rest goes on.
    sink.clear_rules();
    let server = tree.run();
    let again = tree.command("queue retry --sender orders@example.com");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(
        tokio::time::timeout(PATIENCE, sink.wait_accepted(2))
            .await
            .is_ok()
    );
    let mut recipients: Vec<String> = sink
        .messages()
        .into_iter()
        .flat_map(|m| m.recipients)
        .collect();
    recipients.sort();
    assert_eq!(
        recipients,
        ["bert@example.org", "carl@example.org"],
        "{whole} {small}"
    );
    let is_empty = || fsck(&tree, "").stdout == "the queue is sound\n";
    assert!(until(|| is_empty().then_some(())).is_some());
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_26_bodies_without_their_database_are_left_alone() {
    let (tree, _sink) = tree().await;
    let server = tree.run();
    let large = "0123456789abcdef\r\n".repeat(3000);
    queue(&tree, "anna@example.org", &large).await;
    assert_eq!(server.stop().code, Some(0));
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let _ = fs::remove_file(tree.path(&format!("system/queue/{name}")));
    }
    for flags in ["", "--repair"] {
        let found = fsck(&tree, flags);
        assert_eq!(found.code, Some(1), "{found:?}");
        assert!(found.stdout.contains("queue.db is missing"), "{found:?}");
    }
    find(&tree, b"0123456789abcdef\r\n0123456789");
}
