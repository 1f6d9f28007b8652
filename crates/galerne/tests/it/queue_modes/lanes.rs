//! Lanes that are suspended, and places that are kept from name servers that are silent (QUEUE-14,
//! QUEUE-18).

use std::time::Duration;

use galerne_core::queue::State;
use galerne_core::queue::board::Rule as Suspension;
use tokio::time::{Instant, sleep};

use super::{MINUTE, QUEUE, id, queued};
use crate::world::{MESSAGE, Talk};

#[tokio::test(start_paused = true)]
async fn queue_14_name_servers_that_are_silent_keep_nobodys_place() {
    // Three places.
    let world = queued("[rfmta]\nthreadnb = 4\n[relay]\nmode = queue\n");
    let mx = world.mx("example.org", "198.51.100.25");
    for number in 0..3 {
        let domain = format!("mute{number}.example");
        world.zone(&format!("{domain}. SILENT"));
        id(&world.relay(&format!("anna@{domain}")).await);
    }
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    id(&world.relay("bert@example.org").await);
    while mx.messages().is_empty() {
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(12), "{waited:?}");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(5), "all were taken");
    // The mute are tried again later, as others that cannot be reached.
    let listed = world.queued().list().await;
    let mute: Vec<_> = listed.iter().map(|one| &one.stored.progress).collect();
    assert_eq!(mute.len(), 3);
    for progress in mute {
        assert_eq!((progress.attempts, progress.state), (1, State::Deferred));
        assert!(progress.last_reply.contains("for 10 s"), "{progress:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn queue_18_mail_whose_mx_tell_that_its_group_is_suspended_waits_for_it() {
    let world = queued(&format!(
        "{QUEUE}== domains/@big.ini\n[dns]\nmx = *.example.org\n"
    ));
    let big = world.mx("example.org", "198.51.100.25");
    let other = world.mx("example.net", "198.51.100.26");
    let queue = world.queued().queue.clone();
    let rule = Suspension {
        lane: Some("group big".to_owned()),
        reason: "blocked there".to_owned(),
        ..Suspension::default()
    };
    let number = queue.suspend(rule).await.unwrap();
    id(&world.relay("anna@example.org").await);
    id(&world.relay("bert@example.net").await);
    sleep(90 * MINUTE).await;
    assert_eq!(world.hops().len(), 1, "{:?}", world.hops());
    assert_eq!(other.messages().len(), 1);
    let listed = world.queued().list().await;
    let progress = &listed[0].stored.progress;
    assert_eq!(listed.len(), 1);
    assert_eq!((progress.attempts, progress.state), (0, State::Waiting));
    assert_eq!(progress.group, "big", "an operator finds it");
    let (lanes, _) = queue.lanes().await.unwrap();
    let lane = lanes
        .iter()
        .find(|lane| &*lane.name == "group big")
        .unwrap();
    assert_eq!(lane.suspended, 1, "{lane:?}");
    queue.resume(number).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(big.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn queue_18_of_a_group_one_outbound_is_suspended_and_its_mail_leaves_from_the_other() {
    let world = queued(&format!(
        "{QUEUE}== domains/@big.ini\n[dns]\nmx = *.example.org\n"
    ));
    let big = world.mx("example.org", "198.51.100.25");
    let rule = Suspension {
        lane: Some("group big".to_owned()),
        outbound: Some("192.0.2.10".parse().unwrap()),
        reason: "listed there".to_owned(),
        ..Suspension::default()
    };
    world.queued().queue.suspend(rule).await.unwrap();
    for _ in 0..6 {
        id(&world.relay("anna@example.org").await);
    }
    world.queued().empty().await;
    assert_eq!(big.messages().len(), 6);
    for hop in world.hops() {
        assert!(hop.starts_with("192.0.2.11"), "{hop}");
    }
}

#[tokio::test(start_paused = true)]
async fn t_53_with_everything_suspended_the_queue_grows_to_its_limit_and_then_refuses() {
    let account = |name: &str| {
        format!(
            "== users/{name}.ini\n[account]\nsmtpssl = 0\nsmtplogin = {name}\nsmtppassw = secret\n"
        )
    };
    let config = "[relay]\nmode = queue\n[galerne]\nqmsize = 40\n";
    let world = queued(&[config, &account("shop"), &account("blog")].concat());
    let org = world.mx("example.org", "198.51.100.25");
    let net = world.mx("example.net", "198.51.100.26");
    let queue = world.queued().queue.clone();
    let number = queue.suspend(Suspension::default()).await.unwrap();
    for (login, to) in [("demo", "anna@example.org"), ("shop", "bert@example.net")] {
        let mut client = world.login_as(login, "secret").await;
        for _ in 0..20 {
            let to = [to];
            let sent = client.transaction("orders@example.com", &to, MESSAGE.as_bytes());
            id(&sent.await.unwrap().text());
        }
    }
    // Also for who has nothing in it.
    for login in ["demo", "shop", "blog"] {
        let mut client = world.login_as(login, "secret").await;
        let refused = client.say("MAIL FROM:<orders@example.com>").await;
        assert!(refused.starts_with("452 4.3.1"), "{login}: {refused}");
    }
    // A scheduler that does not rest would keep the paused clock from going on.
    sleep(40 * 60 * MINUTE).await;
    assert_eq!(queue.total(), 40);
    assert_eq!(world.hops(), [""; 0]);
    queue.resume(number).await.unwrap();
    world.queued().empty().await;
    assert_eq!((org.messages().len(), net.messages().len()), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn t_55_what_waits_for_name_servers_until_it_is_too_old_is_told_in_time() {
    let world = queued("[relay]\nmode = queue\n[queue]\nmaxage = 2h\n");
    world.zone("example.org. SILENT");
    let home = world.mx("example.com", "198.51.100.27");
    let began = Instant::now();
    id(&world.relay("anna@example.org").await);
    while home.messages().is_empty() {
        sleep(MINUTE).await;
        assert!(began.elapsed() < 125 * MINUTE, "{:?}", began.elapsed());
    }
    assert!(began.elapsed() >= 119 * MINUTE, "{:?}", began.elapsed());
    let ended = world.queued().ended();
    assert_eq!(ended[0], ("anna@example.org".into(), "expired".into()));
    let text = String::from_utf8_lossy(&home.messages()[0].content).into_owned();
    assert!(text.contains("Status: 4.4.7"), "{text}");
}
