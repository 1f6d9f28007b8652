//! What `galerne doctor` finds, and the judgement of what others see of us: the names of our
//! addresses, and what the zones of sender domains publish against what they must
//! (`zone_records`). Asking and measuring is done by the program; here it is only weighed.

mod domain;
mod names;
pub mod spf;
mod tls;

pub use domain::{
    Dmarc, judge_dkim, judge_dmarc, judge_mx, judge_spf, judge_text, organisational_names,
};
pub use names::{judge_ehlo, judge_reverse};
pub use tls::{DnssecFacts, judge_dane, judge_policy};

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Mail suffers: somebody must act.
    Act,
    /// It works, and could be better.
    Advice,
    Good,
}

impl Severity {
    /// The word in texts and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Act => "act",
            Severity::Advice => "advice",
            Severity::Good => "ok",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// What was looked at, one word: `spf`, `ptr`, `disk`.
    pub check: &'static str,
    /// Of what: a domain, an address, a file.
    pub subject: String,
    pub found: String,
    /// Empty where all is well.
    pub expected: String,
    /// What to do; empty where all is well.
    pub advice: String,
}

impl Finding {
    /// All is well.
    pub fn good(check: &'static str, subject: impl ToString, found: impl ToString) -> Finding {
        Finding {
            severity: Severity::Good,
            check,
            subject: subject.to_string(),
            found: found.to_string(),
            expected: String::new(),
            advice: String::new(),
        }
    }

    /// Somebody must act.
    pub fn act(
        check: &'static str,
        subject: impl ToString,
        found: impl ToString,
        expected: impl ToString,
        advice: impl ToString,
    ) -> Finding {
        Finding {
            severity: Severity::Act,
            expected: expected.to_string(),
            advice: advice.to_string(),
            ..Finding::good(check, subject, found)
        }
    }

    /// The same, but mail does not suffer.
    pub fn or_advice(mut self) -> Finding {
        self.severity = Severity::Advice;
        self
    }
}

/// A finding as lines for people.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.severity.word();
        write!(
            f,
            "{word:<7}{:<9}{}: {}",
            self.check, self.subject, self.found
        )?;
        for (name, text) in [("expected", &self.expected), ("do", &self.advice)] {
            if !text.is_empty() {
                write!(f, "\n{:16}{name:<9} {text}", "")?;
            }
        }
        Ok(())
    }
}

/// An answer of a name server; what is not there is an empty one. The error is a failure in words.
pub type Answer<T> = Result<T, String>;

/// The finding when a name server gave no answer.
fn unanswered(check: &'static str, subject: &str, cause: &str) -> Finding {
    Finding::act(
        check,
        subject,
        format!("no answer: {cause}"),
        "an answer of the name server",
        "see to [dns] resolver or /etc/resolv.conf; others may get no answer either",
    )
}

/// A remote's text for a terminal: printable, and not endless.
fn shown(text: &str) -> String {
    const LONGEST: usize = 300;
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let mut shown: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
