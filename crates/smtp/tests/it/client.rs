//! The client side: one session against a remote whose lines stand in the test.

mod fuzzed;
mod hello;
mod hostile;
mod pair;
mod transaction;

use galerne_smtp::client::{
    Chunking, ClientConfig, ClientEvent, ClientSession, FailureKind, RemoteAnswer, StartTlsUse,
    Transaction, TransactionResult, TxRecipient,
};
use galerne_smtp::{Mailbox, Reply, ReversePath, Stage};

/// Everything but STARTTLS and AUTH.
const FULL: &str = "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n\
                    250-SMTPUTF8\r\n250-DSN\r\n250 CHUNKING\r\n";
/// Nothing.
const BARE: &str = "250 mx.example.org\r\n";

fn config() -> ClientConfig {
    ClientConfig {
        ehlo: "mta1.example.net".into(),
        tls_active: false,
        starttls: StartTlsUse::Never,
        auth: None,
        auth_in_clear: false,
    }
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn transaction(recipients: &[&str]) -> Transaction {
    let recipient = |text: &&str| TxRecipient {
        mailbox: mailbox(text),
        notify: None,
        orcpt: None,
    };
    Transaction {
        sender: ReversePath::Mailbox(mailbox("news@shop.example")),
        recipients: recipients.iter().map(recipient).collect(),
        size: 11,
        eight_bit: false,
        smtputf8: false,
        requiretls: false,
        ret: None,
        envid: None,
        chunking: Chunking::Data,
    }
}

/// A session and what it wants to send.
struct Play {
    session: ClientSession,
    out: Vec<u8>,
}

impl Play {
    fn new(config: ClientConfig) -> Play {
        Play {
            session: ClientSession::new(config),
            out: Vec::new(),
        }
    }

    /// A session that has heard the greeting and this reply to EHLO, and is ready.
    fn ready(ehlo: &str) -> Play {
        let mut play = Play::new(config());
        play.greeted();
        play.hears(ehlo);
        assert_eq!(play.poll(), ClientEvent::Ready);
        play
    }

    fn greeted(&mut self) {
        self.hears("220 mx.example.org ESMTP\r\n");
        assert_eq!(self.poll(), ClientEvent::Greeted);
        assert_eq!(self.poll(), ClientEvent::NeedInput);
        assert_eq!(self.sent(), "EHLO mta1.example.net\r\n");
    }

    fn hears(&mut self, lines: &str) {
        self.session.input(lines.as_bytes());
    }

    fn poll(&mut self) -> ClientEvent {
        self.session.poll(&mut self.out)
    }

    fn sent(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    /// Hears, waits for more, and has sent this meanwhile.
    #[track_caller]
    fn step(&mut self, hears: &str, sends: &str) {
        self.hears(hears);
        assert_eq!(self.poll(), ClientEvent::NeedInput);
        assert_eq!(self.sent(), sends);
    }

    #[track_caller]
    fn begin(&mut self, transaction: Transaction, sends: &str) {
        self.session.start(transaction);
        self.step("", sends);
    }

    /// Begins, whatever is sent.
    #[track_caller]
    fn start(&mut self, transaction: Transaction) {
        self.session.start(transaction);
        assert_eq!(self.poll(), ClientEvent::NeedInput);
        self.sent();
    }

    /// Hears, and is to send the content.
    #[track_caller]
    fn content_after(&mut self, hears: &str) {
        self.hears(hears);
        assert_eq!(self.poll(), ClientEvent::SendContent);
        assert_eq!(self.sent(), "");
    }

    #[track_caller]
    fn send_content(&mut self, content: &str) {
        self.session.content(content.as_bytes(), &mut self.out);
        self.session.content_end(&mut self.out);
        assert_eq!(self.poll(), ClientEvent::NeedInput);
    }

    #[track_caller]
    fn finished(&mut self) -> TransactionResult {
        match self.poll() {
            ClientEvent::Finished(result) => result,
            other => panic!("{other:?} instead of Finished"),
        }
    }

    #[track_caller]
    fn finished_after(&mut self, hears: &str) -> TransactionResult {
        self.hears(hears);
        self.finished()
    }

    #[track_caller]
    fn failed(&mut self) -> (Stage, RemoteAnswer, FailureKind) {
        match self.poll() {
            ClientEvent::Failed {
                stage,
                answer,
                kind,
            } => (stage, answer, kind),
            other => panic!("{other:?} instead of Failed"),
        }
    }

    #[track_caller]
    fn failed_after(&mut self, hears: &str) -> (Stage, RemoteAnswer, FailureKind) {
        self.hears(hears);
        self.failed()
    }
}

fn reply(code: u16, text: &str) -> RemoteAnswer {
    RemoteAnswer::Reply(Reply::new(code, text))
}

fn is_malformed(answer: &RemoteAnswer) -> bool {
    matches!(answer, RemoteAnswer::Malformed(_))
}

fn is_lost(answer: &RemoteAnswer) -> bool {
    matches!(answer, RemoteAnswer::Lost(_))
}
