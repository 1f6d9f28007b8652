//! Logging in at a remote: CRAM-MD5 if offered, else PLAIN, LOGIN as the last choice (ROUTE-40).
//!
//! PLAIN and LOGIN show the password to whoever listens and are refused without TLS unless the
//! configuration allows it (ROUTE-41). CRAM-MD5 does not, and needs no such permission.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use md5::Md5;

use crate::ehlo::AuthOffer;

/// Login and password for AUTH. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientAuth {
    pub login: String,
    pub password: String,
}

impl std::fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientAuth(***)")
    }
}

/// The mechanisms we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    CramMd5,
    Plain,
    Login,
}

/// Why no mechanism can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// None of ours is offered (ROUTE-43).
    NotOffered,
    /// Only such as may not be used without TLS (ROUTE-41).
    NeedsTls,
}

/// The mechanism to use. `readable` says whether the password may be sent: under TLS, or where
/// clear text is allowed.
pub fn choose(offer: AuthOffer, readable: bool) -> Result<Mechanism, Unusable> {
    match offer {
        AuthOffer { cram_md5: true, .. } => Ok(Mechanism::CramMd5),
        AuthOffer { plain: true, .. } if readable => Ok(Mechanism::Plain),
        AuthOffer { login: true, .. } if readable => Ok(Mechanism::Login),
        _ if offer.is_empty() => Err(Unusable::NotOffered),
        _ => Err(Unusable::NeedsTls),
    }
}

/// One login in progress.
#[derive(Debug)]
pub struct SaslClient {
    mechanism: Mechanism,
    /// 334 replies answered so far.
    answered: u8,
}

/// A command line with more octets than this goes without its initial response (RFC 4954 §4).
const MAX_COMMAND: usize = 510;

impl SaslClient {
    /// Begins; returns the AUTH command without line end.
    pub fn begin(mechanism: Mechanism, auth: &ClientAuth) -> (Self, String) {
        let (command, answered) = match mechanism {
            Mechanism::CramMd5 => ("AUTH CRAM-MD5".to_owned(), 0),
            Mechanism::Login => ("AUTH LOGIN".to_owned(), 0),
            Mechanism::Plain => {
                let command = format!("AUTH PLAIN {}", plain(auth));
                if command.len() > MAX_COMMAND {
                    ("AUTH PLAIN".to_owned(), 0)
                } else {
                    (command, 1)
                }
            }
        };
        (
            SaslClient {
                mechanism,
                answered,
            },
            command,
        )
    }

    /// The answer to the text of a 334 reply, without line end. `None`: the remote asks for
    /// something that this mechanism does not have; the login has failed.
    pub fn respond(&mut self, challenge: &[u8], auth: &ClientAuth) -> Option<String> {
        let answer = match (self.mechanism, self.answered) {
            (Mechanism::CramMd5, 0) => {
                cram_md5(&STANDARD.decode(challenge.trim_ascii()).ok()?, auth)?
            }
            (Mechanism::Plain, 0) => plain(auth),
            (Mechanism::Login, 0) => STANDARD.encode(&auth.login),
            (Mechanism::Login, 1) => STANDARD.encode(&auth.password),
            _ => return None,
        };
        self.answered += 1;
        Some(answer)
    }
}

fn plain(auth: &ClientAuth) -> String {
    STANDARD.encode(format!("\0{}\0{}", auth.login, auth.password))
}

/// RFC 2195.
fn cram_md5(challenge: &[u8], auth: &ClientAuth) -> Option<String> {
    let mut mac = Hmac::<Md5>::new_from_slice(auth.password.as_bytes()).ok()?;
    mac.update(challenge);
    let digest: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    Some(STANDARD.encode(format!("{} {digest}", auth.login)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(login: &str, password: &str) -> ClientAuth {
        ClientAuth {
            login: login.into(),
            password: password.into(),
        }
    }

    #[test]
    fn route_40_prefers_cram_md5_then_plain_then_login() {
        let offer = |cram_md5, plain, login| AuthOffer {
            cram_md5,
            plain,
            login,
        };
        assert_eq!(
            choose(offer(true, true, true), true),
            Ok(Mechanism::CramMd5)
        );
        assert_eq!(choose(offer(false, true, true), true), Ok(Mechanism::Plain));
        assert_eq!(
            choose(offer(false, false, true), true),
            Ok(Mechanism::Login)
        );
    }

    #[test]
    fn route_41_route_43_says_why_none_can_be_used() {
        let offer = |cram_md5, plain, login| AuthOffer {
            cram_md5,
            plain,
            login,
        };
        assert_eq!(
            choose(offer(false, false, false), true),
            Err(Unusable::NotOffered)
        );
        assert_eq!(
            choose(offer(false, false, false), false),
            Err(Unusable::NotOffered)
        );
        assert_eq!(
            choose(offer(false, true, true), false),
            Err(Unusable::NeedsTls)
        );
        assert_eq!(
            choose(offer(true, true, true), false),
            Ok(Mechanism::CramMd5)
        );
    }

    #[test]
    fn route_40_cram_md5_answers_as_in_rfc_2195() {
        let auth = auth("tim", "tanstaaftanstaaf");
        let (mut sasl, command) = SaslClient::begin(Mechanism::CramMd5, &auth);
        assert_eq!(command, "AUTH CRAM-MD5");
        let challenge = b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+";
        let answer = sasl.respond(challenge, &auth).unwrap();
        assert_eq!(answer, "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw");
        assert_eq!(sasl.respond(challenge, &auth), None, "asked twice");
        let (mut sasl, _) = SaslClient::begin(Mechanism::CramMd5, &auth);
        assert_eq!(sasl.respond(b"no base64!", &auth), None);
    }

    #[test]
    fn route_39_plain_and_login_say_login_and_password() {
        let shop = auth("shop", "secret");
        let (mut sasl, command) = SaslClient::begin(Mechanism::Plain, &shop);
        assert_eq!(command, "AUTH PLAIN AHNob3AAc2VjcmV0");
        assert_eq!(sasl.respond(b"", &shop), None);
        let (mut sasl, command) = SaslClient::begin(Mechanism::Login, &shop);
        assert_eq!(command, "AUTH LOGIN");
        assert_eq!(sasl.respond(b"VXNlcm5hbWU6", &shop).unwrap(), "c2hvcA==");
        assert_eq!(sasl.respond(b"UGFzc3dvcmQ6", &shop).unwrap(), "c2VjcmV0");
        assert_eq!(sasl.respond(b"", &shop), None);
    }

    #[test]
    fn a_long_password_waits_for_the_challenge() {
        let long = auth("shop", &"x".repeat(1000));
        let (mut sasl, command) = SaslClient::begin(Mechanism::Plain, &long);
        assert_eq!(command, "AUTH PLAIN");
        assert!(sasl.respond(b"", &long).unwrap().len() > 1000);
    }

    #[test]
    fn the_password_is_never_printed() {
        assert_eq!(format!("{:?}", auth("shop", "secret")), "ClientAuth(***)");
    }
}
