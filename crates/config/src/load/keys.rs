//! The DKIM keys of `keys/` (CONF-79 to CONF-81). What is inside the files is told by the
//! function that the program gives: this crate knows no cryptography.

use galerne_core::keys::{Algorithm, KeyFile, KeyName, ReadKey};
use galerne_core::settings::{Secret, Settings};

use crate::finding::Level;
use crate::load::{Reader, read_bounded};

/// RSA keys shorter than this get a warning (CONF-81).
const SHORT_RSA: u32 = 2048;

/// What is inside a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    pub algorithm: Algorithm,
    /// Length of the modulus; 256 for Ed25519.
    pub bits: u32,
}

/// Reads all keys. A file that is none is left out and reported.
pub fn read(reader: &mut Reader<'_>, settings: &mut Settings) {
    for name in reader.names("keys") {
        // Editors leave files of other names; what should be a key ends so.
        if !name.ends_with(".pem") {
            continue;
        }
        let file = format!("keys/{name}");
        match key(reader, &name, &file) {
            Ok((key, bits)) => {
                if key.algorithm == Algorithm::RsaSha256 && bits < SHORT_RSA {
                    let text = format!("RSA key of {bits} bits; expected at least {SHORT_RSA}");
                    reader.file_finding(&file, Level::Warning, &text);
                }
                settings.keys.push(key);
            }
            Err(why) => {
                let text = format!("{why}; the key is not used");
                reader.file_finding(&file, Level::Error, &text);
            }
        }
    }
}

fn key(reader: &Reader<'_>, name: &str, file: &str) -> Result<(KeyFile, u32), String> {
    let name = KeyName::parse(name).map_err(|why| why.to_string())?;
    let octets = read_bounded(&reader.root.join(file))?;
    let KeyFacts { algorithm, bits } = (reader.options.key_facts)(&octets)?;
    let pem = String::from_utf8(octets).map_err(|_| "no text in PEM form".to_owned())?;
    let key = KeyFile {
        name,
        algorithm,
        file: file.to_owned(),
        pem: Secret(pem),
        read: ReadKey::default(),
    };
    Ok((key, bits))
}
