//! Listeners: accepting connections, the PROXY header, session limits. One loop per socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use galerne_core::access::{ByAddress, holds};
use galerne_core::settings::{Listen, ListenTls};
use galerne_smtp::proxy::{self, ProxyParse};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};

use crate::gate::{Gate, View};
use crate::session::serve;

/// Time for the PROXY header to come.
const PROXY_TIME: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, doubled up to the longest (T-20).
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const BACKLOG: i32 = 4096;

/// Opens one listening socket.
///
/// # Errors
/// The address is in use, not on this host, or not permitted; the text names it.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts on one socket until the gate stops.
pub async fn accept_loop(gate: Arc<Gate>, listener: TcpListener, listen: Listen) {
    let mut pause = Pause::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = gate.stopping() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = Pause::default();
                let gate = gate.clone();
                let tls = listen.tls == ListenTls::Implicit;
                tokio::spawn(async move { welcome(gate, stream, peer, tls).await });
            }
            // The client changed its mind; the next one may be there already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::error!(%error, listener = %listen.address, "cannot accept connections");
                sleep(pause.next()).await;
            }
        }
    }
}

/// How long to wait after an accept that failed. Out of descriptors, the next would fail as well,
/// and a loop without a pause would eat a processor (T-20).
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Pause(SHORTEST_PAUSE)
    }
}

impl Pause {
    fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(LONGEST_PAUSE);
        now
    }
}

/// One new connection: who it is from, whether there is room, then its session.
async fn welcome(gate: Arc<Gate>, mut stream: TcpStream, peer: SocketAddr, tls: bool) {
    let _ = stream.set_nodelay(true);
    let view = gate.view();
    let settings = &view.snapshot.settings.rfrelay;
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let peer = if settings
        .proxyfrom
        .iter()
        .any(|network| holds(network, peer.ip()))
    {
        match read_proxy(&mut stream, peer).await {
            Some(source) => source,
            // A trusted proxy that sends no header is refused (CONF-96).
            None => return,
        }
    } else {
        peer
    };
    let known = matches!(
        view.snapshot.accounts.by_address(peer.ip(), tls),
        ByAddress::Account(_)
    );
    match gate.registry.admit(peer.ip(), known, settings) {
        Ok(seat) => Box::pin(serve(gate.clone(), Box::pin(stream), peer, tls, seat)).await,
        Err(crowded) => {
            if !tls {
                let mut out = Vec::new();
                crowded.reply().write_to(&mut out);
                let deadline = Instant::now() + PROXY_TIME;
                let _ = timeout_at(deadline, stream.write_all(&out)).await;
                let _ = timeout_at(deadline, stream.shutdown()).await;
            }
        }
    }
}

/// Reads exactly the PROXY header: not one octet of the session is taken. `None`: there is none,
/// or it is broken.
async fn read_proxy(stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    let deadline = Instant::now() + PROXY_TIME;
    let mut header = Vec::new();
    let source = loop {
        match proxy::parse(&header) {
            ProxyParse::Header { source, .. } => break source,
            ProxyParse::Local { .. } => break peer,
            ProxyParse::Invalid => return None,
            ProxyParse::Incomplete if header.len() >= proxy::V2_MAX => return None,
            ProxyParse::Incomplete => {}
        }
        let known = header.len();
        header.resize(known + proxy::wanted(&header), 0);
        let piece = header.get_mut(known..)?;
        let read = timeout_at(deadline, stream.read_exact(piece)).await;
        read.ok()?.ok()?;
    };
    Some(SocketAddr::new(source.ip().to_canonical(), source.port()))
}

/// What the listeners need of the rest of the house.
pub struct InboundWorld {
    pub reception: crate::reception::Reception,
    pub lists: Arc<dyn galerne_core::ports::Lists>,
}

/// The front door as a whole.
pub struct Inbound {
    gate: Arc<Gate>,
    loops: Vec<tokio::task::JoinHandle<()>>,
}

impl Inbound {
    /// Takes over sockets that listen already, and begins to accept.
    ///
    /// # Errors
    /// A socket that the runtime does not take.
    pub fn open(
        world: InboundWorld,
        view: View,
        sockets: Vec<(std::net::TcpListener, Listen)>,
    ) -> io::Result<Inbound> {
        let gate = Gate::new(world.reception, world.lists, view);
        let mut loops = Vec::new();
        for (socket, listen) in sockets {
            socket.set_nonblocking(true)?;
            let listener = TcpListener::from_std(socket)?;
            loops.push(tokio::spawn(accept_loop(gate.clone(), listener, listen)));
        }
        Ok(Inbound { gate, loops })
    }

    /// New settings for sessions that begin from now on.
    pub fn renew(&self, view: View) {
        self.gate.renew(view);
    }

    /// Open sessions.
    pub fn sessions(&self) -> usize {
        self.gate.registry.len()
    }

    /// No new session, waiting ones end with 421; resolves when no transaction is under way, at
    /// the latest after `grace` (QUEUE-19).
    pub async fn stop(&self, grace: Duration) {
        self.gate.stop();
        for accepting in &self.loops {
            accepting.abort();
        }
        let _ = tokio::time::timeout(grace, self.gate.quiet()).await;
    }

    /// What accounts have used up, whatever way their mail comes.
    pub fn quotas(&self) -> Arc<crate::quotas::Quotas> {
        self.gate.quotas.clone()
    }

    /// Failed logins and what spared their computation, for metrics (T-25).
    pub fn login_counts(&self) -> galerne_core::logins::Counts {
        self.gate.logins.counts()
    }

    /// The door for submissions that do not come by SMTP.
    pub fn reception(&self) -> crate::reception::Reception {
        self.gate.reception.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_20_pauses_grow_to_two_seconds_and_begin_anew_after_a_success() {
        let mut pause = Pause::default();
        let millis: Vec<u128> = (0..8).map(|_| pause.next().as_millis()).collect();
        assert_eq!(millis, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(Pause::default().next(), SHORTEST_PAUSE);
    }
}
