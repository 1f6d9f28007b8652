//! The keys that main file and user files share: `[routing]`, timeouts, mode.

use std::collections::HashSet;
use std::sync::Arc;

use galerne_core::settings::{EnvelopeFrom, Key, MessageKeys, RelayHost, RoutingKeys};

use crate::sheet::Sheet;
use crate::values;

/// The keys of `[routing]` or `[routing@group]`.
pub fn keys(sheet: &mut Sheet, section: &str) -> RoutingKeys {
    let verp = sheet.key(section, "verp", values::flag);
    let mut keys = RoutingKeys {
        ip: sheet.key(section, "ip", values::addresses),
        sender: sheet.key(section, "sender", values::domain),
        ehlo: sheet.key(section, "ehlo", values::ehlo),
        envelopefrom: sheet.key(section, "envelopefrom", values::envelopefrom),
        sign: sheet.key(section, "sign", values::sign),
        ssl: sheet.key(section, "ssl", values::ssl),
        route: sheet.key(section, "route", values::at_names),
        arc: sheet.key(section, "arc", values::flag),
        places: Vec::new(),
    };
    let file = sheet.file.clone();
    let places = sheet.section(section).map(|(key, _, line)| {
        let key = if key == "verp" { "envelopefrom" } else { key };
        (key.to_string(), format!("{file}:{line}"))
    });
    keys.places = places.collect();
    if !keys.envelopefrom.is_present() {
        keys.envelopefrom = match verp {
            Key::Set(true) => Key::Set(EnvelopeFrom::Verp),
            // It is the same key: there, but without the word, so that the directive cannot say it
            // either (RELAY-58).
            Key::Set(false) | Key::Empty => Key::Empty,
            Key::Absent => Key::Absent,
        };
    }
    keys
}

/// Timeout and hops from `section`, the mode from `[relay]`.
pub fn message(sheet: &mut Sheet, section: &str) -> MessageKeys {
    let mode = sheet.key("relay", "mode", values::mode);
    MessageKeys {
        timeout: sheet.key(section, "timeout", values::duration),
        maxhop: sheet.key(section, "maxhop", |v| {
            values::count(v).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
        }),
        mode,
    }
}

/// The relay hosts that can be named.
pub struct Hosts<'a> {
    pub usable: &'a [Arc<RelayHost>],
    /// Files of hosts/, usable or not.
    pub declared: HashSet<String>,
}

impl Hosts<'_> {
    /// Every named relay host must be declared and usable (CONF-75).
    pub fn check(&self, sheet: &mut Sheet, section: &str, key: &str, names: &[String]) {
        for name in names {
            if self.usable.iter().any(|h| h.name == *name) {
                continue;
            }
            let text = match self.declared.contains(name) {
                true => format!("relay host @{name} is disabled by an error in its file"),
                false => format!("unknown relay host @{name}; expected a file hosts/@{name}.ini"),
            };
            sheet.error(section, key, &text);
        }
    }
}
