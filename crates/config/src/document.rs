//! One INI file, kept to the last octet: printing a parsed document gives the text back.
//!
//! Lines come from `ini-roundtrip`; this file adds line ends, the byte order mark, the merging of
//! sections (CONF-14) and changes that keep comments and order (CONF-21). What keys mean is the
//! registry's business.

use std::fmt;

use ini_roundtrip::{Item, Parser};

const BOM: char = '\u{feff}';

/// A parsed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    bom: bool,
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    raw: String,
    ending: &'static str,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Section(String),
    Entry { key: String, value: String },
    Other,
    Broken(&'static str),
}

/// One `key = value` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// As written; empty before the first section.
    pub section: &'a str,
    /// As written.
    pub key: &'a str,
    /// Without the blanks around it; everything else as written, `;` and `#` included.
    pub value: &'a str,
    /// From 1.
    pub line: usize,
}

/// Why bytes are no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUtf8 {
    /// The line of the first octet that is not UTF-8.
    pub line: usize,
}

/// Why a change was refused: it could not be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChange;

impl Document {
    /// Reads the bytes of a file: UTF-8 with or without byte order mark (CONF-14).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotUtf8> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::parse(text)),
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or(bytes);
                let line = 1 + good.iter().filter(|&&b| b == b'\n').count();
                Err(NotUtf8 { line })
            }
        }
    }

    /// Reads a text. Never fails: lines that are neither section, entry, comment nor blank are
    /// kept and listed by [`Document::broken`].
    pub fn parse(text: &str) -> Self {
        let (bom, body) = match text.strip_prefix(BOM) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut lines = Vec::new();
        let mut parser = Parser::new(body);
        let mut before = body;
        while let Some(item) = parser.next() {
            if item == Item::SectionEnd {
                continue;
            }
            let after = parser.remainder();
            let taken = before.get(..before.len() - after.len()).unwrap_or_default();
            before = after;
            lines.push(Line::read(taken, item));
        }
        Document { bom, lines }
    }

    /// All entries in file order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut section = "";
        self.lines
            .iter()
            .zip(1..)
            .filter_map(move |(line, number)| match &line.what {
                What::Section(name) => {
                    section = name;
                    None
                }
                What::Entry { key, value } => Some(Entry {
                    section,
                    key,
                    value,
                    line: number,
                }),
                _ => None,
            })
    }

    /// Section headers with their lines, repeated ones included.
    pub fn sections(&self) -> impl Iterator<Item = (&str, usize)> {
        self.lines
            .iter()
            .zip(1..)
            .filter_map(|(line, number)| match &line.what {
                What::Section(name) => Some((name.as_str(), number)),
                _ => None,
            })
    }

    /// Lines that mean nothing, with the reason.
    pub fn broken(&self) -> impl Iterator<Item = (usize, &'static str)> {
        self.lines
            .iter()
            .zip(1..)
            .filter_map(|(line, number)| match line.what {
                What::Broken(why) => Some((number, why)),
                _ => None,
            })
    }

    /// The value in force: the last of equal keys (CONF-14). Names are compared without case.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.entries()
            .filter(|e| same(e.section, section) && same(e.key, key))
            .last()
            .map(|e| e.value)
    }

    /// Sets a key in place, or adds it at the end of its section, or adds the section. All other
    /// lines stay as they are. Refused if the result could not be read back.
    pub fn set(&mut self, section: &str, key: &str, value: &str) -> Result<(), BadChange> {
        if !writable(section, key, value) {
            return Err(BadChange);
        }
        let place = self.place(section, key);
        match place {
            Some(place) => {
                if let Some(line) = self.lines.get_mut(place) {
                    line.replace(key, value);
                }
            }
            None => self.add(section, key, value),
        }
        Ok(())
    }

    /// Removes all entries of that name; the key is then absent (CONF-16). True if there was one.
    pub fn remove(&mut self, section: &str, key: &str) -> bool {
        let mut found = false;
        while let Some(place) = self.place(section, key) {
            self.lines.remove(place);
            found = true;
        }
        found
    }

    /// Index of the last line that sets the key.
    fn place(&self, section: &str, key: &str) -> Option<usize> {
        self.entries()
            .filter(|e| same(e.section, section) && same(e.key, key))
            .last()
            .map(|e| e.line - 1)
    }

    fn add(&mut self, section: &str, key: &str, value: &str) {
        let ending = self.ending();
        let entry = Line::entry(key, value, ending);
        if let Some(at) = self.end_of(section) {
            self.close_line(at, ending);
            self.lines.insert(at, entry);
            return;
        }
        self.close_line(self.lines.len(), ending);
        self.lines.push(Line {
            raw: format!("[{section}]"),
            ending,
            what: What::Section(section.to_string()),
        });
        self.lines.push(entry);
    }

    /// Where a new entry of the section goes: behind its last header, entry or comment.
    fn end_of(&self, section: &str) -> Option<usize> {
        let mut inside = section.is_empty();
        let mut at = section.is_empty().then_some(0);
        for (line, number) in self.lines.iter().zip(1..) {
            match &line.what {
                What::Section(name) => {
                    inside = same(name, section);
                    if inside {
                        at = Some(number);
                    }
                }
                What::Entry { .. } if inside => at = Some(number),
                _ => {}
            }
        }
        at
    }

    /// The last line of a file may lack its end; what follows needs one.
    fn close_line(&mut self, at: usize, ending: &'static str) {
        if let Some(line) = at.checked_sub(1).and_then(|i| self.lines.get_mut(i))
            && line.ending.is_empty()
        {
            line.ending = ending;
        }
    }

    fn ending(&self) -> &'static str {
        self.lines
            .first()
            .map_or("\n", |l| if l.ending.is_empty() { "\n" } else { l.ending })
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bom {
            write!(f, "{BOM}")?;
        }
        for line in &self.lines {
            f.write_str(&line.raw)?;
            f.write_str(line.ending)?;
        }
        Ok(())
    }
}

impl Line {
    fn read(taken: &str, item: Item<'_>) -> Self {
        let raw = taken.trim_end_matches(['\r', '\n']);
        let ending = match taken.get(raw.len()..).unwrap_or_default() {
            "\r\n" => "\r\n",
            "\r" => "\r",
            "\n" => "\n",
            _ => "",
        };
        let what = match item {
            Item::Section { name, .. } => What::Section(name.to_string()),
            Item::Property { key, .. } if key.starts_with(';') || key.starts_with('#') => {
                What::Broken("a comment must begin at the start of its line")
            }
            Item::Property { key, .. } if key.starts_with('[') => {
                What::Broken("a section must begin at the start of its line")
            }
            Item::Property { key: "", .. } => What::Broken("there is no key before the `=`"),
            Item::Property {
                key,
                val: Some(value),
                ..
            } => What::Entry {
                key: key.to_string(),
                value: value.to_string(),
            },
            Item::Property { val: None, .. } => {
                What::Broken("expected `key = value`, found no `=`")
            }
            Item::Error(text) => match section_of(text) {
                Some(name) => What::Section(name.to_string()),
                None => What::Broken("a section header must end with `]`"),
            },
            Item::Comment { .. } | Item::Blank { .. } | Item::SectionEnd => What::Other,
        };
        Line {
            raw: raw.to_string(),
            ending,
            what,
        }
    }

    fn entry(key: &str, value: &str, ending: &'static str) -> Self {
        let raw = match value {
            "" => format!("{key} ="),
            _ => format!("{key} = {value}"),
        };
        let what = What::Entry {
            key: key.to_string(),
            value: value.to_string(),
        };
        Line { raw, ending, what }
    }

    /// Another value behind the same `key =`.
    fn replace(&mut self, key: &str, value: &str) {
        let Some(equals) = self.raw.find('=') else {
            *self = Line::entry(key, value, self.ending);
            return;
        };
        let (before, after) = self.raw.split_at(equals + 1);
        let blanks = after.len() - after.trim_ascii_start().len();
        let gap = match after.get(..blanks).unwrap_or_default() {
            "" if after.is_empty() => " ",
            gap => gap,
        };
        let raw = format!("{before}{gap}{value}");
        self.raw = raw;
        if let What::Entry { value: old, .. } = &mut self.what {
            *old = value.to_string();
        }
    }
}

/// `[name]` followed by blanks.
fn section_of(text: &str) -> Option<&str> {
    let inside = text.trim_ascii_end().strip_prefix('[')?.strip_suffix(']')?;
    Some(inside.trim_ascii())
}

/// Whether two names are the same (CONF-14).
pub fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn writable(section: &str, key: &str, value: &str) -> bool {
    let plain = |s: &str| !s.contains(['\r', '\n']) && s.trim_ascii() == s;
    plain(section)
        && plain(key)
        && plain(value)
        && !key.is_empty()
        && !key.contains('=')
        && !key.starts_with([';', '#', '[', BOM])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "; head\n[Account]\nSmtpLogin = a@b.c ; not a comment # either\n\n[list]\n# comment = no key\nfilter=\n[ACCOUNT]\nsmtplogin = second\n";

    #[test]
    fn conf_14_sections_may_be_split_and_the_last_key_wins() {
        let doc = Document::parse(TEXT);
        assert_eq!(doc.get("account", "SMTPLOGIN"), Some("second"));
        let lines: Vec<_> = doc.entries().map(|e| (e.section, e.key, e.line)).collect();
        assert_eq!(
            lines,
            [
                ("Account", "SmtpLogin", 3),
                ("list", "filter", 7),
                ("ACCOUNT", "smtplogin", 9)
            ]
        );
    }

    #[test]
    fn conf_14_comments_stand_at_line_start_only() {
        let doc = Document::parse(TEXT);
        let first = doc.entries().next().unwrap();
        assert_eq!(first.value, "a@b.c ; not a comment # either");
        let doc = Document::parse("[a]\n  ; late\nk = 1\nnothing\n = 2\n[x\n [y]\n");
        let lines: Vec<_> = doc.broken().map(|(line, _)| line).collect();
        assert_eq!(lines, [2, 4, 5, 6, 7]);
    }

    #[test]
    fn conf_14_bom_crlf_and_lf_come_back_as_they_were() {
        for text in [
            "\u{feff}[a]\r\nk = v\r\n",
            "[a]\nk=v",
            "[a]  \n\r\n\n k\t=\tv \r\n",
            "",
            "\u{feff}",
            "k = é\n",
        ] {
            let doc = Document::parse(text);
            assert_eq!(doc.to_string(), text);
        }
        let doc = Document::parse("\u{feff}[a]\r\nk = v\r\n");
        assert_eq!(doc.get("a", "k"), Some("v"));
        assert_eq!(Document::parse("[a]  \nk=v").get("a", "k"), Some("v"));
        assert_eq!(
            Document::from_bytes(b"[a]\nk = \xff"),
            Err(NotUtf8 { line: 2 })
        );
    }

    #[test]
    fn conf_16_empty_is_present() {
        let doc = Document::parse(TEXT);
        assert_eq!(doc.get("list", "filter"), Some(""));
        assert_eq!(doc.get("list", "testaddr"), None);
    }

    #[test]
    fn flow_section_names_hold_hash_and_at() {
        let doc = Document::parse("[ipflow#warmup@192.0.2.11]\nvolmaxhigh = 500\n");
        assert_eq!(
            doc.get("ipflow#WARMUP@192.0.2.11", "volmaxhigh"),
            Some("500")
        );
    }

    #[test]
    fn conf_21_changes_keep_comments_order_and_unknown_keys() {
        let text = "; top\r\n[account]\r\n; why\r\nSmtpLogin   =  old\r\nstrange = kept\r\n\r\n[list]\r\nfilter =\r\n";
        let mut doc = Document::parse(text);
        doc.set("account", "smtplogin", "new").unwrap();
        doc.set("account", "smtppassw", "x").unwrap();
        doc.set("list", "filter", "rfhard").unwrap();
        doc.set("routing", "ssl", "").unwrap();
        assert_eq!(
            doc.to_string(),
            "; top\r\n[account]\r\n; why\r\nSmtpLogin   =  new\r\nstrange = kept\r\nsmtppassw = x\r\n\r\n[list]\r\nfilter = rfhard\r\n[routing]\r\nssl =\r\n"
        );
        assert!(doc.remove("account", "smtppassw"));
        assert!(!doc.remove("account", "smtppassw"));
        assert_eq!(doc.get("account", "smtppassw"), None);
    }

    #[test]
    fn conf_21_a_change_that_could_not_be_read_back_is_refused() {
        let mut doc = Document::parse("[a]\nk = v");
        for (section, key, value) in [
            ("a", "k", "x\n[b]"),
            ("a", "k=", "x"),
            ("a\n", "k", "x"),
            ("a", ";k", "x"),
            ("a", "", "x"),
        ] {
            assert_eq!(doc.set(section, key, value), Err(BadChange));
        }
        doc.set("a", "j", "w").unwrap();
        assert_eq!(doc.to_string(), "[a]\nk = v\nj = w\n");
    }
}
