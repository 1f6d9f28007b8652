//! `galerne lane list|suspend|resume` (QUEUE-18): on the running server.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use galerne_core::queue::board::Rule;
use galerne_events::without_control as plain;
use serde_json::json;

use super::{fail, is_root_of_a_tree, print_json};
use crate::cli::{LaneCommand, LaneSuspendArgs};
use crate::control;
use crate::control::queue::QueueAsk;
use crate::control::rows::{self, LaneLine, Lanes, SuspensionRow};
use crate::out::print;

/// Longest reason.
const REASON: usize = 200;

/// One of the commands.
pub fn lane(root: &Path, command: LaneCommand) -> ExitCode {
    let done = is_root_of_a_tree(root).and_then(|()| match command {
        LaneCommand::List { json } => list(root, json),
        LaneCommand::Suspend(args) => suspend(root, &args),
        LaneCommand::Resume { number, json } => resume(root, number, json),
    });
    done.unwrap_or_else(|text| fail(&text))
}

fn list(root: &Path, as_json: bool) -> Result<ExitCode, String> {
    let lanes: Lanes = control::ask_queue(root, QueueAsk::Lanes)?;
    if as_json {
        return Ok(print_json(&lanes, ExitCode::SUCCESS));
    }
    Ok(print(&text(&lanes), ExitCode::SUCCESS))
}

fn text(of: &Lanes) -> String {
    let mut text = match of.lanes.is_empty() {
        true => "no lane: nothing waits\n".to_owned(),
        false => table(&of.lanes),
    };
    for suspension in &of.suspensions {
        let _ = writeln!(text, "suspended {}", suspension.in_words());
    }
    text
}

fn table(lanes: &[LaneLine]) -> String {
    const HEADER: [&str; 9] = [
        "LANE",
        "WAITING",
        "READY",
        "ACTIVE",
        "HELD",
        "SUSPENDED",
        "WINDOW",
        "OLDEST",
        "NOTES",
    ];
    let mut rows: Vec<[String; 9]> = vec![HEADER.map(str::to_owned)];
    rows.extend(lanes.iter().map(cells));
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match column {
                0 | 8 => write!(line, "{cell:width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cells(of: &LaneLine) -> [String; 9] {
    let mut notes = Vec::new();
    if let Some(reason) = &of.reason {
        notes.push(format!("suspended: {}", plain(reason)));
    }
    if let Some(cause) = &of.cause {
        let until = of.closed_until.as_ref();
        let until = until.map_or_else(String::new, |until| format!(" until {until}"));
        let why = of.why.as_ref();
        let why = why.map_or_else(String::new, |why| format!(", {}", plain(why)));
        notes.push(format!("{cause}{until}{why}"));
    }
    if of.expired > 0 {
        notes.push(format!("{} too old", of.expired));
    }
    [
        plain(&of.name),
        of.waiting.to_string(),
        of.ready.to_string(),
        of.running.to_string(),
        of.held.to_string(),
        of.suspended.to_string(),
        of.window.to_string(),
        of.oldest
            .map_or_else(|| "-".to_owned(), super::queue::length),
        notes.join("; "),
    ]
}

impl SuspensionRow {
    /// `3: lane group gmail: blocked by the provider, until …`.
    pub fn in_words(&self) -> String {
        let mut text = format!(
            "{}: {}: {}",
            self.number,
            plain(&self.whom()),
            plain(&self.reason)
        );
        if let Some(until) = &self.until {
            let _ = write!(text, ", until {until}");
        }
        text
    }
}

fn suspend(root: &Path, args: &LaneSuspendArgs) -> Result<ExitCode, String> {
    let now = rows::now();
    let until = match (args.length, args.until) {
        (Some(length), _) => {
            let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            Some(now.saturating_add(length))
        }
        (None, Some(moment)) => Some(u64::try_from(moment.as_millisecond()).unwrap_or(0)),
        (None, None) => None,
    };
    if until.is_some_and(|until| until <= now) {
        return Err("that time is over: nothing was suspended".to_owned());
    }
    let reason = args.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON {
        return Err(format!("a reason has 1 to {REASON} characters"));
    }
    let rule = Rule {
        outbound: args.outbound,
        lane: args.lane(),
        sender: args.sender.as_ref().map(|s| s.to_ascii_lowercase()),
        account: args.account.clone(),
        reason: reason.to_owned(),
        until,
    };
    let number: u64 = control::ask_queue(root, QueueAsk::Suspend(rule))?;
    if args.json {
        return Ok(print_json(&json!({"number": number}), ExitCode::SUCCESS));
    }
    let text = format!("suspended under number {number}; `galerne lane resume {number}` ends it");
    Ok(print(&text, ExitCode::SUCCESS))
}

fn resume(root: &Path, number: u64, as_json: bool) -> Result<ExitCode, String> {
    let row: SuspensionRow = control::ask_queue(root, QueueAsk::Resume { number })?;
    if as_json {
        return Ok(print_json(&row, ExitCode::SUCCESS));
    }
    Ok(print(
        &format!("resumed {}", row.in_words()),
        ExitCode::SUCCESS,
    ))
}
