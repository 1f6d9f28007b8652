//! Which source of a key holds, from the files to what a remote sees: the user file even where the key
//! is empty, the directive, the main file, the default (RELAY-9, RELAY-58, RELAY-59, CONF-40, CONF-51).

use std::collections::BTreeSet;
use std::sync::Arc;

use galerne_sign::Algorithm;
use galerne_sign::key::generate;
use galerne_sim::sink::{MessageRecord, Rule, Sink, SinkOptions, Stage};
use galerne_store::MemoryQueue;
use tokio::time::Instant;

use crate::world::{CLIENT, MESSAGE, Talk as _, World, base64, directed};

/// A group with the MX of example.org, and a relay host of another name.
const PLACES: &str = "== domains/@isp.ini
[dns]
mx = mx.example.org
== hosts/@one.ini
[dns]
mx = one.example
port = 25
== users/demo.ini
[account]
authorizedroute = @one
";

/// What an order asks for, all of it other than the default.
const ORDER: &str = r#"{"routing":{"outbound":["192.0.2.11","@one"],"ehlo":"order.example","envelopefrom":"o@order.example","sign":"none","ssl":false}}"#;

struct Net {
    world: World,
    mx: Sink,
    one: Sink,
}

fn net(config: &str) -> Net {
    let pem = generate(Algorithm::Ed25519Sha256).unwrap();
    let key = format!("== keys/example.com s1 id.pem\n{pem}");
    let world = World::new(&format!("{key}{PLACES}{config}"));
    let with_tls = |names: &[&str]| SinkOptions {
        tls: Some(world.ca.server(names)),
        ..SinkOptions::default()
    };
    let mx = world.mx_with(
        "example.org",
        "198.51.100.25",
        with_tls(&["mx.example.org"]),
    );
    world.zone("one.example. A 198.51.100.41");
    let one = "198.51.100.41:25".parse().unwrap();
    let one = world.sink(one, with_tls(&["one.example"]));
    Net { world, mx, one }
}

/// What the remotes saw of a few messages, by the key that decides it.
type Seen = [(&'static str, String); 6];

async fn seen(net: &Net, content: &str) -> Seen {
    for sink in [&net.mx, &net.one] {
        sink.clear();
    }
    for _ in 0..4 {
        // A new connection each time, so that every address has its turn.
        net.world.forget_sessions().await;
        let reply = net.world.send(&["anna@example.org"], content).await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let (by_mx, by_host) = (net.mx.messages(), net.one.messages());
    assert!(by_mx.is_empty() || by_host.is_empty(), "one way for all");
    let route = if by_host.is_empty() { "MX" } else { "@one" };
    let messages = [by_mx, by_host].concat();
    let all = |show: &dyn Fn(&MessageRecord) -> String| {
        let shown: BTreeSet<String> = messages.iter().map(show).collect();
        shown.into_iter().collect::<Vec<_>>().join(" ")
    };
    let signed = |octets: &[u8]| octets.starts_with(b"DKIM-Signature: ");
    [
        ("route", route.to_owned()),
        ("ip", all(&|m| m.peer.ip().to_string())),
        ("ehlo", all(&|m| m.ehlo.clone())),
        ("envelopefrom", all(&|m| m.sender.clone())),
        ("sign", all(&|m| signed(&m.content).to_string())),
        ("ssl", all(&|m| m.tls.to_string())),
    ]
}

fn as_ordered() -> Seen {
    [
        ("route", "@one"),
        ("ip", "192.0.2.11"),
        ("ehlo", "order.example"),
        ("envelopefrom", "o@order.example"),
        ("sign", "false"),
        ("ssl", "false"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
}

/// The built-in default of a key; the name in EHLO is that of the address taken.
fn default_of(key: &str, seen: &Seen) -> String {
    let (_, ips) = seen.iter().find(|(k, _)| *k == "ip").unwrap();
    match key {
        "route" => "MX".to_owned(),
        "ip" => "192.0.2.10 192.0.2.11".to_owned(),
        "ehlo" => ips
            .replace("192.0.2.10", "mta10.example.net")
            .replace("192.0.2.11", "mta11.example.net"),
        "envelopefrom" => "orders@example.com".to_owned(),
        _ => "true".to_owned(),
    }
}

/// Another value of each key than the order's and the default.
const MAIN: &str = "[routing]\nip = 192.0.2.10\nehlo = main.example\nenvelopefrom = m@main.example\nsign = 0\nssl = 0\nroute = @one\n";

#[tokio::test(start_paused = true)]
async fn relay_58_relay_59_conf_40_conf_51_each_key_that_is_present_and_empty_is_its_default() {
    for section in ["routing", "routing@isp"] {
        for key in ["route", "ip", "ehlo", "envelopefrom", "sign", "ssl"] {
            // Whatever the main file says: presence is what counts.
            for main in ["", MAIN] {
                let net = net(&format!(
                    "== users/demo.ini\n[{section}]\n{key} =\n== galerne.ini\n{main}"
                ));
                let found = seen(&net, &directed(ORDER)).await;
                let mut expected = as_ordered();
                for (name, value) in &mut expected {
                    if *name == key {
                        *value = default_of(key, &found);
                    }
                }
                assert_eq!(found, expected, "[{section}] {key} {main:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn relay_9_relay_59_main_file_then_directive_then_user_file() {
    let net = net(&format!("== galerne.ini\n{MAIN}"));
    let by_main = [
        ("route", "@one"),
        ("ip", "192.0.2.10"),
        ("ehlo", "main.example"),
        ("envelopefrom", "m@main.example"),
        ("sign", "false"),
        ("ssl", "false"),
    ]
    .map(|(key, value)| (key, value.to_owned()));
    assert_eq!(seen(&net, MESSAGE).await, by_main);
    assert_eq!(seen(&net, &directed(ORDER)).await, as_ordered());
    net.world.reload("== users/demo.ini\n[routing]\nip = 192.0.2.10\nehlo = user.example\nenvelopefrom = u@user.example\nsign = 1\nssl = 1\nroute = @one\n");
    let by_user = [
        ("route", "@one"),
        ("ip", "192.0.2.10"),
        ("ehlo", "user.example"),
        ("envelopefrom", "u@user.example"),
        ("sign", "true"),
        ("ssl", "true"),
    ]
    .map(|(key, value)| (key, value.to_owned()));
    for content in [MESSAGE, &directed(ORDER)] {
        assert_eq!(seen(&net, content).await, by_user);
    }
}

#[tokio::test(start_paused = true)]
async fn relay_58_conf_40_timeout_maxhop_and_mode_present_and_empty_are_their_defaults() {
    let order = directed(r#"{"message":{"timeout":7,"maxhop":1,"mode":"queue"}}"#);
    let main = "[relay]\ntimeout = 90\nmaxhop = 5\nmode = auto\n";
    let world = |keys: &str| {
        let user = format!("== users/demo.ini\n{keys}\n[routing]\nip = 192.0.2.10\n");
        World::with_queue(&format!("{main}{user}"), Arc::new(MemoryQueue::default()))
    };
    let to = ["anna@example.org"];
    let reply = world("").send(&to, &order).await;
    assert!(
        reply.starts_with("250 2.0.0 queued as"),
        "as ordered: {reply}"
    );
    for (keys, timeout, hops) in [
        ("[relay]\nmode =", 7, 1),
        ("[relay]\nmode =\n[message]\ntimeout =", 60, 1),
        ("[relay]\nmode =\n[message]\nmaxhop =", 7, 3),
    ] {
        // A host that hangs takes the time there is; hosts that nobody listens at take hops.
        let world_of_time = world(keys);
        let mx = world_of_time.mx("example.org", "198.51.100.25");
        mx.rule(Rule::at(Stage::Ehlo).hang());
        let began = Instant::now();
        let reply = world_of_time.send(&to, &order).await;
        assert!(reply.starts_with("451 9.3.2 "), "{keys:?}: {reply}");
        assert_eq!(began.elapsed().as_secs(), timeout, "{keys:?}");
        let world_of_hops = world(keys);
        for n in 1..=9 {
            world_of_hops.zone(&format!(
                "example.org. MX {n} mx{n}.example.org.\nmx{n}.example.org. A 198.51.100.{n}"
            ));
        }
        let reply = world_of_hops.send(&to, &order).await;
        assert!(reply.starts_with("451 9.3.2 "), "{keys:?}: {reply}");
        assert_eq!(world_of_hops.hops().len(), hops, "{keys:?}");
    }
}

/// Everything that a client must know of an account stands in its file.
#[tokio::test(start_paused = true)]
async fn relay_9_relay_10_login_password_encryption_and_routing_are_those_of_the_user_file() {
    let shop = "== users/shop.ini\n[account]\nsmtplogin = us@shop.example\nsmtppassw = s3cret word\nauthorizedroute = @one\n[routing]\nip = 192.0.2.11\nroute = @one\nehlo = %user%.example.com\n";
    let net = net(shop);
    let auth = |login: &str, password: &str| {
        format!(
            "AUTH PLAIN {}",
            base64(format!("\0{login}\0{password}").as_bytes())
        )
    };
    let good = auth("us@shop.example", "s3cret word");
    let mut clear = net.world.client(CLIENT).await;
    clear.hello().await;
    assert!(clear.say(&good).await.starts_with("538 5.7.11 "));
    for wrong in [
        auth("shop", "s3cret word"),
        auth("us@shop.example", "secret"),
    ] {
        let mut client = net.world.tls_client(CLIENT).await;
        client.hello().await;
        assert!(client.say(&wrong).await.starts_with("535 5.7.8 "));
    }
    let mut client = net.world.tls_client("203.0.113.8").await;
    client.hello().await;
    assert!(client.say(&good).await.starts_with("235 2.7.0 "));
    let to = ["anna@example.org"];
    let reply = client
        .transaction("a@shop.example", &to, MESSAGE.as_bytes())
        .await;
    assert_eq!(reply.unwrap().code, 250);
    let message = net.one.messages().remove(0);
    assert_eq!(message.ehlo, "shop.example.com");
    assert_eq!(message.peer.ip().to_string(), "192.0.2.11");
}
