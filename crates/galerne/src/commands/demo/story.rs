//! What became of a message, in the words of the screen. Made from the event that the house raises
//! for each transaction, and only from that.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galerne_core::model::{Answer, Attempt, Class, Outcome, Settled, Submission};
use galerne_core::ports::{EventSink, Module, Refused, UnknownError};
use galerne_smtp::Reply;
use galerne_smtp::reply::escape;
use tokio::sync::mpsc;

/// Stories that wait for the screen; beyond, they are counted.
const WAITING: usize = 1000;
/// Recipients of one message that are told of.
const MOST_RECIPIENTS: usize = 20;

/// One transaction of a client, or a notification of our own.
#[derive(Clone, Debug)]
pub struct Story {
    pub account: String,
    pub from: String,
    pub to: Vec<String>,
    /// It is a notification of ours, not a client's message.
    pub is_notice: bool,
    pub hops: Vec<Hop>,
    /// Lines of the reply, as they go over the wire.
    pub answer: Vec<String>,
    /// The rule of ours that refused, where no remote spoke.
    pub rule: Option<String>,
    pub took: Option<Duration>,
}

/// One connection from an outbound to a remote.
#[derive(Clone, Debug)]
pub struct Hop {
    pub outbound: IpAddr,
    pub host: String,
    pub remote: IpAddr,
    pub took: Duration,
    /// What was said to each recipient.
    pub ends: Vec<End>,
}

/// How a hop ended for one recipient.
#[derive(Clone, Debug)]
pub struct End {
    pub recipient: String,
    /// The step: `RCPT`, `DOT` …
    pub stage: &'static str,
    /// Lines of the remote's reply; or why there was none.
    pub said: Vec<String>,
    /// DELIVERED, HARD, SOFT, SPAM, GREY, FLOW; `NO REPLY` for a connection failure.
    pub meaning: &'static str,
    /// The pattern that says so, with file and line.
    pub pattern: Option<String>,
}

impl Story {
    fn of(submission: &Submission, answer: &Answer) -> Story {
        let account = submission
            .client
            .account
            .as_ref()
            .map_or("", |account| &account.name);
        let refusal = answer
            .settled
            .iter()
            .filter(|s| s.attempts.is_empty())
            .find_map(|s| s.refusal.as_ref());
        Story {
            account: account.to_owned(),
            from: clean(submission.sender.path.as_str()),
            to: submission
                .recipients
                .iter()
                .take(MOST_RECIPIENTS)
                .map(|r| clean(r.mailbox.as_str()))
                .collect(),
            is_notice: submission.is_dsn,
            hops: hops(&answer.settled),
            answer: lines(&answer.reply),
            rule: refusal.map(|refusal| clean(refusal.rule())),
            took: Some(submission.received.elapsed()),
        }
    }

    fn refused(refused: &Refused) -> Story {
        Story {
            account: refused.user.clone().unwrap_or_default(),
            from: clean(&refused.sender),
            to: refused
                .recipient
                .split(' ')
                .take(MOST_RECIPIENTS)
                .map(clean)
                .collect(),
            is_notice: false,
            hops: Vec::new(),
            answer: lines(&refused.reply),
            rule: Some(clean(&refused.rule)),
            took: None,
        }
    }
}

/// The hops of all recipients; those that shared a connection stand together.
fn hops(settled: &[Settled]) -> Vec<Hop> {
    let mut hops: Vec<(u32, Hop)> = Vec::new();
    for end in settled.iter().take(MOST_RECIPIENTS) {
        for (number, attempt) in end.attempts.iter().enumerate() {
            let last = number + 1 == end.attempts.len();
            let told = told(end, attempt, last && end.outcome == Outcome::Delivered);
            let same = |(hop, other): &&mut (u32, Hop)| {
                *hop == attempt.hop
                    && other.outbound == attempt.outbound.address
                    && other.remote == attempt.remote.address.ip()
                    && other.host == *attempt.remote.host
            };
            match hops.iter_mut().find(same) {
                Some((_, hop)) => hop.ends.push(told),
                None => hops.push((attempt.hop, hop(attempt, told))),
            }
        }
    }
    hops.sort_by_key(|(number, _)| *number);
    hops.into_iter().map(|(_, hop)| hop).collect()
}

fn hop(attempt: &Attempt, end: End) -> Hop {
    Hop {
        outbound: attempt.outbound.address,
        host: clean(&attempt.remote.host),
        remote: attempt.remote.address.ip(),
        took: attempt.duration,
        ends: vec![end],
    }
}

fn told(settled: &Settled, attempt: &Attempt, delivered: bool) -> End {
    let said = match (&attempt.reply, &attempt.failure) {
        (Some(reply), _) => lines(reply),
        (None, why) => vec![clean(why.as_deref().unwrap_or("no reply"))],
    };
    let qualification = attempt.qualification.as_ref();
    let meaning = match qualification.map(|q| &q.class) {
        _ if delivered => "DELIVERED",
        Some(Class::Hard) => "HARD",
        Some(Class::Soft) => "SOFT",
        Some(Class::Spam) => "SPAM",
        Some(Class::Grey(_)) => "GREY",
        Some(Class::Flow { .. }) => "FLOW",
        None => "NO REPLY",
    };
    let pattern = qualification.map(|q| match &q.pattern {
        Some(name) => format!("{}: pattern {name}, {}", q.description, q.source),
        None => "no pattern matches: temporary by default".to_owned(),
    });
    End {
        recipient: clean(settled.recipient.as_str()),
        stage: attempt.stage.word(),
        said,
        meaning,
        pattern,
    }
}

/// The lines of a reply as they go over the wire, made fit for a terminal.
fn lines(reply: &Reply) -> Vec<String> {
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    String::from_utf8_lossy(&wire).lines().map(clean).collect()
}

/// Text of others: nothing of it may speak to the terminal.
pub fn clean(text: &str) -> String {
    escape(text.as_bytes(), 600)
}

/// Hears of every transaction and passes its story on. Never waits.
pub struct Feed {
    to: mpsc::Sender<Story>,
    missed: AtomicU64,
}

impl Feed {
    /// A feed, and where its stories come out.
    pub fn new() -> (Arc<Feed>, mpsc::Receiver<Story>) {
        let (to, stories) = mpsc::channel(WAITING);
        (
            Arc::new(Feed {
                to,
                missed: AtomicU64::new(0),
            }),
            stories,
        )
    }

    /// Stories lost since the last call, because the screen was slower than the mail.
    pub fn missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }

    fn tell(&self, story: Story) {
        if self.to.try_send(story).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventSink for Feed {
    fn transaction(&self, submission: &Submission, answer: &Answer) {
        self.tell(Story::of(submission, answer));
    }
    fn refused(&self, refused: Refused) {
        self.tell(Story::refused(&refused));
    }
    /// Notifications go by the queue; of the rest the demo shows what a client sees.
    fn attempted(&self, submission: &Submission, settled: &[Settled]) {
        let Some(first) = settled.first().filter(|_| submission.is_dsn) else {
            return;
        };
        let answer = Answer {
            reply: first.reply.clone(),
            settled: settled.to_vec(),
        };
        self.tell(Story::of(submission, &answer));
    }
    fn unknown_error(&self, _: UnknownError) {}
    fn note(&self, _: Module, _: &str) {}
}
