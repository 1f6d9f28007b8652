//! State that ends with the process: tests, the demo.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use galerne_core::ports::{FlowEntry, FlowKey, Others, StateStore};
use galerne_core::routes::RouteRow;

/// Routes and flow states in memory.
#[derive(Default)]
pub struct MemoryState(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    routes: Vec<RouteRow>,
    /// The highest id ever given.
    last: u64,
    flow: BTreeMap<FlowKey, Vec<u8>>,
}

impl MemoryState {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryState {
    fn routes(&self) -> io::Result<Vec<RouteRow>> {
        Ok(self.inner().routes.clone())
    }

    fn add_routes(&self, rows: &[RouteRow], others: Others) -> io::Result<Vec<u64>> {
        let mut inner = self.inner();
        if others == Others::Remove {
            inner.routes.clear();
        }
        let mut ids = Vec::with_capacity(rows.len());
        for row in rows {
            inner.last += 1;
            let id = inner.last;
            inner.routes.push(RouteRow { id, ..row.clone() });
            ids.push(id);
        }
        Ok(ids)
    }

    fn remove_route(&self, id: u64) -> io::Result<bool> {
        let mut inner = self.inner();
        let before = inner.routes.len();
        inner.routes.retain(|row| row.id != id);
        Ok(inner.routes.len() < before)
    }

    fn put_flow(&self, batch: &[FlowEntry]) -> io::Result<()> {
        let mut inner = self.inner();
        for FlowEntry { key, value } in batch {
            match value {
                Some(value) => inner.flow.insert(key.clone(), value.clone()),
                None => inner.flow.remove(key),
            };
        }
        Ok(())
    }

    fn load_flow(&self) -> io::Result<Vec<(FlowKey, Vec<u8>)>> {
        let inner = self.inner();
        Ok(inner
            .flow
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }
}
