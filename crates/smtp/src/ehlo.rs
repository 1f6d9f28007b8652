//! What a server offers: the reply to EHLO, read without complaint about what we do not know.

use crate::reply::Reply;

/// SASL mechanisms of a server, those we can use (ROUTE-40).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthOffer {
    pub cram_md5: bool,
    pub plain: bool,
    pub login: bool,
}

impl AuthOffer {
    /// Whether there is one at all.
    pub fn is_empty(self) -> bool {
        self == AuthOffer::default()
    }
}

/// The extensions of a server. After HELO, or before any greeting, there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The name it gave itself in the first line, cut to 255 octets.
    pub name: String,
    pub pipelining: bool,
    /// `Some(0)`: SIZE without a fixed limit.
    pub size: Option<u64>,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    pub chunking: bool,
    pub starttls: bool,
    pub enhanced_codes: bool,
    pub requiretls: bool,
    pub prdr: bool,
    pub auth: AuthOffer,
    /// RCPTMAX of LIMITS (RFC 9422).
    pub rcpt_max: Option<u32>,
    /// MAILMAX of LIMITS.
    pub mail_max: Option<u32>,
}

impl Capabilities {
    /// Reads the reply to EHLO. Keywords without regard to case; unknown ones are passed over.
    pub fn parse(reply: &Reply) -> Self {
        let mut lines = reply.lines();
        let mut offers = Capabilities::default();
        if let Some(name) = lines.next().and_then(|line| words(line).next()) {
            offers.name = String::from_utf8_lossy(name.get(..255).unwrap_or(name)).into_owned();
        }
        for line in lines {
            offers.take(line);
        }
        offers
    }

    fn take(&mut self, line: &[u8]) {
        // Some old servers write `AUTH=PLAIN LOGIN`.
        let mut words = line
            .split(|b| matches!(b, b' ' | b'\t' | b'='))
            .filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_slice() {
            b"PIPELINING" => self.pipelining = true,
            b"SIZE" => self.size = Some(words.next().and_then(number).unwrap_or(0)),
            b"8BITMIME" => self.eight_bit_mime = true,
            b"SMTPUTF8" => self.smtputf8 = true,
            b"DSN" => self.dsn = true,
            b"CHUNKING" => self.chunking = true,
            b"STARTTLS" => self.starttls = true,
            b"ENHANCEDSTATUSCODES" => self.enhanced_codes = true,
            b"REQUIRETLS" => self.requiretls = true,
            b"PRDR" => self.prdr = true,
            b"AUTH" => words.for_each(|mechanism| self.take_mechanism(mechanism)),
            b"LIMITS" => self.take_limits(line),
            _ => {}
        }
    }

    fn take_mechanism(&mut self, mechanism: &[u8]) {
        match mechanism.to_ascii_uppercase().as_slice() {
            b"CRAM-MD5" => self.auth.cram_md5 = true,
            b"PLAIN" => self.auth.plain = true,
            b"LOGIN" => self.auth.login = true,
            _ => {}
        }
    }

    fn take_limits(&mut self, line: &[u8]) {
        for limit in words(line).skip(1) {
            let Some(at) = memchr::memchr(b'=', limit) else {
                continue;
            };
            let (name, value) = limit.split_at(at);
            let value = value
                .get(1..)
                .and_then(number)
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n > 0);
            match name.to_ascii_uppercase().as_slice() {
                b"RCPTMAX" => self.rcpt_max = value,
                b"MAILMAX" => self.mail_max = value,
                _ => {}
            }
        }
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| matches!(b, b' ' | b'\t'))
        .filter(|word| !word.is_empty())
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word)
        .ok()
        .filter(|word| word.bytes().all(|b| b.is_ascii_digit()))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_offered() {
        let reply = Reply::new(
            250,
            "mx.example.org at your service\nPIPELINING\nsize 35882577\n8bitmime\nSMTPUTF8\nDSN\nCHUNKING\nSTARTTLS\n\
             ENHANCEDSTATUSCODES\nAUTH PLAIN login XOAUTH2\nAUTH=CRAM-MD5\nLIMITS RCPTMAX=50 MAILMAX=7 X=y\nXCLIENT NAME",
        );
        let offers = Capabilities::parse(&reply);
        let all = Capabilities {
            name: "mx.example.org".into(),
            pipelining: true,
            size: Some(35_882_577),
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            chunking: true,
            starttls: true,
            enhanced_codes: true,
            requiretls: false,
            prdr: false,
            auth: AuthOffer {
                cram_md5: true,
                plain: true,
                login: true,
            },
            rcpt_max: Some(50),
            mail_max: Some(7),
        };
        assert_eq!(offers, all);
    }

    #[test]
    fn the_first_line_offers_nothing() {
        assert!(!Capabilities::parse(&Reply::new(250, "STARTTLS PIPELINING")).starttls);
        assert!(Capabilities::parse(&Reply::new(250, "")).auth.is_empty());
    }

    #[test]
    fn nonsense_values_are_no_limits() {
        let offers = Capabilities::parse(&Reply::new(
            250,
            "x\nSIZE 99999999999999999999999\nLIMITS RCPTMAX=0 MAILMAX=-1",
        ));
        assert_eq!(
            (offers.size, offers.rcpt_max, offers.mail_max),
            (Some(0), None, None)
        );
    }
}
