//! `galerne flow list` and `galerne flow set` (FLOW-49, FLOW-50, IF-6): through the running server
//! where there is one, else on the stored states.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use galerne_core::model::{Answer, Settled, Submission};
use galerne_core::ports::{EventSink, Module, Refused, StateStore, UnknownError};

use super::{fail, settings};
use crate::cli::{FlowListArgs, FlowSetArgs};
use crate::control::{self, Presence, Request};
use crate::flow::{self, Fill, Flow, FlowState, Switch};
use crate::out::print;

/// The states, as a table or as JSON.
pub fn flow_list(root: &Path, args: &FlowListArgs) -> ExitCode {
    let group = args
        .group
        .as_deref()
        .map(|name| name.trim_start_matches('@'));
    if let Some(name) = group
        && let Err(text) = settings(root).and_then(|settings| flow::counted_as(&settings, name))
    {
        return fail(&text);
    }
    let document = match document(root, group) {
        Ok(document) => document,
        Err(text) => return fail(&text),
    };
    if args.json {
        return print(&document, ExitCode::SUCCESS);
    }
    match serde_json::from_str::<Vec<FlowState>>(&document) {
        Ok(states) if states.is_empty() => {
            eprintln!("no mail was sent yet: every address and sender will begin with warmup");
            ExitCode::SUCCESS
        }
        Ok(states) => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print(&table(&states, colour), ExitCode::SUCCESS)
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn document(root: &Path, group: Option<&str>) -> Result<String, String> {
    if control::presence(root)? == Presence::Runs {
        let request = Request::Flow {
            group: group.map(str::to_owned),
        };
        let answer = control::ask(root, &request)?;
        return Ok(answer.lines.concat());
    }
    // Nothing was ever stored there, and looking makes no file.
    if !root.join(crate::routes::STATE).exists() {
        return Ok("[]".to_owned());
    }
    Ok(stored(root)?.0.document(group))
}

/// The states of all groups, for other commands.
pub fn states(root: &Path) -> Result<Vec<FlowState>, String> {
    serde_json::from_str(&document(root, None)?).map_err(|error| error.to_string())
}

/// Switches one set.
pub fn flow_set(root: &Path, args: &FlowSetArgs) -> ExitCode {
    let switch = Switch {
        group: args.group.clone(),
        ip: args.ip,
        sender: args.sender.clone(),
        set: args.set.clone(),
        sleep: args.sleep,
        lock: args.lock,
    };
    match switched(root, switch) {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(text) => fail(&text),
    }
}

fn switched(root: &Path, switch: Switch) -> Result<String, String> {
    if control::presence(root)? == Presence::Runs {
        let answer = control::ask(root, &Request::FlowSet(switch))?;
        let text = answer.lines.concat();
        return if answer.code == 250 {
            Ok(text)
        } else {
            Err(text)
        };
    }
    let (flow, settings) = stored(root)?;
    flow.switch(&settings, &switch)
}

/// Flow control as it is stored, without a server.
fn stored(root: &Path) -> Result<(Arc<Flow>, galerne_core::settings::Settings), String> {
    let settings = settings(root)?;
    let store: Arc<dyn StateStore> = Arc::new(crate::routes::open(root)?);
    let events = Arc::new(OnScreen);
    let pace = flow::open(&settings, &*store, &*events)?;
    Ok((Flow::new(pace, store, events), settings))
}

/// Notes of a command go to standard error.
struct OnScreen;

impl EventSink for OnScreen {
    fn transaction(&self, _: &Submission, _: &Answer) {}
    fn attempted(&self, _: &Submission, _: &[Settled]) {}
    fn unknown_error(&self, _: UnknownError) {}
    fn refused(&self, _: Refused) {}
    fn note(&self, _: Module, text: &str) {
        eprintln!("{text}");
    }
}

/// One line for each state, in columns.
fn table(states: &[FlowState], colour: bool) -> String {
    let header = [
        "GROUP",
        "WHO",
        "SET",
        "SINCE",
        "SHORT WINDOW",
        "LONG WINDOW",
        "SESSIONS",
        "STATE",
    ];
    let mut rows: Vec<[String; 8]> = vec![header.map(str::to_owned)];
    rows.extend(states.iter().map(cells));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padded = format!("{cell:width$}  ");
            match (colour && number > 0 && column == 2, shade(cell)) {
                (true, Some(code)) => {
                    let _ = write!(line, "\x1b[{code}m{padded}\x1b[0m");
                }
                _ => line.push_str(&padded),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cells(state: &FlowState) -> [String; 8] {
    let fill = |fill: Option<Fill>| {
        fill.map_or_else(
            || "-".to_owned(),
            |fill| format!("{}/{} in {}", fill.sent, fill.max, length(fill.seconds)),
        )
    };
    let most = match state.threadmax {
        0 => "no limit".to_owned(),
        most => most.to_string(),
    };
    let mut notes = Vec::new();
    if state.sleep > 0 {
        notes.push(format!("sleeps {}", length(state.sleep)));
    }
    if state.locked {
        notes.push("locked".to_owned());
    }
    [
        state.group.clone(),
        format!("{} {}", state.control, state.key),
        state.set.clone(),
        state.since.clone(),
        fill(state.low),
        fill(state.high),
        format!("{}/{most}", state.sessions),
        notes.join(", "),
    ]
}

/// `30s`, `10m`, `24h`, `7d`: the largest unit that fits.
fn length(seconds: u64) -> String {
    match seconds {
        s if s >= 172_800 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s >= 3_600 && s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s >= 60 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// Red for blocks, yellow while it warms up, green for the fast ones.
fn shade(set: &str) -> Option<&'static str> {
    match set {
        "defcon3" | "defcon2" | "defcon1" => Some("31"),
        "warmup" | "low" => Some("33"),
        "mid" | "high" | "full" => Some("32"),
        _ => None,
    }
}
