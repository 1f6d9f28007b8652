//! xtext (RFC 3461 §4) and the form of it that holds Unicode (RFC 6533 §3), for ENVID, ORCPT and
//! AUTH=.
//!
//! Values are decoded when they come in and encoded again when they go out (RET-30). Only printable
//! text is taken: what is decoded ends up in logs and in the header of notifications.

/// Decodes xtext; `None` if it is malformed, empty, or hides a control character.
pub fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'+' => decoded.push(hex(bytes.next()?)? << 4 | hex(bytes.next()?)?),
            b'=' => return None,
            b'!'..=b'~' => decoded.push(b),
            _ => return None,
        }
    }
    printable(String::from_utf8(decoded).ok()?)
}

/// Encodes as xtext; octets outside ASCII are written in hexadecimal too.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'+' | b'=' => push_hex(&mut encoded, b),
            b'!'..=b'~' => encoded.push(char::from(b)),
            _ => push_hex(&mut encoded, b),
        }
    }
    encoded
}

/// Decodes the address of an ORCPT of the type `utf-8`: UTF-8 as it is, `\x{HEX}` for the rest.
pub fn decode_unicode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let tail = match next {
            '\\' => {
                let (code, tail) = rest.strip_prefix("\\x{")?.split_once('}')?;
                let fits = (2..=6).contains(&code.len()) && code.bytes().all(|b| hex(b).is_some());
                let code = u32::from_str_radix(code, 16).ok().filter(|_| fits)?;
                decoded.push(char::from_u32(code)?);
                tail
            }
            '+' | '=' | ' ' => return None,
            c => {
                decoded.push(c);
                rest.get(c.len_utf8()..)?
            }
        };
        rest = tail;
    }
    printable(decoded)
}

/// Encodes the address of an ORCPT of the type `utf-8` in ASCII (`utf-8-addr-xtext`).
pub fn encode_unicode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '+' | '=' | '\\' => encoded.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
            '!'..='~' => encoded.push(c),
            _ => encoded.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    encoded
}

/// Decodes `type;address` of ORCPT.
pub fn decode_orcpt(value: &str) -> Option<(String, String)> {
    let (kind, address) = value.split_once(';')?;
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~.".contains(&b);
    if kind.is_empty() || !kind.bytes().all(atom) {
        return None;
    }
    let unicode = kind.eq_ignore_ascii_case("utf-8");
    let address = if unicode {
        decode_unicode(address)
    } else {
        decode(address)
    }?;
    Some((kind.to_owned(), address))
}

/// Encodes `type;address` for ORCPT.
pub fn encode_orcpt(kind: &str, address: &str) -> String {
    let unicode = kind.eq_ignore_ascii_case("utf-8");
    let address = if unicode {
        encode_unicode(address)
    } else {
        encode(address)
    };
    format!("{kind};{address}")
}

fn printable(text: String) -> Option<String> {
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

fn hex(b: u8) -> Option<u8> {
    char::from(b)
        .to_digit(16)
        .and_then(|n| u8::try_from(n).ok())
}

fn push_hex(encoded: &mut String, b: u8) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    encoded.push('+');
    for nibble in [b >> 4, b & 15] {
        encoded.push(DIGITS.get(usize::from(nibble)).copied().unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ret_30_xtext_is_decoded_and_encoded_again() {
        for (wire, plain) in [
            ("QQ314159", "QQ314159"),
            ("a+2Bb+3Dc+20d", "a+b=c d"),
            ("+C3+A9", "é"),
        ] {
            assert_eq!(decode(wire).as_deref(), Some(plain));
            assert_eq!(encode(plain), wire);
        }
    }

    #[test]
    fn ret_30_malformed_xtext_is_refused() {
        for wire in [
            "",
            "a=b",
            "a+",
            "a+4",
            "a+4G",
            "a b",
            "é",
            "a+0D+0ARCPT",
            "+00",
            "+C3",
            "+7F",
        ] {
            assert_eq!(decode(wire), None, "{wire}");
        }
    }

    #[test]
    fn ret_30_orcpt_is_type_and_address() {
        let (kind, address) = decode_orcpt("rfc822;Bob+2Bx@example.com").unwrap();
        assert_eq!(
            (kind.as_str(), address.as_str()),
            ("rfc822", "Bob+x@example.com")
        );
        assert_eq!(encode_orcpt(&kind, &address), "rfc822;Bob+2Bx@example.com");
        for wire in [
            "bob@example.com",
            ";bob@example.com",
            "rfc822;",
            "rf c;x",
            "rfc822;a+0Ab",
        ] {
            assert_eq!(decode_orcpt(wire), None, "{wire}");
        }
    }

    #[test]
    fn ret_30_an_internationalized_orcpt_keeps_its_characters() {
        let (kind, address) = decode_orcpt("utf-8;\\x{E9}t\\x{2B}\u{e9}@example.com").unwrap();
        assert_eq!(address, "ét+é@example.com");
        assert_eq!(
            encode_orcpt(&kind, &address),
            "utf-8;\\x{E9}t\\x{2B}\\x{E9}@example.com"
        );
        for wire in [
            "utf-8;a\\x{D800}",
            "utf-8;a\\x{41",
            "utf-8;a\\y",
            "utf-8;a\\x{+41}",
            "utf-8;\\x{0A}",
        ] {
            assert_eq!(decode_orcpt(wire), None, "{wire}");
        }
    }
}
