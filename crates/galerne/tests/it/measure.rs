//! What the server costs in memory, seen from another process: sessions that are idle, one large
//! message. The tests use it with small numbers, the example `long` with large ones.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use galerne_sim::sink::{Sink, SinkOptions};

/// Longest time for any step.
const PATIENCE: Duration = Duration::from_secs(120);
/// One line of the body of the large message.
const LINE: &[u8] =
    b"0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ012345\r\n";

/// A running server that clients on loopback may use, and that sends everything to `next`.
pub struct Measured {
    child: Child,
    smtp: SocketAddr,
    _root: tempfile::TempDir,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now.
    pub now: u64,
    /// The most that was resident.
    pub most: u64,
}

impl Measured {
    /// Starts `binary` and waits until it is ready.
    pub fn start(binary: &Path, sessions: usize, next: SocketAddr) -> io::Result<Measured> {
        let root = tempfile::tempdir()?;
        let smtp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let write = |name: &str, text: String| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(root.path()))?;
            fs::write(&path, text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        };
        write(
            "galerne.ini",
            format!(
                "[IP]\n127.0.0.1 = mta.test.example\n[rfrelay]\nlisten = {smtp}/plain\n\
                 threadnb = {sessions}\nmaxsize = 1G\n[relay]\ntimeout = 300\n"
            ),
        )?;
        write(
            "users/shop.ini",
            "[account]\nsmtpip = 127.0.0.0/8\nsmtpssl = 0\nauthorizedroute = @next\n[routing]\nroute = @next\n".to_owned(),
        )?;
        write(
            "hosts/@next.ini",
            format!("[dns]\nmx = {}\nport = {}\n", next.ip(), next.port()),
        )?;
        let mut command = Command::new(binary);
        command.arg("--root").arg(root.path()).arg("run");
        command
            .env_remove("GALERNE_ROOT")
            .env_remove("LISTEN_FDS")
            .env("GALERNE_LOG", "warn");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line == "galerne ready");
        let measured = Measured {
            child,
            smtp,
            _root: root,
        };
        // Whatever it says later must not fill a pipe that nobody reads.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        if ready {
            Ok(measured)
        } else {
            Err(io::Error::other("the server did not become ready"))
        }
    }

    /// What it uses.
    pub fn memory(&self) -> io::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
                .ok_or_else(|| io::Error::other(format!("no {key} in /proc")))
        };
        Ok(Memory {
            now: value("VmRSS:")?,
            most: value("VmHWM:")?,
        })
    }

    /// A session that has said EHLO.
    pub fn session(&self) -> io::Result<Session> {
        let stream = TcpStream::connect(self.smtp)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut session = Session { stream };
        session.expect("220")?;
        session.command("EHLO client.example", "250")?;
        Ok(session)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One session of a client, without a buffer of its own.
pub struct Session {
    stream: TcpStream,
}

impl Session {
    /// Sends a line and reads its reply.
    pub fn command(&mut self, line: &str, code: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes())?;
        self.expect(code)
    }

    /// Reads a whole reply.
    fn expect(&mut self, code: &str) -> io::Result<()> {
        let mut reply = Vec::new();
        let mut octets = [0; 1024];
        loop {
            let length = self.stream.read(&mut octets)?;
            reply.extend_from_slice(&octets[..length]);
            let text = String::from_utf8_lossy(&reply);
            let last = text.lines().last().unwrap_or_default();
            let whole = text.ends_with("\r\n") && last.as_bytes().get(3) == Some(&b' ');
            if !whole && length > 0 {
                continue;
            }
            if whole && last.starts_with(code) {
                return Ok(());
            }
            return Err(io::Error::other(format!("expected {code}, got {text:?}")));
        }
    }
}

/// Opens so many idle sessions and gives the memory before and with them.
pub fn idle_sessions(binary: &Path, sessions: usize) -> io::Result<(Memory, Memory)> {
    let server = Measured::start(binary, sessions + 10, (Ipv4Addr::LOCALHOST, 9).into())?;
    let before = server.memory()?;
    let mut open = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        open.push(server.session()?);
    }
    let with = server.memory()?;
    // They are all served: the first and the last still get an answer.
    if let [first, .., last] = open.as_mut_slice() {
        first.command("NOOP", "250")?;
        last.command("NOOP", "250")?;
    }
    Ok((before, with))
}

/// What one large message cost.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    /// When the server was idle.
    pub before: Memory,
    /// When the message was relayed.
    pub after: Memory,
    /// Octets of the message, as the destination counted them.
    pub octets: u64,
    pub elapsed: Duration,
}

/// Relays one message of about so many octets to a destination in this process.
pub fn large_message(binary: &Path, octets: usize) -> io::Result<Large> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let options = SinkOptions {
        keep_content: false,
        max_size: 2 << 30,
        ..SinkOptions::default()
    };
    let sink = runtime.block_on(Sink::start((Ipv4Addr::LOCALHOST, 0).into(), options))?;
    let server = Measured::start(binary, 10, sink.address())?;
    let mut session = server.session()?;
    session.command("MAIL FROM:<orders@example.com>", "250")?;
    session.command("RCPT TO:<anna@example.org>", "250")?;
    let before = server.memory()?;
    let began = Instant::now();
    session.command("DATA", "354")?;
    let header = b"From: <orders@example.com>\r\nTo: <anna@example.org>\r\nSubject: large\r\n\r\n";
    session.stream.write_all(header)?;
    let block = LINE.repeat(1024);
    let lines = octets / LINE.len();
    for _ in 0..lines / 1024 {
        session.stream.write_all(&block)?;
    }
    session.stream.write_all(&LINE.repeat(lines % 1024))?;
    session.command(".", "250")?;
    let elapsed = began.elapsed();
    let size = sink.messages().first().map_or(0, |message| message.size);
    if size != (header.len() + lines * LINE.len()) as u64 {
        return Err(io::Error::other(format!(
            "the destination got {size} octets"
        )));
    }
    Ok(Large {
        before,
        after: server.memory()?,
        octets: size,
        elapsed,
    })
}
