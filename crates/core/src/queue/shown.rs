//! How a delivery is shown to people (QUEUE-16): what is stored of it, and what the scheduler knows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::board::Standing;
use super::{Progress, State};

/// The state of lists and of `--state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// Not tried yet.
    Waiting,
    /// Tried, and to be tried again.
    Deferred,
    /// Its end of data was sent and no reply came (QUEUE-4).
    Unknown,
    /// Kept back by an operator.
    Held,
    /// Being tried now.
    Active,
    /// Its lane, its sender or its account is suspended (QUEUE-18).
    Suspended,
}

impl Shown {
    /// All.
    pub const ALL: [Shown; 6] = [
        Shown::Waiting,
        Shown::Deferred,
        Shown::Unknown,
        Shown::Held,
        Shown::Active,
        Shown::Suspended,
    ];

    /// `standing`: of the scheduler, if there is one and it knows the delivery.
    pub fn of(progress: &Progress, standing: Option<Standing>) -> Shown {
        match (standing, progress.state) {
            (Some(Standing::Running), _) => Shown::Active,
            (Some(Standing::Held), _) => Shown::Held,
            _ if progress.held => Shown::Held,
            (Some(Standing::Suspended), _) => Shown::Suspended,
            (_, State::Waiting) => Shown::Waiting,
            (_, State::Deferred) => Shown::Deferred,
            (_, State::Unknown) => Shown::Unknown,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Shown::Waiting => State::Waiting.word(),
            Shown::Deferred => State::Deferred.word(),
            Shown::Unknown => State::Unknown.word(),
            Shown::Held => "held",
            Shown::Active => "active",
            Shown::Suspended => "suspended",
        }
    }

    /// Whether the moment of its next attempt says when something happens.
    pub fn has_next(self) -> bool {
        matches!(self, Shown::Waiting | Shown::Deferred | Shown::Unknown)
    }

    /// What of it the store can look for; `None`: nothing.
    pub fn stored(self) -> Option<State> {
        match self {
            Shown::Waiting => Some(State::Waiting),
            Shown::Deferred => Some(State::Deferred),
            Shown::Unknown => Some(State::Unknown),
            Shown::Held | Shown::Active | Shown::Suspended => None,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Shown {
    type Err = String;

    fn from_str(text: &str) -> Result<Shown, String> {
        let found = Shown::ALL.into_iter().find(|shown| shown.word() == text);
        found.ok_or_else(|| {
            let words = Shown::ALL.map(Shown::word).join(", ");
            format!("expected one of {words}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_16_the_state_that_is_shown_is_what_keeps_a_delivery() {
        let mut progress = Progress {
            state: State::Deferred,
            ..Progress::default()
        };
        assert_eq!(Shown::of(&progress, None), Shown::Deferred);
        assert_eq!(
            Shown::of(&progress, Some(Standing::Waiting)),
            Shown::Deferred
        );
        assert_eq!(
            Shown::of(&progress, Some(Standing::Suspended)),
            Shown::Suspended
        );
        progress.held = true;
        assert_eq!(Shown::of(&progress, Some(Standing::Suspended)), Shown::Held);
        assert_eq!(Shown::of(&progress, Some(Standing::Running)), Shown::Active);
        for shown in Shown::ALL {
            assert_eq!(shown.word().parse(), Ok(shown));
        }
        assert!("Held".parse::<Shown>().is_err());
    }
}
