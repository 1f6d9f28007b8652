//! All combinations of what an account may use, what its file fixes and what a directive names,
//! against an answer computed from the words of the specification.

use super::*;

const KNOWN_IPS: [&str; 3] = ["192.0.2.10", "192.0.2.11", "2001:db8::10"];
const KNOWN_HOSTS: [&str; 2] = ["corp", "spare"];

/// A key of the user file: absent, empty or set.
#[derive(Clone, Copy, Debug)]
enum Given {
    Absent,
    Empty,
    Set(&'static str),
}

#[derive(Clone, Copy, Debug)]
struct Row {
    authorizedip: Option<&'static str>,
    authorizedroute: &'static str,
    ip: Given,
    route: Given,
    outbound: &'static str,
}

/// (next hops, outbounds, ordered), or `None`: 451 9.1.5.
type Expected = Option<(Vec<String>, Vec<String>, bool)>;

fn expected(row: Row) -> Expected {
    let may_use = |ip: &str| {
        row.authorizedip
            .is_none_or(|list| list.split(' ').any(|a| a == ip))
    };
    let may_route = |host: &str| row.authorizedroute.split(' ').any(|a| a == host);
    let (hosts, addresses): (Vec<&str>, Vec<&str>) = row
        .outbound
        .split_whitespace()
        .partition(|entry| entry.starts_with('@'));
    let hosts: Vec<&str> = hosts.iter().map(|host| &host[1..]).collect();

    // RELAY-57: one bad entry refuses.
    let good_host = |host: &&str| KNOWN_HOSTS.contains(host) && may_route(host);
    let good_address = |ip: &&str| KNOWN_IPS.contains(ip) && may_use(ip);
    if !hosts.iter().all(good_host) || !addresses.iter().all(good_address) {
        return None;
    }
    // ROUTE-1 with CONF-40 and CONF-49.
    let hops = match row.route {
        Given::Set(host) if !may_route(host) => return None,
        Given::Set(host) => vec![format!("@{host}")],
        Given::Absent if !hosts.is_empty() => hosts.iter().map(|host| format!("@{host}")).collect(),
        _ => vec!["MX".to_owned()],
    };
    // CONF-43 to CONF-45.
    let authorised = || {
        KNOWN_IPS
            .iter()
            .filter(|ip| may_use(ip))
            .map(|ip| ip.to_string())
            .collect()
    };
    let (outbounds, ordered): (Vec<String>, bool) = match row.ip {
        Given::Set(ip) => (vec![ip.to_owned()], false),
        Given::Absent if !addresses.is_empty() => {
            (addresses.iter().map(|ip| ip.to_string()).collect(), true)
        }
        _ => (authorised(), false),
    };
    (!outbounds.is_empty()).then_some((hops, outbounds, ordered))
}

fn key<T>(given: Given, value: impl Fn(&str) -> T) -> Key<T> {
    match given {
        Given::Absent => Key::Absent,
        Given::Empty => Key::Empty,
        Given::Set(text) => Key::Set(value(text)),
    }
}

fn found(row: Row) -> Expected {
    let mut case = case();
    case.account.authorizedip = row.authorizedip.map(ips);
    case.account.authorizedroute = names(row.authorizedroute);
    case.account.routing.ip = key(row.ip, ips);
    case.account.routing.route = key(row.route, names);
    case.directive.outbound = (!row.outbound.is_empty())
        .then(|| entries(row.outbound))
        .flatten();
    match case.plans() {
        Ok(plans) => {
            let first = &plans[0];
            let outbounds = first
                .outbounds
                .iter()
                .map(|o| o.address.to_string())
                .collect();
            Some((plans.iter().map(hop).collect(), outbounds, first.ordered))
        }
        Err(refusal) => {
            let reply = refusal.reply(false).to_log();
            assert!(
                reply.starts_with("451 9.1.5 X-SMTP-R-API "),
                "{row:?}: {reply}"
            );
            None
        }
    }
}

#[test]
fn relay_57_conf_43_conf_44_conf_45_conf_46_conf_49_all_combinations() {
    let authorizedips = [
        None,
        Some(""),
        Some("192.0.2.10"),
        Some("192.0.2.10 192.0.2.11"),
        Some("203.0.113.1"),
    ];
    let authorizedroutes = ["", "corp", "corp spare", "nowhere"];
    let ips = [Given::Absent, Given::Empty, Given::Set("192.0.2.11")];
    let routes = [Given::Absent, Given::Empty, Given::Set("corp")];
    let outbounds = [
        "",
        "192.0.2.10",
        "192.0.2.11 192.0.2.10",
        "203.0.113.1",
        "192.0.2.10 203.0.113.1",
        "@corp",
        "@spare @corp",
        "@nowhere",
        "@corp @nowhere",
        "192.0.2.10 @corp",
        "@corp 192.0.2.11",
        "2001:db8::10 @spare",
    ];
    let (mut rows, mut refused) = (0, 0);
    for authorizedip in authorizedips {
        for authorizedroute in authorizedroutes {
            for ip in ips {
                for route in routes {
                    for outbound in outbounds {
                        let row = Row {
                            authorizedip,
                            authorizedroute,
                            ip,
                            route,
                            outbound,
                        };
                        let expected = expected(row);
                        rows += 1;
                        refused += usize::from(expected.is_none());
                        assert_eq!(found(row), expected, "{row:?}");
                    }
                }
            }
        }
    }
    assert_eq!(rows, 2160);
    assert!(
        (400..2000).contains(&refused),
        "{refused} of {rows} refused"
    );
}
