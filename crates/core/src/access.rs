//! Who a client is and what it may do: accounts by login and by address, session limits, and the
//! judgement of each recipient at RCPT. Called by the session driver in `galerne-inbound`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use galerne_smtp::{Mailbox, Reply};

use crate::ports::Lists;
use crate::refusal::Refusal;
use crate::settings::{Account, Secret, Settings};

/// The accounts of one settings snapshot, indexed by login and by client network.
pub struct Accounts {}

/// What the address of a client says (CONF-92).
#[derive(Clone, Debug)]
pub enum ByAddress {
    /// No account has this address in `smtpip`.
    Nobody,
    /// The session belongs to this account without AUTH.
    Account(Arc<Account>),
    /// It would, but the account's `smtpssl` wants TLS first; until then it is nobody's.
    NeedsTls(Arc<Account>),
}

/// The verdict on AUTH.
#[derive(Clone, Debug)]
pub enum Login {
    Accepted(Arc<Account>),
    /// 535 5.7.8.
    Refused,
    /// 538 5.7.11 (RELAY-11), whether the password is right or not.
    NeedsTls,
}

impl Accounts {
    /// Indexes the accounts of `settings`.
    pub fn new(_settings: &Settings) -> Self {
        todo!()
    }
    /// The account whose `smtpip` holds the address; the longest prefix wins (CONF-92).
    pub fn by_address(&self, _peer: IpAddr, _tls: bool) -> ByAddress {
        todo!()
    }
    /// The account of that login, without regard to case.
    pub fn by_login(&self, _login: &str) -> Option<&Arc<Account>> {
        todo!()
    }
    /// Whether AUTH is listed in the answer to EHLO (RELAY-10, RELAY-11).
    pub fn auth_offered(&self, _tls: bool) -> bool {
        todo!()
    }
    /// Judges login and password. May take as long as one argon2 computation: not for a task that
    /// serves others.
    pub fn authenticate(&self, _login: &str, _password: &[u8], _tls: bool) -> Login {
        todo!()
    }
}

/// Compares in constant time; `{argon2}` secrets are PHC strings (CONF-53).
pub fn verify_password(_secret: &Secret, _password: &[u8]) -> bool {
    todo!()
}

/// A recipient as RCPT named it.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    Mailbox(&'a Mailbox),
    /// It parses, but such an address cannot exist: `a@b..c`, `a@`, `@b` (RELAY-78).
    Impossible(&'a str),
}

/// Judges one recipient at RCPT (RELAY-13, RELAY-78).
pub fn judge_recipient(
    _account: Option<&Account>,
    _recipient: Named<'_>,
    _lists: &dyn Lists,
) -> Result<(), Refusal> {
    todo!()
}

/// Why a new connection gets no session (RELAY-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// `threadnb` is reached; a session that `gives_way` may be ended in its favour.
    Server,
    /// `maxperip` unauthenticated sessions of this address are open.
    Address,
}

impl Crowded {
    /// `421 4.3.2` or `421 4.7.0`.
    pub fn reply(self) -> Reply {
        todo!()
    }
}

/// Whether a new connection gets a session. The counts are without it.
pub fn admit(
    _open: usize,
    _unauthenticated_from_ip: usize,
    _settings: &Settings,
) -> Result<(), Crowded> {
    todo!()
}

/// Whether a session gives way to a new one when `threadnb` is reached (RELAY-5).
pub fn gives_way(_authenticated: bool, _idle: Duration) -> bool {
    todo!()
}
