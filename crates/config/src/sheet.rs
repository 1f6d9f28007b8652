//! One configuration file with its keys looked up in the registry: what is in force, what is
//! wrong, and typed reading. The loaders of `load` are its callers.

use galerne_core::settings::Key;

use crate::document::Document;
use crate::finding::{Finding, Level};
use crate::registry::{self, File, KeySpec, Kind, Part};
use crate::values::{self, Read};

/// A file being read.
pub struct Sheet {
    /// Relative to the root.
    pub file: String,
    kind: File,
    slots: Vec<Slot>,
    headers: Vec<Header>,
    pub findings: Vec<Finding>,
}

/// A key in force.
struct Slot {
    /// Canonical, lower case.
    section: String,
    key: String,
    value: String,
    line: usize,
    /// As written, for findings.
    written: (String, String),
    good: bool,
    spec: &'static KeySpec,
}

/// A section header.
pub struct Header {
    /// Canonical, lower case.
    pub section: String,
    pub line: usize,
}

impl Sheet {
    /// Reads a file. `user` replaces `%user%` in values (CONF-52).
    pub fn read(file: &str, kind: File, bytes: &[u8], user: Option<&str>) -> Self {
        let mut sheet = Sheet {
            file: file.to_string(),
            kind,
            slots: Vec::new(),
            headers: Vec::new(),
            findings: Vec::new(),
        };
        match Document::from_bytes(bytes) {
            Ok(document) => sheet.take(&document, user),
            Err(bad) => sheet.at(Level::Error, bad.line, "-", "-", "not UTF-8 text"),
        }
        sheet
    }

    fn take(&mut self, document: &Document, user: Option<&str>) {
        for (line, why) in document.broken() {
            self.at(Level::Error, line, "-", "-", why);
        }
        for (name, line) in document.sections() {
            let section = registry::canonical_section(self.kind, name);
            let known = registry::has_section(self.kind, &section);
            if !known && !self.headers.iter().any(|h| h.section == section) {
                let hint = registry::section_suggestion(self.kind, &section);
                let text = format!("unknown section, ignored{hint}");
                self.at(Level::Warning, line, name, "-", &text);
            }
            self.headers.push(Header { section, line });
        }
        for entry in document.entries() {
            let section = registry::canonical_section(self.kind, entry.section);
            let key = entry.key.to_ascii_lowercase();
            match registry::find(self.kind, &section, &key) {
                Some(spec) => {
                    let mut value = entry.value.to_string();
                    if let Some(user) = user
                        && spec.kind != Kind::Secret
                    {
                        value = value.replace("%user%", user);
                    }
                    let key = match spec.key {
                        "*" => key,
                        known => known.to_string(),
                    };
                    let written = (printable(entry.section), printable(entry.key));
                    self.put(Slot {
                        section,
                        key,
                        value,
                        line: entry.line,
                        written,
                        good: true,
                        spec,
                    });
                }
                None => self.unknown(&section, &key, entry.section, entry.key, entry.line),
            }
        }
    }

    fn unknown(&mut self, section: &str, key: &str, as_section: &str, as_key: &str, line: usize) {
        if as_section.is_empty() {
            let text = "a key before the first section, ignored";
            self.at(Level::Warning, line, "-", as_key, text);
        } else if registry::has_section(self.kind, section) {
            let hint = registry::suggestion(self.kind, section, key);
            let text = format!("unknown key, ignored{hint}");
            self.at(Level::Warning, line, as_section, as_key, &text);
        }
    }

    /// Takes a key; the last of equal ones counts (CONF-14).
    fn put(&mut self, mut slot: Slot) {
        let (section, key) = (slot.written.0.clone(), slot.written.1.clone());
        let same = |s: &Slot| s.section == slot.section && s.key == slot.key;
        if slot.spec.key != "header"
            && let Some(place) = self.slots.iter().position(same)
        {
            let old = self.slots.remove(place);
            let text = format!("set again; the value of line {} does not count", old.line);
            // ROUTE-45: where all mail of a domain goes is no matter of chance.
            let level = match slot.spec.key {
                "target" => Level::Error,
                _ => Level::Warning,
            };
            self.at(level, slot.line, &section, &key, &text);
        }
        if !slot.value.is_empty()
            && let Err(why) = slot.spec.kind.check(&slot.value)
        {
            slot.good = false;
            let text = match slot.spec.kind {
                Kind::Secret | Kind::Url | Kind::Text => why,
                _ => format!("{why}, found `{}`", printable(&slot.value)),
            };
            self.at(Level::Error, slot.line, &section, &key, &text);
        }
        if let Part::Later { what, .. } = slot.spec.part
            && slot.good
            && !says_off(&slot)
        {
            let text = format!(
                "{what} is not part of this version; the key is read and has no effect yet"
            );
            self.at(Level::Warning, slot.line, &section, &key, &text);
        }
        self.slots.push(slot);
    }

    /// All section headers, canonical.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Keys (canonical) of one section with value and line, in file order, good ones only.
    pub fn section<'a>(
        &'a self,
        section: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str, usize)> {
        let inside = move |s: &&Slot| s.section == section && s.good;
        let all = self.slots.iter().filter(inside);
        all.map(|s| (s.key.as_str(), s.value.as_str(), s.line))
    }

    /// A key as the file has it. A bad value was reported and reads as absent.
    pub fn key<T>(&mut self, section: &str, key: &str, read: impl Fn(&str) -> Read<T>) -> Key<T> {
        let Some(slot) = self
            .slots
            .iter()
            .find(|s| s.section == section && s.key == key)
        else {
            return Key::Absent;
        };
        match slot.value.as_str() {
            _ if !slot.good => Key::Absent,
            "" => Key::Empty,
            value => match read(value) {
                Ok(value) => Key::Set(value),
                Err(why) => {
                    self.error(section, key, &why);
                    Key::Absent
                }
            },
        }
    }

    /// A key, or the registry's default if it is absent or empty.
    pub fn or_default<T: Default>(
        &mut self,
        section: &str,
        key: &str,
        read: impl Fn(&str) -> Read<T>,
    ) -> T {
        if let Key::Set(value) = self.key(section, key, &read) {
            return value;
        }
        let default = registry::find(self.kind, section, key).map(|s| s.default);
        match default {
            None | Some("") => T::default(),
            Some(text) => read(text).unwrap_or_default(),
        }
    }

    /// Whether the key stands in the file, good or not.
    pub fn has(&self, section: &str, key: &str) -> bool {
        let is = |s: &Slot| s.section == section && s.key == key;
        self.slots.iter().any(is)
    }

    /// A text that is there and not empty.
    pub fn text(&mut self, section: &str, key: &str) -> Option<String> {
        match self.key(section, key, |v| Ok(v.to_string())) {
            Key::Set(text) => Some(text),
            _ => None,
        }
    }

    /// A flag, or its default.
    pub fn flag(&mut self, section: &str, key: &str) -> bool {
        self.or_default(section, key, values::flag)
    }

    /// Reports an error at a key.
    pub fn error(&mut self, section: &str, key: &str, text: &str) {
        self.report(Level::Error, section, key, text);
    }

    /// Reports a finding at a key, or at its section, or at the file.
    pub fn report(&mut self, level: Level, section: &str, key: &str, text: &str) {
        let slot = self
            .slots
            .iter()
            .find(|s| s.section == section && s.key == key);
        let (line, section, key) = match slot {
            Some(slot) => (slot.line, slot.written.0.clone(), slot.written.1.clone()),
            None => {
                let header = self.headers.iter().find(|h| h.section == section);
                let line = header.map_or(1, |h| h.line);
                (line, section.to_string(), key.to_string())
            }
        };
        self.at(level, line, &section, &key, text);
    }

    /// Reports a finding at a line.
    pub fn at(&mut self, level: Level, line: usize, section: &str, key: &str, text: &str) {
        self.findings.push(Finding {
            file: self.file.clone(),
            line,
            level,
            section: printable(section),
            key: printable(key),
            text: text.to_string(),
        });
    }

    /// Whether the file can be used (CONF-11).
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|f| f.level != Level::Error)
    }
}

/// A key of a later part that only says off, as it is: no word needed.
fn says_off(slot: &Slot) -> bool {
    let off = match slot.spec.kind {
        Kind::Sign => values::sign(&slot.value) == Ok(galerne_core::settings::Sign::None),
        Kind::Flag => slot.spec.default != "1" && values::flag(&slot.value) == Ok(false),
        _ => false,
    };
    off || slot.value.is_empty()
}

/// Names and values on one line of a finding: no control characters, cut at 80.
pub fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(80).map(clean).collect()
}
