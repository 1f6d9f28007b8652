//! Which destination group a domain belongs to (FLOW-1, FLOW-53 to FLOW-58).
//!
//! Nothing is resolved here: the caller looks up the MX and hands the names over. It also records
//! what was learned in the group's files (FLOW-53, FLOW-59).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::glob::{Glob, fold};
use crate::settings::Group;

/// The group found for a domain, and why.
#[derive(Clone, Debug)]
pub struct Detected {
    pub group: Arc<Group>,
    why: Why,
    /// The MX decided and the domain is not in the group's alias file yet: record it (FLOW-53).
    pub learned_alias: bool,
}

/// Why a domain belongs to its group. It becomes text only where somebody reads it.
#[derive(Clone, Debug)]
enum Why {
    Alias(&'static str),
    Mx { host: String, pattern: Arc<str> },
    CatchAll(&'static str),
}

impl Detected {
    /// The rule, for logs and `explain`, for the domain that was asked for.
    pub fn rule(&self, domain: &str) -> String {
        let file = &self.group.file;
        match &self.why {
            Why::Alias(why) => format!("alias {} of {file}: {why}", fold(domain)),
            Why::Mx { host, pattern } => format!("MX {host} matches {pattern} of {file}"),
            Why::CatchAll(why) => format!("catch-all {file}: {why}"),
        }
    }
}

/// All groups of one settings snapshot, prepared for look-ups. Built once, shared.
#[derive(Clone, Debug)]
pub struct GroupIndex {
    catch_all: Arc<Group>,
    /// Domain of an alias file → its group; of several the first by file name.
    aliases: HashMap<String, Alias>,
    /// The same for groups with `relay = 1`.
    relay_aliases: HashMap<String, Arc<Group>>,
    /// MX patterns by the literal that matching names end with.
    patterns: HashMap<String, Vec<MxPattern>>,
    /// The lengths of the keys of `patterns`, in octets.
    tail_lengths: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
struct Alias {
    /// The first group by file name that lists the domain.
    first: Arc<Group>,
    /// The first of them with `cache = 1`.
    cached: Option<Arc<Group>>,
    /// Every group that lists the domain.
    all: Vec<Arc<Group>>,
}

#[derive(Clone, Debug)]
struct MxPattern {
    text: Arc<str>,
    glob: Glob,
    group: Arc<Group>,
}

impl MxPattern {
    /// Smaller is better: longest pattern, then file name (FLOW-55).
    fn rank(&self) -> (std::cmp::Reverse<usize>, &str) {
        (
            std::cmp::Reverse(self.glob.as_str().chars().count()),
            &self.group.file,
        )
    }
}

impl GroupIndex {
    /// Prepares the named groups and the catch-all.
    pub fn new(groups: &[Arc<Group>], catch_all: &Arc<Group>) -> Self {
        let mut index = GroupIndex {
            catch_all: Arc::clone(catch_all),
            aliases: HashMap::new(),
            relay_aliases: HashMap::new(),
            patterns: HashMap::new(),
            tail_lengths: BTreeSet::new(),
        };
        let mut sorted: Vec<&Arc<Group>> = groups.iter().collect();
        sorted.sort_by(|a, b| a.file.cmp(&b.file));
        for group in sorted {
            if group.relay.is_some() {
                index.add_relay(group);
            } else {
                index.add_aliases(group);
                index.add_patterns(group);
            }
        }
        index
    }

    /// The group of a domain.
    ///
    /// `mx_hosts` are its MX names in order of preference (the domain itself, if it has no MX);
    /// `None`: they cannot be resolved.
    pub fn detect(&self, domain: &str, mx_hosts: Option<&[&str]>) -> Detected {
        let domain = fold(domain);
        let alias = self.aliases.get(&domain);
        if let Some(group) = alias.and_then(|a| a.cached.as_ref()) {
            return by_alias(group, "cache = 1");
        }
        for host in mx_hosts.unwrap_or_default() {
            let host = fold(host);
            if let Some(found) = self.best_pattern(&host) {
                let known =
                    alias.is_some_and(|a| a.all.iter().any(|g| Arc::ptr_eq(g, &found.group)));
                return Detected {
                    group: Arc::clone(&found.group),
                    why: Why::Mx {
                        host,
                        pattern: found.text.clone(),
                    },
                    learned_alias: !known,
                };
            }
        }
        let why = if mx_hosts.is_some() {
            "its MX matches no group"
        } else {
            "its MX is not known"
        };
        match alias {
            Some(alias) => by_alias(&alias.first, why),
            None => Detected {
                group: Arc::clone(&self.catch_all),
                why: Why::CatchAll(why),
                learned_alias: false,
            },
        }
    }

    /// The domain whose MX is to be resolved instead of that of `domain` (FLOW-57, FLOW-58).
    pub fn lookup_domain(&self, domain: &str) -> Option<String> {
        let domain = fold(domain);
        let group = self.aliases.get(&domain)?.cached.as_ref()?;
        let shared = group
            .domain
            .as_deref()
            .or_else(|| group.aliases.first().map(String::as_str));
        shared.map(fold).filter(|d| !d.is_empty() && *d != domain)
    }

    /// The group with `relay = 1` whose alias file names the domain (CONF-76).
    pub fn relay_group(&self, domain: &str) -> Option<&Arc<Group>> {
        self.relay_aliases.get(&fold(domain))
    }

    fn add_relay(&mut self, group: &Arc<Group>) {
        for domain in &group.aliases {
            self.relay_aliases
                .entry(fold(domain))
                .or_insert_with(|| Arc::clone(group));
        }
    }

    fn add_aliases(&mut self, group: &Arc<Group>) {
        for domain in &group.aliases {
            let alias = self.aliases.entry(fold(domain)).or_insert_with(|| Alias {
                first: Arc::clone(group),
                cached: None,
                all: Vec::new(),
            });
            if group.cache && alias.cached.is_none() {
                alias.cached = Some(Arc::clone(group));
            }
            alias.all.push(Arc::clone(group));
        }
    }

    fn add_patterns(&mut self, group: &Arc<Group>) {
        for pattern in &group.mx {
            let glob = Glob::new(pattern);
            if glob.as_str().is_empty() {
                continue;
            }
            self.tail_lengths.insert(glob.tail().len());
            let place = self.patterns.entry(glob.tail().to_owned()).or_default();
            place.push(MxPattern {
                text: glob.as_str().into(),
                glob,
                group: Arc::clone(group),
            });
        }
    }

    /// The best pattern for one MX name (folded). Only patterns whose end fits are tried.
    fn best_pattern(&self, host: &str) -> Option<&MxPattern> {
        let tails = self
            .tail_lengths
            .range(..=host.len())
            .filter_map(|n| host.get(host.len() - n..));
        let fitting = tails.filter_map(|tail| self.patterns.get(tail)).flatten();
        fitting
            .filter(|p| p.glob.matches_folded(host))
            .min_by(|a, b| a.rank().cmp(&b.rank()))
    }
}

/// The group of a domain, without a prepared index.
pub fn detect(
    groups: &[Arc<Group>],
    catch_all: &Arc<Group>,
    domain: &str,
    mx_hosts: Option<&[&str]>,
) -> Detected {
    GroupIndex::new(groups, catch_all).detect(domain, mx_hosts)
}

/// See [`GroupIndex::lookup_domain`].
pub fn lookup_domain(groups: &[Arc<Group>], domain: &str) -> Option<String> {
    let catch_all = groups.first()?;
    GroupIndex::new(groups, catch_all).lookup_domain(domain)
}

/// See [`GroupIndex::relay_group`].
pub fn relay_group(groups: &[Arc<Group>], domain: &str) -> Option<Arc<Group>> {
    let catch_all = groups.first()?;
    GroupIndex::new(groups, catch_all)
        .relay_group(domain)
        .cloned()
}

fn by_alias(group: &Arc<Group>, why: &'static str) -> Detected {
    Detected {
        group: Arc::clone(group),
        why: Why::Alias(why),
        learned_alias: false,
    }
}

#[cfg(test)]
pub(crate) mod tests;
