//! Larger bodies: the thread that appends them, what lives in which segment, and the thread that
//! gives room back.
//!
//! A body is appended and synced here; only then its message goes on to the writer of the
//! database. A segment in which nothing lives is unlinked: who reads from it keeps its handle. Of
//! one in which little lives the rest is copied, a few megabytes at a time.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galerne_core::content::{Content, Patch};
use galerne_core::queue::StoreFault;

use super::io_fault;
use super::segments::{self, AppendError, Body, Spot, Writer};
use super::sqlite::Shared;
use super::tables::{Rows, Stored};
use super::waiting::{Accepted, Answer, Job};

/// What is synced at once, at most.
const MOST_JOBS: usize = 256;
const MOST_OCTETS: u64 = 32 * 1024 * 1024;
/// How long to wait before a new file is tried after a failure; doubled up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// What is copied in one step.
const STEP: u64 = 4 * 1024 * 1024;

/// Work of the thread that appends.
pub enum BodyJob {
    /// `rows.body` is to be set.
    Accept {
        rows: Rows,
        content: Content,
        patch: Patch,
        answer: Answer<Accepted>,
    },
    Copy {
        no: u64,
        spot: Spot,
        answer: SyncSender<Option<Spot>>,
    },
}

/// What lives where.
#[derive(Default)]
pub struct Ledger {
    segments: Mutex<HashMap<u64, Segment>>,
    reclaim: Mutex<Option<Sender<u64>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    records: u64,
    octets: u64,
    length: u64,
    /// Nothing is appended any more.
    sealed: bool,
    /// The thread that gives room back was told.
    told: bool,
}

impl Segment {
    fn is_worth_it(&self) -> bool {
        self.sealed && !self.told && (self.records == 0 || self.octets * 4 < self.length)
    }
}

impl Ledger {
    fn segments(&self) -> MutexGuard<'_, HashMap<u64, Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is told when room can be given back; `None`: nobody any more.
    pub fn tell(&self, reclaim: Option<Sender<u64>>) {
        *self.reclaim.lock().unwrap_or_else(PoisonError::into_inner) = reclaim;
        let all: Vec<_> = self.segments().keys().copied().collect();
        all.into_iter().for_each(|number| self.look(number));
    }

    /// A segment as it was found at the start.
    pub fn found(&self, number: u64, records: u64, octets: u64, length: u64) {
        let segment = Segment {
            records,
            octets,
            length,
            sealed: true,
            told: false,
        };
        self.segments().insert(number, segment);
    }

    /// Where the last body of a segment ends; `None`: there is none.
    pub fn end(&self, number: u64) -> Option<u64> {
        self.segments().get(&number).map(|segment| segment.length)
    }

    /// The highest number of all.
    pub fn highest(&self) -> u64 {
        self.segments().keys().copied().max().unwrap_or(0)
    }

    /// Whether no body lives in any segment.
    pub fn is_empty(&self) -> bool {
        self.segments().values().all(|segment| segment.records == 0)
    }

    fn appended(&self, spot: &Spot) {
        let mut segments = self.segments();
        let segment = segments.entry(spot.segment).or_default();
        segment.records += 1;
        segment.octets += spot.room();
        segment.length = segment.length.max(spot.end());
    }

    fn sealed(&self, number: u64) {
        self.segments().entry(number).or_default().sealed = true;
        self.look(number);
    }

    /// A body is not needed any more; its row is gone, or was never there.
    pub fn gone(&self, spot: &Spot) {
        if let Some(segment) = self.segments().get_mut(&spot.segment) {
            segment.records = segment.records.saturating_sub(1);
            segment.octets = segment.octets.saturating_sub(spot.room());
        }
        self.look(spot.segment);
    }

    fn look(&self, number: u64) {
        let reclaim = self.reclaim.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reclaim) = &*reclaim else {
            return;
        };
        if let Some(segment) = self.segments().get_mut(&number)
            && segment.is_worth_it()
        {
            segment.told = reclaim.send(number).is_ok();
        }
    }

    /// Forgets a segment in which nothing lives; false: something does.
    fn forget_dead(&self, number: u64) -> bool {
        let mut segments = self.segments();
        let dead = segments
            .get(&number)
            .is_some_and(|segment| segment.sealed && segment.records == 0);
        if dead {
            segments.remove(&number);
        }
        dead
    }

    fn look_again(&self, number: u64) {
        if let Some(segment) = self.segments().get_mut(&number) {
            segment.told = false;
        }
    }
}

/// The thread that appends.
pub struct Appender {
    shared: Arc<Shared>,
    next_segment: u64,
    writer: Option<Writer>,
    pause: Duration,
}

/// A job whose body is in the file.
enum Appended {
    Accept(u64, Rows, Answer<Accepted>),
    Copy(Spot, SyncSender<Option<Spot>>),
}

impl Appender {
    pub fn new(shared: Arc<Shared>, next_segment: u64) -> Appender {
        Appender {
            shared,
            next_segment,
            writer: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Until the other end of `jobs` is dropped.
    pub fn run(mut self, jobs: &Receiver<BodyJob>) {
        loop {
            let first = match self.shared.is_body_fault() {
                false => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => jobs.recv_timeout(self.pause),
            };
            match first {
                Ok(first) => self.batch(first, jobs),
                Err(RecvTimeoutError::Timeout) => {
                    self.pause = (self.pause * 2).min(LAST_PAUSE);
                    self.try_again();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// After a failure: a new file is well when it can be made and synced.
    fn try_again(&mut self) {
        match self.writer() {
            Ok(_) => {
                self.pause = FIRST_PAUSE;
                self.shared.set_body_fault(None);
                tracing::info!("the queue can take large messages again");
            }
            Err(error) => {
                let fault = io_fault("a new segment", &error);
                self.shared.set_body_fault(Some(fault));
            }
        }
    }

    fn batch(&mut self, first: BodyJob, jobs: &Receiver<BodyJob>) {
        let mut waiting = Some(first);
        let (mut appended, mut octets) = (Vec::new(), 0);
        let mut fault = None;
        while let Some(job) = waiting.take() {
            if let Some(fault) = &fault {
                refuse(job, fault);
            } else {
                match self.append(job) {
                    Ok(Some((spot, job))) => {
                        octets += spot.room();
                        appended.push((spot, job));
                    }
                    Ok(None) => {}
                    Err(found) => fault = Some(found),
                }
            }
            if appended.len() < MOST_JOBS && octets < MOST_OCTETS {
                waiting = jobs.try_recv().ok();
            }
        }
        let synced = match fault {
            None if appended.is_empty() => return,
            None => self.sync(),
            Some(fault) => Err(fault),
        };
        match synced {
            Ok(()) => appended
                .into_iter()
                .for_each(|(s, job)| self.pass_on(s, job)),
            Err(fault) => self.failed(appended, &fault),
        }
    }

    fn append(&mut self, job: BodyJob) -> Result<Option<(Spot, Appended)>, StoreFault> {
        let shared = self.shared.clone();
        let writer = match self.writer() {
            Ok(writer) => writer,
            Err(error) => {
                let fault = io_fault("a new segment", &error);
                shared.set_body_fault(Some(fault.clone()));
                refuse(job, &fault);
                return Err(fault);
            }
        };
        shared.failpoints.at("queue.before_append");
        let spot = match &job {
            BodyJob::Accept { content, patch, .. } => {
                let no = shared.next_no();
                writer.append(no, content, patch).map(|spot| (no, spot))
            }
            BodyJob::Copy { no, spot, .. } => Body::open(&shared.folder, *no, spot)
                .map_err(AppendError::Source)
                .and_then(|body| writer.copy(*no, &body, *spot))
                .map(|copy| (*no, copy)),
        };
        shared.failpoints.at("queue.after_append");
        match (spot, job) {
            (Ok((no, spot)), BodyJob::Accept { rows, answer, .. }) => {
                shared.ledger.appended(&spot);
                Ok(Some((spot, Appended::Accept(no, rows, answer))))
            }
            (Ok((_, spot)), BodyJob::Copy { answer, .. }) => {
                shared.ledger.appended(&spot);
                Ok(Some((spot, Appended::Copy(spot, answer))))
            }
            (Err(AppendError::Source(error)), job) => {
                // The file is well; this content is not.
                refuse(job, &StoreFault::Broken(format!("a body: {error}")));
                Ok(None)
            }
            (Err(AppendError::File(error)), job) => {
                let fault = io_fault("a segment", &error);
                shared.set_body_fault(Some(fault.clone()));
                refuse(job, &fault);
                Err(fault)
            }
        }
    }

    fn sync(&mut self) -> Result<(), StoreFault> {
        self.shared.failpoints.at("queue.before_segment_sync");
        if self.shared.options.sync
            && let Some(writer) = &self.writer
        {
            writer.sync().map_err(|e| io_fault("a segment", &e))?;
        }
        self.shared.failpoints.at("queue.after_segment_sync");
        Ok(())
    }

    fn pass_on(&self, spot: Spot, job: Appended) {
        match job {
            Appended::Accept(no, mut rows, answer) => {
                rows.body = Stored::Segment(spot);
                let job = Job::Accept {
                    no: Some(no),
                    rows,
                    answer,
                };
                if let Err(back) = self.shared.waiting.push_or_back(job) {
                    let (fault, job) = *back;
                    self.shared.ledger.gone(&spot);
                    job.refuse(&fault);
                }
            }
            Appended::Copy(spot, answer) => {
                if answer.send(Some(spot)).is_err() {
                    self.shared.ledger.gone(&spot);
                }
            }
        }
    }

    /// The file is not written again; what was appended is nothing.
    fn failed(&mut self, appended: Vec<(Spot, Appended)>, fault: &StoreFault) {
        tracing::error!(%fault, "the queue takes nothing until a new segment can be made");
        self.shared.set_body_fault(Some(fault.clone()));
        self.seal();
        for (spot, job) in appended {
            self.shared.ledger.gone(&spot);
            match job {
                Appended::Accept(_, _, answer) => drop(answer.send(Err(fault.clone()))),
                Appended::Copy(_, answer) => drop(answer.send(None)),
            }
        }
    }

    fn seal(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.shared.ledger.sealed(writer.number());
        }
    }

    fn writer(&mut self) -> std::io::Result<&mut Writer> {
        let full_at = self.shared.options.segment;
        if let Some(writer) = self.writer.as_ref().filter(|w| w.end() >= full_at) {
            // It may hold bodies of this very batch.
            if self.shared.options.sync {
                writer.sync()?;
            }
            self.seal();
        }
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let number = self.next_segment;
                self.next_segment += 1;
                let made = Writer::create(&self.shared.folder, number);
                if made.is_err() {
                    // What is left of it goes at the next start at the latest.
                    let _ = std::fs::remove_file(segments::path(&self.shared.folder, number));
                }
                made?
            }
        };
        Ok(self.writer.insert(writer))
    }
}

fn refuse(job: BodyJob, fault: &StoreFault) {
    // Who does not wait any more needs no answer.
    match job {
        BodyJob::Accept { answer, .. } => drop(answer.send(Err(fault.clone()))),
        BodyJob::Copy { answer, .. } => drop(answer.send(None)),
    }
}

/// Gives room back, until the other end of `numbers` is dropped.
pub fn reclaim(shared: &Shared, numbers: &Receiver<u64>, bodies: &Sender<BodyJob>) {
    while let Ok(number) = numbers.recv() {
        if !shared.ledger.forget_dead(number) {
            shared.ledger.look_again(number);
            if let Err(why) = compact(shared, number, bodies) {
                tracing::warn!(segment = number, %why, "a segment cannot be made smaller");
                continue;
            }
            if !shared.ledger.forget_dead(number) {
                continue;
            }
        }
        if let Err(error) = std::fs::remove_file(segments::path(&shared.folder, number)) {
            tracing::warn!(segment = number, %error, "a segment cannot be removed");
        }
    }
}

/// Copies what lives in a segment to the one that is being written.
fn compact(shared: &Shared, number: u64, bodies: &Sender<BodyJob>) -> Result<(), String> {
    let mut after = None;
    loop {
        let records = shared.readers.records(number, after, STEP);
        let records = records.map_err(|fault| fault.to_string())?;
        let Some(&(last, _)) = records.last() else {
            return Ok(());
        };
        after = Some(last);
        if shared.is_closing() {
            return Err("the queue is closed".to_owned());
        }
        let mut moves = Vec::new();
        for (no, spot) in records {
            moves.extend(copy(bodies, no, spot).map(|to| (no, spot, to)));
        }
        let (answer, done) = futures_channel::oneshot::channel();
        let copies: Vec<_> = moves.iter().map(|&(_, _, to)| to).collect();
        if let Err(fault) = shared.waiting.push(Job::Relocate { moves, answer }) {
            copies.iter().for_each(|copy| shared.ledger.gone(copy));
            return Err(fault.to_string());
        }
        match super::waiting::wait(done) {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return Err(fault.to_string()),
            Err(_) => return Err("the queue is closed".to_owned()),
        }
    }
}

/// `None`: it cannot be copied, and stays where it is; a check tells.
fn copy(bodies: &Sender<BodyJob>, no: u64, spot: Spot) -> Option<Spot> {
    let (answer, copied) = sync_channel(1);
    bodies.send(BodyJob::Copy { no, spot, answer }).ok()?;
    copied.recv().ok().flatten()
}
