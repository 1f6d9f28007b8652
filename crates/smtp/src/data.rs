//! The one data codec: line endings, dot-stuffing, bare CR and LF, and the end of data.
//!
//! [`Decoder`] serves the receiving side (DATA, and BDAT by way of [`crate::bdat`]), [`Encoder`]
//! the sending side. No other place in the product decides where a message ends (RFC 5321
//! §4.5.2); both work on input cut anywhere, by whole stretches of lines.

use memchr::{memchr2, memchr3, memmem};

const CRLF: &[u8] = b"\r\n";

/// What happens to a CR or LF that stands alone (RELAY-18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareLfPolicy {
    /// The message is refused; the decoder notes it and still finds the true end.
    #[default]
    Reject,
    /// Each becomes CRLF.
    Normalise,
    /// Octets stay as they are; the message can only leave by BDAT.
    Pass,
}

/// Where the decoder stands between two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// After a true CRLF, or before the first octet.
    LineStart,
    /// After a dot at `LineStart`, which is held back.
    Dot,
    /// After dot and CR at `LineStart`; both are held back.
    DotCr,
    /// Anywhere else.
    Text,
    /// After a CR in the text, which is held back (but not in BDAT, whose end nothing marks).
    Cr,
    /// After the end of data.
    Ended,
}

/// Undoes dot-stuffing and finds the end of data: CRLF `.` CRLF and nothing else (T-01), or `.`
/// CRLF right at the start.
///
/// A dot is stuffing only after a true CRLF and with something other than a line end behind it.
/// So a lone dot between bare line ends is content, whatever the policy.
#[derive(Clone, Debug)]
pub struct Decoder {
    policy: BareLfPolicy,
    place: Place,
    /// False for BDAT, where a dot is a letter like any other.
    dots: bool,
    bare_cr: bool,
    bare_lf: bool,
    nul: bool,
    size: u64,
}

/// Where decoded octets go: counted always, kept while there is room.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    room: u64,
    size: u64,
}

impl Sink<'_> {
    fn push(&mut self, octets: &[u8]) {
        self.size = self.size.saturating_add(octets.len() as u64);
        let fits = usize::try_from(self.room)
            .unwrap_or(usize::MAX)
            .min(octets.len());
        self.out
            .extend_from_slice(octets.get(..fits).unwrap_or(octets));
        self.room -= fits as u64;
    }
}

/// Whether octets hold no NUL, and no CR or LF but in pairs. No early exit: compilers make it one
/// pass over vectors, many times faster than looking at line after line.
fn is_plain(octets: &[u8]) -> bool {
    let (Some(first), Some(last)) = (octets.first(), octets.last()) else {
        return false;
    };
    let behind = octets.get(1..).unwrap_or_default();
    let odd = octets.iter().zip(behind).fold(0, |odd, (&a, &b)| {
        odd | (u8::from(a == b'\r') ^ u8::from(b == b'\n')) | u8::from(a == 0)
    });
    odd == 0 && *first != b'\n' && *last != b'\r' && *last != 0
}

impl Decoder {
    /// A decoder for the content of one DATA command.
    pub fn new(policy: BareLfPolicy) -> Self {
        let place = Place::LineStart;
        Decoder {
            policy,
            place,
            dots: true,
            bare_cr: false,
            bare_lf: false,
            nul: false,
            size: 0,
        }
    }

    /// A decoder for content without dots and end mark, as BDAT brings it.
    pub fn without_dots(policy: BareLfPolicy) -> Self {
        Decoder {
            dots: false,
            place: Place::Text,
            ..Decoder::new(policy)
        }
    }

    /// Whether a CR without LF behind it was seen. Content of BDAT may also end with one.
    pub fn has_bare_cr(&self) -> bool {
        self.bare_cr || (!self.dots && self.place == Place::Cr)
    }

    /// Whether an LF without CR before it was seen.
    pub fn has_bare_lf(&self) -> bool {
        self.bare_lf
    }

    /// Whether a CR or LF stood alone.
    pub fn has_bare(&self) -> bool {
        self.has_bare_cr() || self.bare_lf
    }

    /// Whether a NUL was seen.
    pub fn has_nul(&self) -> bool {
        self.nul
    }

    /// Octets of content so far, those dropped for want of room included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the end of data has come.
    pub fn has_ended(&self) -> bool {
        self.place == Place::Ended
    }

    /// Appends decoded content to `out`, at most `room` octets; more is counted and dropped.
    ///
    /// Returns the octets consumed and whether the end of data came. Without the end all input is
    /// consumed; with it, what follows belongs to the next command.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, room: u64) -> (usize, bool) {
        let mut sink = Sink {
            out,
            room,
            size: self.size,
        };
        let mut pos = 0;
        while self.place != Place::Ended {
            let Some(&octet) = input.get(pos) else { break };
            match (self.place, octet) {
                (Place::LineStart, b'.') if self.dots => (self.place, pos) = (Place::Dot, pos + 1),
                (Place::Dot, b'\r') => (self.place, pos) = (Place::DotCr, pos + 1),
                (Place::DotCr, b'\n') => (self.place, pos) = (Place::Ended, pos + 1),
                (Place::DotCr, _) => {
                    sink.push(b".");
                    self.place = Place::Cr;
                }
                (Place::Cr, b'\n') => {
                    sink.push(self.rest_of_crlf());
                    (self.place, pos) = (Place::LineStart, pos + 1);
                }
                (Place::Cr, _) => {
                    if self.dots {
                        sink.push(self.lone_cr());
                    }
                    self.bare_cr = true;
                    self.place = Place::Text;
                }
                (Place::Dot, b'\n') => {
                    sink.push(b".");
                    self.place = Place::Text;
                }
                (Place::LineStart | Place::Dot | Place::Text | Place::Ended, _) => {
                    pos = self.decode_text(input, pos, &mut sink);
                }
            }
        }
        self.size = sink.size;
        (pos, self.place == Place::Ended)
    }

    /// What becomes of a CR that stands alone.
    fn lone_cr(&self) -> &'static [u8] {
        if self.policy == BareLfPolicy::Normalise {
            CRLF
        } else {
            b"\r"
        }
    }

    /// What is still to be written of a CRLF whose CR ended the input before.
    fn rest_of_crlf(&self) -> &'static [u8] {
        match (self.dots, self.policy) {
            (true, _) => CRLF,
            (false, BareLfPolicy::Normalise) => b"",
            (false, _) => b"\n",
        }
    }

    /// Text from `from` on. Ordinary lines are copied at once, up to the next dot at the start of
    /// one; the rest is looked at closely.
    fn decode_text(&mut self, input: &[u8], from: usize, sink: &mut Sink<'_>) -> usize {
        let rest = input.get(from..).unwrap_or_default();
        let stretch = match memmem::find(rest, b"\n.").filter(|_| self.dots) {
            Some(at) => rest.get(..=at),
            None if rest.ends_with(b"\r") => rest.get(..rest.len() - 1),
            None => Some(rest),
        };
        match stretch {
            Some(stretch) if is_plain(stretch) => {
                sink.push(stretch);
                self.place = match stretch.last() {
                    Some(b'\n') => Place::LineStart,
                    _ => Place::Text,
                };
                from + stretch.len()
            }
            _ => self.decode_closely(input, from, sink),
        }
    }

    /// From a place inside a line (or at its first octet, which is no dot) as far as the input
    /// goes without a place that needs care.
    fn decode_closely(&mut self, input: &[u8], from: usize, sink: &mut Sink<'_>) -> usize {
        let piece = |from: usize, to: usize| input.get(from..to).unwrap_or_default();
        let (mut start, mut scan) = (from, from);
        self.place = Place::Text;
        while let Some(i) = memchr3(b'\r', b'\n', 0, piece(scan, input.len())).map(|i| i + scan) {
            scan = i + 1;
            match (input.get(i), input.get(i + 1)) {
                (Some(0), _) => self.nul = true,
                (Some(b'\n'), _) => {
                    self.bare_lf = true;
                    if self.policy == BareLfPolicy::Normalise {
                        sink.push(piece(start, i));
                        sink.push(CRLF);
                        start = scan;
                    }
                }
                (_, None) => {
                    sink.push(piece(start, i));
                    if !self.dots {
                        sink.push(self.lone_cr());
                    }
                    self.place = Place::Cr;
                    return scan;
                }
                (_, Some(b'\n')) => {
                    scan = i + 2;
                    match input.get(scan) {
                        Some(b'.') if self.dots => {}
                        Some(_) => continue,
                        None => self.place = Place::LineStart,
                    }
                    sink.push(piece(start, scan));
                    start = scan + 1;
                    match input.get(start) {
                        Some(b'\r' | b'\n') | None => {
                            self.place = Place::LineStart;
                            return scan;
                        }
                        Some(_) => scan = start,
                    }
                }
                (_, Some(_)) => {
                    self.bare_cr = true;
                    if self.policy == BareLfPolicy::Normalise {
                        sink.push(piece(start, i));
                        sink.push(CRLF);
                        start = scan;
                    }
                }
            }
        }
        sink.push(piece(start, input.len()));
        input.len()
    }
}

/// Writes content as DATA wants it: dots stuffed, ended by CRLF `.` CRLF.
///
/// No CR or LF leaves it alone: each that stands alone in the content becomes CRLF, and a dot
/// behind it is stuffed, so that no receiver, however lenient, can see an end of data or a second
/// message in it (T-02). Content of true lines comes out unchanged but for the stuffing.
#[derive(Clone, Debug)]
pub struct Encoder {
    line_start: bool,
    /// The last octet was a CR, for which CRLF has been written already.
    after_cr: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new()
    }
}

impl Encoder {
    /// An encoder before the first octet of a message.
    pub fn new() -> Self {
        Encoder {
            line_start: true,
            after_cr: false,
        }
    }

    /// Appends `chunk`, a part of the content cut anywhere.
    pub fn encode(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let piece = |from: usize, to: usize| chunk.get(from..to).unwrap_or_default();
        let mut start = usize::from(self.after_cr && chunk.first() == Some(&b'\n'));
        let Some(&first) = chunk.get(start) else {
            self.after_cr &= chunk.is_empty();
            return;
        };
        self.after_cr = false;
        out.reserve(chunk.len() + 64);
        if self.line_start && first == b'.' {
            out.push(b'.');
        }
        loop {
            let rest = piece(start, chunk.len());
            let dot = memmem::find(rest, b"\n.");
            let stretch = dot.map_or(rest, |at| piece(start, start + at + 1));
            if !is_plain(stretch) {
                break;
            }
            out.extend_from_slice(stretch);
            start += stretch.len();
            if dot.is_none() {
                self.line_start = stretch.ends_with(b"\n");
                return;
            }
            out.push(b'.');
        }
        self.encode_closely(chunk, start, out);
    }

    /// The same from a place on whose dot, if there is one, has been stuffed; line after line.
    fn encode_closely(&mut self, chunk: &[u8], mut start: usize, out: &mut Vec<u8>) {
        let piece = |from: usize, to: usize| chunk.get(from..to).unwrap_or_default();
        let mut scan = start;
        while let Some(i) = memchr2(b'\r', b'\n', piece(scan, chunk.len())).map(|i| i + scan) {
            if piece(i, i + 2) == CRLF {
                scan = i + 2;
            } else {
                scan = i + 1;
                out.extend_from_slice(piece(start, i));
                out.extend_from_slice(CRLF);
                start = scan;
                self.after_cr = scan == chunk.len() && chunk.last() == Some(&b'\r');
            }
            if chunk.get(scan) == Some(&b'.') {
                out.extend_from_slice(piece(start, scan));
                out.push(b'.');
                start = scan;
            }
        }
        out.extend_from_slice(piece(start, chunk.len()));
        self.line_start = scan == chunk.len();
    }

    /// Ends the message: CRLF if the last line has none, then `.` CRLF. The encoder is then ready
    /// for another message.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.line_start {
            out.extend_from_slice(CRLF);
        }
        out.extend_from_slice(b".\r\n");
        *self = Encoder::new();
    }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
