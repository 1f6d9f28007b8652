//! The records of sender domains.

use std::sync::Arc;

use super::*;
use crate::keys::{Algorithm, KeyName, ReadKey};
use crate::settings::{OutboundIp, Secret};
use crate::testing::{account, settings};

fn key(file_name: &str) -> KeyFile {
    KeyFile {
        name: KeyName::parse(file_name).unwrap(),
        algorithm: Algorithm::RsaSha256,
        file: format!("keys/{file_name}"),
        pem: Secret("secret".into()),
        read: ReadKey::default(),
    }
}

/// The sample main file of the requirements.
fn sample() -> Settings {
    let mut settings = settings();
    let outbound = |address: &str, name: &str| {
        Arc::new(OutboundIp {
            address: address.parse().unwrap(),
            name: name.to_owned(),
        })
    };
    settings.outbounds = vec![
        outbound("192.0.2.10", "news.example.com"),
        outbound("192.0.2.11", "mta11.example.net"),
    ]
    .into();
    settings.rfrelay.dmarcaddr = vec!["dmarc".into()];
    settings.keys = vec![key("news.example.com dkim id.pem")];
    settings
}

fn records(settings: &Settings, domain: &str) -> ZoneRecords {
    zone_records(settings, domain, &|key| {
        Some(format!("v=DKIM1; k=rsa; p={}", key.name.selector))
    })
}

fn all(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

#[test]
fn conf_83_conf_84_the_records_of_the_sample_configuration() {
    let shown = records(&sample(), "news.example.com").to_string();
    let expected = r#"$ORIGIN news.example.com.
@                A    192.0.2.10
@                A    192.0.2.11
@                MX   10 news.example.com.
@                TXT  "v=spf1 ip4:192.0.2.10/31 -all"
@                TXT  "spf2.0/pra ip4:192.0.2.10/31 -all"
dkim._domainkey  TXT  "v=DKIM1; k=rsa; p=dkim"
_dmarc           TXT  "v=DMARC1; p=reject; pct=100; rua=mailto:dmarc@news.example.com"
_mta-sts         TXT  "v=STSv1; id=ID"
_smtp._tls       TXT  "v=TLSRPTv1; rua=mailto:dmarc@news.example.com"
; _mta-sts announces this text at https://mta-sts.news.example.com/.well-known/mta-sts.txt:
;   version: STSv1
;   mode: testing
;   mx: news.example.com
;   max_age: 604800
; leave _mta-sts out until the text is there; mode: enforce when reports are clean
"#;
    let announced = mta_sts(&policy("news.example.com"));
    let id = announced.strip_prefix("v=STSv1; id=").unwrap();
    assert!(id.len() <= 32 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    assert_eq!(shown, expected.replace("ID", id));
    assert_ne!(announced, mta_sts(&policy("example.com")));
}

#[test]
fn conf_24_conf_83_an_address_of_another_sender_sends_nothing_of_this_one() {
    let mut settings = sample();
    settings.keys.push(key("shop.example.org s1 id.pem"));
    let another = Arc::new(OutboundIp {
        address: "2001:db8::1".parse().unwrap(),
        name: "shop.example.org".into(),
    });
    let more = settings.outbounds.iter().cloned().chain([another]);
    settings.outbounds = more.collect();
    let of = |settings: &Settings, domain: &str| sending_addresses(settings, domain);
    assert_eq!(
        of(&settings, "news.example.com"),
        all(&["192.0.2.10", "192.0.2.11"])
    );
    assert_eq!(
        of(&settings, "SHOP.example.org"),
        all(&["192.0.2.11", "2001:db8::1"])
    );
    assert_eq!(of(&settings, "other.example"), all(&["192.0.2.11"]));
}

#[test]
fn conf_24_conf_43_conf_44_the_accounts_of_a_domain_say_where_it_sends_from() {
    let mut settings = sample();
    let mut shop = account("shop");
    shop.authorizedsender = Some(vec!["example.com".into()]);
    shop.authorizedip = Some(all(&["192.0.2.11"]));
    settings.accounts = vec![Arc::new(shop.clone())];
    let of = |settings: &Settings| sending_addresses(settings, "example.com");
    assert_eq!(of(&settings), all(&["192.0.2.11"]));
    shop.routing.ip = Key::Set(all(&["192.0.2.10"]));
    settings.accounts = vec![Arc::new(shop.clone())];
    assert_eq!(of(&settings), all(&["192.0.2.10"]));
    shop.routing.ip = Key::Absent;
    shop.authorizedip = None;
    settings.accounts = vec![Arc::new(shop)];
    assert_eq!(of(&settings), all(&["192.0.2.10", "192.0.2.11"]));
}

#[test]
fn conf_83_neighbours_are_joined_and_nobody_else_is_let_in() {
    let spf_of = |list: &[&str]| spf(&all(list));
    assert_eq!(
        spf_of(&["192.0.2.11", "192.0.2.10"]),
        "v=spf1 ip4:192.0.2.10/31 -all"
    );
    // Neighbours, but not a network.
    assert_eq!(
        spf_of(&["192.0.2.11", "192.0.2.12"]),
        "v=spf1 ip4:192.0.2.11 ip4:192.0.2.12 -all"
    );
    let eight: Vec<String> = (8..16).map(|n| format!("192.0.2.{n}")).collect();
    let eight: Vec<&str> = eight.iter().map(String::as_str).collect();
    assert_eq!(spf_of(&eight), "v=spf1 ip4:192.0.2.8/29 -all");
    assert_eq!(
        spf_of(&eight[1..]),
        "v=spf1 ip4:192.0.2.9 ip4:192.0.2.10/31 ip4:192.0.2.12/30 -all"
    );
    assert_eq!(
        spf_of(&["2001:db8::1", "2001:db8::", "192.0.2.1"]),
        "v=spf1 ip4:192.0.2.1 ip6:2001:db8::/127 -all"
    );
    assert_eq!(
        spf_of(&["255.255.255.255", "0.0.0.0"]),
        "v=spf1 ip4:0.0.0.0 ip4:255.255.255.255 -all"
    );
    assert_eq!(spf_of(&[]), "v=spf1 -all");
}

#[test]
fn conf_80_conf_83_every_key_of_the_domain_has_its_record_else_the_default_key() {
    let mut settings = sample();
    settings
        .keys
        .extend([key("news.example.com s2 id.pem"), key(".def common id.pem")]);
    let owners = |domain: &str| -> Vec<String> {
        let records = records(&settings, domain).records;
        let owners = records.into_iter().map(|r| r.owner);
        owners.filter(|o| o.ends_with("._domainkey")).collect()
    };
    assert_eq!(
        owners("news.example.com"),
        ["dkim._domainkey", "s2._domainkey"]
    );
    assert_eq!(owners("other.example"), ["common._domainkey"]);
}

#[test]
fn conf_84_a_long_text_is_split_and_quoted_as_zone_files_want_it() {
    let long = RecordData::Txt(format!("{}\"\\{}", "a".repeat(254), "b".repeat(300)));
    let shown = long.to_string();
    let expected = format!(
        "\"{}\\\"\" \"\\\\{}\" \"{}\"",
        "a".repeat(254),
        "b".repeat(254),
        "b".repeat(46)
    );
    assert_eq!(shown, expected);
    assert!(!long.value().contains("b\" \"b"));
}

#[test]
fn conf_85_without_dmarcaddr_there_is_no_rua_and_a_note_says_so() {
    let mut settings = sample();
    settings.rfrelay.dmarcaddr.clear();
    settings.keys.clear();
    let records = records(&settings, "news.example.com");
    let shown = records.to_string();
    assert!(
        shown.contains("\"v=DMARC1; p=reject; pct=100\"\n"),
        "{shown}"
    );
    assert!(
        shown.contains("rua=mailto:postmaster@news.example.com"),
        "{shown}"
    );
    assert!(
        shown.contains("\n; [rfrelay] dmarcaddr is empty: "),
        "{shown}"
    );
    assert!(
        shown.contains("\n; no key signs for news.example.com: "),
        "{shown}"
    );
}

#[test]
fn conf_84_an_address_behind_nat_is_pointed_out() {
    let mut settings = sample();
    settings.outbounds = vec![Arc::new(OutboundIp {
        address: "192.168.1.20".parse().unwrap(),
        name: "news.example.com".into(),
    })]
    .into();
    let notes = records(&settings, "news.example.com").notes;
    assert!(
        notes
            .iter()
            .any(|n| n.starts_with("192.168.1.20 is not a public address"))
    );
}
