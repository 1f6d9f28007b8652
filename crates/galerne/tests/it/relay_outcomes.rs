//! The outcome table: what ends a delivery, what leads to another route, what the client is told
//! (RELAY-60 to RELAY-68, RELAY-73 to RELAY-84, FLOW-61 to FLOW-75).

use galerne_core::model::{Class, Outcome};
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Sink, Stage};

use crate::world::{World, directed};

/// Patterns of the group whose MX is that of `example.org`.
const PATTERNS: &str = "== domains/@isp.ini
[dns]
mx = mx*.example.org
[pattern]
nouser = HARD(unknown) *no such user
spammy = SPAM(content) *looks like spam
full = SOFT(mailbox-full) *mailbox full
grey = GREY(greylist, 300) *come back later
listed = FLOW(blocklist, #defcon2, #low) *is listed
";
/// Every step of a delivery.
const STEPS: [Stage; 6] = [
    Stage::Connect,
    Stage::Ehlo,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Dot,
];

fn world() -> (World, Sink) {
    let world = World::new(PATTERNS);
    let mx = world.mx("example.org", "198.51.100.25");
    (world, mx)
}

/// Two addresses for the one MX.
fn two_addresses(world: &World) -> [Sink; 2] {
    let first = world.mx("example.org", "198.51.100.25");
    world.only_zone(
        "example.org. MX 10 mx1.example.org.\nmx1.example.org. A 198.51.100.25\n\
         example.org. MX 20 mx2.example.org.\nmx2.example.org. A 198.51.100.26",
    );
    [
        first,
        world.sink("198.51.100.26:25".parse().unwrap(), Default::default()),
    ]
}

#[tokio::test(start_paused = true)]
async fn relay_63_relay_84_hard_at_any_step_is_final_and_enters_the_list() {
    for step in STEPS {
        let (world, mx) = world();
        mx.rule(Rule::at(step).reply("550-5.1.1 There is\n550 5.1.1 no such user"));
        assert_eq!(
            world.relay("anna@example.org").await,
            "550-5.1.1 There is\n550 5.1.1 no such user",
            "{step:?}"
        );
        let end = world.settled().remove(0);
        assert_eq!(
            (end.attempts.len(), end.outcome.clone()),
            (1, Outcome::Failed),
            "{step:?}"
        );
        let attempt = &end.attempts[0];
        assert_eq!(attempt.stage, step);
        let qualification = attempt.qualification.as_ref().unwrap();
        assert_eq!(qualification.pattern.as_deref(), Some("nouser"));
        assert_eq!(
            (&qualification.class, qualification.description.as_str()),
            (&Class::Hard, "unknown")
        );
        assert_eq!(world.lists.list("rfhard"), ["anna@example.org"]);
        assert!(world.unknown_errors().is_empty(), "a pattern matches");
    }
}

#[tokio::test(start_paused = true)]
async fn relay_64_spam_soft_and_grey_are_returned_at_once_and_enter_no_list() {
    for step in STEPS {
        for reply in [
            "554 5.7.1 this looks like spam",
            "552 5.2.2 mailbox full",
            "452 4.2.2 mailbox full",
            "451 4.7.1 grey-listed, come back later",
        ] {
            let (world, mx) = world();
            mx.rule(Rule::at(step).reply(reply));
            assert_eq!(world.relay("anna@example.org").await, reply, "{step:?}");
            assert_eq!(world.hops().len(), 1, "{step:?} {reply}");
            assert!(world.lists.list("rfhard").is_empty());
            assert!(world.unknown_errors().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn relay_62_relay_68_flow_62_flow_75_a_block_at_any_step_tries_the_next_outbound() {
    for step in STEPS {
        let (world, mx) = world();
        let first = "192.0.2.10".parse().unwrap();
        mx.rule(
            Rule::at(step)
                .client(first)
                .reply("554 5.7.1 192.0.2.10 is listed"),
        );
        let ordered = directed(r#"{"routing":{"outbound":["192.0.2.10","192.0.2.11"]}}"#);
        let reply = world.send(&["anna@example.org"], &ordered).await;
        assert!(reply.starts_with("250 "), "{step:?}: {reply}");
        let hops = [
            "192.0.2.10 -> 198.51.100.25:25",
            "192.0.2.11 -> 198.51.100.25:25",
        ];
        assert_eq!(world.hops(), hops, "{step:?}");
        let end = world.settled().remove(0);
        assert_eq!(end.outcome, Outcome::Delivered);
        assert_eq!(
            end.attempts.iter().map(|a| a.hop).collect::<Vec<_>>(),
            [1, 2]
        );
        let class = end.attempts[0]
            .qualification
            .as_ref()
            .map(|q| q.class.clone());
        assert!(
            matches!(
                class,
                Some(Class::Flow {
                    ipset: Some(_),
                    sdset: Some(_)
                })
            ),
            "{class:?}"
        );
        assert!(
            world.lists.list("rfhard").is_empty(),
            "a block is never HARD"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn relay_64_relay_83_flow_61_flow_74_an_error_without_pattern_is_returned_and_recorded() {
    for step in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot] {
        for reply in ["550 5.7.1 policy 42", "451 4.3.2 try another day"] {
            let (world, mx) = world();
            mx.rule(Rule::at(step).reply(reply));
            assert_eq!(world.relay("anna@example.org").await, reply, "{step:?}");
            assert_eq!(world.hops().len(), 1);
            let errors = world.unknown_errors();
            assert_eq!(errors.len(), 1, "{step:?}");
            assert_eq!((errors[0].group.as_str(), errors[0].stage), ("isp", step));
            assert_eq!(errors[0].reply, reply);
            assert_eq!(errors[0].remote.to_string(), "198.51.100.25");
            assert!(world.lists.list("rfhard").is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn relay_61_greeting_and_ehlo_without_pattern_count_as_no_connection() {
    for (step, reply) in [
        (Stage::Connect, "554 5.7.0 go away"),
        (Stage::Connect, "421 4.3.2 busy"),
        (Stage::Ehlo, "554 5.7.0 not you"),
        (Stage::Ehlo, "421 4.3.2 busy"),
    ] {
        let world = World::new(PATTERNS);
        let [first, second] = two_addresses(&world);
        first.rule(Rule::at(step).reply(reply).close());
        assert!(
            world.relay("anna@example.org").await.starts_with("250 "),
            "{step:?} {reply}"
        );
        assert_eq!((first.messages().len(), second.messages().len()), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn relay_61_t_41_lost_before_the_final_dot_leads_to_the_next_address() {
    for step in [
        Stage::Connect,
        Stage::Ehlo,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
    ] {
        let world = World::new(PATTERNS);
        let [first, second] = two_addresses(&world);
        first.rule(Rule::at(step).close());
        assert!(
            world.relay("anna@example.org").await.starts_with("250 "),
            "{step:?}"
        );
        assert_eq!(
            (first.messages().len(), second.messages().len()),
            (0, 1),
            "{step:?}"
        );
        assert_eq!(world.settled()[0].attempts.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn relay_61_no_tcp_connection_leads_to_the_next_address() {
    for fate in [
        Fate::Refuse,
        Fate::Unreachable,
        Fate::Reset,
        Fate::Mute,
        Fate::BlackHole,
    ] {
        let world = World::new(PATTERNS);
        let [_, second] = two_addresses(&world);
        world.decide("198.51.100.25:25", fate);
        assert!(
            world.relay("anna@example.org").await.starts_with("250 "),
            "{fate:?}"
        );
        assert_eq!(second.messages().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn relay_70_t_41_no_reply_after_the_final_dot_is_unknown_and_tried_nowhere_else() {
    let world = World::new(PATTERNS);
    let [first, second] = two_addresses(&world);
    first.rule(Rule::at(Stage::Dot).close());
    assert_eq!(
        world.relay("anna@example.org").await,
        "451 9.3.3 X-SMTP-R-API outcome unknown: no reply of mx1.example.org after the final dot"
    );
    assert_eq!(
        world.settled()[0].outcome,
        Outcome::Unknown,
        "and logged so"
    );
    assert_eq!((first.attempts().len(), second.attempts().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn relay_65_relay_66_the_last_attempt_speaks() {
    // A connection failure, then a block: the block's reply.
    let world = World::new(PATTERNS);
    let [_, second] = two_addresses(&world);
    world.decide("198.51.100.25:25", Fate::Refuse);
    second.rule(Rule::at(Stage::Connect).reply("554 5.7.1 is listed"));
    let two = directed(r#"{"message":{"maxhop":2}}"#);
    assert_eq!(
        world.send(&["anna@example.org"], &two).await,
        "554 5.7.1 is listed"
    );
    // A block, then connection failures: no remote spoke last.
    let world = World::new(PATTERNS);
    let [first, _] = two_addresses(&world);
    first.rule(Rule::at(Stage::Connect).reply("554 5.7.1 is listed"));
    world.decide("198.51.100.26:25", Fate::Refuse);
    world.net.decide(
        Some("192.0.2.11".parse().unwrap()),
        "198.51.100.25:25".parse().unwrap(),
        Fate::Refuse,
    );
    assert_eq!(
        world
            .send(
                &["anna@example.org"],
                &directed(
                    r#"{"message":{"maxhop":4},"routing":{"outbound":["192.0.2.10","192.0.2.11"]}}"#
                )
            )
            .await,
        "451 9.3.2 X-SMTP-R-API no connection to mx2.example.org in 60 s"
    );
    // An unwelcoming greeting is a connection failure, and yet a reply.
    let (world, mx) = self::world();
    mx.rule(Rule::at(Stage::Connect).reply("554 5.7.0 go away"));
    assert_eq!(world.relay("anna@example.org").await, "554 5.7.0 go away");
    assert_eq!(
        world.settled()[0].attempts.len(),
        2,
        "from each outbound once"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_66_relay_67_a_block_is_passed_on_as_it_is_unless_blocktemp() {
    let (world, mx) = world();
    mx.rule(Rule::at(Stage::Mail).reply("554-5.7.1 You\n554 5.7.1 is listed"));
    assert_eq!(
        world.relay("anna@example.org").await,
        "554-5.7.1 You\n554 5.7.1 is listed"
    );
    assert_eq!(world.settled()[0].outcome, Outcome::Failed);
    assert!(world.lists.list("rfhard").is_empty());
    world.reload("[rfrelay]\nblocktemp = 1\n");
    assert_eq!(
        world.relay("anna@example.org").await,
        "451-4.7.1 You\n451 4.7.1 is listed"
    );
    assert_eq!(world.settled()[1].outcome, Outcome::Deferred);
    // Only blocks are softened.
    mx.clear_rules();
    mx.rule(Rule::at(Stage::Mail).reply("550 5.1.1 no such user"));
    assert_eq!(
        world.relay("anna@example.org").await,
        "550 5.1.1 no such user"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_67_relay_41_maxhop_is_the_number_of_fallbacks() {
    for (maxhop, hops) in [(1, 1), (2, 2), (3, 3), (20, 4)] {
        let world = World::new(PATTERNS);
        two_addresses(&world).iter().for_each(|mx| {
            mx.rule(Rule::at(Stage::Mail).reply("554 5.7.1 is listed"));
        });
        let limited = directed(&format!(r#"{{"message":{{"maxhop":{maxhop}}}}}"#));
        assert_eq!(
            world.send(&["anna@example.org"], &limited).await,
            "554 5.7.1 is listed"
        );
        assert_eq!(world.hops().len(), hops, "each pair once, at most maxhop");
    }
}

#[tokio::test(start_paused = true)]
async fn relay_68_a_block_changes_the_outbound_a_failure_the_address() {
    let ordered =
        directed(r#"{"message":{"maxhop":4},"routing":{"outbound":["192.0.2.10","192.0.2.11"]}}"#);
    let (one, two) = ("198.51.100.25:25", "198.51.100.26:25");
    let world = World::new(PATTERNS);
    two_addresses(&world).iter().for_each(|mx| {
        mx.rule(Rule::at(Stage::Connect).reply("554 5.7.1 is listed"));
    });
    world.send(&["anna@example.org"], &ordered).await;
    let blocked = [("10", one), ("11", one), ("11", two), ("10", two)];
    let shown = |hops: [(&str, &str); 4]| hops.map(|(ip, to)| format!("192.0.2.{ip} -> {to}"));
    let seen = world.hops();
    assert_eq!(seen[..2], shown(blocked)[..2]);
    assert_eq!(seen.len(), 4);
    let world = World::new(PATTERNS);
    two_addresses(&world);
    world.decide(one, Fate::Refuse).decide(two, Fate::Refuse);
    world.send(&["anna@example.org"], &ordered).await;
    assert_eq!(
        world.hops(),
        shown([("10", one), ("10", two), ("11", one), ("11", two)])
    );
}

#[tokio::test(start_paused = true)]
async fn relay_73_relay_74_what_the_client_hears_of_a_final_reply() {
    for (step, said, told) in [
        (Stage::Mail, "421 4.3.2 closing", "451 4.3.2 closing"),
        (
            Stage::Dot,
            "421-4.3.2 closing\n421 4.3.2 now",
            "451-4.3.2 closing\n451 4.3.2 now",
        ),
        (
            Stage::Dot,
            "252 2.5.0 taken somehow",
            "250 2.5.0 taken somehow",
        ),
        (Stage::Dot, "250 no enhanced code", "250 no enhanced code"),
        (Stage::Dot, "599 odd", "599 odd"),
        (
            Stage::Dot,
            "354 go on",
            "451 9.3.5 X-SMTP-R-API malformed reply of mx.example.org at DOT",
        ),
        (
            Stage::Dot,
            "hello?",
            "451 9.3.5 X-SMTP-R-API malformed reply of mx.example.org at DOT",
        ),
        (
            Stage::Rcpt,
            "354 what",
            "451 9.3.5 X-SMTP-R-API malformed reply of mx.example.org at RCPT",
        ),
        (
            Stage::Data,
            "250 no need",
            "451 9.3.5 X-SMTP-R-API malformed reply of mx.example.org at DATA",
        ),
    ] {
        let (world, mx) = world();
        mx.rule(Rule::at(step).reply(said));
        assert_eq!(
            world.relay("anna@example.org").await,
            told,
            "{step:?} {said}"
        );
        assert_eq!(world.hops().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn relay_75_relay_76_relay_77_relay_80_permcode_makes_our_refusals_permanent() {
    let (world, _) = world();
    world.zone("null.example. NULLMX");
    let told = "9.2.4 X-SMTP-R-API domain null.example accepts no mail (null MX)";
    assert_eq!(
        world.relay("anna@null.example").await,
        format!("451 {told}")
    );
    world.reload("[rfrelay]\npermcode = 1\n");
    assert_eq!(
        world.relay("anna@null.example").await,
        format!("550 {}", told.replacen('9', "5", 1))
    );
    world.decide("198.51.100.25:25", Fate::Refuse);
    let reply = world.relay("anna@example.org").await;
    assert!(
        reply.starts_with("451 9.3.2 X-SMTP-R-API "),
        "time is no fault of the message: {reply}"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_82_a_transaction_is_told_once_with_all_that_is_known() {
    let (world, mx) = world();
    let first = "192.0.2.10".parse().unwrap();
    mx.rule(
        Rule::at(Stage::Mail)
            .client(first)
            .reply("554 5.7.1 is listed"),
    );
    let slow = Rule::at(Stage::Rcpt).client("192.0.2.11".parse().unwrap());
    mx.rule(
        slow.delay(std::time::Duration::from_secs(3))
            .reply("452 4.2.2 mailbox full"),
    );
    let message = directed(
        r#"{"message":{"ref":"order-1","title":"T","tags":["a"]},"routing":{"outbound":["192.0.2.10","192.0.2.11"]}}"#,
    );
    let told = world.send(&["anna@example.org"], &message).await;
    let [(submission, answer)] = world.transactions().try_into().unwrap();
    assert_eq!(
        (told.as_str(), answer.reply.to_log()),
        ("452 4.2.2 mailbox full", told.clone())
    );
    assert_eq!(submission.reference, "order-1");
    assert_eq!(submission.client.account.unwrap().name, "demo");
    assert_eq!(submission.client.peer.ip().to_string(), "203.0.113.7");
    assert_eq!(submission.sender.path.as_str(), "orders@example.com");
    let end = &answer.settled[0];
    assert_eq!(
        (
            end.recipient.as_str(),
            end.group.as_ref().unwrap().name.as_str()
        ),
        ("anna@example.org", "isp")
    );
    assert_eq!(
        (end.route.as_deref(), end.duration.as_secs()),
        (Some("MX of example.org"), 3)
    );
    let attempt = &end.attempts[1];
    assert_eq!((attempt.hop, attempt.stage), (2, Stage::Rcpt));
    assert_eq!(attempt.outbound.address.to_string(), "192.0.2.11");
    assert_eq!(
        (
            &*attempt.remote.host,
            attempt.remote.address.to_string().as_str()
        ),
        ("mx.example.org", "198.51.100.25:25")
    );
    let qualification = attempt.qualification.as_ref().unwrap();
    assert_eq!(
        (
            qualification.pattern.as_deref(),
            qualification.description.as_str()
        ),
        (Some("full"), "mailbox-full")
    );
    assert_eq!(attempt.duration.as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn t_42_each_code_at_each_step_gives_the_last_attempts_code() {
    for step in STEPS {
        for code in ["421", "450", "550"] {
            let (world, mx) = world();
            mx.rule(Rule::at(step).reply(&format!("{code} {}.7.0 so be it", &code[..1])));
            let told = world.relay("anna@example.org").await;
            let code = if code == "421" { "451" } else { code };
            assert_eq!(
                told,
                format!("{code} {}.7.0 so be it", &code[..1]),
                "{step:?}"
            );
            let hops = if step < Stage::Mail { 2 } else { 1 };
            assert_eq!(world.hops().len(), hops, "{step:?} {code}");
        }
    }
}
