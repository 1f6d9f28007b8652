//! Remotes that misbehave, and content that would.

use super::*;

/// In the middle of a transaction with two recipients, at this step.
fn at(step: Stage) -> Play {
    let mut play = Play::ready(FULL);
    play.session
        .start(transaction(&["a@x.example", "b@x.example"]));
    assert_eq!(play.poll(), ClientEvent::NeedInput);
    let replies = match step {
        Stage::Mail => "",
        Stage::Rcpt => "250 m\r\n",
        Stage::Data => "250 m\r\n250 a\r\n250 b\r\n",
        _ => {
            play.sent();
            play.content_after("250 m\r\n250 a\r\n250 b\r\n354 d\r\n");
            play.send_content("text\r\n");
            ""
        }
    };
    play.hears(replies);
    assert_eq!(play.poll(), ClientEvent::NeedInput);
    assert_eq!(play.session.stage(), step);
    play
}

const STEPS: [Stage; 4] = [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];

#[test]
fn t_41_relay_61_the_end_of_the_connection_is_classified_at_each_step() {
    for step in STEPS {
        let mut play = at(step);
        play.hears("250 half a repl");
        play.session.lost("timed out after 660 s");
        let result = play.finished();
        let lost = RemoteAnswer::Lost("timed out after 660 s".into());
        assert_eq!(result.recipients, [(step, lost.clone()), (step, lost)]);
        assert_eq!(
            result.dot_sent,
            step == Stage::Dot,
            "unknown only after the dot"
        );
        assert!(!result.usable);
        play.sent();
        play.session.quit(&mut play.out);
        assert_eq!(play.sent(), "");
    }
}

#[test]
fn t_41_content_that_was_cut_off_gets_no_dot() {
    let mut play = Play::ready(FULL);
    play.start(transaction(&["a@x.example"]));
    play.content_after("250 m\r\n250 a\r\n354 d\r\n");
    play.session.content(b"half", &mut play.out);
    play.session.lost("connection reset");
    play.session.content(b"more\r\n", &mut play.out);
    play.session.content_end(&mut play.out);
    assert_eq!(play.sent(), "half");
    let result = play.finished();
    assert_eq!(
        result.recipients,
        [(Stage::Data, RemoteAnswer::Lost("connection reset".into()))]
    );
    assert!(!result.dot_sent && !result.usable);
    play.session.quit(&mut play.out);
    assert_eq!(play.sent(), "", "QUIT would be content");
}

#[test]
fn t_41_a_refusal_in_the_middle_of_the_content_is_heard() {
    let mut play = Play::ready(FULL);
    play.start(transaction(&["a@x.example"]));
    play.content_after("250 m\r\n250 a\r\n354 d\r\n");
    play.session.content(b"half", &mut play.out);
    play.hears("552 5.3.4 too big\r\n");
    play.session.lost("connection reset");
    play.session.content_end(&mut play.out);
    let result = play.finished();
    assert_eq!(
        result.recipients,
        [(Stage::Data, reply(552, "5.3.4 too big"))]
    );
    assert!(!result.dot_sent && !result.usable);
}

#[test]
fn relay_74_421_at_any_step_ends_the_session() {
    for step in STEPS {
        let mut play = at(step);
        let result = play.finished_after("421 4.3.2 closing\r\n");
        let closing = (step, reply(421, "4.3.2 closing"));
        assert_eq!(result.recipients, [closing.clone(), closing]);
        assert!(!result.usable);
    }
}

#[test]
fn t_46_relay_74_what_cannot_stand_at_a_step_is_malformed() {
    for step in STEPS {
        let wrong: &[&str] = match step {
            Stage::Data => &[
                "250 ok\r\n",
                "garbage\r\n",
                "000 ok\r\n",
                "354-go\r\n250 ok\r\n",
            ],
            _ => &[
                "354 go\r\n",
                "garbage\r\n",
                "000 ok\r\n",
                "250-a\r\n550 b\r\n",
                "250\tok\r\n",
                "\x00\x00\r\n",
            ],
        };
        for line in wrong {
            let mut play = at(step);
            let result = play.finished_after(line);
            for (stage, answer) in &result.recipients {
                assert_eq!(*stage, step);
                let RemoteAnswer::Malformed(text) = answer else {
                    panic!("{line:?} at {step:?}: {answer:?}")
                };
                assert!(
                    text.bytes().all(|b| matches!(b, b' '..=b'~')) && text.len() < 1000,
                    "{text}"
                );
            }
            assert!(!result.usable);
            assert_eq!(result.dot_sent, step == Stage::Dot);
        }
    }
}

#[test]
fn t_46_endless_replies_end() {
    for piece in ["250-and so on\r\n".repeat(1000), "x".repeat(15_000)] {
        for step in STEPS {
            let mut play = at(step);
            let mut fed = 0;
            let result = loop {
                play.hears(&piece);
                fed += piece.len();
                assert!(fed < 2 << 20, "never ends");
                match play.poll() {
                    ClientEvent::NeedInput => {}
                    ClientEvent::Finished(result) => break result,
                    other => panic!("{other:?}"),
                }
            };
            assert!(
                result
                    .recipients
                    .iter()
                    .all(|(_, answer)| is_malformed(answer))
                    && !result.usable
            );
        }
    }
}

#[test]
fn t_46_long_replies_are_taken_and_cut() {
    let mut play = at(Stage::Dot);
    play.hears(&"550-no\r\n".repeat(10_000));
    let result = play.finished_after(&format!("550 {}\r\n", "y".repeat(10_000)));
    let RemoteAnswer::Reply(reply) = &result.recipients[0].1 else {
        panic!()
    };
    assert_eq!(reply.code(), 550);
    assert!(reply.lines().count() <= 128 && reply.text().len() < 128 * 2048);
    assert!(result.usable);
}

#[test]
fn t_11_a_reply_too_many_never_becomes_the_answer_to_the_dot() {
    // 250 behind the 354, before the content was sent: not the remote's word on the message.
    for early in ["250 taken\r\n", "250 ta"] {
        let mut play = Play::ready(FULL);
        play.start(transaction(&["a@x.example"]));
        play.content_after("250 m\r\n250 a\r\n354 d\r\n");
        play.hears(early);
        play.session.content(b"text\r\n", &mut play.out);
        play.session.content_end(&mut play.out);
        let result = play.finished_after("ken\r\n550 refused\r\n");
        assert!(
            is_malformed(&result.recipients[0].1),
            "{early:?}: {result:?}"
        );
        assert!(!result.usable);
    }
    let mut play = Play::ready(FULL);
    play.start(transaction(&["a@x.example"]));
    let result = play.finished_after("250 m\r\n250 a\r\n354 d\r\n250 taken\r\n");
    assert!(is_malformed(&result.recipients[0].1) && !result.dot_sent && !result.usable);
}

#[test]
fn t_11_more_replies_than_commands_end_the_session() {
    let mut play = Play::new(config());
    play.hears("220 mx\r\n250 mx\r\n");
    assert_eq!(play.poll(), ClientEvent::Greeted);
    let (stage, answer, kind) = play.failed();
    assert_eq!((stage, kind), (Stage::Connect, FailureKind::Ehlo));
    assert!(is_malformed(&answer));
    assert_eq!(play.sent(), "");

    let mut play = Play::new(ClientConfig {
        starttls: StartTlsUse::Required,
        ..config()
    });
    play.greeted();
    let (_, answer, kind) = play.failed_after("250-mx\r\n250 STARTTLS\r\n220 go\r\n");
    assert_eq!(kind, FailureKind::Ehlo);
    assert!(is_malformed(&answer));
}

#[test]
fn t_05_nothing_is_injected_by_parameters_or_names() {
    let mut play = Play::ready(FULL);
    let mut evil = transaction(&["a@x.example"]);
    evil.envid = Some("x\r\nRCPT TO:<evil@x.example>\0".into());
    evil.ret = Some("FULL\r\nRSET");
    evil.recipients[0].notify = Some("NEVER\r\nRCPT TO:<evil@x.example>".into());
    evil.recipients[0].orcpt = Some("rfc822;x\r\nRCPT TO:<evil@x.example>".into());
    play.session.start(evil);
    play.poll();
    let sent = play.sent();
    assert_eq!(sent.matches("\r\n").count(), 3, "{sent:?}");
    assert!(
        sent.split("\r\n")
            .all(|line| !line.contains(['\r', '\n', '\0'])),
        "{sent:?}"
    );
    assert_eq!(sent.matches("RCPT TO:").count(), 1, "{sent:?}");

    let evil = ClientConfig {
        ehlo: "x\r\nMAIL FROM:<evil@x.example>".into(),
        ..config()
    };
    let mut play = Play::new(evil);
    play.hears("220 mx\r\n");
    play.poll();
    play.poll();
    assert_eq!(play.sent(), "EHLO xMAILFROM:<evil@x.example>\r\n");
}

#[test]
fn t_02_content_with_bare_line_ends_cannot_end_the_data() {
    for smuggler in [
        "\n.\n",
        "\n.\r\n",
        "\r.\r",
        "\r\n.\n",
        "\r\n.\r",
        "\n.\rMAIL",
    ] {
        let mut play = Play::ready(FULL);
        play.start(transaction(&["a@x.example"]));
        play.content_after("250 m\r\n250 a\r\n354 d\r\n");
        for octet in ["body", smuggler, "MAIL FROM:<evil@x.example>\r\n"]
            .concat()
            .bytes()
        {
            play.session.content(&[octet], &mut play.out);
        }
        play.session.content_end(&mut play.out);
        let sent = play.sent();
        let (body, end) = sent.split_at(sent.len() - 3);
        assert_eq!(end, ".\r\n");
        assert!(
            !body.split(['\r', '\n']).any(|line| line == "."),
            "{sent:?}"
        );
        assert_eq!(body.matches('\n').count(), body.matches("\r\n").count());
        assert_eq!(body.matches('\r').count(), body.matches("\r\n").count());
    }
}
