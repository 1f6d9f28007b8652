//! Suppression lists: the files of `lists/`, held in memory as fingerprints (CONF-56 to CONF-63).
//!
//! What the system adds takes effect at once and is appended to the file by a thread of its own;
//! what people change takes effect at `reindex` (CONF-61). How addresses compare is decided in
//! `galerne_core::lists`, not here.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use galerne_core::lists;
use galerne_core::ports::{ListEntry, Lists};

use crate::table::for_each_row;
use crate::writer::{self, Line, Writer};
use crate::{fingerprint, stamp};

/// The columns of a list that we make (CONF-63).
pub const COLUMNS: [&str; 6] = ["email", "date", "source", "rfmailno", "rfrecno", "reason"];

/// The list fed with hard bounces (CONF-58).
pub const HARD: &str = "rfhard";

/// All lists of a folder.
#[derive(Debug)]
pub struct ListStore {
    folder: PathBuf,
    keys: RandomState,
    state: Arc<RwLock<State>>,
    writer: Writer,
}

#[derive(Debug, Default)]
struct State {
    lists: HashMap<String, HashSet<u64>>,
    /// Added by us and not known to be read back from the file; the value: it stands there.
    added: HashMap<(String, u64), bool>,
    /// The files are being read; entries of `added` are not dropped meanwhile.
    reading: bool,
}

impl ListStore {
    /// Opens the folder, making it and an empty `rfhard` if needed, and reads every list.
    ///
    /// A file that cannot be read, or has no column `email`, is an empty list and is reported.
    pub fn open(folder: &Path) -> io::Result<ListStore> {
        std::fs::create_dir_all(folder)?;
        let store = ListStore {
            folder: folder.to_owned(),
            keys: RandomState::new(),
            state: Arc::default(),
            writer: Writer::start("galerne-lists")?,
        };
        store.ensure(HARD)?;
        store.reindex()?;
        Ok(store)
    }

    /// Makes an empty list if it does not exist (the list of an account, CONF-59, CONF-64).
    /// Writes to disk: for the start and for reloads.
    pub fn ensure(&self, name: &str) -> io::Result<()> {
        let path = self.path(name).ok_or_else(|| bad_name(name))?;
        writer::append(&Line {
            path,
            columns: &COLUMNS,
            key: "email",
            values: Vec::new(),
            done: None,
        })?;
        write(&self.state).lists.entry(name.to_owned()).or_default();
        Ok(())
    }

    /// Whether there is a list of that name.
    pub fn exists(&self, name: &str) -> bool {
        read(&self.state).lists.contains_key(name)
    }

    /// Reads all files again (CONF-61). Reads from disk: not for an async thread.
    ///
    /// What was added by the system and could not be written yet stays in force.
    pub fn reindex(&self) -> io::Result<()> {
        write(&self.state).reading = true;
        let found = self.read_all();
        let mut state = write(&self.state);
        state.reading = false;
        let found = found?;
        let State { lists, added, .. } = &mut *state;
        *lists = found;
        for (name, key) in added.keys() {
            lists.entry(name.clone()).or_default().insert(*key);
        }
        added.retain(|_, written| !*written);
        Ok(())
    }

    /// How long until the daily re-index, at 00:01 local time (CONF-60).
    pub fn until_reindex(now: &jiff::Zoned) -> std::time::Duration {
        let tomorrow = now.date().saturating_add(jiff::ToSpan::days(1));
        let due =
            |day: jiff::civil::Date| day.at(0, 1, 0, 0).to_zoned(now.time_zone().clone()).ok();
        let next = due(now.date())
            .filter(|t| t > now)
            .or_else(|| due(tomorrow));
        let wait = next.and_then(|t| std::time::Duration::try_from(now.duration_until(&t)).ok());
        wait.unwrap_or(std::time::Duration::from_secs(86_400))
    }

    /// Waits until everything added so far has been written, or has failed. Not for an async
    /// thread. Dropping the store does the same.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Entries of a list.
    pub fn len(&self, name: &str) -> usize {
        read(&self.state).lists.get(name).map_or(0, HashSet::len)
    }

    fn read_all(&self) -> io::Result<HashMap<String, HashSet<u64>>> {
        let mut found = HashMap::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path
                .file_stem()
                .and_then(|n| n.to_str())
                .filter(|n| !n.starts_with('.'));
            let (Some(name), true) = (name, path.extension().is_some_and(|e| e == "csv")) else {
                continue;
            };
            found.insert(name.to_owned(), self.read_list(&path));
        }
        Ok(found)
    }

    fn read_list(&self, path: &Path) -> HashSet<u64> {
        let mut entries = HashSet::new();
        match std::fs::read(path) {
            Ok(octets) => {
                let usable = for_each_row(&octets, ["email"], |[email]| {
                    if !email.is_empty() {
                        entries.insert(fingerprint(&self.keys, &lists::normalise(email)));
                    }
                });
                if !usable {
                    tracing::error!(file = %path.display(), "list without effect: no column `email` in its first line");
                }
            }
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "list without effect: cannot be read")
            }
        }
        entries.shrink_to_fit();
        entries
    }

    /// The file of a list; `None` for a name that is not a plain file name.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        plain.then(|| self.folder.join(format!("{name}.csv")))
    }
}

impl Lists for ListStore {
    fn listed_in(&self, address: &str, names: &[String]) -> Option<String> {
        if names.is_empty() {
            return None;
        }
        let (whole, domain) = lists::keys(address);
        let whole = fingerprint(&self.keys, &whole);
        let domain = domain.map(|d| fingerprint(&self.keys, &d));
        let state = read(&self.state);
        let holds = |list: &HashSet<u64>| {
            list.contains(&whole) || domain.is_some_and(|d| list.contains(&d))
        };
        names
            .iter()
            .find(|name| state.lists.get(*name).is_some_and(holds))
            .cloned()
    }

    fn add(&self, list: &str, entry: ListEntry) {
        let Some(path) = self.path(list) else {
            tracing::error!(list, "entry not added: not a name of a list");
            return;
        };
        let email = entry.email.trim();
        if email.is_empty() {
            return;
        }
        let key = fingerprint(&self.keys, &lists::normalise(email));
        {
            let mut state = write(&self.state);
            if !state.lists.entry(list.to_owned()).or_default().insert(key) {
                return;
            }
            state.added.insert((list.to_owned(), key), false);
        }
        let (state, name) = (Arc::clone(&self.state), list.to_owned());
        let done = move || {
            let mut state = write(&state);
            if state.reading {
                state.added.insert((name, key), true);
            } else {
                state.added.remove(&(name, key));
            }
        };
        let values = vec![
            ("email", email.to_owned()),
            ("date", stamp(jiff::Timestamp::now())),
            ("source", entry.source.to_owned()),
            ("rfmailno", "0".to_owned()),
            ("rfrecno", "0".to_owned()),
            ("reason", one_line(&entry.reason)),
        ];
        self.writer.append(Line {
            path,
            columns: &COLUMNS,
            key: "email",
            values,
            done: Some(Box::new(done)),
        });
    }
}

/// Remote text as one line of a list: no control characters, at most 500 characters.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(500)
        .collect()
}

fn bad_name(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("`{}` is not a name of a list", name.escape_debug()),
    )
}

fn read(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(email: &str) -> ListEntry {
        ListEntry {
            email: email.into(),
            source: "mta",
            reason: "550 5.1.1 no\r\nsuch, user".into(),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn text(folder: &tempfile::TempDir, name: &str) -> String {
        std::fs::read_to_string(folder.path().join(name)).unwrap()
    }

    #[test]
    fn conf_56_conf_57_conf_3_the_name_is_the_file_and_one_list_is_enough() {
        let folder = folder(&[
            ("stop.csv", "email\nno@x.org\n"),
            (
                "old list.csv",
                "date;Email;memo\n1; Gone@X.org ;m\n2;@blocked.org;m\n",
            ),
            ("notes.txt", "email\nfree@x.org\n"),
            ("broken.csv", "address\nfree@x.org\n"),
        ]);
        let lists = ListStore::open(folder.path()).unwrap();
        let all = names(&["missing", "broken", "stop", "old list", "notes"]);
        assert_eq!(lists.listed_in("no@x.org", &all).as_deref(), Some("stop"));
        assert_eq!(
            lists.listed_in("gone@x.org", &all).as_deref(),
            Some("old list")
        );
        assert_eq!(
            lists.listed_in("any@blocked.org", &all).as_deref(),
            Some("old list")
        );
        assert_eq!(lists.listed_in("free@x.org", &all), None);
        assert_eq!(
            lists.listed_in("gone@x.org", &names(&["stop"])),
            None,
            "a list not asked for"
        );
        assert!(lists.exists("stop") && !lists.exists("missing"));
    }

    #[test]
    fn conf_62_matching_without_case_blanks_and_by_domain() {
        let folder = folder(&[("l.csv", "email\n A.B@Example.ORG \n@Bad.example\n")]);
        let lists = ListStore::open(folder.path()).unwrap();
        let l = names(&["l"]);
        assert!(lists.listed_in("a.b@example.org", &l).is_some());
        assert!(lists.listed_in("X@BAD.example", &l).is_some());
        assert!(lists.listed_in("x@sub.bad.example", &l).is_none());
        assert!(
            lists.listed_in("a.b+news@example.org", &l).is_none(),
            "plus-addresses are distinct"
        );
    }

    #[test]
    fn conf_58_relay_84_conf_61_conf_63_a_hard_bounce_counts_at_once_and_is_written_once() {
        let folder = folder(&[]);
        let lists = ListStore::open(folder.path()).unwrap();
        assert_eq!(
            text(&folder, "rfhard.csv"),
            "email,date,source,rfmailno,rfrecno,reason\n"
        );
        lists.add(HARD, entry("Gone@x.org"));
        let hard = names(&[HARD]);
        assert_eq!(lists.listed_in("gone@X.org", &hard).as_deref(), Some(HARD));
        lists.add(HARD, entry("gone@x.org"));
        lists.flush();
        let written = text(&folder, "rfhard.csv");
        let row: Vec<_> = written.lines().nth(1).unwrap().split(',').collect();
        assert_eq!(written.lines().count(), 2, "never twice");
        assert_eq!(
            (row[0], row[2], row[3], row[4]),
            ("Gone@x.org", "mta", "0", "0")
        );
        assert!(
            written.ends_with("\"550 5.1.1 no  such, user\"\n"),
            "one line per entry"
        );

        // A second life reads the same, and does not write it again.
        drop(lists);
        let lists = ListStore::open(folder.path()).unwrap();
        lists.add(HARD, entry("GONE@x.org"));
        lists.flush();
        assert_eq!(text(&folder, "rfhard.csv"), written);
        assert!(lists.listed_in("gone@x.org", &hard).is_some());
    }

    #[test]
    fn conf_20_the_date_of_an_entry_is_local_time_in_twelve_digits() {
        let moment: jiff::Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let local = moment.to_zoned(jiff::tz::TimeZone::system());
        assert_eq!(stamp(moment), local.strftime("%y%m%d%H%M%S").to_string());
        assert!(stamp(moment).len() == 12 && stamp(moment).starts_with("2603"));
        let folder = folder(&[]);
        let lists = ListStore::open(folder.path()).unwrap();
        lists.add("l", entry("a@x"));
        lists.flush();
        let text = text(&folder, "l.csv");
        let date = text.lines().nth(1).unwrap().split(',').nth(1).unwrap();
        assert!(
            date.len() == 12 && date.bytes().all(|b| b.is_ascii_digit()),
            "{date}"
        );
    }

    #[test]
    fn conf_59_the_list_of_an_account_is_made_when_needed() {
        let folder = folder(&[("shop.csv", "email\nold@x\n")]);
        let lists = ListStore::open(folder.path()).unwrap();
        lists.ensure("shop").unwrap();
        assert_eq!(
            text(&folder, "shop.csv"),
            "email\nold@x\n",
            "what stands is left alone"
        );
        lists.ensure("new").unwrap();
        assert_eq!(
            text(&folder, "new.csv"),
            "email,date,source,rfmailno,rfrecno,reason\n"
        );
        lists.add("third", entry("a@x"));
        lists.flush();
        assert!(
            text(&folder, "third.csv")
                .starts_with("email,date,source,rfmailno,rfrecno,reason\na@x,")
        );
        assert!(lists.ensure("../escape").is_err());
        lists.add("../escape", entry("a@x"));
        lists.flush();
        assert!(!folder.path().join("../escape.csv").exists());
    }

    #[test]
    fn conf_61_hand_edited_files_count_after_reindex() {
        let folder = folder(&[("l.csv", "email\na@x\n")]);
        let lists = ListStore::open(folder.path()).unwrap();
        let l = names(&["l"]);
        std::fs::write(folder.path().join("l.csv"), "email\nb@x\n").unwrap();
        assert!(lists.listed_in("b@x", &l).is_none());
        lists.reindex().unwrap();
        assert!(lists.listed_in("b@x", &l).is_some() && lists.listed_in("a@x", &l).is_none());
    }

    #[test]
    fn conf_60_lists_are_read_again_daily_from_one_past_midnight() {
        let wait = |now: &str| ListStore::until_reindex(&now.parse().unwrap()).as_secs();
        assert_eq!(wait("2026-03-04T00:00:30+01:00[Europe/Paris]"), 30);
        assert_eq!(wait("2026-03-04T00:01:00+01:00[Europe/Paris]"), 86_400);
        assert_eq!(wait("2026-03-04T23:00:00+01:00[Europe/Paris]"), 3_660);
        assert_eq!(
            wait("2026-03-29T00:01:00+01:00[Europe/Paris]"),
            82_800,
            "the short day in spring"
        );
    }

    #[test]
    fn conf_61_an_entry_the_disk_refuses_stays_in_force() {
        let folder = folder(&[("l.csv", "no such column\n")]);
        let lists = ListStore::open(folder.path()).unwrap();
        let l = names(&["l"]);
        lists.add("l", entry("a@x"));
        lists.flush();
        lists.reindex().unwrap();
        assert!(lists.listed_in("a@x", &l).is_some());
        std::fs::write(folder.path().join("l.csv"), "memo;email\n").unwrap();
        lists.flush();
        assert_eq!(
            text(&folder, "l.csv"),
            "memo;email\n;a@x\n",
            "written once the file allows"
        );
        std::fs::write(folder.path().join("l.csv"), "email\n").unwrap();
        lists.reindex().unwrap();
        assert!(
            lists.listed_in("a@x", &l).is_none(),
            "from then on the file decides"
        );
    }

    #[test]
    fn conf_61_nothing_added_is_lost_while_the_files_are_read() {
        let folder = folder(&[]);
        let lists = Arc::new(ListStore::open(folder.path()).unwrap());
        let adding = {
            let lists = Arc::clone(&lists);
            std::thread::spawn(move || {
                (0..2000).for_each(|n| lists.add("l", entry(&format!("{n}@x"))))
            })
        };
        while !adding.is_finished() {
            lists.reindex().unwrap();
        }
        adding.join().unwrap();
        lists.flush();
        assert_eq!(lists.len("l"), 2000);
        lists.reindex().unwrap();
        assert_eq!(lists.len("l"), 2000);
    }
}
