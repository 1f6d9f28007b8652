//! The scheduler of the queue (QUEUE-11 to QUEUE-15, QUEUE-18): which job starts next, and when to
//! look again. It knows what waits and what runs, not what is in it; the dispatcher feeds it, does
//! what it says, and tells how it ended.
//!
//! A job is the deliveries of one message that share a lane. In a lane accounts take turns, in an
//! account its sender domains, and of those the oldest goes first. Between lanes the one with the
//! fewest running jobs goes first, of equal ones that which started longest ago, so that none
//! delays another.
//!
//! Whatever state a job is in, it is given out as expired when its time has come (QUEUE-13), and its
//! sender is told of the delay (RET-39).

mod gate;
mod index;
mod lanes;
mod operator;
mod rows;
mod slab;
mod suspension;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::queue::MessageNo;
pub use gate::{CAP, Cause, spread};
use lanes::Lanes;
pub use operator::Touched;
pub use rows::{Counts, LaneRow, Standing, Tally};
pub use slab::End;
use slab::{Link, Linked, List, Slab};
pub use suspension::{Closed, MOST_RULES, Rule, RuleNo};

/// Recipients of one job, by their index in the envelope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recipients {
    One(u32),
    Many(Box<[u32]>),
}

impl Recipients {
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Recipients::One(only) => std::slice::from_ref(only),
            Recipients::Many(many) => many,
        }
    }

    fn count(&self) -> u64 {
        self.as_slice().len() as u64
    }
}

impl Default for Recipients {
    fn default() -> Self {
        Recipients::Many(Box::default())
    }
}

impl From<&[u32]> for Recipients {
    fn from(slice: &[u32]) -> Self {
        match slice {
            [only] => Recipients::One(*only),
            many => Recipients::Many(many.into()),
        }
    }
}

impl From<Vec<u32>> for Recipients {
    fn from(many: Vec<u32>) -> Self {
        match many.as_slice() {
            [only] => Recipients::One(*only),
            _ => Recipients::Many(many.into_boxed_slice()),
        }
    }
}

/// A job to be done. Moments are milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub message: MessageNo,
    /// Never empty.
    pub recipients: Recipients,
    /// `group gmail`, `host next`, `domain example.org` ([`super::lane`]).
    pub lane: &'a str,
    /// Empty: nobody's.
    pub account: &'a str,
    /// Domain of the envelope sender; empty for the null sender.
    pub sender: &'a str,
    pub received: u64,
    /// When it is to be tried.
    pub due: u64,
    /// When it is too old.
    pub expires: u64,
    /// When its sender is to be told that it is delayed.
    pub tell: Option<u64>,
    pub held: bool,
}

/// A job that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub ticket: Ticket,
    pub message: MessageNo,
    pub recipients: Recipients,
    pub lane: Arc<str>,
    pub received: u64,
    pub due: u64,
    pub expires: u64,
    /// As in [`Entry`]; `None` also where the sender was told.
    pub tell: Option<u64>,
    /// The only one of its lane, to find out whether the destination can be reached.
    pub is_probe: bool,
    /// Outbounds that are suspended for it.
    pub without: Vec<IpAddr>,
    /// Suspended lanes to which it may turn out to belong.
    pub closed: Vec<Closed>,
}

/// Names a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    slot: u32,
    serial: u32,
}

/// What is to happen now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Try it, then call [`Board::done`].
    Try(Job),
    /// Its time is over; the board has forgotten it.
    Expired(Expired),
    /// It is delayed, and the moment has come to say so; it stays where it is.
    Delayed(Delayed),
}

/// A job of which it is to be said that it is delayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delayed {
    pub message: MessageNo,
    pub recipients: Recipients,
}

/// A job whose time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    pub message: MessageNo,
    pub recipients: Recipients,
    pub received: u64,
    pub expires: u64,
    /// Not by its age, but because an operator said so.
    pub by_operator: bool,
}

/// What a job tells of its destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    #[default]
    Nothing,
    /// It can be reached.
    Reached,
    /// It cannot. `chance`: any random number, for the length of the rest.
    Unreachable { why: String, chance: u64 },
    /// Flow control gave no leave in time.
    NoRoom {
        /// It will not before this moment.
        not_before: Option<u64>,
        whom: Whom,
    },
}

/// Whom flow control holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Whoever sends to this lane.
    Lane,
    /// This account's mail of this sender domain.
    Sender,
}

/// Recipients of a job that are not decided yet.
#[derive(Clone, Debug)]
pub struct Again<'a> {
    pub recipients: Recipients,
    pub due: u64,
    /// As in [`Entry`].
    pub tell: Option<u64>,
    /// Another lane, if a better one is known now.
    pub lane: Option<&'a str>,
    /// Where it stands if it is due already: a job that could not be tried keeps its place.
    pub end: End,
}

/// What operators wanted of recipients while their job ran. It has been done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Removed; they are not in the board any more.
    pub removed: Vec<u32>,
    /// Held from now on.
    pub held: Vec<u32>,
}

/// What an operator wants of a recipient whose job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Hold,
    Remove,
    Expire,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Nowhere,
    /// Until it is due.
    Waiting,
    /// In its lane.
    Ready,
    Held,
    Running,
    Expired,
}

#[derive(Debug, Default)]
struct Slot {
    message: u64,
    received: u64,
    due: u64,
    expires: u64,
    /// `u64::MAX`: never.
    tell: u64,
    recipients: Recipients,
    link: Link,
    /// Its sender in its lane.
    line: u32,
    /// Of its ticket.
    serial: u32,
    /// Of its lane's gate, when it began.
    epoch: u32,
    place: Place,
    by_operator: bool,
}

impl Linked for Slot {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Slot {
    /// When something happens to it by itself.
    fn wakes(&self) -> Option<u64> {
        match self.place {
            Place::Waiting => Some(self.due.min(self.expires).min(self.tell)),
            Place::Ready | Place::Held => Some(self.expires.min(self.tell)),
            Place::Nowhere | Place::Running | Place::Expired => None,
        }
    }
}

/// The scheduler.
#[derive(Debug)]
pub struct Board {
    slots: Slab<Slot>,
    lanes: Lanes,
    /// (message, slot) of all jobs.
    messages: BTreeSet<(u64, u32)>,
    /// How many jobs are of messages that came at a moment.
    ages: BTreeMap<u64, u32>,
    /// (moment, message, slot) of what happens by itself.
    timeline: BTreeSet<(u64, u64, u32)>,
    expired: List,
    delayed: VecDeque<Delayed>,
    /// For recipients whose job runs, by slot.
    wishes: BTreeMap<u32, Vec<(u32, Wish)>>,
    counts: Counts,
    places: u32,
    serial: u32,
    /// Something else than a job to try was given out last.
    was_news: bool,
}

impl Board {
    /// An empty board. `places`: jobs that may run at once, in all.
    pub fn new(places: u32) -> Self {
        Board {
            slots: Slab::default(),
            lanes: Lanes::new(),
            messages: BTreeSet::new(),
            ages: BTreeMap::new(),
            timeline: BTreeSet::new(),
            expired: List::default(),
            delayed: VecDeque::new(),
            wishes: BTreeMap::new(),
            counts: Counts::default(),
            places,
            serial: 0,
            was_news: false,
        }
    }

    /// Changes how many jobs may run at once; 0: none starts. What runs goes on.
    pub fn set_places(&mut self, places: u32) {
        self.places = places;
    }

    /// Changes how many deliveries a lane may hold before it is among the `full_lanes`; 0: as many
    /// as come.
    pub fn set_most_of_lane(&mut self, most: u64) {
        self.lanes.set_most(most);
    }

    /// The lanes in which what comes now would not start at once: others wait there, or it is closed
    /// or full. `None`: more than `most`, or something is suspended.
    pub fn busy_lanes(&self, most: usize) -> Option<Vec<Arc<str>>> {
        self.lanes.busy(most)
    }

    /// The lanes that hold as many deliveries as one may (QUEUE-9).
    pub fn full_lanes(&self) -> Vec<Arc<str>> {
        self.lanes.full()
    }

    /// Takes a job.
    pub fn add(&mut self, now: u64, entry: Entry<'_>) {
        let line = self.lanes.line(entry.lane, entry.account, entry.sender);
        let slot = Slot {
            message: entry.message.0,
            received: entry.received,
            due: entry.due,
            expires: entry.expires,
            recipients: entry.recipients,
            tell: entry.tell.unwrap_or(u64::MAX),
            line,
            ..Slot::default()
        };
        let id = self.insert(slot);
        self.settle(now, id, entry.held, End::Back);
    }

    /// What is to happen now; to be asked until there is nothing. Jobs to try and other news take
    /// turns.
    pub fn next(&mut self, now: u64) -> Option<Start> {
        let news_first = !self.was_news;
        if news_first && let Some(news) = self.next_news(now) {
            self.was_news = true;
            return Some(news);
        }
        self.was_news = false;
        if let Some(job) = self.next_try(now) {
            return Some(Start::Try(job));
        }
        self.next_news(now)
    }

    /// The next job that is expired or delayed.
    pub fn next_news(&mut self, now: u64) -> Option<Start> {
        while !self.has_news() && self.wake_some(now) {}
        if let Some(delayed) = self.delayed.pop_front() {
            return Some(Start::Delayed(delayed));
        }
        if self.expired.is_empty() {
            return None;
        }
        let id = self.expired.first();
        self.leave(id);
        let slot = self.forget(now, id);
        Some(Start::Expired(Expired {
            message: MessageNo(slot.message),
            recipients: slot.recipients,
            received: slot.received,
            expires: slot.expires,
            by_operator: slot.by_operator,
        }))
    }

    fn has_news(&self) -> bool {
        !self.expired.is_empty() || !self.delayed.is_empty()
    }

    /// The next job to try.
    pub fn next_try(&mut self, now: u64) -> Option<Job> {
        let mut is_late = self.wake_some(now);
        loop {
            if let Some(lane) = self.startable() {
                return Some(self.start(lane));
            }
            if !is_late {
                return None;
            }
            is_late = self.wake_some(now);
        }
    }

    /// When `next` is to be asked again, if nothing is added or done before: 0 for at once, `None`
    /// for never.
    pub fn wake_at(&self) -> Option<u64> {
        if self.has_news() || self.startable().is_some() {
            return Some(0);
        }
        let job = self.timeline.first().map(|(moment, ..)| *moment);
        match (job, self.lanes.wake_at()) {
            (Some(job), Some(lane)) => Some(job.min(lane)),
            (job, lane) => job.or(lane),
        }
    }

    /// A job has ended: what it tells, and which of its recipients are to be tried again. `None`:
    /// there is no such job.
    pub fn done(
        &mut self,
        now: u64,
        ticket: Ticket,
        after: After,
        again: Vec<Again<'_>>,
    ) -> Option<Wanted> {
        let id = ticket.slot;
        let slot = self.slots.at(id);
        if slot.place != Place::Running || slot.serial != ticket.serial {
            return None;
        }
        let (line, epoch) = (slot.line, slot.epoch);
        let wishes = self.wishes.remove(&id).unwrap_or_default();
        self.leave(id);
        self.lanes.tell(now, line, epoch, after);
        let mut wanted = Wanted::default();
        for back in again {
            self.come_back(now, id, back, &wishes, &mut wanted);
        }
        self.forget(now, id);
        Some(wanted)
    }

    /// Recipients of the job in `id` come back, each as operators wanted meanwhile.
    fn come_back(
        &mut self,
        now: u64,
        id: u32,
        back: Again<'_>,
        wishes: &[(u32, Wish)],
        wanted: &mut Wanted,
    ) {
        let wish_of = |recipient: u32| {
            let found = wishes.iter().find(|(whose, _)| *whose == recipient);
            found.map(|(_, wish)| *wish)
        };
        for group in [
            None,
            Some(Wish::Hold),
            Some(Wish::Remove),
            Some(Wish::Expire),
        ] {
            let of_group = back.recipients.as_slice().iter().copied();
            let of_group: Vec<u32> = of_group.filter(|r| wish_of(*r) == group).collect();
            if of_group.is_empty() {
                continue;
            }
            match group {
                Some(Wish::Remove) => {
                    wanted.removed.extend(of_group);
                    continue;
                }
                Some(Wish::Hold) => wanted.held.extend(of_group.iter().copied()),
                Some(Wish::Expire) | None => {}
            }
            let line = self.slots.at(id).line;
            // It is not made before it has a job.
            let line = match back.lane {
                Some(lane) => self.lanes.same_in(line, lane),
                None => line,
            };
            let of = self.slots.at(id);
            let slot = Slot {
                message: of.message,
                received: of.received,
                due: back.due,
                expires: of.expires,
                recipients: of_group.into(),
                tell: back.tell.unwrap_or(u64::MAX),
                line,
                ..Slot::default()
            };
            let new = self.insert(slot);
            match group {
                Some(Wish::Expire) => self.expire_slot(new),
                other => self.settle(now, new, other == Some(Wish::Hold), back.end),
            }
        }
    }

    /// The lane from which a job may start now.
    fn startable(&self) -> Option<u32> {
        let free = self.places.checked_sub(self.counts.jobs_running)?;
        self.lanes.startable(free)
    }

    fn start(&mut self, lane: u32) -> Job {
        let id = self.lanes.first_of(lane);
        self.leave(id);
        let serial = self.serial;
        self.serial = self.serial.wrapping_add(1);
        let (epoch, is_probe) = self.lanes.began(lane);
        let slot = self.slots.at_mut(id);
        slot.serial = serial;
        slot.epoch = epoch;
        let line = slot.line;
        self.enter(id, Place::Running, End::Back);
        let slot = self.slots.at(id);
        Job {
            ticket: Ticket { slot: id, serial },
            message: MessageNo(slot.message),
            recipients: slot.recipients.clone(),
            lane: self.lanes.name(lane).clone(),
            received: slot.received,
            due: slot.due,
            expires: slot.expires,
            tell: (slot.tell < u64::MAX).then_some(slot.tell),
            is_probe,
            without: self.lanes.without(line),
            closed: self.lanes.closed(line),
        }
    }

    /// Does what was to happen by `now`, a limited number of things at a time: whether there may be
    /// more.
    fn wake_some(&mut self, now: u64) -> bool {
        for _ in 0..AT_ONCE {
            let Some(&(moment, _, id)) = self.timeline.first() else {
                break;
            };
            if moment > now {
                break;
            }
            if self.tell_of_delay(now, id) {
                continue;
            }
            let is_held = self.slots.at(id).place == Place::Held;
            self.leave(id);
            self.settle(now, id, is_held, End::Back);
        }
        self.lanes.wake(now, AT_ONCE);
        let is_late = |moment: &u64| *moment <= now;
        let job = self.timeline.first().map(|(moment, ..)| *moment);
        job.filter(is_late).is_some() || self.lanes.wake_at().filter(is_late).is_some()
    }

    /// If that is why a job wakes: it keeps its place.
    fn tell_of_delay(&mut self, now: u64, id: u32) -> bool {
        let slot = self.slots.at_mut(id);
        if slot.tell > now || slot.expires <= now {
            return false;
        }
        if let Some(moment) = slot.wakes() {
            self.timeline.remove(&(moment, slot.message, id));
        }
        slot.tell = u64::MAX;
        if let Some(moment) = slot.wakes() {
            self.timeline.insert((moment, slot.message, id));
        }
        self.delayed.push_back(Delayed {
            message: MessageNo(slot.message),
            recipients: slot.recipients.clone(),
        });
        true
    }

    fn insert(&mut self, slot: Slot) -> u32 {
        let (message, line) = (slot.message, slot.line);
        *self.ages.entry(slot.received).or_default() += 1;
        let id = self.slots.insert(slot);
        self.messages.insert((message, id));
        self.lanes.joined(line);
        id
    }

    /// Forgets a job that is in no place.
    fn forget(&mut self, now: u64, id: u32) -> Slot {
        let slot = self.slots.remove(id);
        self.messages.remove(&(slot.message, id));
        if let Some(count) = self.ages.get_mut(&slot.received) {
            *count -= 1;
            if *count == 0 {
                self.ages.remove(&slot.received);
            }
        }
        self.lanes.left(now, slot.line);
        slot
    }

    /// Puts a job that is in no place where it belongs.
    fn settle(&mut self, now: u64, id: u32, is_held: bool, end: End) {
        let slot = self.slots.at(id);
        let place = if slot.expires <= now {
            Place::Expired
        } else if is_held {
            Place::Held
        } else if slot.due <= now {
            Place::Ready
        } else {
            Place::Waiting
        };
        self.enter(id, place, end);
    }

    /// An operator ends a job that is in no place.
    fn expire_slot(&mut self, id: u32) {
        self.slots.at_mut(id).by_operator = true;
        self.enter(id, Place::Expired, End::Back);
    }

    fn enter(&mut self, id: u32, place: Place, end: End) {
        let slot = self.slots.at_mut(id);
        slot.place = place;
        let (message, line, count) = (slot.message, slot.line, slot.recipients.count());
        if let Some(moment) = slot.wakes() {
            self.timeline.insert((moment, message, id));
        }
        if let Some(jobs) = self.counts.jobs(place) {
            *jobs += 1;
        }
        *self.counts.tally.of(place) += count;
        self.lanes
            .enter(&mut self.slots, id, line, place, count, end);
        if place == Place::Expired {
            self.expired.push(&mut self.slots, id, End::Back);
        }
    }

    fn leave(&mut self, id: u32) {
        let slot = self.slots.at_mut(id);
        let (message, line, count) = (slot.message, slot.line, slot.recipients.count());
        if let Some(moment) = slot.wakes() {
            self.timeline.remove(&(moment, message, id));
        }
        let place = std::mem::take(&mut slot.place);
        if let Some(jobs) = self.counts.jobs(place) {
            *jobs -= 1;
        }
        *self.counts.tally.of(place) -= count;
        self.lanes.leave(&mut self.slots, id, line, place, count);
        if place == Place::Expired {
            self.expired.remove(&mut self.slots, id);
        }
    }
}

/// Most things that are done before the question is answered whether a job may start.
const AT_ONCE: usize = 1_000;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
