//! Time and sessions: timeouts, hops, reuse, clients that leave (RELAY-40 to RELAY-43, RELAY-61,
//! RELAY-70, RELAY-71, ROUTE-35, T-41, T-43, T-44).

use std::time::Duration;

use galerne_core::model::Outcome;
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Sink, Stage};
use tokio::time::{Instant, sleep};

use crate::world::{MESSAGE, Talk, World, directed};

const MX: &str = "198.51.100.25:25";

fn world(config: &str) -> (World, Sink) {
    let world = World::new(config);
    let mx = world.mx("example.org", "198.51.100.25");
    (world, mx)
}

/// All of the session's messages leave from one address.
const ONE: &str = "== users/demo.ini\n[routing]\nip = 192.0.2.10\n";

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// Sends and tells how long the answer took.
async fn timed(world: &World, content: &str) -> (String, u64) {
    let began = Instant::now();
    let reply = world.send(&["anna@example.org"], content).await;
    (reply, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn relay_40_t_44_the_timeout_counts_from_the_end_of_data() {
    let (world, mx) = world("");
    mx.rule(Rule::at(Stage::Rcpt).hang());
    let mut client = world.login().await;
    client
        .envelope("orders@example.com", &["anna@example.org"])
        .await;
    client
        .send_raw(directed(r#"{"message":{"timeout":30}}"#).as_bytes())
        .await
        .unwrap();
    sleep(seconds(100)).await;
    let began = Instant::now();
    assert_eq!(
        client.say(".").await,
        "451 9.3.2 X-SMTP-R-API connection to mx.example.org lost at RCPT"
    );
    assert_eq!(began.elapsed().as_secs(), 30);
    assert!(mx.attempts().is_empty());
    sleep(seconds(5)).await;
    assert!(mx.sessions()[0].ended, "the connection is given up");
}

#[tokio::test(start_paused = true)]
async fn relay_43_relay_58_relay_59_sources_of_timeout_and_maxhop() {
    let (world, mx) = world("");
    mx.rule(Rule::at(Stage::Ehlo).hang());
    assert_eq!(timed(&world, MESSAGE).await.1, 60, "the default");
    world.reload("[relay]\ntimeout = 40\n");
    assert_eq!(timed(&world, MESSAGE).await.1, 40, "the main file");
    assert_eq!(
        timed(&world, &directed(r#"{"message":{"timeout":20}}"#))
            .await
            .1,
        20,
        "the directive"
    );
    world.reload("== users/demo.ini\n[message]\ntimeout = 10\n");
    assert_eq!(
        timed(&world, &directed(r#"{"message":{"timeout":20}}"#))
            .await
            .1,
        10,
        "the user file"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_43_without_a_word_three_routes_are_tried() {
    let world = World::new("");
    for n in 1..=4 {
        world.zone(&format!(
            "example.org. MX {n} mx{n}.example.org.\nmx{n}.example.org. A 198.51.100.{n}"
        ));
    }
    assert!(
        world
            .relay("anna@example.org")
            .await
            .starts_with("451 9.3.2 ")
    );
    assert_eq!(world.hops().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn relay_42_the_same_pair_is_not_tried_twice() {
    let (world, _) = world("");
    world.decide(MX, Fate::Refuse);
    world
        .send(
            &["anna@example.org"],
            &directed(r#"{"message":{"maxhop":20}}"#),
        )
        .await;
    let mut hops = world.hops();
    hops.sort();
    assert_eq!(
        hops,
        [
            "192.0.2.10 -> 198.51.100.25:25",
            "192.0.2.11 -> 198.51.100.25:25"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn relay_42_a_session_is_used_again_and_ends_with_quit_after_five_idle_seconds() {
    let (world, mx) = world(ONE);
    for _ in 0..3 {
        assert!(world.relay("anna@example.org").await.starts_with("250 "));
        sleep(seconds(4)).await;
    }
    assert_eq!((world.hops().len(), mx.messages().len()), (1, 3));
    sleep(seconds(2)).await;
    let session = mx.sessions().remove(0);
    assert_eq!(session.commands.last().map(String::as_str), Some("QUIT"));
    assert!(session.ended);
    assert!(world.delivery.pool().is_empty());
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!(world.hops().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn relay_42_idle_is_a_setting() {
    let (world, mx) = world(&format!("[rfmta]\nidle = 1\n{ONE}"));
    world.relay("anna@example.org").await;
    sleep(seconds(2)).await;
    assert!(mx.sessions()[0].ended);
}

#[tokio::test(start_paused = true)]
async fn relay_42_sessions_are_not_shared_between_ehlo_names() {
    let (world, mx) = world(ONE);
    for name in ["one.example", "two.example", "one.example"] {
        let content = directed(&format!(r#"{{"routing":{{"ehlo":"{name}"}}}}"#));
        assert!(
            world
                .send(&["anna@example.org"], &content)
                .await
                .starts_with("250 ")
        );
    }
    let names: Vec<_> = mx
        .messages()
        .into_iter()
        .map(|m| (m.session, m.ehlo))
        .collect();
    assert_eq!(
        names,
        [
            (1, "one.example".into()),
            (2, "two.example".into()),
            (1, "one.example".into())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn relay_42_a_reused_session_that_proves_closed_is_no_hop() {
    // Closed while idle, closed at MAIL, 421 while idle is not seen, 421 at MAIL, reset at MAIL.
    let ends = [
        Rule::at(Stage::Dot).times(1).answer_and_close(),
        Rule::at(Stage::Mail).transaction(2).close(),
        Rule::at(Stage::Mail)
            .transaction(2)
            .reply("421 4.3.2 closing"),
        Rule::at(Stage::Mail)
            .transaction(2)
            .reply("421 4.3.2 closing")
            .close(),
        Rule::at(Stage::Dot)
            .times(1)
            .reply("250 2.0.0 Ok\n421 4.4.2 idle too long")
            .close(),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let (world, mx) = world(ONE);
        mx.rule(end);
        let content = directed(r#"{"message":{"maxhop":1}}"#);
        for message in 1..=2 {
            let reply = world.send(&["anna@example.org"], &content).await;
            assert!(
                reply.starts_with("250 "),
                "end {number}, message {message}: {reply}"
            );
            sleep(seconds(1)).await;
        }
        assert_eq!(world.hops().len(), 2, "end {number}");
        let second = &world.settled()[1];
        assert_eq!(
            (second.attempts.len(), second.attempts[0].hop),
            (1, 1),
            "end {number}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn relay_42_relay_74_a_421_after_mail_or_on_a_new_connection_is_an_answer() {
    let (world, mx) = world(ONE);
    mx.rule(
        Rule::at(Stage::Rcpt)
            .transaction(2)
            .reply("421 4.3.2 closing"),
    );
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!(world.relay("anna@example.org").await, "451 4.3.2 closing");
    assert_eq!(world.hops().len(), 1);
    mx.clear_rules();
    mx.rule(Rule::at(Stage::Mail).reply("421 4.3.2 closing"));
    assert_eq!(world.relay("anna@example.org").await, "451 4.3.2 closing");
    assert_eq!(world.hops().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn relay_61_connecting_and_greeting_have_ten_seconds_each() {
    for fate in [Fate::BlackHole, Fate::Mute] {
        let world = World::new(ONE);
        world.mx("example.org", "198.51.100.25");
        world.zone("example.org. MX 20 second.example.org.\nsecond.example.org. A 198.51.100.26");
        world.sink("198.51.100.26:25".parse().unwrap(), Default::default());
        world.decide(MX, fate);
        let (reply, took) = timed(&world, MESSAGE).await;
        assert!(reply.starts_with("250 "), "{fate:?}: {reply}");
        assert_eq!(took, 10, "{fate:?}");
    }
    let (world, mx) = world(ONE);
    mx.rule(Rule::at(Stage::Connect).delay(seconds(9)));
    assert!(
        timed(&world, MESSAGE).await.0.starts_with("250 "),
        "nine are not too many"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_61_connecttimeout_is_a_setting_and_never_beyond_the_rest_of_the_timeout() {
    let (world, _) = world(&format!("[rfmta]\nconnecttimeout = 3\n{ONE}"));
    world.decide(MX, Fate::BlackHole);
    let (reply, took) = timed(&world, MESSAGE).await;
    assert_eq!(
        (reply.as_str(), took),
        (
            "451 9.3.2 X-SMTP-R-API no connection to mx.example.org in 60 s",
            3
        )
    );
    let (_, took) = timed(&world, &directed(r#"{"message":{"timeout":2}}"#)).await;
    assert_eq!(took, 2);
}

#[tokio::test(start_paused = true)]
async fn relay_70_t_41_t_44_the_reply_to_the_dot_has_a_minute_more() {
    let (world, mx) = world("");
    mx.rule(Rule::at(Stage::Dot).times(1).delay(seconds(89)));
    let timeout = |seconds| directed(&format!(r#"{{"message":{{"timeout":{seconds}}}}}"#));
    let (reply, took) = timed(&world, &timeout(30)).await;
    assert_eq!((reply.as_str(), took), ("250 2.0.0 Ok: queued as 1-1", 89));
    mx.rule(Rule::at(Stage::Dot).hang());
    let unknown =
        "451 9.3.3 X-SMTP-R-API outcome unknown: no reply of mx.example.org after the final dot";
    assert_eq!(timed(&world, &timeout(30)).await, (unknown.to_owned(), 90));
    assert_eq!(
        timed(&world, &timeout(590)).await,
        (unknown.to_owned(), 595)
    );
    let outcomes: Vec<_> = world.settled().into_iter().map(|s| s.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Delivered, Outcome::Unknown, Outcome::Unknown]
    );
    assert_eq!(world.hops().len(), 3, "no fallback");
}

#[tokio::test(start_paused = true)]
async fn relay_71_t_43_a_client_that_leaves_before_the_dot_ends_the_attempt() {
    for step in [Stage::Connect, Stage::Ehlo, Stage::Mail, Stage::Data] {
        let (world, mx) = world("");
        mx.rule(Rule::at(step).delay(seconds(5)));
        let client = world.waiting(&["anna@example.org"], MESSAGE).await;
        sleep(seconds(2)).await;
        drop(client);
        sleep(seconds(60)).await;
        assert!(mx.attempts().is_empty(), "{step:?}");
        assert!(mx.sessions()[0].ended);
        assert_eq!(world.settled()[0].outcome, Outcome::Cancelled, "{step:?}");
        assert_eq!(world.hops().len(), 1, "and no other route is tried");
    }
}

#[tokio::test(start_paused = true)]
async fn relay_71_t_43_a_client_that_leaves_after_the_dot_does_not_stop_it() {
    let (world, mx) = world("");
    mx.rule(
        Rule::at(Stage::Dot)
            .delay(seconds(5))
            .reply("250 2.0.0 Queued as 7F31"),
    );
    let client = world.waiting(&["anna@example.org"], MESSAGE).await;
    sleep(seconds(2)).await;
    drop(client);
    sleep(seconds(60)).await;
    assert_eq!(mx.messages().len(), 1);
    let end = world.settled().remove(0);
    assert_eq!(
        (end.outcome, end.reply.to_log()),
        (Outcome::Delivered, "250 2.0.0 Queued as 7F31".into())
    );
}

#[tokio::test(start_paused = true)]
async fn relay_71_a_client_that_leaves_while_names_or_a_slot_are_awaited_sends_nothing() {
    let (world, mx) = world("[rfmta]\nthreadnb = 1\n");
    world.zone("ill.example. SERVFAIL");
    let client = world.waiting(&["anna@ill.example"], MESSAGE).await;
    sleep(seconds(2)).await;
    drop(client);
    sleep(seconds(2)).await;
    assert_eq!(
        world.settled()[0].outcome,
        Outcome::Cancelled,
        "at once, not when the time is over"
    );
    mx.rule(Rule::at(Stage::Dot).times(1).delay(seconds(20)));
    let busy = world.waiting(&["anna@example.org"], MESSAGE).await;
    let client = world.waiting(&["bert@example.org"], MESSAGE).await;
    sleep(seconds(2)).await;
    drop(client);
    sleep(seconds(30)).await;
    drop(busy);
    let outcomes: Vec<_> = world.settled().into_iter().map(|s| s.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Cancelled, Outcome::Cancelled, Outcome::Delivered]
    );
}

#[tokio::test(start_paused = true)]
async fn relay_71_a_client_that_leaves_while_a_large_body_is_sent_stops_it() {
    let (world, _) = world(ONE);
    // The remote takes nothing of the content.
    let stuck = world.stuck_mx("example.net", "198.51.100.26", "");
    let large = format!("{MESSAGE}{}", "0123456789abcdef\r\n".repeat(30_000));
    let client = world.waiting(&["anna@example.net"], &large).await;
    sleep(seconds(2)).await;
    drop(client);
    sleep(seconds(2)).await;
    assert_eq!(world.settled()[0].outcome, Outcome::Cancelled);
    assert!(!stuck.octets().ends_with("\r\n.\r\n"), "the end never left");
}

#[tokio::test(start_paused = true)]
async fn relay_64_relay_73_t_41_a_refusal_while_a_large_body_is_sent_is_that_refusal() {
    for size in [10_000, 30_000, 300_000] {
        for then in [
            "552 5.3.4 too big for us\r\n",
            "552 5.3.4 too big for us\r\n!",
        ] {
            let world = World::new(ONE);
            world.stuck_mx("example.net", "198.51.100.26", then);
            let large = format!("{MESSAGE}{}", "0123456789abcdef\r\n".repeat(size));
            let began = Instant::now();
            let reply = world.send(&["anna@example.net"], &large).await;
            assert_eq!(reply, "552 5.3.4 too big for us");
            assert_eq!(began.elapsed().as_secs(), 1, "heard while it was said");
            let attempts = world.settled().remove(0).attempts;
            assert_eq!((attempts.len(), attempts[0].stage), (1, Stage::Data));
        }
    }
}

/// A message of exactly so many octets.
fn sized(octets: usize) -> String {
    let filling = "0123456789abcde\r\n".repeat(octets / 17 - 10);
    let rest = octets - MESSAGE.len() - filling.len() - 2;
    format!("{MESSAGE}{filling}{}\r\n", "x".repeat(rest))
}

#[tokio::test(start_paused = true)]
async fn relay_61_relay_70_t_41_a_dot_that_never_left_leaves_no_doubt() {
    // The way holds 64 KiB: all of the content, and nothing of its end.
    let message = sized(64 * 1024);
    assert_eq!(message.len(), 64 * 1024);
    for (then, took) in [("!", 1), ("", 60)] {
        let world = World::new(ONE);
        let stuck = world.stuck_mx("example.net", "198.51.100.26", then);
        let began = Instant::now();
        let reply = world.send(&["anna@example.net"], &message).await;
        assert!(reply.starts_with("451 9.3.2 "), "{reply}");
        assert_eq!(began.elapsed().as_secs(), took);
        assert_eq!(world.settled()[0].outcome, Outcome::Deferred);
        assert!(!stuck.octets().ends_with("\r\n.\r\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn relay_71_a_client_that_leaves_while_the_dot_waits_stops_it() {
    let world = World::new(ONE);
    let stuck = world.stuck_mx("example.net", "198.51.100.26", "");
    let client = world
        .waiting(&["anna@example.net"], &sized(64 * 1024))
        .await;
    sleep(seconds(2)).await;
    drop(client);
    sleep(seconds(2 * 3600)).await;
    assert_eq!(world.settled()[0].outcome, Outcome::Cancelled);
    assert!(stuck.octets().len() > 64 * 1024, "it read all there was");
    assert!(
        !stuck.octets().ends_with("\r\n.\r\n"),
        "and the end never left"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_61_t_41_a_connection_lost_while_the_body_is_sent_is_lost_before_the_dot() {
    let world = World::new(ONE);
    world.stuck_mx("example.net", "198.51.100.26", "!");
    let large = format!("{MESSAGE}{}", "0123456789abcdef\r\n".repeat(30_000));
    assert_eq!(
        world.send(&["anna@example.net"], &large).await,
        "451 9.3.2 X-SMTP-R-API connection to mx.example.net lost at DATA"
    );
    assert_ne!(world.settled()[0].outcome, Outcome::Unknown);
}

#[tokio::test(start_paused = true)]
async fn t_44_a_body_that_is_not_taken_in_time_is_no_unknown() {
    let world = World::new(ONE);
    world.stuck_mx("example.net", "198.51.100.26", "");
    let large = format!("{MESSAGE}{}", "0123456789abcdef\r\n".repeat(30_000));
    let began = Instant::now();
    let reply = world.send(&["anna@example.net"], &large).await;
    assert_eq!(
        reply,
        "451 9.3.2 X-SMTP-R-API connection to mx.example.net lost at DATA"
    );
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn route_35_an_address_that_timed_out_is_avoided_while_another_is_left() {
    let world = World::new(ONE);
    world.mx("example.org", "198.51.100.25");
    world.zone("example.org. MX 20 second.example.org.\nsecond.example.org. A 198.51.100.26");
    let second = world.sink("198.51.100.26:25".parse().unwrap(), Default::default());
    world.decide(MX, Fate::BlackHole);
    assert_eq!(timed(&world, MESSAGE).await.1, 10);
    assert_eq!(
        timed(&world, MESSAGE).await.1,
        0,
        "the dead one is left out"
    );
    second.rule(Rule::at(Stage::Connect).close());
    sleep(seconds(10)).await;
    let before = world.hops().len();
    let (_, took) = timed(&world, MESSAGE).await;
    assert_eq!(
        (world.hops().len() - before, took),
        (2, 10),
        "nothing else is left, so it is tried"
    );
    sleep(seconds(15 * 60)).await;
    let before = world.hops().len();
    world.relay("anna@example.org").await;
    assert!(
        world.hops()[before].ends_with(MX),
        "after 15 minutes it comes first again"
    );
}
