//! Walks through all states, slice after slice: between two of them mail goes on, however many
//! states there are. Whoever walks is no session: it blocks.

use std::time::Duration;

use galerne_core::flow::desk::{Row, Slice, in_order};

use super::Pace;

/// Between two slices: time for somebody else to take the lock.
const BREATH: Duration = Duration::from_micros(20);

impl Pace {
    /// All states of a group, or of all, each as it was when its slice was looked at. Blocks; mail
    /// goes on between the slices.
    pub fn rows(&self, group: Option<&str>) -> Vec<Row> {
        let groups = self.lock().desk.group_names();
        let mut rows = Vec::new();
        for name in groups
            .iter()
            .filter(|name| group.is_none_or(|g| g == &***name))
        {
            self.walk(|slice| {
                let now = self.now();
                self.lock().desk.rows_of(now, name, slice, &mut rows)
            });
        }
        in_order(&mut rows);
        rows
    }

    /// Evaluates all rules: at least once a minute (FLOW-36). Blocks; mail goes on between the
    /// slices.
    pub fn tick(&self) {
        let groups = self.lock().desk.group_names();
        for group in groups {
            self.walk(|slice| {
                let now = self.now();
                let mut inner = self.lock();
                let next = inner.desk.tick_of(now, &group, slice);
                if next.is_none() {
                    self.serve(&mut inner, now, &group);
                }
                next
            });
        }
    }

    /// Slice after slice of one group. Who waits for the lock gets it in between.
    fn walk(&self, mut act: impl FnMut(Slice) -> Option<Slice>) {
        let mut next = Some(Slice::FIRST);
        while let Some(slice) = next {
            next = act(slice);
            // The short walk from addresses to senders needs no pause.
            if let Some(Slice::Senders(end)) = next
                && end != usize::MAX
            {
                std::thread::sleep(BREATH);
            }
        }
    }
}
