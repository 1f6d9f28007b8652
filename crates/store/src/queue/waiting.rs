//! What waits for the writer of `queue.db`, in the order in which it came.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use galerne_core::queue::{Change, MessageNo, StoreFault};

use super::segments::Spot;
use super::tables::{Rows, Stored};

/// How long a change that is not waited for may wait for company.
const SOON: Duration = Duration::from_millis(100);
/// So many of them are not left waiting.
const MANY: usize = 1000;
/// What one transaction takes at most: enough to share a sync, little enough to answer soon.
const MOST_JOBS: usize = 1000;
const MOST_OCTETS: usize = 8 * 1024 * 1024;

/// Where an answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, StoreFault>>;

/// Something to be written.
pub enum Job {
    /// A message; large bodies are synced already, and have their number.
    Accept {
        no: Option<u64>,
        rows: Rows,
        answer: Answer<Accepted>,
    },
    Change {
        changes: Vec<Change>,
        answer: Answer<()>,
    },
    Soon(Vec<Change>),
    /// Nobody took the answer of an accept: as if it had never come.
    Forget(u64),
    /// Away with messages, whatever their deliveries are.
    Remove {
        messages: Vec<u64>,
        answer: Answer<()>,
    },
    /// Counts the rows anew.
    Recount {
        answer: Answer<()>,
    },
    /// Bodies were copied: message, from, to.
    Relocate {
        moves: Vec<(u64, Spot, Spot)>,
        answer: Answer<()>,
    },
}

impl Job {
    /// Whether nobody waits for it.
    fn is_soon(&self) -> bool {
        matches!(self, Job::Soon(_) | Job::Forget(_))
    }

    /// Answers that it was not done. Who does not wait any more needs no answer.
    pub fn refuse(self, fault: &StoreFault) {
        match self {
            Job::Accept { answer, .. } => drop(answer.send(Err(fault.clone()))),
            Job::Change { answer, .. }
            | Job::Remove { answer, .. }
            | Job::Recount { answer }
            | Job::Relocate { answer, .. } => drop(answer.send(Err(fault.clone()))),
            Job::Soon(_) | Job::Forget(_) => {}
        }
    }

    fn octets(&self) -> usize {
        match self {
            Job::Accept { rows, .. } => match &rows.body {
                Stored::Row(body) => rows.json.len() + body.len(),
                Stored::Segment(_) => rows.json.len(),
            },
            // About what the rows take.
            Job::Change { changes, .. } | Job::Soon(changes) => 256 * changes.len(),
            Job::Forget(_) | Job::Recount { .. } => 256,
            Job::Remove { messages, .. } => 256 * messages.len(),
            Job::Relocate { moves, .. } => 256 * moves.len(),
        }
    }
}

/// Waits for a future on this thread, which is not one of the network.
pub fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// The number of a message that was taken over. Who does not take it out takes the message back:
/// a future that is dropped leaves nothing in the queue that nobody knows of.
pub struct Accepted {
    no: u64,
    waiting: Option<Arc<Waiting>>,
}

impl Accepted {
    pub fn new(no: u64, waiting: Arc<Waiting>) -> Accepted {
        Accepted {
            no,
            waiting: Some(waiting),
        }
    }

    pub fn take(mut self) -> MessageNo {
        self.waiting = None;
        MessageNo(self.no)
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            // Closed: then it is still there when the queue is opened again, and goes out.
            let _ = waiting.push(Job::Forget(self.no));
        }
    }
}

/// The line.
#[derive(Default)]
pub struct Waiting {
    line: Mutex<Line>,
    wake: Condvar,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    /// Jobs that somebody waits for.
    urgent: usize,
    soon_since: Option<Instant>,
    /// Why nothing is taken now.
    fault: Option<StoreFault>,
    closed: bool,
}

impl Waiting {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job.
    ///
    /// # Errors
    /// It cannot be done now; what nobody waits for is kept until it can.
    pub fn push(&self, job: Job) -> Result<(), StoreFault> {
        self.push_or_back(job).map_err(|back| back.0)
    }

    /// The same; a job that is not taken comes back.
    pub fn push_or_back(&self, job: Job) -> Result<(), Box<(StoreFault, Job)>> {
        let mut line = self.line();
        if line.closed {
            return Err(Box::new((StoreFault::Closed, job)));
        }
        if let (Some(fault), false) = (&line.fault, job.is_soon()) {
            return Err(Box::new((fault.clone(), job)));
        }
        let first = line.jobs.is_empty();
        line.add(job);
        let many = line.jobs.len() >= MANY;
        if first || many || line.urgent == 1 {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits for work, and takes as much as goes into one transaction; `None`: closed, and nothing
    /// is left.
    pub fn take(&self) -> Option<Vec<Job>> {
        let mut line = self.line();
        loop {
            if line.is_due() {
                return Some(line.cut());
            }
            if line.closed {
                return None;
            }
            line = match line.soon_since {
                Some(since) => {
                    let left = SOON.saturating_sub(since.elapsed());
                    let waited = self.wake.wait_timeout(line, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(line).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// From now on everything is refused, and what waits already is given back.
    pub fn refuse(&self, fault: StoreFault) -> Vec<Job> {
        let mut line = self.line();
        line.fault = Some(fault);
        let (soon, refused): (VecDeque<_>, _) = line.jobs.drain(..).partition(Job::is_soon);
        line.jobs = soon;
        line.urgent = 0;
        refused.into()
    }

    /// Everything is well again.
    pub fn open(&self) {
        self.line().fault = None;
    }

    /// Why nothing is taken now.
    pub fn fault(&self) -> Option<StoreFault> {
        let line = self.line();
        let closed = line.closed.then_some(StoreFault::Closed);
        closed.or_else(|| line.fault.clone())
    }

    /// Waits; true: the line was closed meanwhile.
    pub fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut line = self.line();
        while !line.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.wake.wait_timeout(line, left);
            line = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Takes nothing more; what is in line is still given out.
    pub fn close(&self) {
        self.line().closed = true;
        self.wake.notify_all();
    }
}

impl Line {
    fn add(&mut self, job: Job) {
        if job.is_soon() {
            self.soon_since.get_or_insert_with(Instant::now);
        } else {
            self.urgent += 1;
        }
        self.jobs.push_back(job);
    }

    fn is_due(&self) -> bool {
        let aged = || self.soon_since.is_some_and(|since| since.elapsed() >= SOON);
        let waits = !self.jobs.is_empty();
        waits && (self.urgent > 0 || self.closed || self.jobs.len() >= MANY || aged())
    }

    fn cut(&mut self) -> Vec<Job> {
        let (mut count, mut octets) = (0, 0);
        for job in self.jobs.iter().take(MOST_JOBS) {
            if count > 0 && octets >= MOST_OCTETS {
                break;
            }
            octets += job.octets();
            count += 1;
        }
        let cut: Vec<_> = self.jobs.drain(..count).collect();
        self.urgent -= cut.iter().filter(|job| !job.is_soon()).count();
        if !self.jobs.iter().any(Job::is_soon) {
            self.soon_since = None;
        }
        cut
    }
}
