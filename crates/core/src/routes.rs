//! The route table: rows that an operator states, and which of them a message takes (ROUTE-5 to
//! ROUTE-36). Pure; where rows are kept is for the store, when they are asked for `plan`.

mod cycle;
mod fields;
mod table;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

pub use fields::{Fields, MASK, NONE_CONFIGURED, Passwords};
pub use table::{Chosen, Draw, MX_TIER, RouteTable, Target, Wanted, tier_words};

use crate::settings::Secret;

/// One row of the table, checked and in its stored form (ROUTE-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    /// From 1, never used again; 0: not stored yet.
    pub id: u64,
    /// Recipient domain in lower case; `None`: any (`*`).
    pub destination: Option<String>,
    /// Where to deliver: a host name in lower case, or an address.
    pub remote_host: String,
    pub remote_port: u16,
    /// The lowest is preferred.
    pub priority: u32,
    pub local_ips: LocalIps,
    /// A login, or the domain of logins; `None`: anybody.
    pub user: Option<String>,
    /// An address or a domain in lower case.
    pub mail_from: Option<String>,
    /// Login and password at the remote.
    pub auth: Option<(String, Secret)>,
}

/// The addresses that a row sends from (ROUTE-8).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum LocalIps {
    /// Those of the user.
    #[default]
    Default,
    /// `a|b`: in rotation; also a single one.
    Rotation(Vec<IpAddr>),
    /// `a&b`: the first, the next only if connecting from it fails.
    Failover(Vec<IpAddr>),
}

impl LocalIps {
    /// The addresses named.
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            LocalIps::Default => &[],
            LocalIps::Rotation(list) | LocalIps::Failover(list) => list,
        }
    }
}

impl RouteRow {
    /// ROUTE-8: each local address must be one of `[IP]`.
    ///
    /// # Errors
    /// The address that is not.
    pub fn check_local_ips(&self, configured: impl Fn(IpAddr) -> bool) -> Result<(), String> {
        let missing = self
            .local_ips
            .addresses()
            .iter()
            .find(|ip| !configured(**ip));
        match missing {
            None => Ok(()),
            Some(ip) => Err(format!("local IP {ip} is not listed in [IP]")),
        }
    }
}

/// The table in force; a message keeps the one with which it began (ROUTE-22).
#[derive(Default)]
pub struct Live(RwLock<Arc<RouteTable>>);

impl Live {
    /// The table for the next message.
    pub fn now(&self) -> Arc<RouteTable> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.clone()
    }

    /// Puts another table in force.
    pub fn replace(&self, table: RouteTable) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(table);
    }
}

#[cfg(test)]
pub(crate) mod tests;
