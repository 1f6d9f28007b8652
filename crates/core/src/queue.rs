//! The durable queue (QUEUE-1 to QUEUE-19): the words for what is kept of a message that was taken
//! over, and what the house needs of the store that keeps it.
//!
//! The unit is the delivery: one message, one recipient. A message is in the store as long as one
//! of its deliveries is undecided.

pub mod board;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::content::{Content, Patch};
use crate::ports::BoxFuture;

pub mod carry;
pub mod lane;
pub mod moving;
pub mod recover;
pub mod retry;
pub mod shown;
pub mod story;

/// Number of a message in a store: given in ascending order, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageNo(pub u64);

/// One delivery: a message and the index of a recipient in its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryNo {
    pub message: MessageNo,
    pub recipient: u32,
}

/// What of a message never changes while it is in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The id that the client was told.
    pub id: String,
    /// `message.ref`, or a generated one.
    pub reference: String,
    pub tags: Vec<String>,
    /// The Message-ID field, without its brackets.
    pub header_id: Option<String>,
    /// Name of the account; `None`: an unauthenticated client, or ourselves.
    pub user: Option<String>,
    pub login: Option<String>,
    pub peer: SocketAddr,
    pub helo: String,
    pub tls: bool,
    pub session_id: String,
    /// Empty for the null sender.
    pub sender: String,
    /// `FULL` or `HDRS`.
    pub ret: Option<String>,
    pub envid: Option<String>,
    pub eight_bit: bool,
    pub smtputf8: bool,
    pub requiretls: bool,
    pub tls_not_required: bool,
    pub recipients: Vec<QueuedRecipient>,
    /// The directive as JSON, if there was one.
    pub directive: Option<String>,
    pub header_from: Option<String>,
    /// Milliseconds since 1970.
    pub received_at: u64,
    pub needs_chunking: bool,
    pub is_dsn: bool,
}

/// A recipient with its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRecipient {
    pub address: String,
    /// As in the command: `FAILURE,DELAY`.
    pub notify: Option<String>,
    /// (type, address), decoded from xtext.
    pub orcpt: Option<(String, String)>,
}

/// Where a delivery stands (`--state` of QUEUE-16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not tried yet.
    #[default]
    Waiting,
    /// Tried, and to be tried again.
    Deferred,
    /// Its end of data was sent and no reply came (QUEUE-4).
    Unknown,
}

impl State {
    /// All.
    pub const ALL: [State; 3] = [State::Waiting, State::Deferred, State::Unknown];

    /// The word of lists and filters.
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Deferred => "deferred",
            State::Unknown => "unknown",
        }
    }
}

/// What changes of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub state: State,
    /// Kept back by an operator until it is released.
    pub held: bool,
    /// Given to a session: its end of data may be under way. Durable before the end of data
    /// (QUEUE-6).
    pub handed: bool,
    /// A further attempt may deliver it twice (QUEUE-4).
    pub duplicate_possible: bool,
    /// Attempts that count as retries.
    pub attempts: u32,
    /// Attempts that were grey-listed (FLOW-70).
    pub greys: u32,
    /// When it is tried next, in milliseconds since 1970.
    pub next: u64,
    /// The sender was told of the delay (RET-39).
    pub delay_told: bool,
    /// Of the last attempt, for lists; empty before it.
    pub group: String,
    pub route: String,
    pub outbound: String,
    pub last_reply: String,
}

/// A message to be taken over.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub envelope: Arc<Envelope>,
    /// As received.
    pub content: Content,
    /// What goes out of it: the store keeps what the recipients are to have.
    pub patch: Patch,
    /// The undecided deliveries: recipients of the envelope with how they stand. Never empty.
    pub deliveries: Vec<(u32, Progress)>,
}

/// A change of what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// How a delivery stands now.
    Put(DeliveryNo, Progress),
    /// These were given to a session.
    Handed(Vec<DeliveryNo>),
    /// These are kept back by an operator, or no longer; the rest of their progress stays.
    Held(Vec<DeliveryNo>, bool),
    /// The senders of these were told that they are delayed; the rest of their progress stays.
    DelayTold(Vec<DeliveryNo>),
    /// These are decided. The message goes with the last of its deliveries.
    Done(Vec<DeliveryNo>),
}

/// A message as it was kept.
#[derive(Clone, Debug)]
pub struct Kept {
    pub envelope: Envelope,
    pub content: Content,
    /// The undecided deliveries, by recipient.
    pub deliveries: Vec<(u32, Progress)>,
}

/// A delivery as the scheduler has to know it when the queue is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub delivery: DeliveryNo,
    pub recipient: String,
    pub user: Option<String>,
    pub sender: String,
    pub received_at: u64,
    pub progress: Progress,
}

/// Where a page of stored deliveries ends: they come by `(next, delivery)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub next: u64,
    pub delivery: DeliveryNo,
}

/// A line of `galerne queue list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub stored: Stored,
    pub id: String,
    pub reference: String,
    pub tags: Vec<String>,
    pub header_id: Option<String>,
    pub size: u64,
}

/// Which deliveries an operator means (QUEUE-16). What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// An id, a reference or a Message-ID.
    pub id: Option<String>,
    pub user: Option<String>,
    pub sender: Option<String>,
    pub recipient: Option<String>,
    /// Of the recipient.
    pub domain: Option<String>,
    pub group: Option<String>,
    pub tag: Option<String>,
    pub reference: Option<String>,
    pub state: Option<State>,
    pub held: Option<bool>,
    /// Received before this, in milliseconds since 1970.
    pub received_before: Option<u64>,
    pub route: Option<String>,
    /// Only behind this one: where a page of a list ended.
    pub after: Option<DeliveryNo>,
    /// Only these; not for more than a page.
    pub only: Option<Vec<DeliveryNo>>,
}

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub messages: u64,
    pub deliveries: u64,
}

/// Why the store could not do its work. Nothing is as if it had been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// The disk is full.
    Full,
    /// Writing or syncing failed; the store opens itself again before it takes anything more
    /// (QUEUE-8).
    Broken(String),
    /// One message is not as it was written, and is to be set aside; the rest is well.
    Damaged(String),
    /// The store is being closed.
    Closed,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreFault::Full => f.write_str("the disk of the queue is full"),
            StoreFault::Broken(why) => write!(f, "the queue cannot be written: {why}"),
            StoreFault::Damaged(why) => write!(f, "the message is damaged: {why}"),
            StoreFault::Closed => f.write_str("the queue is closed"),
        }
    }
}

impl std::error::Error for StoreFault {}

/// A line of the story of a message (QUEUE-17).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Milliseconds since 1970.
    pub at: u64,
    pub id: String,
    pub reference: String,
    pub header_id: Option<String>,
    #[serde(flatten)]
    pub what: What,
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// It was taken over.
    Received {
        user: Option<String>,
        peer: String,
        sender: String,
        recipients: Vec<String>,
        size: u64,
        /// `queue`, `auto`, or for a notification of ours `dsn`.
        mode: String,
    },
    /// A hop.
    Attempt {
        recipient: String,
        /// Which attempt of the delivery, 1 for the first.
        number: u32,
        hop: u32,
        group: String,
        route: String,
        outbound: String,
        remote: String,
        stage: String,
        reply: String,
        pattern: Option<String>,
        tls: Option<String>,
        milliseconds: u64,
    },
    /// It is tried again.
    Again {
        recipient: String,
        state: State,
        next: u64,
        reply: String,
        duplicate_possible: bool,
    },
    /// A delivery is decided: `delivered`, `failed`, `expired`, `bounced`, `deleted`.
    Ended {
        recipient: String,
        outcome: String,
        reply: String,
        duplicate_possible: bool,
    },
    /// The sender was told: `failed`, `delayed`, `delivered`, `relayed`; `notification` is the id of
    /// what was sent.
    Notified {
        recipient: String,
        action: String,
        notification: String,
    },
    /// An operator did something: `hold`, `release`, `retry`, `move`.
    Operator { recipient: String, what: String },
}

/// Takes the stories of messages. Never waits for the disk.
pub trait Stories: Send + Sync {
    fn tell(&self, told: Told);
}

/// A thing that is wrong with what is stored (QUEUE-26).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The id of the message, if it is known.
    pub id: Option<String>,
    pub what: String,
    /// It was set aside.
    pub quarantined: bool,
}

/// Keeps what was taken over until it is decided.
///
/// The calls that give a future never wait for the disk themselves; the others may, and are not
/// for a network thread.
pub trait QueueStore: Send + Sync {
    /// Takes a message over. Resolves once every octet is on stable storage; many share one sync.
    fn accept(&self, message: NewMessage) -> BoxFuture<'static, Result<MessageNo, StoreFault>>;

    /// Changes, all or none. Resolves once they are on stable storage.
    fn change(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), StoreFault>>;

    /// Changes that ride with the next sync, within a second; a crash before may lose them.
    fn change_soon(&self, changes: Vec<Change>);

    /// The last number that was given when the store was opened: messages beyond it were taken over
    /// since.
    fn opened_at(&self) -> MessageNo;

    /// Stored deliveries behind a place, at most `most`, by `(next, delivery)`.
    fn page(&self, after: Option<Place>, most: usize) -> Result<Vec<Stored>, StoreFault>;

    /// A message with its content and how its undecided deliveries stand; `None`: it is not there
    /// (any more).
    fn read(&self, message: MessageNo) -> Result<Option<Kept>, StoreFault>;

    /// Deliveries that a filter lets through, oldest first, at most `most`.
    fn list(&self, filter: &Filter, most: usize) -> Result<Vec<Listed>, StoreFault>;

    /// How much is stored.
    fn amount(&self) -> Amount;

    /// Whether messages can be taken over now.
    fn is_ready(&self) -> bool;

    /// Sets a message aside that cannot be read, so that the rest goes on (QUEUE-26).
    fn quarantine(&self, message: MessageNo, why: &str) -> Result<(), StoreFault>;

    /// Looks whether everything is as it was written.
    fn check(&self, repair: bool) -> Result<Vec<Damage>, StoreFault>;

    /// Writes what waits and ends. What comes later is `Closed`.
    fn close(&self);
}
