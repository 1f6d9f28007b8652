//! What the durable queue costs: messages taken over and decided in a second, and CPU time for each.
//!
//! ```text
//! cargo run --release -p galerne-store --example queue_cost -- FOLDER [--handed] [--unsafe] [--seconds 5]
//!     [--octets N] [--acceptors N]
//! cargo run --release -p galerne-store --example queue_cost -- FOLDER --waiting 1000000
//! ```
//!
//! The first form measures acceptance and decision at 1, 16 and 200 acceptors, with 4 KiB and 64 KiB,
//! `--handed` also the durable mark in between (QUEUE-6). The second fills the queue and measures
//! how long it takes to open it, to the first page, to all pages, and lists with a filter.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use galerne_core::content::{Content, Patch};
use galerne_core::queue::{
    Change, DeliveryNo, Envelope, Filter, NewMessage, Place, Progress, QueueStore, QueuedRecipient,
};
use galerne_store::SqliteQueue;
use galerne_store::queue::Options;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Arguments {
    folder: PathBuf,
    handed: bool,
    sync: bool,
    seconds: u64,
    waiting: Option<u64>,
    octets: Option<usize>,
    acceptors: Option<usize>,
}

fn arguments() -> Option<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut read = Arguments {
        folder: words.next()?.into(),
        handed: false,
        sync: true,
        seconds: 5,
        waiting: None,
        octets: None,
        acceptors: None,
    };
    while let Some(word) = words.next() {
        match &*word {
            "--handed" => read.handed = true,
            "--unsafe" => read.sync = false,
            "--seconds" => read.seconds = words.next()?.parse().ok()?,
            "--waiting" => read.waiting = Some(words.next()?.parse().ok()?),
            "--octets" => read.octets = Some(words.next()?.parse().ok()?),
            "--acceptors" => read.acceptors = Some(words.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(read)
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: queue_cost FOLDER [--handed] [--unsafe] [--seconds N] [--waiting N]");
        return ExitCode::from(2);
    };
    let done = match arguments.waiting {
        Some(waiting) => fill_and_read(&arguments, waiting),
        None => accept_and_decide(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn open(arguments: &Arguments) -> Result<Arc<SqliteQueue>, Failure> {
    let options = Options {
        sync: arguments.sync,
        ..Options::default()
    };
    Ok(Arc::new(SqliteQueue::open(&arguments.folder, options)?))
}

fn accept_and_decide(arguments: &Arguments) -> Result<(), Failure> {
    println!("octets acceptors  messages/s  CPU us/message  p50 ms  p99 ms");
    let one = |number: Option<usize>, usual: &[usize]| number.map_or(usual.to_vec(), |n| vec![n]);
    for size in one(arguments.octets, &[4096, 65_536]) {
        for acceptors in one(arguments.acceptors, &[1, 16, 200]) {
            let queue = open(arguments)?;
            let (count, wall, cpu, mut times) = round(&queue, arguments, acceptors, size)?;
            queue.close();
            times.sort_unstable();
            let at = |part: f64| {
                let index = (times.len() as f64 * part) as usize;
                times.get(index).copied().unwrap_or_default() as f64 / 1000.0
            };
            println!(
                "{size:6} {acceptors:9}  {:10.0}  {:14.1}  {:6.2}  {:6.2}",
                count as f64 / wall.as_secs_f64(),
                cpu.as_secs_f64() * 1e6 / count as f64,
                at(0.5),
                at(0.99),
            );
        }
    }
    Ok(())
}

type Round = (u64, Duration, Duration, Vec<u32>);

fn round(
    queue: &Arc<SqliteQueue>,
    arguments: &Arguments,
    acceptors: usize,
    size: usize,
) -> Result<Round, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let body = Arc::new(vec![b'x'; size]);
    let handed = arguments.handed;
    let tasks: Vec<_> = (0..acceptors)
        .map(|acceptor| {
            let (queue, stop, count) = (queue.clone(), stop.clone(), count.clone());
            let body = body.clone();
            runtime.spawn(async move {
                let mut times = Vec::new();
                while !stop.load(Relaxed) {
                    let n = count.fetch_add(1, Relaxed);
                    let start = Instant::now();
                    let message = message(acceptor as u64, n, &body);
                    let message = queue.accept(message).await?;
                    times.push(start.elapsed().as_micros() as u32);
                    let delivery = DeliveryNo {
                        message,
                        recipient: 0,
                    };
                    if handed {
                        queue.change(vec![Change::Handed(vec![delivery])]).await?;
                    }
                    queue.change_soon(vec![Change::Done(vec![delivery])]);
                }
                Ok::<_, galerne_core::queue::StoreFault>(times)
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1)); // warm
    let (cpu, start, before) = (cpu()?, Instant::now(), count.load(Relaxed));
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let (cpu, wall) = (self::cpu()? - cpu, start.elapsed());
    let counted = count.load(Relaxed) - before;
    stop.store(true, Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(runtime.block_on(task)??);
    }
    Ok((counted, wall, cpu, times))
}

fn fill_and_read(arguments: &Arguments, waiting: u64) -> Result<(), Failure> {
    let queue = open(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let body = Arc::new(vec![b'x'; 4096]);
    let start = Instant::now();
    let mut n = queue.amount().messages;
    let from = n;
    while n < waiting {
        let accepts: Vec<_> = (n..waiting.min(n + 1000))
            .map(|n| queue.accept(message(n % 100, n, &body)))
            .collect();
        n += accepts.len() as u64;
        for accept in accepts {
            runtime.block_on(accept)?;
        }
    }
    let filled = start.elapsed().as_secs_f64();
    println!("{} messages taken over in {filled:.1} s", n - from);
    drop(queue);

    let start = Instant::now();
    let queue = open(arguments)?;
    println!("opened after {:.3} s", start.elapsed().as_secs_f64());
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = queue.page(after, 1000)?;
        let Some(last) = page.last() else { break };
        let (next, delivery) = (last.progress.next, last.delivery);
        after = Some(Place { next, delivery });
        if seen == 0 {
            println!("first page after {:.3} s", start.elapsed().as_secs_f64());
        }
        seen += page.len();
    }
    println!(
        "{seen} deliveries after {:.3} s",
        start.elapsed().as_secs_f64()
    );
    let text = |text: &str| Some(text.to_owned());
    let filters = [
        (
            "id",
            Filter {
                id: text("none"),
                ..Filter::default()
            },
        ),
        (
            "recipient",
            Filter {
                recipient: text("none@x.example"),
                ..Filter::default()
            },
        ),
        (
            "domain",
            Filter {
                domain: text("none.example"),
                ..Filter::default()
            },
        ),
        (
            "user",
            Filter {
                user: text("none"),
                ..Filter::default()
            },
        ),
        (
            "tag",
            Filter {
                tag: text("none"),
                ..Filter::default()
            },
        ),
        (
            "user+domain",
            Filter {
                user: text("account-7"),
                domain: text("none.example"),
                ..Filter::default()
            },
        ),
    ];
    for (name, filter) in filters {
        let start = Instant::now();
        let found = queue.list(&filter, 100)?.len();
        let time = start.elapsed().as_secs_f64();
        println!("list by {name}: {found} found in {time:.3} s");
    }
    println!("resident {} MiB", resident()?);
    Ok(())
}

fn message(who: u64, n: u64, body: &Arc<Vec<u8>>) -> NewMessage {
    let recipient = QueuedRecipient {
        address: format!("recipient-{n}@domain-{}.example", n % 1000),
        notify: None,
        orcpt: None,
    };
    let envelope = Envelope {
        id: format!("01J{n:023}"),
        reference: format!("ref-{n}"),
        tags: vec!["news".to_owned()],
        header_id: Some(format!("{n}@client.example")),
        user: Some(format!("account-{who}")),
        login: Some("login".to_owned()),
        peer: std::net::SocketAddr::from(([192, 0, 2, 1], 40_000)),
        helo: "client.example".to_owned(),
        tls: true,
        session_id: format!("s{n}"),
        sender: format!("sender-{who}@client.example"),
        ret: None,
        envid: None,
        eight_bit: true,
        smtputf8: false,
        requiretls: false,
        tls_not_required: false,
        recipients: vec![recipient],
        directive: None,
        header_from: Some("sender@client.example".to_owned()),
        received_at: 1_700_000_000_000 + n,
        needs_chunking: false,
        is_dsn: false,
    };
    let progress = Progress {
        next: envelope.received_at,
        ..Progress::default()
    };
    NewMessage {
        envelope: Arc::new(envelope),
        content: Content {
            memory: body.clone(),
            spill: None,
        },
        patch: Patch {
            prefix: b"Received: by us\r\n".to_vec(),
            cuts: Vec::new(),
        },
        deliveries: vec![(0, progress)],
    }
}

/// User and system time of this process.
fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// MiB in memory.
fn resident() -> Result<u64, Failure> {
    let statm = std::fs::read_to_string(Path::new("/proc/self/statm"))?;
    let pages = statm.split_whitespace().nth(1).unwrap_or("0");
    Ok(pages.parse::<u64>()? * 4 / 1024)
}
