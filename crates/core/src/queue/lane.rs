//! The lane of a delivery: what shares a destination waits together (QUEUE-14).

use crate::model::{NextHop, Plan, Settled};
use crate::plan::{self, Asked};
use crate::refusal::{Code, Refusal};
use crate::snapshot::Snapshot;

/// The lane of a recipient, as far as it is known without asking a name server: the relay host, the
/// group of the domain, else the domain itself.
pub fn lane(snapshot: &Snapshot, asked: &Asked<'_>, domain: &str) -> String {
    let group = match snapshot.groups.relay_group(domain) {
        Some(group) => group.clone(),
        None if plan::needs_group(snapshot, asked) => snapshot.groups.detect(domain, None).group,
        None => snapshot.catch_all.clone(),
    };
    let plans = plan::plans(snapshot, asked, &group, domain);
    let first = plans.as_ref().ok().and_then(|plans| plans.first());
    match first {
        Some(plan) => of_plan(plan, &group.name, domain),
        None => group_lane(&group.name, domain),
    }
}

/// The lane of a domain of which everything is known; `plan`: its first.
pub fn of_plan(plan: &Plan, group: &str, domain: &str) -> String {
    match &plan.route.next_hop {
        NextHop::Host(host) => host_lane(&host.name),
        NextHop::Mx => group_lane(group, domain),
    }
}

/// The mail turned out to belong to a lane that is suspended.
pub fn suspended(lane: &str) -> Refusal {
    let text = format!("{lane} is suspended");
    Refusal::new(Code::NoOutbound, text, SUSPENDED)
}

/// Whether that is how an attempt ended.
pub fn is_suspended(end: &Settled) -> bool {
    matches!(&end.refusal, Some(Refusal::Ours { rule, .. }) if rule == SUSPENDED)
}

/// The rule of that refusal.
const SUSPENDED: &str = "QUEUE-18 (lane)";

/// The lane of a domain when nothing else is known of the message yet.
pub fn of_domain(snapshot: &Snapshot, domain: &str) -> String {
    let group = match snapshot.groups.relay_group(domain) {
        Some(group) => group.clone(),
        None => snapshot.groups.detect(domain, None).group,
    };
    group_lane(&group.name, domain)
}

/// The group or relay host of a lane; `None`: it is that of a domain.
pub fn group_of(lane: &str) -> Option<&str> {
    let group = lane.strip_prefix("group ");
    group.or_else(|| lane.strip_prefix("host "))
}

/// The lane where an attempt went; `None`: nothing is known.
pub fn of_settled(end: &Settled, domain: &str) -> Option<String> {
    if let Some(host) = &end.host {
        return Some(host_lane(&host.name));
    }
    if end.attempts.is_empty() && !is_suspended(end) {
        return None;
    }
    let group = end.group.as_ref()?;
    Some(group_lane(&group.name, domain))
}

fn host_lane(name: &str) -> String {
    format!("host {name}")
}

/// The group of all other domains is many destinations.
fn group_lane(group: &str, domain: &str) -> String {
    match group.is_empty() {
        true => format!("domain {}", domain.to_ascii_lowercase()),
        false => format!("group {group}"),
    }
}
