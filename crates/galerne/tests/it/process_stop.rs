//! The stop (QUEUE-19): what runs comes to its end, what is new is refused, all is on disk.

use std::time::{Duration, Instant};

use galerne_sim::sink::{Rule, Sink, Stage};
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::process::{MESSAGE, Server, Tree, until};

mod crowd;

/// Sends everything up to the final dot; the answer is still due.
async fn up_to_the_dot(tree: &Tree, recipient: &str) -> galerne_sim::client::TestClient<TcpStream> {
    let mut client = tree.greeted().await;
    for line in [
        "MAIL FROM:<orders@example.com>",
        &format!("RCPT TO:<{recipient}>"),
        "DATA",
    ] {
        assert!(client.command(line).await.unwrap().code < 400, "{line}");
    }
    client
        .send_raw(format!("{MESSAGE}.\r\n").as_bytes())
        .await
        .unwrap();
    client
}

/// Waits until the destination has been told a command of this kind.
async fn reached(sink: &Sink, command: &str) {
    let seen = || {
        sink.sessions()
            .iter()
            .any(|s| s.commands.iter().any(|c| c.starts_with(command)))
    };
    let found = until(|| seen().then_some(()));
    assert!(found.is_some(), "{command}: {:?}", sink.sessions());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn queue_19_a_message_under_way_gets_its_true_answer() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    let slow = |who: &str, time: u64| {
        let delay = Duration::from_millis(time);
        let rule = Rule::at(Stage::Dot).recipient(who).delay(delay);
        sink.rule(rule.reply("250 2.0.0 Queued as SLOW"));
    };
    slow("anna", 700);
    // What came by the control socket has its answer when no SMTP session is open any more.
    slow("bert", 1500);
    let server = tree.run();
    let mut idle = tree.greeted().await;
    let mut waiting = up_to_the_dot(&tree, "anna@example.org").await;
    // The same by the control socket.
    let mut command = tree.galerne([
        "send",
        "--from",
        "a@example.com",
        "--to",
        "bert@example.org",
    ]);
    tree.write("letter.eml", MESSAGE);
    command.arg(tree.path("letter.eml"));
    let sending = Server::start(command);
    assert!(until(|| (sink.sessions().len() == 2).then_some(())).is_some());
    reached(&sink, "DATA").await;
    let begun = Instant::now();
    server.signal(Signal::TERM);

    let goodbye = idle.reply().await.unwrap();
    assert!(
        goodbye.text().starts_with("421 4.3.2 "),
        "a waiting client is told: {goodbye}"
    );
    let refused = until(|| {
        std::net::TcpStream::connect(tree.smtp)
            .is_err()
            .then_some(())
    });
    assert!(refused.is_some(), "no new session");
    let answer = waiting.reply().await.unwrap();
    assert_eq!(answer.text(), "250 2.0.0 Queued as SLOW");
    let sent = sending.end();
    assert_eq!(
        (sent.code, sent.stdout.as_str()),
        (Some(0), "250 2.0.0 Queued as SLOW\n"),
        "{sent:?}"
    );
    let output = server.end();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it ends when the last answer is given"
    );
    let log = tree.read("logs/rfrelay.csv");
    assert_eq!(
        log.matches("250 2.0.0 Queued as SLOW").count(),
        4,
        "both are in the log: {log}"
    );
    assert_eq!(sink.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_19_the_grace_time_bounds_the_stop() {
    let tree = Tree::new("[rfmta]\ngrace = 1\n");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    sink.rule(Rule::at(Stage::Dot).hang());
    let server = tree.run();
    let _waiting = up_to_the_dot(&tree, "anna@example.org").await;
    reached(&sink, "DATA").await;
    let begun = Instant::now();
    let output = server.stop();
    let took = begun.elapsed();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(10),
        "{took:?}"
    );
    // The final dot was out and no answer had come: that is on record (RELAY-70).
    let log = tree.read("logs/rfmta.csv");
    assert!(log.contains("Unknown"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_19_a_second_signal_ends_at_once_and_equally_safe() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(
        sink.address(),
        "[pattern]\nunknown = HARD(unknown) 550 5.1.1 *\n",
    );
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("gone")
            .reply("550 5.1.1 No such user"),
    );
    sink.rule(Rule::at(Stage::Dot).hang());
    let mut server = tree.run();
    assert_eq!(
        tree.relay("gone@example.org").await,
        "550 5.1.1 No such user"
    );
    let _waiting = up_to_the_dot(&tree, "anna@example.org").await;
    reached(&sink, "DATA").await;
    server.signal(Signal::TERM);
    server.says("stopping");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        !server.has_ended(),
        "the first signal waits for the transaction"
    );
    let begun = Instant::now();
    server.signal(Signal::TERM);
    let output = server.end();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        tree.read("logs/rfrelay.csv").contains("gone@example.org"),
        "what was done is in the log"
    );
    assert!(
        tree.read("lists/rfhard.csv").contains("gone@example.org"),
        "and in the list"
    );
    assert!(!tree.path("system/control.sock").exists());
    assert_eq!(
        tree.run().stop().code,
        Some(0),
        "it starts again as if nothing had been"
    );
}
