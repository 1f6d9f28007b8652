//! Random worlds of mail that waits: accounts with unequal heaps of messages share sessions,
//! windows and pauses. Nobody goes beyond a limit, nobody waits who could go, and of accounts that
//! have something waiting none gets a tenth more than another.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use galerne_core::flow::desk::Travel;
use galerne_core::flow::params::{Params, Sections};
use galerne_core::flow::{Control, Set};
use galerne_core::model::Remote;
use galerne_core::settings::OutboundIp;
use galerne_core::tls_policy::{Encryption, Proof};
use galerne_smtp::client::{ClientConfig, ClientSession, StartTlsUse};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use super::*;
use crate::pool::Pool;

/// Messages of each account, and of the one that has more.
const HEAP: usize = 40;
const LARGE_HEAP: usize = 80;
/// So few that they may all want the same outbound.
const FEW: usize = 10;
/// A sender domain: all accounts are alike.
const SENDER: &str = "a.example";
/// After so long a waiter who could go has been forgotten.
const FORGOTTEN: Duration = Duration::from_millis(5);

/// xorshift64*.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
    }
}

fn fill(chance: &mut Chance, sections: &mut Sections, control: Control) {
    let set = sections.section(control, Set::Warmup, None);
    let number = |chance: &mut Chance, below: u64| u32::try_from(chance.next(below)).unwrap();
    set.threadmax = Some(number(chance, 5));
    set.chainmax = Some(number(chance, 6));
    set.waittime = Some(Duration::from_millis(chance.next(4) * 700));
    if chance.next(2) == 0 {
        set.volttllow = Some(Duration::from_secs(5 + chance.next(60)));
        set.volmaxlow = Some(5 + chance.next(40));
    }
    if chance.next(3) == 0 {
        set.volttlhigh = Some(Duration::from_secs(300));
        set.volmaxhigh = Some(40 + chance.next(200));
    }
}

/// What is written down apart from the desk, for one address or for the sender.
#[derive(Default)]
struct Book {
    open: u32,
    /// When sessions that carried something ended.
    ended: Vec<Instant>,
    sent: Vec<Instant>,
}

#[derive(Default)]
struct Books {
    of: HashMap<Option<IpAddr>, Book>,
    /// Messages that each session carried.
    carried: HashMap<u64, u32>,
    sessions: u64,
    /// How many of each account were let go.
    let_go: Vec<usize>,
}

/// The two that a session or a message counts for.
fn both(outbound: IpAddr) -> [Option<IpAddr>; 2] {
    [Some(outbound), None]
}

struct World {
    seed: u64,
    pace: Arc<Pace>,
    pool: Arc<Pool>,
    outbounds: Outbounds,
    /// Of the address, of the sender.
    params: [Params; 2],
    books: Mutex<Books>,
    chance: Mutex<Chance>,
}

/// The wire of a session; its end is written down.
struct Wire {
    world: Weak<World>,
    number: u64,
    outbound: IpAddr,
}

impl Drop for Wire {
    fn drop(&mut self) {
        let Some(world) = self.world.upgrade() else {
            return;
        };
        let mut books = world.books.lock().unwrap();
        let carried = books.carried.remove(&self.number).unwrap_or(0);
        for key in both(self.outbound) {
            let book = books.of.entry(key).or_default();
            book.open -= 1;
            if carried > 0 {
                book.ended.push(Instant::now());
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl World {
    fn new(seed: u64) -> Arc<Self> {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut sections = Sections::default();
        for control in [Control::Ip, Control::Sender] {
            fill(&mut chance, &mut sections, control);
        }
        let flow = GroupFlow {
            sections: sections.clone(),
            ..GroupFlow::default()
        };
        let of = |control| {
            let none = Sections::default();
            galerne_core::flow::params::resolve(&sections, &none, control, Set::Warmup, "")
        };
        let params = [of(Control::Ip), of(Control::Sender)];
        let outbound = |n: u8| OutboundIp {
            address: IpAddr::from([192, 0, 2, n]),
            name: format!("mta{n}.example"),
        };
        let count = 1 + u8::try_from(chance.next(3)).unwrap();
        Arc::new(World {
            seed,
            pace: Pace::new(vec![("isp".to_owned(), flow)], Vec::new()).0,
            pool: Arc::default(),
            outbounds: (1..=count).map(|n| Arc::new(outbound(n))).collect(),
            params,
            books: Mutex::default(),
            chance: Mutex::new(chance),
        })
    }

    fn chance(&self, below: u64) -> u64 {
        self.chance.lock().unwrap().next(below)
    }

    fn millis(&self, below: u64) -> Duration {
        Duration::from_millis(self.chance(below))
    }

    fn key(&self, outbound: IpAddr) -> Key {
        Key {
            outbound,
            remote: "198.51.100.25:25".parse().unwrap(),
            host: "mx.isp.example".into(),
            ehlo: "mta.example".into(),
            encryption: Encryption::Never,
            proof: Proof::None,
            credentials: None,
            auth_in_clear: false,
        }
    }

    fn wish(&self, account: usize, turn: usize) -> Wish {
        let mut wish = Wish {
            account: format!("account-{account}").into(),
            group: "isp".into(),
            domain: "isp.example".into(),
            sender: SenderDomain::Fixed(SENDER.into()),
            outbounds: self.outbounds.clone(),
            among: Alternatives::any(0),
            is_ordered: false,
            turn,
            count: 1,
        };
        // The outbound that stands best, as for any message.
        let remote = Remote {
            host: "mx.isp.example".into(),
            address: "198.51.100.25:25".parse().unwrap(),
        };
        let mut chase = Chase::new(vec![remote], self.outbounds.clone(), 3);
        if let Next::Try { outbound, .. } = self.pace.next_hop(&mut chase, &wish, &|_| false) {
            let chosen = self.outbounds.place(outbound.address).unwrap();
            wish.among = Alternatives::any(chosen);
        }
        wish
    }

    /// One message from the line to the end, as `admit` and `attempt` lead it.
    async fn message(self: Arc<Self>, account: usize, turn: usize) {
        let wish = self.wish(account, turn);
        let chosen = self.outbounds.get(wish.among.chosen).unwrap().address;
        let (mut connection, mut leave) = match self.in_idle_session(chosen, &wish) {
            Some(found) => found,
            None => self.in_line(chosen, wish).await,
        };
        self.books.lock().unwrap().let_go[account] += 1;
        self.is_fair();
        sleep(self.millis(30)).await;
        if self.chance(10) == 0 {
            // It never came to MAIL.
            drop(leave);
            drop(connection);
            return;
        }
        connection.mark.as_mut().unwrap().used();
        leave.mail_sent();
        self.carried(&connection);
        sleep(self.millis(400)).await;
        self.pace.delivered(leave.spot(), 1);
        match self.chance(8) {
            0 => drop(connection),
            _ => self.give_back(&leave, connection),
        }
    }

    fn in_idle_session(
        self: &Arc<Self>,
        outbound: IpAddr,
        wish: &Wish,
    ) -> Option<(Box<Connection>, Leave)> {
        let key = self.key(outbound);
        while let Some(mut connection) = self.pool.take(&key, Some(wish)) {
            let mark = connection.mark.as_mut().unwrap();
            match self.pace.in_session(&key, mark, wish) {
                Idle::Leave(leave) => return Some((connection, leave)),
                Idle::Keep => {
                    drop(self.pool.put(connection, Instant::now()));
                    return None;
                }
                Idle::UsedUp => drop(connection),
            }
        }
        None
    }

    async fn in_line(self: &Arc<Self>, outbound: IpAddr, wish: Wish) -> (Box<Connection>, Leave) {
        let give_way = |wish: &Wish| {
            if self.pace.needs_place(wish) {
                self.pool.give_way(wish);
            }
        };
        let deadline = Instant::now() + Duration::from_secs(86_400);
        let key = self.key(outbound);
        match self.pace.leave(wish, &key, deadline, give_way).await {
            Some(Turn::New(leave, mark)) => (self.opened(leave.outbound(), mark), leave),
            Some(Turn::InSession(connection, leave)) => (connection, leave),
            None => panic!("seed {}: a day in line", self.seed),
        }
    }

    /// A new session: no more than threads at once, those that pause counted.
    fn opened(self: &Arc<Self>, outbound: IpAddr, mark: SessionMark) -> Box<Connection> {
        let mut books = self.books.lock().unwrap();
        books.sessions += 1;
        let number = books.sessions;
        let now = Instant::now();
        for (key, params) in both(outbound).into_iter().zip(&self.params) {
            let book = books.of.entry(key).or_default();
            book.open += 1;
            let pausing = book.ended.iter().filter(|at| **at + params.waittime > now);
            let used = book.open + u32::try_from(pausing.count()).unwrap();
            assert!(
                params.threadmax == 0 || used <= params.threadmax,
                "seed {}: {used} of {} sessions of {key:?}",
                self.seed,
                params.threadmax
            );
        }
        let config = ClientConfig {
            ehlo: "mta.example".into(),
            tls_active: false,
            starttls: StartTlsUse::Never,
            auth: None,
            auth_in_clear: false,
        };
        let wire = Wire {
            world: Arc::downgrade(self),
            number,
            outbound,
        };
        let session = ClientSession::new(config);
        let named = Some(number.to_string());
        let mut connection = Connection::new(self.key(outbound), session, Box::pin(wire), named);
        connection.mark = Some(mark);
        connection
    }

    /// MAIL was sent: the windows and the chain are counted again.
    fn carried(&self, connection: &Connection) {
        let (seed, now) = (self.seed, Instant::now());
        let mut books = self.books.lock().unwrap();
        let number = connection.tls.as_ref().unwrap().parse().unwrap();
        let carried = books.carried.entry(number).or_default();
        *carried += 1;
        for params in &self.params {
            let is_within = params.chainmax == 0 || *carried <= params.chainmax;
            assert!(is_within, "seed {seed}: {carried} of {}", params.chainmax);
        }
        let keys = both(connection.key.outbound);
        for (key, params) in keys.into_iter().zip(&self.params) {
            let book = books.of.entry(key).or_default();
            book.sent.push(now);
            for window in [params.low, params.high] {
                let sent = book.sent.iter().rev();
                let count = sent.take_while(|at| **at + window.ttl > now).count() as u64;
                let is_within = !window.is_on() || count <= window.max;
                assert!(is_within, "seed {seed}: {count} in {window:?} of {key:?}");
            }
        }
    }

    fn give_back(&self, leave: &Leave, connection: Box<Connection>) {
        let Some(connection) = self.pace.hand_on(connection) else {
            return;
        };
        let key = connection.key.clone();
        drop(self.pool.put(connection, Instant::now()));
        if self.pace.has_line(leave.spot())
            && let Some(connection) = self.pool.take(&key, None)
            && let Some(connection) = self.pace.hand_on(connection)
        {
            drop(self.pool.put(connection, Instant::now()));
        }
    }

    /// While all have something waiting, none got a tenth more than another. With few left it may
    /// be that none of them wants the outbound whose session is free.
    fn is_fair(&self) {
        let books = self.books.lock().unwrap();
        if books.let_go.iter().any(|count| *count + FEW > HEAP) {
            return;
        }
        let most = books.let_go.iter().max().copied().unwrap_or(0);
        let least = books.let_go.iter().min().copied().unwrap_or(0);
        let is_fair = most - least <= (most / 10).max(2);
        assert!(is_fair, "seed {}: {:?}", self.seed, books.let_go);
    }

    /// The tickets of those who wait, if they could go: all want the same.
    fn forgotten(&self) -> Vec<u64> {
        let now = self.pace.now();
        let inner = self.pace.lock();
        let lines = inner.lines.values().flat_map(|line| &line.turns);
        let waiters: Vec<&line::Waiter> = lines.flat_map(|(_, waiters)| waiters).collect();
        let Some(first) = waiters.first() else {
            return Vec::new();
        };
        let could = first.wish.addresses().any(|outbound| {
            let spot = first.wish.spot(outbound);
            let may = inner.desk.may(now, spot.case(), Travel::NewSession, 1);
            may.is_ok()
        });
        let tickets = waiters.into_iter().filter(|_| could);
        tickets.map(|waiter| waiter.ticket).collect()
    }

    /// Looks now and then whether somebody has been forgotten, until nobody waits.
    async fn watch(self: Arc<Self>, is_over: oneshot::Receiver<()>) {
        tokio::pin!(is_over);
        loop {
            tokio::select! {
                _ = &mut is_over => return,
                () = sleep(Duration::from_millis(373)) => {}
            }
            let (before, let_go) = (self.forgotten(), self.let_go());
            sleep(FORGOTTEN).await;
            // Where one has just gone the next may be due at this very moment.
            if self.let_go() == let_go {
                let after = self.forgotten();
                let both = before.iter().find(|ticket| after.contains(ticket));
                assert_eq!(both, None, "seed {}: could go and waits", self.seed);
            }
        }
    }

    /// How many were let go so far.
    fn let_go(&self) -> usize {
        self.books.lock().unwrap().let_go.iter().sum()
    }
}

async fn play(seed: u64) {
    let world = World::new(seed);
    let accounts = 2 + usize::try_from(world.chance(3)).unwrap();
    world.books.lock().unwrap().let_go = vec![0; accounts];
    let pool = world.pool.clone();
    let sweep = tokio::spawn(pool.sweep(|| Duration::from_secs(2)));
    let (over, is_over) = oneshot::channel();
    let watch = tokio::spawn(world.clone().watch(is_over));
    let mut messages = Vec::new();
    for number in 0..LARGE_HEAP {
        for account in 0..accounts {
            // One has more than the others.
            if number < HEAP || account == 0 {
                messages.push(tokio::spawn(world.clone().message(account, number)));
            }
        }
    }
    for message in messages {
        message.await.unwrap();
    }
    drop(over);
    watch.await.unwrap();
    sweep.abort();
    assert_eq!(world.pace.waiting(), 0);
    world.pool.close().await;
    let rows = world.pace.rows(None);
    assert!(rows.iter().all(|row| row.sessions == 0), "seed {seed}");
}

/// Some worlds; as many as `GALERNE_WORLDS` says, from `GALERNE_FIRST_WORLD` on, as `scripts/long`
/// does.
#[test]
fn flow_20_flow_22_flow_29_no_chain_is_exceeded_accounts_are_served_alike_and_none_is_forgotten() {
    let asked = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let first = asked("GALERNE_FIRST_WORLD").unwrap_or(0);
    for seed in first..first + asked("GALERNE_WORLDS").unwrap_or(30) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(seed));
    }
}
