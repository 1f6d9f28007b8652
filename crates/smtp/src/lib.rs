//! The SMTP protocol without IO: bytes in, events out.
//!
//! Nothing here opens a socket, reads a clock or knows what a message is for. The tokio loops in
//! `galerne-inbound` and `galerne-outbound` feed these objects and perform what they ask.
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

pub mod address;
pub mod bdat;
pub mod client;
pub mod command;
pub mod data;
pub mod ehlo;
#[doc(hidden)]
pub mod fuzz;
pub mod fuzz_client;
pub mod proxy;
pub mod reply;
pub mod sasl;
pub mod sasl_client;
pub mod server;
pub mod stage;
pub mod xtext;

pub use address::{AddressError, ForwardPath, Mailbox, ReversePath};
pub use command::{Notify, Ret};
pub use reply::{EnhancedCode, Reply};
pub use stage::Stage;
