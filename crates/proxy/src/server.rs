//! A listener and its connections: HTTP/1.1, bounded, drained on shutdown.

mod connections;
mod starting;

use std::{
    future, io,
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
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use connections::{Connection, Connections};
pub(crate) use starting::answer_while_starting;

use crate::{
    api::{Api, HEAD_BYTES_MAX, HEADERS_MAX, ListenerKind, Reply},
    peer::{Client, Looks, RequestBody},
};

/// How long a request head may take, and how long a connection may idle between requests. Longer
/// than the idle times of common clients (Node 5 s, Go 90 s), so that the client closes first and
/// no request meets a closing connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(100);
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
    /// The listener closes. Running calls finish.
    pub(crate) closing: CancellationToken,
}

/// The client closed its side before its call was answered.
#[derive(Debug, Error)]
#[error("the client hung up")]
struct HungUp;

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
    let looks = Arc::<Looks>::default();
    let looking = Arc::clone(&looks);
    let _looking = AbortOnDropHandle::new(tokio::spawn(async move { looking.run().await }));
    let serve = |connection| {
        let (api, looks, shutdown) = (Arc::clone(&api), Arc::clone(&looks), shutdown.clone());
        served.spawn(serve_connection(connection, api, kind, looks, shutdown));
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
    served.close();
    served.wait().await;
}

/// Answers the calls of one connection.
async fn serve_connection(
    open: Connection,
    api: Arc<Api>,
    kind: ListenerKind,
    looks: Arc<Looks>,
    shutdown: Shutdown,
) {
    let (client, calls) = (open.client(), open.calls());
    let (is_told, is_endless) = (AtomicBool::new(false), AtomicBool::new(false));
    let answer = service_fn(|request: Request<Incoming>| {
        let (api, call) = (Arc::clone(&api), calls.token());
        let (begun, client, open) = (&shutdown.begun, client, &open);
        let (is_told, is_endless) = (&is_told, &is_endless);
        let looks = &*looks;
        let version = request.version();
        open.note_call();
        let answering = client.begin_answer();
        async move {
            let mut reply = tokio::select! {
                biased;
                reply = answer(&api, request, kind, client) => reply,
                () = client.left(looks) => return Err(HungUp),
            };
            // No second call follows on the connection of an answer without an end.
            if begun.is_cancelled() || reply.body().is_endless() {
                say_close(&mut reply, version);
                is_told.store(true, Ordering::Relaxed);
            }
            if reply.body().is_endless() {
                is_endless.store(true, Ordering::Relaxed);
            }
            reply.body_mut().belong_to(call, answering);
            open.note_call();
            Ok(reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        // Twice what we allow, so that the answer to a head that is too large is ours.
        .max_headers(2 * HEADERS_MAX)
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(client.socket()), answer);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        () = shutdown.closing.cancelled() => {
            let idle = until_idle(&open, &is_told, &is_endless);
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = idle => Ok(()),
            }
        }
        ended = connection.as_mut() => ended,
        () = open.gives_way() => {
            tracing::debug!("an idle connection was closed for a new one");
            return;
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
            _ = time::timeout(LINGER_MAX, client.linger()) => {}
        }
    }
}

/// Waits until a connection has nothing more to do, after the listener has closed. It is polled when the connection is.
/// `is_told`: its client knows that it closes. `is_endless`: what it answers has no end of its own.
async fn until_idle(open: &Connection, is_told: &AtomicBool, is_endless: &AtomicBool) {
    let (client, calls) = (open.client(), open.calls());
    // The answer that tells the client closes the connection.
    let mut late = pin!(time::sleep(LAST_REQUEST_MAX));
    // A request that has not fully arrived is not running.
    future::poll_fn(|cx| {
        let is_expected = !is_told.load(Ordering::Relaxed) && late.as_mut().poll(cx).is_pending();
        let is_stuck = client.is_write_blocked();
        // An answer without an end that its client does not take is not waited for.
        let is_given_up = is_stuck && is_endless.load(Ordering::Relaxed);
        let is_running = (!calls.is_empty() || is_stuck) && !is_given_up;
        if is_expected || is_running {
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// Answers one call. An answer that comes before the whole request was read says that the connection closes,
/// unless what is left is read at once.
async fn answer(
    api: &Api,
    request: Request<Incoming>,
    kind: ListenerKind,
    client: &Client,
) -> Reply {
    let version = request.version();
    let (request, mut rest) = RequestBody::split(request);
    let mut reply = api.answer(request, kind, client).await;
    // An answer of the upstream is not held up.
    let is_read = if reply.body().is_carried() {
        rest.has_ended()
    } else {
        rest.read().await
    };
    if !is_read {
        say_close(&mut reply, version);
    }
    reply
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
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            next.insert(Client::new(stream))
        }
    };
    Ok(connections.open(client).await)
}

/// Closes the listener. Returns the clients that the system has accepted until then.
fn accepted_by_system(listener: TcpListener) -> Vec<Client> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let waiting = listener.incoming().take(BACKLOG as usize);
    let clients = waiting.map_while(|stream| {
        let stream = stream.ok()?;
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok().map(Client::new)
    });
    clients.collect()
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
