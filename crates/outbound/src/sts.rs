//! The MTA-STS policies of recipient domains (RFC 8461): looked up, kept, fetched again.
//!
//! What the records and files mean, and when to fetch, is decided in
//! `galerne_core::tls_policy::sts`. A policy is fetched by a task of its own, one per domain at a
//! time; mail waits for it only so long. A domain without a record costs one TXT look-up, which
//! the resolver keeps.

mod fetch;

pub use fetch::fetch_from;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use galerne_core::snapshot::Snapshot;
use galerne_core::tls_policy::sts::{self, Mode, Next, Policy, Published};
use galerne_dns::{LookupFailure, Resolver};
use galerne_store::PolicyStore;
use galerne_store::policies::StoredPolicy;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::dial::Dial;
use crate::tls::ClientTls;
use crate::tls_counts::{Failure, TlsCounts};

/// Mail waits no longer than this for the record.
const RECORD_TIME: Duration = Duration::from_secs(5);
/// Nor longer than this for a policy that is being fetched.
const WAIT: Duration = Duration::from_secs(10);
/// The fetching itself may take so long.
const FETCH_TIME: Duration = Duration::from_secs(60);
/// What failed is not tried again before this is over (RFC 8461 §3.3).
const PAUSE: Duration = Duration::from_secs(5 * 60);
/// Most domains that are remembered.
const MOST: usize = 100_000;

/// The policies of this process.
pub struct Policies {
    domains: Mutex<HashMap<String, Domain>>,
    store: Arc<PolicyStore>,
    dial: Arc<dyn Dial>,
    counts: Arc<TlsCounts>,
}

/// What is needed of the settings in force to look something up.
pub struct Means {
    pub resolver: Arc<dyn Resolver>,
    pub tls: ClientTls,
    pub settings: Arc<Snapshot>,
}

/// What is known of a domain that has a policy, or trouble.
#[derive(Default)]
struct Domain {
    kept: Option<Kept>,
    /// Until when nothing is tried.
    pause: Option<Instant>,
    /// Ends with the fetching that is under way.
    fetching: Option<watch::Receiver<()>>,
}

#[derive(Clone)]
struct Kept {
    policy: Arc<Policy>,
    id: String,
    fetched: SystemTime,
}

impl Kept {
    /// Read from a file, or just fetched; `None`: it says nothing any more.
    fn new(stored: &StoredPolicy) -> Result<Option<Kept>, String> {
        let kept = Kept {
            policy: Arc::new(Policy::parse(&stored.text)?),
            id: stored.id.clone(),
            fetched: stored.fetched,
        };
        Ok(kept.age().map(|_| kept))
    }

    /// `None`: expired. A clock that was put back makes it new.
    fn age(&self) -> Option<Duration> {
        let age = self.fetched.elapsed().unwrap_or_default();
        (age < self.policy.max_age).then_some(age)
    }
}

impl Policies {
    /// Those that earlier processes fetched, and room for more.
    pub fn new(store: Arc<PolicyStore>, dial: Arc<dyn Dial>, counts: Arc<TlsCounts>) -> Arc<Self> {
        let mut domains = HashMap::new();
        for (name, stored) in store.load() {
            match Kept::new(&stored) {
                Ok(Some(kept)) => {
                    let kept = Some(kept);
                    domains.insert(
                        name,
                        Domain {
                            kept,
                            ..Domain::default()
                        },
                    );
                }
                Ok(None) | Err(_) => drop(store.remove(&name)),
            }
        }
        Arc::new(Policies {
            domains: Mutex::new(domains),
            store,
            dial,
            counts,
        })
    }

    /// The policy of a domain (lower case, A-labels), if it has one that wants something.
    pub async fn policy(
        self: &Arc<Self>,
        domain: &str,
        means: Means,
        deadline: Instant,
    ) -> Option<Arc<Policy>> {
        let kept = self.look_up(domain, means, deadline).await?;
        (kept.policy.mode != Mode::None).then_some(kept.policy)
    }

    async fn look_up(
        self: &Arc<Self>,
        domain: &str,
        means: Means,
        deadline: Instant,
    ) -> Option<Kept> {
        if domain.starts_with('[') {
            return None;
        }
        if self.is_paused(domain) {
            return self.kept(domain);
        }
        let published = self.published(domain, &means, deadline).await;
        if published == Published::Unknown {
            self.pause(domain);
        }
        let kept = self.kept(domain);
        let known = kept.as_ref().and_then(|k| Some((k.id.as_str(), k.age()?)));
        let next = sts::next(known, &published);
        let (Next::Fetch | Next::Refresh, Published::Id(id)) = (next, published) else {
            return kept;
        };
        let mut done = self.fetch(domain, id, means);
        if next == Next::Fetch {
            let until = deadline.min(Instant::now() + WAIT);
            // It ends with an error: the task drops its end.
            let _ = timeout_at(until, done.changed()).await;
        }
        self.kept(domain)
    }

    async fn published(&self, domain: &str, means: &Means, deadline: Instant) -> Published {
        let name = format!("_mta-sts.{domain}");
        let until = deadline.min(Instant::now() + RECORD_TIME);
        match timeout_at(until, means.resolver.txt(&name)).await {
            Ok(Ok(records)) => Published::read(&records),
            Ok(Err(LookupFailure::NoSuchName)) => Published::Nothing,
            Ok(Err(LookupFailure::Temporary(_))) | Err(_) => Published::Unknown,
        }
    }

    /// Starts to fetch, unless that is under way.
    fn fetch(self: &Arc<Self>, domain: &str, id: String, means: Means) -> watch::Receiver<()> {
        let mut domains = self.lock();
        if domains.len() >= MOST && !domains.contains_key(domain) {
            return watch::channel(()).1;
        }
        let entry = domains.entry(domain.to_owned()).or_default();
        if let Some(running) = &entry.fetching {
            return running.clone();
        }
        let (done, fetching) = watch::channel(());
        entry.fetching = Some(fetching.clone());
        let (policies, domain) = (self.clone(), domain.to_owned());
        tokio::spawn(async move {
            policies.fetch_now(&domain, id, &means).await;
            drop(done);
        });
        fetching
    }

    async fn fetch_now(&self, domain: &str, id: String, means: &Means) {
        let fetched = timeout(FETCH_TIME, fetch::fetch(domain, means, &*self.dial)).await;
        let fetched = fetched.unwrap_or_else(|_| {
            let why = format!("not fetched within {} s", FETCH_TIME.as_secs());
            Err((Failure::StsPolicyFetchError, why))
        });
        let made = fetched.and_then(|text| {
            let stored = StoredPolicy {
                id,
                fetched: SystemTime::now(),
                text,
            };
            let invalid = |why| (Failure::StsPolicyInvalid, why);
            let kept = Kept::new(&stored).map_err(invalid)?;
            Ok((stored, kept))
        });
        let stored = self.settle(domain, made);
        if let Some(stored) = stored {
            self.write(domain, stored).await;
        }
    }

    /// Books what came of fetching; gives what is to be written: a policy, or that there is none.
    fn settle(
        &self,
        domain: &str,
        made: Result<(StoredPolicy, Option<Kept>), (Failure, String)>,
    ) -> Option<Option<StoredPolicy>> {
        let mut domains = self.lock();
        let entry = domains.entry(domain.to_owned()).or_default();
        entry.fetching = None;
        match made {
            Ok((stored, kept)) => {
                let lasts = kept.is_some();
                // One without a life (`max_age: 0`) is not asked for all the time.
                entry.pause = (!lasts).then(|| Instant::now() + PAUSE);
                entry.kept = kept;
                Some(lasts.then_some(stored))
            }
            Err((failure, why)) => {
                entry.pause = Some(Instant::now() + PAUSE);
                self.counts.failed(failure);
                tracing::warn!(domain, %why, "MTA-STS policy not fetched; a kept one stays");
                None
            }
        }
    }

    async fn write(&self, domain: &str, stored: Option<StoredPolicy>) {
        let (store, name) = (self.store.clone(), domain.to_owned());
        let written = tokio::task::spawn_blocking(move || match stored {
            Some(stored) => store.put(&name, &stored),
            None => store.remove(&name),
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(domain, %error, "system/mtasts/ cannot be written");
        }
    }

    /// The policy that is kept, unless it has expired.
    fn kept(&self, domain: &str) -> Option<Kept> {
        let mut domains = self.lock();
        let entry = domains.get_mut(domain)?;
        entry.kept.take_if(|kept| kept.age().is_none());
        entry.kept.clone()
    }

    fn is_paused(&self, domain: &str) -> bool {
        let domains = self.lock();
        let pause = domains.get(domain).and_then(|entry| entry.pause);
        pause.is_some_and(|until| Instant::now() < until)
    }

    fn pause(&self, domain: &str) {
        let mut domains = self.lock();
        let now = Instant::now();
        if domains.len() >= MOST {
            domains.retain(|_, d| {
                d.kept.is_some() || d.fetching.is_some() || d.pause.is_some_and(|p| p > now)
            });
        }
        if domains.len() < MOST || domains.contains_key(domain) {
            domains.entry(domain.to_owned()).or_default().pause = Some(now + PAUSE);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Domain>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
