//! Plays the dialogues of `tests/dialogues` with the protocol object alone.

use std::path::Path;
use std::sync::Arc;

use galerne_smtp::server::{AuthVerdict, ContentProblem, ServerConfig, ServerEvent, ServerSession};
use galerne_smtp::{ForwardPath, Reply};

use crate::script::{Dialogue, Step, matches};

/// The dialogue of that name.
pub fn read(name: &str) -> Dialogue {
    Dialogue::read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues"),
        name,
    )
}

impl Dialogue {
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
