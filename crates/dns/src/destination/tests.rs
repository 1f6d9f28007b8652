//! Destinations out of text zones.

use std::net::SocketAddr;

use super::*;
use crate::ZoneResolver;

const OWN: Own<'static> = Own {
    listeners: &[],
    outbounds: &[],
    port: 25,
};

async fn find_with(
    zone: &str,
    domain: &str,
    own: Own<'_>,
) -> Result<Destination, DestinationFailure> {
    let resolver = ZoneResolver::new(zone).expect("a zone");
    find_destination(&resolver, domain, own, &mut || 7).await
}

async fn find(zone: &str, domain: &str) -> Result<Destination, DestinationFailure> {
    find_with(zone, domain, OWN).await
}

fn hosts(found: Result<Destination, DestinationFailure>) -> Vec<String> {
    let host =
        |(_, name, addresses): &(u16, Arc<str>, Vec<IpAddr>)| format!("{name} {addresses:?}");
    found
        .expect("a destination")
        .hosts
        .iter()
        .map(host)
        .collect()
}

fn refusal(found: Result<Destination, DestinationFailure>) -> MxRefusal {
    match found {
        Err(DestinationFailure::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn is_temporary(found: Result<Destination, DestinationFailure>) -> bool {
    matches!(found, Err(DestinationFailure::Temporary(_)))
}

#[tokio::test]
async fn flow_60_mx_by_preference_with_their_addresses() {
    let zone = "example.org. MX 20 b.example.org.\nexample.org. MX 10 a.example.org.\n\
                a.example.org. A 192.0.2.1\na.example.org. AAAA 2001:db8::1\nb.example.org. A 192.0.2.2";
    let found = find(zone, "example.org").await;
    assert_eq!(
        hosts(found),
        [
            "a.example.org [2001:db8::1, 192.0.2.1]",
            "b.example.org [192.0.2.2]"
        ]
    );
}

#[tokio::test]
async fn flow_60_without_mx_the_address_of_the_domain() {
    let found = find("example.org. A 192.0.2.1", "example.org")
        .await
        .expect("a destination");
    assert_eq!(
        found.hosts,
        [(
            0,
            Arc::from("example.org"),
            vec!["192.0.2.1".parse().unwrap()]
        )]
    );
    assert!(found.names.is_empty(), "an implicit MX is no MX name");
}

#[tokio::test]
async fn flow_60_null_mx_is_refused_and_its_address_not_used() {
    let found = find(
        "example.org. NULLMX\nexample.org. A 192.0.2.1",
        "example.org",
    )
    .await;
    assert_eq!(refusal(found), MxRefusal::NullMx);
}

#[tokio::test]
async fn t_47_no_such_domain_is_refused_and_server_failure_is_temporary() {
    assert_eq!(
        refusal(find("other.org. EXISTS", "example.org").await),
        MxRefusal::NoSuchDomain
    );
    assert!(is_temporary(
        find("example.org. SERVFAIL", "example.org").await
    ));
    assert!(is_temporary(
        find("example.org. SILENT MX", "example.org").await
    ));
    assert_eq!(
        refusal(find("example.org. EXISTS", "example.org").await),
        MxRefusal::NothingUsable
    );
}

#[tokio::test]
async fn t_47_one_failing_mx_does_not_hide_the_others() {
    let zone = "example.org. MX 5 ill.example.org.\nexample.org. MX 10 gone.example.org.\n\
                example.org. MX 20 good.example.org.\nill.example.org. SERVFAIL\n\
                good.example.org. A 192.0.2.9";
    let found = find(zone, "example.org").await.expect("a destination");
    let names: Vec<&str> = found.names.iter().map(|(_, name)| &**name).collect();
    assert_eq!(
        names,
        ["ill.example.org", "gone.example.org", "good.example.org"]
    );
    assert_eq!(hosts(Ok(found)), ["good.example.org [192.0.2.9]"]);
}

#[tokio::test]
async fn t_62_all_mx_failing_is_temporary() {
    let zone = "example.org. MX 5 ill.example.org.\nexample.org. MX 10 gone.example.org.\n\
                ill.example.org. SERVFAIL";
    assert!(is_temporary(find(zone, "example.org").await));
}

#[tokio::test]
async fn flow_60_mx_at_our_own_listener_is_a_loop() {
    let listeners: [SocketAddr; 1] = ["192.0.2.1:25".parse().unwrap()];
    let own = Own {
        listeners: &listeners,
        ..OWN
    };
    let zone = "example.org. MX 5 us.example.org.\nus.example.org. A 192.0.2.1";
    assert_eq!(
        refusal(find_with(zone, "example.org", own).await),
        MxRefusal::Loop
    );
}

#[tokio::test]
async fn flow_60_t_47_forbidden_networks_are_refused_also_as_literals() {
    let zone = "example.org. MX 5 in.example.org.\nin.example.org. A 127.0.0.1\nin.example.org. A 10.0.0.1";
    assert!(matches!(
        refusal(find(zone, "example.org").await),
        MxRefusal::Forbidden(_)
    ));
    assert!(matches!(
        refusal(find("", "[127.0.0.1]").await),
        MxRefusal::Forbidden(_)
    ));
    assert!(matches!(
        refusal(find("", "[IPv6:::1]").await),
        MxRefusal::Forbidden(_)
    ));
    assert!(matches!(
        refusal(find("", "[IPv6:::ffff:127.0.0.1]").await),
        MxRefusal::Forbidden(_)
    ));
    let outbounds = ["127.0.0.9".parse().unwrap()];
    let own = Own {
        outbounds: &outbounds,
        ..OWN
    };
    assert_eq!(
        hosts(find_with(zone, "example.org", own).await),
        ["in.example.org [127.0.0.1]"]
    );
}

#[tokio::test]
async fn flow_60_address_literals_are_their_own_host() {
    assert_eq!(
        hosts(find("", "[192.0.2.5]").await),
        ["[192.0.2.5] [192.0.2.5]"]
    );
    assert_eq!(
        hosts(find("", "[IPv6:2001:db8::5]").await),
        ["[IPv6:2001:db8::5] [2001:db8::5]"]
    );
    assert_eq!(
        refusal(find("", "[x400:strange]").await),
        MxRefusal::NothingUsable
    );
}

#[tokio::test]
async fn t_47_an_mx_that_is_an_address_is_left_out() {
    let zone = "example.org. MX 5 192.0.2.1.\nexample.org. MX 10 a.example.org.\na.example.org. A 192.0.2.2";
    assert_eq!(
        hosts(find(zone, "example.org").await),
        ["a.example.org [192.0.2.2]"]
    );
    let only = "example.org. MX 5 192.0.2.1.\nexample.org. A 192.0.2.2";
    assert_eq!(
        refusal(find(only, "example.org").await),
        MxRefusal::NothingUsable
    );
}

#[tokio::test]
async fn route_38_an_address_is_used_directly_and_a_name_by_a_and_aaaa_not_mx() {
    let zone = "relay.example. MX 10 elsewhere.example.\nrelay.example. A 10.1.2.3\n\
                relay.example. A 10.1.2.4\nrelay.example. AAAA fd00::1\nelsewhere.example. A 192.0.2.1";
    let resolver = ZoneResolver::new(zone).expect("a zone");
    let addresses = host_addresses(&resolver, "relay.example")
        .await
        .expect("addresses");
    let wanted: Vec<IpAddr> = ["fd00::1", "10.1.2.3", "10.1.2.4"]
        .map(|a| a.parse().unwrap())
        .to_vec();
    assert_eq!(addresses, wanted);
    for literal in ["10.9.8.7", "[10.9.8.7]"] {
        let direct = host_addresses(&resolver, literal).await;
        assert_eq!(direct, Ok(vec!["10.9.8.7".parse().unwrap()]));
    }
    let six = host_addresses(&resolver, "[IPv6:2001:db8::1]").await;
    assert_eq!(six, Ok(vec!["2001:db8::1".parse().unwrap()]));
    assert_eq!(
        host_addresses(&resolver, "none.example").await,
        Err(LookupFailure::NoSuchName)
    );
}

#[test]
fn t_62_no_address_is_believed_only_if_both_families_say_so() {
    let found = |addresses| HostAddresses {
        addresses,
        ..HostAddresses::default()
    };
    let one = || Ok(found(vec![IpAddr::from([192, 0, 2, 1])]));
    let none = || Ok(found(Vec::new()));
    let failed = || Err(LookupFailure::Temporary("timed out".to_owned()));
    assert_eq!(both_families(failed(), one()), one());
    assert_eq!(both_families(one(), failed()), one());
    assert_eq!(both_families(none(), failed()), failed());
    assert_eq!(
        both_families(Err(LookupFailure::NoSuchName), failed()),
        failed()
    );
    assert_eq!(
        both_families(none(), Err(LookupFailure::NoSuchName)),
        none()
    );
}

/// `host: base base` of the hosts that DNSSEC vouches for.
async fn secure(zone: &str) -> Vec<String> {
    let found = find(zone, "example.org").await.expect("a destination");
    let hosts = found.secure.iter();
    hosts
        .map(|s| format!("{}: {}", s.host, s.bases.join(" ")))
        .collect()
}

const TWO: &str = "example.org. MX 10 a.example.org.\nexample.org. MX 20 b.example.net.\n\
                   a.example.org. A 192.0.2.1\nb.example.net. A 192.0.2.2\n";

#[tokio::test]
async fn t_16_dane_applies_where_the_domain_and_the_host_are_secure() {
    assert!(secure(TWO).await.is_empty());
    assert!(
        secure(&format!("{TWO}example.net. SECURE"))
            .await
            .is_empty(),
        "who the hosts are is not proved"
    );
    let one = format!("{TWO}example.org. SECURE\n");
    assert_eq!(secure(&one).await, ["a.example.org: a.example.org"]);
    let both = format!("{one}example.net. SECURE\n");
    assert_eq!(
        secure(&both).await,
        [
            "a.example.org: a.example.org",
            "b.example.net: b.example.net"
        ]
    );
    let implicit = "example.org. A 192.0.2.1\nexample.org. SECURE";
    assert_eq!(secure(implicit).await, ["example.org: example.org"]);
}

#[tokio::test]
async fn t_16_an_alias_has_its_records_at_its_end_or_at_its_own_name() {
    let alias = "example.org. SECURE\nexample.org. MX 10 mx.example.org.\n\
                 mx.example.org. CNAME real.example.net.\nreal.example.net. A 192.0.2.1\n";
    assert_eq!(secure(alias).await, ["mx.example.org: mx.example.org"]);
    let whole = format!("{alias}example.net. SECURE");
    assert_eq!(
        secure(&whole).await,
        ["mx.example.org: real.example.net mx.example.org"]
    );
    let other = alias.replace("example.org. SECURE", "example.net. SECURE");
    assert!(secure(&other).await.is_empty());
}

#[tokio::test]
async fn relay_14_hosts_are_proved_by_a_signed_mx_or_are_the_domain_itself() {
    for (zone, domain, are_proved) in [
        (TWO.to_owned(), "example.org", false),
        (format!("{TWO}example.net. SECURE"), "example.org", false),
        (format!("{TWO}example.org. SECURE"), "example.org", true),
        ("example.org. A 192.0.2.1".to_owned(), "example.org", true),
        (String::new(), "[192.0.2.1]", true),
    ] {
        let found = find(&zone, domain).await.expect("a destination");
        assert_eq!(found.are_proved, are_proved, "{zone} {domain}");
    }
}
