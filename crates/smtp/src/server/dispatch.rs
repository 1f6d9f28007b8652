//! Commands in their order, and the replies we give by ourselves (RELAY-14 to RELAY-19).

use std::io::Write;

use super::body::Transaction;
use super::{IDLE_MAX, NEEDS_TLS, REFUSED_MAX, ServerEvent, ServerSession, State, put};
use crate::address::ForwardPath;
use crate::command::{self, Command, Context, Fault, MailRequest, RcptRequest};
use crate::sasl::{Exchange, Step};

pub(super) const NO_HELLO: Fault = Fault::new(503, "5.5.1", "Send EHLO first");
pub(super) const NO_MAIL: Fault = Fault::new(503, "5.5.1", "Send MAIL first");
pub(super) const NO_RCPT: Fault = Fault::new(503, "5.5.1", "There is no accepted recipient");
const EARLY: &str = "503 5.5.1 Wait for the reply before sending more\r\n";

impl ServerSession {
    /// A whole command line without its CRLF. `more`: input follows it in the same buffer.
    pub(super) fn command(
        &mut self,
        line: &[u8],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<ServerEvent> {
        let prdr = self.config.prdr;
        let context = Context {
            hostname: &self.config.hostname,
            requiretls: self.tls && self.config.requiretls,
            prdr,
        };
        let parsed = match command::parse(line, &context) {
            Ok(parsed) => parsed,
            Err(fault) if starts_bdat(line) => {
                // What follows cannot be told from commands (T-06).
                put_fault(&fault, out);
                self.end();
                return Some(ServerEvent::Close);
            }
            Err(fault) => return self.fault(&fault, out),
        };
        let alone = matches!(
            parsed,
            Command::Ehlo(_) | Command::Helo(_) | Command::StartTls | Command::Data
        );
        if alone && more {
            // Nobody may speak on before the reply to these (RFC 2920 §3.1, T-04, T-10).
            put(out, &[EARLY]);
            self.end();
            return Some(ServerEvent::Close);
        }
        match parsed {
            Command::Ehlo(name) => self.hello(name, true, out),
            Command::Helo(name) => self.hello(name, false, out),
            Command::Mail(request) => self.mail(request, out),
            Command::Rcpt(request) => self.rcpt(request, out),
            Command::Data => self.data(out),
            Command::Bdat(chunk) => self.bdat(chunk, out),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial, out),
            Command::StartTls => self.start_tls(out),
            Command::Rset => self.reset(out),
            Command::Noop => self.no_progress("250 2.0.0 OK\r\n", out),
            Command::Vrfy => {
                self.no_progress("252 2.0.0 Cannot verify, send mail to find out\r\n", out)
            }
            Command::Help => self.no_progress(HELP, out),
            Command::Quit => {
                put(out, &["221 2.0.0 ", &self.config.hostname, " closing\r\n"]);
                self.end();
                Some(ServerEvent::Close)
            }
        }
    }

    /// Replies to a line that cannot be used, and counts it.
    pub(super) fn fault(&mut self, fault: &Fault, out: &mut Vec<u8>) -> Option<ServerEvent> {
        put_fault(fault, out);
        self.count_error(out)
    }

    /// Replies to a command that leads nowhere, and counts it (T-21).
    fn no_progress(&mut self, reply: &str, out: &mut Vec<u8>) -> Option<ServerEvent> {
        self.idle = self.idle.saturating_add(1);
        if self.idle > IDLE_MAX {
            return Some(self.hang_up("Too many commands without mail", out));
        }
        put(out, &[reply]);
        None
    }

    fn hello(&mut self, name: &str, extended: bool, out: &mut Vec<u8>) -> Option<ServerEvent> {
        if let Some(close) = self.no_progress("", out) {
            return Some(close);
        }
        self.helo = name.into();
        self.extended = extended;
        self.transaction = None;
        if extended {
            self.list_extensions(out);
        } else {
            put(out, &["250 ", &self.config.hostname, "\r\n"]);
        }
        Some(ServerEvent::Hello)
    }

    /// The reply to EHLO (RELAY-14).
    fn list_extensions(&self, out: &mut Vec<u8>) {
        let config = &self.config;
        let line = |out: &mut Vec<u8>, on: bool, text: &str| {
            if on {
                put(out, &["250-", text, "\r\n"]);
            }
        };
        line(out, true, &config.hostname);
        // Writing to memory does not fail.
        let _ = write!(out, "250-SIZE {}\r\n", config.max_size);
        put(
            out,
            &["250-8BITMIME\r\n250-PIPELINING\r\n250-DSN\r\n250-SMTPUTF8\r\n"],
        );
        line(out, config.chunking, "CHUNKING");
        line(out, config.prdr, "PRDR");
        line(out, config.starttls && !self.tls, "STARTTLS");
        line(out, self.offer_auth, "AUTH PLAIN LOGIN");
        line(out, config.requiretls && self.tls, "REQUIRETLS");
        let _ = write!(out, "250-LIMITS RCPTMAX={}\r\n", config.max_rcpt);
        put(out, &["250 ENHANCEDSTATUSCODES\r\n"]);
    }

    fn mail(&mut self, request: MailRequest, out: &mut Vec<u8>) -> Option<ServerEvent> {
        if self.helo.is_empty() {
            return self.fault(&NO_HELLO, out);
        }
        if self.transaction.is_some() {
            return self.fault(&Fault::new(503, "5.5.1", "MAIL was given already"), out);
        }
        if request.size.is_some_and(|size| size > self.config.max_size) {
            put(out, &["552 5.3.4 The message is larger than "]);
            let _ = write!(out, "{} octets\r\n", self.config.max_size);
            return self.count_refused(out);
        }
        self.transaction = Some(Box::new(Transaction::new(request.smtputf8, request.prdr)));
        self.state = State::Mail;
        Some(ServerEvent::Mail(request))
    }

    fn rcpt(&mut self, request: RcptRequest, out: &mut Vec<u8>) -> Option<ServerEvent> {
        let Some(transaction) = &self.transaction else {
            return self.fault(
                if self.helo.is_empty() {
                    &NO_HELLO
                } else {
                    &NO_MAIL
                },
                out,
            );
        };
        let ascii = match &request.path {
            ForwardPath::Mailbox(mailbox) => mailbox.is_ascii(),
            ForwardPath::Impossible { text, .. } => text.is_ascii(),
        };
        if transaction.has_content() {
            return self.fault(&Fault::new(503, "5.5.1", "Content has begun already"), out);
        }
        if !ascii && !transaction.smtputf8 {
            return self.fault(
                &Fault::new(553, "5.6.7", "This recipient needs SMTPUTF8"),
                out,
            );
        }
        if transaction.accepted >= self.config.max_rcpt {
            put(out, &["452 4.5.3 Too many recipients\r\n"]);
            return self.count_refused(out);
        }
        if self.refused > REFUSED_MAX {
            return Some(self.hang_up("Too many refused recipients", out));
        }
        self.state = State::Rcpt;
        Some(ServerEvent::Rcpt(request))
    }

    /// Counts what was refused without being an error (T-21).
    fn count_refused(&mut self, out: &mut Vec<u8>) -> Option<ServerEvent> {
        self.refused = self.refused.saturating_add(1);
        (self.refused > REFUSED_MAX).then(|| self.hang_up("Too many refused recipients", out))
    }

    fn start_tls(&mut self, out: &mut Vec<u8>) -> Option<ServerEvent> {
        if self.tls {
            return self.fault(
                &Fault::new(503, "5.5.1", "The session is encrypted already"),
                out,
            );
        }
        if !self.config.starttls {
            return self.fault(&Fault::new(502, "5.5.1", "STARTTLS is not available"), out);
        }
        put(out, &["220 2.0.0 Ready to start TLS\r\n"]);
        self.transaction = None;
        self.state = State::Handshake;
        Some(ServerEvent::StartTls)
    }

    fn reset(&mut self, out: &mut Vec<u8>) -> Option<ServerEvent> {
        self.transaction = None;
        let closed = self.no_progress("250 2.0.0 OK\r\n", out);
        Some(closed.unwrap_or(ServerEvent::Reset))
    }

    fn auth(
        &mut self,
        mechanism: &str,
        initial: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Option<ServerEvent> {
        let fault = if !self.extended {
            NO_HELLO
        } else if self.authenticated {
            Fault::new(503, "5.5.1", "The session is authenticated already")
        } else if self.transaction.is_some() {
            Fault::new(503, "5.5.1", "AUTH is not possible within a transaction")
        } else if !self.offer_auth && !self.tls {
            put(out, &[NEEDS_TLS]);
            return self.count_error(out);
        } else if !self.offer_auth {
            Fault::new(503, "5.5.1", "AUTH is not offered")
        } else if let Some(mut exchange) = Exchange::new(mechanism) {
            let step = exchange.begin(initial);
            self.exchange = Some(Box::new(exchange));
            return self.step(step, out);
        } else {
            Fault::new(504, "5.5.4", "The mechanism is not supported")
        };
        self.fault(&fault, out)
    }

    /// A line of an AUTH exchange.
    pub(super) fn respond(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<ServerEvent> {
        let step = self
            .exchange
            .as_mut()
            .map_or(Step::Malformed, |exchange| exchange.respond(line));
        self.step(step, out)
    }

    fn step(&mut self, step: Step, out: &mut Vec<u8>) -> Option<ServerEvent> {
        let fault = match step {
            Step::Challenge(text) => {
                put(out, &["334 ", text, "\r\n"]);
                self.state = State::Sasl;
                return None;
            }
            Step::Done(credentials) => {
                self.exchange = None;
                self.state = State::Auth;
                return Some(ServerEvent::Auth(credentials));
            }
            Step::Cancelled => Fault::new(501, "5.7.0", "Authentication cancelled"),
            Step::Malformed => Fault::new(501, "5.5.2", "The response is malformed"),
        };
        self.exchange = None;
        self.state = State::Command;
        self.fault(&fault, out)
    }
}

const HELP: &str = "214-2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH\r\n\
                    214 2.0.0 See RFC 5321\r\n";

pub(super) fn put_fault(fault: &Fault, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{} {} {}\r\n", fault.code, fault.enhanced, fault.text);
}

fn starts_bdat(line: &[u8]) -> bool {
    line.get(..4)
        .is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"))
        && line.get(4).is_none_or(|b| b" \t".contains(b))
}
