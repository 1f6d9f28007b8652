//! A scripted SMTP destination: honest by default, as ill as a test wants, and it remembers all.
//!
//! Honest behaviour comes from `galerne_smtp::server`; [`Rule`]s replace what is said at a step.
//! It runs on real sockets ([`Sink::bind`]) or on any stream ([`Sink::serve`]).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

pub use galerne_smtp::Stage;
pub use record::{MessageRecord, SessionRecord};
pub use script::Rule;

use conversation::Conversation;
use record::Book;
use script::Moment;

mod conversation;
mod record;
mod script;

/// What a sink offers.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Its name, in the greeting and in EHLO.
    pub hostname: String,
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub chunking: bool,
    pub dsn: bool,
    pub enhanced_codes: bool,
    /// REQUIRETLS, under TLS.
    pub requiretls: bool,
    /// SIZE, and the limit.
    pub max_size: u64,
    /// Logins with their passwords; AUTH is offered if there is one.
    pub logins: Vec<(String, String)>,
    /// Refuse MAIL without AUTH (530 5.7.0).
    pub needs_auth: bool,
    /// The certificate for STARTTLS, which is offered if there is one, or for implicit TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// TLS from the first octet.
    pub implicit_tls: bool,
    /// Remember the content of messages.
    pub keep_content: bool,
    /// Connections served at once; more wait.
    pub max_connections: usize,
}

impl Default for SinkOptions {
    fn default() -> Self {
        SinkOptions {
            hostname: "sink.example".to_owned(),
            pipelining: true,
            eight_bit_mime: true,
            smtputf8: true,
            chunking: true,
            dsn: true,
            enhanced_codes: true,
            requiretls: false,
            max_size: 100 * 1024 * 1024,
            logins: Vec::new(),
            needs_auth: false,
            tls: None,
            implicit_tls: false,
            keep_content: true,
            max_connections: 2_000,
        }
    }
}

/// A destination. Clones share it; the listener and its connections end with the last clone.
#[derive(Clone)]
pub struct Sink {
    shared: Arc<Shared>,
    /// Where it listens, if it does.
    address: Option<SocketAddr>,
    listener: Option<Arc<Listener>>,
}

struct Shared {
    options: SinkOptions,
    rules: Mutex<Vec<Rule>>,
    book: Mutex<Book>,
    changed: Notify,
}

struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sink {
    /// An honest destination on a real socket; port 0 lets the system choose.
    pub async fn bind(address: SocketAddr) -> io::Result<Sink> {
        Sink::start(address, SinkOptions::default()).await
    }

    /// A destination on a real socket.
    pub async fn start(address: SocketAddr, options: SinkOptions) -> io::Result<Sink> {
        let listener = TcpListener::bind(address).await?;
        let mut sink = Sink::new(options);
        sink.address = Some(listener.local_addr()?);
        let task = tokio::spawn(accept(listener, sink.shared.clone()));
        sink.listener = Some(Arc::new(Listener(task.abort_handle())));
        Ok(sink)
    }

    /// A destination without a socket; give it streams with [`Sink::serve`].
    pub fn new(options: SinkOptions) -> Sink {
        let shared = Shared {
            options,
            rules: Mutex::default(),
            book: Mutex::default(),
            changed: Notify::new(),
        };
        Sink {
            shared: Arc::new(shared),
            address: None,
            listener: None,
        }
    }

    /// Where it listens.
    ///
    /// # Panics
    /// When it has no socket.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("a sink with a socket")
    }

    /// Speaks over one stream until the session ends.
    pub async fn serve<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve(self.shared.clone(), stream, peer).await;
    }

    /// Adds a rule behind those there are; the first that applies decides.
    pub fn rule(&self, rule: Rule) -> &Self {
        lock(&self.shared.rules).push(rule);
        self
    }

    /// Back to honesty.
    pub fn clear_rules(&self) {
        lock(&self.shared.rules).clear();
    }

    /// All sessions so far, in the order of connecting.
    pub fn sessions(&self) -> Vec<SessionRecord> {
        lock(&self.shared.book).sessions.clone()
    }

    /// The messages it accepted, in order.
    pub fn messages(&self) -> Vec<MessageRecord> {
        let book = lock(&self.shared.book);
        book.messages
            .iter()
            .filter(|m| m.accepted)
            .cloned()
            .collect()
    }

    /// All messages that reached their end of data, refused ones too.
    pub fn attempts(&self) -> Vec<MessageRecord> {
        lock(&self.shared.book).messages.clone()
    }

    /// Connections so far.
    pub fn connected(&self) -> usize {
        lock(&self.shared.book).connected
    }

    /// Messages accepted so far.
    pub fn accepted(&self) -> u64 {
        lock(&self.shared.book).accepted
    }

    /// Forgets messages and commands.
    pub fn clear(&self) {
        lock(&self.shared.book).clear();
    }

    /// Waits until so many messages were accepted. Bound it.
    pub async fn wait_accepted(&self, count: u64) {
        self.wait_until(|book| book.accepted >= count).await;
    }

    /// Waits until so many sessions have ended. Bound it.
    pub async fn wait_ended(&self, count: usize) {
        self.wait_until(|book| book.sessions.iter().filter(|s| s.ended).count() >= count)
            .await;
    }

    async fn wait_until(&self, done: impl Fn(&Book) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            if done(&lock(&self.shared.book)) {
                return;
            }
            changed.await;
        }
    }

    /// Closes the listener and all its connections; later ones are refused.
    pub fn stop(&self) {
        if let Some(listener) = &self.listener {
            listener.0.abort();
        }
    }
}

impl Shared {
    /// The rule for this moment, counted down.
    fn decide(&self, moment: &Moment<'_>) -> Option<Rule> {
        lock(&self.rules)
            .iter_mut()
            .find_map(|rule| rule.take(moment).then(|| rule.clone()))
    }

    /// Changes the book and wakes those who wait for it.
    fn note<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let result = change(&mut lock(&self.book));
        self.changed.notify_waiters();
        result
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= shared.options.max_connections {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                connections.spawn(serve(shared.clone(), stream, peer));
            }
            // Out of descriptors, or the client left the backlog: let others run, then go on.
            Err(_) => tokio::task::yield_now().await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S>(shared: Arc<Shared>, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let number = shared.note(|book| book.open(peer, false));
    // How it ended shows in the record; an IO error is a client that went away.
    let _ = Conversation::new(&shared, number, peer)
        .run(Box::new(stream))
        .await;
    shared.note(|book| {
        if let Some(session) = book.session(number) {
            session.ended = true;
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
