//! `galerne run`: start, reload, stop (IF-2, CONF-12, QUEUE-19).

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use galerne_config::load::MAIN_FILE;
use galerne_config::watch::Fingerprint;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::house::{House, HouseOptions, load};
use crate::{control, privileges, sockets};

/// How often the files are looked at; a change is in force within this time and the time of
/// reading (CONF-12 allows 60 s).
const LOOK: Duration = Duration::from_secs(10);

/// Runs the server in the foreground.
pub fn run(root: &Path, no_bind_check: bool) -> ExitCode {
    match start(root, no_bind_check) {
        Ok(code) => code,
        Err(text) => {
            eprintln!("galerne: {text}");
            ExitCode::FAILURE
        }
    }
}

fn start(root: &Path, no_bind_check: bool) -> Result<ExitCode, String> {
    if !root.join(MAIN_FILE).exists() {
        let root = root.display();
        return Err(format!("there is no {MAIN_FILE} in {root}; `galerne --root {root} init` writes a sample"));
    }
    let loaded = load(root, no_bind_check, false);
    for finding in &loaded.findings {
        eprintln!("{finding}");
    }
    for line in &loaded.found {
        println!("{line}");
    }
    let Some(settings) = loaded.settings else {
        return Err(format!("{} error(s) in the configuration; nothing was started", loaded.errors()));
    };
    let sockets = sockets::open(&settings)?;
    // Before the first thread: it must hold for all of them.
    match &settings.runas {
        Some(runas) if privileges::is_root() => privileges::become_identity(privileges::identity(runas)?)?,
        _ => {}
    }
    galerne_events::journal::init(std::env::var("GALERNE_LOG").ok().as_deref(), settings.log_json)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("the runtime does not start: {e}"))?;
    let mut lines = loaded.found;
    lines.extend(loaded.findings.iter().map(ToString::to_string));
    let code = runtime.block_on(async {
        let options = HouseOptions { no_bind_check, ..HouseOptions::default() };
        let house = Arc::new(House::open(root, settings, sockets, options)?);
        for line in &house.found {
            println!("{line}");
        }
        for line in lines.iter().chain(&house.found) {
            house.note(line);
        }
        serve(root, house).await
    });
    // Blocking tasks that hang (a dead disk) must not keep a second SIGTERM from ending us.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn serve(root: &Path, house: Arc<House>) -> Result<ExitCode, String> {
    let listen = |kind| signal(kind).map_err(|e| format!("signals: {e}"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let control = control::listen(root, house.clone())?;
    println!("galerne ready");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut seen = Fingerprint::of(root);
    let mut look = tokio::time::interval(LOOK);
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
                if now != seen {
                    seen = now;
                    reload(&house).await;
                }
            }
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    house.note("stopping");
    control.abort();
    tokio::select! {
        () = house.stop() => {}
        () = again(&mut terminate, &mut interrupt) => house.flush(),
    }
    let _ = std::fs::remove_file(control::path(root));
    Ok(ExitCode::SUCCESS)
}

/// A second signal: at once.
async fn again(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn reload(house: &Arc<House>) {
    let busy = house.clone();
    let Ok(result) = tokio::task::spawn_blocking(move || busy.reload()).await else {
        tracing::error!("reload failed unexpectedly; the old settings stay");
        return;
    };
    let (findings, verdict) = match result {
        Ok(findings) => (findings, "configuration reloaded"),
        Err(findings) => (findings, "configuration not reloaded: the old settings stay in force"),
    };
    for finding in &findings {
        eprintln!("{finding}");
        house.note(&finding.to_string());
    }
    eprintln!("galerne: {verdict}");
    house.note(verdict);
}
