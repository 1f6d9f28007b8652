//! A temporary root with files in it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use galerne_config::{KeyFacts, LoadOptions, Loaded, load};
use galerne_core::keys::Algorithm;
use galerne_core::settings::{Account, Settings};

/// What a file says that it is, in place of a real key: `rsa 2048`, `ed25519`.
pub fn key_facts(octets: &[u8]) -> Result<KeyFacts, String> {
    let text = std::str::from_utf8(octets).map_err(|e| e.to_string())?;
    let (algorithm, bits) = match text.trim().split_once(' ') {
        Some(("rsa", bits)) => (Algorithm::RsaSha256, bits.parse().unwrap()),
        None if text.trim() == "ed25519" => (Algorithm::Ed25519Sha256, 256),
        _ => return Err("not a private key in PEM form".to_owned()),
    };
    Ok(KeyFacts { algorithm, bits })
}

pub struct World {
    root: tempfile::TempDir,
}

impl World {
    /// A root with a main file that has two addresses.
    pub fn new() -> Self {
        let world = World::empty();
        world.write(
            "galerne.ini",
            "[IP]\n192.0.2.10 = news.example.com\n192.0.2.11 = mta11.example.net\n",
        );
        world
    }

    pub fn empty() -> Self {
        World {
            root: tempfile::tempdir().unwrap(),
        }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root().join(file)
    }

    /// Writes a file, readable by the owner only.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        self.mode(file, 0o600);
        self
    }

    #[cfg(unix)]
    pub fn mode(&self, file: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(file), mode).unwrap();
    }

    /// Everything on host, as at a start.
    pub fn load(&self) -> Loaded {
        self.load_with(LoadOptions {
            no_bind_check: false,
            strict: false,
            on_host: &|_| true,
            key_facts: &key_facts,
            further: &|_| Vec::new(),
        })
    }

    pub fn load_with(&self, options: LoadOptions<'_>) -> Loaded {
        load(self.root(), options)
    }

    /// Settings of a tree without errors.
    pub fn settings(&self) -> Settings {
        let loaded = self.load();
        assert_eq!(loaded.errors(), 0, "{:#?}", lines(&loaded));
        loaded.settings.unwrap()
    }

    /// The account `shop` of this user file.
    pub fn shop(&self, text: &str) -> Arc<Account> {
        self.write("users/shop.ini", text);
        account(&self.settings(), "shop")
    }

    /// The one error that this user file makes; the account must be gone.
    pub fn shop_error(&self, text: &str) -> String {
        self.write("users/shop.ini", text);
        let loaded = self.load();
        let settings = loaded.settings.as_ref().unwrap();
        assert!(settings.accounts.iter().all(|a| a.name != "shop"));
        one_error(&loaded)
    }
}

pub fn account(settings: &Settings, name: &str) -> Arc<Account> {
    settings
        .accounts
        .iter()
        .find(|a| a.name == name)
        .unwrap()
        .clone()
}

/// All findings as `check` prints them.
pub fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.findings.iter().map(|f| f.to_string()).collect()
}

/// The only error.
pub fn one_error(loaded: &Loaded) -> String {
    let mut errors = lines(loaded);
    errors.retain(|l| l.contains(": error: "));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
