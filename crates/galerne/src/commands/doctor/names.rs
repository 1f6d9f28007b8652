//! What name servers say of our addresses and of the sender domains.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use galerne_core::doctor::spf::{MOST_LOOKUPS, Qualifier, Seen, Term, is_record, parse};
use galerne_core::doctor::{
    Answer, Dmarc, Finding, judge_dkim, judge_dmarc, judge_ehlo, judge_mx, judge_reverse,
    judge_spf, judge_text, organisational_names,
};
use galerne_core::settings::{EhloName, Key, Network, OutboundIp, Settings, Sign};
use galerne_core::zone_records::{
    dkim_owner, dmarc, keys_of, mta_sts, policy, sender_domains, sending_addresses, spf,
    tls_reports,
};
use galerne_dns::{HickoryResolver, LookupFailure, MxLookup, Resolver};
use tokio::task::JoinHandle;

use crate::keys::public_record;

/// Time for all questions about one thing.
const LONGEST: Duration = Duration::from_secs(25);

/// The findings about addresses, then about domains.
pub async fn findings(settings: Arc<Settings>, resolver: Arc<HickoryResolver>) -> Vec<Finding> {
    let mut looks: Vec<(String, JoinHandle<Vec<Finding>>)> = Vec::new();
    for outbound in &settings.outbounds {
        let (resolver, outbound) = (resolver.clone(), outbound.clone());
        let subject = outbound.address.to_string();
        looks.push((
            subject,
            tokio::spawn(async move { address(&resolver, &outbound).await }),
        ));
    }
    if let Key::Set(EhloName::Name(name)) = &settings.routing.ehlo {
        let (resolver, name) = (resolver.clone(), name.clone());
        looks.push((
            name.clone(),
            tokio::spawn(async move { vec![ehlo(&resolver, &name).await] }),
        ));
    }
    let domains = sender_domains(&settings);
    let is_nobody = domains.is_empty();
    for domain in domains {
        let (resolver, settings) = (resolver.clone(), settings.clone());
        let subject = domain.clone();
        looks.push((
            subject,
            tokio::spawn(async move { sender(&resolver, &settings, &domain).await }),
        ));
    }
    let end = tokio::time::Instant::now() + LONGEST;
    let mut findings = Vec::new();
    if is_nobody {
        findings.push(no_domain());
    }
    for (subject, mut look) in looks {
        match tokio::time::timeout_at(end, &mut look).await {
            Ok(Ok(found)) => findings.extend(found),
            _ => {
                look.abort();
                findings.push(too_slow(&subject));
            }
        }
    }
    findings
}

fn no_domain() -> Finding {
    Finding::act(
        "domains",
        "sender domains",
        "the configuration names none: SPF, DKIM and DMARC are not looked at",
        "the domains that mail is sent from",
        "name them in [account] authorizedsender, or make keys: `galerne keygen DOMAIN SELECTOR`",
    )
    .or_advice()
}

fn too_slow(subject: &str) -> Finding {
    Finding::act(
        "dns",
        subject,
        format!("no answer in {} s", LONGEST.as_secs()),
        "answers of the name server",
        "see to [dns] resolver or /etc/resolv.conf",
    )
}

async fn address(resolver: &HickoryResolver, outbound: &OutboundIp) -> Vec<Finding> {
    let OutboundIp { address, name } = outbound;
    let (names, forward) = tokio::join!(resolver.names(*address), addresses(resolver, name));
    vec![
        judge_reverse(*address, name, &answer(names)),
        judge_ehlo(*address, name, &forward),
    ]
}

/// A name that `[routing]ehlo` gives to all outbounds.
async fn ehlo(resolver: &HickoryResolver, name: &str) -> Finding {
    let (check, advice) = ("ehlo", "use @rdns, or a name that has an address");
    match addresses(resolver, name).await {
        Ok(found) if found.is_empty() => Finding::act(
            check,
            name,
            "the name has no address",
            "one of ours",
            advice,
        ),
        Ok(found) => {
            let found: Vec<String> = found.iter().map(IpAddr::to_string).collect();
            Finding::good(check, name, format!("leads to {}", found.join(" ")))
        }
        Err(why) => Finding::act(
            check,
            name,
            format!("no answer: {why}"),
            "one of ours",
            advice,
        ),
    }
}

async fn sender(resolver: &HickoryResolver, settings: &Settings, domain: &str) -> Vec<Finding> {
    let senders = sending_addresses(settings, domain);
    let seen = spf_seen(resolver, domain);
    let records = dmarc_records(resolver, domain);
    let sts_name = format!("_mta-sts.{domain}");
    let rpt_name = format!("_smtp._tls.{domain}");
    let (seen, hosts, records, sts, rpt) = tokio::join!(
        seen,
        mail_hosts(resolver, domain),
        records,
        texts(resolver, &sts_name),
        texts(resolver, &rpt_name)
    );
    let (hosts, implicit) = match hosts {
        Ok((hosts, implicit)) => (Ok(hosts), implicit),
        Err(cause) => (Err(cause), false),
    };
    let own: Vec<IpAddr> = settings.outbounds.iter().map(|ip| ip.address).collect();
    let mut findings = vec![
        judge_mx(domain, &hosts, implicit, &own),
        judge_spf(domain, &senders, &spf(&senders), &seen),
    ];
    findings.extend(keys(resolver, settings, domain).await);
    let configured = Dmarc {
        expected: &dmarc(settings, domain),
        reports: &settings.rfrelay.dmarcaddr,
    };
    findings.push(judge_dmarc(domain, configured, &records));
    let expected = mta_sts(&policy(domain));
    findings.push(judge_text("mta-sts", &sts_name, "STSv1", &expected, &sts));
    let expected = tls_reports(settings, domain);
    findings.push(judge_text(
        "tls-rpt", &rpt_name, "TLSRPTv1", &expected, &rpt,
    ));
    findings
}

/// The published half of each key of the domain.
async fn keys(resolver: &HickoryResolver, settings: &Settings, domain: &str) -> Vec<Finding> {
    let keys = keys_of(&settings.keys, domain);
    if keys.is_empty() {
        let advice =
            format!("`galerne keygen {domain} SELECTOR` makes one; then publish its record");
        let finding = Finding::act(
            "dkim",
            domain,
            "no key signs for it",
            "a key in keys/",
            advice,
        );
        // Where we are told not to sign, others do.
        return match settings.routing.sign.value() {
            Some(Sign::None) => vec![finding.or_advice()],
            _ => vec![finding],
        };
    }
    let mut findings = Vec::new();
    for key in keys {
        let name = format!("{}.{domain}", dkim_owner(key));
        match public_record(key) {
            Some(expected) => {
                let texts = texts(resolver, &name).await;
                findings.push(judge_dkim(domain, &name, &expected, &texts));
            }
            None => findings.push(Finding::act(
                "dkim",
                &key.file,
                "the key cannot be read",
                "a private key in PEM form",
                format!("`galerne keygen {domain} SELECTOR` makes a new one"),
            )),
        }
    }
    findings
}

async fn dmarc_records(
    resolver: &HickoryResolver,
    domain: &str,
) -> Vec<(String, Answer<Vec<String>>)> {
    let mut found = Vec::new();
    for name in organisational_names(domain) {
        let texts = texts(resolver, &format!("_dmarc.{name}")).await;
        let is_there = texts.as_ref().is_ok_and(|t| !t.is_empty());
        found.push((name, texts));
        if is_there {
            break;
        }
    }
    found
}

/// The mail hosts with their addresses; whether there is no MX and the domain stands for itself.
async fn mail_hosts(
    resolver: &HickoryResolver,
    domain: &str,
) -> Answer<(Vec<(u16, String, Vec<IpAddr>)>, bool)> {
    let records = match resolver.mx(domain).await.map_err(|e| e.to_string())?.value {
        MxLookup::Records(records) => records,
        MxLookup::NoSuchDomain => return Ok((Vec::new(), false)),
        MxLookup::NoRecords => {
            let own = addresses(resolver, domain).await?;
            return Ok((vec![(0, domain.to_owned(), own)], true));
        }
    };
    let mut hosts = Vec::new();
    for (preference, host) in records.into_iter().take(MOST_LOOKUPS) {
        let found = match host.as_str() {
            "." => Vec::new(),
            _ => addresses(resolver, &host).await?,
        };
        hosts.push((preference, host, found));
    }
    hosts.sort();
    Ok((hosts, false))
}

/// Walks the SPF record of a domain as receivers do.
async fn spf_seen(resolver: &HickoryResolver, domain: &str) -> Answer<Seen> {
    let mut seen = Seen {
        records: spf_records(resolver, domain).await?,
        ..Seen::default()
    };
    let Some(record) = seen
        .records
        .first()
        .cloned()
        .filter(|_| seen.records.len() == 1)
    else {
        return Ok(seen);
    };
    let mut walk = Walk {
        resolver,
        left: MOST_LOOKUPS,
        todo: vec![(domain.to_owned(), record, true)],
    };
    while let Some((at, record, is_own)) = walk.todo.pop() {
        if let Err(stop) = walk.record(&mut seen, &at, &record, is_own).await {
            match stop {
                Stop::Broken(why) => seen.broken = Some(why),
                Stop::Unanswered(cause) => return Err(cause),
            }
            break;
        }
    }
    Ok(seen)
}

async fn spf_records(resolver: &HickoryResolver, name: &str) -> Answer<Vec<String>> {
    let mut found = texts(resolver, name).await?;
    found.retain(|text| is_record(text));
    Ok(found)
}

/// Why a walk ends early.
enum Stop {
    /// Receivers take the record for none.
    Broken(String),
    Unanswered(String),
}

struct Walk<'a> {
    resolver: &'a HickoryResolver,
    /// Look-ups that are left.
    left: usize,
    /// Records to read: name, text, and whether the end of it is that of the whole.
    todo: Vec<(String, String, bool)>,
}

impl Walk<'_> {
    async fn record(
        &mut self,
        seen: &mut Seen,
        at: &str,
        record: &str,
        is_own: bool,
    ) -> Result<(), Stop> {
        let terms = parse(record).map_err(|why| Stop::Broken(format!("{why}, at {at}")))?;
        let has_all = terms.iter().any(|term| matches!(term, Term::All(_)));
        for term in terms {
            match term {
                Term::Network(Qualifier::Pass, network) => seen.networks.push(network),
                Term::Network(..) => {}
                Term::A(qualifier, host, prefixes) => {
                    self.count()?;
                    let host = host.unwrap_or_else(|| at.to_owned());
                    self.hosts(seen, qualifier, &[host], prefixes).await?;
                }
                Term::Mx(qualifier, host, prefixes) => {
                    self.count()?;
                    let host = host.unwrap_or_else(|| at.to_owned());
                    let (hosts, implicit) = mail_hosts(self.resolver, &host)
                        .await
                        .map_err(Stop::Unanswered)?;
                    let hosts: Vec<String> = hosts.into_iter().map(|(_, host, _)| host).collect();
                    if !implicit {
                        self.hosts(seen, qualifier, &hosts, prefixes).await?;
                    }
                }
                Term::Include(qualifier, name) => {
                    let record = self.other(&name).await?;
                    if qualifier == Qualifier::Pass {
                        self.todo.push((name, record, false));
                    }
                }
                Term::Redirect(_) if has_all => {}
                Term::Redirect(name) => {
                    let record = self.other(&name).await?;
                    self.todo.push((name, record, is_own));
                }
                Term::All(qualifier) if is_own || qualifier == Qualifier::Pass => {
                    seen.all = Some(qualifier);
                }
                Term::All(_) => {}
                Term::Depends(word) => {
                    self.count()?;
                    seen.depends.push(word);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Stop> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| Stop::Broken(format!("it needs more than {MOST_LOOKUPS} look-ups")))?;
        Ok(())
    }

    /// The record that another one names.
    async fn other(&mut self, name: &str) -> Result<String, Stop> {
        self.count()?;
        let mut records = spf_records(self.resolver, name)
            .await
            .map_err(Stop::Unanswered)?;
        match (records.pop(), records.is_empty()) {
            (Some(record), true) => Ok(record),
            (None, _) => Err(Stop::Broken(format!("{name} has no SPF record"))),
            (Some(_), false) => Err(Stop::Broken(format!("{name} has several SPF records"))),
        }
    }

    async fn hosts(
        &self,
        seen: &mut Seen,
        qualifier: Qualifier,
        hosts: &[String],
        (four, six): (u8, u8),
    ) -> Result<(), Stop> {
        if qualifier != Qualifier::Pass {
            return Ok(());
        }
        for host in hosts {
            let found = addresses(self.resolver, host)
                .await
                .map_err(Stop::Unanswered)?;
            let networks = found.into_iter().map(|address| Network {
                address,
                prefix: if address.is_ipv4() { four } else { six },
            });
            seen.networks.extend(networks);
        }
        Ok(())
    }
}

async fn texts(resolver: &HickoryResolver, name: &str) -> Answer<Vec<String>> {
    let texts = answer(resolver.txt(name).await)?.into_iter();
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    Ok(texts.map(text).collect())
}

/// The addresses of a host; none where there is no such name.
pub async fn addresses(resolver: &HickoryResolver, host: &str) -> Answer<Vec<IpAddr>> {
    match resolver.addresses(host).await {
        Ok(found) => Ok(found.addresses),
        Err(LookupFailure::NoSuchName) => Ok(Vec::new()),
        Err(LookupFailure::Temporary(cause)) => Err(cause),
    }
}

/// A name that does not exist has no records: that is an answer.
fn answer<T>(found: Result<Vec<T>, LookupFailure>) -> Answer<Vec<T>> {
    match found {
        Err(LookupFailure::NoSuchName) => Ok(Vec::new()),
        Err(LookupFailure::Temporary(cause)) => Err(cause),
        Ok(found) => Ok(found),
    }
}
