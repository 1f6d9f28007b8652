//! The small world of the demo: a root with a real configuration, a name server, test servers that
//! behave well and badly, and the House between them. All of it on loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use galerne_config::Level;
use galerne_sim::nameserver::NameServer;
use galerne_sim::sink::{MessageRecord, Rule, Sink, SinkOptions, Stage};
use galerne_sim::tls::TestCa;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::story::{Feed, Story};
use crate::control::{self, Control};
use crate::house::{House, HouseOptions, load};
use crate::sockets::is_on_host;

/// Login and password of the demo's account.
pub const LOGIN: &str = "demo";
pub const PASSWORD: &str = "demo";
/// The sender that the account may use.
pub const SENDER: &str = "shop@news.example";

/// Mail leaves from these.
pub const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
pub const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// The only one where the system has no other loopback addresses.
const ONLY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The test servers, and the one where nobody listens.
pub const INBOX: &str = "mx.inbox.example";
pub const STRICT: &str = "mx.strict.example";
pub const DOWN: &str = "mx1.backup.example";
pub const BACKUP: &str = "mx2.backup.example";
pub const NEWS: &str = "mx.news.example";
pub const GONE: &str = "mx.gone.example";
const HOSTS: [(&str, u8); 6] = [
    (INBOX, 1),
    (STRICT, 2),
    (DOWN, 3),
    (BACKUP, 4),
    (NEWS, 5),
    (GONE, 6),
];

/// How long slow@inbox.example takes.
const SLOW: Duration = Duration::from_secs(5);
/// How long an answer on the control socket may still take at the end.
const GRACE: Duration = Duration::from_secs(2);
/// A test server takes no larger message.
const LARGEST: u64 = 2 * 1024 * 1024;
/// First line of a main file that is the demo's own.
const MARK: &str = "# Written by `galerne demo`.";
/// Tries to find a port that is free on all addresses.
const PORT_TRIES: usize = 50;

/// Everything that runs.
pub struct World {
    pub smtp: SocketAddr,
    pub feed: Arc<Feed>,
    pub stories: mpsc::Receiver<Story>,
    /// The port of all test servers.
    pub port: u16,
    /// Answers as long as it is held.
    _names: NameServer,
    /// The system has one loopback address only: some messages cannot be shown.
    pub narrow: bool,
    root: Root,
    house: Arc<House>,
    sinks: Vec<(&'static str, Sink)>,
    control: Control,
}

enum Root {
    Temporary(TempDir),
    Given(PathBuf),
}

impl World {
    /// Opens everything. Needs a runtime.
    ///
    /// # Errors
    /// What cannot be opened, in words; an address in use names `--smtp`.
    pub async fn open(root: Option<&Path>, smtp: SocketAddr) -> Result<World, String> {
        let mut addresses = [FIRST, SECOND]
            .into_iter()
            .chain(HOSTS.map(|(_, n)| remote(n)));
        World::open_in(root, smtp, !addresses.all(is_on_host)).await
    }

    /// The same, with one loopback address only if it is `narrow`.
    pub async fn open_in(
        root: Option<&Path>,
        smtp: SocketAddr,
        narrow: bool,
    ) -> Result<World, String> {
        let socket = galerne_inbound::bind(smtp).map_err(|error| cannot_listen(smtp, &error))?;
        let smtp = socket.local_addr().map_err(|e| e.to_string())?;
        let root = Root::open(root)?;
        let says = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let (sinks, port) = sinks(narrow).await.map_err(says("test servers"))?;
        let names = NameServer::start(&zone(narrow))
            .await
            .map_err(says("name server"))?;
        write_tree(root.path(), &main_file(smtp, port, names.address(), narrow))
            .map_err(says("configuration"))?;
        let loaded = load(root.path(), false, false);
        let errors: Vec<String> = loaded
            .findings
            .iter()
            .filter(|f| f.level == Level::Error)
            .map(ToString::to_string)
            .collect();
        let settings = loaded
            .settings
            .filter(|_| errors.is_empty())
            .ok_or_else(|| errors.join("\n"))?;
        let listen = settings
            .rfrelay
            .listen
            .first()
            .cloned()
            .ok_or("no listener in the configuration")?;
        let (feed, stories) = Feed::new();
        let options = HouseOptions {
            listeners: vec![feed.clone()],
            ..HouseOptions::default()
        };
        let house = Arc::new(House::open(
            root.path(),
            settings,
            vec![(socket, listen)],
            options,
        )?);
        let control = control::listen(root.path(), house.clone())?;
        Ok(World {
            smtp,
            feed,
            stories,
            port,
            _names: names,
            narrow,
            root,
            house,
            sinks,
            control,
        })
    }

    /// Where the configuration and the logs are.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Whether the root goes away at the end.
    pub fn is_temporary(&self) -> bool {
        matches!(self.root, Root::Temporary(_))
    }

    /// A test server, to change what it does.
    #[cfg(test)]
    pub fn sink(&self, host: &str) -> &Sink {
        &self
            .sinks
            .iter()
            .find(|(name, _)| *name == host)
            .expect("a test server")
            .1
    }

    /// What the test servers accepted since the last call.
    pub fn arrived(&self) -> Vec<(&'static str, MessageRecord)> {
        let mut all = Vec::new();
        for (host, sink) in &self.sinks {
            all.extend(sink.messages().into_iter().map(|message| (*host, message)));
            sink.clear();
        }
        all
    }

    /// Stops the server, then the world around it. A temporary root is removed.
    pub async fn close(self) -> Result<(), String> {
        self.control.stop(GRACE).await;
        self.house.stop().await;
        self.sinks.iter().for_each(|(_, sink)| sink.stop());
        match self.root {
            Root::Temporary(directory) => directory
                .close()
                .map_err(|e| format!("the temporary root stays: {e}")),
            Root::Given(_) => Ok(()),
        }
    }
}

fn cannot_listen(smtp: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        _ => error.to_string(),
    };
    format!(
        "cannot listen on {smtp}: {why}; choose another address: galerne demo --smtp 127.0.0.1:2526"
    )
}

impl Root {
    fn open(given: Option<&Path>) -> Result<Root, String> {
        let Some(path) = given else {
            let made = tempfile::Builder::new().prefix("galerne-demo-").tempdir();
            return made
                .map(Root::Temporary)
                .map_err(|e| format!("no temporary directory: {e}"));
        };
        let failed = |e: io::Error| format!("{}: {e}", path.display());
        match std::fs::read_to_string(path.join("galerne.ini")) {
            Ok(text) if !text.starts_with(MARK) => {
                let text = "has a galerne.ini of its own; the demo wants an empty directory";
                return Err(format!("{} {text}", path.display()));
            }
            // An earlier demo: what it learned would change the replies of this one.
            Ok(_) => match std::fs::remove_file(path.join("lists/rfhard.csv")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            },
            Err(_) => std::fs::create_dir_all(path).map_err(failed)?,
        }
        Ok(Root::Given(path.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Root::Temporary(directory) => directory.path(),
            Root::Given(path) => path,
        }
    }
}

fn remote(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 1, number))
}

fn write_tree(root: &Path, main_file: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(root.join("users"))?;
    std::fs::write(root.join("galerne.ini"), main_file)?;
    let user = root.join("users/demo.ini");
    std::fs::write(&user, account_file())?;
    std::fs::set_permissions(&user, std::fs::Permissions::from_mode(0o600))?;
    // The groups with their reply patterns, as `galerne init` writes them.
    galerne_config::write_samples(root)?;
    // Nothing is to be warmed up here.
    let file = root.join("domains/@.ini");
    let open = "\n[ipflow#warmup]\nthreadmax = 0\nchainmax = 0\nwaittime = 0\nvolmaxlow = 0\nvolmaxhigh = 0\n";
    let open = format!("{open}{}", open.replace("ipflow", "sdflow"));
    let before = std::fs::read_to_string(&file)?;
    match before.contains("[ipflow#warmup]") {
        true => Ok(()),
        false => std::fs::write(&file, before + &open),
    }
}

fn main_file(smtp: SocketAddr, port: u16, names: SocketAddr, narrow: bool) -> String {
    let outbounds = if narrow {
        format!("{ONLY} = mta1.galerne.example\n")
    } else {
        format!("{FIRST} = mta1.galerne.example\n{SECOND} = mta2.galerne.example\n")
    };
    format!(
        "{MARK}\n\
         [IP]\n{outbounds}\n\
         [rfrelay]\nlisten = {smtp}/plain\n\n\
         [rfmta]\n# The test servers listen here.\nmxport = {port}\nconnecttimeout = 3\ngrace = 2\n\n\
         [relay]\ntimeout = 20\n\n\
         [dns]\nresolver = {names}\n"
    )
}

fn account_file() -> String {
    let domain = SENDER.split_once('@').map_or("", |(_, domain)| domain);
    format!(
        "[account]\nsmtplogin = {LOGIN}\nsmtppassw = {PASSWORD}\n\
         # Login in clear: everything stays on this machine.\nsmtpssl = 0\n\
         authorizedsender = {domain}\n\n\
         [list]\nfilter = rfhard %user%\n"
    )
}

/// The names of this world, as its name server tells them.
fn zone(narrow: bool) -> String {
    let mut zone = String::new();
    for (host, number) in HOSTS {
        let address = if narrow { ONLY } else { remote(number) };
        let domain = host.split_once('.').map_or(host, |(_, domain)| domain);
        let preference = u32::from(number) * 10;
        zone.push_str(&format!(
            "{domain}. MX {preference} {host}.\n{host}. A {address}\n"
        ));
    }
    zone.push_str("silent.example. NULLMX\n");
    zone
}

/// The test servers on one port, and the port. Where nobody listens, the port is free.
async fn sinks(narrow: bool) -> io::Result<(Vec<(&'static str, Sink)>, u16)> {
    let authority = TestCa::new();
    let mut last = io::Error::other("no port");
    for _ in 0..PORT_TRIES {
        match sinks_on_one_port(&authority, narrow).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            other => return other,
        }
    }
    Err(last)
}

async fn sinks_on_one_port(
    authority: &TestCa,
    narrow: bool,
) -> io::Result<(Vec<(&'static str, Sink)>, u16)> {
    let mut sinks: Vec<(&'static str, Sink)> = Vec::new();
    let mut port = 0;
    for (host, number) in HOSTS {
        let address = SocketAddr::new(if narrow { ONLY } else { remote(number) }, port);
        if host == DOWN {
            drop(TcpListener::bind(address)?);
            continue;
        }
        let options = SinkOptions {
            hostname: host.to_owned(),
            max_size: LARGEST,
            tls: Some(authority.server(&[host])),
            ..SinkOptions::default()
        };
        let sink = Sink::start(address, options).await?;
        port = sink.address().port();
        for rule in rules(host) {
            sink.rule(rule);
        }
        sinks.push((host, sink));
        if narrow {
            break;
        }
    }
    Ok((sinks, port))
}

/// What makes a server worth showing. Where no rule applies it is honest.
fn rules(host: &str) -> Vec<Rule> {
    let at_rcpt = |who: &str, reply: &str| Rule::at(Stage::Rcpt).recipient(who).reply(reply);
    match host {
        INBOX => vec![
            at_rcpt(
                "nobody@inbox.example",
                "550 5.1.1 <nobody@inbox.example>: no such user here",
            ),
            at_rcpt(
                "lost@inbox.example",
                "550 5.1.1 <lost@inbox.example>: no such user here",
            ),
            at_rcpt(
                "full@inbox.example",
                "452 4.2.2 <full@inbox.example>: mailbox full",
            ),
            at_rcpt(
                "grey@inbox.example",
                "451 4.7.1 Greylisted, please come back in 5 minutes",
            ),
            Rule::at(Stage::Dot)
                .recipient("spam@inbox.example")
                .reply("554 5.7.1 Message refused: it was classified as spam"),
            Rule::at(Stage::Dot)
                .recipient("slow@inbox.example")
                .delay(SLOW),
        ],
        STRICT => {
            let reply =
                format!("554 5.7.1 Service unavailable; client [{FIRST}] blocked using bl.example");
            vec![Rule::at(Stage::Rcpt).client(FIRST).reply(&reply)]
        }
        GONE => vec![Rule::at(Stage::Rcpt).reply("550 5.1.1 no such user here")],
        _ => Vec::new(),
    }
}
