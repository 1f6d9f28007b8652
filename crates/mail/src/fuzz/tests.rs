//! Stored inputs and seeded mutations of them for the fuzz targets.

use std::path::Path;

use super::*;

const STORED: [&[u8]; 12] = [
    b"",
    b"\r\n",
    b"\r",
    b"\n",
    b"From: a@b\r\nX-SMTP-R-API: {\"message\":{\"ref\":\"abc\"}}\r\nTo: c\r\n\r\nbody\r\n",
    b"X-SMTP-R-API: {\r\n\"a\": \"}\\\"\"\r\n}\r\n folded\r\nFrom: Team: A <a@b>, (c) d@e;\r\n\r\n",
    b"X-SMTP-R-API: {\r\nx-smtp-r-api : }\r\nx-smtp-r-api : {}\r\nFrom: a@b",
    b"Received: from a by mta1.example.net (Galerne) with x\r\nFrom:\"\\\"@x\"@[IPv6::1]\r\n",
    b" folded\r\nX: \r\n \r\n\t\r\n\r\n",
    b"From a Mon\r\n: x\r\nna me: y\r\n",
    b"From: <@a,@b:c@d>, (((\\)))<x\r\n\r\n.\r\n..\r\n",
    b"A: b\nC: d\r\r\n\r\r\n\n\r\n\r\n",
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
            b"\r\n",
            b"\r",
            b"\n",
            b"\0",
            b":",
            b"{",
            b"}",
            b"\"",
            b"\\",
            b"\r\n\r\n",
            b" ",
            b"\r\nX-SMTP-R-API:",
            b"\r\nFrom: ",
            b"<a@b>",
            b"\xff",
            b"(",
        ];
        let mut data = input.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(data.len() + 1);
            let to = (at + self.below(12)).min(data.len());
            match self.below(4) {
                0 => drop(data.drain(at..to)),
                1 => drop(data.splice(at..at, PIECES[self.below(PIECES.len())].iter().copied())),
                2 => drop(data.splice(at..to, PIECES[self.below(PIECES.len())].iter().copied())),
                _ => {
                    let copy = data[at..to].to_vec();
                    let put = self.below(data.len() + 1);
                    drop(data.splice(put..put, copy));
                }
            }
        }
        data
    }
}

fn inputs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = STORED.iter().map(|s| s.to_vec()).collect();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/messages");
    for folder in ["wire", "irregular"] {
        let mut paths: Vec<_> = std::fs::read_dir(corpus.join(folder))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        paths.sort();
        for path in paths {
            let mut message = std::fs::read(path).unwrap();
            message.truncate(3000);
            inputs.push(message);
        }
    }
    inputs
}

#[test]
fn t_09_header_from_and_notification_hold_for_stored_and_mutated_inputs() {
    let mut dice = Dice(0x5EED_0001);
    for input in inputs() {
        header(&input);
        from(&input);
        notification(&input);
        for round in 0..60 {
            let mutated = dice.mutate(&input);
            header(&mutated);
            from(&mutated);
            if round % 10 == 0 {
                notification(&mutated);
            }
        }
    }
    for stored in STORED {
        for _ in 0..2_000 {
            let mutated = dice.mutate(stored);
            header(&mutated);
            from(&mutated);
        }
    }
}
