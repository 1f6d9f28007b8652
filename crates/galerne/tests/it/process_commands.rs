//! The commands that are not the server: what they print, where, and how they exit.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use galerne_sim::nameserver::NameServer;
use galerne_sim::sink::{Rule, Sink, Stage};
use serde_json::Value;

use crate::process::{LOGIN, MESSAGE, PASSWORD, Tree, finish, galerne};

/// The one JSON document on standard output.
fn json(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout:?}"))
}

#[test]
fn if_1_conf_2_the_root_is_named_before_or_after_by_the_environment_or_by_the_place() {
    let tree = Tree::new("");
    let other = Tree::empty();
    let root = tree.root().to_str().unwrap();
    let users = |command: &mut std::process::Command| {
        let output = finish(std::mem::replace(command, galerne()), "");
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(output.stdout.starts_with("shop - "), "{output:?}");
    };
    users(galerne().args(["--root", root, "users", "list"]));
    users(galerne().args(["users", "list", "--root", root]));
    users(galerne().args(["users", "--root", root, "list"]));
    users(galerne().args(["users", "list"]).env("GALERNE_ROOT", root));
    users(galerne().args(["users", "list"]).current_dir(root));
    // The option beats the variable, the variable beats the place.
    let elsewhere = other.root();
    users(
        galerne()
            .args(["--root", root, "users", "list"])
            .env("GALERNE_ROOT", elsewhere),
    );
    users(
        galerne()
            .args(["users", "list"])
            .env("GALERNE_ROOT", root)
            .current_dir(elsewhere),
    );
    users(
        galerne()
            .args(["users", "list"])
            .env("GALERNE_ROOT", "")
            .current_dir(root),
    );

    let mut nowhere = galerne();
    nowhere.args(["users", "list"]).current_dir(elsewhere);
    let output = finish(nowhere, "");
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("there is no galerne.ini"),
        "{output:?}"
    );
}

#[test]
fn if_4_run_without_a_main_file_says_so_and_exits_1() {
    let tree = Tree::empty();
    for command in ["run", "check", "check --json", "users list --json"] {
        let output = tree.command(command);
        assert_eq!(output.code, Some(1), "{command}: {output:?}");
        assert_eq!(output.stdout, "", "{command}");
        assert!(
            output.stderr.contains("there is no galerne.ini in "),
            "{output:?}"
        );
        assert!(
            output.stderr.contains(" init` writes a sample"),
            "{output:?}"
        );
    }
    assert_eq!(
        fs::read_dir(tree.root()).unwrap().count(),
        0,
        "it wrote something"
    );
}

#[test]
fn if_4_conf_5_init_then_check_then_run() {
    let tree = Tree::empty();
    tree.write("domains/@gmail.ini", "; mine\n[dns]\nmx = *.google.com\n");
    let output = tree.command("init");
    assert_eq!(output.code, Some(0), "{output:?}");
    for file in [
        "galerne.ini",
        "users/demo.ini",
        "domains/.defflow.ini",
        "domains/@aol.ini",
        "domains/@hotmail.ini",
        "domains/@yahoo.ini",
        "wwws/unsub.htm",
        "wwws/uncfm.htm",
    ] {
        assert!(tree.path(file).is_file(), "{file}");
        assert!(
            output.stdout.contains(&format!("{file}: written\n")),
            "{file}: {output:?}"
        );
    }
    assert!(
        output
            .stdout
            .contains("domains/@gmail.ini: kept as it is\n"),
        "{output:?}"
    );
    assert!(tree.read("domains/@gmail.ini").starts_with("; mine\n"));
    assert!(
        output.stdout.contains("its password stands in "),
        "{output:?}"
    );
    let mode = fs::metadata(tree.path("users/demo.ini"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let again = tree.command("init");
    assert_eq!(again.code, Some(0));
    assert!(!again.stdout.contains(": written"), "{again:?}");

    let check = tree.command("check");
    assert_eq!(check.code, Some(0), "{check:?}");
    let worth_knowing = |line: &str| line.contains(": notice: ");
    assert!(check.stdout.lines().all(worth_knowing), "{check:?}");
    assert!(
        check.stderr.ends_with("0 error(s), 0 warning(s)\n"),
        "{check:?}"
    );

    // It runs as it is, without root; only the port may be taken here.
    let main = tree
        .read("galerne.ini")
        .replace("127.0.0.1:2525", &tree.smtp.to_string());
    tree.write("galerne.ini", &main);
    let server = tree.run();
    let output = server.stop();
    assert_eq!(output.code, Some(0), "{output:?}");
}

#[test]
fn if_4_check_prints_one_line_per_finding_and_exits_1_with_errors() {
    let tree = Tree::new("[rfmta]\nmxprot = 26\n");
    let check = tree.command("check");
    assert_eq!(check.code, Some(0), "a warning is no error: {check:?}");
    assert!(
        check
            .stdout
            .starts_with("galerne.ini:6: warning: [rfmta] mxprot: "),
        "{check:?}"
    );
    assert_eq!(check.stdout.lines().count(), 1, "{check:?}");
    assert!(
        check.stderr.contains("0 error(s), 1 warning(s)"),
        "{check:?}"
    );

    tree.write_secret(
        "users/bad.ini",
        "[account]\nsmtplogin = x@example.com\nsmtpssl = maybe\n",
    );
    let check = tree.command("check");
    assert_eq!(check.code, Some(1), "{check:?}");
    let line = check
        .stdout
        .lines()
        .find(|l| l.contains(": error: "))
        .unwrap();
    assert!(
        line.starts_with("users/bad.ini:3: error: [account] smtpssl: "),
        "{line}"
    );
}

#[test]
fn if_4_conf_29_check_reads_certificates_and_trust_anchors_too() {
    let tree = Tree::new("[rfmta]\ncafile = anchors.pem\n");
    tree.write("anchors.pem", "nothing\n");
    tree.write("certs/mail.example.com.pem", "nothing\n");
    tree.write_secret("certs/mail.example.com.key", "nothing\n");
    let check = tree.command("check");
    assert_eq!(check.code, Some(1), "{check:?}");
    let lines: Vec<&str> = check.stdout.lines().collect();
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("certs/mail.example.com.pem:1: error: [-] -: ")),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("galerne.ini:6: error: [rfmta] cafile: ")),
        "{lines:?}"
    );
}

#[test]
fn conf_10_there_is_no_licence_key() {
    let tree = Tree::new("");
    tree.write("rafale.key", "00000000000000000000000000000000");
    let check = tree.command("check");
    assert_eq!(
        (check.code, check.stdout.as_str()),
        (Some(0), ""),
        "{check:?}"
    );
}

#[test]
fn conf_91_exit_codes_and_help() {
    let tree = Tree::empty();
    let root = tree.root().to_str().unwrap().to_owned();
    for wrong in [
        "",
        "rum",
        "run --no-such",
        "send",
        "send --from a@example.com",
        "run --watch 61",
        "patterns test",
    ] {
        let output = tree.command(wrong);
        assert_eq!(output.code, Some(2), "{wrong}: {output:?}");
        assert_eq!(output.stdout, "", "{wrong}");
        let told = output.stderr.contains("Usage: galerne") || output.stderr.contains("--help");
        assert!(told, "{wrong}: {output:?}");
    }
    for command in [
        "init",
        "run",
        "demo",
        "check",
        "send",
        "explain",
        "patterns test",
        "users list",
        "version",
    ] {
        let output = tree.command(&format!("{command} --help"));
        assert_eq!(output.code, Some(0), "{command}: {output:?}");
        assert!(
            output.stdout.contains("Usage: galerne"),
            "{command}: {output:?}"
        );
        assert!(
            output.stdout.contains("--root <DIR>"),
            "{command}: {output:?}"
        );
    }
    let help = tree.command("--help").stdout;
    for command in [
        "init", "run", "demo", "check", "send", "explain", "patterns", "users", "version",
    ] {
        assert!(
            help.lines().any(|l| l.trim_start().starts_with(command)),
            "{command}: {help}"
        );
    }
    assert_eq!(
        fs::read_dir(root).unwrap().count(),
        0,
        "help and errors write nothing"
    );
}

#[test]
fn if_6_version() {
    let output = finish(
        {
            let mut c = galerne();
            c.arg("version");
            c
        },
        "",
    );
    assert_eq!(output.code, Some(0));
    assert_eq!(
        output.stdout,
        format!("galerne {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(output.stderr, "");
}

#[test]
fn if_6_if_7_users_list_for_people_and_as_one_document() {
    let tree = Tree::new("");
    tree.write_secret("users/partner.ini", "[account]\nsmtpip = 192.0.2.0/24\n");
    let output = tree.command("users list");
    assert_eq!(output.code, Some(0), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{output:?}");
    assert!(
        lines[0].starts_with("partner - Login: none") && lines[0].contains("192.0.2.0/24"),
        "{output:?}"
    );
    assert!(
        lines[1].starts_with("shop - Login: shop@example.com"),
        "{output:?}"
    );

    let output = tree.command("users list --json");
    assert_eq!(output.code, Some(0));
    let list = json(&output.stdout);
    assert_eq!(list[0]["name"], "partner");
    assert_eq!(list[1]["login"], LOGIN);
    assert_eq!(list[1]["password"], true, "whether there is one");
    assert!(!output.stdout.contains(PASSWORD), "conf_90: {output:?}");

    let nobody = Tree::new("");
    fs::remove_file(nobody.path("users/shop.ini")).unwrap();
    let output = nobody.command("users list --json");
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "[]\n"));
}

#[test]
fn if_6_if_7_patterns_test() {
    let tree = Tree::new("");
    let group = "[dns]\nmx = *.example.org\n[pattern]\nlisted = FLOW(blocklist, #defcon2) 554 *listed by*\n";
    tree.write("domains/@big.ini", group);
    let test = |arguments: &[&str]| {
        let all = ["patterns", "test"].iter().chain(arguments).copied();
        finish(tree.galerne(all), "")
    };
    let output = test(&["@big", "554 5.7.1 You are listed by us"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output
            .stdout
            .starts_with("@big: listed = FLOW(blocklist)\n"),
        "{output:?}"
    );
    assert!(output.stdout.contains("domains/@big.ini:4"), "{output:?}");

    let output = test(&["@big", "554 5.7.1 You are listed by us", "--json"]);
    let found = json(&output.stdout);
    assert_eq!(
        (&found["pattern"], &found["function"]),
        (&"listed".into(), &"FLOW".into()),
        "{found}"
    );
    let output = test(&["@", "550 5.1.1 Never heard of", "--json"]);
    assert_eq!(json(&output.stdout)["pattern"], Value::Null, "{output:?}");

    let output = test(&["@bog", "554 no", "--json"]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(1), ""),
        "{output:?}"
    );
    assert!(
        output
            .stderr
            .contains("there is no group or relay host @bog; there are: @ @big"),
        "{output:?}"
    );
    let output = test(&["@big", "hello"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("\"hello\" is no reply"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_6_if_7_if_9_explain_says_what_would_be_decided_and_sends_nothing() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    let zone = format!(
        "example.org. MX 10 mx.example.org.\nmx.example.org. A {}\n",
        tree.ip(2)
    );
    let names = NameServer::start_on(tree.ip(3), &zone).await.unwrap();
    let port = sink.address().port();
    tree.append(
        "galerne.ini",
        &format!(
            "[dns]\nresolver = {}\n[rfmta]\nmxport = {port}\n",
            names.address()
        ),
    );
    tree.write("domains/@big.ini", "[dns]\nmx = mx.example.org\n");
    tree.write("lists/rfhard.csv", "email\ngone@example.org\n");
    let explain = |to: &str, more: &[&str]| {
        let all = [
            "explain",
            "--from",
            "orders@example.com",
            "--user",
            "shop",
            "--to",
            to,
        ];
        finish(tree.galerne(all.iter().chain(more).copied()), "")
    };
    let output = explain("anna@example.org", &[]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output
            .stdout
            .starts_with("<orders@example.com> to <anna@example.org>\n"),
        "{output:?}"
    );
    let rule = "MX mx.example.org matches mx.example.org of domains/@big.ini";
    assert!(
        output.stdout.contains("@big") && output.stdout.contains(rule),
        "{output:?}"
    );

    let output = explain(
        "anna@example.org",
        &["--json", "--directive", r#"{"message":{"timeout":30}}"#],
    );
    let document = json(&output.stdout);
    let decided = |key: &str| {
        let all = document["decisions"].as_array().unwrap();
        let found = all.iter().find(|d| d["key"] == key);
        found
            .unwrap_or_else(|| panic!("{key}: {document:#}"))
            .clone()
    };
    assert_eq!(decided("account")["value"], "shop");
    assert_eq!(decided("group")["value"], "@big");
    assert!(
        decided("timeout")["value"]
            .as_str()
            .unwrap()
            .starts_with("30"),
        "{document:#}"
    );
    assert!(
        document["refused"].as_array().unwrap().is_empty(),
        "{document:#}"
    );

    let refused = json(&explain("gone@example.org", &["--json"]).stdout);
    assert_eq!(refused["refused"][0]["at"], "RCPT");
    assert!(
        refused["refused"][0]["reply"]
            .as_str()
            .unwrap()
            .starts_with("451 9.2.1 "),
        "{refused:#}"
    );

    let unknown = finish(
        tree.galerne([
            "explain",
            "--from",
            "",
            "--to",
            "a@b.example",
            "--user",
            "nobody",
        ]),
        "",
    );
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
    assert!(
        unknown.stderr.contains("there is no account nobody"),
        "{unknown:?}"
    );
    assert!(
        !names.questions().is_empty(),
        "the configured name server is the one that is asked"
    );
    assert_eq!(sink.connected(), 0, "nothing is sent");
}

#[test]
fn if_7_check_as_one_document() {
    let tree = Tree::new("[rfmta]\nmxprot = 26\n");
    let output = tree.command("check --json");
    assert_eq!(output.code, Some(0), "{output:?}");
    let document = json(&output.stdout);
    assert_eq!(
        (&document["errors"], &document["warnings"]),
        (&0.into(), &1.into())
    );
    let finding = &document["findings"][0];
    assert_eq!(finding["file"], "galerne.ini");
    assert_eq!(finding["line"], 6);
    assert_eq!(finding["level"], "warning");
    assert_eq!(
        (&finding["section"], &finding["key"]),
        (&"rfmta".into(), &"mxprot".into())
    );
    assert!(
        output.stderr.contains("1 warning(s)"),
        "words for people: {output:?}"
    );
}

#[test]
fn if_7_a_reader_that_goes_away_is_no_failure_and_a_full_disk_is_one() {
    let tree = Tree::new("");
    let to = |device: &str| {
        let file = fs::OpenOptions::new().write(true).open(device).unwrap();
        let mut command = tree.galerne(["users", "list"]);
        let output = command.stdout(file).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(to("/dev/null").0, Some(0));
    let (code, stderr) = to("/dev/full");
    assert_eq!(code, Some(1));
    assert!(stderr.contains("standard output: "), "{stderr}");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = tree
        .galerne(["users", "list"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_5_send_prints_the_reply_and_exits_by_its_class() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    sink.rule(
        Rule::at(Stage::Dot)
            .recipient("yes")
            .reply("250-2.0.0 Queued\n250 as 7F31"),
    );
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("full")
            .reply("452 4.2.2 Mailbox full"),
    );
    sink.rule(
        Rule::at(Stage::Rcpt)
            .recipient("no")
            .reply("550 5.1.1 No such user"),
    );
    let server = tree.run();
    let send = |arguments: &[&str], input: &str| {
        let all = ["send", "--from", "orders@example.com"]
            .iter()
            .chain(arguments)
            .copied();
        finish(tree.galerne(all), input)
    };
    // Line ends of this system, a dot alone, and no end of the last line.
    let output = send(
        &["--to", "yes@example.org"],
        "From: <orders@example.com>\n\nOne\n.\nTwo",
    );
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), "250-2.0.0 Queued\n250 as 7F31\n"),
        "{output:?}"
    );
    let message = sink.messages().remove(0);
    assert_eq!(
        message.content,
        b"From: <orders@example.com>\r\n\r\nOne\r\n.\r\nTwo\r\n"
    );
    assert_eq!(
        (message.sender.as_str(), &*message.recipients),
        ("orders@example.com", &["yes@example.org".to_owned()][..])
    );

    let output = send(&["--to", "full@example.org", "-"], MESSAGE);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(75), "452 4.2.2 Mailbox full\n"),
        "{output:?}"
    );
    tree.write("letter.eml", MESSAGE);
    let file = tree.path("letter.eml");
    let output = send(&["--to", "no@example.org", file.to_str().unwrap()], "");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(69), "550 5.1.1 No such user\n"),
        "{output:?}"
    );

    // A directive goes before the message and is obeyed; two recipients are one message.
    let directive = r#"{"message":{"ref":"order-4711"}}"#;
    let to = [
        "--to",
        "a@example.org",
        "--to",
        "b@example.org",
        "--directive",
        directive,
        "--user",
        LOGIN,
    ];
    let output = send(&to, MESSAGE);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(sink.messages().last().unwrap().recipients.len(), 2);
    assert!(
        tree.wait_for("logs/rfrelay.csv", "order-4711")
            .contains("shop,order-4711")
    );
    let output = send(
        &[
            "--to",
            "a@example.org",
            "--directive",
            r#"{"message":{"ref":"X"}}"#,
        ],
        MESSAGE,
    );
    assert_eq!(output.code, Some(75), "{output:?}");
    assert!(
        output
            .stdout
            .starts_with("451 9.1.4 X-SMTP-R-API message.ref "),
        "{output:?}"
    );

    let output = send(&["--to", "a@example.org", "--user", "nobody"], MESSAGE);
    assert_eq!(output.code, Some(69), "{output:?}");
    assert!(
        output.stdout.contains("there is no account nobody"),
        "{output:?}"
    );
    let output = send(&["--to", "a@example.org", "no-such-file"], "");
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("no-such-file: "), "{output:?}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn if_8_send_without_a_server_says_so_and_exits_1() {
    let tree = Tree::new("");
    let send = || {
        finish(
            tree.galerne(["send", "--from", "a@example.com", "--to", "b@example.org"]),
            MESSAGE,
        )
    };
    let output = send();
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(1), ""),
        "{output:?}"
    );
    assert!(output.stderr.contains("no server runs on "), "{output:?}");
    assert!(
        output.stderr.contains(" run`"),
        "it says what to do: {output:?}"
    );

    // A server that was killed leaves its socket behind.
    let server = tree.run();
    server.signal(rustix::process::Signal::KILL);
    assert_eq!(server.end().signal, Some(9));
    assert!(tree.path("system/control.sock").exists());
    let output = send();
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(1), ""),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("is left from one that has ended"),
        "{output:?}"
    );

    // And the next one starts all the same.
    assert_eq!(tree.run().stop().code, Some(0));
}
