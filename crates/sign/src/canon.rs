//! Canonical forms (RFC 6376 §3.4): what a hash is taken over. Both ends must come to the same
//! octets whatever a relay did to white space.

use aws_lc_rs::digest::{Context, SHA256};
use memchr::memmem::Finder;

/// Octets collected before they are hashed.
const CHUNK: usize = 2048;

/// How header or body are put into their canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are, but for empty lines at the end of the body.
    Simple,
    /// Besides, runs of white space are one blank, and there is none at the end of lines.
    Relaxed,
}

/// Hashes a body in its canonical form, in pieces of any size and in constant memory.
pub struct BodyHasher {
    form: Form,
    context: Context,
    /// Finds two blanks; made once, since it costs more than to search a line.
    two_blanks: Finder<'static>,
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
            context: Context::new(&SHA256),
            two_blanks: Finder::new(b"  "),
            out: Vec::with_capacity(CHUNK + 8),
            room: limit.unwrap_or(u64::MAX),
            line_ends: 0,
            blank: false,
            cr: false,
            is_empty: true,
        }
    }

    /// Takes the next octets of the body.
    pub fn update(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if !self.cr && !self.blank {
                octets = self.plain_lines(octets);
            }
            // Up to the end of the line that needs a closer look.
            let end = memchr::memchr(b'\n', octets).map_or(octets.len(), |at| at + 1);
            let (line, rest) = octets.split_at(end);
            self.slowly(line);
            octets = rest;
        }
    }

    /// Takes whole lines that are their own canonical form; gives what is left.
    fn plain_lines<'a>(&mut self, mut octets: &'a [u8]) -> &'a [u8] {
        while let Some(end) = memchr::memchr(b'\r', octets) {
            let (line, rest) = octets.split_at(end);
            let Some(rest) = rest.strip_prefix(b"\r\n") else {
                break;
            };
            if !self.is_plain(line) {
                break;
            }
            if !line.is_empty() {
                self.flush_line_ends();
                self.out.extend_from_slice(line);
                self.is_empty = false;
                self.spill_if_full();
            }
            self.line_ends += 1;
            octets = rest;
        }
        octets
    }

    /// Whether a line is its own canonical form.
    fn is_plain(&self, line: &[u8]) -> bool {
        self.form == Form::Simple
            || (line.last() != Some(&b' ')
                && memchr::memchr(b'\t', line).is_none()
                && self.two_blanks.find(line).is_none())
    }

    fn flush_line_ends(&mut self) {
        while self.line_ends > 0 {
            self.line_ends -= 1;
            self.out.extend_from_slice(b"\r\n");
            self.spill_if_full();
        }
    }

    fn slowly(&mut self, octets: &[u8]) {
        for &octet in octets {
            if self.cr {
                self.cr = false;
                if octet == b'\n' {
                    self.blank = false;
                    self.line_ends += 1;
                    continue;
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
        hash(self.context)
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
        let length = usize::try_from(self.room).map_or(self.out.len(), |r| r.min(self.out.len()));
        self.context
            .update(self.out.get(..length).unwrap_or_default());
        self.room -= length as u64;
        self.out.clear();
    }
}

/// The relaxed form of a header field, with its CRLF: name in lower case, unfolded, runs of white
/// space one blank, none around the colon and at the end.
pub fn relaxed_field(field: &[u8], out: &mut Vec<u8>) {
    out.reserve(field.len() + 2);
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    let (name, body) = field.split_at(colon);
    out.extend(name.trim_ascii().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let (mut blank, mut begun) = (false, false);
    for &octet in body.get(1..).unwrap_or_default() {
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' => blank = true,
            octet => {
                if blank && begun {
                    out.push(b' ');
                }
                (blank, begun) = (false, true);
                out.push(octet);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The SHA-256 of octets.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(octets);
    hash(context)
}

fn hash(context: Context) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = context.finish();
    for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hash
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn hashed(form: Form, body: &[u8], piece: usize) -> String {
        let mut hasher = BodyHasher::new(form, None);
        for piece in body.chunks(piece.max(1)) {
            hasher.update(piece);
        }
        STANDARD.encode(hasher.finish())
    }

    /// The relaxed form of RFC 6376 §3.4.4, step by step over the whole body.
    fn relaxed(body: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let end = memchr::memmem::find(rest, b"\r\n");
            let line = &rest[..end.unwrap_or(rest.len())];
            rest = &rest[end.map_or(rest.len(), |at| at + 2)..];
            let blank = |octet: &u8| *octet == b' ' || *octet == b'\t';
            let mut reduced: Vec<u8> = Vec::new();
            for octet in line {
                match blank(octet) {
                    true if reduced.last() == Some(&b' ') => {}
                    true => reduced.push(b' '),
                    false => reduced.push(*octet),
                }
            }
            if reduced.last() == Some(&b' ') {
                reduced.pop();
            }
            lines.push(reduced);
        }
        while lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        lines
            .into_iter()
            .flat_map(|line| [line, b"\r\n".to_vec()].concat())
            .collect()
    }

    #[test]
    fn relay_51_trailing_white_space_is_no_part_of_a_relaxed_body() {
        for body in [
            "Hello\r\n  \r\n",
            "Hello\r\n",
            "Hello",
            "Hello \t\r\n\r\n \r\n",
        ] {
            let hash = hashed(Form::Relaxed, body.as_bytes(), 100);
            assert!(hash.starts_with("Ba3gj8+x"), "{body:?}");
        }
        for empty in ["", " \r\n", "\r\n\r\n", "\t"] {
            let hash = hashed(Form::Relaxed, empty.as_bytes(), 100);
            assert!(hash.starts_with("47DEQpj8"), "{empty:?}");
        }
    }

    #[test]
    fn relay_51_the_hash_does_not_depend_on_the_pieces() {
        let mut body = Vec::new();
        for number in 0..2000u32 {
            let line: &[u8] = match number % 7 {
                0 => b"\r\n",
                1 => b"  two  blanks \t\r\n",
                2 => b"a\rb\nc\r\n",
                3 => b"\t tabs\tx\r\n",
                _ => b"ordinary text of a line\r\n",
            };
            body.extend_from_slice(line);
        }
        body.extend_from_slice(b"end \r\n\r\n \r");
        for form in [Form::Simple, Form::Relaxed] {
            let whole = hashed(form, &body, body.len());
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(hashed(form, &body, piece), whole, "{piece}");
            }
        }
        let expected = STANDARD.encode(sha256(&relaxed(&body)));
        assert_eq!(hashed(Form::Relaxed, &body, 100), expected);
    }

    #[test]
    fn relay_51_the_example_of_rfc_6376() {
        let mut out = Vec::new();
        relaxed_field(b"A: X\r\n", &mut out);
        relaxed_field(b"B : Y\t\r\n\tZ  \r\n", &mut out);
        assert_eq!(out, b"a:X\r\nb:Y Z\r\n");
        let body = b" C \r\nD \t E\r\n\r\n\r\n";
        let of = |octets: &[u8]| STANDARD.encode(sha256(octets));
        assert_eq!(hashed(Form::Relaxed, body, 9), of(b" C\r\nD E\r\n"));
        assert_eq!(hashed(Form::Simple, body, 9), of(b" C \r\nD \t E\r\n"));
        assert_eq!(hashed(Form::Simple, b"", 9), of(b"\r\n"));
        let mut cut = BodyHasher::new(Form::Simple, Some(3));
        cut.update(body);
        assert_eq!(STANDARD.encode(cut.finish()), of(b" C "));
    }
}
