//! Which outbound a message takes as far as flow control has a say (FLOW-23, RELAY-57): the answers
//! of the desk to the questions of `chase`.

use crate::chase::Pick;
use crate::flow::configured::SenderDomain;
use crate::flow::desk::{Case, Desk};
use crate::flow::{Control, Moment};
use crate::outbounds::Outbounds;

/// The choice for one message.
pub struct Choice<'a> {
    pub desk: &'a mut Desk,
    pub now: Moment,
    /// As `Case::group`.
    pub group: &'a str,
    pub domain: &'a str,
    pub sender: &'a SenderDomain,
    /// Recipients.
    pub count: u64,
    /// The order is given; else by unused share, of equal ones the next from `turn` on.
    pub is_ordered: bool,
    pub turn: usize,
    /// Others wait for this group: nobody goes before them.
    pub has_line: bool,
}

impl Choice<'_> {
    fn ask(&self, outbounds: &Outbounds, place: usize) -> Result<(), Control> {
        let outbound = outbounds.get(place).filter(|_| !self.has_line);
        let Some(outbound) = outbound else {
            return Err(Control::Sender);
        };
        let sender = self.sender.at(outbound);
        let case = Case {
            group: self.group,
            domain: self.domain,
            ip: outbound.address,
            sender: &sender,
        };
        self.desk.is_free(self.now, case, self.count)
    }

    /// Whether what holds one of them holds all.
    fn is_general(&self, control: Control) -> bool {
        control == Control::Sender && matches!(self.sender, SenderDomain::Fixed(_))
    }
}

impl Pick for Choice<'_> {
    fn best(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize> {
        if self.is_ordered {
            return (0..outbounds.len()).find(|place| may(*place));
        }
        let (now, group, turn) = (self.now, self.group, self.turn);
        let best = self.desk.best(now, group, outbounds, turn, may);
        best.map(|(place, _)| place)
    }

    fn best_free(&mut self, outbounds: &Outbounds, may: &dyn Fn(usize) -> bool) -> Option<usize> {
        let mut asked: Vec<usize> = Vec::new();
        let (now, group, turn) = (self.now, self.group, self.turn);
        while !self.has_line {
            let left = |place: usize| may(place) && !asked.contains(&place);
            let (place, is_free) = match self.is_ordered {
                true => ((0..outbounds.len()).find(|place| left(*place))?, true),
                false => self.desk.best(now, group, outbounds, turn, &left)?,
            };
            if !is_free {
                // It stands best, so that no other is free either.
                return None;
            }
            let sender_says = match (self.is_ordered, self.sender) {
                // Its own limits have been looked at already.
                (false, SenderDomain::Fixed(sender)) => {
                    self.desk.is_sender_free(now, group, sender, self.count)
                }
                _ => None,
            };
            match sender_says.unwrap_or_else(|| self.ask(outbounds, place)) {
                Ok(()) => return Some(place),
                Err(control) if self.is_general(control) => return None,
                Err(_) => asked.push(place),
            }
        }
        None
    }

    fn is_free(&mut self, outbounds: &Outbounds, place: usize) -> bool {
        self.ask(outbounds, place).is_ok()
    }
}
