//! Precedence of the sources of a key (RELAY-58, RELAY-59, CONF-40, CONF-51): the user file with
//! `[routing@group]` before `[routing]`, the directive, the main file, the built-in default.

use std::fmt;
use std::time::Duration;

use crate::directive::Directive;
use crate::settings::{Account, Key, Mode, RoutingKeys, Settings};

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
pub(super) struct Choice<'a, T> {
    pub value: Option<T>,
    pub origin: Origin,
    pub rule: Rule<'a>,
}

/// Which line of which source decides. It becomes text only where somebody reads it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule<'a> {
    Default,
    /// `directive routing.ip`
    Directive(&'static str, &'static str),
    /// `users/shop.ini:12 [routing@isp] ip`
    Routing {
        keys: &'a RoutingKeys,
        file: &'a str,
        group: Option<&'a str>,
        key: &'static str,
    },
    /// `users/shop.ini [account] authorizedip`
    Key(&'a str, &'static str, &'static str),
    /// What is no line of a file.
    Words(&'static str),
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Default => f.write_str("default"),
            Rule::Directive(section, key) => write!(f, "directive {section}.{key}"),
            Rule::Routing {
                keys,
                file,
                group,
                key,
            } => {
                let mut places = keys.places.iter().rev();
                let place = places.find(|(name, _)| name.eq_ignore_ascii_case(key));
                let place = place.map_or(*file, |(_, place)| place);
                match group {
                    Some(group) => write!(f, "{place} [routing@{group}] {key}"),
                    None => write!(f, "{place} [routing] {key}"),
                }
            }
            Rule::Key(file, section, key) => write!(f, "{file} [{section}] {key}"),
            Rule::Words(words) => f.write_str(words),
        }
    }
}

/// The sources of routing keys for one recipient.
pub(super) struct Sources<'a> {
    /// Sections of the user file that hold, with the group of `[routing@group]`, first one first.
    sections: Vec<(Option<&'a str>, &'a RoutingKeys)>,
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
            sections.extend(named.map(|(name, keys)| (Some(name.as_str()), keys)));
            sections.push((None, &account.routing));
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
        name: &'static str,
        key: impl Fn(&'a RoutingKeys) -> &'a Key<T>,
        ordered: Option<&'a T>,
    ) -> Choice<'a, &'a T> {
        let routing = |keys, file, group| Rule::Routing {
            keys,
            file,
            group,
            key: name,
        };
        let mut sections = self.sections.iter();
        let (value, origin, rule) =
            if let Some((group, keys)) = sections.find(|(_, keys)| key(keys).is_present()) {
                let rule = routing(keys, self.file, *group);
                (key(keys).value(), Origin::UserFile, rule)
            } else if ordered.is_some() {
                let rule = Rule::Directive("routing", name);
                (ordered, Origin::Directive, rule)
            } else if key(self.main).is_present() {
                let rule = routing(self.main, "galerne.ini", None);
                (key(self.main).value(), Origin::MainFile, rule)
            } else {
                (None, Origin::Default, Rule::Default)
            };
        Choice {
            value,
            origin,
            rule,
        }
    }
}

/// `message.timeout` (RELAY-40, RELAY-43).
pub(super) fn timeout<'a>(
    settings: &'a Settings,
    account: Option<&'a Account>,
    directive: &'a Directive,
) -> (Duration, Rule<'a>) {
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

/// Whether the client waits for the remote's answer, or the message is taken over (QUEUE-1): the
/// user file, the directive, the main file, else `sync`.
pub fn mode(settings: &Settings, account: Option<&Account>, directive: &Directive) -> Mode {
    let user = account.map(|a| &a.message.mode);
    let (value, _) = limit(
        "mode",
        account,
        user,
        directive.mode,
        &settings.message.mode,
    );
    value.unwrap_or(Mode::Sync)
}

/// `message.maxhop` (RELAY-41).
pub(super) fn maxhop<'a>(
    settings: &'a Settings,
    account: Option<&'a Account>,
    directive: &'a Directive,
) -> (u32, Rule<'a>) {
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

fn limit<'a, T: Copy>(
    name: &'static str,
    account: Option<&'a Account>,
    user: Option<&'a Key<T>>,
    ordered: Option<T>,
    main: &'a Key<T>,
) -> (Option<T>, Rule<'a>) {
    if let Some(key) = user.filter(|key| key.is_present()) {
        let file = account.map_or("", |a| &a.file);
        return (key.value().copied(), Rule::Key(file, "message", name));
    }
    if ordered.is_some() {
        return (ordered, Rule::Directive("message", name));
    }
    if main.is_present() {
        let rule = Rule::Key("galerne.ini", "relay", name);
        return (main.value().copied(), rule);
    }
    (None, Rule::Default)
}
