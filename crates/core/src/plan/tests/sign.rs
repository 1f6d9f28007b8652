//! Who signs, by the sources of the key (RELAY-48 to RELAY-50).

use super::*;
use crate::keys::{Algorithm, KeyFile, KeyName};
use crate::settings::Secret;

fn signed() -> Case {
    let mut case = case();
    case.settings.keys = ["brand.example s1 id.pem", "example.com s1 id.pem"]
        .map(|file_name| KeyFile {
            name: KeyName::parse(file_name).unwrap(),
            algorithm: Algorithm::RsaSha256,
            file: format!("keys/{file_name}"),
            pem: Secret("-".into()),
            read: crate::keys::ReadKey::default(),
        })
        .into();
    case
}

fn domains(case: &Case) -> String {
    let plan = case.plan();
    let signers = plan.signing.signers(plan.outbounds[0].address);
    let domains: Vec<&str> = signers.iter().map(|s| &*s.domain).collect();
    domains.join(" ")
}

#[test]
fn relay_48_relay_49_the_from_domain_signs_unless_somebody_says_otherwise() {
    let mut case = signed();
    assert_eq!(domains(&case), "brand.example");
    case.settings.routing.sign = Key::Set(Sign::None);
    assert_eq!(domains(&case), "");
    case.directive.sign = Some(Sign::Envelope);
    assert_eq!(domains(&case), "example.com");
    case.account.routing.sign = Key::Set(Sign::Both);
    assert_eq!(domains(&case), "brand.example example.com");
}

#[test]
fn relay_58_an_empty_sign_of_the_user_file_is_the_default_and_overrides() {
    let mut case = signed();
    case.directive.sign = Some(Sign::None);
    case.account.routing.sign = Key::Empty;
    assert_eq!(domains(&case), "brand.example");
}

#[test]
fn relay_50_only_the_directive_demands() {
    let mut case = signed();
    case.from = Some(mailbox("x@other.example"));
    case.account.routing.sign = Key::Set(Sign::From);
    case.directive.sign = Some(Sign::From);
    // The directive does not decide here, so it demands nothing.
    assert_eq!(case.plan().signing.unsigned, ["other.example"]);
    case.account.routing.sign = Key::Absent;
    assert_eq!(
        case.refused(),
        "451 9.1.6 X-SMTP-R-API routing.sign: no signing key for other.example"
    );
}

#[test]
fn relay_48_the_list_of_the_account_holds_for_keys() {
    let mut case = signed();
    case.account.authorizedsender = Some(vec!["example.com".into()]);
    assert_eq!(domains(&case), "");
    assert_eq!(case.plan().signing.unsigned, ["brand.example"]);
    case.directive.sign = Some(Sign::Both);
    assert!(case.refused().starts_with("451 9.1.6 "));
}

#[test]
fn relay_53_arc_is_asked_for_by_the_user_file() {
    let mut case = signed();
    assert!(!case.plan().signing.arc);
    case.account.routing.arc = Key::Set(true);
    assert!(case.plan().signing.arc);
}

#[test]
fn relay_48_the_plan_explains_who_signs() {
    let mut case = signed();
    case.directive.sign = Some(Sign::Both);
    let plan = case.plan();
    let (_, value, rule) = plan.reasons.iter().find(|(key, ..)| key == "sign").unwrap();
    assert_eq!(
        value,
        "d=brand.example s=s1 rsa-sha256 (keys/brand.example s1 id.pem), d=example.com s=s1 rsa-sha256 (keys/example.com s1 id.pem)"
    );
    assert_eq!(rule, "directive routing.sign");
}
