//! The stories of messages in the queue (QUEUE-17): lines of JSON in `system/trace/YYYYMMDD.jsonl`,
//! a file for each day in UTC, written by a thread of its own. [`find`] reads them.
//!
//! The caller's part is a lock and a move. When the thread cannot keep up or the disk refuses, lines
//! are lost, counted and said, and mail goes on.

mod find;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use galerne_core::queue::{Stories, Told, What};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::files::Clock;
use crate::queue::Queue;

pub use find::{Found, find};

/// Where the files are, below the root.
pub const FOLDER: &str = "system/trace";
/// Octets of lines that may wait, roughly.
const MOST_WAITING: usize = 64 << 20;
/// So many recipients stand in one line.
const RECIPIENTS: usize = 1000;
/// A longer line is not written.
const LONGEST: usize = 1 << 20;
/// What one write takes at most, roughly.
const WRITE: usize = 1 << 20;

/// Writes `system/trace/`.
pub struct StoryFiles {
    queue: Arc<Queue<Told>>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What callers and the writer both look at.
#[derive(Default)]
struct Shared {
    /// Octets that wait, roughly.
    waiting: AtomicUsize,
    /// Seconds for which a file is kept after its day.
    keep: AtomicU64,
    lost: AtomicU64,
}

impl StoryFiles {
    /// Opens the files under `root`, and removes those that are older than `keep`: the longest that a
    /// message may be in the queue, and `[queue]tracekeep`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(root: &Path, keep: Duration) -> io::Result<StoryFiles> {
        Self::open_at(root, keep, Arc::new(jiff::Zoned::now))
    }

    /// The same at another time.
    pub(crate) fn open_at(root: &Path, keep: Duration, clock: Clock) -> io::Result<StoryFiles> {
        let shared = Arc::new(Shared::default());
        shared.keep.store(keep.as_secs(), Ordering::Relaxed);
        let pages = Pages::open(&root.join(FOLDER), clock, shared.clone())?;
        let queue = Arc::new(Queue::default());
        let work = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("galerne-trace".into())
            .spawn(move || run(&work, pages))?;
        Ok(StoryFiles {
            queue,
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// How long files are kept from now on.
    pub fn keep_for(&self, keep: Duration) {
        self.shared.keep.store(keep.as_secs(), Ordering::Relaxed);
    }

    /// Lines that were lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything told so far is in the files. Not for an async thread.
    pub fn flush(&self) {
        self.queue.flush();
    }

    /// Writes what waits and ends the writer; what is told later is lost. Also done on drop. Not for
    /// an async thread.
    pub fn stop(&self) {
        self.queue.stop();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for StoryFiles {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for StoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoryFiles")
    }
}

impl Stories for StoryFiles {
    fn tell(&self, told: Told) {
        let weight = weight(&told);
        let before = self.shared.waiting.fetch_add(weight, Ordering::Relaxed);
        if before > MOST_WAITING {
            self.shared.waiting.fetch_sub(weight, Ordering::Relaxed);
            self.queue.lose();
        } else if !self.queue.push([told]) {
            self.shared.waiting.fetch_sub(weight, Ordering::Relaxed);
        }
    }
}

/// What a line costs while it waits: only the recipients of a message can be many.
fn weight(told: &Told) -> usize {
    let recipients = match &told.what {
        What::Received { recipients, .. } => recipients.iter().map(|r| r.len() + 24).sum(),
        _ => 0,
    };
    512 + recipients
}

fn run(queue: &Queue<Told>, mut pages: Pages) {
    let mut told = Vec::new();
    let mut said = false;
    loop {
        let batch = queue.take(&mut told);
        if batch.lost > 0 {
            pages.shared.lost.fetch_add(batch.lost, Ordering::Relaxed);
            if !said {
                tracing::error!(
                    "the stories of messages are not written fast enough; mail goes on, lines are lost"
                );
            }
            said = true;
        }
        let weight = told.iter().map(weight).sum();
        pages.turn();
        told.drain(..).for_each(|told| pages.take(told));
        pages.write();
        pages.shared.waiting.fetch_sub(weight, Ordering::Relaxed);
        queue.written(&batch);
        if batch.last {
            let lost = pages.shared.lost.load(Ordering::Relaxed);
            if lost > 0 {
                tracing::error!(lines = lost, "lines of the stories of messages were lost");
            }
            return;
        }
    }
}

/// The files, for the writer alone.
struct Pages {
    folder: PathBuf,
    clock: Clock,
    shared: Arc<Shared>,
    today: Date,
    file: Option<File>,
    buffer: Vec<u8>,
    /// Lines in the buffer.
    lines: u64,
    /// The disk refuses, and that was said.
    refused: bool,
}

impl Pages {
    fn open(folder: &Path, clock: Clock, shared: Arc<Shared>) -> io::Result<Pages> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let pages = Pages {
            folder: folder.to_owned(),
            today: day(&clock),
            clock,
            shared,
            file: None,
            buffer: Vec::new(),
            lines: 0,
            refused: false,
        };
        pages.remove_old();
        Ok(pages)
    }

    /// Begins a new file when the day has changed.
    fn turn(&mut self) {
        let today = day(&self.clock);
        if today != self.today {
            (self.today, self.file) = (today, None);
            self.remove_old();
        }
    }

    /// Puts a line into the buffer. Very many recipients become several lines.
    fn take(&mut self, mut told: Told) {
        if let What::Received { recipients, .. } = &mut told.what
            && recipients.len() > RECIPIENTS
        {
            let all = std::mem::take(recipients);
            for some in all.chunks(RECIPIENTS) {
                if let What::Received { recipients, .. } = &mut told.what {
                    some.clone_into(recipients);
                }
                self.line(&told);
            }
            return;
        }
        self.line(&told);
    }

    fn line(&mut self, told: &Told) {
        let before = self.buffer.len();
        let written = serde_json::to_writer(&mut self.buffer, told);
        if written.is_err() || self.buffer.len() - before > LONGEST {
            self.buffer.truncate(before);
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.buffer.push(b'\n');
        self.lines += 1;
        if self.buffer.len() >= WRITE {
            self.write();
        }
    }

    /// Writes the buffer with one write.
    fn write(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let result = self.append();
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.refused) {
                    tracing::warn!(folder = %self.folder.display(), "the stories of messages are written again");
                }
            }
            Err(error) => {
                // What is half written ends where the file is opened again.
                self.file = None;
                self.shared.lost.fetch_add(self.lines, Ordering::Relaxed);
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::error!(folder = %self.folder.display(), %error, "the stories of messages are not written; mail goes on, lines are lost");
                }
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(2 * WRITE);
        self.lines = 0;
    }

    fn append(&mut self) -> io::Result<()> {
        let path = self.folder.join(name(self.today));
        let mut file = match self.file.take() {
            Some(file) if is_still(&file, &path)? => file,
            _ => open_page(&path)?,
        };
        file.write_all(&self.buffer)?;
        self.file = Some(file);
        Ok(())
    }

    /// Removes the files whose day is over for longer than they are kept.
    fn remove_old(&self) {
        let keep = self.shared.keep.load(Ordering::Relaxed);
        let keep = SignedDuration::from_secs(i64::try_from(keep).unwrap_or(i64::MAX));
        let Ok(oldest) = (self.clock)().timestamp().checked_sub(keep) else {
            return;
        };
        let oldest = oldest.to_zoned(TimeZone::UTC).date();
        for (day, path) in days(&self.folder).unwrap_or_default() {
            if day < oldest
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(file = %path.display(), %error, "an old story file is not removed");
            }
        }
    }
}

/// Opens the file of a day. A line that was left half written is ended.
fn open_page(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let length = file.metadata()?.len();
    if length > 0 {
        let mut last = [b'\n'];
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// Whether an open file still has that name: somebody may have removed or replaced it.
fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    let here = file.metadata()?;
    Ok(
        fs::metadata(path)
            .is_ok_and(|there| there.ino() == here.ino() && there.dev() == here.dev()),
    )
}

fn day(clock: &Clock) -> Date {
    clock().timestamp().to_zoned(TimeZone::UTC).date()
}

fn name(day: Date) -> String {
    day.strftime("%Y%m%d.jsonl").to_string()
}

/// The files of days, oldest first.
fn days(folder: &Path) -> io::Result<Vec<(Date, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut days = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_name().and_then(|name| name.to_str());
        if let Some(day) = stem.and_then(|name| Date::strptime("%Y%m%d.jsonl", name).ok()) {
            days.push((day, path));
        }
    }
    days.sort();
    Ok(days)
}

/// `2024-03-05T10:00:00.123Z`, for what is shown of a story.
pub fn moment(milliseconds: u64) -> String {
    let at = i64::try_from(milliseconds).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX);
    format!("{at:.3}")
}

#[cfg(test)]
mod tests;
