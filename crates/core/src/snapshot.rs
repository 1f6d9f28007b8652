//! One state of the configuration with its indices: what a session and a transaction keep while
//! the settings change under them (CONF-12).

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use crate::access::Accounts;
use crate::group::GroupIndex;
use crate::mx::Own;
use crate::settings::Settings;

/// Settings and what is precomputed from them. Never changed; replaced whole.
pub struct Snapshot {
    pub settings: Arc<Settings>,
    pub accounts: Accounts,
    pub groups: GroupIndex,
    /// Where our own listeners answer, for loop detection (FLOW-60).
    listeners: Vec<SocketAddr>,
    /// The addresses of `[IP]`.
    outbounds: Vec<IpAddr>,
}

impl Snapshot {
    /// Builds the indices of `settings`.
    pub fn new(settings: Arc<Settings>) -> Arc<Self> {
        let accounts = Accounts::new(&settings);
        let groups = GroupIndex::new(&settings.groups, &settings.catch_all);
        let listeners = settings
            .rfrelay
            .listen
            .iter()
            .map(|listen| listen.address)
            .collect();
        let outbounds = settings
            .outbounds
            .iter()
            .map(|outbound| outbound.address)
            .collect();
        Arc::new(Snapshot {
            settings,
            accounts,
            groups,
            listeners,
            outbounds,
        })
    }

    /// What this server is, as far as loops are concerned.
    pub fn own(&self) -> Own<'_> {
        Own {
            listeners: &self.listeners,
            outbounds: &self.outbounds,
            port: self.settings.rfmta.mxport,
        }
    }
}

impl Deref for Snapshot {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}
