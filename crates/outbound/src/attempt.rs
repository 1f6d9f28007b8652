//! One hop: from one outbound to one remote address, for one or several recipients, on an idle
//! session or a new one (RELAY-42, RELAY-55, RELAY-60 to RELAY-71).
//!
//! Nothing is decided here about mail: what an answer means is for `galerne_core::chase`.

use std::sync::Arc;
use std::time::Duration;

use galerne_core::model::{Plan, Remote, Ret, Stage, Submission};
use galerne_core::mx::greets_as_us;
use galerne_core::plan::Times;
use galerne_core::refusal::Refusal;
use galerne_core::settings::{OutboundIp, RelayHost};
use galerne_core::tls_policy::{Demand, Encryption, broken, requiretls_not_offered};
use galerne_smtp::ReversePath;
use galerne_smtp::client::{
    Chunking, ClientAuth, ClientConfig, ClientEvent, ClientSession, FailureKind, LocalRefusal,
    RemoteAnswer, StartTlsUse, Transaction, TxRecipient,
};
use tokio::time::{Instant, timeout_at};

use crate::cancel::Cancelled;
use crate::connection::{Connection, Key, plain};
use crate::content::{Sent, send_content};
use crate::dial::{BoxStream, Dial};
use crate::memory::Addresses;
use crate::pace::{Leave, SessionMark};
use crate::pool::{Pool, quit};
use crate::seal::Fields;
use crate::tls::{ClientTls, TlsTrouble};
use crate::tls_counts::{Failure, TlsCounts};

/// What is needed to make attempts, one per process.
pub struct Tools {
    pub dial: Arc<dyn Dial>,
    pub pool: Arc<Pool>,
    /// Where TLS failed not long ago.
    pub broken_tls: Addresses,
    pub counts: Arc<TlsCounts>,
    /// The time for a stop is over.
    pub given_up: Cancelled,
}

/// One thing to deliver in one transaction.
pub struct Order<'a> {
    pub submission: &'a Submission,
    pub plan: &'a Plan,
    /// Set when the next hop is a relay host.
    pub host: Option<&'a RelayHost>,
    pub sender: ReversePath,
    /// Indices into the recipients of the submission.
    pub recipients: Vec<usize>,
    pub tls: &'a ClientTls,
    /// What the session must be.
    pub demand: Demand,
    /// Look whether a certificate that need not be proved would be (MTA-STS, testing).
    pub try_proof: bool,
    /// Signatures to put in front of the message.
    pub fields: Option<Fields>,
    /// Until the final dot.
    pub deadline: Instant,
    /// For the reply to the final dot (RELAY-70).
    pub dot_deadline: Instant,
    pub times: Times,
    pub connect_time: Duration,
    pub auth_clear: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct End {
    /// For each recipient of the order: the step, and what the remote said there.
    pub answers: Vec<(Stage, RemoteAnswer)>,
    pub dot_sent: bool,
    pub tls: Option<String>,
    pub special: Special,
    /// Set when the answers are ours and the remote was not asked.
    pub local: Option<LocalRefusal>,
    /// Set when a policy does not let the remote be used: the next one is tried.
    pub policy: Option<Refusal>,
    /// The remote offers DSN, and was given the parameters (RET-34).
    pub dsn: bool,
}

/// Ends that are no answer of a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    None,
    /// The client went away before the final dot.
    Cancelled,
    /// The remote greets with our own name (FLOW-60).
    Loop,
    /// AUTH failed or was not possible: an operator's error (ROUTE-42).
    Auth,
    /// The idle session proved closed, and flow control gives no new one at once.
    Stale,
}

impl End {
    fn all(
        order: &Order<'_>,
        stage: Stage,
        answer: RemoteAnswer,
        tls: Option<String>,
        special: Special,
    ) -> End {
        let answers = order
            .recipients
            .iter()
            .map(|_| (stage, answer.clone()))
            .collect();
        End {
            answers,
            dot_sent: false,
            tls,
            special,
            local: None,
            policy: None,
            dsn: false,
        }
    }

    /// The client went away before the remote was asked.
    pub fn cancelled(recipients: usize) -> End {
        let answer = RemoteAnswer::Lost("the client went away".into());
        End {
            answers: vec![(Stage::Connect, answer); recipients],
            dot_sent: false,
            tls: None,
            special: Special::Cancelled,
            local: None,
            policy: None,
            dsn: false,
        }
    }

    /// A remote that was not asked, because a policy forbids it.
    pub fn forbidden(recipients: usize, refusal: Refusal) -> End {
        let text = refusal.reply(false).to_log();
        End {
            answers: vec![(Stage::Connect, RemoteAnswer::Lost(text)); recipients],
            dot_sent: false,
            tls: None,
            special: Special::None,
            local: None,
            policy: Some(refusal),
            dsn: false,
        }
    }

    /// There is no session as it has to be, and why; nothing goes out in clear (T-12).
    fn without_tls(mut self, host: &str, demand: &Demand) -> End {
        let why = match self.answers.first() {
            Some((_, RemoteAnswer::Lost(why) | RemoteAnswer::Malformed(why))) => why.clone(),
            Some((_, RemoteAnswer::Reply(reply))) => {
                format!("STARTTLS was refused: {}", reply.to_log())
            }
            None => String::new(),
        };
        self.policy = Some(broken(host, &why, demand));
        self
    }
}

enum Step {
    Done(End),
    /// A reused session that proves closed, or says 421 before its MAIL was accepted: no hop.
    Stale(End),
    /// TLS failed: where that may be, again in clear, to the same address.
    NoTls(End),
}

/// How a hop is made: in an idle session or a new one, with leave of flow control where there is
/// one.
#[derive(Default)]
pub struct Admission {
    pub connection: Option<Box<Connection>>,
    pub leave: Option<Leave>,
    /// For a session to be opened.
    pub mark: Option<SessionMark>,
}

/// What makes the session of a hop different from others.
pub fn session_key(
    tools: &Tools,
    order: &Order<'_>,
    outbound: &OutboundIp,
    remote: &Remote,
) -> Key {
    let mut key = key(order, outbound, remote);
    if key.encryption == Encryption::IfOffered && tools.broken_tls.recently(remote.address) {
        key.encryption = Encryption::Never;
    }
    key
}

/// Makes one hop.
pub async fn attempt(
    tools: &Tools,
    order: &Order<'_>,
    key: Key,
    admission: Admission,
    cancelled: &mut Cancelled,
) -> End {
    if cancelled.is_cancelled() {
        return gone(order);
    }
    let Admission {
        connection,
        mut leave,
        mut mark,
    } = admission;
    if let Some(connection) = connection {
        let (step, left) = transact(tools, order, connection, &mut leave, cancelled).await;
        match step {
            Step::Done(end) | Step::NoTls(end) => return end,
            // Nobody heard its MAIL. The session has ended; a new one may have to wait (FLOW-21).
            Step::Stale(mut end) => {
                drop(left);
                if let Some(leave) = &mut leave {
                    leave.mail_unheard();
                    mark = leave.reopen();
                    if mark.is_none() {
                        end.special = Special::Stale;
                        return end;
                    }
                }
            }
        }
    }
    // The rarer way, and the larger future: most messages go in a session that stands.
    Box::pin(in_new_session(tools, order, key, (leave, mark), cancelled)).await
}

/// The hop in a session to be opened, once more in clear where TLS fails and may.
async fn in_new_session(
    tools: &Tools,
    order: &Order<'_>,
    mut key: Key,
    (mut leave, mut mark): (Option<Leave>, Option<SessionMark>),
    cancelled: &mut Cancelled,
) -> End {
    loop {
        let step = match open(tools, order, &key, cancelled).await {
            Ok(mut connection) => {
                connection.mark = mark.take();
                let made = transact(tools, order, connection, &mut leave, cancelled);
                made.await.0
            }
            Err(step) => step,
        };
        match step {
            Step::NoTls(end) => {
                if key.encryption != Encryption::IfOffered {
                    return end.without_tls(&key.host, &order.demand);
                }
                tools.broken_tls.remember(key.remote);
                key.encryption = Encryption::Never;
            }
            Step::Done(end) | Step::Stale(end) => return end,
        }
    }
}

fn key(order: &Order<'_>, outbound: &OutboundIp, remote: &Remote) -> Key {
    let ehlo = order
        .plan
        .ehlo
        .clone()
        .unwrap_or_else(|| outbound.name.clone());
    let credentials = order
        .host
        .and_then(|host| Some((host.login.clone()?, host.password.clone()?)));
    let auth_in_clear = remote.address.ip().is_loopback() || order.auth_clear;
    Key {
        outbound: outbound.address,
        remote: remote.address,
        host: remote.host.clone(),
        ehlo,
        encryption: order.demand.encryption,
        proof: order.demand.proof.clone(),
        credentials,
        auth_in_clear,
    }
}

/// Connects, and encrypts at once where the port asks for it.
async fn open(
    tools: &Tools,
    order: &Order<'_>,
    key: &Key,
    cancelled: &mut Cancelled,
) -> Result<Box<Connection>, Step> {
    let fail = |why: String, stage: Stage| {
        Step::Done(End::all(
            order,
            stage,
            RemoteAnswer::Lost(why),
            None,
            Special::None,
        ))
    };
    let deadline = order.deadline.min(Instant::now() + order.connect_time);
    let dialled = tokio::select! {
        biased;
        dialled = timeout_at(deadline, tools.dial.dial(key.outbound, key.remote)) => dialled,
        () = cancelled.wait() => return Err(Step::Done(gone(order))),
    };
    let stream = match dialled {
        Err(_) => return Err(fail("timed out".into(), Stage::Connect)),
        Ok(Err(error)) => return Err(fail(plain(&error), Stage::Connect)),
        Ok(Ok(stream)) => stream,
    };
    let session = ClientSession::new(config(key));
    let (stream, tls) = match key.encryption {
        Encryption::Implicit => match encrypt(tools, order, key, stream, deadline).await {
            Ok((stream, tls)) => (stream, Some(tls)),
            Err(why) => return Err(no_tls(order, why)),
        },
        _ => (stream, None),
    };
    let mut connection = Connection::new(key.clone(), session, stream, tls);
    connection.limit = order.times.step;
    let greeting = deadline
        .max(Instant::now() + order.times.greeting)
        .min(order.deadline);
    tokio::select! {
        biased;
        result = become_ready(tools, order, &mut connection, greeting) => match result {
            Ok(()) => Ok(connection),
            Err(step) => Err(step),
        },
        () = cancelled.wait() => Err(Step::Done(gone(order))),
    }
}

/// What the protocol has to know of such a session.
fn config(key: &Key) -> ClientConfig {
    let (starttls, tls_active) = match key.encryption {
        Encryption::Never => (StartTlsUse::Never, false),
        Encryption::IfOffered => (StartTlsUse::IfOffered, false),
        Encryption::Required => (StartTlsUse::Required, false),
        Encryption::Implicit => (StartTlsUse::Never, true),
    };
    ClientConfig {
        ehlo: key.ehlo.clone(),
        tls_active,
        starttls,
        auth: key.credentials.clone().map(|(login, secret)| ClientAuth {
            login,
            password: secret.0,
        }),
        auth_in_clear: key.auth_in_clear,
    }
}

/// Greeting, EHLO, STARTTLS, AUTH: until a transaction may begin.
async fn become_ready(
    tools: &Tools,
    order: &Order<'_>,
    connection: &mut Connection,
    greeting: Instant,
) -> Result<(), Step> {
    let mut deadline = greeting;
    loop {
        match connection.step(deadline).await {
            ClientEvent::Ready => {
                if order.try_proof && connection.tls.is_none() {
                    tools.counts.failed(Failure::StartTlsNotSupported);
                }
                return Ok(());
            }
            ClientEvent::Greeted => {
                check_loop(order, connection)?;
                deadline = order.deadline;
            }
            ClientEvent::StartTls => {
                if let Err(why) = upgrade(tools, order, connection).await {
                    return Err(no_tls(order, why));
                }
            }
            ClientEvent::Failed {
                stage,
                answer,
                kind,
            } => {
                let tls = connection.tls.clone();
                let special = match kind {
                    FailureKind::Auth | FailureKind::AuthNotOffered | FailureKind::AuthNeedsTls => {
                        Special::Auth
                    }
                    _ => Special::None,
                };
                let end = End::all(order, stage, answer, tls, special);
                return Err(match kind {
                    FailureKind::TlsRefused | FailureKind::TlsUnavailable => {
                        tools.counts.failed(Failure::StartTlsNotSupported);
                        Step::NoTls(end)
                    }
                    // In TLS 1.3 a server says only now that it did not like our handshake.
                    FailureKind::Lost
                        if stage == Stage::Ehlo
                            && connection.tls.is_some()
                            && connection.key.encryption == Encryption::IfOffered =>
                    {
                        Step::NoTls(end)
                    }
                    _ => Step::Done(end),
                });
            }
            ClientEvent::NeedInput | ClientEvent::SendContent | ClientEvent::Finished(_) => {
                connection.session.lost("protocol error");
            }
        }
    }
}

/// Our own name in the greeting means that we talk to ourselves (FLOW-60).
fn check_loop(order: &Order<'_>, connection: &Connection) -> Result<(), Step> {
    let own = &order.submission.settings.hostname;
    let ours = connection
        .session
        .greeting()
        .is_some_and(|greeting| greets_as_us(greeting, own));
    if order.host.is_none() && ours {
        let answer = RemoteAnswer::Lost("the remote greets with our own name".into());
        return Err(Step::Done(End::all(
            order,
            Stage::Connect,
            answer,
            None,
            Special::Loop,
        )));
    }
    Ok(())
}

async fn upgrade(
    tools: &Tools,
    order: &Order<'_>,
    connection: &mut Connection,
) -> Result<(), String> {
    let deadline = order.deadline.min(Instant::now() + order.connect_time);
    let clear: BoxStream = std::mem::replace(&mut connection.stream, Box::pin(tokio::io::empty()));
    let (stream, tls) = encrypt(tools, order, &connection.key, clear, deadline).await?;
    connection.stream = stream;
    connection.tls = Some(tls);
    connection.session.tls_established();
    Ok(())
}

/// Does the handshake and counts what came of it.
async fn encrypt(
    tools: &Tools,
    order: &Order<'_>,
    key: &Key,
    stream: BoxStream,
    deadline: Instant,
) -> Result<(BoxStream, String), String> {
    let peer = (&*key.host, key.remote.ip());
    let made = order
        .tls
        .handshake(stream, &key.proof, peer, order.try_proof, deadline);
    match made.await {
        Ok(encrypted) => {
            match encrypted.tried {
                Some(Err(TlsTrouble { why, kind })) => {
                    tools.counts.failed(kind);
                    tracing::info!(host = %key.host, %why, "MTA-STS, testing: not verified");
                }
                _ => tools.counts.encrypted(),
            }
            Ok((encrypted.stream, encrypted.tls))
        }
        Err(trouble) => {
            tools.counts.failed(trouble.kind);
            Err(trouble.why)
        }
    }
}

fn no_tls(order: &Order<'_>, why: String) -> Step {
    let answer = RemoteAnswer::Lost(why);
    Step::NoTls(End::all(
        order,
        Stage::StartTls,
        answer,
        None,
        Special::None,
    ))
}

/// One transaction on a session that is ready. Of one that proved closed its mark is left.
async fn transact(
    tools: &Tools,
    order: &Order<'_>,
    mut connection: Box<Connection>,
    leave: &mut Option<Leave>,
    cancelled: &mut Cancelled,
) -> (Step, Option<SessionMark>) {
    let reused = connection.was_used;
    connection.limit = order.times.step;
    connection.start(transaction(order));
    let finished = tokio::select! {
        biased;
        finished = until_dot(order, &mut connection, leave) => finished,
        () = cancelled.wait() => None,
    };
    let event = match finished {
        Some(event) => event,
        // The final dot is out: there is no way back (RELAY-70, RELAY-71).
        None if connection.end_is_out() => {
            connection.limit = order.times.last_step;
            let mut given_up = tools.given_up.clone();
            let answer = tokio::select! {
                biased;
                event = connection.step(order.dot_deadline) => Some(event),
                () = given_up.wait() => None,
            };
            match answer {
                Some(event) => event,
                None => {
                    connection
                        .session
                        .lost("we had to stop before the reply came");
                    connection.step(order.dot_deadline).await
                }
            }
        }
        None if cancelled.is_cancelled() => return (Step::Done(gone(order)), None),
        None => connection.step(order.deadline).await,
    };
    let mail_accepted = connection.session.mail_accepted();
    let (end, usable) = ended(order, &connection, event);
    if reused && !mail_accepted && !end.dot_sent && is_stale(&end) {
        return (Step::Stale(end), connection.mark.take());
    }
    if usable {
        give_back(tools, leave.as_ref(), connection);
    } else {
        tokio::spawn(quit(connection));
    }
    (Step::Done(end), None)
}

/// What a transaction came to, and whether its session can take another.
fn ended(order: &Order<'_>, connection: &Connection, event: ClientEvent) -> (End, bool) {
    let tls = connection.tls.clone();
    match event {
        ClientEvent::Finished(result) => {
            // An end that never left us was not sent.
            let dot_sent = result.dot_sent && connection.end_is_out();
            let (mut answers, mut local) = (result.recipients, result.local);
            let mut policy = None;
            if local == Some(LocalRefusal::RequireTlsNotOffered) {
                local = None;
                policy = Some(requiretls_not_offered(&connection.key.host));
                let why = RemoteAnswer::Lost("the remote does not offer REQUIRETLS".into());
                answers.fill((Stage::Mail, why));
            }
            (
                End {
                    answers,
                    dot_sent,
                    tls,
                    special: Special::None,
                    local,
                    policy,
                    dsn: connection.session.capabilities().dsn,
                },
                result.usable,
            )
        }
        ClientEvent::Failed { stage, answer, .. } => {
            (End::all(order, stage, answer, tls, Special::None), false)
        }
        _ => {
            let answer = RemoteAnswer::Lost("protocol error".into());
            (
                End::all(order, Stage::Data, answer, tls, Special::None),
                false,
            )
        }
    }
}

/// The dialogue up to and with the final dot. `None`: the end was given to the stream, whole or
/// not.
async fn until_dot(
    order: &Order<'_>,
    connection: &mut Connection,
    leave: &mut Option<Leave>,
) -> Option<ClientEvent> {
    let (event, is_out) = connection.begin(order.deadline).await;
    // A message counts from its MAIL on (FLOW-27), and so does its session.
    if is_out {
        if let Some(leave) = leave {
            leave.mail_sent();
        }
        if let Some(mark) = &mut connection.mark {
            mark.used();
        }
    }
    let event = match event {
        Some(event) => event,
        None => connection.step(order.deadline).await,
    };
    match event {
        ClientEvent::SendContent => match send_content(order, connection).await {
            Sent::All => None,
            Sent::Interrupted => Some(connection.hear_out(order.deadline).await),
        },
        event => Some(event),
    }
}

fn is_stale(end: &End) -> bool {
    end.answers.iter().all(|(_, answer)| match answer {
        RemoteAnswer::Lost(why) => why != "timed out",
        RemoteAnswer::Reply(reply) => reply.code() == 421,
        RemoteAnswer::Malformed(_) => false,
    })
}

fn give_back(tools: &Tools, leave: Option<&Leave>, connection: Box<Connection>) {
    let kept = match leave {
        Some(leave) => leave.pace().hand_on(connection),
        None => Some(connection),
    };
    let Some(connection) = kept else { return };
    let key = leave.map(|_| connection.key.clone());
    if let Some(connection) = tools.pool.put(connection, Instant::now()) {
        tokio::spawn(quit(connection));
    }
    // Somebody may have lined up since: what is idle is looked at again.
    if let (Some(leave), Some(key)) = (leave, key)
        && leave.pace().has_line(leave.spot())
        && let Some(connection) = tools.pool.take(&key, None)
        && let Some(connection) = leave.pace().hand_on(connection)
        && let Some(connection) = tools.pool.put(connection, Instant::now())
    {
        tokio::spawn(quit(connection));
    }
}

fn gone(order: &Order<'_>) -> End {
    End::cancelled(order.recipients.len())
}

fn transaction(order: &Order<'_>) -> Transaction {
    let submission = order.submission;
    let cut: usize = submission.patch.cuts.iter().map(|range| range.len()).sum();
    let recipients = order
        .recipients
        .iter()
        .filter_map(|&i| submission.recipients.get(i))
        .map(|recipient| {
            let (notify, orcpt) = galerne_core::dsn::parameters(recipient);
            TxRecipient {
                mailbox: recipient.mailbox.clone(),
                notify,
                orcpt,
            }
        });
    let added = order.fields.as_ref().map_or(0, |fields| fields.len());
    let added = added as u64 + submission.patch.prefix.len() as u64;
    Transaction {
        sender: order.sender.clone(),
        recipients: recipients.collect(),
        size: submission.content.len() - cut as u64 + added,
        eight_bit: submission.sender.eight_bit,
        smtputf8: submission.sender.smtputf8,
        requiretls: submission.sender.requiretls,
        ret: submission.sender.ret.map(|ret| match ret {
            // Nobody is to send the whole back (RFC 8689 §5).
            Ret::Full if !submission.sender.requiretls => "FULL",
            Ret::Full | Ret::Hdrs => "HDRS",
        }),
        envid: submission.sender.envid.clone(),
        chunking: if submission.needs_chunking {
            Chunking::Bdat
        } else {
            Chunking::Data
        },
    }
}
