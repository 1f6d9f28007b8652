//! What the desk gives to be stored, and takes back (CONF-36, FLOW-28): only what changed, in
//! batches that take a moment each, however much there is. Text is made by whoever stores it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Desk, Entry, GroupFlow, Key, Saved};
use crate::flow::state::State;
use crate::flow::{Control, Moment};

/// Most states of one batch.
const MOST_STATES: usize = 128;
/// Most stretches of the past in one batch, or one state.
const MOST_STRETCHES: usize = 8192;

/// A state that is to be stored; if there is none any more, it was forgotten.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) group: Arc<str>,
    pub(super) whose: Whose,
}

#[derive(Clone, Debug)]
pub(super) enum Whose {
    Ip(IpAddr),
    Sender(Arc<str>),
}

/// A state as it was, to be made into what is stored.
#[derive(Debug)]
pub struct Unsaved {
    changed: Changed,
    /// `None`: it was forgotten.
    state: Option<State>,
}

impl Whose {
    fn of(key: Key<'_>) -> Self {
        match key {
            Key::Ip(ip) => Whose::Ip(ip),
            Key::Sender(domain) => Whose::Sender(domain.into()),
        }
    }

    fn key(&self) -> Key<'_> {
        match self {
            Whose::Ip(ip) => Key::Ip(*ip),
            Whose::Sender(domain) => Key::Sender(domain),
        }
    }
}

impl Unsaved {
    /// As it is stored.
    ///
    /// # Errors
    /// It cannot be written as text.
    pub fn saved(&self) -> Result<Saved, serde_json::Error> {
        let state = self.state.as_ref().map(serde_json::to_string);
        let Changed { group, whose } = &self.changed;
        Ok(Saved {
            group: group.to_string(),
            control: whose.key().control().word().to_owned(),
            key: whose.key().text().into_owned(),
            state: state.transpose()?.unwrap_or_default(),
        })
    }
}

impl Entry {
    /// It is to be stored.
    pub(super) fn changed(&mut self, group: &str, key: Key<'_>, unsaved: &mut VecDeque<Changed>) {
        if !std::mem::replace(&mut self.is_changed, true) {
            unsaved.push_back(Changed {
                group: group.into(),
                whose: Whose::of(key),
            });
        }
    }
}

impl Desk {
    /// Takes back what was stored. What cannot be read is left out and returned.
    pub fn restore(&mut self, now: Moment, saved: impl IntoIterator<Item = Saved>) -> Vec<String> {
        let mut faults = Vec::new();
        for Saved {
            group,
            control,
            key,
            state,
        } in saved
        {
            let shown = format!("{control} {key} @{group}");
            let mut state: State = match serde_json::from_str(&state) {
                Ok(state) => state,
                Err(error) => {
                    faults.push(format!("{shown}: {error}"));
                    continue;
                }
            };
            // What was moved is stored anew, lest the next start move it again.
            let is_moved = state.restored(now);
            let name: Arc<str> = group.into();
            let unsaved = &mut self.unsaved;
            let mut entry_of = |flow: &GroupFlow, key: Key<'_>, state| {
                let mut entry = Entry::new(flow, key, state);
                if is_moved {
                    entry.changed(&name, key, unsaved);
                }
                entry
            };
            let states = self.groups.entry(name.clone()).or_default();
            if control == Control::Ip.word() {
                match key.parse::<IpAddr>() {
                    Ok(ip) => {
                        let entry = entry_of(&states.flow, Key::Ip(ip), state);
                        states.ips.insert(ip, entry);
                    }
                    Err(error) => faults.push(format!("{shown}: {error}")),
                }
            } else {
                let entry = entry_of(&states.flow, Key::Sender(&key), state);
                states.senders.insert(key.into(), entry);
            }
        }
        faults
    }

    /// How many states are to be stored (FLOW-28: within a second).
    pub fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// Some of the states that are to be stored, oldest change first. Empty: all are.
    pub fn take_batch(&mut self) -> Vec<Unsaved> {
        let mut batch = Vec::new();
        let mut stretches = 0;
        while batch.len() < MOST_STATES && stretches < MOST_STRETCHES {
            let Some(changed) = self.unsaved.pop_front() else {
                break;
            };
            let entry = self.entry_of(&changed);
            let state = entry.map(|entry| {
                entry.is_changed = false;
                entry.state.clone()
            });
            stretches += state.as_ref().map_or(0, State::stretches);
            batch.push(Unsaved { changed, state });
        }
        batch
    }

    /// These could not be stored: they count as changed again.
    pub fn put_back(&mut self, batch: impl IntoIterator<Item = Unsaved>) {
        for Unsaved { changed, .. } in batch {
            let waits = self
                .entry_of(&changed)
                .is_some_and(|entry| std::mem::replace(&mut entry.is_changed, true));
            if !waits {
                self.unsaved.push_back(changed);
            }
        }
    }

    /// All that changed since the last time.
    pub fn take_changed(&mut self) -> Vec<Saved> {
        let mut saved = Vec::new();
        loop {
            let batch = self.take_batch();
            if batch.is_empty() {
                return saved;
            }
            saved.extend(batch.iter().filter_map(|unsaved| unsaved.saved().ok()));
        }
    }

    fn entry_of(&mut self, changed: &Changed) -> Option<&mut Entry> {
        let states = self.groups.get_mut(&changed.group)?;
        match &changed.whose {
            Whose::Ip(ip) => states.ips.get_quietly(*ip),
            Whose::Sender(domain) => states.senders.get_mut(domain),
        }
    }
}
