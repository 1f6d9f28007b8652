//! DKIM signatures (RFC 6376, RFC 8463) and ARC sets (RFC 8617), without IO.
//!
//! What is signed is given as octets: the header whole, the body in pieces, in the form in which
//! the message leaves. Time is an argument, answers of name servers are data. The only secrets are
//! the private keys; they are never printed.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod arc;
pub mod canon;
pub mod dkim;
mod field;
pub mod fuzz;
pub mod key;
mod tags;
mod verify;

pub use canon::BodyHasher;
pub use dkim::{Signature, sign};
pub use field::split;
pub use key::{Algorithm, KeyError, SigningKey};
pub use verify::{Failed, Txt, dkim as verify};
