//! Relaying through the real program: addresses, names, ports, trust, and what is written down.

use std::fs;

use galerne_config::csv::Table;
use galerne_sim::nameserver::NameServer;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};

use crate::process::{MESSAGE, Tree};
use crate::world::World;

/// The rows of a log as (column, field) pairs.
fn rows(text: &str) -> Vec<Vec<(String, String)>> {
    let table = Table::parse(text.as_bytes()).unwrap();
    let row = |fields: &Vec<String>| {
        table
            .columns
            .iter()
            .cloned()
            .zip(fields.iter().cloned())
            .collect()
    };
    table.rows.iter().map(|r| row(&r.fields)).collect()
}

fn field<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    let found = row.iter().find(|(column, _)| column == name);
    &found.unwrap_or_else(|| panic!("no column {name}")).1
}

/// A world of its own for one domain: `example.org` with a mail host that test rules apply to.
async fn by_mx(tree: &Tree, options: SinkOptions) -> (Sink, NameServer) {
    let sink = Sink::start(tree.place(2), options).await.unwrap();
    let zone = format!(
        "example.org. MX 10 mx.example.org.\nmx.example.org. A {}\n",
        tree.ip(2)
    );
    let names = NameServer::start_on(tree.ip(3), &zone).await.unwrap();
    let port = sink.address().port();
    let main = format!(
        "[dns]\nresolver = {}\n[rfmta]\nmxport = {port}\n",
        names.address()
    );
    tree.append("galerne.ini", &main);
    (sink, names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_9_if_10_if_12_mail_goes_by_mx_to_the_port_and_from_the_address_that_are_set() {
    let tree = Tree::new("");
    let (sink, names) = by_mx(&tree, SinkOptions::default()).await;
    sink.rule(Rule::at(Stage::Dot).reply("250 2.0.0 Queued as 7F31"));
    let server = tree.run();
    assert_eq!(
        tree.relay("anna@example.org").await,
        "250 2.0.0 Queued as 7F31"
    );
    let message = sink.messages().remove(0);
    assert_eq!(message.content, MESSAGE.as_bytes(), "byte for byte");
    assert_eq!(message.peer.ip(), tree.ip(1), "from the address of [IP]");
    assert_eq!(message.ehlo, "mta.test.example", "with its name");
    let asked = names.questions();
    assert!(
        asked
            .iter()
            .any(|q| q.name == "example.org" && q.kind == "MX"),
        "{asked:?}"
    );
    assert!(
        asked
            .iter()
            .any(|q| q.name == "mx.example.org" && q.kind == "A"),
        "{asked:?}"
    );
    // It is the only name server: what it does not know is not known.
    assert!(
        tree.relay("anna@other.example")
            .await
            .starts_with("451 9.2.4 ")
    );
    assert_eq!(server.stop().code, Some(0));
}

/// A remote on loopback needs no proof, so this one is in memory.
#[tokio::test(start_paused = true)]
async fn if_10_cafile_adds_trust_anchors() {
    let host = "mx = 198.51.100.25\nport = 587\nlogin = we@example.net\npassw = door\n";
    let route = "authorizedroute = @next\n[routing]\nroute = @next\n";
    let world = World::new(&format!(
        "== hosts/@next.ini\n[dns]\n{host}== users/demo.ini\n{route}"
    ));
    let options = SinkOptions {
        tls: Some(world.ca.server(&["198.51.100.25"])),
        logins: vec![("we@example.net".into(), "door".into())],
        needs_auth: true,
        ..SinkOptions::default()
    };
    let sink = world.sink("198.51.100.25:587".parse().unwrap(), options);
    let refused = world.relay("anna@example.org").await;
    assert!(
        refused.starts_with("451 9.3."),
        "nobody vouches for it: {refused}"
    );
    assert!(sink.sessions().iter().all(|s| s.login.is_none()));
    world.reload("[rfmta]\ncafile = ca.pem\n");
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("250 "), "{reply}");
    let message = sink.messages().remove(0);
    assert!(message.tls);
    assert_eq!(message.login.as_deref(), Some("we@example.net"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_82_conf_89_one_line_in_each_log_with_all_that_happened() {
    let tree = Tree::new("");
    let (sink, _names) = by_mx(&tree, SinkOptions::default()).await;
    tree.write(
        "domains/@big.ini",
        "[dns]\nmx = mx.example.org\n[pattern]\nfull = SOFT(mailbox-full) 452 *full\n",
    );
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("full")
            .reply("452 4.2.2 Mailbox full"),
    );
    sink.rule(Rule::at(Stage::Dot).reply("250-2.0.0 Queued,\n250 \"as\" 7F31"));
    let server = tree.run();
    assert_eq!(
        tree.relay("full@example.org").await,
        "452 4.2.2 Mailbox full"
    );
    let mut client = tree.greeted().await;
    let message = format!("X-SMTP-R-API: {{\"message\":{{\"ref\":\"order-4711\"}}}}\r\n{MESSAGE}");
    let to = ["anna@example.org"];
    let reply = client
        .transaction("orders@example.com", &to, message.as_bytes())
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    assert_eq!(server.stop().code, Some(0));

    let mta = tree.read("logs/rfmta.csv");
    let header = "rfsenddate,user,ref,rfmailno,rfrecno,email,sender,rfsendip,rfmxhost,rfmxip,rfdm,rfstp,rfcode,rfrcv,\
                  rfpattern,rfstr,rfstatus,rfhop,rfset,duration,tls";
    assert_eq!(mta.lines().next(), Some(header));
    let mta = rows(&mta);
    assert_eq!(mta.len(), 2);
    let (out, host) = (tree.ip(1).to_string(), tree.ip(2).to_string());
    let soft = &mta[0];
    for (name, value) in [
        ("user", "shop"),
        ("rfmailno", "0"),
        ("rfrecno", "0"),
        ("email", "full@example.org"),
        ("sender", "orders@example.com"),
        ("rfsendip", &out),
        ("rfmxhost", "mx.example.org"),
        ("rfmxip", &host),
        ("rfdm", "big"),
        ("rfstp", "RCPT"),
        ("rfcode", "452"),
        ("rfrcv", "452 4.2.2 Mailbox full"),
        ("rfpattern", "full"),
        ("rfstr", "mailbox-full"),
        ("rfstatus", "Soft"),
        ("rfhop", "1"),
    ] {
        assert_eq!(field(soft, name), value, "{name}: {soft:?}");
    }
    assert_eq!(field(soft, "rfsenddate").len(), 12);
    assert!(field(soft, "duration").parse::<u64>().is_ok());
    let sent = &mta[1];
    assert_eq!(field(sent, "ref"), "order-4711");
    assert_eq!(
        (
            field(sent, "rfstp"),
            field(sent, "rfcode"),
            field(sent, "rfstatus")
        ),
        ("DOT", "250", "Delivered")
    );
    assert_eq!(
        field(sent, "rfrcv").replace("\r\n", "\n"),
        "250-2.0.0 Queued,\n250 \"as\" 7F31",
        "as received"
    );

    let relay = rows(&tree.read("logs/rfrelay.csv"));
    assert_eq!(relay.len(), 2);
    for (row, reply) in [
        (&relay[0], "452 4.2.2 Mailbox full"),
        (&relay[1], "250-2.0.0 Queued,\n250 \"as\" 7F31"),
    ] {
        for (name, value) in [
            ("user", "shop"),
            ("sender", "orders@example.com"),
            ("helo", "client.example"),
            ("rfsendip", &out),
            ("rfmxhost", "mx.example.org"),
            ("rfmxip", &host),
            ("rfdm", "big"),
            ("rfhop", "1"),
            ("code", &reply[..3]),
        ] {
            assert_eq!(field(row, name), value, "{name}: {row:?}");
        }
        assert_eq!(
            field(row, "reply").replace("\r\n", "\n"),
            reply,
            "the reply that was given"
        );
        assert_eq!(field(row, "messageid").len(), 26);
    }
    assert_eq!(field(&relay[1], "ref"), "order-4711");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_83_an_error_that_no_pattern_knows_goes_to_the_log_of_its_group() {
    let tree = Tree::new("");
    let (sink, _names) = by_mx(&tree, SinkOptions::default()).await;
    tree.write(
        "domains/@big.ini",
        "[dns]\nmx = mx.example.org\n[pattern]\nknown = SOFT(known) 452 *known thing\n",
    );
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("known")
            .reply("452 4.2.2 A most known thing"),
    );
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("new")
            .reply("554-5.7.0 Never\n554 seen, \"before\""),
    );
    let server = tree.run();
    assert_eq!(
        tree.relay("known@example.org").await,
        "452 4.2.2 A most known thing"
    );
    assert_eq!(
        tree.relay("new@example.org").await,
        "554-5.7.0 Never\n554 seen, \"before\""
    );
    assert_eq!(server.stop().code, Some(0));
    let text = tree.read("domains/@big_log.csv");
    assert_eq!(
        text.lines().next(),
        Some("rfsenddate,ref,rfmailno,rfrecno,rfsendip,rfmxip,rfstp,rfrcv")
    );
    let rows = rows(&text);
    assert_eq!(rows.len(), 1, "{text}");
    assert_eq!(
        field(&rows[0], "rfrcv").replace("\r\n", "\n"),
        "554-5.7.0 Never\n554 seen, \"before\""
    );
    assert_eq!(
        (field(&rows[0], "rfstp"), field(&rows[0], "rfmailno")),
        ("RCPT", "0")
    );
    assert_eq!(field(&rows[0], "rfmxip"), tree.ip(2).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_84_a_hard_bounce_is_listed_and_the_next_rcpt_refused() {
    let tree = Tree::new("");
    let (sink, _names) = by_mx(&tree, SinkOptions::default()).await;
    tree.write(
        "domains/@big.ini",
        "[dns]\nmx = mx.example.org\n[pattern]\ngone = HARD(unknown) 550 5.1.1 *\n",
    );
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("gone")
            .reply("550 5.1.1 No such user"),
    );
    let server = tree.run();
    assert_eq!(
        tree.relay("gone@example.org").await,
        "550 5.1.1 No such user"
    );
    let refused = "451 9.2.1 X-SMTP-R-API recipient refused by list rfhard";
    assert_eq!(tree.relay("Gone@Example.ORG").await, refused);
    assert_eq!(
        sink.sessions()
            .iter()
            .flat_map(|s| &s.commands)
            .filter(|c| c.starts_with("RCPT"))
            .count(),
        1
    );
    let list = rows(&tree.wait_for("lists/rfhard.csv", "gone@example.org"));
    assert_eq!(list.len(), 1);
    assert_eq!(
        (field(&list[0], "source"), field(&list[0], "email")),
        ("mta", "gone@example.org")
    );
    assert_eq!(server.stop().code, Some(0));
    // It holds after a restart, until a person takes the line away.
    let server = tree.run();
    assert_eq!(tree.relay("gone@example.org").await, refused);
    fs::write(tree.path("lists/rfhard.csv"), "email\n").unwrap();
    assert!(server.reload());
    assert_eq!(
        tree.relay("gone@example.org").await,
        "550 5.1.1 No such user"
    );
    assert_eq!(server.stop().code, Some(0));
}
