//! What an SPF record (RFC 7208) says, as far as it can be told without asking: its terms. Who
//! walks them through the DNS is the program; it gathers what it finds in [`Seen`].

use std::net::IpAddr;

use crate::settings::Network;

/// Most look-ups that receivers make for one record (RFC 7208 §4.6.4).
pub const MOST_LOOKUPS: usize = 10;

/// What happens to mail that a mechanism matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

/// One term of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    Network(Qualifier, Network),
    /// The addresses of a name; `None`: of the domain itself. Prefixes for IPv4 and IPv6.
    A(Qualifier, Option<String>, (u8, u8)),
    /// Those of its mail hosts.
    Mx(Qualifier, Option<String>, (u8, u8)),
    Include(Qualifier, String),
    Redirect(String),
    All(Qualifier),
    /// `exists`, `ptr`, macros: depends on the message.
    Depends(String),
}

/// What was found behind a record, includes followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The SPF records at the domain itself.
    pub records: Vec<String>,
    /// From where mail passes.
    pub networks: Vec<Network>,
    pub all: Option<Qualifier>,
    /// Terms that nobody can tell beforehand.
    pub depends: Vec<String>,
    /// Why receivers take the record for none.
    pub broken: Option<String>,
}

impl Seen {
    /// Whether mail from an address passes for sure.
    pub fn passes(&self, address: IpAddr) -> bool {
        let holds = |network: &Network| holds(*network, address);
        self.networks.iter().any(holds)
    }
}

/// Whether a text is an SPF record at all.
pub fn is_record(text: &str) -> bool {
    let start = text.get(..6).unwrap_or(text);
    start.eq_ignore_ascii_case("v=spf1")
        && text
            .get(6..)
            .is_none_or(|r| r.is_empty() || r.starts_with(' '))
}

/// Reads the terms of a record.
///
/// # Errors
/// The term that makes receivers take the record for none.
pub fn parse(record: &str) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    for word in record.split(' ').skip(1).filter(|word| !word.is_empty()) {
        if let Some(term) = term(word).ok_or_else(|| format!("no term of SPF: {word}"))? {
            terms.push(term);
        }
    }
    Ok(terms)
}

/// `None`: no term; `Some(None)`: one that says nothing here.
fn term(word: &str) -> Option<Option<Term>> {
    if let Some((name, value)) = word
        .split_once('=')
        .filter(|(n, _)| !n.contains([':', '/']))
    {
        let is_redirect = name.eq_ignore_ascii_case("redirect");
        return match is_redirect {
            true if value.is_empty() => None,
            true if value.contains('%') => Some(Some(Term::Depends(word.to_owned()))),
            true => Some(Some(Term::Redirect(value.to_owned()))),
            // Unknown modifiers are ignored (RFC 7208 §6).
            false => Some(None),
        };
    }
    let (qualifier, rest) = match word.as_bytes().first()? {
        b'+' => (Qualifier::Pass, word.get(1..)?),
        b'-' => (Qualifier::Fail, word.get(1..)?),
        b'~' => (Qualifier::SoftFail, word.get(1..)?),
        b'?' => (Qualifier::Neutral, word.get(1..)?),
        _ => (Qualifier::Pass, word),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, value) = rest.split_at_checked(end)?;
    let depends = || Term::Depends(word.to_owned());
    let found = match name.to_ascii_lowercase().as_str() {
        "all" if value.is_empty() => Term::All(qualifier),
        "ip4" | "ip6" => {
            let network = network(value.strip_prefix(':')?)?;
            if network.address.is_ipv4() != name.eq_ignore_ascii_case("ip4") {
                return None;
            }
            Term::Network(qualifier, network)
        }
        "include" => match value.strip_prefix(':').filter(|name| !name.is_empty())? {
            name if name.contains('%') => depends(),
            name => Term::Include(qualifier, name.to_owned()),
        },
        "a" | "mx" if value.contains('%') => depends(),
        "a" => {
            let (host, prefixes) = host(value)?;
            Term::A(qualifier, host, prefixes)
        }
        "mx" => {
            let (host, prefixes) = host(value)?;
            Term::Mx(qualifier, host, prefixes)
        }
        "exists" | "ptr" => depends(),
        _ => return None,
    };
    Some(Some(found))
}

fn network(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let prefix: u8 = prefix.unwrap_or(whole);
    (prefix <= whole).then_some(Network { address, prefix })
}

/// `[:host][/prefix4][//prefix6]`.
fn host(value: &str) -> Option<(Option<String>, (u8, u8))> {
    let (value, six) = match value.split_once("//") {
        Some((value, six)) => (value, six.parse().ok().filter(|p| *p <= 128)?),
        None => (value, 128),
    };
    let (value, four) = match value.split_once('/') {
        Some((value, four)) => (value, four.parse().ok().filter(|p| *p <= 32)?),
        None => (value, 32),
    };
    match value.strip_prefix(':') {
        Some("") => None,
        Some(name) => Some((Some(name.to_owned()), (four, six))),
        None => value.is_empty().then_some((None, (four, six))),
    }
}

/// Whether an address lies in a network.
pub fn holds(network: Network, address: IpAddr) -> bool {
    let (a, b, whole) = match (network.address, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u128::from(u32::from(a)), u128::from(u32::from(b)), 32_u32)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    let shift = whole.saturating_sub(u32::from(network.prefix));
    let cut = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
    cut(a) == cut(b)
}
