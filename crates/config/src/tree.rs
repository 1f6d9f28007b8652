//! The directories and the sample files of a root.

use std::io;
use std::path::{Path, PathBuf};

use galerne_core::settings::Settings;

/// What became of a sample file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Written,
    /// It was there already and stays as it is.
    Kept,
}

/// Creates the directories that are missing and returns them (CONF-6, CONF-7, CONF-33, CONF-38).
pub fn create_directories(_root: &Path, _settings: &Settings) -> io::Result<Vec<PathBuf>> {
    Ok(Vec::new())
}

/// Writes the sample tree (CONF-5), never over an existing file. Paths are relative to the root.
pub fn write_samples(_root: &Path) -> io::Result<Vec<(PathBuf, Written)>> {
    Ok(Vec::new())
}
