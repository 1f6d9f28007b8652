//! The server's half of SASL PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).
//!
//! It unwraps credentials and judges none of them.

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Longest line of an exchange with its CRLF (RFC 4954 §4).
pub const LINE_MAX: usize = 12_288;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The mechanisms we offer (RELAY-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Login,
}

impl Mechanism {
    /// The word of EHLO and AUTH.
    pub fn word(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }
}

/// What a client claims to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub login: String,
    pub password: String,
    /// Whom it wants to act as, if it said so (PLAIN only).
    pub authzid: Option<String>,
    pub mechanism: Mechanism,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("login", &self.login)
            .field("authzid", &self.authzid)
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

/// An exchange under way.
pub struct Exchange {
    mechanism: Mechanism,
    /// LOGIN: the name, once it was given.
    login: Option<String>,
}

/// What comes next in an exchange.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send `334` with this text, already in base64.
    Challenge(&'static str),
    Done(Credentials),
    /// The client sent `*`.
    Cancelled,
    /// Not base64, or not what the mechanism wants.
    Malformed,
}

impl Exchange {
    /// Begins with the mechanism of AUTH; `None` if we do not know it.
    pub fn new(mechanism: &str) -> Option<Exchange> {
        let mechanism = [Mechanism::Plain, Mechanism::Login]
            .into_iter()
            .find(|m| m.word().eq_ignore_ascii_case(mechanism))?;
        Some(Exchange {
            mechanism,
            login: None,
        })
    }

    /// Takes the initial response, if AUTH had one; `=` is an empty one (RFC 4954 §4).
    pub fn begin(&mut self, initial: Option<&str>) -> Step {
        match initial {
            None => Step::Challenge(match self.mechanism {
                Mechanism::Plain => "",
                Mechanism::Login => "VXNlcm5hbWU6",
            }),
            Some("=") => self.take(Vec::new()),
            Some(text) => self.decode(text.as_bytes()),
        }
    }

    /// Takes one line of the client, without its CRLF.
    pub fn respond(&mut self, line: &[u8]) -> Step {
        if line == b"*" {
            return Step::Cancelled;
        }
        self.decode(line)
    }

    fn decode(&mut self, text: &[u8]) -> Step {
        match BASE64.decode(text) {
            Ok(response) => self.take(response),
            Err(_) => Step::Malformed,
        }
    }

    fn take(&mut self, response: Vec<u8>) -> Step {
        let Ok(response) = String::from_utf8(response) else {
            return Step::Malformed;
        };
        match self.mechanism {
            Mechanism::Plain => plain(&response).map_or(Step::Malformed, Step::Done),
            _ if response.contains('\0') => Step::Malformed,
            Mechanism::Login => match self.login.take() {
                None if response.is_empty() => Step::Malformed,
                None => {
                    self.login = Some(response);
                    Step::Challenge("UGFzc3dvcmQ6")
                }
                Some(login) => {
                    let mechanism = Mechanism::Login;
                    Step::Done(Credentials {
                        login,
                        password: response,
                        authzid: None,
                        mechanism,
                    })
                }
            },
        }
    }
}

/// `[authzid] NUL authcid NUL passwd`.
fn plain(response: &str) -> Option<Credentials> {
    let mut parts = response.split('\0');
    let (authzid, login, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || login.is_empty() {
        return None;
    }
    Some(Credentials {
        login: login.to_owned(),
        password: password.to_owned(),
        authzid: (!authzid.is_empty()).then(|| authzid.to_owned()),
        mechanism: Mechanism::Plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(authzid: Option<&str>, mechanism: Mechanism) -> Step {
        let authzid = authzid.map(str::to_owned);
        Step::Done(Credentials {
            login: "demo".into(),
            password: "secret".into(),
            authzid,
            mechanism,
        })
    }

    #[test]
    fn relay_12_plain_with_and_without_initial_response() {
        let mut exchange = Exchange::new("plain").unwrap();
        assert_eq!(
            exchange.begin(Some("AGRlbW8Ac2VjcmV0")),
            credentials(None, Mechanism::Plain)
        );
        let mut exchange = Exchange::new("PLAIN").unwrap();
        assert_eq!(exchange.begin(None), Step::Challenge(""));
        assert_eq!(
            exchange.respond(b"Ym9iAGRlbW8Ac2VjcmV0"),
            credentials(Some("bob"), Mechanism::Plain)
        );
    }

    #[test]
    fn relay_12_login_asks_for_name_and_password() {
        let mut exchange = Exchange::new("LOGIN").unwrap();
        assert_eq!(exchange.begin(None), Step::Challenge("VXNlcm5hbWU6"));
        assert_eq!(
            exchange.respond(b"ZGVtbw=="),
            Step::Challenge("UGFzc3dvcmQ6")
        );
        assert_eq!(
            exchange.respond(b"c2VjcmV0"),
            credentials(None, Mechanism::Login)
        );
        let mut exchange = Exchange::new("LOGIN").unwrap();
        assert_eq!(
            exchange.begin(Some("ZGVtbw")),
            Step::Challenge("UGFzc3dvcmQ6")
        );
    }

    #[test]
    fn relay_12_what_is_no_response_is_malformed() {
        for text in [
            "!",
            "AGRlbW8=",
            "AABzZWNyZXQ=",
            "AGRlbW8Ac2VjcmV0AHg=",
            "=",
            "//8=",
            "AGRlbW8Ac2VjcmV0 x",
        ] {
            assert_eq!(
                Exchange::new("PLAIN").unwrap().begin(Some(text)),
                Step::Malformed,
                "{text}"
            );
        }
        assert_eq!(
            Exchange::new("LOGIN").unwrap().begin(Some("=")),
            Step::Malformed
        );
        assert_eq!(
            Exchange::new("LOGIN").unwrap().begin(Some("AGRlbW8=")),
            Step::Malformed
        );
        assert_eq!(
            Exchange::new("PLAIN").unwrap().respond(b"*"),
            Step::Cancelled
        );
        assert!(Exchange::new("CRAM-MD5").is_none());
    }

    #[test]
    fn relay_12_a_password_is_not_printed() {
        let Step::Done(found) = Exchange::new("PLAIN")
            .unwrap()
            .begin(Some("AGRlbW8Ac2VjcmV0"))
        else {
            panic!()
        };
        assert!(!format!("{found:?}").contains("secret"));
    }
}
