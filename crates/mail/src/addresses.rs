//! The addresses of an address field as programs on this host write it: names without a domain
//! (`root (Cron Daemon)`) included, and given one (QUEUE-24).
//!
//! One pass without recursion, as in `from`. There it is asked who a message may claim to come from;
//! here, who is to get it, and what a name without a domain means.

use std::borrow::Cow;

/// More addresses than this are not read from one field.
const MOST: usize = 100_000;

/// An address as it stands in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Without comments and blanks, octets that are not UTF-8 replaced.
    pub text: String,
    pub has_domain: bool,
    /// It is one word, as an address is, and no phrase.
    pub is_one: bool,
    /// Behind its last octet in the field.
    end: usize,
}

/// The addresses of the body of a field, or of a word of a command line; `None`: something in it is
/// open at the end, or there are too many. Empty groups hold none.
pub fn addresses(body: &[u8]) -> Option<Vec<Written>> {
    let mut reader = Reader {
        octets: body,
        at: 0,
    };
    let mut found = Vec::new();
    let mut spec = Spec::default();
    // The address of this entry stood in angle brackets.
    let mut complete = false;
    loop {
        let next = reader.next();
        match next {
            Some(b'(') => reader.comment()?,
            Some(b' ' | b'\t' | b'\r' | b'\n') => spec.gap = true,
            Some(b'"') => reader.quoted(&mut spec)?,
            Some(b'[') => reader.literal(&mut spec)?,
            Some(b'<') => {
                // What stood before is a name.
                spec = reader.angle()?;
                found.extend(std::mem::take(&mut spec).written());
                complete = true;
            }
            Some(b':') => spec = Spec::default(),
            Some(b',' | b';') | None => {
                let entry = std::mem::take(&mut spec);
                if !complete {
                    found.extend(entry.written());
                }
                complete = false;
            }
            Some(octet) => spec.word(octet, reader.at),
        }
        if found.len() > MOST {
            return None;
        }
        if next.is_none() {
            return Some(found);
        }
    }
}

/// The body of an address field with `@origin` behind each address that has no domain.
pub fn qualified<'a>(body: &'a [u8], origin: &str) -> Cow<'a, [u8]> {
    let all = addresses(body).unwrap_or_default();
    let mut bare = all.iter().filter(|a| !a.has_domain && a.is_one).peekable();
    if bare.peek().is_none() {
        return Cow::Borrowed(body);
    }
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut from = 0;
    for address in bare {
        out.extend_from_slice(body.get(from..address.end).unwrap_or_default());
        out.push(b'@');
        out.extend_from_slice(origin.as_bytes());
        from = address.end;
    }
    out.extend_from_slice(body.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// An address being collected.
#[derive(Default)]
struct Spec {
    text: Vec<u8>,
    /// An `@` outside quotes was seen.
    at: bool,
    /// Blanks were seen since the last octet.
    gap: bool,
    /// Two words stand side by side.
    phrase: bool,
    end: usize,
}

impl Spec {
    /// Takes an octet that ends at `end`.
    fn word(&mut self, octet: u8, end: usize) {
        let joins = |b: u8| matches!(b, b'.' | b'@');
        let before = self.text.last().copied();
        if self.gap && before.is_some_and(|b| !joins(b)) && !joins(octet) {
            self.phrase = true;
        }
        self.gap = false;
        self.at |= octet == b'@';
        self.text.push(octet);
        self.end = end;
    }

    fn written(self) -> Option<Written> {
        if self.text.is_empty() {
            return None;
        }
        Some(Written {
            text: String::from_utf8_lossy(&self.text).into_owned(),
            has_domain: self.at,
            is_one: !self.phrase,
            end: self.end,
        })
    }
}

struct Reader<'a> {
    octets: &'a [u8],
    /// Behind the last octet read.
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let octet = self.octets.get(self.at).copied()?;
        self.at += 1;
        Some(octet)
    }

    /// Passes a comment whose parenthesis is open; comments nest.
    fn comment(&mut self) -> Option<()> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next()? {
                b'\\' => _ = self.next()?,
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }

    /// Takes a quoted string as written, without the line ends of folding.
    fn quoted(&mut self, spec: &mut Spec) -> Option<()> {
        spec.word(b'"', self.at);
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => {
                    spec.text.push(b'\\');
                    let octet = self.next()?;
                    spec.text.push(octet);
                }
                b'\r' | b'\n' => {}
                octet => spec.text.push(octet),
            }
        }
        spec.text.push(b'"');
        spec.end = self.at;
        Some(())
    }

    /// Takes an address literal as written.
    fn literal(&mut self, spec: &mut Spec) -> Option<()> {
        spec.word(b'[', self.at);
        loop {
            let octet = self.next()?;
            spec.text.push(octet);
            if octet == b']' {
                spec.end = self.at;
                return Some(());
            }
        }
    }

    /// Takes what stands between angle brackets; an obsolete route in front is dropped.
    fn angle(&mut self) -> Option<Spec> {
        let mut spec = Spec::default();
        loop {
            match self.next()? {
                b'>' => return Some(spec),
                b'(' => self.comment()?,
                b' ' | b'\t' | b'\r' | b'\n' => spec.gap = true,
                b'"' => self.quoted(&mut spec)?,
                b'[' => self.literal(&mut spec)?,
                b':' if spec.text.first() == Some(&b'@') => spec = Spec::default(),
                octet => spec.word(octet, self.at),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<String> {
        let all = addresses(body.as_bytes()).unwrap();
        all.into_iter().map(|a| a.text).collect()
    }

    #[test]
    fn queue_24_addresses_are_found_as_programs_write_them() {
        for (body, expected) in [
            (" root (Cron Daemon)", vec!["root"]),
            (" \"Cron Daemon\" <root>", vec!["root"]),
            (
                " anna@example.org,bert@example.org",
                vec!["anna@example.org", "bert@example.org"],
            ),
            (
                " Anna Lind <anna@example.org>,\r\n\tbert (at (his) work) , carl",
                vec!["anna@example.org", "bert", "carl"],
            ),
            (
                " friends: anna@example.org, bert; dora",
                vec!["anna@example.org", "bert", "dora"],
            ),
            (" undisclosed-recipients:;", vec![]),
            (" <>", vec![]),
            ("", vec![]),
            (
                " \"a, b\"@example.org, <@relay.example:c@example.org>",
                vec!["\"a, b\"@example.org", "c@example.org"],
            ),
            (
                " x@[IPv6:2001:db8::1], y @ example.org",
                vec!["x@[IPv6:2001:db8::1]", "y@example.org"],
            ),
            (" \"L, Anna\" <a@example.org>", vec!["a@example.org"]),
        ] {
            assert_eq!(texts(body), expected, "{body}");
        }
        for open in ["(root", "\"root", "<root", "x@[192.0.2.1", "a\\", "(\\"] {
            let read = addresses(open.as_bytes());
            assert_eq!(read.is_none(), open != "a\\", "{open}");
        }
        assert!(!addresses(b"Lind Anna").unwrap()[0].is_one);
    }

    #[test]
    fn queue_24_names_without_a_domain_get_the_origin() {
        for (body, expected) in [
            (" root (Cron Daemon)", " root@example.com (Cron Daemon)"),
            (
                " \"Cron Daemon\" <root>",
                " \"Cron Daemon\" <root@example.com>",
            ),
            (" anna@example.org", " anna@example.org"),
            (
                " bert , carl@example.org,\r\n dora",
                " bert@example.com , carl@example.org,\r\n dora@example.com",
            ),
            (" all: bert;", " all: bert@example.com;"),
            (" \"b c\"", " \"b c\"@example.com"),
            (" < bert (him) >", " < bert@example.com (him) >"),
            // A phrase is no address, and what is open is left alone.
            (" Lind Anna", " Lind Anna"),
            (" bert, (open", " bert, (open"),
        ] {
            let text = qualified(body.as_bytes(), "example.com");
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
    }
}
