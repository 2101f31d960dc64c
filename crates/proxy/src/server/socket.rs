//! A client's socket that we can watch while hyper reads and writes it.
//!
//! hyper notices that a client is gone only while its read buffer is empty: after one byte beyond
//! the request, a pick would go on waiting for a client that hung up. It also lets a client that
//! never reads keep its connection for ever. This module fixes both.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::{self, Sleep},
};

/// How long a client may take no byte of its answer.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);
/// How often the socket of a long call is checked.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The client at the other end, watched beside hyper.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Mutex<TcpStream>,
    is_write_blocked: AtomicBool,
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Shared {
            stream: Mutex::new(stream),
            is_write_blocked: AtomicBool::new(false),
        }))
    }

    /// The socket for hyper.
    pub(super) fn socket(&self) -> Socket {
        Socket {
            peer: self.clone(),
            stall: None,
        }
    }

    /// Whether bytes wait for the client to take them.
    pub(super) fn is_write_blocked(&self) -> bool {
        self.0.is_write_blocked.load(Ordering::Relaxed)
    }

    /// Waits until the client has closed its side, whatever it sent before. Cancel-safe.
    pub(super) async fn hung_up(&self) {
        loop {
            time::sleep(LOOK_INTERVAL).await;
            if std::future::poll_fn(|cx| Poll::Ready(self.is_closed(cx))).await {
                return;
            }
        }
    }

    /// Reads and forgets what the client still sends, until it closes its side. Cancel-safe.
    pub(super) async fn linger(&self) {
        let mut scrap = [0; 8 * 1024];
        std::future::poll_fn(|cx| {
            loop {
                let mut scrap = ReadBuf::new(&mut scrap);
                let read = ready!(Pin::new(&mut *self.stream()).poll_read(cx, &mut scrap));
                if read.is_err() || scrap.filled().is_empty() {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    fn is_closed(&self, cx: &mut Context<'_>) -> bool {
        let stream = self.stream();
        let readiness = pin!(stream.ready(Interest::READABLE)).poll(cx);
        match readiness {
            Poll::Ready(Ok(readiness)) => readiness.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// Reading and writing happen in one task: this lock is never contended.
    fn stream(&self) -> MutexGuard<'_, TcpStream> {
        self.0.stream.lock()
    }
}

/// The socket as hyper uses it.
#[derive(Debug)]
pub(super) struct Socket {
    peer: Peer,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Notes whether the client takes its bytes, and gives up on one that does not.
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.peer
            .0
            .is_write_blocked
            .store(written.is_pending(), Ordering::Relaxed);
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(time::sleep(WRITE_STALL_MAX)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.peer.stream()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.peer.stream()).poll_write(cx, buf);
        self.after_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.peer.stream()).poll_write_vectored(cx, bufs);
        self.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has no buffer of its own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.peer.stream()).poll_shutdown(cx)
    }
}
