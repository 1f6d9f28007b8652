//! The relay service: `[relay@<senderdomain>]` of a user file (ROUTE-44 to ROUTE-59).

use galerne_core::settings::{HostKind, RelayService, Ssl};

use crate::world::{World, ip, lines};

const LOGIN: &str = "[account]\nsmtppassw = secret-word\n";

fn service(text: &str) -> RelayService {
    let world = World::new();
    let shop = world.shop(&format!("{LOGIN}[relay@Brand.example]\n{text}"));
    assert_eq!(shop.services.len(), 1);
    (*shop.services[0]).clone()
}

#[test]
fn route_44_route_45_route_46_route_59_a_target_alone_has_defaults() {
    let service = service("target = Relay.Brand.example\n");
    assert_eq!(service.domain, "brand.example");
    let host = &service.host;
    assert_eq!((&*host.host, host.port), ("relay.brand.example", 25));
    assert_eq!(host.kind, HostKind::Service);
    assert_eq!((&host.ips, &host.login, host.ssl), (&None, &None, None));
    assert!(service.addresses.is_empty() && host.group.is_none() && host.verify);
}

#[test]
fn route_47_route_52_route_59_every_key_is_read() {
    let service = service(
        "target = relay.brand.example\nport = 587\nip = 192.0.2.11\nlogin = me\npassw = word\n\
         ssl = required\naddress = a@brand.example, B@Brand.example\n",
    );
    let host = &service.host;
    assert_eq!((host.port, &host.ips), (587, &Some(vec![ip("192.0.2.11")])));
    assert_eq!(host.login.as_deref(), Some("me"));
    assert_eq!(host.password.as_ref().unwrap().0, "word");
    assert_eq!(host.ssl, Some(Ssl::Required));
    assert_eq!(service.addresses.len(), 2);
}

#[test]
fn route_4_route_58_a_hosts_file_for_the_target_gives_its_group() {
    let world = World::new();
    world.write(
        "hosts/@brand.ini",
        "[dns]\nmx = relay.brand.example\nauthclear = 1\nverify = 0\n",
    );
    let shop = world.shop(&format!(
        "{LOGIN}[relay@brand.example]\ntarget = relay.brand.example\n"
    ));
    let host = &shop.services[0].host;
    assert_eq!(host.group.as_ref().unwrap().name, "brand");
    assert!(host.authclear && !host.verify);
}

#[test]
fn route_45_route_46_route_47_route_52_what_is_wrong_disables_the_account() {
    let ten: Vec<String> = (0..10).map(|n| format!("a{n}@brand.example")).collect();
    let ten = ten.join(" ");
    let good = format!("target = relay.brand.example\naddress = {ten}\n");
    assert_eq!(service(&good).addresses.len(), 10);
    let eleven = format!("target = relay.brand.example\naddress = {ten} b@brand.example\n");
    for (text, expected) in [
        (
            "target = 192.0.2.25\n",
            "target: expected a fully qualified domain name, not an address",
        ),
        (
            "target = 2001:db8::25\n",
            "target: expected a host or domain name",
        ),
        (
            "target = [192.0.2.25]\n",
            "target: expected a host or domain name",
        ),
        (
            "target = localhost\n",
            "target: expected a fully qualified domain name, not a single label",
        ),
        (
            "target = a.example:25\n",
            "target: expected a host or domain name",
        ),
        (
            "target = a.example b.example\n",
            "target: expected a host or domain name",
        ),
        (
            "target = a.example\ntarget = b.example\n",
            "target: set again; the value of line 4",
        ),
        (
            "port = 26\n",
            "target: the host that receives the mail must be named",
        ),
        (
            "target = a.example\nport = 0\n",
            "port: port 0 is not allowed",
        ),
        (
            "target = a.example\nip = 192.0.2.99\n",
            "ip: 192.0.2.99 is not listed in [IP]",
        ),
        (
            "target = a.example\naddress = a@other.example\n",
            "address: a@other.example is no address of brand.example",
        ),
        (&eleven, "address: 11 addresses, at most 10 are allowed"),
    ] {
        let world = World::new();
        let error = world.shop_error(&format!("{LOGIN}[relay@brand.example]\n{text}"));
        assert!(
            error.contains(&format!("[relay@brand.example] {expected}")),
            "{text}: {error}"
        );
    }
}

#[test]
fn route_49_route_50_not_together_with_smime_which_is_reserved() {
    let world = World::new();
    let with = |smime: &str| {
        format!("{LOGIN}[routing]\nsmime = {smime}\n[relay@brand.example]\ntarget = a.example\n")
    };
    let error = world.shop_error(&with("1"));
    assert_eq!(
        error,
        "users/shop.ini:6: error: [relay@brand.example] target: cannot be combined with [routing] smime = 1"
    );
    assert_eq!(world.shop(&with("0")).services.len(), 1);
    let shop =
        format!("{LOGIN}[routing]\nsign = both\n[relay@brand.example]\ntarget = a.example\n");
    assert_eq!(world.shop(&shop).services.len(), 1, "DKIM is not concerned");
}

#[test]
fn route_59_a_login_without_a_password_is_said() {
    let world = World::new();
    let text = format!("{LOGIN}[relay@brand.example]\ntarget = a.example\nlogin = me\n");
    world.shop(&text);
    let findings = lines(&world.load());
    assert!(
        findings
            .iter()
            .any(|l| l.contains("login: AUTH needs login and passw")),
        "{findings:?}"
    );
}
