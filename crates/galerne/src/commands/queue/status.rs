//! `galerne queue status` (QUEUE-13): how the queue stands, at a glance.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::list::length;
use super::source::Source;
use crate::commands::{fail, print_json};
use crate::control::rows::StatusRow;
use crate::out::print;

/// Prints it.
pub fn status(root: &Path, as_json: bool) -> ExitCode {
    let status = Source::open(root).and_then(|source| source.status(root));
    match status {
        Ok(status) if as_json => print_json(&status, ExitCode::SUCCESS),
        Ok(status) => print(&text(&status), ExitCode::SUCCESS),
        Err(text) => fail(&text),
    }
}

fn text(of: &StatusRow) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:12} {value}");
    };
    line(
        "server",
        match (of.running, of.ready, of.loaded) {
            (false, ..) => "none runs: this is what is stored".to_owned(),
            (true, true, true) => "takes mail over".to_owned(),
            (true, true, false) => "takes mail over, still loads what is stored".to_owned(),
            (true, false, _) => {
                "TAKES NO MAIL OVER: the store cannot be written; see the log".to_owned()
            }
        },
    );
    line(
        "deliveries",
        format!(
            "{} of at most {} ([queue] qmsize)",
            of.deliveries, of.qmsize
        ),
    );
    if let Some(states) = &of.states {
        let each = [
            ("waiting", states.waiting, "for their time"),
            ("ready", states.ready, "for their turn"),
            ("active", states.active, "being tried"),
            ("held", states.held, "until `queue release`"),
            (
                "suspended",
                states.suspended,
                "of those that wait, see below",
            ),
            ("expired", states.expired, "too old, senders are being told"),
        ];
        for (name, count, what) in each {
            if count > 0 || name == "waiting" {
                line(&format!("  {name}"), format!("{count:>9}  {what}"));
            }
        }
    }
    line(
        "oldest",
        match &of.oldest {
            None => "none".to_owned(),
            Some(oldest) => {
                let mut words = format!("{}, since {}", length(oldest.age), oldest.since);
                if let Some(lane) = &oldest.lane {
                    let _ = write!(words, ", lane {lane}");
                }
                if let Some(id) = &oldest.id {
                    let _ = write!(words, ", {id}");
                }
                words
            }
        },
    );
    if let Some(free) = of.free {
        let short = if free < of.minfree { " TOO LITTLE" } else { "" };
        line(
            "disk",
            format!(
                "{} MiB free, at least {} MiB ([queue] minfree){short}",
                free >> 20,
                of.minfree >> 20
            ),
        );
    }
    for suspension in &of.suspensions {
        line("suspended", suspension.in_words());
    }
    text
}
