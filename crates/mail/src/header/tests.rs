//! What the header scan finds and what it objects to.

use super::*;

fn scanned(text: &str) -> Header {
    scan(text.as_bytes(), HEADER_LIMIT)
}

fn directive(text: &str) -> (String, Header) {
    let header = scanned(text);
    let field = header.directives(text.as_bytes()).next().unwrap();
    (text[field.range()].to_owned(), header)
}

#[test]
fn relay_21_fields_are_ranges_of_the_message_and_nothing_is_lost() {
    let text = "Subject: a\r\n b\r\nFrom:x@y\r\nReceived : z\r\nMESSAGE-ID: <1@x>\r\n\r\nbody\r\n";
    let header = scanned(text);
    assert_eq!(header.fault, None);
    let pieces: Vec<_> = header.fields.iter().map(|f| &text[f.range()]).collect();
    assert_eq!(
        pieces,
        [
            "Subject: a\r\n b\r\n",
            "From:x@y\r\n",
            "Received : z\r\n",
            "MESSAGE-ID: <1@x>\r\n"
        ]
    );
    assert_eq!(&text[header.end..header.body], "\r\n");
    assert_eq!(&text[header.body..], "body\r\n");
    assert!(header.separated);
    assert_eq!(
        (header.from, header.from_count, header.received),
        (Some(1), 1, 1)
    );
    assert_eq!(header.message_id, Some(3));
    let subject = header.fields[0];
    assert_eq!(subject.body(text.as_bytes()), b" a\r\n b");
    assert_eq!(header.fields[2].name(text.as_bytes()), b"Received");
}

#[test]
fn relay_77_odd_headers_that_are_accepted() {
    for text in [
        "From: a@b\r\n",      // header only, no empty line
        "From: a@b",          // a last line without CRLF (BDAT)
        "From : a@b\r\n\r\n", // blank before the colon
        "From \t: a@b\r\n\r\n",
        "From:\r\n\r\n",                                    // empty body
        "From: a@b\r\nSubject: x\r\n \r\n\t\r\n y\r\n\r\n", // blank folded lines
        "From: J\u{fc}rgen <a@b>\r\n\r\n",                  // 8-bit octets
        "From: a@b\r\nX!#$%&'*+-/=?^_`{|}~: y\r\n\r\n",
    ] {
        let header = scanned(text);
        assert_eq!((header.fault, header.from_count), (None, 1), "{text:?}");
    }
}

#[test]
fn relay_77_malformed_lines_and_missing_headers_are_found() {
    for (text, line) in [
        (
            "From alice@example.com Mon Jan  1 00:00:00 2024\r\nFrom: a@b\r\n\r\n",
            1,
        ),
        (" folded\r\nFrom: a@b\r\n\r\n", 1),
        ("From: a@b\r\nno colon\r\n\r\n", 2),
        ("From: a@b\r\n: no name\r\n\r\n", 2),
        ("From: a@b\r\ntwo words: x\r\n\r\n", 2),
        ("From: a@b\r\nna\u{ef}ve: x\r\n\r\n", 2),
        ("From: a@b\r\nx\0y: x\r\n\r\n", 2),
        ("From: a@b\r\nHello, this is the body\r\n", 2),
        (".\r\nFrom: a@b\r\n\r\n", 1),
    ] {
        assert_eq!(
            scanned(text).fault,
            Some(Fault::Malformed { line }),
            "{text:?}"
        );
    }
    for text in ["", "\r\n", "\r\nFrom: a@b\r\n\r\n"] {
        assert_eq!(scanned(text).fault, Some(Fault::Missing), "{text:?}");
    }
}

#[test]
fn relay_77_a_line_may_have_998_octets() {
    let line = |n: usize| {
        format!(
            "From: a@b\r\nX: {}\r\n\r\n{}\r\n",
            "x".repeat(n - 3),
            "y".repeat(5000)
        )
    };
    assert_eq!(scanned(&line(998)).fault, None);
    assert_eq!(scanned(&line(999)).fault, Some(Fault::LongLine { line: 2 }));
}

#[test]
fn a_bare_lf_ends_no_line() {
    let header = scanned("From: a@b\nX: y\r\n\n\r\nZ\r\n\r\n");
    assert_eq!(header.fields.len(), 1);
    assert_eq!(header.fault, Some(Fault::Malformed { line: 2 }));
}

#[test]
fn relay_30_relay_31_the_directive_is_found_whatever_its_case() {
    for name in [
        "X-SMTP-R-API",
        "x-smtp-r-api",
        "X-Smtp-R-Api ",
        "X-SMTP-R-API \t",
    ] {
        let (field, header) = directive(&format!("From: a@b\r\n{name}:{{}}\r\nTo: c@d\r\n\r\n"));
        assert_eq!(field, format!("{name}:{{}}\r\n"));
        assert_eq!((header.directive, header.directive_count), (Some(1), 1));
        assert_eq!(header.fault, None);
    }
    assert_eq!(
        scanned("X-SMTP-R-APIS: {}\r\nFrom: a@b\r\n\r\n").directive,
        None
    );
    // Not in the body.
    assert_eq!(
        scanned("From: a@b\r\n\r\nX-SMTP-R-API: {}\r\n").directive,
        None
    );
}

#[test]
fn relay_27_relay_32_the_range_ends_with_its_last_crlf() {
    let rest = "From: a@b\r\n\r\nbody\r\n";
    for field in [
        "X-SMTP-R-API: {\"message\":{}}\r\n",
        "X-SMTP-R-API: {\"message\":\r\n {\"ref\":\"abc\"}}\r\n",
        "X-SMTP-R-API:\r\n {}\r\n",
        "X-SMTP-R-API: {\r\n\"message\": {\r\n\"ref\": \"abc\"\r\n}\r\n}\r\n",
        "X-SMTP-R-API: {\r\nFrom: not a field\r\nReceived: neither}\r\n",
        "X-SMTP-R-API: {\"message\":{\"title\":\"a } b\\\"}} {{{\"}}\r\n",
        "X-SMTP-R-API: {\"message\":{\"title\":\"}\\\\\",\r\n\"ref\":\"{{{\"\r\n}}\r\n \r\n",
    ] {
        let (found, header) = directive(&format!("{field}{rest}"));
        assert_eq!(found, field);
        assert_eq!(header.fault, None, "{field:?}");
        assert_eq!((header.from_count, header.received), (1, 0), "{field:?}");
    }
}

#[test]
fn relay_32_a_directive_open_at_the_end_of_the_header_is_a_fault() {
    for text in [
        "X-SMTP-R-API: {\r\nFrom: a@b\r\n\r\n}\r\n",
        "From: a@b\r\nX-SMTP-R-API: {\"message\":{}",
        "From: a@b\r\nX-SMTP-R-API: {\"message\":\"}\r\n\r\n",
    ] {
        assert_eq!(scanned(text).fault, Some(Fault::OpenDirective), "{text:?}");
    }
}

#[test]
fn relay_36_open_braces_swallow_nothing_for_those_who_may_not_direct() {
    let text = "X-SMTP-R-API: {\r\n folded\r\nFrom: a@b\r\n\r\n";
    let header = scan_folded_only(text.as_bytes(), HEADER_LIMIT);
    assert_eq!((header.fault, header.from_count), (None, 1));
    let field = header.directives(text.as_bytes()).next().unwrap();
    assert_eq!(&text[field.range()], "X-SMTP-R-API: {\r\n folded\r\n");
}

#[test]
fn relay_33_all_directive_fields_are_counted() {
    let header = scanned("X-SMTP-R-API: {}\r\nFrom: a@b\r\nx-smtp-r-api: {}\r\n\r\n");
    assert_eq!((header.directive, header.directive_count), (Some(0), 2));
}

#[test]
fn t_23_a_hundred_thousand_headers_and_a_line_of_two_megabytes_are_bounded() {
    let many = "X: y\r\n".repeat(100_000);
    let header = scanned(&many);
    assert_eq!(header.fault, Some(Fault::TooLarge));
    assert!(header.end <= HEADER_LIMIT && header.fields.len() <= HEADER_LIMIT / 6 + 1);

    let long = format!("From: a@b\r\nX: {}\r\n\r\n", "x".repeat(2_000_000));
    let header = scanned(&long);
    assert_eq!(header.fault, Some(Fault::LongLine { line: 2 }));
    assert_eq!(header.fields.len(), 1);

    let body = format!("From: a@b\r\n\r\n{}", "x".repeat(2_000_000));
    assert_eq!(scanned(&body).fault, None);
}

#[test]
fn t_23_the_limit_is_exact() {
    let text = "From: a@b\r\nX: y\r\n\r\nbody";
    assert_eq!(scan(text.as_bytes(), 17).fault, None);
    assert_eq!(scan(text.as_bytes(), 16).fault, Some(Fault::TooLarge));
    assert_eq!(scan(&text.as_bytes()[..17], 17).fault, None);
}
