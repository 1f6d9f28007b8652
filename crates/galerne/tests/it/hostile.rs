//! Hostile input over the whole server: nothing injected, nothing unbounded, nothing hung
//! (T-01 to T-08, T-10, T-21 to T-23). What is a dialogue stands in front_dialogues.rs.

use std::time::Duration;

use crate::world::{CLIENT, MESSAGE, Talk, World};

/// The ends of data that other servers have fallen for (CVE-2023-51764 and its kin).
const FALSE_ENDS: [&str; 10] = [
    "\n.\n",
    "\n.\r\n",
    "\r.\r",
    "\r.\r\n",
    "\r\n.\n",
    "\r\n.\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\r\n.\r\r\n",
    "\r\n\r.\r\n",
];
const SMUGGLED: &str = "MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nFrom: evil@example.com\r\n\r\nevil\r\n";

#[tokio::test(start_paused = true)]
async fn t_01_relay_18_no_false_end_of_data_smuggles_a_message_under_any_policy() {
    for (policy, most) in [("reject", 0), ("normalise", 1), ("pass", 1)] {
        for end in FALSE_ENDS {
            let world = World::new(&format!("[rfrelay]\nbarelf = {policy}\n"));
            let mx = world.mx("example.org", "198.51.100.25");
            let mut client = world.login().await;
            client
                .envelope("orders@example.com", &["anna@example.org"])
                .await;
            client
                .send_raw(format!("{MESSAGE}x{end}{SMUGGLED}").as_bytes())
                .await
                .unwrap();
            client.send(".").await.unwrap();
            let reply = client.hear().await;
            assert!(
                reply.starts_with("250 ") || reply.starts_with("451 9.0.3 "),
                "{policy} {end:?}: {reply}"
            );
            assert!(
                client.say("NOOP").await.starts_with("250 2.0.0"),
                "{policy} {end:?}: one reply, no more"
            );
            let attempts = mx.attempts();
            assert!(attempts.len() <= most, "{policy} {end:?}");
            for message in attempts {
                assert_eq!(message.sender, "orders@example.com", "{policy} {end:?}");
                assert_eq!(message.recipients, ["anna@example.org"], "{policy} {end:?}");
                let text = String::from_utf8_lossy(&message.content).into_owned();
                assert!(text.contains("victim@example.org"), "it is content: {text}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t_02_a_receiver_that_takes_lf_dot_lf_for_the_end_gets_one_message() {
    // Normalised, no line of a lone dot is left unstuffed on the wire, whatever ends its lines.
    let world = World::new("[rfrelay]\nbarelf = normalise\n");
    let mx = world.mx("example.org", "198.51.100.25");
    for end in &FALSE_ENDS[..6] {
        mx.clear();
        let reply = world
            .send(&["anna@example.org"], &format!("{MESSAGE}x{end}{SMUGGLED}"))
            .await;
        assert!(reply.starts_with("250 "), "{end:?}: {reply}");
        let content = mx.messages().remove(0).content;
        assert!(
            !content
                .windows(2)
                .any(|two| two[1] == b'\n' && two[0] != b'\r'),
            "{end:?}: bare LF went out"
        );
        assert!(
            !content
                .windows(2)
                .any(|two| two[0] == b'\r' && two[1] != b'\n'),
            "{end:?}: bare CR went out"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn t_05_nothing_in_an_address_becomes_a_command_for_the_remote() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    for bad in [
        "a\rRCPT TO:<evil@example.org>",
        "a\0b@example.org",
        "a@example.org> NOTIFY=NEVER\rRCPT TO:<evil@example.org",
        "\"a\u{7}\"@example.org",
        "a@exam\tple.org",
    ] {
        assert!(
            client
                .say("MAIL FROM:<orders@example.com>")
                .await
                .starts_with("250 ")
        );
        let reply = client.say(&format!("RCPT TO:<{bad}>")).await;
        assert!(
            reply.starts_with('5') || reply.starts_with("421 4.7.0 "),
            "{bad:?}: {reply}"
        );
        client = world.login().await;
    }
    // Quotes are not refused; they go out as they came, in one command.
    for local in [
        "\"a b\"",
        "\"<>\"",
        "\"> RCPT TO:<evil\"",
        "\"a\\\"b\"",
        "\"a@b\"",
    ] {
        mx.clear();
        let mut client = world.login().await;
        let to = format!("{local}@example.org");
        let reply = client
            .transaction("orders@example.com", &[&to], MESSAGE.as_bytes())
            .await
            .unwrap();
        assert_eq!(reply.code, 250, "{local}: {reply}");
        let message = mx.messages().remove(0);
        assert_eq!(message.envelope.len(), 2, "{:?}", message.envelope);
        assert!(
            message.envelope[1].starts_with(&format!("RCPT TO:<{to}>")),
            "{:?}",
            message.envelope
        );
    }
    // Parameters too: what is decoded is encoded again.
    mx.clear();
    let mut client = world.login().await;
    assert!(
        client
            .say("MAIL FROM:<orders@example.com> ENVID=a+2BQQ+3D")
            .await
            .starts_with("250 ")
    );
    assert!(
        client
            .say("MAIL FROM:<orders@example.com> ENVID=a+0D+0ARSET")
            .await
            .starts_with('5')
    );
    assert!(
        client
            .say("RCPT TO:<anna@example.org> ORCPT=rfc822;a+2B+3Cb@example.org")
            .await
            .starts_with("250 ")
    );
    assert!(
        client
            .say("RCPT TO:<otto@example.org> ORCPT=rfc822;a+0Ab@example.org")
            .await
            .starts_with('5')
    );
    client.say("DATA").await;
    assert_eq!(client.content(MESSAGE.as_bytes()).await.unwrap().code, 250);
    let envelope = mx.messages().remove(0).envelope;
    assert!(envelope[0].contains("ENVID=a+2BQQ+3D"), "{envelope:?}");
    assert!(
        envelope[1].contains("ORCPT=rfc822;a+2B+3Cb@example.org")
            || envelope[1].contains("ORCPT=rfc822;a+2B<b@example.org"),
        "{envelope:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn t_06_a_message_by_chunks_arrives_as_it_came_however_it_is_cut() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let content = format!("{MESSAGE}.\r\n..\r\nRSET\r\n.hidden\r\n").into_bytes();
    for piece in [1, 7, 100, content.len()] {
        mx.clear();
        let mut client = world.login().await;
        client.say("MAIL FROM:<orders@example.com>").await;
        client.say("RCPT TO:<anna@example.org>").await;
        for chunk in content.chunks(piece) {
            client
                .send_raw(format!("BDAT {}\r\n", chunk.len()).as_bytes())
                .await
                .unwrap();
            client.send_raw(chunk).await.unwrap();
            assert!(client.hear().await.starts_with("250 2.0.0"));
        }
        assert_eq!(client.command("BDAT 0 LAST").await.unwrap().code, 250);
        assert_eq!(
            String::from_utf8_lossy(&mx.messages()[0].content),
            String::from_utf8_lossy(&content)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn t_06_the_size_of_a_chunk_is_never_believed() {
    for size in [
        "18446744073709551615",
        "18446744073709551616",
        "-1",
        "0x10",
        "1e3",
        "",
        "5 LATE",
        "99999999999",
    ] {
        let world = World::new("");
        world.mx("example.org", "198.51.100.25");
        let mut client = world.login().await;
        client.say("MAIL FROM:<orders@example.com>").await;
        client.say("RCPT TO:<anna@example.org>").await;
        client
            .send_raw(format!("BDAT {size}\r\n{MESSAGE}").as_bytes())
            .await
            .unwrap();
        let reply = client.hear().await;
        assert!(
            reply.starts_with("501 5.5.4") || reply.starts_with("552 5.3.4"),
            "{size:?}: {reply}"
        );
        // What follows could be content or commands: nobody guesses.
        assert!(client.line().await.is_err(), "{size:?}");
        assert_eq!(world.hops().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn t_08_t_23_endless_addresses_are_refused_and_the_session_lives_or_ends_bounded() {
    let world = World::new("");
    let mut client = world.login().await;
    client.say("MAIL FROM:<orders@example.com>").await;
    for (path, code) in [
        (format!("<{}@example.org>", "a".repeat(65)), "501 5.1.3"),
        (format!("<a@{}example.org>", "b.".repeat(140)), "501 5.1.3"),
        (
            format!("<{}@x.example:a@example.org>", "@x.example,".repeat(10)),
            "250 2.1.5",
        ),
        (
            format!("<{}@x.example:a@example.org>", "@x.example,".repeat(100)),
            "501 5.1.3",
        ),
        (format!("<{}a@example.org>", "(".repeat(400)), "501 5.1.3"),
        ("<a@[IPv6:::1:2:3:4:5:6:7:8:9]>".to_owned(), "451 9.2.2"),
        (format!("<a@{}.example>", "x".repeat(64)), "451 9.2.2"),
    ] {
        let reply = client.say(&format!("RCPT TO:{path}")).await;
        let shown: String = path.chars().take(40).collect();
        assert!(
            reply.starts_with(code) || code.starts_with('5') && reply.starts_with("451 9.2.2"),
            "{shown}: {reply}"
        );
    }
    // 4 MB of local part: one reply, and the end.
    let _ = client.send_raw(b"RCPT TO:<").await;
    for _ in 0..64 {
        if client.send_raw(&[b'a'; 64 * 1024]).await.is_err() {
            break;
        }
    }
    let _ = client.send_raw(&[b'a'; 64 * 1024]).await;
    let _ = client.send("@example.org>").await;
    assert!(client.hear().await.starts_with("500 5.5.2 "));
    let next = client.reply().await.unwrap();
    assert_eq!(next.code, 421, "{next}");
}

#[tokio::test(start_paused = true)]
async fn t_10_nothing_said_in_clear_holds_under_tls() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    client.say("MAIL FROM:<evil@example.com>").await;
    client.say("RCPT TO:<anna@example.org>").await;
    assert_eq!(client.command("STARTTLS").await.unwrap().code, 220);
    let mut client = world.start_tls(client).await;
    assert!(client.say("DATA").await.starts_with("503 "));
    client.command("EHLO app.example.com").await.unwrap();
    assert!(
        client
            .say("MAIL FROM:<orders@example.com>")
            .await
            .starts_with("250 ")
    );
    assert_eq!(
        client.say("RCPT TO:<anna@example.org>").await,
        "550 5.7.1 relaying denied",
        "AUTH is forgotten"
    );
    assert_eq!((mx.connected(), world.hops().len()), (0, 0));
    // In one segment with STARTTLS: the session ends, and no handshake follows.
    let mut client = world.client(CLIENT).await;
    client.hello().await;
    client
        .send_raw(b"STARTTLS\r\nEHLO evil.example\r\n")
        .await
        .unwrap();
    assert!(client.hear().await.starts_with("503 5.5.1 "));
    assert!(client.line().await.is_err());
    // In a segment of its own, before the handshake: it spoils the handshake and nothing else.
    let mut client = world.client(CLIENT).await;
    client.hello().await;
    assert_eq!(client.command("STARTTLS").await.unwrap().code, 220);
    client
        .send_raw(b"EHLO evil.example\r\nMAIL FROM:<evil@example.com>\r\n")
        .await
        .unwrap();
    let reply = client.reply().await;
    assert!(reply.is_err(), "an answer in clear: {reply:?}");
}

#[tokio::test(start_paused = true)]
async fn t_21_a_hundred_thousand_recipients_end_the_session() {
    let world = World::new("");
    let mut client = world.login().await;
    client.say("MAIL FROM:<orders@example.com>").await;
    let mut accepted = 0;
    for number in 0..100_000 {
        let reply = client
            .say(&format!("RCPT TO:<a{number}@example.org>"))
            .await;
        match reply.get(..3) {
            Some("250") => accepted += 1,
            Some("452") => {}
            _ => {
                assert!(reply.starts_with("421 4.7.0 "), "{reply}");
                assert!(number < 2000, "{number}");
                assert_eq!(accepted, 100);
                return;
            }
        }
    }
    panic!("no end");
}

#[tokio::test(start_paused = true)]
async fn t_21_a_client_that_only_makes_transactions_and_drops_them_is_sent_away() {
    let world = World::new("");
    let mut client = world.login().await;
    for _ in 0..200 {
        let mail = client.say("MAIL FROM:<orders@example.com>").await;
        let rset = client.say("RSET").await;
        if rset.starts_with("421 4.7.0 ") {
            return;
        }
        assert!(
            mail.starts_with("250 ") && rset.starts_with("250 "),
            "{mail} {rset}"
        );
    }
    panic!("no end");
}

#[tokio::test(start_paused = true)]
async fn t_23_a_line_of_two_megabytes_is_content_and_a_header_without_end_is_not() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let long = format!("{MESSAGE}{}\r\n", "z".repeat(2 << 20));
    assert!(
        world
            .send(&["anna@example.org"], &long)
            .await
            .starts_with("250 ")
    );
    assert!(mx.messages()[0].content == long.as_bytes());

    let fields = format!("{}{MESSAGE}", "X-Many: y\r\n".repeat(100_000));
    let reply = world.send(&["anna@example.org"], &fields).await;
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    let line = format!("X-Long: {}\r\n{MESSAGE}", "y".repeat(2 << 20));
    let reply = world.send(&["anna@example.org"], &line).await;
    assert!(
        reply.starts_with("451 9.0.4 ") || reply.starts_with("552 5.3.4 "),
        "{reply}"
    );
    let folded = format!("X-Folded: y\r\n{}{MESSAGE}", " y\r\n".repeat(500_000));
    let reply = world.send(&["anna@example.org"], &folded).await;
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    assert_eq!(mx.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn t_23_ten_thousand_levels_of_mime_are_relayed_as_they_came() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut deep = "From: <orders@example.com>\r\nMIME-Version: 1.0\r\n".to_owned();
    for level in 0..10_000 {
        deep += &format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
    }
    assert!(
        world
            .send(&["anna@example.org"], &deep)
            .await
            .starts_with("250 ")
    );
    assert!(mx.messages()[0].content == deep.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn t_03_t_08_octets_without_sense_never_stop_the_server() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..200 {
        let mut client = world.client("198.18.66.6").await;
        let mut octets = Vec::new();
        for _ in 0..300 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match state % 7 {
                0 => octets.extend_from_slice(b"\r\n"),
                1 => octets.extend_from_slice(b"EHLO x\r\n"),
                2 => octets.extend_from_slice(b"BDAT "),
                3 => octets.extend_from_slice(b"AUTH PLAIN "),
                _ => octets.extend_from_slice(&state.to_be_bytes()),
            }
        }
        let _ = client.send_raw(&octets).await;
        let _ = client.shutdown().await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.gate.registry.len(), 0);
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!(mx.accepted(), 1);
}
