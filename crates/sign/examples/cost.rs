//! What signing costs: a 4 KiB message with Ed25519 and RSA-2048, and the bare signatures.
//!
//!     cargo run --release -p galerne-sign --example cost
//!     cargo run --release -p galerne-sign --example cost ed25519-sha256

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use galerne_sign::canon::sha256;
use galerne_sign::key::generate;
use galerne_sign::{Algorithm, BodyHasher, Signature, SigningKey, sign};

const ROUNDS: u32 = 2000;
const CALLS: u32 = 5;

fn main() {
    let header = b"Received: from a.example by b.example; Wed, 25 Nov 2026 05:12:46 +0000\r\nFrom: Shop <orders@example.com>\r\nTo: Anna <anna@example.org>\r\nSubject: Your order 4711\r\nDate: Wed, 25 Nov 2026 05:12:46 +0000\r\nMessage-ID: <4711@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";
    let body = "An ordinary line of text, as people write it to each other.\r\n".repeat(64);
    let hashed = measure(|| {
        let mut hasher = BodyHasher::default();
        hasher.update(body.as_bytes());
        black_box(hasher.finish());
    });
    let octets = measure(|| {
        black_box(sha256(body.as_bytes()));
    });
    println!("the hash of the body {hashed:.2} us, of its octets alone {octets:.2} us");
    let only = std::env::args().nth(1);
    for algorithm in [Algorithm::Ed25519Sha256, Algorithm::RsaSha256] {
        if only.as_ref().is_some_and(|only| only != algorithm.word()) {
            continue;
        }
        let pem = match generate(algorithm) {
            Ok(pem) => pem,
            Err(error) => return eprintln!("{error}"),
        };
        let key = match SigningKey::from_pem(pem.as_bytes()) {
            Ok(key) => key,
            Err(error) => return eprintln!("{error}"),
        };
        let signature = Signature {
            key: &key,
            domain: "example.com",
            selector: "s1",
            identity: "postmaster",
        };
        let whole = measure(|| {
            let mut hasher = BodyHasher::default();
            hasher.update(body.as_bytes());
            let _ = black_box(sign(header, &hasher.finish(), &[signature], 1_800_000_000));
        });
        let bare = match bare(algorithm, &pem) {
            Some(bare) => bare,
            None => return eprintln!("the key cannot be read"),
        };
        let word = algorithm.word();
        println!(
            "{word:15} message {whole:7.2} us, signature {bare:7.2} us, besides {:5.2} us",
            whole - bare
        );
    }
}

/// What the library takes for a signature over 32 octets.
fn bare(algorithm: Algorithm, pem: &str) -> Option<f64> {
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).ok()?;
    match algorithm {
        Algorithm::Ed25519Sha256 => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()?;
            Some(measure(|| {
                let _ = black_box(pair.sign(&[7; 32]));
            }))
        }
        Algorithm::RsaSha256 => {
            let pair = RsaKeyPair::from_pkcs8(&der).ok()?;
            let mut made = vec![0; pair.public_modulus_len()];
            Some(measure(|| {
                let random = SystemRandom::new();
                let _ = black_box(pair.sign(&RSA_PKCS1_SHA256, &random, &[7; 32], &mut made));
            }))
        }
    }
}

/// Microseconds of one call: the least of many short rounds, so that other work of the machine
/// does not count.
fn measure(mut act: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..CALLS {
            act();
        }
        least = least.min(began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
    }
    least
}
