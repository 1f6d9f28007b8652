//! The recipients of all accounts in the last day, shared by all sessions and kept over a restart
//! (CONF-93). Whether one more is allowed is decided by `galerne_core::quota`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use galerne_core::quota::{Used, Window};
use galerne_core::refusal::Refusal;
use galerne_core::settings::Account;
use tokio::time::Instant;

/// Used up by whom. Settings may change as they like: an account is known by its name.
#[derive(Debug)]
pub struct Quotas {
    windows: Mutex<HashMap<String, Window>>,
    /// The minute since 1970 at which we began; from then on the clock of the host does not count.
    first_minute: u64,
    began: Instant,
    changed: AtomicBool,
}

/// Recipients of a transaction that are counted, and given back unless they are sent to.
#[derive(Debug)]
pub struct Booking {
    quotas: Arc<Quotas>,
    account: String,
    /// The minute of each.
    minutes: Vec<u64>,
}

impl Quotas {
    /// Nothing is used up yet.
    pub fn new() -> Arc<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Arc::new(Quotas {
            windows: Mutex::default(),
            first_minute: since.map_or(0, |since| since.as_secs() / 60),
            began: Instant::now(),
            changed: AtomicBool::new(false),
        })
    }

    /// A transaction of that account begins; it has no recipients yet.
    pub fn begin(self: &Arc<Self>, account: &Account) -> Booking {
        Booking {
            quotas: self.clone(),
            account: account.name.clone(),
            minutes: Vec::new(),
        }
    }

    /// What the account has used up.
    pub fn used(&self, account: &str) -> Used {
        let now = self.minute();
        let windows = self.windows();
        windows
            .get(account)
            .map_or_else(Used::default, |window| window.used(now))
    }

    /// Reads what was used up before a restart, in addition to what is counted already.
    ///
    /// # Errors
    /// The file is there and cannot be read. Lines that are none of ours are left out.
    pub fn load(&self, file: &Path) -> io::Result<()> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = self.minute();
        let mut windows = self.windows();
        let present = std::mem::take(&mut *windows);
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(name), Some(minute), Some(count)) = (
                words.next(),
                words.next().and_then(|word| word.parse().ok()),
                words.next().and_then(|word| word.parse().ok()),
            ) else {
                continue;
            };
            // A clock that was set back must not make recipients count for years.
            let window = windows.entry(name.to_owned()).or_default();
            window.add(now.min(minute), count);
        }
        for (name, newer) in present {
            let window = windows.entry(name).or_default();
            newer
                .minutes()
                .for_each(|(at, count)| window.add(at, count));
        }
        Ok(())
    }

    /// Writes what is used up, if that changed since the last time: whole or not at all.
    ///
    /// # Errors
    /// The disk refuses; the old file stays, and the next time it is tried again.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let text = self.text();
        let written = write_whole(file, text.as_bytes());
        if written.is_err() {
            self.changed.store(true, Ordering::Release);
        }
        written
    }

    /// One line for each account and minute. Accounts that nothing counts for are forgotten.
    fn text(&self) -> String {
        let now = self.minute();
        let mut windows = self.windows();
        windows.retain(|_, window| !window.is_over(now));
        let mut lines: Vec<String> = Vec::new();
        for (name, window) in &*windows {
            let minutes = window.minutes();
            lines.extend(minutes.map(|(minute, count)| format!("{name} {minute} {count}\n")));
        }
        lines.concat()
    }

    fn minute(&self) -> u64 {
        self.first_minute + self.began.elapsed().as_secs() / 60
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<String, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Booking {
    /// One more recipient, or the limit that stands against it.
    pub fn book(&mut self, account: &Account) -> Result<(), Refusal> {
        let now = self.quotas.minute();
        let mut windows = self.quotas.windows();
        // Named again only where it is new.
        match windows.get_mut(&self.account) {
            Some(window) => window.book(account, now)?,
            None => {
                let mut window = Window::default();
                window.book(account, now)?;
                windows.insert(self.account.clone(), window);
            }
        }
        self.minutes.push(now);
        Ok(())
    }

    /// The recipients were sent to, whatever came of it.
    pub fn spend(mut self) {
        self.quotas.changed.store(true, Ordering::Release);
        self.minutes.clear();
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if self.minutes.is_empty() {
            return;
        }
        if let Some(window) = self.quotas.windows().get_mut(&self.account) {
            self.minutes
                .iter()
                .for_each(|minute| window.give_back(*minute, 1));
        }
    }
}

/// Under another name first, so that a reader finds the old file or the new one.
fn write_whole(file: &Path, octets: &[u8]) -> io::Result<()> {
    let making = file.with_extension("new");
    let mut new = File::create(&making)?;
    new.write_all(octets)?;
    new.sync_all()?;
    fs::rename(&making, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &[(u64, u64)]) -> Window {
        let mut window = Window::default();
        text.iter()
            .for_each(|(minute, count)| window.add(*minute, *count));
        window
    }

    #[tokio::test(start_paused = true)]
    async fn conf_93_what_is_used_up_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quotas");
        let before = Quotas::new();
        let now = before.minute();
        before
            .windows()
            .insert("shop".into(), window(&[(now - 90, 4), (now, 3)]));
        before
            .windows()
            .insert("old".into(), window(&[(now - 2000, 4)]));
        before.changed.store(true, Ordering::Release);
        before.save(&file).unwrap();

        let after = Quotas::new();
        after.windows().insert("shop".into(), window(&[(now, 1)]));
        after.load(&file).unwrap();
        assert_eq!(after.used("shop"), Used { hour: 4, day: 8 });
        assert_eq!(after.used("old"), Used::default());
        assert!(!fs::read_to_string(&file).unwrap().contains("old"));

        // A day later nothing counts, and a broken or missing file is no reason not to start.
        tokio::time::advance(std::time::Duration::from_secs(86_460)).await;
        assert_eq!(after.used("shop"), Used::default());
        fs::write(&file, "shop\nshop x y\n\n= 4 5 6\n").unwrap();
        let after = Quotas::new();
        after.load(&file).unwrap();
        after.load(&folder.path().join("none")).unwrap();
        assert_eq!(after.used("shop"), Used::default());
    }

    #[test]
    fn conf_93_a_file_from_the_future_counts_from_now_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quotas");
        let quotas = Quotas::new();
        let later = quotas.minute() + 1_000_000;
        fs::write(&file, format!("shop {later} 5\n")).unwrap();
        quotas.load(&file).unwrap();
        let now = quotas.minute();
        assert_eq!(quotas.used("shop").hour, 5);
        assert_eq!(quotas.windows()["shop"].used(now + 61).hour, 0);
    }
}
