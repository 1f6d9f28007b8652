//! Idle sessions, kept for the next message to the same place (`[rfmta]idle`, RELAY-42).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::{Connection, Key};
use crate::pace::Wish;

/// Idle sessions kept at most; beyond, a session ends after its message.
const MOST: usize = 4096;
/// How long a remote may take for QUIT.
const QUIT_TIME: Duration = Duration::from_secs(2);

/// The idle sessions of this process.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// By the two ends, the most recently used last.
    sessions: HashMap<(IpAddr, SocketAddr), Vec<Kept>>,
    count: usize,
}

type Kept = (Instant, Box<Connection>);

fn ends(key: &Key) -> (IpAddr, SocketAddr) {
    (key.outbound, key.remote)
}

impl Pool {
    /// The most recently used idle session of that kind that is good for the wish.
    pub fn take(&self, key: &Key, wish: Option<&Wish>) -> Option<Box<Connection>> {
        self.take_if(key, |connection| match (wish, &connection.mark) {
            (Some(wish), Some(mark)) => mark.fits(wish),
            // Limits came or went with a reload: it is taken, and ended.
            _ => true,
        })
    }

    /// The most recently used idle session of that kind that carried mail of the same group to
    /// another domain, and may carry that of the wish once it counts as a session of its domain:
    /// one that has carried fewer than `chain` messages (0: any number).
    pub fn take_over(&self, key: &Key, wish: &Wish, chain: u64) -> Option<Box<Connection>> {
        self.take_if(key, |connection| {
            let mark = connection.mark.as_ref();
            mark.is_some_and(|mark| mark.may_be_taken_over(&wish.group, chain))
        })
    }

    fn take_if(&self, key: &Key, is_good: impl Fn(&Connection) -> bool) -> Option<Box<Connection>> {
        let mut connection = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let list = idle.sessions.get_mut(&ends(key))?;
            let fits = |(_, connection): &Kept| is_good(connection) && connection.serves(key);
            let place = list.iter().rposition(fits)?;
            let (_, connection) = list.remove(place);
            idle.count -= 1;
            connection
        };
        if let Some(mark) = &mut connection.mark {
            mark.idle(false);
        }
        Some(connection)
    }

    /// Keeps a session that can take another message; gives it back when there are too many.
    pub fn put(&self, mut connection: Box<Connection>, now: Instant) -> Option<Box<Connection>> {
        if let Some(mark) = &mut connection.mark {
            mark.idle(true);
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.count >= MOST {
            return Some(connection);
        }
        idle.count += 1;
        let list = idle.sessions.entry(ends(&connection.key)).or_default();
        list.push((now, connection));
        None
    }

    /// Ends the idle sessions that stand in the way of a wish: they hold its places.
    pub fn give_way(&self, wish: &Wish) {
        let mut gone = Vec::new();
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.sessions.retain(|_, list| {
                let hinders = |(_, connection): &Kept| {
                    let mark = connection.mark.as_ref();
                    mark.is_some_and(|mark| mark.hinders(wish))
                };
                let all = std::mem::take(list).into_iter();
                let (out, kept): (Vec<_>, Vec<_>) = all.partition(hinders);
                gone.extend(out);
                *list = kept;
                !list.is_empty()
            });
            idle.count -= gone.len();
        }
        for (_, connection) in gone {
            tokio::spawn(quit(connection));
        }
    }

    /// How many are idle.
    pub fn len(&self) -> usize {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count
    }

    /// Whether none is idle.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes those idle since `before` or longer.
    fn expired(&self, before: Instant) -> Vec<Kept> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        idle.sessions.retain(|_, list| {
            // Oldest first: sessions are taken and put at the end.
            let old = list
                .iter()
                .take_while(|(since, _)| *since <= before)
                .count();
            gone.extend(list.drain(..old));
            !list.is_empty()
        });
        idle.count -= gone.len();
        gone
    }

    /// Ends sessions idle for longer than `idle` says, until the pool itself is dropped.
    pub async fn sweep(self: Arc<Self>, idle: impl Fn() -> Duration) {
        let pool = Arc::downgrade(&self);
        drop(self);
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            let Some(pool) = pool.upgrade() else { return };
            let Some(before) = Instant::now().checked_sub(idle()) else {
                continue;
            };
            for (_, connection) in pool.expired(before) {
                tokio::spawn(quit(connection));
            }
        }
    }

    /// Ends all idle sessions (stop).
    pub async fn close(&self) {
        let all = self.expired(Instant::now());
        futures_util::future::join_all(all.into_iter().map(|(_, connection)| quit(connection)))
            .await;
    }
}

/// Ends a session politely, within a short time.
pub async fn quit(mut connection: Box<Connection>) {
    let deadline = Instant::now() + QUIT_TIME;
    connection.send_quit(deadline).await;
}
