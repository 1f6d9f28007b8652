//! Replies: a code and one or more lines of text, in both directions.

/// An enhanced status code (RFC 3463), or our own class 9 (RELAY-81).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u16, pub u16, pub u16);

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
        let text = text.as_ref().iter().map(|&b| if b == b'\r' || b == 0 { b'?' } else { b }).collect();
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
}
