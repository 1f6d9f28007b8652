//! Our client against our server: what one writes the other reads, octet for octet.

use std::time::Instant;

use galerne_smtp::data::BareLfPolicy;
use galerne_smtp::server::ServerConfig;

use super::*;
use crate::dialogue::Server;
use crate::script::Dialogue;

fn server_config(bare_lf: BareLfPolicy) -> ServerConfig {
    ServerConfig {
        bare_lf,
        ..Dialogue::parse("").config()
    }
}

struct Pair {
    client: Play,
    server: Server,
    /// Octets handed over at once.
    segment: usize,
}

impl Pair {
    fn new(bare_lf: BareLfPolicy, segment: usize) -> Pair {
        let mut pair = Pair {
            client: Play::new(config()),
            server: Server::new(server_config(bare_lf), false, false),
            segment,
        };
        while pair.go() != ClientEvent::Ready {}
        pair
    }

    /// Lets both talk until the client wants something other than input.
    fn go(&mut self) -> ClientEvent {
        loop {
            let event = self.client.poll();
            for piece in std::mem::take(&mut self.client.out).chunks(self.segment) {
                self.server.receive(piece);
            }
            if event != ClientEvent::NeedInput {
                return event;
            }
            let replies = std::mem::take(&mut self.server.out);
            assert!(!replies.is_empty(), "both wait");
            for piece in replies.chunks(self.segment) {
                self.client.session.input(piece);
            }
        }
    }

    fn relay(&mut self, transaction: Transaction, content: &[u8]) -> TransactionResult {
        self.client.session.start(transaction);
        loop {
            match self.go() {
                ClientEvent::SendContent => {
                    for piece in content.chunks(self.segment) {
                        self.client.session.content(piece, &mut self.client.out);
                    }
                    self.client.session.content_end(&mut self.client.out);
                }
                ClientEvent::Finished(result) => return result,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn message() -> Vec<u8> {
    let mut message = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n\r\n".to_vec();
    while message.len() < 4096 {
        message.extend_from_slice(
            b"A line of the length that lines of text have in the messages of today\r\n",
        );
    }
    message
}

#[test]
fn relay_27_content_comes_through_octet_for_octet() {
    for segment in [1, 7, 1000, 100_000] {
        let mut pair = Pair::new(BareLfPolicy::Reject, segment);
        for content in [message(), b"x: y\r\n\r\n".to_vec(), Vec::new()] {
            let result = pair.relay(
                transaction(&["a@x.example", "refused@x.example", "b@x.example"]),
                &content,
            );
            let stages: Vec<Stage> = result.recipients.iter().map(|(stage, _)| *stage).collect();
            assert_eq!(stages, [Stage::Dot, Stage::Rcpt, Stage::Dot]);
            assert!(result.usable);
            assert_eq!(pair.server.messages.pop().unwrap(), content);
        }
        // Nobody wants it: the server refuses DATA, and the session goes on.
        let result = pair.relay(transaction(&["refused@x.example"]), &message());
        assert_eq!(result.recipients[0].0, Stage::Rcpt);
        assert!(result.usable && pair.server.messages.is_empty());
        assert!(pair.relay(transaction(&["a@x.example"]), &message()).usable);
        assert_eq!(pair.server.messages.len(), 1);
    }
}

#[test]
fn relay_18_by_bdat_bare_line_ends_come_through_too() {
    let content = b"Subject: x\r\n\r\na\nb\rc\n.\n\r\n.\r\nd\r";
    for segment in [1, 5, 1000] {
        let mut pair = Pair::new(BareLfPolicy::Pass, segment);
        let chunked = Transaction {
            chunking: Chunking::Bdat,
            ..transaction(&["a@x.example"])
        };
        let result = pair.relay(chunked, content);
        assert_eq!(result.recipients[0].0, Stage::Dot);
        assert!(result.usable);
        assert_eq!(pair.server.messages, [content.to_vec()]);
    }
    let mut pair = Pair::new(BareLfPolicy::Reject, 100);
    let chunked = Transaction {
        chunking: Chunking::Bdat,
        ..transaction(&["a@x.example"])
    };
    let result = pair.relay(chunked, content);
    assert_eq!(
        result.recipients[0].1,
        reply(451, "9.0.3 X-SMTP-R-API bare CR, LF or NUL")
    );
}

/// Prints what a 4 KiB message costs on both sides together; run with
/// `cargo test --release -p galerne-smtp --test it -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_message() {
    let mut pair = Pair::new(BareLfPolicy::Reject, 16 * 1024);
    let content = message();
    let rounds = 100_000u32;
    let start = Instant::now();
    for _ in 0..rounds {
        assert!(pair.relay(transaction(&["a@x.example"]), &content).usable);
        assert_eq!(
            pair.server.messages.pop().map(|message| message.len()),
            Some(content.len())
        );
    }
    println!("{:?} per message", start.elapsed() / rounds);
}
