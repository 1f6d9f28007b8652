//! `galerne explain` (IF-6): everything that would be decided for a message, and by which rule.

mod tls;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use galerne_core::directive::{self, Directive};
use galerne_core::explain::{Decision, Explanation, Question, explain as decide};
use galerne_core::flow::configured::{SenderDomain, group_of, groups};
use galerne_core::flow::{Control, Set};
use galerne_core::model::Plan;
use galerne_core::routes::{Draw, RouteTable};
use galerne_core::settings::{Account, Settings};
use galerne_core::snapshot::Snapshot;
use galerne_smtp::{Mailbox, ReversePath};
use galerne_store::ListStore;

use super::{fail, print_json, settings};
use crate::cli::ExplainArgs;
use crate::flow::FlowState;
use crate::out::print;

/// Explains; nothing is sent.
pub fn explain(root: &Path, args: &ExplainArgs) -> ExitCode {
    let explanation = settings(root).and_then(|settings| answer(root, args, settings));
    match explanation {
        Ok(explanation) if args.json => print_json(&explanation, ExitCode::SUCCESS),
        Ok(explanation) => print(&explanation.to_string(), ExitCode::SUCCESS),
        Err(text) => fail(&text),
    }
}

fn answer(root: &Path, args: &ExplainArgs, settings: Settings) -> Result<Explanation, String> {
    let from = ReversePath::parse(&args.from).map_err(|why| format!("--from: {why}"))?;
    let to = Mailbox::parse(&args.to).map_err(|why| format!("--to: {why}"))?;
    let snapshot = Snapshot::new(Arc::new(settings));
    let account = account(&snapshot, args.user.as_deref())?;
    let directive = match &args.directive {
        Some(text) => directive::parse(text.as_bytes()),
        None => Ok(Directive::default()),
    };
    let eyes = tls::Eyes::new(root, snapshot.clone(), &to)?;
    let (group, group_reason) = group(&eyes);
    let routes = Arc::new(RouteTable::new(super::routes::rows(root)?, &snapshot));
    let routes = Draw::look(routes);
    let states = super::flow::states(root)?;
    let lists = ListStore::open(&root.join("lists")).map_err(|e| format!("lists/: {e}"))?;
    let question = Question {
        from: &from,
        to: &to,
        account: account.as_ref(),
        known_by: args
            .user
            .as_ref()
            .map_or("unauthenticated".to_owned(), |user| {
                format!("--user {user}")
            }),
        directive: directive.as_ref(),
        header_from: from.mailbox(),
        routes: Some(&routes),
        tls: &|plan| eyes.tls(plan),
        flow: &|plan| flow(&snapshot, &states, from.mailbox(), plan),
        group: &group,
        group_reason,
    };
    Ok(decide(&snapshot, &question, &lists))
}

/// The set in force and the fill of its limits, for each outbound of a plan and for the sender.
fn flow(
    snapshot: &Snapshot,
    states: &[FlowState],
    header_from: Option<&Mailbox>,
    plan: &Plan,
) -> Vec<Decision> {
    let decision = |value: String, rule: String| Decision {
        key: "flow".to_owned(),
        value,
        rule,
    };
    let name = group_of(plan);
    let shown = name.trim_start_matches('@');
    let all = groups(snapshot);
    let Some((_, group)) = all.iter().find(|(other, _)| **other == *name) else {
        return Vec::new();
    };
    if group.is_unlimited {
        let rule = format!("the file of @{shown} has no flow section (FLOW-4)");
        return vec![decision("no limits".to_owned(), rule)];
    }
    let mut keys: Vec<(Control, String)> = Vec::new();
    let sender = SenderDomain::of(plan, header_from);
    for outbound in &plan.outbounds {
        keys.push((Control::Ip, outbound.address.to_string()));
        let sender = (Control::Sender, sender.at(outbound).to_string());
        if !keys.contains(&sender) {
            keys.push(sender);
        }
    }
    let of = |control: Control, key: &str| {
        states.iter().find(|state| {
            state.group == format!("@{shown}")
                && state.control == control.word()
                && state.key == key
        })
    };
    keys.iter()
        .map(|(control, key)| {
            let (value, set) = match of(*control, key) {
                Some(state) => (state.in_words(), state.set.clone()),
                None => ("nothing sent yet".to_owned(), Set::Warmup.word().to_owned()),
            };
            let rule = format!("[{}#{set}] of @{shown}", control.word());
            decision(format!("{key}: {set}, {value}"), rule)
        })
        .collect()
}

fn account(snapshot: &Snapshot, user: Option<&str>) -> Result<Option<Arc<Account>>, String> {
    let Some(user) = user else { return Ok(None) };
    let named = snapshot
        .settings
        .accounts
        .iter()
        .find(|account| account.name.eq_ignore_ascii_case(user));
    match named.or_else(|| snapshot.accounts.by_login(user)) {
        Some(account) => Ok(Some(account.clone())),
        None => Err(format!("there is no account {user}")),
    }
}

/// The group of the recipient's domain, by its MX as they are now.
fn group(eyes: &tls::Eyes) -> (Arc<galerne_core::settings::Group>, String) {
    let (snapshot, domain) = (&eyes.snapshot, &eyes.domain);
    let Some(found) = &eyes.found else {
        let group = snapshot.groups.relay_group(domain);
        let group = group.unwrap_or(&snapshot.catch_all).clone();
        let reason = format!("{domain} stands in the alias file of @{}", group.name);
        return (group, reason);
    };
    let hosts: Option<Vec<&str>> = found
        .as_ref()
        .ok()
        .filter(|f| !f.names.is_empty())
        .map(|f| f.names.iter().map(|(_, host)| &**host).collect());
    let detected = snapshot.groups.detect(domain, hosts.as_deref());
    let mut reason = detected.rule(domain);
    if let Err(failure) = found {
        reason.push_str(&match failure {
            galerne_dns::DestinationFailure::Refused(why) => {
                let reply = why.refusal(domain).reply(false).to_log();
                format!("; by MX it would be refused: {reply}")
            }
            galerne_dns::DestinationFailure::Temporary(cause) => {
                format!("; the MX could not be looked up: {cause}")
            }
        });
    }
    (detected.group, reason)
}
