//! The files that groups learn while mail is routed: alias domains and MX addresses (CONF-67,
//! CONF-68, CONF-70, FLOW-53, FLOW-54, FLOW-59).
//!
//! Lines are only ever added, each once; lines that people add by hand stay as they are. The
//! catch-all group has no name and no such files: its domains belong to no group.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use galerne_core::ports::GroupBook;

use crate::table::for_each_row;
use crate::writer::{Line, Writer};
use crate::{fingerprint, stamp};

/// Lines that one file may grow to. What is found beyond is not recorded, and that is said once.
const LINES: usize = 1_000_000;

/// `domains/@*_alias.csv` and `domains/@*_mx.csv`.
#[derive(Debug)]
pub struct GroupFiles {
    folder: PathBuf,
    keys: RandomState,
    limit: usize,
    known: RwLock<HashMap<String, Known>>,
    writer: Writer,
}

/// What the two files of a group hold, as fingerprints.
#[derive(Debug, Default)]
struct Known {
    aliases: HashSet<u64>,
    mx: HashSet<u64>,
}

impl Known {
    fn of(&mut self, kind: Kind) -> &mut HashSet<u64> {
        match kind {
            Kind::Alias => &mut self.aliases,
            Kind::Mx => &mut self.mx,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Alias,
    Mx,
}

impl Kind {
    fn ending(self) -> &'static str {
        match self {
            Kind::Alias => "_alias.csv",
            Kind::Mx => "_mx.csv",
        }
    }

    fn columns(self) -> &'static [&'static str] {
        match self {
            Kind::Alias => &["date", "domain"],
            Kind::Mx => &["date", "mx", "ip"],
        }
    }

    /// The column that a file must have.
    fn key(self) -> &'static str {
        match self {
            Kind::Alias => "domain",
            Kind::Mx => "mx",
        }
    }
}

impl GroupFiles {
    /// Opens the folder `domains/`, making it if needed, and reads what is known.
    pub fn open(folder: &Path) -> io::Result<GroupFiles> {
        std::fs::create_dir_all(folder)?;
        let book = GroupFiles {
            folder: folder.to_owned(),
            keys: RandomState::new(),
            limit: LINES,
            known: RwLock::default(),
            writer: Writer::start("galerne-groups")?,
        };
        book.reread()?;
        Ok(book)
    }

    /// Reads all files again, after people changed them. Reads from disk: not for an async thread.
    pub fn reread(&self) -> io::Result<()> {
        self.flush();
        let mut known: HashMap<String, Known> = HashMap::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Some(name) = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.strip_prefix('@'))
            else {
                continue;
            };
            for kind in [Kind::Alias, Kind::Mx] {
                let Some(group) = name.strip_suffix(kind.ending()) else {
                    continue;
                };
                match std::fs::read(&path) {
                    Ok(octets) => {
                        self.read_file(&octets, kind, known.entry(group.to_owned()).or_default())
                    }
                    Err(error) => {
                        tracing::error!(file = %path.display(), %error, "file of a group cannot be read")
                    }
                }
            }
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Whether the alias file of a group holds exactly what this book has put there: then nobody
    /// else has changed it. Reads from disk: not for an async thread.
    pub fn wrote_aliases(&self, group: &str) -> bool {
        let aliases = || -> HashSet<u64> {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known
                .get(group)
                .map(|k| k.aliases.clone())
                .unwrap_or_default()
        };
        let before = aliases();
        self.flush();
        let path = self
            .folder
            .join(format!("@{group}{}", Kind::Alias.ending()));
        let Ok(octets) = std::fs::read(path) else {
            return false;
        };
        let mut found = Known::default();
        self.read_file(&octets, Kind::Alias, &mut found);
        // What is learned while we look may stand in the file or not.
        found.aliases.is_superset(&before) && found.aliases.is_subset(&aliases())
    }

    /// Waits until everything recorded so far has been written, or has failed. Not for an async
    /// thread. Dropping the book does the same.
    pub fn flush(&self) {
        self.writer.flush();
    }

    fn read_file(&self, octets: &[u8], kind: Kind, known: &mut Known) {
        match kind {
            Kind::Alias => for_each_row(octets, ["domain"], |[domain]| {
                known
                    .aliases
                    .insert(fingerprint(&self.keys, &plain(domain)));
            }),
            Kind::Mx => for_each_row(octets, ["mx", "ip"], |[mx, ip]| {
                known
                    .mx
                    .insert(fingerprint(&self.keys, &pair(&plain(mx), ip)));
            }),
        };
    }

    /// Remembers `key` for a group and, when it is new, appends a line.
    fn learn(&self, group: &str, kind: Kind, key: &str, values: Values<'_>) {
        if group.is_empty() || group.contains(['/', '\\', '\0', '.']) {
            return;
        }
        let key = fingerprint(&self.keys, key);
        let holds = |known: &Known| match kind {
            Kind::Alias => known.aliases.contains(&key),
            Kind::Mx => known.mx.contains(&key),
        };
        if self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(group)
            .is_some_and(holds)
        {
            return;
        }
        let path = self.folder.join(format!("@{group}{}", kind.ending()));
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let known = known.entry(group.to_owned()).or_default().of(kind);
            if known.len() >= self.limit {
                if known.len() == self.limit && known.insert(key) {
                    tracing::warn!(file = %path.display(), lines = self.limit, "file of a group is full: no more is recorded");
                }
                return;
            }
            if !known.insert(key) {
                return;
            }
        }
        self.writer.append(Line {
            path,
            columns: kind.columns(),
            key: kind.key(),
            values: values(),
            done: None,
        });
    }
}

/// Makes the values of a line, only if it is to be written.
type Values<'a> = &'a dyn Fn() -> Vec<(&'static str, String)>;

impl GroupBook for GroupFiles {
    fn alias(&self, group: &str, domain: &str) {
        let domain = plain(domain);
        let values = || {
            vec![
                ("domain", domain.clone()),
                ("date", stamp(jiff::Timestamp::now())),
            ]
        };
        self.learn(group, Kind::Alias, &domain, &values);
    }

    fn mx(&self, group: &str, host: &str, address: IpAddr) {
        let (host, address) = (plain(host), address.to_string());
        let values = || {
            vec![
                ("mx", host.clone()),
                ("ip", address.clone()),
                ("date", stamp(jiff::Timestamp::now())),
            ]
        };
        self.learn(group, Kind::Mx, &pair(&host, &address), &values);
    }
}

/// A domain or host name as it is kept: lower case, no final dot.
fn plain(name: &str) -> String {
    name.trim().trim_end_matches('.').to_lowercase()
}

fn pair(host: &str, address: &str) -> String {
    format!("{host} {address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(folder: &tempfile::TempDir, name: &str) -> String {
        std::fs::read_to_string(folder.path().join(name)).unwrap()
    }

    /// The lines with the twelve digits of their date replaced.
    fn lines(text: &str) -> Vec<String> {
        let blank = |(n, l): (usize, &str)| match l.split_once(',') {
            Some((date, rest)) if n > 0 => {
                assert!(
                    date.len() == 12 && date.bytes().all(|b| b.is_ascii_digit()),
                    "{date}"
                );
                format!("D,{rest}")
            }
            _ => l.to_owned(),
        };
        text.lines().enumerate().map(blank).collect()
    }

    #[test]
    fn conf_67_conf_68_flow_53_flow_54_a_domain_is_recorded_once_with_its_date() {
        let folder = tempfile::tempdir().unwrap();
        let book = GroupFiles::open(folder.path()).unwrap();
        book.alias("gmail", "Shop.Example.");
        book.alias("gmail", "shop.example");
        book.alias("gmail", "other.example");
        book.alias("yahoo", "shop.example");
        book.flush();
        assert_eq!(
            lines(&text(&folder, "@gmail_alias.csv")),
            ["date,domain", "D,shop.example", "D,other.example"]
        );
        assert_eq!(
            lines(&text(&folder, "@yahoo_alias.csv")),
            ["date,domain", "D,shop.example"]
        );
    }

    #[test]
    fn conf_68_flow_54_lines_added_by_hand_are_kept_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let hand = "domain;memo\nHand.example;mine";
        std::fs::write(folder.path().join("@gmail_alias.csv"), hand).unwrap();
        let book = GroupFiles::open(folder.path()).unwrap();
        book.alias("gmail", "hand.example");
        book.flush();
        assert_eq!(text(&folder, "@gmail_alias.csv"), hand);
        book.alias("gmail", "new.example");
        book.flush();
        assert_eq!(
            text(&folder, "@gmail_alias.csv"),
            format!("{hand}\nnew.example;\n")
        );

        std::fs::write(
            folder.path().join("@gmail_alias.csv"),
            "date,domain\n,later.example\n",
        )
        .unwrap();
        book.reread().unwrap();
        book.alias("gmail", "later.example");
        drop(book);
        assert_eq!(
            text(&folder, "@gmail_alias.csv"),
            "date,domain\n,later.example\n"
        );
    }

    #[test]
    fn conf_70_flow_59_an_address_behind_an_mx_is_recorded_once() {
        let folder = tempfile::tempdir().unwrap();
        let book = GroupFiles::open(folder.path()).unwrap();
        let (four, six) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        book.mx("gmail", "MX1.example.", four);
        book.mx("gmail", "mx1.example", four);
        book.mx("gmail", "mx1.example", six);
        drop(book);
        let expected = [
            "date,mx,ip",
            "D,mx1.example,192.0.2.1",
            "D,mx1.example,2001:db8::1",
        ];
        assert_eq!(lines(&text(&folder, "@gmail_mx.csv")), expected);
        let book = GroupFiles::open(folder.path()).unwrap();
        book.mx("gmail", "mx1.example", six);
        drop(book);
        assert_eq!(lines(&text(&folder, "@gmail_mx.csv")), expected);
    }

    #[test]
    fn flow_53_the_catch_all_group_learns_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let book = GroupFiles::open(folder.path()).unwrap();
        book.alias("", "shop.example");
        book.mx("", "mx.example", "192.0.2.1".parse().unwrap());
        book.alias("../escape", "shop.example");
        drop(book);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn flow_53_a_file_stops_growing_at_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = GroupFiles::open(folder.path()).unwrap();
        book.limit = 3;
        for n in 0..10 {
            book.alias("gmail", &format!("{n}.example"));
        }
        drop(book);
        assert_eq!(text(&folder, "@gmail_alias.csv").lines().count(), 4);
    }
}
