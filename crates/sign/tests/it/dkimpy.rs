//! Every message, signed with RSA and Ed25519 at once, verifies elsewhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use galerne_sign::key::generate;
use galerne_sign::{Algorithm, BodyHasher, Signature, SigningKey, sign};

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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/verify.py");
    let output = Command::new(python())
        .arg(script)
        .args([&signed, &dns])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), names.len());
    let failed: Vec<_> = said
        .lines()
        .filter(|line| !line.ends_with("\tpass"))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
