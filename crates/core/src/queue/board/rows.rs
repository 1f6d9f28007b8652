//! What the board shows of itself: `galerne lane list`, `galerne queue status` and the gauges.

use super::{Board, Cause, Place};
use crate::queue::{DeliveryNo, MessageNo};

/// Deliveries by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Not due yet.
    pub waiting: u64,
    /// Due, but not begun.
    pub ready: u64,
    pub held: u64,
    pub running: u64,
    /// Too old, and not given out yet.
    pub expired: u64,
    /// Nothing is ever there.
    nowhere: u64,
}

impl Tally {
    pub(super) fn of(&mut self, place: Place) -> &mut u64 {
        match place {
            Place::Nowhere => &mut self.nowhere,
            Place::Waiting => &mut self.waiting,
            Place::Ready => &mut self.ready,
            Place::Held => &mut self.held,
            Place::Running => &mut self.running,
            Place::Expired => &mut self.expired,
        }
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.waiting + self.ready + self.held + self.running + self.expired
    }
}

/// The same of one lane, in less room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LaneTally {
    waiting: u32,
    ready: u32,
    held: u32,
    running: u32,
    expired: u32,
    nowhere: u32,
}

impl LaneTally {
    pub fn of(&mut self, place: Place) -> &mut u32 {
        match place {
            Place::Nowhere => &mut self.nowhere,
            Place::Waiting => &mut self.waiting,
            Place::Ready => &mut self.ready,
            Place::Held => &mut self.held,
            Place::Running => &mut self.running,
            Place::Expired => &mut self.expired,
        }
    }
}

impl LaneTally {
    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        Tally::from(*self).all()
    }
}

impl From<LaneTally> for Tally {
    fn from(lane: LaneTally) -> Self {
        Tally {
            waiting: lane.waiting.into(),
            ready: lane.ready.into(),
            held: lane.held.into(),
            running: lane.running.into(),
            expired: lane.expired.into(),
            nowhere: lane.nowhere.into(),
        }
    }
}

/// What is on the board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub tally: Tally,
    pub jobs_ready: u32,
    pub jobs_running: u32,
}

impl Counts {
    pub(super) fn jobs(&mut self, place: Place) -> Option<&mut u32> {
        match place {
            Place::Ready => Some(&mut self.jobs_ready),
            Place::Running => Some(&mut self.jobs_running),
            Place::Nowhere | Place::Waiting | Place::Held | Place::Expired => None,
        }
    }
}

/// A lane as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    pub name: String,
    pub tally: Tally,
    pub jobs_running: u32,
    /// Jobs that may run at once.
    pub window: u32,
    /// Nothing starts before, in milliseconds since 1970.
    pub closed_until: Option<u64>,
    /// Why it is closed or opens gradually.
    pub cause: Option<Cause>,
    /// The same in words.
    pub why: Option<String>,
    /// Deliveries that are suspended, for whatever rule.
    pub suspended: u64,
    /// The whole lane is suspended, for this reason.
    pub reason: Option<String>,
    /// When the oldest message in it came, in milliseconds since 1970.
    pub oldest: Option<u64>,
}

/// Where a delivery stands, for lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Until it is due, or for its turn.
    Waiting,
    Suspended,
    Held,
    Running,
}

impl Board {
    /// Where a delivery stands; `None`: it is not on the board.
    pub fn standing(&self, message: MessageNo, recipient: u32) -> Option<Standing> {
        let mut jobs = self.jobs(message).into_iter();
        let id = jobs.find(|id| {
            let recipients = self.slots.at(*id).recipients.as_slice();
            recipients.contains(&recipient)
        })?;
        Some(self.standing_of(id))
    }

    /// The next deliveries behind `after` that stand so, in order and about `most`. Looks at many
    /// jobs: for people.
    pub fn standing_so(
        &self,
        standing: Standing,
        after: Option<DeliveryNo>,
        most: usize,
    ) -> Vec<DeliveryNo> {
        let first = after.map_or(0, |after| after.message.0);
        let mut found: Vec<DeliveryNo> = Vec::new();
        for (message, id) in self.messages.range((first, 0)..) {
            let is_new = found.last().is_none_or(|last| last.message.0 != *message);
            if found.len() >= most && is_new {
                break;
            }
            if self.standing_of(*id) != standing {
                continue;
            }
            let numbers = self.slots.at(*id).recipients.as_slice().iter();
            let numbers = numbers.map(|recipient| DeliveryNo {
                message: MessageNo(*message),
                recipient: *recipient,
            });
            found.extend(numbers.filter(|number| after.is_none_or(|after| *number > after)));
        }
        found.sort_unstable();
        found
    }

    fn standing_of(&self, id: u32) -> Standing {
        let slot = self.slots.at(id);
        let (_, is_suspended) = self.lanes.standing(slot.line);
        match slot.place {
            Place::Running => Standing::Running,
            Place::Held => Standing::Held,
            _ if is_suspended => Standing::Suspended,
            Place::Nowhere | Place::Waiting | Place::Ready | Place::Expired => Standing::Waiting,
        }
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When the oldest message came, in milliseconds since 1970.
    pub fn oldest(&self) -> Option<u64> {
        let (received, _) = self.ages.first_key_value()?;
        Some(*received)
    }

    /// All lanes by name. Looks at every job: for people.
    pub fn rows(&self) -> Vec<LaneRow> {
        let mut rows: Vec<Option<LaneRow>> = Vec::new();
        for (id, lane) in self.lanes.all() {
            let closed = lane.gate.closed_until();
            let row = LaneRow {
                name: lane.name.to_string(),
                tally: lane.tally.into(),
                jobs_running: lane.running,
                window: lane.gate.window(),
                closed_until: (closed > 0).then_some(closed),
                cause: lane.gate.cause(),
                why: lane.gate.why().map(str::to_owned),
                suspended: 0,
                reason: self.lanes.rules().reason(&lane.name).map(str::to_owned),
                oldest: None,
            };
            let id = id as usize;
            if rows.len() <= id {
                rows.resize(id + 1, None);
            }
            if let Some(place) = rows.get_mut(id) {
                *place = Some(row);
            }
        }
        for (_, slot) in self.slots.iter() {
            if slot.place == Place::Nowhere {
                continue;
            }
            let (lane, is_suspended) = self.lanes.standing(slot.line);
            let Some(row) = rows.get_mut(lane as usize).and_then(Option::as_mut) else {
                continue;
            };
            row.oldest = Some(row.oldest.unwrap_or(u64::MAX).min(slot.received));
            if is_suspended && !matches!(slot.place, Place::Running | Place::Expired) {
                row.suspended += slot.recipients.count();
            }
        }
        let mut rows: Vec<LaneRow> = rows.into_iter().flatten().collect();
        rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        rows
    }
}
