//! Delivery status notifications (RFC 3461, 3462, 3464): RET-37 to RET-39.

use std::time::SystemTime;

/// What became of a recipient, the word of the `Action` field (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Failed,
    Delayed,
    Delivered,
    Relayed,
}

/// One recipient of a notification.
#[derive(Clone, Debug)]
pub struct ReportedRecipient {
    /// (type, address) of ORCPT, decoded from xtext.
    pub original: Option<(String, String)>,
    /// The address of RCPT.
    pub recipient: String,
    pub action: Action,
    /// `5.1.1`, `4.4.7` …
    pub status: String,
    /// The name of the server that spoke; `None`: nobody did.
    pub remote: Option<String>,
    /// Its reply: code and lines joined with blanks; our own words where nobody spoke.
    pub diagnostic: String,
    pub last_attempt: SystemTime,
}

/// What of the original message comes back (RET of RFC 3461 §4.3).
#[derive(Clone, Copy, Debug)]
pub enum Returned<'a> {
    /// The whole message.
    Full(&'a [u8]),
    /// The header section of this message.
    Headers(&'a [u8]),
}

/// A notification as plain values.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Unique; makes the boundary and the Message-ID. Only letters and digits of it are used.
    pub id: &'a str,
    /// Our own name.
    pub reporting_mta: &'a str,
    /// The notification comes from `postmaster@` this domain.
    pub from_domain: &'a str,
    /// The envelope sender of the original: who is told.
    pub to: &'a str,
    /// ENVID, decoded from xtext.
    pub envid: Option<&'a str>,
    /// When the original came.
    pub arrival: SystemTime,
    pub now: SystemTime,
    pub recipients: &'a [ReportedRecipient],
    pub returned: Returned<'a>,
}

/// The whole notification, header and body. Lines end with CRLF.
pub fn build(report: &Report<'_>) -> Vec<u8> {
    let _ = report;
    Vec::new()
}
