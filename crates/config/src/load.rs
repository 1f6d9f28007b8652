//! Reads the whole tree into settings.

use std::net::IpAddr;
use std::path::Path;

use galerne_core::settings::Settings;

use crate::finding::Finding;

/// How to read the tree.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Do not ask `on_host` about the addresses of `[IP]` (`--no-bind-check`, CONF-25).
    pub no_bind_check: bool,
    /// Any error leaves no settings: for a reload (CONF-11).
    pub strict: bool,
    /// Whether an address belongs to this host.
    pub on_host: &'a dyn Fn(IpAddr) -> bool,
}

/// A section of flow parameters: checked and kept (FLOW-12, FLOW-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSection {
    pub file: String,
    pub line: usize,
    /// As written, lower case: `ipflow#warmup@192.0.2.11`.
    pub section: String,
    /// Keys (lower case) and values.
    pub keys: Vec<(String, String)>,
}

/// The result of reading.
#[derive(Debug)]
pub struct Loaded {
    /// `None`: an error in the main file, or any error with `strict`.
    pub settings: Option<Settings>,
    /// Sorted by file and line.
    pub findings: Vec<Finding>,
    /// What was found, for the start (CONF-8): IPs, listeners, users, groups, hosts, keys.
    pub found: Vec<String>,
    /// Flow parameters of the groups.
    pub flow: Vec<FlowSection>,
}

/// Reads everything under `root`.
pub fn load(_root: &Path, _options: LoadOptions<'_>) -> Loaded {
    Loaded {
        settings: None,
        findings: Vec::new(),
        found: Vec::new(),
        flow: Vec::new(),
    }
}
