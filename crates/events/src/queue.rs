//! The way from many callers to one writer: bounded, and never waiting on the side of mail.
//!
//! A push is a lock and a move. The writer is woken when it was idle, or when much waits; in
//! between it collects for a moment, so that busy times cost one wake-up per batch.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Records that may wait; beyond, they are lost and counted.
const MOST: usize = 32_768;
/// So many are worth waking the writer before its moment is over.
const MANY: usize = 2_048;
/// The writer collects this long.
pub(crate) const MOMENT: Duration = Duration::from_millis(100);
/// An idle writer looks at the calendar this often.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    served: Condvar,
}

#[derive(Debug)]
struct State<T> {
    records: Vec<T>,
    idle: bool,
    lost: u64,
    /// Flushes asked for, and how many of them are done.
    asked: u64,
    done: u64,
    stopping: bool,
    stopped: bool,
}

/// What the writer takes at once.
pub(crate) struct Batch {
    pub lost: u64,
    pub last: bool,
    asked: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            state: Mutex::new(State {
                records: Vec::new(),
                idle: false,
                lost: 0,
                asked: 0,
                done: 0,
                stopping: false,
                stopped: false,
            }),
            wake: Condvar::new(),
            served: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Hands over records, all or none, and says whether they are taken. Never waits for the disk.
    pub(crate) fn push(&self, records: impl IntoIterator<Item = T>) -> bool {
        let mut state = self.lock();
        if state.stopped || state.records.len() >= MOST {
            state.lost += 1;
            return false;
        }
        let before = state.records.len();
        state.records.extend(records);
        let many = before < MANY && state.records.len() >= MANY;
        if state.idle || many {
            state.idle = false;
            drop(state);
            self.wake.notify_one();
        }
        true
    }

    /// Counts a record that is not handed over.
    pub(crate) fn lose(&self) {
        self.lock().lost += 1;
    }

    /// Waits until what was pushed before is written.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        state.asked += 1;
        let mine = state.asked;
        self.wake.notify_one();
        while state.done < mine && !state.stopped {
            state = self
                .served
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Asks the writer to write what waits and end.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }

    /// For the writer: waits for something to do and takes all of it into `records`, which must
    /// be empty. An empty batch is a look at the calendar.
    pub(crate) fn take(&self, records: &mut Vec<T>) -> Batch {
        let urgent = |s: &State<T>| s.stopping || s.asked > s.done;
        let mut state = self.lock();
        if state.records.is_empty() && !urgent(&state) {
            state.idle = true;
            let wait = self
                .wake
                .wait_timeout_while(state, IDLE, |s| s.idle && !urgent(s));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            state.idle = false;
        }
        if !state.records.is_empty() {
            let wait = self
                .wake
                .wait_timeout_while(state, MOMENT, |s| s.records.len() < MANY && !urgent(s));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.records, records);
        let lost = std::mem::take(&mut state.lost);
        Batch {
            lost,
            last: state.stopping,
            asked: state.asked,
        }
    }

    /// For the writer: the batch stands on disk.
    pub(crate) fn written(&self, batch: &Batch) {
        let mut state = self.lock();
        state.done = batch.asked;
        state.stopped = batch.last;
        drop(state);
        self.served.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
