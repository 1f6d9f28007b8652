//! The server's side of an SMTP session: octets of a client in, replies and events out.
//!
//! It answers everything by itself except what is policy: MAIL, RCPT, AUTH and the end of data
//! are handed to the caller as events and wait for [`ServerSession::answer`],
//! [`ServerSession::auth_result`] or [`ServerSession::finish`] (RELAY-2). It opens no socket and
//! reads no clock; the loop in `galerne-inbound` feeds it.

use std::sync::Arc;

use crate::command::{MailRequest, RcptRequest};
use crate::data::BareLfPolicy;
use crate::reply::Reply;
use crate::sasl::{Credentials, Exchange};

mod body;
mod dispatch;
mod line;

use body::Transaction;
use line::Skip;

/// Commands without progress (RSET, NOOP, VRFY, HELP, EHLO) before the session ends (T-21).
const IDLE_MAX: u16 = 100;
/// Refused and surplus recipients before the session ends (T-21).
const REFUSED_MAX: u16 = 1000;
/// Lines with bare CR, bare LF or NUL before the session ends (T-03).
const MALFORMED_MAX: u8 = 3;

/// What a session must know of the settings.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Our name, in the greeting and in EHLO.
    pub hostname: String,
    /// Largest message in octets (RELAY-15).
    pub max_size: u64,
    /// Most recipients of a transaction (RELAY-19).
    pub max_rcpt: usize,
    pub chunking: bool,
    pub prdr: bool,
    /// STARTTLS can be offered.
    pub starttls: bool,
    /// REQUIRETLS is offered under TLS (RFC 8689): only by a relay that can keep the promise.
    pub requiretls: bool,
    pub bare_lf: BareLfPolicy,
    /// Errors before the session ends; 10 unless configured (RELAY-16).
    pub max_errors: u32,
}

/// What the caller has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// Nothing more can be done with this input.
    NeedInput,
    /// EHLO or HELO was answered. A transaction there was is void.
    Hello,
    /// `220` is in `out`: send it, drop all remaining input, shake hands, then
    /// [`ServerSession::tls_established`] (T-10).
    StartTls,
    /// Answer with [`ServerSession::auth_result`].
    Auth(Credentials),
    /// Answer with [`ServerSession::answer`].
    Mail(MailRequest),
    /// Answer with [`ServerSession::answer`].
    Rcpt(RcptRequest),
    /// Content was appended; input may remain.
    Content,
    /// The message is complete; its last octets may have been appended just now. Answer with
    /// [`ServerSession::finish`].
    EndOfData {
        /// Why the message cannot be taken as it is.
        problem: Option<ContentProblem>,
        /// Octets of the message as decoded, those beyond `max_size` included.
        size: u64,
        /// It had bare CR or bare LF (RELAY-18).
        has_bare: bool,
    },
    /// The transaction is void: RSET, or a chunk that failed.
    Reset,
    /// Send what is in `out` and close the connection.
    Close,
}

/// What is wrong with the content of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentProblem {
    /// Bare CR or bare LF, and the policy is to reject (RELAY-18).
    BareLineEnd,
    /// NUL (9.0.3).
    Nul,
    /// More than `max_size`; the content was cut (RELAY-15).
    TooLarge,
}

/// The verdict on credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthVerdict {
    /// 235 2.7.0
    Accepted,
    /// 535 5.7.8
    Refused,
    /// 538 5.7.11: the account wants TLS (RELAY-11).
    NeedsTls,
    /// 454 4.7.0
    Temporary,
    /// 454 4.7.0: too many logins failed, the password was not looked at (T-25).
    Locked,
}

/// What a session waits for: the caller chooses its deadlines by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The next command.
    Command,
    /// A line of an AUTH exchange.
    Auth,
    /// Content, by DATA or BDAT.
    Content,
    /// The caller's answer to an event.
    Answer,
    /// The TLS handshake.
    Handshake,
    /// Nothing: the session has ended.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Command,
    Sasl,
    Data,
    Chunk,
    Mail,
    Rcpt,
    Auth,
    Finish,
    Handshake,
    Closed,
}

/// A session. An idle one costs little: what a transaction needs is boxed, and a line is kept only
/// while it is incomplete.
pub struct ServerSession {
    config: Arc<ServerConfig>,
    helo: Box<str>,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    transaction: Option<Box<Transaction>>,
    exchange: Option<Box<Exchange>>,
    skip: Skip,
    state: State,
    errors: u32,
    commands: u32,
    idle: u16,
    refused: u16,
    malformed: u8,
    tls: bool,
    offer_auth: bool,
    authenticated: bool,
    extended: bool,
}

impl ServerSession {
    /// A session on a fresh connection; `tls`: the connection is encrypted already.
    pub fn new(config: Arc<ServerConfig>, tls: bool) -> Self {
        ServerSession {
            config,
            helo: Box::default(),
            line: Vec::new(),
            transaction: None,
            exchange: None,
            skip: Skip::No,
            state: State::Command,
            errors: 0,
            commands: 0,
            idle: 0,
            refused: 0,
            malformed: 0,
            tls,
            offer_auth: false,
            authenticated: false,
            extended: false,
        }
    }

    /// Writes the greeting.
    pub fn greet(&mut self, out: &mut Vec<u8>) {
        put(out, &["220 ", &self.config.hostname, " ESMTP Galerne\r\n"]);
    }

    /// Whether EHLO lists AUTH from now on, and AUTH is taken (RELAY-11).
    pub fn offer_auth(&mut self, on: bool) {
        self.offer_auth = on;
    }

    /// Consumes from the front of `input`; appends replies to `out` and decoded content to
    /// `content`. Returns the octets consumed and what to do.
    ///
    /// The caller keeps the rest of the input and calls again until `NeedInput`. With `NeedInput`
    /// everything was consumed, unless an answer is owed: then it is kept until that was given.
    pub fn poll(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        content: &mut Vec<u8>,
    ) -> (usize, ServerEvent) {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or(&[]);
            let (taken, event) = match self.state {
                State::Closed => return (input.len(), ServerEvent::Close),
                State::Mail | State::Rcpt | State::Auth | State::Finish | State::Handshake => {
                    return (used, ServerEvent::NeedInput);
                }
                _ if rest.is_empty() => return (used, ServerEvent::NeedInput),
                State::Command | State::Sasl => self.take_line(rest, out),
                State::Data => self.take_data(rest, out, content),
                State::Chunk => self.take_chunk(rest, out, content),
            };
            used += taken;
            if let Some(event) = event {
                return (used, event);
            }
        }
    }

    /// Answers MAIL or RCPT; a 2xx accepts it, a 421 ends the session.
    pub fn answer(&mut self, reply: Reply, out: &mut Vec<u8>) {
        reply.write_to(out);
        let accepted = (200..300).contains(&reply.code());
        match self.state {
            State::Mail if !accepted => self.transaction = None,
            State::Rcpt if accepted => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.accepted += 1;
                }
            }
            State::Rcpt => self.refused = self.refused.saturating_add(1),
            _ => {}
        }
        if matches!(self.state, State::Mail | State::Rcpt) {
            self.state = State::Command;
        }
        if reply.code() == 421 {
            self.end();
        }
    }

    /// Answers AUTH.
    pub fn auth_result(&mut self, verdict: AuthVerdict, out: &mut Vec<u8>) {
        let reply = match verdict {
            AuthVerdict::Accepted => "235 2.7.0 Authentication succeeded\r\n",
            AuthVerdict::Refused => "535 5.7.8 Authentication failed\r\n",
            AuthVerdict::NeedsTls => NEEDS_TLS,
            AuthVerdict::Temporary => {
                "454 4.7.0 Authentication is not possible now; try again later\r\n"
            }
            AuthVerdict::Locked => "454 4.7.0 Too many failed logins; try again in 10 minutes\r\n",
        };
        put(out, &[reply]);
        if self.state == State::Auth {
            self.state = State::Command;
        }
        match verdict {
            AuthVerdict::Accepted => self.authenticated = true,
            AuthVerdict::Refused | AuthVerdict::NeedsTls | AuthVerdict::Locked => {
                self.count_error(out);
            }
            AuthVerdict::Temporary => {}
        }
    }

    /// Answers the end of data: with one reply, or, where PRDR was asked for, with one per accepted
    /// recipient and the overall one last (draft-hall-prdr). A 421 ends the session.
    pub fn finish(&mut self, replies: &[Reply], out: &mut Vec<u8>) {
        let prdr = self.transaction.as_ref().is_some_and(|t| t.prdr);
        match replies {
            [_, _, ..] if prdr => {
                put(out, &["353 content analysis has started\r\n"]);
                replies.iter().for_each(|reply| reply.write_to(out));
            }
            _ => match replies.last() {
                Some(reply) => reply.write_to(out),
                None => put(out, &["451 4.3.0 Local error in processing\r\n"]),
            },
        }
        self.transaction = None;
        (self.errors, self.idle, self.refused) = (0, 0, 0);
        if self.state == State::Finish {
            self.state = State::Command;
        }
        if replies.iter().any(|reply| reply.code() == 421) {
            self.end();
        }
    }

    /// The handshake is done: everything that was said in clear is forgotten (RFC 3207 §4.2, T-10).
    pub fn tls_established(&mut self) {
        let config = Arc::clone(&self.config);
        let commands = self.commands;
        *self = ServerSession::new(config, true);
        self.commands = commands;
    }

    /// The client was silent for too long (RELAY-16).
    pub fn idle(&mut self, out: &mut Vec<u8>) {
        put(
            out,
            &[
                "421 4.4.2 ",
                &self.config.hostname,
                " no command for too long, closing\r\n",
            ],
        );
        self.end();
    }

    /// Ends the session with this reply, a 421 as a rule.
    pub fn close(&mut self, reply: Reply, out: &mut Vec<u8>) {
        reply.write_to(out);
        self.end();
    }

    /// The name given in EHLO or HELO; empty before.
    pub fn helo(&self) -> &str {
        &self.helo
    }

    /// Whether the client greeted with EHLO.
    pub fn is_extended(&self) -> bool {
        self.extended
    }

    /// Whether an AUTH was accepted.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether the session is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether a MAIL was accepted and its transaction has not ended.
    pub fn in_transaction(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| !t.phantom)
    }

    /// Whole lines taken so far, whatever they were; it goes round. An unfinished one is no progress.
    pub fn commands(&self) -> u32 {
        self.commands
    }

    /// Octets of an incomplete line that are kept; bounded by the longest line.
    pub fn buffered(&self) -> usize {
        self.line.len()
    }

    /// What the session waits for.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Command => Phase::Command,
            State::Sasl => Phase::Auth,
            State::Data | State::Chunk => Phase::Content,
            State::Mail | State::Rcpt | State::Auth | State::Finish => Phase::Answer,
            State::Handshake => Phase::Handshake,
            State::Closed => Phase::Closed,
        }
    }

    fn end(&mut self) {
        self.state = State::Closed;
        self.transaction = None;
        self.exchange = None;
        self.line = Vec::new();
    }

    /// Counts an error; after too many the session ends with 421 (RELAY-16).
    fn count_error(&mut self, out: &mut Vec<u8>) -> Option<ServerEvent> {
        self.errors = self.errors.saturating_add(1);
        (self.errors >= self.config.max_errors.max(1)).then(|| self.hang_up("Too many errors", out))
    }

    /// `421 4.7.0`, and the end.
    fn hang_up(&mut self, why: &str, out: &mut Vec<u8>) -> ServerEvent {
        put(
            out,
            &[
                "421 4.7.0 ",
                &self.config.hostname,
                " ",
                why,
                ", closing\r\n",
            ],
        );
        self.end();
        ServerEvent::Close
    }
}

const NEEDS_TLS: &str = "538 5.7.11 Encryption is required for authentication\r\n";

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    parts
        .iter()
        .for_each(|part| out.extend_from_slice(part.as_bytes()));
}
