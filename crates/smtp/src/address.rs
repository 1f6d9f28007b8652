//! Mailboxes and paths (RFC 5321 §4.1.2, RFC 6531 §3.3), kept exactly as they were written.
//!
//! Parsing is linear and bounded: a text longer than any address can be is refused before it is
//! looked at. Nothing here knows DNS or policy; `server`, the directive parser and the HTTP door
//! call it.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest local part in octets (RFC 5321 §4.5.3.1.1).
pub const LOCAL_MAX: usize = 64;
/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_MAX: usize = 255;
/// Longest mailbox in octets: a path of 256 less its two brackets (RFC 5321 §4.5.3.1.3).
pub const MAILBOX_MAX: usize = 254;

/// One mailbox, `local@domain`, in the octets the client wrote: case, quotes and all.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    text: Box<str>,
    at: usize,
}

impl Mailbox {
    /// Parses `local@domain`, UTF-8 included (see [`Mailbox::is_ascii`]).
    ///
    /// The local part is a dot-string or a quoted string; the domain a name or an address
    /// literal. Deviation: a local part may have dots anywhere (`a..b`, `a.`), since addresses of
    /// this kind exist and only their own server can judge them; a domain may have underscores.
    pub fn parse(text: &str) -> Result<Mailbox, AddressError> {
        if text.len() > MAILBOX_MAX {
            return Err(too_long(text));
        }
        let (local, rest) = split_local(text)?;
        let Some(domain) = rest.strip_prefix('@') else {
            return Err(AddressError::Syntax("there is no @ after the local part"));
        };
        check_domain(domain)?;
        if local.is_empty() {
            return Err(AddressError::Impossible("the local part is empty"));
        }
        if local.len() > LOCAL_MAX {
            return Err(AddressError::Impossible(
                "the local part is longer than 64 octets",
            ));
        }
        Ok(Mailbox {
            at: local.len(),
            text: text.into(),
        })
    }

    /// The whole address as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part as written, with its quotes if it has any.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or("")
    }

    /// The domain as written; an address literal keeps its brackets.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or("")
    }

    /// Whether no octet is outside ASCII, so that the address needs no SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The domain in lower case with A-labels (RFC 5890): the form to compare, to look up and to
    /// group by. An address literal is only lower-cased.
    pub fn ascii_domain(&self) -> Cow<'_, str> {
        let domain = self.domain();
        if domain.is_ascii() {
            return lower(domain);
        }
        // It was converted once already when the mailbox was parsed.
        idna::domain_to_ascii_cow(domain.as_bytes(), idna::AsciiDenyList::EMPTY)
            .unwrap_or_else(|_| lower(domain))
    }

    /// The address of a literal domain, `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    pub fn literal(&self) -> Option<IpAddr> {
        literal(self.domain())
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl std::str::FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Mailbox::parse(text)
    }
}

/// The sender of an envelope: a mailbox, or the null sender `<>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `MAIL FROM:<>`: a notification that must never cause another.
    Null,
    /// An ordinary sender.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Parses what stands between the brackets; a source route is dropped (RFC 5321 §4.1.1.3).
    pub fn parse(inside: &str) -> Result<ReversePath, AddressError> {
        if inside.is_empty() {
            return Ok(ReversePath::Null);
        }
        Mailbox::parse(without_route(inside)?).map(ReversePath::Mailbox)
    }

    /// The mailbox, unless it is the null sender.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// What stands between the brackets; empty for the null sender.
    pub fn as_str(&self) -> &str {
        self.mailbox().map_or("", Mailbox::as_str)
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

/// The recipient of a RCPT command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// An ordinary recipient. `<Postmaster>` has got the domain of the server.
    Mailbox(Mailbox),
    /// It reads as a path, but no such address can exist (`a@b..c`, `a@`, `@b`): 9.2.2 (RELAY-78).
    Impossible {
        /// As written, at most 254 octets of it.
        text: String,
        /// One cause, in words for a person.
        why: &'static str,
    },
}

impl ForwardPath {
    /// Parses what stands between the brackets; `hostname` is what `<Postmaster>` is at
    /// (RFC 5321 §4.1.1.3). An error is a path that cannot be parsed at all.
    pub fn parse(inside: &str, hostname: &str) -> Result<ForwardPath, &'static str> {
        let parsed = if inside.eq_ignore_ascii_case("postmaster") {
            Mailbox::parse(&format!("{inside}@{hostname}"))
        } else {
            without_route(inside).and_then(Mailbox::parse)
        };
        match parsed {
            Ok(mailbox) => Ok(ForwardPath::Mailbox(mailbox)),
            Err(AddressError::Impossible(why)) => {
                let end = (0..=MAILBOX_MAX)
                    .rev()
                    .find(|&n| inside.is_char_boundary(n))
                    .unwrap_or(0);
                let text = inside
                    .get(..end.min(inside.len()))
                    .unwrap_or(inside)
                    .to_owned();
                Ok(ForwardPath::Impossible { text, why })
            }
            Err(AddressError::Syntax(why)) => Err(why),
        }
    }
}

/// Why a text is no mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It cannot be parsed at all.
    Syntax(&'static str),
    /// It has the shape of an address, but none like it can exist.
    Impossible(&'static str),
}

impl AddressError {
    /// The cause, in words for a person.
    pub fn why(self) -> &'static str {
        match self {
            AddressError::Syntax(why) | AddressError::Impossible(why) => why,
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

impl std::error::Error for AddressError {}

/// The address inside an address literal with its brackets (RFC 5321 §4.1.3).
pub fn literal(domain: &str) -> Option<IpAddr> {
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inside.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => {
            inside.get(5..)?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => inside.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// A domain name in lower case with A-labels, or why it cannot be one. Address literals are not
/// domain names.
pub fn domain_to_ascii(domain: &str) -> Result<Cow<'_, str>, AddressError> {
    check_domain(domain)?;
    if domain.starts_with('[') {
        return Err(AddressError::Impossible(
            "an address literal is not a domain name",
        ));
    }
    if domain.is_ascii() {
        return Ok(lower(domain));
    }
    idna::domain_to_ascii_cow(domain.as_bytes(), idna::AsciiDenyList::EMPTY)
        .map_err(|_| AddressError::Impossible("the domain is not a valid internationalized name"))
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// The error for an over-long text: only a short look at it, and never at all of it.
fn too_long(text: &str) -> AddressError {
    match text
        .as_bytes()
        .iter()
        .take(MAILBOX_MAX)
        .any(|b| b.is_ascii_control())
    {
        true => AddressError::Syntax("the address has a control character"),
        false => AddressError::Impossible("the address is longer than 254 octets"),
    }
}

/// Splits the local part off; the rest begins with `@` if the text is an address.
fn split_local(text: &str) -> Result<(&str, &str), AddressError> {
    let bytes = text.as_bytes();
    let end = if bytes.first() == Some(&b'"') {
        quoted_end(bytes)?
    } else {
        bytes
            .iter()
            .position(|&b| !is_atom(b) && b != b'.')
            .unwrap_or(bytes.len())
    };
    match text.split_at_checked(end) {
        Some((local, rest)) if rest.is_empty() || rest.starts_with('@') => Ok((local, rest)),
        _ => Err(AddressError::Syntax(
            "the local part has a character that is not allowed there",
        )),
    }
}

/// The offset after the closing quote.
fn quoted_end(bytes: &[u8]) -> Result<usize, AddressError> {
    let mut escaped = false;
    for (offset, &b) in bytes.iter().enumerate().skip(1) {
        if b < b' ' || b == 0x7f {
            return Err(AddressError::Syntax(
                "the quoted local part has a control character",
            ));
        }
        match b {
            _ if escaped && !b.is_ascii() => {
                return Err(AddressError::Syntax("only ASCII may follow a backslash"));
            }
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(offset + 1),
            _ => {}
        }
    }
    Err(AddressError::Syntax("the quoted local part does not end"))
}

/// Octets of an atom (RFC 5322 §3.2.3), and those of UTF-8 (RFC 6531 §3.3).
fn is_atom(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b >= 0x80 || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

fn check_domain(domain: &str) -> Result<(), AddressError> {
    if domain.starts_with('[') {
        return check_literal(domain);
    }
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_' || b >= 0x80;
    if !domain.bytes().all(allowed) {
        return Err(AddressError::Syntax(
            "the domain has a character that is not allowed there",
        ));
    }
    if domain.is_ascii() {
        return check_labels(domain);
    }
    match idna::domain_to_ascii_cow(domain.as_bytes(), idna::AsciiDenyList::EMPTY) {
        // A mapping may yield what the name itself could not have been written with.
        Ok(ascii) if !ascii.bytes().all(|b| b < 0x80 && allowed(b)) => Err(
            AddressError::Impossible("the domain is not a valid internationalized name"),
        ),
        Ok(ascii) => check_labels(&ascii),
        Err(_) => Err(AddressError::Impossible(
            "the domain is not a valid internationalized name",
        )),
    }
}

fn check_literal(domain: &str) -> Result<(), AddressError> {
    if literal(domain).is_some() {
        return Ok(());
    }
    let inside = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']'));
    match inside {
        Some(text)
            if text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"[]\\".contains(&b)) =>
        {
            Err(AddressError::Impossible(
                "the address literal is not an address",
            ))
        }
        _ => Err(AddressError::Syntax("the address literal is malformed")),
    }
}

fn check_labels(domain: &str) -> Result<(), AddressError> {
    if domain.is_empty() {
        return Err(AddressError::Impossible("the domain is empty"));
    }
    if domain.len() > DOMAIN_MAX {
        return Err(AddressError::Impossible(
            "the domain is longer than 255 octets",
        ));
    }
    let mut last = "";
    for label in domain.split('.') {
        if label.is_empty() {
            return Err(AddressError::Impossible("the domain has an empty label"));
        }
        if label.len() > 63 {
            return Err(AddressError::Impossible(
                "the domain has a label longer than 63 octets",
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(AddressError::Impossible(
                "a label of the domain begins or ends with a hyphen",
            ));
        }
        last = label;
    }
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressError::Impossible(
            "the last label of the domain is a number",
        ));
    }
    Ok(())
}

/// Drops a source route, `@a,@b:` in front of the mailbox (RFC 5321 §4.1.2, appendix C).
fn without_route(path: &str) -> Result<&str, AddressError> {
    if !path.starts_with('@') || path.len() > 2 * MAILBOX_MAX {
        return Ok(path);
    }
    let mut rest = path;
    loop {
        let Some(hop) = rest.strip_prefix('@') else {
            return Err(AddressError::Syntax("the source route is malformed"));
        };
        // A literal may hold colons.
        let from = if hop.starts_with('[') {
            hop.find(']').unwrap_or(0)
        } else {
            0
        };
        let stop = hop
            .get(from..)
            .and_then(|h| h.find([',', ':']))
            .map(|n| n + from);
        let Some((domain, tail)) = stop.and_then(|n| hop.split_at_checked(n)) else {
            // `@b` alone: an address without a local part.
            return Ok(rest);
        };
        check_domain(domain).map_err(|_| AddressError::Syntax("the source route is malformed"))?;
        match tail.strip_prefix(':') {
            Some(mailbox) => return Ok(mailbox),
            None => rest = tail.strip_prefix(',').unwrap_or(""),
        }
    }
}

#[cfg(test)]
mod tests;
