//! The stop with very many sessions (T-37). `GALERNE_CROWD` says how many: 9,000 within
//! 20,000 open files of each process.

use std::time::{Duration, Instant};

use galerne_sim::sink::{Rule, Sink, Stage};
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::up_to_the_dot;
use crate::process::{MESSAGE, Tree};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_37_queue_19_a_stop_with_very_many_sessions_is_quick_and_loses_nothing() {
    let asked = std::env::var("GALERNE_CROWD").ok();
    let crowd: usize = asked.and_then(|text| text.parse().ok()).unwrap_or(1_500);
    let main = format!(
        "[rfmta]\ngrace = 5\n[rfrelay]\nthreadnb = {}\n",
        crowd + 100
    );
    let tree = Tree::new(&main);
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    sink.rule(
        Rule::at(Stage::Dot)
            .recipient("slow")
            .delay(Duration::from_millis(1500)),
    );
    sink.rule(Rule::at(Stage::Dot).recipient("never").hang());
    let server = tree.run();
    let mut idle = Vec::new();
    let mut coming = JoinSet::new();
    for _ in 0..crowd {
        let at = tree.smtp;
        coming.spawn(async move {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).await.unwrap();
            assert_eq!(&greeting, b"220 ");
            stream
        });
        if coming.len() >= 64 {
            idle.push(coming.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(stream) = coming.join_next().await {
        idle.push(stream.unwrap());
    }
    assert_eq!(idle.len(), crowd);
    // A message that is ours: its attempt hangs when the server stops.
    let queued = format!("X-SMTP-R-API: {{\"message\":{{\"mode\":\"queue\"}}}}\r\n{MESSAGE}");
    let mut client = tree.greeted().await;
    let taken = client
        .transaction(
            "orders@example.com",
            &["never@example.org"],
            queued.as_bytes(),
        )
        .await
        .unwrap();
    assert!(taken.text().starts_with("250 2.0.0 queued as "), "{taken}");
    let mut waiting = up_to_the_dot(&tree, "slow@example.org").await;
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(waiting.reply().await.unwrap().code, 250, "it had its time");
    let output = server.end();
    let took = begun.elapsed();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    for mut stream in idle {
        let mut last = String::new();
        stream.read_to_string(&mut last).await.unwrap();
        assert!(last.contains("\r\n421 4.3.2 "), "{last:?}");
    }
    // Nothing is lost: what hung is on disk, and may have been delivered.
    let listed = tree.command("queue list --json");
    assert!(listed.stdout.contains("never@example.org"), "{listed:?}");
    sink.clear_rules();
    let server = tree.run();
    let trace = tree.command("queue trace never@example.org --json");
    assert!(
        trace.stdout.contains("\"duplicate_possible\": true")
            || trace.stdout.contains("\"duplicate_possible\":true"),
        "{trace:?}"
    );
    assert_eq!(server.stop().code, Some(0));
}
