//! Where `queue list`, `queue show` and `queue status` have the queue from: the running server, or
//! its store where none runs.

use std::io::Write;
use std::path::Path;

use galerne_core::content::Content;
use galerne_core::queue::shown::Shown;
use galerne_core::queue::{DeliveryNo, Kept, Listed};
use galerne_outbound::queue::Selection;
use galerne_store::QueueReader;

use crate::commands::is_root_of_a_tree;
use crate::control::queue::{QueueAsk, several};
use crate::control::rows::{MessageRow, MessageRows, OldestRow, Row, RowPage, StatusRow, moment};
use crate::control::{self, Presence, rows};
use crate::queue::FOLDER;

/// Messages of one id that are shown at most.
const MOST_MESSAGES: usize = 20;

/// The queue to look at.
pub enum Source<'a> {
    Server(&'a Path),
    /// `None`: there never was a queue.
    Store(Option<QueueReader>),
}

impl<'a> Source<'a> {
    /// The server, if one runs.
    pub fn open(root: &'a Path) -> Result<Source<'a>, String> {
        is_root_of_a_tree(root)?;
        if control::presence(root)? == Presence::Runs {
            return Ok(Source::Server(root));
        }
        let folder = root.join(FOLDER);
        let reader = QueueReader::open(&folder).map_err(|error| {
            format!("no server runs, and {FOLDER} cannot be read without: {error}")
        })?;
        Ok(Source::Store(reader))
    }

    pub fn is_server(&self) -> bool {
        matches!(self, Source::Server(_))
    }

    /// Some lines behind `after`.
    pub fn page(
        &self,
        which: &Selection,
        after: Option<DeliveryNo>,
        most: usize,
    ) -> Result<RowPage, String> {
        match self {
            Source::Server(root) => {
                let which = which.clone();
                control::ask_queue(root, QueueAsk::List { which, after, most })
            }
            Source::Store(None) => Ok(RowPage::default()),
            Source::Store(Some(reader)) => {
                let (found, next) = find(reader, which, after, most)?;
                let now = rows::now();
                let shown = found.into_iter().map(|listed| {
                    let state = Shown::of(&listed.stored.progress, None);
                    Row::of(listed, state, now)
                });
                let is_meant = |row: &Row| which.state.is_none_or(|state| state == row.state);
                Ok(RowPage {
                    rows: shown.filter(is_meant).collect(),
                    next,
                })
            }
        }
    }

    /// The messages of an id.
    pub fn show(&self, id: &str) -> Result<MessageRows, String> {
        if let Source::Server(root) = self {
            let id = id.to_owned();
            return control::ask_queue(root, QueueAsk::Show { id });
        }
        let (kept, more) = self.stored(id)?;
        let now = rows::now();
        let messages = kept.into_iter().map(|(kept, size)| {
            MessageRow::of(kept, size, now, |_, progress| Shown::of(progress, None))
        });
        Ok(MessageRows {
            messages: messages.collect(),
            more,
        })
    }

    /// Writes the stored message of an id.
    pub fn content(&self, id: &str, out: &mut impl Write) -> Result<(), String> {
        if let Source::Server(root) = self {
            return control::queue_content(root, id, out);
        }
        let (mut kept, _) = self.stored(id)?;
        match (kept.pop(), kept.is_empty()) {
            (Some((kept, _)), true) => write(&kept.content, out).map_err(|e| e.to_string()),
            (None, _) => Err(format!("nothing in the queue has the id {id}")),
            (Some(_), false) => Err(several(id)),
        }
    }

    /// The stored messages of an id with their sizes.
    fn stored(&self, id: &str) -> Result<(Vec<(Kept, u64)>, bool), String> {
        let Source::Store(Some(reader)) = self else {
            return Ok((Vec::new(), false));
        };
        let which = Selection {
            ids: vec![id.to_owned()],
            ..Selection::default()
        };
        let (mut found, _) = find(reader, &which, None, usize::MAX)?;
        found.dedup_by_key(|listed| listed.stored.delivery.message);
        let more = found.len() > MOST_MESSAGES;
        let mut kept = Vec::new();
        for listed in found.into_iter().take(MOST_MESSAGES) {
            let read = reader.read(listed.stored.delivery.message);
            kept.extend(
                read.map_err(|e| e.to_string())?
                    .map(|kept| (kept, listed.size)),
            );
        }
        Ok((kept, more))
    }

    /// How the queue stands.
    pub fn status(&self, root: &Path) -> Result<StatusRow, String> {
        if let Source::Server(root) = self {
            return control::ask_queue(root, QueueAsk::Status);
        }
        let settings = crate::commands::settings(root)?;
        let (amount, oldest) = match self {
            Source::Store(Some(reader)) => {
                let words = |fault: galerne_core::queue::StoreFault| fault.to_string();
                (
                    reader.amount().map_err(words)?,
                    reader.oldest().map_err(words)?,
                )
            }
            _ => Default::default(),
        };
        let now = rows::now();
        Ok(StatusRow {
            running: false,
            ready: false,
            loaded: false,
            deliveries: amount.deliveries,
            states: None,
            oldest: oldest.map(|oldest| OldestRow {
                since: moment(oldest),
                age: now.saturating_sub(oldest) / 1000,
                lane: None,
                id: None,
            }),
            qmsize: settings.queue.qmsize,
            minfree: settings.queue.minfree,
            free: None,
            suspensions: Vec::new(),
        })
    }
}

fn find(
    reader: &QueueReader,
    which: &Selection,
    after: Option<DeliveryNo>,
    most: usize,
) -> Result<(Vec<Listed>, Option<DeliveryNo>), String> {
    let found = which.find(after, most, |filter, most| reader.list(filter, most));
    found.map_err(|fault| fault.to_string())
}

fn write(content: &Content, out: &mut impl Write) -> std::io::Result<()> {
    out.write_all(&content.memory)?;
    let Some(spill) = &content.spill else {
        return Ok(());
    };
    let mut piece = vec![0; 256 * 1024];
    let mut offset = 0;
    loop {
        let read = spill.read_at(offset, &mut piece)?;
        if read == 0 {
            return Ok(());
        }
        offset += read as u64;
        out.write_all(piece.get(..read).unwrap_or_default())?;
    }
}
