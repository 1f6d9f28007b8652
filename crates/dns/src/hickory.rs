//! The resolver for real mail: a caching stub over hickory-resolver.
//!
//! It asks the name servers it is given (or the system's) by UDP, and by TCP where an answer is
//! truncated. Answers are kept for their TTL, in a bounded cache; TTL 0 is not kept.
//!
//! Whether an answer is secure is told by the name server's AD bit, or found out here
//! (`[dns]dnssec`). An answer that does not validate is none: a temporary failure.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use galerne_core::settings::{Dns, Dnssec};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver as Hickory, system_conf};

use crate::destination::both_families;
use crate::kept::Kept;
use crate::loopback;
use crate::provider::Provider;
use crate::{
    BoxFuture, HostAddresses, LookupFailure, MxLookup, Proved, Resolver, TlsaRecord, normal,
    reverse_name,
};

/// Answers kept.
const CACHE_ENTRIES: u64 = 32_768;
/// An answer is kept no longer than this, whatever its TTL says.
const LONGEST_KEPT: Duration = Duration::from_secs(86_400);
/// A negative answer is kept no longer than this (RFC 2308 §5).
const LONGEST_NEGATIVE: Duration = Duration::from_secs(3_600);
/// Nothing, said without the SOA that would say for how long, is kept for so many seconds: a server
/// that says it so is not asked again for each message of a burst.
const UNPROVED_KEPT: u32 = 5;
/// A lookup is given up after this, however many servers and tries are configured.
const LONGEST_LOOKUP: Duration = Duration::from_secs(60);
/// Aliases followed before a chain counts as a loop.
const MAX_ALIASES: usize = 8;

/// Asks real name servers. Made once, inside a tokio runtime; lookups may run in any task.
pub struct HickoryResolver {
    inner: Hickory<Provider>,
    dnssec: Dnssec,
    servers: Vec<SocketAddr>,
    /// Bound of a whole lookup.
    deadline: Duration,
    known: Known,
}

/// What every message asks for, as `records` found it. Nothing temporary.
struct Known {
    mx: Kept<Proved<MxLookup>>,
    addresses: Kept<Result<HostAddresses, LookupFailure>>,
    txt: Kept<Result<Vec<Vec<u8>>, LookupFailure>>,
    tlsa: Kept<Proved<Vec<TlsaRecord>>>,
}

impl HickoryResolver {
    /// A resolver that asks only the name servers of `settings` (IF-9), or the system's if there
    /// is none. The timeout bounds one try; `None`: 5 s, or what the system's configuration says.
    ///
    /// # Errors
    /// The system's configuration or the trust anchor cannot be read; with the cause in words.
    pub fn new(settings: &Dns) -> Result<Self, String> {
        let (config, options) = if settings.resolvers.is_empty() {
            system_conf::read_system_conf().map_err(|e| format!("system resolver: {e}"))?
        } else {
            let servers = settings.resolvers.iter().copied().map(server).collect();
            let mut options = ResolverOpts::default();
            options.use_hosts_file = ResolveHosts::Never;
            (ResolverConfig::from_name_servers(servers), options)
        };
        let nearby = |server: &NameServerConfig| server.ip.is_loopback();
        let dnssec = settings
            .dnssec
            .unwrap_or(match config.name_servers().iter().all(nearby) {
                true => Dnssec::TrustAd,
                false => Dnssec::Off,
            });
        let servers = config.name_servers().iter().filter_map(address).collect();
        let provider = Provider {
            inner: TokioRuntimeProvider::default(),
            ask: dnssec == Dnssec::TrustAd,
        };
        let mut builder = Hickory::builder_with_config(config, provider).with_options(options);
        if dnssec == Dnssec::Validate {
            // Not by the option of that name, which hickory-resolver 0.26 ignores.
            builder = builder.with_trust_anchor(Arc::new(trust_anchors(settings)?));
        }
        let options = builder.options_mut();
        set(options, settings.timeout);
        // Each try may go to two servers, by UDP and then TCP.
        let tries = u32::try_from(options.attempts)
            .unwrap_or(2)
            .saturating_add(1);
        let deadline = options
            .timeout
            .saturating_mul(tries)
            .saturating_mul(4)
            .min(LONGEST_LOOKUP);
        let inner = builder.build().map_err(|e| format!("resolver: {e}"))?;
        Ok(HickoryResolver {
            inner,
            dnssec,
            servers,
            deadline,
            known: Known {
                mx: Kept::new(CACHE_ENTRIES),
                addresses: Kept::new(CACHE_ENTRIES),
                txt: Kept::new(CACHE_ENTRIES),
                tlsa: Kept::new(CACHE_ENTRIES),
            },
        })
    }

    /// Whether what the root says is secure: it always is, if DNSSEC works here at all.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn is_root_secure(&self) -> Result<bool, LookupFailure> {
        let lookup = self.inner.lookup(Name::root(), RecordType::NS);
        let found = match tokio::time::timeout(self.deadline, lookup).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(error)) => {
                return match unanswered(error) {
                    Unanswered::Temporary(cause) => {
                        Err(LookupFailure::Temporary(format!("NS .: {cause}")))
                    }
                    Unanswered::NoSuchName { .. } | Unanswered::NoData { .. } => Ok(false),
                };
            }
            Err(_) => return Err(LookupFailure::Temporary("NS .: timed out".to_owned())),
        };
        let mut servers = found
            .answers()
            .iter()
            .filter(|r| r.record_type() == RecordType::NS)
            .peekable();
        Ok(servers.peek().is_some()
            && match self.dnssec {
                Dnssec::Off => false,
                Dnssec::TrustAd => found.message().metadata.authentic_data,
                Dnssec::Validate => servers.all(|r| r.proof.is_secure()),
            })
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Lookup, Unanswered> {
        let name = full_name(name).ok_or(Unanswered::NoSuchName { ttl: None })?;
        let lookup = self.inner.lookup(name, kind);
        match tokio::time::timeout(self.deadline, lookup).await {
            Ok(Ok(lookup)) => Ok(lookup),
            Ok(Err(error)) => Err(unanswered(error)),
            Err(_) => Err(Unanswered::Temporary("timed out".to_owned())),
        }
    }

    /// The records of one type; none is a believed NODATA.
    ///
    /// # Errors
    /// In words, what may be over later.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Heard, LookupFailure> {
        let temporary = |cause: String| LookupFailure::Temporary(format!("{kind} {name}: {cause}"));
        match self.ask(name, kind).await {
            Ok(lookup) => Ok(self.heard(&lookup, name, kind)),
            Err(Unanswered::NoSuchName { ttl }) => Ok(Heard {
                exists: false,
                ..Heard::nothing(ttl)
            }),
            Err(Unanswered::Temporary(cause)) => Err(temporary(cause)),
            Err(Unanswered::NoData { proved: true, ttl }) => Ok(Heard::nothing(ttl)),
            Err(Unanswered::NoData { proved: false, .. }) => self
                .check_aliases(name)
                .await
                .map(|()| Heard::nothing(Some(UNPROVED_KEPT)))
                .map_err(temporary),
        }
    }

    /// As `records`, of a name that exists.
    async fn existing(&self, name: &str, kind: RecordType) -> Result<Heard, LookupFailure> {
        let heard = self.records(name, kind).await?;
        match heard.exists {
            true => Ok(heard),
            false => Err(LookupFailure::NoSuchName),
        }
    }

    /// The answer with its aliases, and whether all of them are secure.
    fn heard(&self, lookup: &Lookup, asked: &str, kind: RecordType) -> Heard {
        let asked = full_name(asked);
        let (aliases, records, whole) = answers(lookup, asked.as_ref(), kind);
        let secure = match self.dnssec {
            Dnssec::Off => false,
            // The bit is about one answer. Where the aliases took several, it is not about all.
            Dnssec::TrustAd => {
                lookup.message().metadata.authentic_data
                    && asked.as_ref() == Some(lookup.query().name())
            }
            Dnssec::Validate => aliases.iter().chain(&records).all(|r| r.proof.is_secure()),
        };
        let end = aliases.last().and_then(|alias| match &alias.data {
            RData::CNAME(target) => Some(normal(&target.to_ascii())),
            _ => None,
        });
        Heard {
            secure: secure && whole && !records.is_empty(),
            data: records.iter().map(|record| record.data.clone()).collect(),
            canonical: end,
            exists: true,
            until: lookup.valid_until(),
        }
    }

    /// A NODATA without SOA is also what is left of a CNAME loop: walk the aliases to tell.
    async fn check_aliases(&self, name: &str) -> Result<(), String> {
        let mut name = name.to_owned();
        for _ in 0..MAX_ALIASES {
            let lookup = match self.ask(&name, RecordType::CNAME).await {
                Ok(lookup) => lookup,
                Err(Unanswered::Temporary(cause)) => return Err(cause),
                Err(_) => return Ok(()),
            };
            let target = lookup.answers().iter().find_map(|r| match &r.data {
                RData::CNAME(target) => Some(target.to_ascii()),
                _ => None,
            });
            match target {
                Some(target) => name = target,
                None => return Ok(()),
            }
        }
        Err("CNAME loop".to_owned())
    }
}

impl Resolver for HickoryResolver {
    fn mx<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Proved<MxLookup>, LookupFailure>> {
        Box::pin(async move {
            if let Some(known) = self.known.mx.get(domain) {
                return Ok(known);
            }
            let heard = self.records(domain, RecordType::MX).await?;
            let hosts = heard.data.into_iter().filter_map(|data| match data {
                RData::MX(mx) if mx.exchange.is_root() => Some((mx.preference, ".".to_owned())),
                RData::MX(mx) => Some((mx.preference, normal(&mx.exchange.to_ascii()))),
                _ => None,
            });
            let hosts: Vec<_> = hosts.collect();
            let found = Proved {
                secure: heard.secure && !hosts.is_empty(),
                value: match (heard.exists, hosts.is_empty()) {
                    (false, _) => MxLookup::NoSuchDomain,
                    (true, true) => MxLookup::NoRecords,
                    (true, false) => MxLookup::Records(hosts),
                },
            };
            self.known.mx.put(domain, heard.until, &found);
            Ok(found)
        })
    }

    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<HostAddresses, LookupFailure>> {
        let found = |heard: Heard| {
            let addresses = HostAddresses {
                addresses: heard.data.iter().filter_map(RData::ip_addr).collect(),
                secure: heard.secure,
                canonical: heard.canonical,
            };
            match heard.exists {
                true => Ok(addresses),
                false => Err(LookupFailure::NoSuchName),
            }
        };
        Box::pin(async move {
            if let Some(known) = self.known.addresses.get(host) {
                return known;
            }
            let six = self.records(host, RecordType::AAAA);
            let four = self.records(host, RecordType::A);
            let (six, four) = tokio::join!(six, four);
            let until = match (&six, &four) {
                (Ok(six), Ok(four)) => Some(six.until.min(four.until)),
                _ => None,
            };
            let both = both_families(six.and_then(found), four.and_then(found));
            if let Some(until) = until {
                self.known.addresses.put(host, until, &both);
            }
            both
        })
    }

    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Vec<u8>>, LookupFailure>> {
        Box::pin(async move {
            if let Some(known) = self.known.txt.get(name) {
                return known;
            }
            let text = |data| match data {
                RData::TXT(text) => Some(text.txt_data.concat()),
                _ => None,
            };
            let heard = self.records(name, RecordType::TXT).await?;
            let found = match heard.exists {
                true => Ok(heard.data.into_iter().filter_map(text).collect()),
                false => Err(LookupFailure::NoSuchName),
            };
            self.known.txt.put(name, heard.until, &found);
            found
        })
    }

    fn names<'a>(&'a self, address: IpAddr) -> BoxFuture<'a, Result<Vec<String>, LookupFailure>> {
        Box::pin(async move {
            let name = |data| match data {
                RData::PTR(name) => Some(normal(&name.0.to_ascii())),
                _ => None,
            };
            let reverse = reverse_name(address);
            if address.is_loopback() {
                let name = full_name(&reverse).ok_or(LookupFailure::NoSuchName)?;
                let patience = self.inner.options().timeout;
                return loopback::names(&self.servers, &name, patience).await;
            }
            let heard = self.existing(&reverse, RecordType::PTR).await?;
            Ok(heard.data.into_iter().filter_map(name).collect())
        })
    }

    fn tlsa<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Proved<Vec<TlsaRecord>>, LookupFailure>> {
        Box::pin(async move {
            if let Some(known) = self.known.tlsa.get(name) {
                return Ok(known);
            }
            let record = |data| match data {
                RData::TLSA(tlsa) => Some(TlsaRecord {
                    usage: tlsa.cert_usage.into(),
                    selector: tlsa.selector.into(),
                    matching: tlsa.matching.into(),
                    data: tlsa.cert_data,
                }),
                _ => None,
            };
            let heard = self.existing(name, RecordType::TLSA).await?;
            let found = Proved {
                value: heard.data.into_iter().filter_map(record).collect(),
                secure: heard.secure,
            };
            self.known.tlsa.put(name, heard.until, &found);
            Ok(found)
        })
    }

    fn is_secure_alias<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, LookupFailure>> {
        Box::pin(async move {
            let heard = self.existing(name, RecordType::CNAME).await?;
            Ok(heard.secure)
        })
    }

    fn dnssec(&self) -> bool {
        self.dnssec != Dnssec::Off
    }
}

/// What an answer says.
struct Heard {
    data: Vec<RData>,
    secure: bool,
    canonical: Option<String>,
    /// The name exists, with or without such records.
    exists: bool,
    /// As its TTL says.
    until: Instant,
}

impl Heard {
    /// A name without such records, for so many seconds.
    fn nothing(ttl: Option<u32>) -> Self {
        let ttl = Duration::from_secs(ttl.unwrap_or(0).into());
        Heard {
            data: Vec::new(),
            secure: false,
            canonical: None,
            exists: true,
            until: Instant::now() + ttl.min(LONGEST_NEGATIVE),
        }
    }
}

/// Whether a file of trust anchors can be used.
///
/// # Errors
/// What is wrong with it.
pub fn check_trust_anchor(file: &Path) -> Result<(), String> {
    read_anchors(file).map(|_| ())
}

fn trust_anchors(settings: &Dns) -> Result<TrustAnchors, String> {
    match &settings.trustanchor {
        Some(file) => read_anchors(file),
        None => Ok(TrustAnchors::default()),
    }
}

fn read_anchors(file: &Path) -> Result<TrustAnchors, String> {
    let says = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| says(&e))?;
    let anchors = TrustAnchors::from_str(&text).map_err(|e| says(&e))?;
    // Keys of other zones do not count here: hickory-resolver 0.26 does not begin at them.
    match anchors.is_empty() {
        true => Err(says(&"no DNSKEY record of the root in it")),
        false => Ok(anchors),
    }
}

/// Why hickory gave no records.
enum Unanswered {
    NoSuchName {
        ttl: Option<u32>,
    },
    /// `proved`: with the SOA that RFC 2308 wants.
    NoData {
        proved: bool,
        ttl: Option<u32>,
    },
    Temporary(String),
}

fn unanswered(error: NetError) -> Unanswered {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Unanswered::NoSuchName {
                ttl: none.negative_ttl,
            },
            // A referral is no answer: the server does not know the zone.
            ResponseCode::NoError if none.soa.is_none() && none.ns.is_some() => {
                Unanswered::Temporary("the name server only refers to others".to_owned())
            }
            ResponseCode::NoError => Unanswered::NoData {
                proved: none.soa.is_some(),
                ttl: none.negative_ttl,
            },
            code => Unanswered::Temporary(code.to_string()),
        },
        // Proved as far as it goes: the zone is not signed, or says too little.
        NetError::Dns(DnsError::Nsec {
            response,
            proof: Proof::Insecure,
            ..
        }) => match response.response_code {
            ResponseCode::NXDomain => Unanswered::NoSuchName { ttl: None },
            ResponseCode::NoError => Unanswered::NoData {
                proved: true,
                ttl: None,
            },
            code => Unanswered::Temporary(code.to_string()),
        },
        NetError::Dns(DnsError::Nsec { .. } | DnsError::DnssecBogus) => {
            Unanswered::Temporary("the answer does not validate (DNSSEC)".to_owned())
        }
        NetError::Dns(DnsError::ResponseCode(code)) => Unanswered::Temporary(code.to_string()),
        NetError::Timeout => Unanswered::Temporary("timed out".to_owned()),
        other => Unanswered::Temporary(other.to_string()),
    }
}

fn address(server: &NameServerConfig) -> Option<SocketAddr> {
    let port = server.connections.first()?.port;
    Some(SocketAddr::new(server.ip, port))
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn set(options: &mut ResolverOpts, timeout: Option<Duration>) {
    if let Some(timeout) = timeout {
        options.timeout = timeout;
    }
    options.cache_size = CACHE_ENTRIES;
    options.positive_max_ttl = Some(LONGEST_KEPT);
    options.negative_max_ttl = Some(LONGEST_NEGATIVE);
    options.max_active_requests = 1_024;
    // A forged answer must also guess the case of the name.
    options.case_randomization = true;
    options.edns0 = true;
    // The name at the end of aliases is one that DANE asks for.
    options.preserve_intermediates = true;
}

/// The name as a full one, so that no search list applies. `None`: it can be no name.
fn full_name(name: &str) -> Option<Name> {
    let name = name.trim_end_matches('.');
    if name.is_empty() {
        return None;
    }
    let mut full = Name::from_ascii(name).ok()?;
    full.set_fqdn(true);
    Some(full)
}

/// The aliases on the way, and the records of the type asked for at the name asked for or at the
/// end of them. Whatever else a server puts into its answer is not believed. Not `whole`: the way
/// from the name asked for is not all there.
fn answers<'a>(
    lookup: &'a Lookup,
    asked: Option<&'a Name>,
    kind: RecordType,
) -> (Vec<&'a Record>, Vec<&'a Record>, bool) {
    if let Some(asked) = asked {
        let (aliases, records) = walk(lookup.answers(), asked, kind);
        if !records.is_empty() {
            return (aliases, records, true);
        }
    }
    let (aliases, records) = walk(lookup.answers(), lookup.query().name(), kind);
    (aliases, records, false)
}

fn walk<'a>(
    records: &'a [Record],
    from: &'a Name,
    kind: RecordType,
) -> (Vec<&'a Record>, Vec<&'a Record>) {
    let mut names = vec![from];
    let mut aliases = Vec::new();
    let mut known = 0;
    while known < names.len() && names.len() <= records.len() {
        let at = names[known];
        known += 1;
        let alias =
            |record: &&Record| record.name == *at && record.record_type() == RecordType::CNAME;
        if kind != RecordType::CNAME
            && let Some(record) = records.iter().find(alias)
            && let RData::CNAME(target) = &record.data
            && !names.contains(&&target.0)
        {
            names.push(&target.0);
            aliases.push(record);
        }
    }
    let wanted = records
        .iter()
        .filter(|r| r.record_type() == kind && names.contains(&&r.name));
    (aliases, wanted.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn if_9_without_a_resolver_the_systems_configuration_is_read() {
        let system = hickory_resolver::system_conf::read_system_conf();
        let ours = HickoryResolver::new(&Dns::default());
        match (system, ours) {
            (Ok((_, options)), Ok(ours)) => {
                assert_eq!(ours.inner.options().timeout, options.timeout)
            }
            (system, ours) => assert_eq!(system.is_ok(), ours.is_ok()),
        }
    }

    #[test]
    fn if_9_the_named_port_is_used_for_udp_and_tcp() {
        let config = server("192.0.2.1:5300".parse().expect("an address"));
        let ports: Vec<u16> = config.connections.iter().map(|c| c.port).collect();
        assert_eq!(ports, [5300, 5300]);
    }

    #[test]
    fn names_are_full_so_that_no_search_list_applies() {
        assert!(full_name("relay").is_some_and(|name| name.is_fqdn()));
        assert!(full_name(".").is_none());
    }

    #[test]
    fn conf_27_a_trust_anchor_is_a_file_of_dnskey_records_of_the_root() {
        let folder = std::env::temp_dir().join(format!("galerne-anchors-{}", std::process::id()));
        let key = "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==";
        for (text, good) in [
            (format!("; made by hand\n. IN DNSKEY {key}\n"), true),
            (format!(". 3600 IN DNSKEY {key}\n"), true),
            (format!("example.org. IN DNSKEY {key}\n"), false),
            ("; DNSKEY\n".into(), false),
            (String::new(), false),
            ("example.org. IN DNSKEY 257 3 13 !\n".into(), false),
            ("example.org. IN DS 1 13 2 00\n".into(), false),
        ] {
            std::fs::write(&folder, &text).expect("a file");
            let checked = check_trust_anchor(&folder);
            assert_eq!(checked.is_ok(), good, "{text}: {checked:?}");
        }
        std::fs::remove_file(&folder).expect("the file");
        assert!(check_trust_anchor(&folder).is_err());
    }
}
