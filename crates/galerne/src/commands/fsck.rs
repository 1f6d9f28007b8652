//! `galerne fsck` (QUEUE-26): whether everything in the queue is as it was written.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use galerne_core::queue::{Damage, QueueStore, StoreFault};
use galerne_events::without_control as plain;
use galerne_outbound::queue::Selection;
use galerne_store::queue::Options;
use galerne_store::{QueueReader, SqliteQueue};
use serde_json::json;

use super::{fail, is_root_of_a_tree, print_json};
use crate::cli::FsckArgs;
use crate::control::{self, Presence};
use crate::out::print;
use crate::privileges::{self, Identity};
use crate::queue::FOLDER;

/// Deliveries that are looked at in one go.
const STEP: usize = 1000;

/// What was found.
struct Checked {
    damage: Vec<Damage>,
    /// Everything was looked at.
    whole: bool,
}

/// Checks, and with `--repair` sets aside what is damaged; exit 1 if something is.
pub fn fsck(root: &Path, args: &FsckArgs) -> ExitCode {
    let checked = match check(root, args.repair) {
        Ok(checked) => checked,
        Err(text) => return fail(&text),
    };
    let code = match checked.damage.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    for line in advice(&checked, args.repair) {
        eprintln!("{line}");
    }
    let damage = &checked.damage;
    if args.json {
        let each = damage.iter().map(|damage| {
            json!({"id": damage.id, "what": damage.what, "quarantined": damage.quarantined})
        });
        let document = json!({"whole": checked.whole, "damage": each.collect::<Vec<_>>()});
        return print_json(&document, code);
    }
    let lines: Vec<String> = damage.iter().map(line).collect();
    match lines.is_empty() {
        true => print("the queue is sound", code),
        false => print(&lines.concat(), code),
    }
}

fn check(root: &Path, repair: bool) -> Result<Checked, String> {
    is_root_of_a_tree(root)?;
    let folder = root.join(FOLDER);
    let runs = control::presence(root)? == Presence::Runs;
    if runs && repair {
        return Err("a server runs on this root: stop it before a repair".to_owned());
    }
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // There never was a queue, and looking makes none.
            return Ok(Checked {
                damage: Vec::new(),
                whole: true,
            });
        }
        Err(error) => return Err(about(&error)),
    };
    if runs {
        let damage = look(&folder).map_err(|error| about(&error))?;
        return Ok(Checked {
            damage,
            whole: false,
        });
    }
    if !folder.join("queue.db").exists() {
        // The store would begin anew, and remove what nothing refers to.
        let is_segment = |name: &str| name.starts_with("seg-");
        let mut names = entries.flatten().map(|entry| entry.file_name());
        let left = names.any(|name| name.to_str().is_some_and(is_segment));
        let damage = left.then(|| Damage {
            id: None,
            what: "queue.db is missing, and there are bodies of messages (seg-…)".to_owned(),
            quarantined: false,
        });
        return Ok(Checked {
            damage: damage.into_iter().collect(),
            whole: true,
        });
    }
    become_owner(&folder)?;
    let options = Options {
        warm: 0,
        ..Options::default()
    };
    let damage = if repair {
        galerne_store::queue::repair(&folder, &options).map_err(|error| about(&error))
    } else {
        let store = SqliteQueue::open(&folder, options).map_err(|error| about(&error))?;
        let damage = store.check(false).map_err(|fault| about(&fault));
        store.close();
        damage
    };
    Ok(Checked {
        damage: damage?,
        whole: true,
    })
}

/// Root must not leave files in the queue that its owner cannot write.
fn become_owner(folder: &Path) -> Result<(), String> {
    let about = std::fs::metadata(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    if !privileges::is_root() || about.uid() == 0 {
        return Ok(());
    }
    privileges::become_identity(&Identity {
        uid: about.uid(),
        gid: about.gid(),
        groups: Vec::new(),
    })
}

/// Reads all messages beside a running server.
fn look(folder: &Path) -> Result<Vec<Damage>, String> {
    let reader = QueueReader::open(folder).map_err(|error| error.to_string())?;
    let Some(reader) = reader else {
        return Ok(Vec::new());
    };
    let mut damage = reader.check().map_err(|fault| fault.to_string())?;
    let which = Selection::default();
    let mut after = None;
    let mut seen = None;
    loop {
        let page = which.find(after, STEP, |filter, most| reader.list(filter, most));
        let (found, next) = page.map_err(|fault| fault.to_string())?;
        for listed in found {
            let message = listed.stored.delivery.message;
            if seen.replace(message) == Some(message) {
                continue;
            }
            let what = match reader.read(message) {
                Ok(_) => continue,
                Err(StoreFault::Damaged(what)) => what,
                Err(fault) => fault.to_string(),
            };
            damage.push(Damage {
                id: Some(listed.id),
                what: format!("message {}: {what}", message.0),
                quarantined: false,
            });
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(damage),
        }
    }
}

fn line(damage: &Damage) -> String {
    let id = damage
        .id
        .as_ref()
        .map_or(String::new(), |id| format!("{}  ", plain(id)));
    let end = if damage.quarantined {
        "; set aside"
    } else {
        ""
    };
    format!("{id}{}{end}\n", plain(&damage.what))
}

/// What to do now.
fn advice(checked: &Checked, repair: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !checked.whole {
        lines.push("a server runs: the database, its counters and each message were read; stop it to have rows looked for that belong to no message".to_owned());
    }
    let damage = &checked.damage;
    if damage.is_empty() {
        return lines;
    }
    lines.push(format!(
        "{} thing(s) are not as they were written",
        damage.len()
    ));
    if damage.iter().any(|damage| damage.quarantined) {
        lines.push(format!("what was set aside is in {FOLDER}/quarantine: .eml is what is left of a message, .json its sender and recipients and what is wrong. Nothing else was touched. Look at them, then tell the senders, or send again with `galerne send`"));
    }
    if !repair && damage.iter().any(|damage| damage.id.is_some()) {
        lines.push("to set aside what is damaged, so that the rest goes on: stop the server, then `galerne fsck --repair`".to_owned());
    }
    let is_database = |damage: &Damage| damage.id.is_none() && damage.what.starts_with("queue.db");
    if damage.iter().any(is_database) {
        lines.push(format!("of the database: keep a copy of {FOLDER} first, and look at the disk (dmesg, smartctl). A server goes on with what it can read; what it cannot is set aside"));
    }
    lines
}
