//! Started as root: ports are bound first, then the program becomes somebody else (CONF-95).
//! Needs root and Python, which hands over sockets as systemd does.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use galerne_sim::sink::Sink;

use crate::postfix::{tool, user};
use crate::process::{Output, Server, Tree, finish, program};

/// Gives descriptor 3, listening at `argv[1]`, to the program that the rest names.
const HAND_OVER: &str = r#"
import os, socket, sys
host, port = sys.argv[1].rsplit(":", 1)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((host, int(port)))
s.listen(128)
if s.fileno() != 3:
    os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
print("socket:[%d]" % os.fstat(3).st_ino, flush=True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "1"
os.execv(sys.argv[2], sys.argv[2:])
"#;

fn is_root() {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root,
        "CONF-95 is about a program started as root: run the tests as root"
    );
}

/// Everything below the root belongs to this user.
fn give(tree: &Tree, uid: u32) {
    let status = Command::new("chown")
        .arg("-R")
        .arg(uid.to_string())
        .arg(tree.root())
        .status();
    assert!(status.unwrap().success());
}

/// A privileged port that is free at an address.
fn privileged(tree: &Tree) -> SocketAddr {
    let free = (600..1000).map(|port| SocketAddr::new(tree.ip(0), port));
    let mut free = free.filter(|place| std::net::TcpListener::bind(place).is_ok());
    free.next().expect("a free port below 1024")
}

fn status(server: &Server, key: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conf_95_it_binds_a_low_port_as_root_and_then_becomes_runas() {
    is_root();
    let tree = Tree::new("");
    let sink = Sink::bind(tree.place(2)).await.unwrap();
    tree.route_to(sink.address(), "");
    let low = privileged(&tree);
    tree.append(
        "galerne.ini",
        &format!("[rfrelay]\nlisten = {low}\n[galerne]\nrunas = nobody\n"),
    );
    let nobody = user("nobody");
    give(&tree, nobody);
    let mut server = tree.run();
    let uids = vec![nobody.to_string(); 4];
    assert_eq!(
        status(&server, "Uid:"),
        uids,
        "real, effective, saved and file system"
    );
    assert_eq!(status(&server, "CapEff:"), ["0000000000000000"]);
    assert_eq!(
        status(&server, "Groups:").len(),
        1,
        "root's groups are gone"
    );
    // Every thread, not only the first.
    for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(
            text.contains(&format!("Uid:\t{}", uids.join("\t"))),
            "{text}"
        );
    }
    let socket = fs::metadata(tree.path("system/control.sock")).unwrap();
    assert_eq!(
        (socket.uid(), socket.permissions().mode() & 0o777),
        (nobody, 0o600)
    );
    // It works, writes and reloads as that user.
    let letter = tree.path("letter.eml");
    tree.write("letter.eml", crate::process::MESSAGE);
    let send = [
        "send",
        "--from",
        "a@example.com",
        "--to",
        "anna@example.org",
        letter.to_str().unwrap(),
    ];
    let sent = finish(tree.galerne(send), "");
    assert_eq!(
        sent.code,
        Some(0),
        "root may use the control socket: {sent:?}"
    );
    assert_eq!(
        fs::metadata(tree.path("logs/rfrelay.csv")).unwrap().uid(),
        nobody
    );
    assert!(server.reload());
    assert!(!server.has_ended());
    assert!(std::net::TcpStream::connect(low).is_ok());
    assert_eq!(server.stop().code, Some(0));
}

fn refused(tree: &Tree) -> Output {
    let output = tree.command("run");
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(!output.stdout.contains("galerne ready"), "{output:?}");
    output
}

#[test]
fn conf_95_it_never_stays_root_when_it_cannot_become_runas() {
    is_root();
    let tree = Tree::new("[galerne]\nrunas = no-such-user\n");
    let output = refused(&tree);
    assert!(
        output
            .stderr
            .contains("galerne.ini:6: error: [galerne] runas: there is no user no-such-user"),
        "{output:?}"
    );
    let check = tree.command("check");
    assert_eq!(check.code, Some(1), "{check:?}");

    // A tree that the user cannot read or write: said, with what to do.
    let tree = Tree::new("[galerne]\nrunas = nobody\n");
    let output = refused(&tree);
    assert!(
        output.stderr.contains("[galerne] runas = nobody: "),
        "{output:?}"
    );
    assert!(
        output
            .stderr
            .contains(&format!("chown -R nobody {}", tree.root().display())),
        "{output:?}"
    );
    give(&tree, user("nobody"));
    assert_eq!(tree.run().stop().code, Some(0));
    chown(tree.path("system"), Some(0), Some(0)).unwrap();
    fs::set_permissions(tree.path("system"), fs::Permissions::from_mode(0o700)).unwrap();
    let output = refused(&tree);
    assert!(output.stderr.contains("chown -R nobody "), "{output:?}");
}

#[test]
fn conf_95_a_low_port_without_root_says_what_to_do() {
    is_root();
    // Python gives up root and then becomes the program.
    let tree = Tree::new("");
    let low = privileged(&tree);
    tree.append("galerne.ini", &format!("[rfrelay]\nlisten = {low}\n"));
    let nobody = user("nobody");
    give(&tree, nobody);
    let script = "import os, sys\nos.setgroups([])\nos.setgid(int(sys.argv[1]))\nos.setuid(int(sys.argv[1]))\nos.execv(sys.argv[2], sys.argv[2:])";
    let mut command = tool("python3");
    // A place that everybody may read: the build directory may be root's alone.
    let program = tree.path("galerne-copy");
    fs::copy(crate::process::program(), &program).unwrap();
    command
        .args(["-c", script, &nobody.to_string()])
        .arg(&program)
        .arg("--root")
        .arg(tree.root())
        .arg("run");
    let output = finish(command, "");
    if output.stdout.contains("galerne ready") {
        panic!("this system lets everybody use low ports: {output:?}");
    }
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stderr.contains(&format!("cannot listen on {low}: ")),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("runas") && output.stderr.contains("LISTEN_FDS"),
        "{output:?}"
    );
}

#[test]
fn conf_95_sockets_may_be_handed_over() {
    let tree = Tree::new("");
    let python = |place: SocketAddr| {
        let mut command = tool("python3");
        command.args(["-c", HAND_OVER, &place.to_string()]);
        command
            .arg(program())
            .arg("--root")
            .arg(tree.root())
            .arg("run");
        command
    };
    let server = Server::ready(python(tree.smtp));
    let came = server.stdout().lines().next().unwrap().to_owned();
    assert!(came.starts_with("socket:["), "{came}");
    assert!(
        has_open(&server, &came),
        "it listens on the socket that came"
    );
    assert!(std::net::TcpStream::connect(tree.smtp).is_ok());
    assert!(
        std::net::TcpStream::connect(tree.smtps).is_ok(),
        "the other one it opened itself"
    );
    assert_eq!(server.stop().code, Some(0));
    // One that the configuration does not know is closed and said.
    let stranger = tree.place(2);
    let server = Server::ready(python(stranger));
    server.says(&format!("the socket {stranger} was handed over, but "));
    assert!(std::net::TcpStream::connect(stranger).is_err());
    assert_eq!(server.stop().code, Some(0));
}

/// Whether the process has this socket open.
fn has_open(server: &Server, socket: &str) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let links = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.into_iter().any(|link| link.to_str() == Some(socket))
}
