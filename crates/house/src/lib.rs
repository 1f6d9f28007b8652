//! What keeps the house in order: the arrows between crates, the size of files, and the table
//! that joins each requirement to the tests that prove it.
//!
//! It builds nothing of the product and is used by nothing of it.
#![forbid(unsafe_code)]

pub mod arrows;
pub mod requirements;
pub mod tree;

use std::path::PathBuf;

/// The top folder of the project.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}
