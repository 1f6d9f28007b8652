//! The relay service: mail of a sender domain that goes to one target in place of the recipient's
//! MX (ROUTE-44 to ROUTE-59). It comes before all other routes, so that no single message can
//! avoid it; only the configuration sets it (ROUTE-51).

use std::sync::Arc;

use galerne_smtp::{Mailbox, ReversePath};

use crate::settings::RelayService;

/// Most addresses that may restrict a service (ROUTE-47).
pub const MOST_ADDRESSES: usize = 10;

/// What becomes of the client's MAIL FROM on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    /// `envelopefrom` puts another in its place.
    Rewritten,
}

/// The service for a sender: by the client's MAIL FROM and, if that is null or rewritten, by the
/// From field as well (ROUTE-48).
pub fn find<'a>(
    services: &'a [Arc<RelayService>],
    sender: &ReversePath,
    fate: Fate,
    header_from: Option<&Mailbox>,
) -> Option<&'a RelayService> {
    let of = |address: &Mailbox| {
        services
            .iter()
            .find(|s| s.covers(address))
            .map(AsRef::as_ref)
    };
    let envelope = sender.mailbox();
    if let Some(service) = envelope.and_then(of) {
        return Some(service);
    }
    match (envelope, fate) {
        (Some(_), Fate::Kept) => None,
        _ => header_from.and_then(of),
    }
}

impl RelayService {
    /// Whether this sender is meant; case does not matter.
    fn covers(&self, address: &Mailbox) -> bool {
        let same = |other: &Mailbox| other.as_str().eq_ignore_ascii_case(address.as_str());
        address.ascii_domain().eq_ignore_ascii_case(&self.domain)
            && (self.addresses.is_empty() || self.addresses.iter().any(same))
    }
}
