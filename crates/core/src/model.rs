//! The words of the house: what is submitted, tried, and how it ended.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use galerne_smtp::Stage;
pub use galerne_smtp::command::{Notify, Ret};
pub use galerne_smtp::{Mailbox, Reply, ReversePath};

use crate::content::{Content, Patch};
use crate::directive::Directive;
use crate::flow::{Control, Moment};
use crate::queue::board::Closed;
use crate::refusal::Refusal;
use crate::settings::{Account, Group, Mode, OutboundIp, Outbounds, RelayHost, Ssl};
use crate::signing::Signing;
use crate::snapshot::Snapshot;
use crate::tls_policy::Wish;

/// The envelope sender with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    pub path: ReversePath,
    pub ret: Option<Ret>,
    /// Decoded from xtext.
    pub envid: Option<String>,
    /// BODY=8BITMIME was given.
    pub eight_bit: bool,
    pub smtputf8: bool,
    /// REQUIRETLS was given: TLS with a proof, or no delivery (RFC 8689).
    pub requiretls: bool,
}

/// One recipient with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub mailbox: Mailbox,
    pub notify: Option<Notify>,
    /// (type, address), decoded from xtext.
    pub orcpt: Option<(String, String)>,
}

/// Who submits, and how we know.
#[derive(Clone, Debug)]
pub struct Client {
    /// The account; `None` for an unauthenticated client.
    pub account: Option<Arc<Account>>,
    /// The login it proved, or the account's own for a client known by its address (ROUTE-60).
    pub login: Option<String>,
    /// Its address (that of the PROXY header where one was trusted).
    pub peer: SocketAddr,
    /// The name it gave in EHLO or HELO.
    pub helo: String,
    /// Whether the session is encrypted.
    pub tls: bool,
    /// The session, for logs.
    pub session_id: String,
}

/// What the one door takes: SMTP, HTTP and jobs build the same.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Id of the message, for logs.
    pub message_id: String,
    pub settings: Arc<Snapshot>,
    pub client: Client,
    pub sender: Sender,
    pub recipients: Vec<Recipient>,
    pub content: Content,
    /// What goes out of it: the directive cut, the trace field in front.
    pub patch: Patch,
    pub directive: Directive,
    /// The header says `TLS-Required: No` (RFC 8689 §3).
    pub tls_not_required: bool,
    /// The address of the From field, if the header has exactly one usable one.
    pub header_from: Option<Mailbox>,
    /// The Message-ID field as written, for logs.
    pub header_id: Option<String>,
    /// `message.ref`, or a generated one.
    pub reference: String,
    /// When the client's end of data came; all timeouts count from here (RELAY-40).
    pub received: Instant,
    pub received_at: SystemTime,
    /// The client asked for PRDR at MAIL (RELAY-20).
    pub prdr: bool,
    /// Content that must leave by BDAT: bare CR or LF was let through (RELAY-18).
    pub needs_chunking: bool,
    /// Whether it is a notification of our own, which never makes another (RET-37).
    pub is_dsn: bool,
    /// Whether the client waits for the remote's answer, or the message is taken over (QUEUE-1).
    pub mode: Mode,
    /// Outbounds that are not to be used now (QUEUE-18).
    pub without: Vec<IpAddr>,
    /// Suspended lanes to which it may turn out to belong (QUEUE-18).
    pub closed: Vec<Closed>,
    /// The outbound to be tried first: the one that a server which lists grey has seen (T-52).
    pub first: Option<IpAddr>,
    /// It is in the queue: nobody waits, and the times of RFC 5321 hold (QUEUE-25).
    pub queued: bool,
}

impl Submission {
    /// What the sender asks of TLS.
    pub fn tls_wish(&self) -> Wish {
        Wish::of(self.sender.requiretls, self.tls_not_required)
    }
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The remote said 2xx after the final dot.
    Delivered,
    /// A temporary failure.
    Deferred,
    /// A permanent failure.
    Failed,
    /// The final dot was sent and no reply came (RELAY-70).
    Unknown,
    /// The client went away before the final dot (RELAY-71).
    Cancelled,
}

/// What a reply means (FLOW-61 to FLOW-75).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    Soft,
    Hard,
    Spam,
    /// Grey-listed; retry after this long.
    Grey(Duration),
    /// A block; the sets to enter for the IP and the sender, if named.
    Flow {
        ipset: Option<FlowSetName>,
        sdset: Option<FlowSetName>,
    },
}

/// The eight sets in order of growing throughput (FLOW-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowSetName {
    Defcon3,
    Defcon2,
    Defcon1,
    Warmup,
    Low,
    Mid,
    High,
    Full,
}

impl FlowSetName {
    /// All, slowest first.
    pub const ALL: [FlowSetName; 8] = [
        FlowSetName::Defcon3,
        FlowSetName::Defcon2,
        FlowSetName::Defcon1,
        FlowSetName::Warmup,
        FlowSetName::Low,
        FlowSetName::Mid,
        FlowSetName::High,
        FlowSetName::Full,
    ];

    /// The word of the configuration: `defcon3` … `full`.
    pub fn word(self) -> &'static str {
        match self {
            FlowSetName::Defcon3 => "defcon3",
            FlowSetName::Defcon2 => "defcon2",
            FlowSetName::Defcon1 => "defcon1",
            FlowSetName::Warmup => "warmup",
            FlowSetName::Low => "low",
            FlowSetName::Mid => "mid",
            FlowSetName::High => "high",
            FlowSetName::Full => "full",
        }
    }

    /// The set of that word, without regard to case.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|s| s.word().eq_ignore_ascii_case(word))
    }
}

/// A qualified reply: what it means and which pattern says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qualification {
    pub class: Class,
    /// Name of the pattern (`rfpattern`); `None`: no pattern matched (soft by default, FLOW-61).
    pub pattern: Option<String>,
    /// Description of the pattern (`rfstr`).
    pub description: String,
    /// File and line of the pattern.
    pub source: String,
}

/// Where a delivery goes next, with the rule that chose it.
#[derive(Clone, Debug)]
pub struct Route {
    pub next_hop: NextHop,
    /// For logs and `explain`.
    pub rule: RouteRule,
}

/// What chose a route. It becomes text only where somebody reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteRule {
    /// A row of the route table.
    Row { id: u64, tier: u8 },
    /// `MX of example.org`, `users/shop.ini:12 [routing] route` …
    Words(Arc<str>),
}

impl std::fmt::Display for RouteRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RouteRule::Row { id, tier } => write!(f, "route {id}, tier {tier}"),
            RouteRule::Words(words) => f.write_str(words),
        }
    }
}

/// The next stop.
#[derive(Clone, Debug)]
pub enum NextHop {
    /// The MX of the recipient's domain.
    Mx,
    /// A relay host of hosts/, a group with `relay = 1`, a route or the target of a relay service.
    Host(Arc<RelayHost>),
}

impl NextHop {
    /// The relay host, if it is one.
    pub fn host(&self) -> Option<&Arc<RelayHost>> {
        match self {
            NextHop::Mx => None,
            NextHop::Host(host) => Some(host),
        }
    }
}

/// One remote address that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The MX or host name (or the address, if it was given as one).
    pub host: Arc<str>,
    pub address: SocketAddr,
}

/// Everything decided for one recipient before the first attempt.
#[derive(Clone, Debug)]
pub struct Plan {
    pub route: Route,
    /// The group whose patterns qualify replies; for a relay host that of its own file (ROUTE-4).
    pub group: Arc<Group>,
    /// Local addresses that may be used, in the order of preference.
    pub outbounds: Outbounds,
    /// `outbounds` is to be used in its given order (directive), else in rotation.
    pub ordered: bool,
    pub ssl: Ssl,
    /// What does not depend on the route, shared by the plans of a recipient.
    pub terms: Arc<Terms>,
    /// (key, value, rule) of each decision above, for `explain`.
    pub reasons: Vec<(String, String, String)>,
}

/// What the plans of a recipient have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A fixed EHLO name; `None`: the name of the chosen outbound (`@rdns`).
    pub ehlo: Option<String>,
    /// The envelope sender to use outbound.
    pub sender: OutboundSender,
    /// Who signs.
    pub signing: Signing,
    pub timeout: Duration,
    pub maxhop: u32,
}

impl std::ops::Deref for Plan {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

/// The envelope sender used outbound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundSender {
    /// This one.
    Fixed(ReversePath),
    /// `@verp`: generated per recipient, at this domain, or at the chosen outbound's name.
    Verp { domain: Option<String> },
}

/// One connection attempt and what came of it: a hop (RELAY-42).
#[derive(Clone, Debug)]
pub struct Attempt {
    /// 1 for the first.
    pub hop: u32,
    pub outbound: Arc<OutboundIp>,
    pub remote: Remote,
    /// The step that ended it.
    pub stage: Stage,
    /// The remote's reply there, if there was one.
    pub reply: Option<Reply>,
    /// Why there was none: `connection refused`, `timed out after 10 s` …
    pub failure: Option<String>,
    pub qualification: Option<Qualification>,
    /// Protocol and cipher, if the session was encrypted.
    pub tls: Option<String>,
    /// The remote offers DSN: it has the parameters, and notifies itself (RET-34).
    pub dsn: bool,
    pub duration: Duration,
}

/// The end of one delivery (one message to one recipient).
#[derive(Clone, Debug)]
pub struct Settled {
    pub recipient: Mailbox,
    pub outcome: Outcome,
    /// What the client is told of it, RELAY-67 and RELAY-74 applied.
    pub reply: Reply,
    /// Our own refusal, where no remote spoke.
    pub refusal: Option<Refusal>,
    /// Which control of flow control gave no leave, where that is why.
    pub hold: Option<Hold>,
    /// The group that was found (`None`: refused before that).
    pub group: Option<Arc<Group>>,
    pub route: Option<String>,
    /// The relay host on that route; `None`: by MX, or not tried.
    pub host: Option<Arc<RelayHost>>,
    /// The envelope sender used.
    pub sender: ReversePath,
    pub attempts: Vec<Attempt>,
    pub duration: Duration,
}

/// Flow control gave no leave in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// `Sender`: mail of other sender domains may go all the same.
    pub control: Control,
    /// It will not before this moment; `None`: when something else has ended.
    pub not_before: Option<Moment>,
}

/// What the client is told at its end of data.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The combined reply (RELAY-20).
    pub reply: Reply,
    /// One per recipient in the order of RCPT, with all that is known of it.
    pub settled: Vec<Settled>,
}
