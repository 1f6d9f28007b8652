//! A world for tests and the demo: name servers, destinations, clients and a network in memory.
//!
//! Everything here is small, bounded and truthful: the name server and the sink speak real DNS and
//! real SMTP on real sockets (or in memory), and remember what they saw so that a test can ask.
#![forbid(unsafe_code)]

pub mod client;
pub mod nameserver;
pub mod net;
pub mod sink;
pub mod tls;
