//! A tiny SMTP client for tests, over any stream, and the player of golden dialogues.
//!
//! It knows no protocol beyond lines and multi-line replies, so that a test says exactly what goes
//! over the wire.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Octets kept of what was not read yet.
const MAX_BUFFER: usize = 1024 * 1024;
/// Lines of one reply.
const MAX_LINES: usize = 1_000;
/// Waiting for a reply, unless changed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client over one stream.
pub struct TestClient<S> {
    stream: S,
    buffer: Vec<u8>,
    patience: Duration,
}

/// A reply as read: its code and its lines without line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestReply {
    pub code: u16,
    /// Whole lines, with the code.
    pub lines: Vec<String>,
}

impl TestReply {
    /// The lines joined with `\n`.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Whether a line (after its code) is or begins with this keyword, as in EHLO.
    pub fn offers(&self, keyword: &str) -> bool {
        self.lines.iter().filter_map(|l| l.get(4..)).any(|l| {
            l.split(' ')
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case(keyword))
        })
    }
}

impl fmt::Display for TestReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TestClient<S> {
    /// A client that has read nothing yet, not even the greeting.
    pub fn new(stream: S) -> Self {
        TestClient {
            stream,
            buffer: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// How long a reply may take before reading fails with `TimedOut`.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The stream, for TLS; what was read and not used is dropped.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Sends octets as they are.
    pub async fn send_raw(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// Sends one line; CRLF is added.
    pub async fn send(&mut self, line: &str) -> io::Result<()> {
        self.send_raw(format!("{line}\r\n").as_bytes()).await
    }

    /// Closes the writing side.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Reads one reply, all its lines.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server closed, `TimedOut`, `InvalidData` for a line without a code.
    pub async fn reply(&mut self) -> io::Result<TestReply> {
        let mut lines = Vec::new();
        while lines.len() < MAX_LINES {
            let line = self.line().await?;
            let invalid =
                || io::Error::new(io::ErrorKind::InvalidData, format!("no reply: {line:?}"));
            let code = line
                .get(..3)
                .and_then(|c| c.parse().ok())
                .ok_or_else(invalid)?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if is_last {
                return Ok(TestReply { code, lines });
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "endless reply"))
    }

    /// Sends one line and reads its reply.
    pub async fn command(&mut self, line: &str) -> io::Result<TestReply> {
        self.send(line).await?;
        self.reply().await
    }

    /// Sends a message after 354: dots are stuffed, a missing last CRLF and the end are added.
    /// Line ends are sent as they are given.
    pub async fn content(&mut self, content: &[u8]) -> io::Result<TestReply> {
        let mut wire = Vec::with_capacity(content.len() + 64);
        for line in content.split_inclusive(|&b| b == b'\n') {
            if line.first() == Some(&b'.') {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        if !wire.is_empty() && !wire.ends_with(b"\r\n") {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
        self.send_raw(&wire).await?;
        self.reply().await
    }

    /// A whole transaction, one command at a time. Gives the reply that ended it: the first refusal
    /// of MAIL or DATA, the last refused RCPT if none was accepted, else that to the content.
    pub async fn transaction(
        &mut self,
        from: &str,
        to: &[&str],
        content: &[u8],
    ) -> io::Result<TestReply> {
        let mail = self.command(&format!("MAIL FROM:<{from}>")).await?;
        if mail.code >= 400 {
            return Ok(mail);
        }
        let mut refused = None;
        let mut accepted = 0;
        for recipient in to {
            let reply = self.command(&format!("RCPT TO:<{recipient}>")).await?;
            if reply.code < 300 {
                accepted += 1
            } else {
                refused = Some(reply)
            }
        }
        if let (0, Some(reply)) = (accepted, refused) {
            return Ok(reply);
        }
        let data = self.command("DATA").await?;
        if data.code != 354 {
            return Ok(data);
        }
        self.content(content).await
    }

    /// Plays a dialogue; see [`run_dialogue`].
    pub async fn run_dialogue(&mut self, dialogue: &str) -> Result<(), DialogueError> {
        for (index, raw) in dialogue.lines().enumerate() {
            let line = raw.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let failed = |problem: String| DialogueError {
                line: index + 1,
                expected: line.to_owned(),
                problem,
            };
            self.dialogue_line(line).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn dialogue_line(&mut self, line: &str) -> Result<(), String> {
        let (who, text) = line.split_at(line.len().min(2));
        let text = text.strip_prefix(' ').unwrap_or(text);
        match who {
            "C:" => self
                .send(text)
                .await
                .map_err(|e| format!("cannot send: {e}")),
            "C>" => self
                .send_raw(&unescape(text))
                .await
                .map_err(|e| format!("cannot send: {e}")),
            "S:" => {
                let got = self.line().await.map_err(|e| format!("got no line: {e}"))?;
                if matches(text, &got) {
                    Ok(())
                } else {
                    Err(format!("got {got:?}"))
                }
            }
            "S!" => match self.line().await {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                Err(e) => Err(format!("expected the end, got {e}")),
                Ok(got) => Err(format!("expected the end, got {got:?}")),
            },
            _ => Err("not a dialogue line: C:, C>, S:, S! or #".to_owned()),
        }
    }

    /// One line without its CRLF; octets that are no UTF-8 are replaced.
    pub async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            if self.buffer.len() > MAX_BUFFER {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "endless line"));
            }
            let read = self.stream.read_buf(&mut self.buffer);
            if tokio::time::timeout(self.patience, read).await?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Where a dialogue went another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogueError {
    /// Line of the dialogue, from 1.
    pub line: usize,
    pub expected: String,
    pub problem: String,
}

impl fmt::Display for DialogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dialogue line {}: {}: {}",
            self.line, self.expected, self.problem
        )
    }
}

impl std::error::Error for DialogueError {}

/// Plays a golden dialogue over a fresh connection.
///
/// `C: text` sends a line; `C> text` sends octets without CRLF (`\r \n \t \0 \\ \xHH`); `S: text`
/// expects a line that begins so, where `*` stands for anything; `S!` expects the end of the
/// connection. `#` begins a comment; empty lines are skipped.
pub async fn run_dialogue<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    dialogue: &str,
) -> Result<(), DialogueError> {
    TestClient::new(stream).run_dialogue(dialogue).await
}

/// Whether a line begins as the pattern says; `*` stands for anything, also nothing.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or("")) else {
        return false;
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            octets.push(*first);
            continue;
        }
        let (octet, used) = match tail {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'x', high, low, ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high * 16 + low, 3),
                _ => (b'\\', 0),
            },
            [b'\\', ..] => (b'\\', 1),
            _ => (b'\\', 0),
        };
        octets.push(octet);
        rest = rest.get(used..).unwrap_or_default();
    }
    octets
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}
