//! TLS policies: whether DNSSEC works where DANE needs it, and the MTA-STS policies of our own
//! domains as others see them.

use super::{Answer, Finding, shown, unanswered};
use crate::tls_policy::sts::{Mode, Policy};

/// Senders forget a policy that lasts less than this many seconds before it protects anybody.
const SHORT: u64 = 86_400;

/// What is known of DNSSEC here.
#[derive(Clone, Copy, Debug)]
pub struct DnssecFacts<'a> {
    /// An answer can be secure at all.
    pub is_on: bool,
    /// `[dns]dnssec` is set.
    pub is_asked_for: bool,
    /// Whether what the root says is secure.
    pub root: &'a Answer<bool>,
}

/// Whether DANE can be applied. The root is always signed: if its answers are not secure, none is.
pub fn judge_dane(dnssec: DnssecFacts<'_>) -> Finding {
    let (check, subject) = ("dane", "dnssec");
    let expected = "[dns] dnssec = validate, or a resolver on this host that validates";
    if !dnssec.is_on {
        let found = "DNSSEC is off: TLSA records of remotes (DANE) are not looked at";
        let advice = "set it if you want DANE, or [rfmta] dane = 0";
        return Finding::act(check, subject, found, expected, advice).or_advice();
    }
    let finding = match dnssec.root {
        Ok(true) => return Finding::good(check, subject, "answers of the root are proved"),
        Ok(false) => {
            let found = "answers of the root are not proved: DANE is applied nowhere";
            let advice = "let the resolver validate and set AD, or set dnssec = validate; then look \
                          at trustanchor";
            Finding::act(check, subject, found, expected, advice)
        }
        Err(cause) => unanswered(check, subject, cause),
    };
    // By default the AD bit of a resolver nearby is believed where there is one.
    match dnssec.is_asked_for {
        true => finding,
        false => finding.or_advice(),
    }
}

/// The MTA-STS policy of a sender domain, as it was fetched, against its mail hosts.
pub fn judge_policy(
    domain: &str,
    hosts: &Answer<Vec<String>>,
    fetched: &Answer<String>,
) -> Finding {
    let check = "mta-sts";
    let subject = format!("https://mta-sts.{domain}/.well-known/mta-sts.txt");
    let act = |found: &str, advice: &str| {
        let expected = "the policy that `galerne dns` prints";
        Finding::act(check, &subject, shown(found), expected, advice)
    };
    let text = match fetched {
        Ok(text) => text,
        Err(why) => {
            let found = format!("announced, and cannot be fetched: {why}");
            return act(&found, "serve it, with a certificate for that name");
        }
    };
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(why) => {
            let found = format!("announced, and no policy: {why}");
            return act(&found, "correct the file, and change the id of the record");
        }
    };
    let mode = match policy.mode {
        Mode::None => {
            let advice = "put one in force, or remove the record once max_age is over";
            return act("mode none: it protects nobody", advice).or_advice();
        }
        Mode::Testing => "testing",
        Mode::Enforce => "enforce",
    };
    let hosts = match hosts {
        Ok(hosts) => hosts,
        Err(cause) => return unanswered(check, domain, cause),
    };
    if let Some(host) = hosts.iter().find(|host| !policy.matches(host)) {
        let found = format!("mode {mode}, and it does not name the MX {host}");
        let advice = "name every MX of the domain in the policy, and change the id of the record";
        return match policy.mode {
            Mode::Enforce => act(&format!("{found}: others do not send there"), advice),
            _ => act(&found, advice).or_advice(),
        };
    }
    if policy.max_age.as_secs() < SHORT {
        let found = format!(
            "max_age is {} s: it is hardly ever kept",
            policy.max_age.as_secs()
        );
        return act(&found, "a week or more: max_age: 604800").or_advice();
    }
    Finding::good(check, &subject, format!("mode {mode}, names every MX"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn t_16_conf_27_dane_without_dnssec_is_found() {
        let judge = |is_on, is_asked_for, root: Answer<bool>| {
            let facts = DnssecFacts {
                is_on,
                is_asked_for,
                root: &root,
            };
            judge_dane(facts)
        };
        assert_eq!(judge(true, true, Ok(true)).severity, Severity::Good);
        assert_eq!(judge(true, true, Ok(false)).severity, Severity::Act);
        assert_eq!(judge(true, false, Ok(false)).severity, Severity::Advice);
        assert_eq!(
            judge(true, true, Err("SERVFAIL".into())).severity,
            Severity::Act
        );
        let off = judge(false, true, Ok(true));
        assert_eq!(off.severity, Severity::Advice);
        assert!(off.found.contains("DNSSEC is off"), "{off}");
        assert!(off.expected.contains("dnssec = validate"), "{off}");
    }

    #[test]
    fn t_17_the_policy_of_a_domain_of_ours_is_held_against_its_mx() {
        let hosts = || {
            Ok(vec![
                "mx.example.com".to_owned(),
                "mx2.example.com".to_owned(),
            ])
        };
        let judge = |text: &str, hosts: Answer<Vec<String>>| {
            let finding = judge_policy("example.com", &hosts, &Ok(text.to_owned()));
            assert_eq!(
                finding.expected.is_empty(),
                finding.severity == Severity::Good
            );
            (finding.severity, finding.found)
        };
        let text = |mode: &str, named: &str, age: u32| {
            format!("version: STSv1\r\nmode: {mode}\r\nmx: {named}\r\nmax_age: {age}\r\n")
        };
        for mode in ["enforce", "testing"] {
            let (severity, found) = judge(&text(mode, "*.example.com", 86_400), hosts());
            assert_eq!(severity, Severity::Good);
            assert_eq!(found, format!("mode {mode}, names every MX"));
        }
        let (severity, found) = judge(&text("enforce", "mx.example.com", 86_400), hosts());
        assert_eq!(severity, Severity::Act);
        assert!(
            found.contains("does not name the MX mx2.example.com"),
            "{found}"
        );
        let (severity, _) = judge(&text("testing", "mx.example.com", 86_400), hosts());
        assert_eq!(severity, Severity::Advice);
        let (severity, found) = judge(&text("none", "*.example.com", 86_400), hosts());
        assert_eq!(severity, Severity::Advice);
        assert!(found.starts_with("mode none"), "{found}");
        let (severity, found) = judge(&text("enforce", "*.example.com", 3_600), hosts());
        assert_eq!(severity, Severity::Advice);
        assert!(found.contains("max_age is 3600 s"), "{found}");
        let (severity, found) = judge("<html>", hosts());
        assert_eq!(severity, Severity::Act);
        assert!(
            found.contains("no policy: a line without a colon"),
            "{found}"
        );
        let failed = Err("mta-sts.example.com says 404".to_owned());
        let finding = judge_policy("example.com", &hosts(), &failed);
        assert_eq!(finding.severity, Severity::Act);
        assert!(finding.found.ends_with("says 404"), "{finding}");
        let unknown = judge(
            &text("enforce", "*.example.com", 86_400),
            Err("SERVFAIL".into()),
        );
        assert_eq!(unknown.0, Severity::Act);
    }
}
