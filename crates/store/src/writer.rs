//! One thread that appends lines to CSV files, so that no async thread ever waits for a disk.
//!
//! A line is one write with `O_APPEND`: another process appending to the same file cannot cut it.
//! What cannot be written is said once, kept, and tried again; the caller is never held up.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::table::Header;

/// Lines that may wait for the thread.
const WAITING: usize = 8192;
/// Lines kept because a disk refused them.
const REFUSED: usize = 8192;
/// Between two tries of what a disk refused.
const AGAIN: Duration = Duration::from_secs(5);

/// One line to append, and the header of the file if it has to be made.
pub(crate) struct Line {
    pub path: PathBuf,
    pub columns: &'static [&'static str],
    /// The column without which a file that stands already is not touched.
    pub key: &'static str,
    /// Values by column. Empty: only see that the file exists.
    pub values: Vec<(&'static str, String)>,
    /// Told once the line stands in the file.
    pub done: Option<Box<dyn FnOnce() + Send>>,
}

enum Job {
    Append(Line),
    Flush(SyncSender<()>),
}

/// The thread and the way to it. Dropping it writes what waits and ends the thread.
pub(crate) struct Writer {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let (jobs, work) = mpsc::sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&work))?;
        Ok(Writer {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Hands over a line. Never waits: a line for which there is no room is lost, and said.
    pub(crate) fn append(&self, line: Line) {
        let Some(jobs) = &self.jobs else { return };
        match jobs.try_send(Job::Append(line)) {
            Ok(()) => {}
            Err(
                TrySendError::Full(Job::Append(line))
                | TrySendError::Disconnected(Job::Append(line)),
            ) => {
                tracing::error!(file = %line.path.display(), "line not written: too many are waiting for the disk");
            }
            Err(_) => {}
        }
    }

    /// Waits until every line handed over so far was tried.
    pub(crate) fn flush(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(Job::Flush(done)).is_ok())
        {
            let _ = wait.recv();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

fn run(work: &Receiver<Job>) {
    let mut refused: VecDeque<Line> = VecDeque::new();
    loop {
        let job = if refused.is_empty() {
            work.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            work.recv_timeout(AGAIN)
        };
        match job {
            Ok(Job::Append(line)) if refused.is_empty() => keep(&mut refused, line),
            // The order within a file stays: what came before is tried first.
            Ok(Job::Append(line)) if refused.len() < REFUSED => refused.push_back(line),
            Ok(Job::Append(line)) => {
                tracing::error!(file = %line.path.display(), "line not written: the disk has refused too many");
            }
            Ok(Job::Flush(done)) => {
                retry(&mut refused);
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => retry(&mut refused),
            Err(RecvTimeoutError::Disconnected) => {
                retry(&mut refused);
                if !refused.is_empty() {
                    tracing::error!(
                        lines = refused.len(),
                        "lines lost: they could not be written before the end"
                    );
                }
                return;
            }
        }
    }
}

/// Writes a line, or keeps it and says why.
fn keep(refused: &mut VecDeque<Line>, mut line: Line) {
    match append(&line) {
        Ok(()) => {
            if let Some(done) = line.done.take() {
                done();
            }
        }
        Err(error) => {
            tracing::error!(file = %line.path.display(), %error, "line not written; trying again");
            refused.push_back(line);
        }
    }
}

/// Tries what was refused, each once.
fn retry(refused: &mut VecDeque<Line>) {
    for _ in 0..refused.len() {
        let Some(mut line) = refused.pop_front() else {
            return;
        };
        match append(&line) {
            Ok(()) => {
                if let Some(done) = line.done.take() {
                    done();
                }
            }
            Err(_) => refused.push_back(line),
        }
    }
}

/// Appends a line, after the header row if the file is new or empty.
pub(crate) fn append(line: &Line) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(&line.path)?;
    // Another writer between the look at the end and the line would part them. Where there are no
    // locks it is as it was.
    let _ = file.lock();
    let (start, last) = ends(&mut file)?;
    let mut octets = Vec::with_capacity(256);
    let header = match Header::read(&start) {
        Some(header) => header,
        None => {
            let header = Header::new(line.columns);
            octets = header.row()?;
            header
        }
    };
    if !line.values.is_empty() {
        if header.column(line.key).is_none() {
            let message = format!("the file has no column `{}`", line.key);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if last.is_some_and(|octet| octet != b'\n') && octets.is_empty() {
            octets.push(b'\n');
        }
        octets.extend(header.line(&line.values)?);
    }
    write_whole(&mut file, &octets)
}

/// The first 4 KiB of a file and its last octet.
fn ends(file: &mut File) -> io::Result<(Vec<u8>, Option<u8>)> {
    let mut start = Vec::new();
    Read::by_ref(file).take(4096).read_to_end(&mut start)?;
    let length = file.metadata()?.len();
    if length <= start.len() as u64 {
        let last = start.last().copied();
        return Ok((start, last));
    }
    file.seek(SeekFrom::Start(length - 1))?;
    let mut last = [0];
    let count = file.read(&mut last)?;
    Ok((start, (count == 1).then_some(last[0])))
}

/// One write. If the disk takes only a part of it, the part is taken back.
fn write_whole(file: &mut File, octets: &[u8]) -> io::Result<()> {
    if octets.is_empty() {
        return Ok(());
    }
    let before = file.metadata()?.len();
    let written = file.write(octets)?;
    if written == octets.len() {
        return Ok(());
    }
    if file.metadata()?.len() == before + written as u64 {
        file.set_len(before)?;
    }
    Err(io::Error::new(
        io::ErrorKind::WriteZero,
        "only a part could be written",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: PathBuf, email: &str) -> Line {
        Line {
            path,
            columns: &["email", "date"],
            key: "email",
            values: vec![("email", email.into()), ("date", "1".into())],
            done: None,
        }
    }

    #[test]
    fn conf_63_an_append_fits_what_a_person_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        append(&line(path.clone(), "a@x")).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "email,date\na@x,1\n"
        );

        std::fs::write(&path, "memo;email\nhand;b@x").unwrap();
        append(&line(path.clone(), "a@x")).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "memo;email\nhand;b@x\n;a@x\n"
        );

        std::fs::write(&path, "something else\n").unwrap();
        assert!(append(&line(path.clone(), "a@x")).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else\n");
    }

    #[test]
    fn conf_63_many_writers_never_cut_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        append(&line(path.clone(), "first@x")).unwrap();
        let hands: Vec<_> = (0..4)
            .map(|hand| {
                let path = path.clone();
                std::thread::spawn(move || {
                    for n in 0..50 {
                        append(&line(
                            path.clone(),
                            &format!("{hand}-{n}@{}", "x".repeat(200)),
                        ))
                        .unwrap();
                    }
                })
            })
            .collect();
        hands.into_iter().for_each(|h| h.join().unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 202);
        assert!(
            text.lines()
                .skip(2)
                .all(|l| l.ends_with(",1") && l.len() > 200)
        );
    }

    #[test]
    fn conf_63_a_refused_line_is_written_once_the_disk_allows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("a.csv");
        let writer = Writer::start("test").unwrap();
        writer.append(line(path.clone(), "a@x"));
        writer.append(line(path.clone(), "b@x"));
        writer.flush();
        assert!(!path.exists());
        std::fs::create_dir(folder.path().join("missing")).unwrap();
        writer.flush();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "email,date\na@x,1\nb@x,1\n"
        );
    }
}
