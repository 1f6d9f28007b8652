//! Lists of tags: `v=1; a=rsa-sha256` (RFC 6376 §3.2).

/// Most tags of one list. The standards know fewer than twenty.
const MOST_TAGS: usize = 64;

/// A list of tags as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// Reads a list. `None`: it is none, a tag stands twice, or there are more than 64.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut tags: Vec<(&str, &str)> = Vec::new();
        let mut parts = text.split(';').peekable();
        while let Some(part) = parts.next() {
            let part = part.trim_matches(is_white);
            if part.is_empty() {
                // Only the last one may be left empty.
                if parts.peek().is_some() {
                    return None;
                }
                break;
            }
            if tags.len() == MOST_TAGS {
                return None;
            }
            let (name, value) = part.split_once('=')?;
            let name = name.trim_end_matches(is_white);
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !begins || !name.chars().all(valid) || tags.iter().any(|(other, _)| *other == name) {
                return None;
            }
            tags.push((name, value.trim_matches(is_white)));
        }
        Some(Tags(tags))
    }

    /// The value of a tag, without white space around it.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| *value)
    }

    /// The value of a tag with all white space taken out.
    pub fn packed(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        Some(value.chars().filter(|c| !is_white(*c)).collect())
    }
}

/// White space in a folded field.
pub fn is_white(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The field as it stands, but for the value of its tag `b`, which is taken out.
pub fn without_signature(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let colon = memchr::memchr(b':', field).map_or(0, |at| at + 1);
    let (name, body) = field.split_at(colon);
    out.extend_from_slice(name);
    let mut parts = body.split(|&octet| octet == b';').peekable();
    while let Some(part) = parts.next() {
        let equals = memchr::memchr(b'=', part);
        let is_signature =
            equals.is_some_and(|at| part.get(..at).is_some_and(|name| name.trim_ascii() == b"b"));
        match equals.filter(|_| is_signature) {
            Some(at) => {
                out.extend_from_slice(part.get(..=at).unwrap_or_default());
                // The line end of the field is no part of its last value.
                if parts.peek().is_none() && part.ends_with(b"\r\n") {
                    out.extend_from_slice(b"\r\n");
                }
            }
            None => out.extend_from_slice(part),
        }
        if parts.peek().is_some() {
            out.push(b';');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_faulty_ones_are_none() {
        let tags = Tags::parse(" a = x y ;\r\n b=1\r\n 2; ").unwrap();
        assert_eq!((tags.get("a"), tags.get("c")), (Some("x y"), None));
        assert_eq!(tags.packed("b").as_deref(), Some("12"));
        for bad in ["a=1;a=2", "a", "a=1;;b=2", "=1", "1a=2", "a-b=1"] {
            assert_eq!(Tags::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_signature_is_taken_out_and_nothing_else() {
        let of = |field: &str| String::from_utf8(without_signature(field.as_bytes())).unwrap();
        assert_eq!(of("X: a=1; b=ab\r\n c; bh=q\r\n"), "X: a=1; b=; bh=q\r\n");
        assert_eq!(of("X: a=1; bh=b; b =abc=\r\n"), "X: a=1; bh=b; b =\r\n");
    }
}
