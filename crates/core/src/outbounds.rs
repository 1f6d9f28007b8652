//! The addresses of `[IP]`, or some of them in some order: one list, shared by all who look at it,
//! so that a decision among hundreds of them copies none.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use crate::settings::OutboundIp;

/// Local addresses in the order in which they are given. A copy costs nothing.
#[derive(Clone, Default)]
pub struct Outbounds(Arc<List>);

#[derive(Default)]
struct List {
    given: Vec<Arc<OutboundIp>>,
    /// Address and place in `given`, by address.
    places: Vec<(Place, usize)>,
}

/// An address as it is compared, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u128);

impl Place {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            // No address of a host begins with sixty-four ones.
            IpAddr::V4(v4) => Place(u128::from(u64::MAX) << 64 | u128::from(v4.to_bits())),
            IpAddr::V6(v6) => Place(v6.to_bits()),
        }
    }
}

impl Outbounds {
    /// Where an address stands.
    pub fn place(&self, address: IpAddr) -> Option<usize> {
        let wanted = Place::of(address);
        let found = self.0.places.binary_search_by_key(&wanted, |(at, _)| *at);
        let (_, place) = self.0.places.get(found.ok()?)?;
        Some(*place)
    }

    /// The outbound of an address.
    pub fn find(&self, address: IpAddr) -> Option<&Arc<OutboundIp>> {
        self.0.given.get(self.place(address)?)
    }

    /// Those of the addresses that are here, in the order in which they stand here.
    pub fn among(&self, addresses: &[IpAddr]) -> Outbounds {
        let mut places: Vec<usize> = addresses.iter().filter_map(|a| self.place(*a)).collect();
        places.sort_unstable();
        places.dedup();
        self.at(&places)
    }

    /// Those of the addresses that are here, in the order of the addresses.
    pub fn in_order_of(&self, addresses: &[IpAddr]) -> Outbounds {
        let mut places: Vec<usize> = Vec::with_capacity(addresses.len());
        for place in addresses.iter().filter_map(|a| self.place(*a)) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        self.at(&places)
    }

    fn at(&self, places: &[usize]) -> Outbounds {
        let is_whole = places.len() == self.len() && places.is_sorted();
        match is_whole {
            true => self.clone(),
            false => places
                .iter()
                .filter_map(|place| self.0.given.get(*place).cloned())
                .collect(),
        }
    }

    /// Whether it is a copy of the other.
    pub(crate) fn is_same(&self, other: &Outbounds) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Address and place, by address.
    pub(crate) fn places(&self) -> &[(Place, usize)] {
        &self.0.places
    }
}

impl Deref for Outbounds {
    type Target = [Arc<OutboundIp>];

    fn deref(&self) -> &Self::Target {
        &self.0.given
    }
}

impl From<Vec<Arc<OutboundIp>>> for Outbounds {
    fn from(given: Vec<Arc<OutboundIp>>) -> Self {
        let all = given.iter().enumerate();
        let mut places: Vec<_> = all.map(|(i, o)| (Place::of(o.address), i)).collect();
        // Entered twice, it stands where it stood first.
        places.sort_unstable();
        places.dedup_by_key(|(at, _)| *at);
        Outbounds(Arc::new(List { given, places }))
    }
}

impl FromIterator<Arc<OutboundIp>> for Outbounds {
    fn from_iter<I: IntoIterator<Item = Arc<OutboundIp>>>(all: I) -> Self {
        all.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Outbounds {
    type Item = &'a Arc<OutboundIp>;
    type IntoIter = std::slice::Iter<'a, Arc<OutboundIp>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Outbounds {
    /// The same addresses in the same order.
    fn eq(&self, other: &Self) -> bool {
        let addresses = |list: &Outbounds| list.0.given.len();
        Arc::ptr_eq(&self.0, &other.0)
            || (addresses(self) == addresses(other)
                && self.iter().zip(other).all(|(a, b)| a.address == b.address))
    }
}

impl Eq for Outbounds {}

impl std::hash::Hash for Outbounds {
    /// Length and first address spread them well enough.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.first().map(|o| o.address).hash(state);
    }
}

impl std::fmt::Debug for Outbounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ip, ips, outbound};

    fn all() -> Outbounds {
        let given = [
            "192.0.2.11",
            "2001:db8::10",
            "192.0.2.10",
            "::ffff:192.0.2.11",
        ];
        given.iter().map(|a| outbound(a, "mta")).collect()
    }

    fn shown(list: &Outbounds) -> Vec<String> {
        list.iter().map(|o| o.address.to_string()).collect()
    }

    #[test]
    fn conf_45_route_3_addresses_are_found_and_keep_their_order() {
        let all = all();
        assert_eq!(all.place(ip("192.0.2.10")), Some(2));
        assert_eq!(all.place(ip("2001:db8::10")), Some(1));
        assert_eq!(
            all.place(ip("::ffff:192.0.2.11")),
            Some(3),
            "no IPv4 address"
        );
        assert_eq!(all.place(ip("192.0.2.12")), None);
        let some = ips("192.0.2.10 192.0.2.99 192.0.2.11 192.0.2.10");
        assert_eq!(shown(&all.among(&some)), ["192.0.2.11", "192.0.2.10"]);
        assert_eq!(shown(&all.in_order_of(&some)), ["192.0.2.10", "192.0.2.11"]);
        assert!(all.among(&[]).is_empty());
    }

    #[test]
    fn conf_45_all_of_them_are_the_same_list() {
        let all = all();
        let addresses: Vec<IpAddr> = all.iter().rev().map(|o| o.address).collect();
        assert!(Arc::ptr_eq(&all.among(&addresses).0, &all.0));
        assert_ne!(all.in_order_of(&addresses), all);
        assert_eq!(all, self::all());
    }
}
