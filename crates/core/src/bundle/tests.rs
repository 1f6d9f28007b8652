use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::{Route, RouteRule, Terms};
use crate::testing::{group, host, outbound, sender};

fn plan() -> Plan {
    Plan {
        route: Route {
            next_hop: NextHop::Mx,
            rule: RouteRule::Words("".into()),
        },
        group: Arc::new(group("bigisp")),
        outbounds: vec![
            outbound("192.0.2.10", "mta10"),
            outbound("192.0.2.11", "mta11"),
        ]
        .into(),
        ordered: false,
        ssl: Ssl::Opportunistic,
        terms: Arc::new(Terms {
            ehlo: None,
            sender: OutboundSender::Fixed(sender("orders@example.com")),
            timeout: Duration::from_secs(60),
            signing: Signing::default(),
            maxhop: 3,
        }),
        reasons: Vec::new(),
    }
}

fn terms(plan: &mut Plan) -> &mut Terms {
    Arc::make_mut(&mut plan.terms)
}

#[test]
fn relay_20_relay_48_what_is_signed_differently_does_not_share() {
    let (one, mut other) = (plan(), plan());
    terms(&mut other).signing.arc = true;
    assert_eq!(shared(&[(&one, "x"), (&other, "x")]).len(), 2);
    assert_eq!(shared(&[(&one, "x"), (&one, "x")]).len(), 1);
}

fn shared(plans: &[(&Plan, &str)]) -> Vec<Vec<usize>> {
    let planned: Vec<Planned<'_>> = plans
        .iter()
        .map(|(plan, exchangers)| Planned {
            plans: std::slice::from_ref(*plan),
            exchangers,
        })
        .collect();
    bundles(&planned)
}

#[test]
fn relay_20_equal_recipients_share_in_the_order_of_rcpt() {
    let plan = plan();
    let list = [
        (&plan, "mx.a"),
        (&plan, "mx.b"),
        (&plan, "mx.a"),
        (&plan, "mx.b"),
        (&plan, "mx.c"),
    ];
    assert_eq!(shared(&list), [vec![0, 2], vec![1, 3], vec![4]]);
    assert!(shared(&[]).is_empty());
}

#[test]
fn relay_20_anything_that_differs_keeps_recipients_apart() {
    type Change = fn(&mut Plan);
    let changes: [Change; 10] = [
        |p| p.route.next_hop = NextHop::Host(Arc::new(host("corp"))),
        |p| p.group = Arc::new(group("other")),
        |p| p.outbounds = p.outbounds.iter().rev().cloned().collect(),
        |p| p.outbounds = p.outbounds.iter().take(1).cloned().collect(),
        |p| p.ordered = true,
        |p| terms(p).ehlo = Some("name.example".to_owned()),
        |p| p.ssl = Ssl::Required,
        |p| terms(p).sender = OutboundSender::Fixed(ReversePath::Null),
        |p| terms(p).timeout = Duration::from_secs(61),
        |p| terms(p).maxhop = 4,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut other = plan();
        change(&mut other);
        assert_eq!(
            shared(&[(&plan(), "mx"), (&other, "mx")]),
            [vec![0], vec![1]],
            "change {number}"
        );
    }
    assert_eq!(shared(&[(&plan(), "mx"), (&plan(), "mx")]), [vec![0, 1]]);
}

#[test]
fn relay_20_recipients_with_a_sender_of_their_own_never_share() {
    let mut verp = plan();
    terms(&mut verp).sender = OutboundSender::Verp {
        domain: Some("news.example.com".to_owned()),
    };
    assert_eq!(shared(&[(&verp, "mx"), (&verp, "mx")]), [vec![0], vec![1]]);
}

#[test]
fn relay_20_a_bundle_holds_at_most_100() {
    let plan = plan();
    let list = vec![(&plan, "mx"); 250];
    let bundles = shared(&list);
    assert_eq!(
        bundles.iter().map(Vec::len).collect::<Vec<_>>(),
        [100, 100, 50]
    );
    assert_eq!(bundles.concat(), (0..250).collect::<Vec<_>>());
}

#[test]
fn relay_20_route_29_all_plans_count_not_only_the_first() {
    let (first, mut other) = (plan(), plan());
    other.route.next_hop = NextHop::Host(Arc::new(host("corp")));
    let planned = |plans| Planned {
        plans,
        exchangers: "mx",
    };
    let both = [first.clone(), other.clone()];
    let same = [planned(&both), planned(&both)];
    assert_eq!(bundles(&same), [vec![0, 1]]);
    let alone = [first];
    assert_eq!(
        bundles(&[planned(&both), planned(&alone)]),
        [vec![0], vec![1]]
    );
}
