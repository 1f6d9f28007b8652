//! The suspensions on disk, so that they survive a restart (QUEUE-18): one small file, written anew
//! after each change, and read before anything starts.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use galerne_core::queue::board::{Board, MOST_RULES, Rule, RuleNo};
use serde::{Deserialize, Serialize};

use super::Queue;
use super::dispatch::Order;
use super::operate::Operation;

/// Octets of the file that are read at most: a thousand rules are far below.
const LARGEST: u64 = 16 << 20;

/// A rule with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    pub number: RuleNo,
    #[serde(flatten)]
    pub rule: Rule,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Suspended {
    path: PathBuf,
}

impl Suspended {
    pub fn new(path: PathBuf) -> Self {
        Suspended { path }
    }

    /// The rules that were in force when it was written last. A file that is damaged is set aside:
    /// then nothing is suspended, which is said.
    pub fn load(&self) -> Vec<Numbered> {
        match self.read() {
            Ok(rules) => rules,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = self.path.with_extension("damaged");
                let moved = fs::rename(&self.path, &aside);
                let (file, aside) = (self.path.display(), aside.display());
                match moved {
                    Ok(()) => {
                        tracing::error!(%error, "{file} is damaged and was set aside as {aside}: nothing is suspended; look at `galerne lane list`")
                    }
                    Err(why) => {
                        tracing::error!(%error, %why, "{file} is damaged and cannot be set aside: nothing is suspended; look at `galerne lane list`")
                    }
                }
                Vec::new()
            }
            Err(error) => {
                let file = self.path.display();
                tracing::error!(%error, "{file} cannot be read: nothing is suspended; look at `galerne lane list`");
                Vec::new()
            }
        }
    }

    fn read(&self) -> io::Result<Vec<Numbered>> {
        let file = File::open(&self.path)?;
        let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        if file.metadata()?.len() > LARGEST {
            return Err(damaged(format!("it has more than {LARGEST} octets")));
        }
        serde_json::from_reader(io::BufReader::new(file)).map_err(|e| match e.is_io() {
            true => e.into(),
            false => damaged(e.to_string()),
        })
    }

    /// Writes the rules in force. On stable storage when it returns; a crash leaves the old file or
    /// the new one. Waits for the disk: not for a network thread.
    ///
    /// # Errors
    /// The disk refuses; the old file stays.
    pub fn save(&self, rules: &[Numbered]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        let mut text = serde_json::to_vec(rules)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder_or_here(folder))?.sync_all(),
            None => Ok(()),
        }
    }
}

fn folder_or_here(folder: &Path) -> &Path {
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

/// Why a suspension was not changed as it should be.
#[derive(Debug)]
pub enum NotSuspended {
    /// There are too many rules.
    TooMany,
    /// There is none of that number.
    NoSuch,
    /// The queue is closed.
    Closed,
    /// It is in force, but a restart would bring the old ones back.
    NotKept(RuleNo, io::Error),
}

impl fmt::Display for NotSuspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotSuspended::TooMany => write!(f, "there are {MOST_RULES} suspensions already"),
            NotSuspended::NoSuch => f.write_str("there is no suspension of that number"),
            NotSuspended::Closed => f.write_str("the queue is closed"),
            NotSuspended::NotKept(number, error) => write!(
                f,
                "the change of suspension {} is in force, but is lost by a restart: {error}",
                number.0
            ),
        }
    }
}

/// The rules in force, as they are written.
fn rules(board: &Board) -> Vec<Numbered> {
    let numbered = |(number, rule): (RuleNo, &Rule)| Numbered {
        number,
        rule: rule.clone(),
    };
    board.rules().map(numbered).collect()
}

impl Queue {
    /// Suspends what a rule says, until it is resumed or ends, restarts included.
    ///
    /// # Errors
    /// It is not suspended, or would not survive a restart.
    pub async fn suspend(&self, rule: Rule) -> Result<RuleNo, NotSuspended> {
        let _one = self.suspending.lock().await;
        let act = |_: &Queue, board: &mut Board, _: u64| (board.suspend(rule), rules(board));
        let (number, rules) = self.ask(act).await.ok_or(NotSuspended::Closed)?;
        let number = number.ok_or(NotSuspended::TooMany)?;
        self.keep_rules(number, rules).await.map(|()| number)
    }

    /// Takes a suspension back, and gives it.
    ///
    /// # Errors
    /// There is none of that number, or it would be back after a restart.
    pub async fn resume(&self, number: RuleNo) -> Result<Rule, NotSuspended> {
        let _one = self.suspending.lock().await;
        let act = move |_: &Queue, board: &mut Board, _: u64| (board.resume(number), rules(board));
        let (rule, rules) = self.ask(act).await.ok_or(NotSuspended::Closed)?;
        let rule = rule.ok_or(NotSuspended::NoSuch)?;
        self.keep_rules(number, rules).await.map(|()| rule)
    }

    async fn keep_rules(&self, number: RuleNo, rules: Vec<Numbered>) -> Result<(), NotSuspended> {
        let file = self.suspended.clone();
        let saved = tokio::task::spawn_blocking(move || file.save(&rules)).await;
        let saved = saved.unwrap_or_else(|error| Err(io::Error::other(error)));
        saved.map_err(|error| {
            tracing::error!(%error, "suspensions cannot be written");
            NotSuspended::NotKept(number, error)
        })
    }

    /// Suspends again what was suspended when the server ended.
    pub(super) fn suspend_again(&self) {
        let rules = self.suspended.load();
        if rules.is_empty() {
            return;
        }
        tracing::warn!(
            count = rules.len(),
            "mail is suspended since before the start: `galerne lane list`"
        );
        let again = move |_: &Queue, board: &mut Board, now: u64| {
            for Numbered { number, rule } in rules {
                let is_over = rule.until.is_some_and(|until| until <= now);
                if !is_over && !board.restore(number, rule) {
                    tracing::error!(
                        number = number.0,
                        "too many suspensions; this one is not in force"
                    );
                }
            }
        };
        self.order(Order::Operate(Operation::new(again)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn rule(number: u64, lane: &str) -> Numbered {
        Numbered {
            number: RuleNo(number),
            rule: Rule {
                lane: Some(lane.to_owned()),
                reason: "blocked".to_owned(),
                until: Some(1_800_000_000_000),
                outbound: Some("192.0.2.10".parse().unwrap()),
                ..Rule::default()
            },
        }
    }

    #[test]
    fn queue_18_suspensions_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = Suspended::new(folder.path().join("suspended.json"));
        assert_eq!(file.load(), []);
        let rules = [rule(3, "group gmail"), rule(7, "domain example.org")];
        file.save(&rules).unwrap();
        assert_eq!(file.load(), rules);
        let mode = fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        file.save(&[]).unwrap();
        assert_eq!(file.load(), []);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn queue_18_a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = Suspended::new(folder.path().join("suspended.json"));
        fs::write(&file.path, b"[{\"number\":3,").unwrap();
        assert_eq!(file.load(), []);
        assert!(!file.path.exists());
        assert!(folder.path().join("suspended.damaged").exists());
        file.save(&[rule(1, "domain a")]).unwrap();
        assert_eq!(file.load().len(), 1);
    }
}
