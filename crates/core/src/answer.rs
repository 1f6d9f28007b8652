//! What the client is told: the final reply of each recipient (RELAY-66, RELAY-67, RELAY-73 to
//! RELAY-77) and the combined reply of a transaction (RELAY-20).

use std::time::Duration;

use galerne_smtp::{EnhancedCode, Reply};

use crate::chase::{self, RemoteAnswer};
use crate::model::{Class, Outcome, Qualification, Settled, Stage};
use crate::refusal::{Code, Refusal};

/// Why the delivery to one recipient is over.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// The last attempt speaks (RELAY-65).
    Attempt {
        /// Name of the remote, for the text.
        host: &'a str,
        stage: Stage,
        answer: &'a RemoteAnswer,
        qualification: Option<&'a Qualification>,
        /// The final dot of its transaction was sent.
        dot_sent: bool,
    },
    /// No outbound became free within the timeout: 9.3.1.
    NoOutbound,
    /// No attempt was possible: no remote address of the family of any outbound: 9.3.2.
    NoPair { host: &'a str },
    /// DNS failed temporarily until the timeout: 9.3.4.
    DnsFailed { domain: &'a str },
    /// No such domain or a null MX: 9.2.4.
    NoSuchDomain { domain: &'a str, null_mx: bool },
    /// The timeout ended before anything else did: 9.3.0.
    Timeout,
    /// The client went away before the final dot (RELAY-71).
    Cancelled,
    /// Refused by a decision of ours.
    Refused(&'a Refusal),
}

/// How replies are told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// `[rfrelay]blocktemp`.
    pub blocktemp: bool,
    /// `[rfrelay]permcode`.
    pub permcode: bool,
}

/// The end of one delivery as the client sees it.
#[derive(Clone, Debug)]
pub struct Conclusion {
    pub outcome: Outcome,
    pub reply: Reply,
    /// Set where the reply is ours and no remote's.
    pub refusal: Option<Refusal>,
}

/// The final reply of one recipient. `timeout` is the time that was allowed (the plan's).
pub fn conclude(ending: Ending<'_>, manner: Manner, timeout: Duration) -> Conclusion {
    let seconds = timeout.as_secs();
    let refuse = |code, text: String, rule| refused(Refusal::new(code, text, rule), manner);
    match ending {
        Ending::Attempt {
            host,
            stage,
            answer,
            qualification,
            dot_sent,
        } => {
            let end = AttemptEnd {
                host,
                stage,
                qualification,
                dot_sent,
                seconds,
            };
            match answer {
                RemoteAnswer::Reply(reply) => end.with_reply(reply, manner),
                RemoteAnswer::Malformed(_) => end.malformed(manner),
                RemoteAnswer::Lost(_) => end.lost(manner),
            }
        }
        Ending::NoOutbound => refuse(
            Code::NoOutbound,
            format!("no route available within {seconds} s"),
            "RELAY-69",
        ),
        Ending::NoPair { host } => refuse(
            Code::NoConnection,
            format!("no outbound address can reach the address family of {host}"),
            "ROUTE-37",
        ),
        Ending::DnsFailed { domain } => refuse(
            Code::DnsFailed,
            format!("DNS of {domain} failed temporarily for {seconds} s"),
            "RELAY-77",
        ),
        Ending::NoSuchDomain {
            domain,
            null_mx: false,
        } => refuse(
            Code::NoSuchDomain,
            format!("domain {domain} does not exist"),
            "RELAY-77",
        ),
        Ending::NoSuchDomain {
            domain,
            null_mx: true,
        } => refuse(
            Code::NoSuchDomain,
            format!("domain {domain} accepts no mail (null MX)"),
            "RFC 7505",
        ),
        Ending::Timeout => refuse(
            Code::Timeout,
            format!("no answer within {seconds} s"),
            "RELAY-40",
        ),
        Ending::Cancelled => Conclusion {
            outcome: Outcome::Cancelled,
            ..refuse(Code::Timeout, "the client has left".to_owned(), "RELAY-71")
        },
        Ending::Refused(refusal) => refused(refusal.clone(), manner),
    }
}

/// The last attempt, as far as the reply depends on it.
struct AttemptEnd<'a> {
    host: &'a str,
    stage: Stage,
    qualification: Option<&'a Qualification>,
    dot_sent: bool,
    seconds: u64,
}

impl AttemptEnd<'_> {
    /// A remote's reply goes through as it is (RELAY-73), but never as a success it is not.
    fn with_reply(&self, reply: &Reply, manner: Manner) -> Conclusion {
        if self.stage == Stage::Auth {
            let text = format!("login at {} was refused", self.host);
            return refused(Refusal::new(Code::NoConnection, text, "ROUTE-42"), manner);
        }
        match (reply.code() / 100, self.stage) {
            (2, Stage::Dot) => Conclusion {
                outcome: Outcome::Delivered,
                reply: reply.clone().with_code(250),
                refusal: None,
            },
            (2, stage) if stage < Stage::Mail => self.lost(manner),
            (4 | 5, _) => {
                let reply = self.failure(reply, manner);
                Conclusion {
                    outcome: chase::failure(&reply, self.class()),
                    reply,
                    refusal: None,
                }
            }
            _ => self.malformed(manner),
        }
    }

    /// What a pattern says that the reply means; without one nothing is known.
    fn class(&self) -> Option<&Class> {
        let matched = self.qualification.filter(|q| q.pattern.is_some());
        matched.map(|q| &q.class)
    }

    fn failure(&self, reply: &Reply, manner: Manner) -> Reply {
        let blocked = matches!(self.class(), Some(Class::Flow { .. }));
        match reply.code() {
            // 421 from us would say that our own service is closing.
            421 => reply.clone().with_code(451),
            500..=599 if blocked && manner.blocktemp => as_temporary(reply),
            _ => reply.clone(),
        }
    }

    fn malformed(&self, manner: Manner) -> Conclusion {
        let text = format!("malformed reply of {} at {}", self.host, self.stage.word());
        refused(Refusal::new(Code::MalformedReply, text, "RELAY-74"), manner)
    }

    fn lost(&self, manner: Manner) -> Conclusion {
        let AttemptEnd {
            host,
            stage,
            dot_sent,
            seconds,
            ..
        } = *self;
        let refusal = if dot_sent {
            let text = format!("outcome unknown: no reply of {host} after the final dot");
            Refusal::new(Code::Unknown, text, "RELAY-70")
        } else if stage == Stage::Connect {
            Refusal::new(
                Code::NoConnection,
                format!("no connection to {host} in {seconds} s"),
                "RELAY-66",
            )
        } else {
            let text = format!("connection to {host} lost at {}", stage.word());
            Refusal::new(Code::NoConnection, text, "RELAY-66")
        };
        refused(refusal, manner)
    }
}

/// Our own word. The classes 9.0 to 9.2 are for good, though their basic code is 451.
fn refused(refusal: Refusal, manner: Manner) -> Conclusion {
    let reply = refusal.reply(manner.permcode);
    let outcome = match &refusal {
        Refusal::Ours {
            code: Code::Unknown,
            ..
        } => Outcome::Unknown,
        Refusal::Ours { code, .. } if code.digits().0 < 3 => Outcome::Failed,
        Refusal::Ours { .. } => Outcome::Deferred,
        Refusal::Standard { reply, .. } => chase::failure(reply, None),
    };
    Conclusion {
        outcome,
        reply,
        refusal: Some(refusal),
    }
}

/// All that could be tried was tried and another try may do better: whatever the remote said, it is
/// a temporary failure (ROUTE-34).
pub fn for_now(end: &mut Settled) {
    if end.outcome == Outcome::Failed {
        end.outcome = Outcome::Deferred;
        end.reply = as_temporary(&end.reply);
    }
}

/// `451` with the same text; the first digit of enhanced codes becomes 4 as well (RELAY-67).
fn as_temporary(reply: &Reply) -> Reply {
    let lines: Vec<Vec<u8>> = reply
        .lines()
        .map(|line| {
            let mut line = line.to_vec();
            if EnhancedCode::parse(&line).is_some_and(|e| e.0 == 5)
                && let Some(first) = line.first_mut()
            {
                *first = b'4';
            }
            line
        })
        .collect();
    Reply::new(451, lines.join(&b'\n'))
}

/// The combined reply and who needs a DSN.
#[derive(Clone, Debug)]
pub struct Combined {
    pub reply: Reply,
    /// Indices into the settled recipients. Whether one is really made is for the DSN's own
    /// rules (RET-37).
    pub dsn_for: Vec<usize>,
}

/// Combines the ends of all recipients, in the order of RCPT (RELAY-20).
///
/// All delivered, or some: 250, and a DSN for each of the others. None: the first temporary reply
/// if there is one, else the first permanent one, without DSN. One line per recipient; a single
/// recipient's reply stays as it is.
pub fn combine(settled: &[Settled]) -> Combined {
    let delivered = |s: &Settled| s.outcome == Outcome::Delivered;
    let speaker = match settled {
        [] => None,
        [only] => {
            return Combined {
                reply: only.reply.clone(),
                dsn_for: Vec::new(),
            };
        }
        _ => settled
            .iter()
            .find(|s| delivered(s))
            .or_else(|| settled.iter().find(|s| s.reply.code() / 100 == 4))
            .or_else(|| settled.first()),
    };
    let Some(speaker) = speaker else {
        // Unreachable for a driver: a transaction has a recipient.
        return Combined {
            reply: Reply::new(451, "4.3.0 no recipient"),
            dsn_for: Vec::new(),
        };
    };
    let head = Head::of(&speaker.reply);
    let lines: Vec<Vec<u8>> = settled.iter().map(|s| head.line(s)).collect();
    let mut dsn_for = Vec::new();
    if delivered(speaker) {
        // A client that left has no answer and comes again: no DSN for what was cancelled.
        let needs = |s: &Settled| !delivered(s) && s.outcome != Outcome::Cancelled;
        dsn_for.extend(
            settled
                .iter()
                .enumerate()
                .filter(|(_, s)| needs(s))
                .map(|(i, _)| i),
        );
    }
    Combined {
        reply: Reply::new(head.code, lines.join(&b'\n')),
        dsn_for,
    }
}

/// What all lines of a combined reply begin with: RFC 2034 wants one enhanced code.
struct Head {
    code: u16,
    enhanced: Option<EnhancedCode>,
    /// The mark of our own refusals stays where programs look for it (RELAY-75).
    ours: bool,
}

const MARK: &[u8] = b"X-SMTP-R-API ";
/// Most octets of one line of a combined reply, so that with code and line end it keeps to the
/// 512 of RFC 5321 §4.5.3.1.5.
const LONGEST_LINE: usize = 500;

impl Head {
    fn of(reply: &Reply) -> Self {
        let (enhanced, rest) = split_enhanced(reply.lines().next().unwrap_or_default());
        Head {
            code: reply.code(),
            enhanced,
            ours: enhanced.is_some() && rest.starts_with(MARK),
        }
    }

    /// `2.0.0 <anna@example.org> Queued`, or with the recipient's own code where it is another.
    fn line(&self, settled: &Settled) -> Vec<u8> {
        let mut line = Vec::new();
        if let Some(enhanced) = self.enhanced {
            line.extend_from_slice(format!("{enhanced} ").as_bytes());
        }
        if self.ours {
            line.extend_from_slice(MARK);
        }
        line.extend_from_slice(format!("<{}>", settled.recipient).as_bytes());
        let own = Head::of(&settled.reply);
        let alike = own.code == self.code && own.enhanced == self.enhanced;
        if !alike {
            line.extend_from_slice(format!(" {}", own.code).as_bytes());
        }
        for text in settled.reply.lines() {
            let rest = if alike { split_enhanced(text).1 } else { text };
            let rest = if alike && self.ours {
                rest.strip_prefix(MARK).unwrap_or(rest)
            } else {
                rest
            };
            if !rest.is_empty() {
                line.push(b' ');
                line.extend_from_slice(rest);
            }
        }
        line.truncate(LONGEST_LINE);
        line
    }
}

/// The enhanced code at the beginning of a line, and what follows it.
fn split_enhanced(line: &[u8]) -> (Option<EnhancedCode>, &[u8]) {
    match EnhancedCode::parse(line) {
        None => (None, line),
        some => {
            let end = memchr::memchr(b' ', line).map_or(line.len(), |blank| blank + 1);
            (some, line.get(end..).unwrap_or_default())
        }
    }
}

/// With PRDR: one reply per recipient, no DSN.
pub fn per_recipient(settled: &[Settled]) -> Vec<Reply> {
    settled.iter().map(|s| s.reply.clone()).collect()
}

/// The reply when a DSN that `combine` asked for could be neither delivered nor queued:
/// `451 4.3.0` naming the recipients that were delivered.
pub fn without_dsn(settled: &[Settled]) -> Reply {
    let mut text = String::from("4.3.0 no notification could be made of the failures; delivered:");
    for one in settled.iter().filter(|s| s.outcome == Outcome::Delivered) {
        text.push_str(&format!("\n4.3.0 <{}>", one.recipient));
    }
    Reply::new(451, text)
}

#[cfg(test)]
mod tests;
