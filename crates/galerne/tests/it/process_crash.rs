//! The promise of the queue (QUEUE-5, QUEUE-6): the process is killed under load, again and again,
//! and nothing that was answered with 250 is lost. `GALERNE_KILLS` says how often; `scripts/long`
//! asks for 500.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use galerne_sim::client::TestClient;
use galerne_sim::sink::{Rule, Sink, Stage};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::process::{MESSAGE, Tree};

const CLIENTS: u64 = 12;
/// A body that does not fit into a row of the database.
const LARGE: usize = 40 * 1024;

/// Sends message after message until the server is gone; gives the recipients whose message was
/// answered with 250.
async fn offer(tree: Arc<Tree>, client: u64, next: Arc<AtomicU64>) -> Vec<String> {
    let mut taken = Vec::new();
    let Ok(stream) = TcpStream::connect(tree.smtp).await else {
        return taken;
    };
    let mut talk = TestClient::new(stream).patience(Duration::from_secs(10));
    let large = format!("{MESSAGE}{}\r\n", "large ".repeat(LARGE / 6));
    if talk.reply().await.is_err() || talk.command("EHLO client.example").await.is_err() {
        return taken;
    }
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let recipient = format!("m{number}@example.org");
        let content = match (number + client) % 5 {
            0 => large.as_bytes(),
            _ => MESSAGE.as_bytes(),
        };
        let sent = talk
            .transaction("orders@example.com", &[&recipient], content)
            .await;
        match sent {
            Ok(reply) if reply.code == 250 => taken.push(recipient),
            Ok(_) => {}
            Err(_) => return taken,
        }
    }
}

/// How often each recipient's message arrived.
fn arrived(sink: &Sink) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for message in sink.messages() {
        for recipient in message.recipients {
            *counts.entry(recipient).or_insert(0) += 1;
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_5_queue_6_t_30_t_36_nothing_that_was_answered_is_lost_when_the_process_is_killed() {
    let asked = std::env::var("GALERNE_KILLS").ok();
    let kills: u64 = asked.and_then(|text| text.parse().ok()).unwrap_or(4);
    let main = "[relay]\nmode = queue\n[queue]\nretry = 1s\nunknowndelay = 1s\nminfree = 0\n";
    let tree = Arc::new(Tree::new(main));
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    // Some wait, so that every state is there when the process dies.
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("m7")
            .reply("451 4.2.0 Later"),
    );
    sink.rule(Rule::at(Stage::Dot).delay(Duration::from_millis(3)));
    let next = Arc::new(AtomicU64::new(0));
    let mut taken: Vec<String> = Vec::new();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..kills {
        let server = tree.run();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| tokio::spawn(offer(tree.clone(), client, next.clone())))
            .collect();
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        sleep(Duration::from_millis(60 + seed % 400)).await;
        server.signal(Signal::KILL);
        for client in clients {
            taken.extend(client.await.unwrap());
        }
        server.end();
    }
    sink.clear_rules();
    let server = tree.run();
    let began = Instant::now();
    let missing = |counts: &HashMap<String, u64>| {
        let missing = taken.iter().filter(|r| !counts.contains_key(*r));
        missing.cloned().collect::<Vec<_>>()
    };
    let is_over = AtomicBool::new(false);
    while !is_over.load(Ordering::Relaxed) {
        let lost = missing(&arrived(&sink));
        assert!(
            lost.is_empty() || began.elapsed() < Duration::from_secs(60),
            "{} of {} are lost: {:?}",
            lost.len(),
            taken.len(),
            lost.iter().take(10).collect::<Vec<_>>()
        );
        is_over.store(lost.is_empty(), Ordering::Relaxed);
        sleep(Duration::from_millis(200)).await;
    }
    // What was given to a session when the process died comes once more.
    sleep(Duration::from_secs(2)).await;
    server.stop();
    assert!(
        taken.len() as u64 > kills * 20,
        "hardly any load: {}",
        taken.len()
    );
    let counts = arrived(&sink);
    let stories = std::fs::read_dir(tree.path("system/trace")).unwrap();
    let stories: String = stories
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let flagged = |recipient: &str| {
        let mut lines = stories.lines();
        let recipient = format!("\"{recipient}\"");
        lines.any(|line| line.contains(&recipient) && line.contains("\"duplicate_possible\":true"))
    };
    for (recipient, count) in counts.iter().filter(|(_, count)| **count > 1) {
        assert!(*count <= 1 + kills, "{recipient} arrived {count} times");
        assert!(
            flagged(recipient),
            "{recipient} arrived {count} times and nobody says so"
        );
    }
}
