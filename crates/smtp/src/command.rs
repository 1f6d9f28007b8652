//! One command line of a client, parsed into a request (RFC 5321 §4.1, RFC 3030, 3461, 4954, 6152,
//! 6531, 8689).
//!
//! It takes a line without its CRLF and knows nothing of what came before: the order of commands
//! is the business of `server`. A [`Fault`] is the reply to a line that cannot be used.

use crate::address::{AddressError, ForwardPath, ReversePath};
use crate::bdat::Chunk;
use crate::xtext;

mod verb;

use verb::Verb;

/// Longest ENVID value as sent (RFC 3461 §5.4).
const ENVID_MAX: usize = 100;
/// Longest ORCPT value as sent (RFC 3461 §5.4).
const ORCPT_MAX: usize = 500;

/// A parsed command.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Ehlo(&'a str),
    Helo(&'a str),
    Mail(MailRequest),
    Rcpt(RcptRequest),
    Data,
    /// Content follows the line.
    Bdat(Chunk),
    Auth {
        mechanism: &'a str,
        initial: Option<&'a str>,
    },
    StartTls,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
}

/// MAIL with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRequest {
    pub path: ReversePath,
    /// SIZE, octets.
    pub size: Option<u64>,
    /// BODY=8BITMIME.
    pub body8bit: bool,
    pub smtputf8: bool,
    pub ret: Option<Ret>,
    /// Decoded from xtext.
    pub envid: Option<String>,
    /// One reply per recipient is wanted (draft-hall-prdr).
    pub prdr: bool,
    pub requiretls: bool,
    /// AUTH=, decoded from xtext; `<>` if that was given.
    pub auth: Option<String>,
}

/// RCPT with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RcptRequest {
    pub path: ForwardPath,
    pub notify: Option<Notify>,
    /// (type, address), decoded from xtext.
    pub orcpt: Option<(String, String)>,
}

/// NOTIFY of RFC 3461 §4.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    pub never: bool,
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

/// RET of RFC 3461 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    Full,
    Hdrs,
}

/// Why a line cannot be used, and the reply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: u16,
    /// The enhanced code, `5.5.4`.
    pub enhanced: &'static str,
    pub text: &'static str,
}

impl Fault {
    pub(crate) const fn new(code: u16, enhanced: &'static str, text: &'static str) -> Self {
        Fault {
            code,
            enhanced,
            text,
        }
    }

    const fn parameter(text: &'static str) -> Self {
        Fault::new(501, "5.5.4", text)
    }
}

/// What of a session changes how a line is read.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Our name: the domain of `<Postmaster>`.
    pub hostname: &'a str,
    /// REQUIRETLS is known: offered, and the session is encrypted (RFC 8689).
    pub requiretls: bool,
    /// PRDR is known.
    pub prdr: bool,
}

/// Parses one line, without its CRLF.
pub fn parse<'a>(line: &'a [u8], context: &Context<'_>) -> Result<Command<'a>, Fault> {
    let (verb, rest) = verb::split(line);
    let Some(verb) = verb else {
        return Err(Fault::new(500, "5.5.1", "Command not recognized"));
    };
    let text = std::str::from_utf8(rest);
    match verb {
        Verb::Mail => mail(
            text.map_err(|_| Fault::new(501, "5.1.7", NOT_UTF8))?,
            context,
        )
        .map(Command::Mail),
        Verb::Rcpt => rcpt(
            text.map_err(|_| Fault::new(501, "5.1.3", NOT_UTF8))?,
            context,
        )
        .map(Command::Rcpt),
        _ => {
            let text = text.ok().filter(|t| t.is_ascii());
            simple(
                verb,
                text.ok_or(Fault::parameter("Only ASCII is allowed here"))?
                    .trim_ascii(),
            )
        }
    }
}

const NOT_UTF8: &str = "The address is neither ASCII nor UTF-8";

fn simple(verb: Verb, argument: &str) -> Result<Command<'_>, Fault> {
    let alone = |command| match argument {
        "" => Ok(command),
        _ => Err(Fault::parameter("This command takes no argument")),
    };
    match verb {
        Verb::Ehlo => host(argument).map(Command::Ehlo),
        Verb::Helo => host(argument).map(Command::Helo),
        Verb::Data => alone(Command::Data),
        Verb::Bdat => {
            // Without its size, content could be taken for commands; see `server`.
            let chunk = Chunk::parse(argument.as_bytes());
            chunk
                .map(Command::Bdat)
                .ok_or(Fault::parameter("Syntax: BDAT size [LAST]"))
        }
        Verb::Auth => auth(argument),
        Verb::StartTls => alone(Command::StartTls),
        Verb::Rset => alone(Command::Rset),
        Verb::Quit => alone(Command::Quit),
        Verb::Noop => Ok(Command::Noop),
        Verb::Help => Ok(Command::Help),
        Verb::Vrfy if argument.is_empty() => Err(Fault::parameter("Syntax: VRFY address")),
        Verb::Vrfy => Ok(Command::Vrfy),
        Verb::Mail | Verb::Rcpt | Verb::Known => {
            Err(Fault::new(502, "5.5.1", "Command not implemented"))
        }
    }
}

/// The name of a client: anything that can stand in a header field without harm.
fn host(argument: &str) -> Result<&str, Fault> {
    let allowed = |b: u8| b.is_ascii_graphic() && !b"()<>@,;\"\\".contains(&b);
    if argument.is_empty() {
        return Err(Fault::parameter("The name of the client is missing"));
    }
    if argument.len() > 255 || !argument.bytes().all(allowed) {
        return Err(Fault::parameter("This is no name of a client"));
    }
    Ok(argument)
}

fn auth(argument: &str) -> Result<Command<'_>, Fault> {
    let mut words = argument.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth { mechanism, initial }),
        _ => Err(Fault::parameter(
            "Syntax: AUTH mechanism [initial-response]",
        )),
    }
}

fn mail(rest: &str, context: &Context<'_>) -> Result<MailRequest, Fault> {
    let usage = Fault::parameter("Syntax: MAIL FROM:<address>");
    let (inside, parameters) = path(after(rest, "FROM:").ok_or(usage)?).ok_or(Fault::new(
        501,
        "5.1.7",
        "The sender has to stand between < and >",
    ))?;
    let path = ReversePath::parse(inside).map_err(|e| match e {
        AddressError::Syntax(why) | AddressError::Impossible(why) => Fault::new(501, "5.1.7", why),
    })?;
    let mut request = MailRequest {
        path,
        size: None,
        body8bit: false,
        smtputf8: false,
        ret: None,
        envid: None,
        prdr: false,
        requiretls: false,
        auth: None,
    };
    let mut seen = 0;
    for word in parameters.split_ascii_whitespace() {
        mail_parameter(word, &mut request, &mut seen, context)?;
    }
    if !request.smtputf8 && request.path.mailbox().is_some_and(|m| !m.is_ascii()) {
        return Err(Fault::new(553, "5.6.7", "This sender needs SMTPUTF8"));
    }
    Ok(request)
}

fn mail_parameter(
    word: &str,
    request: &mut MailRequest,
    seen: &mut u8,
    context: &Context<'_>,
) -> Result<(), Fault> {
    let (key, value) = split_parameter(word)?;
    let is = |name: &str| key.eq_ignore_ascii_case(name);
    let bit = if is("SIZE") {
        let digits = value.is_some_and(|v| {
            v.len() <= 20 && !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit())
        });
        // A number beyond 64 bits is a size too, and too large.
        let size = value
            .filter(|_| digits)
            .map(|v| v.parse().unwrap_or(u64::MAX));
        request.size = Some(size.ok_or(Fault::parameter("SIZE wants a number"))?);
        1
    } else if is("BODY") {
        request.body8bit = match value {
            Some(v) if v.eq_ignore_ascii_case("8BITMIME") => true,
            Some(v) if v.eq_ignore_ascii_case("7BIT") => false,
            _ => return Err(Fault::parameter("BODY is 7BIT or 8BITMIME")),
        };
        2
    } else if is("SMTPUTF8") {
        request.smtputf8 = flag(value)?;
        4
    } else if is("RET") {
        request.ret = Some(match value {
            Some(v) if v.eq_ignore_ascii_case("FULL") => Ret::Full,
            Some(v) if v.eq_ignore_ascii_case("HDRS") => Ret::Hdrs,
            _ => return Err(Fault::parameter("RET is FULL or HDRS")),
        });
        8
    } else if is("ENVID") {
        let decoded = value
            .filter(|v| v.len() <= ENVID_MAX)
            .and_then(xtext::decode);
        let fault =
            Fault::parameter("ENVID wants at most 100 characters of printable ASCII as xtext");
        request.envid = Some(decoded.filter(|v| v.is_ascii()).ok_or(fault)?);
        16
    } else if is("PRDR") && context.prdr {
        request.prdr = flag(value)?;
        32
    } else if is("REQUIRETLS") && context.requiretls {
        request.requiretls = flag(value)?;
        64
    } else if is("AUTH") {
        let sender = value.and_then(|v| {
            if v == "<>" {
                Some(v.to_owned())
            } else {
                xtext::decode(v)
            }
        });
        request.auth =
            Some(sender.ok_or(Fault::parameter("AUTH wants <> or an address as xtext"))?);
        128
    } else {
        return Err(Fault::new(
            555,
            "5.5.4",
            "A parameter of MAIL is not recognized",
        ));
    };
    once(seen, bit)
}

fn rcpt(rest: &str, context: &Context<'_>) -> Result<RcptRequest, Fault> {
    let usage = Fault::parameter("Syntax: RCPT TO:<address>");
    let (inside, parameters) = path(after(rest, "TO:").ok_or(usage)?).ok_or(Fault::new(
        501,
        "5.1.3",
        "The recipient has to stand between < and >",
    ))?;
    if inside.is_empty() {
        return Err(Fault::new(501, "5.1.3", "The recipient is missing"));
    }
    let path = ForwardPath::parse(inside, context.hostname)
        .map_err(|why| Fault::new(501, "5.1.3", why))?;
    let mut request = RcptRequest {
        path,
        notify: None,
        orcpt: None,
    };
    let mut seen = 0;
    for word in parameters.split_ascii_whitespace() {
        let (key, value) = split_parameter(word)?;
        let bit = if key.eq_ignore_ascii_case("NOTIFY") {
            let fault = Fault::parameter("NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY");
            request.notify = Some(value.and_then(notify).ok_or(fault)?);
            1
        } else if key.eq_ignore_ascii_case("ORCPT") {
            let fault =
                Fault::parameter("ORCPT wants type;address as xtext, at most 500 characters");
            let value = value.filter(|v| v.len() <= ORCPT_MAX);
            request.orcpt = Some(value.and_then(xtext::decode_orcpt).ok_or(fault)?);
            2
        } else {
            return Err(Fault::new(
                555,
                "5.5.4",
                "A parameter of RCPT is not recognized",
            ));
        };
        once(&mut seen, bit)?;
    }
    Ok(request)
}

/// The list of NOTIFY; NEVER only alone (RET-27).
pub fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify {
            never: true,
            ..Notify::default()
        });
    }
    let mut notify = Notify::default();
    for word in value.split(',') {
        let field = if word.eq_ignore_ascii_case("SUCCESS") {
            &mut notify.success
        } else if word.eq_ignore_ascii_case("FAILURE") {
            &mut notify.failure
        } else if word.eq_ignore_ascii_case("DELAY") {
            &mut notify.delay
        } else {
            return None;
        };
        *field = true;
    }
    Some(notify)
}

/// What follows `FROM:` or `TO:`; blanks around the colon are tolerated.
fn after<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let rest = rest.trim_ascii_start();
    let word = rest.get(..keyword.len() - 1)?;
    let colon = rest
        .get(keyword.len() - 1..)?
        .trim_ascii_start()
        .strip_prefix(':')?;
    let matches = keyword
        .get(..keyword.len() - 1)
        .is_some_and(|k| k.eq_ignore_ascii_case(word));
    matches.then(|| colon.trim_ascii_start())
}

/// Splits `<path> parameters`. A `>` within quotes does not end the path.
fn path(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inside.bytes().position(|b| {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' => return !quoted,
            _ => {}
        }
        false
    })?;
    let (path, rest) = inside.split_at_checked(end)?;
    let rest = rest.strip_prefix('>')?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some((path, rest))
}

/// Splits `KEY[=value]` (RFC 5321 §4.1.2, `esmtp-param`).
fn split_parameter(word: &str) -> Result<(&str, Option<&str>), Fault> {
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    let keyword = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match keyword && !key.is_empty() {
        true => Ok((key, value)),
        false => Err(Fault::parameter("A parameter is malformed")),
    }
}

fn flag(value: Option<&str>) -> Result<bool, Fault> {
    match value {
        None => Ok(true),
        Some(_) => Err(Fault::parameter("A parameter has a value and takes none")),
    }
}

fn once(seen: &mut u8, bit: u8) -> Result<(), Fault> {
    if *seen & bit != 0 {
        return Err(Fault::parameter("A parameter is given twice"));
    }
    *seen |= bit;
    Ok(())
}

#[cfg(test)]
mod tests;
