//! TLS towards servers that others wrote: OpenSSL in odd configurations, Postfix (RELAY-54,
//! RELAY-55, T-14, T-15).

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use galerne_sim::nameserver::NameServer;
use galerne_sim::tls::{TestCa, TestCertificate};

use crate::postfix::{Postfix, tool};
use crate::process::{MESSAGE, Tree, finish, until};

/// An SMTP server whose TLS is `openssl s_server`: what comes after STARTTLS is passed to it, and
/// what it decrypts is answered.
struct OpenSsl {
    child: Child,
    /// Where it takes mail.
    address: SocketAddr,
    /// `clear` or `tls` for each message taken.
    taken: Arc<Mutex<Vec<&'static str>>>,
}

impl OpenSsl {
    fn start(tree: &Tree, certificate: &TestCertificate, options: &[&str]) -> OpenSsl {
        let (chain, key) = (&certificate.chain_pem, &certificate.key_pem);
        OpenSsl::start_with(tree, (chain, key), options, "")
    }

    /// `before_354`: what is typed at its terminal when DATA comes.
    fn start_with(
        tree: &Tree,
        (chain_pem, key_pem): (&str, &str),
        options: &[&str],
        before_354: &'static str,
    ) -> OpenSsl {
        let inside = tree.place(4);
        let (chain, key) = (tree.path("server.pem"), tree.path("server.key"));
        fs::write(&chain, chain_pem).unwrap();
        fs::write(&key, key_pem).unwrap();
        let mut command = tool("openssl");
        command.args(["s_server", "-accept", &inside.to_string()]);
        if before_354.is_empty() {
            // It obeys no commands then.
            command.arg("-quiet");
        }
        command
            .arg("-cert")
            .arg(&chain)
            .arg("-cert_chain")
            .arg(&chain);
        command.arg("-key").arg(&key).args(options);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.stderr(Stdio::null()).spawn().unwrap();
        let taken = Arc::<Mutex<Vec<&'static str>>>::default();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let kept = taken.clone();
        thread::spawn(move || {
            let how = ("tls", before_354);
            converse(stdout, stdin, "250 openssl\r\n", how, &kept)
        });
        let listener = TcpListener::bind((tree.ip(2), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let kept = taken.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || front(stream, inside, &kept));
            }
        });
        // It listens when it can be connected to; that connection is its first, and fails.
        assert!(until(|| TcpStream::connect(inside).ok()).is_some());
        OpenSsl {
            child,
            address,
            taken,
        }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The clear part of a session.
fn front(mut stream: TcpStream, inside: SocketAddr, taken: &Mutex<Vec<&'static str>>) {
    let _ = stream.write_all(b"220 mx.example.org\r\n");
    let reader = stream.try_clone().unwrap();
    let offer = "250-mx.example.org\r\n250 STARTTLS\r\n";
    if converse(reader, &stream, offer, ("clear", ""), taken) {
        let Ok(other) = TcpStream::connect(inside) else {
            return;
        };
        let (mut from, mut to) = (stream.try_clone().unwrap(), other.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        let (mut from, mut to) = (other, stream);
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    }
}

/// Takes mail; true after STARTTLS.
fn converse(
    reader: impl Read,
    mut writer: impl Write,
    offer: &str,
    (how, before_354): (&'static str, &str),
    taken: &Mutex<Vec<&'static str>>,
) -> bool {
    let mut reader = BufReader::with_capacity(1, reader);
    let (mut line, mut content) = (Vec::new(), false);
    while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        let reply = match (content, text.get(..4).unwrap_or(&text)) {
            (true, ".") => {
                content = false;
                taken.lock().unwrap().push(how);
                "250 2.0.0 taken\r\n"
            }
            (true, _) => continue,
            (_, "EHLO") => offer,
            (_, "STAR") => "220 go ahead\r\n",
            (_, "DATA") => {
                if !before_354.is_empty() {
                    let _ = writer.write_all(before_354.as_bytes());
                    let _ = writer.flush();
                    thread::sleep(Duration::from_secs(1));
                }
                content = true;
                "354 go on\r\n"
            }
            (_, "QUIT") => "221 bye\r\n",
            (_, "MAIL" | "RCPT" | "RSET") => "250 ok\r\n",
            // What OpenSSL tells beside.
            _ => continue,
        };
        if writer
            .write_all(reply.as_bytes())
            .and_then(|()| writer.flush())
            .is_err()
        {
            return false;
        }
        if reply.starts_with("220") {
            return true;
        }
    }
    false
}

/// A server whose MX for example.org is at that address, and that trusts `ca`.
async fn by_mx(tree: &Tree, host: &str, address: SocketAddr, ca_pem: &str) -> NameServer {
    let zone = format!("example.org. MX 10 {host}.\n{host}. A {}\n", address.ip());
    let names = NameServer::start_on(tree.ip(3), &zone).await.unwrap();
    tree.write("ca.pem", ca_pem);
    tree.append(
        "galerne.ini",
        &format!(
            "[dns]\nresolver = {}\n[rfmta]\nmxport = {}\ncafile = ca.pem\nidle = 0\nmtasts = 0\n",
            names.address(),
            address.port()
        ),
    );
    names
}

async fn relay(tree: &Tree, ssl: &str) -> String {
    let mut client = tree.greeted().await;
    let directive =
        format!("X-SMTP-R-API: {{\"message\":{{\"maxhop\":1}},\"routing\":{{\"ssl\":{ssl}}}}}\r\n");
    let content = directive + MESSAGE;
    let to = ["anna@example.org"];
    let reply = client.transaction("orders@example.com", &to, content.as_bytes());
    reply.await.unwrap().text()
}

/// A certificate by name.
fn certificate(ca: &TestCa, kind: &str) -> TestCertificate {
    match kind {
        "good" => ca.certificate(&["mx.example.org"]),
        "expired" => ca.expired(&["mx.example.org"]),
        "wrong name" => ca.certificate(&["mx.example.net"]),
        "stranger" => TestCa::new().certificate(&["mx.example.org"]),
        _ => unreachable!(),
    }
}

/// The reply where the server refuses us behind the handshake.
const LATE: &str = "451 9.3.2 X-SMTP-R-API connection to mx.example.org lost at EHLO";

/// One server of OpenSSL: how opportunistic mail reaches it, and what `required` gives.
async fn against_openssl(kind: &str, options: &[&str], opportunistic: &str, required: &str) {
    let tree = Tree::new("");
    let ca = TestCa::new();
    let remote = OpenSsl::start(&tree, &certificate(&ca, kind), options);
    let _names = by_mx(&tree, "mx.example.org", remote.address, &ca.pem()).await;
    let server = tree.run();
    let context = format!("{kind} {options:?}");
    let reply = relay(&tree, "\"required\"").await;
    assert!(reply.contains(required), "{context}: {reply}");
    let reply = relay(&tree, "true").await;
    assert_eq!(reply, "250 2.0.0 taken", "{context}");
    let taken = remote.taken.lock().unwrap().clone();
    let expected = if required.starts_with("250") {
        vec!["tls", opportunistic]
    } else {
        vec![opportunistic]
    };
    assert_eq!(taken, expected, "{context}");
    assert_eq!(server.stop().code, Some(0));
    let log = tree.read("logs/rfmta.csv");
    if required != LATE {
        let verified = required.starts_with("250");
        assert_eq!(log.contains(" verified by ca"), verified, "{log}");
    }
    assert_eq!(log.contains(" unverified"), opportunistic == "tls", "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_54_relay_55_t_14_openssl_of_one_version_is_reached_by_tls() {
    against_openssl("good", &["-tls1_2"], "tls", "250 2.0.0 taken").await;
    against_openssl(
        "good",
        &["-tls1_3", "-num_tickets", "0"],
        "tls",
        "250 2.0.0 taken",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_55_t_14_what_a_certificate_lacks_matters_to_required_alone() {
    against_openssl("expired", &[], "tls", "certificate expired").await;
    against_openssl("wrong name", &[], "tls", "not valid for name").await;
    against_openssl("stranger", &[], "tls", "invalid peer certificate: ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_55_t_14_a_certificate_that_signs_itself_is_good_for_opportunistic_mail_alone() {
    let tree = Tree::new("");
    let mut command = tool("openssl");
    command.current_dir(tree.path("."));
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    command.args(["-nodes", "-days", "9", "-subj", "/CN=mx.example.org"]);
    command.args(["-addext", "subjectAltName=DNS:mx.example.org"]);
    command.args(["-keyout", "self.key", "-out", "self.pem"]);
    assert_eq!(finish(command, "").code, Some(0));
    let pair = (tree.read("self.pem"), tree.read("self.key"));
    let remote = OpenSsl::start_with(&tree, (&pair.0, &pair.1), &[], "");
    let ca = TestCa::new();
    let _names = by_mx(&tree, "mx.example.org", remote.address, &ca.pem()).await;
    let server = tree.run();
    let reply = relay(&tree, "\"required\"").await;
    assert!(
        reply.starts_with("451 9.3.2 ") && reply.contains("invalid peer certificate: "),
        "{reply}"
    );
    assert_eq!(relay(&tree, "true").await, "250 2.0.0 taken");
    assert_eq!(*remote.taken.lock().unwrap(), ["tls"]);
    assert_eq!(server.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_15_a_server_that_wants_to_renegotiate_is_told_no_and_costs_no_time() {
    let tree = Tree::new("");
    let ca = TestCa::new();
    let good = certificate(&ca, "good");
    let pair = (good.chain_pem.as_str(), good.key_pem.as_str());
    let remote = OpenSsl::start_with(&tree, pair, &["-tls1_2"], "r\n");
    let _names = by_mx(&tree, "mx.example.org", remote.address, &ca.pem()).await;
    let server = tree.run();
    let began = Instant::now();
    let reply = relay(&tree, "\"required\"").await;
    assert!(began.elapsed() < Duration::from_secs(8), "{reply}");
    assert!(reply.starts_with("451 9.3."), "{reply}");
    assert!(remote.taken.lock().unwrap().is_empty());
    assert_eq!(server.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_55_t_14_old_tls_and_weak_ciphers_fall_back_to_clear_or_fail() {
    let failed = "451 9.3.2 X-SMTP-R-API no TLS session with mx.example.org: ";
    against_openssl(
        "good",
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        "clear",
        failed,
    )
    .await;
    let cbc = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"];
    against_openssl("good", &cbc, "clear", failed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_55_t_14_a_server_that_wants_our_certificate_gets_mail_in_clear_or_none() {
    let options = ["-tls1_2", "-Verify", "1"];
    let failed = "451 9.3.2 X-SMTP-R-API no TLS session with mx.example.org: ";
    against_openssl("good", &options, "clear", failed).await;
    // In TLS 1.3 it says so only behind the handshake.
    let options = ["-tls1_3", "-Verify", "1"];
    against_openssl("good", &options, "clear", LATE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_55_t_14_postfix_is_verified_by_cafile_and_refused_without() {
    for trusted in [true, false] {
        let tree = Tree::new("");
        let postfix = Postfix::start(tree.place(2), tree.ip(4), None);
        let pem = match trusted {
            true => postfix.certificates(),
            false => TestCa::new().pem(),
        };
        let _names = by_mx(&tree, "remote.test.example", postfix.address, &pem).await;
        let server = tree.run();
        let reply = relay(&tree, "\"required\"").await;
        assert_eq!(
            reply.starts_with("250 2.0.0 Ok: queued as "),
            trusted,
            "{reply}"
        );
        let reply = relay(&tree, "true").await;
        assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
        postfix.logged("TLS connection established from");
        assert_eq!(server.stop().code, Some(0));
        let log = tree.read("logs/rfmta.csv");
        assert_eq!(log.contains(" verified by ca"), trusted, "{log}");
    }
}
