//! Sending the content: prefix, the octets kept, the final dot; never whole in memory when spilled.

use galerne_core::content::Spill;
pub use galerne_core::content::kept;

use crate::attempt::Order;
use crate::connection::{Connection, WhenHeard};

/// How much of a spilled message is read and encoded at a time.
const CHUNK: usize = 256 * 1024;
/// The end of a message larger than this is sent once the remote has taken the rest.
const AT_ONCE: usize = 64 * 1024;

/// How far the content came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Up to and with its end, or the session is lost: it will say so.
    All,
    /// The remote said something before the end, which can only be a refusal.
    Interrupted,
}

/// Sends the content and its end.
pub async fn send_content(order: &Order<'_>, connection: &mut Connection) -> Sent {
    let submission = order.submission;
    // Chunks are answered one by one; to DATA nothing is to be said before its end.
    let when_heard = if submission.needs_chunking {
        WhenHeard::GoOn
    } else {
        WhenHeard::Stop
    };
    if let Some(fields) = &order.fields {
        connection.put(fields);
    }
    if !submission.patch.prefix.is_empty() {
        connection.put(&submission.patch.prefix);
    }
    let memory = &submission.content.memory;
    for range in kept(memory.len(), &submission.patch.cuts) {
        if let Some(octets) = memory.get(range) {
            connection.put(octets);
        }
    }
    if let Some(spill) = &submission.content.spill {
        let mut offset = 0;
        while offset < spill.len() {
            if !connection.send(order.deadline, when_heard).await {
                return Sent::Interrupted;
            }
            match read_chunk(spill.clone(), offset).await {
                Ok(chunk) if !chunk.is_empty() => {
                    offset += chunk.len() as u64;
                    connection.put(&chunk);
                }
                _ => {
                    // Our own disk failed: the remote must not take a part for the whole.
                    tracing::error!(message_id = %submission.message_id, "temporary file of a message cannot be read");
                    connection
                        .session
                        .lost("local error: the message could not be read");
                    return Sent::Interrupted;
                }
            }
        }
    }
    if connection.waiting() > AT_ONCE && !connection.send(order.deadline, when_heard).await {
        return Sent::Interrupted;
    }
    // What was said before the end is no answer to it.
    if when_heard == WhenHeard::Stop && connection.peek() {
        return Sent::Interrupted;
    }
    connection.put_end();
    connection.flush(order.deadline).await;
    Sent::All
}

async fn read_chunk(spill: std::sync::Arc<dyn Spill>, offset: u64) -> std::io::Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || {
        let mut chunk = vec![0; CHUNK];
        let length = spill.read_at(offset, &mut chunk)?;
        chunk.truncate(length);
        Ok(chunk)
    })
    .await
    .map_err(std::io::Error::other)?
}
