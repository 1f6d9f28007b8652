//! The tables of `queue.db`, and the statements of its only writer.

use galerne_core::queue::{Change, DeliveryNo, Envelope, Progress};
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::filter::{DELAY_TOLD, DUPLICATE_POSSIBLE, HANDED, HELD, state_number};
use super::segments::Spot;
use super::{RECIPIENT_BITS, key, to_row};

/// The form of the tables; a database of a later one is not touched.
pub const VERSION: i64 = 1;

/// `message` has what lists ask for, `content` what sending asks for: a scan of the first does not
/// read the bodies. `content.crc` is that of `envelope` and `body`. A delivery has the key
/// `message << 20 | recipient`.
pub const TABLES: &str = "
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    next_no INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    deliveries INTEGER NOT NULL
);
INSERT INTO meta VALUES (1, 1, 0, 0);
CREATE TABLE message (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    reference TEXT NOT NULL,
    tags TEXT,
    header_id TEXT,
    user TEXT,
    sender TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    size INTEGER NOT NULL
);
CREATE TABLE content (
    no INTEGER PRIMARY KEY,
    crc INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    body BLOB
);
CREATE TABLE large (
    no INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    place INTEGER NOT NULL,
    length INTEGER NOT NULL,
    head INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
CREATE INDEX large_segment ON large (segment, length);
CREATE TABLE delivery (
    key INTEGER PRIMARY KEY,
    address TEXT NOT NULL,
    state INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    greys INTEGER NOT NULL,
    next INTEGER NOT NULL,
    grp TEXT NOT NULL,
    route TEXT NOT NULL,
    outbound TEXT NOT NULL,
    last_reply TEXT NOT NULL
);
CREATE INDEX delivery_next ON delivery (next);
PRAGMA user_version = 1;
";

/// How many rows there are more, or fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub messages: i64,
    pub deliveries: i64,
}

/// Where a body was put.
#[derive(Debug)]
pub enum Stored {
    /// It stands in the row.
    Row(Vec<u8>),
    Segment(Spot),
}

/// A message ready to be written: everything that can be made before is made.
#[derive(Debug)]
pub struct Rows {
    pub envelope: std::sync::Arc<Envelope>,
    pub json: Vec<u8>,
    pub body: Stored,
    /// Of the two above; of the first alone, if the body is in a segment.
    pub crc: u32,
    pub size: u64,
    pub deliveries: Vec<(u32, Progress)>,
}

/// The statements of the writer.
pub struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    message: Statement<'c>,
    content: Statement<'c>,
    large: Statement<'c>,
    delivery: Statement<'c>,
    put: Statement<'c>,
    flag: Statement<'c>,
    held: Statement<'c>,
    done: Statement<'c>,
    any_left: Statement<'c>,
    drop_message: Statement<'c>,
    drop_content: Statement<'c>,
    drop_large: Statement<'c>,
    drop_deliveries: Statement<'c>,
    relocate: Statement<'c>,
    meta: Statement<'c>,
    count: Statement<'c>,
    counters: Statement<'c>,
}

impl<'c> Statements<'c> {
    pub fn prepare(connection: &'c Connection) -> rusqlite::Result<Statements<'c>> {
        let p = |sql| connection.prepare(sql);
        Ok(Statements {
            begin: p("BEGIN IMMEDIATE")?,
            commit: p("COMMIT")?,
            rollback: p("ROLLBACK")?,
            message: p("INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?,
            content: p("INSERT INTO content VALUES (?1, ?2, ?3, ?4)")?,
            large: p("INSERT INTO large VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            delivery: p(
                "INSERT INTO delivery VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
            put: p(
                "UPDATE delivery SET state = ?2, flags = ?3, attempts = ?4, greys = ?5, \
                 next = ?6, grp = ?7, route = ?8, outbound = ?9, last_reply = ?10 WHERE key = ?1",
            )?,
            flag: p("UPDATE delivery SET flags = flags | ?2 WHERE key = ?1")?,
            held: p("UPDATE delivery SET flags = (flags & ~?3) | ?2 WHERE key = ?1")?,
            done: p("DELETE FROM delivery WHERE key = ?1")?,
            any_left: p("SELECT 1 FROM delivery WHERE key >= ?1 AND key < ?2 LIMIT 1")?,
            drop_message: p("DELETE FROM message WHERE no = ?1")?,
            drop_content: p("DELETE FROM content WHERE no = ?1")?,
            drop_large: p(
                "DELETE FROM large WHERE no = ?1 RETURNING segment, place, length, head, crc",
            )?,
            drop_deliveries: p("DELETE FROM delivery WHERE key >= ?1 AND key < ?2")?,
            relocate: p("UPDATE large SET segment = ?4, place = ?5 \
                 WHERE no = ?1 AND segment = ?2 AND place = ?3")?,
            meta: p("UPDATE meta SET next_no = ?1, messages = ?2, deliveries = ?3")?,
            counters: p("SELECT messages, deliveries FROM meta")?,
            count: p("SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM delivery)")?,
        })
    }

    pub fn begin(&mut self) -> rusqlite::Result<()> {
        self.begin.execute([]).map(drop)
    }

    pub fn commit(&mut self) -> rusqlite::Result<()> {
        self.commit.execute([]).map(drop)
    }

    pub fn rollback(&mut self) -> rusqlite::Result<()> {
        self.rollback.execute([]).map(drop)
    }

    /// Writes a new message.
    pub fn insert(&mut self, no: u64, rows: &Rows) -> rusqlite::Result<Delta> {
        let e = &*rows.envelope;
        let number = no.cast_signed();
        let tags = (!e.tags.is_empty()).then(|| serde_json::Value::from(e.tags.clone()));
        self.message.execute(params![
            number,
            e.id,
            e.reference,
            tags.map(|tags| tags.to_string()),
            e.header_id,
            e.user,
            e.sender,
            to_row(e.received_at),
            rows.size.cast_signed(),
        ])?;
        let body = match &rows.body {
            Stored::Row(body) => Some(body),
            Stored::Segment(spot) => {
                self.large.execute(params![
                    number,
                    spot.segment.cast_signed(),
                    spot.offset.cast_signed(),
                    spot.length.cast_signed(),
                    spot.head.cast_signed(),
                    spot.crc
                ])?;
                None
            }
        };
        self.content
            .execute(params![number, rows.crc, rows.json, body])?;
        for (recipient, progress) in &rows.deliveries {
            let address = e.recipients.get(*recipient as usize);
            let p = progress;
            self.delivery.execute(params![
                key(DeliveryNo {
                    message: galerne_core::queue::MessageNo(no),
                    recipient: *recipient,
                }),
                address.map_or("", |r| &r.address),
                state_number(p.state),
                flags(p),
                p.attempts,
                p.greys,
                to_row(p.next),
                p.group,
                p.route,
                p.outbound,
                p.last_reply,
            ])?;
        }
        Ok(Delta {
            messages: 1,
            deliveries: rows.deliveries.len() as i64,
        })
    }

    /// Makes a change. Bodies of messages that go with it are added to `freed`.
    pub fn change(
        &mut self,
        change: &Change,
        has_large: bool,
        freed: &mut Vec<Spot>,
    ) -> rusqlite::Result<Delta> {
        let mut delta = Delta::default();
        match change {
            Change::Put(delivery, p) => {
                self.put.execute(params![
                    key(*delivery),
                    state_number(p.state),
                    flags(p),
                    p.attempts,
                    p.greys,
                    to_row(p.next),
                    p.group,
                    p.route,
                    p.outbound,
                    p.last_reply,
                ])?;
            }
            Change::Handed(deliveries) => {
                for delivery in deliveries {
                    self.flag.execute([key(*delivery), HANDED])?;
                }
            }
            Change::DelayTold(deliveries) => {
                for delivery in deliveries {
                    self.flag.execute([key(*delivery), DELAY_TOLD])?;
                }
            }
            Change::Held(deliveries, held) => {
                let flag = if *held { HELD } else { 0 };
                for delivery in deliveries {
                    self.held.execute([key(*delivery), flag, HELD])?;
                }
            }
            Change::Done(deliveries) => {
                let mut left = deliveries.iter().peekable();
                while let Some(delivery) = left.next() {
                    delta.deliveries -= self.done.execute([key(*delivery)])? as i64;
                    let message = delivery.message.0;
                    let same = left.peek().is_some_and(|next| next.message.0 == message);
                    if !same && !self.any_left.exists(keys(message))? {
                        delta.messages -= self.drop_rows(message, has_large, freed)?;
                    }
                }
            }
        }
        Ok(delta)
    }

    /// Removes a message whatever its deliveries are.
    pub fn remove(&mut self, no: u64, freed: &mut Vec<Spot>) -> rusqlite::Result<Delta> {
        let deliveries = self.drop_deliveries.execute(keys(no))? as i64;
        Ok(Delta {
            messages: -self.drop_rows(no, true, freed)?,
            deliveries: -deliveries,
        })
    }

    fn drop_rows(
        &mut self,
        no: u64,
        has_large: bool,
        freed: &mut Vec<Spot>,
    ) -> rusqlite::Result<i64> {
        let number = no.cast_signed();
        let gone = self.drop_message.execute([number])? as i64;
        self.drop_content.execute([number])?;
        if has_large {
            let spot = self.drop_large.query_row([number], |row| spot(row, 0));
            freed.extend(spot.optional()?);
        }
        Ok(gone)
    }

    /// A body was copied; false: the message is gone, or the body stands elsewhere by now.
    pub fn relocate(&mut self, no: u64, from: &Spot, to: &Spot) -> rusqlite::Result<bool> {
        let changed = self.relocate.execute(params![
            no.cast_signed(),
            from.segment.cast_signed(),
            from.offset.cast_signed(),
            to.segment.cast_signed(),
            to.offset.cast_signed(),
        ])?;
        Ok(changed > 0)
    }

    pub fn meta(&mut self, next_no: u64, messages: u64, deliveries: u64) -> rusqlite::Result<()> {
        let row = [next_no, messages, deliveries].map(u64::cast_signed);
        self.meta.execute(row).map(drop)
    }

    /// Messages and deliveries, as they are counted in the last transaction.
    pub fn counters(&mut self) -> rusqlite::Result<(u64, u64)> {
        let number = |row: &Row<'_>, n| row.get::<_, i64>(n).map(i64::cast_unsigned);
        self.counters
            .query_row([], |row| Ok((number(row, 0)?, number(row, 1)?)))
    }

    /// Messages and deliveries, counted.
    pub fn count(&mut self) -> rusqlite::Result<(i64, i64)> {
        self.count
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
    }
}

/// The checksum of what stands in a row of `content`.
pub fn content_crc(envelope: &[u8], body: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(envelope);
    hash.update(body);
    hash.finalize()
}

/// Five columns from `first`: segment, place, length, head, crc.
pub fn spot(row: &Row<'_>, first: usize) -> rusqlite::Result<Spot> {
    let number = |n| row.get::<_, i64>(first + n).map(i64::cast_unsigned);
    Ok(Spot {
        segment: number(0)?,
        offset: number(1)?,
        length: number(2)?,
        head: number(3)?,
        crc: row.get(first + 4)?,
    })
}

/// The keys of a message's deliveries: from, and up to but not with.
fn keys(no: u64) -> [i64; 2] {
    [no, no + 1].map(|no| (no << RECIPIENT_BITS).cast_signed())
}

fn flags(progress: &Progress) -> i64 {
    let flag = |set: bool, flag: i64| if set { flag } else { 0 };
    flag(progress.held, HELD)
        | flag(progress.handed, HANDED)
        | flag(progress.duplicate_possible, DUPLICATE_POSSIBLE)
        | flag(progress.delay_told, DELAY_TOLD)
}
