//! The names of our addresses: the reverse zone and the way back, and the name in EHLO.

use std::net::IpAddr;

use super::{Answer, Finding, unanswered};
use crate::zone_records::is_public;

/// The names that the reverse zone gives an outbound address, against the one that `[IP]` gives it.
/// Large receivers refuse addresses without a name that leads back.
pub fn judge_reverse(address: IpAddr, name: &str, names: &Answer<Vec<String>>) -> Finding {
    let check = "ptr";
    let advice = format!(
        "have whoever gave you {address} set its reverse-DNS name (PTR) to {name}, or put the name \
         it has into [IP]"
    );
    let finding = match names {
        Err(cause) => unanswered(check, &address.to_string(), cause),
        Ok(names) if names.is_empty() => {
            Finding::act(check, address, "no reverse-DNS name", name, advice)
        }
        Ok(names) if names.iter().any(|found| found.eq_ignore_ascii_case(name)) => {
            Finding::good(check, address, name)
        }
        Ok(names) => Finding::act(check, address, names.join(" "), name, advice),
    };
    seen_from_outside(finding, check, address)
}

/// What the name of an outbound address leads to: it must lead back to the address.
pub fn judge_ehlo(address: IpAddr, name: &str, found: &Answer<Vec<IpAddr>>) -> Finding {
    let check = "ehlo";
    let advice = format!("publish {name} {} {address}", kind(address));
    let finding = match found {
        Err(cause) => unanswered(check, name, cause),
        Ok(found) if found.contains(&address) => {
            Finding::good(check, name, format!("leads back to {address}"))
        }
        Ok(found) if found.is_empty() => {
            Finding::act(check, name, "the name has no address", address, advice)
        }
        Ok(found) => {
            let found: Vec<String> = found.iter().map(IpAddr::to_string).collect();
            Finding::act(check, name, found.join(" "), address, advice)
        }
    };
    seen_from_outside(finding, check, address)
}

/// The finding, where others see this very address; else what is to be said of that. From a loopback
/// address nobody but this host is reached, which sees it as it is.
fn seen_from_outside(finding: Finding, check: &'static str, address: IpAddr) -> Finding {
    if finding.severity == super::Severity::Good || is_public(address) {
        return finding;
    }
    match address.is_loopback() {
        true => loopback(check, address),
        false => inside(check, address),
    }
}

fn kind(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "A",
        IpAddr::V6(_) => "AAAA",
    }
}

/// Others see another address: what the DNS says of this one tells nothing.
fn inside(check: &'static str, address: IpAddr) -> Finding {
    Finding::act(
        check,
        address,
        "not a public address; others see another one, which cannot be told from here",
        "a reverse-DNS name that leads back, for the address that others see",
        "ask for the name of your public address: `dig -x ADDRESS`, then `dig NAME`",
    )
    .or_advice()
}

/// From there nobody else is reached: it is what `init` writes where it finds nothing better.
fn loopback(check: &'static str, address: IpAddr) -> Finding {
    Finding::act(
        check,
        address,
        "a loopback address: nothing but this host is reached from it",
        "the public addresses of this host, each with its reverse-DNS name",
        format!("put them into galerne.ini [IP] in place of {address}"),
    )
}
