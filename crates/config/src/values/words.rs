//! The words of routing and of the relay.

use galerne_core::settings::{BareLf, EhloName, EnvelopeFrom, Mode, Sign, Ssl};

use super::{Read, domain, flag, mailbox};

/// QUEUE-1.
pub fn mode(value: &str) -> Read<Mode> {
    match value.to_ascii_lowercase().as_str() {
        "sync" => Ok(Mode::Sync),
        "queue" => Ok(Mode::Queue),
        "auto" => Ok(Mode::Auto),
        _ => Err("expected sync, queue or auto".into()),
    }
}

/// `barelf` (RELAY-18).
pub fn barelf(value: &str) -> Read<BareLf> {
    match value.to_ascii_lowercase().as_str() {
        "reject" => Ok(BareLf::Reject),
        "normalise" | "normalize" => Ok(BareLf::Normalise),
        "pass" => Ok(BareLf::Pass),
        _ => Err("expected reject, normalise or pass".into()),
    }
}

/// `sign` (RELAY-48, RELAY-49).
pub fn sign(value: &str) -> Read<Sign> {
    match value.to_ascii_lowercase().as_str() {
        "from" => Ok(Sign::From),
        "envelope" => Ok(Sign::Envelope),
        "both" => Ok(Sign::Both),
        "none" => Ok(Sign::None),
        word => match flag(word) {
            Ok(true) => Ok(Sign::From),
            Ok(false) => Ok(Sign::None),
            Err(_) => Err("expected from, envelope, both, none or a flag".into()),
        },
    }
}

/// `ssl` (RELAY-54, RELAY-55).
pub fn ssl(value: &str) -> Read<Ssl> {
    match value.to_ascii_lowercase().as_str() {
        "required" => Ok(Ssl::Required),
        word => match flag(word) {
            Ok(true) => Ok(Ssl::Opportunistic),
            Ok(false) => Ok(Ssl::Never),
            Err(_) => Err("expected a flag or required".into()),
        },
    }
}

/// `ehlo` (RELAY-44).
pub fn ehlo(value: &str) -> Read<EhloName> {
    match value.eq_ignore_ascii_case("@rdns") {
        true => Ok(EhloName::Rdns),
        false => domain(value)
            .map(EhloName::Name)
            .map_err(|_| "expected a host name or @rdns".into()),
    }
}

/// `envelopefrom` (RELAY-45).
pub fn envelopefrom(value: &str) -> Read<EnvelopeFrom> {
    match value.to_ascii_lowercase().as_str() {
        "@mailfrom" => Ok(EnvelopeFrom::MailFrom),
        "@verp" => Ok(EnvelopeFrom::Verp),
        "@from" => Ok(EnvelopeFrom::From),
        _ => mailbox(value)
            .map(EnvelopeFrom::Address)
            .map_err(|_| "expected @mailfrom, @verp, @from or an address".into()),
    }
}
