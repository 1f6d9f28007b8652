//! `galerne send` (IF-5): a message through the running server, by its control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use super::fail;
use crate::cli::SendArgs;
use crate::control::{self, Request, Response};
use crate::out::print;

/// EX_TEMPFAIL of sysexits.
const TEMPORARY: u8 = 75;
/// EX_UNAVAILABLE of sysexits.
const PERMANENT: u8 = 69;

/// Submits and prints the reply: exit 0 on 2xx, 75 on 4xx, 69 on 5xx.
pub fn send(root: &Path, args: &SendArgs) -> ExitCode {
    match submit(root, args) {
        Ok(response) => {
            let Some((last, first)) = response.lines.split_last() else {
                return fail("the server gave an empty reply");
            };
            let code = response.code;
            let first: String = first
                .iter()
                .map(|line| format!("{code}-{line}\n"))
                .collect();
            let exit = match code {
                200..=299 => ExitCode::SUCCESS,
                500..=599 => ExitCode::from(PERMANENT),
                _ => ExitCode::from(TEMPORARY),
            };
            print(&format!("{first}{code} {last}\n"), exit)
        }
        Err(text) => fail(&text),
    }
}

fn submit(root: &Path, args: &SendArgs) -> Result<Response, String> {
    let mut stream = control::connect(root)?;
    let message = message(args)?;
    let request = Request::Send {
        user: args.user.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
        length: message.len() as u64,
    };
    let failed = |error: std::io::Error| format!("control socket: {error}");
    let mut line = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    // The server may refuse before it has read all: its answer counts, not our broken pipe.
    let written = stream.write_all(&message);
    let mut answer = String::new();
    BufReader::new(&stream)
        .read_line(&mut answer)
        .map_err(failed)?;
    if answer.is_empty() {
        written.map_err(failed)?;
        return Err("the server closed the control socket without an answer".into());
    }
    serde_json::from_str(&answer).map_err(|e| format!("the server's answer is not understood: {e}"))
}

/// The message with CRLF line ends, the directive in front.
fn message(args: &SendArgs) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    match args.file.as_deref() {
        Some(file) if file != Path::new("-") => {
            octets = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        _ => {
            std::io::stdin()
                .read_to_end(&mut octets)
                .map_err(|e| format!("standard input: {e}"))?;
        }
    }
    let mut message = Vec::with_capacity(octets.len() + 64);
    if let Some(directive) = &args.directive {
        let line = directive.replace(['\r', '\n'], " ");
        message.extend_from_slice(format!("X-SMTP-R-API: {line}\r\n").as_bytes());
    }
    // Files on this system end their lines with LF; mail needs CRLF.
    let mut last = 0;
    for &octet in &octets {
        if octet == b'\n' && last != b'\r' {
            message.push(b'\r');
        }
        message.push(octet);
        last = octet;
    }
    if !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    Ok(message)
}
