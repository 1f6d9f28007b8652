//! The running server: all rooms joined, renewed on reload, closed on stop.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use galerne_config::{Finding, Level, LoadOptions, Loaded};
use galerne_core::flow::configured::groups;
use galerne_core::ports::{EventSink, Module, StateStore};
use galerne_core::settings::Settings;
use galerne_core::snapshot::Snapshot;
use galerne_dns::{HickoryResolver, Resolver};
use galerne_events::{Logs, Options as LogOptions, StoryFiles, Tee};
use galerne_inbound::{Inbound, InboundWorld, Quotas, Reception, View, certificates};
use galerne_outbound::{ClientTls, Delivery, Edge, Post, Queue, TcpDial, World};
use galerne_store::{GroupFiles, ListStore, PolicyStore};

use crate::flow::Flow;
use crate::further;
use crate::routes::{Change, Routes};
use crate::sockets::{Listening, is_on_host};

/// Where it is kept what accounts have used up of their limits.
const QUOTAS: &str = "system/quotas";

/// Time for what was given up at a stop to be recorded.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the house is opened.
#[derive(Clone, Default)]
pub struct HouseOptions {
    /// Do not ask whether the addresses of `[IP]` are on this host (CONF-25).
    pub no_bind_check: bool,
    /// Who else hears what happens: demo, tests.
    pub listeners: Vec<Arc<dyn EventSink>>,
    /// Takes the place of the configured name servers: demo, tests.
    pub resolver: Option<Arc<dyn Resolver>>,
}

/// Reads the configuration under `root`.
pub fn load(root: &Path, no_bind_check: bool, strict: bool) -> Loaded {
    let further = |settings: &Settings| further::findings(root, settings);
    galerne_config::load(
        root,
        LoadOptions {
            no_bind_check,
            strict,
            on_host: &is_on_host,
            key_facts: &crate::keys::facts,
            further: &further,
        },
    )
}

/// The running server.
pub struct House {
    root: PathBuf,
    options: HouseOptions,
    snapshot: RwLock<Arc<Snapshot>>,
    inbound: Inbound,
    delivery: Arc<Delivery>,
    events: Arc<dyn EventSink>,
    logs: Arc<Logs>,
    lists: Arc<ListStore>,
    flow: Arc<Flow>,
    book: Arc<GroupFiles>,
    routes: Routes,
    queue: Arc<Queue>,
    stories: Arc<StoryFiles>,
    /// What was found at start (CONF-8).
    pub found: Vec<String>,
}

impl House {
    /// Opens everything for settings that are loaded and sockets that listen. Needs a runtime.
    ///
    /// # Errors
    /// What cannot be opened, in words.
    pub fn open(
        root: &Path,
        settings: Settings,
        sockets: Vec<Listening>,
        options: HouseOptions,
    ) -> Result<House, String> {
        let says = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        let made = galerne_config::create_directories(root, &settings)
            .map_err(|e| says("directories", &e))?;
        let settings = Arc::new(settings);
        let snapshot = Snapshot::new(settings.clone());
        let logs = Logs::open(
            root,
            LogOptions {
                age_days: settings.logage,
            },
        )
        .map_err(|e| says("logs/", &e))?;
        let logs = Arc::new(logs);
        let lists = Arc::new(ListStore::open(&root.join("lists")).map_err(|e| says("lists/", &e))?);
        ensure_lists(&lists, &settings)?;
        let book =
            Arc::new(GroupFiles::open(&root.join("domains")).map_err(|e| says("domains/", &e))?);
        let events: Arc<dyn EventSink> = if options.listeners.is_empty() {
            logs.clone()
        } else {
            let mut all: Vec<Arc<dyn EventSink>> = vec![logs.clone()];
            all.extend(options.listeners.iter().cloned());
            Arc::new(Tee(all))
        };
        let state: Arc<dyn StateStore> = Arc::new(crate::routes::open(root)?);
        let routes = Routes::new(state.clone(), &settings)?;
        let pace = crate::flow::open(&settings, &*state, &*events)?;
        let world = World {
            pace: pace.clone(),
            routes: routes.live(),
            dial: Box::new(TcpDial),
            lists: lists.clone(),
            book: book.clone(),
            events: events.clone(),
            policies: Arc::new(
                PolicyStore::open(&root.join("system/mtasts"))
                    .map_err(|e| says("system/mtasts", &e))?,
            ),
            verp_secret: secret(&root.join("system/verp.key"))
                .map_err(|e| says("system/verp.key", &e))?,
        };
        let delivery = Delivery::new(world, edge(&settings, &options)?);
        let (queue, stories) = crate::queue::open(root, &snapshot, &delivery)?;
        let flow = Flow::new(pace, state, events.clone());
        tokio::spawn(flow.clone().keep());
        let idle = delivery.clone();
        tokio::spawn(delivery.pool().sweep(move || idle.edge().idle));
        let (view, mut found) = view(root, &snapshot)?;
        found.splice(
            0..0,
            made.iter()
                .map(|path| format!("directory {} created", path.display())),
        );
        found.extend(
            sockets
                .iter()
                .map(|(_, listen)| format!("listening on {}", listen.address)),
        );
        let reception = Reception {
            deliver: Arc::new(Post(queue.clone())),
            events: events.clone(),
        };
        let world = InboundWorld {
            reception,
            lists: lists.clone(),
        };
        let inbound = Inbound::open(world, view, sockets).map_err(|e| says("listeners", &e))?;
        if let Err(error) = inbound.quotas().load(&root.join(QUOTAS)) {
            tracing::error!(%error, "{QUOTAS}: the limits per hour and day begin anew");
        }
        Ok(House {
            root: root.to_owned(),
            options,
            snapshot: RwLock::new(snapshot),
            inbound,
            delivery,
            events,
            logs,
            lists,
            book,
            routes,
            queue,
            stories,
            flow,
            found,
        })
    }

    /// The settings in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The one door, for submissions that do not come by SMTP.
    pub fn reception(&self) -> Reception {
        self.inbound.reception()
    }

    /// Flow control.
    pub fn flow(&self) -> Arc<Flow> {
        self.flow.clone()
    }

    /// The durable queue.
    pub fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// The lists, for decisions at RCPT.
    pub fn lists(&self) -> Arc<ListStore> {
        self.lists.clone()
    }

    /// What accounts have used up of their limits.
    pub fn quotas(&self) -> Arc<Quotas> {
        self.inbound.quotas()
    }

    /// Changes the route table; it holds from the next message on (ROUTE-22). Waits for the disk:
    /// not for an async thread.
    ///
    /// # Errors
    /// Why it cannot be changed so.
    pub fn change_routes(&self, change: Change) -> Result<Vec<u64>, String> {
        let ids = self.routes.change(&self.snapshot(), change)?;
        if !ids.is_empty() {
            self.note(&format!("route table changed: {ids:?}"));
        }
        Ok(ids)
    }

    /// Keeps on disk, minute by minute, what accounts have used up (CONF-93).
    pub async fn keep_quotas(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let house = self.clone();
            let _ = tokio::task::spawn_blocking(move || house.save_quotas()).await;
        }
    }

    fn save_quotas(&self) {
        if let Err(error) = self.quotas().save(&self.root.join(QUOTAS)) {
            tracing::error!(%error, "{QUOTAS}: what accounts have used up would not survive a restart");
        }
    }

    /// Open sessions of clients.
    pub fn sessions(&self) -> usize {
        self.inbound.sessions()
    }

    /// A line for `logs/galerne.txt`.
    pub fn note(&self, text: &str) {
        self.events.note(Module::Galerne, text);
    }

    /// Reads the configuration again. All is in force afterwards, or nothing of it (CONF-11); the
    /// findings say why.
    pub fn reload(&self) -> Result<Vec<Finding>, Vec<Finding>> {
        let loaded = load(&self.root, self.options.no_bind_check, true);
        let Some(settings) = loaded.settings else {
            return Err(loaded.findings);
        };
        let mut findings = loaded.findings;
        let settings = Arc::new(settings);
        let snapshot = Snapshot::new(settings.clone());
        let renewed = edge(&settings, &self.options)
            .and_then(|edge| Ok((edge, view(&self.root, &snapshot)?)));
        let (edge, (view, _)) = match renewed {
            Ok(renewed) => renewed,
            Err(text) => {
                findings.push(self.finding(Level::Error, "-", "-", text));
                return Err(findings);
            }
        };
        self.say_what_needs_a_restart(&settings, &mut findings);
        if let Err(error) = galerne_config::create_directories(&self.root, &settings) {
            let text = format!("directories: {error}");
            findings.push(self.finding(Level::Warning, "-", "-", text));
        }
        if let Err(text) = ensure_lists(&self.lists, &settings) {
            findings.push(self.finding(Level::Warning, "list", "filter", text));
        }
        if let Err(error) = self.lists.reindex() {
            findings.push(self.finding(
                Level::Warning,
                "-",
                "-",
                format!("lists/: {error}; the old entries stay"),
            ));
        }
        if let Err(error) = self.book.reread() {
            findings.push(self.finding(
                Level::Warning,
                "-",
                "-",
                format!("domains/: {error}; the old aliases stay"),
            ));
        }
        if let Err(error) = self.routes.renew(&settings) {
            let text = format!("{error}; the old routes stay");
            findings.push(self.finding(Level::Warning, "-", "-", text));
        }
        self.delivery.renew(edge);
        self.delivery.pace().configure(groups(&snapshot));
        self.inbound.renew(view);
        self.stories
            .keep_for(crate::queue::stories_for(&snapshot.queue));
        self.queue.renew(snapshot.clone());
        *self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner) = snapshot;
        Ok(findings)
    }

    /// Whether these files, relative to the root, changed by nothing but what this server learned
    /// itself. Reads from disk: not for an async thread.
    pub fn wrote_all(&self, changed: &[PathBuf]) -> bool {
        let group = |path: &PathBuf| {
            let name = path.strip_prefix("domains").ok()?.to_str()?;
            let group = name.strip_prefix('@')?.strip_suffix("_alias.csv")?;
            Some(group.to_owned())
        };
        let mut groups = changed.iter().map(group);
        groups.all(|group| group.is_some_and(|group| self.book.wrote_aliases(&group)))
    }

    /// Keys that are read at the start alone: a change of them is said, never silently ignored.
    fn say_what_needs_a_restart(&self, settings: &Settings, findings: &mut Vec<Finding>) {
        let old = self.snapshot();
        let keys = [
            (
                "rfrelay",
                "listen",
                old.rfrelay.listen != settings.rfrelay.listen,
            ),
            ("galerne", "runas", old.runas != settings.runas),
            ("rafale", "logage", old.logage != settings.logage),
            ("rafale", "log", old.log_json != settings.log_json),
            ("queue", "sync", old.queue.sync != settings.queue.sync),
        ];
        for (section, key, _) in keys.into_iter().filter(|(_, _, changed)| *changed) {
            let what = if key == "listen" {
                "the listeners change"
            } else {
                "it changes"
            };
            let text = format!("{what} only with a restart; the old value stays");
            findings.push(self.finding(Level::Warning, section, key, text));
        }
    }

    fn finding(&self, level: Level, section: &str, key: &str, text: String) -> Finding {
        further::main_file(&self.root, level, section, key, text)
    }

    /// Stops (QUEUE-19): no new session, running transactions get up to the grace time, all state
    /// is on disk afterwards.
    pub async fn stop(&self) {
        self.quiet().await;
        self.close().await;
    }

    /// The first half of a stop: accepts no more sessions, and returns when no transaction runs or
    /// the grace time is over.
    pub async fn quiet(&self) {
        let grace = self.snapshot().rfmta.grace;
        let end = tokio::time::Instant::now() + grace;
        self.inbound.stop(grace).await;
        let _ = tokio::time::timeout_at(end, self.delivery.quiet()).await;
        let _ = tokio::time::timeout_at(end, self.queue.quiet()).await;
    }

    /// Writes all stories told so far to their files.
    pub async fn write_stories(&self) {
        let stories = self.stories.clone();
        let _ = tokio::task::spawn_blocking(move || stories.flush()).await;
    }

    /// The second half: says QUIT to remotes and brings all state to disk.
    pub async fn close(&self) {
        // What still runs ends now: aborted before its final dot, unknown and recorded so after it.
        self.delivery.give_up();
        self.inbound.stop(LAST_WORDS).await;
        let _ = tokio::time::timeout(LAST_WORDS, self.queue.quiet()).await;
        let _ = tokio::time::timeout(Duration::from_secs(2), self.delivery.pool().close()).await;
        self.save_quotas();
        let flow = self.flow.clone();
        let _ = tokio::task::spawn_blocking(move || flow.save()).await;
        let (logs, lists, book) = (self.logs.clone(), self.lists.clone(), self.book.clone());
        let (queue, stories) = (self.queue.clone(), self.stories.clone());
        let flushed = tokio::task::spawn_blocking(move || {
            queue.close();
            stories.stop();
            lists.flush();
            book.flush();
            logs.stop();
        });
        let _ = flushed.await;
    }

    /// Reads the lists anew once a day, at 00:01 (CONF-60), for as long as the server runs.
    pub async fn reindex_daily(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ListStore::until_reindex(&jiff::Zoned::now())).await;
            let lists = self.lists.clone();
            match tokio::task::spawn_blocking(move || lists.reindex()).await {
                Ok(Ok(())) => self.note("lists read anew"),
                Ok(Err(error)) => {
                    tracing::error!(%error, "lists/ cannot be read anew; the old entries stay");
                }
                Err(_) => tracing::error!("reading the lists anew failed unexpectedly"),
            }
        }
    }

    /// Brings to disk what waits to be written, without waiting for anything else.
    pub fn flush(&self) {
        self.save_quotas();
        self.lists.flush();
        self.book.flush();
        self.logs.flush();
    }
}

/// The list of each account exists, if only empty (CONF-59, CONF-64).
fn ensure_lists(lists: &ListStore, settings: &Settings) -> Result<(), String> {
    let own = settings
        .accounts
        .iter()
        .map(|account| account.name.as_str());
    for name in own.chain([galerne_store::lists::HARD]) {
        lists
            .ensure(name)
            .map_err(|error| format!("lists/{name}.csv: {error}"))?;
    }
    Ok(())
}

fn edge(settings: &Settings, options: &HouseOptions) -> Result<Edge, String> {
    let resolver = match &options.resolver {
        Some(resolver) => resolver.clone(),
        None => Arc::new(HickoryResolver::new(&settings.dns)?) as Arc<dyn Resolver>,
    };
    Ok(Edge {
        resolver,
        tls: ClientTls::new(settings.rfmta.cafile.as_deref())?,
        slots: settings.rfmta.threadnb,
        idle: settings.rfmta.idle,
    })
}

fn view(root: &Path, snapshot: &Arc<Snapshot>) -> Result<(View, Vec<String>), String> {
    let (tls, found) = certificates::server_config(&root.join("certs"), &snapshot.hostname)?;
    let mut lines = Vec::new();
    if found.self_signed {
        lines.push(format!(
            "no certificate in certs/: a self-signed one for {} is used",
            snapshot.hostname
        ));
    }
    let temporary = root.join("system");
    Ok((View::new(snapshot.clone(), tls, temporary), lines))
}

/// The secret of generated return addresses: made once, readable by us alone.
fn secret(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    match fs::read(path) {
        Ok(octets) if octets.len() >= 32 => return Ok(octets),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut octets = [0u8; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut octets)
        .map_err(|_| std::io::Error::other("no random numbers"))?;
    let text: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(text.into_bytes())
}

/// The addresses a client can submit to, for messages to people.
pub fn smtp_addresses(settings: &Settings) -> Vec<SocketAddr> {
    settings
        .rfrelay
        .listen
        .iter()
        .map(|listen| listen.address)
        .collect()
}
