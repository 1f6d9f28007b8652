//! The mailbox of a From field (RFC 5322 §3.4), for `@from` and `granted_from_addr`.

use galerne_smtp::Mailbox;

/// The first mailbox of the body of a From field; `None`: it has none that could exist.
pub fn first_mailbox(body: &[u8]) -> Option<Mailbox> {
    let _ = body;
    None
}
