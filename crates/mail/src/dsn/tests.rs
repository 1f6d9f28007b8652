//! The form of notifications.

use std::time::Duration;

use super::*;

const MESSAGE: &[u8] = b"From: a@example.com\r\nSubject: Hello\r\n\r\n.\r\nbody\r\n";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_632_800 + seconds)
}

fn recipient() -> ReportedRecipient {
    ReportedRecipient {
        original: Some(("rfc822".into(), "Anna@example.org".into())),
        recipient: "anna@example.org".into(),
        action: Action::Failed,
        status: "5.1.1".into(),
        remote: Some("mx.example.org".into()),
        diagnostic: "550 5.1.1 No such user".into(),
        last_attempt: at(7),
    }
}

fn report<'a>(recipients: &'a [ReportedRecipient], returned: Returned<'a>) -> Report<'a> {
    Report {
        id: "01JD7ZK4T8Q2-dsn",
        reporting_mta: "mta1.example.net",
        from_domain: "example.com",
        to: "bounces@example.com",
        envid: Some("QQ314159"),
        arrival: at(5),
        now: at(9),
        recipients,
        returned,
    }
}

fn text_of(report: &Report<'_>) -> String {
    let octets = build(report);
    for line in octets.split(|&b| b == b'\n') {
        assert!(line.is_empty() || line.ends_with(b"\r"), "bare LF");
        assert!(line.len() <= 999 && !line[..line.len().saturating_sub(1)].contains(&b'\r'));
    }
    String::from_utf8(octets).unwrap()
}

#[test]
fn ret_38_the_whole_notification() {
    let recipients = [recipient()];
    let expected = "Date: Tue, 5 Mar 2024 10:00:09 +0000\r\n\
From: Mail Delivery System <postmaster@example.com>\r\n\
To: <bounces@example.com>\r\n\
Subject: Undelivered mail returned to sender\r\n\
Message-ID: <01JD7ZK4T8Q2-dsn@mta1.example.net>\r\n\
Auto-Submitted: auto-replied\r\n\
MIME-Version: 1.0\r\n\
Content-Type: multipart/report; report-type=delivery-status;\r\n\
\tboundary=\"=_01JD7ZK4T8Q2-dsn\"\r\n\
Content-Transfer-Encoding: 7bit\r\n\
\r\n\
This is a delivery status notification in MIME format.\r\n\
\r\n\
--=_01JD7ZK4T8Q2-dsn\r\n\
Content-Type: text/plain; charset=utf-8\r\n\
Content-Transfer-Encoding: 7bit\r\n\
\r\n\
This is the mail system at mta1.example.net.\r\n\
\r\n\
Your message of Tue, 5 Mar 2024 10:00:05 +0000 could not be delivered to:\r\n\
\r\n\
<anna@example.org>\r\n\
\x20   mx.example.org said: 550 5.1.1 No such user\r\n\
\r\n\
The message is attached.\r\n\
\r\n\
--=_01JD7ZK4T8Q2-dsn\r\n\
Content-Type: message/delivery-status\r\n\
Content-Transfer-Encoding: 7bit\r\n\
\r\n\
Reporting-MTA: dns; mta1.example.net\r\n\
Original-Envelope-Id: QQ314159\r\n\
Arrival-Date: Tue, 5 Mar 2024 10:00:05 +0000\r\n\
\r\n\
Original-Recipient: rfc822;Anna@example.org\r\n\
Final-Recipient: rfc822;anna@example.org\r\n\
Action: failed\r\n\
Status: 5.1.1\r\n\
Remote-MTA: dns; mx.example.org\r\n\
Diagnostic-Code: smtp; 550 5.1.1 No such user\r\n\
Last-Attempt-Date: Tue, 5 Mar 2024 10:00:07 +0000\r\n\
\r\n\
--=_01JD7ZK4T8Q2-dsn\r\n\
Content-Type: message/rfc822\r\n\
Content-Transfer-Encoding: 7bit\r\n\
\r\n\
From: a@example.com\r\n\
Subject: Hello\r\n\
\r\n\
.\r\n\
body\r\n\
\r\n\
--=_01JD7ZK4T8Q2-dsn--\r\n";
    assert_eq!(
        text_of(&report(&recipients, Returned::Full(MESSAGE))),
        expected
    );
}

#[test]
fn ret_38_hdrs_returns_the_header_alone() {
    let recipients = [recipient()];
    let text = text_of(&report(&recipients, Returned::Headers(MESSAGE)));
    let part = "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
From: a@example.com\r\nSubject: Hello\r\n\r\n--=_";
    assert!(text.contains(part), "{text}");
    assert!(text.contains("The header of the message is attached."));
    assert!(!text.contains("body"));
}

#[test]
fn ret_38_several_recipients_have_a_block_each() {
    let later = ReportedRecipient {
        original: None,
        recipient: "b@example.org".into(),
        action: Action::Delayed,
        status: "4.4.7".into(),
        remote: None,
        diagnostic: "no connection to mx.example.org in 30 s".into(),
        ..recipient()
    };
    let recipients = [recipient(), later];
    let bare = Report {
        envid: None,
        ..report(&recipients, Returned::Headers(MESSAGE))
    };
    let text = text_of(&bare);
    assert!(text.contains(
        "\r\n\r\nFinal-Recipient: rfc822;b@example.org\r\nAction: delayed\r\nStatus: 4.4.7\r\n\
         Diagnostic-Code: x-galerne; no connection to mx.example.org in 30 s\r\nLast-"
    ));
    assert_eq!(text.matches("Final-Recipient:").count(), 2);
    assert_eq!(text.matches("Original-Recipient:").count(), 1);
    assert!(!text.contains("Original-Envelope-Id"));
}

#[test]
fn ret_38_eight_bit_originals_and_addresses_say_so() {
    let message = "From: a@b\r\nSubject: \u{fc}\r\n\r\nbody".as_bytes();
    let recipients = [ReportedRecipient {
        recipient: "j\u{fc}rgen@example.org".into(),
        ..recipient()
    }];
    let text = text_of(&report(&recipients, Returned::Full(message)));
    assert_eq!(text.matches("Content-Transfer-Encoding: 8bit").count(), 3);
    assert!(text.contains("Final-Recipient: utf-8;j\\x{FC}rgen@example.org\r\n"));
    assert!(text.contains("\r\n<j\u{fc}rgen@example.org>\r\n"));
    assert!(text.contains("body\r\n\r\n--=_"));
}

#[test]
fn ret_38_the_boundary_never_occurs_in_what_is_returned() {
    let message = b"From: a@b\r\n\r\n--=_01JD7ZK4T8Q2-dsn--\r\n--=_01JD7ZK4T8Q2-dsn_\r\n";
    let recipients = [recipient()];
    let text = text_of(&report(&recipients, Returned::Full(message)));
    assert!(text.contains("boundary=\"=_01JD7ZK4T8Q2-dsn__\""));
    assert!(text.ends_with("--=_01JD7ZK4T8Q2-dsn__--\r\n"));
}

#[test]
fn t_05_nothing_of_a_client_or_a_remote_is_injected() {
    let evil = "x>\r\nBcc: y@z\r\n\r\n\0\u{1b}[2J\u{e9}";
    let recipients = [ReportedRecipient {
        original: Some((evil.into(), evil.into())),
        recipient: evil.into(),
        status: evil.into(),
        remote: Some(evil.into()),
        diagnostic: format!("{evil}{}", " \n y".repeat(50_000)),
        ..recipient()
    }];
    let mut report = report(&recipients, Returned::Full(b"a\nb\rc\r\nd"));
    (report.id, report.reporting_mta, report.from_domain) = (evil, evil, evil);
    (report.to, report.envid) = (evil, Some(evil));
    let text = text_of(&report);
    let header = scan(text.as_bytes(), HEADER_LIMIT);
    assert_eq!((header.fault, header.fields.len()), (None, 9));
    assert!(!text.contains("\nBcc") && !text.contains('\0') && !text.contains('\u{1b}'));
    assert!(text.contains("\r\n\r\na\r\nb\r\nc\r\nd\r\n"));
    assert!(text.len() < 40_000);
}
