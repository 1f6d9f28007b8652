//! What a sink does instead of being honest: rules, tried in order at each step.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use galerne_smtp::Stage;

/// One rule: at this step, under these conditions, do that. Made by [`Rule::at`] and refined.
///
/// ```
/// use galerne_sim::sink::{Rule, Stage};
/// let greylist = Rule::at(Stage::Rcpt).recipient("grey").times(1).reply("451 4.7.1 come back later");
/// let drop_after_dot = Rule::at(Stage::Dot).close();
/// # let _ = (greylist, drop_after_dot);
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    stage: Stage,
    client: Option<IpAddr>,
    recipient: Option<String>,
    sender: Option<String>,
    sessions: Option<RangeInclusive<usize>>,
    transactions: Option<RangeInclusive<usize>>,
    left: Option<u32>,
    pub(super) delay: Option<Duration>,
    pub(super) say: Say,
    pub(super) then: Then,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// What an honest server says.
    Honest,
    /// These octets.
    Raw(Vec<u8>),
    Nothing,
}

/// What comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Close,
    /// The connection stays open and nothing more is said.
    Hang,
}

/// The circumstances a rule is tried against.
pub(super) struct Moment<'a> {
    pub stage: Stage,
    pub client: IpAddr,
    pub session: usize,
    pub transaction: usize,
    pub sender: &'a str,
    /// At RCPT the one recipient, later all accepted ones.
    pub recipients: &'a [String],
}

impl Rule {
    /// A rule for one step; without more it changes nothing. `Connect` is the greeting, `Ehlo`
    /// also HELO, `Dot` the end of the content by DATA or BDAT.
    pub fn at(stage: Stage) -> Rule {
        Rule {
            stage,
            client: None,
            recipient: None,
            sender: None,
            sessions: None,
            transactions: None,
            left: None,
            delay: None,
            say: Say::Honest,
            then: Then::GoOn,
        }
    }

    /// Only for connections from this address.
    pub fn client(mut self, address: IpAddr) -> Rule {
        self.client = Some(address);
        self
    }

    /// Only for this recipient: a local part, or a whole address. After RCPT: if any accepted one is it.
    pub fn recipient(mut self, recipient: &str) -> Rule {
        self.recipient = Some(recipient.to_ascii_lowercase());
        self
    }

    /// Only for this sender address; empty is the null sender.
    pub fn sender(mut self, sender: &str) -> Rule {
        self.sender = Some(sender.to_ascii_lowercase());
        self
    }

    /// Only on the n-th connection, from 1.
    pub fn session(self, n: usize) -> Rule {
        self.sessions(n..=n)
    }

    /// Only on these connections, from 1.
    pub fn sessions(mut self, range: RangeInclusive<usize>) -> Rule {
        self.sessions = Some(range);
        self
    }

    /// Only in the n-th transaction of a connection, from 1; before the first MAIL it is 0.
    pub fn transaction(self, n: usize) -> Rule {
        self.transactions(n..=n)
    }

    /// Only in these transactions of a connection.
    pub fn transactions(mut self, range: RangeInclusive<usize>) -> Rule {
        self.transactions = Some(range);
        self
    }

    /// Only so many times in all.
    pub fn times(mut self, n: u32) -> Rule {
        self.left = Some(n);
        self
    }

    /// Waits first.
    pub fn delay(mut self, delay: Duration) -> Rule {
        self.delay = Some(delay);
        self
    }

    /// Says this reply. Several lines are separated by `\n`, each with its code; CRLF is added.
    pub fn reply(self, text: &str) -> Rule {
        let lines = text
            .split('\n')
            .map(|line| format!("{}\r\n", line.trim_end_matches('\r')));
        self.raw(lines.collect::<String>().as_bytes())
    }

    /// Says these octets as they are.
    pub fn raw(mut self, octets: &[u8]) -> Rule {
        self.say = Say::Raw(octets.to_vec());
        self
    }

    /// Closes: after the reply if one is set, else without a word.
    pub fn close(mut self) -> Rule {
        if self.say == Say::Honest {
            self.say = Say::Nothing;
        }
        self.then = Then::Close;
        self
    }

    /// Says what an honest server says, then closes.
    pub fn answer_and_close(mut self) -> Rule {
        self.then = Then::Close;
        self
    }

    /// Goes silent and leaves the connection open.
    pub fn hang(mut self) -> Rule {
        if self.say == Say::Honest {
            self.say = Say::Nothing;
        }
        self.then = Then::Hang;
        self
    }

    /// Whether it applies now; counts down `times` if so.
    pub(super) fn take(&mut self, now: &Moment<'_>) -> bool {
        let applies = self.stage == now.stage
            && self.left != Some(0)
            && self.client.is_none_or(|ip| ip == now.client)
            && self
                .sessions
                .as_ref()
                .is_none_or(|range| range.contains(&now.session))
            && self
                .transactions
                .as_ref()
                .is_none_or(|range| range.contains(&now.transaction))
            && self
                .sender
                .as_ref()
                .is_none_or(|sender| now.sender.eq_ignore_ascii_case(sender))
            && self
                .recipient
                .as_ref()
                .is_none_or(|wanted| now.recipients.iter().any(|r| is_recipient(r, wanted)));
        if applies {
            self.left = self.left.map(|n| n - 1);
        }
        applies
    }
}

/// `wanted` is lower case: a local part or a whole address.
fn is_recipient(address: &str, wanted: &str) -> bool {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    address.eq_ignore_ascii_case(wanted) || local.eq_ignore_ascii_case(wanted)
}
