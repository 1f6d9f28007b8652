//! The header of the PROXY protocol, versions 1 and 2, in front of a session (CONF-96).
//!
//! Whether a peer may send one, and must, is decided by the listener. TLVs are read over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use memchr::memchr;

/// Longest header of version 1, CRLF included.
pub const V1_MAX: usize = 107;
/// Longest header of version 2 that is taken.
pub const V2_MAX: usize = 2048;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the beginning of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyParse {
    /// It may become a header: read more. At most [`V2_MAX`] octets are needed to know.
    Incomplete,
    /// A header of `len` octets; the connection comes from `source`.
    Header { source: SocketAddr, len: usize },
    /// A header of `len` octets without an address to use: a check by the proxy itself (LOCAL), or
    /// a family that is not IP. The peer's own address holds.
    Local { len: usize },
    /// No header.
    Invalid,
}

/// Looks for a header at the front of `input`.
pub fn parse(input: &[u8]) -> ProxyParse {
    let found = match input.first() {
        None => return ProxyParse::Incomplete,
        Some(b'P') => version1(input),
        Some(b'\r') => version2(input),
        Some(_) => None,
    };
    found.unwrap_or(ProxyParse::Invalid)
}

/// How many octets surely belong to a header that is [`ProxyParse::Incomplete`]: so many can be
/// read without taking one of the session behind it.
pub fn wanted(input: &[u8]) -> usize {
    match (input.first(), input.get(14..16)) {
        (Some(b'\r'), None) => 16_usize.saturating_sub(input.len()).max(1),
        (Some(b'\r'), Some(&[high, low])) => {
            let len = 16 + usize::from(u16::from_be_bytes([high, low]));
            len.saturating_sub(input.len()).max(1)
        }
        // Only its LF says where a header of version 1 ends.
        _ => 1,
    }
}

fn version1(input: &[u8]) -> Option<ProxyParse> {
    let head = input.get(..V1_MAX).unwrap_or(input);
    let Some(end) = memchr(b'\n', head) else {
        let known = b"PROXY ".iter().zip(head).all(|(a, b)| a == b);
        return (known && input.len() < V1_MAX).then_some(ProxyParse::Incomplete);
    };
    let len = end + 1;
    let line = std::str::from_utf8(head.get(..len)?)
        .ok()?
        .strip_suffix("\r\n")?;
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(ProxyParse::Local { len });
    }
    let mut words = rest.split(' ');
    let (family, source, target) = (words.next()?, words.next()?, words.next()?);
    let (source_port, target_port) = (words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _) = (address(source)?, address(target)?);
    let (source_port, _) = (port(source_port)?, port(target_port)?);
    Some(ProxyParse::Header {
        source: SocketAddr::new(source, source_port),
        len,
    })
}

/// Decimal without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn version2(input: &[u8]) -> Option<ProxyParse> {
    if !SIGNATURE.iter().zip(input).all(|(a, b)| a == b) {
        return None;
    }
    let Some(&[command, family, high, low]) = input.get(12..16) else {
        return Some(ProxyParse::Incomplete);
    };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) || len > V2_MAX {
        return None;
    }
    let Some(block) = input.get(16..len) else {
        return Some(ProxyParse::Incomplete);
    };
    if command == 0x20 {
        return Some(ProxyParse::Local { len });
    }
    let source = match family >> 4 {
        1 => SocketAddr::new(
            IpAddr::from(octets::<4>(block, 0)?),
            u16::from_be_bytes(octets(block, 8)?),
        ),
        2 => SocketAddr::new(
            IpAddr::from(octets::<16>(block, 0)?),
            u16::from_be_bytes(octets(block, 32)?),
        ),
        0 | 3 => return Some(ProxyParse::Local { len }),
        _ => return None,
    };
    // The block must hold all of the addresses, the target's too; a stream is what SMTP runs on.
    let whole = block.len() >= if source.is_ipv4() { 12 } else { 36 };
    (whole && family & 15 == 1).then_some(ProxyParse::Header { source, len })
}

fn octets<const N: usize>(block: &[u8], at: usize) -> Option<[u8; N]> {
    block.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        header.extend(block);
        header
    }

    fn found(source: &str, len: usize) -> ProxyParse {
        ProxyParse::Header {
            source: source.parse().unwrap(),
            len,
        }
    }

    /// Every prefix of a good header asks for more, and what follows it changes nothing.
    fn assert_header(header: &[u8], want: ProxyParse) {
        for cut in 0..header.len() {
            assert_eq!(
                parse(&header[..cut]),
                ProxyParse::Incomplete,
                "cut at {cut}"
            );
        }
        assert_eq!(parse(header), want);
        assert_eq!(parse(&[header, b"EHLO x\r\n"].concat()), want);
        // Reading only what is surely wanted ends exactly behind it.
        let mut read = 0;
        while parse(&header[..read]) == ProxyParse::Incomplete {
            read += wanted(&header[..read]);
            assert!(read <= header.len(), "{read}");
        }
        assert_eq!(read, header.len());
    }

    #[test]
    fn conf_96_version_1_carries_the_address() {
        let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n";
        assert_header(header, found("192.0.2.7:56324", header.len()));
        let header = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 25\r\n";
        assert_header(header, found("[2001:db8::7]:56324", header.len()));
        let header = b"PROXY UNKNOWN ffff::1 what ever\r\n";
        assert_header(header, ProxyParse::Local { len: header.len() });
    }

    #[test]
    fn conf_96_version_2_carries_the_address() {
        let block = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0, 25];
        assert_header(&v2(0x21, 0x11, &block), found("192.0.2.7:56324", 28));
        let with_tlv = [&block[..], &[3, 0, 1, 9]].concat();
        assert_header(&v2(0x21, 0x11, &with_tlv), found("192.0.2.7:56324", 32));
        let mut block = [0; 36];
        block[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        block[15] = 7;
        block[32..34].copy_from_slice(&[0xdc, 0x04]);
        assert_header(&v2(0x21, 0x21, &block), found("[2001:db8::7]:56324", 52));
        assert_header(&v2(0x20, 0x00, &[]), ProxyParse::Local { len: 16 });
        assert_header(&v2(0x21, 0x31, &[0; 216]), ProxyParse::Local { len: 232 });
    }

    #[test]
    fn conf_96_what_is_no_header_is_refused() {
        for input in [
            "EHLO client\r\n",
            "PROXZ",
            "\r\n\r\nX",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 25 x\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 25\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 25\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 25\r\n",
            "PROXY TCP4 192.0.2.777 198.51.100.1 1 25\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 25\r\n",
        ] {
            assert_eq!(parse(input.as_bytes()), ProxyParse::Invalid, "{input:?}");
        }
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(V1_MAX));
        assert_eq!(parse(long.as_bytes()), ProxyParse::Invalid);
        let block = [0; 12];
        for (command, family, size) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x21, 0x11, 11),
            (0x21, 0x12, 12),
        ] {
            assert_eq!(
                parse(&v2(command, family, &block[..size])),
                ProxyParse::Invalid
            );
        }
        assert_eq!(parse(&v2(0x21, 0x21, &block)), ProxyParse::Invalid);
        assert_eq!(parse(&v2(0x21, 0x11, &[0; V2_MAX])), ProxyParse::Invalid);
    }
}
