//! Every key that a file may hold: name, kind, unit, range, default, one sentence, source.
//!
//! The loader checks values against it, takes defaults from it and names unknown keys by it; the
//! reference manual is printed from it. A key that is not here does not exist.

mod group;
mod kind;
mod main_file;
mod nearest;
mod user;

pub use kind::{Kind, set_names};
pub use nearest::nearest;

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// `galerne.ini`
    Main,
    /// `users/<name>.ini`
    User,
    /// `domains/@<name>.ini`, `domains/@.ini`, `domains/.defflow.ini`
    Group,
    /// `hosts/@<name>.ini`
    Host,
}

impl File {
    /// All, in the order of the manual.
    pub const ALL: [File; 4] = [File::Main, File::User, File::Group, File::Host];

    /// The keys of such a file.
    pub fn keys(self) -> impl Iterator<Item = &'static KeySpec> {
        let parts: &[&'static [KeySpec]] = match self {
            File::Main => &[main_file::SENDING, main_file::RECEIVING, main_file::REST],
            File::User => &[user::ACCOUNT, user::ROUTING, user::REST],
            File::Group | File::Host => &[group::DNS, group::FLOW],
        };
        let [a, b, c] = [0, 1, 2].map(|i| parts.get(i).copied().unwrap_or_default());
        a.iter().chain(b).chain(c)
    }
}

/// Whether the part that a key belongs to is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Built,
    /// Read and checked, without effect; `what` names the missing part.
    Later {
        issue: u8,
        what: &'static str,
    },
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// Sections in lower case: `name`, `name@` (with anything behind), `name#` (likewise).
    pub sections: &'static [&'static str],
    /// Lower case; `*` is any name.
    pub key: &'static str,
    /// Other spellings (CONF-26, CONF-42).
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    /// As it would stand in the file; empty: none.
    pub default: &'static str,
    /// One sentence for people.
    pub text: &'static str,
    /// The requirement it comes from.
    pub id: &'static str,
    pub part: Part,
}

impl KeySpec {
    const fn new(
        sections: &'static [&'static str],
        key: &'static str,
        kind: Kind,
        default: &'static str,
        id: &'static str,
        text: &'static str,
    ) -> Self {
        KeySpec {
            sections,
            key,
            aliases: &[],
            kind,
            default,
            text,
            id,
            part: Part::Built,
        }
    }

    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn later(mut self, part: Part) -> Self {
        self.part = part;
        self
    }

    fn named(&self, key: &str) -> bool {
        self.key == key || self.key == "*" || self.aliases.contains(&key)
    }
}

const SIGNING: Part = Part::Later {
    issue: 4,
    what: "signing with S/MIME",
};
const RETURNS: Part = Part::Later {
    issue: 6,
    what: "return mail",
};
const HTTP: Part = Part::Later {
    issue: 7,
    what: "the HTTP server",
};
const PUSH: Part = Part::Later {
    issue: 7,
    what: "push notification",
};
/// RELAY-21 lets relayed mail keep its From as it is.
const API_FROM: Part = Part::Later {
    issue: 7,
    what: "mail by API and jobs, on which alone it acts,",
};
const JOBS: Part = Part::Later {
    issue: 8,
    what: "job processing",
};
const CLUSTER: Part = Part::Later {
    issue: 9,
    what: "the shared store",
};

/// A section name brought to one form: lower case, old names replaced (CONF-42).
pub fn canonical_section(file: File, section: &str) -> String {
    let name = section.to_ascii_lowercase();
    let (base, rest) = match name.find(['@', '#']) {
        Some(at) => name.split_at(at),
        None => (name.as_str(), ""),
    };
    let base = match (file, base) {
        (File::Main, "rafale") => "galerne",
        (File::User, "smtp" | "smp") => "routing",
        _ => base,
    };
    format!("{base}{rest}")
}

/// The form under which the registry knows a section: `routing@bigisp` is `routing@`.
fn form(section: &str) -> &str {
    match section.find(['@', '#']) {
        Some(at) => section.get(..=at).unwrap_or(section),
        None => section,
    }
}

/// The specification of a key; names canonical and in lower case.
pub fn find(file: File, section: &str, key: &str) -> Option<&'static KeySpec> {
    let form = form(section);
    let inside = || file.keys().filter(|k| k.sections.contains(&form));
    inside()
        .find(|k| k.key != "*" && k.named(key))
        .or_else(|| inside().find(|k| k.key == "*"))
}

/// Whether such a section exists.
pub fn has_section(file: File, section: &str) -> bool {
    let form = form(section);
    file.keys().any(|k| k.sections.contains(&form))
}

/// What an unknown key or section was probably meant to be: ` (did you mean …?)`, or nothing.
pub fn suggestion(file: File, section: &str, key: &str) -> String {
    let form = form(section);
    let inside = file.keys().filter(|k| k.sections.contains(&form));
    let names = inside.flat_map(|k| std::iter::once(k.key).chain(k.aliases.iter().copied()));
    if let Some(name) = nearest(key, names.filter(|n| *n != "*")) {
        return format!(" (did you mean `{name}`?)");
    }
    match file.keys().find(|k| k.key == key) {
        Some(elsewhere) => {
            let home = elsewhere.sections.first().copied().unwrap_or_default();
            format!(" (it belongs in [{home}])")
        }
        None => String::new(),
    }
}

/// Like [`suggestion`] for sections.
pub fn section_suggestion(file: File, section: &str) -> String {
    let names = file.keys().flat_map(|k| k.sections.iter().copied());
    match nearest(form(section), names) {
        Some(name) => format!(" (did you mean [{name}]?)"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_22_conf_39_conf_73_every_default_fits_its_kind() {
        for file in File::ALL {
            for key in file.keys() {
                if !key.default.is_empty() {
                    let fits = key.kind.check(key.default);
                    assert_eq!(fits, Ok(()), "{:?} {} {}", file, key.key, key.default);
                }
                assert!(key.text.ends_with('.'), "{}", key.text);
                assert!(!key.id.is_empty(), "{}", key.key);
            }
        }
    }

    #[test]
    fn no_key_is_there_twice() {
        for file in File::ALL {
            let mut seen = std::collections::HashSet::new();
            for key in file.keys() {
                for section in key.sections {
                    for name in std::iter::once(&key.key).chain(key.aliases) {
                        assert!(
                            seen.insert((*section, *name)),
                            "{file:?} [{section}] {name}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn conf_22_the_defaults_of_the_main_file() {
        for (section, key, default) in [
            ("galerne", "mailsize", "10000"),
            ("galerne", "mailage", "7"),
            ("galerne", "qmsize", "100000"),
            ("galerne", "qmmemo", "16"),
            ("galerne", "apikey", ""),
            ("galerne", "logage", "30"),
            ("rfuser", "spool", "spool"),
            ("rfuser", "poll", "5"),
            ("rfmail", "flush", "300"),
            ("rfmta", "threadnb", "128"),
            ("rftrack", "threadnb", "64"),
            ("rftrack", "listen", "0.0.0.0 0.0.0.0:443"),
            ("rfrelay", "threadnb", "32"),
            ("rfrelay", "listen", "0.0.0.0 0.0.0.0:465"),
            ("rfrelay", "dmarcaddr", ""),
            ("rfrelay", "fbladdr", ""),
        ] {
            let spec = find(File::Main, section, key).unwrap();
            assert_eq!(spec.default, default, "[{section}] {key}");
        }
    }

    #[test]
    fn conf_27_the_further_keys_and_their_defaults() {
        for (section, keys) in [
            (
                "rfrelay",
                "maxsize maxrcpt barelf received keepdirective blocktemp permcode chunking proxyfrom maxperip",
            ),
            (
                "rfmta",
                "mxport cafile connecttimeout idle grace authclear verify dane mtasts mtastsport",
            ),
            ("relay", "mode timeout maxhop idempotent"),
            (
                "queue",
                "maxage retry unknowndelay sync minfree tracekeep place",
            ),
            ("routing", "ip sender ehlo envelopefrom sign ssl route arc"),
            ("dns", "resolver timeout dnssec trustanchor"),
            ("store", "url"),
            ("galerne", "runas"),
            ("maildrop", "group user origin"),
            ("push", "private"),
            ("webhook", "format"),
        ] {
            for key in keys.split(' ') {
                assert!(
                    find(File::Main, section, key).is_some(),
                    "[{section}] {key}"
                );
            }
        }
        let default = |section, key| find(File::Main, section, key).unwrap().default;
        assert_eq!(default("rfmta", "mxport"), "25");
        assert_eq!(default("rfmta", "connecttimeout"), "10");
        assert_eq!(default("rfmta", "idle"), "5");
        assert_eq!(default("rfmta", "grace"), "30");
        assert_eq!(default("rfmta", "mtastsport"), "443");
        assert_eq!(default("rfrelay", "maxsize"), "20M");
        assert_eq!(default("rfrelay", "maxrcpt"), "100");
    }

    #[test]
    fn conf_26_patterns_have_their_aliases() {
        for (alias, key) in [
            ("challengepatrn", "challengepattern"),
            ("softptrn", "softpattern"),
            ("hardptrn", "hardpattern"),
            ("complainptrn", "complainpattern"),
        ] {
            assert_eq!(find(File::Main, "rfrelay", alias).unwrap().key, key);
        }
    }

    #[test]
    fn conf_39_the_defaults_of_the_user_file() {
        for (section, key, default) in [
            ("account", "smtpssl", "1"),
            ("account", "apissl", "1"),
            ("job", "retrynb", "3"),
            ("job", "retrydelay", "12"),
            ("list", "filter", "rfhard %user%"),
            ("tracking", "open", "image"),
            ("tracking", "click", "short"),
            ("tracking", "image", "disable"),
            ("tracking", "bot", "disable"),
            ("tracking", "unsub", "/unsub.htm"),
            ("tracking", "uncfm", "/uncfm.htm"),
            ("routing", "sign", "1"),
            ("routing", "ssl", "1"),
        ] {
            let spec = find(File::User, section, key).unwrap();
            assert_eq!(spec.default, default, "[{section}] {key}");
        }
        for (section, keys) in [
            (
                "account",
                "smtplogin smtppassw smtpip apikey authorizedip authorizedsender authorizedroute authorizedrouting",
            ),
            ("job", "tags"),
            ("list", "testaddr"),
            ("tracking", "host"),
            ("routing@any", "ip sender envelopefrom sign ssl route"),
        ] {
            for key in keys.split(' ') {
                assert!(
                    find(File::User, section, key).is_some(),
                    "[{section}] {key}"
                );
            }
        }
    }

    #[test]
    fn conf_73_the_dns_keys_of_groups_and_hosts() {
        for file in [File::Group, File::Host] {
            for (key, default) in [
                ("mx", ""),
                ("domain", ""),
                ("cache", "0"),
                ("relay", "0"),
                ("port", "465"),
                ("ip", ""),
                ("login", ""),
                ("passw", ""),
                ("overwrite", "0"),
            ] {
                assert_eq!(find(file, "dns", key).unwrap().default, default, "{key}");
            }
        }
    }

    #[test]
    fn conf_21_unknown_names_get_the_nearest_known_one() {
        let hint = |section, key| suggestion(File::User, section, key);
        assert_eq!(hint("account", "smtplogn"), " (did you mean `smtplogin`?)");
        assert_eq!(hint("account", "ssl"), " (it belongs in [routing])");
        assert_eq!(hint("account", "quitedifferent"), "");
        assert_eq!(
            section_suggestion(File::Main, "rfreley"),
            " (did you mean [rfrelay]?)"
        );
    }

    #[test]
    fn conf_42_old_section_names() {
        assert_eq!(canonical_section(File::User, "SMTP"), "routing");
        assert_eq!(canonical_section(File::User, "smp"), "routing");
        assert_eq!(
            canonical_section(File::User, "Smtp@BigIsp"),
            "routing@bigisp"
        );
        assert_eq!(canonical_section(File::Main, "Rafale"), "galerne");
        assert_eq!(canonical_section(File::Main, "smtp"), "smtp");
        assert_eq!(find(File::User, "routing", "domain").unwrap().key, "sender");
        assert_eq!(find(File::User, "tracking", "domain").unwrap().key, "host");
    }
}
