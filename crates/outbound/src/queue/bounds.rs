//! What bounds the queue: its records, those of one account or lane, and the space on the disk
//! (QUEUE-9, CONF-31).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use galerne_core::refusal::Refusal;

/// What is in the queue, by account, and whether more may come.
#[derive(Default)]
pub struct Bounds {
    held: Mutex<Held>,
    /// The disk has less free space than it must have.
    no_space: AtomicBool,
}

#[derive(Default)]
struct Held {
    total: u64,
    /// Empty name: nobody's, and our own.
    accounts: HashMap<String, u64>,
    /// Lanes that hold half of the queue: two, but for what we have to tell ourselves.
    full_lanes: Vec<Arc<str>>,
}

/// What one account or lane may hold.
pub fn part(qmsize: u64) -> u64 {
    qmsize.div_ceil(2)
}

impl Bounds {
    /// So many deliveries were taken over.
    pub fn add(&self, account: &str, count: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total += count;
        match held.accounts.get_mut(account) {
            Some(of_account) => *of_account += count,
            None => {
                held.accounts.insert(account.to_owned(), count);
            }
        }
    }

    /// So many were decided.
    pub fn remove(&self, account: &str, count: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total = held.total.saturating_sub(count);
        if let Some(of_account) = held.accounts.get_mut(account) {
            *of_account = of_account.saturating_sub(count);
            if *of_account == 0 {
                held.accounts.remove(account);
            }
        }
    }

    /// Whether the disk has room.
    pub fn set_space(&self, is_enough: bool) {
        let was_short = self.no_space.swap(!is_enough, Ordering::Relaxed);
        match (was_short, is_enough) {
            (false, false) => {
                tracing::error!("[queue]minfree: too little free space, no new mail is taken over");
            }
            (true, true) => tracing::info!("[queue]minfree: there is free space again"),
            _ => {}
        }
    }

    /// Deliveries in the queue.
    pub fn total(&self) -> u64 {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .total
    }

    /// Why no more mail of the account may come.
    ///
    /// # Errors
    /// 452 4.3.1.
    pub fn may_take(&self, account: &str, qmsize: u64) -> Result<(), Refusal> {
        if self.no_space.load(Ordering::Relaxed) {
            return full("insufficient system storage");
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.total >= qmsize {
            return full("the queue is full");
        }
        let of_account = held.accounts.get(account).copied().unwrap_or(0);
        if of_account >= part(qmsize) {
            return full("your part of the queue is full");
        }
        Ok(())
    }

    /// The scheduler says which lanes are full.
    pub fn set_full_lanes(&self, lanes: Vec<Arc<str>>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for lane in &lanes {
            if !held.full_lanes.contains(lane) {
                tracing::warn!(%lane, "[galerne]qmsize: this lane holds its half of the queue, new mail for it is not taken over");
            }
        }
        held.full_lanes = lanes;
    }

    /// Why no more mail for these lanes may come.
    ///
    /// # Errors
    /// 452 4.3.1.
    pub fn may_take_for<'a>(
        &self,
        mut lanes: impl Iterator<Item = &'a str>,
    ) -> Result<(), Refusal> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.full_lanes.is_empty() {
            return Ok(());
        }
        let is_full = |lane: &str| held.full_lanes.iter().any(|full| **full == *lane);
        match lanes.any(is_full) {
            true => full("too much mail waits for this destination"),
            false => Ok(()),
        }
    }
}

fn full(text: &str) -> Result<(), Refusal> {
    let text = format!("4.3.1 {text}, try again later");
    Err(Refusal::standard(452, text, "QUEUE-9"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_9_one_account_may_hold_half_of_the_queue() {
        let bounds = Bounds::default();
        bounds.add("shop", 4);
        assert!(bounds.may_take("shop", 10).is_ok());
        bounds.add("shop", 1);
        let refusal = bounds.may_take("shop", 10).unwrap_err();
        assert_eq!(refusal.reply(false).code(), 452);
        assert!(bounds.may_take("news", 10).is_ok());
        bounds.add("news", 5);
        assert!(bounds.may_take("third", 10).is_err(), "all is full");
        bounds.remove("shop", 1);
        assert!(bounds.may_take("shop", 10).is_ok());
        assert_eq!(bounds.total(), 9);
    }

    #[test]
    fn queue_9_a_full_lane_takes_no_more_and_others_do() {
        let bounds = Bounds::default();
        let lanes = ["group gmail", "domain a.example"];
        assert!(bounds.may_take_for(lanes.into_iter()).is_ok());
        bounds.set_full_lanes(vec![Arc::from("domain a.example")]);
        let refusal = bounds.may_take_for(lanes.into_iter()).unwrap_err();
        assert!(refusal.reply(false).to_log().starts_with("452 4.3.1"));
        assert!(bounds.may_take_for(lanes.into_iter().take(1)).is_ok());
        bounds.set_full_lanes(Vec::new());
        assert!(bounds.may_take_for(lanes.into_iter()).is_ok());
    }

    #[test]
    fn queue_9_conf_31_without_space_nothing_is_taken() {
        let bounds = Bounds::default();
        bounds.set_space(false);
        let refusal = bounds.may_take("", 10).unwrap_err();
        assert!(refusal.reply(false).to_log().starts_with("452 4.3.1"));
        bounds.set_space(true);
        assert!(bounds.may_take("", 10).is_ok());
    }
}
