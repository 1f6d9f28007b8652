//! Every message, signed with RSA and Ed25519 at once, verifies elsewhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use galerne_sign::arc::{Sealing, Validity, judge, may_extend, seal};
use galerne_sign::key::generate;
use galerne_sign::{Algorithm, BodyHasher, Signature, SigningKey, Txt, sign};

use crate::corpus::{folder, messages};

/// Messages that the relay refuses, or that the other implementation cannot read at all.
const EXCEPTIONS: [(&str, &str); 2] = [
    (
        "dkimpy_test_nofrom.message",
        "has no From: the relay refuses it (9.0.2), and there is nothing to sign",
    ),
    (
        "dkimpy_message.mbox",
        "begins with a line `From `, which is no field: the relay refuses it (9.0.1)",
    ),
];

fn python() -> String {
    for python in ["python3", "/usr/bin/python3"] {
        let found = Command::new(python)
            .args(["-c", "import dkim, nacl"])
            .output();
        if found.is_ok_and(|output| output.status.success()) {
            return python.to_owned();
        }
    }
    panic!("no python3 with dkimpy and PyNaCl: install Debian's python3-dkim and python3-nacl");
}

fn split(message: &[u8]) -> (&[u8], &[u8]) {
    match message.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) => (&message[..at + 2], &message[at + 4..]),
        None => (message, &[]),
    }
}

/// What the other implementation says, a line for each message.
fn said(folder: &Path, dns: &Path, mode: Option<&str>) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/verify.py");
    let output = Command::new(python())
        .arg(script)
        .args([folder, dns])
        .args(mode)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn relay_51_every_message_verifies_with_dkimpy() {
    let keys = [Algorithm::RsaSha256, Algorithm::Ed25519Sha256]
        .map(|algorithm| SigningKey::from_pem(generate(algorithm).unwrap().as_bytes()).unwrap());
    let short =
        SigningKey::from_pem(&std::fs::read(folder("dkim/dkimpy/1024_testkey.key")).unwrap());
    let short = short.unwrap();
    let signers = [(&keys[0], "rsa"), (&keys[1], "ed"), (&short, "short")];
    let world = tempfile::tempdir().unwrap();
    let (signed, counts) = (world.path().join("m"), world.path().join("m.counts"));
    std::fs::create_dir(&signed).unwrap();
    std::fs::create_dir(&counts).unwrap();
    let mut records = BTreeMap::new();
    for (key, selector) in signers {
        records.insert(
            format!("{selector}._domainkey.sender.example"),
            key.record(),
        );
    }
    let dns = world.path().join("dns.json");
    std::fs::write(&dns, serde_json::to_string(&records).unwrap()).unwrap();
    let mut names = Vec::new();
    for message in messages() {
        if EXCEPTIONS.iter().any(|(name, _)| message.name == *name) {
            continue;
        }
        let (header, body) = split(&message.octets);
        let mut hasher = BodyHasher::default();
        for piece in body.chunks(777) {
            hasher.update(piece);
        }
        let signatures = signers.map(|(key, selector)| Signature {
            key,
            domain: "sender.example",
            selector,
            identity: "id",
        });
        let mut octets = sign(header, &hasher.finish(), &signatures, 1_700_000_000).unwrap();
        octets.extend_from_slice(&message.octets);
        std::fs::write(signed.join(&message.name), octets).unwrap();
        std::fs::write(counts.join(&message.name), "3").unwrap();
        names.push(message.name);
    }
    assert!(names.len() > 80, "{}", names.len());
    let said = said(&signed, &dns, None);
    assert_eq!(said.lines().count(), names.len());
    let failed: Vec<_> = said
        .lines()
        .filter(|line| !line.ends_with("\tpass"))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// How many sets are added to each message without a chain, as by so many relays.
const SETS: u32 = 2;

#[test]
fn relay_52_relay_53_every_chain_of_ours_passes_with_dkimpy() {
    let pem = generate(Algorithm::RsaSha256).unwrap();
    let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
    let world = tempfile::tempdir().unwrap();
    let (sealed, dns) = (world.path().join("m"), world.path().join("dns.json"));
    std::fs::create_dir(&sealed).unwrap();
    let records = BTreeMap::from([("s._domainkey.relay.example", key.record())]);
    std::fs::write(&dns, serde_json::to_string(&records).unwrap()).unwrap();
    let mut count = 0;
    for message in messages() {
        let is_exception = EXCEPTIONS.iter().any(|(name, _)| message.name == *name);
        // A chain that others began hangs on keys that are not published here.
        if is_exception || worth(&message.octets, &key) != Validity::None {
            continue;
        }
        let mut octets = message.octets;
        for _ in 0..SETS {
            octets = with_set(&octets, &key);
        }
        assert_eq!(worth(&octets, &key), Validity::Pass, "{}", message.name);
        std::fs::write(sealed.join(&message.name), octets).unwrap();
        count += 1;
    }
    assert!(count > 80, "{count}");
    let said = said(&sealed, &dns, Some("arc"));
    let expected = format!("\t{SETS}\tpass");
    let failed: Vec<_> = said.lines().filter(|l| !l.ends_with(&expected)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(said.lines().count(), count);
}

fn worth(message: &[u8], key: &SigningKey) -> Validity {
    let (header, body) = split(message);
    let dns = |_: &str| Txt::Found(vec![key.record()]);
    judge(header, &|take| take(body), &dns).validity
}

/// The message with a DKIM signature and a set in front, as the relay sends it.
fn with_set(message: &[u8], key: &SigningKey) -> Vec<u8> {
    let (header, body) = split(message);
    let dns = |_: &str| Txt::Found(vec![key.record()]);
    let chain = judge(header, &|take| take(body), &dns);
    assert!(may_extend(&chain));
    let mut hasher = BodyHasher::default();
    hasher.update(body);
    let hash = hasher.finish();
    let signature = Signature {
        key,
        domain: "relay.example",
        selector: "s",
        identity: "id",
    };
    let signed = sign(header, &hash, &[signature], 1_700_000_000).unwrap();
    let whole = [&signed, header].concat();
    let sealing = Sealing {
        key,
        domain: "relay.example",
        selector: "s",
        authserv_id: "relay.example",
        results: "",
        names: None,
        time: 1_700_000_000,
    };
    let set = seal(&whole, &hash, &chain, &sealing).unwrap();
    [&set, &signed, message].concat()
}
