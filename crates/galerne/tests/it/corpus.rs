//! The real messages of tests/corpus over the whole server: by SMTP to a destination in memory,
//! octet for octet, or refused with the code of `expected.tsv` (RELAY-21, RELAY-77, RELAY-18).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::world::{Talk, World};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/messages")
}

fn messages(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(corpus().join(folder))
        .unwrap()
        .map(Result::unwrap);
    let named = entries.map(|entry| {
        (
            entry.file_name().into_string().unwrap(),
            std::fs::read(entry.path()).unwrap(),
        )
    });
    named.collect()
}

fn expected(folder: &str) -> BTreeMap<String, String> {
    let table = std::fs::read_to_string(corpus().join("expected.tsv")).unwrap();
    let rows = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('\t'));
    let rows = rows
        .filter_map(|(file, code)| Some((file.strip_prefix(folder)?.to_owned(), code.to_owned())));
    rows.collect()
}

/// As a client sends it: a dot doubled at the start of each line that CRLF began.
fn on_the_wire(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (at, &octet) in message.iter().enumerate() {
        let starts = at == 0 || message[..at].ends_with(b"\r\n");
        if starts && octet == b'.' {
            wire.push(b'.');
        }
        wire.push(octet);
    }
    if !message.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// The code and enhanced code, or `relay`.
fn verdict(reply: &str) -> String {
    if reply.starts_with("250 ") {
        return "relay".to_owned();
    }
    reply.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Relays all messages of a folder in one session; gives the verdicts and what arrived.
async fn relay(world: &World, folder: &str) -> BTreeMap<String, (String, Option<Vec<u8>>)> {
    let mx = world.mx("example.org", "198.51.100.25");
    let mut client = world.login().await;
    let mut results = BTreeMap::new();
    for (name, message) in messages(folder) {
        client
            .envelope("orders@example.com", &["anna@example.org"])
            .await;
        client.send_raw(&on_the_wire(&message)).await.unwrap();
        let reply = client.hear().await;
        let arrived = mx.messages().pop().map(|message| message.content);
        mx.clear();
        results.insert(name, (verdict(&reply), arrived));
    }
    results
}

#[tokio::test(start_paused = true)]
async fn relay_21_relay_27_relay_77_every_real_message_arrives_octet_for_octet_or_is_refused_as_listed()
 {
    let world = World::new("");
    let originals = messages("wire");
    let mut verdicts = BTreeMap::new();
    for (name, (verdict, arrived)) in relay(&world, "wire").await {
        match arrived {
            Some(arrived) => assert!(
                arrived == originals[&name] && verdict == "relay",
                "{name}: {verdict}"
            ),
            None => assert_ne!(verdict, "relay", "{name}"),
        }
        verdicts.insert(name, verdict);
    }
    assert_eq!(verdicts, expected("wire/"));
    assert!(
        verdicts
            .values()
            .filter(|verdict| *verdict == "relay")
            .count()
            > 60
    );
}

#[tokio::test(start_paused = true)]
async fn relay_18_every_irregular_message_is_refused_by_default() {
    let world = World::new("");
    for (name, (verdict, arrived)) in relay(&world, "irregular").await {
        assert_eq!((verdict.as_str(), arrived), ("451 9.0.3", None), "{name}");
    }
    assert_eq!(world.hops().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn relay_18_every_irregular_message_is_judged_after_it_was_normalised() {
    let world = World::new("[rfrelay]\nbarelf = normalise\n");
    let mut verdicts = BTreeMap::new();
    for (name, (verdict, arrived)) in relay(&world, "irregular").await {
        if let Some(arrived) = arrived {
            let text = String::from_utf8_lossy(&arrived).replace("\r\n", "");
            assert!(!text.contains(['\r', '\n', '\0']), "{name}");
        }
        verdicts.insert(name, verdict);
    }
    assert_eq!(verdicts, expected("irregular/"));
}

#[tokio::test(start_paused = true)]
async fn relay_18_every_irregular_message_that_passes_leaves_as_it_came_by_bdat() {
    let world = World::new("[rfrelay]\nbarelf = pass\n");
    let originals = messages("irregular");
    let mut passed = 0;
    for (name, (verdict, arrived)) in relay(&world, "irregular").await {
        match arrived {
            Some(arrived) => {
                assert!(arrived.starts_with(&originals[&name]), "{name}");
                passed += 1;
            }
            // What the header itself is refused for, and NUL.
            None => assert!(verdict.starts_with("451 9.0."), "{name}: {verdict}"),
        }
    }
    assert!(passed > 0);
}
