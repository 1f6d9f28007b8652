//! The demo with servers that answer as they should, and otherwise.

use std::fs;

use galerne_sim::sink::{Rule, Stage};
use tokio::time::timeout;

use super::world::{INBOX, NEWS};
use super::*;

async fn open(root: Option<&Path>, narrow: bool) -> Result<World, String> {
    World::open_in(root, ([127, 0, 0, 1], 0).into(), narrow).await
}

/// Runs all messages; whether all came out right, and what the page says.
async fn shown(world: &mut World) -> (bool, String) {
    let mut out = Vec::new();
    let good = show(world, &mut Page::new(&mut out, Style::Plain)).await;
    (good, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn if_3_a_server_that_answers_otherwise_is_noticed_and_named() {
    let mut world = open(None, false).await.unwrap();
    let rule = Rule::at(Stage::Rcpt).recipient("anna").times(1);
    world.sink(INBOX).clear_rules();
    world.sink(INBOX).rule(rule.reply("550 5.1.1 who is she?"));
    let (good, page) = shown(&mut world).await;
    assert!(!good);
    assert!(
        page.contains("WRONG   the reply must be \"250 2.0.0 Ok"),
        "{page}"
    );
    // Without its rules the inbox also takes what it must refuse.
    let last = "did not come out as they must: 1 (Delivered), 2 (Unknown mailbox)";
    assert!(page.contains(last), "{page}");
    world.close().await.unwrap();
}

#[tokio::test]
async fn if_3_a_notification_that_is_refused_is_noticed() {
    let mut world = open(None, false).await.unwrap();
    world
        .sink(NEWS)
        .rule(Rule::at(Stage::Mail).reply("451 4.3.0 later"));
    let (good, page) = shown(&mut world).await;
    assert!(!good);
    assert!(
        page.contains("a notification must have been delivered"),
        "{page}"
    );
    world.close().await.unwrap();
}

#[tokio::test]
async fn if_3_with_one_loopback_address_the_rest_is_shown_all_the_same() {
    let mut world = open(None, true).await.unwrap();
    let (good, page) = shown(&mut world).await;
    assert!(good, "{page}");
    assert!(page.contains("250-2.0.0 <anna@inbox.example>") && !page.contains("strict"));
    world.close().await.unwrap();
}

#[tokio::test]
async fn if_3_what_can_be_tried_by_hand_does_what_is_said() {
    let world = open(None, false).await.unwrap();
    let message = client::message(1, &SCENARIOS[0]);
    for (to, _, reply) in BY_HAND {
        let recipients = [*to];
        let heard = client::submit(world.smtp, &recipients, &message);
        if to.starts_with("slow") {
            let soon = timeout(Duration::from_millis(300), heard).await;
            assert!(soon.is_err(), "the client waits");
            continue;
        }
        let lines = heard.await.unwrap().lines;
        assert!(lines[0].starts_with(reply), "{to}: {lines:?}");
    }
    let again = client::submit(world.smtp, &["anyone@gone.example"], &message)
        .await
        .unwrap();
    assert_eq!(
        again.lines,
        ["451 9.2.1 X-SMTP-R-API recipient refused by list rfhard"]
    );
    world.close().await.unwrap();
}

#[tokio::test]
async fn if_3_a_root_of_its_own_may_be_used_again_that_of_others_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("new");
    for _ in 0..2 {
        let mut world = open(Some(&root), false).await.unwrap();
        let (good, page) = shown(&mut world).await;
        assert!(good, "{page}");
        world.close().await.unwrap();
        assert!(root.join("logs/rfrelay.csv").exists());
    }
    fs::write(root.join("galerne.ini"), "[IP]\n").unwrap();
    let refused = open(Some(&root), false).await.err().unwrap();
    assert!(
        refused.contains("has a galerne.ini of its own"),
        "{refused}"
    );
    assert_eq!(
        fs::read_to_string(root.join("galerne.ini")).unwrap(),
        "[IP]\n"
    );
}
