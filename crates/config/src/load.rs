//! Reads the whole tree into settings.
//!
//! Order: the main file, the groups, the relay hosts, the users, then what only all of them
//! together can tell. A file with an error is left out (CONF-11); one in the main file leaves no
//! settings at all. The lines of CONF-8 are in `found`.

mod flow;
mod found;
mod groups;
mod keys;
mod main_file;
mod modes;
mod reports;
mod rights;
mod routing;
mod services;
mod users;

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use galerne_core::settings::Settings;

use crate::finding::{Finding, Level};
use crate::load::routing::Hosts;
use crate::registry::File;
use crate::sheet::Sheet;

pub use keys::KeyFacts;

/// Larger files are no configuration.
const MAX_FILE: u64 = 16 << 20;

/// Name of the main file.
pub const MAIN_FILE: &str = "galerne.ini";

/// How to read the tree.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Do not ask `on_host` about the addresses of `[IP]` (`--no-bind-check`, CONF-25).
    pub no_bind_check: bool,
    /// Any error leaves no settings: for a reload (CONF-11).
    pub strict: bool,
    /// Whether an address belongs to this host.
    pub on_host: &'a dyn Fn(IpAddr) -> bool,
    /// What a file of `keys/` holds, or why it is no key, in words.
    pub key_facts: &'a dyn Fn(&[u8]) -> Result<KeyFacts, String>,
    /// What only the rest of the program can tell of the settings: certificates, system users.
    pub further: &'a dyn Fn(&Settings) -> Vec<Finding>,
}

/// The result of reading.
#[derive(Debug)]
pub struct Loaded {
    /// `None`: an error in the main file, or any error with `strict`.
    pub settings: Option<Settings>,
    /// Sorted by file and line.
    pub findings: Vec<Finding>,
    /// What was found, for the start (CONF-8): IPs, listeners, users, groups, hosts, keys.
    pub found: Vec<String>,
}

impl Loaded {
    /// Number of errors; `check` exits 0 only without (IF-4).
    pub fn errors(&self) -> usize {
        self.count(Level::Error)
    }

    /// Number of findings of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|f| f.level == level).count()
    }
}

/// Reads everything under `root`.
pub fn load(root: &Path, options: LoadOptions<'_>) -> Loaded {
    let mut reader = Reader {
        root,
        options,
        findings: Vec::new(),
    };
    let settings = read_all(&mut reader);
    let mut findings = reader.findings;
    findings.extend(settings.iter().flat_map(options.further));
    findings.sort();
    findings.dedup();
    let errors = |f: &&Finding| f.level == Level::Error;
    let fatal = |f: &Finding| options.strict || f.file == MAIN_FILE;
    let stops = findings.iter().filter(errors).any(fatal);
    let mut found = settings.as_ref().map(found::lines).unwrap_or_default();
    found.extend(found::certificates(root));
    let count = |level| findings.iter().filter(|f| f.level == level).count();
    found.push(format!(
        "{} errors, {} warnings",
        count(Level::Error),
        count(Level::Warning)
    ));
    Loaded {
        settings: settings.filter(|_| !stops),
        findings,
        found,
    }
}

fn read_all(reader: &mut Reader<'_>) -> Option<Settings> {
    let mut main = reader.sheet(MAIN_FILE, File::Main, None)?;
    let (mut settings, listed) = main_file::read(&mut main, reader.root, reader.options);
    groups::read(reader, &mut settings, &listed);
    users::read(reader, &mut settings, &listed);
    let hosts = Hosts {
        usable: &settings.hosts,
        declared: declared_hosts(reader),
    };
    main_file::check_routing(&mut main, &settings.routing, &listed, &hosts);
    keys::read(reader, &mut settings);
    reports::check(&mut main, &settings);
    reader.close(main);
    modes::check(reader);
    Some(settings)
}

/// Names of the files in hosts/, usable or not, and of relay groups in domains/.
fn declared_hosts(reader: &Reader<'_>) -> HashSet<String> {
    let names = reader.names("hosts");
    names
        .iter()
        .filter_map(|n| groups::stem(n))
        .map(str::to_string)
        .collect()
}

/// The addresses that `[IP]` lists, on this host or not.
type Listed = HashSet<IpAddr>;

/// Reads files and collects what is found.
struct Reader<'a> {
    root: &'a Path,
    options: LoadOptions<'a>,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    /// Reads one file; what stops that is an error.
    fn sheet(&mut self, file: &str, kind: File, user: Option<&str>) -> Option<Sheet> {
        match read_bounded(&self.root.join(file)) {
            Ok(bytes) => Some(Sheet::read(file, kind, &bytes, user)),
            Err(why) => {
                self.file_finding(file, Level::Error, &why);
                None
            }
        }
    }

    /// Takes the findings of a sheet that nobody needs any more. True if the file can be used.
    fn close(&mut self, mut sheet: Sheet) -> bool {
        let good = sheet.is_good();
        self.findings.append(&mut sheet.findings);
        good
    }

    /// A finding about a file as a whole.
    fn file_finding(&mut self, file: &str, level: Level, text: &str) {
        self.findings.push(Finding {
            file: file.to_string(),
            line: 1,
            level,
            section: "-".into(),
            key: "-".into(),
            text: text.to_string(),
        });
    }

    /// Names of the files in a directory, sorted; a missing directory is empty.
    fn names(&self, directory: &str) -> Vec<String> {
        names(&self.root.join(directory))
    }
}

/// Names of the files in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|e| e.path().is_file());
    let mut names: Vec<_> = files
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("there is no such file; `galerne init` writes a sample".into());
        }
        Err(error) => return Err(format!("cannot be opened: {error}")),
    };
    let mut bytes = Vec::new();
    match file.take(MAX_FILE + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 <= MAX_FILE => Ok(bytes),
        Ok(_) => Err("larger than 16 MiB".into()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
