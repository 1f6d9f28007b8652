//! The hops of one bundle: recipients that share next hop, group, outbounds and sender, tried
//! until each has its outcome or hops and time are used up.

use std::sync::Arc;
use std::time::Duration;

use galerne_core::answer::{Ending, Manner, conclude};
use galerne_core::chase::{Chase, Next, Verdict, judge_all};
use galerne_core::model::{
    Attempt, NextHop, Outcome, OutboundSender, Plan, Qualification, Remote, Settled, Stage, Submission,
};
use galerne_core::mx::MxRefusal;
use galerne_core::refusal::{Code, Refusal};
use galerne_core::settings::OutboundIp;
use galerne_dns::LookupFailure;
use galerne_smtp::client::{LocalRefusal, RemoteAnswer};
use galerne_smtp::{Mailbox, ReversePath};
use tokio::time::{Instant, timeout_at};

use crate::attempt::{End, Order, Special, attempt};
use crate::cancel::Cancelled;
use crate::delivery::Delivery;
use crate::prepare::{Prepared, ascii_domain, remotes};

/// How long after the timeout the reply to our final dot is still awaited (RELAY-70).
const GRACE: Duration = Duration::from_secs(60);
/// The end of all waiting, counted from the client's end of data.
const HARD_END: Duration = Duration::from_secs(595);

/// One recipient on its way.
struct Journey<'a> {
    prepared: &'a Prepared,
    attempts: Vec<Attempt>,
    last: Option<Last>,
    end: Option<Settled>,
    sender: ReversePath,
}

/// What the last attempt said.
struct Last {
    host: Arc<str>,
    stage: Stage,
    answer: RemoteAnswer,
    qualification: Option<Qualification>,
    dot_sent: bool,
}

struct Run<'a> {
    delivery: &'a Delivery,
    submission: &'a Submission,
    journeys: Vec<Journey<'a>>,
    deadline: Instant,
    dot_deadline: Instant,
}

/// Tries one bundle. Gives for each member its index among the recipients and its end.
pub async fn run_bundle(
    delivery: &Delivery,
    submission: &Submission,
    members: Vec<&Prepared>,
    mut cancelled: Cancelled,
) -> Vec<(usize, Settled)> {
    let Some(plans) = members.first().map(|first| &first.plans) else { return Vec::new() };
    let Some(plan) = plans.first() else { return Vec::new() };
    let received = Instant::from_std(submission.received);
    let deadline = received + plan.timeout;
    let journeys = members.into_iter().map(|prepared| Journey {
        prepared,
        attempts: Vec::new(),
        last: None,
        end: None,
        sender: submission.sender.path.clone(),
    });
    let mut run = Run {
        delivery,
        submission,
        journeys: journeys.collect(),
        deadline,
        dot_deadline: (deadline + GRACE).min(received + HARD_END),
    };
    // One waiting session holds one outbound slot (RELAY-4).
    let slot = tokio::select! {
        biased;
        slot = timeout_at(deadline, delivery.slots.acquire()) => slot,
        () = cancelled.wait() => {
            run.end_all(plan, Ending::Cancelled);
            return run.finish();
        }
    };
    match slot {
        Ok(Ok(_slot)) => run.plans(plans, &mut cancelled).await,
        _ => run.end_all(plan, Ending::NoOutbound),
    }
    run.finish()
}

impl<'a> Run<'a> {
    /// Plan after plan, as long as somebody is without an end.
    async fn plans(&mut self, plans: &[Plan], cancelled: &mut Cancelled) {
        let mut hops = 0;
        for (number, plan) in plans.iter().enumerate() {
            let last_plan = number + 1 == plans.len();
            let destination = self.journeys.first().and_then(|j| j.prepared.destination.as_ref());
            let found = remotes(self.delivery, self.submission, plan, destination, self.deadline).await;
            match found {
                Ok(remotes) => hops = self.hops(plan, remotes, hops, cancelled).await,
                Err(failure) if last_plan && hops == 0 => {
                    self.no_address(plan, &failure);
                    return;
                }
                Err(_) => {}
            }
            if self.is_done() {
                return;
            }
        }
        if let Some(plan) = plans.last() {
            self.exhausted(plan);
        }
    }

    /// Hop after hop over the remotes of one plan. Gives the hops used so far.
    async fn hops(&mut self, plan: &Plan, remotes: Vec<Remote>, used: u32, cancelled: &mut Cancelled) -> u32 {
        let outbounds = self.outbounds(plan);
        let mut chase = Chase::new(remotes, outbounds, plan.maxhop.saturating_sub(used));
        while Instant::now() < self.deadline {
            let delivery = self.delivery;
            let Next::Try { outbound, remote, .. } = chase.next(&|address| delivery.timed_out.recently(address)) else {
                break;
            };
            let hop = used + chase.hops();
            let mut blocked = false;
            loop {
                let waiting = self.waiting();
                let verdicts = self.one_attempt(plan, &outbound, &remote, hop, &waiting, cancelled).await;
                let again = verdicts.contains(&Verdict::SameTransactionAgain);
                blocked |= verdicts.contains(&Verdict::NextOutbound);
                if !again || Instant::now() >= self.deadline {
                    break;
                }
            }
            if self.is_done() {
                break;
            }
            if blocked {
                chase.blocked();
            } else {
                chase.connection_failed();
            }
        }
        used + chase.hops()
    }

    /// The outbounds in the order to use: as given, or in rotation.
    fn outbounds(&self, plan: &Plan) -> Vec<Arc<OutboundIp>> {
        let mut outbounds = plan.outbounds.clone();
        if !plan.ordered && outbounds.len() > 1 {
            let turn = self.delivery.turn() % outbounds.len();
            outbounds.rotate_left(turn);
        }
        outbounds
    }

    /// Positions of the journeys without an end.
    fn waiting(&self) -> Vec<usize> {
        (0..self.journeys.len()).filter(|&i| self.journeys.get(i).is_some_and(|j| j.end.is_none())).collect()
    }

    fn is_done(&self) -> bool {
        self.journeys.iter().all(|journey| journey.end.is_some())
    }

    async fn one_attempt(
        &mut self,
        plan: &Plan,
        outbound: &Arc<OutboundIp>,
        remote: &Remote,
        hop: u32,
        waiting: &[usize],
        cancelled: &mut Cancelled,
    ) -> Vec<Verdict> {
        let started = Instant::now();
        let edge = self.delivery.edge();
        let rfmta = &self.submission.settings.rfmta;
        let host = match &plan.route.next_hop {
            NextHop::Host(host) => Some(&**host),
            NextHop::Mx => None,
        };
        let recipients: Vec<usize> =
            waiting.iter().filter_map(|&i| self.journeys.get(i)).map(|j| j.prepared.index).collect();
        let sender = self.sender(plan, outbound, &recipients);
        let order = Order {
            submission: self.submission,
            plan,
            host,
            sender: sender.clone(),
            recipients,
            tls: &edge.tls,
            deadline: self.deadline,
            dot_deadline: self.dot_deadline,
            connect_time: rfmta.connecttimeout,
            auth_clear: host.is_some_and(|host| host.authclear),
            verify: host.is_none_or(|host| host.verify),
        };
        let end = attempt(&self.delivery.tools, &order, outbound, remote, cancelled).await;
        self.remember(&end, remote, started);
        self.take(plan, outbound, remote, hop, waiting, started, sender, end)
    }

    fn sender(&self, plan: &Plan, outbound: &OutboundIp, recipients: &[usize]) -> ReversePath {
        match &plan.sender {
            OutboundSender::Fixed(path) => path.clone(),
            OutboundSender::Verp { domain } => {
                let job = galerne_core::ids::number(&self.submission.message_id);
                let recipient = recipients.first().map_or(0, |&i| i as u64 + 1);
                let domain = domain.as_deref().unwrap_or(&outbound.name);
                let address = galerne_mail::verp::address(job, recipient, domain, &self.delivery.verp_secret);
                Mailbox::parse(&address).map_or(ReversePath::Null, ReversePath::Mailbox)
            }
        }
    }

    /// Remembers who timed out on connect (ROUTE-35).
    fn remember(&self, end: &End, remote: &Remote, started: Instant) {
        let Some((stage, answer)) = end.answers.first() else { return };
        let whole_time = started.elapsed() >= self.submission.settings.rfmta.connecttimeout;
        match answer {
            RemoteAnswer::Lost(why) if *stage == Stage::Connect && why == "timed out" && whole_time => {
                self.delivery.timed_out.remember(remote.address);
            }
            RemoteAnswer::Reply(_) => self.delivery.timed_out.forget(remote.address),
            _ => {}
        }
    }

    /// Books what an attempt said for each recipient, and gives the verdicts.
    #[expect(clippy::too_many_arguments, reason = "all of one attempt")]
    fn take(
        &mut self,
        plan: &Plan,
        outbound: &Arc<OutboundIp>,
        remote: &Remote,
        hop: u32,
        waiting: &[usize],
        started: Instant,
        sender: ReversePath,
        end: End,
    ) -> Vec<Verdict> {
        let qualify = |answer: &RemoteAnswer| match answer {
            RemoteAnswer::Reply(reply) if !reply.is_positive() => Some(plan.group.patterns.qualify(reply)),
            _ => None,
        };
        let ours = end.special != Special::None || end.local.is_some();
        let qualifications: Vec<_> =
            end.answers.iter().map(|(_, answer)| if ours { None } else { qualify(answer) }).collect();
        let verdicts = match end.special {
            Special::None if end.local.is_none() => judge_all(&end.answers, &qualifications, end.dot_sent),
            Special::Auth => vec![Verdict::NextRemote; end.answers.len()],
            _ => vec![Verdict::Final(Outcome::Failed); end.answers.len()],
        };
        let fate = self.fate(plan, remote, &end);
        let duration = started.elapsed();
        for (place, ((stage, answer), qualification)) in
            waiting.iter().zip(end.answers.into_iter().zip(qualifications))
        {
            let Some(journey) = self.journeys.get_mut(*place) else { continue };
            let (reply, failure) = match &answer {
                RemoteAnswer::Reply(reply) => (Some(reply.clone()), None),
                RemoteAnswer::Malformed(what) => (None, Some(format!("malformed reply: {what}"))),
                RemoteAnswer::Lost(why) => (None, Some(why.clone())),
            };
            journey.attempts.push(Attempt {
                hop,
                outbound: outbound.clone(),
                remote: remote.clone(),
                stage,
                reply,
                failure,
                qualification: qualification.clone(),
                tls: end.tls.clone(),
                duration,
            });
            journey.sender = sender.clone();
            journey.last =
                Some(Last { host: remote.host.clone(), stage, answer, qualification, dot_sent: end.dot_sent });
        }
        for (place, verdict) in waiting.iter().zip(&verdicts) {
            if !matches!(verdict, Verdict::Final(_)) {
                continue;
            }
            match &fate {
                Some(Fate::Refused(refusal)) => self.end_one(*place, plan, Some(Ending::Refused(refusal))),
                Some(Fate::Cancelled) => self.end_one(*place, plan, Some(Ending::Cancelled)),
                None => self.end_one(*place, plan, None),
            }
        }
        if end.special == Special::Auth {
            tracing::error!(host = %remote.host, "AUTH at the relay host failed: check login and password");
        }
        verdicts
    }

    /// Ends that are decisions of ours, not answers of the remote.
    fn fate(&self, plan: &Plan, remote: &Remote, end: &End) -> Option<Fate> {
        if end.special == Special::Cancelled {
            return Some(Fate::Cancelled);
        }
        if end.special == Special::Loop {
            let domain = self.journeys.first().and_then(|j| self.submission.recipients.get(j.prepared.index));
            let domain = domain.map(|r| ascii_domain(&r.mailbox)).unwrap_or_default();
            return Some(Fate::Refused(MxRefusal::Loop.refusal(&domain)));
        }
        match end.local? {
            LocalRefusal::ChunkingNotOffered => Some(Fate::Refused(Refusal::new(
                Code::BareLineEnd,
                format!("bare CR or LF in the message, and {} does not offer CHUNKING", remote.host),
                "RELAY-18",
            ))),
            LocalRefusal::SmtpUtf8NotOffered => Some(Fate::Refused(Refusal::standard(
                550,
                format!("5.6.7 X-SMTP-R-API {} does not offer SMTPUTF8", remote.host),
                "RELAY-28",
            ))),
            LocalRefusal::UnsafeAddress => Some(Fate::Refused(Refusal::standard(
                553,
                "5.1.3 X-SMTP-R-API address cannot be sent safely",
                plan.route.rule.clone(),
            ))),
        }
    }

    /// Hops, pairs or time are used up: the last attempt speaks (RELAY-65).
    fn exhausted(&mut self, plan: &Plan) {
        for place in self.waiting() {
            self.end_one(place, plan, None);
        }
    }

    fn no_address(&mut self, plan: &Plan, failure: &LookupFailure) {
        let host = match &plan.route.next_hop {
            NextHop::Host(host) => host.host.clone(),
            NextHop::Mx => String::new(),
        };
        let refusal = match failure {
            LookupFailure::Temporary(cause) => Refusal::new(Code::DnsFailed, format!("DNS for {host}: {cause}"), "ROUTE-38"),
            LookupFailure::NoSuchName => Refusal::new(Code::NoConnection, format!("relay host {host} does not exist"), "ROUTE-38"),
        };
        self.end_all(plan, Ending::Refused(&refusal));
    }

    fn end_all(&mut self, plan: &Plan, ending: Ending<'_>) {
        for place in self.waiting() {
            self.end_one(place, plan, Some(ending));
        }
    }

    /// Ends one journey: as `ending` says, else as its last attempt says.
    fn end_one(&mut self, place: usize, plan: &Plan, ending: Option<Ending<'_>>) {
        let settings = &self.submission.settings.rfrelay;
        let manner = Manner { blocktemp: settings.blocktemp, permcode: settings.permcode };
        let received = self.submission.received;
        let Some(journey) = self.journeys.get_mut(place) else { return };
        let Some(recipient) = self.submission.recipients.get(journey.prepared.index) else { return };
        let next_hop = next_hop_name(plan, journey.prepared);
        let ending = match (&ending, &journey.last) {
            (Some(ending), _) => *ending,
            (None, Some(last)) => last.ending(),
            (None, None) => Ending::NoPair { host: &next_hop },
        };
        let conclusion = conclude(ending, manner, plan.timeout);
        journey.end = Some(Settled {
            recipient: recipient.mailbox.clone(),
            outcome: conclusion.outcome,
            reply: conclusion.reply,
            refusal: conclusion.refusal,
            group: Some(plan.group.clone()),
            route: Some(plan.route.rule.clone()),
            sender: journey.sender.clone(),
            attempts: std::mem::take(&mut journey.attempts),
            duration: received.elapsed(),
        });
    }

    fn finish(self) -> Vec<(usize, Settled)> {
        let ends = self.journeys.into_iter().map(|journey| (journey.prepared.index, journey.end));
        ends.filter_map(|(index, end)| Some((index, end?))).collect()
    }
}

enum Fate {
    Cancelled,
    Refused(Refusal),
}

impl Last {
    fn ending(&self) -> Ending<'_> {
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
