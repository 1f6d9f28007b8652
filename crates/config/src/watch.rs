//! When to read again: a fingerprint of all files that make the settings (CONF-12).
//!
//! The caller takes one now and then (at the latest every 60 s) and reloads when it differs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The files of the configuration with their times and sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    files: BTreeMap<PathBuf, Mark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    modified: Option<SystemTime>,
    size: u64,
    /// A file that was replaced whole within one tick of the clock.
    inode: u64,
}

/// Which files count: directory and endings.
const WATCHED: [(&str, &[&str]); 6] = [
    ("", &["galerne.ini"]),
    ("users", &[".ini"]),
    ("domains", &[".ini", "_alias.csv"]),
    ("hosts", &[".ini"]),
    ("keys", &[".pem"]),
    ("certs", &[".pem", ".key"]),
];

impl Fingerprint {
    /// Looks at the files under `root`. Never fails: what cannot be seen is not there.
    pub fn of(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        for (directory, ends) in WATCHED {
            let entries = fs::read_dir(root.join(directory)).into_iter().flatten();
            for entry in entries.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if ends.iter().any(|end| name.ends_with(end))
                    && let Ok(metadata) = fs::metadata(entry.path())
                    && metadata.is_file()
                {
                    let path = Path::new(directory).join(name.as_ref());
                    files.insert(path, Mark::of(&metadata));
                }
            }
        }
        Fingerprint { files }
    }

    /// The files that are new, gone or changed, relative to the root.
    pub fn changed(&self, since: &Fingerprint) -> Vec<PathBuf> {
        let here = self.files.iter();
        let changed = here.filter(|(path, mark)| since.files.get(*path) != Some(mark));
        let gone = since.files.keys().filter(|p| !self.files.contains_key(*p));
        let mut paths: Vec<_> = changed.map(|(p, _)| p).chain(gone).cloned().collect();
        paths.sort();
        paths
    }
}

impl Mark {
    fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Mark {
            modified: metadata.modified().ok(),
            size: metadata.len(),
            inode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_12_every_kind_of_change_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        fs::create_dir(root.path().join("users")).unwrap();
        write("galerne.ini", "[IP]\n");
        write("users/a.ini", "[account]\n");
        let first = Fingerprint::of(root.path());
        assert_eq!(Fingerprint::of(root.path()), first);

        write("users/a.ini", "[account]\nsmtpssl = 0\n");
        let second = Fingerprint::of(root.path());
        assert_eq!(second.changed(&first), [PathBuf::from("users/a.ini")]);

        write("users/b.ini", "");
        fs::remove_file(root.path().join("galerne.ini")).unwrap();
        let third = Fingerprint::of(root.path());
        let expected = ["galerne.ini", "users/b.ini"].map(PathBuf::from);
        assert_eq!(third.changed(&second), expected);
    }

    #[test]
    fn conf_12_a_change_of_the_same_size_is_seen_by_its_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("galerne.ini");
        fs::write(&path, "a").unwrap();
        let first = Fingerprint::of(root.path());
        let file = fs::File::options().write(true).open(&path).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        file.set_modified(later).unwrap();
        assert_ne!(Fingerprint::of(root.path()), first);
    }

    #[test]
    fn other_files_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        let first = Fingerprint::of(root.path());
        fs::create_dir(root.path().join("logs")).unwrap();
        fs::write(root.path().join("logs/rfmta.txt"), "x").unwrap();
        fs::write(root.path().join("notes.txt"), "x").unwrap();
        assert_eq!(Fingerprint::of(root.path()), first);
    }
}
