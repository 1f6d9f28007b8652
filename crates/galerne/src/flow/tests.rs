use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use galerne_core::flow::Control;
use galerne_core::flow::desk::GroupFlow;
use galerne_core::flow::params::Sections;
use galerne_core::ports::Others;
use galerne_core::routes::RouteRow;
use galerne_events::{Recorded, Recorder};
use galerne_store::MemoryState;

use super::*;

/// A store whose disk may refuse.
#[derive(Default)]
struct Disk {
    state: MemoryState,
    is_full: AtomicBool,
}

impl StateStore for Disk {
    fn routes(&self) -> io::Result<Vec<RouteRow>> {
        self.state.routes()
    }
    fn add_routes(&self, rows: &[RouteRow], others: Others) -> io::Result<Vec<u64>> {
        self.state.add_routes(rows, others)
    }
    fn remove_route(&self, id: u64) -> io::Result<bool> {
        self.state.remove_route(id)
    }
    fn put_flow(&self, batch: &[FlowEntry]) -> io::Result<()> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => self.state.put_flow(batch),
        }
    }
    fn load_flow(&self) -> io::Result<Vec<(FlowKey, Vec<u8>)>> {
        self.state.load_flow()
    }
}

struct World {
    flow: Arc<Flow>,
    disk: Arc<Disk>,
    events: Arc<Recorder>,
}

impl World {
    /// Flow control that is kept going; `high` falls to `mid` after 90 s with fewer than 5.
    fn new() -> World {
        let mut sections = Sections::default();
        let high = sections.section(Control::Ip, Set::High, None);
        high.flowttldown = Some(Duration::from_secs(90));
        high.flowvoldown = Some(5);
        let group = GroupFlow {
            sections,
            ..GroupFlow::default()
        };
        let (pace, faults) = Pace::new(vec![("isp".to_owned(), group)], Vec::new());
        assert_eq!(faults, Vec::<String>::new());
        let (disk, events) = (Arc::<Disk>::default(), Arc::new(Recorder::new(100)));
        let flow = Flow::new(pace, disk.clone(), events.clone());
        tokio::spawn(flow.clone().keep());
        World { flow, disk, events }
    }

    fn enter(&self, set: Set) {
        self.flow.pace().demand(&Demand {
            group: "isp",
            key: Key::Ip([192, 0, 2, 1].into()),
            set,
            sleep: false,
            lock: false,
        });
    }

    /// The sets on disk, by key.
    fn stored(&self) -> BTreeMap<String, String> {
        let of = |(key, value): (FlowKey, Vec<u8>)| {
            let state: serde_json::Value = serde_json::from_slice(&value).unwrap();
            (key.key, state["set"].as_str().unwrap().to_owned())
        };
        self.disk.load_flow().unwrap().into_iter().map(of).collect()
    }

    fn stored_set(&self) -> Option<String> {
        self.stored().remove("192.0.2.1")
    }
}

#[tokio::test(start_paused = true)]
async fn flow_34_flow_36_flow_41_rules_are_evaluated_each_minute_without_any_mail() {
    let world = World::new();
    world.enter(Set::High);
    tokio::time::sleep(Duration::from_secs(89)).await;
    assert_eq!(
        world.stored_set().as_deref(),
        Some("high"),
        "not before its time"
    );
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(world.stored_set().as_deref(), Some("mid"));
    let all = world.events.all().into_iter();
    let told: Vec<String> = all
        .filter_map(|record| match record {
            Recorded::Note(_, text) => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            "flow @isp ipflow 192.0.2.1: warmup to high, on demand",
            "flow @isp ipflow 192.0.2.1: high to mid, only 0 delivered in the period of the down rule",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn flow_28_conf_36_changes_are_stored_within_a_second_and_later_when_the_disk_refuses() {
    let world = World::new();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(world.stored_set(), None);
    world.enter(Set::Low);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.stored_set().as_deref(), Some("low"));
    world.disk.is_full.store(true, Ordering::Relaxed);
    world.enter(Set::Full);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.stored_set().as_deref(), Some("low"));
    assert!(world.flow.save().is_err(), "and says so");
    world.disk.is_full.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.stored_set().as_deref(), Some("full"));
}
