//! One message: MAIL, RCPT, DATA or BDAT, the content, the final reply.
//!
//! With PIPELINING all commands up to DATA leave in one flight; without it each waits for the
//! reply before it. Either way the replies are heard in the same order by the same code.

use std::io::Write as _;

use super::{
    Chunking, ClientEvent, ClientSession, LocalRefusal, Phase, RemoteAnswer, Transaction,
    TransactionResult, commands,
};
use crate::data::Encoder;
use crate::reply::Reply;
use crate::stage::Stage;

/// What the transaction waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Nothing was sent.
    #[default]
    Begin,
    Rset,
    Mail,
    /// The reply to the RCPT of this recipient.
    Rcpt(usize),
    Data,
    /// The driver gives the content; by BDAT, the replies to chunks come meanwhile.
    Content,
    /// The final reply.
    Dot,
    /// The reply to a lone dot, sent because DATA was accepted for nobody.
    LoneDot,
}

/// The state of the present transaction. Its allocations are kept for the next.
#[derive(Debug, Default)]
pub(super) struct Progress {
    transaction: Option<Transaction>,
    step: Step,
    /// For each recipient what decided, if something has; `None`: hopeful.
    answers: Vec<Option<(Stage, RemoteAnswer)>>,
    local: Option<LocalRefusal>,
    mail_accepted: bool,
    /// Recipients whose RCPT got 2xx.
    accepted: usize,
    encoder: Encoder,
    dot_sent: bool,
    /// Something had come before the dot was sent that cannot be the answer to it.
    early: bool,
    bdat: Bdat,
}

/// Chunks under way.
#[derive(Debug, Default)]
struct Bdat {
    /// Replies still to come.
    pending: usize,
    /// Content that waits for the reply to the chunk before, where the remote cannot pipeline.
    held: Vec<u8>,
    /// `content_end` was called; LAST is to be sent.
    ending: bool,
}

impl Progress {
    pub(super) fn begin(&mut self, transaction: Transaction) {
        let mut answers = std::mem::take(&mut self.answers);
        answers.clear();
        answers.resize_with(transaction.recipients.len(), || None);
        *self = Progress {
            transaction: Some(transaction),
            answers,
            ..Progress::default()
        };
    }

    pub(super) fn mail_accepted(&self) -> bool {
        self.mail_accepted
    }

    fn chunking(&self) -> Chunking {
        self.transaction
            .as_ref()
            .map_or(Chunking::Data, |transaction| transaction.chunking)
    }

    /// Everybody still hopeful gets this answer.
    fn answer_all(&mut self, stage: Stage, answer: RemoteAnswer) {
        let mut open = self
            .answers
            .iter_mut()
            .filter(|slot| slot.is_none())
            .peekable();
        while let Some(slot) = open.next() {
            if open.peek().is_none() {
                *slot = Some((stage, answer));
                return;
            }
            *slot = Some((stage, answer.clone()));
        }
    }

    /// The first recipient from `from` on whose RCPT is (to be) sent.
    fn next_rcpt(&self, from: usize) -> Option<usize> {
        let recipients = &self.transaction.as_ref()?.recipients;
        (from..recipients.len()).find(|&i| {
            recipients
                .get(i)
                .is_some_and(|recipient| commands::is_safe(recipient.mailbox.as_str()))
        })
    }
}

impl ClientSession {
    /// A part of the content, after `SendContent`; cut anywhere. Nothing is sent once the session
    /// is lost.
    ///
    /// By BDAT every call makes a chunk; to a remote without PIPELINING what comes before the
    /// reply to the last chunk is held back in memory.
    pub fn content(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.lost.is_some()
            || self.phase != Phase::Transaction
            || self.progress.step != Step::Content
        {
            return;
        }
        match self.progress.chunking() {
            Chunking::Data => self.progress.encoder.encode(chunk, out),
            Chunking::Bdat if chunk.is_empty() || self.progress.bdat.ending => {}
            Chunking::Bdat if self.progress.bdat.pending > 0 && !self.capabilities.pipelining => {
                self.progress.bdat.held.extend_from_slice(chunk);
            }
            Chunking::Bdat => {
                let _ = write!(out, "BDAT {}\r\n", chunk.len());
                out.extend_from_slice(chunk);
                self.progress.bdat.pending += 1;
            }
        }
    }

    /// The end of the content. Once the session is lost no end is sent, so the remote cannot take
    /// a part for the whole.
    pub fn content_end(&mut self, out: &mut Vec<u8>) {
        if self.lost.is_some()
            || self.phase != Phase::Transaction
            || self.progress.step != Step::Content
        {
            return;
        }
        match self.progress.chunking() {
            Chunking::Data => {
                self.progress.encoder.finish(out);
                self.progress.early = self.has_unread();
                self.progress.dot_sent = true;
                self.progress.step = Step::Dot;
                self.stage = Stage::Dot;
            }
            Chunking::Bdat => {
                self.progress.bdat.ending = true;
                self.send_held(out);
            }
        }
    }

    pub(super) fn poll_transaction(&mut self, out: &mut Vec<u8>) -> Option<ClientEvent> {
        if self.progress.step == Step::Begin {
            return self.begin(out);
        }
        match self.next_answer() {
            Some(answer) => self.take_answer(answer, out),
            None if self.progress.step == Step::Content && !self.progress.bdat.ending => {
                Some(ClientEvent::SendContent)
            }
            None => Some(ClientEvent::NeedInput),
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) -> Option<ClientEvent> {
        if self.lost.is_some() || self.has_unread() {
            let answer = self.out_of_turn();
            return self.give_up(Stage::Mail, answer);
        }
        self.refuse_locally();
        if self.progress.answers.iter().all(Option::is_some) {
            return Some(self.finish(true));
        }
        if std::mem::take(&mut self.needs_rset) {
            out.extend_from_slice(b"RSET\r\n");
            (self.progress.step, self.stage) = (Step::Rset, Stage::Rset);
            if !self.capabilities.pipelining {
                return None;
            }
        } else {
            (self.progress.step, self.stage) = (Step::Mail, Stage::Mail);
        }
        self.send_envelope(out);
        None
    }

    /// What need not be asked: the remote could only refuse it, or would be misled.
    fn refuse_locally(&mut self) {
        let Some(transaction) = &self.progress.transaction else {
            return;
        };
        let sender = commands::sender_text(&transaction.sender);
        let refusal = if !sender.is_empty() && !commands::is_safe(sender) {
            Some((
                LocalRefusal::UnsafeAddress,
                Reply::new(553, "5.1.7 sender address malformed"),
            ))
        } else if commands::needs_smtputf8(transaction) && !self.capabilities.smtputf8 {
            let text = "5.6.7 the message needs SMTPUTF8, which the remote does not offer";
            Some((LocalRefusal::SmtpUtf8NotOffered, Reply::new(550, text)))
        // What came back from a remote is not lost for want of the extension (RFC 8689 §5).
        } else if transaction.requiretls
            && !(self.tls && (self.capabilities.requiretls || sender.is_empty()))
        {
            let text = "5.7.30 REQUIRETLS support required";
            Some((LocalRefusal::RequireTlsNotOffered, Reply::new(550, text)))
        } else if transaction.chunking == Chunking::Bdat && !self.capabilities.chunking {
            let text = "9.0.3 X-SMTP-R-API bare CR or LF in the content, and the remote does not offer CHUNKING";
            Some((LocalRefusal::ChunkingNotOffered, Reply::new(451, text)))
        } else {
            None
        };
        if let Some((local, reply)) = refusal {
            self.progress.local = Some(local);
            self.progress
                .answer_all(Stage::Mail, RemoteAnswer::Reply(reply));
            return;
        }
        for (recipient, answer) in transaction
            .recipients
            .iter()
            .zip(&mut self.progress.answers)
        {
            if !commands::is_safe(recipient.mailbox.as_str()) {
                let reply = Reply::new(553, "5.1.3 recipient address malformed");
                *answer = Some((Stage::Rcpt, RemoteAnswer::Reply(reply)));
                self.progress.local = Some(LocalRefusal::UnsafeAddress);
            }
        }
    }

    /// MAIL, and with PIPELINING all that follows it.
    fn send_envelope(&mut self, out: &mut Vec<u8>) {
        let Some(transaction) = &self.progress.transaction else {
            return;
        };
        commands::mail(transaction, &self.capabilities, out);
        if !self.capabilities.pipelining {
            return;
        }
        let safe = |address: &str| commands::is_safe(address);
        for recipient in transaction
            .recipients
            .iter()
            .filter(|r| safe(r.mailbox.as_str()))
        {
            commands::rcpt(recipient, &self.capabilities, out);
        }
        if transaction.chunking == Chunking::Data {
            out.extend_from_slice(b"DATA\r\n");
        }
    }

    fn take_answer(&mut self, answer: RemoteAnswer, out: &mut Vec<u8>) -> Option<ClientEvent> {
        let reply = match answer {
            RemoteAnswer::Reply(reply) if reply.code() != 421 => reply,
            answer => return self.give_up(self.stage, answer),
        };
        match self.progress.step {
            Step::Begin => None,
            Step::Rset => self.hear_rset(reply, out),
            Step::Mail => self.hear_mail(reply, out),
            Step::Rcpt(i) => self.hear_rcpt(i, reply, out),
            Step::Data => self.hear_data(reply, out),
            Step::Content | Step::Dot if self.progress.chunking() == Chunking::Bdat => {
                self.hear_chunk(reply, out)
            }
            Step::Content => self.hear_early(reply),
            Step::Dot => self.hear_dot(reply),
            Step::LoneDot => Some(self.finish(true)),
        }
    }

    fn hear_rset(&mut self, reply: Reply, out: &mut Vec<u8>) -> Option<ClientEvent> {
        if !reply.is_positive() {
            return self.give_up(Stage::Rset, plausible(reply));
        }
        (self.progress.step, self.stage) = (Step::Mail, Stage::Mail);
        if !self.capabilities.pipelining {
            self.send_envelope(out);
        }
        None
    }

    fn hear_mail(&mut self, reply: Reply, out: &mut Vec<u8>) -> Option<ClientEvent> {
        if reply.is_intermediate() {
            return self.give_up(Stage::Mail, plausible(reply));
        }
        if reply.is_positive() {
            self.progress.mail_accepted = true;
            self.mails += 1;
        } else {
            self.progress
                .answer_all(Stage::Mail, RemoteAnswer::Reply(reply));
            if !self.capabilities.pipelining {
                return Some(self.finish(true));
            }
        }
        self.go_to_rcpt(0, out)
    }

    fn hear_rcpt(&mut self, i: usize, reply: Reply, out: &mut Vec<u8>) -> Option<ClientEvent> {
        if reply.is_intermediate() {
            return self.give_up(Stage::Rcpt, plausible(reply));
        }
        if let Some(answer @ None) = self.progress.answers.get_mut(i) {
            if reply.is_positive() {
                self.progress.accepted += 1;
            } else {
                *answer = Some((Stage::Rcpt, RemoteAnswer::Reply(reply)));
            }
        }
        self.go_to_rcpt(i + 1, out)
    }

    /// On to the next RCPT, or behind the last one.
    fn go_to_rcpt(&mut self, from: usize, out: &mut Vec<u8>) -> Option<ClientEvent> {
        let progress = &mut self.progress;
        let pipelining = self.capabilities.pipelining;
        if let Some(i) = progress.next_rcpt(from) {
            let recipient = progress
                .transaction
                .as_ref()
                .and_then(|transaction| transaction.recipients.get(i));
            if let Some(recipient) = recipient.filter(|_| !pipelining) {
                commands::rcpt(recipient, &self.capabilities, out);
            }
            (progress.step, self.stage) = (Step::Rcpt(i), Stage::Rcpt);
            return None;
        }
        let by_data = progress.chunking() == Chunking::Data;
        if progress.accepted == 0 && !(pipelining && by_data) {
            self.needs_rset = progress.mail_accepted;
            return Some(self.finish(true));
        }
        self.stage = Stage::Data;
        self.progress.step = if by_data { Step::Data } else { Step::Content };
        if by_data && !pipelining {
            out.extend_from_slice(b"DATA\r\n");
        }
        None
    }

    fn hear_data(&mut self, reply: Reply, out: &mut Vec<u8>) -> Option<ClientEvent> {
        if reply.is_positive() {
            return self.give_up(Stage::Data, plausible(reply));
        }
        if !reply.is_intermediate() {
            self.needs_rset = self.progress.mail_accepted;
            self.progress
                .answer_all(Stage::Data, RemoteAnswer::Reply(reply));
            return Some(self.finish(true));
        }
        if self.progress.accepted > 0 {
            self.progress.step = Step::Content;
        } else {
            // It waits for content that nobody wants.
            out.extend_from_slice(b".\r\n");
            self.progress.step = Step::LoneDot;
        }
        None
    }

    /// A reply while the content is on its way, which nothing has asked for.
    fn hear_early(&mut self, reply: Reply) -> Option<ClientEvent> {
        self.give_up(Stage::Data, plausible(reply))
    }

    fn hear_dot(&mut self, reply: Reply) -> Option<ClientEvent> {
        let early = self.progress.early;
        if reply.is_intermediate() || (early && reply.is_positive()) {
            return self.give_up(Stage::Dot, RemoteAnswer::Malformed(reply.to_log()));
        }
        self.progress
            .answer_all(Stage::Dot, RemoteAnswer::Reply(reply));
        Some(self.finish(!early))
    }

    fn hear_chunk(&mut self, reply: Reply, out: &mut Vec<u8>) -> Option<ClientEvent> {
        let bdat = &mut self.progress.bdat;
        let asked = bdat.pending > 0;
        bdat.pending = bdat.pending.saturating_sub(1);
        let last = bdat.pending == 0 && self.progress.dot_sent;
        if !asked || reply.is_intermediate() {
            return self.give_up(self.stage, plausible(reply));
        }
        if last {
            self.progress
                .answer_all(Stage::Dot, RemoteAnswer::Reply(reply));
            return Some(self.finish(true));
        }
        if !reply.is_positive() {
            // Chunks behind the refused one are lost too (RFC 3030 §2); RSET begins anew, if no
            // reply is outstanding that would be mistaken for another.
            let usable = self.progress.bdat.pending == 0;
            self.needs_rset = true;
            self.progress
                .answer_all(Stage::Data, RemoteAnswer::Reply(reply));
            return Some(self.finish(usable));
        }
        self.send_held(out);
        None
    }

    /// Sends what was held back, and LAST when all is there.
    fn send_held(&mut self, out: &mut Vec<u8>) {
        let bdat = &mut self.progress.bdat;
        let may_send = bdat.pending == 0 || self.capabilities.pipelining;
        if !may_send || self.progress.dot_sent || (bdat.held.is_empty() && !bdat.ending) {
            return;
        }
        let last = if bdat.ending { " LAST" } else { "" };
        let _ = write!(out, "BDAT {}{last}\r\n", bdat.held.len());
        out.append(&mut bdat.held);
        bdat.pending += 1;
        if bdat.ending {
            self.progress.dot_sent = true;
            self.progress.step = Step::Dot;
            self.stage = Stage::Dot;
        }
    }

    /// Everybody without an answer gets this one, and the session is over.
    fn give_up(&mut self, stage: Stage, answer: RemoteAnswer) -> Option<ClientEvent> {
        self.may_quit = false;
        self.progress.answer_all(stage, answer);
        Some(self.finish(false))
    }

    fn finish(&mut self, usable: bool) -> ClientEvent {
        let exhausted = self
            .capabilities
            .mail_max
            .is_some_and(|most| self.mails >= most);
        let broken = !usable || self.lost.is_some() || self.has_unread();
        self.may_quit &= !broken;
        self.phase = if broken { Phase::Over } else { Phase::Ready };
        self.progress.transaction = None;
        let nothing = || (self.stage, RemoteAnswer::Lost("the session is over".into()));
        let recipients = self
            .progress
            .answers
            .drain(..)
            .map(|answer| answer.unwrap_or_else(nothing))
            .collect();
        ClientEvent::Finished(TransactionResult {
            recipients,
            dot_sent: self.progress.dot_sent,
            usable: !broken && !exhausted,
            local: self.progress.local,
        })
    }
}

/// An unwelcome reply: a refusal as it is, anything else as malformed.
fn plausible(reply: Reply) -> RemoteAnswer {
    if reply.is_temporary() || reply.is_permanent() {
        RemoteAnswer::Reply(reply)
    } else {
        RemoteAnswer::Malformed(reply.to_log())
    }
}
