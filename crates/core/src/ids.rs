//! Ids: a message id is a ULID in its text form; where a number is needed, it is that number.

/// The 128 bits of a ULID, or, for any other text, a number made from its octets (FNV-1a).
pub fn number(id: &str) -> u128 {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |b: u8| ALPHABET.iter().position(|&a| a == b.to_ascii_uppercase());
    let ulid = id.len() == 26 && id.bytes().all(|b| digit(b).is_some());
    if ulid {
        return id
            .bytes()
            .fold(0u128, |n, b| (n << 5) | digit(b).unwrap_or(0) as u128);
    }
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    const BASIS: u128 = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D;
    id.bytes()
        .fold(BASIS, |n, b| (n ^ u128::from(b)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ret_13_a_ulid_is_its_number_and_other_ids_differ() {
        assert_eq!(number("00000000000000000000000001"), 1);
        assert_eq!(number("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), u128::MAX);
        assert_ne!(number("a-1"), number("a-2"));
    }
}
