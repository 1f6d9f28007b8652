//! One connection to a remote: the protocol state machine with the stream it speaks over.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use galerne_core::tls_policy::{Encryption, Proof};
use galerne_smtp::client::{ClientEvent, ClientSession, Transaction};
use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::dial::BoxStream;
use crate::pace::SessionMark;

/// Output buffers larger than this are given back after a message.
const KEEP_BUFFER: usize = 64 * 1024;

thread_local! {
    /// Sockets are read into one buffer per thread, so a waiting session holds none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 32 * 1024]);
}

/// Everything that makes a session different from another: nothing is shared falsely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub outbound: IpAddr,
    pub remote: SocketAddr,
    /// The remote's name, since certificates and SNI depend on it. Of no matter in clear.
    pub host: std::sync::Arc<str>,
    pub ehlo: String,
    pub encryption: Encryption,
    /// What vouched for the certificate: a session that proved less is not for mail that wants more.
    pub proof: Proof,
    /// Login and password, if AUTH is done. (Debug of the secret hides it.)
    pub credentials: Option<(String, galerne_core::settings::Secret)>,
    pub auth_in_clear: bool,
}

/// An open session.
pub struct Connection {
    pub key: Key,
    pub session: ClientSession,
    pub stream: BoxStream,
    /// Protocol, cipher and what verified the certificate, once encrypted.
    pub tls: Option<String>,
    /// How it counts for flow control; `None`: nothing limits it.
    pub mark: Option<SessionMark>,
    /// A transaction was begun on it.
    pub was_used: bool,
    /// How long one step may take, besides its deadline.
    pub limit: Option<Duration>,
    out: Vec<u8>,
    /// How much of `out` the stream has taken.
    taken: usize,
    /// The end of a content stands in `out`.
    end_put: bool,
    /// The stream failed before it had taken all of `out`.
    cut_off: bool,
}

/// Whether to go on sending when the remote says something meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenHeard {
    GoOn,
    /// Nothing was asked: what comes can only be a refusal.
    Stop,
}

impl Connection {
    /// A session that has not yet read the greeting. Boxed, since it is handed from one to the next.
    pub fn new(
        key: Key,
        session: ClientSession,
        stream: BoxStream,
        tls: Option<String>,
    ) -> Box<Self> {
        Box::new(Connection {
            key,
            session,
            stream,
            tls,
            mark: None,
            was_used: false,
            limit: None,
            out: Vec::new(),
            taken: 0,
            end_put: false,
            cut_off: false,
        })
    }

    /// Whether it is the session that the key asks for. In clear it is the same under any name of
    /// the remote; certificates are for one.
    pub fn serves(&self, key: &Key) -> bool {
        let has_name = self.tls.is_none() || self.key.host == key.host;
        let Key {
            outbound,
            remote,
            host: _,
            ehlo,
            encryption,
            proof,
            credentials,
            auth_in_clear,
        } = &self.key;
        has_name
            && *outbound == key.outbound
            && *remote == key.remote
            && *ehlo == key.ehlo
            && *encryption == key.encryption
            && *proof == key.proof
            && *credentials == key.credentials
            && *auth_in_clear == key.auth_in_clear
    }

    /// Lets the state machine go on until it wants more than input and output. At `deadline` the
    /// session counts as lost.
    pub async fn step(&mut self, deadline: Instant) -> ClientEvent {
        loop {
            let event = self.session.poll(&mut self.out);
            if !self.out.is_empty() {
                self.flush(deadline).await;
            }
            if !matches!(event, ClientEvent::NeedInput) {
                return event;
            }
            self.wait_for_input(deadline).await;
        }
    }

    /// Lets a transaction begin. Gives what came of it, if that is all already, and whether its
    /// first octets left us.
    pub async fn begin(&mut self, deadline: Instant) -> (Option<ClientEvent>, bool) {
        let event = self.session.poll(&mut self.out);
        let mut is_out = !self.out.is_empty();
        if is_out {
            is_out = self.send(deadline, WhenHeard::GoOn).await && !self.cut_off;
        }
        match event {
            ClientEvent::NeedInput => (None, is_out),
            event => (Some(event), is_out),
        }
    }

    /// Encodes content into the output buffer.
    pub fn put(&mut self, octets: &[u8]) {
        self.session.content(octets, &mut self.out);
    }

    /// Ends the content in the output buffer.
    pub fn put_end(&mut self) {
        self.session.content_end(&mut self.out);
        self.end_put = true;
    }

    /// Octets waiting in the output buffer.
    pub fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Whether the end of the content has left us, as far as we can tell: there is no way back.
    pub fn end_is_out(&self) -> bool {
        self.end_put && !self.cut_off && self.taken == self.out.len()
    }

    /// Begins a transaction.
    pub fn start(&mut self, transaction: Transaction) {
        self.was_used = true;
        (self.end_put, self.cut_off) = (false, false);
        self.session.start(transaction);
    }

    /// Writes what waits. A failure makes the session lost, after a look whether the remote has
    /// said why; the state machine then tells. May be cancelled, and called again.
    pub async fn flush(&mut self, deadline: Instant) {
        self.send(deadline, WhenHeard::GoOn).await;
    }

    /// As `flush`, hearing the remote while it does not take more. Gives whether all was sent.
    pub async fn send(&mut self, deadline: Instant, when_heard: WhenHeard) -> bool {
        let deadline = self.limited(deadline);
        let sent = timeout_at(deadline, poll_fn(|cx| self.poll_send(cx, when_heard))).await;
        let (all, why) = match sent {
            Ok(Ok(all)) => (all, None),
            Ok(Err(error)) => (false, Some(plain(&error))),
            Err(_) => (false, Some("timed out while sending".to_owned())),
        };
        self.cut_off |= self.taken < self.out.len();
        self.out.clear();
        self.taken = 0;
        if self.out.capacity() > KEEP_BUFFER {
            self.out = Vec::new();
        }
        if let Some(why) = why {
            self.peek();
            self.session.lost(&why);
        }
        all
    }

    /// Gives whether all was written; not, when something was heard instead.
    fn poll_send(&mut self, cx: &mut Context<'_>, when_heard: WhenHeard) -> Poll<io::Result<bool>> {
        while let Some(rest) = self.out.get(self.taken..).filter(|rest| !rest.is_empty()) {
            match self.stream.as_mut().poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => self.taken += taken,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // A remote that has refused takes no more, and may wait for us to hear it.
                    let session = &mut self.session;
                    let heard =
                        ready!(read_scratch(&mut self.stream, cx, |octets| session.input(octets)))?;
                    if heard == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    if self.session.is_lost() {
                        return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                    }
                    if when_heard == WhenHeard::Stop {
                        return Poll::Ready(Ok(false));
                    }
                }
            }
        }
        self.stream.as_mut().poll_flush(cx).map_ok(|()| true)
    }

    /// Waits for the rest of a refusal that began while the content was being sent.
    pub async fn hear_out(&mut self, deadline: Instant) -> ClientEvent {
        loop {
            match self.session.poll(&mut self.out) {
                ClientEvent::SendContent => self.wait_for_input(deadline).await,
                event => return event,
            }
        }
    }

    /// The deadline of one step.
    fn limited(&self, deadline: Instant) -> Instant {
        let limit = self.limit.map(|limit| Instant::now() + limit);
        limit.map_or(deadline, |limit| limit.min(deadline))
    }

    async fn wait_for_input(&mut self, deadline: Instant) {
        let deadline = self.limited(deadline);
        match timeout_at(deadline, self.read()).await {
            Err(_) => self.session.lost("timed out"),
            Ok(Err(error)) => self.session.lost(&plain(&error)),
            Ok(Ok(0)) => self.session.lost("connection closed by the remote"),
            Ok(Ok(_)) => {}
        }
    }

    /// Sends QUIT and waits for its reply or the end.
    pub async fn send_quit(&mut self, deadline: Instant) {
        self.session.quit(&mut self.out);
        self.flush(deadline).await;
        let _ = timeout_at(deadline, self.read()).await;
        let _ = timeout_at(deadline, self.stream.shutdown()).await;
    }

    /// Whether an idle session still stands: nothing to read, not closed.
    pub fn is_alive(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        read_scratch(&mut self.stream, &mut nobody, |_| ()).is_pending()
    }

    /// Takes what can be read without waiting; gives whether there was something.
    pub fn peek(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let session = &mut self.session;
        let heard = read_scratch(&mut self.stream, &mut nobody, |octets| {
            session.input(octets)
        });
        matches!(heard, Poll::Ready(Ok(length)) if length > 0)
    }

    async fn read(&mut self) -> io::Result<usize> {
        let session = &mut self.session;
        let stream = &mut self.stream;
        poll_fn(|cx| read_scratch(stream, cx, |octets| session.input(octets))).await
    }
}

/// Reads once into the thread's scratch buffer and hands over what came.
fn read_scratch(
    stream: &mut BoxStream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        let read = stream.as_mut().poll_read(cx, &mut buffer);
        // TLS has something to say by itself: no to renegotiation (T-15), a new key.
        if read.is_pending()
            && let Poll::Ready(Err(error)) = stream.as_mut().poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        ready!(read)?;
        let octets = buffer.filled();
        if !octets.is_empty() {
            take(octets);
        }
        Poll::Ready(Ok(octets.len()))
    })
}

/// An IO error in words for replies and logs: no internal detail, one line.
pub fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::ConnectionAborted => "connection aborted".into(),
        io::ErrorKind::BrokenPipe => "connection closed by the remote".into(),
        io::ErrorKind::TimedOut => "timed out".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => {
            "connection closed by the remote".into()
        }
        io::ErrorKind::AddrNotAvailable => "the outbound address is not on this host".into(),
        _ => error
            .to_string()
            .chars()
            .filter(|c| !c.is_control())
            .take(120)
            .collect(),
    }
}
