//! A real Postfix on loopback: its own configuration, queue, log and mailboxes in a temporary
//! directory, on a port of its own. Needs root, as Postfix does.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use galerne_sim::tls::TestCa;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Server, until};

/// Debian's packages for everything that the tests with real peers call.
const PACKAGES: &str =
    "postfix swaks libnet-ssleay-perl curl python3 openssl bind9 bind9-utils opendkim";

/// A command of the system, or a failure that says what to install.
///
/// # Panics
/// When it is missing.
pub fn tool(name: &str) -> Command {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let found = path
        .split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file());
    let Some(file) = found else {
        panic!(
            "{name} is missing, and this test needs it: run scripts/test as root, or apt-get install {PACKAGES}"
        )
    };
    let mut command = Command::new(file);
    command.env("PATH", path);
    command
}

/// A running Postfix.
pub struct Postfix {
    home: tempfile::TempDir,
    /// Where it takes mail.
    pub address: SocketAddr,
    process: Option<Server>,
}

impl Postfix {
    /// Starts one that has the mailbox anna@example.org and sends all other mail to `relayhost`.
    ///
    /// # Panics
    /// When it is not installed, we are not root, or it does not start.
    pub fn start(address: SocketAddr, outgoing: IpAddr, relayhost: Option<SocketAddr>) -> Postfix {
        assert!(
            rustix::process::geteuid().is_root(),
            "Postfix starts only as root: run the tests as root"
        );
        let home = tempfile::tempdir().unwrap();
        let at = home.path();
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["etc", "queue", "data", "mail"] {
            fs::create_dir(at.join(folder)).unwrap();
        }
        let user = user("postfix");
        chown(at.join("data"), Some(user), None).unwrap();
        chown(at.join("mail"), Some(user), None).unwrap();
        let certificate = TestCa::new().certificate(&["remote.test.example"]);
        fs::write(
            at.join("etc/server.pem"),
            certificate.key_pem + &certificate.chain_pem,
        )
        .unwrap();
        fs::write(
            at.join("etc/main.cf"),
            main_cf(at, outgoing, relayhost, user),
        )
        .unwrap();
        fs::write(at.join("etc/master.cf"), master_cf(address)).unwrap();
        let mut command = tool("postfix");
        command.arg("-c").arg(at.join("etc")).arg("start-fg");
        let postfix = Postfix {
            process: Some(Server::start(command)),
            home,
            address,
        };
        let up = until(|| std::net::TcpStream::connect(address).ok());
        assert!(up.is_some(), "Postfix does not start:\n{}", postfix.log());
        postfix
    }

    /// Its certificate and that of its authority, PEM.
    pub fn certificates(&self) -> String {
        let file = fs::read_to_string(self.home.path().join("etc/server.pem")).unwrap();
        let begin = file.find("-----BEGIN CERTIFICATE-----").unwrap();
        file[begin..].to_owned()
    }

    /// Adds to its configuration, and waits until it is in force.
    pub fn configure(&self, lines: &str) {
        let folder = self.home.path().join("etc");
        let main = folder.join("main.cf");
        let before = fs::read_to_string(&main).unwrap();
        fs::write(&main, format!("{before}\n{lines}")).unwrap();
        let reloaded = tool("postfix").arg("-c").arg(folder).arg("reload").output();
        assert!(reloaded.is_ok_and(|output| output.status.success()));
        self.logged("reload -- version");
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log.txt")).unwrap_or_default()
    }

    /// Waits until its log has some text, and gives the line.
    pub fn logged(&self, text: &str) -> String {
        let line = || {
            self.log()
                .lines()
                .find(|l| l.contains(text))
                .map(str::to_owned)
        };
        until(line).unwrap_or_else(|| panic!("no {text:?} in the log of Postfix:\n{}", self.log()))
    }

    /// Waits for a delivered message that holds some text, and gives all of it.
    pub fn delivered(&self, text: &str) -> String {
        let found = until(|| self.messages().into_iter().find(|m| m.contains(text)));
        found.unwrap_or_else(|| {
            panic!(
                "no message with {text:?}; the log of Postfix:\n{}",
                self.log()
            )
        })
    }

    /// The messages in the mailbox.
    pub fn messages(&self) -> Vec<String> {
        let files = fs::read_dir(self.home.path().join("mail/anna/new"))
            .into_iter()
            .flatten()
            .flatten();
        let text = |path: PathBuf| {
            String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
        };
        files.map(|file| text(file.path())).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let file = self.home.path().join("queue/pid/master.pid");
        let pid = fs::read_to_string(file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if let Some(process) = self.process.take() {
            let _ = process.end();
        }
    }
}

/// The number of a user.
pub fn user(name: &str) -> u32 {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    let line =
        line.unwrap_or_else(|| panic!("there is no user {name}; apt-get install {PACKAGES}"));
    line.split(':').nth(2).unwrap().parse().unwrap()
}

fn main_cf(at: &Path, outgoing: IpAddr, relayhost: Option<SocketAddr>, user: u32) -> String {
    let at = at.display();
    let relayhost = relayhost
        .map(|to| format!("[{}]:{}", to.ip(), to.port()))
        .unwrap_or_default();
    format!(
        "compatibility_level = 3.6
queue_directory = {at}/queue
data_directory = {at}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
maillog_file = {at}/log.txt
maillog_file_prefixes = {at}
myhostname = remote.test.example
mydestination =
mynetworks = 127.0.0.0/8
inet_protocols = ipv4
smtp_bind_address = {outgoing}
relayhost = {relayhost}
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_maps = inline:{{ {{anna@example.org = anna/}} }}
virtual_mailbox_base = {at}/mail
virtual_uid_maps = static:{user}
virtual_gid_maps = static:{user}
virtual_minimum_uid = 100
smtpd_tls_chain_files = {at}/etc/server.pem
smtpd_tls_security_level = may
smtp_tls_security_level = encrypt
smtpd_tls_loglevel = 1
smtp_tls_loglevel = 1
"
    )
}

fn master_cf(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "{ip}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"
    )
}
