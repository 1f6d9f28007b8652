use galerne_core::queue::State;
use serde_json::json;

use super::*;

const NOON: u64 = 1_772_366_400_000;

fn told(after: u64, id: &str, what: What) -> Told {
    Told {
        at: NOON + 1000 * after,
        id: id.into(),
        reference: "order-1".into(),
        header_id: Some("x@app.example".into()),
        what,
    }
}

fn received(after: u64, id: &str, recipients: &[&str]) -> Told {
    told(
        after,
        id,
        What::Received {
            user: Some("shop".into()),
            peer: "192.0.2.7".into(),
            sender: "orders@example.com".into(),
            recipients: recipients.iter().map(|&r| r.into()).collect(),
            size: 1234,
            mode: "auto".into(),
        },
    )
}

fn attempt(after: u64, number: u32, reply: &str) -> Told {
    told(
        after,
        "01AA",
        What::Attempt {
            recipient: "anna@example.org".into(),
            number,
            hop: 1,
            group: "gmail".into(),
            route: "MX of example.org".into(),
            outbound: "192.0.2.10".into(),
            remote: "mx.example.org [198.51.100.5]:25".into(),
            stage: "DOT".into(),
            reply: reply.into(),
            pattern: Some("later".into()),
            tls: None,
            milliseconds: 340,
        },
    )
}

fn life() -> Vec<Told> {
    vec![
        received(0, "01AA", &["anna@example.org", "bert@example.org"]),
        attempt(1, 1, "451 4.7.1 \u{1b}[31mlater\n"),
        told(
            2,
            "01AA",
            What::Again {
                recipient: "anna@example.org".into(),
                state: State::Unknown,
                next: NOON + 900_000,
                reply: "451 later".into(),
                duplicate_possible: true,
            },
        ),
        received(3, "01AB", &["carl@example.org"]),
        told(
            4,
            "01AA",
            What::Ended {
                recipient: "bert@example.org".into(),
                outcome: "failed".into(),
                reply: "550 5.1.1 no such user".into(),
                duplicate_possible: false,
            },
        ),
        told(
            5,
            "01AA",
            What::Notified {
                recipient: "bert@example.org".into(),
                action: "failed".into(),
                notification: "01AC".into(),
            },
        ),
    ]
}

fn page(colour: bool) -> Page {
    Page {
        colour,
        zone: TimeZone::UTC,
        now: Timestamp::from_millisecond(i64::try_from(NOON + 10_000).unwrap()).unwrap(),
    }
}

#[test]
fn queue_17_the_story_reads_like_one() {
    let all = stories(life());
    let text = page(false).story(&all[0], "01AA");
    assert_eq!(
        text,
        "01AA  ref order-1  Message-ID x@app.example
  2026-03-01 12:00:00  received from orders@example.com for anna@example.org, bert@example.org
                       by 192.0.2.7, account shop, 1234 octets, mode auto
  2026-03-01 12:00:01  attempt 1 for anna@example.org: 192.0.2.10 → mx.example.org [198.51.100.5]:25
                       because MX of example.org, group @gmail, in clear
                       DOT: 451 4.7.1 \\u{1b}[31mlater\\n (0.3 s, pattern later)
  2026-03-01 12:00:02  anna@example.org is unknown, to be tried again at 2026-03-01 12:15:00, in 14 min (it may arrive twice)
  2026-03-01 12:00:04  failed bert@example.org: 550 5.1.1 no such user
  2026-03-01 12:00:05  the sender is told \"failed\" of bert@example.org, by message 01AC
  now                  anna@example.org is unknown, tried again at 2026-03-01 12:15:00, in 14 min (it may arrive twice)
"
    );
    let coloured = page(true).story(&all[0], "01AA");
    assert!(
        coloured.contains("\u{1b}[31mfailed\u{1b}[0m bert"),
        "{coloured}"
    );
    assert!(!coloured.contains("\u{1b}[31mlater"), "{coloured}");
    let other = page(false).story(&all[1], "01AA");
    assert!(other.ends_with("now                  carl@example.org waits to be tried\n"));
}

#[test]
fn queue_17_queue_4_the_document_says_where_a_duplicate_is_possible() {
    let all = stories(life());
    let first = all[0].document();
    assert_eq!(first["id"], "01AA");
    assert_eq!(first["received"], "2026-03-01T12:00:00.000Z");
    assert_eq!(first["duplicate_possible"], true);
    assert_eq!(
        first["deliveries"],
        json!([
            {"recipient": "anna@example.org", "state": "unknown", "next": "2026-03-01T12:15:00.000Z", "duplicate_possible": true},
            {"recipient": "bert@example.org", "state": "failed", "next": null, "duplicate_possible": false},
        ])
    );
    assert_eq!(
        first["events"][2],
        json!({"at": "2026-03-01T12:00:02.000Z", "event": "again", "recipient": "anna@example.org",
            "state": "unknown", "next": "2026-03-01T12:15:00.000Z", "reply": "451 later", "duplicate_possible": true})
    );
    assert_eq!(all[1].document()["duplicate_possible"], false);
}

#[test]
fn queue_17_an_operator_is_part_of_the_story() {
    let operator = |after, what: &str| {
        let what = What::Operator {
            recipient: "anna@example.org".into(),
            what: what.into(),
        };
        told(after, "01AA", what)
    };
    let mut lines = life();
    lines.push(operator(6, "hold"));
    let word = |lines: &[Told]| {
        let all = stories(lines.to_vec());
        all[0].standings()["anna@example.org"].word().to_owned()
    };
    assert_eq!(word(&lines), "held");
    lines.push(operator(7, "release"));
    lines.push(operator(8, "retry"));
    assert_eq!(word(&lines), "unknown");
    let all = stories(lines);
    assert_eq!(all[0].standings()["anna@example.org"].next, None);
}
