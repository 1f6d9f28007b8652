//! `galerne users list` and `galerne patterns test` (IF-6, FLOW-76).

use std::path::Path;
use std::process::ExitCode;

use galerne_core::qualify::{Explanation, reply_from_text};
use galerne_core::settings::{Account, Group, Settings};
use serde_json::{Value, json};

use super::{fail, print_json, settings};
use crate::cli::PatternsTestArgs;
use crate::control::{self, Request};
use crate::out::print;

/// One line per account, and what it has used up of its limits where a server runs (CONF-93).
pub fn users_list(root: &Path, as_json: bool) -> ExitCode {
    let settings = match settings(root) {
        Ok(settings) => settings,
        Err(text) => return fail(&text),
    };
    let used = used(root);
    if as_json {
        let accounts = settings.accounts.iter().map(|a| describe(a, &used));
        return print_json(&accounts.collect::<Vec<Value>>(), ExitCode::SUCCESS);
    }
    if settings.accounts.is_empty() {
        eprintln!("no account; make users/<name>.ini");
    }
    let lines = settings.accounts.iter().map(|a| line(a, &used));
    print(&lines.collect::<String>(), ExitCode::SUCCESS)
}

/// `{"shop": {"hour": 3, "day": 17}}`; null where no server can be asked.
fn used(root: &Path) -> Value {
    let answer = control::ask(root, &Request::Usage).ok();
    let line = answer
        .filter(|a| a.code == 250)
        .and_then(|a| a.lines.into_iter().next());
    line.and_then(|line| serde_json::from_str(&line).ok())
        .unwrap_or(Value::Null)
}

fn line(account: &Account, used: &Value) -> String {
    let networks: Vec<String> = account
        .smtpip
        .iter()
        .map(|n| format!("{}/{}", n.address, n.prefix))
        .collect();
    let of = |span: &str, limit: u64| {
        let limit = match limit {
            0 => "no limit".to_owned(),
            limit => limit.to_string(),
        };
        match &used[&account.name][span] {
            Value::Null => limit,
            used => format!("{used} of {limit}"),
        }
    };
    format!(
        "{} - Login: {} - TLS: {} - Networks: {} - Lists: {} - Hour: {} - Day: {}\n",
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
        of("hour", account.maxhour),
        of("day", account.maxday),
    )
}

fn describe(account: &Account, used: &Value) -> Value {
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
        "maxhour": account.maxhour,
        "maxday": account.maxday,
        "used": used[&account.name],
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
                "{}: no pattern matches: {function} by default\n  {}; the reply is noted in the group's log\n",
                explanation.group,
                effect(function)
            ),
        };
    };
    let mut text = format!(
        "{}: {pattern} = {function}({})\n",
        explanation.group, explanation.description
    );
    text.push_str(&format!("  {}\n", effect(function)));
    if function == "FLOW" {
        text.push_str(&match (explanation.ipset, explanation.sdset) {
            (None, None) => "  no set is named: nothing is switched\n".to_owned(),
            (ip, sender) => format!(
                "  set for the IP: {}, for the sender: {}\n",
                ip.unwrap_or("as it is"),
                sender.unwrap_or("as it is")
            ),
        });
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

/// What a reply of that kind does to its message (FLOW-67 to FLOW-71).
fn effect(function: &str) -> &'static str {
    match function {
        "SOFT" => "temporary: it may be tried again",
        "HARD" => "the recipient does not exist: never tried again, entered into rfhard",
        "SPAM" => "refused for its content: never tried again, not entered into rfhard",
        "GREY" => "grey-listing: tried again later, which uses up no retry",
        _ => "a block: another address or route is tried",
    }
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

pub(super) fn find<'a>(settings: &'a Settings, name: &str) -> Option<&'a Group> {
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
        .or_else(|| host.and_then(|host| host.group.as_deref()))
}
