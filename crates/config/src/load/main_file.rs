//! `galerne.ini` (CONF-22 to CONF-28).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use galerne_core::settings::{
    Dns, Dnssec, Group, Key, Maildrop, OutboundIp, QueueKeys, RfMta, RfRelay, RoutingKeys, Settings,
};

use crate::finding::Level;
use crate::load::routing::{self, Hosts};
use crate::load::{Listed, LoadOptions};
use crate::sheet::Sheet;
use crate::values;

/// Settings with everything that the main file says, and the addresses that `[IP]` lists.
pub fn read(sheet: &mut Sheet, root: &Path, options: LoadOptions<'_>) -> (Settings, Listed) {
    let (outbounds, listed, first) = addresses(sheet, options);
    let spool = sheet.or_default("rfuser", "spool", path);
    let hostname = outbounds.first().map(|o| o.name.clone()).or(first);
    let settings = Settings {
        root: root.to_path_buf(),
        spool: root.join(spool),
        rfrelay: rfrelay(sheet),
        rfmta: rfmta(sheet, root),
        queue: queue(sheet),
        message: routing::message(sheet, "relay"),
        routing: routing::keys(sheet, "routing"),
        dns: Dns {
            resolvers: sheet.or_default("dns", "resolver", values::resolvers),
            timeout: sheet
                .key("dns", "timeout", values::duration)
                .value()
                .copied(),
            dnssec: sheet.key("dns", "dnssec", dnssec).value().copied(),
            trustanchor: file(sheet, root, "dns", "trustanchor"),
        },
        accounts: Vec::new(),
        groups: Vec::new(),
        flow_defaults: Arc::default(),
        catch_all: Arc::new(Group {
            name: String::new(),
            file: "domains/@.ini".into(),
            mx: Vec::new(),
            domain: None,
            cache: false,
            aliases: Vec::new(),
            relay: None,
            patterns: Default::default(),
            flow: Default::default(),
        }),
        hosts: Vec::new(),
        keys: Vec::new(),
        runas: sheet.text("galerne", "runas"),
        logage: number(sheet, "galerne", "logage"),
        log_json: sheet.or_default("galerne", "log", |v| Ok(v.eq_ignore_ascii_case("json"))),
        hostname: hostname.unwrap_or_else(host_name),
        outbounds: outbounds.into(),
    };
    check_dane(sheet, &settings.dns);
    (settings, listed)
}

/// Who asks for DANE in so many words must get DNSSEC too; the default says nothing.
fn check_dane(sheet: &mut Sheet, dns: &Dns) {
    let asked = sheet.key("rfmta", "dane", values::flag).value() == Some(&true);
    let elsewhere = || {
        dns.resolvers
            .iter()
            .any(|server| !server.ip().is_loopback())
    };
    let found = match dns.dnssec {
        Some(Dnssec::Off) => "[dns] dnssec is off",
        None if elsewhere() => {
            "[dns] dnssec is off where a resolver is not loopback and it is unset"
        }
        _ => return,
    };
    if asked {
        let text = format!(
            "DANE is never applied: {found}; expected dnssec = validate, or trust-ad with a \
             validating resolver that is trusted"
        );
        sheet.report(Level::Warning, "rfmta", "dane", &text);
    }
}

/// `[IP]`: usable addresses, all listed ones, and the name of the first (CONF-23, CONF-25).
fn addresses(
    sheet: &mut Sheet,
    options: LoadOptions<'_>,
) -> (Vec<Arc<OutboundIp>>, Listed, Option<String>) {
    let entries: Vec<_> = sheet
        .section("ip")
        .map(|(key, value, _)| (key.to_string(), value.to_string()))
        .collect();
    let mut outbounds: Vec<Arc<OutboundIp>> = Vec::new();
    let mut listed = HashSet::new();
    let mut first = None;
    for (key, value) in entries {
        let address = match values::address(&key) {
            Ok(a) if !a.is_unspecified() && !a.is_multicast() => a,
            Ok(_) => {
                sheet.error("ip", &key, "expected an address of this host");
                continue;
            }
            Err(why) => {
                sheet.error("ip", &key, &format!("{why} as the key"));
                continue;
            }
        };
        if !listed.insert(address) {
            sheet.error("ip", &key, "the same address is listed twice");
        } else if value.is_empty() {
            let text = "the address has no name; expected its reverse-DNS name";
            sheet.error("ip", &key, text);
        } else if let Ok(name) = values::domain(&value) {
            first.get_or_insert_with(|| name.clone());
            if options.no_bind_check || (options.on_host)(address) {
                outbounds.push(Arc::new(OutboundIp { address, name }));
            } else {
                let text = "not an address of this host; it is skipped";
                sheet.report(Level::Warning, "ip", &key, text);
            }
        }
    }
    if outbounds.is_empty() {
        let text = "no usable address: nothing can be sent";
        sheet.report(Level::Warning, "ip", "-", text);
    }
    (outbounds, listed, first)
}

fn rfrelay(sheet: &mut Sheet) -> RfRelay {
    let s = "rfrelay";
    RfRelay {
        listen: sheet.or_default(s, "listen", |v| values::listens(v, 25, 465)),
        threadnb: number(sheet, s, "threadnb"),
        maxperip: number(sheet, s, "maxperip"),
        maxsize: sheet.or_default(s, "maxsize", values::size),
        maxrcpt: number(sheet, s, "maxrcpt"),
        barelf: sheet.or_default(s, "barelf", values::barelf),
        received: sheet.key(s, "received", values::flag).value().copied(),
        keepdirective: sheet.flag(s, "keepdirective"),
        blocktemp: sheet.flag(s, "blocktemp"),
        permcode: sheet.flag(s, "permcode"),
        chunking: sheet.flag(s, "chunking"),
        proxyfrom: sheet.or_default(s, "proxyfrom", values::networks),
        dmarcaddr: sheet.or_default(s, "dmarcaddr", values::local_parts),
        fbladdr: sheet.or_default(s, "fbladdr", values::local_parts),
    }
}

fn rfmta(sheet: &mut Sheet, root: &Path) -> RfMta {
    let s = "rfmta";
    RfMta {
        threadnb: number(sheet, s, "threadnb"),
        mxport: sheet.or_default(s, "mxport", values::port),
        cafile: file(sheet, root, s, "cafile"),
        connecttimeout: sheet.or_default(s, "connecttimeout", values::duration),
        idle: sheet.or_default(s, "idle", values::duration),
        grace: sheet.or_default(s, "grace", values::duration),
        authclear: sheet.flag(s, "authclear"),
        verify: sheet.flag(s, "verify"),
        dane: sheet.flag(s, "dane"),
        mtasts: sheet.flag(s, "mtasts"),
        mtastsport: sheet.or_default(s, "mtastsport", values::port),
    }
}

fn queue(sheet: &mut Sheet) -> QueueKeys {
    let s = "queue";
    let text = |sheet: &mut Sheet, key| sheet.text("maildrop", key).filter(|t| !t.is_empty());
    QueueKeys {
        qmsize: sheet.or_default("galerne", "qmsize", values::count),
        qmmemo: sheet.or_default("galerne", "qmmemo", values::count),
        maxage: sheet.or_default(s, "maxage", values::duration),
        retry: sheet.or_default(s, "retry", pauses),
        unknowndelay: sheet.or_default(s, "unknowndelay", values::duration),
        sync: sheet.flag(s, "sync"),
        minfree: sheet.or_default(s, "minfree", values::size),
        tracekeep: sheet.or_default(s, "tracekeep", values::duration),
        maildrop: Maildrop {
            group: text(sheet, "group"),
            user: text(sheet, "user"),
            origin: text(sheet, "origin"),
        },
    }
}

/// `5m 10m 1h`: at least one, none of them nothing.
fn pauses(value: &str) -> values::Read<Vec<Duration>> {
    let pauses: values::Read<Vec<Duration>> = value
        .split_ascii_whitespace()
        .map(values::duration)
        .collect();
    match pauses {
        Ok(pauses) if pauses.is_empty() || pauses.iter().any(Duration::is_zero) => {
            Err("expected one or more pauses such as 5m 1h".into())
        }
        pauses => pauses,
    }
}

/// A file that a key names, if it can be read.
fn file(sheet: &mut Sheet, root: &Path, section: &str, key: &str) -> Option<PathBuf> {
    let file = root.join(sheet.text(section, key)?);
    if fs::File::open(&file).is_err() {
        sheet.error(section, key, "the file cannot be opened");
    }
    Some(file)
}

fn dnssec(value: &str) -> values::Read<Dnssec> {
    match value.to_ascii_lowercase().as_str() {
        "validate" => Ok(Dnssec::Validate),
        "trust-ad" => Ok(Dnssec::TrustAd),
        "off" => Ok(Dnssec::Off),
        _ => Err("expected validate, trust-ad or off".into()),
    }
}

/// What `[routing]` of the main file names must exist.
pub fn check_routing(sheet: &mut Sheet, keys: &RoutingKeys, listed: &Listed, hosts: &Hosts<'_>) {
    if let Key::Set(addresses) = &keys.ip {
        for address in addresses.iter().filter(|a| !listed.contains(a)) {
            sheet.error("routing", "ip", &format!("{address} is not listed in [IP]"));
        }
    }
    if let Key::Set(route) = &keys.route {
        hosts.check(sheet, "routing", "route", route);
    }
}

fn number<N: TryFrom<u64> + Default>(sheet: &mut Sheet, section: &str, key: &str) -> N {
    let n = sheet.or_default(section, key, values::count);
    N::try_from(n).unwrap_or_default()
}

fn path(value: &str) -> values::Read<PathBuf> {
    Ok(PathBuf::from(value))
}

/// The host's own name, for greetings where `[IP]` gives none.
fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| values::domain(text.trim()).ok())
        .unwrap_or_else(|| "localhost".into())
}
