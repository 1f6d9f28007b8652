//! From the greeting to the first transaction: EHLO, STARTTLS, AUTH; and QUIT at the end.

use super::commands;
use super::{ClientEvent, ClientSession, FailureKind, Phase, RemoteAnswer, StartTlsUse};
use crate::ehlo::Capabilities;
use crate::reply::Reply;
use crate::sasl_client::{self, SaslClient, Unusable};
use crate::stage::Stage;

impl ClientSession {
    pub(super) fn poll_hello(&mut self, out: &mut Vec<u8>) -> Option<ClientEvent> {
        match self.phase {
            Phase::Hello => {
                return self.ask(Phase::Ehlo, Stage::Ehlo, out, |session, out| {
                    commands::hello(b"EHLO", &session.config.ehlo, out);
                });
            }
            Phase::Handshake if self.lost.is_none() => return Some(ClientEvent::StartTls),
            _ => {}
        }
        match self.next_answer() {
            None => Some(ClientEvent::NeedInput),
            Some(RemoteAnswer::Reply(reply)) => self.hear(reply, out),
            Some(answer @ RemoteAnswer::Lost(_)) => {
                self.may_quit = false;
                Some(self.fail(self.stage, answer, FailureKind::Lost))
            }
            Some(answer @ RemoteAnswer::Malformed(_)) => {
                self.may_quit = false;
                Some(self.fail(self.stage, answer, self.kind()))
            }
        }
    }

    /// What a failure at this point is called.
    fn kind(&self) -> FailureKind {
        match self.phase {
            Phase::Greeting => FailureKind::Greeting,
            Phase::Hello | Phase::Ehlo | Phase::Helo => FailureKind::Ehlo,
            Phase::StartTls | Phase::Handshake => FailureKind::TlsRefused,
            Phase::Auth => FailureKind::Auth,
            Phase::Ready | Phase::Transaction | Phase::Quit | Phase::Over => FailureKind::Lost,
        }
    }

    /// Sends one command that waits for its reply. Whatever has come unasked would be taken for
    /// that reply, so it ends the session.
    fn ask(
        &mut self,
        phase: Phase,
        stage: Stage,
        out: &mut Vec<u8>,
        command: impl FnOnce(&Self, &mut Vec<u8>),
    ) -> Option<ClientEvent> {
        if self.has_unread() {
            self.may_quit = false;
            let answer = RemoteAnswer::Malformed("more replies than commands".into());
            return Some(self.fail(self.stage, answer, self.kind()));
        }
        command(self, out);
        (self.phase, self.stage) = (phase, stage);
        None
    }

    fn hear(&mut self, reply: Reply, out: &mut Vec<u8>) -> Option<ClientEvent> {
        self.may_quit = reply.code() != 421;
        match self.phase {
            Phase::Greeting if reply.code() == 220 => {
                self.greeting = Some(reply);
                self.phase = Phase::Hello;
                Some(ClientEvent::Greeted)
            }
            Phase::Ehlo if reply.code() == 250 => {
                self.capabilities = Capabilities::parse(&reply);
                self.after_ehlo(out)
            }
            Phase::Ehlo if self.may_say_helo(&reply) => {
                self.ask(Phase::Helo, Stage::Ehlo, out, |session, out| {
                    commands::hello(b"HELO", &session.config.ehlo, out);
                })
            }
            Phase::Helo if reply.code() == 250 => {
                self.capabilities = Capabilities::default();
                self.phase = Phase::Ready;
                None
            }
            Phase::StartTls if reply.code() == 220 => {
                self.forget_input();
                self.phase = Phase::Handshake;
                Some(ClientEvent::StartTls)
            }
            Phase::Auth => self.hear_auth(reply, out),
            _ => Some(self.refused(reply)),
        }
    }

    /// A reply that is not the one that leads on. One that cannot stand here at all (a 2xx where
    /// the 220 of STARTTLS is due, a 3xx) counts as malformed.
    fn refused(&mut self, reply: Reply) -> ClientEvent {
        let kind = self.kind();
        let expected = reply.is_temporary() || reply.is_permanent() || self.phase == Phase::Quit;
        let answer = if expected {
            RemoteAnswer::Reply(reply)
        } else {
            RemoteAnswer::Malformed(reply.to_log())
        };
        self.fail(self.stage, answer, kind)
    }

    /// HELO is for servers that know nothing of EHLO, when nothing of EHLO is needed.
    fn may_say_helo(&self, reply: &Reply) -> bool {
        reply.is_permanent()
            && !matches!(reply.code(), 521 | 554)
            && self.config.auth.is_none()
            && (self.tls || self.config.starttls != StartTlsUse::Required)
    }

    fn after_ehlo(&mut self, out: &mut Vec<u8>) -> Option<ClientEvent> {
        let wanted = !self.tls && self.config.starttls != StartTlsUse::Never;
        if wanted && self.capabilities.starttls {
            return self.ask(Phase::StartTls, Stage::StartTls, out, |_, out| {
                out.extend_from_slice(b"STARTTLS\r\n");
            });
        }
        if wanted && self.config.starttls == StartTlsUse::Required {
            let answer = RemoteAnswer::Lost("the remote does not offer STARTTLS".into());
            return Some(self.fail(Stage::StartTls, answer, FailureKind::TlsUnavailable));
        }
        let Some(auth) = self.config.auth.take() else {
            self.phase = Phase::Ready;
            return None;
        };
        let chosen = sasl_client::choose(
            self.capabilities.auth,
            self.tls || self.config.auth_in_clear,
        );
        let event = match chosen {
            Ok(mechanism) => {
                let (sasl, command) = SaslClient::begin(mechanism, &auth);
                self.sasl = Some(sasl);
                self.ask(Phase::Auth, Stage::Auth, out, |_, out| line(&command, out))
            }
            Err(Unusable::NotOffered) => {
                let answer =
                    RemoteAnswer::Lost("the remote offers no AUTH mechanism that we know".into());
                Some(self.fail(Stage::Auth, answer, FailureKind::AuthNotOffered))
            }
            Err(Unusable::NeedsTls) => {
                let answer = RemoteAnswer::Lost("a password is not sent without TLS".into());
                Some(self.fail(Stage::Auth, answer, FailureKind::AuthNeedsTls))
            }
        };
        self.config.auth = Some(auth);
        event
    }

    fn hear_auth(&mut self, reply: Reply, out: &mut Vec<u8>) -> Option<ClientEvent> {
        if reply.is_positive() {
            self.sasl = None;
            self.phase = Phase::Ready;
            return None;
        }
        if reply.code() != 334 {
            return Some(self.refused(reply));
        }
        let challenge = reply.lines().next().unwrap_or_default();
        let answer = match (&mut self.sasl, &self.config.auth) {
            (Some(sasl), Some(auth)) => sasl.respond(challenge, auth),
            _ => None,
        };
        match answer {
            Some(answer) => self.ask(Phase::Auth, Stage::Auth, out, |_, out| line(&answer, out)),
            None => {
                self.may_quit = false;
                Some(self.refused(reply))
            }
        }
    }
}

fn line(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}
