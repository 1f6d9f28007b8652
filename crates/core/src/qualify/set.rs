//! The patterns of one file and how they are matched.
//!
//! A pattern is a chain of literals with gaps of at least so many characters. Taking each literal
//! at its first place is always right, because an earlier place leaves more room for the rest.
//! So nothing is ever tried twice: a pattern costs one walk through the reply, whatever both are.
//! (One regular expression over all patterns was measured too: fifty times slower on ordinary
//! replies while its cache was cold, minutes on 8 KiB against dense patterns.)

use std::fmt;

use memchr::memmem::Finder;

use super::Pattern;

/// Most octets of one pattern.
const PATTERN_LIMIT: usize = 1000;
/// Most octets of all patterns of one file.
const SET_LIMIT: usize = 512 * 1024;

/// The patterns of one file, in its order.
#[derive(Default)]
pub(super) struct Set {
    patterns: Vec<Pattern>,
    matchers: Vec<Matcher>,
}

impl Set {
    pub(super) fn compile(patterns: Vec<Pattern>) -> Result<Self, String> {
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
        let matchers = patterns.iter().map(|p| Matcher::new(&p.text)).collect();
        Ok(Set { patterns, matchers })
    }

    pub(super) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The first pattern that matches the whole text (normalised, lower case).
    pub(super) fn find(&self, text: &str) -> Option<&Pattern> {
        let at = self.matchers.iter().position(|m| m.matches(text))?;
        self.patterns.get(at)
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set({} patterns)", self.patterns.len())
    }
}

/// One pattern: `*` is one or more characters, nothing else is special (FLOW-64, FLOW-65).
struct Matcher {
    /// What the text begins with.
    first: Box<str>,
    /// Each: so many characters at least, then this literal.
    middle: Box<[(usize, Finder<'static>)]>,
    /// So many characters at least, then this end of the text. `None`: there is no star.
    last: Option<(usize, Box<str>)>,
}

impl Matcher {
    fn new(pattern: &str) -> Self {
        let mut words = String::new();
        super::normal::append_words(&mut words, pattern);
        let folded = words.trim_start().to_lowercase();
        let mut literals = folded.split('*');
        let first = literals.next().unwrap_or_default().into();
        let (mut middle, mut last) = (Vec::new(), None);
        let mut stars = 0;
        let mut rest = literals.peekable();
        while let Some(literal) = rest.next() {
            stars += 1;
            if rest.peek().is_none() {
                last = Some((stars, literal.into()));
            } else if !literal.is_empty() {
                middle.push((stars, Finder::new(literal).into_owned()));
                stars = 0;
            }
        }
        Matcher {
            first,
            middle: middle.into(),
            last,
        }
    }

    fn matches(&self, text: &str) -> bool {
        let Some(mut rest) = text.strip_prefix(&*self.first) else {
            return false;
        };
        let Some((stars, last)) = &self.last else {
            return rest.is_empty();
        };
        let Some(end) = rest.strip_suffix(&**last) else {
            return false;
        };
        rest = end;
        for (stars, literal) in &self.middle {
            let Some(beyond) = skip(rest, *stars) else {
                return false;
            };
            let Some(at) = literal.find(beyond.as_bytes()) else {
                return false;
            };
            rest = beyond.get(at + literal.needle().len()..).unwrap_or("");
        }
        skip(rest, *stars).is_some()
    }
}

/// What is left behind `count` characters, if there are so many.
fn skip(text: &str, count: usize) -> Option<&str> {
    let mut characters = text.chars();
    for _ in 0..count {
        characters.next()?;
    }
    Some(characters.as_str())
}
