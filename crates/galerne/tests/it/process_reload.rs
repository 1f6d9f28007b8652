//! Changed files: what is in force when, and for whom (CONF-11, CONF-12).

use std::fs;
use std::time::Duration;

use galerne_sim::nameserver::NameServer;
use galerne_sim::sink::{Rule, Sink, Stage};
use rustix::process::Signal;

use crate::process::{MESSAGE, Tree, until};

async fn size_offered(
    client: &mut galerne_sim::client::TestClient<tokio::net::TcpStream>,
) -> String {
    let ehlo = client.command("EHLO client.example").await.unwrap();
    let line = ehlo.lines.iter().find(|l| l[4..].starts_with("SIZE "));
    line.unwrap_or_else(|| panic!("no SIZE: {ehlo}"))[4..].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_2_conf_12_sighup_puts_changed_files_in_force_and_sessions_keep_what_they_began_with() {
    let tree = Tree::new("[rfrelay]\nmaxsize = 1000000\n");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    let server = tree.run();
    let mut old = tree.client().await;
    assert_eq!(size_offered(&mut old).await, "SIZE 1000000");

    tree.append("galerne.ini", "maxsize = 2000000\n");
    let bounced = "gone@example.org";
    tree.write("lists/rfhard.csv", &format!("email\n{bounced}\n"));
    assert!(server.reload());

    assert_eq!(
        size_offered(&mut old).await,
        "SIZE 1000000",
        "a running session keeps its settings"
    );
    let mut new = tree.client().await;
    assert_eq!(size_offered(&mut new).await, "SIZE 2000000");
    assert!(
        tree.relay(bounced).await.starts_with("451 9.2.1 "),
        "lists are read again too"
    );

    // A new host, a new account, an account that is gone.
    let second = Sink::bind(tree.place(3)).await.unwrap();
    second.rule(Rule::at(Stage::Dot).reply("250 2.0.0 from the second"));
    tree.route_to(second.address(), "");
    assert!(server.reload());
    assert_eq!(
        tree.relay("anna@example.org").await,
        "250 2.0.0 from the second"
    );
    fs::remove_file(tree.path("users/shop.ini")).unwrap();
    assert!(server.reload());
    let refused = tree.relay("anna@example.org").await;
    assert!(refused.starts_with("5"), "nobody may relay now: {refused}");
    assert!(
        tree.wait_for("logs/galerne.txt", "configuration reloaded")
            .lines()
            .count()
            > 3
    );
    assert_eq!(server.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conf_12_changed_files_are_found_without_a_signal() {
    let tree = Tree::new("[rfrelay]\nmaxsize = 1000000\n");
    let server = tree.run_with(["--watch", "1"]);
    tree.append("galerne.ini", "maxsize = 2000000\n");
    server.says("configuration reloaded");
    assert_eq!(size_offered(&mut tree.client().await).await, "SIZE 2000000");
    tree.account("second", "smtplogin = second@example.com\n");
    let reloads = || server.stderr().matches("configuration reloaded").count();
    assert!(
        until(|| (reloads() == 2).then_some(())).is_some(),
        "{}",
        server.stderr()
    );
    tree.write_secret("users/second.ini", "[account]\nsmtpssl = maybe\n");
    server.says("configuration not reloaded");
    assert_eq!(reloads(), 2, "what did not change is not read again");
    assert_eq!(server.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conf_11_t_64_a_reload_with_an_error_keeps_all_old_settings_and_names_the_line() {
    let tree = Tree::new("[rfrelay]\nmaxsize = 1000000\n");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    tree.write_secret("users/other.ini", "[account]\nsmtpip = 192.0.2.1\n");
    let server = tree.run();

    // Good in one file, bad in another: nothing of it is taken.
    tree.append("galerne.ini", "maxsize = 2000000\n");
    tree.write_secret(
        "users/other.ini",
        "[account]\nsmtpip = 192.0.2.1\nsmtpssl = maybe\n",
    );
    assert!(!server.reload());
    let said = server.stderr();
    assert!(
        said.contains("users/other.ini:3: error: [account] smtpssl: "),
        "{said}"
    );
    assert!(said.contains("the old settings stay in force"), "{said}");
    let log = tree.wait_for("logs/galerne.txt", "the old settings stay in force");
    assert!(
        log.contains("users/other.ini:3: error: [account] smtpssl: "),
        "{log}"
    );
    assert_eq!(size_offered(&mut tree.client().await).await, "SIZE 1000000");
    assert_eq!(&tree.relay("anna@example.org").await[..3], "250");

    // An address of [IP] in use is removed while it is named elsewhere: an error too.
    tree.write_secret(
        "users/other.ini",
        "[account]\nsmtpip = 192.0.2.1\nauthorizedip = 192.0.2.77\n",
    );
    assert!(!server.reload());
    let said = server.stderr();
    assert!(
        said.contains("users/other.ini:3: error: [account] authorizedip: 192.0.2.77 "),
        "{said}"
    );

    // A certificate that cannot be used.
    tree.write_secret("users/other.ini", "[account]\nsmtpip = 192.0.2.1\n");
    tree.write("certs/mail.example.com.pem", "nothing\n");
    assert!(!server.reload());
    assert!(
        server
            .stderr()
            .contains("certs/mail.example.com.pem:1: error: "),
        "{}",
        server.stderr()
    );
    assert_eq!(size_offered(&mut tree.client().await).await, "SIZE 1000000");

    // The main file is gone.
    fs::remove_file(tree.path("certs/mail.example.com.pem")).unwrap();
    fs::rename(tree.path("galerne.ini"), tree.path("kept.ini")).unwrap();
    assert!(!server.reload());
    assert!(
        server.stderr().contains("galerne.ini:1: error: "),
        "{}",
        server.stderr()
    );
    assert_eq!(&tree.relay("anna@example.org").await[..3], "250");

    // Repaired: all of it.
    fs::rename(tree.path("kept.ini"), tree.path("galerne.ini")).unwrap();
    assert!(server.reload());
    assert_eq!(size_offered(&mut tree.client().await).await, "SIZE 2000000");
    assert_eq!(server.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conf_12_a_reload_under_load_loses_nothing() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    let server = tree.run();
    let clients = (0..4).map(|_| {
        let smtp = tree.smtp;
        tokio::spawn(async move {
            for _ in 0..25 {
                let stream = tokio::net::TcpStream::connect(smtp).await.unwrap();
                let mut client = galerne_sim::client::TestClient::new(stream);
                client.reply().await.unwrap();
                client.command("EHLO client.example").await.unwrap();
                let sent = client
                    .transaction("orders@example.com", &["a@example.org"], MESSAGE.as_bytes())
                    .await;
                assert_eq!(sent.unwrap().code, 250);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..5 {
        server.signal(Signal::HUP);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(sink.accepted(), 100);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn conf_12_listeners_stay_until_a_restart_and_that_is_said() {
    let tree = Tree::new("");
    let server = tree.run();
    let place = tree.place(2);
    tree.append("galerne.ini", &format!("[rfrelay]\nlisten = {place}\n"));
    assert!(server.reload());
    let said = server.stderr();
    assert!(
        said.contains(
            "galerne.ini:6: warning: [rfrelay] listen: the listeners change only with a restart"
        ),
        "{said}"
    );
    assert!(std::net::TcpStream::connect(tree.smtp).is_ok());
    assert_eq!(server.stop().code, Some(0));
    let server = tree.run();
    assert!(std::net::TcpStream::connect(place).is_ok());
    assert_eq!(server.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conf_12_conf_68_what_it_learns_itself_is_no_change_and_what_people_add_is() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    let mut zone = format!("mx.example.net. A {}\n", tree.ip(2));
    for domain in ["a.example", "b.example", "c.example"] {
        zone.push_str(&format!("{domain}. MX 10 mx.example.net.\n"));
    }
    let names = NameServer::start_on(tree.ip(3), &zone).await.unwrap();
    tree.append(
        "galerne.ini",
        &format!(
            "[dns]\nresolver = {}\n[rfmta]\nmxport = {}\n",
            names.address(),
            sink.address().port()
        ),
    );
    tree.write("domains/@big.ini", "[dns]\nmx = mx.example.net\n");
    let server = tree.run_with(["--watch", "1"]);
    let reloads = || server.stderr().matches("configuration reloaded").count();
    for (domain, seconds) in [("a.example", 0), ("b.example", 2)] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let reply = tree.relay(&format!("anna@{domain}")).await;
        assert!(reply.starts_with("250 "), "{reply}");
        tree.wait_for("domains/@big_alias.csv", domain);
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(reloads(), 0, "{}", server.stderr());

    // A line added by hand, then one taken away.
    tree.append("domains/@big_alias.csv", "260101000000,d.example\r\n");
    assert!(
        until(|| (reloads() == 1).then_some(())).is_some(),
        "{}",
        server.stderr()
    );
    let without: String = tree
        .read("domains/@big_alias.csv")
        .lines()
        .filter(|l| !l.ends_with("a.example"))
        .map(|l| format!("{l}\r\n"))
        .collect();
    tree.write("domains/@big_alias.csv", &without);
    assert!(
        until(|| (reloads() == 2).then_some(())).is_some(),
        "{}",
        server.stderr()
    );
    assert_eq!(server.stop().code, Some(0));
}
