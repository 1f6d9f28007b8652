use super::*;
use crate::testing::{reply, settled};

const WAIT: Duration = Duration::from_secs(30);

fn flow() -> Qualification {
    Qualification {
        class: Class::Flow {
            ipset: None,
            sdset: None,
        },
        pattern: Some("listed".into()),
        description: String::new(),
        source: String::new(),
    }
}

/// The conclusion when the last attempt ended like this.
fn last(stage: Stage, answer: RemoteAnswer, dot_sent: bool) -> Conclusion {
    let host = "mx.example.org";
    let ending = Ending::Attempt {
        host,
        stage,
        answer: &answer,
        qualification: None,
        dot_sent,
    };
    conclude(ending, Manner::default(), WAIT)
}

fn said(text: &str) -> RemoteAnswer {
    RemoteAnswer::Reply(reply(text))
}

fn lost() -> RemoteAnswer {
    RemoteAnswer::Lost("reset".into())
}

fn blocked(text: &str, blocktemp: bool) -> Conclusion {
    let qualification = flow();
    let ending = Ending::Attempt {
        host: "mx.example.org",
        stage: Stage::Rcpt,
        answer: &said(text),
        qualification: Some(&qualification),
        dot_sent: false,
    };
    conclude(
        ending,
        Manner {
            blocktemp,
            permcode: false,
        },
        WAIT,
    )
}

/// The reply as it goes over the wire, without the last line end.
fn wire(reply: &Reply) -> String {
    let mut out = Vec::new();
    reply.write_to(&mut out);
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

#[test]
fn relay_73_the_reply_goes_through_unchanged_with_all_its_lines() {
    let text = "550 5.7.26 This mail\n5.7.26  is not  authenticated\n";
    for stage in [
        Stage::Connect,
        Stage::Ehlo,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Dot,
    ] {
        let end = last(stage, said(text), stage == Stage::Dot);
        assert_eq!(end.reply, reply(text), "{stage:?}");
        assert_eq!((end.outcome, end.refusal), (Outcome::Failed, None));
    }
    let end = last(Stage::Dot, said("250 2.0.0 Queued as 7F31"), true);
    assert_eq!(wire(&end.reply), "250 2.0.0 Queued as 7F31");
    assert_eq!(end.outcome, Outcome::Delivered);
    let end = last(Stage::Rcpt, said("452 4.2.2 Mailbox full"), false);
    assert_eq!(wire(&end.reply), "452 4.2.2 Mailbox full");
    assert_eq!(end.outcome, Outcome::Deferred);
}

#[test]
fn relay_74_421_becomes_451_and_other_2xx_250() {
    for stage in [
        Stage::Connect,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Dot,
    ] {
        let end = last(stage, said("421 4.3.2 closing\nbye"), stage == Stage::Dot);
        assert_eq!(wire(&end.reply), "451-4.3.2 closing\r\n451 bye");
        assert_eq!(end.outcome, Outcome::Deferred);
    }
    let end = last(Stage::Dot, said("252 2.5.0 taken"), true);
    assert_eq!(wire(&end.reply), "250 2.5.0 taken");
    assert_eq!(end.outcome, Outcome::Delivered);
}

#[test]
fn relay_74_malformed_and_3xx_replies_become_9_3_5() {
    let malformed = || RemoteAnswer::Malformed("999".into());
    for (stage, answer) in [
        (Stage::Dot, malformed()),
        (Stage::Dot, said("354 more")),
        (Stage::Rcpt, malformed()),
        (Stage::Rcpt, said("334 what")),
        (Stage::Connect, malformed()),
    ] {
        let end = last(stage, answer, stage == Stage::Dot);
        let word = stage.word();
        let expected =
            format!("451 9.3.5 X-SMTP-R-API malformed reply of mx.example.org at {word}");
        assert_eq!(wire(&end.reply), expected);
        assert_eq!(end.outcome, Outcome::Deferred);
    }
}

#[test]
fn relay_3_no_2xx_before_the_dot_is_ever_told_as_success() {
    for stage in [
        Stage::Connect,
        Stage::Ehlo,
        Stage::StartTls,
        Stage::Auth,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
    ] {
        let end = last(stage, said("250 2.0.0 fine"), false);
        assert!(wire(&end.reply).starts_with("451 9.3."), "{stage:?}");
        assert_ne!(end.outcome, Outcome::Delivered);
    }
}

#[test]
fn relay_66_relay_75_without_a_remote_reply_it_is_9_3_2() {
    let end = last(Stage::Connect, lost(), false);
    assert_eq!(
        wire(&end.reply),
        "451 9.3.2 X-SMTP-R-API no connection to mx.example.org in 30 s"
    );
    assert_eq!(end.outcome, Outcome::Deferred);
    assert!(end.refusal.is_some());
    let end = last(Stage::Rcpt, lost(), false);
    assert_eq!(
        wire(&end.reply),
        "451 9.3.2 X-SMTP-R-API connection to mx.example.org lost at RCPT"
    );
}

#[test]
fn relay_66_a_refused_login_is_9_3_2_and_never_the_remote_text() {
    let end = last(
        Stage::Auth,
        said("535 5.7.8 bad password of relay@example.net"),
        false,
    );
    assert_eq!(
        wire(&end.reply),
        "451 9.3.2 X-SMTP-R-API login at mx.example.org was refused"
    );
    assert_eq!(end.outcome, Outcome::Deferred);
}

#[test]
fn relay_65_relay_66_a_5xx_of_the_last_attempt_is_returned_as_it_is() {
    let end = blocked("554 5.7.1 Address 192.0.2.11 is listed", false);
    assert_eq!(wire(&end.reply), "554 5.7.1 Address 192.0.2.11 is listed");
    assert_eq!(end.outcome, Outcome::Failed);
}

#[test]
fn relay_67_blocktemp_makes_a_block_temporary() {
    let end = blocked(
        "554 5.7.1 Address is listed\n5.7.1 see 5.7.1\nno code",
        true,
    );
    assert_eq!(
        wire(&end.reply),
        "451-4.7.1 Address is listed\r\n451-4.7.1 see 5.7.1\r\n451 no code"
    );
    assert_eq!(end.outcome, Outcome::Deferred);
    let end = blocked("450 4.7.1 slow down", true);
    assert_eq!(wire(&end.reply), "450 4.7.1 slow down");
    let unqualified = last(Stage::Rcpt, said("554 5.7.1 no"), false);
    assert_eq!(unqualified.reply.code(), 554);
    let hard = Qualification {
        class: Class::Hard,
        ..flow()
    };
    let ending = Ending::Attempt {
        host: "mx",
        stage: Stage::Rcpt,
        answer: &said("550 5.1.1 gone"),
        qualification: Some(&hard),
        dot_sent: false,
    };
    let manner = Manner {
        blocktemp: true,
        permcode: false,
    };
    assert_eq!(
        conclude(ending, manner, WAIT).reply.code(),
        550,
        "only blocks"
    );
}

#[test]
fn relay_70_no_reply_after_the_dot_is_9_3_3_unknown() {
    let end = last(Stage::Dot, lost(), true);
    assert!(
        wire(&end.reply)
            .starts_with("451 9.3.3 X-SMTP-R-API outcome unknown: no reply of mx.example.org")
    );
    assert_eq!(end.outcome, Outcome::Unknown);
}

#[test]
fn relay_69_relay_76_relay_77_the_other_endings_have_their_codes() {
    let domain = "example.org";
    let refusal = Refusal::new(Code::NotAllowed, "routing.outbound", "RELAY-57");
    let table = [
        (
            Ending::NoOutbound,
            "451 9.3.1 X-SMTP-R-API no route available within 30 s",
            Outcome::Deferred,
        ),
        (
            Ending::NoPair { host: "mx6" },
            "451 9.3.2 X-SMTP-R-API ",
            Outcome::Deferred,
        ),
        (
            Ending::DnsFailed { domain },
            "451 9.3.4 X-SMTP-R-API DNS of example.org ",
            Outcome::Deferred,
        ),
        (
            Ending::NoSuchDomain {
                domain,
                null_mx: false,
            },
            "451 9.2.4 X-SMTP-R-API domain example.org does not exist",
            Outcome::Failed,
        ),
        (
            Ending::NoSuchDomain {
                domain,
                null_mx: true,
            },
            "451 9.2.4 X-SMTP-R-API domain example.org accepts no mail (null MX)",
            Outcome::Failed,
        ),
        (
            Ending::Timeout,
            "451 9.3.0 X-SMTP-R-API no answer within 30 s",
            Outcome::Deferred,
        ),
        (Ending::Cancelled, "451 9.3.0 ", Outcome::Cancelled),
        (
            Ending::Refused(&refusal),
            "451 9.1.5 X-SMTP-R-API routing.outbound",
            Outcome::Failed,
        ),
    ];
    for (ending, text, outcome) in table {
        let end = conclude(ending, Manner::default(), WAIT);
        assert!(wire(&end.reply).starts_with(text), "{}", wire(&end.reply));
        assert_eq!(end.outcome, outcome);
    }
}

#[test]
fn relay_80_permcode_is_for_what_will_not_change() {
    let manner = Manner {
        blocktemp: false,
        permcode: true,
    };
    let gone = Ending::NoSuchDomain {
        domain: "example.org",
        null_mx: false,
    };
    let reply = conclude(gone, manner, WAIT).reply;
    assert!(wire(&reply).starts_with("550 5.2.4 X-SMTP-R-API "));
    assert!(wire(&conclude(Ending::NoOutbound, manner, WAIT).reply).starts_with("451 9.3.1 "));
}

fn combined(list: &[(&str, &str)]) -> (String, Vec<usize>) {
    let all: Vec<Settled> = list.iter().map(|(to, text)| settled(to, text)).collect();
    let Combined { reply, dsn_for } = combine(&all);
    (wire(&reply), dsn_for)
}

#[test]
fn relay_20_one_recipient_has_its_reply_unchanged() {
    for text in [
        "250 2.0.0 ok\nid 7",
        "550 5.1.1 no",
        "451 9.3.2 X-SMTP-R-API no connection",
    ] {
        assert_eq!(
            combined(&[("a@example.org", text)]),
            (wire(&reply(text)), vec![])
        );
    }
}

#[test]
fn relay_20_all_delivered_is_250_with_a_line_for_each() {
    let (text, dsn) = combined(&[
        ("a@example.org", "250 2.0.0 id 1"),
        ("b@example.net", "250 2.6.0 id 2"),
    ]);
    assert_eq!(
        text,
        "250-2.0.0 <a@example.org> id 1\r\n250 2.0.0 <b@example.net> 250 2.6.0 id 2"
    );
    assert!(dsn.is_empty());
}

#[test]
fn relay_20_a_common_failure_is_the_common_reply() {
    let (text, dsn) = combined(&[
        ("a@example.org", "550 5.1.1 No a"),
        ("b@example.org", "550 5.1.1 No b\n5.1.1 really"),
    ]);
    assert_eq!(
        text,
        "550-5.1.1 <a@example.org> No a\r\n550 5.1.1 <b@example.org> No b really"
    );
    assert!(dsn.is_empty());
    let ours = "451 9.3.1 X-SMTP-R-API no route available within 30 s";
    let (text, _) = combined(&[("a@example.org", ours), ("b@example.org", ours)]);
    let line = |to| format!("9.3.1 X-SMTP-R-API <{to}@example.org> no route available within 30 s");
    assert_eq!(text, format!("451-{}\r\n451 {}", line("a"), line("b")));
}

#[test]
fn relay_20_t_45_a_mixed_result_is_250_and_a_dsn_for_each_failure() {
    let (text, dsn) = combined(&[
        ("a@example.org", "550 5.1.1 No such user"),
        ("b@example.net", "250 2.0.0 Queued"),
        ("c@example.net", "451 4.3.0 Later"),
    ]);
    let expected = "250-2.0.0 <a@example.org> 550 5.1.1 No such user\r\n\
                    250-2.0.0 <b@example.net> Queued\r\n\
                    250 2.0.0 <c@example.net> 451 4.3.0 Later";
    assert_eq!(text, expected);
    assert_eq!(dsn, [0, 2]);
}

#[test]
fn relay_20_t_45_an_unlike_failure_is_the_first_temporary_one_without_dsn() {
    let (text, dsn) = combined(&[
        ("a@example.org", "550 5.1.1 No such user"),
        ("b@example.net", "452 4.2.2 Full"),
        ("c@example.net", "451 4.3.0 Later"),
    ]);
    let expected = "452-4.2.2 <a@example.org> 550 5.1.1 No such user\r\n\
                    452-4.2.2 <b@example.net> Full\r\n\
                    452 4.2.2 <c@example.net> 451 4.3.0 Later";
    assert_eq!(text, expected);
    assert!(dsn.is_empty());
}

#[test]
fn relay_20_unlike_permanent_failures_are_the_first_of_them() {
    let (text, dsn) = combined(&[
        ("a@example.org", "554 no"),
        ("b@example.net", "550 5.1.1 gone"),
    ]);
    assert_eq!(
        text,
        "554-<a@example.org> no\r\n554 <b@example.net> 550 5.1.1 gone"
    );
    assert!(dsn.is_empty());
}

#[test]
fn relay_20_an_unknown_outcome_beside_a_delivery_is_told_by_dsn_a_cancelled_one_is_not() {
    let mut unknown = settled("a@example.org", "451 9.3.3 X-SMTP-R-API outcome unknown");
    unknown.outcome = Outcome::Unknown;
    let mut cancelled = settled(
        "c@example.org",
        "451 9.3.0 X-SMTP-R-API the client has left",
    );
    cancelled.outcome = Outcome::Cancelled;
    let all = [unknown, settled("b@example.org", "250 ok"), cancelled];
    let Combined { reply, dsn_for } = combine(&all);
    assert_eq!((reply.code(), dsn_for), (250, vec![0]));
}

#[test]
fn relay_20_lines_of_a_combined_reply_keep_to_their_length() {
    let long = format!("550 5.1.1 {}", "x".repeat(2000));
    let (text, _) = combined(&[("a@example.org", &long), ("b@example.org", &long)]);
    assert!(text.split("\r\n").all(|line| line.len() <= 510));
    assert_eq!(text.split("\r\n").count(), 2);
}

#[test]
fn relay_20_prdr_gives_each_recipient_its_own_reply() {
    let all = [
        settled("a@example.org", "550 5.1.1 no"),
        settled("b@example.org", "250 2.0.0 ok"),
    ];
    let replies = per_recipient(&all);
    assert_eq!(replies, [reply("550 5.1.1 no"), reply("250 2.0.0 ok")]);
}

#[test]
fn relay_20_when_no_dsn_can_be_made_the_delivered_ones_are_named() {
    let all = [
        settled("a@example.org", "550 5.1.1 no"),
        settled("b@example.org", "250 2.0.0 ok"),
    ];
    let text = wire(&without_dsn(&all));
    assert!(text.starts_with("451-4.3.0 "), "{text}");
    assert!(
        text.contains("<b@example.org>") && !text.contains("<a@example.org>"),
        "{text}"
    );
}
