//! Mail of programs on this host, through a link called `sendmail` to the real program (QUEUE-24), and
//! the story that is told of it (QUEUE-17).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use galerne_sim::nameserver::NameServer;
use galerne_sim::sink::{MessageRecord, Rule, Sink, Stage};
use serde_json::Value;

use crate::process::{Output, PATIENCE, Tree, finish, program, until};

const KEYS: &str = "[maildrop]\nuser = shop\norigin = example.com\n";
const TEXT: &str = "To: Anna <anna@example.org>\nBcc: secret@example.org\nSubject: Hi\n\nLine one\n.\nLine three\n";

/// `sendmail` with these flags, by a link; its root is named by the environment.
fn sendmail(tree: &Tree, flags: &str) -> Command {
    let link = tree.path("bin/sendmail");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let _ = symlink(program(), &link);
    let mut command = Command::new(link);
    command
        .args(flags.split_whitespace())
        .env_clear()
        .env("GALERNE_ROOT", tree.root());
    command
}

/// Drops a message and expects nothing to be said.
fn drop_message(tree: &Tree, flags: &str, text: &str) {
    let output = finish(sendmail(tree, flags), text);
    assert_eq!(
        (output.code, &*output.stdout, &*output.stderr),
        (Some(0), "", ""),
        "{output:?}"
    );
}

/// The files that wait.
fn waiting(tree: &Tree, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(tree.path(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "rejected").collect()
}

/// Waits until the sink has so many messages.
async fn messages(sink: &Sink, count: u64) -> Vec<MessageRecord> {
    let came = tokio::time::timeout(PATIENCE, sink.wait_accepted(count)).await;
    let found = sink.messages();
    assert!(came.is_ok(), "{} of {count}: {found:?}", found.len());
    found
}

fn text(message: &MessageRecord) -> String {
    String::from_utf8(message.content.clone()).unwrap()
}

/// A tree whose mail goes to a sink.
async fn tree(main: &str) -> (Tree, Sink) {
    let tree = Tree::new(main);
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    (tree, sink)
}

/// The same with a name server, by which mail of ours to this host's people goes.
async fn tree_with_mx(main: &str) -> (Tree, Sink, NameServer) {
    let (tree, sink) = tree(main).await;
    let zone = format!(
        "example.com. MX 10 mx.example.com.\nmx.example.com. A {}\n",
        tree.ip(2)
    );
    let names = NameServer::start_on(tree.ip(3), &zone).await.unwrap();
    let port = sink.address().port();
    let more = format!(
        "[dns]\nresolver = {}\n[rfmta]\nmxport = {port}\n",
        names.address()
    );
    tree.append("galerne.ini", &more);
    (tree, sink, names)
}

/// Who runs these tests, as the maildrop sees it.
fn me() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let mut lines = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields[2] == uid.to_string());
    line.map_or(format!("uid{uid}"), |fields| fields[0].to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_24_a_message_is_dropped_while_the_server_is_down_and_sent_when_it_is_back() {
    let (tree, sink) = tree(KEYS).await;
    let without = finish(sendmail(&tree, "-t -i"), TEXT);
    assert_eq!(without.code, Some(73), "{without:?}");
    assert!(without.stderr.contains("[maildrop]"), "{without:?}");
    assert_eq!(tree.run().stop().code, Some(0));
    let about = fs::metadata(tree.path("maildrop")).unwrap();
    assert_eq!(about.mode() & 0o7777, 0o700, "no group may drop mail");

    drop_message(&tree, "-t -i", TEXT);
    assert_eq!(waiting(&tree, "maildrop").len(), 1);
    let server = tree.run();
    let message = messages(&sink, 1).await.remove(0);
    let text = text(&message);
    assert_eq!(message.sender, format!("{}@example.com", me()));
    let mut recipients = message.recipients.clone();
    recipients.sort();
    assert_eq!(recipients, ["anna@example.org", "secret@example.org"]);
    assert!(
        text.starts_with("Received: from localhost ([127.0.0.1])\r\n"),
        "{text}"
    );
    for field in ["\r\nFrom: ", "\r\nDate: ", "\r\nMessage-ID: <"] {
        assert_eq!(text.matches(field).count(), 1, "{field:?} in {text}");
    }
    assert!(
        text.contains(&format!("<{}@example.com>\r\n", me())),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
    assert!(
        text.ends_with(
            "To: Anna <anna@example.org>\r\nSubject: Hi\r\n\r\nLine one\r\n.\r\nLine three\r\n"
        ),
        "{text}"
    );
    assert_eq!(
        until(|| waiting(&tree, "maildrop").is_empty().then_some(())),
        Some(())
    );

    // The running server takes what is dropped now, and an application may name the sender.
    drop_message(
        &tree,
        "-i -fnews@shop.example -N never -V 42 bert@example.org",
        "Subject: b\nFrom: News <news@shop.example>\n\nb\n",
    );
    let message = messages(&sink, 2).await.remove(1);
    assert_eq!(message.sender, "news@shop.example");
    assert!(
        message.envelope[0].contains("ENVID=42"),
        "{:?}",
        message.envelope
    );
    assert!(
        message.envelope[1].contains("NOTIFY=NEVER"),
        "{:?}",
        message.envelope
    );
    assert!(server.stop().code == Some(0));
    assert_eq!(waiting(&tree, "maildrop/rejected"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_24_members_of_the_group_may_drop_mail_and_see_none() {
    assert!(
        rustix::process::geteuid().is_root(),
        "run the tests as root: others drop mail here"
    );
    let keys = format!("{KEYS}group = mail\n");
    let (tree, sink) = tree(&keys).await;
    fs::set_permissions(tree.root(), fs::Permissions::from_mode(0o700)).unwrap();
    let server = tree.run();
    server.says("others may not go through it");
    fs::set_permissions(tree.root(), fs::Permissions::from_mode(0o711)).unwrap();
    let group: u32 = {
        let groups = fs::read_to_string("/etc/group").unwrap();
        let line = groups
            .lines()
            .find(|line| line.starts_with("mail:"))
            .unwrap();
        line.split(':').nth(2).unwrap().parse().unwrap()
    };
    let about = fs::metadata(tree.path("maildrop")).unwrap();
    assert_eq!((about.mode() & 0o7777, about.gid()), (0o1730, group));
    let as_user = |mut command: Command, uid: u32, gid: u32, input: &str| {
        command.uid(uid).gid(gid);
        finish(command, input)
    };
    // 3999999999 has no entry in passwd, 2 is bin on every Debian.
    let stranger = as_user(sendmail(&tree, "anna@example.org"), 2, 2, TEXT);
    assert_eq!(stranger.code, Some(77), "{stranger:?}");
    assert!(stranger.stderr.contains("group"), "{stranger:?}");
    let member = as_user(sendmail(&tree, "anna@example.org"), 2, group, TEXT);
    assert_eq!((member.code, &*member.stderr), (Some(0), ""), "{member:?}");
    let unnamed = as_user(
        sendmail(&tree, "anna@example.org"),
        3_999_999_999,
        group,
        TEXT,
    );
    assert_eq!(unnamed.code, Some(0), "{unnamed:?}");
    let unknown = as_user(sendmail(&tree, "anna@example.org"), 65_534, group, TEXT);
    assert_eq!(unknown.code, Some(0), "{unknown:?}");
    let mut senders: Vec<String> = messages(&sink, 2)
        .await
        .into_iter()
        .map(|m| m.sender)
        .collect();
    senders.sort();
    assert_eq!(senders, ["bin@example.com", "uid3999999999@example.com"]);
    // Whose number stands for anybody is nobody.
    assert!(until(|| (waiting(&tree, "maildrop/rejected").len() == 1).then_some(())).is_some());
    for look in ["ls", "cat"] {
        let mut command = Command::new(look);
        command.arg(tree.path("maildrop"));
        let looked = as_user(command, 2, group, "");
        assert!(
            looked.stderr.contains("Permission denied") || looked.stderr.contains("Is a directory"),
            "{looked:?}"
        );
        assert_eq!(looked.stdout, "");
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_24_the_rights_of_the_account_hold_and_what_is_refused_goes_back() {
    let (tree, sink, _names) = tree_with_mx(KEYS).await;
    let account = "smtpip = 127.0.0.0/8\ngranted_from_addr = *@shop.example\nauthorizedroute = @next\n[routing]\nroute = @next\n[list]\nfilter = shop\n";
    tree.account("shop", account);
    tree.write("lists/shop.csv", "email\nlisted@example.org\n");
    let server = tree.run();
    let from =
        |address: &str| format!("From: {address}\nTo: x\nSubject: private\n\nsecret words\n");
    // One recipient of two.
    drop_message(
        &tree,
        "-f news@shop.example listed@example.org anna@example.org",
        &from("news@shop.example"),
    );
    let found = messages(&sink, 2).await;
    let sent = found
        .iter()
        .find(|m| m.sender == "news@shop.example")
        .unwrap();
    assert_eq!(sent.recipients, ["anna@example.org"]);
    let back = found.iter().find(|m| m.sender.is_empty()).unwrap();
    // It goes to whoever dropped it, not to whom a command line names.
    assert_eq!(back.recipients, [format!("{}@example.com", me())]);
    let shown = text(back);
    assert!(
        shown.contains("Final-Recipient: rfc822;listed@example.org"),
        "{shown}"
    );
    assert!(shown.contains("refused by list shop"), "{shown}");
    assert!(
        shown.contains("Subject: private") && !shown.contains("secret words"),
        "{shown}"
    );

    // A From that the account may not use.
    drop_message(
        &tree,
        "-f news@shop.example anna@example.org",
        &from("ceo@other.example"),
    );
    let found = messages(&sink, 3).await;
    let shown = text(&found[2])
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(found[2].sender.is_empty(), "{shown}");
    assert!(
        shown.contains("may not send with From ceo@other.example"),
        "{shown}"
    );
    // Nobody is told of a message from nobody.
    drop_message(
        &tree,
        "-f <> listed@example.org",
        &from("news@shop.example"),
    );
    assert!(until(|| (waiting(&tree, "maildrop/rejected").len() == 1).then_some(())).is_some());
    let log = tree.wait_for("logs/rfrelay.txt", "there is nobody to be told");
    assert!(!log.contains("secret words"));
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(sink.accepted(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_24_what_is_no_dropped_message_is_put_aside() {
    let (tree, sink) = tree(KEYS).await;
    let server = tree.run();
    let place = |name: &str| tree.path(&format!("maildrop/{name}"));
    drop_message(&tree, "anna@example.org", TEXT);
    messages(&sink, 1).await;
    fs::write(place("forged"), "galerne-maildrop 1 2 0 00\n{}").unwrap();
    symlink("/etc/passwd", place("link")).unwrap();
    fs::create_dir(place("folder")).unwrap();
    // Half written ones are left to those who write them.
    fs::write(place("01AA.new"), "galerne-maildrop 1 2").unwrap();
    let rejected = || {
        let mut names = waiting(&tree, "maildrop/rejected");
        names.sort();
        (names == ["folder", "forged", "link"]).then_some(())
    };
    assert!(
        until(rejected).is_some(),
        "{:?}",
        waiting(&tree, "maildrop/rejected")
    );
    assert_eq!(waiting(&tree, "maildrop"), ["01AA.new"]);
    server.says("dropped file");
    drop_message(&tree, "bert@example.org", TEXT);
    messages(&sink, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_24_what_is_over_a_limit_waits_and_goes_later() {
    let (tree, sink) = tree(KEYS).await;
    let account = |limit: u32| {
        format!(
            "smtpip = 127.0.0.0/8\nmaxhour = {limit}\nauthorizedroute = @next\n[routing]\nroute = @next\n"
        )
    };
    tree.account("shop", &account(1));
    let server = tree.run();
    drop_message(&tree, "anna@example.org", TEXT);
    messages(&sink, 1).await;
    drop_message(&tree, "bert@example.org carl@example.org", TEXT);
    server.says("a dropped message waits");
    assert_eq!((waiting(&tree, "maildrop").len(), sink.accepted()), (1, 1));
    tree.account("shop", &account(10));
    assert!(server.reload());
    let message = messages(&sink, 2).await.remove(1);
    assert_eq!(message.recipients.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_24_many_messages_from_many_processes_arrive_once_each() {
    let (tree, sink) = tree(KEYS).await;
    let server = tree.run();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let commands: Vec<(Command, String)> = (0..25)
                .map(|number| {
                    let subject = format!("{thread}-{number}");
                    (
                        sendmail(&tree, "-i anna@example.org"),
                        format!("Subject: {subject}\n\nx\n"),
                    )
                })
                .collect();
            std::thread::spawn(move || {
                for (command, text) in commands {
                    assert_eq!(finish(command, &text).code, Some(0));
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let found = messages(&sink, 200).await;
    let subject = |message: &MessageRecord| {
        let text = text(message);
        text.lines()
            .find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned))
            .unwrap()
    };
    let mut subjects: Vec<String> = found.iter().map(subject).collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!((found.len(), subjects.len()), (200, 200));
    assert!(until(|| waiting(&tree, "maildrop").is_empty().then_some(())).is_some());
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn queue_24_if_1_the_command_line_of_sendmail_is_its_own() {
    let tree = Tree::new("");
    fs::create_dir(tree.path("maildrop")).unwrap();
    let help = tree.command("sendmail --help");
    assert!(
        help.code == Some(0) && help.stdout.contains("-f SENDER"),
        "{help:?}"
    );
    let root = tree.root().display().to_string();
    for line in [
        format!("--root {root} sendmail -ti"),
        format!("sendmail --root {root} -t -oi"),
    ] {
        let mut command = crate::process::galerne();
        command.args(line.split(' '));
        let output = finish(command, TEXT);
        assert_eq!(output.code, Some(0), "{line}: {output:?}");
    }
    assert_eq!(waiting(&tree, "maildrop").len(), 2);
    let queue = finish(sendmail(&tree, "-bp"), "");
    assert_eq!(queue.code, Some(69));
    assert!(queue.stderr.contains("galerne queue list"), "{queue:?}");
    assert_eq!(finish(sendmail(&tree, ""), "").code, Some(64));
}

#[test]
fn queue_24_check_says_what_cannot_work() {
    let tree = Tree::new("[maildrop]\ngroup = no-such-group\n");
    let output = tree.command("check");
    for text in [
        "[maildrop] group: there is no group no-such-group",
        "[maildrop] user: no account is named",
    ] {
        assert!(output.stdout.contains(text), "{output:?}");
    }
    let tree = Tree::new("[maildrop]\nuser = nobody\n");
    let output = tree.command("check");
    assert!(
        output
            .stdout
            .contains("[maildrop] user: there is no account nobody"),
        "{output:?}"
    );
}

fn trace(tree: &Tree, words: &str) -> Output {
    tree.command(&format!("queue trace {words}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_17_the_story_of_a_message_is_told_while_it_lives_and_afterwards() {
    let (tree, sink) = tree(&format!("{KEYS}[queue]\nretry = 2s\n")).await;
    let nothing = trace(&tree, "anna@example.org");
    assert_eq!(nothing.code, Some(1));
    assert!(
        nothing
            .stderr
            .contains("nothing is known of anna@example.org"),
        "{nothing:?}"
    );
    sink.rule(Rule::at(Stage::Rcpt).times(1).reply("451 4.7.1 come again"));
    let server = tree.run();
    let text = "To: anna@example.org\nMessage-ID: <first@app.example>\nX-SMTP-R-API: {\"message\":{\"ref\":\"order-4711\"}}\nSubject: private\n\nsecret\n";
    drop_message(&tree, "-t", text);
    // Living: told by its reference.
    let living = until(|| {
        Some(trace(&tree, "order-4711")).filter(|o| o.stdout.contains("to be tried again"))
    });
    let living = living.unwrap_or_else(|| panic!("{:?}", trace(&tree, "order-4711")));
    assert_eq!(living.code, Some(0));
    let remote = sink.address();
    for part in [
        "received from ".to_owned(),
        " for anna@example.org\n".to_owned(),
        "account shop, ".to_owned(),
        format!("attempt 1 for anna@example.org: {} → ", tree.ip(1)),
        remote.to_string(),
        "users/shop.ini".to_owned(),
        "RCPT: 451 4.7.1 come again".to_owned(),
        "now ".to_owned(),
    ] {
        assert!(living.stdout.contains(&part), "{part} in {}", living.stdout);
    }
    messages(&sink, 1).await;
    // Ended: by Message-ID, by recipient, by id, with the server and without.
    let ended = until(|| {
        Some(trace(&tree, "<first@app.example>")).filter(|o| o.stdout.contains("delivered anna"))
    });
    let ended = ended.unwrap_or_else(|| panic!("{:?}", trace(&tree, "order-4711")));
    assert!(
        ended.stdout.contains("attempt 2 for anna@example.org"),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains("\nnow "), "{ended:?}");
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(trace(&tree, "ANNA@example.org").stdout, ended.stdout);
    let document: Value =
        serde_json::from_str(&trace(&tree, "first@app.example --json").stdout).unwrap();
    let message = &document[0];
    assert_eq!(
        (document.as_array().unwrap().len(), &message["ref"]),
        (1, &"order-4711".into())
    );
    let events: Vec<&str> = message["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["received", "attempt", "again", "attempt", "ended"]);
    assert_eq!(
        (
            &message["duplicate_possible"],
            &message["deliveries"][0]["state"]
        ),
        (&false.into(), &"delivered".into())
    );
    let id = message["id"].as_str().unwrap();
    assert_eq!(trace(&tree, id).stdout, ended.stdout);
    assert!(!trace(&tree, "order-4711 --json").stdout.contains("secret"));
    for entry in fs::read_dir(tree.path("system/trace")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_17_several_messages_of_a_recipient_are_told_one_by_one() {
    let (tree, sink) = tree(KEYS).await;
    let server = tree.run();
    for number in 1..=3_u64 {
        drop_message(
            &tree,
            "anna@example.org",
            &format!("Message-ID: <{number}@app.example>\n\nx\n"),
        );
        messages(&sink, number).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.stop().code, Some(0));
    let all = trace(&tree, "anna@example.org");
    let order: Vec<usize> = ["1@app", "2@app", "3@app"]
        .iter()
        .map(|id| all.stdout.find(id).unwrap())
        .collect();
    assert!(order.is_sorted() && all.stderr.is_empty(), "{all:?}");
    let latest = trace(&tree, "anna@example.org --most 1");
    assert!(
        latest.stdout.contains("3@app") && !latest.stdout.contains("2@app"),
        "{latest:?}"
    );
    assert!(
        latest.stderr.contains("2 older message(s) not shown"),
        "{latest:?}"
    );
}
