//! Matching: linear whatever the input, and the same answer as the plain meaning of a pattern.

use std::time::Instant;

use super::*;

/// The meaning of a pattern, written down directly: which positions of the text can be reached.
fn plainly(pattern: &[u8], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for &p in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..text.len() {
            if p == b'*' {
                next[at + 1] = reached[at] || next[at];
            } else {
                next[at + 1] = reached[at] && text[at] == p;
            }
        }
        reached = next;
    }
    reached[text.len()]
}

#[test]
fn flow_64_flow_66_agrees_with_the_plain_meaning() {
    let mut seed = 7u64;
    let mut random = |n: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for _ in 0..300 {
        let texts: Vec<String> = (0..6)
            .map(|_| {
                (0..random(6) + 1)
                    .map(|_| ["a", "b", "*", ".", "ab"][random(5) as usize])
                    .collect::<String>()
            })
            .collect();
        let lines: String = texts
            .iter()
            .enumerate()
            .map(|(i, t)| format!("p{i} = SOFT(d) 550 {t}\n"))
            .collect();
        let set = compiled(&lines);
        for _ in 0..10 {
            let body: String = (0..random(7) + 1)
                .map(|_| ["a", "b", "."][random(3) as usize])
                .collect();
            let expected = texts
                .iter()
                .position(|t| plainly(t.as_bytes(), body.as_bytes()))
                .map(|i| format!("p{i}"));
            assert_eq!(
                name_of(&set, &format!("550 {body}")),
                expected,
                "{texts:?} {body}"
            );
        }
    }
}

#[test]
fn t_26_catastrophic_input_stays_linear() {
    let lines: String = (0..200)
        .map(|i| format!("p{i} = SOFT(d) {}b{i}\n", "*a".repeat(i % 60 + 1)))
        .collect();
    let set = compiled(&lines);
    let cost = |octets: usize| {
        let reply = Reply::new(550, "a".repeat(octets));
        let start = Instant::now();
        assert_eq!(set.qualify(&reply).pattern, None);
        start.elapsed()
    };
    cost(1000);
    // An engine that goes back would not return from the first; 8 KiB is all that is looked at.
    let (bounded, huge) = (cost(8 * 1024), cost(8 * 1024 * 1024));
    assert!(bounded < Duration::from_secs(1), "{bounded:?}");
    assert!(huge < Duration::from_secs(2), "{huge:?}");
}

#[test]
fn t_26_no_octet_breaks_the_qualification() {
    let set = compiled("any = SOFT(d) 550 x*");
    let every: Vec<u8> = (0..=255u8).filter(|b| *b != b'\n').collect();
    let mut text = b"x".to_vec();
    text.extend_from_slice(&every);
    text.extend_from_slice(b"\n\xff\xfe\n");
    assert_eq!(
        set.qualify(&Reply::new(550, text)).pattern.as_deref(),
        Some("any")
    );
    // Cut within a character.
    let long = format!("x{}", "é".repeat(9000));
    assert_eq!(
        set.qualify(&Reply::new(550, long)).pattern.as_deref(),
        Some("any")
    );
}

#[test]
fn pattern_sizes_are_bounded() {
    let pattern = |text: String| Pattern {
        name: "x".into(),
        class: Class::Soft,
        description: String::new(),
        text,
        source: "f:1".into(),
    };
    assert!(
        Patterns::compile(vec![pattern("a".repeat(1001))], vec![])
            .unwrap_err()
            .contains("f:1")
    );
    assert!(Patterns::compile(vec![pattern("*a".repeat(500))], vec![]).is_ok());
    assert!(Patterns::compile(vec![pattern("a".repeat(1000)); 600], vec![]).is_err());
}

#[test]
fn patterns_are_cheap_to_share() {
    let defaults = compiled("a = SOFT(d) 450 *");
    let group = Patterns::with_defaults(vec![], &defaults).unwrap();
    assert!(Arc::ptr_eq(&group.own, &defaults.own));
    let group = Patterns::with_defaults(patterns("own", "b = SOFT(d) 451 *"), &defaults).unwrap();
    assert!(Arc::ptr_eq(&group.defaults, &defaults.own));
}
