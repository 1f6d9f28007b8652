//! `galerne demo` as a process, as somebody would start it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

fn galerne(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_galerne"));
    command.args(args).env_remove("GALERNE_LOG");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn once() -> Command {
    galerne(&[
        "demo",
        "--once",
        "--smtp",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ])
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn if_3_demo_once_shows_every_reply_and_exits_0() {
    let output = once().output().expect("galerne runs");
    let page = text(&output);
    assert!(
        output.status.success(),
        "{page}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in [
        "client  250 2.0.0 Ok: queued as 1-1",
        "client  550 5.1.1 <nobody@inbox.example>: no such user here",
        "client  451 9.2.1 X-SMTP-R-API recipient refused by list rfhard",
        "RCPT    554 5.7.1 Service unavailable; client [127.0.0.2] blocked",
        "hop 2   127.0.0.3 -> mx.strict.example",
        "client  452 4.2.2 <full@inbox.example>: mailbox full",
        "CONNECT connection refused",
        "client  451 9.1.4 X-SMTP-R-API message.ref",
        "client  250-2.0.0 <anna@inbox.example> Ok: queued as ",
        "notice  to shop@news.example: 250 ",
        "8 messages, 8 replies: all as they must be",
        "HTTP is not part of this version",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    assert!(
        page.is_ascii() && !page.contains('\x1b'),
        "not a terminal: plain text"
    );
    assert!(page.lines().all(|line| line.len() <= 80), "{page}");
    assert!(!root(&page).exists(), "the temporary root is removed");
}

#[test]
fn if_3_two_demos_do_not_disturb_each_other() {
    let both: Vec<Child> = (0..2)
        .map(|_| once().spawn().expect("galerne runs"))
        .collect();
    for child in both {
        let output = child.wait_with_output().expect("galerne ends");
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn if_3_an_address_in_use_names_the_option() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("its address").to_string();
    let output = galerne(&["demo", "--once", "--smtp", &address])
        .output()
        .expect("galerne runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&address) && said.contains("--smtp"), "{said}");
    assert!(
        output.stdout.is_empty(),
        "nothing is shown that did not happen"
    );
}

#[test]
fn if_3_it_serves_until_interrupted_and_its_commands_work() {
    let mut child = galerne(&["demo", "--smtp", "127.0.0.1:0"])
        .spawn()
        .expect("galerne runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output"));
    let page = until(&mut lines, "What comes in is shown here.");
    let root = root(&page);
    assert!(root.join("galerne.ini").exists() && root.join("logs").exists());
    for command in commands(&page) {
        let output = Command::new("sh")
            .arg("-c")
            .arg(&command)
            .output()
            .expect("sh runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            said.contains("4.2.2 <full@inbox.example>: mailbox full"),
            "{command}\n{said}"
        );
        let seen = until(&mut lines, "client  452");
        assert!(seen.contains("to      full@inbox.example"), "{seen}");
    }
    let stopped = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(stopped.expect("kill runs").success());
    assert!(child.wait().expect("galerne ends").success());
    assert!(!root.exists(), "the temporary root is removed");
}

/// The lines up to the one that contains `last`.
fn until(lines: &mut BufReader<ChildStdout>, last: &str) -> String {
    let mut page = String::new();
    loop {
        let from = page.len();
        let read = lines.read_line(&mut page).expect("a line");
        assert!(read > 0, "ended before {last:?}:\n{page}");
        if page[from..].contains(last) {
            return page;
        }
    }
}

/// The three commands that the page offers.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("\n\n").filter(|block| {
        let block = block.trim_start();
        ["swaks ", "printf ", "python3 "]
            .iter()
            .any(|tool| block.starts_with(tool))
    });
    let commands: Vec<String> = blocks.map(str::to_owned).collect();
    assert_eq!(commands.len(), 3, "{page}");
    commands
}

fn root(page: &str) -> PathBuf {
    let line = page
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("files "))
        .expect("files");
    PathBuf::from(line.trim_start().split(' ').next().expect("a path"))
}
