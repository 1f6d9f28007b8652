//! `galerne keygen` (CONF-82): a new DKIM key in `keys/`, and the record that publishes it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;
use std::process::ExitCode;

use galerne_core::keys::{KeyName, KeyOwner};
use galerne_core::zone_records::{RecordData, zone_line};
use galerne_sign::key::generate;
use galerne_sign::{Algorithm, SigningKey};
use galerne_smtp::Mailbox;
use serde_json::json;

use super::{fail, is_root_of_a_tree, print_json};
use crate::cli::KeygenArgs;
use crate::out::print;

/// Writes a key, never over an existing file, and prints its TXT record.
pub fn keygen(root: &Path, args: &KeygenArgs) -> ExitCode {
    match make(root, args) {
        Ok(made) if args.json => {
            let Made { file, name, value } = &made;
            let record = json!({"name": name, "type": "TXT", "value": value});
            print_json(&json!({"file": file, "record": record}), ExitCode::SUCCESS)
        }
        Ok(Made { file, name, value }) => {
            eprintln!(
                "{file} written; publish this record now: a running server signs with the key within \
                 seconds. Then see `galerne doctor`"
            );
            print(
                &zone_line(&name, &RecordData::Txt(value)),
                ExitCode::SUCCESS,
            )
        }
        Err(text) => fail(&text),
    }
}

/// A key that was made.
struct Made {
    /// Relative to the root.
    file: String,
    /// Where its record stands: the whole name with a dot at the end; for a default key without
    /// domain and dot.
    name: String,
    value: String,
}

fn make(root: &Path, args: &KeygenArgs) -> Result<Made, String> {
    is_root_of_a_tree(root)?;
    let owner = match args.domain.starts_with('.') {
        true => args.domain.clone(),
        false => domain(&args.domain)?,
    };
    let file_name = format!(
        "{owner} {} {}.pem",
        args.selector.to_ascii_lowercase(),
        args.id
    );
    if file_name.contains('/') {
        return Err(format!("{file_name}: a name in keys/ cannot have a /"));
    }
    let key = KeyName::parse(&file_name).map_err(|why| format!("{file_name}: {why}"))?;
    let keys = root.join("keys");
    fs::create_dir_all(&keys).map_err(|e| format!("{}: {e}", keys.display()))?;
    if let Some(other) = with_the_same_record(&keys, &key) {
        return Err(format!(
            "keys/{other} has this selector already; take another one, and remove the old key once \
             mail that it signed has arrived"
        ));
    }
    let algorithm = match args.ed25519 {
        true => Algorithm::Ed25519Sha256,
        false => Algorithm::RsaSha256,
    };
    let pem = generate(algorithm).map_err(|e| e.to_string())?;
    let value = SigningKey::from_pem(pem.as_bytes())
        .map_err(|e| e.to_string())?
        .record();
    write(&keys, &file_name, pem.as_bytes())?;
    let name = match &key.owner {
        KeyOwner::Domain(domain) => format!("{}._domainkey.{domain}.", key.selector),
        KeyOwner::Default => format!("{}._domainkey", key.selector),
    };
    Ok(Made {
        file: format!("keys/{file_name}"),
        name,
        value,
    })
}

/// A key file of the same domain and selector: its record would stand at the same name.
fn with_the_same_record(keys: &Path, wanted: &KeyName) -> Option<String> {
    let entries = fs::read_dir(keys).ok()?.flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.find(|name| {
        let found = KeyName::parse(name);
        found.is_ok_and(|k| k.owner == wanted.owner && k.selector == wanted.selector)
    })
}

/// A new file that only its owner can read: the owner of the directory, where root makes it.
fn write(keys: &Path, file_name: &str, pem: &[u8]) -> Result<(), String> {
    let path = keys.join(file_name);
    let says = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => format!("keys/{file_name} exists; it is left as it is"),
        _ => format!("{}: {error}", path.display()),
    };
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.map_err(says)?;
    file.write_all(pem)
        .and_then(|()| file.sync_all())
        .map_err(says)?;
    if crate::privileges::is_root() {
        let owner = fs::metadata(keys).map_err(says)?;
        chown(&path, Some(owner.uid()), Some(owner.gid())).map_err(says)?;
    }
    Ok(())
}

/// A domain as it is asked for: lower case, A-labels.
///
/// # Errors
/// It is none, in words.
pub fn domain(text: &str) -> Result<String, String> {
    let bad = || format!("{text}: expected a domain, such as news.example.com");
    let text = text.strip_suffix('.').unwrap_or(text);
    let mailbox = Mailbox::parse(&format!("a@{text}")).map_err(|_| bad())?;
    let domain = mailbox.ascii_domain().into_owned();
    match mailbox.literal().is_none() && domain.contains('.') && !domain.starts_with('[') {
        true => Ok(domain),
        false => Err(bad()),
    }
}
