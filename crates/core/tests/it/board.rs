//! What the scheduler of the queue takes up while jobs wait.

use galerne_core::queue::MessageNo;
use galerne_core::queue::board::{Board, Entry, Recipients, Rule};

use crate::counting::held;

const JOBS: u64 = 100_000;
const T: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;

/// Octets for each of many jobs in so many lanes, that are due within this time.
fn octets_each(lanes: u64, due: u64) -> i64 {
    let mut board = Board::new(128);
    let (_, octets) = held(|| {
        for n in 0..JOBS {
            let lane = format!("domain d{}.example.org", n % lanes);
            let account = format!("account{}", n % 20);
            board.add(
                T,
                Entry {
                    message: MessageNo(n),
                    recipients: Recipients::One(0),
                    lane: &lane,
                    account: &account,
                    sender: "shop.example.com",
                    received: T,
                    due: T + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (due + 1),
                    expires: T + 48 * HOUR + n,
                    tell: None,
                    held: false,
                },
            );
        }
    });
    assert_eq!(board.counts().tally.all(), JOBS);
    octets / JOBS as i64
}

#[test]
fn queue_14_a_waiting_job_takes_200_octets_in_the_scheduler_and_600_with_a_lane_of_its_own() {
    for due in [0, 2 * HOUR] {
        let shared = octets_each(1_000, due);
        assert!((80..=200).contains(&shared), "{shared}");
        let alone = octets_each(JOBS, due);
        assert!((200..=600).contains(&alone), "{alone}");
    }
}

#[test]
fn t_53_with_everything_suspended_memory_is_flat() {
    let mut board = Board::new(128);
    board.suspend(Rule::default());
    for n in 0..1_000 {
        let entry = Entry {
            message: MessageNo(n),
            recipients: Recipients::One(0),
            lane: "domain a",
            account: "shop",
            sender: "example.com",
            received: T,
            due: T,
            expires: T + 48 * HOUR,
            tell: None,
            held: false,
        };
        board.add(T, entry);
    }
    let (looks, octets) = held(|| {
        let mut looks = 0;
        let mut now = T;
        while now < T + 47 * HOUR {
            assert_eq!(board.next(now), None);
            looks += 1;
            // Nothing asks before the first expires.
            now = board.wake_at().unwrap_or(u64::MAX);
        }
        looks
    });
    assert_eq!((looks, octets), (1, 0));
}
