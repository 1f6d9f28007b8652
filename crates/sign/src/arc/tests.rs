//! The test vectors of ValiMail, and chains of our own.

use serde_json::Value;

use super::*;
use crate::dkim::{Signature, sign};
use crate::field::split;
use crate::key::generate;

fn scenarios(file: &str) -> Vec<Value> {
    let path = format!(
        "{}/../../tests/corpus/arc/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn crlf(text: &str) -> Vec<u8> {
    text.replace("\r\n", "\n")
        .replace('\n', "\r\n")
        .into_bytes()
}

/// The records of a scenario.
fn dns(scenario: &Value) -> impl Fn(&str) -> Txt + '_ {
    let records = scenario["txt-records"].as_object();
    move |name: &str| match records.and_then(|records| records.get(name)) {
        Some(Value::String(text)) => Txt::Found(vec![text.replace('\n', "")]),
        _ => Txt::None,
    }
}

fn judged(message: &[u8], dns: &dyn Fn(&str) -> Txt) -> Chain {
    let (header, body) = split(message);
    judge(header, &|take| take(body), dns)
}

#[test]
fn relay_52_relay_53_the_chains_of_the_test_suite_are_worth_what_they_must() {
    let (mut count, mut wrong) = (0, Vec::new());
    for scenario in scenarios("validate.json") {
        let dns = dns(&scenario);
        for (name, test) in scenario["tests"].as_object().unwrap() {
            let message = crlf(test["message"].as_str().unwrap());
            let expected = match test["cv"].as_str().unwrap().to_lowercase().as_str() {
                "pass" => Validity::Pass,
                "fail" => Validity::Fail,
                "none" => Validity::None,
                // The suite leaves these open: their last seal says itself that the chain is broken.
                "" => Validity::Fail,
                other => panic!("{name}: {other}"),
            };
            count += 1;
            let found = judged(&message, &dns).validity;
            if found != expected {
                let description = test["description"].as_str().unwrap_or_default();
                wrong.push(format!(
                    "{name}: {found:?}, not {expected:?} ({description})"
                ));
            }
        }
    }
    assert!(count > 170, "{count}");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn relay_53_the_sets_of_the_test_suite_are_made_as_they_must() {
    let mut wrong = Vec::new();
    for scenario in scenarios("sign.json") {
        let dns = dns(&scenario);
        let pem = scenario["privatekey"].as_str().unwrap();
        let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
        for (name, test) in scenario["tests"].as_object().unwrap() {
            let message = crlf(test["message"].as_str().unwrap());
            let expected = |part: &str| tag_set(test[part].as_str().unwrap_or_default());
            let found = sealed(test, &message, &dns, &key, &scenario);
            let parts = [
                "ARC-Authentication-Results",
                "ARC-Message-Signature",
                "ARC-Seal",
            ];
            for (part, field) in ["AAR", "AMS", "AS"].into_iter().zip(parts) {
                let made = found.as_ref().map(|text| {
                    let header = fields(text);
                    let field = header.iter().find(|f| f.is(field)).unwrap();
                    tag_set(std::str::from_utf8(field.body).unwrap())
                });
                let made = made.unwrap_or_default();
                if made != expected(part) {
                    wrong.push(format!(
                        "{name} {part}:\n  {made:?}\n  {:?}",
                        expected(part)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a field says, without regard to white space and order.
fn tag_set(text: &str) -> Vec<String> {
    let packed: String = text.chars().filter(|c| !is_white(*c)).collect();
    let mut parts: Vec<String> = packed.split(';').map(str::to_owned).collect();
    parts.retain(|part| !part.is_empty());
    parts.sort();
    parts
}

fn sealed(
    test: &Value,
    message: &[u8],
    dns: &dyn Fn(&str) -> Txt,
    key: &SigningKey,
    scenario: &Value,
) -> Option<Vec<u8>> {
    let (header, body) = split(message);
    let own = test["srv-id"].as_str().unwrap();
    let (arc, results) = authentication_results(header, own);
    let mut chain = judged(message, dns);
    // The suite takes the worth of the chain from Authentication-Results.
    chain.validity = match arc.as_deref() {
        Some("pass") => Validity::Pass,
        Some("fail") => Validity::Fail,
        Some("none") => Validity::None,
        _ => chain.validity,
    };
    if !may_extend(&chain) {
        return None;
    }
    let mut hasher = BodyHasher::default();
    hasher.update(body);
    let sealing = Sealing {
        key,
        domain: scenario["domain"].as_str().unwrap(),
        selector: scenario["sel"].as_str().unwrap(),
        authserv_id: own,
        results: &results,
        names: Some(test["sig-headers"].as_str().unwrap()),
        time: test["t"].as_u64().unwrap(),
    };
    Some(seal(header, &hasher.finish(), &chain, &sealing).unwrap())
}

/// The results that the host of that name put into the header: that of ARC, and all others as
/// they stand behind it.
fn authentication_results(header: &[u8], own: &str) -> (Option<String>, String) {
    let (mut arc, mut others) = (None, String::new());
    for field in fields(header)
        .iter()
        .filter(|f| f.is("Authentication-Results"))
    {
        let text = std::str::from_utf8(field.body).unwrap().trim();
        let mut parts = text.split(';').map(str::trim);
        if parts.next() != Some(own) {
            continue;
        }
        for part in parts.filter(|part| !part.is_empty()) {
            match part.strip_prefix("arc=") {
                Some(value) => arc = Some(value.split(' ').next().unwrap().to_owned()),
                None => others.push_str(&format!(";\r\n  {part}")),
            }
        }
    }
    (arc, others)
}

#[test]
fn relay_53_a_set_of_ours_passes_and_a_change_breaks_it() {
    let key = SigningKey::from_pem(generate(Algorithm::RsaSha256).unwrap().as_bytes()).unwrap();
    let record = key.record();
    let dns = |_: &str| Txt::Found(vec![record.clone()]);
    let body = b"Hello  world \r\n";
    let mut hasher = BodyHasher::default();
    hasher.update(body);
    let hash = hasher.finish();
    let mut message = b"From: a@example.com\r\nSubject: x\r\n\r\nHello  world \r\n".to_vec();
    for number in 1..=3 {
        let (header, _) = split(&message);
        let chain = judged(&message, &dns);
        let expected = if number == 1 {
            Validity::None
        } else {
            Validity::Pass
        };
        assert_eq!((chain.validity, chain.sets), (expected, number - 1));
        let signature = Signature {
            key: &key,
            domain: "example.com",
            selector: "s",
            identity: "id",
        };
        let mut next = sign(header, &hash, &[signature], 1).unwrap();
        next.extend_from_slice(&message);
        let sealing = Sealing {
            key: &key,
            domain: "example.com",
            selector: "s",
            authserv_id: "mx.example.com",
            results: "",
            names: None,
            time: 1_800_000_000,
        };
        let fields = seal(split(&next).0, &hash, &chain, &sealing).unwrap();
        message = [fields, next].concat();
    }
    assert_eq!(judged(&message, &dns).validity, Validity::Pass);
    assert_eq!(queries(&message), ["s._domainkey.example.com"]);
    let text = String::from_utf8(message).unwrap();
    let changed = text.replace("Subject: x", "Subject: y");
    let chain = judged(changed.as_bytes(), &dns);
    assert_eq!(chain.validity, Validity::Fail);
    assert!(may_extend(&chain), "one set says that it is broken");
    let (header, _) = split(changed.as_bytes());
    let sealing = Sealing {
        key: &key,
        domain: "example.com",
        selector: "s",
        authserv_id: "mx.example.com",
        results: "",
        names: None,
        time: 1,
    };
    let fields = seal(header, &hash, &chain, &sealing).unwrap();
    let closed = [fields, changed.into_bytes()].concat();
    let chain = judged(&closed, &dns);
    assert_eq!(
        (chain.validity, chain.sets, chain.is_closed),
        (Validity::Fail, 4, true)
    );
    assert!(!may_extend(&chain));
    let silent = judged(text.as_bytes(), &|_| Txt::TempFail);
    assert_eq!(silent.validity, Validity::TempFail);
    assert!(!may_extend(&silent));
}
