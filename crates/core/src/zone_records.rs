//! The records that a sender domain needs in its zone, from the configuration (CONF-83, CONF-84):
//! addresses, MX, SPF, Sender-ID, DKIM, DMARC, MTA-STS and TLS-RPT. Printed by `galerne dns`, and
//! what `galerne doctor` holds the published ones against. The public halves of keys are told by
//! the caller: this crate knows no cryptography.

use std::fmt;
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use crate::keys::{KeyFile, KeyOwner};
use crate::settings::{Account, Key, Network, Settings};

/// Longest string of a TXT record, octets (RFC 1035 §3.3).
const LONGEST_STRING: usize = 255;
/// Column of the type in zone text; further when an owner is longer.
const OWNER_WIDTH: usize = 17;
/// How long others may keep the MTA-STS policy that we propose, seconds: a week.
const POLICY_AGE: u32 = 604_800;
/// The place of MTA-STS records.
const MTA_STS: &str = "_mta-sts";

/// The records of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecords {
    /// Lower case, without dot at the end.
    pub domain: String,
    pub records: Vec<ZoneRecord>,
    pub policy: Policy,
    /// What to know before pasting, a sentence each.
    pub notes: Vec<String>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Relative to the domain; `@` is the domain itself.
    pub owner: String,
    pub data: RecordData,
}

/// The data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordData {
    Address(IpAddr),
    /// Preference and host, without dot at the end.
    Mx(u16, String),
    /// Its strings, joined.
    Txt(String),
}

/// The MTA-STS policy that the records announce (RFC 8461 §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where it must be found.
    pub url: String,
    pub text: String,
}

/// The records of `domain`, in lower case. `public` gives the value of the DKIM record of a key;
/// `None`: the key cannot be read.
pub fn zone_records(
    settings: &Settings,
    domain: &str,
    public: &dyn Fn(&KeyFile) -> Option<String>,
) -> ZoneRecords {
    let addresses = sending_addresses(settings, domain);
    let mut notes = Vec::new();
    let mut records: Vec<ZoneRecord> = addresses.iter().copied().map(address).collect();
    records.push(record("@", RecordData::Mx(10, domain.to_owned())));
    records.push(text("@", spf(&addresses)));
    records.push(text("@", sender_id(&addresses)));
    let keys = keys_of(&settings.keys, domain);
    for key in &keys {
        match public(key) {
            Some(value) => records.push(text(&dkim_owner(key), value)),
            None => notes.push(format!(
                "{} cannot be read: no DKIM record for it",
                key.file
            )),
        }
    }
    records.push(text("_dmarc", dmarc(settings, domain)));
    let policy = policy(domain);
    records.push(text(MTA_STS, mta_sts(&policy)));
    records.push(text("_smtp._tls", tls_reports(settings, domain)));
    notes.extend(remarks(settings, domain, &addresses, &keys));
    ZoneRecords {
        domain: domain.to_owned(),
        records,
        policy,
        notes,
    }
}

fn record(owner: &str, data: RecordData) -> ZoneRecord {
    ZoneRecord {
        owner: owner.to_owned(),
        data,
    }
}

fn text(owner: &str, value: String) -> ZoneRecord {
    record(owner, RecordData::Txt(value))
}

fn address(address: IpAddr) -> ZoneRecord {
    record("@", RecordData::Address(address))
}

/// What is worth saying beside the records.
fn remarks(
    settings: &Settings,
    domain: &str,
    addresses: &[IpAddr],
    keys: &[&KeyFile],
) -> Vec<String> {
    let mut notes = Vec::new();
    if addresses.is_empty() {
        notes.push("[IP] has no usable address: SPF forbids all mail".to_owned());
    }
    let inside = addresses.iter().filter(|a| !is_public(**a));
    notes.extend(inside.map(|a| {
        format!("{a} is not a public address: write the one that others see in its place")
    }));
    if keys.is_empty() {
        notes.push(format!(
            "no key signs for {domain}: `galerne keygen {domain} SELECTOR` makes one"
        ));
    }
    if settings.rfrelay.dmarcaddr.is_empty() {
        let text = "[rfrelay] dmarcaddr is empty: DMARC has no rua, nobody hears of failures";
        notes.push(text.to_owned());
    }
    notes
}

/// Which of our addresses mail of a domain leaves from (CONF-24): those that bear its name and
/// those of the accounts that name it in `authorizedsender`; where no account does, all but the
/// addresses that bear the name of another sender.
pub fn sending_addresses(settings: &Settings, domain: &str) -> Vec<IpAddr> {
    let is = |name: &String| name.eq_ignore_ascii_case(domain);
    let attached: Vec<&Account> = settings
        .accounts
        .iter()
        .map(|account| &**account)
        .filter(|account| account.authorizedsender.iter().flatten().any(is))
        .collect();
    let others: Vec<String> = sender_domains(settings)
        .into_iter()
        .filter(|name| !is(name))
        .collect();
    let sends = |ip: &&std::sync::Arc<crate::settings::OutboundIp>| {
        if is(&ip.name) {
            return true;
        }
        match attached.is_empty() {
            false => attached.iter().any(|account| may_use(account, ip.address)),
            true => !others
                .iter()
                .any(|name| name.eq_ignore_ascii_case(&ip.name)),
        }
    };
    let addresses = settings.outbounds.iter().filter(sends);
    addresses.map(|ip| ip.address).collect()
}

/// Whether an account can send from an address (CONF-43 to CONF-45).
fn may_use(account: &Account, address: IpAddr) -> bool {
    let by_group = account.routing_by_group.iter().map(|(_, keys)| &keys.ip);
    let mut set = by_group.filter_map(Key::value).flatten();
    if set.any(|ip| *ip == address) {
        return true;
    }
    match (account.routing.ip.value(), &account.authorizedip) {
        (Some(fixed), _) => fixed.contains(&address),
        (None, Some(authorized)) => authorized.contains(&address),
        (None, None) => true,
    }
}

/// The domains that the configuration sends as: of the keys, of `authorizedsender` and of
/// `[routing]sender`; sorted.
pub fn sender_domains(settings: &Settings) -> Vec<String> {
    let keys = settings
        .keys
        .iter()
        .filter_map(|key| match &key.name.owner {
            KeyOwner::Domain(name) => Some(name.clone()),
            KeyOwner::Default => None,
        });
    let mut domains: Vec<String> = keys.collect();
    domains.extend(settings.routing.sender.value().cloned());
    for account in &settings.accounts {
        domains.extend(account.authorizedsender.iter().flatten().cloned());
        domains.extend(account.routing.sender.value().cloned());
        let by_group = account.routing_by_group.iter();
        domains.extend(by_group.filter_map(|(_, keys)| keys.sender.value().cloned()));
    }
    for domain in &mut domains {
        domain.make_ascii_lowercase();
    }
    domains.sort_unstable();
    domains.dedup();
    domains
}

/// The keys whose records a domain needs: all of its own, else the default ones (CONF-80).
pub fn keys_of<'a>(keys: &'a [KeyFile], domain: &str) -> Vec<&'a KeyFile> {
    let own = |key: &&KeyFile| match &key.name.owner {
        KeyOwner::Domain(name) => name.eq_ignore_ascii_case(domain),
        KeyOwner::Default => false,
    };
    let found: Vec<&KeyFile> = keys.iter().filter(own).collect();
    if !found.is_empty() {
        return found;
    }
    let default = |key: &&KeyFile| key.name.owner == KeyOwner::Default;
    keys.iter().filter(default).collect()
}

/// Where the record of a key stands, relative to the domain.
pub fn dkim_owner(key: &KeyFile) -> String {
    format!("{}._domainkey", key.name.selector)
}

/// The SPF record for these addresses (RFC 7208).
pub fn spf(addresses: &[IpAddr]) -> String {
    format!("v=spf1 {}-all", mechanisms(addresses))
}

/// The Sender-ID record (RFC 4406), for the few who still ask.
fn sender_id(addresses: &[IpAddr]) -> String {
    format!("spf2.0/pra {}-all", mechanisms(addresses))
}

fn mechanisms(addresses: &[IpAddr]) -> String {
    let shown = prefixes(addresses).into_iter().map(|network| {
        let (word, whole) = match network.address {
            IpAddr::V4(_) => ("ip4", 32),
            IpAddr::V6(_) => ("ip6", 128),
        };
        match network.prefix == whole {
            true => format!("{word}:{} ", network.address),
            false => format!("{word}:{}/{} ", network.address, network.prefix),
        }
    });
    shown.collect()
}

/// The fewest networks that hold these addresses and no other; IPv4 first, in order.
pub fn prefixes(addresses: &[IpAddr]) -> Vec<Network> {
    let four = addresses.iter().filter_map(|a| match a {
        IpAddr::V4(a) => Some(u128::from(u32::from(*a))),
        IpAddr::V6(_) => None,
    });
    let six = addresses.iter().filter_map(|a| match a {
        IpAddr::V4(_) => None,
        IpAddr::V6(a) => Some(u128::from(*a)),
    });
    let four = joined(four.collect(), 32)
        .into_iter()
        .map(|(bits, prefix)| {
            let bits = u32::try_from(bits).unwrap_or_default();
            network(IpAddr::V4(bits.into()), prefix)
        });
    let six = joined(six.collect(), 128);
    let six = six
        .into_iter()
        .map(|(bits, prefix)| network(IpAddr::V6(bits.into()), prefix));
    four.chain(six).collect()
}

fn network(address: IpAddr, prefix: u8) -> Network {
    Network { address, prefix }
}

/// Joins neighbours of equal size that make up the next larger network, until none is left.
fn joined(mut addresses: Vec<u128>, whole: u8) -> Vec<(u128, u8)> {
    addresses.sort_unstable();
    addresses.dedup();
    let mut done: Vec<(u128, u8)> = Vec::new();
    for bits in addresses {
        let mut now = (bits, whole);
        while let Some(&(before, prefix)) = done.last() {
            let size = 1_u128 << (whole - prefix).min(127);
            let is_pair = prefix == now.1 && prefix > 0 && before & size == 0;
            if !is_pair || before ^ now.0 != size {
                break;
            }
            done.pop();
            now = (before, prefix - 1);
        }
        done.push(now);
    }
    done
}

/// The DMARC record (RFC 7489); reports go to the first `dmarcaddr` (CONF-85).
pub fn dmarc(settings: &Settings, domain: &str) -> String {
    let rua = settings.rfrelay.dmarcaddr.first();
    let rua = rua.map(|local| format!("; rua=mailto:{local}@{domain}"));
    format!("v=DMARC1; p=reject; pct=100{}", rua.unwrap_or_default())
}

/// The TLS-RPT record (RFC 8460); without `dmarcaddr` reports go to the postmaster.
pub fn tls_reports(settings: &Settings, domain: &str) -> String {
    let local = settings.rfrelay.dmarcaddr.first();
    let local = local.map_or("postmaster", |local| local);
    format!("v=TLSRPTv1; rua=mailto:{local}@{domain}")
}

/// The policy that fits the MX record: the domain's own host. It is proposed in testing mode, in
/// which nobody refuses mail for it.
pub fn policy(domain: &str) -> Policy {
    Policy {
        url: format!("https://mta-sts.{domain}/.well-known/mta-sts.txt"),
        text: format!("version: STSv1\nmode: testing\nmx: {domain}\nmax_age: {POLICY_AGE}\n"),
    }
}

/// The record that announces a policy. Its id changes with the text (RFC 8461 §3.1).
pub fn mta_sts(policy: &Policy) -> String {
    let digest = Sha256::digest(policy.text.as_bytes());
    let id: String = digest.iter().take(10).map(|b| format!("{b:02x}")).collect();
    format!("v=STSv1; id={id}")
}

/// Whether others can see an address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let shared = a.octets().first() == Some(&100)
                && a.octets().get(1).is_some_and(|b| b & 0xc0 == 64);
            !(a.is_private() || a.is_loopback() || a.is_link_local() || shared)
        }
        IpAddr::V6(a) => !(a.is_loopback() || a.is_unique_local() || a.is_unicast_link_local()),
    }
}

impl ZoneRecord {
    /// The whole name, without dot at the end.
    pub fn name(&self, domain: &str) -> String {
        match self.owner == "@" {
            true => domain.to_owned(),
            false => format!("{}.{domain}", self.owner),
        }
    }
}

impl RecordData {
    /// The word of the type.
    pub fn kind(&self) -> &'static str {
        match self {
            RecordData::Address(IpAddr::V4(_)) => "A",
            RecordData::Address(IpAddr::V6(_)) => "AAAA",
            RecordData::Mx(..) => "MX",
            RecordData::Txt(_) => "TXT",
        }
    }

    /// The value as one text, for forms of DNS providers.
    pub fn value(&self) -> String {
        match self {
            RecordData::Txt(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// As in a zone file; a long text is split into strings.
impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordData::Address(address) => write!(f, "{address}"),
            RecordData::Mx(preference, host) => write!(f, "{preference} {host}."),
            RecordData::Txt(text) => {
                let strings: Vec<String> =
                    text.as_bytes().chunks(LONGEST_STRING).map(quoted).collect();
                f.write_str(&strings.join(" "))
            }
        }
    }
}

fn quoted(octets: &[u8]) -> String {
    let mut text = String::from("\"");
    for &octet in octets {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(octet)]),
            b' '..=b'~' => text.push(char::from(octet)),
            _ => text.push_str(&format!("\\{octet:03}")),
        }
    }
    text.push('"');
    text
}

/// One line of a zone file.
pub fn zone_line(owner: &str, data: &RecordData) -> String {
    let width = OWNER_WIDTH.max(owner.len() + 2);
    format!("{owner:width$}{:5}{data}", data.kind())
}

/// The whole as text for a zone file.
impl fmt::Display for ZoneRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ORIGIN {}.", self.domain)?;
        for record in &self.records {
            writeln!(f, "{}", zone_line(&record.owner, &record.data))?;
        }
        writeln!(f, "; {MTA_STS} announces this text at {}:", self.policy.url)?;
        for line in self.policy.text.lines() {
            writeln!(f, ";   {line}")?;
        }
        writeln!(
            f,
            "; leave {MTA_STS} out until the text is there; mode: enforce when reports are clean"
        )?;
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "; {note}"))
    }
}

#[cfg(test)]
mod tests;
