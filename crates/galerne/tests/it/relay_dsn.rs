//! The parameters of DSN: passed on where they are known, and a notification of ours where they are
//! not (RELAY-28, RET-26 to RET-34).

use galerne_events::Recorded;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use tokio::time::{Duration, Instant};

use crate::world::{MESSAGE, Talk as _, World};

struct Places {
    world: World,
    /// The server of example.org.
    remote: Sink,
    /// The server of example.com, where the sender is.
    home: Sink,
}

fn places(dsn: bool) -> Places {
    let world = World::new("");
    let options = SinkOptions {
        dsn,
        ..SinkOptions::default()
    };
    let remote = world.mx_with("example.org", "198.51.100.25", options);
    let home = world.mx("example.com", "198.51.100.26");
    Places {
        world,
        remote,
        home,
    }
}

impl Places {
    /// The reply to a message with these parameters, and the time until it came.
    async fn send(&self, mail: &str, rcpt: &str) -> (String, Duration) {
        let mut client = self.world.login().await;
        client
            .say(&format!("MAIL FROM:<orders@example.com>{mail}"))
            .await;
        let reply = client
            .say(&format!("RCPT TO:<anna@example.org>{rcpt}"))
            .await;
        assert_eq!(reply, "250 2.1.5 OK");
        client.command("DATA").await.unwrap();
        let began = Instant::now();
        let reply = client.content(MESSAGE.as_bytes()).await.unwrap();
        (reply.text(), began.elapsed())
    }

    /// What came home as text, once nothing is under way.
    async fn came_home(&self) -> Vec<String> {
        self.world.delivery.quiet().await;
        let messages = self.home.messages().into_iter();
        messages
            .map(|m| String::from_utf8(m.content).unwrap())
            .collect()
    }

    fn notes(&self) -> Vec<String> {
        let all = self.world.events.all().into_iter();
        all.filter_map(|recorded| match recorded {
            Recorded::Note(_, text) => Some(text),
            _ => None,
        })
        .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn ret_34_ret_26_ret_30_a_remote_that_offers_dsn_has_the_parameters_and_tells_itself() {
    let places = places(true);
    let (reply, _) = places
        .send(
            " RET=FULL ENVID=QQ+2B314",
            " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;an+2Bna@example.org",
        )
        .await;
    assert!(reply.starts_with("250 "), "{reply}");
    let envelope = places.remote.messages().remove(0).envelope.join("\n");
    for parameter in [
        " RET=FULL",
        " ENVID=QQ+2B314",
        " NOTIFY=SUCCESS,DELAY",
        " ORCPT=rfc822;an+2Bna@example.org",
    ] {
        assert!(envelope.contains(parameter), "{envelope}");
    }
    assert_eq!(places.came_home().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn ret_34_ret_29_elsewhere_success_that_was_asked_for_is_told_as_relayed() {
    let places = places(false);
    let (reply, _) = places
        .send(
            " RET=FULL ENVID=QQ+2B314",
            " NOTIFY=SUCCESS ORCPT=rfc822;an+2Bna@example.org",
        )
        .await;
    assert!(reply.starts_with("250 "), "{reply}");
    let envelope = places.remote.messages().remove(0).envelope.join("\n");
    for parameter in ["RET=", "ENVID=", "NOTIFY=", "ORCPT="] {
        assert!(!envelope.contains(parameter), "{envelope}");
    }
    let told = places.came_home().await;
    assert_eq!(told.len(), 1);
    for part in [
        "Subject: Delivery report\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "\r\nOriginal-Envelope-Id: QQ+314\r\n",
        "\r\nOriginal-Recipient: rfc822;an+na@example.org\r\n",
        "\r\nFinal-Recipient: rfc822;anna@example.org\r\n",
        "\r\nAction: relayed\r\n",
        "\r\nStatus: 2.0.0\r\n",
        "\r\nRemote-MTA: dns; mx.example.org\r\n",
        "Content-Type: text/rfc822-headers\r\n",
        "Subject: Your order\r\n",
    ] {
        assert!(told[0].contains(part), "{part:?} in {}", told[0]);
    }
    assert!(!told[0].contains("\r\nHello\r\n"), "RET is for failures");
    let message = places.home.messages().remove(0);
    assert_eq!(message.sender, "");
    assert_eq!(message.recipients, ["orders@example.com"]);
}

#[tokio::test(start_paused = true)]
async fn ret_33_ret_37_nothing_is_told_that_nobody_asked_for() {
    for (from, rcpt) in [
        ("orders@example.com", ""),
        ("orders@example.com", " NOTIFY=NEVER"),
        ("orders@example.com", " NOTIFY=FAILURE,DELAY"),
        ("", " NOTIFY=SUCCESS"),
    ] {
        let places = places(false);
        let mut client = places.world.login().await;
        client.say(&format!("MAIL FROM:<{from}>")).await;
        client
            .say(&format!("RCPT TO:<anna@example.org>{rcpt}"))
            .await;
        client.command("DATA").await.unwrap();
        let reply = client.content(MESSAGE.as_bytes()).await.unwrap();
        assert_eq!(reply.code, 250);
        assert!(places.came_home().await.is_empty(), "{from:?} {rcpt}");
    }
}

#[tokio::test(start_paused = true)]
async fn ret_34_ret_36_what_was_not_delivered_is_not_told_as_relayed() {
    let places = places(false);
    places
        .remote
        .rule(Rule::at(Stage::Dot).reply("550 5.7.1 no"));
    let (reply, _) = places.send("", " NOTIFY=SUCCESS,FAILURE").await;
    assert_eq!(reply, "550 5.7.1 no");
    assert!(places.came_home().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ret_34_a_notification_that_fails_changes_no_reply_and_is_logged() {
    let places = places(false);
    places
        .home
        .rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 gone"));
    let (reply, _) = places.send("", " NOTIFY=SUCCESS").await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(places.came_home().await.is_empty());
    let notes = places.notes();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("is lost: 550 5.1.1 gone")),
        "{notes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn ret_34_a_notification_that_hangs_keeps_no_client_waiting_and_is_bounded() {
    let world = World::new("");
    let remote = world.mx_with(
        "example.org",
        "198.51.100.25",
        SinkOptions {
            dsn: false,
            ..SinkOptions::default()
        },
    );
    let home = world.sink(([198, 51, 100, 27], 25).into(), SinkOptions::default());
    world.stuck_mx("example.com", "198.51.100.26", "");
    let places = Places {
        world,
        remote,
        home,
    };
    for _ in 0..20 {
        let (reply, took) = places.send("", " NOTIFY=SUCCESS").await;
        assert!(reply.starts_with("250 "), "{reply}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    let too_many = |notes: Vec<String>| notes.iter().filter(|n| n.contains("too many")).count();
    assert_eq!(too_many(places.notes()), 4);
    // None of them goes on for ever.
    let began = Instant::now();
    places.world.delivery.quiet().await;
    assert!(
        began.elapsed() < Duration::from_secs(180),
        "{:?}",
        began.elapsed()
    );
    let lost = places.notes().into_iter().filter(|n| n.contains("is lost"));
    assert_eq!(lost.count(), 20);
}
