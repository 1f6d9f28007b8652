//! Content while it is received: in memory up to 256 KiB, beyond that in an unlinked temporary
//! file, which is gone with the session or the process (RELAY-3).

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use galerne_core::content::{Content, Spill};

/// How much of a message stays in memory. The header must lie within it.
pub const IN_MEMORY: usize = 256 * 1024;
/// How much is gathered before it is written to the file.
const WRITE_AT: usize = 128 * 1024;

/// Collects the content of one message.
pub struct Collector {
    directory: PathBuf,
    memory: Vec<u8>,
    file: Option<Spilled>,
    /// A write failed: the message must be refused.
    failed: bool,
}

struct Spilled {
    file: File,
    length: u64,
}

impl Spill for Spilled {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn len(&self) -> u64 {
        self.length
    }
}

impl Collector {
    /// An empty message; a temporary file, if one is needed, is made in `directory`.
    pub fn new(directory: &Path) -> Self {
        Collector {
            directory: directory.to_owned(),
            memory: Vec::new(),
            file: None,
            failed: false,
        }
    }

    /// Takes what stands in `buffer` when there is enough of it, and empties the buffer then.
    /// Writing runs off the network threads.
    pub async fn take(&mut self, buffer: &mut Vec<u8>) {
        if self.file.is_none() && self.memory.len() + buffer.len() <= IN_MEMORY {
            if self.memory.is_empty() {
                std::mem::swap(&mut self.memory, buffer);
            } else {
                self.memory.append(buffer);
            }
            return;
        }
        if buffer.len() >= WRITE_AT {
            self.write(buffer).await;
        }
    }

    /// Ends the message with what is left in `buffer`.
    ///
    /// # Errors
    /// The temporary file could not be written: the message cannot be taken (451 4.3.0).
    pub async fn finish(mut self, mut buffer: Vec<u8>) -> io::Result<Content> {
        if self.file.is_none() && self.memory.len() + buffer.len() <= IN_MEMORY {
            if self.memory.is_empty() {
                self.memory = buffer;
            } else {
                self.memory.extend_from_slice(&buffer);
            }
        } else {
            self.write(&mut buffer).await;
        }
        if self.failed {
            return Err(io::Error::other("the temporary file could not be written"));
        }
        let spill = self.file.map(|file| Arc::new(file) as Arc<dyn Spill>);
        Ok(Content {
            memory: Arc::new(self.memory),
            spill,
        })
    }

    /// Writes what stands in `buffer`, and empties it; its memory comes back to be filled again.
    async fn write(&mut self, buffer: &mut Vec<u8>) {
        if self.failed {
            buffer.clear();
            return;
        }
        // Memory is filled to the brim first: the header must be found there.
        if self.file.is_none() {
            let room = IN_MEMORY.saturating_sub(self.memory.len());
            self.memory.extend(buffer.drain(..room.min(buffer.len())));
        }
        let (file, directory) = (self.file.take(), self.directory.clone());
        let octets = std::mem::take(buffer);
        let written = tokio::task::spawn_blocking(move || {
            let written = append(file, &directory, &octets);
            (octets, written)
        });
        match written.await {
            Ok((octets, Ok(spilled))) => {
                self.file = Some(spilled);
                *buffer = octets;
                buffer.clear();
            }
            Ok((_, Err(error))) => {
                tracing::error!(%error, directory = %self.directory.display(), "a temporary file cannot be written");
                self.failed = true;
            }
            Err(_) => self.failed = true,
        }
    }
}

/// Adds to the file; the first octets make it.
fn append(file: Option<Spilled>, directory: &Path, octets: &[u8]) -> io::Result<Spilled> {
    let mut spilled = match file {
        Some(spilled) => spilled,
        None => Spilled {
            file: tempfile::tempfile_in(directory)?,
            length: 0,
        },
    };
    spilled.file.write_all(octets)?;
    spilled.length += octets.len() as u64;
    Ok(spilled)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(directory: &Path, total: usize, piece: usize) -> io::Result<Content> {
        let mut collector = Collector::new(directory);
        let mut buffer = Vec::new();
        let octets: Vec<u8> = (0..total).map(|i| (i % 251) as u8).collect();
        for chunk in octets.chunks(piece) {
            buffer.extend_from_slice(chunk);
            collector.take(&mut buffer).await;
        }
        collector.finish(buffer).await
    }

    fn all(content: &Content) -> Vec<u8> {
        let mut octets = content.memory.to_vec();
        if let Some(spill) = &content.spill {
            let mut rest = vec![0; spill.len() as usize];
            let mut at = 0;
            while at < rest.len() {
                at += spill.read_at(at as u64, &mut rest[at..]).unwrap();
            }
            octets.extend(rest);
        }
        octets
    }

    #[tokio::test]
    async fn relay_3_small_content_makes_no_file() {
        let content = collect(Path::new("/nowhere"), IN_MEMORY, 5000)
            .await
            .unwrap();
        assert!(content.spill.is_none());
        assert_eq!(content.len(), IN_MEMORY as u64);
    }

    #[tokio::test]
    async fn relay_3_large_content_goes_to_a_file_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        for piece in [999, 70_000, 3_000_000] {
            let content = collect(dir.path(), 2_000_000, piece).await.unwrap();
            assert_eq!(content.memory.len(), IN_MEMORY);
            let expected: Vec<u8> = (0..2_000_000).map(|i| (i % 251) as u8).collect();
            assert!(all(&content) == expected);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn t_23_little_of_a_large_message_is_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = Collector::new(dir.path());
        let mut buffer = Vec::new();
        for _ in 0..800 {
            buffer.extend_from_slice(&[7; 64 * 1024]);
            collector.take(&mut buffer).await;
            assert!(collector.memory.capacity() <= 2 * IN_MEMORY);
            assert!(buffer.capacity() <= 4 * WRITE_AT);
        }
        let content = collector.finish(buffer).await.unwrap();
        assert_eq!(content.len(), 800 * 64 * 1024);
        assert_eq!(content.memory.len(), IN_MEMORY);
    }

    #[tokio::test]
    async fn a_disk_that_refuses_fails_the_message() {
        assert!(
            collect(Path::new("/nowhere"), IN_MEMORY + 1, 5000)
                .await
                .is_err()
        );
    }
}
