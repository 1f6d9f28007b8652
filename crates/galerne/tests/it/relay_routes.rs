//! Where to, from where, in whose name (RELAY-44 to RELAY-47, RELAY-56 to RELAY-59, ROUTE-1 to
//! ROUTE-4, ROUTE-37, ROUTE-38, CONF-78).

use std::sync::Arc;

use galerne_core::queue::What;
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use galerne_store::MemoryQueue;

use crate::world::{MESSAGE, Talk, World, directed};

/// Two relay hosts that ask for nothing, at 198.51.100.41 and .42, and an MX at .25.
const HOSTS: &str = "== hosts/@one.ini
[dns]
mx = one.example
port = 25
== hosts/@two.ini
[dns]
mx = 198.51.100.42
port = 2525
== users/demo.ini
[account]
authorizedroute = @one @two
";

struct Net {
    world: World,
    mx: Sink,
    one: Sink,
    two: Sink,
}

fn net(config: &str) -> Net {
    let world = World::new(&format!("{HOSTS}{config}"));
    let mx = world.mx("example.org", "198.51.100.25");
    world.zone("one.example. A 198.51.100.41");
    let one = world.sink("198.51.100.41:25".parse().unwrap(), SinkOptions::default());
    let two = world.sink(
        "198.51.100.42:2525".parse().unwrap(),
        SinkOptions::default(),
    );
    Net {
        world,
        mx,
        one,
        two,
    }
}

/// Where the only message went, and by which rule.
async fn went(net: &Net, content: &str) -> (&'static str, String) {
    let reply = net.world.send(&["anna@example.org"], content).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let rule = net.world.settled().pop().unwrap().route.unwrap();
    let taken = [("mx", &net.mx), ("one", &net.one), ("two", &net.two)];
    let place = taken
        .into_iter()
        .find(|(_, sink)| !sink.messages().is_empty())
        .unwrap()
        .0;
    for (_, sink) in taken {
        sink.clear();
    }
    (place, rule)
}

#[tokio::test(start_paused = true)]
async fn relay_72_route_1_route_2_user_file_then_order_then_group_then_mx() {
    let net = net("");
    assert_eq!(
        went(&net, MESSAGE).await,
        ("mx", "MX of example.org".into())
    );
    // 5: a group with relay = 1, reached by its alias file.
    net.world.reload("== domains/@smart.ini\n[dns]\nrelay = 1\nmx = one.example\nport = 25\n== domains/@smart_alias.csv\ndate,domain\n261123120000,example.org\n");
    assert_eq!(
        went(&net, MESSAGE).await,
        ("one", "domains/@smart.ini [dns] relay".into())
    );
    // 3: a host in the order.
    let order = directed(r#"{"routing":{"outbound":["@two"]}}"#);
    assert_eq!(
        went(&net, &order).await,
        ("two", "directive routing.outbound".into())
    );
    // 2: the user file.
    net.world
        .reload("== users/demo.ini\n[routing]\nroute = @one\n");
    let (place, rule) = went(&net, &order).await;
    assert_eq!(place, "one");
    assert!(
        rule.starts_with("users/demo.ini:") && rule.ends_with(" [routing] route"),
        "{rule}"
    );
}

#[tokio::test(start_paused = true)]
async fn route_1_route_38_without_need_of_a_group_no_mx_is_looked_up() {
    let net = net("== users/demo.ini\n[routing]\nroute = @two\n");
    net.world.only_zone("example.org. SERVFAIL");
    assert!(
        net.world
            .relay("anna@example.org")
            .await
            .starts_with("250 ")
    );
    assert_eq!(net.two.messages().len(), 1, "an address is used as it is");
    assert_eq!(net.world.hops(), ["192.0.2.10 -> 198.51.100.42:2525"]);
}

#[tokio::test(start_paused = true)]
async fn route_3_addresses_of_the_relay_host_and_of_the_user_intersect() {
    let net = net("== hosts/@one.ini\n[dns]\nip = 192.0.2.11\n");
    let order = directed(r#"{"routing":{"outbound":["@one"]}}"#);
    for _ in 0..3 {
        assert_eq!(went(&net, &order).await.0, "one");
    }
    assert!(
        net.world
            .hops()
            .iter()
            .all(|hop| hop.starts_with("192.0.2.11 ")),
        "{:?}",
        net.world.hops()
    );
    let none = directed(r#"{"routing":{"outbound":["@one","192.0.2.10"]}}"#);
    let reply = net.world.send(&["anna@example.org"], &none).await;
    assert!(reply.starts_with("451 9.1.5 X-SMTP-R-API "), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn route_4_replies_of_a_relay_host_are_qualified_by_its_own_patterns() {
    let net = net(
        "== hosts/@one.ini\n[pattern]\nfull = HARD(full) 452 *\n== domains/@.ini\n[pattern]\nother = SPAM(x) 452 *\n",
    );
    net.one.rule(Rule::at(Stage::Rcpt).reply("452 4.2.2 full"));
    let order = directed(r#"{"routing":{"outbound":["@one"]}}"#);
    assert_eq!(
        net.world.send(&["anna@example.org"], &order).await,
        "452 4.2.2 full"
    );
    let end = net.world.settled().remove(0);
    assert_eq!(end.group.as_ref().unwrap().name, "one");
    assert_eq!(
        end.attempts[0]
            .qualification
            .as_ref()
            .unwrap()
            .pattern
            .as_deref(),
        Some("full")
    );
}

#[tokio::test(start_paused = true)]
async fn relay_56_route_33_a_host_that_cannot_be_reached_leads_to_the_next_but_not_to_the_mx() {
    let net = net("");
    let order = directed(r#"{"message":{"maxhop":10},"routing":{"outbound":["@one","@two"]}}"#);
    net.world.decide("198.51.100.41:25", Fate::Refuse);
    assert_eq!(went(&net, &order).await.0, "two");
    net.world.decide("198.51.100.42:2525", Fate::Refuse);
    net.world.forget_sessions().await;
    let reply = net.world.send(&["anna@example.org"], &order).await;
    assert_eq!(
        reply,
        "451 9.3.2 X-SMTP-R-API no connection to 198.51.100.42 in 60 s"
    );
    assert!(net.mx.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn route_33_route_38_a_host_name_that_cannot_be_resolved() {
    let net = net("");
    net.world.only_zone("example.org. A 198.51.100.25");
    let order = directed(r#"{"routing":{"outbound":["@one","@two"]}}"#);
    assert_eq!(went(&net, &order).await.0, "two", "the next host serves");
    let only = directed(r#"{"routing":{"outbound":["@one"]}}"#);
    let reply = net.world.send(&["anna@example.org"], &only).await;
    assert_eq!(
        reply,
        "451 9.3.2 X-SMTP-R-API relay host one.example does not exist"
    );
    net.world.only_zone("one.example. SERVFAIL");
    let reply = net.world.send(&["anna@example.org"], &only).await;
    assert!(
        reply.starts_with("451 9.3.4 X-SMTP-R-API DNS for one.example: "),
        "{reply}"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_56_relay_57_the_order_names_the_addresses_in_their_order() {
    let net = net("");
    let order = directed(r#"{"routing":{"outbound":["192.0.2.11","192.0.2.10"]}}"#);
    for _ in 0..3 {
        went(&net, &order).await;
    }
    assert!(
        net.world
            .hops()
            .iter()
            .all(|hop| hop.starts_with("192.0.2.11 "))
    );
    for bad in ["192.0.2.12", "198.51.100.1", "@nowhere"] {
        let order = directed(&format!(
            r#"{{"routing":{{"outbound":["192.0.2.11","{bad}"]}}}}"#
        ));
        assert_eq!(
            net.world.send(&["anna@example.org"], &order).await,
            format!(
                "451 9.1.5 X-SMTP-R-API routing.outbound {bad} is unknown or not allowed to this account"
            )
        );
    }
}

#[tokio::test(start_paused = true)]
async fn relay_56_without_an_order_the_addresses_take_turns() {
    let net = net("");
    for _ in 0..4 {
        went(&net, MESSAGE).await;
    }
    let mut used: Vec<_> = net
        .world
        .settled()
        .iter()
        .map(|s| s.attempts[0].outbound.address.to_string())
        .collect();
    used.sort();
    assert_eq!(
        used,
        ["192.0.2.10", "192.0.2.10", "192.0.2.11", "192.0.2.11"]
    );
}

#[tokio::test(start_paused = true)]
async fn relay_58_relay_59_a_key_of_the_user_file_even_empty_overrides_the_order() {
    let net = net("== users/demo.ini\n[routing]\nehlo =\nip = 192.0.2.10\n");
    let order = directed(
        r#"{"routing":{"ehlo":"order.example","outbound":["192.0.2.11"],"envelopefrom":"o@example.net"}}"#,
    );
    net.world.send(&["anna@example.org"], &order).await;
    let message = net.mx.messages().remove(0);
    assert_eq!(
        (
            message.ehlo.as_str(),
            message.peer.ip().to_string().as_str()
        ),
        ("mta10.example.net", "192.0.2.10")
    );
    assert_eq!(
        message.sender, "o@example.net",
        "no key of the user file says otherwise"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_59_the_main_file_comes_after_the_order() {
    let net = net("== galerne.ini\n[routing]\nehlo = main.example\n");
    net.world.relay("anna@example.org").await;
    net.world
        .send(
            &["anna@example.org"],
            &directed(r#"{"routing":{"ehlo":"order.example"}}"#),
        )
        .await;
    let names: Vec<_> = net.mx.messages().into_iter().map(|m| m.ehlo).collect();
    assert_eq!(names, ["main.example", "order.example"]);
}

#[tokio::test(start_paused = true)]
async fn relay_44_the_name_in_ehlo() {
    let net = net("");
    for (outbound, ehlo, said) in [
        ("192.0.2.10", "@rdns", "mta10.example.net"),
        ("192.0.2.11", "@rdns", "mta11.example.net"),
        ("192.0.2.11", "shop.example.com", "shop.example.com"),
    ] {
        let order = directed(&format!(
            r#"{{"routing":{{"outbound":["{outbound}"],"ehlo":"{ehlo}"}}}}"#
        ));
        net.world.send(&["anna@example.org"], &order).await;
        assert_eq!(net.mx.messages().pop().unwrap().ehlo, said);
    }
}

#[tokio::test(start_paused = true)]
async fn relay_45_relay_46_the_envelope_sender() {
    let net = net("== users/demo.ini\n[routing]\nsender = bounces.example.com\n");
    let from = MESSAGE.replace("orders@example.com", "shop@brand.example");
    for (value, expected) in [
        ("@mailfrom", "orders@example.com"),
        ("@from", "shop@brand.example"),
        ("bounce@example.net", "bounce@example.net"),
    ] {
        let field =
            format!("X-SMTP-R-API: {{\"routing\":{{\"envelopefrom\":\"{value}\"}}}}\r\n{from}");
        net.world.send(&["anna@example.org"], &field).await;
        assert_eq!(net.mx.messages().pop().unwrap().sender, expected);
    }
    let verp = directed(r#"{"routing":{"envelopefrom":"@verp"}}"#);
    net.world.send(&["anna@example.org"], &verp).await;
    let sender = net.mx.messages().pop().unwrap().sender;
    assert!(
        sender.ends_with("@bounces.example.com") && sender.len() > 30,
        "{sender}"
    );
    for value in ["@mailfrom", "@from", "@verp", "bounce@example.net"] {
        let field = directed(&format!(r#"{{"routing":{{"envelopefrom":"{value}"}}}}"#));
        let mut client = net.world.login().await;
        client.envelope("", &["anna@example.org"]).await;
        assert!(
            client
                .content(field.as_bytes())
                .await
                .unwrap()
                .text()
                .starts_with("250 ")
        );
        assert_eq!(net.mx.messages().pop().unwrap().sender, "", "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn relay_47_the_resulting_sender_must_be_authorised() {
    let net = net("== users/demo.ini\n[account]\nauthorizedsender = example.com\n");
    let order = directed(r#"{"routing":{"envelopefrom":"bounce@example.net"}}"#);
    let reply = net.world.send(&["anna@example.org"], &order).await;
    assert!(reply.starts_with("451 9.2.3 X-SMTP-R-API "), "{reply}");
    assert!(net.world.hops().is_empty());
    assert!(
        net.world
            .relay("anna@example.org")
            .await
            .starts_with("250 ")
    );
}

#[tokio::test(start_paused = true)]
async fn conf_78_relay_21_overwrite_replaces_the_envelope_sender_and_leaves_the_header() {
    let net = net(
        "== hosts/@one.ini\n[dns]\nlogin = account@one.example\npassw = w0rd\noverwrite = 1\nauthclear = 1\n",
    );
    let order = directed(r#"{"routing":{"outbound":["@one"]}}"#);
    let sink = net.world.sink(
        "198.51.100.41:25".parse().unwrap(),
        SinkOptions {
            logins: vec![("account@one.example".into(), "w0rd".into())],
            ..Default::default()
        },
    );
    assert!(
        net.world
            .send(&["anna@example.org"], &order)
            .await
            .starts_with("250 ")
    );
    let message = sink.messages().remove(0);
    assert_eq!(message.sender, "account@one.example");
    assert_eq!(String::from_utf8_lossy(&message.content), MESSAGE);
}

#[tokio::test(start_paused = true)]
async fn route_37_each_family_to_its_own() {
    let world = World::new("[IP]\n2001:db8::10 = mta6.example.net\n");
    let six = world.mx("six.example", "2001:db8:1::25");
    let four = world.mx("four.example", "198.51.100.25");
    for _ in 0..3 {
        assert!(world.relay("anna@six.example").await.starts_with("250 "));
        assert!(world.relay("anna@four.example").await.starts_with("250 "));
    }
    assert!(
        six.messages()
            .iter()
            .all(|m| m.peer.ip().to_string() == "2001:db8::10")
    );
    assert!(four.messages().iter().all(|m| m.peer.is_ipv4()));
    let order = directed(r#"{"routing":{"outbound":["192.0.2.10"]}}"#);
    assert_eq!(
        world.send(&["anna@six.example"], &order).await,
        "451 9.3.2 X-SMTP-R-API no outbound address can reach the address family of mx.six.example"
    );
}

#[tokio::test(start_paused = true)]
async fn route_55_route_56_the_queue_tries_a_service_for_two_days_by_its_own_steps() {
    const MINUTE: u64 = 60;
    let world = World::with_queue(
        "[relay]\nmode = queue\n[queue]\nretry = 1 2 3\n== users/demo.ini\n[relay@example.com]\ntarget = relay.target.example\n",
        Arc::new(MemoryQueue::default()),
    );
    world.zone("relay.target.example. A 198.51.100.40");
    let target = world.sink("198.51.100.40:25".parse().unwrap(), SinkOptions::default());
    let mx = world.mx("example.org", "198.51.100.25");
    let _home = world.mx("example.com", "198.51.100.27");
    target.rule(
        Rule::at(Stage::Rcpt)
            .recipient("anna")
            .reply("451 4.3.0 later"),
    );
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    world.queued().empty().await;
    let told = world.queued().told();
    let began = told[0].at;
    let attempts = told.iter().filter(|told| {
        matches!(&told.what, What::Attempt { recipient, .. } if recipient == "anna@example.org")
    });
    let at: Vec<u64> = attempts.map(|told| (told.at - began) / 1000).collect();
    let pauses: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let steps = [5, 10, 20, 40].into_iter().chain(std::iter::repeat(60));
    // The last attempt is made when the two days are over.
    for (pause, step) in pauses.iter().zip(steps).take(pauses.len() - 1) {
        let near = step * MINUTE * 9 / 10..=step * MINUTE * 11 / 10 + 5;
        assert!(near.contains(pause), "{pauses:?}");
    }
    assert!(at.len() > 45, "{at:?}");
    let last = at.last().unwrap() / 3600;
    assert!((46..=48).contains(&last), "{last}");
    let ended = world.queued().ended();
    let of_anna = ended
        .iter()
        .find(|(recipient, _)| recipient == "anna@example.org");
    assert_eq!(of_anna.unwrap().1, "expired");
    assert_eq!(mx.messages().len(), 0);
    assert_eq!(world.lists.list("rfhard").len(), 0, "a soft bounce");
}
