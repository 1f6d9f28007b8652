//! What a message is made of: its header as octet ranges, the address in From, what local programs
//! leave out, trace fields, return addresses and delivery status notifications.
//!
//! Nothing here decides about mail; `galerne-core` does. Nothing here changes an octet of a
//! message either: the scan gives ranges, the core says which of them are left out.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod addresses;
pub mod dsn;
pub mod from;
pub mod fuzz;
pub mod header;
pub mod local;
pub mod trace;
pub mod verp;
