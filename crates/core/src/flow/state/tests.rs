use super::*;
use crate::flow::Control;
use crate::flow::params::Section;
use crate::flow::params::{Sections, resolve};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn at(length: Duration) -> Moment {
    Moment(1_800_000_000_000).after(length)
}

fn params(set: Set, section: Section) -> Params {
    let mut sections = Sections::default();
    *sections.section(Control::Ip, set, None) = section;
    resolve(&sections, &Sections::default(), Control::Ip, set, "x")
}

/// The example of the specification: 60 in 10 minutes and 3000 in 24 hours, low after 10000 in 7d.
fn warmup() -> Params {
    params(
        Set::Warmup,
        Section {
            volttllow: Some(10 * MINUTE),
            volmaxlow: Some(60),
            volttlhigh: Some(DAY),
            volmaxhigh: Some(3000),
            flowttlup: Some(7 * DAY),
            flowvolup: Some(10_000),
            flowup: Some(Target::Set(Set::Low)),
            ..Section::default()
        },
    )
}

fn send(state: &mut State, now: Moment, params: &Params, count: u64) {
    state.let_go(count);
    state.mail_sent(now, params, count);
}

#[test]
fn flow_9_every_new_ip_and_sender_begins_with_warmup() {
    let state = State::new(at(MINUTE));
    assert_eq!((state.set(), state.entered()), (Set::Warmup, at(MINUTE)));
}

#[test]
fn flow_24_flow_25_both_windows_apply_together() {
    let params = warmup();
    let mut state = State::new(at(Duration::ZERO));
    let mut sent = 0;
    // 60 in each 10 minutes would be 8640 a day.
    for slice in 0..144u32 {
        let now = at(10 * MINUTE * slice);
        while let Ok(granted) = state.may_send(now, &params, 7) {
            send(&mut state, now, &params, granted);
            sent += granted;
        }
    }
    assert_eq!(sent, 3000);
    let (until, limit) = state.may_send(at(DAY - MINUTE), &params, 1).unwrap_err();
    assert_eq!(limit, Limit::VolMaxHigh);
    assert_eq!(until, Some(at(DAY)));
    let mut off = params;
    (off.low.max, off.high.ttl) = (0, Duration::ZERO);
    assert_eq!(state.may_send(at(DAY - MINUTE), &off, 1000), Ok(1000));
}

#[test]
fn flow_26_flow_27_what_is_let_go_counts_until_it_is_given_back() {
    let params = warmup();
    let now = at(Duration::ZERO);
    let mut state = State::new(now);
    state.let_go(60);
    assert_eq!(
        state.may_send(now, &params, 1),
        Err((None, Limit::VolMaxLow))
    );
    state.given_back(1);
    assert_eq!(state.may_send(now, &params, 5), Ok(1));
    state.mail_sent(now, &params, 59);
    assert_eq!(state.may_send(now, &params, 5), Ok(1));
    assert_eq!(state.unused(now, &params), 16_666);
}

#[test]
fn flow_28_counters_go_on_over_a_switch() {
    let params = warmup();
    let now = at(Duration::ZERO);
    let mut state = State::new(now);
    send(&mut state, now, &params, 50);
    let change = state.blocked(now, Set::Defcon1, Duration::ZERO, "listed");
    assert_eq!(change.unwrap().to, Set::Defcon1);
    assert_eq!(state.may_send(now, &params, 20), Ok(10));
}

#[test]
fn flow_30_flow_33_flow_35_up_needs_time_and_volume_of_deliveries() {
    let params = warmup();
    let mut state = State::new(at(Duration::ZERO));
    send(&mut state, at(DAY), &params, 20_000);
    state.delivered(at(DAY), &params, 9_999);
    assert_eq!(state.evaluate(at(7 * DAY), &params), None, "one is missing");
    state.delivered(at(6 * DAY), &params, 1);
    assert_eq!(
        state.evaluate(at(7 * DAY - MINUTE), &params),
        None,
        "too soon"
    );
    let change = state.evaluate(at(7 * DAY), &params).unwrap();
    assert_eq!(
        (change.from, change.to, change.cause),
        (Set::Warmup, Set::Low, Cause::Up(10_000))
    );
    assert_eq!(state.entered(), at(7 * DAY));
}

#[test]
fn flow_33_without_a_period_the_volume_since_entering_counts() {
    let section = Section {
        flowvolup: Some(10),
        ..Section::default()
    };
    let params = params(Set::Warmup, section);
    let mut state = State::new(at(Duration::ZERO));
    state.delivered(at(MINUTE), &params, 9);
    assert_eq!(state.evaluate(at(MINUTE), &params), None);
    state.delivered(at(MINUTE), &params, 1);
    let change = state.evaluate(at(MINUTE), &params).unwrap();
    assert_eq!(change.to, Set::Low, "the omitted target is the next higher");
    assert_eq!(state.evaluate(at(MINUTE), &params), None, "counted anew");
}

#[test]
fn flow_31_flow_34_down_needs_time_and_too_few_deliveries() {
    let section = Section {
        flowttldown: Some(15 * DAY),
        flowvoldown: Some(1000),
        ..Section::default()
    };
    let params = params(Set::High, section);
    let mut state = State::new(at(Duration::ZERO));
    state.demanded(at(Duration::ZERO), Set::High, None, false);
    state.delivered(at(DAY), &params, 1000);
    assert_eq!(state.evaluate(at(15 * DAY), &params), None, "enough");
    let change = state.evaluate(at(17 * DAY), &params).unwrap();
    assert_eq!((change.to, change.cause), (Set::Mid, Cause::Down(0)));
}

#[test]
fn flow_11_flow_36_up_comes_before_down_and_one_step_at_a_time() {
    let section = Section {
        flowvolup: Some(1),
        flowttldown: Some(MINUTE),
        flowvoldown: Some(100),
        ..Section::default()
    };
    let params = params(Set::Low, section);
    let mut state = State::new(at(Duration::ZERO));
    state.demanded(at(Duration::ZERO), Set::Low, None, false);
    state.delivered(at(2 * MINUTE), &params, 50);
    assert_eq!(
        state.evaluate(at(2 * MINUTE), &params).unwrap().to,
        Set::Mid
    );
}

#[test]
fn flow_40_flow_42_flow_43_a_block_sleeps_and_an_automatic_switch_does_not() {
    let params = warmup();
    let now = at(Duration::ZERO);
    let mut state = State::new(now);
    let change = state.blocked(now, Set::Defcon2, DAY, "listed").unwrap();
    assert_eq!(change.cause, Cause::Reply("listed".into()));
    assert_eq!(
        state.may_send(at(DAY - MINUTE), &params, 1),
        Err((Some(at(DAY)), Limit::SleepTtl))
    );
    assert_eq!(state.unused(now, &params), 0);
    assert_eq!(state.may_send(at(DAY), &params, 1), Ok(1));
    let mut state = State::new(now);
    state.delivered(at(MINUTE), &params, 10_000);
    assert!(state.evaluate(at(7 * DAY), &params).is_some());
    assert_eq!(state.may_send(at(7 * DAY), &params, 1), Ok(1));
}

#[test]
fn flow_44_the_same_set_sleeps_again_and_a_faster_one_is_ignored() {
    let start = at(Duration::ZERO);
    let mut state = State::new(start);
    state.blocked(start, Set::Defcon1, DAY, "p");
    assert_eq!(state.blocked(at(MINUTE), Set::Defcon1, DAY, "p"), None);
    assert_eq!(state.sleeps_until(), at(DAY + MINUTE));
    assert_eq!(state.entered(), start);
    assert_eq!(state.blocked(at(2 * MINUTE), Set::Low, 9 * DAY, "p"), None);
    assert_eq!(
        (state.set(), state.sleeps_until()),
        (Set::Defcon1, at(DAY + MINUTE))
    );
    assert!(state.blocked(at(MINUTE), Set::Defcon3, DAY, "p").is_some());
}

#[test]
fn flow_47_flow_48_unknown_errors_in_a_row() {
    let section = Section {
        errmax: Some(3),
        flowerr: Some(Target::Set(Set::Defcon1)),
        sleepttl: Some(DAY),
        ..Section::default()
    };
    let on = params(Set::Warmup, section);
    let now = at(Duration::ZERO);
    let mut state = State::new(now);
    for reset in [State::known_error, |s: &mut State| {
        s.delivered(
            at(Duration::ZERO),
            &params(Set::Warmup, Section::default()),
            1,
        );
    }] {
        assert_eq!(state.unknown_error(now, &on), None);
        assert_eq!(state.unknown_error(now, &on), None);
        reset(&mut state);
    }
    assert_eq!(state.unknown_error(now, &on), None);
    assert_eq!(state.unknown_error(now, &on), None);
    let change = state.unknown_error(now, &on).unwrap();
    assert_eq!((change.to, change.cause), (Set::Defcon1, Cause::Errors(3)));
    assert_eq!(state.may_send(now, &on, 1), Ok(1), "no sleep");
    for off in [
        Section {
            errmax: Some(0),
            ..section
        },
        Section {
            flowerr: None,
            ..section
        },
    ] {
        let off = params(Set::Warmup, off);
        let mut state = State::new(now);
        assert!((0..50).all(|_| state.unknown_error(now, &off).is_none()));
    }
}

#[test]
fn flow_49_flow_50_on_demand_with_sleep_and_lock() {
    let params = warmup();
    let now = at(Duration::ZERO);
    let mut state = State::new(now);
    let change = state.demanded(now, Set::Full, None, true).unwrap();
    assert_eq!(change.cause, Cause::Demand);
    assert!(state.is_locked());
    assert_eq!(state.blocked(now, Set::Defcon3, DAY, "p"), None);
    state.delivered(now, &params, 100_000);
    assert_eq!(state.evaluate(at(30 * DAY), &params), None);
    assert_eq!(
        (state.set(), state.may_send(now, &params, 1)),
        (Set::Full, Ok(1))
    );
    state.demanded(now, Set::Low, Some(DAY), false);
    assert_eq!(state.sleeps_until(), at(DAY));
    assert!(state.blocked(now, Set::Defcon3, DAY, "p").is_some());
}

#[test]
fn t_65_flow_28_after_a_clock_that_was_set_back_all_moments_move_together() {
    let params = warmup();
    let mut state = State::new(at(Duration::ZERO));
    send(&mut state, at(9 * DAY), &params, 3);
    state.blocked(at(10 * DAY), Set::Defcon1, DAY, "p");
    send(&mut state, at(10 * DAY + 60 * MINUTE), &params, 2);
    state.blocked(at(11 * DAY), Set::Defcon1, DAY, "p");
    let mut ahead = state.clone();
    assert!(ahead.restored(at(2 * DAY)));
    // As if no time had passed: nine days less everywhere.
    assert_eq!(
        ahead.sleeps_until(),
        at(3 * DAY),
        "not a day more than it slept"
    );
    assert_eq!(ahead.entered(), at(DAY));
    let window = Window { ttl: DAY, max: 10 };
    assert_eq!(ahead.fill(at(2 * DAY), window), 2);
    let longer = Window {
        ttl: 2 * DAY,
        max: 10,
    };
    assert_eq!(
        ahead.fill(
            at(2 * DAY),
            Window {
                ttl: DAY * 2 + MINUTE,
                ..longer
            }
        ),
        5
    );
    assert_eq!(ahead.latest(), at(DAY + 60 * MINUTE));
    // A clock that went on changes nothing.
    let mut later = state.clone();
    assert!(!later.restored(at(12 * DAY)));
    assert_eq!(later.sleeps_until(), state.sleeps_until());
    assert_eq!(later.fill(at(12 * DAY), longer), 2);
}
