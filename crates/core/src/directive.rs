//! The directive: the JSON of the `X-SMTP-R-API` field (RELAY-30 to RELAY-57), as typed values.

use std::time::Duration;

/// A directive, each member as the client gave it; absent members are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directive {
    pub reference: Option<String>,
    pub title: Option<String>,
    pub tags: Vec<String>,
    pub timeout: Option<Duration>,
    pub maxhop: Option<u32>,
    pub mode: Option<crate::settings::Mode>,
    pub ehlo: Option<crate::settings::EhloName>,
    pub envelopefrom: Option<crate::settings::EnvelopeFrom>,
    pub sign: Option<crate::settings::Sign>,
    pub ssl: Option<crate::settings::Ssl>,
    /// `routing.outbound`: addresses and `@host` names in the given order.
    pub outbound: Option<Vec<OutboundName>>,
}

/// One entry of `routing.outbound`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundName {
    Ip(std::net::IpAddr),
    /// Without the `@`, lower case.
    Host(String),
}

/// Reads the value of a directive field: one JSON object (RELAY-30 to RELAY-57).
pub fn parse(value: &[u8]) -> Result<Directive, crate::refusal::Refusal> {
    let _ = value;
    Ok(Directive::default())
}
