//! Answers calls before the sidecar has its state.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderValue, header};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{ACCEPT_PAUSE, Listener};
use crate::api::while_starting;

/// The most connections at once: probes, and clients that are told to come back. More wait for them.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take to ask.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// Answers each call on `listener` with `cause`, until dropped. A connection that was accepted by then is answered all the
/// same, and one that was not is left to the sidecar.
pub(crate) async fn answer_while_starting(listener: &Listener, cause: Arc<Mutex<String>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.socket.accept().await else {
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
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // A client that leaves needs no answer.
            connection.await.ok();
            drop(place);
        });
    }
}
