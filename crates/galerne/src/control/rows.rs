//! What `galerne queue` and `galerne lane` show, as the control socket and `--json` give it.

use galerne_core::queue::board::{LaneRow, Rule, RuleNo};
use galerne_core::queue::shown::Shown;
use galerne_core::queue::{DeliveryNo, Kept, Listed, Progress};
use galerne_outbound::queue::Touch;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A moment in milliseconds since 1970 as texts have it: UTC, whole seconds.
pub fn moment(milliseconds: u64) -> String {
    let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
    let moment = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX);
    format!("{moment:.0}")
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

fn seconds(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / 1000
}

/// A line of `queue list` (QUEUE-16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: String,
    #[serde(rename = "ref")]
    pub reference: String,
    pub user: Option<String>,
    pub sender: String,
    pub recipient: String,
    pub state: Shown,
    pub attempts: u32,
    /// When it is tried next, UTC; null: not by itself, or now.
    pub next: Option<String>,
    /// Seconds since the message came.
    pub age: u64,
    pub group: String,
    pub route: String,
    pub outbound: String,
    pub lastreply: String,
    pub duplicate_possible: bool,
    pub held: bool,
}

impl Row {
    pub fn of(listed: Listed, state: Shown, now: u64) -> Row {
        let stored = listed.stored;
        let progress = stored.progress;
        Row {
            id: listed.id,
            reference: listed.reference,
            user: stored.user,
            sender: stored.sender,
            recipient: stored.recipient,
            state,
            attempts: tries(&progress),
            next: state.has_next().then(|| moment(progress.next)),
            age: seconds(stored.received_at, now),
            group: progress.group,
            route: progress.route,
            outbound: progress.outbound,
            lastreply: progress.last_reply,
            duplicate_possible: progress.duplicate_possible,
            held: state == Shown::Held || progress.held,
        }
    }
}

/// Grey-listed attempts are attempts.
fn tries(progress: &Progress) -> u32 {
    progress.attempts.saturating_add(progress.greys)
}

/// Some lines, and where to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RowPage {
    pub rows: Vec<Row>,
    pub next: Option<DeliveryNo>,
}

/// A message of `queue show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessageRow {
    pub id: String,
    #[serde(rename = "ref")]
    pub reference: String,
    pub tags: Vec<String>,
    pub message_id: Option<String>,
    pub user: Option<String>,
    pub login: Option<String>,
    pub peer: String,
    pub helo: String,
    pub tls: bool,
    pub sender: String,
    pub ret: Option<String>,
    pub envid: Option<String>,
    /// As it was given, or as `queue move` changed it.
    pub directive: Option<serde_json::Value>,
    pub received: String,
    /// Seconds.
    pub age: u64,
    /// Octets.
    pub size: u64,
    pub dsn: bool,
    /// Recipients that are decided, or go on under another number.
    pub decided: usize,
    pub recipients: Vec<RecipientRow>,
}

/// An undecided recipient of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecipientRow {
    pub recipient: String,
    pub notify: Option<String>,
    pub orcpt: Option<String>,
    pub state: Shown,
    pub attempts: u32,
    pub greys: u32,
    pub next: Option<String>,
    pub group: String,
    pub route: String,
    pub outbound: String,
    pub lastreply: String,
    pub duplicate_possible: bool,
}

impl MessageRow {
    /// `state`: how a delivery is shown.
    pub fn of(
        kept: Kept,
        size: u64,
        now: u64,
        state: impl Fn(u32, &Progress) -> Shown,
    ) -> MessageRow {
        let Kept {
            envelope,
            content: _,
            deliveries,
        } = kept;
        let recipients = deliveries.iter().filter_map(|(index, progress)| {
            let recipient = envelope.recipients.get(*index as usize)?;
            let state = state(*index, progress);
            let orcpt = recipient.orcpt.as_ref();
            Some(RecipientRow {
                recipient: recipient.address.clone(),
                notify: recipient.notify.clone(),
                orcpt: orcpt.map(|(kind, address)| format!("{kind};{address}")),
                state,
                attempts: tries(progress),
                greys: progress.greys,
                next: state.has_next().then(|| moment(progress.next)),
                group: progress.group.clone(),
                route: progress.route.clone(),
                outbound: progress.outbound.clone(),
                lastreply: progress.last_reply.clone(),
                duplicate_possible: progress.duplicate_possible,
            })
        });
        let recipients: Vec<RecipientRow> = recipients.collect();
        let directive = envelope.directive.as_deref();
        MessageRow {
            decided: envelope.recipients.len().saturating_sub(recipients.len()),
            recipients,
            id: envelope.id,
            reference: envelope.reference,
            tags: envelope.tags,
            message_id: envelope.header_id,
            user: envelope.user,
            login: envelope.login,
            peer: envelope.peer.ip().to_string(),
            helo: envelope.helo,
            tls: envelope.tls,
            sender: envelope.sender,
            ret: envelope.ret,
            envid: envelope.envid,
            directive: directive.and_then(|text| serde_json::from_str(text).ok()),
            received: moment(envelope.received_at),
            age: seconds(envelope.received_at, now),
            size,
            dsn: envelope.is_dsn,
        }
    }
}

/// `queue show`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MessageRows {
    pub messages: Vec<MessageRow>,
    /// There are more of this id.
    pub more: bool,
}

/// `queue status` (QUEUE-13).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusRow {
    /// A server answered; without one the counts by state are not known.
    pub running: bool,
    /// Mail can be taken over.
    pub ready: bool,
    /// Everything stored is in the scheduler.
    pub loaded: bool,
    /// Undecided deliveries.
    pub deliveries: u64,
    pub states: Option<States>,
    pub oldest: Option<OldestRow>,
    /// Most records (`qmsize`), octets that must be free (`minfree`), and that are.
    pub qmsize: u64,
    pub minfree: u64,
    pub free: Option<u64>,
    pub suspensions: Vec<SuspensionRow>,
}

/// Deliveries by what they wait for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct States {
    /// For their time.
    pub waiting: u64,
    /// For their turn.
    pub ready: u64,
    pub active: u64,
    pub held: u64,
    /// Of those that wait.
    pub suspended: u64,
    /// Too old; their senders are being told.
    pub expired: u64,
}

/// The oldest undecided delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OldestRow {
    pub since: String,
    /// Seconds.
    pub age: u64,
    pub lane: Option<String>,
    pub id: Option<String>,
}

/// `lane list`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lanes {
    pub lanes: Vec<LaneLine>,
    pub suspensions: Vec<SuspensionRow>,
}

/// A lane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaneLine {
    pub name: String,
    pub waiting: u64,
    pub ready: u64,
    pub running: u64,
    pub held: u64,
    pub suspended: u64,
    pub expired: u64,
    /// Jobs that may run at once.
    pub window: u32,
    pub closed_until: Option<String>,
    /// `unreachable` or `flow control`.
    pub cause: Option<String>,
    pub why: Option<String>,
    /// Why the whole lane is suspended, if it is.
    pub reason: Option<String>,
    /// Seconds since its oldest message came.
    pub oldest: Option<u64>,
}

impl LaneLine {
    pub fn of(row: LaneRow, now: u64) -> LaneLine {
        LaneLine {
            name: row.name,
            waiting: row.tally.waiting,
            ready: row.tally.ready,
            running: row.tally.running,
            held: row.tally.held,
            suspended: row.suspended,
            expired: row.tally.expired,
            window: row.window,
            closed_until: row.closed_until.map(moment),
            cause: row.cause.map(|cause| cause.word().to_owned()),
            why: row.why,
            reason: row.reason,
            oldest: row.oldest.map(|oldest| seconds(oldest, now)),
        }
    }
}

/// A suspension in force (QUEUE-18).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspensionRow {
    /// For `lane resume`.
    pub number: u64,
    pub lane: Option<String>,
    pub sender: Option<String>,
    pub account: Option<String>,
    pub outbound: Option<std::net::IpAddr>,
    pub reason: String,
    /// When it ends by itself, UTC.
    pub until: Option<String>,
}

impl SuspensionRow {
    pub fn of(number: RuleNo, rule: Rule) -> SuspensionRow {
        SuspensionRow {
            number: number.0,
            lane: rule.lane,
            sender: rule.sender,
            account: rule.account,
            outbound: rule.outbound,
            reason: rule.reason,
            until: rule.until.map(moment),
        }
    }

    /// Which mail it means.
    pub fn whom(&self) -> String {
        let mut words = Vec::new();
        if let Some(lane) = &self.lane {
            words.push(format!("lane {lane}"));
        }
        if let Some(sender) = &self.sender {
            words.push(match sender.is_empty() {
                true => "the null sender".to_owned(),
                false => format!("sender {sender}"),
            });
        }
        if let Some(account) = &self.account {
            words.push(match account.is_empty() {
                true => "mail of no account".to_owned(),
                false => format!("account {account}"),
            });
        }
        if let Some(outbound) = self.outbound {
            words.push(format!("from {outbound}"));
        }
        match words.is_empty() {
            true => "everything".to_owned(),
            false => words.join(", "),
        }
    }
}

/// `12 deliveries of 10 messages`.
pub fn in_words(touch: Touch) -> String {
    let many = |count: u64, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    format!(
        "{} of {}",
        many(touch.deliveries, "delivery", "deliveries"),
        many(touch.messages, "message", "messages")
    )
}
