use super::*;
use crate::testing::{FixedLists, account, ip, mailbox, settings};

/// Argon2id of `password`, from the test vectors of the reference implementation.
const HASHED: &str =
    "{argon2}$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

fn network(text: &str) -> Network {
    let (address, prefix) = text.split_once('/').unwrap();
    Network {
        address: ip(address),
        prefix: prefix.parse().unwrap(),
    }
}

fn with_login(name: &str, login: &str, password: &str, smtpssl: bool) -> Arc<Account> {
    let mut account = account(name);
    account.login = Some(login.to_owned());
    account.password = Some(Secret(password.to_owned()));
    account.smtpssl = smtpssl;
    Arc::new(account)
}

fn with_networks(name: &str, networks: &[&str], smtpssl: bool) -> Arc<Account> {
    let mut account = account(name);
    account.smtpip = networks.iter().map(|n| network(n)).collect();
    account.smtpssl = smtpssl;
    Arc::new(account)
}

fn accounts(list: Vec<Arc<Account>>) -> Accounts {
    let mut settings = settings();
    settings.accounts = list;
    Accounts::new(&settings)
}

fn verdict(accounts: &Accounts, login: &str, password: &str, tls: bool) -> String {
    match accounts.authenticate(login, password.as_bytes(), tls) {
        Login::Accepted(account) => format!("accepted {}", account.name),
        Login::Refused => "refused".to_owned(),
        Login::NeedsTls => "needs tls".to_owned(),
    }
}

fn known(accounts: &Accounts, peer: &str, tls: bool) -> String {
    match accounts.by_address(ip(peer), tls) {
        ByAddress::Nobody => "nobody".to_owned(),
        ByAddress::Account(account) => account.name.clone(),
        ByAddress::NeedsTls(account) => format!("{} needs tls", account.name),
    }
}

#[test]
fn conf_53_a_password_is_given_in_clear_or_as_argon2() {
    for secret in ["password", HASHED] {
        let secret = Secret(secret.to_owned());
        assert!(verify_password(&secret, b"password"));
        for wrong in [&b"Password"[..], b"passwor", b"password ", b"", b"x"] {
            assert!(!verify_password(&secret, wrong), "{wrong:?}");
        }
    }
}

#[test]
fn conf_53_an_empty_secret_and_a_broken_hash_match_nothing() {
    for secret in [
        "",
        "{argon2}",
        "{argon2}secret",
        "{argon2}$argon2id$v=19$m=16,t=1,p=1$c29tZXNhbHQ",
    ] {
        let secret = Secret(secret.to_owned());
        for password in [&b""[..], b"secret", secret.0.as_bytes()] {
            assert!(!verify_password(&secret, password), "{secret:?}");
        }
    }
}

#[test]
fn conf_53_if_6_a_password_that_is_hashed_matches_itself_alone() {
    let one = hash_password(b"correct horse", &[1; 16]).unwrap();
    let other = hash_password(b"correct horse", &[2; 16]).unwrap();
    assert!(one.0.starts_with("{argon2}$argon2id$v=19$"), "{}", one.0);
    assert_ne!(one, other, "the salt is part of it");
    for hash in [&one, &other] {
        assert!(verify_password(hash, b"correct horse"));
        assert!(!verify_password(hash, b"correct horsf"));
    }
    assert_eq!(hash_password(b"x", b""), None);
}

#[test]
fn relay_9_login_and_password_come_from_the_user_file() {
    let accounts = accounts(vec![
        with_login("shop", "Shop@Example.com", "secret", true),
        with_login("news", "news", HASHED, true),
        Arc::new(account("mute")),
    ]);
    assert_eq!(
        verdict(&accounts, "shop@example.COM", "secret", true),
        "accepted shop"
    );
    assert_eq!(
        verdict(&accounts, "news", "password", true),
        "accepted news"
    );
    assert_eq!(verdict(&accounts, "shop", "secret", true), "refused");
    assert_eq!(verdict(&accounts, "news", "wrong", true), "refused");
    assert_eq!(verdict(&accounts, "nobody", "secret", true), "refused");
    assert_eq!(verdict(&accounts, "mute", "", true), "refused");
    assert_eq!(verdict(&accounts, "", "", true), "refused");
}

#[test]
fn relay_10_relay_11_an_account_with_smtpssl_needs_tls_whatever_the_password() {
    let accounts = accounts(vec![
        with_login("shop", "shop", "secret", true),
        with_login("old", "old", "secret", false),
    ]);
    assert_eq!(verdict(&accounts, "shop", "secret", false), "needs tls");
    assert_eq!(verdict(&accounts, "shop", "wrong", false), "needs tls");
    assert_eq!(verdict(&accounts, "shop", "secret", true), "accepted shop");
    assert_eq!(verdict(&accounts, "old", "secret", false), "accepted old");
    assert_eq!(verdict(&accounts, "old", "wrong", false), "refused");
    assert_eq!(verdict(&accounts, "nobody", "secret", false), "refused");
}

#[test]
fn relay_11_auth_is_offered_in_clear_only_if_some_account_allows_it() {
    let strict = with_login("shop", "shop", "secret", true);
    let lax = with_login("old", "old", "secret", false);
    let lax_without_password = with_networks("lan", &["10.0.0.0/8"], false);
    assert!(!accounts(vec![strict.clone()]).auth_offered(false));
    assert!(!accounts(vec![strict.clone(), lax_without_password]).auth_offered(false));
    assert!(accounts(vec![strict.clone(), lax]).auth_offered(false));
    assert!(accounts(vec![strict]).auth_offered(true));
}

#[test]
fn conf_53_an_unknown_login_costs_what_a_hash_costs() {
    let accounts = accounts(vec![
        with_login("a", "a", HASHED, true),
        with_login("b", "b", "clear", true),
    ]);
    assert_eq!(accounts.decoy, Some(Secret(HASHED.to_owned())));
    assert_eq!(
        verdict(&accounts, "nobody", "password", true),
        "refused",
        "the decoy opens nothing"
    );
}

#[test]
fn t_25_an_unknown_login_and_a_password_in_clear_cost_what_a_hash_costs() {
    // 16 MiB: the one computation outweighs all else by far.
    let dear = format!(
        "{{argon2}}$argon2id$v=19$m=16384,t=1,p=1$c29tZXNhbHQ${}",
        "A".repeat(43)
    );
    let accounts = accounts(vec![
        with_login("a", "hashed", &dear, true),
        with_login("b", "clear", "clear", true),
    ]);
    let time = |login: &str| {
        let began = std::time::Instant::now();
        assert_eq!(verdict(&accounts, login, "wrong", true), "refused");
        began.elapsed()
    };
    let hashed = time("hashed");
    for login in ["nobody", "clear"] {
        let took = time(login);
        assert!(took * 4 > hashed, "{login}: {took:?}, hashed: {hashed:?}");
    }
}

#[test]
fn conf_92_the_longest_prefix_wins() {
    let accounts = accounts(vec![
        with_networks("wide", &["10.0.0.0/8", "2001:db8::/32"], false),
        with_networks("host", &["10.1.2.3/32"], false),
        with_networks("narrow", &["10.1.0.0/16", "2001:db8:1::/48"], false),
    ]);
    assert_eq!(known(&accounts, "10.2.0.1", false), "wide");
    assert_eq!(known(&accounts, "10.1.255.255", false), "narrow");
    assert_eq!(known(&accounts, "10.1.2.3", false), "host");
    assert_eq!(known(&accounts, "::ffff:10.1.2.3", false), "host");
    assert_eq!(known(&accounts, "2001:db8:1::9", false), "narrow");
    assert_eq!(known(&accounts, "2001:db8:2::9", false), "wide");
    assert_eq!(known(&accounts, "11.0.0.1", false), "nobody");
    assert_eq!(known(&accounts, "2001:db9::1", false), "nobody");
}

#[test]
fn conf_92_a_prefix_of_zero_holds_its_family() {
    let accounts = accounts(vec![with_networks("all", &["0.0.0.0/0"], false)]);
    assert_eq!(known(&accounts, "203.0.113.9", false), "all");
    assert_eq!(known(&accounts, "2001:db8::1", false), "nobody");
}

#[test]
fn conf_92_smtpssl_applies_unless_the_network_is_loopback() {
    let accounts = accounts(vec![
        with_networks("lan", &["10.0.0.0/8"], true),
        with_networks("local", &["127.0.0.0/8", "::1/128"], true),
        with_networks("any", &["0.0.0.0/0"], true),
    ]);
    assert_eq!(known(&accounts, "10.0.0.1", false), "lan needs tls");
    assert_eq!(known(&accounts, "10.0.0.1", true), "lan");
    assert_eq!(known(&accounts, "127.0.0.1", false), "local");
    assert_eq!(known(&accounts, "::1", false), "local");
    assert_eq!(known(&accounts, "192.0.2.1", false), "any needs tls");
}

fn text(refusal: Refusal) -> String {
    refusal.reply(false).to_log()
}

#[test]
fn relay_13_an_unauthenticated_client_may_not_relay() {
    let lists = FixedLists::default();
    let to = mailbox("anna@example.org");
    let refusal = judge_recipient(None, Named::Mailbox(&to), &lists).unwrap_err();
    assert_eq!(text(refusal), "550 5.7.1 relaying denied");
    let refusal = judge_recipient(None, Named::Impossible("a@b..c"), &lists).unwrap_err();
    assert_eq!(text(refusal), "550 5.7.1 relaying denied");
    assert!(judge_recipient(Some(&account("shop")), Named::Mailbox(&to), &lists).is_ok());
}

#[test]
fn relay_78_a_listed_recipient_is_9_2_1_naming_the_list() {
    let lists = FixedLists(vec![
        ("rfhard", "gone@example.org"),
        ("other", "anna@example.org"),
    ]);
    let shop = account("shop");
    let gone = mailbox("Gone@example.org");
    let refusal = judge_recipient(Some(&shop), Named::Mailbox(&gone), &lists).unwrap_err();
    assert_eq!(refusal.rule(), "users/shop.ini [list] filter: rfhard");
    assert_eq!(
        text(refusal),
        "451 9.2.1 X-SMTP-R-API recipient refused by list rfhard"
    );
    let anna = mailbox("anna@example.org");
    assert!(
        judge_recipient(Some(&shop), Named::Mailbox(&anna), &lists).is_ok(),
        "not a list of this account"
    );
}

#[test]
fn relay_78_an_impossible_recipient_is_9_2_2() {
    let shop = account("shop");
    for address in ["a@b..c", "a@", "@b"] {
        let refusal = judge_recipient(
            Some(&shop),
            Named::Impossible(address),
            &FixedLists::default(),
        )
        .unwrap_err();
        let expected = format!("451 9.2.2 X-SMTP-R-API recipient address {address} cannot exist");
        assert_eq!(text(refusal), expected);
    }
}

#[test]
fn relay_4_relay_5_threadnb_limits_the_client_sessions() {
    let mut settings = settings();
    settings.rfrelay.threadnb = 2;
    assert_eq!(admit(1, 1, &settings.rfrelay), Ok(()));
    assert_eq!(admit(2, 1, &settings.rfrelay), Err(Crowded::Server));
    assert!(Crowded::Server.reply().to_log().starts_with("421 4.3.2 "));
}

#[test]
fn relay_5_t_19_maxperip_limits_the_unauthenticated_sessions_of_one_address() {
    let mut settings = settings();
    assert_eq!(admit(0, 1000, &settings.rfrelay), Ok(()), "0 = off");
    settings.rfrelay.maxperip = 3;
    assert_eq!(admit(10, 2, &settings.rfrelay), Ok(()));
    assert_eq!(admit(10, 3, &settings.rfrelay), Err(Crowded::Address));
    assert!(Crowded::Address.reply().to_log().starts_with("421 4.7.0 "));
    settings.rfrelay.threadnb = 10;
    assert_eq!(
        admit(10, 3, &settings.rfrelay),
        Err(Crowded::Address),
        "a flood makes nobody give way"
    );
}

#[test]
fn relay_5_an_idle_unauthenticated_session_gives_way() {
    assert!(gives_way(false, Duration::from_millis(10_001)));
    assert!(!gives_way(false, Duration::from_secs(10)));
    assert!(!gives_way(true, Duration::from_secs(3600)));
}
