//! Settings and values for the tests of this crate.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use galerne_smtp::{Mailbox, Reply, ReversePath};

use crate::model::{Outcome, Settled};
use crate::ports::{ListEntry, Lists};
use crate::qualify::Patterns;
use crate::settings::*;

/// Lists held in memory: (list, address).
#[derive(Default)]
pub struct FixedLists(pub Vec<(&'static str, &'static str)>);

impl Lists for FixedLists {
    fn listed_in(&self, address: &str, names: &[String]) -> Option<String> {
        let holds = |name: &&String| {
            self.0
                .iter()
                .any(|(l, a)| l == name && a.eq_ignore_ascii_case(address))
        };
        names.iter().find(holds).cloned()
    }
    fn add(&self, _list: &str, _entry: ListEntry) {}
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(ip).collect()
}

pub fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

pub fn sender(text: &str) -> ReversePath {
    ReversePath::parse(text).unwrap()
}

pub fn outbound(address: &str, name: &str) -> Arc<OutboundIp> {
    Arc::new(OutboundIp {
        address: ip(address),
        name: name.to_owned(),
    })
}

pub fn group(name: &str) -> Group {
    Group {
        name: name.to_owned(),
        file: format!("domains/@{name}.ini"),
        mx: Vec::new(),
        domain: None,
        cache: false,
        aliases: Vec::new(),
        relay: None,
        patterns: Patterns::default(),
        flow: Default::default(),
    }
}

pub fn host(name: &str) -> RelayHost {
    RelayHost {
        kind: HostKind::File,
        name: name.to_owned(),
        file: format!("hosts/@{name}.ini"),
        host: format!("{name}.example.net"),
        port: 465,
        ips: None,
        in_order: false,
        login: None,
        password: None,
        overwrite: false,
        authclear: false,
        verify: true,
        ssl: None,
        group: Some(Arc::new(group(name))),
    }
}

pub fn account(name: &str) -> Account {
    Account {
        name: name.to_owned(),
        file: format!("users/{name}.ini"),
        smtpssl: true,
        login: None,
        password: None,
        smtpip: Vec::new(),
        authorizedip: None,
        authorizedsender: None,
        authorizedroute: Vec::new(),
        authorizedrouting: Vec::new(),
        granted_from: None,
        maxhour: 0,
        maxday: 0,
        filter: vec!["rfhard".to_owned(), name.to_owned()],
        message: MessageKeys::default(),
        routing: RoutingKeys::default(),
        routing_by_group: Vec::new(),
        services: Vec::new(),
    }
}

/// Three outbounds, two relay hosts, no account.
pub fn settings() -> Settings {
    Settings {
        root: PathBuf::from("/nowhere"),
        spool: PathBuf::from("/nowhere/spool"),
        outbounds: vec![
            outbound("192.0.2.10", "mta10.example.net"),
            outbound("192.0.2.11", "mta11.example.net"),
            outbound("2001:db8::10", "mta6.example.net"),
        ]
        .into(),
        rfrelay: RfRelay {
            listen: Vec::new(),
            threadnb: 32,
            maxperip: 0,
            maxsize: 20 << 20,
            maxrcpt: 100,
            barelf: BareLf::Reject,
            received: None,
            keepdirective: false,
            blocktemp: false,
            permcode: false,
            chunking: true,
            proxyfrom: Vec::new(),
            dmarcaddr: Vec::new(),
            fbladdr: Vec::new(),
        },
        rfmta: RfMta {
            threadnb: 128,
            mxport: 25,
            cafile: None,
            connecttimeout: Duration::from_secs(10),
            idle: Duration::from_secs(5),
            grace: Duration::from_secs(30),
            authclear: false,
            verify: true,
            dane: true,
            mtasts: true,
            mtastsport: 443,
        },
        queue: crate::settings::QueueKeys::default(),
        message: MessageKeys::default(),
        routing: RoutingKeys::default(),
        dns: Dns::default(),
        accounts: Vec::new(),
        groups: Vec::new(),
        flow_defaults: Arc::default(),
        catch_all: Arc::new(group("")),
        hosts: vec![Arc::new(host("corp")), Arc::new(host("spare"))],
        keys: Vec::new(),
        runas: None,
        logage: 30,
        log_json: false,
        hostname: "mta10.example.net".to_owned(),
    }
}

/// A settled recipient whose reply is `text`, e.g. `550 5.1.1 No such user`.
pub fn settled(recipient: &str, text: &str) -> Settled {
    let reply = reply(text);
    Settled {
        recipient: mailbox(recipient),
        outcome: match reply.code() / 100 {
            2 => Outcome::Delivered,
            4 => Outcome::Deferred,
            _ => Outcome::Failed,
        },
        reply,
        refusal: None,
        hold: None,
        group: None,
        route: None,
        host: None,
        sender: ReversePath::Null,
        attempts: Vec::new(),
        duration: Duration::ZERO,
    }
}

/// `550 5.1.1 No such user`; further lines after `\n`, without code.
pub fn reply(text: &str) -> Reply {
    Reply::new(text[..3].parse().unwrap(), text.get(4..).unwrap_or(""))
}
