//! The kinds of values, with their units and ranges.

use std::time::Duration;

use galerne_core::model::FlowSetName;

use crate::values;

/// What a value is. Ranges are inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Flag,
    Count {
        min: u64,
        max: u64,
        unit: &'static str,
    },
    /// Seconds or with a suffix; `min` and `max` in seconds.
    Duration {
        min: u64,
        max: u64,
    },
    /// A number without suffix counts hours (JOB-14).
    Hours,
    /// Durations, one behind the other.
    Durations,
    Size {
        min: u64,
    },
    Port,
    Text,
    /// Printable text of at most so many characters.
    Short {
        max: usize,
    },
    Secret,
    Path,
    Url,
    Address,
    Addresses,
    Networks,
    Domain,
    Domains,
    MxPatterns,
    Mailboxes,
    LocalParts,
    SenderPatterns,
    /// `@name` of hosts/ or domains/.
    AtNames,
    Lists,
    Strings,
    Listen {
        port: u16,
        secure: u16,
    },
    Resolvers,
    Words(&'static [&'static str]),
    Mode,
    BareLf,
    Sign,
    Ssl,
    Ehlo,
    EnvelopeFrom,
    /// A flow set, `up`, `down` or 0.
    FlowTarget,
    /// `FUNCTION(arguments) pattern`; parsed by the core.
    Pattern,
}

impl Kind {
    /// Whether a value that is not empty may stand there; if not, one sentence that says what was
    /// expected. The sentence never repeats the value.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match *self {
            Kind::Flag => drop_ok(values::flag(value)),
            Kind::Count { min, max, .. } => between(values::count(value)?, min, max),
            Kind::Duration { min, max } => seconds(values::duration(value)?, min, max),
            Kind::Hours => drop_ok(values::duration_in(value, 3600)),
            Kind::Durations => {
                drop_ok(values::list(value).try_for_each(|d| drop_ok(values::duration(d))))
            }
            Kind::Size { min } => match values::size(value)? {
                n if n >= min => Ok(()),
                _ => Err(format!("expected at least {min} octets")),
            },
            Kind::Port => drop_ok(values::port(value)),
            Kind::Text | Kind::Secret | Kind::Path | Kind::Pattern => Ok(()),
            Kind::Short { max } => match value.chars().count() <= max {
                true => Ok(()),
                false => Err(format!("expected at most {max} characters")),
            },
            Kind::Url => url(value),
            Kind::Strings => drop_ok(values::quoted_list(value)),
            Kind::Words(words) => one_of(value, words),
            Kind::Mode => drop_ok(values::mode(value)),
            Kind::BareLf => drop_ok(values::barelf(value)),
            Kind::Sign => drop_ok(values::sign(value)),
            Kind::Ssl => drop_ok(values::ssl(value)),
            Kind::Ehlo => drop_ok(values::ehlo(value)),
            Kind::EnvelopeFrom => drop_ok(values::envelopefrom(value)),
            Kind::FlowTarget => flow_target(value),
            _ => self.check_name(value),
        }
    }

    fn check_name(&self, value: &str) -> Result<(), String> {
        match *self {
            Kind::Address => drop_ok(values::address(value)),
            Kind::Addresses => drop_ok(values::addresses(value)),
            Kind::Networks => drop_ok(values::networks(value)),
            Kind::Domain => drop_ok(values::domain(value)),
            Kind::Domains => drop_ok(values::domains(value)),
            Kind::MxPatterns => drop_ok(values::mx_patterns(value)),
            Kind::Mailboxes => drop_ok(values::mailboxes(value)),
            Kind::LocalParts => drop_ok(values::local_parts(value)),
            Kind::SenderPatterns => drop_ok(values::sender_patterns(value)),
            Kind::AtNames => drop_ok(values::at_names(value)),
            Kind::Lists => drop_ok(values::list_names(value)),
            Kind::Listen { port, secure } => drop_ok(values::listens(value, port, secure)),
            Kind::Resolvers => drop_ok(values::resolvers(value)),
            _ => Ok(()),
        }
    }

    /// What the manual says of it: form, unit, range.
    pub fn describe(&self) -> String {
        match *self {
            Kind::Flag => "flag".into(),
            Kind::Count {
                min,
                max: u64::MAX,
                unit,
            } => format!("number{unit}, {min} or more"),
            Kind::Count { min, max, unit } => format!("number{unit}, {min} to {max}"),
            Kind::Duration { min, max } => format!("seconds or s m h d, {min} s to {max} s"),
            Kind::Hours => "hours, or with s m h d".into(),
            Kind::Durations => "list of durations (seconds or s m h d)".into(),
            Kind::Size { min } => format!("octets or K M G, at least {min}"),
            Kind::Port => "port, 1 to 65535".into(),
            Kind::Text => "text".into(),
            Kind::Short { max } => format!("text, at most {max} characters"),
            Kind::Secret => "secret: clear or `{argon2}…`".into(),
            Kind::Path => "path, relative to the root".into(),
            Kind::Url => "URL".into(),
            Kind::Address => "address".into(),
            Kind::Addresses => "list of addresses".into(),
            Kind::Networks => "list of addresses and networks".into(),
            Kind::Domain => "host or domain name".into(),
            Kind::Domains => "list of domains".into(),
            Kind::MxPatterns => "list of names, `*` for any characters".into(),
            Kind::Mailboxes => "list of addresses `local@domain`".into(),
            Kind::LocalParts => "list of local parts".into(),
            Kind::SenderPatterns => "list of addresses, `*` for any characters".into(),
            Kind::AtNames => "list of `@name`".into(),
            Kind::Lists => "list of list names".into(),
            Kind::Strings => "list of `\"strings\"`".into(),
            Kind::Listen { port, secure } => {
                format!(
                    "list of address[:port][/tls or /plain], port {port} if omitted, {secure} is TLS"
                )
            }
            Kind::Resolvers => "list of address[:port], port 53 if omitted".into(),
            Kind::Words(words) => words.join(", "),
            Kind::Mode => "sync, queue, auto".into(),
            Kind::BareLf => "reject, normalise, pass".into(),
            Kind::Sign => "from, envelope, both, none, or a flag".into(),
            Kind::Ssl => "flag or required".into(),
            Kind::Ehlo => "host name or @rdns".into(),
            Kind::EnvelopeFrom => "@mailfrom, @verp, @from or an address".into(),
            Kind::FlowTarget => "set name, up, down or 0".into(),
            Kind::Pattern => "`FUNCTION(arguments) pattern`".into(),
        }
    }
}

fn drop_ok<T>(read: Result<T, String>) -> Result<(), String> {
    read.map(|_| ())
}

fn between(n: u64, min: u64, max: u64) -> Result<(), String> {
    match (min..=max).contains(&n) {
        true => Ok(()),
        false if max == u64::MAX => Err(format!("expected {min} or more")),
        false => Err(format!("expected a number from {min} to {max}")),
    }
}

fn seconds(d: Duration, min: u64, max: u64) -> Result<(), String> {
    match (min..=max).contains(&d.as_secs()) {
        true => Ok(()),
        false => Err(format!("expected {min} to {max} seconds")),
    }
}

fn one_of(value: &str, words: &[&str]) -> Result<(), String> {
    match words.iter().any(|w| w.eq_ignore_ascii_case(value)) {
        true => Ok(()),
        false => Err(format!("expected one of: {}", words.join(", "))),
    }
}

fn url(value: &str) -> Result<(), String> {
    let known = [
        "http://",
        "https://",
        "sqlite:",
        "postgres://",
        "postgresql://",
    ];
    let lower = value.to_ascii_lowercase();
    match known.iter().any(|k| lower.starts_with(k)) && !value.contains(char::is_whitespace) {
        true => Ok(()),
        false => Err("expected a URL".into()),
    }
}

fn flow_target(value: &str) -> Result<(), String> {
    let word = value.strip_prefix('#').unwrap_or(value);
    let other = ["up", "down", "0"]
        .iter()
        .any(|w| w.eq_ignore_ascii_case(word));
    match other || FlowSetName::parse(word).is_some() {
        true => Ok(()),
        false => Err(format!("expected {}, up, down or 0", set_names())),
    }
}

/// The words of the eight sets.
pub fn set_names() -> String {
    FlowSetName::ALL.map(FlowSetName::word).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_22_ranges_are_kept_and_named() {
        let timeout = Kind::Duration { min: 1, max: 590 };
        assert!(timeout.check("590").is_ok());
        assert_eq!(
            timeout.check("10m").unwrap_err(),
            "expected 1 to 590 seconds"
        );
        let hops = Kind::Count {
            min: 1,
            max: 20,
            unit: "",
        };
        assert_eq!(
            hops.check("0").unwrap_err(),
            "expected a number from 1 to 20"
        );
        assert!(Kind::Size { min: 1024 }.check("1").is_err());
        assert!(Kind::Words(&["text", "json"]).check("JSON").is_ok());
        assert!(Kind::Words(&["text", "json"]).check("xml").is_err());
    }

    #[test]
    fn flow_16_unknown_sets_are_refused() {
        for good in ["low", "#defcon2", "up", "DOWN", "0"] {
            assert!(Kind::FlowTarget.check(good).is_ok(), "{good}");
        }
        assert!(
            Kind::FlowTarget
                .check("lowest")
                .unwrap_err()
                .contains("defcon3")
        );
    }
}
