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

const SSLS: [Ssl; 3] = [Ssl::Never, Ssl::Opportunistic, Ssl::Required];

#[test]
fn relay_54_relay_55_without_policies_ssl_alone_decides_for_an_mx() {
    let made = |ssl, verify| {
        words(for_mx(
            ssl,
            false,
            verify,
            "mx.example.org",
            &Dane::Silent,
            None,
        ))
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
            for requiretls in [false, true] {
                let made = |dane| {
                    let policy = policy.as_ref();
                    words(for_mx(
                        ssl,
                        requiretls,
                        true,
                        "other.example.org",
                        &dane,
                        policy,
                    ))
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
    let made = |ssl, requiretls, policy: Option<&Policy>| {
        let host = "mx.example.org";
        words(for_mx(ssl, requiretls, true, host, &Dane::Unusable, policy))
    };
    assert_eq!(made(Ssl::Opportunistic, false, None), "Required none");
    assert_eq!(made(Ssl::Required, false, None), "Required ca");
    assert_eq!(made(Ssl::Opportunistic, true, None), "Required ca");
    let enforced = policy("enforce");
    assert_eq!(
        made(Ssl::Opportunistic, false, Some(&enforced)),
        "Required mta-sts"
    );
}

#[test]
fn t_17_an_enforced_policy_wants_the_named_hosts_and_a_proof() {
    let made = |mode, host| {
        let policy = policy(mode);
        words(for_mx(
            Ssl::Opportunistic,
            false,
            true,
            host,
            &Dane::Silent,
            Some(&policy),
        ))
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
    let made = |requiretls| {
        let dane = Dane::Records(set());
        words(for_mx(
            Ssl::Never,
            requiretls,
            true,
            "mx.example.org",
            &dane,
            Some(&policy),
        ))
    };
    assert_eq!(made(false), "Never none");
    assert!(made(true).starts_with("550 5.7.30 "), "{}", made(true));
}

#[test]
fn relay_14_requiretls_never_leaves_without_a_proof() {
    for ssl in SSLS {
        for verify in [false, true] {
            for dane in [Dane::Silent, Dane::Unusable, Dane::Records(set())] {
                let made = for_mx(ssl, true, verify, "mx.example.org", &dane, None);
                match made {
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
fn relay_55_route_41_every_combination_for_a_relay_host() {
    for ssl in SSLS {
        for bits in 0..64u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let facts = HostFacts {
                implicit: bit(0),
                loopback: bit(1),
                password: bit(2),
                auth_in_clear: bit(3),
                verify: bit(4),
            };
            let requiretls = bit(5);
            let context = format!("{ssl:?} {requiretls} {facts:?}");
            let Ok(demand) = for_host(ssl, requiretls, facts) else {
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
