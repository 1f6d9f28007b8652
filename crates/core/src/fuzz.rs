//! Fuzz targets of the decisions: functions over arbitrary octets that assert what must always
//! hold (T-09). They run under plain `cargo test` with stored inputs and seeded mutations, and
//! under any coverage-guided driver.

use galerne_smtp::Reply;

use crate::accept::{Circumstances, examine};
use crate::directive::{OutboundName, parse};
use crate::refusal::Refusal;
use crate::settings::{EhloName, EnvelopeFrom};

/// The value of a directive field.
pub fn directive(data: &[u8]) {
    match parse(data) {
        Ok(directive) => {
            let plain = |text: &str| text.chars().all(|c| !c.is_control());
            if let Some(reference) = &directive.reference {
                assert!((3..=30).contains(&reference.len()));
            }
            assert!(directive.title.as_deref().is_none_or(plain));
            assert!(directive.tags.len() <= 16);
            assert!(
                directive
                    .tags
                    .iter()
                    .all(|t| plain(t) && !t.contains([' ', ';']))
            );
            assert!(
                directive
                    .timeout
                    .is_none_or(|t| (1..=590).contains(&t.as_secs()))
            );
            assert!(directive.maxhop.is_none_or(|n| (1..=20).contains(&n)));
            if let Some(EnvelopeFrom::Address(address)) = &directive.envelopefrom {
                assert!(plain(address.as_str()) && address.as_str().len() <= 254);
            }
            if let Some(EhloName::Name(name)) = &directive.ehlo {
                assert!(
                    name.bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
                );
            }
            for name in directive.outbound.iter().flatten() {
                assert!(!matches!(name, OutboundName::Host(h) if h.is_empty() || !h.is_ascii()));
            }
        }
        Err(refusal) => check_refusal(&refusal, "451 9.1."),
    }
}

/// A whole message at its end of data, from a client without an account and without directive.
pub fn message(data: &[u8]) {
    let stranger = Circumstances {
        account: None,
        null_sender: false,
        bare: false,
        has_more: false,
        keep_directive: false,
        own_name: "mta1.example.net",
        trace: None,
    };
    match examine(data, &stranger) {
        Ok(examined) => {
            let mut out = Vec::new();
            let mut at = 0;
            for cut in &examined.patch.cuts {
                assert!(at <= cut.start && cut.start < cut.end && cut.end <= data.len());
                out.extend_from_slice(data.get(at..cut.start).unwrap_or_default());
                at = cut.end;
            }
            out.extend_from_slice(data.get(at..).unwrap_or_default());
            // What is left needs no cut, and says the same.
            let again = examine(&out, &stranger);
            assert!(again.is_ok_and(|a| {
                a.patch.cuts.is_empty()
                    && a.header_from == examined.header_from
                    && a.received_count == examined.received_count
                    && a.message_id == examined.message_id
            }));
        }
        Err(refusal) => check_refusal(&refusal, ""),
    }
}

fn check_refusal(refusal: &Refusal, start: &str) {
    let line = |reply: Reply| {
        let text: Vec<&[u8]> = reply.lines().collect();
        format!(
            "{} {}",
            reply.code(),
            String::from_utf8_lossy(&text.join(&b'\n'))
        )
    };
    let text = line(refusal.reply(false));
    assert!(text.starts_with(start), "{text}");
    for text in [text, line(refusal.reply(true))] {
        assert!(
            text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
            "{text}"
        );
        assert!(text.len() <= 440);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTIVES: [&str; 8] = [
        "",
        "{}",
        "{\"message\":{\"ref\":\"order-4711\",\"title\":\"a\\u00e9\",\"tags\":[\"x\",\"y\"],\"timeout\":30,\"maxhop\":2,\"mode\":\"sync\"}}",
        "{\"routing\":{\"ehlo\":\"a.example\",\"envelopefrom\":\"a@b\",\"sign\":\"both\",\"ssl\":\"required\",\"outbound\":[\"192.0.2.1\",\"@hub\"]}}",
        "{\"routing\":{\"ehlo\":\"@rdns\",\"envelopefrom\":\"@verp\",\"sign\":0,\"ssl\":true,\"outbound\":\"::1 @x\"}}",
        "{\"message\":\r\n {\"title\":\"one\r\n two\"}}",
        "[[[[[[[[{\"a\":1e999}]]]]]]]]",
        "{\"message\":{\"timeout\":-1,\"maxhop\":1.5},\"message\":null}",
    ];

    /// A small generator: the same inputs in every run (xorshift64*).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n.max(1)
        }

        fn mutate(&mut self, input: &[u8]) -> Vec<u8> {
            const PIECES: [&[u8]; 16] = [
                b"{", b"}", b"[", b"]", b"\"", b"\\", b"\\u0000", b",", b":", b"0", b"-", b"null",
                b"\r\n ", b"\xff", b"@", b"\\r\\n",
            ];
            let mut data = input.to_vec();
            for _ in 0..=self.below(4) {
                let at = self.below(data.len() + 1);
                let to = (at + self.below(8)).min(data.len());
                let piece = PIECES[self.below(PIECES.len())].iter().copied();
                match self.below(3) {
                    0 => drop(data.drain(at..to)),
                    1 => drop(data.splice(at..at, piece)),
                    _ => drop(data.splice(at..to, piece)),
                }
            }
            data
        }
    }

    #[test]
    fn t_09_t_05_directive_and_message_hold_for_stored_and_mutated_inputs() {
        let mut dice = Dice(0x5EED_0002);
        for stored in DIRECTIVES {
            for _ in 0..4_000 {
                let mutated = dice.mutate(stored.as_bytes());
                directive(&mutated);
                let mut whole = b"Message-ID: <1@x>\r\nX-SMTP-R-API: ".to_vec();
                whole.extend(&mutated);
                whole.extend(b"\r\nReceived: x\r\nFrom: A <a@b>\r\n\r\nbody\r\n");
                message(&whole);
                message(&dice.mutate(&whole));
            }
        }
        for wild in [
            vec![b'{'; 16_000],
            vec![b'['; 16_384],
            vec![b'"'; 20_000],
            vec![0xff; 300],
        ] {
            directive(&wild);
        }
    }
}
