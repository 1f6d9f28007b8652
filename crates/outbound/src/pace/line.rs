//! Those who wait for flow control, and who of them goes next: one of each account in turn.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use galerne_core::flow::configured::SenderDomain;
use galerne_core::flow::desk::{Desk, Travel, limit_of};
use galerne_core::flow::{Control, Moment, Verdict};
use galerne_core::model::Hold;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Pace, SessionMark, Wish};
use crate::connection::{Connection, Key};

#[derive(Default)]
pub(super) struct Inner {
    pub(super) desk: Desk,
    pub(super) lines: HashMap<Arc<str>, Line>,
    pub(super) tickets: u64,
}

/// Those who wait for one group.
#[derive(Default)]
pub(super) struct Line {
    /// When somebody looks whether one of them may go.
    pub(super) armed: Option<(Moment, AbortHandle)>,
    /// Accounts in the order of their turns; each with its waiters, oldest first.
    pub(super) turns: VecDeque<(Arc<str>, VecDeque<Waiter>)>,
    /// How many of each account were let go; who is new begins with `level`.
    served: HashMap<Arc<str>, u64>,
    /// The most that anybody who was served had before. It never falls: who comes now does not catch
    /// up with what others had before.
    level: u64,
}

impl Line {
    /// The account at that place had its turn: it comes after those who had fewer, or as many.
    /// Who could not use what was free thus catches up when something else is.
    fn served(&mut self, place: usize) {
        let Some((account, waiters)) = self.turns.remove(place) else {
            return;
        };
        let count = self.count(&account);
        self.level = self.level.max(count);
        if waiters.is_empty() {
            self.served.remove(&account);
            return;
        }
        self.served.insert(account.clone(), count + 1);
        let after = self
            .turns
            .iter()
            .position(|(other, _)| self.count(other) > count + 1);
        let after = after.unwrap_or(self.turns.len());
        self.turns.insert(after, (account, waiters));
    }

    /// A new waiter, behind the others of his account. An account that has nobody here comes last,
    /// whatever it had before.
    pub(super) fn joined(&mut self, waiter: Waiter) {
        let account = &waiter.wish.account;
        match self.turns.iter_mut().find(|(name, _)| name == account) {
            Some((_, waiters)) => waiters.push_back(waiter),
            None => {
                self.served.insert(account.clone(), self.level);
                let account = account.clone();
                self.turns.push_back((account, VecDeque::from([waiter])));
            }
        }
    }

    fn count(&self, account: &Arc<str>) -> u64 {
        let count = self.served.get(account).copied();
        count.unwrap_or(self.level)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some((_, timer)) = self.armed.take() {
            timer.abort();
        }
    }
}

pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) wish: Arc<Wish>,
    /// The session that it would use.
    pub(super) key: Key,
    pub(super) granted: oneshot::Sender<Granted>,
}

/// Leave for some messages of a wish.
pub(super) enum Granted {
    /// From this outbound, in a session to be opened.
    New { outbound: IpAddr, count: u64 },
    /// In this one, which has just become free.
    InSession(Box<Connection>, u64),
}

/// Whether what holds the wish at one outbound holds it at all.
fn is_general(wish: &Wish, control: Control) -> bool {
    control == Control::Sender && matches!(wish.sender, SenderDomain::Fixed(_))
}

/// A session has carried as many messages as it may.
pub(super) struct UsedUp;

impl Pace {
    /// Most messages of one session for the wish from that outbound; 0: no limit.
    pub fn chain(&self, wish: &Wish, outbound: IpAddr) -> u64 {
        let spot = wish.spot(outbound);
        let now = self.now();
        self.lock().desk.chain(now, spot.case()).into()
    }

    /// Why the wish may not go now from any of its outbounds; `None`: it may.
    pub fn hold(&self, wish: &Wish) -> Option<Hold> {
        let now = self.now();
        let inner = self.lock();
        let mut hold: Option<Hold> = None;
        for outbound in wish.addresses() {
            let spot = wish.spot(outbound);
            let asked = inner
                .desk
                .may(now, spot.case(), Travel::NewSession, wish.count);
            let (control, not_before) = match asked {
                Err(Verdict::NotBefore(moment, control, _)) => (control, Some(moment)),
                Err(Verdict::WhenFree(control)) => (control, None),
                Ok(_) | Err(Verdict::Now) => return None,
            };
            hold = Some(match hold {
                None => Hold {
                    control,
                    not_before,
                },
                // The sender alone holds it only where it does so everywhere; the first to be free
                // counts.
                Some(before) => Hold {
                    control: before.control.min(control),
                    not_before: before.not_before.zip(not_before).map(|(a, b)| a.min(b)),
                },
            });
        }
        hold
    }
}

impl Inner {
    /// Asks for each outbound of the wish in turn.
    pub(super) fn grant(&mut self, now: Moment, wish: &Wish) -> Option<Granted> {
        let chosen = wish.among.chosen;
        match self.grant_from(now, wish, chosen) {
            Ok(granted) => return Some(granted),
            Err(control) if is_general(wish, control) => return None,
            Err(_) => {}
        }
        let mut asked = vec![chosen];
        loop {
            let may = |place: usize| wish.may(place) && !asked.contains(&place);
            let (group, outbounds) = (&wish.group, &wish.outbounds);
            let (place, is_free) = match wish.is_ordered {
                true => ((0..outbounds.len()).find(|place| may(*place))?, true),
                false => self.desk.best(now, group, outbounds, wish.turn, &may)?,
            };
            if !is_free {
                // It stands best, so that no other may go either.
                return None;
            }
            match self.grant_from(now, wish, place) {
                Ok(granted) => return Some(granted),
                Err(control) if is_general(wish, control) => return None,
                Err(_) => asked.push(place),
            }
        }
    }

    fn grant_from(&mut self, now: Moment, wish: &Wish, place: usize) -> Result<Granted, Control> {
        let outbound = wish.outbounds.get(place).map(|o| o.address);
        let outbound = outbound.ok_or(Control::Ip)?;
        let spot = wish.spot(outbound);
        let asked = self
            .desk
            .ask(now, spot.case(), Travel::NewSession, wish.count);
        match asked {
            Ok(count) => Ok(Granted::New { outbound, count }),
            Err(verdict) => Err(limit_of(verdict).map_or(Control::Ip, |(control, _)| control)),
        }
    }

    /// The earliest moment at which one of the outbounds of the wish may go; `None`: when
    /// something is reported.
    fn earliest(&mut self, now: Moment, wish: &Wish) -> Option<Moment> {
        let moments = wish.addresses().filter_map(|outbound| {
            let spot = wish.spot(outbound);
            match self
                .desk
                .may(now, spot.case(), Travel::NewSession, wish.count)
            {
                // It is free, and another of the line goes first.
                Ok(_) => Some(Moment(now.0 + 1)),
                Err(Verdict::NotBefore(moment, ..)) => Some(moment),
                Err(_) => None,
            }
        });
        moments.min()
    }

    /// Lets go whom the group's limits allow: one of each account in turn, until none may. Gives
    /// the earliest moment at which one of the others may go.
    pub(super) fn serve(&mut self, now: Moment, group: &str) -> Option<Moment> {
        let mut line = self.lines.remove(group)?;
        let mut name = None;
        // Whoever cannot go keeps its turn before those who were served.
        let mut place = 0;
        // What was refused in this round need not be asked again for others who want the same.
        let mut refused: Vec<Arc<Wish>> = Vec::new();
        while let Some((_, waiters)) = line.turns.get_mut(place) {
            waiters.retain(|waiter| !waiter.granted.is_closed());
            let Some(first) = waiters.front() else {
                line.turns.remove(place);
                continue;
            };
            name.get_or_insert_with(|| first.wish.group.clone());
            let found = waiters.iter().enumerate().find_map(|(place, waiter)| {
                if refused.iter().any(|other| other.wants_what(&waiter.wish)) {
                    return None;
                }
                let granted = self.grant(now, &waiter.wish);
                if granted.is_none() {
                    refused.push(waiter.wish.clone());
                }
                granted.map(|granted| (place, granted))
            });
            let found = found.and_then(|(place, granted)| Some((waiters.remove(place)?, granted)));
            let Some((waiter, granted)) = found else {
                place += 1;
                continue;
            };
            line.served(place);
            if let Err(granted) = waiter.granted.send(granted) {
                self.unused_grant(now, &waiter.wish, &granted);
                refused.clear();
                place = 0;
            }
        }
        let moments = refused.iter().filter_map(|wish| self.earliest(now, wish));
        let next = moments.collect::<Vec<_>>().into_iter().min();
        if let (Some(name), false) = (name, line.turns.is_empty()) {
            self.lines.insert(name, line);
            return next;
        }
        None
    }

    /// Gives a free session to the next in the line who can use it. Given back: nobody can.
    pub(super) fn hand_on(
        &mut self,
        now: Moment,
        group: &str,
        connection: Box<Connection>,
    ) -> Option<Box<Connection>> {
        let Some((name, mut line)) = self.lines.remove_entry(group) else {
            return Some(connection);
        };
        let mut free = Some(connection);
        let mut place = 0;
        while let Some((_, waiters)) = line.turns.get_mut(place) {
            let Some(mut connection) = free.take() else {
                break;
            };
            waiters.retain(|waiter| !waiter.granted.is_closed());
            let found = waiters.iter().enumerate().find_map(|(place, waiter)| {
                let count = self.ask_in(now, &mut connection, &waiter.key, &waiter.wish)?;
                Some((place, count))
            });
            let taken = found.and_then(|(place, count)| Some((waiters.remove(place)?, count)));
            let Some((waiter, count)) = taken else {
                free = Some(connection);
                match waiters.is_empty() {
                    true => drop(line.turns.remove(place)),
                    false => place += 1,
                }
                continue;
            };
            line.served(place);
            let granted = Granted::InSession(connection, count);
            if let Err(Granted::InSession(back, count)) = waiter.granted.send(granted) {
                // It has just gone away.
                let spot = waiter.wish.spot(back.key.outbound);
                self.desk.given_back(now, spot.case(), count);
                free = Some(back);
                place = 0;
            }
        }
        if !line.turns.is_empty() {
            self.lines.insert(name, line);
        }
        free
    }

    /// Whether the wish waits for a place that a session holds, and not for a window or a pause.
    pub(super) fn needs_place(&mut self, now: Moment, wish: &Wish) -> bool {
        wish.addresses().any(|outbound| {
            let spot = wish.spot(outbound);
            let may = self
                .desk
                .may(now, spot.case(), Travel::NewSession, wish.count);
            matches!(may, Err(Verdict::WhenFree(_)))
        })
    }

    /// Whether somebody in the line could use this free session, or the place that it holds.
    pub(super) fn is_wanted(&mut self, now: Moment, key: &Key, mark: &SessionMark) -> bool {
        let Some(line) = self.lines.get(&mark.spot.group) else {
            return false;
        };
        let waiters = line.turns.iter().flat_map(|(_, waiters)| waiters);
        let mut wishes: Vec<Arc<Wish>> = Vec::new();
        for waiter in waiters {
            if waiter.key == *key {
                return true;
            }
            let is_new = !wishes.iter().any(|wish| wish.wants_what(&waiter.wish));
            if is_new && mark.hinders(&waiter.wish) {
                wishes.push(waiter.wish.clone());
            }
        }
        wishes.iter().any(|wish| self.needs_place(now, wish))
    }

    /// Whether the session of a mark has carried as many messages as it may.
    pub(super) fn is_used_up(&mut self, now: Moment, mark: &SessionMark) -> bool {
        let chain = u64::from(self.desk.chain(now, mark.spot.case()));
        chain > 0 && mark.messages >= chain
    }

    /// Asks for leave in a free session.
    fn ask_in(
        &mut self,
        now: Moment,
        connection: &mut Connection,
        key: &Key,
        wish: &Wish,
    ) -> Option<u64> {
        if connection.key != *key {
            return None;
        }
        let mark = connection.mark.as_mut()?;
        self.ask_mark(now, mark, wish).ok().flatten()
    }

    /// Asks for leave in the session of a mark. `Err`: it has carried as many as it may.
    pub(super) fn ask_mark(
        &mut self,
        now: Moment,
        mark: &mut SessionMark,
        wish: &Wish,
    ) -> Result<Option<u64>, UsedUp> {
        let spot = wish.spot(mark.spot.ip);
        if self.is_used_up(now, mark) {
            return Err(UsedUp);
        }
        // In the group of all others each domain has its sessions (FLOW-51).
        let other_domain = spot.group.is_empty() && mark.spot.domain != spot.domain;
        if spot.group != mark.spot.group || other_domain {
            return Ok(None);
        }
        let before = mark.spot.sender.clone();
        let travel = match before == spot.sender {
            true => Travel::SameSession,
            false => Travel::TakenOver { from: &before },
        };
        let asked = self.desk.ask(now, spot.case(), travel, wish.count);
        let count = asked.ok();
        if count.is_some() {
            mark.spot = spot;
        }
        Ok(count)
    }

    pub(super) fn unused_grant(&mut self, now: Moment, wish: &Wish, granted: &Granted) {
        match granted {
            Granted::New { outbound, count } => {
                let spot = wish.spot(*outbound);
                self.desk.given_back(now, spot.case(), *count);
                self.desk.session_unused(now, spot.case());
            }
            Granted::InSession(connection, count) => {
                let spot = wish.spot(connection.key.outbound);
                self.desk.given_back(now, spot.case(), *count);
            }
        }
    }
}
