//! Messages that were just taken over, kept in memory for their first attempt: most need never be
//! read back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use galerne_core::model::Submission;
use galerne_core::queue::{MessageNo, Progress};

/// Octets of content kept at most.
const MOST: u64 = 64 << 20;
/// What a message costs besides its content.
const OVERHEAD: u64 = 4096;

/// The cache.
#[derive(Default)]
pub struct Cache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    messages: HashMap<MessageNo, Cached>,
    octets: u64,
}

/// A message with how its deliveries stand.
pub struct Cached {
    pub submission: Arc<Submission>,
    pub deliveries: Vec<(u32, Progress)>,
}

fn weight(submission: &Submission) -> u64 {
    submission.content.len() + OVERHEAD
}

impl Cache {
    /// Keeps a message, if there is room; for those that are not tried at once there is less. Not one
    /// of which a part is in a temporary file.
    pub fn put(
        &self,
        message: MessageNo,
        submission: &Arc<Submission>,
        deliveries: Vec<(u32, Progress)>,
        at_once: bool,
    ) {
        if submission.content.spill.is_some() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let weight = weight(submission);
        let most = if at_once { MOST } else { MOST / 2 };
        if kept.octets + weight > most {
            return;
        }
        kept.octets += weight;
        let submission = submission.clone();
        let cached = Cached {
            submission,
            deliveries,
        };
        kept.messages.insert(message, cached);
    }

    /// Everything, at the end.
    pub fn drain(&self) -> Vec<(MessageNo, Cached)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.octets = 0;
        kept.messages.drain().collect()
    }

    /// These deliveries of a message; it is kept for the others.
    pub fn take(&self, message: MessageNo, recipients: &[u32]) -> Option<Cached> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.messages.get_mut(&message)?;
        let submission = found.submission.clone();
        let mine = |&(recipient, _): &(u32, Progress)| recipients.contains(&recipient);
        let all = std::mem::take(&mut found.deliveries).into_iter();
        let (taken, rest): (Vec<_>, Vec<_>) = all.partition(mine);
        let is_empty = rest.is_empty();
        found.deliveries = rest;
        if is_empty {
            kept.messages.remove(&message);
            kept.octets = kept.octets.saturating_sub(weight(&submission));
        }
        // What is not whole here is read from the store.
        (taken.len() == recipients.len()).then_some(Cached {
            submission,
            deliveries: taken,
        })
    }
}
