//! The desk as a whole: what is shared, what is not, and that no limit is ever exceeded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::desk::{Case, Demand, Desk, GroupFlow, Key, Travel};
use super::params::{Section, Sections, Target};
use super::*;
use crate::outbounds::Outbounds;

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
    assert_eq!(after.restore(now, saved), Vec::<String>::new());
    let later = now.after(MINUTE);
    assert_eq!(after.rows(later, None), before.rows(later, None));
    assert_eq!(after.ask(later, case, Travel::NewSession, 10), Ok(4));
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

/// xorshift64*.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
    }
}

fn random_section(chance: &mut Chance) -> Section {
    let seconds = |n: u64| Some(Duration::from_secs(n));
    Section {
        sleepttl: seconds(chance.next(300)),
        threadmax: Some(u32::try_from(chance.next(4)).unwrap()),
        waittime: seconds(chance.next(5)),
        volttllow: seconds(chance.next(120)),
        volmaxlow: Some(chance.next(20)),
        volttlhigh: seconds(chance.next(2000)),
        volmaxhigh: Some(chance.next(200)),
        flowttlup: seconds(chance.next(1000)),
        flowvolup: Some(chance.next(60)),
        flowttldown: seconds(chance.next(3000)),
        flowvoldown: Some(chance.next(20)),
        errmax: Some(u32::try_from(chance.next(4)).unwrap()),
        flowerr: Some(Target::Down),
        ..Section::default()
    }
}

/// One world: random parameters, random mail, replies, switches and restarts. What was sent is
/// written down apart, and after each message both windows of the set in force are counted again.
fn world(seed: u64) {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut sections = Sections::default();
    for control in [Control::Ip, Control::Sender] {
        for set in Set::ALL {
            *sections.section(control, set, None) = random_section(&mut chance);
        }
    }
    let free = sections.section(Control::Sender, Set::Warmup, Some("free.example"));
    (free.threadmax, free.volmaxlow, free.volmaxhigh) = (Some(0), Some(0), Some(0));
    let flow = GroupFlow {
        sections: sections.clone(),
        defaults: Arc::default(),
        ..GroupFlow::default()
    };
    let mut desk = Desk::default();
    desk.configure([("isp".to_owned(), flow.clone())]);
    let mut now = start();
    let senders = ["a.example", "b.example"];
    let mut sent: HashMap<(Control, String), Vec<u64>> = HashMap::new();
    let mut open: Vec<Case<'static>> = Vec::new();
    for _ in 0..300 {
        let mut case = case(senders[usize::try_from(chance.next(2)).unwrap()]);
        case.ip = IpAddr::from([192, 0, 2, u8::try_from(chance.next(2)).unwrap()]);
        now = now.after(Duration::from_millis(chance.next(20_000)));
        match chance.next(20) {
            0 => {
                let sets = [chance.next(8), chance.next(8)]
                    .map(|i| Set::ALL.get(usize::try_from(i).unwrap()).copied());
                desk.blocked(now, case, sets[0], sets[1], "p");
            }
            1 => desk.tick(now),
            2 if open.is_empty() => {
                let mut new = Desk::default();
                new.configure([("isp".to_owned(), flow.clone())]);
                let rows = desk.rows(now, None);
                let again = all(&mut desk, &rows);
                // The clock of the host was set meanwhile.
                now = match chance.next(3) {
                    0 => now.before(Duration::from_millis(chance.next(3_600_000))),
                    1 => now.after(Duration::from_millis(chance.next(3_600_000))),
                    _ => now,
                };
                for times in sent.values_mut() {
                    let ahead = times.last().map_or(0, |last| last.saturating_sub(now.0));
                    times.iter_mut().for_each(|time| *time -= ahead);
                }
                assert_eq!(new.restore(now, again), Vec::<String>::new());
                desk = new;
            }
            3 | 4 if !open.is_empty() => {
                let closed = open.swap_remove(0);
                desk.session_closed(now, closed);
            }
            5 => desk.unknown_error(now, case),
            _ => {
                let wanted = 1 + chance.next(3);
                let travel = match open.iter().any(|o| same(o, &case)) {
                    true => Travel::SameSession,
                    false => Travel::NewSession,
                };
                let asked = desk.ask(now, case, travel, wanted);
                if let Err(Verdict::NotBefore(then, ..)) = asked {
                    assert!(then > now, "seed {seed}: wait for the past");
                }
                let Ok(granted) = asked else { continue };
                if travel == Travel::NewSession {
                    open.push(case);
                }
                assert!(granted >= 1 && granted <= wanted, "seed {seed}");
                if chance.next(5) == 0 {
                    desk.given_back(now, case, granted);
                    continue;
                }
                desk.mail_sent(now, case, granted);
                for (control, key) in [
                    (Control::Ip, case.ip.to_string()),
                    (Control::Sender, case.sender.to_owned()),
                ] {
                    let times = sent.entry((control, key)).or_default();
                    times.extend((0..granted).map(|_| now.0));
                }
                check(seed, &desk, now, &sent, &open);
                if chance.next(3) > 0 {
                    desk.delivered(now, case, granted);
                }
            }
        }
        if now.0.is_multiple_of(8) {
            best_is_best(seed, &mut desk, now, case);
        }
        // No lost wake-up: at the moment that was named the message may go, if nobody else went.
        let mut probe = case;
        probe.sender = senders[0];
        if let Err(Verdict::NotBefore(then, ..)) = desk.ask(now, probe, Travel::SameSession, 1) {
            match desk.ask(then, probe, Travel::SameSession, 1) {
                Ok(granted) => desk.given_back(then, probe, granted),
                Err(verdict) => panic!("seed {seed}: {verdict:?} at the moment that was named"),
            }
        } else {
            desk.given_back(now, probe, 1);
        }
    }
}

/// What the desk has at hand of its addresses is what their states say (FLOW-23).
fn best_is_best(seed: u64, desk: &mut Desk, now: Moment, case: Case<'_>) {
    let turn = usize::try_from(seed % 5).unwrap();
    let outbounds: Outbounds = (0..4u8)
        .map(|n| crate::testing::outbound(&format!("192.0.2.{n}"), "mta"))
        .collect();
    for without in [None, Some(0), Some(1)] {
        let may = |place: usize| Some(place) != without;
        let (place, is_free) = desk.best(now, "isp", &outbounds, turn, &may).unwrap();
        let standing = |place: usize| {
            let ip = IpAddr::from([192, 0, 2, u8::try_from(place).unwrap()]);
            // A sender without limits, so that the address alone decides.
            let sender = "free.example";
            let case = Case { ip, sender, ..case };
            let is_free = desk.is_free(now, case, 1).is_ok();
            (
                is_free,
                desk.unused(now, case),
                std::cmp::Reverse((place + 4 - turn % 4) % 4),
            )
        };
        let wanted = (0..4)
            .filter(|place| may(*place))
            .max_by_key(|place| standing(*place));
        assert_eq!(Some(place), wanted, "seed {seed}");
        assert_eq!(is_free, standing(place).0, "seed {seed}");
    }
}

fn same(one: &Case<'_>, other: &Case<'_>) -> bool {
    one.ip == other.ip && one.sender == other.sender
}

/// All states as stored.
fn all(desk: &mut Desk, rows: &[desk::Row]) -> Vec<desk::Saved> {
    // Touching each state marks it as changed.
    for row in rows {
        let (ip, sender) = match row.control {
            Control::Ip => (row.key.parse().unwrap(), None),
            Control::Sender => (IpAddr::from([192, 0, 2, 0]), Some(row.key.clone())),
        };
        let sender = sender.unwrap_or_else(|| "a.example".to_owned());
        let case = Case {
            group: "isp",
            domain: "",
            ip,
            sender: &sender,
        };
        desk.given_back(Moment(0), case, 0);
    }
    desk.take_changed()
}

fn check(
    seed: u64,
    desk: &Desk,
    now: Moment,
    sent: &HashMap<(Control, String), Vec<u64>>,
    open: &[Case<'_>],
) {
    for row in desk.rows(now, None) {
        let times = sent.get(&(row.control, row.key.clone()));
        let Some(times) = times.filter(|times| times.last() == Some(&now.0)) else {
            continue;
        };
        for window in [row.params.low, row.params.high] {
            if window.is_on() {
                let edge = now.before(window.ttl).0;
                let count = times.iter().rev().take_while(|t| **t > edge).count() as u64;
                assert!(
                    count <= window.max,
                    "seed {seed}: {count} of {} in {:?}",
                    window.max,
                    window.ttl
                );
            }
        }
        let sessions = open.iter().filter(|case| match row.control {
            Control::Ip => case.ip.to_string() == row.key,
            Control::Sender => case.sender == row.key,
        });
        assert_eq!(row.sessions as usize, sessions.count(), "seed {seed}");
        assert!(row.sleeps_until <= now, "seed {seed}: sent while it sleeps");
    }
}

/// A thousand worlds; more with `GALERNE_WORLDS`, as `scripts/long` does.
#[test]
fn flow_26_t_50_no_window_is_exceeded_and_no_wake_up_lost_in_any_world() {
    let worlds = std::env::var("GALERNE_WORLDS");
    let worlds = worlds.map_or(1000, |n| n.parse().unwrap());
    for seed in 0..worlds {
        world(seed);
    }
}
