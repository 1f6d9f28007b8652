//! Flow control as an operator sees it: `flow list`, `flow set`, the log, a restart (IF-6, FLOW-41,
//! FLOW-49, FLOW-50, CONF-36, FLOW-28).

use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use serde_json::Value;

use crate::process::Tree;

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
