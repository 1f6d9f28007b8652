//! A configuration as large as one wants, and messages that are decided in it as the relay does:
//! route, group, plan, outbound, leave of flow control. Also used by a test.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use galerne_core::chase::{Chase, Next};
use galerne_core::directive::Directive;
use galerne_core::flow::choice::Choice;
use galerne_core::flow::configured::{SenderDomain, group_of, groups};
use galerne_core::flow::desk::{Case, Desk, Travel};
use galerne_core::flow::params::Sections;
use galerne_core::flow::{Control, Moment, Set};
use galerne_core::model::Remote;
use galerne_core::plan::{self, Asked};
use galerne_core::qualify::Patterns;
use galerne_core::routes::{Draw, LocalIps, RouteRow, RouteTable};
use galerne_core::settings::*;
use galerne_core::snapshot::Snapshot;
use galerne_smtp::ReversePath;

/// How large.
#[derive(Clone, Copy)]
pub struct Size {
    pub routes: usize,
    pub groups: usize,
    pub outbounds: usize,
    pub states: usize,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By MX to one of the groups; no row fits.
    Mx,
    /// By the row for its destination (tier 15).
    Row,
    /// By four rows for the sender's login, in rotation (tier 11).
    Rotation,
}

/// One message to decide.
pub struct Message {
    domain: String,
    mx: String,
    login: String,
    sender: ReversePath,
}

pub struct World {
    snapshot: Arc<Snapshot>,
    table: Arc<RouteTable>,
    desk: Desk,
    now: Moment,
    turn: usize,
}

/// What was decided.
pub struct Decided {
    group: Arc<str>,
    domain: String,
    sender: Arc<str>,
    outbound: Arc<OutboundIp>,
}

const START: Moment = Moment(1_800_000_000_000);
const ROWS_OF_A_LOGIN: usize = 4;

pub fn message(way: Way, number: usize, size: Size) -> Message {
    let group = number % size.groups;
    let row = number % (size.routes - ROWS_OF_A_LOGIN);
    Message {
        domain: match way {
            Way::Row => format!("d{row}.example"),
            _ => format!("customer{number}.example"),
        },
        mx: format!("in{}.mail{group}.example.org", number % 7),
        login: match way {
            Way::Rotation => "wide".to_owned(),
            _ => "shop".to_owned(),
        },
        sender: mailbox(&format!("orders@s{}.example", number % 20)),
    }
}

fn mailbox(address: &str) -> ReversePath {
    Mailbox::parse(address).map_or(ReversePath::Null, ReversePath::Mailbox)
}

impl World {
    pub fn new(size: Size) -> Self {
        let settings = settings(size);
        let table = Arc::new(RouteTable::new(rows(size), &settings));
        let snapshot = Snapshot::new(Arc::new(settings));
        let mut desk = Desk::default();
        desk.configure(groups(&snapshot));
        let mut world = World {
            snapshot,
            table,
            desk,
            now: START,
            turn: 0,
        };
        world.fill(size);
        world
    }

    /// So many states, nine tenths of them of addresses, each with mail of the last hours.
    fn fill(&mut self, size: Size) {
        let of_group = size.states / size.groups;
        let senders = of_group / 10;
        for group in 0..size.groups {
            let name = format!("isp{group}");
            for number in 0..of_group - senders {
                let sender = format!("s{}.example", number % senders.max(1));
                let ip = address((number * 7 + group) % size.outbounds);
                let case = Case {
                    group: &name,
                    domain: "any.example",
                    ip,
                    sender: &sender,
                };
                for hour in 0..3u64 {
                    let minutes = hour * 60 + (number % 60) as u64;
                    let at = self.now.before(Duration::from_secs(minutes * 60 + 600));
                    self.desk.mail_sent(at, case, 1);
                    self.desk.delivered(at, case, 1);
                }
            }
        }
        self.desk.take_changed();
    }

    pub fn states(&self) -> usize {
        self.desk.rows(self.now, None).len()
    }

    /// All that is decided before a session is opened. `None`: it would have to wait.
    pub fn decide(&mut self, message: &Message) -> Option<Decided> {
        let settings: &Snapshot = &self.snapshot;
        let directive = Directive::default();
        let draw = Draw::new(self.table.clone());
        let asked = Asked {
            account: settings
                .accounts
                .by_login(&message.login)
                .map(AsRef::as_ref),
            login: Some(&message.login),
            directive: &directive,
            sender: &message.sender,
            header_from: None,
            routes: Some(&draw),
        };
        let domain = &message.domain;
        // The MX are looked up between these two.
        let unknown = settings.groups.detect(domain, None).group;
        let likely = plan::plans(settings, &asked, &unknown, domain).ok()?;
        let detected = settings.groups.detect(domain, Some(&[&message.mx])).group;
        let before = (likely, &*unknown);
        let plans = plan::plans_after(settings, &asked, before, &detected, domain).ok()?;
        let plan = plans.first()?;
        let remotes = vec![remote(&message.mx, 1), remote(&message.mx, 2)];
        let mut chase = Chase::new(remotes, plan.outbounds.clone(), plan.maxhop);
        let (group, sender) = (group_of(plan), SenderDomain::of(plan, None));
        self.turn += 1;
        let mut choice = Choice {
            desk: &mut self.desk,
            now: self.now,
            group: &group,
            domain,
            sender: &sender,
            count: 1,
            is_ordered: plan.ordered,
            turn: self.turn,
            has_line: false,
        };
        let Next::Try {
            outbound, remote, ..
        } = chase.next_free(&|_| false, &mut choice)
        else {
            return None;
        };
        let decided = Decided {
            sender: sender.at(&outbound),
            domain: domain.clone(),
            group,
            outbound,
        };
        black_box(remote);
        let travel = Travel::NewSession;
        let leave = self.desk.ask(self.now, decided.case(), travel, 1);
        black_box(leave.ok())?;
        Some(decided)
    }

    /// It was sent and delivered, and its session ended.
    pub fn done(&mut self, decided: &Decided) {
        let case = decided.case();
        self.desk.mail_sent(self.now, case, 1);
        self.desk.delivered(self.now, case, 1);
        self.desk.session_closed(self.now, case);
    }

    pub fn goes_by(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// What a relay stores twice a second.
    pub fn store(&mut self) {
        while !self.desk.take_batch().is_empty() {}
    }
}

impl Decided {
    fn case(&self) -> Case<'_> {
        Case {
            group: &self.group,
            domain: &self.domain,
            ip: self.outbound.address,
            sender: &self.sender,
        }
    }
}

fn remote(host: &str, number: u8) -> Remote {
    Remote {
        host: host.into(),
        address: SocketAddr::from(([198, 51, 100, number], 25)),
    }
}

fn address(number: usize) -> IpAddr {
    let number = u32::try_from(number).unwrap_or(0);
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + number))
}

/// A row for each of many destinations, and four for one login.
fn rows(size: Size) -> Vec<RouteRow> {
    let row = |number: usize| RouteRow {
        id: number as u64 + 1,
        destination: Some(format!("d{number}.example")),
        remote_host: format!("relay{}.example.net", number % 50),
        remote_port: 25,
        priority: 1,
        local_ips: LocalIps::Default,
        user: None,
        mail_from: None,
        auth: None,
    };
    let exact = (0..size.routes - ROWS_OF_A_LOGIN).map(row);
    let of_login = (size.routes - ROWS_OF_A_LOGIN..size.routes).map(|number| RouteRow {
        destination: None,
        user: Some("wide".to_owned()),
        ..row(number)
    });
    exact.chain(of_login).collect()
}

fn group(name: &str) -> Group {
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

fn account(name: &str) -> Account {
    Account {
        name: name.to_owned(),
        file: format!("users/{name}.ini"),
        smtpssl: true,
        login: Some(name.to_owned()),
        password: None,
        smtpip: Vec::new(),
        authorizedip: None,
        authorizedsender: None,
        authorizedroute: Vec::new(),
        authorizedrouting: Vec::new(),
        granted_from: None,
        maxhour: 0,
        maxday: 0,
        filter: Vec::new(),
        message: MessageKeys::default(),
        routing: RoutingKeys::default(),
        routing_by_group: Vec::new(),
        services: Vec::new(),
    }
}

/// Warmup as it is shipped for addresses (FLOW-19); senders may do more.
fn flow() -> Sections {
    let mut sections = Sections::default();
    let warmup = sections.section(Control::Ip, Set::Warmup, None);
    warmup.threadmax = Some(1);
    warmup.chainmax = Some(10);
    warmup.waittime = Some(Duration::from_secs(10));
    warmup.volttllow = Some(Duration::from_secs(600));
    warmup.volmaxlow = Some(60);
    warmup.volttlhigh = Some(Duration::from_secs(86_400));
    warmup.volmaxhigh = Some(3000);
    warmup.flowttlup = Some(Duration::from_secs(7 * 86_400));
    warmup.flowvolup = Some(10_000);
    let warmup = sections.section(Control::Sender, Set::Warmup, None);
    warmup.threadmax = Some(0);
    warmup.volttlhigh = Some(Duration::from_secs(86_400));
    warmup.volmaxhigh = Some(3_000_000);
    sections
}

fn settings(size: Size) -> Settings {
    let outbound = |number: usize| {
        Arc::new(OutboundIp {
            address: address(number),
            name: format!("mta{number}.example.net"),
        })
    };
    let named = |number: usize| {
        Arc::new(Group {
            mx: vec![
                format!("*.mail{number}.example.org"),
                format!("mx*.isp{number}.example"),
            ],
            aliases: (0..10)
                .map(|n| format!("a{n}.isp{number}.example"))
                .collect(),
            ..group(&format!("isp{number}"))
        })
    };
    Settings {
        root: PathBuf::from("/nowhere"),
        spool: PathBuf::from("/nowhere/spool"),
        outbounds: (0..size.outbounds).map(outbound).collect(),
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
        queue: galerne_core::settings::QueueKeys::default(),
        message: MessageKeys::default(),
        routing: RoutingKeys::default(),
        dns: Dns::default(),
        accounts: ["shop", "wide"].map(|name| Arc::new(account(name))).into(),
        groups: (0..size.groups).map(named).collect(),
        flow_defaults: Arc::new(flow()),
        catch_all: Arc::new(group("")),
        hosts: Vec::new(),
        keys: Vec::new(),
        runas: None,
        logage: 30,
        log_json: false,
        hostname: "mta0.example.net".to_owned(),
    }
}
