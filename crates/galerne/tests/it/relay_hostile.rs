//! Remotes that are broken or mean harm: whatever they say, the answer is bounded, true, and one
//! reply (T-41, T-46).

use std::time::Duration;

use galerne_core::model::Outcome;
use galerne_sim::sink::{Rule, Sink, Stage};
use tokio::time::Instant;

use crate::world::{MESSAGE, Talk, World};

const STEPS: [Stage; 6] = [
    Stage::Connect,
    Stage::Ehlo,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Dot,
];

fn world() -> (World, Sink) {
    let world = World::new("== users/demo.ini\n[routing]\nip = 192.0.2.10\n");
    let mx = world.mx("example.org", "198.51.100.25");
    (world, mx)
}

/// Replies that are none.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("10,000 lines", b"250-x\r\n".repeat(10_000)),
        (
            "a line of 2 MB",
            [b"250 ".as_slice(), &b"x".repeat(2 << 20)].concat(),
        ),
        ("no CRLF", b"250 bare".to_vec()),
        ("code changes midway", b"250-one\r\n550 two\r\n".to_vec()),
        ("three digits of garbage", b"999 what\r\n".to_vec()),
        ("zero", b"000 nothing\r\n".to_vec()),
        ("no code", b"\x1b[2Jhello\r\n".to_vec()),
        ("NUL", b"\0\0\0\0\r\n".to_vec()),
    ]
}

#[tokio::test(start_paused = true)]
async fn t_46_relay_74_replies_that_are_none_are_bounded_and_temporary() {
    for (what, octets) in garbage() {
        for step in STEPS {
            let (world, mx) = world();
            mx.rule(Rule::at(step).raw(&octets).close());
            let reply = world.relay("anna@example.org").await;
            assert!(reply.starts_with("451 9.3."), "{what} at {step:?}: {reply}");
            assert!(
                reply.len() < 200 && !reply.contains(char::is_control),
                "{what}: {reply:?}"
            );
            let end = world.settled().remove(0);
            assert_ne!(end.outcome, Outcome::Delivered, "{what} at {step:?}");
            let failure = end.attempts.last().unwrap().failure.clone().unwrap();
            assert!(
                failure.len() < 2000 && !failure.contains(char::is_control),
                "{what}: {failure:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t_46_invalid_utf_8_in_a_true_reply_is_passed_on_as_it_is() {
    let (world, mx) = world();
    mx.rule(Rule::at(Stage::Dot).raw(b"550 5.7.1 caf\xe9 \xff\r\n"));
    let mut client = world.waiting(&["anna@example.org"], MESSAGE).await;
    assert_eq!(client.hear().await, "550 5.7.1 caf\u{fffd} \u{fffd}");
    let attempt = world.settled().remove(0).attempts.remove(0);
    assert_eq!(attempt.reply.unwrap().text(), b"5.7.1 caf\xe9 \xff");
}

#[tokio::test(start_paused = true)]
async fn t_46_a_long_but_true_reply_is_passed_on_whole() {
    let (world, mx) = world();
    let lines: Vec<String> = (1..100)
        .map(|n| format!("550-5.7.1 line {n}"))
        .chain(["550 5.7.1 end".into()])
        .collect();
    mx.rule(Rule::at(Stage::Rcpt).reply(&lines.join("\n")));
    assert_eq!(world.relay("anna@example.org").await, lines.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn t_46_a_reply_cannot_forge_another_towards_the_client() {
    let (world, mx) = world();
    mx.rule(Rule::at(Stage::Dot).raw(b"550 5.7.1 no\r250 2.0.0 yes\n250 2.0.0 yes\r\n"));
    let mut client = world.waiting(&["anna@example.org"], MESSAGE).await;
    let reply = client.hear().await;
    assert!(!reply.starts_with('2'), "{reply}");
    assert_eq!(client.say("NOOP").await.get(..3), Some("250"));
    let more = tokio::time::timeout(Duration::from_secs(1), client.line()).await;
    assert!(more.is_err(), "nothing else was said: {more:?}");
}

#[tokio::test(start_paused = true)]
async fn t_41_a_250_before_the_end_of_the_content_is_no_delivery() {
    let (world, mx) = world();
    mx.rule(Rule::at(Stage::Data).reply("354 go ahead\n250 2.0.0 I have it already"));
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("451 9.3."), "{reply}");
    assert_ne!(world.settled()[0].outcome, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn t_41_a_250_that_lies_unread_when_the_dot_is_sent_is_no_delivery() {
    // The 354 fills one read exactly; what follows is not seen with it.
    let line = |code: &str| format!("{code}{}\r\n", "x".repeat(1024 - code.len() - 2));
    let mut octets = line("354-").repeat(31);
    octets.push_str(&line("354 "));
    assert_eq!(octets.len(), 32 * 1024);
    octets.push_str("250 2.0.0 I have it already\r\n");
    let (world, mx) = world();
    // Later than the replies to what was sent along with DATA.
    let later = Rule::at(Stage::Data).delay(Duration::from_secs(1));
    mx.rule(later.raw(octets.as_bytes()));
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("451 9.3."), "{reply}");
    assert!(mx.messages().is_empty(), "the end was not sent");
}

#[tokio::test(start_paused = true)]
async fn t_41_silence_at_each_step_ends_with_the_timeout() {
    for step in STEPS {
        let (world, mx) = world();
        mx.rule(Rule::at(step).hang());
        let began = Instant::now();
        let reply = world.relay("anna@example.org").await;
        let (code, seconds) = match step {
            Stage::Connect => ("451 9.3.2", 10),
            Stage::Dot => ("451 9.3.3", 120),
            _ => ("451 9.3.2", 60),
        };
        assert!(reply.starts_with(code), "{step:?}: {reply}");
        assert_eq!(began.elapsed().as_secs(), seconds, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn t_41_a_slow_remote_that_drips_octets_does_not_go_beyond_the_timeout() {
    let world = World::new("");
    world.zone("example.org. MX 10 mx.example.org.\nmx.example.org. A 198.51.100.25");
    world.net.listen(
        "198.51.100.25:25".parse().unwrap(),
        |mut stream, _| async move {
            use tokio::io::AsyncWriteExt as _;
            while stream.write_all(b"2").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        },
    );
    let began = Instant::now();
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("451 9.3.2 "), "{reply}");
    assert!(
        began.elapsed().as_secs() <= 20,
        "{:?}: each outbound had its ten seconds",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn t_41_what_a_remote_says_out_of_turn_spoils_no_later_message() {
    let (world, mx) = world();
    mx.rule(
        Rule::at(Stage::Dot)
            .times(1)
            .reply("250 2.0.0 Ok\n550 5.1.1 and something else"),
    );
    assert_eq!(world.relay("anna@example.org").await, "250 2.0.0 Ok");
    assert_eq!(
        world.relay("bert@example.org").await,
        "250 2.0.0 Ok: queued as 2-1"
    );
    assert_eq!(mx.messages().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn relay_61_all_recipients_refused_but_354_is_no_delivery() {
    let (world, mx) = world();
    mx.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 nobody"));
    mx.rule(Rule::at(Stage::Data).reply("354 go ahead all the same"));
    assert_eq!(world.relay("anna@example.org").await, "550 5.1.1 nobody");
    assert!(mx.messages().is_empty() || mx.messages()[0].content.is_empty());
}
