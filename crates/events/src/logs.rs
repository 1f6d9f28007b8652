//! The log files: what a module says and one line per transaction and delivery (CONF-87 to
//! CONF-90, RELAY-82, CONF-69).
//!
//! The caller's part is to copy the values that are logged; formatting, files and the disk are
//! the business of one thread. When that thread cannot keep up or the disk refuses, lines are
//! lost and counted, and mail goes on.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use galerne_core::model::{Answer, Settled, Submission};
use galerne_core::ports::{EventSink, Module, Refused, UnknownError};

use crate::files::{Clock, Files};
use crate::queue::Queue;
use crate::record::Record;
use crate::rows;
use crate::text::escape_line;

/// How the logs are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// `[rafale]logage`: days that rotated files are kept; 0: for ever.
    pub age_days: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { age_days: 30 }
    }
}

/// Writes `logs/` and the error logs of groups.
pub struct Logs {
    queue: Arc<Queue<Record>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Logs {
    /// Opens the logs under `root`: its folders `logs/` and `domains/`, made if needed.
    pub fn open(root: &Path, options: Options) -> io::Result<Logs> {
        Self::open_at(root, options, Arc::new(jiff::Zoned::now))
    }

    /// The same at another time.
    pub(crate) fn open_at(root: &Path, options: Options, clock: Clock) -> io::Result<Logs> {
        let files = Files::open(root, options.age_days, clock)?;
        let queue = Arc::new(Queue::default());
        let work = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("galerne-logs".into())
            .spawn(move || run(&work, files))?;
        Ok(Logs {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Waits until everything said so far is in the files. Not for an async thread.
    pub fn flush(&self) {
        self.queue.flush();
    }

    /// Writes what waits and ends the writer; what is said later is dropped. Also done on drop.
    /// Not for an async thread.
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

impl Drop for Logs {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logs")
    }
}

impl EventSink for Logs {
    fn transaction(&self, submission: &Submission, answer: &Answer) {
        self.queue
            .push(rows::transaction(submission, answer, SystemTime::now()));
    }

    fn attempted(&self, submission: &Submission, settled: &[Settled]) {
        self.queue
            .push(rows::attempted(submission, settled, SystemTime::now()));
    }

    fn unknown_error(&self, error: UnknownError) {
        self.queue.push([rows::unknown(&error)]);
    }

    fn refused(&self, refused: Refused) {
        self.queue.push(rows::refused(&refused));
    }

    fn note(&self, module: Module, text: &str) {
        let mut line = String::with_capacity(text.len());
        escape_line(text, &mut line);
        self.queue.push([Record::Line {
            module,
            at: SystemTime::now(),
            text: line,
        }]);
    }
}

fn run(queue: &Queue<Record>, mut files: Files) {
    let mut records = Vec::new();
    let mut lost = 0;
    loop {
        let batch = queue.take(&mut records);
        records.drain(..).for_each(|record| files.take(record));
        if batch.lost > 0 {
            if lost == 0 {
                tracing::error!("the log writer cannot keep up; mail goes on, lines are lost");
            }
            lost += batch.lost;
            let text = format!(
                "{} records lost: the log writer could not keep up",
                batch.lost
            );
            files.take(Record::Line {
                module: Module::Galerne,
                at: files.now(),
                text,
            });
        }
        files.write();
        queue.written(&batch);
        if batch.last {
            if files.refused() > 0 {
                tracing::error!(
                    lines = files.refused(),
                    "log lines were lost because they could not be written"
                );
            }
            return;
        }
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
