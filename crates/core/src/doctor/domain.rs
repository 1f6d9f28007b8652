//! What the zone of a sender domain publishes, against what it must.

use std::net::IpAddr;

use super::spf::{Qualifier, Seen};
use super::{Answer, Finding, shown, unanswered};

/// The SPF record of a domain: our addresses pass, nobody else does.
pub fn judge_spf(domain: &str, senders: &[IpAddr], expected: &str, seen: &Answer<Seen>) -> Finding {
    let check = "spf";
    let act = |found: String, advice: &str| Finding::act(check, domain, found, expected, advice);
    let seen = match seen {
        Ok(seen) => seen,
        Err(cause) => return unanswered(check, domain, cause),
    };
    let record = match seen.records.as_slice() {
        [] => return act("no record".to_owned(), &publish(domain)),
        [record] => shown(record),
        more => {
            let found = format!("{} records: receivers take none of them", more.len());
            return act(found, "leave one");
        }
    };
    if let Some(why) = &seen.broken {
        return act(format!("{record} ({})", shown(why)), "correct the record");
    }
    let missing: Vec<String> = senders
        .iter()
        .filter(|address| !seen.passes(**address))
        .map(IpAddr::to_string)
        .collect();
    if !missing.is_empty() {
        let found = format!("{record}, which does not name {}", missing.join(" "));
        let finding = act(found, "add the addresses to the record");
        return match seen.depends.is_empty() {
            true => finding,
            false => finding.or_advice(),
        };
    }
    match seen.all {
        Some(Qualifier::Pass) => act(
            format!("{record}, which lets everybody pass"),
            "end it with -all",
        ),
        None | Some(Qualifier::Neutral) => {
            let found = format!("{record}, which refuses nobody");
            act(found, "end it with -all").or_advice()
        }
        Some(Qualifier::Fail | Qualifier::SoftFail) => Finding::good(check, domain, record),
    }
}

fn publish(domain: &str) -> String {
    format!("publish it; `galerne dns {domain}` prints it")
}

/// The record of a key at `name`, such as `s1._domainkey.example.com`.
pub fn judge_dkim(
    domain: &str,
    name: &str,
    expected: &str,
    texts: &Answer<Vec<String>>,
) -> Finding {
    let check = "dkim";
    let act = |found: &str, advice: &str| Finding::act(check, name, found, expected, advice);
    let texts = match texts {
        Ok(texts) => texts,
        Err(cause) => return unanswered(check, name, cause),
    };
    // Others may stand beside it by a wildcard.
    let records: Vec<&String> = texts.iter().filter(|t| tag(t, "p").is_some()).collect();
    let record = match records.as_slice() {
        [] => {
            return act(
                "no record: receivers cannot verify our signatures",
                &publish(domain),
            );
        }
        [record] => record.as_str(),
        _ => return act("several records: receivers may take any", "leave one"),
    };
    let same = |name: &str, default: &str| {
        let of = |text: &str| tag(text, name).unwrap_or_else(|| default.to_owned());
        of(record).eq(&of(expected))
    };
    if tag(record, "p").is_some_and(|p| p.is_empty()) {
        return act("the key is revoked (p= is empty)", &publish(domain));
    }
    if !same("p", "") || !same("k", "rsa") {
        let found = format!("another key: {}", shown(record));
        return act(&found, &publish(domain));
    }
    if tag(record, "h").is_some_and(|h| !h.split(':').any(|h| h.eq_ignore_ascii_case("sha256"))) {
        return act("h= does not permit sha256", &publish(domain));
    }
    if tag(record, "t").is_some_and(|t| t.split(':').any(|flag| flag == "y")) {
        let found = "the test flag t=y: some receivers treat the mail as unsigned";
        return act(found, "take t=y out").or_advice();
    }
    Finding::good(check, name, "the record is that of our key")
}

/// What the configuration says for DMARC.
#[derive(Clone, Copy, Debug)]
pub struct Dmarc<'a> {
    pub expected: &'a str,
    /// `[rfrelay]dmarcaddr`.
    pub reports: &'a [String],
}

/// The names at which receivers look for the DMARC record of a domain: its own, then those above it
/// down to two labels (RFC 7489 §6.6.3).
pub fn organisational_names(domain: &str) -> Vec<String> {
    let mut names = vec![domain.to_owned()];
    let mut rest = domain;
    while let Some((_, parent)) = rest.split_once('.') {
        if !parent.contains('.') || names.len() >= 8 {
            break;
        }
        names.push(parent.to_owned());
        rest = parent;
    }
    names
}

/// The DMARC record of a domain. `found`: the texts at `_dmarc` below each of its
/// [`organisational_names`], in that order.
pub fn judge_dmarc(
    domain: &str,
    configured: Dmarc<'_>,
    found: &[(String, Answer<Vec<String>>)],
) -> Finding {
    let check = "dmarc";
    let act = |found: String, advice: String| {
        Finding::act(check, domain, found, configured.expected, advice)
    };
    let mut record = None;
    for (name, texts) in found {
        let texts = match texts {
            Ok(texts) => texts,
            Err(cause) => return unanswered(check, domain, cause),
        };
        let records: Vec<&String> = texts.iter().filter(|t| is_version(t, "DMARC1")).collect();
        match records.as_slice() {
            [] => continue,
            [one] => record = Some((name, one.as_str())),
            more => {
                let found = format!(
                    "{} records at _dmarc.{name}: receivers take none",
                    more.len()
                );
                return act(found, "leave one".to_owned());
            }
        }
        break;
    }
    let Some((name, record)) = record else {
        return act("no record".to_owned(), publish(domain));
    };
    let text = match name == domain {
        true => shown(record),
        false => format!("{}, by _dmarc.{name}", shown(record)),
    };
    let own = tag(record, "p");
    let policy = match name == domain {
        true => own,
        false => tag(record, "sp").or(own),
    };
    let Some(policy) = policy else {
        return act(
            format!("{text}, which has no p="),
            "correct the record".to_owned(),
        );
    };
    let reports = tag(record, "rua").unwrap_or_default();
    if let Some(local) = lost_reports(&reports, domain, configured.reports) {
        let found = format!("{text}, whose reports to {} nobody takes", shown(&local));
        let advice = format!(
            "add {} to [rfrelay] dmarcaddr, or name another address in rua",
            shown(&local)
        );
        return act(found, advice);
    }
    if reports.is_empty() {
        let advice = "name an address in rua, to hear of mail that fails".to_owned();
        return act(format!("{text}, without rua"), advice).or_advice();
    }
    if policy.eq_ignore_ascii_case("none") {
        let advice = "when the reports show only your own mail: p=quarantine, then p=reject";
        return act(format!("{text}, which protects nothing"), advice.to_owned()).or_advice();
    }
    Finding::good(check, domain, text)
}

/// The local part of a rua address in the domain itself that `dmarcaddr` lacks (CONF-85).
fn lost_reports(rua: &str, domain: &str, known: &[String]) -> Option<String> {
    let addresses = rua.split(',').filter_map(|uri| {
        let address = uri.trim().get(7..).filter(|_| {
            let scheme = uri.trim().get(..7);
            scheme.is_some_and(|s| s.eq_ignore_ascii_case("mailto:"))
        })?;
        let address = address.split(['!', '?']).next().unwrap_or(address);
        address.rsplit_once('@')
    });
    let mut ours = addresses.filter(|(_, at)| at.eq_ignore_ascii_case(domain));
    ours.find(|(local, _)| !known.iter().any(|k| k.eq_ignore_ascii_case(local)))
        .map(|(local, _)| local.to_owned())
}

/// The mail hosts of a sender domain with their addresses: where its return mail goes. The null MX
/// is host `.`; a domain without MX is its own host, `implicit`.
pub fn judge_mx(
    domain: &str,
    hosts: &Answer<Vec<(u16, String, Vec<IpAddr>)>>,
    implicit: bool,
    own: &[IpAddr],
) -> Finding {
    let check = "mx";
    let expected = format!("MX 10 {domain}.");
    let act = |found: String, advice: &str| Finding::act(check, domain, found, &expected, advice);
    let hosts = match hosts {
        Ok(hosts) => hosts,
        Err(cause) => return unanswered(check, domain, cause),
    };
    let names: Vec<String> = hosts
        .iter()
        .map(|(n, host, _)| format!("{n} {host}"))
        .collect();
    let names = shown(&names.join(", "));
    if hosts.iter().any(|(_, host, _)| host == ".") {
        let found = "the domain says that it takes no mail (null MX): many refuse mail from it";
        return act(found.to_owned(), &publish(domain));
    }
    if hosts.iter().all(|(_, _, addresses)| addresses.is_empty()) {
        let found = match (hosts.is_empty(), implicit) {
            (true, _) | (_, true) => "neither MX nor address: many refuse mail from it".to_owned(),
            _ => format!("{names}, of which none has an address"),
        };
        return act(found, &publish(domain));
    }
    if implicit {
        let found = "no MX; return mail goes to the address of the domain".to_owned();
        return act(found, &publish(domain)).or_advice();
    }
    let mut addresses = hosts.iter().flat_map(|(_, _, addresses)| addresses);
    let finding = match addresses.any(|address| own.contains(address)) {
        true => format!("{names}, which is here"),
        false => format!("{names}, elsewhere: return mail goes there"),
    };
    Finding::good(check, domain, finding)
}

/// A record that announces something good to have: MTA-STS, TLS-RPT.
pub fn judge_text(
    check: &'static str,
    name: &str,
    version: &str,
    expected: &str,
    texts: &Answer<Vec<String>>,
) -> Finding {
    let texts = match texts {
        Ok(texts) => texts,
        Err(cause) => return unanswered(check, name, cause).or_advice(),
    };
    let records: Vec<&String> = texts.iter().filter(|t| is_version(t, version)).collect();
    match records.as_slice() {
        [one] => Finding::good(check, name, shown(one)),
        [] => {
            let advice = "worth having, not needed for sending; `galerne dns` prints it";
            Finding::act(check, name, "no record", expected, advice).or_advice()
        }
        more => {
            let found = format!("{} records: others take none of them", more.len());
            Finding::act(check, name, found, expected, "leave one")
        }
    }
}

/// Whether a record begins with `v=VERSION`.
fn is_version(text: &str, version: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    let pair = first.split_once('=');
    pair.is_some_and(|(name, value)| name.trim() == "v" && value.trim() == version)
}

/// The value of a tag, without white space; `None`: the record does not have it.
fn tag(record: &str, name: &str) -> Option<String> {
    let mut tags = record.split(';').filter_map(|part| part.split_once('='));
    let (_, value) = tags.find(|(found, _)| found.trim() == name)?;
    Some(value.chars().filter(|c| !c.is_whitespace()).collect())
}
