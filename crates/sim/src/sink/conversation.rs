//! One session of a sink: the loop between a stream, the honest session and the rules.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use galerne_smtp::data::BareLfPolicy;
use galerne_smtp::server::{AuthVerdict, Phase, ServerConfig, ServerEvent, ServerSession};
use galerne_smtp::{Reply, Stage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::script::{Moment, Rule, Say, Then};
use super::{MessageRecord, Shared, SinkOptions};

/// A silent client is sent away after this.
const IDLE: Duration = Duration::from_secs(300);
/// A hanging session is let go after this.
const HANG: Duration = Duration::from_secs(24 * 3600);
/// A command longer than this is handed over without its end.
const MAX_LINE: usize = 64 * 1024;
/// Octets read at once.
const READ: usize = 64 * 1024;

/// Both halves of a stream, of whatever kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The state of one session.
pub(super) struct Conversation<'a> {
    shared: &'a Shared,
    number: usize,
    peer: SocketAddr,
    session: ServerSession,
    input: Vec<u8>,
    out: Vec<u8>,
    login: Option<String>,
    transactions: usize,
    transaction: Transaction,
}

#[derive(Default)]
struct Transaction {
    sender: String,
    recipients: Vec<String>,
    envelope: Vec<String>,
    content: Vec<u8>,
    chunked: bool,
}

/// How to go on after a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    GoOn,
    Close,
    Handshake,
    EndOfData { size: u64 },
}

impl<'a> Conversation<'a> {
    pub fn new(shared: &'a Shared, number: usize, peer: SocketAddr) -> Self {
        let session = honest(&shared.options, false);
        Conversation {
            shared,
            number,
            peer,
            session,
            input: Vec::new(),
            out: Vec::new(),
            login: None,
            transactions: 0,
            transaction: Transaction::default(),
        }
    }

    /// Speaks until the session ends.
    pub async fn run(mut self, mut io: Box<dyn Io>) -> io::Result<()> {
        if self.shared.options.implicit_tls {
            io = self.handshake(io).await?;
            self.session = honest(&self.shared.options, true);
        }
        if self.greet(&mut io).await? == Flow::Close {
            return Ok(());
        }
        loop {
            let flow = match self.session.phase() {
                Phase::Command => match self.line(&mut io).await? {
                    Some(line) => self.command(&mut io, line).await?,
                    None => return Ok(()),
                },
                _ => match self.more(&mut io).await? {
                    true => self.feed_input(),
                    false => return Ok(()),
                },
            };
            match flow {
                Flow::GoOn => self.flush(&mut io).await?,
                Flow::Close => return self.close(&mut io).await,
                Flow::Handshake => {
                    self.flush(&mut io).await?;
                    self.input.clear();
                    io = self.handshake(io).await?;
                    self.session.tls_established();
                    self.session
                        .offer_auth(!self.shared.options.logins.is_empty());
                    self.transaction = Transaction::default();
                }
                Flow::EndOfData { size } => {
                    if self.end_of_data(&mut io, size).await? == Flow::Close {
                        return self.close(&mut io).await;
                    }
                }
            }
        }
    }

    async fn greet(&mut self, io: &mut Box<dyn Io>) -> io::Result<Flow> {
        let rule = self.decide(Stage::Connect, None);
        self.session.greet(&mut self.out);
        self.perform(io, rule).await
    }

    /// One command: by the rule for it, or honestly.
    async fn command(&mut self, io: &mut Box<dyn Io>, line: Vec<u8>) -> io::Result<Flow> {
        let text = String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_owned();
        let verb = text
            .split([' ', ':'])
            .next()
            .unwrap_or("")
            .to_ascii_uppercase();
        self.shared.note(|book| book.command(self.number, &text));
        self.transaction.chunked |= verb == "BDAT";
        let Some(stage) = stage(&verb) else {
            return Ok(self.feed(&line, &text));
        };
        if !self.input.is_empty() && matches!(stage, Stage::Ehlo | Stage::StartTls | Stage::Data) {
            self.note_early_talk();
        }
        if stage == Stage::Mail {
            self.transactions += 1;
            self.transaction = Transaction {
                sender: address(&text),
                ..Transaction::default()
            };
        }
        let rule = self.decide(stage, (stage == Stage::Rcpt).then(|| address(&text)));
        let flow = if rule.as_ref().is_none_or(is_fed) {
            self.feed(&line, &text)
        } else {
            Flow::GoOn
        };
        if stage == Stage::Ehlo {
            self.out = capabilities(&self.out, &self.shared.options);
        }
        let Some(rule) = rule else { return Ok(flow) };
        match self.perform(io, Some(rule)).await? {
            Flow::GoOn => Ok(flow),
            other => Ok(other),
        }
    }

    /// The message has come whole: remember it, and answer by the rule or honestly.
    async fn end_of_data(&mut self, io: &mut Box<dyn Io>, size: u64) -> io::Result<Flow> {
        let mut rule = self.decide(Stage::Dot, None);
        let honest = match size > self.shared.options.max_size {
            true => Reply::new(552, "5.3.4 Message too large"),
            false => Reply::new(
                250,
                format!("2.0.0 Ok: queued as {}-{}", self.number, self.transactions),
            ),
        };
        self.session.finish(&[honest], &mut self.out);
        let said = match rule.as_ref().map(|rule| &rule.say) {
            None | Some(Say::Honest) => self.out.clone(),
            Some(Say::Raw(octets)) => octets.clone(),
            Some(Say::Nothing) => Vec::new(),
        };
        let is_accepted = said.first() == Some(&b'2');
        // A delay or a hang comes before the reply; a refused or lost message is remembered too.
        if !is_accepted {
            self.remember(size, &said, false);
            return self.perform(io, rule).await;
        }
        self.wait(&rule).await;
        self.remember(size, &said, true);
        if let Some(rule) = &mut rule {
            rule.delay = None;
        }
        self.perform(io, rule).await
    }

    fn remember(&mut self, size: u64, said: &[u8], accepted: bool) {
        let transaction = std::mem::take(&mut self.transaction);
        let message = MessageRecord {
            session: self.number,
            peer: self.peer,
            ehlo: self.session.helo().to_owned(),
            tls: self.session.is_tls(),
            login: self.login.clone(),
            sender: transaction.sender,
            recipients: transaction.recipients,
            envelope: transaction.envelope,
            content: transaction.content,
            size,
            chunked: transaction.chunked,
            reply: String::from_utf8_lossy(said).trim_end().to_owned(),
            accepted,
        };
        self.shared.note(|book| book.message(message));
    }

    /// Says what the rule says, or what is in `out`.
    async fn perform(&mut self, io: &mut Box<dyn Io>, rule: Option<Rule>) -> io::Result<Flow> {
        self.wait(&rule).await;
        let Some(rule) = rule else {
            self.flush(io).await?;
            return Ok(Flow::GoOn);
        };
        match rule.say {
            Say::Honest => {}
            Say::Raw(octets) => self.out = octets,
            Say::Nothing => self.out.clear(),
        }
        self.flush(io).await?;
        match rule.then {
            Then::GoOn => Ok(Flow::GoOn),
            Then::Close => Ok(Flow::Close),
            Then::Hang => {
                let mut waste = vec![0; 4096];
                let silence = async { while io.read(&mut waste).await.is_ok_and(|n| n > 0) {} };
                let _ = tokio::time::timeout(HANG, silence).await;
                Ok(Flow::Close)
            }
        }
    }

    async fn wait(&self, rule: &Option<Rule>) {
        if let Some(delay) = rule.as_ref().and_then(|rule| rule.delay) {
            tokio::time::sleep(delay).await;
        }
    }

    /// Gives one line to the honest session.
    fn feed(&mut self, line: &[u8], text: &str) -> Flow {
        let mut fed = 0;
        loop {
            let rest = line.get(fed..).unwrap_or_default();
            let (used, event) =
                self.session
                    .poll(rest, &mut self.out, &mut self.transaction.content);
            fed += used;
            if event == ServerEvent::NeedInput {
                return Flow::GoOn;
            }
            match self.event(event, text) {
                Flow::GoOn => {}
                flow => return flow,
            }
        }
    }

    /// Gives what was read to the honest session, until a message ends or commands follow.
    fn feed_input(&mut self) -> Flow {
        let input = std::mem::take(&mut self.input);
        let (used, event) = self
            .session
            .poll(&input, &mut self.out, &mut self.transaction.content);
        self.input = input.get(used..).unwrap_or_default().to_vec();
        if !self.shared.options.keep_content {
            self.transaction.content.clear();
        }
        self.event(event, "")
    }

    fn event(&mut self, event: ServerEvent, line: &str) -> Flow {
        match event {
            ServerEvent::NeedInput | ServerEvent::Content => {}
            ServerEvent::Hello => {
                self.transaction = Transaction::default();
                let (name, tls) = (self.session.helo().to_owned(), self.session.is_tls());
                self.change_record(|session| (session.ehlo, session.tls) = (name, tls));
            }
            ServerEvent::StartTls => return Flow::Handshake,
            ServerEvent::Auth(credentials) => {
                let known = |(login, password): &(String, String)| {
                    *login == credentials.login && *password == credentials.password
                };
                let is_known = self.shared.options.logins.iter().any(known);
                let verdict = if is_known {
                    AuthVerdict::Accepted
                } else {
                    AuthVerdict::Refused
                };
                self.session.auth_result(verdict, &mut self.out);
                if is_known {
                    self.login = Some(credentials.login.clone());
                    self.change_record(|session| session.login = Some(credentials.login));
                }
            }
            ServerEvent::Mail(_) => {
                let needs_auth = self.shared.options.needs_auth && !self.session.is_authenticated();
                let reply = match needs_auth {
                    true => Reply::new(530, "5.7.0 Authentication required"),
                    false => Reply::new(250, "2.1.0 Ok"),
                };
                self.session.answer(reply, &mut self.out);
                self.transaction.envelope.push(line.to_owned());
            }
            ServerEvent::Rcpt(_) => {
                self.session
                    .answer(Reply::new(250, "2.1.5 Ok"), &mut self.out);
                self.transaction.recipients.push(address(line));
                self.transaction.envelope.push(line.to_owned());
            }
            ServerEvent::EndOfData { size, .. } => return Flow::EndOfData { size },
            ServerEvent::Reset => self.transaction = Transaction::default(),
            ServerEvent::Close => return Flow::Close,
        }
        Flow::GoOn
    }

    fn decide(&self, stage: Stage, recipient: Option<String>) -> Option<Rule> {
        let one: Vec<String> = recipient.into_iter().collect();
        let moment = Moment {
            stage,
            client: self.peer.ip(),
            session: self.number,
            transaction: self.transactions,
            sender: &self.transaction.sender,
            recipients: if one.is_empty() {
                &self.transaction.recipients
            } else {
                &one
            },
        };
        self.shared.decide(&moment)
    }

    /// The next command with its line end; `None`: the client closed.
    async fn line(&mut self, io: &mut Box<dyn Io>) -> io::Result<Option<Vec<u8>>> {
        loop {
            let end = self.input.iter().position(|&b| b == b'\n').map(|at| at + 1);
            let end = end.or((self.input.len() > MAX_LINE).then_some(self.input.len()));
            if let Some(end) = end {
                return Ok(Some(self.input.drain(..end).collect()));
            }
            if !self.read(io).await? {
                return Ok(None);
            }
        }
    }

    /// Whether there is input, now or after reading.
    async fn more(&mut self, io: &mut Box<dyn Io>) -> io::Result<bool> {
        if self.input.is_empty() {
            self.read(io).await
        } else {
            Ok(true)
        }
    }

    async fn read(&mut self, io: &mut Box<dyn Io>) -> io::Result<bool> {
        self.input.reserve(READ);
        match tokio::time::timeout(IDLE, io.read_buf(&mut self.input)).await {
            Ok(read) => Ok(read? > 0),
            Err(_) => {
                self.session.idle(&mut self.out);
                self.flush(io).await?;
                Ok(false)
            }
        }
    }

    async fn flush(&mut self, io: &mut Box<dyn Io>) -> io::Result<()> {
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            io.write_all(&out).await?;
            io.flush().await?;
        }
        Ok(())
    }

    async fn close(&mut self, io: &mut Box<dyn Io>) -> io::Result<()> {
        self.flush(io).await?;
        io.shutdown().await
    }

    async fn handshake(&mut self, io: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
        let config = self.shared.options.tls.clone();
        let config = config.ok_or_else(|| io::Error::other("a sink without certificate"))?;
        let stream = tokio::time::timeout(IDLE, TlsAcceptor::from(config).accept(io)).await??;
        self.change_record(|session| session.tls = true);
        Ok(Box::new(stream))
    }

    fn note_early_talk(&self) {
        self.change_record(|session| session.talked_early = true);
    }

    fn change_record(&self, change: impl FnOnce(&mut super::SessionRecord)) {
        self.shared
            .note(|book| book.session(self.number).map(change));
    }
}

/// Whether the honest session is to see the command: not if its reply refuses it.
fn is_fed(rule: &Rule) -> bool {
    match &rule.say {
        Say::Honest => true,
        Say::Raw(octets) => matches!(octets.first(), Some(b'2' | b'3')),
        Say::Nothing => false,
    }
}

fn honest(options: &SinkOptions, tls: bool) -> ServerSession {
    let config = ServerConfig {
        hostname: options.hostname.clone(),
        max_size: options.max_size,
        max_rcpt: 10_000,
        chunking: options.chunking,
        prdr: false,
        starttls: options.tls.is_some() && !options.implicit_tls,
        requiretls: options.requiretls,
        bare_lf: BareLfPolicy::Pass,
        max_errors: 100,
    };
    let mut session = ServerSession::new(Arc::new(config), tls);
    session.offer_auth(!options.logins.is_empty());
    session
}

/// The reply to EHLO without what is switched off.
fn capabilities(reply: &[u8], options: &SinkOptions) -> Vec<u8> {
    let text = String::from_utf8_lossy(reply);
    let is_off = |line: &&str| {
        let keyword = line
            .get(4..)
            .and_then(|l| l.split(' ').next())
            .unwrap_or("");
        match keyword {
            "PIPELINING" => !options.pipelining,
            "8BITMIME" => !options.eight_bit_mime,
            "SMTPUTF8" => !options.smtputf8,
            "DSN" => !options.dsn,
            "ENHANCEDSTATUSCODES" => !options.enhanced_codes,
            _ => false,
        }
    };
    let lines: Vec<&str> = text.lines().filter(|line| !is_off(line)).collect();
    let last = lines.len().saturating_sub(1);
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let (code, rest) = (line.get(..3).unwrap_or(line), line.get(4..).unwrap_or(""));
        let dash = if index < last { '-' } else { ' ' };
        out.push_str(&format!("{code}{dash}{rest}\r\n"));
    }
    out.into_bytes()
}

fn stage(verb: &str) -> Option<Stage> {
    Some(match verb {
        "EHLO" | "HELO" => Stage::Ehlo,
        "STARTTLS" => Stage::StartTls,
        "AUTH" => Stage::Auth,
        "MAIL" => Stage::Mail,
        "RCPT" => Stage::Rcpt,
        "DATA" => Stage::Data,
        "RSET" => Stage::Rset,
        "QUIT" => Stage::Quit,
        _ => return None,
    })
}

/// What stands between the first `<` and the last `>` before a space.
fn address(line: &str) -> String {
    let inside = line.split_once('<').map_or("", |(_, rest)| rest);
    let end = inside
        .find("> ")
        .or_else(|| inside.rfind('>'))
        .unwrap_or(inside.len());
    inside.get(..end).unwrap_or(inside).to_owned()
}
