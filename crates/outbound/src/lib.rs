//! Departures: connect, TLS, session pool, in-session delivery, settle. The one exit of the house.
//!
//! What a reply means, who is tried next and what the client is told is decided in
//! `galerne-core`; here it is done.
#![forbid(unsafe_code)]

mod admit;
pub mod attempt;
mod bundle;
mod cancel;
mod connection;
mod content;
mod dane;
pub mod delivery;
mod demand;
pub mod dial;
mod memory;
mod notify;
pub mod outlook;
pub mod pace;
pub mod pool;
mod prepare;
pub mod queue;
mod seal;
mod settle;
mod slots;
pub mod sts;
pub mod tls;
pub mod tls_counts;

pub use cancel::{Cancel, Cancelled};
pub use delivery::{Delivery, Edge, World};
pub use dial::{BoxStream, Dial, Stream, TcpDial};
pub use pool::Pool;
pub use queue::{Post, Queue, QueueWorld};
pub use tls::ClientTls;
pub use tls_counts::TlsCounts;
