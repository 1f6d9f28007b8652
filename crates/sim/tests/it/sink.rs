//! The sink: honest, and as ill as asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use galerne_sim::client::TestClient;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use galerne_sim::tls::TestCa;
use rustls::pki_types::ServerName;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

const MESSAGE: &[u8] = b"From: a@example.org\r\n\r\n.dot\r\n..\r\n\x80\xff bare\rcr\r\n";

async fn connect(sink: &Sink, from: &str) -> TestClient<DuplexStream> {
    let (near, far) = tokio::io::duplex(65_536);
    let (server, peer) = (
        sink.clone(),
        SocketAddr::new(from.parse().expect("an address"), 4000),
    );
    tokio::spawn(async move { server.serve(far, peer).await });
    TestClient::new(near)
}

async fn ready(sink: &Sink, from: &str) -> TestClient<DuplexStream> {
    let mut client = connect(sink, from).await;
    assert_eq!(client.reply().await.expect("a greeting").code, 220);
    assert_eq!(
        client
            .command("EHLO client.example")
            .await
            .expect("EHLO")
            .code,
        250
    );
    client
}

fn code(reply: io::Result<galerne_sim::client::TestReply>) -> u16 {
    reply.expect("a reply").code
}

#[tokio::test]
async fn takes_messages_on_a_real_socket_and_remembers_them_to_the_octet() {
    let sink = Sink::bind((Ipv4Addr::LOCALHOST, 0).into())
        .await
        .expect("a sink");
    let stream = TcpStream::connect(sink.address())
        .await
        .expect("a connection");
    let mut client = TestClient::new(stream);
    assert_eq!(code(client.reply().await), 220);
    let ehlo = client.command("EHLO client.example").await.expect("EHLO");
    for keyword in [
        "PIPELINING",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "DSN",
        "SIZE",
    ] {
        assert!(ehlo.offers(keyword), "{keyword} in {ehlo}");
    }
    assert!(!ehlo.offers("STARTTLS") && !ehlo.offers("AUTH"));
    assert_eq!(
        code(
            client
                .transaction(
                    "a@example.org",
                    &["b@example.org", "c@example.org"],
                    MESSAGE
                )
                .await
        ),
        250
    );
    assert_eq!(
        code(
            client
                .transaction("", &["d@example.org"], b"X: y\r\n")
                .await
        ),
        250
    );
    let messages = sink.messages();
    assert_eq!(messages[0].content, MESSAGE);
    assert_eq!(messages[0].sender, "a@example.org");
    assert_eq!(messages[0].recipients, ["b@example.org", "c@example.org"]);
    assert_eq!(messages[0].envelope[0], "MAIL FROM:<a@example.org>");
    assert_eq!(
        (messages[0].ehlo.as_str(), messages[0].tls, messages[0].size),
        ("client.example", false, MESSAGE.len() as u64)
    );
    assert_eq!((messages[1].sender.as_str(), messages[1].session), ("", 1));
    assert_eq!(
        sink.sessions()[0].peer.ip(),
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    );
    drop(client);
    sink.wait_ended(1).await;
}

#[tokio::test(start_paused = true)]
async fn chunks_are_put_together() {
    let sink = Sink::new(SinkOptions::default());
    let mut client = ready(&sink, "192.0.2.1").await;
    assert_eq!(code(client.command("MAIL FROM:<a@example.org>").await), 250);
    assert_eq!(code(client.command("RCPT TO:<b@example.org>").await), 250);
    client.send_raw(b"BDAT 5\r\n.\r\nab").await.expect("sent");
    assert_eq!(code(client.reply().await), 250);
    client
        .send_raw(b"BDAT 3 LAST\r\ncd\nNOOP\r\n")
        .await
        .expect("sent");
    assert_eq!(code(client.reply().await), 250);
    assert_eq!(code(client.reply().await), 250);
    let message = &sink.messages()[0];
    assert_eq!(message.content, b".\r\nabcd\n");
    assert!(message.chunked);
}

#[tokio::test(start_paused = true)]
async fn offers_only_what_is_switched_on() {
    let options = SinkOptions {
        pipelining: false,
        eight_bit_mime: false,
        smtputf8: false,
        chunking: false,
        dsn: false,
        ..SinkOptions::default()
    };
    let mut client = connect(&Sink::new(options), "192.0.2.1").await;
    client.reply().await.expect("a greeting");
    let ehlo = client.command("EHLO client.example").await.expect("EHLO");
    for keyword in ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN"] {
        assert!(!ehlo.offers(keyword), "{keyword} in {ehlo}");
    }
}

#[tokio::test(start_paused = true)]
async fn rules_by_recipient_count_and_sender() {
    let sink = Sink::new(SinkOptions::default());
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("grey")
            .times(1)
            .reply("451 4.7.1 later"),
    )
    .rule(
        Rule::at(Stage::Rcpt)
            .recipient("full@example.org")
            .reply("452-4.2.2 full\n452 4.2.2 sorry"),
    )
    .rule(
        Rule::at(Stage::Mail)
            .sender("bad@example.org")
            .reply("550 5.7.1 no"),
    )
    .rule(
        Rule::at(Stage::Dot)
            .recipient("spam")
            .reply("554 5.7.1 spam"),
    );
    let mut client = ready(&sink, "192.0.2.1").await;
    assert_eq!(
        code(
            client
                .transaction("bad@example.org", &["x@example.org"], b"")
                .await
        ),
        550
    );
    assert_eq!(
        code(
            client
                .transaction("a@example.org", &["Grey@example.org"], b"")
                .await
        ),
        451
    );
    assert_eq!(code(client.command("RSET").await), 250);
    let both = ["grey@example.org", "full@example.org"];
    assert_eq!(
        code(
            client
                .transaction("a@example.org", &both, b"X: y\r\n")
                .await
        ),
        250
    );
    assert_eq!(sink.messages()[0].recipients, ["grey@example.org"]);
    assert_eq!(
        code(
            client
                .transaction("a@example.org", &["spam@example.org"], b"X: y\r\n")
                .await
        ),
        554
    );
    assert_eq!(sink.accepted(), 1);
    assert_eq!(sink.attempts()[1].reply, "554 5.7.1 spam");
    sink.clear_rules();
    assert_eq!(
        code(
            client
                .transaction("bad@example.org", &["x@example.org"], b"")
                .await
        ),
        250
    );
}

#[tokio::test(start_paused = true)]
async fn rules_by_client_address_and_connection() {
    let sink = Sink::new(SinkOptions::default());
    sink.rule(
        Rule::at(Stage::Connect)
            .client("192.0.2.1".parse().expect("ip"))
            .reply("554 5.7.1 listed")
            .close(),
    );
    sink.rule(Rule::at(Stage::Connect).session(3).close());
    let mut listed = connect(&sink, "192.0.2.1").await;
    assert_eq!(code(listed.reply().await), 554);
    assert_eq!(
        listed.reply().await.expect_err("closed").kind(),
        io::ErrorKind::UnexpectedEof
    );
    let mut second = ready(&sink, "192.0.2.2").await;
    assert_eq!(
        code(
            second
                .transaction("a@example.org", &["b@example.org"], b"")
                .await
        ),
        250
    );
    let mut third = connect(&sink, "192.0.2.2").await;
    assert_eq!(
        third.reply().await.expect_err("closed").kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[tokio::test(start_paused = true)]
async fn drops_after_the_dot_hangs_and_waits() {
    let sink = Sink::new(SinkOptions::default());
    sink.rule(Rule::at(Stage::Dot).session(1).close());
    sink.rule(Rule::at(Stage::Dot).session(2).hang());
    sink.rule(
        Rule::at(Stage::Dot)
            .session(3)
            .delay(Duration::from_secs(40)),
    );
    let mut first = ready(&sink, "192.0.2.1").await;
    let lost = first
        .transaction("a@example.org", &["b@example.org"], b"")
        .await;
    assert_eq!(
        lost.expect_err("closed").kind(),
        io::ErrorKind::UnexpectedEof
    );
    assert_eq!((sink.attempts().len(), sink.accepted()), (1, 0));
    let mut second = ready(&sink, "192.0.2.1").await;
    let silent = second
        .transaction("a@example.org", &["b@example.org"], b"")
        .await;
    assert_eq!(silent.expect_err("silence").kind(), io::ErrorKind::TimedOut);
    let mut third = ready(&sink, "192.0.2.1").await;
    let before = Instant::now();
    assert_eq!(
        code(
            third
                .transaction("a@example.org", &["b@example.org"], b"")
                .await
        ),
        250
    );
    assert!(before.elapsed() >= Duration::from_secs(40));
    assert_eq!(sink.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn starttls_and_auth() {
    let ca = TestCa::new();
    let options = SinkOptions {
        tls: Some(ca.server(&["sink.example"])),
        logins: vec![("user".to_owned(), "pass".to_owned())],
        needs_auth: true,
        ..SinkOptions::default()
    };
    let sink = Sink::new(options);
    let mut client = connect(&sink, "192.0.2.1").await;
    client.reply().await.expect("a greeting");
    assert!(
        client
            .command("EHLO a.example")
            .await
            .expect("EHLO")
            .offers("STARTTLS")
    );
    assert_eq!(code(client.command("STARTTLS").await), 220);
    let name = ServerName::try_from("sink.example").expect("a name");
    let connector = TlsConnector::from(ca.client());
    let stream = connector
        .connect(name, client.into_stream())
        .await
        .expect("TLS");
    let mut client = TestClient::new(stream);
    let ehlo = client.command("EHLO b.example").await.expect("EHLO");
    assert!(ehlo.offers("AUTH") && !ehlo.offers("STARTTLS"), "{ehlo}");
    assert_eq!(code(client.command("MAIL FROM:<a@example.org>").await), 530);
    assert_eq!(code(client.command("AUTH PLAIN AHVzZXIAbm8=").await), 535);
    assert_eq!(
        code(client.command("AUTH PLAIN AHVzZXIAcGFzcw==").await),
        235
    );
    assert_eq!(
        code(
            client
                .transaction("a@example.org", &["b@example.org"], b"")
                .await
        ),
        250
    );
    let message = &sink.messages()[0];
    assert!(message.tls);
    assert_eq!(
        (message.login.as_deref(), message.ehlo.as_str()),
        (Some("user"), "b.example")
    );
}

#[tokio::test(start_paused = true)]
async fn implicit_tls() {
    let ca = TestCa::new();
    let options = SinkOptions {
        tls: Some(ca.server(&["sink.example"])),
        implicit_tls: true,
        ..SinkOptions::default()
    };
    let sink = Sink::new(options);
    let stream = connect(&sink, "192.0.2.1").await.into_stream();
    let name = ServerName::try_from("sink.example").expect("a name");
    let stream = TlsConnector::from(Arc::clone(&ca.client()))
        .connect(name, stream)
        .await
        .expect("TLS");
    let mut client = TestClient::new(stream);
    assert_eq!(code(client.reply().await), 220);
    assert!(
        !client
            .command("EHLO a.example")
            .await
            .expect("EHLO")
            .offers("STARTTLS")
    );
    assert!(sink.sessions()[0].tls);
}

#[tokio::test(start_paused = true)]
async fn notices_a_client_that_does_not_wait() {
    let sink = Sink::new(SinkOptions::default());
    let mut client = ready(&sink, "192.0.2.1").await;
    assert!(!sink.sessions()[0].talked_early);
    let flight =
        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\ntoo early\r\n.\r\n";
    client.send_raw(flight).await.expect("sent");
    for code in [250, 250, 354, 250] {
        assert_eq!(client.reply().await.expect("a reply").code, code);
    }
    assert!(sink.sessions()[0].talked_early);
}
