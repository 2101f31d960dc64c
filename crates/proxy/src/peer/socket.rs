//! A client's socket as hyper reads and writes it.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Instant, Sleep},
};

use super::Client;

/// How long a client may take no byte of its answer.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);
/// Up to how many bytes the head and the body of an answer are put together before they are written. For the system one
/// piece is 160 ns less work than two, and a pick takes 6,000 ns. To copy many more bytes would take as long.
const JOINED_BYTES_MAX: usize = 2048;

/// The socket as hyper uses it.
#[derive(Debug)]
pub(crate) struct Socket {
    client: Client,
    /// There while the client takes none of the bytes that wait for it: until when it may.
    stall: Option<Pin<Box<Sleep>>>,
    /// Whether hyper was not told the end of what the client sends.
    has_hidden_end: bool,
}

impl Socket {
    pub(super) fn of(client: Client) -> Self {
        Self {
            client,
            stall: None,
            has_hidden_end: false,
        }
    }

    /// Notes whether the client takes its bytes, and gives up on one that does not.
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let blocked_since = &self.client.0.write_blocked_since;
        if written.is_ready() {
            // Most writes find none, and take no lock.
            if self.stall.take().is_some() {
                *blocked_since.lock() = None;
                // Only now it can have the answer that its next call follows.
                self.client.0.call.note_idle();
            }
            return written;
        }
        blocked_since.lock().get_or_insert_with(Instant::now);
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(time::sleep(WRITE_STALL_MAX)));
        ready!(stall.as_mut().poll(cx));
        let stalled = Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        self.client.note_broken(&stalled);
        stalled
    }
}

impl Drop for Socket {
    /// What waits to be written now never reaches the client.
    fn drop(&mut self) {
        let shared = &self.client.0;
        let is_blocked = shared.write_blocked_since.lock().take().is_some();
        if is_blocked || self.client.is_unflushed() {
            shared.is_broken.store(true, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        let read = self.client.with_stream(|stream| stream.poll_read(cx, buf));
        let is_empty = buf.filled().len() == filled;
        if !is_empty {
            self.client.note_heard();
        }
        let has_ended = matches!(read, Poll::Ready(Ok(()))) && is_empty;
        if has_ended && self.client.hides_end() {
            // It is told once the call is answered.
            self.has_hidden_end = true;
            return Poll::Pending;
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.client.with_stream(|stream| stream.poll_write(cx, buf));
        self.after_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        if bufs.iter().map(|buf| buf.len()).sum::<usize>() <= JOINED_BYTES_MAX {
            let mut room = [MaybeUninit::uninit(); JOINED_BYTES_MAX];
            let mut joined = ReadBuf::uninit(&mut room);
            for buf in bufs {
                joined.put_slice(buf);
            }
            return self.poll_write(cx, joined.filled());
        }
        let written = self
            .client
            .with_stream(|stream| stream.poll_write_vectored(cx, bufs));
        self.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper has written what it had.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_hidden_end && !self.client.hides_end() {
            // The socket has nothing more to tell: hyper would not read again by itself.
            self.has_hidden_end = false;
            cx.waker().wake_by_ref();
        }
        if self.client.is_unflushed() {
            // After the last byte: a client that leaves now has it, or resets the connection.
            self.client.note_flushed();
        }
        // A TCP stream has no buffer of its own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.client.stream()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_in_order_whether_they_are_joined_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await;
        let mut theirs = theirs.unwrap();
        let (stream, addr) = listener.accept().await.unwrap();
        let mut socket = Client::new(stream, addr).socket();
        let long = vec![b'!'; JOINED_BYTES_MAX];
        let few: [&[u8]; 3] = [b"first, ", b"", b"second"];
        for pieces in [&few[..], &[b"head", &long], &[&long], &[&long, b""]] {
            let sent = pieces.concat();
            let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            // The system has room for them.
            assert_eq!(socket.write_vectored(&pieces).await.unwrap(), sent.len());
            let mut received = vec![0; sent.len()];
            theirs.read_exact(&mut received).await.unwrap();
            assert_eq!(received, sent);
        }
    }
}
