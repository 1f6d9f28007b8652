//! The route table and the relay service among the other routes (ROUTE-1, ROUTE-3, ROUTE-4,
//! ROUTE-44 to ROUTE-59).

use super::*;
use crate::routes::tests::table;
use crate::settings::RelayService;

/// `name:port` of each next hop, or `MX`.
fn hops(case: &Case) -> Vec<String> {
    let hop = |plan: &Plan| match plan.route.next_hop.host() {
        None => "MX".to_owned(),
        Some(host) => format!("{}:{}", host.host, host.port),
    };
    case.plans().unwrap().iter().map(hop).collect()
}

fn routed(rows: &str) -> Case {
    let mut case = case();
    case.routes = Some(Draw::look(table(rows, &case.settings)));
    case
}

fn service(domain: &str, target: &str) -> RelayService {
    let host = RelayHost {
        kind: HostKind::Service,
        name: format!("relay@{domain}"),
        file: "users/shop.ini".to_owned(),
        host: target.to_owned(),
        port: 25,
        group: None,
        ..host("service")
    };
    RelayService {
        domain: domain.to_owned(),
        addresses: Vec::new(),
        host: Arc::new(host),
    }
}

#[test]
fn route_1_service_then_user_file_then_order_then_table_then_group_then_mx() {
    let mut case = routed("-rh table.example");
    case.account.authorizedroute = names("corp spare");
    case.account.services = vec![Arc::new(service("example.com", "target.example"))];
    case.account.routing.route = Key::Set(names("corp"));
    case.directive.outbound = entries("@spare");
    case.group.relay = Some("corp".to_owned());
    assert_eq!(hops(&case), ["target.example:25"]);
    assert_eq!(
        case.rule("route"),
        "users/shop.ini [relay@example.com] target"
    );
    case.account.services.clear();
    assert_eq!(hops(&case), ["corp.example.net:465"]);
    case.account.routing.route = Key::Absent;
    assert_eq!(hops(&case), ["spare.example.net:465"]);
    case.directive.outbound = None;
    assert_eq!(hops(&case), ["table.example:25"]);
    assert_eq!(case.rule("route"), "route 1, tier 16");
    case.routes = Some(Draw::look(table("", &case.settings)));
    assert_eq!(hops(&case), ["corp.example.net:465"]);
    case.group.relay = None;
    assert_eq!(hops(&case), ["MX"], "ROUTE-2");
}

#[test]
fn route_29_route_34_all_rows_of_the_tier_and_no_others() {
    let case = routed(
        "-rh a.example -u example.com\n-rh b.example -u example.com -p 2\n-rh c.example -p 3",
    );
    assert_eq!(hops(&case), ["a.example:25", "b.example:25"]);
}

#[test]
fn route_28_the_sender_compared_is_the_clients_before_any_rewriting() {
    let mut case = routed("-rh a.example -u example.com -f example.com");
    case.account.routing.envelopefrom = Key::Set(EnvelopeFrom::Address(mailbox("x@other.example")));
    assert_eq!(case.sender(), fixed("x@other.example"));
    assert_eq!(hops(&case), ["a.example:25"]);
}

#[test]
fn route_9_route_60_without_a_login_only_rows_for_anybody() {
    let mut case = routed("-rh a.example -u example.com\n-rh b.example");
    assert_eq!(hops(&case), ["a.example:25"]);
    case.login = None;
    assert_eq!(hops(&case), ["b.example:25"]);
}

#[test]
fn route_3_route_36_local_ips_are_those_of_the_route_that_the_user_may_use() {
    let rotation = routed("-rh a.example -l 192.0.2.11|192.0.2.10");
    assert_eq!(rotation.outbounds(), "192.0.2.10 192.0.2.11");
    assert!(!rotation.plan().ordered);
    let mut failover = routed("-rh a.example -l 192.0.2.11&192.0.2.10");
    assert_eq!(failover.outbounds(), "192.0.2.11 192.0.2.10");
    assert!(failover.plan().ordered);
    assert!(
        failover
            .rule("outbound")
            .starts_with("local IPs of route 1, within ")
    );
    failover.account.authorizedip = Some(ips("192.0.2.10"));
    assert_eq!(failover.outbounds(), "192.0.2.10");
    failover.account.authorizedip = Some(ips("2001:db8::10"));
    assert_eq!(
        failover.refused(),
        "451 9.1.5 X-SMTP-R-API route 1 and this account have no sending address in common"
    );
}

#[test]
fn route_4_the_group_is_that_of_the_hosts_file_else_of_the_recipient() {
    let case = routed("-rh corp.example.net\n-rh other.example -p 2");
    let groups: Vec<String> = case
        .plans()
        .unwrap()
        .into_iter()
        .map(|p| p.group.name.clone())
        .collect();
    assert_eq!(groups, ["corp", "bigisp"]);
}

#[test]
fn route_44_route_47_route_48_a_service_is_for_a_sender() {
    let mut only = service("brand.example", "b.example");
    only.addresses = vec![mailbox("Shop@Brand.example")];
    let mut case = case();
    case.account.services = vec![
        Arc::new(service("example.com", "a.example")),
        Arc::new(only),
    ];
    // MAIL FROM orders@example.com, From shop@brand.example.
    assert_eq!(hops(&case), ["a.example:25"], "by MAIL FROM");
    case.sender = sender("ORDERS@Example.com");
    assert_eq!(hops(&case), ["a.example:25"]);
    case.sender = sender("x@sub.example.com");
    assert_eq!(
        hops(&case),
        ["MX"],
        "a sub-domain is another; MAIL FROM is kept"
    );
    case.sender = sender("");
    assert_eq!(hops(&case), ["b.example:25"], "null: by the From field");
    case.sender = sender("x@elsewhere.example");
    case.directive.envelopefrom = Some(EnvelopeFrom::From);
    assert_eq!(
        hops(&case),
        ["b.example:25"],
        "rewritten: by the From field"
    );
    case.from = Some(mailbox("other@brand.example"));
    assert_eq!(hops(&case), ["MX"], "not one of the addresses");
}

#[test]
fn route_51_no_message_avoids_its_service() {
    let mut case = routed("-rh table.example");
    case.account.authorizedroute = names("spare");
    case.account.services = vec![Arc::new(service("example.com", "a.example"))];
    case.directive.outbound = entries("@spare 192.0.2.10");
    assert_eq!(hops(&case), ["a.example:25"]);
    case.directive.outbound = entries("@corp");
    assert!(case.refused().starts_with("451 9.1.5 "), "CONF-46 holds");
}

#[test]
fn route_52_route_59_the_service_has_its_own_address_and_ssl() {
    let mut case = case();
    let mut service = service("example.com", "a.example");
    let host = Arc::make_mut(&mut service.host);
    (host.ips, host.ssl) = (Some(ips("192.0.2.11")), Some(Ssl::Required));
    case.account.services = vec![Arc::new(service)];
    case.account.routing.ssl = Key::Set(Ssl::Never);
    assert_eq!(case.outbounds(), "192.0.2.11");
    assert_eq!(case.plan().ssl, Ssl::Required);
    assert_eq!(case.rule("ssl"), "users/shop.ini [relay@example.com] ssl");
    case.account.authorizedip = Some(ips("192.0.2.10"));
    assert!(case.refused().starts_with("451 9.1.5 "), "no other is used");
}

#[test]
fn the_group_is_needed_unless_a_relay_host_is_sure() {
    let none = Directive::default();
    let with_host = Directive {
        outbound: entries("@corp"),
        ..Directive::default()
    };
    let with_ip = Directive {
        outbound: entries("192.0.2.10"),
        ..Directive::default()
    };
    let mut case = case();
    let needs = |case: &Case, directive: &Directive| {
        let asked = Asked {
            directive,
            ..case.asked()
        };
        needs_group(&case.settings, &asked)
    };
    let nobody = Asked {
        account: None,
        ..case.asked()
    };
    assert!(needs_group(&case.settings, &nobody));
    assert!(needs(&case, &none));
    assert!(needs(&case, &with_ip));
    assert!(!needs(&case, &with_host));
    case.account.routing.route = Key::Empty;
    assert!(needs(&case, &with_host), "overridden");
    case.account.routing.route = Key::Set(names("corp"));
    assert!(!needs(&case, &none));
    case.account
        .routing_by_group
        .push(("bigisp".to_owned(), Default::default()));
    assert!(needs(&case, &none));
}

#[test]
fn route_4_route_59_a_service_without_a_file_has_the_group_of_the_recipient() {
    let mut case = case();
    let needs = |case: &Case| needs_group(&case.settings, &case.asked());
    let mut service = service("example.com", "a.example");
    case.account.routing.route = Key::Set(names("corp"));
    assert!(!needs(&case));
    case.account.services = vec![Arc::new(service.clone())];
    assert!(needs(&case));
    Arc::make_mut(&mut service.host).group = host("corp").group;
    case.account.services = vec![Arc::new(service)];
    assert!(!needs(&case));
    assert_eq!(case.plan().group.name, "corp");
}
