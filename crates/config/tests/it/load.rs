//! The main file, the form of findings, what stops a start and what a reload.

use std::time::Duration;

use galerne_config::{Level, LoadOptions};
use galerne_core::settings::{BareLf, Dnssec, Key, ListenTls, Mode};

use crate::world::{World, ip, lines, one_error};

#[test]
fn conf_22_conf_27_conf_41_an_empty_file_gives_the_defaults() {
    let world = World::new();
    let s = world.settings();
    let listen: Vec<_> = s
        .rfrelay
        .listen
        .iter()
        .map(|l| (l.address.to_string(), l.tls))
        .collect();
    assert_eq!(
        listen,
        [
            ("0.0.0.0:25".to_string(), ListenTls::Plain),
            ("0.0.0.0:465".to_string(), ListenTls::Implicit)
        ]
    );
    let r = &s.rfrelay;
    assert_eq!(
        (r.threadnb, r.maxperip, r.maxsize, r.maxrcpt),
        (32, 0, 20 << 20, 100)
    );
    assert_eq!(
        (r.barelf, r.received, r.chunking),
        (BareLf::Reject, None, true)
    );
    assert!(!r.keepdirective && !r.blocktemp && !r.permcode && r.proxyfrom.is_empty());
    let m = &s.rfmta;
    assert_eq!((m.threadnb, m.mxport), (128, 25));
    assert_eq!(m.connecttimeout, Duration::from_secs(10));
    assert_eq!(m.idle, Duration::from_secs(5));
    assert_eq!(m.grace, Duration::from_secs(30));
    assert!(!m.authclear && m.verify && m.cafile.is_none());
    assert!(m.dane && m.mtasts);
    assert_eq!(m.mtastsport, 443);
    assert!(s.dns.dnssec.is_none() && s.dns.trustanchor.is_none());
    assert_eq!((s.logage, s.log_json), (30, false));
    assert_eq!(s.spool, world.path("spool"));
    assert!(s.dns.resolvers.is_empty() && s.dns.timeout.is_none());
    assert_eq!(s.hostname, "news.example.com");
}

#[test]
fn conf_22_conf_28_if_10_if_11_every_key_reaches_the_settings() {
    let world = World::empty();
    world
        .write("ca.pem", "")
        .write("root.key", "")
        .write("hosts/@next.ini", "[dns]\nmx = 127.0.0.1\n");
    world.write(
        "galerne.ini",
        "[IP]\n127.0.0.1 = a.example.com\n[rafale]\nlogage = 7\nlog = json\nrunas = galerne\n\
         [rfuser]\nspool = /var/tmp/spool\n\
         [rfrelay]\nlisten = 127.0.0.1:2525/plain [::1]:2526/tls\nthreadnb = 2000\nmaxperip = 3\nmaxsize = 1M\n\
         maxrcpt = 1\nbarelf = pass\nreceived = 1\nkeepdirective = yes\nblocktemp = 1\npermcode = 1\nchunking = 0\n\
         proxyfrom = 127.0.0.0/8\n\
         [rfmta]\nthreadnb = 9\nmxport = 2626\ncafile = ca.pem\nconnecttimeout = 3s\nidle = 0\ngrace = 1m\nauthclear = 1\nverify = 0\n\
         dane = 0\nmtasts = 0\nmtastsport = 8443\n\
         [relay]\nmode = sync\ntimeout = 2m\nmaxhop = 5\n\
         [routing]\nip = 127.0.0.1\nssl = required\nroute = @next\n\
         [dns]\nresolver = 127.0.0.1:5300\ntimeout = 2\ndnssec = validate\ntrustanchor = root.key\n",
    );
    let s = world.settings();
    assert_eq!(
        (s.logage, s.log_json, s.runas.as_deref()),
        (7, true, Some("galerne"))
    );
    assert_eq!(s.spool, std::path::Path::new("/var/tmp/spool"));
    let r = &s.rfrelay;
    let listen: Vec<_> = r
        .listen
        .iter()
        .map(|l| (l.address.to_string(), l.tls))
        .collect();
    assert_eq!(
        listen,
        [
            ("127.0.0.1:2525".to_string(), ListenTls::Plain),
            ("[::1]:2526".to_string(), ListenTls::Implicit)
        ]
    );
    assert_eq!(
        (r.threadnb, r.maxperip, r.maxsize, r.maxrcpt),
        (2000, 3, 1 << 20, 1)
    );
    assert_eq!(
        (r.barelf, r.received, r.chunking),
        (BareLf::Pass, Some(true), false)
    );
    assert!(r.keepdirective && r.blocktemp && r.permcode);
    assert_eq!(
        (r.proxyfrom[0].address, r.proxyfrom[0].prefix),
        (ip("127.0.0.0"), 8)
    );
    let m = &s.rfmta;
    assert_eq!(
        (m.threadnb, m.mxport, m.cafile.clone()),
        (9, 2626, Some(world.path("ca.pem")))
    );
    assert_eq!(
        (
            m.connecttimeout.as_secs(),
            m.idle.as_secs(),
            m.grace.as_secs()
        ),
        (3, 0, 60)
    );
    assert!(m.authclear && !m.verify && !m.dane && !m.mtasts);
    assert_eq!(m.mtastsport, 8443);
    assert_eq!(s.dns.dnssec, Some(Dnssec::Validate));
    assert_eq!(s.dns.trustanchor, Some(world.path("root.key")));
    assert_eq!(s.message.mode.value(), Some(&Mode::Sync));
    assert_eq!(s.message.timeout.value(), Some(&Duration::from_secs(120)));
    assert_eq!(s.message.maxhop.value(), Some(&5));
    assert_eq!(s.routing.route.value(), Some(&vec!["next".to_string()]));
    assert_eq!(s.dns.resolvers, ["127.0.0.1:5300".parse().unwrap()]);
    assert_eq!(s.dns.timeout, Some(Duration::from_secs(2)));
}

#[test]
fn conf_23_conf_24_addresses_need_names_and_order_is_kept() {
    let world = World::empty();
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.11 = Mta11.Example.net\n2001:db8::1 = v6.example.net\n",
    );
    let outbounds = world.settings().outbounds;
    let names: Vec<_> = outbounds
        .iter()
        .map(|o| (o.address, o.name.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            (ip("192.0.2.11"), "mta11.example.net"),
            (ip("2001:db8::1"), "v6.example.net")
        ]
    );
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.10 = a.example.com\n192.0.2.11 =\n",
    );
    let loaded = world.load();
    assert!(loaded.settings.is_none());
    assert_eq!(
        one_error(&loaded),
        "galerne.ini:3: error: [IP] 192.0.2.11: the address has no name; expected its reverse-DNS name"
    );
    world.write("galerne.ini", "[IP]\nnews.example.com = 192.0.2.10\n");
    assert!(
        one_error(&world.load())
            .contains("[IP] news.example.com: expected an IPv4 or IPv6 address")
    );
}

#[test]
fn conf_25_an_address_that_is_not_here_is_skipped_and_reported() {
    let world = World::new();
    let second = |a: std::net::IpAddr| a == ip("192.0.2.11");
    let options = LoadOptions {
        no_bind_check: false,
        strict: true,
        on_host: &second,
        key_facts: &|_| Err("no key".into()),
        further: &|_| Vec::new(),
    };
    let loaded = world.load_with(options);
    assert_eq!(
        lines(&loaded),
        ["galerne.ini:2: warning: [IP] 192.0.2.10: not an address of this host; it is skipped"]
    );
    let settings = loaded.settings.unwrap();
    assert_eq!(settings.outbounds.len(), 1);
    assert_eq!(settings.hostname, "mta11.example.net");
    let unchecked = LoadOptions {
        no_bind_check: true,
        ..options
    };
    assert_eq!(
        world.load_with(unchecked).settings.unwrap().outbounds.len(),
        2
    );
}

#[test]
fn if_12_loopback_addresses_may_send() {
    let world = World::empty();
    world.write("galerne.ini", "[IP]\n127.0.0.2 = relay.storm.test\n");
    assert_eq!(world.settings().outbounds[0].address, ip("127.0.0.2"));
}

#[test]
fn if_4_findings_have_one_form_and_are_sorted() {
    let world = World::new();
    world.write("users/shop.ini", "[account]\n\n[list]\nfilter = missing\n");
    world.write(
        "galerne.ini",
        "[rfrelay]\nmaxrcpt = none\nlisen = 0.0.0.0\n[IP]\n192.0.2.1 = a.example.com\n",
    );
    let loaded = world.load();
    let found = lines(&loaded);
    assert_eq!(
        found[..2],
        [
            "galerne.ini:2: error: [rfrelay] maxrcpt: expected a whole number, found `none`",
            "galerne.ini:3: warning: [rfrelay] lisen: unknown key, ignored (did you mean `listen`?)",
        ]
    );

    assert_eq!(
        found[2],
        "users/shop.ini:4: error: [list] filter: there is no list missing; expected a file lists/missing.csv"
    );
    assert_eq!(loaded.errors(), 2);
    assert_eq!(loaded.count(Level::Warning), 1);
}

#[test]
fn conf_11_an_error_in_the_main_file_stops_the_start() {
    let world = World::new();
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.1 = a.example.com\n[relay]\nmaxhop = 21\n",
    );
    let loaded = world.load();
    assert!(loaded.settings.is_none());
    let error = one_error(&loaded);
    assert_eq!(
        error,
        "galerne.ini:4: error: [relay] maxhop: expected a number from 1 to 20, found `21`"
    );
}

#[test]
fn conf_11_an_error_in_another_file_disables_that_file() {
    let world = World::new();
    world.write("users/good.ini", "[account]\nsmtpip = 192.0.2.1\n");
    world.write("users/bad.ini", "[account]\nsmtpssl = perhaps\n");
    world.write("domains/@good.ini", "[dns]\nmx = mx.example.org\n");
    world.write(
        "domains/@bad.ini",
        "[dns]\nmx = mx.example.com\n[pattern]\nx = NOTHING(y) 550 *\n",
    );
    world.write("hosts/@good.ini", "[dns]\nmx = smtp.example.net\n");
    world.write("hosts/@bad.ini", "[dns]\nport = 25\n");
    let loaded = world.load();
    assert_eq!(loaded.errors(), 3, "{:#?}", lines(&loaded));
    let s = loaded.settings.unwrap();
    let names = |names: Vec<&str>| names.join(" ");
    assert_eq!(
        names(s.accounts.iter().map(|a| a.name.as_str()).collect()),
        "good"
    );
    assert_eq!(
        names(s.groups.iter().map(|g| g.name.as_str()).collect()),
        "good"
    );
    assert_eq!(
        names(s.hosts.iter().map(|h| h.name.as_str()).collect()),
        "good"
    );
}

#[test]
fn conf_11_t_64_on_reload_any_error_keeps_the_old_settings() {
    let world = World::new();
    world.write("users/bad.ini", "[account]\nsmtpssl = perhaps\n");
    let options = LoadOptions {
        no_bind_check: false,
        strict: true,
        on_host: &|_| true,
        key_facts: &|_| Err("no key".into()),
        further: &|_| Vec::new(),
    };
    let loaded = world.load_with(options);
    assert!(loaded.settings.is_none());
    assert_eq!(
        one_error(&loaded),
        "users/bad.ini:2: error: [account] smtpssl: expected a flag: 0/1, true/false or yes/no, found `perhaps`"
    );
    world.write("users/bad.ini", "[account]\nsmtpssl = 1\nnonsense = 1\n");
    assert!(
        world.load_with(options).settings.is_some(),
        "a warning is no error"
    );
}

#[test]
fn conf_14_conf_21_split_sections_repeated_and_unknown_names() {
    let world = World::empty();
    world.write(
        "galerne.ini",
        "\u{feff}stray = 1\r\n[RfRelay]\r\nMaxRcpt = 5\r\n[ip]\r\n192.0.2.1 = a.example.com\r\n[RFRELAY]\r\nmaxrcpt = 6\r\n[unknown]\r\nx = 1\r\n[rfrelai]\r\n",
    );
    let loaded = world.load();
    assert_eq!(
        lines(&loaded),
        [
            "galerne.ini:1: warning: [-] stray: a key before the first section, ignored",
            "galerne.ini:7: warning: [RFRELAY] maxrcpt: set again; the value of line 3 does not count",
            "galerne.ini:8: warning: [unknown] -: unknown section, ignored",
            "galerne.ini:10: warning: [rfrelai] -: unknown section, ignored (did you mean [rfrelay]?)",
        ]
    );
    assert_eq!(loaded.settings.unwrap().rfrelay.maxrcpt, 6);
}

#[test]
fn conf_14_lines_that_mean_nothing_are_errors() {
    let world = World::new();
    world.write("users/a.ini", "[account\nsmtpssl\n");
    world.write("users/b.ini", b"[account]\nsmtplogin = \xff\n");
    let found = lines(&world.load());
    assert_eq!(
        found,
        [
            "users/a.ini:1: error: [-] -: a section header must end with `]`",
            "users/a.ini:2: error: [-] -: expected `key = value`, found no `=`",
            "users/b.ini:2: error: [-] -: not UTF-8 text",
        ]
        .map(String::from)
        .into_iter()
        .collect::<Vec<_>>()
        .as_slice(),
        "{found:#?}"
    );
}

#[test]
fn conf_26_old_pattern_keys_are_known() {
    let world = World::empty();
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.1 = a.example.com\n[rfrelay]\nsoftptrn = \"mailbox full\"\nhardptrn = user unknown\n",
    );
    let found = lines(&world.load());
    assert!(found[0].contains("[rfrelay] softptrn: return mail is not part of this version"));
    assert!(found[1].contains("error: [rfrelay] hardptrn: expected strings in double quotes"));
    assert_eq!(found.len(), 2);
}

#[test]
fn queue_1_queue_11_queue_12_the_keys_of_the_queue_are_read() {
    let world = World::new();
    for (word, mode) in [
        ("queue", Mode::Queue),
        ("auto", Mode::Auto),
        ("sync", Mode::Sync),
    ] {
        let main = format!(
            "[IP]\n192.0.2.1 = a.example.com\n[relay]\nmode = {word}\n[queue]\nmaxage = 1h\nretry = 1m 2h\nsync = 0\n[galerne]\nqmsize = 7\n"
        );
        world.write("galerne.ini", main);
        let settings = world.load().settings.unwrap();
        assert_eq!(settings.message.mode, Key::Set(mode));
        let queue = &settings.queue;
        let seconds: Vec<u64> = queue.retry.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [60, 7200]);
        assert_eq!(
            (queue.maxage.as_secs(), queue.qmsize, queue.sync),
            (3600, 7, false)
        );
    }
    let main = "[IP]\n192.0.2.1 = a.example.com\n[queue]\nretry = 0\n";
    world.write("galerne.ini", main);
    let loaded = world.load();
    assert!(one_error(&loaded).contains("[queue] retry: expected one or more pauses"));
}

#[test]
fn if_4_a_root_without_main_file_says_so() {
    let loaded = World::empty().load();
    assert!(loaded.settings.is_none());
    assert_eq!(
        one_error(&loaded),
        "galerne.ini:1: error: [-] -: there is no such file; `galerne init` writes a sample"
    );
}

#[test]
fn conf_8_the_start_says_what_it_found() {
    let world = World::new();
    world.write(
        "users/shop.ini",
        "[account]\nsmtplogin = shop@example.com\nsmtppassw = geheim\nsmtpip = 192.0.2.0/24\n",
    );
    world.write(
        "domains/@isp.ini",
        "[dns]\nmx = a.example b.example\n[pattern]\nx = HARD(y) 550 *\n",
    );
    world.write(
        "domains/@isp_alias.csv",
        "date,domain\n260101000000,isp.example\n",
    );
    world.write(
        "hosts/@next.ini",
        "[dns]\nmx = smtp.example.net\nport = 587\nlogin = a\npassw = b\n",
    );
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.10 = news.example.com\n192.0.2.11 = mta11.example.net\n[rfrelay]\ndmarcaddr = dmarc\n",
    );
    world
        .write("keys/news.example.com dkim id.pem", "rsa 2048")
        .write("certs/news.example.com.pem", "");
    world.write("certs/news.example.com.key", "");
    let found = world.load().found;
    assert_eq!(
        found,
        [
            "IP 192.0.2.10 news.example.com",
            "IP 192.0.2.11 mta11.example.net",
            "listen 0.0.0.0:25 SMTP (clear, STARTTLS)",
            "listen 0.0.0.0:465 SMTP (TLS)",
            "user shop (login shop@example.com over TLS, from 192.0.2.0/24)",
            "group @isp (2 MX patterns, 1 aliases, 1 reply patterns)",
            "group @ (0 reply patterns)",
            "host @next smtp.example.net port 587, AUTH",
            "key news.example.com dkim id (rsa-sha256)",
            "certificate news.example.com",
            "0 errors, 0 warnings",
        ]
    );
}

#[test]
fn conf_54_conf_55_later_parts_give_one_warning_for_each_key() {
    let world = World::empty();
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.1 = a.example.com\n[rftrack]\nlisten = 127.0.0.1:8025/plain\n[routing]\nsign = from\n[push]\nprivate = 0\n",
    );
    world.write(
        "users/shop.ini",
        "[account]\nsmtpip = 192.0.2.1\ndefault_from_addr = *@a.example.com\n[routing]\nsign = 0\narc = 0\n[returns]\nforward = x@a.example.com\n[push]\nmethod = basic\n[webhook]\nformat = form\n",
    );
    assert_eq!(
        lines(&world.load()),
        [
            "galerne.ini:4: warning: [rftrack] listen: the HTTP server is not part of this version; the key is read and has no effect yet",
            "users/shop.ini:3: warning: [account] default_from_addr: mail by API and jobs, on which alone it acts, is not part of this version; the key is read and has no effect yet",
            "users/shop.ini:8: warning: [returns] forward: return mail is not part of this version; the key is read and has no effect yet",
            "users/shop.ini:10: warning: [push] method: push notification is not part of this version; the key is read and has no effect yet",
            "users/shop.ini:12: warning: [webhook] format: push notification is not part of this version; the key is read and has no effect yet",
        ]
    );
}

#[test]
fn conf_90_secrets_never_appear() {
    let world = World::new();
    world.write(
        "users/shop.ini",
        "[account]\nsmtppassw = {argon2}TopSecret1\napikey = TopSecret2\napikey = TopSecret2\nsmtpassw = TopSecret3\nTopSecret4\n",
    );
    world.write(
        "users/zoo.ini",
        "[account]\nsmtppassw = TopSecret5\napikey = TopSecret2\n",
    );
    world.write(
        "hosts/@next.ini",
        "[dns]\nmx = a.example\nlogin = x\npassw = TopSecret6\n",
    );
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.1 = a.example.com\n[store]\nurl = postgres://u:TopSecret7 @host\n",
    );
    let loaded = world.load();
    let text = format!("{loaded:?} {:?} {:?}", lines(&loaded), loaded.found);
    assert!(!text.contains("TopSecret"), "{text}");
    world.write("galerne.ini", "[IP]\n192.0.2.1 = a.example.com\n");
    let loaded = world.load();
    assert!(loaded.settings.is_some());
    let text = format!("{loaded:?} {:?} {:?}", lines(&loaded), loaded.found);
    assert!(!text.contains("TopSecret"), "{text}");
}

#[test]
fn the_bench_configuration_loads_without_errors() {
    for fixed in [true, false] {
        let world = World::empty();
        world.write(
            "galerne.ini",
            "[IP]\n127.0.0.1 = relay.storm.test\n[rfrelay]\nlisten = 127.0.0.1:2525/plain\nthreadnb = 2000\n[rfmta]\nthreadnb = 2000\n[rftrack]\nlisten = 127.0.0.1:8025/plain\n[relay]\nmode = sync\n",
        );
        let route = match fixed {
            true => "authorizedroute = @next\n[routing]\nroute = @next",
            false => "[routing]",
        };
        world.write(
            "users/storm.ini",
            format!("[account]\nsmtpssl = 0\nsmtpip = 127.0.0.0/8\n{route}\nsign = 0\n"),
        );
        match fixed {
            true => world.write(
                "hosts/@next.ini",
                "[dns]\nrelay = 1\nmx = 127.0.0.1\nport = 2526\n",
            ),
            false => world.write(
                "domains/@.ini",
                "[ipflow#warmup]\nthreadmax = 0\n[sdflow#warmup]\nthreadmax = 0\n",
            ),
        };
        let settings = world.settings();
        assert_eq!(settings.accounts[0].routing.route.is_present(), fixed);
        assert_eq!(settings.hosts.len(), usize::from(fixed));
        assert_eq!(settings.rfrelay.threadnb, 2000);
        assert_eq!(settings.catch_all.flow.is_empty(), fixed);
    }
}

#[test]
fn conf_13_nothing_is_read_without_bound_and_the_queue_has_its_limits() {
    let world = World::new();
    world.write("users/big.ini", vec![b'#'; (16 << 20) + 1]);
    let loaded = world.load();
    assert_eq!(
        one_error(&loaded),
        "users/big.ini:1: error: [-] -: larger than 16 MiB"
    );
    let world = World::empty();
    world.write(
        "galerne.ini",
        "[IP]\n192.0.2.1 = a.example.com\n[galerne]\nqmsize = 0\nqmmemo = 0\n",
    );
    let found = lines(&world.load());
    assert!(found[0].starts_with("galerne.ini:4: error: [galerne] qmsize: expected 1 or more"));
    assert!(
        found[1].starts_with("galerne.ini:5: error: [galerne] qmmemo: expected a number from 1")
    );
}
