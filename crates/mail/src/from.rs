//! The mailboxes of a From field (RFC 5322 §3.4 and §4.4): the first for `@from`, all of them for
//! `granted_from_addr`.
//!
//! It reads as generously as mail is written: groups, comments, quoted strings, encoded words,
//! unquoted commas in names. It is one pass without recursion, so that no nesting costs anything.
//! What it finds is parsed by `galerne_smtp`, so nothing gets out that could not be an address.

use galerne_smtp::Mailbox;

/// No address is longer than this; what is longer is not collected.
const ADDRESS_LIMIT: usize = 1024;
/// A From field with more mailboxes is not read as one.
const MAILBOXES_LIMIT: usize = 1000;

/// The first mailbox of the body of a From field; `None`: no first mailbox that could exist.
///
/// Of several mailboxes the first one counts. A piece between commas without any `@` is part of a
/// display name somebody forgot to quote.
pub fn first_mailbox(body: &[u8]) -> Option<Mailbox> {
    let mut reader = Reader {
        octets: body,
        at: 0,
    };
    let mut spec = Spec::default();
    while let Some(octet) = reader.next() {
        match octet {
            b'(' => reader.comment()?,
            b'"' => reader.quoted(&mut spec)?,
            b'[' if spec.at => reader.literal(&mut spec)?,
            b'<' => return reader.angle(),
            // The name of a group ends, or one of its members, or an entry of the list.
            b':' => spec = Spec::default(),
            b',' | b';' if spec.at => break,
            b',' | b';' => spec = Spec::default(),
            b' ' | b'\t' | b'\r' | b'\n' => spec.gap = !spec.text.is_empty(),
            _ => spec.word(octet),
        }
    }
    spec.mailbox()
}

/// All mailboxes of the body of a From field; `None`: there is none, too many, or something in it
/// is neither a mailbox nor a name for what follows.
///
/// Whatever a reader of mail could show as an address counts: an unquoted address that stands as
/// the name of another one must be a mailbox as well, and is one of those found.
pub fn all_mailboxes(body: &[u8]) -> Option<Vec<Mailbox>> {
    let mut reader = Reader {
        octets: body,
        at: 0,
    };
    let mut found = Vec::new();
    let mut spec = Spec::default();
    // Pieces of a name that somebody forgot to quote; only angle brackets may follow them.
    let mut named = false;
    // The mailbox of this entry stood in angle brackets: only comments may follow.
    let mut complete = false;
    loop {
        let next = reader.next();
        match next {
            Some(b'(') => reader.comment()?,
            Some(b' ' | b'\t' | b'\r' | b'\n') => spec.gap = !spec.text.is_empty(),
            None | Some(b',' | b';') => {
                let entry = std::mem::take(&mut spec);
                named |= !entry.text.is_empty() && !entry.at;
                if named && (entry.at || next != Some(b',')) {
                    return None;
                }
                if entry.at {
                    found.push(entry.mailbox()?);
                }
                complete = false;
            }
            Some(_) if complete => return None,
            Some(b'"') => reader.quoted(&mut spec)?,
            Some(b'[') if spec.at => reader.literal(&mut spec)?,
            Some(b'<') => {
                let name = std::mem::take(&mut spec);
                if name.at {
                    found.push(name.mailbox()?);
                }
                found.push(reader.angle()?);
                (named, complete) = (false, true);
            }
            Some(b':') if spec.at => return None,
            Some(b':') => (spec, named) = (Spec::default(), false),
            Some(octet) => spec.word(octet),
        }
        if found.len() > MAILBOXES_LIMIT {
            return None;
        }
        if next.is_none() {
            return Some(found).filter(|found| !found.is_empty());
        }
    }
}

/// An address being collected, without comments and blanks.
#[derive(Default)]
struct Spec {
    text: Vec<u8>,
    /// An `@` outside quotes was seen.
    at: bool,
    /// Blanks were seen since the last octet.
    gap: bool,
    /// Two words stand side by side, or it is too long: this is no address.
    broken: bool,
}

impl Spec {
    fn word(&mut self, octet: u8) {
        let joins = |b: &u8| matches!(b, b'.' | b'@');
        if self.gap && !joins(&octet) && !self.text.last().is_some_and(joins) {
            self.broken = true;
        }
        self.gap = false;
        self.at |= octet == b'@';
        self.push(octet);
    }

    fn push(&mut self, octet: u8) {
        if self.text.len() < ADDRESS_LIMIT {
            self.text.push(octet);
        } else {
            self.broken = true;
        }
    }

    fn mailbox(self) -> Option<Mailbox> {
        if self.broken {
            return None;
        }
        Mailbox::parse(std::str::from_utf8(&self.text).ok()?).ok()
    }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let octet = self.octets.get(self.at).copied();
        self.at += 1;
        octet
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
        spec.word(b'"');
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => {
                    spec.push(b'\\');
                    spec.push(self.next()?);
                }
                b'\r' | b'\n' => {}
                octet => spec.push(octet),
            }
        }
        spec.push(b'"');
        Some(())
    }

    /// Takes an address literal as written.
    fn literal(&mut self, spec: &mut Spec) -> Option<()> {
        spec.word(b'[');
        loop {
            let octet = self.next()?;
            spec.push(octet);
            if octet == b']' {
                return Some(());
            }
        }
    }

    /// Takes what stands between angle brackets; an obsolete route in front is dropped.
    fn angle(&mut self) -> Option<Mailbox> {
        let mut spec = Spec::default();
        loop {
            match self.next()? {
                b'>' => return spec.mailbox(),
                b'(' => self.comment()?,
                b'"' => self.quoted(&mut spec)?,
                b'[' if spec.at => self.literal(&mut spec)?,
                b':' if spec.text.first() == Some(&b'@') => spec = Spec::default(),
                b' ' | b'\t' | b'\r' | b'\n' => spec.gap = !spec.text.is_empty(),
                octet => spec.word(octet),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(body: &str) -> Option<String> {
        first_mailbox(body.as_bytes()).map(|m| m.to_string())
    }

    #[test]
    fn relay_45_the_from_address_is_found_in_every_form() {
        for (body, address) in [
            (" a@example.com", "a@example.com"),
            (" <a@example.com>", "a@example.com"),
            (" Anna Example <a@example.com>", "a@example.com"),
            (" \"Example, Anna <x@y>\" <a@example.com>", "a@example.com"),
            (
                " =?UTF-8?Q?J=C3=BCrgen_=40_home?= <j@example.com>",
                "j@example.com",
            ),
            (" J\u{fc}rgen <j@example.com>", "j@example.com"),
            (" Example, Anna <a@example.com>", "a@example.com"),
            (" a@example.com, b@example.com", "a@example.com"),
            (" A <a@example.com>, B <b@example.com>", "a@example.com"),
            (
                " a@example.com (Anna (the \\) first) x@y), b@example.com",
                "a@example.com",
            ),
            (" (x@y) a (c) . b @ (d) example . com", "a.b@example.com"),
            ("\r\n Anna\r\n <a@example.com\r\n >", "a@example.com"),
            (" Team: A <a@example.com>, b@example.com;", "a@example.com"),
            (" Team: a@example.com;", "a@example.com"),
            (" Nobody:;, a@example.com", "a@example.com"),
            (" , ,a@example.com", "a@example.com"),
            (" <@relay.example.net,@b:a@example.com>", "a@example.com"),
            (" \"john doe\"@example.com", "\"john doe\"@example.com"),
            (" <\"a@b\"@example.com>", "\"a@b\"@example.com"),
            (" a@[192.0.2.1]", "a@[192.0.2.1]"),
            (" x@shown.example <a@example.com>", "a@example.com"),
        ] {
            assert_eq!(first(body).as_deref(), Some(address), "{body:?}");
        }
    }

    #[test]
    fn t_05_what_is_no_address_gives_none() {
        for body in [
            "",
            " ",
            " Anna",
            " Nobody:;",
            " <>",
            " <a@example.com",
            " \"a@example.com",
            " (a@example.com",
            " a b@example.com c",
            " <a@b..example.com>",
            " <a@example.com\0>",
            " <a\u{1}@example.com>",
            " a@example.com b@example.com",
        ] {
            assert_eq!(first(body), None, "{body:?}");
        }
        assert!(first_mailbox(b" <\xff@example.com>").is_none());
    }

    fn all(body: &str) -> Option<Vec<String>> {
        let all = all_mailboxes(body.as_bytes())?;
        Some(all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn conf_55_all_mailboxes_of_the_field_are_found() {
        for (body, addresses) in [
            (" a@x.example", "a@x.example"),
            (" Anna (x@y) <a@x.example> (z@y)", "a@x.example"),
            (" \"z@y, x\" <a@x.example>\r\n", "a@x.example"),
            (" Example, Anna <a@x.example>", "a@x.example"),
            (" , ,a@x.example,", "a@x.example"),
            (" a@x.example, b@y.example", "a@x.example b@y.example"),
            (" A <a@x.example>,\r\n B <b@y>", "a@x.example b@y"),
            (" Team: A <a@x>, b@y; , c@z", "a@x b@y c@z"),
            (" Nobody:;, a@x", "a@x"),
            (" b@y <a@x>", "b@y a@x"),
            (" a@[192.0.2.1], \"b c\"@y", "a@[192.0.2.1] \"b c\"@y"),
        ] {
            let expected: Vec<String> = addresses.split(' ').map(str::to_owned).collect();
            let found = all(body).map(|all| all.join(" "));
            assert_eq!(found, Some(expected.join(" ")), "{body:?}");
        }
    }

    #[test]
    fn conf_55_text_beside_the_mailboxes_makes_it_no_list_of_them() {
        for body in [
            "",
            " ",
            " Nobody:;",
            " Anna",
            " a@x, evil",
            " evil, a@x",
            " <a@x> evil",
            " <a@x> b@y",
            " <a@x> <b@y>",
            " <a@x> \"evil\"",
            " a@x, <>",
            " a@x b@y",
            " see b@y <a@x>",
            " b@y: a@x;",
            " Team: a@x, evil;",
            " a@x, \"open",
            " a@x, (open",
        ] {
            assert_eq!(all(body), None, "{body:?}");
        }
    }

    #[test]
    fn t_09_many_mailboxes_are_bounded() {
        let of = |count: usize| all(&" a@x,".repeat(count)).map(|all| all.len());
        assert_eq!((of(1000), of(1001)), (Some(1000), None));
        assert_eq!(of(250_000), None);
        assert_eq!(all(&",".repeat(250_000)), None);
    }

    #[test]
    fn t_09_deep_nesting_and_length_cost_nothing() {
        let mut body = vec![b'('; 200_000];
        assert_eq!(first_mailbox(&body), None);
        body.extend(vec![b')'; 200_000]);
        body.extend(b" a@example.com");
        assert_eq!(first_mailbox(&body).unwrap().as_str(), "a@example.com");
        let long = format!("{}@example.com", "a".repeat(4_000_000));
        assert_eq!(first(&long), None);
        assert_eq!(first(&",".repeat(250_000)), None);
    }
}
