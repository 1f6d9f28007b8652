//! The route table of a root: kept in the state store, in force in a running server (ROUTE-12,
//! ROUTE-22). Commands change it through the server where one runs, else in the store.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use galerne_core::ports::{Others, StateStore};
use galerne_core::routes::{Fields, Live, RouteRow, RouteTable};
use galerne_core::settings::Settings;
use galerne_store::SqliteState;
use serde::{Deserialize, Serialize};

/// Where the state is kept, below the root.
pub const STATE: &str = "system/state.db";

/// A change of the table.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// All or none of these; with `replace` they take the place of all that are there.
    Add {
        rows: Vec<Fields>,
        replace: bool,
    },
    Remove {
        id: u64,
    },
}

impl Change {
    /// Changes nothing; a server reads the table again.
    pub fn nothing() -> Change {
        let (rows, replace) = (Vec::new(), false);
        Change::Add { rows, replace }
    }
}

/// Makes a change and gives the ids that were added or removed.
///
/// # Errors
/// What is wrong with the change, or why the store does not take it.
pub fn apply(
    store: &dyn StateStore,
    settings: &Settings,
    change: Change,
) -> Result<Vec<u64>, String> {
    let failed = |error: io::Error| format!("{STATE}: {error}");
    match change {
        Change::Remove { id } => match store.remove_route(id).map_err(failed)? {
            true => Ok(vec![id]),
            false => Err(format!("there is no route {id}")),
        },
        Change::Add { rows, replace } => {
            let row = |fields: Fields| {
                let row = fields.check()?;
                row.check_local_ips(is_configured(settings))?;
                Ok::<RouteRow, String>(row)
            };
            let rows = rows.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
            let others = match replace {
                true => Others::Remove,
                false => Others::Keep,
            };
            store.add_routes(&rows, others).map_err(failed)
        }
    }
}

/// Whether an address is one of `[IP]`.
fn is_configured(settings: &Settings) -> impl Fn(IpAddr) -> bool {
    |ip| settings.outbounds.iter().any(|o| o.address == ip)
}

/// Opens the state of a root.
///
/// # Errors
/// It cannot be opened, in words.
pub fn open(root: &Path) -> Result<SqliteState, String> {
    SqliteState::open(&root.join(STATE)).map_err(|error| format!("{STATE}: {error}"))
}

/// The table of a running server.
pub struct Routes {
    store: Arc<dyn StateStore>,
    live: Arc<Live>,
    /// Store and table in force change together.
    changing: Mutex<()>,
}

impl Routes {
    /// The rows of the store, in force under these settings.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn new(store: Arc<dyn StateStore>, settings: &Settings) -> Result<Self, String> {
        let routes = Routes {
            store,
            live: Arc::default(),
            changing: Mutex::default(),
        };
        routes.renew(settings)?;
        Ok(routes)
    }

    /// What deliveries ask.
    pub fn live(&self) -> Arc<Live> {
        self.live.clone()
    }

    /// Puts in force what the store has. Waits for the disk.
    ///
    /// # Errors
    /// The rows cannot be read; the old ones stay.
    pub fn renew(&self, settings: &Settings) -> Result<(), String> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.put_in_force(settings)
    }

    /// Makes a change; it holds from the next message on. Waits for the disk.
    ///
    /// # Errors
    /// As `apply`.
    pub fn change(&self, settings: &Settings, change: Change) -> Result<Vec<u64>, String> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = apply(&*self.store, settings, change)?;
        self.put_in_force(settings)?;
        Ok(ids)
    }

    fn put_in_force(&self, settings: &Settings) -> Result<(), String> {
        let rows = self.store.routes().map_err(|e| format!("{STATE}: {e}"))?;
        for row in &rows {
            if let Err(why) = row.check_local_ips(is_configured(settings)) {
                let id = row.id;
                tracing::warn!("route {id}: {why} any more; mail that needs it is refused (9.1.5)");
            }
        }
        self.live.replace(RouteTable::new(rows, settings));
        Ok(())
    }
}
