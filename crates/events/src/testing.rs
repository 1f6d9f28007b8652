//! A world for the tests of logs: a folder, a clock that a test moves, and what may happen.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use galerne_core::content::{Content, Patch};
use galerne_core::directive::Directive;
use galerne_core::model::*;
use galerne_core::settings::*;

use crate::{Logs, Options};

pub(crate) const PASSWORD: &str = "s3cret-passw0rd";
pub(crate) const BODY: &str = "the-words-of-the-message";

/// A root, a clock that a test moves, and logs.
pub(crate) struct World {
    pub(crate) root: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

impl World {
    pub(crate) fn new(day: &str) -> Self {
        let world = World {
            root: tempfile::tempdir().unwrap(),
            now: Arc::default(),
        };
        world.set(day);
        world
    }

    pub(crate) fn set(&self, moment: &str) {
        let moment: jiff::Timestamp = moment.parse().unwrap();
        self.now.store(moment.as_second(), Ordering::Relaxed);
    }

    pub(crate) fn open(&self, age_days: u32) -> Logs {
        let now = Arc::clone(&self.now);
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        let clock = move || {
            jiff::Timestamp::from_second(now.load(Ordering::Relaxed))
                .unwrap()
                .to_zoned(zone.clone())
        };
        Logs::open_at(self.root.path(), Options { age_days }, Arc::new(clock)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The rows of a CSV file, by column.
    pub(crate) fn rows(&self, name: &str) -> Vec<HashMap<String, String>> {
        let text = self.text(name);
        csv::Reader::from_reader(text.as_bytes())
            .deserialize()
            .map(Result::unwrap)
            .collect()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("logs")).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

pub(crate) fn group(name: &str) -> Arc<Group> {
    Arc::new(Group {
        name: name.into(),
        file: String::new(),
        mx: Vec::new(),
        domain: None,
        cache: false,
        aliases: Vec::new(),
        relay: None,
        patterns: Default::default(),
        flow: Default::default(),
    })
}

pub(crate) fn account() -> Account {
    Account {
        name: "shop".into(),
        file: "users/shop.ini".into(),
        smtpssl: true,
        login: Some("shop".into()),
        password: Some(Secret(PASSWORD.into())),
        smtpip: Vec::new(),
        authorizedip: None,
        authorizedsender: None,
        authorizedroute: Vec::new(),
        authorizedrouting: Vec::new(),
        granted_from: None,
        maxhour: 0,
        maxday: 0,
        filter: Vec::new(),
        message: Default::default(),
        routing: Default::default(),
        routing_by_group: Vec::new(),
        services: Vec::new(),
    }
}

pub(crate) fn settings() -> Settings {
    let rfrelay = RfRelay {
        listen: Vec::new(),
        threadnb: 1,
        maxperip: 1,
        maxsize: 1,
        maxrcpt: 1,
        barelf: BareLf::Reject,
        received: None,
        keepdirective: false,
        blocktemp: false,
        permcode: false,
        chunking: true,
        proxyfrom: Vec::new(),
        dmarcaddr: Vec::new(),
        fbladdr: Vec::new(),
    };
    let rfmta = RfMta {
        threadnb: 1,
        mxport: 25,
        cafile: None,
        connecttimeout: Duration::ZERO,
        idle: Duration::ZERO,
        grace: Duration::ZERO,
        authclear: false,
        verify: false,
        dane: false,
        mtasts: false,
        mtastsport: 443,
    };
    Settings {
        root: PathBuf::new(),
        spool: PathBuf::new(),
        outbounds: Default::default(),
        rfrelay,
        rfmta,
        queue: Default::default(),
        message: Default::default(),
        routing: Default::default(),
        dns: Default::default(),
        accounts: Vec::new(),
        groups: Vec::new(),
        flow_defaults: Arc::default(),
        catch_all: group(""),
        hosts: Vec::new(),
        keys: Vec::new(),
        runas: None,
        logage: 30,
        log_json: false,
        hostname: "relay.example".into(),
    }
}

pub(crate) fn submission(recipients: &[&str]) -> Submission {
    Submission {
        message_id: "M1".into(),
        settings: galerne_core::snapshot::Snapshot::new(Arc::new(settings())),
        client: Client {
            account: Some(Arc::new(account())),
            login: Some("shop".into()),
            peer: "198.51.100.7:4444".parse().unwrap(),
            helo: "client.example".into(),
            tls: true,
            session_id: "S1".into(),
        },
        sender: Sender {
            path: ReversePath::Mailbox(mailbox("news@shop.example")),
            ret: None,
            envid: None,
            eight_bit: false,
            smtputf8: false,
            requiretls: false,
        },
        recipients: recipients
            .iter()
            .map(|r| Recipient {
                mailbox: mailbox(r),
                notify: None,
                orcpt: None,
            })
            .collect(),
        content: Content::in_memory(format!("Subject: x\r\n\r\n{BODY}\r\n").into_bytes()),
        patch: Patch::default(),
        directive: Directive {
            title: Some("Spring, \"sale\"".into()),
            tags: vec!["spring".into(), "vip".into()],
            ..Directive::default()
        },
        tls_not_required: false,
        header_from: None,
        reference: "order-7".into(),
        received: Instant::now(),
        received_at: moment("2026-03-04T10:00:00Z"),
        prdr: false,
        needs_chunking: false,
        is_dsn: false,
        header_id: None,
        mode: galerne_core::settings::Mode::Sync,
        queued: false,
        without: Vec::new(),
        closed: Vec::new(),
        first: None,
    }
}

pub(crate) fn moment(text: &str) -> SystemTime {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

pub(crate) fn attempt(stage: Stage, reply: Option<Reply>, class: Option<Class>) -> Attempt {
    Attempt {
        hop: 1,
        outbound: Arc::new(OutboundIp {
            address: "192.0.2.10".parse().unwrap(),
            name: "out.example".into(),
        }),
        remote: Remote {
            host: "mx1.example.org".into(),
            address: "203.0.113.5:25".parse().unwrap(),
        },
        stage,
        failure: reply.is_none().then(|| "connection refused".to_owned()),
        reply,
        qualification: class.map(|class| Qualification {
            class,
            pattern: Some("nouser".into()),
            description: "no such user".into(),
            source: "domains/@gmail.ini:12".into(),
        }),
        tls: Some("TLSv1_3 TLS13_AES_256_GCM_SHA384 verified by ca".into()),
        dsn: false,
        duration: Duration::from_millis(12),
    }
}

pub(crate) fn settled(
    recipient: &str,
    outcome: Outcome,
    reply: Reply,
    attempts: Vec<Attempt>,
) -> Settled {
    Settled {
        recipient: mailbox(recipient),
        outcome,
        reply,
        refusal: None,
        hold: None,
        group: Some(group("gmail")),
        host: None,
        route: Some("MX of example.org".into()),
        sender: ReversePath::Mailbox(mailbox("verp@out.example")),
        attempts,
        duration: Duration::from_millis(34),
    }
}

pub(crate) fn unknown_user() -> Reply {
    Reply::new(550, "5.1.1 no such user\n5.1.1 at all, \"here\"")
}

pub(crate) fn hard(recipient: &str) -> Settled {
    let attempt = attempt(Stage::Rcpt, Some(unknown_user()), Some(Class::Hard));
    settled(recipient, Outcome::Failed, unknown_user(), vec![attempt])
}

pub(crate) fn delivered(recipient: &str) -> Settled {
    let ok = Reply::new(250, "2.0.0 ok");
    settled(
        recipient,
        Outcome::Delivered,
        ok.clone(),
        vec![attempt(Stage::Dot, Some(ok), None)],
    )
}
