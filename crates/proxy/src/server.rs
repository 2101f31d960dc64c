//! A listener and its connections: HTTP/1.1, bounded, drained on shutdown.

mod socket;

use std::{future, io, pin::pin, sync::Arc, task::Poll, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::api::{Api, HEAD_BYTES_MAX, HEADERS_MAX, ListenerKind};
use socket::Peer;

/// How long a request head may take, and how long a connection may idle between requests. Longer
/// than the idle times of common clients (Node 5 s, Go 90 s), so that the client closes first and
/// no request meets a closing connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(100);
/// The pause after the system ran out of descriptors or memory: accepting at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may go on sending after its last answer. Closing at once would reset the
/// connection, and the answer to a request that was refused in mid-body would be lost with it.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// The client closed its side before its call was answered.
#[derive(Debug, Error)]
#[error("the client hung up")]
struct HungUp;

/// Serves `api` until `shutdown`, then lets running calls finish. Returns when no call is left.
///
/// At most `connections_max` clients are connected at once; further ones wait in the kernel.
pub(crate) async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    kind: ListenerKind,
    connections_max: usize,
    shutdown: CancellationToken,
) {
    let mut permits = ConnectionPermits {
        semaphore: Arc::new(Semaphore::new(connections_max)),
        are_exhausted: false,
    };
    let mut is_failing = false;
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &mut permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                is_failing = false;
                let (api, shutdown) = (Arc::clone(&api), shutdown.clone());
                connections.spawn(async move {
                    serve_connection(stream, api, kind, shutdown).await;
                    drop(permit);
                });
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
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Answers the calls of one connection.
async fn serve_connection(
    stream: TcpStream,
    api: Arc<Api>,
    kind: ListenerKind,
    shutdown: CancellationToken,
) {
    let peer = Peer::new(stream);
    let calls = TaskTracker::new();
    let answer = service_fn(|request: Request<Incoming>| {
        let (api, peer, call) = (Arc::clone(&api), peer.clone(), calls.token());
        async move {
            tokio::select! {
                biased;
                mut reply = api.answer(request, kind) => {
                    reply.body_mut().belong_to(call);
                    Ok(reply)
                }
                () = peer.hung_up() => Err(HungUp),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        // Twice what we allow, so that the answer to a head that is too large is ours.
        .max_headers(2 * HEADERS_MAX)
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(peer.socket()), answer);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A request that has not fully arrived is not running, and an idle connection is not
            // either.
            let is_idle = || calls.is_empty() && !peer.is_write_blocked();
            let idle = future::poll_fn(|_| if is_idle() { Poll::Ready(()) } else { Poll::Pending });
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = idle => Ok(()),
            }
        }
        ended = connection.as_mut() => ended,
    };
    match ended {
        Ok(()) => {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                _ = time::timeout(LINGER_MAX, peer.linger()) => {}
            }
        }
        Err(error) => tracing::debug!(%error, "connection broke off"),
    }
}

/// The permits for connections.
struct ConnectionPermits {
    semaphore: Arc<Semaphore>,
    are_exhausted: bool,
}

impl ConnectionPermits {
    /// Waits for a free permit. Logs once when there is none.
    async fn acquire(&mut self) -> io::Result<OwnedSemaphorePermit> {
        match Arc::clone(&self.semaphore).try_acquire_owned() {
            Ok(permit) => {
                self.are_exhausted = false;
                return Ok(permit);
            }
            Err(TryAcquireError::NoPermits) if !self.are_exhausted => {
                tracing::warn!("connection limit reached; new connections wait");
                self.are_exhausted = true;
            }
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {}
        }
        Arc::clone(&self.semaphore)
            .acquire_owned()
            .await
            .map_err(io::Error::other)
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &mut ConnectionPermits,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = permits.acquire().await?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
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
