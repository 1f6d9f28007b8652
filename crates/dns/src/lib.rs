//! Names: the resolver trait, MX with its addresses, and text zones for tests.
//!
//! This crate asks questions of name servers and gathers what a decision needs. What the answers
//! mean for mail (null MX, loops, forbidden networks, order) is decided in `galerne_core::mx`.
//! A name server that fails or keeps silent is always a temporary failure (T-62).
#![forbid(unsafe_code)]

mod destination;
mod hickory;
pub mod zone;

use std::fmt;
use std::net::IpAddr;

pub use destination::{Destination, DestinationFailure, find_destination, host_addresses};
pub use galerne_core::ports::BoxFuture;
pub use hickory::HickoryResolver;
pub use zone::ZoneResolver;

/// Asks for the records that mail needs.
pub trait Resolver: Send + Sync {
    /// The MX records of a domain, aliases followed.
    fn mx<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<MxLookup, LookupFailure>>;

    /// The IPv6 and IPv4 addresses of a host, aliases followed. Empty: the name exists without any.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupFailure>>;
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

/// A name as it is asked: lower case, no dot at the end.
pub(crate) fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
