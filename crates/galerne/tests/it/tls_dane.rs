//! DANE with name servers that others wrote: a BIND with signed zones, asked directly by our own
//! validation, and through a BIND that validates (T-16, CONF-27).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use galerne_sim::sink::{Sink, SinkOptions};
use galerne_sim::tls::{TestCa, TestCertificate};

use crate::postfix::tool;
use crate::process::{Server, Tree, finish, until};

/// A record that is about no certificate.
const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";

fn done(command: &mut Command, input: &str) -> String {
    let command = std::mem::replace(command, Command::new("true"));
    let output = finish(command, input);
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout
}

/// The digest of a certificate's key, by OpenSSL.
fn digest(tree: &Tree, certificate: &TestCertificate) -> String {
    let (pem, key) = (tree.path("leaf.pem"), tree.path("leaf.der"));
    fs::write(&pem, &certificate.chain_pem).unwrap();
    let mut command = tool("openssl");
    command.args(["x509", "-noout", "-pubkey", "-in"]).arg(&pem);
    let public = done(&mut command, "");
    let mut command = tool("openssl");
    command
        .args(["pkey", "-pubin", "-outform", "DER", "-out"])
        .arg(&key);
    done(&mut command, &public);
    let mut command = tool("openssl");
    command.args(["dgst", "-sha256", "-r"]).arg(&key);
    done(&mut command, "")
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned()
}

/// A signed root, the signed zone example.org, and an unsigned one below it.
struct Zones {
    folder: PathBuf,
    /// The file with the key of the root that signs keys.
    anchor: PathBuf,
}

impl Zones {
    fn sign(tree: &Tree, port: u16, digest: &str) -> Zones {
        let folder = tree.path("bind");
        fs::create_dir_all(&folder).unwrap();
        let key = |zone: &str, kind: &[&str]| {
            let mut command = tool("dnssec-keygen");
            command.current_dir(&folder);
            command.args(["-q", "-a", "ECDSAP256SHA256"]).args(kind);
            done(command.arg(zone), "").trim().to_owned()
        };
        for zone in ["example.org", "."] {
            key(zone, &[]);
        }
        key("example.org", &["-f", "KSK"]);
        let anchor = folder.join(format!("{}.key", key(".", &["-f", "KSK"])));
        let sign = |zone: &str, file: &str, text: &str| {
            fs::write(folder.join(file), text).unwrap();
            let mut command = tool("dnssec-signzone");
            let made = format!("{file}.made");
            command.current_dir(&folder);
            command.args(["-S", "-O", "full", "-o", zone, "-f", &made, file]);
            done(&mut command, "");
            fs::read_to_string(folder.join(made)).unwrap()
        };
        fs::write(folder.join("plain"), plain(tree)).unwrap();
        let made = sign("example.org", "signed", &signed(tree, port, digest));
        let delegation = fs::read_to_string(folder.join("dsset-example.org.")).unwrap();
        let ns = tree.ip(3);
        let root = format!(
            "$TTL 300\n@ SOA ns.example.org. hostmaster.example.org. 1 3600 600 86400 300\n\
             @ NS ns.example.org.\nexample.org. NS ns.example.org.\nns.example.org. A {ns}\n{delegation}"
        );
        sign(".", "root", &root);
        // One record changes behind its signature.
        let name = format!("_{port}._tcp.bogus.example.org.");
        let mut place = String::new();
        let mut forge = |line: &str| {
            // Only the first record of a name has it in front.
            if !line.starts_with(char::is_whitespace) {
                place = line
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
            }
            match place == name && line.contains("TLSA\t3") {
                true => line.replace("11111111", "22222222"),
                false => line.to_owned(),
            }
        };
        let forged: Vec<String> = made.lines().map(&mut forge).collect();
        assert_ne!(
            forged.join("\n"),
            made.trim_end(),
            "nothing was forged:\n{made}"
        );
        fs::write(folder.join("signed.made"), forged.join("\n") + "\n").unwrap();
        Zones { folder, anchor }
    }
}

fn signed(tree: &Tree, port: u16, digest: &str) -> String {
    let at = tree.ip(2);
    let mut zone = String::from(
        "$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\n\
         @ MX 10 mx\nmissing MX 10 bare\nforged MX 10 bogus\nwrong MX 10 other\n\
         alias MX 10 cname\ncname CNAME mx\nimplicit A 127.0.0.1\nplain NS ns\n\
         rollover MX 10 two\nunusable MX 10 useless\n",
    );
    zone += &format!("ns A {}\n", tree.ip(3));
    for host in ["mx", "bare", "bogus", "other", "two", "useless"] {
        zone += &format!("{host} A {at}\n");
    }
    for (host, record) in [
        ("mx", format!("3 1 1 {digest}")),
        ("bogus", format!("3 1 1 {OTHER}")),
        ("other", format!("3 1 1 {OTHER}")),
        (
            "two",
            format!("3 1 1 {OTHER}\n_{port}._tcp.two TLSA 3 1 1 {digest}"),
        ),
        ("useless", format!("1 1 1 {digest}")),
    ] {
        zone += &format!("_{port}._tcp.{host} TLSA {record}\n");
    }
    zone
}

fn plain(tree: &Tree) -> String {
    format!(
        "$TTL 300\n@ SOA ns.example.org. hostmaster 1 3600 600 86400 300\n@ NS ns.example.org.\n\
         @ MX 10 other.example.org.\nx A {}\n",
        tree.ip(2)
    )
}

/// A BIND in the foreground, until it is dropped.
struct Bind {
    server: Option<Server>,
}

impl Bind {
    fn start(folder: &Path, name: &str, address: SocketAddr, more: &str) -> Bind {
        let home = folder.join(name);
        fs::create_dir_all(&home).unwrap();
        let (ip, port, at) = (address.ip(), address.port(), home.display());
        let (options, rest) = more.split_once('|').unwrap();
        let text = format!(
            "options {{ directory \"{at}\"; listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }};\n\
             pid-file \"{at}/named.pid\"; session-keyfile \"{at}/session.key\"; {options} }};\n\
             controls {{ }};\n{rest}\n"
        );
        let file = home.join("named.conf");
        fs::write(&file, text).unwrap();
        let mut command = tool("named");
        command.args(["-g", "-n", "1", "-c"]).arg(&file);
        let server = Some(Server::start(command));
        let up = until(|| std::net::TcpStream::connect(address).ok());
        let bind = Bind { server };
        assert!(up.is_some(), "BIND does not start");
        bind
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let _ = server.stop();
        }
    }
}

/// Where a BIND can listen: it takes no other address of loopback than the one of the interface.
fn place() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Relays to each domain and gives the start of the reply and the `tls` column.
async fn results(tree: &Tree) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for domain in [
        "example.org",
        "alias.example.org",
        "rollover.example.org",
        "missing.example.org",
        "unusable.example.org",
        "plain.example.org",
        "wrong.example.org",
        "forged.example.org",
    ] {
        let reply = tree.relay(&format!("anna@{domain}")).await;
        let log = tree.wait_for("logs/rfmta.csv", &format!(",anna@{domain},"));
        let line = log
            .lines()
            .find(|l| l.contains(&format!(",anna@{domain},")));
        let tls = line.unwrap().rsplit(',').next().unwrap();
        let proof = tls.rsplit(' ').next().unwrap().to_owned();
        let code = reply
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        found.push((format!("{domain} {code}"), proof));
    }
    found
}

fn expected() -> Vec<(String, String)> {
    [
        ("example.org 250 2.0.0", "dane"),
        ("alias.example.org 250 2.0.0", "dane"),
        ("rollover.example.org 250 2.0.0", "dane"),
        ("missing.example.org 250 2.0.0", "unverified"),
        ("unusable.example.org 250 2.0.0", "unverified"),
        // Its MX is not secure, so the records of the host do not count.
        ("plain.example.org 250 2.0.0", "unverified"),
        ("wrong.example.org 451 9.3.2", ""),
        ("forged.example.org 451 9.3.2", ""),
    ]
    .map(|(a, b)| (a.to_owned(), b.to_owned()))
    .to_vec()
}

/// The sink, the zones about it, and a BIND that has them.
async fn domain(tree: &Tree) -> (Sink, Zones, Bind, SocketAddr) {
    let certificate = TestCa::new().certificate(&["nobody.example"]);
    let options = SinkOptions {
        tls: Some(certificate.server()),
        ..SinkOptions::default()
    };
    let sink = Sink::start(tree.place(2), options).await.unwrap();
    let port = sink.address().port();
    let zones = Zones::sign(tree, port, &digest(tree, &certificate));
    let address = place();
    let folder = zones.folder.display();
    let more = format!(
        "recursion no; dnssec-validation no;|\
         zone \"example.org\" {{ type primary; file \"{folder}/signed.made\"; }};\n\
         zone \".\" {{ type primary; file \"{folder}/root.made\"; }};\n\
         zone \"plain.example.org\" {{ type primary; file \"{folder}/plain\"; }};"
    );
    let bind = Bind::start(&zones.folder, "primary", address, &more);
    tree.append(
        "galerne.ini",
        &format!("[rfmta]\nmxport = {port}\nmtasts = 0\n"),
    );
    (sink, zones, bind, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_16_conf_27_dane_by_our_own_validation_of_zones_that_bind_signed() {
    let tree = Tree::new("");
    let (_sink, zones, _bind, address) = domain(&tree).await;
    let anchor = zones.anchor.display();
    tree.append(
        "galerne.ini",
        &format!("[dns]\nresolver = {address}\ndnssec = validate\ntrustanchor = {anchor}\n"),
    );
    let server = tree.run();
    assert_eq!(results(&tree).await, expected());
    assert_eq!(server.stop().code, Some(0));
    explained(&tree);
    // What doctor says of it, and without the root's key.
    assert_eq!(doctor(&tree), "ok: answers of the root are proved");
    let main = tree.read("galerne.ini");
    tree.write("galerne.ini", &main.replace("= validate", "= trust-ad"));
    assert_eq!(
        doctor(&tree),
        "act: answers of the root are not proved: DANE is applied nowhere"
    );
    tree.write("galerne.ini", &main.replace("= validate", "= off"));
    assert_eq!(
        doctor(&tree),
        "advice: DNSSEC is off: TLSA records of remotes (DANE) are not looked at"
    );
    // The key of another zone in place of the root's.
    let keys = fs::read_dir(&zones.folder).unwrap().flatten();
    let texts = keys.filter_map(|file| fs::read_to_string(file.path()).ok());
    let strange = texts
        .filter(|text| text.contains("example.org. IN DNSKEY 257"))
        .map(|text| text.replace("example.org. IN", ". IN"))
        .next();
    tree.write("bind/strange", &strange.unwrap());
    let own = main.rsplit_once("trustanchor").unwrap().0;
    tree.write("galerne.ini", &format!("{own}trustanchor = bind/strange\n"));
    assert!(
        doctor(&tree).starts_with("act: no answer: "),
        "{}",
        doctor(&tree)
    );
}

/// What doctor says of DANE.
fn doctor(tree: &Tree) -> String {
    let said =
        tree.command("doctor --json --no-bind-check --probe 127.0.0.1:9 --clock 127.0.0.1:9");
    let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let findings = document["findings"].as_array().unwrap();
    let finding = findings.iter().find(|f| f["check"] == "dane");
    let finding = finding.unwrap_or_else(|| panic!("{said:?}"));
    let text = |name: &str| finding[name].as_str().unwrap();
    format!("{}: {}", text("severity"), text("found"))
}

/// `explain` says beforehand what the relay did, and by which rule.
fn explained(tree: &Tree) {
    for (domain, dane, tls, rule) in [
        (
            "example.org",
            "mx.example.org: 1 usable TLSA record(s)",
            "mx.example.org: required, certificate verified by dane",
            "RFC 7672 (DANE)",
        ),
        (
            "missing.example.org",
            "bare.example.org: says nothing",
            "bare.example.org: when offered, else clear, certificate not verified",
            "RELAY-55",
        ),
        (
            "unusable.example.org",
            "useless.example.org: TLSA records of which none can be used",
            "useless.example.org: required, certificate not verified",
            "RFC 7672 §2.2",
        ),
        (
            "forged.example.org",
            "bogus.example.org: TLSA records cannot be had: ",
            "bogus.example.org: not used: 451 9.3.2 ",
            "RFC 7672 §2.1",
        ),
        (
            "plain.example.org",
            "other.example.org: says nothing",
            "other.example.org: when offered, else clear, certificate not verified",
            "RELAY-55",
        ),
    ] {
        let line = format!("explain --user shop --from orders@example.com --to a@{domain} --json");
        let said = tree.command(&line);
        let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        let decisions = document["decisions"].as_array().unwrap();
        let decision = |key: &str| {
            let found = decisions.iter().find(|d| d["key"] == key);
            let found = found.unwrap_or_else(|| panic!("{key}: {said:?}"));
            let text = |name: &str| found[name].as_str().unwrap().to_owned();
            (text("value"), text("rule"))
        };
        assert!(decision("dane").0.starts_with(dane), "{domain}: {said:?}");
        assert!(decision("tls").0.starts_with(tls), "{domain}: {said:?}");
        assert_eq!(decision("tls").1, rule, "{domain}");
        let why = match domain {
            "plain.example.org" => "DNSSEC does not prove the host".to_owned(),
            _ => "(RFC 7672)".to_owned(),
        };
        assert!(decision("dane").1.ends_with(&why), "{domain}: {said:?}");
        assert_eq!(decision("mta-sts").1, "[rfmta] mtasts = 0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_16_conf_27_dane_by_the_ad_bit_of_a_bind_on_loopback_that_validates() {
    let tree = Tree::new("");
    let (_sink, zones, _bind, primary) = domain(&tree).await;
    let key = fs::read_to_string(&zones.anchor).unwrap();
    let key = key.lines().find(|l| l.contains("DNSKEY")).unwrap();
    let (_, data) = key.split_once("DNSKEY ").unwrap();
    let words: Vec<&str> = data.split_whitespace().collect();
    let (numbers, octets) = (words[..3].join(" "), words[3..].concat());
    let address = place();
    let more = format!(
        "recursion yes; dnssec-validation yes; forward only; forwarders {{ {} port {}; }};|\
         trust-anchors {{ \".\" static-key {numbers} \"{octets}\"; }};",
        primary.ip(),
        primary.port()
    );
    let _resolver = Bind::start(&zones.folder, "resolver", address, &more);
    // Nothing is said of DNSSEC: it is on, since the name server is on loopback.
    tree.append("galerne.ini", &format!("[dns]\nresolver = {address}\n"));
    let server = tree.run();
    assert_eq!(results(&tree).await, expected());
    assert_eq!(server.stop().code, Some(0));
}
