//! The start of the server: what it prints, makes, opens and becomes.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::process::{LOGIN, MESSAGE, PASSWORD, PATIENCE, Server, Tree, finish, galerne, program};
use galerne_sim::sink::Sink;
use rustix::process::Signal;

/// Whether a server greets at this address.
fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"220 "
}

#[test]
fn if_2_conf_8_the_start_prints_what_it_found_and_then_that_it_is_ready() {
    let tree = Tree::new("[rfmta]\nmxprot = 26\n");
    tree.write(
        "domains/@big.ini",
        "[dns]\nmx = *.example.org\n[pattern]\na = HARD(x) 550 x*\n",
    );
    tree.write_secret(
        "hosts/@next.ini",
        "[dns]\nmx = gate.example.net\nport = 587\n",
    );
    tree.write_secret("users/bad.ini", "[account]\nsmtpssl = maybe\n");
    let server = tree.run();
    assert!(greets(tree.smtp), "ready means that it accepts");
    assert!(TcpStream::connect(tree.smtps).is_ok());
    let stdout = server.stdout();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.last(), Some(&"galerne ready"));
    for line in [
        format!("IP {} mta.test.example", tree.ip(1)),
        format!("listen {} SMTP (clear, STARTTLS)", tree.smtp),
        format!("listen {} SMTP (TLS)", tree.smtps),
        format!("listening on {}", tree.smtp),
        "user shop (login shop@example.com, from 127.0.0.0/8)".to_owned(),
        "host @next gate.example.net port 587".to_owned(),
        "1 errors, 1 warnings".to_owned(),
    ] {
        assert!(lines.contains(&&*line), "{line:?} is not in:\n{stdout}");
    }
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("group @big (1 MX patterns, ")),
        "{stdout}"
    );
    let stderr = server.stderr();
    assert!(
        stderr.contains("users/bad.ini:2: error: [account] smtpssl: "),
        "{stderr}"
    );
    assert!(
        stderr.contains("galerne.ini:6: warning: [rfmta] mxprot: "),
        "{stderr}"
    );
    assert_eq!(server.stop().code, Some(0));

    let log = tree.read("logs/galerne.txt");
    for line in lines.iter().filter(|l| **l != "galerne ready") {
        assert!(
            log.contains(&format!(" {line}\n")),
            "{line:?} is not in logs/galerne.txt:\n{log}"
        );
    }
    assert!(log.contains("users/bad.ini:2: error: "), "{log}");
}

#[test]
fn if_2_it_is_not_ready_before_every_listener_accepts() {
    let tree = Tree::new("");
    // One of two addresses is taken: there is no half a server.
    let taken = TcpListener::bind(tree.smtps).unwrap();
    let output = tree.command("run");
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(!output.stdout.contains("galerne ready"), "{output:?}");
    let said = format!("cannot listen on {}: ", tree.smtps);
    assert!(
        output.stderr.contains(&said) && output.stderr.contains("another program"),
        "{output:?}"
    );
    drop(taken);
    let server = tree.run();
    let second = tree.command("run");
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(
        second.stderr.contains("another galerne runs on this root"),
        "{second:?}"
    );
    assert!(greets(tree.smtp), "the first one is not hurt");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn if_2_systemd_is_told_and_both_signals_stop() {
    for signal in [Signal::TERM, Signal::INT] {
        let tree = Tree::new("");
        let path = tree.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = tree.galerne(["run"]);
        command.env("NOTIFY_SOCKET", &path);
        let server = Server::ready(command);
        let hear = || {
            let mut octets = [0; 256];
            let length = socket.recv(&mut octets).unwrap();
            String::from_utf8(octets[..length].to_vec()).unwrap()
        };
        assert!(hear().lines().any(|l| l == "READY=1"));
        assert!(greets(tree.smtp));
        server.signal(signal);
        let output = server.end();
        assert_eq!(output.code, Some(0), "{signal:?}: {output:?}");
        assert!(hear().lines().any(|l| l == "STOPPING=1"));
        assert!(!greets(tree.smtp));
    }
}

#[test]
fn if_8_the_control_socket_is_for_the_owner_only_and_goes_with_the_server() {
    let tree = Tree::new("");
    let server = tree.run();
    let socket = fs::metadata(tree.path("system/control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(socket.uid(), rustix::process::getuid().as_raw());
    let around = fs::metadata(tree.path("system")).unwrap();
    assert_eq!(around.permissions().mode() & 0o077, 0);
    assert_eq!(server.stop().code, Some(0));
    assert!(!tree.path("system/control.sock").exists());
}

#[test]
fn if_8_a_root_with_a_long_name_has_its_control_socket_too() {
    let tree = Tree::new("");
    let deep = tree.path(&"deep/".repeat(30));
    fs::create_dir_all(deep.join("users")).unwrap();
    for file in ["galerne.ini", "users/shop.ini"] {
        fs::copy(tree.path(file), deep.join(file)).unwrap();
    }
    let at_root = |arguments: &[&str]| {
        let mut command = galerne();
        command.arg("--root").arg(&deep).args(arguments);
        command
    };
    let server = Server::ready(at_root(&["run"]));
    let send = ["send", "--from", "a@example.com", "--to", "b@c..example"];
    let output = finish(at_root(&send), MESSAGE);
    assert_eq!(output.code, Some(75), "{output:?}");
    assert!(output.stdout.starts_with("451 9.2.2 "), "{output:?}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn conf_1_nothing_but_the_operating_system_is_needed() {
    let tree = Tree::new("");
    let linked = Command::new("ldd").arg(program()).output();
    let linked = linked.expect("ldd of the C library");
    let linked = String::from_utf8(linked.stdout).unwrap();
    let system = [
        "linux-vdso",
        "libc.",
        "libm.",
        "libgcc_s.",
        "libdl.",
        "libpthread.",
        "librt.",
        "ld-linux",
    ];
    for line in linked.lines().filter(|l| !l.contains("statically linked")) {
        let name = line.trim().rsplit('/').next().unwrap_or(line);
        let known = system
            .iter()
            .any(|s| name.starts_with(s) || line.trim().starts_with(s));
        assert!(known, "links to {line}");
    }
    // No variable, no search path, no other file than those of its root.
    let mut command = tree.galerne(["run"]);
    command.env_clear().current_dir("/");
    assert_eq!(Server::ready(command).stop().code, Some(0));
}

#[test]
fn conf_2_conf_3_a_root_that_was_copied_goes_on_elsewhere() {
    let tree = Tree::new("");
    tree.write("lists/rfhard.csv", "email\ngone@example.org\n");
    assert_eq!(tree.run().stop().code, Some(0));
    let elsewhere = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(tree.root())
        .arg(elsewhere.path().join("r"))
        .status();
    assert!(copied.unwrap().success());
    fs::rename(tree.root(), tree.root().with_extension("gone")).unwrap();
    let mut command = galerne();
    command
        .arg("--root")
        .arg(elsewhere.path().join("r"))
        .arg("run");
    let server = Server::ready(command);
    assert!(greets(tree.smtp));
    assert_eq!(server.stop().code, Some(0));
    assert!(!tree.root().exists(), "the old place is not used");
    fs::rename(tree.root().with_extension("gone"), tree.root()).unwrap();
    // All of it is text that a person can read.
    for file in [
        "galerne.ini",
        "users/shop.ini",
        "lists/rfhard.csv",
        "logs/galerne.txt",
        "logs/rfrelay.csv",
    ] {
        let octets = fs::read(elsewhere.path().join("r").join(file)).unwrap();
        let text = String::from_utf8(octets).unwrap();
        assert!(
            text.chars().all(|c| c >= ' ' || "\r\n\t".contains(c)),
            "{file}"
        );
    }
}

#[test]
fn conf_6_conf_7_conf_33_missing_directories_are_made_at_the_start() {
    let tree = Tree::new("");
    let server = tree.run();
    for name in [
        "users",
        "domains",
        "hosts",
        "lists",
        "keys",
        "relays",
        "logs",
        "wwws",
        "mails",
        "queues",
        "system",
        "certs",
        "spool",
        "spool/shop/REQUEST",
        "spool/shop/RESPONSE",
        "spool/shop/LOG",
        "spool/shop/REPLY",
        "spool/shop/DATA",
    ] {
        assert!(tree.path(name).is_dir(), "{name}");
    }
    assert!(server.stdout().contains("/logs created\n") || tree.path("logs").is_dir());
    assert!(
        server
            .stdout()
            .lines()
            .any(|l| l.starts_with("directory ") && l.ends_with("/keys created"))
    );
    assert_eq!(server.stop().code, Some(0));
    let again = tree.run();
    assert!(
        !again.stdout().contains(" created\n"),
        "only what is missing: {}",
        again.stdout()
    );
    assert_eq!(again.stop().code, Some(0));
}

#[test]
fn conf_9_options_are_read_from_galerne_opts() {
    let tree = Tree::new("");
    // 192.0.2.1 is on no host: without the option it is skipped and said.
    tree.append("galerne.ini", "[ip]\n192.0.2.1 = mta2.test.example\n");
    let server = tree.run();
    assert!(
        server
            .stderr()
            .contains("192.0.2.1: not an address of this host"),
        "{}",
        server.stderr()
    );
    assert_eq!(server.stop().code, Some(0));
    tree.write("galerne.opts", "# start parameters\n--no-bind-check\n");
    let server = tree.run();
    assert!(
        !server.stderr().contains("192.0.2.1"),
        "{}",
        server.stderr()
    );
    assert!(server.stdout().contains("IP 192.0.2.1 mta2.test.example\n"));
    assert_eq!(server.stop().code, Some(0));
    for (wrong, code, said) in [
        ("run\n", 1, "galerne.opts:1: error: "),
        (
            "--no-such-option\n",
            2,
            "galerne.opts: these options do not fit",
        ),
    ] {
        tree.write("galerne.opts", wrong);
        let output = tree.command("run");
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stderr.contains(said), "{output:?}");
    }
}

#[test]
fn conf_11_an_error_in_the_main_file_stops_the_start() {
    let tree = Tree::new("[rfmta]\nmxport = many\n");
    let output = tree.command("run");
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output
            .stderr
            .contains("galerne.ini:6: error: [rfmta] mxport: "),
        "{output:?}"
    );
    assert!(output.stderr.contains("nothing was started"), "{output:?}");
    assert!(!greets(tree.smtp));
}

#[test]
fn if_11_listen_takes_ports_and_suffixes_but_not_port_0() {
    let tree = Tree::new("");
    let (plain, tls) = (tree.place(2), tree.place(2));
    tree.append(
        "galerne.ini",
        &format!("[rfrelay]\nlisten = {plain} {tls}/tls\n"),
    );
    let server = tree.run();
    assert!(greets(plain));
    // TLS from the first octet: the server waits for the client to speak.
    let mut stream = TcpStream::connect(tls).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert!(stream.read(&mut [0; 1]).is_err());
    assert_eq!(server.stop().code, Some(0));

    tree.append(
        "galerne.ini",
        &format!("[rfrelay]\nlisten = {}:0\n", tree.ip(2)),
    );
    let output = tree.command("run");
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stderr.contains(": error: [rfrelay] listen: "),
        "{output:?}"
    );
}

#[test]
fn if_13_the_log_is_filtered_by_the_environment_and_json_by_the_main_file() {
    let tree = Tree::new("[rafale]\nlog = json\n[rfmta]\nmxprot = 26\n");
    tree.write_secret("users/bad.ini", "[account]\nsmtpssl = maybe\n");
    let server = tree.run();
    assert!(!server.reload(), "a bad file stops a reload");
    let output = server.stop();
    let lines: Vec<serde_json::Value> = output
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}")))
        .collect();
    let has = |level: &str, text: &str| {
        let said = |l: &serde_json::Value| {
            l["level"] == level && l["message"].as_str().unwrap().contains(text)
        };
        assert!(lines.iter().any(said), "{level} {text}: {lines:#?}");
    };
    has("ERROR", "users/bad.ini:2: error: ");
    has("WARN", "galerne.ini:8: warning: ");
    has("ERROR", "configuration not reloaded");
    has("INFO", "stopping");
    assert!(
        !output.stdout.starts_with('{'),
        "what was found is for people: {output:?}"
    );

    let tree = Tree::new("");
    let with = |filter: &str| {
        let mut command = tree.galerne(["run"]);
        command.env("GALERNE_LOG", filter);
        Server::ready(command).stop().stderr
    };
    assert!(with("info").contains("INFO stopping"));
    assert_eq!(with("error"), "");
    let mut command = tree.galerne(["run"]);
    command.env("GALERNE_LOG", "galerne=loud");
    let output = finish(command, "");
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("GALERNE_LOG: "), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conf_87_conf_90_logs_have_the_messages_and_none_of_the_secrets() {
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    let login = "login = we@example.net\npassw = the-password-of-the-relay\n[dns]\nauthclear = 1\n";
    tree.route_to(sink.address(), login);
    let mut command = tree.galerne(["run"]);
    command.env("GALERNE_LOG", "trace");
    let server = Server::ready(command);
    let mut client = tree.greeted().await;
    let token = "AHNob3BAZXhhbXBsZS5jb20AY29ycmVjdC1ob3JzZS03";
    let reply = client
        .command(&format!("AUTH PLAIN {token}"))
        .await
        .unwrap();
    assert_eq!(reply.code, 235, "{reply}");
    let reply = client
        .transaction(
            "orders@example.com",
            &["anna@example.org"],
            MESSAGE.as_bytes(),
        )
        .await
        .unwrap();
    // The relay offers no AUTH, which is the relay host's fault and said; secrets are not.
    assert!(reply.code == 250 || reply.code == 451, "{reply}");
    let mut wrong = tree.greeted().await;
    let reply = wrong
        .command("AUTH PLAIN AHNob3BAZXhhbXBsZS5jb20Ad3JvbmctcGFzc3dvcmQ=")
        .await
        .unwrap();
    assert_eq!(reply.code, 535, "{reply}");
    let output = server.stop();
    let mut all = format!("{}{}", output.stdout, output.stderr);
    for file in [
        "galerne.txt",
        "rfmta.txt",
        "rfmta.csv",
        "rfrelay.txt",
        "rfrelay.csv",
    ] {
        all.push_str(&tree.read(&format!("logs/{file}")));
    }
    assert!(tree.path("logs/galerne.txt").is_file());
    assert!(
        tree.read("logs/rfrelay.csv").lines().count() == 2,
        "one line per message"
    );
    assert!(
        tree.read("logs/rfmta.csv").lines().count() == 2,
        "one line per delivery"
    );
    for secret in [
        PASSWORD,
        token,
        "the-password-of-the-relay",
        "wrong-password",
        "Hello",
    ] {
        assert!(!all.contains(secret), "{secret} in:\n{all}");
    }
    assert!(all.contains(LOGIN), "who it was may be said");
}
