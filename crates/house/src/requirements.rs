//! The table of requirements, `docs/requirements.md`: each id with the tests that carry it.
//!
//! The columns id, requirement, tag and later are kept by hand. The last column is made from the
//! names of tests: `conf_62_plus_addresses_are_distinct` proves CONF-62. A file below a folder
//! `tests/` whose name carries an id counts as well (a dialogue, a golden answer).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::io;
use std::path::Path;

use crate::tree;

/// The families of ids, as they stand in names of tests.
const FAMILIES: [&str; 10] = [
    "relay", "conf", "flow", "route", "queue", "if", "ret", "t", "api", "job",
];

/// One requirement, such as `CONF-62`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    family: String,
    number: u32,
}

impl Id {
    /// Reads `CONF-62` or `T-06`.
    pub fn parse(text: &str) -> Option<Id> {
        let (family, number) = text.split_once('-')?;
        let family = family.to_ascii_lowercase();
        let known = FAMILIES.contains(&&*family);
        Some(Id {
            family,
            number: number.parse().ok()?,
        })
        .filter(|_| known)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.family.to_ascii_uppercase();
        match family.as_str() {
            "T" => write!(f, "T-{:02}", self.number),
            _ => write!(f, "{family}-{}", self.number),
        }
    }
}

/// The ids that a name carries: a family and a number side by side.
pub fn ids_in(name: &str) -> Vec<Id> {
    let words: Vec<_> = name.split(['_', '-', '.']).collect();
    let pairs = words.windows(2).filter_map(|pair| match pair {
        [family, number] if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            Id::parse(&format!("{family}-{number}"))
        }
        _ => None,
    });
    pairs.collect()
}

/// Tests by id.
pub type Tests = BTreeMap<Id, BTreeSet<String>>;

/// Finds the tests of all crates that carry ids.
pub fn tests(root: &Path) -> io::Result<Tests> {
    let mut found = Tests::new();
    for path in tree::files(&root.join("crates"))? {
        let place = tree::relative(root, &path);
        let Some(room) = place.split('/').nth(1) else {
            continue;
        };
        if place.ends_with(".rs") {
            let text = std::fs::read_to_string(&path)?;
            for name in test_functions(&text) {
                for id in ids_in(name) {
                    found
                        .entry(id)
                        .or_default()
                        .insert(format!("{room}: {name}"));
                }
            }
        } else if place.split('/').any(|part| part == "tests") {
            let name = place.rsplit('/').next().unwrap_or_default();
            for id in ids_in(name) {
                found
                    .entry(id)
                    .or_default()
                    .insert(format!("{room}: {name}"));
            }
        }
    }
    Ok(found)
}

/// Names of the functions that carry a `test` attribute.
fn test_functions(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            let word = attribute.split(['(', ']']).next().unwrap_or_default();
            is_test |= word == "test" || word.ends_with("::test");
            continue;
        }
        let signature = line.trim_start_matches("pub ").trim_start_matches("async ");
        if let Some(rest) = signature.strip_prefix("fn ") {
            if is_test {
                names.extend(rest.split(['(', '<']).next());
            }
            is_test = false;
        }
    }
    names
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: Id,
    pub requirement: String,
    pub tag: String,
    /// The issue that builds it, if it is not built yet; kept by hand.
    pub later: String,
}

/// The file: what stands above the rows, and the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub head: String,
    pub rows: Vec<Row>,
}

impl Table {
    /// Reads the file. The tests in it are left out; they are made anew.
    pub fn parse(text: &str) -> Result<Table, String> {
        let (mut head, mut rows) = (String::new(), Vec::new());
        for (n, line) in text.lines().enumerate() {
            let cells = cells(line);
            let id = cells.first().and_then(|cell| Id::parse(cell));
            match (id, &cells[..]) {
                (Some(id), [_, requirement, tag, later, _]) => rows.push(Row {
                    id,
                    requirement: requirement.clone(),
                    tag: tag.clone(),
                    later: later.clone(),
                }),
                (Some(id), _) => return Err(format!("line {}: {id} has not five columns", n + 1)),
                (None, _) if rows.is_empty() => {
                    head.push_str(line);
                    head.push('\n');
                }
                (None, _) if line.trim().is_empty() => {}
                (None, _) => return Err(format!("line {}: not a row", n + 1)),
            }
        }
        let mut seen = BTreeSet::new();
        match rows.iter().find(|row| !seen.insert(&row.id)) {
            Some(twice) => Err(format!("{} stands twice", twice.id)),
            None => Ok(Table { head, rows }),
        }
    }

    /// The file with the tests that there are.
    pub fn render(&self, tests: &Tests) -> String {
        let mut text = self.head.clone();
        for row in &self.rows {
            let names: Vec<_> = tests
                .get(&row.id)
                .into_iter()
                .flatten()
                .map(|t| format!("`{t}`"))
                .collect();
            let Row {
                id,
                requirement,
                tag,
                later,
            } = row;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {id} | {requirement} | {tag} | {later} | {} |",
                names.join("<br>")
            );
        }
        text
    }

    /// Requirements that are not for later and that no test carries.
    pub fn missing(&self, tests: &Tests) -> Vec<&Row> {
        self.rows
            .iter()
            .filter(|row| row.later.is_empty() && !tests.contains_key(&row.id))
            .collect()
    }

    /// Ids in names of tests that the table does not have.
    pub fn strangers<'a>(&self, tests: &'a Tests) -> Vec<(&'a Id, &'a BTreeSet<String>)> {
        let known: BTreeSet<_> = self.rows.iter().map(|row| &row.id).collect();
        tests.iter().filter(|(id, _)| !known.contains(id)).collect()
    }
}

/// The cells of a row; `\|` does not end one.
fn cells(line: &str) -> Vec<String> {
    let Some(inner) = line
        .trim()
        .strip_prefix('|')
        .and_then(|l| l.strip_suffix('|'))
    else {
        return Vec::new();
    };
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in inner.chars() {
        match (c, cells.last_mut()) {
            ('|', _) if !escaped => cells.push(String::new()),
            (c, Some(cell)) => cell.push(c),
            (_, None) => {}
        }
        escaped = c == '\\' && !escaped;
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ids: &[Id]) -> String {
        ids.iter().map(Id::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ids_are_read_from_names() {
        assert_eq!(
            names(&ids_in("conf_17_conf_18_flags_and_durations")),
            "CONF-17 CONF-18"
        );
        assert_eq!(names(&ids_in("t_06_bdat_size_mismatch_of_3")), "T-06");
        assert_eq!(names(&ids_in("relay-16_out-of-order.smtp")), "RELAY-16");
        assert_eq!(names(&ids_in("what_if_the_disk_is_full")), "");
    }

    #[test]
    fn only_functions_with_a_test_attribute_count() {
        let text = "fn conf_1_no() {}\n#[test]\n#[ignore]\nfn conf_2_yes() {}\n fn conf_3_no() {}\n\
            #[tokio::test(start_paused = true)]\n async fn conf_4_yes() {}\n#[testing]\nfn conf_5_no() {}\n\
            #[tokio::test]\npub async fn conf_6_yes<T>() {}\n";
        assert_eq!(
            test_functions(text),
            ["conf_2_yes", "conf_4_yes", "conf_6_yes"]
        );
    }

    #[test]
    fn what_is_kept_by_hand_survives_and_the_rest_is_made_anew() {
        let text = "# Head\n\n| id | requirement | tag | later | tests |\n|---|---|---|---|---|\n\
            | CONF-1 | a \\| b | source |  | old |\n| T-06 | c | choice | 05 |  |\n| CONF-2 | d | ref |  |  |\n";
        let table = Table::parse(text).unwrap();
        let mut tests = Tests::new();
        tests
            .entry(Id::parse("CONF-1").unwrap())
            .or_default()
            .insert("core: conf_1_x".into());
        tests
            .entry(Id::parse("CONF-9").unwrap())
            .or_default()
            .insert("core: conf_9_x".into());
        let fresh = table.render(&tests);
        assert!(fresh.contains(
            "| CONF-1 | a \\| b | source |  | `core: conf_1_x` |\n| T-06 | c | choice | 05 |  |\n"
        ));
        assert_eq!(Table::parse(&fresh).unwrap(), table);
        assert_eq!(
            names(
                &table
                    .missing(&tests)
                    .iter()
                    .map(|r| r.id.clone())
                    .collect::<Vec<_>>()
            ),
            "CONF-2"
        );
        assert_eq!(table.strangers(&tests).len(), 1);
        assert!(Table::parse("| CONF-1 | a | b |  |  |\n| CONF-1 | a | b |  |  |\n").is_err());
    }
}
