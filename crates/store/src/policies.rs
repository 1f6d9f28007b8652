//! MTA-STS policies that were fetched (RFC 8461 §3.3): one file per domain under `system/mtasts/`,
//! so that a restart forgets none. What a policy means is `galerne_core::tls_policy::sts`.
//!
//! A file is the policy as it was served, behind two lines of ours: its id and when it was fetched.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Most policies that are read at the start.
const MOST: usize = 100_000;
/// Largest file that is read.
const LARGEST: u64 = 70 * 1024;

/// The folder of policies.
pub struct PolicyStore {
    folder: PathBuf,
    writes: bool,
}

/// A policy as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    /// The id of the TXT record under which it was fetched.
    pub id: String,
    /// To the second.
    pub fetched: SystemTime,
    /// The policy file.
    pub text: String,
}

impl PolicyStore {
    /// The store in that folder, made if it is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<PolicyStore> {
        fs::create_dir_all(folder)?;
        Ok(PolicyStore {
            folder: folder.to_owned(),
            writes: true,
        })
    }

    /// The store in a folder that belongs to somebody else, or does not exist: nothing is written.
    pub fn read_only(folder: &Path) -> PolicyStore {
        PolicyStore {
            folder: folder.to_owned(),
            writes: false,
        }
    }

    /// All policies with their domains. What cannot be read is left out: it is fetched again.
    pub fn load(&self) -> Vec<(String, StoredPolicy)> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let policy = |file: fs::DirEntry| {
            let domain = file.file_name().into_string().ok()?;
            let small = file.metadata().is_ok_and(|m| m.len() <= LARGEST);
            if !small || !is_domain(&domain) {
                return None;
            }
            let text = fs::read_to_string(file.path()).ok()?;
            Some((domain, parse(&text)?))
        };
        files.take(MOST).filter_map(policy).collect()
    }

    /// Keeps a policy in place of an earlier one of the domain. Waits for the disk: not for a
    /// network thread.
    ///
    /// # Errors
    /// The disk refuses, or this can be no domain.
    pub fn put(&self, domain: &str, policy: &StoredPolicy) -> io::Result<()> {
        let place = self.place(domain)?;
        if !self.writes {
            return Ok(());
        }
        let since = policy.fetched.duration_since(UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs();
        // A name that can be no domain, so that a half-written file is never read.
        let draft = self.folder.join(format!(".{domain}.new"));
        let mut file = fs::File::create(&draft)?;
        write!(file, "id {}\nfetched {seconds}\n{}", policy.id, policy.text)?;
        file.sync_all()?;
        fs::rename(draft, place)
    }

    /// Forgets the policy of a domain.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn remove(&self, domain: &str) -> io::Result<()> {
        let place = self.place(domain)?;
        if !self.writes {
            return Ok(());
        }
        match fs::remove_file(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn place(&self, domain: &str) -> io::Result<PathBuf> {
        match is_domain(domain) {
            true => Ok(self.folder.join(domain)),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

fn parse(file: &str) -> Option<StoredPolicy> {
    let (id, rest) = file.strip_prefix("id ")?.split_once('\n')?;
    let (seconds, text) = rest.strip_prefix("fetched ")?.split_once('\n')?;
    let fetched = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
    Some(StoredPolicy {
        id: id.to_owned(),
        fetched,
        text: text.to_owned(),
    })
}

/// Whether a domain can be the name of a file, and nothing but a file in its folder.
fn is_domain(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    (1..=250).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(id: &str) -> StoredPolicy {
        StoredPolicy {
            id: id.into(),
            fetched: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            text: "version: STSv1\r\nmode: none\r\nmax_age: 86400\r\n".into(),
        }
    }

    #[test]
    fn t_17_policies_survive_a_restart_and_replace_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let store = PolicyStore::open(&folder.path().join("mtasts")).unwrap();
        store.put("example.org", &policy("1")).unwrap();
        store.put("example.org", &policy("2")).unwrap();
        store.put("example.net", &policy("3")).unwrap();
        store.remove("example.net").unwrap();
        store.remove("example.net").unwrap();
        let again = PolicyStore::open(&folder.path().join("mtasts")).unwrap();
        assert_eq!(again.load(), [("example.org".to_owned(), policy("2"))]);
        let guest = PolicyStore::read_only(&folder.path().join("mtasts"));
        guest.put("example.com", &policy("4")).unwrap();
        guest.remove("example.org").unwrap();
        assert_eq!(guest.load(), again.load());
        assert_eq!(guest.load().len(), 1);
    }

    #[test]
    fn t_17_nothing_leaves_the_folder_and_what_is_spoilt_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = PolicyStore::open(folder.path()).unwrap();
        for name in ["", "..", "../x", "a/b", ".x", "A.example", "[192.0.2.1]"] {
            assert!(store.put(name, &policy("1")).is_err(), "{name}");
        }
        for (name, text) in [
            ("a.example", ""),
            ("b.example", "id 1\nfetched x\n"),
            (".c.example.new", "id 1\nfetched 1\nversion"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::write(folder.path().join("d.example"), vec![b'x'; 80_000]).unwrap();
        assert!(store.load().is_empty());
    }
}
