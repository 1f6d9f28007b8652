//! What the core needs from the world: a few traits that the edges implement.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::{Answer, Settled, Stage, Submission};
use crate::refusal::Refusal;
use crate::routes::RouteRow;
use crate::settings::Account;

/// A boxed future, as the traits of the house return them.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// In-session delivery: the exit as the door sees it.
pub trait DeliverNow: Send + Sync {
    /// Tries until every recipient has its outcome. `client_gone` resolves when the client has
    /// disconnected: attempts before their final dot are then aborted (RELAY-71).
    fn deliver<'a>(
        &'a self,
        submission: Arc<Submission>,
        client_gone: BoxFuture<'a, ()>,
    ) -> BoxFuture<'a, Answer>;

    /// Whether mail of the account may come now, before its content does.
    ///
    /// # Errors
    /// Why not (QUEUE-9).
    fn may_come(&self, account: Option<&Account>) -> Result<(), Refusal> {
        let _ = account;
        Ok(())
    }
}

/// Suppression lists (CONF-56 ff.).
pub trait Lists: Send + Sync {
    /// The first of `names` that holds the address or its domain.
    fn listed_in(&self, address: &str, names: &[String]) -> Option<String>;
    /// Adds to a list; takes effect at once (CONF-61). Adding twice changes nothing.
    fn add(&self, list: &str, entry: ListEntry);
}

/// One line of a list (CONF-63).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    pub email: String,
    /// mta, relay, fbl, unlst, link or api.
    pub source: &'static str,
    pub reason: String,
}

/// What groups learn while mail is routed (FLOW-53, FLOW-59): their alias and MX files.
pub trait GroupBook: Send + Sync {
    /// A domain was found to belong to a group by its MX.
    fn alias(&self, group: &str, domain: &str);
    /// An MX of the group and one of its addresses.
    fn mx(&self, group: &str, host: &str, address: std::net::IpAddr);
}

/// What the server knows beyond its configuration (ROUTE-12, CONF-36). Every call may wait for the
/// disk: not for a network thread.
pub trait StateStore: Send + Sync {
    /// All routes, by id.
    fn routes(&self) -> io::Result<Vec<RouteRow>>;
    /// Adds rows, all or none, and gives their new ids, which were never used before. On disk when
    /// it returns. The ids in `rows` do not matter.
    fn add_routes(&self, rows: &[RouteRow], others: Others) -> io::Result<Vec<u64>>;
    /// Removes a row; false: there is none of that id. On disk when it returns.
    fn remove_route(&self, id: u64) -> io::Result<bool>;
    /// Puts and removes states of flow control, all or none. A crash may lose the last batches.
    fn put_flow(&self, batch: &[FlowEntry]) -> io::Result<()>;
    /// All states of flow control, by key.
    fn load_flow(&self) -> io::Result<Vec<(FlowKey, Vec<u8>)>>;
}

/// What becomes of the rows that are there when others are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Keep,
    Remove,
}

/// Whose flow state it is; the words are flow control's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub group: String,
    pub kind: String,
    pub key: String,
}

/// A flow state to put; without a value to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    pub key: FlowKey,
    pub value: Option<Vec<u8>>,
}

/// Takes what happened: logs now; push, statistics and webhooks later.
pub trait EventSink: Send + Sync {
    /// A transaction of a client ended. Called once per transaction, by settle.
    fn transaction(&self, submission: &Submission, answer: &Answer);
    /// Deliveries of a message in the queue were attempted.
    fn attempted(&self, submission: &Submission, settled: &[Settled]);
    /// A remote error that no pattern of the group matches (FLOW-74).
    fn unknown_error(&self, error: UnknownError);
    /// A transaction refused before delivery (at RCPT or at end of data).
    fn refused(&self, refused: Refused);
    /// A line for `logs/<module>.txt`.
    fn note(&self, module: Module, text: &str);
}

/// One line of the group's log file (CONF-69).
#[derive(Clone, Debug)]
pub struct UnknownError {
    pub group: String,
    pub at: SystemTime,
    pub reference: String,
    pub outbound: std::net::IpAddr,
    pub remote: std::net::IpAddr,
    pub stage: Stage,
    /// The reply as received, lines joined with `\n`.
    pub reply: String,
}

/// A refusal before any attempt.
#[derive(Clone, Debug)]
pub struct Refused {
    pub at: SystemTime,
    pub session_id: String,
    pub user: Option<String>,
    pub peer: std::net::IpAddr,
    pub sender: String,
    pub recipient: String,
    pub reference: String,
    pub reply: galerne_smtp::Reply,
    pub rule: String,
    pub size: u64,
}

/// The modules of CONF-30 that own a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Module {
    RfUser,
    RfMail,
    RfMta,
    RfTrack,
    RfRelay,
    Galerne,
}

impl Settled {
    /// The last attempt, if there was one.
    pub fn last_attempt(&self) -> Option<&crate::model::Attempt> {
        self.attempts.last()
    }
}
