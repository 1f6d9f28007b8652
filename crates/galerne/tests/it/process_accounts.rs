//! Accounts from the command line: passwords, limits and what is used up of them (CONF-93, IF-6).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::process::{LOGIN, MESSAGE, PASSWORD, Tree, finish, program};

/// The one JSON document on standard output.
fn json(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout:?}"))
}

#[test]
fn conf_93_users_list_shows_limits_and_what_is_used_up_even_after_a_restart() {
    let tree = Tree::new("");
    let remote = silent_remote();
    tree.route_to(remote, "");
    tree.append("users/shop.ini", "[account]\nmaxhour = 2\n");
    let list = |tree: &Tree| {
        let output = tree.command("users list --json");
        assert_eq!(output.code, Some(0), "{output:?}");
        json(&output.stdout)[0].clone()
    };
    assert_eq!(list(&tree)["used"], Value::Null, "no server can be asked");
    assert_eq!(list(&tree)["maxhour"], 2);

    let server = tree.run();
    for (to, code) in [
        ("a@example.org", 75),
        ("b@example.org", 75),
        ("c@example.org", 75),
    ] {
        let output = finish(
            tree.galerne(["send", "--from", "a@example.com", "--to", to]),
            MESSAGE,
        );
        assert_eq!(output.code, Some(code), "{output:?}");
        let limited = output.stdout.starts_with("451 4.7.1 account shop ");
        assert_eq!(limited, to.starts_with('c'), "{output:?}");
    }
    assert_eq!(
        list(&tree)["used"],
        serde_json::json!({"hour": 2, "day": 2})
    );
    let output = tree.command("users list");
    assert!(
        output
            .stdout
            .contains(" - Hour: 2 of 2 - Day: 2 of no limit"),
        "{output:?}"
    );
    assert_eq!(server.stop().code, Some(0));

    let server = tree.run();
    assert_eq!(list(&tree)["used"]["day"], 2);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn conf_64_conf_59_the_list_of_an_account_is_created_empty_and_fills_its_filter() {
    let tree = Tree::new("");
    tree.append("users/shop.ini", "[list]\nfilter = %user%\n");
    assert!(!tree.path("lists/shop.csv").exists());
    let check = tree.command("check");
    assert_eq!(check.code, Some(0), "{check:?}");
    let server = tree.run();
    let list = tree.read("lists/shop.csv");
    assert_eq!(list.lines().count(), 1, "{list}");
    assert!(list.starts_with("email,"), "{list}");
    tree.write("lists/shop.csv", &format!("{list}gone@example.org\n"));
    assert!(server.reload());
    let arguments = [
        "send",
        "--from",
        "a@example.com",
        "--to",
        "gone@example.org",
    ];
    let output = finish(tree.galerne(arguments), MESSAGE);
    assert!(
        output.stdout.starts_with("451 9.2.1 ") && output.stdout.contains("list shop"),
        "{output:?}"
    );
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn conf_38_conf_37_a_user_file_that_is_added_later_is_taken_and_gets_its_tree() {
    let tree = Tree::new("");
    let server = tree.run();
    let code = |login: &str| login_code_of(&tree, login, "a password of 2026");
    assert_eq!(code("new-shop"), 535);
    tree.write_secret(
        "users/New-Shop.ini",
        "[account]\nsmtpssl = 0\nsmtppassw = a password of 2026\n",
    );
    assert!(server.reload());
    for folder in ["REQUEST", "RESPONSE", "LOG", "REPLY", "DATA"] {
        let folder = tree.path("spool/new-shop").join(folder);
        assert!(folder.is_dir(), "{folder:?}");
    }
    assert_eq!(code("NEW-shop"), 235);
    // Gone with its file.
    fs::remove_file(tree.path("users/New-Shop.ini")).unwrap();
    assert!(server.reload());
    assert_eq!(code("new-shop"), 535);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn t_25_conf_90_failed_logins_are_told_with_address_and_account_and_never_with_what_was_typed() {
    let tree = Tree::new("");
    let server = tree.run();
    for (login, password) in [(LOGIN, "guessed one"), ("typed-secret", "guessed two")] {
        assert_eq!(login_code_of(&tree, login, password), 535);
    }
    let said = server.stderr();
    let told = |account: &str| {
        let mut lines = said.lines().filter(|line| line.contains("AUTH failed"));
        lines.any(|line| line.contains("peer=127.") && line.contains(account))
    };
    assert!(told("account=\"shop\"") && told("account=\"-\""), "{said}");
    assert!(
        !said.contains("guessed") && !said.contains("typed-secret"),
        "{said}"
    );
    assert_eq!(server.stop().code, Some(0));
}

/// Nobody listens there: every attempt fails at once.
fn silent_remote() -> std::net::SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn if_6_conf_21_conf_53_users_passwd_writes_a_hash_and_nothing_else() {
    let tree = Tree::new("");
    let before = format!(
        "; mine\n[Account]\nsmtplogin = {LOGIN}\n# the old one\nSmtpPassw = {PASSWORD}\nsmtpssl = 0\nodd = kept\n"
    );
    tree.write_secret("users/shop.ini", &before);
    let server = tree.run();
    let passwd = |name: &str, typed: &str| finish(tree.galerne(["users", "passwd", name]), typed);
    let output = passwd("Shop", "a new password\nsecond line\n");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), ""),
        "{output:?}"
    );
    assert!(!format!("{output:?}").contains("a new password"), "conf_90");
    let after = fs::read_to_string(tree.path("users/shop.ini")).unwrap();
    let (start, rest) = before.split_once(PASSWORD).unwrap();
    let hash = after.strip_prefix(start).and_then(|a| a.strip_suffix(rest));
    let hash = hash.unwrap_or_else(|| panic!("{after}"));
    assert!(hash.starts_with("{argon2}$argon2id$v=19$m="), "{hash}");
    let mode = fs::metadata(tree.path("users/shop.ini"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // The server takes it with the next reading, and then the old one no more.
    assert!(server.reload());
    assert_eq!(login_code(&tree, "a new password"), 235);
    assert_eq!(login_code(&tree, PASSWORD), 535);
    assert_eq!(server.stop().code, Some(0));

    for (name, typed, said) in [
        ("nobody", "a new password\n", "there is no account nobody"),
        ("shop", "short\n", "at least 8 characters"),
        ("shop", "", "at least 8 characters"),
    ] {
        let output = passwd(name, typed);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains(said), "{output:?}");
    }
    assert_eq!(
        fs::read_to_string(tree.path("users/shop.ini")).unwrap(),
        after
    );
}

#[test]
fn if_6_users_passwd_asks_a_terminal_twice_and_shows_nothing() {
    let tree = Tree::new("");
    let python = "import os,pty,sys,time\n\
        lines=sys.argv[1].split('|'); args=sys.argv[2:]\n\
        pid,fd=pty.fork()\n\
        if pid==0: os.execv(args[0],args)\n\
        seen=b''; sent=0\n\
        while True:\n\
        \x20try: part=os.read(fd,1024)\n\
        \x20except OSError: break\n\
        \x20if not part: break\n\
        \x20seen+=part\n\
        \x20if seen.count(b': ')>sent and sent<len(lines): os.write(fd,(lines[sent]+'\\n').encode()); sent+=1\n\
        sys.stdout.write(seen.decode()); sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid,0)[1]))\n";
    let typed = |lines: &str| {
        let output = std::process::Command::new("python3")
            .args(["-c", python, lines])
            .arg(program())
            .arg("--root")
            .arg(tree.root())
            .args(["users", "passwd", "shop"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let (code, seen) = typed("a new password|a new password");
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("Password for shop: ") && seen.contains("The same again: "));
    assert!(!seen.contains("a new"), "{seen}");
    let file = fs::read_to_string(tree.path("users/shop.ini")).unwrap();
    assert!(file.contains("smtppassw = {argon2}$argon2id$"), "{file}");
    let (code, seen) = typed("a new password|another password");
    assert_eq!(code, Some(1), "{seen}");
    assert!(seen.contains("the two passwords differ"), "{seen}");
    assert_eq!(
        fs::read_to_string(tree.path("users/shop.ini")).unwrap(),
        file
    );
}

/// The code that the server gives to this password.
fn login_code(tree: &Tree, password: &str) -> u16 {
    login_code_of(tree, LOGIN, password)
}

fn login_code_of(tree: &Tree, login: &str, password: &str) -> u16 {
    use std::io::{BufRead, BufReader, Write};
    let stream = std::net::TcpStream::connect(tree.smtp).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut say = |line: &str| {
        (&stream)
            .write_all(format!("{line}\r\n").as_bytes())
            .unwrap();
        loop {
            let reply = lines.next().unwrap();
            if reply.as_bytes()[3] == b' ' && !reply.starts_with("220") {
                return reply[..3].parse().unwrap();
            }
        }
    };
    let _: u16 = say("EHLO app.example.com");
    say(&format!(
        "AUTH PLAIN {}",
        crate::world::base64(format!("\0{login}\0{password}").as_bytes())
    ))
}
