//! The log files as an operator finds them.

use std::time::{Duration, Instant};

use galerne_core::model::*;
use galerne_core::refusal::{Code, Refusal};

use super::*;
use crate::testing::*;

#[test]
fn conf_89_relay_82_conf_20_one_line_per_delivery_with_exactly_these_columns() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    logs.transaction(
        &submission(&["a@gmail.example"]),
        &Answer {
            reply: unknown_user(),
            settled: vec![hard("a@gmail.example")],
        },
    );
    logs.flush();
    let text = world.text("logs/rfmta.csv");
    assert_eq!(
        text.lines().next().unwrap(),
        "rfsenddate,user,ref,rfmailno,rfrecno,email,sender,rfsendip,rfmxhost,rfmxip,rfdm,rfstp,rfcode,rfrcv,rfpattern,\
         rfstr,rfstatus,rfhop,rfset,duration,tls"
    );
    let rows = world.rows("logs/rfmta.csv");
    assert_eq!(rows.len(), 1);
    for (column, value) in [
        ("user", "shop"),
        ("ref", "order-7"),
        ("rfmailno", "0"),
        ("rfrecno", "0"),
        ("email", "a@gmail.example"),
        ("sender", "verp@out.example"),
        ("rfsendip", "192.0.2.10"),
        ("rfmxhost", "mx1.example.org"),
        ("rfmxip", "203.0.113.5"),
        ("rfdm", "gmail"),
        ("rfstp", "RCPT"),
        ("rfcode", "550"),
        (
            "rfrcv",
            "550-5.1.1 no such user\n550 5.1.1 at all, \"here\"",
        ),
        ("rfpattern", "nouser"),
        ("rfstr", "no such user"),
        ("rfstatus", "Hard"),
        ("rfhop", "1"),
        ("rfset", ""),
        ("duration", "34"),
        ("tls", "TLSv1_3 TLS13_AES_256_GCM_SHA384 verified by ca"),
    ] {
        assert_eq!(rows[0][column], value, "{column}");
    }
    let date = &rows[0]["rfsenddate"];
    assert!(
        date.len() == 12 && date.bytes().all(|b| b.is_ascii_digit()),
        "{date}"
    );
}

#[test]
fn relay_82_relay_38_one_line_per_transaction_with_title_and_tags() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    let answer = Answer {
        reply: unknown_user(),
        settled: vec![delivered("a@x.example"), hard("b@x.example")],
    };
    logs.transaction(&submission(&["a@x.example", "b@x.example"]), &answer);
    logs.flush();
    let rows = world.rows("logs/rfrelay.csv");
    assert_eq!(rows.len(), 1);
    for (column, value) in [
        ("rfdate", "260304120000"),
        ("user", "shop"),
        ("ref", "order-7"),
        ("sender", "news@shop.example"),
        ("email", "a@x.example b@x.example"),
        ("peer", "198.51.100.7"),
        ("helo", "client.example"),
        ("tls", "1"),
        ("messageid", "M1"),
        ("session", "S1"),
        ("title", "Spring, \"sale\""),
        ("tags", "spring vip"),
        ("rfsendip", "192.0.2.10"),
        ("rfmxhost", "mx1.example.org"),
        ("rfmxip", "203.0.113.5"),
        ("rfdm", "gmail"),
        ("rfstp", "RCPT"),
        (
            "rfrcv",
            "550-5.1.1 no such user\n550 5.1.1 at all, \"here\"",
        ),
        ("rfpattern", "nouser"),
        ("rfstr", "no such user"),
        ("rfhop", "2"),
        ("code", "550"),
        (
            "reply",
            "550-5.1.1 no such user\n550 5.1.1 at all, \"here\"",
        ),
        ("rule", "MX of example.org"),
    ] {
        assert_eq!(rows[0][column], value, "{column}");
    }
    assert!(
        rows[0]["size"].parse::<u64>().unwrap() > 0 && rows[0]["duration"].parse::<u64>().is_ok()
    );
    assert_eq!(world.rows("logs/rfmta.csv").len(), 2);
}

#[test]
fn relay_82_a_refusal_is_a_line_too() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    logs.refused(Refused {
        at: moment("2026-03-04T10:00:01.5Z"),
        session_id: "S1".into(),
        user: Some("shop".into()),
        peer: "198.51.100.7".parse().unwrap(),
        sender: "x@y.example".into(),
        recipient: "b@x.example".into(),
        reference: "R".into(),
        reply: Refusal::new(
            Code::SenderNotAllowed,
            "account shop may not send as x@y.example",
            "CONF-46",
        )
        .reply(false),
        rule: "users/shop.ini:4 [account] authorizedsender".into(),
        size: 12,
    });
    logs.flush();
    let rows = world.rows("logs/rfrelay.csv");
    for (column, value) in [
        ("rfdate", "260304120001"),
        ("user", "shop"),
        ("ref", "R"),
        ("sender", "x@y.example"),
        ("email", "b@x.example"),
        ("peer", "198.51.100.7"),
        ("session", "S1"),
        ("size", "12"),
        ("rfhop", "0"),
        ("code", "451"),
        (
            "reply",
            "451 9.2.3 X-SMTP-R-API account shop may not send as x@y.example",
        ),
        ("rule", "users/shop.ini:4 [account] authorizedsender"),
        ("duration", ""),
    ] {
        assert_eq!(rows[0][column], value, "{column}");
    }
    let text = world.text("logs/rfrelay.txt");
    assert!(
        text.starts_with("2026-03-04T10:00:01.500Z refused user=shop ref=R sender=x@y.example"),
        "{text}"
    );
    assert!(text.contains("9.2.3") && text.lines().count() == 1);
}

#[test]
fn conf_89_status_speaks_the_words_of_the_reports() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    let reply = || Some(Reply::new(450, "4.2.0 later"));
    let temporary = |class| {
        settled(
            "a@x.example",
            Outcome::Deferred,
            Reply::new(450, "x"),
            vec![attempt(Stage::Mail, reply(), class)],
        )
    };
    let flow = Class::Flow {
        ipset: Some(FlowSetName::Defcon2),
        sdset: Some(FlowSetName::Low),
    };
    let listed = |code| Settled {
        refusal: Some(Refusal::new(code, "listed", "stop.csv")),
        ..settled(
            "a@x.example",
            Outcome::Deferred,
            Refusal::new(code, "listed", "").reply(false),
            Vec::new(),
        )
    };
    let unknown = settled(
        "a@x.example",
        Outcome::Unknown,
        Reply::new(451, "x"),
        vec![attempt(Stage::Dot, None, None)],
    );
    let cancelled = settled(
        "a@x.example",
        Outcome::Cancelled,
        Reply::new(451, "x"),
        Vec::new(),
    );
    let cases = vec![
        (delivered("a@x.example"), "Delivered", "", "250"),
        (temporary(None), "Soft", "", "450"),
        (temporary(Some(Class::Spam)), "Spam", "", "450"),
        (
            temporary(Some(Class::Grey(Duration::from_secs(600)))),
            "Grey",
            "",
            "450",
        ),
        (
            temporary(Some(flow)),
            "Flow",
            "ip:defcon2 sender:low",
            "450",
        ),
        (listed(Code::Listed), "Filtered", "", "451"),
        (listed(Code::NoSuchDomain), "Invalid", "", "451"),
        (unknown, "Unknown", "", ""),
        (cancelled, "Stopped", "", "451"),
    ];
    let answer = Answer {
        reply: Reply::new(451, "x"),
        settled: cases.iter().map(|c| c.0.clone()).collect(),
    };
    logs.transaction(&submission(&["a@x.example"]), &answer);
    logs.flush();
    for (row, (_, status, set, code)) in world.rows("logs/rfmta.csv").iter().zip(&cases) {
        assert_eq!(
            (&*row["rfstatus"], &*row["rfset"], &*row["rfcode"]),
            (*status, *set, *code)
        );
    }
    let rows = world.rows("logs/rfmta.csv");
    assert_eq!(rows[7]["rfrcv"], "connection refused");
    assert_eq!(rows[5]["rfrcv"], "451 9.2.1 X-SMTP-R-API listed");
}

#[test]
fn conf_69_conf_71_conf_67_flow_74_relay_83_an_unknown_error_goes_to_the_log_of_its_group() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    let error = |group: &str, stage| UnknownError {
        group: group.into(),
        at: moment("2026-03-04T10:00:00Z"),
        reference: "order-7".into(),
        outbound: "192.0.2.10".parse().unwrap(),
        remote: "203.0.113.5".parse().unwrap(),
        stage,
        reply: "450-4.7.1 come, back\n450 4.7.1 later".into(),
    };
    let stages = [
        Stage::Connect,
        Stage::Ehlo,
        Stage::StartTls,
        Stage::Auth,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Dot,
        Stage::Rset,
        Stage::Quit,
    ];
    stages
        .iter()
        .for_each(|s| logs.unknown_error(error("gmail", *s)));
    logs.unknown_error(error("", Stage::Rcpt));
    logs.unknown_error(error("../x", Stage::Rcpt));
    logs.flush();
    let text = world.text("domains/@gmail_log.csv");
    let first = "260304120000,order-7,0,0,192.0.2.10,203.0.113.5,CONNECT,\"450-4.7.1 come, back\n450 4.7.1 later\"\n";
    assert!(
        text.starts_with(&format!(
            "rfsenddate,ref,rfmailno,rfrecno,rfsendip,rfmxip,rfstp,rfrcv\n{first}"
        )),
        "{text}"
    );
    let words: Vec<_> = world
        .rows("domains/@gmail_log.csv")
        .iter()
        .map(|r| r["rfstp"].clone())
        .collect();
    assert_eq!(
        words.join(", "),
        "CONNECT, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, DOT, RSET, QUIT"
    );
    assert_eq!(
        world.rows("domains/@_log.csv").len(),
        1,
        "the group of all other domains has one too"
    );
    assert_eq!(
        world.rows("domains/@x_log.csv").len(),
        1,
        "no name leads outside the folder"
    );

    std::fs::write(world.path("domains/@gmail_log.csv"), "rfsenddate,ref\nmine").unwrap();
    logs.unknown_error(error("gmail", Stage::Rcpt));
    logs.flush();
    assert!(
        world
            .text("domains/@gmail_log.csv")
            .starts_with("rfsenddate,ref\nmine\n260304120000,")
    );
}

#[test]
fn conf_87_conf_30_conf_3_every_module_has_its_text_and_the_program_its_own() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    let modules = [
        Module::RfUser,
        Module::RfMail,
        Module::RfMta,
        Module::RfTrack,
        Module::RfRelay,
        Module::Galerne,
    ];
    modules.iter().for_each(|m| logs.note(*m, "found\n2 users"));
    logs.flush();
    let expected = [
        "galerne.txt",
        "rfmail.txt",
        "rfmta.csv",
        "rfmta.txt",
        "rfrelay.csv",
        "rfrelay.txt",
        "rftrack.txt",
        "rfuser.txt",
    ];
    assert_eq!(world.names(), expected);
    let text = world.text("logs/galerne.txt");
    let (moment, said) = text.split_once(' ').unwrap();
    assert_eq!(said, "found\\n2 users\n");
    assert!(
        moment.ends_with('Z') && moment.parse::<jiff::Timestamp>().is_ok(),
        "{moment}"
    );
}

#[test]
fn conf_88_files_turn_daily_and_are_kept_as_long_as_said() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(2);
    let one = |logs: &Logs| {
        logs.transaction(
            &submission(&["a@x.example"]),
            &Answer {
                reply: Reply::new(250, "ok"),
                settled: vec![delivered("a@x.example")],
            },
        );
        logs.note(Module::Galerne, "alive");
        logs.flush();
    };
    one(&logs);
    std::fs::write(world.path("logs/rfmta-notes.csv"), "mine").unwrap();
    std::fs::write(world.path("logs/other-200101.csv"), "mine").unwrap();
    // 22:30 UTC is 00:30 of the next day where this host stands.
    world.set("2026-03-04T22:30:00Z");
    one(&logs);
    assert_eq!(world.rows("logs/rfmta-260304.csv").len(), 1);
    assert_eq!(world.rows("logs/rfmta.csv").len(), 1);
    assert_eq!(world.text("logs/galerne-260304.txt").lines().count(), 1);
    world.set("2026-03-06T10:00:00Z");
    one(&logs);
    assert!(
        world.path("logs/rfmta-260304.csv").exists(),
        "two days old: kept"
    );
    world.set("2026-03-07T10:00:00Z");
    one(&logs);
    assert!(
        !world.path("logs/rfmta-260304.csv").exists(),
        "three days old: removed"
    );
    assert!(!world.path("logs/galerne-260304.txt").exists());
    assert!(
        world.path("logs/rfmta-260305.csv").exists()
            && world.path("logs/rfrelay-260306.csv").exists()
    );
    assert!(
        world.path("logs/rfmta-notes.csv").exists() && world.path("logs/other-200101.csv").exists()
    );
}

#[test]
fn conf_88_what_an_earlier_run_left_is_set_aside_at_the_start() {
    let world = World::new("2036-03-04T10:00:00Z");
    std::fs::create_dir(world.path("logs")).unwrap();
    std::fs::write(world.path("logs/galerne.txt"), "old\n").unwrap();
    let file = std::fs::File::options()
        .append(true)
        .open(world.path("logs/galerne.txt"))
        .unwrap();
    file.set_modified(moment("2036-03-01T12:00:00Z")).unwrap();
    std::fs::write(world.path("logs/galerne-360301.txt"), "older\n").unwrap();
    let logs = world.open(30);
    logs.note(Module::Galerne, "new");
    drop(logs);
    assert_eq!(world.text("logs/galerne-360301.txt"), "older\nold\n");
    assert_eq!(world.text("logs/galerne.txt").lines().count(), 1);
}

#[test]
fn conf_90_no_password_and_no_content_in_any_log() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    let submission = submission(&["a@x.example"]);
    logs.transaction(
        &submission,
        &Answer {
            reply: unknown_user(),
            settled: vec![hard("a@x.example")],
        },
    );
    logs.note(
        Module::Galerne,
        &format!("{:?} {:?}", submission.client.account, submission.content),
    );
    logs.stop();
    for name in world.names() {
        let text = world.text(&format!("logs/{name}"));
        assert!(
            !text.contains(PASSWORD) && !text.contains(BODY),
            "{name}: {text}"
        );
    }
    assert!(world.text("logs/rfmta.txt").contains("no such user"));
}

#[test]
fn conf_87_a_log_taken_away_is_begun_anew_and_a_dead_disk_stops_nothing() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    std::fs::remove_file(world.path("logs/rfmta.csv")).unwrap();
    let answer = Answer {
        reply: Reply::new(250, "ok"),
        settled: vec![delivered("a@x.example")],
    };
    logs.transaction(&submission(&["a@x.example"]), &answer);
    logs.flush();
    assert_eq!(world.rows("logs/rfmta.csv").len(), 1);

    std::fs::remove_dir_all(world.path("logs")).unwrap();
    logs.transaction(&submission(&["a@x.example"]), &answer);
    logs.flush();
    std::fs::create_dir(world.path("logs")).unwrap();
    logs.transaction(&submission(&["a@x.example"]), &answer);
    logs.stop();
    assert_eq!(
        world.rows("logs/rfmta.csv").len(),
        1,
        "lost while there was no folder, written again since"
    );
    logs.transaction(&submission(&["a@x.example"]), &answer);
    logs.flush();
}

#[test]
fn conf_87_a_flood_is_bounded_and_its_loss_is_said() {
    let world = World::new("2026-03-04T10:00:00Z");
    let queue = Queue::default();
    let line = || Record::Line {
        module: Module::Galerne,
        at: SystemTime::now(),
        text: "x".into(),
    };
    (0..40_000).for_each(|_| _ = queue.push([line()]));
    let mut records = Vec::new();
    let batch = queue.take(&mut records);
    assert_eq!(
        (records.len() as u64 + batch.lost, records.len()),
        (40_000, 32_768)
    );
    drop(world);
}

/// What a transaction costs its caller; `cargo test --release -p galerne-events -- --ignored cost`.
#[test]
#[ignore = "a measurement"]
fn cost_for_the_caller() {
    let world = World::new("2026-03-04T10:00:00Z");
    let logs = world.open(30);
    let submission = submission(&["a@x.example"]);
    let answer = Answer {
        reply: Reply::new(250, "2.0.0 ok"),
        settled: vec![delivered("a@x.example")],
    };
    let rounds = 10_000;
    for _ in 0..5 {
        let start = Instant::now();
        (0..rounds).for_each(|_| drop(rows::transaction(&submission, &answer, SystemTime::now())));
        let formed = start.elapsed() / rounds;
        let start = Instant::now();
        (0..rounds).for_each(|_| logs.transaction(&submission, &answer));
        let pushed = start.elapsed() / rounds;
        logs.flush();
        println!(
            "{formed:?} to form, {pushed:?} for the caller, {:?} in all",
            start.elapsed() / rounds
        );
    }
}
