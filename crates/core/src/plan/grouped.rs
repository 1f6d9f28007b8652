//! What of planning depends on the group of the recipient's domain, which only its MX tell.

use std::sync::Arc;

use super::sources::Sources;
use super::{Asked, hosts_of, service};
use crate::model::Plan;
use crate::refusal::{Code, Refusal};
use crate::settings::{Account, Group, Settings};

/// Whether the recipient's group must be known before planning. If not, a relay host is chosen
/// whatever the group, so the MX lookup may be skipped and the catch-all group be passed.
pub fn needs_group(settings: &Settings, asked: &Asked<'_>) -> bool {
    let Asked {
        account, directive, ..
    } = *asked;
    let Some(account) = account else { return true };
    if !account.routing_by_group.is_empty() {
        return true;
    }
    if let Some(service) = service(asked, &Sources::new(settings, Some(account), "")) {
        return service.host.group.is_none();
    }
    match (
        account.routing.route.is_present(),
        account.routing.route.value(),
    ) {
        (true, route) => route.is_none_or(Vec::is_empty),
        (false, _) => hosts_of(directive).next().is_none(),
    }
}

/// Whether an order of the account may give `[routing@group]` parameters (CONF-50).
pub fn may_route_group(account: &Account, group: &str) -> Result<(), Refusal> {
    let given = &account.authorizedrouting;
    if given
        .iter()
        .any(|name| name == "*" || name.eq_ignore_ascii_case(group))
    {
        return Ok(());
    }
    let rule = format!("{} [account] authorizedrouting", account.file);
    Err(Refusal::new(
        Code::NotAllowed,
        format!("routing@{group} is not allowed to this account"),
        rule,
    ))
}

/// As `plans`, where those for mail to the group `before` are at hand: nothing is decided again
/// that no group decides.
pub fn plans_after(
    settings: &Settings,
    asked: &Asked<'_>,
    (mut plans, before): (Vec<Plan>, &Group),
    group: &Arc<Group>,
    recipient_domain: &str,
) -> Result<Vec<Plan>, Refusal> {
    let by_group = asked.account.map(|account| &account.routing_by_group);
    let depends = by_group.is_some_and(|sections| !sections.is_empty())
        || before.relay.is_some()
        || group.relay.is_some();
    if plans.is_empty() || (depends && !std::ptr::eq(before, &**group)) {
        return super::plans(settings, asked, group, recipient_domain);
    }
    for plan in &mut plans {
        let host = plan.route.next_hop.host();
        if host.is_none_or(|host| host.group.is_none()) {
            plan.group = group.clone();
        }
    }
    Ok(plans)
}
