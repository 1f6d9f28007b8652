//! Names: domains, MX patterns, users, groups, hosts, lists, mailboxes.

use galerne_core::settings::Mailbox;

use super::{Read, address, list};

/// A host or domain name in lower case without trailing dot; other scripts become A-labels.
pub fn domain(value: &str) -> Read<String> {
    let name = value.strip_suffix('.').unwrap_or(value);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !name.is_ascii()
        && let Ok(mailbox) = Mailbox::parse(&format!("x@{name}"))
    {
        return Ok(mailbox.ascii_domain().into_owned());
    }
    match name.len() <= 253 && name.split('.').all(label) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err("expected a host or domain name".into()),
    }
}

/// Domain names (CONF-15).
pub fn domains(value: &str) -> Read<Vec<String>> {
    list(value).map(domain).collect()
}

/// MX name patterns: domain names in which `*` stands for any characters, lower case.
pub fn mx_patterns(value: &str) -> Read<Vec<String>> {
    list(value)
        .map(|item| {
            let name = item.strip_suffix('.').unwrap_or(item);
            let plain = name.replace('*', "a");
            match domain(&plain).is_ok() || address(name).is_ok() {
                true => Ok(name.to_ascii_lowercase()),
                false => Err("expected MX names, with * for any characters".to_string()),
            }
        })
        .collect()
}

/// Names of groups or hosts, with or without their `@`; lower case. `*` is left as it is.
pub fn at_names(value: &str) -> Read<Vec<String>> {
    list(value)
        .map(|item| match item.strip_prefix('@').unwrap_or(item) {
            "*" => Ok("*".to_string()),
            name => group_name(&name.to_ascii_lowercase()).map(|()| name.to_ascii_lowercase()),
        })
        .collect()
}

/// A group or host name: a–z, 0–9, hyphen, at most 30 (CONF-66).
pub fn group_name(name: &str) -> Read<()> {
    let fits = (1..=30).contains(&name.len());
    let chars = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match fits && name.bytes().all(chars) {
        true => Ok(()),
        false => Err("expected @ and 1 to 30 characters a-z, 0-9 and hyphen".into()),
    }
}

/// A user name: A–Z, 0–9, hyphen, at most 20, not beginning with `rf` (CONF-37); lower case.
pub fn user_name(name: &str) -> Read<String> {
    let fits = (1..=20).contains(&name.len());
    if !fits || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("a user name has 1 to 20 characters A-Z, 0-9 and hyphen".into());
    }
    let name = name.to_ascii_lowercase();
    match name.starts_with("rf") {
        true => Err("user names beginning with rf are reserved".into()),
        false => Ok(name),
    }
}

/// Names of lists: file names without extension.
pub fn list_names(value: &str) -> Read<Vec<String>> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.%".contains(&b);
    list(value)
        .map(
            |item| match !item.starts_with('.') && item.bytes().all(good) {
                true => Ok(item.to_ascii_lowercase()),
                false => Err("expected names of lists: letters, digits, - _ .".to_string()),
            },
        )
        .collect()
}

/// An address `local@domain`.
pub fn mailbox(value: &str) -> Read<Mailbox> {
    Mailbox::parse(value).map_err(|_| "expected an address local@domain".to_string())
}

/// Addresses (CONF-15).
pub fn mailboxes(value: &str) -> Read<Vec<Mailbox>> {
    list(value).map(mailbox).collect()
}

/// Local parts of addresses of ours.
pub fn local_parts(value: &str) -> Read<Vec<String>> {
    list(value)
        .map(|item| match Mailbox::parse(&format!("{item}@x")) {
            Ok(_) if !item.contains('@') => Ok(item.to_ascii_lowercase()),
            _ => Err("expected local parts, without @ and domain".to_string()),
        })
        .collect()
}

/// Sender patterns: addresses in which `*` stands for any characters, lower case.
pub fn sender_patterns(value: &str) -> Read<Vec<String>> {
    list(value)
        .map(|item| {
            let plain = item.replace('*', "a");
            match Mailbox::parse(&plain).is_ok() || Mailbox::parse(&format!("a{plain}")).is_ok() {
                true => Ok(item.to_ascii_lowercase()),
                false => Err("expected addresses, with * for any characters".to_string()),
            }
        })
        .collect()
}
