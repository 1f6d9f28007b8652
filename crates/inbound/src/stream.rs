//! A client's stream: any kind of bytes, read through one buffer per thread so that an idle
//! session holds none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Clear or encrypted, real or in memory.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A stream of any kind.
pub type BoxStream = Pin<Box<dyn Stream>>;

/// An output buffer of this size is kept when it has been written: enough for replies.
const KEEP_OUT: usize = 512;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// Reads once, at most `most` octets, and appends to `input`. 0 is the end of the stream.
pub async fn read_into(
    stream: &mut BoxStream,
    input: &mut Vec<u8>,
    most: usize,
) -> io::Result<usize> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let room = most.min(scratch.len());
            let Some(scratch) = scratch.get_mut(..room) else {
                return Poll::Ready(Ok(0));
            };
            let mut buffer = ReadBuf::new(scratch);
            let read = stream.as_mut().poll_read(cx, &mut buffer);
            // TLS has something to say by itself: no to renegotiation (T-15), a new key.
            if read.is_pending() && matches!(stream.as_mut().poll_flush(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(Ok(0));
            }
            ready!(read)?;
            input.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}

/// Writes all of `out` and empties it; its memory is given back when it is large.
pub async fn write_out(stream: &mut BoxStream, out: &mut Vec<u8>) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let result = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    let result = result.await;
    out.clear();
    if out.capacity() > KEEP_OUT {
        *out = Vec::new();
    }
    result
}
