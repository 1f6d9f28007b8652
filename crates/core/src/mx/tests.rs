use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn records(list: &[(u16, &str)]) -> MxAnswer {
    MxAnswer::Records(
        list.iter()
            .map(|(p, h)| MxRecord {
                preference: *p,
                host: h.to_string(),
            })
            .collect(),
    )
}

fn selected(list: &[(u16, &str)]) -> Result<Vec<(u16, String)>, MxRefusal> {
    let mut n = 0;
    select("example.org", &records(list), &mut || {
        n += 1;
        n
    })
}

fn host(preference: u16, name: &str, addresses: &[&str]) -> (u16, String, HostAnswer) {
    (
        preference,
        name.into(),
        HostAnswer::Addresses(addresses.iter().map(|a| ip(a)).collect()),
    )
}

/// Exchangers seen by a server that listens on `listen` (port of MX hosts: 25) with `[IP]`.
fn seen(
    hosts: &[(u16, String, HostAnswer)],
    listen: &[&str],
    outbounds: &[&str],
) -> Result<Vec<(String, Vec<String>)>, MxRefusal> {
    let listeners: Vec<SocketAddr> = listen.iter().map(|l| l.parse().unwrap()).collect();
    let outbounds: Vec<IpAddr> = outbounds.iter().map(|o| ip(o)).collect();
    let own = Own {
        listeners: &listeners,
        outbounds: &outbounds,
        port: 25,
    };
    let found = exchangers(hosts.to_vec(), own)?;
    Ok(found
        .into_iter()
        .map(|e| (e.host, e.addresses.iter().map(|a| a.to_string()).collect()))
        .collect())
}

fn names(found: Result<Vec<(String, Vec<String>)>, MxRefusal>) -> Vec<String> {
    found.unwrap().into_iter().map(|(host, _)| host).collect()
}

#[test]
fn flow_60_hosts_come_in_order_of_preference() {
    let found = selected(&[(20, "b.example."), (10, "A.Example"), (30, "c.example")]).unwrap();
    assert_eq!(
        found,
        [
            (10, "a.example".into()),
            (20, "b.example".into()),
            (30, "c.example".into())
        ]
    );
}

#[test]
fn flow_60_equal_preferences_are_shuffled_by_the_entropy() {
    let list = records(&[
        (10, "a.example"),
        (10, "b.example"),
        (5, "c.example"),
        (10, "d.example"),
    ]);
    let first = |numbers: [u64; 4]| {
        let mut numbers = numbers.into_iter();
        let found = select("x", &list, &mut || numbers.next().unwrap()).unwrap();
        found
            .into_iter()
            .map(|(_, h)| h.chars().next().unwrap())
            .collect::<String>()
    };
    assert_eq!(first([1, 2, 3, 4]), "cabd");
    assert_eq!(first([9, 2, 3, 4]), "cbda");
    assert_eq!(first([3, 2, 9, 1]), "cdba");
}

#[test]
fn flow_60_without_mx_the_domain_itself_is_the_host() {
    for answer in [MxAnswer::NoRecords, records(&[])] {
        assert_eq!(
            select("Example.ORG", &answer, &mut || 0).unwrap(),
            [(0, "example.org".into())]
        );
    }
}

#[test]
fn flow_60_t_47_null_mx_and_no_such_domain_are_refused() {
    assert_eq!(selected(&[(0, ".")]), Err(MxRefusal::NullMx));
    assert_eq!(selected(&[(10, "")]), Err(MxRefusal::NullMx));
    // RFC 7505 §3 allows no other record beside it: then it says nothing.
    assert_eq!(
        selected(&[(0, "."), (10, "a.example")]).unwrap(),
        [(10, "a.example".into())]
    );
    assert_eq!(
        select("x.example", &MxAnswer::NoSuchDomain, &mut || 0),
        Err(MxRefusal::NoSuchDomain)
    );
    let said = |refusal: MxRefusal| {
        let reply = refusal.refusal("x.example").reply(false);
        format!(
            "{} {}",
            reply.code(),
            String::from_utf8_lossy(reply.lines().next().unwrap())
        )
    };
    for refusal in [
        MxRefusal::NullMx,
        MxRefusal::NoSuchDomain,
        MxRefusal::NothingUsable,
        MxRefusal::Forbidden(ip("10.0.0.1")),
    ] {
        let said = said(refusal);
        assert!(
            said.starts_with("451 9.2.4 X-SMTP-R-API ") && said.contains("x.example"),
            "{said}"
        );
    }
    assert_eq!(
        said(MxRefusal::Loop),
        "554 5.4.6 X-SMTP-R-API mail for x.example loops back to this server"
    );
    assert!(said(MxRefusal::TemporaryFailure).starts_with("451 9.3.4 X-SMTP-R-API "));
}

#[test]
fn t_47_address_literals_and_malformed_names_are_skipped() {
    let bad = [
        "192.0.2.1",
        "192.0.2.1.",
        "[192.0.2.1]",
        "2001:db8::1",
        "[IPv6:2001:db8::1]",
        "-a.example",
        "a-.example",
        "a..example",
        ".example",
        "a b.example",
        "a@b.example",
        "\u{e9}.example",
        "1.2.3",
    ];
    for name in bad {
        assert_eq!(
            selected(&[(10, name)]),
            Err(MxRefusal::NothingUsable),
            "{name}"
        );
        assert_eq!(
            selected(&[(10, name), (20, "good.example")]).unwrap(),
            [(20, "good.example".into())],
            "{name}"
        );
    }
    let long = format!("{}.example", "a".repeat(64));
    assert_eq!(selected(&[(10, &long)]), Err(MxRefusal::NothingUsable));
    let long = format!("{}example", "abcdefg.".repeat(32));
    assert_eq!(selected(&[(10, &long)]), Err(MxRefusal::NothingUsable));
    assert!(selected(&[(10, "mx_1.a-b.example"), (10, "localhost")]).is_ok());
}

#[test]
fn t_47_of_500_records_a_bounded_number_is_used() {
    let list: Vec<MxRecord> = (0..500)
        .rev()
        .map(|i| MxRecord {
            preference: i,
            host: format!("mx{i}.example"),
        })
        .collect();
    let found = select("x.example", &MxAnswer::Records(list), &mut || 1).unwrap();
    assert_eq!(found.len(), MAX_HOSTS);
    assert_eq!(found.first(), Some(&(0, "mx0.example".into())));
    let many: Vec<String> = (0..50u8).map(|i| format!("192.0.2.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = seen(
        &[
            host(1, "a", &many),
            host(2, "b", &many),
            host(3, "c", &many),
        ],
        &[],
        &[],
    )
    .unwrap();
    assert_eq!(
        found.iter().map(|(_, a)| a.len()).collect::<Vec<_>>(),
        [50, 14]
    );
}

#[test]
fn repeated_hosts_and_addresses_count_once() {
    let found = selected(&[(20, "a.example"), (10, "A.example."), (10, "a.example")]).unwrap();
    assert_eq!(found, [(10, "a.example".into())]);
    let found = seen(
        &[host(1, "a", &["192.0.2.1", "192.0.2.1", "192.0.2.2"])],
        &[],
        &[],
    )
    .unwrap();
    assert_eq!(
        found,
        [("a".into(), vec!["192.0.2.1".into(), "192.0.2.2".into()])]
    );
}

#[test]
fn flow_60_an_mx_on_which_we_listen_is_a_loop() {
    let us = [host(10, "us", &["192.0.2.10"])];
    assert_eq!(seen(&us, &["192.0.2.10:25"], &[]), Err(MxRefusal::Loop));
    // Another port of ours, or an address of [IP] alone, is no loop.
    assert!(seen(&us, &["192.0.2.10:587"], &["192.0.2.10"]).is_ok());
    assert!(seen(&us, &["192.0.2.99:25"], &["192.0.2.10"]).is_ok());
    assert!(seen(&us, &[], &["192.0.2.10"]).is_ok());
    // One of several addresses is enough.
    let both = [host(10, "us", &["192.0.2.77", "192.0.2.10"])];
    assert_eq!(seen(&both, &["192.0.2.10:25"], &[]), Err(MxRefusal::Loop));
}

#[test]
fn flow_60_a_wildcard_listener_answers_on_all_our_addresses() {
    let loops = |address: &str, listen: &str, outbound: &str| {
        seen(&[host(0, "x", &[address])], &[listen], &[outbound]) == Err(MxRefusal::Loop)
    };
    assert!(loops("192.0.2.10", "0.0.0.0:25", "192.0.2.10"));
    assert!(loops("127.0.0.1", "0.0.0.0:25", "127.0.0.1"));
    assert!(loops("127.9.9.9", "0.0.0.0:25", "192.0.2.10"));
    assert!(loops("0.0.0.0", "0.0.0.0:25", "192.0.2.10"));
    assert!(loops("::ffff:127.0.0.1", "0.0.0.0:25", "192.0.2.10"));
    assert!(loops("::1", "[::]:25", "192.0.2.10"));
    assert!(loops("2001:db8::5", "[::]:25", "2001:db8::5"));
    assert!(loops("192.0.2.10", "[::]:25", "192.0.2.10"));
    assert!(!loops("2001:db8::5", "0.0.0.0:25", "2001:db8::5"));
    assert!(!loops("192.0.2.11", "0.0.0.0:25", "192.0.2.10"));
    assert!(!loops("192.0.2.10", "0.0.0.0:2525", "192.0.2.10"));
}

#[test]
fn flow_60_only_hosts_better_than_ourselves_stay() {
    let hosts = [
        host(5, "better", &["198.51.100.1"]),
        host(10, "equal", &["198.51.100.2"]),
        host(10, "us", &["192.0.2.10"]),
        host(20, "worse", &["198.51.100.3"]),
    ];
    assert_eq!(names(seen(&hosts, &["192.0.2.10:25"], &[])), ["better"]);
    assert_eq!(
        seen(&hosts[1..], &["192.0.2.10:25"], &[]),
        Err(MxRefusal::Loop)
    );
    // The better ones have no address that may be contacted: what is left is this server.
    let hosts = [host(5, "better", &[]), host(10, "us", &["192.0.2.10"])];
    assert_eq!(seen(&hosts, &["192.0.2.10:25"], &[]), Err(MxRefusal::Loop));
    let hosts = [
        (5, "better".into(), HostAnswer::TemporaryFailure),
        host(10, "us", &["192.0.2.10"]),
    ];
    assert_eq!(
        seen(&hosts, &["192.0.2.10:25"], &[]),
        Err(MxRefusal::TemporaryFailure)
    );
}

#[test]
fn flow_60_our_own_name_in_the_greeting_is_a_loop() {
    assert!(greets_as_us(
        &Reply::new(220, "MTA.example.net ESMTP"),
        "mta.example.net"
    ));
    assert!(greets_as_us(
        &Reply::new(220, "mta.example.net"),
        "mta.example.net"
    ));
    assert!(!greets_as_us(
        &Reply::new(220, "mta.example.net.org ESMTP"),
        "mta.example.net"
    ));
    assert!(!greets_as_us(
        &Reply::new(220, "hello mta.example.net"),
        "mta.example.net"
    ));
    assert!(!greets_as_us(
        &Reply::new(554, "mta.example.net no"),
        "mta.example.net"
    ));
    assert!(!greets_as_us(&Reply::new(220, ""), ""));
}

#[test]
fn t_47_networks_without_public_mail_hosts_are_refused() {
    let forbidden = [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "fd00::1",
        "fec0::1",
        "100.64.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:a00:1::1",
    ];
    for address in forbidden {
        assert_eq!(
            seen(
                &[host(0, "x", &[address])],
                &[],
                &["192.0.2.1", "2001:db8::1"]
            ),
            Err(MxRefusal::Forbidden(ip(address))),
            "{address}"
        );
    }
    for address in [
        "192.0.2.1",
        "172.32.0.1",
        "100.128.0.1",
        "223.255.255.255",
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "128.0.0.1",
    ] {
        assert!(
            seen(&[host(0, "x", &[address])], &[], &[]).is_ok(),
            "{address}"
        );
    }
}

#[test]
fn flow_60_t_47_a_network_of_the_class_of_our_own_addresses_is_allowed() {
    let allowed = |address: &str, own: &str| seen(&[host(0, "x", &[address])], &[], &[own]).is_ok();
    assert!(allowed("10.1.2.3", "192.168.0.1"));
    assert!(allowed("fd00::1", "10.0.0.1"));
    assert!(allowed("127.0.0.2", "127.0.0.1"));
    assert!(allowed("169.254.1.1", "169.254.9.9"));
    assert!(!allowed("127.0.0.1", "10.0.0.1"));
    assert!(!allowed("10.0.0.1", "127.0.0.1"));
    assert!(!allowed("10.0.0.1", "192.0.2.1"));
}

#[test]
fn t_47_the_public_addresses_of_a_mixed_answer_stay() {
    let hosts = [
        host(1, "a", &["10.0.0.1", "192.0.2.1"]),
        host(2, "b", &["127.0.0.1"]),
        host(3, "c", &["192.0.2.3"]),
    ];
    let found = seen(&hosts, &[], &[]).unwrap();
    assert_eq!(
        found,
        [
            ("a".into(), vec!["192.0.2.1".to_string()]),
            ("c".into(), vec!["192.0.2.3".into()])
        ]
    );
}

#[test]
fn t_47_dns_trouble_with_some_hosts_leaves_the_others() {
    let failing = (1, "a".to_string(), HostAnswer::TemporaryFailure);
    assert_eq!(
        names(seen(
            &[failing.clone(), host(2, "b", &["192.0.2.1"])],
            &[],
            &[]
        )),
        ["b"]
    );
    assert_eq!(
        seen(&[failing.clone(), host(2, "b", &[])], &[], &[]),
        Err(MxRefusal::TemporaryFailure)
    );
    assert_eq!(
        seen(&[failing, host(2, "b", &["10.0.0.1"])], &[], &[]),
        Err(MxRefusal::TemporaryFailure)
    );
    assert_eq!(
        seen(&[host(2, "b", &[])], &[], &[]),
        Err(MxRefusal::NothingUsable)
    );
    assert_eq!(seen(&[], &[], &[]), Err(MxRefusal::NothingUsable));
}
