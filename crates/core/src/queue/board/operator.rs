//! What operators do to the jobs of a message (QUEUE-16). Each call says which recipients it
//! touched; of a job that runs, what was wanted is done when it ends.

use super::{Board, End, Place, Recipients, Slot, Wish};
use crate::queue::MessageNo;

/// Recipients that a call was about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// It was done to these.
    pub now: Vec<u32>,
    /// It is done to these when their job ends, if they are still undecided then.
    pub later: Vec<u32>,
}

impl Touched {
    /// How many in all.
    pub fn count(&self) -> usize {
        self.now.len() + self.later.len()
    }
}

/// All recipients, or these.
type Which<'a> = Option<&'a [u32]>;

impl Board {
    /// Keeps deliveries back until they are released.
    pub fn hold(&mut self, now: u64, message: MessageNo, which: Which<'_>) -> Touched {
        let may = |place| matches!(place, Place::Waiting | Place::Ready);
        let mut touched = self.for_each(now, message, which, may, |board, id| {
            board.settle(now, id, true, End::Back);
        });
        touched.later = self.wish(message, which, Wish::Hold);
        touched
    }

    /// Takes `hold` back.
    pub fn release(&mut self, now: u64, message: MessageNo, which: Which<'_>) -> Touched {
        let may = |place| place == Place::Held;
        let mut touched = self.for_each(now, message, which, may, |board, id| {
            board.settle(now, id, false, End::Back);
        });
        for id in self.running(message) {
            let Some(wishes) = self.wishes.get_mut(&id) else {
                continue;
            };
            wishes.retain(|(recipient, wish)| {
                let is_meant = *wish == Wish::Hold && is_one_of(which, *recipient);
                if is_meant {
                    touched.later.push(*recipient);
                }
                !is_meant
            });
        }
        touched
    }

    /// Makes deliveries due, and lets one probe go where their lane is closed. What is held stays
    /// so, and what runs is not tried again at once.
    pub fn retry(&mut self, now: u64, message: MessageNo, which: Which<'_>) -> Touched {
        let may = |place| matches!(place, Place::Waiting | Place::Ready);
        self.for_each(now, message, which, may, |board, id| {
            let slot = board.slots.at_mut(id);
            slot.due = slot.due.min(now);
            let line = slot.line;
            board.settle(now, id, false, End::Front);
            board.lanes.open_for(line);
        })
    }

    /// Forgets deliveries.
    pub fn remove(&mut self, now: u64, message: MessageNo, which: Which<'_>) -> Touched {
        let may = |place| !matches!(place, Place::Running | Place::Nowhere);
        let mut touched = self.for_each(now, message, which, may, |board, id| {
            board.forget(now, id);
        });
        touched.later = self.wish(message, which, Wish::Remove);
        touched
    }

    /// Forgets deliveries that neither run nor are too old, and gives them: they go on in another
    /// way. Nothing is wished of the others.
    pub fn withdraw(&mut self, now: u64, message: MessageNo, which: Which<'_>) -> Vec<u32> {
        let may = |place| matches!(place, Place::Waiting | Place::Ready | Place::Held);
        let touched = self.for_each(now, message, which, may, |board, id| {
            board.forget(now, id);
        });
        touched.now
    }

    /// Gives deliveries out as expired.
    pub fn expire(&mut self, now: u64, message: MessageNo, which: Which<'_>) -> Touched {
        let may = |place| matches!(place, Place::Waiting | Place::Ready | Place::Held);
        let mut touched = self.for_each(now, message, which, may, Board::expire_slot);
        touched.later = self.wish(message, which, Wish::Expire);
        touched
    }

    /// Flow control has changed: what waits for it is tried at once.
    pub fn look_again(&mut self, now: u64) {
        self.lanes.look_again(now);
    }

    pub(super) fn jobs(&self, message: MessageNo) -> Vec<u32> {
        let range = self.messages.range((message.0, 0)..=(message.0, u32::MAX));
        range.map(|(_, id)| *id).collect()
    }

    fn running(&self, message: MessageNo) -> Vec<u32> {
        let mut jobs = self.jobs(message);
        jobs.retain(|id| self.slots.at(*id).place == Place::Running);
        jobs
    }

    /// Takes the recipients that are meant out of their places, and does this to each job of them.
    fn for_each(
        &mut self,
        now: u64,
        message: MessageNo,
        which: Which<'_>,
        may: impl Fn(Place) -> bool,
        mut act: impl FnMut(&mut Board, u32),
    ) -> Touched {
        // What is late is in its place first.
        self.wake_some(now);
        let mut touched = Touched::default();
        for id in self.jobs(message) {
            let slot = self.slots.at(id);
            if !may(slot.place) {
                continue;
            }
            let all = slot.recipients.as_slice().iter().copied();
            let (meant, rest): (Vec<u32>, Vec<u32>) = all.partition(|r| is_one_of(which, *r));
            if meant.is_empty() {
                continue;
            }
            touched.now.extend(&meant);
            let id = self.part(id, meant, rest);
            act(self, id);
        }
        touched
    }

    /// The job of `meant` alone, in no place; `rest` stays where it is.
    fn part(&mut self, id: u32, meant: Vec<u32>, rest: Vec<u32>) -> u32 {
        let place = self.slots.at(id).place;
        self.leave(id);
        if rest.is_empty() {
            return id;
        }
        let slot = self.slots.at_mut(id);
        slot.recipients = Recipients::from(rest);
        let part = Slot {
            message: slot.message,
            received: slot.received,
            due: slot.due,
            expires: slot.expires,
            recipients: Recipients::from(meant),
            tell: slot.tell,
            line: slot.line,
            ..Slot::default()
        };
        self.enter(id, place, End::Front);
        self.insert(part)
    }

    /// Notes what is wanted of running recipients. Removal is not taken back.
    fn wish(&mut self, message: MessageNo, which: Which<'_>, wish: Wish) -> Vec<u32> {
        let mut touched = Vec::new();
        for id in self.running(message) {
            let all = self.slots.at(id).recipients.as_slice().iter().copied();
            let meant: Vec<u32> = all.filter(|r| is_one_of(which, *r)).collect();
            if meant.is_empty() {
                continue;
            }
            let wishes = self.wishes.entry(id).or_default();
            for recipient in meant {
                match wishes.iter_mut().find(|(whose, _)| *whose == recipient) {
                    Some((_, Wish::Remove)) => continue,
                    Some((_, before)) => *before = wish,
                    None => wishes.push((recipient, wish)),
                }
                touched.push(recipient);
            }
        }
        touched
    }
}

fn is_one_of(which: Which<'_>, recipient: u32) -> bool {
    which.is_none_or(|which| which.contains(&recipient))
}
