//! Verifying one signature over a message: what ARC needs, and a check of our own signatures.

use aws_lc_rs::signature::{
    ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::canon::{BodyHasher, Form, relaxed_field, sha256};
use crate::field::{Field, Instances, fields, split};
use crate::tags::{Tags, without_signature};

/// Base64 as mail has it: with or without its padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a name server says about the TXT records of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txt {
    /// Each record with its strings joined.
    Found(Vec<String>),
    None,
    /// It may answer later.
    TempFail,
}

/// Why a signature does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The field is not what the standard asks.
    Field,
    /// No usable key is published.
    Key,
    /// The name server does not answer.
    TempFail,
    /// The body was changed.
    Body,
    /// The header was changed, or the key is another.
    Signature,
}

/// `c=`: of the header and of the body; simple where nothing is said.
pub(crate) fn forms(value: Option<&str>) -> Option<(Form, Form)> {
    let form = |word: &str| match word.to_ascii_lowercase().as_str() {
        "simple" => Some(Form::Simple),
        "relaxed" => Some(Form::Relaxed),
        _ => None,
    };
    match value {
        None => Some((Form::Simple, Form::Simple)),
        Some(value) => match value.split_once('/') {
            Some((header, body)) => Some((form(header)?, form(body)?)),
            None => Some((form(value)?, Form::Simple)),
        },
    }
}

/// The canonical octets of the fields that `h=` names: each name takes the last instance that is
/// not taken yet; the field of the signature itself comes last, without its value and line end.
pub(crate) fn header_octets(
    fields: &[Field<'_>],
    names: &str,
    form: Form,
    own: &Field<'_>,
) -> Vec<u8> {
    let mut octets = Vec::new();
    let put = |raw: &[u8], octets: &mut Vec<u8>| match form {
        Form::Simple => octets.extend_from_slice(raw),
        Form::Relaxed => relaxed_field(raw, octets),
    };
    let others = fields
        .iter()
        .filter(|field| field.raw.as_ptr() != own.raw.as_ptr());
    let mut instances = Instances::new(others.copied());
    for name in names.split(':') {
        if let Some(field) = instances.take(name.trim_matches(crate::tags::is_white)) {
            put(field.raw, &mut octets);
        }
    }
    put(&without_signature(own.raw), &mut octets);
    while octets.ends_with(b"\r\n") {
        octets.truncate(octets.len() - 2);
    }
    octets
}

/// Verifies `signature` over canonical octets with the key that is published for the signer.
pub(crate) fn check(
    octets: &[u8],
    signature: &[u8],
    algorithm: &str,
    (domain, selector): (&str, &str),
    dns: &dyn Fn(&str) -> Txt,
) -> Result<(), Failed> {
    let records = match dns(&format!("{selector}._domainkey.{domain}")) {
        Txt::Found(records) => records,
        Txt::None => return Err(Failed::Key),
        Txt::TempFail => return Err(Failed::TempFail),
    };
    // RFC 6376 §3.6.2.2: with several records it is not said which one counts.
    let [record] = records.as_slice() else {
        return Err(Failed::Key);
    };
    let key = public_key(record, algorithm)?;
    let verified = match algorithm {
        "ed25519-sha256" => {
            UnparsedPublicKey::new(&ED25519, key).verify(&sha256(octets), signature)
        }
        _ => UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, key)
            .verify(octets, signature),
    };
    verified.map_err(|_| Failed::Signature)
}

/// The octets of the key that a record publishes for an algorithm.
fn public_key(record: &str, algorithm: &str) -> Result<Vec<u8>, Failed> {
    let tags = Tags::parse(record).ok_or(Failed::Key)?;
    let kind = tags.get("k").unwrap_or("rsa");
    let wanted = algorithm.split('-').next().unwrap_or_default();
    let hashes = tags.get("h").is_none_or(|list| {
        let mut words = list.split(':').map(str::trim);
        words.any(|word| word.eq_ignore_ascii_case("sha256"))
    });
    let usable = tags.get("v").is_none_or(|version| version == "DKIM1")
        && kind.eq_ignore_ascii_case(wanted)
        && hashes;
    // An empty key is a revoked one.
    let text = tags.packed("p").filter(|text| !text.is_empty());
    match text.filter(|_| usable) {
        Some(text) => BASE64.decode(text).map_err(|_| Failed::Key),
        None => Err(Failed::Key),
    }
}

/// Verifies all DKIM signatures of a message held in memory, in the order in which they stand.
pub fn dkim(message: &[u8], dns: &dyn Fn(&str) -> Txt) -> Vec<Result<(), Failed>> {
    let (header, body) = split(message);
    let fields = fields(header);
    let signatures = fields.iter().filter(|field| field.is("DKIM-Signature"));
    signatures
        .map(|field| one(&fields, field, body, dns))
        .collect()
}

fn one(
    fields: &[Field<'_>],
    own: &Field<'_>,
    body: &[u8],
    dns: &dyn Fn(&str) -> Txt,
) -> Result<(), Failed> {
    let text = std::str::from_utf8(own.body).map_err(|_| Failed::Field)?;
    let tags = Tags::parse(text).ok_or(Failed::Field)?;
    let get = |name| tags.get(name).ok_or(Failed::Field);
    let algorithm = get("a")?;
    if get("v")? != "1" || !["rsa-sha256", "ed25519-sha256"].contains(&algorithm) {
        return Err(Failed::Field);
    }
    let (header_form, body_form) = forms(tags.get("c")).ok_or(Failed::Field)?;
    let limit = match tags.get("l") {
        Some(text) => Some(text.parse().map_err(|_| Failed::Field)?),
        None => None,
    };
    let decode = |name| {
        let text = tags.packed(name).ok_or(Failed::Field)?;
        BASE64.decode(text).map_err(|_| Failed::Field)
    };
    let mut hasher = BodyHasher::new(body_form, limit);
    hasher.update(body);
    if decode("bh")? != hasher.finish() {
        return Err(Failed::Body);
    }
    let octets = header_octets(fields, get("h")?, header_form, own);
    check(
        &octets,
        &decode("b")?,
        algorithm,
        (get("d")?, get("s")?),
        dns,
    )
}
