//! The directories and the sample files of a root.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use galerne_core::settings::Settings;

/// The directories of CONF-33 below the root; `true`: for the owner only.
const DIRECTORIES: [(&str, bool); 12] = [
    ("users", true),
    ("domains", false),
    ("hosts", true),
    ("lists", false),
    ("keys", true),
    ("relays", false),
    ("logs", false),
    ("wwws", false),
    ("mails", false),
    ("queues", false),
    ("system", true),
    ("certs", true),
];

/// The directories of a user below the spool (CONF-35).
const USER_DIRECTORIES: [&str; 5] = ["REQUEST", "RESPONSE", "LOG", "REPLY", "DATA"];

/// Stands in the sample account for the password made at `init`.
const PASSWORD_MARK: &str = "%PASSWORD%";

/// The sample tree: path, text.
const SAMPLES: [(&str, &str); 11] = [
    ("galerne.ini", include_str!("../samples/galerne.ini")),
    ("users/demo.ini", include_str!("../samples/users/demo.ini")),
    (
        "hosts/@example.ini.sample",
        include_str!("../samples/hosts/@example.ini.sample"),
    ),
    (
        "domains/.defflow.ini",
        include_str!("../samples/domains/.defflow.ini"),
    ),
    ("domains/@.ini", include_str!("../samples/domains/@.ini")),
    (
        "domains/@aol.ini",
        include_str!("../samples/domains/@aol.ini"),
    ),
    (
        "domains/@gmail.ini",
        include_str!("../samples/domains/@gmail.ini"),
    ),
    (
        "domains/@hotmail.ini",
        include_str!("../samples/domains/@hotmail.ini"),
    ),
    (
        "domains/@yahoo.ini",
        include_str!("../samples/domains/@yahoo.ini"),
    ),
    ("wwws/unsub.htm", include_str!("../samples/wwws/unsub.htm")),
    ("wwws/uncfm.htm", include_str!("../samples/wwws/uncfm.htm")),
];

/// What became of a sample file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Written,
    /// It was there already and stays as it is.
    Kept,
}

/// Creates the directories that are missing and returns them (CONF-6, CONF-7, CONF-33, CONF-38).
/// Those for secrets are for the owner only. What exists keeps its mode.
pub fn create_directories(root: &Path, settings: &Settings) -> io::Result<Vec<PathBuf>> {
    let mut created = create_tree(root)?;
    create(&settings.spool, false, &mut created)?;
    for account in &settings.accounts {
        let home = settings.spool.join(&account.name);
        create(&home, true, &mut created)?;
        for name in USER_DIRECTORIES {
            create(&home.join(name), true, &mut created)?;
        }
    }
    Ok(created)
}

/// Writes the sample tree (CONF-5), never over an existing file, and the directories it lies in.
/// Paths are relative to the root. The sample account gets a password of its own; the files of
/// users are for the owner only.
pub fn write_samples(root: &Path) -> io::Result<Vec<(PathBuf, Written)>> {
    fs::create_dir_all(root)?;
    create_tree(root)?;
    let mut written = Vec::new();
    for (path, text) in SAMPLES {
        let secret = path.starts_with("users/");
        let text = match secret {
            true => text.replace(PASSWORD_MARK, &password()?),
            false => text.to_string(),
        };
        let what = write_new(&root.join(path), &text, secret)?;
        written.push((PathBuf::from(path), what));
    }
    Ok(written)
}

fn create_tree(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut created = Vec::new();
    for (name, private) in DIRECTORIES {
        create(&root.join(name), private, &mut created)?;
    }
    Ok(created)
}

fn create(path: &Path, private: bool, created: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    if private {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    builder.create(path).map_err(named)?;
    created.push(path.to_path_buf());
    Ok(())
}

/// Writes a file that must not exist yet.
fn write_new(path: &Path, text: &str, secret: bool) -> io::Result<Written> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(if secret { 0o600 } else { 0o644 });
    }
    match options.open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes())?;
            Ok(Written::Written)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Written::Kept),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{}: {error}", path.display()),
        )),
    }
}

/// 24 characters of 5 bits each from the system's random source.
fn password() -> io::Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    let letter = |b: &u8| LETTERS.get(usize::from(b % 32)).copied().unwrap_or(b'x');
    Ok(bytes.iter().map(letter).map(char::from).collect())
}
