use std::time::{Duration, SystemTime};

use galerne_core::settings::{EhloName, EnvelopeFrom, ListenTls, Mode, Sign, Ssl};

use super::*;

#[test]
fn conf_15_lists_are_separated_by_blanks_or_commas() {
    let items: Vec<_> = list(" rfhard, shop\tpartners ,x,,").collect();
    assert_eq!(items, ["rfhard", "shop", "partners", "x"]);
    assert_eq!(list("").count(), 0);
}

#[test]
fn conf_15_pattern_lists_are_quoted_strings() {
    let items = quoted_list(r#""user unknown" "no such, mailbox","say ""no""" "#).unwrap();
    assert_eq!(items, ["user unknown", "no such, mailbox", r#"say "no""#]);
    assert!(quoted_list("user unknown").is_err());
    assert!(quoted_list(r#""open"#).is_err());
    assert!(quoted_list("").unwrap().is_empty());
}

#[test]
fn conf_17_durations_are_seconds_with_suffixes() {
    for (text, seconds) in [
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("12H", 43_200),
        ("7d", 604_800),
        ("1 D", 86_400),
        ("0", 0),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    assert_eq!(duration_in("12", 3600), duration("12h"));
    assert_eq!(duration_in("90m", 3600), duration("5400"));
    for text in [
        "",
        "m",
        "-1",
        "1.5h",
        "1w",
        "1h30m",
        "99999999999999999999",
        "99999999999d",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn conf_18_flags() {
    for text in ["1", "true", "YES", "True"] {
        assert_eq!(flag(text), Ok(true), "{text}");
    }
    for text in ["0", "false", "No"] {
        assert_eq!(flag(text), Ok(false), "{text}");
    }
    for text in ["", "2", "on", "off", "y"] {
        assert!(flag(text).is_err(), "{text}");
    }
}

#[test]
fn conf_20_stamps_are_two_digits_each() {
    let time = stamp("260301080059").unwrap();
    assert_eq!(time, jiff::civil::date(2026, 3, 1).at(8, 0, 59, 0));
    assert_eq!(print_stamp(time), "260301080059");
    assert_eq!(stamp("990101000000").unwrap().year(), 2099);
    for text in [
        "",
        "2603010800",
        "261301080000",
        "260230080000",
        "260301240000",
        "26030108005a",
    ] {
        assert!(stamp(text).is_err(), "{text}");
    }
    let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_352_000);
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
    assert_eq!(stamp_at(moment, zone), "260301100000");
}

#[test]
fn sizes_take_powers_of_1024() {
    assert_eq!(size("256M"), Ok(256 << 20));
    assert_eq!(size("1g"), Ok(1 << 30));
    assert_eq!(size("20 MB"), Ok(20 << 20));
    assert_eq!(size("20971520"), Ok(20 << 20));
    assert!(size("M").is_err() && size("1X").is_err() && size("99999999999T").is_err());
}

#[test]
fn conf_28_listen_entries() {
    let smtp = |text: &str| listen(text, 25, 465);
    let entry = |text: &str| smtp(text).map(|l| (l.address.to_string(), l.tls));
    let plain = ListenTls::Plain;
    let implicit = ListenTls::Implicit;
    for (text, address, tls) in [
        ("0.0.0.0", "0.0.0.0:25", plain),
        ("0.0.0.0:465", "0.0.0.0:465", implicit),
        ("0.0.0.0:465/plain", "0.0.0.0:465", plain),
        ("127.0.0.1:2525/plain", "127.0.0.1:2525", plain),
        ("127.0.0.1:2525/TLS", "127.0.0.1:2525", implicit),
        ("127.0.0.1/tls", "127.0.0.1:25", implicit),
        ("[2001:db8::1]:465", "[2001:db8::1]:465", implicit),
        ("::", "[::]:25", plain),
        ("*:587", "0.0.0.0:587", plain),
    ] {
        assert_eq!(entry(text), Ok((address.to_string(), tls)), "{text}");
    }
    let web = |text: &str| listen(text, 80, 443).map(|l| (l.address.port(), l.tls));
    assert_eq!(web("0.0.0.0"), Ok((80, plain)));
    assert_eq!(web("0.0.0.0:443"), Ok((443, implicit)));
    assert_eq!(web("0.0.0.0:465"), Ok((465, plain)));
}

#[test]
fn if_11_port_0_and_nonsense_are_refused() {
    for text in [
        "0.0.0.0:0",
        "0.0.0.0:70000",
        "localhost",
        "0.0.0.0:25/ssl",
        "2001:db8::1:x",
        ":25",
        "",
    ] {
        assert!(listen(text, 25, 465).is_err(), "{text}");
    }
    assert!(
        listen("127.0.0.1:0", 25, 465)
            .unwrap_err()
            .contains("port 0")
    );
    assert!(
        listens("0.0.0.0 0.0.0.0:25", 25, 465)
            .unwrap_err()
            .contains("twice")
    );
    assert_eq!(listens("0.0.0.0, 0.0.0.0:465", 25, 465).unwrap().len(), 2);
}

#[test]
fn conf_92_networks_have_no_bits_outside_their_prefix() {
    for (text, prefix) in [
        ("127.0.0.0/8", 8),
        ("192.0.2.1", 32),
        ("0.0.0.0/0", 0),
        ("2001:db8::/32", 32),
        ("::1", 128),
        ("::/0", 0),
    ] {
        assert_eq!(network(text).map(|n| n.prefix), Ok(prefix), "{text}");
    }
    for text in [
        "127.0.0.1/8",
        "192.0.2.0/33",
        "2001:db8::1/32",
        "192.0.2.0/",
        "192.0.2.0/-1",
        "x",
    ] {
        assert!(network(text).is_err(), "{text}");
    }
}

#[test]
fn conf_37_user_names() {
    assert_eq!(user_name("Shop-2"), Ok("shop-2".into()));
    for name in [
        "",
        "a.b",
        "shop_1",
        "twenty-one-characters",
        "rfhard",
        "RFx",
        "é",
    ] {
        assert!(user_name(name).is_err(), "{name}");
    }
    assert!(user_name("twenty-characters-xx").is_ok());
}

#[test]
fn conf_66_group_names() {
    for name in ["aol", "big-isp-2", "x", "thirty-characters-abcdefghijkl"] {
        assert!(group_name(name).is_ok(), "{name}");
    }
    for name in [
        "",
        "BigIsp",
        "a_b",
        "thirty-one-characters-abcdefghi",
        "a.b",
    ] {
        assert!(group_name(name).is_err(), "{name}");
    }
    assert_eq!(
        at_names("@next other *"),
        Ok(vec!["next".into(), "other".into(), "*".into()])
    );
}

#[test]
fn conf_74_mx_patterns_take_stars() {
    let patterns = mx_patterns("*.MAIL.example.org mx*.example.net. 192.0.2.1").unwrap();
    assert_eq!(
        patterns,
        ["*.mail.example.org", "mx*.example.net", "192.0.2.1"]
    );
    assert!(mx_patterns("mx.example.org/25").is_err());
}

#[test]
fn relay_48_relay_49_relay_54_relay_55_words_of_routing() {
    assert_eq!(sign("1"), Ok(Sign::From));
    assert_eq!(sign("0"), Ok(Sign::None));
    assert_eq!(sign("Both"), Ok(Sign::Both));
    assert!(sign("domain").is_err());
    assert_eq!(ssl("1"), Ok(Ssl::Opportunistic));
    assert_eq!(ssl("no"), Ok(Ssl::Never));
    assert_eq!(ssl("required"), Ok(Ssl::Required));
    assert_eq!(mode("Queue"), Ok(Mode::Queue));
    assert_eq!(ehlo("@rdns"), Ok(EhloName::Rdns));
    assert_eq!(
        ehlo("Mail.example.com"),
        Ok(EhloName::Name("mail.example.com".into()))
    );
    assert_eq!(envelopefrom("@VERP"), Ok(EnvelopeFrom::Verp));
    assert!(matches!(
        envelopefrom("b@example.com"),
        Ok(EnvelopeFrom::Address(_))
    ));
    assert!(envelopefrom("@elsewhere").is_err());
}

#[test]
fn domains_become_lower_case_ascii() {
    assert_eq!(domain("News.Example.COM."), Ok("news.example.com".into()));
    assert_eq!(domain("Bücher.example"), Ok("xn--bcher-kva.example".into()));
    for name in ["", ".", "a..b", "-a.b", "a b", "a@b", "x/y"] {
        assert!(domain(name).is_err(), "{name}");
    }
}
