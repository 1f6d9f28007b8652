//! Integration tests of the protocol crate: dialogues, hostile input, fuzz functions.

mod client;
mod dialogue;
mod mutate;
mod script;
mod server;
