//! The queue on disk: joins the writer of the database, the thread of the larger bodies, and the
//! readers.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_channel::oneshot;
use galerne_core::content::kept;
use galerne_core::ports::BoxFuture;
use galerne_core::queue::{
    Amount, Change, Damage, Filter, Kept, Listed, MessageNo, NewMessage, Place, QueueStore,
    StoreFault, Stored,
};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::bodies::{Appender, BodyJob, Ledger, reclaim};
use super::failpoint::Failpoints;
use super::reading::Readers;
use super::tables::{self, Rows, TABLES, VERSION};
use super::waiting::{Job, Waiting};
use super::writer::Writer;
use super::{RECIPIENT_BITS, segments, sql_fault};

/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(10);

/// How the queue is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether anything is synced at all (`[queue]sync`, QUEUE-7). Without it a power cut loses
    /// mail that was answered with 250.
    pub sync: bool,
    /// Octets of the log that are written once at the start: what is written already needs no
    /// journal of the file system when it is written again.
    pub warm: u64,
    /// Bodies up to so many octets stand in the database (`[galerne]qmmemo`, CONF-31); those of which
    /// a part is in a temporary file never do.
    pub in_row: u64,
    /// A segment file that is longer gets a successor.
    pub segment: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            sync: true,
            warm: 36 * 1024 * 1024,
            in_row: 16 * 1024,
            segment: 64 * 1024 * 1024,
        }
    }
}

/// What the threads share.
pub struct Shared {
    pub folder: PathBuf,
    pub options: Options,
    pub failpoints: Failpoints,
    pub waiting: Arc<Waiting>,
    pub ledger: Ledger,
    pub readers: Readers,
    numbers: AtomicU64,
    amount: Mutex<Amount>,
    body_fault: Mutex<Option<StoreFault>>,
    closing: AtomicBool,
}

impl Shared {
    /// A number never used before.
    pub fn next_no(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    pub fn last_no(&self) -> u64 {
        self.numbers.load(Relaxed)
    }

    pub fn amount(&self) -> Amount {
        *lock(&self.amount)
    }

    pub fn set_amount(&self, amount: Amount) {
        *lock(&self.amount) = amount;
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    pub fn is_body_fault(&self) -> bool {
        lock(&self.body_fault).is_some()
    }

    pub fn set_body_fault(&self, fault: Option<StoreFault>) {
        *lock(&self.body_fault) = fault;
    }

    /// Why nothing can be taken over now.
    fn fault(&self) -> Option<StoreFault> {
        let closing = self.is_closing().then_some(StoreFault::Closed);
        closing
            .or_else(|| self.waiting.fault())
            .or_else(|| lock(&self.body_fault).clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queue in a folder. Closed when it is dropped.
pub struct SqliteQueue {
    pub(super) shared: Arc<Shared>,
    bodies: Mutex<Option<Sender<BodyJob>>>,
    threads: Mutex<Option<Threads>>,
    opened_at: u64,
    /// Held as long as the folder is ours.
    lock: Mutex<Option<File>>,
}

struct Threads {
    writer: JoinHandle<()>,
    appender: JoinHandle<()>,
    reclaim: JoinHandle<()>,
}

impl SqliteQueue {
    /// Opens the queue in `folder` (`system/queue`), and makes it if it is missing.
    ///
    /// # Errors
    /// The folder cannot be used, another process has it, or the database is none of ours.
    pub fn open(folder: &Path, options: Options) -> io::Result<SqliteQueue> {
        make_folder(folder)?;
        let lock = take_lock(folder)?;
        if !folder.join("queue.db").try_exists()? && !segments::files(folder)?.is_empty() {
            // To begin anew would remove them.
            return Err(io::Error::other(
                "queue.db is missing, and there are bodies of messages (seg-…)",
            ));
        }
        let connection = open_database(folder, &options).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            options,
            failpoints: Failpoints::from_environment(),
            waiting: Arc::default(),
            ledger: Ledger::default(),
            readers: Readers::new(folder),
            numbers: AtomicU64::new(0),
            amount: Mutex::default(),
            body_fault: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        recover(&shared, &connection).map_err(io::Error::other)?;
        let opened_at = shared.last_no();
        let next_segment = clear_segments(&shared)?;
        // One reader stays from now on, whatever becomes of the writer.
        shared
            .readers
            .with(|_| Ok(()))
            .map_err(|fault| io::Error::other(fault.to_string()))?;
        let (bodies, threads) = start(&shared, connection, next_segment)?;
        Ok(SqliteQueue {
            opened_at,
            shared,
            bodies: Mutex::new(Some(bodies)),
            threads: Mutex::new(Some(threads)),
            lock: Mutex::new(Some(lock)),
        })
    }

    fn take(&self, message: NewMessage) -> Result<Receiver, StoreFault> {
        if let Some(fault) = self.shared.fault() {
            return Err(fault);
        }
        let most = 1 << RECIPIENT_BITS;
        if message.deliveries.iter().any(|&(index, _)| index >= most) {
            return Err(StoreFault::Broken("too many recipients".to_owned()));
        }
        let NewMessage {
            envelope,
            content,
            patch,
            deliveries,
        } = message;
        let json = serde_json::to_vec(&*envelope)
            .map_err(|error| StoreFault::Broken(format!("an envelope: {error}")))?;
        let kept_octets = kept(content.memory.len(), &patch.cuts).map(|r| r.len() as u64);
        let memory = patch.prefix.len() as u64 + kept_octets.sum::<u64>();
        let spilled = content.spill.as_ref().map_or(0, |spill| spill.len());
        let mut rows = Rows {
            envelope,
            crc: tables::content_crc(&json, &[]),
            json,
            body: tables::Stored::Row(Vec::new()),
            size: memory + spilled,
            deliveries,
        };
        let (answer, answered) = oneshot::channel();
        if content.spill.is_some() || memory > self.shared.options.in_row {
            let job = BodyJob::Accept {
                rows,
                content,
                patch,
                answer,
            };
            let bodies = lock(&self.bodies);
            let sent = bodies.as_ref().map(|bodies| bodies.send(job).is_ok());
            return match sent {
                Some(true) => Ok(answered),
                _ => Err(StoreFault::Closed),
            };
        }
        let mut body = Vec::with_capacity(memory as usize);
        body.extend_from_slice(&patch.prefix);
        for range in kept(content.memory.len(), &patch.cuts) {
            body.extend_from_slice(content.memory.get(range).unwrap_or_default());
        }
        rows.crc = tables::content_crc(&rows.json, &body);
        rows.body = tables::Stored::Row(body);
        let no = None;
        self.shared.waiting.push(Job::Accept { no, rows, answer })?;
        Ok(answered)
    }

    /// Something that the writer does while this thread waits.
    pub(super) fn wait_for(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<(), StoreFault>>) -> Job,
    ) -> Result<(), StoreFault> {
        let (answer, answered) = oneshot::channel();
        self.shared.waiting.push(job(answer))?;
        super::waiting::wait(answered).unwrap_or(Err(StoreFault::Closed))
    }
}

type Receiver = oneshot::Receiver<Result<super::waiting::Accepted, StoreFault>>;

impl QueueStore for SqliteQueue {
    /// A future that is dropped before it has given its number takes the message back.
    fn accept(&self, message: NewMessage) -> BoxFuture<'static, Result<MessageNo, StoreFault>> {
        let answered = self.take(message);
        Box::pin(async move {
            match answered?.await {
                Ok(accepted) => accepted.map(super::waiting::Accepted::take),
                Err(oneshot::Canceled) => Err(StoreFault::Closed),
            }
        })
    }

    fn change(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), StoreFault>> {
        let (answer, answered) = oneshot::channel();
        let pushed = self.shared.waiting.push(Job::Change { changes, answer });
        Box::pin(async move {
            pushed?;
            answered.await.unwrap_or(Err(StoreFault::Closed))
        })
    }

    fn change_soon(&self, changes: Vec<Change>) {
        if self.shared.waiting.push(Job::Soon(changes)).is_err() {
            tracing::warn!("a delivery was decided after the queue was closed");
        }
    }

    fn opened_at(&self) -> MessageNo {
        MessageNo(self.opened_at)
    }

    fn page(&self, after: Option<Place>, most: usize) -> Result<Vec<Stored>, StoreFault> {
        self.shared.readers.page(after, most)
    }

    fn read(&self, message: MessageNo) -> Result<Option<Kept>, StoreFault> {
        self.shared.readers.read(message)
    }

    fn list(&self, filter: &Filter, most: usize) -> Result<Vec<Listed>, StoreFault> {
        self.shared.readers.list(filter, most)
    }

    fn amount(&self) -> Amount {
        self.shared.amount()
    }

    fn is_ready(&self) -> bool {
        self.shared.fault().is_none()
    }

    fn quarantine(&self, message: MessageNo, why: &str) -> Result<(), StoreFault> {
        self.set_aside(message.0, why)
    }

    fn check(&self, repair: bool) -> Result<Vec<Damage>, StoreFault> {
        self.look_through(repair)
    }

    fn close(&self) {
        self.shared.closing.store(true, Relaxed);
        // First the bodies on their way, then the rows, then the readers: the last connection
        // moves the log into the database.
        self.shared.ledger.tell(None);
        lock(&self.bodies).take();
        let Some(threads) = lock(&self.threads).take() else {
            return;
        };
        let joined = [
            ("reclaim", threads.reclaim),
            ("bodies", threads.appender),
            ("writer", threads.writer),
        ];
        for (name, thread) in joined {
            if name == "writer" {
                self.shared.waiting.close();
            }
            if thread.join().is_err() {
                tracing::error!(name, "a thread of the queue has ended by a bug");
            }
        }
        self.shared.readers.close();
        lock(&self.lock).take();
    }
}

impl Drop for SqliteQueue {
    fn drop(&mut self) {
        self.close();
    }
}

fn start(
    shared: &Arc<Shared>,
    connection: Connection,
    next_segment: u64,
) -> io::Result<(Sender<BodyJob>, Threads)> {
    let (bodies, jobs) = mpsc::channel();
    let (told, numbers) = mpsc::channel();
    let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let writer = Writer::new(shared.clone());
    let writer = named("queue").spawn(move || writer.run(connection))?;
    let appender = Appender::new(shared.clone(), next_segment);
    let appender = named("queue-bodies").spawn(move || appender.run(&jobs))?;
    let (mine, copies) = (shared.clone(), bodies.clone());
    let reclaim = named("queue-room").spawn(move || reclaim(&mine, &numbers, &copies))?;
    shared.ledger.tell(Some(told));
    let threads = Threads {
        writer,
        appender,
        reclaim,
    };
    Ok((bodies, threads))
}

/// The folder, for its owner alone, with a durable name.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut made = DirBuilder::new();
    made.recursive(true).mode(0o700).create(folder)?;
    for above in folder.ancestors().skip(1).take(2) {
        segments::sync_folder(above)?;
    }
    Ok(())
}

pub(super) fn take_lock(folder: &Path) -> io::Result<File> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::other("another process has the queue")),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Opens the database for its writer.
pub fn open_database(folder: &Path, options: &Options) -> Result<Connection, StoreFault> {
    let path = folder.join("queue.db");
    if !fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
        // A new database knows none of these bodies, and would have them removed.
        if let Some(body) = any_segment(folder) {
            return Err(StoreFault::Broken(format!(
                "queue.db is missing or empty, but {body} is there: put queue.db back, or move the seg-… files away"
            )));
        }
        create(&path, folder).map_err(|error| sql_fault(&error))?;
    }
    if let Err(error) = warm(&folder.join("queue.db-wal"), options.warm) {
        // It is only slower without, and a full disk may have room for what ends deliveries.
        tracing::warn!(%error, "the log of the queue cannot be prepared");
    }
    let connection = connect(&path).map_err(|error| sql_fault(&error))?;
    let version: rusqlite::Result<i64> =
        connection.pragma_query_value(None, "user_version", |row| row.get(0));
    match version {
        Ok(VERSION) => {}
        Ok(other) => {
            let whose = match other > VERSION {
                true => "made by a later version of galerne: run that one until the queue is empty",
                false => "which no version of galerne makes",
            };
            return Err(StoreFault::Broken(format!(
                "queue.db has the form {other}, {whose}; this version reads the form {VERSION}. Nothing was changed"
            )));
        }
        Err(error) => return Err(sql_fault(&error)),
    }
    let level = if options.sync { "FULL" } else { "OFF" };
    connection
        .pragma_update(None, "synchronous", level)
        .map_err(|error| sql_fault(&error))?;
    Ok(connection)
}

/// A connection for reading.
pub fn open_reader(folder: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(&folder.join("queue.db"))?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -4000)?;
    Ok(connection)
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "cache_size", -16000)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Every question goes by a key. An index made for one question alone would cost it more, and
    // the list of a user's deliveries in one state the square of their number.
    connection.pragma_update(None, "automatic_index", false)?;
    Ok(connection)
}

/// Makes the database under another name first: it is there whole or not at all.
pub(super) fn create(path: &Path, folder: &Path) -> rusqlite::Result<()> {
    let io = |error: io::Error| {
        let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(failure, Some(error.to_string()))
    };
    let new = folder.join("queue.db-new");
    for old in ["queue.db-new", "queue.db-new-wal", "queue.db-new-shm"] {
        match fs::remove_file(folder.join(old)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .map_err(io)?;
    let mut connection = connect(&new)?;
    connection.pragma_update(None, "page_size", 4096)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.commit()?;
    // Closing it moves its log into the file and syncs it.
    connection.close().map_err(|(_, error)| error)?;
    let sync = || {
        File::open(&new)?.sync_all()?;
        fs::rename(&new, path)?;
        segments::sync_folder(folder)
    };
    sync().map_err(io)
}

/// Makes the log so long that it need not grow for a while. SQLite reads zeros as its end.
fn warm(path: &Path, length: u64) -> io::Result<()> {
    let log = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let zeros = vec![0; 1024 * 1024];
    let mut at = log.metadata()?.len();
    if at >= length {
        return Ok(());
    }
    while at < length {
        let piece = (length - at).min(zeros.len() as u64) as usize;
        log.write_all_at(zeros.get(..piece).unwrap_or_default(), at)?;
        at += piece as u64;
    }
    log.sync_all()?;
    match path.parent() {
        Some(folder) => segments::sync_folder(folder),
        None => Ok(()),
    }
}

/// Reads the counters, and what lives in the segments.
fn recover(shared: &Shared, connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT next_no, messages, deliveries FROM meta";
    let meta = connection.query_row(sql, [], |row| {
        let number = |n| row.get::<_, i64>(n).map(i64::cast_unsigned);
        Ok((number(0)?, number(1)?, number(2)?))
    })?;
    let (next, messages, deliveries) = meta;
    let last: Option<i64> =
        connection.query_row("SELECT max(no) FROM message", [], |row| row.get(0))?;
    let last = last.map_or(0, i64::cast_unsigned);
    shared
        .numbers
        .store(last.max(next.saturating_sub(1)), Relaxed);
    shared.set_amount(Amount {
        messages,
        deliveries,
    });
    let mut live = connection.prepare(
        "SELECT segment, count(*), sum(length), max(place + length) FROM large GROUP BY segment",
    )?;
    let mut rows = live.query([])?;
    while let Some(row) = rows.next()? {
        let number = |n| row.get::<_, i64>(n).map(i64::cast_unsigned);
        let (records, end) = (number(1)?, number(3)? + segments::RECORD_HEADER);
        let octets = number(2)? + records * segments::RECORD_HEADER;
        shared.ledger.found(number(0)?, records, octets, end);
    }
    Ok(())
}

/// The name of a file with bodies, if there is one.
fn any_segment(folder: &Path) -> Option<String> {
    let names = fs::read_dir(folder).ok()?.flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| name.starts_with("seg-"))
}

/// Removes segments in which nothing lives, and cuts what stands behind the last body that does.
/// Gives the number of the next.
fn clear_segments(shared: &Shared) -> io::Result<u64> {
    let mut next = 1;
    for number in segments::files(&shared.folder)? {
        next = next.max(number + 1);
        let path = segments::path(&shared.folder, number);
        match shared.ledger.end(number) {
            None => fs::remove_file(path)?,
            Some(end) => {
                let file = OpenOptions::new().write(true).open(path)?;
                if file.metadata()?.len() > end {
                    file.set_len(end)?;
                }
            }
        }
    }
    Ok(next.max(shared.ledger.highest() + 1))
}
