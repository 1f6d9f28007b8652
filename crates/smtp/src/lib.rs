//! The SMTP protocol without IO: bytes in, events out.
//!
//! Nothing here opens a socket, reads a clock or knows what a message is for. The tokio loops in
//! `galerne-inbound` and `galerne-outbound` feed these objects and perform what they ask.
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod address;
pub mod bdat;
pub mod client;
pub mod data;
pub mod ehlo;
pub mod reply;
pub mod stage;

pub use address::{Mailbox, ReversePath};
pub use reply::{EnhancedCode, Reply};
pub use stage::Stage;
