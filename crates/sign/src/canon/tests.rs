//! Tests of the canonical forms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn hashed(form: Form, body: &[u8], piece: usize) -> String {
    let mut hasher = BodyHasher::new(form, None);
    for piece in body.chunks(piece.max(1)) {
        hasher.update(piece);
    }
    STANDARD.encode(hasher.finish())
}

/// The relaxed form of RFC 6376 §3.4.4, step by step over the whole body.
fn relaxed(body: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n");
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = &rest[end.map_or(rest.len(), |at| at + 2)..];
        let blank = |octet: &u8| *octet == b' ' || *octet == b'\t';
        let mut reduced: Vec<u8> = Vec::new();
        for octet in line {
            match blank(octet) {
                true if reduced.last() == Some(&b' ') => {}
                true => reduced.push(b' '),
                false => reduced.push(*octet),
            }
        }
        if reduced.last() == Some(&b' ') {
            reduced.pop();
        }
        lines.push(reduced);
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
        .into_iter()
        .flat_map(|line| [line, b"\r\n".to_vec()].concat())
        .collect()
}

#[test]
fn relay_51_trailing_white_space_is_no_part_of_a_relaxed_body() {
    for body in [
        "Hello\r\n  \r\n",
        "Hello\r\n",
        "Hello",
        "Hello \t\r\n\r\n \r\n",
    ] {
        let hash = hashed(Form::Relaxed, body.as_bytes(), 100);
        assert!(hash.starts_with("Ba3gj8+x"), "{body:?}");
    }
    for empty in ["", " \r\n", "\r\n\r\n", "\t"] {
        let hash = hashed(Form::Relaxed, empty.as_bytes(), 100);
        assert!(hash.starts_with("47DEQpj8"), "{empty:?}");
    }
}

#[test]
fn relay_51_the_hash_does_not_depend_on_the_pieces() {
    let mut body = Vec::new();
    for number in 0..2000u32 {
        let line: &[u8] = match number % 7 {
            0 => b"\r\n",
            1 => b"  two  blanks \t\r\n",
            2 => b"a\rb\nc\r\n",
            3 => b"\t tabs\tx\r\n",
            _ => b"ordinary text of a line\r\n",
        };
        body.extend_from_slice(line);
    }
    body.extend_from_slice(b"end \r\n\r\n \r");
    for form in [Form::Simple, Form::Relaxed] {
        let whole = hashed(form, &body, body.len());
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(hashed(form, &body, piece), whole, "{piece}");
        }
    }
    let expected = STANDARD.encode(sha256(&relaxed(&body)));
    assert_eq!(hashed(Form::Relaxed, &body, 100), expected);
}

#[test]
fn relay_51_the_example_of_rfc_6376() {
    let mut out = Vec::new();
    relaxed_field(b"A: X\r\n", &mut out);
    relaxed_field(b"B : Y\t\r\n\tZ  \r\n", &mut out);
    assert_eq!(out, b"a:X\r\nb:Y Z\r\n");
    let body = b" C \r\nD \t E\r\n\r\n\r\n";
    let of = |octets: &[u8]| STANDARD.encode(sha256(octets));
    assert_eq!(hashed(Form::Relaxed, body, 9), of(b" C\r\nD E\r\n"));
    assert_eq!(hashed(Form::Simple, body, 9), of(b" C \r\nD \t E\r\n"));
    assert_eq!(hashed(Form::Simple, b"", 9), of(b"\r\n"));
    let mut cut = BodyHasher::new(Form::Simple, Some(3));
    cut.update(body);
    assert_eq!(STANDARD.encode(cut.finish()), of(b" C "));
}

/// The simple form of RFC 6376 §3.4.3.
fn simple(body: &[u8]) -> Vec<u8> {
    let mut rest = body;
    while let Some(shorter) = rest.strip_suffix(b"\r\n") {
        rest = shorter;
    }
    [rest, b"\r\n"].concat()
}

/// xorshift64*.
fn chance(state: &mut u64, below: usize) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    usize::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % below
}

/// Octets of pieces in which something may go wrong.
fn octets(state: &mut u64, most: usize) -> Vec<u8> {
    const PIECES: [&[u8]; 12] = [
        b"x", b" ", b"\t", b"\r", b"\n", b"\r\n", b"  ", b" \r\n", b"\r\n\r\n", b"word and word",
        b"a line of text that is longer than what is collected before it is hashed. It has to be more than 256 octets, so it goes on and on, with one blank between two words and none at its end, and says nothing that was not said before, until somebody counts them all\r\n",
        b"\0\xff",
    ];
    // Some have few kinds of pieces, so that runs of them are long.
    let kinds = 1 + chance(state, PIECES.len());
    let first = chance(state, PIECES.len());
    let mut octets = Vec::new();
    for _ in 0..chance(state, most) {
        let piece = PIECES[(first + chance(state, kinds)) % PIECES.len()];
        octets.extend_from_slice(piece);
    }
    octets
}

#[test]
fn relay_51_the_hash_of_any_body_is_that_of_its_canonical_form_step_by_step() {
    let mut state = 51;
    for round in 0..20_000 {
        let body = octets(&mut state, 40);
        let form = [Form::Simple, Form::Relaxed][round % 2];
        let canonical = match form {
            Form::Simple => simple(&body),
            Form::Relaxed => relaxed(&body),
        };
        let limit = (chance(&mut state, 3) == 0).then(|| chance(&mut state, canonical.len() + 9));
        let mut hasher = BodyHasher::new(form, limit.map(|limit| limit as u64));
        let mut rest = &body[..];
        let most = 1 + chance(&mut state, 400);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + chance(&mut state, most)).min(rest.len()));
            hasher.update(piece);
            rest = behind;
        }
        let length = limit.map_or(canonical.len(), |limit| limit.min(canonical.len()));
        let expected = sha256(&canonical[..length]);
        let text = String::from_utf8_lossy(&body);
        assert!(hasher.finish() == expected, "{form:?} {limit:?} {text:?}");
    }
}

#[test]
fn relay_51_a_field_is_put_into_its_form_as_octet_by_octet() {
    let slowly = |field: &[u8]| {
        let colon = field.iter().position(|&octet| octet == b':');
        let (name, body) = field.split_at(colon.unwrap_or(field.len()));
        let mut form = name.trim_ascii().to_ascii_lowercase();
        form.push(b':');
        let (mut blank, mut begun) = (false, false);
        for &octet in body.get(1..).unwrap_or_default() {
            if is_white(octet) {
                blank = true;
                continue;
            }
            if blank && begun {
                form.push(b' ');
            }
            (blank, begun) = (false, true);
            form.push(octet);
        }
        form.extend_from_slice(b"\r\n");
        form
    };
    let mut state = 52;
    for round in 0..20_000 {
        let mut field = [&b""[..], b"Name: ", b" Na me :", b"\tX\t:\r\n "][round % 4].to_vec();
        field.extend(octets(&mut state, 20));
        let mut form = Vec::new();
        relaxed_field(&field, &mut form);
        assert!(
            form == slowly(&field),
            "{:?}",
            String::from_utf8_lossy(&field)
        );
    }
}

#[test]
fn t_23_a_body_of_oddities_costs_linear_time() {
    let began = std::time::Instant::now();
    for piece in [
        &b"  "[..],
        b"\t",
        b"x\t",
        b"x  ",
        b" \r",
        b" \r\n",
        b"\r\n",
        b"\n",
        b" x",
        b"x\t  \rx",
    ] {
        let mut body = piece.repeat((1 << 20) / piece.len());
        body.extend_from_slice(b"x");
        let mut hasher = BodyHasher::default();
        hasher.update(&body);
        hasher.finish();
    }
    // Quadratic, it would be minutes.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}
