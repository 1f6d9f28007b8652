//! Who a client is and what it may do: accounts by login and by address, session limits, and the
//! judgement of each recipient at RCPT. Called by the session driver in `galerne-inbound`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use galerne_smtp::{Mailbox, Reply};
use subtle::ConstantTimeEq;

use crate::ports::Lists;
use crate::refusal::{Code, Refusal};
use crate::settings::{Account, Network, RfRelay, Secret, Settings};

/// The accounts of one settings snapshot, indexed by login and by client network.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Keys in lower case.
    logins: HashMap<String, Arc<Account>>,
    /// Longest prefix first.
    networks: Vec<(Network, Arc<Account>)>,
    /// Some account may log in without TLS.
    some_in_clear: bool,
    /// What an unknown login is compared with, so that it costs what a known one costs.
    decoy: Option<Secret>,
}

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
    /// 235 2.7.0.
    Accepted(Arc<Account>),
    /// 535 5.7.8.
    Refused,
    /// 538 5.7.11 (RELAY-11), whether the password is right or not.
    NeedsTls,
}

impl Accounts {
    /// Indexes the accounts of `settings`.
    pub fn new(settings: &Settings) -> Self {
        let mut accounts = Accounts::default();
        for account in &settings.accounts {
            accounts
                .networks
                .extend(account.smtpip.iter().map(|n| (*n, account.clone())));
            let (Some(login), Some(password)) = (&account.login, &account.password) else {
                continue;
            };
            accounts
                .logins
                .insert(login.to_lowercase(), account.clone());
            accounts.some_in_clear |= !account.smtpssl;
            // A hash is dearer than a comparison, so it makes the better decoy.
            if accounts.decoy.is_none() || hash_of(password).is_some() {
                accounts.decoy = Some(password.clone());
            }
        }
        accounts
            .networks
            .sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix));
        accounts
    }

    /// The account whose `smtpip` holds the address; the longest prefix wins (CONF-92). `tls`:
    /// the session is encrypted. `smtpssl` applies unless the network is loopback.
    pub fn by_address(&self, peer: IpAddr, tls: bool) -> ByAddress {
        match self
            .networks
            .iter()
            .find(|(network, _)| holds(network, peer))
        {
            None => ByAddress::Nobody,
            Some((network, account)) if account.smtpssl && !tls && !is_loopback(network) => {
                ByAddress::NeedsTls(account.clone())
            }
            Some((_, account)) => ByAddress::Account(account.clone()),
        }
    }

    /// The account of that login, without regard to case.
    pub fn by_login(&self, login: &str) -> Option<&Arc<Account>> {
        self.logins.get(&login.to_lowercase())
    }

    /// Whether AUTH is listed in the answer to EHLO: over TLS, and in clear only if some account
    /// has `smtpssl` = 0 (RELAY-10, RELAY-11).
    pub fn auth_offered(&self, tls: bool) -> bool {
        tls || self.some_in_clear
    }

    /// Judges login and password. An unknown login costs the same work as a known one.
    ///
    /// May take as long as one argon2 computation: not for a task that serves others.
    pub fn authenticate(&self, login: &str, password: &[u8], tls: bool) -> Login {
        let account = self.by_login(login);
        if let Some(account) = account
            && account.smtpssl
            && !tls
        {
            return Login::NeedsTls;
        }
        let secret = account
            .and_then(|a| a.password.as_ref())
            .or(self.decoy.as_ref());
        let right = secret.is_some_and(|secret| verify_password(secret, password));
        if !right && secret.is_some_and(|secret| hash_of(secret).is_none()) {
            // A password kept in clear is compared in no time: that would tell that it is one.
            let decoy = self.decoy.as_ref();
            let _ = decoy.map(|decoy| hash_of(decoy).is_some() && verify_password(decoy, password));
        }
        match account {
            Some(account) if right => Login::Accepted(account.clone()),
            _ => Login::Refused,
        }
    }
}

/// Compares in constant time; `{argon2}` secrets are PHC strings (CONF-53). An empty secret and a
/// broken hash match nothing.
pub fn verify_password(secret: &Secret, password: &[u8]) -> bool {
    if let Some(phc) = hash_of(secret) {
        return PasswordHash::new(phc)
            .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok());
    }
    // Equal lengths are made by hashing, so that the time does not tell the length either.
    let digest =
        |octets: &[u8]| -> [u8; 32] { <sha2::Sha256 as sha2::Digest>::digest(octets).into() };
    let same = digest(secret.0.as_bytes()).ct_eq(&digest(password));
    bool::from(same) && !secret.0.is_empty()
}

/// A password as `{argon2}$argon2id$…`, with the parameters that `verify_password` computes in a
/// few hundredths of a second. `salt`: 16 random octets. `None`: argon2 does not take it (a password
/// beyond 4 GiB, a salt of less than 8 octets).
pub fn hash_password(password: &[u8], salt: &[u8]) -> Option<Secret> {
    let hash = Argon2::default().hash_password_with_salt(password, salt);
    hash.ok().map(|phc| Secret(format!("{{argon2}}{phc}")))
}

/// The PHC string of an `{argon2}` secret.
fn hash_of(secret: &Secret) -> Option<&str> {
    secret.0.strip_prefix("{argon2}").map(str::trim)
}

/// Whether the address lies in the network.
pub fn holds(network: &Network, address: IpAddr) -> bool {
    match (network.address, address.to_canonical()) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            let differing = u32::from(net) ^ u32::from(ip);
            differing.leading_zeros() >= u32::from(network.prefix.min(32))
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => {
            let differing = u128::from(net) ^ u128::from(ip);
            differing.leading_zeros() >= u32::from(network.prefix.min(128))
        }
        _ => false,
    }
}

/// Whether all of a network is loopback.
fn is_loopback(network: &Network) -> bool {
    match network.address {
        IpAddr::V4(ip) => ip.is_loopback() && network.prefix >= 8,
        IpAddr::V6(ip) => ip.is_loopback() && network.prefix == 128,
    }
}

/// A recipient as RCPT named it.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    Mailbox(&'a Mailbox),
    /// It parses, but such an address cannot exist: `a@b..c`, `a@`, `@b` (RELAY-78).
    Impossible(&'a str),
}

/// Judges one recipient at RCPT (RELAY-13, RELAY-78).
///
/// Nobody's client may send to hosted sender domains alone, and there are none yet.
pub fn judge_recipient(
    account: Option<&Account>,
    recipient: Named<'_>,
    lists: &dyn Lists,
) -> Result<(), Refusal> {
    let Some(account) = account else {
        return Err(Refusal::standard(550, "5.7.1 relaying denied", "RELAY-13"));
    };
    let mailbox = match recipient {
        Named::Mailbox(mailbox) => mailbox,
        Named::Impossible(text) => {
            let text = format!("recipient address {text} cannot exist");
            return Err(Refusal::new(Code::BadRecipient, text, "RELAY-78"));
        }
    };
    match lists.listed_in(mailbox.as_str(), &account.filter) {
        None => Ok(()),
        Some(list) => Err(Refusal::new(
            Code::Listed,
            format!("recipient refused by list {list}"),
            format!("{} [list] filter: {list}", account.file),
        )),
    }
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
        match self {
            Crowded::Server => Reply::new(421, "4.3.2 too many sessions, try again later"),
            Crowded::Address => Reply::new(
                421,
                "4.7.0 too many sessions from your address, try again later",
            ),
        }
    }
}

/// Whether a new connection gets a session. The counts are without it; sessions of an account
/// known by its address count as authenticated.
pub fn admit(open: usize, unauthenticated_from_ip: usize, relay: &RfRelay) -> Result<(), Crowded> {
    let per_address = relay.maxperip;
    // The address first: a flood from one place must not cost others their sessions (T-19).
    if per_address > 0 && unauthenticated_from_ip >= per_address {
        return Err(Crowded::Address);
    }
    if open >= relay.threadnb {
        return Err(Crowded::Server);
    }
    Ok(())
}

/// Longest idle time of an unauthenticated session that keeps its place.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a session gives way to a new one, with 421, when `threadnb` is reached (RELAY-5).
pub fn gives_way(authenticated: bool, idle: Duration) -> bool {
    !authenticated && idle > PATIENCE
}

#[cfg(test)]
mod tests;
