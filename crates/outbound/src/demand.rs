//! What the session of a hop must be: the facts that `galerne_core::tls_policy` decides by, with
//! the TLSA records of an MX host looked up when it is about to be tried.

use std::sync::Arc;
use std::time::Duration;

use galerne_core::model::{NextHop, Plan, Remote, Submission};
use galerne_core::refusal::Refusal;
use galerne_core::settings::Ssl;
use galerne_core::tls_policy::{Dane, Demand, HostFacts, for_host, for_mx, tlsa};
use galerne_dns::{LookupFailure, Proved, Resolver};
use tokio::time::{Instant, timeout_at};

use crate::delivery::Delivery;
use crate::prepare::Prepared;
use crate::tls_counts::Failure;

/// Time for the TLSA records of one name.
const TLSA_TIME: Duration = Duration::from_secs(10);

/// The demand on a session with this remote.
///
/// # Errors
/// The remote must not be used, or not now.
pub async fn demand(
    delivery: &Delivery,
    resolver: &dyn Resolver,
    (submission, plan, prepared): (&Submission, &Plan, Option<&Prepared>),
    remote: &Remote,
    deadline: Instant,
) -> Result<Demand, Refusal> {
    let requiretls = submission.sender.requiretls;
    if let NextHop::Host(host) = &plan.route.next_hop {
        let loopback = remote.address.ip().is_loopback();
        let facts = HostFacts {
            implicit: host.port == 465,
            loopback,
            password: host.login.is_some() && host.password.is_some(),
            auth_in_clear: loopback || host.authclear,
            verify: host.verify,
        };
        return for_host(plan.ssl, requiretls, facts);
    }
    let settings = &submission.settings.rfmta;
    let dane = match settings.dane && plan.ssl != Ssl::Never {
        true => dane(resolver, prepared, remote, deadline).await,
        false => Dane::Silent,
    };
    match &dane {
        Dane::Failed(_) => delivery.tools.counts.failed(Failure::DnssecInvalid),
        Dane::Unusable => delivery.tools.counts.failed(Failure::TlsaInvalid),
        Dane::Silent | Dane::Records(_) => {}
    }
    let policy = prepared.and_then(|p| p.policy.as_deref());
    let host = &remote.host;
    let made = for_mx(plan.ssl, requiretls, settings.verify, host, &dane, policy);
    let unnamed = policy.is_some_and(|policy| !policy.matches(host));
    if unnamed && !matches!(dane, Dane::Records(_)) {
        delivery.tools.counts.failed(Failure::ValidationFailure);
        tracing::info!(%host, enforced = made.is_err(), "an MX that the MTA-STS policy does not name");
    }
    made
}

/// What DANE says of the host, if DNSSEC vouches for it.
async fn dane(
    resolver: &dyn Resolver,
    prepared: Option<&Prepared>,
    remote: &Remote,
    deadline: Instant,
) -> Dane {
    let secure = prepared
        .and_then(|p| p.destination.as_ref())
        .and_then(|d| d.secure.iter().find(|s| s.host == remote.host));
    let Some(secure) = secure else {
        return Dane::Silent;
    };
    let deadline = deadline.min(Instant::now() + TLSA_TIME);
    for base in &secure.bases {
        let name = format!("_{}._tcp.{base}", remote.address.port());
        match timeout_at(deadline, resolver.tlsa(&name)).await {
            Err(_) => return Dane::Failed(format!("{name}: timed out")),
            Ok(Err(LookupFailure::Temporary(cause))) => return Dane::Failed(cause),
            Ok(Ok(Proved {
                value,
                secure: true,
            })) if !value.is_empty() => {
                let mut names = vec![base.clone()];
                if **base != *remote.host {
                    names.push(remote.host.to_string());
                }
                let usable = tlsa::usable(&value, names);
                return usable.map_or(Dane::Unusable, |set| Dane::Records(Arc::new(set)));
            }
            // None there, or none that is proved.
            Ok(Ok(_) | Err(LookupFailure::NoSuchName)) => {}
        }
    }
    Dane::Silent
}
