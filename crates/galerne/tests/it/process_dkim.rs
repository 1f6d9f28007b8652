//! The last judge of our signatures: a Postfix that has a verifying milter, OpenDKIM, as remote of
//! the program, with keys that the program made itself.

use std::fs;
use std::net::TcpStream;

use crate::postfix::{Postfix, tool};
use crate::process::{Server, Tree, until};

/// A verifying OpenDKIM that knows these records.
fn opendkim(tree: &Tree, records: &str) -> (Server, String) {
    let place = tree.place(7);
    let (keys, config) = (tree.path("opendkim.keys"), tree.path("opendkim.conf"));
    fs::write(&keys, records).unwrap();
    let text = format!(
        "Mode v\nSyslog no\nBackground no\nSocket inet:{}@{}\nTestPublicKeys {}\nAuthservID judge.example\nAlwaysAddARHeader yes\nRequireSafeKeys no\nUserID root\nMinimumKeyBits 1024\nInternalHosts {}\n",
        place.port(),
        place.ip(),
        keys.display(),
        // Nobody is internal: everything is verified.
        "203.0.113.1",
    );
    fs::write(&config, text).unwrap();
    let mut command = tool("opendkim");
    command.arg("-f").arg("-x").arg(&config);
    let server = Server::start(command);
    assert!(
        until(|| TcpStream::connect(place).ok()).is_some(),
        "OpenDKIM does not start: {}",
        server.stderr()
    );
    (server, format!("inet:{}:{}", place.ip(), place.port()))
}

#[tokio::test]
async fn relay_51_conf_82_a_message_of_the_program_passes_the_milter_of_a_real_postfix() {
    let tree = Tree::new("");
    let made = tree.command("keygen example.com s1 postmaster");
    assert_eq!(made.code, Some(0), "{made:?}");
    let record = {
        let file = tree.path("keys/example.com s1 postmaster.pem");
        let key = galerne_sign::SigningKey::from_pem(&fs::read(file).unwrap()).unwrap();
        key.record()
    };
    let (_judge, milter) = opendkim(&tree, &format!("s1._domainkey.example.com {record}\n"));
    let remote = Postfix::start(tree.place(8), tree.ip(9), None);
    remote.configure(&format!(
        "smtpd_milters = {milter}\nmilter_default_action = tempfail\n"
    ));
    tree.route_to(remote.address, "");
    let _server = tree.run();
    let mut client = tree.greeted().await;
    let content = "From: <orders@example.com>\r\nTo: <anna@example.org>\r\nSubject: signed\r\nX-SMTP-R-API: {\"routing\":{\"sign\":\"from\"}}\r\n\r\nHello  world \r\n\r\n";
    let reply = client
        .transaction(
            "orders@example.com",
            &["anna@example.org"],
            content.as_bytes(),
        )
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    let message = remote.delivered("Subject: signed");
    let results = message
        .split("Authentication-Results: ")
        .nth(1)
        .unwrap_or_else(|| panic!("nothing was judged:\n{message}"));
    assert!(results.starts_with("judge.example;"), "{message}");
    assert!(results.contains("dkim=pass"), "{message}");
    assert!(results.contains("header.d=example.com"), "{message}");
}
