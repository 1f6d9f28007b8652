//! From octets to command lines: only CRLF ends one, and each is bounded (T-03, T-08).

use memchr::{memchr, memchr2};

use super::{MALFORMED_MAX, ServerEvent, ServerSession, State, put};
use crate::sasl;

/// Longest command with its CRLF: 512 and what the extensions add (RFC 5321 §4.5.3.1.4).
const LINE_MAX: usize = 2048;
/// Octets of a refused line that are read before the session ends.
const SKIP_MAX: u32 = 4 << 20;

/// Whether the rest of a refused line has to be read and dropped. The reply was given already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    No,
    /// Up to CRLF.
    Rest {
        /// Octets dropped so far.
        dropped: u32,
        /// The last of them was CR.
        after_cr: bool,
        /// Bare line ends are counted. They are not while an over-long line goes on.
        counted: bool,
    },
}

impl ServerSession {
    /// Takes octets of a line from the front of `rest`, and the line itself once it is whole.
    pub(super) fn take_line(
        &mut self,
        rest: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Option<ServerEvent>) {
        if self.skip != Skip::No {
            return self.take_skipped(rest, out);
        }
        let Some(end) = memchr(b'\n', rest) else {
            // Enough to see that it is too long, whichever limit holds.
            let room = sasl::LINE_MAX.saturating_sub(self.line.len());
            self.line
                .extend_from_slice(rest.get(..room).unwrap_or(rest));
            let too_long = self.line.len() >= self.limit(rest);
            return (
                rest.len(),
                if too_long {
                    self.too_long(rest, out)
                } else {
                    None
                },
            );
        };
        let (head, tail) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
        if self.line.is_empty() {
            return (head.len(), self.whole_line(head, !tail.is_empty(), out));
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(head);
        (head.len(), self.whole_line(&line, !tail.is_empty(), out))
    }

    /// The most octets a line may have; `rest` is its beginning if none is kept yet.
    fn limit(&self, rest: &[u8]) -> usize {
        let begin = if self.line.is_empty() {
            rest
        } else {
            &self.line
        };
        let auth = begin
            .get(..4)
            .is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        if auth || self.state == State::Sasl {
            sasl::LINE_MAX
        } else {
            LINE_MAX
        }
    }

    /// A line up to its LF. `more`: input follows it in the same buffer.
    fn whole_line(&mut self, line: &[u8], more: bool, out: &mut Vec<u8>) -> Option<ServerEvent> {
        let text = line.strip_suffix(b"\r\n");
        self.commands = self.commands.wrapping_add(1);
        if line.len() > self.limit(line) {
            if text.is_none() {
                self.skip = Skip::Rest {
                    dropped: 0,
                    after_cr: false,
                    counted: false,
                };
            }
            return self.reject_line(self.long_reply(), out);
        }
        let Some(text) = text else {
            self.skip = Skip::Rest {
                dropped: 0,
                after_cr: false,
                counted: true,
            };
            return self.malformed(out);
        };
        if memchr2(b'\r', 0, text).is_some() {
            return self.malformed(out);
        }
        if self.state == State::Sasl {
            self.respond(text, out)
        } else {
            self.command(text, more, out)
        }
    }

    fn long_reply(&self) -> &'static str {
        match self.state {
            State::Sasl => "500 5.5.6 Line too long\r\n",
            _ => "500 5.5.2 Line too long\r\n",
        }
    }

    fn too_long(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<ServerEvent> {
        let after_cr = rest.last() == Some(&b'\r');
        self.line = Vec::new();
        self.skip = Skip::Rest {
            dropped: 0,
            after_cr,
            counted: false,
        };
        self.reject_line(self.long_reply(), out)
    }

    /// A bare CR, a bare LF or a NUL: never the end of a command (T-03).
    fn malformed(&mut self, out: &mut Vec<u8>) -> Option<ServerEvent> {
        self.malformed += 1;
        if self.malformed >= MALFORMED_MAX {
            return Some(
                self.hang_up("A line ends with CRLF, and has no other CR, LF or NUL", out),
            );
        }
        self.reject_line(
            "500 5.5.2 A line ends with CRLF, and has no other CR, LF or NUL\r\n",
            out,
        )
    }

    fn reject_line(&mut self, reply: &str, out: &mut Vec<u8>) -> Option<ServerEvent> {
        if self.state == State::Sasl {
            self.state = State::Command;
            self.exchange = None;
        }
        put(out, &[reply]);
        self.count_error(out)
    }

    /// Drops up to the CRLF that ends a refused line. Its parts are no commands.
    fn take_skipped(&mut self, rest: &[u8], out: &mut Vec<u8>) -> (usize, Option<ServerEvent>) {
        let Skip::Rest {
            dropped,
            after_cr,
            counted,
        } = self.skip
        else {
            return (0, None);
        };
        let end = memchr(b'\n', rest);
        let taken = end.map_or(rest.len(), |end| end + 1);
        let dropped = dropped.saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
        if dropped > SKIP_MAX {
            return (rest.len(), Some(self.hang_up("Line too long", out)));
        }
        let Some(end) = end else {
            let after_cr = rest.last() == Some(&b'\r');
            self.skip = Skip::Rest {
                dropped,
                after_cr,
                counted,
            };
            return (taken, None);
        };
        let after_cr = match end.checked_sub(1) {
            Some(before) => rest.get(before) == Some(&b'\r'),
            None => after_cr,
        };
        if after_cr {
            self.skip = Skip::No;
            return (taken, None);
        }
        self.skip = Skip::Rest {
            dropped,
            after_cr: false,
            counted,
        };
        (taken, if counted { self.malformed(out) } else { None })
    }
}
