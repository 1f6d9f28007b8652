//! Finds what was told of a message. The files may be gigabytes: they are read in pieces, a piece is
//! searched as octets, and only the lines that hold what is looked for are read as JSON.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use galerne_core::queue::{Told, What};
use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::{FOLDER, days};

/// A line longer than this is none of ours; so much is read at once.
const LONGEST: usize = 2 << 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Oldest first.
    pub told: Vec<Told>,
    /// Lines that hold what was looked for and cannot be read, and lines that are too long.
    pub damaged: u64,
    /// There is more; these are the latest.
    pub more: bool,
}

/// The lines of all messages whose id, reference or Message-ID is `what`, and those about the
/// recipient `what`; the latest, at most `most`. A Message-ID may have its brackets or not; the case of
/// ids and of addresses does not count. Reads from disk: not for an async thread.
///
/// # Errors
/// A file cannot be read.
pub fn find(root: &Path, what: &str, most: usize) -> io::Result<Found> {
    let sought = Sought::new(what);
    let mut found = Found::default();
    if sought.what.is_empty() || most == 0 {
        return Ok(found);
    }
    let mut pages: Vec<VecDeque<Told>> = Vec::new();
    let mut left = most;
    let mut reader = Reader::default();
    // The latest day first: what is older is not read once there is enough.
    for (_, path) in days(&root.join(FOLDER))?.into_iter().rev() {
        if left == 0 {
            found.more = true;
            break;
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            // Its time came just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut page = VecDeque::new();
        found.damaged += reader.search(file, &sought, |told| {
            if page.len() == left {
                page.pop_front();
                found.more = true;
            }
            page.push_back(told);
        })?;
        left -= page.len();
        pages.push(page);
    }
    found.told = pages.into_iter().rev().flatten().collect();
    Ok(found)
}

/// What is looked for.
struct Sought {
    what: String,
    /// As it stands in a line, in lower case.
    finder: Finder<'static>,
}

impl Sought {
    fn new(what: &str) -> Sought {
        let what = bare(what.trim()).to_owned();
        // Serialising a string cannot fail; what it puts around is left out.
        let text = serde_json::to_string(&what.to_ascii_lowercase()).unwrap_or_default();
        let text = text.trim_start_matches('"').strip_suffix('"');
        let finder = Finder::new(text.unwrap_or_default()).into_owned();
        Sought { what, finder }
    }

    fn is_about(&self, told: &Told) -> bool {
        let address = |one: &String| one.eq_ignore_ascii_case(&self.what);
        let header_id = told.header_id.as_deref().map(bare);
        told.id.eq_ignore_ascii_case(&self.what)
            || told.reference == self.what
            || header_id == Some(&*self.what)
            || match &told.what {
                What::Received { recipients, .. } => recipients.iter().any(address),
                What::Attempt { recipient, .. }
                | What::Again { recipient, .. }
                | What::Ended { recipient, .. }
                | What::Notified { recipient, .. }
                | What::Operator { recipient, .. } => address(recipient),
            }
    }
}

/// A Message-ID without its brackets.
fn bare(text: &str) -> &str {
    let inside = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
    inside.unwrap_or(text)
}

/// Reads files by whole lines, in a memory of its own that does not grow.
#[derive(Default)]
struct Reader {
    piece: Vec<u8>,
    lower: Vec<u8>,
}

impl Reader {
    /// Gives the lines that are about what is sought, and counts those that are damaged.
    fn search(
        &mut self,
        mut file: impl Read,
        sought: &Sought,
        mut take: impl FnMut(Told),
    ) -> io::Result<u64> {
        self.piece.resize(LONGEST, 0);
        let mut damaged = 0;
        let mut filled = 0;
        // Within a line that is too long.
        let mut skipping = false;
        loop {
            let room = self.piece.get_mut(filled..).unwrap_or_default();
            let read = match file.read(room) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            filled += read;
            let ended = read == 0;
            let piece = self.piece.get(..filled).unwrap_or_default();
            let whole = match memrchr(b'\n', piece) {
                _ if ended => filled,
                Some(last) => last + 1,
                None if filled == LONGEST => {
                    damaged += u64::from(!skipping);
                    (skipping, filled) = (true, 0);
                    continue;
                }
                None => continue,
            };
            let mut lines = piece.get(..whole).unwrap_or_default();
            if skipping {
                let rest = memchr(b'\n', lines).and_then(|end| lines.get(end + 1..));
                lines = rest.unwrap_or_default();
                skipping = false;
            }
            self.lower.clear();
            self.lower.extend_from_slice(lines);
            self.lower.make_ascii_lowercase();
            damaged += look(lines, &self.lower, sought, &mut take);
            if ended {
                return Ok(damaged);
            }
            self.piece.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}

/// Reads those of the lines that hold what is sought. `lower` is the same in lower case.
fn look(lines: &[u8], lower: &[u8], sought: &Sought, take: &mut impl FnMut(Told)) -> u64 {
    let mut damaged = 0;
    let mut at = 0;
    while let Some(hit) = lower.get(at..).and_then(|rest| sought.finder.find(rest)) {
        let hit = at + hit;
        let start = lines.get(at..hit).and_then(|before| memrchr(b'\n', before));
        let start = start.map_or(at, |end| at + end + 1);
        let end = lines.get(hit..).and_then(|behind| memchr(b'\n', behind));
        let end = end.map_or(lines.len(), |end| hit + end);
        match serde_json::from_slice::<Told>(lines.get(start..end).unwrap_or_default()) {
            Ok(told) if sought.is_about(&told) => take(told),
            Ok(_) => {}
            Err(_) => damaged += 1,
        }
        at = end + 1;
    }
    damaged
}
