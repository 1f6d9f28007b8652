//! TLS of our own listeners, seen by OpenSSL: certificates by name, replaced while the server runs,
//! over; no early data and no old TLS (CONF-28, CONF-29, T-15).

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use galerne_sim::tls::{TestCa, TestCertificate};

use crate::postfix::tool;
use crate::process::{Output, Server, Tree, finish, until};

/// A session of `openssl s_client` that says QUIT at once.
fn s_client(tree: &Tree, to: SocketAddr, options: &[&str]) -> Output {
    finish(openssl(tree, to, options), "QUIT\n")
}

fn openssl(tree: &Tree, to: SocketAddr, options: &[&str]) -> Command {
    let mut command = tool("openssl");
    command.args(["s_client", "-connect", &to.to_string(), "-crlf"]);
    if to == tree.smtp {
        command.args(["-starttls", "smtp", "-name", "app.example.com"]);
    }
    command.args(["-CAfile", &tree.path("ca.pem").display().to_string()]);
    command.args(options);
    command
}

fn install(tree: &Tree, stem: &str, certificate: &TestCertificate) {
    tree.write(&format!("certs/{stem}.pem"), &certificate.chain_pem);
    tree.write_secret(&format!("certs/{stem}.key"), &certificate.key_pem);
}

/// Whether the certificate shown for a name is good for it.
fn is_good(tree: &Tree, to: SocketAddr, name: &str) -> bool {
    let options = ["-servername", name, "-verify_hostname", name];
    let said = s_client(tree, to, &options).stdout;
    assert!(said.contains("CONNECTED("), "{said}");
    said.contains("Verify return code: 0 (ok)") || said.contains("Verification: OK")
}

#[test]
fn conf_28_conf_29_openssl_gets_the_certificate_of_the_name_on_both_ports_and_a_new_one_on_reload()
{
    let tree = Tree::new("");
    let (ca, other) = (TestCa::new(), TestCa::new());
    tree.write("ca.pem", &ca.pem());
    for (stem, name) in [
        (".def", "mta.test.example"),
        ("mail.example.com", "mail.example.com"),
    ] {
        install(&tree, stem, &ca.certificate(&[name]));
    }
    install(
        &tree,
        "relay.example.org",
        &other.certificate(&["relay.example.org"]),
    );
    let server = tree.run_with(["--watch", "1"]);
    for to in [tree.smtp, tree.smtps] {
        assert!(is_good(&tree, to, "mta.test.example"));
        assert!(is_good(&tree, to, "mail.example.com"));
        assert!(
            !is_good(&tree, to, "relay.example.org"),
            "an unknown authority"
        );
        assert!(
            !is_good(&tree, to, "elsewhere.example"),
            "the default is not for it"
        );
    }
    // A new certificate counts without a restart: by a signal, and without one.
    install(
        &tree,
        "relay.example.org",
        &ca.certificate(&["relay.example.org"]),
    );
    assert!(server.reload());
    assert!(is_good(&tree, tree.smtp, "relay.example.org"));
    install(
        &tree,
        "elsewhere.example",
        &ca.certificate(&["elsewhere.example"]),
    );
    let seen = until(|| is_good(&tree, tree.smtps, "elsewhere.example").then_some(()));
    assert!(seen.is_some());
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn conf_29_a_key_that_does_not_fit_leaves_the_old_certificate_in_force() {
    let tree = Tree::new("");
    let ca = TestCa::new();
    tree.write("ca.pem", &ca.pem());
    let name = "mta.test.example";
    install(&tree, ".def", &ca.certificate(&[name]));
    let server = tree.run();
    tree.write("certs/.def.pem", &ca.certificate(&[name]).chain_pem);
    assert!(!server.reload(), "chain and key are of two pairs");
    assert!(is_good(&tree, tree.smtp, name));
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn conf_29_if_4_a_certificate_that_is_over_is_a_finding_and_keeps_nobody_out() {
    let tree = Tree::new("");
    let ca = TestCa::new();
    tree.write("ca.pem", &ca.pem());
    install(&tree, ".def", &ca.expired(&["mta.test.example"]));
    let check = tree.command("check");
    assert_eq!(check.code, Some(0), "{check:?}");
    let finding = "certs/.def.pem:1: warning: [-] -: the certificate ended on ";
    assert!(
        check.stdout.lines().any(|l| l.starts_with(finding)),
        "{check:?}"
    );
    let server = tree.run();
    let said = s_client(&tree, tree.smtp, &["-servername", "mta.test.example"]);
    assert!(said.stdout.contains("certificate has expired"), "{said:?}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn t_15_no_early_data_and_no_tls_before_1_2() {
    let tree = Tree::new("");
    tree.write("ca.pem", &TestCa::new().pem());
    let server = tree.run();
    // The tickets say how much may come early: nothing, so that nothing can be played again.
    let said = s_client(&tree, tree.smtps, &["-tls1_3", "-ign_eof"]).stdout;
    assert!(said.contains("Max Early Data: 0"), "{said}");
    for old in ["-tls1", "-tls1_1"] {
        for to in [tree.smtp, tree.smtps] {
            let said = s_client(&tree, to, &[old, "-cipher", "ALL:@SECLEVEL=0"]);
            assert!(said.stdout.contains("Cipher is (NONE)"), "{said:?}");
        }
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn t_15_who_wants_to_renegotiate_is_refused_and_others_go_on() {
    let tree = Tree::new("");
    tree.write("ca.pem", &TestCa::new().pem());
    let server = tree.run();
    for to in [tree.smtp, tree.smtps] {
        let mut client = Server::start(openssl(&tree, to, &["-tls1_2"]));
        client.prints("Verify return code: ");
        client.hears("NOOP\n");
        client.prints("250 2.0.0 ");
        // A line that begins so is a command to s_client.
        let began = Instant::now();
        client.hears("R\n");
        let ended = client.end();
        assert!(ended.stderr.contains("RENEGOTIATING"), "{ended:?}");
        assert!(ended.stderr.contains("no renegotiation"), "{ended:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{ended:?}");
        let said = s_client(&tree, to, &["-tls1_2", "-ign_eof"]);
        assert!(said.stdout.contains("221 2.0.0 "), "{said:?}");
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn t_15_records_of_16_kib_for_each_octet_are_read_like_others() {
    let tree = Tree::new("");
    tree.write("ca.pem", &TestCa::new().pem());
    let server = tree.run();
    let padded = ["-tls1_3", "-record_padding", "16384"];
    let mut client = Server::start(openssl(&tree, tree.smtps, &padded));
    client.prints("Verify return code: ");
    for octet in ["N", "O", "O", "P"] {
        client.hears(octet);
        // Each is a record of its own once OpenSSL has read it.
        std::thread::sleep(Duration::from_millis(50));
    }
    client.hears("\n");
    client.prints("250 2.0.0 ");
    // A capital Q would be a command to s_client.
    client.hears("quit\n");
    assert!(client.end().stdout.contains("221 2.0.0 "));
    assert_eq!(server.stop().code, Some(0));
}
