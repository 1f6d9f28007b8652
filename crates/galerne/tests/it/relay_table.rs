//! The route table and the relay service at work: failover, shares, local addresses, AUTH, live
//! change (ROUTE-22 to ROUTE-43, ROUTE-44 to ROUTE-60).

use galerne_core::model::Outcome;
use galerne_core::routes::{Fields, RouteRow, RouteTable};
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};

use crate::world::{MESSAGE, Talk, World, directed};

/// Puts rows in force, ids from 1; each is JSON as the API has it.
fn table(world: &World, rows: &[&str]) {
    let row = |(number, json): (usize, &&str)| {
        let fields: Fields = serde_json::from_str(json).unwrap();
        let id = number as u64 + 1;
        RouteRow {
            id,
            ..fields.check().unwrap()
        }
    };
    let rows = rows.iter().enumerate().map(row).collect();
    let settings = world.gate.view().snapshot.settings.clone();
    world.routes.replace(RouteTable::new(rows, &settings));
}

/// An MX at .25 and the hosts a, b and c.example at .41 to .43.
struct Net {
    world: World,
    mx: Sink,
    hosts: [Sink; 3],
}

const ADDRESSES: [&str; 3] = ["198.51.100.41:25", "198.51.100.42:25", "198.51.100.43:25"];

fn net(config: &str) -> Net {
    let world = World::new(config);
    let mx = world.mx("example.org", "198.51.100.25");
    world
        .zone("a.example. A 198.51.100.41\nb.example. A 198.51.100.42\nc.example. A 198.51.100.43");
    let sink = |address: &str| world.sink(address.parse().unwrap(), SinkOptions::default());
    let hosts = ADDRESSES.map(sink);
    Net { world, mx, hosts }
}

/// What a test does to the first host.
type Change = fn(&Net);

impl Net {
    /// Messages that a, b and c have.
    fn shares(&self) -> [usize; 3] {
        self.hosts.each_ref().map(|sink| sink.messages().len())
    }

    async fn relays(&self, count: usize) {
        for _ in 0..count {
            let reply = self.world.relay("anna@example.org").await;
            assert!(reply.starts_with("250 "), "{reply}");
        }
    }
}

const A: &str = r#"{"remoteHost": "a.example"}"#;
const B: &str = r#"{"remoteHost": "b.example"}"#;
const A_THEN: &str = r#"{"remoteHost": "a.example", "priority": 1}"#;
const THEN_B: &str = r#"{"remoteHost": "b.example", "priority": 2}"#;

#[tokio::test(start_paused = true)]
async fn route_2_route_22_the_table_holds_for_the_next_message() {
    let net = net("");
    net.relays(1).await;
    assert_eq!(net.mx.messages().len(), 1);
    // A session that is open sees it too.
    let mut client = net.world.login().await;
    table(&net.world, &[A]);
    let to = ["anna@example.org"];
    client
        .transaction("x@example.com", &to, MESSAGE.as_bytes())
        .await
        .unwrap();
    table(&net.world, &[B]);
    client
        .transaction("x@example.com", &to, MESSAGE.as_bytes())
        .await
        .unwrap();
    table(&net.world, &[]);
    client
        .transaction("x@example.com", &to, MESSAGE.as_bytes())
        .await
        .unwrap();
    assert_eq!((net.shares(), net.mx.messages().len()), ([1, 1, 0], 2));
    let rules: Vec<_> = net
        .world
        .settled()
        .into_iter()
        .map(|end| end.route.unwrap())
        .collect();
    let (mx, row) = ("MX of example.org", "route 1, tier 16");
    assert_eq!(rules, [mx, row, row, mx]);
}

#[tokio::test(start_paused = true)]
async fn route_11_route_30_route_31_a_row_entered_twice_gets_twice_the_share() {
    let net = net("");
    table(
        &net.world,
        &[A, A, B, r#"{"remoteHost": "c.example", "priority": 2}"#],
    );
    for round in 1..=5 {
        net.relays(3).await;
        assert_eq!(net.shares(), [2 * round, round, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn route_31_recipients_of_one_message_stay_together() {
    let net = net("");
    table(&net.world, &[A, B]);
    net.world.mx("other.example", "198.51.100.26");
    let reply = net
        .world
        .send(&["anna@example.org", "bert@other.example"], MESSAGE)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(net.shares(), [1, 0, 0], "one transaction for both");
}

#[tokio::test(start_paused = true)]
async fn route_29_route_33_what_fails_leads_to_the_next_row() {
    let blocks = "== domains/@.ini\n[pattern]\nlisted = FLOW(block) *is listed\n";
    let fates: [(&str, Change); 9] = [
        ("no name", |n| {
            _ = n
                .world
                .only_zone("example.org. A 198.51.100.25\nb.example. A 198.51.100.42")
        }),
        ("no answer of the name server", |n| {
            _ = n
                .world
                .only_zone("a.example. SERVFAIL\nb.example. A 198.51.100.42")
        }),
        ("refused", |n| {
            _ = n.world.decide(ADDRESSES[0], Fate::Refuse)
        }),
        ("no 220", |n| {
            _ = n.hosts[0].rule(Rule::at(Stage::Connect).reply("554 5.3.2 not now"))
        }),
        ("EHLO refused", |n| {
            _ = n.hosts[0].rule(Rule::at(Stage::Ehlo).reply("550 5.7.1 no"))
        }),
        ("lost at RCPT", |n| {
            _ = n.hosts[0].rule(Rule::at(Stage::Rcpt).close())
        }),
        ("lost at DATA", |n| {
            _ = n.hosts[0].rule(Rule::at(Stage::Data).close())
        }),
        ("block at RCPT", |n| {
            _ = n.hosts[0].rule(Rule::at(Stage::Rcpt).reply("554 5.7.1 192.0.2.1 is listed"))
        }),
        ("block after the dot", |n| {
            _ = n.hosts[0].rule(Rule::at(Stage::Dot).reply("554 5.7.1 192.0.2.1 is listed"))
        }),
    ];
    for (what, fate) in fates {
        let net = net(&format!("[relay]\nmaxhop = 10\n{blocks}"));
        table(&net.world, &[A_THEN, THEN_B]);
        fate(&net);
        let reply = net.world.relay("anna@example.org").await;
        assert!(reply.starts_with("250 "), "{what}: {reply}");
        assert_eq!(net.shares(), [0, 1, 0], "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn route_33_other_replies_end_it() {
    for (stage, text) in [
        (Stage::Mail, "550 5.7.1 sender"),
        (Stage::Rcpt, "550 5.1.1 No such user"),
        (Stage::Rcpt, "451 4.3.0 later"),
        (Stage::Dot, "554 5.6.0 content"),
    ] {
        let net = net("");
        table(&net.world, &[A_THEN, THEN_B]);
        net.hosts[0].rule(Rule::at(stage).reply(text));
        assert_eq!(net.world.relay("anna@example.org").await, text);
        assert!(net.hosts[1].sessions().is_empty(), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn route_34_when_all_rows_failed_it_is_temporary_and_no_other_tier_is_asked() {
    let blocks = "== domains/@.ini\n[pattern]\nlisted = FLOW(block) *is listed\n";
    for (stage, text, said) in [
        (Stage::Connect, "554 5.3.2 not now", "451 4.3.2 not now"),
        (
            Stage::Rcpt,
            "554 5.7.1 192.0.2.1 is listed",
            "451 4.7.1 192.0.2.1 is listed",
        ),
    ] {
        let net = net(&format!("[relay]\nmaxhop = 10\n{blocks}"));
        let exact = r#"{"remoteHost": "a.example", "destination": "example.org"}"#;
        table(&net.world, &[exact, B]);
        net.hosts[0].rule(Rule::at(stage).reply(text));
        let reply = net.world.relay("anna@example.org").await;
        assert_eq!(reply, said, "{:?}", net.world.settled());
        assert_eq!(net.world.settled()[0].outcome, Outcome::Deferred);
        assert!(net.hosts[1].sessions().is_empty() && net.mx.sessions().is_empty());
    }
    let net = net("");
    table(&net.world, &[r#"{"remoteHost": "nowhere.example"}"#]);
    assert!(
        net.world
            .relay("anna@example.org")
            .await
            .starts_with("451 9.3.2 ")
    );
    assert!(net.mx.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn route_32_main_then_one_of_the_alternates_then_the_other() {
    let net = net("[relay]\nmaxhop = 10\n");
    let alt = r#"{"remoteHost": "c.example", "priority": 2}"#;
    table(&net.world, &[A_THEN, THEN_B, alt]);
    net.world.decide(ADDRESSES[0], Fate::Refuse);
    net.relays(4).await;
    assert_eq!(net.shares(), [0, 2, 2]);
    net.world.decide(ADDRESSES[1], Fate::Refuse);
    net.world.forget_sessions().await;
    net.relays(2).await;
    assert_eq!(
        net.shares(),
        [0, 2, 4],
        "the other alternate is tried after it"
    );
}

#[tokio::test(start_paused = true)]
async fn route_36_rotation_uses_both_and_failover_the_second_only_if_the_first_fails() {
    let from = |net: &Net| {
        let peers = net.hosts[0]
            .messages()
            .into_iter()
            .map(|m| m.peer.ip().to_string());
        peers.collect::<Vec<_>>()
    };
    let mut rotation = net("");
    table(
        &rotation.world,
        &[r#"{"remoteHost": "a.example", "localIp": "192.0.2.10|192.0.2.11"}"#],
    );
    rotation.relays(4).await;
    let mut used = from(&rotation);
    used.sort();
    assert_eq!(
        used,
        ["192.0.2.10", "192.0.2.10", "192.0.2.11", "192.0.2.11"]
    );
    rotation = net("");
    table(
        &rotation.world,
        &[r#"{"remoteHost": "a.example", "localIp": "192.0.2.11&192.0.2.10"}"#],
    );
    rotation.relays(3).await;
    rotation.world.net.decide(
        Some("192.0.2.11".parse().unwrap()),
        ADDRESSES[0].parse().unwrap(),
        Fate::Refuse,
    );
    rotation.world.forget_sessions().await;
    rotation.relays(1).await;
    assert_eq!(
        from(&rotation),
        ["192.0.2.11", "192.0.2.11", "192.0.2.11", "192.0.2.10"]
    );
}

#[tokio::test(start_paused = true)]
async fn route_3_no_local_address_in_common_is_said() {
    let net = net("== users/demo.ini\n[account]\nauthorizedip = 192.0.2.10\n");
    table(
        &net.world,
        &[r#"{"remoteHost": "a.example", "localIp": "192.0.2.11"}"#],
    );
    assert_eq!(
        net.world.relay("anna@example.org").await,
        "451 9.1.5 X-SMTP-R-API route 1 and this account have no sending address in common"
    );
}

#[tokio::test(start_paused = true)]
async fn route_35_route_38_all_addresses_of_a_name_and_an_address_as_it_is() {
    let net = net("");
    net.world.zone(
        "two.example. A 198.51.100.41\ntwo.example. A 198.51.100.42\ntwo.example. MX 1 c.example.",
    );
    table(&net.world, &[r#"{"remoteHost": "two.example"}"#]);
    net.world.decide(ADDRESSES[0], Fate::Refuse);
    net.relays(1).await;
    assert_eq!(net.shares(), [0, 1, 0], "not its MX");
    table(&net.world, &[r#"{"remoteHost": "198.51.100.43"}"#]);
    net.relays(1).await;
    assert_eq!(net.shares(), [0, 1, 1]);
}

const LOGIN: &str = r#"{"remoteHost": "198.51.100.44", "remotePort": 587, "remoteLogin": "we", "remotePasswd": "door"}"#;

fn submission_host(net: &Net, tls: bool) -> Sink {
    let options = SinkOptions {
        tls: tls.then(|| net.world.ca.server(&["198.51.100.44"])),
        logins: vec![("we".into(), "door".into())],
        needs_auth: true,
        ..SinkOptions::default()
    };
    net.world
        .sink("198.51.100.44:587".parse().unwrap(), options)
}

#[tokio::test(start_paused = true)]
async fn route_39_route_41_a_login_is_used_over_verified_tls_or_where_rfmta_allows_it_in_clear() {
    for (config, tls, logs_in) in [
        ("[rfmta]\ncafile = ca.pem\n", true, true),
        ("", true, false),
        ("[rfmta]\nverify = 0\n", true, true),
        ("", false, false),
        ("[rfmta]\nauthclear = 1\n", false, true),
    ] {
        let net = net(config);
        let sink = submission_host(&net, tls);
        table(&net.world, &[LOGIN]);
        let reply = net.world.relay("anna@example.org").await;
        let expected = if logs_in { "250 " } else { "451 9.3." };
        assert!(reply.starts_with(expected), "{config:?} {tls}: {reply}");
        let logged_in = sink
            .messages()
            .iter()
            .any(|m| m.login.as_deref() == Some("we"));
        assert_eq!(logged_in, logs_in, "{config:?} {tls}");
    }
}

#[tokio::test(start_paused = true)]
async fn route_41_port_465_is_tls_from_the_first_octet() {
    let net = net("[rfmta]\ncafile = ca.pem\n");
    let options = SinkOptions {
        tls: Some(net.world.ca.server(&["198.51.100.44"])),
        implicit_tls: true,
        ..SinkOptions::default()
    };
    let sink = net
        .world
        .sink("198.51.100.44:465".parse().unwrap(), options);
    table(
        &net.world,
        &[r#"{"remoteHost": "198.51.100.44", "remotePort": 465}"#],
    );
    net.relays(1).await;
    assert!(sink.messages()[0].tls);
}

#[tokio::test(start_paused = true)]
async fn route_42_route_43_a_login_that_fails_is_a_failure_of_the_route_and_the_operators() {
    let wrong = LOGIN.replace("door", "wall");
    let bad = net("[rfmta]\nauthclear = 1\n");
    submission_host(&bad, false);
    table(&bad.world, &[&wrong]);
    let reply = bad.world.relay("anna@example.org").await;
    assert_eq!(
        reply,
        "451 9.3.2 X-SMTP-R-API login at 198.51.100.44 was refused"
    );
    let none = net("[rfmta]\nauthclear = 1\n");
    let plain = SinkOptions::default();
    none.world.sink("198.51.100.44:587".parse().unwrap(), plain);
    table(&none.world, &[LOGIN, THEN_B]);
    none.relays(1).await;
    assert_eq!(
        none.shares(),
        [0, 1, 0],
        "AUTH is not offered: the next row"
    );
    for net in [bad, none] {
        let notes: Vec<String> = net
            .world
            .events
            .all()
            .iter()
            .map(|r| format!("{r:?}"))
            .collect();
        let said = notes
            .iter()
            .any(|n| n.contains("error: AUTH at relay host 198.51.100.44"));
        assert!(said, "{notes:?}");
        assert!(
            net.world.lists.list("rfhard").is_empty(),
            "never the recipient's fault"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn route_9_route_60_a_notification_of_ours_takes_no_row_of_its_users() {
    let net = net("");
    net.world.mx("example.com", "198.51.100.26");
    table(
        &net.world,
        &[
            r#"{"remoteHost": "a.example", "smtpUser": "demo"}"#,
            r#"{"remoteHost": "b.example"}"#,
        ],
    );
    net.hosts[0].rule(
        Rule::at(Stage::Rcpt)
            .recipient("nobody")
            .reply("550 5.1.1 No such user"),
    );
    let reply = net
        .world
        .send(&["anna@example.org", "nobody@example.org"], MESSAGE)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(
        net.shares(),
        [1, 1, 0],
        "the message by its user's row, the notification by the other"
    );
    assert_eq!(net.hosts[1].messages()[0].sender, "");
}

const SERVICE: &str = "== users/demo.ini\n[relay@example.com]\ntarget = a.example\n";

#[tokio::test(start_paused = true)]
async fn route_44_route_51_route_53_a_service_takes_all_mail_of_its_domain() {
    let net = net(&format!(
        "{SERVICE}[account]\nauthorizedroute = @next\n== hosts/@next.ini\n[dns]\nmx = c.example\nport = 25\n"
    ));
    table(&net.world, &[B]);
    net.relays(1).await;
    let order = directed(r#"{"routing":{"outbound":["@next"]}}"#);
    assert!(
        net.world
            .send(&["anna@example.org"], &order)
            .await
            .starts_with("250 ")
    );
    assert_eq!(net.shares(), [2, 0, 0], "no message avoids it");
    let end = net.world.settled().pop().unwrap();
    assert_eq!(
        end.route.as_deref(),
        Some("users/demo.ini [relay@example.com] target")
    );
    assert_eq!(end.host.unwrap().host, "a.example");
    let mut client = net.world.login().await;
    let to = ["anna@example.org"];
    client
        .transaction("x@other.example", &to, MESSAGE.as_bytes())
        .await
        .unwrap();
    assert_eq!(net.shares(), [2, 1, 0], "another sender domain");
}

#[tokio::test(start_paused = true)]
async fn route_48_a_null_sender_goes_by_its_from_field() {
    let net = net(SERVICE);
    let mut client = net.world.login().await;
    client.envelope("", &["anna@example.org"]).await;
    let reply = client.content(MESSAGE.as_bytes()).await.unwrap().text();
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(net.shares(), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn route_52_route_55_the_services_address_and_its_errors_at_once() {
    let net = net(&format!("{SERVICE}ip = 192.0.2.11\n"));
    for _ in 0..3 {
        net.relays(1).await;
    }
    assert!(
        net.world
            .hops()
            .iter()
            .all(|hop| hop.starts_with("192.0.2.11 "))
    );
    net.hosts[0].rule(Rule::at(Stage::Rcpt).reply("451 4.3.0 later"));
    assert_eq!(net.world.relay("anna@example.org").await, "451 4.3.0 later");
    assert!(net.mx.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn route_59_route_47_the_target_by_its_address_with_port_login_and_ssl_for_some_senders() {
    let keys =
        "port = 587\nlogin = we\npassw = door\nssl = required\naddress = orders@example.com\n";
    let service = SERVICE.replace("a.example", "relay.example");
    let net = net(&format!("[rfmta]\ncafile = ca.pem\n{service}{keys}"));
    net.world
        .zone("relay.example. A 198.51.100.44\nrelay.example. MX 1 c.example.");
    let options = SinkOptions {
        tls: Some(net.world.ca.server(&["relay.example"])),
        logins: vec![("we".into(), "door".into())],
        needs_auth: true,
        ..SinkOptions::default()
    };
    let target = net
        .world
        .sink("198.51.100.44:587".parse().unwrap(), options);
    let mut client = net.world.login().await;
    for sender in ["orders@example.com", "ORDERS@Example.com", "x@example.com"] {
        let to = ["anna@example.org"];
        let reply = client.transaction(sender, &to, MESSAGE.as_bytes()).await;
        assert_eq!(reply.unwrap().code, 250, "{sender}");
    }
    let taken = target.messages();
    assert_eq!(taken.len(), 2, "of the named address only");
    assert!(
        taken
            .iter()
            .all(|m| m.tls && m.login.as_deref() == Some("we"))
    );
    assert_eq!(
        (net.shares(), net.mx.messages().len()),
        ([0, 0, 0], 1),
        "not the MX of the target's name; another sender goes by MX"
    );
}

#[tokio::test(start_paused = true)]
async fn route_57_route_58_a_permanent_error_is_hard_and_no_entry_of_rfhard() {
    let patterns = "== domains/@.ini\n[pattern]\nunknown = HARD(unknown) 550 *\n";
    let bounced = |config: String| async move {
        let net = net(&config);
        net.hosts[0].rule(Rule::at(Stage::Rcpt).reply("550 5.7.1 not by this relay"));
        let reply = net.world.relay("anna@example.org").await;
        assert_eq!(reply, "550 5.7.1 not by this relay");
        assert_eq!(net.world.settled()[0].outcome, Outcome::Failed);
        net.world.lists.list("rfhard").len()
    };
    assert_eq!(
        bounced(format!("{SERVICE}{patterns}")).await,
        0,
        "policy of one's own relay"
    );
    let by_file =
        "== hosts/@own.ini\n[dns]\nmx = a.example\n[pattern]\nunknown = HARD(unknown) 550 *\n";
    assert_eq!(
        bounced(format!("{SERVICE}{by_file}")).await,
        1,
        "its file says so"
    );
    let by_default = "== domains/.defflow.ini\n[pattern]\nunknown = HARD(unknown) 550 *\n== hosts/@own.ini\n[dns]\nmx = a.example\n";
    assert_eq!(
        bounced(format!("{SERVICE}{by_default}")).await,
        0,
        "a pattern for all groups"
    );
}
