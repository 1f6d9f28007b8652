//! Answers in the form in which they are wanted, kept for their TTL. The resolver below keeps
//! messages; to take one of them apart again for each mail costs a hundred times as much.

use std::borrow::Borrow;
use std::hash::Hash;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

/// What was heard at names, bounded in number.
pub(crate) struct Kept<T> {
    cache: Cache<String, Entry<T>>,
}

#[derive(Clone)]
struct Entry<T> {
    until: Instant,
    value: T,
}

struct UntilThen;

impl<K, T> Expiry<K, Entry<T>> for UntilThen {
    fn expire_after_create(&self, _: &K, entry: &Entry<T>, now: Instant) -> Option<Duration> {
        Some(entry.until.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &K,
        entry: &Entry<T>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.until.saturating_duration_since(now))
    }
}

impl<T: Clone + Send + Sync + 'static> Kept<T> {
    pub(crate) fn new(most: u64) -> Self {
        Kept {
            cache: Cache::builder()
                .max_capacity(most)
                .expire_after(UntilThen)
                .build(),
        }
    }

    pub(crate) fn get<Q>(&self, name: &Q) -> Option<T>
    where
        String: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.cache.get(name)?;
        (entry.until > Instant::now()).then_some(entry.value)
    }

    /// `until`: as its TTL says; one of the past is not kept at all.
    pub(crate) fn put(&self, name: &str, until: Instant, value: &T) {
        if until > Instant::now() {
            let value = value.clone();
            self.cache.insert(name.to_owned(), Entry { until, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_for_its_ttl_and_not_a_moment_longer() {
        let kept = Kept::new(10);
        let now = Instant::now();
        kept.put("over.example", now, &1);
        assert_eq!(kept.get("over.example"), None);
        kept.put("soon.example", now + Duration::from_millis(30), &2);
        kept.put("long.example", now + Duration::from_secs(60), &3);
        assert_eq!(kept.get("long.example"), Some(3));
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(kept.get("soon.example"), None);
        // A new answer with a shorter TTL takes the place of the old one.
        kept.put(
            "long.example",
            Instant::now() + Duration::from_millis(10),
            &4,
        );
        assert_eq!(kept.get("long.example"), Some(4));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(kept.get("long.example"), None);
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let kept = Kept::new(100);
        let until = Instant::now() + Duration::from_secs(60);
        for number in 0..10_000 {
            kept.put(&format!("d{number}.example"), until, &number);
        }
        kept.cache.run_pending_tasks();
        assert!(
            kept.cache.entry_count() <= 100,
            "{}",
            kept.cache.entry_count()
        );
    }
}
