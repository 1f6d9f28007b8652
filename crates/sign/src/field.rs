//! The fields of a header, as octets.

use std::collections::HashMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Fields that an ordinary message has at most.
const USUAL: usize = 24;

/// One header field with its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As it stands, with continuation lines and the final CRLF where there is one.
    pub raw: &'a [u8],
    /// Without white space around it.
    pub name: &'a [u8],
    /// Behind the colon.
    pub body: &'a [u8],
}

impl Field<'_> {
    /// Whether it bears that name, whatever the case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a header by their names, to be taken as `h=` names them: each time the last
/// instance that is not taken yet (RFC 6376 §5.4.2). Linear, whatever the header and the list.
pub struct Instances<'a>(HashMap<Vec<u8>, Vec<Field<'a>>>);

impl<'a> Instances<'a> {
    /// All of these fields.
    pub fn new(fields: impl IntoIterator<Item = Field<'a>>) -> Self {
        let mut instances: HashMap<Vec<u8>, Vec<Field<'a>>> = HashMap::new();
        for field in fields {
            let name = field.name.to_ascii_lowercase();
            instances.entry(name).or_default().push(field);
        }
        Instances(instances)
    }

    /// The next instance of that name, whatever the case.
    pub fn take(&mut self, name: &str) -> Option<Field<'a>> {
        let name = name.to_ascii_lowercase();
        self.0.get_mut(name.as_bytes())?.pop()
    }
}

/// The fields of a header, from the first octet to the empty line or the end. A line without a
/// colon belongs to nothing and is left out.
pub fn fields(header: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::with_capacity(USUAL);
    let mut rest = header;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") && !rest.starts_with(b"\n") {
        let mut end = 0;
        loop {
            let tail = rest.get(end..).unwrap_or_default();
            end = memchr::memchr(b'\n', tail).map_or(rest.len(), |at| end + at + 1);
            let folds = rest
                .get(end)
                .is_some_and(|&next| next == b' ' || next == b'\t');
            if !folds {
                break;
            }
        }
        let (raw, tail) = rest.split_at(end);
        rest = tail;
        if let Some(colon) = memchr::memchr(b':', raw) {
            let (name, body) = raw.split_at(colon);
            fields.push(Field {
                raw,
                name: name.trim_ascii(),
                body: body.get(1..).unwrap_or_default(),
            });
        }
    }
    fields
}

static EMPTY_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Header and body of a message: split at the first empty line, which belongs to neither.
pub fn split(message: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match EMPTY_LINE.find(message) {
        Some(at) => {
            let (header, body) = message.split_at(at + 2);
            (header, body.get(2..).unwrap_or_default())
        }
        None => (message, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_taken_from_the_last_and_once() {
        let header = b"A: 1\r\nb: 2\r\na : 3\r\n";
        let mut instances = Instances::new(fields(header));
        let mut next = |name: &str| instances.take(name).map(|field| field.body);
        assert_eq!(next("a"), Some(&b" 3\r\n"[..]));
        assert_eq!(next("A"), Some(&b" 1\r\n"[..]));
        assert_eq!((next("a"), next("c")), (None, None));
    }

    #[test]
    fn fields_keep_their_octets() {
        let header = b"A: 1\r\n 2\r\nno field\r\nb :\tx\r\n\r\nC: body\r\n";
        let found = fields(header);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].raw, b"A: 1\r\n 2\r\n");
        assert!(found[1].is("B") && found[1].body == b"\tx\r\n");
        assert_eq!(split(header).1, b"C: body\r\n");
        assert_eq!(split(b"A: 1\r\n"), (&b"A: 1\r\n"[..], &b""[..]));
    }
}
