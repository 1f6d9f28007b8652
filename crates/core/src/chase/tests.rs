use std::time::Duration;

use super::*;
use crate::testing::{outbound, reply, socket};

fn remote(host: &str, address: &str) -> Remote {
    Remote {
        host: host.into(),
        address: socket(address),
    }
}

fn outbounds(addresses: &[&str]) -> Outbounds {
    addresses
        .iter()
        .map(|a| outbound(a, "mta.example.net"))
        .collect()
}

const A: &str = "198.51.100.1:25";
const B: &str = "198.51.100.2:25";
const A6: &str = "[2001:db8:1::1]:25";
const O1: &str = "192.0.2.10";
const O2: &str = "192.0.2.11";
const O6: &str = "2001:db8::10";

fn never(_: SocketAddr) -> bool {
    false
}

/// The next pair as `outbound>remote`, or `-`.
fn step(chase: &mut Chase, timed_out: &dyn Fn(SocketAddr) -> bool) -> String {
    match chase.next(timed_out) {
        Next::Try {
            outbound, remote, ..
        } => format!("{}>{}", outbound.address, remote.address),
        Next::Exhausted => "-".to_owned(),
    }
}

fn pair(o: &str, r: &str) -> String {
    format!("{o}>{r}")
}

fn two_by_two(maxhop: u32) -> Chase {
    Chase::new(
        vec![remote("mx1", A), remote("mx2", B)],
        outbounds(&[O1, O2]),
        maxhop,
    )
}

#[test]
fn relay_42_the_same_pair_is_never_tried_twice() {
    for blocked in [false, true] {
        let mut chase = two_by_two(20);
        let mut seen = Vec::new();
        loop {
            match step(&mut chase, &never).as_str() {
                "-" => break,
                pair => seen.push(pair.to_owned()),
            }
            if blocked {
                chase.blocked()
            } else {
                chase.connection_failed()
            }
        }
        assert_eq!(seen.len(), 4);
        assert_eq!(chase.hops(), 4);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 4);
    }
}

#[test]
fn relay_41_relay_65_maxhop_ends_the_chase() {
    let mut chase = two_by_two(2);
    assert!(matches!(chase.next(&never), Next::Try { hop: 1, .. }));
    chase.connection_failed();
    assert!(matches!(chase.next(&never), Next::Try { hop: 2, .. }));
    chase.connection_failed();
    assert!(matches!(chase.next(&never), Next::Exhausted));
    assert_eq!(chase.hops(), 2);
}

#[test]
fn relay_68_a_block_takes_another_outbound_to_the_same_remote_first() {
    let mut chase = two_by_two(20);
    assert_eq!(step(&mut chase, &never), pair(O1, A));
    chase.blocked();
    assert_eq!(step(&mut chase, &never), pair(O2, A));
    chase.blocked();
    assert_eq!(
        step(&mut chase, &never),
        pair(O2, B),
        "the outbound in use goes on"
    );
}

#[test]
fn relay_68_a_connection_failure_takes_another_remote_first() {
    let mut chase = two_by_two(20);
    assert_eq!(step(&mut chase, &never), pair(O1, A));
    chase.connection_failed();
    assert_eq!(step(&mut chase, &never), pair(O1, B));
    chase.connection_failed();
    assert_eq!(step(&mut chase, &never), pair(O2, A));
}

#[test]
fn relay_68_a_blocked_outbound_comes_after_those_that_are_not() {
    let mut chase = two_by_two(20);
    step(&mut chase, &never);
    chase.blocked(); // O1 at A
    assert_eq!(step(&mut chase, &never), pair(O2, A));
    chase.connection_failed();
    assert_eq!(step(&mut chase, &never), pair(O2, B));
    chase.connection_failed();
    assert_eq!(step(&mut chase, &never), pair(O1, B));
    chase.connection_failed();
    assert_eq!(step(&mut chase, &never), "-");
}

#[test]
fn relay_42_a_stale_session_is_no_hop_and_is_repeated_once() {
    let mut chase = two_by_two(3);
    assert_eq!(step(&mut chase, &never), pair(O1, A));
    assert!(chase.session_was_stale());
    assert_eq!(step(&mut chase, &never), pair(O1, A));
    assert_eq!(chase.hops(), 1);
    assert!(!chase.session_was_stale(), "only once");
    chase.connection_failed();
    assert_eq!(step(&mut chase, &never), pair(O1, B));
    assert!(
        chase.session_was_stale(),
        "another pair may have a stale session too"
    );
    assert_eq!(step(&mut chase, &never), pair(O1, B));
    assert_eq!(chase.hops(), 2);
}

#[test]
fn relay_42_a_stale_session_on_the_last_hop_is_repeated_too() {
    let mut chase = two_by_two(1);
    step(&mut chase, &never);
    assert!(chase.session_was_stale());
    assert_eq!(step(&mut chase, &never), pair(O1, A));
    chase.connection_failed();
    assert_eq!(step(&mut chase, &never), "-");
}

#[test]
fn route_35_recently_timed_out_remotes_come_when_nothing_else_is_left() {
    let a_timed_out = |address: SocketAddr| address == socket(A);
    let mut chase = two_by_two(20);
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(step(&mut chase, &a_timed_out));
        chase.connection_failed();
    }
    assert_eq!(order, [pair(O1, B), pair(O2, B), pair(O2, A), pair(O1, A)]);
}

#[test]
fn route_35_a_single_remote_is_tried_though_it_timed_out() {
    let mut chase = Chase::new(vec![remote("mx1", A)], outbounds(&[O1]), 3);
    assert_eq!(step(&mut chase, &|_| true), pair(O1, A));
}

#[test]
fn route_37_families_are_never_mixed() {
    let remotes = vec![remote("mx1", A6), remote("mx1", A), remote("mx2", B)];
    let mut chase = Chase::new(remotes, outbounds(&[O1, O6]), 20);
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(step(&mut chase, &never));
        chase.connection_failed();
    }
    assert_eq!(
        order,
        [pair(O6, A6), pair(O1, A), pair(O1, B), "-".to_owned()]
    );
    let mut chase = Chase::new(vec![remote("mx1", A6)], outbounds(&[O1]), 20);
    assert_eq!(step(&mut chase, &never), "-");
    assert_eq!(chase.hops(), 0);
}

fn qualified(class: Class) -> Qualification {
    Qualification {
        class,
        pattern: Some("p".into()),
        description: "d".into(),
        source: "f:1".into(),
    }
}

fn flow() -> Qualification {
    qualified(Class::Flow {
        ipset: None,
        sdset: None,
    })
}

fn unqualified() -> Qualification {
    Qualification {
        class: Class::Soft,
        pattern: None,
        description: String::new(),
        source: String::new(),
    }
}

fn said(text: &str) -> RemoteAnswer {
    RemoteAnswer::Reply(reply(text))
}

const BEFORE_MAIL: [Stage; 3] = [Stage::Connect, Stage::Ehlo, Stage::StartTls];
const TRANSACTION: [Stage; 4] = [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];

#[test]
fn relay_60_relay_61_lost_before_the_dot_goes_to_the_next_remote() {
    let lost = RemoteAnswer::Lost("reset".into());
    for stage in BEFORE_MAIL
        .into_iter()
        .chain([Stage::Auth])
        .chain(TRANSACTION)
    {
        assert_eq!(
            judge(stage, &lost, None, false),
            Verdict::NextRemote,
            "{stage:?}"
        );
    }
}

#[test]
fn relay_70_lost_after_the_dot_is_unknown_and_goes_nowhere() {
    let lost = RemoteAnswer::Lost("timed out".into());
    assert_eq!(
        judge(Stage::Dot, &lost, None, true),
        Verdict::Final(Outcome::Unknown)
    );
}

#[test]
fn relay_61_unqualified_greeting_ehlo_and_tls_breakdowns_are_connection_failures() {
    for stage in BEFORE_MAIL {
        for text in [
            "421 4.3.2 busy",
            "450 4.7.0 later",
            "554 5.3.2 no service",
            "250 what",
        ] {
            let verdict = judge(stage, &said(text), Some(&unqualified()), false);
            assert_eq!(verdict, Verdict::NextRemote, "{stage:?} {text}");
        }
        let malformed = RemoteAnswer::Malformed("HTTP/1.1 400".into());
        assert_eq!(judge(stage, &malformed, None, false), Verdict::NextRemote);
    }
}

#[test]
fn relay_61_relay_63_a_pattern_qualifies_a_greeting_otherwise() {
    let hard = qualified(Class::Hard);
    let verdict = judge(
        Stage::Connect,
        &said("554 5.7.1 go away"),
        Some(&hard),
        false,
    );
    assert_eq!(verdict, Verdict::Final(Outcome::Failed));
}

#[test]
fn relay_62_flow_at_any_step_takes_another_outbound() {
    for stage in BEFORE_MAIL.into_iter().chain(TRANSACTION) {
        for text in ["554 5.7.1 listed", "421 4.7.0 slow down"] {
            let verdict = judge(stage, &said(text), Some(&flow()), stage == Stage::Dot);
            assert_eq!(verdict, Verdict::NextOutbound, "{stage:?} {text}");
        }
    }
}

#[test]
fn relay_63_relay_64_every_other_reply_is_final_at_once() {
    let classes = [
        unqualified(),
        qualified(Class::Soft),
        qualified(Class::Hard),
        qualified(Class::Spam),
        qualified(Class::Grey(Duration::from_secs(300))),
    ];
    for stage in TRANSACTION {
        for q in &classes {
            let failed = judge(
                stage,
                &said("550 5.1.1 No such user"),
                Some(q),
                stage == Stage::Dot,
            );
            assert_eq!(failed, Verdict::Final(Outcome::Failed), "{stage:?} {q:?}");
            // HARD and SPAM are for good even as 4xx (FLOW-68, FLOW-69).
            let booked = match q.class {
                Class::Hard | Class::Spam => Outcome::Failed,
                _ => Outcome::Deferred,
            };
            for text in ["450 4.2.0 greylisted", "421 4.3.2 closing"] {
                let verdict = judge(stage, &said(text), Some(q), stage == Stage::Dot);
                let expected = Verdict::Final(booked.clone());
                assert_eq!(verdict, expected, "{stage:?} {q:?} {text}");
            }
        }
    }
}

#[test]
fn relay_63_only_a_2xx_after_the_dot_is_a_delivery() {
    assert_eq!(
        judge(Stage::Dot, &said("250 2.0.0 ok"), None, true),
        Verdict::Final(Outcome::Delivered)
    );
    for stage in [Stage::Mail, Stage::Rcpt, Stage::Data] {
        assert_eq!(
            judge(stage, &said("250 2.0.0 ok"), None, false),
            Verdict::Final(Outcome::Deferred)
        );
    }
}

#[test]
fn relay_74_malformed_and_3xx_replies_in_a_transaction_are_final() {
    for stage in TRANSACTION {
        let malformed = RemoteAnswer::Malformed("999 what".into());
        assert_eq!(
            judge(stage, &malformed, None, stage == Stage::Dot),
            Verdict::Final(Outcome::Deferred)
        );
        assert_eq!(
            judge(stage, &said("354 go"), None, false),
            Verdict::Final(Outcome::Deferred)
        );
    }
}

#[test]
fn relay_66_route_42_a_refused_login_is_a_connection_failure() {
    for q in [
        unqualified(),
        qualified(Class::Hard),
        qualified(Class::Soft),
    ] {
        let verdict = judge(
            Stage::Auth,
            &said("535 5.7.8 bad credentials"),
            Some(&q),
            false,
        );
        assert_eq!(verdict, Verdict::NextRemote);
    }
}

#[test]
fn relay_20_a_452_for_the_number_of_recipients_goes_into_the_next_transaction() {
    for text in ["452 4.5.3 too many recipients", "452 Too many recipients"] {
        let again = judge(Stage::Rcpt, &said(text), Some(&unqualified()), false);
        assert_eq!(again, Verdict::SameTransactionAgain, "{text}");
        let hard = judge(
            Stage::Rcpt,
            &said(text),
            Some(&qualified(Class::Hard)),
            false,
        );
        assert_eq!(hard, Verdict::Final(Outcome::Failed));
    }
    let full = judge(
        Stage::Rcpt,
        &said("452 4.2.2 Mailbox full"),
        Some(&unqualified()),
        false,
    );
    assert_eq!(full, Verdict::Final(Outcome::Deferred));
    let mail = judge(
        Stage::Mail,
        &said("452 4.5.3 no"),
        Some(&unqualified()),
        false,
    );
    assert_eq!(mail, Verdict::Final(Outcome::Deferred));
}

#[test]
fn relay_20_a_452_is_final_when_nobody_got_through() {
    let many = (Stage::Rcpt, said("452 4.5.3 too many recipients"));
    let refused = (Stage::Rcpt, said("550 5.1.1 no"));
    let through = (Stage::Dot, said("250 ok"));
    let verdicts = judge_all(&[many.clone(), refused], &[None, None], false);
    assert_eq!(
        verdicts,
        [
            Verdict::Final(Outcome::Deferred),
            Verdict::Final(Outcome::Failed)
        ]
    );
    let verdicts = judge_all(&[through, many], &[None, None], true);
    assert_eq!(
        verdicts,
        [
            Verdict::Final(Outcome::Delivered),
            Verdict::SameTransactionAgain
        ]
    );
}

#[test]
fn t_42_only_connection_failures_and_flow_patterns_lead_on() {
    let leads_on = |stage, text: &str, q: &Qualification| {
        !matches!(
            judge(stage, &said(text), Some(q), stage == Stage::Dot),
            Verdict::Final(_)
        )
    };
    assert!(leads_on(Stage::Connect, "421 4.3.2 busy", &unqualified()));
    for stage in TRANSACTION {
        for text in ["421 4.3.2 x", "451 4.3.0 x", "550 5.7.1 x"] {
            assert!(!leads_on(stage, text, &unqualified()), "{stage:?} {text}");
            assert!(leads_on(stage, text, &flow()), "{stage:?} {text}");
        }
    }
}
