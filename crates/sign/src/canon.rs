//! Canonical forms (RFC 6376 §3.4): what a hash is taken over. Both ends must come to the same
//! octets whatever a relay did to white space.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use sha2::{Digest, Sha256};

/// Octets collected before they are hashed.
const CHUNK: usize = 2048;
/// A stretch of this length is hashed where it stands; a shorter one is collected first.
const STRETCH: usize = 256;

/// How header or body are put into their canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are, but for empty lines at the end of the body.
    Simple,
    /// Besides, runs of white space are one blank, and there is none at the end of lines.
    Relaxed,
}

/// Hashes a body in its canonical form, in pieces of any size and in constant memory.
///
/// All but a few places of an ordinary body is its own canonical form ([`Oddities`]). Such
/// stretches are hashed where they stand; what lies between is looked at octet by octet.
pub struct BodyHasher {
    form: Form,
    sha256: Sha256,
    out: Vec<u8>,
    /// Octets that are hashed at most (`l=`).
    room: u64,
    /// Line ends that come to nothing if no more text follows.
    line_ends: u64,
    /// White space that comes to nothing at the end of a line.
    blank: bool,
    /// The last octet was a CR.
    cr: bool,
    is_empty: bool,
}

impl Default for BodyHasher {
    fn default() -> Self {
        BodyHasher::new(Form::Relaxed, None)
    }
}

impl BodyHasher {
    /// A hasher for that form, which takes `limit` octets of it at most.
    pub fn new(form: Form, limit: Option<u64>) -> Self {
        BodyHasher {
            form,
            sha256: Sha256::new(),
            out: Vec::new(),
            room: limit.unwrap_or(u64::MAX),
            line_ends: 0,
            blank: false,
            cr: false,
            is_empty: true,
        }
    }

    /// Takes the next octets of the body.
    pub fn update(&mut self, octets: &[u8]) {
        let mut oddities = Oddities::new(octets, self.form);
        let mut at = 0;
        while at < octets.len() {
            let mut end = at;
            if !self.is_amid() {
                end = oddities.next(at);
                let stretch = octets.get(at..end).unwrap_or_default();
                at += self.stretch(stretch);
            }
            // What is odd, and what decides only with the octets behind it.
            for &octet in octets.get(at..).unwrap_or_default() {
                self.octet(octet);
                at += 1;
                if at > end && !self.is_amid() {
                    break;
                }
            }
        }
    }

    /// Whether what the next octets come to depends on those before.
    fn is_amid(&self) -> bool {
        self.cr || self.blank
    }

    /// Takes a stretch without oddities, but for white space at its end. Returns the octets taken.
    fn stretch(&mut self, stretch: &[u8]) -> usize {
        let is_text = |octet: &u8| !matches!(octet, b' ' | b'\r' | b'\n');
        let Some(last) = stretch.iter().rposition(is_text) else {
            return 0;
        };
        let text = stretch.get(..=last).unwrap_or_default();
        self.flush_line_ends();
        self.is_empty = false;
        if text.len() < STRETCH {
            self.out.extend_from_slice(text);
            self.spill_if_full();
        } else {
            self.spill();
            self.hash(text);
        }
        text.len()
    }

    fn flush_line_ends(&mut self) {
        while self.line_ends > 0 {
            self.line_ends -= 1;
            self.out.extend_from_slice(b"\r\n");
            self.spill_if_full();
        }
    }

    fn octet(&mut self, octet: u8) {
        if self.cr {
            self.cr = false;
            if octet == b'\n' {
                self.blank = false;
                self.line_ends += 1;
                return;
            }
            // A CR alone is text like any other.
            self.text(b'\r');
        }
        match octet {
            b'\r' => self.cr = true,
            b' ' | b'\t' if self.form == Form::Relaxed => self.blank = true,
            octet => self.text(octet),
        }
    }

    /// The hash of the whole body.
    pub fn finish(mut self) -> [u8; 32] {
        if self.cr {
            self.text(b'\r');
        }
        // An empty body is one line end in the simple form and nothing in the relaxed one.
        if !self.is_empty || self.form == Form::Simple {
            self.out.extend_from_slice(b"\r\n");
        }
        self.spill();
        self.sha256.finalize().into()
    }

    fn text(&mut self, octet: u8) {
        self.flush_line_ends();
        if self.blank {
            self.blank = false;
            self.out.push(b' ');
        }
        self.out.push(octet);
        self.is_empty = false;
        self.spill_if_full();
    }

    fn spill_if_full(&mut self) {
        if self.out.len() >= CHUNK {
            self.spill();
        }
    }

    fn spill(&mut self) {
        let out = std::mem::take(&mut self.out);
        self.hash(&out);
        self.out = out;
        self.out.clear();
    }

    fn hash(&mut self, octets: &[u8]) {
        let length = usize::try_from(self.room).map_or(octets.len(), |r| r.min(octets.len()));
        self.sha256.update(octets.get(..length).unwrap_or(octets));
        self.room -= length as u64;
    }
}

/// Where octets are not their own relaxed form: at a tab, two blanks, a blank before CR. A CR or LF
/// alone is text, and one blank is one blank. In the simple form nothing is odd.
///
/// Each kind is sought again only when it has been passed: linear, whatever the octets.
struct Oddities<'a> {
    octets: &'a [u8],
    /// How each kind is found, and where it is next.
    next: [(Find, usize); 3],
}

type Find = fn(&[u8]) -> Option<usize>;

static TWO_BLANKS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"  "));
static BLANK_CR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b" \r"));

impl<'a> Oddities<'a> {
    fn new(octets: &'a [u8], form: Form) -> Self {
        let kinds: [Find; 3] = [
            |octets| memchr::memchr(b'\t', octets),
            |octets| TWO_BLANKS.find(octets),
            |octets| BLANK_CR.find(octets),
        ];
        let next = kinds.map(|find| match form {
            Form::Relaxed => (find, find(octets).unwrap_or(octets.len())),
            Form::Simple => (find, octets.len()),
        });
        Oddities { octets, next }
    }

    /// The first one at `from` or behind it; the end if there is none.
    fn next(&mut self, from: usize) -> usize {
        let mut first = self.octets.len();
        for (find, next) in &mut self.next {
            if *next < from {
                let found = self.octets.get(from..).and_then(*find);
                *next = found.map_or(self.octets.len(), |at| from + at);
            }
            first = first.min(*next);
        }
        first
    }
}

/// The relaxed form of a header field, with its CRLF: name in lower case, unfolded, runs of white
/// space one blank, none around the colon and at the end.
pub fn relaxed_field(field: &[u8], out: &mut Vec<u8>) {
    out.reserve(field.len() + 3);
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    let (name, body) = field.split_at(colon);
    out.extend(name.trim_ascii().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let mut rest = body.get(1..).unwrap_or_default();
    let mut begun = false;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at(end);
        rest = behind;
        let line = trim(line);
        if line.is_empty() {
            continue;
        }
        if begun {
            out.push(b' ');
        }
        begun = true;
        relaxed_line(line, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// The relaxed form of a line of a field that begins and ends with text.
fn relaxed_line(line: &[u8], out: &mut Vec<u8>) {
    // No early exit: compilers make it one pass over vectors.
    let behind = line.get(1..).unwrap_or_default();
    let odd = line.iter().zip(behind).fold(false, |odd, (&a, &b)| {
        odd | (a == b'\t') | (a == b'\r') | ((a == b' ') & (b == b' '))
    });
    if !odd {
        out.extend_from_slice(line);
        return;
    }
    let words = line.split(|&octet| is_white(octet));
    for (number, word) in words.filter(|word| !word.is_empty()).enumerate() {
        if number > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// White space within a field.
fn is_white(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

fn trim(line: &[u8]) -> &[u8] {
    let is_text = |&octet: &u8| !is_white(octet);
    match (
        line.iter().position(is_text),
        line.iter().rposition(is_text),
    ) {
        (Some(first), Some(last)) => line.get(first..=last).unwrap_or_default(),
        _ => &[],
    }
}

/// The SHA-256 of octets.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    Sha256::digest(octets).into()
}

#[cfg(test)]
mod tests;
