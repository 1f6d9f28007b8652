//! Measures the memory of a release binary: many idle sessions, one large message.
//! Called by `scripts/long`; the figures go to docs/robustness-results.md.
//!
//! `long [SESSIONS] [MEGABYTES]`; the binary is `GALERNE_BIN`, else `galerne` of the same build.

use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[path = "../tests/it/measure.rs"]
mod measure;

/// Each session is a descriptor here, and one in the server.
const SPARE: u64 = 200;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("long: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let binary = binary().ok_or("where is the binary? Set GALERNE_BIN")?;
    let mut number = |default: usize| match arguments.next() {
        Some(text) => text.parse().map_err(|_| format!("{text} is no number")),
        None => Ok(default),
    };
    let (sessions, megabytes) = (number(10_000)?, number(50)?);
    raise(sessions as u64 + SPARE)?;

    let (before, with) =
        measure::idle_sessions(&binary, sessions).map_err(|e| format!("idle sessions: {e}"))?;
    println!("{sessions} idle sessions without TLS");
    println!("  resident before       {:>10.1} MB", mb(before.now));
    println!("  resident with them    {:>10.1} MB", mb(with.now));
    println!(
        "  for each              {:>10.1} KB",
        (with.now - before.now) as f64 * 1.024 / sessions as f64
    );

    let large = measure::large_message(&binary, megabytes * 1_000_000)
        .map_err(|e| format!("large message: {e}"))?;
    println!(
        "one message of {:.1} MB, by DATA to a relay host",
        large.octets as f64 / 1e6
    );
    println!("  resident before       {:>10.1} MB", mb(large.before.now));
    println!("  most while relaying   {:>10.1} MB", mb(large.after.most));
    println!(
        "  time                  {:>10.2} s",
        large.elapsed.as_secs_f64()
    );
    Ok(())
}

/// The binary to measure.
fn binary() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("GALERNE_BIN") {
        return Some(given.into());
    }
    let own = std::env::current_exe().ok()?;
    let beside = own.parent()?.parent()?.join("galerne");
    beside.exists().then_some(beside)
}

/// KiB as MB.
fn mb(kib: u64) -> f64 {
    kib as f64 * 1.024 / 1000.0
}

/// Allows so many descriptors to this process and to those it starts.
fn raise(wanted: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|_| format!("{wanted} descriptors are not allowed here (ulimit -Hn)"))
}
