//! What every way of keeping the queue must do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use galerne_core::content::{Content, Patch};
use galerne_core::queue::{
    Change, DeliveryNo, Filter, Listed, MessageNo, NewMessage, Place, Progress, QueueStore, State,
    StoreFault, Stored,
};

use super::testing::*;
use super::*;

/// A queue, and how to open it again; `None`: nothing outlives it.
struct Kind {
    name: &'static str,
    open: Box<dyn Fn() -> Box<dyn QueueStore>>,
    again: bool,
    _folder: Option<tempfile::TempDir>,
}

fn kinds() -> [Kind; 2] {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("queue");
    let options = Options {
        warm: 1 << 20,
        ..Options::default()
    };
    let open = move || Box::new(SqliteQueue::open(&place, options.clone()).unwrap()) as _;
    [
        Kind {
            name: "memory",
            open: Box::new(|| Box::new(MemoryQueue::default())),
            again: false,
            _folder: None,
        },
        Kind {
            name: "sqlite",
            open: Box::new(open),
            again: true,
            _folder: Some(folder),
        },
    ]
}

fn on_both(test: impl Fn(&dyn QueueStore)) {
    for kind in kinds() {
        test(&*(kind.open)());
    }
}

fn no(message: MessageNo, recipient: u32) -> DeliveryNo {
    DeliveryNo { message, recipient }
}

fn pages(queue: &dyn QueueStore, most: usize) -> Vec<Stored> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = queue.page(after, most).unwrap();
        assert!(page.len() <= most);
        let Some(last) = page.last() else {
            return all;
        };
        after = Some(Place {
            next: last.progress.next,
            delivery: last.delivery,
        });
        all.extend(page);
    }
}

/// Waits until what rides with the next sync has been written.
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}

#[test]
fn queue_2_what_was_accepted_is_read_whole() {
    on_both(|queue| {
        for size in [0, 1, 4096, 16 * 1024, 16 * 1024 + 1, 300_000, 3_000_000] {
            let id = format!("m{size}");
            let given = message(&id, &["a@b.example", "c@d.example"], size);
            let number = accept(queue, given.clone()).unwrap();
            let kept = queue.read(number).unwrap().unwrap();
            assert_eq!(kept.envelope, *given.envelope);
            assert!(all(&kept.content) == octets(&id, size), "{size}");
            assert_eq!(kept.deliveries, given.deliveries);
        }
    });
}

#[test]
fn queue_2_what_goes_out_is_kept_prefix_cuts_and_spilled_part() {
    on_both(|queue| {
        for (memory, rest) in [(600_usize, 0_usize), (600, 100), (300_000, 1_000_000)] {
            let octets = octets("x", memory);
            let content = match rest {
                0 => Content::in_memory(octets.clone()),
                rest => spilled(octets.clone(), vec![7; rest]),
            };
            let patch = Patch {
                prefix: b"Received: x\r\n".to_vec(),
                cuts: vec![0..10, 20..500],
            };
            let given = NewMessage {
                content,
                patch,
                ..message("x", &["a@b.example"], 0)
            };
            let number = accept(queue, given).unwrap();
            let kept = queue.read(number).unwrap().unwrap().content;
            let mut expected = b"Received: x\r\n".to_vec();
            expected.extend_from_slice(&octets[10..20]);
            expected.extend_from_slice(&octets[500..]);
            // The header is in memory.
            let head = expected.len().min(256 * 1024);
            assert!(kept.memory[..head] == expected[..head]);
            expected.extend(vec![7; rest]);
            assert_eq!(kept.len(), expected.len() as u64);
            assert!(all(&kept) == expected);
            let listed = queue.list(&Filter::default(), 10).unwrap();
            assert_eq!(listed.last().unwrap().size, expected.len() as u64);
        }
    });
}

#[test]
fn queue_5_numbers_ascend_and_are_never_used_twice() {
    for kind in kinds() {
        let mut last = MessageNo(0);
        for _ in 0..3 {
            let queue = (kind.open)();
            if kind.again {
                assert_eq!(queue.opened_at(), last, "{}", kind.name);
            } else {
                last = queue.opened_at();
            }
            for size in [10, 20_000, 10] {
                let number = accept(&*queue, message("n", &["a@b.example"], size)).unwrap();
                assert!(number > last, "{}", kind.name);
                last = number;
                wait(queue.change(vec![Change::Done(vec![no(number, 0)])])).unwrap();
            }
            assert_eq!(queue.amount().messages, 0);
        }
    }
}

#[test]
fn queue_5_a_message_goes_with_the_last_of_its_deliveries() {
    on_both(|queue| {
        for size in [100, 100_000] {
            let given = message("m", &["a@b.example", "c@d.example", "e@f.example"], size);
            let number = accept(queue, given).unwrap();
            let done = |recipients: &[u32]| {
                let all = recipients.iter().map(|&n| no(number, n)).collect();
                wait(queue.change(vec![Change::Done(all)])).unwrap();
            };
            done(&[1]);
            let kept = queue.read(number).unwrap().unwrap();
            assert_eq!(kept.deliveries.len(), 2);
            assert_eq!((queue.amount().messages, queue.amount().deliveries), (1, 2));
            // What is decided stays so.
            wait(queue.change(vec![Change::Put(no(number, 1), Progress::default())])).unwrap();
            done(&[1]);
            assert_eq!(queue.amount().deliveries, 2);
            done(&[0, 2]);
            assert!(queue.read(number).unwrap().is_none());
            let amount = queue.amount();
            assert_eq!((amount.messages, amount.deliveries), (0, 0));
            assert_eq!(pages(queue, 10), []);
        }
    });
}

#[test]
fn queue_6_the_mark_of_a_handed_delivery_is_kept() {
    on_both(|queue| {
        let number = accept(queue, message("m", &["a@b.example", "c@d.example"], 10)).unwrap();
        wait(queue.change(vec![Change::Handed(vec![no(number, 1)])])).unwrap();
        let handed: Vec<_> = pages(queue, 10)
            .iter()
            .map(|stored| stored.progress.handed)
            .collect();
        assert_eq!(handed, [false, true]);
        let retry = Progress {
            attempts: 1,
            ..Progress::default()
        };
        wait(queue.change(vec![Change::Put(no(number, 1), retry.clone())])).unwrap();
        assert_eq!(pages(queue, 10)[1].progress, retry);
    });
}

#[test]
fn queue_16_holding_changes_nothing_else() {
    on_both(|queue| {
        let number = accept(queue, message("m", &["a@b.example", "c@d.example"], 10)).unwrap();
        let progress = Progress {
            attempts: 3,
            duplicate_possible: true,
            delay_told: true,
            next: 77,
            ..Progress::default()
        };
        wait(queue.change(vec![Change::Put(no(number, 1), progress.clone())])).unwrap();
        let of = |queue: &dyn QueueStore| {
            let all = pages(queue, 10);
            let found = all.iter().find(|s| s.delivery == no(number, 1));
            found.unwrap().progress.clone()
        };
        for held in [true, true, false] {
            wait(queue.change(vec![Change::Held(vec![no(number, 1)], held)])).unwrap();
            let wanted = Progress {
                held,
                ..progress.clone()
            };
            assert_eq!(of(queue), wanted);
        }
    });
}

#[test]
fn ret_39_telling_of_a_delay_changes_nothing_else() {
    on_both(|queue| {
        let number = accept(queue, message("m", &["a@b.example", "c@d.example"], 10)).unwrap();
        let all = vec![no(number, 0), no(number, 1)];
        wait(queue.change(vec![Change::Handed(all.clone())])).unwrap();
        wait(queue.change(vec![Change::DelayTold(vec![no(number, 1)])])).unwrap();
        let kept = queue.read(number).unwrap().unwrap().deliveries;
        let flags: Vec<_> = kept
            .iter()
            .map(|(_, progress)| (progress.handed, progress.delay_told))
            .collect();
        assert_eq!(flags, [(true, false), (true, true)]);
    });
}

#[test]
fn queue_5_an_accept_that_nobody_waits_for_leaves_nothing() {
    on_both(|queue| {
        for size in [100, 100_000] {
            drop(queue.accept(message("gone", &["a@b.example"], size)));
            accept(queue, message("here", &["a@b.example"], size)).unwrap();
        }
        until(|| queue.amount().messages == 2);
        let ids: Vec<_> = queue.list(&Filter::default(), 9).unwrap();
        assert!(ids.iter().all(|listed| listed.id == "here"));
    });
}

#[test]
fn queue_5_changes_that_are_not_waited_for_are_written_soon_and_in_order() {
    on_both(|queue| {
        let number = accept(queue, message("m", &["a@b.example"], 10)).unwrap();
        for attempts in 1..=5 {
            let progress = Progress {
                attempts,
                ..Progress::default()
            };
            queue.change_soon(vec![Change::Put(no(number, 0), progress)]);
        }
        until(|| pages(queue, 10)[0].progress.attempts == 5);
        queue.change_soon(vec![Change::Done(vec![no(number, 0)])]);
        until(|| queue.amount().messages == 0);
    });
}

#[test]
fn queue_19_after_the_end_everything_is_closed_and_kept() {
    for kind in kinds() {
        let queue = (kind.open)();
        let number = accept(&*queue, message("m", &["a@b.example"], 30_000)).unwrap();
        let gone = accept(&*queue, message("n", &["a@b.example"], 10)).unwrap();
        queue.change_soon(vec![Change::Done(vec![no(gone, 0)])]);
        assert!(queue.is_ready());
        queue.close();
        assert!(!queue.is_ready());
        let refused = accept(&*queue, message("m", &["a@b.example"], 10));
        assert_eq!(refused, Err(StoreFault::Closed));
        assert_eq!(wait(queue.change(Vec::new())), Err(StoreFault::Closed));
        drop(queue);
        if kind.again {
            let queue = (kind.open)();
            assert_eq!(queue.amount().messages, 1);
            assert!(queue.read(number).unwrap().is_some());
        }
    }
}

#[test]
fn queue_16_each_filter_finds_what_it_says() {
    on_both(|queue| {
        let mut given = message("id-1", &["a@Big.example", "b@small.example"], 10);
        let envelope = Arc::make_mut(&mut given.envelope);
        envelope.tags = vec!["news".to_owned(), "mai, \"quoted\"".to_owned()];
        given.deliveries[1].1 = Progress {
            state: State::Deferred,
            held: true,
            group: "isp".to_owned(),
            route: "@next".to_owned(),
            ..Progress::default()
        };
        let first = accept(queue, given).unwrap();
        let mut other = message("id-2", &["postmaster"], 10);
        let envelope = Arc::make_mut(&mut other.envelope);
        envelope.user = None;
        envelope.sender = String::new();
        envelope.header_id = None;
        envelope.received_at += 5000;
        let second = accept(queue, other).unwrap();
        let found = |filter: Filter| {
            let listed = queue.list(&filter, 10).unwrap();
            let numbers = listed.iter().map(|l| l.stored.delivery);
            numbers.collect::<Vec<_>>()
        };
        let text = |text: &str| Some(text.to_owned());
        let (a, b, c) = (no(first, 0), no(first, 1), no(second, 0));
        let none = Filter::default;
        #[rustfmt::skip]
        let cases = [
            (none(), vec![a, b, c]),
            (Filter { id: text("id-1"), ..none() }, vec![a, b]),
            (Filter { id: text("ref-id-2"), ..none() }, vec![c]),
            (Filter { id: text("<id-1@client.example>"), ..none() }, vec![a, b]),
            (Filter { id: text("id-1@client.example"), ..none() }, vec![a, b]),
            (Filter { id: text("ID-1"), ..none() }, vec![]),
            (Filter { user: text("account"), ..none() }, vec![a, b]),
            (Filter { sender: text("sender@CLIENT.example"), ..none() }, vec![a, b]),
            (Filter { sender: text(""), ..none() }, vec![c]),
            (Filter { recipient: text("A@big.example"), ..none() }, vec![a]),
            (Filter { domain: text("big.example"), ..none() }, vec![a]),
            (Filter { domain: text("ig.example"), ..none() }, vec![]),
            (Filter { domain: text("%"), ..none() }, vec![]),
            (Filter { domain: text(""), ..none() }, vec![c]),
            (Filter { group: text("isp"), ..none() }, vec![b]),
            (Filter { tag: text("mai, \"quoted\""), ..none() }, vec![a, b]),
            (Filter { tag: text("mai"), ..none() }, vec![]),
            (Filter { reference: text("ref-id-1"), ..none() }, vec![a, b]),
            (Filter { state: Some(State::Deferred), ..none() }, vec![b]),
            (Filter { state: Some(State::Waiting), ..none() }, vec![a, c]),
            (Filter { held: Some(true), ..none() }, vec![b]),
            (Filter { held: Some(false), ..none() }, vec![a, c]),
            (Filter { received_before: Some(1_700_000_005_000), ..none() }, vec![a, b]),
            (Filter { route: text("@next"), user: text("account"), ..none() }, vec![b]),
            (Filter { route: text("@next"), user: text("other"), ..none() }, vec![]),
            (Filter { after: Some(a), ..none() }, vec![b, c]),
            (Filter { after: Some(a), user: text("account"), ..none() }, vec![b]),
            (Filter { only: Some(vec![c, a]), ..none() }, vec![a, c]),
            (Filter { only: Some(vec![c, a]), user: text("account"), ..none() }, vec![a]),
            (Filter { only: Some(vec![c, a]), after: Some(a), ..none() }, vec![c]),
            (Filter { only: Some(vec![]), ..none() }, vec![]),
        ];
        for (filter, expected) in cases {
            assert_eq!(found(filter.clone()), expected, "{filter:?}");
        }
        assert_eq!(queue.list(&none(), 2).unwrap().len(), 2);
    });
}

/// The simplest queue there is: what the others are held against.
#[derive(Default)]
struct Model {
    messages: BTreeMap<MessageNo, (NewMessage, Vec<u8>)>,
    deliveries: BTreeMap<DeliveryNo, Progress>,
}

impl Model {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Put(delivery, progress) => {
                self.deliveries
                    .entry(*delivery)
                    .and_modify(|kept| *kept = progress.clone());
            }
            Change::Handed(all) => {
                for delivery in all {
                    self.deliveries
                        .entry(*delivery)
                        .and_modify(|kept| kept.handed = true);
                }
            }
            Change::Held(all, held) => {
                for delivery in all {
                    self.deliveries
                        .entry(*delivery)
                        .and_modify(|kept| kept.held = *held);
                }
            }
            Change::DelayTold(all) => {
                for delivery in all {
                    self.deliveries
                        .entry(*delivery)
                        .and_modify(|kept| kept.delay_told = true);
                }
            }
            Change::Done(all) => all.iter().for_each(|delivery| {
                self.deliveries.remove(delivery);
            }),
        }
        let left: Vec<_> = self.deliveries.keys().map(|d| d.message).collect();
        self.messages.retain(|number, _| left.contains(number));
    }

    fn listed(&self) -> Vec<Listed> {
        let listed = self.deliveries.iter().map(|(delivery, progress)| {
            let (message, octets) = &self.messages[&delivery.message];
            let e = &message.envelope;
            Listed {
                stored: Stored {
                    delivery: *delivery,
                    recipient: e.recipients[delivery.recipient as usize].address.clone(),
                    user: e.user.clone(),
                    sender: e.sender.clone(),
                    received_at: e.received_at,
                    progress: progress.clone(),
                },
                id: e.id.clone(),
                reference: e.reference.clone(),
                tags: e.tags.clone(),
                header_id: e.header_id.clone(),
                size: octets.len() as u64,
            }
        });
        listed.collect()
    }

    fn check(&self, queue: &dyn QueueStore, chance: &mut Chance) {
        let listed = self.listed();
        assert_eq!(queue.list(&Filter::default(), usize::MAX).unwrap(), listed);
        let mut stored: Vec<_> = listed.iter().map(|l| l.stored.clone()).collect();
        stored.sort_by_key(|stored| (stored.progress.next, stored.delivery));
        assert_eq!(pages(queue, 1 + chance.below(7) as usize), stored);
        for _ in 0..4 {
            let filter = filter(chance);
            let expected: Vec<_> = listed
                .iter()
                .filter(|listed| filter::matches(&filter, listed))
                .cloned()
                .collect();
            assert_eq!(queue.list(&filter, usize::MAX).unwrap(), expected);
        }
        let amount = queue.amount();
        assert_eq!(amount.messages, self.messages.len() as u64);
        assert_eq!(amount.deliveries, self.deliveries.len() as u64);
        for (number, (message, octets)) in &self.messages {
            let kept = queue.read(*number).unwrap().unwrap();
            assert_eq!(kept.envelope, *message.envelope);
            assert!(all(&kept.content) == *octets);
            let of = self.deliveries.iter().filter(|(d, _)| d.message == *number);
            let of: Vec<_> = of.map(|(d, p)| (d.recipient, p.clone())).collect();
            assert_eq!(kept.deliveries, of);
        }
        assert_eq!(queue.check(false).unwrap(), []);
    }

    fn any(&self, chance: &mut Chance) -> DeliveryNo {
        let all: Vec<_> = self.deliveries.keys().copied().collect();
        match all.is_empty() || chance.one_in(10) {
            true => no(MessageNo(chance.below(50)), chance.below(4) as u32),
            false => chance.pick(&all),
        }
    }
}

fn filter(chance: &mut Chance) -> Filter {
    let mut maybe = |words: &[&str]| chance.one_in(3).then(|| chance.pick(words).to_owned());
    Filter {
        user: maybe(&["account", "other"]),
        recipient: maybe(&["A@one.example"]),
        domain: maybe(&["two.example", "one.example"]),
        group: maybe(&["", "isp"]),
        tag: maybe(&["blue"]),
        route: maybe(&["@next"]),
        state: chance.one_in(3).then(|| chance.pick(&State::ALL)),
        held: chance.one_in(3).then(|| chance.one_in(2)),
        after: chance.one_in(3).then(|| no(MessageNo(chance.below(50)), 1)),
        ..Filter::default()
    }
}

fn random_message(n: u64, chance: &mut Chance) -> (NewMessage, Vec<u8>) {
    let addresses = ["a@one.example", "b@two.example", "c@TWO.example", "d"];
    let count = 1 + chance.below(4) as usize;
    let size = chance.pick(&[0, 10, 5000, 16_384, 16_385, 70_000, 400_000]);
    let mut given = message(&format!("m{n}"), &addresses[..count], size);
    let e = Arc::make_mut(&mut given.envelope);
    e.received_at += n;
    e.user = chance.pick(&[None, Some("account".to_owned())]);
    e.tags = chance.pick(&[vec![], vec!["blue".to_owned(), "b".to_owned()]]);
    given.deliveries.retain(|_| !chance.one_in(3));
    if given.deliveries.is_empty() {
        given.deliveries.push((0, Progress::default()));
    }
    for (_, kept) in &mut given.deliveries {
        *kept = progress(chance);
    }
    let mut octets = octets(&format!("m{n}"), size);
    if chance.one_in(3) {
        let cut = chance.below(size as u64 + 1) as usize;
        given.patch = Patch {
            prefix: b"X-Prefix: 1\r\n".to_vec(),
            cuts: std::iter::once(0..cut).collect(),
        };
        octets = [b"X-Prefix: 1\r\n", &octets[cut..]].concat();
    }
    (given, octets)
}

fn random_change(model: &Model, chance: &mut Chance) -> Change {
    let mut some = |model: &Model| {
        let count = 1 + chance.below(3);
        (0..count).map(|_| model.any(chance)).collect::<Vec<_>>()
    };
    let all = some(model);
    match chance.below(8) {
        0 => Change::Handed(all),
        6 => Change::Held(all, chance.one_in(2)),
        7 => Change::DelayTold(all),
        1 | 2 => Change::Put(all[0], progress(chance)),
        _ => Change::Done(all),
    }
}

#[test]
fn queue_5_random_work_leaves_what_a_simple_model_says() {
    for kind in kinds() {
        for seed in 1..=6 {
            let chance = &mut Chance::new(seed);
            let mut queue = (kind.open)();
            let mut model = Model::default();
            for n in 0..120 {
                match chance.below(10) {
                    0..=3 => {
                        let (given, octets) = random_message(n, chance);
                        let number = accept(&*queue, given.clone()).unwrap();
                        for (recipient, progress) in &given.deliveries {
                            let delivery = no(number, *recipient);
                            model.deliveries.insert(delivery, progress.clone());
                        }
                        model.messages.insert(number, (given, octets));
                    }
                    4 if kind.again && chance.one_in(3) => {
                        drop(queue);
                        queue = (kind.open)();
                    }
                    5 => {
                        let change = random_change(&model, chance);
                        model.change(&change);
                        queue.change_soon(vec![change]);
                    }
                    _ => {
                        let changes: Vec<_> = (0..1 + chance.below(3))
                            .map(|_| random_change(&model, chance))
                            .collect();
                        changes.iter().for_each(|change| model.change(change));
                        wait(queue.change(changes)).unwrap();
                    }
                }
                if chance.one_in(20) {
                    // Everything before it is written with it.
                    wait(queue.change(Vec::new())).unwrap();
                    model.check(&*queue, chance);
                }
            }
            let all: Vec<_> = model.deliveries.keys().copied().collect();
            wait(queue.change(vec![Change::Done(all)])).unwrap();
            assert_eq!(queue.amount().deliveries, 0);
        }
    }
}
