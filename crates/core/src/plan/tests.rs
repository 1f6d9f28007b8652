use std::time::Duration;

use super::*;
use crate::settings::Key;
use crate::testing::{account, group, host, ips, mailbox, sender, settings};

mod rights;
mod routes;
mod sign;
mod table;

/// One question to `plan`, changed by each test.
struct Case {
    settings: Settings,
    account: Account,
    directive: Directive,
    sender: ReversePath,
    from: Option<Mailbox>,
    group: Group,
    login: Option<String>,
    routes: Option<Draw>,
}

fn case() -> Case {
    Case {
        settings: settings(),
        account: account("shop"),
        directive: Directive::default(),
        sender: sender("orders@example.com"),
        from: Some(mailbox("shop@brand.example")),
        group: group("bigisp"),
        login: Some("vip@example.com".to_owned()),
        routes: None,
    }
}

impl Case {
    fn asked(&self) -> Asked<'_> {
        Asked {
            account: Some(&self.account),
            login: self.login.as_deref(),
            directive: &self.directive,
            sender: &self.sender,
            header_from: self.from.as_ref(),
            routes: self.routes.as_ref(),
        }
    }

    fn plans(&self) -> Result<Vec<Plan>, Refusal> {
        let asked = self.asked();
        let group = Arc::new(self.group.clone());
        let explained = explained_plans(&self.settings, &asked, &group, "example.org");
        let plans = plans(&self.settings, &asked, &group, "example.org");
        self.check_after(&asked, &group, &plans);
        match (&explained, plans) {
            (Ok(explained), Ok(mut plans)) => {
                assert_eq!(plans[0].timeout, timeout(&self.settings, &asked));
                for (plan, explained) in plans.iter_mut().zip(explained) {
                    assert!(plan.reasons.is_empty(), "texts that nobody asked for");
                    plan.reasons = explained.reasons.clone();
                }
                assert_eq!(format!("{plans:?}"), format!("{explained:?}"));
            }
            (Err(one), Err(other)) => assert_eq!(*one, other),
            (explained, plans) => panic!("{explained:?} but {plans:?}"),
        }
        explained
    }

    /// Planned for another group before, it comes to the same.
    fn check_after(
        &self,
        asked: &Asked<'_>,
        group: &Arc<Group>,
        wanted: &Result<Vec<Plan>, Refusal>,
    ) {
        for relay in [None, Some("gate".to_owned())] {
            let mut before = self::group("");
            before.relay = relay;
            let before = Arc::new(before);
            let likely = plans(&self.settings, asked, &before, "example.org").unwrap_or_default();
            let likely = (likely, &*before);
            let after = plans_after(&self.settings, asked, likely, group, "example.org");
            assert_eq!(format!("{after:?}"), format!("{wanted:?}"));
        }
    }

    /// The plans alone, for tables.
    fn unexplained(&self) -> Result<Vec<Plan>, Refusal> {
        let asked = self.asked();
        let group = Arc::new(self.group.clone());
        plans(&self.settings, &asked, &group, "example.org")
    }

    fn plan(&self) -> Plan {
        self.plans().unwrap().remove(0)
    }

    /// The refusal as the client reads it.
    fn refused(&self) -> String {
        self.plans().unwrap_err().reply(false).to_log()
    }

    fn outbounds(&self) -> String {
        let plan = self.plan();
        let list: Vec<String> = plan
            .outbounds
            .iter()
            .map(|o| o.address.to_string())
            .collect();
        list.join(" ")
    }

    /// Name of the relay host, or `MX`.
    fn next_hop(&self) -> String {
        hop(&self.plan())
    }

    fn sender(&self) -> OutboundSender {
        self.plan().sender.clone()
    }

    /// Changes the keys of `[routing@bigisp]`.
    fn in_group(&mut self, change: impl FnOnce(&mut crate::settings::RoutingKeys)) {
        let mut keys = crate::settings::RoutingKeys::default();
        change(&mut keys);
        self.account
            .routing_by_group
            .push(("bigisp".to_owned(), keys));
    }

    fn rule(&self, key: &str) -> String {
        self.plan()
            .reasons
            .into_iter()
            .find(|(k, ..)| k == key)
            .unwrap()
            .2
    }
}

fn hop(plan: &Plan) -> String {
    match &plan.route.next_hop {
        NextHop::Mx => "MX".to_owned(),
        NextHop::Host(host) => format!("@{}", host.name),
    }
}

fn names(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `192.0.2.10 @corp` as a directive gives it.
fn entries(text: &str) -> Option<Vec<OutboundName>> {
    let entry = |word: &str| match word.strip_prefix('@') {
        Some(host) => OutboundName::Host(host.to_owned()),
        None => OutboundName::Ip(word.parse().unwrap()),
    };
    Some(text.split_whitespace().map(entry).collect())
}

fn name(text: &str) -> EhloName {
    EhloName::Name(text.to_owned())
}

fn fixed(text: &str) -> OutboundSender {
    OutboundSender::Fixed(sender(text))
}

const ALL: &str = "192.0.2.10 192.0.2.11 2001:db8::10";

#[test]
fn conf_41_defaults_where_nobody_says_anything() {
    let plan = case().plan();
    assert_eq!(plan.ehlo, None);
    assert_eq!(plan.ssl, Ssl::Opportunistic);
    assert_eq!(plan.timeout, Duration::from_secs(60));
    assert_eq!(plan.maxhop, 3);
    assert_eq!(plan.sender, fixed("orders@example.com"));
    assert!(!plan.ordered);
    assert_eq!(plan.group.name, "bigisp");
    assert!(plan.reasons.iter().all(|(_, _, rule)| !rule.is_empty()));
}

#[test]
fn relay_58_relay_59_conf_40_user_file_then_directive_then_main_file() {
    let mut case = case();
    case.settings.routing.ehlo = Key::Set(name("main.example"));
    case.settings.routing.ssl = Key::Set(Ssl::Never);
    case.settings.message.maxhop = Key::Set(7);
    case.settings.message.timeout = Key::Set(Duration::from_secs(70));
    assert_eq!(case.plan().ehlo.as_deref(), Some("main.example"));
    assert_eq!(case.rule("ehlo"), "galerne.ini [routing] ehlo");
    assert_eq!((case.plan().ssl, case.plan().maxhop), (Ssl::Never, 7));
    assert_eq!(case.plan().timeout, Duration::from_secs(70));
    assert_eq!(case.rule("maxhop"), "galerne.ini [relay] maxhop");

    case.directive.ehlo = Some(name("order.example"));
    case.directive.ssl = Some(Ssl::Required);
    case.directive.maxhop = Some(8);
    case.directive.timeout = Some(Duration::from_secs(80));
    assert_eq!(case.plan().ehlo.as_deref(), Some("order.example"));
    assert_eq!(case.rule("ehlo"), "directive routing.ehlo");
    assert_eq!((case.plan().ssl, case.plan().maxhop), (Ssl::Required, 8));
    assert_eq!(case.plan().timeout, Duration::from_secs(80));
    assert_eq!(case.rule("timeout"), "directive message.timeout");

    case.account.routing.ehlo = Key::Set(name("user.example"));
    case.account.routing.ssl = Key::Set(Ssl::Opportunistic);
    case.account.message.maxhop = Key::Set(9);
    case.account.message.timeout = Key::Set(Duration::from_secs(90));
    assert_eq!(case.plan().ehlo.as_deref(), Some("user.example"));
    assert_eq!(case.rule("ehlo"), "users/shop.ini [routing] ehlo");
    assert_eq!(
        (case.plan().ssl, case.plan().maxhop),
        (Ssl::Opportunistic, 9)
    );
    assert_eq!(case.plan().timeout, Duration::from_secs(90));
    assert_eq!(case.rule("timeout"), "users/shop.ini [message] timeout");
}

#[test]
fn relay_58_conf_40_an_empty_key_of_the_user_file_overrides_too() {
    let mut case = case();
    case.settings.routing.ehlo = Key::Set(name("main.example"));
    case.directive.ehlo = Some(name("order.example"));
    case.directive.maxhop = Some(8);
    case.directive.timeout = Some(Duration::from_secs(80));
    case.directive.ssl = Some(Ssl::Never);
    case.directive.envelopefrom = Some(EnvelopeFrom::From);
    case.directive.outbound = entries("192.0.2.10");
    case.account.routing.ehlo = Key::Empty;
    case.account.routing.ssl = Key::Empty;
    case.account.routing.envelopefrom = Key::Empty;
    case.account.routing.ip = Key::Empty;
    case.account.message.maxhop = Key::Empty;
    case.account.message.timeout = Key::Empty;
    let plan = case.plan();
    assert_eq!(
        (plan.ehlo.clone(), plan.ssl, plan.maxhop),
        (None, Ssl::Opportunistic, 3)
    );
    assert_eq!(plan.timeout, Duration::from_secs(60));
    assert_eq!(plan.sender, fixed("orders@example.com"));
    assert_eq!(case.outbounds(), ALL);
}

#[test]
fn conf_51_routing_at_group_beats_routing_key_by_key() {
    let mut case = case();
    case.account.routing.ehlo = Key::Set(name("user.example"));
    case.account.routing.ssl = Key::Set(Ssl::Never);
    case.in_group(|keys| keys.ehlo = Key::Set(name("group.example")));
    assert_eq!(case.plan().ehlo.as_deref(), Some("group.example"));
    assert_eq!(case.rule("ehlo"), "users/shop.ini [routing@bigisp] ehlo");
    assert_eq!(case.plan().ssl, Ssl::Never, "the other keys stay");
    case.group = group("other");
    assert_eq!(case.plan().ehlo.as_deref(), Some("user.example"));
    case.group = group("");
    assert_eq!(case.plan().ehlo.as_deref(), Some("user.example"));
}

#[test]
fn conf_51_the_order_of_sources_comes_before_the_group() {
    let mut case = case();
    case.directive.ehlo = Some(name("order.example"));
    case.in_group(|keys| keys.ehlo = Key::Empty);
    case.account.routing.ehlo = Key::Set(name("user.example"));
    assert_eq!(
        case.plan().ehlo,
        None,
        "the empty key of the group says @rdns"
    );
}

#[test]
fn conf_40_the_worked_example_of_the_user_file() {
    let mut case = case();
    case.account.authorizedip = Some(ips("192.0.2.10 192.0.2.11"));
    case.account.routing.ssl = Key::Set(Ssl::Opportunistic);
    case.in_group(|keys| keys.ip = Key::Set(ips("192.0.2.11")));
    case.directive.ssl = Some(Ssl::Never);
    case.directive.outbound = entries("192.0.2.10");
    assert_eq!(case.plan().ssl, Ssl::Opportunistic);
    assert_eq!(case.outbounds(), "192.0.2.11");
    case.group = group("other");
    assert_eq!(case.outbounds(), "192.0.2.10");
}

#[test]
fn conf_43_routing_ip_fixes_the_addresses_whatever_the_order_says() {
    let mut case = case();
    case.account.routing.ip = Key::Set(ips("192.0.2.11"));
    assert_eq!(case.outbounds(), "192.0.2.11");
    case.directive.outbound = entries("192.0.2.10");
    assert_eq!(case.outbounds(), "192.0.2.11");
    assert!(!case.plan().ordered);
}

#[test]
fn conf_43_routing_ip_without_any_usable_address_is_refused() {
    let mut case = case();
    case.account.routing.ip = Key::Set(ips("203.0.113.1"));
    assert!(
        case.refused()
            .starts_with("451 9.1.5 X-SMTP-R-API none of the addresses")
    );
}

#[test]
fn conf_44_conf_46_relay_57_orders_choose_among_authorizedip() {
    let mut case = case();
    case.account.authorizedip = Some(ips("192.0.2.10 2001:db8::10"));
    assert_eq!(case.outbounds(), "192.0.2.10 2001:db8::10");
    case.directive.outbound = entries("192.0.2.10");
    assert_eq!(case.outbounds(), "192.0.2.10");
    case.directive.outbound = entries("192.0.2.10 192.0.2.11");
    let refusal = case.plans().unwrap_err();
    assert_eq!(refusal.rule(), "users/shop.ini [account] authorizedip");
    let expected = "451 9.1.5 X-SMTP-R-API routing.outbound 192.0.2.11 is unknown or not allowed to this account";
    assert_eq!(case.refused(), expected);
}

#[test]
fn relay_57_unknown_and_forbidden_are_answered_alike() {
    let mut case = case();
    case.account.authorizedip = Some(ips("192.0.2.10 203.0.113.1"));
    let mut answer = |text: &str| {
        case.directive.outbound = entries(text);
        case.refused().replace(text, "X")
    };
    assert_eq!(answer("192.0.2.11"), answer("203.0.113.1"));
    assert_eq!(
        answer("192.0.2.11"),
        answer("@corp"),
        "a host that exists, not authorised"
    );
    assert_eq!(answer("@corp"), answer("@nowhere"));
}

#[test]
fn conf_45_without_restriction_every_configured_address_serves() {
    let case = case();
    assert_eq!(case.outbounds(), ALL);
    assert_eq!(case.rule("outbound"), "galerne.ini [IP]");
}

#[test]
fn relay_56_relay_57_the_directive_gives_the_order() {
    let mut case = case();
    case.directive.outbound = entries("192.0.2.11 192.0.2.10 192.0.2.11");
    assert_eq!(case.outbounds(), "192.0.2.11 192.0.2.10");
    assert!(case.plan().ordered);
}

#[test]
fn relay_59_the_main_file_comes_after_the_directive_for_addresses_and_routes() {
    let mut case = case();
    case.settings.routing.ip = Key::Set(ips("192.0.2.11"));
    case.settings.routing.route = Key::Set(names("spare"));
    assert_eq!(
        (case.outbounds().as_str(), case.next_hop().as_str()),
        ("192.0.2.11", "@spare")
    );
    case.account.authorizedroute = names("corp");
    case.directive.outbound = entries("192.0.2.10 @corp");
    assert_eq!(
        (case.outbounds().as_str(), case.next_hop().as_str()),
        ("192.0.2.10", "@corp")
    );
    case.account.routing.route = Key::Empty;
    case.account.routing.ip = Key::Empty;
    assert_eq!(
        (case.outbounds().as_str(), case.next_hop().as_str()),
        (ALL, "MX")
    );
}

#[test]
fn route_1_user_file_then_directive_then_group_relay_then_mx() {
    let mut case = case();
    assert_eq!(case.next_hop(), "MX");
    assert_eq!(case.plan().route.rule.to_string(), "MX of example.org");
    case.settings.hosts.push(Arc::new(host("gate")));
    case.group.relay = Some("gate".to_owned());
    assert_eq!(case.next_hop(), "@gate");
    assert_eq!(
        case.plan().route.rule.to_string(),
        "domains/@bigisp.ini [dns] relay"
    );
    case.account.authorizedroute = names("corp spare");
    case.directive.outbound = entries("@spare");
    assert_eq!(case.next_hop(), "@spare");
    assert_eq!(
        case.plan().route.rule.to_string(),
        "directive routing.outbound"
    );
    case.account.routing.route = Key::Set(names("corp"));
    assert_eq!(case.next_hop(), "@corp");
    assert_eq!(
        case.plan().route.rule.to_string(),
        "users/shop.ini [routing] route"
    );
}

#[test]
fn relay_58_an_empty_route_of_the_user_file_overrides_the_directive() {
    let mut case = case();
    case.account.authorizedroute = names("corp");
    case.directive.outbound = entries("@corp");
    case.account.routing.route = Key::Empty;
    assert_eq!(case.next_hop(), "MX");
}

#[test]
fn conf_46_an_overridden_entry_is_judged_all_the_same() {
    let mut case = case();
    case.account.routing.ip = Key::Set(ips("192.0.2.11"));
    case.account.routing.route = Key::Empty;
    for entry in ["203.0.113.1", "@corp"] {
        case.directive.outbound = entries(entry);
        assert!(case.refused().starts_with("451 9.1.5 "), "{entry}");
    }
}

#[test]
fn conf_49_a_route_of_the_user_file_must_be_authorised() {
    let mut case = case();
    case.account.routing.route = Key::Set(names("corp"));
    let expected =
        "451 9.1.5 X-SMTP-R-API routing.route @corp is unknown or not allowed to this account";
    assert_eq!(case.refused(), expected);
    case.account.authorizedroute = names("spare");
    assert_eq!(case.refused(), expected);
    case.account.authorizedroute = names("Corp");
    assert_eq!(case.next_hop(), "@corp");
    case.account.routing.route = Key::Empty;
    case.in_group(|keys| keys.route = Key::Set(names("spare")));
    assert!(case.refused().starts_with("451 9.1.5 "));
}

#[test]
fn conf_50_authorizedrouting_lists_the_groups_of_an_order() {
    let mut shop = account("shop");
    let refusal = may_route_group(&shop, "bigisp").unwrap_err();
    let expected = "451 9.1.5 X-SMTP-R-API routing@bigisp is not allowed to this account";
    assert_eq!(refusal.reply(false).to_log(), expected);
    shop.authorizedrouting = names("other");
    assert!(may_route_group(&shop, "bigisp").is_err());
    shop.authorizedrouting = names("other bigisp");
    assert!(may_route_group(&shop, "bigisp").is_ok());
    shop.authorizedrouting = names("*");
    assert!(may_route_group(&shop, "bigisp").is_ok());
}

#[test]
fn route_3_addresses_of_the_relay_host_and_of_the_user_intersect() {
    let mut case = case();
    let mut corp = host("corp");
    corp.ips = Some(ips("192.0.2.11 192.0.2.10"));
    case.settings.hosts = vec![Arc::new(corp)];
    case.account.authorizedroute = names("corp");
    case.directive.outbound = entries("@corp");
    assert_eq!(case.outbounds(), "192.0.2.10 192.0.2.11");
    case.account.authorizedip = Some(ips("192.0.2.11 2001:db8::10"));
    assert_eq!(case.outbounds(), "192.0.2.11");
    case.account.authorizedip = Some(ips("2001:db8::10"));
    let expected = "451 9.1.5 X-SMTP-R-API relay host @corp and this account have no sending address in common";
    assert_eq!(case.refused(), expected);
    case.account.authorizedip = None;
    case.directive.outbound = entries("2001:db8::10 @corp");
    assert_eq!(case.refused(), expected);
    case.directive.outbound = entries("192.0.2.11 @corp");
    assert_eq!(case.outbounds(), "192.0.2.11");
    case.account.routing.ip = Key::Set(ips("2001:db8::10"));
    assert_eq!(case.refused(), expected);
}

#[test]
fn route_4_the_group_is_that_of_the_relay_host() {
    let mut case = case();
    assert_eq!(case.plan().group.file, "domains/@bigisp.ini");
    case.account.authorizedroute = names("corp");
    case.directive.outbound = entries("@corp");
    assert_eq!(case.plan().group.name, "corp");
}

#[test]
fn relay_56_several_relay_hosts_are_plans_in_their_order() {
    let mut case = case();
    case.account.authorizedroute = names("corp spare");
    case.directive.outbound = entries("@spare 192.0.2.10 @corp");
    let plans = case.plans().unwrap();
    assert_eq!(
        plans.iter().map(hop).collect::<Vec<_>>(),
        ["@spare", "@corp"]
    );
    assert_eq!(plans[1].group.name, "corp");
    assert!(
        plans
            .iter()
            .all(|plan| plan.outbounds.len() == 1 && plan.ordered)
    );
}

#[test]
fn conf_23_without_any_address_nothing_goes_out() {
    let mut case = case();
    case.settings.outbounds = Default::default();
    assert!(case.refused().contains("[IP]"));
}

#[test]
fn relay_44_ehlo_is_a_name_or_the_reverse_name_of_the_address() {
    let mut case = case();
    case.account.routing.ehlo = Key::Set(EhloName::Rdns);
    case.directive.ehlo = Some(name("order.example"));
    assert_eq!(case.plan().ehlo, None);
    case.account.routing.ehlo = Key::Absent;
    assert_eq!(case.plan().ehlo.as_deref(), Some("order.example"));
}

#[test]
fn relay_45_the_four_forms_of_envelopefrom() {
    let mut case = case();
    case.directive.envelopefrom = Some(EnvelopeFrom::MailFrom);
    assert_eq!(case.sender(), fixed("orders@example.com"));
    case.directive.envelopefrom = Some(EnvelopeFrom::From);
    assert_eq!(case.sender(), fixed("shop@brand.example"));
    case.directive.envelopefrom = Some(EnvelopeFrom::Address(mailbox("bounce@example.net")));
    assert_eq!(case.sender(), fixed("bounce@example.net"));
    case.directive.envelopefrom = Some(EnvelopeFrom::Verp);
    assert_eq!(case.sender(), OutboundSender::Verp { domain: None });
}

#[test]
fn relay_45_at_from_without_a_usable_from_is_refused() {
    let mut case = case();
    case.from = None;
    assert_eq!(
        case.sender(),
        fixed("orders@example.com"),
        "nobody asked for it"
    );
    case.directive.envelopefrom = Some(EnvelopeFrom::From);
    let refused = case.refused();
    assert!(
        refused.starts_with("451 9.1.4 X-SMTP-R-API routing.envelopefrom @from: the From field"),
        "{refused}"
    );
}

#[test]
fn relay_59_routing_sender_fixes_the_domain_of_verp() {
    let mut case = case();
    case.directive.envelopefrom = Some(EnvelopeFrom::Verp);
    let verp = |domain: &str| OutboundSender::Verp {
        domain: Some(domain.to_owned()),
    };
    case.settings.routing.sender = Key::Set("main.example".to_owned());
    assert_eq!(case.sender(), verp("main.example"));
    case.account.routing.sender = Key::Set("news.example.com".to_owned());
    assert_eq!(case.sender(), verp("news.example.com"));
    case.in_group(|keys| keys.sender = Key::Empty);
    assert_eq!(case.sender(), OutboundSender::Verp { domain: None });
}

#[test]
fn relay_46_a_null_sender_stays_null_whatever_is_said() {
    let mut case = case();
    case.sender = ReversePath::Null;
    case.account.authorizedsender = Some(names("example.com"));
    let mut corp = host("corp");
    corp.overwrite = true;
    corp.login = Some("login@relay.example".to_owned());
    case.settings.hosts = vec![Arc::new(corp)];
    case.account.authorizedroute = names("corp");
    let forms = [
        EnvelopeFrom::MailFrom,
        EnvelopeFrom::Verp,
        EnvelopeFrom::From,
        EnvelopeFrom::Address(mailbox("bounce@example.net")),
    ];
    for form in forms {
        case.directive.envelopefrom = Some(form);
        for outbound in [None, entries("@corp")] {
            case.directive.outbound = outbound;
            assert_eq!(case.sender(), OutboundSender::Fixed(ReversePath::Null));
        }
    }
}

#[test]
fn relay_47_conf_48_the_resulting_domain_must_be_authorised() {
    let mut case = case();
    case.account.authorizedsender = Some(names("example.com"));
    assert_eq!(case.sender(), fixed("orders@example.com"));
    case.sender = sender("orders@EXAMPLE.com");
    assert_eq!(
        case.sender(),
        fixed("orders@EXAMPLE.com"),
        "case does not matter and is kept"
    );
    for other in ["orders@sub.example.com", "orders@example.net"] {
        case.sender = sender(other);
        let refused = case.refused();
        assert!(
            refused.starts_with("451 9.2.3 X-SMTP-R-API envelope sender domain "),
            "{refused}"
        );
    }
    // What counts is what goes out, not what came in.
    case.directive.envelopefrom = Some(EnvelopeFrom::Address(mailbox("x@example.com")));
    assert_eq!(case.sender(), fixed("x@example.com"));
    case.sender = sender("orders@example.com");
    case.directive.envelopefrom = Some(EnvelopeFrom::From);
    assert!(case.refused().contains("brand.example"));
    case.account.authorizedsender = Some(Vec::new());
    case.directive.envelopefrom = None;
    assert!(case.refused().starts_with("451 9.2.3 "));
}

#[test]
fn relay_47_conf_47_conf_48_a_verp_domain_must_be_authorised_too() {
    let mut case = case();
    case.account.authorizedsender = Some(names("news.example.com mta10.example.net"));
    case.directive.envelopefrom = Some(EnvelopeFrom::Verp);
    assert!(
        case.refused().contains("mta11.example.net"),
        "any outbound may be chosen"
    );
    case.directive.outbound = entries("192.0.2.10");
    assert_eq!(case.sender(), OutboundSender::Verp { domain: None });
    case.account.routing.sender = Key::Set("news.example.com".to_owned());
    assert!(case.plans().is_ok());
    case.account.routing.sender = Key::Set("other.example.com".to_owned());
    assert!(case.refused().contains("other.example.com"));
}

#[test]
fn conf_78_overwrite_makes_the_login_the_envelope_sender() {
    let mut case = case();
    let mut corp = host("corp");
    corp.login = Some("login@relay.example".to_owned());
    case.settings.hosts = vec![Arc::new(corp.clone())];
    case.account.authorizedroute = names("corp");
    case.directive.outbound = entries("@corp");
    assert_eq!(case.sender(), fixed("orders@example.com"));
    corp.overwrite = true;
    case.settings.hosts = vec![Arc::new(corp.clone())];
    case.directive.envelopefrom = Some(EnvelopeFrom::Verp);
    assert_eq!(case.sender(), fixed("login@relay.example"));
    assert_eq!(case.rule("envelopefrom"), "hosts/@corp.ini [dns] overwrite");
    case.account.authorizedsender = Some(names("example.com"));
    assert!(
        case.refused().starts_with("451 9.2.3 "),
        "the resulting sender counts"
    );
    corp.login = Some("login".to_owned());
    case.settings.hosts = vec![Arc::new(corp)];
    assert!(
        case.refused()
            .starts_with("451 9.1.5 X-SMTP-R-API relay host @corp")
    );
}

#[test]
fn relay_54_relay_55_ssl_has_three_values() {
    let mut case = case();
    for ssl in [Ssl::Never, Ssl::Required, Ssl::Opportunistic] {
        case.directive.ssl = Some(ssl);
        assert_eq!(case.plan().ssl, ssl);
    }
}

#[test]
fn relay_43_limits_hold_wherever_the_value_comes_from() {
    let mut case = case();
    case.account.message.timeout = Key::Set(Duration::from_secs(4000));
    case.account.message.maxhop = Key::Set(400);
    assert_eq!(
        (case.plan().timeout, case.plan().maxhop),
        (Duration::from_secs(590), 20)
    );
}

#[test]
fn rules_name_file_and_line_where_they_are_known() {
    let mut case = case();
    case.account.routing.ehlo = Key::Set(name("user.example"));
    case.account.routing.places = vec![("ehlo".to_owned(), "users/shop.ini:12".to_owned())];
    assert_eq!(case.rule("ehlo"), "users/shop.ini:12 [routing] ehlo");
}

#[test]
fn relay_70_the_reply_to_a_dot_is_awaited_a_minute_longer_but_not_beyond_595_s() {
    let patience = |seconds| patience(Duration::from_secs(seconds)).as_secs();
    assert_eq!([patience(1), patience(60), patience(590)], [61, 120, 595]);
}
