//! What happened, for people and programs: logs.
pub mod journal;
pub mod logs;
pub mod sinks;

pub use logs::{Logs, Options};
pub use sinks::{Recorded, Recorder, Tee};
