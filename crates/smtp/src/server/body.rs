//! Content by DATA and BDAT (RFC 5321 §4.1.1.4, RFC 3030), bounded by `max_size` (RELAY-15, T-22).

use std::io::Write;

use super::dispatch::{NO_HELLO, NO_MAIL, NO_RCPT, put_fault};
use super::{ContentProblem, ServerEvent, ServerSession, State, put};
use crate::bdat::{BdatReceiver, Chunk};
use crate::command::Fault;
use crate::data::{BareLfPolicy, Decoder};

/// Least number of octets beyond `max_size` that are read and dropped before the session ends.
const SURPLUS_MIN: u64 = 1 << 20;

const TOO_LARGE: Fault = Fault::new(552, "5.3.4", "The message is too large");

/// What is kept of a transaction: the caller has the rest.
pub(super) struct Transaction {
    /// Accepted recipients.
    pub(super) accepted: usize,
    pub(super) smtputf8: bool,
    pub(super) prdr: bool,
    body: Body,
    /// The reply to the present chunk, whose octets are dropped.
    refusal: Option<Fault>,
    /// A chunk was refused: only RSET helps (RFC 3030 §2).
    void: bool,
    /// There is no transaction; this stands in for the chunk that came without one.
    pub(super) phantom: bool,
}

enum Body {
    None,
    Data(Decoder),
    Chunks(BdatReceiver),
}

impl Transaction {
    pub(super) fn new(smtputf8: bool, prdr: bool) -> Self {
        let body = Body::None;
        Transaction {
            accepted: 0,
            smtputf8,
            prdr,
            body,
            refusal: None,
            void: false,
            phantom: false,
        }
    }

    /// Whether DATA or BDAT has been given.
    pub(super) fn has_content(&self) -> bool {
        self.void || !matches!(self.body, Body::None)
    }
}

impl ServerSession {
    pub(super) fn data(&mut self, out: &mut Vec<u8>) -> Option<ServerEvent> {
        let fault = match &mut self.transaction {
            _ if self.helo.is_empty() => NO_HELLO,
            None => NO_MAIL,
            Some(transaction) if transaction.has_content() => {
                Fault::new(503, "5.5.1", "DATA cannot follow BDAT")
            }
            Some(transaction) if transaction.accepted == 0 => NO_RCPT,
            Some(transaction) => {
                transaction.body = Body::Data(Decoder::new(self.config.bare_lf));
                self.state = State::Data;
                put(out, &["354 Start mail input; end with <CRLF>.<CRLF>\r\n"]);
                return None;
            }
        };
        self.fault(&fault, out)
    }

    /// BDAT: its octets are taken whatever the reply will be (RFC 3030 §2, T-06).
    pub(super) fn bdat(&mut self, chunk: Chunk, out: &mut Vec<u8>) -> Option<ServerEvent> {
        let max = self.config.max_size;
        let mut refusal = match &self.transaction {
            _ if !self.config.chunking => Some(Fault::new(502, "5.5.1", "CHUNKING is not offered")),
            _ if self.helo.is_empty() => Some(NO_HELLO),
            None => Some(NO_MAIL),
            Some(transaction) if transaction.void => {
                Some(Fault::new(503, "5.5.1", "A chunk has failed, send RSET"))
            }
            Some(transaction) if transaction.accepted == 0 => Some(NO_RCPT),
            Some(_) => None,
        };
        let phantom = || {
            Box::new(Transaction {
                phantom: true,
                ..Transaction::new(false, false)
            })
        };
        let transaction = self.transaction.get_or_insert_with(phantom);
        let mut receiver = match std::mem::replace(&mut transaction.body, Body::None) {
            Body::Chunks(receiver) => receiver,
            Body::None | Body::Data(_) => BdatReceiver::new(self.config.bare_lf),
        };
        let total = receiver.noticed().size().saturating_add(chunk.size);
        if refusal.is_none() && total > max {
            refusal = Some(TOO_LARGE);
        }
        receiver.begin(chunk, refusal.is_none());
        transaction.body = Body::Chunks(receiver);
        transaction.refusal = refusal;
        if let Some(fault) = refusal.filter(|_| chunk.size > surplus(max)) {
            put_fault(&fault, out);
            self.end();
            return Some(ServerEvent::Close);
        }
        self.state = State::Chunk;
        if chunk.size == 0 {
            self.end_chunk(out)
        } else {
            None
        }
    }

    pub(super) fn take_data(
        &mut self,
        rest: &[u8],
        out: &mut Vec<u8>,
        content: &mut Vec<u8>,
    ) -> (usize, Option<ServerEvent>) {
        let max = self.config.max_size;
        let Some(Body::Data(decoder)) = self.transaction.as_mut().map(|t| &mut t.body) else {
            return (rest.len(), Some(self.lost_state(out)));
        };
        let room = max.saturating_sub(decoder.size());
        let (taken, ended) = decoder.decode(rest, content, room);
        if ended {
            let event = end_of_data(decoder, self.config.bare_lf, max);
            self.state = State::Finish;
            return (taken, Some(event));
        }
        if decoder.size() > max.saturating_add(surplus(max)) {
            put_fault(&TOO_LARGE, out);
            self.end();
            return (taken, Some(ServerEvent::Close));
        }
        (taken, Some(ServerEvent::Content))
    }

    pub(super) fn take_chunk(
        &mut self,
        rest: &[u8],
        out: &mut Vec<u8>,
        content: &mut Vec<u8>,
    ) -> (usize, Option<ServerEvent>) {
        let max = self.config.max_size;
        let Some(Body::Chunks(receiver)) = self.transaction.as_mut().map(|t| &mut t.body) else {
            return (rest.len(), Some(self.lost_state(out)));
        };
        let room = max.saturating_sub(receiver.noticed().size());
        let (taken, complete) = receiver.take(rest, content, room);
        let event = if complete {
            self.end_chunk(out)
        } else {
            Some(ServerEvent::Content)
        };
        (taken, event)
    }

    /// All octets of a chunk are here.
    fn end_chunk(&mut self, out: &mut Vec<u8>) -> Option<ServerEvent> {
        self.state = State::Command;
        let Some(transaction) = &mut self.transaction else {
            return Some(self.lost_state(out));
        };
        let Body::Chunks(receiver) = &transaction.body else {
            return Some(self.lost_state(out));
        };
        if let Some(fault) = transaction.refusal.take() {
            return self.refused_chunk(&fault, out);
        }
        if receiver.is_last() {
            let event = end_of_data(
                receiver.noticed(),
                self.config.bare_lf,
                self.config.max_size,
            );
            self.state = State::Finish;
            return Some(event);
        }
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "250 2.0.0 {} octets so far\r\n",
            receiver.noticed().size()
        );
        Some(ServerEvent::Content)
    }

    /// The reply to a chunk whose octets were dropped.
    fn refused_chunk(&mut self, fault: &Fault, out: &mut Vec<u8>) -> Option<ServerEvent> {
        let mut event = None;
        match &mut self.transaction {
            Some(transaction) if transaction.phantom => self.transaction = None,
            // It may still get recipients.
            Some(transaction) if transaction.accepted == 0 => transaction.body = Body::None,
            Some(transaction) if !transaction.void => {
                transaction.void = true;
                event = Some(ServerEvent::Reset);
            }
            _ => {}
        }
        self.fault(fault, out).or(event)
    }

    /// Not reachable: the state says that content is expected, and nothing is there to take it.
    fn lost_state(&mut self, out: &mut Vec<u8>) -> ServerEvent {
        put(out, &["421 4.3.0 Internal error, closing\r\n"]);
        self.end();
        ServerEvent::Close
    }
}

fn end_of_data(decoder: &Decoder, policy: BareLfPolicy, max: u64) -> ServerEvent {
    let problem = if decoder.size() > max {
        Some(ContentProblem::TooLarge)
    } else if decoder.has_nul() {
        Some(ContentProblem::Nul)
    } else if decoder.has_bare() && policy == BareLfPolicy::Reject {
        Some(ContentProblem::BareLineEnd)
    } else {
        None
    };
    ServerEvent::EndOfData {
        problem,
        size: decoder.size(),
        has_bare: decoder.has_bare(),
    }
}

/// How much beyond the limit, or of a refused chunk, is read for the sake of a reply that the
/// client can see. More, and the session ends.
fn surplus(max: u64) -> u64 {
    max.max(SURPLUS_MIN)
}
