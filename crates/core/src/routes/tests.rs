use std::time::Instant;

use super::*;
use crate::settings::Settings;
use crate::testing::{group, host, ip, sender, settings};

fn fields(remote: &str) -> Fields {
    Fields {
        id: None,
        destination: None,
        remote_host: remote.to_owned(),
        remote_port: 25,
        priority: 1,
        local_ip: None,
        smtp_user: None,
        mail_from: None,
        remote_login: None,
        remote_passwd: None,
    }
}

/// `-d example.org -rh big.example.net …` as the command line has it.
pub(crate) fn row(line: &str) -> RouteRow {
    let mut fields = fields("");
    let mut words = line.split_whitespace();
    while let (Some(flag), Some(word)) = (words.next(), words.next()) {
        let word = word.to_owned();
        match flag {
            "-d" => fields.destination = Some(word),
            "-rh" => fields.remote_host = word,
            "-rp" => fields.remote_port = word.parse().unwrap(),
            "-p" => fields.priority = word.parse().unwrap(),
            "-l" => fields.local_ip = Some(word),
            "-u" => fields.smtp_user = Some(word),
            "-f" => fields.mail_from = Some(word),
            "-rl" => fields.remote_login = Some(word),
            "-rpwd" => fields.remote_passwd = Some(Secret(word)),
            _ => panic!("{flag}"),
        }
    }
    fields.check().unwrap()
}

/// A table of such lines, ids from 1.
pub(crate) fn table(lines: &str, settings: &Settings) -> Arc<RouteTable> {
    let lines = lines.lines().filter(|line| line.contains("-rh"));
    let rows = lines.enumerate().map(|(number, line)| RouteRow {
        id: number as u64 + 1,
        ..row(line.trim_start_matches("galerne routes add").trim())
    });
    Arc::new(RouteTable::new(rows.collect(), settings))
}

/// `15: big.example.net small.example.net`, or `MX`.
fn answer(table: &Arc<RouteTable>, login: &str, from: &str, domain: &str) -> String {
    let from = sender(if from == "<>" { "" } else { from });
    let wanted = Wanted {
        login: (login != "-").then_some(login),
        sender: &from,
        domain,
    };
    match Draw::new(table.clone()).choose(&wanted) {
        None => "MX".to_owned(),
        Some(Chosen { tier, targets }) => {
            let hosts: Vec<&str> = targets.iter().map(|t| &*t.host.host).collect();
            format!("{tier}: {}", hosts.join(" "))
        }
    }
}

#[test]
fn route_24_route_25_route_26_route_27_route_28_the_table_of_tiers() {
    let golden = include_str!("golden/tiers.txt");
    let (rows, questions) = golden.split_once("== questions").unwrap();
    let all: Vec<&str> = rows.lines().filter(|line| line.contains("-rh")).collect();
    assert_eq!(all.len(), 18, "one row per look-up");
    let settings = settings();
    for question in questions
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let [login, from, domain, tiers] = question.split_whitespace().collect::<Vec<_>>()[..]
        else {
            panic!("{question}");
        };
        // With all rows the first of these tiers wins, without it the next, and at last MX.
        let mut left = all.clone();
        for expected in tiers.split(',') {
            let table = table(&left.join("\n"), &settings);
            let answer = answer(&table, login, from, domain);
            if expected == "MX" {
                assert_eq!(answer, "MX", "{question}");
                continue;
            }
            let number = expected.trim_end_matches(['a', 'd']);
            assert_eq!(
                answer,
                format!("{number}: t{expected}.example"),
                "{question}"
            );
            left.retain(|line| !line.contains(&format!("-rh t{expected}.example")));
        }
    }
}

#[test]
fn route_23_to_33_the_worked_example() {
    let golden = include_str!("golden/example.txt");
    let (rows, questions) = golden.split_once("== questions").unwrap();
    let table = table(rows, &settings());
    for question in questions.lines().filter(|line| !line.is_empty()) {
        let (asked, expected) = question.split_once(" => ").unwrap();
        let [login, from, domain] = asked.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{question}");
        };
        assert_eq!(answer(&table, login, from, domain), expected, "{question}");
    }
}

#[test]
fn route_9_route_10_a_sender_without_a_user_needs_somebody_who_logged_in() {
    let table = table("-rh a.example -f example.com", &settings());
    assert_eq!(
        answer(&table, "shop", "x@example.com", "b.example"),
        "14: a.example"
    );
    assert_eq!(answer(&table, "-", "x@example.com", "b.example"), "MX");
    assert_eq!(
        answer(&table, "shop", "x@sub.example.com", "b.example"),
        "MX"
    );
    assert_eq!(
        answer(&table, "shop", "", "b.example"),
        "MX",
        "a null sender"
    );
}

#[test]
fn route_28_case_does_not_matter_and_sub_domains_are_others() {
    let rows = "-rh a.example -d Example.ORG -u VIP@Example.com -f Boss@Example.com";
    let table = table(rows, &settings());
    let ask = |domain| answer(&table, "vip@EXAMPLE.com", "bOSS@example.COM", domain);
    assert_eq!(ask("eXample.org"), "1: a.example");
    assert_eq!(ask("mail.example.org"), "MX");
}

#[test]
fn route_29_route_32_main_then_one_of_the_alternates_then_the_other() {
    let rows = "-rh alt1.example -p 2\n-rh main.example\n-rh alt2.example -p 2";
    let table = table(rows, &settings());
    let answers: Vec<_> = (0..3)
        .map(|_| answer(&table, "-", "", "b.example"))
        .collect();
    let one = "16: main.example alt1.example alt2.example";
    let other = "16: main.example alt2.example alt1.example";
    assert_eq!(answers, [one, other, one]);
}

#[test]
fn route_31_one_message_takes_one_turn_however_many_recipients_it_has() {
    let table = table("-rh a.example\n-rh b.example", &settings());
    let null = sender("");
    let first = |draw: &Draw, domain| {
        let wanted = Wanted {
            login: None,
            sender: &null,
            domain,
        };
        draw.choose(&wanted).unwrap().targets[0].host.host.clone()
    };
    let (one, two, look) = (
        Draw::new(table.clone()),
        Draw::new(table.clone()),
        Draw::look(table.clone()),
    );
    for domain in ["x.example", "y.example"] {
        assert_eq!(first(&one, domain), "a.example");
        assert_eq!(first(&two, domain), "b.example");
        assert_eq!(first(&look, domain), "a.example", "looking takes no turn");
    }
    assert_eq!(first(&Draw::new(table), "z.example"), "a.example");
}

#[test]
fn route_4_route_36_route_41_a_row_is_a_relay_host() {
    let mut settings = settings();
    settings.rfmta.authclear = true;
    settings.rfmta.verify = false;
    let rows = "-rh corp.example.net -l 192.0.2.11&192.0.2.10 -rp 587 -rl me -rpwd secret\n-rh other.example";
    let table = table(rows, &settings);
    let wanted = Wanted {
        login: None,
        sender: &sender(""),
        domain: "b.example",
    };
    let targets = Draw::new(table).choose(&wanted).unwrap().targets;
    let (corp, other) = (&targets[0].host, &targets[1].host);
    assert_eq!((&*corp.host, corp.port), ("corp.example.net", 587));
    assert_eq!(corp.ips, Some(vec![ip("192.0.2.11"), ip("192.0.2.10")]));
    assert!(corp.in_order && corp.authclear && !corp.verify);
    assert_eq!(corp.login.as_deref(), Some("me"));
    assert_eq!(corp.group.as_ref().unwrap().name, "corp", "it has a file");
    assert!(other.group.is_none() && other.ips.is_none() && other.login.is_none());
    assert_eq!(host("corp").group.unwrap().name, group("corp").name);
}

#[test]
fn route_6_what_is_stored_is_lower_case_and_trimmed() {
    let given = Fields {
        destination: Some("  Example.ORG ".into()),
        smtp_user: Some(" VIP@Example.com ".into()),
        mail_from: Some(" Boss@Example.COM".into()),
        ..fields(" Mail.Example.ORG ")
    };
    let row = given.check().unwrap();
    assert_eq!(row.destination.as_deref(), Some("example.org"));
    assert_eq!(row.remote_host, "mail.example.org");
    assert_eq!(row.mail_from.as_deref(), Some("boss@example.com"));
    assert_eq!(row.user.as_deref(), Some("VIP@Example.com"));
    for any in [None, Some("*".to_owned()), Some(" ".to_owned())] {
        let given = Fields {
            destination: any,
            ..fields("a.example")
        };
        assert_eq!(
            given
                .check()
                .unwrap()
                .fields(Passwords::Masked)
                .destination
                .unwrap(),
            "*"
        );
    }
}

#[test]
fn route_5_route_7_route_8_what_cannot_be_a_row_is_refused() {
    let with = |change: fn(&mut Fields)| {
        let mut given = fields("a.example");
        change(&mut given);
        given.check().unwrap_err()
    };
    let refusals = [
        with(|f| f.remote_host = "  ".into()),
        with(|f| f.remote_host = "a b".into()),
        with(|f| f.remote_port = 0),
        with(|f| f.local_ip = Some("192.0.2.1|192.0.2.2&192.0.2.3".into())),
        with(|f| f.local_ip = Some("192.0.2.1|".into())),
        with(|f| f.destination = Some("a@b.example".into())),
        with(|f| f.mail_from = Some("a b@c".into())),
        with(|f| f.smtp_user = Some("@example.com".into())),
        with(|f| f.smtp_user = Some("a\u{1b}[2Jb".into())),
        with(|f| f.remote_login = Some("me".into())),
        with(|f| {
            f.remote_login = Some("me".into());
            f.remote_passwd = Some(Secret(MASK.into()));
        }),
    ];
    let begins = [
        "the remote host must not be empty",
        "remote host a b: expected",
        "remote port: expected",
        "local IPs are joined by |",
        "local IP \"\": expected",
        "destination a@b.example: expected",
        "mail from a b@c: expected",
        "user @example.com: expected",
        "user: control characters",
        "remote login and password go together",
        "the password is masked",
    ];
    for (refusal, begin) in refusals.iter().zip(begins) {
        assert!(refusal.starts_with(begin), "{refusal}");
    }
    let local = row("-rh a.example -l 192.0.2.10|192.0.2.99");
    let error = local
        .check_local_ips(|a| a == ip("192.0.2.10"))
        .unwrap_err();
    assert_eq!(error, "local IP 192.0.2.99 is not listed in [IP]");
}

#[test]
fn route_16_route_17_one_line_per_route_and_no_password() {
    let line = |id, line: &str| RouteRow { id, ..row(line) }.to_string();
    assert_eq!(
        line(1, "-d example.org -rh mail.example.org"),
        "1 - Destination host: example.org - Priority: 1 - Local IPs: default - Remote host: mail.example.org:25"
    );
    assert_eq!(
        line(
            2,
            "-u example.com -f example.com -l 192.0.2.10|192.0.2.11 -rh smtp.example.net -rp 587 -rl login -rpwd secret"
        ),
        "2 - Destination host: * - User: example.com - Mail from: example.com - Priority: 1 - Local IPs: 192.0.2.10|192.0.2.11 - Remote host: login:***@smtp.example.net:587"
    );
    assert!(line(3, "-rh 2001:db8::25").ends_with("Remote host: [2001:db8::25]:25"));
    let row = row("-rh a.example -rl me -rpwd secret");
    assert!(!format!("{row:?} {:?}", row.fields(Passwords::Shown)).contains("secret"));
    let json = serde_json::to_string(&row.fields(Passwords::Masked)).unwrap();
    assert_eq!(
        json,
        r#"{"id":0,"destination":"*","remoteHost":"a.example","remotePort":25,"priority":1,"localIp":null,"smtpUser":null,"mailFrom":null,"remoteLogin":"me","remotePasswd":"***"}"#
    );
}

#[test]
fn route_24_a_decision_does_not_grow_with_the_table() {
    let settings = settings();
    let rows = |count: u64| {
        let row = |id| RouteRow {
            id,
            ..row(&format!("-d d{id}.example -rh r{id}.example"))
        };
        Arc::new(RouteTable::new((1..=count).map(row).collect(), &settings))
    };
    let from = sender("a@b.example");
    let cost = |table: &Arc<RouteTable>| {
        let wanted = Wanted {
            login: Some("vip@example.com"),
            sender: &from,
            domain: "d7.example",
        };
        let best = (0..20).map(|_| {
            let begin = Instant::now();
            for _ in 0..200 {
                assert_eq!(Draw::new(table.clone()).choose(&wanted).unwrap().tier, 15);
            }
            begin.elapsed()
        });
        best.min().unwrap()
    };
    // All in one tier, each different: the table is made in no time either.
    let one = |id| RouteRow {
        id,
        ..row(&format!("-rh r{id}.example"))
    };
    let wide = Arc::new(RouteTable::new((1..=10_000).map(one).collect(), &settings));
    let wanted = Wanted {
        login: None,
        sender: &from,
        domain: "d7.example",
    };
    let chosen = Draw::new(wide).choose(&wanted).unwrap();
    assert_eq!(chosen.targets.len(), 32, "more are never tried");
    let (few, many) = (cost(&rows(10)), cost(&rows(10_000)));
    println!("200 decisions: {few:?} with 10 rows, {many:?} with 10,000");
    assert!(
        many < few * 5,
        "{few:?} for 10 rows, {many:?} for 10,000, each 200 times"
    );
}
