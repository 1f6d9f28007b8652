//! `galerne users passwd` (IF-6): a password from the terminal or from standard input, as a hash into
//! the file of the account.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use galerne_config::rewrite;
use galerne_core::access::hash_password;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{fail, is_root_of_a_tree};

/// Shortest password, in characters; it can be tried from anywhere.
const SHORTEST: usize = 8;
/// Longest line that is read; SASL takes no longer password either.
const LONGEST: u64 = 1024;

/// Asks for a password and writes its hash.
pub fn users_passwd(root: &Path, name: &str) -> ExitCode {
    match set(root, name) {
        Ok(file) => {
            eprintln!("galerne: the password of {name} is set in {file}");
            ExitCode::SUCCESS
        }
        Err(text) => fail(&text),
    }
}

fn set(root: &Path, name: &str) -> Result<String, String> {
    is_root_of_a_tree(root)?;
    let file = rewrite::user_file(root, name)?;
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        ask_twice(name)?
    } else {
        line(&mut stdin.lock())?
    };
    judge(&password)?;
    let salt = salt()?;
    let secret =
        hash_password(password.as_bytes(), &salt).ok_or("argon2 does not take this password")?;
    rewrite::set_key(&file, "account", "smtppassw", &secret.0)?;
    Ok(file.display().to_string())
}

fn judge(password: &str) -> Result<(), String> {
    if password.contains('\0') {
        return Err("a password has no NUL in it".to_owned());
    }
    if password.chars().count() < SHORTEST {
        return Err(format!("a password has at least {SHORTEST} characters"));
    }
    Ok(())
}

fn ask_twice(name: &str) -> Result<String, String> {
    let first = ask(&format!("Password for {name}: "))?;
    judge(&first)?;
    if ask("The same again: ")? != first {
        return Err("the two passwords differ; nothing was changed".to_owned());
    }
    Ok(first)
}

/// A line from the terminal, which does not show it.
fn ask(prompt: &str) -> Result<String, String> {
    let stdin = io::stdin();
    let _silence = Silence::begin().map_err(|error| format!("terminal: {error}"))?;
    eprint!("{prompt}");
    let _ = io::stderr().flush();
    let line = line(&mut stdin.lock());
    eprintln!();
    line
}

/// One line without its end.
fn line(input: &mut impl BufRead) -> Result<String, String> {
    let mut octets = Vec::new();
    let mut bounded = io::Read::take(input, LONGEST);
    bounded
        .read_until(b'\n', &mut octets)
        .map_err(|error| format!("standard input: {error}"))?;
    if octets.len() as u64 == LONGEST {
        return Err(format!("a password has less than {LONGEST} octets"));
    }
    let text = String::from_utf8(octets).map_err(|_| "a password is UTF-8 text".to_owned())?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal shows nothing until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // What was typed before the question is no answer to it.
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn salt() -> Result<[u8; 16], String> {
    let mut salt = [0; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random
        .fill(&mut salt)
        .map_err(|_| "no random numbers".to_owned())?;
    Ok(salt)
}
