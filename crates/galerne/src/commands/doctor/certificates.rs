//! The certificates of our listeners (CONF-29): there or not, for the right name, by whom, until
//! when.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use galerne_core::doctor::Finding;
use galerne_core::settings::Settings;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

/// A certificate that ends sooner should have been renewed by now; seconds.
const SOON: i64 = 14 * 86_400;
const CHECK: &str = "cert";
/// The file for every other name.
const DEFAULT: &str = ".def";

/// The findings for `certs/`.
pub fn findings(certs: &Path, settings: &Settings) -> Vec<Finding> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let stems = stems(certs);
    let hostname = &settings.hostname;
    let mut findings = Vec::new();
    let has_own = stems.iter().any(|stem| stem.eq_ignore_ascii_case(hostname));
    if !has_own && !stems.iter().any(|stem| stem == DEFAULT) {
        let found = "no certificate: the server makes a self-signed one at each start";
        let advice = format!(
            "put a chain into certs/{hostname}.pem and its key into certs/{hostname}.key, from an \
             authority that your clients trust"
        );
        let expected = format!("certs/{hostname}.pem");
        findings.push(Finding::act(CHECK, hostname, found, expected, advice).or_advice());
    }
    for stem in &stems {
        // The default serves whoever asks for no name or an unknown one: those get ours, unless it
        // has a file of its own.
        let name = match stem == DEFAULT {
            true => (!has_own).then_some(hostname.as_str()),
            false => Some(stem.as_str()),
        };
        let file = format!("certs/{stem}.pem");
        let chain = CertificateDer::pem_file_iter(certs.join(format!("{stem}.pem")))
            .and_then(|list| list.collect::<Result<Vec<_>, _>>());
        findings.push(match chain {
            Ok(chain) => judge(&file, name, &chain, now),
            Err(error) => broken(&file, &error.to_string()),
        });
    }
    findings
}

/// Files whose certificate is over or has not begun, and what is wrong with it: for `check`. Such a
/// certificate is used all the same; who does not look at it is not kept out.
pub fn out_of_time(certs: &Path) -> Vec<(String, String)> {
    let now = jiff::Timestamp::now().as_second();
    let judged = stems(certs).into_iter().filter_map(|stem| {
        let file = format!("{stem}.pem");
        let leaf = CertificateDer::pem_file_iter(certs.join(&file))
            .ok()?
            .next()?;
        let facts = facts(&leaf.ok()?)?;
        let why = if now > facts.not_after {
            format!("the certificate ended on {}", shown(facts.not_after))
        } else if now < facts.not_before {
            format!("the certificate begins on {}", shown(facts.not_before))
        } else {
            return None;
        };
        Some((format!("certs/{file}"), why))
    });
    judged.collect()
}

fn stems(certs: &Path) -> Vec<String> {
    let entries = fs::read_dir(certs).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut stems: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".pem").map(str::to_owned))
        .collect();
    stems.sort();
    stems
}

fn broken(file: &str, why: &str) -> Finding {
    let advice = "install the chain again, the server's own certificate first";
    Finding::act(CHECK, file, why, "a certificate chain in PEM form", advice)
}

/// `name`: the one that it must be for; `None`: any.
fn judge(file: &str, name: Option<&str>, chain: &[CertificateDer<'_>], now: i64) -> Finding {
    let wanted = name.unwrap_or("any name");
    let Some(leaf) = chain.first() else {
        return broken(file, "no certificate in it");
    };
    let (Some(facts), Ok(parsed)) = (facts(leaf), ParsedCertificate::try_from(leaf)) else {
        return broken(file, "not a certificate (X.509 version 3)");
    };
    let act = |found: String, advice: &str| {
        Finding::act(
            CHECK,
            file,
            found,
            format!("a valid certificate for {wanted}"),
            advice,
        )
    };
    let (from, to) = (shown(facts.not_before), shown(facts.not_after));
    if now > facts.not_after {
        return act(format!("it ended on {to}"), "renew it");
    }
    if now < facts.not_before {
        return act(format!("it begins on {from}"), "see to the clock, or wait");
    }
    let is_for = |name: &str| {
        let server = ServerName::try_from(name);
        server.is_ok_and(|server| verify_server_name(&parsed, &server).is_ok())
    };
    if !name.is_none_or(is_for) {
        return act(
            format!("it is not for {wanted}"),
            "have one made for this name",
        );
    }
    if facts.not_after - now < SOON {
        return act(
            format!("it ends soon, on {to}"),
            "renew it; see why that was not done yet",
        );
    }
    if facts.self_issued {
        let advice = "one from an authority that your clients trust";
        return act(format!("self-signed, until {to}"), advice).or_advice();
    }
    Finding::good(CHECK, file, format!("for {wanted}, until {to}"))
}

fn shown(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

/// What is read of a certificate.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// Unix seconds.
    not_before: i64,
    not_after: i64,
    /// Issuer and subject are the same.
    self_issued: bool,
}

/// Reads RFC 5280 §4.1 up to the subject: version, serial, algorithm, issuer, validity, subject.
fn facts(certificate: &[u8]) -> Option<Facts> {
    let (_, outer, _) = element(certificate)?;
    let (_, mut fields, _) = element(outer)?;
    let mut next = || {
        let (tag, content, rest) = element(fields)?;
        fields = rest;
        Some((tag, content))
    };
    let (version, _) = next()?;
    if version != 0xa0 {
        return None;
    }
    let (_serial, _algorithm) = (next()?, next()?);
    let (_, issuer) = next()?;
    let (_, validity) = next()?;
    let (_, subject) = next()?;
    let (tag, from, rest) = element(validity)?;
    let not_before = time(tag, from)?;
    let (tag, to, _) = element(rest)?;
    Some(Facts {
        not_before,
        not_after: time(tag, to)?,
        self_issued: issuer == subject,
    })
}

/// One element of DER: tag, content, and what follows.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = octets.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let add = |sum: usize, octet: &u8| (sum << 8) | usize::from(*octet);
            (length.iter().fold(0, add), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// UTCTime `YYMMDDhhmmssZ` or GeneralizedTime `YYYYMMDDhhmmssZ`, always UTC (RFC 5280 §4.1.2.5).
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let whole = match (tag, text.len()) {
        (0x17, 12) if text < "5" => format!("20{text}"),
        (0x17, 12) => format!("19{text}"),
        (0x18, 14) => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", whole).ok()?;
    Some(
        time.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_second(),
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use galerne_core::doctor::Severity;
    use galerne_sim::tls::TestCa;

    use super::*;

    fn openssl(arguments: &[&str]) -> String {
        let output = Command::new("openssl").args(arguments).output();
        let output = output.expect("openssl");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A self-signed certificate as people make it, valid beyond 2050, where the form of dates
    /// changes.
    fn made_by_openssl(certs: &Path, stem: &str, name: &str) {
        let file = |end: &str| certs.join(format!("{stem}.{end}")).display().to_string();
        let names = format!("subjectAltName=DNS:{name}");
        let (key, pem) = (file("key"), file("pem"));
        openssl(&[
            "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x", "-days", "10000",
            "-addext", &names, "-keyout", &key, "-out", &pem,
        ]);
    }

    /// What openssl reads.
    fn dates(certs: &Path, stem: &str) -> [i64; 2] {
        let file = certs.join(format!("{stem}.pem")).display().to_string();
        let said = openssl(&[
            "x509", "-noout", "-dates", "-dateopt", "iso_8601", "-in", &file,
        ]);
        ["notBefore=", "notAfter="].map(|name| {
            let line = said
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.parse::<jiff::Timestamp>().unwrap().as_second()
        })
    }

    fn pem(certs: &Path, stem: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(certs.join(format!("{stem}.pem")))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn conf_29_a_certificate_that_ended_or_ends_soon_or_is_for_another_name_is_found() {
        let folder = tempfile::tempdir().unwrap();
        made_by_openssl(folder.path(), "own", "mta.example.net");
        let chain = pem(folder.path(), "own");
        let read = facts(&chain[0]).unwrap();
        let [not_before, not_after] = dates(folder.path(), "own");
        let expected = Facts {
            not_before,
            not_after,
            self_issued: true,
        };
        assert_eq!(read, expected);
        let at = |now: i64, name: &str| judge("certs/own.pem", Some(name), &chain, now);
        let severity = |now: i64| at(now, "mta.example.net").severity;
        assert_eq!(severity(expected.not_after + 1), Severity::Act);
        assert_eq!(severity(expected.not_before - 1), Severity::Act);
        assert_eq!(severity(expected.not_after - SOON + 1), Severity::Act);
        let good = at(expected.not_before, "mta.example.net");
        assert_eq!(good.severity, Severity::Advice);
        assert_eq!(
            good.found,
            format!("self-signed, until {}", shown(not_after))
        );
        let other = at(expected.not_before, "other.example.net");
        assert_eq!(other.severity, Severity::Act);
        assert_eq!(other.found, "it is not for other.example.net");
        let any = judge("certs/.def.pem", None, &chain, expected.not_before);
        assert_eq!(any.severity, Severity::Advice, "{any}");
    }

    #[test]
    fn conf_29_a_chain_by_an_authority_is_good_and_damaged_ones_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = TestCa::new().certificate(&["mta.example.net"]);
        fs::write(folder.path().join("own.pem"), &certificate.chain_pem).unwrap();
        let chain = pem(folder.path(), "own");
        let good = judge(
            "certs/own.pem",
            Some("mta.example.net"),
            &chain,
            1_800_000_000,
        );
        assert_eq!(good.severity, Severity::Good, "{good}");
        let der = chain[0].as_ref();
        for end in 0..der.len() {
            assert_eq!(facts(&der[..end]), None, "cut at {end}");
        }
        let none = judge("certs/own.pem", None, &[], 0);
        assert_eq!(none.severity, Severity::Act);
    }
}
