//! Where mail for a domain goes: lookups in the right order, bounded; the rules are core's.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use galerne_core::mx::{self, HostAnswer, MxAnswer, MxRecord, MxRefusal, Own};

use crate::{BoxFuture, HostAddresses, LookupFailure, MxLookup, Resolver};

/// Hosts whose addresses are looked up at the same time.
const AT_ONCE: usize = 8;

/// The hosts that take mail for a domain, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Preference, name, addresses; only what may be contacted. An implicit MX (A/AAAA of the
    /// domain) and an address literal have preference 0.
    pub hosts: Vec<(u16, Arc<str>, Vec<IpAddr>)>,
    /// All MX names with their preference, in the same order, also those whose address failed: for
    /// finding the group (FLOW-55). Empty for an implicit MX and for an address literal.
    pub names: Vec<(u16, Arc<str>)>,
    /// Nobody but the domain can have named these hosts: its MX are signed, or it is the host itself.
    pub are_proved: bool,
    /// The hosts that DNSSEC vouches for, from the domain to the host (RFC 7672 §2.2).
    pub secure: Vec<SecureHost>,
}

/// A host to which DANE applies if it has TLSA records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureHost {
    pub host: Arc<str>,
    /// Where its TLSA records may be, best first: the name at the end of secure aliases, its own.
    pub bases: Vec<String>,
}

/// Why there is no destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationFailure {
    /// A decision: no such domain, null MX, a loop, a forbidden network. Never
    /// `MxRefusal::TemporaryFailure`.
    Refused(MxRefusal),
    /// The name servers gave no answer now; with the cause in words (451 9.3.4).
    Temporary(String),
}

/// The hosts that take mail for `domain` (lower case, A-labels), by RFC 5321 §5.1 (FLOW-60).
///
/// MX first, then A and AAAA of each host, several at once. A host whose addresses cannot be had
/// does not hide the others. An address literal is its own host. `entropy` shuffles hosts of equal
/// preference.
pub async fn find_destination(
    resolver: &dyn Resolver,
    domain: &str,
    own: Own<'_>,
    entropy: &mut (dyn FnMut() -> u64 + Send),
) -> Result<Destination, DestinationFailure> {
    if domain.starts_with('[') {
        let address =
            literal(domain).ok_or(DestinationFailure::Refused(MxRefusal::NothingUsable))?;
        let host = (0, domain.to_owned(), HostAnswer::Addresses(vec![address]));
        let found = Found {
            hosts: vec![host],
            secure: Vec::new(),
            cause: None,
        };
        return judge(found, Vec::new(), true, own);
    }
    let (answer, secure) = match resolver.mx(domain).await {
        Ok(found) => match found.value {
            MxLookup::Records(records) => {
                let record = |(preference, host)| MxRecord { preference, host };
                let records = records.into_iter().map(record).collect();
                (MxAnswer::Records(records), found.secure)
            }
            // Whether the domain itself is secure, its addresses will tell.
            MxLookup::NoRecords => (MxAnswer::NoRecords, true),
            MxLookup::NoSuchDomain => (MxAnswer::NoSuchDomain, false),
        },
        Err(LookupFailure::NoSuchName) => (MxAnswer::NoSuchDomain, false),
        Err(LookupFailure::Temporary(cause)) => return Err(DestinationFailure::Temporary(cause)),
    };
    let selected =
        mx::select(domain, &answer, &mut *entropy).map_err(DestinationFailure::Refused)?;
    let names = match answer {
        MxAnswer::Records(_) => selected
            .iter()
            .map(|(p, host)| (*p, Arc::from(host.as_str())))
            .collect(),
        _ => Vec::new(),
    };
    let found = look_up(resolver, selected, secure && resolver.dnssec()).await;
    judge(found, names, secure, own)
}

/// What the look-ups of addresses gave.
struct Found {
    /// In their order.
    hosts: Vec<(u16, String, HostAnswer)>,
    secure: Vec<SecureHost>,
    /// The first temporary failure.
    cause: Option<String>,
}

/// Addresses of all hosts. `secure`: it is proved that they are the hosts.
async fn look_up(resolver: &dyn Resolver, selected: Vec<(u16, String)>, secure: bool) -> Found {
    let mut hosts = Vec::with_capacity(selected.len());
    let mut proved = Vec::new();
    let mut cause = None;
    for some in selected.chunks(AT_ONCE) {
        let lookups = some
            .iter()
            .map(|(_, host)| resolver.addresses(host))
            .collect();
        for ((preference, host), answer) in some.iter().zip(together(lookups).await) {
            let answer = match answer {
                Ok(found) => {
                    if secure && let Some(bases) = bases(resolver, host, &found).await {
                        let host = host.as_str().into();
                        proved.push(SecureHost { host, bases });
                    }
                    HostAnswer::Addresses(found.addresses)
                }
                Err(LookupFailure::NoSuchName) => HostAnswer::Addresses(Vec::new()),
                Err(LookupFailure::Temporary(why)) => {
                    cause.get_or_insert(why);
                    HostAnswer::TemporaryFailure
                }
            };
            hosts.push((*preference, host.clone(), answer));
        }
    }
    Found {
        hosts,
        secure: proved,
        cause,
    }
}

/// Where the TLSA records of a host may be; `None`: nowhere, its addresses are not secure
/// (RFC 7672 §2.2.2).
async fn bases(resolver: &dyn Resolver, host: &str, found: &HostAddresses) -> Option<Vec<String>> {
    match (&found.canonical, found.secure) {
        (None, true) => Some(vec![host.to_owned()]),
        (Some(canonical), true) => Some(vec![canonical.clone(), host.to_owned()]),
        // An alias that is secure itself, into a zone that is not.
        (Some(_), false) if matches!(resolver.is_secure_alias(host).await, Ok(true)) => {
            Some(vec![host.to_owned()])
        }
        _ => None,
    }
}

fn judge(
    found: Found,
    names: Vec<(u16, Arc<str>)>,
    are_proved: bool,
    own: Own<'_>,
) -> Result<Destination, DestinationFailure> {
    let Found { secure, cause, .. } = found;
    match mx::exchangers(found.hosts, own) {
        Ok(found) => {
            let host = |e: mx::Exchanger| (e.preference, Arc::from(e.host), e.addresses);
            Ok(Destination {
                hosts: found.into_iter().map(host).collect(),
                names,
                are_proved,
                secure,
            })
        }
        Err(MxRefusal::TemporaryFailure) => Err(DestinationFailure::Temporary(
            cause.unwrap_or_else(|| "DNS failed".to_owned()),
        )),
        Err(refusal) => Err(DestinationFailure::Refused(refusal)),
    }
}

/// Runs all at once; the results stand in the order of the futures.
async fn together<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (future, None)).collect();
    poll_fn(|context| {
        for (future, result) in running.iter_mut().filter(|(_, result)| result.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        match running.iter().all(|(_, result)| result.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|(_, result)| result)
        .collect()
}

/// The addresses of a relay host: an address is used directly, a name is looked up by A and AAAA,
/// never by MX (ROUTE-38).
pub async fn host_addresses(
    resolver: &dyn Resolver,
    host: &str,
) -> Result<Vec<IpAddr>, LookupFailure> {
    match literal(host) {
        Some(address) => Ok(vec![address]),
        None => Ok(resolver.addresses(host).await?.addresses),
    }
}

/// The address in `192.0.2.1`, `[192.0.2.1]`, `2001:db8::1` or `[IPv6:2001:db8::1]`.
pub fn literal(host: &str) -> Option<IpAddr> {
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
    six: Result<HostAddresses, LookupFailure>,
    four: Result<HostAddresses, LookupFailure>,
) -> Result<HostAddresses, LookupFailure> {
    use LookupFailure::{NoSuchName, Temporary};
    match (six, four) {
        (Ok(six), Ok(four)) => Ok(HostAddresses {
            // A family without addresses proves nothing, and takes nothing away.
            secure: match (six.addresses.is_empty(), four.addresses.is_empty()) {
                (false, false) => six.secure && four.secure,
                (false, true) => six.secure,
                (true, false) => four.secure,
                (true, true) => false,
            },
            canonical: six.canonical.or(four.canonical),
            addresses: [six.addresses, four.addresses].concat(),
        }),
        (Ok(known), Err(Temporary(_))) | (Err(Temporary(_)), Ok(known))
            if !known.addresses.is_empty() =>
        {
            Ok(known)
        }
        (Err(Temporary(cause)), _) | (_, Err(Temporary(cause))) => Err(Temporary(cause)),
        (Ok(known), Err(NoSuchName)) | (Err(NoSuchName), Ok(known)) => Ok(known),
        (Err(NoSuchName), Err(NoSuchName)) => Err(NoSuchName),
    }
}

#[cfg(test)]
mod tests;
