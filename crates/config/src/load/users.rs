//! `users/<name>.ini`: accounts with their rights (CONF-37 to CONF-55, CONF-92).

use std::collections::HashSet;
use std::sync::Arc;

use galerne_core::settings::{Account, Key, Network, Secret, Settings};

use crate::finding::Level;
use crate::load::routing::{self, Hosts};
use crate::load::{Listed, Reader, declared_hosts, rights, services};
use crate::registry::File;
use crate::sheet::Sheet;
use crate::values;

/// Fills in the accounts, by name.
pub fn read(reader: &mut Reader<'_>, settings: &mut Settings, listed: &Listed) {
    let lists: HashSet<String> = reader
        .names("lists")
        .iter()
        .filter_map(|n| {
            n.to_ascii_lowercase()
                .strip_suffix(".csv")
                .map(str::to_string)
        })
        .collect();
    let hosts = settings.hosts.clone();
    let hosts = Hosts {
        usable: &hosts,
        declared: declared_hosts(reader),
    };
    let known = rights::Known {
        listed,
        lists,
        hosts,
        groups: settings.groups.iter().map(|g| g.name.clone()).collect(),
    };
    let mut claims = Claims::default();
    for name in reader.names("users") {
        let Some(stem) = ini_stem(&name) else {
            continue;
        };
        let file = format!("users/{name}");
        let user = match values::user_name(stem) {
            Ok(user) => user,
            Err(why) => {
                reader.file_finding(&file, Level::Error, &why);
                continue;
            }
        };
        if let Some(other) = claims.names.iter().find(|(n, _)| *n == user) {
            let text = format!("the account {user} stands in {} already", other.1);
            reader.file_finding(&file, Level::Error, &text);
            continue;
        }
        claims.names.push((user.clone(), file.clone()));
        let Some(mut sheet) = reader.sheet(&file, File::User, Some(&user)) else {
            continue;
        };
        let mut account = account(&mut sheet, user);
        account.services = services::read(&mut sheet, &settings.hosts, listed);
        known.check(&mut sheet, &account);
        if sheet.is_good() {
            claims.check(&mut sheet, &account);
        }
        if reader.close(sheet) {
            settings.accounts.push(Arc::new(account));
        }
    }
    settings.accounts.sort_by(|a, b| a.name.cmp(&b.name));
}

fn ini_stem(file: &str) -> Option<&str> {
    let (stem, end) = file.rsplit_once('.')?;
    (end.eq_ignore_ascii_case("ini") && !stem.is_empty()).then_some(stem)
}

fn account(sheet: &mut Sheet, name: String) -> Account {
    let s = "account";
    let password = secret(sheet, s, "smtppassw");
    let named = || name.clone();
    let login = sheet
        .text(s, "smtplogin")
        .or_else(|| password.as_ref().map(|_| named()));
    let groups: Vec<String> = group_sections(sheet);
    let routing_by_group = groups
        .into_iter()
        .map(|group| {
            let keys = routing::keys(sheet, &format!("routing@{group}"));
            (group, keys)
        })
        .collect();
    Account {
        file: sheet.file.clone(),
        smtpssl: sheet.flag(s, "smtpssl"),
        login,
        password,
        smtpip: sheet.or_default(s, "smtpip", values::networks),
        authorizedip: set(sheet.key(s, "authorizedip", values::addresses)),
        authorizedsender: set(sheet.key(s, "authorizedsender", values::domains)),
        authorizedroute: sheet.or_default(s, "authorizedroute", values::at_names),
        authorizedrouting: sheet.or_default(s, "authorizedrouting", values::at_names),
        granted_from: set(sheet.key(s, "granted_from_addr", values::sender_patterns)),
        maxhour: sheet.or_default(s, "maxhour", values::count),
        maxday: sheet.or_default(s, "maxday", values::count),
        filter: filter(sheet, &name),
        message: routing::message(sheet, "message"),
        routing: routing::keys(sheet, "routing"),
        routing_by_group,
        services: Vec::new(),
        name,
    }
}

/// Rights: absent and empty are both "not set".
fn set<T>(key: Key<T>) -> Option<T> {
    match key {
        Key::Set(value) => Some(value),
        _ => None,
    }
}

/// `[list]filter`: present and empty means no list at all (CONF-16).
fn filter(sheet: &mut Sheet, user: &str) -> Vec<String> {
    let own = |v: &str| values::list_names(&v.replace("%user%", user));
    match sheet.key("list", "filter", own) {
        Key::Set(lists) => lists,
        Key::Empty => Vec::new(),
        Key::Absent => sheet.or_default("list", "filter", own),
    }
}

/// A password: clear, or a hash in PHC form behind `{argon2}` (CONF-53).
fn secret(sheet: &mut Sheet, section: &str, key: &str) -> Option<Secret> {
    let text = sheet.text(section, key)?;
    if let Some(hash) = text.strip_prefix("{argon2}")
        && !hash.starts_with("$argon2")
    {
        sheet.error(
            section,
            key,
            "expected {argon2}$argon2…, as a password hash is written",
        );
    }
    Some(Secret(text))
}

/// Groups for which there is a `[routing@group]`, once each.
fn group_sections(sheet: &Sheet) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for header in sheet.headers() {
        if let Some(group) = header.section.strip_prefix("routing@")
            && !groups.iter().any(|g| g == group)
        {
            groups.push(group.to_string());
        }
    }
    groups
}

/// What only one account may have (CONF-53, CONF-92). The first file by name keeps it.
#[derive(Default)]
struct Claims {
    names: Vec<(String, String)>,
    logins: Vec<(String, String)>,
    apikeys: Vec<(String, String)>,
    networks: Vec<(Network, String)>,
}

impl Claims {
    fn check(&mut self, sheet: &mut Sheet, account: &Account) {
        if let Some(login) = &account.login {
            let login = login.to_lowercase();
            if let Some(other) = holder(&self.logins, &login) {
                let text = format!("the login belongs to the account of {other} already");
                sheet.error("account", "smtplogin", &text);
            }
            self.logins.push((login, account.file.clone()));
        }
        if let Some(key) = sheet.text("account", "apikey") {
            if let Some(other) = holder(&self.apikeys, &key) {
                let text = format!("the same key stands in {other}");
                sheet.error("account", "apikey", &text);
            }
            self.apikeys.push((key, account.file.clone()));
        }
        for network in &account.smtpip {
            if let Some(other) = holder(&self.networks, network) {
                let Network { address, prefix } = network;
                let text = format!("{address}/{prefix} belongs to the account of {other} already");
                sheet.error("account", "smtpip", &text);
            }
            self.networks.push((*network, account.file.clone()));
        }
    }
}

fn holder<'a, T: PartialEq>(claims: &'a [(T, String)], claim: &T) -> Option<&'a str> {
    let held = claims.iter().find(|(c, _)| c == claim);
    held.map(|(_, file)| file.as_str())
}
