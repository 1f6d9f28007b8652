//! The hops of one bundle: recipients that share next hop, group, outbounds and sender, tried
//! until each has its outcome or hops and time are used up.

mod ends;

use std::sync::Arc;

use galerne_core::answer::Ending;
use galerne_core::chase::{Alternatives, Chase, Next, Rotation, Verdict, judge_all};
use galerne_core::flow::configured::{SenderDomain, group_of};
use galerne_core::model::{
    Attempt, NextHop, OutboundSender, Outcome, Plan, Qualification, Remote, Settled, Stage,
    Submission,
};
use galerne_core::plan::Times;
use galerne_core::refusal::Refusal;
use galerne_core::settings::OutboundIp;
use galerne_core::tls_policy::sts::Mode;
use galerne_smtp::client::RemoteAnswer;
use galerne_smtp::{Mailbox, ReversePath};
use tokio::time::{Instant, timeout_at};

use ends::{Last, booked};

use crate::admit::{Admitted, Ask, admit, tell, wait};
use crate::attempt::{End, Order, Special, attempt, session_key};
use crate::cancel::Cancelled;
use crate::delivery::Delivery;
use crate::demand::{demand_of_host, demand_of_mx};
use crate::pace::{Leave, SessionMark, Spot, Wish};
use crate::prepare::{Asking, Prepared, relay_remotes, remotes, time_for_names};
use crate::seal::{Fields, Seals};

/// One recipient on its way.
struct Journey {
    /// Index among the recipients of the submission.
    index: usize,
    prepared: Arc<Prepared>,
    attempts: Vec<Attempt>,
    last: Option<Last>,
    end: Option<Settled>,
    sender: ReversePath,
}

struct Run<'a> {
    delivery: &'a Delivery,
    seals: &'a Seals,
    submission: &'a Submission,
    journeys: Vec<Journey>,
    deadline: Instant,
    times: Times,
    received: Instant,
}

/// One hop of the bundle.
struct Hop<'r> {
    plan: &'r Plan,
    outbound: &'r Arc<OutboundIp>,
    remote: &'r Remote,
    /// 1 for the first.
    number: u32,
    sender: ReversePath,
    /// Signatures to put in front of the message.
    fields: Option<Fields>,
    /// What flow control is asked for; `None`: nothing limits it.
    wish: Option<&'r Wish>,
    started: Instant,
}

/// How a hop ended.
enum HopEnd {
    /// Somebody is blocked, or the remote could not be used.
    Tried { blocked: bool },
    /// Another outbound was free first.
    Elsewhere(Leave, SessionMark),
    /// None was free in time.
    NoOutbound,
}

/// How an attempt ended.
enum Tried {
    /// For so many of the members; counted under that.
    End(End, usize, Option<Spot>),
    Elsewhere(Leave, SessionMark),
    NoOutbound,
}

impl Tried {
    /// The client went away.
    fn gone(members: usize) -> Tried {
        Tried::End(End::cancelled(members), members, None)
    }
}

/// Tries one bundle: members with their index among the recipients. Gives the end of each.
pub async fn run_bundle(
    (delivery, seals): (&Delivery, &Seals),
    submission: &Submission,
    members: Vec<(usize, Arc<Prepared>)>,
    mut cancelled: Cancelled,
) -> Vec<(usize, Settled)> {
    // All members have equal plans.
    let Some(first) = members.first().map(|(_, first)| first.clone()) else {
        return Vec::new();
    };
    let plans = &first.plans;
    let Some(plan) = plans.first() else {
        return Vec::new();
    };
    let received = Instant::from_std(submission.received);
    let times = match submission.queued {
        true => Times::queued(),
        false => Times::in_session(plan.timeout, submission.settings.rfmta.connecttimeout),
    };
    let deadline = received + times.whole;
    let journeys = members.into_iter().map(|(index, prepared)| Journey {
        index,
        prepared,
        attempts: Vec::new(),
        last: None,
        end: None,
        sender: submission.sender.path.clone(),
    });
    let mut run = Run {
        delivery,
        seals,
        submission,
        journeys: journeys.collect(),
        deadline,
        times,
        received,
    };
    // One waiting session holds one outbound slot (RELAY-4).
    let slot = match delivery.slots.try_acquire() {
        Some(slot) => Some(Ok(slot)),
        None => {
            let waiting = timeout_at(deadline, delivery.slots.acquire());
            cancelled.unless(waiting).await
        }
    };
    match slot {
        Some(Ok(_slot)) => run.plans(plans, &mut cancelled).await,
        Some(Err(_)) => run.end_all(plan, Ending::NoOutbound),
        None => run.end_all(plan, Ending::Cancelled),
    }
    run.finish()
}

impl<'a> Run<'a> {
    /// Plan after plan, as long as somebody is without an end.
    async fn plans(&mut self, plans: &[Plan], cancelled: &mut Cancelled) {
        let mut hops = 0;
        let mut unresolved = None;
        for (number, plan) in plans.iter().enumerate() {
            // A name that does not resolve now leads to the next route (ROUTE-33); only for the
            // last one it is asked again and again.
            let asking = match number + 1 == plans.len() {
                true => Asking::UntilDeadline,
                false => Asking::Once,
            };
            let prepared = self.journeys.first().map(|j| j.prepared.clone());
            let destination = prepared.as_ref().and_then(|p| p.destination.as_ref());
            let (delivery, submission) = (self.delivery, self.submission);
            let found = match remotes(submission, plan, destination) {
                Ok(remotes) => Ok(remotes),
                Err(host) => {
                    let now = Instant::now();
                    let left = self.deadline.saturating_duration_since(now);
                    let until = now + time_for_names(submission, left);
                    let looking = relay_remotes(delivery, host, until, asking);
                    match cancelled.unless(looking).await {
                        Some(found) => found,
                        None => return self.end_all(plan, Ending::Cancelled),
                    }
                }
            };
            match found {
                Ok(remotes) => hops = self.hops(plan, remotes, hops, cancelled).await,
                Err(failure) => unresolved = Some((plan, failure)),
            }
            if self.is_done() {
                return;
            }
        }
        match (unresolved, plans.last()) {
            (Some((plan, failure)), _) if hops == 0 => self.no_address(plan, &failure),
            (_, Some(plan)) => self.exhausted(plan),
            (_, None) => {}
        }
    }

    /// Hop after hop over the remotes of one plan. Gives the hops used so far.
    async fn hops(
        &mut self,
        plan: &Plan,
        remotes: Vec<Remote>,
        used: u32,
        cancelled: &mut Cancelled,
    ) -> u32 {
        let delivery = self.delivery;
        let several = plan.outbounds.len() > 1;
        let turn = match several && !plan.ordered {
            true => delivery.turn(),
            false => 0,
        };
        let wish = self.wish(plan, turn);
        let maxhop = plan.maxhop.saturating_sub(used);
        let mut chase = Chase::new(remotes, plan.outbounds.clone(), maxhop);
        let recently = |address| delivery.timed_out.recently(address);
        let mut given: Option<(Leave, SessionMark)> = None;
        while Instant::now() < self.deadline {
            let instead = match &given {
                Some((leave, _)) => chase.instead(leave.outbound(), &recently),
                None => None,
            };
            let instead = match instead {
                None if given.take().is_some() => chase.current(),
                instead => instead,
            };
            let (outbound, remote) = match instead {
                Some(pair) => pair,
                None => {
                    let next = match wish.as_ref().filter(|_| several) {
                        Some(wish) => delivery.pace.next_hop(&mut chase, wish, &recently),
                        None => chase.next_free(&recently, &mut Rotation(turn)),
                    };
                    match next {
                        Next::Try {
                            outbound, remote, ..
                        } => (outbound, remote),
                        Next::Exhausted => break,
                    }
                }
            };
            let count = self.waiting().len() as u64;
            let here = wish
                .as_ref()
                .map(|wish| wish.only(chase.alternatives(), count));
            let signed_from = (plan, outbound.address);
            let fields = match delivery
                .sealer
                .wanted(delivery, self.submission, signed_from)
            {
                None => None,
                Some(wanted) => {
                    let (seals, deadline) = (self.seals, self.deadline);
                    let making = seals.fields(delivery, self.submission, wanted, deadline);
                    match cancelled.unless(making).await {
                        Some(Ok(fields)) => Some(fields),
                        Some(Err(refusal)) => {
                            self.end_all(plan, Ending::Refused(&refusal));
                            break;
                        }
                        None => {
                            self.end_all(plan, Ending::Cancelled);
                            break;
                        }
                    }
                }
            };
            let hop = Hop {
                plan,
                outbound: &outbound,
                remote: &remote,
                number: used + chase.hops(),
                sender: self.sender(plan, &outbound),
                fields,
                wish: here.as_ref(),
                started: Instant::now(),
            };
            let ended = self.hop(hop, given.take(), cancelled).await;
            if self.is_done() {
                break;
            }
            match ended {
                HopEnd::Tried { blocked: true } => chase.blocked(),
                HopEnd::Tried { blocked: false } => chase.connection_failed(),
                HopEnd::Elsewhere(leave, mark) => given = Some((leave, mark)),
                HopEnd::NoOutbound => {
                    self.no_outbound(plan, wish.as_ref());
                    break;
                }
            }
        }
        used + chase.hops()
    }

    /// What flow control is asked for; `None`: nothing limits this plan (FLOW-4).
    fn wish(&self, plan: &Plan, turn: usize) -> Option<Wish> {
        if let NextHop::Host(host) = &plan.route.next_hop
            && host
                .group
                .as_ref()
                .is_some_and(|group| group.flow.is_empty())
        {
            return None;
        }
        let from = self.submission.header_from.as_ref();
        let first = self.journeys.first()?;
        let recipient = self.submission.recipients.get(first.index)?;
        let account = self.submission.client.account.as_ref();
        Some(Wish {
            account: account.map_or_else(|| Arc::from(""), |a| Arc::from(a.name.as_str())),
            group: group_of(plan),
            domain: Arc::from(recipient.mailbox.ascii_domain()),
            sender: SenderDomain::of(plan, from),
            outbounds: plan.outbounds.clone(),
            among: Alternatives::any(0),
            is_ordered: plan.ordered,
            turn,
            count: 1,
        })
    }

    /// Positions of the journeys without an end.
    fn waiting(&self) -> Vec<usize> {
        (0..self.journeys.len())
            .filter(|&i| self.journeys.get(i).is_some_and(|j| j.end.is_none()))
            .collect()
    }

    fn is_done(&self) -> bool {
        self.journeys.iter().all(|journey| journey.end.is_some())
    }

    /// One hop for all who wait: one transaction, and more as long as the remote takes some
    /// recipients and wants the others in the next. Gives whether the remote blocks us.
    async fn hop(
        &mut self,
        mut hop: Hop<'_>,
        mut given: Option<(Leave, SessionMark)>,
        cancelled: &mut Cancelled,
    ) -> HopEnd {
        let mut blocked = false;
        let mut members = self.waiting();
        let only_here = hop
            .wish
            .map(|wish| wish.only(Alternatives::only(wish.among.chosen), 1));
        loop {
            let tried = self
                .one_attempt(&hop, &members, given.take(), cancelled)
                .await;
            let (end, count, spot) = match tried {
                Tried::End(end, count, spot) => (end, count, spot),
                Tried::Elsewhere(leave, mark) => return HopEnd::Elsewhere(leave, mark),
                Tried::NoOutbound => return HopEnd::NoOutbound,
            };
            let (now, later) = members.split_at(count.min(members.len()));
            self.remember(&hop, &end);
            let verdicts = self.take(&hop, now, end, spot.as_ref());
            blocked |= verdicts.contains(&Verdict::NextOutbound);
            let failed = verdicts.contains(&Verdict::NextRemote);
            let again = now
                .iter()
                .zip(&verdicts)
                .filter(|(_, v)| **v == Verdict::SameTransactionAgain);
            let again: Vec<usize> = again.map(|(place, _)| *place).collect();
            // Those for whom a window had no room follow, unless this pair is of no use.
            members = match blocked || failed {
                true => again,
                false => [&again, later].concat(),
            };
            if members.is_empty() || Instant::now() >= self.deadline {
                return HopEnd::Tried { blocked };
            }
            hop.started = Instant::now();
            // The pair was used: whoever follows goes the same way, or in another hop.
            hop.wish = only_here.as_ref();
        }
    }

    async fn one_attempt(
        &self,
        hop: &Hop<'_>,
        members: &[usize],
        mut given: Option<(Leave, SessionMark)>,
        cancelled: &mut Cancelled,
    ) -> Tried {
        let edge = self.delivery.edge();
        let host = match &hop.plan.route.next_hop {
            NextHop::Host(host) => Some(&**host),
            NextHop::Mx => None,
        };
        let first = members.first().and_then(|&i| self.journeys.get(i));
        let prepared = first.map(|journey| &*journey.prepared);
        let asked = (self.submission, hop.plan, prepared);
        let wanted = match host {
            Some(host) => demand_of_host(self.submission, hop.plan, host, hop.remote),
            None => {
                let resolver = &*edge.resolver;
                let (delivery, remote, deadline) = (self.delivery, hop.remote, self.deadline);
                let wanted = demand_of_mx(delivery, resolver, asked, remote, deadline);
                match cancelled.unless(wanted).await {
                    Some(wanted) => wanted,
                    None => return Tried::gone(members.len()),
                }
            }
        };
        let demand = match wanted {
            Ok(demand) => demand,
            Err(refusal) => {
                let end = End::forbidden(members.len(), refusal);
                return Tried::End(end, members.len(), None);
            }
        };
        let policy = prepared.and_then(|p| p.policy.as_ref());
        let mut order = Order {
            demand,
            try_proof: policy.is_some_and(|policy| policy.mode == Mode::Testing),
            submission: self.submission,
            plan: hop.plan,
            host,
            sender: hop.sender.clone(),
            fields: hop.fields.clone(),
            recipients: members
                .iter()
                .filter_map(|&i| self.journeys.get(i))
                .map(|j| j.index)
                .collect(),
            tls: &edge.tls,
            deadline: self.deadline,
            dot_deadline: self.received + self.times.dot,
            times: self.times,
            connect_time: self.submission.settings.rfmta.connecttimeout,
            auth_clear: host.is_some_and(|host| host.authclear),
        };
        let tools = &self.delivery.tools;
        let key = session_key(tools, &order, hop.outbound, hop.remote);
        loop {
            let ask = Ask {
                wish: hop.wish,
                outbound: hop.outbound.address,
                count: order.recipients.len() as u64,
                deadline: self.deadline.min(self.received + self.times.leave),
            };
            let admitted = match admit(self.delivery, &key, ask, given.take()) {
                Ok(admitted) => admitted,
                Err(wish) => {
                    let waiting = wait(self.delivery, &key, ask, wish);
                    match cancelled.unless(waiting).await {
                        Some(admitted) => admitted,
                        None => return Tried::gone(members.len()),
                    }
                }
            };
            let admission = match admitted {
                Admitted::Here(admission) => admission,
                Admitted::Elsewhere(leave, mark) => return Tried::Elsewhere(leave, mark),
                Admitted::NoOutbound => return Tried::NoOutbound,
            };
            let leave = admission.leave.as_ref();
            let spot = leave.map(|leave| leave.spot().clone());
            let count = leave.map_or(members.len() as u64, Leave::count);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            order.recipients.truncate(count);
            let count = order.recipients.len();
            let mut end = attempt(tools, &order, key.clone(), *admission, cancelled).await;
            // Its session had been closed: it waits for another one like anybody.
            if end.special == Special::Stale {
                end.special = Special::None;
                if Instant::now() < self.deadline {
                    continue;
                }
            }
            return Tried::End(end, count, spot);
        }
    }

    /// The envelope sender from this outbound. Who has a generated one is alone in its bundle.
    fn sender(&self, plan: &Plan, outbound: &OutboundIp) -> ReversePath {
        match &plan.sender {
            OutboundSender::Fixed(path) => path.clone(),
            OutboundSender::Verp { domain } => {
                let job = galerne_core::ids::number(&self.submission.message_id);
                let recipient = self.journeys.first().map_or(0, |j| j.index as u64 + 1);
                let domain = domain.as_deref().unwrap_or(&outbound.name);
                let address =
                    galerne_mail::verp::address(job, recipient, domain, &self.delivery.verp_secret);
                Mailbox::parse(&address).map_or(ReversePath::Null, ReversePath::Mailbox)
            }
        }
    }

    /// Remembers who timed out on connect (ROUTE-35).
    fn remember(&self, hop: &Hop<'_>, end: &End) {
        let Some((stage, answer)) = end.answers.first() else {
            return;
        };
        let timed_out = &self.delivery.timed_out;
        let whole_time = hop.started.elapsed() >= self.submission.settings.rfmta.connecttimeout;
        match answer {
            RemoteAnswer::Lost(why)
                if *stage == Stage::Connect && why == "timed out" && whole_time =>
            {
                timed_out.remember(hop.remote.address);
            }
            RemoteAnswer::Reply(_) => timed_out.forget(hop.remote.address),
            _ => {}
        }
    }

    /// Books what an attempt said for each of its members, and gives the verdicts.
    fn take(
        &mut self,
        hop: &Hop<'_>,
        members: &[usize],
        end: End,
        spot: Option<&Spot>,
    ) -> Vec<Verdict> {
        let refusals: Vec<_> = members
            .iter()
            .map(|&place| self.refusal(hop, &end, place))
            .collect();
        let qualify = |(answer, refusal): (&RemoteAnswer, &Option<Refusal>)| match answer {
            RemoteAnswer::Reply(reply) if refusal.is_none() && !reply.is_positive() => {
                Some(hop.plan.group.patterns.qualify(reply))
            }
            _ => None,
        };
        let answers = end.answers.iter().map(|(_, answer)| answer);
        let qualifications: Vec<_> = answers.zip(&refusals).map(qualify).collect();
        let mut verdicts = match end.special {
            Special::None if end.policy.is_some() => vec![Verdict::NextRemote; end.answers.len()],
            Special::None => judge_all(&end.answers, &qualifications, end.dot_sent),
            Special::Auth => vec![Verdict::NextRemote; end.answers.len()],
            Special::Stale => vec![Verdict::NextRemote; end.answers.len()],
            Special::Cancelled | Special::Loop => {
                vec![Verdict::Final(Outcome::Failed); end.answers.len()]
            }
        };
        if end.special == Special::Auth {
            self.report_auth(hop, &end);
        }
        if let Some(spot) = spot {
            tell(&self.delivery.pace, spot, &verdicts, &qualifications);
        }
        let special = end.special;
        self.book(hop, members, end, qualifications);
        for ((place, verdict), refusal) in members.iter().zip(&mut verdicts).zip(&refusals) {
            match (refusal, &verdict) {
                (Some(refusal), _) => {
                    *verdict = Verdict::Final(Outcome::Failed);
                    self.end_one(*place, hop.plan, Some(Ending::Refused(refusal)));
                }
                (None, Verdict::Final(_)) => {
                    let gone = (special == Special::Cancelled).then_some(Ending::Cancelled);
                    self.end_one(*place, hop.plan, gone);
                }
                _ => {}
            }
        }
        verdicts
    }

    /// Remembers what the attempt said for each of its members.
    fn book(
        &mut self,
        hop: &Hop<'_>,
        members: &[usize],
        end: End,
        qualifications: Vec<Option<Qualification>>,
    ) {
        let (tls, duration, dot_sent) = (end.tls, hop.started.elapsed(), end.dot_sent);
        let (policy, dsn) = (end.policy, end.dsn);
        let each = end.answers.into_iter().zip(qualifications);
        for (place, ((stage, answer), qualification)) in members.iter().zip(each) {
            let Some(journey) = self.journeys.get_mut(*place) else {
                continue;
            };
            let (tls, q) = (tls.clone(), qualification.clone());
            let attempt = booked(hop, stage, &answer, q, tls, duration);
            journey.attempts.push(Attempt { dsn, ..attempt });
            journey.sender = hop.sender.clone();
            let host = hop.remote.host.clone();
            journey.last = Some(Last {
                host,
                stage,
                answer,
                qualification,
                dot_sent,
                policy: policy.clone(),
            });
        }
    }
}
