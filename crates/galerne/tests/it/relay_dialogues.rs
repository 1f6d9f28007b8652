//! The worked transcripts of the specification, as the client sees them.

use galerne_core::ports::{ListEntry, Lists};
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Stage};

use crate::world::{CLIENT, Talk, World};

const PATTERNS: &str = "== domains/@.ini
[pattern]
nouser = HARD(unknown) 550 5.1.1 *
listed = FLOW(blocklist) 554 *listed
";

/// Plays what follows EHLO; the session is encrypted from its first octet.
async fn play(world: &World, dialogue: &str) {
    let mut client = world.tls_client(CLIENT).await;
    let offers = client.hello().await;
    for keyword in ["SIZE", "8BITMIME", "DSN", "AUTH"] {
        assert!(offers.offers(keyword), "{offers}");
    }
    let login = "C: AUTH PLAIN AGRlbW8Ac2VjcmV0\nS: 235 2.7.0";
    for part in [login, dialogue, "C: QUIT\nS: 221 2.0.0\nS!"] {
        let lines: Vec<_> = part.lines().map(str::trim_start).collect();
        client
            .run_dialogue(&lines.join("\n"))
            .await
            .unwrap_or_else(|e| panic!("{e}"));
    }
}

/// The envelope and the content up to the final dot, with this directive.
fn submit(directive: &str, ending: &str) -> String {
    format!(
        "C: MAIL FROM:<orders@example.com>
        S: 250 2.1.0 OK
        C: RCPT TO:<anna@example.org>
        S: 250 2.1.5 OK
        C: DATA
        S: 354
        C: X-SMTP-R-API: {directive}
        C: From: <orders@example.com>
        C: To: <anna@example.org>
        C: Subject: Your order
        C:
        C: Hello
        C: .
        {ending}"
    )
}

const ORDER: &str = r#"{"message":{"ref":"order-4711","timeout":30,"maxhop":2},"routing":{"sign":"none","outbound":["192.0.2.10","192.0.2.11"]}}"#;
const FIRST: &str = "192.0.2.10 -> 198.51.100.25:25";
const SECOND: &str = "192.0.2.11 -> 198.51.100.25:25";

#[tokio::test(start_paused = true)]
async fn relay_1_relay_73_transcript_8_1_delivered() {
    let world = World::new(PATTERNS);
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).reply("250 2.0.0 Queued as 7F31"));
    play(&world, &submit(ORDER, "S: 250 2.0.0 Queued as 7F31")).await;
    assert_eq!(world.hops(), [FIRST]);
    assert_eq!(
        String::from_utf8_lossy(&mx.messages()[0].content),
        "From: <orders@example.com>\r\nTo: <anna@example.org>\r\nSubject: Your order\r\n\r\nHello\r\n"
    );
    assert_eq!(world.transactions()[0].0.reference, "order-4711");
}

#[tokio::test(start_paused = true)]
async fn relay_63_relay_84_transcript_8_2_unknown_mailbox() {
    let world = World::new(PATTERNS);
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    play(&world, &submit(ORDER, "S: 550 5.1.1 No such user")).await;
    assert_eq!(world.hops(), [FIRST]);
    assert_eq!(world.lists.list("rfhard"), ["anna@example.org"]);
}

/// The remote block-lists the first outbound.
fn block(mx: &galerne_sim::sink::Sink, address: &str) {
    let text = format!("554 5.7.1 Address {address} is listed");
    mx.rule(
        Rule::at(Stage::Connect)
            .client(address.parse().unwrap())
            .reply(&text)
            .close(),
    );
}

#[tokio::test(start_paused = true)]
async fn relay_60_relay_62_transcript_8_3_delivered_by_the_second_address() {
    let world = World::new(PATTERNS);
    let mx = world.mx("example.org", "198.51.100.25");
    block(&mx, "192.0.2.10");
    mx.rule(Rule::at(Stage::Dot).reply("250 2.6.0 Accepted"));
    play(&world, &submit(ORDER, "S: 250 2.6.0 Accepted")).await;
    assert_eq!(world.hops(), [FIRST, SECOND]);
}

#[tokio::test(start_paused = true)]
async fn relay_65_relay_66_transcript_8_4_listed_on_every_hop() {
    let world = World::new(PATTERNS);
    let mx = world.mx("example.org", "198.51.100.25");
    block(&mx, "192.0.2.10");
    block(&mx, "192.0.2.11");
    play(
        &world,
        &submit(ORDER, "S: 554 5.7.1 Address 192.0.2.11 is listed"),
    )
    .await;
    assert_eq!(world.hops(), [FIRST, SECOND]);
    assert!(world.lists.list("rfhard").is_empty());
}

#[tokio::test(start_paused = true)]
async fn relay_64_transcript_8_5_soft_error_without_fallback() {
    let world = World::new(PATTERNS);
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Rcpt).reply("452 4.2.2 Mailbox full"));
    play(&world, &submit(ORDER, "S: 452 4.2.2 Mailbox full")).await;
    assert_eq!(world.hops(), [FIRST]);
}

#[tokio::test(start_paused = true)]
async fn relay_66_relay_75_transcript_8_6_nobody_reachable() {
    let world = World::new(PATTERNS);
    world.mx("example.org", "198.51.100.25");
    world.decide("198.51.100.25:25", Fate::Refuse);
    let reply = "S: 451 9.3.2 X-SMTP-R-API no connection to mx.example.org in 30 s";
    play(&world, &submit(ORDER, reply)).await;
    assert_eq!(world.hops(), [FIRST, SECOND]);
}

#[tokio::test(start_paused = true)]
async fn relay_69_transcript_8_7_no_outbound_free() {
    let world = World::new(&format!("[rfmta]\nthreadnb = 1\n{PATTERNS}"));
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(
        Rule::at(Stage::Rcpt)
            .recipient("slow")
            .delay(std::time::Duration::from_secs(50)),
    );
    let _busy = world
        .waiting(&["slow@example.org"], crate::world::MESSAGE)
        .await;
    let reply = "S: 451 9.3.1 X-SMTP-R-API no route available within 30 s";
    play(&world, &submit(ORDER, reply)).await;
}

#[tokio::test(start_paused = true)]
async fn relay_37_transcript_8_8_bad_directive() {
    let world = World::new(PATTERNS);
    let reply = "S: 451 9.1.4 X-SMTP-R-API message.ref must have 3 to 30 characters a-z 0-9 -";
    play(&world, &submit(r#"{"message":{"ref":"X"}}"#, reply)).await;
    assert!(world.hops().is_empty());
}

#[tokio::test(start_paused = true)]
async fn relay_78_transcript_8_9_recipient_in_a_blacklist() {
    let world = World::new(PATTERNS);
    let gone = ListEntry {
        email: "gone@example.org".into(),
        source: "mta",
        reason: String::new(),
    };
    world.lists.add("rfhard", gone);
    let dialogue = "C: MAIL FROM:<orders@example.com>
        S: 250 2.1.0 OK
        C: RCPT TO:<gone@example.org>
        S: 451 9.2.1 X-SMTP-R-API recipient refused by list rfhard";
    play(&world, dialogue).await;
}
