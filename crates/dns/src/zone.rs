//! Text zones: what a name server knows, written as lines a person can read.
//!
//! For tests, the demo and the name server of `galerne-sim`; never for real mail.
//!
//! ```text
//! ; owner        [ttl] type     data
//! example.org.         MX       10 mx.example.org.
//! mx.example.org. 0    A        192.0.2.1
//! mx.example.org.      AAAA     2001:db8::1
//! www.example.org.     CNAME    mx.example.org.
//! dull.example.        NULLMX
//! ill.example.         SERVFAIL
//! ill2.example.        SERVFAIL MX
//! mute.example.        SILENT
//! bare.example.        EXISTS
//! 1.2.0.192.in-addr.arpa. PTR   mx.example.org.
//! example.net.         SECURE
//! _25._tcp.mx.example. TLSA     3 1 1 8cb0fc6c…
//! ```
//!
//! `SERVFAIL` and `SILENT` (no answer at all) hold for every type, or for those named. `EXISTS`
//! makes a name that has no records. `SECURE` says that DNSSEC proves what stands at the name and
//! below it, for the resolver without sockets. Names are compared without case; `;` and `#` begin
//! comments outside quotes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{PoisonError, RwLock};

use crate::{
    BoxFuture, HostAddresses, LookupFailure, MxLookup, Proved, Resolver, TlsaRecord, normal,
    reverse_name,
};

/// TTL of a line that names none, in seconds.
const DEFAULT_TTL: u32 = 300;
/// Aliases followed before a chain counts as a loop.
const MAX_ALIASES: usize = 8;

/// A parsed zone.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    names: BTreeMap<String, Node>,
    secure: BTreeSet<String>,
}

/// What stands at one name.
#[derive(Clone, Debug, Default)]
struct Node {
    records: Vec<ZoneRecord>,
    failing: BTreeSet<Kind>,
    silent: BTreeSet<Kind>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    pub owner: String,
    /// Seconds.
    pub ttl: u32,
    pub data: Data,
}

/// The data of a record. Names are lower case without the dot at the end; the root is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Mx(u16, String),
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    /// Its strings, joined.
    Txt(String),
    Ptr(String),
    Tlsa(TlsaRecord),
}

/// The type asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Mx,
    A,
    Aaaa,
    Cname,
    Txt,
    Ptr,
    Tlsa,
    Other,
}

/// What the zone answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneAnswer {
    /// The aliases on the way and the records found; no record of the type asked for is NODATA.
    Found(Vec<ZoneRecord>),
    /// NXDOMAIN, with the aliases on the way.
    NoSuchName(Vec<ZoneRecord>),
    ServFail,
    /// Say nothing.
    Silent,
}

/// A line that is no zone line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneError {
    pub line: usize,
    pub problem: String,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zone line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for ZoneError {}

impl Data {
    /// The type of the record.
    pub fn kind(&self) -> Kind {
        match self {
            Data::Mx(..) => Kind::Mx,
            Data::A(_) => Kind::A,
            Data::Aaaa(_) => Kind::Aaaa,
            Data::Cname(_) => Kind::Cname,
            Data::Txt(_) => Kind::Txt,
            Data::Ptr(_) => Kind::Ptr,
            Data::Tlsa(_) => Kind::Tlsa,
        }
    }
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Mx,
        Kind::A,
        Kind::Aaaa,
        Kind::Cname,
        Kind::Txt,
        Kind::Ptr,
        Kind::Tlsa,
        Kind::Other,
    ];

    fn parse(word: &str) -> Option<Kind> {
        Some(match word.to_ascii_uppercase().as_str() {
            "MX" => Kind::Mx,
            "A" => Kind::A,
            "AAAA" => Kind::Aaaa,
            "CNAME" => Kind::Cname,
            "TXT" => Kind::Txt,
            "PTR" => Kind::Ptr,
            "TLSA" => Kind::Tlsa,
            _ => return None,
        })
    }
}

impl Zone {
    /// Reads a zone.
    pub fn parse(text: &str) -> Result<Zone, ZoneError> {
        let mut zone = Zone::default();
        for (index, line) in text.lines().enumerate() {
            let line = without_comment(line).trim();
            if !line.is_empty() {
                let failed = |problem| ZoneError {
                    line: index + 1,
                    problem,
                };
                zone.line(line).map_err(failed)?;
            }
        }
        Ok(zone)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace().peekable();
        let owner = normal(words.next().unwrap_or(""));
        let ttl = match words.peek().and_then(|w| w.parse().ok()) {
            Some(ttl) => {
                words.next();
                ttl
            }
            None => DEFAULT_TTL,
        };
        let kind = words.next().ok_or("no type")?.to_ascii_uppercase();
        let rest: Vec<&str> = words.collect();
        if kind == "SECURE" {
            self.secure.insert(owner);
            return Ok(());
        }
        let node = self.names.entry(owner.clone()).or_default();
        match kind.as_str() {
            "EXISTS" => return Ok(()),
            "SERVFAIL" => return kinds(&rest).map(|k| node.failing.extend(k)),
            "SILENT" => return kinds(&rest).map(|k| node.silent.extend(k)),
            _ => {}
        }
        let data = data(&kind, &rest)?;
        node.records.push(ZoneRecord { owner, ttl, data });
        Ok(())
    }

    /// Whether the name is at or below one that `SECURE` names.
    fn is_secure(&self, name: &str) -> bool {
        let name = normal(name);
        let mut at = Some(name.as_str());
        while let Some(name) = at {
            if self.secure.contains(name) {
                return true;
            }
            at = name.split_once('.').map(|(_, parent)| parent);
        }
        false
    }

    /// Answers one question, following aliases inside the zone.
    pub fn answer(&self, name: &str, kind: Kind) -> ZoneAnswer {
        let mut name = normal(name);
        let mut found = Vec::new();
        for _ in 0..=MAX_ALIASES {
            let Some(node) = self.names.get(&name) else {
                let below = format!(".{name}");
                let is_between = self.names.keys().any(|n| n.ends_with(&below));
                return if is_between {
                    ZoneAnswer::Found(found)
                } else {
                    ZoneAnswer::NoSuchName(found)
                };
            };
            if node.silent.contains(&kind) {
                return ZoneAnswer::Silent;
            }
            if node.failing.contains(&kind) {
                return ZoneAnswer::ServFail;
            }
            let before = found.len();
            found.extend(
                node.records
                    .iter()
                    .filter(|r| r.data.kind() == kind)
                    .cloned(),
            );
            let alias = node.records.iter().find(|r| r.data.kind() == Kind::Cname);
            match alias {
                Some(record) if found.len() == before => {
                    found.push(record.clone());
                    if let Data::Cname(target) = &record.data {
                        name = target.clone();
                    }
                }
                _ => return ZoneAnswer::Found(found),
            }
        }
        // A loop: as an authoritative server, hand out the chain walked so far.
        ZoneAnswer::Found(found)
    }
}

/// A line up to its comment.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.find(|c| {
        quoted ^= c == '"';
        !quoted && matches!(c, ';' | '#')
    });
    end.and_then(|end| line.get(..end)).unwrap_or(line)
}

fn kinds(words: &[&str]) -> Result<Vec<Kind>, String> {
    if words.is_empty() {
        return Ok(Kind::ALL.to_vec());
    }
    words
        .iter()
        .map(|w| Kind::parse(w).ok_or_else(|| format!("unknown type {w}")))
        .collect()
}

fn data(kind: &str, words: &[&str]) -> Result<Data, String> {
    let bad = || format!("bad data for {kind}: {}", words.join(" "));
    Ok(match (kind, words) {
        ("NULLMX", []) => Data::Mx(0, String::new()),
        ("MX", [preference, host]) => {
            Data::Mx(preference.parse().map_err(|_| bad())?, normal(host))
        }
        ("A", [address]) => Data::A(address.parse().map_err(|_| bad())?),
        ("AAAA", [address]) => Data::Aaaa(address.parse().map_err(|_| bad())?),
        ("CNAME", [target]) => Data::Cname(normal(target)),
        ("PTR", [name]) => Data::Ptr(normal(name)),
        ("TXT", words) => Data::Txt(strings(&words.join(" "))),
        ("TLSA", [usage, selector, matching, hex @ ..]) => {
            let number = |word: &str| word.parse().map_err(|_| bad());
            Data::Tlsa(TlsaRecord {
                usage: number(usage)?,
                selector: number(selector)?,
                matching: number(matching)?,
                data: octets(&hex.concat()).ok_or_else(bad)?,
            })
        }
        ("MX" | "A" | "AAAA" | "CNAME" | "PTR" | "NULLMX" | "TLSA", _) => return Err(bad()),
        _ => return Err(format!("unknown type {kind}")),
    })
}

/// The strings of a TXT record, joined: what stands between quotes; without quotes, all of it.
fn strings(text: &str) -> String {
    match text.contains('"') {
        true => text.split('"').skip(1).step_by(2).collect(),
        false => text.to_owned(),
    }
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}

/// Answers from a text zone, without any socket.
#[derive(Debug, Default)]
pub struct ZoneResolver {
    zone: RwLock<Zone>,
}

impl ZoneResolver {
    /// A resolver that knows only this zone.
    pub fn new(text: &str) -> Result<Self, ZoneError> {
        Ok(ZoneResolver {
            zone: RwLock::new(Zone::parse(text)?),
        })
    }

    /// Replaces the zone.
    pub fn set(&self, text: &str) -> Result<(), ZoneError> {
        let zone = Zone::parse(text)?;
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = zone;
        Ok(())
    }

    fn ask(&self, name: &str, kind: Kind) -> Result<Heard, LookupFailure> {
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        let answer = zone.answer(name, kind);
        let temporary = |cause: &str| LookupFailure::Temporary(format!("{name}: {cause}"));
        match answer {
            ZoneAnswer::NoSuchName(_) => Err(LookupFailure::NoSuchName),
            ZoneAnswer::ServFail => Err(temporary("server failure")),
            ZoneAnswer::Silent => Err(temporary("timed out")),
            ZoneAnswer::Found(records)
                if records.len() > MAX_ALIASES && records.iter().all(is_alias) =>
            {
                Err(temporary("CNAME loop"))
            }
            ZoneAnswer::Found(records) => Ok(Heard {
                secure: !records.is_empty() && records.iter().all(|r| zone.is_secure(&r.owner)),
                canonical: records.iter().rev().find_map(|r| match &r.data {
                    Data::Cname(target) => Some(target.clone()),
                    _ => None,
                }),
                data: records
                    .into_iter()
                    .map(|r| r.data)
                    .filter(|d| d.kind() == kind)
                    .collect(),
            }),
        }
    }
}

/// What the zone says to one question.
struct Heard {
    data: Vec<Data>,
    secure: bool,
    canonical: Option<String>,
}

fn is_alias(record: &ZoneRecord) -> bool {
    record.data.kind() == Kind::Cname
}

impl Resolver for ZoneResolver {
    fn mx<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Proved<MxLookup>, LookupFailure>> {
        let proved = |value, secure| Ok(Proved { value, secure });
        Box::pin(async move {
            let heard = match self.ask(domain, Kind::Mx) {
                Err(LookupFailure::NoSuchName) => return proved(MxLookup::NoSuchDomain, false),
                other => other?,
            };
            if heard.data.is_empty() {
                return proved(MxLookup::NoRecords, false);
            }
            let hosts = heard.data.into_iter().filter_map(|data| match data {
                Data::Mx(preference, host) if host.is_empty() => Some((preference, ".".to_owned())),
                Data::Mx(preference, host) => Some((preference, host)),
                _ => None,
            });
            proved(MxLookup::Records(hosts.collect()), heard.secure)
        })
    }

    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<HostAddresses, LookupFailure>> {
        let found = |heard: Heard| HostAddresses {
            addresses: addresses(heard.data),
            secure: heard.secure,
            canonical: heard.canonical,
        };
        Box::pin(async move {
            let (six, four) = (self.ask(host, Kind::Aaaa), self.ask(host, Kind::A));
            crate::destination::both_families(six.map(found), four.map(found))
        })
    }

    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Vec<u8>>, LookupFailure>> {
        Box::pin(async move {
            let text = |data| match data {
                Data::Txt(text) => Some(text.into_bytes()),
                _ => None,
            };
            let heard = self.ask(name, Kind::Txt)?;
            Ok(heard.data.into_iter().filter_map(text).collect())
        })
    }

    fn names<'a>(&'a self, address: IpAddr) -> BoxFuture<'a, Result<Vec<String>, LookupFailure>> {
        Box::pin(async move {
            let name = |data| match data {
                Data::Ptr(name) => Some(name),
                _ => None,
            };
            let heard = self.ask(&reverse_name(address), Kind::Ptr)?;
            Ok(heard.data.into_iter().filter_map(name).collect())
        })
    }

    fn tlsa<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Proved<Vec<TlsaRecord>>, LookupFailure>> {
        Box::pin(async move {
            let record = |data| match data {
                Data::Tlsa(record) => Some(record),
                _ => None,
            };
            let heard = self.ask(name, Kind::Tlsa)?;
            Ok(Proved {
                value: heard.data.into_iter().filter_map(record).collect(),
                secure: heard.secure,
            })
        })
    }

    fn is_secure_alias<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, LookupFailure>> {
        Box::pin(async move {
            let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
            let alias = zone
                .names
                .get(&normal(name))
                .is_some_and(|node| node.records.iter().any(is_alias));
            Ok(alias && zone.is_secure(name))
        })
    }

    fn dnssec(&self) -> bool {
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        !zone.secure.is_empty()
    }
}

fn addresses(records: Vec<Data>) -> Vec<IpAddr> {
    let address = |data| match data {
        Data::A(a) => Some(IpAddr::V4(a)),
        Data::Aaaa(a) => Some(IpAddr::V6(a)),
        _ => None,
    };
    records.into_iter().filter_map(address).collect()
}

#[cfg(test)]
mod tests;
