//! What a sink remembers: sessions, commands and messages, to the octet.

use std::net::SocketAddr;

/// Sessions remembered; later ones are only counted.
const MAX_SESSIONS: usize = 100_000;
/// Commands remembered of one session.
const MAX_COMMANDS: usize = 10_000;
/// Messages remembered in all; later ones are only counted.
const MAX_MESSAGES: usize = 100_000;
/// Octets of content kept in all.
const MAX_KEPT: usize = 512 * 1024 * 1024;

/// One connection.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// From 1, in the order of connecting.
    pub number: usize,
    pub peer: SocketAddr,
    /// The last name given in EHLO or HELO.
    pub ehlo: String,
    /// Whether it is or became encrypted.
    pub tls: bool,
    /// The login it proved.
    pub login: Option<String>,
    /// The commands as they came, without line ends; secrets of AUTH included, as tests need them.
    pub commands: Vec<String>,
    /// It sent more behind EHLO, DATA or STARTTLS without waiting for the reply.
    pub talked_early: bool,
    /// The connection has ended.
    pub ended: bool,
}

/// One message that reached its end of data.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    /// Number of its session.
    pub session: usize,
    pub peer: SocketAddr,
    pub ehlo: String,
    pub tls: bool,
    pub login: Option<String>,
    /// Address without brackets; empty for the null sender.
    pub sender: String,
    /// The accepted recipients, without brackets.
    pub recipients: Vec<String>,
    /// MAIL and the accepted RCPT commands, as they came.
    pub envelope: Vec<String>,
    /// The content, dot-stuffing undone, octet for octet. Empty if the sink keeps none.
    pub content: Vec<u8>,
    /// Octets of the content.
    pub size: u64,
    /// It came by BDAT.
    pub chunked: bool,
    /// What was said at the end; empty: nothing.
    pub reply: String,
    /// The reply was 2xx.
    pub accepted: bool,
}

/// All that a sink saw.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub sessions: Vec<SessionRecord>,
    pub messages: Vec<MessageRecord>,
    /// Connections in all.
    pub connected: usize,
    /// Messages accepted in all.
    pub accepted: u64,
    kept: usize,
}

impl Book {
    /// Enters a session and gives its number.
    pub fn open(&mut self, peer: SocketAddr, tls: bool) -> usize {
        self.connected += 1;
        let number = self.connected;
        if self.sessions.len() < MAX_SESSIONS {
            self.sessions.push(SessionRecord {
                number,
                peer,
                ehlo: String::new(),
                tls,
                login: None,
                commands: Vec::new(),
                talked_early: false,
                ended: false,
            });
        }
        number
    }

    /// The session of that number, if it is remembered.
    pub fn session(&mut self, number: usize) -> Option<&mut SessionRecord> {
        self.sessions.get_mut(number.checked_sub(1)?)
    }

    /// Remembers a command.
    pub fn command(&mut self, number: usize, line: &str) {
        if let Some(session) = self.session(number)
            && session.commands.len() < MAX_COMMANDS
        {
            session.commands.push(line.to_owned());
        }
    }

    /// Remembers a message.
    pub fn message(&mut self, mut message: MessageRecord) {
        self.accepted += u64::from(message.accepted);
        if self.messages.len() >= MAX_MESSAGES {
            return;
        }
        if self.kept + message.content.len() > MAX_KEPT {
            message.content = Vec::new();
        }
        self.kept += message.content.len();
        self.messages.push(message);
    }

    /// Forgets everything but the count of connections.
    pub fn clear(&mut self) {
        let connected = self.connected;
        // Sessions are found by their number, so those that go on keep their place.
        self.messages.clear();
        self.kept = 0;
        self.accepted = 0;
        self.connected = connected;
        for session in &mut self.sessions {
            session.commands.clear();
        }
    }
}
