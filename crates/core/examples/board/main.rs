//! What the scheduler of the queue costs: time and memory of a million waiting jobs.
//!
//!     cargo run --release -p galerne-core --example board

#[path = "../decision/counting.rs"]
mod counting;

use std::time::Instant;

use counting::held;
use galerne_core::queue::MessageNo;
use galerne_core::queue::board::{After, Board, Entry, Recipients, Start};

const JOBS: u64 = 1_000_000;
const T: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;

fn main() {
    for lanes in [1, 1_000, JOBS] {
        for (words, due) in [("due", 0), ("due within two hours", 2 * HOUR)] {
            println!("{JOBS} jobs {words}, {lanes} lanes");
            measure(lanes, due);
        }
    }
}

fn measure(lanes: u64, spread: u64) {
    let begun = Instant::now();
    let (mut board, octets) = held(|| filled(lanes, spread));
    let took = begun.elapsed();
    println!(
        "  add: {} ms, {} octets each",
        took.as_millis(),
        octets / JOBS as i64
    );
    let begun = Instant::now();
    let (mut now, mut slowest, mut ended) = (T, 0, 0);
    while let Some(wake) = board.wake_at() {
        now = now.max(wake);
        let asked = Instant::now();
        let start = board.next(now);
        slowest = slowest.max(asked.elapsed().as_micros());
        match start {
            Some(Start::Try(job)) => {
                board.done(now, job.ticket, After::Reached, Vec::new());
                ended += 1;
            }
            other => assert!(other.is_none(), "{other:?}"),
        }
    }
    assert_eq!(ended, JOBS);
    println!(
        "  start and end: {} ns each, the slowest start {slowest} µs",
        begun.elapsed().as_nanos() / u128::from(JOBS)
    );
    let begun = Instant::now();
    let board = filled(lanes, spread);
    let rows = board.rows();
    let took = begun.elapsed();
    assert_eq!(rows.len() as u64, lanes);
    println!("  fill and show all lanes: {} ms", took.as_millis());
}

fn filled(lanes: u64, spread: u64) -> Board {
    let mut board = Board::new(128);
    for n in 0..JOBS {
        let lane = format!("domain d{}.example.org", n % lanes);
        let account = format!("account{}", n % 20);
        let due = T + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (spread + 1);
        let entry = Entry {
            message: MessageNo(n),
            recipients: Recipients::One(0),
            lane: &lane,
            account: &account,
            sender: "shop.example.com",
            received: T,
            due,
            expires: T + 48 * HOUR + n,
            tell: None,
            held: false,
        };
        board.add(T, entry);
    }
    board
}
