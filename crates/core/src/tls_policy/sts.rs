//! MTA-STS (RFC 8461): the TXT record, the policy file, which hosts a policy means, and when a
//! policy has to be fetched. The fetching is `outbound`'s.

use std::time::Duration;

/// Longest time a policy is kept, whatever it says (RFC 8461 §3.2): about a year.
pub const LONGEST: Duration = Duration::from_secs(31_557_600);
/// A policy in use that is older is fetched again, though its id is the same.
pub const REFRESH: Duration = Duration::from_secs(86_400);
/// Most `mx` lines of a policy that are read.
const MOST_HOSTS: usize = 1_000;

/// What a policy wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing goes to a host that it does not name, or that cannot prove its name.
    Enforce,
    /// As `Enforce`, but failures are only recorded.
    Testing,
    /// The domain has no policy any more.
    None,
}

/// A policy as published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    pub max_age: Duration,
    /// Lower case; a leading `*.` stands for exactly one label.
    pub hosts: Vec<String>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let (mut version, mut mode, mut max_age) = (None, None, None);
        let mut hosts = Vec::new();
        for line in text.lines() {
            let line = line.trim_matches([' ', '\t', '\r']);
            let Some((key, value)) = line.split_once(':') else {
                if line.is_empty() {
                    continue;
                }
                return Err("a line without a colon".into());
            };
            let value = value.trim_matches([' ', '\t']);
            // Of a field that stands twice the first counts; others than these are not ours.
            match key.trim_end_matches([' ', '\t']) {
                "version" if version.is_none() => version = Some(value),
                "mode" if mode.is_none() => mode = Some(value),
                "max_age" if max_age.is_none() => max_age = Some(value),
                "mx" if hosts.len() < MOST_HOSTS => hosts.push(pattern(value)?),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err("the version is not STSv1".into());
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err("the mode is none of enforce, testing, none".into()),
        };
        let seconds = max_age.filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
        let seconds = seconds.and_then(|v| v.parse().ok());
        let max_age = Duration::from_secs(seconds.ok_or("max_age is no number of seconds")?);
        if hosts.is_empty() && mode != Mode::None {
            return Err("no mx".into());
        }
        Ok(Policy {
            mode,
            max_age: max_age.min(LONGEST),
            hosts,
        })
    }

    /// Whether an MX host (lower case, without trailing dot) is one that the policy names.
    pub fn matches(&self, host: &str) -> bool {
        self.hosts
            .iter()
            .any(|pattern| match pattern.strip_prefix("*.") {
                Some(parent) => host
                    .split_once('.')
                    .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
                None => pattern == host,
            })
    }
}

/// The name in an `mx` line, lower case.
fn pattern(value: &str) -> Result<String, String> {
    let name = value.trim_end_matches('.').to_ascii_lowercase();
    let labels = name.strip_prefix("*.").unwrap_or(&name);
    let good = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    match name.len() <= 255 && labels.split('.').all(good) {
        true => Ok(name),
        false => Err("an mx that is no host name".into()),
    }
}

/// What the TXT records at `_mta-sts.<domain>` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// There is a policy, of this version.
    Id(String),
    /// There is none.
    Nothing,
    /// DNS gave no answer.
    Unknown,
}

impl Published {
    /// Reads the records; exactly one must be of MTA-STS (RFC 8461 §3.1).
    pub fn read(records: &[Vec<u8>]) -> Published {
        let mut ours = records.iter().filter(|r| {
            let rest = r.strip_prefix(b"v=STSv1".as_slice());
            rest.is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b';'))
        });
        match (ours.next(), ours.next()) {
            (Some(record), None) => id(record).map_or(Published::Nothing, Published::Id),
            _ => Published::Nothing,
        }
    }
}

fn id(record: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(record).ok()?;
    let fields = text.split(';').skip(1);
    let id = fields
        .filter_map(|field| field.trim().split_once('='))
        .find_map(|(key, value)| (key.trim_end() == "id").then_some(value.trim_start()))?;
    let good = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    good.then(|| id.to_owned())
}

/// What to do about the policy of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is none.
    Nothing,
    /// Use the one that is kept.
    Keep,
    /// Use the one that is kept, and fetch it anew meanwhile.
    Refresh,
    /// Fetch it. If that fails, one that is kept still holds (RFC 8461 §5.1).
    Fetch,
}

/// Decides. `kept`: the id of the policy that is kept and has not expired, and its age.
pub fn next(kept: Option<(&str, Duration)>, published: &Published) -> Next {
    match (kept, published) {
        (None, Published::Id(_)) => Next::Fetch,
        (None, _) => Next::Nothing,
        (Some((id, _)), Published::Id(new)) if id != new => Next::Fetch,
        (Some((_, age)), Published::Id(_)) if age >= REFRESH => Next::Refresh,
        // A record that is gone, or hidden, does not end a policy.
        (Some(_), _) => Next::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net\r\nmax_age: 604800\r\n";

    #[test]
    fn t_17_a_policy_is_read_whatever_its_line_ends_and_further_fields() {
        let policy = Policy::parse(POLICY).unwrap();
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.max_age.as_secs(), 604_800);
        assert_eq!(policy.hosts, ["mail.example.com", "*.example.net"]);
        let unix = POLICY.replace("\r\n", "\n");
        assert_eq!(Policy::parse(&unix).as_ref(), Ok(&policy));
        let more = format!("{POLICY}future: yes\r\nmode: none\r\n\r\n");
        assert_eq!(Policy::parse(&more), Ok(policy));
        let none = Policy::parse("version: STSv1\nmode: none\nmax_age: 0").unwrap();
        assert_eq!((none.mode, none.max_age.as_secs()), (Mode::None, 0));
        let long = POLICY.replace("604800", "99999999999");
        assert_eq!(Policy::parse(&long).unwrap().max_age, LONGEST);
    }

    #[test]
    fn t_17_a_broken_policy_is_none() {
        for (from, to) in [
            ("version: STSv1", "version: STSv2"),
            ("version: STSv1\r\n", ""),
            ("mode: enforce", "mode: strict"),
            ("mode: enforce\r\n", ""),
            ("max_age: 604800", "max_age: -1"),
            ("max_age: 604800", "max_age: +1"),
            ("max_age: 604800", "max_age:"),
            ("max_age: 604800\r\n", ""),
            ("mx: mail.example.com", "mx: mail..example.com"),
            ("mx: mail.example.com", "mx: a.*.example.com"),
            ("mx: mail.example.com", "<html>"),
        ] {
            assert!(Policy::parse(&POLICY.replace(from, to)).is_err(), "{to:?}");
        }
        assert!(Policy::parse("version: STSv1\nmode: testing\nmax_age: 1").is_err());
    }

    #[test]
    fn t_17_a_star_stands_for_exactly_one_label() {
        let policy = Policy::parse(POLICY).unwrap();
        for (host, named) in [
            ("mail.example.com", true),
            ("mx1.example.net", true),
            ("a.b.example.net", false),
            ("example.net", false),
            (".example.net", false),
            ("other.example.com", false),
            ("mail.example.com.evil.example", false),
        ] {
            assert_eq!(policy.matches(host), named, "{host}");
        }
    }

    fn published(records: &[&str]) -> Published {
        let records: Vec<Vec<u8>> = records.iter().map(|r| r.as_bytes().to_vec()).collect();
        Published::read(&records)
    }

    #[test]
    fn t_17_exactly_one_record_is_a_policy() {
        let id = |id: &str| Published::Id(id.into());
        assert_eq!(
            published(&["v=STSv1; id=20160831085700Z;"]),
            id("20160831085700Z")
        );
        assert_eq!(published(&["v=spf1 -all", "v=STSv1;id=a1"]), id("a1"));
        assert_eq!(published(&["v=STSv1 ; x=y ; id=a1 ; z=1"]), id("a1"));
        for none in [
            &["v=STSv1; id=1", "v=STSv1; id=2"][..],
            &["v=STSv1"],
            &["v=STSv1; id="],
            &["v=STSv1; id=a-b"],
            &["v=STSv1; id=123456789012345678901234567890123"],
            &["v=STSv12; id=1"],
            &[],
        ] {
            assert_eq!(published(none), Published::Nothing, "{none:?}");
        }
    }

    #[test]
    fn t_17_a_kept_policy_holds_until_a_new_one_is_there() {
        let day = REFRESH;
        let id = |id: &str| Published::Id(id.into());
        for (kept, published, expected) in [
            (None, Published::Nothing, Next::Nothing),
            (None, Published::Unknown, Next::Nothing),
            (None, id("1"), Next::Fetch),
            (Some(("1", Duration::ZERO)), id("1"), Next::Keep),
            (Some(("1", day)), id("1"), Next::Refresh),
            (Some(("1", Duration::ZERO)), id("2"), Next::Fetch),
            (Some(("1", day)), Published::Nothing, Next::Keep),
            (Some(("1", day)), Published::Unknown, Next::Keep),
        ] {
            assert_eq!(next(kept, &published), expected, "{kept:?} {published:?}");
        }
    }
}
