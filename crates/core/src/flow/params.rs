//! The parameters of the sets, and where each of their keys is taken from (FLOW-12 to FLOW-19).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::flow::{Control, Set};
use crate::model::FlowSetName;

const DAY: Duration = Duration::from_secs(86_400);

/// The set that a switch leads to (FLOW-37 to FLOW-39).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Omitted, 0 or empty: the next in the direction of the rule.
    #[default]
    Omitted,
    /// Keyword `up`.
    Up,
    /// Keyword `down`.
    Down,
    Set(Set),
}

/// At most `max` messages in any `ttl`; off when either is 0 (FLOW-24, FLOW-25).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub ttl: Duration,
    pub max: u64,
}

impl Window {
    /// Whether it limits anything.
    pub fn is_on(&self) -> bool {
        !self.ttl.is_zero() && self.max > 0
    }
}

/// An automatic switch by volume (FLOW-30, FLOW-31).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub ttl: Duration,
    /// 0: the rule is off (FLOW-36).
    pub volume: u64,
    pub target: Target,
}

/// All parameters of one set, for one IP or sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    pub sleepttl: Duration,
    /// 0: unlimited.
    pub threadmax: u32,
    /// 0: unlimited.
    pub chainmax: u32,
    pub waittime: Duration,
    /// 0: off.
    pub errmax: u32,
    pub flowerr: Target,
    pub low: Window,
    pub high: Window,
    pub up: Rule,
    pub down: Rule,
}

impl Params {
    /// The built-in defaults of a set (FLOW-17, FLOW-18).
    pub fn built_in(set: Set) -> Self {
        let high = match set {
            FlowSetName::Defcon3 => Window { ttl: DAY, max: 1 },
            _ => Window::default(),
        };
        Params {
            sleepttl: Duration::ZERO,
            threadmax: 1,
            chainmax: 0,
            waittime: Duration::ZERO,
            errmax: 0,
            flowerr: Target::Omitted,
            low: Window::default(),
            high,
            up: Rule::default(),
            down: Rule::default(),
        }
    }

    /// Nothing is limited: a relay host without any flow section (FLOW-4).
    pub fn unlimited() -> Self {
        Params {
            threadmax: 0,
            ..Params::built_in(FlowSetName::Full)
        }
    }
}

/// One key of a section; `None` where the section does not have it (FLOW-15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    pub sleepttl: Option<Duration>,
    pub threadmax: Option<u32>,
    pub chainmax: Option<u32>,
    pub waittime: Option<Duration>,
    pub errmax: Option<u32>,
    pub flowerr: Option<Target>,
    pub volttllow: Option<Duration>,
    pub volmaxlow: Option<u64>,
    pub volttlhigh: Option<Duration>,
    pub volmaxhigh: Option<u64>,
    pub flowttlup: Option<Duration>,
    pub flowvolup: Option<u64>,
    pub flowup: Option<Target>,
    pub flowttldown: Option<Duration>,
    pub flowvoldown: Option<u64>,
    pub flowdown: Option<Target>,
}

/// The sections of one file: `[ipflow#SET]`, `[sdflow#SET@example.com]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    generic: HashMap<(Control, Set), Section>,
    /// By IP or sender domain, in lower case.
    specific: HashMap<(Control, Set, String), Section>,
}

impl Sections {
    /// Whether the file has no flow section at all (FLOW-4).
    pub fn is_empty(&self) -> bool {
        self.generic.is_empty() && self.specific.is_empty()
    }

    /// The section to fill in. A section may be split over the file (CONF-14).
    pub fn section(&mut self, control: Control, set: Set, key: Option<&str>) -> &mut Section {
        match key {
            None => self.generic.entry((control, set)).or_default(),
            Some(key) => {
                let key = (control, set, key.to_lowercase());
                self.specific.entry(key).or_default()
            }
        }
    }

    /// Whether an IP or sender has sections of its own.
    pub(super) fn has_specific(&self) -> bool {
        !self.specific.is_empty()
    }

    fn specific(&self, control: Control, set: Set, key: &str) -> Option<&Section> {
        if self.specific.is_empty() {
            return None;
        }
        self.specific.get(&(control, set, key.to_owned()))
    }
}

/// The parameters of `set` for the IP or sender `key` (lower case) of a group: key by key from the
/// group's specific section, its generic one, the specific and the generic one of the defaults,
/// then built in (FLOW-15, FLOW-16).
pub fn resolve(
    group: &Sections,
    defaults: &Sections,
    control: Control,
    set: Set,
    key: &str,
) -> Params {
    let places = [
        group.specific(control, set, key),
        group.generic.get(&(control, set)),
        defaults.specific(control, set, key),
        defaults.generic.get(&(control, set)),
    ];
    fn first<T>(places: &[Option<&Section>; 4], get: impl Fn(&Section) -> Option<T>) -> Option<T> {
        places.iter().flatten().find_map(|section| get(section))
    }
    let built_in = Params::built_in(set);
    let window = |ttl: fn(&Section) -> Option<Duration>,
                  max: fn(&Section) -> Option<u64>,
                  default: Window| Window {
        ttl: first(&places, ttl).unwrap_or(default.ttl),
        max: first(&places, max).unwrap_or(default.max),
    };
    let rule = |ttl: fn(&Section) -> Option<Duration>,
                volume: fn(&Section) -> Option<u64>,
                target: fn(&Section) -> Option<Target>| Rule {
        ttl: first(&places, ttl).unwrap_or_default(),
        volume: first(&places, volume).unwrap_or_default(),
        target: first(&places, target).unwrap_or_default(),
    };
    Params {
        sleepttl: first(&places, |s| s.sleepttl).unwrap_or(built_in.sleepttl),
        threadmax: first(&places, |s| s.threadmax).unwrap_or(built_in.threadmax),
        chainmax: first(&places, |s| s.chainmax).unwrap_or(built_in.chainmax),
        waittime: first(&places, |s| s.waittime).unwrap_or(built_in.waittime),
        errmax: first(&places, |s| s.errmax).unwrap_or(built_in.errmax),
        flowerr: first(&places, |s| s.flowerr).unwrap_or(built_in.flowerr),
        low: window(|s| s.volttllow, |s| s.volmaxlow, built_in.low),
        high: window(|s| s.volttlhigh, |s| s.volmaxhigh, built_in.high),
        up: rule(|s| s.flowttlup, |s| s.flowvolup, |s| s.flowup),
        down: rule(|s| s.flowttldown, |s| s.flowvoldown, |s| s.flowdown),
    }
}

/// The parameters of each set for all IPs or senders without a section of their own: made once, and
/// shared by all of their states.
#[derive(Clone, Debug, Default)]
pub struct Shared([[OnceLock<Arc<Params>>; 8]; 2]);

impl Shared {
    /// Those of a set; `make` is asked once.
    pub(super) fn get(
        &self,
        control: Control,
        set: Set,
        make: impl FnOnce() -> Params,
    ) -> Arc<Params> {
        let sets = self.0.get(usize::from(control == Control::Sender));
        match sets.and_then(|sets| sets.get(set as usize)) {
            Some(one) => one.get_or_init(|| Arc::new(make())).clone(),
            None => Arc::new(make()),
        }
    }
}

/// Where a target leads from `set`; `default` is the direction of an omitted one (FLOW-37 to
/// FLOW-39). Warmup and full are the ends; `up` in a defcon set is warmup, `down` there stays.
pub fn target(set: Set, target: Target, default: Target) -> Set {
    let target = match target {
        Target::Omitted => default,
        other => other,
    };
    match target {
        Target::Set(set) => set,
        Target::Up => up(set),
        Target::Down => down(set),
        Target::Omitted => set,
    }
}

fn up(set: Set) -> Set {
    match set {
        Set::Defcon3 | Set::Defcon2 | Set::Defcon1 => Set::Warmup,
        Set::Warmup => Set::Low,
        Set::Low => Set::Mid,
        Set::Mid => Set::High,
        Set::High | Set::Full => Set::Full,
    }
}

fn down(set: Set) -> Set {
    match set {
        Set::Full => Set::High,
        Set::High => Set::Mid,
        Set::Mid => Set::Low,
        Set::Low => Set::Warmup,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn flow_14_flow_15_each_key_comes_from_the_first_place_that_has_it() {
        let (mut group, mut defaults) = (Sections::default(), Sections::default());
        let set = Set::Warmup;
        *group.section(Control::Ip, set, Some("192.0.2.11")) = Section {
            volmaxhigh: Some(500),
            ..Section::default()
        };
        *group.section(Control::Ip, set, None) = Section {
            volmaxhigh: Some(3000),
            volttlhigh: Some(DAY),
            ..Section::default()
        };
        *defaults.section(Control::Ip, set, Some("192.0.2.11")) = Section {
            volttlhigh: Some(MINUTE),
            waittime: Some(MINUTE),
            ..Section::default()
        };
        *defaults.section(Control::Ip, set, None) = Section {
            waittime: Some(DAY),
            threadmax: Some(7),
            ..Section::default()
        };
        let of = |key| resolve(&group, &defaults, Control::Ip, set, key);
        let specific = of("192.0.2.11");
        assert_eq!(specific.high, Window { ttl: DAY, max: 500 });
        assert_eq!((specific.waittime, specific.threadmax), (MINUTE, 7));
        let other = of("192.0.2.12");
        assert_eq!(other.high.max, 3000);
        assert_eq!(other.waittime, DAY);
        // What nobody says is built in; the other control has its own sections.
        assert_eq!(specific.errmax, 0);
        let sender = resolve(&group, &defaults, Control::Sender, set, "192.0.2.11");
        assert_eq!(sender, Params::built_in(set));
    }

    #[test]
    fn flow_16_flow_17_flow_18_built_in_defaults() {
        for set in Set::ALL {
            let none = Sections::default();
            let params = resolve(&none, &none, Control::Ip, set, "x");
            assert_eq!(
                (params.threadmax, params.chainmax, params.errmax),
                (1, 0, 0)
            );
            let expected = match set {
                Set::Defcon3 => Window { ttl: DAY, max: 1 },
                _ => Window::default(),
            };
            assert_eq!(params.high, expected, "{set:?}");
            assert!(!params.low.is_on());
        }
        let mut sections = Sections::default();
        sections.section(Control::Ip, Set::Defcon3, None).volmaxhigh = Some(0);
        let none = Sections::default();
        let off = resolve(&sections, &none, Control::Ip, Set::Defcon3, "x");
        assert!(!off.high.is_on(), "0 in a file is off");
    }

    #[test]
    fn flow_5_flow_10_flow_37_flow_38_flow_39_omitted_targets_and_keywords() {
        let up = |set| target(set, Target::Omitted, Target::Up);
        let down = |set| target(set, Target::Omitted, Target::Down);
        let ups: Vec<Set> = Set::ALL.into_iter().map(up).collect();
        use Set::{Defcon1, Defcon2, Defcon3, Full, High, Low, Mid, Warmup};
        assert_eq!(ups, [Warmup, Warmup, Warmup, Low, Mid, High, Full, Full]);
        let downs: Vec<Set> = Set::ALL.into_iter().map(down).collect();
        assert_eq!(
            downs,
            [Defcon3, Defcon2, Defcon1, Warmup, Warmup, Low, Mid, High]
        );
        assert_eq!(target(High, Target::Set(Defcon2), Target::Up), Defcon2);
        assert_eq!(target(High, Target::Down, Target::Up), Mid);
    }
}
