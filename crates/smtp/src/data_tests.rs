//! Tests of the data codec: its rules one by one, then against a plain model of them.

use proptest::prelude::*;

use super::*;

/// Decodes in one piece: content, consumed, end, and the decoder.
fn decode(policy: BareLfPolicy, wire: &[u8]) -> (Vec<u8>, usize, bool, Decoder) {
    let (mut decoder, mut out) = (Decoder::new(policy), Vec::new());
    let (used, end) = decoder.decode(wire, &mut out, u64::MAX);
    (out, used, end, decoder)
}

fn encode(content: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.encode(content, &mut out);
    encoder.finish(&mut out);
    out
}

/// The rules in the slowest possible way: one octet after the other, the whole wire at hand.
fn model(policy: BareLfPolicy, wire: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut out, mut i, mut line_start) = (Vec::new(), 0, true);
    while i < wire.len() {
        let rest = &wire[i..];
        if line_start && rest.starts_with(b".\r\n") {
            return (out, i + 3, true);
        }
        if line_start && rest[0] == b'.' && rest.len() > 1 && !matches!(rest[1], b'\r' | b'\n') {
            i += 1;
        }
        line_start = false;
        let rest = &wire[i..];
        match rest[0] {
            b'\r' if rest.get(1) == Some(&b'\n') => {
                out.extend_from_slice(b"\r\n");
                (i, line_start) = (i + 1, true);
            }
            b'\r' | b'\n' if policy == BareLfPolicy::Normalise => out.extend_from_slice(b"\r\n"),
            octet => out.push(octet),
        }
        i += 1;
    }
    (out, wire.len(), false)
}

/// Content with every line end, of whatever kind, made CRLF, and one at the end.
fn lines_of(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, &octet) in content.iter().enumerate() {
        match octet {
            b'\r' => out.extend_from_slice(b"\r\n"),
            b'\n' if i > 0 && content[i - 1] == b'\r' => {}
            b'\n' => out.extend_from_slice(b"\r\n"),
            _ => out.push(octet),
        }
    }
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

const SMUGGLERS: [&[u8]; 12] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r.\r\n",
    b"\n\n.\n\n",
];

#[test]
fn t_01_relay_18_only_crlf_dot_crlf_ends_the_data() {
    for policy in [
        BareLfPolicy::Reject,
        BareLfPolicy::Normalise,
        BareLfPolicy::Pass,
    ] {
        for smuggler in SMUGGLERS {
            let first = [
                b"Subject: x\r\n\r\nbody",
                smuggler,
                b"MAIL FROM:<evil@x.example>\r\n",
            ]
            .concat();
            let wire = [&first, b".\r\nQUIT\r\n".as_slice()].concat();
            for cut in 0..=wire.len() {
                let (mut decoder, mut out) = (Decoder::new(policy), Vec::new());
                let (head, tail) = wire.split_at(cut);
                let (mut used, mut end) = decoder.decode(head, &mut out, u64::MAX);
                if !end {
                    let (more, ended) = decoder.decode(tail, &mut out, u64::MAX);
                    (used, end) = (used + more, ended);
                }
                assert!(end && decoder.has_ended(), "{smuggler:?} cut at {cut}");
                assert_eq!(
                    used,
                    first.len() + 3,
                    "{smuggler:?} cut at {cut}: ended early"
                );
                assert!(
                    decoder.has_bare() || decoder.has_nul(),
                    "{smuggler:?} cut at {cut}: not noticed"
                );
                assert!(out.windows(4).any(|w| w == b"MAIL"));
            }
        }
    }
}

#[test]
fn t_01_a_dot_right_at_the_start_is_an_empty_message() {
    let (out, used, end, decoder) = decode(BareLfPolicy::Reject, b".\r\nQUIT\r\n");
    assert_eq!(
        (out.as_slice(), used, end, decoder.size()),
        (b"".as_slice(), 3, true, 0)
    );
    let (.., end, _) = decode(BareLfPolicy::Normalise, b".\nQUIT\r\n");
    assert!(!end);
}

#[test]
fn t_01_says_which_octet_stood_alone() {
    let noticed = |wire: &[u8]| {
        let (.., decoder) = decode(BareLfPolicy::Reject, wire);
        (
            decoder.has_bare_cr(),
            decoder.has_bare_lf(),
            decoder.has_nul(),
        )
    };
    assert_eq!(noticed(b"a\r\nb\r\n.\r\n"), (false, false, false));
    assert_eq!(noticed(b"a\rb\r\n.\r\n"), (true, false, false));
    assert_eq!(noticed(b"a\nb\r\n.\r\n"), (false, true, false));
    assert_eq!(noticed(b"a\0b\r\n.\r\n"), (false, false, true));
    assert_eq!(noticed(b"a\r\r\n.\r\n"), (true, false, false));
    assert_eq!(noticed(b"a\n\r\n.\r\n"), (false, true, false));
    assert_eq!(noticed(b"a\r\n.\rb\r\n.\r\n"), (true, false, false));
    assert_eq!(noticed(b"a\r\n.\nb\r\n.\r\n"), (false, true, false));
}

#[test]
fn relay_18_normalise_makes_crlf_of_what_stands_alone_and_keeps_the_dot() {
    let normalised = |wire: &[u8]| decode(BareLfPolicy::Normalise, wire).0;
    assert_eq!(normalised(b"a\nb\rc\r\n.\r\n"), b"a\r\nb\r\nc\r\n");
    assert_eq!(normalised(b"a\n.\nb\r\n.\r\n"), b"a\r\n.\r\nb\r\n");
    assert_eq!(normalised(b"a\n.\r\nb\r\n.\r\n"), b"a\r\n.\r\nb\r\n");
    assert_eq!(normalised(b"a\r.\rb\r\n.\r\n"), b"a\r\n.\r\nb\r\n");
    assert_eq!(normalised(b"a\r\n.\nb\r\n.\r\n"), b"a\r\n.\r\nb\r\n");
    assert_eq!(normalised(b"a\r\n.\rb\r\n.\r\n"), b"a\r\n.\r\nb\r\n");
    assert_eq!(normalised(b"a\n\n\r\n.\r\n"), b"a\r\n\r\n\r\n");
    // And what was kept is stuffed when it is sent.
    assert_eq!(encode(b"a\r\n.\r\nb\r\n"), b"a\r\n..\r\nb\r\n.\r\n");
}

#[test]
fn relay_18_pass_keeps_every_octet() {
    let (out, ..) = decode(BareLfPolicy::Pass, b"a\nb\rc\0\n.\nd\r\r\n..e\r\n.\r\n");
    assert_eq!(out, b"a\nb\rc\0\n.\nd\r\r\n.e\r\n");
}

#[test]
fn relay_15_content_beyond_the_room_is_counted_and_dropped() {
    let wire = [&b"0123456789\r\n".repeat(1000), b".\r\n".as_slice()].concat();
    for room in [0u64, 1, 11, 12, 13, 5000, 12_000, 20_000] {
        let (mut decoder, mut out, mut end) =
            (Decoder::new(BareLfPolicy::Reject), Vec::new(), false);
        for piece in wire.chunks(977) {
            let left = room - out.len() as u64;
            end = decoder.decode(piece, &mut out, left).1;
        }
        assert!(end);
        assert_eq!(decoder.size(), 12_000);
        assert_eq!(out.len() as u64, room.min(12_000));
        assert!(out.capacity() <= 2 * out.len() + 64);
    }
}

#[test]
fn t_02_no_bare_line_end_leaves_and_every_dot_at_a_line_start_is_stuffed() {
    for smuggler in SMUGGLERS {
        let content = [b"a", smuggler, b"MAIL FROM:<evil@x.example>\r\n"].concat();
        let wire = encode(&content);
        let (body, end) = wire.split_at(wire.len() - 3);
        assert_eq!(end, b".\r\n");
        // The most lenient receiver: CR, LF and CRLF all end a line.
        let text = String::from_utf8(body.to_vec()).unwrap();
        let lines: Vec<&str> = text.split(['\r', '\n']).collect();
        assert!(!lines.contains(&"."), "{smuggler:?} sent as {text:?}");
        let (.., decoder) = decode(BareLfPolicy::Reject, &wire);
        assert!(!decoder.has_bare() && decoder.has_ended());
    }
}

#[test]
fn relay_27_adds_a_line_end_only_where_none_is() {
    assert_eq!(encode(b""), b".\r\n");
    assert_eq!(encode(b"a"), b"a\r\n.\r\n");
    assert_eq!(encode(b"a\r\n"), b"a\r\n.\r\n");
    assert_eq!(encode(b"a\r"), b"a\r\n.\r\n");
    assert_eq!(encode(b"a\n"), b"a\r\n.\r\n");
    assert_eq!(encode(b"."), b"..\r\n.\r\n");
    assert_eq!(encode(b".\r\n.."), b"..\r\n...\r\n.\r\n");
}

#[test]
fn the_encoder_is_ready_for_the_next_message() {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    for _ in 0..2 {
        encoder.encode(b".a\r", &mut out);
        encoder.finish(&mut out);
    }
    assert_eq!(out, b"..a\r\n.\r\n..a\r\n.\r\n");
}

#[test]
fn after_the_end_nothing_is_taken() {
    let (_, _, _, mut decoder) = decode(BareLfPolicy::Reject, b"a\r\n.\r\n");
    let mut out = Vec::new();
    assert_eq!(decoder.decode(b"more\r\n", &mut out, u64::MAX), (0, true));
    assert!(out.is_empty());
}

/// Octets out of which all that matters is made.
fn rough() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\n".to_vec()),
        Just(b".".to_vec()),
        Just(b"\0".to_vec()),
        Just(b"\r\n.".to_vec()),
        Just(b"a".to_vec()),
        Just(b"text of some length\xe9".to_vec()),
    ];
    prop::collection::vec(octet, 0..40).prop_map(|pieces| pieces.concat())
}

/// Content of true lines: no CR or LF alone, CRLF at the end.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just(b".".to_vec()),
        Just(b"..".to_vec()),
        Just(Vec::new()),
        Just(b".a".to_vec()),
        prop::collection::vec(
            any::<u8>().prop_filter("no line end", |b| !matches!(b, b'\r' | b'\n')),
            0..90
        ),
    ];
    prop::collection::vec(line, 0..30).prop_map(|lines| {
        lines
            .into_iter()
            .flat_map(|mut line| {
                line.extend_from_slice(b"\r\n");
                line
            })
            .collect()
    })
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..12, 1..20)
}

/// Splits at lengths taken from `cuts` in turn.
fn cut<'a>(mut octets: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    cuts.iter().cycle().map_while(move |&n| {
        if octets.is_empty() || (n == 0 && cuts.iter().all(|n| *n == 0)) {
            return (!octets.is_empty()).then(|| std::mem::take(&mut octets));
        }
        let (piece, rest) = octets.split_at(n.min(octets.len()));
        octets = rest;
        Some(piece)
    })
}

proptest! {
    #[test]
    fn relay_27_decoding_undoes_encoding_at_any_cut(content in lines(), sent in cuts(), got in cuts()) {
        let (mut encoder, mut wire) = (Encoder::new(), Vec::new());
        for piece in cut(&content, &sent) {
            encoder.encode(piece, &mut wire);
        }
        encoder.finish(&mut wire);
        wire.extend_from_slice(b"QUIT\r\n");
        let (mut decoder, mut out, mut used, mut end) = (Decoder::new(BareLfPolicy::Reject), Vec::new(), 0, false);
        for piece in cut(&wire, &got) {
            let (n, ended) = decoder.decode(piece, &mut out, u64::MAX);
            (used, end) = (used + n, ended);
            if end { break }
        }
        prop_assert!(end);
        prop_assert_eq!(used, wire.len() - 6);
        prop_assert_eq!(&out, &content);
        prop_assert_eq!(decoder.size(), content.len() as u64);
        prop_assert!(!decoder.has_bare());
        prop_assert_eq!(decoder.has_nul(), content.contains(&0));
    }

    #[test]
    fn t_01_the_decoder_does_what_the_model_does(wire in rough(), got in cuts()) {
        for policy in [BareLfPolicy::Reject, BareLfPolicy::Normalise, BareLfPolicy::Pass] {
            // An end, so that nothing is held back.
            let wire = [&wire, b"z\r\n.\r\nnext".as_slice()].concat();
            let (expected, expected_used, expected_end) = model(policy, &wire);
            let (mut decoder, mut out, mut used, mut end) = (Decoder::new(policy), Vec::new(), 0, false);
            for piece in cut(&wire, &got) {
                let (n, ended) = decoder.decode(piece, &mut out, u64::MAX);
                (used, end) = (used + n, ended);
                if end { break }
            }
            prop_assert!(end && expected_end);
            prop_assert_eq!(used, expected_used);
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn t_02_the_encoder_gives_the_same_at_any_cut(content in rough(), sent in cuts()) {
        let (mut encoder, mut wire) = (Encoder::new(), Vec::new());
        for piece in cut(&content, &sent) {
            encoder.encode(piece, &mut wire);
        }
        encoder.finish(&mut wire);
        prop_assert_eq!(&wire, &encode(&content));
        let (out, used, end, decoder) = decode(BareLfPolicy::Reject, &wire);
        prop_assert!(end && used == wire.len() && !decoder.has_bare());
        // Unchanged but for the line ends: those that stood alone, and the missing last one.
        prop_assert_eq!(out, lines_of(&content));
    }
}
