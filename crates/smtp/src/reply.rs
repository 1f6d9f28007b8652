//! Replies: a code and one or more lines of text, in both directions.
//!
//! [`Reply`] is the value, [`ReplyParser`] reads one from a remote of any manners without ever
//! keeping more than a bounded part of it. What a reply means for mail is decided elsewhere.

use std::fmt;

use memchr::memchr;

/// Octets of one line that are kept; the rest of a longer line is read and dropped.
pub const MAX_LINE: usize = 2048;
/// Lines of one reply that are kept; further ones are read and dropped.
pub const MAX_LINES: usize = 128;
/// Octets of one reply that are read at most; one that is longer is malformed.
pub const MAX_REPLY: usize = 1 << 20;
/// Octets of remote text shown in a log line.
const MAX_LOGGED: usize = 1024;

/// An enhanced status code (RFC 3463), or our own class 9 (RELAY-81).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u16, pub u16, pub u16);

impl EnhancedCode {
    /// Reads `class.subject.detail` at the start of a text; a blank or the end must follow.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let word = text.split(|&b| b == b' ' || b == b'\n').next()?;
        let mut parts = word.split(|&b| b == b'.');
        let class = decimal(parts.next()?, 1)?;
        let code = EnhancedCode(
            class,
            decimal(parts.next()?, 3)?,
            decimal(parts.next()?, 3)?,
        );
        (parts.next().is_none() && matches!(class, 2 | 4 | 5 | 9)).then_some(code)
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

fn decimal(digits: &[u8], most: usize) -> Option<u16> {
    if digits.is_empty() || digits.len() > most || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')))
}

/// A reply of a server. The text of each line is kept as octets, without code and line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    /// Lines joined with `\n`; never contains CR or NUL.
    text: Vec<u8>,
}

impl Reply {
    /// A reply of our own. `text` may hold several lines separated by `\n`.
    pub fn new(code: u16, text: impl AsRef<[u8]>) -> Self {
        let text = text
            .as_ref()
            .iter()
            .map(|&b| if b == b'\r' || b == 0 { b'?' } else { b })
            .collect();
        Reply { code, text }
    }

    /// The basic code, 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The texts of the lines, without code.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|&b| b == b'\n')
    }

    /// The whole text, lines joined with `\n`.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The enhanced code in front of the first line, if there is one.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        EnhancedCode::parse(&self.text)
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx: the server waits for more.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4xx.
    pub fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The same text under another code (RELAY-74).
    pub fn with_code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// Appends the reply as it goes over the wire, CRLF included.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let code = [
            digit(self.code / 100),
            digit(self.code / 10),
            digit(self.code),
        ];
        let mut lines = self.lines().peekable();
        while let Some(line) = lines.next() {
            out.extend_from_slice(&code);
            match (lines.peek().is_some(), line.is_empty()) {
                (true, _) => out.push(b'-'),
                (false, false) => out.push(b' '),
                (false, true) => {}
            }
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// One printable line for a log: lines joined with ` / `, odd octets escaped, cut.
    pub fn to_log(&self) -> String {
        let mut shown = format!("{} ", self.code);
        for (n, line) in self.lines().enumerate() {
            if n > 0 {
                shown.push_str(" / ");
            }
            if shown.len() >= MAX_LOGGED {
                shown.push('…');
                break;
            }
            shown.push_str(&escape(line, MAX_LOGGED - shown.len()));
        }
        shown
    }
}

fn digit(n: u16) -> u8 {
    b"0123456789"
        .get(usize::from(n % 10))
        .copied()
        .unwrap_or(b'0')
}

/// Remote text made fit for a log: printable ASCII stays, the rest becomes `\xNN`, and what goes
/// beyond `most` octets of input becomes `…`.
pub fn escape(text: &[u8], most: usize) -> String {
    let kept = text.get(..most).unwrap_or(text);
    let mut shown = String::with_capacity(kept.len() + 4);
    for &b in kept {
        match b {
            b'\\' => shown.push_str("\\\\"),
            b' '..=b'~' => shown.push(char::from(b)),
            _ => {
                shown.push_str("\\x");
                shown.push(char::from_digit(u32::from(b >> 4), 16).unwrap_or('?'));
                shown.push(char::from_digit(u32::from(b & 15), 16).unwrap_or('?'));
            }
        }
    }
    if kept.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Why something that should be a reply is none: escaped and cut, for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedReply(pub String);

impl MalformedReply {
    fn new(why: &str, seen: &[u8]) -> Self {
        MalformedReply(format!("{why}: {}", escape(seen, 200)))
    }
}

/// Reads replies cut anywhere, with bounded memory (T-46).
///
/// A line ends with LF, with or without CR before it. Whoever gets a [`MalformedReply`] can no
/// longer tell which reply belongs to which command and must give up the session.
#[derive(Debug, Default)]
pub struct ReplyParser {
    /// The unfinished line of an earlier input, at most [`MAX_LINE`] octets.
    line: Vec<u8>,
    text: Vec<u8>,
    /// 0: no line of the present reply was seen.
    code: u16,
    lines: usize,
    read: usize,
}

impl ReplyParser {
    /// A parser before the first octet.
    pub fn new() -> Self {
        ReplyParser::default()
    }

    /// Whether part of a reply has come but not its end.
    pub fn is_inside(&self) -> bool {
        self.read > 0
    }

    /// Forgets a partly read reply.
    pub fn reset(&mut self) {
        self.line.clear();
        self.text.clear();
        (self.code, self.lines, self.read) = (0, 0, 0);
    }

    /// Reads up to the end of one reply. Returns the octets consumed and the reply, or nothing
    /// while its end has not come (all input is consumed then).
    pub fn parse(&mut self, input: &[u8]) -> (usize, Option<Result<Reply, MalformedReply>>) {
        let mut rest = input;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest);
            let (piece, after) = match end {
                Some(i) => (
                    rest.get(..i).unwrap_or_default(),
                    rest.get(i + 1..).unwrap_or_default(),
                ),
                None => (rest, Default::default()),
            };
            self.read += rest.len() - after.len();
            rest = after;
            let result = if self.read > MAX_REPLY {
                Some(Err(MalformedReply::new("reply too long", piece)))
            } else if end.is_some() {
                self.end_line(piece)
            } else {
                self.keep(piece);
                None
            };
            if let Some(result) = result {
                self.reset();
                return (input.len() - rest.len(), Some(result));
            }
        }
        (input.len(), None)
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.line
            .extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    fn end_line(&mut self, piece: &[u8]) -> Option<Result<Reply, MalformedReply>> {
        if self.line.is_empty() {
            return self.take_line(piece);
        }
        self.keep(piece);
        let mut line = std::mem::take(&mut self.line);
        let result = self.take_line(&line);
        line.clear();
        self.line = line;
        result
    }

    fn take_line(&mut self, line: &[u8]) -> Option<Result<Reply, MalformedReply>> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = line.get(..MAX_LINE).unwrap_or(line);
        let Some((code, last, text)) = split_line(line) else {
            return Some(Err(MalformedReply::new("not a reply", line)));
        };
        if self.code != 0 && self.code != code {
            return Some(Err(MalformedReply::new("reply code changes midway", line)));
        }
        self.code = code;
        if self.lines < MAX_LINES {
            if self.lines > 0 {
                self.text.push(b'\n');
            }
            self.text.extend(
                text.iter()
                    .map(|&b| if b == b'\r' || b == 0 { b'?' } else { b }),
            );
        }
        self.lines += 1;
        last.then(|| {
            Ok(Reply {
                code,
                text: std::mem::take(&mut self.text),
            })
        })
    }
}

/// Code, whether the line is the last one, text.
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    let code = decimal(code, 3).filter(|code| (200..=599).contains(code))?;
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(input: &[u8]) -> Result<Reply, MalformedReply> {
        let (used, result) = ReplyParser::new().parse(input);
        assert!(used <= input.len());
        result.expect("a whole reply")
    }

    #[test]
    fn reads_a_reply_cut_anywhere() {
        let wire = b"250-mx.example.org\r\n250-SIZE 1000\r\n250 DSN\r\n220 next";
        for cut in 0..wire.len() {
            let mut parser = ReplyParser::new();
            let (head, tail) = wire.split_at(cut);
            let (used, result) = parser.parse(head);
            let (reply, used) = match result {
                Some(reply) => (reply.unwrap(), used),
                None => {
                    assert_eq!(used, cut);
                    let (more, reply) = parser.parse(tail);
                    (reply.unwrap().unwrap(), used + more)
                }
            };
            assert_eq!(reply, Reply::new(250, "mx.example.org\nSIZE 1000\nDSN"));
            assert_eq!(used, wire.len() - "220 next".len());
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for wire in [
            "250 ok\r\n",
            "250\r\n",
            "550-5.1.1 no\r\n550-\r\n550 5.1.1 such user\r\n",
        ] {
            let mut out = Vec::new();
            parse_all(wire.as_bytes()).unwrap().write_to(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wire);
        }
    }

    #[test]
    fn a_reply_of_ours_cannot_inject_a_line() {
        let mut out = Vec::new();
        Reply::new(550, "a\r250 b\0\n\rc").write_to(&mut out);
        assert_eq!(out, b"550-a?250 b?\r\n550 ?c\r\n");
    }

    #[test]
    fn finds_the_enhanced_code() {
        let of = |text: &str| Reply::new(550, text).enhanced();
        assert_eq!(of("5.7.1 no"), Some(EnhancedCode(5, 7, 1)));
        assert_eq!(of("9.3.2 X-SMTP-R-API no"), Some(EnhancedCode(9, 3, 2)));
        assert_eq!(of("4.12.345"), Some(EnhancedCode(4, 12, 345)));
        assert_eq!(of("5.7.1\nmore"), Some(EnhancedCode(5, 7, 1)));
        for none in [
            "",
            "no",
            "5.7",
            "5.7.1.2",
            "5.7.1234 x",
            "3.1.1 x",
            "5.7.1: x",
            "192.0.2.1 x",
            "5..1 x",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn t_46_relay_74_recognises_what_is_no_reply() {
        for wire in [
            "hello\r\n",
            "\r\n",
            "25\r\n",
            "000 ok\r\n",
            "199 ok\r\n",
            "100 ok\r\n",
            "600 ok\r\n",
            "999 ok\r\n",
            "2x0 ok\r\n",
            "250_ok\r\n",
            "2500 ok\r\n",
            " 250 ok\r\n",
            "-50 ok\r\n",
            "250-a\r\n550 b\r\n",
            "250-a\r\nb\r\n",
        ] {
            let result = parse_all(wire.as_bytes());
            assert!(result.is_err(), "{wire:?} gave {result:?}");
        }
    }

    #[test]
    fn t_46_ten_thousand_lines_stay_bounded() {
        let mut wire = b"250-line\r\n".repeat(10_000);
        wire.extend_from_slice(b"250 end\r\n");
        let reply = parse_all(&wire).unwrap();
        assert_eq!(reply.lines().count(), MAX_LINES);
        wire.truncate(10);
        let endless = wire.repeat(MAX_REPLY / 10 + 1);
        assert!(parse_all(&endless).is_err());
    }

    #[test]
    fn t_46_a_line_of_a_megabyte_stays_bounded() {
        let mut parser = ReplyParser::new();
        assert_eq!(parser.parse(b"250 "), (4, None));
        let mut fed = 4;
        let piece = [b'x'; 4096];
        loop {
            let (used, result) = parser.parse(&piece);
            fed += used;
            assert!(fed <= MAX_REPLY + piece.len(), "never ends");
            assert!(parser.line.len() <= MAX_LINE && parser.line.capacity() <= 2 * MAX_LINE);
            if let Some(result) = result {
                assert!(result.is_err());
                break;
            }
        }

        let long = [b"550 ".as_slice(), &[b'y'; 100_000], b"\r\n"].concat();
        let reply = parse_all(&long).unwrap();
        assert!(reply.text().len() <= MAX_LINE, "cut, not refused");
    }

    #[test]
    fn t_46_odd_octets_are_escaped_in_logs_and_kept_in_the_reply() {
        let reply = parse_all(b"550 caf\xe9 \x1b[31m\0\\\r\n").unwrap();
        assert_eq!(reply.text(), b"caf\xe9 \x1b[31m?\\");
        assert_eq!(reply.to_log(), "550 caf\\xe9 \\x1b[31m?\\\\");
        let long = Reply::new(550, vec![b'z'; 5000]);
        assert!(long.to_log().len() < 1100 && long.to_log().ends_with('…'));
        let many = Reply::new(550, "line\n".repeat(5000));
        assert!(many.to_log().len() < 1100);
    }
}
