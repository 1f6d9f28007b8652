//! The whole program under test: in memory with paused time, and as a process.

mod demo;
mod postfix;
mod process;
mod process_commands;
mod process_identity;
mod process_peers;
mod process_relay;
mod process_reload;
mod process_run;
mod process_stop;
mod relay_basics;
mod world;
mod corpus;
mod front_codes;
mod front_crowd;
mod front_dialogues;
mod front_session;
mod hostile;
#[path = "../../../smtp/tests/it/script.rs"]
mod script;
