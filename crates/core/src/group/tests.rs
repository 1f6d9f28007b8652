use super::*;

/// A group as the settings have it.
pub(crate) fn group(name: &str, mx: &[&str], aliases: &[&str]) -> Arc<Group> {
    Arc::new(plain(name, mx, aliases))
}

fn plain(name: &str, mx: &[&str], aliases: &[&str]) -> Group {
    Group {
        name: name.into(),
        file: format!("domains/@{name}.ini"),
        mx: mx.iter().map(|s| s.to_string()).collect(),
        domain: None,
        cache: false,
        aliases: aliases.iter().map(|s| s.to_string()).collect(),
        relay: None,
        patterns: Default::default(),
        flow: Default::default(),
    }
}

fn found(groups: &[Arc<Group>], domain: &str, mx: Option<&[&str]>) -> (String, bool) {
    let found = detect(groups, &group("", &[], &[]), domain, mx);
    (found.group.name.clone(), found.learned_alias)
}

#[test]
fn flow_1_a_domain_belongs_to_a_named_group_or_to_the_catch_all() {
    let groups = [group("big", &["*.mail.example.org"], &[])];
    assert_eq!(
        found(&groups, "a.example", Some(&["mx1.mail.example.org"])),
        ("big".into(), true)
    );
    assert_eq!(
        found(&groups, "a.example", Some(&["mx1.other.example"])),
        (String::new(), false)
    );
    assert_eq!(
        found(&groups, "a.example", Some(&[])),
        (String::new(), false)
    );
    assert_eq!(found(&[], "a.example", None), (String::new(), false));
}

#[test]
fn flow_53_an_mx_match_is_learned_once() {
    let groups = [group("big", &["*.big.example"], &["Known.Example"])];
    let mx: &[&str] = &["mx.big.example"];
    assert_eq!(
        found(&groups, "new.example", Some(mx)),
        ("big".into(), true)
    );
    assert_eq!(
        found(&groups, "known.example.", Some(mx)),
        ("big".into(), false)
    );
}

#[test]
fn flow_54_the_rule_says_what_decided() {
    let groups = [group("big", &["*.Big.Example."], &["known.example"])];
    let catch_all = group("", &[], &[]);
    let by = |domain, mx: Option<&[&str]>| detect(&groups, &catch_all, domain, mx).rule(domain);
    assert_eq!(
        by("a.example", Some(&["MX.big.example."])),
        "MX mx.big.example matches *.big.example of domains/@big.ini"
    );
    assert!(by("known.example", None).starts_with("alias known.example of domains/@big.ini"));
    assert!(by("a.example", Some(&["mx.other"])).starts_with("catch-all domains/@.ini"));
}

#[test]
fn flow_55_the_first_mx_that_matches_decides() {
    let groups = [
        group("a", &["*.a.example"], &[]),
        group("b", &["mx.very.long.name.b.example"], &[]),
    ];
    let mx: &[&str] = &[
        "none.example",
        "mx.a.example",
        "mx.very.long.name.b.example",
    ];
    assert_eq!(found(&groups, "x.example", Some(mx)).0, "a");
    let mx: &[&str] = &["mx.very.long.name.b.example", "mx.a.example"];
    assert_eq!(found(&groups, "x.example", Some(mx)).0, "b");
}

#[test]
fn flow_55_the_longest_pattern_wins_then_the_file_name() {
    let groups = [
        group("z-long", &["*.mail.example.org"], &[]),
        group("short", &["*.example.org", "*"], &[]),
        group("b-same", &["mx*.eq.example"], &[]),
        group("a-same", &["*x1.eq.example"], &[]),
        group("inner", &["mx*mail*org"], &[]),
    ];
    assert_eq!(
        found(&groups, "x.example", Some(&["mx1.mail.example.org"])).0,
        "z-long"
    );
    assert_eq!(
        found(&groups, "x.example", Some(&["mx1.post.example.org"])).0,
        "short"
    );
    assert_eq!(
        found(&groups, "x.example", Some(&["mx1.eq.example"])).0,
        "a-same"
    );
    assert_eq!(
        found(&groups, "x.example", Some(&["mx.mail.org"])).0,
        "inner"
    );
    assert_eq!(
        found(&groups, "x.example", Some(&["elsewhere.net"])).0,
        "short"
    );
}

#[test]
fn flow_56_an_alias_decides_only_where_the_mx_does_not() {
    let groups = [
        group("old", &["*.old.example"], &["moved.example"]),
        group("new", &["*.new.example"], &[]),
    ];
    assert_eq!(
        found(&groups, "moved.example", Some(&["mx.new.example"])),
        ("new".into(), true)
    );
    assert_eq!(
        found(&groups, "moved.example", Some(&["mx.unknown.example"])),
        ("old".into(), false)
    );
    assert_eq!(found(&groups, "moved.example", None), ("old".into(), false));
    assert_eq!(found(&groups, "MOVED.example.", None).0, "old");
}

#[test]
fn flow_56_flow_57_with_cache_the_alias_decides_first() {
    let mut cached = plain("isp", &["*.isp.example"], &["isp.example", "other.example"]);
    cached.cache = true;
    let groups = [
        group("a-new", &["*.new.example"], &["other.example"]),
        Arc::new(cached),
    ];
    assert_eq!(
        found(&groups, "other.example", Some(&["mx.new.example"])),
        ("isp".into(), false)
    );
    assert_eq!(
        found(&groups, "third.example", Some(&["mx.new.example"])).0,
        "a-new"
    );
}

#[test]
fn flow_57_flow_58_cached_aliases_share_one_lookup() {
    let mut first = plain("isp", &[], &["first.example", "second.example"]);
    first.cache = true;
    let mut named = plain("named", &[], &["third.example"]);
    named.cache = true;
    named.domain = Some("Main.Example.".into());
    let uncached = group("host", &[], &["fourth.example"]);
    let groups = [Arc::new(first), Arc::new(named), uncached];
    assert_eq!(
        lookup_domain(&groups, "Second.Example").as_deref(),
        Some("first.example")
    );
    assert_eq!(lookup_domain(&groups, "first.example"), None);
    assert_eq!(
        lookup_domain(&groups, "third.example").as_deref(),
        Some("main.example")
    );
    assert_eq!(lookup_domain(&groups, "fourth.example"), None);
    assert_eq!(lookup_domain(&groups, "unknown.example"), None);
    assert_eq!(lookup_domain(&[], "unknown.example"), None);
}

#[test]
fn conf_76_a_relay_group_is_reached_by_its_aliases_alone() {
    let mut relay = plain("corp", &["gate.corp.example"], &["corp.example"]);
    relay.relay = Some("corp".into());
    let groups = [
        Arc::new(relay),
        group("big", &["*.big.example"], &["x.example"]),
    ];
    assert_eq!(
        relay_group(&groups, "CORP.example.")
            .map(|g| g.name.clone())
            .as_deref(),
        Some("corp")
    );
    assert!(relay_group(&groups, "x.example").is_none());
    assert_eq!(
        found(&groups, "other.example", Some(&["gate.corp.example"])).0,
        ""
    );
    assert_eq!(found(&groups, "corp.example", None).0, "");
}

#[test]
fn five_hundred_groups_are_quick() {
    let groups: Vec<Arc<Group>> = (0..500)
        .map(|i| {
            let mx = [
                format!("*.mail{i}.example.org"),
                format!("mx*-{i}.in.example.net"),
                format!("mx.g{i}.example"),
            ];
            group(
                &format!("g{i}"),
                &mx.each_ref().map(String::as_str),
                &[&format!("d{i}.example")],
            )
        })
        .collect();
    let index = GroupIndex::new(&groups, &group("", &[], &[]));
    let start = std::time::Instant::now();
    for i in 0..500 {
        let mx = format!("mx7-{i}.in.example.net");
        assert_eq!(
            index
                .detect("x.example", Some(&["none.example", &mx]))
                .group
                .name,
            format!("g{i}")
        );
    }
    assert!(
        start.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}
