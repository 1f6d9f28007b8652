//! Going through all states in slices, so that mail waits for none of it: rows for an operator, and
//! the rules that are evaluated each minute (FLOW-36).

use std::sync::Arc;

use super::looking::row;
use super::{Desk, GroupStates, Key, Row, switched};
use crate::flow::{Control, Moment};

/// Most states of one slice.
const MOST: usize = 64;

/// Where a walk through the states of one group stands: the addresses first, in their order; then
/// the senders, the newest first, so that none is left out though others come and go meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// From the address at that place on.
    Ips(usize),
    /// The senders that stand before that place.
    Senders(usize),
}

impl Slice {
    /// The beginning of a walk.
    pub const FIRST: Slice = Slice::Ips(0);
}

impl Desk {
    /// The groups that have states.
    pub fn group_names(&self) -> Vec<Arc<str>> {
        self.groups.keys().cloned().collect()
    }

    /// All states of a group, or of all, by group, control and key.
    pub fn rows(&self, now: Moment, group: Option<&str>) -> Vec<Row> {
        let mut rows = Vec::new();
        let wanted = |name: &str| group.is_none_or(|wanted| wanted == name);
        for name in self.groups.keys().filter(|name| wanted(name)) {
            let mut next = Some(Slice::FIRST);
            while let Some(slice) = next {
                next = self.rows_of(now, name, slice, &mut rows);
            }
        }
        in_order(&mut rows);
        rows
    }

    /// Adds the rows of one slice of a group's states, and gives the slice after it.
    pub fn rows_of(
        &self,
        now: Moment,
        group: &str,
        slice: Slice,
        rows: &mut Vec<Row>,
    ) -> Option<Slice> {
        let states = self.groups.get(group)?;
        match slice {
            Slice::Ips(from) => {
                let ips = states.ips.iter().skip(from).take(MOST);
                rows.extend(ips.map(|(ip, e)| row(now, group, Control::Ip, ip.to_string(), e)));
            }
            Slice::Senders(end) => {
                for name in states.senders.before(end, MOST) {
                    if let Some(entry) = states.senders.get(name) {
                        rows.push(row(now, group, Control::Sender, name.to_string(), entry));
                    }
                }
            }
        }
        states.after(slice)
    }

    /// Evaluates all rules: at least once a minute (FLOW-36).
    pub fn tick(&mut self, now: Moment) {
        for group in self.group_names() {
            let mut next = Some(Slice::FIRST);
            while let Some(slice) = next {
                next = self.tick_of(now, &group, slice);
            }
        }
    }

    /// Evaluates the rules of one slice of a group's states, and gives the slice after it.
    pub fn tick_of(&mut self, now: Moment, group: &str, slice: Slice) -> Option<Slice> {
        let Desk {
            groups,
            changes,
            unsaved,
        } = self;
        let states = groups.get_mut(group)?;
        let next = states.after(slice);
        let GroupStates { flow, ips, senders } = states;
        let mut evaluate = |key: Key<'_>, entry: &mut super::Entry| {
            let Some(change) = entry.state.evaluate(now, &entry.params) else {
                return false;
            };
            entry.params = flow.params(change.to, key);
            entry.changed(group, key, unsaved);
            changes.push(switched(group, key, change));
            true
        };
        match slice {
            Slice::Ips(from) => {
                for (ip, entry, until) in ips.some_mut(from, MOST) {
                    if evaluate(Key::Ip(ip), entry) {
                        *until = Moment(0);
                    }
                }
            }
            Slice::Senders(end) => {
                let names: Vec<Arc<str>> = senders.before(end, MOST).cloned().collect();
                for name in names {
                    if let Some(entry) = senders.get_mut(&name) {
                        evaluate(Key::Sender(&name), entry);
                    }
                }
            }
        }
        next
    }
}

impl GroupStates {
    fn after(&self, slice: Slice) -> Option<Slice> {
        match slice {
            Slice::Ips(from) if from + MOST < self.ips.len() => Some(Slice::Ips(from + MOST)),
            Slice::Ips(_) => Some(Slice::Senders(usize::MAX)),
            Slice::Senders(end) => {
                let end = end.min(self.senders.len());
                (end > MOST).then(|| Slice::Senders(end - MOST))
            }
        }
    }
}

/// By group, control and key; what a walk met twice is there once.
pub fn in_order(rows: &mut Vec<Row>) {
    rows.sort_by(|a, b| (&a.group, a.control, &a.key).cmp(&(&b.group, b.control, &b.key)));
    rows.dedup_by(|a, b| (&a.group, a.control, &a.key) == (&b.group, b.control, &b.key));
}
