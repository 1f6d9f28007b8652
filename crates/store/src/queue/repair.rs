//! Looking whether everything is as it was written, and setting aside what is not (QUEUE-26).
//!
//! A damaged message goes to `quarantine/`: what can be read of its body as `.eml`, of its envelope
//! and deliveries as `.json`. Nothing else is touched, and nothing is thrown away.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use galerne_core::content::Spill;
use galerne_core::queue::{Damage, Envelope, StoreFault};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::{Value, json};

use super::reading::Readers;
use super::segments::{Body, Spot};
use super::sqlite::SqliteQueue;
use super::tables::{content_crc, spot};
use super::waiting::Job;
use super::{RECIPIENT_BITS, io_fault, segments};

/// Messages looked at under one snapshot.
const STEP: i64 = 200;
/// What the check of the database itself tells at most.
const MOST_LINES: usize = 100;
/// So begins what is said of the database as a file.
pub const OF_FILE: &str = "the file queue.db: ";

/// id, sender, user, header_id, reference, received_at.
type MessageRow = (String, String, Option<String>, Option<String>, String, i64);

/// Everything there is of a message, sound or not.
#[derive(Clone, Debug, Default, PartialEq)]
struct Remains {
    message: Option<MessageRow>,
    /// crc, envelope, body.
    content: Option<(u32, Vec<u8>, Option<Vec<u8>>)>,
    spot: Option<Spot>,
    /// Recipient, address, and the rest as JSON.
    deliveries: Vec<(u32, String, Value)>,
}

impl SqliteQueue {
    /// Moves a message to the quarantine.
    pub(super) fn set_aside(&self, no: u64, why: &str) -> Result<(), StoreFault> {
        let remains = self.shared.readers.with(|c| remains(c, no))?;
        if remains == Remains::default() {
            return Ok(());
        }
        let folder = &self.shared.folder;
        let id = remains.id().unwrap_or_else(|| format!("message-{no}"));
        remains
            .write(folder, no, &id, why)
            .map_err(|error| io_fault("the quarantine", &error))?;
        tracing::error!(
            id,
            why,
            "a message was set aside in system/queue/quarantine"
        );
        let messages = vec![no];
        self.wait_for(|answer| Job::Remove { messages, answer })
    }

    /// Looks through everything.
    pub(super) fn look_through(&self, repair: bool) -> Result<Vec<Damage>, StoreFault> {
        let mut found = check_file(&self.shared.readers)?;
        let mut after = -1;
        loop {
            let numbers = self.shared.readers.with(|c| numbers(c, after))?;
            let Some(&last) = numbers.last() else {
                break;
            };
            after = last;
            for no in numbers {
                self.look_at(no.cast_unsigned(), repair, &mut found)?;
            }
        }
        self.look_at_counters(repair, &mut found)?;
        Ok(found)
    }

    fn look_at(&self, no: u64, repair: bool, found: &mut Vec<Damage>) -> Result<(), StoreFault> {
        let folder = &self.shared.folder;
        let remains_now = || self.shared.readers.with(|c| remains(c, no));
        let first = remains_now()?;
        let Some(_) = first.damage(folder, no) else {
            return Ok(());
        };
        // It may have gone, or its body may have moved, while it was looked at.
        let remains = remains_now()?;
        let Some(what) = remains.damage(folder, no) else {
            return Ok(());
        };
        if repair {
            self.set_aside(no, &what)?;
        }
        found.push(Damage {
            id: remains.id(),
            what: format!("message {no}: {what}"),
            quarantined: repair,
        });
        Ok(())
    }

    fn look_at_counters(&self, repair: bool, found: &mut Vec<Damage>) -> Result<(), StoreFault> {
        let wrong = match counters_are_wrong(&self.shared.readers) {
            Ok(wrong) => wrong,
            // The file itself is damaged, and that was said above.
            Err(_) if !found.is_empty() => return Ok(()),
            Err(fault) => return Err(fault),
        };
        if wrong {
            if repair {
                self.wait_for(|answer| Job::Recount { answer })?;
            }
            let end = if repair { "; counted anew" } else { "" };
            found.push(of_database(format!(
                "queue.db: the counters are wrong{end}"
            )));
        }
        Ok(())
    }
}

/// What is wrong with the database as a file.
pub(super) fn check_file(readers: &Readers) -> Result<Vec<Damage>, StoreFault> {
    let lines = readers.with(quick_check)?.into_iter();
    let each = lines.map(|line| of_database(format!("{OF_FILE}{line}")));
    Ok(each.collect())
}

/// One snapshot: the counters are written with what they count.
pub(super) fn counters_are_wrong(readers: &Readers) -> Result<bool, StoreFault> {
    readers.with(|connection| {
        connection.query_row(
            "SELECT messages <> (SELECT count(*) FROM message) \
             OR deliveries <> (SELECT count(*) FROM delivery) FROM meta",
            [],
            |row| row.get::<_, bool>(0),
        )
    })
}

pub(super) fn of_database(what: String) -> Damage {
    Damage {
        id: None,
        what,
        quarantined: false,
    }
}

/// What SQLite says of its file; empty: all is well.
fn quick_check(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({MOST_LINES})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines: rusqlite::Result<Vec<_>> = rows.collect();
    Ok(lines?.into_iter().filter(|line| line != "ok").collect())
}

/// The next messages of which anything is there.
fn numbers(connection: &Connection, after: i64) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT no FROM (SELECT no FROM message WHERE no > ?1 ORDER BY no LIMIT ?2) \
         UNION SELECT no FROM (SELECT no FROM content WHERE no > ?1 ORDER BY no LIMIT ?2) \
         UNION SELECT no FROM (SELECT no FROM large WHERE no > ?1 ORDER BY no LIMIT ?2) \
         UNION SELECT key >> 20 FROM (SELECT key FROM delivery WHERE key >= (?1 + 1) << 20 \
         ORDER BY key LIMIT ?2) ORDER BY 1 LIMIT ?2",
    )?;
    let rows = statement.query_map([after, STEP], |row| row.get(0))?;
    rows.collect()
}

fn remains(connection: &Connection, no: u64) -> rusqlite::Result<Remains> {
    let number = no.cast_signed();
    let snapshot = connection.unchecked_transaction()?;
    let message = snapshot
        .prepare_cached(
            "SELECT id, sender, user, header_id, reference, received_at \
             FROM message WHERE no = ?1",
        )?
        .query_row([number], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
            ))
        })
        .optional()?;
    let content = snapshot
        .prepare_cached("SELECT crc, envelope, body FROM content WHERE no = ?1")?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let spot = snapshot
        .prepare_cached("SELECT segment, place, length, head, crc FROM large WHERE no = ?1")?
        .query_row([number], |row| spot(row, 0))
        .optional()?;
    let mut deliveries = snapshot.prepare_cached(
        "SELECT key & 1048575, address, state, flags, attempts, greys, next, grp, route, \
         outbound, last_reply FROM delivery WHERE key >= ?1 AND key < ?2 ORDER BY key",
    )?;
    let keys = [no, no + 1].map(|no| (no << RECIPIENT_BITS).cast_signed());
    let deliveries = deliveries
        .query_map(keys, delivery)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Remains {
        message,
        content,
        spot,
        deliveries,
    })
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<(u32, String, Value)> {
    let text = |n| row.get::<_, String>(n);
    let number = |n| row.get::<_, i64>(n);
    let address = text(1)?;
    let rest = json!({
        "recipient": address,
        "state": number(2)?,
        "flags": number(3)?,
        "attempts": number(4)?,
        "greys": number(5)?,
        "next": number(6)?,
        "group": text(7)?,
        "route": text(8)?,
        "outbound": text(9)?,
        "lastreply": text(10)?,
    });
    Ok((row.get(0)?, address, rest))
}

impl Remains {
    fn id(&self) -> Option<String> {
        let of_row = self.message.as_ref().map(|message| message.0.clone());
        of_row.or_else(|| self.envelope().ok().map(|envelope| envelope.id))
    }

    fn envelope(&self) -> Result<Envelope, String> {
        let (_, json, _) = self.content.as_ref().ok_or("it has no envelope")?;
        serde_json::from_slice(json).map_err(|error| format!("its envelope: {error}"))
    }

    /// What is wrong with it.
    fn damage(&self, folder: &Path, no: u64) -> Option<String> {
        self.sound(folder, no).err()
    }

    fn sound(&self, folder: &Path, no: u64) -> Result<(), String> {
        if *self == Remains::default() {
            return Ok(());
        }
        let message = self.message.as_ref().ok_or("its row is missing")?;
        let (crc, json, body) = self.content.as_ref().ok_or("its content is missing")?;
        if *crc != content_crc(json, body.as_deref().unwrap_or(&[])) {
            return Err("its row has a wrong checksum".to_owned());
        }
        let e = self.envelope()?;
        let of_envelope = (
            e.id,
            e.sender,
            e.user,
            e.header_id,
            e.reference,
            super::to_row(e.received_at),
        );
        if *message != of_envelope {
            return Err("its row and its envelope are not of one message".to_owned());
        }
        if self.deliveries.is_empty() {
            return Err("it has no delivery".to_owned());
        }
        for (recipient, address, _) in &self.deliveries {
            let named = e.recipients.get(*recipient as usize);
            if named.is_none_or(|named| named.address != *address) {
                return Err(format!("its delivery {recipient} is not to its recipient"));
            }
        }
        match (body, &self.spot) {
            (Some(_), None) => Ok(()),
            (Some(_), Some(_)) => Err("it has two bodies".to_owned()),
            (None, None) => Err("it has no body".to_owned()),
            (None, Some(spot)) => {
                let body = Body::open(folder, no, spot);
                let sound = body.and_then(|body| body.is_sound(spot.crc));
                match sound {
                    Ok(true) => Ok(()),
                    Ok(false) => Err("its body has a wrong checksum".to_owned()),
                    Err(error) => Err(format!("its body: {error}")),
                }
            }
        }
    }

    /// Writes what there is, durably.
    fn write(&self, folder: &Path, no: u64, id: &str, why: &str) -> io::Result<()> {
        let place = folder.join("quarantine");
        if !place.is_dir() {
            DirBuilder::new().mode(0o700).create(&place)?;
            segments::sync_folder(folder)?;
        }
        let name = file_name(id, no);
        let mut eml = create(&place.join(format!("{name}.eml")))?;
        match (&self.content, &self.spot) {
            (Some((_, _, Some(body))), _) => eml.write_all(body)?,
            (_, Some(spot)) => salvage(folder, spot, &mut eml)?,
            _ => {}
        }
        eml.sync_all()?;
        let envelope = self.content.as_ref().map(|(_, json, _)| {
            serde_json::from_slice(json)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(json)))
        });
        let deliveries: Vec<_> = self.deliveries.iter().map(|(_, _, rest)| rest).collect();
        let told = json!({
            "id": id,
            "number": no,
            "why": why,
            "envelope": envelope,
            "deliveries": deliveries,
        });
        let mut json = create(&place.join(format!("{name}.json")))?;
        json.write_all(format!("{told:#}\n").as_bytes())?;
        json.sync_all()?;
        segments::sync_folder(&place)
    }
}

/// What can be read where the body should be, whatever its header says.
fn salvage(folder: &Path, spot: &Spot, to: &mut File) -> io::Result<()> {
    let Ok(body) = Body::unchecked(folder, spot) else {
        return Ok(());
    };
    let mut piece = vec![0; 64 * 1024];
    let mut at = 0;
    // The disk may refuse a part: what comes before it is kept.
    while let Ok(read @ 1..) = body.read_at(at, &mut piece) {
        to.write_all(piece.get(..read).unwrap_or_default())?;
        at += read as u64;
    }
    Ok(())
}

/// An id as a name: it comes from the disk and may be anything.
fn file_name(id: &str, no: u64) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match id.len() <= 100 && !id.is_empty() && id.chars().all(plain) {
        true => id.to_owned(),
        false => format!("message-{no}"),
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}
