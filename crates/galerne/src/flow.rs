//! What flow control needs of the running program: its clock ticks, its states are on disk within
//! a second (CONF-36, FLOW-28), and its switches are told (FLOW-36, FLOW-41).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galerne_core::flow::configured::groups;
use galerne_core::flow::desk::{Demand, Key, Row, Saved, Switched, Unsaved};
use galerne_core::flow::state::Cause;
use galerne_core::flow::{Moment, Set};
use galerne_core::ports::{EventSink, FlowEntry, FlowKey, Module, StateStore};
use galerne_core::settings::Settings;
use galerne_outbound::pace::Pace;
use serde::{Deserialize, Serialize};

/// How often changes are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// After so many looks all rules are evaluated.
const LOOKS_PER_TICK: u32 = 40;

/// Flow control with the states that were stored.
///
/// # Errors
/// The store cannot be read, in words.
pub fn open(
    settings: &Settings,
    store: &dyn StateStore,
    events: &dyn EventSink,
) -> Result<Arc<Pace>, String> {
    let stored = store.load_flow().map_err(|e| format!("flow states: {e}"))?;
    let saved = stored.into_iter().map(|(key, value)| Saved {
        group: key.group,
        control: key.kind,
        key: key.key,
        state: String::from_utf8_lossy(&value).into_owned(),
    });
    let (pace, faults) = Pace::new(groups(settings), saved.collect());
    for fault in faults {
        let text = format!("warning: a flow state cannot be read and begins anew: {fault}");
        events.note(Module::Galerne, &text);
    }
    Ok(pace)
}

/// The name under which mail to a group or a relay host (without `@`) is counted.
///
/// # Errors
/// There is none of that name.
pub fn counted_as(settings: &Settings, name: &str) -> Result<String, String> {
    if name.is_empty() || settings.groups.iter().any(|group| group.name == name) {
        return Ok(name.to_owned());
    }
    // A relay host is counted under its name with the @.
    match settings.hosts.iter().any(|host| host.name == name) {
        true => Ok(format!("@{name}")),
        false => Err(format!("there is no group or relay host @{name}")),
    }
}

/// Flow control of the running program.
pub struct Flow {
    pace: Arc<Pace>,
    store: Arc<dyn StateStore>,
    events: Arc<dyn EventSink>,
    /// States are taken and stored together, so that an older one never comes after a newer.
    storing: Mutex<()>,
}

impl Flow {
    /// For this pace, kept in that store.
    pub fn new(
        pace: Arc<Pace>,
        store: Arc<dyn StateStore>,
        events: Arc<dyn EventSink>,
    ) -> Arc<Self> {
        Arc::new(Flow {
            pace,
            store,
            events,
            storing: Mutex::default(),
        })
    }

    /// The desk with its line.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Keeps flow control going, until the program ends.
    pub async fn keep(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut number = 0u32;
        loop {
            looks.tick().await;
            number = number.wrapping_add(1);
            let is_tick = number.is_multiple_of(LOOKS_PER_TICK);
            let flow = self.clone();
            let look = move || {
                if is_tick {
                    flow.pace.tick();
                }
                flow.save()
            };
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                tracing::error!(%error, "flow states were not stored this time");
            }
        }
    }

    /// The states of a group, or of all, as JSON: an array. Blocks.
    pub fn document(&self, group: Option<&str>) -> String {
        let now = self.pace.now();
        let rows = self.pace.rows(None);
        // Relay hosts are counted under their names with the @.
        let is_wanted = |row: &&Row| group.is_none_or(|g| row.group.trim_start_matches('@') == g);
        let rows = rows.iter().filter(is_wanted);
        let rows: Vec<FlowState> = rows.map(|row| FlowState::of(row, now)).collect();
        serde_json::to_string(&rows).unwrap_or_else(|_| "[]".to_owned())
    }

    /// Switches on demand (FLOW-49, FLOW-50), on disk when it returns.
    ///
    /// # Errors
    /// Group, set, address or sender do not exist, in words.
    pub fn switch(&self, settings: &Settings, switch: &Switch) -> Result<String, String> {
        let group = switch.group.trim_start_matches('@');
        let name = counted_as(settings, group)?;
        let set = Set::parse(&switch.set)
            .ok_or_else(|| format!("there is no flow set {}", switch.set))?;
        let sender;
        let key = match (switch.ip, &switch.sender) {
            (Some(ip), None) if settings.outbounds.iter().any(|o| o.address == ip) => Key::Ip(ip),
            (Some(ip), None) => return Err(format!("{ip} is not in [IP]")),
            (None, Some(domain)) => {
                sender = galerne_config::values::domain(domain)?;
                Key::Sender(&sender)
            }
            _ => return Err("expected an IP or a sender".to_owned()),
        };
        self.pace.demand(&Demand {
            group: &name,
            key,
            set,
            sleep: switch.sleep,
            lock: switch.lock,
        });
        self.save()?;
        let lock = if switch.lock { ", locked" } else { "" };
        Ok(format!(
            "@{group} {} {}: {}{lock}",
            key.control().word(),
            key.text(),
            set.word()
        ))
    }

    /// Stores what changed and tells the switches. Blocks.
    ///
    /// # Errors
    /// The store refused, in words; what changed is kept for the next time.
    pub fn save(&self) -> Result<(), String> {
        let _storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        for switch in &self.pace.take_switches() {
            let text = shown(switch);
            tracing::info!("{text}");
            self.events.note(Module::RfMta, &text);
        }
        // What changes meanwhile waits for the next time.
        let mut left = self.pace.unsaved();
        while left > 0 {
            let batch = self.pace.take_batch();
            if batch.is_empty() {
                break;
            }
            left = left.saturating_sub(batch.len());
            if let Err(text) = self.store(&batch) {
                // The counters go on in memory, and what is stored next is newer.
                self.pace.put_back(batch);
                tracing::error!("{text}");
                return Err(text);
            }
        }
        Ok(())
    }

    fn store(&self, batch: &[Unsaved]) -> Result<(), String> {
        let entries: Result<Vec<FlowEntry>, _> = batch
            .iter()
            .map(|unsaved| unsaved.saved().map(|saved| entry(&saved)))
            .collect();
        let entries = entries.map_err(|error| format!("a flow state has no text: {error}"))?;
        let stored = self.store.put_flow(&entries);
        stored.map_err(|error| format!("flow states cannot be stored: {error}"))
    }
}

fn entry(saved: &Saved) -> FlowEntry {
    FlowEntry {
        key: FlowKey {
            group: saved.group.clone(),
            kind: saved.control.clone(),
            key: saved.key.clone(),
        },
        value: (!saved.state.is_empty()).then(|| saved.state.clone().into_bytes()),
    }
}

/// A switch on demand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Switch {
    /// With or without `@`.
    pub group: String,
    pub ip: Option<IpAddr>,
    pub sender: Option<String>,
    pub set: String,
    /// Apply `sleepttl`.
    pub sleep: bool,
    /// No automatic switch until it is switched again without.
    pub lock: bool,
}

/// One state, as `flow list --json` gives it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowState {
    /// With `@`.
    pub group: String,
    /// `ipflow` or `sdflow`.
    pub control: String,
    pub key: String,
    pub set: String,
    /// When the set was entered, UTC.
    pub since: String,
    /// Seconds it still sleeps.
    pub sleep: u64,
    pub locked: bool,
    pub low: Option<Fill>,
    pub high: Option<Fill>,
    /// Sessions open now, and most; 0: no limit.
    pub sessions: u32,
    pub threadmax: u32,
    pub chainmax: u32,
    /// Seconds.
    pub waittime: u64,
}

/// How full a window is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Fill {
    pub sent: u64,
    pub max: u64,
    /// Length of the window in seconds.
    pub seconds: u64,
}

impl FlowState {
    /// Since when, each limit with its fill, and what holds it up.
    pub fn in_words(&self) -> String {
        let mut words = vec![format!("since {}", self.since)];
        for fill in [self.low, self.high].into_iter().flatten() {
            words.push(format!("{}/{} in {} s", fill.sent, fill.max, fill.seconds));
        }
        words.push(match self.threadmax {
            0 => format!("{} sessions", self.sessions),
            most => format!("{}/{most} sessions", self.sessions),
        });
        if self.sleep > 0 {
            words.push(format!("sleeps {} s", self.sleep));
        }
        if self.locked {
            words.push("locked".to_owned());
        }
        words.join(", ")
    }

    fn of(row: &Row, now: Moment) -> Self {
        let fill = |(sent, max): (u64, u64), seconds: Duration| {
            (max > 0).then_some(Fill {
                sent,
                max,
                seconds: seconds.as_secs(),
            })
        };
        let since = i64::try_from(row.entered.0).unwrap_or(i64::MAX);
        let since = jiff::Timestamp::from_millisecond(since).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        FlowState {
            group: format!("@{}", row.group.trim_start_matches('@')),
            control: row.control.word().to_owned(),
            key: row.key.clone(),
            set: row.set.word().to_owned(),
            since: format!("{since:.0}"),
            sleep: row.sleeps_until.since(now).as_secs(),
            locked: row.is_locked,
            low: fill(row.low, row.params.low.ttl),
            high: fill(row.high, row.params.high.ttl),
            sessions: row.sessions,
            threadmax: row.params.threadmax,
            chainmax: row.params.chainmax,
            waittime: row.params.waittime.as_secs(),
        }
    }
}

/// `flow @gmail ipflow 192.0.2.10: warmup to low, 10000 delivered in the period of the up rule`.
fn shown(switch: &Switched) -> String {
    let cause = match &switch.change.cause {
        Cause::Up(count) => format!("{count} delivered in the period of the up rule"),
        Cause::Down(count) => format!("only {count} delivered in the period of the down rule"),
        Cause::Reply(pattern) => format!("a reply matched pattern {pattern}"),
        Cause::Errors(count) => format!("{count} unknown errors one after the other"),
        Cause::Demand => "on demand".to_owned(),
    };
    format!(
        "flow @{} {} {}: {} to {}, {cause}",
        switch.group.trim_start_matches('@'),
        switch.control.word(),
        switch.key,
        switch.change.from.word(),
        switch.change.to.word()
    )
}

#[cfg(test)]
mod tests;
