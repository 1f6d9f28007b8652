//! Departures: connect, TLS, session pool, in-session delivery, settle. The one exit of the house.
//!
//! What a reply means, who is tried next and what the client is told is decided in
//! `galerne-core`; here it is done.
#![forbid(unsafe_code)]

pub mod attempt;
mod bundle;
mod cancel;
mod connection;
mod content;
pub mod delivery;
pub mod dial;
mod memory;
mod notify;
pub mod pace;
pub mod pool;
mod prepare;
mod settle;
mod slots;
pub mod tls;

pub use cancel::{Cancel, Cancelled};
pub use delivery::{Delivery, Edge, World};
pub use dial::{BoxStream, Dial, Stream, TcpDial};
pub use pool::Pool;
pub use tls::ClientTls;
