//! The outbound slots of `[rfmta]threadnb`: one waiting client session holds one (RELAY-4). Their
//! number may change while they are in use.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// All slots.
pub struct Slots {
    free: Semaphore,
    /// Slots that are too many since the number was lowered, and end with their use.
    owed: Mutex<usize>,
}

/// One slot in use.
pub struct Slot<'a> {
    slots: &'a Slots,
    permit: Option<SemaphorePermit<'a>>,
}

impl Slots {
    /// So many, all free.
    pub fn new(count: usize) -> Self {
        Slots {
            free: Semaphore::new(count),
            owed: Mutex::new(0),
        }
    }

    /// A slot, if one is free and nobody waits.
    pub fn try_acquire(&self) -> Option<Slot<'_>> {
        let permit = self.free.try_acquire().ok()?;
        Some(Slot {
            slots: self,
            permit: Some(permit),
        })
    }

    /// Waits for a slot, first come first served.
    pub async fn acquire(&self) -> Slot<'_> {
        let permit = self.free.acquire().await.ok();
        Slot {
            slots: self,
            permit,
        }
    }

    /// There are to be `new` slots instead of `old`. Those in use stay until they are given back.
    pub fn resize(&self, old: usize, new: usize) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if new > old {
            let paid = (*owed).min(new - old);
            *owed -= paid;
            self.free.add_permits(new - old - paid);
        } else {
            *owed += (old - new) - self.free.forget_permits(old - new);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut owed = self
            .slots
            .owed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *owed > 0
            && let Some(permit) = self.permit.take()
        {
            *owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_free(slots: &Slots) -> bool {
        slots.free.available_permits() > 0
    }

    #[tokio::test]
    async fn relay_4_conf_12_a_lower_threadnb_holds_once_those_in_use_come_back() {
        let slots = Slots::new(3);
        let used = [
            slots.acquire().await,
            slots.acquire().await,
            slots.acquire().await,
        ];
        slots.resize(3, 1);
        let [first, second, third] = used;
        drop((first, second));
        assert!(!is_free(&slots), "two were too many");
        drop(third);
        assert_eq!(slots.free.available_permits(), 1);
        slots.resize(1, 2);
        assert_eq!(slots.free.available_permits(), 2);
    }

    #[tokio::test]
    async fn relay_4_conf_12_a_higher_threadnb_first_pays_what_is_owed() {
        let slots = Slots::new(2);
        let used = [slots.acquire().await, slots.acquire().await];
        slots.resize(2, 1);
        slots.resize(1, 3);
        assert_eq!(slots.free.available_permits(), 1);
        drop(used);
        assert_eq!(slots.free.available_permits(), 3);
    }
}
