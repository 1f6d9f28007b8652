use std::time::Duration;

use galerne_smtp::Reply;

use super::*;
use crate::model::FlowSetName;

mod engine;
mod lines;
mod samples;

/// The patterns of lines as they stand in a file; every line must be good and give no warning.
fn patterns(file: &str, lines: &str) -> Vec<Pattern> {
    let mut found = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let line = line.trim();
        let Some((name, value)) = line
            .split_once('=')
            .filter(|_| !line.starts_with([';', '#']))
        else {
            continue;
        };
        let source = format!("{file}:{}", number + 1);
        let (pattern, warnings) =
            parse_line(name, value, source).unwrap_or_else(|e| panic!("{file}: {line}: {e}"));
        assert_eq!(warnings, Vec::<String>::new(), "{file}: {line}");
        found.push(pattern);
    }
    found
}

fn compiled(lines: &str) -> Patterns {
    Patterns::compile(patterns("own", lines), vec![]).unwrap()
}

fn name_of(patterns: &Patterns, reply: &str) -> Option<String> {
    patterns.qualify(&reply_from_text(reply).unwrap()).pattern
}

fn matches(pattern: &str, reply: &str) -> bool {
    name_of(&compiled(&format!("x = SOFT(d) {pattern}")), reply).is_some()
}

#[test]
fn flow_61_every_error_is_soft_without_a_pattern() {
    let patterns = compiled("nouser = HARD(unknown) 550 5.1.1 *");
    for reply in ["421 go away", "550 5.7.1 refused", "354 what", "599 x"] {
        let found = patterns.qualify(&reply_from_text(reply).unwrap());
        assert_eq!((found.class, found.pattern), (Class::Soft, None), "{reply}");
    }
    let none = Patterns::default();
    assert_eq!(
        none.qualify(&Reply::new(550, "5.1.1 user unknown")).class,
        Class::Soft
    );
}

#[test]
fn flow_63_name_and_description_come_with_the_qualification() {
    let found = compiled("full = SOFT(mailbox-full) 452 *").qualify(&Reply::new(452, "4.2.2 full"));
    assert_eq!(found.pattern.as_deref(), Some("full"));
    assert_eq!(found.description, "mailbox-full");
    assert_eq!(found.source, "own:1");
}

#[test]
fn flow_64_star_needs_one_character() {
    assert!(!matches("550 5.1.1*", "550 5.1.1"));
    assert!(matches("550 5.1.1*", "550 5.1.1x"));
    assert!(!matches("550 *unknown*", "550 user unknown"));
    assert!(matches("550 *unknown*", "550 user unknown."));
    assert!(!matches("*550 x", "550 x"));
    assert!(matches("550 a*b*c", "550 a1b2c"));
    assert!(!matches("550 a*b*c", "550 abc"));
    assert!(matches("550 a**b", "550 a12b"));
    assert!(!matches("550 a**b", "550 a1b"));
    assert!(!matches("550 a**b", "550 aéb"));
    assert!(!matches("550 ab*ba", "550 aba"));
    assert!(!matches("550 ab*ba", "550 abba"));
    assert!(matches("550 ab*ba", "550 ab-ba"));
    assert!(matches("*", "550"));
    assert!(matches("550 caf* noir", "550 caféé noir"));
}

#[test]
fn flow_65_the_whole_reply_must_match() {
    assert!(matches("550 no such user", "550 No Such User"));
    assert!(!matches("550 no such user", "550 no such user here"));
    assert!(!matches("550 no such user", "550 sorry, no such user"));
    assert!(!matches("no such user", "550 no such user"));
    assert!(matches("*no such user", "550 no such user"));
}

#[test]
fn flow_65_lines_are_joined_and_repeated_codes_removed() {
    let reply = Reply::new(
        550,
        "5.1.1 The account does not exist.\n5.1.1  Please   check\t it  \n550-5.1.1 again. ",
    );
    assert_eq!(
        normalise(&reply),
        "550 5.1.1 The account does not exist. Please check it again."
    );
    let reply = reply_from_text("421-4.7.0 too fast\r\n421 4.7.0 slow down\r\n").unwrap();
    assert_eq!(normalise(&reply), "421 4.7.0 too fast slow down");
    let kept = Reply::new(554, "5.7.1 one\n5.7.2 two\n5540 three");
    assert_eq!(normalise(&kept), "554 5.7.1 one 5.7.2 two 5540 three");
    assert_eq!(normalise(&Reply::new(550, "")), "550");
    assert_eq!(normalise(&Reply::new(550, "  \n \n")), "550");
}

#[test]
fn flow_65_blanks_and_case_of_the_pattern_do_not_count() {
    assert!(matches(
        "550   5.1.1  USER  unknown",
        "550 5.1.1 user\t\tUnknown   "
    ));
    assert!(matches("550 ÉCHEC", "550 échec"));
    assert!(matches("550 straße", "550 STRAßE"));
}

#[test]
fn flow_65_no_other_character_is_special() {
    for text in [
        r"a.b",
        r"a+b?",
        r"(a)[b]{2}",
        r"^a$|b",
        r"\d\w\A",
        r"#1 & ~2 - 3",
        "<a@b> 100% \"x\" 'y' /z; !",
        "`_,:",
    ] {
        assert!(
            matches(&format!("550 {text}"), &format!("550 {text}")),
            "{text}"
        );
        assert!(!matches(&format!("550 {text}"), "550 aab"), "{text}");
    }
    assert!(!matches("550 a.b", "550 axb"));
    assert!(!matches("550 a?b", "550 axb"));
}

#[test]
fn flow_66_first_in_file_order_then_the_defaults() {
    let own = patterns(
        "own",
        "general = SOFT(a) 550 *\nspecial = HARD(b) 550 5.1.1 *\n",
    );
    let defaults = patterns(
        "def",
        "first = SPAM(c) 5*\nsecond = HARD(d) 554 x\nsame = HARD(e) 550 5.1.1 *\n",
    );
    let both = Patterns::compile(own.clone(), defaults.clone()).unwrap();
    assert_eq!(name_of(&both, "550 5.1.1 x").as_deref(), Some("general"));
    assert_eq!(name_of(&both, "554 x").as_deref(), Some("first"));
    assert_eq!(name_of(&both, "421 x"), None);
    let swapped = own.iter().rev().cloned().collect();
    let swapped = Patterns::compile(swapped, defaults.clone()).unwrap();
    assert_eq!(name_of(&swapped, "550 5.1.1 x").as_deref(), Some("special"));
    assert_eq!(name_of(&swapped, "550 5.2.1 x").as_deref(), Some("general"));

    let shared = Patterns::compile(defaults, vec![]).unwrap();
    let with = Patterns::with_defaults(own, &shared).unwrap();
    assert_eq!(name_of(&with, "550 5.1.1 x").as_deref(), Some("general"));
    assert_eq!(name_of(&with, "554 x").as_deref(), Some("first"));
    let order: Vec<&str> = with.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(order, ["general", "special", "first", "second", "same"]);
    let empty = Patterns::with_defaults(vec![], &shared).unwrap();
    assert_eq!(name_of(&empty, "554 x").as_deref(), Some("first"));
}

#[test]
fn relay_62_flow_71_a_flow_pattern_marks_a_block_at_any_code() {
    let patterns =
        compiled("listed = FLOW(blocklist, #defcon2, #low) 5* *blocked*\nrate = FLOW(rate) 421 *");
    let block = patterns.qualify(&Reply::new(554, "5.7.1 blocked using dnsbl.example"));
    let sets = (Some(FlowSetName::Defcon2), Some(FlowSetName::Low));
    assert_eq!(
        block.class,
        Class::Flow {
            ipset: sets.0,
            sdset: sets.1
        }
    );
    let rate = patterns.qualify(&Reply::new(421, "slow down"));
    assert_eq!(
        rate.class,
        Class::Flow {
            ipset: None,
            sdset: None
        }
    );
}

#[test]
fn flow_73_success_is_never_tested_and_5xx_is_soft_unless_qualified() {
    let patterns = compiled("all = HARD(all) 2*\nrest = HARD(rest) 550 5.1.1 *");
    for reply in ["220 mx ready", "250 2.0.0 ok", "221 bye", "250 550 5.1.1 x"] {
        let found = patterns.qualify(&reply_from_text(reply).unwrap());
        assert_eq!((found.class, found.pattern), (Class::Soft, None), "{reply}");
    }
    assert_eq!(
        patterns.qualify(&Reply::new(550, "5.7.1 no")).class,
        Class::Soft
    );
    assert_eq!(
        patterns.qualify(&Reply::new(550, "5.1.1 no")).class,
        Class::Hard
    );
    let wide = compiled("wide = HARD(x) 3*");
    assert_eq!(
        name_of(&wide, "354 at the wrong place").as_deref(),
        Some("wide")
    );
}

#[test]
fn flow_75_every_step_asks_the_same_patterns() {
    // The qualification takes the reply alone: a greeting, a reply to RCPT and one to QUIT with the
    // same text cannot be told apart.
    let patterns = compiled("block = FLOW(blocklist, #defcon2) *blocked using*");
    for reply in [
        "554 mx.example 5.7.1 blocked using x",
        "550 5.7.1 <a@b.example>: blocked using x",
        "421 blocked using x",
    ] {
        let found = patterns.qualify(&reply_from_text(reply).unwrap());
        assert_eq!(found.pattern.as_deref(), Some("block"), "{reply}");
    }
}

#[test]
fn flow_76_the_test_says_what_matches_and_what_it_would_do() {
    let patterns = compiled(
        "listed = FLOW(blocklist, #defcon2, #low) 554 *blocked*\ngrey = GREY(greylist, 5m) 450 *\nsender = FLOW(rep, sdflow(low)) 421 *",
    );
    let block = patterns.test("bigisp", &Reply::new(554, "5.7.1 blocked!"));
    let json = serde_json::to_value(&block).unwrap();
    let expected = serde_json::json!({
        "group": "@bigisp", "pattern": "listed", "function": "FLOW", "description": "blocklist",
        "ipset": "defcon2", "sdset": "low", "delay": null, "source": "own:1",
    });
    assert_eq!(json, expected);
    let grey = patterns.test("bigisp", &Reply::new(450, "4.7.1 later"));
    assert_eq!(
        (grey.function, grey.delay, grey.ipset),
        (Some("GREY"), Some(300), None)
    );
    let sender = patterns.test("bigisp", &Reply::new(421, "later"));
    assert_eq!((sender.ipset, sender.sdset), (None, Some("low")));
    let none = patterns.test("", &Reply::new(550, "5.1.1 no"));
    assert_eq!(
        (
            none.group.as_str(),
            none.pattern,
            none.function,
            none.source
        ),
        ("@", None, Some("SOFT"), None)
    );
    assert_eq!(patterns.test("", &Reply::new(250, "ok")).function, None);
}

#[test]
fn flow_76_replies_are_read_as_people_write_them() {
    let lines = |text: &str| {
        reply_from_text(text).map(|r| {
            (
                r.code(),
                r.lines()
                    .map(|l| String::from_utf8_lossy(l).into_owned())
                    .collect::<Vec<_>>(),
            )
        })
    };
    assert_eq!(lines("550 5.1.1 no"), Some((550, vec!["5.1.1 no".into()])));
    assert_eq!(
        lines("550-a\n550-b\n550 c"),
        Some((550, vec!["a".into(), "b".into(), "c".into()]))
    );
    assert_eq!(
        lines(r"421-a\r\n421 b"),
        Some((421, vec!["a".into(), "b".into()]))
    );
    assert_eq!(lines("  550  "), Some((550, vec![String::new()])));
    assert_eq!(lines("550-a\nb"), Some((550, vec!["a".into(), "b".into()])));
    for bad in [
        "", "55", "hello", "199 x", "600 x", "5501 x", "55x no", "ééé",
    ] {
        assert_eq!(lines(bad), None, "{bad}");
    }
}
