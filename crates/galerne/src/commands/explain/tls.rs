//! What `galerne explain` sees outside: the MX of the domain, and what TLS would have to be on the
//! way. Policies are looked up, and fetched where the relay would fetch them; nothing is kept.

use std::path::Path;
use std::sync::Arc;

use galerne_core::explain::Decision;
use galerne_core::model::{NextHop, Plan};
use galerne_core::settings::Ssl;
use galerne_core::snapshot::Snapshot;
use galerne_core::tls_policy::Dane;
use galerne_core::tls_policy::sts::{Mode, Policy};
use galerne_dns::{Destination, DestinationFailure, HickoryResolver, Resolver, find_destination};
use galerne_outbound::outlook::{Outlook, SeenRemote};
use galerne_outbound::sts::Policies;
use galerne_outbound::{ClientTls, TcpDial, TlsCounts};
use galerne_smtp::Mailbox;
use galerne_store::PolicyStore;
use tokio::runtime::Runtime;

/// What looks outside.
pub struct Eyes {
    pub snapshot: Arc<Snapshot>,
    /// The recipient's domain, lower case, A-labels.
    pub domain: String,
    /// `None`: its MX say nothing, a relay group has it.
    pub found: Option<Result<Destination, DestinationFailure>>,
    resolver: Arc<HickoryResolver>,
    tls: ClientTls,
    policies: Arc<Policies>,
    runtime: Runtime,
}

impl Eyes {
    /// Looks up the MX.
    pub fn new(root: &Path, snapshot: Arc<Snapshot>, to: &Mailbox) -> Result<Eyes, String> {
        let domain = to.ascii_domain().into_owned();
        let resolver = Arc::new(HickoryResolver::new(&snapshot.settings.dns)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        let found = match snapshot.groups.relay_group(&domain) {
            Some(_) => None,
            None => {
                let asked_for = snapshot.groups.lookup_domain(&domain);
                let name = asked_for.as_deref().unwrap_or(&domain);
                let mut entropy = || 0;
                let look = find_destination(&*resolver, name, snapshot.own(), &mut entropy);
                Some(runtime.block_on(look))
            }
        };
        let store = Arc::new(PolicyStore::read_only(&root.join("system/mtasts")));
        let counts = Arc::new(TlsCounts::default());
        Ok(Eyes {
            domain,
            found,
            resolver,
            tls: ClientTls::new(snapshot.rfmta.cafile.as_deref())?,
            policies: Policies::new(store, Arc::new(TcpDial), counts),
            runtime,
            snapshot,
        })
    }

    /// What TLS must be on the way of a plan, and what was found that says so.
    pub fn tls(&self, plan: &Plan) -> Vec<Decision> {
        let outlook = Outlook {
            settings: &self.snapshot,
            resolver: self.resolver.clone() as Arc<dyn Resolver>,
            tls: self.tls.clone(),
            policies: &self.policies,
            domain: &self.domain,
            destination: self.found.as_ref().and_then(|found| found.as_ref().ok()),
        };
        let seen = self.runtime.block_on(outlook.look(plan));
        let mut decisions: Vec<Decision> = Vec::new();
        if matches!(plan.route.next_hop, NextHop::Mx) && plan.ssl != Ssl::Never {
            decisions.push(self.mta_sts(seen.policy.as_deref()));
        }
        for SeenRemote { host, dane, demand } in seen.remotes {
            if let Some(dane) = dane {
                decisions.push(self.dane(&host, &dane));
            }
            let (value, rule) = match demand {
                Ok(demand) => (demand.to_string(), demand.rule.to_owned()),
                Err(refusal) => {
                    let reply = refusal.reply(false).to_log();
                    (format!("not used: {reply}"), refusal.rule().to_owned())
                }
            };
            decisions.push(decision("tls", format!("{host}: {value}"), rule));
        }
        decisions
    }

    fn mta_sts(&self, policy: Option<&Policy>) -> Decision {
        let value = match policy {
            None => "no policy".to_owned(),
            Some(policy) => {
                let mode = match policy.mode {
                    Mode::Enforce => "enforce",
                    Mode::Testing => "testing",
                    Mode::None => "none",
                };
                format!("{mode}: {}", policy.hosts.join(" "))
            }
        };
        let rule = match self.snapshot.rfmta.mtasts {
            true => format!("_mta-sts.{} (RFC 8461)", self.domain),
            false => "[rfmta] mtasts = 0".to_owned(),
        };
        decision("mta-sts", value, rule)
    }

    fn dane(&self, host: &str, dane: &Dane) -> Decision {
        let destination = self.found.as_ref().and_then(|found| found.as_ref().ok());
        let is_secure = destination.is_some_and(|d| d.secure.iter().any(|s| &*s.host == host));
        let rule = match (self.resolver.dnssec(), is_secure) {
            (false, _) => "[dns] dnssec is off".to_owned(),
            (_, false) => "DNSSEC does not prove the host".to_owned(),
            _ => format!("_{}._tcp.{host} (RFC 7672)", self.snapshot.rfmta.mxport),
        };
        decision("dane", format!("{host}: {dane}"), rule)
    }
}

fn decision(key: &str, value: String, rule: String) -> Decision {
    Decision {
        key: key.to_owned(),
        value,
        rule,
    }
}
