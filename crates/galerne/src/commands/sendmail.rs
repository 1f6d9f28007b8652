//! `galerne sendmail`, and the program called as `sendmail` (QUEUE-24): reads a message from standard
//! input and drops it into the maildrop, whether the server runs or not. Exit codes of sysexits.
//!
//! It runs as whoever calls it, with the rights of that user alone, and decides nothing: the server
//! does, when it picks the message up.

mod options;

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use galerne_config::document::{Document, same};
use galerne_config::load::MAIN_FILE;
use galerne_config::registry::{File, find};
use galerne_config::values;
use galerne_inbound::maildrop::FOLDER;
use galerne_inbound::maildrop::file::{self, Envelope};
use galerne_mail::addresses::addresses;
use galerne_mail::local::Head;
use galerne_smtp::Mailbox;
use galerne_smtp::address::AddressError;
use galerne_smtp::data::{BareLfPolicy, Decoder};

use crate::cli::sendmail_help;
use crate::out::print;
use options::Asked;

const EX_USAGE: u8 = 64;
const EX_DATAERR: u8 = 65;
const EX_NOUSER: u8 = 67;
const EX_UNAVAILABLE: u8 = 69;
const EX_OSERR: u8 = 71;
const EX_CANTCREAT: u8 = 73;
const EX_IOERR: u8 = 74;
const EX_TEMPFAIL: u8 = 75;
const EX_NOPERM: u8 = 77;

/// The root of a program called as `sendmail`, where `GALERNE_ROOT` names none. Never the working
/// directory: whoever owns that would get the mail.
const USUAL_ROOT: &str = "/srv/galerne";
/// What is read at most where the caller may not read the main file; the server says what is too much.
const UNKNOWN_LIMIT: u64 = 1 << 30;

/// Why no message was dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Of sysexits.
    pub code: u8,
    pub text: String,
}

impl Ended {
    pub fn new(code: u8, text: impl Into<String>) -> Ended {
        let text = text.into();
        Ended { code, text }
    }
}

/// The words of the command line, if the program was called by the name of another.
pub fn called_as_another(given: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = given.split_first()?;
    let rest = rest.iter().cloned();
    match Path::new(program).file_name().and_then(OsStr::to_str)? {
        "sendmail" => Some(rest.collect()),
        "mailq" => Some(std::iter::once("-bp".into()).chain(rest).collect()),
        "newaliases" => Some(std::iter::once("-bi".into()).chain(rest).collect()),
        _ => None,
    }
}

/// The root for that.
pub fn usual_root() -> PathBuf {
    let named = std::env::var_os("GALERNE_ROOT").filter(|root| !root.is_empty());
    named.map_or_else(|| PathBuf::from(USUAL_ROOT), PathBuf::from)
}

/// Drops the message.
pub fn sendmail(root: &Path, words: Vec<OsString>) -> ExitCode {
    if words == ["--help"] {
        return print(&sendmail_help(), ExitCode::SUCCESS);
    }
    match drop_message(root, words, io::stdin().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => {
            eprintln!("sendmail: {}", ended.text);
            ExitCode::from(ended.code)
        }
    }
}

fn drop_message(root: &Path, words: Vec<OsString>, input: impl BufRead) -> Result<(), Ended> {
    let asked = Asked::read(words)?;
    if asked.aliases {
        // Installers of other packages ask for it and want to go on.
        eprintln!("sendmail: there are no aliases to be read");
        return Ok(());
    }
    if asked.recipients.is_empty() && !asked.from_header {
        return Err(Ended::new(EX_USAGE, "no recipients; name them, or use -t"));
    }
    let content = read(input, asked.dots_are_text, largest(root))?;
    let mut recipients = Vec::new();
    for word in &asked.recipients {
        recipients.extend(recipients_in(word.as_bytes())?);
    }
    if asked.from_header {
        recipients.extend(from_header(&content)?);
    }
    let mut seen = std::collections::HashSet::new();
    recipients.retain(|recipient| seen.insert(recipient.clone()));
    if recipients.is_empty() {
        return Err(Ended::new(EX_USAGE, "the header names no recipients"));
    }
    let envelope = Envelope {
        sender: asked.sender.as_deref().map(sender).transpose()?,
        name: asked.name.or_else(|| std::env::var("NAME").ok()),
        recipients,
        notify: asked.notify,
        ret: asked.ret,
        envid: asked.envid,
    };
    let folder = root.join(FOLDER);
    file::write(&folder, &envelope, &content).map_err(|error| not_written(&folder, &error))?;
    Ok(())
}

/// Reads the message, up to its end or a line with a dot alone.
fn read(mut input: impl BufRead, dots_are_text: bool, largest: u64) -> Result<Vec<u8>, Ended> {
    let failed = |error: io::Error| Ended::new(EX_IOERR, format!("standard input: {error}"));
    let mut content = Vec::new();
    if dots_are_text {
        input
            .take(largest.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(failed)?;
    } else {
        loop {
            let before = content.len();
            let room = largest.saturating_add(1).saturating_sub(before as u64);
            let mut line = (&mut input).take(room);
            if line.read_until(b'\n', &mut content).map_err(failed)? == 0 {
                break;
            }
            if matches!(content.get(before..), Some(b".\n" | b".\r\n" | b".")) {
                content.truncate(before);
                break;
            }
        }
    }
    if content.len() as u64 > largest {
        let text = format!("the message is larger than {largest} octets ([rfrelay] maxsize)");
        return Err(Ended::new(EX_DATAERR, text));
    }
    if content.contains(&0) {
        return Err(Ended::new(EX_DATAERR, "the message holds a NUL"));
    }
    Ok(content)
}

/// The recipients that the header names. Where the message is sent again, those of `Resent-` fields
/// (RFC 5322 §3.6.6).
fn from_header(content: &[u8]) -> Result<Vec<String>, Ended> {
    let first = content
        .get(..galerne_mail::header::HEADER_LIMIT)
        .unwrap_or(content);
    let mut octets = Vec::with_capacity(first.len());
    Decoder::without_dots(BareLfPolicy::Normalise).decode(first, &mut octets, u64::MAX);
    let head = Head::find(&octets);
    let again = ["Resent-To", "Resent-Cc", "Resent-Bcc"];
    let names = match head.bodies(&octets, &again).next() {
        Some(_) => again,
        None => ["To", "Cc", "Bcc"],
    };
    let mut recipients = Vec::new();
    for body in head.bodies(&octets, &names) {
        recipients.extend(recipients_in(body)?);
    }
    Ok(recipients)
}

/// The addresses of a field or a word, each of which can exist.
fn recipients_in(text: &[u8]) -> Result<Vec<String>, Ended> {
    let shown = String::from_utf8_lossy(text)
        .trim()
        .escape_debug()
        .to_string();
    let wrong = |code, why: &str| Ended::new(code, format!("recipient {shown}: {why}"));
    let all = addresses(text).ok_or_else(|| wrong(EX_DATAERR, "it cannot be read"))?;
    let mut found = Vec::new();
    for one in all {
        if !one.is_one {
            return Err(wrong(EX_DATAERR, "that is no address"));
        }
        match check(&one.text, one.has_domain) {
            Ok(()) => found.push(one.text),
            Err(AddressError::Syntax(why)) => return Err(wrong(EX_DATAERR, why)),
            Err(AddressError::Impossible(why)) => return Err(wrong(EX_NOUSER, why)),
        }
    }
    Ok(found)
}

fn check(address: &str, has_domain: bool) -> Result<(), AddressError> {
    match has_domain {
        true => Mailbox::parse(address).map(drop),
        false => Mailbox::parse(&format!("{address}@host.example")).map(drop),
    }
}

/// The envelope sender without what a person puts around it.
fn sender(text: &str) -> Result<String, Ended> {
    let wrong =
        |why: &str| Ended::new(EX_DATAERR, format!("sender {}: {why}", text.escape_debug()));
    match addresses(text.as_bytes()).as_deref() {
        Some([]) => Ok(String::new()),
        Some([one]) if one.is_one => match check(&one.text, one.has_domain) {
            Ok(()) => Ok(one.text.clone()),
            Err(error) => Err(wrong(error.why())),
        },
        _ => Err(wrong("that is no address")),
    }
}

/// `[rfrelay] maxsize`, as far as the caller may read it.
fn largest(root: &Path) -> u64 {
    let Ok(octets) = std::fs::read(root.join(MAIN_FILE)) else {
        return UNKNOWN_LIMIT;
    };
    let document = Document::from_bytes(&octets).ok();
    let named = document.as_ref().and_then(|document| {
        let entries = document.entries();
        let named = entries.filter(|e| same(e.section, "rfrelay") && same(e.key, "maxsize"));
        named
            .last()
            .and_then(|entry| values::size(entry.value).ok())
    });
    let usual =
        || find(File::Main, "rfrelay", "maxsize").and_then(|key| values::size(key.default).ok());
    named.or_else(usual).unwrap_or(UNKNOWN_LIMIT)
}

fn not_written(folder: &Path, error: &io::Error) -> Ended {
    let shown = folder.display();
    let (code, text) = match error.kind() {
        ErrorKind::NotFound => (
            EX_CANTCREAT,
            format!(
                "there is no {shown}; set [maildrop] group and user in {MAIN_FILE}, then start the server"
            ),
        ),
        ErrorKind::PermissionDenied => (
            EX_NOPERM,
            format!(
                "{shown} is closed to this user; members of the group in [maildrop] group may drop mail"
            ),
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (EX_TEMPFAIL, format!("{shown}: {error}"))
        }
        ErrorKind::NotADirectory => (EX_OSERR, format!("{shown}: {error}")),
        _ => (EX_TEMPFAIL, format!("{shown}: {error}")),
    };
    Ended::new(code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    /// Drops a message into a folder of its own and gives the envelope and the message.
    fn dropped(line: &str, input: &str) -> Result<(Envelope, String), Ended> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        std::fs::create_dir(&folder).unwrap();
        drop_message(root.path(), words(line), input.as_bytes())?;
        let entry = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
        let (opened, mut body) = file::Opened::open(&entry.path(), 1 << 20).unwrap();
        let mut content = Vec::new();
        while body.read(&mut content, 4096).unwrap() {}
        Ok((opened.envelope, String::from_utf8(content).unwrap()))
    }

    #[test]
    fn queue_24_recipients_come_from_the_command_line_and_with_t_from_the_header() {
        let text = "To: Anna <anna@example.org>, root (me)\nCc: x: bert@example.org;\nBcc:\n secret@example.org, anna@example.org\nSubject: Hi\n\nTo: body@example.org\n";
        let (envelope, content) = dropped("-t -i carl@example.org", text).unwrap();
        let expected = [
            "carl@example.org",
            "anna@example.org",
            "root",
            "bert@example.org",
            "secret@example.org",
        ];
        assert_eq!(envelope.recipients, expected);
        assert_eq!((content.as_str(), envelope.sender), (text, None));
        let (envelope, _) =
            dropped("dora, emil@example.org Franz<franz@example.org>", text).unwrap();
        assert_eq!(
            envelope.recipients,
            ["dora", "emil@example.org", "franz@example.org"]
        );
        let again = format!("Resent-To: g@example.org\n{text}");
        assert_eq!(
            dropped("-t", &again).unwrap().0.recipients,
            ["g@example.org"]
        );
        let crlf = text.replace('\n', "\r\n");
        assert_eq!(dropped("-t", &crlf).unwrap().0.recipients.len(), 4);
    }

    #[test]
    fn queue_24_a_dot_ends_the_message_unless_told_otherwise() {
        let text = "Subject: x\n\na\n..\n.b\n.\nc\n";
        assert_eq!(dropped("x", text).unwrap().1, "Subject: x\n\na\n..\n.b\n");
        for flag in ["-i", "-oi"] {
            assert_eq!(dropped(&format!("{flag} x"), text).unwrap().1, text);
        }
        assert_eq!(dropped("x", "a\r\n.\r\nb").unwrap().1, "a\r\n");
        assert_eq!(dropped("x", "a\n.").unwrap().1, "a\n");
        assert_eq!(dropped("x", "").unwrap().1, "");
    }

    #[test]
    fn queue_24_exit_codes_say_what_is_wrong() {
        let code = |line: &str, input: &str| dropped(line, input).unwrap_err().code;
        assert_eq!(code("", "x"), EX_USAGE);
        assert_eq!(code("-t", "Subject: x\n\nTo: a@b.example\n"), EX_USAGE);
        assert_eq!(code("-t", "To: undisclosed-recipients:;\n\n"), EX_USAGE);
        assert_eq!(code("-t", "To: Anna Lind\n\n"), EX_DATAERR);
        assert_eq!(code("-t", "To: <anna@example.org\n\n"), EX_DATAERR);
        assert_eq!(code("a@b..c", "x"), EX_NOUSER);
        assert_eq!(code("-f a@ x", "x"), EX_DATAERR);
        assert_eq!(code("x", "a\0b"), EX_DATAERR);
        let root = tempfile::tempdir().unwrap();
        let none = drop_message(root.path(), words("x"), &b"x"[..]).unwrap_err();
        assert_eq!(none.code, EX_CANTCREAT);
        assert!(none.text.contains("[maildrop]"), "{}", none.text);
        std::fs::write(
            root.path().join("galerne.ini"),
            "[rfrelay]\nmaxsize = 10k\n",
        )
        .unwrap();
        let large = drop_message(root.path(), words("-i x"), &[b'x'; 10_241][..]).unwrap_err();
        assert_eq!(
            (large.code, large.text.contains("10240")),
            (EX_DATAERR, true)
        );
    }

    #[test]
    fn queue_24_the_sender_may_be_nobody_and_dressed_up() {
        let of = |word: &str| {
            let words = vec!["-f".into(), word.into(), "x".into()];
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir(root.path().join(FOLDER)).unwrap();
            drop_message(root.path(), words, &b"x"[..]).unwrap();
            let mut all = std::fs::read_dir(root.path().join(FOLDER)).unwrap();
            let path = all.next().unwrap().unwrap().path();
            file::Opened::open(&path, 1 << 20)
                .unwrap()
                .0
                .envelope
                .sender
                .unwrap()
        };
        assert_eq!(
            ["", "<>", "anna", "Anna Lind <anna@example.org>"].map(of),
            ["", "", "anna", "anna@example.org"]
        );
    }

    #[test]
    fn queue_24_other_names_of_the_program_mean_other_flags() {
        let read = |line: &str| called_as_another(&words(line));
        assert_eq!(read("/usr/sbin/sendmail -t"), Some(words("-t")));
        assert_eq!(read("mailq"), Some(words("-bp")));
        assert_eq!(read("newaliases"), Some(words("-bi")));
        assert_eq!(read("/usr/bin/galerne sendmail"), None);
    }
}
