//! The fuzz functions of the client side under stored inputs and seeded mutations.

use galerne_smtp::fuzz_client;

use crate::mutate::Mutator;

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\0",
    b"250 ok\r\n",
    b"250-ok\r\n",
    b"354 go\r\n",
    b"421 bye\r\n",
    b"550 5.1.1 no\r\n",
    b"220 go\r\n",
    b"334 VXNlcm5hbWU6\r\n",
    b"235 ok\r\n",
    b"-",
    b"000",
    b"BDAT 3\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 18446744073709551615\r\n",
    b" LAST",
    b"250-STARTTLS\r\n",
    b"250-AUTH PLAIN LOGIN CRAM-MD5\r\n",
    b"250-PIPELINING\r\n",
    b"250-CHUNKING\r\n",
    b"250 SMTPUTF8\r\n",
    b"\xff\xfe",
    b"-1",
    b"99999999999999999999",
];

fn run(fuzz: fn(&[u8]), inputs: &[Vec<u8>], rounds: u64) {
    for input in inputs {
        fuzz(input);
    }
    let mut mutator = Mutator::new(20_260_101);
    for _ in 0..rounds {
        fuzz(&mutator.mutate(inputs, WORDS));
    }
}

/// Every input once for each of several cuts.
fn cut(inputs: &[&[u8]]) -> Vec<Vec<u8>> {
    let cuts: [&[u8]; 5] = [
        &[22, 22, 22, 22],
        &[1, 1, 1, 1],
        &[5, 0, 3, 9],
        &[255, 2, 17, 64],
        &[128, 96, 33, 200],
    ];
    inputs
        .iter()
        .flat_map(|input| cuts.map(|cut| [cut, *input].concat()))
        .collect()
}

#[test]
fn t_09_any_reply() {
    let inputs = cut(&[
        b"250-mx.example.org\r\n250-SIZE 1000\r\n250 DSN\r\n550 5.1.1 no\r\n",
        b"250 ok\n250\r\n250-\r\n250-a\r\n550 b\r\nhello\r\n354 \xc3\xa9\xff\r\n",
        &b"250-x\r\n".repeat(200),
        &[b"450 ".as_slice(), &[b'x'; 3000], b"\r\n250 next\r\n"].concat(),
    ]);
    run(fuzz_client::reply, &inputs, 20_000);
}

#[test]
fn t_09_any_content() {
    let inputs = cut(&[
        b"",
        b".",
        b"..\r\n.\r\n",
        b"Subject: x\r\n\r\nbody\r\n.a\r\n..\r\n.\r\nQUIT\r\n",
        b"a\n.\nb\r.\rc\r\n.\nd\r\n.\re\r\n\0.\r\n\r\r\n.\r\n",
    ]);
    run(fuzz_client::data_codec, &inputs, 20_000);
}

#[test]
fn t_09_t_06_any_chunks() {
    let inputs = cut(&[
        b"BDAT 5\r\nhelloBDAT 2\r\n\r\nBDAT 0 LAST\r\nQUIT\r\n",
        b"BDAT 12 LAST\r\n\r\n.\r\nBDAT 1\r\nBDAT 3\r\na\r\nBDAT 1\r\n\nBDAT 1 LAST\r\n\r",
        b"BDAT 18446744073709551615\r\nabc",
        b"BDAT -1\r\nBDAT 1 X\r\nBDAT\r\nBDAT 4 LAST\r\na\0\nb",
    ]);
    run(fuzz_client::bdat, &inputs, 20_000);
}

#[test]
fn t_09_any_remote() {
    let full = b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SMTPUTF8\r\n250-DSN\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n";
    let ok = b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n250 ok\r\n550 no\r\n354 go\r\n250 ok\r\n";
    let inputs = cut(&[
        &[full.as_slice(), ok].concat(),
        &[full.as_slice(), b"220 go\r\n", full.strip_prefix(b"220 mx\r\n").unwrap(), b"235 in\r\n", ok, ok].concat(),
        &[full.as_slice(), b"250 m\r\n250 a\r\n250 a\r\n552 too big\r\n250 r\r\n250 m\r\n"].concat(),
        b"220 mx\r\n500 what\r\n250 mx\r\n250 m\r\n250 r\r\n354 d\r\n250 taken\r\n421 bye\r\n",
        b"220 mx\r\n250-mx\r\n250 AUTH LOGIN CRAM-MD5\r\n334 PDE=\r\n334 UGFzc3dvcmQ6\r\n235 in\r\n250 m\r\n",
        b"554 no\r\n",
    ]);
    run(fuzz_client::client_session, &inputs, 20_000);
}
