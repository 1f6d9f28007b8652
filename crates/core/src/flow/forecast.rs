//! What would become of a plan of mail: the real desk in virtual time (`galerne simulate`).
//!
//! Nothing is sent. Each message takes a fixed time and is delivered; all else is as it would be:
//! limits, sessions and pauses, windows, switches, and the choice of the outbound.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;
use std::time::Duration;

use crate::flow::desk::{Case, Desk, GroupFlow, Switched, Travel};
use crate::flow::{Control, Limit, Moment, Set, Verdict};

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// Mail that is ready at the beginning of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// 0 is the first day.
    pub day: u32,
    /// Without `@`; empty: the group of all others.
    pub group: String,
    pub messages: u64,
}

/// What is assumed.
#[derive(Clone, Debug)]
pub struct Assumptions {
    pub outbounds: Vec<IpAddr>,
    /// Sender domain, lower case.
    pub sender: String,
    /// Time for one message in a session.
    pub message_time: Duration,
    /// Days looked at.
    pub days: u32,
    /// Different recipient domains in the group of all others: sessions are limited for each.
    pub domains: u32,
}

/// When a batch was out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub batch: Batch,
    /// Time from the beginning of its day; `None`: not within the days looked at.
    pub after: Option<Duration>,
    /// Messages still waiting at the end.
    pub left: u64,
}

/// One day of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Day {
    pub sent: u64,
    /// The slowest set of the group's addresses at the end of the day.
    pub set: Option<Set>,
    /// The limit that was waited for longest, and how long in all.
    pub bottleneck: Option<(Control, Limit, Duration)>,
}

/// What would happen.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    pub finished: Vec<Finished>,
    /// By group and day.
    pub days: BTreeMap<String, Vec<Day>>,
    pub switches: Vec<Switched>,
}

/// A session that is sending, until the moment in the heap.
struct Session {
    group: usize,
    ip: usize,
    /// Number of the recipient domain, in the group of all others.
    domain: u32,
    messages: u64,
}

struct Group {
    name: String,
    /// Waiting batches, oldest first: index and messages left to begin.
    waiting: Vec<(usize, u64)>,
    /// Turns over the domains.
    turn: u32,
    waits: BTreeMap<(Control, Limit), Duration>,
    /// Since when nothing could be sent, and because of what.
    stuck: Option<(Moment, Control, Limit)>,
}

/// Events in the order of their time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Day(u32),
    Minute,
    Done(usize),
    Wake(usize),
}

struct Run<'a> {
    desk: Desk,
    assumed: &'a Assumptions,
    domains: Vec<String>,
    groups: Vec<Group>,
    batches: Vec<Batch>,
    unfinished: Vec<u64>,
    after: Vec<Option<Duration>>,
    sessions: Vec<Option<Session>>,
    events: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    order: u64,
    start: Moment,
    forecast: Forecast,
}

/// Plays the plan with states as they are in `desk`, which begins at `start`.
pub fn forecast(
    flows: Vec<(String, GroupFlow)>,
    batches: &[Batch],
    assumed: &Assumptions,
    start: Moment,
) -> Forecast {
    let mut desk = Desk::default();
    desk.configure(flows);
    let mut names: Vec<String> = batches.iter().map(|batch| batch.group.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let group = |name: String| Group {
        name,
        waiting: Vec::new(),
        turn: 0,
        waits: BTreeMap::new(),
        stuck: None,
    };
    let mut run = Run {
        desk,
        assumed,
        domains: (0..assumed.domains.max(1))
            .map(|number| format!("d{number}.invalid"))
            .collect(),
        groups: names.into_iter().map(group).collect(),
        unfinished: batches.iter().map(|batch| batch.messages).collect(),
        after: vec![None; batches.len()],
        batches: batches.to_vec(),
        sessions: Vec::new(),
        events: BinaryHeap::new(),
        order: 0,
        start,
        forecast: Forecast::default(),
    };
    for group in &run.groups {
        let days = vec![Day::default(); usize::try_from(assumed.days).unwrap_or(0)];
        run.forecast.days.insert(group.name.clone(), days);
    }
    run.play();
    run.finish()
}

impl Run<'_> {
    fn at(&mut self, moment: Moment, event: Event) {
        self.order += 1;
        self.events.push(Reverse((moment, self.order, event)));
    }

    fn play(&mut self) {
        for day in 0..=self.assumed.days {
            self.at(self.start.after(DAY * day), Event::Day(day));
        }
        self.at(self.start.after(MINUTE), Event::Minute);
        let end = self.start.after(DAY * self.assumed.days);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Day(day) => {
                    self.end_of_day(now, day);
                    if now >= end {
                        return;
                    }
                    self.begin_day(now, day);
                }
                Event::Minute => {
                    self.desk.tick(now);
                    self.at(now.after(MINUTE), Event::Minute);
                }
                Event::Done(session) => self.done(now, session),
                Event::Wake(group) => self.send(now, group),
            }
        }
    }

    fn begin_day(&mut self, now: Moment, day: u32) {
        for index in 0..self.groups.len() {
            let Some(group) = self.groups.get_mut(index) else {
                continue;
            };
            let due = self.batches.iter().enumerate();
            let due = due.filter(|(_, batch)| batch.day == day && batch.group == group.name);
            group
                .waiting
                .extend(due.map(|(number, batch)| (number, batch.messages)));
            group.waits.clear();
            group.stuck = group.stuck.map(|(_, control, limit)| (now, control, limit));
            self.send(now, index);
        }
    }

    fn end_of_day(&mut self, now: Moment, day: u32) {
        let Some(day) = day.checked_sub(1).and_then(|day| usize::try_from(day).ok()) else {
            return;
        };
        let rows = self.desk.rows(now, None);
        for group in &mut self.groups {
            unstick(group, now);
            let days = self.forecast.days.get_mut(&group.name);
            let Some(today) = days.and_then(|days| days.get_mut(day)) else {
                continue;
            };
            let of_group = rows
                .iter()
                .filter(|row| row.control == Control::Ip && row.group == group.name);
            today.set = of_group.map(|row| row.set).min();
            let longest = group.waits.iter().max_by_key(|(_, length)| **length);
            today.bottleneck =
                longest.map(|((control, limit), length)| (*control, *limit, *length));
        }
    }

    /// A session has sent its message.
    fn done(&mut self, now: Moment, number: usize) {
        let Some(session) = self.sessions.get_mut(number).and_then(Option::take) else {
            return;
        };
        let Session {
            group,
            ip,
            domain,
            messages,
        } = session;
        let Some(name) = self.groups.get(group).map(|group| group.name.clone()) else {
            return;
        };
        let (Some(ip_address), Some(domain_name)) = (
            self.assumed.outbounds.get(ip).copied(),
            self.domains
                .get(usize::try_from(domain).unwrap_or(0))
                .cloned(),
        ) else {
            return;
        };
        let case = Case {
            group: &name,
            domain: &domain_name,
            ip: ip_address,
            sender: &self.assumed.sender,
        };
        self.desk.delivered(now, case, 1);
        let day = usize::try_from(now.since(self.start).as_secs() / 86_400).unwrap_or(0);
        let days = self.forecast.days.get_mut(&name);
        if let Some(today) = days.and_then(|days| days.get_mut(day)) {
            today.sent += 1;
        }
        self.forecast.switches.extend(self.desk.take_switches());
        let chain = u64::from(self.desk.chain(now, case));
        let more = self
            .groups
            .get(group)
            .is_some_and(|group| !group.waiting.is_empty());
        let goes_on = more
            && (chain == 0 || messages < chain)
            && self
                .desk
                .ask(now, case, Travel::SameSession, 1)
                .is_ok_and(|_| {
                    self.desk.mail_sent(now, case, 1);
                    true
                });
        if goes_on {
            self.take_one(now, group);
            let session = Session {
                messages: messages + 1,
                ..session
            };
            if let Some(place) = self.sessions.get_mut(number) {
                *place = Some(session);
            }
            self.at(now.after(self.assumed.message_time), Event::Done(number));
        } else {
            self.desk.session_closed(now, case);
        }
        self.send(now, group);
    }

    /// One message of the group's oldest batch begins; its batch is done when its last one ends.
    fn take_one(&mut self, now: Moment, group: usize) {
        let message_time = self.assumed.message_time;
        let Some(group) = self.groups.get_mut(group) else {
            return;
        };
        unstick(group, now);
        let Some((batch, left)) = group.waiting.first_mut() else {
            return;
        };
        let batch = *batch;
        *left -= 1;
        if *left == 0 {
            group.waiting.remove(0);
        }
        if group.waiting.is_empty() {
            group.stuck = None;
        }
        if let Some(unfinished) = self.unfinished.get_mut(batch) {
            *unfinished -= 1;
            let (Some(0), Some(at), Some(planned)) = (
                Some(*unfinished),
                self.after.get_mut(batch),
                self.batches.get(batch),
            ) else {
                return;
            };
            let begin = self.start.after(DAY * planned.day);
            *at = Some(now.after(message_time).since(begin));
        }
    }

    /// Opens sessions for the group as long as its limits allow.
    fn send(&mut self, now: Moment, group: usize) {
        loop {
            let Some((name, has_more, turn)) = self
                .groups
                .get(group)
                .map(|group| (group.name.clone(), !group.waiting.is_empty(), group.turn))
            else {
                return;
            };
            if !has_more {
                return;
            }
            match self.open(now, &name, turn) {
                Ok((ip, domain)) => {
                    self.take_one(now, group);
                    if let Some(group) = self.groups.get_mut(group) {
                        group.turn = domain + 1;
                    }
                    let number = self.sessions.iter().position(Option::is_none);
                    let session = Some(Session {
                        group,
                        ip,
                        domain,
                        messages: 1,
                    });
                    let number = match number.and_then(|n| self.sessions.get_mut(n).map(|p| (n, p)))
                    {
                        Some((number, place)) => {
                            *place = session;
                            number
                        }
                        None => {
                            self.sessions.push(session);
                            self.sessions.len() - 1
                        }
                    };
                    self.at(now.after(self.assumed.message_time), Event::Done(number));
                }
                Err(None) => return,
                Err(Some(verdict)) => {
                    self.wait(now, group, verdict);
                    return;
                }
            }
        }
    }

    /// A session from the outbound with the most room, to the next domain in turn.
    fn open(
        &mut self,
        now: Moment,
        group: &str,
        turn: u32,
    ) -> Result<(usize, u32), Option<Verdict>> {
        let sender = self.assumed.sender.as_str();
        let count = if group.is_empty() {
            u32::try_from(self.domains.len()).unwrap_or(1)
        } else {
            1
        };
        let mut order: Vec<(u64, usize)> = Vec::new();
        for (index, &ip) in self.assumed.outbounds.iter().enumerate() {
            let case = Case {
                group,
                domain: "",
                ip,
                sender,
            };
            order.push((self.desk.unused(now, case), index));
        }
        order.sort_by_key(|(unused, index)| (Reverse(*unused), *index));
        let mut soonest: Option<Verdict> = None;
        for (_, index) in order {
            let Some(&ip) = self.assumed.outbounds.get(index) else {
                continue;
            };
            for step in 0..count {
                let domain = (turn + step) % count;
                let Some(name) = self.domains.get(usize::try_from(domain).unwrap_or(0)) else {
                    continue;
                };
                let case = Case {
                    group,
                    domain: name,
                    ip,
                    sender,
                };
                match self.desk.ask(now, case, Travel::NewSession, 1) {
                    Ok(_) => {
                        self.desk.mail_sent(now, case, 1);
                        return Ok((index, domain));
                    }
                    Err(verdict) => soonest = sooner(soonest, verdict),
                }
            }
        }
        Err(soonest)
    }

    fn wait(&mut self, now: Moment, number: usize, verdict: Verdict) {
        let (moment, control, limit) = match verdict {
            Verdict::NotBefore(moment, control, limit) => (Some(moment), control, limit),
            Verdict::WhenFree(control) => (None, control, Limit::ThreadMax),
            Verdict::Now => return,
        };
        if let Some(group) = self.groups.get_mut(number) {
            unstick(group, now);
            group.stuck = Some((now, control, limit));
        }
        if let Some(moment) = moment {
            self.at(moment.max(Moment(now.0 + 1)), Event::Wake(number));
        }
    }

    fn finish(mut self) -> Forecast {
        let each = self
            .batches
            .into_iter()
            .zip(self.unfinished)
            .zip(self.after);
        self.forecast.finished = each
            .map(|((batch, left), after)| Finished { batch, after, left })
            .collect();
        self.forecast
    }
}

/// The group goes on, or waits for something else: books how long it waited.
fn unstick(group: &mut Group, now: Moment) {
    if let Some((since, control, limit)) = group.stuck.take() {
        *group.waits.entry((control, limit)).or_default() += now.since(since);
        group.stuck = (!group.waiting.is_empty()).then_some((now, control, limit));
    }
}

fn sooner(one: Option<Verdict>, other: Verdict) -> Option<Verdict> {
    match (one, other) {
        (None, _) | (Some(Verdict::WhenFree(_)), Verdict::NotBefore(..)) => Some(other),
        (Some(Verdict::NotBefore(at, ..)), Verdict::NotBefore(then, ..)) if then < at => {
            Some(other)
        }
        _ => one,
    }
}

#[cfg(test)]
mod tests;
