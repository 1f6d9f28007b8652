//! `galerne queue trace` (QUEUE-17): what happened to a message, told from the files in
//! `system/trace`, with or without a running server.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use galerne_core::queue::{Told, What};
use galerne_events::stories::{self, find};
use galerne_events::without_control as plain;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::story::{Standing, Story, stories};
use crate::cli::QueueTraceArgs;
use crate::commands::{fail, is_root_of_a_tree, print_json};
use crate::control::queue::QueueAsk;
use crate::control::{self, Presence};
use crate::out::print;

/// Most lines that are looked at, the latest.
const LINES: usize = 200_000;
/// Most recipients that one line names.
const NAMED: usize = 5;
/// Most deliveries whose standing is shown.
const STANDINGS: usize = 20;

/// Tells what is known; exit 1 if that is nothing.
pub fn trace(root: &Path, args: &QueueTraceArgs) -> ExitCode {
    if let Err(text) = is_root_of_a_tree(root) {
        return fail(&text);
    }
    if let Err(text) = up_to_date(root) {
        eprintln!("the last second may be missing: {text}");
    }
    let found = match find(root, &args.id, LINES) {
        Ok(found) => found,
        Err(error) => {
            let folder = root.join(stories::FOLDER);
            return fail(&format!("{}: {error}", folder.display()));
        }
    };
    if found.damaged > 0 {
        eprintln!("{} damaged line(s) left out", found.damaged);
    }
    let mut all = stories(found.told);
    // Of the oldest the beginning may be among what was not looked at.
    if found.more && all.len() > 1 {
        all.retain(Story::is_whole);
    }
    if all.is_empty() {
        let what = plain(&args.id);
        return fail(&format!(
            "nothing is known of {what}: no message that was taken over has this id, reference, Message-ID or recipient, or it ended longer ago than [queue] tracekeep"
        ));
    }
    let most = usize::try_from(args.most).unwrap_or(usize::MAX);
    let older = all.len().saturating_sub(most);
    all.drain(..older);
    if older > 0 || found.more {
        let more = if found.more { "more than " } else { "" };
        eprintln!(
            "{more}{older} older message(s) not shown; --most NUMBER shows more, an id shows one"
        );
    }
    if args.json {
        let documents: Vec<_> = all.iter().map(Story::document).collect();
        return print_json(&documents, ExitCode::SUCCESS);
    }
    let page = Page {
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        zone: TimeZone::system(),
        now: Timestamp::now(),
    };
    let texts: Vec<String> = all
        .iter()
        .map(|story| page.story(story, &args.id))
        .collect();
    print(&texts.join("\n"), ExitCode::SUCCESS)
}

/// A running server writes its stories once a second: it is asked to do so now.
fn up_to_date(root: &Path) -> Result<(), String> {
    match control::presence(root)? {
        Presence::Runs => control::ask_queue(root, QueueAsk::WriteStories),
        _ => Ok(()),
    }
}

/// How a story looks.
struct Page {
    colour: bool,
    zone: TimeZone,
    now: Timestamp,
}

/// Green, yellow and red, and what is less important.
#[derive(Clone, Copy)]
enum Shade {
    Good,
    Later,
    Bad,
    Faint,
    Strong,
}

impl Page {
    fn story(&self, story: &Story, sought: &str) -> String {
        let mut text = self.shaded(&story.id, Shade::Strong);
        let _ = write!(text, "  ref {}", plain(&story.reference));
        if let Some(id) = &story.header_id {
            let _ = write!(text, "  Message-ID {}", plain(id));
        }
        text.push('\n');
        for told in &story.told {
            let mut lines = self.event(told).into_iter();
            let first = lines.next().unwrap_or_default();
            let at = self.shaded(&self.at(told.at), Shade::Faint);
            let _ = writeln!(text, "  {at}  {first}");
            for line in lines {
                let _ = writeln!(text, "  {:19}  {line}", "");
            }
        }
        let standings = story.standings();
        let is_sought = |name: &&str| name.eq_ignore_ascii_case(sought.trim());
        let one = standings.keys().copied().find(is_sought);
        let undecided: Vec<(&str, &Standing)> = standings
            .iter()
            .filter(|(name, of)| of.outcome.is_none() && one.is_none_or(|one| one == **name))
            .map(|(name, of)| (*name, of))
            .collect();
        for (name, of) in undecided.iter().take(STANDINGS) {
            let _ = writeln!(text, "  {:19}  {}", "now", self.standing(name, of));
        }
        if undecided.len() > STANDINGS {
            let more = undecided.len() - STANDINGS;
            let _ = writeln!(text, "  {:19}  {more} more undecided", "");
        }
        text
    }

    fn standing(&self, name: &str, of: &Standing) -> String {
        let name = plain(name);
        let duplicate = twice(of.duplicate_possible);
        let text = match of.next {
            _ if of.held => format!("{name} is held{duplicate}"),
            None => format!("{name} waits to be tried{duplicate}"),
            Some(next) => {
                let when = self.when(next);
                format!("{name} is {}, tried again {when}{duplicate}", of.word())
            }
        };
        self.shaded(&text, Shade::Later)
    }

    fn event(&self, told: &Told) -> Vec<String> {
        match &told.what {
            What::Received {
                user,
                peer,
                sender,
                recipients,
                size,
                mode,
            } => {
                let whose = user
                    .as_ref()
                    .map_or(String::new(), |user| format!(", account {}", plain(user)));
                let sender = match sender.as_str() {
                    "" => "the null sender".to_owned(),
                    sender => plain(sender),
                };
                vec![
                    format!("received from {sender} for {}", names(recipients)),
                    format!(
                        "by {}{whose}, {size} octets, mode {}",
                        plain(peer),
                        plain(mode)
                    ),
                ]
            }
            What::Attempt {
                recipient,
                number,
                hop,
                group,
                route,
                outbound,
                remote,
                stage,
                reply,
                pattern,
                tls,
                milliseconds,
            } => {
                let hop = if *hop > 1 {
                    format!(", hop {hop}")
                } else {
                    String::new()
                };
                let tls = tls.as_ref().map_or("in clear".to_owned(), |tls| plain(tls));
                let group = match group.as_str() {
                    "" => "group of all others".to_owned(),
                    group => format!("group @{}", plain(group.trim_start_matches('@'))),
                };
                let pattern = pattern.as_ref();
                let pattern =
                    pattern.map_or(String::new(), |name| format!(", pattern {}", plain(name)));
                let seconds = *milliseconds as f64 / 1000.0;
                vec![
                    format!(
                        "attempt {number}{hop} for {}: {} → {}",
                        plain(recipient),
                        plain(outbound),
                        plain(remote)
                    ),
                    format!("because {}, {group}, {tls}", plain(route)),
                    format!(
                        "{}: {} ({seconds:.1} s{pattern})",
                        plain(stage),
                        self.reply(reply)
                    ),
                ]
            }
            What::Again {
                recipient,
                state,
                next,
                duplicate_possible,
                ..
            } => {
                let when = self.when(*next);
                let twice = twice(*duplicate_possible);
                let text = format!(
                    "{} is {}, to be tried again {when}{twice}",
                    plain(recipient),
                    state.word()
                );
                vec![self.shaded(&text, Shade::Later)]
            }
            What::Ended {
                recipient,
                outcome,
                reply,
                duplicate_possible,
            } => {
                let shade = if outcome == "delivered" {
                    Shade::Good
                } else {
                    Shade::Bad
                };
                let outcome = self.shaded(&plain(outcome), shade);
                let twice = twice(*duplicate_possible);
                vec![format!(
                    "{outcome} {}{twice}: {}",
                    plain(recipient),
                    plain(reply)
                )]
            }
            What::Notified {
                recipient,
                action,
                notification,
            } => vec![format!(
                "the sender is told \"{}\" of {}, by message {}",
                plain(action),
                plain(recipient),
                plain(notification)
            )],
            What::Operator { recipient, what } => {
                vec![format!(
                    "operator: {} for {}",
                    plain(what),
                    plain(recipient)
                )]
            }
        }
    }

    /// A reply in the colour of its code.
    fn reply(&self, reply: &str) -> String {
        let shade = match reply.bytes().next() {
            Some(b'2' | b'3') => Shade::Good,
            Some(b'5') => Shade::Bad,
            _ => Shade::Later,
        };
        self.shaded(&plain(reply), shade)
    }

    fn at(&self, milliseconds: u64) -> String {
        let at = i64::try_from(milliseconds).ok();
        let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
        let at = at
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_zoned(self.zone.clone());
        at.strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// `at 2026-03-05 10:15:00, in 5 min`.
    fn when(&self, milliseconds: u64) -> String {
        let now = u64::try_from(self.now.as_millisecond()).unwrap_or(0);
        let at = self.at(milliseconds);
        match milliseconds.saturating_sub(now) / 1000 {
            0 => format!("at {at}"),
            s if s < 120 => format!("at {at}, in {s} s"),
            s if s < 7200 => format!("at {at}, in {} min", s / 60),
            s => format!("at {at}, in {} h", s / 3600),
        }
    }

    fn shaded(&self, text: &str, shade: Shade) -> String {
        let code = match shade {
            _ if !self.colour => return text.to_owned(),
            Shade::Good => "32",
            Shade::Later => "33",
            Shade::Bad => "31",
            Shade::Faint => "2",
            Shade::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn twice(possible: bool) -> &'static str {
    if possible {
        " (it may arrive twice)"
    } else {
        ""
    }
}

fn names(recipients: &[String]) -> String {
    let some: Vec<String> = recipients
        .iter()
        .take(NAMED)
        .map(|name| plain(name))
        .collect();
    let more = recipients.len().saturating_sub(NAMED);
    match more {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

#[cfg(test)]
mod tests;
