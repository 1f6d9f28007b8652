//! The operator's story, with the real program: a fresh address warms up at a provider that blocks
//! beyond a threshold, backs off, recovers and grows. All that is asserted is what an operator
//! reads: `flow list` and the log files.

use std::time::{Duration, Instant};

use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};

use crate::process::Tree;

/// Periods of weeks are seconds here; volumes are handfuls.
const FLOW: &str = "[ipflow#warmup]
threadmax = 1
chainmax = 10
volttlhigh = 24h
volmaxhigh = 100
flowvolup = 6
flowup = low
[ipflow#low]
threadmax = 2
volttlhigh = 24h
volmaxhigh = 1000
[ipflow#defcon1]
threadmax = 1
chainmax = 1
sleepttl = 2
volttlhigh = 24h
volmaxhigh = 20
flowvolup = 2
[pattern]
toomany = FLOW(rate, #defcon1) 421 *too many*
";
/// The provider takes so many of a day before it blocks.
const THRESHOLD: usize = 4;

/// The line of `flow list` for the address.
fn listed(tree: &Tree) -> String {
    let table = tree.command("flow list --group @next");
    assert_eq!(table.code, Some(0), "{table:?}");
    let ip = tree.ip(1).to_string();
    let mut lines = table.stdout.lines();
    let line = lines.find(|line| line.contains(&ip));
    line.unwrap_or_else(|| panic!("{table:?}")).to_owned()
}

/// Words of the line, without the columns' blanks.
fn shows(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word} in: {line}");
    }
}

#[tokio::test]
async fn flow_9_flow_30_flow_38_flow_41_flow_42_flow_43_if_6_the_story_of_a_fresh_address() {
    let tree = Tree::new("");
    let remote = tree.place(5);
    let provider = Sink::start(remote, SinkOptions::default()).await.unwrap();
    tree.route_to(remote, FLOW);
    let server = tree.run();

    // It warms up.
    for _ in 0..THRESHOLD {
        assert!(tree.relay("anna@example.org").await.starts_with("250 "));
    }
    shows(&listed(&tree), &["ipflow", "warmup", "4/100"]);

    // The provider has had enough: the client is told what the provider said.
    provider.rule(Rule::at(Stage::Mail).reply("421 4.7.0 too many messages from you"));
    let said = tree.relay("anna@example.org").await;
    assert_eq!(said, "451 4.7.0 too many messages from you");
    shows(&listed(&tree), &["defcon1", "5/20", "sleep"]);

    // It sleeps, though the provider would take mail again; then it goes on slowly.
    provider.clear_rules();
    let began = Instant::now();
    assert!(tree.relay("anna@example.org").await.starts_with("250 "));
    let slept = began.elapsed();
    assert!(slept >= Duration::from_millis(1000), "{slept:?}");
    shows(&listed(&tree), &["defcon1", "6/20"]);

    // The second delivery there lifts the block: it begins anew, and grows.
    assert!(tree.relay("anna@example.org").await.starts_with("250 "));
    shows(&listed(&tree), &["warmup", "7/100"]);
    for _ in 0..6 {
        assert!(tree.relay("anna@example.org").await.starts_with("250 "));
    }
    shows(&listed(&tree), &["low", "13/1000"]);

    // The log tells it in order.
    tree.wait_for("logs/rfmta.txt", "warmup to low");
    let log = tree.read("logs/rfmta.txt");
    let story: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("flow @next ipflow "))
        .filter_map(|(_, rest)| rest.split_once(": "))
        .map(|(_, what)| what)
        .collect();
    assert_eq!(
        story,
        [
            "warmup to defcon1, a reply matched pattern toomany",
            "defcon1 to warmup, 2 delivered in the period of the up rule",
            "warmup to low, 6 delivered in the period of the up rule",
        ]
    );
    // And each attempt has its row: what was blocked, by which pattern, and what went before and after.
    let rows = tree.read("logs/rfmta.csv");
    let statuses: Vec<&str> = rows
        .lines()
        .skip(1)
        .filter_map(|line| ["Delivered", "Flow"].into_iter().find(|s| line.contains(s)))
        .collect();
    let mut expected = vec!["Delivered"; THRESHOLD];
    expected.push("Flow");
    expected.extend(["Delivered"; 8]);
    assert_eq!(statuses, expected, "{rows}");
    let blocked = rows.lines().find(|line| line.contains("Flow")).unwrap();
    shows(blocked, &["toomany", "rate", "421"]);
    server.stop();
}
