//! What the start prints so that an operator can verify it (CONF-8).

use std::path::Path;

use galerne_core::settings::{Account, ListenTls, Settings};

use crate::load::names;

/// Addresses, listeners, users, groups, hosts.
pub fn lines(settings: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    for ip in &settings.outbounds {
        lines.push(format!("IP {} {}", ip.address, ip.name));
    }
    for listen in &settings.rfrelay.listen {
        let tls = match listen.tls {
            ListenTls::Plain => "clear, STARTTLS",
            ListenTls::Implicit => "TLS",
        };
        lines.push(format!("listen {} SMTP ({tls})", listen.address));
    }
    lines.extend(settings.accounts.iter().map(|a| user(a)));
    for group in &settings.groups {
        let (mx, aliases) = (group.mx.len(), group.aliases.len());
        let patterns = group.patterns.iter().count();
        lines.push(format!(
            "group @{} ({mx} MX patterns, {aliases} aliases, {patterns} reply patterns)",
            group.name
        ));
    }
    let patterns = settings.catch_all.patterns.iter().count();
    lines.push(format!("group @ ({patterns} reply patterns)"));
    for host in &settings.hosts {
        let auth = if host.login.is_some() && host.password.is_some() {
            ", AUTH"
        } else {
            ""
        };
        lines.push(format!(
            "host @{} {} port {}{auth}",
            host.name, host.host, host.port
        ));
    }
    for key in &settings.keys {
        let stem = key
            .file
            .trim_start_matches("keys/")
            .trim_end_matches(".pem");
        let shown = crate::sheet::printable(stem);
        lines.push(format!("key {shown} ({})", key.algorithm.word()));
    }
    lines
}

fn user(account: &Account) -> String {
    let mut ways = Vec::new();
    match (&account.login, &account.password) {
        (Some(login), Some(_)) if account.smtpssl => ways.push(format!("login {login} over TLS")),
        (Some(login), Some(_)) => ways.push(format!("login {login}")),
        _ => {}
    }
    if !account.smtpip.is_empty() {
        let networks = account
            .smtpip
            .iter()
            .map(|n| format!("{}/{}", n.address, n.prefix));
        ways.push(format!("from {}", networks.collect::<Vec<_>>().join(" ")));
    }
    match ways.is_empty() {
        true => format!("user {}", account.name),
        false => format!("user {} ({})", account.name, ways.join(", ")),
    }
}

/// Certificates, by their file names.
pub fn certificates(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names(&root.join("certs")) {
        if let Some(stem) = name.strip_suffix(".pem") {
            lines.push(format!("certificate {}", crate::sheet::printable(stem)));
        }
    }
    lines
}
