//! The DKIM keys of `keys/`: what their file names say (CONF-79, CONF-80), and which of them sign
//! for a domain (CONF-81). The keys themselves are read by `galerne-sign`.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::settings::Secret;

/// How the name of the default key begins in the place of the domain (CONF-80).
const DEFAULT_MARK: char = '.';

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyOwner {
    /// A sender domain, in lower case.
    Domain(String),
    /// Every sender domain without a key of its own; `d=` stays that domain.
    Default,
}

/// What a file name says: `<domain> <selector> <id>.pem`, parted by single blanks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    pub owner: KeyOwner,
    /// The label before `._domainkey`, in lower case.
    pub selector: String,
    /// Local part of the identity: `i=id@domain`.
    pub id: String,
}

/// Why a file of `keys/` cannot be a key, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadKeyName(&'static str);

impl fmt::Display for BadKeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadKeyName {}

impl KeyName {
    /// Reads a file name without its directory.
    ///
    /// # Errors
    /// What is wrong with it, and what was expected.
    pub fn parse(file_name: &str) -> Result<Self, BadKeyName> {
        let stem = file_name
            .strip_suffix(".pem")
            .ok_or(BadKeyName("the name does not end with .pem"))?;
        let mut parts = stem.split(' ');
        let (Some(domain), Some(selector), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadKeyName(
                "the name is not `<domain> <selector> <id>.pem`, parted by single blanks",
            ));
        };
        if !is_selector(selector) {
            return Err(BadKeyName("the selector is no name for DNS"));
        }
        if !is_local_part(id) {
            return Err(BadKeyName("the id is no local part of an address"));
        }
        let owner = if domain.starts_with(DEFAULT_MARK) {
            KeyOwner::Default
        } else if is_domain(domain) {
            KeyOwner::Domain(domain.to_ascii_lowercase())
        } else {
            return Err(BadKeyName(
                "the domain is no name for DNS; write it in its ASCII form",
            ));
        };
        Ok(KeyName {
            owner,
            selector: selector.to_ascii_lowercase(),
            id: id.to_owned(),
        })
    }
}

fn is_label(label: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(plain)
}

fn is_domain(name: &str) -> bool {
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}

fn is_selector(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_local_part(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let dots = !id.starts_with('.') && !id.ends_with('.') && !id.contains("..");
    (1..=64).contains(&id.len()) && id.bytes().all(plain) && dots
}

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    RsaSha256,
    Ed25519Sha256,
}

impl Algorithm {
    /// As the `a=` of a signature says it.
    pub fn word(self) -> &'static str {
        match self {
            Algorithm::RsaSha256 => "rsa-sha256",
            Algorithm::Ed25519Sha256 => "ed25519-sha256",
        }
    }
}

/// One usable key of `keys/`.
#[derive(Clone, Debug)]
pub struct KeyFile {
    pub name: KeyName,
    pub algorithm: Algorithm,
    /// Path below the root: `keys/example.com s1 id.pem`.
    pub file: String,
    /// The text of the file. Never printed.
    pub pem: Secret,
    /// The key itself, read at its first use.
    pub read: ReadKey,
}

/// A place for what another crate makes of a key: made once, kept as long as the settings.
#[derive(Clone, Default)]
pub struct ReadKey(Arc<OnceLock<Box<dyn Any + Send + Sync>>>);

impl ReadKey {
    /// What `make` makes at the first call; later ones return the same. `None`: an earlier call
    /// put another type here.
    pub fn get_or_make<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(make())).downcast_ref()
    }
}

impl fmt::Debug for ReadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Indices of the keys that sign for `domain`: of its own, else the default ones; one for each
/// algorithm, with the alphabetically last selector (CONF-81). RSA first. Empty: none.
pub fn choose(keys: &[KeyFile], domain: &str) -> Vec<usize> {
    let own = |owner: &KeyOwner| match owner {
        KeyOwner::Domain(name) => name.eq_ignore_ascii_case(domain),
        KeyOwner::Default => false,
    };
    let chosen = last_of_each(keys, own);
    if chosen.is_empty() {
        return last_of_each(keys, |owner| *owner == KeyOwner::Default);
    }
    chosen
}

fn last_of_each(keys: &[KeyFile], is_meant: impl Fn(&KeyOwner) -> bool) -> Vec<usize> {
    let last = |algorithm: Algorithm| {
        let candidates = keys.iter().enumerate();
        candidates
            .filter(|(_, key)| key.algorithm == algorithm && is_meant(&key.name.owner))
            .max_by(|(_, a), (_, b)| a.name.selector.cmp(&b.name.selector))
            .map(|(index, _)| index)
    };
    [Algorithm::RsaSha256, Algorithm::Ed25519Sha256]
        .into_iter()
        .filter_map(last)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(file_name: &str, algorithm: Algorithm) -> KeyFile {
        KeyFile {
            name: KeyName::parse(file_name).unwrap(),
            algorithm,
            file: format!("keys/{file_name}"),
            pem: Secret("secret".into()),
            read: ReadKey::default(),
        }
    }

    #[test]
    fn conf_79_conf_80_the_name_of_a_key_file_says_domain_selector_and_id() {
        let name = KeyName::parse("News.Example.com s1.east postmaster.pem").unwrap();
        assert_eq!(
            name,
            KeyName {
                owner: KeyOwner::Domain("news.example.com".into()),
                selector: "s1.east".into(),
                id: "postmaster".into(),
            }
        );
        let default = KeyName::parse(".def dkim id.pem").unwrap();
        assert_eq!(default.owner, KeyOwner::Default);
        assert_eq!((&*default.selector, &*default.id), ("dkim", "id"));
        for bad in [
            "example.com s1 id.key",
            "example.com s1.pem",
            "example.com  s1 id.pem",
            "example.com s1 id x.pem",
            "example s1 id.pem",
            "m\u{fc}ller.example s1 id.pem",
            "example.com s..1 id.pem",
            "example.com s1; id.pem",
            "example.com s1 .id.pem",
            "example.com s1 a@b.pem",
            ".pem",
        ] {
            assert!(KeyName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn conf_81_one_key_for_each_algorithm_with_the_last_selector() {
        use Algorithm::{Ed25519Sha256, RsaSha256};
        let keys = [
            key("example.com s2 id.pem", RsaSha256),
            key("example.com s9 id.pem", Ed25519Sha256),
            key("example.com s3 id.pem", RsaSha256),
            key("example.com s10 id.pem", RsaSha256),
            key(".def dkim id.pem", RsaSha256),
            key(".def ed id.pem", Ed25519Sha256),
            key("rsa.example s1 id.pem", RsaSha256),
        ];
        let names = |domain: &str| {
            let chosen = choose(&keys, domain);
            let files = chosen.iter().map(|&i| keys[i].file.clone());
            files.collect::<Vec<_>>()
        };
        let own = ["keys/example.com s3 id.pem", "keys/example.com s9 id.pem"];
        assert_eq!(names("EXAMPLE.com"), own);
        assert_eq!(names("rsa.example"), ["keys/rsa.example s1 id.pem"]);
        let default = ["keys/.def dkim id.pem", "keys/.def ed id.pem"];
        assert_eq!(names("other.example"), default);
        assert_eq!(names("sub.example.com"), default);
        assert_eq!(choose(&keys[..4], "other.example"), [0usize; 0]);
    }

    #[test]
    fn conf_90_a_key_is_not_printed() {
        let key = key("example.com s1 id.pem", Algorithm::RsaSha256);
        assert!(!format!("{key:?}").contains("secret"));
    }
}
