//! The open sessions: how many, from where, and which may give way (RELAY-5, T-19).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galerne_core::access::{self, Crowded};
use galerne_core::settings::RfRelay;
use tokio::sync::Notify;
use tokio::time::Instant;

/// All open sessions of this process.
pub struct Registry {
    epoch: Instant,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    sessions: HashMap<u64, Arc<Slot>>,
    /// Unauthenticated ones by address.
    unknown: HashMap<IpAddr, usize>,
}

/// What the registry knows of one session.
pub struct Slot {
    peer: IpAddr,
    authenticated: AtomicBool,
    /// Milliseconds since the registry's epoch, plus one; 0: busy (a delivery is under way).
    idle_since: AtomicU64,
    evict: Notify,
}

/// A place among the open sessions; freed when dropped.
pub struct Seat {
    registry: Arc<Registry>,
    id: u64,
    slot: Arc<Slot>,
}

impl Registry {
    /// Nobody is there yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Registry {
            epoch: Instant::now(),
            open: Mutex::new(Open::default()),
        })
    }

    /// Open sessions.
    pub fn len(&self) -> usize {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sessions
            .len()
    }

    /// Whether no session is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A seat for a session from `peer`. `known`: the address belongs to an account, so that it
    /// counts as authenticated.
    pub fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        known: bool,
        relay: &RfRelay,
    ) -> Result<Seat, Crowded> {
        let now = self.millis();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = if known {
            0
        } else {
            open.unknown.get(&peer).copied().unwrap_or(0)
        };
        match access::admit(open.sessions.len(), of_address, relay) {
            Err(Crowded::Server) if open.make_room(now) => {}
            verdict => verdict?,
        }
        let id = open.next;
        open.next += 1;
        let slot = Arc::new(Slot {
            peer,
            authenticated: AtomicBool::new(known),
            idle_since: AtomicU64::new(now + 1),
            evict: Notify::new(),
        });
        open.sessions.insert(id, slot.clone());
        if !known {
            *open.unknown.entry(peer).or_default() += 1;
        }
        Ok(Seat {
            registry: self.clone(),
            id,
            slot,
        })
    }

    fn millis(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }
}

impl Open {
    /// Sends away the unauthenticated session that has been idle longest, if long enough.
    fn make_room(&mut self, now: u64) -> bool {
        let idle = self
            .sessions
            .iter()
            .filter(|(_, slot)| !slot.authenticated.load(Ordering::Relaxed));
        let idle = idle.filter_map(|(id, slot)| match slot.idle_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some((since - 1, *id)),
        });
        let Some((since, id)) = idle.min() else {
            return false;
        };
        if !access::gives_way(false, Duration::from_millis(now.saturating_sub(since))) {
            return false;
        }
        if let Some(slot) = self.sessions.remove(&id) {
            self.forget(&slot);
            slot.evict.notify_one();
        }
        true
    }

    fn forget(&mut self, slot: &Slot) {
        if slot.authenticated.load(Ordering::Relaxed) {
            return;
        }
        if let Some(count) = self.unknown.get_mut(&slot.peer) {
            *count -= 1;
            if *count == 0 {
                self.unknown.remove(&slot.peer);
            }
        }
    }
}

impl Seat {
    /// The session proved who it is: it no longer gives way, nor counts for its address.
    pub fn authenticated(&self) {
        let mut open = self
            .registry
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if open.sessions.contains_key(&self.id) {
            open.forget(&self.slot);
        }
        self.slot.authenticated.store(true, Ordering::Relaxed);
    }

    /// Something came from the client: its idle time begins anew.
    pub fn active(&self, now: Instant) {
        let since = now.saturating_duration_since(self.registry.epoch);
        self.slot
            .idle_since
            .store(since.as_millis() as u64 + 1, Ordering::Relaxed);
    }

    /// A delivery is under way: the session does not give way meanwhile.
    pub fn busy(&self) {
        self.slot.idle_since.store(0, Ordering::Relaxed);
    }

    /// Resolves when the session must give way.
    pub async fn evicted(&self) {
        self.slot.evict.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self
            .registry
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = open.sessions.remove(&self.id) {
            open.forget(&slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn limits(threadnb: usize, maxperip: usize) -> RfRelay {
        RfRelay {
            threadnb,
            maxperip,
            listen: Vec::new(),
            maxsize: 0,
            maxrcpt: 0,
            barelf: Default::default(),
            received: None,
            keepdirective: false,
            blocktemp: false,
            permcode: false,
            chunking: true,
            proxyfrom: Vec::new(),
            dmarcaddr: Vec::new(),
            fbladdr: Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn relay_5_one_more_than_threadnb_is_refused() {
        let registry = Registry::new();
        let seats: Vec<_> = (0..3)
            .map(|_| registry.admit(A, false, &limits(3, 0)).unwrap())
            .collect();
        assert_eq!(
            registry.admit(B, false, &limits(3, 0)).err(),
            Some(Crowded::Server)
        );
        drop(seats);
        assert!(registry.admit(B, false, &limits(3, 0)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn relay_5_an_unknown_session_idle_for_more_than_10_s_gives_way() {
        let registry = Registry::new();
        let idle = registry.admit(A, false, &limits(1, 0)).unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(
            registry.admit(B, false, &limits(1, 0)).err(),
            Some(Crowded::Server)
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        let next = registry.admit(B, false, &limits(1, 0)).unwrap();
        idle.evicted().await;
        drop(idle);
        assert_eq!(registry.len(), 1);
        drop(next);
        assert!(registry.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn relay_5_authenticated_and_busy_sessions_do_not_give_way() {
        let registry = Registry::new();
        let known = registry.admit(A, false, &limits(2, 0)).unwrap();
        known.authenticated();
        let busy = registry.admit(A, false, &limits(2, 0)).unwrap();
        busy.busy();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(
            registry.admit(B, false, &limits(2, 0)).err(),
            Some(Crowded::Server)
        );
        busy.active(Instant::now());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(registry.admit(B, false, &limits(2, 0)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn relay_5_t_19_maxperip_counts_unknown_sessions_of_one_address() {
        let registry = Registry::new();
        let first = registry.admit(A, false, &limits(10, 2)).unwrap();
        let _second = registry.admit(A, false, &limits(10, 2)).unwrap();
        assert_eq!(
            registry.admit(A, false, &limits(10, 2)).err(),
            Some(Crowded::Address)
        );
        assert!(registry.admit(B, false, &limits(10, 2)).is_ok());
        assert!(
            registry.admit(A, true, &limits(10, 2)).is_ok(),
            "an address of an account is not limited"
        );
        first.authenticated();
        assert!(registry.admit(A, false, &limits(10, 2)).is_ok());
    }
}
