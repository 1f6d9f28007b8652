//! The board against a plain model of the same rules, in many random worlds; and what a dead lane
//! and greedy accounts do to others.

mod fair;
mod model;

use std::collections::BTreeSet;

use super::*;
use model::{ACCOUNTS, Finish, LANES, Model, SENDERS};

/// Random numbers from a seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.any() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

const T: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;

/// A board, its model, and the jobs that run.
struct World {
    board: Board,
    model: Model,
    dice: Dice,
    now: u64,
    /// (when it ends, job)
    running: Vec<(u64, Job)>,
    rules: Vec<RuleNo>,
    /// Lanes that cannot be reached.
    dead: [bool; LANES.len()],
    next_message: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let places = dice.of(&[1, 3, 10, 40, 200]);
        let mut world = World {
            board: Board::new(places),
            model: Model::new(places),
            dice,
            now: T,
            running: Vec::new(),
            rules: Vec::new(),
            dead: [false; LANES.len()],
            next_message: 1,
        };
        // A held job for ever, so that no lane is forgotten: the model does not forget.
        for lane in LANES {
            let entry = Entry {
                message: MessageNo(0),
                recipients: Recipients::One(0),
                lane,
                account: "nobody",
                sender: "",
                received: 0,
                due: 0,
                expires: u64::MAX,
                tell: None,
                held: true,
            };
            world.board.add(T, entry);
        }
        world
    }

    fn add(&mut self) {
        let message = self.next_message;
        self.next_message += 1;
        let dice = &mut self.dice;
        let (account, sender) = (dice.of(&ACCOUNTS), dice.of(&SENDERS));
        let mut recipients = 0..1 + dice.below(4) as u32;
        while !recipients.is_empty() {
            let count = 1 + dice.below(recipients.len() as u64) as usize;
            let some: Vec<u32> = recipients.by_ref().take(count).collect();
            let due = self.now + dice.of(&[0, 0, 1, 5 * MINUTE]) * dice.below(3);
            let expires = self.now + dice.of(&[0, 3 * MINUTE, 60 * MINUTE, 600 * MINUTE]);
            let tell = dice.one_in(2).then(|| self.now + dice.below(30 * MINUTE));
            let entry = Entry {
                message: MessageNo(message),
                recipients: some.into(),
                lane: dice.of(&LANES),
                account,
                sender,
                received: self.now,
                due,
                expires,
                tell,
                held: dice.one_in(10),
            };
            self.model.add(&entry);
            self.board.add(self.now, entry);
        }
    }

    /// The job that ends first ends.
    fn finish(&mut self) {
        let first = self.running.iter().enumerate().min_by_key(|(_, r)| r.0);
        let Some((place, _)) = first else { return };
        let (_, job) = self.running.swap_remove(place);
        let dice = &mut self.dice;
        let lane = LANES.iter().position(|name| *name == &*job.lane).unwrap();
        let mut again = Vec::new();
        let chance = dice.any();
        let mut due = self.now + dice.below(20) * MINUTE;
        let mut end = End::Back;
        let after = match dice.below(10) {
            0 => After::Nothing,
            1 | 2 => {
                (due, end) = (self.now, End::Front);
                let whom = dice.of(&[Whom::Lane, Whom::Sender]);
                let not_before = dice.one_in(2).then(|| self.now + dice.below(5) * MINUTE);
                After::NoRoom { not_before, whom }
            }
            _ if self.dead[lane] => After::Unreachable {
                why: "dead".to_owned(),
                chance,
            },
            _ => After::Reached,
        };
        let is_done = |dice: &mut Dice| after == After::Reached && !dice.one_in(5);
        let all = job.recipients.as_slice().iter().copied();
        let (over, rest): (Vec<u32>, Vec<u32>) = all.partition(|_| is_done(dice));
        let lane = dice.one_in(20).then(|| dice.of(&LANES));
        let tell = dice.one_in(4).then(|| self.now + dice.below(30 * MINUTE));
        if !rest.is_empty() {
            again.push(Again {
                recipients: rest.clone().into(),
                due,
                tell,
                lane,
                end,
            });
        }
        let wanted = self.board.done(self.now, job.ticket, after.clone(), again);
        let wanted = wanted.unwrap();
        let finish = Finish {
            now: self.now,
            job: &job,
            after: &after,
            over: &over,
            rest: &rest,
            due,
            tell,
            lane,
        };
        self.model.finish(&finish, &wanted);
        assert!(
            self.board
                .done(self.now, job.ticket, after, Vec::new())
                .is_none()
        );
    }

    fn operate(&mut self) {
        let message = MessageNo(1 + self.dice.below(self.next_message));
        let some = [self.dice.below(4) as u32, self.dice.below(4) as u32];
        let which = self.dice.one_in(2).then_some(&some[..]);
        let now = self.now;
        let verb = self.dice.below(5);
        let expected = self.model.operate(now, verb, message, which);
        let board = &mut self.board;
        let mut touched = match verb {
            0 => board.hold(now, message, which),
            1 => board.release(now, message, which),
            2 => board.retry(now, message, which),
            3 => board.remove(now, message, which),
            _ => board.expire(now, message, which),
        };
        touched.now.sort();
        touched.later.sort();
        assert_eq!((touched.now, touched.later), expected, "verb {verb}");
    }

    fn change_rules(&mut self) {
        if self.rules.len() > 3 || self.dice.one_in(2) {
            let Some(number) = self.rules.pop() else {
                return;
            };
            // It may have ended by itself.
            let _ = self.board.resume(number);
            self.model.resume(number);
            return;
        }
        let dice = &mut self.dice;
        let mut some = |all: &[&str]| dice.one_in(2).then(|| dice.of(all).to_owned());
        let rule = Rule {
            lane: some(&LANES),
            account: some(&ACCOUNTS),
            sender: some(&SENDERS),
            ..Rule::default()
        };
        let rule = Rule {
            outbound: dice.one_in(4).then(|| "192.0.2.10".parse().unwrap()),
            until: dice.one_in(2).then(|| self.now + dice.below(60 * MINUTE)),
            ..rule
        };
        let number = self.board.suspend(rule.clone()).unwrap();
        self.rules.push(number);
        self.model.suspend(number, rule);
    }

    /// All that is to happen now.
    fn settle(&mut self) {
        self.model.end_rules(self.now);
        while let Some(start) = self.board.next(self.now) {
            match start {
                Start::Try(job) => {
                    self.model.started(self.now, &job);
                    let end = self.now + self.dice.below(2 * MINUTE);
                    self.running.push((end, job));
                }
                Start::Expired(expired) => self.model.expired(self.now, &expired),
                Start::Delayed(delayed) => self.model.told(self.now, &delayed),
            }
        }
        self.model.nothing_may_happen(self.now);
        let rows = self.board.rows().into_iter();
        let is_busy = |row: &LaneRow| {
            row.tally.ready > 0 || row.closed_until.is_some() || row.jobs_running >= row.window
        };
        let busy: BTreeSet<String> = rows.filter(is_busy).map(|row| row.name).collect();
        if let Some(said) = self.board.busy_lanes(usize::MAX) {
            let said: BTreeSet<String> = said.iter().map(|name| name.to_string()).collect();
            assert_eq!(said, busy, "what comes there does not start at once");
        }
        let counts = self.board.counts();
        assert_eq!(self.model.tally(self.now), counts.tally);
        assert_eq!(self.running.len(), counts.jobs_running as usize);
        let wake = self.board.wake_at();
        assert!(
            wake.is_none_or(|wake| wake > self.now),
            "a busy loop: {wake:?}"
        );
        let expected = self.model.wake_at(self.now);
        assert_eq!(wake, expected, "it wakes when something happens");
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..5 => self.add(),
            5..9 => self.finish(),
            9 | 10 => self.operate(),
            11 => self.change_rules(),
            12 => {
                let lane = self.dice.below(LANES.len() as u64) as usize;
                self.dead[lane] = !self.dead[lane];
            }
            13 if self.dice.one_in(5) => {
                let places = self.dice.of(&[0, 1, 3, 10, 40, 200]);
                self.board.set_places(places);
                self.model.places = places;
            }
            14 if self.dice.one_in(5) => {
                self.board.look_again(self.now);
                self.model.look_again();
            }
            _ => self.pass(),
        }
        self.settle();
    }

    /// Time goes on, to where something happens or somewhere before.
    fn pass(&mut self) {
        let end = self.running.iter().map(|r| r.0).min();
        let wake = self.board.wake_at().filter(|wake| *wake < u64::MAX);
        let Some(next) = [end, wake].into_iter().flatten().min() else {
            return;
        };
        let next = next.max(self.now);
        self.now = match self.dice.one_in(4) {
            true => self.now + self.dice.below(next - self.now + 1),
            false => next,
        };
        if end.is_some_and(|end| end <= self.now) {
            self.finish();
        }
    }

    /// Everything comes to an end.
    fn drain(&mut self) {
        while let Some(number) = self.rules.pop() {
            let _ = self.board.resume(number);
            self.model.resume(number);
        }
        self.dead = [false; LANES.len()];
        self.board.set_places(100);
        self.model.places = 100;
        self.settle();
        let mut steps = 0;
        while self.model.is_busy() {
            self.pass();
            self.settle();
            steps += 1;
            assert!(steps < 100_000);
        }
        let left = self.board.counts();
        assert_eq!(left.tally.all(), LANES.len() as u64, "the held ones");
        assert_eq!(left.tally.held, LANES.len() as u64);
    }
}

/// Some worlds; as many as `GALERNE_WORLDS` says, from `GALERNE_FIRST_WORLD` on, as `scripts/long`
/// does.
#[test]
fn queue_13_queue_14_queue_15_queue_18_t_53_t_55_t_67_the_board_does_what_the_rules_say_in_any_world()
 {
    let asked = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let first = asked("GALERNE_FIRST_WORLD").unwrap_or(0);
    for seed in first..first + asked("GALERNE_WORLDS").unwrap_or(30) {
        println!("world {seed}");
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        world.drain();
    }
}
