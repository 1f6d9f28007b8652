//! The maildrop (QUEUE-24): `<root>/maildrop`, where programs on this host put mail with
//! `galerne sendmail`, whether the server runs or not. The server looks there every second and takes
//! each file to the one door, in the name of the account `[maildrop] user`.
//!
//! A file goes when the door has taken its message over, and not before. What is refused goes back to
//! whoever dropped it, by the owner of the file; what cannot goes to `maildrop/rejected`.

pub mod file;
mod letter;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use galerne_core::ports::{Lists, Module};
use galerne_core::settings::{self, Account};
use galerne_core::snapshot::Snapshot;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::quotas::Quotas;
use crate::reception::Reception;
use file::Unfit;
use letter::Fate;

/// The folder below the root.
pub const FOLDER: &str = "maildrop";
/// Below it: what could not be taken.
const REJECTED: &str = "rejected";
/// Its mode when a group may drop mail: its members make files and see none.
const FOR_GROUP: u32 = 0o1730;
/// Its mode else.
const FOR_OWNER: u32 = 0o700;
/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// It is read at least so often, whatever its time of change says.
const AT_LEAST: Duration = Duration::from_secs(60);
/// A change within this time before a look may be followed by one at the same time.
const SAME_TIME: Duration = Duration::from_secs(2);
/// Files on their way at once.
const AT_ONCE: usize = 16;
/// Files that one look finds at most.
const AT_A_LOOK: usize = 4096;
/// Files that are remembered because they wait for another try or cannot be moved.
const REMEMBERED: usize = 65_536;
/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// What was left half written for so long is removed.
const UNFINISHED: Duration = Duration::from_secs(24 * 3600);

/// Who owns files on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub login: String,
    /// As in From.
    pub name: Option<String>,
}

/// Who it is by the number of a user; `None`: nobody who could have dropped mail.
pub type WhoIs = Box<dyn Fn(u32) -> Option<Person> + Send + Sync>;

/// What the pick-up needs of the house.
pub struct Maildrop {
    pub folder: PathBuf,
    /// Where messages go that are too large for memory.
    pub temporary: PathBuf,
    pub reception: Reception,
    pub lists: Arc<dyn Lists>,
    pub quotas: Arc<Quotas>,
    pub person: WhoIs,
    /// The settings in force.
    pub snapshot: Box<dyn Fn() -> Arc<Snapshot> + Send + Sync>,
}

/// Makes the folder, if `[maildrop]` names a group or an account. `owner`: whose it shall be; `None`:
/// ours. `group`: the number of the group. Gives what is not as it must be.
///
/// # Errors
/// It cannot be made.
pub fn prepare(
    root: &Path,
    keys: &settings::Maildrop,
    owner: Option<u32>,
    group: Option<u32>,
) -> io::Result<Vec<String>> {
    if keys.group.is_none() && keys.user.is_none() {
        return Ok(Vec::new());
    }
    // It may be root who makes them, in a tree of somebody else: by descriptors, never through a link.
    let tree = fs::File::open(root)?;
    let folder = inner(&tree, FOLDER)?;
    // Before the group may write there, so that nobody else makes the inner one.
    let rejected = inner(&folder, REJECTED)?;
    if owner.is_some() {
        fchown(&folder, owner, None)?;
        fchown(&rejected, owner, None)?;
    }
    let about = folder.metadata()?;
    let mode = about.mode() & 0o7777;
    let Some((name, group)) = keys.group.as_ref().zip(group) else {
        if mode & 0o077 != 0 {
            folder.set_permissions(Permissions::from_mode(FOR_OWNER))?;
        }
        return Ok(Vec::new());
    };
    if about.gid() == group && mode == FOR_GROUP {
        return Ok(Vec::new());
    }
    let given = fchown(&folder, None, Some(group))
        .and_then(|()| folder.set_permissions(Permissions::from_mode(FOR_GROUP)));
    let Err(error) = given else {
        return Ok(Vec::new());
    };
    let folder = root.join(FOLDER);
    let folder = folder.display();
    Ok(vec![format!(
        "{folder}: it cannot be given to the group {name} ({error}); nobody else can drop mail. Do as root: chgrp {name} {folder} && chmod 1730 {folder}"
    )])
}

/// A folder in another, made if it is missing.
fn inner(outer: &fs::File, name: &str) -> io::Result<fs::File> {
    let made = rustix::fs::mkdirat(outer, name, Mode::from_raw_mode(FOR_OWNER));
    made.or_else(|error| match error {
        Errno::EXIST => Ok(()),
        error => Err(error),
    })?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(rustix::fs::openat(outer, name, flags, Mode::empty())?.into())
}

/// What is known of the folder from one look to the next.
#[derive(Default)]
struct Looked {
    /// When it was read, and its time of change then.
    last: Option<(Instant, SystemTime)>,
    /// There was more than one look finds.
    more: bool,
    /// Files that wait for another try: when, and the pause before it.
    later: HashMap<OsString, (Instant, Duration)>,
    /// Files that cannot even be moved away.
    stuck: HashSet<OsString>,
}

/// What a round through the folder found.
struct Round {
    changed: SystemTime,
    names: Vec<OsString>,
    more: bool,
}

impl Maildrop {
    /// Picks up what is dropped, until told to stop; what is on its way then is waited for.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut settings = (self.snapshot)();
        let mut looked = Looked::default();
        let mut found: VecDeque<OsString> = VecDeque::new();
        let mut busy: HashSet<OsString> = HashSet::new();
        let mut tasks: JoinSet<(OsString, After)> = JoinSet::new();
        let mut unsaid = Unsaid::default();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut look = looked.more && found.is_empty() && tasks.is_empty();
            if !look {
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|on| *on) => break,
                    Some(ended) = tasks.join_next() => match ended {
                        Ok((name, after)) => {
                            busy.remove(&name);
                            looked.after(name, after);
                        }
                        Err(error) => {
                            tracing::error!(%error, "picking up a dropped message failed unexpectedly");
                            busy.clear();
                        }
                    },
                    _ = ticks.tick() => look = true,
                }
            }
            let snapshot = (self.snapshot)();
            if !Arc::ptr_eq(&snapshot, &settings) {
                // What waits may go under other settings.
                settings = snapshot.clone();
                looked = Looked::default();
            }
            let Some(account) = unsaid.account(&snapshot) else {
                found.clear();
                continue;
            };
            if look && found.is_empty() && looked.is_due(&self.folder) {
                found = self.look(&mut looked, &busy).await;
            }
            while tasks.len() < AT_ONCE
                && let Some(name) = found.pop_front()
            {
                busy.insert(name.clone());
                let (drop, snapshot, account) = (self.clone(), snapshot.clone(), account.clone());
                tasks.spawn(async move {
                    let after = drop.pick_up(&name, snapshot, account).await;
                    (name, after)
                });
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Reads the folder.
    async fn look(&self, looked: &mut Looked, busy: &HashSet<OsString>) -> VecDeque<OsString> {
        let now = Instant::now();
        let waits = looked.later.iter().filter(|(_, (at, _))| *at > now);
        let mut known: HashSet<OsString> = waits.map(|(name, _)| name.clone()).collect();
        known.extend(busy.iter().cloned());
        known.extend(looked.stuck.iter().cloned());
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || round(&folder, &known)).await;
        match read {
            Ok(Ok(round)) => {
                looked.last = Some((now, round.changed));
                looked.more = round.more;
                round.names.into()
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => VecDeque::new(),
            Ok(Err(error)) => {
                tracing::error!(folder = %self.folder.display(), %error, "the maildrop cannot be read");
                looked.last = Some((now, SystemTime::UNIX_EPOCH));
                VecDeque::new()
            }
            Err(_) => VecDeque::new(),
        }
    }

    /// Takes a file to the door, and away from the folder when it is done.
    async fn pick_up(
        &self,
        name: &OsString,
        snapshot: Arc<Snapshot>,
        account: Arc<Account>,
    ) -> After {
        let path = self.folder.join(name);
        let longest = snapshot.queue.maxage;
        let is_last = |at: SystemTime| at.elapsed().is_ok_and(|age| age > longest);
        match self.carry(&path, snapshot, account, is_last).await {
            Ok(Fate::Done) => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // It would be sent again and again.
                    let why = format!("its message was taken, and it cannot be removed: {error}");
                    self.reject(name, &why)
                }
                _ => After::Gone,
            },
            Ok(Fate::Later(reply)) => {
                tracing::warn!(file = %path.display(), reply, "a dropped message waits");
                After::Later
            }
            Ok(Fate::Rejected(why)) | Err(Unfit::Malformed(why)) => self.reject(name, &why),
            Err(Unfit::Failed(why)) => {
                tracing::error!(file = %path.display(), why, "a dropped message cannot be read now");
                After::Later
            }
            Err(Unfit::Gone) => After::Gone,
        }
    }

    /// Puts a file aside, and says why.
    fn reject(&self, name: &OsString, why: &str) -> After {
        let path = self.folder.join(name);
        let aside = self.folder.join(REJECTED).join(name);
        let shown = path.display().to_string().escape_debug().to_string();
        let moved = fs::rename(&path, &aside);
        let (what, after) = match &moved {
            Ok(()) => ("it is in maildrop/rejected now".to_owned(), After::Gone),
            Err(error) => (format!("it cannot be moved away: {error}"), After::Stuck),
        };
        let text = format!("dropped file {shown} not taken: {why}; {what}");
        tracing::warn!("{text}");
        self.reception.events.note(Module::RfRelay, &text);
        after
    }
}

/// What the loop has to know of a file that was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Gone,
    Later,
    Stuck,
}

impl Looked {
    fn after(&mut self, name: OsString, after: After) {
        let pause = self.later.remove(&name).map(|(_, pause)| pause);
        match after {
            After::Gone => {}
            After::Later if self.later.len() < REMEMBERED => {
                let pause = pause.map_or(PAUSES.0, |pause| (2 * pause).min(PAUSES.1));
                self.later.insert(name, (Instant::now() + pause, pause));
            }
            After::Stuck if self.stuck.len() < REMEMBERED => {
                self.stuck.insert(name);
            }
            // It is found again at the next look.
            After::Later | After::Stuck => {}
        }
    }

    /// Whether the folder is worth reading: it changed, something waits no longer, or it is time.
    fn is_due(&self, folder: &Path) -> bool {
        let Some((at, changed)) = self.last else {
            return true;
        };
        let now = Instant::now();
        let is_due = |(at, _): &(Instant, Duration)| *at <= now;
        // A look at what is in memory, as a rule.
        let time = fs::metadata(folder).and_then(|about| about.modified());
        let Ok(time) = time else {
            return true;
        };
        let just_now = changed
            .elapsed()
            .is_ok_and(|age| age < at.elapsed() + SAME_TIME);
        self.more
            || time != changed
            || just_now
            || at.elapsed() >= AT_LEAST
            || self.later.values().any(is_due)
    }
}

/// The files of the folder that are whole and not `known`, in the order of their names.
fn round(folder: &Path, known: &HashSet<OsString>) -> io::Result<Round> {
    let mut round = Round {
        changed: fs::metadata(folder)?.modified()?,
        names: Vec::new(),
        more: false,
    };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == REJECTED || known.contains(&name) {
            continue;
        }
        if !name.to_str().is_some_and(file::is_whole) {
            remove_unfinished(&entry.path());
            continue;
        }
        if round.names.len() == AT_A_LOOK {
            round.more = true;
            break;
        }
        round.names.push(name);
    }
    round.names.sort();
    Ok(round)
}

/// Removes what somebody began to write and did not end.
fn remove_unfinished(path: &Path) {
    let age = fs::symlink_metadata(path).and_then(|about| about.modified());
    let is_old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNFINISHED));
    if is_old && let Err(error) = fs::remove_file(path) {
        tracing::warn!(file = %path.display(), %error, "a half written file of the maildrop is not removed");
    }
}

/// Says once why nothing is picked up.
#[derive(Default)]
struct Unsaid {
    said: Option<String>,
}

impl Unsaid {
    fn account(&mut self, snapshot: &Snapshot) -> Option<Arc<Account>> {
        let keys = &snapshot.queue.maildrop;
        let Some(user) = &keys.user else {
            if keys.group.is_some() {
                self.say("[maildrop] user names no account: what is dropped waits");
            }
            return None;
        };
        let account = snapshot
            .settings
            .accounts
            .iter()
            .find(|account| account.name.eq_ignore_ascii_case(user));
        match account {
            Some(account) => {
                self.said = None;
                Some(account.clone())
            }
            None => {
                self.say(&format!(
                    "[maildrop] user: there is no account {user}; what is dropped waits"
                ));
                None
            }
        }
    }

    fn say(&mut self, text: &str) {
        if self.said.as_deref() != Some(text) {
            tracing::error!("{text}");
            self.said = Some(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
