//! Mailboxes and paths (RFC 5321 §4.1.2, RFC 6531 §3.3), kept exactly as they were written.

use std::fmt;

/// One mailbox, `local@domain`, in the octets the client wrote: case, quotes and all.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    text: Box<str>,
    at: usize,
}

impl Mailbox {
    /// The whole address as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part as written, with its quotes if it has any.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or("")
    }

    /// The domain as written; an address literal keeps its brackets.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or("")
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

/// The sender of an envelope: a mailbox, or the null sender `<>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `MAIL FROM:<>`: a notification that must never cause another.
    Null,
    /// An ordinary sender.
    Mailbox(Mailbox),
}
