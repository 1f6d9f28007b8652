//! Messages whose content follows from their id, and what a queue must still have of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use galerne_core::content::{Content, Patch};
use galerne_core::queue::{
    Envelope, Filter, MessageNo, NewMessage, Progress, QueueStore, QueuedRecipient,
};
use galerne_store::SqliteQueue;
use galerne_store::queue::Options;

/// Whether there is time for all of it.
pub fn is_long() -> bool {
    std::env::var_os("GALERNE_LONG").is_some()
}

/// Numbers by chance, the same for the same seed (xorshift64*).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

pub fn options() -> Options {
    Options {
        warm: 256 * 1024,
        segment: 1024 * 1024,
        ..Options::default()
    }
}

pub fn open(root: &Path) -> SqliteQueue {
    SqliteQueue::open(&root.join("queue"), options()).unwrap()
}

/// The octets of the message with an id, which ends in `-` and their number.
pub fn octets(id: &str) -> Vec<u8> {
    let size = id.rsplit_once('-').unwrap().1.parse().unwrap();
    let seed = id.bytes().fold(7_u64, |seed, octet| {
        seed.wrapping_mul(31).wrapping_add(octet.into())
    });
    let mut chance = Chance::new(seed);
    let mut octets = Vec::with_capacity(size + 8);
    while octets.len() < size {
        octets.extend_from_slice(&chance.next().to_le_bytes());
    }
    octets.truncate(size);
    octets
}

pub fn message(id: &str) -> NewMessage {
    let recipient = QueuedRecipient {
        address: "a@remote.example".to_owned(),
        notify: None,
        orcpt: None,
    };
    let envelope = Envelope {
        id: id.to_owned(),
        reference: id.to_owned(),
        tags: Vec::new(),
        header_id: None,
        user: Some("account".to_owned()),
        login: None,
        peer: "192.0.2.1:40000".parse().unwrap(),
        helo: "client.example".to_owned(),
        tls: false,
        session_id: "s1".to_owned(),
        sender: "sender@client.example".to_owned(),
        ret: None,
        envid: None,
        eight_bit: true,
        smtputf8: false,
        requiretls: false,
        tls_not_required: false,
        recipients: vec![recipient],
        directive: None,
        header_from: None,
        received_at: 1_700_000_000_000,
        needs_chunking: false,
        is_dsn: false,
    };
    NewMessage {
        envelope: Arc::new(envelope),
        content: Content::in_memory(octets(id)),
        patch: Patch::default(),
        deliveries: vec![(0, Progress::default())],
    }
}

/// All octets of a content.
pub fn all(content: &Content) -> Vec<u8> {
    let mut octets = content.memory.to_vec();
    if let Some(spill) = &content.spill {
        let mut rest = vec![0; spill.len() as usize];
        let mut at = 0;
        while at < rest.len() {
            let read = spill.read_at(at as u64, &mut rest[at..]).unwrap();
            assert!(read > 0);
            at += read;
        }
        octets.extend(rest);
    }
    octets
}

/// What a child has said of its work.
#[derive(Debug, Default)]
pub struct Told {
    /// Taken over: number and id.
    accepted: BTreeMap<u64, String>,
    /// It was about to decide these.
    deciding: BTreeSet<u64>,
    /// The mark that they were handed to a session is durable.
    handed: BTreeSet<u64>,
}

impl Told {
    /// From the lines that a child wrote: `A number id`, `D number`, `H number`. The last may be torn.
    pub fn read(text: &[u8]) -> Told {
        let mut told = Told::default();
        let whole = text.iter().rposition(|&o| o == b'\n').map_or(0, |n| n + 1);
        for line in String::from_utf8_lossy(&text[..whole]).lines() {
            let words: Vec<_> = line.split(' ').collect();
            let number = words[1].parse().unwrap();
            match words[0] {
                "A" => drop(told.accepted.insert(number, words[2].to_owned())),
                "D" => drop(told.deciding.insert(number)),
                "H" => drop(told.handed.insert(number)),
                other => panic!("{other}"),
            }
        }
        told
    }

    pub fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// The promise: what was answered is there exactly once, and nothing is half there.
    pub fn check(&self, queue: &SqliteQueue, when: &str) {
        assert_eq!(queue.check(false).unwrap(), [], "{when}");
        let listed = queue.list(&Filter::default(), usize::MAX).unwrap();
        let mut seen = BTreeMap::new();
        for listed in &listed {
            let number = listed.stored.delivery.message;
            let again = seen.insert(listed.id.clone(), number);
            assert_eq!(again, None, "{when}: {} is there twice", listed.id);
            let kept = queue.read(number).unwrap().unwrap();
            assert!(
                all(&kept.content) == octets(&listed.id),
                "{when}: {}",
                listed.id
            );
            let handed = self.handed.contains(&number.0);
            assert!(
                listed.stored.progress.handed || !handed,
                "{when}: {}",
                listed.id
            );
        }
        for (number, id) in &self.accepted {
            if !self.deciding.contains(number) {
                let there = seen.get(id);
                assert_eq!(there, Some(&MessageNo(*number)), "{when}: {id} is lost");
            }
        }
        let amount = queue.amount();
        assert_eq!(amount.messages, seen.len() as u64, "{when}");
        assert_eq!(amount.deliveries, listed.len() as u64, "{when}");
        let last = self.accepted.keys().next_back().copied().unwrap_or(0);
        let next = futures(queue.accept(message("next-5"))).unwrap();
        assert!(next.0 > last, "{when}: the number {last} was used twice");
        let done = galerne_core::queue::DeliveryNo {
            message: next,
            recipient: 0,
        };
        let done = galerne_core::queue::Change::Done(vec![done]);
        futures(queue.change(vec![done])).unwrap();
    }
}

/// Waits for a future.
pub fn futures<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.build().unwrap().block_on(future)
}

/// This binary again, for one of its ignored tests.
pub fn child(test: &str, root: &Path, variables: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("QUEUE_ROOT", root)
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// In a child: where it works.
pub fn root() -> PathBuf {
    std::env::var_os("QUEUE_ROOT").unwrap().into()
}

/// The layer under the calls, built in a moment.
pub fn faultfs(folder: &Path) -> PathBuf {
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../faultfs/src/lib.rs");
    let built = folder.join("libfaultfs.so");
    let status = Command::new(cargo.with_file_name("rustc"))
        .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-o"])
        .args([&built, &source])
        .status()
        .unwrap();
    assert!(status.success());
    built
}
