//! The table with its index: which tier a submission falls into, and the order of its rows
//! (ROUTE-23 to ROUTE-33). A question costs at most eighteen look-ups, however many rows there are.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use galerne_smtp::{Mailbox, ReversePath};
use hashbrown::HashMap;

use super::cycle::{cycle, order};
use super::{LocalIps, RouteRow};
use crate::settings::{HostKind, RelayHost, Secret, Settings};

/// What is said where no row fits (ROUTE-24).
pub const MX_TIER: u8 = 17;

/// Most rows that one message is given. More attempts than `maxhop` allows are never made; names
/// that do not resolve cost none.
const MOST: usize = 32;

/// Rows and their index. Never changed, replaced whole; only the turns of the rotation move.
#[derive(Default)]
pub struct RouteTable {
    /// By id.
    rows: Vec<RouteRow>,
    /// The number of each user, destination and sender that some row names.
    names: HashMap<Box<str>, Name>,
    buckets: HashMap<Key, Vec<Level>>,
}

/// The number of a name; a message looks each of its own up once, whatever the tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name(u32);

/// Rows of equal conditions and priority.
struct Level {
    priority: u32,
    /// Different ones; a row entered twice is one target of double weight.
    targets: Vec<Target>,
    cycle: Vec<usize>,
    turn: AtomicU64,
    /// Which level of the table this is.
    number: usize,
    /// Where in `targets` identical rows are, while the table is made.
    places: HashMap<Identity, usize>,
}

/// What makes rows of one level the same: remote host, port, local addresses, login.
type Identity = (String, u16, LocalIps, Option<(String, Secret)>);

/// What one or several identical rows say.
#[derive(Clone, Debug)]
pub struct Target {
    /// Id of the (first) row.
    pub id: u64,
    pub priority: u32,
    /// The remote as `outbound` takes it.
    pub host: Arc<RelayHost>,
    /// How many rows say it.
    pub weight: u32,
}

/// The conditions of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    user: Option<Name>,
    destination: Option<Name>,
    from: Option<Name>,
}

/// What is known of a submission.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The login that counts as authenticated (ROUTE-60); `None`: nobody.
    pub login: Option<&'a str>,
    /// The client's original MAIL FROM (ROUTE-28).
    pub sender: &'a ReversePath,
    /// Domain of the recipient, in ASCII.
    pub domain: &'a str,
}

/// The tier that applies and its targets in the order of their attempts; never empty.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub tier: u8,
    pub targets: Vec<Target>,
}

#[derive(Clone, Copy)]
enum User {
    Login,
    LoginDomain,
    Authenticated,
    Anybody,
}

#[derive(Clone, Copy)]
enum Destination {
    Exact,
    Any,
}

#[derive(Clone, Copy)]
enum From {
    Address,
    Domain,
    Any,
}

/// ROUTE-24. Tiers 13 and 14 ask twice.
const TIERS: [(u8, User, Destination, From); 18] = [
    (1, User::Login, Destination::Exact, From::Address),
    (2, User::LoginDomain, Destination::Exact, From::Address),
    (3, User::Login, Destination::Exact, From::Domain),
    (4, User::LoginDomain, Destination::Exact, From::Domain),
    (5, User::Login, Destination::Exact, From::Any),
    (6, User::LoginDomain, Destination::Exact, From::Any),
    (7, User::Login, Destination::Any, From::Address),
    (8, User::LoginDomain, Destination::Any, From::Address),
    (9, User::Login, Destination::Any, From::Domain),
    (10, User::LoginDomain, Destination::Any, From::Domain),
    (11, User::Login, Destination::Any, From::Any),
    (12, User::LoginDomain, Destination::Any, From::Any),
    (13, User::Authenticated, Destination::Exact, From::Address),
    (13, User::Authenticated, Destination::Exact, From::Domain),
    (14, User::Authenticated, Destination::Any, From::Address),
    (14, User::Authenticated, Destination::Any, From::Domain),
    (15, User::Anybody, Destination::Exact, From::Any),
    (16, User::Anybody, Destination::Any, From::Any),
];

/// What a tier asks for, in words: `login's domain, any destination, sender's domain`.
pub fn tier_words(tier: u8) -> String {
    let mut tiers = TIERS.iter().filter(|(number, ..)| *number == tier);
    let Some((_, user, destination, from)) = tiers.next() else {
        return "MX".to_owned();
    };
    let user = match user {
        User::Login => "full login",
        User::LoginDomain => "login's domain",
        User::Authenticated => "any authenticated user",
        User::Anybody => "any user",
    };
    let destination = match destination {
        Destination::Exact => "exact destination",
        Destination::Any => "any destination",
    };
    let from = match from {
        From::Address if tiers.next().is_some() => "full sender address, then its domain",
        From::Address => "full sender address",
        From::Domain => "sender's domain",
        From::Any => "any sender",
    };
    format!("{user}, {destination}, {from}")
}

/// An address as it is compared: lower case, its domain in ASCII.
pub(super) fn folded(mailbox: &Mailbox) -> Cow<'_, str> {
    let text = mailbox.as_str();
    if text.is_ascii() {
        return lower(text);
    }
    let local = text.rsplit_once('@').map_or(text, |(local, _)| local);
    Cow::Owned(format!("{local}@{}", mailbox.ascii_domain()).to_lowercase())
}

impl RouteTable {
    /// The index of these rows; `settings` say how logins may be sent (ROUTE-41) and which remote
    /// hosts have a file (ROUTE-4).
    pub fn new(mut rows: Vec<RouteRow>, settings: &Settings) -> Self {
        rows.sort_by_key(|row| row.id);
        let mut buckets: HashMap<Key, Vec<Level>> = HashMap::new();
        let mut names: HashMap<Box<str>, Name> = HashMap::new();
        for row in &rows {
            let mut name = |text: &String| {
                let next = Name(u32::try_from(names.len()).unwrap_or(u32::MAX));
                let folded = text.to_lowercase().into_boxed_str();
                *names.entry(folded).or_insert(next)
            };
            let key = Key {
                user: row.user.as_ref().map(&mut name),
                destination: row.destination.as_ref().map(&mut name),
                from: row.mail_from.as_ref().map(&mut name),
            };
            let levels = buckets.entry(key).or_default();
            let place = match levels.binary_search_by_key(&row.priority, |l| l.priority) {
                Ok(place) => place,
                Err(place) => {
                    levels.insert(place, Level::new(row.priority));
                    place
                }
            };
            if let Some(level) = levels.get_mut(place) {
                level.take(row, settings);
            }
        }
        for (number, level) in buckets.values_mut().flatten().enumerate() {
            let weights: Vec<u32> = level.targets.iter().map(|t| t.weight).collect();
            level.cycle = cycle(&weights);
            level.number = number;
            level.places = HashMap::new();
        }
        RouteTable {
            rows,
            names,
            buckets,
        }
    }

    /// The rows, by id.
    pub fn rows(&self) -> &[RouteRow] {
        &self.rows
    }

    /// The first tier that has rows for this, with its levels by priority.
    fn find(&self, wanted: &Wanted<'_>) -> Option<(u8, &[Level])> {
        if self.buckets.is_empty() {
            return None;
        }
        let name = |text: &str| self.names.get(text).copied();
        let domain_of = |address: &str| name(address.rsplit_once('@')?.1);
        let login = wanted.login.map(lower);
        let login = login.as_deref();
        let user = (login.and_then(name), login.and_then(domain_of));
        let destination = name(&lower(wanted.domain));
        // ROUTE-9: a sender is believed only of somebody who has proved who he is.
        let sender = login.and_then(|_| wanted.sender.mailbox().map(folded));
        let sender = sender.as_deref();
        let from = (sender.and_then(name), sender.and_then(domain_of));
        TIERS.iter().find_map(|&(tier, of_user, to, of_sender)| {
            let key = Key {
                user: match of_user {
                    User::Login => Some(user.0?),
                    User::LoginDomain => Some(user.1?),
                    User::Authenticated | User::Anybody => None,
                },
                destination: match to {
                    Destination::Exact => Some(destination?),
                    Destination::Any => None,
                },
                from: match of_sender {
                    From::Address => Some(from.0?),
                    From::Domain => Some(from.1?),
                    From::Any => None,
                },
            };
            Some((tier, self.buckets.get(&key)?.as_slice()))
        })
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    match text
        .bytes()
        .any(|b| b.is_ascii_uppercase() || !b.is_ascii())
    {
        true => Cow::Owned(text.to_lowercase()),
        false => Cow::Borrowed(text),
    }
}

impl std::fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.rows).finish()
    }
}

impl Level {
    fn new(priority: u32) -> Self {
        Level {
            priority,
            targets: Vec::new(),
            cycle: Vec::new(),
            turn: AtomicU64::new(0),
            number: 0,
            places: HashMap::new(),
        }
    }

    /// Adds a row, or its weight to that of an identical one (ROUTE-11).
    fn take(&mut self, row: &RouteRow, settings: &Settings) {
        let identity = (
            row.remote_host.clone(),
            row.remote_port,
            row.local_ips.clone(),
            row.auth.clone(),
        );
        let next = self.targets.len();
        let place = *self.places.entry(identity).or_insert(next);
        match self.targets.get_mut(place) {
            Some(target) => target.weight += 1,
            None => self.targets.push(Target {
                id: row.id,
                priority: row.priority,
                host: Arc::new(relay_host(row, settings)),
                weight: 1,
            }),
        }
    }
}

/// The remote of a row as a relay host.
fn relay_host(row: &RouteRow, settings: &Settings) -> RelayHost {
    let file = settings
        .hosts
        .iter()
        .find(|host| host.host.eq_ignore_ascii_case(&row.remote_host));
    let (login, password) = row.auth.clone().unzip();
    let ips = row.local_ips.addresses();
    RelayHost {
        kind: HostKind::Table,
        name: format!("route {}", row.id),
        file: "route table".to_owned(),
        host: row.remote_host.clone(),
        port: row.remote_port,
        ips: (!ips.is_empty()).then(|| ips.to_vec()),
        in_order: matches!(row.local_ips, LocalIps::Failover(_)),
        login,
        password,
        overwrite: false,
        authclear: settings.rfmta.authclear,
        verify: settings.rfmta.verify,
        ssl: None,
        group: file.and_then(|host| host.group.clone()),
    }
}

/// The table as one message sees it: it takes one turn of each rotation that it comes to, however
/// many recipients it has.
pub struct Draw {
    table: Arc<RouteTable>,
    manner: Manner,
    /// (level, turn)
    drawn: Mutex<Vec<(usize, u64)>>,
}

enum Manner {
    Takes,
    Looks,
}

impl Draw {
    /// For a message that is sent.
    pub fn new(table: Arc<RouteTable>) -> Self {
        let drawn = Mutex::default();
        Draw {
            table,
            manner: Manner::Takes,
            drawn,
        }
    }

    /// For an explanation: what the next message would get, without taking its turn.
    pub fn look(table: Arc<RouteTable>) -> Self {
        Draw {
            manner: Manner::Looks,
            ..Draw::new(table)
        }
    }

    /// The tier for this and the order of its rows; `None`: no row fits (ROUTE-2).
    pub fn choose(&self, wanted: &Wanted<'_>) -> Option<Chosen> {
        let (tier, levels) = self.table.find(wanted)?;
        let count: usize = levels.iter().map(|level| level.targets.len()).sum();
        let mut targets = Vec::with_capacity(count.min(MOST));
        for level in levels {
            let most = MOST.saturating_sub(targets.len());
            if most == 0 {
                break;
            }
            let order = order(&level.cycle, self.turn(level), most).into_iter();
            targets.extend(order.filter_map(|index| level.targets.get(index)).cloned());
        }
        Some(Chosen { tier, targets })
    }

    fn turn(&self, level: &Level) -> u64 {
        if level.targets.len() < 2 {
            return 0;
        }
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, turn)) = drawn.iter().find(|(number, _)| *number == level.number) {
            return *turn;
        }
        let turn = match self.manner {
            Manner::Takes => level.turn.fetch_add(1, Ordering::Relaxed),
            Manner::Looks => level.turn.load(Ordering::Relaxed),
        };
        drawn.push((level.number, turn));
        turn
    }
}

impl std::fmt::Debug for Draw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draw").finish_non_exhaustive()
    }
}
