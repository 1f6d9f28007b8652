//! Which recipients of a message share one outbound transaction (RELAY-20). Called by the
//! delivery driver once all plans are made.

use std::collections::HashMap;
use std::time::Duration;

use galerne_smtp::ReversePath;

use crate::model::{NextHop, OutboundSender, Plan};
use crate::settings::{Outbounds, Ssl};
use crate::signing::Signing;

/// Most recipients of one outbound transaction.
pub const MOST: usize = 100;

/// One recipient to bundle.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// All its plans, in order of preference.
    pub plans: &'a [Plan],
    /// What names the MX hosts, or the domain: equal words have the same remotes. Relay hosts are
    /// named by the plans.
    pub exchangers: &'a str,
}

/// Everything that makes two outbound transactions different.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    exchangers: &'a str,
    plans: Vec<PlanKey<'a>>,
}

#[derive(PartialEq, Eq, Hash)]
struct PlanKey<'a> {
    relay: Option<&'a str>,
    group: &'a str,
    outbounds: &'a Outbounds,
    ordered: bool,
    ehlo: Option<&'a str>,
    sender: &'a ReversePath,
    ssl: u8,
    signing: &'a Signing,
    timeout: Duration,
    maxhop: u32,
}

/// Indices of `planned` in bundles of at most `MOST`, in the order of their first members.
pub fn bundles(planned: &[Planned<'_>]) -> Vec<Vec<usize>> {
    let mut bundles: Vec<Vec<usize>> = Vec::new();
    if planned.len() == 1 {
        return vec![vec![0]];
    }
    let mut open: HashMap<Key<'_>, usize> = HashMap::new();
    for (index, one) in planned.iter().enumerate() {
        let Some(key) = key(one) else {
            bundles.push(vec![index]);
            continue;
        };
        let latest = open.entry(key).or_insert(usize::MAX);
        match bundles.get_mut(*latest).filter(|b| b.len() < MOST) {
            Some(bundle) => bundle.push(index),
            None => {
                *latest = bundles.len();
                bundles.push(vec![index]);
            }
        }
    }
    bundles
}

/// `None`: the recipient has an envelope sender of its own and shares with nobody.
fn key<'a>(one: &Planned<'a>) -> Option<Key<'a>> {
    let plans: Option<Vec<_>> = one.plans.iter().map(plan_key).collect();
    let exchangers = one.exchangers;
    plans.map(|plans| Key { exchangers, plans })
}

fn plan_key(plan: &Plan) -> Option<PlanKey<'_>> {
    let OutboundSender::Fixed(sender) = &plan.sender else {
        return None;
    };
    Some(PlanKey {
        relay: match &plan.route.next_hop {
            NextHop::Mx => None,
            NextHop::Host(host) => Some(&host.name),
        },
        group: &plan.group.name,
        outbounds: &plan.outbounds,
        ordered: plan.ordered,
        ehlo: plan.ehlo.as_deref(),
        sender,
        ssl: match plan.ssl {
            Ssl::Opportunistic => 0,
            Ssl::Never => 1,
            Ssl::Required => 2,
        },
        signing: &plan.signing,
        timeout: plan.timeout,
        maxhop: plan.maxhop,
    })
}

#[cfg(test)]
mod tests;
