//! The rules of the board written down once more, as plainly as possible: everything is searched.

use std::collections::BTreeMap;

use super::*;

pub const LANES: [&str; 5] = ["domain a", "domain b", "group c", "group d", "host e"];
pub const ACCOUNTS: [&str; 3] = ["", "shop", "blog"];
pub const SENDERS: [&str; 3] = ["", "example.com", "example.net"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Idle,
    Running,
    Over,
}

#[derive(Clone, Debug)]
struct Delivery {
    lane: &'static str,
    account: String,
    sender: String,
    due: u64,
    expires: u64,
    /// Not told yet.
    tell: Option<u64>,
    held: bool,
    /// An operator ended it.
    ended: bool,
    at: At,
    wish: Option<Wish>,
}

#[derive(Debug)]
struct Lane {
    window: u32,
    successes: u32,
    closed_until: u64,
    is_no_room: bool,
    failures: usize,
    waits: u32,
    running: u32,
    /// Jobs that began before this one tell nothing.
    closed_at: u32,
}

/// How a job ended.
pub struct Finish<'a> {
    pub now: u64,
    pub job: &'a Job,
    pub after: &'a After,
    pub over: &'a [u32],
    pub rest: &'a [u32],
    pub due: u64,
    pub tell: Option<u64>,
    pub lane: Option<&'static str>,
}

type Number = (u64, u32);

pub struct Model {
    deliveries: BTreeMap<Number, Delivery>,
    lanes: BTreeMap<&'static str, Lane>,
    rules: BTreeMap<RuleNo, Rule>,
    /// By lane, account, sender: paused until, times in vain.
    paused: BTreeMap<(String, String, String), (u64, u32)>,
    /// Jobs that run, with when they began among all.
    jobs: BTreeMap<Ticket, u32>,
    pub places: u32,
    began: u32,
}

fn name(lane: &str) -> &'static str {
    LANES.into_iter().find(|name| *name == lane).unwrap()
}

impl Model {
    pub fn new(places: u32) -> Self {
        let lane = |name| {
            let lane = Lane {
                window: 64,
                successes: 0,
                closed_until: 0,
                is_no_room: false,
                failures: 0,
                waits: 0,
                running: 0,
                closed_at: 0,
            };
            (name, lane)
        };
        Model {
            deliveries: BTreeMap::new(),
            lanes: LANES.into_iter().map(lane).collect(),
            rules: BTreeMap::new(),
            paused: BTreeMap::new(),
            jobs: BTreeMap::new(),
            places,
            began: 0,
        }
    }

    pub fn add(&mut self, entry: &Entry<'_>) {
        for recipient in entry.recipients.as_slice() {
            let delivery = Delivery {
                lane: name(entry.lane),
                account: entry.account.to_owned(),
                sender: entry.sender.to_owned(),
                due: entry.due,
                expires: entry.expires,
                tell: entry.tell,
                held: entry.held,
                ended: false,
                at: At::Idle,
                wish: None,
            };
            let before = self
                .deliveries
                .insert((entry.message.0, *recipient), delivery);
            assert!(before.is_none());
        }
    }

    fn is_suspended(&self, delivery: &Delivery) -> bool {
        self.rules.values().any(|rule| {
            let is = |named: &Option<String>, this: &str| named.as_ref().is_none_or(|n| n == this);
            rule.outbound.is_none()
                && is(&rule.lane, delivery.lane)
                && is(&rule.account, &delivery.account)
                && is(&rule.sender, &delivery.sender)
        })
    }

    fn line(delivery: &Delivery) -> (String, String, String) {
        let Delivery {
            lane,
            account,
            sender,
            ..
        } = delivery;
        ((*lane).to_owned(), account.clone(), sender.clone())
    }

    fn is_paused(&self, now: u64, delivery: &Delivery) -> bool {
        let pause = self.paused.get(&Model::line(delivery));
        pause.is_some_and(|(until, _)| *until > now)
    }

    /// Whether the lane may start another job.
    fn is_open(&self, now: u64, lane: &str) -> bool {
        let lane = &self.lanes[lane];
        let total: u32 = self.lanes.values().map(|lane| lane.running).sum();
        lane.closed_until <= now
            && lane.running < lane.window.min(64)
            && total < self.places
            && lane.running < 4.max((self.places - total + lane.running) / 2)
    }

    fn may_start(&self, now: u64, delivery: &Delivery) -> bool {
        delivery.at == At::Idle
            && !delivery.held
            && !delivery.ended
            && delivery.due <= now
            && delivery.expires > now
            && !self.is_suspended(delivery)
            && !self.is_paused(now, delivery)
            && self.is_open(now, delivery.lane)
    }

    pub fn started(&mut self, now: u64, job: &Job) {
        for recipient in job.recipients.as_slice() {
            let number = (job.message.0, *recipient);
            let delivery = &self.deliveries[&number];
            assert_eq!(delivery.lane, &*job.lane);
            assert!(self.may_start(now, delivery), "{number:?}: {delivery:?}");
        }
        for recipient in job.recipients.as_slice() {
            let number = (job.message.0, *recipient);
            self.deliveries.get_mut(&number).unwrap().at = At::Running;
        }
        self.began += 1;
        self.jobs.insert(job.ticket, self.began);
        let lane = self.lanes.get_mut(&*job.lane).unwrap();
        lane.running += 1;
        assert_eq!(job.is_probe, lane.window == 1);
    }

    pub fn expired(&mut self, now: u64, expired: &Expired) {
        for recipient in expired.recipients.as_slice() {
            let number = (expired.message.0, *recipient);
            let delivery = self.deliveries.get_mut(&number).unwrap();
            assert_eq!(delivery.at, At::Idle);
            assert_eq!(delivery.ended, expired.by_operator);
            assert!(delivery.ended || delivery.expires <= now);
            delivery.at = At::Over;
        }
    }

    pub fn told(&mut self, now: u64, delayed: &Delayed) {
        for recipient in delayed.recipients.as_slice() {
            let number = (delayed.message.0, *recipient);
            let delivery = self.deliveries.get_mut(&number).unwrap();
            let tell = delivery.tell.take();
            assert!(tell.is_some_and(|tell| tell <= now), "once, and in time");
        }
    }

    pub fn finish(&mut self, finish: &Finish<'_>, wanted: &Wanted) {
        let Finish { now, job, .. } = *finish;
        let began = self.jobs.remove(&job.ticket).unwrap();
        let first = (job.message.0, job.recipients.as_slice()[0]);
        let line = Model::line(&self.deliveries[&first]);
        self.learn(now, name(&job.lane), line, began, finish.after);
        let (mut removed, mut held) = (Vec::new(), Vec::new());
        for recipient in finish.over {
            self.end(job, *recipient);
        }
        for recipient in finish.rest {
            let number = (job.message.0, *recipient);
            let delivery = self.deliveries.get_mut(&number).unwrap();
            delivery.at = At::Idle;
            delivery.due = finish.due;
            delivery.tell = finish.tell;
            delivery.lane = finish.lane.unwrap_or(delivery.lane);
            match delivery.wish.take() {
                Some(Wish::Hold) => {
                    delivery.held = true;
                    held.push(*recipient);
                }
                Some(Wish::Remove) => {
                    delivery.at = At::Over;
                    removed.push(*recipient);
                }
                Some(Wish::Expire) => delivery.ended = true,
                None => {}
            }
        }
        let mut wanted = wanted.clone();
        wanted.removed.sort();
        wanted.held.sort();
        assert_eq!((wanted.removed, wanted.held), (removed, held));
    }

    fn end(&mut self, job: &Job, recipient: u32) {
        let number = (job.message.0, recipient);
        let delivery = self.deliveries.get_mut(&number).unwrap();
        assert_eq!(delivery.at, At::Running);
        delivery.at = At::Over;
    }

    fn learn(
        &mut self,
        now: u64,
        lane: &'static str,
        line: (String, String, String),
        began: u32,
        after: &After,
    ) {
        let count = self.began;
        let lane = self.lanes.get_mut(lane).unwrap();
        lane.running -= 1;
        let is_fresh = began > lane.closed_at;
        let wait = |not_before: &Option<u64>, times: u32| match not_before {
            Some(moment) if *moment > now => *moment,
            _ => now + [5_000, 10_000, 20_000, 40_000, 60_000][(times as usize - 1).min(4)],
        };
        match after {
            After::Nothing => {}
            After::NoRoom {
                not_before,
                whom: Whom::Sender,
            } => {
                let pause = self.paused.entry(line).or_default();
                pause.1 += 1;
                pause.0 = wait(not_before, pause.1);
            }
            After::Reached => {
                if let Some(pause) = self.paused.get_mut(&line) {
                    pause.1 = 0;
                }
                if is_fresh && lane.window < 64 {
                    (lane.failures, lane.waits) = (0, 0);
                    lane.successes += 1;
                    if lane.successes == lane.window {
                        lane.window *= 2;
                        lane.successes = 0;
                    }
                }
            }
            _ if !is_fresh => {}
            After::NoRoom { not_before, .. } => {
                lane.waits += 1;
                lane.close(count, wait(not_before, lane.waits), true);
            }
            After::Unreachable { chance, .. } => {
                let pause = [30, 60, 120, 300, 600][lane.failures.min(4)] * 1000;
                lane.failures += 1;
                lane.close(count, now + spread(pause, *chance), false);
            }
        }
    }

    pub fn operate(
        &mut self,
        now: u64,
        verb: u64,
        message: MessageNo,
        which: Option<&[u32]>,
    ) -> (Vec<u32>, Vec<u32>) {
        let (mut touched, mut later) = (Vec::new(), Vec::new());
        let mut opened = Vec::new();
        let all = self
            .deliveries
            .range_mut((message.0, 0)..(message.0 + 1, 0));
        for ((_, recipient), delivery) in all {
            if which.is_some_and(|which| !which.contains(recipient)) {
                continue;
            }
            if delivery.at == At::Running {
                let wish = match verb {
                    0 => Some(Wish::Hold),
                    3 => Some(Wish::Remove),
                    4 => Some(Wish::Expire),
                    _ => None,
                };
                if verb == 1 && delivery.wish == Some(Wish::Hold) {
                    delivery.wish = None;
                    later.push(*recipient);
                } else if wish.is_some() && delivery.wish != Some(Wish::Remove) {
                    delivery.wish = wish;
                    later.push(*recipient);
                }
                continue;
            }
            // What is too old has been given out already.
            if delivery.at == At::Over {
                continue;
            }
            match (verb, delivery.held) {
                (0, false) => delivery.held = true,
                (1, true) => delivery.held = false,
                (2, false) => {
                    delivery.due = delivery.due.min(now);
                    opened.push(delivery.clone());
                }
                (3, _) => delivery.at = At::Over,
                (4, _) => delivery.ended = true,
                _ => continue,
            }
            touched.push(*recipient);
        }
        for delivery in opened {
            self.lanes.get_mut(delivery.lane).unwrap().closed_until = 0;
            if let Some(pause) = self.paused.get_mut(&Model::line(&delivery)) {
                pause.0 = 0;
            }
        }
        (touched, later)
    }

    pub fn look_again(&mut self) {
        for lane in self.lanes.values_mut().filter(|lane| lane.is_no_room) {
            lane.closed_until = 0;
        }
        for pause in self.paused.values_mut() {
            pause.0 = 0;
        }
    }

    pub fn suspend(&mut self, number: RuleNo, rule: Rule) {
        self.rules.insert(number, rule);
    }

    pub fn resume(&mut self, number: RuleNo) {
        self.rules.remove(&number);
    }

    pub fn end_rules(&mut self, now: u64) {
        self.rules
            .retain(|_, rule| rule.until.is_none_or(|until| until > now));
    }

    /// After the board has said so.
    pub fn nothing_may_happen(&mut self, now: u64) {
        self.forget_senders(now);
        for (number, delivery) in &self.deliveries {
            assert!(!self.may_start(now, delivery), "left behind: {number:?}");
            if delivery.at == At::Idle {
                assert!(!delivery.ended && delivery.expires > now, "{number:?}");
                assert!(delivery.tell.is_none_or(|tell| tell > now), "{number:?}");
            }
        }
    }

    /// A sender of which nothing is left is forgotten with how often it waited.
    fn forget_senders(&mut self, now: u64) {
        let used = self.deliveries.values().filter(|d| d.at != At::Over);
        let used: Vec<_> = used.map(Model::line).collect();
        self.paused
            .retain(|line, (until, _)| *until > now || used.contains(line));
    }

    pub fn wake_at(&self, now: u64) -> Option<u64> {
        let mut moments = Vec::new();
        for delivery in self.deliveries.values().filter(|d| d.at == At::Idle) {
            moments.push(delivery.expires);
            moments.extend(delivery.tell);
            if !delivery.held {
                moments.push(delivery.due);
            }
        }
        moments.extend(self.lanes.values().map(|lane| lane.closed_until));
        moments.extend(self.paused.values().map(|(until, _)| *until));
        moments.extend(self.rules.values().filter_map(|rule| rule.until));
        // The held job of each lane.
        moments.push(u64::MAX);
        moments.into_iter().filter(|moment| *moment > now).min()
    }

    pub fn tally(&self, now: u64) -> Tally {
        let mut tally = Tally::default();
        for delivery in self.deliveries.values() {
            let place = match delivery.at {
                At::Over => continue,
                At::Running => Place::Running,
                At::Idle if delivery.held => Place::Held,
                At::Idle if delivery.due <= now => Place::Ready,
                At::Idle => Place::Waiting,
            };
            *tally.of(place) += 1;
        }
        *tally.of(Place::Held) += LANES.len() as u64;
        tally
    }

    pub fn is_busy(&self) -> bool {
        self.deliveries.values().any(|d| d.at != At::Over)
    }
}

impl Lane {
    fn close(&mut self, began: u32, until: u64, is_no_room: bool) {
        self.window = 1;
        self.successes = 0;
        self.closed_until = until;
        self.is_no_room = is_no_room;
        self.closed_at = began;
    }
}
