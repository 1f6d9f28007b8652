//! The command lines of a transaction. Nothing that comes from outside can end one (T-05).

use std::io::Write as _;

use super::{Transaction, TxRecipient};
use crate::address::ReversePath;
use crate::ehlo::Capabilities;
use crate::xtext;

/// Whether an address can stand between `<` and `>` without changing the command: no control
/// character, no blank and no angle bracket but in quotes, and quotes that end.
pub fn is_safe(address: &str) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for b in address.bytes() {
        match b {
            0..=0x1f | 0x7f => return false,
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b' ' | b'<' | b'>' if !quoted => return false,
            _ => {}
        }
    }
    !quoted && !escaped && !address.is_empty()
}

/// The address of a reverse path; empty for the null sender.
pub fn sender_text(path: &ReversePath) -> &str {
    match path {
        ReversePath::Null => "",
        ReversePath::Mailbox(mailbox) => mailbox.as_str(),
    }
}

/// Whether the transaction cannot be done without SMTPUTF8.
pub fn needs_smtputf8(transaction: &Transaction) -> bool {
    transaction.smtputf8
        || !sender_text(&transaction.sender).is_ascii()
        || transaction
            .recipients
            .iter()
            .any(|recipient| !recipient.mailbox.as_str().is_ascii())
}

/// MAIL with the parameters that the remote knows.
pub fn mail(transaction: &Transaction, offers: &Capabilities, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MAIL FROM:<");
    out.extend_from_slice(sender_text(&transaction.sender).as_bytes());
    out.push(b'>');
    if offers.size.is_some() && transaction.size > 0 {
        // Writing to a Vec cannot fail.
        let _ = write!(out, " SIZE={}", transaction.size);
    }
    if offers.eight_bit_mime && transaction.eight_bit {
        out.extend_from_slice(b" BODY=8BITMIME");
    }
    if offers.smtputf8 && needs_smtputf8(transaction) {
        out.extend_from_slice(b" SMTPUTF8");
    }
    if transaction.requiretls && offers.requiretls {
        out.extend_from_slice(b" REQUIRETLS");
    }
    if offers.dsn {
        match transaction.ret {
            Some("FULL") => out.extend_from_slice(b" RET=FULL"),
            Some("HDRS") => out.extend_from_slice(b" RET=HDRS"),
            _ => {}
        }
        if let Some(envid) = transaction
            .envid
            .as_deref()
            .filter(|envid| !envid.is_empty())
        {
            out.extend_from_slice(b" ENVID=");
            out.extend_from_slice(xtext::encode(envid).as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// RCPT with the parameters that the remote knows.
pub fn rcpt(recipient: &TxRecipient, offers: &Capabilities, out: &mut Vec<u8>) {
    out.extend_from_slice(b"RCPT TO:<");
    out.extend_from_slice(recipient.mailbox.as_str().as_bytes());
    out.push(b'>');
    if offers.dsn {
        let word = |b: u8| b.is_ascii_alphabetic() || b == b',';
        let graphic = |b: u8| b.is_ascii_graphic();
        let orcpt = recipient
            .orcpt
            .as_deref()
            .and_then(|orcpt| orcpt.split_once(';'));
        let orcpt = orcpt.map(|(kind, address)| xtext::encode_orcpt(kind, address));
        parameter(b" NOTIFY=", recipient.notify.as_deref(), word, out);
        parameter(b" ORCPT=", orcpt.as_deref(), graphic, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// A parameter, unless its value has an octet that cannot stand there.
fn parameter(name: &[u8], value: Option<&str>, allowed: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    if let Some(value) = value.filter(|value| !value.is_empty() && value.bytes().all(allowed)) {
        out.extend_from_slice(name);
        out.extend_from_slice(value.as_bytes());
    }
}

/// EHLO or HELO; a name that cannot stand in a command loses the octets that are in the way.
pub fn hello(verb: &[u8], name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(verb);
    out.push(b' ');
    let before = out.len();
    out.extend(name.bytes().filter(u8::is_ascii_graphic));
    if out.len() == before {
        out.extend_from_slice(b"localhost");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_05_addresses_that_would_change_the_command_are_not_safe() {
        for address in [
            "a@b.example",
            "\"a b\"@c.example",
            "\"a>b\\\"<\"@c.example",
            "a@[192.0.2.1]",
            "jürgen@b.example",
        ] {
            assert!(is_safe(address), "{address}");
        }
        for address in [
            "",
            "a@b\r\nRCPT TO:<x@y>",
            "a\0@b",
            "a@b> SIZE=1",
            "a b@c",
            "<a@b",
            "\"a@b",
            "\"a\\\"@b",
            "\"a\r\n\"@b",
            "a\x7f@b",
            "\"a\\\r\n\"@b",
        ] {
            assert!(!is_safe(address), "{address:?}");
        }
    }

    #[test]
    fn t_05_the_name_in_ehlo_cannot_end_the_line() {
        let mut out = Vec::new();
        hello(b"EHLO", "mta\r\nMAIL x", &mut out);
        assert_eq!(out, b"EHLO mtaMAILx\r\n");
        out.clear();
        hello(b"EHLO", "\r\n", &mut out);
        assert_eq!(out, b"EHLO localhost\r\n");
    }
}
