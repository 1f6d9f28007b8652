//! An account never sends as a sender, from an address or by a route that it does not have: all
//! combinations of its rights, of what its file fixes in `[routing]` and `[routing@group]`, of what
//! the main file says and of what a directive asks for, against an answer computed from the words
//! of the specification (CONF-40, CONF-43 to CONF-51, RELAY-47, RELAY-57 to RELAY-59).

use super::*;

/// A key of a file: absent, present but empty, or set.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Given {
    Absent,
    Empty,
    Set(&'static str),
}
use Given::{Absent, Empty, Set};

fn key<T>(given: Given, value: impl Fn(&str) -> T) -> Key<T> {
    match given {
        Absent => Key::Absent,
        Empty => Key::Empty,
        Set(text) => Key::Set(value(text)),
    }
}

/// The first source that has the key decides, even empty: `[routing@group]`, `[routing]`, the
/// directive, the main file (RELAY-58, RELAY-59, CONF-51).
fn decides(sources: [Given; 4]) -> Given {
    let present = sources.into_iter().find(|given| *given != Absent);
    present.unwrap_or(Absent)
}

fn within(list: &str, item: &str) -> bool {
    list.split(' ').any(|one| one == item)
}

const IPS: [&str; 3] = ["192.0.2.10", "192.0.2.11", "2001:db8::10"];
const NAMES: [&str; 3] = ["mta10.example.net", "mta11.example.net", "mta6.example.net"];

fn shown<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

// -- from where and by which route -----------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
struct Way {
    authorizedip: Option<&'static str>,
    authorizedroute: &'static str,
    /// `[routing@bigisp]`, `[routing]`, main file.
    ip: [Given; 3],
    route: [Given; 3],
    outbound: &'static str,
}

/// Next hops and addresses, or nothing: 451 9.1.5.
type Ways = Option<(Vec<String>, Vec<String>)>;

fn expected_way(way: Way) -> Ways {
    let may_use = |ip: &&str| way.authorizedip.is_none_or(|list| within(list, ip));
    let may_route = |host: &str| within(way.authorizedroute, host);
    let (hosts, addresses): (Vec<&str>, Vec<&str>) = way
        .outbound
        .split_whitespace()
        .partition(|entry| entry.starts_with('@'));
    let known = |ip: &&str| IPS.contains(ip);
    let allowed = addresses.iter().all(|ip| known(ip) && may_use(ip))
        && hosts.iter().all(|host| may_route(&host[1..]));
    if !allowed {
        return None;
    }
    // A directive says nothing of a key whose members it does not name.
    let ordered = |none: bool| if none { Absent } else { Set("") };
    let [at_group, own, main] = way.route;
    let hops = match decides([at_group, own, Absent, Absent]) {
        Set(host) if !may_route(host) => return None,
        Set(host) => vec![format!("@{host}")],
        Empty => vec!["MX".to_owned()],
        Absent => match (ordered(hosts.is_empty()), main) {
            (Absent, Set(host)) => vec![format!("@{host}")],
            (Absent, _) => vec!["MX".to_owned()],
            _ => shown(hosts),
        },
    };
    let all = || IPS.into_iter().filter(may_use);
    let [at_group, own, main] = way.ip;
    let outbounds = match decides([at_group, own, Absent, Absent]) {
        Set(list) => shown(IPS.into_iter().filter(|ip| within(list, ip))),
        Empty => shown(all()),
        Absent => match (ordered(addresses.is_empty()), main) {
            (Absent, Set(list)) => shown(all().filter(|ip| within(list, ip))),
            (Absent, _) => shown(all()),
            _ => shown(addresses),
        },
    };
    (!outbounds.is_empty()).then_some((hops, outbounds))
}

fn found_way(way: Way) -> Ways {
    let mut case = case();
    case.account.authorizedip = way.authorizedip.map(ips);
    case.account.authorizedroute = names(way.authorizedroute);
    case.account.routing.ip = key(way.ip[1], ips);
    case.account.routing.route = key(way.route[1], names);
    case.settings.routing.ip = key(way.ip[2], ips);
    case.settings.routing.route = key(way.route[2], names);
    case.in_group(|keys| {
        keys.ip = key(way.ip[0], ips);
        keys.route = key(way.route[0], names);
    });
    case.directive.outbound = (!way.outbound.is_empty())
        .then(|| entries(way.outbound))
        .flatten();
    match case.unexplained() {
        Ok(plans) => {
            let outbounds = shown(plans[0].outbounds.iter().map(|o| o.address));
            Some((plans.iter().map(hop).collect(), outbounds))
        }
        Err(refusal) => {
            let reply = refusal.reply(false).to_log();
            assert!(
                reply.starts_with("451 9.1.5 X-SMTP-R-API "),
                "{way:?}: {reply}"
            );
            None
        }
    }
}

#[test]
fn conf_40_conf_43_conf_49_conf_51_relay_57_relay_58_relay_59_no_way_that_an_account_does_not_have()
{
    let ip = [
        Absent,
        Empty,
        Set("192.0.2.11"),
        Set("192.0.2.10 2001:db8::10"),
    ];
    let route = [Absent, Empty, Set("corp"), Set("spare")];
    let main = [
        (Absent, Absent),
        (Set("192.0.2.10"), Absent),
        (Absent, Set("corp")),
    ];
    let mut ways = Vec::new();
    for authorizedip in [None, Some("192.0.2.10"), Some("192.0.2.11 2001:db8::10")] {
        for authorizedroute in ["", "corp", "corp spare"] {
            for outbound in [
                "",
                "192.0.2.10",
                "192.0.2.11 192.0.2.10",
                "@corp",
                "@spare 192.0.2.10",
            ] {
                for (main_ip, main_route) in main {
                    for n in 0..256 {
                        let pick = |place: u32| n / 4_usize.pow(place) % 4;
                        ways.push(Way {
                            authorizedip,
                            authorizedroute,
                            ip: [ip[pick(0)], ip[pick(1)], main_ip],
                            route: [route[pick(2)], route[pick(3)], main_route],
                            outbound,
                        });
                    }
                }
            }
        }
    }
    let mut refused = 0;
    for way in &ways {
        let expected = expected_way(*way);
        refused += usize::from(expected.is_none());
        assert_eq!(found_way(*way), expected, "{way:?}");
    }
    assert_eq!(ways.len(), 34_560);
    assert!((5_000..30_000).contains(&refused), "{refused}");
}

// -- as whom ---------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
struct Name {
    authorizedsender: Option<&'static str>,
    /// `[routing@bigisp]`, `[routing]`, directive, main file.
    envelopefrom: [Given; 4],
    /// `[routing@bigisp]`, `[routing]`, main file.
    sender: [Given; 3],
    mail_from: &'static str,
    outbound: &'static str,
}

const LOGIN: &str = "us@partner.example";
const FROM: &str = "shop@brand.example";

/// The envelope sender, or the class of the refusal.
fn expected_name(name: Name) -> Result<OutboundSender, &'static str> {
    if name.mail_from.is_empty() {
        return Ok(OutboundSender::Fixed(ReversePath::Null));
    }
    let literal = |address: &'static str| (OutboundSender::Fixed(sender(address)), vec![address]);
    let overwritten = name.outbound == "@corp";
    let (made, addresses) = match decides(name.envelopefrom) {
        _ if overwritten => literal(LOGIN),
        Absent | Empty | Set("@mailfrom") => literal(name.mail_from),
        Set("@from") => literal(FROM),
        Set("@verp") => {
            let [at_group, own, main] = name.sender;
            let (domain, at) = match decides([at_group, own, Absent, main]) {
                Set(domain) => (Some(domain.to_owned()), vec![domain]),
                // CONF-47: the name of the sending address, whichever is taken.
                _ if name.outbound == "192.0.2.11" => (None, vec![NAMES[1]]),
                _ => (None, NAMES.to_vec()),
            };
            (OutboundSender::Verp { domain }, at)
        }
        Set(address) => literal(address),
    };
    let domain = |address: &&str| address.rsplit('@').next().unwrap_or_default().to_owned();
    let allowed = |domain: String| {
        name.authorizedsender
            .is_none_or(|list| within(list, &domain))
    };
    match addresses.iter().map(domain).all(allowed) {
        true => Ok(made),
        false => Err("451 9.2.3 "),
    }
}

fn found_name(name: Name) -> Result<OutboundSender, String> {
    let word = |text: &str| match text {
        "@mailfrom" => EnvelopeFrom::MailFrom,
        "@from" => EnvelopeFrom::From,
        "@verp" => EnvelopeFrom::Verp,
        address => EnvelopeFrom::Address(mailbox(address)),
    };
    let mut case = case();
    case.from = Some(mailbox(FROM));
    case.sender = sender(name.mail_from);
    case.account.authorizedsender = name.authorizedsender.map(names);
    case.account.authorizedroute = names("corp");
    let corp = RelayHost {
        overwrite: true,
        login: Some(LOGIN.to_owned()),
        ..host("corp")
    };
    case.settings.hosts = vec![Arc::new(corp)];
    let [at_group, own, ordered, main] = name.envelopefrom;
    case.account.routing.envelopefrom = key(own, word);
    case.settings.routing.envelopefrom = key(main, word);
    case.directive.envelopefrom = key(ordered, word).value().cloned();
    case.account.routing.sender = key(name.sender[1], str::to_owned);
    case.settings.routing.sender = key(name.sender[2], str::to_owned);
    case.in_group(|keys| {
        keys.envelopefrom = key(at_group, word);
        keys.sender = key(name.sender[0], str::to_owned);
    });
    case.directive.outbound = (!name.outbound.is_empty())
        .then(|| entries(name.outbound))
        .flatten();
    match case.unexplained() {
        Ok(plans) => Ok(plans[0].sender.clone()),
        Err(refusal) => Err(refusal.reply(false).to_log()),
    }
}

#[test]
fn conf_47_conf_48_conf_51_relay_46_relay_47_relay_58_relay_59_no_name_that_an_account_does_not_have()
 {
    const FOREIGN: &str = "ceo@victim.example";
    let file = [Absent, Empty, Set("@verp"), Set("@from"), Set(FOREIGN)];
    let ordered = [
        Absent,
        Set("@mailfrom"),
        Set("@verp"),
        Set("@from"),
        Set(FOREIGN),
    ];
    let senders = [
        [Absent, Absent, Absent],
        [Absent, Absent, Set("example.com")],
        [Absent, Empty, Set("example.com")],
        [Absent, Set("brand.example"), Absent],
        [Empty, Set("brand.example"), Absent],
        [Set("victim.example"), Set("brand.example"), Absent],
    ];
    let mut all = Vec::new();
    for authorizedsender in [
        None,
        Some("example.com"),
        Some("brand.example partner.example"),
        Some("mta10.example.net mta11.example.net mta6.example.net"),
    ] {
        for mail_from in ["orders@example.com", FOREIGN, ""] {
            for outbound in ["", "192.0.2.11", "@corp"] {
                for sender in senders {
                    for main in [Absent, Set("@verp")] {
                        for n in 0..125 {
                            let pick = |place: u32| n / 5_usize.pow(place) % 5;
                            let envelopefrom =
                                [file[pick(0)], file[pick(1)], ordered[pick(2)], main];
                            all.push(Name {
                                authorizedsender,
                                envelopefrom,
                                sender,
                                mail_from,
                                outbound,
                            });
                        }
                    }
                }
            }
        }
    }
    let mut refused = 0;
    for name in &all {
        let found = found_name(*name);
        match expected_name(*name) {
            Ok(expected) => assert_eq!(found, Ok(expected), "{name:?}"),
            Err(class) => {
                refused += 1;
                assert!(
                    found.as_ref().is_err_and(|reply| reply.starts_with(class)),
                    "{name:?}: {found:?}"
                );
            }
        }
    }
    assert_eq!(all.len(), 54_000);
    assert!((10_000..45_000).contains(&refused), "{refused}");
}

// -- for which groups ------------------------------------------------------------------------------

#[test]
fn conf_46_conf_50_parameters_for_a_group_only_where_they_are_allowed() {
    for given in ["", "bigisp", "bigisp gmail", "*", "other *"] {
        let mut account = account("shop");
        account.authorizedrouting = names(given);
        for group in ["bigisp", "BigISP", "gmail", "nowhere"] {
            let allowed = within(given, "*") || within(given, &group.to_lowercase());
            let answer = may_route_group(&account, group);
            assert_eq!(answer.is_ok(), allowed, "{given:?} {group}");
            if let Err(refusal) = answer {
                let reply = refusal.reply(false).to_log();
                assert!(
                    reply.starts_with("451 9.1.5 ") && reply.contains(group),
                    "{reply}"
                );
            }
        }
    }
}
