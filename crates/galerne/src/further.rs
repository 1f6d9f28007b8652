//! What only the whole program can tell of a configuration: whether its certificates, its trust
//! anchors, its user and its maildrop can be used. Part of every reading: start, reload and `check`.

use std::fs;
use std::path::Path;

use galerne_config::document::{Document, same};
use galerne_config::load::MAIN_FILE;
use galerne_config::{Finding, Level};
use galerne_core::settings::Settings;
use galerne_dns::check_trust_anchor;
use galerne_inbound::certificates;
use galerne_outbound::ClientTls;

use crate::commands::doctor::certificates::out_of_time;
use crate::{maildrop, privileges};

/// The findings for settings read from `root`.
pub fn findings(root: &Path, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    match certificates::server_config(&root.join("certs"), &settings.hostname) {
        Ok((_, found)) => findings.extend(found.errors.into_iter().map(|(file, why)| {
            let text = format!("{why}; the certificate is not used");
            finding(&file, 1, Level::Error, "-", "-", text)
        })),
        Err(why) => findings.push(finding("certs/.def.pem", 1, Level::Error, "-", "-", why)),
    }
    for (file, why) in out_of_time(&root.join("certs")) {
        let text = format!("{why}; clients that verify it turn away");
        findings.push(finding(&file, 1, Level::Warning, "-", "-", text));
    }
    if let Some(file) = &settings.rfmta.cafile
        && let Err(why) = ClientTls::new(Some(file))
    {
        findings.push(main_file(root, Level::Error, "rfmta", "cafile", why));
    }
    if let Some(file) = &settings.dns.trustanchor
        && let Err(why) = check_trust_anchor(file)
    {
        findings.push(main_file(root, Level::Error, "dns", "trustanchor", why));
    }
    for (key, why) in maildrop::findings(settings) {
        findings.push(main_file(root, Level::Warning, "maildrop", key, why));
    }
    if let Some(runas) = &settings.runas {
        let (level, why) = match privileges::identity(runas) {
            Ok(_) => return findings,
            Err(why) if privileges::is_root() => (Level::Error, why),
            Err(why) => (
                Level::Warning,
                format!("{why}; as root the program would not start"),
            ),
        };
        findings.push(main_file(root, level, "galerne", "runas", why));
    }
    findings
}

/// A finding about a key of the main file, with the line on which it stands.
pub fn main_file(root: &Path, level: Level, section: &str, key: &str, text: String) -> Finding {
    let document = fs::read(root.join(MAIN_FILE))
        .ok()
        .and_then(|bytes| Document::from_bytes(&bytes).ok());
    let is_section =
        |name: &str| same(name, section) || (section == "galerne" && same(name, "rafale"));
    let line = document.and_then(|document| {
        let entries = document
            .entries()
            .filter(|e| is_section(e.section) && same(e.key, key));
        entries.last().map(|entry| entry.line)
    });
    finding(MAIN_FILE, line.unwrap_or(1), level, section, key, text)
}

fn finding(
    file: &str,
    line: usize,
    level: Level,
    section: &str,
    key: &str,
    text: String,
) -> Finding {
    Finding {
        file: file.into(),
        line,
        level,
        section: section.into(),
        key: key.into(),
        text,
    }
}
