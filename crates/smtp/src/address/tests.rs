use super::*;

fn fault(text: &str) -> AddressError {
    Mailbox::parse(text).unwrap_err()
}

#[test]
fn an_address_is_kept_as_it_was_written() {
    for (text, local, domain) in [
        ("Bob@Example.COM", "Bob", "Example.COM"),
        (
            "a+b=c!#$%&'*/?^_`{|}~-@x.example",
            "a+b=c!#$%&'*/?^_`{|}~-",
            "x.example",
        ),
        (
            "\"a b@c>\\\"\"@example.com",
            "\"a b@c>\\\"\"",
            "example.com",
        ),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@localhost", "a", "localhost"),
        ("a..b.@example.com", "a..b.", "example.com"),
        ("a@under_score.example", "a", "under_score.example"),
        ("é@exämple.com", "é", "exämple.com"),
    ] {
        let mailbox = Mailbox::parse(text).unwrap();
        assert_eq!(
            (mailbox.as_str(), mailbox.local(), mailbox.domain()),
            (text, local, domain)
        );
        assert_eq!(mailbox.to_string(), text);
    }
}

#[test]
fn the_domain_is_compared_in_lower_case_a_labels() {
    let ascii = |text: &str| Mailbox::parse(text).unwrap().ascii_domain().into_owned();
    assert_eq!(ascii("a@Example.COM"), "example.com");
    assert_eq!(ascii("a@BÜCHER.example"), "xn--bcher-kva.example");
    assert_eq!(ascii("a@[IPv6:2001:DB8::1]"), "[ipv6:2001:db8::1]");
    assert_eq!(
        domain_to_ascii("Bücher.Example").unwrap(),
        "xn--bcher-kva.example"
    );
    assert!(domain_to_ascii("[192.0.2.1]").is_err());
    assert!(domain_to_ascii("a b").is_err());
}

#[test]
fn t_08_address_literals() {
    let address = |text: &str| Mailbox::parse(text).unwrap().literal();
    assert_eq!(address("a@[192.0.2.1]"), Some("192.0.2.1".parse().unwrap()));
    assert_eq!(
        address("a@[ipv6:2001:db8::1]"),
        Some("2001:db8::1".parse().unwrap())
    );
    assert_eq!(address("a@example.com"), None);
    for text in [
        "a@[192.0.2]",
        "a@[IPv6:zz]",
        "a@[2001:db8::1]",
        "a@[]",
        "a@[x400:y]",
    ] {
        assert!(matches!(fault(text), AddressError::Impossible(_)), "{text}");
    }
    for text in [
        "a@[192.0.2.1",
        "a@[192.0.2.1]x",
        "a@[192.0.2.1 ]",
        "a@x[192.0.2.1]",
        "a@[[192.0.2.1]]",
    ] {
        assert!(matches!(fault(text), AddressError::Syntax(_)), "{text}");
    }
}

#[test]
fn relay_78_t_08_what_parses_but_cannot_exist_is_told_apart() {
    let long_label = format!("a@{}.example", "x".repeat(64));
    let long_local = format!("{}@example.com", "x".repeat(65));
    let long_domain = format!("a@{}", ["x"; 127].join(".") + ".yy");
    for text in [
        "a@b..c",
        "a@",
        "@b",
        "@",
        "a@.b",
        "a@b.",
        "a@-b.example",
        "a@b-.example",
        "a@192.0.2.1",
        "a@xn--a.é",
        &long_label,
        &long_local,
        &long_domain,
    ] {
        assert!(
            matches!(fault(text), AddressError::Impossible(_)),
            "{text}: {:?}",
            fault(text)
        );
    }
    for text in [
        "",
        "a",
        "a b@c",
        "a@b c",
        "a@b@c",
        "\"a@b",
        "\"a\"b@c",
        "(x)a@b",
        "a@b(x)",
        "<a@b>",
        "a@b>",
        "a,b@c",
        "a@b;c",
        "a\r\nRCPT TO:<x>@b",
        "a@b\r\n",
        "a\0@b",
        "\"a\n\"@b",
        "\"a\\\0\"@b",
        "a:b@c",
        "a@b/c",
        "a\\b@c",
    ] {
        assert!(
            matches!(fault(text), AddressError::Syntax(_)),
            "{text:?}: {:?}",
            fault(text)
        );
    }
    assert!(Mailbox::parse(&format!("{}@example.com", "x".repeat(64))).is_ok());
    assert!(Mailbox::parse(&format!("a@{}.example", "x".repeat(63))).is_ok());
}

#[test]
fn t_08_a_local_part_of_four_megabytes_is_refused_at_once() {
    let text = format!("{}@example.com", "x".repeat(4 << 20));
    let begin = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(matches!(fault(&text), AddressError::Impossible(_)));
    }
    assert!(begin.elapsed().as_secs() < 1, "it is not read");
    let Ok(ForwardPath::Impossible { text, .. }) = ForwardPath::parse(&text, "h.example") else {
        panic!()
    };
    assert_eq!(text.len(), MAILBOX_MAX);
    let wide = "é".repeat(4000);
    let Ok(ForwardPath::Impossible { text, .. }) = ForwardPath::parse(&wide, "h.example") else {
        panic!()
    };
    assert!(text.len() <= MAILBOX_MAX);
}

#[test]
fn t_08_internationalized_domains() {
    for text in ["a@é.example", "a@例え.テスト", "a@xn--bcher-kva.example"] {
        assert!(Mailbox::parse(text).is_ok(), "{text}");
    }
    // Mappings that would yield other characters, forbidden code points, a label grown too long.
    let grown = format!("a@{}.example", "é".repeat(63));
    for text in [
        "a@\u{2024}.example",
        "a@\u{ff0f}x.example",
        "a@\u{200d}.example",
        "a@\u{fffd}.example",
        &grown,
    ] {
        assert!(
            matches!(fault(text), AddressError::Impossible(_)),
            "{text:?}"
        );
    }
    assert!(!Mailbox::parse("é@example.com").unwrap().is_ascii());
}

#[test]
fn t_08_source_routes_are_dropped() {
    let reverse = |inside: &str| ReversePath::parse(inside);
    for inside in [
        "@a.example:b@c.example",
        "@a.example,@[IPv6:::1]:b@c.example",
        "b@c.example",
    ] {
        assert_eq!(reverse(inside).unwrap().as_str(), "b@c.example", "{inside}");
    }
    for inside in [
        "@a.example,:b@c",
        "@a b:c@d",
        "@a.example,b.example:c@d",
        "@:b@c",
        "@a::b@c",
    ] {
        assert!(reverse(inside).is_err(), "{inside}");
    }
    let many = "@a.example,".repeat(100_000) + "@b.example:c@d.example";
    assert!(reverse(&many).is_err());
    assert_eq!(reverse("").unwrap(), ReversePath::Null);
    assert_eq!(ReversePath::Null.to_string(), "<>");
    assert_eq!(reverse("a@b.example").unwrap().to_string(), "<a@b.example>");
}

#[test]
fn postmaster_alone_is_ours() {
    let path = ForwardPath::parse("PostMaster", "relay.example.com").unwrap();
    assert_eq!(
        path,
        ForwardPath::Mailbox(Mailbox::parse("PostMaster@relay.example.com").unwrap())
    );
    assert!(ForwardPath::parse("somebody", "relay.example.com").is_err());
}
