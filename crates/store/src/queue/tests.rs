//! What only the queue on disk can do: its files, what becomes of damage, and how fast it opens.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use galerne_core::content::Spill;
use galerne_core::queue::{Change, Filter, Place, QueueStore};

use super::testing::*;
use super::*;

fn options() -> Options {
    Options {
        warm: 1 << 20,
        segment: 1 << 20,
        ..Options::default()
    }
}

fn open(folder: &Path) -> SqliteQueue {
    SqliteQueue::open(folder, options()).unwrap()
}

fn segment_files(folder: &Path) -> Vec<u64> {
    let mut files = segments::files(folder).unwrap();
    files.sort_unstable();
    files
}

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn done(queue: &SqliteQueue, messages: &[MessageNo]) {
    let all = messages.iter().map(|&message| DeliveryNo {
        message,
        recipient: 0,
    });
    wait(queue.change(vec![Change::Done(all.collect())])).unwrap();
}

#[test]
fn queue_2_the_files_are_for_their_owner_alone_and_the_log_is_warm() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("system/queue");
    let queue = open(&folder);
    accept(&queue, message("m", &["a@b.example"], 100_000)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    assert_eq!(names.len(), 5); // database, log, its index, lock, segment
    for entry in names {
        assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
    }
    let log = fs::metadata(folder.join("queue.db-wal")).unwrap().len();
    assert!(log >= 1 << 20);
    queue.close();
    // Everything is in the database now, which can be copied.
    assert!(!folder.join("queue.db-wal").exists());
}

#[test]
fn conf_31_what_is_larger_than_qmmemo_stands_in_a_file_of_its_own() {
    for (in_row, files) in [(8 * 1024, 1), (64 * 1024, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            in_row,
            ..options()
        };
        let queue = SqliteQueue::open(folder.path(), options).unwrap();
        let number = accept(&queue, message("m", &["a@b.example"], 20_000)).unwrap();
        assert_eq!(segment_files(folder.path()).len(), files, "{in_row}");
        let kept = queue.read(number).unwrap().unwrap();
        assert!(
            kept.content.memory.len() + kept.content.spill.map_or(0, |s| s.len() as usize)
                >= 20_000
        );
    }
}

#[test]
fn queue_2_only_one_process_has_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let second = SqliteQueue::open(folder.path(), options()).map(drop);
    assert!(second.unwrap_err().to_string().contains("another process"));
    drop(queue);
    open(folder.path());
}

#[test]
fn t_39_queue_2_a_full_queue_of_another_version_is_refused_clearly_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let all = six(folder.path());
    let connection = rusqlite::Connection::open(folder.path().join("queue.db")).unwrap();
    for (version, words) in [
        (2, "has the form 2, made by a later version of galerne"),
        (0, "has the form 0, which no version of galerne makes"),
    ] {
        connection
            .pragma_update(None, "user_version", version)
            .unwrap();
        let refused = SqliteQueue::open(folder.path(), options()).map(drop);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(words) && text.contains("form 1"), "{text}");
        let kept: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(kept, version);
    }
    // The version that made it finds everything.
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);
    let queue = open(folder.path());
    for number in all {
        assert!(queue.read(number).unwrap().is_some());
    }
}

#[test]
fn queue_10_a_segment_goes_with_its_last_body_and_readers_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    // Eight to a segment of 1 MiB: the fourth is being written.
    let all: Vec<_> = (0..30)
        .map(|n| accept(&queue, message(&format!("m{n}"), &["a@b.example"], 140_000)).unwrap())
        .collect();
    assert_eq!(segment_files(folder.path()), [1, 2, 3, 4]);
    let mut content = queue.read(all[0]).unwrap().unwrap().content;
    // As of a large message: most of it is still to be read.
    let body = {
        let spot = queue.shared.readers.records(1, None, 1).unwrap()[0];
        segments::Body::open(folder.path(), spot.0, &spot.1).unwrap()
    };
    done(&queue, &all[..8]);
    until("the first is gone", || {
        segment_files(folder.path()) == [2, 3, 4]
    });
    content.spill = Some(std::sync::Arc::new(body) as std::sync::Arc<dyn Spill>);
    content.memory = Default::default();
    assert!(super::testing::all(&content) == octets("m0", 140_000));
    // One of eight lives in the second: it moves.
    done(&queue, &all[9..16]);
    until("the second is gone", || {
        segment_files(folder.path()) == [3, 4]
    });
    let moved = queue.read(all[8]).unwrap().unwrap();
    assert!(super::testing::all(&moved.content) == octets("m8", 140_000));
    assert_eq!(queue.check(false).unwrap(), []);
    queue.close();
    let queue = open(folder.path());
    assert!(queue.read(all[8]).unwrap().is_some());
    assert_eq!(queue.amount().messages, 15);
    // Those that lived when it was opened are looked after as well.
    done(&queue, &all[16..]);
    done(&queue, &[all[8]]);
    // But for the one to which the last may have been moved: it goes on being written.
    until("all are gone", || segment_files(folder.path()).len() <= 1);
}

#[test]
fn t_31_what_stands_behind_the_last_body_is_cut_and_strange_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let number = accept(&queue, message("m", &["a@b.example"], 100_000)).unwrap();
    drop(queue);
    let path = segments::path(folder.path(), 1);
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"GREC half a record", length).unwrap();
    fs::write(segments::path(folder.path(), 77), b"never committed").unwrap();
    let queue = open(folder.path());
    assert_eq!(fs::metadata(&path).unwrap().len(), length);
    assert_eq!(segment_files(folder.path()), [1]);
    assert!(queue.read(number).unwrap().is_some());
    // An old file is not written again.
    accept(&queue, message("n", &["a@b.example"], 100_000)).unwrap();
    assert_eq!(segment_files(folder.path()), [1, 78]);
    assert_eq!(queue.check(false).unwrap(), []);
}

/// A queue with six messages; every second is large.
fn six(folder: &Path) -> Vec<MessageNo> {
    let queue = open(folder);
    let accept = |n: usize| {
        let size = if n.is_multiple_of(2) { 3000 } else { 300_000 };
        accept(&queue, message(&format!("m{n}"), &["a@b.example"], size)).unwrap()
    };
    (0..6).map(accept).collect()
}

fn sql(folder: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(folder.join("queue.db")).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

#[test]
fn t_35_queue_26_only_what_is_damaged_is_set_aside() {
    type Harm = fn(&Path);
    // The message that is harmed, how, and what is said of it.
    let harms: [(usize, Harm, &str); 9] = [
        (
            1,
            |f| flip_segment(f, 16 + 32 + 1000),
            "its body has a wrong checksum",
        ),
        (
            1,
            |f| flip_segment(f, 16 + 32 + 299_999),
            "its body has a wrong checksum",
        ),
        (
            1,
            |f| flip_segment(f, 16 + 9),
            "not the record of the message",
        ),
        (
            0,
            |f| sql(f, "UPDATE content SET body = zeroblob(3000) WHERE no = 1"),
            "its row has a wrong checksum",
        ),
        (
            0,
            |f| sql(f, "UPDATE message SET sender = 'other' WHERE no = 1"),
            "not of one message",
        ),
        (
            0,
            |f| sql(f, "UPDATE delivery SET address = 'x@y' WHERE key >> 20 = 1"),
            "not to its recipient",
        ),
        (
            0,
            |f| sql(f, "DELETE FROM delivery WHERE key >> 20 = 1"),
            "no delivery",
        ),
        (
            0,
            |f| sql(f, "DELETE FROM message WHERE no = 1"),
            "its row is missing",
        ),
        (1, |f| sql(f, "DELETE FROM large WHERE no = 2"), "no body"),
    ];
    for (harmed, harm, said) in harms {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let numbers = six(folder);
        harm(folder);
        let queue = open(folder);
        let id = format!("m{harmed}");
        let found = queue.check(false).unwrap();
        let of_message: Vec<_> = found.iter().filter(|d| d.id.is_some()).collect();
        assert_eq!(of_message.len(), 1, "{said}: {found:?}");
        assert!(of_message[0].what.contains(said), "{found:?}");
        assert_eq!(of_message[0].id.as_ref(), Some(&id));
        assert!(!of_message[0].quarantined);
        if said.contains("checksum") || said.contains("record") || said == "no body" {
            let read = queue.read(numbers[harmed]);
            assert!(matches!(read, Err(StoreFault::Damaged(_))), "{read:?}");
        }
        let repaired = queue.check(true).unwrap();
        assert!(
            repaired
                .iter()
                .any(|d| d.quarantined && d.id.as_ref() == Some(&id))
        );
        assert_eq!(queue.check(false).unwrap(), [], "{said}");
        assert_eq!(queue.amount().messages, 5);
        assert!(queue.read(numbers[harmed]).unwrap().is_none());
        for (n, number) in numbers.iter().enumerate().filter(|(n, _)| *n != harmed) {
            let kept = queue.read(*number).unwrap().unwrap();
            assert!(all(&kept.content) == octets(&format!("m{n}"), kept.content.len() as usize));
        }
        let place = folder.join("quarantine");
        let told: serde_json::Value =
            serde_json::from_slice(&fs::read(place.join(format!("{id}.json"))).unwrap()).unwrap();
        assert!(told["why"].as_str().unwrap().contains(said));
        assert_eq!(told["envelope"]["sender"], "Sender@client.example");
        let size = fs::metadata(place.join(format!("{id}.eml"))).unwrap().len();
        let expected = match (said, harmed) {
            ("no body", _) => 0,
            (_, 0) => 3000,
            _ => 300_000,
        };
        assert_eq!(size, expected, "{said}");
    }
}

fn flip_segment(folder: &Path, at: u64) {
    let path = segments::path(folder, 1);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, at).unwrap();
    file.write_all_at(&[octet[0] ^ 4], at).unwrap();
}

#[test]
fn t_35_queue_26_wrong_counters_and_a_damaged_file_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    six(folder);
    sql(folder, "UPDATE meta SET messages = 9");
    let queue = open(folder);
    assert_eq!(queue.amount().messages, 9);
    assert!(queue.check(true).unwrap()[0].what.contains("counted anew"));
    assert_eq!(queue.amount().messages, 6);
    assert_eq!(queue.check(false).unwrap(), []);
    drop(queue);
    // An index that does not fit its table.
    let connection = rusqlite::Connection::open(folder.join("queue.db")).unwrap();
    let page: u64 = connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'delivery_next'",
            [],
            |row| row.get::<_, i64>(0).map(i64::cast_unsigned),
        )
        .unwrap();
    drop(connection);
    let file = fs::File::options()
        .write(true)
        .open(folder.join("queue.db"))
        .unwrap();
    file.write_all_at(&[0xff; 64], (page - 1) * 4096).unwrap();
    let queue = open(folder);
    let found = queue.check(false).unwrap();
    let of_file = |damage: &galerne_core::queue::Damage| damage.what.contains("file queue.db");
    assert!(found.iter().any(of_file), "{found:?}");
    // Reading a message does not need the index; recovery does, and gets a new one.
    assert!(queue.read(MessageNo(1)).unwrap().is_some());
    assert!(queue.page(None, 10).is_err());
    drop(queue);
    let rebuilt = rebuild(folder).unwrap();
    assert_eq!((rebuilt.rows, rebuilt.gaps), (6 + 6 + 3 + 6, 0));
    let queue = open(folder);
    assert_eq!(queue.check(false).unwrap(), []);
    assert_eq!(queue.page(None, 10).unwrap().len(), 6);
    assert!(folder.join("quarantine/queue-0.db").exists());
}

#[test]
fn t_35_queue_26_a_database_with_a_page_of_nonsense_keeps_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let queue = open(folder);
    for n in 0..200 {
        accept(&queue, message(&format!("m{n}"), &["a@b.example"], 3000)).unwrap();
    }
    let last = accept(&queue, message("last", &["a@b.example"], 30_000)).unwrap();
    drop(queue);
    let connection = rusqlite::Connection::open(folder.join("queue.db")).unwrap();
    let page: u64 = connection
        .query_row(
            "SELECT pageno FROM dbstat WHERE name = 'content' AND pagetype = 'leaf' \
             ORDER BY pageno LIMIT 1 OFFSET 20",
            [],
            |row| row.get::<_, i64>(0).map(i64::cast_unsigned),
        )
        .unwrap();
    drop(connection);
    let file = fs::File::options()
        .write(true)
        .open(folder.join("queue.db"))
        .unwrap();
    file.write_all_at(&[0xa5; 4096], (page - 1) * 4096).unwrap();
    assert!(open(folder).check(true).is_err());
    let told = repair(folder, &options()).unwrap();
    assert!(told[1].what.contains("with 1 gaps"), "{told:?}");
    // What has lost its content is set aside, and only that.
    let lost = &told[2..];
    assert!(!lost.is_empty() && lost.len() < 5, "{lost:?}");
    assert!(
        lost.iter()
            .all(|d| d.quarantined && d.what.contains("content is missing"))
    );
    let queue = open(folder);
    assert_eq!(queue.check(false).unwrap(), []);
    assert_eq!(queue.amount().messages, 201 - lost.len() as u64);
    let next = accept(&queue, message("next", &["a@b.example"], 10)).unwrap();
    assert!(next > last);
}

#[test]
fn queue_26_a_message_that_cannot_be_read_is_set_aside_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = six(folder.path());
    let queue = open(folder.path());
    queue.quarantine(numbers[1], "it was read in vain").unwrap();
    // Twice changes nothing.
    queue.quarantine(numbers[1], "it was read in vain").unwrap();
    assert!(queue.read(numbers[1]).unwrap().is_none());
    let eml = fs::read(folder.path().join("quarantine/m1.eml")).unwrap();
    assert!(eml == octets("m1", 300_000));
    assert_eq!(queue.amount().messages, 5);
}

#[test]
fn t_23_a_body_that_cannot_be_read_refuses_its_message_alone() {
    struct Torn;
    impl Spill for Torn {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
            match offset {
                0 => Ok(buffer.len().min(1000)),
                _ => Err(std::io::Error::other("torn")),
            }
        }
        fn len(&self) -> u64 {
            500_000
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let mut torn = message("torn", &["a@b.example"], 300_000);
    torn.content.spill = Some(std::sync::Arc::new(Torn));
    let refused = accept(&queue, torn);
    assert!(matches!(refused, Err(StoreFault::Broken(_))), "{refused:?}");
    assert!(queue.is_ready());
    let number = accept(&queue, message("m", &["a@b.example"], 300_000)).unwrap();
    assert!(all(&queue.read(number).unwrap().unwrap().content) == octets("m", 300_000));
    assert_eq!(queue.check(false).unwrap(), []);
}

#[test]
fn queue_10_t_38_what_waits_is_there_at_once_in_order_and_mail_is_taken_meanwhile() {
    // A hundred thousand; five million where there is time (`scripts/long`).
    let count = match std::env::var_os("GALERNE_LONG") {
        Some(_) => 5_000_000_usize,
        None => 100_000,
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let queue = open(folder);
    accept(&queue, message("m", &["a@b.example"], 500)).unwrap();
    drop(queue);
    let mut connection = rusqlite::Connection::open(folder.join("queue.db")).unwrap();
    let filling = connection.transaction().unwrap();
    filling
        .execute_batch(&format!(
            "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS \
             (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n; \
             INSERT INTO message SELECT i, id || i, reference, tags, header_id, user, sender, \
             received_at + i, size FROM n, message; \
             INSERT INTO content SELECT i, crc, envelope, body FROM n, content; \
             INSERT INTO delivery SELECT i << 20, address, state, flags, attempts, greys, \
             (i * 7919) % 1000, grp, route, outbound, last_reply FROM n, delivery; \
             UPDATE meta SET next_no = {count} + 1, messages = {count}, deliveries = {count};",
        ))
        .unwrap();
    filling.commit().unwrap();
    drop(connection);
    let start = Instant::now();
    let queue = open(folder);
    let new = accept(&queue, message("new", &["a@b.example"], 500)).unwrap();
    let taken = start.elapsed();
    assert_eq!(new, MessageNo(count as u64 + 1));
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    let (mut after, mut seen, mut first) = (None, 0, None);
    loop {
        let page = queue.page(after, 1000).unwrap();
        first.get_or_insert_with(|| start.elapsed());
        let Some(last) = page.last() else { break };
        let place = Place {
            next: last.progress.next,
            delivery: last.delivery,
        };
        assert!(after < Some(place));
        after = Some(place);
        seen += page.len();
    }
    let took = start.elapsed();
    assert_eq!(seen, count + 1);
    println!("{count} waiting: mail is taken after {taken:?}, first page {first:?}, all {took:?}");
    let times = (count / 100_000) as u32;
    assert!(took < Duration::from_secs(5) * times, "{took:?}");
    assert!(first < Some(taken + Duration::from_secs(1)), "{first:?}");
    let start = Instant::now();
    let filter = Filter {
        domain: Some("none.example".to_owned()),
        ..Filter::default()
    };
    assert_eq!(queue.list(&filter, 10).unwrap(), []);
    assert!(start.elapsed() < Duration::from_secs(1) * times);
}

#[test]
fn queue_26_a_sound_queue_is_repaired_by_leaving_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    six(folder.path());
    assert_eq!(repair(folder.path(), &options()).unwrap(), []);
    assert!(!folder.path().join("quarantine").exists());
    let queue = open(folder.path());
    assert!(repair(folder.path(), &options()).is_err());
    assert_eq!(queue.amount().messages, 6);
}

#[test]
fn queue_26_bodies_without_a_database_are_not_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    six(folder.path());
    fs::remove_file(folder.path().join("queue.db")).unwrap();
    let refused = SqliteQueue::open(folder.path(), options()).map(drop);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("queue.db is missing")
    );
    assert!(repair(folder.path(), &options()).is_err());
    assert_eq!(segment_files(folder.path()), [1]);
}

#[test]
fn queue_5_queue_26_bodies_without_their_database_are_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("seg-0000000000000001");
    std::fs::write(&body, b"mail").unwrap();
    let opened = SqliteQueue::open(folder.path(), Options::default());
    let text = opened.err().map(|error| error.to_string()).unwrap();
    assert!(text.contains("queue.db is missing"), "{text}");
    assert_eq!(std::fs::read(&body).unwrap(), b"mail");
}
