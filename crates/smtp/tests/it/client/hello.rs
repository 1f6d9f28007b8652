//! From the greeting to the first transaction, and QUIT.

use galerne_smtp::client::ClientAuth;

use super::*;

fn with_tls(starttls: StartTlsUse) -> ClientConfig {
    ClientConfig {
        starttls,
        ..config()
    }
}

fn with_login(tls_active: bool, auth_in_clear: bool) -> ClientConfig {
    let auth = Some(ClientAuth {
        login: "shop".into(),
        password: "secret".into(),
    });
    ClientConfig {
        tls_active,
        auth,
        auth_in_clear,
        ..config()
    }
}

#[test]
fn says_ehlo_and_is_ready() {
    let mut play = Play::ready(FULL);
    assert!(play.session.capabilities().pipelining);
    assert_eq!(
        play.session.greeting().unwrap().lines().next().unwrap(),
        b"mx.example.org ESMTP"
    );
    assert_eq!(play.poll(), ClientEvent::Ready);
    play.session.quit(&mut play.out);
    assert_eq!(play.sent(), "QUIT\r\n");
    assert_eq!(play.poll(), ClientEvent::NeedInput);
    let (stage, answer, _) = play.failed_after("221 bye\r\n");
    assert_eq!((stage, answer), (Stage::Quit, reply(221, "bye")));
}

#[test]
fn t_47_relay_61_a_greeting_other_than_220_is_told_as_such() {
    for (line, code) in [
        ("554 no mail here\r\n", 554),
        ("521 no mail here\r\n", 521),
        ("421 no mail here\r\n", 421),
    ] {
        let mut play = Play::new(config());
        assert_eq!(play.poll(), ClientEvent::NeedInput);
        let (stage, answer, kind) = play.failed_after(line);
        assert_eq!((stage, kind), (Stage::Connect, FailureKind::Greeting));
        assert_eq!(answer, reply(code, "no mail here"));
        // It stays so, and a refused client takes its leave; after 421 nobody listens.
        assert_eq!(play.failed().1, answer);
        play.session.quit(&mut play.out);
        assert_eq!(play.sent(), if code == 421 { "" } else { "QUIT\r\n" });
    }
    for line in [
        "250 hello\r\n",
        "354 go\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
    ] {
        let (stage, answer, kind) = Play::new(config()).failed_after(line);
        assert_eq!((stage, kind), (Stage::Connect, FailureKind::Greeting));
        assert!(is_malformed(&answer), "{answer:?}");
    }
}

#[test]
fn t_41_relay_61_a_connection_that_ends_says_at_which_step() {
    let end = |play: &mut Play, expected: Stage| {
        play.session.lost("connection closed by the remote");
        let (stage, answer, kind) = play.failed();
        assert_eq!((stage, kind), (expected, FailureKind::Lost));
        assert_eq!(
            answer,
            RemoteAnswer::Lost("connection closed by the remote".into())
        );
        play.session.quit(&mut play.out);
        assert_eq!(play.sent(), "");
    };
    end(&mut Play::new(config()), Stage::Connect);
    let mut play = Play::new(config());
    play.hears("220 half a gree");
    end(&mut play, Stage::Connect);
    let mut play = Play::new(config());
    play.greeted();
    end(&mut play, Stage::Ehlo);
    let mut play = Play::new(with_tls(StartTlsUse::Required));
    play.greeted();
    play.step("250-mx\r\n250 STARTTLS\r\n", "STARTTLS\r\n");
    end(&mut play, Stage::StartTls);
    let mut play = Play::new(with_login(true, false));
    play.greeted();
    play.step("250-mx\r\n250 AUTH LOGIN\r\n", "AUTH LOGIN\r\n");
    end(&mut play, Stage::Auth);
}

#[test]
fn what_came_before_the_end_is_heard() {
    let mut play = Play::new(config());
    play.hears("554 5.7.1 go away\r\n");
    play.session.lost("connection closed by the remote");
    assert_eq!(play.failed().1, reply(554, "5.7.1 go away"));
}

#[test]
fn relay_61_ehlo_refused_falls_back_to_helo_only_where_nothing_is_needed() {
    let mut play = Play::new(config());
    play.greeted();
    play.step("500 what?\r\n", "HELO mta1.example.net\r\n");
    play.hears("250 mx.example.org\r\n");
    assert_eq!(play.poll(), ClientEvent::Ready);
    assert!(!play.session.capabilities().pipelining);

    for (config, line, code) in [
        (with_tls(StartTlsUse::Required), "500 x\r\n", 500),
        (with_login(true, false), "502 x\r\n", 502),
        (config(), "421 x\r\n", 421),
        (config(), "451 x\r\n", 451),
        (config(), "554 x\r\n", 554),
    ] {
        let mut play = Play::new(config);
        play.greeted();
        let (stage, answer, kind) = play.failed_after(line);
        assert_eq!(
            (stage, answer, kind),
            (Stage::Ehlo, reply(code, "x"), FailureKind::Ehlo)
        );
    }
    let mut play = Play::new(config());
    play.greeted();
    play.step("500 what?\r\n", "HELO mta1.example.net\r\n");
    let (stage, answer, kind) = play.failed_after("550 who?\r\n");
    assert_eq!(
        (stage, answer, kind),
        (Stage::Ehlo, reply(550, "who?"), FailureKind::Ehlo)
    );
}

#[test]
fn t_11_what_was_said_in_clear_is_forgotten_after_starttls() {
    let mut play = Play::new(with_tls(StartTlsUse::IfOffered));
    play.greeted();
    play.step(
        "250-mx\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n",
        "STARTTLS\r\n",
    );
    // A reply to EHLO injected behind the 220, in the same segment and in the next.
    play.hears("220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n");
    assert_eq!(play.poll(), ClientEvent::StartTls);
    play.hears("250 CHUNKING\r\n");
    assert_eq!(play.poll(), ClientEvent::StartTls);
    play.session.tls_established();
    assert!(!play.session.capabilities().pipelining && play.session.capabilities().auth.is_empty());
    play.step("", "EHLO mta1.example.net\r\n");
    play.step("", "");
    // STARTTLS offered again under TLS is not asked for again.
    play.hears("250-mx\r\n250-STARTTLS\r\n250 DSN\r\n");
    assert_eq!(play.poll(), ClientEvent::Ready);
    let offers = play.session.capabilities();
    assert!(offers.dsn && !offers.chunking && !offers.pipelining && offers.auth.is_empty());
}

#[test]
fn starttls_is_used_as_wanted() {
    let offer = "250-mx\r\n250 STARTTLS\r\n";
    let mut play = Play::new(with_tls(StartTlsUse::Never));
    play.greeted();
    play.hears(offer);
    assert_eq!(play.poll(), ClientEvent::Ready);

    let mut play = Play::new(with_tls(StartTlsUse::IfOffered));
    play.greeted();
    play.hears(BARE);
    assert_eq!(play.poll(), ClientEvent::Ready);

    let mut play = Play::new(with_tls(StartTlsUse::Required));
    play.greeted();
    let (stage, answer, kind) = play.failed_after(BARE);
    assert_eq!(
        (stage, kind),
        (Stage::StartTls, FailureKind::TlsUnavailable)
    );
    assert!(is_lost(&answer));

    for starttls in [StartTlsUse::IfOffered, StartTlsUse::Required] {
        let mut play = Play::new(with_tls(starttls));
        play.greeted();
        play.step(offer, "STARTTLS\r\n");
        let (stage, answer, kind) = play.failed_after("454 4.7.0 not now\r\n");
        assert_eq!((stage, kind), (Stage::StartTls, FailureKind::TlsRefused));
        assert_eq!(answer, reply(454, "4.7.0 not now"));
    }
}

#[test]
fn route_39_route_40_logs_in_before_the_first_mail() {
    let mut play = Play::new(with_login(true, false));
    play.greeted();
    play.step(
        "250-mx\r\n250 AUTH LOGIN PLAIN\r\n",
        "AUTH PLAIN AHNob3AAc2VjcmV0\r\n",
    );
    play.hears("235 2.7.0 welcome\r\n");
    assert_eq!(play.poll(), ClientEvent::Ready);

    let mut play = Play::new(with_login(true, false));
    play.greeted();
    play.step("250-mx\r\n250 AUTH LOGIN\r\n", "AUTH LOGIN\r\n");
    play.step("334 VXNlcm5hbWU6\r\n", "c2hvcA==\r\n");
    play.step("334 UGFzc3dvcmQ6\r\n", "c2VjcmV0\r\n");
    play.hears("235 2.7.0 welcome\r\n");
    assert_eq!(play.poll(), ClientEvent::Ready);

    let mut play = Play::new(with_login(false, false));
    play.greeted();
    play.step("250-mx\r\n250 AUTH PLAIN CRAM-MD5\r\n", "AUTH CRAM-MD5\r\n");
    play.hears("334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n");
    assert_eq!(play.poll(), ClientEvent::NeedInput);
    let answer = play.sent();
    assert!(
        answer.ends_with("\r\n") && answer.len() > 40 && !answer.contains("c2VjcmV0"),
        "{answer}"
    );
    play.hears("235 2.7.0 welcome\r\n");
    assert_eq!(play.poll(), ClientEvent::Ready);
}

#[test]
fn t_13_route_41_no_password_goes_in_clear() {
    let offer = "250-mx\r\n250 AUTH LOGIN PLAIN\r\n";
    let mut play = Play::new(with_login(false, false));
    play.greeted();
    let (stage, answer, kind) = play.failed_after(offer);
    assert_eq!((stage, kind), (Stage::Auth, FailureKind::AuthNeedsTls));
    assert!(is_lost(&answer));
    assert_eq!(play.sent(), "");

    // Allowed, to loopback or by configuration.
    let mut play = Play::new(with_login(false, true));
    play.greeted();
    play.step(offer, "AUTH PLAIN AHNob3AAc2VjcmV0\r\n");

    // Offered before TLS: TLS first, whatever is allowed.
    let config = ClientConfig {
        starttls: StartTlsUse::IfOffered,
        ..with_login(false, true)
    };
    let mut play = Play::new(config);
    play.greeted();
    play.step(
        "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
        "STARTTLS\r\n",
    );
    play.hears("220 go\r\n");
    assert_eq!(play.poll(), ClientEvent::StartTls);
    play.session.tls_established();
    play.step("", "EHLO mta1.example.net\r\n");
    play.step(
        "250-mx\r\n250 AUTH PLAIN\r\n",
        "AUTH PLAIN AHNob3AAc2VjcmV0\r\n",
    );
}

#[test]
fn route_43_a_login_without_a_mechanism_is_a_failure() {
    for offer in [
        BARE,
        "250-mx\r\n250 AUTH GSSAPI XOAUTH2\r\n",
        "250-mx\r\n250 AUTH\r\n",
    ] {
        let mut play = Play::new(with_login(true, true));
        play.greeted();
        let (stage, answer, kind) = play.failed_after(offer);
        assert_eq!((stage, kind), (Stage::Auth, FailureKind::AuthNotOffered));
        assert!(is_lost(&answer));
        assert_eq!(play.sent(), "");
    }
}

#[test]
fn route_42_a_refused_login_is_told_as_such() {
    for line in [
        "535 5.7.8 no\r\n",
        "454 4.7.0 no\r\n",
        "334 again\r\n",
        "354 go\r\n",
        "235x\r\n",
    ] {
        let mut play = Play::new(with_login(true, false));
        play.greeted();
        play.step(
            "250-mx\r\n250 AUTH PLAIN\r\n",
            "AUTH PLAIN AHNob3AAc2VjcmV0\r\n",
        );
        let (stage, answer, kind) = play.failed_after(line);
        assert_eq!((stage, kind), (Stage::Auth, FailureKind::Auth), "{line}");
        assert_eq!(is_malformed(&answer), !line.contains("7."), "{line}");
        assert_eq!(play.sent(), "");
    }
}
