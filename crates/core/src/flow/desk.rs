//! The desk that all messages pass before they leave: the states of all IPs and senders towards
//! all groups, and the verdict on one message (FLOW-1 to FLOW-4, FLOW-22, FLOW-23, FLOW-51).
//!
//! The caller asks with [`Desk::ask`]. After `Verdict::Now` the message counts as let go, until the
//! caller reports `mail_sent` or `given_back`; a session counts as open until `session_closed`.

mod looking;
mod saving;
mod senders;
mod slices;
mod words;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::flow::ips::{Ips, Known};
use crate::flow::params::{Params, Sections, Shared, resolve};
use crate::flow::slots::{Full, Slots};
use crate::flow::state::{Change, State};
use crate::flow::{Control, Limit, Moment, Set, Verdict};

pub use saving::Unsaved;
use saving::{Changed, Whose};
use senders::{MOST_SENDERS, Senders};
pub use slices::{Slice, in_order};
pub use words::{Demand, Key, Row, Saved, Switched};

/// Domains of the group of all others that are remembered whether they have sessions or not.
const FEW_DOMAINS: usize = 1000;

/// The flow sections of one group, as configured.
#[derive(Clone, Debug, Default)]
pub struct GroupFlow {
    pub sections: Sections,
    /// Sections of `.defflow.ini`.
    pub defaults: Arc<Sections>,
    /// A relay host without any flow section: nothing is limited (FLOW-4).
    pub is_unlimited: bool,
    /// The group of all other domains: sessions are limited for each domain (FLOW-51, FLOW-52).
    pub is_catch_all: bool,
    /// Made of the sections when they are asked for.
    pub shared: Shared,
}

/// One message at the desk.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Name of the group without `@`; that of a relay host with its `@`.
    pub group: &'a str,
    /// Recipient domain, for the group of all others.
    pub domain: &'a str,
    pub ip: IpAddr,
    /// Sender domain, lower case (FLOW-4).
    pub sender: &'a str,
}

/// How the message would travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travel<'a> {
    /// In a session that would be opened for it.
    NewSession,
    /// In a session that is open, for the same sender as the message before.
    SameSession,
    /// In a session that is open and carried mail of another sender.
    TakenOver { from: &'a str },
}

#[derive(Debug)]
pub(super) struct Entry {
    state: State,
    /// Parameters of the set in force.
    params: Arc<Params>,
    slots: Slots,
    /// Sessions by recipient domain, in the group of all others.
    by_domain: HashMap<String, Slots>,
    /// With so many of them those that are idle are forgotten.
    tidy_at: usize,
    /// It stands among those that are to be stored.
    is_changed: bool,
}

#[derive(Debug, Default)]
struct GroupStates {
    flow: GroupFlow,
    ips: Ips,
    senders: Senders,
}

/// All states.
#[derive(Debug, Default)]
pub struct Desk {
    groups: HashMap<Arc<str>, GroupStates>,
    changes: Vec<Switched>,
    /// What is to be stored.
    unsaved: VecDeque<Changed>,
}

impl GroupFlow {
    fn params(&self, set: Set, key: Key<'_>) -> Arc<Params> {
        let control = key.control();
        let resolved = |key: &str| match self.is_unlimited {
            true => Params::unlimited(),
            false => resolve(&self.sections, &self.defaults, control, set, key),
        };
        match self.sections.has_specific() || self.defaults.has_specific() {
            true => Arc::new(resolved(&key.text())),
            false => self.shared.get(control, set, || resolved("")),
        }
    }
}

impl Entry {
    fn new(flow: &GroupFlow, key: Key<'_>, state: State) -> Self {
        Entry {
            params: flow.params(state.set(), key),
            state,
            slots: Slots::default(),
            by_domain: HashMap::new(),
            tidy_at: FEW_DOMAINS,
            is_changed: false,
        }
    }

    /// How it stands among other IPs of its group, and until when if nothing happens.
    pub(super) fn known(&self, now: Moment) -> Known {
        let (may_send, unused, until) = self.state.standing(now, &self.params);
        let opens = match may_send {
            true => self.slots.free_at(now, self.params.threadmax),
            false => Moment(u64::MAX),
        };
        Known {
            until,
            free_at: opens,
            unused: u32::try_from(unused).unwrap_or(u32::MAX),
        }
    }

    fn slots(&self, domain: Option<&str>) -> Option<&Slots> {
        match domain {
            None => Some(&self.slots),
            Some(domain) => self.by_domain.get(domain),
        }
    }

    fn slots_mut(&mut self, domain: Option<&str>) -> &mut Slots {
        match domain {
            None => &mut self.slots,
            Some(domain) => self.by_domain.entry_ref(domain).or_default(),
        }
    }

    fn tidy(&mut self, now: Moment) {
        if self.by_domain.len() > self.tidy_at {
            self.by_domain.retain(|_, slots| !slots.is_idle(now));
            self.tidy_at = (self.by_domain.len() * 2).max(FEW_DOMAINS);
        }
    }

    /// The pause of a slot; without a limit of sessions there is none (FLOW-21).
    fn pause(&self) -> Duration {
        match self.params.threadmax {
            0 => Duration::ZERO,
            _ => self.params.waittime,
        }
    }

    fn may_open(&self, now: Moment, domain: Option<&str>) -> Result<(), Full> {
        let slots = self.slots(domain);
        slots.map_or(Ok(()), |slots| slots.may_open(now, self.params.threadmax))
    }
}

impl Desk {
    /// The configuration came into force, at the start or on a reload. States stay; those of
    /// groups that are gone stay as well, since they may come back.
    pub fn configure(&mut self, groups: impl IntoIterator<Item = (String, GroupFlow)>) {
        for (name, flow) in groups {
            let states = self.groups.entry(name.into()).or_default();
            states.flow = flow;
            let flow = &states.flow;
            for (ip, entry) in states.ips.iter_mut() {
                entry.params = flow.params(entry.state.set(), Key::Ip(ip));
            }
            for (sender, entry) in states.senders.iter_mut() {
                entry.params = flow.params(entry.state.set(), Key::Sender(sender));
            }
        }
    }

    /// The switches since the last call.
    pub fn take_switches(&mut self) -> Vec<Switched> {
        std::mem::take(&mut self.changes)
    }

    /// Whether `wanted` messages of one transaction may go now, and how many of them: both
    /// controls must permit. With `Ok` they are let go and, in a new session, it counts as open.
    ///
    /// # Errors
    /// Until when they must wait.
    pub fn ask(
        &mut self,
        now: Moment,
        case: Case<'_>,
        travel: Travel<'_>,
        wanted: u64,
    ) -> Result<u64, Verdict> {
        let granted = self.may(now, case, travel, wanted)?;
        let Some((ip, sender, domain)) = self.pair(now, case) else {
            return Err(Verdict::WhenFree(Control::Ip));
        };
        ip.state.let_go(granted);
        sender.state.let_go(granted);
        match travel {
            Travel::SameSession => {}
            Travel::NewSession => {
                ip.slots_mut(domain).opened();
                sender.slots_mut(domain).opened();
            }
            Travel::TakenOver { from } => {
                sender.slots_mut(domain).opened();
                let before = Case {
                    sender: from,
                    ..case
                };
                if let Some((_, sender, domain)) = self.pair(now, before) {
                    let waittime = sender.pause();
                    sender.slots_mut(domain).closed(now, waittime);
                }
            }
        }
        Ok(granted)
    }

    /// As `ask`, and nothing is let go.
    ///
    /// # Errors
    /// Until when they must wait.
    pub fn may(
        &self,
        now: Moment,
        case: Case<'_>,
        travel: Travel<'_>,
        wanted: u64,
    ) -> Result<u64, Verdict> {
        let look = self.look(now, case);
        let (ip, sender) = (look.ip.get(), look.sender.get());
        let domain = look.is_catch_all.then_some(case.domain);
        let mut granted = wanted;
        let mut refused: Option<Verdict> = None;
        for (control, entry) in [(Control::Ip, ip), (Control::Sender, sender)] {
            // For one message it is known already in most cases.
            let has_room = control == Control::Ip && wanted == 1 && look.has_room;
            let room = match has_room {
                true => Ok(1),
                false => entry.state.may_send(now, &entry.params, wanted),
            };
            match room {
                Ok(count) => granted = granted.min(count),
                Err((Some(at), limit)) => {
                    refused = later(refused, Verdict::NotBefore(at, control, limit));
                }
                Err((None, _)) => refused = later(refused, Verdict::WhenFree(control)),
            }
            let opens = match travel {
                Travel::NewSession => true,
                Travel::SameSession => false,
                Travel::TakenOver { .. } => control == Control::Sender,
            };
            if opens && let Err(full) = entry.may_open(now, domain) {
                let verdict = match full {
                    Full::Pausing(at) => Verdict::NotBefore(at, control, full.limit()),
                    Full::InUse => Verdict::WhenFree(control),
                };
                refused = later(refused, verdict);
            }
        }
        refused.map_or(Ok(granted), Err)
    }

    /// Another session for messages that were let go already. False: not now.
    pub fn reopen(&mut self, now: Moment, case: Case<'_>) -> bool {
        let Some((ip, sender, domain)) = self.pair(now, case) else {
            return false;
        };
        let may = ip.may_open(now, domain).is_ok() && sender.may_open(now, domain).is_ok();
        if may {
            ip.slots_mut(domain).opened();
            sender.slots_mut(domain).opened();
        }
        may
    }

    /// A session is idle from now on, or no longer.
    pub fn session_idle(&mut self, now: Moment, case: Case<'_>, is_idle: bool) {
        let Some((ip, sender, domain)) = self.pair(now, case) else {
            return;
        };
        for entry in [ip, sender] {
            entry.slots_mut(domain).idle_changed(is_idle);
        }
        self.look_at(now, case);
    }

    /// The unused part of the windows, in millionths, for the choice of the outbound (FLOW-23).
    pub fn unused(&self, now: Moment, case: Case<'_>) -> u64 {
        let look = self.look(now, case);
        let ip = look.ip.get();
        ip.state.unused(now, &ip.params)
    }

    /// Most messages of one session; 0: no limit.
    pub fn chain(&self, now: Moment, case: Case<'_>) -> u32 {
        let look = self.look(now, case);
        let limits = [&look.ip, &look.sender].map(|entry| entry.get().params.chainmax);
        limits.into_iter().filter(|max| *max > 0).min().unwrap_or(0)
    }

    /// MAIL was sent for `count` messages that were let go (FLOW-27).
    pub fn mail_sent(&mut self, now: Moment, case: Case<'_>, count: u64) {
        self.both(now, case, |entry| {
            entry.state.mail_sent(now, &entry.params, count);
            None
        });
    }

    /// MAIL was sent at `at` for `count` messages in a session that proved closed: it was not
    /// heard, and does not count. They stay let go.
    pub fn mail_unheard(&mut self, now: Moment, case: Case<'_>, at: Moment, count: u64) {
        self.both(now, case, |entry| {
            entry.state.mail_unheard(at, count);
            None
        });
    }

    /// MAIL was never sent for `count` messages that were let go.
    pub fn given_back(&mut self, now: Moment, case: Case<'_>, count: u64) {
        self.both(now, case, |entry| {
            entry.state.given_back(count);
            None
        });
    }

    /// A session ended, or took up another sender.
    pub fn session_closed(&mut self, now: Moment, case: Case<'_>) {
        let Some((ip, sender, domain)) = self.pair(now, case) else {
            return;
        };
        for entry in [ip, sender] {
            let waittime = entry.pause();
            let slots = entry.slots_mut(domain);
            slots.closed(now, waittime);
            entry.tidy(now);
        }
        self.look_at(now, case);
    }

    /// A session that was let go was not opened, or carried no message: nothing pauses.
    pub fn session_unused(&mut self, now: Moment, case: Case<'_>) {
        let Some((ip, sender, domain)) = self.pair(now, case) else {
            return;
        };
        for entry in [ip, sender] {
            entry.slots_mut(domain).closed(now, Duration::ZERO);
        }
    }

    /// `count` messages were delivered.
    pub fn delivered(&mut self, now: Moment, case: Case<'_>, count: u64) {
        self.both(now, case, |entry| {
            entry.state.delivered(now, &entry.params, count);
            entry.state.evaluate(now, &entry.params)
        });
    }

    /// An error that some pattern knows.
    pub fn known_error(&mut self, now: Moment, case: Case<'_>) {
        self.both(now, case, |entry| {
            entry.state.known_error();
            None
        });
    }

    /// An error that no pattern knows (FLOW-47).
    pub fn unknown_error(&mut self, now: Moment, case: Case<'_>) {
        self.both(now, case, |entry| {
            entry.state.unknown_error(now, &entry.params)
        });
    }

    /// A reply qualified FLOW by `pattern`, with the sets that it names (FLOW-42).
    pub fn blocked(
        &mut self,
        now: Moment,
        case: Case<'_>,
        ipset: Option<Set>,
        sdset: Option<Set>,
        pattern: &str,
    ) {
        let keys = [(Key::Ip(case.ip), ipset), (Key::Sender(case.sender), sdset)];
        for (key, to) in keys {
            self.one(now, case.group, key, |flow, entry| match to {
                None => {
                    entry.state.known_error();
                    None
                }
                Some(to) => {
                    let sleepttl = flow.params(to, key).sleepttl;
                    entry.state.blocked(now, to, sleepttl, pattern)
                }
            });
        }
    }

    /// An operator switches (FLOW-49, FLOW-50).
    pub fn demand(&mut self, now: Moment, wish: &Demand<'_>) {
        self.one(now, wish.group, wish.key, |flow, entry| {
            let sleepttl = flow.params(wish.set, wish.key).sleepttl;
            let sleepttl = wish.sleep.then_some(sleepttl);
            entry.state.demanded(now, wish.set, sleepttl, wish.lock)
        });
    }

    /// Both entries of a case as they are, or as new ones would be; nothing is remembered.
    fn look(&self, now: Moment, case: Case<'_>) -> Look<'_> {
        let states = self.groups.get(case.group);
        let new = |key| {
            let state = State::new(now);
            Seen::New(Box::new(match states {
                Some(states) => Entry::new(&states.flow, key, state),
                None => Entry::new(&GroupFlow::default(), key, state),
            }))
        };
        let ip = states.and_then(|states| states.ips.get(case.ip));
        let sender = states.and_then(|states| states.senders.get(case.sender));
        Look {
            ip: ip.map_or_else(|| new(Key::Ip(case.ip)), Seen::Known),
            sender: sender.map_or_else(|| new(Key::Sender(case.sender)), Seen::Known),
            is_catch_all: states.is_some_and(|states| states.flow.is_catch_all),
            has_room: states.is_some_and(|states| states.ips.has_room(now, case.ip)),
        }
    }

    /// Both entries of a case, made where they are new, and the domain where it matters.
    fn pair<'c>(
        &mut self,
        now: Moment,
        case: Case<'c>,
    ) -> Option<(&mut Entry, &mut Entry, Option<&'c str>)> {
        let (states, unsaved) = self.group(case.group)?;
        states.make(now, case.group, Key::Ip(case.ip), unsaved);
        states.make(now, case.group, Key::Sender(case.sender), unsaved);
        let GroupStates { flow, ips, senders } = states;
        let domain = flow.is_catch_all.then_some(case.domain);
        Some((ips.get_mut(case.ip)?, senders.get_mut(case.sender)?, domain))
    }

    /// The next decision need not look at the address again.
    fn look_at(&mut self, now: Moment, case: Case<'_>) {
        if let Some(states) = self.groups.get_mut(case.group) {
            states.ips.look(now, case.ip);
        }
    }

    fn group(&mut self, group: &str) -> Option<(&mut GroupStates, &mut VecDeque<Changed>)> {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.into(), GroupStates::default());
        }
        Some((self.groups.get_mut(group)?, &mut self.unsaved))
    }

    /// Does the same to both entries and books their switches.
    fn both(
        &mut self,
        now: Moment,
        case: Case<'_>,
        mut act: impl FnMut(&mut Entry) -> Option<Change>,
    ) {
        for key in [Key::Ip(case.ip), Key::Sender(case.sender)] {
            self.one(now, case.group, key, |_, entry| act(entry));
        }
    }

    /// Does something to one entry and books its switch.
    fn one(
        &mut self,
        now: Moment,
        group: &str,
        key: Key<'_>,
        act: impl FnOnce(&GroupFlow, &mut Entry) -> Option<Change>,
    ) {
        let Some((states, unsaved)) = self.group(group) else {
            return;
        };
        states.make(now, group, key, unsaved);
        let GroupStates { flow, ips, senders } = states;
        let entry = match key {
            Key::Ip(ip) => ips.get_mut(ip),
            Key::Sender(domain) => senders.get_mut(domain),
        };
        let Some(entry) = entry else { return };
        entry.changed(group, key, unsaved);
        if let Some(change) = act(flow, entry) {
            entry.params = flow.params(change.to, key);
            self.changes.push(switched(group, key, change));
        }
    }
}

impl GroupStates {
    /// Makes an entry where there is none.
    fn make(&mut self, now: Moment, group: &str, key: Key<'_>, unsaved: &mut VecDeque<Changed>) {
        let is_known = match key {
            Key::Ip(ip) => self.ips.get(ip).is_some(),
            Key::Sender(domain) => self.senders.contains_key(domain),
        };
        if is_known {
            return;
        }
        let mut entry = Entry::new(&self.flow, key, State::new(now));
        entry.changed(group, key, unsaved);
        match key {
            Key::Ip(ip) => self.ips.insert(ip, entry),
            Key::Sender(domain) => {
                if self.senders.len() >= MOST_SENDERS {
                    let gone = self.senders.forget_oldest().into_iter();
                    unsaved.extend(gone.map(|name| Changed {
                        group: group.into(),
                        whose: Whose::Sender(name),
                    }));
                }
                self.senders.insert(domain.into(), entry);
            }
        }
    }
}

/// Two entries that are only looked at.
struct Look<'a> {
    ip: Seen<'a>,
    sender: Seen<'a>,
    is_catch_all: bool,
    /// The windows of the IP are known to have room for one message.
    has_room: bool,
}

enum Seen<'a> {
    Known(&'a Entry),
    New(Box<Entry>),
}

impl Seen<'_> {
    fn get(&self) -> &Entry {
        match self {
            Seen::Known(entry) => entry,
            Seen::New(entry) => entry,
        }
    }
}

fn switched(group: &str, key: Key<'_>, change: Change) -> Switched {
    Switched {
        group: group.to_owned(),
        control: key.control(),
        key: key.text().into_owned(),
        change,
    }
}

/// The verdict that holds longer; one without a known moment holds longest.
fn later(one: Option<Verdict>, other: Verdict) -> Option<Verdict> {
    match (one, other) {
        (Some(Verdict::WhenFree(control)), _) => Some(Verdict::WhenFree(control)),
        (Some(Verdict::NotBefore(at, ..)), Verdict::NotBefore(then, ..)) if at >= then => one,
        _ => Some(other),
    }
}

/// In words for `explain` and the log: `ipflow volmaxlow until …`.
pub fn limit_of(verdict: Verdict) -> Option<(Control, Limit)> {
    match verdict {
        Verdict::Now => None,
        Verdict::NotBefore(_, control, limit) => Some((control, limit)),
        Verdict::WhenFree(control) => Some((control, Limit::ThreadMax)),
    }
}
