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
            self.decoder
                .decode(input.get(..wanted).unwrap_or(input), out, room);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_06_reads_sizes_and_nothing_else() {
        let chunk = |size, last| Some(Chunk { size, last });
        assert_eq!(Chunk::parse(b"0"), chunk(0, false));
        assert_eq!(Chunk::parse(b"1000 LAST"), chunk(1000, true));
        assert_eq!(Chunk::parse(b" 86  last "), chunk(86, true));
        assert_eq!(Chunk::parse(b"0 LAST"), chunk(0, true));
        assert_eq!(
            Chunk::parse(b"18446744073709551615"),
            chunk(u64::MAX, false)
        );
        let wrong: [&[u8]; 14] = [
            b"",
            b" ",
            b"LAST",
            b"-1",
            b"+1",
            b"1.0",
            b"0x10",
            b"1e3",
            b"18446744073709551616",
            b"1 FIRST",
            b"1 LAST 2",
            b"000000000000000000000001",
            b"1\tLAST",
            b"\xd9\xa1",
        ];
        for wrong in wrong {
            assert_eq!(Chunk::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn t_06_takes_exactly_the_octets_of_the_chunk() {
        let wire = b"first\r\n.\r\nQUIT\r\n";
        for cut in 0..=wire.len() {
            let (mut receiver, mut out) = (BdatReceiver::new(BareLfPolicy::Reject), Vec::new());
            receiver.begin(
                Chunk {
                    size: 10,
                    last: true,
                },
                true,
            );
            let (head, tail) = wire.split_at(cut);
            let (mut used, mut done) = receiver.take(head, &mut out, u64::MAX);
            if !done {
                assert_eq!(used, cut);
                let (more, ended) = receiver.take(tail, &mut out, u64::MAX);
                (used, done) = (used + more, ended);
            }
            assert_eq!((used, done, receiver.is_last()), (10, true, true));
            assert_eq!(out, b"first\r\n.\r\n", "dots mean nothing here");
        }
    }

    #[test]
    fn t_06_a_refused_chunk_is_consumed_without_being_kept() {
        let (mut receiver, mut out) = (BdatReceiver::new(BareLfPolicy::Reject), Vec::new());
        receiver.begin(
            Chunk {
                size: u64::MAX,
                last: false,
            },
            false,
        );
        let piece = [b'x'; 4096];
        for n in 1..=1000u64 {
            assert_eq!(receiver.take(&piece, &mut out, u64::MAX), (4096, false));
            assert_eq!(receiver.remaining(), u64::MAX - 4096 * n);
        }
        assert_eq!((out.capacity(), receiver.noticed().size()), (0, 0));
    }

    #[test]
    fn t_06_an_empty_last_chunk_is_complete_at_once() {
        let (mut receiver, mut out) = (BdatReceiver::new(BareLfPolicy::Reject), Vec::new());
        receiver.begin(
            Chunk {
                size: 3,
                last: false,
            },
            true,
        );
        assert_eq!(receiver.take(b"a\r\nBDAT", &mut out, u64::MAX), (3, true));
        receiver.begin(
            Chunk {
                size: 0,
                last: true,
            },
            true,
        );
        assert_eq!(receiver.take(b"QUIT", &mut out, u64::MAX), (0, true));
        assert_eq!(
            (out.as_slice(), receiver.noticed().size()),
            (b"a\r\n".as_slice(), 3)
        );
    }

    #[test]
    fn t_06_a_line_end_cut_by_chunks_is_none_that_stands_alone() {
        for (last, bare) in [(b"\nb", false), (b"bb", true)] {
            let (mut receiver, mut out) = (BdatReceiver::new(BareLfPolicy::Pass), Vec::new());
            receiver.begin(
                Chunk {
                    size: 2,
                    last: false,
                },
                true,
            );
            receiver.take(b"a\r", &mut out, u64::MAX);
            receiver.begin(
                Chunk {
                    size: 2,
                    last: true,
                },
                true,
            );
            receiver.take(last, &mut out, u64::MAX);
            assert_eq!(out, [b"a\r", last.as_slice()].concat());
            assert_eq!(receiver.noticed().has_bare(), bare);
        }
    }

    #[test]
    fn t_06_a_cr_at_the_very_end_is_noticed_and_the_room_is_kept() {
        for (policy, whole) in [(BareLfPolicy::Pass, 2), (BareLfPolicy::Normalise, 3)] {
            for room in 0..5u64 {
                let (mut receiver, mut out) = (BdatReceiver::new(policy), Vec::new());
                receiver.begin(
                    Chunk {
                        size: 2,
                        last: true,
                    },
                    true,
                );
                assert_eq!(receiver.take(b"a\r", &mut out, room), (2, true));
                assert!(receiver.noticed().has_bare_cr());
                assert_eq!(receiver.noticed().size(), whole);
                assert_eq!(out.len() as u64, room.min(whole));
            }
        }
    }
}
