//! What the demo sends, and what must come of it. Nothing here is ever printed as a result: results
//! come from sockets and events, and are held against this.

use super::story::{Hop, Story};
use super::world::{BACKUP, DOWN, INBOX, STRICT};

/// One message.
pub struct Scenario {
    pub title: &'static str,
    /// One sentence: what it shows.
    pub lesson: &'static str,
    pub to: &'static [&'static str],
    pub directive: Option<&'static str>,
    /// It takes several loopback addresses.
    pub wide: bool,
    pub expect: Expect,
}

/// What must come of it.
pub struct Expect {
    /// Each line of the client's reply; `*` at the end stands for the rest.
    pub reply: &'static [&'static str],
    pub hops: &'static [MustHop],
    /// How many servers got the message as it was sent.
    pub copies: usize,
    /// Whether the sender gets a notification.
    pub notice: bool,
}

/// One attempt as it must be.
pub struct MustHop {
    /// Empty: any.
    outbound: &'static str,
    host: &'static str,
    /// What the reply meant for each recipient.
    meanings: &'static [&'static str],
}

const fn hop(
    outbound: &'static str,
    host: &'static str,
    meanings: &'static [&'static str],
) -> MustHop {
    MustHop {
        outbound,
        host,
        meanings,
    }
}

impl MustHop {
    fn is(&self, hop: &Hop) -> bool {
        (self.outbound.is_empty() || self.outbound == hop.outbound.to_string())
            && self.host == hop.host
            && hop
                .ends
                .iter()
                .map(|end| end.meaning)
                .eq(self.meanings.iter().copied())
    }
}

/// What was seen of one message.
pub struct Seen<'a> {
    /// The reply as read from the client's socket.
    pub reply: &'a [String],
    /// What the house told of it.
    pub story: Option<&'a Story>,
    /// The notification, if one was made.
    pub notice: Option<&'a Story>,
    /// Servers that have the message, octet for octet.
    pub copies: usize,
    /// Servers that have it in another form.
    pub altered: usize,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        title: "Delivered",
        lesson: "The 250 is that of the recipient's server, which has the message now.",
        to: &["anna@inbox.example"],
        directive: None,
        wide: false,
        expect: Expect {
            reply: &["250 2.0.0 Ok: queued as *"],
            hops: &[hop("", INBOX, &["DELIVERED"])],
            copies: 1,
            notice: false,
        },
    },
    Scenario {
        title: "Unknown mailbox",
        lesson: "No bounce hours later: the client knows at once, in the server's own words.",
        to: &["nobody@inbox.example"],
        directive: None,
        wide: false,
        expect: Expect {
            reply: &["550 5.1.1 <nobody@inbox.example>: no such user here"],
            hops: &[hop("", INBOX, &["HARD"])],
            copies: 0,
            notice: false,
        },
    },
    Scenario {
        title: "The same address again",
        lesson: "A hard bounce enters the list rfhard, and is refused from then on.",
        to: &["nobody@inbox.example"],
        directive: None,
        wide: false,
        expect: Expect {
            reply: &["451 9.2.1 X-SMTP-R-API recipient refused by list rfhard"],
            hops: &[],
            copies: 0,
            notice: false,
        },
    },
    Scenario {
        title: "Block-listed on the first outbound, delivered from the second",
        lesson: "Only a block or a failed connection leads to another attempt.",
        to: &["carl@strict.example"],
        directive: Some(r#"{"routing":{"outbound":["127.0.0.2","127.0.0.3"]}}"#),
        wide: true,
        expect: Expect {
            reply: &["250 2.0.0 Ok: queued as *"],
            hops: &[
                hop("127.0.0.2", STRICT, &["FLOW"]),
                hop("127.0.0.3", STRICT, &["DELIVERED"]),
            ],
            copies: 1,
            notice: false,
        },
    },
    Scenario {
        title: "Mailbox full",
        lesson: "A temporary failure: the client keeps the message and knows why.",
        to: &["full@inbox.example"],
        directive: None,
        wide: false,
        expect: Expect {
            reply: &["452 4.2.2 <full@inbox.example>: mailbox full"],
            hops: &[hop("", INBOX, &["SOFT"])],
            copies: 0,
            notice: false,
        },
    },
    Scenario {
        title: "First mail server down",
        lesson: "The second MX takes it, in the same session of the client.",
        to: &["dora@backup.example"],
        directive: None,
        wide: true,
        expect: Expect {
            reply: &["250 2.0.0 Ok: queued as *"],
            hops: &[
                hop("", DOWN, &["NO REPLY"]),
                hop("", BACKUP, &["DELIVERED"]),
            ],
            copies: 1,
            notice: false,
        },
    },
    Scenario {
        title: "A mistake in the directive",
        lesson: "A typo is refused and named; it never misroutes mail.",
        to: &["anna@inbox.example"],
        directive: Some(r#"{"message":{"ref":"X"}}"#),
        wide: false,
        expect: Expect {
            reply: &["451 9.1.4 X-SMTP-R-API message.ref *"],
            hops: &[],
            copies: 0,
            notice: false,
        },
    },
    Scenario {
        title: "Two recipients, one of them unknown",
        lesson: "250, since one has it; the sender is notified of the other.",
        to: &["anna@inbox.example", "lost@inbox.example"],
        directive: None,
        wide: false,
        expect: Expect {
            reply: &[
                "250-2.0.0 <anna@inbox.example> Ok: queued as *",
                "250 2.0.0 <lost@inbox.example> 550 5.1.1 <lost@inbox.example>: no such user here",
            ],
            hops: &[hop("", INBOX, &["DELIVERED", "HARD"])],
            copies: 1,
            notice: true,
        },
    },
];

/// What can be tried by hand: recipient, what it does, and the beginning of the first reply.
pub const BY_HAND: &[(&str, &str, &str)] = &[
    (
        "anna@inbox.example",
        "delivered; so is any other name at inbox.example",
        "250 2.0.0 ",
    ),
    ("full@inbox.example", "452, mailbox full", "452 4.2.2 "),
    ("grey@inbox.example", "451, greylisted", "451 4.7.1 "),
    (
        "spam@inbox.example",
        "554, refused for its content",
        "554 5.7.1 ",
    ),
    (
        "slow@inbox.example",
        "delivered, after 5 seconds; the client waits as well",
        "250 2.0.0 ",
    ),
    (
        "anyone@gone.example",
        "550, unknown; the second time 451 9.2.1, listed",
        "550 5.1.1 ",
    ),
    (
        "carl@strict.example",
        "refuses 127.0.0.2, takes it from 127.0.0.3",
        "250 2.0.0 ",
    ),
    (
        "dora@backup.example",
        "the first MX is down, the second takes it",
        "250 2.0.0 ",
    ),
    (
        "anyone@silent.example",
        "451 9.2.4, the domain takes no mail (null MX)",
        "451 9.2.4 ",
    ),
];

/// What is not as it must be, in words; nothing: all is.
pub fn judge(scenario: &Scenario, seen: &Seen<'_>) -> Vec<String> {
    let expect = &scenario.expect;
    let mut wrong = Vec::new();
    let same = expect.reply.len() == seen.reply.len();
    if !same
        || !expect
            .reply
            .iter()
            .zip(seen.reply)
            .all(|(pattern, line)| matches(pattern, line))
    {
        wrong.push(format!("the reply must be {:?}", expect.reply.join(" / ")));
    }
    let Some(story) = seen.story else {
        wrong.push("the server told nothing of this message".to_owned());
        return wrong;
    };
    if story.answer != seen.reply {
        wrong.push(format!(
            "the server's record has another reply: {:?}",
            story.answer.join(" / ")
        ));
    }
    let same_number = story.hops.len() == expect.hops.len();
    if !same_number
        || !expect
            .hops
            .iter()
            .zip(&story.hops)
            .all(|(must, hop)| must.is(hop))
    {
        let must: Vec<String> = expect
            .hops
            .iter()
            .map(|must| format!("{} {}", must.host, must.meanings.join(" ")))
            .collect();
        let must = if must.is_empty() {
            "none".to_owned()
        } else {
            must.join(", ")
        };
        wrong.push(format!("the route must be: {must}"));
    }
    if let ([only], Some([end])) = (scenario.to, story.hops.last().map(|hop| &hop.ends[..]))
        && end.said != seen.reply
    {
        wrong.push(format!(
            "the reply must be that of the server of {only}: {:?}",
            end.said.join(" / ")
        ));
    }
    if seen.copies != expect.copies || seen.altered > 0 {
        let (copies, altered) = (seen.copies, seen.altered);
        wrong.push(format!(
            "{} server(s) must have the message as sent; {copies} have, {altered} altered",
            expect.copies
        ));
    }
    let noticed = seen.notice.is_some_and(|notice| {
        notice
            .answer
            .first()
            .is_some_and(|line| line.starts_with('2'))
    });
    if noticed != expect.notice {
        wrong.push(format!(
            "a notification must {}have been delivered",
            if expect.notice { "" } else { "not " }
        ));
    }
    wrong
}

fn matches(pattern: &str, line: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => line.len() > beginning.len() && line.starts_with(beginning),
        None => line == pattern,
    }
}
