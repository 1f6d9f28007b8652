//! What is remembered of remotes between messages: addresses that timed out on connect (ROUTE-35).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// For so long such an address is tried only when nothing else is left.
const AVOID: Duration = Duration::from_secs(15 * 60);
/// Most addresses remembered.
const MOST: usize = 10_000;

/// Addresses that timed out on connect.
#[derive(Default)]
pub struct TimedOut {
    since: Mutex<HashMap<SocketAddr, Instant>>,
}

impl TimedOut {
    /// The address timed out just now.
    pub fn remember(&self, address: SocketAddr) {
        let now = Instant::now();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.len() >= MOST {
            since.retain(|_, at| now.duration_since(*at) < AVOID);
        }
        if since.len() < MOST {
            since.insert(address, now);
        }
    }

    /// The address answered.
    pub fn forget(&self, address: SocketAddr) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if !since.is_empty() {
            since.remove(&address);
        }
    }

    /// Whether it timed out within the last 15 minutes.
    pub fn recently(&self, address: SocketAddr) -> bool {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        !since.is_empty() && since.get(&address).is_some_and(|at| at.elapsed() < AVOID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn route_35_a_time_out_is_remembered_for_15_minutes() {
        let memory = TimedOut::default();
        let address = "192.0.2.1:25".parse().unwrap();
        assert!(!memory.recently(address));
        memory.remember(address);
        tokio::time::advance(Duration::from_secs(899)).await;
        assert!(memory.recently(address));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!memory.recently(address));
        memory.remember(address);
        memory.forget(address);
        assert!(!memory.recently(address));
    }
}
