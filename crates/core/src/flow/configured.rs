//! The flow sections of a configuration, group by group, and which of them hold for a plan.

use std::sync::Arc;

use crate::flow::desk::GroupFlow;
use crate::model::{OutboundSender, Plan};
use crate::settings::{Mailbox, OutboundIp, Settings};

/// All groups with their sections: the named ones, the group of all others with an empty name,
/// relay hosts with their `@`.
pub fn groups(settings: &Settings) -> Vec<(String, GroupFlow)> {
    let flow = |group: &crate::settings::Group| GroupFlow {
        sections: group.flow.clone(),
        defaults: settings.flow_defaults.clone(),
        ..GroupFlow::default()
    };
    let named = settings
        .groups
        .iter()
        .filter(|group| group.relay.is_none())
        .map(|group| (group.name.clone(), flow(group)));
    let catch_all = GroupFlow {
        is_catch_all: true,
        ..flow(&settings.catch_all)
    };
    let hosts = settings.hosts.iter().filter_map(|host| {
        let group = host.group.as_deref()?;
        let unlimited = GroupFlow {
            is_unlimited: group.flow.is_empty(),
            ..flow(group)
        };
        Some((format!("@{}", host.name), unlimited))
    });
    let catch_all = std::iter::once((String::new(), catch_all));
    named.chain(catch_all).chain(hosts).collect()
}

/// The name under which the mail of a plan is counted, as in `groups` (ROUTE-4).
pub fn group_of(plan: &Plan) -> Arc<str> {
    match plan
        .route
        .next_hop
        .host()
        .and_then(|host| host.group.as_ref())
    {
        Some(group) => format!("@{}", group.name).into(),
        None => plan.group.name.as_str().into(),
    }
}

/// The sender domain under which a message is counted: that of the outbound envelope sender, for
/// a null sender that of the From field (FLOW-4). Empty: neither. In lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderDomain {
    Fixed(Arc<str>),
    /// The name of the outbound that is taken.
    OfOutbound,
}

impl SenderDomain {
    /// That of a plan.
    pub fn of(plan: &Plan, header_from: Option<&Mailbox>) -> Self {
        match &plan.sender {
            OutboundSender::Fixed(path) => {
                let mailbox = path.mailbox().or(header_from);
                let domain = mailbox.map(Mailbox::ascii_domain);
                SenderDomain::Fixed(lower(domain.as_deref().unwrap_or_default()))
            }
            OutboundSender::Verp {
                domain: Some(domain),
            } => SenderDomain::Fixed(lower(domain)),
            OutboundSender::Verp { domain: None } => SenderDomain::OfOutbound,
        }
    }

    /// For mail from this outbound.
    pub fn at(&self, outbound: &OutboundIp) -> Arc<str> {
        match self {
            SenderDomain::Fixed(domain) => domain.clone(),
            SenderDomain::OfOutbound => lower(&outbound.name),
        }
    }
}

fn lower(domain: &str) -> Arc<str> {
    match domain.chars().any(char::is_uppercase) {
        true => domain.to_lowercase().into(),
        false => domain.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Control, Set};
    use crate::testing::{group, host, settings};

    #[test]
    fn flow_1_flow_4_flow_51_every_group_and_host_has_its_flow() {
        let mut settings = settings();
        settings.groups = vec![Arc::new(group("isp"))];
        let mut limited = host("limited");
        let mut own = group("limited");
        own.flow.section(Control::Ip, Set::Warmup, None).threadmax = Some(3);
        limited.group = Some(Arc::new(own));
        settings.hosts = vec![Arc::new(host("corp")), Arc::new(limited)];
        let shown: Vec<_> = groups(&settings)
            .into_iter()
            .map(|(name, flow)| (name, flow.is_catch_all, flow.is_unlimited))
            .collect();
        assert_eq!(
            shown,
            [
                ("isp".to_owned(), false, false),
                (String::new(), true, false),
                ("@corp".to_owned(), false, true),
                ("@limited".to_owned(), false, false),
            ]
        );
    }
}
