//! What `galerne explain` says of TLS beforehand: MTA-STS policies of a real HTTPS server, relay
//! hosts (T-17, RELAY-55, ROUTE-41). DANE is in `tls_dane`.

use std::net::SocketAddr;

use galerne_sim::nameserver::NameServer;
use galerne_sim::tls::TestCa;
use serde_json::Value;

use crate::postfix::tool;
use crate::process::{Server, Tree};

/// The file with the policy that `policy_server` serves.
pub const POLICY: &str = "www/.well-known/mta-sts.txt";

/// `openssl s_server -WWW` with an MTA-STS policy, and the authority that `ca.pem` then holds.
pub fn policy_server(tree: &Tree, at: SocketAddr, domain: &str, policy: &str) -> Server {
    let ca = TestCa::new();
    let certificate = ca.certificate(&[&format!("mta-sts.{domain}")]);
    tree.write("ca.pem", &ca.pem());
    tree.write("www/chain.pem", &certificate.chain_pem);
    tree.write("www/key.pem", &certificate.key_pem);
    tree.write(POLICY, policy);
    let mut command = tool("openssl");
    command.current_dir(tree.path("www"));
    command.args(["s_server", "-WWW", "-accept", &at.to_string()]);
    command.args(["-cert", "chain.pem", "-key", "key.pem"]);
    let server = Server::start(command);
    server.prints("ACCEPT");
    server
}

/// The decisions `value | rule` of that key, for a message of the account `shop`.
fn decisions(tree: &Tree, to: &str, key: &str) -> Vec<String> {
    let line = format!("explain --user shop --from orders@example.com --to {to} --json");
    let said = tree.command(&line);
    assert_eq!(said.code, Some(0), "{said:?}");
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    let all = document["decisions"].as_array().unwrap().iter();
    let one = |d: &Value| {
        format!(
            "{} | {}",
            d["value"].as_str().unwrap(),
            d["rule"].as_str().unwrap()
        )
    };
    all.filter(|d| d["key"] == key).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_17_if_6_explain_shows_the_policy_of_the_domain_and_what_follows_for_each_host() {
    let tree = Tree::new("");
    let web = tree.place(4);
    let text = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: 86400\r\n";
    let policies = policy_server(&tree, web, "example.org", text);
    let (mx, host) = (tree.ip(2), web.ip());
    let zone = format!(
        "example.org. MX 10 mx.example.org.\nexample.org. MX 20 other.example.org.\n\
         mx.example.org. A {mx}\nother.example.org. A {mx}\nmta-sts.example.org. A {host}\n\
         _mta-sts.example.org. TXT \"v=STSv1; id=1;\"\n"
    );
    let names = NameServer::start_on(tree.ip(3), &zone).await.unwrap();
    let main = format!(
        "[rfmta]\ncafile = ca.pem\nmtastsport = {}\n[dns]\nresolver = {}\n",
        web.port(),
        names.address()
    );
    let before = tree.read("galerne.ini");
    tree.append("galerne.ini", &main);
    let enforced = [
        "mx.example.org: required, certificate verified by mta-sts | RFC 8461 (MTA-STS)",
        "other.example.org: not used: 451 9.3.2 X-SMTP-R-API other.example.org is no MX of the \
         domain by its MTA-STS policy | RFC 8461 §4.1",
    ];
    let shown = "enforce: mx.example.org | _mta-sts.example.org (RFC 8461)";
    assert_eq!(decisions(&tree, "a@example.org", "tls"), enforced);
    assert_eq!(decisions(&tree, "a@example.org", "mta-sts"), [shown]);
    assert!(!tree.path("system/mtasts").exists(), "nothing is kept");
    // Without the host the policy that the server keeps holds; without that there is none.
    drop(policies);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let kept = format!("id 1\nfetched {}\n{text}", now.unwrap().as_secs());
    tree.write("system/mtasts/example.org", &kept);
    assert_eq!(decisions(&tree, "a@example.org", "tls"), enforced);
    tree.write("system/mtasts/example.org", "");
    let free = |host| {
        format!("{host}.example.org: when offered, else clear, certificate not verified | RELAY-55")
    };
    assert_eq!(
        decisions(&tree, "a@example.org", "tls"),
        [free("mx"), free("other")]
    );
    let none = "no policy | _mta-sts.example.org (RFC 8461)";
    assert_eq!(decisions(&tree, "a@example.org", "mta-sts"), [none]);
    tree.write("system/mtasts/example.org", &kept);
    tree.write(
        "galerne.ini",
        &(before + &main.replace("cafile", "mtasts = 0\ncafile")),
    );
    assert_eq!(
        decisions(&tree, "a@example.org", "tls"),
        [free("mx"), free("other")]
    );
    let off = "no policy | [rfmta] mtasts = 0";
    assert_eq!(decisions(&tree, "a@example.org", "mta-sts"), [off]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn route_41_relay_55_if_6_explain_shows_the_tls_of_a_relay_host() {
    let tree = Tree::new("[routing]\nroute = @next\n");
    let zone = "next.example.net. A 192.0.2.25\nexample.org. MX 10 mx.example.org.\nmx.example.org. A 192.0.2.26\n";
    let names = NameServer::start_on(tree.ip(3), zone).await.unwrap();
    let dns = format!("[dns]\nresolver = {}\n", names.address());
    tree.append("galerne.ini", &dns);
    for (host, expected) in [
        (
            "mx = next.example.net\nport = 587\n",
            "next.example.net: when offered, else clear, certificate not verified | RELAY-55",
        ),
        (
            "mx = next.example.net\nport = 587\nlogin = x\npassw = y\n",
            "next.example.net: required, certificate verified by ca | ROUTE-41",
        ),
        (
            "mx = next.example.net\nport = 465\nlogin = x\npassw = y\n",
            "next.example.net: from the first octet, certificate verified by ca | CONF-77",
        ),
        (
            "mx = 127.0.0.1\nport = 587\nlogin = x\npassw = y\n",
            "127.0.0.1: when offered, else clear, certificate not verified | RELAY-55",
        ),
    ] {
        tree.write("hosts/@next.ini", &format!("[dns]\n{host}"));
        assert_eq!(
            decisions(&tree, "a@example.org", "tls"),
            [expected],
            "{host}"
        );
        assert!(decisions(&tree, "a@example.org", "dane").is_empty());
        assert!(decisions(&tree, "a@example.org", "mta-sts").is_empty());
    }
}
