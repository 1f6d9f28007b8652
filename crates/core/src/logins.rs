//! Failed logins and proved passwords (CONF-94, T-25): how long the answer to a wrong password
//! waits, whose password is not looked at any more, and which password need not be computed again.
//!
//! Pure and bounded in memory: time and the key of the hashes are arguments. What is shared by all
//! sessions is `galerne_inbound::gate`. docs/security.md says why it is done like this.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// How long a proved password is remembered (CONF-94).
pub const REMEMBERED: Duration = Duration::from_secs(10 * 60);
/// Failures are forgotten this long after the last one.
const FORGOTTEN: Duration = Duration::from_secs(30 * 60);
/// How long a lock lasts after the last failure.
const LOCKED: Duration = Duration::from_secs(10 * 60);
/// Failures of one address that lock it.
const ADDRESS_FAILURES: u32 = 10;
/// Failures at one login, from whatever addresses, after which an address has one try.
const LOGIN_FAILURES: u32 = 20;
/// The longest delay of an answer; the first failure waits a second.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Most entries of each memory.
const MOST: usize = 10_000;

/// What is remembered of logins.
#[derive(Debug)]
pub struct Logins {
    key: [u8; 32],
    proved: HashMap<[u8; 32], Instant>,
    addresses: Memory<IpAddr>,
    logins: Memory<[u8; 32]>,
    counts: Counts,
}

/// What happened since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Wrong passwords and unknown logins.
    pub failed: u64,
    /// Attempts whose password was not looked at.
    pub locked: u64,
    /// Logins that a remembered password spared the computation.
    pub remembered: u64,
}

/// A login as one client tries it.
#[derive(Clone, Copy, Debug)]
pub struct Try<'a> {
    pub peer: IpAddr,
    pub login: &'a str,
    pub password: &'a [u8],
    /// The secret of the account as its file has it, so that a changed one is not remembered;
    /// empty for an unknown login.
    pub secret: &'a str,
}

impl Logins {
    /// Remembers nothing yet. `key`: random, for this process alone.
    pub fn new(key: [u8; 32]) -> Self {
        Logins {
            key,
            proved: HashMap::new(),
            addresses: Memory::default(),
            logins: Memory::default(),
            counts: Counts::default(),
        }
    }

    /// Whether this very password was proved for this login lately. Locks do not stand against it.
    pub fn remembers(&mut self, attempt: &Try<'_>, now: Instant) -> bool {
        if attempt.secret.is_empty() || self.proved.is_empty() {
            return false;
        }
        let proved = self.proved.get(&self.mark(attempt));
        let good = proved.is_some_and(|until| *until > now);
        self.counts.remembered += u64::from(good);
        good
    }

    /// Whether the password is not looked at: too much failed from this address, or something
    /// failed from it while the login is under attack. An address without failures always has its
    /// try, so that nobody can lock out a client elsewhere.
    pub fn is_locked(&self, peer: IpAddr, login: &str, now: Instant) -> bool {
        let here = self.addresses.locking(&network(peer), now);
        let under_attack = self.logins.locking(&self.name(login), now) >= LOGIN_FAILURES;
        here >= ADDRESS_FAILURES || (here >= 1 && under_attack)
    }

    /// Counts an attempt that `is_locked` stopped, and gives the delay of its answer. It does not
    /// make the lock last longer: honest clients of that address are to come back.
    pub fn stopped(&mut self) -> Duration {
        self.counts.locked += 1;
        LONGEST_DELAY
    }

    /// Books a failure; gives the delay of the answer, the same for known and unknown logins.
    pub fn failed(&mut self, peer: IpAddr, login: &str, now: Instant) -> Duration {
        self.counts.failed += 1;
        let name = self.name(login);
        let here = self.addresses.add(network(peer), now);
        let at_login = self.logins.add(name, now);
        delay(here.max(at_login))
    }

    /// Books a proof. Failures stay counted: an account of one's own must not buy further tries.
    pub fn proved(&mut self, attempt: &Try<'_>, now: Instant) {
        if self.proved.len() >= MOST {
            self.proved.retain(|_, until| *until > now);
        }
        if self.proved.len() < MOST {
            self.proved.insert(self.mark(attempt), now + REMEMBERED);
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn mark(&self, attempt: &Try<'_>) -> [u8; 32] {
        let login = attempt.login.to_lowercase();
        self.hash(&[
            login.as_bytes(),
            attempt.secret.as_bytes(),
            attempt.password,
        ])
    }

    fn name(&self, login: &str) -> [u8; 32] {
        self.hash(&[login.to_lowercase().as_bytes()])
    }

    /// A keyed hash: what is in memory gives no password away, and its place no name.
    fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes a key of any length, so that this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            return [0; 32];
        };
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// 1, 2, 4, 8, 10 s: the first slip of the hand costs little.
fn delay(failures: u32) -> Duration {
    let seconds = 1_u64 << failures.saturating_sub(1).min(10);
    Duration::from_secs(seconds).min(LONGEST_DELAY)
}

/// Whom an address is counted with: itself, or its network of 64 bits, which one client has.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// Failures by somebody, bounded: where it is full, those who failed least give way.
#[derive(Debug)]
struct Memory<K>(HashMap<K, (u32, Instant)>);

impl<K> Default for Memory<K> {
    fn default() -> Self {
        Memory(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Memory<K> {
    /// Failures that still count for a lock.
    fn locking(&self, who: &K, now: Instant) -> u32 {
        let entry = self.0.get(who);
        entry.map_or(0, |(count, last)| {
            if now.saturating_duration_since(*last) < LOCKED {
                *count
            } else {
                0
            }
        })
    }

    /// One more; gives how many there are now.
    fn add(&mut self, who: K, now: Instant) -> u32 {
        let over = |last: Instant| now.saturating_duration_since(last) >= FORGOTTEN;
        if self.0.len() >= MOST && !self.0.contains_key(&who) {
            self.0.retain(|_, (_, last)| !over(*last));
        }
        if self.0.len() >= MOST && !self.0.contains_key(&who) {
            // A quarter at once, so that a flood does not cost a search for each of its addresses.
            let mut all: Vec<(u32, Instant)> = self.0.values().copied().collect();
            let (_, pivot, _) = all.select_nth_unstable(MOST / 4);
            let pivot = *pivot;
            self.0.retain(|_, failures| *failures > pivot);
        }
        let (count, last) = self.0.entry(who).or_insert((0, now));
        *count = if over(*last) {
            1
        } else {
            count.saturating_add(1)
        };
        *last = now;
        *count
    }
}

#[cfg(test)]
mod tests;
