//! Private keys: read from PEM, made new, and their public part for DNS (CONF-81, CONF-82).

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePublicKey};
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::traits::PublicKeyParts;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// Shortest and longest RSA key, in bits (CONF-81).
const RSA_BITS: std::ops::RangeInclusive<u32> = 1024..=4096;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Why something is no key, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("not a private key in PEM form")]
    NoPem,
    #[error("a key of another kind; expected RSA or Ed25519")]
    Unsupported,
    #[error("the key is encrypted with a password; expected one in clear")]
    Encrypted,
    #[error("the key is damaged; expected an RSA or Ed25519 key")]
    Damaged,
    #[error("RSA key of {0} bits; expected 1024 to 4096")]
    Length(u32),
    #[error("the signature could not be made")]
    Signing,
}

/// A private key.
pub struct SigningKey {
    kind: Kind,
    bits: u32,
}

enum Kind {
    Rsa(Box<RsaKeyPair>),
    /// Below 2048 bits, which the other library does not take. Signed with blinding.
    ShortRsa(Box<rsa::pkcs1v15::SigningKey<rsa::sha2::Sha256>>),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SigningKey({} {} bits)",
            self.algorithm().word(),
            self.bits
        )
    }
}

impl SigningKey {
    /// Reads the first private key of a PEM file: PKCS#1 or PKCS#8, RSA or Ed25519.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        // Both forms of OpenSSL say so in clear.
        if memchr::memmem::find(pem, b"ENCRYPTED").is_some() {
            return Err(KeyError::Encrypted);
        }
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs1(der)) => Self::rsa(der.secret_pkcs1_der(), Form::Pkcs1),
            Ok(PrivateKeyDer::Pkcs8(der)) => {
                let der = der.secret_pkcs8_der();
                match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    Ok(pair) => Ok(SigningKey {
                        kind: Kind::Ed25519(pair),
                        bits: 256,
                    }),
                    Err(_) if is_other_kind(der) => Err(KeyError::Unsupported),
                    Err(_) => Self::rsa(der, Form::Pkcs8),
                }
            }
            Ok(_) => Err(KeyError::Unsupported),
            Err(_) => Err(KeyError::NoPem),
        }
    }

    fn rsa(der: &[u8], form: Form) -> Result<Self, KeyError> {
        let short = match form {
            Form::Pkcs1 => rsa::RsaPrivateKey::from_pkcs1_der(der).ok(),
            Form::Pkcs8 => rsa::RsaPrivateKey::from_pkcs8_der(der).ok(),
        };
        let short = short.ok_or(KeyError::Damaged)?;
        let bits = u32::try_from(short.n().bits()).unwrap_or(u32::MAX);
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::Length(bits));
        }
        if bits < 2048 {
            let key = rsa::pkcs1v15::SigningKey::new(short);
            return Ok(SigningKey {
                kind: Kind::ShortRsa(Box::new(key)),
                bits,
            });
        }
        let pair = match form {
            Form::Pkcs1 => RsaKeyPair::from_der(der),
            Form::Pkcs8 => RsaKeyPair::from_pkcs8(der),
        };
        Ok(SigningKey {
            kind: Kind::Rsa(Box::new(pair.map_err(|_| KeyError::Damaged)?)),
            bits,
        })
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.kind {
            Kind::Rsa(_) | Kind::ShortRsa(_) => Algorithm::RsaSha256,
            Kind::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// Length of the RSA modulus; 256 for Ed25519.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Signs the canonical header octets: with RSA directly, with Ed25519 their SHA-256 (RFC 8463).
    pub(crate) fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.kind {
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    octets,
                    &mut signature,
                )
                .map_err(|_| KeyError::Signing)?;
                Ok(signature)
            }
            Kind::ShortRsa(key) => {
                let signature = key
                    .try_sign_with_rng(&mut rsa::rand_core::OsRng, octets)
                    .map_err(|_| KeyError::Signing)?;
                Ok(signature.to_vec())
            }
            Kind::Ed25519(pair) => {
                let hash = crate::canon::sha256(octets);
                Ok(pair.sign(&hash).as_ref().to_vec())
            }
        }
    }

    /// The TXT record for `<selector>._domainkey.<domain>`: `v=DKIM1; k=rsa; p=…`.
    pub fn record(&self) -> String {
        let (kind, octets) = match &self.kind {
            Kind::Rsa(pair) => ("rsa", spki(pair)),
            Kind::ShortRsa(key) => {
                let private: &rsa::RsaPrivateKey = (**key).as_ref();
                let public = private.to_public_key().to_public_key_der();
                (
                    "rsa",
                    public.map_or_else(|_| Vec::new(), |der| der.as_bytes().to_vec()),
                )
            }
            Kind::Ed25519(pair) => ("ed25519", pair.public_key().as_ref().to_vec()),
        };
        format!("v=DKIM1; k={kind}; p={}", STANDARD.encode(octets))
    }
}

/// Whether a PKCS#8 key says that it is for something else than RSA or Ed25519.
fn is_other_kind(der: &[u8]) -> bool {
    const ED25519: rsa::pkcs8::ObjectIdentifier =
        rsa::pkcs8::ObjectIdentifier::new_unwrap("1.3.101.112");
    rsa::pkcs8::PrivateKeyInfo::try_from(der)
        .is_ok_and(|key| ![rsa::pkcs1::ALGORITHM_OID, ED25519].contains(&key.algorithm.oid))
}

fn spki(pair: &RsaKeyPair) -> Vec<u8> {
    let der = pair.public_key().as_der();
    der.map_or_else(
        |_| Vec::new(),
        |der: aws_lc_rs::encoding::PublicKeyX509Der<'_>| der.as_ref().to_vec(),
    )
}

enum Form {
    Pkcs1,
    Pkcs8,
}

/// Makes a new key: PKCS#8 in PEM form.
///
/// # Errors
/// The system gives no randomness.
pub fn generate(algorithm: Algorithm) -> Result<String, KeyError> {
    let der = match algorithm {
        Algorithm::RsaSha256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Signing)?;
            let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> =
                pair.as_der().map_err(|_| KeyError::Signing)?;
            der.as_ref().to_vec()
        }
        Algorithm::Ed25519Sha256 => {
            let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Signing)?;
            // The form without the public key: what OpenSSL writes and everybody reads.
            let der = pair.to_pkcs8v1().map_err(|_| KeyError::Signing)?;
            der.as_ref().to_vec()
        }
    };
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn openssl(arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    #[test]
    fn conf_81_conf_82_keys_of_openssl_are_read_in_all_forms() {
        let rsa = |bits: &str| openssl(&["genrsa", "-traditional", bits]);
        let key = SigningKey::from_pem(&rsa("2048")).unwrap();
        assert_eq!((key.algorithm(), key.bits()), (Algorithm::RsaSha256, 2048));
        let short = SigningKey::from_pem(&rsa("1024")).unwrap();
        assert_eq!(short.bits(), 1024);
        let pkcs8 = openssl(&[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:3072",
        ]);
        assert_eq!(SigningKey::from_pem(&pkcs8).unwrap().bits(), 3072);
        let ed25519 = openssl(&["genpkey", "-algorithm", "ED25519"]);
        let key = SigningKey::from_pem(&ed25519).unwrap();
        assert_eq!(key.algorithm(), Algorithm::Ed25519Sha256);
        let error = |pem: &[u8]| SigningKey::from_pem(pem).unwrap_err();
        assert_eq!(error(&rsa("512")), KeyError::Length(512));
        assert_eq!(error(&rsa("4104")), KeyError::Length(4104));
        assert_eq!(error(b"nonsense"), KeyError::NoPem);
        let curve = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"]);
        assert_eq!(error(&curve), KeyError::Unsupported);
        let curve = openssl(&["genpkey", "-algorithm", "X25519"]);
        assert_eq!(error(&curve), KeyError::Unsupported);
        let secret = openssl(&[
            "genpkey",
            "-algorithm",
            "ED25519",
            "-aes128",
            "-pass",
            "pass:secret",
        ]);
        assert_eq!(error(&secret), KeyError::Encrypted);
        let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
        assert_eq!(error(old), KeyError::Encrypted);
        let damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(error(damaged.as_bytes()), KeyError::Damaged);
    }

    #[test]
    fn conf_82_a_new_key_can_be_read_by_us_and_by_openssl_and_has_the_record_of_it() {
        let folder = tempfile::tempdir().unwrap();
        for algorithm in [Algorithm::RsaSha256, Algorithm::Ed25519Sha256] {
            let pem = generate(algorithm).unwrap();
            let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            let file = folder.path().join("key.pem");
            std::fs::write(&file, &pem).unwrap();
            let der = openssl(&[
                "pkey",
                "-in",
                file.to_str().unwrap(),
                "-pubout",
                "-outform",
                "DER",
            ]);
            let public = match algorithm {
                Algorithm::RsaSha256 => &der[..],
                // The key itself stands at the end of its envelope (RFC 8463 takes it bare).
                Algorithm::Ed25519Sha256 => &der[der.len() - 32..],
            };
            let kind = if algorithm == Algorithm::RsaSha256 {
                "rsa"
            } else {
                "ed25519"
            };
            let record = format!("v=DKIM1; k={kind}; p={}", STANDARD.encode(public));
            assert_eq!(key.record(), record);
        }
    }

    #[test]
    fn conf_90_a_key_is_not_printed() {
        let pem = generate(Algorithm::Ed25519Sha256).unwrap();
        let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(ed25519-sha256 256 bits)");
    }
}
