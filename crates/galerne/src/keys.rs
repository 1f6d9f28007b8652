//! DKIM keys as the rest of the program needs to know them: what a file of `keys/` holds, and the
//! record that publishes it. The cryptography is in `galerne_sign`.

use galerne_config::KeyFacts;
use galerne_core::keys::{Algorithm, KeyFile};
use galerne_sign::SigningKey;

/// What a file of `keys/` holds.
///
/// # Errors
/// Why it is no key that can sign, in words.
pub fn facts(pem: &[u8]) -> Result<KeyFacts, String> {
    let key = SigningKey::from_pem(pem).map_err(|why| why.to_string())?;
    let algorithm = match key.algorithm() {
        galerne_sign::Algorithm::RsaSha256 => Algorithm::RsaSha256,
        galerne_sign::Algorithm::Ed25519Sha256 => Algorithm::Ed25519Sha256,
    };
    let bits = key.bits();
    Ok(KeyFacts { algorithm, bits })
}

/// The value of the record that publishes a key; `None`: it cannot be read.
pub fn public_record(key: &KeyFile) -> Option<String> {
    let read = SigningKey::from_pem(key.pem.0.as_bytes()).ok()?;
    Some(read.record())
}
