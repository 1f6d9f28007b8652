//! The content of a message while it is being relayed, and what of it goes out.

use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Where the part of a message is that is not held in memory.
pub trait Spill: Send + Sync {
    /// Reads at `offset` (counted from the start of the spilled part); 0 is the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Octets spilled.
    fn len(&self) -> u64;
    /// Whether nothing was spilled.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message as received: dot-stuffing undone, otherwise octet for octet.
#[derive(Clone)]
pub struct Content {
    /// The first part. It always holds the whole header (a longer header is refused).
    pub memory: Arc<Vec<u8>>,
    /// The rest, when the message is larger than what is kept in memory.
    pub spill: Option<Arc<dyn Spill>>,
}

impl Content {
    /// A message held in memory whole.
    pub fn in_memory(octets: Vec<u8>) -> Self {
        Content {
            memory: Arc::new(octets),
            spill: None,
        }
    }

    /// Octets in all.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64 + self.spill.as_ref().map_or(0, |s| s.len())
    }

    /// Whether the message has no octet at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content itself (CONF-90).
        write!(f, "Content({} octets)", self.len())
    }
}

/// What goes out: `prefix` (trace and signature fields), then the content without `cuts`.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Whole fields with their CRLF, put in front.
    pub prefix: Vec<u8>,
    /// Ranges of `Content::memory` left out: the directive. Ascending, disjoint.
    pub cuts: Vec<Range<usize>>,
}

/// What is left of `0..length` without the cuts.
pub fn kept(length: usize, cuts: &[Range<usize>]) -> impl Iterator<Item = Range<usize>> {
    let starts = std::iter::once(0).chain(cuts.iter().map(|cut| cut.end));
    let ends = cuts
        .iter()
        .map(|cut| cut.start)
        .chain(std::iter::once(length));
    starts
        .zip(ends)
        .map(|(start, end)| start..end)
        .filter(|range| range.start < range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_27_what_is_left_is_all_but_the_cut() {
        let all = |length, cuts: &[(usize, usize)]| {
            let cuts: Vec<_> = cuts.iter().map(|&(start, end)| start..end).collect();
            let left = kept(length, &cuts).map(|range| (range.start, range.end));
            left.collect::<Vec<_>>()
        };
        assert_eq!(all(10, &[]), [(0, 10)]);
        assert_eq!(all(10, &[(0, 3)]), [(3, 10)]);
        assert_eq!(all(10, &[(3, 5)]), [(0, 3), (5, 10)]);
        assert_eq!(all(10, &[(3, 5), (8, 10)]), [(0, 3), (5, 8)]);
    }
}
