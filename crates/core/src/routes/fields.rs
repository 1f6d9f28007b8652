//! A row as people give and read it: words on a command line, in CSV and JSON (ROUTE-5 to ROUTE-8,
//! ROUTE-16, ROUTE-17, API-18).

use std::net::IpAddr;

use galerne_smtp::Mailbox;
use serde::{Deserialize, Serialize};

use super::{LocalIps, RouteRow};
use crate::settings::Secret;

/// What stands for a password in every output (ROUTE-12).
pub const MASK: &str = "***";

/// The answer to `routes list` without routes (ROUTE-18).
pub const NONE_CONFIGURED: &str = "No route is configured: all mail follows the MX records.";

/// The columns of the table, by the names of the API, unchecked.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fields {
    #[serde(default)]
    pub id: Option<u64>,
    #[serde(default)]
    pub destination: Option<String>,
    #[serde(default)]
    pub remote_host: String,
    #[serde(default = "default_port")]
    pub remote_port: u16,
    #[serde(default = "default_priority")]
    pub priority: u32,
    #[serde(default)]
    pub local_ip: Option<String>,
    #[serde(default)]
    pub smtp_user: Option<String>,
    #[serde(default)]
    pub mail_from: Option<String>,
    #[serde(default)]
    pub remote_login: Option<String>,
    #[serde(default, with = "password")]
    pub remote_passwd: Option<Secret>,
}

fn default_port() -> u16 {
    25
}

fn default_priority() -> u32 {
    1
}

/// How passwords leave the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passwords {
    Masked,
    Shown,
}

impl Fields {
    /// The row that these words mean.
    ///
    /// # Errors
    /// What is wrong with them, in one sentence.
    pub fn check(self) -> Result<RouteRow, String> {
        let destination = match text(self.destination, "destination")? {
            None => None,
            Some(any) if any == "*" => None,
            Some(name) => Some(domain(&name, "destination")?),
        };
        let Some(remote_host) = text(Some(self.remote_host), "remote host")? else {
            return Err("the remote host must not be empty".to_owned());
        };
        if self.remote_port == 0 {
            return Err("remote port: expected 1 to 65535".to_owned());
        }
        let login = text(self.remote_login, "remote login")?;
        let password = self.remote_passwd.filter(|p| !p.0.is_empty());
        let auth = match (login, password) {
            (Some(_), Some(password)) if password.0 == MASK => {
                return Err("the password is masked; `routes export --secrets` has it".to_owned());
            }
            (Some(login), Some(password)) => Some((login, password)),
            (None, None) => None,
            _ => return Err("remote login and password go together".to_owned()),
        };
        Ok(RouteRow {
            id: self.id.unwrap_or(0),
            destination,
            remote_host: host(&remote_host)?,
            remote_port: self.remote_port,
            priority: self.priority,
            local_ips: local_ips(self.local_ip)?,
            user: user(self.smtp_user)?,
            mail_from: mail_from(self.mail_from)?,
            auth,
        })
    }
}

impl RouteRow {
    /// The row for people.
    pub fn fields(&self, passwords: Passwords) -> Fields {
        let local_ip = self.local_ips.to_string();
        Fields {
            id: Some(self.id),
            destination: Some(self.destination.clone().unwrap_or_else(|| "*".to_owned())),
            remote_host: self.remote_host.clone(),
            remote_port: self.remote_port,
            priority: self.priority,
            local_ip: (self.local_ips != LocalIps::Default).then_some(local_ip),
            smtp_user: self.user.clone(),
            mail_from: self.mail_from.clone(),
            remote_login: self.auth.as_ref().map(|(login, _)| login.clone()),
            remote_passwd: self.auth.as_ref().map(|(_, password)| match passwords {
                Passwords::Masked => Secret(MASK.to_owned()),
                Passwords::Shown => password.clone(),
            }),
        }
    }

    /// Remote host and port, with the login and never the password: `login:***@host:587`.
    pub fn remote(&self) -> String {
        let at = match self.remote_host.contains(':') {
            true => format!("[{}]:{}", self.remote_host, self.remote_port),
            false => format!("{}:{}", self.remote_host, self.remote_port),
        };
        match &self.auth {
            Some((login, _)) => format!("{login}:{MASK}@{at}"),
            None => at,
        }
    }
}

/// One line of `routes list` (ROUTE-16).
impl std::fmt::Display for RouteRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let destination = self.destination.as_deref().unwrap_or("*");
        write!(f, "{} - Destination host: {destination}", self.id)?;
        if let Some(user) = &self.user {
            write!(f, " - User: {user}")?;
        }
        if let Some(from) = &self.mail_from {
            write!(f, " - Mail from: {from}")?;
        }
        let (priority, local) = (self.priority, &self.local_ips);
        write!(f, " - Priority: {priority} - Local IPs: {local}")?;
        write!(f, " - Remote host: {}", self.remote())
    }
}

/// `default`, or the addresses as they are given.
impl std::fmt::Display for LocalIps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let between = match self {
            LocalIps::Default => return f.write_str("default"),
            LocalIps::Rotation(_) => "|",
            LocalIps::Failover(_) => "&",
        };
        let shown: Vec<String> = self.addresses().iter().map(IpAddr::to_string).collect();
        f.write_str(&shown.join(between))
    }
}

/// Blanks around it cut; nothing left is nothing given. One row is one line, so no control
/// characters.
fn text(given: Option<String>, what: &str) -> Result<Option<String>, String> {
    let Some(given) = given else { return Ok(None) };
    let given = given.trim();
    match given.chars().any(char::is_control) {
        true => Err(format!("{what}: control characters are not allowed")),
        false => Ok((!given.is_empty()).then(|| given.to_owned())),
    }
}

/// A domain in lower case, other scripts as A-labels.
fn domain(name: &str, what: &str) -> Result<String, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    match Mailbox::parse(&format!("x@{name}")) {
        Ok(mailbox) if !name.contains('@') => Ok(mailbox.ascii_domain().to_ascii_lowercase()),
        _ => Err(format!("{what} {name}: expected a domain")),
    }
}

fn host(name: &str) -> Result<String, String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.chars().all(plain)
        && !name
            .split('.')
            .any(|label| label.is_empty() || label.len() > 63)
    {
        true => Ok(name.to_ascii_lowercase()),
        false if name.is_ascii() => Err(format!(
            "remote host {name}: expected a host name or an IP address"
        )),
        false => domain(name, "remote host"),
    }
}

fn user(given: Option<String>) -> Result<Option<String>, String> {
    match text(given, "user")? {
        Some(user) if user.starts_with('@') => Err(format!(
            "user {user}: expected a login, or a domain without @"
        )),
        user => Ok(user),
    }
}

fn mail_from(given: Option<String>) -> Result<Option<String>, String> {
    let Some(given) = text(given, "mail from")? else {
        return Ok(None);
    };
    match Mailbox::parse(&given) {
        Ok(mailbox) => Ok(Some(super::table::folded(&mailbox).into_owned())),
        Err(_) => domain(&given, "mail from").map(Some),
    }
}

fn local_ips(given: Option<String>) -> Result<LocalIps, String> {
    let Some(given) = text(given, "local IP")?.filter(|given| given != "default") else {
        return Ok(LocalIps::Default);
    };
    let separator = match (given.contains('|'), given.contains('&')) {
        (true, true) => {
            return Err(
                "local IPs are joined by | (rotation) or by & (failover), not by both".to_owned(),
            );
        }
        (false, true) => '&',
        _ => '|',
    };
    let address = |word: &str| {
        let word = word.trim();
        word.parse::<IpAddr>()
            .map_err(|_| format!("local IP {word:?}: expected an IP address"))
    };
    let list = given
        .split(separator)
        .map(address)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(match separator {
        '&' => LocalIps::Failover(list),
        _ => LocalIps::Rotation(list),
    })
}

/// A password on its way through JSON and CSV; the type prints nothing elsewhere.
mod password {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::settings::Secret;

    pub(super) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(|secret| &secret.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret))
    }
}
