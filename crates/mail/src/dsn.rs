//! Builds delivery status notifications: `multipart/report` of RFC 3462 and 3464 (RET-38).
//!
//! A text for people, the fields for machines, and the message or its header. Whether anybody is
//! to be notified is decided elsewhere (RET-37). Everything that comes from a remote or a client
//! is reduced to printable characters before it becomes part of a header or a field.

use std::time::SystemTime;

use memchr::memmem;

use crate::header::{HEADER_LIMIT, scan};
use crate::trace::date;

/// Where lines are folded, in octets.
const WIDTH: usize = 76;
/// Longest word before it is cut in two.
const WORD_LIMIT: usize = 500;
/// Longest value that is repeated in a notification, in characters.
const VALUE_LIMIT: usize = 4000;

/// What became of a recipient, the word of the `Action` field (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Failed,
    Delayed,
    Delivered,
    Relayed,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Action::Failed => "could not be delivered to",
            Action::Delayed => "could not be delivered yet, and will be tried again, to",
            Action::Delivered => "was delivered to",
            Action::Relayed => "was passed on, to a server that confirms no delivery, for",
        }
    }
}

/// One recipient of a notification.
#[derive(Clone, Debug)]
pub struct ReportedRecipient {
    /// (type, address) of ORCPT, decoded from xtext.
    pub original: Option<(String, String)>,
    /// The address of RCPT.
    pub recipient: String,
    pub action: Action,
    /// `5.1.1`, `4.4.7` … (RET-39).
    pub status: String,
    /// The name of the server that spoke; `None`: nobody did.
    pub remote: Option<String>,
    /// Its reply: code and lines joined with blanks; our own words where nobody spoke.
    pub diagnostic: String,
    pub last_attempt: SystemTime,
}

/// What of the original message comes back (RET of RFC 3461 §4.3).
#[derive(Clone, Copy, Debug)]
pub enum Returned<'a> {
    /// The whole message, as `message/rfc822`.
    Full(&'a [u8]),
    /// The header section of this message, as `text/rfc822-headers`.
    Headers(&'a [u8]),
}

/// A notification as plain values.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Unique; makes the boundary and the Message-ID. Only letters, digits and `-` of it are used.
    pub id: &'a str,
    /// Our own name.
    pub reporting_mta: &'a str,
    /// The notification comes from `postmaster@` this domain.
    pub from_domain: &'a str,
    /// The envelope sender of the original: who is told.
    pub to: &'a str,
    /// ENVID, decoded from xtext.
    pub envid: Option<&'a str>,
    /// When the original came.
    pub arrival: SystemTime,
    pub now: SystemTime,
    pub recipients: &'a [ReportedRecipient],
    pub returned: Returned<'a>,
}

/// The whole notification, header and body, lines ended with CRLF.
///
/// It has 8-bit octets only where the original or an address has (then so says its
/// `Content-Transfer-Encoding`). Bare CR and LF of the original become CRLF.
pub fn build(report: &Report<'_>) -> Vec<u8> {
    let id: String = report
        .id
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    let (kind, returned) = returned(report.returned);
    let text = text(report);
    let status = status(report);
    let mut boundary = format!("=_{id}");
    while [text.as_bytes(), &returned]
        .iter()
        .any(|p| memmem::find(p, boundary.as_bytes()).is_some())
    {
        boundary.push('_');
    }
    let eight_bit = !text.is_ascii() || !returned.is_ascii();
    let mut out = header(report, &id, &boundary, eight_bit).into_bytes();
    let parts = [
        ("text/plain; charset=utf-8", text.as_bytes()),
        ("message/delivery-status", status.as_bytes()),
        (kind, &returned),
    ];
    for (kind, body) in parts {
        let encoding = if body.is_ascii() { "7bit" } else { "8bit" };
        let head = format!(
            "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

fn header(report: &Report<'_>, id: &str, boundary: &str, eight_bit: bool) -> String {
    let subject = match report.recipients.first().map(|r| r.action) {
        Some(Action::Delayed) => "Delivery delayed",
        Some(Action::Delivered | Action::Relayed) => "Delivery report",
        _ => "Undelivered mail returned to sender",
    };
    format!(
        "Date: {}\r\n\
         From: Mail Delivery System <postmaster@{}>\r\n\
         To: <{}>\r\n\
         Subject: {subject}\r\n\
         Message-ID: <{id}@{}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"{boundary}\"\r\n\
         Content-Transfer-Encoding: {}\r\n\
         \r\n\
         This is a delivery status notification in MIME format.\r\n\
         \r\n",
        date(report.now),
        clean(report.from_domain),
        clean(report.to),
        clean(report.reporting_mta),
        if eight_bit { "8bit" } else { "7bit" },
    )
}

/// The part for people.
fn text(report: &Report<'_>) -> String {
    let mut text = format!(
        "This is the mail system at {}.\r\n",
        clean(report.reporting_mta)
    );
    let mut last = None;
    for recipient in report.recipients {
        if last != Some(recipient.action) {
            let sentence = format!(
                "Your message of {} {}:",
                date(report.arrival),
                recipient.action.sentence()
            );
            text.push_str("\r\n");
            text.push_str(&wrap(&sentence, "", ""));
            last = Some(recipient.action);
        }
        text.push_str(&format!("\r\n<{}>\r\n", clean(&recipient.recipient)));
        let said = match &recipient.remote {
            Some(remote) => format!("{} said: {}", clean(remote), ascii(&recipient.diagnostic)),
            None => ascii(&recipient.diagnostic),
        };
        text.push_str(&wrap(&said, "    ", "    "));
    }
    text.push_str(match report.returned {
        Returned::Full(_) => "\r\nThe message is attached.\r\n",
        Returned::Headers(_) => "\r\nThe header of the message is attached.\r\n",
    });
    text
}

/// The part for machines (RFC 3464 §2).
fn status(report: &Report<'_>) -> String {
    let mut fields = format!("Reporting-MTA: dns; {}\r\n", clean(report.reporting_mta));
    if let Some(envid) = report.envid {
        fields.push_str(&wrap(
            &format!("Original-Envelope-Id: {}", ascii(envid)),
            "",
            " ",
        ));
    }
    fields.push_str(&format!("Arrival-Date: {}\r\n", date(report.arrival)));
    for recipient in report.recipients {
        fields.push_str("\r\n");
        if let Some((kind, address)) = &recipient.original {
            let (_, address) = typed(address);
            fields.push_str(&format!(
                "Original-Recipient: {};{address}\r\n",
                ascii(kind)
            ));
        }
        let (kind, address) = typed(&recipient.recipient);
        fields.push_str(&format!("Final-Recipient: {kind};{address}\r\n"));
        fields.push_str(&format!("Action: {}\r\n", recipient.action.word()));
        fields.push_str(&format!("Status: {}\r\n", ascii(&recipient.status)));
        let diagnostic_type = if recipient.remote.is_some() {
            "smtp"
        } else {
            "x-galerne"
        };
        if let Some(remote) = &recipient.remote {
            fields.push_str(&format!("Remote-MTA: dns; {}\r\n", clean(remote)));
        }
        if !recipient.diagnostic.is_empty() {
            let value = format!(
                "Diagnostic-Code: {diagnostic_type}; {}",
                ascii(&recipient.diagnostic)
            );
            fields.push_str(&wrap(&value, "", " "));
        }
        fields.push_str(&format!(
            "Last-Attempt-Date: {}\r\n",
            date(recipient.last_attempt)
        ));
    }
    fields
}

/// An address with its type. One that is not ASCII is written in the form of RFC 6533 §3 that
/// fits a 7-bit notification.
fn typed(address: &str) -> (&'static str, String) {
    if address.is_ascii() {
        return ("rfc822", ascii(address));
    }
    let mut out = String::new();
    for c in address.chars().take(VALUE_LIMIT) {
        match c {
            '\\' | '+' | '=' => out.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
            c if c.is_ascii_graphic() => out.push(c),
            c => out.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    ("utf-8", out)
}

/// The media type and the octets of the third part, without the last line end.
fn returned(returned: Returned<'_>) -> (&'static str, Vec<u8>) {
    let (kind, octets) = match returned {
        Returned::Full(octets) => ("message/rfc822", octets),
        Returned::Headers(octets) => {
            let end = scan(octets, HEADER_LIMIT).end;
            ("text/rfc822-headers", octets.get(..end).unwrap_or(octets))
        }
    };
    (kind, whole_lines(octets))
}

/// The octets with every CR and LF that stands alone as CRLF, and a CRLF at the end.
fn whole_lines(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + 2);
    let mut rest = octets;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, end) = rest.split_at(at);
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
        let length = if end.starts_with(b"\r\n") { 2 } else { 1 };
        rest = end.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    if !rest.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Folds at blanks: `first` before the first line, `next` before the others; CRLF at the end.
fn wrap(text: &str, first: &str, next: &str) -> String {
    let mut out = String::from(first);
    let mut width = first.len();
    let mut start = true;
    for word in text.split(' ').filter(|w| !w.is_empty()).flat_map(pieces) {
        if !start && width + 1 + word.len() > WIDTH {
            out.push_str("\r\n");
            out.push_str(next);
            width = next.len();
        } else if !start {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.len();
        start = false;
    }
    out.push_str("\r\n");
    out
}

/// A word in pieces that fit a line.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let mut at = rest.len().min(WORD_LIMIT);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, after) = rest.split_at(at);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Printable ASCII only, in one line.
fn ascii(text: &str) -> String {
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    text.chars().take(VALUE_LIMIT).map(plain).collect()
}

/// One line without control characters; UTF-8 stays.
fn clean(text: &str) -> String {
    text.chars()
        .take(500)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
