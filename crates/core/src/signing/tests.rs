use std::sync::Arc;

use super::*;
use crate::keys::{Algorithm, KeyName};
use crate::settings::Secret;
use galerne_smtp::Mailbox;

fn key(file_name: &str, algorithm: Algorithm) -> KeyFile {
    KeyFile {
        name: KeyName::parse(file_name).unwrap(),
        algorithm,
        file: format!("keys/{file_name}"),
        pem: Secret(String::new()),
        read: crate::keys::ReadKey::default(),
    }
}

fn keys() -> Vec<KeyFile> {
    vec![
        key("from.example s1 id.pem", Algorithm::RsaSha256),
        key("from.example s2 id.pem", Algorithm::Ed25519Sha256),
        key("env.example s1 id.pem", Algorithm::RsaSha256),
        key("mta1.example s1 id.pem", Algorithm::RsaSha256),
    ]
}

fn wish(sign: Sign) -> Wish<'static> {
    Wish {
        sign,
        demanded: false,
        arc: false,
        from: Some("from.example"),
        permitted: None,
    }
}

fn sender(address: &str) -> OutboundSender {
    OutboundSender::Fixed(match address {
        "" => ReversePath::Null,
        address => ReversePath::Mailbox(Mailbox::parse(address).unwrap()),
    })
}

fn outbounds() -> Vec<Arc<OutboundIp>> {
    let outbound = |address: &str, name: &str| {
        Arc::new(OutboundIp {
            address: address.parse().unwrap(),
            name: name.into(),
        })
    };
    vec![
        outbound("192.0.2.1", "mta1.example"),
        outbound("192.0.2.2", "mta2.example"),
    ]
}

/// `domain/key index` of each signature from the first outbound, and what is not signed.
fn decided(wish: Wish<'_>, sender: &OutboundSender) -> (String, String) {
    let signing = decide(&keys(), wish, sender, &outbounds()).unwrap();
    let signers = signing.signers("192.0.2.1".parse().unwrap());
    let shown: Vec<_> = signers
        .iter()
        .map(|s| format!("{}/{}", s.domain, s.key))
        .collect();
    (shown.join(" "), signing.unsigned.join(" "))
}

#[test]
fn relay_48_the_word_says_which_domain_signs() {
    let env = sender("a@Env.example");
    let from = "from.example/0 from.example/1";
    for (sign, sender, expected) in [
        (Sign::From, &env, from.to_owned()),
        (Sign::Envelope, &env, "env.example/2".to_owned()),
        (Sign::Both, &env, format!("{from} env.example/2")),
        (Sign::Both, &sender("b@from.example"), from.to_owned()),
        (Sign::None, &env, String::new()),
        (Sign::From, &sender(""), from.to_owned()),
        (Sign::Both, &sender(""), from.to_owned()),
    ] {
        let (signed, unsigned) = decided(wish(sign), sender);
        assert_eq!((signed, &*unsigned), (expected, ""), "{sign:?} {sender:?}");
    }
}

#[test]
fn relay_48_a_generated_sender_signs_with_its_own_domain() {
    let named = OutboundSender::Verp {
        domain: Some("env.example".into()),
    };
    let (signed, _) = decided(wish(Sign::Envelope), &named);
    assert_eq!(signed, "env.example/2");
    let by_outbound = OutboundSender::Verp { domain: None };
    let signing = decide(&keys(), wish(Sign::Envelope), &by_outbound, &outbounds()).unwrap();
    let of = |ip: &str| signing.signers(ip.parse().unwrap()).len();
    assert_eq!((of("192.0.2.1"), of("192.0.2.2")), (1, 0));
    assert_eq!(signing.unsigned, ["mta2.example"]);
}

#[test]
fn relay_48_nothing_is_signed_with_the_key_of_a_domain_outside_authorizedsender() {
    let permitted = ["env.example".to_owned()];
    let wish = Wish {
        permitted: Some(&permitted),
        ..wish(Sign::Both)
    };
    let (signed, unsigned) = decided(wish, &sender("a@env.example"));
    assert_eq!((&*signed, &*unsigned), ("env.example/2", "from.example"));
}

#[test]
fn relay_50_without_a_key_it_goes_unsigned_unless_the_directive_demands_it() {
    let other = Wish {
        from: Some("other.example"),
        ..wish(Sign::From)
    };
    let env = sender("a@env.example");
    assert_eq!(
        decided(other, &env),
        (String::new(), "other.example".into())
    );
    let demanded = Wish {
        demanded: true,
        ..other
    };
    let refusal = decide(&keys(), demanded, &env, &outbounds()).unwrap_err();
    let said = refusal.reply(false).to_log();
    assert_eq!(
        said,
        "451 9.1.6 X-SMTP-R-API routing.sign: no signing key for other.example"
    );
    let none = Wish {
        sign: Sign::None,
        ..demanded
    };
    assert!(decide(&[], none, &env, &outbounds()).is_ok());
    let no_from = Wish {
        from: None,
        ..demanded
    };
    assert!(decide(&keys(), no_from, &env, &outbounds()).is_err());
}

#[test]
fn relay_53_a_set_is_sealed_by_who_signs_else_by_a_domain_of_the_message() {
    let mut keys = keys();
    keys.push(key("ed.example s1 id.pem", Algorithm::Ed25519Sha256));
    let permitted = ["env.example".to_owned()];
    let arc = |sign| Wish {
        arc: true,
        ..wish(sign)
    };
    let from_ed = |sign| Wish {
        from: Some("ed.example"),
        ..arc(sign)
    };
    let env = sender("a@env.example");
    let own = |sign| Wish {
        permitted: Some(&permitted),
        ..arc(sign)
    };
    for (wish, sender, expected) in [
        (arc(Sign::From), &env, "from.example"),
        (arc(Sign::Envelope), &env, "env.example"),
        // Nothing signs, or nothing that can seal.
        (arc(Sign::None), &env, "from.example"),
        (from_ed(Sign::From), &env, "env.example"),
        (from_ed(Sign::From), &sender(""), "nobody"),
        // A stranger's From, as where mail is forwarded.
        (
            Wish {
                from: Some("stranger.example"),
                ..arc(Sign::From)
            },
            &env,
            "env.example",
        ),
        // Nothing of the account is sealed with the key of another domain (RELAY-48).
        (own(Sign::None), &env, "env.example"),
        (own(Sign::None), &sender("a@from.example"), "nobody"),
        (wish(Sign::From), &env, "nobody"),
    ] {
        let signing = decide(&keys, wish, sender, &outbounds()).unwrap();
        let sealer = signing.sealer(&keys, "192.0.2.1".parse().unwrap());
        let domain = sealer.map_or("nobody", |signer| &signer.domain);
        assert_eq!(domain, expected, "{wish:?} {sender:?}");
        let word = sealer.map(|s| keys[s.key].algorithm.word());
        assert!(word.is_none_or(|word| word == "rsa-sha256"));
    }
    let by_outbound = OutboundSender::Verp { domain: None };
    let named = Wish {
        from: None,
        ..arc(Sign::Envelope)
    };
    let signing = decide(&keys, named, &by_outbound, &outbounds()).unwrap();
    let of = |ip: &str| signing.sealer(&keys, ip.parse().unwrap()).is_some();
    assert_eq!((of("192.0.2.1"), of("192.0.2.2")), (true, false));
}
