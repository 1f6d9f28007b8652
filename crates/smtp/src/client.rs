//! The client session without IO: greeting, EHLO, STARTTLS, AUTH, then one transaction after the
//! other. The driver in `galerne-outbound` moves octets and keeps deadlines; what an answer means
//! for the mail is decided in `galerne-core`.

use crate::address::{Mailbox, ReversePath};
use crate::ehlo::Capabilities;
use crate::reply::Reply;
use crate::stage::Stage;

/// Whether STARTTLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTlsUse {
    Never,
    IfOffered,
    Required,
}

/// Login and password for AUTH. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientAuth {
    pub login: String,
    pub password: String,
}

impl std::fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientAuth(***)")
    }
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

/// One session with one remote.
pub struct ClientSession {
    capabilities: Capabilities,
}

impl ClientSession {
    /// A session just connected, before the greeting.
    pub fn new(_config: ClientConfig) -> Self {
        ClientSession {
            capabilities: Capabilities::default(),
        }
    }

    /// Octets came from the remote.
    pub fn input(&mut self, _octets: &[u8]) {}

    /// Goes on as far as it can; appends to `out` what is to be sent.
    pub fn poll(&mut self, _out: &mut Vec<u8>) -> ClientEvent {
        ClientEvent::NeedInput
    }

    /// The connection ended, failed, or a deadline passed.
    pub fn lost(&mut self, _why: &str) {}

    /// The handshake asked for by `StartTls` succeeded.
    pub fn tls_established(&mut self) {}

    /// Begins a transaction.
    pub fn start(&mut self, _transaction: Transaction) {}

    /// A part of the content, after `SendContent`.
    pub fn content(&mut self, _chunk: &[u8], _out: &mut Vec<u8>) {}

    /// The end of the content.
    pub fn content_end(&mut self, _out: &mut Vec<u8>) {}

    /// Says QUIT, if the connection stands.
    pub fn quit(&mut self, _out: &mut Vec<u8>) {}

    /// What the remote offers, as it said last.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The step that waits for an answer, or the last one.
    pub fn stage(&self) -> Stage {
        Stage::Connect
    }

    /// Whether the MAIL of the present or last transaction was accepted (RELAY-42).
    pub fn mail_accepted(&self) -> bool {
        false
    }
}
