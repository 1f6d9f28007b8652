//! Names: the resolver trait, MX with its addresses, and text zones for tests.
//!
//! This crate asks questions of name servers and gathers what a decision needs. What the answers
//! mean for mail (null MX, loops, forbidden networks, order) is decided in `galerne_core::mx`.
//! A name server that fails or keeps silent is always a temporary failure (T-62).
#![forbid(unsafe_code)]

mod destination;
mod hickory;
mod kept;
mod loopback;
mod provider;
pub mod zone;

use std::fmt;
use std::net::IpAddr;

pub use destination::{
    Destination, DestinationFailure, SecureHost, find_destination, host_addresses, literal,
};
pub use galerne_core::ports::BoxFuture;
pub use galerne_core::tls_policy::tlsa::TlsaRecord;
pub use hickory::{HickoryResolver, check_trust_anchor};
pub use zone::ZoneResolver;

/// Asks for the records that mail needs.
pub trait Resolver: Send + Sync {
    /// The MX records of a domain, aliases followed.
    fn mx<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Proved<MxLookup>, LookupFailure>>;

    /// The IPv6 and IPv4 addresses of a host, aliases followed.
    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<HostAddresses, LookupFailure>>;

    /// The TXT records at a name, the strings of each joined. Empty: the name has none.
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Vec<u8>>, LookupFailure>>;

    /// The names of an address by its reverse zone (PTR), lower case. Empty: it has none.
    fn names<'a>(&'a self, address: IpAddr) -> BoxFuture<'a, Result<Vec<String>, LookupFailure>>;

    /// The TLSA records at a name, aliases followed. Empty: the name has none.
    fn tlsa<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Proved<Vec<TlsaRecord>>, LookupFailure>>;

    /// Whether the name is an alias, and DNSSEC proves that; where it leads says nothing.
    fn is_secure_alias<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, LookupFailure>>;

    /// Whether an answer can be secure at all (`[dns]dnssec`).
    fn dnssec(&self) -> bool;
}

/// An answer, and whether DNSSEC proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved<T> {
    pub value: T,
    /// Signed all the way from a trust anchor, aliases included. What is not there is never secure.
    pub secure: bool,
}

/// The addresses of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddresses {
    /// Empty: the name exists without any.
    pub addresses: Vec<IpAddr>,
    /// DNSSEC proves them, and the aliases that lead to them.
    pub secure: bool,
    /// The name at the end of the aliases, if the host is one; lower case.
    pub canonical: Option<String>,
}

/// What a name server says about the MX of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxLookup {
    /// Preference and host, as published; the null MX is host `.`.
    Records(Vec<(u16, String)>),
    /// The name exists and has no MX (NODATA).
    NoRecords,
    /// The name does not exist (NXDOMAIN).
    NoSuchDomain,
}

/// Why a lookup gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupFailure {
    /// Time-out, SERVFAIL, REFUSED, a lame server, a CNAME loop: it may work later. With the cause
    /// in words.
    Temporary(String),
    /// The name does not exist, or cannot exist.
    NoSuchName,
}

impl fmt::Display for LookupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupFailure::Temporary(cause) => f.write_str(cause),
            LookupFailure::NoSuchName => f.write_str("no such name"),
        }
    }
}

impl std::error::Error for LookupFailure {}

/// The name in the reverse zone of an address (RFC 1035 §3.5, RFC 3596 §2.5).
pub(crate) fn reverse_name(address: IpAddr) -> String {
    let (mut labels, zone): (Vec<String>, _) = match address {
        IpAddr::V4(address) => {
            let octets = address.octets();
            (octets.iter().map(u8::to_string).collect(), "in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let halves = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
            (halves.map(|half| format!("{half:x}")).collect(), "ip6.arpa")
        }
    };
    labels.reverse();
    labels.push(zone.to_owned());
    labels.join(".")
}

/// A name as it is asked: lower case, no dot at the end.
pub(crate) fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
