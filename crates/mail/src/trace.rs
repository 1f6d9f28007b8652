//! The trace field that a relay may put in front of a message (RELAY-23, RFC 5321 §4.4), and the
//! recognition of our own fields in a message that comes back (T-24).

use std::net::IpAddr;
use std::time::SystemTime;

use crate::header::Header;

/// How we mark ourselves in `Received` fields, behind our name.
const MARK: &str = "(Galerne)";

/// What one `Received` field says. Nothing in it is secret: no login, no account.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// The name the client gave in EHLO or HELO.
    pub helo: &'a str,
    pub peer: IpAddr,
    /// Our own name.
    pub by: &'a str,
    /// `ESMTP`, `ESMTPS`, `ESMTPSA` …, see [`protocol`].
    pub with: &'static str,
    /// The id of the message.
    pub id: &'a str,
    /// The recipient, only when there is exactly one: others must not learn of each other.
    pub recipient: Option<&'a str>,
    pub at: SystemTime,
}

impl Trace<'_> {
    /// The whole field, folded, with its final CRLF.
    pub fn field(&self) -> Vec<u8> {
        let peer = match self.peer.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("IPv6:{address}"),
        };
        let recipient = self.recipient.filter(|r| is_plain(r));
        let target = recipient.map_or(String::new(), |r| format!("\r\n\tfor <{r}>"));
        format!(
            "Received: from {} ([{peer}])\r\n\tby {} {MARK} with {}\r\n\tid {}{target};\r\n\t{}\r\n",
            word(self.helo),
            word(self.by),
            self.with,
            word(self.id),
            date(self.at),
        )
        .into_bytes()
    }
}

/// The `with` word of RFC 3848 and RFC 6531 §4.3.
pub fn protocol(extended: bool, tls: bool, authenticated: bool, smtputf8: bool) -> &'static str {
    match (extended, smtputf8, tls, authenticated) {
        (false, ..) => "SMTP",
        (_, false, false, false) => "ESMTP",
        (_, false, false, true) => "ESMTPA",
        (_, false, true, false) => "ESMTPS",
        (_, false, true, true) => "ESMTPSA",
        (_, true, false, false) => "UTF8SMTP",
        (_, true, false, true) => "UTF8SMTPA",
        (_, true, true, false) => "UTF8SMTPS",
        (_, true, true, true) => "UTF8SMTPSA",
    }
}

/// How often this message went through the server of this name: the `Received` fields that carry
/// our mark and `name`. Fields of other software on the same machine do not count.
pub fn passes(octets: &[u8], header: &Header, name: &str) -> usize {
    if header.received == 0 || name.is_empty() {
        return 0;
    }
    let received = header.named(octets, "Received");
    received.filter(|f| is_ours(f.body(octets), name)).count()
}

fn is_ours(body: &[u8], name: &str) -> bool {
    let words: Vec<&[u8]> = body
        .split(u8::is_ascii_whitespace)
        .filter(|w| !w.is_empty())
        .take(16)
        .collect();
    words.windows(3).any(|three| {
        matches!(three, [by, host, mark]
            if by.eq_ignore_ascii_case(b"by")
                && host.eq_ignore_ascii_case(name.as_bytes())
                && *mark == MARK.as_bytes())
    })
}

/// `Tue, 5 Mar 2024 10:00:00 +0000` (RFC 5322 §3.3), in UTC.
pub fn date(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%a, %-d %b %Y %H:%M:%S +0000").to_string()
}

/// A name as it may stand in the field: letters, digits and what names and literals need.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let word: String = text
        .chars()
        .take(255)
        .map(|c| if plain(c) { c } else { '?' })
        .collect();
    if word.is_empty() {
        "unknown".to_owned()
    } else {
        word
    }
}

fn is_plain(recipient: &str) -> bool {
    recipient.len() <= 254
        && recipient
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{HEADER_LIMIT, scan};
    use std::time::Duration;

    fn trace() -> Trace<'static> {
        Trace {
            helo: "app.example.com",
            peer: "192.0.2.7".parse().unwrap(),
            by: "mta1.example.net",
            with: protocol(true, true, true, false),
            id: "01JD7ZK4T8Q2",
            recipient: Some("anna@example.org"),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_632_805),
        }
    }

    fn text(trace: &Trace<'_>) -> String {
        String::from_utf8(trace.field()).unwrap()
    }

    #[test]
    fn relay_23_the_field_says_what_rfc_5321_asks() {
        assert_eq!(
            text(&trace()),
            "Received: from app.example.com ([192.0.2.7])\r\n\
             \tby mta1.example.net (Galerne) with ESMTPSA\r\n\
             \tid 01JD7ZK4T8Q2\r\n\
             \tfor <anna@example.org>;\r\n\
             \tTue, 5 Mar 2024 10:00:05 +0000\r\n"
        );
        let several = Trace {
            recipient: None,
            peer: "2001:db8::1".parse().unwrap(),
            ..trace()
        };
        assert!(text(&several).contains("([IPv6:2001:db8::1])"));
        assert!(!text(&several).contains("for <"));
        assert_eq!(protocol(false, true, false, false), "SMTP");
        assert_eq!(protocol(true, false, false, true), "UTF8SMTP");
    }

    #[test]
    fn t_05_nothing_is_injected_by_a_name() {
        let evil = "x\r\nBcc: y@z (\u{e9}\0";
        let long = "a".repeat(5000);
        for helo in [evil, "", long.as_str()] {
            let trace = Trace {
                helo,
                id: evil,
                by: evil,
                recipient: Some(evil),
                ..trace()
            };
            let field = trace.field();
            let header = scan(&field, HEADER_LIMIT);
            assert_eq!(
                (header.fault, header.fields.len(), header.received),
                (None, 1, 1)
            );
            assert_eq!(header.end, field.len());
            assert!(field.is_ascii());
        }
    }

    #[test]
    fn t_24_our_own_fields_are_recognised() {
        let mut message = trace().field();
        let lower = Trace {
            by: "MTA1.example.net",
            ..trace()
        };
        message.extend(lower.field());
        message.extend(b"Received: by mta1.example.net (Postfix, from userid 1)\r\n\tid 4; x\r\n");
        message.extend(b"Received: from mta1.example.net (Galerne) by y; x\r\n");
        message.extend(b"From: a@b\r\n\r\nReceived: by mta1.example.net (Galerne)\r\n");
        let header = scan(&message, HEADER_LIMIT);
        assert_eq!(passes(&message, &header, "mta1.example.net"), 2);
        assert_eq!(passes(&message, &header, "mta2.example.net"), 0);
        assert_eq!(passes(&message, &header, ""), 0);
    }
}
