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
    known: Vec<Known>,
    entries: Vec<(IpAddr, Box<Entry>)>,
    aligned: Aligned,
}

/// Where the entries stand in a list of outbounds: almost always all of `[IP]`.
#[derive(Debug, Default)]
struct Aligned {
    /// It has not become false since.
    is_whole: bool,
    list: Outbounds,
    /// For each entry its place in the list.
    places: Vec<Option<u32>>,
    /// Places in the list that have no entry, in order.
    new: Vec<u32>,
}

/// What is known of an IP without looking at its state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Until when this holds, if nothing happens; 0: it is to be looked at.
    pub(super) until: Moment,
    /// From when on a message may go from it.
    pub(super) free_at: Moment,
    /// The unused part of its windows, in millionths.
    pub(super) unused: u32,
}

impl Known {
    const NOTHING: Known = Known {
        until: Moment(0),
        free_at: Moment(0),
        unused: Standing::NEW.unused,
    };

    fn standing(&self, now: Moment) -> Standing {
        Standing {
            is_free: self.free_at <= now,
            unused: self.unused,
        }
    }
}

/// How an IP stands among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    /// As far as its own limits go, a message may go from it now.
    pub(super) is_free: bool,
    /// The unused part of its windows, in millionths.
    pub(super) unused: u32,
}

impl Standing {
    /// An address that has not sent to the group yet.
    pub(super) const NEW: Standing = Standing {
        is_free: true,
        unused: 1_000_000,
    };
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
        self.known.get_mut(at)?.until = Moment(0);
        self.entries.get_mut(at).map(|(_, entry)| &mut **entry)
    }

    /// Looks at an entry while it is at hand.
    pub(super) fn look(&mut self, now: Moment, ip: IpAddr) {
        let Ok(at) = self.places.binary_search(&Place::of(ip)) else {
            return;
        };
        if let (Some(known), Some((_, entry))) = (self.known.get_mut(at), self.entries.get(at)) {
            *known = entry.known(now);
        }
    }

    pub(super) fn insert(&mut self, ip: IpAddr, entry: Entry) {
        let place = Place::of(ip);
        let known = Known::NOTHING;
        match self.places.binary_search(&place) {
            Ok(at) => {
                if let (Some(old), Some(k)) = (self.entries.get_mut(at), self.known.get_mut(at)) {
                    *old.1 = entry;
                    *k = known;
                }
            }
            Err(at) => {
                self.aligned.is_whole = false;
                self.places.insert(at, place);
                self.known.insert(at, known);
                self.entries.insert(at, (ip, Box::new(entry)));
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Entry)> {
        self.entries.iter().map(|(ip, entry)| (*ip, &**entry))
    }

    /// So many entries from that place on, each with what is known of it: who changes an entry
    /// sets `until` to 0.
    pub(super) fn some_mut(
        &mut self,
        from: usize,
        most: usize,
    ) -> impl Iterator<Item = (IpAddr, &mut Entry, &mut Known)> {
        let entries = self.entries.iter_mut().zip(&mut self.known);
        let some = entries.skip(from).take(most);
        some.map(|((ip, entry), known)| (*ip, &mut **entry, known))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (IpAddr, &mut Entry)> {
        for known in &mut self.known {
            known.until = Moment(0);
        }
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
        let count = outbounds.len();
        let turn = turn % count.max(1);
        // How many turns it would be until it comes first.
        let distance = |place: usize| match place >= turn {
            true => place - turn,
            false => place + count - turn,
        };
        let mut best: Option<(Standing, usize)> = None;
        let places = &self.aligned.places;
        for ((known, place), (_, entry)) in self.known.iter_mut().zip(places).zip(&self.entries) {
            if known.until <= now {
                *known = entry.known(now);
            }
            let standing = known.standing(now);
            let Some(place) = *place else { continue };
            let place = place as usize;
            let is_better = best.as_ref().is_none_or(|(better, other)| {
                standing > *better || (standing == *better && distance(place) < distance(*other))
            });
            if is_better && may(place) {
                best = Some((standing, place));
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
            aligned.places.push(here.map(|(_, place)| *place as u32));
        }
        aligned.new.extend(all.map(|(_, place)| *place as u32));
        aligned.new.sort_unstable();
        aligned.list = outbounds.clone();
        aligned.is_whole = true;
    }
}
