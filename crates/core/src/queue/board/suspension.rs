//! Suspended lanes, accounts, sender domains and outbounds (QUEUE-18): rules that end by an
//! operator's word or at their time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Board;

/// Most rules at a time; each costs a comparison where a sender meets a lane for the first time.
pub const MOST_RULES: usize = 1_000;

/// What is suspended: mail to which everything that is named applies. With nothing named, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Only what would leave from this address; the rest goes on from others.
    pub outbound: Option<IpAddr>,
    /// The name of a lane: `group gmail`.
    pub lane: Option<String>,
    /// Domain of the envelope sender; empty: the null sender.
    pub sender: Option<String>,
    /// Empty: mail of no account.
    pub account: Option<String>,
    pub reason: String,
    /// When it ends by itself, in milliseconds since 1970.
    pub until: Option<u64>,
}

/// A suspension of a lane in which a delivery does not stand, but may turn out to belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub lane: String,
    /// Only what would leave from this address; `None`: all.
    pub outbound: Option<IpAddr>,
}

/// Names a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleNo(pub u64);

/// Whose mail is in question.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub lane: &'a str,
    pub account: &'a str,
    pub sender: &'a str,
}

impl Rule {
    fn means(&self, of: Of<'_>) -> bool {
        is(&self.lane, of.lane) && self.means_in_any_lane(of)
    }

    fn means_in_any_lane(&self, of: Of<'_>) -> bool {
        is(&self.account, of.account) && is(&self.sender, of.sender)
    }

    /// Whether it suspends all of a lane.
    fn is_for_lane(&self, lane: &str) -> bool {
        self.outbound.is_none()
            && self.account.is_none()
            && self.sender.is_none()
            && self
                .lane
                .as_ref()
                .is_none_or(|name| name.eq_ignore_ascii_case(lane))
    }
}

/// Whether a rule that names this, or nothing, applies.
fn is(named: &Option<String>, this: &str) -> bool {
    let mut named = named.iter();
    named.all(|name| name.eq_ignore_ascii_case(this))
}

#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: BTreeMap<RuleNo, Rule>,
    last: u64,
    /// The earliest end of one.
    ends: Option<u64>,
    name_outbounds: bool,
}

impl Rules {
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether this mail is not to be tried at all.
    pub fn suspend(&self, of: Of<'_>) -> bool {
        let mut whole = self.rules.values().filter(|rule| rule.outbound.is_none());
        whole.any(|rule| rule.means(of))
    }

    /// Why a whole lane is suspended, if it is.
    pub fn reason(&self, lane: &str) -> Option<&str> {
        let mut rules = self.rules.values();
        let rule = rules.find(|rule| rule.is_for_lane(lane))?;
        Some(&rule.reason)
    }

    pub fn name_outbounds(&self) -> bool {
        self.name_outbounds
    }

    /// The outbounds that this mail is not to use.
    pub fn without(&self, of: Of<'_>) -> Vec<IpAddr> {
        let rules = self.rules.values().filter(|rule| rule.means(of));
        rules.filter_map(|rule| rule.outbound).collect()
    }

    /// The lanes that are suspended for this mail, should it belong to them.
    pub fn closed(&self, of: Of<'_>) -> Vec<Closed> {
        let rules = self.rules.values();
        let closed = rules.filter(|rule| rule.means_in_any_lane(of));
        let closed = closed.filter_map(|rule| {
            Some(Closed {
                lane: rule.lane.clone()?,
                outbound: rule.outbound,
            })
        });
        closed.collect()
    }

    pub fn wake_at(&self) -> Option<u64> {
        self.ends
    }

    /// Ends what ends by `now`: whether there was anything.
    pub fn end(&mut self, now: u64) -> bool {
        if self.ends.is_none_or(|moment| moment > now) {
            return false;
        }
        self.rules
            .retain(|_, rule| rule.until.is_none_or(|moment| moment > now));
        self.count();
        true
    }

    fn add(&mut self, rule: Rule) -> Option<RuleNo> {
        if self.rules.len() >= MOST_RULES {
            return None;
        }
        self.last += 1;
        let number = RuleNo(self.last);
        self.rules.insert(number, rule);
        self.count();
        Some(number)
    }

    /// Takes a rule with the number that it had.
    fn restore(&mut self, number: RuleNo, rule: Rule) -> bool {
        let has_room = self.rules.len() < MOST_RULES;
        if has_room {
            self.last = self.last.max(number.0);
            self.rules.insert(number, rule);
            self.count();
        }
        has_room
    }

    fn remove(&mut self, number: RuleNo) -> Option<Rule> {
        let rule = self.rules.remove(&number);
        self.count();
        rule
    }

    fn count(&mut self) {
        self.ends = self.rules.values().filter_map(|rule| rule.until).min();
        self.name_outbounds = self.rules.values().any(|rule| rule.outbound.is_some());
    }
}

impl Board {
    /// Suspends what a rule says, until it is resumed or the rule ends. What runs goes on. `None`:
    /// there are too many rules.
    pub fn suspend(&mut self, rule: Rule) -> Option<RuleNo> {
        self.lanes.change_rules(|rules| rules.add(rule))
    }

    /// Suspends again what was suspended before a restart, under the same number. `false`: there are
    /// too many rules.
    pub fn restore(&mut self, number: RuleNo, rule: Rule) -> bool {
        self.lanes.change_rules(|rules| rules.restore(number, rule))
    }

    /// Takes a rule back, and gives it.
    pub fn resume(&mut self, number: RuleNo) -> Option<Rule> {
        self.lanes.change_rules(|rules| rules.remove(number))
    }

    /// The rules in force, oldest first.
    pub fn rules(&self) -> impl Iterator<Item = (RuleNo, &Rule)> {
        let rules = &self.lanes.rules().rules;
        rules.iter().map(|(number, rule)| (*number, rule))
    }
}
