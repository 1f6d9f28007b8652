//! The desk as a whole: what is shared and what is not.

use std::net::IpAddr;

use super::desk::{Case, Demand, Desk, GroupFlow, Key, Slice, Travel, in_order};
use super::params::Sections;
use super::*;

mod worlds;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn start() -> Moment {
    Moment(1_800_000_000_000)
}

fn case(sender: &str) -> Case<'_> {
    Case {
        group: "isp",
        domain: "isp.example",
        ip: IpAddr::from([192, 0, 2, 1]),
        sender,
    }
}

fn desk(fill: impl Fn(&mut Sections)) -> Desk {
    let mut sections = Sections::default();
    fill(&mut sections);
    let mut desk = Desk::default();
    for name in ["isp", "other"] {
        let flow = GroupFlow {
            sections: sections.clone(),
            ..GroupFlow::default()
        };
        desk.configure([(name.to_owned(), flow)]);
    }
    let catch_all = GroupFlow {
        sections,
        is_catch_all: true,
        ..GroupFlow::default()
    };
    desk.configure([(String::new(), catch_all)]);
    desk
}

/// One message through: asked, sent, delivered, in its own session.
fn pass(desk: &mut Desk, now: Moment, case: Case<'_>) -> Result<(), Verdict> {
    desk.ask(now, case, Travel::NewSession, 1)?;
    desk.mail_sent(now, case, 1);
    desk.delivered(now, case, 1);
    desk.session_closed(now, case);
    Ok(())
}

#[test]
fn flow_2_flow_3_both_controls_must_permit_and_groups_are_apart() {
    let mut desk = desk(|sections| {
        let ip = sections.section(Control::Ip, Set::Warmup, None);
        (ip.volttllow, ip.volmaxlow) = (Some(MINUTE), Some(3));
        let sender = sections.section(Control::Sender, Set::Warmup, None);
        (sender.volttllow, sender.volmaxlow) = (Some(DAY), Some(2));
    });
    let now = start();
    assert_eq!(pass(&mut desk, now, case("a.example")), Ok(()));
    assert_eq!(pass(&mut desk, now, case("a.example")), Ok(()));
    assert_eq!(
        pass(&mut desk, now, case("a.example")),
        Err(Verdict::NotBefore(
            now.after(DAY),
            Control::Sender,
            Limit::VolMaxLow
        ))
    );
    assert_eq!(pass(&mut desk, now, case("b.example")), Ok(()));
    assert_eq!(
        pass(&mut desk, now, case("b.example")),
        Err(Verdict::NotBefore(
            now.after(MINUTE),
            Control::Ip,
            Limit::VolMaxLow
        ))
    );
    let other = Case {
        group: "other",
        ..case("a.example")
    };
    assert_eq!(pass(&mut desk, now, other), Ok(()));
}

#[test]
fn flow_20_flow_21_sessions_and_pauses() {
    let mut desk = desk(|sections| {
        for control in [Control::Ip, Control::Sender] {
            let set = sections.section(control, Set::Warmup, None);
            (set.threadmax, set.waittime) = (Some(1), Some(MINUTE));
            set.chainmax = Some(if control == Control::Ip { 10 } else { 7 });
        }
    });
    let (now, case) = (start(), case("a.example"));
    assert_eq!(desk.chain(now, case), 7);
    assert_eq!(desk.ask(now, case, Travel::NewSession, 1), Ok(1));
    assert_eq!(
        desk.ask(now, case, Travel::NewSession, 1),
        Err(Verdict::WhenFree(Control::Ip))
    );
    assert_eq!(desk.ask(now, case, Travel::SameSession, 1), Ok(1));
    desk.session_closed(now, case);
    assert_eq!(
        desk.ask(now, case, Travel::NewSession, 1),
        Err(Verdict::NotBefore(
            now.after(MINUTE),
            Control::Ip,
            Limit::WaitTime
        ))
    );
    assert_eq!(
        desk.ask(now.after(MINUTE), case, Travel::NewSession, 1),
        Ok(1)
    );
}

#[test]
fn flow_51_flow_52_the_catch_all_adds_volumes_and_counts_sessions_for_each_domain() {
    let mut desk = desk(|sections| {
        for control in [Control::Ip, Control::Sender] {
            let set = sections.section(control, Set::Warmup, None);
            (set.volttllow, set.volmaxlow) = (Some(DAY), Some(3));
            (set.threadmax, set.waittime) = (Some(1), Some(MINUTE));
        }
    });
    let of = |domain| Case {
        group: "",
        domain,
        ..case("a.example")
    };
    let now = start();
    assert_eq!(desk.ask(now, of("x.example"), Travel::NewSession, 1), Ok(1));
    assert!(
        desk.ask(now, of("x.example"), Travel::NewSession, 1)
            .is_err()
    );
    assert_eq!(desk.ask(now, of("y.example"), Travel::NewSession, 1), Ok(1));
    desk.session_closed(now, of("x.example"));
    assert_eq!(
        desk.ask(now, of("x.example"), Travel::NewSession, 1),
        Err(Verdict::NotBefore(
            now.after(MINUTE),
            Control::Ip,
            Limit::WaitTime
        ))
    );
    assert_eq!(desk.ask(now, of("z.example"), Travel::NewSession, 1), Ok(1));
    for domain in ["x.example", "y.example", "z.example"] {
        desk.mail_sent(now, of(domain), 1);
    }
    assert!(matches!(
        desk.ask(now, of("new.example"), Travel::NewSession, 1),
        Err(Verdict::NotBefore(_, Control::Ip, Limit::VolMaxLow))
    ));
}

#[test]
fn flow_42_flow_45_a_block_names_the_sets_of_ip_and_sender() {
    let mut desk = desk(|sections| {
        sections.section(Control::Ip, Set::Defcon2, None).sleepttl = Some(DAY);
    });
    let (now, case) = (start(), case("a.example"));
    desk.blocked(now, case, None, None, "listed");
    assert_eq!(desk.take_switches(), []);
    desk.blocked(now, case, Some(Set::Defcon2), Some(Set::Defcon1), "listed");
    let switches = desk.take_switches();
    let shown: Vec<_> = switches
        .iter()
        .map(|s| (s.control, &*s.key, s.change.to))
        .collect();
    assert_eq!(
        shown,
        [
            (Control::Ip, "192.0.2.1", Set::Defcon2),
            (Control::Sender, "a.example", Set::Defcon1)
        ]
    );
    assert_eq!(
        desk.ask(now, case, Travel::NewSession, 1),
        Err(Verdict::NotBefore(
            now.after(DAY),
            Control::Ip,
            Limit::SleepTtl
        ))
    );
}

#[test]
fn flow_23_the_share_that_is_unused() {
    let mut desk = desk(|sections| {
        let ip = sections.section(Control::Ip, Set::Warmup, None);
        (ip.volttllow, ip.volmaxlow) = (Some(DAY), Some(4));
    });
    let (now, case) = (start(), case("a.example"));
    assert_eq!(desk.unused(now, case), 1_000_000);
    assert_eq!(pass(&mut desk, now, case), Ok(()));
    assert_eq!(desk.unused(now, case), 750_000);
}

#[test]
fn flow_4_a_relay_host_without_flow_section_has_no_limits() {
    let mut desk = Desk::default();
    let flow = GroupFlow {
        is_unlimited: true,
        ..GroupFlow::default()
    };
    desk.configure([("@corp".to_owned(), flow)]);
    let case = Case {
        group: "@corp",
        ..case("a.example")
    };
    for _ in 0..1000 {
        assert_eq!(desk.ask(start(), case, Travel::NewSession, 1), Ok(1));
    }
}

#[test]
fn conf_36_flow_28_states_survive_a_restart() {
    let fill = |sections: &mut Sections| {
        for control in [Control::Ip, Control::Sender] {
            let set = sections.section(control, Set::Low, None);
            (set.volttllow, set.volmaxlow) = (Some(DAY), Some(5));
        }
    };
    let mut before = desk(fill);
    let (now, case) = (start(), case("a.example"));
    for key in [Key::Ip(case.ip), Key::Sender(case.sender)] {
        let wish = Demand {
            group: "isp",
            key,
            set: Set::Low,
            sleep: false,
            lock: true,
        };
        before.demand(now, &wish);
    }
    assert_eq!(pass(&mut before, now, case), Ok(()));
    let saved = before.take_changed();
    assert_eq!(saved.len(), 2);
    assert_eq!(before.take_changed(), []);
    before.known_error(now, case);
    let batch = before.take_batch();
    before.known_error(now, case);
    assert_eq!(before.unsaved(), 2, "changed again meanwhile");
    before.put_back(batch);
    assert_eq!(before.unsaved(), 2, "each once");
    assert_eq!(before.take_changed().len(), 2, "a disk that refused");
    let refused = before.take_batch();
    assert!(refused.is_empty());
    let mut after = desk(fill);
    let after_stop = saved.clone();
    assert_eq!(after.restore(now, saved), Vec::<String>::new());
    assert_eq!(after.unsaved(), 0, "it is on disk already");
    let later = now.after(MINUTE);
    assert_eq!(after.rows(later, None), before.rows(later, None));
    assert_eq!(after.ask(later, case, Travel::NewSession, 10), Ok(4));
    // The clock was set back: what had to be moved is stored as it is now.
    let mut moved = desk(fill);
    moved.restore(now.before(DAY), after_stop);
    assert_eq!(moved.unsaved(), 2);
    let broken = desk::Saved {
        group: "isp".into(),
        control: "ipflow".into(),
        key: "192.0.2.9".into(),
        state: "{".into(),
    };
    assert_eq!(after.restore(now, [broken]).len(), 1);
}

#[test]
fn flow_15_conf_12_new_sections_hold_at_once_for_states_that_exist() {
    let mut desk = desk(|_| ());
    let (now, case) = (start(), case("a.example"));
    assert_eq!(pass(&mut desk, now, case), Ok(()));
    let mut sections = Sections::default();
    let ip = sections.section(Control::Ip, Set::Warmup, Some("192.0.2.1"));
    (ip.volttllow, ip.volmaxlow) = (Some(DAY), Some(1));
    let flow = GroupFlow {
        sections,
        ..GroupFlow::default()
    };
    desk.configure([("isp".to_owned(), flow)]);
    assert!(desk.ask(now, case, Travel::NewSession, 1).is_err());
}

#[test]
fn flow_28_conf_36_what_changed_is_taken_in_batches_however_much_there_is() {
    let mut desk = desk(|_| ());
    let now = start();
    let senders: Vec<String> = (0..1000).map(|n| format!("s{n}.example")).collect();
    for sender in &senders {
        desk.known_error(now, case(sender));
    }
    assert_eq!(desk.unsaved(), 1001);
    let first = desk.take_batch();
    assert!(first.len() <= 128, "{}", first.len());
    // A change during the writing of a batch is stored with a later one.
    desk.known_error(now, case("s0.example"));
    let mut keys = Vec::new();
    loop {
        let batch = desk.take_batch();
        if batch.is_empty() {
            break;
        }
        keys.extend(batch.iter().map(|unsaved| unsaved.saved().unwrap().key));
    }
    assert!(keys.contains(&"s0.example".to_owned()));
    assert!(keys.contains(&"s999.example".to_owned()));
    assert_eq!(
        keys.len() + first.len(),
        1003,
        "the IP and s0 twice, none lost"
    );

    // A long history counts for many.
    for second in 0..20_000 {
        let at = now.after(Duration::from_secs(second));
        for sender in ["long1.example", "long2.example"] {
            desk.mail_sent(at, case(sender), 1);
        }
    }
    let lengths: Vec<usize> = std::iter::from_fn(|| Some(desk.take_batch().len()))
        .take_while(|length| *length > 0)
        .collect();
    assert_eq!(lengths.iter().sum::<usize>(), 3);
}

#[test]
fn flow_3_made_up_senders_do_not_fill_the_memory_and_what_is_in_use_stays() {
    let mut desk = desk(|_| ());
    let now = start();
    let kept = case("kept.example");
    assert_eq!(desk.ask(now, kept, Travel::NewSession, 1), Ok(1));
    desk.take_changed();
    for number in 0..120_000u64 {
        let sender = format!("s{number}.example");
        let case = Case {
            sender: &sender,
            ..kept
        };
        desk.known_error(Moment(now.0 + number), case);
    }
    let rows = desk.rows(now, Some("isp"));
    assert!(rows.len() <= 100_002, "{}", rows.len());
    assert!(rows.iter().any(|row| row.key == "kept.example"));
    assert!(rows.iter().any(|row| row.key == "s119999.example"));
    let forgotten = desk
        .take_changed()
        .iter()
        .filter(|saved| saved.state.is_empty())
        .count();
    assert!(forgotten >= 20_000, "{forgotten}");
}

#[test]
fn if_6_flow_36_a_walk_in_slices_leaves_nobody_out_though_others_come_and_go() {
    let mut desk = desk(|sections| {
        let high = sections.section(Control::Sender, Set::High, None);
        (high.flowttldown, high.flowvoldown) = (Some(MINUTE), Some(1));
    });
    let now = start();
    let name = |n: u32| format!("s{n}.example");
    for n in 0..300 {
        let key = name(n);
        desk.demand(
            now,
            &Demand {
                group: "isp",
                key: Key::Sender(&key),
                set: Set::High,
                sleep: false,
                lock: false,
            },
        );
    }
    for n in 1..=100 {
        let ip = IpAddr::from([192, 0, 2, n]);
        desk.known_error(
            now,
            Case {
                ip,
                ..case("s0.example")
            },
        );
    }
    let (mut rows, mut next, mut slices) = (Vec::new(), Some(Slice::FIRST), 0);
    while let Some(slice) = next {
        let before = rows.len();
        next = desk.rows_of(now, "isp", slice, &mut rows);
        assert!(rows.len() - before <= 64, "a slice is short");
        slices += 1;
        // Others come meanwhile.
        desk.known_error(now, case(&name(1000 + slices)));
    }
    in_order(&mut rows);
    let of = |control: Control| rows.iter().filter(move |row| row.control == control);
    assert_eq!(of(Control::Ip).count(), 100);
    for n in 0..300 {
        let key = name(n);
        assert_eq!(of(Control::Sender).filter(|row| row.key == key).count(), 1);
    }
    desk.take_switches();
    desk.tick(now.after(2 * MINUTE));
    assert_eq!(desk.take_switches().len(), 300, "each rule is evaluated");
}
