//! What only a binary of its own can show: how often a decision asks for memory, and how much the
//! scheduler of the queue takes up.

mod board;
#[path = "../../examples/decision/counting.rs"]
mod counting;
#[path = "../../examples/decision/world.rs"]
mod world;

use counting::allocations;
use world::{Size, Way, World, message};

/// How often the decision about a message asks for memory in a world of that size. One is made
/// before, so that the state of its address and sender exist.
fn of_one(size: Size, way: Way) -> u64 {
    let mut world = World::new(size);
    assert!(world.states() >= size.groups * (size.outbounds + 1));
    for number in 0..2 {
        let before = world.decide(&message(way, number, size)).unwrap();
        world.done(&before);
        world.store();
        world.goes_by(std::time::Duration::from_secs(60));
    }
    let message = message(way, 0, size);
    let (decided, count) = allocations(|| world.decide(&message));
    assert!(decided.is_some());
    count
}

#[test]
fn route_24_flow_23_a_decision_asks_for_no_memory_per_route_outbound_group_or_state() {
    let small = Size {
        routes: 10,
        groups: 2,
        outbounds: 2,
        states: 20,
    };
    let large = Size {
        routes: 10_000,
        groups: 50,
        outbounds: 256,
        // All addresses have sent to each group before.
        states: 50 * 285,
    };
    for way in [Way::Mx, Way::Row, Way::Rotation] {
        let (few, many) = (of_one(small, way), of_one(large, way));
        assert!(few > 0, "it counts");
        assert_eq!(few, many, "{way:?}");
    }
}
