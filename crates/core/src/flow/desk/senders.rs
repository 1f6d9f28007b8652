//! The states of the sender domains of one group. They are found by name, and stand in a roll, so
//! that all of them can be gone through in slices while others come and go.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Entry;
use crate::flow::{Moment, Set};

/// Most sender domains remembered for a group: a sender's name costs nothing to make up.
pub(super) const MOST_SENDERS: usize = 100_000;
/// So many are forgotten together when there are too many, those with the oldest mail first.
const FORGOTTEN_TOGETHER: usize = MOST_SENDERS / 20;

/// By domain.
#[derive(Debug, Default)]
pub(super) struct Senders {
    entries: HashMap<Arc<str>, Entry>,
    /// Their names, oldest first.
    roll: Vec<Arc<str>>,
}

impl Senders {
    pub(super) fn get(&self, domain: &str) -> Option<&Entry> {
        self.entries.get(domain)
    }

    pub(super) fn get_mut(&mut self, domain: &str) -> Option<&mut Entry> {
        self.entries.get_mut(domain)
    }

    pub(super) fn contains_key(&self, domain: &str) -> bool {
        self.entries.contains_key(domain)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn insert(&mut self, domain: Arc<str>, entry: Entry) {
        if self.entries.insert(domain.clone(), entry).is_none() {
            self.roll.push(domain);
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Entry)> {
        self.entries.iter_mut()
    }

    /// At most `most` names of the roll before the place `end`, the last first.
    pub(super) fn before(&self, end: usize, most: usize) -> impl Iterator<Item = &Arc<str>> {
        let names = self
            .roll
            .get(..end.min(self.roll.len()))
            .unwrap_or_default();
        names.iter().rev().take(most)
    }

    /// Makes room: those go that have no session open, warmup before other sets, the oldest mail
    /// first. Gives their names.
    pub(super) fn forget_oldest(&mut self) -> Vec<Arc<str>> {
        let is_idle = |entry: &Entry| {
            entry.slots.open() == 0 && entry.by_domain.values().all(|slots| slots.open() == 0)
        };
        let mut candidates: Vec<(bool, Moment, Arc<str>)> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_idle(entry))
            .map(|(name, entry)| {
                let state = &entry.state;
                let is_default = state.set() == Set::Warmup && !state.is_locked();
                (!is_default, state.latest(), name.clone())
            })
            .collect();
        candidates.sort_unstable();
        candidates.truncate(FORGOTTEN_TOGETHER);
        let names: Vec<Arc<str>> = candidates.into_iter().map(|(.., name)| name).collect();
        for name in &names {
            self.entries.remove(name);
        }
        let entries = &self.entries;
        self.roll.retain(|name| entries.contains_key(name));
        names
    }
}
