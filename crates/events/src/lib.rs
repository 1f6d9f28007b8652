//! What happened, for people and programs: the log files, the log on standard error, and the stories
//! of messages in the queue.
//!
//! Everything arrives through `galerne_core::ports::EventSink`, told once per transaction by
//! settle. Nothing here decides about mail, and nothing here may hold up mail: a sink takes what
//! it is told, hands it to a thread of its own and returns.
#![forbid(unsafe_code)]

mod files;
pub mod journal;
pub mod logs;
mod queue;
mod record;
mod rows;
pub mod sinks;
pub mod stories;
#[cfg(test)]
mod testing;
mod text;

pub use logs::{Logs, Options};
pub use sinks::{Recorded, Recorder, Tee};
pub use stories::StoryFiles;
pub use text::without_control;
