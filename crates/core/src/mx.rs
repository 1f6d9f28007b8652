//! From looked-up data to the hosts that may be tried: RFC 5321 §5.1, RFC 7505, FLOW-60.
//!
//! In two steps, so that the addresses of only a few hosts need to be looked up: [`select`] orders
//! the MX records of a domain, [`exchangers`] takes the addresses of the selected hosts and leaves
//! out what must not be tried. Hosts of hosts/ and routes do not come through here.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use galerne_smtp::Reply;

use crate::refusal::{Code, Refusal};

/// Most hosts of a domain that are used, the best preferences first.
pub const MAX_HOSTS: usize = 32;
/// Most addresses of a domain that are used.
pub const MAX_ADDRESSES: usize = 64;

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxRecord {
    pub preference: u16,
    /// As DNS gave it; `.` (or empty) is the null MX.
    pub host: String,
}

/// What the look-up of a domain's MX gave. A temporary failure does not come here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    Records(Vec<MxRecord>),
    /// The domain exists (or may exist) and has no MX record: its own addresses count.
    NoRecords,
    NoSuchDomain,
}

/// What the look-up of one host's A and AAAA gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAnswer {
    /// In the order in which they are to be tried; empty: the host has none.
    Addresses(Vec<IpAddr>),
    /// DNS failed for this host; the others may still serve.
    TemporaryFailure,
}

/// One host that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanger {
    pub preference: u16,
    /// Lower case, without trailing dot.
    pub host: String,
    /// At least one.
    pub addresses: Vec<IpAddr>,
}

/// What this server is, as far as loops are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Every address and port on which a listener of ours answers; `0.0.0.0` and `[::]` stand for
    /// all of `outbounds` and for loopback.
    pub listeners: &'a [SocketAddr],
    /// The addresses of `[IP]`.
    pub outbounds: &'a [IpAddr],
    /// The port on which MX hosts are contacted (`[rfmta]mxport`).
    pub port: u16,
}

/// Why a domain cannot be delivered to by MX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxRefusal {
    /// The domain publishes that it takes no mail (RFC 7505).
    NullMx,
    NoSuchDomain,
    /// Neither an MX nor an address that could be used.
    NothingUsable,
    /// Every address lies in a network that must not be contacted; one of them.
    Forbidden(IpAddr),
    /// The best remaining host is this server.
    Loop,
    /// No address is known because DNS failed.
    TemporaryFailure,
}

impl MxRefusal {
    /// What the client is told about `domain`.
    pub fn refusal(&self, domain: &str) -> Refusal {
        let none = |text: String| Refusal::new(Code::NoSuchDomain, text, "FLOW-60");
        match self {
            MxRefusal::NullMx => none(format!("domain {domain} accepts no mail (null MX)")),
            MxRefusal::NoSuchDomain => none(format!("domain {domain} does not exist")),
            MxRefusal::NothingUsable => none(format!("domain {domain} has no usable mail host")),
            MxRefusal::Forbidden(address) => none(format!(
                "mail host of {domain} has the address {address}, which is not public"
            )),
            MxRefusal::Loop => {
                let text =
                    format!("5.4.6 X-SMTP-R-API mail for {domain} loops back to this server");
                Refusal::standard(554, text, "FLOW-60")
            }
            MxRefusal::TemporaryFailure => Refusal::new(
                Code::DnsFailed,
                format!("DNS failed for the mail hosts of {domain}"),
                "RELAY-77",
            ),
        }
    }
}

/// The hosts of a domain in the order in which they are to be tried.
///
/// Equal preferences are shuffled (RFC 5321 §5.1). Names that cannot be host names, among them
/// address literals, are left out; of the rest the best [`MAX_HOSTS`] stay. Without MX records the
/// domain itself is the host.
pub fn select(
    domain: &str,
    answer: &MxAnswer,
    entropy: &mut dyn FnMut() -> u64,
) -> Result<Vec<(u16, String)>, MxRefusal> {
    let records = match answer {
        MxAnswer::NoSuchDomain => return Err(MxRefusal::NoSuchDomain),
        MxAnswer::Records(records) if !records.is_empty() => records,
        MxAnswer::Records(_) | MxAnswer::NoRecords => {
            let host = host_name(domain).ok_or(MxRefusal::NothingUsable)?;
            return Ok(vec![(0, host)]);
        }
    };
    if records.iter().all(|r| is_null(&r.host)) {
        return Err(MxRefusal::NullMx);
    }
    let usable = records
        .iter()
        .filter_map(|r| host_name(&r.host).map(|host| (r.preference, host)));
    let mut keyed: Vec<(u16, u64, String)> = usable
        .map(|(preference, host)| (preference, entropy(), host))
        .collect();
    keyed.sort();
    let mut seen = HashSet::new();
    keyed.retain(|(_, _, host)| seen.insert(host.clone()));
    keyed.truncate(MAX_HOSTS);
    if keyed.is_empty() {
        return Err(MxRefusal::NothingUsable);
    }
    Ok(keyed
        .into_iter()
        .map(|(preference, _, host)| (preference, host))
        .collect())
}

/// The hosts with the addresses that may be contacted.
///
/// `hosts` are those of [`select`], in that order, with their addresses. If this server is among
/// them, it and every host with the same or a worse preference is left out (RFC 5321 §5.1); it is
/// a loop only if none is left. Then addresses in networks that no public mail host can have are
/// left out, unless an address of `[IP]` lies in a network of the same class (FLOW-60).
pub fn exchangers(
    hosts: Vec<(u16, String, HostAnswer)>,
    own: Own<'_>,
) -> Result<Vec<Exchanger>, MxRefusal> {
    let temporary = hosts
        .iter()
        .any(|(_, _, answer)| *answer == HostAnswer::TemporaryFailure);
    let ours = hosts
        .iter()
        .filter(|(_, _, answer)| addresses(answer).iter().any(|a| own.answers_at(*a)));
    let limit = ours.map(|(preference, _, _)| *preference).min();
    let better = hosts
        .into_iter()
        .filter(|(preference, _, _)| limit.is_none_or(|l| *preference < l));

    let mut room = MAX_ADDRESSES;
    let mut forbidden = None;
    let mut found = Vec::new();
    let mut any = false;
    for (preference, host, answer) in better {
        any = true;
        let mut usable: Vec<IpAddr> = Vec::new();
        for &address in addresses(&answer) {
            if own.forbids(address) {
                forbidden.get_or_insert(address);
            } else if usable.len() < room && !usable.contains(&address) {
                usable.push(address);
            }
        }
        room -= usable.len();
        if !usable.is_empty() {
            found.push(Exchanger {
                preference,
                host,
                addresses: usable,
            });
        }
    }
    match (found.is_empty(), limit, forbidden) {
        (false, _, _) => Ok(found),
        (true, Some(_), _) if !any => Err(MxRefusal::Loop),
        (true, _, _) if temporary => Err(MxRefusal::TemporaryFailure),
        (true, Some(_), _) => Err(MxRefusal::Loop),
        (true, None, Some(address)) => Err(MxRefusal::Forbidden(address)),
        (true, None, None) => Err(MxRefusal::NothingUsable),
    }
}

/// Whether a server that greets so is this one: the first word after 220 is our own name
/// (FLOW-60). The caller treats it as [`MxRefusal::Loop`].
pub fn greets_as_us(greeting: &Reply, hostname: &str) -> bool {
    let line = greeting.lines().next().unwrap_or_default();
    let name = line
        .split(|b| b.is_ascii_whitespace())
        .find(|w| !w.is_empty())
        .unwrap_or_default();
    greeting.code() == 220 && !hostname.is_empty() && name.eq_ignore_ascii_case(hostname.as_bytes())
}

impl Own<'_> {
    /// Whether one of our listeners answers at this address on the port of MX hosts.
    fn answers_at(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.listeners
            .iter()
            .filter(|l| l.port() == self.port)
            .any(|listener| {
                let at = listener.ip().to_canonical();
                if !at.is_unspecified() {
                    return at == address;
                }
                let local = address.is_loopback()
                    || address.is_unspecified()
                    || self.outbounds.iter().any(|o| o.to_canonical() == address);
                local && (at.is_ipv6() || address.is_ipv4())
            })
    }

    /// Whether the address may be contacted: it lies in no network in which nothing public can be,
    /// or we have an address there ourselves (FLOW-60).
    pub fn allows(&self, address: IpAddr) -> bool {
        !self.forbids(address)
    }

    fn forbids(&self, address: IpAddr) -> bool {
        let Some(class) = class(address) else {
            return false;
        };
        !self
            .outbounds
            .iter()
            .any(|o| self::class(*o) == Some(class))
    }
}

/// Networks in which no public mail host can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NetClass {
    Loopback,
    LinkLocal,
    Private,
    /// RFC 6598, between a provider and its customers.
    Shared,
    Unspecified,
    /// With broadcast and the reserved rest.
    Multicast,
}

fn class(address: IpAddr) -> Option<NetClass> {
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => class_v6(v6),
    }
}

fn class_v4(address: Ipv4Addr) -> Option<NetClass> {
    match address.octets() {
        [0, ..] => Some(NetClass::Unspecified),
        [127, ..] => Some(NetClass::Loopback),
        [169, 254, ..] => Some(NetClass::LinkLocal),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some(NetClass::Private),
        [100, 64..=127, ..] => Some(NetClass::Shared),
        [224..=255, ..] => Some(NetClass::Multicast),
        _ => None,
    }
}

fn class_v6(address: Ipv6Addr) -> Option<NetClass> {
    if address.is_unspecified() {
        return Some(NetClass::Unspecified);
    }
    if address.is_loopback() {
        return Some(NetClass::Loopback);
    }
    match address.segments() {
        // Mapped, compatible, NAT64 (RFC 6052) and 6to4 (RFC 3056) addresses lead to an IPv4 one.
        [0, 0, 0, 0, 0, 0xffff | 0, a, b]
        | [0x64, 0xff9b, 0, 0, 0, 0, a, b]
        | [0x2002, a, b, ..] => {
            let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
            class_v4(Ipv4Addr::new(a, b, c, d))
        }
        [0xfe80..=0xfebf, ..] => Some(NetClass::LinkLocal),
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some(NetClass::Private),
        [0xff00..=0xffff, ..] => Some(NetClass::Multicast),
        _ => None,
    }
}

fn addresses(answer: &HostAnswer) -> &[IpAddr] {
    match answer {
        HostAnswer::Addresses(addresses) => addresses,
        HostAnswer::TemporaryFailure => &[],
    }
}

fn is_null(host: &str) -> bool {
    matches!(host.trim(), "" | ".")
}

/// A name in lower case without trailing dot, if it can be the name of a host.
fn host_name(name: &str) -> Option<String> {
    let name = crate::glob::fold(name);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let numeric_end = name
        .rsplit('.')
        .next()
        .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    (name.len() <= 253 && !numeric_end && name.split('.').all(label)).then_some(name)
}

#[cfg(test)]
mod tests;
