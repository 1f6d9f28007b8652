//! The lanes of the board with what is ready in them: who is next, and which lane.
//!
//! A lane has seats, one for each account; a seat has lines, one for each sender domain; a line has
//! jobs. Only lines that may go stand in their seat, only seats with such a line in their lane, and
//! only lanes from which a job may start among the open ones. So nothing is ever searched.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use super::gate::{self, CAP, Gate};
use super::index::{Index, Keyed, Names};
use super::rows::LaneTally;
use super::slab::{End, Link, Linked, List, Slab};
use super::suspension::{Closed, Of, Rules};
use super::{After, Place, Slot, Whom};
use crate::queue::lane::group_of;

/// How long a closed or narrow lane is remembered in which nothing is left, in milliseconds.
const MEMORY: u64 = 600_000;
/// How many such lanes are remembered.
const MOST_REMEMBERED: u32 = 50_000;
/// Jobs of a lane that may run whatever the others do.
const SURE: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub name: Arc<str>,
    pub gate: Gate,
    pub running: u32,
    pub tally: LaneTally,
    /// Seats in which somebody may go.
    seats: List,
    /// Lines, whether or not somebody may go.
    lines: u32,
    /// When it started a job last, in starts of the board.
    turn: u64,
    /// It stands among the open lanes, under this number of running jobs.
    key: Option<u32>,
    /// When it is to be forgotten; 0: not yet.
    forget_at: u64,
}

/// An account in a lane.
#[derive(Debug, Default)]
struct Seat {
    lane: u32,
    account: u32,
    link: Link,
    /// Lines that may go.
    lines: List,
    /// All its lines.
    count: u32,
    /// It stands in its lane.
    is_up: bool,
}

/// A sender domain of an account in a lane.
#[derive(Debug, Default)]
struct Line {
    seat: u32,
    sender: u32,
    link: Link,
    /// Ready jobs, oldest first.
    jobs: List,
    /// Jobs in whatever place.
    count: u32,
    /// Flow control lets it go from then on; 0: now.
    paused_until: u64,
    /// How often flow control gave it no leave without a success between.
    waits: u32,
    suspended: bool,
    /// It stands in its seat.
    is_up: bool,
}

impl Linked for Seat {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Linked for Line {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Keyed for Lane {
    type Key = str;

    fn is(&self, key: &str) -> bool {
        *self.name == *key
    }

    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one(&*self.name)
    }
}

/// By lane and account.
impl Keyed for Seat {
    type Key = (u32, u32);

    fn is(&self, key: &(u32, u32)) -> bool {
        (self.lane, self.account) == *key
    }

    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one((self.lane, self.account))
    }
}

/// By seat and sender.
impl Keyed for Line {
    type Key = (u32, u32);

    fn is(&self, key: &(u32, u32)) -> bool {
        (self.seat, self.sender) == *key
    }

    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one((self.seat, self.sender))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Open(u32),
    Resume(u32),
    Forget(u32),
}

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Slab<Lane>,
    seats: Slab<Seat>,
    lines: Slab<Line>,
    lanes_by_name: Index,
    seats_by_account: Index,
    lines_by_sender: Index,
    names: Names,
    rules: Rules,
    /// Lanes from which a job may start: (running, turn, lane).
    open: BTreeSet<(u32, u64, u32)>,
    timers: BTreeSet<(u64, Timer)>,
    turns: u64,
    remembered: u32,
    /// Deliveries of a lane at most; 0: as many as come.
    most: u64,
    /// Lanes that hold so many.
    full: BTreeSet<u32>,
    /// Lanes in which what comes now would not start at once.
    busy: BTreeSet<u32>,
}

impl Lanes {
    pub fn new() -> Self {
        Lanes {
            lanes: Slab::default(),
            seats: Slab::default(),
            lines: Slab::default(),
            lanes_by_name: Index::default(),
            seats_by_account: Index::default(),
            lines_by_sender: Index::default(),
            names: Names::default(),
            rules: Rules::default(),
            open: BTreeSet::new(),
            timers: BTreeSet::new(),
            turns: 0,
            remembered: 0,
            most: 0,
            full: BTreeSet::new(),
            busy: BTreeSet::new(),
        }
    }

    pub fn name(&self, lane: u32) -> &Arc<str> {
        &self.lanes.at(lane).name
    }

    /// The line of this sender and account in this lane; made if there is none.
    pub fn line(&mut self, lane: &str, account: &str, sender: &str) -> u32 {
        let lane = self.lane(lane);
        let account = self.names.number(account);
        let sender = self.names.number(sender);
        self.line_of(lane, account, sender)
    }

    /// The line of the same sender and account in another lane.
    pub fn same_in(&mut self, line: u32, lane: &str) -> u32 {
        let Line { seat, sender, .. } = *self.lines.at(line);
        let account = self.seats.at(seat).account;
        let lane = self.lane(lane);
        self.line_of(lane, account, sender)
    }

    pub fn lane_of(&self, line: u32) -> u32 {
        self.seats.at(self.lines.at(line).seat).lane
    }

    fn lane(&mut self, name: &str) -> u32 {
        if let Some(id) = self.lanes_by_name.find(&self.lanes, name) {
            return id;
        }
        self.turns += 1;
        let id = self.lanes.insert(Lane {
            name: Arc::from(name),
            turn: self.turns,
            ..Lane::default()
        });
        self.lanes_by_name.insert(&self.lanes, id);
        id
    }

    fn line_of(&mut self, lane: u32, account: u32, sender: u32) -> u32 {
        let seat = match self.seats_by_account.find(&self.seats, &(lane, account)) {
            Some(seat) => seat,
            None => {
                let seat = self.seats.insert(Seat {
                    lane,
                    account,
                    ..Seat::default()
                });
                self.names.used(account);
                self.seats_by_account.insert(&self.seats, seat);
                seat
            }
        };
        if let Some(line) = self.lines_by_sender.find(&self.lines, &(seat, sender)) {
            return line;
        }
        let line = self.lines.insert(Line {
            seat,
            sender,
            ..Line::default()
        });
        self.names.used(sender);
        self.lines_by_sender.insert(&self.lines, line);
        self.seats.at_mut(seat).count += 1;
        self.lanes.at_mut(lane).lines += 1;
        self.remember(lane);
        self.lines.at_mut(line).suspended = self.rules.suspend(self.of(line));
        line
    }

    /// Whose line it is.
    fn of(&self, line: u32) -> Of<'_> {
        let line = self.lines.at(line);
        let seat = self.seats.at(line.seat);
        Of {
            lane: &self.lanes.at(seat.lane).name,
            account: self.names.text(seat.account),
            sender: self.names.text(line.sender),
        }
    }

    /// A job belongs to the line from now on.
    pub fn joined(&mut self, line: u32) {
        self.lines.at_mut(line).count += 1;
    }

    /// A job has gone.
    pub fn left(&mut self, now: u64, line: u32) {
        let one = self.lines.at_mut(line);
        one.count -= 1;
        if one.count == 0 && one.paused_until == 0 {
            self.drop_line(now, line);
        }
    }

    fn drop_line(&mut self, now: u64, line: u32) {
        self.lines_by_sender.remove(&self.lines, line);
        let Line { seat, sender, .. } = self.lines.remove(line);
        self.names.unused(sender);
        let one = self.seats.at_mut(seat);
        one.count -= 1;
        let lane = one.lane;
        if one.count == 0 {
            self.seats_by_account.remove(&self.seats, seat);
            let Seat { account, .. } = self.seats.remove(seat);
            self.names.unused(account);
        }
        let one = self.lanes.at_mut(lane);
        one.lines -= 1;
        if one.lines > 0 {
            return;
        }
        if one.gate.is_wide_open() || self.remembered >= MOST_REMEMBERED {
            self.drop_lane(lane);
        } else {
            let until = one.gate.closed_until().max(now).saturating_add(MEMORY);
            one.forget_at = until;
            self.remembered += 1;
            self.timers.insert((until, Timer::Forget(lane)));
        }
    }

    /// The lane is in use again.
    fn remember(&mut self, lane: u32) {
        let until = std::mem::take(&mut self.lanes.at_mut(lane).forget_at);
        if until > 0 {
            self.remembered -= 1;
            self.timers.remove(&(until, Timer::Forget(lane)));
        }
    }

    fn drop_lane(&mut self, id: u32) {
        self.remember(id);
        self.lanes_by_name.remove(&self.lanes, id);
        self.busy.remove(&id);
        let lane = self.lanes.remove(id);
        let until = lane.gate.closed_until();
        if until > 0 {
            self.timers.remove(&(until, Timer::Open(id)));
        }
    }

    /// The lane whose turn it is, when so many places are free.
    pub fn startable(&self, free: u32) -> Option<u32> {
        let (running, _, lane) = *self.open.first()?;
        // At most half of the places that other lanes do not use.
        let leaves_room = running < SURE || running + 2 <= free;
        (free > 0 && leaves_room).then_some(lane)
    }

    /// The next job of an open lane; the turn passes on.
    pub fn first_of(&mut self, lane: u32) -> u32 {
        let seats = &mut self.lanes.at_mut(lane).seats;
        let seat = seats.first();
        seats.turn(&mut self.seats);
        let lines = &mut self.seats.at_mut(seat).lines;
        let line = lines.first();
        lines.turn(&mut self.lines);
        self.lines.at(line).jobs.first()
    }

    /// A job of the lane begins: the epoch of its gate, and whether it is a probe.
    pub fn began(&mut self, lane: u32) -> (u32, bool) {
        self.turns += 1;
        let one = self.lanes.at_mut(lane);
        if let Some(running) = one.key.take() {
            self.open.remove(&(running, one.turn, lane));
        }
        one.turn = self.turns;
        (one.gate.epoch(), one.gate.is_probing())
    }

    /// What a job that began in `epoch` tells.
    pub fn tell(&mut self, now: u64, line: u32, epoch: u32, after: After) {
        let lane = self.lane_of(line);
        match after {
            After::Nothing => {}
            After::NoRoom {
                not_before,
                whom: Whom::Sender,
            } => {
                let one = self.lines.at_mut(line);
                one.waits = one.waits.saturating_add(1);
                let until = gate::wait_until(now, not_before, one.waits);
                self.pause(line, until);
            }
            After::NoRoom { not_before, .. } => {
                self.change_gate(lane, |gate| gate.no_room(now, epoch, not_before));
            }
            After::Reached => {
                self.lines.at_mut(line).waits = 0;
                self.change_gate(lane, |gate| gate.reached(epoch));
            }
            After::Unreachable { why, chance } => {
                self.change_gate(lane, |gate| gate.unreachable(now, epoch, chance, why));
            }
        }
    }

    fn change_gate(&mut self, lane: u32, change: impl FnOnce(&mut Gate)) {
        let gate = &mut self.lanes.at_mut(lane).gate;
        let before = gate.closed_until();
        change(gate);
        let after = gate.closed_until();
        if before != after {
            self.timers.remove(&(before, Timer::Open(lane)));
            if after > 0 {
                self.timers.insert((after, Timer::Open(lane)));
            }
        }
        self.place_lane(lane);
    }

    fn pause(&mut self, line: u32, until: u64) {
        let before = std::mem::replace(&mut self.lines.at_mut(line).paused_until, until);
        if before > 0 {
            self.timers.remove(&(before, Timer::Resume(line)));
        }
        if until > 0 {
            self.timers.insert((until, Timer::Resume(line)));
        }
        self.place_line(line);
    }

    /// One probe may go at once, also where a line waits for flow control.
    pub fn open_for(&mut self, line: u32) {
        if self.lines.at(line).paused_until > 0 {
            self.pause(line, 0);
        }
        self.change_gate(self.lane_of(line), Gate::open);
    }

    /// Flow control has changed: all that wait for it ask again.
    pub fn look_again(&mut self, now: u64) {
        let waiting: Vec<Timer> = self.timers.iter().map(|(_, timer)| *timer).collect();
        for timer in waiting {
            match timer {
                Timer::Resume(line) => self.resume(now, line),
                Timer::Open(lane)
                    if self.lanes.at(lane).gate.cause() == Some(gate::Cause::NoRoom) =>
                {
                    self.change_gate(lane, Gate::open);
                }
                Timer::Open(_) | Timer::Forget(_) => {}
            }
        }
    }

    fn resume(&mut self, now: u64, line: u32) {
        self.pause(line, 0);
        if self.lines.at(line).count == 0 {
            self.drop_line(now, line);
        }
    }

    pub fn wake_at(&self) -> Option<u64> {
        let lane = self.timers.first().map(|(moment, _)| *moment);
        match (lane, self.rules.wake_at()) {
            (Some(lane), Some(rule)) => Some(lane.min(rule)),
            (lane, rule) => lane.or(rule),
        }
    }

    /// Does what was to happen by `now`, at most `most` things.
    pub fn wake(&mut self, now: u64, most: usize) {
        if self.rules.end(now) {
            self.apply_rules();
        }
        for _ in 0..most {
            let Some(&(moment, timer)) = self.timers.first() else {
                break;
            };
            if moment > now {
                break;
            }
            match timer {
                Timer::Open(lane) => self.change_gate(lane, Gate::open),
                Timer::Resume(line) => self.resume(now, line),
                Timer::Forget(lane) => self.drop_lane(lane),
            }
        }
    }

    /// Changes how many deliveries a lane may hold.
    pub fn set_most(&mut self, most: u64) {
        if most == self.most {
            return;
        }
        self.most = most;
        let lanes = self.lanes.iter();
        let full = lanes.filter(|(_, lane)| most > 0 && lane.tally.all() >= most);
        self.full = full.map(|(id, _)| id).collect();
    }

    /// The lanes that hold as many as they may.
    pub fn full(&self) -> Vec<Arc<str>> {
        let names = self.full.iter().map(|id| self.lanes.at(*id).name.clone());
        names.collect()
    }

    /// The lanes in which what comes now would not start at once; `None`: more than `most`, or
    /// nobody can tell, since something is suspended.
    pub fn busy(&self, most: usize) -> Option<Vec<Arc<str>>> {
        let names = self.busy.iter().map(|id| self.lanes.at(*id).name.clone());
        (self.busy.len() <= most && self.rules.is_empty()).then(|| names.collect())
    }

    /// Whether the lane is busy, after its gate or what is ready or running in it changed.
    fn mark_busy(&mut self, id: u32) {
        let lane = self.lanes.at(id);
        let is_open = lane.running < CAP && lane.gate.admits(lane.running);
        match is_open && lane.tally.ready() == 0 {
            true => self.busy.remove(&id),
            false => self.busy.insert(id),
        };
    }

    /// Whether the lane is full, after its deliveries changed.
    fn weigh(&mut self, lane: u32) {
        let is_full = self.most > 0 && self.lanes.at(lane).tally.all() >= self.most;
        if is_full {
            self.full.insert(lane);
        } else if !self.full.is_empty() {
            self.full.remove(&lane);
        }
    }

    /// A job takes its place.
    pub fn enter(
        &mut self,
        slots: &mut Slab<Slot>,
        id: u32,
        line: u32,
        place: Place,
        count: u64,
        end: End,
    ) {
        let lane = self.lane_of(line);
        let one = self.lanes.at_mut(lane);
        *one.tally.of(place) += count as u32;
        match place {
            Place::Ready => {
                self.mark_busy(lane);
                self.lines.at_mut(line).jobs.push(slots, id, end);
                self.place_line(line);
            }
            Place::Running => {
                one.running += 1;
                self.place_lane(lane);
            }
            Place::Nowhere | Place::Waiting | Place::Held | Place::Expired => {}
        }
        self.weigh(lane);
    }

    /// A job gives up its place.
    pub fn leave(&mut self, slots: &mut Slab<Slot>, id: u32, line: u32, place: Place, count: u64) {
        let lane = self.lane_of(line);
        let one = self.lanes.at_mut(lane);
        *one.tally.of(place) -= count as u32;
        match place {
            Place::Ready => {
                self.mark_busy(lane);
                self.lines.at_mut(line).jobs.remove(slots, id);
                self.place_line(line);
            }
            Place::Running => {
                one.running -= 1;
                self.place_lane(lane);
            }
            Place::Nowhere | Place::Waiting | Place::Held | Place::Expired => {}
        }
        self.weigh(lane);
    }

    /// Whether the line stands in its seat is as it should be, and so upwards.
    fn place_line(&mut self, id: u32) {
        let line = self.lines.at_mut(id);
        let may_go = !line.jobs.is_empty() && line.paused_until == 0 && !line.suspended;
        if may_go == line.is_up {
            return;
        }
        line.is_up = may_go;
        let seat = line.seat;
        let lines = &mut self.seats.at_mut(seat).lines;
        match may_go {
            true => lines.push(&mut self.lines, id, End::Back),
            false => lines.remove(&mut self.lines, id),
        }
        self.place_seat(seat);
    }

    fn place_seat(&mut self, id: u32) {
        let seat = self.seats.at_mut(id);
        let may_go = !seat.lines.is_empty();
        if may_go == seat.is_up {
            return;
        }
        seat.is_up = may_go;
        let lane = seat.lane;
        let seats = &mut self.lanes.at_mut(lane).seats;
        match may_go {
            true => seats.push(&mut self.seats, id, End::Back),
            false => seats.remove(&mut self.seats, id),
        }
        self.place_lane(lane);
    }

    fn place_lane(&mut self, id: u32) {
        self.mark_busy(id);
        let lane = self.lanes.at_mut(id);
        let may_go = !lane.seats.is_empty() && lane.running < CAP && lane.gate.admits(lane.running);
        let key = may_go.then_some(lane.running);
        if key == lane.key {
            return;
        }
        if let Some(running) = std::mem::replace(&mut lane.key, key) {
            self.open.remove(&(running, lane.turn, id));
        }
        if let Some(running) = key {
            self.open.insert((running, lane.turn, id));
        }
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Changes the rules of suspension and does what they say.
    pub fn change_rules<T>(&mut self, change: impl FnOnce(&mut Rules) -> T) -> T {
        let changed = change(&mut self.rules);
        self.apply_rules();
        changed
    }

    fn apply_rules(&mut self) {
        let used = self
            .lines
            .iter()
            .filter(|(_, line)| line.count > 0 || line.paused_until > 0);
        let used: Vec<u32> = used.map(|(id, _)| id).collect();
        for id in used {
            let suspended = self.rules.suspend(self.of(id));
            if suspended != std::mem::replace(&mut self.lines.at_mut(id).suspended, suspended) {
                self.place_line(id);
            }
        }
    }

    /// The outbounds that a line is not to use.
    pub fn without(&self, line: u32) -> Vec<IpAddr> {
        match self.rules.name_outbounds() {
            true => self.rules.without(self.of(line)),
            false => Vec::new(),
        }
    }

    /// The suspended lanes to which a job may turn out to belong: that of a domain is only as much
    /// as was known without its MX.
    pub fn closed(&self, line: u32) -> Vec<Closed> {
        let of = self.of(line);
        match group_of(of.lane) {
            Some(_) => Vec::new(),
            None => self.rules.closed(of),
        }
    }

    pub fn all(&self) -> impl Iterator<Item = (u32, &Lane)> {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.lines > 0 || lane.forget_at > 0)
    }

    /// Whose line it is, with whether it is suspended.
    pub fn standing(&self, line: u32) -> (u32, bool) {
        (self.lane_of(line), self.lines.at(line).suspended)
    }
}
