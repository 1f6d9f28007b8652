//! The house as it stands: fails when an arrow, a file or a name is out of order.

use galerne_house::requirements::{Table, tests};
use galerne_house::{arrows, root, tree};

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn arrows_are_those_of_the_table() {
    let rooms = arrows::table(&read("ARCHITECTURE.md"));
    assert!(
        rooms.len() > 10,
        "the table of ARCHITECTURE.md was not found"
    );
    let found = arrows::violations(&arrows::metadata(&root()).unwrap(), &rooms);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_source_says_what_it_is_and_is_not_too_long() {
    let root = root();
    let mut found = Vec::new();
    for path in tree::sources(&root).unwrap() {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if lines >= 700 {
            found.push(format!(
                "{}: {lines} lines; split it",
                tree::relative(&root, &path)
            ));
        }
        // `chase/tests.rs` is told by `chase.rs`.
        let told = path.file_name().is_some_and(|name| name == "tests.rs");
        if !told && !text.starts_with("//!") {
            found.push(format!("{}: no //! header", tree::relative(&root, &path)));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_table_of_requirements_is_fresh_and_knows_every_id() {
    let text = read("docs/requirements.md");
    let table = Table::parse(&text).unwrap();
    let tests = tests(&root()).unwrap();
    assert_eq!(table.rows.len(), 595);
    assert!(
        table.strangers(&tests).is_empty(),
        "{:?}",
        table.strangers(&tests)
    );
    assert!(
        table.render(&tests) == text,
        "docs/requirements.md is old: run scripts/requirements"
    );
}

#[test]
fn the_project_speaks_of_itself_alone() {
    // In two halves, so that this file does not find itself.
    let outside = [
        concat!("../", "shared"),
        concat!("/work", "/"),
        concat!("/tmp/", "contract"),
        concat!("shared/", "spec"),
    ];
    let root = root();
    let mut found = Vec::new();
    for path in tree::files(&root).unwrap() {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for (n, line) in text.lines().enumerate() {
            if outside.iter().any(|word| line.contains(word)) {
                found.push(format!(
                    "{}:{}: {line}",
                    tree::relative(&root, &path),
                    n + 1
                ));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn there_is_one_tls_library() {
    let lock = read("Cargo.lock");
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = "));
    let count = |name: &str| {
        names
            .clone()
            .filter(|n| n.trim_matches('"') == name)
            .count()
    };
    assert_eq!(count("aws-lc-sys"), 1);
    for banned in ["openssl", "openssl-sys", "native-tls"] {
        assert_eq!(count(banned), 0, "{banned}");
    }
}
