//! Sockets: the accept loop and one task for each connection.
//!
//! An accept error never ends the listener; the stop token ends the listener and every connection.

use std::{error::Error, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{api, reply::Cut, shared::Shared};

/// How long a connection may stay idle or take to send a head: longer than the 90 s that hyper's
/// clients keep a connection, so that the two never race.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// How long to wait after an accept error, which usually means too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `stop`; `tasks` tracks them all.
pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, Arc::clone(&shared));
                tasks.spawn(stop.clone().run_until_cancelled_owned(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay not set");
    }
    let service = service_fn(move |request| api::answer(Arc::clone(&shared), request));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let Err(error) = (&mut connection).await else {
        return;
    };
    tracing::debug!(%error, "connection ended early");
    let cut = error
        .source()
        .and_then(|source| source.downcast_ref::<Cut>());
    if cut == Some(&Cut::Reset) {
        let stream = connection.into_parts().io.into_inner();
        if let Err(error) = stream.set_zero_linger() {
            tracing::warn!(%error, "connection closes instead of being reset");
        }
    }
}
