//! `domains/` and `hosts/`: groups with their patterns, relay hosts (CONF-66 to CONF-78).

use std::sync::Arc;

use galerne_core::flow::params::Sections;
use galerne_core::qualify::{Pattern, Patterns, parse_line};
use galerne_core::settings::{Group, HostKind, Mailbox, RelayHost, Secret, Settings};

use crate::csv::Table;
use crate::finding::Level;
use crate::load::{Listed, Reader, flow, read_bounded};
use crate::registry::File;
use crate::sheet::Sheet;
use crate::values;

const DEFAULTS: &str = ".defflow.ini";

/// Fills in groups, catch-all and hosts.
pub fn read(reader: &mut Reader<'_>, settings: &mut Settings, listed: &Listed) {
    let names = reader.names("domains");
    let (defaults, flow) = match names.iter().any(|n| n == DEFAULTS) {
        true => read_defaults(reader),
        false => (Patterns::default(), Sections::default()),
    };
    settings.flow_defaults = Arc::new(flow);
    with_patterns(&mut settings.catch_all, defaults.clone());
    for name in names.iter().filter(|n| is_ini(n) && *n != DEFAULTS) {
        read_file(
            reader,
            settings,
            listed,
            &defaults,
            Place {
                directory: "domains",
                name,
            },
        );
    }
    for name in reader.names("hosts").iter().filter(|n| is_ini(n)) {
        read_file(
            reader,
            settings,
            listed,
            &defaults,
            Place {
                directory: "hosts",
                name,
            },
        );
    }
}

/// The name behind the `@` of a group file.
pub fn stem(file: &str) -> Option<&str> {
    let name = file.get(..file.len().checked_sub(4)?)?;
    is_ini(file).then(|| name.strip_prefix('@')).flatten()
}

fn is_ini(file: &str) -> bool {
    file.len() > 4
        && file
            .get(file.len() - 4..)
            .is_some_and(|e| e.eq_ignore_ascii_case(".ini"))
}

fn with_patterns(group: &mut Arc<Group>, patterns: Patterns) {
    Arc::make_mut(group).patterns = patterns;
}

/// Where a group file lies.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: &'a str,
    name: &'a str,
}

fn read_file(
    reader: &mut Reader<'_>,
    settings: &mut Settings,
    listed: &Listed,
    defaults: &Patterns,
    place: Place<'_>,
) {
    let file = format!("{}/{}", place.directory, place.name);
    let in_hosts = place.directory == "hosts";
    let Some(name) = stem(place.name) else {
        let text = "not read: the name must be @<name>.ini";
        return reader.file_finding(&file, Level::Warning, text);
    };
    if (in_hosts || !name.is_empty())
        && let Err(why) = values::group_name(name)
    {
        return reader.file_finding(&file, Level::Error, &format!("{why} as the file name"));
    }
    let kind = if in_hosts { File::Host } else { File::Group };
    let Some(mut sheet) = reader.sheet(&file, kind, None) else {
        return;
    };
    let relay = in_hosts || sheet.flag("dns", "relay");
    let group = Arc::new(group(reader, &mut sheet, name, relay, defaults));
    let host = match relay {
        true => relay_host(&mut sheet, &group, listed),
        false => None,
    };
    if relay && settings.hosts.iter().any(|h| h.name == name) {
        sheet.error(
            "dns",
            "relay",
            &format!("there is another relay host @{name}"),
        );
    }
    if !reader.close(sheet) {
        return;
    }
    settings.hosts.extend(host.map(Arc::new));
    match in_hosts {
        true => {}
        false if name.is_empty() => settings.catch_all = group,
        false => settings.groups.push(group),
    }
}

fn group(
    reader: &mut Reader<'_>,
    sheet: &mut Sheet,
    name: &str,
    relay: bool,
    defaults: &Patterns,
) -> Group {
    let mut mx = sheet.or_default("dns", "mx", values::mx_patterns);
    if relay {
        // Its `mx` is where to connect; domains come by the alias file (CONF-76).
        mx.clear();
    } else if name.is_empty() && !mx.is_empty() {
        let text = "the group of all other domains takes no patterns; they are ignored";
        sheet.report(Level::Warning, "dns", "mx", text);
        mx.clear();
    }
    let own = patterns(sheet);
    let compiled = Patterns::with_defaults(own, defaults).unwrap_or_else(|why| {
        sheet.error("pattern", "-", &why);
        Patterns::default()
    });
    let aliases = match name.is_empty() || sheet.file.starts_with("hosts/") {
        true => Vec::new(),
        false => aliases(reader, name),
    };
    Group {
        name: name.to_string(),
        file: sheet.file.clone(),
        mx,
        domain: sheet.key("dns", "domain", values::domain).value().cloned(),
        cache: sheet.flag("dns", "cache"),
        aliases,
        relay: relay.then(|| name.to_string()),
        patterns: compiled,
        flow: flow::read(sheet),
    }
}

/// The lines of `[pattern]` in file order; each fault at its own line.
fn patterns(sheet: &mut Sheet) -> Vec<Pattern> {
    let lines = sheet.section("pattern");
    let lines: Vec<_> = lines
        .map(|(k, v, line)| (k.to_string(), v.to_string(), line))
        .collect();
    let mut own = Vec::new();
    for (name, value, line) in lines {
        match parse_line(&name, &value, format!("{}:{line}", sheet.file)) {
            Ok((pattern, warnings)) => {
                for text in warnings {
                    sheet.report(Level::Warning, "pattern", &name, &text);
                }
                own.push(pattern);
            }
            Err(why) => sheet.error("pattern", &name, &why),
        }
    }
    own
}

/// `.defflow.ini`: patterns and flow parameters for all groups (CONF-72).
fn read_defaults(reader: &mut Reader<'_>) -> (Patterns, Sections) {
    let file = format!("domains/{DEFAULTS}");
    let Some(mut sheet) = reader.sheet(&file, File::Group, None) else {
        return (Patterns::default(), Sections::default());
    };
    if sheet.headers().iter().any(|h| h.section == "dns") {
        let text = "a file of defaults describes no host; the section is ignored";
        sheet.report(Level::Warning, "dns", "-", text);
    }
    let own = patterns(&mut sheet);
    let compiled = Patterns::compile(own, Vec::new()).unwrap_or_else(|why| {
        sheet.error("pattern", "-", &why);
        Patterns::default()
    });
    let flow = flow::read(&mut sheet);
    match reader.close(sheet) {
        true => (compiled, flow),
        false => (Patterns::default(), Sections::default()),
    }
}

/// Domains of `@<name>_alias.csv` (CONF-68).
fn aliases(reader: &mut Reader<'_>, name: &str) -> Vec<String> {
    let file = format!("domains/@{name}_alias.csv");
    let Ok(bytes) = read_bounded(&reader.root.join(&file)) else {
        return Vec::new();
    };
    let table = match Table::parse(&bytes) {
        Ok(table) => table,
        Err(bad) => {
            let text = format!("line {}: {}; the file is ignored", bad.line, bad.why);
            reader.file_finding(&file, Level::Warning, &text);
            return Vec::new();
        }
    };
    if table.column("domain").is_none() && !bytes.is_empty() {
        let text = "expected the columns date and domain; the file is ignored";
        reader.file_finding(&file, Level::Warning, text);
    }
    let mut domains = Vec::new();
    let mut bad = Vec::new();
    for (line, text) in table.values("domain") {
        match values::domain(text.trim()) {
            Ok(domain) => domains.push(domain),
            Err(_) => bad.push(line),
        }
    }
    for (line, text) in table.values("date") {
        if !text.is_empty() && values::stamp(text).is_err() {
            bad.push(line);
        }
    }
    if let Some(line) = bad.first() {
        let text = format!("{} faulty lines, the first is line {line}", bad.len());
        reader.file_finding(&file, Level::Warning, &text);
    }
    domains
}

/// The relay host that a file describes; `None` with the fault reported.
fn relay_host(sheet: &mut Sheet, group: &Arc<Group>, listed: &Listed) -> Option<RelayHost> {
    let host = one_host(sheet);
    let ips = sheet.key("dns", "ip", values::addresses).value().cloned();
    for address in ips.iter().flatten().filter(|a| !listed.contains(a)) {
        sheet.error("dns", "ip", &format!("{address} is not listed in [IP]"));
    }
    let login = sheet.text("dns", "login");
    let password = sheet.text("dns", "passw").map(Secret);
    if login.is_some() != password.is_some() {
        let text = "AUTH needs login and passw; without both it is skipped";
        let key = if login.is_some() { "login" } else { "passw" };
        sheet.report(Level::Warning, "dns", key, text);
    }
    let overwrite = sheet.flag("dns", "overwrite");
    let is_address = |l: &String| Mailbox::parse(l).is_ok();
    if overwrite && !login.as_ref().is_some_and(is_address) {
        let text = "overwrite = 1 needs a login that is an e-mail address";
        sheet.error("dns", "overwrite", text);
    }
    Some(RelayHost {
        kind: HostKind::File,
        name: group.name.clone(),
        file: group.file.clone(),
        host: host?,
        port: sheet.or_default("dns", "port", values::port),
        ips: ips.filter(|i| !i.is_empty()),
        in_order: false,
        login,
        password,
        overwrite,
        authclear: sheet.flag("dns", "authclear"),
        verify: sheet.flag("dns", "verify"),
        ssl: None,
        group: Some(group.clone()),
    })
}

/// `mx` of a relay: one name or address without wildcards (CONF-74).
fn one_host(sheet: &mut Sheet) -> Option<String> {
    let names = sheet.or_default("dns", "mx", values::mx_patterns);
    let why = match names.as_slice() {
        [name] if !name.contains('*') => return Some(name.clone()),
        [_] => "wildcards are not allowed for a relay",
        [] => "a relay needs its host name or address in mx",
        _ => "expected one host name or address for a relay",
    };
    sheet.error("dns", "mx", why);
    None
}
