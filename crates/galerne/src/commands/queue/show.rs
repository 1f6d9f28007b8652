//! `galerne queue show` (QUEUE-16).

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use galerne_events::without_control as plain;

use super::list::length;
use super::source::Source;
use crate::cli::QueueShowArgs;
use crate::commands::{fail, print_json};
use crate::control::rows::{MessageRow, RecipientRow};
use crate::out::print;

/// Shows the messages of an id, or the content of the one that has it.
pub fn show(root: &Path, args: &QueueShowArgs) -> ExitCode {
    let source = match Source::open(root) {
        Ok(source) => source,
        Err(text) => return fail(&text),
    };
    if args.content {
        return content(&source, &args.id);
    }
    let found = match source.show(&args.id) {
        Ok(found) => found,
        Err(text) => return fail(&text),
    };
    if found.messages.is_empty() {
        let id = plain(&args.id);
        return fail(&format!(
            "nothing in the queue has the id, reference or Message-ID {id}; `galerne queue trace` also knows what has ended"
        ));
    }
    if found.more {
        eprintln!(
            "only the first {} messages are shown; `galerne queue list {}` shows all",
            found.messages.len(),
            plain(&args.id)
        );
    }
    if args.json {
        return print_json(&found.messages, ExitCode::SUCCESS);
    }
    let texts: Vec<String> = found.messages.iter().map(message).collect();
    print(&texts.join("\n"), ExitCode::SUCCESS)
}

/// The octets of the message, as they are.
fn content(source: &Source<'_>, id: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match source.content(id, &mut out) {
        Ok(()) => match out.flush() {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                fail(&format!("standard output: {error}"))
            }
            _ => ExitCode::SUCCESS,
        },
        Err(text) => fail(&text),
    }
}

fn message(of: &MessageRow) -> String {
    let mut text = format!("{}  ref {}\n", of.id, plain(&of.reference));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:11} {}", plain(&value));
        }
    };
    let some = |value: &Option<String>| value.clone().unwrap_or_default();
    line(
        "received",
        format!("{}, {} ago", of.received, length(of.age)),
    );
    line(
        "from",
        match of.sender.is_empty() {
            true => "<> (the null sender)".to_owned(),
            false => of.sender.clone(),
        },
    );
    line(
        "account",
        match (&of.user, of.dsn) {
            (Some(user), _) => user.clone(),
            (None, true) => "none: a notification of ours".to_owned(),
            (None, false) => "none".to_owned(),
        },
    );
    let tls = if of.tls { ", TLS" } else { "" };
    line("client", format!("{} [{}]{tls}", of.helo, of.peer));
    line("Message-ID", some(&of.message_id));
    line("tags", of.tags.join(" "));
    line("envid", some(&of.envid));
    line("ret", some(&of.ret));
    line("size", format!("{} octets", of.size));
    let directive = of.directive.as_ref();
    line(
        "directive",
        directive.map_or_else(String::new, ToString::to_string),
    );
    if of.decided > 0 {
        line(
            "decided",
            format!(
                "{} of the recipients; `galerne queue trace` tells",
                of.decided
            ),
        );
    }
    for recipient in &of.recipients {
        text.push_str(&delivery(recipient));
    }
    text
}

fn delivery(of: &RecipientRow) -> String {
    let mut words = vec![format!("{}", of.state)];
    words.push(match of.attempts {
        0 => "not tried yet".to_owned(),
        1 => "tried once".to_owned(),
        attempts => format!("tried {attempts} times"),
    });
    if let Some(next) = &of.next {
        words.push(format!("next {next}"));
    }
    if of.duplicate_possible {
        words.push("may have been delivered already".to_owned());
    }
    let mut text = format!("  to {}: {}\n", plain(&of.recipient), words.join(", "));
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "     {name:10} {}", plain(value));
        }
    };
    line("notify", of.notify.as_deref().unwrap_or_default());
    line("orcpt", of.orcpt.as_deref().unwrap_or_default());
    line("group", &of.group);
    line("route", &of.route);
    line("outbound", &of.outbound);
    line("last reply", &of.lastreply);
    text
}
