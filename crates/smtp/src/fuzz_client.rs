//! Fuzz functions of the client side and the codecs: each takes any octets and asserts what must
//! always hold (T-09), as in [`crate::fuzz`].

use crate::address::{Mailbox, ReversePath};
use crate::bdat::{BdatReceiver, Chunk};
use crate::client::{
    Chunking, ClientAuth, ClientConfig, ClientEvent, ClientSession, RemoteAnswer, StartTlsUse,
    Transaction, TransactionResult, TxRecipient,
};
use crate::data::{BareLfPolicy, Decoder, Encoder};
use crate::reply::{MAX_LINE, MAX_LINES, MalformedReply, Reply, ReplyParser};
use crate::stage::Stage;

const POLICIES: [BareLfPolicy; 3] = [
    BareLfPolicy::Reject,
    BareLfPolicy::Normalise,
    BareLfPolicy::Pass,
];

/// Cuts made from the first octets of an input; the rest is what is cut.
struct Cuts<'a> {
    lengths: &'a [u8],
    turn: usize,
}

impl<'a> Cuts<'a> {
    fn split(data: &'a [u8]) -> (Cuts<'a>, &'a [u8]) {
        let (lengths, rest) = data.split_at_checked(4).unwrap_or((&[], data));
        (Cuts { lengths, turn: 0 }, rest)
    }

    /// The next piece; at least one octet, except that an octet 0 makes it an empty one.
    fn piece<'b>(&mut self, rest: &mut &'b [u8]) -> &'b [u8] {
        self.turn += 1;
        let length = self
            .lengths
            .get(self.turn % 5)
            .map_or(rest.len(), |&n| usize::from(n % 23));
        let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        *rest = after;
        piece
    }
}

/// The reply parser: the same at any cut, bounded, and able to read what it writes.
pub fn reply(data: &[u8]) {
    let (mut cuts, wire) = Cuts::split(data);
    let whole = replies(wire, |rest| std::mem::take(rest));
    assert_eq!(
        whole,
        replies(wire, |rest| cuts.piece(rest)),
        "depends on the cut"
    );
    for result in whole {
        match result {
            Ok(reply) => check_reply(&reply),
            Err(MalformedReply(text)) => assert!(is_log_line(&text) && text.len() < 1024),
        }
    }
}

fn replies<'a>(
    mut rest: &'a [u8],
    mut cut: impl FnMut(&mut &'a [u8]) -> &'a [u8],
) -> Vec<Result<Reply, MalformedReply>> {
    let (mut parser, mut found) = (ReplyParser::new(), Vec::new());
    while !rest.is_empty() {
        let mut piece = cut(&mut rest);
        while !piece.is_empty() {
            let (used, result) = parser.parse(piece);
            assert!(used > 0 && used <= piece.len());
            assert!(result.is_some() || used == piece.len());
            piece = piece.get(used..).unwrap_or_default();
            found.extend(result);
        }
    }
    found
}

fn check_reply(reply: &Reply) {
    assert!((200..=599).contains(&reply.code()));
    assert!(reply.lines().count() <= MAX_LINES && reply.lines().all(|line| line.len() <= MAX_LINE));
    assert!(!reply.text().iter().any(|b| matches!(b, b'\r' | 0)));
    assert!(is_log_line(&reply.to_log()) && reply.to_log().len() < 8192);
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    assert_eq!(
        ReplyParser::new().parse(&wire),
        (wire.len(), Some(Ok(reply.clone())))
    );
}

fn is_log_line(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' '..='~' | '…'))
}

/// The data codec: the same at any cut, no end but the true one, and decode∘encode = identity but
/// for the line ends that stood alone.
pub fn data_codec(data: &[u8]) {
    let (mut cuts, content) = Cuts::split(data);
    let sent = encode(content, |rest| std::mem::take(rest));
    assert_eq!(
        sent,
        encode(content, |rest| cuts.piece(rest)),
        "encoding depends on the cut"
    );
    assert!(sent == b".\r\n" || sent.ends_with(b"\r\n.\r\n"));
    let received = decode(BareLfPolicy::Reject, &sent, |rest| cuts.piece(rest));
    assert!(received.end && received.used == sent.len() && !received.bare);
    assert_eq!(received.content, with_line_ends(content));
    assert_eq!(received.nul, content.contains(&0));

    for policy in POLICIES {
        let whole = decode(policy, content, |rest| std::mem::take(rest));
        assert_eq!(
            whole,
            decode(policy, content, |rest| cuts.piece(rest)),
            "decoding depends on the cut"
        );
        let taken = content.get(..whole.used).unwrap_or_default();
        assert_eq!(
            whole.end,
            taken == b".\r\n" || taken.ends_with(b"\r\n.\r\n")
        );
        assert!(whole.end || whole.used == content.len());
        if policy == BareLfPolicy::Normalise && whole.end {
            assert_eq!(
                with_line_ends(&whole.content),
                whole.content,
                "a line end stands alone"
            );
        }
    }
}

#[derive(Debug, PartialEq)]
struct Decoded {
    content: Vec<u8>,
    used: usize,
    end: bool,
    bare: bool,
    nul: bool,
}

fn decode<'a>(
    policy: BareLfPolicy,
    wire: &'a [u8],
    mut cut: impl FnMut(&mut &'a [u8]) -> &'a [u8],
) -> Decoded {
    let (mut decoder, mut content, mut rest) = (Decoder::new(policy), Vec::new(), wire);
    let (mut used, mut end) = (0, false);
    while !rest.is_empty() && !end {
        let piece = cut(&mut rest);
        let (n, ended) = decoder.decode(piece, &mut content, u64::MAX);
        assert!(ended || n == piece.len());
        (used, end) = (used + n, ended);
    }
    assert_eq!(decoder.size(), content.len() as u64);
    let (mut short, mut cut_off) = (Decoder::new(policy), Vec::new());
    short.decode(wire, &mut cut_off, 10);
    assert!(cut_off.len() <= 10 && content.starts_with(&cut_off) && short.size() == decoder.size());
    Decoded {
        content,
        used,
        end,
        bare: decoder.has_bare(),
        nul: decoder.has_nul(),
    }
}

fn encode<'a>(content: &'a [u8], mut cut: impl FnMut(&mut &'a [u8]) -> &'a [u8]) -> Vec<u8> {
    let (mut encoder, mut wire, mut rest) = (Encoder::new(), Vec::new(), content);
    while !rest.is_empty() {
        encoder.encode(cut(&mut rest), &mut wire);
    }
    encoder.finish(&mut wire);
    wire
}

/// Every CR, LF and CRLF made CRLF, and one at the end.
fn with_line_ends(content: &[u8]) -> Vec<u8> {
    let (mut out, mut after_cr) = (Vec::new(), false);
    for &octet in content {
        match octet {
            b'\n' if after_cr => {}
            b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
            _ => out.push(octet),
        }
        after_cr = octet == b'\r';
    }
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Receiving by BDAT: octets of chunks and of commands are never taken for each other.
pub fn bdat(data: &[u8]) {
    for policy in POLICIES {
        let (mut cuts, mut rest) = Cuts::split(data);
        let (mut receiver, mut content, mut expected) =
            (BdatReceiver::new(policy), Vec::new(), Vec::new());
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line = rest.get(..end).unwrap_or_default().trim_ascii_end();
            rest = rest.get(end + 1..).unwrap_or_default();
            let Some(chunk) = line.strip_prefix(b"BDAT ").and_then(Chunk::parse) else {
                continue;
            };
            let keep = chunk.size < 1 << 40;
            receiver.begin(chunk, keep);
            let length = usize::try_from(chunk.size)
                .unwrap_or(usize::MAX)
                .min(rest.len());
            let (octets, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            if keep {
                expected.extend_from_slice(octets);
            }
            let mut unread = octets;
            let mut complete =
                chunk.size == 0 && receiver.take(rest, &mut content, u64::MAX) == (0, true);
            while !unread.is_empty() {
                let piece = cuts.piece(&mut unread);
                let (used, done) = receiver.take(piece, &mut content, u64::MAX);
                assert!(used == piece.len() && !(complete && done && used > 0));
                complete = done;
            }
            assert_eq!(complete, chunk.size == octets.len() as u64);
            assert_eq!(receiver.remaining(), chunk.size - octets.len() as u64);
            rest = after;
            if complete && chunk.last {
                assert_eq!(receiver.noticed().size(), content.len() as u64);
                match policy {
                    BareLfPolicy::Normalise => assert_eq!(content, normalised(&expected)),
                    _ => assert_eq!(content, expected),
                }
                assert_eq!(receiver.noticed().has_nul(), expected.contains(&0));
                (receiver, content, expected) = (BdatReceiver::new(policy), Vec::new(), Vec::new());
            }
        }
    }
}

fn normalised(content: &[u8]) -> Vec<u8> {
    let mut out = with_line_ends(content);
    if !content.ends_with(b"\n") && !content.ends_with(b"\r") {
        out.truncate(out.len().saturating_sub(2));
    }
    out
}

/// A whole session with a remote that says anything: it ends, sends only whole commands of ours,
/// answers for every recipient exactly once, and never claims a delivery without a dot.
pub fn client_session(data: &[u8]) {
    let (mut cuts, mut rest) = Cuts::split(data);
    let choice = cuts
        .lengths
        .iter()
        .fold(0u8, |sum, n| sum.wrapping_mul(31).wrapping_add(*n));
    let Some(mut world) = World::new(choice) else {
        return;
    };
    // Each octet can cause a bounded number of events.
    for _ in 0..20 * (data.len() + 10) {
        match world.step() {
            Go::On => {}
            Go::Over => return,
            Go::Read if rest.is_empty() => world.session.lost("closed"),
            Go::Read => world.session.input(cuts.piece(&mut rest)),
        }
    }
    assert!(
        rest.is_empty() && data.is_empty(),
        "the session does not end"
    );
}

enum Go {
    On,
    Read,
    Over,
}

/// A driver as simple as can be.
struct World {
    session: ClientSession,
    choice: u8,
    readable: bool,
    recipients: usize,
    begun: usize,
}

impl World {
    fn new(choice: u8) -> Option<World> {
        let starttls = match choice % 3 {
            0 => StartTlsUse::Never,
            1 => StartTlsUse::IfOffered,
            _ => StartTlsUse::Required,
        };
        let auth = ClientAuth {
            login: "shop".into(),
            password: "secret".into(),
        };
        let session = ClientSession::new(ClientConfig {
            ehlo: "mta1.example.net".into(),
            tls_active: choice & 4 != 0,
            starttls,
            auth: (choice & 8 != 0).then_some(auth),
            auth_in_clear: choice & 16 != 0,
        });
        let readable = choice & (4 | 16) != 0;
        let recipients = usize::from(choice >> 5) % 4;
        Some(World {
            session,
            choice,
            readable,
            recipients,
            begun: 0,
        })
    }

    fn step(&mut self) -> Go {
        let mut out = Vec::new();
        let event = self.session.poll(&mut out);
        self.check_commands(&out);
        match event {
            ClientEvent::NeedInput => return Go::Read,
            ClientEvent::Greeted => {}
            ClientEvent::StartTls => {
                self.readable = true;
                self.session.tls_established();
            }
            ClientEvent::Ready => {
                let Some(transaction) = self.transaction().filter(|_| self.begun < 4) else {
                    return self.over();
                };
                self.begun += 1;
                self.session.start(transaction);
            }
            ClientEvent::SendContent => {
                let mut wire = Vec::new();
                for piece in [b"a\r\n.".as_slice(), b"\n.\r", b"\n\r.\r\n"] {
                    self.session.content(piece, &mut wire);
                }
                self.session.content_end(&mut wire);
                let bdat = self.choice & 32 != 0;
                assert!(bdat || wire.ends_with(b"\r\n.\r\n"));
                assert!(bdat || wire.windows(5).filter(|end| *end == b"\r\n.\r\n").count() == 1);
                return Go::Read;
            }
            ClientEvent::Finished(result) => self.check_result(&result),
            ClientEvent::Failed { answer, .. } => {
                check_answer(&answer);
                assert!(
                    matches!(self.session.poll(&mut out), ClientEvent::Failed { .. }),
                    "comes back to life"
                );
                return self.over();
            }
        }
        Go::On
    }

    fn over(&mut self) -> Go {
        let mut out = Vec::new();
        self.session.quit(&mut out);
        assert!(out.is_empty() || out == b"QUIT\r\n");
        Go::Over
    }

    fn transaction(&self) -> Option<Transaction> {
        let recipient = |n: usize| {
            let mailbox = Mailbox::parse(&format!("r{n}@example.org")).ok()?;
            Some(TxRecipient {
                mailbox,
                notify: Some("NEVER".into()),
                orcpt: Some("rfc822;a+b@c.example".into()),
            })
        };
        Some(Transaction {
            sender: ReversePath::Null,
            recipients: (0..self.recipients).map(recipient).collect::<Option<_>>()?,
            size: 13,
            eight_bit: self.choice & 64 != 0,
            smtputf8: self.choice & 128 != 0 && self.begun == 1,
            requiretls: self.choice & 16 != 0 && self.begun == 0,
            ret: Some("HDRS"),
            envid: Some("x y".into()),
            chunking: if self.choice & 32 != 0 {
                Chunking::Bdat
            } else {
                Chunking::Data
            },
        })
    }

    /// Commands are whole lines of ours, and the password stays where it must.
    fn check_commands(&self, out: &[u8]) {
        if self.choice & 32 != 0 && out.starts_with(b"BDAT ") {
            return;
        }
        assert!(out.is_empty() || out.ends_with(b"\r\n"));
        let lines = out.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        for line in lines {
            let line = line.strip_suffix(b"\r").unwrap_or(b"\r");
            assert!(!line.iter().any(|b| matches!(b, b'\r' | 0)) && line.len() < 512);
            assert!(
                self.readable || !contains(line, b"c2VjcmV0"),
                "the password in clear"
            );
        }
    }

    fn check_result(&mut self, result: &TransactionResult) {
        assert_eq!(result.recipients.len(), self.recipients);
        for (stage, answer) in &result.recipients {
            check_answer(answer);
            let taken = matches!(answer, RemoteAnswer::Reply(reply) if reply.is_positive());
            assert!(
                !taken || (*stage == Stage::Dot && result.dot_sent && self.session.mail_accepted())
            );
            assert!(result.dot_sent || *stage != Stage::Dot);
        }
        let mut out = Vec::new();
        let ready = self.session.poll(&mut out) == ClientEvent::Ready;
        assert!(ready || !result.usable);
        assert!(out.is_empty());
    }
}

fn check_answer(answer: &RemoteAnswer) {
    match answer {
        RemoteAnswer::Reply(reply) => assert!(!reply.is_intermediate()),
        RemoteAnswer::Malformed(text) => assert!(is_log_line(text) && text.len() < 8192),
        RemoteAnswer::Lost(why) => assert!(!why.is_empty()),
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
