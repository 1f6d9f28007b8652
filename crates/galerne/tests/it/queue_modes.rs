//! Store and forward, and both ways at once (QUEUE-1 to QUEUE-4, QUEUE-8 to QUEUE-15), with the
//! notifications that come of it (RET-35 to RET-39).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use galerne_core::queue::{Filter, QueueStore as _, State, What};
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Stage};
use galerne_store::MemoryQueue;
use tokio::time::{Instant, sleep};

use crate::world::{MESSAGE, Talk, World, directed};

mod lanes;
mod loading;
mod moving;
mod several;

const MINUTE: Duration = Duration::from_secs(60);

fn queued(config: &str) -> World {
    World::with_queue(config, Arc::new(MemoryQueue::default()))
}

const QUEUE: &str = "[relay]\nmode = queue\n";
const AUTO: &str = "[relay]\nmode = auto\n";

/// The id in `250 2.0.0 queued as …`.
fn id(reply: &str) -> &str {
    let id = reply.strip_prefix("250 2.0.0 queued as ");
    id.unwrap_or_else(|| panic!("{reply}"))
}

/// When attempts ended, in seconds since the first message came.
fn moments(world: &World) -> Vec<u64> {
    let told = world.queued().told();
    let began = told.first().map_or(0, |first| first.at);
    let attempts = told
        .iter()
        .filter(|told| matches!(told.what, What::Attempt { .. }));
    attempts.map(|told| (told.at - began) / 1000).collect()
}

#[tokio::test(start_paused = true)]
async fn queue_2_the_message_is_taken_over_and_delivered_with_one_received_field() {
    let world = queued(QUEUE);
    let mx = world.mx("example.org", "198.51.100.25");
    let reply = world.relay("anna@example.org").await;
    let id = id(&reply).to_owned();
    world.queued().empty().await;
    let messages = mx.messages();
    assert_eq!(messages.len(), 1);
    let content = String::from_utf8_lossy(&messages[0].content).into_owned();
    assert_eq!(content.matches("Received: ").count(), 1, "{content}");
    assert!(content.contains(&id), "{content}");
    assert!(content.ends_with(MESSAGE));
    assert_eq!(
        world.queued().ended(),
        [("anna@example.org".into(), "delivered".into())]
    );
}

#[tokio::test(start_paused = true)]
async fn queue_2_received_is_left_out_where_it_is_switched_off() {
    let world = queued("[rfrelay]\nreceived = 0\n[relay]\nmode = queue\n");
    let mx = world.mx("example.org", "198.51.100.25");
    world.relay("anna@example.org").await;
    world.queued().empty().await;
    assert_eq!(mx.messages()[0].content, MESSAGE.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn queue_1_the_user_file_goes_before_the_directive_and_that_before_the_main_file() {
    let world = queued(
        "[relay]\nmode = queue\n== users/fixed.ini\n[account]\nsmtpssl = 0\nsmtplogin = fixed\nsmtppassw = secret\n[relay]\nmode = sync\n",
    );
    let _mx = world.mx("example.org", "198.51.100.25");
    let to = ["anna@example.org"];
    let plain = world.send(&to, MESSAGE).await;
    assert!(plain.starts_with("250 2.0.0 queued as"), "{plain}");
    let directive = directed(r#"{"message":{"mode":"sync"}}"#);
    let sync = world.send(&to, &directive).await;
    assert!(!sync.starts_with("250 2.0.0 queued as"), "{sync}");
    let mut client = world.login_as("fixed", "secret").await;
    let wish = directed(r#"{"message":{"mode":"queue"}}"#);
    let reply = client
        .transaction("orders@example.com", &to, wish.as_bytes())
        .await
        .unwrap();
    assert!(!reply.text().starts_with("250 2.0.0 queued as"), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn queue_3_ret_36_auto_gives_the_truth_when_there_is_one() {
    let world = queued(AUTO);
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(
        Rule::at(Stage::Dot)
            .times(1)
            .reply("250 2.6.0 Accepted here"),
    );
    assert_eq!(
        world.relay("anna@example.org").await,
        "250 2.6.0 Accepted here"
    );
    mx.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    assert_eq!(
        world.relay("anna@example.org").await,
        "550 5.1.1 No such user"
    );
    assert_eq!(world.queued().queue.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn queue_3_auto_takes_over_what_fails_for_now_and_the_attempt_counts() {
    let world = queued(AUTO);
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Rcpt).times(1).reply("451 4.2.0 Later"));
    let began = Instant::now();
    let reply = world.relay("anna@example.org").await;
    id(&reply);
    let filter = Filter::default();
    let listed = world.queued().store.list(&filter, 10).unwrap();
    assert_eq!(
        listed[0].stored.progress.attempts, 1,
        "the attempt in the session counts"
    );
    world.queued().empty().await;
    let waited = began.elapsed();
    assert!(
        waited >= MINUTE * 9 / 2 && waited <= MINUTE * 6,
        "{waited:?}"
    );
    assert_eq!(mx.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn queue_3_auto_takes_over_when_nobody_can_be_reached() {
    let world = queued(AUTO);
    let mx = world.mx("example.org", "198.51.100.25");
    world.decide("198.51.100.25:25", Fate::Refuse);
    let reply = world.relay("anna@example.org").await;
    id(&reply);
    world.decide("198.51.100.25:25", Fate::Normal);
    world.queued().empty().await;
    assert_eq!(mx.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn queue_4_an_unknown_outcome_is_tried_again_after_a_quarter_of_an_hour_and_flagged() {
    let world = queued(AUTO);
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Dot).times(1).close());
    let began = Instant::now();
    id(&world.relay("anna@example.org").await);
    let listed = world.queued().store.list(&Filter::default(), 10).unwrap();
    assert_eq!(listed[0].stored.progress.state, State::Unknown);
    world.queued().empty().await;
    assert!(began.elapsed() >= 15 * MINUTE, "{:?}", began.elapsed());
    let told = world.queued().told();
    let flagged = told.iter().any(|told| {
        matches!(&told.what, What::Ended { outcome, duplicate_possible: true, .. } if outcome == "delivered")
    });
    assert!(flagged, "{told:?}");
    assert_eq!(mx.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn queue_12_pauses_are_those_configured_and_the_last_repeats() {
    let world = queued(QUEUE);
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Rcpt).times(7).reply("451 4.2.0 Later"));
    world.relay("anna@example.org").await;
    world.queued().empty().await;
    let moments = moments(&world);
    let pauses: Vec<u64> = moments.windows(2).map(|two| two[1] - two[0]).collect();
    for (pause, minutes) in pauses.iter().zip([5, 10, 20, 40, 60, 60, 60]) {
        let asked = minutes * 60;
        assert!(pause.abs_diff(asked) <= asked / 10 + 2, "{pauses:?}");
    }
    let told = world.queued().told();
    assert_eq!(pauses.len(), 7, "{pauses:?} {told:#?}");
}

#[tokio::test(start_paused = true)]
async fn flow_67_flow_68_flow_69_soft_is_tried_again_hard_and_spam_are_not() {
    let patterns =
        "full = SOFT(full) 552 *\ngone = HARD(gone) 4* gone\nspam = SPAM(content) 4* spam\n";
    let world = queued(&format!("{QUEUE}== domains/@.ini\n[pattern]\n{patterns}"));
    let mx = world.mx("example.org", "198.51.100.25");
    let home = world.mx("example.com", "198.51.100.27");
    for (to, reply) in [
        ("anna@example.org", "552 5.2.2 full"),
        ("bert@example.org", "450 4.1.1 gone"),
        ("carl@example.org", "450 4.7.1 spam"),
    ] {
        mx.rule(Rule::at(Stage::Rcpt).recipient(to).times(1).reply(reply));
        id(&world.relay(to).await);
    }
    sleep(MINUTE).await;
    let mut ended = world.queued().ended();
    ended.retain(|(to, _)| to.ends_with("@example.org"));
    let failed = |to: &str| (to.to_owned(), "failed".to_owned());
    ended.sort_unstable();
    let over = [failed("bert@example.org"), failed("carl@example.org")];
    assert_eq!(ended, over, "whatever the code says");
    assert_eq!(home.messages().len(), 2, "their sender is told");
    let entered = world.lists.list("rfhard");
    assert_eq!(entered, ["bert@example.org"], "HARD is the recipient alone");
    world.queued().empty().await;
    assert_eq!(mx.messages().len(), 1);
    assert_eq!(mx.messages()[0].recipients, ["anna@example.org"]);
}

#[tokio::test(start_paused = true)]
async fn queue_12_flow_70_grey_listing_has_its_own_pause_and_uses_up_no_retry() {
    let world = queued(
        "[relay]\nmode = queue\n== domains/@.ini\n[pattern]\ngrey = GREY(greylist, 90) 450 4.7.1 *again\n",
    );
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Rcpt).times(2).reply("450 4.7.1 try again"));
    world.relay("anna@example.org").await;
    world.queued().empty().await;
    let moments = moments(&world);
    assert_eq!(moments.len(), 3);
    let told = world.queued().told();
    assert!((88..=110).contains(&moments[1]), "{moments:?} {told:#?}");
    assert!((176..=220).contains(&moments[2]), "{moments:?}");
}

#[tokio::test(start_paused = true)]
async fn t_52_a_grey_listed_message_comes_back_from_the_same_address() {
    let world = queued(
        "[relay]\nmode = queue\n== domains/@.ini\n[pattern]\ngrey = GREY(greylist, 90) 450 4.7.1 *again\n",
    );
    let mx = world.mx("example.org", "198.51.100.25");
    for turn in 0..4 {
        mx.rule(Rule::at(Stage::Rcpt).times(3).reply("450 4.7.1 try again"));
        // Between two of its attempts the others leave by turns.
        let _other = world.mx("example.net", "198.51.100.26");
        world.relay("anna@example.org").await;
        for _ in 0..=turn {
            sleep(Duration::from_secs(20)).await;
            world.relay("bert@example.net").await;
        }
        world.queued().empty().await;
        mx.clear_rules();
    }
    let mut addresses: Vec<(String, String)> = Vec::new();
    for told in world.queued().told() {
        if let What::Attempt {
            recipient,
            outbound,
            ..
        } = told.what
            && recipient == "anna@example.org"
        {
            addresses.push((told.id, outbound));
        }
    }
    assert_eq!(addresses.len(), 16, "{addresses:?}");
    for of_message in addresses.chunk_by(|one, other| one.0 == other.0) {
        assert_eq!(of_message.len(), 4);
        let same = of_message.iter().all(|(_, from)| *from == of_message[0].1);
        assert!(same, "{of_message:?}");
    }
    let first: std::collections::BTreeSet<_> = addresses.iter().map(|(_, from)| from).collect();
    assert_eq!(first.len(), 2, "each address has its turn: {addresses:?}");
}

#[tokio::test(start_paused = true)]
async fn queue_11_ret_39_after_two_days_the_sender_is_told_4_4_7() {
    let world = queued(QUEUE);
    let mx = world.mx("example.org", "198.51.100.25");
    let home = world.mx("example.com", "198.51.100.27");
    mx.rule(Rule::at(Stage::Rcpt).reply("451 4.2.0 Later"));
    let began = Instant::now();
    world.relay("anna@example.org").await;
    world.queued().empty().await;
    let hours = began.elapsed().as_secs() / 3600;
    assert!((47..=49).contains(&hours), "{hours}");
    let told = home.messages();
    assert_eq!(told.len(), 1);
    let text = String::from_utf8_lossy(&told[0].content).into_owned();
    assert!(text.contains("Status: 4.4.7"), "{text}");
    assert!(text.contains("Action: failed"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn ret_35_ret_38_a_failure_in_the_queue_is_told_to_the_sender() {
    let world = queued(
        "[relay]\nmode = queue\n== domains/@.ini\n[pattern]\nunknown = HARD(no user) 550 5.1.1 *\n",
    );
    let mx = world.mx("example.org", "198.51.100.25");
    let home = world.mx("example.com", "198.51.100.27");
    mx.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    id(&world.relay("anna@example.org").await);
    world.queued().empty().await;
    let told = home.messages();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].sender, "");
    assert_eq!(told[0].recipients, ["orders@example.com"]);
    let text = String::from_utf8_lossy(&told[0].content).into_owned();
    for expected in [
        "From: ",
        "postmaster@example.com",
        "Auto-Submitted: auto-replied",
        "report-type=delivery-status",
        "Final-Recipient: rfc822;anna@example.org",
        "Action: failed",
        "Status: 5.1.1",
        "550 5.1.1 No such user",
        "text/rfc822-headers",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(
        !text.contains("Hello"),
        "without RET only the header comes back"
    );
}

#[tokio::test(start_paused = true)]
async fn ret_37_queue_25_a_notification_that_fails_makes_no_other() {
    let world = queued(
        "[relay]\nmode = queue\n== domains/@.ini\n[pattern]\nunknown = HARD(no user) 550 5.1.1 *\n",
    );
    let mx = world.mx("example.org", "198.51.100.25");
    let home = world.mx("example.com", "198.51.100.27");
    for sink in [&mx, &home] {
        sink.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    }
    world.relay("anna@example.org").await;
    world.queued().empty().await;
    let ended = world.queued().ended();
    assert_eq!(
        ended,
        [
            ("anna@example.org".to_owned(), "failed".to_owned()),
            ("orders@example.com".to_owned(), "failed".to_owned())
        ]
    );
    // Nor does a null sender hear anything.
    let mut client = world.login().await;
    let reply = client
        .transaction("", &["bert@example.org"], MESSAGE.as_bytes())
        .await
        .unwrap();
    id(&reply.text());
    world.queued().empty().await;
    assert_eq!(world.queued().ended().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn ret_39_a_delay_is_told_once_after_four_hours_if_it_was_asked_for() {
    let world = queued(QUEUE);
    let mx = world.mx("example.org", "198.51.100.25");
    let home = world.mx("example.com", "198.51.100.27");
    mx.rule(Rule::at(Stage::Rcpt).reply("451 4.2.0 Later"));
    let mut client = world.login().await;
    for (notify, to) in [
        ("DELAY", "anna@example.org"),
        ("FAILURE", "bert@example.org"),
    ] {
        client.say("MAIL FROM:<orders@example.com>").await;
        client.say(&format!("RCPT TO:<{to}> NOTIFY={notify}")).await;
        client.say("DATA").await;
        client.send_raw(MESSAGE.as_bytes()).await.unwrap();
        client.say(".").await;
    }
    sleep(3 * 60 * MINUTE).await;
    assert!(home.attempts().is_empty());
    sleep(9 * 60 * MINUTE).await;
    let told = home.messages();
    assert_eq!(told.len(), 1);
    let text = String::from_utf8_lossy(&told[0].content).into_owned();
    assert!(text.contains("Action: delayed"), "{text}");
    assert!(text.contains("anna@example.org"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn relay_20_a_mixed_result_is_told_by_a_notification_in_the_queue() {
    let world = queued("");
    let mx = world.mx("example.org", "198.51.100.25");
    let home = world.mx("example.com", "198.51.100.27");
    home.rule(Rule::at(Stage::Mail).times(1).reply("451 4.2.0 Later"));
    mx.rule(
        Rule::at(Stage::Rcpt)
            .recipient("bert@example.org")
            .reply("550 5.1.1 No such user"),
    );
    let reply = world
        .send(&["anna@example.org", "bert@example.org"], MESSAGE)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    world.queued().empty().await;
    assert_eq!(home.messages().len(), 1, "it was tried again");
}

#[tokio::test(start_paused = true)]
async fn queue_9_a_full_queue_is_452_at_mail_while_deliveries_go_on() {
    let world = queued("[relay]\nmode = queue\n[galerne]\nqmsize = 4\n");
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Rcpt).times(2).reply("451 4.2.0 Later"));
    for _ in 0..2 {
        id(&world.relay("anna@example.org").await);
    }
    // Half of the queue is this account's.
    let mut client = world.login().await;
    let refused = client.say("MAIL FROM:<orders@example.com>").await;
    assert!(refused.starts_with("452 4.3.1"), "{refused}");
    world.queued().empty().await;
    assert_eq!(mx.messages().len(), 2);
    let mut client = world.login().await;
    assert_eq!(
        client.say("MAIL FROM:<orders@example.com>").await,
        "250 2.1.0 OK"
    );
}

#[tokio::test(start_paused = true)]
async fn queue_9_one_lane_holds_half_of_the_queue_and_others_go_on() {
    // Two accounts, so that no account has its half.
    let world = queued(
        "[relay]\nmode = queue\n[galerne]\nqmsize = 6\n== users/shop.ini\n[account]\nsmtpssl = 0\nsmtplogin = shop\nsmtppassw = secret\n",
    );
    let mx = world.mx("example.org", "198.51.100.25");
    let other = world.mx("example.net", "198.51.100.26");
    mx.rule(Rule::at(Stage::Rcpt).reply("451 4.2.0 Later"));
    let mut shop = world.login_as("shop", "secret").await;
    let full = [
        world.relay("anna@example.org").await,
        world.relay("bert@example.org").await,
    ];
    for reply in &full {
        id(reply);
    }
    let mut send = async |to: &[&str]| {
        // The scheduler knows of the last one.
        sleep(Duration::from_secs(1)).await;
        let sent = shop.transaction("orders@example.com", to, MESSAGE.as_bytes());
        sent.await.unwrap().text()
    };
    id(&send(&["carl@example.org"]).await);
    let refused = send(&["dora@example.org"]).await;
    assert!(refused.starts_with("452 4.3.1"), "{refused}");
    let refused = send(&["emil@example.net", "dora@example.org"]).await;
    assert!(refused.starts_with("452 4.3.1"), "{refused}");
    assert_eq!(world.queued().queue.total(), 3, "nothing was taken");
    id(&send(&["emil@example.net"]).await);
    sleep(MINUTE).await;
    assert_eq!(other.messages().len(), 1);
    // Half of the queue is as large as the settings say.
    world.reload("[galerne]\nqmsize = 100\n");
    sleep(Duration::from_secs(6)).await;
    id(&send(&["dora@example.org"]).await);
}

#[tokio::test(start_paused = true)]
async fn queue_9_t_33_too_little_free_space_is_452_until_there_is_more() {
    let world = queued(QUEUE);
    let _mx = world.mx("example.org", "198.51.100.25");
    world.queued().free.store(255 << 20, Ordering::Relaxed);
    sleep(Duration::from_secs(6)).await;
    let mut client = world.login().await;
    let refused = client.say("MAIL FROM:<orders@example.com>").await;
    assert!(refused.starts_with("452 4.3.1"), "{refused}");
    world.queued().free.store(257 << 20, Ordering::Relaxed);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(
        client.say("MAIL FROM:<orders@example.com>").await,
        "250 2.1.0 OK"
    );
}

#[tokio::test(start_paused = true)]
async fn queue_8_a_store_that_cannot_write_is_451_and_nothing_is_taken() {
    let store = Arc::new(MemoryQueue::default());
    let world = World::with_queue(QUEUE, store.clone());
    let mx = world.mx("example.org", "198.51.100.25");
    store.close();
    let reply = world.relay("anna@example.org").await;
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert!(!world.queued().queue.is_ready());
    sleep(MINUTE).await;
    assert!(mx.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn queue_14_a_dead_destination_delays_no_other() {
    let world = queued(QUEUE);
    let _dead = world.mx("example.net", "198.51.100.26");
    let mx = world.mx("example.org", "198.51.100.25");
    world.decide("198.51.100.26:25", Fate::BlackHole);
    for _ in 0..300 {
        id(&world.relay("bert@example.net").await);
    }
    let began = Instant::now();
    for _ in 0..20 {
        id(&world.relay("anna@example.org").await);
    }
    while mx.messages().len() < 20 {
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{}",
            mx.messages().len()
        );
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn queue_14_the_limit_of_one_sender_holds_back_nobody_else_in_its_lane() {
    let world = queued(
        "[relay]\nmode = queue\n== domains/@.ini\n[ipflow#warmup]\nthreadmax = 0\n[sdflow#warmup]\nthreadmax = 0\n[sdflow#warmup@slow.test]\nvolttllow = 1h\nvolmaxlow = 1\n",
    );
    let mx = world.mx("example.org", "198.51.100.25");
    let send = async |from: &str| {
        let mut client = world.login().await;
        let content = MESSAGE.replace("orders@example.com", from);
        let to = ["anna@example.org"];
        let sent = client.transaction(from, &to, content.as_bytes());
        id(&sent.await.unwrap().text()).to_owned()
    };
    for _ in 0..5 {
        send("news@slow.test").await;
    }
    // Their line has learnt that it must wait.
    sleep(10 * MINUTE).await;
    assert_eq!(mx.messages().len(), 1);
    for _ in 0..20 {
        let began = Instant::now();
        let before = mx.messages().len();
        send("orders@example.com").await;
        while mx.messages().len() == before {
            let waited = began.elapsed();
            assert!(waited < Duration::from_secs(3), "{waited:?}");
            sleep(Duration::from_millis(20)).await;
        }
        // At any moment of the pauses of the others.
        sleep(Duration::from_secs(7)).await;
    }
    let slow = |mx: &galerne_sim::sink::Sink| {
        let messages = mx.messages();
        let slow = messages.iter().filter(|m| m.sender == "news@slow.test");
        slow.count()
    };
    assert_eq!(slow(&mx), 1, "its hour is not over");
    sleep(60 * MINUTE).await;
    assert_eq!(slow(&mx), 2, "it goes as soon as it may");
}

#[tokio::test(start_paused = true)]
async fn queue_15_a_destination_that_comes_back_is_tried_by_one_first() {
    let world = queued(QUEUE);
    let mx = world.mx("example.org", "198.51.100.25");
    world.decide("198.51.100.25:25", Fate::Refuse);
    for _ in 0..100 {
        id(&world.relay("anna@example.org").await);
    }
    sleep(2 * MINUTE).await;
    let before = world.hops().len();
    assert!(before < 80, "the others wait for a probe: {before}");
    world.decide("198.51.100.25:25", Fate::Normal);
    world.queued().empty().await;
    assert_eq!(mx.messages().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn queue_13_the_age_limit_holds_while_a_lane_is_closed() {
    let world = queued("[relay]\nmode = queue\n[queue]\nmaxage = 2h\n");
    let _mx = world.mx("example.org", "198.51.100.25");
    let _home = world.mx("example.com", "198.51.100.27");
    world.decide("198.51.100.25:25", Fate::Refuse);
    let began = Instant::now();
    for _ in 0..50 {
        id(&world.relay("anna@example.org").await);
    }
    world.queued().empty().await;
    let waited = began.elapsed();
    assert!(
        waited >= 118 * MINUTE && waited <= 125 * MINUTE,
        "{waited:?}"
    );
    let ended = world.queued().ended();
    assert_eq!(
        ended.iter().filter(|(_, word)| word == "expired").count(),
        50
    );
}
