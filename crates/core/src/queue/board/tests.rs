use super::*;
use crate::queue::DeliveryNo;

mod ages;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const T: u64 = 1_700_000_000_000;

/// A job of one recipient that came at `T` and is due.
fn entry(message: u64, lane: &str) -> Entry<'_> {
    Entry {
        message: MessageNo(message),
        recipients: Recipients::One(0),
        lane,
        account: "shop",
        sender: "example.com",
        received: T,
        due: T,
        expires: T + 2 * DAY,
        tell: None,
        held: false,
    }
}

fn board(places: u32, entries: impl IntoIterator<Item = Entry<'static>>) -> Board {
    let mut board = Board::new(places);
    for entry in entries {
        board.add(T, entry);
    }
    board
}

fn tried(board: &mut Board, now: u64) -> Option<Job> {
    match board.next(now)? {
        Start::Try(job) => Some(job),
        other => panic!("{other:?}"),
    }
}

/// All that starts now.
fn all(board: &mut Board, now: u64) -> Vec<Job> {
    std::iter::from_fn(|| tried(board, now)).collect()
}

fn numbers(jobs: &[Job]) -> Vec<u64> {
    jobs.iter().map(|job| job.message.0).collect()
}

fn again(job: &Job, due: u64) -> Vec<Again<'static>> {
    vec![Again {
        recipients: job.recipients.clone(),
        due,
        tell: None,
        lane: None,
        end: End::Back,
    }]
}

fn unreachable() -> After {
    After::Unreachable {
        why: "connection refused".to_owned(),
        chance: 0,
    }
}

fn row(board: &Board, name: &str) -> LaneRow {
    let mut rows = board.rows().into_iter();
    rows.find(|row| row.name == name).unwrap()
}

#[test]
fn queue_12_a_job_starts_when_it_is_due_and_the_board_says_when() {
    let mut board = Board::new(10);
    assert_eq!(board.wake_at(), None);
    let due = T + 300_000;
    board.add(
        T,
        Entry {
            due,
            ..entry(1, "domain a")
        },
    );
    assert_eq!(board.next(T), None);
    assert_eq!(board.wake_at(), Some(due));
    assert_eq!(board.next(due - 1), None);
    let job = tried(&mut board, due).unwrap();
    assert_eq!(
        (job.message, job.lane.as_ref(), job.is_probe),
        (MessageNo(1), "domain a", false)
    );
    assert_eq!((board.next(due), board.wake_at()), (None, None));
    let later = due + 600_000;
    assert!(
        board
            .done(due + 5, job.ticket, After::Reached, again(&job, later))
            .is_some()
    );
    assert_eq!(board.wake_at(), Some(later));
    let job = tried(&mut board, later).unwrap();
    assert!(
        board
            .done(later, job.ticket, After::Reached, Vec::new())
            .is_some()
    );
    assert_eq!(
        board.done(later, job.ticket, After::Reached, Vec::new()),
        None
    );
    assert_eq!(board.counts(), Counts::default());
    assert_eq!((board.rows(), board.oldest()), (Vec::new(), None));
}

#[test]
fn queue_14_lanes_take_turns_and_one_leaves_room_for_others() {
    let one = (0..100).map(|n| entry(n, "domain slow"));
    let mut board = board(20, one);
    // At most half of what others do not use.
    assert_eq!(all(&mut board, T).len(), 10);
    for n in 100..110 {
        board.add(T, entry(n, "domain other"));
    }
    let jobs = all(&mut board, T);
    assert_eq!(numbers(&jobs), [100, 101, 102, 103, 104]);
    for n in 200..210 {
        let lane: &'static str = ["domain b", "domain c"][n as usize % 2];
        board.add(T, entry(n, lane));
    }
    assert_eq!(numbers(&all(&mut board, T)), [200, 201, 202, 203, 204]);
    assert_eq!(board.wake_at(), board.timeline.first().map(|first| first.0));
    board.set_places(30);
    assert_eq!(board.wake_at(), Some(0));
}

#[test]
fn queue_14_no_lane_runs_more_than_64() {
    let mut board = board(1_000, (0..200).map(|n| entry(n, "domain a")));
    assert_eq!(all(&mut board, T).len(), 64);
}

#[test]
fn queue_14_accounts_take_turns_and_each_is_served_in_order() {
    let mut board = Board::new(100);
    for n in 0..6 {
        board.add(T, entry(n, "domain a"));
    }
    for n in 6..8 {
        board.add(
            T,
            Entry {
                account: "blog",
                ..entry(n, "domain a")
            },
        );
    }
    let jobs = all(&mut board, T);
    assert_eq!(numbers(&jobs), [0, 6, 1, 7, 2, 3, 4, 5]);
}

#[test]
fn queue_15_a_lane_that_comes_back_opens_with_one_probe_then_doubles() {
    let mut board = board(1_000, (0..300).map(|n| entry(n, "domain a")));
    let jobs = all(&mut board, T);
    assert_eq!(jobs.len(), 64);
    // All that were under way fail: it counts once.
    for job in &jobs {
        board.done(T, job.ticket, unreachable(), again(job, T + HOUR));
    }
    let pauses = [27_000, 54_000, 108_000, 270_000, 540_000, 540_000];
    let mut now = T;
    for pause in pauses {
        assert_eq!(board.next(now), None);
        assert_eq!(board.wake_at(), Some(now + pause));
        now += pause;
        let jobs = all(&mut board, now);
        assert_eq!((jobs.len(), jobs[0].is_probe), (1, true));
        board.done(
            now,
            jobs[0].ticket,
            unreachable(),
            again(&jobs[0], now + HOUR),
        );
    }
    let shown = row(&board, "domain a");
    assert_eq!((shown.window, shown.closed_until), (1, Some(now + 540_000)));
    assert_eq!(shown.why.as_deref(), Some("connection refused"));
    assert_eq!(shown.cause, Some(Cause::Unreachable));
    now += 540_000;
    for size in [1, 2, 4, 8, 16, 32, 64] {
        let jobs = all(&mut board, now);
        assert_eq!(jobs.len(), size);
        for job in jobs {
            board.done(now, job.ticket, After::Reached, Vec::new());
        }
        let shown = row(&board, "domain a");
        let cause = Some(Cause::Opening).filter(|_| size < 32);
        assert_eq!((shown.cause, shown.why), (cause, None), "{size}");
    }
    assert_eq!(row(&board, "domain a").cause, None);
}

#[test]
fn queue_15_flow_control_makes_a_lane_wait_and_the_job_keeps_its_place() {
    let mut board = board(100, (0..3).map(|n| entry(n, "domain a")));
    let job = tried(&mut board, T).unwrap();
    let until = T + 20_000;
    let no_room = |not_before, whom| After::NoRoom { not_before, whom };
    let front = |job: &Job| {
        vec![Again {
            end: End::Front,
            ..again(job, T).remove(0)
        }]
    };
    board.done(T, job.ticket, no_room(Some(until), Whom::Lane), front(&job));
    assert_eq!(board.next(T), None);
    assert_eq!(board.wake_at(), Some(until));
    let jobs = all(&mut board, until);
    assert_eq!(numbers(&jobs), [0]);
    board.done(
        until,
        jobs[0].ticket,
        no_room(None, Whom::Lane),
        front(&jobs[0]),
    );
    assert_eq!(board.wake_at(), Some(until + 10_000));
    board.look_again(until);
    let mut now = until;
    for wait in [20, 40, 60, 60] {
        let jobs = all(&mut board, now);
        assert_eq!(numbers(&jobs), [0]);
        board.done(
            now,
            jobs[0].ticket,
            no_room(None, Whom::Lane),
            front(&jobs[0]),
        );
        assert_eq!(board.wake_at(), Some(now + wait * 1000));
        now += wait * 1000;
    }
}

#[test]
fn queue_14_a_sender_that_flow_control_holds_back_does_not_hold_back_others() {
    let mut board = Board::new(100);
    for n in 0..2 {
        board.add(T, entry(n, "domain a"));
    }
    let job = tried(&mut board, T).unwrap();
    for n in 2..4 {
        board.add(
            T,
            Entry {
                sender: "example.net",
                ..entry(n, "domain a")
            },
        );
    }
    let after = After::NoRoom {
        not_before: Some(T + HOUR),
        whom: Whom::Sender,
    };
    board.done(T, job.ticket, after, again(&job, T));
    assert_eq!(numbers(&all(&mut board, T)), [2, 3]);
    assert_eq!(board.wake_at(), Some(T + HOUR));
    assert_eq!(numbers(&all(&mut board, T + HOUR)), [1, 0]);
}

#[test]
fn queue_13_t_55_what_is_too_old_is_given_out_in_every_state() {
    let mut board = Board::new(100);
    let expires = T + HOUR;
    let at = |n, lane| Entry {
        expires,
        ..entry(n, lane)
    };
    board.add(
        T,
        Entry {
            due: T + 2 * HOUR,
            ..at(0, "domain waiting")
        },
    );
    board.add(
        T,
        Entry {
            held: true,
            ..at(1, "domain held")
        },
    );
    board.suspend(Rule {
        lane: Some("domain suspended".to_owned()),
        ..Rule::default()
    });
    board.add(T, at(2, "domain suspended"));
    board.add(T, at(3, "domain closed"));
    let probe = tried(&mut board, T).unwrap();
    for _ in 0..5 {
        board.add(T, at(4, "domain closed"));
    }
    board.done(T, probe.ticket, unreachable(), again(&probe, T + HOUR));
    for _ in 0..4 {
        let now = board.wake_at().unwrap();
        let job = tried(&mut board, now).unwrap();
        board.done(now, job.ticket, unreachable(), again(&job, now + HOUR));
    }
    let now = board.wake_at().unwrap();
    let late = tried(&mut board, now).unwrap();
    assert!(board.wake_at().unwrap() <= expires);
    board.set_places(0);
    let mut now = T;
    let mut ends = Vec::new();
    while now < expires {
        assert_eq!(board.next(now), None);
        now = board.wake_at().unwrap();
    }
    assert_eq!(now, expires);
    while let Some(start) = board.next(now) {
        let Start::Expired(expired) = start else {
            panic!("{start:?}")
        };
        assert!(!expired.by_operator);
        ends.push(expired.message.0);
    }
    ends.sort();
    assert_eq!(ends, [0, 1, 2, 3, 4, 4, 4, 4]);
    // What runs expires when it comes back.
    board.done(now, late.ticket, After::Reached, again(&late, now + HOUR));
    assert!(matches!(board.next(now), Some(Start::Expired(_))));
    assert_eq!(board.counts(), Counts::default());
}

#[test]
fn ret_39_the_sender_is_told_of_a_delay_once_wherever_the_job_is() {
    let mut board = Board::new(100);
    let tell = Some(T + 4 * HOUR);
    board.add(
        T,
        Entry {
            tell,
            ..entry(0, "domain a")
        },
    );
    board.add(
        T,
        Entry {
            tell,
            held: true,
            ..entry(1, "domain a")
        },
    );
    board.add(
        T,
        Entry {
            tell,
            due: T + DAY,
            ..entry(2, "domain a")
        },
    );
    let job = tried(&mut board, T).unwrap();
    board.add(
        T,
        Entry {
            tell,
            ..entry(3, "domain a")
        },
    );
    board.done(T, job.ticket, unreachable(), again(&job, T + HOUR));
    board.set_places(0);
    let mut told = Vec::new();
    while let Some(now) = board.wake_at().filter(|now| *now < T + DAY) {
        while let Some(start) = board.next(now) {
            let Start::Delayed(delayed) = start else {
                panic!("{start:?}")
            };
            assert_eq!(now, T + 4 * HOUR);
            told.push(delayed.message.0);
        }
    }
    assert_eq!(told, [1, 2, 3], "nobody asked for it when 0 came back");
}

#[test]
fn queue_18_a_job_knows_the_suspended_lanes_to_which_it_may_belong() {
    let mut board = Board::new(100);
    let address = "192.0.2.10".parse().unwrap();
    let rule = |lane: &str, account: Option<&str>, outbound| Rule {
        lane: Some(lane.to_owned()),
        account: account.map(str::to_owned),
        outbound,
        ..Rule::default()
    };
    for rule in [
        rule("group big", None, None),
        rule("group big", Some("blog"), None),
        rule("host next", Some("shop"), Some(address)),
        Rule {
            sender: Some("elsewhere.example".to_owned()),
            ..rule("group small", None, None)
        },
        Rule {
            outbound: Some(address),
            ..Rule::default()
        },
    ] {
        board.suspend(rule).unwrap();
    }
    board.add(T, entry(0, "domain a"));
    // What is known of it is all that there is to know.
    board.add(T, entry(1, "group other"));
    board.add(T, entry(2, "host other"));
    let jobs = all(&mut board, T);
    let of = |lane: &str, outbound| Closed {
        lane: lane.to_owned(),
        outbound,
    };
    let closed = [of("group big", None), of("host next", Some(address))];
    assert_eq!(jobs[0].closed, closed);
    assert_eq!((&jobs[1].closed, &jobs[2].closed), (&vec![], &vec![]));
}

#[test]
fn queue_18_suspended_mail_waits_and_others_do_not_wait_for_it() {
    let mut board = Board::new(100);
    let address = "192.0.2.10".parse().unwrap();
    let rule = |lane: Option<&str>, sender: Option<&str>, account: Option<&str>| Rule {
        lane: lane.map(str::to_owned),
        sender: sender.map(str::to_owned),
        account: account.map(str::to_owned),
        reason: "abuse".to_owned(),
        ..Rule::default()
    };
    let account = board.suspend(rule(None, None, Some("shop"))).unwrap();
    let sender = board
        .suspend(rule(Some("domain b"), Some(""), None))
        .unwrap();
    board.suspend(Rule {
        until: Some(T + HOUR),
        ..rule(Some("domain c"), None, None)
    });
    board.suspend(Rule {
        outbound: Some(address),
        ..rule(Some("domain a"), None, None)
    });
    board.add(T, entry(0, "domain a"));
    board.add(
        T,
        Entry {
            account: "blog",
            ..entry(1, "domain a")
        },
    );
    board.add(
        T,
        Entry {
            account: "blog",
            sender: "",
            ..entry(2, "domain b")
        },
    );
    board.add(
        T,
        Entry {
            account: "blog",
            ..entry(3, "domain b")
        },
    );
    board.add(
        T,
        Entry {
            account: "blog",
            ..entry(4, "domain c")
        },
    );
    let jobs = all(&mut board, T);
    assert_eq!(numbers(&jobs), [1, 3]);
    assert_eq!(jobs[0].without, [address]);
    assert!(jobs[1].without.is_empty());
    assert_eq!(row(&board, "domain a").suspended, 1);
    assert_eq!(row(&board, "domain c").reason.as_deref(), Some("abuse"));
    assert_eq!(row(&board, "domain b").reason, None);
    assert_eq!(board.wake_at(), Some(T + HOUR));
    assert_eq!(numbers(&all(&mut board, T + HOUR)), [4]);
    assert_eq!(
        board.resume(account).unwrap().account.as_deref(),
        Some("shop")
    );
    assert_eq!(board.wake_at(), Some(0));
    assert_eq!(numbers(&all(&mut board, T + HOUR)), [0]);
    assert!(board.resume(account).is_none());
    board.resume(sender);
    assert_eq!(numbers(&all(&mut board, T + HOUR)), [2]);
    assert_eq!(board.rules().count(), 1);
}

#[test]
fn queue_16_operators_hold_release_retry_remove_and_bounce() {
    let mut board = Board::new(100);
    let of = |recipients: &[u32]| Recipients::from(recipients);
    let (one, two) = (MessageNo(1), MessageNo(2));
    let later = T + HOUR;
    board.add(
        T,
        Entry {
            recipients: of(&[0, 1, 2, 3]),
            due: later,
            ..entry(1, "domain a")
        },
    );
    board.add(
        T,
        Entry {
            recipients: of(&[4]),
            due: later,
            ..entry(1, "domain b")
        },
    );
    board.add(
        T,
        Entry {
            due: later,
            ..entry(2, "domain a")
        },
    );
    assert_eq!(board.hold(T, one, Some(&[1, 4, 9])).now, [1, 4]);
    assert_eq!(board.hold(T, one, Some(&[1])).count(), 0);
    assert_eq!(board.counts().tally.held, 2);
    assert_eq!(
        board.retry(T, one, None).now,
        [0, 2, 3],
        "what is held stays so"
    );
    let job = tried(&mut board, T).unwrap();
    assert_eq!((job.message, job.recipients.clone()), (one, of(&[0, 2, 3])));
    // While it runs.
    assert_eq!(board.hold(T, one, Some(&[0])).later, [0]);
    assert_eq!(board.release(T, one, Some(&[0])).later, [0]);
    assert_eq!(board.hold(T, one, Some(&[0])).later, [0]);
    assert_eq!(board.remove(T, one, Some(&[2])).later, [2]);
    assert_eq!(board.expire(T, one, Some(&[3])).later, [3]);
    let wanted = board
        .done(T, job.ticket, After::Reached, again(&job, T))
        .unwrap();
    assert_eq!((wanted.removed, wanted.held), (vec![2], vec![0]));
    let expired = |recipients: &[u32], message| {
        Some(Start::Expired(Expired {
            message,
            recipients: of(recipients),
            received: T,
            expires: T + 2 * DAY,
            by_operator: true,
        }))
    };
    assert_eq!(board.next(T), expired(&[3], one));
    assert_eq!(board.expire(T, two, None).now, [0]);
    assert_eq!(board.wake_at(), Some(0));
    assert_eq!(board.next(T), expired(&[0], two));
    assert_eq!(board.release(T, one, Some(&[4])).now, [4]);
    assert_eq!(board.remove(T, one, None).count(), 3);
    assert_eq!((board.counts(), board.wake_at()), (Counts::default(), None));
}

#[test]
fn queue_16_retry_lets_a_probe_go_to_a_closed_lane() {
    let mut board = board(100, (0..9).map(|n| entry(n, "domain a")));
    let job = tried(&mut board, T).unwrap();
    board.done(T, job.ticket, unreachable(), again(&job, T + HOUR));
    assert_eq!(board.next(T), None);
    assert_eq!(board.retry(T, MessageNo(5), None).count(), 1);
    let jobs = all(&mut board, T);
    assert_eq!(numbers(&jobs), [5]);
    assert!(jobs[0].is_probe);
}

#[test]
fn queue_14_lanes_that_are_done_with_are_forgotten() {
    let mut board = Board::new(100);
    for n in 0..1_000 {
        let lane = format!("domain {n}");
        let sender = format!("{n}.example");
        board.add(
            T,
            Entry {
                sender: &sender,
                ..entry(n, &lane)
            },
        );
    }
    let mut ends = 0;
    while let Some(job) = tried(&mut board, T) {
        let after = match ends % 2 {
            0 => unreachable(),
            _ => After::Reached,
        };
        board.done(T, job.ticket, after, Vec::new());
        ends += 1;
    }
    assert_eq!(ends, 1_000);
    assert_eq!(board.rows().len(), 500, "closed ones are remembered");
    while let Some(now) = board.wake_at() {
        assert_eq!(board.next(now), None);
    }
    assert_eq!(board.rows(), []);
}

#[test]
fn queue_16_where_a_delivery_stands_and_what_can_be_withdrawn() {
    let mut board = Board::new(100);
    let of = |recipients: &[u32]| Recipients::from(recipients);
    let one = MessageNo(1);
    board.add(
        T,
        Entry {
            recipients: of(&[0, 1]),
            ..entry(1, "domain a")
        },
    );
    let job = tried(&mut board, T).unwrap();
    board.add(
        T,
        Entry {
            recipients: of(&[2, 3, 4]),
            due: T + HOUR,
            ..entry(1, "domain b")
        },
    );
    board.hold(T, one, Some(&[3]));
    let all = |board: &Board| [0, 1, 2, 3, 4, 5].map(|r| board.standing(one, r));
    let (running, waiting) = (Some(Standing::Running), Some(Standing::Waiting));
    let held = Some(Standing::Held);
    assert_eq!(
        all(&board),
        [running, running, waiting, held, waiting, None]
    );
    let rule = Rule {
        lane: Some("domain b".to_owned()),
        ..Rule::default()
    };
    // The number of before the restart stays, and is not given again.
    assert!(board.restore(RuleNo(7), rule.clone()));
    let suspended = Some(Standing::Suspended);
    assert_eq!(
        all(&board),
        [running, running, suspended, held, suspended, None]
    );
    let so = |board: &Board, standing, after: Option<u32>, most| {
        let number = |recipient| DeliveryNo {
            message: one,
            recipient,
        };
        let found = board.standing_so(standing, after.map(number), most);
        found.iter().map(|n| n.recipient).collect::<Vec<_>>()
    };
    assert_eq!(so(&board, Standing::Running, None, 9), [0, 1]);
    assert_eq!(so(&board, Standing::Running, Some(0), 9), [1]);
    assert_eq!(so(&board, Standing::Suspended, None, 9), [2, 4]);
    assert_eq!(so(&board, Standing::Held, Some(3), 9), [0_u32; 0]);
    assert_eq!(board.suspend(Rule::default()), Some(RuleNo(8)));
    assert!(board.resume(RuleNo(8)).is_some());
    assert_eq!(board.rules().collect::<Vec<_>>(), [(RuleNo(7), &rule)]);

    // What runs stays, and nothing is wished of it.
    assert_eq!(board.withdraw(T, one, Some(&[0, 2, 3])), [2, 3]);
    assert_eq!(all(&board), [running, running, None, None, suspended, None]);
    let wanted = board.done(T, job.ticket, After::Reached, again(&job, T + HOUR));
    assert_eq!(wanted, Some(Wanted::default()));
    assert_eq!(board.withdraw(T, one, None).len(), 3);
    assert_eq!(board.counts(), Counts::default());
}

#[test]
fn queue_18_a_lane_to_which_nothing_came_is_not_remembered() {
    let mut board = board(100, [entry(0, "domain a")]);
    let job = tried(&mut board, T).unwrap();
    board.remove(T, MessageNo(0), None);
    let moved = vec![Again {
        lane: Some("group b"),
        ..again(&job, T).remove(0)
    }];
    board.done(T, job.ticket, After::Nothing, moved);
    assert_eq!(board.rows(), []);
    board.suspend(Rule::default());
    board.add(T, entry(1, "group b"));
    assert_eq!(board.next(T), None);
}
