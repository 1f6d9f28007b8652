//! Random worlds: mail, replies, switches, clean restarts, crashes and a clock that is set. Whatever
//! happens, no limit is exceeded at any moment, nobody waits longer than he must, and a crash
//! forgets what was not yet on disk and nothing else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{case, start};
use crate::flow::desk::{Case, Desk, GroupFlow, Row, Saved, Travel};
use crate::flow::params::{Section, Sections, Target};
use crate::flow::{Control, Moment, Set, Verdict};
use crate::outbounds::Outbounds;

/// What changed is on disk after so many milliseconds (FLOW-28).
const STORED: u64 = 1000;
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

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
        sleepttl: seconds(chance.next(LONGEST_SLEEP.as_secs())),
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

/// Whose messages are counted.
type Whose = (Control, String);

/// What was sent, written down apart from the desk, by a clock that nobody sets.
#[derive(Default)]
struct Ledger {
    /// When each message was sent.
    sent: HashMap<Whose, Vec<u64>>,
    /// Of these, those that a crash made the desk forget.
    forgotten: HashMap<Whose, Vec<u64>>,
    /// How many of `sent` are on disk.
    stored: HashMap<Whose, usize>,
}

/// The desk with its disk, its clock and who talks.
struct World {
    seed: u64,
    chance: Chance,
    flow: GroupFlow,
    desk: Desk,
    now: Moment,
    /// By how much the clock was set back so far.
    behind: u64,
    ledger: Ledger,
    /// What was stored last of each state.
    disk: HashMap<Whose, Saved>,
    /// How the states stood then.
    kept: Vec<Row>,
    /// Since when something waits to be stored.
    unsaved_since: Option<u64>,
    open: Vec<(Case<'static>, u32)>,
}

impl World {
    fn new(seed: u64) -> Self {
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
            sections,
            ..GroupFlow::default()
        };
        let mut desk = Desk::default();
        desk.configure([("isp".to_owned(), flow.clone())]);
        World {
            seed,
            chance,
            flow,
            desk,
            now: start(),
            behind: 0,
            ledger: Ledger::default(),
            disk: HashMap::new(),
            kept: Vec::new(),
            unsaved_since: None,
            open: Vec::new(),
        }
    }

    /// The time that nobody sets.
    fn true_now(&self) -> u64 {
        self.now.0 + self.behind
    }

    /// Time passes; what waits for a second is stored on the way.
    fn pass(&mut self) {
        let step = match self.chance.next(2) {
            0 => self.chance.next(400),
            _ => self.chance.next(20_000),
        };
        let later = self.true_now() + step;
        let is_due = self
            .unsaved_since
            .is_some_and(|since| later >= since + STORED);
        if is_due || self.chance.next(4) == 0 {
            self.store();
        }
        self.now = self.now.after(Duration::from_millis(step));
    }

    fn store(&mut self) {
        for saved in self.desk.take_changed() {
            let control = match saved.control == Control::Ip.word() {
                true => Control::Ip,
                false => Control::Sender,
            };
            self.disk.insert((control, saved.key.clone()), saved);
        }
        for (whose, times) in &self.ledger.sent {
            self.ledger.stored.insert(whose.clone(), times.len());
        }
        self.kept = self.desk.rows(self.now, None);
        self.unsaved_since = None;
    }

    /// The process ends, and another begins with what is on disk. Nothing waits to be stored after
    /// a clean stop; a crash ends all sessions.
    fn restart(&mut self, is_crash: bool) {
        match is_crash {
            true => self.open.clear(),
            false => self.store(),
        }
        let (seed, now) = (self.seed, self.true_now());
        for (whose, times) in &self.ledger.sent {
            let stored = self.ledger.stored.get(whose).copied().unwrap_or(0);
            let lost = &times[stored..];
            assert!(
                lost.iter().all(|at| *at + STORED > now),
                "seed {seed}: more than the last second is forgotten"
            );
            let forgotten = self.ledger.forgotten.entry(whose.clone()).or_default();
            forgotten.extend(lost);
            self.ledger.stored.insert(whose.clone(), times.len());
        }
        // The clock of the host was set meanwhile, or time went by.
        let length = self.chance.next(3_600_000);
        match self.chance.next(3) {
            0 => {
                self.now = self.now.before(Duration::from_millis(length));
                self.behind += length;
            }
            1 => self.now = self.now.after(Duration::from_millis(length)),
            _ => {}
        }
        let mut desk = Desk::default();
        desk.configure([("isp".to_owned(), self.flow.clone())]);
        let stored = self.disk.values().cloned();
        assert_eq!(desk.restore(self.now, stored), Vec::<String>::new());
        self.desk = desk;
        self.unsaved_since = None;
        self.as_stored();
    }

    /// What was on disk is there again: sets, locks, and each message that counted.
    fn as_stored(&self) {
        let (seed, now) = (self.seed, self.true_now());
        let rows = self.desk.rows(self.now, None);
        assert_eq!(rows.len(), self.kept.len(), "seed {seed}");
        for (row, kept) in rows.iter().zip(&self.kept) {
            assert_eq!(
                (&row.key, row.control, row.set, row.is_locked),
                (&kept.key, kept.control, kept.set, kept.is_locked),
                "seed {seed}"
            );
            assert!(
                row.entered <= self.now,
                "seed {seed}: entered in the future"
            );
            let sleeps = row.sleeps_until.since(self.now);
            assert!(sleeps < LONGEST_SLEEP, "seed {seed}: {sleeps:?}");
            for ((fill, max), window) in [(row.low, row.params.low), (row.high, row.params.high)] {
                let whose = (row.control, row.key.clone());
                let counts = self.ledger.inside(&whose, now, window.ttl);
                assert!(
                    max == 0 || fill >= counts,
                    "seed {seed}: {fill} of {counts}"
                );
            }
        }
    }

    fn case(&mut self) -> Case<'static> {
        let senders = ["a.example", "b.example"];
        let sender = senders[usize::try_from(self.chance.next(2)).unwrap()];
        Case {
            ip: IpAddr::from([192, 0, 2, u8::try_from(self.chance.next(2)).unwrap()]),
            ..case(sender)
        }
    }

    fn set(&mut self) -> Option<Set> {
        let place = usize::try_from(self.chance.next(9)).unwrap();
        Set::ALL.get(place).copied()
    }

    fn event(&mut self, case: Case<'static>) {
        match self.chance.next(24) {
            0 => {
                let sets = (self.set(), self.set());
                self.desk.blocked(self.now, case, sets.0, sets.1, "p");
            }
            1 => self.desk.tick(self.now),
            2 if self.open.is_empty() => self.restart(false),
            3 => self.restart(true),
            4 | 5 if !self.open.is_empty() => {
                let (closed, _) = self.open.swap_remove(0);
                self.desk.session_closed(self.now, closed);
            }
            6 => self.desk.unknown_error(self.now, case),
            _ => self.message(case),
        }
    }

    /// A message at the desk: in an open session if one has room in its chain, else in a new one.
    fn message(&mut self, case: Case<'static>) {
        let (seed, now) = (self.seed, self.now);
        let wanted = 1 + self.chance.next(3);
        let chain = self.desk.chain(now, case);
        let of_case = |(other, _): &&mut (Case<'static>, u32)| same(other, &case);
        let session = self.open.iter_mut().find(of_case);
        let has_room = |carried: u32| chain == 0 || carried < chain;
        let travel = match &session {
            Some((_, carried)) if has_room(*carried) => Travel::SameSession,
            _ => Travel::NewSession,
        };
        let asked = self.desk.ask(now, case, travel, wanted);
        if let Err(Verdict::NotBefore(then, ..)) = asked {
            assert!(then > now, "seed {seed}: wait for the past");
        }
        let Ok(granted) = asked else { return };
        match (travel, session) {
            (Travel::SameSession, Some((_, carried))) => *carried += 1,
            _ => self.open.push((case, 1)),
        }
        assert!(granted >= 1 && granted <= wanted, "seed {seed}");
        if self.chance.next(5) == 0 {
            self.desk.given_back(now, case, granted);
            return;
        }
        self.desk.mail_sent(now, case, granted);
        let at = self.true_now();
        for whose in [
            (Control::Ip, case.ip.to_string()),
            (Control::Sender, case.sender.to_owned()),
        ] {
            let times = self.ledger.sent.entry(whose).or_default();
            times.extend((0..granted).map(|_| at));
        }
        self.check();
        if self.chance.next(3) > 0 {
            self.desk.delivered(now, case, granted);
        }
    }

    /// After a message: both windows of the set in force are counted again, and the sessions.
    fn check(&self) {
        let (seed, now) = (self.seed, self.true_now());
        for row in self.desk.rows(self.now, None) {
            let whose = (row.control, row.key.clone());
            let times = self.ledger.sent.get(&whose);
            if times.is_none_or(|times| times.last() != Some(&now)) {
                continue;
            }
            for window in [row.params.low, row.params.high] {
                let count = self.ledger.inside(&whose, now, window.ttl);
                assert!(
                    !window.is_on() || count <= window.max,
                    "seed {seed}: {count} of {} in {:?}",
                    window.max,
                    window.ttl
                );
            }
            let sessions = self.open.iter().filter(|(case, _)| match row.control {
                Control::Ip => case.ip.to_string() == row.key,
                Control::Sender => case.sender == row.key,
            });
            assert_eq!(row.sessions as usize, sessions.count(), "seed {seed}");
            assert!(
                row.sleeps_until <= self.now,
                "seed {seed}: sent while it sleeps"
            );
        }
    }

    /// No lost wake-up: at the moment that was named the message may go, if nobody else went.
    fn no_wake_up_is_lost(&mut self, case: Case<'static>) {
        let (seed, now) = (self.seed, self.now);
        for travel in [Travel::SameSession, Travel::NewSession] {
            match self.desk.may(now, case, travel, 1) {
                Ok(_) => {}
                Err(Verdict::NotBefore(then, ..)) => {
                    let verdict = self.desk.may(then, case, travel, 1);
                    // Others hold all sessions: their end is reported.
                    let is_free = !matches!(verdict, Err(Verdict::NotBefore(..)));
                    assert!(
                        is_free,
                        "seed {seed}: {verdict:?} at the moment that was named"
                    );
                }
                Err(_) => {
                    let of_it = |(open, _): &&(Case<'_>, u32)| {
                        open.ip == case.ip || open.sender == case.sender
                    };
                    let holder = self.open.iter().find(of_it);
                    assert!(holder.is_some(), "seed {seed}: nobody will report anything");
                }
            }
        }
    }
}

impl Ledger {
    /// Messages of the last `ttl`, but for those that a crash made the desk forget.
    fn inside(&self, whose: &Whose, now: u64, ttl: Duration) -> u64 {
        let edge = now.saturating_sub(u64::try_from(ttl.as_millis()).unwrap());
        let count = |times: Option<&Vec<u64>>| {
            times.map_or(0, |t| {
                t.iter().rev().take_while(|at| **at > edge).count() as u64
            })
        };
        count(self.sent.get(whose)) - count(self.forgotten.get(whose))
    }
}

fn same(one: &Case<'_>, other: &Case<'_>) -> bool {
    one.ip == other.ip && one.sender == other.sender
}

fn world(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..300 {
        world.pass();
        let case = world.case();
        world.event(case);
        if world.desk.unsaved() > 0 && world.unsaved_since.is_none() {
            world.unsaved_since = Some(world.true_now());
        }
        if world.now.0.is_multiple_of(8) {
            let now = world.now;
            best_is_best(seed, &mut world.desk, now, case);
        }
        world.no_wake_up_is_lost(case);
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

/// Some worlds; as many as `GALERNE_WORLDS` says, from `GALERNE_FIRST_WORLD` on, as `scripts/long`
/// does.
#[test]
fn flow_26_flow_28_t_50_t_65_no_limit_is_exceeded_and_no_wake_up_lost_in_any_world() {
    let asked = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let first = asked("GALERNE_FIRST_WORLD").unwrap_or(0);
    for seed in first..first + asked("GALERNE_WORLDS").unwrap_or(100) {
        world(seed);
    }
}
