//! Policies of recipients and senders over the whole server in memory: MTA-STS (T-17), DANE
//! (T-16), REQUIRETLS, broken TLS (T-12, T-14, T-15).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use galerne_outbound::tls_counts::Failure;
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use galerne_sim::tls::TestCa;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::world::{CLIENT, MESSAGE, Talk, World, directed};

/// One outbound, so that the number of connections tells something; our own authority is trusted.
const MAIN: &str = "[rfmta]\ncafile = ca.pem\n== users/demo.ini\n[routing]\nip = 192.0.2.10\n";
const POLICY_HOST: &str = "198.51.100.80:443";

fn world() -> World {
    World::new(MAIN)
}

/// The MX of example.org, with a certificate that verifies or one that does not.
fn mx(world: &World, trusted: bool) -> Sink {
    let stranger = TestCa::new();
    let ca = if trusted { &world.ca } else { &stranger };
    let options = SinkOptions {
        tls: Some(ca.server(&["mx.example.org"])),
        ..SinkOptions::default()
    };
    world.mx_with("example.org", "198.51.100.25", options)
}

fn tls(world: &World) -> String {
    let settled = world.settled();
    let attempt = settled.last().unwrap().attempts.last().unwrap();
    attempt.tls.clone().unwrap_or_default()
}

// -- MTA-STS -----------------------------------------------------------------------------------

/// A policy host: how often it was asked.
#[derive(Clone, Default)]
struct PolicyHost(Arc<AtomicUsize>);

impl PolicyHost {
    /// Answers every request with these octets, under a certificate of `ca`; then closes.
    fn start(world: &World, ca: &TestCa, answer: String) -> PolicyHost {
        let host = PolicyHost::default();
        let (asked, config) = (host.0.clone(), ca.server(&["mta-sts.example.org"]));
        world.zone("mta-sts.example.org. A 198.51.100.80");
        world
            .net
            .listen(POLICY_HOST.parse().unwrap(), move |stream, _| {
                let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
                let (answer, asked) = (answer.clone(), asked.clone());
                async move {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(stream.read_u8().await.unwrap());
                    }
                    let line = b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n";
                    assert!(
                        request.starts_with(line),
                        "{}",
                        String::from_utf8_lossy(&request)
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
        host
    }

    fn asked(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn served(policy: &str) -> String {
    let length = policy.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{policy}"
    )
}

fn policy(mode: &str, hosts: &str, max_age: u32) -> String {
    let hosts = hosts.split(' ').map(|host| format!("mx: {host}\r\n"));
    let hosts: String = hosts.collect();
    format!("version: STSv1\r\nmode: {mode}\r\n{hosts}max_age: {max_age}\r\n")
}

fn record(world: &World, id: &str) {
    world.zone(&format!("_mta-sts.example.org. TXT \"v=STSv1; id={id};\""));
}

/// A world with the policy of an earlier process.
fn with_kept(id: &str, age: u64, policy: &str) -> World {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let file = format!(
        "== system/mtasts/example.org\nid {id}\nfetched {}\n{policy}",
        now - age
    );
    World::new(&format!("{MAIN}{file}"))
}

fn enforced() -> String {
    policy("enforce", "mx.example.org", 86_400)
}

#[tokio::test(start_paused = true)]
async fn t_17_an_enforced_policy_is_fetched_once_and_wants_a_proof() {
    let world = world();
    let sink = mx(&world, true);
    record(&world, "1");
    let host = PolicyHost::start(&world, &world.ca, served(&enforced()));
    for _ in 0..3 {
        let reply = world.relay("anna@example.org").await;
        assert!(reply.starts_with("250 "), "{reply}");
        assert!(
            tls(&world).ends_with(" verified by mta-sts"),
            "{}",
            tls(&world)
        );
    }
    assert_eq!(host.asked(), 1);
    assert!(sink.messages().iter().all(|m| m.tls));
    let file = world.root().join("system/mtasts/example.org");
    let file = fs::read_to_string(file).unwrap();
    assert!(
        file.starts_with("id 1\nfetched ") && file.ends_with(&enforced()),
        "{file}"
    );
}

#[tokio::test(start_paused = true)]
async fn t_17_at_the_same_time_it_is_fetched_once() {
    let world = world();
    mx(&world, true);
    record(&world, "1");
    let host = PolicyHost::start(&world, &world.ca, served(&enforced()));
    let messages = (0..8).map(|_| world.relay("anna@example.org"));
    for reply in futures(messages).await {
        assert!(reply.starts_with("250 "), "{reply}");
    }
    assert_eq!(host.asked(), 1);
}

async fn futures<F: Future<Output = String>>(all: impl Iterator<Item = F>) -> Vec<String> {
    let mut running: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    while !running.is_empty() {
        let (reply, place) = std::future::poll_fn(|cx| {
            for (place, one) in running.iter_mut().enumerate() {
                if let std::task::Poll::Ready(reply) = one.as_mut().poll(cx) {
                    return std::task::Poll::Ready((reply, place));
                }
            }
            std::task::Poll::Pending
        })
        .await;
        drop(running.remove(place));
        done.push(reply);
    }
    done
}

#[tokio::test(start_paused = true)]
async fn t_12_t_17_under_an_enforced_policy_nothing_goes_out_in_clear_nor_to_a_stranger() {
    for stripped in [true, false] {
        let world = world();
        let sink = mx(&world, false);
        record(&world, "1");
        PolicyHost::start(&world, &world.ca, served(&enforced()));
        if stripped {
            sink.rule(Rule::at(Stage::Ehlo).reply("250 mx.example.org"));
        }
        let reply = world.relay("anna@example.org").await;
        assert!(
            reply.starts_with("451 9.3.2 X-SMTP-R-API no TLS session with mx.example.org: "),
            "{reply}"
        );
        assert!(reply.ends_with("(RFC 8461 (MTA-STS))"), "{reply}");
        assert!(sink.attempts().is_empty());
        assert_eq!(
            world.hops().iter().filter(|h| h.ends_with(":25")).count(),
            1
        );
        let counted = match stripped {
            true => Failure::StartTlsNotSupported,
            false => Failure::CertificateNotTrusted,
        };
        assert_eq!(world.delivery.tls_counts().failures(counted), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn t_12_t_17_the_next_named_host_is_used() {
    let world = world();
    let first = mx(&world, false);
    world.zone("example.org. MX 20 spare.example.org.\nspare.example.org. A 198.51.100.26");
    let options = SinkOptions {
        tls: Some(world.ca.server(&["spare.example.org"])),
        ..SinkOptions::default()
    };
    let spare = world.sink("198.51.100.26:25".parse().unwrap(), options);
    record(&world, "1");
    let both = policy("enforce", "*.example.org", 86_400);
    PolicyHost::start(&world, &world.ca, served(&both));
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!((first.attempts().len(), spare.messages().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn t_17_a_host_that_the_policy_does_not_name_is_not_even_asked() {
    let world = world();
    let sink = mx(&world, true);
    record(&world, "1");
    let other = policy("enforce", "mx.example.net *.mx.example.org", 86_400);
    PolicyHost::start(&world, &world.ca, served(&other));
    let reply = world.relay("anna@example.org").await;
    assert_eq!(
        reply,
        "451 9.3.2 X-SMTP-R-API mx.example.org is no MX of the domain by its MTA-STS policy"
    );
    assert_eq!(sink.sessions().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn t_17_testing_only_records() {
    for (hosts, trusted, failure) in [
        ("mx.example.net", true, Failure::ValidationFailure),
        ("mx.example.org", false, Failure::CertificateNotTrusted),
    ] {
        let world = world();
        mx(&world, trusted);
        record(&world, "1");
        let testing = policy("testing", hosts, 86_400);
        PolicyHost::start(&world, &world.ca, served(&testing));
        let reply = world.relay("anna@example.org").await;
        assert!(reply.starts_with("250 "), "{reply}");
        assert!(tls(&world).ends_with(" unverified"));
        let counts = world.delivery.tls_counts();
        assert_eq!(counts.failures(failure), 1, "{hosts}");
    }
    let world = world();
    let clear = world.mx("example.org", "198.51.100.25");
    record(&world, "1");
    let testing = policy("testing", "mx.example.org", 86_400);
    PolicyHost::start(&world, &world.ca, served(&testing));
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert!(!clear.messages()[0].tls);
    let counts = world.delivery.tls_counts();
    assert_eq!(counts.failures(Failure::StartTlsNotSupported), 1);
}

/// What policy hosts do that counts for nothing.
fn spoilt() -> Vec<(&'static str, String)> {
    let good = enforced();
    let large = format!("{good}{}", "x: y\r\n".repeat(2_000_000));
    vec![
        ("404", served(&good).replace("200 OK", "404 Not Found")),
        (
            "301",
            format!(
                "HTTP/1.1 301 Moved\r\nLocation: https://mta-sts.example.org/x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{good}",
                good.len()
            ),
        ),
        ("type", served(&good).replace("text/plain", "text/html")),
        ("no type", served(&good).replace("Content-Type", "X-Type")),
        ("10 MB", served(&large)),
        (
            "cut",
            served(&good).replace("Content-Length: ", "Content-Length: 9"),
        ),
        ("no HTTP", good.clone()),
        (
            "header",
            served(&good).replace(
                "\r\n\r\n",
                &format!("\r\nX: {}\r\n\r\n", "y".repeat(100_000)),
            ),
        ),
        ("no version", served(&good.replace("STSv1", "STSv7"))),
        ("max_age 0", served(&policy("enforce", "mx.example.org", 0))),
    ]
}

#[tokio::test(start_paused = true)]
async fn t_17_a_policy_that_cannot_be_had_is_none_and_is_not_asked_for_all_the_time() {
    for (name, answer) in spoilt() {
        let world = world();
        let clear = world.mx("example.org", "198.51.100.25");
        record(&world, "1");
        let host = PolicyHost::start(&world, &world.ca, answer);
        for _ in 0..3 {
            let reply = world.relay("anna@example.org").await;
            assert!(reply.starts_with("250 "), "{name}: {reply}");
        }
        assert_eq!((clear.messages().len(), host.asked()), (3, 1), "{name}");
        tokio::time::advance(Duration::from_secs(301)).await;
        assert!(world.relay("anna@example.org").await.starts_with("250 "));
        assert_eq!(host.asked(), 2, "{name}: again after the pause");
    }
}

#[tokio::test(start_paused = true)]
async fn t_17_a_stranger_cannot_serve_a_policy() {
    let world = world();
    world.mx("example.org", "198.51.100.25");
    record(&world, "1");
    let host = PolicyHost::start(&world, &TestCa::new(), served(&enforced()));
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!(host.asked(), 1);
    let counts = world.delivery.tls_counts();
    assert_eq!(counts.failures(Failure::StsWebpkiInvalid), 1);
}

#[tokio::test(start_paused = true)]
async fn t_17_mail_waits_ten_seconds_for_a_policy_host_that_hangs() {
    for fate in [Fate::BlackHole, Fate::Mute] {
        let world = world();
        world.mx("example.org", "198.51.100.25");
        record(&world, "1");
        world.zone("mta-sts.example.org. A 198.51.100.80");
        world.decide(POLICY_HOST, fate);
        let began = Instant::now();
        assert!(world.relay("anna@example.org").await.starts_with("250 "));
        assert_eq!(began.elapsed().as_secs(), 10, "{fate:?}");
        let began = Instant::now();
        assert!(world.relay("anna@example.org").await.starts_with("250 "));
        assert!(
            began.elapsed().as_secs() < 5,
            "{fate:?}: only the first waits"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn t_17_a_policy_host_at_a_forbidden_address_is_not_asked() {
    let world = world();
    world.mx("example.org", "198.51.100.25");
    record(&world, "1");
    world.zone("mta-sts.example.org. A 127.0.0.1\nmta-sts.example.org. A 169.254.169.254");
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert!(
        world.hops().iter().all(|hop| hop.ends_with(":25")),
        "{:?}",
        world.hops()
    );
}

#[tokio::test(start_paused = true)]
async fn t_17_a_kept_policy_survives_a_restart_and_every_failure() {
    for (name, answer) in spoilt() {
        if name == "max_age 0" {
            continue;
        }
        let world = with_kept("1", 3_600, &enforced());
        let clear = world.mx("example.org", "198.51.100.25");
        record(&world, "2");
        let host = PolicyHost::start(&world, &world.ca, answer);
        let reply = world.relay("anna@example.org").await;
        assert!(reply.starts_with("451 9.3.2 "), "{name}: {reply}");
        assert_eq!((clear.attempts().len(), host.asked()), (0, 1), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn t_17_a_kept_policy_holds_without_its_record_until_it_expires() {
    for (records, age, refused) in [
        ("", 86_000, true),
        ("_mta-sts.example.org. SERVFAIL TXT", 86_000, true),
        ("_mta-sts.example.org. TXT \"v=STSv1; id=1\"", 86_000, true),
        ("", 86_500, false),
    ] {
        let world = with_kept("1", age, &enforced());
        world.mx("example.org", "198.51.100.25");
        world.zone(records);
        let reply = world.relay("anna@example.org").await;
        assert_eq!(
            reply.starts_with("451 9.3.2 "),
            refused,
            "{records}: {reply}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn t_17_a_new_id_brings_the_new_policy() {
    let world = with_kept("1", 60, &policy("enforce", "old.example.org", 86_400));
    mx(&world, true);
    record(&world, "1");
    assert!(
        world
            .relay("anna@example.org")
            .await
            .starts_with("451 9.3.2 ")
    );
    world.only_zone("");
    mx(&world, true);
    record(&world, "2");
    let host = PolicyHost::start(&world, &world.ca, served(&enforced()));
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(host.asked(), 1);
    let none = served(&policy("none", "mx.example.org", 86_400));
    world.only_zone("");
    let clear = world.mx("example.org", "198.51.100.25");
    record(&world, "3");
    PolicyHost::start(&world, &world.ca, none);
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert!(!clear.messages()[0].tls, "mode none ends it");
}

#[tokio::test(start_paused = true)]
async fn t_17_an_old_policy_is_fetched_again_while_it_is_used() {
    let long = policy("enforce", "mx.example.org", 600_000);
    let world = with_kept("1", 90_000, &long);
    let file = world.root().join("system/mtasts/example.org");
    let before = fs::read_to_string(&file).unwrap();
    mx(&world, true);
    record(&world, "1");
    let host = PolicyHost::start(&world, &world.ca, served(&long));
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    let is_new = async || {
        while fs::read_to_string(&file).unwrap() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), is_new()).await;
    assert!(waited.is_ok(), "the file was not written");
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!(host.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn t_17_who_does_not_need_policies_asks_for_none() {
    // Switched off; a relay host; TLS switched off.
    let route = "== hosts/@corp.ini\n[dns]\nmx = smtp.corp.example\nport = 25\n\
                 == users/demo.ini\n[account]\nauthorizedroute = @corp\n[routing]\nroute = @corp\n";
    let off = "[rfmta]\nmtasts = 0\n";
    for config in [off, route, "== users/demo.ini\n[routing]\nssl = 0\n"] {
        let world = World::new(&format!("{MAIN}== galerne.ini\n{config}"));
        let clear = world.mx("example.org", "198.51.100.25");
        world.zone("smtp.corp.example. A 198.51.100.25");
        record(&world, "1");
        let host = PolicyHost::start(&world, &world.ca, served(&enforced()));
        let reply = world.relay("anna@example.org").await;
        assert!(reply.starts_with("250 "), "{config}: {reply}");
        assert_eq!((clear.messages().len(), host.asked()), (1, 0), "{config}");
    }
}

// -- DANE ----------------------------------------------------------------------------------------

/// example.org with a secure MX whose certificate nobody knows, and these TLSA records; `{}` in
/// them stands for the certificate.
fn dane(records: &str) -> (World, Sink) {
    let world = world();
    let certificate = TestCa::new().certificate(&["whatever.example"]);
    let options = SinkOptions {
        tls: Some(certificate.server()),
        ..SinkOptions::default()
    };
    let sink = world.mx_with("example.org", "198.51.100.25", options);
    let hex = hex(&certificate.chain_pem, 0);
    world.zone(&format!(
        "example.org. SECURE\n{}",
        records.replace("{}", &hex)
    ));
    (world, sink)
}

/// One certificate of a chain, in hexadecimal.
fn hex(pem: &str, number: usize) -> String {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes());
    let chain: Vec<_> = chain.map(Result::unwrap).collect();
    chain[number].iter().map(|b| format!("{b:02x}")).collect()
}

const AT: &str = "_25._tcp.mx.example.org. TLSA";
const OTHER: &str = "3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[tokio::test(start_paused = true)]
async fn t_16_dane_proves_a_certificate_that_no_authority_knows() {
    for records in [
        format!("{AT} 3 0 0 {{}}"),
        // A key is being replaced.
        format!("{AT} {OTHER}\n{AT} 3 0 0 {{}}"),
        // What cannot be used does not spoil the rest.
        format!("{AT} 1 0 0 {{}}\n{AT} 3 0 0 {{}}\n{AT} 3 9 9 00"),
        "_25._tcp.mx.example.org. CNAME tlsa.example.org.\ntlsa.example.org. TLSA 3 0 0 {}".into(),
    ] {
        let (world, _) = dane(&records);
        let reply = world.relay("anna@example.org").await;
        assert!(reply.starts_with("250 "), "{records}: {reply}");
        assert!(
            tls(&world).ends_with(" verified by dane"),
            "{}",
            tls(&world)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn t_12_t_16_what_dane_does_not_prove_is_deferred() {
    let matching = format!("{AT} 3 0 0 {{}}");
    for (records, stripped, cause) in [
        (
            format!("{AT} {OTHER}"),
            false,
            "no TLSA record is about the certificate",
        ),
        (matching, true, "does not offer STARTTLS"),
        (
            "_25._tcp.mx.example.org. SERVFAIL TLSA".into(),
            false,
            "server failure",
        ),
        (
            "_25._tcp.mx.example.org. SILENT TLSA".into(),
            false,
            "timed out",
        ),
        (format!("{AT} 0 0 0 {{}}"), true, "does not offer STARTTLS"),
    ] {
        let (world, sink) = dane(&records);
        if stripped {
            sink.rule(Rule::at(Stage::Ehlo).reply("250 mx.example.org"));
        }
        let reply = world.relay("anna@example.org").await;
        assert!(
            reply.starts_with("451 9.3.2 X-SMTP-R-API "),
            "{records}: {reply}"
        );
        assert!(
            reply.contains(cause) && reply.contains("mx.example.org"),
            "{reply}"
        );
        assert!(sink.attempts().is_empty(), "{records}");
    }
}

#[tokio::test(start_paused = true)]
async fn t_16_where_dane_says_nothing_tls_is_used_when_offered() {
    for (records, unverified) in [
        // No record, in a secure zone; only unusable ones: TLS, without a proof.
        (String::new(), true),
        (format!("{AT} 1 0 0 {{}}"), true),
    ] {
        let (world, _) = dane(&records);
        assert!(world.relay("anna@example.org").await.starts_with("250 "));
        assert_eq!(tls(&world).ends_with(" unverified"), unverified);
    }
    let (world, sink) = dane("");
    sink.rule(Rule::at(Stage::Ehlo).reply("250 mx.example.org"));
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("250 "), "no record and no TLS: {reply}");
    // Without DNSSEC, and switched off, the records do not count.
    let (world, _) = dane(&format!("{AT} {OTHER}"));
    world.reload("[rfmta]\ndane = 0\n");
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    let (world, _) = dane("");
    world.only_zone(&format!(
        "example.org. MX 10 mx.example.org.\nmx.example.org. A 198.51.100.25\n{AT} {OTHER}"
    ));
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn t_16_one_host_without_records_serves_where_another_fails() {
    let (world, first) = dane(&format!("{AT} {OTHER}"));
    world.zone("example.org. MX 20 spare.example.org.\nspare.example.org. A 198.51.100.26");
    let spare = world.sink("198.51.100.26:25".parse().unwrap(), SinkOptions::default());
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!((first.attempts().len(), spare.messages().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn t_16_an_authority_of_the_domain_vouches_for_the_names_of_the_host_alone() {
    for (name, accepted) in [("mx.example.org", true), ("other.example.org", false)] {
        for whole in [true, false] {
            let world = world();
            let certificate = TestCa::new().certificate(&[name]);
            let options = SinkOptions {
                tls: Some(certificate.server()),
                ..SinkOptions::default()
            };
            world.mx_with("example.org", "198.51.100.25", options);
            let authority = hex(&certificate.chain_pem, 1);
            let other = "2 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
            let records = match whole {
                true => format!("{AT} 2 0 0 {authority}"),
                false => format!("{AT} {other}\n{AT} 2 0 0 {authority}"),
            };
            world.zone(&format!("example.org. SECURE\n{records}"));
            let reply = world.relay("anna@example.org").await;
            assert_eq!(reply.starts_with("250 "), accepted, "{name}: {reply}");
            assert_eq!(tls(&world).ends_with(" verified by dane"), accepted);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn t_16_dane_comes_before_an_mta_sts_policy() {
    let (world, _) = dane(&format!("{AT} 3 0 0 {{}}"));
    record(&world, "1");
    let other = policy("enforce", "mx.example.net", 86_400);
    PolicyHost::start(&world, &world.ca, served(&other));
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(tls(&world).ends_with(" verified by dane"));
}

#[tokio::test(start_paused = true)]
async fn t_16_domains_with_the_same_hosts_are_not_mixed_where_one_is_secure() {
    let (world, sink) = dane(&format!("{AT} {OTHER}"));
    world.zone("example.net. MX 10 mx.example.org.");
    world.mx("example.com", "198.51.100.27");
    let recipients = ["anna@example.org", "bert@example.net"];
    let reply = world.send(&recipients, MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(sink.messages().len(), 1);
    assert_eq!(sink.messages()[0].recipients, ["bert@example.net"]);
}

// -- REQUIRETLS --------------------------------------------------------------------------------

/// Sends with REQUIRETLS; gives the reply to the content.
async fn required(world: &World, to: &str, content: &str) -> String {
    let mut client = world.tls_client(CLIENT).await;
    let hello = client.hello().await;
    assert!(hello.offers("REQUIRETLS"), "{hello}");
    let plain = crate::world::base64(b"\0demo\0secret");
    assert!(
        client
            .say(&format!("AUTH PLAIN {plain}"))
            .await
            .starts_with("235")
    );
    let mail = "MAIL FROM:<orders@example.com> REQUIRETLS";
    assert_eq!(client.say(mail).await, "250 2.1.0 OK");
    assert_eq!(client.say(&format!("RCPT TO:<{to}>")).await, "250 2.1.5 OK");
    client.say("DATA").await;
    client.send_raw(content.as_bytes()).await.unwrap();
    client.say(".").await
}

fn knows_requiretls(world: &World, ca: &TestCa, requiretls: bool) -> Sink {
    let options = SinkOptions {
        tls: Some(ca.server(&["mx.example.org"])),
        requiretls,
        ..SinkOptions::default()
    };
    world.mx_with("example.org", "198.51.100.25", options)
}

#[tokio::test(start_paused = true)]
async fn relay_14_requiretls_is_passed_on_over_a_verified_session() {
    let world = world();
    let sink = knows_requiretls(&world, &world.ca, true);
    let reply = required(&world, "anna@example.org", MESSAGE).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let message = sink.messages().remove(0);
    assert!(
        message.envelope[0].ends_with(" REQUIRETLS"),
        "{:?}",
        message.envelope
    );
    assert!(tls(&world).ends_with(" verified by ca"));
    // It is offered under TLS alone.
    let mut client = world.client(CLIENT).await;
    assert!(!client.hello().await.offers("REQUIRETLS"));
    let clear = client.say("MAIL FROM:<a@example.com> REQUIRETLS").await;
    assert!(clear.starts_with("555 5.5.4 "), "{clear}");
}

#[tokio::test(start_paused = true)]
async fn relay_14_t_12_what_requires_tls_does_not_go_where_it_is_not_promised() {
    let (world, stranger) = (world(), TestCa::new());
    let sink = knows_requiretls(&world, &world.ca, false);
    let reply = required(&world, "anna@example.org", MESSAGE).await;
    assert_eq!(
        reply,
        "550 5.7.30 X-SMTP-R-API mx.example.org does not offer REQUIRETLS"
    );
    assert!(sink.attempts().is_empty());
    // A certificate that nobody knows; no STARTTLS; TLS switched off.
    for (trusted, stripped) in [(false, false), (true, true)] {
        let world = self::world();
        let ca = if trusted { &world.ca } else { &stranger };
        let sink = knows_requiretls(&world, ca, true);
        if stripped {
            sink.rule(Rule::at(Stage::Ehlo).reply("250-mx.example.org\n250 REQUIRETLS"));
        }
        let reply = required(&world, "anna@example.org", MESSAGE).await;
        assert!(
            reply.starts_with("451 9.3.2 ") && reply.ends_with("(RFC 8689)"),
            "{reply}"
        );
        assert!(sink.attempts().is_empty());
    }
    let world = self::world();
    let sink = knows_requiretls(&world, &world.ca, true);
    let content = directed(r#"{"routing":{"ssl":false}}"#);
    let reply = required(&world, "anna@example.org", &content).await;
    assert!(reply.starts_with("550 5.7.30 "), "{reply}");
    assert!(sink.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn relay_14_the_next_host_may_know_requiretls() {
    let world = world();
    let first = knows_requiretls(&world, &world.ca, false);
    world.zone("example.org. MX 20 spare.example.org.\nspare.example.org. A 198.51.100.26");
    let options = SinkOptions {
        tls: Some(world.ca.server(&["spare.example.org"])),
        requiretls: true,
        ..SinkOptions::default()
    };
    let spare = world.sink("198.51.100.26:25".parse().unwrap(), options);
    let reply = required(&world, "anna@example.org", MESSAGE).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!((first.attempts().len(), spare.messages().len()), (0, 1));
}

// -- broken TLS, sessions ------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn relay_55_t_14_where_tls_is_broken_mail_goes_in_clear_at_once_for_a_while() {
    let world = world();
    let sink = mx(&world, false);
    sink.rule(Rule::at(Stage::StartTls).reply("220 go ahead").close());
    let connections = async || {
        assert!(world.relay("anna@example.org").await.starts_with("250 "));
        let count = world.hops().len();
        world.forget_sessions().await;
        count
    };
    assert_eq!(connections().await, 2, "TLS, then clear");
    assert_eq!(connections().await, 3, "clear at once");
    sink.clear_rules();
    assert_eq!(connections().await, 4);
    assert!(sink.messages().iter().all(|m| !m.tls));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(connections().await, 5);
    assert!(sink.messages().last().unwrap().tls, "it was forgotten");
}

#[tokio::test(start_paused = true)]
async fn t_14_what_is_broken_stays_broken_for_mail_that_needs_tls() {
    let world = world();
    let sink = mx(&world, true);
    sink.rule(
        Rule::at(Stage::StartTls)
            .times(1)
            .reply("220 go ahead")
            .close(),
    );
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    let content = directed(r#"{"routing":{"ssl":"required"}}"#);
    let reply = world.send(&["anna@example.org"], &content).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let used: Vec<bool> = sink.messages().iter().map(|m| m.tls).collect();
    assert_eq!(used, [false, true], "required does not go in clear");
}

#[tokio::test(start_paused = true)]
async fn relay_55_a_session_that_proved_nothing_is_not_used_where_a_proof_is_due() {
    let world = world();
    let sink = mx(&world, false);
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert!(
        !world.delivery.pool().is_empty(),
        "an encrypted session is idle"
    );
    let content = directed(r#"{"message":{"maxhop":1},"routing":{"ssl":"required"}}"#);
    let reply = world.send(&["anna@example.org"], &content).await;
    assert!(reply.starts_with("451 9.3.2 "), "{reply}");
    assert!(
        reply.contains("invalid peer certificate: "),
        "the cause is named: {reply}"
    );
    assert_eq!(sink.messages().len(), 1);
    // `verify = 0` asks for encryption alone.
    world.reload("[rfmta]\nverify = 0\n");
    let reply = world.send(&["anna@example.org"], &content).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(tls(&world).ends_with(" unverified"));
}

#[tokio::test(start_paused = true)]
async fn t_15_a_handshake_of_one_octet_a_second_is_given_up() {
    let world = world();
    world.zone("example.org. MX 10 mx.example.org.\nmx.example.org. A 198.51.100.25");
    world.net.listen(
        "198.51.100.25:25".parse().unwrap(),
        |mut stream, _| async move {
            let _ = stream.write_all(b"220 mx\r\n").await;
            let mut heard = Vec::new();
            while let Ok(octet) = stream.read_u8().await {
                heard.push(octet);
                match heard.as_slice() {
                    h if h.ends_with(b"EHLO mta10.example.net\r\n") => {
                        let _ = stream.write_all(b"250-mx\r\n250 STARTTLS\r\n").await;
                    }
                    h if h.ends_with(b"STARTTLS\r\n") => break,
                    _ => {}
                }
            }
            let _ = stream.write_all(b"220 go\r\n").await;
            // Behind the ClientHello the head of a record of 16 KiB, then octet by octet.
            let _ = stream.read_u8().await;
            let _ = stream.write_all(&[22, 3, 3, 64, 0]).await;
            while stream.write_all(&[2]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        },
    );
    let content = directed(r#"{"message":{"maxhop":1},"routing":{"ssl":"required"}}"#);
    let began = Instant::now();
    let reply = world.send(&["anna@example.org"], &content).await;
    assert!(reply.contains("TLS handshake timed out"), "{reply}");
    assert_eq!(began.elapsed().as_secs(), 10);
}
