//! The principle: the remote's own reply in the client's session, and a message that stays as it
//! is (RELAY-1 to RELAY-29).

use std::time::Duration;

use galerne_sim::sink::{Rule, SinkOptions, Stage};
use tokio::time::Instant;

use crate::world::{CLIENT, Client, MESSAGE, Talk, World, directed};

#[tokio::test(start_paused = true)]
async fn relay_1_relay_73_the_remote_speaks_in_the_clients_session() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).reply("250-2.0.0 Queued as 7F31\n250 2.0.0 have a nice day"));
    assert_eq!(
        world.relay("anna@example.org").await,
        "250-2.0.0 Queued as 7F31\n250 2.0.0 have a nice day"
    );
    assert_eq!(mx.messages()[0].recipients, ["anna@example.org"]);
    assert_eq!(mx.messages()[0].sender, "orders@example.com");
}

#[tokio::test(start_paused = true)]
async fn relay_2_relay_3_nothing_goes_out_before_the_end_and_no_2xx_before_the_remotes() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(20)));
    let before = world.files();
    let mut client = world.login().await;
    client
        .envelope("orders@example.com", &["anna@example.org"])
        .await;
    client.send_raw(MESSAGE.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.hops().is_empty(), "the end of data has not come");
    let sent = Instant::now();
    client.send(".").await.unwrap();
    let early = tokio::time::timeout(Duration::from_secs(19), client.line()).await;
    assert!(early.is_err(), "{early:?} before the remote has spoken");
    assert_eq!(world.files(), before, "nothing is written to disk");
    assert_eq!(client.hear().await, "250 2.0.0 Ok: queued as 1-1");
    assert_eq!(sent.elapsed().as_secs(), 20);
    assert_eq!(world.files(), before);
}

#[tokio::test(start_paused = true)]
async fn relay_3_a_large_message_leaves_no_file_behind() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(1)));
    let before = world.files();
    let large = format!("{MESSAGE}{}", "0123456789abcdef\r\n".repeat(50_000));
    let mut client = world.waiting(&["anna@example.org"], &large).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(world.files(), before, "the spilled part has no name");
    assert_eq!(client.hear().await, "250 2.0.0 Ok: queued as 1-1");
    assert!(mx.messages()[0].content == large.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn relay_4_a_waiting_session_holds_one_outbound_slot() {
    let world = World::new("[rfmta]\nthreadnb = 2\n");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(50)));
    let mut first = world.waiting(&["a@example.org"], MESSAGE).await;
    let mut second = world.waiting(&["b@example.org"], MESSAGE).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let began = Instant::now();
    let patient = directed(r#"{"message":{"timeout":30}}"#);
    assert_eq!(
        world.send(&["c@example.org"], &patient).await,
        "451 9.3.1 X-SMTP-R-API no route available within 30 s"
    );
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(world.hops().len(), 2, "the third never got a slot");
    assert_eq!(first.reply().await.unwrap().code, 250);
    assert_eq!(second.reply().await.unwrap().code, 250);
    mx.clear_rules();
    assert!(
        world.relay("d@example.org").await.starts_with("250 "),
        "slots are given back"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_4_relay_69_who_waits_for_a_slot_gets_it_when_it_is_free() {
    let world = World::new("[rfmta]\nthreadnb = 1\n");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).times(1).delay(Duration::from_secs(20)));
    let _first = world.waiting(&["a@example.org"], MESSAGE).await;
    let began = Instant::now();
    assert!(world.relay("b@example.org").await.starts_with("250 "));
    assert_eq!(began.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn relay_17_each_transaction_is_answered_before_the_next_begins() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(
        Rule::at(Stage::Rcpt)
            .recipient("full")
            .reply("452 4.2.2 Mailbox full"),
    );
    let mut client = world.login().await;
    for (to, expected) in [
        ("anna@example.org", "250 2.0.0 Ok: queued as 1-1"),
        ("full@example.org", "452 4.2.2 Mailbox full"),
        ("bert@example.org", "250 2.0.0 Ok: queued as 1-2"),
    ] {
        let reply = client
            .transaction("orders@example.com", &[to], MESSAGE.as_bytes())
            .await;
        assert_eq!(reply.unwrap().text(), expected);
    }
    assert_eq!(mx.messages().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn relay_17_transactions_sent_ahead_are_relayed_one_after_the_other() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(
        Rule::at(Stage::Dot)
            .times(1)
            .delay(Duration::from_secs(5))
            .reply("451 4.3.0 first"),
    );
    let mut client = world.waiting(&["anna@example.org"], MESSAGE).await;
    let next = "MAIL FROM:<orders@example.com>\r\nRCPT TO:<bert@example.org>\r\nDATA\r\n";
    client.send_raw(next.as_bytes()).await.unwrap();
    assert_eq!(client.hear().await, "451 4.3.0 first");
    assert_eq!(client.hear().await, "250 2.1.0 OK");
    assert_eq!(client.hear().await, "250 2.1.5 OK");
    assert_eq!(client.reply().await.unwrap().code, 354);
    assert!(
        client
            .content(MESSAGE.as_bytes())
            .await
            .unwrap()
            .text()
            .starts_with("250 ")
    );
    assert_eq!(mx.messages()[0].recipients, ["bert@example.org"]);
}

/// A message with everything that a relay might be tempted to repair.
const STRANGE: &str = "sUBJECT:   no   date,  no id \r\n\tfolded\t\r\nX-Empty:\r\nFrom :  \"A\" \
<orders@example.com> \r\nBcc: secret@example.org\r\nContent-Type: multipart/mixed;\r\n boundary=\"b\"\r\n\r\n\
preamble <img src=\"http://example.com/x.gif\"> <a href=\"http://example.com/\">link</a>\r\n--b\r\n\r\n\
.\r\n..\r\n.leading dot\r\n\r\n\ttabs and trailing blanks  \r\n--b--\r\n\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn relay_6_relay_21_relay_22_relay_29_every_octet_arrives_as_it_was() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    assert!(
        world
            .send(&["anna@example.org"], STRANGE)
            .await
            .starts_with("250 ")
    );
    let long = format!("{MESSAGE}{}\r\n", "x".repeat(20_000));
    assert!(
        world
            .send(&["anna@example.org"], &long)
            .await
            .starts_with("250 ")
    );
    let messages = mx.messages();
    assert_eq!(String::from_utf8_lossy(&messages[0].content), STRANGE);
    assert!(
        messages[1].content == long.as_bytes(),
        "long body lines are passed"
    );
    assert_eq!(
        messages[0].recipients,
        ["anna@example.org"],
        "only RCPT counts, not Bcc"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_23_a_trace_field_is_added_only_when_asked_for() {
    let world = World::new("[rfrelay]\nreceived = 1\n");
    let mx = world.mx("example.org", "198.51.100.25");
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    let content = String::from_utf8(mx.messages()[0].content.clone()).unwrap();
    assert!(
        content.starts_with("Received: from app.example.com"),
        "{content}"
    );
    assert!(content.ends_with(MESSAGE), "{content}");
}

#[tokio::test(start_paused = true)]
async fn relay_25_relay_27_the_directive_is_cut_out_and_nothing_else() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    for (before, field, after) in [
        (
            "",
            "X-SMTP-R-API: {\"message\":{\"ref\":\"order-1\"}}\r\n",
            MESSAGE,
        ),
        (
            "From: <orders@example.com>\r\n",
            "x-smtp-r-api :\r\n {\"message\":\r\n\t{\"ref\":\"order-2\"} }\r\n",
            "Subject: x\r\n\r\nx\r\n",
        ),
        (
            "From: <orders@example.com>\r\nSubject: x\r\n",
            "X-Smtp-R-Api: {\r\n\"message\": {\r\n\"ref\":\"order-3\"}\r\n}\r\n",
            "\r\nx\r\n",
        ),
    ] {
        let reply = world
            .send(&["anna@example.org"], &format!("{before}{field}{after}"))
            .await;
        assert!(reply.starts_with("250 "), "{reply}");
        let content = mx.messages().pop().unwrap().content;
        assert_eq!(
            String::from_utf8(content).unwrap(),
            format!("{before}{after}")
        );
    }
    let references: Vec<_> = world
        .transactions()
        .iter()
        .map(|(s, _)| s.reference.clone())
        .collect();
    assert_eq!(references, ["order-1", "order-2", "order-3"]);
}

#[tokio::test(start_paused = true)]
async fn relay_26_keepdirective_keeps_it() {
    let world = World::new("[rfrelay]\nkeepdirective = 1\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let message = directed(r#"{"message":{"ref":"order-1"}}"#);
    assert!(
        world
            .send(&["anna@example.org"], &message)
            .await
            .starts_with("250 ")
    );
    assert_eq!(
        String::from_utf8(mx.messages()[0].content.clone()).unwrap(),
        message
    );
}

/// A message of `smtputf8` with an 8-bit body.
async fn eight_bit(client: &mut Client, parameters: &str) -> String {
    assert_eq!(
        client
            .say(&format!("MAIL FROM:<orders@example.com> {parameters}"))
            .await,
        "250 2.1.0 OK"
    );
    assert_eq!(
        client.say("RCPT TO:<anna@example.org>").await,
        "250 2.1.5 OK"
    );
    client.command("DATA").await.unwrap();
    client
        .content("From: <orders@example.com>\r\n\r\nGrüße\r\n".as_bytes())
        .await
        .unwrap()
        .text()
}

#[tokio::test(start_paused = true)]
async fn relay_28_t_48_eight_bit_content_goes_as_it_is() {
    let world = World::new("");
    let old = SinkOptions {
        eight_bit_mime: false,
        smtputf8: false,
        ..SinkOptions::default()
    };
    let mx = world.mx_with("example.org", "198.51.100.25", old);
    let mut client = world.login().await;
    assert!(
        eight_bit(&mut client, "BODY=8BITMIME")
            .await
            .starts_with("250 ")
    );
    let message = &mx.messages()[0];
    assert!(message.content.ends_with("\r\n\r\nGrüße\r\n".as_bytes()));
    assert!(
        !message.envelope[0].contains("BODY"),
        "{:?}",
        message.envelope
    );
}

#[tokio::test(start_paused = true)]
async fn relay_28_t_48_smtputf8_where_it_is_not_offered_is_550_without_troubling_the_remote() {
    let world = World::new("");
    let old = SinkOptions {
        smtputf8: false,
        ..SinkOptions::default()
    };
    let mx = world.mx_with("example.org", "198.51.100.25", old);
    let mut client = world.login().await;
    let reply = eight_bit(&mut client, "SMTPUTF8").await;
    assert_eq!(
        reply,
        "550 5.6.7 X-SMTP-R-API mx.example.org does not offer SMTPUTF8"
    );
    assert!(
        mx.sessions()[0]
            .commands
            .iter()
            .all(|c| !c.starts_with("MAIL"))
    );
    assert_eq!(
        world.settled()[0].refusal.as_ref().unwrap().rule(),
        "RELAY-28"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_28_smtputf8_goes_where_it_is_offered() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    assert!(
        eight_bit(&mut client, "SMTPUTF8 BODY=8BITMIME")
            .await
            .starts_with("250 ")
    );
    let mail = mx.messages()[0].envelope[0].clone();
    assert!(
        mail.contains(" SMTPUTF8") && mail.contains(" BODY=8BITMIME"),
        "{mail}"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_36_who_is_not_authenticated_gives_no_orders() {
    let world = World::new("");
    world.mx("example.org", "198.51.100.25");
    let mut client = world.client(CLIENT).await;
    client.hello().await;
    client.say("MAIL FROM:<orders@example.com>").await;
    let reply = client.say("RCPT TO:<anna@example.org>").await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    assert!(world.hops().is_empty());
}

#[tokio::test(start_paused = true)]
async fn relay_18_t_02_bare_line_ends_leave_only_by_bdat() {
    let world = World::new("[rfrelay]\nbarelf = pass\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let old = SinkOptions {
        chunking: false,
        ..SinkOptions::default()
    };
    let without = world.mx_with("example.net", "198.51.100.26", old);
    let smuggle =
        "From: <orders@example.com>\r\n\r\none\n.\nMAIL FROM:<evil@example.com>\r\ntwo\r.\r\n";
    let mut client = world.waiting(&["anna@example.org"], smuggle).await;
    assert!(client.hear().await.starts_with("250 "));
    let message = &mx.messages()[0];
    assert!(message.chunked);
    assert_eq!(String::from_utf8_lossy(&message.content), smuggle);
    let mut client = world.waiting(&["anna@example.net"], smuggle).await;
    assert_eq!(
        client.hear().await,
        "451 9.0.3 X-SMTP-R-API bare CR or LF in the message, and mx.example.net does not offer CHUNKING"
    );
    assert!(without.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn t_02_normalised_content_leaves_with_whole_line_ends_and_stuffed_dots() {
    let world = World::new("[rfrelay]\nbarelf = normalise\n");
    // Octets as they come over the wire.
    let wire = world.raw_mx("example.org", "198.51.100.25");
    let smuggle = "From: <orders@example.com>\r\n\r\none\n.\nMAIL FROM:<evil@example.com>\ntwo\r\n";
    let mut client = world.login().await;
    client
        .envelope("orders@example.com", &["anna@example.org"])
        .await;
    client.send_raw(smuggle.as_bytes()).await.unwrap();
    assert!(client.say(".").await.starts_with("250 "));
    let octets = wire.octets();
    let content = "\r\n\r\none\r\n..\r\nMAIL FROM:<evil@example.com>\r\ntwo\r\n.\r\n";
    assert!(octets.contains(content), "{octets}");
    let bare = octets.replace("\r\n", "");
    assert!(!bare.contains(['\r', '\n']), "{octets:?}");
}

#[tokio::test(start_paused = true)]
async fn t_05_no_address_given_to_us_ends_an_outbound_command() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    for value in [
        r#"{"routing":{"envelopefrom":"a@example.com>\r\nRCPT TO:<evil@example.org"}}"#,
        r#"{"routing":{"ehlo":"name.example\r\nMAIL FROM:<evil@example.com>"}}"#,
        r#"{"routing":{"envelopefrom":"\"a\nb\"@example.com"}}"#,
    ] {
        let reply = world.send(&["anna@example.org"], &directed(value)).await;
        assert!(
            reply.starts_with("451 9.1.4 X-SMTP-R-API routing."),
            "{reply}"
        );
    }
    assert!(world.hops().is_empty());
    let mut client = world.login().await;
    client.say("MAIL FROM:<\"we> ird\"@example.com>").await;
    assert_eq!(
        client
            .say("RCPT TO:<\"RCPT TO:<x@example.net>\"@example.org>")
            .await,
        "250 2.1.5 OK"
    );
    client.command("DATA").await.unwrap();
    assert!(
        client
            .content(MESSAGE.as_bytes())
            .await
            .unwrap()
            .text()
            .starts_with("250 ")
    );
    let message = &mx.messages()[0];
    assert_eq!(message.envelope.len(), 2, "{:?}", message.envelope);
    assert!(message.envelope[1].starts_with("RCPT TO:<\"RCPT TO:<x@example.net>\"@example.org>"));
}
