//! What the session of a hop must be: the facts that `galerne_core::tls_policy` decides by, with
//! the TLSA records of an MX host looked up when it is about to be tried.

use std::sync::Arc;
use std::time::Duration;

use galerne_core::model::{Plan, Remote, Submission};
use galerne_core::refusal::Refusal;
use galerne_core::settings::{RelayHost, RfMta, Ssl};
use galerne_core::tls_policy::sts::Policy;
use galerne_core::tls_policy::{Dane, Demand, HostFacts, MxFacts, Wish, for_host, for_mx, tlsa};
use galerne_dns::{Destination, LookupFailure, Proved, Resolver};
use tokio::time::{Instant, timeout_at};

use crate::delivery::Delivery;
use crate::prepare::Prepared;
use crate::tls_counts::Failure;

/// Time for the TLSA records of one name.
const TLSA_TIME: Duration = Duration::from_secs(10);

/// The demand on a session with a relay host: nothing needs to be looked up.
///
/// # Errors
/// The remote must not be used.
pub fn demand_of_host(
    submission: &Submission,
    plan: &Plan,
    host: &RelayHost,
    remote: &Remote,
) -> Result<Demand, Refusal> {
    let facts = HostFacts::of(host, remote.address.ip().is_loopback());
    for_host(plan.ssl, submission.tls_wish(), facts)
}

/// The demand on a session with an MX.
///
/// # Errors
/// The remote must not be used, or not now.
pub async fn demand_of_mx(
    delivery: &Delivery,
    resolver: &dyn Resolver,
    (submission, plan, prepared): (&Submission, &Plan, Option<&Prepared>),
    remote: &Remote,
    deadline: Instant,
) -> Result<Demand, Refusal> {
    let settings = &submission.settings.rfmta;
    let destination = prepared.and_then(|p| p.destination.as_ref());
    let policy = prepared.and_then(|p| p.policy.as_deref());
    let ask = Ask {
        ssl: plan.ssl,
        wish: submission.tls_wish(),
        settings,
        policy,
    };
    let (dane, made) = judge_mx(resolver, ask, destination, remote, deadline).await;
    match &dane {
        Dane::Failed(_) => delivery.tools.counts.failed(Failure::DnssecInvalid),
        Dane::Unusable => delivery.tools.counts.failed(Failure::TlsaInvalid),
        Dane::Silent | Dane::Records(_) => {}
    }
    let host = &remote.host;
    let unnamed = policy.is_some_and(|policy| !policy.matches(host));
    if unnamed && !matches!(dane, Dane::Records(_)) {
        delivery.tools.counts.failed(Failure::ValidationFailure);
        tracing::info!(%host, enforced = made.is_err(), "an MX that the MTA-STS policy does not name");
    }
    made
}

/// What is asked about an MX host.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub ssl: Ssl,
    pub wish: Wish,
    pub settings: &'a RfMta,
    /// The MTA-STS policy of the domain.
    pub policy: Option<&'a Policy>,
}

/// What DANE says of an MX host, and what follows for a session with it.
pub async fn judge_mx(
    resolver: &dyn Resolver,
    ask: Ask<'_>,
    destination: Option<&Destination>,
    remote: &Remote,
    deadline: Instant,
) -> (Dane, Result<Demand, Refusal>) {
    let counts = ask.ssl != Ssl::Never && ask.wish != Wish::NotRequired;
    let dane = match ask.settings.dane && counts {
        true => dane(resolver, destination, remote, deadline).await,
        false => Dane::Silent,
    };
    let facts = MxFacts {
        host: &remote.host,
        is_proved: destination.is_some_and(|d| d.are_proved),
        dane: &dane,
        policy: ask.policy,
    };
    let made = for_mx(ask.ssl, ask.wish, ask.settings.verify, facts);
    (dane, made)
}

/// What DANE says of the host, if DNSSEC vouches for it.
async fn dane(
    resolver: &dyn Resolver,
    destination: Option<&Destination>,
    remote: &Remote,
    deadline: Instant,
) -> Dane {
    let secure = destination.and_then(|d| d.secure.iter().find(|s| s.host == remote.host));
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
