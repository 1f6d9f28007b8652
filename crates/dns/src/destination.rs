//! Where mail for a domain goes: lookups in the right order, bounded; the rules are core's.

use std::net::IpAddr;
use std::sync::Arc;

use galerne_core::refusal::Refusal;

use crate::{LookupFailure, Resolver};

/// The hosts that take mail for a domain, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Preference, name, addresses. An implicit MX (A/AAAA of the domain) has preference 0.
    pub hosts: Vec<(u16, Arc<str>, Vec<IpAddr>)>,
}

/// Why there is no destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationFailure {
    /// A decision: no such domain, null MX, a loop, a forbidden network.
    Refused(Refusal),
    /// The name servers gave no answer now; with the cause in words (451 9.3.4).
    Temporary(String),
}

/// The addresses of a relay host: an address is used directly, a name is looked up by A and AAAA,
/// never by MX (ROUTE-38).
pub async fn host_addresses(
    resolver: &dyn Resolver,
    host: &str,
) -> Result<Vec<IpAddr>, LookupFailure> {
    match literal(host) {
        Some(address) => Ok(vec![address]),
        None => resolver.addresses(host).await,
    }
}

/// The address in `192.0.2.1`, `[192.0.2.1]`, `2001:db8::1` or `[IPv6:2001:db8::1]`.
fn literal(host: &str) -> Option<IpAddr> {
    let inner = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let tagged = inner
        .get(..5)
        .is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    if tagged {
        inner.get(5..)?.parse().ok().map(IpAddr::V6)
    } else {
        inner.parse().ok()
    }
}

/// One answer out of those for AAAA and A: what is known is used, and "none" is believed only if
/// both families say so.
pub(crate) fn both_families(
    six: Result<Vec<IpAddr>, LookupFailure>,
    four: Result<Vec<IpAddr>, LookupFailure>,
) -> Result<Vec<IpAddr>, LookupFailure> {
    use LookupFailure::{NoSuchName, Temporary};
    match (six, four) {
        (Ok(six), Ok(four)) => Ok([six, four].concat()),
        (Ok(known), Err(Temporary(_))) | (Err(Temporary(_)), Ok(known)) if !known.is_empty() => {
            Ok(known)
        }
        (Err(Temporary(cause)), _) | (_, Err(Temporary(cause))) => Err(Temporary(cause)),
        (Ok(known), Err(NoSuchName)) | (Err(NoSuchName), Ok(known)) => Ok(known),
        (Err(NoSuchName), Err(NoSuchName)) => Err(NoSuchName),
    }
}
