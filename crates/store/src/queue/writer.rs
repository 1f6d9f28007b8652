//! The only writer of `queue.db`: everything that waits goes into one transaction, and is answered
//! once that is on stable storage (QUEUE-7).
//!
//! After a failed write the connection is given up and a new one opened (QUEUE-8). Everything in
//! the failed transaction is refused; if its messages turn up all the same, they are removed again
//! before anything else is taken. What nobody waited for is kept and written then.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use galerne_core::queue::{Amount, Change, StoreFault};
use rusqlite::Connection;

use super::segments::Spot;
use super::sql_fault;
use super::sqlite::{Shared, open_database};
use super::tables::{Delta, Statements, Stored};
use super::waiting::{Accepted, Answer, Job};

/// Frames in the log at which they are moved into the database: 32 MiB.
const CHECKPOINT_AT: u32 = 8192;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

thread_local! {
    /// Frames in the log after the last commit of this thread.
    static FRAMES: Cell<u32> = const { Cell::new(0) };
}

/// The thread that writes.
pub struct Writer {
    shared: Arc<Shared>,
    /// What a failed transaction was to change and nobody waits for.
    kept: Vec<Change>,
    /// Messages of failed transactions, to be removed if they are there.
    failed: Vec<(u64, Option<Spot>)>,
    /// What is to be told that it failed, once everybody sees that the queue takes nothing.
    refused: Vec<Job>,
    has_failed: bool,
    pause: Duration,
}

/// What a transaction did, to be told once it is durable.
#[derive(Default)]
struct Done {
    accepted: Vec<(u64, Answer<Accepted>)>,
    changed: Vec<Answer<()>>,
    freed: Vec<Spot>,
    delta: Delta,
}

impl Writer {
    pub fn new(shared: Arc<Shared>) -> Writer {
        Writer {
            shared,
            kept: Vec::new(),
            failed: Vec::new(),
            refused: Vec::new(),
            has_failed: false,
            pause: FIRST_PAUSE,
        }
    }

    /// Until the line is closed and empty.
    pub fn run(mut self, connection: Connection) {
        let mut connection = Some(connection);
        loop {
            let opened = match connection.take() {
                Some(connection) => Ok(connection),
                None => open_database(&self.shared.folder, &self.shared.options),
            };
            let ended = opened.and_then(|connection| {
                self.serve(&connection)?;
                // The connection ends here, before the readers: the last one makes the database whole.
                Ok(())
            });
            match ended {
                Ok(()) => return,
                Err(fault) => self.refuse(fault),
            }
            if self.shared.waiting.pause(self.pause) {
                if !self.kept.is_empty() {
                    tracing::error!(
                        changes = self.kept.len(),
                        "the queue ends without having written what was decided last"
                    );
                }
                return;
            }
            self.pause = (self.pause * 2).min(LAST_PAUSE);
        }
    }

    fn refuse(&mut self, fault: StoreFault) {
        self.has_failed = true;
        tracing::error!(%fault, "the queue takes nothing until it can be written again");
        let waiting = self.shared.waiting.refuse(fault.clone());
        for job in self.refused.drain(..) {
            job.refuse(&fault);
        }
        for job in waiting {
            if let Job::Accept { rows, .. } = &job
                && let Stored::Segment(spot) = &rows.body
            {
                self.shared.ledger.gone(spot);
            }
            job.refuse(&fault);
        }
        if matches!(fault, StoreFault::Broken(_)) {
            self.shared.readers.close();
        }
    }

    fn serve(&mut self, connection: &Connection) -> Result<(), StoreFault> {
        let prepared = set_up(connection).and_then(|()| Statements::prepare(connection));
        let mut statements = prepared.map_err(|error| sql_fault(&error))?;
        self.catch_up(&mut statements)?;
        self.shared.waiting.open();
        while let Some(jobs) = self.shared.waiting.take() {
            self.write(&mut statements, jobs)?;
            self.pause = FIRST_PAUSE;
            if FRAMES.get() >= CHECKPOINT_AT {
                self.checkpoint(connection)?;
            }
        }
        Ok(())
    }

    /// Writes what a failed transaction left to do. This also tries whether anything can be written.
    fn catch_up(&mut self, statements: &mut Statements<'_>) -> Result<(), StoreFault> {
        if !self.has_failed {
            return Ok(());
        }
        let mut done = Done::default();
        let caught_up = (|| {
            statements.begin()?;
            // The failed transaction may stand in the log all the same.
            let (messages, deliveries) = statements.counters()?;
            self.shared.set_amount(Amount {
                messages,
                deliveries,
            });
            // The spots of the failed are told to the ledger below, whether there are rows or not.
            let mut ignored = Vec::new();
            for (no, _) in &self.failed {
                let delta = statements.remove(*no, &mut ignored)?;
                done.count(delta);
            }
            for change in &self.kept {
                let delta = statements.change(change, true, &mut done.freed)?;
                done.count(delta);
            }
            self.end(statements, &mut done)
        })();
        if let Err(error) = caught_up {
            let _ = statements.rollback();
            return Err(sql_fault(&error));
        }
        let spots = self.failed.drain(..).filter_map(|(_, spot)| spot);
        done.freed.extend(spots);
        self.kept.clear();
        self.has_failed = false;
        tracing::info!("the queue can be written again");
        self.tell(done);
        Ok(())
    }

    fn write(&mut self, statements: &mut Statements<'_>, jobs: Vec<Job>) -> Result<(), StoreFault> {
        let mut done = Done::default();
        match self.transaction(statements, &jobs, &mut done) {
            Ok(numbers) => {
                self.shared.failpoints.at("queue.before_answer");
                done.take_answers(jobs, numbers);
                self.tell(done);
                Ok(())
            }
            Err((error, numbers)) => {
                // Often there is nothing to roll back any more, and the connection is given up.
                let _ = statements.rollback();
                let fault = sql_fault(&error);
                self.keep(jobs, numbers);
                Err(fault)
            }
        }
    }

    /// Gives the numbers of the messages, in order.
    fn transaction(
        &self,
        statements: &mut Statements<'_>,
        jobs: &[Job],
        done: &mut Done,
    ) -> Result<Vec<u64>, (rusqlite::Error, Vec<u64>)> {
        let mut numbers = Vec::new();
        let mut all = || {
            statements.begin()?;
            for job in jobs {
                self.apply(statements, job, done, &mut numbers)?;
            }
            self.end(statements, done)
        };
        match all() {
            Ok(()) => Ok(numbers),
            Err(error) => Err((error, numbers)),
        }
    }

    fn apply(
        &self,
        statements: &mut Statements<'_>,
        job: &Job,
        done: &mut Done,
        numbers: &mut Vec<u64>,
    ) -> rusqlite::Result<()> {
        match job {
            Job::Accept { no, rows, .. } => {
                let no = no.unwrap_or_else(|| self.shared.next_no());
                numbers.push(no);
                done.count(statements.insert(no, rows)?);
            }
            Job::Change { changes, .. } | Job::Soon(changes) => {
                let has_large = !self.shared.ledger.is_empty();
                for change in changes {
                    let delta = statements.change(change, has_large, &mut done.freed)?;
                    done.count(delta);
                }
            }
            Job::Forget(no) => {
                let delta = statements.remove(*no, &mut done.freed)?;
                done.count(delta);
            }
            Job::Remove { messages, .. } => {
                for no in messages {
                    let delta = statements.remove(*no, &mut done.freed)?;
                    done.count(delta);
                }
            }
            Job::Recount { .. } => {
                let amount = self.shared.amount();
                let (messages, deliveries) = statements.count()?;
                done.delta = Delta {
                    messages: messages - amount.messages.cast_signed(),
                    deliveries: deliveries - amount.deliveries.cast_signed(),
                };
            }
            Job::Relocate { moves, .. } => {
                for (no, from, to) in moves {
                    let moved = statements.relocate(*no, from, to)?;
                    done.freed.push(if moved { *from } else { *to });
                }
            }
        }
        Ok(())
    }

    /// Counts, and commits.
    fn end(&self, statements: &mut Statements<'_>, done: &mut Done) -> rusqlite::Result<()> {
        let amount = self.shared.amount();
        let (messages, deliveries) = done.delta.added_to(&amount);
        statements.meta(self.shared.last_no() + 1, messages, deliveries)?;
        self.shared.failpoints.at("queue.before_commit");
        statements.commit()?;
        self.shared.failpoints.at("queue.after_commit");
        Ok(())
    }

    /// It is durable: everybody is told.
    fn tell(&self, done: Done) {
        let amount = self.shared.amount();
        let (messages, deliveries) = done.delta.added_to(&amount);
        self.shared.set_amount(Amount {
            messages,
            deliveries,
        });
        for (no, answer) in done.accepted {
            self.shared.failpoints.at("queue.between_answers");
            let accepted = Accepted::new(no, self.shared.waiting.clone());
            // Nobody there: the message is taken back when this is dropped.
            drop(answer.send(Ok(accepted)));
        }
        for answer in done.changed {
            drop(answer.send(Ok(())));
        }
        for spot in &done.freed {
            self.shared.ledger.gone(spot);
        }
    }

    /// It failed: what nobody waits for is kept.
    fn keep(&mut self, jobs: Vec<Job>, numbers: Vec<u64>) {
        let mut numbers = numbers.into_iter();
        for job in jobs {
            match &job {
                Job::Accept { rows, .. } => {
                    let spot = match &rows.body {
                        Stored::Segment(spot) => Some(*spot),
                        Stored::Row(_) => None,
                    };
                    match (numbers.next(), spot) {
                        (Some(no), spot) => self.failed.push((no, spot)),
                        (None, Some(spot)) => self.shared.ledger.gone(&spot),
                        (None, None) => {}
                    }
                }
                Job::Soon(changes) => self.kept.extend(changes.iter().cloned()),
                Job::Forget(no) => self.failed.push((*no, None)),
                _ => {}
            }
            self.refused.push(job);
        }
    }

    /// Moves the log into the database, so that it begins anew.
    fn checkpoint(&self, connection: &Connection) -> Result<(), StoreFault> {
        let moved = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        match moved {
            Ok((frames, moved)) => {
                tracing::debug!(frames, moved, "the log of the queue was moved");
                Ok(())
            }
            Err(error) => Err(sql_fault(&error)),
        }
    }
}

impl Done {
    fn count(&mut self, delta: Delta) {
        self.delta.messages += delta.messages;
        self.delta.deliveries += delta.deliveries;
    }

    fn take_answers(&mut self, jobs: Vec<Job>, numbers: Vec<u64>) {
        let mut numbers = numbers.into_iter();
        for job in jobs {
            match job {
                Job::Accept { answer, .. } => {
                    self.accepted.extend(numbers.next().map(|no| (no, answer)));
                }
                Job::Change { answer, .. }
                | Job::Remove { answer, .. }
                | Job::Recount { answer }
                | Job::Relocate { answer, .. } => self.changed.push(answer),
                Job::Soon(_) | Job::Forget(_) => {}
            }
        }
    }
}

impl Delta {
    fn added_to(&self, amount: &Amount) -> (u64, u64) {
        (
            amount.messages.saturating_add_signed(self.messages),
            amount.deliveries.saturating_add_signed(self.deliveries),
        )
    }
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    FRAMES.set(0);
    // Takes the place of SQLite's own checkpoints, whose errors nobody would hear of.
    connection.wal_hook(Some(|_, frames| {
        FRAMES.set(u32::try_from(frames).unwrap_or(0));
        Ok(())
    }));
    Ok(())
}
