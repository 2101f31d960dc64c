//! A client's socket that we can watch while hyper reads and writes it.
//!
//! hyper notices that a client is gone only while its read buffer is empty: after one byte beyond
//! the request, a pick would go on waiting for a client that hung up. It also lets a client that
//! never reads keep its connection for ever. This module fixes both. What a client still sends when it is answered:
//! [`request`]. Whether a call runs on its connection: [`call`]. What hyper has of it: [`socket`].

mod call;
mod request;
mod socket;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, ready},
};

use parking_lot::{Mutex, MutexGuard};
use rustix::event::{self, PollFd, PollFlags, Timespec};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use call::CallState;
pub(crate) use call::{Progress, RunningCall};
pub(crate) use request::{RequestBody, Rest};
pub(crate) use socket::Socket;

/// The client at the other end of a connection, watched beside hyper. It keeps the socket open.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Mutex<TcpStream>,
    ip: IpAddr,
    accepted_at: Instant,
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
    /// Whether everything had been read that the client had sent when the last byte of its answer had been written.
    was_heard_out: AtomicBool,
    /// How many answers were taken for writing whose receipt is of interest.
    taken_count: AtomicU64,
    /// How many of them the client has had: it has sent more since.
    followed_count: AtomicU64,
}

/// A client whose connection may have ended.
#[derive(Clone, Debug)]
pub(crate) struct WeakClient(Weak<Shared>);

impl WeakClient {
    /// Whether it has closed its sending side, or its connection has ended. It asks the system.
    pub(crate) fn is_gone(&self) -> bool {
        self.upgrade().is_none_or(|client| client.is_gone())
    }

    /// Whether its connection is broken or has ended, as far as the server has noticed.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.upgrade().is_none_or(|client| client.is_broken())
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
            accepted_at: Instant::now(),
            write_blocked_since: Mutex::default(),
            is_broken: AtomicBool::new(false),
            is_bound: AtomicBool::new(false),
            call: CallState::idle(),
            is_unflushed: AtomicBool::new(false),
            had_left: AtomicBool::new(false),
            was_heard_out: AtomicBool::new(false),
            taken_count: AtomicU64::new(0),
            followed_count: AtomicU64::new(0),
        }))
    }

    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.0))
    }

    /// The address that it calls from.
    pub(crate) fn ip(&self) -> IpAddr {
        self.0.ip
    }

    /// When its connection was accepted.
    pub(crate) fn accepted_at(&self) -> Instant {
        self.0.accepted_at
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

    /// Whether reading or writing has failed, as far as the server has noticed.
    pub(crate) fn is_broken(&self) -> bool {
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
        // A system that cannot tell is no sign that the client is gone.
        self.look().is_some_and(|seen| seen.intersects(flags))
    }

    /// What the system says of the socket, if it can tell.
    fn look(&self) -> Option<PollFlags> {
        let stream = self.stream();
        let mut polled = [PollFd::new(&*stream, PollFlags::RDHUP | PollFlags::IN)];
        let at_once = Timespec::default();
        event::poll(&mut polled, Some(&at_once)).ok()?;
        Some(polled[0].revents())
    }

    /// The socket for hyper.
    pub(crate) fn socket(&self) -> Socket {
        Socket::of(self.clone())
    }

    /// The last byte of an answer is taken for writing. Returns the number of the answer, for
    /// [`has_followed`](Self::has_followed).
    pub(crate) fn note_taken(&self) -> u64 {
        self.0.is_unflushed.store(true, Ordering::Release);
        self.0.taken_count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether the client has sent its next call after it could read this answer. No client sends another call before
    /// it has the answer to one that starts a job: RFC 9112 §9.3.2 forbids it, since it could not know what to repeat.
    pub(crate) fn has_followed(&self, answer: u64) -> bool {
        self.0.followed_count.load(Ordering::Relaxed) >= answer
    }

    /// The client has sent something.
    fn note_heard(&self) {
        let shared = &self.0;
        if !self.is_unflushed() && shared.was_heard_out.load(Ordering::Relaxed) {
            let taken_count = shared.taken_count.load(Ordering::Relaxed);
            shared.followed_count.store(taken_count, Ordering::Relaxed);
        }
    }

    /// What was taken for writing has been written.
    fn note_flushed(&self) {
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let seen = self.look();
        let has_left = seen.is_some_and(|seen| seen.intersects(ends)) || self.is_broken();
        let is_heard_out = seen.is_some_and(|seen| !seen.contains(PollFlags::IN));
        self.0.had_left.store(has_left, Ordering::Relaxed);
        self.0.was_heard_out.store(is_heard_out, Ordering::Relaxed);
        self.0.is_unflushed.store(false, Ordering::Release);
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

    /// The answer of the call that runs was known at `now`. If it is one piece, the next call is waited for since then.
    pub(crate) fn note_answered(&self, now: Instant) {
        self.0.call.note_idle_at(now);
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

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

    #[tokio::test]
    async fn a_client_that_asks_on_has_its_answer_unless_it_asked_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await;
        let mut theirs = theirs.unwrap();
        let (stream, addr) = listener.accept().await.unwrap();
        let client = Client::new(stream, addr);
        let mut socket = client.socket();
        for (is_early, has_followed) in [(false, true), (true, false), (false, true)] {
            let answer = client.note_taken();
            if is_early {
                theirs.write_all(b"?").await.unwrap();
                while !client.has(PollFlags::IN) {}
            }
            socket.write_all(b"!").await.unwrap();
            assert!(!client.has_followed(answer), "it is not written yet");
            socket.flush().await.unwrap();
            assert!(!client.has_followed(answer));
            if !is_early {
                theirs.write_all(b"?").await.unwrap();
            }
            assert_eq!(socket.read_u8().await.unwrap(), b'?');
            assert_eq!(client.has_followed(answer), has_followed, "{is_early}");
        }
    }
}
