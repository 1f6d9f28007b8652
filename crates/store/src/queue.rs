//! The durable queue: what was taken over, until it is decided (QUEUE-2 to QUEUE-10, QUEUE-26).
//! One trait, two ways to keep it, and one suite of tests over both.
//!
//! `SqliteQueue` is a folder, `system/queue`: `queue.db` has the messages, their deliveries and
//! bodies up to 16 KiB (`qmmemo`); larger bodies stand in append-only files `seg-…`. A message exists when its
//! rows are committed; its body was synced before. docs/durability.md says what is promised and how
//! it is tried.

mod bodies;
mod failpoint;
mod filter;
mod looking;
mod memory;
mod reading;
mod rebuild;
mod repair;
mod segments;
mod sqlite;
mod tables;
mod waiting;
mod writer;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use looking::QueueReader;
pub use memory::MemoryQueue;
pub use rebuild::{Rebuilt, rebuild, repair};
pub use sqlite::{Options, SqliteQueue};

use galerne_core::queue::{DeliveryNo, MessageNo, StoreFault};

/// Recipients of one message at most: the rest of a key is the number of the message.
const RECIPIENT_BITS: u32 = 20;

/// The key of a delivery in the tables: ascending as deliveries are.
fn key(delivery: DeliveryNo) -> i64 {
    let recipient = u64::from(delivery.recipient) & ((1 << RECIPIENT_BITS) - 1);
    (delivery.message.0 << RECIPIENT_BITS | recipient).cast_signed()
}

fn delivery(key: i64) -> DeliveryNo {
    let key = key.cast_unsigned();
    DeliveryNo {
        message: MessageNo(key >> RECIPIENT_BITS),
        recipient: (key & ((1 << RECIPIENT_BITS) - 1)) as u32,
    }
}

/// Milliseconds as the tables hold them; they end in the year 292 million.
fn to_row(moment: u64) -> i64 {
    i64::try_from(moment).unwrap_or(i64::MAX)
}

/// What went wrong with a file.
fn io_fault(what: &str, error: &std::io::Error) -> StoreFault {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => StoreFault::Full,
        _ => StoreFault::Broken(format!("{what}: {error}")),
    }
}

/// What went wrong with the database.
fn sql_fault(error: &rusqlite::Error) -> StoreFault {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreFault::Full,
        _ => StoreFault::Broken(format!("queue.db: {error}")),
    }
}
