//! State on disk: `system/state.db`, an SQLite database with a write-ahead log. Changes of routes
//! are on disk when they are answered; flow states may lose what a power failure takes, the
//! database never its form.
//!
//! Every call may wait for the disk: not for a network thread.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galerne_core::ports::{FlowEntry, FlowKey, Others, StateStore};
use galerne_core::routes::{Fields, Passwords, RouteRow};
use galerne_core::settings::Secret;
use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, params};

/// How long a call waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);
/// The form of the tables; a database of a later one is not touched.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE routes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL,
    remote_host TEXT NOT NULL,
    remote_port INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    local_ip TEXT,
    smtp_user TEXT,
    mail_from TEXT,
    remote_login TEXT,
    remote_passwd TEXT
);
CREATE TABLE flow (
    grp TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (grp, kind, key)
) WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// The database.
pub struct SqliteState(Mutex<Connection>);

impl SqliteState {
    /// Opens the database at `path` and makes it if it is missing: readable by its owner alone, who
    /// is the owner of the folder.
    ///
    /// # Errors
    /// The file cannot be opened, or is no database of ours.
    pub fn open(path: &Path) -> io::Result<SqliteState> {
        make(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(io::Error::other)?;
        prepare(&mut connection)?;
        Ok(SqliteState(Mutex::new(connection)))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> io::Result<T> {
        work(&mut self.connection()).map_err(io::Error::other)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change that is on disk when this returns.
    fn durably<T>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> io::Result<T> {
        self.with(|connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let done = in_transaction(connection, work);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            done
        })
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction()?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// An empty file with the right owner and mode: routes may hold passwords.
fn make(path: &Path) -> io::Result<()> {
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(file) => {
            // Root may be the first to add a route, and the server runs as another.
            if let Some(folder) = path.parent()
                && let Ok(folder) = fs::metadata(folder)
            {
                let _ = std::os::unix::fs::fchown(&file, Some(folder.uid()), Some(folder.gid()));
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn prepare(connection: &mut Connection) -> io::Result<()> {
    let version = set_up(connection).map_err(io::Error::other)?;
    match version {
        VERSION => Ok(()),
        version => Err(io::Error::other(format!(
            "the database has the form {version}, made by a later version of galerne"
        ))),
    }
}

/// Gives the form of the tables, which a new file gets here.
fn set_up(connection: &mut Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let version = |c: &Connection| -> rusqlite::Result<i64> {
        c.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    let found = version(connection)?;
    if found != 0 {
        return Ok(found);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    if version(&transaction)? == 0 {
        transaction.execute_batch(TABLES)?;
    }
    transaction.commit()?;
    version(connection)
}

const SELECT: &str = "SELECT id, destination, remote_host, remote_port, priority, local_ip, \
    smtp_user, mail_from, remote_login, remote_passwd FROM routes ORDER BY id";

const INSERT: &str = "INSERT INTO routes (destination, remote_host, remote_port, priority, \
    local_ip, smtp_user, mail_from, remote_login, remote_passwd) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

fn fields(row: &Row<'_>) -> rusqlite::Result<Fields> {
    Ok(Fields {
        id: Some(row.get::<_, i64>(0)?.cast_unsigned()),
        destination: row.get(1)?,
        remote_host: row.get(2)?,
        remote_port: row.get(3)?,
        priority: row.get(4)?,
        local_ip: row.get(5)?,
        smtp_user: row.get(6)?,
        mail_from: row.get(7)?,
        remote_login: row.get(8)?,
        remote_passwd: row.get::<_, Option<String>>(9)?.map(Secret),
    })
}

impl StateStore for SqliteState {
    fn routes(&self) -> io::Result<Vec<RouteRow>> {
        let fields = self.with(|connection| {
            let mut statement = connection.prepare(SELECT)?;
            let rows = statement.query_map([], fields)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let row = |fields: Fields| {
            let id = fields.id.unwrap_or_default();
            let wrong = |why| io::Error::other(format!("route {id}: {why}"));
            fields.check().map_err(wrong)
        };
        fields.into_iter().map(row).collect()
    }

    fn add_routes(&self, rows: &[RouteRow], others: Others) -> io::Result<Vec<u64>> {
        self.durably(|transaction| {
            if others == Others::Remove {
                transaction.execute("DELETE FROM routes", [])?;
            }
            let mut insert = transaction.prepare(INSERT)?;
            let mut add = |row: &RouteRow| {
                let f = row.fields(Passwords::Shown);
                let password = f.remote_passwd.as_ref().map(|p| &p.0);
                let id = insert.insert(params![
                    f.destination,
                    f.remote_host,
                    f.remote_port,
                    f.priority,
                    f.local_ip,
                    f.smtp_user,
                    f.mail_from,
                    f.remote_login,
                    password,
                ])?;
                Ok(id.cast_unsigned())
            };
            rows.iter().map(&mut add).collect()
        })
    }

    fn remove_route(&self, id: u64) -> io::Result<bool> {
        let Ok(id) = i64::try_from(id) else {
            return Ok(false);
        };
        self.durably(|transaction| {
            let removed = transaction.execute("DELETE FROM routes WHERE id = ?1", [id])?;
            Ok(removed > 0)
        })
    }

    fn put_flow(&self, batch: &[FlowEntry]) -> io::Result<()> {
        self.with(|connection| {
            in_transaction(connection, |transaction| {
                let mut put = transaction.prepare(
                    "INSERT INTO flow (grp, kind, key, value) VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT DO UPDATE SET value = excluded.value",
                )?;
                let mut remove = transaction
                    .prepare("DELETE FROM flow WHERE grp = ?1 AND kind = ?2 AND key = ?3")?;
                for FlowEntry { key, value } in batch {
                    match value {
                        Some(value) => put.execute(params![key.group, key.kind, key.key, value])?,
                        None => remove.execute(params![key.group, key.kind, key.key])?,
                    };
                }
                Ok(())
            })
        })
    }

    fn load_flow(&self) -> io::Result<Vec<(FlowKey, Vec<u8>)>> {
        self.with(|connection| {
            let mut statement = connection
                .prepare("SELECT grp, kind, key, value FROM flow ORDER BY grp, kind, key")?;
            let rows = statement.query_map([], |row| {
                let key = FlowKey {
                    group: row.get(0)?,
                    kind: row.get(1)?,
                    key: row.get(2)?,
                };
                Ok((key, row.get(3)?))
            })?;
            rows.collect()
        })
    }
}
