//! Names: groups found by MX, what DNS may say and what becomes of it (FLOW-53 to FLOW-60, T-24,
//! T-47, T-62).

use std::time::Duration;

use galerne_core::model::Outcome;
use galerne_sim::sink::{Rule, SinkOptions, Stage};
use tokio::time::{Instant, sleep};

use crate::world::{MESSAGE, World, directed};

const ISP: &str = "== domains/@isp.ini\n[dns]\nmx = *.isp.example\n";

#[tokio::test(start_paused = true)]
async fn flow_53_flow_54_flow_59_a_domain_is_found_by_its_mx_and_recorded() {
    let world = World::new(ISP);
    world.mx("isp.example", "198.51.100.25");
    world.zone("shop.example. MX 10 MX.ISP.example.\nother.example. MX 10 mx.example.net.\nmx.example.net. A 198.51.100.25");
    for domain in ["shop.example", "shop.example", "other.example"] {
        assert!(
            world
                .relay(&format!("anna@{domain}"))
                .await
                .starts_with("250 ")
        );
    }
    assert_eq!(
        world.book.aliases(),
        [("isp".to_owned(), "shop.example".to_owned())]
    );
    assert_eq!(
        world.book.exchangers(),
        ["isp mx.isp.example 198.51.100.25"]
    );
    let groups: Vec<_> = world
        .settled()
        .into_iter()
        .map(|s| s.group.unwrap().name.clone())
        .collect();
    assert_eq!(groups, ["isp", "isp", ""]);
}

#[tokio::test(start_paused = true)]
async fn flow_56_flow_57_flow_58_with_cache_the_aliases_share_one_lookup() {
    let alias = "== domains/@isp_alias.csv\ndate,domain\n261123120000,cached.example\n261123120000,moved.example\n";
    let world = World::new(&format!("{ISP}domain = isp.example\ncache = 1\n{alias}"));
    let isp = world.mx("isp.example", "198.51.100.25");
    let other = world.mx("moved.example", "198.51.100.26");
    world.zone("cached.example. SERVFAIL");
    for domain in ["cached.example", "moved.example"] {
        assert!(
            world
                .relay(&format!("anna@{domain}"))
                .await
                .starts_with("250 "),
            "{domain}"
        );
    }
    assert_eq!(
        (isp.messages().len(), other.messages().len()),
        (2, 0),
        "the MX of [dns] domain serves all"
    );
    // Without cache each follows its own MX.
    world.reload("== domains/@isp.ini\n[dns]\ncache = 0\n");
    assert!(world.relay("anna@moved.example").await.starts_with("250 "));
    assert_eq!((isp.messages().len(), other.messages().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn flow_60_without_mx_the_address_of_the_domain_serves() {
    let world = World::new("");
    world.zone("bare.example. A 198.51.100.25");
    let mx = world.sink("198.51.100.25:25".parse().unwrap(), SinkOptions::default());
    assert!(world.relay("anna@bare.example").await.starts_with("250 "));
    assert_eq!(mx.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn relay_77_flow_60_t_47_domains_that_take_no_mail() {
    let world = World::new("");
    world.zone(
        "null.example. NULLMX\nempty.example. EXISTS\nliteral.example. MX 10 198.51.100.25.\n\
         dangling.example. MX 10 nowhere.example.",
    );
    for (domain, why) in [
        (
            "null.example",
            "domain null.example accepts no mail (null MX)",
        ),
        ("missing.example", "domain missing.example does not exist"),
        (
            "empty.example",
            "domain empty.example has no usable mail host",
        ),
        (
            "literal.example",
            "domain literal.example has no usable mail host",
        ),
        (
            "dangling.example",
            "domain dangling.example has no usable mail host",
        ),
    ] {
        let began = Instant::now();
        assert_eq!(
            world.relay(&format!("anna@{domain}")).await,
            format!("451 9.2.4 X-SMTP-R-API {why}")
        );
        assert_eq!(began.elapsed().as_secs(), 0, "at once");
    }
    assert!(world.settled().iter().all(|s| s.outcome == Outcome::Failed));
    assert!(world.hops().is_empty());
}

#[tokio::test(start_paused = true)]
async fn flow_60_t_47_forbidden_networks_are_never_contacted() {
    let world = World::new("");
    for (number, address) in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
    ]
    .into_iter()
    .enumerate()
    {
        let kind = if address.contains(':') { "AAAA" } else { "A" };
        world.zone(&format!(
            "d{number}.example. MX 10 m{number}.example.\nm{number}.example. {kind} {address}"
        ));
        let reply = world.relay(&format!("anna@d{number}.example")).await;
        assert!(
            reply.starts_with("451 9.2.4 X-SMTP-R-API "),
            "{address}: {reply}"
        );
    }
    assert!(world.hops().is_empty());
    // A good address beside a forbidden one serves.
    world.zone("both.example. MX 10 m1.example.\nboth.example. MX 20 good.example.\ngood.example. A 198.51.100.25");
    world.sink("198.51.100.25:25".parse().unwrap(), SinkOptions::default());
    assert!(world.relay("anna@both.example").await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn flow_60_an_address_of_ours_in_the_same_class_permits_it() {
    let world = World::new("[IP]\n127.0.0.1 = localhost.example\n");
    world.zone("lab.example. MX 10 mx.lab.example.\nmx.lab.example. A 127.0.0.2");
    let mx = world.sink("127.0.0.2:25".parse().unwrap(), SinkOptions::default());
    assert!(world.relay("anna@lab.example").await.starts_with("250 "));
    assert_eq!(mx.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn flow_60_t_24_an_mx_that_is_a_listener_of_ours_is_a_loop() {
    let world = World::new("");
    // 192.0.2.10:25 is a listener; 192.0.2.11 only an address of [IP].
    world.zone("loop.example. MX 10 us.example.\nus.example. A 192.0.2.10");
    let told = "554 5.4.6 X-SMTP-R-API mail for loop.example loops back to this server";
    assert_eq!(world.relay("anna@loop.example").await, told);
    assert!(world.hops().is_empty(), "seen before connecting");
    world.zone("near.example. MX 10 near-mx.example.\nnear-mx.example. A 192.0.2.11");
    let mx = world.sink("192.0.2.11:25".parse().unwrap(), SinkOptions::default());
    assert!(world.relay("anna@near.example").await.starts_with("250 "));
    assert_eq!(mx.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn flow_60_t_24_a_greeting_with_our_own_name_is_a_loop() {
    let world = World::new("");
    world.zone("loop.example. MX 10 a.example.\na.example. A 198.51.100.25\nloop.example. MX 20 b.example.\nb.example. A 198.51.100.26");
    let us = SinkOptions {
        hostname: "MTA10.example.net".into(),
        ..SinkOptions::default()
    };
    let first = world.sink("198.51.100.25:25".parse().unwrap(), us.clone());
    let second = world.sink("198.51.100.26:25".parse().unwrap(), SinkOptions::default());
    let told = "554 5.4.6 X-SMTP-R-API mail for loop.example loops back to this server";
    assert_eq!(world.relay("anna@loop.example").await, told);
    assert!(
        first.sessions()[0]
            .commands
            .iter()
            .all(|c| !c.starts_with("MAIL"))
    );
    assert!(second.sessions().is_empty());
    // A relay host may be called like us: it was chosen by name.
    world.reload("== hosts/@us.ini\n[dns]\nmx = 198.51.100.27\nport = 25\n== users/demo.ini\n[account]\nauthorizedroute = @us\n");
    world.sink("198.51.100.27:25".parse().unwrap(), us);
    let order = directed(r#"{"routing":{"outbound":["@us"]}}"#);
    assert!(
        world
            .send(&["anna@loop.example"], &order)
            .await
            .starts_with("250 ")
    );
}

#[tokio::test(start_paused = true)]
async fn relay_77_t_62_dns_that_fails_is_waited_for_and_never_a_bounce() {
    for record in [
        "SERVFAIL",
        "SILENT",
        "CNAME a.ill.example.\na.ill.example. CNAME ill.example.",
    ] {
        let world = World::new("");
        world.zone(&format!("ill.example. {record}"));
        let began = Instant::now();
        let reply = world
            .send(
                &["anna@ill.example"],
                &directed(r#"{"message":{"timeout":20}}"#),
            )
            .await;
        assert_eq!(
            reply, "451 9.3.4 X-SMTP-R-API DNS of ill.example failed temporarily for 20 s",
            "{record}"
        );
        assert_eq!(began.elapsed().as_secs(), 20, "{record}");
        assert_eq!(world.settled()[0].outcome, Outcome::Deferred);
    }
}

#[tokio::test(start_paused = true)]
async fn relay_77_t_62_dns_that_recovers_in_time_delivers() {
    let world = World::new("");
    world.zone("example.org. SERVFAIL");
    let mut client = world.waiting(&["anna@example.org"], MESSAGE).await;
    sleep(Duration::from_secs(12)).await;
    world.only_zone("");
    world.mx("example.org", "198.51.100.25");
    let began = Instant::now();
    let reply = client.reply().await.unwrap().text();
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(
        began.elapsed() <= Duration::from_secs(6),
        "the lookup is repeated soon: {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn t_62_one_host_whose_address_fails_does_not_hide_the_others() {
    let world = World::new("");
    world.mx("example.org", "198.51.100.25");
    world.zone("example.org. MX 5 ill.example.\nill.example. SERVFAIL");
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn t_47_five_hundred_mx_records_are_not_five_hundred_hops() {
    let world = World::new("");
    for n in 0..500 {
        world.zone(&format!("many.example. MX {n} m{n}.many.example."));
    }
    let hosts: String = (0..500)
        .map(|n| {
            format!(
                "m{n}.many.example. A 198.51.{}.{}\n",
                100 + n / 250,
                1 + n % 250
            )
        })
        .collect();
    world.zone(&hosts);
    let order = directed(r#"{"message":{"maxhop":20}}"#);
    assert!(
        world
            .send(&["anna@many.example"], &order)
            .await
            .starts_with("451 9.3.2 ")
    );
    assert_eq!(world.hops().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn flow_54_patterns_of_the_group_found_by_mx_count() {
    let world = World::new(&format!("{ISP}[pattern]\nfull = HARD(full) 452 *\n"));
    let mx = world.mx("isp.example", "198.51.100.25");
    world.zone("shop.example. MX 10 mx.isp.example.");
    mx.rule(Rule::at(Stage::Rcpt).reply("452 4.2.2 full"));
    assert_eq!(world.relay("anna@shop.example").await, "452 4.2.2 full");
    assert_eq!(world.lists.list("rfhard"), ["anna@shop.example"]);
}
