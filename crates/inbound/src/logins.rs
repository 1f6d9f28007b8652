//! Judges credentials off the network threads, two at a time, with what is remembered of earlier
//! ones (CONF-94, T-25). What is remembered and what follows from it is `galerne_core::logins`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galerne_core::access::Login;
use galerne_core::logins::{Counts, Logins, Try};
use galerne_core::settings::Account;
use galerne_core::snapshot::Snapshot;
use galerne_smtp::sasl::Credentials;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Password computations at a time (CONF-94).
const PASSWORDS_AT_ONCE: usize = 2;

/// The judge of all sessions.
pub struct LoginDesk {
    logins: Arc<Mutex<Logins>>,
    passwords: Semaphore,
}

/// What a client is told, and how much later.
#[derive(Clone, Debug)]
pub enum Judged {
    Accepted(Arc<Account>),
    NeedsTls,
    /// Wrong, or unknown.
    Refused(Duration),
    /// The password was not looked at.
    Locked(Duration),
    /// Not possible now.
    Failed,
}

impl Default for LoginDesk {
    fn default() -> Self {
        LoginDesk {
            logins: Arc::new(Mutex::new(Logins::new(random_key()))),
            passwords: Semaphore::new(PASSWORDS_AT_ONCE),
        }
    }
}

impl LoginDesk {
    /// Judges login and password of a client at `peer`.
    pub async fn judge(
        &self,
        snapshot: &Arc<Snapshot>,
        credentials: &Credentials,
        peer: IpAddr,
        tls: bool,
    ) -> Judged {
        let account = snapshot.accounts.by_login(&credentials.login).cloned();
        if account.as_ref().is_some_and(|a| a.smtpssl) && !tls {
            return Judged::NeedsTls;
        }
        let attempt = attempt(snapshot, credentials, peer);
        // To act for another is granted to nobody; it takes as long to be told so.
        let authzid = credentials.authzid.as_deref().unwrap_or_default();
        let own = authzid.is_empty() || authzid == credentials.login;
        let account = account.filter(|_| own);
        if let Some(known) = self.known(account.as_ref(), &attempt) {
            return known;
        }
        // Asked again when it is its turn: of many attempts at once each knows how those before
        // it ended, so that no crowd gets further than one after the other.
        let again = || self.known(account.as_ref(), &attempt);
        let (logins, snapshot, credentials) =
            (self.logins.clone(), snapshot.clone(), credentials.clone());
        let compute = move || book(&logins, &snapshot, &credentials, peer, own);
        in_turn(&self.passwords, again, compute)
            .await
            .unwrap_or(Judged::Failed)
    }

    /// What can be said without a computation.
    fn known(&self, account: Option<&Arc<Account>>, attempt: &Try<'_>) -> Option<Judged> {
        let mut logins = self.logins();
        if let Some(account) = account
            && logins.remembers(attempt, now())
        {
            return Some(Judged::Accepted(account.clone()));
        }
        let locked = logins.is_locked(attempt.peer, attempt.login, now());
        locked.then(|| Judged::Locked(logins.stopped()))
    }

    /// What happened so far, for metrics.
    pub fn counts(&self) -> Counts {
        self.logins().counts()
    }

    fn logins(&self) -> MutexGuard<'_, Logins> {
        locked(&self.logins)
    }
}

/// Computes the password and books how that ended. An unknown login takes as long as a known one.
fn book(
    logins: &Mutex<Logins>,
    snapshot: &Snapshot,
    credentials: &Credentials,
    peer: IpAddr,
    own: bool,
) -> Judged {
    let attempt = attempt(snapshot, credentials, peer);
    let verdict = snapshot
        .accounts
        .authenticate(attempt.login, attempt.password, true);
    let mut logins = locked(logins);
    match verdict {
        Login::Accepted(account) if own => {
            logins.proved(&attempt, now());
            Judged::Accepted(account)
        }
        _ => Judged::Refused(logins.failed(peer, attempt.login, now())),
    }
}

fn attempt<'a>(snapshot: &'a Snapshot, credentials: &'a Credentials, peer: IpAddr) -> Try<'a> {
    let account = snapshot.accounts.by_login(&credentials.login);
    let secret = account.and_then(|account| account.password.as_ref());
    Try {
        peer,
        login: &credentials.login,
        password: credentials.password.as_bytes(),
        secret: secret.map_or("", |secret| &secret.0),
    }
}

/// Does dear work on a thread of its own, when there is a permit for it and `before` has no answer
/// then. `None`: it failed.
async fn in_turn<T: Send + 'static>(
    permits: &Semaphore,
    before: impl FnOnce() -> Option<T>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let _permit = permits.acquire().await.ok()?;
    match before() {
        None => tokio::task::spawn_blocking(work).await.ok(),
        known => known,
    }
}

fn locked(logins: &Mutex<Logins>) -> MutexGuard<'_, Logins> {
    logins.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// A key that nobody else knows.
fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    if random.fill(&mut key).is_err() {
        for eight in key.chunks_mut(8) {
            // Seeded by the system as well.
            let number = RandomState::new().build_hasher().finish();
            eight.copy_from_slice(&number.to_ne_bytes());
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn conf_94_two_passwords_are_computed_at_a_time_and_no_more() {
        let permits = Arc::new(Semaphore::new(PASSWORDS_AT_ONCE));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Each computation waits for another one: they end only if two run together.
        let pair = Arc::new(Barrier::new(2));
        let mut running = Vec::new();
        for _ in 0..8 {
            let (permits, now, most, pair) =
                (permits.clone(), now.clone(), most.clone(), pair.clone());
            let work = move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                pair.wait();
                now.fetch_sub(1, Ordering::SeqCst);
            };
            running.push(tokio::spawn(async move {
                in_turn(&permits, || None, work).await
            }));
        }
        for task in running {
            assert_eq!(task.await.unwrap(), Some(()));
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn conf_94_each_process_has_its_own_key() {
        assert_ne!(random_key(), random_key());
        assert_ne!(random_key(), [0; 32]);
    }
}
