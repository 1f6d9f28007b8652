//! Every decision of Galerne, as plain functions and state machines.
//!
//! Nothing here opens a socket, a file or a clock: `now` and randomness are arguments. Each
//! decision carries the rule that made it, so that it can explain itself.
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

pub mod accept;
pub mod access;
pub mod answer;
pub mod bundle;
pub mod chase;
pub mod content;
pub mod directive;
pub mod doctor;
pub mod dsn;
pub mod explain;
pub mod flow;
pub mod fuzz;
pub mod glob;
pub mod group;
pub mod ids;
pub mod keys;
pub mod lists;
pub mod logins;
pub mod model;
pub mod mx;
pub mod notification;
pub mod outbounds;
pub mod plan;
pub mod ports;
pub mod qualify;
pub mod queue;
pub mod quota;
pub mod refusal;
pub mod relay_service;
pub mod routes;
pub mod settings;
pub mod signing;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls_policy;
pub mod zone_records;
