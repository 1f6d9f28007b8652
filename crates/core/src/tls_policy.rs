//! What TLS must be towards one remote, and why: `routing.ssl` (RELAY-54, RELAY-55), DANE
//! (RFC 7672), MTA-STS (RFC 8461), REQUIRETLS (RFC 8689), passwords (ROUTE-41).
//!
//! Called by `outbound` before each hop, with what DNS and the policy of the domain say. Nothing
//! is looked up here, and no certificate is examined: [`Proof`] says which examination is due.

pub mod sts;
pub mod tlsa;

use std::fmt;
use std::sync::Arc;

use crate::refusal::{Code, Refusal};
use crate::settings::{RelayHost, Ssl};
use sts::{Mode, Policy};
use tlsa::TlsaSet;

/// What the sender asks of TLS for one message (RFC 8689).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: policies of the recipient's domain and `routing.ssl` hold.
    Nothing,
    /// REQUIRETLS at MAIL.
    Required,
    /// `TLS-Required: No` in the header: policies of the recipient's domain do not count.
    NotRequired,
}

impl Wish {
    /// REQUIRETLS at MAIL makes the header field mean nothing (RFC 8689 §4.1).
    pub fn of(requiretls: bool, header_says_no: bool) -> Wish {
        match (requiretls, header_says_no) {
            (true, _) => Wish::Required,
            (false, true) => Wish::NotRequired,
            (false, false) => Wish::Nothing,
        }
    }
}

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

/// For people: `required, certificate verified by dane`.
impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encryption = match self.encryption {
            Encryption::Never => return f.write_str("never"),
            Encryption::IfOffered => "when offered, else clear",
            Encryption::Required => "required",
            Encryption::Implicit => "from the first octet",
        };
        match &self.proof {
            Proof::None => write!(f, "{encryption}, certificate not verified"),
            proof => write!(f, "{encryption}, certificate verified by {}", proof.word()),
        }
    }
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

/// For people.
impl fmt::Display for Dane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dane::Silent => f.write_str("says nothing"),
            Dane::Unusable => f.write_str("TLSA records of which none can be used"),
            Dane::Records(set) => write!(f, "{} usable TLSA record(s)", set.records.len()),
            Dane::Failed(cause) => write!(f, "TLSA records cannot be had: {cause}"),
        }
    }
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

impl HostFacts {
    /// `loopback`: the address that is tried is one.
    pub fn of(host: &RelayHost, loopback: bool) -> HostFacts {
        HostFacts {
            implicit: host.port == 465,
            loopback,
            password: host.login.is_some() && host.password.is_some(),
            auth_in_clear: loopback || host.authclear,
            verify: host.verify,
        }
    }
}

/// An MX host as the policies see it.
#[derive(Clone, Copy, Debug)]
pub struct MxFacts<'a> {
    /// Lower case, without trailing dot.
    pub host: &'a str,
    /// DNSSEC proves that the domain names this host, or it is the domain itself.
    pub is_proved: bool,
    pub dane: &'a Dane,
    /// The policy of the recipient's domain.
    pub policy: Option<&'a Policy>,
}

const SSL: &str = "RELAY-55";
const REQUIRETLS: &str = "RFC 8689";

/// The demand on a session with a relay host. DANE and MTA-STS are about MX and do not apply.
///
/// # Errors
/// REQUIRETLS where TLS is switched off.
pub fn for_host(ssl: Ssl, wish: Wish, host: HostFacts) -> Result<Demand, Refusal> {
    if wish == Wish::Required {
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
/// off. What the sender does not require (`TLS-Required: No`) takes back what the recipient's
/// domain asserts, and nothing of our own settings (RFC 8689 §4.2.2). `verify` is `[rfmta]verify`:
/// whether `required` wants a proof.
///
/// # Errors
/// The host must not be used, or not now.
pub fn for_mx(ssl: Ssl, wish: Wish, verify: bool, mx: MxFacts<'_>) -> Result<Demand, Refusal> {
    if ssl == Ssl::Never {
        return match wish {
            Wish::Required => Err(switched_off()),
            _ => Ok(demand(Encryption::Never, Proof::None, SSL)),
        };
    }
    if wish != Wish::NotRequired
        && let Some(demand) = asserted(&mx)?
    {
        return match wish {
            Wish::Required => is_named(&mx).map(|()| demand),
            _ => Ok(demand),
        };
    }
    if wish == Wish::Required {
        is_named(&mx)?;
        return Ok(demand(Encryption::Required, Proof::Authority, REQUIRETLS));
    }
    Ok(match (ssl, mx.dane, wish) {
        (Ssl::Required, _, _) if verify => demand(Encryption::Required, Proof::Authority, SSL),
        (Ssl::Required, _, _) => demand(Encryption::Required, Proof::None, SSL),
        (_, _, Wish::NotRequired) => demand(Encryption::IfOffered, Proof::None, "RFC 8689 §4.2.2"),
        (_, Dane::Unusable, _) => demand(Encryption::Required, Proof::None, "RFC 7672 §2.2"),
        _ => demand(Encryption::IfOffered, Proof::None, SSL),
    })
}

/// The proof that the recipient's domain asserts: by DANE, or by an enforced MTA-STS policy.
fn asserted(mx: &MxFacts<'_>) -> Result<Option<Demand>, Refusal> {
    let host = mx.host;
    match mx.dane {
        Dane::Failed(cause) => {
            let text = format!("the TLSA records of {host} cannot be had: {cause}");
            return Err(not_now(text, "RFC 7672 §2.1"));
        }
        Dane::Records(set) => {
            let proof = Proof::Dane(set.clone());
            return Ok(Some(demand(Encryption::Required, proof, "RFC 7672 (DANE)")));
        }
        Dane::Silent | Dane::Unusable => {}
    }
    let Some(policy) = mx.policy.filter(|policy| policy.mode == Mode::Enforce) else {
        return Ok(None);
    };
    if !policy.matches(host) {
        let text = format!("{host} is no MX of the domain by its MTA-STS policy");
        return Err(not_now(text, "RFC 8461 §4.1"));
    }
    let rule = "RFC 8461 (MTA-STS)";
    Ok(Some(demand(Encryption::Required, Proof::MtaSts, rule)))
}

/// Whether the host is one of the domain's beyond doubt: by DNSSEC, or by an MTA-STS policy in
/// whatever mode (RFC 8689 §4.2.1, step 2). The certificate proves no more than the host's name.
fn is_named(mx: &MxFacts<'_>) -> Result<(), Refusal> {
    let policy = mx.policy.filter(|policy| policy.mode != Mode::None);
    if mx.is_proved || policy.is_some_and(|policy| policy.matches(mx.host)) {
        return Ok(());
    }
    let host = mx.host;
    let text = format!(
        "REQUIRETLS was asked for, and neither DNSSEC nor an MTA-STS policy proves that {host} is \
         an MX of the domain"
    );
    Err(not_now(text, "RFC 8689 §4.2.1"))
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
    let text = "5.7.10 X-SMTP-R-API REQUIRETLS was asked for, and routing.ssl switches TLS off";
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
