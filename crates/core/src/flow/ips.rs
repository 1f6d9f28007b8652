//! The states of the sending IPs of one group, with the unused share of each at hand, so that the
//! best of hundreds is found in one pass over a few kilobytes (FLOW-23).

use std::net::IpAddr;

use super::desk::Entry;
use crate::flow::Moment;
use crate::outbounds::{Outbounds, Place};

/// By address.
#[derive(Debug, Default)]
pub(super) struct Ips {
    places: Vec<Place>,
    /// Until when `standings` hold, if nothing happens; 0: the entry is to be looked at.
    until: Vec<Moment>,
    standings: Vec<Standing>,
    entries: Vec<(IpAddr, Box<Entry>)>,
    aligned: Aligned,
}

/// Where the entries stand in a list of outbounds: almost always all of `[IP]`.
#[derive(Debug, Default)]
struct Aligned {
    /// It has not become false since.
    is_whole: bool,
    list: Outbounds,
    /// For each entry its place in the list, or `NOWHERE`.
    places: Vec<u32>,
    /// Places in the list that have no entry, in order.
    new: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

/// What is known of an IP without looking at its state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Until when this holds, if nothing happens.
    pub(super) until: Moment,
    /// From when on a message may go from it.
    pub(super) free_at: Moment,
    /// The unused part of its windows, in millionths.
    pub(super) unused: u32,
}

/// How an IP stands among others: in one number, so that hundreds are compared in a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing(u32);

impl Standing {
    /// An address that has not sent to the group yet.
    pub(super) const NEW: Standing = Standing(Self::FREE | 1_000_000);
    const FREE: u32 = 1 << 31;

    fn new(is_free: bool, unused: u32) -> Self {
        let unused = unused.min(Self::FREE - 1);
        Standing(if is_free { Self::FREE | unused } else { unused })
    }

    /// As far as its own limits go, a message may go from it now.
    pub(super) fn is_free(self) -> bool {
        self.0 & Self::FREE != 0
    }

    /// Its windows have room for one.
    fn has_room(self) -> bool {
        self.0 & !Self::FREE > 0
    }
}

impl Ips {
    pub(super) fn get(&self, ip: IpAddr) -> Option<&Entry> {
        let at = self.places.binary_search(&Place::of(ip)).ok()?;
        self.entries.get(at).map(|(_, entry)| &**entry)
    }

    /// The entry, to be changed in nothing that tells how it stands.
    pub(super) fn get_quietly(&mut self, ip: IpAddr) -> Option<&mut Entry> {
        let at = self.places.binary_search(&Place::of(ip)).ok()?;
        self.entries.get_mut(at).map(|(_, entry)| &mut **entry)
    }

    /// The entry, to be changed.
    pub(super) fn get_mut(&mut self, ip: IpAddr) -> Option<&mut Entry> {
        let at = self.places.binary_search(&Place::of(ip)).ok()?;
        *self.until.get_mut(at)? = Moment(0);
        self.entries.get_mut(at).map(|(_, entry)| &mut **entry)
    }

    /// Looks at an entry while it is at hand.
    pub(super) fn look(&mut self, now: Moment, ip: IpAddr) {
        if let Ok(at) = self.places.binary_search(&Place::of(ip)) {
            self.look_at(now, at);
        }
    }

    fn look_at(&mut self, now: Moment, at: usize) {
        let Some((_, entry)) = self.entries.get(at) else {
            return;
        };
        let known = entry.known(now);
        let is_free = known.free_at <= now;
        if let (Some(until), Some(standing)) = (self.until.get_mut(at), self.standings.get_mut(at))
        {
            *standing = Standing::new(is_free, known.unused);
            *until = match is_free {
                true => known.until,
                false => known.until.min(known.free_at),
            };
        }
    }

    /// Whether the windows of an IP are known to have room for one message now.
    pub(super) fn has_room(&self, now: Moment, ip: IpAddr) -> bool {
        let Ok(at) = self.places.binary_search(&Place::of(ip)) else {
            return false;
        };
        let (until, standing) = (self.until.get(at), self.standings.get(at));
        until.is_some_and(|until| *until > now) && standing.is_some_and(|s| s.has_room())
    }

    pub(super) fn insert(&mut self, ip: IpAddr, entry: Entry) {
        let place = Place::of(ip);
        match self.places.binary_search(&place) {
            Ok(at) => {
                if let (Some(old), Some(until)) = (self.entries.get_mut(at), self.until.get_mut(at))
                {
                    *old.1 = entry;
                    *until = Moment(0);
                }
            }
            Err(at) => {
                self.aligned.is_whole = false;
                self.places.insert(at, place);
                self.until.insert(at, Moment(0));
                self.standings.insert(at, Standing::NEW);
                self.entries.insert(at, (ip, Box::new(entry)));
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Entry)> {
        self.entries.iter().map(|(ip, entry)| (*ip, &**entry))
    }

    /// So many entries from that place on, each with until when what is known of it holds: who
    /// changes an entry sets it to 0.
    pub(super) fn some_mut(
        &mut self,
        from: usize,
        most: usize,
    ) -> impl Iterator<Item = (IpAddr, &mut Entry, &mut Moment)> {
        let entries = self.entries.iter_mut().zip(&mut self.until);
        let some = entries.skip(from).take(most);
        some.map(|((ip, entry), until)| (*ip, &mut **entry, until))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (IpAddr, &mut Entry)> {
        self.until.fill(Moment(0));
        let entries = self.entries.iter_mut();
        entries.map(|(ip, entry)| (*ip, &mut **entry))
    }

    /// The place of the outbound that stands best among those that `may` be taken; of equal ones
    /// the next from `turn` on.
    pub(super) fn best(
        &mut self,
        now: Moment,
        outbounds: &Outbounds,
        turn: usize,
        may: &dyn Fn(usize) -> bool,
    ) -> Option<(usize, Standing)> {
        self.align(outbounds);
        self.look_at_stale(now);
        let count = outbounds.len();
        let turn = turn % count.max(1);
        // How many turns it would be until it comes first.
        let distance = |place: usize| match place >= turn {
            true => place - turn,
            false => place + count - turn,
        };
        let mut best: Option<(Standing, usize)> = None;
        let mut below = None;
        while best.is_none() {
            let Some(top) = self.highest(below) else {
                break;
            };
            below = Some(top);
            let each = self.standings.iter().zip(&self.aligned.places);
            for (_, place) in each.filter(|(standing, _)| **standing == top) {
                let place = *place as usize;
                let is_nearer = best.is_none_or(|(_, other)| distance(place) < distance(other));
                if place != NOWHERE as usize && is_nearer && may(place) {
                    best = Some((top, place));
                }
            }
        }
        // Of those that are new here the first is as good as any other.
        if best.is_none_or(|(standing, _)| standing <= Standing::NEW) {
            let new = &self.aligned.new;
            let later = new.partition_point(|place| (*place as usize) < turn);
            let turns = new.iter().skip(later).chain(new.iter().take(later));
            let first = turns.map(|place| *place as usize).find(|place| may(*place));
            let is_nearer = |place: &usize| {
                best.is_none_or(|(standing, other)| {
                    standing < Standing::NEW || distance(*place) < distance(other)
                })
            };
            if let Some(place) = first.filter(is_nearer) {
                best = Some((Standing::NEW, place));
            }
        }
        best.map(|(standing, place)| (place, standing))
    }

    /// What is known no longer is looked at again.
    fn look_at_stale(&mut self, now: Moment) {
        let stale = |stale: bool, until: &Moment| stale | (*until <= now);
        if !self.until.iter().fold(false, stale) {
            return;
        }
        for at in 0..self.until.len() {
            if self.until.get(at).is_some_and(|until| *until <= now) {
                self.look_at(now, at);
            }
        }
    }

    /// The highest standing of those in the list, below another.
    fn highest(&self, below: Option<Standing>) -> Option<Standing> {
        let bound = below.map_or(u32::MAX, |standing| standing.0);
        let each = self.standings.iter().zip(&self.aligned.places);
        // One more than a standing; 0: not in the list. No branches: compilers take many at once.
        let highest = each.fold(0, |highest: u32, (standing, place)| {
            let counts = (*place != NOWHERE) & (standing.0 < bound);
            highest.max(if counts { standing.0 + 1 } else { 0 })
        });
        highest.checked_sub(1).map(Standing)
    }

    /// Finds out where each entry stands in this list, unless it was the same list the last time.
    fn align(&mut self, outbounds: &Outbounds) {
        let aligned = &mut self.aligned;
        if aligned.is_whole && aligned.list.is_same(outbounds) {
            return;
        }
        let mut all = outbounds.places().iter().peekable();
        aligned.places.clear();
        aligned.new.clear();
        for known in &self.places {
            while let Some((_, new)) = all.next_if(|(place, _)| place < known) {
                aligned.new.push(*new as u32);
            }
            let here = all.next_if(|(place, _)| place == known);
            aligned
                .places
                .push(here.map_or(NOWHERE, |(_, place)| *place as u32));
        }
        aligned.new.extend(all.map(|(_, place)| *place as u32));
        aligned.new.sort_unstable();
        aligned.list = outbounds.clone();
        aligned.is_whole = true;
    }
}
