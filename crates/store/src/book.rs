//! The alias and MX files of groups.
use galerne_core::ports::GroupBook;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// `domains/@*_alias.csv` and `domains/@*_mx.csv`.
#[derive(Debug)]
pub struct GroupFiles {}

impl GroupFiles {
    /// Opens the folder `domains/` and reads what is known.
    pub fn open(_dir: &Path) -> io::Result<GroupFiles> {
        todo!()
    }
    /// Reads all files again.
    pub fn reread(&self) -> io::Result<()> {
        todo!()
    }
    /// Waits until everything recorded so far has been written, or has failed.
    pub fn flush(&self) {
        todo!()
    }
}

impl GroupBook for GroupFiles {
    fn alias(&self, _group: &str, _domain: &str) {
        todo!()
    }
    fn mx(&self, _group: &str, _host: &str, _address: IpAddr) {
        todo!()
    }
}
