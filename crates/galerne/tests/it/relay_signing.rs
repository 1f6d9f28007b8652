//! Signatures over the whole server: who signs, with what, and that it holds at the other end
//! (RELAY-48 to RELAY-53, CONF-79 to CONF-81).

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use galerne_sign::key::generate;
use galerne_sign::{Algorithm, SigningKey, Txt, arc, split, verify};
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use galerne_store::MemoryQueue;

use crate::world::{MESSAGE, World, directed};

/// Keys by their file names, as files of a world and as records.
struct Keys {
    files: String,
    records: Vec<(String, String)>,
}

fn keys(names: &[(&str, Algorithm)]) -> Keys {
    let mut keys = Keys {
        files: String::new(),
        records: Vec::new(),
    };
    for (name, algorithm) in names {
        let pem = generate(*algorithm).unwrap();
        let record = SigningKey::from_pem(pem.as_bytes()).unwrap().record();
        keys.files.push_str(&format!("== keys/{name}\n{pem}"));
        let mut parts = name.split(' ');
        let (domain, selector) = (parts.next().unwrap(), parts.next().unwrap());
        // The record of the default key stands at every domain.
        let domain = domain.trim_start_matches(".def");
        keys.records
            .push((format!("{selector}._domainkey.{domain}"), record));
    }
    keys
}

impl Keys {
    fn dns(&self, name: &str) -> Txt {
        let found = self.records.iter().find(|(at, _)| name.starts_with(at));
        found.map_or(Txt::None, |(_, record)| Txt::Found(vec![record.clone()]))
    }

    /// What another implementation says: the number of signatures, and of each whether it holds.
    fn dkimpy(&self, message: &[u8]) -> String {
        const SCRIPT: &str = "import dkim, json, sys
records = dict(json.loads(sys.argv[1]))
find = lambda name, timeout=5: records.get(name.decode().rstrip('.'), '').encode()
judge = dkim.DKIM(sys.stdin.buffer.read())
count = sum(1 for name, _ in judge.headers if name.lower() == b'dkim-signature')
def holds(index):
    try:
        return judge.verify(idx=index, dnsfunc=find)
    except dkim.DKIMException:
        return False
print(count, *[holds(index) for index in range(count)])";
        let has = |python: &&&str| {
            let mut command = Command::new(python);
            let found = command.args(["-c", "import dkim, nacl"]).output();
            found.is_ok_and(|output| output.status.success())
        };
        let python = ["python3", "/usr/bin/python3"];
        let python = python.iter().find(has);
        let python = python.expect("Debian's python3-dkim and python3-nacl are not installed");
        let records = serde_json::to_string(&self.records).unwrap();
        let mut judge = Command::new(python)
            .args(["-c", SCRIPT, &records])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        judge.stdin.take().unwrap().write_all(message).unwrap();
        let output = judge.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `d=` and algorithm of each signature; all must verify.
    fn signatures(&self, message: &[u8]) -> Vec<String> {
        let results = verify(message, &|name| self.dns(name));
        assert!(
            results.iter().all(Result::is_ok),
            "{results:?}\n{}",
            String::from_utf8_lossy(message)
        );
        let header = String::from_utf8_lossy(split(message).0).into_owned();
        let fields = header.split("DKIM-Signature: ").skip(1);
        let shown = fields.map(|field| {
            let tag = |name: &str| {
                let at = field.find(&format!("{name}=")).unwrap() + name.len() + 1;
                field[at..].split(';').next().unwrap().to_owned()
            };
            format!("{} {}", tag("d"), tag("a"))
        });
        let shown: Vec<String> = shown.collect();
        assert_eq!(shown.len(), results.len());
        shown
    }
}

const RSA: Algorithm = Algorithm::RsaSha256;
const ED: Algorithm = Algorithm::Ed25519Sha256;

fn arrived(sink: &Sink) -> Vec<u8> {
    sink.messages().last().unwrap().content.clone()
}

#[tokio::test(start_paused = true)]
async fn relay_51_relay_22_one_field_in_front_and_all_else_as_it_was() {
    let keys = keys(&[("example.com s1 postmaster.pem", RSA)]);
    let world = World::new(&keys.files);
    let mx = world.mx("example.org", "198.51.100.25");
    let directive = directed(r#"{"message":{"ref":"order-1"}}"#);
    for content in [MESSAGE.to_owned(), directive] {
        assert!(
            world
                .send(&["anna@example.org"], &content)
                .await
                .starts_with("250 ")
        );
        let message = arrived(&mx);
        let text = String::from_utf8(message.clone()).unwrap();
        // The directive is gone before the body is hashed.
        assert!(text.ends_with(MESSAGE), "{text}");
        let front = text.strip_suffix(MESSAGE).unwrap();
        assert!(front.starts_with("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;"));
        assert!(front.contains("i=postmaster@example.com;"));
        assert!(front.contains("h=From:From:Subject:To;"));
        assert_eq!(keys.signatures(&message), ["example.com rsa-sha256"]);
    }
}

#[tokio::test(start_paused = true)]
async fn relay_48_relay_51_conf_81_both_domains_and_both_algorithms_at_once() {
    let keys = keys(&[
        ("example.com s1 id.pem", RSA),
        ("example.com s2 id.pem", ED),
        ("bounces.example s1 id.pem", RSA),
    ]);
    let world = World::new(&keys.files);
    let mx = world.mx("example.org", "198.51.100.25");
    let directive = r#"{"routing":{"sign":"both","envelopefrom":"b@bounces.example"}}"#;
    let content = directed(directive);
    assert!(
        world
            .send(&["anna@example.org"], &content)
            .await
            .starts_with("250 ")
    );
    assert_eq!(
        keys.signatures(&arrived(&mx)),
        [
            "example.com rsa-sha256",
            "example.com ed25519-sha256",
            "bounces.example rsa-sha256"
        ]
    );
    for (sign, expected) in [
        (r#""envelope""#, "bounces.example rsa-sha256"),
        ("false", ""),
        (r#""none""#, ""),
    ] {
        let directive =
            format!(r#"{{"routing":{{"sign":{sign},"envelopefrom":"b@bounces.example"}}}}"#);
        let content = directed(&directive);
        assert!(
            world
                .send(&["anna@example.org"], &content)
                .await
                .starts_with("250 ")
        );
        assert_eq!(keys.signatures(&arrived(&mx)).join(" "), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn conf_80_the_default_key_signs_for_the_sender_domain() {
    let keys = keys(&[(".def dkim id.pem", ED)]);
    let world = World::new(&keys.files);
    let mx = world.mx("example.org", "198.51.100.25");
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!(
        keys.signatures(&arrived(&mx)),
        ["example.com ed25519-sha256"]
    );
}

#[tokio::test(start_paused = true)]
async fn relay_50_without_a_key_unsigned_and_logged_once_or_refused_when_demanded() {
    let world = World::new("");
    let mx = world.mx("example.org", "198.51.100.25");
    for _ in 0..3 {
        assert!(world.relay("anna@example.org").await.starts_with("250 "));
    }
    assert_eq!(arrived(&mx), MESSAGE.as_bytes());
    let notes = world.notes();
    let told = notes
        .iter()
        .filter(|note| note.contains("no signing key for example.com"));
    assert_eq!(told.count(), 1, "{notes:?}");
    let content = directed(r#"{"routing":{"sign":"from"}}"#);
    assert_eq!(
        world.send(&["anna@example.org"], &content).await,
        "451 9.1.6 X-SMTP-R-API routing.sign: no signing key for example.com"
    );
    assert_eq!(mx.messages().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn relay_51_a_spilled_body_is_signed_whole_and_once_for_all_destinations() {
    let keys = keys(&[
        ("example.com s1 id.pem", RSA),
        ("example.com s2 id.pem", ED),
    ]);
    let world = World::new(&keys.files);
    let org = world.mx("example.org", "198.51.100.25");
    let net = world.mx("example.net", "198.51.100.26");
    let content = format!(
        "{MESSAGE}{}",
        "A line of some length, as there are many. \r\n".repeat(20_000)
    );
    let reply = world
        .send(&["anna@example.org", "bert@example.net"], &content)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let message = arrived(&org);
    assert!(message.ends_with(content.as_bytes()));
    assert_eq!(keys.signatures(&message).len(), 2);
    assert_eq!(message, arrived(&net), "the same octets, signed once");
}

#[tokio::test(start_paused = true)]
async fn relay_51_a_second_hop_sends_the_same_signature() {
    let keys = keys(&[("example.com s1 id.pem", RSA)]);
    let patterns = "== domains/@.ini\n[pattern]\nlisted = FLOW(block) 554 *listed\n";
    let world = World::new(&format!("{}{patterns}", keys.files));
    let mx = world.mx_with("example.org", "198.51.100.25", SinkOptions::default());
    mx.rule(Rule::at(Stage::Dot).times(1).reply("554 5.7.1 listed"));
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    assert_eq!(world.hops().len(), 2);
    assert_eq!(keys.signatures(&arrived(&mx)), ["example.com rsa-sha256"]);
}

#[tokio::test(start_paused = true)]
async fn relay_52_relay_53_an_arc_set_is_added_when_the_user_file_asks_and_the_seal_stands_first() {
    let keys = keys(&[("example.com s1 id.pem", RSA)]);
    let user = "== users/demo.ini\n[routing]\narc = 1\n";
    let world = World::new(&format!("{}{user}", keys.files));
    let (name, record) = &keys.records[0];
    let mx = world.mx("example.org", "198.51.100.25");
    world.zone(&format!("{name}. TXT \"{record}\""));
    let mut content = MESSAGE.to_owned();
    for sets in 1..=3 {
        assert!(
            world
                .send(&["anna@example.org"], &content)
                .await
                .starts_with("250 ")
        );
        let message = arrived(&mx);
        let text = String::from_utf8(message.clone()).unwrap();
        assert!(text.starts_with("ARC-Seal: "), "{text}");
        assert!(text.ends_with(&content), "nothing else is touched");
        let (header, body) = split(&message);
        let chain = arc::judge(header, &|take| take(body), &|name| keys.dns(name));
        assert_eq!(
            (chain.validity, chain.sets),
            (arc::Validity::Pass, sets),
            "{text}"
        );
        let worth = if sets == 1 { "none" } else { "pass" };
        let results =
            format!("ARC-Authentication-Results: i={sets}; mta10.example.net; arc={worth}");
        assert!(text.contains(&results), "{text}");
        content = text;
    }
    // A chain that was broken gets one set that says so, and no other.
    let broken = content.replace("Subject: Your order", "Subject: My order");
    assert!(
        world
            .send(&["anna@example.org"], &broken)
            .await
            .starts_with("250 ")
    );
    let closed = String::from_utf8(arrived(&mx)).unwrap();
    assert!(closed.contains("cv=fail; d=example.com; i=4;"), "{closed}");
    assert!(
        world
            .send(&["anna@example.org"], &closed)
            .await
            .starts_with("250 ")
    );
    let again = String::from_utf8(arrived(&mx)).unwrap();
    assert!(!again.contains("i=5;"), "{again}");
    let notes = world.notes();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("no ARC set: the chain")),
        "{notes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_53_relay_48_what_is_forwarded_is_sealed_and_nothing_with_a_key_that_the_account_may_not_use()
 {
    let keys = keys(&[
        ("example.com s1 id.pem", RSA),
        ("brand.example s1 id.pem", RSA),
    ]);
    let user = "== users/demo.ini\n[routing]\narc = 1\n";
    let world = World::new(&format!("{}{user}", keys.files));
    let mx = world.mx("example.org", "198.51.100.25");
    let forwarded = MESSAGE.replace("orders@example.com", "somebody@stranger.example");
    let sealed = |message: &[u8]| {
        let (header, body) = split(message);
        let chain = arc::judge(header, &|take| take(body), &|name| keys.dns(name));
        (chain.validity, chain.sets)
    };
    // No key for the From domain: no signature, and a seal of the envelope's domain.
    let reply = world.send(&["anna@example.org"], &forwarded).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let message = arrived(&mx);
    assert_eq!(sealed(&message), (arc::Validity::Pass, 1));
    assert!(keys.signatures(&message).is_empty());
    let text = String::from_utf8(message).unwrap();
    assert!(text.contains("; d=example.com;"), "{text}");
    // `sign = 0` is about DKIM alone.
    let unsigned = directed(r#"{"routing":{"sign":"none"}}"#);
    world.send(&["anna@example.org"], &unsigned).await;
    assert_eq!(sealed(&arrived(&mx)), (arc::Validity::Pass, 1));
    // Neither domain is one of the account's.
    world.reload("== users/demo.ini\n[account]\nauthorizedsender = brand.example\n");
    let order = MESSAGE.replace(
        "Subject:",
        "X-SMTP-R-API: {\"routing\":{\"envelopefrom\":\"b@brand.example\"}}\r\nSubject:",
    );
    world.send(&["anna@example.org"], &order).await;
    let text = String::from_utf8(arrived(&mx)).unwrap();
    assert!(!text.contains("d=example.com"), "{text}");
    assert!(
        text.starts_with("ARC-Seal: ") && text.contains("d=brand.example"),
        "{text}"
    );
    std::fs::remove_file(world.root().join("keys/brand.example s1 id.pem")).unwrap();
    world.reload("");
    world.send(&["anna@example.org"], &order).await;
    assert_eq!(arrived(&mx), MESSAGE.as_bytes());
    let notes = world.notes();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("no ARC set: neither")),
        "{notes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn relay_53_while_name_servers_keep_silent_nothing_is_said_of_the_chain() {
    let keys = keys(&[("example.com s1 id.pem", RSA)]);
    let user = "== users/demo.ini\n[routing]\narc = 1\n";
    let world = World::new(&format!("{}{user}", keys.files));
    let (name, record) = &keys.records[0];
    let mx = world.mx("example.org", "198.51.100.25");
    world.zone(&format!("{name}. TXT \"{record}\""));
    assert!(world.relay("anna@example.org").await.starts_with("250 "));
    let first = String::from_utf8(arrived(&mx)).unwrap();
    assert!(
        first.starts_with("ARC-Seal: ") && !first.contains("i=2;"),
        "{first}"
    );
    // The key is looked up: without an answer no second set, and the message goes all the same.
    world.only_zone(&format!("{name}. SERVFAIL TXT"));
    let mx = world.mx("example.org", "198.51.100.26");
    let reply = world.send(&["anna@example.org"], &first).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let again = String::from_utf8(arrived(&mx)).unwrap();
    assert!(
        again.ends_with(&first) && !again.contains("i=2;"),
        "{again}"
    );
    assert!(again.starts_with("DKIM-Signature: "), "{again}");
    let notes = world.notes();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("no ARC set: the chain of 1 is ")),
        "{notes:?}"
    );
    // A record that is not there breaks it, and that is said once.
    world.only_zone("");
    let mx = world.mx("example.org", "198.51.100.27");
    world.send(&["anna@example.org"], &first).await;
    let broken = String::from_utf8(arrived(&mx)).unwrap();
    assert!(
        broken.contains("cv=fail;") && broken.contains("i=2;"),
        "{broken}"
    );
}

#[tokio::test(start_paused = true)]
async fn ret_38_relay_20_a_notification_is_signed_by_the_domain_of_its_from() {
    let keys = keys(&[("example.com s1 id.pem", RSA)]);
    let world = World::new(&keys.files);
    world.mx("example.org", "198.51.100.25");
    let net = world.mx("example.net", "198.51.100.26");
    let home = world.mx("example.com", "198.51.100.27");
    net.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    let reply = world
        .send(&["anna@example.org", "bert@example.net"], MESSAGE)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(keys.signatures(&arrived(&home)), ["example.com rsa-sha256"]);
}

#[tokio::test(start_paused = true)]
async fn ret_38_a_notification_out_of_the_queue_is_signed_and_verifies_elsewhere() {
    let keys = keys(&[
        ("example.com s1 id.pem", RSA),
        ("example.com s2 id.pem", ED),
    ]);
    let config = format!(
        "[relay]\nmode = queue\n== domains/@.ini\n[pattern]\nunknown = HARD(no user) 550 5.1.1 *\n{}",
        keys.files
    );
    let world = World::with_queue(&config, Arc::new(MemoryQueue::default()));
    let mx = world.mx("example.org", "198.51.100.25");
    let home = world.mx("example.com", "198.51.100.27");
    mx.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
    let reply = world.send(&["bert@example.org"], MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    world.queued().empty().await;
    let notification = arrived(&home);
    let text = String::from_utf8_lossy(&notification).into_owned();
    assert!(text.contains("report-type=delivery-status"), "{text}");
    let both = ["example.com rsa-sha256", "example.com ed25519-sha256"];
    assert_eq!(keys.signatures(&notification), both);
    assert_eq!(keys.dkimpy(&notification), "2 True True");
    let spoilt = text.replace("Status: 5.1.1", "Status: 5.1.2");
    assert_ne!(keys.dkimpy(spoilt.as_bytes()), "2 True True");
}
