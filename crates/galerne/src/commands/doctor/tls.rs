//! TLS policies: whether DNSSEC works where DANE needs it, and the MTA-STS policies that the sender
//! domains announce, fetched as others fetch them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use galerne_core::doctor::{DnssecFacts, Finding, judge_dane, judge_policy};
use galerne_core::settings::Settings;
use galerne_core::snapshot::Snapshot;
use galerne_core::tls_policy::sts::Published;
use galerne_core::zone_records::sender_domains;
use galerne_dns::{BoxFuture, HickoryResolver, MxLookup, Resolver};
use galerne_outbound::sts::{Means, fetch_from};
use galerne_outbound::{BoxStream, ClientTls, Dial, TcpDial};
use tokio::time::timeout;

use super::names::addresses;

/// Time to fetch one policy.
const PATIENCE: Duration = Duration::from_secs(20);
/// Domains whose policies are fetched.
const MOST: usize = 100;

/// A policy is fetched by others: from which of our addresses we do it does not matter.
struct FromAnywhere;

impl Dial for FromAnywhere {
    fn dial(&self, local: IpAddr, remote: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        let any = match local {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        TcpDial.dial(any, remote)
    }
}

/// The findings about both.
pub async fn findings(settings: Arc<Settings>, resolver: Arc<HickoryResolver>) -> Vec<Finding> {
    let (dane, policies) = tokio::join!(dane(&settings, &resolver), policies(&settings, &resolver));
    dane.into_iter().chain(policies).collect()
}

async fn dane(settings: &Settings, resolver: &HickoryResolver) -> Option<Finding> {
    if !settings.rfmta.dane {
        return None;
    }
    let root = match resolver.dnssec() {
        true => resolver.is_root_secure().await.map_err(|e| e.to_string()),
        false => Ok(false),
    };
    Some(judge_dane(DnssecFacts {
        is_on: resolver.dnssec(),
        is_asked_for: settings.dns.dnssec.is_some(),
        root: &root,
    }))
}

async fn policies(settings: &Arc<Settings>, resolver: &Arc<HickoryResolver>) -> Vec<Finding> {
    let tls = match ClientTls::new(settings.rfmta.cafile.as_deref()) {
        Ok(tls) => tls,
        Err(why) => {
            let advice = "correct [rfmta] cafile, or install ca-certificates";
            let finding = Finding::act("mta-sts", "trust anchors", why, "certificates", advice);
            return vec![finding];
        }
    };
    let snapshot = Snapshot::new(settings.clone());
    let mut looks = Vec::new();
    for domain in sender_domains(settings).into_iter().take(MOST) {
        let means = Means {
            resolver: resolver.clone(),
            tls: tls.clone(),
            settings: snapshot.clone(),
        };
        let resolver = resolver.clone();
        looks.push(tokio::spawn(async move {
            policy(&resolver, &means, &domain).await
        }));
    }
    let mut findings = Vec::new();
    for look in looks {
        // A look ends by itself.
        findings.extend(look.await.ok().flatten());
    }
    findings
}

/// `None`: the domain announces no policy; what there is to say of that is said elsewhere.
async fn policy(resolver: &HickoryResolver, means: &Means, domain: &str) -> Option<Finding> {
    let records = resolver.txt(&format!("_mta-sts.{domain}")).await.ok()?;
    let Published::Id(_) = Published::read(&records) else {
        return None;
    };
    let hosts = match resolver.mx(domain).await.map(|found| found.value) {
        Ok(MxLookup::Records(records)) => {
            // The null MX is no host.
            let hosts = records.into_iter().map(|(_, host)| host);
            Ok(hosts.filter(|host| host != ".").collect())
        }
        Ok(MxLookup::NoRecords | MxLookup::NoSuchDomain) => Ok(vec![domain.to_owned()]),
        Err(failure) => Err(failure.to_string()),
    };
    let host = format!("mta-sts.{domain}");
    let fetched = timeout(PATIENCE, async {
        // The policy host may be this one, which mail must not be sent to.
        let found = addresses(resolver, &host).await?;
        let fetched = fetch_from(&host, found, means, &FromAnywhere).await;
        fetched.map_err(|(_, why)| why)
    });
    let fetched = fetched.await.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        Err(format!("not fetched within {seconds} s"))
    });
    Some(judge_policy(domain, &hosts, &fetched))
}
