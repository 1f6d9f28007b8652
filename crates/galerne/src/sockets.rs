//! The listening sockets: handed over by LISTEN_FDS, or opened by ourselves before privileges are
//! given up (CONF-95).

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use galerne_core::settings::{Listen, Settings};
use listenfd::ListenFd;

/// A socket that listens, and the entry of the configuration it is for.
pub type Listening = (TcpListener, Listen);

/// All sockets of `[rfrelay]listen`.
///
/// # Errors
/// The first address that cannot be listened on, and why.
pub fn open(settings: &Settings) -> Result<Vec<Listening>, String> {
    let mut handed_over = handed_over();
    let mut sockets = Vec::new();
    for listen in &settings.rfrelay.listen {
        let ready = handed_over
            .iter()
            .position(|(address, _)| *address == listen.address);
        let socket = match ready {
            Some(at) => handed_over.swap_remove(at).1,
            None => galerne_inbound::bind(listen.address).map_err(|error| {
                format!(
                    "cannot listen on {}: {error}; {}",
                    listen.address,
                    what_to_do(&error)
                )
            })?,
        };
        sockets.push((socket, listen.clone()));
    }
    for (address, _) in handed_over {
        tracing::warn!(
            "the socket {address} was handed over, but [rfrelay] listen does not name it: it is closed"
        );
    }
    Ok(sockets)
}

/// Advice for who cannot listen.
pub fn what_to_do(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "another program, perhaps another galerne, listens there: stop it or change [rfrelay] listen"
        }
        ErrorKind::PermissionDenied => {
            "a port below 1024 needs root: start as root with [galerne] runas = USER, have the socket handed over \
             (systemd, LISTEN_FDS), or choose another port in [rfrelay] listen, such as 127.0.0.1:2525"
        }
        ErrorKind::AddrNotAvailable => {
            "this host does not have the address: change [rfrelay] listen"
        }
        _ => "see [rfrelay] listen",
    }
}

fn handed_over() -> Vec<(SocketAddr, TcpListener)> {
    let mut descriptors = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..descriptors.len() {
        if let Ok(Some(socket)) = descriptors.take_tcp_listener(index)
            && let Ok(address) = socket.local_addr()
        {
            sockets.push((address, socket));
        }
    }
    sockets
}

/// Whether an address can be bound on this host (CONF-25).
pub fn is_on_host(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
