//! The directive: every form, every limit, every code.

use super::*;

fn code(value: &str) -> String {
    let reply = parse(value.as_bytes()).unwrap_err().reply(false);
    let text = String::from_utf8(reply.lines().next().unwrap().to_vec()).unwrap();
    assert_eq!(reply.code(), 451);
    assert_eq!(reply.lines().count(), 1);
    text
}

fn member(name: &str, value: &str) -> Result<Directive, Refusal> {
    let (object, member) = name.split_once('.').unwrap();
    parse(format!("{{\"{object}\":{{\"{member}\":{value}}}}}").as_bytes())
}

#[track_caller]
fn refused(name: &str, value: &str, digits: &str) {
    let reply = member(name, value).expect_err(value).reply(false);
    let text = String::from_utf8(reply.lines().next().unwrap().to_vec()).unwrap();
    let start = format!("{digits} X-SMTP-R-API {name} ");
    assert!(text.starts_with(&start), "{name} {value}: {text}");
    assert!(
        text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
        "{text}"
    );
}

#[test]
fn relay_30_message_and_routing_are_optional() {
    for value in [
        "{}",
        " { } ",
        "{\"message\":{}}",
        "{\"routing\":{},\"message\":{}}",
    ] {
        assert_eq!(
            parse(value.as_bytes()).unwrap(),
            Directive::default(),
            "{value}"
        );
    }
}

#[test]
fn relay_30_the_whole_example_is_read() {
    let value = "{\"message\":{\"ref\":\"order-4711\",\"title\":\"Spring\",\"tags\":[\"a\",\"b-c\"],\
        \"timeout\":30,\"maxhop\":2,\"mode\":\"sync\"},\r\n \"routing\":{\"ehlo\":\"@rdns\",\
        \"envelopefrom\":\"@verp\",\"sign\":\"both\",\"ssl\":\"required\",\
        \"outbound\":[\"192.0.2.10\",\"@Backup\",\"2001:db8::1\"]}}";
    let expected = Directive {
        reference: Some("order-4711".into()),
        title: Some("Spring".into()),
        tags: vec!["a".into(), "b-c".into()],
        timeout: Some(Duration::from_secs(30)),
        maxhop: Some(2),
        mode: Some(Mode::Sync),
        ehlo: Some(EhloName::Rdns),
        envelopefrom: Some(EnvelopeFrom::Verp),
        sign: Some(Sign::Both),
        ssl: Some(Ssl::Required),
        outbound: Some(vec![
            OutboundName::Ip("192.0.2.10".parse().unwrap()),
            OutboundName::Host("backup".into()),
            OutboundName::Ip("2001:db8::1".parse().unwrap()),
        ]),
    };
    assert_eq!(parse(value.as_bytes()).unwrap(), expected);
}

#[test]
fn relay_32_folding_inside_a_string_is_undone() {
    let value = b" {\"message\":\r\n\t{\"title\":\"one\r\n two\r\n\tthree\"}\r\n}";
    assert_eq!(parse(value).unwrap().title.unwrap(), "one two three");
    let unindented = "{\"message\":{\"title\":\"one\r\ntwo\"}}";
    assert!(code(unindented).starts_with("9.1.0 "));
}

#[test]
fn relay_77_what_is_no_json_is_9_1_0() {
    for value in [
        "",
        "{",
        "}",
        "{{}}",
        "{\"message\":}",
        "{'message':{}}",
        "{\"message\":{}} x",
        "{\"message\":{}}{}",
        "{\"message\":{},}",
        "{\"message\":{\"ref\":\"a\u{1}b\"}}",
        "{\"message\":{\"timeout\":030}}",
    ] {
        let text = code(value);
        assert!(
            text.starts_with("9.1.0 X-SMTP-R-API directive is not valid JSON: "),
            "{text}"
        );
    }
    let refusal = parse(b"{\"message\":{\"title\":\"\xff\"}}").unwrap_err();
    assert!(
        refusal
            .reply(false)
            .lines()
            .next()
            .unwrap()
            .starts_with(b"9.1.0 ")
    );
}

#[test]
fn relay_77_a_repeated_member_is_9_1_0_and_named() {
    let text = code("{\"message\":{\"ref\":\"abc\",\"ref\":\"def\"}}");
    assert!(
        text.starts_with("9.1.0 X-SMTP-R-API directive is not valid JSON: member ref is repeated")
    );
    assert!(code("{\"message\":{},\"message\":{}}").starts_with("9.1.0 "));
}

#[test]
fn t_27_nesting_is_bounded() {
    let deep = "[".repeat(8_000) + &"]".repeat(8_000);
    assert!(code(&format!("{{\"message\":{deep}}}")).starts_with("9.1.0 "));
}

#[test]
fn relay_77_what_is_no_object_is_9_1_1() {
    for value in ["[]", "1", "null", "\"x\"", "true", "[{}]"] {
        assert_eq!(
            code(value),
            "9.1.1 X-SMTP-R-API directive must be one JSON object"
        );
    }
}

#[test]
fn relay_33_more_than_16_kib_is_9_1_1() {
    let of = |n: usize| format!("{{\"message\":{{}}{}}}", " ".repeat(n - 14));
    assert_eq!(of(VALUE_LIMIT).len(), VALUE_LIMIT);
    assert!(parse(of(VALUE_LIMIT).as_bytes()).is_ok());
    assert_eq!(
        code(&of(VALUE_LIMIT + 1)),
        "9.1.1 X-SMTP-R-API directive is longer than 16384 octets"
    );
}

#[test]
fn relay_34_utf_8_is_taken_and_encoded_words_stay() {
    let title = member("message.title", "\"Fr\u{fc}hling =?UTF-8?Q?x?=\"")
        .unwrap()
        .title;
    assert_eq!(title.unwrap(), "Fr\u{fc}hling =?UTF-8?Q?x?=");
    let tags = member("message.tags", "[\"\u{e9}t\u{e9}\"]").unwrap().tags;
    assert_eq!(tags, ["\u{e9}t\u{e9}"]);
}

#[test]
fn relay_35_unknown_members_are_9_1_2_and_named() {
    for (value, name) in [
        ("{\"mesage\":{}}", "mesage"),
        ("{\"Message\":{}}", "Message"),
        ("{\"message\":{\"reference\":\"abc\"}}", "message.reference"),
        ("{\"routing\":{\"ssl\":true,\"SSL\":true}}", "routing.SSL"),
        ("{\"na\u{ef}ve\\n\":1}", "na?ve?"),
    ] {
        assert_eq!(
            code(value),
            format!("9.1.2 X-SMTP-R-API unknown member {name}")
        );
    }
}

#[test]
fn relay_35_a_wrong_type_is_9_1_3_and_named() {
    for (value, name) in [
        ("{\"message\":[]}", "message"),
        ("{\"routing\":\"x\"}", "routing"),
    ] {
        assert_eq!(
            code(value),
            format!("9.1.3 X-SMTP-R-API {name} must be an object")
        );
    }
    for (name, values) in [
        ("message.ref", ["1", "null", "[\"abc\"]", "true"]),
        ("message.title", ["1", "null", "[]", "{}"]),
        ("message.tags", ["\"a\"", "null", "[1]", "[\"a\",null]"]),
        ("message.timeout", ["\"30\"", "null", "30.5", "true"]),
        ("message.maxhop", ["\"3\"", "null", "1.0", "[3]"]),
        ("message.mode", ["1", "null", "[]", "true"]),
        ("routing.ehlo", ["1", "null", "[]", "false"]),
        ("routing.envelopefrom", ["1", "null", "{}", "[]"]),
        ("routing.sign", ["null", "[]", "{}", "1.5"]),
        ("routing.ssl", ["null", "[]", "{}", "0.5"]),
        ("routing.outbound", ["1", "null", "{}", "[\"192.0.2.1\",2]"]),
    ] {
        for value in values {
            refused(name, value, "9.1.3");
        }
    }
}

#[test]
fn relay_37_ref_has_3_to_30_characters_of_its_alphabet() {
    for good in ["abc", "a-1", "---", "012345678901234567890123456789"] {
        let directive = member("message.ref", &format!("\"{good}\"")).unwrap();
        assert_eq!(directive.reference.as_deref(), Some(good));
    }
    for bad in [
        "",
        "ab",
        "X",
        "Abc",
        "a_b",
        "a b",
        "a.b",
        "\u{e9}\u{e9}\u{e9}",
        "0123456789012345678901234567890",
    ] {
        refused("message.ref", &format!("\"{bad}\""), "9.1.4");
    }
    assert_eq!(
        code("{\"message\":{\"ref\":\"X\"}}"),
        "9.1.4 X-SMTP-R-API message.ref must have 3 to 30 characters a-z 0-9 -"
    );
}

#[test]
fn relay_38_relay_39_title_and_tags_have_limits() {
    let title = |n: usize| format!("\"{}\"", "\u{e9}".repeat(n));
    assert!(member("message.title", &title(255)).is_ok());
    assert!(member("message.title", "\"\"").is_ok());
    refused("message.title", &title(256), "9.1.4");
    refused("message.title", "\"a\\r\\nb\"", "9.1.4");

    let tag = |n: usize| format!("[\"{}\"]", "\u{e9}".repeat(n));
    assert!(member("message.tags", &tag(32)).is_ok());
    assert!(member("message.tags", "[]").unwrap().tags.is_empty());
    for bad in [
        &tag(33),
        "[\"\"]",
        "[\"a b\"]",
        "[\"a;b\"]",
        "[\"a\\tb\"]",
        "[\"a\\u0000\"]",
    ] {
        refused("message.tags", bad, "9.1.4");
    }
    let many = |n: usize| format!("[{}]", vec!["\"a\""; n].join(","));
    assert_eq!(member("message.tags", &many(16)).unwrap().tags.len(), 16);
    refused("message.tags", &many(17), "9.1.4");
}

#[test]
fn relay_40_relay_43_timeout_is_1_to_590_seconds() {
    for n in [1_u64, 60, 590] {
        let timeout = member("message.timeout", &n.to_string()).unwrap().timeout;
        assert_eq!(timeout, Some(Duration::from_secs(n)));
    }
    for bad in [
        "0",
        "-1",
        "591",
        "9223372036854775808",
        "99999999999999999999999",
    ] {
        refused("message.timeout", bad, "9.1.4");
    }
}

#[test]
fn relay_41_maxhop_is_1_to_20() {
    for n in [1, 3, 20] {
        assert_eq!(
            member("message.maxhop", &n.to_string()).unwrap().maxhop,
            Some(n)
        );
    }
    for bad in ["0", "-3", "21", "4294967297"] {
        refused("message.maxhop", bad, "9.1.4");
    }
}

#[test]
fn queue_1_mode_is_one_of_three_words() {
    for (word, mode) in [
        ("sync", Mode::Sync),
        ("queue", Mode::Queue),
        ("auto", Mode::Auto),
    ] {
        let directive = member("message.mode", &format!("\"{word}\"")).unwrap();
        assert_eq!(directive.mode, Some(mode));
    }
    refused("message.mode", "\"later\"", "9.1.4");
    refused("message.mode", "1", "9.1.3");
}

#[test]
fn relay_44_ehlo_is_a_domain_or_rdns() {
    assert_eq!(
        member("routing.ehlo", "\"@rdns\"").unwrap().ehlo,
        Some(EhloName::Rdns)
    );
    for (given, name) in [
        ("mail.example.com", "mail.example.com"),
        ("localhost", "localhost"),
        ("m\u{fc}ller.example", "xn--mller-kva.example"),
    ] {
        let ehlo = member("routing.ehlo", &format!("\"{given}\""))
            .unwrap()
            .ehlo;
        assert_eq!(ehlo, Some(EhloName::Name(name.into())));
    }
    let long = format!("{}.example", "a".repeat(64));
    for bad in [
        "",
        "@RDNS",
        "a b",
        "a..b",
        ".a",
        "a.",
        "-a.example",
        "a_b",
        "[192.0.2.1]",
        &long,
        "a\\r\\nMAIL",
    ] {
        refused("routing.ehlo", &format!("\"{bad}\""), "9.1.4");
    }
}

#[test]
fn relay_45_envelopefrom_is_a_word_or_an_address() {
    for (given, value) in [
        ("@mailfrom", EnvelopeFrom::MailFrom),
        ("@verp", EnvelopeFrom::Verp),
        ("@from", EnvelopeFrom::From),
        (
            "a@example.com",
            EnvelopeFrom::Address(Mailbox::parse("a@example.com").unwrap()),
        ),
    ] {
        let directive = member("routing.envelopefrom", &format!("\"{given}\"")).unwrap();
        assert_eq!(directive.envelopefrom, Some(value));
    }
    for bad in ["", "<>", "@From", "@other", "a", "a@", "<a@example.com>"] {
        refused("routing.envelopefrom", &format!("\"{bad}\""), "9.1.4");
    }
}

#[test]
fn t_05_no_address_of_a_directive_can_inject_a_command() {
    for bad in [
        "a@example.com\\r\\nRCPT TO:<x@y>",
        "a@example.com>\\r\\nDATA",
        "a@example.com> SIZE=1",
        "a\\u0000@example.com",
        "\\\"a\\r\\n\\\"@example.com",
        "a@example.com\\n",
        " a@example.com",
        "a@b>,<c@d",
    ] {
        refused("routing.envelopefrom", &format!("\"{bad}\""), "9.1.4");
    }
    refused("routing.outbound", "[\"@a\\r\\nb\"]", "9.1.4");
}

#[test]
fn relay_48_relay_49_sign_is_a_word_or_a_flag() {
    for (given, value) in [
        ("\"from\"", Sign::From),
        ("\"envelope\"", Sign::Envelope),
        ("\"both\"", Sign::Both),
        ("\"none\"", Sign::None),
        ("1", Sign::From),
        ("0", Sign::None),
        ("true", Sign::From),
        ("false", Sign::None),
        ("\"1\"", Sign::From),
        ("\"false\"", Sign::None),
    ] {
        assert_eq!(
            member("routing.sign", given).unwrap().sign,
            Some(value),
            "{given}"
        );
    }
    for bad in [
        "2",
        "-1",
        "\"\"",
        "\"yes\"",
        "\"From\"",
        "99999999999999999999",
    ] {
        refused("routing.sign", bad, "9.1.4");
    }
}

#[test]
fn relay_54_relay_55_ssl_is_a_flag_or_required() {
    for (given, value) in [
        ("true", Ssl::Opportunistic),
        ("1", Ssl::Opportunistic),
        ("false", Ssl::Never),
        ("0", Ssl::Never),
        ("\"required\"", Ssl::Required),
    ] {
        assert_eq!(
            member("routing.ssl", given).unwrap().ssl,
            Some(value),
            "{given}"
        );
    }
    for bad in ["2", "\"\"", "\"yes\"", "\"REQUIRED\""] {
        refused("routing.ssl", bad, "9.1.4");
    }
}

#[test]
fn relay_56_outbound_is_an_array_or_one_string() {
    let ip = |s: &str| OutboundName::Ip(s.parse().unwrap());
    let given = member("routing.outbound", "\" 192.0.2.11  @hub\\t192.0.2.10\"").unwrap();
    let expected = vec![
        ip("192.0.2.11"),
        OutboundName::Host("hub".into()),
        ip("192.0.2.10"),
    ];
    assert_eq!(given.outbound, Some(expected));
    for bad in [
        "[]",
        "\"\"",
        "[\"\"]",
        "[\"hub\"]",
        "[\"@\"]",
        "[\"@a b\"]",
        "[\"192.0.2\"]",
        "\"192.0.2.1,@a\"",
    ] {
        refused("routing.outbound", bad, "9.1.4");
    }
}

#[test]
fn relay_79_the_text_is_one_line_of_printable_ascii() {
    for value in [
        format!("{{\"{}\":1}}", "\u{e9}\\n\\r\\u0000".repeat(300)),
        format!(
            "{{\"routing\":{{\"outbound\":[\"{}\"]}}}}",
            "\u{2028}x".repeat(900)
        ),
    ] {
        let text = code(&value);
        assert!(text.len() < 450);
        assert!(
            text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
            "{text}"
        );
    }
}
