//! Return addresses that name a message and a recipient without disclosing either (RET-13):
//! `b-<job>-<recipient>-<tag>@<domain>`. Numbers are written in Crockford's base32, lower case;
//! the tag proves that we made the address, so that a forged bounce fills no list.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Crockford's alphabet, lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Length of the tag: 50 bits.
const TAG: usize = 10;

/// Builds `b-<job base32>-<recipient base32>-<tag>@<domain>`.
///
/// `job` may be a ULID; the local part has at most 53 octets. `secret` is kept in `system/`.
pub fn address(job: u128, recipient: u64, domain: &str, secret: &[u8]) -> String {
    let (job, recipient) = (base32(job), base32(recipient.into()));
    let tag = tag(&job, &recipient, domain, secret);
    format!("b-{job}-{recipient}-{tag}@{domain}")
}

/// Reads the job and the recipient back. `None`: not of this form, or the tag is not ours.
pub fn read(local: &str, domain: &str, secret: &[u8]) -> Option<(u128, u64)> {
    if local.len() > 64 {
        return None;
    }
    let local = local.to_ascii_lowercase();
    let mut parts = local.strip_prefix("b-")?.split('-');
    let (job, recipient, given) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !equal(given, &tag(job, recipient, domain, secret)) {
        return None;
    }
    Some((number(job)?, u64::try_from(number(recipient)?).ok()?))
}

fn tag(job: &str, recipient: &str, domain: &str, secret: &[u8]) -> String {
    // HMAC takes a key of any length, so that this cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    let domain = domain.to_ascii_lowercase();
    mac.update(format!("{job}-{recipient}@{domain}").as_bytes());
    let digest = mac.finalize().into_bytes();
    let bits = digest
        .iter()
        .take(8)
        .fold(0_u64, |bits, &b| bits << 8 | u64::from(b));
    (0..TAG).map(|n| digit(bits >> (59 - 5 * n))).collect()
}

fn base32(mut number: u128) -> String {
    let mut digits = Vec::with_capacity(26);
    loop {
        digits.push(digit(number as u64));
        number >>= 5;
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}

fn digit(bits: u64) -> char {
    ALPHABET
        .get((bits & 31) as usize)
        .map_or('0', |&b| char::from(b))
}

fn number(digits: &str) -> Option<u128> {
    if digits.is_empty() {
        return None;
    }
    digits.bytes().try_fold(0_u128, |number, b| {
        let value = ALPHABET.iter().position(|&d| d == b)?;
        number.checked_mul(32)?.checked_add(value as u128)
    })
}

/// Compares without telling by its time where the difference is.
fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"an example secret";

    #[test]
    fn ret_13_the_form_is_fixed_and_fits_64_octets() {
        let text = address(u128::MAX, u64::MAX, "news.example.com", SECRET);
        let (local, domain) = text.split_once('@').unwrap();
        assert_eq!(domain, "news.example.com");
        assert_eq!(local.len(), 53);
        let parts: Vec<_> = local.split('-').collect();
        assert_eq!(
            parts[..3],
            ["b", "7zzzzzzzzzzzzzzzzzzzzzzzzz", "fzzzzzzzzzzzz"]
        );
        assert_eq!(parts[3].len(), 10);
        assert!(local.bytes().all(|b| b == b'-' || ALPHABET.contains(&b)));
        assert!(address(0, 32, "x", SECRET).starts_with("b-0-10-"));
    }

    #[test]
    fn ret_13_the_tag_is_the_head_of_the_hmac() {
        // HMAC-SHA256(key = "an example secret", "1-2@example.com"), computed elsewhere:
        // 8cbde414181eac75…
        assert_eq!(
            address(1, 2, "Example.COM", SECRET),
            "b-1-2-hjyy850r3t@Example.COM"
        );
    }

    #[test]
    fn ret_13_job_recipient_domain_and_secret_all_count() {
        let tag = |j, r, d, s: &[u8]| {
            address(j, r, d, s)
                .split(['-', '@'])
                .nth(3)
                .unwrap()
                .to_owned()
        };
        let tags = [
            tag(1, 2, "a.example", SECRET),
            tag(2, 2, "a.example", SECRET),
            tag(1, 3, "a.example", SECRET),
            tag(1, 2, "b.example", SECRET),
            tag(1, 2, "a.example", b"other"),
        ];
        for (n, one) in tags.iter().enumerate() {
            assert!(!tags[..n].contains(one));
        }
    }

    #[test]
    fn ret_13_an_address_is_read_back_without_regard_to_case() {
        let text = address(987_654_321, 42, "a.example", SECRET);
        let local = text.split('@').next().unwrap();
        assert_eq!(read(local, "a.example", SECRET), Some((987_654_321, 42)));
        assert_eq!(
            read(&local.to_uppercase(), "A.Example", SECRET),
            Some((987_654_321, 42))
        );
        assert_eq!(read(local, "b.example", SECRET), None);
        assert_eq!(read(local, "a.example", b"other"), None);
        assert_eq!(read(&format!("{local}-x"), "a.example", SECRET), None);
        for wrong in ["", "b-", "b-1-2", "b-1-2-0000000000", "x-1-2-0000000000"] {
            assert_eq!(read(wrong, "a.example", SECRET), None, "{wrong}");
        }
    }
}
