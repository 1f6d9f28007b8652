//! `galerne simulate`: what would become of a plan of mail under the flow control of this
//! configuration. The real limits and switches in virtual time; nothing is sent.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use galerne_config::csv::{Row, Table};
use galerne_core::flow::Moment;
use galerne_core::flow::configured::groups;
use galerne_core::flow::forecast::{Assumptions, Batch, Day, Forecast, forecast};
use serde_json::{Value, json};

use super::picture::picture;
use super::{fail, print_json, read, settings};
use crate::cli::SimulateArgs;
use crate::out::print;

/// Days looked at beyond the last one of the plan.
const DAYS_AFTER: u32 = 7;
/// More days than this are no plan.
const MOST_DAYS: u32 = 400;
/// Any moment does, since only lengths matter.
const START: Moment = Moment(1_800_000_000_000);

/// Plays the plan and prints day by day what would happen.
pub fn simulate(root: &Path, args: &SimulateArgs) -> ExitCode {
    match run(root, args) {
        Ok(code) => code,
        Err(text) => fail(&text),
    }
}

fn run(root: &Path, args: &SimulateArgs) -> Result<ExitCode, String> {
    let settings = settings(root)?;
    let octets = read(&args.plan)?;
    let batches = plan(&octets).map_err(|why| format!("{}:{why}", args.plan.display()))?;
    for batch in &batches {
        let known =
            batch.group.is_empty() || groups(&settings).iter().any(|(n, _)| *n == batch.group);
        if !known {
            return Err(format!("there is no group @{} in domains/", batch.group));
        }
    }
    let last = batches.iter().map(|batch| batch.day).max().unwrap_or(0);
    let mut outbounds: Vec<_> = settings.outbounds.iter().map(|o| o.address).collect();
    if let Some(wanted) = &args.outbound {
        outbounds.retain(|address| wanted.contains(address));
    }
    if outbounds.is_empty() {
        return Err("no outbound: [IP] has no such address".to_owned());
    }
    let assumed = Assumptions {
        outbounds,
        sender: args
            .sender
            .clone()
            .unwrap_or_else(|| settings.hostname.clone())
            .to_lowercase(),
        message_time: Duration::from_millis(args.message_time),
        days: last + 1 + DAYS_AFTER,
        domains: args.domains,
    };
    let forecast = forecast(groups(&settings), &batches, &assumed, START);
    if let Some(file) = &args.svg {
        let svg = picture(&forecast);
        fs::write(file, svg).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(match args.json {
        true => print_json(&document(&forecast), ExitCode::SUCCESS),
        false => print(&shown(&forecast), ExitCode::SUCCESS),
    })
}

/// Reads the plan: CSV with `day` (1 is the first), `group` (with or without `@`; `@` for all
/// others), `messages`.
fn plan(octets: &[u8]) -> Result<Vec<Batch>, String> {
    let table = Table::parse(octets).map_err(|bad| format!("{}: {}", bad.line, bad.why))?;
    let place = |name: &str| {
        table.column(name).ok_or_else(|| {
            format!("1: expected the columns day, group and messages; {name} is missing")
        })
    };
    let (day, group, messages) = (place("day")?, place("group")?, place("messages")?);
    let mut batches = Vec::new();
    for Row { line, fields } in &table.rows {
        let field = |place: usize| fields.get(place).map_or("", |text| text.trim());
        let number = |place: usize, what: &str| {
            let text = field(place);
            text.parse::<u64>()
                .map_err(|_| format!("{line}: expected a number as {what}, found `{text}`"))
        };
        let day = u32::try_from(number(day, "day")?).unwrap_or(u32::MAX);
        if day == 0 || day > MOST_DAYS {
            return Err(format!("{line}: expected a day from 1 to {MOST_DAYS}"));
        }
        batches.push(Batch {
            day: day - 1,
            group: field(group).trim_start_matches('@').to_ascii_lowercase(),
            messages: number(messages, "messages")?,
        });
    }
    match batches.is_empty() {
        true => Err("1: the plan is empty".to_owned()),
        false => Ok(batches),
    }
}

/// Days that say something: up to the last one with mail waiting or sent.
pub(super) fn busy(days: &[Day]) -> &[Day] {
    let end = days
        .iter()
        .rposition(|day| day.sent > 0 || day.bottleneck.is_some());
    days.get(..end.map_or(0, |last| last + 1)).unwrap_or(days)
}

fn shown(forecast: &Forecast) -> String {
    let mut text = String::new();
    for (group, days) in &forecast.days {
        let _ = writeln!(text, "@{group}");
        let _ = writeln!(text, "  day       sent  set      waited longest for");
        for (number, day) in busy(days).iter().enumerate() {
            let set = day.set.map_or("-", |set| set.word());
            let waited = day
                .bottleneck
                .map_or_else(String::new, |(control, limit, length)| {
                    format!("{} {limit}, {}", control.word(), hours(length))
                });
            let _ = writeln!(
                text,
                "  {:>3} {:>10}  {set:<8} {waited}",
                number + 1,
                day.sent
            );
        }
    }
    text.push_str("switches\n");
    for switch in &forecast.switches {
        let _ = writeln!(
            text,
            "  day {:>3}  @{} {} {}: {} to {}",
            switch.change.at.since(START).as_secs() / 86_400 + 1,
            switch.group,
            switch.control.word(),
            switch.key,
            switch.change.from.word(),
            switch.change.to.word(),
        );
    }
    text.push_str("batches\n");
    for finished in &forecast.finished {
        let batch = &finished.batch;
        let out = match finished.after {
            Some(after) => format!("out after {}", hours(after)),
            None => format!("not out: {} left", finished.left),
        };
        let _ = writeln!(
            text,
            "  day {:>3}  @{} {} messages: {out}",
            batch.day + 1,
            batch.group,
            batch.messages
        );
    }
    text
}

/// `7 h 05 min`, `12 min`.
fn hours(length: Duration) -> String {
    let minutes = length.as_secs().div_ceil(60);
    match minutes {
        0..=59 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

fn document(forecast: &Forecast) -> Value {
    let groups: Vec<Value> = forecast
        .days
        .iter()
        .map(|(group, days)| {
            let days: Vec<Value> = busy(days)
                .iter()
                .enumerate()
                .map(|(number, day)| {
                    json!({
                        "day": number + 1,
                        "sent": day.sent,
                        "set": day.set.map(|set| set.word()),
                        "control": day.bottleneck.map(|(control, ..)| control.word()),
                        "limit": day.bottleneck.map(|(_, limit, _)| limit.key()),
                        "waited": day.bottleneck.map(|(.., length)| length.as_secs()),
                    })
                })
                .collect();
            json!({ "group": format!("@{group}"), "days": days })
        })
        .collect();
    let switches: Vec<Value> = forecast
        .switches
        .iter()
        .map(|switch| {
            json!({
                "seconds": switch.change.at.since(START).as_secs(),
                "group": format!("@{}", switch.group),
                "control": switch.control.word(),
                "key": switch.key,
                "from": switch.change.from.word(),
                "to": switch.change.to.word(),
            })
        })
        .collect();
    let batches: Vec<Value> = forecast
        .finished
        .iter()
        .map(|finished| {
            json!({
                "day": finished.batch.day + 1,
                "group": format!("@{}", finished.batch.group),
                "messages": finished.batch.messages,
                "seconds": finished.after.map(|after| after.as_secs()),
                "left": finished.left,
            })
        })
        .collect();
    json!({ "groups": groups, "switches": switches, "batches": batches })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_with_any_order_of_columns_and_faults_are_named() {
        let read = plan(b"messages;day;group\n100;1;@Isp\n\n5; 3; @\n").unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(
            (read[0].day, &*read[0].group, read[0].messages),
            (0, "isp", 100)
        );
        assert_eq!((read[1].day, &*read[1].group), (2, ""));
        for (text, why) in [
            (
                "day,group\n",
                "1: expected the columns day, group and messages; messages is missing",
            ),
            ("day,group,messages\n", "1: the plan is empty"),
            (
                "day,group,messages\n0,@,5\n",
                "2: expected a day from 1 to 400",
            ),
            (
                "day,group,messages\n1,@,many\n",
                "2: expected a number as messages, found `many`",
            ),
        ] {
            assert_eq!(plan(text.as_bytes()).unwrap_err(), why);
        }
    }

    #[test]
    fn lengths_are_shown_in_hours_and_minutes() {
        assert_eq!(hours(Duration::from_secs(59)), "1 min");
        assert_eq!(hours(Duration::from_secs(3900)), "1 h 05 min");
    }
}
