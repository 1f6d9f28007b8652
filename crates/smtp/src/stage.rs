//! The steps of an SMTP dialogue.

/// The step of a dialogue at which something happened (CONF-71, `rfstp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Connect,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Dot,
    Rset,
    Quit,
}

impl Stage {
    /// The word used in logs: `CONNECT`, `EHLO`, …
    pub fn word(self) -> &'static str {
        match self {
            Stage::Connect => "CONNECT",
            Stage::Ehlo => "EHLO",
            Stage::StartTls => "STARTTLS",
            Stage::Auth => "AUTH",
            Stage::Mail => "MAIL",
            Stage::Rcpt => "RCPT",
            Stage::Data => "DATA",
            Stage::Dot => "DOT",
            Stage::Rset => "RSET",
            Stage::Quit => "QUIT",
        }
    }
}
