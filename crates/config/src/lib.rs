//! The configuration tree: INI files under one root, read into the typed settings of
//! `galerne-core`, with every fault reported by file, line and key.
//!
//! Nothing here opens a socket. The registry knows every key; the reference manual is made from it.
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

pub mod csv;
pub mod document;
pub mod finding;
pub mod fuzz;
pub mod load;
pub mod options;
pub mod reference;
pub mod registry;
pub mod rewrite;
mod sheet;
pub mod tree;
pub mod values;
pub mod watch;

pub use finding::{Finding, Level};
pub use load::{KeyFacts, LoadOptions, Loaded, load};
pub use options::{OPTIONS_FILE, parse_options};
pub use tree::{Written, create_directories, write_samples};
pub use watch::Fingerprint;
