//! Mail as programs on this host write it, made into a message (QUEUE-24): a header that may be missing
//! or end without an empty line gets what RFC 5322 §3.6 wants, and names in it get a domain.
//!
//! What is taken out: `Bcc`, which nobody may see, `Return-Path`, which is not for a sender to write,
//! and the line `From …` of mailbox files.

use std::time::SystemTime;

use crate::addresses::qualified;
use crate::header::{Fault, HEADER_LIMIT, Header, scan};
use crate::trace::date;

/// Fields that hold addresses.
const ADDRESSES: [&str; 11] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Mail-Followup-To",
    "Disposition-Notification-To",
];
/// Fields that go out.
const DROPPED: [&str; 3] = ["Bcc", "Resent-Bcc", "Return-Path"];
/// Most characters of a name in From.
const NAME_LIMIT: usize = 128;

/// What is put where something is missing.
#[derive(Clone, Debug)]
pub struct Defaults<'a> {
    /// The address of a missing From.
    pub from: &'a str,
    /// The name of the person there.
    pub name: Option<&'a str>,
    /// The domain of names without one.
    pub origin: &'a str,
    /// Unique; letters and digits.
    pub id: &'a str,
    /// Our own name.
    pub hostname: &'a str,
    pub at: SystemTime,
}

/// Where the header of local mail ends and its body begins.
#[derive(Clone, Debug)]
pub struct Head {
    header: Header,
    /// Where the header begins: behind the line of a mailbox file.
    start: usize,
    /// Where the body begins.
    body: usize,
}

impl Head {
    /// Finds the header at the start of a message. Lines end with CRLF. What begins without a field
    /// has none; a line that is no field ends it.
    pub fn find(octets: &[u8]) -> Head {
        let start = mailbox_line(octets);
        let all = octets.get(start..).unwrap_or_default();
        let header = scan(all, HEADER_LIMIT);
        if let Some(Fault::Malformed { line }) = header.fault {
            let end = start_of(all, line);
            let header = scan(all.get(..end).unwrap_or_default(), HEADER_LIMIT);
            return Head {
                header,
                start,
                body: start + end,
            };
        }
        let body = start + header.body;
        Head {
            header,
            start,
            body,
        }
    }

    /// The bodies of the fields of these names, in order.
    pub fn bodies<'a>(
        &'a self,
        octets: &'a [u8],
        names: &'a [&str],
    ) -> impl Iterator<Item = &'a [u8]> {
        let all = octets.get(self.start..).unwrap_or_default();
        let named = |field: &&crate::header::Field| names.iter().any(|name| field.is(all, name));
        self.header
            .fields
            .iter()
            .filter(named)
            .map(|field| field.body(all))
    }

    /// Whether the header goes on beyond the octets that were looked at, or beyond its limit.
    pub fn is_cut(&self, octets: &[u8], has_more: bool) -> bool {
        let open = self.body == octets.len() && !self.header.separated;
        self.header.fault == Some(Fault::TooLarge) || (has_more && open)
    }

    /// The message with a complete header. The octets behind those that were looked at follow as they
    /// are.
    pub fn complete(&self, octets: &[u8], defaults: &Defaults<'_>) -> Vec<u8> {
        let all = octets.get(self.start..).unwrap_or_default();
        let mut out = Vec::with_capacity(octets.len() + 512);
        let has = |name: &str| self.header.named(all, name).next().is_some();
        let mut add = |field: String| {
            out.extend_from_slice(field.as_bytes());
            out.extend_from_slice(b"\r\n");
        };
        if !has("Date") {
            add(format!("Date: {}", date(defaults.at)));
        }
        if !has("From") {
            add(from(defaults));
        }
        if !has("Message-ID") {
            add(format!(
                "Message-ID: <{}@{}>",
                defaults.id, defaults.hostname
            ));
        }
        for field in &self.header.fields {
            let is_one_of = |names: &[&str]| names.iter().any(|name| field.is(all, name));
            if is_one_of(&DROPPED) {
                continue;
            }
            let whole = all.get(field.range()).unwrap_or_default();
            let whole = whole.strip_suffix(b"\r\n").unwrap_or(whole);
            if is_one_of(&ADDRESSES) {
                let body = field.body(all);
                let name = whole.len() - body.len();
                out.extend_from_slice(whole.get(..name).unwrap_or_default());
                out.extend_from_slice(&qualified(body, defaults.origin));
            } else {
                out.extend_from_slice(whole);
            }
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(octets.get(self.body..).unwrap_or_default());
        out
    }
}

/// The length of a first line `From anna Mon Mar …`, as mailbox files have it.
fn mailbox_line(octets: &[u8]) -> usize {
    if !octets.starts_with(b"From ") && !octets.starts_with(b">From ") {
        return 0;
    }
    memchr::memmem::find(octets, b"\r\n").map_or(0, |end| end + 2)
}

/// Where a line begins; the first is 1.
fn start_of(octets: &[u8], line: u32) -> usize {
    let mut at = 0;
    for _ in 1..line {
        let rest = octets.get(at..).unwrap_or_default();
        match memchr::memmem::find(rest, b"\r\n") {
            Some(end) => at += end + 2,
            None => return octets.len(),
        }
    }
    at
}

fn from(defaults: &Defaults<'_>) -> String {
    let name = defaults.name.unwrap_or_default();
    let name: String = name
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_LIMIT)
        .collect();
    let name = name.trim();
    match name {
        "" => format!("From: {}", defaults.from),
        name if name.is_ascii() => {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            format!("From: \"{name}\" <{}>", defaults.from)
        }
        name => format!("From: {}\r\n <{}>", encoded(name), defaults.from),
    }
}

/// Encoded words of RFC 2047, one a line.
fn encoded(name: &str) -> String {
    let mut words = vec![String::new()];
    for c in name.chars() {
        let mut octets = [0; 4];
        let code: String = match c {
            c if c.is_ascii_alphanumeric() => c.to_string(),
            ' ' => "_".to_owned(),
            c => c
                .encode_utf8(&mut octets)
                .bytes()
                .map(|b| format!("={b:02X}"))
                .collect(),
        };
        match words.last_mut() {
            Some(word) if word.len() + code.len() <= 60 => word.push_str(&code),
            _ => words.push(code),
        }
    }
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("=?utf-8?Q?{word}?="))
        .collect();
    words.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn defaults() -> Defaults<'static> {
        Defaults {
            from: "anna@example.com",
            name: Some("Anna \"A\" Lind"),
            origin: "example.com",
            id: "01JD",
            hostname: "mta.example.net",
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_632_805),
        }
    }

    fn complete(text: &str) -> String {
        let octets = text.replace('\n', "\r\n").into_bytes();
        let head = Head::find(&octets);
        let done = head.complete(&octets, &defaults());
        String::from_utf8(done).unwrap().replace("\r\n", "\n")
    }

    const DATE: &str = "Date: Tue, 5 Mar 2024 10:00:05 +0000\n";
    const FROM: &str = "From: \"Anna \\\"A\\\" Lind\" <anna@example.com>\n";
    const ID: &str = "Message-ID: <01JD@mta.example.net>\n";

    #[test]
    fn queue_24_what_is_missing_is_added_and_names_get_a_domain() {
        assert_eq!(
            complete("Subject: Hi\nTo: root\n\nHello\n"),
            format!("{DATE}{FROM}{ID}Subject: Hi\nTo: root@example.com\n\nHello\n")
        );
        let cron = "From: root (Cron Daemon)\nTo: anna\nSubject: Cron\nDate: x\nMESSAGE-ID: <a@b>\nX-Cron-Env: <HOME=/root>\n\nout\n";
        assert_eq!(
            complete(cron),
            "From: root@example.com (Cron Daemon)\nTo: anna@example.com\nSubject: Cron\nDate: x\nMESSAGE-ID: <a@b>\nX-Cron-Env: <HOME=/root>\n\nout\n"
        );
    }

    #[test]
    fn queue_24_a_message_without_a_header_is_a_body() {
        let head = format!("{DATE}{FROM}{ID}");
        assert_eq!(
            complete("Hello\n\nthere: it is\n"),
            format!("{head}\nHello\n\nthere: it is\n")
        );
        assert_eq!(complete("\nHello\n"), format!("{head}\nHello\n"));
        assert_eq!(complete(""), format!("{head}\n"));
        assert_eq!(
            complete("Subject: Hi\nHello you\nTo: x\n\nend\n"),
            format!("{head}Subject: Hi\n\nHello you\nTo: x\n\nend\n")
        );
        assert_eq!(
            complete("Subject: Hi\n folded\n"),
            format!("{head}Subject: Hi\n folded\n\n")
        );
        assert_eq!(
            complete("From anna Mon Mar 4\nSubject: Hi\n\nx\n"),
            format!("{head}Subject: Hi\n\nx\n")
        );
    }

    #[test]
    fn queue_24_bcc_goes_and_a_directive_stays() {
        let text = "Bcc: secret@example.org,\n more@example.org\nSubject: Hi\nReturn-Path: <x@y>\nX-SMTP-R-API: {\"message\":\n{\"ref\":\"abc\"}}\nbcc: again\n\nBcc: body\n";
        assert_eq!(
            complete(text),
            format!(
                "{DATE}{FROM}{ID}Subject: Hi\nX-SMTP-R-API: {{\"message\":\n{{\"ref\":\"abc\"}}}}\n\nBcc: body\n"
            )
        );
        let octets = text.replace('\n', "\r\n").into_bytes();
        let head = Head::find(&octets);
        assert_eq!(head.bodies(&octets, &["To", "Bcc"]).count(), 2);
    }

    #[test]
    fn queue_24_a_name_cannot_break_the_header() {
        let of = |name: &'static str| {
            from(&Defaults {
                name: Some(name),
                ..defaults()
            })
        };
        assert_eq!(of("x\r\nBcc: y\0"), "From: \"xBcc: y\" <anna@example.com>");
        assert_eq!(of("  \n"), "From: anna@example.com");
        let long = of("Ærøskøbing Ærøskøbing Ærøskøbing Ærøskøbing");
        assert!(
            long.is_ascii() && long.lines().all(|line| line.len() <= 78),
            "{long}"
        );
        assert!(long.starts_with("From: =?utf-8?Q?=C3=86r=C3=B8sk=C3=B8bing_=C3=86r"));
    }

    #[test]
    fn queue_24_a_header_that_is_cut_is_seen() {
        let octets = b"Subject: Hi\r\nTo: x\r\n";
        let head = Head::find(octets);
        assert!(head.is_cut(octets, true) && !head.is_cut(octets, false));
        let octets = b"Subject: Hi\r\n\r\nx";
        assert!(!Head::find(octets).is_cut(octets, true));
    }
}
