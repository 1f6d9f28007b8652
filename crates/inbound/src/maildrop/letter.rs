//! A dropped file becomes a letter at the one door; what is refused of it goes back to whoever
//! dropped it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use galerne_core::access::{Named, judge_recipient};
use galerne_core::content::Content;
use galerne_core::dsn;
use galerne_core::model::{Client, Notify, Recipient, Ret, Sender};
use galerne_core::ports::Refused;
use galerne_core::refusal::{Code, Refusal};
use galerne_core::settings::Account;
use galerne_core::snapshot::Snapshot;
use galerne_mail::dsn::{Action, Report, ReportedRecipient, Returned, build};
use galerne_mail::header::HEADER_LIMIT;
use galerne_mail::local::{Defaults, Head};
use galerne_smtp::data::{BareLfPolicy, Decoder};
use galerne_smtp::{ForwardPath, Mailbox, Reply, ReversePath};
use ulid::Ulid;

use super::file::{Body, Opened, Unfit};
use super::{Maildrop, Person};
use crate::reception::Letter;
use crate::spool::Collector;

/// What is read of a file at once.
const PIECE: u64 = 128 * 1024;

/// What became of a file.
#[derive(Debug)]
pub enum Fate {
    /// It is taken over, whole or as far as it was not refused. Whoever dropped it knows the rest.
    Done,
    /// Not now: the reply.
    Later(String),
    /// It cannot be taken, and nobody can be told.
    Rejected(String),
}

/// A recipient that gets nothing, and why.
struct Lost {
    recipient: String,
    reply: Reply,
}

/// What was dropped, read as far as it matters to whom it goes.
struct Dropped {
    snapshot: Arc<Snapshot>,
    account: Arc<Account>,
    person: Person,
    opened: Opened,
    origin: String,
    id: String,
}

impl Maildrop {
    /// Takes a file to the door. `last`: it will not be tried again.
    pub(super) async fn carry(
        &self,
        path: &Path,
        snapshot: Arc<Snapshot>,
        account: Arc<Account>,
        last: impl Fn(SystemTime) -> bool,
    ) -> Result<Fate, Unfit> {
        let largest = snapshot.rfrelay.maxsize;
        let place = path.to_owned();
        let (opened, body) = blocking(move || Opened::open(&place, largest)).await?;
        let uid = opened.uid;
        let Some(person) = (self.person)(uid) else {
            let why = format!("it belongs to nobody: uid {uid}");
            return Err(Unfit::Malformed(why));
        };
        let last = last(opened.at);
        let origin = snapshot.queue.maildrop.origin.clone();
        let dropped = Dropped {
            origin: origin.unwrap_or_else(|| snapshot.hostname.clone()),
            snapshot,
            account,
            person,
            opened,
            id: Ulid::generate().to_string(),
        };
        self.judge(dropped, body, last).await
    }

    async fn judge(&self, dropped: Dropped, body: Body, last: bool) -> Result<Fate, Unfit> {
        let sender = dropped.sender()?;
        let mut lost = Vec::new();
        let mut recipients = Vec::new();
        let mut booking = self.quotas.begin(&dropped.account);
        let notify = dropped.notify()?;
        for name in dropped.opened.envelope.recipients.clone() {
            let address = with_domain(&name, &dropped.origin);
            let judged = dropped.recipient(&address, &*self.lists);
            let judged = judged.and_then(|mailbox| {
                // What is over the limit waits, and the others with it: they are one message.
                booking.book(&dropped.account).map(|()| mailbox)
            });
            match judged {
                Ok(mailbox) => recipients.push(Recipient {
                    mailbox,
                    notify,
                    orcpt: None,
                }),
                Err(refusal) if is_final(&refusal.reply(true)) || last => {
                    let reply = refusal.reply(true);
                    self.note(&dropped, &sender, &address, &reply, refusal.rule());
                    lost.push(Lost {
                        recipient: address,
                        reply,
                    });
                }
                Err(refusal) => return Ok(Fate::Later(refusal.reply(true).to_log())),
            }
        }
        let read = self.read(&dropped, body, &sender).await?;
        let Read {
            content,
            header,
            eight_bit,
            nul,
        } = match read {
            Ok(read) => read,
            Err(refusal) => {
                let reply = refusal.reply(true);
                let names: Vec<&str> = recipients.iter().map(|r| r.mailbox.as_str()).collect();
                self.note(&dropped, &sender, &names.join(" "), &reply, refusal.rule());
                lost.extend(recipients.iter().map(|r| lose(r, &reply)));
                return Ok(self.give_back(&dropped, &sender, &lost, &[]).await);
            }
        };
        if recipients.is_empty() {
            return Ok(self.give_back(&dropped, &sender, &lost, &header).await);
        }
        let letter = dropped.letter(&sender, recipients.clone(), content, (eight_bit, nul));
        let reply = match self.reception.take_over(letter).await {
            Ok(answer) => {
                if answer.reply.is_positive() {
                    booking.spend();
                }
                answer.reply
            }
            Err(reply) => reply,
        };
        match reply {
            reply if reply.is_positive() => {}
            reply if is_final(&reply) || last => {
                lost.extend(recipients.iter().map(|r| lose(r, &reply)));
            }
            reply => return Ok(Fate::Later(reply.to_log())),
        }
        if lost.is_empty() {
            return Ok(Fate::Done);
        }
        Ok(self.give_back(&dropped, &sender, &lost, &header).await)
    }

    /// Reads the message: the header is completed, lines end with CRLF.
    async fn read(
        &self,
        dropped: &Dropped,
        mut body: Body,
        sender: &ReversePath,
    ) -> Result<Result<Read, Refusal>, Unfit> {
        let largest = dropped.snapshot.rfrelay.maxsize;
        let mut decoder = Decoder::without_dots(BareLfPolicy::Normalise);
        let mut text = Vec::new();
        let mut more = true;
        while more && text.len() <= HEADER_LIMIT {
            (body, more) = piece(body, &mut decoder, &mut text).await?;
        }
        let head = Head::find(&text);
        if head.is_cut(&text, more) {
            let why = format!("5.3.4 header is longer than {HEADER_LIMIT} octets");
            return Ok(Err(Refusal::standard(552, why, "T-23")));
        }
        let from = match sender {
            ReversePath::Mailbox(mailbox) => mailbox.as_str().to_owned(),
            ReversePath::Null => with_domain(&dropped.person.login, &dropped.origin),
        };
        let envelope = &dropped.opened.envelope;
        let defaults = Defaults {
            from: &from,
            name: envelope.name.as_deref().or(dropped.person.name.as_deref()),
            origin: &dropped.origin,
            id: &dropped.id,
            hostname: &dropped.snapshot.hostname,
            at: dropped.opened.at,
        };
        let mut text = head.complete(&text, &defaults);
        let header = dsn::header_of(&text).to_vec();
        let mut collector = Collector::new(&self.temporary);
        let mut eight_bit = !text.is_ascii();
        let mut last = text.last().copied();
        let mut size = text.len() as u64;
        collector.take(&mut text).await;
        while more {
            let before = text.len();
            (body, more) = piece(body, &mut decoder, &mut text).await?;
            let new = text.get(before..).unwrap_or_default();
            eight_bit |= !new.is_ascii();
            last = new.last().copied().or(last);
            size += new.len() as u64;
            if size > largest {
                let refusal = Refusal::standard(552, "5.3.4 Message too big", "RELAY-15");
                return Ok(Err(refusal));
            }
            collector.take(&mut text).await;
        }
        if last.is_some_and(|octet| octet != b'\n') {
            text.extend_from_slice(b"\r\n");
        }
        let content = collector.finish(text).await;
        Ok(Ok(Read {
            content: content.map_err(|error| Unfit::Failed(error.to_string()))?,
            header,
            eight_bit,
            nul: decoder.has_nul(),
        }))
    }

    /// Tells whoever dropped a message what of it is refused: the person on this host, by the owner of
    /// the file. The envelope sender may be anybody.
    async fn give_back(
        &self,
        dropped: &Dropped,
        sender: &ReversePath,
        lost: &[Lost],
        header: &[u8],
    ) -> Fate {
        let first = lost.first().map(|lost| lost.reply.to_log());
        let rejected = |why: &str| {
            let first = first.clone().unwrap_or_default();
            Fate::Rejected(format!("{first}; {why}"))
        };
        let to = with_domain(&dropped.person.login, &dropped.origin);
        let to = match Mailbox::parse(&to) {
            Ok(to) if *sender != ReversePath::Null => to,
            _ => return rejected("there is nobody to be told"),
        };
        let now = SystemTime::now();
        let reported = lost.iter().map(|lost| ReportedRecipient {
            original: None,
            recipient: lost.recipient.clone(),
            action: Action::Failed,
            status: dsn::status(&lost.reply),
            remote: None,
            diagnostic: dsn::diagnostic(&lost.reply),
            last_attempt: now,
        });
        let reported: Vec<_> = reported.collect();
        let report = Report {
            id: &Ulid::generate().to_string(),
            reporting_mta: &dropped.snapshot.hostname,
            from_domain: to.domain(),
            to: to.as_str(),
            envid: dropped.opened.envelope.envid.as_deref(),
            arrival: dropped.opened.at,
            now,
            recipients: &reported,
            returned: Returned::Headers(header),
        };
        let content = build(&report);
        let eight_bit = !content.is_ascii();
        let recipients = vec![Recipient {
            mailbox: to,
            notify: None,
            orcpt: None,
        }];
        let mut letter = dropped.letter(
            &ReversePath::Null,
            recipients,
            Content::in_memory(content),
            (eight_bit, false),
        );
        letter.sender.ret = None;
        letter.sender.envid = None;
        // It is ours, not the account's.
        (letter.client.account, letter.client.login) = (None, None);
        match self.reception.take_over(letter).await {
            Ok(answer) if answer.reply.is_positive() => Fate::Done,
            Ok(answer) => rejected(&format!("telling so failed: {}", answer.reply.to_log())),
            Err(reply) => rejected(&format!("telling so failed: {}", reply.to_log())),
        }
    }

    /// A refused recipient, for the logs.
    fn note(
        &self,
        dropped: &Dropped,
        sender: &ReversePath,
        recipient: &str,
        reply: &Reply,
        rule: &str,
    ) {
        self.reception.events.refused(Refused {
            at: SystemTime::now(),
            session_id: dropped.session(),
            user: Some(dropped.account.name.clone()),
            peer: LOCAL.into(),
            sender: sender.as_str().to_owned(),
            recipient: recipient.to_owned(),
            reference: String::new(),
            reply: reply.clone(),
            rule: rule.to_owned(),
            size: dropped.opened.length,
        });
    }
}

const LOCAL: std::net::Ipv4Addr = std::net::Ipv4Addr::LOCALHOST;

/// A message that was read.
struct Read {
    content: Content,
    header: Vec<u8>,
    eight_bit: bool,
    nul: bool,
}

impl Dropped {
    /// The envelope sender: as it was named, else whoever dropped it.
    fn sender(&self) -> Result<ReversePath, Unfit> {
        let named = self.opened.envelope.sender.as_deref();
        let text = match named.unwrap_or(&self.person.login) {
            "" => String::new(),
            name => with_domain(name, &self.origin),
        };
        let unfit = |error| Unfit::Malformed(format!("its sender is no address: {error}"));
        ReversePath::parse(&text).map_err(unfit)
    }

    fn notify(&self) -> Result<Option<Notify>, Unfit> {
        let text = self.opened.envelope.notify.as_deref();
        let unfit = || Unfit::Malformed("NOTIFY in its envelope cannot be read".to_owned());
        text.map(|text| galerne_smtp::command::notify(text).ok_or_else(unfit))
            .transpose()
    }

    /// As SMTP judges it at RCPT.
    fn recipient(
        &self,
        address: &str,
        lists: &dyn galerne_core::ports::Lists,
    ) -> Result<Mailbox, Refusal> {
        let path = ForwardPath::parse(address, &self.snapshot.hostname).map_err(|why| {
            let text = format!("recipient address cannot be read: {why}");
            Refusal::new(Code::BadRecipient, text, "RELAY-78")
        })?;
        let named = match &path {
            ForwardPath::Mailbox(mailbox) => Named::Mailbox(mailbox),
            ForwardPath::Impossible { text, .. } => Named::Impossible(text),
        };
        judge_recipient(Some(&self.account), named, lists)?;
        match path {
            ForwardPath::Mailbox(mailbox) => Ok(mailbox),
            ForwardPath::Impossible { why, .. } => {
                Err(Refusal::new(Code::BadRecipient, why, "RELAY-78"))
            }
        }
    }

    /// The session in logs.
    fn session(&self) -> String {
        format!("maildrop-uid{}", self.opened.uid)
    }

    fn letter(
        &self,
        sender: &ReversePath,
        recipients: Vec<Recipient>,
        content: Content,
        (eight_bit, bare): (bool, bool),
    ) -> Letter {
        let account = &self.account;
        let envelope = &self.opened.envelope;
        let is_ascii = recipients.iter().all(|r| r.mailbox.is_ascii());
        Letter {
            snapshot: self.snapshot.clone(),
            client: Client {
                account: Some(account.clone()),
                login: account.login.clone().or_else(|| Some(account.name.clone())),
                peer: (LOCAL, 0).into(),
                helo: "localhost".into(),
                tls: false,
                session_id: self.session(),
            },
            sender: Sender {
                path: sender.clone(),
                ret: envelope.ret.as_deref().map(|ret| match ret {
                    ret if ret.eq_ignore_ascii_case("FULL") => Ret::Full,
                    _ => Ret::Hdrs,
                }),
                envid: envelope.envid.clone(),
                eight_bit,
                smtputf8: !sender.as_str().is_ascii() || !is_ascii,
                requiretls: false,
            },
            recipients,
            content,
            bare,
            passed_bare: false,
            extended: true,
            received: Instant::now(),
            prdr: false,
        }
    }
}

/// Decodes the next octets; `false`: those were the last.
async fn piece(
    mut body: Body,
    decoder: &mut Decoder,
    out: &mut Vec<u8>,
) -> Result<(Body, bool), Unfit> {
    let read = blocking(move || {
        let mut piece = Vec::new();
        let more = body.read(&mut piece, PIECE)?;
        Ok((body, piece, more))
    });
    let (body, piece, more) = read.await?;
    decoder.decode(&piece, out, u64::MAX);
    Ok((body, more))
}

/// Whether a reply is the last word. Our own refusals of the classes 9.0 to 9.2 are, though they are
/// told as 451 (RELAY-80).
fn is_final(reply: &Reply) -> bool {
    let ours = reply
        .enhanced()
        .is_some_and(|code| code.0 == 9 && code.1 < 3);
    reply.is_permanent() || ours
}

fn lose(recipient: &Recipient, reply: &Reply) -> Lost {
    Lost {
        recipient: recipient.mailbox.as_str().to_owned(),
        reply: reply.clone(),
    }
}

/// A name gets the domain it lacks.
fn with_domain(name: &str, origin: &str) -> String {
    let all = galerne_mail::addresses::addresses(name.as_bytes());
    match all.as_deref() {
        Some([one]) if !one.has_domain => format!("{name}@{origin}"),
        _ => name.to_owned(),
    }
}

/// Work that waits for the disk, off the network threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Unfit> + Send + 'static,
) -> Result<T, Unfit> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Unfit::Failed(error.to_string())))
}
