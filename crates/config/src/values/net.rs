//! Addresses, networks, listeners and ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use galerne_core::settings::{Listen, ListenTls, Network};

use super::{Read, list, number};

/// A TCP port; 0 is refused (IF-11).
pub fn port(value: &str) -> Read<u16> {
    match number(value) {
        Some(n @ 1..=65_535) => Ok(n as u16),
        Some(0) => Err("port 0 is not allowed".into()),
        _ => Err("expected a port from 1 to 65535".into()),
    }
}

/// An IPv4 or IPv6 address; brackets around IPv6 are allowed.
pub fn address(value: &str) -> Read<IpAddr> {
    let inside = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
    inside
        .unwrap_or(value)
        .parse()
        .map_err(|_| "expected an IPv4 or IPv6 address".to_string())
}

/// Addresses (CONF-15).
pub fn addresses(value: &str) -> Read<Vec<IpAddr>> {
    list(value).map(address).collect()
}

/// A network: `192.0.2.0/24`, `2001:db8::/32`, or a single address. Bits outside the prefix must
/// be zero, unless it is a single address.
pub fn network(value: &str) -> Read<Network> {
    let (text, prefix) = match value.split_once('/') {
        Some((text, prefix)) => (text, Some(prefix)),
        None => (value, None),
    };
    let address = address(text)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix.map(number) {
        None => longest,
        Some(Some(n)) if n <= u64::from(longest) => n as u8,
        Some(_) => return Err(format!("expected a prefix length from 0 to {longest}")),
    };
    let masked = mask(address, prefix);
    if masked != address {
        return Err(format!(
            "the address has bits outside its prefix; expected {masked}/{prefix}"
        ));
    }
    Ok(Network { address, prefix })
}

/// Networks (CONF-15).
pub fn networks(value: &str) -> Read<Vec<Network>> {
    list(value).map(network).collect()
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(a) => {
            let kept = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((u32::from(a) & kept).into())
        }
        IpAddr::V6(a) => {
            let kept = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((u128::from(a) & kept).into())
        }
    }
}

/// One entry of a listen list: `address`, `address:port`, with `/tls` or `/plain` (CONF-28).
/// The secure port of the list (465 for SMTP, 443 for HTTP) means TLS from the first octet.
pub fn listen(value: &str, default_port: u16, secure_port: u16) -> Read<Listen> {
    let (place, tls) = match value.rsplit_once('/') {
        Some((place, word)) if word.eq_ignore_ascii_case("tls") => {
            (place, Some(ListenTls::Implicit))
        }
        Some((place, word)) if word.eq_ignore_ascii_case("plain") => {
            (place, Some(ListenTls::Plain))
        }
        Some(_) => return Err("expected /tls or /plain behind the address".into()),
        None => (value, None),
    };
    let address = socket_address(place, default_port)?;
    let tls = tls.unwrap_or(match address.port() == secure_port {
        true => ListenTls::Implicit,
        false => ListenTls::Plain,
    });
    Ok(Listen { address, tls })
}

/// A listen list (CONF-28).
pub fn listens(value: &str, default_port: u16, secure_port: u16) -> Read<Vec<Listen>> {
    let entries = list(value).map(|item| listen(item, default_port, secure_port));
    let entries = entries.collect::<Read<Vec<_>>>()?;
    for (i, entry) in entries.iter().enumerate() {
        if entries
            .iter()
            .skip(i + 1)
            .any(|e| e.address == entry.address)
        {
            return Err(format!("{} is listed twice", entry.address));
        }
    }
    Ok(entries)
}

/// `address` or `address:port`; IPv6 with a port in brackets; `*` is every IPv4 address.
pub fn socket_address(value: &str, default_port: u16) -> Read<SocketAddr> {
    if let Ok(alone) = address(value) {
        return Ok(SocketAddr::new(alone, default_port));
    }
    let Some((host, number)) = value.rsplit_once(':') else {
        return match value {
            "*" => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), default_port)),
            _ => Err("expected an address or address:port".into()),
        };
    };
    let host = match host {
        "*" => Ipv4Addr::UNSPECIFIED.into(),
        _ if host.contains(':') && !host.starts_with('[') => {
            return Err("expected an IPv6 address with a port as [address]:port".into());
        }
        _ => address(host)?,
    };
    Ok(SocketAddr::new(host, port(number)?))
}

/// Name servers: addresses with an optional port (IF-9).
pub fn resolvers(value: &str) -> Read<Vec<SocketAddr>> {
    list(value).map(|item| socket_address(item, 53)).collect()
}
