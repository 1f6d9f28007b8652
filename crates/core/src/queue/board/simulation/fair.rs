//! What others do to a lane and to an account: nothing, and no more than their part.

use std::collections::BTreeMap;

use super::*;

/// A world of jobs that take their time: (message, lane, account, when it comes).
struct Stream {
    board: Board,
    dead: Option<&'static str>,
    /// When each message started first.
    starts: BTreeMap<u64, u64>,
    running: BTreeMap<(u64, u64), Job>,
    next: u64,
}

impl Stream {
    fn new(places: u32) -> Self {
        Stream {
            board: Board::new(places),
            dead: None,
            starts: BTreeMap::new(),
            running: BTreeMap::new(),
            next: 0,
        }
    }

    fn start(&mut self, now: u64) {
        while let Some(start) = self.board.next(now) {
            let Start::Try(job) = start else {
                panic!("{start:?}")
            };
            self.starts.entry(job.message.0).or_insert(now);
            let takes = match Some(&*job.lane) == self.dead {
                true => 10_000,
                false => 50 + Dice(job.message.0).below(200),
            };
            self.next += 1;
            self.running.insert((now + takes, self.next), job);
        }
    }

    /// Everything that ends by `now`, each at its moment, and what starts instead.
    fn go_on(&mut self, now: u64) {
        loop {
            let ends = self.running.keys().next().map(|(end, _)| *end);
            let wakes = self.board.wake_at();
            let Some(moment) = [ends, wakes].into_iter().flatten().min() else {
                return;
            };
            if moment > now {
                return;
            }
            while let Some(first) = self.running.first_entry().filter(|f| f.key().0 <= moment) {
                let job = first.remove();
                let (after, again) = match Some(&*job.lane) == self.dead {
                    true => (
                        After::Unreachable {
                            why: String::new(),
                            chance: job.message.0,
                        },
                        vec![Again {
                            recipients: job.recipients.clone(),
                            due: moment + 5 * MINUTE,
                            tell: None,
                            lane: None,
                            end: End::Back,
                        }],
                    ),
                    false => (After::Reached, Vec::new()),
                };
                self.board.done(moment, job.ticket, after, again).unwrap();
            }
            self.start(moment);
        }
    }
}

fn entry<'a>(message: u64, lane: &'a str, account: &'a str, now: u64) -> Entry<'a> {
    Entry {
        message: MessageNo(message),
        recipients: Recipients::One(0),
        lane,
        account,
        sender: "example.com",
        received: now,
        due: now,
        expires: u64::MAX,
        tell: None,
        held: false,
    }
}

/// Numbers of the messages to the dead domain.
const DEAD: u64 = 1_000_000;

/// When mail for 50 domains starts, with so many jobs for one that is dead.
fn starts(dead: u64) -> BTreeMap<u64, u64> {
    let mut stream = Stream::new(128);
    stream.dead = Some("domain dead");
    for n in 0..dead {
        stream
            .board
            .add(T, entry(DEAD + n, "domain dead", "shop", T));
    }
    stream.start(T);
    let mut dice = Dice(7);
    let mut now = T;
    for message in 0..20_000 {
        now += dice.below(10);
        stream.go_on(now);
        let lane = format!("domain d{}", dice.below(50));
        stream.board.add(now, entry(message, &lane, "shop", now));
        stream.start(now);
    }
    stream.go_on(now + MINUTE);
    stream.starts.retain(|message, _| *message < DEAD);
    assert_eq!(stream.starts.len(), 20_000);
    stream.starts
}

#[test]
fn queue_14_t_54_a_dead_lane_with_a_million_jobs_changes_no_start_of_others() {
    let (without, with) = (starts(0), starts(1_000_000));
    assert!(without == with);
}

#[test]
fn queue_14_accounts_have_equal_parts_of_a_lane_whatever_they_have_waiting() {
    let mut stream = Stream::new(8);
    let accounts = ["a", "b", "c", "d", "e"];
    let mut owner = BTreeMap::new();
    let mut message = 0;
    for (n, account) in accounts.iter().enumerate() {
        for _ in 0..2_000 * (n + 1) {
            message += 1;
            owner.insert(message, *account);
            stream.board.add(T, entry(message, "domain a", account, T));
        }
    }
    stream.start(T);
    let mut now = T;
    while stream.starts.len() < 5_000 {
        now += 100;
        stream.go_on(now);
    }
    let mut parts: BTreeMap<&str, u64> = BTreeMap::new();
    for message in stream.starts.keys() {
        *parts.entry(owner[message]).or_default() += 1;
    }
    for (account, part) in parts {
        assert!((900..=1_100).contains(&part), "{account}: {part}");
    }
}
