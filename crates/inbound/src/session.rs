//! One client's session: reads octets, feeds the protocol, asks the decisions, writes replies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use galerne_core::access::{ByAddress, Named, judge_recipient};
use galerne_core::model::{Client, Recipient, Sender};
use galerne_core::ports::Refused;
use galerne_core::refusal::Refusal;
use galerne_core::settings::Account;
use galerne_smtp::command::{MailRequest, RcptRequest};
use galerne_smtp::sasl::Credentials;
use galerne_smtp::server::{AuthVerdict, ContentProblem, Phase, ServerEvent, ServerSession};
use galerne_smtp::{ForwardPath, Reply};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::alarm::Alarm;
use crate::gate::{Gate, Running, View};
use crate::logins::Judged;
use crate::pace::Pace;
use crate::quotas::Booking;
use crate::reception::Letter;
use crate::registry::Seat;
use crate::spool::Collector;
use crate::stream::{BoxStream, read_into, write_out};

/// Time for the TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(30);
/// Time for a reply to be taken by the client.
const WRITE_TIME: Duration = Duration::from_secs(5 * 60);
/// Time for the last words of a session, and for the client to hear them.
const FAREWELL_TIME: Duration = Duration::from_secs(5);
/// Octets that are still read and dropped at the end.
const FAREWELL_OCTETS: usize = 1024 * 1024;
/// Octets a client may send ahead while its message is being relayed.
const AHEAD: usize = 64 * 1024;
/// An input buffer of this size is kept while nothing is in it: enough for commands.
const KEEP_INPUT: usize = 512;

/// One session from the greeting to the end.
pub async fn serve(
    gate: Arc<Gate>,
    stream: BoxStream,
    peer: SocketAddr,
    implicit_tls: bool,
    seat: Seat,
) {
    let view = gate.view();
    let stop = gate.stop_signal();
    let mut session = Session {
        smtp: ServerSession::new(view.smtp.clone(), implicit_tls),
        gate,
        view,
        stream,
        peer,
        seat,
        input: Vec::new(),
        used: 0,
        out: Vec::new(),
        content: Vec::new(),
        account: None,
        login: None,
        letter: None,
        collector: None,
        running: None,
        stop,
        id: String::new(),
        pace: Pace::new(Instant::now()),
        alarm: Alarm::default(),
    };
    if session.begin(implicit_tls).await.is_some() {
        session.talk().await;
    }
    session.farewell().await;
}

struct Session {
    gate: Arc<Gate>,
    view: Arc<View>,
    smtp: ServerSession,
    stream: BoxStream,
    peer: SocketAddr,
    seat: Seat,
    /// What was read and not yet used up; `used` octets of it are done with.
    input: Vec<u8>,
    used: usize,
    out: Vec<u8>,
    /// Content decoded and not yet collected.
    content: Vec<u8>,
    account: Option<Arc<Account>>,
    login: Option<String>,
    letter: Option<Box<Opened>>,
    collector: Option<Box<Collector>>,
    /// Held from the first accepted recipient until the answer to the message is written. Before,
    /// nothing is lost when the program stops (QUEUE-19).
    running: Option<Running>,
    stop: watch::Receiver<bool>,
    id: String,
    pace: Pace,
    alarm: Alarm,
}

/// The envelope so far.
struct Opened {
    sender: Sender,
    prdr: bool,
    recipients: Vec<Recipient>,
    /// Its recipients count against the limits of the account, until it is forgotten (CONF-93).
    booking: Option<Booking>,
}

/// What ended a wait for the client.
enum Heard {
    Read(std::io::Result<usize>),
    Nothing,
    Evicted,
    Stop,
}

/// The session goes on; `None` in its place: it has ended.
type Goes = Option<()>;

impl Session {
    /// Handshake where it comes first, then the greeting.
    async fn begin(&mut self, implicit_tls: bool) -> Goes {
        if implicit_tls {
            self.handshake().await?;
        }
        self.know_by_address(implicit_tls);
        // A client that sends EHLO before it has seen this is answered; what it sends behind EHLO
        // is not obeyed (T-04).
        self.smtp.greet(&mut self.out);
        self.flush().await
    }

    async fn talk(&mut self) {
        loop {
            let input = self.input.get(self.used..).unwrap_or_default();
            let (used, event) = self.smtp.poll(input, &mut self.out, &mut self.content);
            self.used += used;
            let goes = match event {
                ServerEvent::NeedInput => self.more().await,
                event => self.on(event).await,
            };
            if goes.is_none() {
                return;
            }
        }
    }

    /// Writes what waits and reads more.
    async fn more(&mut self) -> Goes {
        self.flush().await?;
        self.input.drain(..self.used);
        self.used = 0;
        if self.input.is_empty() && self.input.capacity() > KEEP_INPUT {
            self.input = Vec::new();
        }
        if self.letter.is_none() {
            self.running = None;
        }
        let (content, now) = (self.smtp.phase() == Phase::Content, Instant::now());
        if self.pace.at(content, self.smtp.commands(), now) {
            self.seat.active(now);
        }
        let deadline = self.pace.deadline(self.letter.is_some());
        let interruptible = self.running.is_none();
        let heard = tokio::select! {
            biased;
            read = read_into(&mut self.stream, &mut self.input, usize::MAX) => Heard::Read(read),
            () = self.alarm.rings(deadline) => Heard::Nothing,
            () = self.seat.evicted() => Heard::Evicted,
            _ = self.stop.wait_for(|on| *on), if interruptible => Heard::Stop,
        };
        match heard {
            Heard::Read(Ok(0) | Err(_)) => {}
            Heard::Read(Ok(length)) => {
                // Octets of a chunk that is refused anyway keep no place (RELAY-5).
                if self.pace.took(length, Instant::now) && self.running.is_some() {
                    self.seat.active(Instant::now());
                }
                return Some(());
            }
            Heard::Nothing => {
                self.smtp.idle(&mut self.out);
                self.last_words().await;
            }
            Heard::Evicted => {
                self.say_421("too many sessions, an idle one gives way")
                    .await
            }
            Heard::Stop => self.say_421("the service is stopping").await,
        }
        None
    }

    async fn say_421(&mut self, why: &str) {
        let text = format!("4.3.2 {} {why}", self.view.smtp.hostname);
        self.smtp.close(Reply::new(421, text), &mut self.out);
        self.last_words().await;
    }

    /// Writes what waits before the session ends. Whoever does not read them misses them.
    async fn last_words(&mut self) {
        let _ = timeout_at(
            Instant::now() + FAREWELL_TIME,
            write_out(&mut self.stream, &mut self.out),
        )
        .await;
    }

    /// Ends the connection so that the last reply arrives: our side first, under TLS with
    /// close_notify. A connection closed with unread octets would be reset, and the reply lost.
    async fn farewell(&mut self) {
        self.forget_letter();
        let stream = &mut self.stream;
        let mut dropped = Vec::new();
        let end = async {
            stream.shutdown().await?;
            let mut left = FAREWELL_OCTETS;
            while left > 0 {
                match read_into(stream, &mut dropped, left).await? {
                    0 => break,
                    length => left -= length,
                }
                dropped.clear();
            }
            std::io::Result::Ok(())
        };
        let _ = timeout_at(Instant::now() + FAREWELL_TIME, end).await;
    }

    async fn flush(&mut self) -> Goes {
        if self.out.is_empty() {
            return Some(());
        }
        let late = async { self.alarm.rings(Instant::now() + WRITE_TIME).await };
        tokio::select! {
            biased;
            written = write_out(&mut self.stream, &mut self.out) => written.ok(),
            () = late => None,
            // It does not even read: there is nothing to tell it.
            () = self.seat.evicted() => None,
        }
    }

    async fn on(&mut self, event: ServerEvent) -> Goes {
        match event {
            ServerEvent::NeedInput => {}
            ServerEvent::Hello | ServerEvent::Reset => self.forget_letter(),
            ServerEvent::StartTls => return Box::pin(self.start_tls()).await,
            ServerEvent::Auth(credentials) => return Box::pin(self.auth(credentials)).await,
            ServerEvent::Mail(request) => self.mail(request),
            ServerEvent::Rcpt(request) => self.rcpt(request),
            ServerEvent::Content => {
                if self.content.len() >= 32 * 1024 {
                    self.collect().await;
                }
            }
            ServerEvent::EndOfData {
                problem,
                size,
                has_bare,
            } => {
                return Box::pin(self.end_of_data(problem, size, has_bare)).await;
            }
            ServerEvent::Close => {
                let _ = self.flush().await;
                return None;
            }
        }
        Some(())
    }

    fn forget_letter(&mut self) {
        self.letter = None;
        self.collector = None;
        self.running = None;
        self.content = Vec::new();
    }

    /// Moves decoded content to where it is kept until the end of data.
    async fn collect(&mut self) {
        let directory = &self.view.temporary;
        let collector = self
            .collector
            .get_or_insert_with(|| Box::new(Collector::new(directory)));
        collector.take(&mut self.content).await;
    }

    async fn start_tls(&mut self) -> Goes {
        self.flush().await?;
        // Whatever was sent in clear behind STARTTLS is not part of the dialogue (T-10).
        self.input.clear();
        self.used = 0;
        self.handshake().await?;
        self.smtp.tls_established();
        (self.account, self.login) = (None, None);
        self.forget_letter();
        self.know_by_address(true);
        Some(())
    }

    async fn handshake(&mut self) -> Goes {
        let clear: BoxStream = std::mem::replace(&mut self.stream, Box::pin(tokio::io::empty()));
        let accept = TlsAcceptor::from(self.view.tls.clone()).accept(clear);
        let shaken = tokio::select! {
            biased;
            shaken = timeout_at(Instant::now() + HANDSHAKE_TIME, accept) => shaken,
            () = self.seat.evicted() => return None,
        };
        match shaken {
            Ok(Ok(stream)) => {
                self.stream = Box::pin(stream);
                Some(())
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                None
            }
            Err(_) => None,
        }
    }

    /// The account that the client's address belongs to, if it has one (CONF-92).
    fn know_by_address(&mut self, tls: bool) {
        let accounts = &self.view.snapshot.accounts;
        if let ByAddress::Account(account) = accounts.by_address(self.peer.ip(), tls) {
            self.login = account.login.clone().or_else(|| Some(account.name.clone()));
            self.account = Some(account);
            self.seat.authenticated();
        }
        self.smtp.offer_auth(accounts.auth_offered(tls));
    }

    async fn auth(&mut self, credentials: Credentials) -> Goes {
        let (tls, peer) = (self.smtp.is_tls(), self.peer.ip());
        let snapshot = &self.view.snapshot;
        let judged = self
            .gate
            .logins
            .judge(snapshot, &credentials, peer, tls)
            .await;
        // Whose password is guessed at. What is no login of ours may be anything, a password too.
        let account = snapshot.accounts.by_login(&credentials.login);
        let account = account.map_or("-", |account| &account.name);
        let verdict = match judged {
            Judged::Accepted(account) => {
                self.login = Some(credentials.login);
                self.account = Some(account);
                self.seat.authenticated();
                AuthVerdict::Accepted
            }
            Judged::NeedsTls => AuthVerdict::NeedsTls,
            Judged::Refused(delay) => {
                tracing::warn!(%peer, account, "AUTH failed");
                self.wait(delay).await?;
                AuthVerdict::Refused
            }
            Judged::Locked(delay) => {
                tracing::warn!(%peer, account, "AUTH not looked at: too many failed logins");
                self.wait(delay).await?;
                AuthVerdict::Locked
            }
            Judged::Failed => AuthVerdict::Temporary,
        };
        self.smtp.auth_result(verdict, &mut self.out);
        Some(())
    }

    /// Keeps a client waiting for its answer. Its place is not kept for that (RELAY-5).
    async fn wait(&mut self, delay: Duration) -> Goes {
        let why = tokio::select! {
            biased;
            () = tokio::time::sleep(delay) => return Some(()),
            () = self.seat.evicted() => "too many sessions, an idle one gives way",
            _ = self.stop.wait_for(|on| *on) => "the service is stopping",
        };
        self.say_421(why).await;
        None
    }

    fn mail(&mut self, request: MailRequest) {
        let sender = Sender {
            path: request.path,
            ret: request.ret,
            envid: request.envid,
            eight_bit: request.body8bit,
            smtputf8: request.smtputf8,
            requiretls: request.requiretls,
        };
        let deliver = &self.gate.reception.deliver;
        if let Err(refusal) = deliver.may_come(self.account.as_deref()) {
            let permcode = self.view.snapshot.settings.rfrelay.permcode;
            return self.smtp.answer(refusal.reply(permcode), &mut self.out);
        }
        self.pace.transaction(Instant::now());
        let quotas = &self.gate.quotas;
        self.letter = Some(Box::new(Opened {
            sender,
            prdr: request.prdr,
            recipients: Vec::new(),
            booking: self.account.as_deref().map(|a| quotas.begin(a)),
        }));
        self.smtp.answer(Reply::new(250, "2.1.0 OK"), &mut self.out);
    }

    fn rcpt(&mut self, request: RcptRequest) {
        let named = match &request.path {
            ForwardPath::Mailbox(mailbox) => Named::Mailbox(mailbox),
            ForwardPath::Impossible { text, .. } => Named::Impossible(text),
        };
        let judged = judge_recipient(self.account.as_deref(), named, &*self.gate.lists);
        let judged = judged.and_then(|()| self.book());
        let reply = match judged {
            Err(refusal) => self.refuse_recipient(&request, &refusal),
            Ok(()) => {
                if let (Some(letter), ForwardPath::Mailbox(mailbox)) =
                    (&mut self.letter, request.path)
                {
                    self.running.get_or_insert_with(|| Running::new(&self.gate));
                    let (notify, orcpt) = (request.notify, request.orcpt);
                    letter.recipients.push(Recipient {
                        mailbox,
                        notify,
                        orcpt,
                    });
                }
                Reply::new(250, "2.1.5 OK")
            }
        };
        self.smtp.answer(reply, &mut self.out);
    }

    /// One recipient more of the account (CONF-93).
    fn book(&mut self) -> Result<(), Refusal> {
        let booking = self.letter.as_mut().and_then(|l| l.booking.as_mut());
        match (&self.account, booking) {
            (Some(account), Some(booking)) => booking.book(account),
            _ => Ok(()),
        }
    }

    fn refuse_recipient(&mut self, request: &RcptRequest, refusal: &Refusal) -> Reply {
        let reply = refusal.reply(self.view.snapshot.rfrelay.permcode);
        let recipient = match &request.path {
            ForwardPath::Mailbox(mailbox) => mailbox.as_str(),
            ForwardPath::Impossible { text, .. } => text,
        };
        self.note_refused(
            recipient.to_owned(),
            reply.clone(),
            refusal.rule().to_owned(),
            0,
        );
        reply
    }

    fn note_refused(&mut self, recipient: String, reply: Reply, rule: String, size: u64) {
        let sender = self
            .letter
            .as_ref()
            .map(|letter| letter.sender.path.as_str().to_owned());
        let refused = Refused {
            at: std::time::SystemTime::now(),
            session_id: self.session_id(),
            user: self.account.as_ref().map(|account| account.name.clone()),
            peer: self.peer.ip(),
            sender: sender.unwrap_or_default(),
            recipient,
            reference: String::new(),
            reply,
            rule,
            size,
        };
        self.gate.reception.events.refused(refused);
    }

    fn session_id(&mut self) -> String {
        if self.id.is_empty() {
            self.id = self.gate.next_session_id();
        }
        self.id.clone()
    }

    async fn end_of_data(
        &mut self,
        problem: Option<ContentProblem>,
        size: u64,
        has_bare: bool,
    ) -> Goes {
        let received = Instant::now().into_std();
        let Some(letter) = self.letter.take() else {
            self.forget_letter();
            self.smtp
                .finish(&[Reply::new(503, "5.5.1 no transaction")], &mut self.out);
            return Some(());
        };
        if problem == Some(ContentProblem::TooLarge) {
            self.letter = Some(letter);
            return self.refuse_content(
                Refusal::standard(552, "5.3.4 Message too big", "RELAY-15"),
                size,
            );
        }
        let rest = std::mem::take(&mut self.content);
        let content = match self.collector.take() {
            Some(collector) => collector.finish(rest).await,
            None => Collector::new(&self.view.temporary).finish(rest).await,
        };
        let content = match content {
            Ok(content) => content,
            Err(_) => {
                self.letter = Some(letter);
                let text = format!(
                    "4.3.0 the message could not be stored, id {}",
                    self.session_id()
                );
                return self.refuse_content(Refusal::standard(451, text, "T-33"), size);
            }
        };
        let Opened {
            sender,
            prdr,
            recipients,
            booking,
        } = *letter;
        let envelope = Letter {
            snapshot: self.view.snapshot.clone(),
            client: Client {
                account: self.account.clone(),
                login: self.login.clone(),
                peer: self.peer,
                helo: self.smtp.helo().to_owned(),
                tls: self.smtp.is_tls(),
                session_id: self.session_id(),
            },
            sender,
            recipients,
            content,
            bare: problem.is_some(),
            passed_bare: has_bare && problem.is_none() && self.gate.passes_bare(&self.view),
            extended: self.smtp.is_extended(),
            received,
            prdr,
        };
        self.seat.busy();
        let result = {
            let (stream, input, used) = (&mut self.stream, &mut self.input, self.used);
            let gone = Box::pin(client_gone(stream, input, used));
            self.gate.reception.receive(envelope, gone).await
        };
        self.seat.active(Instant::now());
        if let (Ok(_), Some(booking)) = (&result, booking) {
            booking.spend();
        }
        match result {
            Ok(answer) if prdr && answer.settled.len() > 1 => {
                let mut replies: Vec<Reply> =
                    answer.settled.into_iter().map(|end| end.reply).collect();
                replies.push(answer.reply);
                self.smtp.finish(&replies, &mut self.out);
            }
            Ok(answer) => self.smtp.finish(&[answer.reply], &mut self.out),
            Err(reply) => self.smtp.finish(&[reply], &mut self.out),
        }
        // Before anything else that came with it is done (RELAY-17).
        self.flush().await
    }

    fn refuse_content(&mut self, refusal: Refusal, size: u64) -> Goes {
        let recipients = self.letter.as_ref().map(|letter| {
            let names: Vec<&str> = letter
                .recipients
                .iter()
                .map(|r| r.mailbox.as_str())
                .collect();
            names.join(" ")
        });
        let reply = refusal.reply(false);
        self.note_refused(
            recipients.unwrap_or_default(),
            reply.clone(),
            refusal.rule().to_owned(),
            size,
        );
        self.forget_letter();
        self.smtp.finish(&[reply], &mut self.out);
        Some(())
    }
}

/// Resolves when the client disconnects. What it sends ahead is kept, up to a limit; a client that
/// has sent something ahead and then ended its side still waits for the reply.
async fn client_gone(stream: &mut BoxStream, input: &mut Vec<u8>, used: usize) {
    loop {
        let ahead = input.len().saturating_sub(used);
        if ahead >= AHEAD {
            return std::future::pending().await;
        }
        match read_into(stream, input, AHEAD - ahead).await {
            Ok(0) if ahead > 0 => return std::future::pending().await,
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
