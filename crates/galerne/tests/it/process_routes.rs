//! `galerne routes` through the real program, with and without a running server (ROUTE-5 to
//! ROUTE-22).

use std::os::unix::fs::PermissionsExt;

use galerne_sim::nameserver::NameServer;
use galerne_sim::sink::{Rule, Sink, SinkOptions, Stage};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{MESSAGE, Output, Tree, finish};

fn ok(output: Output) -> String {
    assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{output:?}");
    output.stdout
}

/// Exit 1 and what was said.
fn fails(output: Output) -> String {
    assert_eq!((output.code, &*output.stdout), (Some(1), ""), "{output:?}");
    output.stderr
}

const EXAMPLE: [&str; 6] = [
    "routes add -d example.org -rh big.example.net",
    "routes add -d example.org -rh big.example.net",
    "route add --d example.org --rh small.example.net",
    "routes add --destination example.org --remoteHost spare.example.net -p 2",
    "routes add -rh premium.example.net -u vip@example.com",
    "routes add -rh in.example.net -rp 587 -u example.com -f example.com -rl login -rpwd secret",
];

/// The worked example of the specification, section 8.
fn example(tree: &Tree) {
    for (number, line) in EXAMPLE.iter().enumerate() {
        assert_eq!(
            ok(tree.command(line)),
            format!("{}\n", number + 1),
            "{line}"
        );
    }
}

#[test]
fn route_13_route_16_route_17_route_18_route_19_route_21_the_table_of_the_example() {
    let tree = Tree::new("");
    assert_eq!(
        ok(tree.command("routes list")),
        "No route is configured: all mail follows the MX records.\n"
    );
    assert_eq!(ok(tree.command("routes list --json")), "[]\n");
    assert!(
        !tree.path("system/state.db").exists(),
        "looking makes nothing"
    );
    example(&tree);
    let line = "Priority: 1 - Local IPs: default - Remote host:";
    assert_eq!(
        ok(tree.command("routes list")),
        format!(
            "1 - Destination host: example.org - {line} big.example.net:25\n\
             2 - Destination host: example.org - {line} big.example.net:25\n\
             3 - Destination host: example.org - {line} small.example.net:25\n\
             4 - Destination host: example.org - Priority: 2 - Local IPs: default - Remote host: spare.example.net:25\n\
             5 - Destination host: * - User: vip@example.com - {line} premium.example.net:25\n\
             6 - Destination host: * - User: example.com - Mail from: example.com - {line} login:***@in.example.net:587\n"
        )
    );
    assert_eq!(
        ok(tree.command("route list")),
        ok(tree.command("routes list"))
    );
    let list: Value = serde_json::from_str(&ok(tree.command("routes list --json"))).unwrap();
    assert_eq!(
        list[5],
        json!({"id": 6, "destination": "*", "remoteHost": "in.example.net", "remotePort": 587,
            "priority": 1, "localIp": null, "smtpUser": "example.com", "mailFrom": "example.com",
            "remoteLogin": "login", "remotePasswd": "***"})
    );
    let mode = std::fs::metadata(tree.path("system/state.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "it holds passwords");
}

#[test]
fn route_21_route_24_test_prints_tier_and_attempts() {
    let tree = Tree::new("");
    let test = |line: &str| ok(tree.command(&format!("routes test {line}")));
    assert_eq!(test("-d example.edu"), "Tier 17: MX of example.edu\n");
    example(&tree);
    assert_eq!(
        test("-u shop -f a@b.example -d example.org"),
        "Tier 15: any user, exact destination, any sender\n\
         1 - Route: 1 - Priority: 1 - Share: 2 - Local IPs: default - Remote host: big.example.net:25\n\
         2 - Route: 3 - Priority: 1 - Share: 1 - Local IPs: default - Remote host: small.example.net:25\n\
         3 - Route: 4 - Priority: 2 - Share: 1 - Local IPs: default - Remote host: spare.example.net:25\n"
    );
    assert_eq!(
        test("-u vip@example.com -f vip@example.com -d example.org"),
        "Tier 10: login's domain, any destination, sender's domain\n\
         1 - Route: 6 - Priority: 1 - Share: 1 - Local IPs: default - Remote host: login:***@in.example.net:587\n"
    );
    let premium = test("-u vip@example.com -f vip@other.example -d example.edu");
    assert!(premium.starts_with("Tier 11: ") && premium.contains(" premium.example.net:25\n"));
    assert_eq!(
        test("-u joe@example.com -f joe@other.example -d example.edu"),
        "Tier 17: MX of example.edu\n"
    );
    let answer: Value = serde_json::from_str(&test("-d example.org --json")).unwrap();
    assert_eq!(
        (&answer["tier"], &answer["attempts"][0]["share"]),
        (&json!(15), &json!(2))
    );
    // ROUTE-60: the account `shop` logs in as shop@example.com.
    let by_account = test("-u shop -f x@example.com -d example.edu");
    assert!(by_account.starts_with("Tier 10: "), "{by_account}");
}

#[test]
fn route_15_help_shows_options_and_defaults() {
    let tree = Tree::new("");
    let help = ok(tree.command("routes add --help"));
    for words in [
        "Add a route and print its id",
        "Usage: galerne routes add [OPTIONS]",
        "-d, --destination <DOMAIN>",
        "--remoteHost <HOST>",
        "-rh",
        "--remotePort <PORT>",
        "[default: 25]",
        "-p, --priority <NUMBER>",
        "[default: 1]",
        "-l, --localIp <IP>",
        "-u, --smtpUser <USER>",
        "-f, --mailFrom <ADDRESS>",
        "--remoteLogin <LOGIN>",
        "--remotePasswd <PASSWORD>",
    ] {
        assert!(help.contains(words), "{words:?} in\n{help}");
    }
}

#[test]
fn route_7_route_8_route_19_route_20_what_is_wrong_and_how_it_exits() {
    let tree = Tree::new("");
    for line in [
        "routes add",
        "routes add -d example.org",
        "routes add --remoteHost=",
    ] {
        let said = fails(tree.command(line));
        assert_eq!(
            said, "galerne: the remote host must not be empty\n",
            "{line}"
        );
    }
    let own = tree.ip(1);
    let both = fails(tree.command(&format!("routes add -rh a.example -l {own}|{own}&{own}")));
    assert!(both.contains("not by both"), "{both}");
    let foreign = fails(tree.command("routes add -rh a.example -l 203.0.113.1"));
    assert!(
        foreign.contains("203.0.113.1 is not listed in [IP]"),
        "{foreign}"
    );
    assert_eq!(
        ok(tree.command(&format!("routes add -rh a.example -l {own}"))),
        "1\n"
    );
    assert_eq!(
        fails(tree.command("routes del 7")),
        "galerne: there is no route 7\n"
    );
    for line in [
        "routes del",
        "routes del 1 2",
        "routes del x",
        "routes",
        "routes list example.org",
        "routes list --destination example.org",
        "routes add -rh a -rp x",
    ] {
        assert_eq!(tree.command(line).code, Some(2), "{line}");
    }
    assert_eq!(ok(tree.command("routes del 1")), "");
    assert_eq!(
        fails(tree.command("routes del 1")),
        "galerne: there is no route 1\n"
    );
    assert_eq!(
        ok(tree.command("routes add -rh a.example")),
        "2\n",
        "an id is never used again"
    );
}

#[test]
fn route_12_export_and_import_carry_the_table_and_passwords_only_when_told() {
    let (tree, other) = (Tree::new(""), Tree::new(""));
    example(&tree);
    let masked = ok(tree.command("routes export"));
    assert!(masked.starts_with("id,destination,remoteHost,remotePort,priority,localIp,smtpUser,mailFrom,remoteLogin,remotePasswd\r\n"), "{masked}");
    assert!(
        masked.ends_with("6,*,in.example.net,587,1,,example.com,example.com,login,***\r\n"),
        "{masked}"
    );
    assert!(!masked.contains("secret"));
    other.write("routes.csv", &masked);
    let file = other.path("routes.csv");
    let import = |more: &str| other.command(&format!("routes import {}{more}", file.display()));
    let refused = fails(import(""));
    assert!(
        refused.contains("routes.csv:7: the password is masked"),
        "{refused}"
    );
    assert_eq!(
        ok(other.command("routes list --json")),
        "[]\n",
        "all or none"
    );
    let whole = ok(tree.command("routes export --secrets"));
    assert!(whole.contains("login,secret\r\n"));
    other.write("routes.csv", &whole);
    assert_eq!(ok(import("")), "6 routes added: 1 to 6\n");
    assert_eq!(ok(other.command("routes export --secrets")), whole);
    assert_eq!(ok(import(" --replace")), "6 routes added: 7 to 12\n");
    assert_eq!(ok(other.command("routes list")).lines().count(), 6);
    let by_input = other.galerne(["routes", "import", "-"]);
    assert_eq!(
        ok(finish(by_input, "remoteHost;priority\na.example;3\n")),
        "1 routes added: 13 to 13\n"
    );
}

/// A server whose mail goes to real sinks at ports of their own.
async fn sinks(tree: &Tree) -> [Sink; 2] {
    let start = async |number| {
        Sink::start(tree.place(number), SinkOptions::default())
            .await
            .unwrap()
    };
    [start(2).await, start(3).await]
}

fn at(sink: &Sink) -> String {
    format!("-rh {} -rp {}", sink.address().ip(), sink.address().port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn route_22_the_running_server_uses_a_change_for_the_next_message() {
    let tree = Tree::new("");
    let names = NameServer::start_on(tree.ip(4), "").await.unwrap();
    let resolver = format!("[dns]\nresolver = {}\n", names.address());
    tree.append("galerne.ini", &resolver);
    let [one, two] = sinks(&tree).await;
    assert_eq!(
        ok(tree.command(&format!("routes add {}", at(&one)))),
        "1\n",
        "before the start"
    );
    let server = tree.run();
    // One session for all: a change needs no new one.
    let mut client = tree.greeted().await;
    let to = ["anna@example.org"];
    let mut relay = async || {
        let reply = client
            .transaction("orders@example.com", &to, MESSAGE.as_bytes())
            .await;
        assert_eq!(reply.unwrap().code, 250);
        (one.messages().len(), two.messages().len())
    };
    assert_eq!(relay().await, (1, 0));
    assert_eq!(
        ok(tree.command(&format!("routes add -d example.org {}", at(&two)))),
        "2\n"
    );
    assert_eq!(relay().await, (1, 1), "the more specific one");
    assert_eq!(ok(tree.command("routes del 2")), "");
    assert_eq!(relay().await, (2, 1));
    assert!(fails(tree.command("routes del 2")).contains("there is no route 2"));
    assert!(fails(tree.command("routes add -rh a -l 203.0.113.1")).contains("not listed in [IP]"));
    // A reload keeps the table.
    assert!(server.reload());
    assert_eq!(relay().await, (3, 1));
    // Two rows of one priority take turns, and one that is gone is no loss.
    assert_eq!(ok(tree.command(&format!("routes add {}", at(&two)))), "3\n");
    relay().await;
    assert_eq!(relay().await, (4, 2));
    one.rule(Rule::at(Stage::Connect).reply("554 5.3.2 closed").close());
    one.rule(Rule::at(Stage::Mail).close());
    relay().await;
    assert_eq!(relay().await, (4, 4));
    assert_eq!(server.stop().code, Some(0));
    let log = tree.read("logs/galerne.txt");
    assert!(log.contains("route table changed"), "{log}");
    assert_eq!(
        ok(tree.command("routes list")).lines().count(),
        2,
        "kept over the stop"
    );
}

#[test]
fn route_3_route_8_an_address_that_left_the_configuration_is_said() {
    let tree = Tree::new("");
    let (own, gone) = (tree.ip(1), tree.ip(5));
    let main = tree.read("galerne.ini");
    let both = main.replace("[IP]\n", &format!("[IP]\n{gone} = old.test.example\n"));
    tree.write("galerne.ini", &both);
    let server = tree.run();
    let add = format!("routes add -rh a.example -l {gone}|{own}");
    assert_eq!(ok(tree.command(&add)), "1\n");
    tree.write("galerne.ini", &main);
    assert!(server.reload());
    server.says(&format!(
        "route 1: local IP {gone} is not listed in [IP] any more"
    ));
    assert!(fails(tree.command(&add)).contains("is not listed in [IP]"));
}

#[test]
fn route_12_a_route_that_was_answered_survives_a_crash_of_the_server() {
    let tree = Tree::new("");
    let server = tree.run();
    assert_eq!(ok(tree.command("routes add -rh a.example")), "1\n");
    assert_eq!(ok(tree.command("routes add -rh b.example")), "2\n");
    assert_eq!(ok(tree.command("routes del 2")), "");
    server.signal(Signal::KILL);
    server.end();
    assert_eq!(ok(tree.command("routes list")).lines().count(), 1);
    assert_eq!(ok(tree.command("routes add -rh c.example")), "3\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn route_24_explain_names_the_tier_and_the_row() {
    let tree = Tree::new("[dns]\nresolver = 127.0.0.1:9\ntimeout = 1\n");
    ok(tree.command("routes add -rh a.example -u example.com"));
    let said = ok(tree.command("explain --user shop --from x@example.com --to anna@example.org"));
    assert!(
        said.contains("a.example:25") && said.contains("route 1, tier 12"),
        "{said}"
    );
}

#[test]
fn route_12_if_7_a_file_that_cannot_be_read_is_said_in_words() {
    let tree = Tree::new("");
    let (missing, folder) = (tree.path("none.csv"), tree.root().to_owned());
    for command in ["routes import", "patterns replay", "simulate"] {
        for (file, words) in [
            (&missing, "there is no such file"),
            (&folder, "is a directory, expected a file"),
        ] {
            let said = fails(tree.command(&format!("{command} {}", file.display())));
            let expected = format!("galerne: {}: {words}\n", file.display());
            assert_eq!(said, expected, "{command}");
        }
    }
}
