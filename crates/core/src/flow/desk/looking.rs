//! What can be seen at the desk without changing anything: who is free, which outbound stands best,
//! and a state as an operator sees it.

use super::{Case, Desk, Entry, Row, Seen, Travel};
use crate::flow::ips::Ips;
use crate::flow::params::Params;
use crate::flow::slots::Slots;
use crate::flow::{Control, Moment, Verdict};
use crate::outbounds::Outbounds;

impl Desk {
    /// Whether a message may go now, in a session to be opened or in an idle one.
    ///
    /// # Errors
    /// The control that does not let it go.
    pub fn is_free(&self, now: Moment, case: Case<'_>, wanted: u64) -> Result<(), Control> {
        let control = match self.may(now, case, Travel::NewSession, wanted) {
            Ok(_) => return Ok(()),
            Err(Verdict::NotBefore(_, control, _) | Verdict::WhenFree(control)) => control,
            Err(Verdict::Now) => return Ok(()),
        };
        // An idle session takes the next message, whatever it holds.
        let look = self.look(now, case);
        let domain = look.is_catch_all.then_some(case.domain);
        let has_idle = |seen: &Seen<'_>| seen.get().slots(domain).is_some_and(|s| s.idle() > 0);
        if !has_idle(&look.ip) {
            return Err(control);
        }
        let travel = match has_idle(&look.sender) {
            true => Travel::SameSession,
            false => Travel::TakenOver { from: "" },
        };
        let may = self.may(now, case, travel, wanted);
        may.map_or(Err(control), |_| Ok(()))
    }

    /// Whether the sender's own limits let a message go in a session to be opened. `None`: that is
    /// not all, or not easily said, and `is_free` is to be asked.
    pub(in crate::flow) fn is_sender_free(
        &self,
        now: Moment,
        group: &str,
        sender: &str,
        wanted: u64,
    ) -> Option<Result<(), Control>> {
        let states = self.groups.get(group)?;
        let entry = states.senders.get(sender)?;
        let may = !states.flow.is_catch_all
            && entry.state.may_send(now, &entry.params, wanted).is_ok()
            && entry.may_open(now, None).is_ok();
        may.then_some(Ok(()))
    }

    /// The place of the outbound that stands best for a group among those that `may` be taken:
    /// those that are free first, then the largest unused share, of equal ones the next from `turn`
    /// on (FLOW-23). And whether it is free as far as its own limits go.
    pub fn best(
        &mut self,
        now: Moment,
        group: &str,
        outbounds: &Outbounds,
        turn: usize,
        may: &dyn Fn(usize) -> bool,
    ) -> Option<(usize, bool)> {
        let best = match self.groups.get_mut(group) {
            Some(states) => states.ips.best(now, outbounds, turn, may),
            None => Ips::default().best(now, outbounds, turn, may),
        };
        best.map(|(place, standing)| (place, standing.is_free()))
    }
}

/// A state as an operator sees it.
pub(super) fn row(now: Moment, group: &str, control: Control, key: String, entry: &Entry) -> Row {
    let Params { low, high, .. } = *entry.params;
    let fill = |window: crate::flow::params::Window| match window.is_on() {
        true => (entry.state.fill(now, window), window.max),
        false => (0, 0),
    };
    let by_domain = entry.by_domain.values().map(Slots::open);
    Row {
        group: group.to_owned(),
        control,
        key,
        set: entry.state.set(),
        entered: entry.state.entered(),
        sleeps_until: entry.state.sleeps_until(),
        is_locked: entry.state.is_locked(),
        low: fill(low),
        high: fill(high),
        sessions: by_domain.sum::<u32>() + entry.slots.open(),
        params: *entry.params,
    }
}
