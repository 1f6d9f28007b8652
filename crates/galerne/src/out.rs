//! Standard output. Whoever reads it may go away (`galerne users list | head`): that is no failure
//! and no reason to stop a server. A disk that is full is one.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// One line, for the server: what cannot be written is lost, the server goes on.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The whole result of a command, and its exit code: failure if it could not be written.
pub fn print(text: &str, code: ExitCode) -> ExitCode {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "galerne: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
