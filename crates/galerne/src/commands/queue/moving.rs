//! `galerne queue move` (QUEUE-16).

use std::path::Path;
use std::process::ExitCode;

use galerne_outbound::queue::Moved;
use serde_json::json;

use super::act::{parts, selection};
use crate::cli::QueueMoveArgs;
use crate::commands::{fail, print_json};
use crate::control::queue::QueueAsk;
use crate::control::rows::in_words;
use crate::control::{self};
use crate::out::print;

/// Has deliveries go on by another way. Exit 1 if some may not.
pub fn move_all(root: &Path, args: &QueueMoveArgs) -> ExitCode {
    let which = match selection(&args.act, "move") {
        Ok(which) => which,
        Err(code) => return code,
    };
    if let Err(text) = galerne_core::queue::moving::way(&args.outbound) {
        return fail(&text);
    }
    let mut all = Moved::default();
    for which in parts(which) {
        let way = args.outbound.clone();
        match control::ask_queue::<Moved>(root, QueueAsk::Move { which, way }) {
            Ok(moved) => all.add(moved),
            Err(text) => return fail(&format!("{text} ({} moved before)", in_words(all.touch))),
        }
    }
    for (why, count) in &all.refused {
        eprintln!("galerne: {count} not moved: {why}");
    }
    if all.busy > 0 {
        eprintln!(
            "galerne: {} not moved: being tried, or not loaded yet; repeat the command",
            all.busy
        );
    }
    let exit = match all.refused.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    match args.act.json {
        false => print(&format!("move: {}", in_words(all.touch)), exit),
        true => {
            let touch = all.touch;
            let document = json!({
                "deliveries": touch.deliveries,
                "messages": touch.messages,
                "busy": all.busy,
                "refused": all.refused,
            });
            print_json(&document, exit)
        }
    }
}
