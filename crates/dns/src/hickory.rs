//! The resolver for real mail: a caching stub over hickory-resolver.
//!
//! It asks the name servers it is given (or the system's) by UDP, and by TCP where an answer is
//! truncated. Answers are kept for their TTL, in a bounded cache; TTL 0 is not kept.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::destination::both_families;
use crate::{BoxFuture, LookupFailure, MxLookup, Resolver, normal};

/// Answers kept.
const CACHE_ENTRIES: u64 = 32_768;
/// An answer is kept no longer than this, whatever its TTL says.
const LONGEST_KEPT: Duration = Duration::from_secs(86_400);
/// A negative answer is kept no longer than this (RFC 2308 §5).
const LONGEST_NEGATIVE: Duration = Duration::from_secs(3_600);
/// A lookup is given up after this, however many servers and tries are configured.
const LONGEST_LOOKUP: Duration = Duration::from_secs(60);
/// Aliases followed before a chain counts as a loop.
const MAX_ALIASES: usize = 8;

/// Asks real name servers. Made once, inside a tokio runtime; lookups may run in any task.
pub struct HickoryResolver {
    inner: TokioResolver,
    /// Bound of a whole lookup.
    deadline: Duration,
}

impl HickoryResolver {
    /// A resolver that asks only `resolvers` (IF-9), or the system's if there is none.
    /// `timeout` bounds one try; `None`: 5 s, or what the system's configuration says.
    ///
    /// # Errors
    /// The system's configuration cannot be read; with the cause in words.
    pub fn new(resolvers: &[SocketAddr], timeout: Option<Duration>) -> Result<Self, String> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if resolvers.is_empty() {
            TokioResolver::builder(provider).map_err(|e| format!("system resolver: {e}"))?
        } else {
            let servers = resolvers.iter().copied().map(server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            let mut builder = TokioResolver::builder_with_config(config, provider);
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        set(options, timeout);
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
        Ok(HickoryResolver { inner, deadline })
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Lookup, Unanswered> {
        let name = full_name(name).ok_or(Unanswered::NoSuchName)?;
        let lookup = self.inner.lookup(name, kind);
        match tokio::time::timeout(self.deadline, lookup).await {
            Ok(Ok(lookup)) => Ok(lookup),
            Ok(Err(error)) => Err(unanswered(error)),
            Err(_) => Err(Unanswered::Temporary("timed out".to_owned())),
        }
    }

    /// The data of the records of one type; empty is a believed NODATA.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, LookupFailure> {
        let temporary = |cause: String| LookupFailure::Temporary(format!("{kind} {name}: {cause}"));
        match self.ask(name, kind).await {
            Ok(lookup) => Ok(answers(&lookup, kind)),
            Err(Unanswered::NoSuchName) => Err(LookupFailure::NoSuchName),
            Err(Unanswered::Temporary(cause)) => Err(temporary(cause)),
            Err(Unanswered::NoData { proved: true }) => Ok(Vec::new()),
            Err(Unanswered::NoData { proved: false }) => self
                .check_aliases(name)
                .await
                .map(|()| Vec::new())
                .map_err(temporary),
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
    fn mx<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<MxLookup, LookupFailure>> {
        Box::pin(async move {
            let records = match self.records(domain, RecordType::MX).await {
                Err(LookupFailure::NoSuchName) => return Ok(MxLookup::NoSuchDomain),
                other => other?,
            };
            if records.is_empty() {
                return Ok(MxLookup::NoRecords);
            }
            let hosts = records.into_iter().filter_map(|data| match data {
                RData::MX(mx) if mx.exchange.is_root() => Some((mx.preference, ".".to_owned())),
                RData::MX(mx) => Some((mx.preference, normal(&mx.exchange.to_ascii()))),
                _ => None,
            });
            Ok(MxLookup::Records(hosts.collect()))
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupFailure>> {
        Box::pin(async move {
            let six = self.records(host, RecordType::AAAA);
            let four = self.records(host, RecordType::A);
            let (six, four) = tokio::join!(six, four);
            both_families(six.map(addresses), four.map(addresses))
        })
    }
}

/// Why hickory gave no records.
enum Unanswered {
    NoSuchName,
    /// `proved`: with the SOA that RFC 2308 wants.
    NoData {
        proved: bool,
    },
    Temporary(String),
}

fn unanswered(error: NetError) -> Unanswered {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Unanswered::NoSuchName,
            // A referral is no answer: the server does not know the zone.
            ResponseCode::NoError if none.soa.is_none() && none.ns.is_some() => {
                Unanswered::Temporary("the name server only refers to others".to_owned())
            }
            ResponseCode::NoError => Unanswered::NoData {
                proved: none.soa.is_some(),
            },
            code => Unanswered::Temporary(code.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Unanswered::Temporary(code.to_string()),
        NetError::Timeout => Unanswered::Temporary("timed out".to_owned()),
        other => Unanswered::Temporary(other.to_string()),
    }
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

/// The records of the type asked for, at the name asked for or at the end of its aliases. Whatever
/// else a server puts into its answer is not believed.
fn answers(lookup: &Lookup, kind: RecordType) -> Vec<RData> {
    let records = lookup.answers();
    let mut names = vec![lookup.query().name()];
    let mut known = 0;
    while known < names.len() && names.len() <= records.len() {
        let at = names[known];
        known += 1;
        let alias =
            |record: &&Record| record.name == *at && record.record_type() == RecordType::CNAME;
        if let Some(RData::CNAME(target)) = records.iter().find(alias).map(|r| &r.data)
            && !names.contains(&&target.0)
        {
            names.push(&target.0);
        }
    }
    let wanted = records
        .iter()
        .filter(|r| r.record_type() == kind && names.contains(&&r.name));
    wanted.map(|r| r.data.clone()).collect()
}

fn addresses(records: Vec<RData>) -> Vec<IpAddr> {
    records.iter().filter_map(RData::ip_addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn if_9_without_a_resolver_the_systems_configuration_is_read() {
        let system = hickory_resolver::system_conf::read_system_conf();
        let ours = HickoryResolver::new(&[], None);
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
}
