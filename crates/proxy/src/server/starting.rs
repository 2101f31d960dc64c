//! Answers calls before the sidecar has its state.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderValue, header};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{ACCEPT_PAUSE, Listener};
use crate::api::while_starting;

/// The most connections at once: probes, and clients that are told to come back. More wait for them.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take to ask.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// Answers each call on `listener` with `cause`, until dropped. Connections that were not accepted by then are left to
/// the sidecar.
pub(crate) async fn answer_while_starting(listener: &Listener, cause: Arc<Mutex<String>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let cause = Arc::clone(&cause);
        let service = service_fn(move |request| {
            let mut reply = while_starting(&request, &cause.lock());
            let close = HeaderValue::from_static("close");
            reply.headers_mut().insert(header::CONNECTION, close);
            async { Ok::<_, Infallible>(reply) }
        });
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // A client that leaves needs no answer.
            connection.await.ok();
        });
    }
}
