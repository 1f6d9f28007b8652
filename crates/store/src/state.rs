//! What the server knows beyond its configuration: the route table and the states of flow control
//! (ROUTE-12, CONF-36). One trait, two ways to keep it, and one suite of tests over both.

mod memory;
mod sqlite;

pub use memory::MemoryState;
pub use sqlite::SqliteState;

#[cfg(test)]
mod conformance;
