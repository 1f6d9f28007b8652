//! MTA-STS over the whole server in memory, with a policy host that is as ill as a test wants
//! (RFC 8461, T-12, T-17).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use galerne_outbound::tls_counts::Failure;
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, SinkOptions, Stage};
use galerne_sim::tls::TestCa;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::tls_policy::{MAIN, mx, tls, world};
use crate::world::World;

const POLICY_HOST: &str = "198.51.100.80:443";

/// A policy host: how often it was asked.
#[derive(Clone, Default)]
pub struct PolicyHost(Arc<AtomicUsize>);

impl PolicyHost {
    /// Answers every request with these octets, under a certificate of `ca`; then closes.
    pub fn start(world: &World, ca: &TestCa, answer: String) -> PolicyHost {
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

pub fn served(policy: &str) -> String {
    let length = policy.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{policy}"
    )
}

pub fn policy(mode: &str, hosts: &str, max_age: u32) -> String {
    let hosts = hosts.split(' ').map(|host| format!("mx: {host}\r\n"));
    let hosts: String = hosts.collect();
    format!("version: STSv1\r\nmode: {mode}\r\n{hosts}max_age: {max_age}\r\n")
}

pub fn record(world: &World, id: &str) {
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
