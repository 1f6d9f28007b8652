//! The client session without IO: greeting, EHLO, STARTTLS, AUTH, then one transaction after the
//! other. The driver in `galerne-outbound` moves octets and keeps deadlines; what an answer means
//! for the mail is decided in `galerne-core`.

mod commands;
mod hello;
mod transaction;

use crate::address::{Mailbox, ReversePath};
use crate::ehlo::Capabilities;
use crate::reply::{MAX_REPLY, Reply, ReplyParser};
pub use crate::sasl_client::ClientAuth;
use crate::sasl_client::SaslClient;
use crate::stage::Stage;
pub use commands::is_safe;

use transaction::Progress;

/// Whether STARTTLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTlsUse {
    Never,
    IfOffered,
    Required,
}

/// What the session has to know before it begins.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The name given in EHLO.
    pub ehlo: String,
    /// TLS stands from the first octet (port 465).
    pub tls_active: bool,
    pub starttls: StartTlsUse,
    /// Log in before the first MAIL (ROUTE-39).
    pub auth: Option<ClientAuth>,
    /// PLAIN and LOGIN may be sent without TLS (ROUTE-41).
    pub auth_in_clear: bool,
}

/// How the content travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// DATA with dot-stuffing.
    Data,
    /// BDAT: octets as they are, for content with bare CR or LF (RELAY-18). Needs CHUNKING.
    Bdat,
}

/// One recipient of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxRecipient {
    pub mailbox: Mailbox,
    /// NOTIFY keywords as they go over the wire, e.g. `SUCCESS,FAILURE`.
    pub notify: Option<String>,
    /// `type;address`, decoded; the session encodes the address as xtext.
    pub orcpt: Option<String>,
}

/// One message to recipients that share a session.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub sender: ReversePath,
    pub recipients: Vec<TxRecipient>,
    /// For SIZE; octets of the content.
    pub size: u64,
    /// The content has octets above 127, or BODY=8BITMIME was declared.
    pub eight_bit: bool,
    /// SMTPUTF8 was asked for; also assumed when an address is not ASCII.
    pub smtputf8: bool,
    /// The message must not go on but by TLS (RFC 8689).
    pub requiretls: bool,
    /// `FULL` or `HDRS`.
    pub ret: Option<&'static str>,
    /// Decoded; the session encodes it as xtext.
    pub envid: Option<String>,
    pub chunking: Chunking,
}

/// What the remote answered at one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteAnswer {
    /// A reply whose kind (2xx, 4xx, 5xx) can stand at this step.
    Reply(Reply),
    /// Something that is no reply, or one that cannot stand there (a 3xx as final reply, a 2xx to
    /// DATA). Escaped and cut.
    Malformed(String),
    /// No answer: the connection closed, was reset, timed out; or nothing was asked, and why.
    Lost(String),
}

/// Why the session refused a transaction, or recipients of it, without asking the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalRefusal {
    /// SMTPUTF8 is needed and not offered: `550 5.6.7` (RELAY-28).
    SmtpUtf8NotOffered,
    /// BDAT is needed and CHUNKING not offered: `451 9.0.3` (RELAY-18).
    ChunkingNotOffered,
    /// REQUIRETLS is needed and not offered under TLS: `550 5.7.30` (RFC 8689).
    RequireTlsNotOffered,
    /// An address holds octets that could change the command (T-05): `553 5.1.3` or `5.1.7`.
    UnsafeAddress,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult {
    /// One per recipient, in their order: the step that decided, and the answer there. A message
    /// was taken for a recipient exactly if this is `Stage::Dot` with a 2xx.
    pub recipients: Vec<(Stage, RemoteAnswer)>,
    /// The end of data was sent: without an answer the outcome is unknown (RELAY-70).
    pub dot_sent: bool,
    /// The session can take another transaction.
    pub usable: bool,
    /// Set when (some) answers are ours and the remote never saw the command.
    pub local: Option<LocalRefusal>,
}

/// Why a session came to nothing before or between transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The greeting was not 220.
    Greeting,
    /// EHLO (and HELO, where it was tried) was refused.
    Ehlo,
    /// TLS is required and STARTTLS not offered.
    TlsUnavailable,
    /// STARTTLS was refused.
    TlsRefused,
    /// The login was refused (ROUTE-42).
    Auth,
    /// A login is configured and no mechanism of ours offered (ROUTE-43).
    AuthNotOffered,
    /// A login is configured, only PLAIN or LOGIN are offered, and there is no TLS (ROUTE-41).
    AuthNeedsTls,
    /// The connection is gone, or the remote spoke out of turn.
    Lost,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Send what is in `out`, then read and give it to `input` (or call `lost`).
    NeedInput,
    /// The greeting was 220; see [`ClientSession::greeting`]. Poll again.
    Greeted,
    /// Do the TLS handshake, then call `tls_established`. Nothing is left to send.
    StartTls,
    /// Logged in and idle: call `start`, or `quit`.
    Ready,
    /// Call `content` with all of the content, then `content_end`.
    SendContent,
    /// The transaction is over.
    Finished(TransactionResult),
    /// The session is over.
    Failed {
        stage: Stage,
        answer: RemoteAnswer,
        kind: FailureKind,
    },
}

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    /// EHLO is to be sent.
    Hello,
    Ehlo,
    Helo,
    StartTls,
    Handshake,
    Auth,
    Ready,
    /// A transaction is under way; see [`Progress`].
    Transaction,
    Quit,
    /// Nothing more can be done; `failure` says why.
    Over,
}

/// One session with one remote.
pub struct ClientSession {
    config: ClientConfig,
    capabilities: Capabilities,
    greeting: Option<Reply>,
    phase: Phase,
    stage: Stage,
    /// TLS stands.
    tls: bool,
    parser: ReplyParser,
    /// What came and was not read yet is `inbox[read..]`.
    inbox: Vec<u8>,
    read: usize,
    lost: Option<String>,
    sasl: Option<SaslClient>,
    progress: Progress,
    /// The remote still has a transaction open that came to nothing.
    needs_rset: bool,
    /// Transactions begun with success, for MAILMAX.
    mails: u32,
    failure: Option<(Stage, RemoteAnswer, FailureKind)>,
    /// QUIT would be understood.
    may_quit: bool,
}

/// Inbox allocations larger than this are given back when all is read.
const KEEP_INBOX: usize = 8192;

/// Octets of the remote kept at most that were not looked at yet.
const MAX_UNREAD: usize = 2 * MAX_REPLY;

impl ClientSession {
    /// A session just connected, before the greeting.
    pub fn new(config: ClientConfig) -> Self {
        ClientSession {
            capabilities: Capabilities::default(),
            greeting: None,
            phase: Phase::Greeting,
            stage: Stage::Connect,
            tls: config.tls_active,
            parser: ReplyParser::new(),
            inbox: Vec::new(),
            read: 0,
            lost: None,
            sasl: None,
            progress: Progress::default(),
            needs_rset: false,
            mails: 0,
            failure: None,
            may_quit: false,
            config,
        }
    }

    /// Octets came from the remote.
    pub fn input(&mut self, octets: &[u8]) {
        // Before TLS stands, nothing may come that counts behind it (T-11).
        if self.phase == Phase::Handshake || self.phase == Phase::Over {
            return;
        }
        // More than this is no reply, and nobody reads it while we send (T-46).
        let unread = self.inbox.len().saturating_sub(self.read);
        if unread + octets.len() > MAX_UNREAD {
            self.lost("the remote says too much");
        } else {
            self.inbox.extend_from_slice(octets);
        }
    }

    /// Whether the connection counts as gone.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Goes on as far as it can; appends to `out` what is to be sent.
    pub fn poll(&mut self, out: &mut Vec<u8>) -> ClientEvent {
        loop {
            let event = match self.phase {
                Phase::Ready => self.poll_ready(),
                Phase::Transaction => self.poll_transaction(out),
                Phase::Over => Some(self.failed()),
                _ => self.poll_hello(out),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// The connection ended, failed, or a deadline passed. What has come before is still heard;
    /// then the next poll gives `Failed` or `Finished` with [`RemoteAnswer::Lost`].
    pub fn lost(&mut self, why: &str) {
        if self.lost.is_none() {
            self.lost = Some(why.to_owned());
        }
    }

    /// The handshake asked for by `StartTls` succeeded: all that was said in clear is forgotten.
    pub fn tls_established(&mut self) {
        self.tls = true;
        self.capabilities = Capabilities::default();
        self.forget_input();
        if self.phase == Phase::Handshake {
            self.phase = Phase::Hello;
        }
    }

    /// Begins a transaction. To be called after `Ready`, or after `Finished` with `usable`.
    pub fn start(&mut self, transaction: Transaction) {
        if self.phase != Phase::Ready {
            self.lost("the session is over");
        }
        self.progress.begin(transaction);
        self.phase = Phase::Transaction;
        self.stage = Stage::Mail;
    }

    /// Says QUIT, if the remote is listening for commands.
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        if self.may_quit && self.lost.is_none() && matches!(self.phase, Phase::Ready | Phase::Over)
        {
            out.extend_from_slice(b"QUIT\r\n");
            self.forget_input();
            (self.phase, self.stage) = (Phase::Quit, Stage::Quit);
        }
    }

    /// What the remote offers, as it said last; nothing before EHLO.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The greeting, once it has come.
    pub fn greeting(&self) -> Option<&Reply> {
        self.greeting.as_ref()
    }

    /// The step that waits for an answer, or the last one.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether the MAIL of the present or last transaction was accepted (RELAY-42).
    pub fn mail_accepted(&self) -> bool {
        self.progress.mail_accepted()
    }

    /// An idle session hears nothing; whatever comes ends it.
    fn poll_ready(&mut self) -> Option<ClientEvent> {
        if self.lost.is_none() && !self.has_unread() {
            return Some(ClientEvent::Ready);
        }
        let answer = self.out_of_turn();
        self.may_quit = false;
        Some(self.fail(self.stage, answer, FailureKind::Lost))
    }

    /// The next answer of the remote; `None` while it has not come whole.
    fn next_answer(&mut self) -> Option<RemoteAnswer> {
        let (used, result) = self
            .parser
            .parse(self.inbox.get(self.read..).unwrap_or_default());
        self.read += used;
        if self.read >= self.inbox.len() {
            self.inbox.clear();
            self.read = 0;
            if self.inbox.capacity() > KEEP_INBOX {
                self.inbox = Vec::new();
            }
        }
        match result {
            Some(Ok(reply)) => Some(RemoteAnswer::Reply(reply)),
            Some(Err(malformed)) => Some(RemoteAnswer::Malformed(malformed.0)),
            None => self.lost.clone().map(RemoteAnswer::Lost),
        }
    }

    /// Whether something came that no one has read: at a moment when nothing is asked it answers
    /// nothing, and would be taken for the answer to what is asked next.
    fn has_unread(&self) -> bool {
        self.read < self.inbox.len() || self.parser.is_inside()
    }

    fn forget_input(&mut self) {
        self.inbox = Vec::new();
        self.read = 0;
        self.parser.reset();
    }

    /// What an idle remote said or did: 421, or nothing that counts.
    fn out_of_turn(&mut self) -> RemoteAnswer {
        match self.next_answer() {
            Some(RemoteAnswer::Reply(reply)) if reply.code() == 421 => RemoteAnswer::Reply(reply),
            Some(RemoteAnswer::Lost(why)) => RemoteAnswer::Lost(why),
            _ => RemoteAnswer::Lost("the remote spoke out of turn".into()),
        }
    }

    fn fail(&mut self, stage: Stage, answer: RemoteAnswer, kind: FailureKind) -> ClientEvent {
        self.phase = Phase::Over;
        self.stage = stage;
        self.failure = Some((stage, answer, kind));
        self.failed()
    }

    fn failed(&self) -> ClientEvent {
        match &self.failure {
            Some((stage, answer, kind)) => ClientEvent::Failed {
                stage: *stage,
                answer: answer.clone(),
                kind: *kind,
            },
            None => ClientEvent::Failed {
                stage: self.stage,
                answer: RemoteAnswer::Lost("the session is over".into()),
                kind: FailureKind::Lost,
            },
        }
    }
}
