//! What was stored is loaded page by page while mail is tried already (QUEUE-10).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use galerne_core::content::{Content, Patch};
use galerne_core::ports::BoxFuture;
use galerne_core::queue::{
    Amount, Change, Damage, Envelope, Filter, Kept, Listed, MessageNo, NewMessage, Place, Progress,
    QueueStore, QueuedRecipient, State, StoreFault, Stored,
};
use galerne_sim::net::Fate;
use galerne_sim::sink::{Rule, Stage};
use galerne_store::MemoryQueue;
use tokio::time::sleep;

use crate::world::{MESSAGE, World};

/// What is in it was there when it was opened.
#[derive(Default)]
pub struct Reopened {
    pub store: Arc<MemoryQueue>,
    /// It gives the first page at once, and each other one when something has been deferred.
    pub is_slow: bool,
    /// The recipients of what was accepted, and whether they were marked as handed with it.
    pub accepted: Mutex<Vec<(String, bool)>>,
}

impl QueueStore for Reopened {
    fn page(&self, after: Option<Place>, most: usize) -> Result<Vec<Stored>, StoreFault> {
        let deferred = Filter {
            state: Some(State::Deferred),
            ..Filter::default()
        };
        while self.is_slow && after.is_some() && self.store.list(&deferred, 1)?.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.store.page(after, most)
    }

    fn accept(&self, message: NewMessage) -> BoxFuture<'static, Result<MessageNo, StoreFault>> {
        let marks = message.deliveries.iter().map(|(index, progress)| {
            let recipient = &message.envelope.recipients[*index as usize];
            (recipient.address.clone(), progress.handed)
        });
        self.accepted.lock().unwrap().extend(marks);
        self.store.accept(message)
    }

    fn change(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), StoreFault>> {
        self.store.change(changes)
    }

    fn change_soon(&self, changes: Vec<Change>) {
        self.store.change_soon(changes);
    }

    fn opened_at(&self) -> MessageNo {
        MessageNo(1_000_000)
    }

    fn read(&self, message: MessageNo) -> Result<Option<Kept>, StoreFault> {
        self.store.read(message)
    }

    fn list(&self, filter: &Filter, most: usize) -> Result<Vec<Listed>, StoreFault> {
        self.store.list(filter, most)
    }

    fn amount(&self) -> Amount {
        self.store.amount()
    }

    fn is_ready(&self) -> bool {
        self.store.is_ready()
    }

    fn quarantine(&self, message: MessageNo, why: &str) -> Result<(), StoreFault> {
        self.store.quarantine(message, why)
    }

    fn check(&self, repair: bool) -> Result<Vec<Damage>, StoreFault> {
        self.store.check(repair)
    }

    fn close(&self) {
        self.store.close();
    }
}

pub fn envelope(to: String) -> Envelope {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Envelope {
        id: to.clone(),
        reference: to.clone(),
        tags: Vec::new(),
        header_id: None,
        user: None,
        login: None,
        peer: "203.0.113.7:4000".parse().unwrap(),
        helo: "client.example".to_owned(),
        tls: false,
        session_id: "s".to_owned(),
        sender: "orders@example.com".to_owned(),
        ret: None,
        envid: None,
        eight_bit: false,
        smtputf8: false,
        requiretls: false,
        tls_not_required: false,
        recipients: vec![QueuedRecipient {
            address: to,
            notify: None,
            orcpt: None,
        }],
        directive: None,
        header_from: None,
        received_at: u64::try_from(now.unwrap().as_millis()).unwrap(),
        needs_chunking: false,
        is_dsn: false,
    }
}

#[tokio::test(start_paused = true)]
async fn queue_10_queue_6_what_is_deferred_while_the_rest_is_loaded_is_tried_once_and_not_twice() {
    let store = Arc::new(MemoryQueue::default());
    for number in 0..10_001_u64 {
        // The first is due; the others are held, one of them on the next page.
        let progress = Progress {
            held: number > 0,
            next: if number == 10_000 { 2 } else { number.min(1) },
            ..Progress::default()
        };
        let message = NewMessage {
            envelope: Arc::new(envelope(format!("n{number}@example.org"))),
            content: Content::in_memory(MESSAGE.as_bytes().to_vec()),
            patch: Patch::default(),
            deliveries: vec![(0, progress)],
        };
        store.accept(message).await.unwrap();
    }
    let is_slow = true;
    let world = World::with_queue(
        "",
        Arc::new(Reopened {
            store,
            is_slow,
            ..Reopened::default()
        }),
    );
    let mx = world.mx("example.org", "198.51.100.25");
    mx.rule(Rule::at(Stage::Rcpt).times(2).reply("451 4.2.0 Later"));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.queued().queue.total(), 10_000, "the others are held");
    assert_eq!(mx.messages().len(), 1);
    let ended = world.queued().ended();
    assert_eq!(
        ended,
        [("n0@example.org".to_owned(), "delivered".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn queue_6_queue_14_what_starts_at_once_is_marked_with_its_acceptance_whatever_waits_elsewhere()
 {
    let store = Arc::new(Reopened::default());
    let config = "[relay]\nmode = queue\n[rfmta]\nthreadnb = 1000\n== domains/@.ini\n[ipflow#warmup]\nthreadmax = 0\n[sdflow#warmup]\nthreadmax = 0\n";
    let world = World::with_queue(config, store.clone());
    let slow = world.mx("slow.example", "198.51.100.25");
    slow.rule(Rule::at(Stage::Dot).delay(Duration::from_secs(3600)));
    world.mx("live.example", "198.51.100.26");
    world.zone("dead.example. MX 10 mx.dead.example.\nmx.dead.example. A 198.51.100.27");
    world.decide("198.51.100.27:25", Fate::Refuse);
    let mark = async |to: &str| {
        assert!(world.relay(to).await.starts_with("250 2.0.0 queued"));
        // The scheduler has done what it can.
        sleep(Duration::from_secs(1)).await;
        let accepted = store.accepted.lock().unwrap();
        let (recipient, is_handed) = accepted.last().unwrap();
        assert_eq!(recipient, to);
        *is_handed
    };
    sleep(Duration::from_secs(1)).await;
    for number in 0..70 {
        let is_handed = mark(&format!("m{number}@slow.example")).await;
        assert_eq!(is_handed, number < 64, "{number}");
    }
    // Six wait there; that is nothing to others.
    assert!(mark("anna@live.example").await);
    // A lane that rests starts nothing, although nobody is ready in it.
    assert!(mark("anna@dead.example").await);
    assert!(!mark("bert@dead.example").await);
    assert!(mark("bert@live.example").await);
}
