//! The directive: the JSON of the `X-SMTP-R-API` field (RELAY-30 to RELAY-57), as typed values.
//!
//! [`parse`] knows forms and limits. What an account may ask for is decided where the plan is
//! made; that an unauthenticated client may ask for nothing, in [`crate::accept`].

use std::net::IpAddr;
use std::time::Duration;

use galerne_smtp::Mailbox;

use crate::refusal::{Code, Refusal};
use crate::settings::{EhloName, EnvelopeFrom, Mode, Sign, Ssl};

mod json;
mod write;

use json::Json;

/// Longest value in octets (RELAY-33).
pub const VALUE_LIMIT: usize = 16 * 1024;
/// Longest title in characters.
const TITLE_LIMIT: usize = 255;
/// Most tags, and the longest in characters (RELAY-39).
const TAGS_LIMIT: usize = 16;
const TAG_LIMIT: usize = 32;

/// A directive, each member as the client gave it; absent members are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directive {
    pub reference: Option<String>,
    pub title: Option<String>,
    pub tags: Vec<String>,
    pub timeout: Option<Duration>,
    pub maxhop: Option<u32>,
    pub mode: Option<Mode>,
    pub ehlo: Option<EhloName>,
    pub envelopefrom: Option<EnvelopeFrom>,
    pub sign: Option<Sign>,
    pub ssl: Option<Ssl>,
    /// `routing.outbound`: addresses and `@host` names in the given order.
    pub outbound: Option<Vec<OutboundName>>,
}

/// One entry of `routing.outbound`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundName {
    Ip(IpAddr),
    /// Without the `@`, lower case.
    Host(String),
}

/// Reads the value of a directive field, folded or not: one JSON object.
///
/// The first thing that is wrong is refused with its own code: 9.1.0 syntax, 9.1.1 no object or
/// too long, 9.1.2 unknown member, 9.1.3 wrong type, 9.1.4 badly formed or out of range.
pub fn parse(value: &[u8]) -> Result<Directive, Refusal> {
    let value = value.trim_ascii();
    if value.len() > VALUE_LIMIT {
        return Err(too_long());
    }
    let unfolded = unfold(value);
    let json = json::parse(&unfolded).map_err(|why| {
        let text = format!("directive is not valid JSON: {why}");
        Refusal::new(Code::DirectiveSyntax, text, "RELAY-77")
    })?;
    let Json::Object(members) = json else {
        let text = "directive must be one JSON object";
        return Err(Refusal::new(Code::DirectiveShape, text, "RELAY-30"));
    };
    let mut directive = Directive::default();
    for (name, value) in &members {
        match name.as_str() {
            "message" => read_message(value, &mut directive)?,
            "routing" => read_routing(value, &mut directive)?,
            _ => return Err(unknown(name)),
        }
    }
    Ok(directive)
}

/// The refusal of a value over [`VALUE_LIMIT`].
pub(crate) fn too_long() -> Refusal {
    let text = format!("directive is longer than {VALUE_LIMIT} octets");
    Refusal::new(Code::DirectiveShape, text, "RELAY-33")
}

/// Undoes folding: the CRLF goes where a blank follows (RFC 5322 §2.2.3). Other line ends stay;
/// to JSON they are blanks, and inside a string an error.
fn unfold(value: &[u8]) -> Vec<u8> {
    let mut unfolded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(&octet) = rest.first() {
        if let [b'\r', b'\n', b' ' | b'\t', ..] = rest {
            rest = rest.get(2..).unwrap_or_default();
            // A tab would not be allowed inside a JSON string.
            unfolded.push(b' ');
        } else {
            unfolded.push(octet);
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    unfolded
}

fn read_message(value: &Json, directive: &mut Directive) -> Result<(), Refusal> {
    for (name, value) in object("message", value)? {
        match name.as_str() {
            "ref" => directive.reference = Some(reference(value)?),
            "title" => directive.title = Some(title(value)?),
            "tags" => directive.tags = tags(value)?,
            "timeout" => {
                let seconds = integer("message.timeout", value, 1, 590)?;
                directive.timeout = Some(Duration::from_secs(seconds.into()));
            }
            "maxhop" => directive.maxhop = Some(integer("message.maxhop", value, 1, 20)?),
            "mode" => directive.mode = Some(mode(value)?),
            _ => return Err(unknown(&format!("message.{name}"))),
        }
    }
    Ok(())
}

fn read_routing(value: &Json, directive: &mut Directive) -> Result<(), Refusal> {
    for (name, value) in object("routing", value)? {
        match name.as_str() {
            "ehlo" => directive.ehlo = Some(ehlo(value)?),
            "envelopefrom" => directive.envelopefrom = Some(envelope_from(value)?),
            "sign" => directive.sign = Some(sign(value)?),
            "ssl" => directive.ssl = Some(ssl(value)?),
            "outbound" => directive.outbound = Some(outbound(value)?),
            _ => return Err(unknown(&format!("routing.{name}"))),
        }
    }
    Ok(())
}

fn reference(value: &Json) -> Result<String, Refusal> {
    let text = string("message.ref", value)?;
    let fits = (3..=30).contains(&text.len());
    if fits
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    {
        return Ok(text.to_owned());
    }
    let text = "message.ref must have 3 to 30 characters a-z 0-9 -";
    Err(Refusal::new(Code::BadValue, text, "RELAY-37"))
}

fn title(value: &Json) -> Result<String, Refusal> {
    let text = string("message.title", value)?;
    if text.chars().count() > TITLE_LIMIT {
        return Err(bad("message.title", "must have at most 255 characters"));
    }
    if text.chars().any(char::is_control) {
        return Err(bad("message.title", "must not hold control characters"));
    }
    Ok(text.to_owned())
}

fn tags(value: &Json) -> Result<Vec<String>, Refusal> {
    let key = "message.tags";
    let Json::Array(items) = value else {
        return Err(wrong_type(key, "an array of strings"));
    };
    let mut tags = Vec::with_capacity(items.len());
    for item in items {
        let Json::String(tag) = item else {
            return Err(wrong_type(key, "an array of strings"));
        };
        let length = tag.chars().count();
        if length == 0 || length > TAG_LIMIT {
            return Err(bad(key, "must have 1 to 32 characters each"));
        }
        if tag
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == ';')
        {
            return Err(bad(
                key,
                "must not hold blanks, semicolons or control characters",
            ));
        }
        tags.push(tag.clone());
    }
    if tags.len() > TAGS_LIMIT {
        return Err(bad(key, "must be at most 16"));
    }
    Ok(tags)
}

fn mode(value: &Json) -> Result<Mode, Refusal> {
    match string("message.mode", value)? {
        "sync" => Ok(Mode::Sync),
        "queue" => Ok(Mode::Queue),
        "auto" => Ok(Mode::Auto),
        _ => Err(bad("message.mode", "must be sync, queue or auto")),
    }
}

fn ehlo(value: &Json) -> Result<EhloName, Refusal> {
    let text = string("routing.ehlo", value)?;
    if text == "@rdns" {
        return Ok(EhloName::Rdns);
    }
    match domain(text) {
        Some(name) => Ok(EhloName::Name(name)),
        None => Err(bad("routing.ehlo", "must be a domain or @rdns")),
    }
}

fn envelope_from(value: &Json) -> Result<EnvelopeFrom, Refusal> {
    match string("routing.envelopefrom", value)? {
        "@mailfrom" => Ok(EnvelopeFrom::MailFrom),
        "@verp" => Ok(EnvelopeFrom::Verp),
        "@from" => Ok(EnvelopeFrom::From),
        text => match Mailbox::parse(text) {
            Ok(address) => Ok(EnvelopeFrom::Address(address)),
            Err(_) => {
                let must = "must be an address, @mailfrom, @verp or @from";
                Err(bad("routing.envelopefrom", must))
            }
        },
    }
}

fn sign(value: &Json) -> Result<Sign, Refusal> {
    let key = "routing.sign";
    let must = "must be from, envelope, both or none";
    match value {
        Json::Bool(true) | Json::Integer(1) => Ok(Sign::From),
        Json::Bool(false) | Json::Integer(0) => Ok(Sign::None),
        Json::Integer(_) | Json::HugeInteger => Err(bad(key, must)),
        Json::String(word) => match word.as_str() {
            "from" | "1" | "true" => Ok(Sign::From),
            "none" | "0" | "false" => Ok(Sign::None),
            "envelope" => Ok(Sign::Envelope),
            "both" => Ok(Sign::Both),
            _ => Err(bad(key, must)),
        },
        _ => Err(wrong_type(key, "a string, 0, 1, true or false")),
    }
}

fn ssl(value: &Json) -> Result<Ssl, Refusal> {
    let key = "routing.ssl";
    let must = "must be true, false, 0, 1 or \"required\"";
    match value {
        Json::Bool(true) | Json::Integer(1) => Ok(Ssl::Opportunistic),
        Json::Bool(false) | Json::Integer(0) => Ok(Ssl::Never),
        Json::String(word) if word == "required" => Ok(Ssl::Required),
        Json::Integer(_) | Json::HugeInteger | Json::String(_) => Err(bad(key, must)),
        _ => Err(wrong_type(key, "a boolean or \"required\"")),
    }
}

fn outbound(value: &Json) -> Result<Vec<OutboundName>, Refusal> {
    let key = "routing.outbound";
    let mut names = Vec::new();
    match value {
        Json::String(text) => {
            for word in text.split_ascii_whitespace() {
                names.push(outbound_name(word)?);
            }
        }
        Json::Array(items) => {
            for item in items {
                let Json::String(word) = item else {
                    return Err(wrong_type(key, "an array of strings"));
                };
                names.push(outbound_name(word)?);
            }
        }
        _ => return Err(wrong_type(key, "an array of strings or one string")),
    }
    if names.is_empty() {
        return Err(bad(key, "must name at least one IP or @host"));
    }
    Ok(names)
}

fn outbound_name(word: &str) -> Result<OutboundName, Refusal> {
    let host = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if let Ok(address) = word.parse() {
        return Ok(OutboundName::Ip(address));
    }
    match word.strip_prefix('@') {
        Some(name) if (1..=255).contains(&name.len()) && name.bytes().all(host) => {
            Ok(OutboundName::Host(name.to_ascii_lowercase()))
        }
        _ => {
            let text = format!(
                "routing.outbound {} is neither an IP nor an @host",
                cut(word)
            );
            Err(Refusal::new(Code::BadValue, text, "RELAY-56"))
        }
    }
}

/// A domain in the form that EHLO can say: A-labels; letters, digits, hyphens and dots.
fn domain(text: &str) -> Option<String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let ascii = if text.is_ascii() {
        text.to_owned()
    } else {
        let mailbox = Mailbox::parse(&format!("x@{text}")).ok()?;
        mailbox.ascii_domain().into_owned()
    };
    (ascii.len() <= 255 && ascii.split('.').all(label)).then_some(ascii)
}

fn object<'a>(key: &str, value: &'a Json) -> Result<&'a [(String, Json)], Refusal> {
    match value {
        Json::Object(members) => Ok(members),
        _ => Err(wrong_type(key, "an object")),
    }
}

fn string<'a>(key: &str, value: &'a Json) -> Result<&'a str, Refusal> {
    match value {
        Json::String(text) => Ok(text),
        _ => Err(wrong_type(key, "a string")),
    }
}

fn integer(key: &str, value: &Json, least: u32, most: u32) -> Result<u32, Refusal> {
    match value {
        Json::Integer(number) => u32::try_from(*number)
            .ok()
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| bad(key, &format!("must be {least} to {most}"))),
        Json::HugeInteger => Err(bad(key, &format!("must be {least} to {most}"))),
        _ => Err(wrong_type(key, "an integer")),
    }
}

fn unknown(member: &str) -> Refusal {
    Refusal::new(
        Code::UnknownMember,
        format!("unknown member {}", cut(member)),
        "RELAY-35",
    )
}

fn wrong_type(key: &str, must: &str) -> Refusal {
    Refusal::new(Code::WrongType, format!("{key} must be {must}"), "RELAY-35")
}

fn bad(key: &str, must: &str) -> Refusal {
    Refusal::new(Code::BadValue, format!("{key} {must}"), "RELAY-35")
}

/// What the client wrote, short enough for a reply.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
