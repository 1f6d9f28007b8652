//! Changes one key of a file and nothing else: comments, order and line ends stay as they are
//! (CONF-21), and a reader finds the old file or the new one, never half of one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::document::Document;

/// The file of an account, whatever the case of its name (CONF-37).
///
/// # Errors
/// There is none, in words.
pub fn user_file(root: &Path, name: &str) -> Result<PathBuf, String> {
    let users = root.join("users");
    let is = |file: &Path| {
        let part = |text: Option<&std::ffi::OsStr>, is: &str| {
            text.and_then(std::ffi::OsStr::to_str)
                .is_some_and(|text| text.eq_ignore_ascii_case(is))
        };
        part(file.file_stem(), name) && part(file.extension(), "ini")
    };
    let entries = fs::read_dir(&users).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(|file| is(file)).collect();
    files.sort();
    files.into_iter().next().ok_or_else(|| {
        format!(
            "there is no account {name}: no file {}",
            users.join(format!("{name}.ini")).display()
        )
    })
}

/// Sets a key in a file, and adds key and section where they are missing. Mode, owner and a link
/// to the file stay.
///
/// # Errors
/// In words; the file is then as it was.
pub fn set_key(file: &Path, section: &str, key: &str, value: &str) -> Result<(), String> {
    let says = |error: io::Error| format!("{}: {error}", file.display());
    let target = fs::canonicalize(file).map_err(says)?;
    let octets = fs::read(&target).map_err(says)?;
    let mut document = Document::from_bytes(&octets)
        .map_err(|bad| format!("{}:{}: not UTF-8 text", file.display(), bad.line))?;
    document
        .set(section, key, value)
        .map_err(|_| format!("{}: this value could not be read back", file.display()))?;
    replace(&target, document.to_string().as_bytes()).map_err(says)
}

/// A new file in the place of the old one, with its mode and owner, on disk before it counts.
fn replace(target: &Path, octets: &[u8]) -> io::Result<()> {
    let old = fs::metadata(target)?;
    let folder = target.parent().unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // No ending that the configuration knows; a name of its own, should two do this at once.
    let making = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut new = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&making)?;
        new.write_all(octets)?;
        let made = new.metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            fchown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        new.sync_all()?;
        fs::rename(&making, target)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&making);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("users")).unwrap();
        let file = root.path().join("users/Shop.ini");
        fs::write(&file, text).unwrap();
        (root, file)
    }

    #[test]
    fn conf_21_if_6_a_key_changes_and_every_other_octet_stays() {
        let before = "\u{feff}; mine\r\n[Account]\r\nSmtpPassw  =\told ; not a comment\r\nodd = kept\r\n\r\n# end";
        let (_root, file) = file(before);
        set_key(&file, "account", "smtppassw", "new").unwrap();
        let after = fs::read_to_string(&file).unwrap();
        assert_eq!(after, before.replace("old ; not a comment", "new"));
    }

    #[test]
    fn conf_21_if_6_key_and_section_are_added_where_they_are_missing() {
        for (before, after) in [
            ("", "[account]\nsmtppassw = new\n"),
            (
                "[account]\n# a comment\n",
                "[account]\nsmtppassw = new\n# a comment\n",
            ),
            (
                "[list]\nfilter =",
                "[list]\nfilter =\n[account]\nsmtppassw = new\n",
            ),
        ] {
            let (_root, file) = file(before);
            set_key(&file, "account", "smtppassw", "new").unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), after);
        }
    }

    #[test]
    fn if_6_mode_and_link_stay_and_nothing_is_left_over() {
        let (root, file) = file("[account]\n");
        let link = root.path().join("users/link.ini");
        std::os::unix::fs::symlink("Shop.ini", &link).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        set_key(&link, "account", "smtppassw", "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::read_to_string(&file).unwrap().contains("new"));
        assert!(set_key(&file, "account", "smtppassw", "a\nb").is_err());
        assert_eq!(fs::read_dir(root.path().join("users")).unwrap().count(), 2);
    }

    #[test]
    fn conf_37_a_user_file_is_found_without_regard_to_case() {
        let (root, file) = file("");
        assert_eq!(user_file(root.path(), "sHOP"), Ok(file));
        for name in ["sho", "shop.ini", "../users/Shop", ""] {
            assert!(user_file(root.path(), name).is_err(), "{name}");
        }
    }
}
