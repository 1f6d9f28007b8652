//! Mail that goes on by another way (`galerne queue move`, QUEUE-16): its directive is changed as if
//! the client had asked for that way.

use galerne_smtp::Mailbox;

use super::{Envelope, Progress, State};
use crate::directive::{self, Directive, OutboundName};
use crate::plan::{self, Asked};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// The way to go on by: what `routing.outbound` of a directive says.
///
/// # Errors
/// One of the names is neither an IP nor an @host, in words.
pub fn way(names: &[String]) -> Result<Vec<OutboundName>, String> {
    let json = serde_json::json!({"routing": {"outbound": names}}).to_string();
    let read = directive::parse(json.as_bytes()).map_err(|refusal| words(&refusal))?;
    read.outbound
        .ok_or_else(|| "no IP and no @host is named".to_owned())
}

/// The envelope with another way.
///
/// # Errors
/// Its directive is damaged.
pub fn moved(envelope: &Envelope, way: &[OutboundName]) -> Result<Envelope, String> {
    let mut directive = match &envelope.directive {
        Some(text) => directive::parse(text.as_bytes()).map_err(|refusal| words(&refusal))?,
        None => Directive::default(),
    };
    directive.outbound = Some(way.to_vec());
    Ok(Envelope {
        directive: directive.to_json(),
        ..envelope.clone()
    })
}

/// Whether mail to this recipient would go that way: `asked` has the changed directive. What an
/// account may do is asked again at each attempt; this is to say it at once.
///
/// # Errors
/// It would not, for this reason.
pub fn is_followed(
    snapshot: &Snapshot,
    asked: &Asked<'_>,
    recipient: &Mailbox,
    way: &[OutboundName],
) -> Result<(), String> {
    let domain = recipient.ascii_domain();
    let group = match snapshot.groups.relay_group(&domain) {
        Some(group) => group.clone(),
        None if plan::needs_group(snapshot, asked) => snapshot.groups.detect(&domain, None).group,
        None => snapshot.catch_all.clone(),
    };
    let plans = plan::plans(snapshot, asked, &group, &domain).map_err(|r| words(&r))?;
    let is_named = |host: &str| {
        let mut hosts = way.iter().filter_map(|name| match name {
            OutboundName::Host(host) => Some(host.as_str()),
            OutboundName::Ip(_) => None,
        });
        hosts.any(|name| name.eq_ignore_ascii_case(host))
    };
    let names_hosts = way.iter().any(|n| matches!(n, OutboundName::Host(_)));
    let names_ips = way.iter().any(|n| matches!(n, OutboundName::Ip(_)));
    for plan in &plans {
        let host = plan.route.next_hop.host();
        if names_hosts && !host.is_some_and(|host| is_named(&host.name)) {
            return Err(format!("the way is set by {}", plan.route.rule));
        }
        let is_one = |address| way.contains(&OutboundName::Ip(address));
        if names_ips && !plan.outbounds.iter().all(|o| is_one(o.address)) {
            return Err("the account or the route sets other local addresses".to_owned());
        }
    }
    Ok(())
}

/// How a moved delivery stands: due at once, but for one whose outcome is unknown, which keeps its
/// time (QUEUE-4).
pub fn progress(before: &Progress, now: u64) -> Progress {
    let next = match before.state {
        State::Unknown => before.next,
        State::Waiting | State::Deferred => before.next.min(now),
    };
    Progress {
        next,
        handed: false,
        ..before.clone()
    }
}

fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Ours { text, .. } => text.clone(),
        Refusal::Standard { reply, .. } => reply.to_log(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::content::Content;
    use crate::queue::QueuedRecipient;
    use crate::queue::carry::submission;
    use crate::settings::Account;
    use crate::testing;

    fn envelope(directive: Option<&str>) -> Envelope {
        Envelope {
            id: "01J".into(),
            reference: "ref-1".into(),
            tags: Vec::new(),
            header_id: None,
            user: Some("shop".into()),
            login: None,
            peer: "192.0.2.1:25".parse().unwrap(),
            helo: "client".into(),
            tls: false,
            session_id: "s".into(),
            sender: "a@example.com".into(),
            ret: None,
            envid: None,
            eight_bit: false,
            smtputf8: false,
            requiretls: false,
            tls_not_required: false,
            recipients: vec![QueuedRecipient {
                address: "b@example.org".into(),
                notify: None,
                orcpt: None,
            }],
            directive: directive.map(str::to_owned),
            header_from: None,
            received_at: 1,
            needs_chunking: false,
            is_dsn: false,
        }
    }

    fn followed(names: &[&str], change: impl FnOnce(&mut Account)) -> Result<(), String> {
        let mut settings = testing::settings();
        let mut account = testing::account("shop");
        account.authorizedroute = vec!["corp".to_owned()];
        change(&mut account);
        settings.accounts = vec![Arc::new(account)];
        let snapshot = Snapshot::new(Arc::new(settings));
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let way = way(&names)?;
        let moved = moved(&envelope(None), &way)?;
        let content = Content::in_memory(b"x".to_vec());
        let made = submission(&moved, content, &snapshot, Instant::now())?;
        let asked = Asked {
            account: made.client.account.as_deref(),
            login: None,
            routes: None,
            directive: &made.directive,
            sender: &made.sender.path,
            header_from: None,
        };
        is_followed(&snapshot, &asked, &made.recipients[0].mailbox, &way)
    }

    #[test]
    fn queue_16_move_changes_the_way_and_nothing_else() {
        let before =
            r#"{"message":{"tags":["a"]},"routing":{"sign":"none","outbound":["192.0.2.10"]}}"#;
        let way = way(&["@corp".to_owned(), "192.0.2.11".to_owned()]).unwrap();
        let after = moved(&envelope(Some(before)), &way).unwrap();
        let read = directive::parse(after.directive.as_deref().unwrap().as_bytes()).unwrap();
        let mut wanted = directive::parse(before.as_bytes()).unwrap();
        wanted.outbound = Some(way.clone());
        assert_eq!(read, wanted);
        let restored = Envelope {
            directive: Some(before.to_owned()),
            ..after
        };
        assert_eq!(restored, envelope(Some(before)));
        assert!(moved(&envelope(None), &way).is_ok());
        assert!(moved(&envelope(Some("{")), &way).is_err());
    }

    #[test]
    fn queue_16_a_way_that_would_not_be_gone_is_said_at_once() {
        assert_eq!(followed(&["192.0.2.10"], |_| ()), Ok(()));
        assert_eq!(followed(&["@corp"], |_| ()), Ok(()));
        for (names, why) in [
            (
                vec!["@spare"],
                "@spare is unknown or not allowed to this account",
            ),
            (
                vec!["192.0.2.99"],
                "192.0.2.99 is unknown or not allowed to this account",
            ),
            (vec!["corp"], "is neither an IP nor an @host"),
            (vec![], "at least one IP or @host"),
        ] {
            let error = followed(&names, |_| ()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        // Not where the user file has decided.
        let by_file = |account: &mut Account| {
            account.authorizedroute.push("spare".to_owned());
            account.routing.route = crate::settings::Key::Set(vec!["spare".to_owned()]);
        };
        let error = followed(&["@corp"], by_file).unwrap_err();
        assert!(error.contains("users/shop.ini"), "{error}");
        let narrow = |account: &mut Account| {
            account.authorizedip = Some(testing::ips("192.0.2.10"));
        };
        let error = followed(&["192.0.2.11"], narrow).unwrap_err();
        assert!(error.contains("not allowed"), "{error}");
    }

    #[test]
    fn queue_16_what_is_moved_is_due_at_once_but_not_what_may_have_been_delivered() {
        let before = |state| Progress {
            state,
            handed: true,
            held: true,
            attempts: 3,
            next: 5_000,
            duplicate_possible: true,
            ..Progress::default()
        };
        let after = progress(&before(State::Deferred), 1_000);
        assert_eq!((after.next, after.handed, after.held), (1_000, false, true));
        assert_eq!((after.attempts, after.duplicate_possible), (3, true));
        assert_eq!(progress(&before(State::Unknown), 1_000).next, 5_000);
        assert_eq!(progress(&before(State::Waiting), 9_000).next, 5_000);
    }
}
