//! The program: wiring, command line, demo, reload, stop. No decision about mail is made here.
#![forbid(unsafe_code)]

pub mod cli;
mod commands;
mod control;
mod flow;
mod further;
pub mod house;
pub mod keys;
mod maildrop;
mod out;
pub mod privileges;
mod queue;
mod routes;
mod run;
pub mod sockets;

pub use cli::main;
