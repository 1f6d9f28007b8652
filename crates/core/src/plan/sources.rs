//! Precedence of the sources of a key (RELAY-58, RELAY-59, CONF-40, CONF-51): the user file with
//! `[routing@group]` before `[routing]`, the directive, the main file, the built-in default.

use std::time::Duration;

use crate::directive::Directive;
use crate::settings::{Account, Key, RoutingKeys, Settings};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    UserFile,
    Directive,
    MainFile,
    Default,
}

/// A chosen value; `None`: the built-in default, because no source has the key or the first that
/// has it leaves it empty.
#[derive(Clone, Debug)]
pub(super) struct Choice<T> {
    pub value: Option<T>,
    pub origin: Origin,
    /// Which line of which source, for people.
    pub rule: String,
}

/// The sources of routing keys for one recipient.
pub(super) struct Sources<'a> {
    /// Sections of the user file that hold, with their names, first one first.
    sections: Vec<(String, &'a RoutingKeys)>,
    file: &'a str,
    main: &'a RoutingKeys,
}

impl<'a> Sources<'a> {
    /// The sources for mail of `account` to the group `group` (without `@`).
    pub(super) fn new(settings: &'a Settings, account: Option<&'a Account>, group: &str) -> Self {
        let mut sections = Vec::new();
        if let Some(account) = account {
            let named = account.routing_by_group.iter().rev();
            let named =
                named.filter(|(name, _)| !group.is_empty() && name.eq_ignore_ascii_case(group));
            sections.extend(named.map(|(name, keys)| (format!("[routing@{name}]"), keys)));
            sections.push(("[routing]".to_owned(), &account.routing));
        }
        Sources {
            sections,
            file: account.map_or("", |a| &a.file),
            main: &settings.routing,
        }
    }

    /// The value of a key; `ordered` is what the directive says.
    pub(super) fn choose<T>(
        &self,
        name: &str,
        key: impl Fn(&'a RoutingKeys) -> &'a Key<T>,
        ordered: Option<&'a T>,
    ) -> Choice<&'a T> {
        for (section, keys) in &self.sections {
            if key(keys).is_present() {
                let rule = place(keys, self.file, section, name);
                return Choice {
                    value: key(keys).value(),
                    origin: Origin::UserFile,
                    rule,
                };
            }
        }
        if ordered.is_some() {
            let rule = format!("directive routing.{name}");
            return Choice {
                value: ordered,
                origin: Origin::Directive,
                rule,
            };
        }
        if key(self.main).is_present() {
            let rule = place(self.main, "galerne.ini", "[routing]", name);
            return Choice {
                value: key(self.main).value(),
                origin: Origin::MainFile,
                rule,
            };
        }
        Choice {
            value: None,
            origin: Origin::Default,
            rule: "default".to_owned(),
        }
    }
}

/// `users/shop.ini:12 [routing] ip`.
fn place(keys: &RoutingKeys, file: &str, section: &str, name: &str) -> String {
    let place = keys
        .places
        .iter()
        .rev()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    format!(
        "{} {section} {name}",
        place.map_or(file, |(_, place)| place)
    )
}

/// `message.timeout` (RELAY-40, RELAY-43).
pub(super) fn timeout(
    settings: &Settings,
    account: Option<&Account>,
    directive: &Directive,
) -> (Duration, String) {
    let user = account.map(|a| &a.message.timeout);
    let (value, rule) = limit(
        "timeout",
        account,
        user,
        directive.timeout,
        &settings.message.timeout,
    );
    let value = value.unwrap_or(DEFAULT_TIMEOUT);
    (value.clamp(Duration::from_secs(1), LONGEST_TIMEOUT), rule)
}

/// `message.maxhop` (RELAY-41).
pub(super) fn maxhop(
    settings: &Settings,
    account: Option<&Account>,
    directive: &Directive,
) -> (u32, String) {
    let user = account.map(|a| &a.message.maxhop);
    let (value, rule) = limit(
        "maxhop",
        account,
        user,
        directive.maxhop,
        &settings.message.maxhop,
    );
    (value.unwrap_or(DEFAULT_MAXHOP).clamp(1, MOST_HOPS), rule)
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// RFC 5321 clients wait ten minutes for the reply to their final dot (RELAY-43).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(590);
const DEFAULT_MAXHOP: u32 = 3;
const MOST_HOPS: u32 = 20;

fn limit<T: Copy>(
    name: &str,
    account: Option<&Account>,
    user: Option<&Key<T>>,
    ordered: Option<T>,
    main: &Key<T>,
) -> (Option<T>, String) {
    if let Some(key) = user.filter(|key| key.is_present()) {
        let file = account.map_or("", |a| &a.file);
        return (key.value().copied(), format!("{file} [message] {name}"));
    }
    if ordered.is_some() {
        return (ordered, format!("directive message.{name}"));
    }
    if main.is_present() {
        return (main.value().copied(), format!("galerne.ini [relay] {name}"));
    }
    (None, "default".to_owned())
}
