//! `galerne init` and `galerne check` (IF-4).

use std::path::Path;
use std::process::ExitCode;

use galerne_config::{Level, Written, write_samples};
use serde_json::json;

use super::fail;
use crate::cli::CheckArgs;
use crate::house::load;

/// Writes the sample tree, never over an existing file.
pub fn init(root: &Path) -> ExitCode {
    if let Err(error) = std::fs::create_dir_all(root) {
        return fail(&format!("{}: {error}", root.display()));
    }
    match write_samples(root) {
        Ok(files) => {
            for (path, written) in files {
                let what = match written {
                    Written::Written => "written",
                    Written::Kept => "kept as it is",
                };
                println!("{}: {what}", path.display());
            }
            let root = root.display();
            println!("next: edit {root}/galerne.ini, then `galerne --root {root} check` and `galerne --root {root} run`");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("{}: {error}", root.display())),
    }
}

/// Prints all findings; exit 0 without errors.
pub fn check(root: &Path, args: &CheckArgs) -> ExitCode {
    let main = galerne_config::load::MAIN_FILE;
    if !root.join(main).exists() {
        let root = root.display();
        return fail(&format!("there is no {main} in {root}; `galerne --root {root} init` writes a sample"));
    }
    let loaded = load(root, args.no_bind_check, false);
    let errors = loaded.errors();
    let warnings = loaded.count(Level::Warning);
    if args.json {
        let findings = loaded.findings.iter().map(|f| {
            json!({"file": f.file, "line": f.line, "level": f.level.to_string(), "section": f.section, "key": f.key, "text": f.text})
        });
        println!("{}", json!({"errors": errors, "warnings": warnings, "findings": findings.collect::<Vec<_>>()}));
    } else {
        for finding in &loaded.findings {
            println!("{finding}");
        }
    }
    eprintln!("{errors} error(s), {warnings} warning(s)");
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
