//! A file of the maildrop: one line, the envelope, the message as it was given (QUEUE-24).
//!
//! Whoever drops mail writes it under another name, has it synced and gives it its name then. The line
//! says how long both parts are and what their SHA-256 is, so that nothing half written is taken, and
//! nothing that was changed meanwhile.
//!
//! The folder is `-wx` for its group: members make files there and see none. Names are of 80 random
//! bits, since the server, which need not be root, must be able to read a file of somebody else.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

/// The first words of the line.
const MAGIC: &str = "galerne-maildrop 1";
/// Longest line.
const LINE: u64 = 160;
/// Longest envelope in octets.
pub const ENVELOPE: u64 = 8 << 20;
/// How a file is called until it is whole.
const UNFINISHED: &str = ".new";

/// Who gets the message, as the caller of `sendmail` said. Nothing in it is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// With or without a domain; empty: the null sender; `None`: whoever dropped it.
    pub sender: Option<String>,
    /// The name of a person, for a missing From.
    pub name: Option<String>,
    /// With or without a domain.
    pub recipients: Vec<String>,
    /// As in NOTIFY of RCPT.
    pub notify: Option<String>,
    /// As in RET of MAIL.
    pub ret: Option<String>,
    pub envid: Option<String>,
}

/// Drops a message. Afterwards it is on stable storage.
///
/// # Errors
/// As the system says; there is no file then.
pub fn write(folder: &Path, envelope: &Envelope, content: &[u8]) -> io::Result<PathBuf> {
    let envelope = serde_json::to_vec(envelope)?;
    let mut hash = Sha256::new();
    hash.update(&envelope);
    hash.update(content);
    let line = line(
        envelope.len() as u64,
        content.len() as u64,
        &hash.finalize(),
    );
    let name = Ulid::generate().to_string();
    let making = folder.join(format!("{name}{UNFINISHED}"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&making)?;
    let path = folder.join(name);
    let mut finish = || {
        file.write_all(line.as_bytes())?;
        file.write_all(&envelope)?;
        file.write_all(content)?;
        // The server reads it, nobody changes it.
        file.set_permissions(Permissions::from_mode(0o444))?;
        file.sync_all()?;
        fs::rename(&making, &path)?;
        sync_name(folder, &file)
    };
    if let Err(error) = finish() {
        let _ = fs::remove_file(&making);
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok(path)
}

/// The name of a file is on stable storage afterwards. A member of the group may not open the folder
/// for that; then all of the file system is synced.
fn sync_name(folder: &Path, file: &File) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(rustix::fs::syncfs(file)?)
        }
        Err(error) => Err(error),
    }
}

fn line(envelope: u64, content: u64, hash: &[u8]) -> String {
    let mut line = format!("{MAGIC} {envelope} {content} ");
    for octet in hash {
        // Writing to a String cannot fail.
        let _ = write!(line, "{octet:02x}");
    }
    line.push('\n');
    line
}

/// Whether a file of this name may be taken; others are being written.
pub fn is_whole(name: &str) -> bool {
    !name.starts_with('.') && !name.ends_with(UNFINISHED)
}

/// Why a file is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no message that was dropped here: what is wrong with it.
    Malformed(String),
    /// Reading failed for a reason that may pass.
    Failed(String),
    /// It is not there any more.
    Gone,
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Unfit::Gone,
            io::ErrorKind::PermissionDenied => {
                Unfit::Malformed("the server may not read it".to_owned())
            }
            io::ErrorKind::UnexpectedEof => Unfit::Malformed("it is not whole".to_owned()),
            _ => Unfit::Failed(error.to_string()),
        }
    }
}

/// A file whose envelope was read.
#[derive(Debug)]
pub struct Opened {
    /// Who dropped it, as the system says.
    pub uid: u32,
    /// When it got its name, as the system says.
    pub at: SystemTime,
    pub envelope: Envelope,
    /// Octets of the message.
    pub length: u64,
}

/// The message behind the envelope.
pub struct Body {
    reader: BufReader<File>,
    left: u64,
    hash: Sha256,
    expected: String,
}

impl Opened {
    /// Opens a file and reads its envelope. `largest`: octets of a message.
    ///
    /// # Errors
    /// It is not taken.
    pub fn open(path: &Path, largest: u64) -> Result<(Opened, Body), Unfit> {
        let malformed = |why: &str| Unfit::Malformed(why.to_owned());
        // Neither a link to somewhere else nor a pipe that never ends.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = match opened {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(malformed("it is a link"));
            }
            opened => opened?,
        };
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(malformed("it is no file"));
        }
        if about.nlink() != 1 {
            return Err(malformed("it has another name elsewhere"));
        }
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut line = Vec::new();
        (&mut reader).take(LINE).read_until(b'\n', &mut line)?;
        let (envelope, length, expected) =
            numbers(&line).ok_or_else(|| malformed("it does not begin as a dropped message"))?;
        if envelope > ENVELOPE {
            return Err(malformed("its envelope is too large"));
        }
        if length > largest {
            let why = format!("{length} octets are too many, at most {largest}");
            return Err(Unfit::Malformed(why));
        }
        if about.len() != line.len() as u64 + envelope + length {
            return Err(malformed("it is not as long as it says"));
        }
        let mut octets = Vec::new();
        (&mut reader).take(envelope).read_to_end(&mut octets)?;
        let mut hash = Sha256::new();
        hash.update(&octets);
        let envelope = serde_json::from_slice(&octets)
            .map_err(|error| Unfit::Malformed(format!("its envelope cannot be read: {error}")))?;
        let seconds = u64::try_from(about.ctime()).unwrap_or(0);
        let opened = Opened {
            uid: about.uid(),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            envelope,
            length,
        };
        let body = Body {
            reader,
            left: length,
            hash,
            expected,
        };
        Ok((opened, body))
    }
}

impl Body {
    /// Appends the next octets of the message; `false`: that was all, and it is as it was written.
    ///
    /// # Errors
    /// It is not as it was written, or cannot be read.
    pub fn read(&mut self, out: &mut Vec<u8>, most: u64) -> Result<bool, Unfit> {
        let before = out.len();
        (&mut self.reader)
            .take(most.min(self.left))
            .read_to_end(out)?;
        let read = out.get(before..).unwrap_or_default();
        self.hash.update(read);
        self.left -= read.len() as u64;
        if self.left > 0 && !read.is_empty() {
            return Ok(true);
        }
        let found = line(0, 0, &self.hash.finalize_reset());
        if self.left > 0 || !found.ends_with(&format!(" {}\n", self.expected)) {
            let why = "it was changed after it was dropped, or the disk is damaged";
            return Err(Unfit::Malformed(why.to_owned()));
        }
        Ok(false)
    }
}

/// Length of the envelope, length of the message, hash.
fn numbers(line: &[u8]) -> Option<(u64, u64, String)> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let mut words = text.strip_prefix(MAGIC)?.strip_prefix(' ')?.split(' ');
    let envelope = words.next()?.parse().ok()?;
    let length = words.next()?.parse().ok()?;
    let hash = words.next()?;
    (hash.len() == 64 && words.next().is_none()).then(|| (envelope, length, hash.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            sender: Some("anna".into()),
            recipients: vec!["bert@example.org".into()],
            ..Envelope::default()
        }
    }

    fn all(path: &Path) -> Result<Vec<u8>, Unfit> {
        let (_, mut body) = Opened::open(path, 1 << 20)?;
        let mut out = Vec::new();
        while body.read(&mut out, 1000)? {}
        Ok(out)
    }

    #[test]
    fn queue_24_a_dropped_message_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, 999, 1000, 1001, 300_000] {
            let content: Vec<u8> = (0..length).map(|i: u32| (i % 251) as u8).collect();
            let path = write(folder.path(), &envelope(), &content).unwrap();
            assert!(all(&path).unwrap() == content, "{length}");
            let (opened, _) = Opened::open(&path, 1 << 20).unwrap();
            assert_eq!(opened.envelope, envelope());
            assert_eq!(opened.uid, rustix::process::geteuid().as_raw());
            assert!(opened.at.elapsed().unwrap_or_default() < Duration::from_secs(60));
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o444);
        }
        let names = fs::read_dir(folder.path()).unwrap();
        assert!(
            names
                .flatten()
                .all(|e| is_whole(e.file_name().to_str().unwrap()))
        );
    }

    #[test]
    fn queue_24_what_is_half_written_or_changed_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &envelope(), b"Subject: Hi\n\nHello\n").unwrap();
        let whole = fs::read(&path).unwrap();
        let other = folder.path().join("other");
        for length in 0..whole.len() {
            fs::write(&other, &whole[..length]).unwrap();
            assert!(matches!(all(&other), Err(Unfit::Malformed(_))), "{length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&other, &changed).unwrap();
            assert!(matches!(all(&other), Err(Unfit::Malformed(_))), "{at}");
        }
        let mut longer = whole.clone();
        longer.push(b'x');
        fs::write(&other, &longer).unwrap();
        assert!(matches!(all(&other), Err(Unfit::Malformed(_))));
        fs::write(&other, &whole).unwrap();
        assert!(all(&other).is_ok());
        assert!(
            matches!(Opened::open(&other, 18), Err(Unfit::Malformed(why)) if why.contains("at most 18"))
        );
    }

    #[test]
    fn queue_24_links_pipes_and_folders_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &envelope(), b"x").unwrap();
        let place = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(&path, place("link")).unwrap();
        fs::create_dir(place("folder")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, place("pipe"), fifo, mode, 0).unwrap();
        for name in ["link", "folder", "pipe"] {
            assert!(
                matches!(all(&place(name)), Err(Unfit::Malformed(_))),
                "{name}"
            );
        }
        assert_eq!(all(&place("nothing")), Err(Unfit::Gone));
        fs::hard_link(&path, place("second")).unwrap();
        assert!(matches!(all(&path), Err(Unfit::Malformed(_))));
    }

    #[test]
    fn queue_24_nothing_is_left_where_it_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(write(&missing, &envelope(), b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
