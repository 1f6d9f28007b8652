//! Transactions as they should go, and every refusal.

use galerne_smtp::client::LocalRefusal;

use super::*;

const MAIL: &str = "MAIL FROM:<news@shop.example> SIZE=11\r\n";
const ONE: &[&str] = &["a@x.example"];
const TWO: &[&str] = &["a@x.example", "b@x.example"];

#[test]
fn one_flight_with_pipelining() {
    let mut play = Play::ready(FULL);
    let rcpt = "RCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n";
    play.begin(transaction(TWO), &format!("{MAIL}{rcpt}"));
    assert!(!play.session.mail_accepted());
    play.step("250 sender ok\r\n250 a ok\r\n", "");
    assert!(play.session.mail_accepted());
    play.content_after("250 b ok\r\n354 go\r\n");
    play.send_content("x: y\r\n\r\n.z");
    assert_eq!(play.sent(), "x: y\r\n\r\n..z\r\n.\r\n");
    assert_eq!(play.session.stage(), Stage::Dot);
    let result = play.finished_after("250 2.0.0 taken\r\n");
    let taken = (Stage::Dot, reply(250, "2.0.0 taken"));
    assert_eq!(result.recipients, [taken.clone(), taken]);
    assert!(result.dot_sent && result.usable && result.local.is_none());

    // And another one.
    play.begin(
        transaction(ONE),
        &format!("{MAIL}RCPT TO:<a@x.example>\r\nDATA\r\n"),
    );
    assert!(!play.session.mail_accepted());
    play.content_after("250 ok\r\n250 ok\r\n354 go\r\n");
    play.send_content("");
    assert_eq!(play.sent(), ".\r\n");
    assert!(play.finished_after("250 ok\r\n").usable);
    assert_eq!(play.poll(), ClientEvent::Ready);
}

#[test]
fn one_by_one_without_pipelining() {
    let mut play = Play::ready(BARE);
    play.begin(transaction(TWO), "MAIL FROM:<news@shop.example>\r\n");
    play.step("250 ok\r\n", "RCPT TO:<a@x.example>\r\n");
    play.step("550 5.1.1 no\r\n", "RCPT TO:<b@x.example>\r\n");
    play.step("250 ok\r\n", "DATA\r\n");
    play.content_after("354 go\r\n");
    play.send_content("text\r\n");
    assert_eq!(play.sent(), "text\r\n.\r\n");
    let result = play.finished_after("251 ok\r\n");
    assert_eq!(
        result.recipients,
        [
            (Stage::Rcpt, reply(550, "5.1.1 no")),
            (Stage::Dot, reply(251, "ok"))
        ]
    );
    assert!(result.usable);
}

#[test]
fn relay_61_every_refusal_says_its_step() {
    // Replies to MAIL, RCPT, RCPT, DATA in one flight: who decided for each recipient.
    let cases = [
        (
            "550 m\r\n503 r\r\n503 r\r\n503 d\r\n",
            [(Stage::Mail, 550, "m"), (Stage::Mail, 550, "m")],
        ),
        (
            "451 m\r\n503 r\r\n503 r\r\n503 d\r\n",
            [(Stage::Mail, 451, "m"), (Stage::Mail, 451, "m")],
        ),
        (
            "250 m\r\n550 a\r\n450 b\r\n554 d\r\n",
            [(Stage::Rcpt, 550, "a"), (Stage::Rcpt, 450, "b")],
        ),
        (
            "250 m\r\n250 a\r\n452 b\r\n451 d\r\n",
            [(Stage::Data, 451, "d"), (Stage::Rcpt, 452, "b")],
        ),
        (
            "250 m\r\n250 a\r\n250 b\r\n554 d\r\n",
            [(Stage::Data, 554, "d"), (Stage::Data, 554, "d")],
        ),
    ];
    for (replies, expected) in cases {
        let mut play = Play::ready(FULL);
        play.start(transaction(TWO));
        let result = play.finished_after(replies);
        let expected = expected.map(|(stage, code, text)| (stage, reply(code, text)));
        assert_eq!(result.recipients, expected, "{replies}");
        assert!(!result.dot_sent && result.usable, "{replies}");
        play.sent();
        // What is open at the remote is closed before the next.
        let reset = if replies.starts_with("250") {
            "RSET\r\n"
        } else {
            ""
        };
        play.begin(
            transaction(ONE),
            &format!("{reset}{MAIL}RCPT TO:<a@x.example>\r\nDATA\r\n"),
        );
        if !reset.is_empty() {
            play.step("250 reset\r\n", "");
        }
        play.content_after("250 m\r\n250 a\r\n354 d\r\n");
    }
}

#[test]
fn a_452_leaves_the_other_recipients() {
    let mut play = Play::ready(FULL);
    play.session
        .start(transaction(&["a@x.example", "b@x.example", "c@x.example"]));
    play.poll();
    play.sent();
    play.content_after("250 m\r\n250 a\r\n452 4.5.3 too many\r\n250 c\r\n354 d\r\n");
    play.send_content("text\r\n");
    let result = play.finished_after("250 taken\r\n");
    let taken = (Stage::Dot, reply(250, "taken"));
    assert_eq!(
        result.recipients,
        [
            taken.clone(),
            (Stage::Rcpt, reply(452, "4.5.3 too many")),
            taken
        ]
    );
}

#[test]
fn refusals_without_pipelining_need_a_reset_only_after_mail() {
    let mut play = Play::ready(BARE);
    play.begin(transaction(ONE), "MAIL FROM:<news@shop.example>\r\n");
    let result = play.finished_after("550 m\r\n");
    assert_eq!(result.recipients, [(Stage::Mail, reply(550, "m"))]);
    play.begin(transaction(ONE), "MAIL FROM:<news@shop.example>\r\n");
    play.step("250 m\r\n", "RCPT TO:<a@x.example>\r\n");
    let result = play.finished_after("550 r\r\n");
    assert_eq!(result.recipients, [(Stage::Rcpt, reply(550, "r"))]);
    assert!(result.usable);
    play.begin(transaction(ONE), "RSET\r\n");
    play.step("250 reset\r\n", "MAIL FROM:<news@shop.example>\r\n");
    play.step("250 m\r\n", "RCPT TO:<a@x.example>\r\n");
    play.step("250 r\r\n", "DATA\r\n");
}

#[test]
fn data_accepted_for_nobody_gets_a_lone_dot() {
    for replies in ["250 m\r\n550 a\r\n354 d\r\n", "550 m\r\n503 a\r\n354 d\r\n"] {
        let mut play = Play::ready(FULL);
        play.start(transaction(ONE));
        play.step(replies, ".\r\n");
        let result = play.finished_after("250 thanks for nothing\r\n");
        assert!(
            matches!(&result.recipients[..], [(_, RemoteAnswer::Reply(reply))] if reply.code() == 550)
        );
        assert!(!result.dot_sent && result.usable);
        play.begin(
            transaction(ONE),
            &format!("{MAIL}RCPT TO:<a@x.example>\r\nDATA\r\n"),
        );
    }
}

#[test]
fn relay_42_a_session_that_ends_before_mail_was_accepted_can_be_told() {
    // Closed while idle, 421 while idle, closed or 421 as the answer to MAIL.
    let mut play = Play::ready(FULL);
    play.session.lost("connection closed by the remote");
    play.session.start(transaction(ONE));
    let result = play.finished();
    assert_eq!(
        result.recipients,
        [(
            Stage::Mail,
            RemoteAnswer::Lost("connection closed by the remote".into())
        )]
    );
    assert!(!result.usable && !play.session.mail_accepted());
    assert_eq!(play.sent(), "");

    let mut play = Play::ready(FULL);
    play.hears("421 4.4.2 idle too long\r\n");
    play.session.start(transaction(ONE));
    let result = play.finished();
    assert_eq!(
        result.recipients,
        [(Stage::Mail, reply(421, "4.4.2 idle too long"))]
    );
    assert!(!result.usable && !play.session.mail_accepted());

    for ehlo in [FULL, BARE] {
        for (hears, accepted) in [("", false), ("421 bye\r\n", false), ("250 ok\r\n", true)] {
            let mut play = Play::ready(ehlo);
            play.session.start(transaction(ONE));
            assert_eq!(play.poll(), ClientEvent::NeedInput);
            play.hears(hears);
            play.session.lost("connection reset");
            let result = play.finished();
            let (stage, answer) = &result.recipients[0];
            assert_eq!(*stage, if accepted { Stage::Rcpt } else { Stage::Mail });
            assert_eq!(is_lost(answer), hears != "421 bye\r\n");
            assert!(!result.usable && !result.dot_sent);
            assert_eq!(play.session.mail_accepted(), accepted);
        }
    }
    // The 421 of a reset before it counts alike.
    let mut play = Play::ready(FULL);
    play.start(transaction(ONE));
    assert!(play.finished_after("250 m\r\n550 a\r\n503 d\r\n").usable);
    play.start(transaction(ONE));
    let result = play.finished_after("421 bye\r\n");
    assert_eq!(result.recipients, [(Stage::Rset, reply(421, "bye"))]);
    assert!(!result.usable && !play.session.mail_accepted());
}

#[test]
fn an_idle_session_that_hears_something_is_over() {
    for line in ["250 hello?\r\n", "421 bye\r\n", "2"] {
        let mut play = Play::ready(FULL);
        play.hears(line);
        let (_, answer, kind) = play.failed();
        assert_eq!(kind, FailureKind::Lost);
        assert_eq!(answer == reply(421, "bye"), line.starts_with("421"));
        play.session.start(transaction(ONE));
        assert!(!play.finished().usable);
    }
    // More than was asked for: the answers are good, the session is not.
    let mut play = Play::ready(FULL);
    play.start(transaction(ONE));
    let result = play.finished_after("550 m\r\n503 a\r\n503 d\r\n250 more\r\n");
    assert_eq!(result.recipients, [(Stage::Mail, reply(550, "m"))]);
    assert!(!result.usable);
}

#[test]
fn limits_of_mails_per_session_are_kept() {
    let mut play = Play::ready("250-mx\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=2\r\n");
    for usable in [true, false] {
        play.start(transaction(ONE));
        play.content_after("250 m\r\n250 a\r\n354 d\r\n");
        play.send_content("x\r\n");
        assert_eq!(play.finished_after("250 ok\r\n").usable, usable);
    }
    play.sent();
    play.session.quit(&mut play.out);
    assert_eq!(play.sent(), "QUIT\r\n");
}

#[test]
fn t_48_relay_28_parameters_are_sent_only_where_offered() {
    let full = || {
        let mut transaction = transaction(&["jürgen@x.example"]);
        transaction.sender = ReversePath::Null;
        (
            transaction.eight_bit,
            transaction.smtputf8,
            transaction.size,
        ) = (true, true, 4096);
        (transaction.ret, transaction.envid) = (Some("HDRS"), Some("id+1 x".into()));
        transaction.recipients[0].notify = Some("SUCCESS,FAILURE".into());
        transaction.recipients[0].orcpt = Some("rfc822;a+b@x.example".into());
        transaction
    };
    let mut play = Play::ready(FULL);
    play.begin(
        full(),
        "MAIL FROM:<> SIZE=4096 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+2B1+20x\r\n\
         RCPT TO:<jürgen@x.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@x.example\r\nDATA\r\n",
    );

    // 8-bit content is sent as it is.
    let mut play = Play::ready(BARE);
    let mut plain = full();
    plain.smtputf8 = false;
    plain.recipients[0].mailbox = mailbox("a@x.example");
    play.begin(plain, "MAIL FROM:<>\r\n");
    play.step("250 m\r\n", "RCPT TO:<a@x.example>\r\n");
    play.step("250 r\r\n", "DATA\r\n");
    play.content_after("354 d\r\n");
    play.session.content(b"caf\xe9\r\n", &mut play.out);
    play.session.content_end(&mut play.out);
    assert_eq!(play.out, b"caf\xe9\r\n.\r\n");
}

#[test]
fn t_48_relay_28_smtputf8_that_is_not_offered_is_refused_without_asking() {
    let asked = |mut transaction: Transaction, smtputf8| {
        transaction.smtputf8 = smtputf8;
        transaction
    };
    let mut from = transaction(ONE);
    from.sender = ReversePath::Mailbox(mailbox("jürgen@x.example"));
    for transaction in [
        asked(transaction(TWO), true),
        asked(transaction(&["jürgen@x.example"]), false),
        from,
    ] {
        let mut play = Play::ready("250-mx\r\n250 PIPELINING\r\n");
        let recipients = transaction.recipients.len();
        play.session.start(transaction);
        let result = play.finished();
        assert_eq!(result.recipients.len(), recipients);
        for (stage, answer) in &result.recipients {
            let RemoteAnswer::Reply(reply) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!((*stage, reply.code()), (Stage::Mail, 550));
            assert_eq!(reply.enhanced().unwrap().to_string(), "5.6.7");
        }
        assert_eq!(result.local, Some(LocalRefusal::SmtpUtf8NotOffered));
        assert!(result.usable && !result.dot_sent);
        assert_eq!(play.sent(), "", "the remote was bothered");
    }
}

fn chunked() -> Transaction {
    Transaction {
        chunking: Chunking::Bdat,
        ..transaction(ONE)
    }
}

#[test]
fn relay_18_bare_line_ends_leave_by_bdat_unchanged() {
    let mut play = Play::ready(FULL);
    play.begin(chunked(), &format!("{MAIL}RCPT TO:<a@x.example>\r\n"));
    play.content_after("250 m\r\n250 a\r\n");
    play.session.content(b"a\nb\r", &mut play.out);
    play.session.content(b"", &mut play.out);
    play.session.content(b"\n.\nc", &mut play.out);
    assert_eq!(play.poll(), ClientEvent::SendContent);
    play.session.content_end(&mut play.out);
    assert_eq!(
        play.sent(),
        "BDAT 4\r\na\nb\rBDAT 4\r\n\n.\ncBDAT 0 LAST\r\n"
    );
    assert_eq!(play.session.stage(), Stage::Dot);
    play.step("250 4 octets\r\n250 4 octets\r\n", "");
    let result = play.finished_after("250 taken\r\n");
    assert_eq!(result.recipients, [(Stage::Dot, reply(250, "taken"))]);
    assert!(result.dot_sent && result.usable);
}

#[test]
fn bdat_without_pipelining_waits_for_each_reply() {
    let mut play = Play::ready("250-mx\r\n250 CHUNKING\r\n");
    play.begin(chunked(), "MAIL FROM:<news@shop.example>\r\n");
    play.step("250 m\r\n", "RCPT TO:<a@x.example>\r\n");
    play.content_after("250 a\r\n");
    for piece in ["one", "two", "three"] {
        play.session.content(piece.as_bytes(), &mut play.out);
    }
    play.session.content_end(&mut play.out);
    assert_eq!(play.sent(), "BDAT 3\r\none");
    play.step("250 ok\r\n", "BDAT 8 LAST\r\ntwothree");
    let result = play.finished_after("250 taken\r\n");
    assert_eq!(result.recipients, [(Stage::Dot, reply(250, "taken"))]);
    assert!(result.dot_sent && result.usable);
}

#[test]
fn a_refused_chunk_ends_the_transaction() {
    let mut play = Play::ready(FULL);
    play.start(chunked());
    play.content_after("250 m\r\n250 a\r\n");
    play.session.content(b"one", &mut play.out);
    let result = play.finished_after("552 5.3.4 too big\r\n");
    assert_eq!(
        result.recipients,
        [(Stage::Data, reply(552, "5.3.4 too big"))]
    );
    assert!(!result.dot_sent && result.usable);
    play.sent();
    play.begin(
        chunked(),
        &format!("RSET\r\n{MAIL}RCPT TO:<a@x.example>\r\n"),
    );

    // With chunks under way nobody knows which reply is which.
    play.content_after("250 reset\r\n250 m\r\n250 a\r\n");
    play.session.content(b"one", &mut play.out);
    play.session.content(b"two", &mut play.out);
    play.session.content_end(&mut play.out);
    let result = play.finished_after("552 5.3.4 too big\r\n");
    assert_eq!(
        result.recipients,
        [(Stage::Data, reply(552, "5.3.4 too big"))]
    );
    assert!(!result.usable);
}

#[test]
fn relay_18_without_chunking_the_remote_is_not_asked() {
    let mut play = Play::ready("250-mx\r\n250 PIPELINING\r\n");
    play.session.start(chunked());
    let result = play.finished();
    assert_eq!(result.local, Some(LocalRefusal::ChunkingNotOffered));
    let RemoteAnswer::Reply(reply) = &result.recipients[0].1 else {
        panic!()
    };
    assert_eq!(
        (reply.code(), reply.enhanced().unwrap().to_string().as_str()),
        (451, "9.0.3")
    );
    assert!(result.usable);
    assert_eq!(play.sent(), "");
}

#[test]
fn relay_14_t_12_requiretls_goes_on_under_tls_or_the_message_does_not() {
    let required = || Transaction {
        requiretls: true,
        ..transaction(ONE)
    };
    for (tls_active, offer, sent) in [
        (true, "250-mx\r\n250 REQUIRETLS\r\n", true),
        (true, "250 mx\r\n", false),
        (false, "250-mx\r\n250 REQUIRETLS\r\n", false),
    ] {
        let mut play = Play::new(ClientConfig {
            tls_active,
            ..config()
        });
        play.greeted();
        play.hears(offer);
        assert_eq!(play.poll(), ClientEvent::Ready);
        play.session.start(required());
        if sent {
            assert_eq!(play.poll(), ClientEvent::NeedInput);
            assert_eq!(play.sent(), "MAIL FROM:<news@shop.example> REQUIRETLS\r\n");
            continue;
        }
        let result = play.finished();
        assert_eq!(result.local, Some(LocalRefusal::RequireTlsNotOffered));
        assert!(result.usable && !result.dot_sent);
        assert_eq!(play.sent(), "", "nothing was said of the message");
    }
}

#[test]
fn relay_14_a_notification_does_without_the_extension_but_not_without_tls() {
    for (tls_active, offer, sent) in [
        (
            true,
            "250-mx\r\n250 REQUIRETLS\r\n",
            Some("MAIL FROM:<> REQUIRETLS\r\n"),
        ),
        (true, "250 mx\r\n", Some("MAIL FROM:<>\r\n")),
        (false, "250-mx\r\n250 REQUIRETLS\r\n", None),
    ] {
        let mut play = Play::new(ClientConfig {
            tls_active,
            ..config()
        });
        play.greeted();
        play.hears(offer);
        assert_eq!(play.poll(), ClientEvent::Ready);
        play.session.start(Transaction {
            sender: ReversePath::Null,
            requiretls: true,
            ..transaction(ONE)
        });
        let Some(sent) = sent else {
            let local = play.finished().local;
            assert_eq!(local, Some(LocalRefusal::RequireTlsNotOffered));
            continue;
        };
        assert_eq!(play.poll(), ClientEvent::NeedInput);
        assert_eq!(play.sent(), sent);
    }
}
