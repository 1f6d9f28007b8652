//! How the journeys of a bundle end: what the last attempt said, or a decision of ours.

use std::sync::Arc;
use std::time::Duration;

use galerne_core::answer::{Ending, Manner, conclude, for_now};
use galerne_core::model::{Attempt, NextHop, Plan, Qualification, Settled, Stage};
use galerne_core::mx::MxRefusal;
use galerne_core::ports::Module;
use galerne_core::refusal::{Code, Refusal};
use galerne_core::settings::{HostKind, RelayHost};
use galerne_dns::LookupFailure;
use galerne_smtp::client::{LocalRefusal, RemoteAnswer, is_safe};
use tokio::time::Instant;

use super::{Hop, Run};
use crate::attempt::{End, Special};
use crate::pace::Wish;
use crate::prepare::Prepared;
use crate::settle::elapsed;

/// What the last attempt said.
pub(super) struct Last {
    pub(super) host: Arc<str>,
    pub(super) stage: Stage,
    pub(super) answer: RemoteAnswer,
    pub(super) qualification: Option<Qualification>,
    pub(super) dot_sent: bool,
    /// Our own word on it: a policy did not let the remote be used.
    pub(super) policy: Option<Refusal>,
}

impl Run<'_> {
    /// Nobody may go in time: what the last attempt said, if there was one (RELAY-66, RELAY-69).
    pub(super) fn no_outbound(&mut self, plan: &Plan, wish: Option<&Wish>) {
        let hold = wish.and_then(|wish| self.delivery.pace.hold(wish));
        for place in self.waiting() {
            let tried = self.journeys.get(place).is_some_and(|j| j.last.is_some());
            self.end_one(place, plan, (!tried).then_some(Ending::NoOutbound));
            let end = self.journeys.get_mut(place).and_then(|j| j.end.as_mut());
            if let Some(end) = end.filter(|_| !tried) {
                end.hold = hold;
            }
        }
    }

    /// An operator's error, not the recipient's (ROUTE-42).
    pub(super) fn report_auth(&self, hop: &Hop<'_>, end: &End) {
        let said = end.answers.first().map(|(_, answer)| match answer {
            RemoteAnswer::Reply(reply) => reply.to_log(),
            RemoteAnswer::Malformed(what) | RemoteAnswer::Lost(what) => what.clone(),
        });
        let text = format!(
            "error: AUTH at relay host {} failed, check login and password ({}): {}",
            hop.remote.host,
            hop.plan.route.rule,
            said.unwrap_or_default()
        );
        tracing::error!("{text}");
        self.delivery.events.note(Module::RfMta, &text);
    }

    /// Set where the answer for this member is a decision of ours and no remote's.
    pub(super) fn refusal(&self, hop: &Hop<'_>, end: &End, place: usize) -> Option<Refusal> {
        let recipient = self
            .journeys
            .get(place)
            .and_then(|j| self.submission.recipients.get(j.index))?;
        if end.special == Special::Loop {
            return Some(MxRefusal::Loop.refusal(&recipient.mailbox.ascii_domain()));
        }
        let host = &hop.remote.host;
        match end.local? {
            LocalRefusal::ChunkingNotOffered => Some(Refusal::new(
                Code::BareLineEnd,
                format!("bare CR or LF in the message, and {host} does not offer CHUNKING"),
                "RELAY-18",
            )),
            LocalRefusal::SmtpUtf8NotOffered => {
                let text = format!("5.6.7 X-SMTP-R-API {host} does not offer SMTPUTF8");
                Some(Refusal::standard(550, text, "RELAY-28"))
            }
            // The next remote may offer it.
            LocalRefusal::RequireTlsNotOffered => None,
            LocalRefusal::UnsafeAddress => {
                let sender = hop
                    .sender
                    .mailbox()
                    .is_none_or(|mailbox| is_safe(mailbox.as_str()));
                let text = match (sender, is_safe(recipient.mailbox.as_str())) {
                    (false, _) => "5.1.7 X-SMTP-R-API sender address cannot be sent safely",
                    (_, false) => "5.1.3 X-SMTP-R-API recipient address cannot be sent safely",
                    _ => return None,
                };
                Some(Refusal::standard(553, text, "T-05"))
            }
        }
    }

    /// Hops, pairs or time are used up: the last attempt speaks (RELAY-65).
    pub(super) fn exhausted(&mut self, plan: &Plan) {
        let table = |host: &Arc<RelayHost>| host.kind == HostKind::Table;
        let by_table = plan.route.next_hop.host().is_some_and(table);
        for place in self.waiting() {
            self.end_one(place, plan, None);
            let end = self.journeys.get_mut(place).and_then(|j| j.end.as_mut());
            if let Some(end) = end.filter(|_| by_table) {
                for_now(end);
            }
        }
    }

    pub(super) fn no_address(&mut self, plan: &Plan, failure: &LookupFailure) {
        let host = match &plan.route.next_hop {
            NextHop::Host(host) => host.host.clone(),
            NextHop::Mx => String::new(),
        };
        let refusal = match failure {
            LookupFailure::Temporary(cause) => Refusal::new(
                Code::DnsFailed,
                format!("DNS for {host}: {cause}"),
                "ROUTE-38",
            ),
            LookupFailure::NoSuchName => Refusal::new(
                Code::NoConnection,
                format!("relay host {host} does not exist"),
                "ROUTE-38",
            ),
        };
        self.end_all(plan, Ending::Refused(&refusal));
    }

    pub(super) fn end_all(&mut self, plan: &Plan, ending: Ending<'_>) {
        for place in self.waiting() {
            self.end_one(place, plan, Some(ending));
        }
    }

    /// Ends one journey: as `ending` says, else as its last attempt says.
    pub(super) fn end_one(&mut self, place: usize, plan: &Plan, ending: Option<Ending<'_>>) {
        let settings = &self.submission.settings.rfrelay;
        let manner = Manner {
            blocktemp: settings.blocktemp,
            permcode: settings.permcode,
        };
        let duration = elapsed(self.submission);
        let Some(journey) = self.journeys.get_mut(place) else {
            return;
        };
        let Some(recipient) = self.submission.recipients.get(journey.index) else {
            return;
        };
        let next_hop = next_hop_name(plan, &journey.prepared);
        let ending = match (&ending, &journey.last) {
            (Some(ending), _) => *ending,
            (None, Some(last)) => last.ending(),
            (None, None) if Instant::now() >= self.deadline => Ending::Timeout,
            (None, None) => Ending::NoPair { host: &next_hop },
        };
        let conclusion = conclude(ending, manner, plan.timeout);
        journey.end = Some(Settled {
            recipient: recipient.mailbox.clone(),
            outcome: conclusion.outcome,
            reply: conclusion.reply,
            refusal: conclusion.refusal,
            hold: None,
            group: Some(plan.group.clone()),
            route: Some(plan.route.rule.to_string()),
            host: plan.route.next_hop.host().cloned(),
            sender: journey.sender.clone(),
            attempts: std::mem::take(&mut journey.attempts),
            duration,
        });
    }

    pub(super) fn finish(self) -> Vec<(usize, Settled)> {
        let ends = self
            .journeys
            .into_iter()
            .map(|journey| (journey.index, journey.end));
        ends.filter_map(|(index, end)| Some((index, end?)))
            .collect()
    }
}

/// What is remembered of an attempt.
pub(super) fn booked(
    hop: &Hop<'_>,
    stage: Stage,
    answer: &RemoteAnswer,
    qualification: Option<Qualification>,
    tls: Option<String>,
    duration: Duration,
) -> Attempt {
    let (reply, failure) = match answer {
        RemoteAnswer::Reply(reply) => (Some(reply.clone()), None),
        RemoteAnswer::Malformed(what) => (None, Some(format!("malformed reply: {what}"))),
        RemoteAnswer::Lost(why) => (None, Some(why.clone())),
    };
    Attempt {
        hop: hop.number,
        outbound: hop.outbound.clone(),
        remote: hop.remote.clone(),
        stage,
        reply,
        failure,
        qualification,
        tls,
        dsn: false,
        duration,
    }
}

impl Last {
    fn ending(&self) -> Ending<'_> {
        if let Some(refusal) = &self.policy {
            return Ending::Refused(refusal);
        }
        Ending::Attempt {
            host: &self.host,
            stage: self.stage,
            answer: &self.answer,
            qualification: self.qualification.as_ref(),
            dot_sent: self.dot_sent,
        }
    }
}

/// The name of the next hop, for the case that nothing was tried.
fn next_hop_name(plan: &Plan, prepared: &Prepared) -> String {
    match &plan.route.next_hop {
        NextHop::Host(host) => host.host.clone(),
        NextHop::Mx => prepared
            .destination
            .as_ref()
            .and_then(|found| found.hosts.first())
            .map_or_else(String::new, |(_, host, _)| host.to_string()),
    }
}
