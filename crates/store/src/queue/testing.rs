//! Messages and numbers for the tests of the queue.

use std::io;
use std::sync::Arc;

use galerne_core::content::{Content, Patch, Spill};
use galerne_core::queue::{
    Envelope, MessageNo, NewMessage, Progress, QueueStore, QueuedRecipient, State, StoreFault,
};

pub use super::waiting::wait;

/// Numbers by chance, the same for the same seed (xorshift64*).
#[derive(Clone)]
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

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

/// An envelope to recipients.
pub fn envelope(id: &str, recipients: &[&str]) -> Envelope {
    let recipient = |address: &&str| QueuedRecipient {
        address: (*address).to_owned(),
        notify: Some("FAILURE,DELAY".to_owned()),
        orcpt: Some(("rfc822".to_owned(), (*address).to_owned())),
    };
    Envelope {
        id: id.to_owned(),
        reference: format!("ref-{id}"),
        tags: Vec::new(),
        header_id: Some(format!("{id}@client.example")),
        user: Some("account".to_owned()),
        login: Some("login".to_owned()),
        peer: "[2001:db8::1]:40000".parse().unwrap(),
        helo: "client.example".to_owned(),
        tls: true,
        session_id: "s1".to_owned(),
        sender: "Sender@client.example".to_owned(),
        ret: Some("HDRS".to_owned()),
        envid: Some("envid".to_owned()),
        eight_bit: true,
        smtputf8: true,
        requiretls: false,
        tls_not_required: false,
        recipients: recipients.iter().map(recipient).collect(),
        directive: Some("{}".to_owned()),
        header_from: Some("sender@client.example".to_owned()),
        received_at: 1_700_000_000_000,
        needs_chunking: false,
        is_dsn: false,
    }
}

/// A message of `size` octets, which differ with the id.
pub fn message(id: &str, recipients: &[&str], size: usize) -> NewMessage {
    NewMessage {
        envelope: Arc::new(envelope(id, recipients)),
        content: Content::in_memory(octets(id, size)),
        patch: Patch::default(),
        deliveries: (0..recipients.len() as u32)
            .map(|n| (n, Progress::default()))
            .collect(),
    }
}

/// Octets that can be told from those of another seed.
pub fn octets(seed: &str, size: usize) -> Vec<u8> {
    let mut chance = Chance::new(u64::from(crc32fast::hash(seed.as_bytes())) + 1);
    let mut octets = Vec::with_capacity(size + 8);
    while octets.len() < size {
        octets.extend_from_slice(&chance.next().to_le_bytes());
    }
    octets.truncate(size);
    octets
}

/// All octets of a content, read in pieces.
pub fn all(content: &Content) -> Vec<u8> {
    let mut octets = content.memory.to_vec();
    if let Some(spill) = &content.spill {
        let mut piece = vec![0; 70_001];
        let mut at = 0;
        loop {
            let read = spill.read_at(at, &mut piece).unwrap();
            if read == 0 {
                break;
            }
            octets.extend_from_slice(&piece[..read]);
            at += read as u64;
        }
        assert_eq!(at, spill.len());
    }
    octets
}

/// Content whose rest is elsewhere, as that of a large message is.
pub fn spilled(memory: Vec<u8>, rest: Vec<u8>) -> Content {
    Content {
        memory: Arc::new(memory),
        spill: Some(Arc::new(Rest(rest))),
    }
}

struct Rest(Vec<u8>);

impl Spill for Rest {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

/// How a delivery may stand, by chance.
pub fn progress(chance: &mut Chance) -> Progress {
    let word = |chance: &mut Chance, words: &[&str]| chance.pick(words).to_owned();
    Progress {
        state: chance.pick(&State::ALL),
        held: chance.one_in(4),
        handed: chance.one_in(4),
        duplicate_possible: chance.one_in(4),
        attempts: chance.below(40) as u32,
        greys: chance.below(3) as u32,
        next: 1_700_000_000_000 + chance.below(5) * 1000,
        delay_told: chance.one_in(4),
        group: word(chance, &["", "@big", "isp"]),
        route: word(chance, &["", "@next", "7"]),
        outbound: word(chance, &["", "192.0.2.1"]),
        last_reply: word(chance, &["", "451 4.7.1 später", "421 4.3.2 'no'\" \\"]),
    }
}

pub fn accept(queue: &dyn QueueStore, message: NewMessage) -> Result<MessageNo, StoreFault> {
    wait(queue.accept(message))
}
