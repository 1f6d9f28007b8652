//! Making DKIM signatures (RFC 6376, RFC 8463): relaxed/relaxed, From oversigned (RELAY-51).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::canon::relaxed_field;
use crate::field::{Field, fields};
use crate::key::{KeyError, SigningKey};

/// Fields that are signed where they stand; those of RFC 6376 §5.4.1 and of List-Unsubscribe.
pub(crate) const SIGNED: [&str; 24] = [
    "From",
    "Sender",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "To",
    "Cc",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    "In-Reply-To",
    "References",
    "Resent-From",
    "Resent-To",
    "Resent-Date",
    "List-Id",
    "List-Help",
    "List-Post",
    "List-Owner",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

/// Most instances of one name that are signed.
const MOST_INSTANCES: usize = 50;
/// Length of lines of the field.
const LINE: usize = 76;
/// Room for the field without the signature itself: more than most need.
const FIELD: usize = 512;
/// Octets of a signature by RSA-2048.
const SIGNATURE: usize = 256;

/// One signature to make.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    pub key: &'a SigningKey,
    /// `d=`, in ASCII form.
    pub domain: &'a str,
    pub selector: &'a str,
    /// Local part of `i=`.
    pub identity: &'a str,
}

/// Signs a message and gives the fields to put in front of it, each with its CRLF, in the order
/// of `signatures`. `header`: all fields of the message as it leaves, up to the empty line.
/// `time`: seconds since 1970.
///
/// # Errors
/// A key cannot sign.
pub fn sign(
    header: &[u8],
    body_hash: &[u8; 32],
    signatures: &[Signature<'_>],
    time: u64,
) -> Result<Vec<u8>, KeyError> {
    let fields = fields(header);
    let (names, mut octets) = signed_fields(&fields);
    let signed = octets.len();
    let mut out = Vec::with_capacity(signatures.len() * (FIELD + 2 * SIGNATURE));
    for signature in signatures {
        let begin = out.len();
        put_field(signature, &names, body_hash, time, &mut out);
        octets.truncate(signed);
        relaxed_field(out.get(begin..).unwrap_or_default(), &mut octets);
        // The signature's own field comes last and without its line end.
        octets.truncate(octets.len().saturating_sub(2));
        let made = signature.key.sign(&octets)?;
        put_base64(&made, &mut out);
        out.extend_from_slice(b"\r\n");
    }
    Ok(out)
}

/// The names for `h=` and the canonical octets of the fields that they stand for: each instance,
/// the last first (RFC 6376 §5.4.2), and From once more than it is there, so that none can be
/// added.
fn signed_fields(fields: &[Field<'_>]) -> (Vec<&'static str>, Vec<u8>) {
    let mut names = Vec::with_capacity(SIGNED.len() + 1);
    let length: usize = fields.iter().map(|field| field.raw.len()).sum();
    let mut canonical = Vec::with_capacity(length + FIELD);
    for name in SIGNED {
        let instances = fields.iter().rev().filter(|field| field.is(name));
        for field in instances.take(MOST_INSTANCES) {
            names.push(name);
            relaxed_field(field.raw, &mut canonical);
        }
        if name == "From" {
            names.push(name);
        }
    }
    (names, canonical)
}

/// Appends the field up to and with `b=`.
fn put_field(
    signature: &Signature<'_>,
    names: &[&str],
    body_hash: &[u8; 32],
    time: u64,
    out: &mut Vec<u8>,
) {
    let Signature {
        key,
        domain,
        selector,
        identity,
    } = *signature;
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("DKIM-Signature: v=1; a=");
    put(key.algorithm().word());
    put("; c=relaxed/relaxed;\r\n\td=");
    put(domain);
    put("; s=");
    put(selector);
    put(";\r\n\ti=");
    put_quoted(identity, out);
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("@");
    put(domain);
    put("; t=");
    put(&time.to_string());
    put(";\r\n\th=");
    let mut column = 10;
    for (number, name) in names.iter().enumerate() {
        if number > 0 {
            put(":");
            column += 1;
            if column + name.len() > LINE {
                put("\r\n\t ");
                column = 9;
            }
        }
        put(name);
        column += name.len();
    }
    put(";\r\n\tbh=");
    put_base64(body_hash, out);
    out.extend_from_slice(b";\r\n\tb=");
}

/// Appends DKIM-quoted-printable (RFC 6376 §2.11).
fn put_quoted(text: &str, out: &mut Vec<u8>) {
    for octet in text.bytes() {
        match octet {
            0x21..=0x3a | b'<' | 0x3e..=0x7e => out.push(octet),
            other => out.extend_from_slice(format!("={other:02X}").as_bytes()),
        }
    }
}

/// Appends octets in Base64, in lines.
fn put_base64(octets: &[u8], out: &mut Vec<u8>) {
    let mut text = [0; 4 * SIGNATURE / 3 + 4];
    match STANDARD.encode_slice(octets, &mut text) {
        Ok(length) => fold(text.get(..length).unwrap_or_default(), out),
        // A longer key than most.
        Err(_) => fold(STANDARD.encode(octets).as_bytes(), out),
    }
}

/// Base64 in lines; white space is no part of the value.
pub(crate) fn fold(text: &[u8], out: &mut Vec<u8>) {
    for (number, line) in text.chunks(LINE - 6).enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\r\n\t ");
        }
        out.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::BodyHasher;
    use crate::key::{Algorithm, generate};
    use crate::verify::{Failed, Txt, dkim};

    fn key(algorithm: Algorithm) -> SigningKey {
        SigningKey::from_pem(generate(algorithm).unwrap().as_bytes()).unwrap()
    }

    fn hash(body: &[u8]) -> [u8; 32] {
        let mut hasher = BodyHasher::default();
        hasher.update(body);
        hasher.finish()
    }

    const HEADER: &[u8] = b"Received: from a\r\n\tby b\r\nFrom: Anna <a@example.com>\r\nTO: b@example.org\r\n\tc@example.org\r\nSubject: =?utf-8?q?x?=  y \r\nDate: today\r\nX-Other: 1\r\n";

    fn signed(keys: &[&SigningKey], header: &[u8], body: &[u8]) -> Vec<u8> {
        let signatures: Vec<_> = keys
            .iter()
            .map(|key| Signature {
                key,
                domain: "example.com",
                selector: "s1",
                identity: "post=master",
            })
            .collect();
        let mut message = sign(header, &hash(body), &signatures, 1_800_000_000).unwrap();
        message.extend_from_slice(header);
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(body);
        message
    }

    #[test]
    fn relay_51_the_field_says_what_was_asked() {
        let key = key(Algorithm::Ed25519Sha256);
        let message = signed(&[&key], HEADER, b"Hello\r\n");
        let text = String::from_utf8(message).unwrap();
        let expected = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n\td=example.com; s=s1;\r\n\ti=post=3Dmaster@example.com; t=1800000000;\r\n\th=From:From:Subject:Date:To;\r\n\tbh=";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
    }

    #[test]
    fn relay_51_what_is_signed_verifies_and_what_is_changed_does_not() {
        let keys = [key(Algorithm::RsaSha256), key(Algorithm::Ed25519Sha256)];
        for key in &keys {
            let record = key.record();
            let dns = |name: &str| match name {
                "s1._domainkey.example.com" => Txt::Found(vec![record.clone()]),
                _ => Txt::None,
            };
            let verify = |message: &[u8]| dkim(message, &dns);
            let message = signed(&[key], HEADER, b"Hello  world \r\n\r\n");
            assert_eq!(verify(&message), vec![Ok(())]);
            let text = String::from_utf8(message.clone()).unwrap();
            let same = text.replace("Hello  world \r\n", "Hello world\r\n");
            assert_eq!(verify(same.as_bytes()), vec![Ok(())]);
            let same = text.replace("TO: b@example.org\r\n\tc", "to:   b@example.org c");
            assert_eq!(verify(same.as_bytes()), vec![Ok(())]);
            for (from, to) in [("Hello", "Hallo"), ("Anna", "Emma"), ("today", "now")] {
                let other = text.replace(from, to);
                assert!(verify(other.as_bytes())[0].is_err(), "{from}");
            }
            // Oversigned: another From breaks it.
            let other = text.replace("X-Other: 1", "From: evil@example.net");
            assert_eq!(verify(other.as_bytes()), vec![Err(Failed::Signature)]);
        }
        let both = signed(&[&keys[0], &keys[1]], HEADER, b"");
        let dns = |_: &str| Txt::Found(vec![keys[0].record()]);
        assert_eq!(dkim(&both, &dns)[0], Ok(()));
        assert!(dkim(&both, &dns)[1].is_err(), "the other key's record");
    }

    #[test]
    fn relay_51_all_instances_are_signed_the_last_first() {
        let header = b"From: a@x\r\nSubject: one\r\nSubject: two\r\n";
        let (names, canonical) = signed_fields(&fields(header));
        assert_eq!(names, ["From", "From", "Subject", "Subject"]);
        assert_eq!(canonical, b"from:a@x\r\nsubject:two\r\nsubject:one\r\n");
    }
}
