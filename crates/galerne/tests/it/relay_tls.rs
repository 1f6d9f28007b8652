//! Encryption towards remotes, and AUTH (RELAY-54, RELAY-55, ROUTE-39 to ROUTE-43, T-11, T-13, T-14).

use std::time::Duration;

use galerne_core::ports::Module;
use galerne_events::Recorded;
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use galerne_sim::tls::TestCa;
use tokio::time::Instant;

use crate::world::{MESSAGE, World, directed};

/// One outbound, so that the number of connections tells something.
const ONE: &str = "== users/demo.ini\n[routing]\nip = 192.0.2.10\n";

/// An MX that offers STARTTLS with a certificate that nobody knows.
fn world(config: &str) -> (World, Sink) {
    let world = World::new(&format!("{ONE}{config}"));
    let mx = with_certificate(&world, &TestCa::new(), "another.example");
    (world, mx)
}

/// An MX whose certificate verifies.
fn trusted(config: &str) -> (World, Sink) {
    let world = World::new(&format!("[rfmta]\ncafile = ca.pem\n{ONE}{config}"));
    let mx = with_certificate(&world, &world.ca, "mx.example.org");
    (world, mx)
}

fn with_certificate(world: &World, ca: &TestCa, name: &str) -> Sink {
    let tls = Some(ca.server(&[name]));
    let options = SinkOptions {
        tls,
        ..Default::default()
    };
    world.mx_with("example.org", "198.51.100.25", options)
}

fn ssl(value: &str) -> String {
    directed(&format!(
        r#"{{"message":{{"maxhop":1}},"routing":{{"ssl":{value}}}}}"#
    ))
}

#[tokio::test(start_paused = true)]
async fn relay_54_relay_55_starttls_is_used_when_offered_whatever_the_certificate() {
    let (world, mx) = world("");
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    let message = mx.messages().remove(0);
    assert!(message.tls);
    let hellos = mx.sessions()[0]
        .commands
        .iter()
        .filter(|c| c.starts_with("EHLO"))
        .count();
    assert_eq!(hellos, 2, "EHLO is repeated");
    assert_eq!(world.hops().len(), 1);
    let tls = world.settled()[0].attempts[0].tls.clone().unwrap();
    assert!(
        tls.starts_with("TLSv1_3 ") && tls.ends_with(" unverified"),
        "{tls}"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_54_relay_55_false_never_encrypts() {
    let (world, mx) = world("");
    for value in ["false", "0"] {
        assert!(
            world
                .send(&["anna@example.org"], &ssl(value))
                .await
                .starts_with("250 ")
        );
    }
    assert!(mx.messages().iter().all(|m| !m.tls));
    assert!(mx.sessions()[0].commands.iter().all(|c| c != "STARTTLS"));
}

#[tokio::test(start_paused = true)]
async fn relay_55_broken_tls_falls_back_to_clear_at_the_same_address_without_a_hop() {
    let breaks = [
        Rule::at(Stage::StartTls).reply("454 4.7.0 no TLS today"),
        Rule::at(Stage::StartTls).reply("220 go ahead").close(),
        Rule::at(Stage::StartTls)
            .raw(b"220 go ahead\r\nthis is no TLS at all, it is only some text")
            .close(),
    ];
    for (number, broken) in breaks.into_iter().enumerate() {
        let (world, mx) = world("");
        mx.rule(broken);
        let reply = world.send(&["anna@example.org"], &ssl("true")).await;
        assert!(reply.starts_with("250 "), "{number}: {reply}");
        assert_eq!(
            world.hops(),
            ["192.0.2.10 -> 198.51.100.25:25"; 2],
            "{number}"
        );
        let end = world.settled().remove(0);
        assert_eq!(
            (end.attempts.len(), end.attempts[0].hop),
            (1, 1),
            "{number}"
        );
        assert!(!mx.messages()[0].tls);
    }
}

#[tokio::test(start_paused = true)]
async fn relay_55_t_14_a_handshake_that_hangs_is_given_up_after_ten_seconds() {
    let (world, mx) = world("");
    mx.rule(Rule::at(Stage::StartTls).reply("220 go ahead").hang());
    let began = Instant::now();
    assert!(
        world
            .send(&["anna@example.org"], &ssl("true"))
            .await
            .starts_with("250 ")
    );
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn relay_55_required_never_falls_back_and_counts_as_a_connection_failure() {
    let (world, mx) = trusted("");
    let clear = world.mx("example.net", "198.51.100.26");
    assert!(
        world
            .send(&["anna@example.org"], &ssl("\"required\""))
            .await
            .starts_with("250 ")
    );
    assert!(mx.messages()[0].tls);
    let reply = world
        .send(&["anna@example.net"], &ssl("\"required\""))
        .await;
    assert_eq!(
        reply,
        "451 9.3.2 X-SMTP-R-API no TLS session with mx.example.net: the remote does not offer \
         STARTTLS (RELAY-55)"
    );
    assert!(clear.attempts().is_empty());
    for broken in ["220 go ahead", "454 4.7.0 no TLS today"] {
        let (world, mx) = trusted("");
        mx.rule(Rule::at(Stage::StartTls).reply(broken).close());
        let reply = world
            .send(&["anna@example.org"], &ssl("\"required\""))
            .await;
        let said = "451 9.3.2 X-SMTP-R-API no TLS session with mx.example.org: ";
        assert!(reply.starts_with(said), "{reply}");
        assert_eq!(
            (world.hops().len(), mx.attempts().len()),
            (1, 0),
            "{broken}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn relay_55_required_goes_on_to_the_next_address() {
    let (world, mx) = trusted("");
    world.zone("example.net. MX 10 clear.example.net.\nclear.example.net. A 198.51.100.26\nexample.net. MX 20 mx.example.org.");
    let clear = world.sink("198.51.100.26:25".parse().unwrap(), Default::default());
    let content = directed(r#"{"routing":{"ssl":"required"}}"#);
    assert!(
        world
            .send(&["anna@example.net"], &content)
            .await
            .starts_with("250 ")
    );
    assert_eq!((clear.attempts().len(), mx.messages().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn t_11_what_follows_the_220_in_clear_is_not_part_of_the_dialogue() {
    let (world, mx) = world("");
    mx.rule(
        Rule::at(Stage::StartTls).raw(b"220 go ahead\r\n250-evil.example\r\n250 AUTH PLAIN\r\n"),
    );
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    let message = mx.messages().remove(0);
    assert!(
        message.tls,
        "the injected lines are dropped, the handshake goes on"
    );
    assert!(
        message.envelope[0].contains(" SIZE="),
        "what was said under TLS counts"
    );
}

// -- relay hosts -------------------------------------------------------------------------------------

/// A relay host on a port of STARTTLS, with a login.
const CORP: &str = "== hosts/@corp.ini
[dns]
mx = smtp.corp.example
port = 587
login = shop@corp.example
passw = w0rd
== users/demo.ini
[account]
authorizedroute = @corp
[routing]
route = @corp
";

fn corp(config: &str, address: &str, certified: bool, starttls: bool) -> (World, Sink) {
    let world = World::new(&format!("[rfmta]\ncafile = ca.pem\n{ONE}{CORP}{config}"));
    world.zone(&format!("smtp.corp.example. A {address}"));
    let stranger = TestCa::new();
    let ca = if certified { &world.ca } else { &stranger };
    let options = SinkOptions {
        hostname: "smtp.corp.example".into(),
        logins: vec![("shop@corp.example".into(), "w0rd".into())],
        needs_auth: true,
        tls: starttls.then(|| ca.server(&["smtp.corp.example"])),
        ..SinkOptions::default()
    };
    let sink = world.sink(format!("{address}:587").parse().unwrap(), options);
    (world, sink)
}

#[tokio::test(start_paused = true)]
async fn route_39_route_40_auth_before_mail_on_a_verified_session() {
    let (world, sink) = corp("", "198.51.100.30", true, true);
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    let session = sink.sessions().remove(0);
    assert_eq!(session.login.as_deref(), Some("shop@corp.example"));
    assert!(session.tls);
    let verbs: Vec<_> = session
        .commands
        .iter()
        .map(|c| c.split([' ', ':']).next().unwrap().to_owned())
        .collect();
    assert_eq!(
        verbs,
        ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA"]
    );
    assert!(
        world.settled()[0].attempts[0]
            .tls
            .clone()
            .unwrap()
            .ends_with(" verified by ca")
    );
}

#[tokio::test(start_paused = true)]
async fn route_41_t_13_no_password_without_tls_nor_to_a_stranger() {
    for (certified, starttls) in [(false, true), (true, false)] {
        let (world, sink) = corp("", "198.51.100.30", certified, starttls);
        let reply = world.relay("anna@example.org").await;
        assert!(reply.starts_with("451 9.3.2 X-SMTP-R-API "), "{reply}");
        assert!(
            sink.sessions()
                .iter()
                .all(|s| s.commands.iter().all(|c| !c.starts_with("AUTH")))
        );
        assert!(sink.attempts().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn route_41_verify_authclear_and_loopback_are_the_exceptions() {
    for (config, address, certified, starttls) in [
        (
            "== hosts/@corp.ini\n[dns]\nverify = 0\n",
            "198.51.100.30",
            false,
            true,
        ),
        (
            "== hosts/@corp.ini\n[dns]\nauthclear = 1\n",
            "198.51.100.30",
            true,
            false,
        ),
        ("", "127.0.0.1", true, false),
        ("", "127.0.0.1", false, true),
    ] {
        let (world, sink) = corp(config, address, certified, starttls);
        let reply = world.relay("anna@example.org").await;
        assert!(reply.starts_with("250 "), "{config} {address}: {reply}");
        assert_eq!(
            sink.messages()[0].login.as_deref(),
            Some("shop@corp.example")
        );
        assert_eq!(sink.messages()[0].tls, starttls);
    }
}

#[tokio::test(start_paused = true)]
async fn route_41_conf_77_port_465_is_encrypted_from_the_first_octet() {
    let world = World::new(&format!(
        "[rfmta]\ncafile = ca.pem\n{ONE}{CORP}== hosts/@corp.ini\n[dns]\nport = 465\n"
    ));
    world.zone("smtp.corp.example. A 198.51.100.30");
    let options = SinkOptions {
        logins: vec![("shop@corp.example".into(), "w0rd".into())],
        needs_auth: true,
        implicit_tls: true,
        tls: Some(world.ca.server(&["smtp.corp.example"])),
        ..SinkOptions::default()
    };
    let sink = world.sink("198.51.100.30:465".parse().unwrap(), options);
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert!(sink.messages()[0].tls);
    assert!(sink.sessions()[0].commands.iter().all(|c| c != "STARTTLS"));
}

#[tokio::test(start_paused = true)]
async fn route_42_relay_66_auth_refused_is_an_error_of_the_operator_and_no_bounce() {
    let (world, sink) = corp("", "198.51.100.30", true, true);
    sink.rule(Rule::at(Stage::Auth).reply("535 5.7.8 No such user"));
    world.reload("== hosts/@corp.ini\n[pattern]\nnouser = HARD(unknown) 5* no such user\n");
    assert_eq!(
        world.relay("anna@example.org").await,
        "451 9.3.2 X-SMTP-R-API login at smtp.corp.example was refused"
    );
    assert!(world.lists.list("rfhard").is_empty());
    let notes: Vec<_> = world
        .events
        .all()
        .into_iter()
        .filter_map(|r| {
            if let Recorded::Note(Module::RfMta, text) = r {
                Some(text)
            } else {
                None
            }
        })
        .filter(|text| text.starts_with("error: "))
        .filter(|text| text.starts_with("error: "))
        .collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("smtp.corp.example") && notes[0].contains("535 5.7.8"),
        "{notes:?}"
    );
    assert!(!notes[0].contains("w0rd"));
}

#[tokio::test(start_paused = true)]
async fn route_43_auth_that_is_not_offered_is_a_failure_of_the_route() {
    let (world, _) = corp("", "198.51.100.30", true, true);
    let tls = Some(world.ca.server(&["smtp.corp.example"]));
    let open = world.sink(
        "198.51.100.30:587".parse().unwrap(),
        SinkOptions {
            tls,
            ..Default::default()
        },
    );
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("451 9.3.2 X-SMTP-R-API "), "{reply}");
    assert!(
        open.attempts().is_empty(),
        "nothing is sent without the login"
    );
}

#[tokio::test(start_paused = true)]
async fn route_42_route_33_after_a_refused_login_the_next_host_is_tried() {
    let (world, sink) = corp(
        "== hosts/@spare.ini\n[dns]\nmx = smtp.spare.example\nport = 25\n== users/demo.ini\n[account]\n\
         authorizedroute = @corp @spare\n[routing]\nroute = @corp @spare\n",
        "198.51.100.30",
        true,
        true,
    );
    world.zone("smtp.spare.example. A 198.51.100.31");
    let spare = world.sink("198.51.100.31:25".parse().unwrap(), Default::default());
    sink.rule(Rule::at(Stage::Auth).reply("535 5.7.8 no"));
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!(spare.messages().len(), 1);
    assert_eq!(spare.sessions()[0].login, None);
}

#[tokio::test(start_paused = true)]
async fn route_38_a_relay_host_is_looked_up_by_address_and_all_addresses_are_tried() {
    let (world, sink) = corp(
        "== hosts/@corp.ini\n[dns]\nlogin =\npassw =\n",
        "198.51.100.30",
        true,
        true,
    );
    world.only_zone(
        "smtp.corp.example. MX 10 wrong.example.\nwrong.example. A 198.51.100.99\n\
         smtp.corp.example. A 198.51.100.29\nsmtp.corp.example. A 198.51.100.30",
    );
    sink.clear_rules();
    world.decide("198.51.100.29:587", Fate::Refuse);
    let reply = world.send(&["anna@example.org"], MESSAGE).await;
    assert!(
        reply.starts_with("530 5.7.0"),
        "the sink wants a login: {reply}"
    );
    assert_eq!(
        world.hops(),
        [
            "192.0.2.10 -> 198.51.100.29:587",
            "192.0.2.10 -> 198.51.100.30:587"
        ]
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn relay_42_relay_55_an_encrypted_session_is_for_one_name_of_the_remote() {
    let (world, mx) = world("");
    world.zone("second.example. MX 10 other.example.\nother.example. A 198.51.100.25");
    for to in [
        "anna@example.org",
        "anna@second.example",
        "bert@example.org",
    ] {
        assert!(world.relay(to).await.starts_with("250 "));
    }
    let sessions: Vec<usize> = mx.messages().iter().map(|m| m.session).collect();
    assert_eq!(sessions, [1, 2, 1]);
    assert!(mx.messages().iter().all(|message| message.tls));
}
