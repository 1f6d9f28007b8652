//! Looking into the queue from another process, with or without a server at work on it. Nothing is
//! changed by it.

use std::io;
use std::path::Path;

use galerne_core::queue::{Amount, Damage, Filter, Kept, Listed, MessageNo, StoreFault};
use rusqlite::config::DbConfig;

use super::reading::Readers;
use super::repair::{check_file, counters_are_wrong, of_database};

/// The queue in a folder, for reading.
pub struct QueueReader {
    readers: Readers,
}

impl QueueReader {
    /// Opens the queue in `folder` (`system/queue`); `None`: there never was one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(folder: &Path) -> io::Result<Option<QueueReader>> {
        if !folder.join("queue.db").try_exists()? {
            return Ok(None);
        }
        let readers = Readers::new(folder);
        // Whoever looks leaves the log to the server.
        readers
            .with(|connection| {
                connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
                connection.query_row("SELECT one FROM meta", [], |_| Ok(()))
            })
            .map_err(|fault| io::Error::other(fault.to_string()))?;
        Ok(Some(QueueReader { readers }))
    }

    /// Deliveries that a filter lets through, oldest first, at most `most`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn list(&self, filter: &Filter, most: usize) -> Result<Vec<Listed>, StoreFault> {
        self.readers.list(filter, most)
    }

    /// A message whole; `None`: it is not there.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(&self, message: MessageNo) -> Result<Option<Kept>, StoreFault> {
        self.readers.read(message)
    }

    /// What is wrong with the database itself and with its counters, as it is at this moment; a
    /// server may be at work on it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn check(&self) -> Result<Vec<Damage>, StoreFault> {
        let mut found = check_file(&self.readers)?;
        if found.is_empty() && counters_are_wrong(&self.readers)? {
            found.push(of_database("queue.db: the counters are wrong".to_owned()));
        }
        Ok(found)
    }

    /// How much is stored.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn amount(&self) -> Result<Amount, StoreFault> {
        self.readers.with(|connection| {
            connection.query_row("SELECT messages, deliveries FROM meta", [], |row| {
                let number = |n| row.get::<_, i64>(n).map(i64::cast_unsigned);
                Ok(Amount {
                    messages: number(0)?,
                    deliveries: number(1)?,
                })
            })
        })
    }

    /// When the oldest message came, in milliseconds since 1970. Looks at all of them.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn oldest(&self) -> Result<Option<u64>, StoreFault> {
        self.readers.with(|connection| {
            let sql = "SELECT min(received_at) FROM message";
            let oldest = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
            Ok(oldest?.map(i64::cast_unsigned))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::testing::{message, wait};
    use crate::queue::{Options, SqliteQueue};
    use galerne_core::queue::QueueStore;

    #[test]
    fn queue_16_queue_26_the_queue_is_looked_into_with_and_without_a_server() {
        let folder = tempfile::tempdir().unwrap();
        assert!(QueueReader::open(folder.path()).unwrap().is_none());
        let options = Options {
            warm: 0,
            ..Options::default()
        };
        let queue = SqliteQueue::open(folder.path(), options).unwrap();
        let looks = |count: u64| {
            let reader = QueueReader::open(folder.path()).unwrap().unwrap();
            let listed = reader.list(&Filter::default(), 10).unwrap();
            assert_eq!(listed.len() as u64, count);
            assert_eq!(reader.amount().unwrap().deliveries, count);
            let first = listed.first().map(|l| l.stored.clone());
            assert_eq!(
                reader.oldest().unwrap(),
                first.as_ref().map(|s| s.received_at)
            );
            if let Some(stored) = first {
                let kept = reader.read(stored.delivery.message).unwrap().unwrap();
                assert_eq!(kept.envelope.recipients[0].address, stored.recipient);
            }
        };
        looks(0);
        let accepted = queue.accept(message("one", &["a@example.org"], 100));
        assert_eq!(wait(accepted), Ok(MessageNo(1)));
        looks(1);
        // The database and its counters, beside the one who writes them.
        let reader = QueueReader::open(folder.path()).unwrap().unwrap();
        assert_eq!(reader.check().unwrap(), []);
        let other = rusqlite::Connection::open(folder.path().join("queue.db")).unwrap();
        let change = |by: i64| other.execute("UPDATE meta SET deliveries = deliveries + ?1", [by]);
        assert_eq!(change(7), Ok(1));
        let found = reader.check().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "queue.db: the counters are wrong");
        assert_eq!(change(-7), Ok(1));
        assert_eq!(reader.check().unwrap(), []);
        drop(other);
        queue.close();
        drop(queue);
        looks(1);
    }
}
