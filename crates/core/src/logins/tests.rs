use super::*;
use crate::testing::ip;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn attempt<'a>(peer: &str, login: &'a str, password: &'a str, secret: &'a str) -> Try<'a> {
    Try {
        peer: ip(peer),
        login,
        password: password.as_bytes(),
        secret,
    }
}

fn logins() -> (Logins, Instant) {
    (Logins::new([7; 32]), Instant::now())
}

/// The delay of each of `count` failures, in seconds.
fn fail(logins: &mut Logins, peer: &str, login: &str, count: u32, now: Instant) -> Vec<u64> {
    (0..count)
        .map(|_| logins.failed(ip(peer), login, now).as_secs())
        .collect()
}

#[test]
fn conf_94_a_proved_password_is_remembered_ten_minutes_and_no_longer() {
    let (mut logins, now) = logins();
    let right = attempt("192.0.2.1", "Shop", "secret", "{argon2}hash");
    assert!(!logins.remembers(&right, now));
    logins.proved(&right, now);
    assert!(logins.remembers(&right, now + minutes(9)));
    assert!(!logins.remembers(&right, now + minutes(10)));
    assert_eq!(logins.counts().remembered, 1);
}

#[test]
fn conf_94_only_that_password_of_that_login_with_that_secret_is_remembered() {
    let (mut logins, now) = logins();
    logins.proved(&attempt("192.0.2.1", "shop", "secret", "{argon2}hash"), now);
    let asked = [
        ("shop", "secret", "{argon2}hash", true),
        ("SHOP", "secret", "{argon2}hash", true),
        ("shop", "Secret", "{argon2}hash", false),
        ("other", "secret", "{argon2}hash", false),
        // The file has another password now.
        ("shop", "secret", "{argon2}other", false),
        // Where one part ends cannot be moved.
        ("shop", "hashsecret", "{argon2}", false),
        ("shop", "secret", "", false),
    ];
    for (login, password, secret, remembered) in asked {
        let asked = attempt("192.0.2.9", login, password, secret);
        assert_eq!(logins.remembers(&asked, now), remembered, "{asked:?}");
    }
    let text = format!("{logins:?}");
    assert!(!text.contains("secret") && !text.contains("shop"), "{text}");
}

#[test]
fn conf_94_t_25_answers_to_failures_wait_longer_each_time() {
    let (mut logins, now) = logins();
    let delays = fail(&mut logins, "192.0.2.1", "shop", 7, now);
    assert_eq!(delays, [1, 2, 4, 8, 10, 10, 10]);
    // Another login from there, and that login from elsewhere, wait as well.
    assert_eq!(fail(&mut logins, "192.0.2.1", "other", 1, now), [10]);
    assert_eq!(fail(&mut logins, "192.0.2.2", "shop", 1, now), [10]);
    assert_eq!(fail(&mut logins, "192.0.2.3", "third", 1, now), [1]);
    let later = now + minutes(30);
    assert_eq!(fail(&mut logins, "192.0.2.1", "shop", 1, later), [1]);
    assert_eq!(logins.counts().failed, 11);
}

#[test]
fn t_25_an_address_is_locked_for_ten_minutes_whatever_login_it_tries() {
    let (mut logins, now) = logins();
    for n in 0..9 {
        fail(&mut logins, "192.0.2.1", &format!("user{n}"), 1, now);
    }
    assert!(!logins.is_locked(ip("192.0.2.1"), "shop", now));
    fail(&mut logins, "192.0.2.1", "user9", 1, now);
    assert!(logins.is_locked(ip("192.0.2.1"), "shop", now + minutes(9)));
    assert!(!logins.is_locked(ip("192.0.2.1"), "shop", now + minutes(10)));
    assert!(!logins.is_locked(ip("192.0.2.2"), "shop", now));
    assert_eq!(
        (logins.stopped().as_secs(), logins.counts().locked),
        (10, 1)
    );
}

#[test]
fn t_25_a_login_under_attack_leaves_each_address_one_try_and_nobody_else_out() {
    let (mut logins, now) = logins();
    for n in 0..19 {
        fail(&mut logins, &format!("198.51.100.{n}"), "shop", 1, now);
    }
    assert!(!logins.is_locked(ip("198.51.100.0"), "shop", now));
    fail(&mut logins, "198.51.100.19", "shop", 1, now);
    // Whoever failed waits; the honest client of a clean address is heard all the same.
    assert!(logins.is_locked(ip("198.51.100.0"), "SHOP", now));
    assert!(!logins.is_locked(ip("203.0.113.7"), "shop", now));
    assert!(!logins.is_locked(ip("198.51.100.0"), "other", now));
    assert!(!logins.is_locked(ip("198.51.100.0"), "shop", now + minutes(10)));
}

#[test]
fn t_25_a_proof_of_ones_own_buys_no_further_tries() {
    let (mut logins, now) = logins();
    for _ in 0..10 {
        fail(&mut logins, "192.0.2.1", "victim", 1, now);
        logins.proved(&attempt("192.0.2.1", "mine", "pw", "pw"), now);
    }
    assert!(logins.is_locked(ip("192.0.2.1"), "victim", now));
}

#[test]
fn t_25_an_address_of_version_6_stands_for_its_network() {
    let (mut logins, now) = logins();
    for n in 0..10 {
        fail(&mut logins, &format!("2001:db8:0:1::{n}"), "shop", 1, now);
    }
    assert!(logins.is_locked(ip("2001:db8:0:1:ffff::1"), "shop", now));
    assert!(!logins.is_locked(ip("2001:db8:0:2::1"), "shop", now));
    fail(&mut logins, "::ffff:192.0.2.1", "x", 10, now);
    assert!(logins.is_locked(ip("192.0.2.1"), "shop", now));
}

#[test]
fn conf_94_t_25_memory_is_bounded_and_the_worst_are_kept() {
    let (mut logins, now) = logins();
    fail(&mut logins, "192.0.2.1", "victim", 10, now);
    for n in 0..30_000_u32 {
        let peer = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let now = now + Duration::from_millis(n.into());
        logins.failed(peer, &format!("user{n}"), now);
        let (login, password) = (format!("user{n}"), "pw");
        let proof = Try {
            peer,
            login: &login,
            password: password.as_bytes(),
            secret: "pw",
        };
        logins.proved(&proof, now);
    }
    for length in [logins.addresses.0.len(), logins.logins.0.len()] {
        assert!((MOST / 2..=MOST).contains(&length), "{length}");
    }
    assert_eq!(logins.proved.len(), MOST);
    assert!(logins.is_locked(ip("192.0.2.1"), "victim", now));
}
