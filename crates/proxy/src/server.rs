//! A listener and its connections: HTTP/1.1, bounded, drained on shutdown.

mod bell;
mod connections;
mod starting;

use std::{
    convert::Infallible,
    future, io, iter,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use http::{HeaderValue, Request, Version, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{self, Instant},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use connections::{Connection, Connections, Interrupt};
pub(crate) use starting::answer_while_starting;

use crate::{
    api::{Api, HEAD_BYTES_MAX, HEADERS_MAX, ListenerKind, Reply},
    peer::{Client, RequestBody, Rest},
};

/// The pause after the system ran out of descriptors or memory: accepting at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may go on sending after its last answer. Closing at once would reset the
/// connection, and the answer to a request that was refused in mid-body would be lost with it.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// How long a connection whose client was not told that it closes stays open after the listener closed: a
/// request may be on its way. A client that sends one call after the other is told meanwhile.
const LAST_REQUEST_MAX: Duration = Duration::from_secs(1);

/// How many connections the system accepts ahead of us. A client beyond them waits a second until it tries
/// again. Linux keeps no more than `net.core.somaxconn`, which is 4096 unless somebody changed it.
const BACKLOG: u32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// Whether it stays open in another process.
    pub(crate) is_passed: bool,
}

impl Listener {
    /// Listens on `addr`.
    ///
    /// # Errors
    /// Those of the system, such as that another process listens there.
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Connections of a process that has ended do not keep its successor from listening.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(Self {
            socket: socket.listen(BACKLOG)?,
            is_passed: false,
        })
    }
}

/// The two steps of a shutdown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    /// It has begun: every answer says that its connection closes. Connections are still accepted, and no
    /// call is cut off.
    pub(crate) begun: CancellationToken,
    /// The same, for each call to ask: a token has a lock.
    has_begun: Arc<AtomicBool>,
    /// The listener closes. Running calls finish.
    pub(crate) closing: CancellationToken,
}

impl Shutdown {
    /// Begins it.
    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
        self.begun.cancel();
    }

    /// The same, but the listener stays open.
    pub(crate) fn without_closing(self) -> Self {
        Self {
            closing: CancellationToken::new(),
            ..self
        }
    }
}

/// Serves `api` until the listener has to close, then lets running calls finish. Returns when no call is
/// left.
///
/// At most `connections_max` clients are connected at once. For further ones, idle ones are disconnected.
pub(crate) async fn serve(
    listener: Listener,
    api: Arc<Api>,
    kind: ListenerKind,
    connections_max: usize,
    shutdown: Shutdown,
) {
    let mut connections = Connections::new(connections_max);
    let Listener { socket, is_passed } = listener;
    let mut is_failing = false;
    let served = TaskTracker::new();
    let _looking = AbortOnDropHandle::new(tokio::spawn(connections.looking()));
    let serve = |connection| {
        let (api, shutdown) = (Arc::clone(&api), shutdown.clone());
        served.spawn(serve_connection(connection, api, kind, shutdown));
    };
    // It was accepted, and waits until it may be served.
    let mut next = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.closing.cancelled() => break,
            accepted = accept(&socket, &mut next, &mut connections) => accepted,
        };
        match accepted {
            Ok(connection) => {
                is_failing = false;
                next = None;
                serve(connection);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !is_failing {
                    tracing::warn!(
                        %error,
                        "cannot accept connections; trying again. Check the limit of open files"
                    );
                }
                is_failing = true;
                connections.free_one();
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let waiting = if is_passed {
        // The next process accepts what waits there.
        Vec::new()
    } else {
        accepted_by_system(socket)
    };
    for client in next.into_iter().chain(waiting) {
        let Some(connection) = connections.try_open(&client) else {
            break;
        };
        serve(connection);
    }
    connections.note_closed();
    served.close();
    served.wait().await;
}

/// Answers the calls of one connection.
async fn serve_connection(open: Connection, api: Arc<Api>, kind: ListenerKind, shutdown: Shutdown) {
    let calls = Calls {
        api: &api,
        kind,
        client: open.client(),
        has_begun: &shutdown.has_begun,
        is_told: AtomicBool::new(false),
        is_endless: AtomicBool::new(false),
    };
    let connection = http1::Builder::new()
        // The connections themselves look after late heads.
        .header_read_timeout(None)
        // Twice what we allow, so that the answer to a head that is too large is ours.
        .max_headers(2 * HEADERS_MAX)
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .serve_connection(
            TokioIo::new(open.client().socket()),
            service_fn(|request| calls.answer(request)),
        );
    let mut connection = pin!(connection);
    let mut idle = pin!(calls.until_idle());
    let mut is_closing = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = idle.as_mut(), if is_closing => break Ok(()),
            interrupt = open.interrupted() => match interrupt {
                Interrupt::ListenerClosed => is_closing = true,
                Interrupt::GivesWay | Interrupt::HeadIsLate | Interrupt::ClientLeft => {
                    tracing::debug!(cause = ?interrupt, "connection closed");
                    return;
                }
            },
        }
    };
    if let Err(error) = &ended {
        tracing::debug!(%error, "connection broke off");
    }
    // hyper answers a head that it cannot read, too.
    if ended.is_ok() || ended.is_err_and(|error| error.is_parse()) {
        tokio::select! {
            biased;
            () = shutdown.closing.cancelled() => {}
            _ = time::timeout(LINGER_MAX, open.client().linger()) => {}
        }
    }
}

/// The calls of a connection.
struct Calls<'a> {
    api: &'a Api,
    kind: ListenerKind,
    client: &'a Client,
    /// The process ends soon.
    has_begun: &'a AtomicBool,
    /// The client knows that the connection closes.
    is_told: AtomicBool,
    /// What is answered has no end of its own.
    is_endless: AtomicBool,
}

impl Calls<'_> {
    /// Answers one call. An answer that comes before the whole request was read says that the connection closes, unless
    /// what is left is read at once.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Reply, Infallible>> + Send {
        let call = self.client.begin_call();
        let version = request.version();
        let mut rest = Rest::default();
        let mut request = RequestBody::split(request, &mut rest);
        // Boxed, since it is moved on several times, and every connection has room for it while it is idle.
        let answering = Box::pin(self.api.answer(&mut request, self.kind, self.client));
        async move {
            let mut reply = answering.await;
            let mut is_read = true;
            // Boxed: the futures of all calls would have room for what few wait with.
            if !rest.is_none() {
                (reply, is_read) = Box::pin(async move {
                    // An answer of the upstream is not held up.
                    let is_read = if reply.body().is_carried() {
                        rest.has_ended()
                    } else {
                        rest.read().await
                    };
                    (reply, is_read)
                })
                .await;
                // The next call is waited for since now.
                self.client.note_answered(Instant::now());
            }
            let is_endless = reply.body().is_endless();
            // No second call follows on the connection of an answer without an end.
            let is_last = self.has_begun.load(Ordering::Relaxed) || is_endless;
            if is_last {
                self.is_told.store(true, Ordering::Relaxed);
            }
            if is_endless {
                self.is_endless.store(true, Ordering::Relaxed);
            }
            if is_last || !is_read {
                say_close(&mut reply, version);
            }
            reply.body_mut().belong_to(call);
            Ok(reply)
        }
    }

    /// Waits until a connection has nothing more to do, after the listener has closed. It is polled when the connection
    /// is.
    async fn until_idle(&self) {
        // The answer that tells the client closes the connection.
        let mut late = pin!(time::sleep(LAST_REQUEST_MAX));
        // A request that has not fully arrived is not running.
        future::poll_fn(|cx| {
            let is_told = self.is_told.load(Ordering::Relaxed);
            let is_expected = !is_told && late.as_mut().poll(cx).is_pending();
            let is_stuck = self.client.is_write_blocked();
            // An answer without an end that its client does not take is not waited for.
            let is_given_up = is_stuck && self.is_endless.load(Ordering::Relaxed);
            let is_running = self.client.idle_since().is_none() || is_stuck;
            if is_expected || (is_running && !is_given_up) {
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// Says that the connection closes. `version` is that of the request: to a client of HTTP/1.0 that keeps connections,
/// hyper would say `keep-alive` as well in an answer of HTTP/1.1.
fn say_close(reply: &mut Reply, version: Version) {
    *reply.version_mut() = version;
    let close = HeaderValue::from_static("close");
    reply.headers_mut().insert(header::CONNECTION, close);
}

/// Accepts the `next` connection, unless there is one, and waits until it may be served. Cancel-safe.
async fn accept(
    listener: &TcpListener,
    next: &mut Option<Client>,
    connections: &mut Connections,
) -> io::Result<Connection> {
    let client = match next {
        Some(client) => client,
        None => {
            let (stream, addr) = listener.accept().await?;
            stream.set_nodelay(true)?;
            next.insert(Client::new(stream, addr))
        }
    };
    Ok(connections.open(client).await)
}

/// Closes the listener. Returns the clients that the system has accepted until then.
fn accepted_by_system(listener: TcpListener) -> Vec<Client> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let waiting = iter::from_fn(|| {
        let (stream, addr) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(Client::new(TcpStream::from_std(stream).ok()?, addr))
    });
    waiting.take(BACKLOG as usize).collect()
}

/// Whether the error concerns one connection only: the peer left before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}
