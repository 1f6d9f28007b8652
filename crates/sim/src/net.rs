//! A network in memory, for tests under paused time: listeners, refusals, black holes, resets.
//!
//! Streams are tokio's duplex pipes. No socket, no port and no real time is used.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::DuplexStream;

/// Octets in flight in each direction before a writer must wait.
const PIPE: usize = 64 * 1024;
/// Connections remembered.
const MAX_REMEMBERED: usize = 100_000;

type Handler =
    dyn Fn(DuplexStream, SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// What happens to a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It reaches the listener; refused if there is none.
    Normal,
    /// RST to the SYN.
    Refuse,
    /// The SYN is lost: connecting never ends.
    BlackHole,
    /// No route to the host.
    Unreachable,
    /// Connects, and is closed before a single octet comes.
    Reset,
    /// Connects, and nothing is ever heard.
    Mute,
}

/// One network. Clones share it.
#[derive(Clone, Default)]
pub struct SimNet {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    listeners: HashMap<SocketAddr, Arc<Handler>>,
    /// By (local, remote); `None` stands for any local address.
    fates: HashMap<(Option<IpAddr>, SocketAddr), Fate>,
    connections: Vec<Connection>,
    next_port: u16,
    /// Far ends of mute connections, held open.
    muted: Vec<DuplexStream>,
}

/// One attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub local: IpAddr,
    pub remote: SocketAddr,
    pub fate: Fate,
}

impl SimNet {
    /// An empty network: every connection is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens: each connection runs `handler` in a task of its own, with the far end's address.
    pub fn listen<F, T>(&self, address: SocketAddr, handler: F)
    where
        F: Fn(DuplexStream, SocketAddr) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let handler = move |stream, peer| {
            Box::pin(handler(stream, peer)) as Pin<Box<dyn Future<Output = ()> + Send>>
        };
        self.lock().listeners.insert(address, Arc::new(handler));
    }

    /// Stops listening; running connections go on.
    pub fn close(&self, address: SocketAddr) {
        self.lock().listeners.remove(&address);
    }

    /// Decides over connections from `local` (`None`: from anywhere) to `remote`. The rule for one
    /// local address goes before the rule for all.
    pub fn decide(&self, local: Option<IpAddr>, remote: SocketAddr, fate: Fate) {
        self.lock().fates.insert((local, remote), fate);
    }

    /// All attempts so far, in order.
    pub fn connections(&self) -> Vec<Connection> {
        self.lock().connections.clone()
    }

    /// Opens a connection from a local address.
    ///
    /// # Errors
    /// `ConnectionRefused` or `HostUnreachable`. A black hole never returns: bound it.
    pub async fn connect(&self, local: IpAddr, remote: SocketAddr) -> io::Result<DuplexStream> {
        match self.meet(local, remote)? {
            Some(stream) => Ok(stream),
            None => std::future::pending().await,
        }
    }

    /// The stream, or `None` for a black hole.
    fn meet(&self, local: IpAddr, remote: SocketAddr) -> io::Result<Option<DuplexStream>> {
        let mut state = self.lock();
        let fate = [Some(local), None]
            .iter()
            .find_map(|from| state.fates.get(&(*from, remote)).copied());
        let fate = fate.unwrap_or(Fate::Normal);
        if state.connections.len() < MAX_REMEMBERED {
            state.connections.push(Connection {
                local,
                remote,
                fate,
            });
        }
        let (near, far) = tokio::io::duplex(PIPE);
        match fate {
            Fate::Refuse => return Err(io::ErrorKind::ConnectionRefused.into()),
            Fate::Unreachable => return Err(io::ErrorKind::HostUnreachable.into()),
            Fate::BlackHole => return Ok(None),
            Fate::Reset => {}
            Fate::Mute => state.muted.push(far),
            Fate::Normal => {
                let handler = state
                    .listeners
                    .get(&remote)
                    .cloned()
                    .ok_or(io::ErrorKind::ConnectionRefused)?;
                state.next_port = state.next_port.checked_add(1).unwrap_or(1024).max(1024);
                let peer = SocketAddr::new(local, state.next_port);
                drop(state);
                tokio::spawn(handler(far, peer));
            }
        }
        Ok(Some(near))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
