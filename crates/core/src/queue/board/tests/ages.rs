//! Which lanes are full, which message is the oldest, and what a job takes along.

use super::*;

#[test]
fn queue_9_a_lane_is_full_with_its_most_and_no_longer_with_one_less() {
    let mut board = board(1, [entry(1, "domain a"), entry(2, "domain a")]);
    assert_eq!(board.full_lanes(), [], "without a bound none is");
    board.set_most_of_lane(3);
    assert_eq!(board.full_lanes(), []);
    // Whatever state a delivery is in, it counts.
    let held = Entry {
        held: true,
        ..entry(3, "domain a")
    };
    board.add(T, held);
    board.add(T, entry(4, "domain b"));
    let full = |board: &Board| board.full_lanes().iter().map(|l| l.to_string()).collect();
    let names: Vec<String> = full(&board);
    assert_eq!(names, ["domain a"]);
    let job = tried(&mut board, T).unwrap();
    assert_eq!(job.lane.as_ref(), "domain a");
    let names: Vec<String> = full(&board);
    assert_eq!(names, ["domain a"], "what runs is still there");
    // It belongs to another lane, as its attempt found out.
    let mut moved = again(&job, T + HOUR);
    moved[0].lane = Some("domain b");
    board.done(T, job.ticket, After::Reached, moved);
    assert_eq!(board.full_lanes(), []);
    // The bound may change, as the settings do.
    board.set_most_of_lane(2);
    assert_eq!(board.full_lanes().len(), 2);
    board.remove(T, MessageNo(4), None);
    let names: Vec<String> = full(&board);
    assert_eq!(names, ["domain a"]);
    board.set_most_of_lane(0);
    assert_eq!(board.full_lanes(), []);
}

#[test]
fn queue_13_the_oldest_is_the_oldest_whatever_its_number() {
    let mut board = board(1, [entry(1, "domain a"), entry(2, "domain b")]);
    assert_eq!(board.oldest(), Some(T));
    // Moved mail has a new number and its old age.
    let moved = Entry {
        received: T - DAY,
        ..entry(3, "domain a")
    };
    board.add(T, moved);
    assert_eq!(board.oldest(), Some(T - DAY));
    board.remove(T, MessageNo(3), None);
    assert_eq!(board.oldest(), Some(T));
    for number in [1, 2] {
        board.remove(T, MessageNo(number), None);
    }
    assert_eq!(board.oldest(), None);
}

#[test]
fn ret_39_a_job_knows_whether_its_sender_is_still_to_be_told() {
    let mut board = Board::new(1);
    let waits = Entry {
        due: T + 5 * HOUR,
        tell: Some(T + 4 * HOUR),
        ..entry(1, "domain a")
    };
    board.add(T, waits);
    let now = T + 4 * HOUR;
    assert!(matches!(board.next(now), Some(Start::Delayed(_))));
    let job = tried(&mut board, T + 5 * HOUR).unwrap();
    assert_eq!(job.tell, None, "it was told while it waited");
    let next = T + 9 * HOUR;
    board.done(T + 5 * HOUR, job.ticket, After::Nothing, Vec::new());
    let early = Entry {
        due: T + 5 * HOUR,
        tell: Some(next),
        ..entry(2, "domain a")
    };
    board.add(T + 5 * HOUR, early);
    let job = tried(&mut board, T + 5 * HOUR).unwrap();
    assert_eq!(job.tell, Some(next));
}
