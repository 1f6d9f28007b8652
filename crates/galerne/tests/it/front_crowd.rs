//! Many clients, slow clients, and those who end their side: the honest one must not suffer
//! (RELAY-5, T-07, T-15, T-18, T-19).

use std::io::{Read as _, Write as _};
use std::time::Duration;

use galerne_sim::sink::Sink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::world::{CLIENT, Client, MESSAGE, Talk, World};

const SECOND: Duration = Duration::from_secs(1);

async fn greeting(client: &mut Client) -> String {
    client
        .line()
        .await
        .unwrap_or_else(|error| error.to_string())
}

async fn is_closed(client: &mut Client) -> bool {
    matches!(client.line().await, Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof)
}

#[tokio::test(start_paused = true)]
async fn relay_5_one_more_than_threadnb_gets_421() {
    let world = World::new("[rfrelay]\nthreadnb = 2\n");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = world.client(CLIENT).await;
        assert!(greeting(&mut client).await.starts_with("220 "));
        open.push(client);
    }
    let mut third = world.client(CLIENT).await;
    assert!(greeting(&mut third).await.starts_with("421 4.3.2 "));
    assert!(is_closed(&mut third).await);
    assert!(open[0].say("QUIT").await.starts_with("221 "));
    assert!(is_closed(&mut open[0]).await);
    drop(open.remove(0));
    sleep(SECOND).await;
    assert!(
        greeting(&mut world.client(CLIENT).await)
            .await
            .starts_with("220 ")
    );
}

#[tokio::test(start_paused = true)]
async fn relay_5_an_idle_stranger_gives_way_and_is_told() {
    let world = World::new("[rfrelay]\nthreadnb = 2\n");
    let mut known = world.login().await;
    let mut stranger = world.client(CLIENT).await;
    stranger.hello().await;
    sleep(9 * SECOND).await;
    assert!(
        greeting(&mut world.client(CLIENT).await)
            .await
            .starts_with("421 4.3.2 "),
        "not yet idle enough"
    );
    sleep(2 * SECOND).await;
    let mut next = world.client(CLIENT).await;
    assert!(next.hello().await.code == 250);
    assert!(stranger.hear().await.starts_with("421 4.3.2 "));
    assert!(is_closed(&mut stranger).await);
    // Who has logged in keeps its place for as long as it likes.
    sleep(60 * SECOND).await;
    let mut another = world.client(CLIENT).await;
    assert!(greeting(&mut another).await.starts_with("220 "));
    assert!(known.say("NOOP").await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn relay_5_t_18_octets_of_an_unfinished_command_do_not_keep_a_place() {
    let world = World::new("[rfrelay]\nthreadnb = 1\n");
    let mut slow = world.client(CLIENT).await;
    slow.hello().await;
    for _ in 0..12 {
        slow.send_raw(b"x").await.unwrap();
        sleep(SECOND).await;
    }
    assert!(
        greeting(&mut world.client(CLIENT).await)
            .await
            .starts_with("220 ")
    );
    assert!(slow.hear().await.starts_with("421 4.3.2 "));
}

#[tokio::test(start_paused = true)]
async fn relay_5_t_18_octets_of_a_refused_chunk_do_not_keep_a_place() {
    let world = World::new("[rfrelay]\nthreadnb = 1\n");
    let mut slow = world.client(CLIENT).await;
    slow.hello().await;
    slow.send("BDAT 1000").await.unwrap();
    for _ in 0..12 {
        slow.send_raw(b"x").await.unwrap();
        sleep(SECOND).await;
    }
    let mut next = world.client(CLIENT).await;
    assert!(greeting(&mut next).await.starts_with("220 "));
}

#[tokio::test(start_paused = true)]
async fn relay_5_t_18_a_handshake_that_hangs_gives_way_at_once() {
    let world = World::new("[rfrelay]\nthreadnb = 1\n");
    let mut slow = world.client(CLIENT).await;
    slow.hello().await;
    assert_eq!(slow.command("STARTTLS").await.unwrap().code, 220);
    sleep(11 * SECOND).await;
    let mut next = world.client(CLIENT).await;
    assert!(greeting(&mut next).await.starts_with("220 "));
    // Its connection is gone, not only its seat.
    let mut rest = slow.into_stream();
    let began = Instant::now();
    let _ = rest.read_to_end(&mut Vec::new()).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn relay_5_t_19_maxperip_counts_the_strangers_of_one_address() {
    let world = World::new(
        "[rfrelay]\nmaxperip = 2\n== users/office.ini\n[account]\nsmtpip = 198.18.0.1\nsmtpssl = 0\n",
    );
    let mut first = world.client(CLIENT).await;
    let _second = world.client(CLIENT).await;
    let mut third = world.client(CLIENT).await;
    let told = greeting(&mut third).await;
    assert!(told.starts_with("421 4.7.0 "), "{told}");
    assert!(
        greeting(&mut world.client("203.0.113.8").await)
            .await
            .starts_with("220 ")
    );
    for _ in 0..5 {
        let mut known = world.client("198.18.0.1").await;
        assert!(
            greeting(&mut known).await.starts_with("220 "),
            "an address of an account"
        );
        std::mem::forget(known);
    }
    // Once it has logged in it no longer counts.
    first.hello().await;
    assert!(
        first
            .say("AUTH PLAIN AGRlbW8Ac2VjcmV0")
            .await
            .starts_with("235 ")
    );
    assert!(
        greeting(&mut world.client(CLIENT).await)
            .await
            .starts_with("220 ")
    );
}

#[tokio::test(start_paused = true)]
async fn t_19_a_flood_from_one_address_costs_others_nothing() {
    let world = World::new("[rfrelay]\nmaxperip = 10\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut flood = Vec::new();
    for _ in 0..500 {
        flood.push(world.client("198.18.66.6").await);
    }
    let began = Instant::now();
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert!(began.elapsed() < SECOND);
    assert_eq!(mx.accepted(), 1);
    let mut served = 0;
    for client in &mut flood {
        served += usize::from(greeting(client).await.starts_with("220 "));
    }
    assert_eq!(served, 10);
}

// -- slow clients ----------------------------------------------------------------------------------

/// Where a slow client is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Command,
    Data,
    Bdat,
    Chunks,
    Handshake,
}

/// Sends one octet every ten seconds until it is told to go. Gives the last reply and the time.
async fn trickle(world: &World, at: At) -> (String, u64) {
    let mut client = match at {
        At::Handshake => world.client(CLIENT).await,
        _ => world.login().await,
    };
    match at {
        At::Command => {}
        At::Data => {
            client
                .envelope("a@example.com", &["anna@example.org"])
                .await
        }
        At::Bdat | At::Chunks => {
            client.say("MAIL FROM:<a@example.com>").await;
            client.say("RCPT TO:<anna@example.org>").await;
            if at == At::Bdat {
                client.send("BDAT 1000000").await.unwrap();
            }
        }
        At::Handshake => {
            client.hello().await;
            client.command("STARTTLS").await.unwrap();
            // The beginning of a record of TLS.
            client.send_raw(&[0x16, 3, 1, 2]).await.unwrap();
        }
    }
    let began = Instant::now();
    let octets: &[u8] = if at == At::Chunks {
        b"BDAT 1\r\nx"
    } else {
        b"x"
    };
    let mut stream = client.into_stream();
    let mut heard = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let written = stream.write_all(octets).await;
        match tokio::time::timeout(10 * SECOND, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(length)) => {
                heard.extend_from_slice(&buffer[..length]);
                if at == At::Chunks {
                    sleep(10 * SECOND).await;
                }
            }
            Err(_) if written.is_err() => break,
            Err(_) => {}
        }
        assert!(began.elapsed().as_secs() < 6 * 3600, "{at:?} never ends");
    }
    let heard = String::from_utf8_lossy(&heard);
    (
        heard.lines().last().unwrap_or_default().to_owned(),
        began.elapsed().as_secs(),
    )
}

async fn honest(world: &World, mx: &Sink, count: u64) {
    let before = mx.accepted();
    for _ in 0..count {
        let began = Instant::now();
        assert!(world.relay("anna@example.org").await.starts_with("250 "));
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        sleep(7 * SECOND).await;
    }
    assert_eq!(mx.accepted(), before + count);
}

#[tokio::test(start_paused = true)]
async fn t_18_slow_clients_are_ended_wherever_they_are_slow() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let (reply, seconds) = trickle(&world, At::Command).await;
    assert!(
        reply.starts_with("421 4.4.2 ") && (300..=310).contains(&seconds),
        "{reply}, {seconds} s"
    );
    for at in [At::Data, At::Bdat] {
        let (reply, seconds) = trickle(&world, at).await;
        assert!(
            reply.starts_with("421 4.4.2 ") && (180..=190).contains(&seconds),
            "{at:?}: {reply}, {seconds} s"
        );
    }
    let (reply, seconds) = trickle(&world, At::Chunks).await;
    assert!(
        reply.starts_with("421 4.4.2 ") && (3600..=3720).contains(&seconds),
        "{reply}, {seconds} s"
    );
    let (_, seconds) = trickle(&world, At::Handshake).await;
    assert!((30..=41).contains(&seconds), "handshake: {seconds} s");
    assert_eq!((mx.accepted(), world.hops().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn t_18_honest_clients_do_not_notice_the_slow_ones() {
    let world = World::new("[rfrelay]\nthreadnb = 2000\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut slow = Vec::new();
    for number in 0..1000 {
        let mut client = world
            .client(&format!("198.18.{}.{}", number / 250, number % 250))
            .await;
        client.hello().await;
        client.send_raw(b"MAIL").await.unwrap();
        slow.push(client);
    }
    for _ in 0..5 {
        for client in &mut slow {
            client.send_raw(b" ").await.unwrap();
        }
        honest(&world, &mx, 2).await;
    }
    assert_eq!(world.gate.registry.len(), 1000);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.gate.registry.len(), 0, "all of them are gone");
}

#[tokio::test(start_paused = true)]
async fn t_18_a_client_that_does_not_read_is_let_go() {
    let world = World::new("");
    let mut client = world.client(CLIENT).await;
    client.hello().await;
    // Replies that nobody reads fill the way back; then the server must not wait for ever.
    client.say("AUTH PLAIN AGRlbW8Ac2VjcmV0").await;
    client.say("MAIL FROM:<a@example.com>").await;
    let flood = "RCPT TO:<anna@example.org>\r\n".repeat(1000);
    let mut stream = client.into_stream();
    let _ = tokio::time::timeout(SECOND, stream.write_all(flood.as_bytes())).await;
    sleep(Duration::from_secs(900)).await;
    assert_eq!(world.gate.registry.len(), 0);
}

// -- ends ------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side_still_gets_the_replies_to_what_it_sent() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    client
        .envelope("a@example.com", &["anna@example.org"])
        .await;
    client
        .send_raw(format!("{MESSAGE}.\r\nQUIT\r\n").as_bytes())
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    assert!(client.hear().await.starts_with("250 2.0.0 Ok"));
    assert!(client.hear().await.starts_with("221 "));
    assert_eq!(mx.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_breaks_off_is_not_delivered() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    for content in [
        MESSAGE.to_owned(),
        format!("{MESSAGE}."),
        format!("{MESSAGE}.\r"),
    ] {
        let mut client = world.login().await;
        client
            .envelope("a@example.com", &["anna@example.org"])
            .await;
        client.send_raw(content.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert!(is_closed(&mut client).await, "{content:?}");
    }
    sleep(10 * SECOND).await;
    assert_eq!(
        (world.hops().len(), mx.accepted(), world.gate.registry.len()),
        (0, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn t_04_commands_sent_before_the_greeting_are_not_obeyed_behind_ehlo() {
    let world = World::new("");
    let mut client = world.client(CLIENT).await;
    client
        .send_raw(b"EHLO early.example\r\nMAIL FROM:<a@example.com>\r\n")
        .await
        .unwrap();
    assert!(client.hear().await.starts_with("220 "));
    assert!(client.hear().await.starts_with("503 5.5.1 "));
    assert!(is_closed(&mut client).await);
    // HTTP, as a browser can be made to send it.
    let mut client = world.client(CLIENT).await;
    client
        .send_raw(b"POST / HTTP/1.1\r\nHost: mta\r\n\r\nEHLO x\r\n")
        .await
        .unwrap();
    assert!(client.hear().await.starts_with("220 "));
    for _ in 0..3 {
        assert!(client.hear().await.starts_with("500 5.5.1 "));
    }
}

#[tokio::test(start_paused = true)]
async fn t_04_the_last_reply_is_heard_although_more_was_sent() {
    // A connection closed with unread octets is reset: the client fails in writing and may never
    // look for the reply. So what comes is read and dropped, within limits.
    let world = World::new("");
    let mut client = world.client(CLIENT).await;
    assert!(client.hear().await.starts_with("220 "));
    let early = "EHLO app.example.com\r\n".to_owned() + &"NOOP\r\n".repeat(150_000);
    client.send_raw(early.as_bytes()).await.unwrap();
    assert!(client.hear().await.starts_with("503 5.5.1 "));
    assert!(is_closed(&mut client).await);
    let mut endless = world.client(CLIENT).await;
    let mut sent = 0;
    while endless.send_raw(early.as_bytes()).await.is_ok() {
        sent += early.len();
        assert!(sent < 8 << 20, "it is read for ever");
    }
}

// -- TLS -------------------------------------------------------------------------------------------

/// A TLS session of our own making, so that its records can be touched.
async fn raw_tls(
    world: &World,
) -> tokio_rustls::client::TlsStream<std::pin::Pin<Box<dyn crate::world::Wire>>> {
    let mut client = world.client("198.18.0.1").await;
    client.hello().await;
    assert_eq!(client.command("STARTTLS").await.unwrap().code, 220);
    let name = rustls::pki_types::ServerName::try_from("mta10.example.net").unwrap();
    let connector = tokio_rustls::TlsConnector::from(world.ca.client());
    connector.connect(name, client.into_stream()).await.unwrap()
}

async fn exchange<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S, line: &str, code: &str) {
    stream.write_all(line.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = stream.read(&mut buffer).await.unwrap();
    let reply = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(reply.starts_with(code), "{line:?}: {reply:?}");
}

fn office() -> World {
    World::new("== users/office.ini\n[account]\nsmtpip = 198.18.0.1\nsmtpssl = 0\n")
}

#[tokio::test(start_paused = true)]
async fn t_07_close_notify_within_content_ends_the_session_and_cleartext_is_not_read() {
    for chunked in [false, true] {
        let world = office();
        let mx = world.mx("example.org", "198.51.100.25");
        let mut tls = raw_tls(&world).await;
        exchange(&mut tls, "EHLO app.example.com\r\n", "250").await;
        exchange(&mut tls, "MAIL FROM:<a@example.com>\r\n", "250").await;
        exchange(&mut tls, "RCPT TO:<anna@example.org>\r\n", "250").await;
        let rest = "\r\n.\r\nQUIT\r\n";
        if chunked {
            let begin = format!("BDAT {} LAST\r\n{MESSAGE}", MESSAGE.len() + rest.len());
            tls.write_all(begin.as_bytes()).await.unwrap();
        } else {
            exchange(&mut tls, "DATA\r\n", "354").await;
            tls.write_all(MESSAGE.as_bytes()).await.unwrap();
        }
        tls.flush().await.unwrap();
        tls.get_mut().1.send_close_notify();
        tls.flush().await.unwrap();
        let (clear, _) = tls.into_inner();
        let mut clear = clear;
        let _ = clear.write_all(rest.as_bytes()).await;
        let _ = clear.flush().await;
        sleep(SECOND * 20).await;
        assert_eq!(world.gate.registry.len(), 0, "the session has ended");
        assert_eq!(
            (world.hops().len(), mx.attempts().len()),
            (0, 0),
            "chunked: {chunked}"
        );
        assert!(world.transactions().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_ends_tls_with_close_notify() {
    let world = office();
    let mut tls = raw_tls(&world).await;
    exchange(&mut tls, "EHLO app.example.com\r\n", "250").await;
    exchange(&mut tls, "QUIT\r\n", "221").await;
    // An end without close_notify would be an error.
    assert_eq!(tls.read(&mut [0; 16]).await.unwrap(), 0);
}

/// What a client does until the server closes: an octet a second. Gives what it heard, and how
/// many seconds it took.
async fn drip<S>(wire: &mut S, octets: &[u8]) -> (Vec<u8>, u64)
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let (began, mut heard) = (Instant::now(), Vec::new());
    for octet in octets {
        let mut buffer = [0; 1024];
        let written = wire.write_all(&[*octet]).await;
        match tokio::time::timeout(SECOND, wire.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return (heard, began.elapsed().as_secs()),
            Ok(Ok(length)) => heard.extend_from_slice(&buffer[..length]),
            Err(_) if written.is_err() => return (heard, began.elapsed().as_secs()),
            Err(_) => {}
        }
    }
    panic!("it took all of it");
}

#[tokio::test(start_paused = true)]
async fn t_15_t_18_many_slow_handshakes_end_and_others_go_on() {
    let world = World::new("[rfrelay]\nthreadnb = 500\n");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut slow = JoinSet::new();
    for _ in 0..200 {
        let mut client = world.client(CLIENT).await;
        client.hello().await;
        client.command("STARTTLS").await.unwrap();
        slow.spawn(async move {
            // The head of a record of 16 KiB with a ClientHello that takes all of it.
            let mut hello = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3];
            hello.resize(16 * 1024, 0);
            drip(&mut client.into_stream(), &hello).await.1
        });
    }
    honest(&world, &mx, 3).await;
    assert_eq!(world.gate.registry.len(), 200, "21 s are no reason to end");
    sleep(11 * SECOND).await;
    assert_eq!(world.gate.registry.len(), 0);
    for seconds in slow.join_all().await {
        assert!((30..=31).contains(&seconds), "{seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn t_15_t_18_a_record_of_16_kib_octet_by_octet_is_ended_like_any_slow_client() {
    for (in_content, allowed) in [(false, 300..=305), (true, 180..=185)] {
        let world = office();
        let mx = world.mx("example.org", "198.51.100.25");
        let mut tls = raw_tls(&world).await;
        exchange(&mut tls, "EHLO app.example.com\r\n", "250").await;
        if in_content {
            exchange(&mut tls, "MAIL FROM:<a@example.com>\r\n", "250").await;
            exchange(&mut tls, "RCPT TO:<anna@example.org>\r\n", "250").await;
            exchange(&mut tls, "DATA\r\n", "354").await;
        }
        let (mut wire, mut session) = tls.into_inner();
        let (mut record, mut reply) = (Vec::new(), String::new());
        session.writer().write_all(&[b'x'; 16 * 1024]).unwrap();
        session.write_tls(&mut record).unwrap();
        assert!(record.len() > 16 * 1024 && record[0] == 23);
        let (heard, seconds) = drip(&mut wire, &record).await;
        assert!(allowed.contains(&seconds), "{in_content}: {seconds} s");
        session.read_tls(&mut heard.as_slice()).unwrap();
        session.process_new_packets().unwrap();
        session.reader().read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("421 4.4.2 "), "{reply}");
        // What still comes is read for a few seconds (T-04).
        sleep(6 * SECOND).await;
        let left = world.gate.registry.len();
        assert_eq!((left, world.hops().len(), mx.attempts().len()), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn t_15_t_18_records_of_one_octet_are_counted_by_what_they_hold() {
    let world = office();
    let mut tls = raw_tls(&world).await;
    exchange(&mut tls, "EHLO app.example.com\r\n", "250").await;
    exchange(&mut tls, "MAIL FROM:<a@example.com>\r\n", "250").await;
    exchange(&mut tls, "RCPT TO:<anna@example.org>\r\n", "250").await;
    exchange(&mut tls, "DATA\r\n", "354").await;
    let (heard, seconds) = drip(&mut tls, &[b'x'; 1_000]).await;
    assert!((180..=185).contains(&seconds), "{seconds} s");
    assert!(heard.starts_with(b"421 4.4.2 "), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn queue_19_the_stop_waits_for_a_transaction_with_a_recipient_and_for_no_other_session() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    let mut stranger = world.client(CLIENT).await;
    stranger.hello().await;
    stranger.say("MAIL FROM:<a@example.com>").await;
    assert!(
        stranger
            .say("RCPT TO:<b@example.org>")
            .await
            .starts_with("550 ")
    );
    let mut idle = world.login().await;
    let mut sending = world.login().await;
    sending
        .envelope("a@example.com", &["anna@example.org"])
        .await;
    world.gate.stop();
    assert!(stranger.hear().await.starts_with("421 4.3.2 "));
    assert!(idle.hear().await.starts_with("421 4.3.2 "));
    let quiet = tokio::time::timeout(SECOND, world.gate.quiet()).await;
    assert!(quiet.is_err(), "a message is under way");
    let reply = sending.content(MESSAGE.as_bytes()).await.unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    assert!(sending.hear().await.starts_with("421 4.3.2 "));
    let quiet = tokio::time::timeout(SECOND, world.gate.quiet()).await;
    assert!(quiet.is_ok());
    assert_eq!(mx.accepted(), 1);
}
