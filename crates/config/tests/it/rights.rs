//! User files: names, rights, what they may name.

use galerne_core::settings::{EnvelopeFrom, Key, MessageKeys, RoutingKeys, Sign, Ssl};

use crate::world::{World, account, ip, lines, one_error};

const IN: &str = "[account]\nsmtpip = 198.51.100.1\n";

#[test]
fn conf_37_conf_38_user_files_by_their_names() {
    let world = World::new();
    world.write("users/Shop-1.ini", IN);
    world.write("users/rfmta.ini", "[account]\n");
    world.write("users/a.b.ini", "[account]\n");
    world
        .write("users/notes.txt", "free text")
        .write("users/.hidden", "x");
    let loaded = world.load();
    let found = lines(&loaded);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("users/a.b.ini:1: error: [-] -: a user name has"));
    assert!(found[1].starts_with("users/rfmta.ini:1: error: [-] -: user names beginning with rf"));
    let accounts = loaded.settings.unwrap().accounts;
    assert_eq!(accounts.len(), 1);
    assert_eq!(
        (accounts[0].name.as_str(), accounts[0].file.as_str()),
        ("shop-1", "users/Shop-1.ini")
    );
}

#[test]
fn conf_37_names_are_compared_without_case() {
    let world = World::new();
    world.write("users/SHOP.ini", IN);
    world.write("users/shop.ini", "[account]\nsmtpip = 198.51.100.2\n");
    let loaded = world.load();
    assert!(
        one_error(&loaded).starts_with(
            "users/shop.ini:1: error: [-] -: the account shop stands in users/SHOP.ini"
        )
    );
    assert_eq!(loaded.settings.unwrap().accounts.len(), 1);
}

#[test]
fn conf_39_conf_41_defaults_of_an_account() {
    let shop = World::new().shop("");
    assert!(shop.smtpssl);
    assert_eq!(shop.filter, ["rfhard", "shop"]);
    assert_eq!((shop.login.clone(), shop.password.is_none()), (None, true));
    assert!(shop.smtpip.is_empty());
    assert_eq!(
        (shop.authorizedip.clone(), shop.authorizedsender.clone()),
        (None, None)
    );
    assert!(shop.authorizedroute.is_empty() && shop.authorizedrouting.is_empty());
    assert_eq!(shop.granted_from, None);
    assert!(!shop.routing.ssl.is_present() && !shop.message.timeout.is_present());
}

#[test]
fn conf_39_the_sample_of_the_specification() {
    let world = World::new();
    world.write("hosts/@corp.ini", "[dns]\nmx = corp.example.net\n");
    world.write("domains/@bigisp.ini", "[dns]\nmx = mx.bigisp.example\n");
    world.write("lists/Partners.csv", "email\n");
    let shop = world.shop(
        "[account]\nsmtplogin = shop@example.com\nsmtppassw = {argon2}$argon2id$v=19$m=1,t=1,p=1$AAAA$AAAA\n\
         authorizedip = 192.0.2.10 192.0.2.11\nauthorizedsender = news.example.com example.com\n\
         authorizedroute = @corp\nauthorizedrouting = *\n[list]\nfilter = rfhard shop partners\n\
         [routing]\nssl = 1\nsign = from\n[routing@bigisp]\nip = 192.0.2.11\n",
    );
    assert_eq!(shop.login.as_deref(), Some("shop@example.com"));
    assert_eq!(
        shop.authorizedip,
        Some(vec![ip("192.0.2.10"), ip("192.0.2.11")])
    );
    assert_eq!(shop.authorizedsender.as_ref().unwrap().len(), 2);
    assert_eq!(
        (
            shop.authorizedroute.as_slice(),
            shop.authorizedrouting.as_slice()
        ),
        (&["corp".to_string()][..], &["*".to_string()][..])
    );
    assert_eq!(shop.filter, ["rfhard", "shop", "partners"]);
    assert_eq!(shop.routing.ssl, Key::Set(Ssl::Opportunistic));
    assert_eq!(shop.routing.sign, Key::Set(Sign::From));
    let (group, keys) = &shop.routing_by_group[0];
    assert_eq!(
        (group.as_str(), &keys.ip),
        ("bigisp", &Key::Set(vec![ip("192.0.2.11")]))
    );
    assert_eq!(
        shop.routing.places[0],
        ("ssl".to_string(), "users/shop.ini:11".to_string())
    );
}

#[test]
fn conf_16_empty_keys_are_present() {
    let shop = World::new().shop("[routing]\nip =\nssl =\nroute=\n[list]\nfilter =\n[message]\ntimeout =\n[account]\nauthorizedip =\n");
    assert_eq!(
        (&shop.routing.ip, &shop.routing.ssl),
        (&Key::Empty, &Key::Empty)
    );
    assert_eq!(
        (&shop.routing.route, &shop.routing.ehlo),
        (&Key::Empty, &Key::Absent)
    );
    assert_eq!(shop.message.timeout, Key::Empty);
    assert!(shop.filter.is_empty());
    assert_eq!(shop.authorizedip, None);
}

#[test]
fn conf_16_relay_58_every_key_that_an_order_can_give_may_be_present_and_empty() {
    let world = World::new();
    world.write("domains/@isp.ini", "[dns]\nmx = mx.isp.example\n");
    let every = "ip =\nsender =\nehlo =\nenvelopefrom =\nsign =\nssl =\nroute =\narc =\n";
    let shop = world.shop(&format!(
        "[routing]\n{every}[routing@isp]\n{every}[message]\ntimeout =\nmaxhop =\n[relay]\nmode =\n"
    ));
    for keys in [&shop.routing, &shop.routing_by_group[0].1] {
        // By name, so that a key that is added does not escape.
        let RoutingKeys {
            ip,
            sender,
            ehlo,
            envelopefrom,
            sign,
            ssl,
            route,
            arc,
            places,
        } = keys;
        let empty = [
            *ip == Key::Empty,
            *sender == Key::Empty,
            *ehlo == Key::Empty,
            *envelopefrom == Key::Empty,
            *sign == Key::Empty,
            *ssl == Key::Empty,
            *route == Key::Empty,
            *arc == Key::Empty,
        ];
        assert_eq!((empty, places.len()), ([true; 8], 8));
    }
    let MessageKeys {
        timeout,
        maxhop,
        mode,
    } = &shop.message;
    assert_eq!(
        (timeout, maxhop, mode),
        (&Key::Empty, &Key::Empty, &Key::Empty)
    );
}

#[test]
fn conf_42_relay_58_old_names_are_accepted() {
    let world = World::new();
    world.write("domains/@isp.ini", "[dns]\nmx = mx.isp.example\n");
    let shop = world.shop("[smtp]\ndomain = News.example.com\nverp = 1\n[Smtp@ISP]\nssl = 0\n[smp]\nehlo = a.example.com\n");
    assert_eq!(shop.routing.sender, Key::Set("news.example.com".into()));
    assert_eq!(shop.routing.envelopefrom, Key::Set(EnvelopeFrom::Verp));
    assert!(shop.routing.ehlo.is_present());
    assert_eq!(shop.routing_by_group[0].1.ssl, Key::Set(Ssl::Never));
    for text in ["verp = 0", "verp =", "verp = 1\nenvelopefrom ="] {
        let shop = world.shop(&format!("[smtp]\n{text}\n"));
        let kept = &shop.routing.envelopefrom;
        assert_eq!(*kept, Key::Empty, "{text}: present, and no @verp");
    }
    let found = {
        world.write(
            "users/shop.ini",
            "[account]\nsmtpip = 192.0.2.1\n[tracking]\ndomain = t.example.com\n",
        );
        lines(&world.load())
    };
    assert!(
        found[0].contains("[tracking] domain: job processing is not part of this version"),
        "{found:#?}"
    );
}

#[test]
fn conf_52_the_user_name_in_values_and_as_login() {
    let world = World::new();
    let shop = world.shop("[account]\nsmtppassw = p%user%\n[routing]\nehlo = %user%.example.com\n");
    assert_eq!(shop.login.as_deref(), Some("shop"));
    assert_eq!(
        shop.password.as_ref().unwrap().0,
        "p%user%",
        "a password is taken as it stands"
    );
    assert!(format!("{:?}", shop.routing.ehlo).contains("shop.example.com"));
    let shop = world.shop("[account]\nsmtplogin =\nsmtppassw =\nsmtpip = 192.0.2.1\n");
    assert_eq!(
        (shop.login.clone(), shop.password.is_none()),
        (None, true),
        "an empty password is none"
    );
}

#[test]
fn conf_93_limits_per_hour_and_day() {
    let world = World::new();
    let shop = world.shop("[account]\nsmtpip = 192.0.2.1\n");
    assert_eq!((shop.maxhour, shop.maxday), (0, 0), "no limit");
    let shop = world.shop("[account]\nsmtpip = 192.0.2.1\nmaxhour = 100\nmaxday = 2000\n");
    assert_eq!((shop.maxhour, shop.maxday), (100, 2000));
    assert!(
        world
            .shop_error("[account]\nmaxhour = -1\n")
            .starts_with("users/shop.ini:2: error: [account] maxhour: ")
    );
}

#[test]
fn conf_52_the_user_name_is_in_lower_case_in_every_value() {
    let world = World::new();
    world.write(
        "users/Big-Shop.ini",
        "[account]\nsmtplogin = %user%@example.com\nsmtppassw = x\ngranted_from_addr = *@%user%.example\n\
         [list]\nfilter = %user% rfhard\n[routing]\nsender = %user%.example\nenvelopefrom = b@%user%.example\n",
    );
    let loaded = world.load();
    let accounts = &loaded.settings.unwrap().accounts;
    let shop = accounts.iter().find(|a| a.name == "big-shop").unwrap();
    assert_eq!(shop.login.as_deref(), Some("big-shop@example.com"));
    assert_eq!(shop.filter, ["big-shop", "rfhard"]);
    assert_eq!(
        shop.granted_from.as_deref(),
        Some(&["*@big-shop.example".to_owned()][..])
    );
    assert_eq!(shop.routing.sender, Key::Set("big-shop.example".to_owned()));
    assert!(format!("{:?}", shop.routing.envelopefrom).contains("b@big-shop.example"));
}

#[test]
fn conf_53_two_accounts_cannot_share_login_or_key() {
    let world = World::new();
    world.write(
        "users/a.ini",
        "[account]\nsmtplogin = One@example.com\nsmtppassw = x\napikey = k\n",
    );
    world.write(
        "users/b.ini",
        "[account]\nsmtplogin = one@EXAMPLE.com\nsmtppassw = y\n",
    );
    world.write("users/c.ini", "[account]\nsmtppassw = y\napikey = k\n");
    let loaded = world.load();
    let errors: Vec<_> = lines(&loaded)
        .into_iter()
        .filter(|l| l.contains("error"))
        .collect();
    assert_eq!(
        errors,
        [
            "users/b.ini:2: error: [account] smtplogin: the login belongs to the account of users/a.ini already",
            "users/c.ini:3: error: [account] apikey: the same key stands in users/a.ini",
        ]
    );
    assert_eq!(loaded.settings.unwrap().accounts.len(), 1);
    let world = World::new();
    assert!(
        world
            .shop_error("[account]\nsmtppassw = {argon2}xyz\n")
            .contains("[account] smtppassw: expected {argon2}$argon2")
    );
}

#[test]
fn conf_92_equal_networks_are_an_error_and_nested_ones_are_not() {
    let world = World::new();
    world.write(
        "users/a.ini",
        "[account]\nsmtpip = 198.51.100.0/24 203.0.113.7\n",
    );
    world.write(
        "users/b.ini",
        "[account]\nsmtpip = 198.51.100.0/25, 2001:db8::/32\n",
    );
    assert_eq!(account(&world.settings(), "b").smtpip.len(), 2);
    world.write("users/b.ini", "[account]\nsmtpip = 203.0.113.7/32\n");
    assert_eq!(
        one_error(&world.load()),
        "users/b.ini:2: error: [account] smtpip: 203.0.113.7/32 belongs to the account of users/a.ini already"
    );
}

#[test]
fn conf_43_conf_44_addresses_must_be_configured() {
    let world = World::new();
    for (text, section) in [
        (
            "[account]\nauthorizedip = 192.0.2.10 192.0.2.99\n",
            "[account] authorizedip",
        ),
        ("[routing]\n\nip = 192.0.2.99\n", "[routing] ip"),
    ] {
        let error = world.shop_error(text);
        assert!(
            error.contains(&format!(
                "error: {section}: 192.0.2.99 is not listed in [IP]"
            )),
            "{error}"
        );
    }
}

#[test]
fn conf_49_conf_75_routes_must_exist_and_be_authorised() {
    let world = World::new();
    world.write("hosts/@next.ini", "[dns]\nmx = smtp.example.net\n");
    world.write("hosts/@broken.ini", "[dns]\nmx = *.example.net\n");
    let without_host = |text: &str| {
        world.write("users/shop.ini", text);
        let found = lines(&world.load());
        found
            .into_iter()
            .filter(|l| l.starts_with("users/") && l.contains(" error: "))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        without_host("[routing]\nroute = @next\n"),
        ["users/shop.ini:2: error: [routing] route: @next is not in [account] authorizedroute"]
    );
    assert_eq!(
        without_host("[account]\nauthorizedroute = @nowhere\n"),
        [
            "users/shop.ini:2: error: [account] authorizedroute: unknown relay host @nowhere; expected a file hosts/@nowhere.ini"
        ]
    );
    assert_eq!(
        without_host("[account]\nauthorizedroute = @broken\n"),
        [
            "users/shop.ini:2: error: [account] authorizedroute: relay host @broken is disabled by an error in its file"
        ]
    );
    assert!(
        without_host("[account]\nauthorizedroute = next\n[routing]\nroute = @NEXT\n").is_empty()
    );
    let main = "[IP]\n192.0.2.10 = a.example.com\n[routing]\nroute = @nowhere\nip = 192.0.2.77\n";
    world.write("galerne.ini", main);
    let loaded = world.load();
    assert!(loaded.settings.is_none());
    assert!(lines(&loaded).iter().any(|l| {
        l.starts_with("galerne.ini:4: error: [routing] route: unknown relay host @nowhere")
    }));
    assert!(
        lines(&loaded)
            .iter()
            .any(|l| l.starts_with("galerne.ini:5: error: [routing] ip: 192.0.2.77 is not listed"))
    );
}

#[test]
fn conf_50_unknown_groups_are_named() {
    let world = World::new();
    world.write(
        "users/shop.ini",
        "[account]\nsmtpip = 192.0.2.1\nauthorizedrouting = * @none\n[routing@else]\nssl = 1\n",
    );
    let found = lines(&world.load());
    assert_eq!(
        found,
        [
            "users/shop.ini:3: warning: [account] authorizedrouting: unknown group @none; expected a file domains/@none.ini",
            "users/shop.ini:4: warning: [routing@else] -: unknown group @else; expected a file domains/@else.ini",
        ]
    );
}

#[test]
fn conf_64_filters_name_lists_that_exist() {
    let world = World::new();
    let error = world.shop_error("[list]\nfilter = rfhard %user% partners\n");
    assert!(error.starts_with("users/shop.ini:2: error: [list] filter: there is no list partners"));
    world.write("lists/partners.csv", "email\n");
    assert_eq!(
        world
            .shop("[list]\nfilter = rfhard %user% partners\n")
            .filter
            .len(),
        3
    );
    assert!(
        world
            .shop_error("[list]\nfilter = ../users/x\n")
            .contains("expected names of lists")
    );
}

#[test]
#[cfg(unix)]
fn conf_95_files_with_secrets_readable_by_others() {
    let world = World::new();
    world
        .write(
            "galerne.ini",
            "[IP]\n192.0.2.10 = news.example.com\n192.0.2.11 = mta11.example.net\n[rfrelay]\ndmarcaddr = dmarc\n",
        )
        .write("users/shop.ini", IN)
        .write("keys/a.example dkim b.pem", "rsa 2048")
        .write("certs/a.key", "");
    world.write("certs/a.pem", "");
    assert!(world.load().findings.is_empty());
    for file in [
        "users/shop.ini",
        "keys/a.example dkim b.pem",
        "certs/a.key",
        "certs/a.pem",
    ] {
        world.mode(file, 0o644);
    }
    let found = lines(&world.load());
    assert_eq!(found.len(), 3, "{found:#?}");
    for (line, file) in
        found
            .iter()
            .zip(["certs/a.key", "keys/a.example dkim b.pem", "users/shop.ini"])
    {
        let expected = format!("{file}:1: warning: [-] -: readable by every user of this host");
        assert!(line.starts_with(&expected), "{line}");
    }
}
