//! Suppression lists.
use galerne_core::ports::{ListEntry, Lists};
use std::io;
use std::path::Path;

/// All lists of `lists/`.
#[derive(Debug)]
pub struct ListStore {}

impl ListStore {
    /// Opens the folder, making it if needed, and reads every list.
    pub fn open(_dir: &Path) -> io::Result<ListStore> {
        todo!()
    }
    /// Makes an empty list if it does not exist.
    pub fn ensure(&self, _name: &str) -> io::Result<()> {
        todo!()
    }
    /// Reads all files again (CONF-61).
    pub fn reindex(&self) -> io::Result<()> {
        todo!()
    }
    /// Waits until everything added so far has been written, or has failed.
    pub fn flush(&self) {
        todo!()
    }
}

impl Lists for ListStore {
    fn listed_in(&self, _address: &str, _names: &[String]) -> Option<String> {
        todo!()
    }
    fn add(&self, _list: &str, _entry: ListEntry) {
        todo!()
    }
}
