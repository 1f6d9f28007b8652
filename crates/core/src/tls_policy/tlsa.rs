//! TLSA records (RFC 6698) as SMTP uses them (RFC 7672): which of them can be used.

use sha2::{Digest, Sha256, Sha512};

/// A record as published.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsaRecord {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    pub data: Vec<u8>,
}

/// Which certificate of the chain a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// 2, DANE-TA: an authority above the server's certificate, which must verify under it.
    Authority,
    /// 3, DANE-EE: the server's own certificate; its names and dates say nothing (RFC 7672 §3.1.1).
    Server,
}

/// Which part of the certificate is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// 0: all of it.
    Whole,
    /// 1: its public key.
    Key,
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matching {
    /// 0: the octets themselves.
    Exact,
    /// 1.
    Sha256,
    /// 2.
    Sha512,
}

/// A record that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    pub usage: Usage,
    pub selector: Selector,
    pub matching: Matching,
    pub data: Vec<u8>,
}

impl Tlsa {
    /// Whether it is about this certificate, given whole and its public key, both in DER.
    pub fn matches(&self, whole: &[u8], key: &[u8]) -> bool {
        let part = match self.selector {
            Selector::Whole => whole,
            Selector::Key => key,
        };
        match self.matching {
            Matching::Exact => self.data == part,
            Matching::Sha256 => self.data == Sha256::digest(part).as_slice(),
            Matching::Sha512 => self.data == Sha512::digest(part).as_slice(),
        }
    }
}

/// The usable records of one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsaSet {
    /// At least one.
    pub records: Vec<Tlsa>,
    /// Names of which one must stand in a certificate under a DANE-TA record: the TLSA base
    /// domain and the MX host (RFC 7672 §3.2.2).
    pub names: Vec<String>,
}

/// Most records of a host that are looked at.
const MOST: usize = 64;

/// The usable ones among `records`; `None`: there are records, and none is of use.
///
/// The usages 0 and 1 are of no use for SMTP (RFC 7672 §3.1.3), nor is a parameter that nobody
/// has defined, nor a digest of the wrong length. Of several digests for the same thing only the
/// strongest counts (RFC 7671 §9).
pub fn usable(records: &[TlsaRecord], names: Vec<String>) -> Option<TlsaSet> {
    let known: Vec<Tlsa> = records.iter().take(MOST).filter_map(read).collect();
    let stronger = |one: &Tlsa| {
        one.matching == Matching::Sha256
            && known.iter().any(|other| {
                (other.usage, other.selector) == (one.usage, one.selector)
                    && other.matching == Matching::Sha512
            })
    };
    let records: Vec<Tlsa> = known.iter().filter(|r| !stronger(r)).cloned().collect();
    (!records.is_empty()).then_some(TlsaSet { records, names })
}

fn read(record: &TlsaRecord) -> Option<Tlsa> {
    let usage = match record.usage {
        2 => Usage::Authority,
        3 => Usage::Server,
        _ => return None,
    };
    let selector = match record.selector {
        0 => Selector::Whole,
        1 => Selector::Key,
        _ => return None,
    };
    let matching = match (record.matching, record.data.len()) {
        (0, 1..) => Matching::Exact,
        (1, 32) => Matching::Sha256,
        (2, 64) => Matching::Sha512,
        _ => return None,
    };
    Some(Tlsa {
        usage,
        selector,
        matching,
        data: record.data.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, length: usize) -> TlsaRecord {
        TlsaRecord {
            usage,
            selector,
            matching,
            data: vec![7; length],
        }
    }

    fn kept(records: &[TlsaRecord]) -> usize {
        usable(records, Vec::new()).map_or(0, |set| set.records.len())
    }

    #[test]
    fn t_16_what_cannot_be_used_is_left_out() {
        for good in [
            record(3, 1, 1, 32),
            record(3, 0, 2, 64),
            record(2, 0, 0, 700),
            record(2, 1, 1, 32),
        ] {
            assert_eq!(kept(&[good]), 1);
        }
        for bad in [
            record(0, 0, 1, 32),
            record(1, 1, 1, 32),
            record(4, 1, 1, 32),
            record(3, 2, 1, 32),
            record(3, 1, 3, 32),
            record(3, 1, 1, 31),
            record(3, 1, 2, 32),
            record(3, 1, 0, 0),
        ] {
            assert_eq!(kept(std::slice::from_ref(&bad)), 0, "{bad:?}");
            assert_eq!(kept(&[bad, record(3, 1, 1, 32)]), 1, "the others stay");
        }
    }

    #[test]
    fn t_16_of_several_digests_the_strongest_counts() {
        let set = usable(
            &[
                record(3, 1, 1, 32),
                record(3, 1, 2, 64),
                record(3, 0, 1, 32),
                record(2, 1, 1, 32),
                record(3, 1, 0, 90),
            ],
            Vec::new(),
        );
        let kept = set.map(|s| {
            let parts = s.records.iter().map(|r| (r.usage, r.selector, r.matching));
            parts.collect::<Vec<_>>()
        });
        assert_eq!(
            kept,
            Some(vec![
                (Usage::Server, Selector::Key, Matching::Sha512),
                (Usage::Server, Selector::Whole, Matching::Sha256),
                (Usage::Authority, Selector::Key, Matching::Sha256),
                (Usage::Server, Selector::Key, Matching::Exact),
            ])
        );
    }

    #[test]
    fn t_16_each_selector_and_each_digest_compares_the_right_octets() {
        let (whole, key) = (b"certificate".as_slice(), b"key".as_slice());
        let of = |selector, matching, data: Vec<u8>| Tlsa {
            usage: Usage::Server,
            selector,
            matching,
            data,
        };
        for (selector, part) in [(Selector::Whole, whole), (Selector::Key, key)] {
            for (matching, data) in [
                (Matching::Exact, part.to_vec()),
                (Matching::Sha256, Sha256::digest(part).to_vec()),
                (Matching::Sha512, Sha512::digest(part).to_vec()),
            ] {
                let record = of(selector, matching, data);
                assert!(record.matches(whole, key), "{record:?}");
                assert!(!record.matches(b"other", b"other"), "{record:?}");
            }
        }
        assert!(!of(Selector::Key, Matching::Exact, whole.to_vec()).matches(whole, key));
    }
}
