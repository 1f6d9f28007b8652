//! The sample groups that `galerne init` writes (CONF-5): they parse, and say what they should.

use super::*;

const FILES: [(&str, &str); 6] = [
    (
        ".defflow",
        include_str!("../../../../config/samples/domains/.defflow.ini"),
    ),
    (
        "@",
        include_str!("../../../../config/samples/domains/@.ini"),
    ),
    (
        "@aol",
        include_str!("../../../../config/samples/domains/@aol.ini"),
    ),
    (
        "@gmail",
        include_str!("../../../../config/samples/domains/@gmail.ini"),
    ),
    (
        "@hotmail",
        include_str!("../../../../config/samples/domains/@hotmail.ini"),
    ),
    (
        "@yahoo",
        include_str!("../../../../config/samples/domains/@yahoo.ini"),
    ),
];

/// The lines of one section, each at its place in the file.
fn section(file: &str, name: &str) -> String {
    let text = FILES.iter().find(|(f, _)| *f == file).unwrap().1;
    let mut within = false;
    let keep = text.lines().map(|line| {
        if line.starts_with('[') {
            within = line == format!("[{name}]");
        }
        if within && !line.starts_with('[') {
            line
        } else {
            ""
        }
    });
    keep.collect::<Vec<_>>().join("\n")
}

fn sample(group: &str) -> Patterns {
    let defaults = Patterns::compile(
        patterns(".defflow", &section(".defflow", "pattern")),
        vec![],
    )
    .unwrap();
    Patterns::with_defaults(patterns(group, &section(group, "pattern")), &defaults).unwrap()
}

#[test]
fn conf_5_samples_parse_without_warnings_and_no_name_twice() {
    for (file, _) in FILES {
        let found = patterns(file, &section(file, "pattern"));
        assert!(found.len() > 10, "{file}");
        let mut names: Vec<&str> = found.iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "{file} names a pattern twice");
        Patterns::compile(found, vec![]).unwrap();
    }
}

#[test]
fn conf_5_samples_stay_small_enough_to_share() {
    let start = std::time::Instant::now();
    let groups: Vec<Patterns> = FILES.iter().skip(1).map(|(file, _)| sample(file)).collect();
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(groups.len(), 5);
}

#[test]
fn flow_19_the_shipped_sets_hold_the_figures() {
    let rows = [
        ("defcon3", "1d 1 1 0 - - 24h 1 - - - - - -"),
        ("defcon2", "4h 1 1 0 - - 24h 10 - - - - - -"),
        ("defcon1", "1h 1 1 60 10m 5 24h 200 1d 100 warmup - - -"),
        ("warmup", "- 1 10 10 10m 60 24h 3000 7d 10000 low - - -"),
        (
            "low",
            "- 2 20 5 10m 200 24h 15000 7d 50000 mid 30d 100 warmup",
        ),
        (
            "mid",
            "- 4 50 2 10m 1000 24h 60000 7d 200000 high 15d 1000 low",
        ),
        (
            "high",
            "- 8 100 0 10m 4000 24h 300000 7d 1000000 full 15d 5000 mid",
        ),
        ("full", "- 16 0 0 - - - - - - - 15d 20000 high"),
    ];
    let keys = "sleepttl threadmax chainmax waittime volttllow volmaxlow volttlhigh volmaxhigh \
                flowttlup flowvolup flowup flowttldown flowvoldown flowdown";
    for kind in ["ipflow", "sdflow"] {
        for (set, figures) in rows {
            let text = section(".defflow", &format!("{kind}#{set}"));
            let found = |key: &str| {
                text.lines().find_map(|l| {
                    l.split_once('=')
                        .filter(|(k, _)| k.trim() == key)
                        .map(|(_, v)| v.trim())
                })
            };
            for (key, figure) in keys.split_whitespace().zip(figures.split_whitespace()) {
                assert_eq!(found(key).unwrap_or("-"), figure, "{kind}#{set} {key}");
            }
        }
    }
}

#[test]
fn flow_52_the_shipped_catch_all_names_no_sets() {
    let catch_all = sample("@");
    let flows: Vec<&Pattern> = catch_all
        .iter()
        .filter(|p| matches!(p.class, Class::Flow { .. }))
        .collect();
    assert!(flows.len() > 10);
    for pattern in flows {
        assert_eq!(
            pattern.class,
            Class::Flow {
                ipset: None,
                sdset: None
            },
            "{}",
            pattern.source
        );
    }
}

#[test]
fn conf_5_samples_know_the_usual_replies() {
    let cases = [
        (
            "@",
            "550 5.1.1 <a@b.example>: Recipient address rejected: User unknown in virtual mailbox table",
            "HARD",
        ),
        ("@", "550 No such user here", "HARD"),
        ("@", "552 5.2.2 mailbox full", "SOFT"),
        ("@", "451 4.7.1 Greylisting in action", "GREY"),
        ("@", "550 5.7.1 listed at zen.spamhaus.org", "FLOW"),
        (
            "@",
            "550 5.7.1 this message looks like spam detected by us",
            "SPAM",
        ),
        ("@", "550 5.1.1 you shall not pass", "HARD"),
        ("@", "550 5.9.9 what nobody has ever said", "SOFT"),
        (
            "@gmail",
            "550-5.1.1 The account does not exist.\n550 5.1.1 Check it - gsmtp",
            "HARD",
        ),
        (
            "@gmail",
            "552-5.2.2 The recipient is out of storage space.\n552 5.2.2 x",
            "SOFT",
        ),
        (
            "@gmail",
            "421-4.7.28 Gmail has detected an unusual rate of unsolicited\n421 4.7.28 mail",
            "FLOW",
        ),
        (
            "@gmail",
            "550-5.7.1 this message is likely unsolicited mail.\n550 5.7.1 x",
            "SPAM",
        ),
        (
            "@hotmail",
            "550 5.5.0 Requested action not taken: mailbox unavailable",
            "HARD",
        ),
        (
            "@hotmail",
            "421 RP-001 The mail server IP has exceeded the rate limit",
            "FLOW",
        ),
        (
            "@hotmail",
            "550 SC-001 Mail rejected for policy reasons",
            "SPAM",
        ),
        (
            "@yahoo",
            "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred",
            "FLOW",
        ),
        (
            "@yahoo",
            "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1",
            "FLOW",
        ),
        (
            "@aol",
            "550 5.1.1 <a@aol.com>: Recipient address rejected: aol.com [RCPT_TO]",
            "HARD",
        ),
    ];
    for (group, reply, expected) in cases {
        let found = sample(group).test(
            group.trim_start_matches('@'),
            &reply_from_text(reply).unwrap(),
        );
        assert_eq!(found.function, Some(expected), "{group} {reply}: {found:?}");
    }
    let rate = sample("@yahoo").qualify(&reply_from_text("421 4.7.0 [TSS04] x").unwrap());
    assert_eq!(
        rate.class,
        Class::Flow {
            ipset: Some(FlowSetName::Defcon1),
            sdset: Some(FlowSetName::Defcon1)
        }
    );
}

#[test]
fn conf_5_mx_of_the_four_providers_find_their_groups() {
    use crate::group::tests::group;
    let named: Vec<_> = ["aol", "gmail", "hotmail", "yahoo"]
        .map(|name| {
            let dns = section(&format!("@{name}"), "dns");
            let mx = dns.lines().find_map(|l| l.strip_prefix("mx = ")).unwrap();
            group(name, &mx.split(' ').collect::<Vec<_>>(), &[])
        })
        .into();
    let catch_all = group("", &[], &[]);
    let cases = [
        ("mx-aol.mail.gm0.yahoodns.net", "aol"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("mx-eu.mail.am0.yahoodns.net", "yahoo"),
        ("gmail-smtp-in.l.google.com", "gmail"),
        ("alt1.aspmx.l.google.com", "gmail"),
        ("aspmx2.googlemail.com", "gmail"),
        ("smtp.google.com", "gmail"),
        ("hotmail-com.olc.protection.outlook.com", "hotmail"),
        ("example-com.mail.protection.outlook.com", ""),
        ("google.com.example.net", ""),
    ];
    for (mx, expected) in cases {
        let found = crate::group::detect(&named, &catch_all, "x.example", Some(&[mx]));
        assert_eq!(found.group.name, expected, "{mx}");
    }
}
