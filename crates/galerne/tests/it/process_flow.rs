//! Flow control as an operator sees it: `flow list`, `flow set`, the log, a restart (IF-6, FLOW-41,
//! FLOW-49, FLOW-50, CONF-36, FLOW-28).

use std::time::Duration;

use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Server, Tree, finish};

/// A tree whose mail goes to a sink through a relay host with flow sections.
async fn tree(flow: &str) -> (Tree, Sink) {
    let tree = Tree::new("");
    let remote = tree.place(5);
    let sink = Sink::start(remote, SinkOptions::default()).await.unwrap();
    tree.route_to(remote, flow);
    (tree, sink)
}

#[tokio::test]
async fn if_6_flow_66_flow_74_patterns_replay_says_what_would_change() {
    let tree = Tree::new("");
    tree.write(
        "domains/@isp.ini",
        "[dns]\nmx = *.isp.example\n[pattern]\nfull = SOFT(full) 452 *\n",
    );
    tree.write(
        "domains/@isp_log.csv",
        "rfsenddate,ref,rfmailno,rfrecno,rfsendip,rfmxip,rfstp,rfrcv\n261125073000,r,0,0,192.0.2.1,192.0.2.2,RCPT,452 4.2.2 mailbox full\n261125073001,r,0,0,192.0.2.1,192.0.2.2,RCPT,550 no idea\n261125073002,r,0,0,192.0.2.1,192.0.2.2,RCPT,452 4.2.2 quota\n",
    );
    let replayed = tree.command(
        "patterns replay --json ROOT/domains/@isp_log.csv"
            .replace("ROOT", &tree.root().display().to_string())
            .as_str(),
    );
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let document: Value = serde_json::from_str(&replayed.stdout).unwrap();
    assert_eq!(document["replies"], 3);
    let changes = document["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1);
    let change = &changes[0];
    assert_eq!(
        (&change["before"], &change["now"], &change["count"]),
        (&"unknown".into(), &"full".into(), &2.into())
    );
    assert!(
        change["source"]
            .as_str()
            .unwrap()
            .contains("domains/@isp.ini:4"),
        "{change}"
    );
    let other = tree.command(&format!(
        "patterns replay {}/galerne.ini",
        tree.root().display()
    ));
    assert_eq!(other.code, Some(1), "{other:?}");
}

const FLOW: &str = "[ipflow#warmup]\nthreadmax = 0\nvolttlhigh = 24h\nvolmaxhigh = 50\n[ipflow#defcon1]\nsleepttl = 1h\n[pattern]\nlisted = FLOW(rate, #defcon1) 421 *too many\n";

fn states(tree: &Tree) -> Vec<Value> {
    let listed = tree.command("flow list --group @next --json");
    assert_eq!(listed.code, Some(0), "{listed:?}");
    serde_json::from_str::<Value>(&listed.stdout)
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

fn of_ip(tree: &Tree) -> Value {
    let states = states(tree);
    let found = states.iter().find(|state| state["control"] == "ipflow");
    found.unwrap_or_else(|| panic!("{states:?}")).clone()
}

#[tokio::test]
async fn if_6_flow_41_flow_49_conf_36_t_51_states_are_listed_switched_logged_and_survive_a_restart()
{
    let (tree, sink) = tree(FLOW).await;
    let server = tree.run();
    for _ in 0..3 {
        assert!(tree.relay("anna@example.org").await.starts_with("250 "));
    }
    let state = of_ip(&tree);
    assert_eq!(state["set"], "warmup");
    assert_eq!(
        (&state["high"]["sent"], &state["high"]["max"]),
        (&3.into(), &50.into())
    );
    sink.rule(Rule::at(Stage::Rcpt).times(1).reply("421 4.7.0 too many"));
    let reply = tree.relay("anna@example.org").await;
    assert_eq!(reply, "451 4.7.0 too many");
    let state = of_ip(&tree);
    assert_eq!(state["set"], "defcon1");
    assert!(state["sleep"].as_u64().unwrap() > 3500, "{state}");
    tree.wait_for(
        "logs/rfmta.txt",
        "warmup to defcon1, a reply matched pattern listed",
    );
    let table = tree.command("flow list");
    assert!(
        table.stdout.contains("defcon1") && table.stdout.contains("sleeps"),
        "{table:?}"
    );
    server.stop();

    // Without a server it is what was stored.
    let state = of_ip(&tree);
    assert_eq!(
        (&state["set"], &state["high"]),
        (&"defcon1".into(), &Value::Null)
    );
    let ip = tree.ip(1);
    let explained =
        tree.command("explain --from orders@example.com --to anna@example.org --user shop");
    let shown = format!("{ip}: defcon1, since ");
    assert!(explained.stdout.contains(&shown), "{explained:?}");
    assert!(
        explained.stdout.contains("[ipflow#defcon1] of @next"),
        "{explained:?}"
    );
    let set = tree.command(&format!("flow set @next --ip {ip} warmup --lock"));
    assert_eq!(set.code, Some(0), "{set:?}");
    let server = tree.run();
    assert!(tree.relay("anna@example.org").await.starts_with("250 "));
    let state = of_ip(&tree);
    assert_eq!(
        (&state["set"], &state["locked"]),
        (&"warmup".into(), &true.into())
    );
    // Messages of before count still: four MAIL commands and this one.
    assert_eq!(state["high"]["sent"], 5);
    for (line, why) in [
        (
            "flow set @nowhere --ip IP low",
            "there is no group or relay host @nowhere",
        ),
        (
            "flow set @next --ip 192.0.2.99 low",
            "192.0.2.99 is not in [IP]",
        ),
        ("flow set @next --ip IP fast", "there is no flow set fast"),
    ] {
        let said = tree.command(
            &line
                .replace("IP low", &format!("{ip} low"))
                .replace("IP fast", &format!("{ip} fast")),
        );
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains(why), "{said:?}");
    }
    let usage = tree.command("flow set @next low");
    assert_eq!(usage.code, Some(2), "{usage:?}");
    server.stop();
}

/// What counts in the longer window of the address, as `flow list` says it.
fn counted(tree: &Tree) -> u64 {
    of_ip(tree)["high"]["sent"].as_u64().unwrap()
}

/// As long as FLOW-28 gives for what changed to be on disk.
const STORED: Duration = Duration::from_secs(1);

/// The process is killed again and again: what it forgets was sent in its last second. How often is
/// said by `GALERNE_FLOW_KILLS`.
#[tokio::test]
async fn flow_28_t_50_a_kill_forgets_the_messages_of_the_last_second_and_no_others() {
    let asked = std::env::var("GALERNE_FLOW_KILLS").ok();
    let kills: u64 = asked.and_then(|text| text.parse().ok()).unwrap_or(3);
    let most = 6 * kills + 10;
    let flow = FLOW
        .replace("volmaxhigh = 50", &format!("volmaxhigh = {most}"))
        .replace("threadmax = 0\n", "threadmax = 0\nchainmax = 3\n");
    let (tree, sink) = tree(&flow).await;
    tree.append("galerne.ini", "[relay]\ntimeout = 5\n");
    let (mut kept, mut late) = (0, 0);
    for round in 0..kills {
        let server = tree.run();
        let found = counted_or_none(&tree);
        assert!(
            (kept..=kept + late).contains(&found),
            "round {round}: {found} of {kept} to {}",
            kept + late
        );
        for _ in 0..2 {
            assert!(tree.relay("anna@example.org").await.starts_with("250 "));
        }
        assert_eq!(counted(&tree), found + 2);
        tokio::time::sleep(STORED).await;
        (kept, late) = (found + 2, round % 4);
        for _ in 0..late {
            assert!(tree.relay("anna@example.org").await.starts_with("250 "));
        }
        server.signal(Signal::KILL);
        assert_eq!(server.end().signal, Some(9));
    }
    // The window is filled up: more than it may hold went by at most what was forgotten.
    let server = tree.run();
    let forgotten = sink.messages().len() as u64 - counted(&tree);
    assert!(forgotten <= (0..kills).map(|round| round % 4).sum());
    while sink.messages().len() as u64 <= most + forgotten {
        let reply = tree.relay("anna@example.org").await;
        if reply.starts_with("451 9.3.1 ") {
            break;
        }
        assert!(reply.starts_with("250 "), "{reply}");
    }
    assert_eq!(sink.messages().len() as u64, most + forgotten);
    assert_eq!(counted(&tree), most);
    // A block that was answered a second ago is not forgotten either.
    let ip = tree.ip(1);
    let set = tree.command(&format!("flow set @next --ip {ip} low"));
    assert_eq!(set.code, Some(0), "{set:?}");
    sink.rule(Rule::at(Stage::Rcpt).times(1).reply("421 4.7.0 too many"));
    assert_eq!(tree.relay("anna@example.org").await, "451 4.7.0 too many");
    tokio::time::sleep(STORED).await;
    server.signal(Signal::KILL);
    assert_eq!(server.end().signal, Some(9));
    let state = of_ip(&tree);
    assert_eq!(state["set"], "defcon1");
    assert!(state["sleep"].as_u64().unwrap() > 3500, "{state}");
}

fn counted_or_none(tree: &Tree) -> u64 {
    match states(tree).is_empty() {
        true => 0,
        false => counted(tree),
    }
}

/// The clock of the host is set while the program runs, and while it does not.
#[tokio::test]
async fn flow_28_t_49_t_50_t_65_counters_and_sleep_go_on_when_the_clock_is_set() {
    const HOUR: i64 = 3600;
    let (tree, sink) = tree(FLOW).await;
    tree.append("galerne.ini", "[relay]\ntimeout = 5\n");
    let layer = tree.faultfs();
    let set_clock = |seconds: i64| tree.write("clock", &seconds.to_string());
    let start = || {
        let mut command = tree.galerne(["run"]);
        command.env("LD_PRELOAD", &layer);
        command.env("FAULTFS_CLOCK", tree.path("clock"));
        Server::ready(command)
    };
    set_clock(0);
    let server = start();
    let mut sent = 0;
    // A year ahead, an hour back: none of it is told to the windows.
    for seconds in [0, 365 * 24 * HOUR, -HOUR, HOUR, -24 * HOUR] {
        set_clock(seconds);
        for _ in 0..2 {
            assert!(tree.relay("anna@example.org").await.starts_with("250 "));
        }
        sent += 2;
        assert_eq!(counted(&tree), sent, "the clock is wrong by {seconds} s");
    }
    server.stop();
    // It was set back by a day: what lies in its future counts all the same.
    let server = start();
    assert_eq!(counted(&tree), sent);
    sink.rule(Rule::at(Stage::Rcpt).times(1).reply("421 4.7.0 too many"));
    assert_eq!(tree.relay("anna@example.org").await, "451 4.7.0 too many");
    let sleeps = |tree: &Tree| of_ip(tree)["sleep"].as_u64().unwrap();
    assert!((3500..=3600).contains(&sleeps(&tree)));
    set_clock(-48 * HOUR);
    assert!((3500..=3600).contains(&sleeps(&tree)));
    server.stop();
    // Another day back: it does not sleep for a day longer.
    let server = start();
    assert!((3500..=3600).contains(&sleeps(&tree)), "{}", sleeps(&tree));
    server.stop();
    // Two hours later the sleep is over; a month later the window is empty.
    set_clock(-46 * HOUR);
    let server = start();
    assert_eq!(sleeps(&tree), 0);
    assert!(tree.relay("anna@example.org").await.starts_with("250 "));
    let ip = tree.ip(1);
    let set = tree.command(&format!("flow set @next --ip {ip} warmup"));
    assert_eq!(set.code, Some(0), "{set:?}");
    assert_eq!(counted(&tree), sent + 2, "the blocked one and the last");
    server.stop();
    set_clock(30 * 24 * HOUR);
    let server = start();
    assert_eq!(counted(&tree), 0);
    server.stop();
}

#[test]
fn flow_67_flow_71_flow_76_patterns_test_says_what_each_pattern_does() {
    let tree = Tree::new("");
    tree.write(
        "domains/@isp.ini",
        "[dns]\nmx = *.isp.example\n[pattern]\nnouser = HARD(unknown) 550 5.1.1 *\nspam = SPAM(content) 550 5.7.1 *\ngrey = GREY(greylist, 90) 450 *\nfull = SOFT(full) 452 *\nlisted = FLOW(block, #defcon2) 554 *\nrate = FLOW(rate) 421 *\n",
    );
    for (reply, says) in [
        ("550 5.1.1 no", "never tried again, entered into rfhard"),
        ("550 5.7.1 no", "never tried again, not entered into rfhard"),
        ("450 wait", "retry after 90 s"),
        ("452 full", "temporary: it may be tried again"),
        (
            "554 no",
            "set for the IP: defcon2, for the sender: as it is",
        ),
        ("421 no", "no set is named: nothing is switched"),
        ("599 what", "no pattern matches: SOFT by default"),
    ] {
        let line = ["patterns", "test", "@isp", reply];
        let tested = finish(tree.galerne(line), "");
        assert_eq!(tested.code, Some(0), "{tested:?}");
        assert!(tested.stdout.contains(says), "{says}: {tested:?}");
    }
    assert_eq!(tree.read("domains/@isp_log.csv"), "", "nothing is recorded");
}
