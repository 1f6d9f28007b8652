//! Receiving by BDAT (RFC 3030): how many octets of a chunk are still to come.
//!
//! The replies belong to the server session; here is only the counting, which must hold whatever
//! a client claims (T-06), and the bare CR, LF and NUL of RELAY-18, which span chunks.

use crate::data::{BareLfPolicy, Decoder};

/// The arguments of one BDAT command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Octets that follow the command.
    pub size: u64,
    /// The last chunk of the message.
    pub last: bool,
}

impl Chunk {
    /// Reads `size [LAST]`, the text behind `BDAT `. `None` for anything else: no number, a sign,
    /// a number beyond 64 bits. The octets that follow such a command cannot be told from
    /// commands, so the session has to end.
    pub fn parse(arguments: &[u8]) -> Option<Chunk> {
        let mut words = arguments
            .split(|b| *b == b' ')
            .filter(|word| !word.is_empty());
        let size = words.next()?;
        let last = match words.next() {
            None => false,
            Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
            Some(_) => return None,
        };
        if words.next().is_some() || size.len() > 20 {
            return None;
        }
        let size = size.iter().try_fold(0u64, |n, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            n.checked_mul(10)?.checked_add(u64::from(digit))
        })?;
        Some(Chunk { size, last })
    }
}

/// Counts the chunks of one message and takes their octets.
#[derive(Clone, Debug)]
pub struct BdatReceiver {
    decoder: Decoder,
    remaining: u64,
    last: bool,
    keep: bool,
}

impl BdatReceiver {
    /// Before the first chunk of a message.
    pub fn new(policy: BareLfPolicy) -> Self {
        BdatReceiver {
            decoder: Decoder::without_dots(policy),
            remaining: 0,
            last: false,
            keep: true,
        }
    }

    /// A BDAT command came. With `keep` false (no recipients, an earlier error, too large) the
    /// octets are counted and thrown away.
    pub fn begin(&mut self, chunk: Chunk, keep: bool) {
        self.remaining = chunk.size;
        self.last = chunk.last;
        self.keep = keep;
    }

    /// Takes octets of the chunk from the front of `input`. Returns how many, and whether the
    /// chunk is complete; what follows then is a command. At most `room` octets are appended.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>, room: u64) -> (usize, bool) {
        let wanted = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(input.len());
        self.remaining -= wanted as u64;
        if self.keep {
            let before = out.len();
            self.decoder
                .decode(input.get(..wanted).unwrap_or(input), out, room);
            if self.remaining == 0 && self.last {
                let used = (out.len() - before) as u64;
                self.decoder.flush(out, room.saturating_sub(used));
            }
        }
        (wanted, self.remaining == 0)
    }

    /// Octets of the present chunk that are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Whether the present chunk is the last of its message.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// What was noticed in the content: size, bare CR or LF, NUL.
    pub fn noticed(&self) -> &Decoder {
        &self.decoder
    }
}
