//! The arrows between our crates: which may use which, by the table of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What the table allows a crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub uses: BTreeSet<String>,
    /// The crate may use every other.
    pub all: bool,
    pub tokio: bool,
}

/// Reads the table: rows that begin with a crate name in backquotes and have four columns.
pub fn table(text: &str) -> BTreeMap<String, Room> {
    let mut rooms = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<_> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        let [name, _, uses, tokio] = cells[..] else {
            continue;
        };
        let Some(name) = name.strip_prefix('`').and_then(|n| n.strip_suffix('`')) else {
            continue;
        };
        let words = uses
            .split_whitespace()
            .filter(|u| !matches!(*u, "–" | "all"));
        let room = Room {
            uses: words.map(str::to_owned).collect(),
            all: uses == "all",
            tokio: tokio == "yes",
        };
        rooms.insert(name.to_owned(), room);
    }
    rooms
}

/// What `cargo metadata` says of the workspace, and what of it the table does not allow.
pub fn violations(metadata: &Value, rooms: &BTreeMap<String, Room>) -> Vec<String> {
    let mut found = Vec::new();
    let empty = Vec::new();
    for package in metadata["packages"].as_array().unwrap_or(&empty) {
        let name = short(package["name"].as_str().unwrap_or_default());
        let Some(room) = rooms.get(name) else {
            found.push(format!(
                "crate `{name}` is not in the table of ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap_or(&empty) {
            let target = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"] == "dev";
            if target == "tokio" && !for_tests && !room.tokio {
                found.push(format!("crate `{name}` uses tokio; the table says no"));
            }
            if dependency["path"].is_null() {
                continue;
            }
            let target = short(target);
            let allowed = room.all || room.uses.contains(target) || (for_tests && target == "sim");
            if !allowed {
                found.push(format!(
                    "arrow `{name}` -> `{target}` is not in the table of ARCHITECTURE.md"
                ));
            }
        }
    }
    found
}

/// Asks cargo for the crates and their arrows.
pub fn metadata(root: &Path) -> Result<Value, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

/// `smtp` of `galerne-smtp`; the program itself is `galerne`.
fn short(package: &str) -> &str {
    package.strip_prefix("galerne-").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "| crate | what it is | uses | tokio |\n|---|---|---|---|\n\
        | `smtp` | protocol | – | no |\n| `core` | decisions | smtp | no |\n| `galerne` | program | all | yes |\n";

    fn found(name: &str, dependencies: Value) -> Vec<String> {
        violations(
            &json!({"packages": [{"name": name, "dependencies": dependencies}]}),
            &table(TABLE),
        )
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found() {
        let arrow = |name: &str, kind: Value| json!([{"name": name, "kind": kind, "path": "/x"}]);
        assert_eq!(
            found("galerne-core", arrow("galerne-smtp", Value::Null)),
            [""; 0]
        );
        assert_eq!(
            found("galerne", arrow("galerne-core", Value::Null)),
            [""; 0]
        );
        assert_eq!(
            found("galerne-core", arrow("galerne-sim", json!("dev"))),
            [""; 0]
        );
        assert_eq!(
            found("galerne-smtp", arrow("galerne-core", Value::Null)).len(),
            1
        );
        assert_eq!(
            found("galerne-smtp", arrow("galerne-core", json!("dev"))).len(),
            1
        );
        assert_eq!(
            found("galerne-core", arrow("galerne-sim", Value::Null)).len(),
            1
        );
        assert_eq!(found("galerne-new", json!([])).len(), 1);
        let tokio = |kind: Value| json!([{"name": "tokio", "kind": kind, "path": null}]);
        assert_eq!(found("galerne-core", tokio(Value::Null)).len(), 1);
        assert_eq!(found("galerne-core", tokio(json!("dev"))), [""; 0]);
    }
}
