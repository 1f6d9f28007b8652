//! Fuzz functions of the server side: each takes any octets and asserts what must always hold
//! (T-09). They run under plain `cargo test` with stored inputs and mutations of them, and under
//! any coverage-guided driver.

use std::sync::Arc;

use crate::address::ForwardPath;
use crate::command::{self, Command, Context};
use crate::data::BareLfPolicy;
use crate::proxy::{self, ProxyParse};
use crate::reply::Reply;
use crate::server::{AuthVerdict, Phase, ServerConfig, ServerEvent, ServerSession};
use crate::{Mailbox, xtext};

/// One command line.
pub fn command(data: &[u8]) {
    let line = data
        .split(|&b| b == b'\r' || b == b'\n')
        .next()
        .unwrap_or(data);
    let context = Context {
        hostname: "relay.example.com",
        requiretls: true,
        prdr: true,
    };
    match command::parse(line, &context) {
        Ok(Command::Mail(request)) => {
            if let Some(mailbox) = request.path.mailbox() {
                check_mailbox(mailbox);
                assert!(mailbox.is_ascii() || request.smtputf8);
            }
            assert!(
                request
                    .envid
                    .as_deref()
                    .is_none_or(|e| is_printable(e) && e.len() <= 100)
            );
            if let Some(envid) = &request.envid {
                assert_eq!(xtext::decode(&xtext::encode(envid)).as_ref(), Some(envid));
            }
        }
        Ok(Command::Rcpt(request)) => {
            match &request.path {
                ForwardPath::Mailbox(mailbox) => check_mailbox(mailbox),
                ForwardPath::Impossible { text, .. } => {
                    assert!(is_printable(text) && text.len() <= 254)
                }
            }
            if let Some((kind, address)) = &request.orcpt {
                assert!(is_printable(kind) && is_printable(address));
                let wire = xtext::encode_orcpt(kind, address);
                assert!(wire.is_ascii());
                assert_eq!(xtext::decode_orcpt(&wire).as_ref(), request.orcpt.as_ref());
            }
            if let Some(notify) = request.notify {
                assert!(notify.never != (notify.success || notify.failure || notify.delay));
            }
        }
        Ok(Command::Ehlo(name) | Command::Helo(name)) => {
            assert!(
                !name.is_empty() && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic())
            );
        }
        Ok(_) => {}
        Err(fault) => assert!((500..=599).contains(&fault.code)),
    }
    if let Ok(text) = std::str::from_utf8(line)
        && let Ok(mailbox) = Mailbox::parse(text)
    {
        assert_eq!(mailbox.as_str(), text, "kept as written");
        check_mailbox(&mailbox);
    }
}

fn check_mailbox(mailbox: &Mailbox) {
    let text = mailbox.as_str();
    assert!(is_printable(text) && text.len() <= 254);
    assert_eq!(text, format!("{}@{}", mailbox.local(), mailbox.domain()));
    assert!(!mailbox.local().is_empty() && !mailbox.domain().is_empty());
    let ascii = mailbox.ascii_domain();
    assert!(ascii.is_ascii() && !ascii.bytes().any(|b| b.is_ascii_uppercase()));
    assert_eq!(Mailbox::parse(text).as_ref(), Ok(mailbox));
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_ascii_control())
}

/// The header of the PROXY protocol.
pub fn proxy(data: &[u8]) {
    let whole = proxy::parse(data);
    match whole {
        ProxyParse::Header { len, .. } | ProxyParse::Local { len } => {
            assert!(len <= data.len() && len <= proxy::V2_MAX);
            assert_eq!(
                proxy::parse(data.get(..len).unwrap_or(data)),
                whole,
                "what follows is not looked at"
            );
            let shorter = data.get(..len - 1).unwrap_or(data);
            assert_eq!(
                proxy::parse(shorter),
                ProxyParse::Incomplete,
                "each octet is needed"
            );
        }
        ProxyParse::Incomplete => assert!(data.len() < proxy::V2_MAX, "the wait is bounded"),
        ProxyParse::Invalid => {
            let more = [data, b"\r\n"].concat();
            assert_eq!(
                proxy::parse(&more),
                ProxyParse::Invalid,
                "no second thoughts"
            );
        }
    }
}

/// A whole session: the first octet chooses the configuration, the rest is what the client sends,
/// once in one piece and once octet by octet.
pub fn server_session(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else {
        return;
    };
    let whole = run(choice, input, usize::MAX);
    let early = whole.windows(8).any(|w| w == b"Wait for");
    check_replies(&whole, input);
    let single = run(choice, input, 1);
    check_replies(&single, input);
    if !early {
        assert_eq!(
            String::from_utf8_lossy(&whole),
            String::from_utf8_lossy(&single),
            "the replies depend on where the input is cut"
        );
    }
}

const MAX_SIZE: u64 = 300;

fn run(choice: u8, input: &[u8], piece: usize) -> Vec<u8> {
    let config = ServerConfig {
        hostname: "relay.example.com".to_owned(),
        max_size: MAX_SIZE,
        max_rcpt: 3,
        chunking: choice & 1 == 0,
        prdr: choice & 2 == 0,
        starttls: choice & 4 == 0,
        requiretls: choice & 4 == 0,
        bare_lf: match choice >> 6 {
            0 => BareLfPolicy::Normalise,
            1 => BareLfPolicy::Pass,
            _ => BareLfPolicy::Reject,
        },
        max_errors: if choice & 16 == 0 { 10 } else { 1000 },
    };
    let mut session = ServerSession::new(Arc::new(config), choice & 8 != 0);
    session.offer_auth(choice & 32 == 0);
    let (mut out, mut content) = (Vec::new(), Vec::new());
    session.greet(&mut out);
    for mut rest in input.chunks(piece.min(input.len().max(1))) {
        loop {
            let before = (rest.len(), session.phase());
            let (used, event) = session.poll(rest, &mut out, &mut content);
            assert!(used <= rest.len());
            assert!(content.len() as u64 <= MAX_SIZE, "content beyond the limit");
            assert!(session.buffered() <= 12_288, "a line without bound");
            rest = rest.get(used..).unwrap_or(&[]);
            match event {
                ServerEvent::NeedInput => {
                    assert!(rest.is_empty());
                    assert!(!matches!(session.phase(), Phase::Answer | Phase::Handshake));
                    break;
                }
                ServerEvent::Close => {
                    assert_eq!(session.phase(), Phase::Closed);
                    return out;
                }
                ServerEvent::StartTls => {
                    session.tls_established();
                    session.offer_auth(true);
                    content.clear();
                    break;
                }
                event => decide(event, &mut session, &mut out, &mut content),
            }
            assert!(
                before != (rest.len(), session.phase()) || rest.is_empty(),
                "no progress"
            );
        }
    }
    out
}

fn decide(
    event: ServerEvent,
    session: &mut ServerSession,
    out: &mut Vec<u8>,
    content: &mut Vec<u8>,
) {
    match event {
        ServerEvent::Mail(_) => {
            content.clear();
            session.answer(Reply::new(250, "2.1.0 OK"), out);
        }
        ServerEvent::Rcpt(request) => {
            let good = matches!(request.path, ForwardPath::Mailbox(_));
            session.answer(Reply::new(if good { 250 } else { 451 }, "so"), out);
        }
        ServerEvent::Auth(found) => {
            let right = found.password == "secret";
            session.auth_result(
                if right {
                    AuthVerdict::Accepted
                } else {
                    AuthVerdict::Refused
                },
                out,
            );
        }
        ServerEvent::EndOfData { problem, size, .. } => {
            assert!(problem.is_some() || content.len() as u64 == size);
            session.finish(
                &[Reply::new(250, "one"), Reply::new(250, "all\nof them")],
                out,
            );
            content.clear();
        }
        ServerEvent::Hello | ServerEvent::Reset => content.clear(),
        _ => {}
    }
}

/// Replies are lines of three digits, a blank or a hyphen, and text without control characters;
/// their amount is bounded by what was asked.
fn check_replies(out: &[u8], input: &[u8]) {
    let lines = input.iter().filter(|&&b| b == b'\n').count();
    assert!(out.len() <= 400 * (lines + 20), "too many replies");
    let Some(text) = out.strip_suffix(b"\r\n") else {
        assert!(out.is_empty(), "an unfinished line");
        return;
    };
    let mut open: Option<&[u8]> = None;
    for line in text.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.iter().any(|b| b.is_ascii_control()), "{line:?}");
        let (code, rest) = line.split_at_checked(3).unwrap_or((line, &[]));
        assert!(
            code.len() == 3 && code.iter().all(u8::is_ascii_digit),
            "{line:?}"
        );
        assert!(matches!(code.first(), Some(b'2'..=b'5')), "{line:?}");
        assert!(
            open.is_none_or(|open| open == code),
            "the code changes midway"
        );
        assert!(matches!(rest.first(), Some(b' ' | b'-')), "{line:?}");
        open = (rest.first() == Some(&b'-')).then_some(code);
    }
    assert!(open.is_none(), "an unfinished reply");
}
