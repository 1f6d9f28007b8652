//! The server side: the golden dialogues, and what is too long or too wild for a file.

use std::path::Path;

use galerne_smtp::fuzz;
use galerne_smtp::server::{ContentProblem, Phase, ServerEvent, ServerSession};

use crate::dialogue::{Server, read};
use crate::mutate::Mutator;
use crate::script::Dialogue;

fn play(name: &str) {
    read(name).play();
}

/// The names of the stored dialogues.
fn names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let dialogues = files.filter(|path| path.extension().is_some_and(|e| e == "smtp"));
    let mut names: Vec<_> = dialogues
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_dialogue_is_played() {
    let source = include_str!("server.rs");
    for name in names() {
        assert!(
            source.contains(&format!("play(\"{name}\")")),
            "{name}.smtp is not played"
        );
    }
}

#[test]
fn a_wrong_dialogue_is_noticed() {
    for text in [
        "S: 221 *\n",
        "S: 220 *\nC: NOOP\nS: 250-*\n",
        "S: 220 *\nC: NOOP\nS: 250 *\nS: 250 *\n",
        "S: 220 *\nX:\n",
        "S: 220 *\nC: QUIT\nX:\n",
        "S: 220 *\nC: HELP\nS: 250 ...\n",
    ] {
        assert!(
            std::panic::catch_unwind(|| Dialogue::parse(text).play()).is_err(),
            "{text}"
        );
    }
}

#[test]
fn relay_14_ehlo_lists_the_extensions() {
    play("ehlo");
    play("ehlo_bare");
    play("ehlo_tls");
    play("ehlo_requiretls");
}

#[test]
fn relay_14_helo_has_one_line() {
    play("helo");
}

#[test]
fn relay_2_relay_17_transactions_follow_each_other() {
    play("transactions");
    play("pipelining");
}

#[test]
fn relay_16_order_and_syntax() {
    play("order");
    play("syntax");
    play("errors_reset");
}

#[test]
fn relay_15_t_22_too_large_is_refused() {
    play("size");
}

#[test]
fn relay_19_surplus_recipients_are_refused() {
    play("recipients");
}

#[test]
fn relay_78_t_05_t_08_paths() {
    play("paths");
    play("senders");
    play("smtputf8");
}

#[test]
fn ret_26_ret_27_ret_28_ret_30_dsn_parameters() {
    play("dsn");
}

#[test]
fn relay_12_auth_plain_and_login() {
    play("auth");
    play("auth_plain");
    play("auth_clear");
}

#[test]
fn t_10_nothing_survives_starttls() {
    play("starttls");
    play("early_starttls");
}

#[test]
fn t_04_early_talkers_are_turned_away() {
    play("early_ehlo");
    play("early_data");
}

#[test]
fn t_01_relay_18_only_crlf_dot_crlf_ends_data() {
    play("end_of_data");
    play("normalise");
    play("pass");
}

#[test]
fn t_03_bare_line_ends_in_commands() {
    play("bare_commands");
    play("bare_lines");
}

#[test]
fn t_06_chunks() {
    play("bdat");
    play("bdat_after_error");
    play("bdat_huge");
    play("bdat_negative");
}

#[test]
fn relay_20_prdr_gives_a_reply_for_each_recipient() {
    play("prdr");
}

#[test]
fn t_21_floods_end_with_421() {
    play("flood");
    play("flood_unknown");
    play("flood_rcpt");
    play("flood_refused");
}

const ENVELOPE: &[u8] = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n";

/// A server that is ready for content, its replies so far thrown away.
fn with_envelope(options: &str, command: &[u8]) -> Server {
    let dialogue = Dialogue::parse(&format!("@ {options} auth\n"));
    let mut server = Server::new(dialogue.config(), false, true);
    server.receive(b"EHLO client.example\r\n");
    server.receive(ENVELOPE);
    server.receive(command);
    server.out.clear();
    server
}

#[test]
fn t_23_a_line_of_two_megabytes_in_a_message_is_content_like_any_other() {
    let mut server = with_envelope("max_size=3000000", b"DATA\r\n");
    for _ in 0..512 {
        server.receive(&[b'x'; 4096]);
        assert_eq!(server.session.buffered(), 0);
    }
    server.receive(b"\r\n.\r\n");
    assert_eq!(server.line().unwrap(), "250 2.0.0 OK 2097154");
}

#[test]
fn t_08_t_23_an_endless_command_is_not_kept() {
    let mut server = with_envelope("noprdr", b"");
    server.receive(b"RCPT TO:<");
    for _ in 0..500 {
        server.receive(&[b'x'; 4096]);
        assert!(server.session.buffered() < 12_288);
    }
    server.receive(b"@example.net>\r\nNOOP\r\n");
    assert_eq!(server.line().unwrap(), "500 5.5.2 Line too long");
    assert_eq!(server.line().unwrap(), "250 2.0.0 OK");
    server.receive(b"RCPT TO:<");
    for _ in 0..2000 {
        server.receive(&[b'x'; 4096]);
    }
    assert!(server.closed);
}

#[test]
fn t_08_lines_are_measured_alike_wherever_they_are_cut() {
    for (length, auth, fits) in [
        (2048, false, true),
        (2049, false, false),
        (12_288, true, true),
        (12_289, true, false),
    ] {
        let verb: &[u8] = if auth { b"AUTH PLAIN " } else { b"NOOP " };
        let mut line = verb.to_vec();
        line.resize(length - 2, b'!');
        line.extend_from_slice(b"\r\n");
        for piece in [1, 2, 1000, length - 1, length] {
            let mut server = Server::new(Dialogue::parse("@ auth\n").config(), false, true);
            server.receive(b"EHLO client.example\r\n");
            server.out.clear();
            line.chunks(piece).for_each(|part| server.receive(part));
            server.receive(b"NOOP\r\n");
            let reply = server.line().unwrap();
            assert_eq!(
                reply.starts_with("500 5.5.2 Line too long"),
                !fits,
                "{length} in {piece}: {reply}"
            );
            assert_eq!(
                server.line().unwrap(),
                "250 2.0.0 OK",
                "{length} in {piece}"
            );
        }
    }
}

#[test]
fn t_22_reading_stops_far_beyond_the_limit() {
    let mut server = with_envelope("max_size=100000", b"DATA\r\n");
    let mut sent = 0_usize;
    while !server.closed {
        server.receive(&[b'x'; 4096]);
        sent += 4096;
        assert!(server.content.len() <= 100_000 && sent < 2_000_000);
    }
    assert_eq!(server.line().unwrap(), "552 5.3.4 The message is too large");
    assert!(server.messages.is_empty());
}

#[test]
fn relay_15_content_beyond_the_limit_is_reported_and_not_kept() {
    let config = Dialogue::parse("@ max_size=10\n").config();
    let mut session = ServerSession::new(std::sync::Arc::new(config), false);
    let (mut out, mut content) = (Vec::new(), Vec::new());
    session.poll(b"HELO x\r\n", &mut out, &mut content);
    for command in ENVELOPE.split_inclusive(|&b| b == b'\n') {
        session.poll(command, &mut out, &mut content);
        session.answer(galerne_smtp::Reply::new(250, "OK"), &mut out);
    }
    assert_eq!(
        session.poll(b"DATA\r\n", &mut out, &mut content),
        (6, ServerEvent::NeedInput)
    );
    assert_eq!(session.phase(), Phase::Content);
    assert_eq!(
        session.poll(b"12345678901", &mut out, &mut content),
        (11, ServerEvent::Content)
    );
    let problem = Some(ContentProblem::TooLarge);
    let end = ServerEvent::EndOfData {
        problem,
        size: 13,
        has_bare: false,
    };
    assert_eq!(
        session.poll(b"\r\n.\r\nNOOP\r\n", &mut out, &mut content),
        (5, end)
    );
    assert_eq!(session.phase(), Phase::Answer);
    assert_eq!(content, b"1234567890");
    assert_eq!(
        session.poll(b"NOOP\r\n", &mut out, &mut content),
        (0, ServerEvent::NeedInput)
    );
}

#[test]
fn an_idle_session_is_small() {
    assert!(
        std::mem::size_of::<ServerSession>() <= 128,
        "{}",
        std::mem::size_of::<ServerSession>()
    );
}

const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\r\n.\r\n",
    b"\n.\n",
    b"EHLO x\r\n",
    b"MAIL FROM:<a@example.com>\r\n",
    b"RCPT TO:<b@example.net>\r\n",
    b"DATA\r\n",
    b"BDAT 5 LAST\r\n",
    b"BDAT 0\r\n",
    b"RSET\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH LOGIN\r\n",
    b" SMTPUTF8",
    b" ORCPT=utf-8;\\x{E9}+2B",
    b"\xc3\xa9",
    b"\"",
    b"@",
    b"[IPv6:",
    b"xn--",
    b"=+",
];

#[test]
fn t_09_sessions_hold_under_mutation() {
    let stored: Vec<Vec<u8>> = names()
        .iter()
        .map(|name| [&[0x20][..], &read(name).sent()].concat())
        .filter(|input| input.len() < 5000)
        .collect();
    stored.iter().for_each(|input| fuzz::server_session(input));
    let mut mutator = Mutator::new(9);
    for _ in 0..12_000 {
        fuzz::server_session(&mutator.mutate(&stored, &WORDS));
    }
}

#[test]
fn t_09_t_08_commands_hold_under_mutation() {
    let mut stored = Vec::new();
    for name in names() {
        let sent = read(&name).sent();
        stored.extend(
            sent.split_inclusive(|&b| b == b'\n')
                .take(50)
                .map(<[u8]>::to_vec),
        );
    }
    stored.push("é.x@bücher.example".as_bytes().to_vec());
    stored.push(b"\"a\\\"b\"@[IPv6:2001:db8::1]".to_vec());
    stored.iter().for_each(|input| fuzz::command(input));
    let mut mutator = Mutator::new(8);
    for _ in 0..60_000 {
        fuzz::command(&mutator.mutate(&stored, &WORDS));
    }
}

#[test]
fn t_09_proxy_headers_hold_under_mutation() {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let tail = b"\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\0\x19EHLO x\r\n";
    let stored = [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\nEHLO x\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 25\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        [&signature[..], tail].concat(),
        [&signature[..], b"\x20\0\0\0"].concat(),
        [&signature[..], b"\x21\x21\0\x24", &[7; 36]].concat(),
    ];
    let words: [&[u8]; 5] = [b" ", b"\r\n", b"PROXY ", b"\0\x0c", b"65535"];
    stored.iter().for_each(|input| fuzz::proxy(input));
    let mut mutator = Mutator::new(96);
    for _ in 0..100_000 {
        fuzz::proxy(&mutator.mutate(&stored, &words));
    }
}
