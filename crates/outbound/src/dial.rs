//! Opening a byte stream from one of our addresses to a remote one. The only place of this crate
//! that makes sockets; tests put an in-memory network in its place.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use galerne_core::ports::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

/// A connected stream, clear or encrypted.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A stream of any kind.
pub type BoxStream = Pin<Box<dyn Stream>>;

/// Opens connections. No time limit of its own: the caller has the deadline.
pub trait Dial: Send + Sync {
    /// Connects from `local` (any port) to `remote`.
    fn dial(&self, local: IpAddr, remote: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>>;
}

/// Real TCP, bound to the outbound address.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial(&self, local: IpAddr, remote: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let socket = match local {
                IpAddr::V4(_) => TcpSocket::new_v4()?,
                IpAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // Without it a busy address runs out of ports while old connections are in TIME_WAIT.
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(local, 0))?;
            let stream = socket.connect(remote).await?;
            stream.set_nodelay(true)?;
            Ok(Box::pin(stream) as BoxStream)
        })
    }
}
