//! The files of the project, without what is built or belongs to git.

use std::io;
use std::path::{Path, PathBuf};

/// All files below `folder`, sorted. Folders that begin with a dot are left out, except `.ci`.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(folder, &mut found)?;
    found.sort();
    Ok(found)
}

/// The Rust sources of all crates.
pub fn sources(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = files(&root.join("crates"))?;
    found.retain(|path| path.extension().is_some_and(|e| e == "rs"));
    Ok(found)
}

/// A path as people write it: relative to `root`.
pub fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if !entry.file_type()?.is_dir() {
            found.push(path);
        } else if name == ".ci" || !(name.starts_with('.') || name == "target") {
            walk(&path, found)?;
        }
    }
    Ok(())
}
