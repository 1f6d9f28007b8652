//! What the desk is asked and what it tells.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::flow::params::Params;
use crate::flow::state::Change;
use crate::flow::{Control, Moment, Set};

/// A switch of one state, for the log and the events (FLOW-41).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    pub group: String,
    pub control: Control,
    /// The IP or the sender domain.
    pub key: String,
    pub change: Change,
}

/// What is stored of one state (CONF-36).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub group: String,
    /// `ipflow` or `sdflow`.
    pub control: String,
    pub key: String,
    /// JSON; empty: it was forgotten.
    pub state: String,
}

/// A state as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub group: String,
    pub control: Control,
    pub key: String,
    pub set: Set,
    pub entered: Moment,
    pub sleeps_until: Moment,
    pub is_locked: bool,
    /// Fill and size of the shorter window; size 0: none.
    pub low: (u64, u64),
    /// Fill and size of the longer window; size 0: none.
    pub high: (u64, u64),
    /// Sessions open now.
    pub sessions: u32,
    pub params: Params,
}

/// A switch on demand.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    pub group: &'a str,
    pub key: Key<'a>,
    pub set: Set,
    pub sleep: bool,
    pub lock: bool,
}

/// Whose state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Ip(IpAddr),
    /// A sender domain in lower case.
    Sender(&'a str),
}

impl<'a> Key<'a> {
    /// Which control it is under.
    pub fn control(self) -> Control {
        match self {
            Key::Ip(_) => Control::Ip,
            Key::Sender(_) => Control::Sender,
        }
    }

    /// As it is written in sections and shown.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            Key::Ip(ip) => Cow::Owned(ip.to_string()),
            Key::Sender(domain) => Cow::Borrowed(domain),
        }
    }
}
