//! `scripts/requirements`: makes the last column of `docs/requirements.md` anew and says what is
//! not proved. `--check` writes nothing and fails on an old table; `--draft` forgives what is
//! not proved.

use std::process::ExitCode;

use galerne_house::requirements::{Table, tests};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some(unknown) = arguments
        .iter()
        .find(|a| !matches!(&***a, "--check" | "--draft"))
    {
        eprintln!("unknown argument `{unknown}`; usage: requirements [--check] [--draft]");
        return ExitCode::from(2);
    }
    let has = |name: &str| arguments.iter().any(|a| a == name);
    match run(has("--check"), has("--draft")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("docs/requirements.md: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run(check: bool, draft: bool) -> Result<bool, String> {
    let root = galerne_house::root();
    let path = root.join("docs/requirements.md");
    let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
    let table = Table::parse(&text)?;
    let tests = tests(&root).map_err(|e| e.to_string())?;
    let fresh = table.render(&tests);
    let mut well = true;
    if fresh != text {
        if check {
            eprintln!("docs/requirements.md is old; run scripts/requirements and commit it");
            well = false;
        } else {
            std::fs::write(&path, &fresh).map_err(|e| e.to_string())?;
            println!("docs/requirements.md written");
        }
    }
    for (id, names) in table.strangers(&tests) {
        eprintln!("{id} is not in the table; tests: {names:?}");
        well = false;
    }
    let missing = table.missing(&tests);
    for row in &missing {
        eprintln!("{} has no test: {}", row.id, row.requirement);
    }
    let later = table
        .rows
        .iter()
        .filter(|row| !row.later.is_empty())
        .count();
    let proved = table.rows.len() - later - missing.len();
    println!(
        "{} requirements: {proved} proved, {later} for later, {} without a test",
        table.rows.len(),
        missing.len()
    );
    Ok(well && (draft || missing.is_empty()))
}
