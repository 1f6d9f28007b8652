//! The keys of `keys/`.

use galerne_core::keys::{Algorithm, KeyOwner};

use crate::world::{World, lines};

/// A main file that lacks nothing for a domain that signs.
const SIGNING: &str = "[IP]\n192.0.2.10 = news.example.com\n[rfrelay]\ndmarcaddr = dmarc\n";

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
        .write("galerne.ini", SIGNING)
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

#[test]
fn conf_85_check_warns_when_nobody_would_read_the_reports_of_a_domain_that_signs() {
    let world = World::new();
    world.write("keys/example.com s1 id.pem", "rsa 2048");
    let expected = "galerne.ini:1: warning: [rfrelay] dmarcaddr: no local part for DMARC reports, \
                    although keys/ signs for example.com; expected the one that its DMARC record \
                    names in rua, such as dmarc";
    assert_eq!(lines(&world.load()), [expected]);
    world.write("galerne.ini", SIGNING);
    assert_eq!(lines(&world.load()), [""; 0]);
    let settings = world.settings();
    assert_eq!(settings.rfrelay.dmarcaddr, ["dmarc"]);
    // A default key signs for whoever comes: no domain to warn of.
    let world = World::new();
    world.write("keys/.def s1 id.pem", "rsa 2048");
    assert_eq!(lines(&world.load()), [""; 0]);
}

#[test]
fn conf_85_an_address_for_both_kinds_of_reports_gets_a_warning() {
    let world = World::new();
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.10 = news.example.com\n[rfrelay]\ndmarcaddr = dmarc Reports\nfbladdr = fbl reports\n",
    );
    let loaded = world.load();
    let expected = "galerne.ini:5: warning: [rfrelay] fbladdr: reports stands in dmarcaddr too: its \
                    mail is taken for DMARC reports";
    assert!(
        lines(&loaded).contains(&expected.to_owned()),
        "{:?}",
        lines(&loaded)
    );
    assert_eq!(loaded.settings.unwrap().rfrelay.fbladdr, ["fbl", "reports"]);
}

#[test]
fn conf_27_check_warns_where_dane_is_asked_for_and_dnssec_is_off() {
    let world = World::new();
    let load = |more: &str| {
        let main = format!("[IP]\n192.0.2.10 = news.example.com\n{more}");
        world.write("galerne.ini", main);
        lines(&world.load())
    };
    let expected = |why: &str| {
        format!(
            "galerne.ini:4: warning: [rfmta] dane: DANE is never applied: [dns] dnssec is {why}; \
             expected dnssec = validate, or trust-ad with a validating resolver that is trusted"
        )
    };
    let asked = "[rfmta]\ndane = 1\n[dns]\n";
    assert_eq!(load(&format!("{asked}dnssec = off\n")), [expected("off")]);
    let unset = "off where a resolver is not loopback and it is unset";
    let far = load(&format!("{asked}resolver = 192.0.2.53 127.0.0.1\n"));
    assert_eq!(far, [expected(unset)]);
    for good in [
        format!("{asked}dnssec = validate\nresolver = 192.0.2.53\n"),
        format!("{asked}dnssec = trust-ad\nresolver = 192.0.2.53\n"),
        format!("{asked}resolver = 127.0.0.1\n"),
        asked.to_owned(),
        "[rfmta]\ndane = 0\n[dns]\ndnssec = off\n".to_owned(),
        // Nobody asked.
        "[dns]\ndnssec = off\n".to_owned(),
    ] {
        assert_eq!(load(&good), [""; 0], "{good}");
    }
}
