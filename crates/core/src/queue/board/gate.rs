//! How many jobs of a lane may run (QUEUE-15): all, until its destination cannot be reached; then
//! none for a while, one probe, and twice as many after each round that succeeds.

/// Most jobs of a lane that run at once.
pub const CAP: u32 = 64;
/// How long a lane rests after one failure, two, and so on; the last repeats. Milliseconds.
const PAUSES: [u64; 5] = [30_000, 60_000, 120_000, 300_000, 600_000];
/// How long one waits for flow control that names no moment, at first and at most; each time in vain
/// doubles it. Milliseconds.
const SHORT_WAIT: u64 = 5_000;
const LONG_WAIT: u64 = 60_000;

/// Why a lane is not wide open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Unreachable,
    /// It is reached again, and opens step by step.
    Opening,
    /// Flow control gave no leave.
    NoRoom,
}

impl Cause {
    /// The word of `galerne lane list`.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Unreachable => "unreachable",
            Cause::Opening => "opening again",
            Cause::NoRoom => "flow control",
        }
    }
}

/// The gate of one lane.
#[derive(Debug, Default)]
pub struct Gate {
    /// Counts closings: what began before the last of them says nothing any more.
    epoch: u32,
    /// `None`: it is wide open.
    trouble: Option<Box<Trouble>>,
}

/// Of a lane that is closed, or opens gradually.
#[derive(Debug, Default)]
struct Trouble {
    cause: Option<Cause>,
    why: Box<str>,
    /// Jobs that may run at once.
    window: u32,
    /// Successes still needed until the window doubles.
    missing: u32,
    /// Nothing starts before this moment; 0: it is open.
    closed_until: u64,
    /// Failures without a success between them.
    failures: u32,
    /// How often flow control gave no leave without a success between.
    waits: u32,
}

impl Gate {
    pub fn window(&self) -> u32 {
        self.trouble.as_ref().map_or(CAP, |trouble| trouble.window)
    }

    /// 0: it is open.
    pub fn closed_until(&self) -> u64 {
        self.trouble
            .as_ref()
            .map_or(0, |trouble| trouble.closed_until)
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn cause(&self) -> Option<Cause> {
        self.trouble.as_ref()?.cause
    }

    pub fn why(&self) -> Option<&str> {
        let trouble = self.trouble.as_ref()?;
        (!trouble.why.is_empty()).then_some(&*trouble.why)
    }

    /// Whether so many running jobs leave room for another.
    pub fn admits(&self, running: u32) -> bool {
        self.closed_until() == 0 && running < self.window()
    }

    /// Whether there is nothing to remember of it.
    pub fn is_wide_open(&self) -> bool {
        self.trouble.is_none()
    }

    /// The next job is one that finds out.
    pub fn is_probing(&self) -> bool {
        self.window() == 1
    }

    /// A job that began in `epoch` did not reach the destination. `chance`: any number.
    pub fn unreachable(&mut self, now: u64, epoch: u32, chance: u64, why: String) {
        if epoch != self.epoch {
            return;
        }
        let trouble = self.trouble.get_or_insert_default();
        let step = (trouble.failures as usize).min(PAUSES.len() - 1);
        let pause = PAUSES.get(step).copied().unwrap_or(LONG_WAIT);
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.why = why.into_boxed_str();
        self.close(
            now.saturating_add(spread(pause, chance)),
            Cause::Unreachable,
        );
    }

    /// Flow control gave a job no leave.
    pub fn no_room(&mut self, now: u64, epoch: u32, not_before: Option<u64>) {
        if epoch != self.epoch {
            return;
        }
        let trouble = self.trouble.get_or_insert_default();
        trouble.why = Box::default();
        trouble.waits = trouble.waits.saturating_add(1);
        let until = wait_until(now, not_before, trouble.waits);
        self.close(until, Cause::NoRoom);
    }

    /// A job that began in `epoch` reached the destination.
    pub fn reached(&mut self, epoch: u32) {
        let Some(trouble) = self.trouble.as_mut().filter(|_| epoch == self.epoch) else {
            return;
        };
        trouble.failures = 0;
        trouble.waits = 0;
        trouble.why = Box::default();
        if trouble.cause == Some(Cause::Unreachable) {
            trouble.cause = Some(Cause::Opening);
        }
        trouble.missing = trouble.missing.saturating_sub(1);
        if trouble.missing > 0 {
            return;
        }
        trouble.window = (trouble.window * 2).min(CAP);
        trouble.missing = trouble.window;
        if trouble.window == CAP {
            self.trouble = None;
        }
    }

    /// Ends the rest: one probe may go.
    pub fn open(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.closed_until = 0;
        }
    }

    fn close(&mut self, until: u64, cause: Cause) {
        self.epoch = self.epoch.wrapping_add(1);
        let trouble = self.trouble.get_or_insert_default();
        trouble.window = 1;
        trouble.missing = 1;
        trouble.closed_until = until.max(1);
        trouble.cause = Some(cause);
    }
}

/// When to ask flow control again that gave no leave so many times.
pub fn wait_until(now: u64, not_before: Option<u64>, times: u32) -> u64 {
    let doublings = times.saturating_sub(1).min(8);
    let wait = (SHORT_WAIT << doublings).min(LONG_WAIT);
    not_before
        .filter(|moment| *moment > now)
        .unwrap_or(now.saturating_add(wait))
}

/// A length that is up to a tenth shorter or longer, as a number drawn at random says.
pub fn spread(length: u64, chance: u64) -> u64 {
    let tenth = length / 10;
    length - tenth + chance % (2 * tenth + 1)
}
