//! `galerne init` and `galerne check` (IF-4).

use std::path::Path;
use std::process::ExitCode;

use galerne_config::{Level, Written, write_samples};
use serde_json::{Value, json};

use super::{fail, is_root_of_a_tree, print_json};
use crate::cli::CheckArgs;
use crate::house::load;
use crate::out::print;

/// Writes the sample tree, never over an existing file.
pub fn init(root: &Path) -> ExitCode {
    if let Err(error) = std::fs::create_dir_all(root) {
        return fail(&format!("{}: {error}", root.display()));
    }
    match write_samples(root) {
        Ok(files) => {
            let is_new = |name: &str| {
                files
                    .iter()
                    .any(|(p, w)| p == Path::new(name) && *w == Written::Written)
            };
            let mut text = String::new();
            for (path, written) in &files {
                let what = match written {
                    Written::Written => "written",
                    Written::Kept => "kept as it is",
                };
                text.push_str(&format!("{}: {what}\n", path.display()));
            }
            // Of a root that has settings already; a fresh one names nobody who may drop mail.
            if let Some(settings) = load(root, true, false).settings {
                for line in crate::maildrop::prepare(root, &settings) {
                    text.push_str(&format!("{line}\n"));
                }
            }
            let root = root.display();
            if is_new("users/demo.ini") {
                text.push_str(&format!(
                    "account demo: its password stands in {root}/users/demo.ini\n"
                ));
            }
            text.push_str(&format!(
                "next: edit {root}/galerne.ini, then `galerne --root {root} check` and `galerne --root {root} run`\n"
            ));
            print(&text, ExitCode::SUCCESS)
        }
        Err(error) => fail(&format!("{}: {error}", root.display())),
    }
}

/// Prints all findings; exit 0 without errors.
pub fn check(root: &Path, args: &CheckArgs) -> ExitCode {
    if let Err(text) = is_root_of_a_tree(root) {
        return fail(&text);
    }
    let loaded = load(root, args.no_bind_check, false);
    let errors = loaded.errors();
    let warnings = loaded.count(Level::Warning);
    let code = if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    eprintln!("{errors} error(s), {warnings} warning(s)");
    if args.json {
        let findings = loaded.findings.iter().map(|f| {
            json!({"file": f.file, "line": f.line, "level": f.level.to_string(), "section": f.section, "key": f.key, "text": f.text})
        });
        let findings: Vec<Value> = findings.collect();
        return print_json(
            &json!({"errors": errors, "warnings": warnings, "findings": findings}),
            code,
        );
    }
    let lines: Vec<String> = loaded
        .findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect();
    print(&lines.concat(), code)
}
