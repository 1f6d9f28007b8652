//! Reading: a few connections that never write and keep no transaction open, so that the writer
//! is not held up.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use galerne_core::content::Content;
use galerne_core::queue::{
    Filter, Kept, Listed, MessageNo, Place, Progress, State, StoreFault, Stored,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::filter::{Condition, DELAY_TOLD, DUPLICATE_POSSIBLE, HANDED, HELD, condition, parts};
use super::segments::{Body, Spot};
use super::tables::{content_crc, spot};
use super::{RECIPIENT_BITS, delivery, io_fault, key, sql_fault, to_row};

/// Connections kept for later.
const KEPT: usize = 4;
/// A body may be moved while it is being opened; so often it is looked up again.
const TRIES: usize = 5;

/// The connections.
pub struct Readers {
    folder: PathBuf,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Counts how often all were closed: what is older is not kept.
    generation: u64,
}

/// What a row of `content` says, with the place of a large body.
struct Found {
    crc: u32,
    envelope: Vec<u8>,
    body: Option<Vec<u8>>,
    spot: Option<Spot>,
    deliveries: Vec<(u32, Progress)>,
}

impl Readers {
    pub fn new(folder: &Path) -> Readers {
        Readers {
            folder: folder.to_owned(),
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what is not in use, and keeps nothing of what is.
    pub fn close(&self) {
        let mut idle = self.idle();
        idle.generation += 1;
        let closed = std::mem::take(&mut idle.connections);
        drop(idle);
        drop(closed);
    }

    /// Reads with a connection of its own.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreFault> {
        let (connection, generation) = {
            let mut idle = self.idle();
            (idle.connections.pop(), idle.generation)
        };
        let connection = match connection {
            Some(connection) => connection,
            None => super::sqlite::open_reader(&self.folder).map_err(|e| sql_fault(&e))?,
        };
        let value = work(&connection).map_err(|error| sql_fault(&error))?;
        let mut idle = self.idle();
        if idle.generation == generation && idle.connections.len() < KEPT {
            idle.connections.push(connection);
        }
        Ok(value)
    }

    /// The next deliveries.
    pub fn page(&self, after: Option<Place>, most: usize) -> Result<Vec<Stored>, StoreFault> {
        self.with(|connection| {
            let mut found = Vec::new();
            // Those of the same moment first: both questions are a range of the index.
            if let Some(after) = after {
                let same = format!("{PAGE} d.next = ?1 AND d.key > ?2 ORDER BY d.key LIMIT ?3");
                let mut same = connection.prepare_cached(&same)?;
                let of = params![to_row(after.next), key(after.delivery), limit(most)];
                for row in same.query_map(of, stored)? {
                    found.push(row?);
                }
            }
            let later = format!("{PAGE} d.next > ?1 ORDER BY d.next, d.key LIMIT ?2");
            let mut later = connection.prepare_cached(&later)?;
            let from = after.map_or(-1, |after| to_row(after.next));
            let left = most.saturating_sub(found.len());
            for row in later.query_map(params![from, limit(left)], stored)? {
                found.push(row?);
            }
            Ok(found)
        })
    }

    /// What an operator asks for.
    pub fn list(&self, filter: &Filter, most: usize) -> Result<Vec<Listed>, StoreFault> {
        if let Some(parts) = parts(filter) {
            return self.with(|connection| merged(connection, &parts, most));
        }
        let (sql, values) = question(filter, most);
        self.with(|connection| {
            let mut statement = connection.prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(&values), listed)?;
            rows.collect()
        })
    }

    /// A message whole.
    pub fn read(&self, message: MessageNo) -> Result<Option<Kept>, StoreFault> {
        let damaged = |why: &str| StoreFault::Damaged(why.to_owned());
        for _ in 0..TRIES {
            let Some(found) = self.find(message.0)? else {
                return Ok(None);
            };
            if found.crc != content_crc(&found.envelope, found.body.as_deref().unwrap_or(&[])) {
                return Err(damaged("its row has a wrong checksum"));
            }
            let envelope = serde_json::from_slice(&found.envelope)
                .map_err(|error| StoreFault::Damaged(format!("its envelope: {error}")))?;
            let content = match (found.body, found.spot) {
                (Some(body), _) => Content::in_memory(body),
                (None, Some(spot)) => match self.body(message.0, &spot) {
                    Err(Moved) => continue,
                    Ok(content) => content?,
                },
                (None, None) => return Err(damaged("it has no body")),
            };
            return Ok(Some(Kept {
                envelope,
                content,
                deliveries: found.deliveries,
            }));
        }
        Err(damaged("its body is in no segment"))
    }

    fn find(&self, no: u64) -> Result<Option<Found>, StoreFault> {
        self.with(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let deliveries = format!("{COLUMNS_OF_DELIVERY} WHERE d.key >= ?1 AND d.key < ?2");
            let mut deliveries = snapshot.prepare_cached(&deliveries)?;
            let keys = [no, no + 1].map(|no| (no << RECIPIENT_BITS).cast_signed());
            let deliveries = deliveries.query_map(keys, |row| {
                let recipient = delivery(row.get(0)?).recipient;
                Ok((recipient, progress(row, 1)?))
            })?;
            let deliveries = deliveries.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut statement = snapshot.prepare_cached(
                "SELECT c.crc, c.envelope, c.body, l.segment, l.place, l.length, l.head, l.crc \
                 FROM content c LEFT JOIN large l ON l.no = c.no WHERE c.no = ?1",
            )?;
            let found = move |row: &Row<'_>| {
                let is_large = row.get::<_, Option<i64>>(3)?.is_some();
                Ok(Found {
                    crc: row.get(0)?,
                    envelope: row.get(1)?,
                    body: row.get(2)?,
                    spot: is_large.then(|| spot(row, 3)).transpose()?,
                    deliveries,
                })
            };
            statement.query_row([no.cast_signed()], found).optional()
        })
    }

    /// The inner result: it is there, sound or not.
    fn body(&self, no: u64, spot: &Spot) -> Result<Result<Content, StoreFault>, Moved> {
        let what = "a segment";
        let body = match Body::open(&self.folder, no, spot) {
            Ok(body) => body,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Moved),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Ok(Err(StoreFault::Damaged(format!("its body: {error}"))));
            }
            Err(error) => return Ok(Err(io_fault(what, &error))),
        };
        Ok(match body.is_sound(spot.crc) {
            Ok(true) => body
                .into_content(spot.head)
                .map_err(|error| io_fault(what, &error)),
            Ok(false) => Err(StoreFault::Damaged(
                "its body has a wrong checksum".to_owned(),
            )),
            Err(error) => Err(io_fault(what, &error)),
        })
    }

    /// Bodies in a segment behind a message: at least one, then until they have `most` octets.
    pub fn records(
        &self,
        segment: u64,
        after: Option<u64>,
        most: u64,
    ) -> Result<Vec<(u64, Spot)>, StoreFault> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT no, segment, place, length, head, crc FROM large \
                 WHERE segment = ?1 AND no > ?2 ORDER BY no",
            )?;
            let after = after.map_or(-1, u64::cast_signed);
            let mut rows = statement.query(params![segment.cast_signed(), after])?;
            let (mut found, mut octets) = (Vec::new(), 0);
            while octets < most
                && let Some(row) = rows.next()?
            {
                let spot = spot(row, 1)?;
                octets += spot.room();
                found.push((row.get::<_, i64>(0)?.cast_unsigned(), spot));
            }
            Ok(found)
        })
    }
}

/// The segment is not there: the body was copied meanwhile, or the message is gone.
struct Moved;

/// The columns of a listed delivery; those of its progress come last.
macro_rules! columns {
    () => {
        "d.key, d.address, m.user, m.sender, m.received_at, d.state, d.flags, d.attempts, \
         d.greys, d.next, d.grp, d.route, d.outbound, d.last_reply"
    };
}

const COLUMNS: &str = columns!();

const PAGE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM delivery d INDEXED BY delivery_next CROSS JOIN message m ON m.no = d.key >> 20 WHERE"
);

const COLUMNS_OF_DELIVERY: &str = "SELECT d.key, d.state, d.flags, d.attempts, d.greys, d.next, \
    d.grp, d.route, d.outbound, d.last_reply FROM delivery d";

/// The statement of a list, and its values.
fn question(filter: &Filter, most: usize) -> (String, Vec<Value>) {
    let mut wanted = condition(filter);
    // Whatever is gone through comes by the number of the message: oldest first.
    let from = match wanted.of_message {
        true => {
            "message m CROSS JOIN delivery d \
             ON d.key >= m.no << 20 AND d.key < (m.no + 1) << 20"
        }
        false => "delivery d CROSS JOIN message m ON m.no = d.key >> 20",
    };
    let order = if wanted.of_message {
        "m.no, d.key"
    } else {
        "d.key"
    };
    let sql = format!(
        "SELECT {COLUMNS}, m.id, m.reference, m.tags, m.header_id, m.size FROM {from} \
         WHERE {} ORDER BY {order} LIMIT ?",
        wanted.sql
    );
    wanted.values.push(limit(most).into());
    (sql, wanted.values)
}

/// Where something is asked of the message and something of the delivery: both tables are gone
/// through once, side by side. To look up one for each of the other would cost a million look-ups
/// where only the second of them says no.
fn merged(
    connection: &Connection,
    (of_message, of_delivery): &(Condition, Condition),
    most: usize,
) -> rusqlite::Result<Vec<Listed>> {
    let snapshot = connection.unchecked_transaction()?;
    let messages = format!(
        "SELECT m.no FROM message m WHERE {} ORDER BY m.no",
        of_message.sql
    );
    let deliveries = format!(
        "SELECT d.key FROM delivery d WHERE {} ORDER BY d.key",
        of_delivery.sql
    );
    let mut keys: Vec<i64> = Vec::new();
    {
        let mut messages = snapshot.prepare(&messages)?;
        let mut messages = messages.query(params_from_iter(&of_message.values))?;
        let mut deliveries = snapshot.prepare(&deliveries)?;
        let mut deliveries = deliveries.query(params_from_iter(&of_delivery.values))?;
        let mut message = first(messages.next()?)?;
        let mut delivery = first(deliveries.next()?)?;
        while let (Some(no), Some(key)) = (message, delivery)
            && keys.len() < most
        {
            if key >> RECIPIENT_BITS > no {
                message = first(messages.next()?)?;
                continue;
            }
            if key >> RECIPIENT_BITS == no {
                keys.push(key);
            }
            delivery = first(deliveries.next()?)?;
        }
    }
    let sql = format!(
        "SELECT {COLUMNS}, m.id, m.reference, m.tags, m.header_id, m.size \
         FROM delivery d CROSS JOIN message m ON m.no = d.key >> 20 \
         WHERE d.key IN (SELECT value FROM json_each(?)) ORDER BY d.key"
    );
    let mut statement = snapshot.prepare(&sql)?;
    let rows = statement.query_map([serde_json::Value::from(keys).to_string()], listed)?;
    rows.collect()
}

fn first(row: Option<&Row<'_>>) -> rusqlite::Result<Option<i64>> {
    row.map(|row| row.get(0)).transpose()
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        delivery: delivery(row.get(0)?),
        recipient: row.get(1)?,
        user: row.get(2)?,
        sender: row.get(3)?,
        received_at: row.get::<_, i64>(4)?.cast_unsigned(),
        progress: progress(row, 5)?,
    })
}

/// Nine columns from `first`.
fn progress(row: &Row<'_>, first: usize) -> rusqlite::Result<Progress> {
    let at = |n| first + n;
    let flags: i64 = row.get(at(1))?;
    let has = |flag: i64| flags & flag != 0;
    let state = match row.get::<_, i64>(at(0))? {
        1 => State::Deferred,
        2 => State::Unknown,
        _ => State::Waiting,
    };
    Ok(Progress {
        state,
        held: has(HELD),
        handed: has(HANDED),
        duplicate_possible: has(DUPLICATE_POSSIBLE),
        attempts: row.get(at(2))?,
        greys: row.get(at(3))?,
        next: row.get::<_, i64>(at(4))?.cast_unsigned(),
        delay_told: has(DELAY_TOLD),
        group: row.get(at(5))?,
        route: row.get(at(6))?,
        outbound: row.get(at(7))?,
        last_reply: row.get(at(8))?,
    })
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let tags: Option<String> = row.get(16)?;
    let tags = tags.and_then(|tags| serde_json::from_str(&tags).ok());
    Ok(Listed {
        stored: stored(row)?,
        id: row.get(14)?,
        reference: row.get(15)?,
        tags: tags.unwrap_or_default(),
        header_id: row.get(17)?,
        size: row.get::<_, i64>(18)?.cast_unsigned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::testing::{message, wait};
    use crate::queue::{Options, SqliteQueue};
    use galerne_core::queue::{DeliveryNo, QueueStore as _};

    /// Each question about messages with each about deliveries.
    fn filters() -> Vec<Filter> {
        let some = || Some("x".to_owned());
        let of_messages: [fn(&mut Filter, Option<String>); 6] = [
            |f, x| f.id = x,
            |f, x| f.user = x,
            |f, x| f.sender = x,
            |f, x| f.reference = x,
            |f, x| f.tag = x,
            |f, _| f.received_before = Some(1),
        ];
        let of_deliveries: [fn(&mut Filter, Option<String>); 8] = [
            |f, x| f.recipient = x,
            |f, x| f.domain = x,
            |f, x| f.group = x,
            |f, x| f.route = x,
            |f, _| f.state = Some(State::Waiting),
            |f, _| f.held = Some(true),
            |f, _| {
                f.only = Some(vec![DeliveryNo {
                    message: MessageNo(1),
                    recipient: 0,
                }])
            },
            |_, _| (),
        ];
        let mut filters = Vec::new();
        for of_message in of_messages {
            for of_delivery in of_deliveries {
                let mut filter = Filter::default();
                of_message(&mut filter, some());
                of_delivery(&mut filter, some());
                filters.push(filter);
            }
        }
        filters
    }

    #[test]
    fn queue_16_every_list_goes_by_the_keys_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            warm: 0,
            ..Options::default()
        };
        let queue = SqliteQueue::open(folder.path(), options).unwrap();
        let connection = super::super::sqlite::open_reader(folder.path()).unwrap();
        for filter in filters() {
            if parts(&filter).is_some() {
                continue;
            }
            let (sql, values) = question(&filter, 10);
            let mut plan = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            let lines = plan.query_map(params_from_iter(values), |row| row.get::<_, String>(3));
            let lines: Vec<String> = lines.unwrap().map(Result::unwrap).collect();
            let text = lines.join("; ");
            assert!(!text.contains("AUTOMATIC"), "{filter:?}: {text}");
            let inner = lines.iter().skip(1).any(|line| line.contains("SEARCH"));
            assert!(inner, "{filter:?}: {text}");
        }
        queue.close();
    }

    #[test]
    fn queue_16_what_is_asked_of_message_and_delivery_is_found_page_by_page() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            warm: 0,
            ..Options::default()
        };
        let queue = SqliteQueue::open(folder.path(), options).unwrap();
        let (a, b) = ("a@example.org", "b@example.net");
        for number in 0..40 {
            // Every third is of another user; every second has two recipients.
            let to: &[&str] = if number % 2 == 0 { &[a, b] } else { &[b] };
            let mut made = message(&format!("m{number}"), to, 100);
            std::sync::Arc::make_mut(&mut made.envelope).user =
                (number % 3 == 0).then(|| "shop".to_owned());
            wait(queue.accept(made)).unwrap();
        }
        let mut filter = Filter {
            user: Some("shop".to_owned()),
            domain: Some("example.org".to_owned()),
            ..Filter::default()
        };
        assert!(parts(&filter).is_some());
        let mut found = Vec::new();
        loop {
            let page = queue.list(&filter, 3).unwrap();
            assert!(page.len() <= 3);
            let Some(last) = page.last() else { break };
            filter.after = Some(last.stored.delivery);
            found.extend(page);
        }
        // Those with a number that six divides.
        assert_eq!(found.len(), 7);
        let all = queue.list(&Filter::default(), 1000).unwrap();
        let fits = |l: &&Listed| l.stored.user.is_some() && l.stored.recipient == a;
        assert!(all.iter().filter(fits).eq(&found));
        queue.close();
    }
}
