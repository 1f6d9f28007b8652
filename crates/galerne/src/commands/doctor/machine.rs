//! What the machine gives us: key files, sockets, files, disk.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use galerne_core::doctor::Finding;
use galerne_core::settings::Settings;
use rustix::process::{Resource, getrlimit};

use crate::control;
use crate::sockets::{is_on_host, what_to_do};

/// Syncs that are measured, and the time that they may take together.
const SYNCS: usize = 20;
const LONGEST_MEASURE: Duration = Duration::from_secs(5);
/// What is written before each sync, octets.
const BLOCK: usize = 4096;
/// A sync slower than this holds up mail once messages are kept on disk.
const SLOW_SYNC: Duration = Duration::from_millis(50);
/// Free space that asks for action, and that asks for advice; octets.
const LITTLE: u64 = 256 << 20;
const NOT_MUCH: u64 = 1 << 30;
/// Files that are open besides sessions.
const OTHER_FILES: usize = 200;

/// The findings that need no network.
pub fn findings(root: &Path, settings: &Settings, no_bind_check: bool) -> Vec<Finding> {
    let mut findings = keys(root, settings);
    findings.extend(outbounds(settings, no_bind_check));
    findings.extend(listeners(root, settings));
    findings.push(open_files(settings));
    findings.push(space(root));
    findings.push(disk(root));
    findings
}

/// Private keys belong to one user alone.
fn keys(root: &Path, settings: &Settings) -> Vec<Finding> {
    let check = "key";
    let finding = |file: &str| match fs::metadata(root.join(file)) {
        Ok(data) if data.mode() & 0o022 != 0 || data.mode() & 0o004 != 0 => {
            let found = format!("mode {:04o}", data.mode() & 0o7777);
            let advice = format!("chmod 600 '{file}'; if strangers could read it: a new key");
            Finding::act(check, file, found, "mode 0600 or 0640", advice)
        }
        Ok(data) => Finding::good(check, file, format!("mode {:04o}", data.mode() & 0o7777)),
        Err(error) => {
            let advice = "the user that the server runs as must be able to read it";
            Finding::act(check, file, error, "a file that can be read", advice)
        }
    };
    settings.keys.iter().map(|key| finding(&key.file)).collect()
}

/// Whether mail can be sent from the addresses at all (CONF-25).
fn outbounds(settings: &Settings, no_bind_check: bool) -> Vec<Finding> {
    let check = "address";
    if settings.outbounds.is_empty() {
        let advice = "write the addresses of this host and their names into [IP] of galerne.ini";
        let finding = Finding::act(check, "[IP]", "no usable address", "one at least", advice);
        return vec![finding];
    }
    let missing = settings
        .outbounds
        .iter()
        .filter(|outbound| !no_bind_check && !is_on_host(outbound.address));
    let advice = "behind NAT write the address that this host has itself, as `ip addr` shows it";
    let finding = |address| {
        Finding::act(
            check,
            address,
            "not an address of this host",
            "an address that it has",
            advice,
        )
    };
    missing.map(|outbound| finding(outbound.address)).collect()
}

/// Each port is free, or ours.
fn listeners(root: &Path, settings: &Settings) -> Vec<Finding> {
    let check = "listen";
    let is_running = control::is_free(root).is_err();
    let finding = |address| match galerne_inbound::bind(address) {
        Ok(_) => Finding::good(check, address, "free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_running => {
            Finding::good(check, address, "taken; the server runs")
        }
        // A running server has got it by other means.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_running => {
            Finding::good(check, address, "not ours to try; the server runs")
        }
        Err(error) => Finding::act(
            check,
            address,
            &error,
            "a port to listen on",
            what_to_do(&error),
        ),
    };
    let addresses = settings.rfrelay.listen.iter().map(|listen| listen.address);
    addresses.map(finding).collect()
}

/// Each session may need a socket and a file, at both ends. The server raises its own limit to the
/// highest that it may.
fn open_files(settings: &Settings) -> Finding {
    let (check, subject) = ("files", "open files");
    let sessions = settings
        .rfrelay
        .threadnb
        .saturating_add(settings.rfmta.threadnb);
    let needed = sessions.saturating_mul(2).saturating_add(OTHER_FILES);
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit {
        Some(limit) if usize::try_from(limit).unwrap_or(usize::MAX) < needed => {
            let advice = "LimitNOFILE=65536 in the unit, or `ulimit -Hn` of who starts it; or a smaller threadnb";
            Finding::act(check, subject, format!("{limit} at most"), needed, advice)
        }
        Some(limit) => Finding::good(check, subject, format!("{limit} at most, {needed} needed")),
        None => Finding::good(check, subject, "no limit"),
    }
}

fn space(root: &Path) -> Finding {
    let check = "space";
    let subject = root.display();
    let room = match rustix::fs::statvfs(root) {
        Ok(system) => system.f_bavail.saturating_mul(system.f_frsize),
        Err(error) => {
            return Finding::act(
                check,
                subject,
                error,
                "a directory",
                "see to the file system",
            );
        }
    };
    let found = format!("{} MiB free", room >> 20);
    let advice = "make room; logs/ keeps [galerne] logage days";
    let little = Finding::act(
        check,
        &subject,
        &found,
        format!("{} MiB", NOT_MUCH >> 20),
        advice,
    );
    match room {
        0..LITTLE => little,
        LITTLE..NOT_MUCH => little.or_advice(),
        _ => Finding::good(check, subject, found),
    }
}

/// How long the disk takes until something is safe on it.
fn disk(root: &Path) -> Finding {
    let (check, folder) = ("disk", work_folder(root));
    let subject = folder.display();
    match sync_times(&folder) {
        Ok(times) => {
            let median = times.get(times.len() / 2).copied().unwrap_or_default();
            let worst = times.last().copied().unwrap_or_default();
            let found = format!("a sync takes {}, at worst {}", shown(median), shown(worst));
            if median <= SLOW_SYNC {
                return Finding::good(check, subject, found);
            }
            let advice =
                "a disk with less load, or one whose writes are protected from loss of power";
            let expected = format!("at most {}", shown(SLOW_SYNC));
            Finding::act(check, subject, found, expected, advice).or_advice()
        }
        Err(error) => {
            let advice = "the user that the server runs as must be able to write here";
            Finding::act(check, subject, error, "a directory to write to", advice)
        }
    }
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// `system/`, where the server writes; the root before its first start.
fn work_folder(root: &Path) -> PathBuf {
    let system = root.join("system");
    match system.is_dir() {
        true => system,
        false => root.to_owned(),
    }
}

/// Sorted.
fn sync_times(folder: &Path) -> io::Result<Vec<Duration>> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || (times.len() < SYNCS && begin.elapsed() < LONGEST_MEASURE) {
        file.write_all(&[0; BLOCK])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}
