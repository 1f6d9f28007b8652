//! `galerne run`: start, reload, stop (IF-2, CONF-12, QUEUE-19).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use galerne_config::watch::Fingerprint;
use galerne_config::{Finding, Level};
use galerne_core::settings::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::RunArgs;
use crate::control::{self, Control};
use crate::house::{House, HouseOptions, load};
use crate::maildrop::PickUp;
use crate::out::say;
use crate::routes::Change;
use crate::{commands, maildrop, privileges, sockets};

/// Runs the server in the foreground.
pub fn run(root: &Path, args: &RunArgs) -> ExitCode {
    let mut json = false;
    match start(root, args, &mut json) {
        Ok(code) => code,
        Err(text) => {
            match json {
                true => tracing::error!("{text}"),
                false => eprintln!("galerne: {text}"),
            }
            ExitCode::FAILURE
        }
    }
}

/// Each session is a descriptor or two, and the usual limit is made for programs that use
/// `select`: take what the system allows at most. A failure leaves it as it is.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, most);
}

/// What the start knows before there is a server.
struct Start {
    settings: Settings,
    findings: Vec<Finding>,
    /// The lines of CONF-8.
    found: Vec<String>,
    /// The files as they were before they were read.
    seen: Fingerprint,
}

fn start(root: &Path, args: &RunArgs, json: &mut bool) -> Result<ExitCode, String> {
    commands::is_root_of_a_tree(root)?;
    control::is_free(root)?;
    let start = read(root, args, json)?;
    allow_descriptors();
    let sockets = sockets::open(&start.settings)?;
    for text in maildrop::prepare(root, &start.settings) {
        tracing::warn!("{text}");
    }
    // Before the first thread: it must hold for all of them.
    let errors = start
        .findings
        .iter()
        .filter(|f| f.level == Level::Error)
        .count();
    let became = become_user(root, args, &start.settings, errors)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("the runtime does not start: {e}"))?;
    let code = runtime.block_on(async {
        let options = HouseOptions {
            no_bind_check: args.no_bind_check,
            ..HouseOptions::default()
        };
        let house =
            House::open(root, start.settings, sockets, options).map_err(|text| match &became {
                Some(runas) => format!("{text}{}", give_tree(runas, root)),
                None => text,
            })?;
        let house = Arc::new(house);
        for line in &house.found {
            say(line);
        }
        let findings: Vec<String> = start.findings.iter().map(ToString::to_string).collect();
        for line in start.found.iter().chain(&findings).chain(&house.found) {
            house.note(line);
        }
        serve(root, house, start.seen, Duration::from_secs(args.watch)).await
    });
    // Blocking tasks that hang (a dead disk) must not keep a second SIGTERM from ending us.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// Reads the tree, says what was found, and begins the log on standard error.
fn read(root: &Path, args: &RunArgs, json: &mut bool) -> Result<Start, String> {
    let seen = Fingerprint::of(root);
    let loaded = load(root, args.no_bind_check, false);
    let filter = std::env::var("GALERNE_LOG").ok();
    *json = loaded
        .settings
        .as_ref()
        .is_some_and(|settings| settings.log_json);
    if *json {
        galerne_events::journal::init(filter.as_deref(), true)?;
    }
    for finding in &loaded.findings {
        match *json {
            true => log(finding),
            false => eprintln!("{finding}"),
        }
    }
    for line in &loaded.found {
        say(line);
    }
    let errors = loaded.errors();
    let settings = loaded
        .settings
        .ok_or_else(|| format!("{errors} error(s) in the configuration; nothing was started"))?;
    if !*json {
        galerne_events::journal::init(filter.as_deref(), false)?;
    }
    Ok(Start {
        settings,
        findings: loaded.findings,
        found: loaded.found,
        seen,
    })
}

fn log(finding: &Finding) {
    match finding.level {
        Level::Error => tracing::error!("{finding}"),
        Level::Warning => tracing::warn!("{finding}"),
        Level::Notice => tracing::info!("{finding}"),
    }
}

/// Gives up root for `[galerne] runas` (CONF-95) and looks at the tree with that user's eyes: what
/// it cannot read now, no reload could read either.
fn become_user(
    root: &Path,
    args: &RunArgs,
    settings: &Settings,
    errors: usize,
) -> Result<Option<String>, String> {
    let Some(runas) = settings.runas.clone().filter(|_| privileges::is_root()) else {
        return Ok(None);
    };
    let about = |why: String| format!("[galerne] runas = {runas}: {why}");
    privileges::identity(&runas)
        .and_then(|identity| privileges::become_identity(&identity))
        .map_err(about)?;
    let loaded = load(root, args.no_bind_check, false);
    if loaded.errors() > errors || loaded.settings.is_none() {
        let is_error = |finding: &&Finding| finding.level == Level::Error;
        let first = loaded
            .findings
            .iter()
            .find(is_error)
            .map(ToString::to_string)
            .unwrap_or_default();
        return Err(about(format!("{first}{}", give_tree(&runas, root))));
    }
    Ok(Some(runas))
}

fn give_tree(runas: &str, root: &Path) -> String {
    format!(
        "; the tree must belong to that user: chown -R {runas} {}",
        root.display()
    )
}

async fn serve(
    root: &Path,
    house: Arc<House>,
    mut seen: Fingerprint,
    every: Duration,
) -> Result<ExitCode, String> {
    let listen = |kind| signal(kind).map_err(|e| format!("signals: {e}"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let control = control::listen(root, house.clone())?;
    // What a command put into the store before it could ask us.
    house.change_routes(Change::nothing())?;
    say("galerne ready");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut look = tokio::time::interval(every);
    let daily = tokio::spawn(house.clone().reindex_daily());
    let quotas = tokio::spawn(house.clone().keep_quotas());
    let pick_up = maildrop::start(root, &house);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                seen = Fingerprint::of(root);
                reload(&house).await;
            }
            _ = look.tick() => {
                let now = Fingerprint::of(root);
                let changed = now.changed(&seen);
                seen = now;
                if !changed.is_empty() && !wrote_all(&house, changed).await {
                    reload(&house).await;
                }
            }
        }
    }
    daily.abort();
    quotas.abort();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stop(house, control, pick_up, &mut terminate, &mut interrupt).await;
    let _ = std::fs::remove_file(control::path(root));
    Ok(ExitCode::SUCCESS)
}

/// Lets what runs come to its end, unless a second signal comes.
async fn stop(
    house: Arc<House>,
    control: Control,
    pick_up: PickUp,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) {
    house.note("stopping");
    tracing::info!("stopping: {} session(s) open", house.sessions());
    let orderly = async {
        let grace = house.snapshot().rfmta.grace;
        tokio::join!(house.quiet(), control.stop(grace), pick_up.stop(grace));
        house.close().await;
    };
    tokio::select! {
        () = orderly => tracing::info!("stopped"),
        () = again(terminate, interrupt) => {
            tracing::info!("stopped at once");
            house.flush();
        }
    }
}

/// A second signal: at once.
async fn again(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Whether the server itself made all these changes: learned domains are no new settings.
async fn wrote_all(house: &Arc<House>, changed: Vec<PathBuf>) -> bool {
    let busy = house.clone();
    let answer = tokio::task::spawn_blocking(move || busy.wrote_all(&changed));
    answer.await.unwrap_or(false)
}

async fn reload(house: &Arc<House>) {
    let busy = house.clone();
    let work = move || {
        let result = busy.reload();
        let snapshot = busy.snapshot();
        let said = result
            .is_ok()
            .then(|| maildrop::prepare(&snapshot.root, &snapshot.settings));
        for text in said.unwrap_or_default() {
            tracing::warn!("{text}");
        }
        result
    };
    let Ok(result) = tokio::task::spawn_blocking(work).await else {
        tracing::error!("reload failed unexpectedly; the old settings stay");
        return;
    };
    let (Ok(findings) | Err(findings)) = &result;
    for finding in findings {
        log(finding);
        house.note(&finding.to_string());
    }
    match &result {
        Ok(_) => {
            tracing::info!("configuration reloaded");
            house.note("configuration reloaded");
        }
        Err(_) => {
            let verdict = "configuration not reloaded: the old settings stay in force";
            tracing::error!("{verdict}");
            house.note(verdict);
        }
    }
}
