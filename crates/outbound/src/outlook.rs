//! What TLS would have to be on the way of a plan: the look-ups and the decisions of a delivery,
//! without one. For `galerne explain`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use galerne_core::model::{NextHop, Plan, Remote};
use galerne_core::refusal::Refusal;
use galerne_core::settings::{RelayHost, Ssl};
use galerne_core::snapshot::Snapshot;
use galerne_core::tls_policy::sts::Policy;
use galerne_core::tls_policy::{Dane, Demand, HostFacts, Wish, for_host};
use galerne_dns::{Destination, Resolver, host_addresses};
use tokio::time::{Instant, timeout_at};

use crate::demand::{Ask, judge_mx};
use crate::sts::{Means, Policies};
use crate::tls::ClientTls;

/// Time for all look-ups about one plan.
const LONGEST: Duration = Duration::from_secs(20);

/// What is needed to look.
pub struct Outlook<'a> {
    pub settings: &'a Arc<Snapshot>,
    pub resolver: Arc<dyn Resolver>,
    pub tls: ClientTls,
    pub policies: &'a Arc<Policies>,
    /// The recipient's domain, lower case, A-labels.
    pub domain: &'a str,
    pub destination: Option<&'a Destination>,
}

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// The MTA-STS policy of the domain, where it matters and exists.
    pub policy: Option<Arc<Policy>>,
    /// In the order in which they are tried.
    pub remotes: Vec<SeenRemote>,
}

/// One host.
pub struct SeenRemote {
    pub host: Arc<str>,
    /// Of an MX host, where DANE is looked at.
    pub dane: Option<Dane>,
    pub demand: Result<Demand, Refusal>,
}

impl Outlook<'_> {
    /// Looks along the way of a plan.
    pub async fn look(&self, plan: &Plan) -> Seen {
        let deadline = Instant::now() + LONGEST;
        match &plan.route.next_hop {
            NextHop::Host(host) => self.host(host, plan.ssl, deadline).await,
            NextHop::Mx => self.mx(plan.ssl, deadline).await,
        }
    }

    async fn host(&self, host: &RelayHost, ssl: Ssl, deadline: Instant) -> Seen {
        let found = timeout_at(deadline, host_addresses(&*self.resolver, &host.host)).await;
        // A host that cannot be found now is taken for one elsewhere.
        let first = found.ok().and_then(|found| found.ok()?.into_iter().next());
        let facts = HostFacts::of(host, first.is_some_and(|address| address.is_loopback()));
        let remote = SeenRemote {
            host: host.host.as_str().into(),
            dane: None,
            demand: for_host(ssl, Wish::Nothing, facts),
        };
        Seen {
            policy: None,
            remotes: vec![remote],
        }
    }

    async fn mx(&self, ssl: Ssl, deadline: Instant) -> Seen {
        let settings = &self.settings.rfmta;
        let policy = match settings.mtasts && ssl != Ssl::Never {
            true => {
                let means = Means {
                    resolver: self.resolver.clone(),
                    tls: self.tls.clone(),
                    settings: self.settings.clone(),
                };
                self.policies.policy(self.domain, means, deadline).await
            }
            false => None,
        };
        let mut remotes = Vec::new();
        let hosts = self.destination.iter().flat_map(|found| &found.hosts);
        for (_, host, addresses) in hosts {
            let Some(address) = addresses.first() else {
                continue;
            };
            let remote = Remote {
                host: host.clone(),
                address: SocketAddr::new(*address, settings.mxport),
            };
            let ask = Ask {
                ssl,
                wish: Wish::Nothing,
                settings,
                policy: policy.as_deref(),
            };
            let resolver = &*self.resolver;
            let (dane, demand) = judge_mx(resolver, ask, self.destination, &remote, deadline).await;
            remotes.push(SeenRemote {
                host: host.clone(),
                dane: (settings.dane && ssl != Ssl::Never).then_some(dane),
                demand,
            });
        }
        Seen { policy, remotes }
    }
}
