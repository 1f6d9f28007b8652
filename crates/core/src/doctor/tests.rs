//! Published records against what they must be: missing, wrong, right.

use std::net::IpAddr;

use super::spf::{Qualifier, Seen, Term, holds, is_record, parse};
use super::*;
use crate::settings::Network;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network(text: &str) -> Network {
    let (address, prefix) = text.split_once('/').unwrap();
    Network {
        address: ip(address),
        prefix: prefix.parse().unwrap(),
    }
}

fn texts(list: &[&str]) -> Answer<Vec<String>> {
    Ok(list.iter().map(|t| (*t).to_owned()).collect())
}

fn seen(record: &str) -> Seen {
    let mut seen = Seen {
        records: vec![record.to_owned()],
        ..Seen::default()
    };
    for term in parse(record).unwrap() {
        match term {
            Term::Network(Qualifier::Pass, network) => seen.networks.push(network),
            Term::All(qualifier) => seen.all = Some(qualifier),
            Term::Depends(word) => seen.depends.push(word),
            _ => {}
        }
    }
    seen
}

#[test]
fn conf_84_the_terms_of_spf_are_read_as_receivers_read_them() {
    let terms = parse(
        "v=spf1  ip4:192.0.2.0/24 -ip6:2001:db8::1 a:x.example/24//64 MX ~include:y.example exp=z.example redirect=r.example exists:%{i}.x ?all",
    );
    assert_eq!(
        terms.unwrap(),
        [
            Term::Network(Qualifier::Pass, network("192.0.2.0/24")),
            Term::Network(Qualifier::Fail, network("2001:db8::1/128")),
            Term::A(Qualifier::Pass, Some("x.example".into()), (24, 64)),
            Term::Mx(Qualifier::Pass, None, (32, 128)),
            Term::Include(Qualifier::SoftFail, "y.example".into()),
            Term::Redirect("r.example".into()),
            Term::Depends("exists:%{i}.x".into()),
            Term::All(Qualifier::Neutral),
        ]
    );
    // The blank after the colon makes the record void.
    for bad in [
        "v=spf1 ip4: 192.0.2.10 -all",
        "v=spf1 ip4:192.0.2.0/33",
        "v=spf1 ip4:2001:db8::1",
        "v=spf1 include: -all",
        "v=spf1 ipv4:192.0.2.1",
        "v=spf1 a/24/64",
        "v=spf1 all:x",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert!(is_record("V=SPF1 -all") && is_record("v=spf1"));
    assert!(!is_record("v=spf10 -all") && !is_record("spf2.0/pra -all"));
    assert!(holds(network("192.0.2.10/31"), ip("192.0.2.11")));
    assert!(!holds(network("192.0.2.10/31"), ip("192.0.2.12")));
    assert!(holds(network("0.0.0.0/0"), ip("203.0.113.1")));
    assert!(holds(network("::/0"), ip("2001:db8::1")));
    assert!(!holds(network("0.0.0.0/0"), ip("2001:db8::1")));
}

#[test]
fn conf_84_spf_must_name_every_address_and_refuse_others() {
    let senders = [ip("192.0.2.10"), ip("192.0.2.11")];
    let expected = "v=spf1 ip4:192.0.2.10/31 -all";
    let judge = |seen: Answer<Seen>| judge_spf("example.com", &senders, expected, &seen);
    let severity = |record: &str| judge(Ok(seen(record))).severity;
    assert_eq!(severity(expected), Severity::Good);
    assert_eq!(severity("v=spf1 ip4:192.0.2.0/24 ~all"), Severity::Good);
    assert_eq!(severity("v=spf1 ip4:192.0.2.0/24"), Severity::Advice);
    assert_eq!(severity("v=spf1 ip4:192.0.2.0/24 +all"), Severity::Act);
    assert_eq!(severity("v=spf1 exists:%{i}.x -all"), Severity::Advice);
    let wrong = judge(Ok(seen("v=spf1 ip4:192.0.2.10 -all")));
    assert_eq!(wrong.severity, Severity::Act);
    assert!(wrong.found.ends_with("does not name 192.0.2.11"), "{wrong}");
    assert_eq!(wrong.expected, expected);
    let missing = judge(Ok(Seen::default()));
    assert_eq!(
        (missing.severity, &*missing.found),
        (Severity::Act, "no record")
    );
    assert!(missing.advice.contains("`galerne dns example.com`"));
    let mut two = seen(expected);
    two.records.push("v=spf1 -all".into());
    assert_eq!(judge(Ok(two)).severity, Severity::Act);
    let broken = Seen {
        broken: Some("no term of SPF: ip4:".into()),
        ..seen(expected)
    };
    assert_eq!(judge(Ok(broken)).severity, Severity::Act);
    let silent = judge(Err("timed out".into()));
    assert_eq!(silent.severity, Severity::Act);
    assert!(silent.found.contains("timed out"));
}

#[test]
fn conf_84_the_published_key_must_be_ours() {
    let expected = "v=DKIM1; k=rsa; p=AAAABBBB";
    let judge = |list: &[&str]| {
        judge_dkim(
            "example.com",
            "s1._domainkey.example.com",
            expected,
            &texts(list),
        )
    };
    let severity = |list: &[&str]| judge(list).severity;
    assert_eq!(severity(&[expected]), Severity::Good);
    assert_eq!(
        severity(&["p=AAAA BBBB", "v=spf1 -all"]),
        Severity::Good,
        "the same key, by its defaults"
    );
    assert_eq!(severity(&["k=rsa; p=AAAABBBB; t=s"]), Severity::Good);
    assert_eq!(severity(&["k=rsa; t=y; p=AAAABBBB"]), Severity::Advice);
    for wrong in [
        &["k=rsa; p=CCCC"][..],
        &["k=ed25519; p=AAAABBBB"],
        &["k=rsa; p="],
        &["k=rsa; h=sha1; p=AAAABBBB"],
        &[expected, "p=CCCC"],
        &["v=spf1 -all"],
        &[],
    ] {
        assert_eq!(severity(wrong), Severity::Act, "{wrong:?}");
    }
    assert!(
        judge(&["k=rsa; p=CC\u{1b}[31m"])
            .found
            .ends_with("p=CC?[31m")
    );
}

#[test]
fn conf_85_dmarc_must_exist_and_its_reports_must_have_a_reader() {
    let reports = ["dmarc".to_owned()];
    let expected = "v=DMARC1; p=reject; pct=100; rua=mailto:dmarc@news.example.com";
    let judge = |found: &[(&str, &[&str])]| {
        let found: Vec<_> = found
            .iter()
            .map(|(name, list)| ((*name).to_owned(), texts(list)))
            .collect();
        let configured = Dmarc {
            expected,
            reports: &reports,
        };
        judge_dmarc("news.example.com", configured, &found)
    };
    let own = |record: &str| judge(&[("news.example.com", &[record])]);
    assert_eq!(own(expected).severity, Severity::Good);
    assert_eq!(
        own("v=DMARC1; p=none; rua=mailto:dmarc@news.example.com").severity,
        Severity::Advice
    );
    assert_eq!(own("v=DMARC1; p=reject").severity, Severity::Advice);
    let elsewhere = "v=DMARC1; p=reject; rua=mailto:x@reports.example!10m";
    assert_eq!(own(elsewhere).severity, Severity::Good);
    assert_eq!(
        own("v=DMARC1; rua=mailto:dmarc@news.example.com").severity,
        Severity::Act
    );
    let unread =
        own("v=DMARC1; p=reject; rua=mailto:x@reports.example,mailto:Other@NEWS.example.com!10m");
    assert_eq!(unread.severity, Severity::Act);
    assert!(
        unread
            .advice
            .starts_with("add Other to [rfrelay] dmarcaddr"),
        "{unread}"
    );
    assert_eq!(
        judge(&[("news.example.com", &[expected, expected])]).severity,
        Severity::Act
    );
    let above = (
        "example.com",
        &["v=DMARC1; p=reject; sp=none; rua=mailto:d@r.example"][..],
    );
    let inherited = judge(&[("news.example.com", &["v=spf1 -all"]), above]);
    assert_eq!(inherited.severity, Severity::Advice, "{inherited}");
    assert!(
        inherited.found.contains("by _dmarc.example.com"),
        "{inherited}"
    );
    assert_eq!(
        judge(&[("news.example.com", &[]), ("example.com", &[])]).severity,
        Severity::Act
    );
    assert_eq!(
        organisational_names("a.b.example.com"),
        ["a.b.example.com", "b.example.com", "example.com"]
    );
    assert_eq!(organisational_names("example.com"), ["example.com"]);
}

#[test]
fn conf_83_return_mail_must_have_a_place() {
    let own = [ip("192.0.2.10")];
    let host = |name: &str, list: &[&str]| {
        (
            10,
            name.to_owned(),
            list.iter().map(|a| ip(a)).collect::<Vec<_>>(),
        )
    };
    let judge = |hosts: Vec<_>, implicit| judge_mx("example.com", &Ok(hosts), implicit, &own);
    assert!(
        judge(vec![host("example.com", &["192.0.2.10"])], false)
            .found
            .ends_with("is here")
    );
    assert!(
        judge(vec![host("mx.isp.example", &["203.0.113.1"])], false)
            .found
            .contains("elsewhere")
    );
    assert_eq!(
        judge(vec![host("example.com", &["192.0.2.10"])], true).severity,
        Severity::Advice
    );
    assert_eq!(
        judge(vec![host("example.com", &[])], true).severity,
        Severity::Act
    );
    assert_eq!(
        judge(vec![host("mx.isp.example", &[])], false).severity,
        Severity::Act
    );
    assert_eq!(judge(vec![host(".", &[])], false).severity, Severity::Act);
    assert_eq!(judge(vec![], false).severity, Severity::Act);
}

#[test]
fn conf_23_an_outbound_must_have_its_name_and_the_name_must_lead_back() {
    let (address, name) = (ip("203.0.113.10"), "mta.example.net");
    let reverse = |list: &[&str]| judge_reverse(address, name, &texts(list)).severity;
    assert_eq!(
        reverse(&["other.example", "MTA.example.net"]),
        Severity::Good
    );
    assert_eq!(reverse(&["other.example"]), Severity::Act);
    assert_eq!(reverse(&[]), Severity::Act);
    let back = |list: &[&str]| {
        let found = list.iter().map(|a| ip(a)).collect();
        judge_ehlo(address, name, &Ok(found)).severity
    };
    assert_eq!(back(&["203.0.113.9", "203.0.113.10"]), Severity::Good);
    assert_eq!(back(&["203.0.113.9"]), Severity::Act);
    assert_eq!(back(&[]), Severity::Act);
    // Behind NAT others see another address.
    let inside = ip("192.168.1.20");
    assert_eq!(
        judge_reverse(inside, name, &texts(&[])).severity,
        Severity::Advice
    );
    assert_eq!(
        judge_ehlo(inside, name, &Err("timed out".into())).severity,
        Severity::Advice
    );
    // From a loopback address nobody is reached, whoever names it.
    let own = ip("127.0.0.2");
    for finding in [
        judge_reverse(own, name, &texts(&[])),
        judge_ehlo(own, name, &Ok(vec![])),
    ] {
        assert_eq!(finding.severity, Severity::Act);
        assert!(
            finding.advice.contains("in place of 127.0.0.2"),
            "{finding}"
        );
    }
    let good = judge_reverse(own, name, &texts(&[name])).severity;
    assert_eq!(good, Severity::Good, "a host of its own, as in tests");
}

#[test]
fn if_6_a_finding_says_what_was_found_what_was_expected_and_what_to_do() {
    let finding = Finding::act(
        "spf",
        "example.com",
        "no record",
        "v=spf1 -all",
        "publish it",
    );
    let shown = "act    spf      example.com: no record\n                expected  v=spf1 -all\n                do        publish it";
    assert_eq!(finding.to_string(), shown);
    assert_eq!(
        Finding::good("mx", "a.example", "b").to_string(),
        "ok     mx       a.example: b"
    );
}
