//! The relay service: mail of a sender domain that goes to one target in place of the recipient's
//! MX (ROUTE-44 to ROUTE-59). It comes before all other routes, so that no single message can
//! avoid it; only the configuration sets it (ROUTE-51).

use std::sync::Arc;
use std::time::Duration;

use galerne_smtp::{Mailbox, ReversePath};

use crate::settings::RelayService;

/// Most addresses that may restrict a service (ROUTE-47).
pub const MOST_ADDRESSES: usize = 10;

/// How long an accepted message is tried again after temporary errors of the target (ROUTE-55).
pub const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// The pause after the `tries`-th try of an accepted message of this age, when the target refused
/// for now; `None`: it is over, a soft bounce (ROUTE-56). In the client's session there is no
/// second try: the error goes back at once.
pub fn pause(tries: u32, age: Duration) -> Option<Duration> {
    let doublings = tries.clamp(1, 5) - 1;
    let minutes = (5u64 << doublings).min(60);
    (age < LONGEST).then(|| Duration::from_secs(minutes * 60))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_55_route_56_steps_that_double_then_hours_until_two_days() {
        let minutes = |tries, age| pause(tries, Duration::from_secs(age)).map(|p| p.as_secs() / 60);
        let first: Vec<_> = (1..=7).filter_map(|tries| minutes(tries, 0)).collect();
        assert_eq!(first, [5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(minutes(50, 48 * 3600 - 1), Some(60));
        assert_eq!(minutes(50, 48 * 3600), None);
    }
}
