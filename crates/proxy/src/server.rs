//! A listener and its connections: HTTP/1.1, bounded, drained on shutdown.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Door};

/// The most connections at once; further ones wait in the kernel's backlog. Room for the default
/// number of waiting picks, each of which holds one, and as many again that do not wait.
const CONNECTIONS_MAX: usize = 20_000;
/// How long a request head may take, and how long a connection may idle between requests. Longer
/// than the idle times of common clients (Node 5 s, Go 90 s is the exception), so that the client
/// closes first and no request meets a closing connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(100);
/// The largest request head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The pause after the system ran out of descriptors or memory: accepting at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `api` until `shutdown`, then lets running calls finish. Returns when none is left.
pub async fn serve(listener: TcpListener, api: Arc<Api>, door: Door, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let api = Arc::clone(&api);
        let answer = service_fn(move |request: Request<Incoming>| {
            let api = Arc::clone(&api);
            async move { Ok::<_, Infallible>(api.answer(request, door).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), answer);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection broke off");
            }
            drop(place);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// The error says nothing about the listener: the peer was gone before it was accepted.
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
