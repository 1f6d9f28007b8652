//! The program with little memory and little CPU (T-66), and its disk (QUEUE-7, T-32, T-33).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use galerne_sim::client::TestClient;
use galerne_sim::sink::{Rule, Sink, Stage};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::process::{MESSAGE, PATIENCE, Server, Tree};

/// Sessions that the server takes, and how many come.
const SESSIONS: usize = 150;
const CLIENTS: usize = 200;

/// What a client heard.
#[derive(Debug, Default)]
struct Heard {
    taken: usize,
    later: usize,
    full: usize,
    turned_away: usize,
    /// From the end of data to its reply at most.
    longest: Duration,
}

/// Sends messages that just stay in memory; every second one for the queue.
async fn offer(tree: Arc<Tree>, messages: usize) -> Heard {
    let mut heard = Heard::default();
    let stream = TcpStream::connect(tree.smtp).await.unwrap();
    let mut client = TestClient::new(stream).patience(PATIENCE * 2);
    match client.reply().await {
        Ok(greeting) if greeting.code == 220 => {}
        _ => {
            heard.turned_away = 1;
            return heard;
        }
    }
    client.command("EHLO client.example").await.unwrap();
    let body = "0123456789abcdef0123456789abcdef\r\n".repeat(7_000);
    for number in 0..messages {
        let mode = ["sync", "queue"][number % 2];
        let directive = format!("X-SMTP-R-API: {{\"message\":{{\"mode\":\"{mode}\"}}}}\r\n");
        let content = format!("{directive}{MESSAGE}{body}");
        let began = Instant::now();
        let to = ["anna@example.org"];
        let sent = client.transaction("orders@example.com", &to, content.as_bytes());
        match sent.await.unwrap().code {
            250 => heard.taken += 1,
            451 => heard.later += 1,
            452 => heard.full += 1,
            other => panic!("{other}"),
        }
        heard.longest = heard.longest.max(began.elapsed());
    }
    heard
}

fn add(all: &mut Heard, one: &Heard) {
    all.taken += one.taken;
    all.later += one.later;
    all.full += one.full;
    all.turned_away += one.turned_away;
    all.longest = all.longest.max(one.longest);
}

/// The most memory that a process had, in MiB.
fn most_memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    words[1].parse::<u64>().unwrap() / 1024
}

fn busy(timeout: u64) -> Arc<Tree> {
    Arc::new(Tree::new(&format!(
        "threadnb = {SESSIONS}\n[rfmta]\nthreadnb = {SESSIONS}\n[galerne]\nqmsize = 100\n[relay]\ntimeout = {timeout}\n[queue]\nminfree = 0\n"
    )))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_66_conf_13_under_full_load_512_mb_are_enough_and_what_is_too_much_is_refused() {
    let tree = busy(30);
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    // All wait at the same time, each with its message in memory.
    sink.rule(Rule::at(Stage::Dot).delay(Duration::from_millis(700)));
    tree.route_to(sink.address(), "");
    let mut server = tree.run();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(offer(tree.clone(), 4)))
        .collect();
    let mut all = Heard::default();
    for client in clients {
        add(&mut all, &client.await.unwrap());
    }
    assert!(!server.has_ended(), "{}", server.stderr());
    assert!(all.turned_away >= (CLIENTS - SESSIONS) / 2, "{all:?}");
    assert!(all.full > 0, "{all:?}");
    assert!(all.taken > SESSIONS, "{all:?}");
    let most = most_memory(&server);
    assert!(most < 512, "{most} MiB");
    // And it serves as before.
    assert_eq!(tree.relay("bert@example.org").await.get(..4), Some("250 "));
    assert_eq!(server.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_66_with_half_a_processor_deadlines_are_kept_under_load() {
    let tree = busy(3);
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    sink.rule(Rule::at(Stage::Rcpt).recipient("anna").hang());
    tree.route_to(sink.address(), "");
    let server = Arc::new(tree.run());
    let is_over = Arc::new(AtomicBool::new(false));
    // As a quota of half a processor does: nothing runs for half of each tenth of a second.
    let throttle = std::thread::spawn({
        let (server, is_over) = (server.clone(), is_over.clone());
        move || {
            while !is_over.load(Ordering::Relaxed) {
                server.signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(50));
                server.signal(Signal::CONT);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let clients: Vec<_> = (0..100)
        .map(|_| tokio::spawn(offer(tree.clone(), 1)))
        .collect();
    let mut all = Heard::default();
    for client in clients {
        add(&mut all, &client.await.unwrap());
    }
    is_over.store(true, Ordering::Relaxed);
    throttle.join().unwrap();
    assert_eq!(all.later, 100, "{all:?}");
    assert!(all.longest >= Duration::from_secs(3), "{all:?}");
    assert!(all.longest < Duration::from_secs(8), "{all:?}");
}

#[tokio::test]
async fn queue_7_a_queue_without_syncs_is_said_aloud_at_the_start() {
    for (config, is_unsafe) in [("", false), ("[queue]\nsync = 0\n", true)] {
        let tree = Tree::new(&format!("[relay]\nmode = queue\n{config}"));
        let output = tree.run().stop();
        assert_eq!(output.code, Some(0), "{output:?}");
        let said = output.stderr.contains("[queue]sync = 0") && output.stderr.contains("unsafe");
        assert_eq!(said, is_unsafe, "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_32_t_33_t_34_a_disk_that_fails_takes_no_mail_and_what_is_queued_goes_out() {
    let tree = Tree::new("[relay]\nmode = queue\n[queue]\nretry = 1s\nminfree = 0\n");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    let layer = tree.faultfs();
    let mut command = tree.galerne(["run"]);
    command.env("LD_PRELOAD", &layer);
    command.env("FAULTFS_ROOT", tree.root());
    command.env("FAULTFS_RULES", tree.path("rules"));
    let server = Server::ready(command);
    let mut sent = 0;
    for (rules, code) in [
        // A sync that fails; a full disk, for the queue, the logs and what is written at all; one
        // that cannot be written any more.
        ("sync queue.db-wal 5 *\n", "451 4.3.0"),
        ("write system/queue 28 *\n", "452 4.3.1"),
        ("* * 28 *\n", "452 4.3.1"),
        ("* * 30 *\n", "451 4.3.0"),
    ] {
        let errors = || server.stderr().matches("ERROR").count();
        let before = errors();
        // It is taken over and on its way when the disk fails.
        sink.rule(Rule::at(Stage::Dot).times(1).delay(Duration::from_secs(1)));
        let waiting = tree.relay("anna@example.org").await;
        assert!(waiting.starts_with("250 2.0.0 queued"), "{waiting}");
        while sink.attempts().len() == sent {
            sleep(Duration::from_millis(5)).await;
        }
        fs::write(tree.path("rules-new"), rules).unwrap();
        fs::rename(tree.path("rules-new"), tree.path("rules")).unwrap();
        let refused = tree.relay("bert@example.org").await;
        assert!(refused.starts_with(code), "{rules}: {refused}");
        sent += 1;
        while sink.messages().len() < sent {
            sleep(Duration::from_millis(5)).await;
        }
        // An operator hears of it: the log has a thread of its own.
        let began = Instant::now();
        while errors() == before {
            assert!(began.elapsed() < PATIENCE, "{rules}: {}", server.stderr());
            sleep(Duration::from_millis(5)).await;
        }
        fs::remove_file(tree.path("rules")).unwrap();
        // It recovers alone.
        let began = Instant::now();
        loop {
            let reply = tree.relay("carl@example.org").await;
            if reply.starts_with("250 2.0.0 queued") {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{rules}: {reply}");
            sleep(Duration::from_millis(50)).await;
        }
        sent += 1;
        while sink.messages().len() < sent {
            sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(server.stop().code, Some(0));
    let messages = sink.messages();
    let refused = messages
        .iter()
        .filter(|m| m.recipients == ["bert@example.org"]);
    assert_eq!(refused.count(), 0, "what was refused was not taken");
}
