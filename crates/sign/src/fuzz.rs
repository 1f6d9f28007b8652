//! Fuzz targets: plain functions over arbitrary octets that must neither panic nor hang.

use crate::arc;
use crate::canon::BodyHasher;
use crate::dkim;
use crate::field::split;
use crate::verify::Txt;

/// Judges a message of any octets as one that came in, and verifies what claims to be signed.
pub fn message(data: &[u8]) {
    let (header, body) = split(data);
    let record = "v=DKIM1; k=rsa; p=AAAA".to_owned();
    let dns = |name: &str| match name.len() % 3 {
        0 => Txt::None,
        1 => Txt::TempFail,
        _ => Txt::Found(vec![record.clone()]),
    };
    let chain = arc::judge(header, &|take| take(body), &dns);
    assert!(chain.sets <= 50);
    let _ = arc::queries(header);
    let _ = crate::verify::dkim(data, &dns);
    let mut hasher = BodyHasher::default();
    hasher.update(body);
    let signed = dkim::sign(header, &hasher.finish(), &[], 0);
    assert!(signed.is_ok_and(|fields| fields.is_empty()));
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::canon::sha256;

    /// xorshift64*.
    fn chance(state: &mut u64) -> usize {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap()
    }

    #[test]
    fn t_09_headers_with_signatures_hold_for_stored_and_mutated_inputs() {
        let seed: &[u8] = b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=x.example; s=s; b=AAAA\r\nARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=x.example; s=s; h=from:to; bh=AAAA; b=AAAA\r\nARC-Authentication-Results: i=1; x; arc=none\r\nDKIM-Signature: v=1; a=rsa-sha256; d=x.example; s=s; h=from; bh=AAAA; b=AAAA; l=3\r\nFrom: a@x.example\r\n\r\nbody \r\n";
        message(seed);
        message(b"");
        let mut state = 7;
        for _ in 0..20_000 {
            let mut data = seed.to_vec();
            for _ in 0..1 + chance(&mut state) % 6 {
                let at = chance(&mut state) % data.len();
                match chance(&mut state) % 4 {
                    0 => data[at] = u8::try_from(chance(&mut state) % 256).unwrap(),
                    1 => {
                        data.remove(at);
                    }
                    2 => data.insert(at, b";=:\r\n i0\xff"[chance(&mut state) % 9]),
                    _ => {
                        let end = (at + chance(&mut state) % 60).min(data.len());
                        let piece = data[at..end].to_vec();
                        data.splice(at..at, piece);
                    }
                }
                if data.is_empty() {
                    data.push(b'x');
                }
            }
            message(&data);
        }
    }

    #[test]
    fn t_23_a_header_without_bound_costs_linear_time() {
        let mut header = Vec::new();
        for number in 0..20_000 {
            header.extend_from_slice(format!("From: a{number}@x\r\n").as_bytes());
        }
        header
            .extend_from_slice(format!("DKIM-Signature: {}\r\n", "a;".repeat(100_000)).as_bytes());
        message(&header);
    }

    #[test]
    fn t_23_a_chain_that_names_many_fields_or_tags_costs_linear_time() {
        let bh = STANDARD.encode(sha256(b""));
        let names = "x:".repeat(64 * 1024);
        let mut header = format!(
            "ARC-Seal: i=1; a=rsa-sha256; cv=none; d=x.example; s=s; b=AAAA\r\nARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=x.example; s=s; h={names}x; bh={bh}; b=AAAA\r\nARC-Authentication-Results: i=1; x; arc=none\r\n"
        );
        header.push_str(&"y:\r\n".repeat(32 * 1024));
        let began = Instant::now();
        message(header.as_bytes());
        let tags: String = (0..32 * 1024)
            .map(|number| format!("a{number}=;"))
            .collect();
        message(format!("ARC-Seal: i=1; {tags}\r\n").as_bytes());
        // Quadratic, it was four minutes in a build without optimisation.
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }
}
