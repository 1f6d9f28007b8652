//! What is decided at the end of data, before any server is asked: the content itself.
//!
//! `inbound::reception` calls [`examine`] once for each message. The message is never altered
//! (RELAY-21); what comes back says which octets are left out and what is put in front. Recipients
//! are never read from it (RELAY-29).

use std::ops::Range;

use galerne_mail::from::{all_mailboxes, first_mailbox};
use galerne_mail::header::{self, Fault, HEADER_LIMIT, Header, LINE_LIMIT};
use galerne_mail::trace::{self, Trace};
use galerne_smtp::Mailbox;

use crate::content::Patch;
use crate::directive::{self, Directive};
use crate::glob::Glob;
use crate::refusal::{Code, Refusal};
use crate::settings::Account;

/// Most `Received` fields (RELAY-24).
pub const RECEIVED_LIMIT: u32 = 100;
/// Our own trace fields that make a loop: the message comes here for the third time (T-24).
const PASSES_LIMIT: usize = 2;
/// Longest Message-ID that is logged, in octets.
const MESSAGE_ID_LIMIT: usize = 255;

/// What the decision needs to know besides the octets.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// The account of the client; `None`: unauthenticated.
    pub account: Option<&'a Account>,
    /// The envelope sender is `<>`.
    pub null_sender: bool,
    /// The data codec saw a NUL, or a bare CR or LF that `barelf` does not let through.
    pub bare: bool,
    /// The octets are only the first part of the message.
    pub has_more: bool,
    /// `[rfrelay]keepdirective` (RELAY-26).
    pub keep_directive: bool,
    /// Our own name, by which we know our own trace fields.
    pub own_name: &'a str,
    /// With `[rfrelay]received` = 1: the trace field to put in front (RELAY-23).
    pub trace: Option<&'a Trace<'a>>,
}

/// An accepted message.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// The directive; empty for a message without one and for an unauthenticated client.
    pub directive: Directive,
    /// What goes out of the content.
    pub patch: Patch,
    /// The header says, once, `TLS-Required: No` (RFC 8689 §3).
    pub tls_not_required: bool,
    /// The first mailbox of the From field; `None`: what stands there is no address.
    pub header_from: Option<Mailbox>,
    /// Number of `Received` fields found.
    pub received_count: u32,
    /// The Message-ID as written, for logs: printable ASCII, at most 255 octets.
    pub message_id: Option<String>,
}

/// Examines the first part of a message, which must hold its header.
///
/// Refused are, in this order: bare line ends, a header that is malformed, endless or caught in a
/// loop, a directive that is not to be understood, a From that the account may not use.
pub fn examine(octets: &[u8], circumstances: &Circumstances<'_>) -> Result<Examined, Refusal> {
    if circumstances.bare {
        let text = "message holds a bare CR, a bare LF or a NUL";
        return Err(Refusal::new(Code::BareLineEnd, text, "RELAY-18"));
    }
    let header = scan(octets, circumstances)?;
    check_loop(octets, &header, circumstances.own_name)?;
    let directive = read_directive(octets, &header, circumstances)?;
    let from_field = first(octets, &header, header.from);
    check_from(from_field, circumstances)?;
    Ok(Examined {
        directive,
        patch: Patch {
            prefix: circumstances.trace.map_or_else(Vec::new, Trace::field),
            cuts: cuts(octets, &header, circumstances),
        },
        tls_not_required: tls_not_required(octets, &header),
        header_from: from_field.and_then(first_mailbox),
        received_count: header.received,
        message_id: first(octets, &header, header.message_id).map(message_id),
    })
}

/// The body of the field of this index.
fn first<'a>(octets: &'a [u8], header: &Header, index: Option<usize>) -> Option<&'a [u8]> {
    Some(header.fields.get(index?)?.body(octets))
}

/// Scans the header and refuses what is wrong with its form (9.0.x, and 9.1.x where the form of
/// the directive is at fault).
fn scan(octets: &[u8], circumstances: &Circumstances<'_>) -> Result<Header, Refusal> {
    let header = if circumstances.account.is_some() {
        header::scan(octets, HEADER_LIMIT)
    } else {
        header::scan_folded_only(octets, HEADER_LIMIT)
    };
    let endless = circumstances.has_more && !header.separated;
    // Where the octets are only the first part, the last line of them may be cut.
    let is_cut = |fault: Fault| match fault {
        Fault::Malformed { line } => endless && line > lines(octets),
        Fault::OpenDirective => endless,
        _ => false,
    };
    let trusted = circumstances.account.is_some();
    let directive = first(octets, &header, header.directive).filter(|_| trusted);
    match header.fault {
        None if endless => Err(too_large()),
        None if header.from_count == 0 => Err(Refusal::new(
            Code::From,
            "message has no From field",
            "RELAY-77",
        )),
        None if header.from_count > 1 => {
            let text = format!("message has {} From fields", header.from_count);
            Err(Refusal::new(Code::From, text, "RELAY-77"))
        }
        None if trusted && header.directive_count > 1 => {
            let text = format!("message has {} directive fields", header.directive_count);
            Err(Refusal::new(Code::DirectiveShape, text, "RELAY-33"))
        }
        None => Ok(header),
        Some(Fault::LongLine { .. } | Fault::OpenDirective)
            if directive.is_some_and(|d| d.trim_ascii().len() > directive::VALUE_LIMIT) =>
        {
            Err(directive::too_long())
        }
        Some(fault) if is_cut(fault) => Err(too_large()),
        Some(fault) => Err(at_fault(fault)),
    }
}

/// Whole lines.
fn lines(octets: &[u8]) -> u32 {
    let count = octets.iter().filter(|&&octet| octet == b'\n').count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn at_fault(fault: Fault) -> Refusal {
    let (code, text) = match fault {
        Fault::TooLarge => return too_large(),
        Fault::Missing => (Code::MalformedHeader, "message has no header".to_owned()),
        Fault::Malformed { line } => (
            Code::MalformedHeader,
            format!("header line {line} is malformed"),
        ),
        Fault::LongLine { line } => {
            let text = format!("header line {line} is longer than {LINE_LIMIT} octets");
            (Code::LongHeaderLine, text)
        }
        Fault::OpenDirective => {
            let text = "directive is not terminated: its braces are open at the end of the header";
            return Refusal::new(Code::DirectiveSyntax, text, "RELAY-32");
        }
    };
    Refusal::new(code, text, "RELAY-77")
}

fn too_large() -> Refusal {
    let text = format!("5.3.4 header is longer than {HEADER_LIMIT} octets");
    Refusal::standard(552, text, "T-23")
}

fn check_loop(octets: &[u8], header: &Header, own_name: &str) -> Result<(), Refusal> {
    if header.received > RECEIVED_LIMIT {
        let text = format!("5.4.6 routing loop: more than {RECEIVED_LIMIT} Received fields");
        return Err(Refusal::standard(554, text, "RELAY-24"));
    }
    if trace::passes(octets, header, own_name) >= PASSES_LIMIT {
        let text = format!("5.4.6 routing loop: message came through {own_name} before");
        return Err(Refusal::standard(554, text, "T-24"));
    }
    Ok(())
}

/// The directive of an authenticated client; that of any other is ignored (RELAY-36).
fn read_directive(
    octets: &[u8],
    header: &Header,
    circumstances: &Circumstances<'_>,
) -> Result<Directive, Refusal> {
    match first(octets, header, header.directive) {
        Some(value) if circumstances.account.is_some() => directive::parse(value),
        _ => Ok(Directive::default()),
    }
}

/// Whether the one field `TLS-Required` says `No`, its only value. Where there are several none
/// counts (RFC 8689 §3).
fn tls_not_required(octets: &[u8], header: &Header) -> bool {
    let mut fields = header.named(octets, "TLS-Required");
    match (fields.next(), fields.next()) {
        (Some(field), None) => field.body(octets).trim_ascii().eq_ignore_ascii_case(b"no"),
        _ => false,
    }
}

/// The octets left out: the directive fields. `keepdirective` keeps only what was obeyed.
fn cuts(octets: &[u8], header: &Header, circumstances: &Circumstances<'_>) -> Vec<Range<usize>> {
    if circumstances.keep_directive && circumstances.account.is_some() {
        return Vec::new();
    }
    header
        .directives(octets)
        .map(header::Field::range)
        .collect()
}

/// `granted_from_addr` (CONF-55), and for a null sender `authorizedsender` (RELAY-48). Every mailbox
/// of the field must pass, since a reader may be shown any of them.
fn check_from(field: Option<&[u8]>, circumstances: &Circumstances<'_>) -> Result<(), Refusal> {
    let Some(account) = circumstances.account else {
        return Ok(());
    };
    let domains = account.authorizedsender.as_ref();
    let domains = domains.filter(|_| circumstances.null_sender);
    if account.granted_from.is_none() && domains.is_none() {
        return Ok(());
    }
    let all = field.and_then(all_mailboxes);
    let passes = |allowed: &dyn Fn(&Mailbox) -> bool, key: &str| {
        let from = match &all {
            None => "that is no list of addresses",
            Some(all) => match all.iter().find(|from| !allowed(from)) {
                None => return Ok(()),
                Some(from) => from.as_str(),
            },
        };
        let text = format!("account {} may not send with From {from}", account.name);
        let rule = format!("{} [account] {key}", account.file);
        Err(Refusal::new(Code::SenderNotAllowed, text, rule))
    };
    if let Some(patterns) = &account.granted_from {
        passes(&|from| is_granted(patterns, from), "granted_from_addr")?;
    }
    if let Some(domains) = domains {
        let is_listed = |from: &Mailbox| domains.iter().any(|d| *d == from.ascii_domain());
        passes(&is_listed, "authorizedsender")?;
    }
    Ok(())
}

/// Whether one of the patterns matches the whole address; `*` stands for anything.
fn is_granted(patterns: &[String], from: &Mailbox) -> bool {
    let ascii = format!("{}@{}", from.local(), from.ascii_domain());
    patterns
        .iter()
        .map(|p| Glob::new(p))
        .any(|p| p.matches(from.as_str()) || p.matches(&ascii))
}

fn message_id(body: &[u8]) -> String {
    let plain = |b: &u8| {
        if b.is_ascii_graphic() {
            char::from(*b)
        } else {
            '?'
        }
    };
    body.trim_ascii()
        .iter()
        .take(MESSAGE_ID_LIMIT)
        .map(plain)
        .collect()
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
