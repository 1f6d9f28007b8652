//! `galerne users list` and `galerne patterns test` (IF-6, FLOW-76).

use std::path::Path;
use std::process::ExitCode;

use galerne_core::qualify::{Explanation, reply_from_text};
use galerne_core::settings::{Account, Group, Settings};
use serde_json::{Value, json};

use super::{fail, print_json, settings};
use crate::cli::PatternsTestArgs;
use crate::out::print;

/// One line per account.
pub fn users_list(root: &Path, as_json: bool) -> ExitCode {
    let settings = match settings(root) {
        Ok(settings) => settings,
        Err(text) => return fail(&text),
    };
    if as_json {
        let accounts: Vec<Value> = settings.accounts.iter().map(|a| describe(a)).collect();
        return print_json(&accounts, ExitCode::SUCCESS);
    }
    if settings.accounts.is_empty() {
        eprintln!("no account; make users/<name>.ini");
    }
    let mut text = String::new();
    for account in &settings.accounts {
        let networks: Vec<String> = account
            .smtpip
            .iter()
            .map(|n| format!("{}/{}", n.address, n.prefix))
            .collect();
        text.push_str(&format!(
            "{} - Login: {} - TLS: {} - Networks: {} - Lists: {}\n",
            account.name,
            account.login.as_deref().unwrap_or("none"),
            if account.smtpssl {
                "required"
            } else {
                "optional"
            },
            if networks.is_empty() {
                "none".to_owned()
            } else {
                networks.join(" ")
            },
            account.filter.join(" "),
        ));
    }
    print(&text, ExitCode::SUCCESS)
}

fn describe(account: &Account) -> Value {
    let networks: Vec<String> = account
        .smtpip
        .iter()
        .map(|n| format!("{}/{}", n.address, n.prefix))
        .collect();
    json!({
        "name": account.name,
        "file": account.file,
        "login": account.login,
        "password": account.password.is_some(),
        "smtpssl": account.smtpssl,
        "smtpip": networks,
        "authorizedip": account.authorizedip,
        "authorizedsender": account.authorizedsender,
        "authorizedroute": account.authorizedroute,
        "filter": account.filter,
    })
}

/// Which pattern of a group matches a reply.
pub fn patterns_test(root: &Path, args: &PatternsTestArgs) -> ExitCode {
    let settings = match settings(root) {
        Ok(settings) => settings,
        Err(text) => return fail(&text),
    };
    let Some(group) = find(&settings, &args.group) else {
        return fail(&format!(
            "there is no group or relay host {}; there are: {}",
            args.group,
            names(&settings)
        ));
    };
    let Some(reply) = reply_from_text(&args.reply) else {
        return fail(&format!(
            "{:?} is no reply: it begins with a code from 200 to 599",
            args.reply
        ));
    };
    let explanation = group.patterns.test(&group.name, &reply);
    match args.json {
        true => print_json(&explanation, ExitCode::SUCCESS),
        false => print(&shown(&explanation), ExitCode::SUCCESS),
    }
}

fn shown(explanation: &Explanation) -> String {
    let none = "-";
    let (Some(pattern), Some(function)) = (&explanation.pattern, explanation.function) else {
        return match explanation.function {
            None => format!("{}: a success; patterns are not asked\n", explanation.group),
            Some(function) => format!(
                "{}: no pattern matches: {function} by default\n",
                explanation.group
            ),
        };
    };
    let mut text = format!(
        "{}: {pattern} = {function}({})\n",
        explanation.group, explanation.description
    );
    if function == "FLOW" {
        let (ip, sender) = (
            explanation.ipset.unwrap_or(none),
            explanation.sdset.unwrap_or(none),
        );
        text.push_str(&format!(
            "  set for the IP: {ip}, for the sender: {sender}\n"
        ));
    }
    if let Some(delay) = explanation.delay {
        text.push_str(&format!("  retry after {delay} s\n"));
    }
    text.push_str(&format!(
        "  {}\n",
        explanation.source.as_deref().unwrap_or(none)
    ));
    text
}

fn names(settings: &Settings) -> String {
    let groups = settings
        .groups
        .iter()
        .map(|group| format!("@{}", group.name));
    let hosts = settings.hosts.iter().map(|host| format!("@{}", host.name));
    std::iter::once("@".to_owned())
        .chain(groups)
        .chain(hosts)
        .collect::<Vec<_>>()
        .join(" ")
}

fn find<'a>(settings: &'a Settings, name: &str) -> Option<&'a Group> {
    let name = name.trim_start_matches('@');
    if name.is_empty() {
        return Some(&settings.catch_all);
    }
    let named = settings
        .groups
        .iter()
        .find(|group| group.name.eq_ignore_ascii_case(name));
    let host = settings
        .hosts
        .iter()
        .find(|host| host.name.eq_ignore_ascii_case(name));
    named
        .map(|group| &**group)
        .or_else(|| host.map(|host| &*host.group))
}
