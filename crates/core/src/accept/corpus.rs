//! Real messages through the content policy and the data codec: each is relayed octet for octet
//! or refused with the code that `tests/corpus/messages/expected.tsv` names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use galerne_smtp::data::{BareLfPolicy, Decoder, Encoder};

use super::tests::{account, circumstances, outgoing};
use super::*;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/messages")
}

fn messages(folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    for entry in std::fs::read_dir(corpus().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        messages.push((name, std::fs::read(path).unwrap()));
    }
    messages.sort();
    messages
}

fn expected(folder: &str) -> BTreeMap<String, String> {
    let table = std::fs::read_to_string(corpus().join("expected.tsv")).unwrap();
    let rows = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('\t'));
    let rows = rows.filter_map(|(file, code)| Some((file.strip_prefix(folder)?, code)));
    rows.map(|(file, code)| (file.to_owned(), code.to_owned()))
        .collect()
}

/// As a client would send it: line by line, a dot doubled at the start of each. This is not our
/// encoder, so that a mistake shared by both directions cannot hide.
fn on_the_wire(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut start = true;
    for (at, &octet) in message.iter().enumerate() {
        if start && octet == b'.' {
            wire.push(b'.');
        }
        wire.push(octet);
        start = octet == b'\n' && at > 0 && message[at - 1] == b'\r';
    }
    if !message.ends_with(b"\r\n") {
        wire.extend(b"\r\n");
    }
    wire.extend(b".\r\n");
    wire
}

struct Received {
    content: Vec<u8>,
    bare: bool,
    nul: bool,
}

fn receive(message: &[u8], policy: BareLfPolicy, piece: usize) -> Received {
    let wire = on_the_wire(message);
    let mut decoder = Decoder::new(policy);
    let mut content = Vec::new();
    let mut ended = false;
    for chunk in wire.chunks(piece) {
        assert!(!ended, "the end of data came too early");
        let (consumed, end) = decoder.decode(chunk, &mut content, u64::MAX);
        assert_eq!(consumed, chunk.len());
        ended = end;
    }
    assert!(ended);
    Received {
        content,
        bare: decoder.has_bare(),
        nul: decoder.has_nul(),
    }
}

/// `relay`, or the code.
fn verdict(content: &[u8], bare: bool) -> Result<Examined, String> {
    let account = account();
    let circumstances = Circumstances {
        bare,
        ..circumstances(Some(&account))
    };
    examine(content, &circumstances).map_err(|refusal| {
        let reply = refusal.reply(false);
        let text = reply.lines().next().unwrap().to_vec();
        let text = String::from_utf8(text).unwrap();
        format!("{} {}", reply.code(), text.split(' ').next().unwrap())
    })
}

#[test]
fn relay_21_relay_27_relay_77_real_messages_go_out_octet_for_octet_or_are_refused_as_listed() {
    let expected = expected("wire/");
    let mut found = BTreeMap::new();
    for (name, message) in messages("wire") {
        let piece = 1 + message.len() % 997;
        let received = receive(&message, BareLfPolicy::Reject, piece);
        assert_eq!(received.content, message, "{name}: decoded");
        let code = match verdict(&received.content, received.bare || received.nul) {
            Err(code) => code,
            Ok(examined) => {
                let out = outgoing(&received.content, &examined.patch);
                let mut encoder = Encoder::new();
                let mut wire = Vec::new();
                for chunk in out.chunks(piece) {
                    encoder.encode(chunk, &mut wire);
                }
                encoder.finish(&mut wire);
                assert_eq!(wire, on_the_wire(&message), "{name}: encoded");
                "relay".to_owned()
            }
        };
        found.insert(name, code);
    }
    assert_eq!(found, expected);
    assert!(found.values().filter(|code| *code == "relay").count() > 60);
}

#[test]
fn relay_18_irregular_messages_are_refused_normalised_or_passed() {
    let expected = expected("irregular/");
    let mut normalised = BTreeMap::new();
    for (name, message) in messages("irregular") {
        let received = receive(&message, BareLfPolicy::Reject, 61);
        let code = verdict(&received.content, received.bare || received.nul).unwrap_err();
        assert_eq!(code, "451 9.0.3", "{name}: reject");

        let received = receive(&message, BareLfPolicy::Pass, 61);
        assert!(received.content.starts_with(&message), "{name}: pass");
        assert!(received.bare || received.nul, "{name}: pass");

        let received = receive(&message, BareLfPolicy::Normalise, 61);
        let alone = |at: usize, b: u8| match b {
            b'\n' => at == 0 || received.content[at - 1] != b'\r',
            b'\r' => received.content.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let bare = received
            .content
            .iter()
            .enumerate()
            .any(|(at, &b)| alone(at, b));
        assert!(!bare, "{name}: normalise");
        let code = verdict(&received.content, received.nul).err();
        normalised.insert(name, code.unwrap_or_else(|| "relay".to_owned()));
    }
    assert_eq!(normalised, expected);
}
