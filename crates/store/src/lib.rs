//! What is kept on disk: suppression lists, the files that groups learn, MTA-STS policies, the
//! state of the server (routes and flow control), and the durable queue.
//!
//! Lists and files of groups are plain CSV that an editor opens (CONF-3); what is asked often is
//! held in memory.
//! Nothing here decides about mail: how addresses compare is `galerne_core::lists`.
#![forbid(unsafe_code)]

pub mod book;
pub mod lists;
pub mod policies;
pub mod queue;
pub mod state;
mod table;
mod writer;

pub use book::GroupFiles;
pub use lists::ListStore;
pub use policies::PolicyStore;
pub use queue::{MemoryQueue, QueueReader, SqliteQueue};
pub use state::{MemoryState, SqliteState};

/// A moment as files write it: `YYMMDDhhmmss`, local time (CONF-20).
fn stamp(moment: jiff::Timestamp) -> String {
    moment
        .to_zoned(jiff::tz::TimeZone::system())
        .strftime("%y%m%d%H%M%S")
        .to_string()
}

/// The 64 bits kept of a text. The key is drawn when the state is made, so nobody outside can
/// aim at a collision; a chance one among ten million entries has odds of one in 10^12.
fn fingerprint(state: &std::collections::hash_map::RandomState, text: &str) -> u64 {
    use std::hash::BuildHasher;
    state.hash_one(text)
}
