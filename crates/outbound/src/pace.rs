//! Waiting for flow control: who may go now, who waits, and in which order (RELAY-69, FLOW-20 to
//! FLOW-29). The decisions are those of `galerne_core::flow::desk`; here they get a clock and a
//! line.
//!
//! Within an account first come, first served; between accounts in turn. A wait ends with leave
//! to go, or with the deadline of the message.

mod line;
mod walk;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use galerne_core::chase::{Alternatives, Chase, Next};
use galerne_core::flow::choice::Choice;
use galerne_core::flow::configured::SenderDomain;
use galerne_core::flow::desk::{Case, Demand, Desk, GroupFlow, Saved, Switched, Unsaved};
use galerne_core::flow::{Moment, Set};
use galerne_core::settings::Outbounds;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, Key};
use line::{Granted, Inner, UsedUp, Waiter};

/// Flow control of this process.
pub struct Pace {
    inner: Mutex<Inner>,
    shared: Weak<Pace>,
    began: Instant,
    began_at: Moment,
}

/// What one transaction wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// For the turns; empty for mail of our own.
    pub account: Arc<str>,
    /// As `Case::group`.
    pub group: Arc<str>,
    pub domain: Arc<str>,
    pub sender: SenderDomain,
    /// All outbounds of the plan.
    pub outbounds: Outbounds,
    /// Those that would do, the one to be taken first.
    pub among: Alternatives,
    /// The others follow in their order; else by unused share, of equal ones the next from `turn`.
    pub is_ordered: bool,
    pub turn: usize,
    /// Recipients.
    pub count: u64,
}

/// What came of waiting.
pub enum Turn {
    /// In a session to be opened.
    New(Leave, SessionMark),
    InSession(Box<Connection>, Leave),
}

/// What a message or a session is counted under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    group: Arc<str>,
    domain: Arc<str>,
    sender: Arc<str>,
    ip: IpAddr,
}

/// Leave to send. Dropped before MAIL was sent, it is given back.
pub struct Leave {
    pace: Arc<Pace>,
    spot: Spot,
    /// Recipients that may go.
    count: u64,
    unsent: u64,
    /// When MAIL was sent for the others.
    sent_at: Moment,
}

/// A session that counts. Dropped when the session ends.
pub struct SessionMark {
    pace: Arc<Pace>,
    spot: Spot,
    messages: u64,
    /// It waits for the next message.
    is_idle: bool,
}

/// What an idle session is good for.
pub enum Idle {
    /// The message may go in it.
    Leave(Leave),
    /// Not now, but for others or later.
    Keep,
    /// It has carried as many messages as it may.
    UsedUp,
}

impl Spot {
    fn case(&self) -> Case<'_> {
        Case {
            group: &self.group,
            domain: &self.domain,
            ip: self.ip,
            sender: &self.sender,
        }
    }
}

impl Wish {
    fn spot(&self, ip: IpAddr) -> Spot {
        let outbound = self.outbounds.find(ip);
        let sender = outbound.map(|outbound| self.sender.at(outbound));
        Spot {
            group: self.group.clone(),
            domain: self.domain.clone(),
            sender: sender.unwrap_or_else(|| Arc::from("")),
            ip,
        }
    }

    /// The same for these outbounds and so many recipients.
    pub fn only(&self, among: Alternatives, count: u64) -> Wish {
        Wish {
            among,
            count,
            ..self.clone()
        }
    }

    /// Whether the outbound at that place would do.
    fn may(&self, place: usize) -> bool {
        let outbound = self.outbounds.get(place);
        outbound.is_some_and(|outbound| self.among.may(place, outbound))
    }

    /// The addresses that would do.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.outbounds.iter().enumerate();
        let may = all.filter(|(place, outbound)| self.among.may(*place, outbound));
        may.map(|(_, outbound)| outbound.address)
    }

    /// Whether the other depends on the same limits.
    fn wants_what(&self, other: &Wish) -> bool {
        self.domain == other.domain
            && self.sender == other.sender
            && self.outbounds == other.outbounds
            && self.among.same(&other.among)
    }
}

impl Pace {
    /// Flow control with the groups of a configuration and the states that were stored.
    pub fn new(groups: Vec<(String, GroupFlow)>, saved: Vec<Saved>) -> (Arc<Self>, Vec<String>) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since.map_or(0, |length| u64::try_from(length.as_millis()).unwrap_or(0));
        let pace = Arc::new_cyclic(|shared| Pace {
            inner: Mutex::default(),
            shared: shared.clone(),
            began: Instant::now(),
            began_at: Moment(now),
        });
        let faults = {
            let mut inner = pace.lock();
            inner.desk.configure(groups);
            inner.desk.restore(pace.began_at, saved)
        };
        (pace, faults)
    }

    /// New settings came into force.
    pub fn configure(&self, groups: Vec<(String, GroupFlow)>) {
        let now = self.now();
        let mut inner = self.lock();
        inner.desk.configure(groups);
        self.serve_all(&mut inner, now);
    }

    /// The time of flow control: that of the host at the start, and then monotonic (T-49, T-65).
    pub fn now(&self) -> Moment {
        self.began_at.after(self.began.elapsed())
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.began + moment.since(self.began_at)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave in an idle session, at once or not at all. The session may have carried mail of
    /// another sender to the same group.
    pub fn in_session(self: &Arc<Self>, key: &Key, mark: &mut SessionMark, wish: &Wish) -> Idle {
        let now = self.now();
        let mut inner = self.lock();
        if inner.is_wanted(now, key, mark) {
            return Idle::Keep;
        }
        match inner.ask_mark(now, mark, wish) {
            Err(UsedUp) => Idle::UsedUp,
            Ok(None) => Idle::Keep,
            Ok(Some(count)) => Idle::Leave(Leave {
                pace: self.clone(),
                spot: mark.spot.clone(),
                count,
                unsent: count,
                sent_at: now,
            }),
        }
    }

    /// The next hop of a chase: from an outbound where somebody may go now, if there is one.
    pub fn next_hop(
        &self,
        chase: &mut Chase,
        wish: &Wish,
        recently_timed_out: &dyn Fn(SocketAddr) -> bool,
    ) -> Next {
        let now = self.now();
        let mut inner = self.lock();
        let has_line = inner.lines.contains_key(&wish.group);
        let mut choice = Choice {
            desk: &mut inner.desk,
            now,
            group: &wish.group,
            domain: &wish.domain,
            sender: &wish.sender,
            count: wish.count,
            is_ordered: wish.is_ordered,
            turn: wish.turn,
            has_line,
        };
        chase.next_free(recently_timed_out, &mut choice)
    }

    /// Waits for leave, in a session to be opened or in one of that key that becomes free.
    /// `None`: not before `deadline`. Dropping the future leaves the line. `in_line` is called once
    /// it stands there.
    pub async fn leave(
        self: &Arc<Self>,
        wish: Wish,
        key: &Key,
        deadline: Instant,
        in_line: impl FnOnce(&Wish),
    ) -> Option<Turn> {
        let wish = Arc::new(wish);
        let granted = match self.at_once(&wish) {
            Some(granted) => granted,
            None => self.wait(&wish, key, deadline, in_line).await?,
        };
        Some(match granted {
            Granted::New { outbound, count } => {
                let (leave, mark) = self.given(&wish, outbound, count);
                Turn::New(leave, mark)
            }
            Granted::InSession(connection, count) => {
                let spot = wish.spot(connection.key.outbound);
                let leave = Leave {
                    pace: self.clone(),
                    spot,
                    count,
                    unsent: count,
                    sent_at: self.now(),
                };
                Turn::InSession(connection, leave)
            }
        })
    }

    /// Leave in a session to be opened, at once or not at all.
    pub fn try_leave(self: &Arc<Self>, wish: &Wish) -> Option<(Leave, SessionMark)> {
        match self.at_once(wish)? {
            Granted::New { outbound, count } => Some(self.given(wish, outbound, count)),
            Granted::InSession(..) => None,
        }
    }

    fn given(self: &Arc<Self>, wish: &Wish, outbound: IpAddr, count: u64) -> (Leave, SessionMark) {
        let spot = wish.spot(outbound);
        let leave = Leave {
            pace: self.clone(),
            spot: spot.clone(),
            count,
            unsent: count,
            sent_at: self.now(),
        };
        let mark = SessionMark {
            pace: self.clone(),
            spot,
            messages: 0,
            is_idle: false,
        };
        (leave, mark)
    }

    fn at_once(&self, wish: &Wish) -> Option<Granted> {
        let now = self.now();
        let mut inner = self.lock();
        // Who comes later does not go before those who wait.
        match inner.lines.contains_key(&wish.group) {
            true => None,
            false => inner.grant(now, wish),
        }
    }

    async fn wait(
        &self,
        wish: &Arc<Wish>,
        key: &Key,
        deadline: Instant,
        in_line: impl FnOnce(&Wish),
    ) -> Option<Granted> {
        let (sender, granted) = oneshot::channel();
        let ticket = self.line_up(wish, key, sender);
        let mut place = Place {
            pace: self,
            wish,
            ticket,
            granted,
            is_left: false,
        };
        in_line(wish);
        let granted = tokio::select! {
            biased;
            granted = &mut place.granted => granted.ok(),
            // It may have been granted at the last moment.
            () = sleep_until(deadline) => place.granted.try_recv().ok(),
        };
        place.is_left = granted.is_some();
        granted
    }

    /// A session has become free: it goes to the next in the line who can use it. Given back, it
    /// is to be kept; `None`: it was handed on, or has ended to make room.
    pub fn hand_on(self: &Arc<Self>, connection: Box<Connection>) -> Option<Box<Connection>> {
        let Some(mark) = &connection.mark else {
            return Some(connection);
        };
        let group = mark.spot.group.clone();
        let now = self.now();
        let (rest, ends) = {
            let mut inner = self.lock();
            if inner.is_used_up(now, mark) {
                (Some(connection), true)
            } else if inner.lines.contains_key(&group) {
                let rest = inner.hand_on(now, &group, connection);
                let ends = rest.as_ref().is_some_and(|connection| {
                    let mark = connection.mark.as_ref();
                    mark.is_some_and(|mark| inner.is_wanted(now, &connection.key, mark))
                });
                (rest, ends)
            } else {
                (Some(connection), false)
            }
        };
        match rest {
            // It has done its work, or holds a place that somebody waits for.
            Some(connection) if ends => {
                tokio::spawn(crate::pool::quit(connection));
                None
            }
            rest => rest,
        }
    }

    /// Whether somebody waits for the group of this place.
    pub fn has_line(&self, spot: &Spot) -> bool {
        self.lock().lines.contains_key(&spot.group)
    }

    /// Whether the wish waits for a place that a session holds.
    pub fn needs_place(&self, wish: &Wish) -> bool {
        let now = self.now();
        self.lock().needs_place(now, wish)
    }

    fn line_up(&self, wish: &Arc<Wish>, key: &Key, granted: oneshot::Sender<Granted>) -> u64 {
        let now = self.now();
        let mut inner = self.lock();
        inner.tickets += 1;
        let waiter = Waiter {
            ticket: inner.tickets,
            wish: wish.clone(),
            key: key.clone(),
            granted,
        };
        let ticket = waiter.ticket;
        let line = inner.lines.entry(wish.group.clone()).or_default();
        line.joined(waiter);
        // Something may have become free since it was asked.
        self.serve(&mut inner, now, &wish.group);
        ticket
    }

    /// Messages were delivered.
    pub fn delivered(&self, spot: &Spot, count: u64) {
        self.report(spot, |desk, now| desk.delivered(now, spot.case(), count));
    }

    /// An error that some pattern knows.
    pub fn known_error(&self, spot: &Spot) {
        self.report(spot, |desk, now| desk.known_error(now, spot.case()));
    }

    /// An error that no pattern knows (FLOW-47).
    pub fn unknown_error(&self, spot: &Spot) {
        self.report(spot, |desk, now| desk.unknown_error(now, spot.case()));
    }

    /// A reply qualified FLOW (FLOW-42).
    pub fn blocked(&self, spot: &Spot, sets: (Option<Set>, Option<Set>), pattern: &str) {
        self.report(spot, |desk, now| {
            desk.blocked(now, spot.case(), sets.0, sets.1, pattern);
        });
    }

    fn report(&self, spot: &Spot, act: impl FnOnce(&mut Desk, Moment)) {
        let now = self.now();
        let mut inner = self.lock();
        act(&mut inner.desk, now);
        self.serve(&mut inner, now, &spot.group);
    }

    /// An operator switches (FLOW-49).
    pub fn demand(&self, demand: &Demand<'_>) {
        let now = self.now();
        let mut inner = self.lock();
        inner.desk.demand(now, demand);
        self.serve_all(&mut inner, now);
    }

    /// Some of the states that changed, to be stored; few enough that mail does not wait for it.
    /// Empty: none are left.
    pub fn take_batch(&self) -> Vec<Unsaved> {
        self.lock().desk.take_batch()
    }

    /// How many states are to be stored.
    pub fn unsaved(&self) -> usize {
        self.lock().desk.unsaved()
    }

    /// These could not be stored.
    pub fn put_back(&self, batch: Vec<Unsaved>) {
        self.lock().desk.put_back(batch);
    }

    /// The switches since the last call, to be told.
    pub fn take_switches(&self) -> Vec<Switched> {
        self.lock().desk.take_switches()
    }

    fn serve_all(&self, inner: &mut Inner, now: Moment) {
        let groups: Vec<Arc<str>> = inner.lines.keys().cloned().collect();
        for group in groups {
            self.serve(inner, now, &group);
        }
    }

    /// Lets go whom the limits of the group allow, and looks again when that may change by itself.
    fn serve(&self, inner: &mut Inner, now: Moment, group: &str) {
        let Some(next) = inner.serve(now, group) else {
            return;
        };
        let Some((name, line)) = inner.lines.get_key_value(group) else {
            return;
        };
        if line.armed.as_ref().is_some_and(|(armed, _)| *armed <= next) {
            return;
        }
        let name = name.clone();
        let shared = self.shared.clone();
        let at = self.instant(next);
        let of_line = name.clone();
        let timer = tokio::spawn(async move {
            sleep_until(at).await;
            let Some(pace) = shared.upgrade() else { return };
            let now = pace.now();
            let mut inner = pace.lock();
            if let Some(line) = inner.lines.get_mut(&of_line)
                && line.armed.as_ref().is_some_and(|(armed, _)| *armed == next)
            {
                line.armed = None;
                pace.serve(&mut inner, now, &of_line);
            }
        });
        if let Some(line) = inner.lines.get_mut(&name) {
            if let Some((_, before)) = line.armed.replace((next, timer.abort_handle())) {
                before.abort();
            }
        } else {
            timer.abort();
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        let inner = self.lock();
        let lines = inner.lines.values().flat_map(|line| &line.turns);
        lines.map(|(_, waiters)| waiters.len()).sum()
    }
}

/// A place in the line; leaving it takes the waiter out.
struct Place<'a> {
    pace: &'a Pace,
    wish: &'a Wish,
    ticket: u64,
    granted: oneshot::Receiver<Granted>,
    /// It was left already, with leave to go.
    is_left: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let now = self.pace.now();
        // Dropped last, when nothing is locked: a session in it reports its end.
        let mut late = None;
        let mut inner = self.pace.lock();
        if let Some(line) = inner.lines.get_mut(&self.wish.group) {
            for (_, waiters) in &mut line.turns {
                waiters.retain(|waiter| waiter.ticket != self.ticket);
            }
            line.turns.retain(|(_, waiters)| !waiters.is_empty());
            if line.turns.is_empty() {
                inner.lines.remove(&self.wish.group);
            }
        }
        // What was granted and not taken is given back.
        self.granted.close();
        if let Ok(granted) = self.granted.try_recv() {
            inner.unused_grant(now, self.wish, &granted);
            late = Some(granted);
        }
        // Who stood behind may be able to go.
        self.pace.serve(&mut inner, now, &self.wish.group);
        drop(inner);
        drop(late);
    }
}

impl Leave {
    /// How many recipients may go.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// From where.
    pub fn outbound(&self) -> IpAddr {
        self.spot.ip
    }

    /// Who gave it.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// What it is counted under.
    pub fn spot(&self) -> &Spot {
        &self.spot
    }

    /// MAIL was sent for all of them (FLOW-27).
    pub fn mail_sent(&mut self) {
        let count = std::mem::take(&mut self.unsent);
        if count > 0 {
            // From now on it is known when a window has room again.
            let sent_at = &mut self.sent_at;
            self.pace.report(&self.spot, |desk, now| {
                *sent_at = now;
                desk.mail_sent(now, self.spot.case(), count);
            });
        }
    }

    /// The session of its MAIL had been closed already: it does not count (FLOW-27), and the leave
    /// is as it was.
    pub fn mail_unheard(&mut self) {
        let sent = self.count - self.unsent;
        if sent > 0 {
            let at = self.sent_at;
            self.pace.report(&self.spot, |desk, now| {
                desk.mail_unheard(now, self.spot.case(), at, sent);
            });
            self.unsent = self.count;
        }
    }

    /// A session to be opened in place of one that had been closed; `None`: not now.
    pub fn reopen(&self) -> Option<SessionMark> {
        let now = self.pace.now();
        let mut inner = self.pace.lock();
        let opens =
            !inner.lines.contains_key(&self.spot.group) && inner.desk.reopen(now, self.spot.case());
        opens.then(|| SessionMark {
            pace: self.pace.clone(),
            spot: self.spot.clone(),
            messages: 0,
            is_idle: false,
        })
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.unsent > 0 {
            self.pace.report(&self.spot, |desk, now| {
                desk.given_back(now, self.spot.case(), self.unsent);
            });
        }
    }
}

impl SessionMark {
    /// A message goes in this session.
    pub fn used(&mut self) {
        self.messages += 1;
    }

    /// It waits for the next message from now on, or no longer (RELAY-57: its place is free for
    /// that).
    pub fn idle(&mut self, is_idle: bool) {
        if std::mem::replace(&mut self.is_idle, is_idle) != is_idle {
            let now = self.pace.now();
            let mut inner = self.pace.lock();
            inner.desk.session_idle(now, self.spot.case(), is_idle);
        }
    }

    /// Whether mail to that domain may go in it: in the group of all others each domain has its
    /// sessions (FLOW-51).
    pub fn fits(&self, wish: &Wish) -> bool {
        self.spot.group == wish.group && (!wish.group.is_empty() || self.spot.domain == wish.domain)
    }

    /// Whether the session may be taken over for other mail of that group, of which one session
    /// carries at most `chain` messages (0: any number).
    pub fn may_be_taken_over(&self, group: &str, chain: u64) -> bool {
        *self.spot.group == *group && (chain == 0 || self.messages < chain)
    }

    /// What the session carried under another mark is part of its chain.
    pub fn goes_on(&mut self, before: &SessionMark) {
        self.messages += before.messages;
    }

    /// Whether it stands in the way of a wish: a session of the same group from one of its
    /// outbounds.
    pub fn hinders(&self, wish: &Wish) -> bool {
        let place = wish.outbounds.place(self.spot.ip);
        self.fits(wish) && place.is_some_and(|place| wish.may(place))
    }
}

impl Drop for SessionMark {
    fn drop(&mut self) {
        self.idle(false);
        self.pace
            .report(&self.spot, |desk, now| match self.messages {
                0 => desk.session_unused(now, self.spot.case()),
                _ => desk.session_closed(now, self.spot.case()),
            });
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod worlds;
