//! Files with secrets that others may read (CONF-95).

use crate::finding::Level;
use crate::load::Reader;

/// A warning for each key or user file that every user of the host can read.
pub fn check(reader: &mut Reader<'_>) {
    for (directory, end) in [("users", ".ini"), ("keys", ".pem"), ("certs", ".key")] {
        for name in reader.names(directory) {
            let file = format!("{directory}/{name}");
            if name.ends_with(end) && readable_by_others(&reader.root.join(&file)) {
                let text = "readable by every user of this host; expected mode 0600 or 0640";
                reader.file_finding(&file, Level::Warning, text);
            }
        }
    }
}

#[cfg(unix)]
fn readable_by_others(path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    path.metadata().is_ok_and(|m| m.mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_: &std::path::Path) -> bool {
    false
}
