//! The real listeners on loopback: ports, implicit TLS and STARTTLS with certificates by SNI, the
//! PROXY header (RELAY-8, CONF-28, CONF-29, CONF-94, CONF-96).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use galerne_core::settings::{Listen, ListenTls};
use galerne_inbound::{Inbound, InboundWorld, View, bind, certificates};
use galerne_sim::client::TestClient;
use galerne_sim::tls::TestCa;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{MESSAGE, World, base64};

/// The front door of a world on real sockets.
struct Door {
    world: World,
    inbound: Inbound,
    plain: SocketAddr,
    implicit: SocketAddr,
}

impl Door {
    async fn open(config: &str) -> Door {
        Door::with_certificates(config, |_| ()).await
    }

    /// `prepare` gets the folder of certificates, which has a default one.
    async fn with_certificates(config: &str, prepare: impl FnOnce(&Path)) -> Door {
        let world = World::new(config);
        let certs = world.root().join("certs");
        prepare(&certs);
        let (tls, _) = certificates::server_config(&certs, "mta10.example.net").unwrap();
        let view = world.gate.view();
        let temporary = view.temporary.clone();
        let view = View::new(view.snapshot.clone(), tls, temporary);
        let mut sockets = Vec::new();
        let mut addresses = Vec::new();
        for tls in [ListenTls::Plain, ListenTls::Implicit] {
            let socket = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let address = socket.local_addr().unwrap();
            addresses.push(address);
            sockets.push((socket, Listen { address, tls }));
        }
        let part = InboundWorld {
            reception: world.gate.reception.clone(),
            lists: world.lists.clone(),
        };
        let inbound = Inbound::open(part, view, sockets).unwrap();
        Door {
            world,
            inbound,
            plain: addresses[0],
            implicit: addresses[1],
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.plain).await.unwrap()
    }

    async fn client(&self) -> TestClient<TcpStream> {
        TestClient::new(self.connect().await)
    }
}

async fn transaction<S>(client: &mut TestClient<S>) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let reply = client
        .transaction("a@example.com", &["anna@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    reply.text()
}

const LOOPBACK: &str = "== users/local.ini\n[account]\nsmtpip = 127.0.0.0/8\n";

#[tokio::test]
async fn relay_8_conf_28_a_clear_listener_and_one_of_implicit_tls() {
    let door = Door::open(LOOPBACK).await;
    let mx = door.world.mx("example.org", "198.51.100.25");
    let mut client = door.client().await;
    assert!(
        client
            .reply()
            .await
            .unwrap()
            .text()
            .starts_with("220 mta10.example.net ESMTP")
    );
    let hello = client.command("EHLO app.example.com").await.unwrap();
    assert!(hello.offers("STARTTLS"));
    assert!(transaction(&mut client).await.starts_with("250 "));

    let stream = TcpStream::connect(door.implicit).await.unwrap();
    let name = ServerName::try_from("mta10.example.net").unwrap();
    let tls = tokio_rustls::TlsConnector::from(door.world.ca.client())
        .connect(name, stream)
        .await
        .unwrap();
    let mut client = TestClient::new(tls);
    assert_eq!(client.reply().await.unwrap().code, 220);
    let hello = client.command("EHLO app.example.com").await.unwrap();
    assert!(!hello.offers("STARTTLS") && hello.offers("AUTH"));
    assert!(transaction(&mut client).await.starts_with("250 "));
    assert_eq!(mx.accepted(), 2);
    let transactions = door.world.transactions();
    assert_eq!(
        (transactions[0].0.client.tls, transactions[1].0.client.tls),
        (false, true)
    );
    assert!(
        transactions
            .iter()
            .all(|(submission, _)| submission.client.peer.ip().is_loopback())
    );

    // Clear text on the port of TLS gets no greeting.
    let mut clear = TcpStream::connect(door.implicit).await.unwrap();
    clear.write_all(b"EHLO app.example.com\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = clear.read_to_end(&mut heard).await;
    assert!(!heard.starts_with(b"220"), "{heard:?}");
    door.inbound.stop(Duration::from_secs(1)).await;
    assert!(
        TcpStream::connect(door.plain).await.is_err(),
        "nobody listens any more"
    );
}

#[test]
fn relay_8_conf_28_ports_say_what_is_spoken_unless_the_entry_does() {
    let world = tempfile::tempdir().unwrap();
    let listen = |line: &str| {
        std::fs::write(
            world.path().join("galerne.ini"),
            format!("[IP]\n192.0.2.10 = mta.example.net\n[rfrelay]\n{line}\n"),
        )
        .unwrap();
        let options = galerne_config::LoadOptions {
            no_bind_check: true,
            strict: false,
            on_host: &|_| true,
            key_facts: &galerne::keys::facts,
            further: &|_| Vec::new(),
        };
        let settings = galerne_config::load(world.path(), options)
            .settings
            .unwrap();
        let entries = settings.rfrelay.listen.iter();
        entries
            .map(|entry| format!("{} {:?}", entry.address, entry.tls))
            .collect::<Vec<_>>()
    };
    assert_eq!(listen(""), ["0.0.0.0:25 Plain", "0.0.0.0:465 Implicit"]);
    let given = listen("listen = 192.0.2.10 192.0.2.10:2525/tls 192.0.2.10:465/plain");
    assert_eq!(
        given,
        [
            "192.0.2.10:25 Plain",
            "192.0.2.10:2525 Implicit",
            "192.0.2.10:465 Plain"
        ]
    );
}

// -- certificates ----------------------------------------------------------------------------------

fn write(folder: &Path, stem: &str, ca: &TestCa, name: &str) {
    let certificate = ca.certificate(&[name]);
    std::fs::write(folder.join(format!("{stem}.pem")), certificate.chain_pem).unwrap();
    std::fs::write(folder.join(format!("{stem}.key")), certificate.key_pem).unwrap();
}

/// Whether a client that asks for `asked` sees a certificate that is good for `named`.
async fn shows(
    door: &Door,
    ca: &TestCa,
    implicit: bool,
    asked: &'static str,
    named: &'static str,
) -> bool {
    let stream = match implicit {
        true => TcpStream::connect(door.implicit).await.unwrap(),
        false => {
            let mut client = door.client().await;
            assert_eq!(client.reply().await.unwrap().code, 220);
            assert_eq!(
                client.command("EHLO app.example.com").await.unwrap().code,
                250
            );
            assert_eq!(client.command("STARTTLS").await.unwrap().code, 220);
            client.into_stream()
        }
    };
    let config = ca.client();
    let asked = ServerName::try_from(asked).unwrap();
    let Ok(tls) = tokio_rustls::TlsConnector::from(config)
        .connect(asked.clone(), stream)
        .await
    else {
        return false;
    };
    // rustls has checked it for the name that was asked for.
    asked == ServerName::try_from(named).unwrap() && tls.get_ref().1.peer_certificates().is_some()
}

#[tokio::test]
async fn conf_29_the_name_asked_for_chooses_the_certificate() {
    let ca = TestCa::new();
    let door = Door::with_certificates("", |certs| {
        write(certs, "mail.example.com", &ca, "mail.example.com");
        write(certs, "Relay.Example.ORG", &ca, "relay.example.org");
        write(certs, ".def", &ca, "mta10.example.net");
        // A file that cannot be used must not hinder the others.
        std::fs::write(certs.join("bad.example.com.pem"), "nothing").unwrap();
    })
    .await;
    for implicit in [false, true] {
        for name in ["mail.example.com", "relay.example.org", "mta10.example.net"] {
            assert!(
                shows(&door, &ca, implicit, name, name).await,
                "{name}, implicit: {implicit}"
            );
        }
        // Another name gets the default, which is not good for it.
        assert!(
            !shows(
                &door,
                &ca,
                implicit,
                "other.example.com",
                "other.example.com"
            )
            .await
        );
        assert!(!shows(&door, &ca, implicit, "bad.example.com", "bad.example.com").await);
    }
}

#[tokio::test]
async fn conf_29_with_nothing_in_certs_a_certificate_is_made() {
    let door = Door::with_certificates("", |certs| std::fs::remove_dir_all(certs).unwrap()).await;
    // Nobody signed it, so it is not checked here; the session is encrypted all the same.
    let config = galerne_outbound::ClientTls::new(None)
        .unwrap()
        .config(&galerne_core::tls_policy::Proof::None)
        .unwrap();
    let stream = TcpStream::connect(door.implicit).await.unwrap();
    let name = ServerName::try_from("whatever.example").unwrap();
    let tls = tokio_rustls::TlsConnector::from(config)
        .connect(name, stream)
        .await
        .unwrap();
    let made = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert!(
        made.windows(17)
            .any(|octets| octets == b"mta10.example.net")
    );
    let mut client = TestClient::new(tls);
    assert_eq!(client.reply().await.unwrap().code, 220);
}

// -- PROXY -----------------------------------------------------------------------------------------

/// Loopback is a proxy; one client network belongs to an account, and so does loopback itself.
const PROXIED: &str = "[rfrelay]
proxyfrom = 127.0.0.1
== users/office.ini
[account]
smtpip = 198.18.0.0/16 2001:db8::/32
smtpssl = 0
";

/// The header of version 2 for an address of version 4.
fn version_2(source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&source);
    header.extend_from_slice(&[127, 0, 0, 1, 0x9c, 0x40, 0, 25]);
    header
}

async fn greeted(door: &Door, header: &[u8]) -> Option<TestClient<TcpStream>> {
    let mut stream = door.connect().await;
    stream.write_all(header).await.unwrap();
    let mut client = TestClient::new(stream);
    let greeting = client.reply().await.ok()?;
    assert_eq!(greeting.code, 220, "{greeting}");
    assert_eq!(
        client.command("EHLO app.example.com").await.unwrap().code,
        250
    );
    Some(client)
}

#[tokio::test]
async fn conf_96_rules_use_the_address_of_the_header() {
    let door = Door::open(PROXIED).await;
    door.world.mx("example.org", "198.51.100.25");
    let headers: [(&[u8], &str); 3] = [
        (
            b"PROXY TCP4 198.18.3.4 127.0.0.1 40000 25\r\n",
            "198.18.3.4:40000",
        ),
        (
            b"PROXY TCP6 2001:db8::9 ::1 40001 25\r\n",
            "[2001:db8::9]:40001",
        ),
        (&version_2([198, 18, 5, 6]), "198.18.5.6:40000"),
    ];
    for (header, peer) in headers {
        let mut client = greeted(&door, header).await.unwrap();
        assert!(transaction(&mut client).await.starts_with("250 "), "{peer}");
        let (submission, _) = door.world.transactions().pop().unwrap();
        assert_eq!(submission.client.peer.to_string(), peer);
        assert_eq!(submission.client.account.unwrap().name, "office");
    }
    // A stranger behind the same proxy stays one.
    let mut client = greeted(&door, b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 25\r\n")
        .await
        .unwrap();
    assert_eq!(transaction(&mut client).await, "550 5.7.1 relaying denied");
    assert_eq!(
        door.world.refused().pop().unwrap().peer.to_string(),
        "203.0.113.9"
    );
}

#[tokio::test]
async fn conf_96_relay_5_maxperip_counts_the_address_of_the_header() {
    let door = Door::open(&PROXIED.replace("[rfrelay]", "[rfrelay]\nmaxperip = 1")).await;
    let header =
        |last: u8| format!("PROXY TCP4 203.0.113.{last} 127.0.0.1 40000 25\r\n").into_bytes();
    let _first = greeted(&door, &header(1)).await.unwrap();
    let _other = greeted(&door, &header(2)).await.unwrap();
    let mut stream = door.connect().await;
    stream.write_all(&header(1)).await.unwrap();
    assert!(
        TestClient::new(stream)
            .reply()
            .await
            .unwrap()
            .text()
            .starts_with("421 4.7.0 ")
    );
}

#[tokio::test]
async fn conf_96_a_check_by_the_proxy_itself_has_its_own_address() {
    let door = Door::open(&format!(
        "{PROXIED}== users/local.ini\n[account]\nsmtpip = 127.0.0.1\n"
    ))
    .await;
    door.world.mx("example.org", "198.51.100.25");
    let local: [&[u8]; 2] = [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"];
    for header in local {
        let mut client = greeted(&door, header).await.unwrap();
        assert!(transaction(&mut client).await.starts_with("250 "));
        let (submission, _) = door.world.transactions().pop().unwrap();
        assert!(submission.client.peer.ip().is_loopback());
        assert_eq!(submission.client.account.unwrap().name, "local");
    }
}

#[tokio::test]
async fn conf_96_a_proxy_without_its_header_gets_no_session() {
    let door = Door::open(&format!(
        "{PROXIED}== users/local.ini\n[account]\nsmtpip = 127.0.0.1\n"
    ))
    .await;
    let wrong: [&[u8]; 4] = [
        b"EHLO app.example.com\r\n",
        b"PROXY TCP4 198.18.3.400 127.0.0.1 40000 25\r\n",
        b"PROXY TCP4 198.18.3.4 127.0.0.1 40000\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0",
    ];
    for header in wrong {
        assert!(greeted(&door, header).await.is_none(), "{header:?}");
    }
    // One that ends its side before the header is whole.
    let mut stream = door.connect().await;
    stream.write_all(b"PROXY TCP4 198.18").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await;
    assert!(heard.is_empty(), "{heard:?}");
}

#[tokio::test]
async fn conf_96_the_header_may_come_in_pieces_and_nothing_behind_it_is_lost() {
    let door = Door::open(PROXIED).await;
    door.world.mx("example.org", "198.51.100.25");
    let mut stream = door.connect().await;
    for piece in version_2([198, 18, 5, 6]).chunks(5) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut client = TestClient::new(stream);
    assert_eq!(client.reply().await.unwrap().code, 220);
    assert_eq!(
        client.command("EHLO app.example.com").await.unwrap().code,
        250
    );
    assert!(transaction(&mut client).await.starts_with("250 "));
    // TLS begins right behind the header.
    let mut stream = TcpStream::connect(door.implicit).await.unwrap();
    stream.write_all(&version_2([198, 18, 5, 6])).await.unwrap();
    let name = ServerName::try_from("mta10.example.net").unwrap();
    let tls = tokio_rustls::TlsConnector::from(door.world.ca.client())
        .connect(name, stream)
        .await
        .unwrap();
    assert_eq!(TestClient::new(tls).reply().await.unwrap().code, 220);
}

#[tokio::test]
async fn conf_96_a_header_from_anybody_else_is_no_command() {
    let door = Door::open(LOOPBACK).await;
    let mut stream = door.connect().await;
    stream
        .write_all(b"PROXY TCP4 198.18.3.4 127.0.0.1 40000 25\r\n")
        .await
        .unwrap();
    let mut client = TestClient::new(stream);
    assert_eq!(client.reply().await.unwrap().code, 220);
    assert_eq!(client.reply().await.unwrap().code, 500);
}

// -- passwords -------------------------------------------------------------------------------------

#[tokio::test]
async fn conf_94_a_password_is_computed_beside_the_sessions_and_not_in_their_way() {
    // No password fits it; to know that takes a whole computation.
    let hash = format!(
        "{{argon2}}$argon2id$v=19$m=32768,t=2,p=1$c29tZXNhbHQ${}",
        "A".repeat(43)
    );
    let world = World::new(&format!(
        "== users/slow.ini\n[account]\nsmtpssl = 0\nsmtplogin = slow\nsmtppassw = {hash}\n"
    ));
    let mut slow = world.client("203.0.113.8").await;
    assert_eq!(slow.reply().await.unwrap().code, 220);
    assert_eq!(
        slow.command("EHLO app.example.com").await.unwrap().code,
        250
    );
    let mut other = world.client("203.0.113.9").await;
    assert_eq!(other.reply().await.unwrap().code, 220);
    slow.send(&format!("AUTH PLAIN {}", base64(b"\0slow\0wrong")))
        .await
        .unwrap();
    let began = Instant::now();
    // This runtime has one thread: were it busy, nobody would be answered meanwhile.
    for _ in 0..5 {
        assert_eq!(other.command("NOOP").await.unwrap().code, 250);
    }
    let others = began.elapsed();
    let verdict = slow.reply().await.unwrap();
    assert!(verdict.text().starts_with("535 5.7.8 "), "{verdict}");
    // A wrong password is answered a second late.
    let computing = began.elapsed() - Duration::from_secs(1);
    assert!(
        others * 2 < computing,
        "others waited {others:?} of {computing:?}"
    );
}
