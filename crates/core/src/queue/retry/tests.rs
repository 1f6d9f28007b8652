use std::sync::Arc;

use super::*;
use crate::flow::Moment;
use crate::model::{Hold, Qualification, Remote};
use crate::testing;

const T: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;
/// In the middle of every spread by a tenth of so many minutes.
fn middle(minutes: u64) -> u64 {
    minutes * MINUTE / 10
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

fn pauses() -> Vec<Duration> {
    [5, 10, 20, 40, 60].map(minutes).to_vec()
}

fn terms(retry: &[Duration], age: u64) -> Terms<'_> {
    Terms {
        retry,
        maxage: minutes(48 * 60),
        unknowndelay: minutes(15),
        received: T,
        now: T + age,
    }
}

fn attempt(stage: Stage, reply: Option<&str>, class: Option<Class>) -> Attempt {
    Attempt {
        hop: 1,
        outbound: testing::outbound("192.0.2.10", "mta10.example.net"),
        remote: Remote {
            host: "mx.example.org".into(),
            address: testing::socket("198.51.100.25:25"),
        },
        stage,
        reply: reply.map(testing::reply),
        failure: None,
        qualification: reply.is_some().then(|| Qualification {
            pattern: class.is_some().then(|| "p1".to_owned()),
            class: class.unwrap_or(Class::Soft),
            description: String::new(),
            source: String::new(),
        }),
        tls: None,
        dsn: false,
        duration: Duration::ZERO,
    }
}

/// A reply of the remote at RCPT.
fn said(text: &str, class: Option<Class>) -> Settled {
    Settled {
        attempts: vec![attempt(Stage::Rcpt, Some(text), class)],
        ..testing::settled("anna@example.org", text)
    }
}

/// A refusal of ours.
fn ours(code: Code, outcome: Outcome, attempts: Vec<Attempt>) -> Settled {
    let refusal = Refusal::new(code, "why", "rule");
    Settled {
        outcome,
        attempts,
        reply: refusal.reply(false),
        refusal: Some(refusal),
        ..testing::settled("anna@example.org", "451 x")
    }
}

fn again(next: Next) -> (Progress, Effect) {
    match next {
        Next::Again { progress, effect } => (progress, effect),
        Next::Over(ending) => panic!("{ending:?}"),
    }
}

fn flow() -> Class {
    Class::Flow {
        ipset: None,
        sdset: None,
    }
}

#[test]
fn queue_12_pauses_grow_the_last_repeats_and_they_are_spread_by_a_tenth() {
    let retry = pauses();
    let end = said("450 4.2.0 later", None);
    let mut progress = Progress::default();
    for n in [5, 10, 20, 40, 60, 60, 60] {
        let (next, effect) = again(super::next(&progress, &end, &terms(&retry, 0), middle(n)));
        assert_eq!(next.next, T + n * MINUTE);
        assert_eq!(effect, Effect::Reached);
        progress = next;
    }
    assert_eq!((progress.attempts, progress.state), (7, State::Deferred));
    let (mut least, mut most) = (u64::MAX, 0);
    for chance in 0..100_000 {
        let chance = chance * 71;
        let next = again(super::next(&progress, &end, &terms(&retry, 0), chance))
            .0
            .next;
        (least, most) = (least.min(next), most.max(next));
    }
    assert!((T + 54 * MINUTE..T + 54 * MINUTE + 100).contains(&least));
    assert!((T + 66 * MINUTE - 100..=T + 66 * MINUTE).contains(&most));
}

#[test]
fn route_56_a_relay_service_has_pauses_of_its_own() {
    let retry = [minutes(1)];
    let mut host = testing::host("service");
    host.kind = HostKind::Service;
    let end = Settled {
        host: Some(Arc::new(host)),
        ..said("450 4.2.0 later", None)
    };
    let progress = Progress {
        attempts: 2,
        ..Progress::default()
    };
    let next = again(super::next(&progress, &end, &terms(&retry, 0), middle(20))).0;
    assert_eq!(next.next, T + 20 * MINUTE);
    let late = Terms {
        maxage: minutes(96 * 60),
        ..terms(&retry, 48 * 60 * MINUTE)
    };
    let over = super::next(&progress, &end, &late, 0);
    assert!(matches!(over, Next::Over(Ending::Expired { .. })));
}

#[test]
fn queue_11_ret_39_after_the_longest_age_it_is_over_with_4_4_7() {
    let retry = pauses();
    let end = said("450 4.2.0 full", None);
    let last = 48 * 60 * MINUTE;
    let next = |age| super::next(&Progress::default(), &end, &terms(&retry, age), 0);
    assert!(matches!(next(last - 1), Next::Again { .. }));
    let Next::Over(Ending::Expired { reply }) = next(last) else {
        panic!("{:?}", next(last))
    };
    assert_eq!(crate::dsn::status(&reply), "4.4.7");
    assert!(reply.to_log().ends_with("450 4.2.0 full"));
}

#[test]
fn flow_73_an_unknown_5xx_is_retried_and_keeps_its_code_after_the_last_retry() {
    let retry = pauses();
    let end = said("550 5.1.1 who", None);
    let (progress, effect) = again(next(&Progress::default(), &end, &terms(&retry, 0), 0));
    assert_eq!((progress.attempts, effect), (1, Effect::Reached));
    let late = terms(&retry, 48 * 60 * MINUTE);
    let failed = Ending::Failed {
        why: Why::Permanent,
        reply: testing::reply("550 5.1.1 who"),
    };
    assert_eq!(next(&progress, &end, &late, 0), Next::Over(failed.clone()));
    let progress = Progress {
        last_reply: end.reply.to_log(),
        ..progress
    };
    let told = ("failed", testing::reply("550 5.1.1 who"));
    assert_eq!(expired(&progress, false), told);
    // While the client waits it is the answer (QUEUE-3).
    assert_eq!(
        in_session(&Progress::default(), &end, &terms(&retry, 0), 0),
        Next::Over(failed)
    );
}

#[test]
fn queue_3_in_the_session_what_is_temporary_is_taken_over_and_counts() {
    let retry = pauses();
    let of = |end: &Settled| in_session(&Progress::default(), end, &terms(&retry, 0), 0);
    let (progress, _) = again(of(&said("450 4.2.0 later", None)));
    assert_eq!(progress.attempts, 1);
    let no_room = ours(Code::NoOutbound, Outcome::Deferred, Vec::new());
    let (progress, _) = again(of(&no_room));
    assert_eq!((progress.attempts, progress.state), (0, State::Waiting));
    assert_eq!(of(&said("250 ok", None)), Next::Over(Ending::Delivered));
    let blocked = said("550 5.7.1 blocked", Some(flow()));
    assert!(matches!(of(&blocked), Next::Over(Ending::Failed { .. })));
}

#[test]
fn queue_18_what_turns_out_to_be_suspended_was_not_tried_and_goes_to_its_lane() {
    let retry = pauses();
    let end = Settled {
        refusal: Some(lane::suspended("group big")),
        group: Some(Arc::new(testing::group("big"))),
        ..ours(Code::NoOutbound, Outcome::Deferred, Vec::new())
    };
    let late = terms(&retry, 90 * 60 * MINUTE);
    let (progress, effect) = again(next(&Progress::default(), &end, &late, 0));
    assert_eq!(
        (progress.attempts, progress.state, progress.next),
        (0, State::Waiting, late.now)
    );
    assert_eq!(effect, Effect::Nothing, "the lane where it stood goes on");
    let lane = |end: &Settled| lane::of_settled(end, "example.org");
    assert_eq!(lane(&end).as_deref(), Some("group big"));
    // Nothing is known where it was not tried for another reason.
    let other = ours(Code::NoOutbound, Outcome::Deferred, Vec::new());
    let other = Settled {
        group: end.group,
        ..other
    };
    assert_eq!(lane(&other), None);
}

#[test]
fn queue_14_the_limit_of_one_sender_holds_back_nobody_else() {
    let retry = pauses();
    let effect = |hold| {
        let end = Settled {
            hold,
            ..ours(Code::NoOutbound, Outcome::Deferred, Vec::new())
        };
        again(next(&Progress::default(), &end, &terms(&retry, 0), 0)).1
    };
    let of = |control, not_before: Option<u64>| {
        effect(Some(Hold {
            control,
            not_before: not_before.map(Moment),
        }))
    };
    let held = |not_before, whom| Effect::NoRoom { not_before, whom };
    assert_eq!(effect(None), held(None, Whom::Lane));
    let soon = Some(T + 20_000);
    assert_eq!(of(Control::Ip, soon), held(None, Whom::Lane));
    assert_eq!(of(Control::Sender, soon), held(soon, Whom::Sender));
    assert_eq!(of(Control::Sender, None), held(None, Whom::Sender));
    // A wider set may come before a window of days is over.
    let far = of(Control::Sender, Some(T + 9 * 86_400_000));
    assert_eq!(far, held(Some(T + 300_000), Whom::Sender));
}

#[test]
fn flow_68_flow_69_hard_and_spam_are_over_at_once_whatever_the_code() {
    let retry = pauses();
    for (class, why) in [(Class::Hard, Why::Hard), (Class::Spam, Why::Spam)] {
        for text in ["550 5.1.1 no", "450 4.1.1 no"] {
            let end = said(text, Some(class.clone()));
            let reply = testing::reply(text);
            assert_eq!(
                next(&Progress::default(), &end, &terms(&retry, 0), 0),
                Next::Over(Ending::Failed { why, reply })
            );
        }
    }
}

#[test]
fn flow_70_grey_listing_uses_up_no_retry_ten_times() {
    let retry = pauses();
    let end = said("451 4.7.1 grey", Some(Class::Grey(minutes(10))));
    let mut progress = Progress::default();
    for n in 1..=10 {
        for chance in [0, 1_000_003, u64::MAX] {
            let at = again(next(&progress, &end, &terms(&retry, 0), chance))
                .0
                .next;
            assert!((T + 10 * MINUTE..=T + 11 * MINUTE).contains(&at));
        }
        progress = again(next(&progress, &end, &terms(&retry, 0), 0)).0;
        assert_eq!((progress.greys, progress.attempts), (n, 0));
    }
    progress = again(next(&progress, &end, &terms(&retry, 0), middle(5))).0;
    assert_eq!((progress.greys, progress.attempts), (10, 1));
    assert_eq!(progress.next, T + 5 * MINUTE);
}

#[test]
fn flow_46_a_block_uses_up_no_retry_and_is_not_tried_again_at_once() {
    let retry = pauses();
    let end = said("550 5.7.1 blocked", Some(flow()));
    let (progress, effect) = again(next(&Progress::default(), &end, &terms(&retry, 0), 0));
    assert_eq!((progress.attempts, progress.next), (0, T + MINUTE));
    assert!(matches!(effect, Effect::NoRoom { .. }));
}

#[test]
fn queue_4_an_unknown_outcome_waits_and_is_marked_for_good() {
    let retry = pauses();
    let lost = attempt(Stage::Dot, None, None);
    let end = ours(Code::Unknown, Outcome::Unknown, vec![lost]);
    let handed = Progress {
        handed: true,
        ..Progress::default()
    };
    let (progress, effect) = again(next(&handed, &end, &terms(&retry, 0), 0));
    assert_eq!((progress.state, progress.handed), (State::Unknown, false));
    assert!(progress.duplicate_possible);
    assert_eq!((progress.next, progress.attempts), (T + 15 * MINUTE, 1));
    assert_eq!(effect, Effect::Nothing);
    let end = said("450 4.2.0 later", None);
    let (progress, _) = again(next(&progress, &end, &terms(&retry, 0), 0));
    assert_eq!(progress.state, State::Deferred);
    assert!(progress.duplicate_possible);
}

#[test]
fn queue_12_refusals_of_ours_are_final_if_they_are_for_good() {
    let retry = pauses();
    let of = |end: &Settled| next(&Progress::default(), end, &terms(&retry, 0), 0);
    for code in [Code::NoSuchDomain, Code::NotAllowed, Code::Listed] {
        let over = of(&ours(code, Outcome::Failed, Vec::new()));
        assert!(matches!(
            over,
            Next::Over(Ending::Failed {
                why: Why::Refused,
                ..
            })
        ));
    }
    for code in [Code::Timeout, Code::NoConnection, Code::MalformedReply] {
        let (progress, effect) = again(of(&ours(code, Outcome::Deferred, Vec::new())));
        assert_eq!((progress.attempts, effect), (1, Effect::Nothing));
    }
    let gone = ours(Code::Timeout, Outcome::Cancelled, Vec::new());
    let (progress, _) = again(of(&gone));
    assert_eq!(
        progress,
        Progress {
            next: T,
            ..Progress::default()
        }
    );
}

#[test]
fn queue_15_what_an_attempt_tells_of_its_destination() {
    let retry = pauses();
    let of = |end: &Settled| again(next(&Progress::default(), end, &terms(&retry, 0), 0)).1;
    let at = |stage, reply: Option<&str>| attempt(stage, reply, None);
    let failed = |attempts| ours(Code::NoConnection, Outcome::Deferred, attempts);
    let is_unreachable = |end: &Settled| matches!(of(end), Effect::Unreachable { .. });
    assert!(is_unreachable(&failed(vec![at(Stage::Connect, None)])));
    assert!(is_unreachable(&ours(
        Code::DnsFailed,
        Outcome::Deferred,
        Vec::new()
    )));
    let busy = attempt(Stage::Connect, Some("421 4.3.2 busy"), None);
    let greeted = Settled {
        attempts: vec![busy],
        ..testing::settled("anna@example.org", "451 4.3.2 busy")
    };
    assert!(is_unreachable(&greeted));
    // Not the same for everybody.
    for stage in [Stage::StartTls, Stage::Auth] {
        let end = failed(vec![at(Stage::Connect, None), at(stage, None)]);
        assert_eq!(of(&end), Effect::Nothing);
    }
    let spoke = vec![
        at(Stage::Rcpt, Some("450 4.2.0 x")),
        at(Stage::Connect, None),
    ];
    assert_eq!(of(&failed(spoke)), Effect::Reached);
    assert_eq!(of(&failed(vec![at(Stage::Rcpt, None)])), Effect::Nothing);
    // Several recipients of one job.
    let refused = || Effect::Unreachable {
        why: "x".to_owned(),
    };
    let no_room = || Effect::NoRoom {
        not_before: None,
        whom: Whom::Lane,
    };
    let told = refused().after(After::Nothing, 3);
    assert_eq!(
        told,
        After::Unreachable {
            why: "x".to_owned(),
            chance: 3
        }
    );
    assert_eq!(Effect::Nothing.after(told.clone(), 0), told);
    let told = reached(told, &said("250 ok", None));
    assert_eq!(told, After::Reached);
    assert!(matches!(no_room().after(told, 0), After::NoRoom { .. }));
}

#[test]
fn queue_16_what_an_operator_ends_is_told_with_the_last_reply() {
    let progress = Progress {
        last_reply: "450 4.2.0 full / try later".to_owned(),
        ..Progress::default()
    };
    let (word, reply) = expired(&progress, true);
    assert_eq!(
        (word, crate::dsn::status(&reply).as_str()),
        ("bounced", "5.0.0")
    );
    let (word, reply) = expired(&progress, false);
    assert_eq!(
        (word, crate::dsn::status(&reply).as_str()),
        ("expired", "4.4.7")
    );
    assert!(reply.to_log().contains("450 4.2.0 full / try later"));
    let (word, reply) = expired(&Progress::default(), false);
    assert_eq!(
        (word, reply.to_log().as_str()),
        ("expired", "451 4.4.7 the time for retries is over")
    );
}
