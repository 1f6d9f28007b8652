//! What TLS must be towards one remote, and why: `routing.ssl` (RELAY-54, RELAY-55), DANE
//! (RFC 7672), MTA-STS (RFC 8461), REQUIRETLS (RFC 8689), passwords (ROUTE-41).
//!
//! Called by `outbound` before each hop, with what DNS and the policy of the domain say. Nothing
//! is looked up here, and no certificate is examined: [`Proof`] says which examination is due.

pub mod sts;
pub mod tlsa;

use std::sync::Arc;

use crate::refusal::{Code, Refusal};
use crate::settings::Ssl;
use sts::{Mode, Policy};
use tlsa::TlsaSet;

/// How a session is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// Never.
    Never,
    /// STARTTLS when offered; clear when it is not, or when it fails.
    IfOffered,
    /// STARTTLS or nothing.
    Required,
    /// From the first octet (port 465, CONF-77).
    Implicit,
}

/// What must vouch for the remote's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Nothing: encryption against eavesdropping only.
    None,
    /// A certification authority of the system or of `cafile`, for the name of the host.
    Authority,
    /// The same, because the policy of the recipient's domain says so.
    MtaSts,
    /// TLSA records.
    Dane(Arc<TlsaSet>),
}

impl Proof {
    /// The word for logs: what the certificate was verified by.
    pub fn word(&self) -> &'static str {
        match self {
            Proof::None => "none",
            Proof::Authority => "ca",
            Proof::MtaSts => "mta-sts",
            Proof::Dane(_) => "dane",
        }
    }
}

/// What a session must be, and the rule that wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub encryption: Encryption,
    pub proof: Proof,
    pub rule: &'static str,
}

/// What DNSSEC and the TLSA records say of one MX host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dane {
    /// No DNSSEC all the way, or no TLSA record: DANE says nothing.
    Silent,
    /// Records, and none that can be used: TLS without a proof (RFC 7672 §2.2).
    Unusable,
    Records(Arc<TlsaSet>),
    /// The records could not be had, or are bogus: the host must not be used now (RFC 7672 §2.1).
    Failed(String),
}

/// A relay host as the policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct HostFacts {
    /// Port 465.
    pub implicit: bool,
    pub loopback: bool,
    /// We log in there.
    pub password: bool,
    /// The password may be sent without TLS.
    pub auth_in_clear: bool,
    /// `verify` beside `authclear`.
    pub verify: bool,
}

const SSL: &str = "RELAY-55";
const REQUIRETLS: &str = "RFC 8689";

/// The demand on a session with a relay host. DANE and MTA-STS are about MX and do not apply.
///
/// # Errors
/// REQUIRETLS where TLS is switched off.
pub fn for_host(ssl: Ssl, requiretls: bool, host: HostFacts) -> Result<Demand, Refusal> {
    if requiretls {
        if ssl == Ssl::Never && !host.implicit {
            return Err(switched_off());
        }
        let encryption = match host.implicit {
            true => Encryption::Implicit,
            false => Encryption::Required,
        };
        return Ok(demand(encryption, Proof::Authority, REQUIRETLS));
    }
    // A password goes to a verified peer only, and `required` means the right one (ROUTE-41,
    // RELAY-55); a loopback peer needs no proof.
    let due = host.password || ssl == Ssl::Required;
    let proof = match due && host.verify && !host.loopback {
        true => Proof::Authority,
        false => Proof::None,
    };
    Ok(match (host.implicit, ssl) {
        (true, _) => demand(Encryption::Implicit, proof, "CONF-77"),
        (_, Ssl::Never) => demand(Encryption::Never, Proof::None, SSL),
        (_, Ssl::Required) => demand(Encryption::Required, proof, SSL),
        (_, Ssl::Opportunistic) if host.password && !host.auth_in_clear => {
            demand(Encryption::Required, proof, "ROUTE-41")
        }
        (_, Ssl::Opportunistic) => demand(Encryption::IfOffered, proof, SSL),
    })
}

/// The demand on a session with an MX host.
///
/// DANE comes before MTA-STS (RFC 8461 §2), both before `routing.ssl`, which only `false` switches
/// off. `verify` is `[rfmta]verify`: whether `required` wants a proof. `policy` is that of the
/// recipient's domain.
///
/// # Errors
/// The host must not be used, or not now.
pub fn for_mx(
    ssl: Ssl,
    requiretls: bool,
    verify: bool,
    host: &str,
    dane: &Dane,
    policy: Option<&Policy>,
) -> Result<Demand, Refusal> {
    if ssl == Ssl::Never {
        return match requiretls {
            true => Err(switched_off()),
            false => Ok(demand(Encryption::Never, Proof::None, SSL)),
        };
    }
    match dane {
        Dane::Failed(cause) => {
            let text = format!("the TLSA records of {host} cannot be had: {cause}");
            return Err(not_now(text, "RFC 7672 §2.1"));
        }
        Dane::Records(set) => {
            let proof = Proof::Dane(set.clone());
            return Ok(demand(Encryption::Required, proof, "RFC 7672 (DANE)"));
        }
        Dane::Silent | Dane::Unusable => {}
    }
    if let Some(policy) = policy.filter(|policy| policy.mode == Mode::Enforce) {
        if !policy.matches(host) {
            let text = format!("{host} is no MX of the domain by its MTA-STS policy");
            return Err(not_now(text, "RFC 8461 §4.1"));
        }
        let proof = Proof::MtaSts;
        return Ok(demand(Encryption::Required, proof, "RFC 8461 (MTA-STS)"));
    }
    Ok(match (requiretls, ssl, dane) {
        (true, _, _) => demand(Encryption::Required, Proof::Authority, REQUIRETLS),
        (_, Ssl::Required, _) if verify => demand(Encryption::Required, Proof::Authority, SSL),
        (_, Ssl::Required, _) => demand(Encryption::Required, Proof::None, SSL),
        (_, _, Dane::Unusable) => demand(Encryption::Required, Proof::None, "RFC 7672 §2.2"),
        _ => demand(Encryption::IfOffered, Proof::None, SSL),
    })
}

/// The answer when a session under a demand came to nothing: the host offers no TLS, or its
/// certificate is not proved. Nothing goes out in clear (T-12).
pub fn broken(host: &str, why: &str, demand: &Demand) -> Refusal {
    let text = format!("no TLS session with {host}: {why} ({})", demand.rule);
    not_now(text, demand.rule)
}

/// The answer when the only remote that could be reached does not know REQUIRETLS.
pub fn requiretls_not_offered(host: &str) -> Refusal {
    let text = format!("5.7.30 X-SMTP-R-API {host} does not offer REQUIRETLS");
    Refusal::standard(550, text, REQUIRETLS)
}

fn switched_off() -> Refusal {
    let text = "5.7.30 X-SMTP-R-API REQUIRETLS was asked for, and routing.ssl switches TLS off";
    Refusal::standard(550, text, REQUIRETLS)
}

fn not_now(text: String, rule: &str) -> Refusal {
    Refusal::new(Code::NoConnection, text, rule)
}

fn demand(encryption: Encryption, proof: Proof, rule: &'static str) -> Demand {
    Demand {
        encryption,
        proof,
        rule,
    }
}

#[cfg(test)]
mod tests;
