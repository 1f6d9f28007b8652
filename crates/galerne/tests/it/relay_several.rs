//! Several recipients in one transaction: the combined reply, PRDR, notifications, shared
//! outbound transactions (RELAY-20, T-45).

use std::time::Duration;

use galerne_core::model::Outcome;
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Sink, Stage};
use tokio::time::Instant;

use crate::world::{MESSAGE, Talk, World, directed};

/// Destinations of `example.org` and `example.net`, and the home of the sender.
struct Places {
    world: World,
    org: Sink,
    net: Sink,
    home: Sink,
}

fn places(config: &str) -> Places {
    let world = World::new(config);
    let org = world.mx("example.org", "198.51.100.25");
    let net = world.mx("example.net", "198.51.100.26");
    let home = world.mx("example.com", "198.51.100.27");
    Places {
        world,
        org,
        net,
        home,
    }
}

const BOTH: [&str; 2] = ["anna@example.org", "bert@example.net"];

#[tokio::test(start_paused = true)]
async fn relay_20_all_delivered_is_250_with_a_line_for_each_in_the_order_of_rcpt() {
    let Places {
        world,
        org,
        net,
        home,
    } = places("");
    net.rule(Rule::at(Stage::Dot).reply("250 2.6.0 Accepted"));
    org.rule(
        Rule::at(Stage::Dot)
            .delay(Duration::from_secs(3))
            .reply("250 2.0.0 Queued"),
    );
    let three = ["anna@example.org", "bert@example.net", "carl@example.org"];
    assert_eq!(
        world.send(&three, MESSAGE).await,
        "250-2.0.0 <anna@example.org> Queued\n\
         250-2.0.0 <bert@example.net> 250 2.6.0 Accepted\n\
         250 2.0.0 <carl@example.org> Queued"
    );
    assert!(home.attempts().is_empty(), "no notification");
}

#[tokio::test(start_paused = true)]
async fn relay_20_all_failed_alike_is_the_common_reply_and_no_notification() {
    let Places {
        world,
        org,
        net,
        home,
    } = places("");
    for mx in [&org, &net] {
        mx.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    }
    assert_eq!(
        world.send(&BOTH, MESSAGE).await,
        "550-5.1.1 <anna@example.org> No such user\n550 5.1.1 <bert@example.net> No such user"
    );
    assert!(home.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn relay_20_all_failed_differently_is_the_first_temporary_reply_with_the_lines_of_all() {
    let Places {
        world,
        org,
        net,
        home,
    } = places("");
    org.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    net.rule(Rule::at(Stage::Dot).reply("452 4.2.2 Mailbox full"));
    assert_eq!(
        world.send(&BOTH, MESSAGE).await,
        "452-4.2.2 <anna@example.org> 550 5.1.1 No such user\n452 4.2.2 <bert@example.net> Mailbox full"
    );
    net.clear_rules();
    net.rule(Rule::at(Stage::Dot).reply("554 5.7.1 Spam"));
    assert_eq!(
        world.send(&BOTH, MESSAGE).await,
        "550-5.1.1 <anna@example.org> No such user\n550 5.1.1 <bert@example.net> 554 5.7.1 Spam"
    );
    assert!(home.attempts().is_empty(), "the client has its answer");
}

#[tokio::test(start_paused = true)]
async fn relay_20_t_45_a_mixed_result_is_250_and_the_sender_is_told_of_the_failure_first() {
    let Places {
        world,
        org,
        net,
        home,
    } = places("");
    net.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    home.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(10)));
    let began = Instant::now();
    assert_eq!(
        world.send(&BOTH, MESSAGE).await,
        "250-2.0.0 <anna@example.org> Ok: queued as 1-1\n250 2.0.0 <bert@example.net> 550 5.1.1 No such user"
    );
    assert_eq!(
        began.elapsed().as_secs(),
        10,
        "the notification is delivered before the 250"
    );
    assert_eq!(org.messages().len(), 1);
    let [dsn] = home.messages().try_into().unwrap();
    assert_eq!(
        (dsn.sender.as_str(), dsn.recipients.as_slice()),
        ("", &["orders@example.com".to_owned()][..])
    );
    let text = String::from_utf8(dsn.content).unwrap();
    for part in [
        "multipart/report",
        "report-type=delivery-status",
        "Final-Recipient: rfc822;bert@example.net",
        "Action: failed",
        "Status: 5.1.1",
        "550 5.1.1 No such user",
        "Subject: Your order",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(
        !text.contains("rfc822;anna"),
        "nothing of what was delivered"
    );
    let outcomes: Vec<_> = world.settled().into_iter().map(|s| s.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Delivered, Outcome::Delivered, Outcome::Failed],
        "the notification first"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_20_temporary_and_unknown_failures_of_a_mixed_result_are_told_too() {
    let Places {
        world,
        org,
        net,
        home,
    } = places("");
    net.rule(Rule::at(Stage::Dot).close());
    org.rule(
        Rule::at(Stage::Rcpt)
            .recipient("full")
            .reply("452 4.2.2 Mailbox full"),
    );
    let reply = world
        .send(
            &["anna@example.org", "full@example.org", "bert@example.net"],
            MESSAGE,
        )
        .await;
    assert!(
        reply.starts_with("250-2.0.0 <anna@example.org> Ok"),
        "{reply}"
    );
    let text = String::from_utf8(home.messages().remove(0).content).unwrap();
    assert!(
        text.contains("Final-Recipient: rfc822;full@example.org"),
        "{text}"
    );
    assert!(
        text.contains("Final-Recipient: rfc822;bert@example.net"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_20_a_notification_that_cannot_be_delivered_makes_451_naming_the_delivered() {
    let Places {
        world, net, home, ..
    } = places("");
    net.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    home.rule(Rule::at(Stage::Rcpt).reply("450 4.2.1 not now"));
    let reply = world.send(&BOTH, MESSAGE).await;
    assert!(reply.starts_with("451-4.3.0 "), "{reply}");
    assert!(reply.ends_with("\n451 4.3.0 <anna@example.org>"), "{reply}");
    assert!(!reply.contains("bert"), "{reply}");
    home.clear_rules();
    world.decide("198.51.100.27:25", Fate::BlackHole);
    let began = Instant::now();
    assert!(world.send(&BOTH, MESSAGE).await.starts_with("451-4.3.0 "));
    assert!(began.elapsed().as_secs() <= 60, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn relay_20_relay_43_a_notification_does_not_keep_the_client_until_it_gives_up() {
    let Places {
        world,
        org,
        net,
        home,
    } = places("");
    org.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(580)));
    net.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    home.rule(Rule::at(Stage::Dot).hang());
    let began = Instant::now();
    let reply = world
        .send(&BOTH, &directed(r#"{"message":{"timeout":590}}"#))
        .await;
    assert!(reply.starts_with("451-4.3.0 "), "{reply}");
    assert!(began.elapsed().as_secs() < 600, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn relay_20_ret_37_no_notification_where_none_is_wanted() {
    for (from, parameter) in [
        ("", ""),
        ("orders@example.com", " NOTIFY=NEVER"),
        ("orders@example.com", " NOTIFY=SUCCESS"),
    ] {
        let Places {
            world, net, home, ..
        } = places("");
        net.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
        let mut client = world.login().await;
        client.say(&format!("MAIL FROM:<{from}>")).await;
        client.say("RCPT TO:<anna@example.org>").await;
        assert_eq!(
            client
                .say(&format!("RCPT TO:<bert@example.net>{parameter}"))
                .await,
            "250 2.1.5 OK"
        );
        client.command("DATA").await.unwrap();
        let reply = client.content(MESSAGE.as_bytes()).await.unwrap();
        assert!(reply.text().starts_with("250-2.0.0 "), "{reply}");
        assert!(home.attempts().is_empty(), "{from:?} {parameter}");
    }
}

#[tokio::test(start_paused = true)]
async fn relay_20_relay_25_ret_38_the_directive_is_not_returned() {
    for (ret, part) in [("HDRS", "Subject: Your order"), ("FULL", "\r\nHello\r\n")] {
        let Places {
            world, net, home, ..
        } = places("");
        net.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
        let mut client = world.login().await;
        client
            .say(&format!(
                "MAIL FROM:<orders@example.com> RET={ret} ENVID=QQ314159"
            ))
            .await;
        client.say("RCPT TO:<anna@example.org>").await;
        client
            .say("RCPT TO:<bert@example.net> ORCPT=rfc822;b@example.net")
            .await;
        client.command("DATA").await.unwrap();
        let message = directed(r#"{"message":{"ref":"order-1","title":"for us alone"}}"#);
        client.content(message.as_bytes()).await.unwrap();
        let text = String::from_utf8(home.messages().remove(0).content).unwrap();
        assert!(text.contains(part), "{text}");
        assert!(
            !text.to_lowercase().contains("x-smtp-r-api:") && !text.contains("for us alone"),
            "{text}"
        );
        assert!(text.contains("Original-Envelope-Id: QQ314159"), "{text}");
        assert!(
            text.contains("Original-Recipient: rfc822;b@example.net"),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn ret_28_ret_33_without_ret_or_with_hdrs_the_header_alone_comes_back() {
    for (parameter, whole) in [("", false), (" RET=HDRS", false), (" RET=FULL", true)] {
        let Places {
            world, net, home, ..
        } = places("");
        net.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
        let mut client = world.login().await;
        let mail = format!("MAIL FROM:<orders@example.com>{parameter}");
        client.say(&mail).await;
        client.say("RCPT TO:<anna@example.org>").await;
        client.say("RCPT TO:<bert@example.net>").await;
        client.command("DATA").await.unwrap();
        client.content(MESSAGE.as_bytes()).await.unwrap();
        let text = String::from_utf8(home.messages().remove(0).content).unwrap();
        let (_, body) = MESSAGE.split_once("\r\n\r\n").unwrap();
        assert!(text.contains("Subject: Your order"), "{text}");
        assert_eq!(text.contains(body.trim()), whole, "{parameter}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn relay_20_prdr_gives_each_recipient_its_reply_and_no_notification() {
    let Places {
        world, net, home, ..
    } = places("");
    net.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    let mut client = world.login().await;
    client
        .run_dialogue(
            "C: MAIL FROM:<orders@example.com> PRDR
S: 250 2.1.0 OK
C: RCPT TO:<anna@example.org>
S: 250 2.1.5 OK
C: RCPT TO:<bert@example.net>
S: 250 2.1.5 OK
C: DATA
S: 354
C: From: <orders@example.com>
C:
C: Hello
C: .
S: 353
S: 250 2.0.0 Ok: queued as 1-1
S: 550 5.1.1 No such user
S: 250-2.0.0 <anna@example.org> Ok: queued as 1-1
S: 250 2.0.0 <bert@example.net> 550 5.1.1 No such user
C: NOOP
S: 250",
        )
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(home.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn relay_20_equal_recipients_share_one_outbound_transaction() {
    let Places {
        world, org, net, ..
    } = places("");
    let to = [
        "a@example.org",
        "b@example.net",
        "c@example.org",
        "d@EXAMPLE.ORG",
    ];
    assert!(world.send(&to, MESSAGE).await.starts_with("250-"));
    assert_eq!(
        org.messages()[0].recipients,
        ["a@example.org", "c@example.org", "d@EXAMPLE.ORG"]
    );
    assert_eq!((org.messages().len(), net.messages().len()), (1, 1));
    assert_eq!(world.hops().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn relay_20_hosts_of_equal_preference_do_not_keep_recipients_apart() {
    let world = World::new("");
    let mx = world.sink("198.51.100.25:25".parse().unwrap(), Default::default());
    for domain in [
        "one", "two", "three", "four", "five", "six", "seven", "eight",
    ] {
        world.zone(&format!(
            "{domain}.example. MX 10 mx1.example.org.\n{domain}.example. MX 10 mx2.example.org."
        ));
    }
    world.zone("mx1.example.org. A 198.51.100.25\nmx2.example.org. A 198.51.100.25");
    let to = [
        "one", "two", "three", "four", "five", "six", "seven", "eight",
    ]
    .map(|d| format!("a@{d}.example"));
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    assert!(world.send(&to, MESSAGE).await.starts_with("250-"));
    assert_eq!(mx.messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn relay_20_relay_45_a_generated_sender_is_each_recipients_own() {
    let Places { world, org, .. } = places("");
    let verp = directed(r#"{"routing":{"envelopefrom":"@verp"}}"#);
    assert!(
        world
            .send(&["a@example.org", "b@example.org"], &verp)
            .await
            .starts_with("250-")
    );
    let senders: Vec<_> = org.messages().into_iter().map(|m| m.sender).collect();
    assert_eq!(senders.len(), 2);
    assert_ne!(senders[0], senders[1]);
    assert!(senders.iter().all(|s| s.contains("@mta1")), "{senders:?}");
}

#[tokio::test(start_paused = true)]
async fn relay_20_at_most_100_recipients_share() {
    let Places { world, org, .. } = places("[rfrelay]\nmaxrcpt = 250\n");
    let to: Vec<String> = (0..250).map(|n| format!("r{n}@example.org")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    assert!(world.send(&to, MESSAGE).await.starts_with("250-"));
    let mut counts: Vec<_> = org.messages().iter().map(|m| m.recipients.len()).collect();
    counts.sort();
    assert_eq!(counts, [50, 100, 100]);
}

#[tokio::test(start_paused = true)]
async fn relay_20_after_a_452_the_rest_follows_in_the_next_transaction_of_the_session() {
    let Places {
        world, org, home, ..
    } = places("");
    // Two at a time: the third RCPT of each transaction is one too many.
    for (n, transaction) in [("c", 1), ("d", 1), ("e", 1), ("e", 2)] {
        org.rule(
            Rule::at(Stage::Rcpt)
                .recipient(n)
                .transaction(transaction)
                .reply("452 4.5.3 too many recipients"),
        );
    }
    let to = [
        "a@example.org",
        "b@example.org",
        "c@example.org",
        "d@example.org",
        "e@example.org",
    ];
    let reply = world.send(&to, MESSAGE).await;
    assert!(
        reply.starts_with("250-") && !reply.contains("452"),
        "{reply}"
    );
    let taken: Vec<_> = org
        .messages()
        .into_iter()
        .map(|m| m.recipients.join(" "))
        .collect();
    assert_eq!(
        taken,
        [
            "a@example.org b@example.org",
            "c@example.org d@example.org",
            "e@example.org"
        ]
    );
    assert_eq!(world.hops().len(), 1, "one session, one hop");
    assert!(home.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn relay_20_a_mailbox_that_is_full_is_not_tried_again_and_again() {
    let Places { world, org, .. } = places("");
    org.rule(
        Rule::at(Stage::Rcpt)
            .recipient("full")
            .reply("452 4.2.2 Mailbox full"),
    );
    org.rule(
        Rule::at(Stage::Rcpt)
            .recipient("never")
            .reply("452 4.5.3 too many recipients"),
    );
    let reply = world
        .send(
            &["anna@example.org", "full@example.org", "never@example.org"],
            MESSAGE,
        )
        .await;
    assert!(
        reply.contains("<full@example.org> 452 4.2.2 Mailbox full"),
        "{reply}"
    );
    assert!(
        reply.contains("<never@example.org> 452 4.5.3 too many recipients"),
        "{reply}"
    );
    let rcpts = org
        .sessions()
        .iter()
        .flat_map(|s| s.commands.clone())
        .filter(|c| c.contains("full@"))
        .count();
    assert_eq!(rcpts, 1);
}

#[tokio::test(start_paused = true)]
async fn relay_20_a_block_for_one_of_them_sends_only_that_one_elsewhere() {
    let Places { world, org, .. } =
        places("== domains/@.ini\n[pattern]\nlisted = FLOW(block) 554 *listed\n");
    let first = "192.0.2.10".parse().unwrap();
    org.rule(
        Rule::at(Stage::Rcpt)
            .recipient("bert")
            .client(first)
            .reply("554 5.7.1 You are listed"),
    );
    let ordered = directed(r#"{"routing":{"outbound":["192.0.2.10","192.0.2.11"]}}"#);
    assert!(
        world
            .send(&["anna@example.org", "bert@example.org"], &ordered)
            .await
            .starts_with("250-")
    );
    let taken: Vec<_> = org
        .messages()
        .into_iter()
        .map(|m| (m.peer.ip().to_string(), m.recipients.join(" ")))
        .collect();
    let expected = [
        ("192.0.2.10", "anna@example.org"),
        ("192.0.2.11", "bert@example.org"),
    ];
    assert_eq!(
        taken,
        expected.map(|(ip, to)| (ip.to_owned(), to.to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn relay_20_relay_77_a_domain_that_does_not_exist_spoils_nothing_for_the_others() {
    let Places {
        world, org, home, ..
    } = places("");
    assert_eq!(
        world
            .send(&["anna@example.org", "x@nowhere.example"], MESSAGE)
            .await,
        "250-2.0.0 <anna@example.org> Ok: queued as 1-1\n\
         250 2.0.0 <x@nowhere.example> 451 9.2.4 X-SMTP-R-API domain nowhere.example does not exist"
    );
    assert_eq!((org.messages().len(), home.messages().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn relay_19_one_recipient_has_exactly_the_remotes_reply() {
    let Places { world, org, .. } = places("[rfrelay]\nmaxrcpt = 1\n");
    org.rule(Rule::at(Stage::Dot).reply("250 what ever it says"));
    let mut client = world.login().await;
    client.say("MAIL FROM:<orders@example.com>").await;
    client.say("RCPT TO:<anna@example.org>").await;
    assert!(
        client
            .say("RCPT TO:<bert@example.org>")
            .await
            .starts_with("452 4.5.3 ")
    );
    client.command("DATA").await.unwrap();
    assert_eq!(
        client.content(MESSAGE.as_bytes()).await.unwrap().text(),
        "250 what ever it says"
    );
}
