//! A set of patterns as one automaton.

use std::fmt;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::Pattern;

/// Most octets of one pattern, and of all patterns of one file.
const PATTERN_LIMIT: usize = 1000;
const SET_LIMIT: usize = 512 * 1024;
/// What has a meaning in expressions.
const SPECIAL: &str = r"\.+*?()|[]{}^$#&-~";
/// Memory of the automaton and of its cache.
const AUTOMATON_LIMIT: usize = 128 * 1024 * 1024;
const CACHE_LIMIT: usize = 1024 * 1024;

/// The patterns of one file, in its order.
#[derive(Default)]
pub(super) struct Set {
    patterns: Vec<Pattern>,
    /// `None`: there are no patterns.
    regex: Option<Regex>,
}

impl Set {
    pub(super) fn compile(patterns: Vec<Pattern>) -> Result<Self, String> {
        if patterns.is_empty() {
            return Ok(Set::default());
        }
        if let Some(long) = patterns.iter().find(|p| p.text.len() > PATTERN_LIMIT) {
            return Err(format!(
                "{}: pattern {} is longer than {PATTERN_LIMIT} octets",
                long.source, long.name
            ));
        }
        if patterns.iter().map(|p| p.text.len()).sum::<usize>() > SET_LIMIT {
            return Err(format!(
                "the patterns are longer than {SET_LIMIT} octets in all"
            ));
        }
        let expressions: Vec<String> = patterns.iter().map(|p| expression(&p.text)).collect();
        let config = Regex::config()
            .utf8_empty(false)
            .nfa_size_limit(Some(AUTOMATON_LIMIT))
            .hybrid_cache_capacity(CACHE_LIMIT);
        let regex = Regex::builder()
            .configure(config)
            .syntax(
                syntax::Config::new()
                    .unicode(false)
                    .utf8(false)
                    .dot_matches_new_line(true),
            )
            .build_many(&expressions)
            .map_err(|e| format!("the patterns cannot be compiled: {e}"))?;
        Ok(Set {
            patterns,
            regex: Some(regex),
        })
    }

    pub(super) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    pub(super) fn is_empty(&self) -> bool {
        self.regex.is_none()
    }

    /// The first pattern that matches the whole text (normalised, lower case).
    ///
    /// All expressions are tied to both ends, so every match begins at the same place, and among
    /// those the automaton prefers the earliest expression (leftmost-first).
    pub(super) fn find(&self, text: &str) -> Option<&Pattern> {
        let input = Input::new(text).anchored(Anchored::Yes);
        let found = self.regex.as_ref()?.search_half(&input)?;
        self.patterns.get(found.pattern().as_usize())
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set({} patterns)", self.patterns.len())
    }
}

/// A pattern as an expression: `*` is one or more characters, nothing else is special.
fn expression(pattern: &str) -> String {
    let mut words = String::new();
    super::normal::append_words(&mut words, pattern);
    let mut out = String::from(r"\A");
    for c in words.trim_start().to_lowercase().chars() {
        match c {
            '*' => out.push_str(".+"),
            c if SPECIAL.contains(c) => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_ascii() => out.push(c),
            c => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    out.push_str(&format!(r"\x{byte:02x}"));
                }
            }
        }
    }
    out.push_str(r"\z");
    out
}
