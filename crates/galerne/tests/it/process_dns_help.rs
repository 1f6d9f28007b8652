//! Help with the DNS: `galerne keygen`, `dns` and `doctor`, against a real name server.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use galerne_sim::nameserver::{Behaviour, NameServer};
use galerne_sim::sink::{Rule, Sink, Stage};
use galerne_sim::tls::TestCa;
use serde_json::Value;
use tokio::net::UdpSocket;

use crate::process::{Output, Server, Tree, finish};
use crate::tls_explain::{POLICY, policy_server};

/// The sample of the requirements: two addresses, DMARC reports to `dmarc`.
const SAMPLE: &str = "[IP]\n192.0.2.10 = news.example.com\n192.0.2.11 = mta11.example.net\n\
                      [rfrelay]\ndmarcaddr = dmarc\n";
const KEY: &str = "keys/news.example.com dkim id.pem";

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn mode(tree: &Tree, file: &str) -> u32 {
    let data = fs::metadata(tree.path(file)).unwrap();
    data.permissions().mode() & 0o777
}

fn sample() -> Tree {
    let tree = Tree::empty();
    tree.write("galerne.ini", SAMPLE);
    tree
}

/// The strings of a zone line, joined.
fn joined(line: &str) -> String {
    line.split('"').skip(1).step_by(2).collect()
}

/// The public half as OpenSSL knows it: the DER of a SubjectPublicKeyInfo in base64.
fn public_by_openssl(tree: &Tree, file: &str) -> String {
    let output = Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(tree.path(file))
        .output()
        .expect("openssl");
    assert!(output.status.success(), "{output:?}");
    let pem = String::from_utf8(output.stdout).unwrap();
    pem.lines().filter(|l| !l.starts_with('-')).collect()
}

#[test]
fn conf_82_if_6_keygen_writes_a_key_for_its_owner_alone_and_prints_its_record() {
    let tree = sample();
    let made = tree.command("keygen News.Example.com dkim id");
    assert_eq!(made.code, Some(0), "{made:?}");
    assert_eq!(mode(&tree, KEY), 0o600);
    let line = made.stdout.strip_suffix('\n').unwrap();
    assert!(
        line.starts_with("dkim._domainkey.news.example.com.  TXT  \""),
        "{line}"
    );
    assert!(line.split('"').all(|string| string.len() <= 255), "{line}");
    let record = joined(line);
    let public = record.rsplit_once("p=").unwrap().1;
    assert_eq!(public, public_by_openssl(&tree, KEY));
    assert!(
        record.contains("k=rsa;") && public.len() > 380,
        "RSA 2048: {record}"
    );

    // Never over an existing file, nor a second key for the same record.
    let before = tree.read(KEY);
    for line in [
        "keygen news.example.com dkim id",
        "keygen news.example.com DKIM other --ed25519",
    ] {
        let again = tree.command(line);
        assert_eq!(again.code, Some(1), "{again:?}");
        assert_eq!(again.stdout, "");
        assert!(again.stderr.contains(KEY), "{again:?}");
    }
    assert_eq!(tree.read(KEY), before);
    assert_eq!(fs::read_dir(tree.path("keys")).unwrap().count(), 1);

    let check = tree.command("check --no-bind-check");
    assert_eq!(check.code, Some(0), "{check:?}");
    assert_eq!(check.stdout, "", "{check:?}");
}

#[test]
fn conf_80_conf_82_keygen_makes_ed25519_keys_and_default_keys_too() {
    let tree = sample();
    let made = tree.command("keygen news.example.com ed --ed25519 --json");
    assert_eq!(made.code, Some(0), "{made:?}");
    let made = json(&made);
    let file = "keys/news.example.com ed postmaster.pem";
    assert_eq!(made["file"], file);
    assert_eq!(made["record"]["name"], "ed._domainkey.news.example.com.");
    let value = made["record"]["value"].as_str().unwrap();
    // 12 octets of header stand before the 32 of the key, 16 characters of base64.
    let public = public_by_openssl(&tree, file);
    assert!(value.contains("k=ed25519;"), "{value}");
    assert_eq!(value.rsplit_once("p=").unwrap().1, &public[16..]);

    let made = tree.command("keygen .def common id --rsa");
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(
        made.stdout.starts_with("common._domainkey  TXT  "),
        "{made:?}"
    );
    assert_eq!(mode(&tree, "keys/.def common id.pem"), 0o600);

    let names = [
        "nonsense s1",
        "[192.0.2.1] s1",
        "a.example s;1",
        "a.example s1 a@b",
        "../a.example s1",
        "a.example s1 a/../../b",
    ];
    for names in names {
        let made = tree.command(&format!("keygen {names}"));
        assert_eq!(made.code, Some(1), "{names}: {made:?}");
        assert_eq!(made.stdout, "", "{names}");
    }
    assert_eq!(fs::read_dir(tree.path("keys")).unwrap().count(), 2);
    assert_eq!(
        tree.command("keygen a.example s1 --rsa --ed25519").code,
        Some(2)
    );
    assert_eq!(Tree::empty().command("keygen a.example s1").code, Some(1));
}

#[test]
fn conf_83_conf_84_if_7_dns_prints_the_records_of_the_sample() {
    let tree = sample();
    let made = tree.command("keygen news.example.com dkim id");
    let key = made.stdout.split_once("TXT  ").unwrap().1.trim_end();
    let shown = tree.command("dns news.example.com");
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let expected = format!(
        r#"$ORIGIN news.example.com.
@                A    192.0.2.10
@                A    192.0.2.11
@                MX   10 news.example.com.
@                TXT  "v=spf1 ip4:192.0.2.10/31 -all"
@                TXT  "spf2.0/pra ip4:192.0.2.10/31 -all"
dkim._domainkey  TXT  {key}
_dmarc           TXT  "v=DMARC1; p=reject; pct=100; rua=mailto:dmarc@news.example.com"
_mta-sts         TXT  "#
    );
    assert!(shown.stdout.starts_with(&expected), "{shown:?}");
    assert!(
        shown.stdout.contains(
            "\n_smtp._tls       TXT  \"v=TLSRPTv1; rua=mailto:dmarc@news.example.com\"\n"
        ),
        "{shown:?}"
    );
    assert!(
        shown.stdout.contains("\n;   mx: news.example.com\n"),
        "{shown:?}"
    );
    // What the original had wrong: a blank after ip4:, and the test flag.
    assert!(
        !shown.stdout.contains("ip4: ") && !shown.stdout.contains("t=y"),
        "{shown:?}"
    );

    let shown = json(&tree.command("dns NEWS.example.com. --json"));
    assert_eq!(shown["domain"], "news.example.com");
    let records = shown["records"].as_array().unwrap();
    let dkim = records
        .iter()
        .find(|r| r["name"] == "dkim._domainkey.news.example.com");
    assert_eq!(dkim.unwrap()["value"], joined(key));
    assert!(
        shown["mtasts"]["text"]
            .as_str()
            .unwrap()
            .starts_with("version: STSv1\n")
    );

    let wrong = tree.command("dns nonsense");
    assert_eq!((wrong.code, &*wrong.stdout), (Some(1), ""), "{wrong:?}");
}

/// A time server that answers with a clock that is ahead by these seconds.
async fn time_server(ahead: u64) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 48];
        while let Ok((48, peer)) = socket.recv_from(&mut packet).await {
            let sent: [u8; 8] = packet[40..48].try_into().unwrap();
            let now = u64::from_be_bytes(sent)
                .wrapping_add(ahead << 32)
                .to_be_bytes();
            packet[0] = 0x24;
            packet[1] = 2;
            packet[24..32].copy_from_slice(&sent);
            packet[32..40].copy_from_slice(&now);
            packet[40..48].copy_from_slice(&now);
            let _ = socket.send_to(&packet, peer).await;
        }
    });
    address
}

/// A tree with a key, and all that doctor asks: name server, time server, mail host.
struct Clinic {
    tree: Tree,
    names: NameServer,
    clock: SocketAddr,
    host: Sink,
    /// With the MTA-STS policy.
    _policies: Server,
}

impl Clinic {
    async fn new() -> Clinic {
        let tree = Tree::empty();
        let names = NameServer::start("").await.unwrap();
        let host = Sink::bind(tree.place(2)).await.unwrap();
        let (smtp, smtps) = (tree.smtp, tree.smtps);
        let web = tree.place(4);
        let policy =
            "version: STSv1\r\nmode: testing\r\nmx: news.example.com\r\nmax_age: 604800\r\n";
        let policies = policy_server(&tree, web, "news.example.com", policy);
        let main = format!(
            "{SAMPLE}listen = {smtp}/plain {smtps}/tls\n[rfmta]\nconnecttimeout = 5\ncafile = ca.pem\n\
             mtastsport = {}\n[dns]\nresolver = {}\ntimeout = 1\n",
            web.port(),
            names.address()
        );
        tree.write("galerne.ini", &main);
        let made = tree.command("keygen news.example.com dkim id");
        assert_eq!(made.code, Some(0), "{made:?}");
        let clock = time_server(0).await;
        Clinic {
            tree,
            names,
            clock,
            host,
            _policies: policies,
        }
    }

    /// The zone that `galerne dns` asks for, with the reverse zone.
    fn zone(&self) -> String {
        let records = json(&self.tree.command("dns news.example.com --json"));
        let line = |record: &Value| {
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            let value = match record["type"] == "TXT" {
                true => format!("\"{}\"", text("value")),
                false => text("value"),
            };
            format!("{}. {} {value}\n", text("name"), text("type"))
        };
        let lines: String = records["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(line)
            .collect();
        lines
            + &format!("mta-sts.news.example.com. A {}\n", self.tree.ip(4))
            + "mta11.example.net. A 192.0.2.11\n10.2.0.192.in-addr.arpa. PTR news.example.com.\n\
               11.2.0.192.in-addr.arpa. PTR mta11.example.net.\n"
    }

    /// Runs doctor with what is added, beside a task that may serve it.
    async fn doctor(&self, more: &str) -> Output {
        let (probe, clock) = (self.host.address(), self.clock);
        self.doctor_with(&format!(
            "--probe {probe} --clock {clock} --no-bind-check {more}"
        ))
        .await
    }

    async fn doctor_with(&self, more: &str) -> Output {
        let line = format!("doctor {more}");
        let command = self.tree.galerne(line.split_whitespace());
        tokio::task::spawn_blocking(|| finish(command, ""))
            .await
            .unwrap()
    }

    /// Severity and text by check and subject.
    async fn found(&self) -> BTreeMap<String, (String, String)> {
        let output = self.doctor("--json").await;
        let document = json(&output);
        let findings = document["findings"].as_array().unwrap().iter();
        let one = |f: &Value| {
            let text = |name: &str| f[name].as_str().unwrap().to_owned();
            let key = format!("{} {}", text("check"), text("subject"));
            (key, (text("severity"), text("found")))
        };
        findings.map(one).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_6_conf_83_doctor_is_content_with_what_dns_and_keygen_print() {
    let clinic = Clinic::new().await;
    clinic.names.set_zone(&clinic.zone()).unwrap();
    let output = clinic.doctor("").await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("0 to act on, "), "{output:?}");
    for line in [
        "ok     ptr      192.0.2.10: news.example.com\n",
        "ok     ptr      192.0.2.11: mta11.example.net\n",
        "ok     ehlo     mta11.example.net: leads back to 192.0.2.11\n",
        "ok     spf      news.example.com: v=spf1 ip4:192.0.2.10/31 -all\n",
        "ok     dkim     dkim._domainkey.news.example.com: the record is that of our key\n",
        "ok     dmarc    news.example.com: v=DMARC1; p=reject; ",
        "ok     mx       news.example.com: 10 news.example.com, which is here\n",
        "ok     mta-sts  _mta-sts.news.example.com: v=STSv1; id=",
        "ok     mta-sts  https://mta-sts.news.example.com/.well-known/mta-sts.txt: mode testing, names every MX\n",
        "ok     tls-rpt  _smtp._tls.news.example.com: v=TLSRPTv1; ",
        "ok     key      keys/news.example.com dkim id.pem: mode 0600\n",
        "ok     clock    clock: 0.",
        "ok     port25   192.0.2.10: reaches ",
        "ok     disk     ",
        "ok     files    ",
    ] {
        assert!(output.stdout.contains(line), "{line:?}: {output:?}");
    }
    let listening = format!("ok     listen   {}: free\n", clinic.tree.smtp);
    assert!(output.stdout.contains(&listening), "{output:?}");
    assert!(
        output
            .stdout
            .contains("advice cert     news.example.com: no certificate"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_6_conf_83_conf_85_doctor_finds_what_is_missing_or_wrong_in_the_zone() {
    let clinic = Clinic::new().await;
    let right = clinic.zone();
    clinic.names.set_zone("news.example.com. EXISTS").unwrap();
    let found = clinic.found().await;
    let severity = |found: &BTreeMap<String, (String, String)>, key: &str| {
        let finding = found.get(key);
        finding
            .unwrap_or_else(|| panic!("{key}: {found:#?}"))
            .0
            .clone()
    };
    let (dkim, sts) = (
        "dkim dkim._domainkey.news.example.com",
        "mta-sts _mta-sts.news.example.com",
    );
    for key in [
        "ptr 192.0.2.10",
        "ehlo news.example.com",
        "mx news.example.com",
        "spf news.example.com",
        dkim,
        "dmarc news.example.com",
    ] {
        assert_eq!(severity(&found, key), "act", "{key}");
    }
    assert_eq!(severity(&found, sts), "advice");
    assert_eq!(clinic.doctor("").await.code, Some(1));

    // Wrong, one by one; all else is right and stays so.
    for (from, to, key, says) in [
        (
            "PTR mta11.example.net.",
            "PTR host11.isp.example.",
            "ptr 192.0.2.11",
            "host11.isp.example",
        ),
        (
            "mta11.example.net. A 192.0.2.11",
            "mta11.example.net. A 192.0.2.12",
            "ehlo mta11.example.net",
            "192.0.2.12",
        ),
        (
            "ip4:192.0.2.10/31",
            "ip4:192.0.2.10",
            "spf news.example.com",
            "does not name 192.0.2.11",
        ),
        (
            "ip4:192.0.2.10/31",
            "ip4: 192.0.2.10/31",
            "spf news.example.com",
            "no term of SPF: ip4:",
        ),
        (
            "v=spf1 ip4:192.0.2.10/31",
            "v=spf1 include:lost.example",
            "spf news.example.com",
            "lost.example has no SPF record",
        ),
        ("; p=MII", "; p=XII", dkim, "another key: "),
        (
            "mailto:dmarc@",
            "mailto:nobody@",
            "dmarc news.example.com",
            "whose reports to nobody nobody takes",
        ),
        (
            "MX 10 news.example.com.",
            "NULLMX",
            "mx news.example.com",
            "takes no mail (null MX)",
        ),
    ] {
        clinic.names.set_zone(&right.replace(from, to)).unwrap();
        let found = clinic.found().await;
        assert_eq!(severity(&found, key), "act", "{to}: {found:#?}");
        assert!(found[key].1.contains(says), "{to}: {:?}", found[key]);
        let others = found
            .iter()
            .filter(|(other, (s, _))| s == "act" && *other != key);
        assert_eq!(others.count(), 0, "{to}: {found:#?}");
    }
    // By other ways the same addresses pass.
    let roundabout = right.replace(
        "v=spf1 ip4:192.0.2.10/31",
        "v=spf1 a:mta11.example.net mx/30",
    ) + "more.example. TXT \"v=spf1 ip4:192.0.2.11 ?all\"\n";
    clinic.names.set_zone(&roundabout).unwrap();
    assert_eq!(
        severity(&clinic.found().await, "spf news.example.com"),
        "ok"
    );
    let included = roundabout.replace("a:mta11.example.net mx/30", "include:more.example mx");
    clinic.names.set_zone(&included).unwrap();
    assert_eq!(
        severity(&clinic.found().await, "spf news.example.com"),
        "ok"
    );
    let looping = right.replace(
        "v=spf1 ip4:192.0.2.10/31",
        "v=spf1 include:news.example.com",
    );
    clinic.names.set_zone(&looping).unwrap();
    let found = clinic.found().await;
    assert!(
        found["spf news.example.com"]
            .1
            .contains("more than 10 look-ups"),
        "{found:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_6_doctor_without_a_network_says_so_and_comes_to_an_end() {
    let clinic = Clinic::new().await;
    clinic.names.behave(Behaviour::Silent);
    let timeless = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let clock = timeless.local_addr().unwrap();
    // Nobody is named: the well-known ones cannot be found.
    let output = clinic
        .doctor_with(&format!("--clock {clock} --no-bind-check"))
        .await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output
            .stdout
            .contains("act    port25   others: not reachable: "),
        "{output:?}"
    );
    assert!(
        output
            .stdout
            .contains("act    spf      news.example.com: no answer: "),
        "{output:?}"
    );
    assert!(output.stdout.contains(" clock    clock: "), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_6_doctor_tells_a_closed_port_25_from_a_host_that_refuses_us() {
    let clinic = Clinic::new().await;
    clinic.names.set_zone(&clinic.zone()).unwrap();
    let closed = clinic.tree.place(3);
    let output = clinic
        .doctor_with(&format!(
            "--probe {closed} --clock {} --no-bind-check",
            clinic.clock
        ))
        .await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let expected =
        format!("act    port25   192.0.2.10: not reachable: {closed}: Connection refused");
    assert!(output.stdout.contains(&expected), "{output:?}");
    clinic
        .host
        .rule(Rule::at(Stage::Connect).reply("554 5.7.1 no mail from you"));
    let output = clinic.doctor("").await;
    let refused = format!(
        "{} refuses us: 554 5.7.1 no mail from you",
        clinic.host.address()
    );
    assert!(output.stdout.contains(&refused), "{output:?}");
    let wrong = clinic
        .doctor_with(&format!("--probe lost.example --clock {}", clinic.clock))
        .await;
    assert!(
        wrong.stdout.contains("lost.example has no address"),
        "{wrong:?}"
    );
    // The addresses of the sample are not on this host.
    assert!(
        wrong
            .stdout
            .contains("act    address  192.0.2.10: not an address of this host\n"),
        "{wrong:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_6_conf_95_doctor_looks_at_key_files_ports_and_the_clock() {
    let mut clinic = Clinic::new().await;
    clinic.names.set_zone(&clinic.zone()).unwrap();
    fs::set_permissions(clinic.tree.path(KEY), fs::Permissions::from_mode(0o644)).unwrap();
    let taken = TcpListener::bind(clinic.tree.smtp).unwrap();
    clinic.clock = time_server(3600).await;
    let found = clinic.found().await;
    let act: Vec<&String> = found
        .iter()
        .filter(|(_, (s, _))| s == "act")
        .map(|(k, _)| k)
        .collect();
    let listen = format!("listen {}", clinic.tree.smtp);
    assert_eq!(
        act,
        ["clock clock", &format!("key {KEY}"), &listen],
        "{found:#?}"
    );
    // The server answers by our own stamp: half of the way there and back is missing, which on a
    // busy machine is more than the tenth that is printed.
    let (offset, _) = found["clock clock"].1.split_once(" s from ").unwrap();
    let offset: f64 = offset.parse().unwrap();
    assert!((3590.0..=3600.0).contains(&offset), "{found:#?}");
    assert_eq!(found[&format!("key {KEY}")].1, "mode 0644");
    drop(taken);

    // Our own server is no stranger.
    let server = clinic.tree.run_with(["--no-bind-check"]);
    let found = clinic.found().await;
    assert_eq!(
        found[&listen],
        ("ok".to_owned(), "taken; the server runs".to_owned())
    );
    assert_eq!(server.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_6_if_7_doctor_counts_configuration_errors_and_prints_one_document() {
    let bare = Tree::new("[dns]\nresolver = 127.0.0.1:9\ntimeout = 1\n");
    let nobody = bare.command("doctor --probe 127.0.0.1:9 --clock 127.0.0.1:9");
    assert!(
        nobody
            .stdout
            .contains("advice domains  sender domains: the configuration names none"),
        "{nobody:?}"
    );

    let tree = Tree::new("[relay]\nmaxhop = 99\n");
    let output = tree.command("doctor --json");
    assert_eq!(output.code, Some(1), "{output:?}");
    let document = json(&output);
    assert_eq!(document["act"], 1);
    let finding = &document["findings"][0];
    assert_eq!(finding["check"], "config");
    assert_eq!(finding["subject"], "galerne.ini:6");
    assert_eq!(finding["severity"], "act");
    assert_eq!(Tree::empty().command("doctor").code, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_17_doctor_fetches_the_policies_that_our_domains_announce() {
    let clinic = Clinic::new().await;
    let zone = clinic.zone();
    clinic.names.set_zone(&zone).unwrap();
    let key = "mta-sts https://mta-sts.news.example.com/.well-known/mta-sts.txt";
    let right = clinic.tree.read(POLICY);
    for (text, severity, says) in [
        (right.clone(), "ok", "mode testing, names every MX"),
        (
            right.replace("testing", "enforce"),
            "ok",
            "mode enforce, names every MX",
        ),
        (
            right.replace("mx: news", "mx: old"),
            "advice",
            "does not name the MX news.example.com",
        ),
        (
            right
                .replace("mx: news", "mx: old")
                .replace("testing", "enforce"),
            "act",
            "does not name the MX news.example.com: others do not send there",
        ),
        (
            right.replace("STSv1", "STSv9"),
            "act",
            "no policy: the version is not STSv1",
        ),
    ] {
        clinic.tree.write(POLICY, &text);
        let found = clinic.found().await;
        assert_eq!(found[key].0, severity, "{text}: {found:#?}");
        assert!(found[key].1.contains(says), "{text}: {:?}", found[key]);
    }
    // A certificate for another name, and no host at all.
    clinic.tree.write(POLICY, &right);
    clinic.tree.write("ca.pem", &TestCa::new().pem());
    let found = clinic.found().await;
    assert_eq!(found[key].0, "act", "{found:#?}");
    assert!(
        found[key].1.contains("cannot be fetched: "),
        "{:?}",
        found[key]
    );
    let lost = zone.replace("mta-sts.news.example.com. A", "elsewhere.example.com. A");
    clinic.names.set_zone(&lost).unwrap();
    let found = clinic.found().await;
    assert!(found[key].1.contains("has no address"), "{:?}", found[key]);
    // Not announced: only that is said.
    let quiet: String = zone
        .lines()
        .filter(|l| !l.contains("STSv1"))
        .map(|l| format!("{l}\n"))
        .collect();
    clinic.names.set_zone(&quiet).unwrap();
    let found = clinic.found().await;
    assert!(!found.contains_key(key), "{found:#?}");
    assert_eq!(found["mta-sts _mta-sts.news.example.com"].0, "advice");
}
