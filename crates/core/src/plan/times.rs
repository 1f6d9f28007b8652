//! How long attempts and their steps may take (RELAY-40, RELAY-70, QUEUE-25).

use std::time::Duration;

use super::{Asked, sources};
use crate::settings::Settings;

/// How long the attempts of a message may take (RELAY-40); it does not depend on the recipient.
pub fn timeout(settings: &Settings, asked: &Asked<'_>) -> Duration {
    sources::timeout(settings, asked.account, asked.directive).0
}

/// How long after the client's end of data the reply to a final dot that was sent is awaited: a
/// minute beyond the timeout, and never so long that the client gives up first (RELAY-70).
pub fn patience(timeout: Duration) -> Duration {
    (timeout + GRACE).min(LONGEST_WAIT)
}

/// How long an attempt and its steps may take, each from the beginning of the attempt but for
/// those that are said to be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Until the final dot.
    pub whole: Duration,
    /// For the reply to the final dot.
    pub dot: Duration,
    /// Until leave of flow control.
    pub leave: Duration,
    /// For one step, from its own beginning.
    pub step: Option<Duration>,
    /// For the reply to the final dot, from its own beginning.
    pub last_step: Option<Duration>,
    /// For the greeting, from the connection on.
    pub greeting: Duration,
}

impl Times {
    /// Somebody waits for the outcome.
    pub fn in_session(timeout: Duration, connect: Duration) -> Times {
        Times {
            whole: timeout,
            dot: patience(timeout),
            leave: timeout,
            step: None,
            last_step: None,
            greeting: connect,
        }
    }

    /// Nobody waits: the times of RFC 5321 §4.5.3.2 (QUEUE-25). Who has no leave of flow control
    /// soon makes room for another.
    pub fn queued() -> Times {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Times {
            whole: minutes(60),
            dot: minutes(75),
            leave: Duration::from_secs(20),
            step: Some(minutes(5)),
            last_step: Some(minutes(10)),
            greeting: minutes(5),
        }
    }
}

const GRACE: Duration = Duration::from_secs(60);
/// RFC 5321 clients wait ten minutes for the reply to their final dot.
const LONGEST_WAIT: Duration = Duration::from_secs(595);
