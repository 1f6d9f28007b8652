//! The content policy at the end of data.

use std::time::{Duration, SystemTime};

use super::*;
use crate::settings::{Key, MessageKeys, RoutingKeys};

pub(super) fn account() -> Account {
    Account {
        name: "shop".into(),
        file: "users/shop.ini".into(),
        smtpssl: true,
        login: None,
        password: None,
        smtpip: Vec::new(),
        authorizedip: None,
        authorizedsender: None,
        authorizedroute: Vec::new(),
        authorizedrouting: Vec::new(),
        granted_from: None,
        maxhour: 0,
        maxday: 0,
        filter: Vec::new(),
        message: MessageKeys {
            timeout: Key::Absent,
            ..MessageKeys::default()
        },
        routing: RoutingKeys::default(),
        routing_by_group: Vec::new(),
        services: Vec::new(),
    }
}

pub(super) fn circumstances(account: Option<&Account>) -> Circumstances<'_> {
    Circumstances {
        account,
        null_sender: false,
        bare: false,
        has_more: false,
        keep_directive: false,
        own_name: "mta1.example.net",
        trace: None,
    }
}

/// What goes out: the patch applied.
pub(super) fn outgoing(octets: &[u8], patch: &Patch) -> Vec<u8> {
    let mut out = patch.prefix.clone();
    let mut at = 0;
    for cut in &patch.cuts {
        out.extend(&octets[at..cut.start]);
        at = cut.end;
    }
    out.extend(&octets[at..]);
    out
}

fn accepted(text: &str) -> Examined {
    let account = account();
    examine(text.as_bytes(), &circumstances(Some(&account))).unwrap()
}

fn refused(text: &str, circumstances: &Circumstances<'_>) -> String {
    said(&examine(text.as_bytes(), circumstances).unwrap_err())
}

fn said(refusal: &Refusal) -> String {
    let reply = refusal.reply(false);
    let text = reply.lines().next().unwrap();
    format!("{} {}", reply.code(), std::str::from_utf8(text).unwrap())
}

fn shop(text: &str) -> String {
    let account = account();
    refused(text, &circumstances(Some(&account)))
}

#[test]
fn relay_21_relay_27_a_message_without_directive_goes_out_as_it_came() {
    for text in [
        "From: a@b\r\n\r\nbody\r\n",
        "from :a@b\r\nX:\t y \r\n z\r\nBcc: c@d\r\n\r\n\r\n.\r\n..\r\n\r\n",
        "From: a@b\r\n",
        "From: J\u{fc}rgen <a@b>\r\nMIME-Version: 1.0\r\n\r\n\u{fc}\0",
    ] {
        let examined = accepted(text);
        assert!(examined.patch.prefix.is_empty() && examined.patch.cuts.is_empty());
        assert_eq!(outgoing(text.as_bytes(), &examined.patch), text.as_bytes());
    }
}

#[test]
fn relay_29_bcc_stays() {
    let text = "Bcc: secret@example.org\r\nFrom: a@b\r\nTo: x@y\r\nResent-To: z@y\r\n\r\n";
    assert!(accepted(text).patch.cuts.is_empty());
}

#[test]
fn relay_25_relay_27_the_directive_is_cut_to_the_octet() {
    let before = "To: c@d\r\nX-SMTP-R-API-Note: stays\r\n";
    let after = "From: a@b\r\n\r\nX-SMTP-R-API: {}\r\nbody";
    for field in [
        "X-SMTP-R-API: {\"message\":{\"ref\":\"abc\"}}\r\n",
        "x-smtp-r-api :{\"message\":\r\n\t{\"ref\":\"abc\"}}  \r\n \r\n",
        "X-SMTP-R-API: {\r\n\"message\": {\r\n\"ref\": \"abc\"\r\n}\r\n}\r\n",
    ] {
        let text = format!("{before}{field}{after}");
        let examined = accepted(&text);
        assert_eq!(examined.directive.reference.as_deref(), Some("abc"));
        let out = outgoing(text.as_bytes(), &examined.patch);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{before}{after}"));
    }
    // First, last and only field of the header.
    let text = "X-SMTP-R-API: {}\r\nFrom: a@b\r\n\r\n";
    assert_eq!(accepted(text).patch.cuts, vec![0..18]);
    let text = "From: a@b\r\nX-SMTP-R-API: {}\r\n\r\n";
    assert_eq!(accepted(text).patch.cuts, vec![11..29]);
}

#[test]
fn relay_26_keepdirective_keeps_it() {
    let account = account();
    let keep = Circumstances {
        keep_directive: true,
        ..circumstances(Some(&account))
    };
    let examined = examine(
        b"X-SMTP-R-API: {\"message\":{\"ref\":\"abc\"}}\r\nFrom: a@b\r\n\r\n",
        &keep,
    );
    let examined = examined.unwrap();
    assert!(examined.patch.cuts.is_empty());
    assert_eq!(examined.directive.reference.as_deref(), Some("abc"));
}

#[test]
fn relay_36_the_directive_of_a_stranger_is_cut_and_ignored() {
    let plain = "From: a@b\r\n\r\nbody";
    for field in [
        "X-SMTP-R-API: {\"message\":{\"ref\":\"abc\"}}\r\n",
        "X-SMTP-R-API: {\"nonsense\r\n folded\r\n",
        "X-SMTP-R-API: {}\r\nX-SMTP-R-API: []\r\n",
    ] {
        for keep_directive in [false, true] {
            let stranger = Circumstances {
                keep_directive,
                ..circumstances(None)
            };
            let text = format!("{field}{plain}");
            let examined = examine(text.as_bytes(), &stranger).unwrap();
            assert_eq!(examined.directive, Directive::default());
            assert_eq!(outgoing(text.as_bytes(), &examined.patch), plain.as_bytes());
        }
    }
}

#[test]
fn relay_22_relay_23_received_is_added_only_when_asked() {
    let account = account();
    let trace = Trace {
        helo: "app",
        peer: "192.0.2.1".parse().unwrap(),
        by: "mta1.example.net",
        with: "ESMTPSA",
        id: "1",
        recipient: None,
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
    };
    let text = b"X-SMTP-R-API: {}\r\nFrom: a@b\r\n\r\n";
    let with = Circumstances {
        trace: Some(&trace),
        ..circumstances(Some(&account))
    };
    let examined = examine(text, &with).unwrap();
    let out = outgoing(text, &examined.patch);
    assert!(out.starts_with(b"Received: from app ([192.0.2.1])\r\n\tby mta1.example.net "));
    assert!(out.ends_with(b"+0000\r\nFrom: a@b\r\n\r\n"));
    assert!(
        examine(text, &circumstances(Some(&account)))
            .unwrap()
            .patch
            .prefix
            .is_empty()
    );
}

#[test]
fn relay_24_t_24_more_than_100_received_fields_are_a_loop() {
    let of = |n: usize| format!("{}From: a@b\r\n\r\n", "Received: by x; y\r\n".repeat(n));
    assert_eq!(accepted(&of(100)).received_count, 100);
    assert_eq!(
        shop(&of(101)),
        "554 5.4.6 routing loop: more than 100 Received fields"
    );
    assert_eq!(refused(&of(101), &circumstances(None)), shop(&of(101)));
}

#[test]
fn t_24_a_message_that_came_through_us_twice_is_a_loop() {
    let ours = "Received: from x\r\n\tby mta1.example.net (Galerne) with ESMTP id 1; z\r\n";
    let other = "Received: by mta1.example.net (Postfix) id 1; z\r\n";
    let of = |n: usize| format!("{}{}From: a@b\r\n\r\n", ours.repeat(n), other.repeat(5));
    assert_eq!(accepted(&of(1)).received_count, 6);
    assert_eq!(
        shop(&of(2)),
        "554 5.4.6 routing loop: message came through mta1.example.net before"
    );
}

#[test]
fn relay_76_relay_77_every_9_0_code() {
    let bare = Circumstances {
        bare: true,
        ..circumstances(None)
    };
    for (text, reply) in [
        ("", "451 9.0.1 X-SMTP-R-API message has no header"),
        ("\r\nbody", "451 9.0.1 X-SMTP-R-API message has no header"),
        (
            "From: a@b\r\nbody\r\n",
            "451 9.0.1 X-SMTP-R-API header line 2 is malformed",
        ),
        (
            "From a Mon Jan 1\r\nFrom: a@b\r\n",
            "451 9.0.1 X-SMTP-R-API header line 1 is malformed",
        ),
        (
            "To: a@b\r\n\r\nFrom: a@b\r\n",
            "451 9.0.2 X-SMTP-R-API message has no From field",
        ),
        (
            "From: a@b\r\nfrom : c@d\r\n",
            "451 9.0.2 X-SMTP-R-API message has 2 From fields",
        ),
    ] {
        assert_eq!(shop(text), reply, "{text:?}");
        assert_eq!(refused(text, &circumstances(None)), reply, "{text:?}");
    }
    assert_eq!(
        refused("From: a@b\r\n\r\n", &bare),
        "451 9.0.3 X-SMTP-R-API message holds a bare CR, a bare LF or a NUL"
    );
    let long = format!("From: a@b\r\nX: {}\r\n\r\n", "x".repeat(996));
    assert_eq!(
        shop(&long),
        "451 9.0.4 X-SMTP-R-API header line 2 is longer than 998 octets"
    );
    let body = format!(
        "From: a@b\r\nX: {}\r\n\r\n{}",
        "x".repeat(995),
        "y".repeat(100_000)
    );
    assert!(accepted(&body).patch.cuts.is_empty());
}

#[test]
fn relay_32_relay_33_relay_35_relay_77_every_9_1_code_of_a_directive() {
    let with = |value: &str| shop(&format!("X-SMTP-R-API: {value}\r\nFrom: a@b\r\n\r\n"));
    for (value, start) in [
        (
            "{\"message\":",
            "451 9.1.0 X-SMTP-R-API directive is not terminated",
        ),
        (
            "{\"message\"}",
            "451 9.1.0 X-SMTP-R-API directive is not valid JSON",
        ),
        ("", "451 9.1.0 X-SMTP-R-API directive is not valid JSON"),
        (
            "[]",
            "451 9.1.1 X-SMTP-R-API directive must be one JSON object",
        ),
        (
            "{}\r\nX-SMTP-R-API: {}",
            "451 9.1.1 X-SMTP-R-API message has 2 directive fields",
        ),
        ("{\"mode\":1}", "451 9.1.2 X-SMTP-R-API unknown member mode"),
        (
            "{\"message\":1}",
            "451 9.1.3 X-SMTP-R-API message must be an object",
        ),
        (
            "{\"message\":{\"ref\":\"X\"}}",
            "451 9.1.4 X-SMTP-R-API message.ref must have 3 to 30 characters a-z 0-9 -",
        ),
    ] {
        assert!(with(value).starts_with(start), "{value}: {}", with(value));
    }
    let too_long = "451 9.1.1 X-SMTP-R-API directive is longer than 16384 octets";
    let folded = format!(
        "{{\"message\":{{}}\r\n{}}}",
        format!(" {}\r\n", " ".repeat(900)).repeat(20)
    );
    assert_eq!(with(&folded), too_long);
    // In one line too, where its length alone would be 9.0.4.
    assert_eq!(with(&format!("{{{}}}", " ".repeat(17_000))), too_long);
    assert!(with(&format!("{{{}}}", " ".repeat(2_000))).starts_with("451 9.0.4 "));
}

#[test]
fn relay_80_permcode_makes_our_refusals_permanent() {
    let account = account();
    let reply = |text: &str| {
        let refusal = examine(text.as_bytes(), &circumstances(Some(&account))).unwrap_err();
        let reply = refusal.reply(true);
        let line = reply.lines().next().unwrap().to_vec();
        (reply.code(), String::from_utf8(line).unwrap())
    };
    let (code, text) = reply("To: a@b\r\n\r\n");
    assert_eq!(
        (code, &text[..]),
        (550, "5.0.2 X-SMTP-R-API message has no From field")
    );
    let (code, text) = reply("X-SMTP-R-API: []\r\nFrom: a@b\r\n\r\n");
    assert_eq!((code, &text[..6]), (550, "5.1.1 "));
    // Class 9.3 stays temporary, and a standard reply stays what it is.
    let none = Refusal::new(Code::NoConnection, "no connection", "x").reply(true);
    assert_eq!(
        (none.code(), none.lines().next()),
        (451, Some(&b"9.3.2 X-SMTP-R-API no connection"[..]))
    );
    let listed = Refusal::new(Code::Listed, "recipient refused by list rfhard", "x").reply(true);
    assert_eq!(listed.code(), 550);
    assert_eq!(
        Refusal::standard(554, "5.4.6 loop", "x").reply(true).code(),
        554
    );
}

#[test]
fn relay_79_a_description_is_one_line_of_printable_ascii() {
    let refusal = Refusal::new(
        Code::Filtered,
        format!("a\r\nb\0{}\u{e9}", "x".repeat(900)),
        "r",
    );
    let reply = refusal.reply(false);
    let lines: Vec<_> = reply.lines().collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with(b"9.2.0 X-SMTP-R-API a??b?x") && lines[0].len() < 450);
    assert!(lines[0].iter().all(|&b| b == b' ' || b.is_ascii_graphic()));
    assert_eq!(refusal.rule(), "r");
}

#[test]
fn conf_55_granted_from_addr_must_match() {
    let granted = |patterns: &[&str], from: &str| {
        let mut account = account();
        account.granted_from = Some(patterns.iter().map(|p| p.to_string()).collect());
        let text = format!("From: {from}\r\n\r\n");
        examine(text.as_bytes(), &circumstances(Some(&account)))
            .map(|_| ())
            .map_err(|r| (said(&r), r))
    };
    for (pattern, from) in [
        ("*@example.com", "Anna <a@Example.COM>"),
        ("orders@example.com", "orders@example.com, x@y, x@y"),
        ("*@*.example.com", "a@sub.example.com"),
        ("*", "a@b"),
        ("*@m\u{fc}ller.example", "a@m\u{fc}ller.example"),
        ("*@xn--mller-kva.example", "a@m\u{fc}ller.example"),
    ] {
        assert!(granted(&["x@y", pattern], from).is_ok(), "{pattern} {from}");
    }
    for (pattern, from) in [
        ("*@example.com", "a@example.com.evil.example"),
        ("*@example.com", "\"a@example.com\" <a@evil.example>"),
        ("orders@example.com", "borders@example.com"),
        ("*@*.example.com", "a@example.com"),
        ("*", "nobody at all"),
        ("a@example.com", "a@example.com, evil@example.net"),
        ("a@example.com", "A <a@example.com>, E <evil@example.net>"),
        ("a@example.com", "Team: a@example.com, evil@example.net;"),
        ("a@example.com", "evil@example.net <a@example.com>"),
        ("*", "a@example.com, The Boss"),
        ("*", "<a@example.com> The Boss"),
    ] {
        assert!(granted(&[pattern], from).is_err(), "{pattern} {from}");
    }
    let (text, refusal) = granted(&["*@example.com"], "x@example.net").unwrap_err();
    assert_eq!(
        text,
        "451 9.2.3 X-SMTP-R-API account shop may not send with From x@example.net"
    );
    assert_eq!(refusal.rule(), "users/shop.ini [account] granted_from_addr");
    let (text, _) = granted(&["*@example.com"], "x@example.com, y@example.net").unwrap_err();
    assert!(
        text.ends_with(" may not send with From y@example.net"),
        "{text}"
    );
    let (text, _) = granted(&["*"], "x@example.com, The Boss").unwrap_err();
    assert!(
        text.ends_with(" From that is no list of addresses"),
        "{text}"
    );
    assert!(granted(&[], "a@b").is_err());
}

#[test]
fn relay_48_for_a_null_sender_the_from_domain_is_held_against_the_list() {
    let mut account = account();
    account.authorizedsender = Some(vec!["example.com".into()]);
    let ask = |null_sender, from: &str| {
        let circumstances = Circumstances {
            null_sender,
            ..circumstances(Some(&account))
        };
        examine(format!("From: {from}\r\n\r\n").as_bytes(), &circumstances)
    };
    assert!(ask(true, "a@EXAMPLE.com").is_ok());
    assert!(ask(false, "a@example.net").is_ok());
    let refusal = ask(true, "a@example.net").unwrap_err();
    assert_eq!(
        said(&refusal),
        "451 9.2.3 X-SMTP-R-API account shop may not send with From a@example.net"
    );
    assert_eq!(refusal.rule(), "users/shop.ini [account] authorizedsender");
    assert!(ask(true, "a@sub.example.com").is_err());
    assert!(ask(true, "nobody").is_err());
    assert!(ask(true, "a@example.com, b@example.com").is_ok());
    let refusal = ask(true, "a@example.com, b@example.net").unwrap_err();
    assert!(said(&refusal).ends_with(" From b@example.net"));
    assert!(ask(true, "a@example.com, The Boss").is_err());
}

#[test]
fn t_23_a_header_without_end_is_refused_early() {
    let too_large = "552 5.3.4 header is longer than 262144 octets";
    let many = format!("From: a@b\r\n{}", "X: y\r\n".repeat(100_000));
    assert_eq!(shop(&many), too_large);
    let part = "From: a@b\r\nX: y\r\n";
    let account = account();
    let more = Circumstances {
        has_more: true,
        ..circumstances(Some(&account))
    };
    assert_eq!(refused(part, &more), too_large);
    assert!(examine(format!("{part}\r\n").as_bytes(), &more).is_ok());
    // Cut within a field name, or within a directive: not the sender's fault of form.
    assert_eq!(refused(&format!("{part}X-Ma"), &more), too_large);
    assert_eq!(
        refused(&format!("{part}X-SMTP-R-API: {{\"a\":\r\n"), &more),
        too_large
    );
    let malformed = refused(&format!("{part}no field\r\nX-Ma"), &more);
    assert!(malformed.starts_with("451 9.0.1 "), "{malformed}");
    let line = format!("From: a@b\r\nX: {}", "x".repeat(2_000_000));
    assert!(refused(&line, &more).starts_with("451 9.0.4 "));
}

#[test]
fn the_message_id_is_safe_to_log() {
    let examined = accepted("From: a@b\r\nMessage-Id:\r\n <1\u{e9}\t@x>\r\n\r\n");
    assert_eq!(examined.message_id.as_deref(), Some("<1???@x>"));
    let long = format!("From: a@b\r\nMessage-Id: {}\r\n", "x".repeat(900));
    assert_eq!(accepted(&long).message_id.unwrap().len(), 255);
    assert_eq!(accepted("From: a@b\r\n").message_id, None);
    assert_eq!(
        accepted("From: A <a@b>\r\n").header_from.unwrap().as_str(),
        "a@b"
    );
}

#[test]
fn t_12_tls_is_not_required_where_the_one_field_says_no() {
    let said =
        |fields: &str| accepted(&format!("From: a@b.example\r\n{fields}\r\n")).tls_not_required;
    for field in [
        "TLS-Required: No\r\n",
        "tls-required:no\r\n",
        "TLS-Required: \r\n NO \r\n",
    ] {
        assert!(said(field), "{field:?}");
    }
    for field in [
        "",
        "TLS-Required: Yes\r\n",
        "TLS-Required: No, really\r\n",
        "TLS-Required:\r\n",
        "X-TLS-Required: No\r\n",
        "TLS-Required: No\r\nTLS-Required: No\r\n",
        "TLS-Required: No\r\nTLS-Required: Yes\r\n",
    ] {
        assert!(!said(field), "{field:?}");
    }
}
