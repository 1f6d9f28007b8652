//! `galerne explain`: everything that would be decided for one submission, with the rule that
//! decides it. Nothing is sent.

use std::sync::Arc;

use galerne_smtp::{Mailbox, ReversePath};
use serde::Serialize;

use crate::directive::Directive;
use crate::ports::Lists;
use crate::settings::{Account, Group, Settings};

/// What is asked.
pub struct Question<'a> {
    pub from: &'a ReversePath,
    pub to: &'a Mailbox,
    pub account: Option<&'a Arc<Account>>,
    /// How the account is known: `--user shop`, `smtpip 192.0.2.0/24` …
    pub known_by: String,
    /// Parsed, or the refusal that its parsing gave.
    pub directive: Result<&'a Directive, &'a crate::refusal::Refusal>,
    pub header_from: Option<&'a Mailbox>,
    pub group: &'a Arc<Group>,
    /// Why this group: `mx1.example.org matches mx pattern *.example.org of domains/@x.ini` …
    pub group_reason: String,
}

/// One decision with its rule.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Decision {
    pub key: String,
    pub value: String,
    pub rule: String,
}

/// What would be refused, and why.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Refused {
    /// `RCPT` or `end of data`.
    pub at: String,
    pub reply: String,
    pub rule: String,
}

/// The whole answer.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Explanation {
    pub from: String,
    pub to: String,
    pub decisions: Vec<Decision>,
    pub refused: Vec<Refused>,
}

/// Answers the question.
pub fn explain(_settings: &Settings, _question: &Question<'_>, _lists: &dyn Lists) -> Explanation {
    todo!()
}
