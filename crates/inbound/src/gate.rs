//! What all sessions share: the view of the settings in force, the reception, the lists.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use galerne_core::ports::Lists;
use galerne_core::settings::BareLf;
use galerne_core::snapshot::Snapshot;
use galerne_smtp::data::BareLfPolicy;
use galerne_smtp::server::ServerConfig;
use tokio::sync::{Notify, watch};

use crate::logins::LoginDesk;
use crate::quotas::Quotas;
use crate::reception::Reception;
use crate::registry::Registry;

/// The settings as sessions see them. A session keeps the one with which it began (CONF-12).
pub struct View {
    pub snapshot: Arc<Snapshot>,
    pub smtp: Arc<ServerConfig>,
    pub tls: Arc<rustls::ServerConfig>,
    /// Where messages go that are too large for memory.
    pub temporary: PathBuf,
}

impl View {
    /// The view of one snapshot.
    pub fn new(
        snapshot: Arc<Snapshot>,
        tls: Arc<rustls::ServerConfig>,
        temporary: PathBuf,
    ) -> Self {
        let settings = &snapshot.settings.rfrelay;
        let smtp = ServerConfig {
            hostname: snapshot.settings.hostname.clone(),
            max_size: settings.maxsize,
            max_rcpt: settings.maxrcpt,
            chunking: settings.chunking,
            prdr: settings.maxrcpt > 1,
            starttls: true,
            requiretls: true,
            bare_lf: match settings.barelf {
                BareLf::Reject => BareLfPolicy::Reject,
                BareLf::Normalise => BareLfPolicy::Normalise,
                BareLf::Pass => BareLfPolicy::Pass,
            },
            max_errors: 10,
        };
        View {
            smtp: Arc::new(smtp),
            snapshot,
            tls,
            temporary,
        }
    }
}

/// What all sessions share.
pub struct Gate {
    pub reception: Reception,
    pub lists: Arc<dyn Lists>,
    pub registry: Arc<Registry>,
    pub logins: LoginDesk,
    pub quotas: Arc<Quotas>,
    view: RwLock<Arc<View>>,
    sessions: AtomicU64,
    epoch: u64,
    stop: watch::Sender<bool>,
    running: AtomicUsize,
    ended: Notify,
}

/// A transaction under way, for the stop.
pub struct Running(Arc<Gate>);

impl Running {
    /// Marks a transaction as under way until the mark is dropped.
    pub fn new(gate: &Arc<Gate>) -> Self {
        gate.running.fetch_add(1, Ordering::AcqRel);
        Running(gate.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

impl Gate {
    /// A gate with this view in force.
    pub fn new(reception: Reception, lists: Arc<dyn Lists>, view: View) -> Arc<Self> {
        let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Arc::new(Gate {
            reception,
            lists,
            registry: Registry::new(),
            view: RwLock::new(Arc::new(view)),
            logins: LoginDesk::default(),
            quotas: Quotas::new(),
            sessions: AtomicU64::new(1),
            epoch: epoch.map_or(0, |d| d.as_secs()),
            stop: watch::Sender::new(false),
            running: AtomicUsize::new(0),
            ended: Notify::new(),
        })
    }

    /// The view in force.
    pub fn view(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sessions that begin from now on see this one.
    pub fn renew(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// An id for logs: start time and number, in hexadecimal.
    pub fn next_session_id(&self) -> String {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}{number:08x}", self.epoch)
    }

    /// Whether bare line ends go on as they are.
    pub fn passes_bare(&self, view: &View) -> bool {
        view.smtp.bare_lf == BareLfPolicy::Pass
    }

    /// From now on waiting sessions end with 421 (QUEUE-19).
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// What a session listens to for the stop.
    pub fn stop_signal(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Resolves when the stop has begun.
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        if stop.wait_for(|on| *on).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when no transaction is under way.
    pub async fn quiet(&self) {
        loop {
            let ended = self.ended.notified();
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}
