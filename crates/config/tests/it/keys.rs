//! The keys of `keys/`.

use galerne_core::keys::{Algorithm, KeyOwner};

use crate::world::{World, lines};

#[test]
fn conf_79_conf_80_conf_81_keys_are_read_by_their_names() {
    let world = World::new();
    world
        .write("keys/Example.com s1 postmaster.pem", "rsa 2048\n")
        .write("keys/example.com s2 id.pem", "ed25519\n")
        .write("keys/.def dkim id.pem", "rsa 4096")
        .write("keys/notes.txt", "free text");
    let keys = world.settings().keys;
    let shown: Vec<_> = keys
        .iter()
        .map(|key| (&*key.file, key.algorithm, &*key.pem.0))
        .collect();
    assert_eq!(
        shown,
        [
            ("keys/.def dkim id.pem", Algorithm::RsaSha256, "rsa 4096"),
            (
                "keys/Example.com s1 postmaster.pem",
                Algorithm::RsaSha256,
                "rsa 2048\n"
            ),
            (
                "keys/example.com s2 id.pem",
                Algorithm::Ed25519Sha256,
                "ed25519\n"
            ),
        ]
    );
    assert_eq!(keys[0].name.owner, KeyOwner::Default);
    assert_eq!(keys[1].name.owner, KeyOwner::Domain("example.com".into()));
}

#[test]
fn conf_81_what_is_no_key_or_a_short_one_is_reported() {
    let world = World::new();
    world
        .write("keys/example.com s1 id.pem", "rsa 1024")
        .write("keys/example.com s2 id.pem", "nonsense")
        .write("keys/example.com s3.pem", "rsa 2048");
    let loaded = world.load();
    assert_eq!(
        lines(&loaded),
        [
            "keys/example.com s1 id.pem:1: warning: [-] -: RSA key of 1024 bits; expected at least 2048",
            "keys/example.com s2 id.pem:1: error: [-] -: not a private key in PEM form; the key is not used",
            "keys/example.com s3.pem:1: error: [-] -: the name is not `<domain> <selector> <id>.pem`, parted by single blanks; the key is not used",
        ]
    );
    assert_eq!(loaded.settings.unwrap().keys.len(), 1);
}
