//! Whether mail can leave: from each outbound a connection to somebody's port 25, and a greeting.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use galerne_core::doctor::{Finding, Severity};
use galerne_core::settings::{Account, Key, Settings};
use galerne_dns::{HickoryResolver, MxLookup, Resolver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::names::addresses;
use crate::sockets::is_on_host;

/// Domains whose mail hosts are asked when no other is named.
const WELL_KNOWN: [&str; 3] = ["gmail.com", "outlook.com", "yahoo.com"];
/// Time to find the mail hosts.
const LONGEST_SEARCH: Duration = Duration::from_secs(10);
/// Most octets of a greeting that are read.
const LONGEST_GREETING: usize = 512;

/// One finding for each outbound.
pub async fn findings(
    settings: &Settings,
    resolver: &HickoryResolver,
    probe: Option<&str>,
) -> Vec<Finding> {
    let search = targets(resolver, settings.rfmta.mxport, probe);
    let targets = match tokio::time::timeout(LONGEST_SEARCH, search).await {
        Ok(Ok(targets)) => targets,
        Ok(Err(why)) => return vec![unknown(probe, &why)],
        Err(_) => return vec![unknown(probe, "the name servers do not answer")],
    };
    let mut findings = Vec::new();
    let is_needed = sends_directly(settings);
    for outbound in &settings.outbounds {
        let from = outbound.address;
        let same = |target: &&SocketAddr| target.is_ipv4() == from.is_ipv4();
        let targets: Vec<SocketAddr> = targets.iter().filter(same).copied().collect();
        let finding = outbound_finding(from, targets, settings.rfmta.connecttimeout).await;
        findings.push(match finding.severity {
            Severity::Act if !is_needed => finding.or_advice(),
            _ => finding,
        });
    }
    findings
}

/// Whether some mail goes to the MX of its recipients: not where relay hosts take all of it.
fn sends_directly(settings: &Settings) -> bool {
    let through_hosts = |account: &Account| match &account.routing.route {
        Key::Set(hosts) => !hosts.is_empty(),
        Key::Empty => false,
        Key::Absent => settings.routing.route.value().is_some(),
    };
    let mut accounts = settings.accounts.iter();
    settings.accounts.is_empty() || !accounts.all(|account| through_hosts(account))
}

/// Nobody to ask.
fn unknown(probe: Option<&str>, why: &str) -> Finding {
    Finding::act(
        "port25",
        probe.unwrap_or("others"),
        format!("not reachable: {why}"),
        "a mail host to connect to",
        "see to the network and to [dns] resolver, or name one: --probe HOST[:PORT]",
    )
}

async fn outbound_finding(from: IpAddr, targets: Vec<SocketAddr>, limit: Duration) -> Finding {
    let check = "port25";
    if targets.is_empty() {
        let advice = "name one of this family: --probe HOST[:PORT]";
        return Finding::act(
            check,
            from,
            "no mail host of this family to ask",
            "one",
            advice,
        )
        .or_advice();
    }
    let port = targets.first().map_or(25, SocketAddr::port);
    let mut tries = JoinSet::new();
    for target in targets {
        tries.spawn(async move { (target, greeting(from, target, limit).await) });
    }
    let mut troubles = Vec::new();
    while let Some(Ok((target, result))) = tries.join_next().await {
        match result {
            Ok(greeting) if greeting.starts_with("220") => {
                return Finding::good(check, from, format!("reaches {target}: {greeting}"));
            }
            Ok(greeting) => troubles.push(format!("{target} refuses us: {greeting}")),
            Err(why) => troubles.push(format!("{target}: {why}")),
        }
    }
    let advice = format!(
        "port {port} to the outside is closed: ask your provider to open it, or send through a \
         relay host (hosts/)"
    );
    troubles.sort();
    let found = format!("not reachable: {}", troubles.join("; "));
    Finding::act(check, from, found, "a greeting 220", advice)
}

/// The first line that a host says, or why there is none.
async fn greeting(from: IpAddr, target: SocketAddr, limit: Duration) -> Result<String, String> {
    let talk = async {
        let socket = match target {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(|e| e.to_string())?;
        // An address that this host does not have is reported elsewhere.
        if is_on_host(from) {
            socket
                .bind(SocketAddr::new(from, 0))
                .map_err(|e| e.to_string())?;
        }
        let mut stream = socket.connect(target).await.map_err(|e| e.to_string())?;
        let mut line = Vec::new();
        let mut octets = [0; LONGEST_GREETING];
        while !line.contains(&b'\n') && line.len() < LONGEST_GREETING {
            match stream.read(&mut octets).await.map_err(|e| e.to_string())? {
                0 => return Err("closed without a greeting".to_owned()),
                length => line.extend_from_slice(octets.get(..length).unwrap_or_default()),
            }
        }
        let _ = stream.write_all(b"QUIT\r\n").await;
        Ok(first_line(&line))
    };
    match tokio::time::timeout(limit, talk).await {
        Ok(result) => result,
        Err(_) => Err(format!("no greeting in {} s", limit.as_secs())),
    }
}

fn first_line(octets: &[u8]) -> String {
    let line = octets.split(|octet| *octet == b'\n').next();
    let text = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
    let plain = |c: char| if c.is_control() { '?' } else { c };
    text.trim_end().chars().take(120).map(plain).collect()
}

/// Whom to connect to.
async fn targets(
    resolver: &HickoryResolver,
    port: u16,
    probe: Option<&str>,
) -> Result<Vec<SocketAddr>, String> {
    if let Some(probe) = probe {
        let (host, port) = host_and_port(probe, port)?;
        let found = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => addresses(resolver, &host).await?,
        };
        if found.is_empty() {
            return Err(format!("{host} has no address"));
        }
        return Ok(found
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect());
    }
    let mut targets = Vec::new();
    let mut last = String::new();
    for domain in WELL_KNOWN {
        match mail_host(resolver, domain).await {
            Ok(found) => {
                let of = |four: bool| found.iter().find(|ip| ip.is_ipv4() == four);
                let one_each = [of(true), of(false)].into_iter().flatten();
                targets.extend(one_each.map(|ip| SocketAddr::new(*ip, port)));
            }
            Err(why) => {
                last = why;
                break;
            }
        }
    }
    match targets.is_empty() {
        true => Err(last),
        false => Ok(targets),
    }
}

async fn mail_host(resolver: &HickoryResolver, domain: &str) -> Result<Vec<IpAddr>, String> {
    let found = resolver.mx(domain).await.map_err(|e| e.to_string())?;
    let MxLookup::Records(mut records) = found.value else {
        return Err(format!("{domain} has no MX"));
    };
    records.sort();
    match records.first() {
        Some((_, host)) => addresses(resolver, host).await,
        None => Err(format!("{domain} has no MX")),
    }
}

/// `HOST`, `HOST:PORT`, `ADDRESS`, `[IPV6]:PORT`.
pub fn host_and_port(text: &str, port: u16) -> Result<(String, u16), String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip().to_string(), address.port()));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text.to_owned(), port));
    }
    match text.rsplit_once(':') {
        Some((host, number)) if !host.is_empty() => number
            .parse()
            .map(|port| (host.to_owned(), port))
            .map_err(|_| format!("{text}: expected HOST or HOST:PORT")),
        Some(_) => Err(format!("{text}: expected HOST or HOST:PORT")),
        None if text.is_empty() => Err("expected HOST or HOST:PORT".to_owned()),
        None => Ok((text.to_owned(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_6_a_probe_is_a_host_with_or_without_port() {
        let read = |text: &str| host_and_port(text, 25).ok();
        let pair = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(read("mx.example.org"), pair("mx.example.org", 25));
        assert_eq!(read("mx.example.org:2525"), pair("mx.example.org", 2525));
        assert_eq!(read("192.0.2.1"), pair("192.0.2.1", 25));
        assert_eq!(read("192.0.2.1:26"), pair("192.0.2.1", 26));
        assert_eq!(read("2001:db8::1"), pair("2001:db8::1", 25));
        assert_eq!(read("[2001:db8::1]:26"), pair("2001:db8::1", 26));
        for bad in ["", "mx.example.org:", "mx.example.org:x", "mx:70000", ":25"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_greeting_cannot_play_with_the_terminal() {
        assert_eq!(first_line(b"220 mx\x1b[31m\r\nmore"), "220 mx?[31m");
        assert_eq!(first_line(&[b'a'; 600]).len(), 120);
    }
}
