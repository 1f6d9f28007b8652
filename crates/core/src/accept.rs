//! What is decided at the end of data, before any server is asked: the content itself.
//!
//! `inbound::reception` calls [`examine`] once for each message. The message is never altered;
//! what comes back says which octets are left out and what is put in front.

use galerne_mail::trace::Trace;
use galerne_smtp::Mailbox;

use crate::content::Patch;
use crate::directive::Directive;
use crate::refusal::Refusal;
use crate::settings::Account;

/// What the decision needs to know besides the octets.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// The account of the client; `None`: unauthenticated.
    pub account: Option<&'a Account>,
    /// The envelope sender is `<>`.
    pub null_sender: bool,
    /// The data codec saw a bare CR, a bare LF or a NUL that the policy does not let through.
    pub bare: bool,
    /// The octets are only the first part of the message.
    pub has_more: bool,
    /// `[rfrelay]keepdirective` (RELAY-26).
    pub keep_directive: bool,
    /// Our own name, by which we know our own trace fields.
    pub own_name: &'a str,
    /// With `[rfrelay]received` = 1: the trace field to put in front (RELAY-23).
    pub trace: Option<&'a Trace<'a>>,
}

/// An accepted message.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// The directive; empty for a message without one and for an unauthenticated client.
    pub directive: Directive,
    /// What goes out of the content.
    pub patch: Patch,
    /// The first mailbox of the From field.
    pub header_from: Option<Mailbox>,
    /// Number of `Received` fields found.
    pub received_count: u32,
    /// The Message-ID as written, for logs: printable ASCII, at most 255 octets.
    pub message_id: Option<String>,
}

/// Examines the first part of a message, which must hold its header.
pub fn examine(octets: &[u8], circumstances: &Circumstances<'_>) -> Result<Examined, Refusal> {
    let _ = (octets, circumstances);
    Ok(Examined::default())
}
