//! What sessions and large messages cost, and what happens when descriptors run out, with the real
//! program in a process of its own (T-20). `scripts/long` does the same with large numbers.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::TcpStream;

use crate::measure::{Large, idle_sessions, large_message};
use crate::process::{Server, Tree, until};

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_galerne"))
}

#[test]
fn an_idle_session_costs_less_than_20_kib() {
    let sessions = 500;
    let (before, with) = idle_sessions(binary(), sessions).unwrap();
    let each = (with.now - before.now) / sessions as u64;
    assert!(each < 20, "{each} KiB for a session: {before:?}, {with:?}");
}

#[test]
fn t_23_a_large_message_is_not_held_in_memory() {
    // What a message of any size needs: pieces on their way in and out, and what the allocator
    // keeps of them. The rest would grow with the message.
    let small = large_message(binary(), 8_000_000).unwrap();
    let large = large_message(binary(), 40_000_000).unwrap();
    assert!(large.octets > 39_900_000);
    let cost = |message: &Large| message.after.most.saturating_sub(message.before.now);
    let grown = cost(&large).saturating_sub(cost(&small));
    assert!(grown < 8 << 10, "{grown} KiB more: {small:?}, {large:?}");
    assert!(large.elapsed < Duration::from_secs(60), "{large:?}");
}

#[test]
fn t_20_the_server_takes_all_descriptors_that_it_may_have() {
    let tree = Tree::new("");
    let mut limited = std::process::Command::new("sh");
    let galerne = tree.galerne(["run"]);
    limited.args(["-c", "ulimit -Sn 100; exec \"$0\" \"$@\""]);
    limited.arg(galerne.get_program()).args(galerne.get_args());
    let server = Server::ready(limited);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_ne!(numbers[0], "100");
    assert_eq!(numbers[0], numbers[1], "{files}");
}

/// Processor time that a process has used, in hundredths of a second.
fn ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<u64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap())
        .collect();
    fields.iter().sum()
}

#[tokio::test]
async fn t_20_out_of_descriptors_the_server_waits_and_serves_again_afterwards() {
    let tree = Tree::new("");
    tree.account("shop", "smtpip = 127.0.0.0/8\n");
    let server = tree.run();
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count() as u64
    };
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let most = descriptors() + 6;
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(TcpStream::connect(tree.smtp).await.unwrap());
    }
    let before = ticks(&server);
    let failures = || server.stderr().matches("cannot accept connections").count();
    assert!(
        until(|| (failures() >= 4).then_some(())).is_some(),
        "{}",
        server.stderr()
    );
    // Four failures with their pauses take 350 ms; a loop without them makes thousands.
    assert!(failures() < 10, "{}", failures());
    assert!(
        ticks(&server) - before < 20,
        "{} ticks",
        ticks(&server) - before
    );
    drop(open);
    let served = until(|| {
        let mut stream = std::net::TcpStream::connect(tree.smtp).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut octets = [0; 3];
        std::io::Read::read_exact(&mut stream, &mut octets).ok()?;
        (octets == *b"220").then_some(())
    });
    assert!(served.is_some(), "it does not recover");
}
