//! The stories of messages, put together from the lines that were told of them (QUEUE-17).

use std::collections::{BTreeMap, HashMap};

use galerne_core::queue::{State, Told, What};
use galerne_events::stories::moment;
use serde_json::{Map, Value, json};

/// What is known of one message.
#[derive(Debug)]
pub struct Story {
    pub id: String,
    pub reference: String,
    pub header_id: Option<String>,
    /// Oldest first. What was told of many recipients in pieces is one again.
    pub told: Vec<Told>,
}

/// How a delivery stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// `delivered`, `failed` … `None`: it is undecided.
    pub outcome: Option<String>,
    pub state: State,
    pub held: bool,
    /// When it is tried next, in milliseconds since 1970; `None`: as soon as it can be.
    pub next: Option<u64>,
    pub duplicate_possible: bool,
}

impl Standing {
    /// The word of `--state`, or how it ended.
    pub fn word(&self) -> &str {
        match &self.outcome {
            Some(outcome) => outcome,
            None if self.held => "held",
            None => self.state.word(),
        }
    }
}

/// The messages that lines are about, the latest received last.
pub fn stories(told: Vec<Told>) -> Vec<Story> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut stories: Vec<Story> = Vec::new();
    for line in told {
        let place = *places.entry(line.id.clone()).or_insert(stories.len());
        if place == stories.len() {
            stories.push(Story {
                id: line.id.clone(),
                reference: line.reference.clone(),
                header_id: line.header_id.clone(),
                told: Vec::new(),
            });
        }
        if let Some(story) = stories.get_mut(place) {
            story.add(line);
        }
    }
    stories.sort_by_key(Story::began);
    stories
}

impl Story {
    fn add(&mut self, line: Told) {
        let What::Received { recipients, .. } = &line.what else {
            return self.told.push(line);
        };
        let first = self.told.iter_mut().find_map(|told| match &mut told.what {
            What::Received { recipients, .. } => Some(recipients),
            _ => None,
        });
        match first {
            Some(all) => all.extend(recipients.iter().cloned()),
            None => self.told.push(line),
        }
    }

    fn began(&self) -> u64 {
        self.told.first().map_or(0, |told| told.at)
    }

    /// Whether the beginning is there.
    pub fn is_whole(&self) -> bool {
        let is_received = |told: &Told| matches!(told.what, What::Received { .. });
        self.told.iter().any(is_received)
    }

    /// How each delivery stands, as far as is known.
    pub fn standings(&self) -> BTreeMap<&str, Standing> {
        let mut all: BTreeMap<&str, Standing> = BTreeMap::new();
        for told in &self.told {
            let of = match &told.what {
                What::Received { recipients, .. } => {
                    for recipient in recipients {
                        all.entry(recipient).or_default();
                    }
                    continue;
                }
                What::Attempt { recipient, .. }
                | What::Again { recipient, .. }
                | What::Ended { recipient, .. }
                | What::Notified { recipient, .. }
                | What::Operator { recipient, .. } => all.entry(recipient).or_default(),
            };
            match &told.what {
                What::Again {
                    state,
                    next,
                    duplicate_possible,
                    ..
                } => {
                    of.state = *state;
                    of.next = Some(*next);
                    of.duplicate_possible |= duplicate_possible;
                }
                What::Ended {
                    outcome,
                    duplicate_possible,
                    ..
                } => {
                    of.outcome = Some(outcome.clone());
                    of.next = None;
                    of.duplicate_possible |= duplicate_possible;
                }
                What::Operator { what, .. } => match what.as_str() {
                    "hold" => of.held = true,
                    "release" => of.held = false,
                    "retry" => of.next = None,
                    _ => {}
                },
                _ => {}
            }
        }
        all
    }

    /// The message with its deliveries and all that happened.
    pub fn document(&self) -> Value {
        let standings = self.standings();
        let duplicate_possible = standings.values().any(|of| of.duplicate_possible);
        let mut all = json!({
            "id": self.id,
            "ref": self.reference,
            "messageid": self.header_id,
        });
        let received = self.told.iter().find_map(|told| match &told.what {
            What::Received {
                user,
                peer,
                sender,
                size,
                mode,
                ..
            } => Some(json!({
                "received": moment(told.at),
                "user": user,
                "peer": peer,
                "sender": sender,
                "size": size,
                "mode": mode,
            })),
            _ => None,
        });
        let deliveries = standings.iter().map(|(recipient, of)| {
            json!({
                "recipient": recipient,
                "state": of.word(),
                "next": of.next.map(moment),
                "duplicate_possible": of.duplicate_possible,
            })
        });
        let rest = json!({
            "duplicate_possible": duplicate_possible,
            "deliveries": deliveries.collect::<Vec<_>>(),
            "events": self.told.iter().map(event).collect::<Vec<_>>(),
        });
        for more in [received, Some(rest)].into_iter().flatten() {
            if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
                all.extend(more);
            }
        }
        all
    }
}

/// A line as JSON: without what all lines of a message share, and with times for people.
fn event(told: &Told) -> Value {
    let Ok(Value::Object(fields)) = serde_json::to_value(told) else {
        return Value::Null;
    };
    let shared = ["id", "reference", "header_id"];
    let shown = fields
        .into_iter()
        .filter(|(key, _)| !shared.contains(&&**key));
    let shown = shown.map(|(key, value)| match (&*key, value.as_u64()) {
        ("at" | "next", Some(at)) => (key, Value::String(moment(at))),
        _ => (key, value),
    });
    Value::Object(shown.collect::<Map<_, _>>())
}
