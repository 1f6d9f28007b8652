//! The whole program under test: in memory with paused time, and as a process.

mod corpus;
mod demo;
mod front_accounts;
mod front_codes;
mod front_crowd;
mod front_dialogues;
mod front_listener;
mod front_load;
mod front_session;
mod hostile;
mod measure;
mod postfix;
mod process;
mod process_accounts;
mod process_commands;
mod process_dns_help;
mod process_identity;
mod process_peers;
mod process_relay;
mod process_reload;
mod process_run;
mod process_stop;
mod relay_basics;
mod relay_detours;
mod relay_dialogues;
mod relay_hostile;
mod relay_life;
mod relay_names;
mod relay_outcomes;
mod relay_routes;
mod relay_several;
mod relay_time;
mod relay_tls;
#[path = "../../../smtp/tests/it/script.rs"]
mod script;
mod world;
