//! Programs that others wrote, as clients and as the remote: swaks, Python's smtplib, curl and
//! Postfix. What is missing fails the test, with the words what to install.

use std::net::SocketAddr;
use std::process::Command;

use galerne_sim::sink::{Rule, Sink, Stage};

use crate::postfix::{Postfix, tool};
use crate::process::{LOGIN, Output, PASSWORD, Server, Tree, finish};

/// Sends `argv[5]` as it is and prints the reply to it.
const SMTPLIB: &str = r#"
import smtplib, sys
host, port, sender, recipient, message, login, password = sys.argv[1:8]
s = smtplib.SMTP(host, int(port), local_hostname="client.example", timeout=30)
if login:
    s.starttls()
    s.login(login, password)
s.ehlo_or_helo_if_needed()
s.mail(sender)
s.rcpt(recipient)
code, text = s.data(message.encode())
print("%d %s" % (code, text.decode()))
s.quit()
"#;

/// A message that a codec could spoil: dots, an empty line at the end, a line of 998 octets.
fn message(token: &str) -> String {
    let long = "x".repeat(990);
    format!(
        "From: <orders@example.com>\r\nTo: <anna@example.org>\r\nSubject: {token}\r\n\r\n.\r\n..two\r\n.end\r\n{long}\r\n\r\n"
    )
}

fn swaks(server: SocketAddr, to: &str, token: &str, more: &[&str]) -> Output {
    let mut command = tool("swaks");
    command.args([
        "--server",
        &server.ip().to_string(),
        "--port",
        &server.port().to_string(),
    ]);
    command.args([
        "--ehlo",
        "client.example",
        "--from",
        "orders@example.com",
        "--to",
        to,
        "--timeout",
        "30",
    ]);
    command
        .args(["--header", &format!("Subject: {token}")])
        .args(more);
    finish(command, "")
}

fn smtplib(server: SocketAddr, to: &str, message: &str, login: &str, password: &str) -> Output {
    let mut command = tool("python3");
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    command.args([
        "-c",
        SMTPLIB,
        &host,
        &port,
        "orders@example.com",
        to,
        message,
        login,
        password,
    ]);
    finish(command, "")
}

fn curl(url: &str, to: &str, message: &str, more: &[&str]) -> Output {
    let mut command = tool("curl");
    command.args([
        "-sS",
        "-v",
        "--max-time",
        "30",
        "--mail-from",
        "orders@example.com",
        "--mail-rcpt",
        to,
    ]);
    command.args(["--upload-file", "-", url]).args(more);
    finish(command, message)
}

/// Postfix's own words for a mailbox that it has.
fn queue_id(text: &str) -> String {
    let (_, rest) = text
        .split_once("250 2.0.0 Ok: queued as ")
        .unwrap_or_else(|| panic!("no reply of Postfix: {text}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

const UNKNOWN: &str = "550 5.1.1 <bert@example.org>: Recipient address rejected: User unknown in virtual mailbox table";

#[test]
fn relay_73_swaks_smtplib_and_curl_reach_a_real_postfix_and_get_its_replies() {
    let tree = Tree::new("");
    let postfix = Postfix::start(tree.place(2), tree.ip(4), None);
    tree.route_to(postfix.address, "");
    let server = tree.run();
    let delivered_whole = |token: &str, id: &str| {
        let found = postfix.delivered(&format!("Subject: {token}\n"));
        assert!(
            found.contains(&format!("with ESMTPS id {id}\n")),
            "the reply's id {id}: {found}"
        );
        assert!(
            found.contains("from mta.test.example (unknown ["),
            "our name in EHLO: {found}"
        );
        found
    };

    let output = swaks(tree.smtp, "anna@example.org", "by-swaks", &[]);
    assert_eq!(output.code, Some(0), "{output:?}");
    delivered_whole("by-swaks", &queue_id(&output.stdout));
    let output = swaks(tree.smtp, "bert@example.org", "by-swaks", &[]);
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(
        output.stdout.contains(&format!("<** {UNKNOWN}\n")),
        "{output:?}"
    );

    let sent = message("by-smtplib");
    let output = smtplib(tree.smtp, "anna@example.org", &sent, "", "");
    assert_eq!(output.code, Some(0), "{output:?}");
    let found = delivered_whole("by-smtplib", &queue_id(&output.stdout));
    assert!(
        found.ends_with(&sent.replace("\r\n", "\n")),
        "octet for octet: {found}"
    );
    let output = smtplib(tree.smtp, "bert@example.org", &sent, "", "");
    assert_eq!(output.stdout, format!("{UNKNOWN}\n"), "{output:?}");

    let sent = message("by-curl");
    let url = format!("smtp://{}/client.example", tree.smtp);
    let output = curl(&url, "anna@example.org", &sent, &[]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let found = delivered_whole("by-curl", &queue_id(&output.stderr));
    assert!(
        found.ends_with(&sent.replace("\r\n", "\n")),
        "octet for octet: {found}"
    );
    let output = curl(&url, "bert@example.org", &sent, &[]);
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(
        output.stderr.contains(&format!("< {UNKNOWN}")),
        "{output:?}"
    );

    assert_eq!(postfix.messages().len(), 3);
    assert_eq!(server.stop().code, Some(0));
    let log = tree.read("logs/rfmta.csv");
    assert_eq!(log.matches(UNKNOWN).count(), 3, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_73_postfix_as_the_client_sees_the_remotes_reply() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    sink.rule(
        Rule::at(Stage::Dot)
            .recipient("carl")
            .reply("250 2.0.0 Queued as 7F31"),
    );
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("dora")
            .reply("550 5.1.1 Nobody called Dora lives here"),
    );
    tree.route_to(sink.address(), "");
    let server = tree.run();
    let postfix = Postfix::start(tree.place(5), tree.ip(4), Some(tree.smtp));
    for (recipient, told) in [
        (
            "carl@elsewhere.example",
            "status=sent (250 2.0.0 Queued as 7F31)",
        ),
        (
            "dora@elsewhere.example",
            "said: 550 5.1.1 Nobody called Dora lives here (in reply to end of DATA command)",
        ),
    ] {
        let output = swaks(postfix.address, recipient, "through-postfix", &[]);
        assert_eq!(output.code, Some(0), "{output:?}");
        let line = postfix.logged(&format!("to=<{recipient}>"));
        assert!(line.contains(told), "{line}");
    }
    let at_us = format!("Untrusted TLS connection established to {}", tree.smtp.ip());
    postfix.logged(&at_us);
    let message = sink.messages().remove(0);
    assert_eq!(message.recipients, ["carl@elsewhere.example"]);
    assert!(
        String::from_utf8(message.content)
            .unwrap()
            .contains("by remote.test.example (Postfix)")
    );
    assert_eq!(server.stop().code, Some(0));
}

/// The account needs a password, and TLS for it.
fn with_password(tree: &Tree, sink: &Sink) -> Server {
    let host = sink.address();
    tree.write_secret(
        "hosts/@next.ini",
        &format!("[dns]\nmx = {}\nport = {}\n", host.ip(), host.port()),
    );
    let account = format!(
        "[account]\nsmtplogin = {LOGIN}\nsmtppassw = {PASSWORD}\nauthorizedroute = @next\n[routing]\nroute = @next\n"
    );
    tree.write_secret("users/shop.ini", &account);
    tree.run()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conf_28_conf_29_swaks_smtplib_and_curl_log_in_over_tls() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    let server = with_password(&tree, &sink);
    let to = "anna@example.org";
    let mut expected = Vec::new();
    for mechanism in ["PLAIN", "LOGIN"] {
        for (place, how) in [(tree.smtp, "--tls"), (tree.smtps, "--tls-on-connect")] {
            let token = format!("swaks{how}-{mechanism}");
            let auth = [
                how,
                "--auth",
                mechanism,
                "--auth-user",
                LOGIN,
                "--auth-password",
                PASSWORD,
            ];
            let output = swaks(place, to, &token, &auth);
            assert_eq!(output.code, Some(0), "{token}: {output:?}");
            assert!(
                output
                    .stdout
                    .contains("=== TLS started with cipher TLSv1.3:"),
                "{output:?}"
            );
            assert!(output.stdout.contains("<~  235 2.7.0 "), "{output:?}");
            expected.push(token);
        }
    }
    let output = smtplib(tree.smtp, to, &message("smtplib-login"), LOGIN, PASSWORD);
    assert_eq!(
        (output.code, &output.stdout[..4]),
        (Some(0), "250 "),
        "{output:?}"
    );
    expected.push("smtplib-login".to_owned());
    let user = format!("{LOGIN}:{PASSWORD}");
    for (scheme, place, token) in [
        ("smtp", tree.smtp, "curl-starttls"),
        ("smtps", tree.smtps, "curl-implicit"),
    ] {
        let url = format!("{scheme}://{place}/client.example");
        let output = curl(
            &url,
            to,
            &message(token),
            &["--ssl-reqd", "-k", "--user", &user],
        );
        assert_eq!(output.code, Some(0), "{token}: {output:?}");
        expected.push(token.to_owned());
    }
    let subjects: Vec<String> = sink
        .messages()
        .iter()
        .map(|m| subject(&m.content))
        .collect();
    assert_eq!(subjects, expected);
    assert_eq!(server.stop().code, Some(0));
    let log = tree.read("logs/rfrelay.csv");
    assert_eq!(log.matches(",shop,").count(), expected.len(), "{log}");
}

fn subject(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    let line = text.lines().find_map(|l| l.strip_prefix("Subject: "));
    line.unwrap_or_else(|| panic!("no subject: {text}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_8_a_wrong_password_or_none_relays_nothing() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    let server = with_password(&tree, &sink);
    let to = "anna@example.org";
    let wrong = [
        "--tls",
        "--auth",
        "PLAIN",
        "--auth-user",
        LOGIN,
        "--auth-password",
        "wrong",
    ];
    let output = swaks(tree.smtp, to, "wrong", &wrong);
    assert!(output.stdout.contains("<~* 535 5.7.8 "), "{output:?}");
    // Without TLS a password is not even asked for.
    let output = swaks(
        tree.smtp,
        to,
        "clear",
        &[
            "--auth",
            "PLAIN",
            "--auth-user",
            LOGIN,
            "--auth-password",
            PASSWORD,
        ],
    );
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(
        !output.stdout.contains("250-AUTH") && !output.stdout.contains("250 AUTH"),
        "{output:?}"
    );
    let output = swaks(tree.smtp, to, "nobody", &["--tls"]);
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(
        output.stdout.contains(" 550 5.7.1 ") || output.stdout.contains(" 530 5.7.0 "),
        "{output:?}"
    );
    assert_eq!(sink.connected(), 0);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_tool_that_is_missing_is_named_with_what_to_install() {
    let missing = std::panic::catch_unwind(|| tool("no-such-tool"));
    let words = *missing.err().unwrap().downcast::<String>().unwrap();
    assert!(
        words.contains("no-such-tool is missing") && words.contains("apt-get install"),
        "{words}"
    );
    assert!(
        Command::new(tool("true").get_program())
            .status()
            .unwrap()
            .success()
    );
}
