//! What is remembered of remotes between messages, for a while: addresses that timed out on
//! connect (ROUTE-35), addresses at which TLS is broken (RELAY-55, T-14).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// For so long an address that timed out is tried only when nothing else is left.
const AVOID: Duration = Duration::from_secs(15 * 60);
/// For so long mail that may go in clear goes so at once where TLS has failed.
const BROKEN: Duration = Duration::from_secs(10 * 60);
/// Most addresses remembered.
const MOST: usize = 10_000;

/// Addresses of which something is remembered for a time.
pub struct Addresses {
    since: Mutex<HashMap<SocketAddr, Instant>>,
    time: Duration,
}

impl Addresses {
    /// Those that timed out on connect.
    pub fn timed_out() -> Self {
        Addresses::kept(AVOID)
    }

    /// Those at which a handshake failed.
    pub fn broken_tls() -> Self {
        Addresses::kept(BROKEN)
    }

    fn kept(time: Duration) -> Self {
        Addresses {
            since: Mutex::default(),
            time,
        }
    }

    /// It happened just now.
    pub fn remember(&self, address: SocketAddr) {
        let now = Instant::now();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.len() >= MOST {
            since.retain(|_, at| now.duration_since(*at) < self.time);
        }
        if since.len() < MOST {
            since.insert(address, now);
        }
    }

    /// It is not so any more.
    pub fn forget(&self, address: SocketAddr) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if !since.is_empty() {
            since.remove(&address);
        }
    }

    /// Whether it happened within the time.
    pub fn recently(&self, address: SocketAddr) -> bool {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        !since.is_empty()
            && since
                .get(&address)
                .is_some_and(|at| at.elapsed() < self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn route_35_t_14_what_is_remembered_expires() {
        for (memory, seconds) in [
            (Addresses::timed_out(), 900),
            (Addresses::broken_tls(), 600),
        ] {
            let address = "192.0.2.1:25".parse().unwrap();
            assert!(!memory.recently(address));
            memory.remember(address);
            tokio::time::advance(Duration::from_secs(seconds - 1)).await;
            assert!(memory.recently(address));
            tokio::time::advance(Duration::from_secs(2)).await;
            assert!(!memory.recently(address));
            memory.remember(address);
            memory.forget(address);
            assert!(!memory.recently(address));
        }
    }
}
