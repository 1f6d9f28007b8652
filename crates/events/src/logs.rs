//! The log files.
use galerne_core::model::{Answer, Submission};
use galerne_core::ports::{EventSink, Module, Refused, UnknownError};
use std::io;
use std::path::Path;

/// How the logs are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// `[rafale]logage`: days that rotated files are kept; 0: for ever.
    pub age_days: u32,
}

/// Writes `logs/` and the error logs of groups.
#[derive(Debug)]
pub struct Logs {}

impl Logs {
    /// Opens the logs under `root` (the folders `logs/` and `domains/` of it).
    pub fn open(_root: &Path, _options: Options) -> io::Result<Logs> {
        todo!()
    }
    /// Waits until everything said so far is in the files.
    pub fn flush(&self) {
        todo!()
    }
    /// Flushes and ends the writer; what is said later is dropped. Also done on drop.
    pub fn stop(&self) {
        todo!()
    }
}

impl EventSink for Logs {
    fn transaction(&self, _submission: &Submission, _answer: &Answer) {
        todo!()
    }
    fn unknown_error(&self, _error: UnknownError) {
        todo!()
    }
    fn refused(&self, _refused: Refused) {
        todo!()
    }
    fn note(&self, _module: Module, _text: &str) {
        todo!()
    }
}
