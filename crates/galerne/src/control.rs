//! The control socket `<root>/system/control.sock` (IF-8): owner only, one request a connection.
//!
//! A request is one line of JSON, for `send` followed by `length` octets of message; the answer is
//! one line of JSON.

pub mod queue;
pub mod rows;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Connected;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use galerne_core::access::{Named, judge_recipient};
use galerne_core::content::Content;
use galerne_core::model::{Client, Recipient, Sender};
use galerne_core::settings::Account;
use galerne_inbound::Letter;
use galerne_smtp::address::ForwardPath;
use galerne_smtp::data::{BareLfPolicy, Decoder};
use galerne_smtp::{Reply, ReversePath};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::flow::Switch;
use crate::house::House;
use crate::routes::Change;
use queue::QueueAsk;

/// Longest request line.
const LONGEST_LINE: u64 = 64 * 1024;
/// Largest change of the route table.
const LARGEST_CHANGE: u64 = 64 << 20;
/// Octets of content that are sent at a time.
const CONTENT_PIECE: usize = 256 * 1024;
/// Time for a request to come.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// What can be asked of the running server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Request {
    /// Submit a message as an account; the octets follow the line.
    Send {
        user: Option<String>,
        from: String,
        to: Vec<String>,
        length: u64,
    },
    /// What the accounts have used up of their limits (CONF-93); the answer is one line of JSON.
    Usage,
    /// The states of flow control; the answer is one line of JSON.
    Flow { group: Option<String> },
    /// Switch a flow set (FLOW-49).
    FlowSet(Switch),
    /// Change the route table (ROUTE-22); the change follows the line as JSON.
    Routes { length: u64 },
    /// About the queue; the answer is one line of JSON, and content follows it.
    Queue { ask: Box<QueueAsk> },
}

/// The server's answer: an SMTP reply, or what was wrong with the request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Response {
    pub code: u16,
    pub lines: Vec<String>,
}

impl Response {
    fn of(reply: &Reply) -> Self {
        let lines = reply
            .lines()
            .map(|line| String::from_utf8_lossy(line).into_owned());
        Response {
            code: reply.code(),
            lines: lines.collect(),
        }
    }
}

/// Where the socket is.
pub fn path(root: &Path) -> PathBuf {
    root.join("system/control.sock")
}

/// The open socket.
pub struct Control {
    path: PathBuf,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// Most octets of the path of a socket, with room for the name while it is made (`sun_path`).
const LONGEST_PATH: usize = 100;

/// Another way to the socket for a root with a long name: through its open directory. The system
/// takes no long paths for sockets. The file must stay open while the path is used.
fn short(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    let folder = path.parent().zip(path.file_name());
    let Some((folder, name)) = folder.filter(|_| path.as_os_str().len() > LONGEST_PATH) else {
        return Ok((None, path.to_owned()));
    };
    let folder = File::open(folder)?;
    let way = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((Some(folder), way))
}

fn reach(path: &Path) -> io::Result<Connected> {
    let (_folder, path) = short(path)?;
    Connected::connect(path)
}

/// Connects to the running server, for commands.
///
/// # Errors
/// There is none, or it is not ours to talk to: the text says which, and what to do.
pub fn connect(root: &Path) -> Result<Connected, String> {
    let path = path(root);
    reach(&path).map_err(|error| {
        let (root, path) = (root.display(), path.display());
        match error.kind() {
            io::ErrorKind::NotFound => format!("no server runs on {root}: there is no {path}; start it with `galerne --root {root} run`"),
            io::ErrorKind::ConnectionRefused => format!("no server runs on {root}: {path} is left from one that has ended; start it with `galerne --root {root} run`"),
            io::ErrorKind::PermissionDenied => format!("{path} is only for the user that the server runs as, and for root"),
            _ => format!("{path}: {error}"),
        }
    })
}

/// Asks the running server something that is answered in one line.
///
/// # Errors
/// No server runs, or it does not answer, in words.
pub fn ask(root: &Path, request: &Request) -> Result<Response, String> {
    ask_with(root, request, b"")
}

/// Asks about the queue, and gives the document that answers.
///
/// # Errors
/// No server runs, or it refuses, in words.
pub fn ask_queue<T: serde::de::DeserializeOwned>(root: &Path, ask: QueueAsk) -> Result<T, String> {
    let ask = Box::new(ask);
    let response = self::ask(root, &Request::Queue { ask })?;
    understood(response)
}

/// The document of an answer.
fn understood<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, String> {
    let text = response.lines.concat();
    if response.code != 250 {
        return Err(text);
    }
    serde_json::from_str(&text).map_err(|e| format!("the server's answer is not understood: {e}"))
}

/// Has the octets of a stored message written to `out`.
///
/// # Errors
/// As `ask_queue`, or what `out` says.
pub fn queue_content(root: &Path, id: &str, out: &mut impl io::Write) -> Result<(), String> {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut stream = connect(root)?;
    let failed = |error: io::Error| format!("control socket: {error}");
    let ask = Box::new(QueueAsk::Content { id: id.to_owned() });
    let mut line = serde_json::to_vec(&Request::Queue { ask }).map_err(|e| e.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    let mut reader = BufReader::new(&stream);
    let mut answer = String::new();
    reader.read_line(&mut answer).map_err(failed)?;
    let response = serde_json::from_str(&answer)
        .map_err(|e| format!("the server's answer is not understood: {e}"))?;
    let length: u64 = understood(response)?;
    let copied = io::copy(&mut reader.take(length), out).map_err(|e| e.to_string())?;
    match copied == length {
        true => Ok(()),
        false => Err(format!("only {copied} of {length} octets came")),
    }
}

/// As `ask`, with octets behind the line.
fn ask_with(root: &Path, request: &Request, octets: &[u8]) -> Result<Response, String> {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = connect(root)?;
    let failed = |error: io::Error| format!("control socket: {error}");
    let mut line = serde_json::to_vec(request).map_err(|e| e.to_string())?;
    line.push(b'\n');
    line.extend_from_slice(octets);
    stream.write_all(&line).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(&stream)
        .read_line(&mut answer)
        .map_err(failed)?;
    serde_json::from_str(&answer).map_err(|e| format!("the server's answer is not understood: {e}"))
}

/// Whether a server can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Runs,
    Absent,
}

/// Whether a server runs on this root.
///
/// # Errors
/// One may run, but it is not ours to talk to.
pub fn presence(root: &Path) -> Result<Presence, String> {
    match reach(&path(root)) {
        Ok(_) => Ok(Presence::Runs),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Presence::Absent),
            _ => connect(root).map(|_| Presence::Runs),
        },
    }
}

/// Has the running server change its route table; gives the ids that were added or removed.
///
/// # Errors
/// It refuses, or does not answer, in words.
pub fn change_routes(root: &Path, change: &Change) -> Result<Vec<u64>, String> {
    let octets = serde_json::to_vec(change).map_err(|e| e.to_string())?;
    let length = octets.len() as u64;
    let response = ask_with(root, &Request::Routes { length }, &octets)?;
    let text = response.lines.join(" ");
    if response.code != 250 {
        return Err(text);
    }
    serde_json::from_str(&text).map_err(|e| format!("the server's answer is not understood: {e}"))
}

/// An error if another server already works on this root.
pub fn is_free(root: &Path) -> Result<(), String> {
    let path = path(root);
    match reach(&path) {
        Ok(_) => Err(format!(
            "another galerne runs on this root: {} answers",
            path.display()
        )),
        Err(_) => Ok(()),
    }
}

/// Opens the socket and answers requests until stopped.
///
/// # Errors
/// The socket cannot be made, or another server answers on it.
pub fn listen(root: &Path, house: Arc<House>) -> Result<Control, String> {
    is_free(root)?;
    let path = path(root);
    let _ = std::fs::remove_file(&path);
    let failed = |e: io::Error| format!("{}: {e}", path.display());
    // Made under another name and moved, so that it is never open to others, not even for a moment.
    let making = path.with_extension("new");
    let _ = std::fs::remove_file(&making);
    let (_folder, way) = short(&making).map_err(failed)?;
    let listener = UnixListener::bind(way).map_err(failed)?;
    std::fs::set_permissions(&making, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&making, &path).map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, house, stopped));
    Ok(Control {
        path,
        stop,
        accepting,
    })
}

impl Control {
    /// Takes no more requests and waits for the answers that are due, at the latest until `grace`
    /// is over (QUEUE-19).
    pub async fn stop(mut self, grace: Duration) {
        let _ = std::fs::remove_file(&self.path);
        self.stop.send_replace(true);
        if timeout(grace, &mut self.accepting).await.is_err() {
            self.accepting.abort();
        }
    }
}

async fn accept(listener: UnixListener, house: Arc<House>, mut stop: watch::Receiver<bool>) {
    let mut requests = JoinSet::new();
    loop {
        while requests.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|on| *on) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let house = house.clone();
                requests.spawn(async move {
                    if let Err(error) = answer(&house, stream).await {
                        tracing::debug!(%error, "control request failed");
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    while requests.join_next().await.is_some() {}
}

/// The states of flow control, however many: not on the threads of the sessions.
async fn flow(house: &Arc<House>, group: Option<String>) -> io::Result<String> {
    let flow = house.flow().clone();
    let document = tokio::task::spawn_blocking(move || flow.document(group.as_deref()));
    document.await.map_err(io::Error::other)
}

/// A switch on demand, on disk when it is answered.
async fn flow_set(house: &Arc<House>, switch: Switch) -> io::Result<Response> {
    let house = house.clone();
    let switched =
        tokio::task::spawn_blocking(move || house.flow().switch(&house.snapshot(), &switch));
    let (code, text) = match switched.await.map_err(io::Error::other)? {
        Ok(text) => (250, text),
        Err(text) => (501, text),
    };
    Ok(Response {
        code,
        lines: vec![text],
    })
}

async fn answer(house: &Arc<House>, stream: UnixStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    let mut bounded = (&mut stream).take(LONGEST_LINE);
    timeout(REQUEST_TIME, bounded.read_until(b'\n', &mut line)).await??;
    let mut content = None;
    let response = match serde_json::from_slice(&line) {
        Ok(Request::Send {
            user,
            from,
            to,
            length,
        }) => {
            let most = house.snapshot().rfrelay.maxsize;
            if length > most {
                Response::of(&Reply::new(
                    552,
                    format!("5.3.4 Message too big: {length} octets, at most {most}"),
                ))
            } else {
                let mut octets = Vec::new();
                timeout(
                    REQUEST_TIME,
                    (&mut stream).take(length).read_to_end(&mut octets),
                )
                .await??;
                Response::of(&send(house, user.as_deref(), &from, &to, octets).await)
            }
        }
        Ok(Request::Usage) => Response {
            code: 250,
            lines: vec![usage(house)],
        },
        Ok(Request::Flow { group }) => Response {
            code: 250,
            lines: vec![flow(house, group).await?],
        },
        Ok(Request::FlowSet(switch)) => flow_set(house, switch).await?,
        Ok(Request::Routes { length }) if length > LARGEST_CHANGE => Response {
            code: 552,
            lines: vec![format!("{length} octets are too many routes at once")],
        },
        Ok(Request::Routes { length }) => {
            let mut octets = Vec::new();
            let mut change = (&mut stream).take(length);
            timeout(REQUEST_TIME, change.read_to_end(&mut octets)).await??;
            routes(house, octets).await
        }
        Ok(Request::Queue { ask }) => match queue::answer(house, *ask).await {
            Ok(answered) => {
                content = answered.content;
                Response {
                    code: 250,
                    lines: vec![answered.document],
                }
            }
            Err(why) => Response {
                code: 451,
                lines: vec![why],
            },
        },
        Err(error) => Response {
            code: 500,
            lines: vec![format!("5.5.2 request not understood: {error}")],
        },
    };
    let mut text = serde_json::to_vec(&response)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    match content {
        Some(content) => write_content(&mut stream, content).await,
        None => Ok(()),
    }
}

/// The octets of a message.
async fn write_content(stream: &mut BufReader<UnixStream>, content: Content) -> io::Result<()> {
    stream.write_all(&content.memory).await?;
    let Some(spill) = content.spill else {
        return Ok(());
    };
    let mut offset = 0;
    while offset < spill.len() {
        let spill = spill.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; CONTENT_PIECE];
            let count = spill.read_at(offset, &mut piece)?;
            piece.truncate(count);
            Ok::<_, io::Error>(piece)
        });
        let piece = read.await??;
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        stream.write_all(&piece).await?;
    }
    Ok(())
}

/// Changes the route table; the answer is the list of ids, or why not.
async fn routes(house: &Arc<House>, octets: Vec<u8>) -> Response {
    let house = house.clone();
    let work = tokio::task::spawn_blocking(move || {
        let change = serde_json::from_slice(&octets).map_err(|e| e.to_string())?;
        let ids = house.change_routes(change)?;
        serde_json::to_string(&ids).map_err(|e| e.to_string())
    });
    match work.await.unwrap_or_else(|e| Err(e.to_string())) {
        Ok(ids) => Response {
            code: 250,
            lines: vec![ids],
        },
        Err(why) => Response {
            code: 550,
            lines: vec![why],
        },
    }
}

/// Recipients of the last hour and day by account.
fn usage(house: &House) -> String {
    let quotas = house.quotas();
    let snapshot = house.snapshot();
    let accounts = snapshot.settings.accounts.iter().map(|account| {
        let used = quotas.used(&account.name);
        let used = serde_json::json!({"hour": used.hour, "day": used.day});
        (account.name.clone(), used)
    });
    serde_json::Value::Object(accounts.collect()).to_string()
}

async fn send(
    house: &House,
    user: Option<&str>,
    from: &str,
    to: &[String],
    octets: Vec<u8>,
) -> Reply {
    let snapshot = house.snapshot();
    let account = match account(&snapshot.settings.accounts, user) {
        Ok(account) => account,
        Err(text) => return Reply::new(550, format!("5.7.1 {text}")),
    };
    let sender = match ReversePath::parse(from) {
        Ok(path) => path,
        Err(why) => return Reply::new(501, format!("5.1.7 sender: {why}")),
    };
    let most = snapshot.rfrelay.maxrcpt;
    if to.len() > most {
        return Reply::new(
            452,
            format!("4.5.3 too many recipients: {}, at most {most}", to.len()),
        );
    }
    let mut recipients = Vec::new();
    let mut booking = house.quotas().begin(&account);
    for address in to {
        let path = match ForwardPath::parse(address, &snapshot.hostname) {
            Ok(path) => path,
            Err(why) => return Reply::new(501, format!("5.1.3 recipient {address:?}: {why}")),
        };
        let named = match &path {
            ForwardPath::Mailbox(mailbox) => Named::Mailbox(mailbox),
            ForwardPath::Impossible { text, .. } => Named::Impossible(text),
        };
        let judged = judge_recipient(Some(&account), named, &*house.lists());
        if let Err(refusal) = judged.and_then(|()| booking.book(&account)) {
            return refusal.reply(snapshot.rfrelay.permcode);
        }
        if let ForwardPath::Mailbox(mailbox) = path {
            recipients.push(Recipient {
                mailbox,
                notify: None,
                orcpt: None,
            });
        }
    }
    let eight_bit = !octets.is_ascii();
    let smtputf8 = !sender.as_str().is_ascii() || recipients.iter().any(|r| !r.mailbox.is_ascii());
    let mut decoder = Decoder::without_dots(BareLfPolicy::Reject);
    let mut content = Vec::with_capacity(octets.len());
    decoder.decode(&octets, &mut content, u64::MAX);
    let bare = decoder.has_bare() || decoder.has_nul();
    let letter = Letter {
        client: Client {
            login: account.login.clone().or_else(|| Some(account.name.clone())),
            account: Some(account),
            peer: ([127, 0, 0, 1], 0).into(),
            helo: "localhost".into(),
            tls: false,
            session_id: "control".into(),
        },
        snapshot,
        sender: Sender {
            path: sender,
            ret: None,
            envid: None,
            eight_bit,
            smtputf8,
            requiretls: false,
        },
        recipients,
        content: Content::in_memory(content),
        bare,
        passed_bare: false,
        extended: true,
        received: Instant::now(),
        prdr: false,
    };
    match house
        .reception()
        .receive(letter, Box::pin(std::future::pending()))
        .await
    {
        Ok(answer) => {
            booking.spend();
            answer.reply
        }
        Err(reply) => reply,
    }
}

/// The account named, or the only one there is.
fn account(accounts: &[Arc<Account>], user: Option<&str>) -> Result<Arc<Account>, String> {
    match (user, accounts) {
        (Some(user), _) => {
            let is = |account: &&Arc<Account>| {
                let login = account
                    .login
                    .as_ref()
                    .is_some_and(|login| login.eq_ignore_ascii_case(user));
                account.name.eq_ignore_ascii_case(user) || login
            };
            accounts
                .iter()
                .find(is)
                .cloned()
                .ok_or_else(|| format!("there is no account {user}"))
        }
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err("there is no account; make users/<name>.ini".to_owned()),
        (None, _) => Err("several accounts: name one with --user".to_owned()),
    }
}
