//! The queue as an operator works with it, with the real program: see, hold, suspend, drain, bounce,
//! over restarts (QUEUE-13, QUEUE-16, QUEUE-18).

use std::os::unix::fs::PermissionsExt;

use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use serde_json::Value;

use crate::process::{MESSAGE, Output, Tree, finish, until};

mod backup;

/// Everything is taken over, nothing is retried while a test runs, and no name server answers.
const MAIN: &str =
    "[relay]\nmode = queue\ntimeout = 1\n[queue]\nretry = 1h\n[dns]\nresolver = 127.0.0.1:1\n";

/// A tree whose mail goes to a sink that puts `later…` off.
async fn tree() -> (Tree, Sink) {
    let tree = Tree::new(MAIN);
    let remote = tree.place(5);
    let sink = Sink::start(remote, SinkOptions::default()).await.unwrap();
    for name in ["later1", "later2"] {
        sink.rule(
            Rule::at(Stage::Rcpt)
                .recipient(name)
                .reply("451 4.2.1 later"),
        );
    }
    tree.route_to(remote, "");
    (tree, sink)
}

/// Queues a message and gives its id.
async fn queued(tree: &Tree, recipients: &[&str]) -> String {
    let mut client = tree.greeted().await;
    let message = MESSAGE.as_bytes();
    let reply = client
        .transaction("orders@example.com", recipients, message)
        .await
        .unwrap()
        .text();
    let id = reply.strip_prefix("250 2.0.0 queued as ");
    id.unwrap_or_else(|| panic!("{reply}")).to_owned()
}

fn ok(output: Output) -> String {
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout
}

fn json(output: Output) -> Value {
    let text = ok(output);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn list(tree: &Tree, filters: &str) -> Vec<Value> {
    let rows = json(tree.command(&format!("queue list --json {filters}")));
    rows.as_array().unwrap().clone()
}

/// Waits until so many deliveries are listed by these filters.
fn listed(tree: &Tree, filters: &str, count: usize) -> Vec<Value> {
    let found = until(|| Some(list(tree, filters)).filter(|rows| rows.len() == count));
    found.unwrap_or_else(|| panic!("{filters}: {:?}", list(tree, filters)))
}

fn says(tree: &Tree, line: &str, text: &str) {
    let said = ok(tree.command(line));
    assert_eq!(said.trim_end(), text, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_17_a_story_is_told_from_the_moment_of_the_250() {
    let (tree, _sink) = tree().await;
    let _server = tree.run();
    for number in 1..=3 {
        let recipient = format!("later1@d{number}.example");
        let id = queued(&tree, &[&recipient]).await;
        let story = ok(tree.command(&format!("queue trace {recipient}")));
        assert!(story.contains(&id), "{story}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_16_if_6_if_7_mail_is_listed_shown_held_released_retried_over_a_restart() {
    let (tree, sink) = tree().await;
    let server = tree.run();
    let one = queued(&tree, &["later1@example.org", "now@example.org"]).await;
    let two = queued(&tree, &["later2@example.net"]).await;
    let rows = listed(&tree, "--state deferred", 2);
    assert_eq!(listed(&tree, "", 2).len(), 2, "the third was delivered");
    let keys: Vec<&str> = rows[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "id",
            "ref",
            "user",
            "sender",
            "recipient",
            "state",
            "attempts",
            "next",
            "age",
            "group",
            "route",
            "outbound",
            "lastreply",
            "duplicate_possible",
            "held"
        ]
    );
    assert_eq!(
        (&rows[0]["id"], &rows[1]["id"]),
        (&one.as_str().into(), &two.as_str().into()),
        "oldest first"
    );
    assert_eq!(rows[0]["recipient"], "later1@example.org");
    assert_eq!(
        (&rows[0]["user"], &rows[0]["attempts"]),
        (&"shop".into(), &1.into())
    );
    assert_eq!(rows[0]["outbound"], tree.ip(1).to_string());
    assert!(
        rows[0]["lastreply"]
            .as_str()
            .unwrap()
            .contains("4.2.1 later"),
        "{}",
        rows[0]
    );
    assert!(rows[0]["next"].as_str().unwrap().ends_with('Z'));

    // Every filter by itself.
    let reference = rows[1]["ref"].as_str().unwrap().to_owned();
    let group = rows[1]["group"].as_str().unwrap().to_owned();
    assert_eq!(group, "next", "a relay host is a group of its own");
    for (filters, count) in [
        ("--user shop", 2),
        ("--user other", 0),
        ("--sender orders@example.com", 2),
        ("--sender other@example.com", 0),
        ("--recipient LATER2@example.net", 1),
        ("--domain example.org", 1),
        ("--state waiting", 0),
        ("--state held", 0),
        ("--older 1h", 0),
        ("--older 0s", 2),
        ("--tag none", 0),
        ("--route nowhere", 0),
        (&format!("--ref {reference}"), 1),
        (&format!("--group @{group}"), 2),
        (&format!("{two} {reference} {one}"), 2),
        ("--limit 1", 1),
        ("--limit 0", 2),
    ] {
        assert_eq!(list(&tree, filters).len(), count, "{filters}");
    }
    let table = ok(tree.command("queue list --limit 1"));
    assert!(table.contains(&one) && !table.contains(&two), "{table}");
    assert!(
        table.contains("1 delivery of 1 message") && table.contains("--limit 0 shows all"),
        "{table}"
    );

    let shown = ok(tree.command(&format!("queue show {one}")));
    for text in [
        "orders@example.com",
        "later1@example.org: deferred",
        "4.2.1 later",
        "decided",
    ] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
    assert!(
        !shown.contains("Hello") && !shown.contains("now@example.org"),
        "{shown}"
    );
    let documents = json(tree.command(&format!("queue show {two} --json")));
    assert_eq!(
        documents[0]["recipients"][0]["recipient"],
        "later2@example.net"
    );
    let content = ok(tree.command(&format!("queue show {two} --content")));
    assert!(
        content.ends_with("Subject: Your order\r\n\r\nHello\r\n"),
        "{content}"
    );
    let none = tree.command("queue show nothing");
    assert_eq!(none.code, Some(1), "{none:?}");

    says(
        &tree,
        &format!("queue hold {two}"),
        "hold: 1 delivery of 1 message",
    );
    says(
        &tree,
        &format!("queue hold {two}"),
        "hold: 0 deliveries of 0 messages",
    );
    says(
        &tree,
        &format!("queue retry {two}"),
        "retry: 0 deliveries of 0 messages",
    );
    server.stop();

    // Without a server it is what is stored.
    let without = tree.command("queue list --json --state held");
    assert!(without.stderr.contains("no server runs"), "{without:?}");
    assert_eq!(json(without)[0]["id"], two.as_str());
    assert!(ok(tree.command("queue list")).contains(&one));
    assert!(ok(tree.command(&format!("queue show {two}"))).contains("held"));
    assert!(ok(tree.command(&format!("queue show {two} --content"))).contains("Hello"));
    let refused = tree.command(&format!("queue release {two}"));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no server runs"), "{refused:?}");
    let active = tree.command("queue list --state active");
    assert_eq!(active.code, Some(1), "{active:?}");

    let server = tree.run();
    let held = listed(&tree, "--state held", 1);
    assert_eq!(
        (&held[0]["held"], &held[0]["next"]),
        (&true.into(), &Value::Null)
    );
    sink.clear_rules();
    says(
        &tree,
        "queue release --domain example.net",
        "release: 1 delivery of 1 message",
    );
    says(
        &tree,
        "queue retry --all",
        "retry: 2 deliveries of 2 messages",
    );
    listed(&tree, "", 0);
    assert_eq!(sink.accepted(), 3);
    tree.wait_for(
        "logs/galerne.txt",
        "queue retry: 2 deliveries of 2 messages",
    );
    let logs = tree.read("logs/galerne.txt") + &server.stop().stderr;
    assert!(!logs.contains("Hello"), "content in a log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_16_bounce_and_delete_ask_and_nothing_is_done_to_all_by_mistake() {
    let (tree, _sink) = tree().await;
    let server = tree.run();
    let one = queued(&tree, &["later1@example.org"]).await;
    queued(&tree, &["later2@example.net"]).await;
    listed(&tree, "--state deferred", 2);
    for verb in ["bounce", "delete"] {
        let asks = tree.command(&format!("queue {verb} {one}"));
        assert_eq!(asks.code, Some(1), "{asks:?}");
        assert!(asks.stderr.contains("add --yes"), "{asks:?}");
    }
    for line in [
        "queue bounce --yes",
        "queue hold",
        "queue move --outbound @next",
        "queue hold --all --user shop",
    ] {
        let refused = tree.command(line);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("--all"), "{refused:?}");
    }
    assert_eq!(list(&tree, "").len(), 2);

    says(
        &tree,
        &format!("queue bounce {one} --yes"),
        "bounce: 1 delivery of 1 message",
    );
    // The sender is told: by a message of ours.
    let null = |verb: &[&str]| {
        let words = ["queue"]
            .iter()
            .chain(verb)
            .chain(&["--sender", "", "--json"]);
        json(finish(tree.galerne(words.copied()), ""))
    };
    let told = until(|| {
        let told = null(&["list"]);
        (told.as_array().unwrap().len() == 1).then_some(told)
    });
    let told = told.unwrap_or_else(|| panic!("{:?}", list(&tree, "")));
    assert_eq!(told[0]["recipient"], "orders@example.com");
    listed(&tree, &one, 0);
    let shown = ok(tree.command(&format!(
        "queue show {} --content",
        told[0]["id"].as_str().unwrap()
    )));
    assert!(shown.contains("later1@example.org"), "{shown}");
    let deleted = null(&["delete", "--yes"]);
    assert_eq!(deleted["deliveries"], 1);
    let deleted = json(tree.command("queue delete --all --yes --json"));
    assert_eq!(deleted["messages"], 1);
    listed(&tree, "", 0);
    assert_eq!(ok(tree.command("queue list")), "the queue is empty\n");
    server.stop();
    assert_eq!(list(&tree, "").len(), 0, "nothing comes back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_18_suspended_mail_waits_over_a_restart_and_goes_when_it_is_resumed() {
    let (tree, sink) = tree().await;
    let server = tree.run();
    for (line, why) in [
        (
            "lane suspend --account nobody --reason x",
            "there is no account nobody",
        ),
        (
            "lane suspend --group @nowhere --reason x",
            "there is no group @nowhere",
        ),
        (
            "lane suspend --outbound 192.0.2.99 --reason x",
            "is not in [IP]",
        ),
        (
            "lane suspend --lane gmail --reason x",
            "expected `group NAME`",
        ),
        ("lane resume 7", "no suspension of that number"),
    ] {
        let refused = tree.command(line);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
    let number = |line: &str| json(tree.command(line))["number"].as_u64().unwrap();
    let account = number("lane suspend --account shop --reason incident-7 --json");
    let domain = number("lane suspend --domain example.edu --reason moved --for 2h --json");
    assert_ne!(account, domain);
    queued(&tree, &["anna@example.org"]).await;
    let rows = listed(&tree, "--state suspended --group @next", 1);
    assert_eq!(
        (&rows[0]["attempts"], &rows[0]["next"]),
        (&0.into(), &Value::Null)
    );
    let lanes = json(tree.command("lane list --json"));
    let lane = &lanes["lanes"][0];
    assert_eq!(
        (&lane["suspended"], &lane["running"]),
        (&1.into(), &0.into()),
        "{lanes}"
    );
    assert_eq!(lanes["suspensions"][1]["lane"], "domain example.edu");
    assert!(lanes["suspensions"][1]["until"].is_string(), "{lanes}");
    let status = ok(tree.command("queue status"));
    assert!(status.contains("account shop: incident-7"), "{status}");
    server.stop();
    let mode = std::fs::metadata(tree.path("system/suspended.json"));
    assert_eq!(mode.unwrap().permissions().mode() & 0o777, 0o600);

    let server = tree.run();
    let table = ok(tree.command("lane list"));
    assert!(
        table.contains(&format!("suspended {account}: account shop: incident-7")),
        "{table}"
    );
    listed(&tree, "--state suspended", 1);
    assert_eq!(sink.accepted(), 0);
    let resumed = ok(tree.command(&format!("lane resume {account}")));
    assert!(resumed.contains("incident-7"), "{resumed}");
    listed(&tree, "", 0);
    assert_eq!(sink.accepted(), 1);
    server.stop();

    // Of an address alone: mail that has no other says so.
    let server = tree.run();
    let ip = tree.ip(1);
    let address = number(&format!(
        "lane suspend --outbound {ip} --reason listed --json"
    ));
    let id = queued(&tree, &["anna@example.org"]).await;
    let suspended = until(|| {
        let rows = list(&tree, &id);
        let reply = rows[0]["lastreply"].as_str().unwrap();
        reply.contains("suspended").then_some(())
    });
    assert!(suspended.is_some(), "{:?}", list(&tree, &id));
    assert_eq!(sink.accepted(), 1);
    ok(tree.command(&format!("lane resume {address}")));
    ok(tree.command(&format!("queue retry {id}")));
    listed(&tree, "", 0);
    assert_eq!(sink.accepted(), 2);
    server.stop();

    // What is damaged is set aside, and the server starts.
    tree.write("system/suspended.json", "{");
    let server = tree.run();
    assert!(tree.path("system/suspended.damaged").exists());
    assert_eq!(
        json(tree.command("lane list --json"))["suspensions"],
        serde_json::json!([])
    );
    let output = server.stop();
    assert!(output.stderr.contains("nothing is suspended"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_13_status_shows_the_oldest_undecided_delivery() {
    let (tree, _sink) = tree().await;
    let before = json(tree.command("queue status --json"));
    assert_eq!(
        (&before["running"], &before["deliveries"]),
        (&false.into(), &0.into())
    );
    let server = tree.run();
    let one = queued(&tree, &["later1@example.org"]).await;
    queued(&tree, &["later2@example.net"]).await;
    listed(&tree, "--state deferred", 2);
    // In whatever state it is.
    for verb in ["retry", "hold", "release"] {
        ok(tree.command(&format!("queue {verb} {one}")));
        let status = json(tree.command("queue status --json"));
        assert_eq!(status["oldest"]["id"], one.as_str(), "{verb}: {status}");
        assert_eq!(
            (&status["ready"], &status["deliveries"]),
            (&true.into(), &2.into())
        );
        assert!(status["qmsize"].as_u64().unwrap() > 0 && status["free"].as_u64().unwrap() > 0);
        let held = u64::from(verb == "hold");
        assert_eq!(status["states"]["held"], held, "{status}");
    }
    let text = ok(tree.command("queue status"));
    assert!(text.contains("oldest") && text.contains(&one), "{text}");
    server.stop();
    let stored = json(tree.command("queue status --json"));
    assert_eq!(stored["deliveries"], 2);
    assert!(stored["oldest"]["age"].is_u64(), "{stored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_16_moved_mail_goes_by_another_way_once() {
    let (tree, sink) = tree().await;
    let other = Sink::start(tree.place(6), SinkOptions::default())
        .await
        .unwrap();
    let place = other.address();
    let host = format!("[dns]\nmx = {}\nport = {}\n", place.ip(), place.port());
    tree.write_secret("hosts/@other.ini", &host);
    tree.account(
        "shop",
        "smtpip = 127.0.0.0/8\nauthorizedroute = @next @other\n",
    );
    let server = tree.run();
    let directive = r#"{"message":{"ref":"order-1"},"routing":{"outbound":"@next"}}"#;
    let message = format!("X-SMTP-R-API: {directive}\r\n{MESSAGE}");
    let mut client = tree.greeted().await;
    let recipients = ["later1@example.org", "later2@example.net"];
    let reply = client
        .transaction("orders@example.com", &recipients, message.as_bytes())
        .await
        .unwrap();
    let id = reply.text().rsplit(' ').next().unwrap().to_owned();
    listed(&tree, "--state deferred", 2);

    let refused = tree.command(&format!("queue move {id} --outbound @nowhere"));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("2 not moved") && refused.stderr.contains("not allowed"),
        "{refused:?}"
    );
    let wrong = tree.command(&format!("queue move {id} --outbound nowhere"));
    assert!(
        wrong.stderr.contains("neither an IP nor an @host"),
        "{wrong:?}"
    );
    assert_eq!(
        list(&tree, "--state deferred").len(),
        2,
        "and they wait as before"
    );

    says(
        &tree,
        "queue move --recipient later1@example.org --outbound @other",
        "move: 1 delivery of 1 message",
    );
    other.wait_accepted(1).await;
    let left = listed(&tree, "", 1);
    assert_eq!(
        (&left[0]["recipient"], &left[0]["ref"]),
        (&"later2@example.net".into(), &"order-1".into())
    );
    server.stop();

    // Nothing of it comes back, and what was not meant goes its old way.
    let server = tree.run();
    sink.clear_rules();
    listed(&tree, "", 1);
    until(|| {
        (ok(tree.command("queue retry --all")) == "retry: 1 delivery of 1 message\n").then_some(())
    });
    listed(&tree, "", 0);
    assert_eq!((other.accepted(), sink.accepted()), (1, 1));
    assert_eq!(sink.messages()[0].recipients, ["later2@example.net"]);
    server.stop();
}
