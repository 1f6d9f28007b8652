//! A whole server in memory: the front door, the exit, a network, name servers, destinations.
//!
//! Use it under `#[tokio::test(start_paused = true)]`: no socket is opened and waiting costs nothing.
//!
//! ```ignore
//! let world = World::new("[rfmta]\nthreadnb = 1\n== domains/@.ini\n[pattern]\nlisted = FLOW(block) 554 *listed*\n");
//! let mx = world.mx("example.org", "198.51.100.25");
//! mx.rule(Rule::at(Stage::Rcpt).reply("550 5.1.1 No such user"));
//! assert_eq!(world.relay("anna@example.org").await, "550 5.1.1 No such user");
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galerne_config::LoadOptions;
use galerne_core::access::ByAddress;
use galerne_core::flow::configured::groups;
use galerne_core::model::{Answer, Settled, Submission};
use galerne_core::ports::{DeliverNow, Refused, UnknownError};
use galerne_core::queue::QueueStore;
use galerne_core::routes::Live;
use galerne_core::snapshot::Snapshot;
use galerne_dns::{Resolver, ZoneResolver};
use galerne_events::{Recorded, Recorder};
use galerne_inbound::{Gate, Reception, View, certificates, serve};
use galerne_outbound::pace::Pace;
use galerne_outbound::{ClientTls, Delivery, Edge, Post};
use galerne_sim::client::{TestClient, TestReply};
use galerne_sim::net::{Fate, SimNet};
use galerne_sim::sink::{Sink, SinkOptions};
use galerne_sim::tls::TestCa;
use galerne_store::PolicyStore;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

#[path = "world/parts.rs"]
mod parts;
#[path = "world/queued.rs"]
mod queued;

use parts::SimDial;
pub use parts::{MemoryBook, MemoryLists, Wiretap};
pub use queued::Queued;

/// What every world begins with; the text given to [`World::new`] is added behind it.
const MAIN: &str = "[IP]
192.0.2.10 = mta10.example.net
192.0.2.11 = mta11.example.net
[rfrelay]
listen = 192.0.2.10 192.0.2.10:465
";
/// The account that tests use: login `demo`, password `secret`.
const DEMO: &str = "[account]
smtpssl = 0
smtplogin = demo
smtppassw = secret
";
/// New addresses and senders are not limited.
const OPEN: &str = "[ipflow#warmup]
threadmax = 0
[sdflow#warmup]
threadmax = 0
";
/// Where clients come from unless they say otherwise.
pub const CLIENT: &str = "203.0.113.7";
/// An honest small message.
pub const MESSAGE: &str =
    "From: <orders@example.com>\r\nTo: <anna@example.org>\r\nSubject: Your order\r\n\r\nHello\r\n";
/// A client waits at least as long as the server may take.
const PATIENCE: Duration = Duration::from_secs(700);

/// A client's connection, clear or encrypted.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}
/// A client over any connection.
pub type Client = TestClient<Pin<Box<dyn Wire>>>;

/// The server and all that is around it.
pub struct World {
    root: tempfile::TempDir,
    /// The network that outgoing connections use.
    pub net: SimNet,
    zone: Arc<ZoneResolver>,
    records: Mutex<String>,
    /// Signed the certificate of the server; `cafile = ca.pem` makes the server trust it.
    pub ca: TestCa,
    /// Everything that was told to the logs.
    pub events: Arc<Recorder>,
    pub lists: Arc<MemoryLists>,
    pub book: Arc<MemoryBook>,
    /// The route table.
    pub routes: Arc<Live>,
    pub delivery: Arc<Delivery>,
    pub gate: Arc<Gate>,
    /// The durable queue, in a world that has one.
    pub queue: Option<Queued>,
}

impl World {
    /// A running server. `config` is added to the main file; a line `== users/shop.ini` begins
    /// another file, which is added to the one of that name, if there is one.
    ///
    /// # Panics
    /// When the configuration has an error.
    pub fn new(config: &str) -> World {
        World::build(config, None)
    }

    /// As [`World::new`], with a durable queue over this store.
    pub fn with_queue(config: &str, store: Arc<dyn QueueStore>) -> World {
        World::build(config, Some(store))
    }

    fn build(config: &str, store: Option<Arc<dyn QueueStore>>) -> World {
        let root = tempfile::tempdir().unwrap();
        let ca = TestCa::new();
        write(root.path(), "ca.pem", &ca.pem());
        write(root.path(), "galerne.ini", MAIN);
        write(root.path(), "users/demo.ini", DEMO);
        let certificate = ca.certificate(&["mta10.example.net"]);
        write(root.path(), "certs/.def.pem", &certificate.chain_pem);
        write(root.path(), "certs/.def.key", &certificate.key_pem);
        fs::create_dir_all(root.path().join("system")).unwrap();
        // Flow control is wide open unless a test says otherwise.
        write(root.path(), "domains/.defflow.ini", OPEN);
        add_files(root.path(), config);

        let (net, zone) = (SimNet::new(), Arc::new(ZoneResolver::default()));
        let events = Arc::new(Recorder::new(10_000));
        let (lists, book) = (Arc::<MemoryLists>::default(), Arc::<MemoryBook>::default());
        let snapshot = read(root.path());
        let (pace, faults) = Pace::new(groups(&snapshot), Vec::new());
        assert_eq!(faults, [""; 0]);
        let routes = Arc::<Live>::default();
        let world = galerne_outbound::World {
            pace,
            dial: Box::new(SimDial(net.clone())),
            lists: lists.clone(),
            book: book.clone(),
            events: events.clone(),
            policies: Arc::new(PolicyStore::open(&root.path().join("system/mtasts")).unwrap()),
            routes: routes.clone(),
            verp_secret: b"the secret of return addresses".to_vec(),
        };
        let delivery = Delivery::new(world, edge(&snapshot, zone.clone()));
        let idle = delivery.clone();
        // Days in the queue would be millions of looks.
        if store.is_none() {
            tokio::spawn(delivery.pool().sweep(move || idle.edge().idle));
        }
        let queue = store.map(|store| Queued::open(root.path(), store, &snapshot, &delivery));
        let deliver: Arc<dyn DeliverNow> = match &queue {
            Some(queued) => Arc::new(Post(queued.queue.clone())),
            None => delivery.clone(),
        };
        let reception = Reception {
            deliver,
            events: events.clone(),
        };
        let gate = Gate::new(reception, lists.clone(), view(root.path(), snapshot));
        World {
            root,
            net,
            zone,
            records: Mutex::default(),
            ca,
            events,
            lists,
            book,
            routes,
            delivery,
            gate,
            queue,
        }
    }

    /// The root of its configuration.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Adds to the configuration files, as in [`World::new`], and puts them in force.
    pub fn reload(&self, config: &str) {
        add_files(self.root.path(), config);
        let snapshot = read(self.root.path());
        self.delivery.renew(edge(&snapshot, self.zone.clone()));
        self.delivery.pace().configure(groups(&snapshot));
        if let Some(queued) = &self.queue {
            queued.queue.renew(snapshot.clone());
        }
        self.gate.renew(view(self.root.path(), snapshot));
    }

    /// The durable queue.
    pub fn queued(&self) -> &Queued {
        self.queue.as_ref().expect("a world with a queue")
    }

    // -- destinations --------------------------------------------------------------------------

    /// Adds records (`example.org. MX 10 mx.example.org.`) to what the name servers know.
    pub fn zone(&self, records: &str) -> &Self {
        let mut all = self.records.lock().unwrap();
        all.push_str(records);
        all.push('\n');
        self.zone.set(&all).unwrap();
        self
    }

    /// Replaces all that the name servers know.
    pub fn only_zone(&self, records: &str) -> &Self {
        self.records.lock().unwrap().clear();
        self.zone(records)
    }

    /// An honest destination at `address`, named `mx.<domain>`, that is the MX of the domain.
    pub fn mx(&self, domain: &str, address: &str) -> Sink {
        self.mx_with(domain, address, SinkOptions::default())
    }

    /// As [`World::mx`], with these abilities (the name is set).
    pub fn mx_with(&self, domain: &str, address: &str, options: SinkOptions) -> Sink {
        let host = format!("mx.{domain}");
        let kind = if address.contains(':') { "AAAA" } else { "A" };
        self.zone(&format!(
            "{domain}. MX 10 {host}.\n{host}. {kind} {address}"
        ));
        let address: IpAddr = address.parse().unwrap();
        self.sink(
            SocketAddr::new(address, 25),
            SinkOptions {
                hostname: host,
                ..options
            },
        )
    }

    /// What was written to the text logs.
    pub fn notes(&self) -> Vec<String> {
        let all = self.events.all().into_iter();
        let notes = all.filter_map(|record| match record {
            Recorded::Note(_, text) => Some(text),
            _ => None,
        });
        notes.collect()
    }

    /// A destination that listens there; name servers are not told.
    pub fn sink(&self, address: SocketAddr, options: SinkOptions) -> Sink {
        let sink = Sink::new(options);
        let serving = sink.clone();
        self.net.listen(address, move |stream, peer| {
            let sink = serving.clone();
            async move { sink.serve(stream, peer).await }
        });
        sink
    }

    /// An MX that keeps the octets as they come and answers as simple servers do, without PIPELINING.
    pub fn raw_mx(&self, domain: &str, address: &str) -> Wiretap {
        let host = format!("mx.{domain}");
        self.zone(&format!("{domain}. MX 10 {host}.\n{host}. A {address}"));
        let tap = Wiretap::default();
        let kept = tap.clone();
        self.net.listen(
            SocketAddr::new(address.parse().unwrap(), 25),
            move |stream, _| {
                let tap = kept.clone();
                async move { tap.answer(stream).await }
            },
        );
        tap
    }

    /// An MX that takes nothing behind the 354. After a second it says `then`; `!` at the end of
    /// it closes, otherwise the connection stays.
    pub fn stuck_mx(&self, domain: &str, address: &str, then: &'static str) -> Wiretap {
        let host = format!("mx.{domain}");
        self.zone(&format!("{domain}. MX 10 {host}.\n{host}. A {address}"));
        let tap = Wiretap::default();
        let kept = tap.clone();
        self.net.listen(
            SocketAddr::new(address.parse().unwrap(), 25),
            move |stream, _| {
                let tap = kept.clone();
                async move { tap.get_stuck(stream, then).await }
            },
        );
        tap
    }

    /// What becomes of connections to `remote` from anywhere.
    pub fn decide(&self, remote: &str, fate: Fate) -> &Self {
        self.net.decide(None, remote.parse().unwrap(), fate);
        self
    }

    /// Outgoing connections so far, as `local -> remote`.
    pub fn hops(&self) -> Vec<String> {
        self.net
            .connections()
            .iter()
            .map(|c| format!("{} -> {}", c.local, c.remote))
            .collect()
    }

    /// Waits until idle sessions with destinations have ended.
    pub async fn forget_sessions(&self) {
        while !self.delivery.pool().is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    // -- clients -------------------------------------------------------------------------------

    /// A connection from that address to the clear port; nothing is read yet. As a listener would,
    /// it asks for a seat, and says why if there is none.
    pub async fn client(&self, from: &str) -> Client {
        self.connect(from, false).await
    }

    /// A connection to the port of implicit TLS, handshake done.
    pub async fn tls_client(&self, from: &str) -> Client {
        let clear = self.connect(from, true).await.into_stream();
        client(self.handshake(clear).await)
    }

    /// Does the client's part of the handshake, for STARTTLS.
    pub async fn start_tls(&self, before: Client) -> Client {
        client(self.handshake(before.into_stream()).await)
    }

    async fn handshake(&self, clear: Pin<Box<dyn Wire>>) -> Pin<Box<dyn Wire>> {
        let name = rustls::pki_types::ServerName::try_from("mta10.example.net").unwrap();
        let connector = tokio_rustls::TlsConnector::from(self.ca.client());
        Box::pin(connector.connect(name, clear).await.unwrap())
    }

    async fn connect(&self, from: &str, tls: bool) -> Client {
        let peer = SocketAddr::new(from.parse().unwrap(), 40_000);
        let (near, far) = tokio::io::duplex(256 * 1024);
        let view = self.gate.view();
        let known = matches!(
            view.snapshot.accounts.by_address(peer.ip(), tls),
            ByAddress::Account(_)
        );
        match self
            .gate
            .registry
            .admit(peer.ip(), known, &view.snapshot.settings.rfrelay)
        {
            Ok(seat) => {
                tokio::spawn(serve(self.gate.clone(), Box::pin(far), peer, tls, seat));
            }
            Err(crowded) => {
                let mut out = Vec::new();
                crowded.reply().write_to(&mut out);
                let mut far = far;
                far.write_all(&out).await.unwrap();
            }
        }
        client(Box::pin(near))
    }

    /// A client that has greeted and logged in as `demo`.
    pub async fn login(&self) -> Client {
        self.login_as("demo", "secret").await
    }

    /// A client that has greeted and logged in.
    pub async fn login_as(&self, login: &str, password: &str) -> Client {
        let mut client = self.client(CLIENT).await;
        assert_eq!(client.reply().await.unwrap().code, 220);
        assert_eq!(
            client.command("EHLO app.example.com").await.unwrap().code,
            250
        );
        let plain = base64(format!("\0{login}\0{password}").as_bytes());
        let reply = client
            .command(&format!("AUTH PLAIN {plain}"))
            .await
            .unwrap();
        assert_eq!(reply.code, 235, "{reply}");
        client
    }

    /// Sends [`MESSAGE`] from `orders@example.com` to one recipient; gives the final reply.
    pub async fn relay(&self, to: &str) -> String {
        self.send(&[to], MESSAGE).await
    }

    /// Sends a message in a session of its own as `demo`; gives the final reply, lines joined with
    /// `\n`.
    pub async fn send(&self, to: &[&str], content: &str) -> String {
        let mut client = self.login().await;
        let reply = client
            .transaction("orders@example.com", to, content.as_bytes())
            .await
            .unwrap();
        client.command("QUIT").await.unwrap();
        reply.text()
    }

    /// Begins [`World::relay`] and gives the client that waits for the reply to its final dot.
    pub async fn waiting(&self, to: &[&str], content: &str) -> Client {
        let mut client = self.login().await;
        client.envelope("orders@example.com", to).await;
        client.send_raw(content.as_bytes()).await.unwrap();
        client.send(".").await.unwrap();
        client
    }

    // -- what happened -------------------------------------------------------------------------

    /// The transactions that were settled, in order.
    pub fn transactions(&self) -> Vec<(Submission, Answer)> {
        let records = self.events.all().into_iter();
        records
            .filter_map(|r| {
                if let Recorded::Transaction(t) = r {
                    Some(*t)
                } else {
                    None
                }
            })
            .collect()
    }

    /// The ends of all recipients of all transactions.
    pub fn settled(&self) -> Vec<Settled> {
        self.transactions()
            .into_iter()
            .flat_map(|(_, answer)| answer.settled)
            .collect()
    }

    /// Remote errors without a pattern.
    pub fn unknown_errors(&self) -> Vec<UnknownError> {
        let records = self.events.all().into_iter();
        records
            .filter_map(|r| {
                if let Recorded::UnknownError(e) = r {
                    Some(e)
                } else {
                    None
                }
            })
            .collect()
    }

    /// What was refused before any attempt.
    pub fn refused(&self) -> Vec<Refused> {
        let records = self.events.all().into_iter();
        records
            .filter_map(|r| {
                if let Recorded::Refused(r) = r {
                    Some(r)
                } else {
                    None
                }
            })
            .collect()
    }

    /// Files anywhere below the root, but for what the world itself wrote.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => drop(found.insert(entry.path())),
                }
            }
        }
        found
    }
}

/// What a test says to the server, in few words.
pub trait Talk {
    /// EHLO after the greeting; gives the reply to it.
    async fn hello(&mut self) -> TestReply;
    /// MAIL, RCPT and DATA, all of which must be accepted.
    async fn envelope(&mut self, from: &str, to: &[&str]);
    /// One line and the code and text of its reply.
    async fn say(&mut self, line: &str) -> String;
    /// The next reply.
    async fn hear(&mut self) -> String;
}

impl Talk for Client {
    async fn hello(&mut self) -> TestReply {
        assert_eq!(self.reply().await.unwrap().code, 220);
        self.command("EHLO app.example.com").await.unwrap()
    }

    async fn envelope(&mut self, from: &str, to: &[&str]) {
        assert_eq!(
            self.say(&format!("MAIL FROM:<{from}>")).await,
            "250 2.1.0 OK"
        );
        for recipient in to {
            assert_eq!(
                self.say(&format!("RCPT TO:<{recipient}>")).await,
                "250 2.1.5 OK"
            );
        }
        assert_eq!(self.command("DATA").await.unwrap().code, 354);
    }

    async fn say(&mut self, line: &str) -> String {
        self.command(line).await.unwrap().text()
    }

    async fn hear(&mut self) -> String {
        self.reply().await.unwrap().text()
    }
}

fn client(stream: Pin<Box<dyn Wire>>) -> Client {
    TestClient::new(stream).patience(PATIENCE)
}

/// [`MESSAGE`] with a directive in front.
pub fn directed(directive: &str) -> String {
    format!("X-SMTP-R-API: {directive}\r\n{MESSAGE}")
}

pub fn base64(octets: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in octets.chunks(3) {
        let number = (0..3).fold(0u32, |n, i| n << 8 | u32::from(*three.get(i).unwrap_or(&0)));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

// -- the parts -------------------------------------------------------------------------------------

fn edge(snapshot: &Snapshot, zone: Arc<ZoneResolver>) -> Edge {
    Edge {
        resolver: zone as Arc<dyn Resolver>,
        tls: ClientTls::new(snapshot.rfmta.cafile.as_deref()).unwrap(),
        slots: snapshot.rfmta.threadnb,
        idle: snapshot.rfmta.idle,
    }
}

fn view(root: &Path, snapshot: Arc<Snapshot>) -> View {
    let (tls, found) =
        certificates::server_config(&root.join("certs"), &snapshot.hostname).unwrap();
    assert!(!found.self_signed, "{found:?}");
    View::new(snapshot, tls, root.join("system"))
}

/// Reads the configuration as a strict check would.
fn read(root: &Path) -> Arc<Snapshot> {
    let options = LoadOptions {
        no_bind_check: false,
        strict: true,
        on_host: &|_| true,
        key_facts: &galerne::keys::facts,
        further: &|_| Vec::new(),
    };
    let loaded = galerne_config::load(root, options);
    let findings: Vec<String> = loaded.findings.iter().map(ToString::to_string).collect();
    let settings = loaded
        .settings
        .unwrap_or_else(|| panic!("configuration:\n{}", findings.join("\n")));
    Snapshot::new(Arc::new(settings))
}

/// Adds each part of `config` to its file.
fn add_files(root: &Path, config: &str) {
    let mut name = "galerne.ini";
    let mut text = String::new();
    for line in config.lines().chain(["== end"]) {
        match line.trim().strip_prefix("== ") {
            Some(next) => {
                let before = fs::read_to_string(root.join(name)).unwrap_or_default();
                write(root, name, &format!("{before}{text}"));
                (name, text) = (next, String::new());
            }
            None => {
                text.push_str(line.trim());
                text.push('\n');
            }
        }
    }
}

/// Writes a file, readable by the owner only.
fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}
