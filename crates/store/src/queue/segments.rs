//! Segment files: larger bodies, one behind the other (`seg-` and the number in 16 digits).
//!
//! A file begins with eight octets of magic and version and its number; then records, each a
//! header of 32 octets and the body. Numbers are little-endian:
//!
//! ```text
//! file:    "GLNSEG01" number:u64
//! record:  "GREC" crc32(header from here):u32 message:u64 length:u64 crc32(body):u32 0:u32  body
//! ```
//!
//! Which records live is known from the rows of the database alone; what is behind the last of them
//! was never acknowledged. Files are only appended to, by one thread, and never by a later process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use galerne_core::content::{Content, Patch, Spill, kept};

const MAGIC: &[u8; 8] = b"GLNSEG01";
const FILE_HEADER: u64 = 16;
const RECORD_MAGIC: &[u8; 4] = b"GREC";
pub const RECORD_HEADER: u64 = 32;
/// What is gathered for a write, and read at once.
const PIECE: usize = 256 * 1024;

/// Where a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub segment: u64,
    /// Of the record's header.
    pub offset: u64,
    /// Octets of the body.
    pub length: u64,
    /// How much of it is given back in memory: at least the whole header of the message.
    pub head: u64,
    pub crc: u32,
}

impl Spot {
    /// Octets that the record takes.
    pub fn room(&self) -> u64 {
        RECORD_HEADER + self.length
    }

    pub fn end(&self) -> u64 {
        self.offset + self.room()
    }
}

/// Name of a segment file.
pub fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("seg-{segment:016x}"))
}

/// The segment files of a folder, in no order.
pub fn files(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("seg-"))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        found.extend(number);
    }
    Ok(found)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A file that is being written.
pub struct Writer {
    file: Arc<File>,
    number: u64,
    end: u64,
    buffer: Vec<u8>,
}

/// Why a body was not appended.
#[derive(Debug)]
pub enum AppendError {
    /// The content cannot be read; the file is as it was.
    Source(io::Error),
    /// The file cannot be written.
    File(io::Error),
}

impl Writer {
    /// A new file whose name is durable.
    pub fn create(folder: &Path, number: u64) -> io::Result<Writer> {
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(path(folder, number))?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&number.to_le_bytes());
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        sync_folder(folder)?;
        Ok(Writer {
            file: Arc::new(file),
            number,
            end: FILE_HEADER,
            buffer: Vec::new(),
        })
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Octets in the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Makes what was appended durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Appends what goes out of a message.
    pub fn append(
        &mut self,
        message: u64,
        content: &Content,
        patch: &Patch,
    ) -> Result<Spot, AppendError> {
        let memory = kept(content.memory.len(), &patch.cuts).map(|range| range.len() as u64);
        let in_memory = patch.prefix.len() as u64 + memory.sum::<u64>();
        let spilled = content.spill.as_ref().map_or(0, |spill| spill.len());
        let spot = Spot {
            segment: self.number,
            offset: self.end,
            length: in_memory + spilled,
            head: in_memory.min(patch.prefix.len() as u64 + PIECE as u64),
            crc: 0,
        };
        let mut record = Record::begin(self, spot.offset);
        record.write(&patch.prefix)?;
        for range in kept(content.memory.len(), &patch.cuts) {
            record.write(content.memory.get(range).unwrap_or_default())?;
        }
        if let Some(spill) = &content.spill {
            record.copy(spill.as_ref())?;
        }
        record.finish(message, spot)
    }

    /// Appends a record that stands elsewhere, as it is.
    pub fn copy(&mut self, message: u64, from: &Body, old: Spot) -> Result<Spot, AppendError> {
        let spot = Spot {
            segment: self.number,
            offset: self.end,
            ..old
        };
        let mut record = Record::begin(self, spot.offset);
        record.copy(from)?;
        let copied = record.finish(message, spot)?;
        if copied.crc != old.crc {
            self.end = spot.offset;
            return Err(AppendError::Source(io::Error::other("a wrong checksum")));
        }
        Ok(copied)
    }
}

/// A record on its way.
struct Record<'a> {
    writer: &'a mut Writer,
    start: u64,
    /// Where the buffer goes.
    at: u64,
    hash: crc32fast::Hasher,
}

impl<'a> Record<'a> {
    fn begin(writer: &'a mut Writer, start: u64) -> Record<'a> {
        writer.buffer.clear();
        writer.buffer.resize(RECORD_HEADER as usize, 0);
        Record {
            writer,
            start,
            at: start,
            hash: crc32fast::Hasher::new(),
        }
    }

    fn write(&mut self, mut octets: &[u8]) -> Result<(), AppendError> {
        self.hash.update(octets);
        while !octets.is_empty() {
            let room = PIECE.saturating_sub(self.writer.buffer.len()).max(1);
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.writer.buffer.extend_from_slice(now);
            octets = later;
            if self.writer.buffer.len() >= PIECE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, from: &dyn Spill) -> Result<(), AppendError> {
        let mut piece = vec![0; (PIECE / 2).min(from.len() as usize)];
        let mut at = 0;
        while at < from.len() {
            let wanted = (from.len() - at).min(piece.len() as u64) as usize;
            let room = piece.get_mut(..wanted).unwrap_or_default();
            let read = from.read_at(at, room).map_err(AppendError::Source)?;
            if read == 0 {
                let short = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(AppendError::Source(short));
            }
            self.write(piece.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), AppendError> {
        let Writer { file, buffer, .. } = &mut *self.writer;
        file.write_all_at(buffer, self.at)
            .map_err(AppendError::File)?;
        self.at += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    fn finish(mut self, message: u64, mut spot: Spot) -> Result<Spot, AppendError> {
        spot.crc = std::mem::take(&mut self.hash).finalize();
        let header = record_header(message, spot.length, spot.crc);
        if self.at == self.start {
            // Everything is still in the buffer, and goes out in one write.
            if let Some(place) = self.writer.buffer.get_mut(..header.len()) {
                place.copy_from_slice(&header);
            }
            self.flush()?;
        } else {
            self.flush()?;
            let file = &self.writer.file;
            file.write_all_at(&header, self.start)
                .map_err(AppendError::File)?;
        }
        self.writer.end = spot.end();
        Ok(spot)
    }
}

fn record_header(message: u64, length: u64, crc: u32) -> [u8; RECORD_HEADER as usize] {
    let mut tail = [0; 24];
    let (number, rest) = tail.split_at_mut(8);
    number.copy_from_slice(&message.to_le_bytes());
    let (size, rest) = rest.split_at_mut(8);
    size.copy_from_slice(&length.to_le_bytes());
    let (sum, _) = rest.split_at_mut(4);
    sum.copy_from_slice(&crc.to_le_bytes());
    let mut header = [0; RECORD_HEADER as usize];
    let (head, place) = header.split_at_mut(8);
    place.copy_from_slice(&tail);
    let (magic, sum) = head.split_at_mut(4);
    magic.copy_from_slice(RECORD_MAGIC);
    sum.copy_from_slice(&crc32fast::hash(&tail).to_le_bytes());
    header
}

/// The body of a record, to be read.
pub struct Body {
    file: Arc<File>,
    start: u64,
    length: u64,
}

impl Body {
    /// Opens the record of a message.
    ///
    /// # Errors
    /// `NotFound`: the file is gone. `InvalidData`: there is another record, or none.
    pub fn open(folder: &Path, message: u64, spot: &Spot) -> io::Result<Body> {
        let file = File::open(path(folder, spot.segment))?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not the record of the message");
        let mut header = [0; RECORD_HEADER as usize];
        file.read_exact_at(&mut header, spot.offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => wrong(),
                _ => error,
            })?;
        if header != record_header(message, spot.length, spot.crc) {
            return Err(wrong());
        }
        Ok(Body {
            file: Arc::new(file),
            start: spot.offset + RECORD_HEADER,
            length: spot.length,
        })
    }

    /// The place of a body, whatever stands there.
    pub fn unchecked(folder: &Path, spot: &Spot) -> io::Result<Body> {
        Ok(Body {
            file: Arc::new(File::open(path(folder, spot.segment))?),
            start: spot.offset + RECORD_HEADER,
            length: spot.length,
        })
    }

    /// Whether the octets are those that were written. Reads all of them.
    pub fn is_sound(&self, crc: u32) -> io::Result<bool> {
        let mut hash = crc32fast::Hasher::new();
        let mut piece = vec![0; PIECE.min(self.length as usize)];
        let mut at = 0;
        while at < self.length {
            let read = self.read_at(at, &mut piece)?;
            if read == 0 {
                return Ok(false);
            }
            hash.update(piece.get(..read).unwrap_or_default());
            at += read as u64;
        }
        Ok(hash.finalize() == crc)
    }

    /// As content: `head` octets in memory, the rest in the file.
    pub fn into_content(self, head: u64) -> io::Result<Content> {
        let head = head.min(self.length);
        let mut memory = vec![0; head as usize];
        self.file.read_exact_at(&mut memory, self.start)?;
        let rest = Body {
            start: self.start + head,
            length: self.length - head,
            ..self
        };
        let spill = (rest.length > 0).then(|| Arc::new(rest) as Arc<dyn Spill>);
        Ok(Content {
            memory: Arc::new(memory),
            spill,
        })
    }
}

impl Spill for Body {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(offset);
        let wanted = (buffer.len() as u64).min(left) as usize;
        let place = buffer.get_mut(..wanted).unwrap_or_default();
        self.file.read_at(place, self.start + offset)
    }

    fn len(&self) -> u64 {
        self.length
    }
}
