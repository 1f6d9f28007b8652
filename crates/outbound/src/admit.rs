//! Leave of flow control for one hop: in an idle session, in a new one, or from another outbound
//! that is free first (RELAY-57, RELAY-69). And what is told to flow control afterwards.

use std::net::IpAddr;

use galerne_core::chase::Verdict;
use galerne_core::model::{Class, Outcome, Qualification};
use tokio::time::Instant;

use crate::attempt::Admission;
use crate::connection::Key;
use crate::delivery::Delivery;
use crate::pace::{Idle, Leave, Pace, SessionMark, Spot, Turn, Wish};
use crate::pool::quit;

/// What a hop asks for.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// `None`: nothing limits it.
    pub wish: Option<&'a Wish>,
    /// From where the hop is to be made.
    pub outbound: IpAddr,
    /// Recipients.
    pub count: u64,
    pub deadline: Instant,
}

/// The answer.
pub enum Admitted {
    Here(Box<Admission>),
    /// Another outbound of the wish was free first.
    Elsewhere(Leave, SessionMark),
    /// None was free before the deadline.
    NoOutbound,
}

/// What can be said at once; else the wish, to be waited for with `wait`. `given`: leave was given
/// already, for a session to be opened from here.
///
/// # Errors
/// There is no leave now.
pub fn admit(
    delivery: &Delivery,
    key: &Key,
    ask: Ask<'_>,
    given: Option<(Leave, SessionMark)>,
) -> Result<Admitted, Box<Wish>> {
    if let Some((leave, mark)) = given {
        return Ok(Admitted::Here(Box::new(Admission {
            connection: None,
            leave: Some(leave),
            mark: Some(mark),
        })));
    }
    let wish = ask.wish.map(|wish| Wish {
        count: ask.count,
        ..wish.clone()
    });
    if let Some(admission) = in_idle_session(delivery, key, wish.as_ref()) {
        return Ok(Admitted::Here(Box::new(admission)));
    }
    let Some(wish) = wish else {
        return Ok(Admitted::Here(Box::default()));
    };
    match delivery.pace.try_leave(&wish) {
        Some((leave, mark)) => {
            let mut admitted = admitted(Turn::New(leave, mark), ask);
            if let Admitted::Here(admission) = &mut admitted {
                take_over(delivery, key, &wish, admission);
            }
            Ok(admitted)
        }
        None => Err(Box::new(wish)),
    }
}

/// In the group of all others each domain has its sessions (FLOW-51). One that idles at the same
/// remote need not be opened anew for the next domain: it counts as ended there, and opened here.
/// Its chain goes on: it is one session for the remote (FLOW-20).
fn take_over(delivery: &Delivery, key: &Key, wish: &Wish, admission: &mut Admission) {
    let pool = &delivery.tools.pool;
    let chain = delivery.pace.chain(wish, key.outbound);
    while let Some(mut connection) = pool.take_over(key, wish, chain) {
        if !connection.is_alive() {
            continue;
        }
        if let (Some(mark), Some(before)) = (&mut admission.mark, &connection.mark) {
            mark.goes_on(before);
        }
        connection.mark = admission.mark.take();
        admission.connection = Some(connection);
        return;
    }
}

/// Waits in line until the deadline.
pub async fn wait(delivery: &Delivery, key: &Key, ask: Ask<'_>, wish: Box<Wish>) -> Admitted {
    let pace = &delivery.pace;
    let give_way = |wish: &Wish| {
        if pace.needs_place(wish) {
            delivery.tools.pool.give_way(wish);
        }
    };
    match pace.leave(*wish, key, ask.deadline, give_way).await {
        Some(turn) => admitted(turn, ask),
        None => Admitted::NoOutbound,
    }
}

fn admitted(turn: Turn, ask: Ask<'_>) -> Admitted {
    match turn {
        Turn::InSession(connection, leave) => Admitted::Here(Box::new(Admission {
            connection: Some(connection),
            leave: Some(leave),
            mark: None,
        })),
        Turn::New(leave, mark) if leave.outbound() == ask.outbound => {
            Admitted::Here(Box::new(Admission {
                connection: None,
                leave: Some(leave),
                mark: Some(mark),
            }))
        }
        Turn::New(leave, mark) => Admitted::Elsewhere(leave, mark),
    }
}

/// An idle session that is alive and may carry the message.
fn in_idle_session(delivery: &Delivery, key: &Key, wish: Option<&Wish>) -> Option<Admission> {
    let pool = &delivery.tools.pool;
    while let Some(mut connection) = pool.take(key, wish) {
        if !connection.is_alive() {
            continue;
        }
        let leave = match (wish, &mut connection.mark) {
            (None, None) => None,
            (Some(wish), Some(mark)) => match delivery.pace.in_session(key, mark, wish) {
                Idle::Leave(leave) => Some(leave),
                Idle::Keep => {
                    if let Some(connection) = pool.put(connection, Instant::now()) {
                        tokio::spawn(quit(connection));
                    }
                    return None;
                }
                Idle::UsedUp => {
                    tokio::spawn(quit(connection));
                    continue;
                }
            },
            // Limits came or went with a reload.
            _ => {
                tokio::spawn(quit(connection));
                continue;
            }
        };
        return Some(Admission {
            connection: Some(connection),
            leave,
            mark: None,
        });
    }
    None
}

/// Tells what became of each message of a transaction (FLOW-35, FLOW-42, FLOW-47). Connection
/// failures tell nothing.
pub fn tell(
    pace: &Pace,
    spot: &Spot,
    verdicts: &[Verdict],
    qualifications: &[Option<Qualification>],
) {
    let delivered = |verdict: &&Verdict| **verdict == Verdict::Final(Outcome::Delivered);
    let count = verdicts.iter().filter(delivered).count();
    if count > 0 {
        pace.delivered(spot, count as u64);
    }
    for (verdict, qualification) in verdicts.iter().zip(qualifications) {
        let Some(qualification) = qualification else {
            continue;
        };
        match (&qualification.pattern, &qualification.class) {
            // No usable connection: neither counts nor resets (FLOW-48, RELAY-61).
            (None, _) if *verdict == Verdict::NextRemote => {}
            (None, _) => pace.unknown_error(spot),
            (Some(name), Class::Flow { ipset, sdset }) => {
                pace.blocked(spot, (*ipset, *sdset), name);
            }
            (Some(_), _) => pace.known_error(spot),
        }
    }
}
