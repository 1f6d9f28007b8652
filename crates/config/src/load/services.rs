//! `[relay@<senderdomain>]` of a user file: the relay service (ROUTE-44 to ROUTE-59).

use std::net::IpAddr;
use std::sync::Arc;

use galerne_core::relay_service::MOST_ADDRESSES;
use galerne_core::settings::{HostKind, Key, Mailbox, RelayHost, RelayService, Secret};

use crate::finding::Level;
use crate::load::Listed;
use crate::sheet::Sheet;
use crate::values;

/// The services of a user file; what is wrong is reported.
pub fn read(
    sheet: &mut Sheet,
    hosts: &[Arc<RelayHost>],
    listed: &Listed,
) -> Vec<Arc<RelayService>> {
    let mut sections: Vec<String> = Vec::new();
    for header in sheet.headers() {
        if header.section.starts_with("relay@") && !sections.contains(&header.section) {
            sections.push(header.section.clone());
        }
    }
    let services = sections
        .iter()
        .filter_map(|section| service(sheet, section, hosts, listed));
    services.map(Arc::new).collect()
}

fn service(
    sheet: &mut Sheet,
    section: &str,
    hosts: &[Arc<RelayHost>],
    listed: &Listed,
) -> Option<RelayService> {
    let name = section.strip_prefix("relay@").unwrap_or_default();
    let domain = match values::domain(name) {
        Ok(domain) => domain,
        Err(_) => {
            sheet.error(section, "-", "expected a sender domain behind relay@");
            return None;
        }
    };
    let addresses = addresses(sheet, section, &domain);
    let host = host(sheet, section, hosts, listed)?;
    refuse_smime(sheet, section);
    Some(RelayService {
        domain,
        addresses,
        host: Arc::new(host),
    })
}

fn host(
    sheet: &mut Sheet,
    section: &str,
    hosts: &[Arc<RelayHost>],
    listed: &Listed,
) -> Option<RelayHost> {
    let target = target(sheet, section)?;
    let ip = sheet.key(section, "ip", values::address).value().copied();
    if let Some(ip) = ip.filter(|ip| !listed.contains(ip)) {
        sheet.error(section, "ip", &format!("{ip} is not listed in [IP]"));
    }
    let login = sheet.text(section, "login");
    let password = sheet.text(section, "passw").map(Secret);
    if login.is_some() != password.is_some() {
        let text = "AUTH needs login and passw; without both it is skipped";
        let key = if login.is_some() { "login" } else { "passw" };
        sheet.report(Level::Warning, section, key, text);
    }
    let described = hosts.iter().find(|h| h.host.eq_ignore_ascii_case(&target));
    let ssl = sheet.key(section, "ssl", values::ssl).value().copied();
    Some(RelayHost {
        kind: HostKind::Service,
        name: section.to_string(),
        file: sheet.file.clone(),
        host: target,
        port: sheet.or_default(section, "port", values::port),
        ips: ip.map(|ip| vec![ip]),
        in_order: false,
        login,
        password,
        overwrite: false,
        authclear: described.is_some_and(|h| h.authclear),
        verify: described.is_none_or(|h| h.verify),
        ssl,
        group: described.and_then(|h| h.group.clone()),
    })
}

/// ROUTE-46: a fully qualified name, nothing else.
fn target(sheet: &mut Sheet, section: &str) -> Option<String> {
    let why = match sheet.key(section, "target", values::domain) {
        Key::Set(name) if name.parse::<IpAddr>().is_ok() => {
            "expected a fully qualified domain name, not an address"
        }
        Key::Set(name) if !name.contains('.') => {
            "expected a fully qualified domain name, not a single label"
        }
        Key::Set(name) => return Some(name),
        // A bad one was reported where it stands.
        Key::Absent if sheet.has(section, "target") => return None,
        Key::Absent | Key::Empty => "the host that receives the mail must be named",
    };
    sheet.error(section, "target", why);
    None
}

/// ROUTE-47: at most ten, all of the sender domain.
fn addresses(sheet: &mut Sheet, section: &str, domain: &str) -> Vec<Mailbox> {
    let addresses = sheet.or_default(section, "address", values::mailboxes);
    if addresses.len() > MOST_ADDRESSES {
        let text = format!(
            "{} addresses, at most {MOST_ADDRESSES} are allowed",
            addresses.len()
        );
        sheet.error(section, "address", &text);
    }
    let is_foreign = |a: &&Mailbox| !a.ascii_domain().eq_ignore_ascii_case(domain);
    if let Some(foreign) = addresses.iter().find(is_foreign) {
        let text = format!("{foreign} is no address of {domain}");
        sheet.error(section, "address", &text);
    }
    addresses
}

/// ROUTE-49, ROUTE-50: what the target receives is not signed by us.
fn refuse_smime(sheet: &mut Sheet, section: &str) {
    let routing = sheet.headers().iter().map(|h| h.section.clone());
    let mut routing: Vec<String> = routing
        .filter(|s| s == "routing" || s.starts_with("routing@"))
        .collect();
    routing.dedup();
    for signs in routing {
        if sheet.key(&signs, "smime", values::flag) == Key::Set(true) {
            let text = format!("cannot be combined with [{signs}] smime = 1");
            sheet.error(section, "target", &text);
            return;
        }
    }
}
