//! One linear scan over the header of a message.
//!
//! It finds where fields, directive fields and the header itself end, and the first thing that is
//! wrong with it. It copies nothing, changes nothing and decides nothing; `galerne_core::accept`
//! turns what it finds into an answer. A line ends with CRLF and with nothing else: a bare LF let
//! through by `barelf = pass` is an octet like any other.

use std::ops::Range;

use memchr::memchr;

/// The longest header section that is read, in octets, the empty line not counted.
pub const HEADER_LIMIT: usize = 256 * 1024;
/// The longest header line in octets without its CRLF (RFC 5322 §2.1.1).
pub const LINE_LIMIT: usize = 998;
/// The name of the directive field (RELAY-30).
pub const DIRECTIVE_NAME: &str = "X-SMTP-R-API";

/// One header field, as ranges of the scanned octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    start: u32,
    name_end: u32,
    body: u32,
    end: u32,
}

impl Field {
    /// The whole field: name, colon, body with its folded lines, final CRLF.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The name as written, without blanks before the colon.
    pub fn name<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        octets
            .get(self.start as usize..self.name_end as usize)
            .unwrap_or_default()
    }

    /// Everything after the colon, the final CRLF excluded.
    pub fn body<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        let body = octets
            .get(self.body as usize..self.end as usize)
            .unwrap_or_default();
        body.strip_suffix(b"\r\n").unwrap_or(body)
    }

    /// Whether the field has this name; case does not count.
    pub fn is(&self, octets: &[u8], name: &str) -> bool {
        self.name(octets).eq_ignore_ascii_case(name.as_bytes())
    }
}

/// What is wrong with a header. The line is counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No field at all: the message is empty or begins with the empty line.
    Missing,
    /// A line that is neither a field nor the continuation of one.
    Malformed { line: u32 },
    /// A line longer than [`LINE_LIMIT`].
    LongLine { line: u32 },
    /// The header goes on beyond the limit given.
    TooLarge,
    /// The header ends inside a directive whose braces are still open (RELAY-32).
    OpenDirective,
}

/// What the scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// All fields in order, directives included.
    pub fields: Vec<Field>,
    /// Where the header section ends: the start of the empty line, or the end of the octets.
    pub end: usize,
    /// Where the body begins: behind the empty line, or the end of the octets.
    pub body: usize,
    /// Whether there is an empty line between header and body.
    pub separated: bool,
    /// Number of `Received` fields.
    pub received: u32,
    /// Index of the first `From` field.
    pub from: Option<usize>,
    /// Number of `From` fields.
    pub from_count: u32,
    /// Index of the first directive field.
    pub directive: Option<usize>,
    /// Number of directive fields.
    pub directive_count: u32,
    /// Index of the first `Message-ID` field.
    pub message_id: Option<usize>,
    /// The first fault; the scan ends at [`Fault::TooLarge`] and goes on after the others.
    pub fault: Option<Fault>,
}

impl Header {
    /// The fields of this name, in order.
    pub fn named<'a>(&'a self, octets: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.fields.iter().filter(move |f| f.is(octets, name))
    }

    /// The directive fields, in order: the ranges that are cut (RELAY-27).
    pub fn directives<'a>(&'a self, octets: &'a [u8]) -> impl Iterator<Item = &'a Field> {
        let first = self.directive.unwrap_or(self.fields.len());
        self.fields
            .iter()
            .skip(first)
            .filter(move |f| f.is(octets, DIRECTIVE_NAME))
    }
}

/// Scans the header at the start of `octets`. `limit` bounds the header section in octets.
///
/// Linear in the length of the header; one allocation for ordinary messages.
pub fn scan(octets: &[u8], limit: usize) -> Header {
    run(octets, limit, true)
}

/// Scans with the folding of RFC 5322 alone: a directive ends where any other field would. For
/// clients whose directive means nothing (RELAY-36), so that open braces swallow no field.
pub fn scan_folded_only(octets: &[u8], limit: usize) -> Header {
    run(octets, limit, false)
}

fn run(octets: &[u8], limit: usize, braces: bool) -> Header {
    let limit = limit.min(u32::MAX as usize);
    let mut scan = Scan {
        header: Header::default(),
        line: 0,
        braces,
        open: None,
    };
    scan.header.fields.reserve(32);
    let mut at = 0;
    loop {
        let rest = octets.get(at..).unwrap_or_default();
        if rest.is_empty() {
            scan.finish(at, at, false);
            break;
        }
        // A line cannot pass the limit, so that searching its end is bounded too.
        let window = rest.get(..(limit + 2).saturating_sub(at)).unwrap_or(rest);
        let (line, next) = match line_end(window) {
            Some(end) => (window.get(..end).unwrap_or_default(), at + end + 2),
            None => (window, at + window.len()),
        };
        scan.line += 1;
        if line.is_empty() {
            scan.finish(at, next, true);
            break;
        }
        if line.len() > LINE_LIMIT {
            scan.fault(Fault::LongLine { line: scan.line });
        }
        if next > limit {
            scan.fault(Fault::TooLarge);
            scan.finish(at, at, false);
            break;
        }
        scan.take(at, line, next);
        at = next;
    }
    scan.header
}

/// Where the CRLF of the first line begins.
fn line_end(window: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = memchr(b'\n', window.get(from..)?) {
        let lf = from + found;
        if lf > 0 && window.get(lf - 1) == Some(&b'\r') {
            return Some(lf - 1);
        }
        from = lf + 1;
    }
    None
}

struct Scan {
    header: Header,
    line: u32,
    /// Whether open braces keep a directive open.
    braces: bool,
    /// The braces of the directive being read.
    open: Option<Braces>,
}

impl Scan {
    fn fault(&mut self, fault: Fault) {
        self.header.fault.get_or_insert(fault);
    }

    /// Takes one line that is not empty.
    fn take(&mut self, at: usize, line: &[u8], next: usize) {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        let inside = self.open.as_ref().is_some_and(Braces::open);
        if folded || inside {
            if let Some(braces) = &mut self.open {
                braces.read(line);
            }
            match self.header.fields.last_mut() {
                Some(field) => field.end = next as u32,
                None => self.fault(Fault::Malformed { line: self.line }),
            }
            return;
        }
        self.open = None;
        match name_and_colon(line) {
            Some((name_end, colon)) => self.field(at, line, (name_end, colon), next),
            None => self.fault(Fault::Malformed { line: self.line }),
        }
    }

    fn field(&mut self, at: usize, line: &[u8], (name_end, colon): (usize, usize), next: usize) {
        let header = &mut self.header;
        let index = header.fields.len();
        let name = line.get(..name_end).unwrap_or_default();
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"from") => {
                header.from.get_or_insert(index);
                header.from_count += 1;
            }
            8 if name.eq_ignore_ascii_case(b"received") => header.received += 1,
            10 if name.eq_ignore_ascii_case(b"message-id") => {
                header.message_id.get_or_insert(index);
            }
            12 if name.eq_ignore_ascii_case(DIRECTIVE_NAME.as_bytes()) => {
                header.directive.get_or_insert(index);
                header.directive_count += 1;
                if self.braces {
                    let mut braces = Braces::default();
                    braces.read(line.get(colon + 1..).unwrap_or_default());
                    self.open = Some(braces);
                }
            }
            _ => {}
        }
        let (start, name_end) = (at as u32, (at + name_end) as u32);
        header.fields.push(Field {
            start,
            name_end,
            body: (at + colon + 1) as u32,
            end: next as u32,
        });
    }

    fn finish(&mut self, end: usize, body: usize, separated: bool) {
        if self.open.as_ref().is_some_and(Braces::open) {
            self.fault(Fault::OpenDirective);
        }
        if self.header.fields.is_empty() {
            self.fault(Fault::Missing);
        }
        self.header.end = end;
        self.header.body = body;
        self.header.separated = separated;
    }
}

/// Splits `name *WSP ":"`: where the name ends and where the colon is. `None`: not a field.
fn name_and_colon(line: &[u8]) -> Option<(usize, usize)> {
    let name_end = line
        .iter()
        .position(|&b| b == b':' || !(33..=126).contains(&b))?;
    let blanks = line
        .get(name_end..)?
        .iter()
        .position(|&b| b != b' ' && b != b'\t')?;
    let colon = name_end + blanks;
    (name_end > 0 && line.get(colon) == Some(&b':')).then_some((name_end, colon))
}

/// Counts the braces of a JSON text that comes in pieces; those inside strings do not count.
#[derive(Default)]
struct Braces {
    depth: u32,
    string: bool,
    escape: bool,
}

impl Braces {
    fn open(&self) -> bool {
        self.depth > 0
    }

    fn read(&mut self, line: &[u8]) {
        for &b in line {
            match b {
                _ if self.escape => self.escape = false,
                b'\\' if self.string => self.escape = true,
                b'"' => self.string = !self.string,
                _ if self.string => {}
                b'{' => self.depth = self.depth.saturating_add(1),
                b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
