//! The maildrop of the running server (QUEUE-24): who owns a file on this host, who may drop mail, and
//! the pick-up from start to stop.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use galerne_core::settings::Settings;
use galerne_inbound::Maildrop;
use galerne_inbound::maildrop::{self, FOLDER, Person};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::house::House;
use crate::privileges;

/// The number that stands for users whom this system does not know, where the system does not say.
const NOBODY: u32 = 65534;

/// The pick-up at work.
pub struct PickUp {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Begins to pick up. Needs a runtime.
pub fn start(root: &Path, house: &Arc<House>) -> PickUp {
    let settings = house.clone();
    let unknown = unknown_user();
    let pick_up = Maildrop {
        folder: root.join(FOLDER),
        temporary: root.join("system"),
        reception: house.reception(),
        lists: house.lists(),
        quotas: house.quotas(),
        person: Box::new(move |uid| person(uid, unknown)),
        snapshot: Box::new(move || settings.snapshot()),
    };
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(Arc::new(pick_up).run(stopped));
    PickUp { stop, task }
}

impl PickUp {
    /// Takes no more files, and waits for those on their way, at the latest until `grace` is over.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Makes the folder as `[maildrop]` wants it, as root for the user of `runas`. Gives what is not as it
/// must be.
pub fn prepare(root: &Path, settings: &Settings) -> Vec<String> {
    let keys = &settings.queue.maildrop;
    let group = keys.group.as_deref().and_then(group);
    let runas = settings.runas.as_deref().filter(|_| privileges::is_root());
    let owner = runas.and_then(|runas| privileges::identity(runas).ok());
    let owner = owner.map(|identity| identity.uid);
    let mut said = match maildrop::prepare(root, keys, owner, group) {
        Ok(said) => said,
        Err(error) => vec![format!("{}: {error}", root.join(FOLDER).display())],
    };
    if keys.group.is_some() {
        said.extend(closed_way(root));
    }
    said
}

/// A folder on the way to the root through which others cannot go.
fn closed_way(root: &Path) -> Option<String> {
    let root = fs::canonicalize(root).ok()?;
    let is_closed =
        |folder: &&Path| fs::metadata(folder).is_ok_and(|about| about.mode() & 0o001 == 0);
    let closed = root.ancestors().find(is_closed)?.display();
    Some(format!(
        "{closed}: others may not go through it, so that nobody else can drop mail. Do: chmod o+x {closed}"
    ))
}

/// What is wrong with the keys: key and text.
pub fn findings(settings: &Settings) -> Vec<(&'static str, String)> {
    let keys = &settings.queue.maildrop;
    let mut findings = Vec::new();
    if let Some(name) = &keys.group
        && group(name).is_none()
    {
        findings.push((
            "group",
            format!("there is no group {name}; nobody but the owner of the server can drop mail"),
        ));
    }
    match &keys.user {
        Some(user) => {
            let mut accounts = settings.accounts.iter();
            if !accounts.any(|account| account.name.eq_ignore_ascii_case(user)) {
                findings.push((
                    "user",
                    format!("there is no account {user}; what is dropped waits"),
                ));
            }
        }
        None if keys.group.is_some() => {
            findings.push((
                "user",
                "no account is named; what is dropped waits".to_owned(),
            ));
        }
        None => {}
    }
    findings
}

/// The number of a group, which may be given as one.
fn group(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let groups = fs::read_to_string("/etc/group").ok()?;
    let lines = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let mut named = lines.filter(|fields| fields.first() == Some(&name));
    named.next()?.get(2)?.parse().ok()
}

/// Who it is. Users that `/etc/passwd` does not know have a number for a name.
fn person(uid: u32, unknown: u32) -> Option<Person> {
    if uid == unknown || uid == u32::MAX {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    Some(find(uid, &passwd).unwrap_or_else(|| Person {
        login: format!("uid{uid}"),
        name: None,
    }))
}

fn find(uid: u32, passwd: &str) -> Option<Person> {
    let lines = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let mut same = lines.filter(|fields| fields.get(2).is_some_and(|n| n.parse() == Ok(uid)));
    let fields = same.next()?;
    let login = (*fields.first()?).to_owned();
    // The name is what stands before the first comma; & is the login.
    let name = fields.get(4).and_then(|gecos| gecos.split(',').next());
    let name = name.map(|name| name.replace('&', &login));
    Some(Person {
        login,
        name: name.filter(|name| !name.trim().is_empty()),
    })
}

/// The number that files of users have whom this system cannot name.
fn unknown_user() -> u32 {
    let number = fs::read_to_string("/proc/sys/kernel/overflowuid");
    let number = number.ok().and_then(|text| text.trim().parse().ok());
    number.unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_24_the_owner_of_a_file_has_a_name() {
        let passwd = "root:x:0:0:root,,,:/root:/bin/sh\nanna:x:1000:1000:& Lind,Room 1,,:/home/anna:/bin/sh\nbot:x:1001:1001::/:/bin/false\nbroken\n";
        let person = |login: &str, name: Option<&str>| Person {
            login: login.into(),
            name: name.map(str::to_owned),
        };
        assert_eq!(find(0, passwd), Some(person("root", Some("root"))));
        assert_eq!(find(1000, passwd), Some(person("anna", Some("anna Lind"))));
        assert_eq!(find(1001, passwd), Some(person("bot", None)));
        assert_eq!(find(7, passwd), None);
        assert_eq!(super::person(NOBODY, NOBODY), None);
        assert_eq!(
            super::person(4_000_000_000, NOBODY),
            Some(person("uid4000000000", None))
        );
    }
}
