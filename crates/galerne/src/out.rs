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

/// A result that comes in pieces.
#[derive(Default)]
pub struct Stream {
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Goes,
    /// Whoever read it has enough.
    Gone,
    Failed,
}

impl Stream {
    /// Writes a piece; `false`: there is no use in more.
    pub fn write(&mut self, text: &str) -> bool {
        if !matches!(self.state, State::Goes) {
            return false;
        }
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()) {
            self.ended(&error);
        }
        matches!(self.state, State::Goes)
    }

    /// The exit code of the command.
    pub fn end(mut self) -> ExitCode {
        if matches!(self.state, State::Goes)
            && let Err(error) = io::stdout().lock().flush()
        {
            self.ended(&error);
        }
        match self.state {
            State::Goes | State::Gone => ExitCode::SUCCESS,
            State::Failed => ExitCode::FAILURE,
        }
    }

    fn ended(&mut self, error: &io::Error) {
        self.state = match error.kind() {
            ErrorKind::BrokenPipe => State::Gone,
            _ => {
                let _ = writeln!(io::stderr(), "galerne: standard output: {error}");
                State::Failed
            }
        };
    }
}
