//! Typed settings: what the configuration means. `galerne-config` fills them in, the edges and
//! the decisions read them. A transaction keeps the snapshot with which it began.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use galerne_smtp::Mailbox;

use crate::flow::params::Sections;
use crate::keys::KeyFile;
pub use crate::outbounds::Outbounds;
use crate::qualify::Patterns;

/// A key of a user file: presence is what counts for overriding (CONF-16, RELAY-58).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Key<T> {
    #[default]
    Absent,
    /// Present with an empty value: the default, and the order may not say otherwise.
    Empty,
    Set(T),
}

impl<T> Key<T> {
    /// Whether the key stands in the file, even empty.
    pub fn is_present(&self) -> bool {
        !matches!(self, Key::Absent)
    }
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Key::Set(v) => Some(v),
            _ => None,
        }
    }
}

/// A network in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

/// One address of `[IP]` (CONF-23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundIp {
    pub address: IpAddr,
    /// Its reverse-DNS name, used in EHLO.
    pub name: String,
}

/// What a listener speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenTls {
    /// Clear; STARTTLS is offered for SMTP.
    Plain,
    /// TLS from the first octet.
    Implicit,
}

/// One entry of a `listen` list (CONF-28, IF-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    pub tls: ListenTls,
}

/// `[rfrelay]barelf` (RELAY-18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareLf {
    #[default]
    Reject,
    Normalise,
    Pass,
}

/// `[rfrelay]`: the incoming side.
#[derive(Clone, Debug)]
pub struct RfRelay {
    pub listen: Vec<Listen>,
    pub threadnb: usize,
    pub maxperip: usize,
    pub maxsize: u64,
    pub maxrcpt: usize,
    pub barelf: BareLf,
    /// `None`: the key is absent (0 for synchronous relay, QUEUE-2).
    pub received: Option<bool>,
    pub keepdirective: bool,
    pub blocktemp: bool,
    pub permcode: bool,
    pub chunking: bool,
    pub proxyfrom: Vec<Network>,
    /// Local parts that receive DMARC reports, lower case (CONF-85).
    pub dmarcaddr: Vec<String>,
    /// Local parts that receive feedback-loop reports, lower case (CONF-85).
    pub fbladdr: Vec<String>,
}

/// `[rfmta]`: the outgoing side.
#[derive(Clone, Debug)]
pub struct RfMta {
    pub threadnb: usize,
    pub mxport: u16,
    pub cafile: Option<PathBuf>,
    pub connecttimeout: Duration,
    pub idle: Duration,
    pub grace: Duration,
    pub authclear: bool,
    pub verify: bool,
    /// TLSA records count, where answers are secure (`[dns]dnssec`).
    pub dane: bool,
    pub mtasts: bool,
    pub mtastsport: u16,
}

/// QUEUE-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Sync,
    Queue,
    Auto,
}

/// `routing.ehlo` (RELAY-44).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EhloName {
    Rdns,
    Name(String),
}

/// `routing.envelopefrom` (RELAY-45).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvelopeFrom {
    MailFrom,
    Verp,
    From,
    Address(Mailbox),
}

/// `routing.sign` (RELAY-48, RELAY-49).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    From,
    Envelope,
    Both,
    None,
}

/// `routing.ssl` (RELAY-54, RELAY-55).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ssl {
    /// STARTTLS when offered, clear on failure.
    Opportunistic,
    Never,
    /// No clear fallback.
    Required,
}

/// The keys of `[routing]` or `[routing@group]`, of a user file or of the main file.
#[derive(Clone, Debug, Default)]
pub struct RoutingKeys {
    pub ip: Key<Vec<IpAddr>>,
    pub sender: Key<String>,
    pub ehlo: Key<EhloName>,
    pub envelopefrom: Key<EnvelopeFrom>,
    pub sign: Key<Sign>,
    pub ssl: Key<Ssl>,
    /// Host names without `@`, lower case.
    pub route: Key<Vec<String>>,
    pub arc: Key<bool>,
    /// `file:line` of a key, for `explain`; key name in lower case.
    pub places: Vec<(String, String)>,
}

/// The keys of `[message]` (user file) or `[relay]` (main and user file).
#[derive(Clone, Debug, Default)]
pub struct MessageKeys {
    pub timeout: Key<Duration>,
    pub maxhop: Key<u32>,
    pub mode: Key<Mode>,
}

/// A password or key: clear or `{argon2}…` (CONF-53). Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// One account: `users/<name>.ini`.
#[derive(Clone, Debug)]
pub struct Account {
    /// Lower case.
    pub name: String,
    /// Path of the file, relative to the root.
    pub file: String,
    pub smtpssl: bool,
    /// `smtplogin`, else the name if a password exists (CONF-52).
    pub login: Option<String>,
    pub password: Option<Secret>,
    /// `smtpip` (CONF-92).
    pub smtpip: Vec<Network>,
    /// `None`: not set, all of `[IP]` (CONF-45).
    pub authorizedip: Option<Vec<IpAddr>>,
    /// `None`: not set. Domains in lower case.
    pub authorizedsender: Option<Vec<String>>,
    /// Host names without `@`.
    pub authorizedroute: Vec<String>,
    /// Group names without `@`; `*` = all.
    pub authorizedrouting: Vec<String>,
    /// Patterns of `granted_from_addr` (CONF-55).
    pub granted_from: Option<Vec<String>>,
    /// Most recipients per sliding hour and day (CONF-93); 0: no limit.
    pub maxhour: u64,
    pub maxday: u64,
    /// List names, `%user%` replaced.
    pub filter: Vec<String>,
    pub message: MessageKeys,
    pub routing: RoutingKeys,
    /// (group name without `@`, keys).
    pub routing_by_group: Vec<(String, RoutingKeys)>,
    /// `[relay@<senderdomain>]`, one per domain.
    pub services: Vec<Arc<RelayService>>,
}

impl Account {
    /// Under which login its mail counts that came without one (ROUTE-60).
    pub fn own_login(&self) -> &str {
        self.login.as_deref().unwrap_or(&self.name)
    }
}

/// Where a relay host is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// A file of its own, or a group with `relay = 1`.
    File,
    /// A row of the route table (ROUTE-5).
    Table,
    /// `[relay@<senderdomain>]` of a user file (ROUTE-44).
    Service,
}

/// One `[relay@<senderdomain>]` of an account (ROUTE-45 to ROUTE-48).
#[derive(Clone, Debug)]
pub struct RelayService {
    /// Sender domain, lower case, in ASCII.
    pub domain: String,
    /// Only these sender addresses; empty: all of the domain.
    pub addresses: Vec<Mailbox>,
    /// The target.
    pub host: Arc<RelayHost>,
}

/// A relay host: `hosts/@name.ini` or a group with `relay = 1` (CONF-73 to CONF-78), and whatever
/// else names one remote to deliver to.
#[derive(Clone, Debug)]
pub struct RelayHost {
    pub kind: HostKind,
    /// Without `@`.
    pub name: String,
    pub file: String,
    /// `[dns]mx`: host name or address, no wildcards.
    pub host: String,
    pub port: u16,
    /// `[dns]ip`; `None`: the user's authorised ones.
    pub ips: Option<Vec<IpAddr>>,
    /// `ips` are to be used in their order (`a&b` of a route), else in rotation.
    pub in_order: bool,
    pub login: Option<String>,
    pub password: Option<Secret>,
    pub overwrite: bool,
    pub authclear: bool,
    pub verify: bool,
    /// Use of TLS; `None`: as `[routing]ssl` says.
    pub ssl: Option<Ssl>,
    /// Its patterns as a group of its own (ROUTE-4); `None`: it has no file, the group is that of
    /// the recipient's domain.
    pub group: Option<Arc<Group>>,
}

/// A destination group: `domains/@name.ini`; the catch-all has an empty name (FLOW-1).
#[derive(Clone, Debug)]
pub struct Group {
    /// Without `@`.
    pub name: String,
    pub file: String,
    /// MX name patterns, lower case.
    pub mx: Vec<String>,
    /// `[dns]domain`.
    pub domain: Option<String>,
    pub cache: bool,
    /// Domains of the alias file, lower case.
    pub aliases: Vec<String>,
    /// Set for a group with `relay = 1`: name of its `RelayHost` in `Settings::hosts`.
    pub relay: Option<String>,
    /// The group's own patterns, then those of `.defflow.ini` (FLOW-66).
    pub patterns: Patterns,
    /// Its own flow sections (FLOW-12 to FLOW-15).
    pub flow: Sections,
}

/// `[queue]` and `[maildrop]` of the main file, and the bounds of `[galerne]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKeys {
    /// Most records (CONF-31).
    pub qmsize: u64,
    /// KB that a body may have in the database of the queue (CONF-31).
    pub qmmemo: u64,
    pub maxage: Duration,
    /// Pauses between attempts; the last one repeats. Never empty.
    pub retry: Vec<Duration>,
    pub unknowndelay: Duration,
    /// Wait for stable storage; off is unsafe (QUEUE-7).
    pub sync: bool,
    /// Octets that must be free on the disk.
    pub minfree: u64,
    pub tracekeep: Duration,
    /// `[maildrop]`: who may drop mail, whose it is, and the domain of names without one.
    pub maildrop: Maildrop,
}

/// `[maildrop]` (QUEUE-24).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maildrop {
    pub group: Option<String>,
    pub user: Option<String>,
    pub origin: Option<String>,
}

impl Default for QueueKeys {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        QueueKeys {
            qmsize: 100_000,
            qmmemo: 16,
            maxage: minutes(48 * 60),
            retry: [5, 10, 20, 40, 60].map(minutes).to_vec(),
            unknowndelay: minutes(15),
            sync: true,
            minfree: 256 << 20,
            tracekeep: minutes(7 * 24 * 60),
            maildrop: Maildrop::default(),
        }
    }
}

/// `[dns]` of the main file.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// Empty: the system's.
    pub resolvers: Vec<SocketAddr>,
    /// `None`: the resolver's own default.
    pub timeout: Option<Duration>,
    /// `None`: `TrustAd` if every name server is on loopback, else `Off`.
    pub dnssec: Option<Dnssec>,
    /// Keys to validate from; `None`: those of the root.
    pub trustanchor: Option<PathBuf>,
}

/// `[dns]dnssec`: who says that an answer is secure (CONF-27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dnssec {
    /// We validate signatures ourselves.
    Validate,
    /// The name server does, and its AD bit is believed.
    TrustAd,
    /// Nobody: no answer is secure.
    Off,
}

/// Everything. Built by `galerne-config`, never changed, replaced whole on reload.
#[derive(Clone, Debug)]
pub struct Settings {
    pub root: PathBuf,
    /// `[rfuser]spool`, else `<root>/spool` (CONF-7).
    pub spool: PathBuf,
    /// `[IP]` in file order, only usable addresses.
    pub outbounds: Outbounds,
    pub rfrelay: RfRelay,
    pub rfmta: RfMta,
    pub queue: QueueKeys,
    /// `[relay]` of the main file.
    pub message: MessageKeys,
    /// `[routing]` of the main file.
    pub routing: RoutingKeys,
    pub dns: Dns,
    pub accounts: Vec<Arc<Account>>,
    /// Named groups, by name.
    pub groups: Vec<Arc<Group>>,
    /// Flow sections of `.defflow.ini`.
    pub flow_defaults: Arc<Sections>,
    /// `domains/@.ini`, or an empty group.
    pub catch_all: Arc<Group>,
    pub hosts: Vec<Arc<RelayHost>>,
    /// Usable keys of `keys/`, by file name.
    pub keys: Vec<KeyFile>,
    /// `[galerne]runas`.
    pub runas: Option<String>,
    /// `[rafale]logage`, days.
    pub logage: u32,
    /// `[rafale]log = json` (IF-13).
    pub log_json: bool,
    /// The name of this server in greetings: name of the first `[IP]` entry, else the host's.
    pub hostname: String,
}
