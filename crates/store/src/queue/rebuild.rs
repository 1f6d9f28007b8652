//! Making the database anew from what can be read of it, when it is damaged as a file (QUEUE-26).
//!
//! Each row stands alone: where a page cannot be read, the search goes on behind it. The old file
//! stays in the quarantine, whole. What a lost row leaves of its message is set aside by a check
//! afterwards.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use galerne_core::queue::{Damage, QueueStore};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::repair::OF_FILE;
use super::sqlite::{Options, SqliteQueue, connect, create, take_lock};
use super::tables::VERSION;
use super::{RECIPIENT_BITS, segments};

/// Tables with their key and how far apart the keys of neighbours are.
const TABLES: [(&str, &str, i64); 4] = [
    ("message", "no", 1),
    ("content", "no", 1),
    ("large", "no", 1),
    ("delivery", "key", 1 << RECIPIENT_BITS),
];
/// Neighbours that are looked for one by one before the steps grow.
const NEAR: i64 = 10_000;

/// What was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Rows in the new database.
    pub rows: u64,
    /// Places where rows were lost.
    pub gaps: u64,
}

/// Makes `queue.db` in `folder` anew. For a queue that nobody has open.
///
/// # Errors
/// Another process has the queue, or the files cannot be read or written at all.
pub fn rebuild(folder: &Path) -> io::Result<Rebuilt> {
    let _lock = take_lock(folder)?;
    let old = folder.join("queue.db");
    // What a later version has made is well, and only not ours.
    let version = connect(&old)
        .and_then(|old| old.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)));
    if let Ok(version) = version
        && version > VERSION
    {
        return Err(io::Error::other(
            "queue.db was made by a later version of galerne",
        ));
    }
    let new = folder.join("queue.db-rebuilt");
    if new.try_exists()? {
        fs::remove_file(&new)?;
    }
    create(&new, folder).map_err(io::Error::other)?;
    let rebuilt = copy_all(&old, &new).map_err(io::Error::other)?;
    let quarantine = folder.join("quarantine");
    if !quarantine.is_dir() {
        DirBuilder::new().mode(0o700).create(&quarantine)?;
    }
    let free = (0..u32::MAX)
        .map(|n| quarantine.join(format!("queue-{n}.db")))
        .find(|path| !path.exists());
    let aside = free.ok_or(io::ErrorKind::StorageFull)?;
    // The old file and its log are kept under one name; the new one takes the place last.
    for end in ["-wal", "-shm"] {
        let with = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            name
        };
        match fs::rename(with(&old), with(&aside)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::hard_link(&old, &aside)?;
    segments::sync_folder(&quarantine)?;
    fs::rename(&new, &old)?;
    segments::sync_folder(folder)?;
    tracing::warn!(
        rows = rebuilt.rows,
        gaps = rebuilt.gaps,
        kept = %aside.display(),
        "the database of the queue was made anew"
    );
    Ok(rebuilt)
}

/// Checks the queue in a folder and sets aside what is damaged; the database is made anew if it has
/// to be. For a queue that nobody has open.
///
/// # Errors
/// As [`rebuild`], or the new database cannot be checked either.
pub fn repair(folder: &Path, options: &Options) -> io::Result<Vec<Damage>> {
    let mut found = match check(folder, options) {
        Ok(found) => found,
        Err(error) => vec![of_file(&error.to_string())],
    };
    if found.iter().any(|damage| damage.what.starts_with(OF_FILE)) {
        let Rebuilt { rows, gaps } = rebuild(folder)?;
        found.push(of_file(&format!(
            "made anew from {rows} rows, with {gaps} gaps; the old one is in the quarantine"
        )));
        found.extend(check(folder, options)?);
    }
    Ok(found)
}

fn check(folder: &Path, options: &Options) -> io::Result<Vec<Damage>> {
    let queue = SqliteQueue::open(folder, options.clone())?;
    let found = queue.check(true).map_err(io::Error::other);
    queue.close();
    found
}

fn of_file(what: &str) -> Damage {
    Damage {
        id: None,
        what: format!("{OF_FILE}{what}"),
        quarantined: false,
    }
}

fn copy_all(old: &Path, new: &Path) -> rusqlite::Result<Rebuilt> {
    let from = connect(old)?;
    let mut to = connect(new)?;
    let transaction = to.transaction()?;
    let mut rebuilt = Rebuilt::default();
    for (table, key, step) in TABLES {
        copy(&from, &transaction, table, key, step, &mut rebuilt)?;
    }
    let next: Option<i64> = from
        .query_row("SELECT next_no FROM meta", [], |row| row.get(0))
        .optional()
        .unwrap_or_default();
    transaction.execute(
        "UPDATE meta SET next_no = max(?1, (SELECT coalesce(max(no), 0) + 1 FROM message)), \
         messages = (SELECT count(*) FROM message), \
         deliveries = (SELECT count(*) FROM delivery)",
        [next.unwrap_or(1)],
    )?;
    transaction.commit()?;
    to.close().map_err(|(_, error)| error)?;
    Ok(rebuilt)
}

fn copy(
    from: &Connection,
    to: &Connection,
    table: &str,
    key: &str,
    step: i64,
    rebuilt: &mut Rebuilt,
) -> rusqlite::Result<()> {
    let columns = from
        .prepare(&format!("SELECT * FROM {table}"))?
        .column_count();
    let marks = vec!["?"; columns].join(", ");
    let mut insert = to.prepare(&format!("INSERT OR IGNORE INTO {table} VALUES ({marks})"))?;
    let next = format!("SELECT * FROM {table} NOT INDEXED WHERE {key} > ?1 ORDER BY {key} LIMIT 1");
    let mut next = from.prepare(&next)?;
    let (mut after, mut tries) = (-1_i64, 0_u32);
    loop {
        let row = next.query_row([after], |row| {
            (0..columns)
                .map(|n| row.get::<_, Value>(n))
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        match row.optional() {
            Ok(None) => {
                rebuilt.gaps += u64::from(tries > 0);
                return Ok(());
            }
            Ok(Some(row)) => {
                let Some(Value::Integer(found)) = row.first().cloned() else {
                    return Ok(());
                };
                rebuilt.gaps += u64::from(tries > 0);
                tries = 0;
                // A damaged index of keys may lead back; each row is copied once.
                after = found.max(after.saturating_add(1));
                rebuilt.rows += insert.execute(params_from_iter(row))? as u64;
            }
            Err(_) => {
                // Behind what cannot be read something may stand again.
                tries += 1;
                let far = (i64::from(tries) - NEAR).clamp(0, 62);
                match step
                    .checked_mul(1 << far)
                    .and_then(|far| after.checked_add(far))
                {
                    Some(further) => after = further,
                    None => {
                        rebuilt.gaps += 1;
                        return Ok(());
                    }
                }
            }
        }
    }
}
