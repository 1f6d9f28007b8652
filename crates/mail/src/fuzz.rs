//! Fuzz targets: functions over arbitrary octets that assert what must always hold (T-09).
//!
//! They run under plain `cargo test` with stored inputs and seeded mutations, and under any
//! coverage-guided driver.

use std::time::SystemTime;

use crate::dsn::{self, Action, Report, ReportedRecipient, Returned};
use crate::from::{all_mailboxes, first_mailbox};
use crate::header::{DIRECTIVE_NAME, Fault, HEADER_LIMIT, Header, scan, scan_folded_only};
use crate::trace::passes;

/// The header scan, in both readings, and what reads its fields.
pub fn header(data: &[u8]) {
    for limit in [HEADER_LIMIT, data.len() / 2] {
        let header = scan(data, limit);
        check(data, &header, limit);
        check(data, &scan_folded_only(data, limit), limit);
        if let Some(field) = header.from.and_then(|n| header.fields.get(n)) {
            from(field.body(data));
        }
        assert!(passes(data, &header, "mta1.example.net") <= header.received as usize);
    }
    without_directives(data);
}

fn check(data: &[u8], header: &Header, limit: usize) {
    assert!(header.end <= header.body && header.body <= data.len());
    assert!(header.end <= limit || header.fields.is_empty());
    assert_eq!(
        header.separated,
        header.body == header.end + 2 && header.body > header.end
    );
    let mut at = 0;
    for field in &header.fields {
        let range = field.range();
        assert!(at <= range.start && range.start < range.end && range.end <= header.end);
        let name = field.name(data);
        assert!(!name.is_empty() && name.iter().all(|b| (33..=126).contains(b) && *b != b':'));
        assert!(field.body(data).len() < range.len());
        if header.fault.is_none() {
            assert_eq!(
                at, range.start,
                "no octet of a sound header is outside its fields"
            );
        }
        at = range.end;
    }
    if header.fault.is_none() {
        assert_eq!(at, header.end);
    }
    assert_eq!(
        header.fields.is_empty(),
        header.fault.is_some() && header.fields.is_empty()
    );
    assert!(!header.fields.is_empty() || header.fault.is_some());
    let named = |name| header.named(data, name).count();
    assert_eq!(named("From"), header.from_count as usize);
    assert_eq!(named("Received"), header.received as usize);
    assert_eq!(named(DIRECTIVE_NAME), header.directive_count as usize);
    assert_eq!(
        header.directives(data).count(),
        header.directive_count as usize
    );
}

/// Cutting the directives out of a sound message leaves all other fields as they were.
fn without_directives(data: &[u8]) {
    let header = scan(data, HEADER_LIMIT);
    if header.fault.is_some() {
        return;
    }
    let mut rest = Vec::new();
    let mut at = 0;
    for field in header.directives(data) {
        rest.extend_from_slice(data.get(at..field.range().start).unwrap_or_default());
        at = field.range().end;
    }
    rest.extend_from_slice(data.get(at..).unwrap_or_default());
    let again = scan(&rest, HEADER_LIMIT);
    assert_eq!(again.directive_count, 0);
    assert_eq!(
        again.fields.len() + header.directive_count as usize,
        header.fields.len()
    );
    assert_eq!(
        (again.received, again.from_count),
        (header.received, header.from_count)
    );
    assert!(again.fault.is_none() || again.fault == Some(Fault::Missing));
    assert_eq!(rest.len() - again.body, data.len() - header.body);
}

/// The body of a From field.
pub fn from(data: &[u8]) {
    if let Some(mailbox) = first_mailbox(data) {
        let text = mailbox.as_str();
        assert!(
            text.len() <= 254 && !text.chars().any(char::is_control),
            "{text:?}"
        );
        assert!(!mailbox.local().is_empty() && !mailbox.domain().is_empty());
    }
    // Whatever is read strictly is found by the generous reading as well.
    if let Some(all) = all_mailboxes(data) {
        assert!(!all.is_empty() && first_mailbox(data).is_some());
    }
}

/// A notification about any original, with any words in it.
pub fn notification(data: &[u8]) {
    let text = String::from_utf8_lossy(data.get(..data.len().min(2000)).unwrap_or(data));
    let recipients = [ReportedRecipient {
        original: Some(("rfc822".to_owned(), text.clone().into_owned())),
        recipient: text.clone().into_owned(),
        action: Action::Failed,
        status: "5.0.0".to_owned(),
        remote: Some(text.clone().into_owned()),
        diagnostic: text.clone().into_owned(),
        last_attempt: SystemTime::UNIX_EPOCH,
    }];
    for returned in [Returned::Full(data), Returned::Headers(data)] {
        let built = dsn::build(&Report {
            id: &text,
            reporting_mta: &text,
            from_domain: &text,
            to: &text,
            envid: Some(&text),
            arrival: SystemTime::UNIX_EPOCH,
            now: SystemTime::UNIX_EPOCH,
            recipients: &recipients,
            returned,
        });
        assert!(built.ends_with(b"--\r\n"));
        let lone = |pair: &[u8]| {
            matches!(pair, [b'\r', b] if *b != b'\n') || matches!(pair, [a, b'\n'] if *a != b'\r')
        };
        assert!(!built.windows(2).any(lone));
        let header = scan(&built, HEADER_LIMIT);
        assert_eq!(header.fields.len(), 9);
    }
}

#[cfg(test)]
mod tests;
