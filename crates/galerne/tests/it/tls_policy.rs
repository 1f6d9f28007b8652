//! Policies of recipients and senders over the whole server in memory: DANE (RFC 7672, T-16),
//! REQUIRETLS (RFC 8689, RELAY-14), broken TLS and sessions (RELAY-55, T-12, T-14, T-15).

use std::time::Duration;

use galerne_outbound::tls_counts::Failure;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use galerne_sim::tls::TestCa;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::tls_sts::{PolicyHost, policy, record, served};
use crate::world::{CLIENT, MESSAGE, Talk, World, directed};

/// One outbound, so that the number of connections tells something; our own authority is trusted.
pub const MAIN: &str = "[rfmta]\ncafile = ca.pem\n== users/demo.ini\n[routing]\nip = 192.0.2.10\n";

pub fn world() -> World {
    World::new(MAIN)
}

/// The MX of example.org, with a certificate that verifies or one that does not.
pub fn mx(world: &World, trusted: bool) -> Sink {
    let stranger = TestCa::new();
    let ca = if trusted { &world.ca } else { &stranger };
    let options = SinkOptions {
        tls: Some(ca.server(&["mx.example.org"])),
        ..SinkOptions::default()
    };
    world.mx_with("example.org", "198.51.100.25", options)
}

pub fn tls(world: &World) -> String {
    let settled = world.settled();
    let attempt = settled.last().unwrap().attempts.last().unwrap();
    attempt.tls.clone().unwrap_or_default()
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
    for (records, stripped, cause, counted) in [
        (
            format!("{AT} {OTHER}"),
            false,
            "no TLSA record is about the certificate",
            Failure::ValidationFailure,
        ),
        (
            matching,
            true,
            "does not offer STARTTLS",
            Failure::StartTlsNotSupported,
        ),
        (
            "_25._tcp.mx.example.org. SERVFAIL TLSA".into(),
            false,
            "server failure",
            Failure::DnssecInvalid,
        ),
        (
            "_25._tcp.mx.example.org. SILENT TLSA".into(),
            false,
            "timed out",
            Failure::DnssecInvalid,
        ),
        (
            format!("{AT} 0 0 0 {{}}"),
            true,
            "does not offer STARTTLS",
            Failure::TlsaInvalid,
        ),
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
        let counts = world.delivery.tls_counts();
        assert_eq!(counts.failures(counted), 1, "{records}");
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
    required_by(world, &[to], content).await
}

async fn required_by(world: &World, to: &[&str], content: &str) -> String {
    required_with("REQUIRETLS", world, to, content).await
}

async fn required_with(parameters: &str, world: &World, to: &[&str], content: &str) -> String {
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
    let mail = format!("MAIL FROM:<orders@example.com> {parameters}");
    assert_eq!(client.say(&mail).await, "250 2.1.0 OK");
    for to in to {
        assert_eq!(client.say(&format!("RCPT TO:<{to}>")).await, "250 2.1.5 OK");
    }
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
    let sink = world.mx_with("example.org", "198.51.100.25", options);
    world.zone("example.org. SECURE");
    sink
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
        let counted = match stripped {
            true => Failure::StartTlsNotSupported,
            false => Failure::CertificateNotTrusted,
        };
        assert_eq!(world.delivery.tls_counts().failures(counted), 1);
    }
    let world = self::world();
    let sink = knows_requiretls(&world, &world.ca, true);
    let content = directed(r#"{"routing":{"ssl":false}}"#);
    let reply = required(&world, "anna@example.org", &content).await;
    assert!(reply.starts_with("550 5.7.10 "), "{reply}");
    assert!(sink.attempts().is_empty());
}

/// RFC 8689 §4.2.1, step 2: what names the host must be proved too, or its certificate says little.
#[tokio::test(start_paused = true)]
async fn relay_14_requiretls_wants_the_mx_proved_by_dnssec_or_by_a_policy() {
    let unsigned = || {
        let world = world();
        let options = SinkOptions {
            tls: Some(world.ca.server(&["mx.example.org"])),
            requiretls: true,
            ..SinkOptions::default()
        };
        let sink = world.mx_with("example.org", "198.51.100.25", options);
        (world, sink)
    };
    let (world, sink) = unsigned();
    let reply = required(&world, "anna@example.org", MESSAGE).await;
    assert!(
        reply.starts_with("451 9.3.2 ")
            && reply.ends_with("that mx.example.org is an MX of the domain"),
        "{reply}"
    );
    assert_eq!((sink.attempts().len(), world.hops().len()), (0, 0));
    assert!(
        world.relay("anna@example.org").await.starts_with("250 "),
        "others go there"
    );
    for (mode, named, accepted) in [
        ("enforce", "mx.example.org", true),
        ("testing", "mx.example.org", true),
        ("testing", "other.example.org", false),
    ] {
        let (world, sink) = unsigned();
        record(&world, "1");
        PolicyHost::start(&world, &world.ca, served(&policy(mode, named, 86_400)));
        let reply = required(&world, "anna@example.org", MESSAGE).await;
        assert_eq!(
            reply.starts_with("250 "),
            accepted,
            "{mode} {named}: {reply}"
        );
        assert_eq!(sink.messages().len(), usize::from(accepted));
    }
    // Without an MX the domain is its own host.
    let (world, sink) = (self::world(), "198.51.100.25:25".parse().unwrap());
    world.zone("example.net. A 198.51.100.25");
    let options = SinkOptions {
        tls: Some(world.ca.server(&["example.net"])),
        requiretls: true,
        ..SinkOptions::default()
    };
    let sink = world.sink(sink, options);
    let reply = required(&world, "anna@example.net", MESSAGE).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(sink.messages().len(), 1);
}

/// RFC 8689 §4.2.1, step 4: DANE vouches for the certificate as well as an authority does.
#[tokio::test(start_paused = true)]
async fn relay_14_requiretls_is_passed_on_where_dane_proves_the_certificate() {
    for (records, accepted) in [
        (format!("{AT} 3 0 0 {{}}"), true),
        (format!("{AT} {OTHER}"), false),
    ] {
        let world = world();
        let certificate = TestCa::new().certificate(&["whatever.example"]);
        let options = SinkOptions {
            tls: Some(certificate.server()),
            requiretls: true,
            ..SinkOptions::default()
        };
        let sink = world.mx_with("example.org", "198.51.100.25", options);
        let records = records.replace("{}", &hex(&certificate.chain_pem, 0));
        world.zone(&format!("example.org. SECURE\n{records}"));
        let reply = required(&world, "anna@example.org", MESSAGE).await;
        assert_eq!(reply.starts_with("250 "), accepted, "{reply}");
        assert_eq!(sink.messages().len(), usize::from(accepted));
        assert!(!accepted || tls(&world).ends_with(" verified by dane"));
    }
}

/// RFC 8689 §4.2.1: the name in the certificate is that of the MX.
#[tokio::test(start_paused = true)]
async fn relay_14_requiretls_wants_the_certificate_of_the_mx_by_name() {
    let world = world();
    let options = SinkOptions {
        tls: Some(world.ca.server(&["other.example.org"])),
        requiretls: true,
        ..SinkOptions::default()
    };
    let sink = world.mx_with("example.org", "198.51.100.25", options);
    world.zone("example.org. SECURE");
    let reply = required(&world, "anna@example.org", MESSAGE).await;
    assert!(
        reply.starts_with("451 9.3.2 ") && reply.contains("not valid for name"),
        "{reply}"
    );
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

#[tokio::test(start_paused = true)]
async fn relay_14_ret_37_a_notification_of_such_a_message_requires_tls_as_well() {
    let world = world();
    knows_requiretls(&world, &world.ca, true);
    world.mx("example.net", "198.51.100.26");
    let options = SinkOptions {
        tls: Some(world.ca.server(&["mx.example.com"])),
        requiretls: true,
        ..SinkOptions::default()
    };
    let home = world.mx_with("example.com", "198.51.100.27", options);
    world.zone("example.net. SECURE\nexample.com. SECURE");
    let to = ["anna@example.org", "bert@example.net"];
    let reply = required_by(&world, &to, MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
    let told = home.messages().remove(0);
    assert!(
        told.envelope[0].starts_with("MAIL FROM:<>") && told.envelope[0].ends_with(" REQUIRETLS"),
        "{:?}",
        told.envelope
    );
}

/// RFC 8689 §5: nobody is to send the whole message back, neither we nor who comes next.
#[tokio::test(start_paused = true)]
async fn relay_14_ret_28_of_what_requires_tls_the_header_alone_comes_back() {
    let world = world();
    let first = knows_requiretls(&world, &world.ca, true);
    world.mx("example.net", "198.51.100.26");
    let options = SinkOptions {
        tls: Some(world.ca.server(&["mx.example.com"])),
        ..SinkOptions::default()
    };
    let home = world.mx_with("example.com", "198.51.100.27", options);
    world.zone("example.net. SECURE\nexample.com. SECURE");
    let to = ["anna@example.org", "bert@example.net"];
    let reply = required_with("RET=FULL REQUIRETLS", &world, &to, MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
    let mail = &first.messages()[0].envelope[0];
    assert!(
        mail.contains(" RET=HDRS") && !mail.contains("FULL"),
        "{mail}"
    );
    // This server does not know the extension, and a notification is not lost for that.
    let told = home.messages().remove(0);
    assert!(
        !told.envelope[0].contains("REQUIRETLS"),
        "{:?}",
        told.envelope
    );
    assert!(told.tls);
    let told = String::from_utf8(told.content).unwrap();
    let body = MESSAGE.split_once("\r\n\r\n").unwrap().1.trim();
    assert!(
        told.contains("text/rfc822-headers") && !told.contains(body),
        "{told}"
    );
}

// -- TLS-Required: No ----------------------------------------------------------------------------

const NOT_REQUIRED: &str = "TLS-Required: No\r\n";

#[tokio::test(start_paused = true)]
async fn t_12_tls_required_no_reaches_a_domain_whose_policy_is_broken() {
    // Of DANE: other records, none to be had, no STARTTLS.
    let content = format!("{NOT_REQUIRED}{MESSAGE}");
    for (records, stripped) in [
        (format!("{AT} {OTHER}"), false),
        (format!("{AT} {OTHER}"), true),
        ("_25._tcp.mx.example.org. SERVFAIL TLSA".into(), false),
    ] {
        let (world, sink) = dane(&records);
        if stripped {
            sink.rule(Rule::at(Stage::Ehlo).reply("250 mx.example.org"));
        }
        let reply = world.relay("anna@example.org").await;
        assert!(reply.starts_with("451 9.3.2 "), "{records}: {reply}");
        let reply = world.send(&["anna@example.org"], &content).await;
        assert!(reply.starts_with("250 "), "{records}: {reply}");
        let message = sink.messages().remove(0);
        assert_eq!(message.tls, !stripped, "TLS where it is offered");
        // Whoever comes next shall know it too.
        assert!(message.content.starts_with(NOT_REQUIRED.as_bytes()));
    }
    // Of MTA-STS: another host, a certificate that nobody knows.
    let world = world();
    let sink = mx(&world, false);
    record(&world, "1");
    let other = policy("enforce", "mx.example.net", 86_400);
    PolicyHost::start(&world, &world.ca, served(&other));
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("451 9.3.2 "), "{reply}");
    let reply = world.send(&["anna@example.org"], &content).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(tls(&world).ends_with(" unverified"));
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn t_12_tls_required_no_takes_back_neither_requiretls_nor_our_own_settings() {
    let content = format!("{NOT_REQUIRED}{MESSAGE}");
    let world = world();
    let sink = knows_requiretls(&world, &TestCa::new(), true);
    let reply = required(&world, "anna@example.org", &content).await;
    assert!(reply.starts_with("451 9.3.2 "), "{reply}");
    let main = format!("{MAIN}ssl = required\n");
    world.reload(&main);
    let reply = world.send(&["anna@example.org"], &content).await;
    assert!(
        reply.starts_with("451 9.3.2 ") && reply.ends_with("(RELAY-55)"),
        "{reply}"
    );
    assert!(sink.attempts().is_empty());
    // Twice said is not said.
    let (world, sink) = dane(&format!("{AT} {OTHER}"));
    let twice = format!("{NOT_REQUIRED}{content}");
    let reply = world.send(&["anna@example.org"], &twice).await;
    assert!(reply.starts_with("451 9.3.2 "), "{reply}");
    assert!(sink.attempts().is_empty());
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
