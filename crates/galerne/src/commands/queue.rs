//! `galerne queue` (QUEUE-16, QUEUE-17): what operators see of the queue and do with it.

mod act;
mod list;
mod moving;
mod show;
mod source;
mod status;
mod story;
mod trace;

pub use list::length;

use std::path::Path;
use std::process::ExitCode;

use galerne_outbound::queue::operate::Verb;

use crate::cli::QueueCommand;

/// One of the commands.
pub fn queue(root: &Path, command: QueueCommand) -> ExitCode {
    match command {
        QueueCommand::List(args) => list::list(root, &args),
        QueueCommand::Show(args) => show::show(root, &args),
        QueueCommand::Status { json } => status::status(root, json),
        QueueCommand::Retry(args) => act::act(root, Verb::Retry, &args, true),
        QueueCommand::Hold(args) => act::act(root, Verb::Hold, &args, true),
        QueueCommand::Release(args) => act::act(root, Verb::Release, &args, true),
        QueueCommand::Bounce(args) => act::act(root, Verb::Bounce, &args.act, args.yes),
        QueueCommand::Delete(args) => act::act(root, Verb::Delete, &args.act, args.yes),
        QueueCommand::Move(args) => moving::move_all(root, &args),
        QueueCommand::Trace(args) => trace::trace(root, &args),
    }
}
