//! The content of messages and the directive over the whole server: what is refused with which code
//! and what becomes of the rest (RELAY-22 to RELAY-39, RELAY-76 to RELAY-80).

use std::time::Duration;

use galerne_core::ports::{ListEntry, Lists};
use galerne_inbound::Letter;
use galerne_sim::sink::SinkOptions;

use crate::world::{MESSAGE, Talk, World, directed};

/// Message, the codes after `451 ` / `550 `, and a word that the text must name.
fn refused_contents() -> Vec<(String, &'static str, &'static str)> {
    let long_line = format!(
        "From: a@example.com\r\nX-Long: {}\r\n\r\nx\r\n",
        "y".repeat(1000)
    );
    let long_directive = format!(
        "{{\"message\":{{\"title\":\"{}\"}}}}",
        "x\r\n ".repeat(5000)
    );
    let d = |directive: &str| directed(directive);
    let twice = format!("X-SMTP-R-API: {{}}\r\n{}", directed("{}"));
    vec![
        ("\r\nno header at all\r\n".into(), "0.1", "no header"),
        (
            "From: a@example.com\r\nno field\r\n\r\nx\r\n".into(),
            "0.1",
            "line 2",
        ),
        ("Subject: x\r\n\r\nx\r\n".into(), "0.2", "no From"),
        (
            "From: a@example.com\r\nFrom: b@example.com\r\n\r\nx\r\n".into(),
            "0.2",
            "2 From",
        ),
        (format!("{MESSAGE}bare\nline\r\n"), "0.3", "bare"),
        (format!("{MESSAGE}nul\0\r\n"), "0.3", "NUL"),
        (long_line, "0.4", "998"),
        (d("{\"message\":}"), "1.0", "JSON"),
        (
            format!("X-SMTP-R-API: {{\"message\":{{\r\n{MESSAGE}"),
            "1.0",
            "not terminated",
        ),
        (d("[]"), "1.1", "object"),
        (twice, "1.1", "2 directive"),
        (d(&long_directive), "1.1", "16384"),
        (d("{\"massage\":{}}"), "1.2", "massage"),
        (d("{\"message\":{\"reff\":\"abc\"}}"), "1.2", "message.reff"),
        (d("{\"routing\":{\"out\":1}}"), "1.2", "routing.out"),
        (d("{\"message\":{\"ref\":7}}"), "1.3", "message.ref"),
        (d("{\"message\":[]}"), "1.3", "message"),
        (
            d("{\"message\":{\"timeout\":\"60\"}}"),
            "1.3",
            "message.timeout",
        ),
        (d("{\"message\":{\"tags\":\"one\"}}"), "1.3", "message.tags"),
        (
            d("{\"message\":{\"ref\":\"Order-1\"}}"),
            "1.4",
            "message.ref",
        ),
        (d("{\"message\":{\"ref\":\"ab\"}}"), "1.4", "message.ref"),
        (
            d(&format!(
                "{{\"message\":{{\"ref\":\"{}\"}}}}",
                "a".repeat(31)
            )),
            "1.4",
            "message.ref",
        ),
        (
            d("{\"message\":{\"timeout\":591}}"),
            "1.4",
            "message.timeout",
        ),
        (d("{\"message\":{\"maxhop\":0}}"), "1.4", "message.maxhop"),
        (
            d("{\"message\":{\"mode\":\"later\"}}"),
            "1.4",
            "message.mode",
        ),
        (
            d("{\"message\":{\"tags\":[\"a b\"]}}"),
            "1.4",
            "message.tags",
        ),
        (
            d("{\"message\":{\"tags\":[\"a;b\"]}}"),
            "1.4",
            "message.tags",
        ),
        (
            d(&format!(
                "{{\"message\":{{\"tags\":[\"{}\"]}}}}",
                "t".repeat(33)
            )),
            "1.4",
            "message.tags",
        ),
        (
            d(&format!(
                "{{\"message\":{{\"title\":\"{}\"}}}}",
                "t".repeat(256)
            )),
            "1.4",
            "message.title",
        ),
        (d("{\"routing\":{\"ssl\":\"maybe\"}}"), "1.4", "routing.ssl"),
        (
            d("{\"routing\":{\"sign\":\"maybe\"}}"),
            "1.4",
            "routing.sign",
        ),
        (
            d("{\"routing\":{\"outbound\":[\"mx1\"]}}"),
            "1.4",
            "routing.outbound",
        ),
        (
            d("{\"routing\":{\"envelopefrom\":\"nobody\"}}"),
            "1.4",
            "routing.envelopefrom",
        ),
        (
            d("{\"routing\":{\"ehlo\":\"two words\"}}"),
            "1.4",
            "routing.ehlo",
        ),
        // Not in [IP], in [IP] and not granted, no such host: all alike.
        (
            d("{\"routing\":{\"outbound\":[\"192.0.2.99\"]}}"),
            "1.5",
            "192.0.2.99",
        ),
        (
            d("{\"routing\":{\"outbound\":[\"192.0.2.11\"]}}"),
            "1.5",
            "192.0.2.11",
        ),
        (
            d("{\"routing\":{\"outbound\":[\"@nowhere\"]}}"),
            "1.5",
            "@nowhere",
        ),
        (
            "From: mallory@example.com\r\n\r\nx\r\n".into(),
            "2.3",
            "mallory@example.com",
        ),
    ]
}

const ACCOUNT: &str = "== users/demo.ini
[account]
authorizedip = 192.0.2.10
granted_from_addr = orders@example.com a@* b@*
[list]
filter = rfhard
";

fn gone(world: &World) {
    let email = "gone@example.org".to_owned();
    world.lists.add(
        "rfhard",
        ListEntry {
            email,
            source: "api",
            reason: "test".into(),
        },
    );
}

/// RELAY-79: one line of printable ASCII behind the mark, and no credentials in it.
fn check_description(reply: &str) {
    let (_, text) = reply
        .split_once(" X-SMTP-R-API ")
        .unwrap_or_else(|| panic!("{reply}"));
    assert!(
        !text.is_empty() && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
        "{reply:?}"
    );
    assert!(!text.contains("secret"), "{reply}");
}

async fn every_code(permcode: bool) {
    let world = World::new(&format!(
        "[rfrelay]\npermcode = {}\n{ACCOUNT}",
        u8::from(permcode)
    ));
    world.mx("example.org", "198.51.100.25");
    gone(&world);
    let begin = |digits: &str| {
        let (code, class) = if permcode { (550, 5) } else { (451, 9) };
        format!("{code} {class}.{digits} X-SMTP-R-API ")
    };
    let mut client = world.login().await;
    for (content, digits, word) in refused_contents() {
        client
            .envelope("orders@example.com", &["anna@example.org"])
            .await;
        let reply = client.content(content.as_bytes()).await.unwrap().text();
        assert!(
            reply.starts_with(&begin(digits)) && reply.contains(word),
            "{digits} {word}: {reply}"
        );
        check_description(&reply);
    }
    assert!(
        client
            .say("MAIL FROM:<orders@example.com>")
            .await
            .starts_with("250 ")
    );
    for (recipient, digits) in [
        ("gone@example.org", "2.1"),
        ("a@b..c", "2.2"),
        ("a@", "2.2"),
        ("@b", "2.2"),
    ] {
        let reply = client.say(&format!("RCPT TO:<{recipient}>")).await;
        assert!(reply.starts_with(&begin(digits)), "{recipient}: {reply}");
        check_description(&reply);
    }
    // A path that cannot be parsed is no refusal of class 9.
    assert!(
        client
            .say("RCPT TO:<b c@example.org>")
            .await
            .starts_with("501 5.1.3 ")
    );
    assert_eq!(
        world.hops(),
        Vec::<String>::new(),
        "no remote has heard of any of them"
    );
    let refused = world.refused();
    // What an account may not use is found out by the plan: a transaction that was settled.
    assert_eq!(
        refused.len() + world.transactions().len(),
        refused_contents().len() + 4
    );
    assert_eq!(world.transactions().len(), 3);
    assert!(refused.iter().all(|refused| !refused.rule.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn relay_32_relay_33_relay_35_relay_76_relay_77_relay_78_relay_79_every_refusal_has_its_code()
{
    every_code(false).await;
}

#[tokio::test(start_paused = true)]
async fn relay_37_relay_39_relay_80_with_permcode_each_of_them_is_550() {
    every_code(true).await;
}

#[tokio::test(start_paused = true)]
async fn relay_80_permcode_leaves_class_9_3_temporary() {
    let world = World::new("[rfrelay]\npermcode = 1\n[relay]\ntimeout = 5\n");
    world.zone("example.org. MX 10 mx.example.org.\nmx.example.org. A 198.51.100.25");
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("451 9.3."), "{reply}");
    check_description(&reply);
}

#[tokio::test(start_paused = true)]
async fn relay_18_relay_80_the_refusal_of_bare_line_ends_towards_an_old_remote_obeys_permcode() {
    let world = World::new("[rfrelay]\npermcode = 1\nbarelf = pass\n");
    let options = SinkOptions {
        chunking: false,
        ..SinkOptions::default()
    };
    world.mx_with("example.org", "198.51.100.25", options);
    let reply = world
        .send(&["anna@example.org"], &format!("{MESSAGE}bare\nline\r\n"))
        .await;
    assert!(reply.starts_with("550 5.0.3 X-SMTP-R-API "), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn relay_78_a_listed_recipient_does_not_hinder_the_others() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    gone(&world);
    let mut client = world.login().await;
    client.say("MAIL FROM:<orders@example.com>").await;
    let reply = client.say("RCPT TO:<Gone@example.org>").await;
    assert_eq!(
        reply,
        "451 9.2.1 X-SMTP-R-API recipient refused by list rfhard"
    );
    assert!(
        client
            .say("RCPT TO:<anna@example.org>")
            .await
            .starts_with("250 ")
    );
    client.say("DATA").await;
    assert_eq!(client.content(MESSAGE.as_bytes()).await.unwrap().code, 250);
    assert_eq!(mx.messages()[0].recipients, ["anna@example.org"]);
}

// -- the directive ---------------------------------------------------------------------------------

/// Relays one message and gives what arrived, with what was understood of the directive.
async fn through(config: &str, content: &str) -> (String, galerne_core::model::Submission) {
    let world = World::new(config);
    let mx = world.mx("example.org", "198.51.100.25");
    let reply = world.send(&["anna@example.org"], content).await;
    assert!(reply.starts_with("250 "), "{reply}\n{content}");
    let arrived = String::from_utf8(mx.messages().remove(0).content).unwrap();
    (arrived, world.transactions().remove(0).0)
}

#[tokio::test(start_paused = true)]
async fn relay_30_relay_31_the_directive_is_obeyed_and_goes_no_further() {
    for name in ["X-SMTP-R-API:", "x-smtp-r-api:", "X-Smtp-R-Api \t:"] {
        let field = format!("{name} {{\"message\":{{\"ref\":\"order-4711\"}}}}\r\n");
        let (from, rest) = MESSAGE.split_once("\r\n").unwrap();
        // In front, in the middle, at the end.
        let (head, body) = MESSAGE.split_once("\r\n\r\n").unwrap();
        let contents = [
            format!("{field}{MESSAGE}"),
            format!("{from}\r\n{field}{rest}"),
            format!("{head}\r\n{field}\r\n{body}"),
        ];
        for content in contents {
            let (arrived, submission) = through("", &content).await;
            assert_eq!(arrived, MESSAGE, "{name}");
            assert_eq!(submission.reference, "order-4711");
        }
    }
    let (arrived, submission) = through("", &directed("{}")).await;
    assert_eq!(arrived, MESSAGE);
    assert!(submission.reference.len() >= 3, "{}", submission.reference);
}

#[tokio::test(start_paused = true)]
async fn relay_32_folded_and_unindented_layouts_are_one_directive() {
    let layouts = [
        "X-SMTP-R-API: {\"message\":\r\n {\"ref\":\r\n\t\"order-4711\"}}\r\n",
        "X-SMTP-R-API:\r\n {\"message\":{\"ref\":\"order-4711\"}}\r\n",
        "X-SMTP-R-API: {\r\n\"message\": {\r\n\"ref\": \"order-4711\",\r\n\"title\": \"a } brace: in a string\"\r\n}\r\n}\r\n",
    ];
    for layout in layouts {
        let (arrived, submission) = through("", &format!("{layout}{MESSAGE}")).await;
        assert_eq!(arrived, MESSAGE, "{layout}");
        assert_eq!(submission.reference, "order-4711", "{layout}");
    }
}

#[tokio::test(start_paused = true)]
async fn relay_34_utf_8_is_understood_and_encoded_words_stay_as_they_are() {
    let world = World::new("");
    world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    let title = "Größe =?utf-8?Q?=41?=";
    let content = directed(&format!("{{\"message\":{{\"title\":\"{title}\"}}}}"));
    let reply = client
        .transaction(
            "orders@example.com",
            &["anna@example.org"],
            content.as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    assert_eq!(
        world.transactions()[0].0.directive.title.as_deref(),
        Some(title)
    );
}

#[tokio::test(start_paused = true)]
async fn relay_37_relay_38_relay_39_reference_title_and_tags_reach_the_records() {
    let tags = (0..16)
        .map(|n| format!("\"{n:x}{}\"", "t".repeat(31)))
        .collect::<Vec<_>>()
        .join(",");
    let reference = "a-z0123456789".repeat(2) + "abcd";
    let directive = format!(
        "{{\"message\":{{\"ref\":\"{reference}\",\"title\":\"{}\",\"tags\":[{tags}]}}}}",
        "T".repeat(255)
    );
    let (arrived, submission) = through("", &directed(&directive)).await;
    assert_eq!(arrived, MESSAGE);
    assert_eq!((reference.len(), &submission.reference), (30, &reference));
    assert_eq!(
        submission.directive.title.map(|title| title.len()),
        Some(255)
    );
    assert_eq!(submission.directive.tags.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn relay_33_a_directive_of_16_kib_is_taken_to_the_octet() {
    // Blanks between the members: 16384 octets in all, in lines that may be sent.
    let (begin, end) = ("{\"message\":", "{\"ref\":\"order-4711\"}}");
    let mut directive = begin.to_owned();
    let room = 16 * 1024 - begin.len() - end.len();
    let line = "\r\n ".to_owned() + &" ".repeat(500);
    while directive.len() - begin.len() + line.len() < room {
        directive += &line;
    }
    let rest = 16 * 1024 - end.len() - directive.len();
    let fits = format!("{directive}{}{end}", " ".repeat(rest));
    assert_eq!(fits.len(), 16 * 1024);
    let (arrived, submission) = through("", &directed(&fits)).await;
    assert_eq!(
        (arrived.as_str(), submission.reference.as_str()),
        (MESSAGE, "order-4711")
    );
    let over = format!("{directive}{}{end}", " ".repeat(rest + 1));
    let world = World::new("");
    let reply = world.send(&["anna@example.org"], &directed(&over)).await;
    assert!(reply.starts_with("451 9.1.1 "), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn relay_36_the_directive_of_a_stranger_is_removed_and_ignored() {
    let world = World::new("[rfrelay]\nkeepdirective = 1\n");
    let mx = world.mx("example.org", "198.51.100.25");
    // No session of a stranger gets this far yet: it has no recipient it may send to.
    let (submission, letter) = {
        let mut client = world.login().await;
        let reply = client
            .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
            .await
            .unwrap();
        assert_eq!(reply.code, 250);
        let submission = world.transactions().remove(0).0;
        let mut of_stranger = submission.client.clone();
        (of_stranger.account, of_stranger.login) = (None, None);
        let content = directed(
            "{\"message\":{\"ref\":\"order-4711\"},\"routing\":{\"outbound\":[\"192.0.2.99\"]}}",
        );
        let letter = Letter {
            snapshot: submission.settings.clone(),
            client: of_stranger,
            sender: submission.sender.clone(),
            recipients: submission.recipients.clone(),
            content: galerne_core::content::Content::in_memory(content.into_bytes()),
            bare: false,
            passed_bare: false,
            extended: true,
            received: submission.received,
            prdr: false,
        };
        (submission, letter)
    };
    drop(submission);
    mx.clear();
    let answer = world
        .gate
        .reception
        .receive(letter, Box::pin(std::future::pending()))
        .await
        .unwrap();
    assert_eq!(answer.reply.code(), 250);
    assert_eq!(String::from_utf8_lossy(&mx.messages()[0].content), MESSAGE);
    let last = world.transactions().pop().unwrap().0;
    assert_eq!(last.directive, Default::default());
    assert_ne!(last.reference, "order-4711");
}

// -- what may be added -----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn relay_22_relay_23_nothing_is_added_unless_received_is_asked_for() {
    let (arrived, _) = through("", MESSAGE).await;
    assert_eq!(arrived, MESSAGE);
    let (arrived, submission) = through("[rfrelay]\nreceived = 1\n", &directed("{}")).await;
    let added = arrived.strip_suffix(MESSAGE).unwrap();
    assert!(
        added.starts_with(
            "Received: from app.example.com ([203.0.113.7])\r\n\tby mta10.example.net "
        ),
        "{added}"
    );
    assert!(
        added.contains(&submission.message_id) && added.contains("for <anna@example.org>;"),
        "{added}"
    );
    assert_eq!(
        added.matches("\r\n").count(),
        added.matches("\r\n\t").count() + 1,
        "one field: {added}"
    );
    assert!(!added.contains("demo"), "{added}");
}

#[tokio::test(start_paused = true)]
async fn relay_24_t_24_more_than_100_received_fields_are_a_loop() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let received = |count: usize| {
        "Received: from a by b; Tue, 5 Mar 2024 10:00:05 +0000\r\n".repeat(count) + MESSAGE
    };
    assert!(
        world
            .send(&["anna@example.org"], &received(100))
            .await
            .starts_with("250 ")
    );
    let reply = world.send(&["anna@example.org"], &received(101)).await;
    assert!(reply.starts_with("554 5.4.6 "), "{reply}");
    assert_eq!(mx.accepted(), 1);
    // Nobody is told twice: a refused message makes no notification.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(mx.attempts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn t_24_a_message_that_comes_back_to_us_is_stopped() {
    let world = World::new("[rfrelay]\nreceived = 1\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut content = MESSAGE.to_owned();
    for pass in 1..=2 {
        let reply = world.send(&["anna@example.org"], &content).await;
        assert!(reply.starts_with("250 "), "pass {pass}: {reply}");
        content = String::from_utf8(mx.messages().pop().unwrap().content).unwrap();
    }
    let reply = world.send(&["anna@example.org"], &content).await;
    assert!(reply.starts_with("554 5.4.6 "), "{reply}");
    assert_eq!(mx.accepted(), 2);
}
