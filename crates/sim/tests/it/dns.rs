//! `HickoryResolver` and `find_destination` against a real name server on loopback.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use galerne_core::mx::{MxRefusal, Own};
use galerne_core::settings::Dns;
use galerne_dns::{
    Destination, DestinationFailure, HickoryResolver, LookupFailure, MxLookup, Resolver,
    find_destination, host_addresses,
};
use galerne_sim::nameserver::{Behaviour, NameServer};

/// One try: long enough for a busy machine, short enough for a test of silence.
const PATIENCE: Duration = Duration::from_secs(5);
const IMPATIENCE: Duration = Duration::from_millis(100);

fn resolver(server: &NameServer) -> HickoryResolver {
    HickoryResolver::new(&settings(&[server.address()], PATIENCE)).expect("a resolver")
}

fn settings(servers: &[SocketAddr], timeout: Duration) -> Dns {
    Dns {
        resolvers: servers.to_vec(),
        timeout: Some(timeout),
        ..Dns::default()
    }
}

async fn mx(resolver: &HickoryResolver, domain: &str) -> Result<MxLookup, LookupFailure> {
    resolver.mx(domain).await.map(|found| found.value)
}

async fn addresses(resolver: &HickoryResolver, host: &str) -> Result<Vec<IpAddr>, LookupFailure> {
    resolver.addresses(host).await.map(|found| found.addresses)
}

async fn world(zone: &str) -> (NameServer, HickoryResolver) {
    let server = NameServer::start(zone).await.expect("a name server");
    let resolver = resolver(&server);
    (server, resolver)
}

async fn find(resolver: &HickoryResolver, domain: &str) -> Result<Destination, DestinationFailure> {
    let own = Own {
        listeners: &[],
        outbounds: &[],
        port: 25,
    };
    find_destination(resolver, domain, own, &mut || 1).await
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn asked(server: &NameServer, kind: &str, tcp: bool) -> usize {
    server
        .questions()
        .iter()
        .filter(|q| q.kind == kind && q.tcp == tcp)
        .count()
}

fn is_temporary<T>(result: &Result<T, LookupFailure>) -> bool {
    matches!(result, Err(LookupFailure::Temporary(_)))
}

#[tokio::test]
async fn if_9_the_named_server_and_port_are_asked_and_nothing_else() {
    let (server, resolver) = world("galerne-test.example. MX 10 mx.example.").await;
    let found = mx(&resolver, "Galerne-Test.example.").await;
    assert_eq!(
        found,
        Ok(MxLookup::Records(vec![(10, "mx.example".to_owned())]))
    );
    assert_eq!(asked(&server, "MX", false), 1);
    assert_eq!(server.questions()[0].name, "galerne-test.example");
}

#[tokio::test]
async fn if_9_tcp_is_used_where_udp_is_truncated() {
    let (server, resolver) = world("example.org. MX 10 mx.example.org.").await;
    server.behave(Behaviour::Truncate);
    let found = mx(&resolver, "example.org").await;
    assert_eq!(
        found,
        Ok(MxLookup::Records(vec![(10, "mx.example.org".to_owned())]))
    );
    assert!(asked(&server, "MX", true) >= 1, "{:?}", server.questions());
}

#[tokio::test]
async fn if_9_the_second_server_serves_when_the_first_is_gone() {
    let dead = NameServer::start("").await.expect("a name server");
    let gone: SocketAddr = dead.address();
    drop(dead);
    let server = NameServer::start("example.org. MX 10 mx.example.org.")
        .await
        .expect("a server");
    let resolver =
        HickoryResolver::new(&settings(&[gone, server.address()], Duration::from_secs(1)));
    let found = mx(&resolver.expect("a resolver"), "example.org").await;
    assert_eq!(
        found,
        Ok(MxLookup::Records(vec![(10, "mx.example.org".to_owned())]))
    );
}

#[tokio::test]
async fn flow_60_a_destination_over_real_dns() {
    let zone = "example.org. MX 20 b.example.org.\nexample.org. MX 10 a.example.org.\n\
                a.example.org. A 192.0.2.1\na.example.org. AAAA 2001:db8::1\n\
                b.example.org. CNAME c.example.net.\nc.example.net. A 192.0.2.2\n\
                plain.example. A 192.0.2.3\nnull.example. NULLMX\nnull.example. A 192.0.2.4";
    let (_server, resolver) = world(zone).await;
    let found = find(&resolver, "example.org").await.expect("a destination");
    let hosts: Vec<(u16, &str, &[IpAddr])> = found
        .hosts
        .iter()
        .map(|(p, h, a)| (*p, &**h, &a[..]))
        .collect();
    let wanted_a = [address("2001:db8::1"), address("192.0.2.1")];
    let wanted_b = [address("192.0.2.2")];
    assert_eq!(
        hosts,
        [
            (10, "a.example.org", &wanted_a[..]),
            (20, "b.example.org", &wanted_b[..])
        ]
    );
    let plain = find(&resolver, "plain.example")
        .await
        .expect("a destination");
    assert_eq!(plain.hosts[0].2, [address("192.0.2.3")]);
    let null = find(&resolver, "null.example").await;
    assert_eq!(null, Err(DestinationFailure::Refused(MxRefusal::NullMx)));
}

#[tokio::test]
async fn t_47_nxdomain_is_permanent_and_nodata_is_not_nxdomain() {
    let (_server, resolver) = world("bare.example. EXISTS").await;
    assert_eq!(
        mx(&resolver, "none.example").await,
        Ok(MxLookup::NoSuchDomain)
    );
    assert_eq!(mx(&resolver, "bare.example").await, Ok(MxLookup::NoRecords));
    assert_eq!(
        addresses(&resolver, "none.example").await,
        Err(LookupFailure::NoSuchName)
    );
    assert_eq!(addresses(&resolver, "bare.example").await, Ok(Vec::new()));
    let found = find(&resolver, "none.example").await;
    assert_eq!(
        found,
        Err(DestinationFailure::Refused(MxRefusal::NoSuchDomain))
    );
}

#[tokio::test]
async fn t_47_t_62_servfail_and_refused_are_temporary() {
    let (server, resolver) =
        world("ill.example. SERVFAIL\ngood.example. MX 1 mx.good.example.").await;
    assert!(is_temporary(&mx(&resolver, "ill.example").await));
    assert!(is_temporary(&addresses(&resolver, "ill.example").await));
    let found = find(&resolver, "ill.example").await;
    assert!(
        matches!(found, Err(DestinationFailure::Temporary(_))),
        "{found:?}"
    );
    for behaviour in [Behaviour::ServFail, Behaviour::Refused] {
        server.behave(behaviour);
        assert!(
            is_temporary(&mx(&resolver, "good.example").await),
            "{behaviour:?}"
        );
    }
}

#[tokio::test]
async fn t_47_t_62_a_silent_or_closed_server_is_temporary() {
    let (server, _) = world("").await;
    server.behave(Behaviour::Silent);
    let resolver =
        HickoryResolver::new(&settings(&[server.address()], IMPATIENCE)).expect("a resolver");
    assert!(is_temporary(&mx(&resolver, "example.org").await));
    assert!(is_temporary(
        &host_addresses(&resolver, "example.org").await
    ));
    drop(server);
    assert!(is_temporary(&mx(&resolver, "example.net").await));
}

#[tokio::test]
async fn t_62_cached_answers_serve_while_the_server_is_down() {
    let zone =
        "example.org. MX 10 mx.example.org.\nmx.example.org. A 192.0.2.1\nother.example. EXISTS";
    let (server, resolver) = world(zone).await;
    let before = find(&resolver, "example.org").await.expect("a destination");
    assert_eq!(
        mx(&resolver, "gone.example").await,
        Ok(MxLookup::NoSuchDomain)
    );
    let questions = server.questions().len();
    server.behave(Behaviour::ServFail);
    assert_eq!(find(&resolver, "example.org").await, Ok(before));
    assert_eq!(
        mx(&resolver, "gone.example").await,
        Ok(MxLookup::NoSuchDomain),
        "negative answers too"
    );
    assert_eq!(
        server.questions().len(),
        questions,
        "nothing was asked again"
    );
    assert!(
        is_temporary(&mx(&resolver, "example.net").await),
        "what is not cached is deferred"
    );
}

#[tokio::test]
async fn t_62_a_failure_is_not_remembered() {
    let (server, resolver) = world("example.org. MX 10 mx.example.org.").await;
    server.behave(Behaviour::ServFail);
    assert!(is_temporary(&mx(&resolver, "example.org").await));
    server.behave(Behaviour::Honest);
    assert!(matches!(
        mx(&resolver, "example.org").await,
        Ok(MxLookup::Records(_))
    ));
}

#[tokio::test]
async fn t_47_ttl_0_is_used_once_and_asked_again() {
    let (server, resolver) = world("example.org. 0 MX 10 a.example.org.").await;
    let found = mx(&resolver, "example.org").await;
    assert_eq!(
        found,
        Ok(MxLookup::Records(vec![(10, "a.example.org".to_owned())]))
    );
    server
        .set_zone("example.org. 0 MX 10 b.example.org.")
        .expect("a zone");
    let found = mx(&resolver, "example.org").await;
    assert_eq!(
        found,
        Ok(MxLookup::Records(vec![(10, "b.example.org".to_owned())]))
    );
}

#[tokio::test]
async fn t_47_cname_loops_end_and_are_temporary() {
    let zone = "x.example. CNAME y.example.\ny.example. CNAME x.example.\nself.example. CNAME self.example.\n\
                example.org. MX 10 x.example.\nexample.org. MX 20 good.example.\ngood.example. A 192.0.2.1";
    let (_server, resolver) = world(zone).await;
    for name in ["x.example", "self.example"] {
        let found = mx(&resolver, name).await;
        assert!(is_temporary(&found), "{name}: {found:?}");
        let found = addresses(&resolver, name).await;
        assert!(is_temporary(&found), "{name}: {found:?}");
    }
    let found = find(&resolver, "example.org").await.expect("the other MX");
    assert_eq!(found.hosts.len(), 1);
    assert_eq!(&*found.hosts[0].1, "good.example");
}

#[tokio::test]
async fn t_47_a_domain_that_is_an_alias_uses_the_mx_of_its_target() {
    let zone = "alias.example. CNAME real.example.\nreal.example. MX 5 mx.real.example.\n\
                hanging.example. CNAME none.example.";
    let (_server, resolver) = world(zone).await;
    let found = mx(&resolver, "alias.example").await;
    assert_eq!(
        found,
        Ok(MxLookup::Records(vec![(5, "mx.real.example".to_owned())]))
    );
    assert_eq!(
        mx(&resolver, "hanging.example").await,
        Ok(MxLookup::NoSuchDomain)
    );
}

#[tokio::test]
async fn t_47_500_mx_records_come_by_tcp_and_only_the_best_are_looked_up() {
    let mut zone = String::new();
    for n in 0..500 {
        zone.push_str(&format!(
            "example.org. MX {} mx{n}.example.org.\n",
            1000 - n
        ));
        zone.push_str(&format!("mx{n}.example.org. A 192.0.2.{}\n", n % 250));
    }
    let (server, resolver) = world(&zone).await;
    match mx(&resolver, "example.org").await {
        Ok(MxLookup::Records(records)) => assert_eq!(records.len(), 500),
        other => panic!("{other:?}"),
    }
    assert!(asked(&server, "MX", true) >= 1);
    let found = find(&resolver, "example.org").await.expect("a destination");
    assert_eq!(&*found.hosts[0].1, "mx499.example.org");
    assert!(found.hosts.len() <= galerne_core::mx::MAX_HOSTS);
    assert!(asked(&server, "A", false) <= galerne_core::mx::MAX_HOSTS);
}

#[tokio::test]
async fn route_38_a_relay_name_is_never_asked_for_mx() {
    let zone =
        "relay.example. MX 1 trap.example.\nrelay.example. A 10.0.0.1\nrelay.example. AAAA fd00::1";
    let (server, resolver) = world(zone).await;
    let found = host_addresses(&resolver, "relay.example")
        .await
        .expect("addresses");
    assert_eq!(found, [address("fd00::1"), address("10.0.0.1")]);
    let before = server.questions().len();
    assert_eq!(
        host_addresses(&resolver, "127.0.0.7").await,
        Ok(vec![address("127.0.0.7")])
    );
    assert_eq!(asked(&server, "MX", false) + asked(&server, "MX", true), 0);
    assert_eq!(
        server.questions().len(),
        before,
        "an address needs no question"
    );
}

#[tokio::test]
async fn t_62_names_that_cannot_exist_are_not_asked() {
    let (server, resolver) = world("").await;
    let long = "a".repeat(64) + ".example";
    for name in ["", "a..example", &long] {
        assert_eq!(
            mx(&resolver, name).await,
            Ok(MxLookup::NoSuchDomain),
            "{name}"
        );
    }
    assert!(server.questions().is_empty());
}

#[tokio::test]
async fn many_lookups_at_once_all_get_their_answer() {
    let mut zone = String::new();
    for n in 0..300 {
        zone.push_str(&format!("d{n}.example. MX 1 mx.d{n}.example.\n"));
    }
    let (_server, resolver) = world(&zone).await;
    let resolver = std::sync::Arc::new(resolver);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300 {
        let resolver = resolver.clone();
        tasks.spawn(async move { mx(&resolver, &format!("d{n}.example")).await.is_ok() });
    }
    assert!(tasks.join_all().await.into_iter().all(|ok| ok));
}

#[tokio::test]
async fn t_62_records_that_were_not_asked_for_are_not_believed() {
    let zone = "example.org. MX 10 mx.example.org.\nmx.example.org. A 192.0.2.1\n\
                victim.example. A 192.0.2.2";
    let (server, resolver) = world(zone).await;
    server.behave(Behaviour::Poison);
    let found = find(&resolver, "example.org").await.expect("a destination");
    assert_eq!(found.hosts.len(), 1, "{found:?}");
    assert_eq!(&*found.hosts[0].1, "mx.example.org");
    assert_eq!(found.hosts[0].2, [address("192.0.2.1")]);
    server.behave(Behaviour::Honest);
    assert_eq!(
        addresses(&resolver, "victim.example").await,
        Ok(vec![address("192.0.2.2")])
    );
}

#[tokio::test]
async fn the_names_of_an_address_come_from_its_reverse_zone() {
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    let zone = format!(
        "10.2.0.192.in-addr.arpa. PTR MTA.example.org.\n10.2.0.192.in-addr.arpa. PTR b.example.\n\
         {six} PTR six.example.org.\n11.2.0.192.in-addr.arpa. EXISTS"
    );
    let (_server, resolver) = world(&zone).await;
    let names = resolver.names(address("192.0.2.10")).await;
    let mut names = names.expect("names");
    names.sort();
    assert_eq!(names, ["b.example", "mta.example.org"]);
    let six = resolver.names(address("2001:db8::1")).await;
    assert_eq!(six, Ok(vec!["six.example.org".to_owned()]));
    assert_eq!(resolver.names(address("192.0.2.11")).await, Ok(Vec::new()));
    assert_eq!(
        resolver.names(address("192.0.2.12")).await,
        Err(LookupFailure::NoSuchName)
    );
}

#[tokio::test]
async fn a_text_of_several_strings_arrives_as_one() {
    let (first, second) = ("a".repeat(250), "b".repeat(150));
    let zone = format!("s1._domainkey.example.org. TXT \"p={first}\" \"{second}\"");
    let (_server, resolver) = world(&zone).await;
    let found = resolver.txt("s1._domainkey.example.org").await;
    assert_eq!(found, Ok(vec![format!("p={first}{second}").into_bytes()]));
}

#[tokio::test]
async fn if_12_the_name_server_is_asked_for_names_of_loopback_addresses_too() {
    let zone = "2.0.0.127.in-addr.arpa. PTR mta2.example.org.\n3.0.0.127.in-addr.arpa. SERVFAIL";
    let (server, resolver) = world(zone).await;
    let names = resolver.names(address("127.0.0.2")).await;
    assert_eq!(names, Ok(vec!["mta2.example.org".to_owned()]));
    let failed = resolver.names(address("127.0.0.3")).await;
    assert!(
        matches!(failed, Err(LookupFailure::Temporary(_))),
        "{failed:?}"
    );
    let nobody = resolver.names(address("127.0.0.4")).await;
    assert_eq!(nobody, Err(LookupFailure::NoSuchName));
    server.behave(Behaviour::Silent);
    let impatient = settings(&[server.address()], IMPATIENCE);
    let resolver = HickoryResolver::new(&impatient).expect("a resolver");
    let silent = resolver.names(address("127.0.0.2")).await;
    assert!(
        matches!(silent, Err(LookupFailure::Temporary(_))),
        "{silent:?}"
    );
}
