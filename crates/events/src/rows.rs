//! What a transaction looks like as lines: `rfrelay.csv`, `rfmta.csv` and a group's error log.
//!
//! Relayed mail belongs to no job and no list, so `rfmailno` and `rfrecno` are 0. Durations are
//! milliseconds.

use std::fmt::Write;
use std::time::SystemTime;

use galerne_core::model::{
    Answer, Attempt, Class, Outcome, Reply, ReversePath, Settled, Submission,
};
use galerne_core::ports::{Module, Refused, UnknownError};
use galerne_core::refusal::{Code, Refusal};

use crate::record::{Record, Values};
use crate::text::escape_line;

/// One line per delivery (CONF-89).
const RFMTA: &[&str] = &[
    "rfsenddate",
    "user",
    "ref",
    "rfmailno",
    "rfrecno",
    "email",
    "sender",
    "rfsendip",
    "rfmxhost",
    "rfmxip",
    "rfdm",
    "rfstp",
    "rfcode",
    "rfrcv",
    "rfpattern",
    "rfstr",
    "rfstatus",
    "rfhop",
    "rfset",
    "duration",
    "tls",
];

/// One line per transaction of a client (RELAY-82, RELAY-38). From `rfsendip` to `rfstr` it
/// shows the delivery that decided the answer; `rfhop` and `duration` are those of the whole.
const RFRELAY: &[&str] = &[
    "rfdate",
    "user",
    "ref",
    "sender",
    "email",
    "peer",
    "helo",
    "tls",
    "messageid",
    "session",
    "size",
    "title",
    "tags",
    "rfsendip",
    "rfmxhost",
    "rfmxip",
    "rfdm",
    "rfstp",
    "rfrcv",
    "rfpattern",
    "rfstr",
    "rfhop",
    "code",
    "reply",
    "rule",
    "duration",
];

/// One line per error that no pattern of the group matches (CONF-69).
pub(crate) const GROUP_COLUMNS: [&str; 8] = [
    "rfsenddate",
    "ref",
    "rfmailno",
    "rfrecno",
    "rfsendip",
    "rfmxip",
    "rfstp",
    "rfrcv",
];

/// The columns of a module's csv file; none: it has no such file yet.
pub(crate) fn columns(module: Module) -> &'static [&'static str] {
    match module {
        Module::RfMta => RFMTA,
        Module::RfRelay => RFRELAY,
        _ => &[],
    }
}

/// The lines of a finished transaction.
pub(crate) fn transaction(
    submission: &Submission,
    answer: &Answer,
    now: SystemTime,
) -> Vec<Record> {
    let mut records = Vec::with_capacity(answer.settled.len() + 1);
    records.push(Record::Row {
        module: Module::RfRelay,
        at: submission.received_at,
        values: relayed(submission, answer),
    });
    records.extend(attempted(submission, &answer.settled, now));
    records
}

/// The lines of deliveries that were attempted.
pub(crate) fn attempted(
    submission: &Submission,
    settled: &[Settled],
    now: SystemTime,
) -> Vec<Record> {
    let mut records = Vec::with_capacity(settled.len());
    for settled in settled {
        records.push(Record::Row {
            module: Module::RfMta,
            at: now,
            values: delivery(submission, settled),
        });
        if settled.outcome != Outcome::Delivered {
            let text = trouble(submission, settled);
            records.push(Record::Line {
                module: Module::RfMta,
                at: now,
                text,
            });
        }
    }
    records
}

/// The line of `rfmta.csv`.
fn delivery(submission: &Submission, settled: &Settled) -> Values {
    let mut values = Values::with_capacity(320);
    let attempt = settled.attempts.last();
    values.push(user(submission));
    values.push(&submission.reference);
    values.word("0");
    values.word("0");
    values.push(settled.recipient.as_str());
    values.push(path(&settled.sender));
    place(&mut values, settled, attempt);
    match attempt.map(|a| &a.reply) {
        Some(Some(reply)) => values.number(reply.code().into()),
        Some(None) => values.empty(),
        None => values.number(settled.reply.code().into()),
    }
    match attempt {
        Some(attempt) => heard(&mut values, attempt),
        None => values.push(&as_received(&settled.reply)),
    }
    qualified(&mut values, attempt);
    values.word(status(settled));
    values.number(settled.attempts.len() as u64);
    values.push(&switches(attempt));
    values.number(settled.duration.as_millis() as u64);
    values.push(attempt.and_then(|a| a.tls.as_deref()).unwrap_or(""));
    values
}

/// The line of `rfrelay.csv`.
fn relayed(submission: &Submission, answer: &Answer) -> Values {
    let mut values = Values::with_capacity(512);
    let client = &submission.client;
    let decisive = decisive(answer);
    let attempt = decisive.and_then(|s| s.attempts.last());
    values.push(user(submission));
    values.push(&submission.reference);
    values.push(path(&submission.sender.path));
    recipients(&mut values, submission);
    values.ip(client.peer.ip());
    values.push(&client.helo);
    values.word(if client.tls { "1" } else { "0" });
    values.push(&submission.message_id);
    values.push(&client.session_id);
    values.number(submission.content.len());
    values.push(submission.directive.title.as_deref().unwrap_or(""));
    match &submission.directive.tags[..] {
        [] => values.empty(),
        tags => values.push(&tags.join(" ")),
    }
    match decisive {
        Some(settled) => place(&mut values, settled, attempt),
        None => (0..5).for_each(|_| values.empty()),
    }
    match attempt {
        Some(attempt) => heard(&mut values, attempt),
        None => values.empty(),
    }
    qualified(&mut values, attempt);
    let hops: usize = answer.settled.iter().map(|s| s.attempts.len()).sum();
    values.number(hops as u64);
    values.number(answer.reply.code().into());
    values.push(&as_received(&answer.reply));
    values.push(decisive.map_or("", rule));
    values.number(submission.received.elapsed().as_millis() as u64);
    values
}

/// The lines of a refusal before any attempt.
pub(crate) fn refused(refused: &Refused) -> [Record; 2] {
    let user = refused.user.as_deref().unwrap_or("");
    let reply = as_received(&refused.reply);
    let mut values = Values::with_capacity(320);
    for value in [
        user,
        &refused.reference,
        &refused.sender,
        &refused.recipient,
    ] {
        values.push(value);
    }
    values.ip(refused.peer);
    (0..3).for_each(|_| values.empty());
    values.push(&refused.session_id);
    values.number(refused.size);
    (0..10).for_each(|_| values.empty());
    values.word("0");
    values.number(refused.reply.code().into());
    values.push(&reply);
    values.push(&refused.rule);
    values.empty();

    let mut text = String::with_capacity(200);
    labelled(
        &mut text,
        &[
            ("refused user", user),
            ("ref", &refused.reference),
            ("sender", &refused.sender),
            ("recipient", &refused.recipient),
            ("reply", &reply),
            ("rule", &refused.rule),
        ],
    );
    // Writing to a String cannot fail.
    let _ = write!(text, " peer={}", refused.peer);
    [
        Record::Row {
            module: Module::RfRelay,
            at: refused.at,
            values,
        },
        Record::Line {
            module: Module::RfRelay,
            at: refused.at,
            text,
        },
    ]
}

/// The line of a group's error log.
pub(crate) fn unknown(error: &UnknownError) -> Record {
    let mut values = Values::with_capacity(160);
    values.push(&error.reference);
    values.word("0");
    values.word("0");
    values.ip(error.outbound);
    values.ip(error.remote);
    values.word(error.stage.word());
    values.push(&error.reply);
    let group = error
        .group
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    Record::Group {
        group,
        at: error.at,
        values,
    }
}

/// `rfsendip, rfmxhost, rfmxip, rfdm, rfstp`.
fn place(values: &mut Values, settled: &Settled, attempt: Option<&Attempt>) {
    match attempt {
        Some(attempt) => {
            values.ip(attempt.outbound.address);
            values.push(&attempt.remote.host);
            values.ip(attempt.remote.address.ip());
        }
        None => (0..3).for_each(|_| values.empty()),
    }
    values.push(settled.group.as_ref().map_or("", |g| &g.name));
    values.word(attempt.map_or("", |a| a.stage.word()));
}

/// `rfrcv`: the reply as received, or why there was none.
fn heard(values: &mut Values, attempt: &Attempt) {
    match (&attempt.reply, &attempt.failure) {
        (Some(reply), _) => values.push(&as_received(reply)),
        (None, Some(failure)) => values.push(failure),
        (None, None) => values.empty(),
    }
}

/// `rfpattern, rfstr`.
fn qualified(values: &mut Values, attempt: Option<&Attempt>) {
    let qualification = attempt.and_then(|a| a.qualification.as_ref());
    values.push(
        qualification
            .and_then(|q| q.pattern.as_deref())
            .unwrap_or(""),
    );
    values.push(qualification.map_or("", |q| &q.description));
}

/// `rfstatus`, in the words of JOB-49.
fn status(settled: &Settled) -> &'static str {
    let refusal = settled
        .refusal
        .as_ref()
        .filter(|_| settled.attempts.is_empty());
    match (&settled.outcome, refusal) {
        (Outcome::Delivered, _) => "Delivered",
        (Outcome::Unknown, _) => "Unknown",
        (Outcome::Cancelled, _) => "Stopped",
        (
            _,
            Some(Refusal::Ours {
                code: Code::Listed | Code::Filtered,
                ..
            }),
        ) => "Filtered",
        (
            _,
            Some(Refusal::Ours {
                code: Code::BadRecipient | Code::NoSuchDomain,
                ..
            }),
        ) => "Invalid",
        _ => match settled
            .attempts
            .last()
            .and_then(|a| a.qualification.as_ref())
            .map(|q| &q.class)
        {
            Some(Class::Hard) => "Hard",
            Some(Class::Spam) => "Spam",
            Some(Class::Grey(_)) => "Grey",
            Some(Class::Flow { .. }) => "Flow",
            Some(Class::Soft) | None => "Soft",
        },
    }
}

/// `rfset`: the sets that a block asks for, `ip:defcon2 sender:low`.
fn switches(attempt: Option<&Attempt>) -> String {
    let Some(Class::Flow { ipset, sdset }) = attempt
        .and_then(|a| a.qualification.as_ref())
        .map(|q| &q.class)
    else {
        return String::new();
    };
    let sets = [("ip", ipset), ("sender", sdset)];
    let words: Vec<_> = sets
        .iter()
        .filter_map(|(who, set)| set.map(|set| format!("{who}:{}", set.word())))
        .collect();
    words.join(" ")
}

/// The line of `rfmta.txt` for a delivery that did not succeed.
fn trouble(submission: &Submission, settled: &Settled) -> String {
    let mut text = String::with_capacity(240);
    labelled(
        &mut text,
        &[
            ("not delivered user", user(submission)),
            ("ref", &submission.reference),
            ("recipient", settled.recipient.as_str()),
            ("status", status(settled)),
        ],
    );
    for attempt in &settled.attempts {
        // Writing to a String cannot fail.
        let _ = write!(text, " [{} {} ->", attempt.hop, attempt.outbound.address);
        labelled(&mut text, &[(" host", &*attempt.remote.host)]);
        let _ = write!(text, " {} {}", attempt.remote.address, attempt.stage.word());
        match (&attempt.reply, &attempt.failure) {
            (Some(reply), _) => labelled(&mut text, &[(" reply", &as_received(reply))]),
            (None, Some(failure)) => labelled(&mut text, &[(" failure", failure)]),
            (None, None) => {}
        }
        text.push(']');
    }
    labelled(
        &mut text,
        &[
            (" answer", &as_received(&settled.reply)),
            ("rule", rule(settled)),
        ],
    );
    text
}

/// `name="value"` pairs with a blank between them; values that are plain words stand bare.
fn labelled(text: &mut String, pairs: &[(&str, &str)]) {
    for (n, (name, value)) in pairs.iter().filter(|(_, v)| !v.is_empty()).enumerate() {
        if n > 0 {
            text.push(' ');
        }
        text.push_str(name);
        text.push('=');
        let bare = !value.contains([' ', '"', '=']);
        if bare {
            escape_line(value, text);
        } else {
            text.push('"');
            escape_line(&value.replace('"', "'"), text);
            text.push('"');
        }
    }
}

/// The recipients in one value, blanks between them; of many the first, and how many there are.
fn recipients(values: &mut Values, submission: &Submission) {
    const SHOWN: usize = 50;
    let all = &submission.recipients;
    if let [one] = &all[..] {
        return values.push(one.mailbox.as_str());
    }
    let shown: Vec<_> = all.iter().take(SHOWN).map(|r| r.mailbox.as_str()).collect();
    match all.len() {
        n if n > SHOWN => values.push(&format!("{} … ({n} in all)", shown.join(" "))),
        _ => values.push(&shown.join(" ")),
    }
}

/// The delivery that decided the answer: the first that got the same code, else the first.
fn decisive(answer: &Answer) -> Option<&Settled> {
    let same = |s: &&Settled| s.reply.code() == answer.reply.code();
    answer.settled.iter().find(same).or(answer.settled.first())
}

fn rule(settled: &Settled) -> &str {
    settled
        .refusal
        .as_ref()
        .map(Refusal::rule)
        .or(settled.route.as_deref())
        .unwrap_or("")
}

fn user(submission: &Submission) -> &str {
    submission.client.account.as_ref().map_or("", |a| &a.name)
}

fn path(path: &ReversePath) -> &str {
    match path {
        ReversePath::Null => "<>",
        ReversePath::Mailbox(mailbox) => mailbox.as_str(),
    }
}

/// A reply as it stood on the wire, line breaks as `\n`.
fn as_received(reply: &Reply) -> String {
    let mut text = String::with_capacity(96);
    let mut code = [0; 3];
    for (digit, part) in code.iter_mut().zip([100, 10, 1]) {
        *digit = b'0' + u8::try_from(reply.code() / part % 10).unwrap_or(0);
    }
    let code = std::str::from_utf8(&code).unwrap_or("000");
    let mut lines = reply.lines().peekable();
    while let Some(line) = lines.next() {
        text.push_str(code);
        text.push(if lines.peek().is_some() { '-' } else { ' ' });
        text.push_str(&String::from_utf8_lossy(line));
        if lines.peek().is_some() {
            text.push('\n');
        }
    }
    text
}
