//! The trace field that a relay may put in front of a message (RELAY-23, RFC 5321 §4.4).

use std::net::IpAddr;
use std::time::SystemTime;

/// What one `Received` field says. Nothing in it is secret: no login, no account.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// The name the client gave in EHLO or HELO.
    pub helo: &'a str,
    pub peer: IpAddr,
    /// Our own name.
    pub by: &'a str,
    /// `ESMTP`, `ESMTPS`, `ESMTPSA` … (RFC 3848).
    pub with: &'static str,
    /// The id of the message.
    pub id: &'a str,
    /// The recipient, only when there is exactly one.
    pub recipient: Option<&'a str>,
    pub at: SystemTime,
}
