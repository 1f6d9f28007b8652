//! What is kept on disk: suppression lists and the files that groups learn.
pub mod book;
pub mod lists;

pub use book::GroupFiles;
pub use lists::ListStore;
