//! Access and session over the whole server: who may do what, in which order, how much of it
//! (RELAY-2, RELAY-10 to RELAY-19, CONF-92).

use std::time::Duration;

use galerne_sim::sink::{Rule, SinkOptions, Stage};
use tokio::time::sleep;

use crate::world::{CLIENT, Client, MESSAGE, Talk, World, base64};

const MINUTE: Duration = Duration::from_secs(60);

/// AUTH PLAIN; gives the reply.
async fn plain(client: &mut Client, login: &str, password: &str) -> String {
    let secret = base64(format!("\0{login}\0{password}").as_bytes());
    client.say(&format!("AUTH PLAIN {secret}")).await
}

async fn is_closed(client: &mut Client) -> bool {
    matches!(client.line().await, Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof)
}

#[tokio::test(start_paused = true)]
async fn relay_2_nothing_goes_out_before_the_end_of_data() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    client
        .envelope("orders@example.com", &["anna@example.org"])
        .await;
    client.send_raw(MESSAGE.as_bytes()).await.unwrap();
    sleep(MINUTE).await;
    assert_eq!(world.hops(), Vec::<String>::new());
    client.send(".").await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 250);
    assert_eq!(world.hops().len(), 1);
    assert_eq!(mx.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn relay_10_relay_11_t_13_an_account_for_tls_only_is_refused_in_clear_whatever_the_password()
{
    let world = World::new("== users/safe.ini\n[account]\nsmtplogin = safe\nsmtppassw = hidden\n");
    world.mx("example.org", "198.51.100.25");
    let mut client = world.client(CLIENT).await;
    assert!(
        client.hello().await.offers("AUTH"),
        "demo may log in in clear"
    );
    for password in ["hidden", "wrong"] {
        let reply = plain(&mut client, "safe", password).await;
        assert!(reply.starts_with("538 5.7.11 "), "{reply}");
    }
    assert_eq!(client.command("STARTTLS").await.unwrap().code, 220);
    let mut client = world.start_tls(client).await;
    assert!(
        client
            .command("EHLO app.example.com")
            .await
            .unwrap()
            .offers("AUTH")
    );
    assert!(
        plain(&mut client, "safe", "wrong")
            .await
            .starts_with("535 5.7.8 ")
    );
    assert!(
        plain(&mut client, "safe", "hidden")
            .await
            .starts_with("235 2.7.0 ")
    );
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    let (submission, _) = world.transactions().remove(0);
    assert!(submission.client.tls);
    assert_eq!(submission.client.login.as_deref(), Some("safe"));
}

#[tokio::test(start_paused = true)]
async fn relay_11_without_an_account_for_clear_sessions_auth_is_not_advertised_there() {
    let world = World::new("");
    let demo = world.root().join("users/demo.ini");
    std::fs::write(&demo, "[account]\nsmtplogin = demo\nsmtppassw = secret\n").unwrap();
    world.reload("");
    let mut client = world.client(CLIENT).await;
    assert!(!client.hello().await.offers("AUTH"));
    assert!(
        plain(&mut client, "demo", "secret")
            .await
            .starts_with("538 5.7.11 ")
    );
    assert!(
        client
            .say("MAIL FROM:<a@example.com>")
            .await
            .starts_with("250 ")
    );
    assert_eq!(
        client.say("RCPT TO:<b@example.net>").await,
        "550 5.7.1 relaying denied"
    );
    // The port of implicit TLS.
    let mut client = world.tls_client(CLIENT).await;
    let hello = client.hello().await;
    assert!(hello.offers("AUTH") && !hello.offers("STARTTLS"));
    assert!(
        plain(&mut client, "demo", "secret")
            .await
            .starts_with("235 ")
    );
}

#[tokio::test(start_paused = true)]
async fn relay_12_auth_login_opens_the_relay() {
    let world = World::new("");
    world.mx("example.org", "198.51.100.25");
    let mut client = world.client(CLIENT).await;
    let hello = client.hello().await;
    assert!(
        hello
            .lines
            .iter()
            .any(|line| line.ends_with("AUTH PLAIN LOGIN")),
        "{hello}"
    );
    assert_eq!(client.say("AUTH LOGIN").await, "334 VXNlcm5hbWU6");
    assert_eq!(client.say(&base64(b"demo")).await, "334 UGFzc3dvcmQ6");
    assert!(
        client
            .say(&base64(b"secret"))
            .await
            .starts_with("235 2.7.0 ")
    );
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply}");
}

#[tokio::test(start_paused = true)]
async fn relay_13_a_stranger_may_not_send_anywhere() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.client(CLIENT).await;
    client.hello().await;
    assert!(
        client
            .say("MAIL FROM:<a@example.com>")
            .await
            .starts_with("250 ")
    );
    for recipient in ["anna@example.org", "a@mta10.example.net", "postmaster"] {
        assert_eq!(
            client.say(&format!("RCPT TO:<{recipient}>")).await,
            "550 5.7.1 relaying denied"
        );
    }
    assert!(client.say("DATA").await.starts_with("503 5.5.1 "));
    // Only AUTH makes the difference.
    assert!(client.say("RSET").await.starts_with("250 "));
    assert!(
        plain(&mut client, "demo", "secret")
            .await
            .starts_with("235 ")
    );
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    assert_eq!(reply.code, 250);
    assert_eq!(mx.accepted(), 1);
    let refused = world.refused();
    assert_eq!(refused.len(), 3);
    assert_eq!(
        (refused[0].user.as_deref(), refused[0].rule.as_str()),
        (None, "RELAY-13")
    );
}

#[tokio::test(start_paused = true)]
async fn relay_14_what_is_configured_away_is_not_offered() {
    let world = World::new("[rfrelay]\nchunking = 0\nmaxrcpt = 1\nmaxsize = 2M\n");
    let mut client = world.tls_client(CLIENT).await;
    let hello = client.hello().await;
    let offered: Vec<&str> = hello.lines[1..].iter().map(|line| &line[4..]).collect();
    let expected = [
        "SIZE 2097152",
        "8BITMIME",
        "PIPELINING",
        "DSN",
        "SMTPUTF8",
        "AUTH PLAIN LOGIN",
        "REQUIRETLS",
        "LIMITS RCPTMAX=1",
        "ENHANCEDSTATUSCODES",
    ];
    assert_eq!(offered, expected);
    for parameter in ["PRDR", "BODY=BINARYMIME"] {
        let reply = client
            .say(&format!("MAIL FROM:<a@example.com> {parameter}"))
            .await;
        assert!(
            reply.starts_with("555 5.5.4 ") || reply.starts_with("501 5.5.4 "),
            "{parameter}: {reply}"
        );
    }
    assert!(client.say("BDAT 0 LAST").await.starts_with("502 5.5.1 "));
}

#[tokio::test(start_paused = true)]
async fn relay_15_t_22_the_limit_holds_to_the_octet() {
    let world = World::new("[rfrelay]\nmaxsize = 1024\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let message =
        |size: usize| format!("{MESSAGE}{}\r\n", "x".repeat(size - MESSAGE.len() - 2)).into_bytes();
    let mut client = world.login().await;
    assert!(
        client
            .say("MAIL FROM:<a@example.com> SIZE=1025")
            .await
            .starts_with("552 5.3.4 ")
    );
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], &message(1025))
        .await
        .unwrap();
    assert_eq!(reply.text(), "552 5.3.4 Message too big");
    assert_eq!(mx.accepted(), 0);
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], &message(1024))
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    assert_eq!(mx.messages()[0].size, 1024);
    let refused = world.refused();
    assert_eq!(
        (refused[0].size, refused[0].recipient.as_str()),
        (1025, "anna@example.org")
    );
}

#[tokio::test(start_paused = true)]
async fn t_22_far_beyond_the_limit_reading_stops_and_the_reply_is_still_heard() {
    let world = World::new("[rfrelay]\nmaxsize = 1024\n");
    world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    client
        .envelope("a@example.com", &["anna@example.org"])
        .await;
    client.send_raw(MESSAGE.as_bytes()).await.unwrap();
    let line = "y".repeat(1022) + "\r\n";
    let mut sent = 0;
    while client.send_raw(line.as_bytes()).await.is_ok() {
        sent += line.len();
        assert!(sent < 4 << 20, "reading does not stop");
    }
    let reply = client.hear().await;
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    assert!(is_closed(&mut client).await);
    assert_eq!(world.hops().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn relay_16_a_silent_client_is_sent_away_after_five_minutes() {
    let world = World::new("");
    let mut client = world.client(CLIENT).await;
    client.hello().await;
    let began = tokio::time::Instant::now();
    assert!(client.hear().await.starts_with("421 4.4.2 "));
    assert_eq!(began.elapsed().as_secs(), 300);
    assert!(is_closed(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn relay_16_the_five_minutes_are_those_of_one_command() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    for line in [
        "NOOP",
        "VRFY x",
        "FOO",
        "MAIL FROM:<a@example.com>",
        "NOOP",
        "RCPT TO:<anna@example.org>",
    ] {
        sleep(4 * MINUTE).await;
        assert!(!client.say(line).await.starts_with("421"), "{line}");
    }
    sleep(4 * MINUTE).await;
    assert!(client.say("DATA").await.starts_with("354 "));
    sleep(2 * MINUTE).await;
    let reply = client.content(MESSAGE.as_bytes()).await.unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    assert_eq!(mx.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn relay_16_ten_errors_end_the_session_and_no_remote_hears_of_it() {
    let world = World::new("");
    world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    client.say("MAIL FROM:<a@example.com>").await;
    client.say("RCPT TO:<anna@example.org>").await;
    let wrong = [
        "FOO",
        "MAIL FROM:<b@example.com>",
        "RCPT TO:<<>",
        "EHLO",
        "STARTTLS now",
        "AUTH PLAIN",
        "DATA now",
    ];
    for line in wrong.iter().cycle().take(9) {
        let code = client.command(line).await.unwrap().code;
        assert!((500..=503).contains(&code), "{line}: {code}");
    }
    assert!(client.say("FOO").await.starts_with("500 "));
    assert!(client.hear().await.starts_with("421 4.7.0 "));
    assert!(is_closed(&mut client).await);
    assert_eq!(world.hops().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn relay_17_each_transaction_is_answered_before_the_next_begins() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(
        Rule::at(Stage::Dot)
            .recipient("slow")
            .delay(Duration::from_secs(20))
            .reply("250 2.0.0 slowly"),
    );
    mx.rule(Rule::at(Stage::Dot).reply("250 2.0.0 fast"));
    let mut client = world.login().await;
    client
        .envelope("a@example.com", &["slow@example.org"])
        .await;
    // The next transaction is on its way before the first is answered.
    client
        .send_raw(
            format!(
                "{MESSAGE}.\r\nMAIL FROM:<b@example.com>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\n"
            )
            .as_bytes(),
        )
        .await
        .unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.gate.registry.len(), 1);
    assert_eq!(client.hear().await, "250 2.0.0 slowly");
    assert!(client.hear().await.starts_with("250 2.1.0"));
    assert!(client.hear().await.starts_with("250 2.1.5"));
    assert!(client.hear().await.starts_with("354 "));
    assert_eq!(
        client.content(MESSAGE.as_bytes()).await.unwrap().text(),
        "250 2.0.0 fast"
    );
    let order: Vec<_> = mx.messages().iter().map(|m| m.sender.clone()).collect();
    assert_eq!(order, ["a@example.com", "b@example.com"]);
}

#[tokio::test(start_paused = true)]
async fn relay_17_an_answer_does_not_wait_for_the_next_message_of_the_same_flight() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).recipient("slow").delay(MINUTE / 3));
    let mut client = world.login().await;
    let mut flight = String::new();
    for to in ["anna", "slow"] {
        flight += "MAIL FROM:<a@example.com>\r\n";
        flight += &format!("RCPT TO:<{to}@example.org>\r\n");
        flight += &format!("BDAT {} LAST\r\n{MESSAGE}", MESSAGE.len());
    }
    let began = tokio::time::Instant::now();
    client.send_raw(flight.as_bytes()).await.unwrap();
    for code in ["250 2.1.0", "250 2.1.5", "250 2.0.0"] {
        let reply = client.hear().await;
        assert!(reply.starts_with(code), "{reply}");
    }
    assert!(began.elapsed() < MINUTE / 6, "{:?}", began.elapsed());
    for code in ["250 2.1.0", "250 2.1.5", "250 2.0.0"] {
        let reply = client.hear().await;
        assert!(reply.starts_with(code), "{reply}");
    }
    assert_eq!(mx.accepted(), 2);
}

const BARE: &str = "From: a@example.com\r\n\r\none\ntwo\rthree\r\n";

#[tokio::test(start_paused = true)]
async fn relay_18_bare_line_ends_are_refused() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let reply = world.send(&["anna@example.org"], BARE).await;
    assert_eq!(
        reply,
        "451 9.0.3 X-SMTP-R-API message holds a bare CR, a bare LF or a NUL"
    );
    assert_eq!((world.hops().len(), mx.connected()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn relay_18_or_normalised() {
    let world = World::new("[rfrelay]\nbarelf = normalise\n");
    let mx = world.mx("example.org", "198.51.100.25");
    assert!(
        world
            .send(&["anna@example.org"], BARE)
            .await
            .starts_with("250 ")
    );
    let expected = "From: a@example.com\r\n\r\none\r\ntwo\r\nthree\r\n";
    assert_eq!(String::from_utf8_lossy(&mx.messages()[0].content), expected);
    let nul = world
        .send(&["anna@example.org"], "From: a@example.com\r\n\r\n\0\r\n")
        .await;
    assert!(nul.starts_with("451 9.0.3 "), "{nul}");
}

#[tokio::test(start_paused = true)]
async fn relay_18_or_passed_by_bdat_and_never_otherwise() {
    let world = World::new("[rfrelay]\nbarelf = pass\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let old = world.mx_with(
        "example.com",
        "198.51.100.26",
        SinkOptions {
            chunking: false,
            ..SinkOptions::default()
        },
    );
    assert!(
        world
            .send(&["anna@example.org"], BARE)
            .await
            .starts_with("250 ")
    );
    let message = mx.messages().remove(0);
    assert!(message.chunked);
    assert_eq!(String::from_utf8_lossy(&message.content), BARE);
    let reply = world.send(&["anna@example.com"], BARE).await;
    assert!(reply.starts_with("451 9.0.3 X-SMTP-R-API "), "{reply}");
    assert!(old.attempts().is_empty());
    // What is regular leaves by DATA, to that one too.
    assert!(world.relay("anna@example.com").await.starts_with("250 "));
    assert!(!old.messages()[0].chunked);
}

#[tokio::test(start_paused = true)]
async fn relay_19_one_recipient_more_than_maxrcpt_is_refused() {
    let world = World::new("[rfrelay]\nmaxrcpt = 2\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    assert!(
        client
            .say("MAIL FROM:<a@example.com>")
            .await
            .starts_with("250 ")
    );
    for (recipient, code) in [
        ("one", "250 2.1.5"),
        ("two", "250 2.1.5"),
        ("three", "452 4.5.3"),
    ] {
        let reply = client
            .say(&format!("RCPT TO:<{recipient}@example.org>"))
            .await;
        assert!(reply.starts_with(code), "{reply}");
    }
    assert!(client.say("DATA").await.starts_with("354"));
    assert_eq!(client.content(MESSAGE.as_bytes()).await.unwrap().code, 250);
    assert_eq!(
        mx.messages()[0].recipients,
        ["one@example.org", "two@example.org"]
    );
}

#[tokio::test(start_paused = true)]
async fn relay_19_with_maxrcpt_1_the_reply_is_the_remotes_own() {
    let world = World::new("[rfrelay]\nmaxrcpt = 1\n");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).reply("250-2.0.0 first line\n250 2.0.0 second line"));
    let mut client = world.login().await;
    assert!(
        client
            .say("MAIL FROM:<a@example.com>")
            .await
            .starts_with("250 ")
    );
    assert!(
        client
            .say("RCPT TO:<one@example.org>")
            .await
            .starts_with("250 ")
    );
    assert!(
        client
            .say("RCPT TO:<two@example.org>")
            .await
            .starts_with("452 4.5.3 ")
    );
    assert!(client.say("DATA").await.starts_with("354"));
    let reply = client.content(MESSAGE.as_bytes()).await.unwrap();
    assert_eq!(reply.text(), "250-2.0.0 first line\n250 2.0.0 second line");
}

// -- clients known by their address ----------------------------------------------------------------

async fn send_from(world: &World, from: &str) -> (String, Client) {
    let mut client = world.client(from).await;
    client.hello().await;
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    (reply.text(), client)
}

fn last_account(world: &World) -> (String, Option<String>) {
    let (submission, _) = world.transactions().pop().unwrap();
    (
        submission.client.account.unwrap().name.clone(),
        submission.client.login,
    )
}

#[tokio::test(start_paused = true)]
async fn conf_92_a_client_belongs_to_the_account_with_the_longest_prefix() {
    let world = World::new(
        "== users/wide.ini\n[account]\nsmtpip = 198.18.0.0/16\nsmtpssl = 0\n\
         == users/narrow.ini\n[account]\nsmtpip = 198.18.7.0/24 2001:db8::/32\nsmtpssl = 0\n",
    );
    world.mx("example.org", "198.51.100.25");
    for (from, account) in [
        ("198.18.1.1", "wide"),
        ("198.18.7.1", "narrow"),
        ("2001:db8::7", "narrow"),
        ("198.18.255.255", "wide"),
    ] {
        let (reply, _) = send_from(&world, from).await;
        assert!(reply.starts_with("250 "), "{from}: {reply}");
        assert_eq!(last_account(&world).0, account, "{from}");
    }
    let (reply, _) = send_from(&world, "198.19.0.1").await;
    assert_eq!(reply, "550 5.7.1 relaying denied");
}

#[tokio::test(start_paused = true)]
async fn conf_92_auth_overrides_the_address() {
    let world = World::new("== users/office.ini\n[account]\nsmtpip = 198.18.0.0/16\nsmtpssl = 0\n");
    world.mx("example.org", "198.51.100.25");
    let (_, mut client) = send_from(&world, "198.18.1.1").await;
    assert_eq!(
        last_account(&world),
        ("office".to_owned(), Some("office".to_owned()))
    );
    assert!(
        plain(&mut client, "demo", "secret")
            .await
            .starts_with("235 ")
    );
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    assert_eq!(reply.code, 250);
    assert_eq!(
        last_account(&world),
        ("demo".to_owned(), Some("demo".to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn conf_92_relay_10_smtpssl_holds_for_addresses_unless_the_network_is_loopback() {
    let world = World::new("== users/office.ini\n[account]\nsmtpip = 198.18.0.0/16 127.0.0.0/8\n");
    world.mx("example.org", "198.51.100.25");
    assert_eq!(
        send_from(&world, "198.18.1.1").await.0,
        "550 5.7.1 relaying denied"
    );
    assert!(send_from(&world, "127.0.0.1").await.0.starts_with("250 "));
    // The same after STARTTLS and on the port of implicit TLS.
    let mut client = world.client("198.18.1.1").await;
    client.hello().await;
    assert_eq!(client.command("STARTTLS").await.unwrap().code, 220);
    let mut client = world.start_tls(client).await;
    client.command("EHLO app.example.com").await.unwrap();
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    let mut client = world.tls_client("198.18.1.1").await;
    client.hello().await;
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply}");
}
