//! Who must prove what, for every combination.

use super::*;

fn set() -> Arc<TlsaSet> {
    let record = tlsa::TlsaRecord {
        usage: 3,
        selector: 1,
        matching: 1,
        data: vec![1; 32],
    };
    Arc::new(tlsa::usable(&[record], vec!["mx.example.org".into()]).unwrap())
}

fn policy(mode: &str) -> Policy {
    let text = format!("version: STSv1\nmode: {mode}\nmx: mx.example.org\nmax_age: 86400");
    Policy::parse(&text).unwrap()
}

/// `encryption proof`, or the reply of the refusal.
fn words(made: Result<Demand, Refusal>) -> String {
    match made {
        Ok(demand) => format!("{:?} {}", demand.encryption, demand.proof.word()),
        Err(refusal) => refusal.reply(false).to_log(),
    }
}

/// What is said of a host, with an MX that DNSSEC proves.
fn facts<'a>(host: &'a str, dane: &'a Dane, policy: Option<&'a Policy>) -> MxFacts<'a> {
    MxFacts {
        host,
        is_proved: true,
        dane,
        policy,
    }
}

const MX: &str = "mx.example.org";
const SSLS: [Ssl; 3] = [Ssl::Never, Ssl::Opportunistic, Ssl::Required];

#[test]
fn relay_54_relay_55_without_policies_ssl_alone_decides_for_an_mx() {
    let made = |ssl, verify| {
        let mx = facts(MX, &Dane::Silent, None);
        words(for_mx(ssl, Wish::Nothing, verify, mx))
    };
    assert_eq!(made(Ssl::Never, true), "Never none");
    assert_eq!(made(Ssl::Opportunistic, true), "IfOffered none");
    assert_eq!(made(Ssl::Required, true), "Required ca");
    assert_eq!(made(Ssl::Required, false), "Required none");
}

#[test]
fn t_16_dane_comes_before_mta_sts_and_before_ssl() {
    for ssl in [Ssl::Opportunistic, Ssl::Required] {
        for policy in [None, Some(policy("enforce")), Some(policy("testing"))] {
            for wish in [Wish::Nothing, Wish::Required] {
                let made = |dane| {
                    let mx = facts("other.example.org", &dane, policy.as_ref());
                    words(for_mx(ssl, wish, true, mx))
                };
                assert_eq!(made(Dane::Records(set())), "Required dane");
                let failed = made(Dane::Failed("SERVFAIL".into()));
                assert!(failed.starts_with("451 9.3.2 "), "{failed}");
                assert!(failed.contains("SERVFAIL"), "{failed}");
            }
        }
    }
}

#[test]
fn t_16_unusable_records_want_tls_without_a_proof() {
    let made = |ssl, wish, policy: Option<&Policy>| {
        words(for_mx(ssl, wish, true, facts(MX, &Dane::Unusable, policy)))
    };
    let nothing = Wish::Nothing;
    assert_eq!(made(Ssl::Opportunistic, nothing, None), "Required none");
    assert_eq!(made(Ssl::Required, nothing, None), "Required ca");
    assert_eq!(
        made(Ssl::Opportunistic, Wish::Required, None),
        "Required ca"
    );
    let enforced = policy("enforce");
    assert_eq!(
        made(Ssl::Opportunistic, nothing, Some(&enforced)),
        "Required mta-sts"
    );
}

#[test]
fn t_17_an_enforced_policy_wants_the_named_hosts_and_a_proof() {
    let made = |mode, host| {
        let policy = policy(mode);
        let mx = facts(host, &Dane::Silent, Some(&policy));
        words(for_mx(Ssl::Opportunistic, Wish::Nothing, true, mx))
    };
    assert_eq!(made("enforce", "mx.example.org"), "Required mta-sts");
    let refused = made("enforce", "evil.example");
    assert!(
        refused.starts_with("451 9.3.2 ") && refused.contains("evil.example"),
        "{refused}"
    );
    for mode in ["testing", "none"] {
        assert_eq!(made(mode, "mx.example.org"), "IfOffered none");
        assert_eq!(made(mode, "evil.example"), "IfOffered none");
    }
}

#[test]
fn relay_54_ssl_false_is_a_local_decision_that_policies_do_not_undo() {
    let policy = policy("enforce");
    let made = |wish| {
        let dane = Dane::Records(set());
        words(for_mx(
            Ssl::Never,
            wish,
            true,
            facts(MX, &dane, Some(&policy)),
        ))
    };
    assert_eq!(made(Wish::Nothing), "Never none");
    assert_eq!(made(Wish::NotRequired), "Never none");
    let refused = made(Wish::Required);
    assert!(refused.starts_with("550 5.7.10 "), "{refused}");
}

#[test]
fn relay_14_requiretls_never_leaves_without_a_proof() {
    for ssl in SSLS {
        for verify in [false, true] {
            for dane in [Dane::Silent, Dane::Unusable, Dane::Records(set())] {
                match for_mx(ssl, Wish::Required, verify, facts(MX, &dane, None)) {
                    Ok(demand) => {
                        assert_eq!(demand.encryption, Encryption::Required);
                        assert_ne!(demand.proof, Proof::None);
                    }
                    Err(refusal) => {
                        assert_eq!((ssl, refusal.reply(false).code()), (Ssl::Never, 550));
                    }
                }
            }
        }
    }
}

#[test]
fn relay_14_requiretls_wants_the_host_proved_to_be_one_of_the_domain() {
    let made = |is_proved, policy: Option<&Policy>| {
        let mx = MxFacts {
            is_proved,
            ..facts(MX, &Dane::Silent, policy)
        };
        words(for_mx(Ssl::Opportunistic, Wish::Required, true, mx))
    };
    let other = Policy::parse("version: STSv1\nmode: testing\nmx: a.example\nmax_age: 1").unwrap();
    assert_eq!(made(true, None), "Required ca");
    assert_eq!(made(true, Some(&other)), "Required ca");
    assert_eq!(made(false, Some(&policy("testing"))), "Required ca");
    assert_eq!(made(false, Some(&policy("enforce"))), "Required mta-sts");
    for policy in [None, Some(policy("none")), Some(other)] {
        assert_eq!(
            made(false, policy.as_ref()),
            "451 9.3.2 X-SMTP-R-API REQUIRETLS was asked for, and neither DNSSEC nor an MTA-STS \
             policy proves that mx.example.org is an MX of the domain"
        );
    }
}

#[test]
fn t_12_what_is_not_required_takes_back_policies_of_the_domain_and_not_our_own() {
    let enforced = policy("enforce");
    for dane in [
        Dane::Silent,
        Dane::Unusable,
        Dane::Records(set()),
        Dane::Failed("SERVFAIL".into()),
    ] {
        for host in [MX, "evil.example"] {
            let made = |ssl| {
                let mx = facts(host, &dane, Some(&enforced));
                words(for_mx(ssl, Wish::NotRequired, true, mx))
            };
            assert_eq!(made(Ssl::Opportunistic), "IfOffered none");
            assert_eq!(made(Ssl::Required), "Required ca");
            assert_eq!(made(Ssl::Never), "Never none");
        }
    }
    assert_eq!(Wish::of(true, true), Wish::Required);
    assert_eq!(Wish::of(false, true), Wish::NotRequired);
    assert_eq!(Wish::of(false, false), Wish::Nothing);
}

#[test]
fn relay_55_route_41_every_combination_for_a_relay_host() {
    for ssl in SSLS {
        for bits in 0..128u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let facts = HostFacts {
                implicit: bit(0),
                loopback: bit(1),
                password: bit(2),
                auth_in_clear: bit(3),
                verify: bit(4),
            };
            let requiretls = bit(5);
            // What is not required changes nothing at a relay host of ours.
            let wish = Wish::of(requiretls, bit(6));
            let context = format!("{ssl:?} {wish:?} {facts:?}");
            let Ok(demand) = for_host(ssl, wish, facts) else {
                assert!(
                    requiretls && ssl == Ssl::Never && !facts.implicit,
                    "{context}"
                );
                continue;
            };
            let tls = matches!(
                demand.encryption,
                Encryption::Required | Encryption::Implicit
            );
            assert_eq!(
                demand.encryption == Encryption::Implicit,
                facts.implicit,
                "{context}"
            );
            assert!(tls || !requiretls && ssl != Ssl::Required, "{context}");
            // A password in clear only where that is allowed, or where TLS is switched off and the
            // session itself refuses to log in.
            let may_be_clear = !facts.password || facts.auth_in_clear || ssl == Ssl::Never;
            assert!(tls || may_be_clear, "{context}");
            let due = facts.password || ssl == Ssl::Required;
            let proved = due && facts.verify && !facts.loopback;
            let never = demand.encryption == Encryption::Never;
            let expected = (requiretls || proved) && !never;
            assert_eq!(demand.proof == Proof::Authority, expected, "{context}");
        }
    }
}

#[test]
fn t_12_a_broken_session_names_the_host_the_cause_and_the_rule() {
    let demand = demand(Encryption::Required, Proof::MtaSts, "RFC 8461 (MTA-STS)");
    let reply = broken(
        "mx.example.org",
        "the remote does not offer STARTTLS",
        &demand,
    );
    assert_eq!(
        reply.reply(true).to_log(),
        "451 9.3.2 X-SMTP-R-API no TLS session with mx.example.org: the remote does not offer \
         STARTTLS (RFC 8461 (MTA-STS))"
    );
}
