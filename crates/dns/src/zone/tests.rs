//! Zones as text.

use super::*;

fn zone(text: &str) -> Zone {
    Zone::parse(text).expect("a zone")
}

#[test]
fn reads_every_kind_of_line_and_ignores_comments() {
    let zone =
        zone("; head\nA.example. 0 a 192.0.2.1 ; tail\na.example. TXT \"v=spf1 -all\"\n# end\n");
    let answer = zone.answer("a.EXAMPLE.", Kind::A);
    let record = ZoneRecord {
        owner: "a.example".to_owned(),
        ttl: 0,
        data: Data::A([192, 0, 2, 1].into()),
    };
    assert_eq!(answer, ZoneAnswer::Found(vec![record]));
}

#[test]
fn says_which_line_is_wrong() {
    let error = Zone::parse("a.example. A 192.0.2.1\nb.example. A nonsense").expect_err("no zone");
    assert_eq!(error.line, 2);
    assert!(Zone::parse("b.example. WKS x").is_err());
    assert!(Zone::parse("b.example.").is_err());
    assert!(Zone::parse("b.example. SERVFAIL NONSENSE").is_err());
}

#[test]
fn tells_no_such_name_from_no_data() {
    let zone = zone("a.b.example. A 192.0.2.1");
    assert_eq!(
        zone.answer("b.example", Kind::Mx),
        ZoneAnswer::Found(Vec::new())
    );
    assert_eq!(
        zone.answer("a.b.example", Kind::Mx),
        ZoneAnswer::Found(Vec::new())
    );
    assert_eq!(
        zone.answer("c.example", Kind::Mx),
        ZoneAnswer::NoSuchName(Vec::new())
    );
}

#[tokio::test]
async fn t_47_a_cname_is_followed_and_a_loop_ends_as_temporary() {
    let text = "www.example. CNAME mx.example.\nmx.example. A 192.0.2.1\n\
                x.example. CNAME y.example.\ny.example. CNAME x.example.";
    let resolver = ZoneResolver::new(text).expect("a zone");
    let found = resolver.addresses("www.example").await.expect("addresses");
    assert_eq!(found.addresses, [IpAddr::from([192, 0, 2, 1])]);
    assert_eq!(found.canonical.as_deref(), Some("mx.example"));
    let looping = resolver.addresses("x.example").await;
    assert!(
        matches!(looping, Err(LookupFailure::Temporary(_))),
        "{looping:?}"
    );
}

#[tokio::test]
async fn txt_keeps_its_semicolons_and_tlsa_its_octets() {
    let text = "_mta-sts.example.org. TXT \"v=STSv1; id=1;\" ; comment\n\
                _25._tcp.mx.example.org. TLSA 3 1 1 00ff 7f\nmx.example.org. SECURE";
    let resolver = ZoneResolver::new(text).expect("a zone");
    let txt = resolver.txt("_mta-sts.example.org").await;
    assert_eq!(txt, Ok(vec![b"v=STSv1; id=1;".to_vec()]));
    let tlsa = resolver
        .tlsa("_25._tcp.mx.example.org")
        .await
        .expect("records");
    assert_eq!(
        (tlsa.value[0].usage, &tlsa.value[0].data[..]),
        (3, &[0, 255, 127][..])
    );
    assert!(tlsa.secure, "below a name that is");
    assert!(Zone::parse("a.example. TLSA 3 1 1 0").is_err());
    assert!(Zone::parse("a.example. TLSA 3 1 1 0g").is_err());
}
