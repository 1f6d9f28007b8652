//! Reads and plays the files of `tests/dialogues` (their README says what the lines mean).

use std::path::Path;
use std::sync::Arc;

use galerne_smtp::data::BareLfPolicy;
use galerne_smtp::server::{AuthVerdict, ContentProblem, ServerConfig, ServerEvent, ServerSession};
use galerne_smtp::{ForwardPath, Reply};

/// One step of a dialogue, with its line number.
enum Step {
    Send(Vec<u8>),
    Line(String),
    Reply(String),
    Handshake,
    Closed,
}

pub struct Dialogue {
    options: Vec<String>,
    steps: Vec<(usize, Step)>,
}

impl Dialogue {
    pub fn read(name: &str) -> Dialogue {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
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

    /// What the client sends, as one piece.
    pub fn sent(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for (_, step) in &self.steps {
            if let Step::Send(octets) = step {
                all.extend_from_slice(octets);
            }
        }
        all
    }

    fn has(&self, option: &str) -> bool {
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

    /// Plays it in whole segments, and in single octets.
    pub fn play(&self) {
        self.play_in(usize::MAX);
        if !self.has("segments") {
            self.play_in(1);
            self.play_in(7);
        }
    }

    fn play_in(&self, segment: usize) {
        let mut server = Server::new(self.config(), self.has("tls"), self.has("auth"));
        let mut waiting = Vec::new();
        for (number, step) in &self.steps {
            if !matches!(step, Step::Send(_)) {
                for piece in std::mem::take(&mut waiting).chunks(segment) {
                    server.receive(piece);
                }
            }
            match step {
                Step::Send(octets) => waiting.extend_from_slice(octets),
                Step::Line(want) => {
                    let line = server
                        .line()
                        .unwrap_or_else(|| panic!("line {number}: no reply, want {want}"));
                    assert!(
                        matches(want, &line),
                        "line {number}: got {line}, want {want}"
                    );
                }
                Step::Reply(code) => loop {
                    let line = server
                        .line()
                        .unwrap_or_else(|| panic!("line {number}: no reply, want {code}"));
                    let rest = line.strip_prefix(code.as_str());
                    let rest =
                        rest.unwrap_or_else(|| panic!("line {number}: got {line}, want {code}"));
                    if !rest.starts_with('-') {
                        break;
                    }
                },
                Step::Handshake => server.handshake(),
                Step::Closed => {
                    assert_eq!(server.line(), None, "line {number}: more than expected");
                    assert!(server.closed, "line {number}: not closed");
                }
            }
        }
        assert_eq!(server.line(), None, "more than expected");
    }
}

/// The session with the policy of the dialogues around it.
pub struct Server {
    pub session: ServerSession,
    input: Vec<u8>,
    pub out: Vec<u8>,
    pub content: Vec<u8>,
    /// Contents of the messages that were taken.
    pub messages: Vec<Vec<u8>>,
    pub closed: bool,
    shaking: bool,
    offer_auth: bool,
    accepted: usize,
    prdr: bool,
}

impl Server {
    pub fn new(config: ServerConfig, tls: bool, auth: bool) -> Server {
        let mut server = Server {
            session: ServerSession::new(Arc::new(config), tls),
            input: Vec::new(),
            out: Vec::new(),
            content: Vec::new(),
            messages: Vec::new(),
            closed: false,
            shaking: false,
            offer_auth: auth,
            accepted: 0,
            prdr: false,
        };
        server.session.offer_auth(auth || tls);
        server.session.greet(&mut server.out);
        server
    }

    /// The next line the client sees.
    pub fn line(&mut self) -> Option<String> {
        let end = self.out.iter().position(|&b| b == b'\n')?;
        let line: Vec<u8> = self.out.drain(..=end).collect();
        Some(
            String::from_utf8(line)
                .unwrap()
                .strip_suffix("\r\n")
                .expect("CRLF")
                .to_owned(),
        )
    }

    pub fn receive(&mut self, octets: &[u8]) {
        if self.closed {
            return;
        }
        assert!(!self.shaking, "octets in place of a handshake");
        self.input.extend_from_slice(octets);
        loop {
            let (used, event) = self
                .session
                .poll(&self.input, &mut self.out, &mut self.content);
            self.input.drain(..used);
            match event {
                ServerEvent::NeedInput => break assert!(self.input.is_empty() || self.shaking),
                ServerEvent::Close => break self.closed = true,
                ServerEvent::StartTls => {
                    self.input.clear();
                    break self.shaking = true;
                }
                event => self.decide(event),
            }
        }
    }

    fn decide(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Hello | ServerEvent::Reset => self.content.clear(),
            ServerEvent::Auth(found) => {
                let right = found.login == "demo" && found.password == "secret";
                let verdict = if right {
                    AuthVerdict::Accepted
                } else {
                    AuthVerdict::Refused
                };
                self.session.auth_result(verdict, &mut self.out);
            }
            ServerEvent::Mail(request) => {
                (self.accepted, self.prdr) = (0, request.prdr);
                self.content.clear();
                self.session
                    .answer(Reply::new(250, "2.1.0 OK"), &mut self.out);
            }
            ServerEvent::Rcpt(request) => {
                let reply = match request.path {
                    ForwardPath::Impossible { why, .. } => {
                        Reply::new(451, format!("9.2.2 X-SMTP-R-API {why}"))
                    }
                    ForwardPath::Mailbox(mailbox) if mailbox.local() == "refused" => {
                        Reply::new(550, "5.7.1 no")
                    }
                    ForwardPath::Mailbox(_) => Reply::new(250, "2.1.5 OK"),
                };
                self.accepted += usize::from(reply.is_positive());
                self.session.answer(reply, &mut self.out);
            }
            ServerEvent::EndOfData { problem, size, .. } => self.finish(problem, size),
            _ => {}
        }
    }

    fn finish(&mut self, problem: Option<ContentProblem>, size: u64) {
        let last = match problem {
            None => Reply::new(250, format!("2.0.0 OK {size}")),
            Some(ContentProblem::TooLarge) => Reply::new(552, "5.3.4 too large"),
            Some(_) => Reply::new(451, "9.0.3 X-SMTP-R-API bare CR, LF or NUL"),
        };
        let content = std::mem::take(&mut self.content);
        if problem.is_none() {
            assert_eq!(content.len() as u64, size);
            self.messages.push(content);
        }
        let mut replies = Vec::new();
        if self.prdr {
            replies.resize(self.accepted, Reply::new(250, "2.1.5 OK"));
        }
        replies.push(last);
        self.session.finish(&replies, &mut self.out);
    }

    fn handshake(&mut self) {
        assert!(std::mem::take(&mut self.shaking), "no handshake is due");
        self.session.tls_established();
        self.session
            .offer_auth(self.offer_auth || self.session.is_tls());
    }
}

/// Whether a line fits a pattern with `*`.
fn matches(pattern: &str, line: &str) -> bool {
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
