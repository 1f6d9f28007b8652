//! Which deliveries an operator means, and how they are shown (QUEUE-16): what the store finds, with
//! what the scheduler knows of it. Everything goes page by page, so that a queue of a million does
//! not stand in memory.

use std::collections::BTreeSet;

use galerne_core::queue::board::{Board, Standing};
use galerne_core::queue::shown::Shown;
use galerne_core::queue::{DeliveryNo, Filter, Kept, Listed, MessageNo, StoreFault};
use serde::{Deserialize, Serialize};

use super::Queue;
use super::operate::Verb;

/// Deliveries of one page.
const PAGE: usize = 5_000;
/// Deliveries that are named one by one in a question to the store.
const NAMED: usize = 1_000;
/// Messages that `look` gives at most.
pub const MOST_MESSAGES: usize = 20;

/// What an operator means: that to which everything named applies. With nothing named, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Ids, references or Message-IDs: any of them.
    pub ids: Vec<String>,
    pub filter: Filter,
    pub state: Option<Shown>,
}

impl Selection {
    /// What the store finds of it behind `after`, oldest first and at most `most`, with where to go
    /// on. Of the state only what is stored is looked at.
    ///
    /// # Errors
    /// Those of `list`.
    pub fn find(
        &self,
        after: Option<DeliveryNo>,
        most: usize,
        list: impl Fn(&Filter, usize) -> Result<Vec<Listed>, StoreFault>,
    ) -> Result<(Vec<Listed>, Option<DeliveryNo>), StoreFault> {
        let most = most.clamp(1, PAGE);
        let mut found: Vec<Listed> = Vec::new();
        let mut is_all = true;
        for mut filter in self.filters() {
            filter.after = after;
            let some = list(&filter, most)?;
            is_all &= some.len() < most;
            found.extend(some);
            if self.ids.len() > 1 {
                // Two ids may mean the same; the pages of all end where the first `most` end.
                found.sort_by_key(|listed| listed.stored.delivery);
                found.dedup_by_key(|listed| listed.stored.delivery);
                is_all &= found.len() <= most;
                found.truncate(most);
            }
        }
        let last = found.last().map(|listed| listed.stored.delivery);
        Ok((found, last.filter(|_| !is_all)))
    }

    /// The filters for the store, one for each id.
    fn filters(&self) -> Vec<Filter> {
        let mut filter = self.filter.clone();
        filter.state = filter.state.or(self.state.and_then(Shown::stored));
        if self.state == Some(Shown::Held) {
            filter.held = Some(true);
        }
        match self.ids.is_empty() {
            true => vec![filter],
            false => {
                let of = |id: &String| Filter {
                    id: Some(id.clone()),
                    ..filter.clone()
                };
                self.ids.iter().map(of).collect()
            }
        }
    }
}

/// A delivery as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    pub listed: Listed,
    pub state: Shown,
}

/// Some deliveries, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Selected>,
    /// Where to go on; `None`: that was all.
    pub next: Option<DeliveryNo>,
}

/// What was touched, or counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    pub deliveries: u64,
    pub messages: u64,
}

impl Queue {
    /// The next deliveries that are meant, at most `most`. A page may have fewer than there are: what
    /// counts is whether it says where to go on.
    ///
    /// # Errors
    /// The store cannot be read, or is closed.
    pub async fn select(
        &self,
        selection: &Selection,
        after: Option<DeliveryNo>,
        most: usize,
    ) -> Result<Page, StoreFault> {
        let (store, mut asked) = (self.store.clone(), selection.clone());
        // What only the scheduler knows is asked of it first, not of everything that is stored.
        let known = match selection.state {
            Some(Shown::Active) => Some(Standing::Running),
            Some(Shown::Suspended) => Some(Standing::Suspended),
            _ => None,
        };
        let mut go_on = None;
        if let Some(standing) = known {
            let most = most.clamp(1, NAMED);
            let mut only = self.standing_so(standing, after, most).await?;
            if only.len() >= most {
                // Recipients of one message may be many.
                only.truncate(most);
                go_on = only.last().copied();
            }
            asked.filter.only = Some(only);
        }
        let find = move || asked.find(after, most, |filter, most| store.list(filter, most));
        let found = tokio::task::spawn_blocking(find).await;
        let found = found.unwrap_or_else(|error| Err(StoreFault::Broken(error.to_string())));
        let (found, next) = found?;
        let numbers: Vec<DeliveryNo> = found.iter().map(|l| l.stored.delivery).collect();
        let standings = self.standings(numbers).await?;
        let shown = found.into_iter().zip(standings).map(|(listed, standing)| {
            let state = Shown::of(&listed.stored.progress, standing);
            Selected { listed, state }
        });
        let is_meant = |row: &Selected| selection.state.is_none_or(|state| state == row.state);
        let rows = shown.filter(is_meant).collect();
        let next = if known.is_some() { go_on } else { next };
        Ok(Page { rows, next })
    }

    async fn standing_so(
        &self,
        standing: Standing,
        after: Option<DeliveryNo>,
        most: usize,
    ) -> Result<Vec<DeliveryNo>, StoreFault> {
        let look =
            move |_: &Queue, board: &mut Board, _: u64| board.standing_so(standing, after, most);
        self.ask(look).await.ok_or(StoreFault::Closed)
    }

    async fn standings(
        &self,
        deliveries: Vec<DeliveryNo>,
    ) -> Result<Vec<Option<Standing>>, StoreFault> {
        let look = move |_: &Queue, board: &mut Board, _: u64| {
            let of = |d: DeliveryNo| board.standing(d.message, d.recipient);
            deliveries.into_iter().map(of).collect()
        };
        self.ask(look).await.ok_or(StoreFault::Closed)
    }

    /// Free octets of the disk.
    ///
    /// # Errors
    /// Nobody knows.
    pub fn free(&self) -> std::io::Result<u64> {
        (self.free)()
    }

    /// How many deliveries are meant, and of how many messages.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn count(&self, selection: &Selection) -> Result<Touch, StoreFault> {
        let (mut counted, mut after) = (Counting::default(), None);
        loop {
            let page = self.select(selection, after, PAGE).await?;
            counted.add(page.rows.iter().map(|row| row.listed.stored.delivery));
            after = page.next;
            if after.is_none() {
                return Ok(counted.touch);
            }
        }
    }

    /// Does this to all deliveries that are meant, and gives how many were touched.
    ///
    /// # Errors
    /// The store refused; what was touched until then stays so.
    pub async fn act_on_all(&self, verb: Verb, selection: &Selection) -> Result<Touch, StoreFault> {
        let (mut counted, mut after) = (Counting::default(), None);
        loop {
            let page = self.select(selection, after, PAGE).await?;
            let found: Vec<Listed> = page.rows.into_iter().map(|row| row.listed).collect();
            counted.add(self.act_on(verb, &found).await?);
            after = page.next;
            if after.is_none() {
                return Ok(counted.touch);
            }
        }
    }

    /// The messages that an id, a reference or a Message-ID means, oldest first and whole, with how
    /// their deliveries are shown; the flag: there are more than `MOST_MESSAGES`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn look(&self, id: &str) -> Result<(Vec<Look>, bool), StoreFault> {
        let selection = Selection {
            ids: vec![id.to_owned()],
            ..Selection::default()
        };
        let page = self.select(&selection, None, PAGE).await?;
        let numbers: BTreeSet<MessageNo> = page
            .rows
            .iter()
            .map(|row| row.listed.stored.delivery.message)
            .collect();
        let is_more = numbers.len() > MOST_MESSAGES;
        let mut looks = Vec::new();
        for number in numbers.into_iter().take(MOST_MESSAGES) {
            let store = self.store.clone();
            let read = tokio::task::spawn_blocking(move || store.read(number)).await;
            let read = read.unwrap_or_else(|error| Err(StoreFault::Broken(error.to_string())))?;
            // It may have been decided meanwhile.
            let Some(kept) = read else { continue };
            let of_message = page.rows.iter().filter(|row| {
                let delivery = row.listed.stored.delivery;
                delivery.message == number
            });
            let size = of_message.clone().next().map_or(0, |row| row.listed.size);
            let states = of_message.map(|row| (row.listed.stored.delivery.recipient, row.state));
            looks.push(Look {
                states: states.collect(),
                size,
                kept,
            });
        }
        Ok((looks, is_more))
    }
}

/// A message whole, with how its deliveries are shown.
#[derive(Clone, Debug)]
pub struct Look {
    pub kept: Kept,
    pub size: u64,
    /// By recipient.
    pub states: Vec<(u32, Shown)>,
}

/// Counts deliveries that come in the order of their messages.
#[derive(Default)]
struct Counting {
    touch: Touch,
    last: Option<MessageNo>,
}

impl Counting {
    fn add(&mut self, deliveries: impl IntoIterator<Item = DeliveryNo>) {
        for delivery in deliveries {
            self.touch.deliveries += 1;
            if self.last != Some(delivery.message) {
                self.last = Some(delivery.message);
                self.touch.messages += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_16_ids_and_filters_are_both_asked_of_the_store() {
        let selection = Selection {
            ids: vec!["a".into(), "b".into()],
            filter: Filter {
                domain: Some("example.org".into()),
                ..Filter::default()
            },
            state: Some(Shown::Deferred),
        };
        let filters = selection.filters();
        let ids: Vec<_> = filters.iter().map(|f| f.id.as_deref().unwrap()).collect();
        assert_eq!(ids, ["a", "b"]);
        for filter in filters {
            assert_eq!(filter.domain.as_deref(), Some("example.org"));
            assert_eq!(filter.state, Some(galerne_core::queue::State::Deferred));
        }
        let held = Selection {
            state: Some(Shown::Held),
            ..Selection::default()
        };
        assert_eq!(held.filters()[0].held, Some(true));
        // What the scheduler alone knows, the store is not asked for.
        let active = Selection {
            state: Some(Shown::Active),
            ..Selection::default()
        };
        assert_eq!(active.filters(), [Filter::default()]);
    }

    #[test]
    fn queue_16_deliveries_and_messages_are_counted() {
        let number = |message, recipient| DeliveryNo {
            message: MessageNo(message),
            recipient,
        };
        let mut counted = Counting::default();
        counted.add([number(1, 0), number(1, 3)]);
        counted.add([number(1, 4), number(7, 0)]);
        let touch = counted.touch;
        assert_eq!((touch.deliveries, touch.messages), (4, 2));
    }
}
