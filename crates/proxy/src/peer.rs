//! A client's socket that we can watch while hyper reads and writes it.
//!
//! hyper notices that a client is gone only while its read buffer is empty: after one byte beyond
//! the request, a pick would go on waiting for a client that hung up. It also lets a client that
//! never reads keep its connection for ever. This module fixes both. What a client still sends when it is answered:
//! [`request`]. Whether a call runs on its connection: [`call`].

mod call;
mod request;

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use rustix::event::{self, PollFd, PollFlags, Timespec};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{self, Instant, Sleep},
};

use call::CallState;
pub(crate) use call::RunningCall;
pub(crate) use request::RequestBody;

/// How long a client may take no byte of its answer.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);

/// How long after its answer was written a client may still reset the connection: then the answer did not
/// reach it. It is looked at so often meanwhile.
const RESET_MAX: Duration = Duration::from_secs(1);
const RESET_LOOKS: u32 = 10;

/// The client at the other end of a connection, watched beside hyper. It keeps the socket open.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Mutex<TcpStream>,
    ip: IpAddr,
    /// Since when the client takes none of the bytes that wait for it.
    write_blocked_since: Mutex<Option<Instant>>,
    /// Whether reading or writing has failed.
    is_broken: AtomicBool,
    /// Whether the call is answered even if the client closes its sending side. hyper would take the end of what
    /// the client sends for the end of the client.
    is_bound: AtomicBool,
    call: CallState,
    /// Whether the last byte of an answer waits to be written.
    is_unflushed: AtomicBool,
    /// Whether the client had closed its sending side when the last byte of its answer had been written.
    had_left: AtomicBool,
}

/// A client whose connection may have ended.
#[derive(Clone, Debug)]
pub(crate) struct WeakClient(Weak<Shared>);

impl WeakClient {
    /// Whether it has closed its sending side, or its connection has ended. It asks the system.
    pub(crate) fn is_gone(&self) -> bool {
        self.upgrade().is_none_or(|client| client.is_gone())
    }

    /// Whether its connection is broken or has ended. It asks the system.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.upgrade().is_none_or(|client| client.is_reset())
    }

    /// Whether it is this client: the one at the other end of the same connection.
    pub(crate) fn is_of(&self, client: &Client) -> bool {
        Weak::as_ptr(&self.0) == Arc::as_ptr(&client.0)
    }

    fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(Client)
    }
}

impl Client {
    /// The client at `addr`, at the other end of `stream`.
    pub(crate) fn new(stream: TcpStream, addr: SocketAddr) -> Self {
        Self(Arc::new(Shared {
            stream: Mutex::new(stream),
            ip: addr.ip().to_canonical(),
            write_blocked_since: Mutex::default(),
            is_broken: AtomicBool::new(false),
            is_bound: AtomicBool::new(false),
            call: CallState::idle(),
            is_unflushed: AtomicBool::new(false),
            had_left: AtomicBool::new(false),
        }))
    }

    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.0))
    }

    /// The address that it calls from.
    pub(crate) fn ip(&self) -> IpAddr {
        self.0.ip
    }

    /// Whether it has closed its sending side, or the connection is broken. What the runtime has noticed so far
    /// may be older than what another connection of the same client brings: this asks the system.
    pub(crate) fn is_gone(&self) -> bool {
        self.has(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) || self.is_broken()
    }

    /// Whether the connection is broken. It asks the system.
    pub(crate) fn is_reset(&self) -> bool {
        self.has(PollFlags::ERR) || self.is_broken()
    }

    fn is_broken(&self) -> bool {
        self.0.is_broken.load(Ordering::Relaxed)
    }

    /// Reads or writes. The system tells of a broken connection once: what it told is noted before the socket is
    /// unlocked, so that a look, at the socket first, finds the one or the other.
    fn with_stream<T>(
        &self,
        poll: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut stream = self.stream();
        let polled = poll(Pin::new(&mut *stream));
        self.note_broken(&polled);
        polled
    }

    fn note_broken<T>(&self, polled: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(_)) = polled {
            self.0.is_broken.store(true, Ordering::Relaxed);
        }
    }

    fn has(&self, flags: PollFlags) -> bool {
        let stream = self.stream();
        let mut polled = [PollFd::new(&*stream, PollFlags::RDHUP)];
        let at_once = Timespec::default();
        // A system that cannot tell is no sign that the client is gone.
        let is_told = event::poll(&mut polled, Some(&at_once)).is_ok();
        is_told && polled[0].revents().intersects(flags)
    }

    /// The socket for hyper.
    pub(crate) fn socket(&self) -> Socket {
        Socket {
            client: self.clone(),
            stall: None,
            has_hidden_end: false,
        }
    }

    /// The last byte of an answer is taken for writing.
    pub(crate) fn note_taken(&self) {
        self.0.is_unflushed.store(true, Ordering::Release);
    }

    /// Whether the client may have left before the last byte of its answer came. What is written to a client that has
    /// left for good is answered with a reset, which may be on its way. It asks the system.
    pub(crate) fn may_have_missed(&self) -> bool {
        if self.is_unflushed() {
            return self.is_gone();
        }
        self.0.had_left.load(Ordering::Relaxed)
    }

    fn is_unflushed(&self) -> bool {
        self.0.is_unflushed.load(Ordering::Acquire)
    }

    /// Waits until it is known whether what was written has reached the client. False if the connection broke.
    pub(crate) async fn has_received(&self) -> bool {
        let pause = RESET_MAX / RESET_LOOKS;
        let mut looks = 0;
        while looks < RESET_LOOKS {
            let due = Instant::now() + pause;
            time::sleep_until(due).await;
            if self.is_reset() {
                return false;
            }
            // A machine that stood still has shown nothing: its clients give up late. A slow reader: the server gives
            // up on one that stands still.
            if due.elapsed() > pause || self.is_write_blocked() {
                looks = 0;
            } else {
                looks += 1;
            }
        }
        true
    }

    /// Whether bytes wait for the client to take them.
    pub(crate) fn is_write_blocked(&self) -> bool {
        self.write_blocked_since().is_some()
    }

    /// Since when bytes wait for the client and it takes none.
    pub(crate) fn write_blocked_since(&self) -> Option<Instant> {
        *self.0.write_blocked_since.lock()
    }

    /// From now on the client is answered even if it closes its sending side, or no longer so.
    pub(crate) fn bind(&self, is_bound: bool) {
        self.0.is_bound.store(is_bound, Ordering::Relaxed);
    }

    fn is_bound(&self) -> bool {
        self.0.is_bound.load(Ordering::Relaxed)
    }

    /// Whether hyper is not told the end of what the client sends: it would take that for the end of the client.
    fn hides_end(&self) -> bool {
        self.is_bound() || self.0.call.hides_end()
    }

    /// A call begins: its head was read. hyper may read the end of what the client sends before it polls the answer
    /// for the first time.
    pub(crate) fn begin_call(&self) -> RunningCall {
        RunningCall::begin(self.clone())
    }

    /// If no call runs, the next one is waited for from now on.
    pub(crate) fn note_idle(&self) {
        self.0.call.note_idle();
    }

    /// Since when no call runs. `None` while one does: from its head until its answer was taken for writing.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.0.call.idle_since()
    }

    /// Whether a call still waits for its answer that did so when this was asked last, and that ends with its client.
    /// What can be answered in a moment is answered.
    pub(crate) fn is_waiting_still(&self) -> bool {
        self.0.call.is_waiting_still() && !self.is_bound()
    }

    /// Whether a call waits for its answer in vain: its client has closed its side, whatever it sent before, and is not
    /// answered all the same. It asks the system.
    pub(crate) fn has_left(&self) -> bool {
        self.0.call.is_watched() && !self.is_bound() && self.is_gone()
    }

    /// Reads and forgets what the client still sends, until it closes its side. Cancel-safe.
    pub(crate) async fn linger(&self) {
        std::future::poll_fn(|cx| {
            // Not in the future itself, which every connection has.
            let mut scrap = [0; 8 * 1024];
            loop {
                let mut scrap = ReadBuf::new(&mut scrap);
                let read = self.with_stream(|stream| stream.poll_read(cx, &mut scrap));
                let read = ready!(read);
                if read.is_err() || scrap.filled().is_empty() {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    /// Reading and writing happen in one task. Others only look at the socket, which waits for nothing.
    fn stream(&self) -> MutexGuard<'_, TcpStream> {
        self.0.stream.lock()
    }
}

/// The socket as hyper uses it.
#[derive(Debug)]
pub(crate) struct Socket {
    client: Client,
    stall: Option<Pin<Box<Sleep>>>,
    /// Whether hyper was not told the end of what the client sends.
    has_hidden_end: bool,
}

impl Socket {
    /// Notes whether the client takes its bytes, and gives up on one that does not.
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut blocked_since = self.client.0.write_blocked_since.lock();
        if written.is_ready() {
            if blocked_since.take().is_some() {
                self.stall = None;
                // Only now it can have the answer that its next call follows.
                self.client.0.call.note_idle();
            }
            return written;
        }
        blocked_since.get_or_insert_with(Instant::now);
        drop(blocked_since);
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
        let has_ended = matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == filled;
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
        let client = &self.client;
        if client.is_unflushed() {
            // After the last byte: a client that leaves now has it, or resets the connection.
            client.0.had_left.store(client.is_gone(), Ordering::Relaxed);
            client.0.is_unflushed.store(false, Ordering::Release);
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
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn what_was_not_written_to_the_end_has_not_reached_the_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, addr) = listener.accept().await.unwrap();
        let client = Client::new(stream, addr);
        let mut socket = client.socket();
        let bytes = [0; 64 * 1024];
        while !client.is_write_blocked() {
            // The client does not read: at some time the system takes no more.
            tokio::select! {
                biased;
                written = socket.write_all(&bytes) => written.unwrap(),
                () = std::future::ready(()) => {}
            }
        }
        assert!(!client.is_reset());
        drop(socket);
        assert!(!client.is_write_blocked() && client.is_reset());
    }
}
