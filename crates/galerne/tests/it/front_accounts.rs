//! Limits of accounts and logins that fail, through whole sessions (CONF-93, CONF-94, T-25).

use std::time::Duration;

use tokio::time::{Instant, advance};

use crate::world::{CLIENT, Client, MESSAGE, Talk as _, World, base64, directed};

const RCPT: &str = "RCPT TO:<anna@example.org>";
const MAIL: &str = "MAIL FROM:<orders@example.com>";
const OK: &str = "250 2.1.5 OK";

/// The account `demo` with something added.
fn world(account: &str) -> World {
    let world = World::new(&format!("== users/demo.ini\n{account}\n"));
    world.mx("example.org", "198.51.100.25");
    world
}

/// The codes of `count` recipients in one transaction.
async fn recipients(client: &mut Client, count: usize) -> Vec<String> {
    assert_eq!(client.say(MAIL).await, "250 2.1.0 OK");
    let mut said = Vec::new();
    for _ in 0..count {
        said.push(client.say(RCPT).await);
    }
    said
}

async fn send(client: &mut Client, content: &str) -> String {
    assert_eq!(client.command("DATA").await.unwrap().code, 354);
    client.send_raw(content.as_bytes()).await.unwrap();
    client.say(".").await
}

// -- limits ----------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn conf_93_recipients_beyond_the_limit_are_451_4_7_1_and_logged() {
    let world = world("maxhour = 3\nmaxday = 100");
    let mut client = world.login().await;
    let said = recipients(&mut client, 5).await;
    assert_eq!(said[..3], [OK, OK, OK]);
    for refused in &said[3..] {
        assert!(
            refused.starts_with("451 4.7.1 ") && refused.contains("maxhour"),
            "{refused}"
        );
    }
    // Those that were accepted are sent to.
    let reply = send(&mut client, MESSAGE).await;
    assert!(reply.starts_with("250"), "{reply}");
    let logged = world.refused();
    assert_eq!(logged.len(), 2);
    assert_eq!(logged[0].rule, "users/demo.ini [account] maxhour");
    assert_eq!(logged[0].user.as_deref(), Some("demo"));

    // All sessions share the limit, and a reload forgets nothing.
    world.reload("");
    let mut other = world.login().await;
    assert!(recipients(&mut other, 1).await[0].starts_with("451 4.7.1 "));
    // An hour slides away.
    advance(Duration::from_secs(61 * 60)).await;
    let mut later = world.login().await;
    assert_eq!(recipients(&mut later, 1).await, [OK]);
    // A higher limit holds at once for sessions that begin then.
    world.reload("== users/demo.ini\nmaxhour = 4\n");
    let mut wider = world.login().await;
    assert_eq!(recipients(&mut wider, 3).await, [OK, OK, OK]);
}

#[tokio::test(start_paused = true)]
async fn conf_93_what_is_not_sent_does_not_count() {
    let world = world("maxday = 2");
    let mut client = world.login().await;
    for end in ["RSET", "EHLO app.example.com"] {
        assert_eq!(recipients(&mut client, 2).await, [OK, OK], "{end}");
        assert_eq!(client.command(end).await.unwrap().code, 250);
    }
    // Refused at the end of data: nobody was sent to.
    assert_eq!(recipients(&mut client, 2).await, [OK, OK]);
    let reply = send(&mut client, &directed("{\"nonsense\":1}")).await;
    assert!(reply.starts_with("451 9.1.2 "), "{reply}");
    // A session that ends in the middle.
    assert_eq!(recipients(&mut client, 2).await, [OK, OK]);
    client.command("QUIT").await.unwrap();
    let mut client = world.login().await;
    let said = recipients(&mut client, 3).await;
    assert_eq!(said[..2], [OK, OK]);
    assert!(said[2].contains("maxday"), "{said:?}");
    assert!(send(&mut client, MESSAGE).await.starts_with("250"));
    assert_eq!(world.gate.quotas.used("demo").day, 2);
    assert!(recipients(&mut client, 1).await[0].starts_with("451 4.7.1 "));
}

#[tokio::test(start_paused = true)]
async fn conf_93_each_account_has_its_own_limit() {
    let world = world(
        "maxhour = 1\n== users/other.ini\n[account]\nsmtpip = 203.0.113.200\nsmtpssl = 0\nmaxhour = 1",
    );
    let mut demo = world.login().await;
    assert_eq!(recipients(&mut demo, 1).await, [OK]);
    let mut other = world.client("203.0.113.200").await;
    other.hello().await;
    assert_eq!(recipients(&mut other, 1).await, [OK]);
}

// -- logins ----------------------------------------------------------------------------------------

/// The reply to a login in a session of its own, and how long it took.
async fn login(world: &World, from: &str, login: &str, password: &str) -> (String, u64) {
    let mut client = world.client(from).await;
    client.hello().await;
    let plain = base64(format!("\0{login}\0{password}").as_bytes());
    let began = Instant::now();
    let reply = client.say(&format!("AUTH PLAIN {plain}")).await;
    let (code, _) = reply.split_at(3);
    (code.to_owned(), began.elapsed().as_secs())
}

async fn codes(world: &World, from: &str, password: &str, count: usize) -> Vec<String> {
    let mut codes = Vec::new();
    for _ in 0..count {
        codes.push(login(world, from, "demo", password).await.0);
    }
    codes
}

#[tokio::test(start_paused = true)]
async fn t_25_conf_94_failures_of_one_address_are_delayed_then_locked_for_a_while() {
    let world = world("");
    let mut delays = Vec::new();
    for n in 0..10 {
        // Known or unknown: the same reply after the same time.
        let name = if n % 2 == 0 { "demo" } else { "nobody" };
        let (code, delay) = login(&world, CLIENT, name, "wrong").await;
        assert_eq!(code, "535");
        delays.push(delay);
    }
    assert_eq!(delays, [1, 2, 4, 8, 10, 10, 10, 10, 10, 10]);
    // Locked: the right password is not looked at either.
    assert_eq!(
        login(&world, CLIENT, "demo", "secret").await,
        ("454".to_owned(), 10)
    );
    assert_eq!(world.gate.logins.counts().locked, 1);
    assert_eq!(world.gate.logins.counts().failed, 10);
    // Nobody else is.
    assert_eq!(
        login(&world, "203.0.113.99", "demo", "secret").await.0,
        "235"
    );
    advance(Duration::from_secs(10 * 60)).await;
    assert_eq!(login(&world, CLIENT, "demo", "secret").await.0, "235");
}

#[tokio::test(start_paused = true)]
async fn t_25_conf_94_many_addresses_at_one_login_lock_out_nobody_who_knows_the_password() {
    let world = world("");
    for n in 0..20 {
        let from = format!("198.51.100.{n}");
        assert_eq!(codes(&world, &from, "wrong", 1).await, ["535"]);
    }
    // Under attack an address has one try; the honest client of a clean one is let in at once.
    assert_eq!(
        codes(&world, "198.51.100.0", "wrong", 2).await,
        ["454", "454"]
    );
    assert_eq!(
        login(&world, "203.0.113.99", "demo", "secret").await,
        ("235".to_owned(), 0)
    );
    assert_eq!(
        codes(&world, "203.0.113.98", "wrong", 2).await,
        ["535", "454"]
    );
    // Other logins are not concerned.
    assert_eq!(login(&world, "203.0.113.98", "nobody", "x").await.0, "535");
}

#[tokio::test(start_paused = true)]
async fn t_25_a_crowd_of_sessions_gets_no_more_tries_than_one() {
    let world = std::sync::Arc::new(world(""));
    let mut running = Vec::new();
    for _ in 0..30 {
        let world = world.clone();
        running.push(tokio::spawn(async move {
            login(&world, CLIENT, "demo", "wrong").await.0
        }));
    }
    let mut looked_at = 0;
    for task in running {
        looked_at += usize::from(task.await.unwrap() == "535");
    }
    // Two are computed at a time.
    assert!((10..=11).contains(&looked_at), "{looked_at}");
}

#[tokio::test(start_paused = true)]
async fn t_25_relay_5_a_delayed_answer_keeps_no_place() {
    let world = World::new("[rfrelay]\nthreadnb = 1\n");
    let mut slow = world.client(CLIENT).await;
    slow.hello().await;
    for _ in 0..4 {
        let plain = base64(b"\0demo\0wrong");
        assert!(
            slow.say(&format!("AUTH PLAIN {plain}"))
                .await
                .starts_with("535 ")
        );
    }
    let began = Instant::now();
    slow.send(&format!("AUTH PLAIN {}", base64(b"\0demo\0wrong")))
        .await
        .unwrap();
    world.gate.stop();
    assert!(slow.hear().await.starts_with("421 4.3.2 "));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn conf_94_a_proved_password_is_not_computed_again_until_it_is_another() {
    let config = |hash: &str| {
        format!("== users/slow.ini\n[account]\nsmtpssl = 0\nsmtplogin = slow\nsmtppassw = {hash}\n")
    };
    let hash = |password: &str| {
        galerne_core::access::hash_password(password.as_bytes(), b"some salt of ours")
            .unwrap()
            .0
    };
    let world = World::new(&config(&hash("first password")));
    let remembered = || world.gate.logins.counts().remembered;
    assert_eq!(
        login(&world, CLIENT, "slow", "first password").await.0,
        "235"
    );
    assert_eq!(remembered(), 0);
    assert_eq!(
        login(&world, "203.0.113.9", "SLOW", "first password")
            .await
            .0,
        "235"
    );
    assert_eq!(remembered(), 1);
    assert_eq!(
        login(&world, CLIENT, "slow", "second password").await.0,
        "535"
    );
    // A new password counts at once, and the old one no more.
    world.reload(&config(&hash("second password")));
    assert_eq!(
        login(&world, CLIENT, "slow", "first password").await.0,
        "535"
    );
    assert_eq!(
        login(&world, CLIENT, "slow", "second password").await.0,
        "235"
    );
    assert_eq!(remembered(), 1);
}
