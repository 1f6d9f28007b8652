//! Refusals: decisions about mail, with the reply they become and the rule behind them.
//!
//! A refusal is a value, not an error. RELAY-75 to RELAY-80 fix how it is said.

use galerne_smtp::Reply;

/// The codes of our own refusals, class 9 (RELAY-76, RELAY-77).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// 9.0.0 unparsable message
    Unparsable,
    /// 9.0.1 malformed header line, or no header at all
    MalformedHeader,
    /// 9.0.2 no From, or several From fields
    From,
    /// 9.0.3 bare CR/LF or NUL
    BareLineEnd,
    /// 9.0.4 header line longer than 998 octets
    LongHeaderLine,
    /// 9.1.0 directive is not valid JSON or is unterminated
    DirectiveSyntax,
    /// 9.1.1 directive not an object, repeated, or too long
    DirectiveShape,
    /// 9.1.2 unknown member
    UnknownMember,
    /// 9.1.3 wrong type
    WrongType,
    /// 9.1.4 value out of range or badly formed
    BadValue,
    /// 9.1.5 value unknown or not allowed to this account
    NotAllowed,
    /// 9.1.6 no signing key for the domain that the directive wants signed
    NoKey,
    /// 9.2.0 refused by a filter, unspecified
    Filtered,
    /// 9.2.1 recipient listed in a blacklist of `[list]filter`
    Listed,
    /// 9.2.2 recipient address malformed
    BadRecipient,
    /// 9.2.3 sender or From not allowed to this account
    SenderNotAllowed,
    /// 9.2.4 recipient domain does not exist or publishes a null MX
    NoSuchDomain,
    /// 9.3.0 timeout, unspecified
    Timeout,
    /// 9.3.1 no outbound available (quota, pause, concurrency) in time
    NoOutbound,
    /// 9.3.2 all connection attempts failed
    NoConnection,
    /// 9.3.3 outcome unknown: no reply after the final dot
    Unknown,
    /// 9.3.4 DNS temporarily failed
    DnsFailed,
    /// 9.3.5 remote reply malformed
    MalformedReply,
}

impl Code {
    /// The second and third number: `(X, Y)` of `9.X.Y`.
    pub fn digits(self) -> (u8, u8) {
        match self {
            Code::Unparsable => (0, 0),
            Code::MalformedHeader => (0, 1),
            Code::From => (0, 2),
            Code::BareLineEnd => (0, 3),
            Code::LongHeaderLine => (0, 4),
            Code::DirectiveSyntax => (1, 0),
            Code::DirectiveShape => (1, 1),
            Code::UnknownMember => (1, 2),
            Code::WrongType => (1, 3),
            Code::BadValue => (1, 4),
            Code::NotAllowed => (1, 5),
            Code::NoKey => (1, 6),
            Code::Filtered => (2, 0),
            Code::Listed => (2, 1),
            Code::BadRecipient => (2, 2),
            Code::SenderNotAllowed => (2, 3),
            Code::NoSuchDomain => (2, 4),
            Code::Timeout => (3, 0),
            Code::NoOutbound => (3, 1),
            Code::NoConnection => (3, 2),
            Code::Unknown => (3, 3),
            Code::DnsFailed => (3, 4),
            Code::MalformedReply => (3, 5),
        }
    }
}

/// A decision not to do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// One of our own class-9 refusals: `451 9.X.Y X-SMTP-R-API <text>`.
    Ours {
        /// Which one.
        code: Code,
        /// One line of printable ASCII that names the offending key, list or host (RELAY-79).
        text: String,
        /// The rule that refused, for logs and `explain`: a requirement id or a file and key.
        rule: String,
    },
    /// A refusal with a standard reply (`554 5.4.6`, `550 5.7.1`, `552 5.3.4` …).
    Standard {
        /// What the client is told.
        reply: Reply,
        /// The rule that refused.
        rule: String,
    },
}

impl Refusal {
    /// A class-9 refusal. Control and non-ASCII octets of `text` become `?`, and it is cut at 400.
    pub fn new(code: Code, text: impl AsRef<str>, rule: impl Into<String>) -> Self {
        let text = text.as_ref().chars().take(400);
        let text = text
            .map(|c| {
                if c == ' ' || c.is_ascii_graphic() {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        Refusal::Ours {
            code,
            text,
            rule: rule.into(),
        }
    }

    /// A refusal with a standard reply.
    pub fn standard(code: u16, text: impl AsRef<str>, rule: impl Into<String>) -> Self {
        Refusal::Standard {
            reply: Reply::new(code, text.as_ref()),
            rule: rule.into(),
        }
    }

    /// What the client is told. With `permcode` (RELAY-80) the classes 9.0, 9.1 and 9.2 are
    /// `550 5.X.Y`.
    pub fn reply(&self, permcode: bool) -> Reply {
        match self {
            Refusal::Standard { reply, .. } => reply.clone(),
            Refusal::Ours { code, text, .. } => {
                let (x, y) = code.digits();
                let (basic, class) = if permcode && x < 3 {
                    (550, 5)
                } else {
                    (451, 9)
                };
                Reply::new(basic, format!("{class}.{x}.{y} X-SMTP-R-API {text}"))
            }
        }
    }

    /// The rule behind the decision.
    pub fn rule(&self) -> &str {
        match self {
            Refusal::Ours { rule, .. } | Refusal::Standard { rule, .. } => rule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_81_class_9_stands_where_an_enhanced_code_stands() {
        for code in [
            Code::Unparsable,
            Code::BadValue,
            Code::Listed,
            Code::NoConnection,
        ] {
            let reply = Refusal::new(code, "why", "rule").reply(false);
            let (x, y) = code.digits();
            let enhanced = reply.enhanced().map(|e| (e.0, e.1, e.2));
            assert_eq!(reply.code(), 451);
            assert_eq!(enhanced, Some((9, u16::from(x), u16::from(y))));
        }
    }
}
