use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use galerne_core::queue::State;
use jiff::ToSpan;

use super::*;

fn told(id: &str, what: What) -> Told {
    Told {
        at: 1_700_000_000_123,
        id: id.into(),
        reference: format!("ref-{id}"),
        header_id: Some(format!("{id}@app.example.com")),
        what,
    }
}

fn received(id: &str, recipients: &[&str]) -> Told {
    told(
        id,
        What::Received {
            user: Some("shop".into()),
            peer: "192.0.2.7".into(),
            sender: "orders@example.com".into(),
            recipients: recipients.iter().map(|&r| r.to_owned()).collect(),
            size: 4096,
            mode: "queue".into(),
        },
    )
}

fn ended(id: &str, recipient: &str) -> Told {
    told(
        id,
        What::Ended {
            recipient: recipient.into(),
            outcome: "delivered".into(),
            reply: "250 2.0.0 ok".into(),
            duplicate_possible: false,
        },
    )
}

fn ids(found: &Found) -> Vec<&str> {
    found.told.iter().map(|told| &*told.id).collect()
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[test]
fn queue_17_a_story_is_found_by_id_reference_message_id_and_recipient() {
    let root = tempfile::tempdir().unwrap();
    let stories = StoryFiles::open(root.path(), WEEK).unwrap();
    stories.tell(received("01AA", &["anna@example.org", "bert@example.org"]));
    stories.tell(received("01AB", &["anna@example.org"]));
    stories.tell(told(
        "01AA",
        What::Again {
            recipient: "Anna@Example.ORG".into(),
            state: State::Unknown,
            next: 1_700_000_900_000,
            reply: "no reply; it was \"late\"\n".into(),
            duplicate_possible: true,
        },
    ));
    stories.tell(ended("01AA", "bert@example.org"));
    stories.flush();
    let find = |what: &str| find(root.path(), what, 100).unwrap();
    for what in [
        "01aa",
        "ref-01AA",
        "01AA@app.example.com",
        "<01AA@app.example.com>",
    ] {
        assert_eq!(ids(&find(what)), ["01AA"; 3], "{what}");
    }
    assert_eq!(ids(&find("ANNA@example.org")), ["01AA", "01AB", "01AA"]);
    assert_eq!(ids(&find("bert@example.org")), ["01AA", "01AA"]);
    // Part of a word, other fields, and a Message-ID in other case are something else.
    for what in [
        "01A",
        "orders@example.com",
        "REF-01AA",
        "01aa@app.example.com",
        "",
        "\"",
    ] {
        assert_eq!(ids(&find(what)), [""; 0], "{what}");
    }
    let again = &find("01AA").told[1];
    assert!(
        matches!(&again.what, What::Again { reply, duplicate_possible: true, .. } if reply.ends_with("\"late\"\n"))
    );
    let modes = ["", "system/trace"].map(|path| mode(&root.path().join(path)));
    assert_eq!(modes[1], 0o700);
    let (_, file) = days(&root.path().join(FOLDER)).unwrap().remove(0);
    assert_eq!(mode(&file), 0o600);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn queue_17_torn_and_damaged_lines_are_passed_over_and_counted() {
    let root = tempfile::tempdir().unwrap();
    let file = || days(&root.path().join(FOLDER)).unwrap().remove(0).1;
    let tell = |id: &str| {
        let stories = StoryFiles::open(root.path(), WEEK).unwrap();
        stories.tell(received(id, &["anna@example.org"]));
    };
    tell("01AA");
    let mut text = fs::read(file()).unwrap();
    text.truncate(text.len() - 20);
    fs::write(file(), text).unwrap();
    tell("01AB");
    let mut text = fs::read(file()).unwrap();
    text.extend_from_slice(b"\xff\xfe anna@example.org\n{\"id\":\"01AB\",\"anna@example.org\"}\n");
    // A line without an end, longer than memory, with what is sought in it.
    text.extend(std::iter::repeat_n(b'x', 5 << 20));
    text.extend_from_slice(b"anna@example.org");
    text.extend(std::iter::repeat_n(b'y', 3 << 20));
    text.push(b'\n');
    fs::write(file(), text).unwrap();
    tell("01AC");
    let found = find(root.path(), "anna@example.org", 100).unwrap();
    assert_eq!(ids(&found), ["01AB", "01AC"]);
    assert_eq!(found.damaged, 4);
}

#[test]
fn queue_17_the_latest_are_kept_where_there_are_many() {
    let root = tempfile::tempdir().unwrap();
    let noon: jiff::Zoned = "2026-03-01T12:00:00[UTC]".parse().unwrap();
    for day in 0..3 {
        let now = noon.checked_add(day.days()).unwrap();
        let clock: Clock = Arc::new(move || now.clone());
        let stories = StoryFiles::open_at(root.path(), WEEK, clock).unwrap();
        for number in 0..4 {
            stories.tell(received(&format!("{day}-{number}"), &["anna@example.org"]));
        }
    }
    let find = |most| find(root.path(), "anna@example.org", most).unwrap();
    assert_eq!(find(12).told.len(), 12);
    assert!(!find(12).more);
    let some = find(6);
    assert_eq!(ids(&some), ["1-2", "1-3", "2-0", "2-1", "2-2", "2-3"]);
    assert!(some.more);
    assert!(find(4).more && find(8).more);
    assert_eq!(ids(&find(1)), ["2-3"]);
}

#[test]
fn queue_17_a_file_is_kept_until_its_time_is_over() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(FOLDER);
    let now = Arc::new(Mutex::new(
        "2026-03-10T23:59:00[UTC]".parse::<jiff::Zoned>().unwrap(),
    ));
    let shown = now.clone();
    let clock: Clock = Arc::new(move || shown.lock().unwrap().clone());
    fs::create_dir_all(&folder).unwrap();
    for name in [
        "20260302.jsonl",
        "20260303.jsonl",
        "20260304.jsonl",
        "notes.txt",
    ] {
        fs::write(folder.join(name), "").unwrap();
    }
    let stories = StoryFiles::open_at(root.path(), WEEK, clock).unwrap();
    let names = || -> Vec<String> {
        let all = days(&folder).unwrap().into_iter();
        all.map(|(day, _)| day.strftime("%m%d").to_string())
            .collect()
    };
    assert_eq!(names(), ["0303", "0304"]);
    stories.tell(received("a", &["x@y.example"]));
    stories.flush();
    let later = now.lock().unwrap().checked_add(2.minutes()).unwrap();
    *now.lock().unwrap() = later;
    stories.tell(received("b", &["x@y.example"]));
    stories.flush();
    assert_eq!(names(), ["0304", "0310", "0311"]);
    stories.keep_for(Duration::ZERO);
    let later = now.lock().unwrap().checked_add(1.days()).unwrap();
    *now.lock().unwrap() = later;
    stories.tell(received("c", &["x@y.example"]));
    stories.flush();
    assert_eq!(names(), ["0312"]);
    assert!(folder.join("notes.txt").exists(), "what is not ours stays");
}

#[test]
fn queue_17_very_many_recipients_are_told_in_pieces() {
    let root = tempfile::tempdir().unwrap();
    let stories = StoryFiles::open(root.path(), WEEK).unwrap();
    let all: Vec<String> = (0..50_000)
        .map(|n| format!("customer-{n}@example.org"))
        .collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    stories.tell(received("01AA", &names));
    stories.flush();
    assert_eq!(find(root.path(), "01AA", 100).unwrap().told.len(), 50);
    let one = find(root.path(), "customer-49999@example.org", 100).unwrap();
    assert_eq!((one.told.len(), stories.lost()), (1, 0));
}

#[test]
fn queue_17_a_disk_that_refuses_costs_lines_that_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let stories = StoryFiles::open(root.path(), WEEK).unwrap();
    let folder = root.path().join(FOLDER);
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    stories.tell(received("a", &["x@y.example"]));
    stories.tell(ended("a", "x@y.example"));
    stories.flush();
    assert_eq!(stories.lost(), 2);
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    stories.tell(ended("a", "x@y.example"));
    stories.flush();
    assert_eq!(find(root.path(), "a", 9).unwrap().told.len(), 1);
    assert_eq!(stories.lost(), 2);
}

#[test]
fn queue_17_what_waits_is_bounded() {
    let root = tempfile::tempdir().unwrap();
    let pages = Pages::open(
        &root.path().join(FOLDER),
        Arc::new(jiff::Zoned::now),
        Arc::default(),
    );
    let shared = pages.unwrap().shared;
    // No thread takes anything.
    let stories = StoryFiles {
        queue: Arc::default(),
        shared: shared.clone(),
        thread: Mutex::new(None),
    };
    let all: Vec<String> = (0..100_000)
        .map(|n| format!("customer-{n}@example.org"))
        .collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    for _ in 0..30 {
        stories.tell(received("01AA", &names));
    }
    assert!(shared.waiting.load(Ordering::Relaxed) < 2 * MOST_WAITING);
    let mut taken = Vec::new();
    let batch = stories.queue.take(&mut taken);
    assert_eq!(taken.len() as u64 + batch.lost, 30);
    assert!(taken.len() < 20, "{}", taken.len());
}

#[test]
#[ignore = "a measurement"]
fn measure_writing_and_finding() {
    let root = tempfile::tempdir().unwrap();
    let stories = StoryFiles::open(root.path(), WEEK).unwrap();
    let begin = Instant::now();
    let mut inside = Duration::ZERO;
    for number in 0..2_000_000_u32 {
        let told = ended(
            &format!("01AA{number:022}"),
            &format!("customer{number}@example.org"),
        );
        let one = Instant::now();
        stories.tell(told);
        inside += one.elapsed();
        if number % 20_000 == 0 {
            stories.flush();
        }
    }
    stories.flush();
    println!(
        "telling {:?} each, {:?} in all, lost {}",
        inside / 2_000_000,
        begin.elapsed(),
        stories.lost()
    );
    let size: u64 = days(&root.path().join(FOLDER))
        .unwrap()
        .iter()
        .map(|(_, f)| fs::metadata(f).unwrap().len())
        .sum();
    let begin = Instant::now();
    let found = find(root.path(), "customer1999999@example.org", 10).unwrap();
    println!(
        "{} of {} MB in {:?}",
        found.told.len(),
        size >> 20,
        begin.elapsed()
    );
}
