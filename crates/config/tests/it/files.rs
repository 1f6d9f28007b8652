//! Groups and relay hosts, with their CSV files.

use std::time::Duration;

use galerne_core::flow::params::{Params, Rule, Sections, Target, Window, resolve};
use galerne_core::flow::{Control, Set};
use galerne_core::settings::Settings;

use crate::world::{World, ip, lines, one_error};

fn errors_of(file: &str, text: &str) -> String {
    let world = World::new();
    world.write(file, text);
    one_error(&world.load())
}

fn group_names(settings: &Settings) -> Vec<&str> {
    settings.groups.iter().map(|g| g.name.as_str()).collect()
}

#[test]
fn conf_66_groups_by_their_names() {
    let world = World::new();
    world.write(
        "domains/@big-isp.ini",
        "[dns]\nmx = *.Mail.example.org mx*.example.net\n",
    );
    world
        .write("domains/@Upper.ini", "")
        .write("domains/plain.ini", "")
        .write("domains/@x_log.csv", "a\n");
    let loaded = world.load();
    assert_eq!(
        lines(&loaded),
        [
            "domains/@Upper.ini:1: error: [-] -: expected @ and 1 to 30 characters a-z, 0-9 and hyphen as the file name",
            "domains/plain.ini:1: warning: [-] -: not read: the name must be @<name>.ini",
        ]
    );
    let settings = loaded.settings.unwrap();
    assert_eq!(group_names(&settings), ["big-isp"]);
    assert_eq!(
        settings.groups[0].mx,
        ["*.mail.example.org", "mx*.example.net"]
    );
    assert_eq!(settings.groups[0].file, "domains/@big-isp.ini");
}

#[test]
fn conf_67_conf_68_aliases_come_from_their_file() {
    let world = World::new();
    world.write(
        "domains/@isp.ini",
        "[dns]\nmx = mx.isp.example\ncache = 1\ndomain = isp.example\n",
    );
    world.write(
        "domains/@isp_alias.csv",
        "domain;date;mine\nISP.example;260101000000;x\n\nother.example;;\n",
    );
    let settings = world.settings();
    let group = &settings.groups[0];
    assert_eq!(group.aliases, ["isp.example", "other.example"]);
    assert_eq!(
        (group.cache, group.domain.as_deref()),
        (true, Some("isp.example"))
    );
    world.write(
        "domains/@isp_alias.csv",
        "date,domain\n260101,isp.example\n260101000000,not a name\n",
    );
    let loaded = world.load();
    assert_eq!(
        lines(&loaded),
        ["domains/@isp_alias.csv:1: warning: [-] -: 2 faulty lines, the first is line 3"]
    );
    world.write("domains/@isp_alias.csv", "name\nisp.example\n");
    assert!(lines(&world.load())[0].contains("expected the columns date and domain"));
}

#[test]
fn conf_72_defaults_and_the_group_of_all_others() {
    let world = World::new();
    assert_eq!(world.settings().catch_all.name, "");
    world.write(
        "domains/.defflow.ini",
        "[pattern]\nnouser = HARD(unknown) 550 5.1.1 *\n",
    );
    world.write(
        "domains/@isp.ini",
        "[dns]\nmx = mx.isp.example\n[pattern]\nfull = SOFT(full) 452 *\n",
    );
    let names = |s: &Settings| -> Vec<String> {
        s.groups[0]
            .patterns
            .iter()
            .map(|p| p.name.clone())
            .collect()
    };
    let settings = world.settings();
    assert_eq!(names(&settings), ["full", "nouser"]);
    assert_eq!(settings.catch_all.patterns.iter().count(), 1);
    world.write("domains/@.ini", "[pattern]\nblock = FLOW(block) 554 *\n");
    let settings = world.settings();
    let names: Vec<_> = settings
        .catch_all
        .patterns
        .iter()
        .map(|p| p.name.clone())
        .collect();
    assert_eq!(names, ["block", "nouser"]);
    let source = settings
        .catch_all
        .patterns
        .iter()
        .next()
        .unwrap()
        .source
        .clone();
    assert_eq!(source, "domains/@.ini:2");
    assert_eq!(group_names(&settings), ["isp"]);
}

#[test]
fn conf_73_conf_76_conf_77_relay_hosts() {
    let world = World::new();
    world.write(
        "hosts/@next.ini",
        "[dns]\nmx = smtp.example.net\nport = 587\nip = 192.0.2.11\nlogin = me@example.net\npassw = geheim\noverwrite = 1\nauthclear = 1\nverify = 0\n[pattern]\nx = HARD(y) 550 *\n",
    );
    world.write("hosts/@plain.ini", "[dns]\nmx = 127.0.0.1\nrelay = 1\n");
    world.write(
        "domains/@smart.ini",
        "[dns]\nrelay = 1\nmx = out.example.net\n",
    );
    world.write("domains/@smart_alias.csv", "domain\nonly.example\n");
    let settings = world.settings();
    let host = |name: &str| settings.hosts.iter().find(|h| h.name == name).unwrap();
    let next = host("next");
    assert_eq!((next.host.as_str(), next.port), ("smtp.example.net", 587));
    assert_eq!(next.ips, Some(vec![ip("192.0.2.11")]));
    assert_eq!(next.login.as_deref(), Some("me@example.net"));
    assert_eq!(next.password.as_ref().unwrap().0, "geheim");
    assert!(next.overwrite && next.authclear && !next.verify);
    assert_eq!(next.group.as_ref().unwrap().patterns.iter().count(), 1);
    let plain = host("plain");
    assert_eq!(
        (plain.host.as_str(), plain.port, plain.ips.clone()),
        ("127.0.0.1", 465, None)
    );
    assert!(plain.login.is_none() && !plain.overwrite && !plain.authclear && plain.verify);
    assert_eq!(host("smart").host, "out.example.net");
    let smart = &settings.groups[0];
    assert_eq!(
        (smart.name.as_str(), smart.relay.as_deref()),
        ("smart", Some("smart"))
    );
    assert_eq!(smart.aliases, ["only.example"]);
    assert!(
        smart.mx.is_empty(),
        "a relay is no pattern for destinations"
    );
}

#[test]
fn conf_74_no_wildcards_for_a_relay() {
    for (text, why) in [
        (
            "[dns]\nmx = *.example.net\n",
            "wildcards are not allowed for a relay",
        ),
        (
            "[dns]\nmx = a.example b.example\n",
            "expected one host name or address for a relay",
        ),
        (
            "[dns]\nmx =\n",
            "a relay needs its host name or address in mx",
        ),
    ] {
        assert_eq!(
            errors_of("hosts/@next.ini", text),
            format!("hosts/@next.ini:2: error: [dns] mx: {why}")
        );
        let group = format!("{text}relay = 1\n");
        assert_eq!(
            errors_of("domains/@next.ini", &group),
            format!("domains/@next.ini:2: error: [dns] mx: {why}")
        );
    }
    assert!(
        errors_of("hosts/@next.ini", "[dns]\nmx = a.example\nport = 0\n")
            .contains("port 0 is not allowed")
    );
    assert!(
        errors_of(
            "hosts/@next.ini",
            "[dns]\nmx = a.example\nip = 192.0.2.99\n"
        )
        .contains("192.0.2.99 is not listed in [IP]")
    );
}

#[test]
fn conf_76_one_name_one_relay() {
    let world = World::new();
    world.write("hosts/@next.ini", "[dns]\nmx = a.example\n");
    world.write("domains/@next.ini", "[dns]\nrelay = 1\nmx = b.example\n");
    let loaded = world.load();
    assert!(
        one_error(&loaded)
            .contains("hosts/@next.ini:1: error: [dns] relay: there is another relay host @next")
    );
    assert_eq!(loaded.settings.unwrap().hosts.len(), 1);
}

#[test]
fn conf_78_overwrite_needs_a_login_that_is_an_address() {
    for login in ["", "login = name\npassw = x\n"] {
        let text = format!("[dns]\noverwrite = 1\nmx = a.example\n{login}");
        assert_eq!(
            errors_of("hosts/@next.ini", &text),
            "hosts/@next.ini:2: error: [dns] overwrite: overwrite = 1 needs a login that is an e-mail address"
        );
    }
}

#[test]
fn conf_73_half_a_login_is_a_warning() {
    let world = World::new();
    world.write("hosts/@next.ini", "[dns]\nmx = a.example\nlogin = name\n");
    assert!(lines(&world.load())[0].contains("warning: [dns] login: AUTH needs login and passw"));
}

#[test]
fn flow_19_flow_6_flow_7_flow_8_the_shipped_sets_are_the_table_of_the_manual() {
    let world = World::new();
    let sample = include_str!("../../samples/domains/.defflow.ini");
    world.write("domains/.defflow.ini", sample);
    let settings = world.settings();
    let none = Sections::default();
    let mut table = String::new();
    for control in [Control::Ip, Control::Sender] {
        for set in Set::ALL {
            let params = resolve(&none, &settings.flow_defaults, control, set, "x");
            table += &format!("{}#{} {}\n", control.word(), set.word(), shown(&params));
        }
    }
    let golden = include_str!("shipped_sets.txt");
    assert_eq!(table, golden, "\n{table}");
}

/// One line of the table of sets: seconds and messages.
fn shown(params: &Params) -> String {
    let window = |window: Window| format!("{}/{}s", window.max, window.ttl.as_secs());
    let rule = |rule: Rule| match rule.volume {
        0 => "-".to_owned(),
        _ => {
            let target = match rule.target {
                Target::Set(set) => set.word(),
                _ => "next",
            };
            format!("{}s,{},{target}", rule.ttl.as_secs(), rule.volume)
        }
    };
    format!(
        "threads {} chain {} wait {}s low {} high {} up {} down {} sleep {}s",
        params.threadmax,
        params.chainmax,
        params.waittime.as_secs(),
        window(params.low),
        window(params.high),
        rule(params.up),
        rule(params.down),
        params.sleepttl.as_secs(),
    )
}

#[test]
fn flow_32_a_rule_that_leads_the_wrong_way_is_warned_of() {
    for (lines_of_section, text) in [
        (
            "[ipflow#high]\nflowttlup = 15d\nflowvolup = 1000\nflowup = mid\n",
            "flowup leads to mid, which is slower than high; was flowdown meant?",
        ),
        (
            "[sdflow#low]\nflowdown = full\n",
            "flowdown leads to full, which is faster than low; was flowup meant?",
        ),
        (
            "[ipflow#low]\nflowvoldown = 5\nflowttldown = 0\n",
            "flowttldown is 0, so the down switch is off",
        ),
    ] {
        let world = World::new();
        world.write("domains/@isp.ini", lines_of_section);
        let found = lines(&world.load());
        let warned = found
            .iter()
            .any(|l| l.contains("warning") && l.ends_with(text));
        assert!(warned, "{found:#?}");
    }
}

#[test]
fn conf_16_an_empty_flow_key_is_the_default() {
    let world = World::new();
    world.write(
        "domains/.defflow.ini",
        "[ipflow#low]\nthreadmax = 9\nwaittime = 9\n",
    );
    world.write(
        "domains/@isp.ini",
        "[ipflow#low]\nthreadmax =\nwaittime =\n",
    );
    let settings = world.settings();
    let (group, defaults) = (&settings.groups[0].flow, &settings.flow_defaults);
    let params = resolve(group, defaults, Control::Ip, Set::Low, "x");
    assert_eq!((params.threadmax, params.waittime), (1, Duration::ZERO));
}

#[test]
fn flow_12_flow_13_flow_16_flow_17_flow_sections_are_checked_and_kept() {
    let world = World::new();
    world.write(
        "domains/@isp.ini",
        "[dns]\nmx = mx.isp.example\n[ipflow#warmup]\nvolttllow = 10m\nvolmaxlow = 60\nflowup = low\n[ipflow#Warmup@192.0.2.11]\nvolmaxhigh = 500\n",
    );
    let loaded = world.load();
    assert!(loaded.findings.is_empty());
    let settings = loaded.settings.unwrap();
    let of = |key| {
        let (group, defaults) = (&settings.groups[0].flow, &settings.flow_defaults);
        resolve(group, defaults, Control::Ip, Set::Warmup, key)
    };
    let ten_minutes = Duration::from_secs(600);
    let low = Window {
        ttl: ten_minutes,
        max: 60,
    };
    assert_eq!((of("192.0.2.11").low, of("192.0.2.12").low), (low, low));
    assert_eq!(of("192.0.2.12").up.target, Target::Set(Set::Low));
    assert_eq!(
        (of("192.0.2.11").high.max, of("192.0.2.12").high.max),
        (500, 0)
    );
    for (section, why) in [
        (
            "[ipflow#fast]",
            "[ipflow#fast] -: unknown flow set; expected defcon3, defcon2",
        ),
        (
            "[ipflow#low@news.example.com]",
            "expected an IPv4 or IPv6 address",
        ),
        ("[sdflow#low@a b]", "expected a host or domain name"),
        (
            "[ipflow#low]\nvolttllow = soon",
            "[ipflow#low] volttllow: expected a duration",
        ),
        (
            "[ipflow#low]\nflowup = fast",
            "[ipflow#low] flowup: expected defcon3",
        ),
        ("[pattern]\nx = FLOW(a, #fast) 554 *", "[pattern] x: "),
    ] {
        let text = format!("[dns]\nmx = mx.isp.example\n{section}\n");
        let error = errors_of("domains/@isp.ini", &text);
        assert!(error.contains(why), "{error}");
    }
}
