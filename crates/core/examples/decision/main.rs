//! What a decision costs: route, group, plan, outbound and leave of flow control of one message,
//! in a large configuration with a long past.
//!
//!     cargo run --release -p galerne-core --example decision

mod counting;
mod world;

use std::time::{Duration, Instant};

use counting::allocations;
use world::{Message, Size, Way, World, message};

const ROUNDS: usize = 100_000;

fn main() {
    let small = Size {
        routes: 10,
        groups: 5,
        outbounds: 2,
        states: 20,
    };
    let large = Size {
        routes: 10_000,
        groups: 500,
        outbounds: 256,
        states: 100_000,
    };
    for (name, size) in [("small", small), ("large", large)] {
        let mut world = World::new(size);
        println!(
            "{name}: {} routes, {} groups, {} outbounds, {} states",
            size.routes,
            size.groups,
            size.outbounds,
            world.states()
        );
        for way in [Way::Mx, Way::Row, Way::Rotation] {
            for mix in [Mix::Real, Mix::Even] {
                measure(&mut world, size, way, mix);
            }
        }
    }
}

/// To which groups.
#[derive(Clone, Copy, Debug)]
enum Mix {
    /// To all alike: whatever is touched is in no cache.
    Even,
    /// As mail goes: half of it to some twenty groups.
    Real,
}

fn number(n: usize) -> usize {
    let spread = (n as f64 * 0.618_033_988_75).fract();
    (500f64.powf(spread) - 1.0) as usize + 500 * (n % 40)
}

/// Decides message after message, a millisecond apart.
fn measure(world: &mut World, size: Size, way: Way, mix: Mix) {
    let numbers = (0..ROUNDS).map(|n| match mix {
        Mix::Even => n * 31,
        Mix::Real => number(n),
    });
    let messages: Vec<Message> = numbers.map(|n| message(way, n, size)).collect();
    let (mut deciding, mut telling) = (Vec::with_capacity(ROUNDS), Duration::ZERO);
    let (mut asked_for, mut decided) = (0, 0u32);
    for (number, message) in messages.iter().enumerate() {
        world.goes_by(Duration::from_millis(1));
        if number.is_multiple_of(500) {
            world.store();
        }
        let began = Instant::now();
        let (made, count) = allocations(|| world.decide(message));
        deciding.push(began.elapsed());
        asked_for += count;
        if let Some(made) = made {
            let began = Instant::now();
            world.done(&made);
            telling += began.elapsed();
            decided += 1;
        }
    }
    let total: Duration = deciding.iter().sum();
    deciding.sort_unstable();
    let at = |part: usize| deciding.get(ROUNDS * part / 100).map_or(0.0, micros);
    println!(
        "  {:14} {:5.2} us on average, median {:5.2}, p99 {:5.2}; {:4.1} allocations; \
         told afterwards {:4.2} us; {decided} of {ROUNDS} went at once",
        format!("{way:?}, {mix:?}"),
        micros(&total) / ROUNDS as f64,
        at(50),
        at(99),
        asked_for as f64 / ROUNDS as f64,
        micros(&telling) / f64::from(decided.max(1)),
    );
}

fn micros(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
