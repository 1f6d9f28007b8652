//! ARC: what the chain of a message that came in is worth, and the set that we add (RFC 8617,
//! RELAY-52, RELAY-53).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::canon::{BodyHasher, relaxed_field};
use crate::dkim::SIGNED;
use crate::field::{Field, Instances, fields};
use crate::key::{Algorithm, KeyError, SigningKey};
use crate::tags::{Tags, is_white};
use crate::verify::{BASE64, Failed, Txt, check, forms, header_octets};

/// Most sets of a chain.
const MOST_SETS: u32 = 50;

/// What the chain of a message is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// There is none.
    None,
    Pass,
    Fail,
    /// A name server did not answer: nothing is known.
    TempFail,
}

impl Validity {
    /// As `cv=` and `arc=` say it.
    pub fn word(self) -> &'static str {
        match self {
            Validity::None => "none",
            Validity::Pass => "pass",
            Validity::Fail => "fail",
            Validity::TempFail => "temperror",
        }
    }
}

/// A chain and its worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pub validity: Validity,
    /// The highest instance number.
    pub sets: u32,
    /// The last seal already says that the chain is broken.
    pub is_closed: bool,
}

/// Gives a body in pieces, as often as it is asked.
pub type Body<'a> = dyn Fn(&mut dyn FnMut(&[u8])) + 'a;

/// One set of the chain.
struct Set<'a> {
    results: Field<'a>,
    message: Field<'a>,
    seal: Field<'a>,
}

/// The names of which the TXT records are needed to judge the chain; empty: there is no chain.
pub fn queries(header: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for field in fields(header) {
        if !field.is("ARC-Seal") && !field.is("ARC-Message-Signature") {
            continue;
        }
        let text = std::str::from_utf8(field.body).ok();
        let Some(tags) = text.and_then(Tags::parse) else {
            continue;
        };
        if let (Some(selector), Some(domain)) = (tags.get("s"), tags.get("d")) {
            let name = format!("{selector}._domainkey.{domain}");
            if !names.contains(&name) && names.len() < 2 * MOST_SETS as usize {
                names.push(name);
            }
        }
    }
    names
}

/// Judges the chain of a message as it came in (RFC 8617 §5.2).
pub fn judge(header: &[u8], body: &Body<'_>, dns: &dyn Fn(&str) -> Txt) -> Chain {
    let fields = fields(header);
    let highest = highest(&fields);
    let chain = |validity| Chain {
        validity,
        sets: highest.unwrap_or(0),
        is_closed: is_closed(&fields, highest.unwrap_or(0)),
    };
    let is_arc = |field: &Field<'_>| NAMES.iter().any(|name| field.is(name));
    if !fields.iter().any(is_arc) {
        return chain(Validity::None);
    }
    let Some(sets) = sets(&fields) else {
        return chain(Validity::Fail);
    };
    match validate(&fields, &sets, body, dns) {
        Ok(()) => chain(Validity::Pass),
        Err(Failed::TempFail) => chain(Validity::TempFail),
        Err(_) => chain(Validity::Fail),
    }
}

const NAMES: [&str; 3] = [
    "ARC-Authentication-Results",
    "ARC-Message-Signature",
    "ARC-Seal",
];

/// The instance number of a field of a set.
fn instance(field: &Field<'_>) -> Option<u32> {
    let text = std::str::from_utf8(field.body).ok()?;
    let value = if field.is("ARC-Authentication-Results") {
        let first = text.split(';').next()?;
        let (name, value) = first.split_once('=')?;
        (name.trim_matches(is_white) == "i").then(|| value.trim_matches(is_white))?
    } else {
        Tags::parse(text)?.get("i")?
    };
    let digits = (1..=2).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    let number: u32 = digits.then(|| value.parse().ok())??;
    (1..=MOST_SETS).contains(&number).then_some(number)
}

fn highest(fields: &[Field<'_>]) -> Option<u32> {
    let of_sets = fields
        .iter()
        .filter(|field| NAMES.iter().any(|name| field.is(name)));
    of_sets.filter_map(instance).max()
}

fn is_closed(fields: &[Field<'_>], highest: u32) -> bool {
    let mut seals = fields
        .iter()
        .filter(|field| field.is("ARC-Seal") && instance(field) == Some(highest));
    let last = seals
        .next()
        .and_then(|seal| std::str::from_utf8(seal.body).ok());
    last.and_then(Tags::parse)
        .and_then(|tags| tags.get("cv"))
        .is_some_and(|value| value.eq_ignore_ascii_case("fail"))
}

/// The sets from 1 on, each whole and none twice. `None`: they are not so.
fn sets<'a>(fields: &[Field<'a>]) -> Option<Vec<Set<'a>>> {
    let of = |name: &str| -> Option<Vec<(u32, Field<'a>)>> {
        let found = fields.iter().filter(|field| field.is(name));
        let mut found: Vec<(u32, Field<'a>)> = found
            .map(|field| Some((instance(field)?, *field)))
            .collect::<Option<_>>()?;
        found.sort_by_key(|(number, _)| *number);
        let numbers = found.iter().map(|(number, _)| *number);
        numbers
            .eq(1..=u32::try_from(found.len()).ok()?)
            .then_some(found)
    };
    let [results, message, seal] = NAMES;
    let (results, messages, seals) = (of(results)?, of(message)?, of(seal)?);
    if results.len() != seals.len() || messages.len() != seals.len() {
        return None;
    }
    let each = results.into_iter().zip(messages).zip(seals);
    let sets = each.map(|(((_, results), (_, message)), (_, seal))| Set {
        results,
        message,
        seal,
    });
    Some(sets.collect())
}

fn validate(
    fields: &[Field<'_>],
    sets: &[Set<'_>],
    body: &Body<'_>,
    dns: &dyn Fn(&str) -> Txt,
) -> Result<(), Failed> {
    let mut read = Vec::with_capacity(sets.len());
    for (place, set) in sets.iter().enumerate() {
        let text = std::str::from_utf8(set.seal.body).map_err(|_| Failed::Field)?;
        let tags = Tags::parse(text).ok_or(Failed::Field)?;
        let expected = if place == 0 { "none" } else { "pass" };
        // RFC 8617 §4.1.3: a seal has no h=, and says what the chain before it was worth.
        if tags.get("cv") != Some(expected) || tags.get("h").is_some() {
            return Err(Failed::Field);
        }
        check_message_form(&set.message)?;
        read.push(tags);
    }
    let last = sets.last().ok_or(Failed::Field)?;
    verify_message(fields, &last.message, body, dns)?;
    for place in (0..sets.len()).rev() {
        let Some(tags) = read.get(place) else {
            return Err(Failed::Field);
        };
        verify_seal(sets.get(..=place).unwrap_or_default(), tags, dns)?;
    }
    Ok(())
}

/// What an ARC-Message-Signature must have, and must not.
fn check_message_form(field: &Field<'_>) -> Result<(), Failed> {
    let text = std::str::from_utf8(field.body).map_err(|_| Failed::Field)?;
    let tags = Tags::parse(text).ok_or(Failed::Field)?;
    for name in ["a", "b", "bh", "d", "s"] {
        if tags.get(name).is_none_or(str::is_empty) {
            return Err(Failed::Field);
        }
    }
    // It may be empty: then the set alone is signed.
    if tags.get("h").is_none() {
        return Err(Failed::Field);
    }
    let mut names = tags.get("h").unwrap_or_default().split(':');
    let is_seal = |name: &str| name.trim_matches(is_white).eq_ignore_ascii_case("arc-seal");
    match names.any(is_seal) || tags.get("a") != Some("rsa-sha256") {
        true => Err(Failed::Field),
        false => Ok(()),
    }
}

fn verify_message(
    fields: &[Field<'_>],
    own: &Field<'_>,
    body: &Body<'_>,
    dns: &dyn Fn(&str) -> Txt,
) -> Result<(), Failed> {
    let text = std::str::from_utf8(own.body).map_err(|_| Failed::Field)?;
    let tags = Tags::parse(text).ok_or(Failed::Field)?;
    let get = |name| tags.get(name).ok_or(Failed::Field);
    // Deviation: without c= RFC 6376 says simple/simple; ARC as it is used takes relaxed/relaxed.
    let (header_form, body_form) =
        forms(Some(tags.get("c").unwrap_or("relaxed/relaxed"))).ok_or(Failed::Field)?;
    let limit = match tags.get("l") {
        Some(text) => Some(text.parse().map_err(|_| Failed::Field)?),
        None => None,
    };
    check_time(&tags)?;
    let decode = |name| {
        let text = tags.packed(name).ok_or(Failed::Field)?;
        BASE64.decode(text).map_err(|_| Failed::Field)
    };
    let mut hasher = BodyHasher::new(body_form, limit);
    body(&mut |piece| hasher.update(piece));
    if decode("bh")? != hasher.finish() {
        return Err(Failed::Body);
    }
    let octets = header_octets(fields, get("h")?, header_form, own);
    let signer = (get("d")?, get("s")?);
    check(&octets, &decode("b")?, get("a")?, signer, dns)
}

fn check_time(tags: &Tags<'_>) -> Result<(), Failed> {
    match tags.get("t").is_none_or(|text| text.parse::<u64>().is_ok()) {
        true => Ok(()),
        false => Err(Failed::Field),
    }
}

/// Verifies the seal of the last of these sets, which covers them all.
fn verify_seal(sets: &[Set<'_>], tags: &Tags<'_>, dns: &dyn Fn(&str) -> Txt) -> Result<(), Failed> {
    let get = |name| {
        tags.get(name)
            .filter(|text| !text.is_empty())
            .ok_or(Failed::Field)
    };
    if get("a")? != "rsa-sha256" {
        return Err(Failed::Field);
    }
    check_time(tags)?;
    let Some((last, earlier)) = sets.split_last() else {
        return Err(Failed::Field);
    };
    let mut octets = Vec::new();
    for set in earlier {
        for field in [&set.results, &set.message, &set.seal] {
            relaxed_field(field.raw, &mut octets);
        }
    }
    relaxed_field(last.results.raw, &mut octets);
    relaxed_field(last.message.raw, &mut octets);
    relaxed_field(&crate::tags::without_signature(last.seal.raw), &mut octets);
    octets.truncate(octets.len().saturating_sub(2));
    let signature = tags.packed("b").ok_or(Failed::Field)?;
    let signature = BASE64.decode(signature).map_err(|_| Failed::Field)?;
    check(
        &octets,
        &signature,
        "rsa-sha256",
        (get("d")?, get("s")?),
        dns,
    )
}

/// The set that we add.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    pub key: &'a SigningKey,
    /// `d=`, in ASCII form.
    pub domain: &'a str,
    pub selector: &'a str,
    /// Who judged: our own name.
    pub authserv_id: &'a str,
    /// What was found besides the chain: `; dkim=pass …`; usually empty.
    pub results: &'a str,
    /// Names for `h=`; `None`: the usual ones that are there.
    pub names: Option<&'a str>,
    /// Seconds since 1970.
    pub time: u64,
}

/// Whether a set is to be added to a chain: not where one says already that it is broken, and not
/// beyond 50 (RELAY-53).
pub fn may_extend(chain: &Chain) -> bool {
    !chain.is_closed && chain.sets < MOST_SETS && chain.validity != Validity::TempFail
}

/// Makes the three fields of the next set, to be put in front of the message: seal, message
/// signature, results. `header`: the message as it leaves, DKIM signatures included.
///
/// # Errors
/// The key cannot sign. RFC 8617 knows RSA alone.
pub fn seal(
    header: &[u8],
    body_hash: &[u8; 32],
    chain: &Chain,
    sealing: &Sealing<'_>,
) -> Result<Vec<u8>, KeyError> {
    if sealing.key.algorithm() != Algorithm::RsaSha256 {
        return Err(KeyError::Unsupported);
    }
    let fields = fields(header);
    let number = chain.sets + 1;
    let Sealing {
        domain,
        selector,
        time,
        ..
    } = *sealing;
    let results = format!(
        "ARC-Authentication-Results: i={number}; {}; arc={}{}\r\n",
        sealing.authserv_id,
        chain.validity.word(),
        sealing.results
    );
    let names = sealing.names.map_or_else(|| names(&fields), str::to_owned);
    let bh = STANDARD.encode(body_hash);
    // dkimpy looks for i= behind a blank, and breaks off where a tab stands there.
    let message = |b: &str| {
        format!(
            "ARC-Message-Signature: a=rsa-sha256;\r\n\tb={b};\r\n\tbh={bh}; c=relaxed/relaxed;\r\n\td={domain};\r\n\th={names};\r\n i={number}; s={selector}; t={time}\r\n"
        )
    };
    let unsigned = message("");
    let mut octets = Vec::new();
    let mut instances = Instances::new(fields.iter().copied());
    for name in names.split(':') {
        if let Some(field) = instances.take(name.trim_matches(is_white)) {
            relaxed_field(field.raw, &mut octets);
        }
    }
    relaxed_field(unsigned.as_bytes(), &mut octets);
    octets.truncate(octets.len().saturating_sub(2));
    let message = message(&STANDARD.encode(sealing.key.sign(&octets)?));
    let cv = chain.validity.word();
    let seal = |b: &str| {
        format!(
            "ARC-Seal: a=rsa-sha256;\r\n\tb={b};\r\n\tcv={cv}; d={domain}; i={number}; s={selector}; t={time}\r\n"
        )
    };
    let mut octets = Vec::new();
    // RFC 8617 §5.1.2: of a broken chain only the new set is sealed.
    if chain.validity == Validity::Pass {
        for set in sets(&fields).unwrap_or_default() {
            for field in [&set.results, &set.message, &set.seal] {
                relaxed_field(field.raw, &mut octets);
            }
        }
    }
    relaxed_field(results.as_bytes(), &mut octets);
    relaxed_field(message.as_bytes(), &mut octets);
    relaxed_field(seal("").as_bytes(), &mut octets);
    octets.truncate(octets.len().saturating_sub(2));
    let seal = seal(&STANDARD.encode(sealing.key.sign(&octets)?));
    Ok([seal, message, results].concat().into_bytes())
}

/// The usual names that are there, each as often as it is, and the DKIM signatures.
fn names(fields: &[Field<'_>]) -> String {
    let mut names = String::new();
    for name in SIGNED.into_iter().chain(["DKIM-Signature"]) {
        let count = fields.iter().filter(|field| field.is(name)).count();
        for _ in 0..count.min(50) {
            if !names.is_empty() {
                names.push(':');
            }
            names.push_str(&name.to_ascii_lowercase());
        }
    }
    // A line of a header has 998 octets at most.
    match names.len() > 900 {
        true => names.replace(':', ":\r\n\t "),
        false => names,
    }
}

#[cfg(test)]
mod tests;
