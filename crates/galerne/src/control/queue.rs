//! What operators ask of the queue of the running server (QUEUE-13, QUEUE-16, QUEUE-18).

use std::collections::HashMap;

use galerne_core::content::Content;
use galerne_core::queue::board::{Rule, RuleNo};
use galerne_core::queue::shown::Shown;
use galerne_core::queue::{DeliveryNo, Filter, StoreFault};
use galerne_outbound::queue::operate::Verb;
use galerne_outbound::queue::{Look, Queue, Selection, Touch};
use serde::{Deserialize, Serialize};

use super::rows::{
    LaneLine, Lanes, MessageRow, MessageRows, OldestRow, Row, RowPage, States, StatusRow,
    SuspensionRow, in_words, moment,
};
use crate::house::House;

/// A question about the queue, or something to be done with it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueAsk {
    /// `RowPage`.
    List {
        which: Selection,
        after: Option<DeliveryNo>,
        most: usize,
    },
    /// `Touch`.
    Count { which: Selection },
    /// `MessageRows`.
    Show { id: String },
    /// The number of octets; they follow the line.
    Content { id: String },
    /// `StatusRow`.
    Status,
    /// Writes all stories to their files, so that they can be read.
    WriteStories,
    /// `Touch`.
    Act { verb: Verb, which: Selection },
    /// `Moved`.
    Move { which: Selection, way: Vec<String> },
    /// `Lanes`.
    Lanes,
    /// The number.
    Suspend(Rule),
    /// `SuspensionRow`.
    Resume { number: u64 },
}

/// What is answered: one line of JSON, and what follows it.
pub struct Answered {
    pub document: String,
    pub content: Option<Content>,
}

/// Answers; an error is in words.
pub async fn answer(house: &House, ask: QueueAsk) -> Result<Answered, String> {
    let queue = house.queue();
    let document = match ask {
        QueueAsk::List { which, after, most } => list(&queue, &which, after, most).await?,
        QueueAsk::Count { which } => json(&queue.count(&which).await.map_err(words)?)?,
        QueueAsk::Show { id } => json(&show(&queue, &id).await?)?,
        QueueAsk::Content { id } => return content(house, &queue, &id).await,
        QueueAsk::Status => json(&status(house, &queue).await?)?,
        QueueAsk::WriteStories => json(&house.write_stories().await)?,
        QueueAsk::Act { verb, which } => json(&act(house, &queue, verb, &which).await?)?,
        QueueAsk::Move { which, way } => move_all(house, &which, &way).await?,
        QueueAsk::Lanes => json(&lanes(&queue).await?)?,
        QueueAsk::Suspend(rule) => suspend(house, &queue, rule).await?,
        QueueAsk::Resume { number } => {
            let rule = queue.resume(RuleNo(number)).await;
            let row = SuspensionRow::of(RuleNo(number), rule.map_err(|e| e.to_string())?);
            house.note(&format!("lane resume {number}: {}", row.whom()));
            json(&row)?
        }
    };
    Ok(Answered {
        document,
        content: None,
    })
}

fn json(document: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(document).map_err(|error| error.to_string())
}

fn words(fault: StoreFault) -> String {
    fault.to_string()
}

const CLOSED: &str = "the queue is closed: the server is stopping";

async fn list(
    queue: &Queue,
    which: &Selection,
    after: Option<DeliveryNo>,
    most: usize,
) -> Result<String, String> {
    let page = queue.select(which, after, most).await.map_err(words)?;
    let now = super::rows::now();
    let rows = page.rows.into_iter();
    json(&RowPage {
        rows: rows
            .map(|row| Row::of(row.listed, row.state, now))
            .collect(),
        next: page.next,
    })
}

async fn show(queue: &Queue, id: &str) -> Result<MessageRows, String> {
    let (looks, more) = queue.look(id).await.map_err(words)?;
    let now = super::rows::now();
    let messages = looks.into_iter().map(|look: Look| {
        let states: HashMap<u32, Shown> = look.states.into_iter().collect();
        MessageRow::of(look.kept, look.size, now, |index, progress| {
            let known = states.get(&index).copied();
            known.unwrap_or_else(|| Shown::of(progress, None))
        })
    });
    Ok(MessageRows {
        messages: messages.collect(),
        more,
    })
}

/// The one message of an id. That somebody looked is noted, what they saw is not.
async fn content(house: &House, queue: &Queue, id: &str) -> Result<Answered, String> {
    let (mut looks, _) = queue.look(id).await.map_err(words)?;
    let look = match (looks.pop(), looks.is_empty()) {
        (Some(look), true) => look,
        (None, _) => return Err(format!("nothing in the queue has the id {id}")),
        (Some(_), false) => return Err(several(id)),
    };
    house.note(&format!("queue show --content {}", look.kept.envelope.id));
    let content = look.kept.content;
    Ok(Answered {
        document: json(&content.len())?,
        content: Some(content),
    })
}

/// Content is shown of one message alone.
pub fn several(id: &str) -> String {
    format!("several messages are meant by {id}; `queue show {id}` says which")
}

async fn status(house: &House, queue: &Queue) -> Result<StatusRow, String> {
    let status = queue.status().await.ok_or(CLOSED)?;
    let (lanes, rules) = queue.lanes().await.ok_or(CLOSED)?;
    let tally = status.counts.tally;
    let oldest = lanes
        .iter()
        .filter_map(|lane| Some((lane.oldest?, lane.name.clone())))
        .min();
    let oldest = match oldest {
        Some((oldest, lane)) => {
            let filter = Filter {
                received_before: Some(oldest.saturating_add(1)),
                ..Filter::default()
            };
            let first = queue.list(filter, 1).await.map_err(words)?;
            Some(OldestRow {
                since: moment(oldest),
                age: status.now.saturating_sub(oldest) / 1000,
                lane: Some(lane),
                id: first.into_iter().next().map(|first| first.id),
            })
        }
        None => None,
    };
    let keys = house.snapshot().queue.clone();
    Ok(StatusRow {
        running: true,
        ready: status.is_ready,
        loaded: status.is_loaded,
        deliveries: queue.total(),
        states: Some(States {
            waiting: tally.waiting,
            ready: tally.ready,
            active: tally.running,
            held: tally.held,
            suspended: lanes.iter().map(|lane| lane.suspended).sum(),
            expired: tally.expired,
        }),
        oldest,
        qmsize: keys.qmsize,
        minfree: keys.minfree,
        free: queue.free().ok(),
        suspensions: suspensions(rules),
    })
}

fn suspensions(rules: Vec<(RuleNo, Rule)>) -> Vec<SuspensionRow> {
    let row = |(number, rule)| SuspensionRow::of(number, rule);
    rules.into_iter().map(row).collect()
}

async fn lanes(queue: &Queue) -> Result<Lanes, String> {
    let (lanes, rules) = queue.lanes().await.ok_or(CLOSED)?;
    let now = super::rows::now();
    Ok(Lanes {
        lanes: lanes
            .into_iter()
            .map(|lane| LaneLine::of(lane, now))
            .collect(),
        suspensions: suspensions(rules),
    })
}

async fn act(house: &House, queue: &Queue, verb: Verb, which: &Selection) -> Result<Touch, String> {
    let touch = queue.act_on_all(verb, which).await.map_err(words)?;
    house.note(&format!(
        "queue {}: {}, {}",
        verb.word(),
        in_words(touch),
        asked(which)
    ));
    Ok(touch)
}

async fn move_all(house: &House, which: &Selection, way: &[String]) -> Result<String, String> {
    let names = galerne_core::queue::moving::way(way)?;
    let moved = house.queue().move_all(which, &names).await.map_err(words)?;
    house.note(&format!(
        "queue move --outbound {}: {}, {}",
        way.join(","),
        in_words(moved.touch),
        asked(which)
    ));
    json(&moved)
}

/// What was asked for, in one line.
fn asked(which: &Selection) -> String {
    serde_json::to_string(which).unwrap_or_default()
}

/// A name that does not exist would suspend nothing, and nobody would notice.
async fn suspend(house: &House, queue: &Queue, rule: Rule) -> Result<String, String> {
    let snapshot = house.snapshot();
    if let Some(lane) = &rule.lane {
        let (kind, name) = lane.split_once(' ').unwrap_or((lane, ""));
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        match kind {
            "group" if !snapshot.settings.groups.iter().any(|group| is(&group.name)) => {
                return Err(format!("there is no group @{name}"));
            }
            "host" | "group" | "domain" if name.is_empty() => {
                return Err(format!("lane {lane}: a name is missing"));
            }
            "group" | "host" | "domain" => {}
            _ => {
                return Err(format!(
                    "lane {lane}: expected `group NAME`, `host NAME` or `domain NAME`"
                ));
            }
        }
    }
    if let Some(name) = rule.account.as_deref().filter(|name| !name.is_empty()) {
        let mut accounts = snapshot.settings.accounts.iter();
        if !accounts.any(|account| account.name.eq_ignore_ascii_case(name)) {
            return Err(format!("there is no account {name}"));
        }
    }
    if let Some(address) = rule.outbound
        && !snapshot.outbounds.iter().any(|o| o.address == address)
    {
        return Err(format!("{address} is not in [IP]"));
    }
    let whom = SuspensionRow::of(RuleNo(0), rule.clone());
    let number = queue.suspend(rule).await.map_err(|e| e.to_string())?.0;
    house.note(&format!(
        "lane suspend {number}: {}, {}",
        whom.whom(),
        whom.reason
    ));
    json(&number)
}
