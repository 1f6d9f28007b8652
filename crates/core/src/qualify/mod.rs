//! What a reply means to a group: qualification by patterns (FLOW-61 to FLOW-76).
//!
//! A group has its own patterns and, after them, those of `.defflow.ini`, which all groups share.
//! Both are compiled once; matching takes time linear in the reply, whatever the patterns are.

mod line;
mod normal;
mod set;

use std::sync::Arc;

use galerne_smtp::Reply;
use serde::Serialize;

pub use line::parse_line;
pub use normal::{normalise, reply_from_text};

use crate::model::{Class, Qualification};
use set::Set;

/// One line of a `[pattern]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// `rfpattern`: at most 16 of a–z, 0–9 and hyphen.
    pub name: String,
    pub class: Class,
    /// `rfstr`: at most 16 characters.
    pub description: String,
    /// The reply text with wildcards, as written.
    pub text: String,
    /// `file:line`.
    pub source: String,
}

/// The patterns of one group in file order, compiled. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    own: Arc<Set>,
    defaults: Arc<Set>,
}

/// What `galerne patterns test` shows (FLOW-76).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// With its `@`.
    pub group: String,
    /// `None`: no pattern matches.
    pub pattern: Option<String>,
    /// SOFT, HARD, SPAM, GREY or FLOW; `None` for a success, which is never tested.
    pub function: Option<&'static str>,
    pub description: String,
    pub ipset: Option<&'static str>,
    pub sdset: Option<&'static str>,
    /// Seconds until the retry of GREY.
    pub delay: Option<u64>,
    /// File and line of the pattern.
    pub source: Option<String>,
}

impl Patterns {
    /// Compiles a group's own patterns and the defaults tried after them (FLOW-66).
    ///
    /// Errors: a set of patterns larger than any real file needs. Groups that share defaults
    /// should compile them once and use [`Patterns::with_defaults`].
    pub fn compile(own: Vec<Pattern>, defaults: Vec<Pattern>) -> Result<Self, String> {
        Ok(Patterns {
            own: Arc::new(Set::compile(own)?),
            defaults: Arc::new(Set::compile(defaults)?),
        })
    }

    /// Compiles a group's own patterns and shares all patterns of `defaults` after them.
    ///
    /// `defaults` is what `compile(defaults, vec![])` gave for `.defflow.ini`.
    pub fn with_defaults(own: Vec<Pattern>, defaults: &Patterns) -> Result<Self, String> {
        if own.is_empty() {
            return Ok(defaults.clone());
        }
        Ok(Patterns {
            own: Arc::new(Set::compile(own)?),
            defaults: Arc::clone(&defaults.own),
        })
    }

    /// All patterns in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.own.patterns().iter().chain(self.defaults.patterns())
    }

    /// What a reply means. The protocol step makes no difference (FLOW-75).
    ///
    /// A success (2xx) is never tested and, like a reply that no pattern matches, comes back as
    /// soft without a pattern (FLOW-61, FLOW-73); the caller asks only about failures.
    pub fn qualify(&self, reply: &Reply) -> Qualification {
        match self.find(reply) {
            Some(pattern) => Qualification {
                class: pattern.class.clone(),
                pattern: Some(pattern.name.clone()),
                description: pattern.description.clone(),
                source: pattern.source.clone(),
            },
            None => Qualification {
                class: Class::Soft,
                pattern: None,
                description: String::new(),
                source: String::new(),
            },
        }
    }

    /// What would happen to a reply, for people (FLOW-76). `group` without `@`.
    pub fn test(&self, group: &str, reply: &Reply) -> Explanation {
        let found = self.find(reply);
        let class = found.map_or(&Class::Soft, |p| &p.class);
        let (ipset, sdset) = match class {
            Class::Flow { ipset, sdset } => (ipset.map(|s| s.word()), sdset.map(|s| s.word())),
            _ => (None, None),
        };
        let delay = match class {
            Class::Grey(delay) => Some(delay.as_secs()),
            _ => None,
        };
        Explanation {
            group: format!("@{group}"),
            pattern: found.map(|p| p.name.clone()),
            function: (!is_success(reply)).then(|| function(class)),
            description: found.map(|p| p.description.clone()).unwrap_or_default(),
            ipset,
            sdset,
            delay,
            source: found.map(|p| p.source.clone()),
        }
    }

    /// The first pattern that matches: own before defaults, each in file order.
    fn find(&self, reply: &Reply) -> Option<&Pattern> {
        if is_success(reply) || (self.own.is_empty() && self.defaults.is_empty()) {
            return None;
        }
        let text = normalise(reply).to_lowercase();
        self.own.find(&text).or_else(|| self.defaults.find(&text))
    }
}

/// The word of a class in pattern files.
pub fn function(class: &Class) -> &'static str {
    match class {
        Class::Soft => "SOFT",
        Class::Hard => "HARD",
        Class::Spam => "SPAM",
        Class::Grey(_) => "GREY",
        Class::Flow { .. } => "FLOW",
    }
}

fn is_success(reply: &Reply) -> bool {
    (200..300).contains(&reply.code())
}

#[cfg(test)]
mod tests;
