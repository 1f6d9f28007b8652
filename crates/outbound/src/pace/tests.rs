use std::time::Duration;

use galerne_core::flow::Control;
use galerne_core::flow::params::Sections;
use galerne_core::model::Remote;
use galerne_core::settings::OutboundIp;
use galerne_core::tls_policy::{Encryption, Proof};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn pace(fill: impl Fn(&mut Sections)) -> Arc<Pace> {
    let mut sections = Sections::default();
    for control in [Control::Ip, Control::Sender] {
        sections.section(control, Set::Warmup, None).threadmax = Some(0);
    }
    fill(&mut sections);
    let flow = GroupFlow {
        sections,
        ..GroupFlow::default()
    };
    Pace::new(vec![("isp".to_owned(), flow)], Vec::new()).0
}

fn one_thread(sections: &mut Sections) {
    sections.section(Control::Ip, Set::Warmup, None).threadmax = Some(1);
}

fn wish(account: &str) -> Wish {
    Wish {
        account: account.into(),
        group: "isp".into(),
        domain: "isp.example".into(),
        sender: SenderDomain::Fixed("a.example".into()),
        outbounds: outbounds(1),
        among: Alternatives::any(0),
        is_ordered: false,
        turn: 0,
        count: 1,
    }
}

/// 192.0.2.1 and so on.
fn outbounds(count: u8) -> Outbounds {
    let outbound = |n: u8| OutboundIp {
        address: IpAddr::from([192, 0, 2, n]),
        name: format!("mta{n}.example"),
    };
    (1..=count).map(|n| Arc::new(outbound(n))).collect()
}

fn of(sender: &str) -> SenderDomain {
    SenderDomain::Fixed(sender.into())
}

fn soon() -> Instant {
    Instant::now() + MINUTE
}

fn key() -> Key {
    Key {
        outbound: IpAddr::from([192, 0, 2, 1]),
        remote: "198.51.100.25:25".parse().unwrap(),
        host: "mx.isp.example".into(),
        ehlo: "mta.example".into(),
        encryption: Encryption::Never,
        proof: Proof::None,
        credentials: None,
        auth_in_clear: false,
    }
}

/// Leave in a new session; `None`: not before the deadline.
async fn in_new_session(
    pace: &Arc<Pace>,
    wish: Wish,
    deadline: Instant,
) -> Option<(Leave, SessionMark)> {
    match pace.leave(wish, &key(), deadline, |_| ()).await? {
        Turn::New(leave, mark) => Some((leave, mark)),
        Turn::InSession(..) => panic!("there is no session"),
    }
}

/// Sends one message and ends its session.
async fn pass(pace: &Arc<Pace>, wish: Wish) -> Option<IpAddr> {
    let (mut leave, mut mark) = in_new_session(pace, wish, soon()).await?;
    mark.used();
    leave.mail_sent();
    Some(leave.outbound())
}

#[tokio::test(start_paused = true)]
async fn relay_69_flow_29_who_may_not_go_now_waits_until_a_window_has_room_or_the_deadline() {
    let pace = pace(|sections| {
        let set = sections.section(Control::Ip, Set::Warmup, None);
        (set.volttllow, set.volmaxlow) = (Some(MINUTE / 2), Some(1));
    });
    let began = Instant::now();
    assert!(pass(&pace, wish("shop")).await.is_some());
    assert!(pass(&pace, wish("shop")).await.is_some());
    assert_eq!(began.elapsed(), MINUTE / 2);
    let deadline = Instant::now() + Duration::from_secs(10);
    assert!(
        in_new_session(&pace, wish("shop"), deadline)
            .await
            .is_none()
    );
    assert_eq!(Instant::now(), deadline);
    assert_eq!(pace.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn relay_69_a_session_that_ends_lets_the_next_go_at_once() {
    let pace = pace(one_thread);
    let (leave, mark) = in_new_session(&pace, wish("shop"), soon()).await.unwrap();
    let began = Instant::now();
    let other = tokio::spawn({
        let pace = pace.clone();
        async move { pass(&pace, wish("shop")).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(pace.waiting(), 1);
    tokio::time::sleep(Duration::from_secs(7)).await;
    drop((leave, mark));
    assert!(other.await.unwrap().is_some());
    assert_eq!(began.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn flow_23_another_outbound_that_is_free_is_taken() {
    let pace = pace(one_thread);
    let both = || Wish {
        outbounds: outbounds(2),
        ..wish("shop")
    };
    let first = in_new_session(&pace, both(), soon()).await.unwrap();
    let second = in_new_session(&pace, both(), soon()).await.unwrap();
    assert_eq!(first.0.outbound(), IpAddr::from([192, 0, 2, 1]));
    assert_eq!(second.0.outbound(), IpAddr::from([192, 0, 2, 2]));
}

#[tokio::test(start_paused = true)]
async fn flow_22_accounts_take_turns_and_each_keeps_its_order() {
    let pace = pace(one_thread);
    let held = in_new_session(&pace, wish("first"), soon()).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (number, account) in ["big", "big", "big", "big", "small", "small"]
        .into_iter()
        .enumerate()
    {
        let (pace, order) = (pace.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            assert!(pass(&pace, wish(account)).await.is_some());
            order.lock().unwrap().push(format!("{account}{number}"));
        }));
        tokio::task::yield_now().await;
    }
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
    let order = order.lock().unwrap().join(" ");
    assert_eq!(order, "big0 small4 big1 small5 big2 big3");
}

#[tokio::test(start_paused = true)]
async fn flow_22_who_comes_late_does_not_catch_up_with_what_others_had_before() {
    let pace = pace(one_thread);
    let from = |place: usize, account: &str| Wish {
        outbounds: outbounds(2),
        among: Alternatives::only(place),
        ..wish(account)
    };
    let first = in_new_session(&pace, from(0, "first"), soon()).await;
    let second = in_new_session(&pace, from(1, "first"), soon()).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let line_up = |place: usize, account: &'static str| {
        let (pace, order, wish) = (pace.clone(), order.clone(), from(place, account));
        tokio::spawn(async move {
            let (mut leave, mut mark) = in_new_session(&pace, wish, soon()).await.unwrap();
            order.lock().unwrap().push(account);
            leave.mail_sent();
            mark.used();
            tokio::time::sleep(Duration::from_secs(1)).await;
        })
    };
    let mut tasks: Vec<_> = (0..20).map(|_| line_up(0, "early")).collect();
    // Its outbound is not free for long.
    tasks.extend([line_up(1, "kept"), line_up(1, "kept")]);
    tokio::task::yield_now().await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(9_500)).await;
    drop(second);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(order.lock().unwrap().last(), Some(&"kept"));
    order.lock().unwrap().clear();
    tasks.extend((0..5).map(|_| line_up(0, "late")));
    for task in tasks {
        task.await.unwrap();
    }
    let order: Vec<_> = order.lock().unwrap().drain(..).collect();
    let begin: Vec<_> = order
        .iter()
        .filter(|name| **name != "kept")
        .take(6)
        .collect();
    let early = begin.iter().filter(|name| ***name == "early").count();
    assert_eq!(early, 3, "in turn: {order:?}");
}

#[tokio::test(start_paused = true)]
async fn relay_69_one_that_cannot_go_holds_up_nobody_who_can() {
    let pace = pace(|sections| {
        let set = sections.section(Control::Sender, Set::Warmup, Some("slow.example"));
        (set.volttllow, set.volmaxlow) = (Some(10 * MINUTE), Some(1));
    });
    let slow = || Wish {
        sender: of("slow.example"),
        ..wish("shop")
    };
    assert!(pass(&pace, slow()).await.is_some());
    let waiting = tokio::spawn({
        let (pace, wish) = (pace.clone(), slow());
        async move { pass(&pace, wish).await }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    assert!(pass(&pace, wish("shop")).await.is_some());
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(waiting.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn relay_71_who_goes_away_leaves_the_line_and_nothing_is_lost() {
    let pace = pace(one_thread);
    let held = in_new_session(&pace, wish("shop"), soon()).await.unwrap();
    let gone = tokio::spawn({
        let pace = pace.clone();
        async move { pass(&pace, wish("shop")).await }
    });
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(pace.waiting(), 0);
    drop(held);
    assert!(pass(&pace, wish("shop")).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn flow_20_flow_27_chain_and_what_is_given_back() {
    let pace = pace(|sections| {
        let set = sections.section(Control::Ip, Set::Warmup, None);
        set.chainmax = Some(2);
        (set.volttllow, set.volmaxlow) = (Some(MINUTE), Some(5));
    });
    let (mut leave, mut mark) = in_new_session(&pace, wish("shop"), soon()).await.unwrap();
    leave.mail_sent();
    mark.used();
    let Idle::Leave(mut second) = pace.in_session(&key(), &mut mark, &wish("shop")) else {
        panic!("it may go in the same session");
    };
    second.mail_sent();
    mark.used();
    let third = pace.in_session(&key(), &mut mark, &wish("shop"));
    assert!(matches!(third, Idle::UsedUp), "chainmax");
    drop(in_new_session(&pace, wish("shop"), soon()).await.unwrap());
    let low = pace.rows(Some("isp"))[0].low;
    assert_eq!(low, (2, 5), "what was not sent does not count");
}

#[tokio::test(start_paused = true)]
async fn flow_26_several_recipients_go_as_far_as_the_window_allows() {
    let pace = pace(|sections| {
        let set = sections.section(Control::Ip, Set::Warmup, None);
        (set.volttllow, set.volmaxlow) = (Some(MINUTE), Some(3));
    });
    let many = Wish {
        count: 100,
        ..wish("shop")
    };
    let (leave, _mark) = in_new_session(&pace, many, soon()).await.unwrap();
    assert_eq!(leave.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn flow_20_a_session_taken_over_by_another_sender_counts_for_that_one() {
    let pace = pace(|sections| {
        let set = sections.section(Control::Sender, Set::Warmup, None);
        (set.threadmax, set.waittime) = (Some(1), Some(MINUTE / 2));
    });
    let other = || Wish {
        sender: of("b.example"),
        ..wish("shop")
    };
    let (mut leave, mut mark) = in_new_session(&pace, wish("shop"), soon()).await.unwrap();
    leave.mail_sent();
    mark.used();
    let Idle::Leave(_second) = pace.in_session(&key(), &mut mark, &other()) else {
        panic!("the session is free for another sender");
    };
    assert!(pace.try_leave(&other()).is_none());
    let began = Instant::now();
    assert!(pass(&pace, wish("shop")).await.is_some());
    assert_eq!(began.elapsed(), MINUTE / 2, "its slot pauses");
}

#[tokio::test(start_paused = true)]
async fn t_49_a_thousand_workers_never_exceed_the_sessions_and_all_come_through() {
    let pace = pace(|sections| {
        let set = sections.section(Control::Ip, Set::Warmup, None);
        (set.threadmax, set.waittime) = (Some(7), Some(Duration::from_millis(30)));
    });
    let (open, most) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let mut tasks = Vec::new();
    for number in 0..1000u64 {
        let (pace, open, most) = (pace.clone(), open.clone(), most.clone());
        let deadline = Instant::now() + 60 * MINUTE;
        tasks.push(tokio::spawn(async move {
            let account = format!("account-{}", number % 5);
            let (mut leave, mut mark) = in_new_session(&pace, wish(&account), deadline)
                .await
                .unwrap();
            leave.mail_sent();
            mark.used();
            let now = {
                let mut open = open.lock().unwrap();
                *open += 1;
                *open
            };
            let before = *most.lock().unwrap();
            *most.lock().unwrap() = before.max(now);
            tokio::time::sleep(Duration::from_millis(10 + number % 50)).await;
            *open.lock().unwrap() -= 1;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*most.lock().unwrap(), 7);
    assert_eq!(pace.waiting(), 0);
    assert_eq!(pace.rows(None)[0].sessions, 0);
}

/// From where the next hop would be made.
fn next(pace: &Pace, wish: &Wish) -> IpAddr {
    let remote = Remote {
        host: "mx.isp.example".into(),
        address: "198.51.100.25:25".parse().unwrap(),
    };
    let mut chase = Chase::new(vec![remote], wish.outbounds.clone(), 3);
    match pace.next_hop(&mut chase, wish, &|_| false) {
        Next::Try { outbound, .. } => outbound.address,
        Next::Exhausted => panic!("there is a pair"),
    }
}

#[tokio::test(start_paused = true)]
async fn relay_57_an_idle_session_is_no_reason_to_leave_the_order() {
    let pace = pace(one_thread);
    let ordered = Wish {
        outbounds: outbounds(2),
        is_ordered: true,
        ..wish("shop")
    };
    let (first, second) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    assert_eq!(next(&pace, &ordered), first);
    let (mut leave, mut mark) = in_new_session(&pace, ordered.clone(), soon())
        .await
        .unwrap();
    leave.mail_sent();
    mark.used();
    assert_eq!(next(&pace, &ordered), second, "its one session is at work");
    mark.idle(true);
    assert_eq!(next(&pace, &ordered), first, "it takes the next message");
    mark.idle(false);
    assert_eq!(next(&pace, &ordered), second);
    drop((leave, mark));
    assert_eq!(next(&pace, &ordered), first);
}

#[tokio::test(start_paused = true)]
async fn flow_27_mail_that_nobody_heard_does_not_count_until_it_is_sent_again() {
    let pace = pace(|sections| {
        let set = sections.section(Control::Ip, Set::Warmup, None);
        (set.volttllow, set.volmaxlow) = (Some(MINUTE), Some(1));
    });
    let low = || pace.rows(Some("isp"))[0].low;
    let (mut leave, _mark) = in_new_session(&pace, wish("shop"), soon()).await.unwrap();
    leave.mail_sent();
    tokio::time::sleep(MINUTE / 2).await;
    leave.mail_unheard();
    assert_eq!(low(), (1, 1), "it may still go");
    leave.mail_sent();
    let began = Instant::now();
    let next = in_new_session(&pace, wish("shop"), soon() + MINUTE).await;
    assert_eq!(began.elapsed(), MINUTE, "counted from when it was heard");
    let (mut next, _mark) = next.unwrap();
    next.mail_sent();
    next.mail_unheard();
    drop(next);
    assert_eq!(low(), (0, 1), "never heard, never counted");
}

#[tokio::test(start_paused = true)]
async fn flow_20_flow_21_a_new_session_in_place_of_a_closed_one_pauses_and_begins_its_chain() {
    let pace = pace(|sections| {
        let set = sections.section(Control::Ip, Set::Warmup, None);
        (set.threadmax, set.chainmax) = (Some(1), Some(2));
        set.waittime = Some(MINUTE);
    });
    let (mut leave, mut mark) = in_new_session(&pace, wish("shop"), soon()).await.unwrap();
    leave.mail_sent();
    mark.used();
    drop((leave, mark));
    let deadline = soon() + MINUTE;
    let (leave, mark) = in_new_session(&pace, wish("shop"), deadline).await.unwrap();
    let mut mark = mark;
    mark.used();
    drop(mark);
    assert!(leave.reopen().is_none(), "its slot pauses");
    tokio::time::sleep(MINUTE).await;
    let mut mark = leave.reopen().unwrap();
    assert!(leave.reopen().is_none(), "one session at a time");
    mark.used();
    let second = pace.in_session(&key(), &mut mark, &wish("shop"));
    assert!(matches!(second, Idle::Leave(_)), "two messages in it");
}

#[test]
fn if_6_flow_36_mail_goes_on_while_a_hundred_thousand_states_are_listed_and_evaluated() {
    let state = r#"{"set":"high","entered":0,"sent":[],"delivered":[]}"#;
    let saved = (0..100_000).map(|n| Saved {
        group: "isp".into(),
        control: "sdflow".into(),
        key: format!("s{n}.example"),
        state: state.into(),
    });
    let mut sections = Sections::default();
    let high = sections.section(Control::Sender, Set::High, None);
    (high.flowttldown, high.flowvoldown) = (Some(MINUTE), Some(1));
    let flow = GroupFlow {
        sections,
        ..GroupFlow::default()
    };
    let (pace, faults) = Pace::new(vec![("isp".to_owned(), flow)], saved.collect());
    assert_eq!(faults, Vec::<String>::new());
    for work in [
        |pace: &Pace| pace.rows(None).len(),
        |pace: &Pace| {
            pace.tick();
            pace.take_switches().len()
        },
    ] {
        let walker = std::thread::spawn({
            let pace = pace.clone();
            move || work(&pace)
        });
        let began = std::time::Instant::now();
        let mut longest = Duration::ZERO;
        while !walker.is_finished() {
            let asked = std::time::Instant::now();
            assert_eq!(pace.waiting(), 0);
            longest = longest.max(asked.elapsed());
        }
        let whole = began.elapsed();
        assert_eq!(walker.join().unwrap(), 100_000);
        assert!(longest * 4 < whole, "{longest:?} of {whole:?}");
    }
}
