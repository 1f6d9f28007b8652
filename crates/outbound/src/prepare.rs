//! Before the first attempt: the group of each recipient by the MX of its domain, its plans, and
//! the remote addresses of a plan. Lookups wait and are repeated until the deadline (RELAY-69 ff.).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use galerne_core::model::{NextHop, Plan, Remote, Submission};
use galerne_core::plan::{self, Asked};
use galerne_core::queue::board::Closed;
use galerne_core::queue::lane;
use galerne_core::refusal::{Code, Refusal};
use galerne_core::routes::Draw;
use galerne_core::settings::{Group, RelayHost, Ssl};
use galerne_core::tls_policy::Wish;
use galerne_core::tls_policy::sts::Policy;
use galerne_dns::{
    Destination, DestinationFailure, LookupFailure, find_destination, host_addresses, literal,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::delivery::Delivery;
use crate::sts::Means;

/// Longest pause between two lookups of the same name.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A recipient domain that is ready to be tried.
pub struct Prepared {
    /// In order of preference; never empty.
    pub plans: Vec<Plan>,
    /// The MX of the domain, when they were looked up.
    pub destination: Option<Destination>,
    /// The MTA-STS policy of the domain, if it has one.
    pub policy: Option<Arc<Policy>>,
    /// What names the MX, for bundling: equal words, equal hosts.
    pub exchangers: String,
}

/// A recipient domain that cannot be tried.
pub enum Unprepared {
    Refused {
        refusal: Refusal,
        group: Option<Arc<Group>>,
    },
    /// It belongs to a lane that an operator has suspended (QUEUE-18).
    Suspended {
        lane: String,
        group: Arc<Group>,
        host: Option<Arc<RelayHost>>,
    },
    /// No name server answered in time.
    DnsFailed { domain: String },
}

/// How long a name is waited for when there is another way without it.
const SOON: Duration = Duration::from_secs(5);
/// How long a message of the queue holds its place while no name server answers: it is tried again
/// later, and others need the place.
const QUEUED: Duration = Duration::from_secs(10);

/// How long names are looked up for a message that has so much time in all.
pub fn time_for_names(submission: &Submission, timeout: Duration) -> Duration {
    match submission.queued {
        true => timeout.min(QUEUED),
        false => timeout,
    }
}

/// How often a name is looked up that does not resolve now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    Once,
    UntilDeadline,
}

impl Asking {
    fn deadline(self, deadline: Instant) -> Instant {
        match self {
            Asking::Once => deadline.min(Instant::now() + SOON),
            Asking::UntilDeadline => deadline,
        }
    }
}

/// What the plans of a submission depend on; `routes`: the route table, where it matters.
pub fn asked<'a>(submission: &'a Submission, routes: Option<&'a Draw>) -> Asked<'a> {
    let client = &submission.client;
    Asked {
        account: client.account.as_deref(),
        // What we make ourselves counts as unauthenticated (ROUTE-60).
        login: client.login.as_deref().filter(|_| !submission.is_dsn),
        routes,
        directive: &submission.directive,
        sender: &submission.sender.path,
        header_from: submission.header_from.as_ref(),
    }
}

/// Decides everything that is decided before the first attempt for the recipients of one domain.
pub async fn prepare(
    delivery: &Delivery,
    submission: &Submission,
    routes: &Draw,
    domain: &str,
) -> Result<Prepared, Unprepared> {
    let mut prepared = prepare_all(delivery, submission, routes, domain).await?;
    if let Some(first) = submission.first {
        for plan in &mut prepared.plans {
            begin_with(plan, first);
        }
    }
    let without = suspended(submission, &prepared, domain)?;
    if without.is_empty() {
        return Ok(prepared);
    }
    // An operator has suspended some outbounds (QUEUE-18).
    for plan in &mut prepared.plans {
        let left = plan.outbounds.iter();
        let left = left.filter(|o| !without.contains(&o.address));
        plan.outbounds = left.cloned().collect();
    }
    prepared.plans.retain(|plan| !plan.outbounds.is_empty());
    match prepared.plans.is_empty() {
        false => Ok(prepared),
        true => Err(Unprepared::Refused {
            refusal: Refusal::new(
                Code::NoOutbound,
                "all outbounds of this route are suspended",
                "QUEUE-18",
            ),
            group: None,
        }),
    }
}

/// The outbounds that are suspended for this mail, now that its lane is known.
fn suspended<'a>(
    submission: &'a Submission,
    prepared: &Prepared,
    domain: &str,
) -> Result<Cow<'a, [IpAddr]>, Unprepared> {
    let without = Cow::Borrowed(submission.without.as_slice());
    let Some(first) = prepared.plans.first() else {
        return Ok(without);
    };
    if submission.closed.is_empty() {
        return Ok(without);
    }
    let lane = lane::of_plan(first, &first.group.name, domain);
    let (mut without, mut is_whole) = (without, false);
    let is_this = |closed: &&Closed| closed.lane.eq_ignore_ascii_case(&lane);
    for closed in submission.closed.iter().filter(is_this) {
        match closed.outbound {
            Some(outbound) => without.to_mut().push(outbound),
            None => is_whole = true,
        }
    }
    match is_whole {
        false => Ok(without),
        true => Err(Unprepared::Suspended {
            group: first.group.clone(),
            host: first.route.next_hop.host().cloned(),
            lane,
        }),
    }
}

/// One of the outbounds is tried before the others, if it is among them.
fn begin_with(plan: &mut Plan, first: IpAddr) {
    let (mut outbounds, others): (Vec<_>, Vec<_>) = plan
        .outbounds
        .iter()
        .cloned()
        .partition(|outbound| outbound.address == first);
    if outbounds.is_empty() {
        return;
    }
    outbounds.extend(others);
    plan.outbounds = outbounds.into_iter().collect();
    plan.ordered = true;
}

/// As `prepare`, with outbounds that are suspended.
async fn prepare_all(
    delivery: &Delivery,
    submission: &Submission,
    routes: &Draw,
    domain: &str,
) -> Result<Prepared, Unprepared> {
    let refused = |refusal, group| Unprepared::Refused { refusal, group };
    let settings = &submission.settings;
    let asked = asked(submission, Some(routes));
    if let Some(group) = settings.groups.relay_group(domain) {
        let group = group.clone();
        let plans =
            plan::plans(settings, &asked, &group, domain).map_err(|r| refused(r, Some(group)))?;
        return Ok(prepared(plans, None, None));
    }
    if !plan::needs_group(settings, &asked) {
        let group = settings.catch_all.clone();
        let plans = plan::plans(settings, &asked, &group, domain).map_err(|r| refused(r, None))?;
        return Ok(prepared(plans, None, None));
    }
    Box::pin(prepare_by_mx(delivery, submission, &asked, domain)).await
}

/// As `prepare`, where the MX of the domain tell the group or the way.
async fn prepare_by_mx(
    delivery: &Delivery,
    submission: &Submission,
    asked: &Asked<'_>,
    domain: &str,
) -> Result<Prepared, Unprepared> {
    let refused = |refusal, group| Unprepared::Refused { refusal, group };
    let settings = &submission.settings;
    let timeout = plan::timeout(settings, asked);
    let timeout = time_for_names(submission, timeout);
    let deadline = Instant::from_std(submission.received) + timeout;
    // Where no route goes by MX as far as is known, the MX only tell the group: mail does not
    // wait for name servers that fail (FLOW-56).
    let unknown = settings.groups.detect(domain, None).group;
    let likely = plan::plans(settings, asked, &unknown, domain).unwrap_or_default();
    let asking = match likely.iter().any(is_by_mx) {
        true => Asking::UntilDeadline,
        false => Asking::Once,
    };
    let has_policy = likely.iter().any(|plan| wants_policy(submission, plan));
    let (destination, mut policy) = tokio::join!(
        lookup(delivery, submission, domain, deadline, asking),
        policy(delivery, submission, domain, deadline, has_policy),
    );
    let names = destination
        .as_ref()
        .ok()
        .map(|found| &found.names)
        .filter(|names| !names.is_empty());
    let hosts: Option<Vec<&str>> =
        names.map(|names| names.iter().map(|(_, host)| &**host).collect());
    let detected = settings.groups.detect(domain, hosts.as_deref());
    let group = detected.group;
    if detected.learned_alias {
        delivery.book.alias(&group.name, domain);
    }
    let plans = plan::plans_after(settings, asked, (likely, &unknown), &group, domain)
        .map_err(|r| refused(r, Some(group.clone())))?;
    let by_mx = plans.iter().any(is_by_mx);
    // The group sends it another way than was likely.
    if !has_policy && plans.iter().any(|plan| wants_policy(submission, plan)) {
        policy = self::policy(delivery, submission, domain, deadline, true).await;
    }
    let destination = match destination {
        Ok(destination) => {
            record_mx(delivery, &group, &destination);
            Some(destination)
        }
        Err(_) if !by_mx => None,
        Err(DestinationFailure::Refused(why)) => {
            return Err(refused(why.refusal(domain), Some(group)));
        }
        Err(DestinationFailure::Temporary(_)) => {
            return Err(Unprepared::DnsFailed {
                domain: domain.to_owned(),
            });
        }
    };
    Ok(prepared(plans, destination, policy))
}

/// Whether the domain's MTA-STS policy matters to a plan. Relay hosts have none.
fn wants_policy(submission: &Submission, plan: &Plan) -> bool {
    let counts = plan.ssl != Ssl::Never && submission.tls_wish() != Wish::NotRequired;
    submission.settings.rfmta.mtasts && is_by_mx(plan) && counts
}

async fn policy(
    delivery: &Delivery,
    submission: &Submission,
    domain: &str,
    deadline: Instant,
    wanted: bool,
) -> Option<Arc<Policy>> {
    if !wanted {
        return None;
    }
    let edge = delivery.edge();
    let means = Means {
        resolver: edge.resolver,
        tls: edge.tls,
        settings: submission.settings.clone(),
    };
    delivery.policies.policy(domain, means, deadline).await
}

fn prepared(
    plans: Vec<Plan>,
    destination: Option<Destination>,
    policy: Option<Arc<Policy>>,
) -> Prepared {
    let by_mx = plans.iter().any(is_by_mx);
    let hosts = destination
        .iter()
        .filter(|_| by_mx)
        .flat_map(|found| &found.hosts);
    // Hosts of equal preference come in random order.
    let mut names: Vec<String> = hosts
        .map(|(preference, host, _)| format!("{preference} {host}"))
        .collect();
    names.sort_unstable();
    // Equal hosts are not equal where one domain trusts them and the other does not.
    let secure = destination.iter().flat_map(|found| &found.secure);
    let mut secure: Vec<String> = secure.map(|s| format!("dnssec {}", s.host)).collect();
    secure.sort_unstable();
    names.append(&mut secure);
    names.extend(policy.as_ref().map(|policy| format!("{policy:?}")));
    let exchangers = names.join(" ");
    Prepared {
        plans,
        destination,
        policy,
        exchangers,
    }
}

fn is_by_mx(plan: &Plan) -> bool {
    matches!(plan.route.next_hop, NextHop::Mx)
}

fn record_mx(delivery: &Delivery, group: &Group, destination: &Destination) {
    if group.name.is_empty() {
        return;
    }
    for (_, host, addresses) in &destination.hosts {
        for address in addresses {
            delivery.book.mx(&group.name, host, *address);
        }
    }
}

/// Looks up where mail for the domain goes, again and again until an answer or the deadline.
async fn lookup(
    delivery: &Delivery,
    submission: &Submission,
    domain: &str,
    deadline: Instant,
    asking: Asking,
) -> Result<Destination, DestinationFailure> {
    let settings = &submission.settings;
    let asked_for = settings.groups.lookup_domain(domain);
    let name = asked_for.as_deref().unwrap_or(domain);
    let resolver = delivery.edge().resolver;
    let mut entropy = delivery.entropy();
    let deadline = asking.deadline(deadline);
    let mut pause = Duration::from_millis(500);
    loop {
        let found = timeout_at(
            deadline,
            find_destination(&*resolver, name, settings.own(), &mut entropy),
        )
        .await;
        let failure = match found {
            Err(_) => {
                return Err(DestinationFailure::Temporary(
                    "the name servers do not answer".into(),
                ));
            }
            Ok(Err(failure @ DestinationFailure::Temporary(_))) => failure,
            Ok(settled) => return settled,
        };
        if asking == Asking::Once {
            return Err(failure);
        }
        let again = Instant::now() + pause;
        if again >= deadline {
            sleep_until(deadline).await;
            return Err(failure);
        }
        sleep_until(again).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The remote addresses of a plan, best first.
///
/// # Errors
/// The name of this relay host is to be looked up, with `relay_remotes`.
pub fn remotes<'p>(
    submission: &Submission,
    plan: &'p Plan,
    destination: Option<&Destination>,
) -> Result<Vec<Remote>, &'p RelayHost> {
    match &plan.route.next_hop {
        NextHop::Mx => {
            let port = submission.settings.rfmta.mxport;
            let hosts = destination
                .map(|found| found.hosts.as_slice())
                .unwrap_or_default();
            let each = hosts.iter().flat_map(|(_, host, addresses)| {
                addresses.iter().map(|address| Remote {
                    host: host.clone(),
                    address: SocketAddr::new(*address, port),
                })
            });
            Ok(each.collect())
        }
        NextHop::Host(host) => match literal(&host.host) {
            Some(address) => Ok(vec![Remote {
                host: host.host.as_str().into(),
                address: SocketAddr::new(address, host.port),
            }]),
            None => Err(host),
        },
    }
}

/// The addresses of a relay host.
///
/// # Errors
/// Its name does not resolve, or not in time.
pub async fn relay_remotes(
    delivery: &Delivery,
    host: &RelayHost,
    deadline: Instant,
    asking: Asking,
) -> Result<Vec<Remote>, LookupFailure> {
    let resolver = delivery.edge().resolver;
    let deadline = asking.deadline(deadline);
    let mut pause = Duration::from_millis(500);
    loop {
        let failure = match timeout_at(deadline, host_addresses(&*resolver, &host.host)).await {
            Err(_) => {
                return Err(LookupFailure::Temporary(
                    "the name servers do not answer".into(),
                ));
            }
            Ok(Ok(addresses)) => {
                let name: Arc<str> = host.host.as_str().into();
                let remote = |address| Remote {
                    host: name.clone(),
                    address: SocketAddr::new(address, host.port),
                };
                return Ok(addresses.into_iter().map(remote).collect());
            }
            Ok(Err(LookupFailure::NoSuchName)) => return Err(LookupFailure::NoSuchName),
            Ok(Err(failure)) => failure,
        };
        let again = Instant::now() + pause;
        if asking == Asking::Once || again >= deadline {
            return Err(failure);
        }
        sleep_until(again).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
