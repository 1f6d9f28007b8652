//! How many recipients an account has had in the last hour and the last day, and whether it may
//! have one more (CONF-93). Pure: the minute is an argument. What is shared by all sessions, and
//! what a restart reads, is kept by `galerne_inbound::quotas`.

use std::collections::VecDeque;

use crate::refusal::Refusal;
use crate::settings::Account;

/// Minutes that a recipient counts against `maxhour`: never less than an hour.
const HOUR: u64 = 60;
/// Minutes that a recipient counts against `maxday`.
const DAY: u64 = 24 * 60;

/// The recipients of one account, minute by minute; at most as many entries as a day has minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// (minute, recipients), oldest first; minutes without any are left out.
    minutes: VecDeque<(u64, u64)>,
}

/// What an account has used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Recipients of the last 60 minutes.
    pub hour: u64,
    /// Recipients of the last 24 hours.
    pub day: u64,
}

impl Window {
    /// Counts one recipient at `now`, or says which limit stands against it. Minutes are counted
    /// from any fixed moment, and do not run backwards.
    pub fn book(&mut self, account: &Account, now: u64) -> Result<(), Refusal> {
        if let Some(refusal) = judge(account, self.used(now)) {
            return Err(refusal);
        }
        self.add(now, 1);
        Ok(())
    }

    /// Counts recipients of a minute; one before the last counts as the last.
    pub fn add(&mut self, minute: u64, recipients: u64) {
        match self.minutes.back_mut() {
            Some((last, count)) if *last >= minute => *count = count.saturating_add(recipients),
            _ => self.minutes.push_back((minute, recipients)),
        }
        self.forget(minute);
    }

    /// Takes back what was counted at `minute` and then was not sent.
    pub fn give_back(&mut self, minute: u64, recipients: u64) {
        let booked = self.minutes.iter_mut().rev();
        if let Some((_, count)) = booked.into_iter().find(|(at, _)| *at <= minute) {
            *count = count.saturating_sub(recipients);
        }
    }

    /// What counts now.
    pub fn used(&self, now: u64) -> Used {
        let within = |length: u64| {
            let inside = self.minutes.iter().rev();
            // The minute that began an hour ago has not ended an hour ago: it still counts.
            inside
                .take_while(|(minute, _)| minute.saturating_add(length) >= now)
                .map(|(_, count)| *count)
                .fold(0, u64::saturating_add)
        };
        Used {
            hour: within(HOUR),
            day: within(DAY),
        }
    }

    /// Whether nothing counts any more.
    pub fn is_over(&self, now: u64) -> bool {
        self.used(now).day == 0
    }

    /// (minute, recipients), oldest first, for what a restart reads.
    pub fn minutes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.minutes.iter().copied().filter(|(_, count)| *count > 0)
    }

    fn forget(&mut self, now: u64) {
        while self
            .minutes
            .front()
            .is_some_and(|(minute, _)| minute.saturating_add(DAY) < now)
        {
            self.minutes.pop_front();
        }
    }
}

/// `451 4.7.1` naming the limit, if one more recipient would exceed it.
fn judge(account: &Account, used: Used) -> Option<Refusal> {
    let limits = [
        (account.maxhour, used.hour, "hour", "maxhour"),
        (account.maxday, used.day, "day", "maxday"),
    ];
    let reached = limits
        .into_iter()
        .find(|(limit, used, ..)| *limit > 0 && used >= limit);
    reached.map(|(limit, _, span, key)| {
        let text = format!(
            "4.7.1 account {} has had {limit} recipients within the last {span} ({key}), try again later",
            account.name
        );
        Refusal::standard(451, text, format!("{} [account] {key}", account.file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::account;

    fn limited(maxhour: u64, maxday: u64) -> Account {
        let mut account = account("shop");
        (account.maxhour, account.maxday) = (maxhour, maxday);
        account
    }

    fn said(result: Result<(), Refusal>) -> String {
        match result {
            Ok(()) => "ok".to_owned(),
            Err(refusal) => format!("{} | {}", refusal.reply(true).to_log(), refusal.rule()),
        }
    }

    #[test]
    fn conf_93_one_recipient_more_than_the_limit_is_451_4_7_1_naming_it() {
        let (account, mut window) = (limited(3, 0), Window::default());
        for _ in 0..3 {
            assert_eq!(said(window.book(&account, 1000)), "ok");
        }
        assert_eq!(
            said(window.book(&account, 1000)),
            "451 4.7.1 account shop has had 3 recipients within the last hour (maxhour), try again later | users/shop.ini [account] maxhour"
        );
        assert_eq!(window.used(1000).hour, 3, "what is refused does not count");
        let (account, mut window) = (limited(0, 2), Window::default());
        window.add(1000, 2);
        assert!(said(window.book(&account, 1500)).contains("within the last day (maxday)"));
    }

    #[test]
    fn conf_93_zero_is_no_limit() {
        let (account, mut window) = (limited(0, 0), Window::default());
        for minute in 0..5000 {
            assert_eq!(said(window.book(&account, minute)), "ok");
        }
    }

    #[test]
    fn conf_93_windows_slide_and_are_never_shorter_than_they_say() {
        let (account, mut window) = (limited(1, 2), Window::default());
        let at = |hour: u64, minute: u64| 60 * hour + minute;
        assert_eq!(said(window.book(&account, at(0, 30))), "ok");
        // Booked at 0:30:59, it is an hour old at 1:30:59 only.
        assert!(said(window.book(&account, at(1, 30))).contains("maxhour"));
        assert_eq!(said(window.book(&account, at(1, 31))), "ok");
        assert!(said(window.book(&account, at(9, 0))).contains("maxday"));
        assert!(said(window.book(&account, at(24, 30))).contains("maxday"));
        assert_eq!(said(window.book(&account, at(24, 31))), "ok");
    }

    #[test]
    fn conf_93_what_was_not_sent_is_given_back() {
        let (account, mut window) = (limited(2, 0), Window::default());
        window.add(7, 2);
        window.give_back(7, 1);
        assert_eq!(said(window.book(&account, 8)), "ok");
        window.give_back(7, 100);
        assert_eq!(window.used(8).hour, 1);
    }

    #[test]
    fn conf_93_the_count_is_bounded_in_memory() {
        let mut window = Window::default();
        for minute in 0..100_000 {
            window.add(minute, 5);
        }
        assert!(window.minutes().count() <= 1441);
        assert_eq!(window.used(99_999).day, 5 * 1441);
        assert!(!window.is_over(99_999) && window.is_over(99_999 + 1441));
        // A clock that was set back moves nothing back.
        window.add(50, 1);
        assert_eq!(window.used(99_999).hour, 5 * 61 + 1);
    }
}
