//! Which recipients of a message share one outbound transaction (RELAY-20).

use crate::model::Plan;

/// Most recipients of one outbound transaction.
pub const MOST: usize = 100;

/// One recipient to bundle.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    pub plan: &'a Plan,
    /// What names the next hop: equal keys have the same remotes. For MX the hosts in order of
    /// preference (or the domain), for a relay host its name.
    pub next_hop_key: &'a str,
}

/// Indices of `planned` in bundles of at most `MOST`, in the order of their first members.
pub fn bundles(_planned: &[Planned<'_>]) -> Vec<Vec<usize>> {
    todo!()
}
