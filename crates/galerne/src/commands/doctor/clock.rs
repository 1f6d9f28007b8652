//! Whether the clock is right: signatures, certificates and the dates of mail depend on it. Asked of
//! a time server (SNTP, RFC 4330); without one there is still the year.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use galerne_core::doctor::Finding;
use galerne_dns::HickoryResolver;
use tokio::net::UdpSocket;

use super::names::addresses;
use super::reach::host_and_port;

/// Time for the question.
const PATIENCE: Duration = Duration::from_secs(5);
const NTP_PORT: u16 = 123;
/// Octets of a question or an answer.
const PACKET: usize = 48;
/// From 1900, where NTP begins, to 1970: seconds.
const TO_UNIX: u64 = 2_208_988_800;
/// 2026-01-01: no earlier clock can be right.
const EARLIEST: u64 = 1_767_225_600;
/// 2100-01-01.
const LATEST: u64 = 4_102_444_800;
/// Differences worth a word, and those that break signatures; seconds.
const ADVICE: f64 = 2.0;
const ACT: f64 = 60.0;
/// Where systemd says that the clock was set from outside.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// The finding; `server` is HOST or HOST:PORT.
pub async fn finding(resolver: &HickoryResolver, server: &str) -> Finding {
    let (check, subject) = ("clock", "clock");
    let advice = "set the clock, and keep it right with systemd-timesyncd, chrony or ntpd";
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if !(EARLIEST..LATEST).contains(&seconds) {
        let found =
            jiff::Timestamp::try_from(now).map_or_else(|_| "?".to_owned(), |t| t.to_string());
        return Finding::act(check, subject, found, "the time of today", advice);
    }
    let asked = tokio::time::timeout(PATIENCE, ask(resolver, server)).await;
    let why = match asked {
        Ok(Ok(offset)) => {
            let found = format!("{:.1} s from {server}", offset.abs());
            let wrong = Finding::act(check, subject, &found, "the same time", advice);
            return match offset.abs() {
                off if off >= ACT => wrong,
                off if off >= ADVICE => wrong.or_advice(),
                _ => Finding::good(check, subject, found),
            };
        }
        Ok(Err(why)) => why,
        Err(_) => "no answer".to_owned(),
    };
    if Path::new(SYNCHRONISED).exists() {
        return Finding::good(check, subject, "the system says that it is synchronised");
    }
    Finding::act(
        check,
        subject,
        format!("could not be compared with {server}: {why}"),
        "the same time",
        "look at it yourself: `date -u`; or name another time server: --clock HOST[:PORT]",
    )
    .or_advice()
}

/// Seconds by which a time server is ahead of us.
async fn ask(resolver: &HickoryResolver, server: &str) -> Result<f64, String> {
    let (host, port) = host_and_port(server, NTP_PORT)?;
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => {
            let found = addresses(resolver, &host).await?;
            let four = found.iter().find(|ip| ip.is_ipv4());
            *four.or(found.first()).ok_or("the name has no address")?
        }
    };
    let target = SocketAddr::new(address, port);
    let local: IpAddr = match address {
        IpAddr::V4(_) => [0, 0, 0, 0].into(),
        IpAddr::V6(_) => [0_u16; 8].into(),
    };
    let says = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind((local, 0)).await.map_err(says)?;
    socket.connect(target).await.map_err(says)?;
    let sent = stamp();
    socket.send(&question(sent)).await.map_err(says)?;
    let mut octets = [0; PACKET];
    let length = socket.recv(&mut octets).await.map_err(says)?;
    let received = stamp();
    let answer = octets.get(..length).unwrap_or_default();
    offset(answer, sent, received).ok_or_else(|| "the answer is none".to_owned())
}

/// Now as NTP counts: seconds since 1900 in 32 bits, and their fraction.
fn stamp() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    (now.as_secs().wrapping_add(TO_UNIX) << 32) | fraction
}

fn question(sent: u64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    // Version 4, client.
    packet[0] = 0x23;
    packet[40..].copy_from_slice(&sent.to_be_bytes());
    packet
}

/// The offset by the four stamps. `None`: no answer to our question, or of a server that does not
/// know the time itself.
fn offset(answer: &[u8], sent: u64, received: u64) -> Option<f64> {
    let at = |place: usize| {
        let octets = answer.get(place..place + 8)?;
        Some(u64::from_be_bytes(octets.try_into().ok()?))
    };
    let mode = answer.first()? & 7;
    let stratum = *answer.get(1)?;
    if mode != 4 || !(1..=15).contains(&stratum) || at(24)? != sent {
        return None;
    }
    let seconds = |a: u64, b: u64| a.wrapping_sub(b).cast_signed() as f64 / 4_294_967_296.0;
    Some((seconds(at(32)?, sent) + seconds(at(40)?, received)) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as a server gives it whose clock is ahead by these seconds.
    fn answer(sent: u64, ahead: u64, stratum: u8) -> Vec<u8> {
        let mut packet = vec![0; PACKET];
        packet[0] = 0x24;
        packet[1] = stratum;
        packet[24..32].copy_from_slice(&sent.to_be_bytes());
        let server = sent.wrapping_add(ahead << 32);
        packet[32..40].copy_from_slice(&server.to_be_bytes());
        packet[40..48].copy_from_slice(&server.to_be_bytes());
        packet
    }

    #[test]
    fn if_6_the_offset_is_that_of_the_server_without_the_way() {
        let sent = stamp();
        let second = 1 << 32;
        assert_eq!(offset(&answer(sent, 90, 2), sent, sent), Some(90.0));
        // Two seconds on the way: one of them belongs to each direction.
        assert_eq!(
            offset(&answer(sent, 1, 2), sent, sent + 2 * second),
            Some(0.0)
        );
        let behind = answer(sent, 0_u64.wrapping_sub(5), 2);
        assert_eq!(offset(&behind, sent, sent), Some(-5.0));
        // Of another question, of one that does not know, or cut.
        assert_eq!(offset(&answer(sent + 1, 0, 2), sent, sent), None);
        assert_eq!(offset(&answer(sent, 0, 0), sent, sent), None);
        assert_eq!(offset(&answer(sent, 0, 2)[..47], sent, sent), None);
        assert_eq!(offset(&[], sent, sent), None);
        assert_eq!(question(sent)[40..], sent.to_be_bytes());
    }
}
