//! Flow control over the whole server: windows, sessions, switches, and who waits (FLOW-3, FLOW-20
//! to FLOW-29, FLOW-42 to FLOW-48, FLOW-51, RELAY-69).

use std::time::Duration;

use galerne_core::flow::Control;
use galerne_sim::sink::{Rule, Stage};
use tokio::time::Instant;

use crate::world::{MESSAGE, Talk, World};

/// A group with these lines in the set that every new address and sender has.
fn isp(ip: &str, more: &str) -> String {
    format!(
        "== domains/@isp.ini\n[dns]\nmx = *.isp.example\n[ipflow#warmup]\nthreadmax = 0\n{ip}\n{more}\n"
    )
}

const TO: &str = "anna@shop.example";

fn world(config: &str) -> World {
    let world = World::new(config);
    world.zone("shop.example. MX 10 mx.isp.example.\nother.example. MX 10 mx.isp.example.");
    world
}

#[tokio::test(start_paused = true)]
async fn flow_24_flow_29_relay_69_a_full_window_delays_and_the_timeout_is_451_9_3_1() {
    let world = world(&isp(
        "volttllow = 40\nvolmaxlow = 2",
        "== users/demo.ini\n[routing]\nip = 192.0.2.10",
    ));
    let mx = world.mx("isp.example", "198.51.100.25");
    let began = Instant::now();
    for _ in 0..3 {
        assert!(world.relay(TO).await.starts_with("250 "));
    }
    assert_eq!(
        began.elapsed().as_secs(),
        40,
        "the third waited for its place"
    );
    assert!(world.relay(TO).await.starts_with("250 "));
    let config = isp("volttllow = 1h\nvolmaxlow = 2", "");
    world.reload(&config.replace("[dns]\nmx = *.isp.example\n", "[dns]\n"));
    let began = Instant::now();
    assert_eq!(
        world.relay(TO).await,
        "451 9.3.1 X-SMTP-R-API no route available within 60 s"
    );
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(mx.messages().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn flow_23_relay_57_an_outbound_with_room_is_taken_before_one_without() {
    let world = world(&isp("volttllow = 1h\nvolmaxlow = 3", ""));
    let mx = world.mx("isp.example", "198.51.100.25");
    for _ in 0..6 {
        assert!(world.relay(TO).await.starts_with("250 "));
    }
    let peers: Vec<String> = mx
        .messages()
        .iter()
        .map(|m| m.peer.ip().to_string())
        .collect();
    for address in ["192.0.2.10", "192.0.2.11"] {
        let count = peers.iter().filter(|peer| *peer == address).count();
        assert_eq!(count, 3, "{peers:?}");
    }
    assert!(world.relay(TO).await.starts_with("451 9.3.1 "));
}

#[tokio::test(start_paused = true)]
async fn flow_20_flow_21_sessions_chains_and_pauses() {
    let world = world(&isp(
        "threadmax = 1\nchainmax = 2\nwaittime = 20",
        "== users/demo.ini\n[routing]\nip = 192.0.2.10",
    ));
    let mx = world.mx("isp.example", "198.51.100.25");
    let began = Instant::now();
    for _ in 0..4 {
        assert!(world.relay(TO).await.starts_with("250 "));
    }
    let sessions: Vec<usize> = mx.messages().iter().map(|m| m.session).collect();
    assert_eq!(sessions, [1, 1, 2, 2], "two messages in each session");
    let took = began.elapsed().as_secs();
    assert!(
        (20..=24).contains(&took),
        "one pause between two sessions: {took}"
    );
    // Two at once: the second waits until the first has gone.
    mx.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(10)));
    let began = Instant::now();
    let (one, other) = tokio::join!(world.relay(TO), world.relay(TO));
    assert!(one.starts_with("250 ") && other.starts_with("250 "));
    assert!(began.elapsed().as_secs() >= 20, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn flow_42_flow_43_flow_3_a_block_switches_sleeps_and_another_outbound_delivers() {
    let config = isp(
        "",
        "[ipflow#defcon2]\nsleepttl = 4h\n[pattern]\nlisted = FLOW(block, #defcon2) 554 *listed",
    );
    let world = world(&config);
    let mx = world.mx("isp.example", "198.51.100.25");
    mx.rule(Rule::at(Stage::Rcpt).times(1).reply("554 5.7.1 listed"));
    assert!(world.relay(TO).await.starts_with("250 "));
    let rows = world.delivery.pace().rows(Some("isp"));
    let blocked: Vec<_> = rows
        .iter()
        .filter(|row| row.set.word() == "defcon2")
        .collect();
    assert_eq!(blocked.len(), 1);
    let address = blocked[0].key.clone();
    // It sleeps: all else goes from the other one.
    for _ in 0..3 {
        assert!(world.relay(TO).await.starts_with("250 "));
    }
    let peers = mx.messages();
    assert!(peers.iter().all(|m| m.peer.ip().to_string() != address));
    let switches = world.delivery.pace().take_switches();
    assert_eq!(switches.len(), 1);
    assert_eq!(switches[0].change.from.word(), "warmup");
}

#[tokio::test(start_paused = true)]
async fn flow_47_flow_48_unknown_errors_in_a_row_switch_and_connection_failures_do_not() {
    let config = isp(
        "errmax = 2\nflowerr = defcon1",
        "== users/demo.ini\n[routing]\nip = 192.0.2.10",
    );
    let world = world(&config);
    let mx = world.mx("isp.example", "198.51.100.25");
    let set = || world.delivery.pace().rows(Some("isp"))[0].set.word();
    mx.rule(Rule::at(Stage::Rcpt).times(1).reply("550 no idea"));
    assert!(world.relay(TO).await.starts_with("550 "));
    assert!(world.relay(TO).await.starts_with("250 "));
    mx.rule(Rule::at(Stage::Rcpt).times(2).reply("550 no idea"));
    assert!(world.relay(TO).await.starts_with("550 "));
    assert_eq!(set(), "warmup");
    assert!(world.relay(TO).await.starts_with("550 "));
    assert_eq!(set(), "defcon1");
}

#[tokio::test(start_paused = true)]
async fn flow_27_flow_35_connection_failures_do_not_count_and_refusals_are_no_deliveries() {
    let config = isp(
        "volttllow = 1h\nvolmaxlow = 5",
        "== users/demo.ini\n[routing]\nip = 192.0.2.10",
    );
    let world = world(&config);
    world.zone("mx.isp.example. A 198.51.100.25");
    assert!(world.relay(TO).await.starts_with("451 9.3.2 "));
    let fill = || world.delivery.pace().rows(Some("isp"))[0].low;
    assert_eq!(fill(), (0, 5));
    let mx = world.sink(
        "198.51.100.25:25".parse().unwrap(),
        galerne_sim::sink::SinkOptions::default(),
    );
    mx.rule(
        Rule::at(Stage::Rcpt)
            .times(1)
            .reply("550 5.1.1 No such user"),
    );
    assert!(world.relay(TO).await.starts_with("550 "));
    assert_eq!(fill(), (1, 5));
    let two = ["anna@shop.example", "bert@shop.example"];
    assert!(world.send(&two, MESSAGE).await.starts_with("250"));
    assert_eq!(fill(), (3, 5), "each recipient counts");
}

#[tokio::test(start_paused = true)]
async fn flow_26_a_transaction_takes_no_more_recipients_than_the_window_has_room_for() {
    let config = isp(
        "volttllow = 30\nvolmaxlow = 2",
        "== users/demo.ini\n[routing]\nip = 192.0.2.10",
    );
    let world = world(&config);
    let mx = world.mx("isp.example", "198.51.100.25");
    let began = Instant::now();
    let three = [
        "anna@shop.example",
        "bert@shop.example",
        "carl@shop.example",
    ];
    let reply = world.send(&three, MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
    let counts: Vec<usize> = mx.messages().iter().map(|m| m.recipients.len()).collect();
    assert_eq!(counts, [2, 1]);
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn flow_51_in_the_group_of_all_others_sessions_are_limited_for_each_domain() {
    let config = "== domains/@.ini\n[ipflow#warmup]\nthreadmax = 1\n== users/demo.ini\n[routing]\nip = 192.0.2.10";
    let world = World::new(config);
    let one = world.mx("one.example", "198.51.100.25");
    let two = world.mx("two.example", "198.51.100.26");
    for mx in [&one, &two] {
        mx.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(10)));
    }
    let began = Instant::now();
    let (a, b, c) = tokio::join!(
        world.relay("anna@one.example"),
        world.relay("anna@two.example"),
        world.relay("bert@one.example"),
    );
    assert!([a, b, c].iter().all(|reply| reply.starts_with("250 ")));
    assert_eq!(
        began.elapsed().as_secs(),
        20,
        "two after each other, the third beside"
    );
}

#[tokio::test(start_paused = true)]
async fn flow_22_a_session_that_is_handed_on_leaves_nobody_of_another_account_behind() {
    let config = isp(
        "threadmax = 1",
        "== users/demo.ini\n[routing]\nip = 192.0.2.10\n== users/other.ini\n[account]\nsmtpssl = 0\nsmtplogin = other\nsmtppassw = secret\n[routing]\nip = 192.0.2.10",
    );
    let world = world(&config);
    let mx = world.mx("isp.example", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(2)));
    let one = |login: &'static str| {
        let world = &world;
        async move {
            let mut client = world.login_as(login, "secret").await;
            let to = ["anna@shop.example"];
            let reply = client.transaction("orders@example.com", &to, MESSAGE.as_bytes());
            reply.await.unwrap().text()
        }
    };
    let replies = tokio::join!(
        one("demo"),
        one("demo"),
        one("demo"),
        one("other"),
        one("other"),
        one("other"),
    );
    let (a, b, c, d, e, f) = replies;
    for reply in [a, b, c, d, e, f] {
        assert!(reply.starts_with("250 "), "{reply}");
    }
    assert_eq!(mx.messages().len(), 6);
    let sessions: Vec<usize> = mx.messages().iter().map(|m| m.session).collect();
    assert_eq!(sessions, [1; 6], "one session carried them all");
}

#[tokio::test(start_paused = true)]
async fn relay_68_relay_69_an_outbound_whose_pairs_are_used_up_is_not_waited_for() {
    let config = isp(
        "threadmax = 1",
        "[pattern]\nlisted = FLOW(block) 554 *listed\n== users/demo.ini\n[message]\ntimeout = 30",
    );
    let world = world(&config);
    let mx = world.mx("isp.example", "198.51.100.25");
    // One outbound is busy for ten seconds; the other is blocked for the message that follows.
    mx.rule(Rule::at(Stage::Dot).times(1).delay(Duration::from_secs(10)));
    let slow = world.relay(TO);
    let blocked = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        mx.rule(Rule::at(Stage::Rcpt).times(1).reply("554 5.7.1 listed"));
        let began = Instant::now();
        (world.relay(TO).await, began.elapsed().as_secs())
    };
    let (slow, (reply, took)) = tokio::join!(slow, blocked);
    assert!(slow.starts_with("250 "), "{slow}");
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(
        (9..=15).contains(&took),
        "it waited for the other outbound: {took}"
    );
}

#[tokio::test(start_paused = true)]
async fn flow_51_who_waits_for_one_domain_ends_no_session_of_another() {
    let config = "== domains/@.ini\n[ipflow#warmup]\nthreadmax = 1\n[sdflow#warmup@slow.test]\nvolttllow = 1h\nvolmaxlow = 1\n== users/demo.ini\n[routing]\nip = 192.0.2.10";
    let world = World::new(config);
    world.mx("x.example", "198.51.100.25");
    let y = world.mx("y.example", "198.51.100.26");
    let send = |from: &'static str, to: &'static str| {
        let world = &world;
        async move {
            let mut client = world.login().await;
            let to = [to];
            let reply = client.transaction(from, &to, MESSAGE.as_bytes());
            reply.await.unwrap().text()
        }
    };
    assert!(
        send("a@slow.test", "anna@x.example")
            .await
            .starts_with("250 ")
    );
    let waits = send("a@slow.test", "anna@x.example");
    let others = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..4 {
            assert!(send("a@s.test", "anna@y.example").await.starts_with("250 "));
        }
    };
    let (waited, ()) = tokio::join!(waits, others);
    assert!(waited.starts_with("451 9.3.1 "), "{waited}");
    assert_eq!(y.connected(), 1, "one session for all four");
}

#[tokio::test(start_paused = true)]
async fn flow_21_flow_27_relay_42_a_session_that_proves_closed_does_not_count_and_its_slot_pauses()
{
    let world = world(&isp(
        "threadmax = 1\nwaittime = 20\nvolttllow = 1h\nvolmaxlow = 50",
        "== users/demo.ini\n[routing]\nip = 192.0.2.10",
    ));
    let mx = world.mx("isp.example", "198.51.100.25");
    mx.rule(Rule::at(Stage::Mail).session(1).transaction(2).close());
    assert!(world.relay(TO).await.starts_with("250 "));
    let began = Instant::now();
    assert!(world.relay(TO).await.starts_with("250 "));
    assert_eq!(began.elapsed().as_secs(), 20, "the pause of its slot");
    let sessions: Vec<usize> = mx.messages().iter().map(|m| m.session).collect();
    assert_eq!(sessions, [1, 2]);
    let rows = world.delivery.pace().rows(Some("isp"));
    let address = rows.iter().find(|row| row.key == "192.0.2.10").unwrap();
    assert_eq!(
        address.low,
        (2, 50),
        "three MAIL commands, one to a closed session"
    );
}

/// Two domains of the group of all others, at the same host.
fn two_domains(config: &str) -> (World, galerne_sim::sink::Sink) {
    let world = World::new(&format!(
        "== users/demo.ini\n[routing]\nip = 192.0.2.10\n{config}"
    ));
    let mx = world.mx("host.example", "198.51.100.25");
    world.zone("one.example. MX 10 mx.host.example.\ntwo.example. MX 10 mx.host.example.");
    (world, mx)
}

fn sessions(mx: &galerne_sim::sink::Sink) -> Vec<usize> {
    mx.messages().iter().map(|m| m.session).collect()
}

#[tokio::test(start_paused = true)]
async fn flow_51_in_the_catch_all_an_idle_session_is_taken_over_for_another_domain() {
    let (world, mx) = two_domains("");
    for to in ["anna@one.example", "bert@two.example", "anna@one.example"] {
        assert!(world.relay(to).await.starts_with("250 "));
    }
    assert_eq!(sessions(&mx), [1, 1, 1]);
    let rows = world.delivery.pace().rows(Some(""));
    let address = rows.iter().find(|row| row.key == "192.0.2.10").unwrap();
    assert_eq!(address.sessions, 1, "it counts once, where it is");
}

#[tokio::test(start_paused = true)]
async fn flow_51_flow_52_a_session_that_is_taken_over_has_ended_for_the_domain_before() {
    let (world, mx) = two_domains("== domains/@.ini\n[ipflow#warmup]\nthreadmax = 1\nwaittime = 3");
    for to in ["anna@one.example", "bert@two.example"] {
        assert!(world.relay(to).await.starts_with("250 "));
    }
    let began = Instant::now();
    assert!(world.relay("anna@one.example").await.starts_with("250 "));
    assert_eq!(began.elapsed().as_secs(), 3, "the pause of its slot");
    assert_eq!(sessions(&mx)[..2], [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn flow_20_flow_51_chainmax_holds_for_a_session_that_is_taken_over_again_and_again() {
    let (world, mx) = two_domains(
        "== domains/@.ini\n[ipflow#warmup]\nthreadmax = 0\nchainmax = 2\n[sdflow#warmup]\nthreadmax = 0",
    );
    for to in [
        "a@one.example",
        "b@two.example",
        "c@one.example",
        "d@two.example",
        "e@two.example",
    ] {
        assert!(world.relay(to).await.starts_with("250 "));
    }
    assert_eq!(sessions(&mx), [1, 1, 2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn relay_42_a_session_in_clear_is_the_same_under_each_name_of_the_remote() {
    let world = world(&isp("", "== users/demo.ini\n[routing]\nip = 192.0.2.10"));
    let mx = world.mx("isp.example", "198.51.100.25");
    world.zone("second.example. MX 10 other.isp.example.\nother.isp.example. A 198.51.100.25");
    for to in [TO, "anna@second.example", TO] {
        assert!(world.relay(to).await.starts_with("250 "));
    }
    assert_eq!(sessions(&mx), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn flow_48_connection_failures_neither_count_nor_reset_and_a_known_reply_resets() {
    let config = isp(
        "errmax = 2\nflowerr = defcon1\n[pattern]\nfull = SOFT(full) 452 *",
        "== users/demo.ini\n[routing]\nip = 192.0.2.10\n[message]\ntimeout = 20",
    );
    let world = world(&config);
    let mx = world.mx("isp.example", "198.51.100.25");
    let set = || world.delivery.pace().rows(Some("isp"))[0].set.word();
    let unknown = || async {
        mx.rule(Rule::at(Stage::Rcpt).times(1).reply("550 no idea"));
        assert_eq!(world.relay(TO).await, "550 no idea");
    };
    let fails = |rule: Rule| {
        let (world, mx) = (&world, &mx);
        mx.rule(rule);
        async move {
            for _ in 0..3 {
                let reply = world.relay(TO).await;
                assert!(reply.starts_with("451 "), "{reply}");
            }
            mx.clear_rules();
        }
    };
    // They do not count.
    fails(Rule::at(Stage::Mail).close()).await;
    assert_eq!(set(), "warmup");
    // A known reply between two unknown ones resets.
    unknown().await;
    mx.rule(Rule::at(Stage::Rcpt).times(1).reply("452 full"));
    assert_eq!(world.relay(TO).await, "452 full");
    unknown().await;
    assert_eq!(set(), "warmup");
    // Connection failures do not.
    fails(Rule::at(Stage::Rcpt).close()).await;
    assert_eq!(set(), "warmup");
    unknown().await;
    assert_eq!(set(), "defcon1");
}

#[tokio::test(start_paused = true)]
async fn flow_4_the_sender_is_that_of_the_outbound_envelope_else_of_the_from_field() {
    let senders = |config: &'static str, from: &'static str| async move {
        let world = world(&isp("", config));
        let _mx = world.mx("isp.example", "198.51.100.25");
        let mut client = world.login().await;
        client.envelope(from, &[TO]).await;
        let message = "From: <orders@From.Example>\r\n\r\nHello\r\n";
        let reply = client.content(message.as_bytes()).await.unwrap().text();
        assert!(reply.starts_with("250 "), "{reply}");
        let rows = world.delivery.pace().rows(Some("isp"));
        let senders = rows
            .into_iter()
            .filter(|row| row.control == Control::Sender);
        senders.map(|row| row.key).collect::<Vec<_>>()
    };
    assert_eq!(senders("", "a@Shop.Example").await, ["shop.example"]);
    assert_eq!(senders("", "").await, ["from.example"]);
    let rewritten = "== users/demo.ini\n[routing]\nenvelopefrom = bounce@news.example";
    assert_eq!(senders(rewritten, "a@shop.example").await, ["news.example"]);
}
