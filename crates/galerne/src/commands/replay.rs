//! `galerne patterns replay`: the patterns of today over replies that were recorded, and what would
//! change. Nothing is written.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use galerne_config::csv::Table;
use galerne_core::qualify::reply_from_text;
use galerne_core::settings::Settings;
use serde_json::json;

use super::{fail, print_json, read, settings};
use crate::cli::PatternsReplayArgs;
use crate::out::print;

/// One kind of change: the group, the pattern of then and of now, and an example.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    group: String,
    before: String,
    now: String,
}

/// What a log says about a change.
#[derive(Debug)]
struct Found {
    count: u64,
    example: String,
    source: String,
}

/// Replays a log and prints what would change.
pub fn patterns_replay(root: &Path, args: &PatternsReplayArgs) -> ExitCode {
    let replayed = settings(root).and_then(|settings| {
        let file = &args.file;
        let octets = read(file)?;
        replay(&settings, file, &octets).map_err(|why| format!("{}: {why}", file.display()))
    });
    match replayed {
        Err(text) => fail(&text),
        Ok((replies, changes)) if args.json => {
            let changes: Vec<_> = changes
                .iter()
                .map(|(change, found)| {
                    json!({
                        "group": format!("@{}", change.group),
                        "before": change.before,
                        "now": change.now,
                        "count": found.count,
                        "example": found.example,
                        "source": found.source,
                    })
                })
                .collect();
            let document = json!({ "replies": replies, "changes": changes });
            print_json(&document, ExitCode::SUCCESS)
        }
        Ok((replies, changes)) => print(&shown(replies, &changes), ExitCode::SUCCESS),
    }
}

fn shown(replies: u64, changes: &BTreeMap<Change, Found>) -> String {
    let changed: u64 = changes.values().map(|found| found.count).sum();
    let mut text = format!("{replies} replies, {changed} would be judged otherwise\n");
    for (change, found) in changes {
        text.push_str(&format!(
            "@{}: {} -> {} ({} times){}\n    {}\n",
            change.group, change.before, change.now, found.count, found.source, found.example
        ));
    }
    text
}

/// Reads `@<group>_log.csv`, whose replies no pattern knew, or `rfmta.csv`, which has the group and
/// the pattern of then.
fn replay(
    settings: &Settings,
    file: &Path,
    octets: &[u8],
) -> Result<(u64, BTreeMap<Change, Found>), String> {
    let table = Table::parse(octets).map_err(|bad| format!("line {}: {}", bad.line, bad.why))?;
    let Some(reply) = table.column("rfrcv") else {
        return Err("there is no column rfrcv: expected rfmta.csv or a group's log".to_owned());
    };
    let (group, pattern) = (table.column("rfdm"), table.column("rfpattern"));
    let named = group_of_file(file);
    if group.is_none() && named.is_none() {
        return Err("there is no column rfdm, and the name is not @<group>_log.csv".to_owned());
    }
    let (mut replies, mut changes) = (0, BTreeMap::new());
    for row in &table.rows {
        let field = |column: usize| row.fields.get(column).map_or("", String::as_str);
        let Some(text) = reply_from_text(field(reply)).filter(|reply| !reply.is_positive()) else {
            continue;
        };
        let name = group.map_or_else(
            || named.clone().unwrap_or_default(),
            |g| field(g).trim_start_matches('@').to_owned(),
        );
        let Some(patterns) = super::answers::find(settings, &format!("@{name}")) else {
            continue;
        };
        replies += 1;
        let qualified = patterns.patterns.qualify(&text);
        let now = qualified
            .pattern
            .clone()
            .unwrap_or_else(|| "unknown".to_owned());
        let before = match pattern.map(field) {
            None | Some("") => "unknown".to_owned(),
            Some(pattern) => pattern.to_owned(),
        };
        if now == before {
            continue;
        }
        let found = changes
            .entry(Change {
                group: name,
                before,
                now,
            })
            .or_insert(Found {
                count: 0,
                example: text.to_log(),
                source: match qualified.source.is_empty() {
                    true => String::new(),
                    false => format!(", {}", qualified.source),
                },
            });
        found.count += 1;
    }
    Ok((replies, changes))
}

/// `gmail` of `…/@gmail_log.csv`; empty for `@_log.csv`.
fn group_of_file(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let group = name.strip_prefix('@')?.strip_suffix("_log.csv")?;
    Some(group.to_owned())
}
