//! `galerne queue retry|hold|release|bounce|delete` (QUEUE-16): on the running server, and it says
//! how much was touched.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use galerne_outbound::queue::operate::Verb;
use galerne_outbound::queue::{Selection, Touch};

use crate::cli::QueueActArgs;
use crate::commands::{fail, print_json};
use crate::control::queue::QueueAsk;
use crate::control::rows::{self, in_words};
use crate::control::{self};
use crate::out::print;

/// Exit code for wrong usage.
const WRONG_USAGE: u8 = 2;
/// Longest answer that is read.
const LONGEST_ANSWER: u64 = 64;
/// Ids that one request names: it has a longest line.
const IDS: usize = 500;

/// Does it, after a question where it cannot be taken back. `sure`: nobody is asked.
pub fn act(root: &Path, verb: Verb, args: &QueueActArgs, sure: bool) -> ExitCode {
    let which = match selection(args, verb.word()) {
        Ok(which) => which,
        Err(code) => return code,
    };
    if !sure {
        match ask(root, verb, &which) {
            Ok(true) => {}
            Ok(false) => return fail("nothing was touched"),
            Err(text) => return fail(&text),
        }
    }
    let mut touch = Touch::default();
    for which in parts(which) {
        match control::ask_queue::<Touch>(root, QueueAsk::Act { verb, which }) {
            Ok(more) => {
                touch.deliveries += more.deliveries;
                touch.messages += more.messages;
            }
            Err(text) => {
                let done = match touch.deliveries {
                    0 => String::new(),
                    _ => format!(" ({} touched before)", in_words(touch)),
                };
                return fail(&format!("{text}{done}"));
            }
        }
    }
    if args.json {
        return print_json(&touch, ExitCode::SUCCESS);
    }
    print(
        &format!("{}: {}", verb.word(), in_words(touch)),
        ExitCode::SUCCESS,
    )
}

/// What is meant: something must be named, or `--all`.
pub fn selection(args: &QueueActArgs, word: &str) -> Result<Selection, ExitCode> {
    let wrong = |text: &str| {
        eprintln!("galerne: {text}");
        Err(ExitCode::from(WRONG_USAGE))
    };
    match (args.select.is_empty(), args.all) {
        (true, false) => wrong(&format!(
            "queue {word} of which mail? name ids or filters (`galerne queue {word} --help`), or --all"
        )),
        (false, true) => wrong("--all is everything: leave out the ids and filters, or --all"),
        _ => Ok(args.select.selection(rows::now())),
    }
}

/// The same in requests that are not too long.
pub fn parts(which: Selection) -> Vec<Selection> {
    if which.ids.len() <= IDS {
        return vec![which];
    }
    let part = |ids: &[String]| Selection {
        ids: ids.to_vec(),
        ..which.clone()
    };
    which.ids.chunks(IDS).map(part).collect()
}

/// Whether it is to be done.
fn ask(root: &Path, verb: Verb, which: &Selection) -> Result<bool, String> {
    let word = verb.word();
    if !std::io::stdin().is_terminal() {
        return Err(format!(
            "queue {word} asks before it acts, and there is no terminal to answer from; nothing was touched; look with `galerne queue list` and the same filters, then add --yes"
        ));
    }
    let mut touch = Touch::default();
    for which in parts(which.clone()) {
        let more: Touch = control::ask_queue(root, QueueAsk::Count { which })?;
        touch.deliveries += more.deliveries;
        touch.messages += more.messages;
    }
    if touch.deliveries == 0 {
        return Err("nothing in the queue is meant".to_owned());
    }
    let what = match verb {
        Verb::Bounce => "failed for good, senders are told",
        _ => "nobody gets it, nobody is told",
    };
    eprint!("{word} {}: {what}? [y/N] ", in_words(touch));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let mut bounded = std::io::Read::take(std::io::stdin().lock(), LONGEST_ANSWER);
    bounded
        .read_line(&mut answer)
        .map_err(|error| format!("standard input: {error}"))?;
    let answer = answer.trim();
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}
