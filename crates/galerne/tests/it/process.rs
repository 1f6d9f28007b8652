//! The real program in its own process, on real sockets: a root in a temporary directory, free
//! ports on loopback, signals, and everything that it says.
//!
//! ```ignore
//! let tree = Tree::new("[relay]\ntimeout = 5\n");
//! let server = tree.run();                      // waits for `galerne ready`
//! let output = server.stop();                   // SIGTERM, waits for the end
//! assert_eq!(output.code, Some(0));
//! ```

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use galerne_sim::client::TestClient;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

/// Longer than anything in these tests takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that gives no notice.
const LOOK: Duration = Duration::from_millis(5);
/// The account of [`Tree::new`].
pub const LOGIN: &str = "shop@example.com";
pub const PASSWORD: &str = "correct-horse-7";
/// An honest small message.
pub const MESSAGE: &str =
    "From: <orders@example.com>\r\nTo: <anna@example.org>\r\nSubject: Your order\r\n\r\nHello\r\n";

/// A root directory, and a loopback address that no other test uses.
pub struct Tree {
    root: tempfile::TempDir,
    address: Ipv4Addr,
    /// Where the server takes mail, in clear with STARTTLS.
    pub smtp: SocketAddr,
    /// The same with TLS from the first octet.
    pub smtps: SocketAddr,
}

impl Tree {
    /// The layer under the disk and the clock (crates/faultfs), built in a moment.
    pub fn faultfs(&self) -> PathBuf {
        let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../faultfs/src/lib.rs");
        let built = self.path("libfaultfs.so");
        let status = Command::new(cargo.with_file_name("rustc"))
            .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-o"])
            .args([&built, &source])
            .status()
            .unwrap();
        assert!(status.success());
        built
    }

    /// A tree with two listeners, one outbound address and the account `shop`, which clients on
    /// loopback have without a password. `main` is added to the main file.
    pub fn new(main: &str) -> Tree {
        let tree = Tree::empty();
        let (ip, smtp, smtps) = (tree.ip(1), tree.smtp, tree.smtps);
        let text = format!(
            "[IP]\n{ip} = mta.test.example\n[rfrelay]\nlisten = {smtp}/plain {smtps}/tls\n{main}"
        );
        tree.write("galerne.ini", &text);
        // New addresses and senders are not limited.
        let open = "[ipflow#warmup]\nthreadmax = 0\n[sdflow#warmup]\nthreadmax = 0\n";
        tree.write("domains/.defflow.ini", open);
        tree.account("shop", "smtpip = 127.0.0.0/8\n");
        tree
    }

    /// A directory with nothing in it.
    pub fn empty() -> Tree {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        let number = u8::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % 24).unwrap();
        let [_, _, high, low] = process.to_be_bytes();
        let address = Ipv4Addr::new(127, 64 + high % 128, low, 1 + number * 10);
        Tree {
            root: tempfile::tempdir().unwrap(),
            address,
            smtp: free(address.into()),
            smtps: free(address.into()),
        }
    }

    /// The account `name`: login and password on every connection, and what is added.
    pub fn account(&self, name: &str, more: &str) {
        let text =
            format!("[account]\nsmtplogin = {LOGIN}\nsmtppassw = {PASSWORD}\nsmtpssl = 0\n{more}");
        self.write_secret(&format!("users/{name}.ini"), &text);
    }

    /// All mail of the account `shop` goes to this relay host.
    pub fn route_to(&self, remote: SocketAddr, more: &str) {
        let text = format!(
            "[dns]\nmx = {}\nport = {}\n{more}",
            remote.ip(),
            remote.port()
        );
        self.write_secret("hosts/@next.ini", &text);
        let route = "smtpip = 127.0.0.0/8\nauthorizedroute = @next\n[routing]\nroute = @next\n";
        self.account("shop", route);
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn write_secret(&self, file: &str, text: &str) {
        self.write(file, text);
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Adds to a file.
    pub fn append(&self, file: &str, text: &str) {
        let before = fs::read_to_string(self.path(file)).unwrap_or_default();
        self.write(file, &(before + text));
    }

    /// The text of a file; empty if there is none.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// Waits until a file holds some text, and gives all of it.
    pub fn wait_for(&self, file: &str, text: &str) -> String {
        let found = until(|| Some(self.read(file)).filter(|all| all.contains(text)));
        found.unwrap_or_else(|| panic!("no {text:?} in {file}:\n{}", self.read(file)))
    }

    /// An address of this tree alone, from 0 to 9; 0 is that of the listeners.
    pub fn ip(&self, number: u8) -> IpAddr {
        let [a, b, c, d] = self.address.octets();
        Ipv4Addr::new(a, b, c, d + number).into()
    }

    /// An address and a port that is free there.
    pub fn place(&self, number: u8) -> SocketAddr {
        free(self.ip(number))
    }

    /// `galerne --root ROOT …`, with nothing from the environment that would change it.
    pub fn galerne<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = galerne();
        command.arg("--root").arg(self.root()).args(arguments);
        command
    }

    /// Runs a command to its end; the words are separated by blanks.
    pub fn command(&self, line: &str) -> Output {
        finish(self.galerne(line.split_whitespace()), "")
    }

    /// Starts the server and waits until it is ready.
    pub fn run(&self) -> Server {
        self.run_with([])
    }

    pub fn run_with<'a>(&self, options: impl IntoIterator<Item = &'a str>) -> Server {
        Server::ready(self.galerne(std::iter::once("run").chain(options)))
    }

    /// A client connection in clear, greeting read.
    pub async fn client(&self) -> TestClient<TcpStream> {
        let stream = TcpStream::connect(self.smtp).await.unwrap();
        let mut client = TestClient::new(stream).patience(PATIENCE);
        let greeting = client.reply().await.unwrap();
        assert_eq!(greeting.code, 220, "{greeting}");
        client
    }

    /// A client that has said EHLO.
    pub async fn greeted(&self) -> TestClient<TcpStream> {
        let mut client = self.client().await;
        let ehlo = client.command("EHLO client.example").await.unwrap();
        assert_eq!(ehlo.code, 250, "{ehlo}");
        client
    }

    /// Relays one message to one recipient and gives the reply.
    pub async fn relay(&self, recipient: &str) -> String {
        let mut client = self.greeted().await;
        let message = MESSAGE.as_bytes();
        let reply = client
            .transaction("orders@example.com", &[recipient], message)
            .await;
        reply.unwrap().text()
    }
}

/// The executable under test: the one that `GALERNE_BIN` names, as scripts/test does with the release
/// build, else the one built with these tests.
pub fn program() -> PathBuf {
    let named = std::env::var_os("GALERNE_BIN").filter(|name| !name.is_empty());
    named.map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_galerne")),
        PathBuf::from,
    )
}

/// The program, without the variables that would change what it does.
pub fn galerne() -> Command {
    let mut command = Command::new(program());
    for name in [
        "GALERNE_ROOT",
        "GALERNE_LOG",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
    ] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// A port that is free at an address.
fn free(address: IpAddr) -> SocketAddr {
    TcpListener::bind((address, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Looks again and again until there is something, at most [`PATIENCE`] long.
pub fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Some(found) => return Some(found),
            None if Instant::now() > end => return None,
            None => std::thread::sleep(LOOK),
        }
    }
}

/// How a command ended and what it said.
pub struct Output {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, signal) = (self.code, self.signal);
        writeln!(f, "code {code:?}, signal {signal:?}")?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end with this text as its standard input.
pub fn finish(command: Command, input: &str) -> Output {
    let mut server = Server::start(command);
    let mut stdin = server.child.stdin.take().unwrap();
    let input = input.as_bytes().to_vec();
    // A command that does not read all of it is not at fault.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = server.end();
    writing.join().unwrap();
    output
}

/// A process that runs.
pub struct Server {
    child: Child,
    stdout: Page,
    stderr: Page,
}

impl Server {
    /// Starts a command; its standard input is open.
    pub fn start(mut command: Command) -> Server {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = Page::read(child.stdout.take().unwrap());
        let stderr = Page::read(child.stderr.take().unwrap());
        Server {
            child,
            stdout,
            stderr,
        }
    }

    /// Starts a server and waits for `galerne ready`.
    pub fn ready(command: Command) -> Server {
        let mut server = Server::start(command);
        let is_ready = |text: &str| text.lines().any(|line| line == "galerne ready");
        if !server.stdout.wait(is_ready, PATIENCE) {
            let _ = server.child.kill();
            panic!("the server did not become ready: {:?}", server.end());
        }
        server
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until standard error holds some text.
    pub fn says(&self, text: &str) {
        let said = self.stderr.wait(|all| all.contains(text), PATIENCE);
        assert!(said, "no {text:?} in:\n{}", self.stderr());
    }

    /// Waits until standard output holds some text.
    pub fn prints(&self, text: &str) {
        let printed = self.stdout.wait(|all| all.contains(text), PATIENCE);
        assert!(printed, "no {text:?} in:\n{}", self.stdout());
    }

    /// Types something.
    pub fn hears(&mut self, input: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// SIGHUP, and waits for the verdict: whether the new settings are in force.
    pub fn reload(&self) -> bool {
        let verdicts = |text: &str| {
            let good = text.matches("configuration reloaded").count();
            let bad = text.matches("configuration not reloaded").count();
            (good, bad)
        };
        let before = verdicts(&self.stderr());
        self.signal(Signal::HUP);
        assert!(
            self.stderr.wait(|text| verdicts(text) != before, PATIENCE),
            "{}",
            self.stderr()
        );
        verdicts(&self.stderr()).0 > before.0
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(self) -> Output {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end; after [`PATIENCE`] it is killed, which shows as its signal.
    pub fn end(mut self) -> Output {
        let status: Option<ExitStatus> = until(|| self.child.try_wait().unwrap());
        let status = status.unwrap_or_else(|| {
            let _ = self.child.kill();
            self.child.wait().unwrap()
        });
        Output {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- stdout\n{}--- stderr\n{}", self.stdout(), self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was written to one of the outputs so far.
struct Page {
    written: Arc<(Mutex<String>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Page {
    fn read(mut from: impl Read + Send + 'static) -> Page {
        let written = Arc::<(Mutex<String>, Condvar)>::default();
        let page = written.clone();
        let reader = std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut octets) {
                let text = String::from_utf8_lossy(&octets[..length]);
                page.0.lock().unwrap().push_str(&text);
                page.1.notify_all();
            }
        });
        Page {
            written,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        self.written.0.lock().unwrap().clone()
    }

    fn wait(&self, done: impl Fn(&str) -> bool, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut text = self.written.0.lock().unwrap();
        while !done(&text) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.reader.as_ref().is_none_or(JoinHandle::is_finished) {
                return done(&text);
            }
            text = self
                .written
                .1
                .wait_timeout(text, left.min(Duration::from_millis(100)))
                .unwrap()
                .0;
        }
        true
    }

    /// All of it, once the process has ended.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.text()
    }
}
