//! Pattern lines.

use super::*;

fn class(value: &str) -> Class {
    parse_line("x", value, "f:1".into())
        .unwrap_or_else(|e| panic!("{value}: {e}"))
        .0
        .class
}

fn error(name: &str, value: &str) -> String {
    parse_line(name, value, "f:1".into()).unwrap_err()
}

fn flow(ipset: Option<FlowSetName>, sdset: Option<FlowSetName>) -> Class {
    Class::Flow { ipset, sdset }
}

#[test]
fn flow_62_a_line_is_function_arguments_pattern() {
    let (pattern, warnings) = parse_line(
        "NoUser",
        "  hard ( unknown )  550 5.1.1 * (x) ",
        "f:7".into(),
    )
    .unwrap();
    let expected = Pattern {
        name: "nouser".into(),
        class: Class::Hard,
        description: "unknown".into(),
        text: "550 5.1.1 * (x)".into(),
        source: "f:7".into(),
    };
    assert_eq!((pattern, warnings), (expected, vec![]));
    for bad in [
        "",
        "HARD",
        "HARD unknown 550",
        "HARD(unknown",
        "HARD(unknown)",
        "HARD(unknown) ",
        "BOUNCE(x) 550",
    ] {
        assert!(parse_line("x", bad, "f:1".into()).is_err(), "{bad}");
    }
    assert!(error("x", "BOUNCE(x) 550").contains("BOUNCE"));
    assert!(error("x", "HARD(a, b) 550").contains("\"b\""));
}

#[test]
fn flow_63_long_names_and_descriptions_are_cut_with_a_warning() {
    let (pattern, warnings) = parse_line(
        "a-name-of-more-than-16",
        "SOFT(déscription très longue) 4*",
        "f:1".into(),
    )
    .unwrap();
    assert_eq!(pattern.name, "a-name-of-more-t");
    assert_eq!(pattern.description, "déscription très");
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("a-name-of-more-than-16") && warnings[0].contains("name"));
    assert!(warnings[1].contains("description"));
    let (_, warnings) = parse_line(
        "sixteen-letters-",
        "SOFT(sixteen letters.) 4*",
        "f:1".into(),
    )
    .unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    for bad in ["", "no_underscore", "no blank", "é", "a.b"] {
        assert!(
            parse_line(bad, "SOFT(x) 4*", "f:1".into()).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn flow_67_flow_68_flow_69_soft_hard_and_spam() {
    assert_eq!(class("SOFT(mailbox-full) 452 *"), Class::Soft);
    assert_eq!(class("HARD(unknown) 550 *"), Class::Hard);
    assert_eq!(class("SPAM(content) 550 *"), Class::Spam);
    assert_eq!(class("Spam() 550 *"), Class::Spam);
}

#[test]
fn flow_70_grey_takes_a_time_600_by_default() {
    let grey = |value: &str| match class(value) {
        Class::Grey(delay) => delay.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(grey("GREY(greylist) 450 *"), 600);
    assert_eq!(grey("GREY(greylist, ) 450 *"), 600);
    assert_eq!(grey("GREY(greylist, 300) 450 *"), 300);
    assert_eq!(grey("GREY(greylist,5m) 450 *"), 300);
    assert_eq!(grey("GREY(greylist, 2H) 450 *"), 7200);
    assert_eq!(grey("GREY(greylist, 1d) 450 *"), 86_400);
    assert_eq!(grey("GREY(greylist, 90s) 450 *"), 90);
    for bad in [
        "0",
        "-1",
        "m",
        "5w",
        "1.5h",
        "99999999999999999999",
        "999999999999d",
        "31d",
        "5 minutes",
        "5m, 6m",
    ] {
        assert!(
            parse_line("x", &format!("GREY(g, {bad}) 450 *"), "f:1".into()).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn flow_71_flow_may_name_a_set_for_the_ip_and_one_for_the_sender() {
    use FlowSetName::*;
    assert_eq!(class("FLOW(d) 554 *"), flow(None, None));
    assert_eq!(class("FLOW() 554 *"), flow(None, None));
    assert_eq!(class("FLOW(d, #defcon1) 421 *"), flow(Some(Defcon1), None));
    assert_eq!(
        class("FLOW(d, #DEFCON2, #Low) 421 *"),
        flow(Some(Defcon2), Some(Low))
    );
    assert!(error("x", "FLOW(d, #defcon4) 421 *").contains("defcon4"));
    assert!(error("x", "FLOW(d, #low, #mid, #high) 421 *").contains("#high"));
}

#[test]
fn flow_72_all_spellings_of_the_source() {
    use FlowSetName::*;
    let both = flow(Some(Defcon2), Some(Low));
    for value in [
        "FLOW(d, #defcon2, #low) 554 *",
        "FLOW(d, #defcon2, #low)) 554 *",
        "FLOW(d, #defcon2, #low) ) 554 *",
        "FLOW(d, defcon2, low) 554 *",
        "FLOW(d,defcon2,#low)554 *",
        "FLOW(d, ipflow(defcon2), sdflow(low)) 554 *",
        "FLOW(d, ipflow(#defcon2), sdflow( #low ))) 554 *",
        "FLOW(d, sdflow(low), ipflow(defcon2)) 554 *",
        "FLOW(d, IPFLOW (defcon2), low) 554 *",
        "FLOW(d, , sdflow(low), ipflow(defcon2)) 554 *",
    ] {
        let (pattern, _) =
            parse_line("x", value, "f:1".into()).unwrap_or_else(|e| panic!("{value}: {e}"));
        assert_eq!(pattern.class, both, "{value}");
        assert_eq!(
            (pattern.text.as_str(), pattern.description.as_str()),
            ("554 *", "d"),
            "{value}"
        );
    }
    assert_eq!(class("FLOW(d, , #low) 554 *"), flow(None, Some(Low)));
    assert_eq!(class("FLOW(d, #, #low) 554 *"), flow(None, Some(Low)));
    assert_eq!(
        class("FLOW(d, #defcon2, ) 554 *"),
        flow(Some(Defcon2), None)
    );
    assert_eq!(class("FLOW(d, sdflow(low)) 554 *"), flow(None, Some(Low)));
    assert_eq!(
        class("FLOW(d, ipflow(), sdflow(low)) 554 *"),
        flow(None, Some(Low))
    );
    assert_eq!(class("SOFT(d)) 452 *"), Class::Soft);
    assert!(error("x", "FLOW(d, low, ipflow(mid)) 554 *").contains("two sets"));
    assert!(error("x", "FLOW(d, sdflow(low), low) 554 *").contains("two sets"));
}
