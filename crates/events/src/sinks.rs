//! Sinks that pass on or remember.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use galerne_core::model::{Answer, Settled, Submission};
use galerne_core::ports::{EventSink, Module, Refused, UnknownError};

/// Tells several sinks, in order.
pub struct Tee(pub Vec<Arc<dyn EventSink>>);

impl EventSink for Tee {
    fn transaction(&self, submission: &Submission, answer: &Answer) {
        self.0
            .iter()
            .for_each(|s| s.transaction(submission, answer));
    }
    fn attempted(&self, submission: &Submission, settled: &[Settled]) {
        self.0.iter().for_each(|s| s.attempted(submission, settled));
    }
    fn unknown_error(&self, error: UnknownError) {
        self.0.iter().for_each(|s| s.unknown_error(error.clone()));
    }
    fn refused(&self, refused: Refused) {
        self.0.iter().for_each(|s| s.refused(refused.clone()));
    }
    fn note(&self, module: Module, text: &str) {
        self.0.iter().for_each(|s| s.note(module, text));
    }
}

/// One thing that happened, as it was told.
#[derive(Clone, Debug)]
pub enum Recorded {
    Transaction(Box<(Submission, Answer)>),
    Attempted(Box<(Submission, Vec<Settled>)>),
    UnknownError(UnknownError),
    Refused(Refused),
    Note(Module, String),
}

/// Remembers the last things that happened, for the demo and for tests.
pub struct Recorder {
    keep: usize,
    records: Mutex<VecDeque<Recorded>>,
}

impl Recorder {
    /// Remembers at most `keep` records; the oldest goes first.
    pub fn new(keep: usize) -> Self {
        Recorder {
            keep,
            records: Mutex::default(),
        }
    }

    /// What happened since the last call, oldest first.
    pub fn take(&self) -> Vec<Recorded> {
        self.lock().drain(..).collect()
    }

    /// A copy of all that is remembered, oldest first.
    pub fn all(&self) -> Vec<Recorded> {
        self.lock().iter().cloned().collect()
    }

    fn push(&self, record: Recorded) {
        let mut records = self.lock();
        if records.len() >= self.keep {
            records.pop_front();
        }
        if self.keep > 0 {
            records.push_back(record);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Recorded>> {
        self.records.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl EventSink for Recorder {
    fn transaction(&self, submission: &Submission, answer: &Answer) {
        self.push(Recorded::Transaction(Box::new((
            submission.clone(),
            answer.clone(),
        ))));
    }
    fn attempted(&self, submission: &Submission, settled: &[Settled]) {
        self.push(Recorded::Attempted(Box::new((
            submission.clone(),
            settled.to_vec(),
        ))));
    }
    fn unknown_error(&self, error: UnknownError) {
        self.push(Recorded::UnknownError(error));
    }
    fn refused(&self, refused: Refused) {
        self.push(Recorded::Refused(refused));
    }
    fn note(&self, module: Module, text: &str) {
        self.push(Recorded::Note(module, text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tee_tells_all_and_a_recorder_forgets_the_oldest() {
        let (first, second) = (Arc::new(Recorder::new(2)), Arc::new(Recorder::new(0)));
        let tee = Tee(vec![first.clone(), second.clone()]);
        ["a", "b", "c"]
            .iter()
            .for_each(|t| tee.note(Module::Galerne, t));
        let texts: Vec<_> = first.all().iter().map(|r| format!("{r:?}")).collect();
        assert_eq!(texts, ["Note(Galerne, \"b\")", "Note(Galerne, \"c\")"]);
        assert_eq!(
            (first.take().len(), first.all().len(), second.all().len()),
            (2, 0, 0)
        );
    }
}
