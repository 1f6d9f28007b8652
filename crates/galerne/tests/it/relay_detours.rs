//! When something around a delivery fails: names that do not resolve while there is another way,
//! a remote that floods, a stop whose time is over (ROUTE-33, T-46, QUEUE-19, RELAY-70).

use std::time::Duration;

use galerne_core::model::Outcome;
use galerne_sim::sink::{Rule, SinkOptions, Stage};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{MESSAGE, Talk, World, directed};

const HOSTS: &str = "== hosts/@one.ini
[dns]
mx = one.example
port = 25
== hosts/@two.ini
[dns]
mx = 198.51.100.42
port = 25
== users/demo.ini
[account]
authorizedroute = @one @two
";

#[tokio::test(start_paused = true)]
async fn route_33_t_62_a_relay_host_without_a_name_now_leads_to_the_next() {
    let world = World::new(HOSTS);
    world.zone("one.example. SERVFAIL");
    let two = world.sink("198.51.100.42:25".parse().unwrap(), SinkOptions::default());
    let order = directed(r#"{"routing":{"outbound":["@one","@two"]}}"#);
    let began = Instant::now();
    let reply = world.send(&["anna@example.org"], &order).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(two.messages().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn flow_56_t_62_mail_for_a_relay_host_does_not_wait_for_the_mx_of_its_domain() {
    let world = World::new(&format!(
        "[routing]\nroute = @two\n{HOSTS}[routing@isp]\nssl = 0\n== domains/@isp.ini\n[dns]\nmx = *.isp.example\n"
    ));
    world.zone("example.org. SILENT");
    let two = world.sink("198.51.100.42:25".parse().unwrap(), SinkOptions::default());
    let began = Instant::now();
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(two.messages().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn relay_77_route_38_the_reply_names_dns_when_no_name_resolves() {
    let world = World::new(HOSTS);
    world.zone("one.example. SERVFAIL");
    let order = directed(r#"{"message":{"timeout":5},"routing":{"outbound":["@one"]}}"#);
    let reply = world.send(&["anna@example.org"], &order).await;
    assert!(
        reply.starts_with("451 9.3.4 X-SMTP-R-API DNS for one.example"),
        "{reply}"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_71_a_client_that_leaves_while_a_relay_host_is_looked_up_is_noticed() {
    let world = World::new(HOSTS);
    world.zone("one.example. SILENT");
    let order = directed(r#"{"message":{"timeout":60},"routing":{"outbound":["@one"]}}"#);
    let client = world.waiting(&["anna@example.org"], &order).await;
    sleep(Duration::from_secs(1)).await;
    let left = Instant::now();
    drop(client);
    while world.settled().is_empty() {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(left.elapsed() < Duration::from_secs(2));
    assert_eq!(world.settled()[0].outcome, Outcome::Cancelled);
}

/// A remote that reads the first line of the content, then nothing, and talks without end. Gives
/// how much of its talk was taken.
async fn flood(mut stream: tokio::io::DuplexStream) -> usize {
    use tokio::io::AsyncReadExt;
    stream.write_all(b"220 flood\r\n").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"DATA\r\n") {
        let octet = stream.read_u8().await.unwrap();
        seen.push(octet);
        if octet == b'\n' {
            let go = seen.ends_with(b"DATA\r\n");
            let answer: &[u8] = if go { b"354 go\r\n" } else { b"250 ok\r\n" };
            stream.write_all(answer).await.unwrap();
        }
    }
    let line = [&b"250-"[..], &[b'x'; 60_000], b"\r\n"].concat();
    let mut taken = 0;
    while taken < 64 << 20 && stream.write_all(&line).await.is_ok() {
        taken += line.len();
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn t_46_a_remote_that_talks_without_end_while_we_send_is_cut_off() {
    let world = World::new("");
    world.zone("example.org. MX 10 mx.example.org.\nmx.example.org. A 198.51.100.25");
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    world
        .net
        .listen("198.51.100.25:25".parse().unwrap(), move |stream, _| {
            let told = told.clone();
            async move {
                let taken = flood(stream).await;
                let _ = told.send(taken).await;
            }
        });
    // More than the network between holds, so that the last octets cannot leave.
    let message = format!("{MESSAGE}{}", "0123456789abcdef\r\n".repeat(20_000));
    let reply = world.send(&["anna@example.org"], &message).await;
    assert!(reply.starts_with("451 9.3."), "{reply}");
    let taken = heard.recv().await.unwrap();
    assert!(taken < 8 << 20, "{taken} octets were taken");
}

#[tokio::test(start_paused = true)]
async fn queue_19_relay_70_when_the_time_for_the_stop_is_over_the_outcome_is_told_and_logged() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).recipient("anna@example.org").hang());
    mx.rule(Rule::at(Stage::Rcpt).recipient("bert@example.org").hang());
    let mut after = world.waiting(&["anna@example.org"], MESSAGE).await;
    let mut before = world.waiting(&["bert@example.org"], MESSAGE).await;
    sleep(Duration::from_secs(1)).await;
    world.delivery.give_up();
    let told = async { (after.hear().await, before.hear().await) };
    let (unknown, aborted) = timeout(Duration::from_secs(1), told).await.unwrap();
    assert!(unknown.starts_with("451 9.3.3 "), "{unknown}");
    assert!(aborted.starts_with("451 "), "{aborted}");
    let mut outcomes: Vec<_> = world.settled().into_iter().map(|s| s.outcome).collect();
    outcomes.sort_by_key(|outcome| format!("{outcome:?}"));
    assert_eq!(outcomes, [Outcome::Cancelled, Outcome::Unknown]);
}
