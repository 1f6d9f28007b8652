//! The files of `tests/dialogues`, read (their README says what the lines mean). The tests of the
//! whole server read them here too.

use std::path::Path;

use galerne_smtp::data::BareLfPolicy;
use galerne_smtp::server::ServerConfig;

/// One step of a dialogue, with its line number.
pub enum Step {
    Send(Vec<u8>),
    Line(String),
    Reply(String),
    Handshake,
    Closed,
}

pub struct Dialogue {
    pub options: Vec<String>,
    pub steps: Vec<(usize, Step)>,
}

impl Dialogue {
    /// Reads one of a folder.
    pub fn read(folder: &Path, name: &str) -> Dialogue {
        let path = folder.join(name).with_extension("smtp");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Dialogue::parse(&text)
    }

    pub fn parse(text: &str) -> Dialogue {
        let mut dialogue = Dialogue {
            options: Vec::new(),
            steps: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(words) = line.strip_prefix("@ ") {
                dialogue.options.extend(words.split(' ').map(str::to_owned));
                continue;
            }
            let (key, rest) = line
                .split_once(':')
                .unwrap_or_else(|| panic!("line {number}: {line}"));
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            let (key, times) = match key.split_once('*') {
                Some((key, times)) => (key, times.parse().unwrap()),
                None => (key, 1),
            };
            for _ in 0..times {
                let step = match key {
                    "C" => Step::Send(format!("{rest}\r\n").into_bytes()),
                    "B" => Step::Send(unescape(rest)),
                    "S" => match rest.strip_suffix(" ...") {
                        Some(code) => Step::Reply(code.to_owned()),
                        None => Step::Line(rest.to_owned()),
                    },
                    "T" => Step::Handshake,
                    "X" => Step::Closed,
                    _ => panic!("line {number}: {line}"),
                };
                dialogue.steps.push((number, step));
            }
        }
        dialogue
    }

    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    fn number(&self, key: &str) -> Option<u64> {
        let value = self
            .options
            .iter()
            .find_map(|o| o.strip_prefix(key)?.strip_prefix('='));
        value.map(|v| v.parse().unwrap())
    }

    pub fn config(&self) -> ServerConfig {
        let bare_lf = match (self.has("normalise"), self.has("pass")) {
            (true, _) => BareLfPolicy::Normalise,
            (_, true) => BareLfPolicy::Pass,
            _ => BareLfPolicy::Reject,
        };
        ServerConfig {
            hostname: "relay.example.com".to_owned(),
            max_size: self.number("max_size").unwrap_or(20 << 20),
            max_rcpt: usize::try_from(self.number("max_rcpt").unwrap_or(100)).unwrap(),
            chunking: !self.has("nochunking"),
            prdr: !self.has("noprdr"),
            starttls: !self.has("nostarttls"),
            requiretls: self.has("requiretls"),
            bare_lf,
            max_errors: 10,
        }
    }
}

/// Whether a line fits a pattern with `*`.
pub fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or("")) else {
        return false;
    };
    let mut parts = parts.peekable();
    let mut open = false;
    while let Some(part) = parts.next() {
        open = true;
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    open || rest.is_empty()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        octets.push(match b {
            b'\\' => match bytes.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).unwrap()
                }
                other => panic!("unknown escape {other:?}"),
            },
            b => b,
        });
    }
    octets
}
