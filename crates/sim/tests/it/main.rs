//! The simulated world against itself, and the resolver for real mail against a real name server.

mod client;
mod dns;
mod net;
mod sink;
