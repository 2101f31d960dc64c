//! Connections to the upstream: opened, and kept for further requests.
//!
//! A request has its connection for itself until its answer is over. Each result of connecting is reported to the
//! breaker.

use std::{
    collections::VecDeque,
    future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Poll, ready},
    time::Duration,
};

use accounts_fetcher::read_heads_leniently;
use http::Uri;
use hyper::{body::Incoming, client::conn::http1};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{
    BoxError, UpstreamSettings,
    alarm::Alarm,
    breaker::Breaker,
    dialer::Dialer,
    outgoing::OutgoingBody,
    received::{Driven, Driver, note_end},
};
use crate::boxed::pinned;

/// How long an unused connection is kept: less than the 5 s after which Node and uvicorn close it,
/// so that no request meets a closing connection.
const KEPT_FOR: Duration = Duration::from_secs(4);
/// How many unused connections are kept: a burst's worth, each for a few seconds.
pub const KEPT_MAX: usize = 64;
/// The most hyper buffers of one answer, its head included: the size of a socket's own buffer. A
/// slow reader takes four times as much, with what is buffered on its own side.
const ANSWER_BUFFER_MAX: usize = 64 * 1024;

/// Opens connections, and keeps those that are not in use.
pub(super) struct Connections {
    dialer: Dialer,
    breaker: Arc<Breaker>,
    /// Scheme and authority say where to connect.
    base_url: Uri,
    http: http1::Builder,
    kept: Arc<Kept>,
}

/// Where requests on a connection are given to it.
type Requests = http1::SendRequest<OutgoingBody>;

/// A connection that is in use. Dropped, it closes, unless it is [kept](Self::keep).
#[derive(Debug)]
pub(super) struct Connection {
    requests: Requests,
    /// For the deadlines of its requests.
    pub(super) alarm: Alarm,
    kept: Arc<Kept>,
    /// A request was sent on it before.
    pub(super) is_reused: bool,
}

impl Connections {
    pub(super) fn new(
        settings: &UpstreamSettings,
        tls: Arc<ClientConfig>,
        breaker: Arc<Breaker>,
    ) -> Self {
        let mut http = http1::Builder::new();
        read_heads_leniently(&mut http).max_buf_size(ANSWER_BUFFER_MAX);
        Self {
            dialer: Dialer::new(settings, tls),
            breaker,
            base_url: settings.base_url.clone(),
            http,
            kept: Arc::default(),
        }
    }

    /// A kept connection, or else a new one.
    ///
    /// # Errors
    /// Why none could be opened.
    pub(super) async fn get(&self) -> Result<Connection, BoxError> {
        let (requests, alarm, is_reused) = match self.kept.take() {
            Some(unused) => (unused.requests, unused.alarm, true),
            None => {
                let (requests, mut connection) = pinned(|| self.dial()).await?;
                // An async block would have room for the connection twice.
                tokio::spawn(future::poll_fn(move |cx| {
                    note_end(ready!(Pin::new(&mut connection).poll(cx)));
                    Poll::Ready(())
                }));
                (requests, Alarm::default(), false)
            }
        };
        Ok(Connection {
            requests,
            alarm,
            kept: Arc::clone(&self.kept),
            is_reused,
        })
    }

    /// A new connection for one request, and what drives it.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub(super) async fn open(&self) -> Result<(Requests, Driver), BoxError> {
        // Every request would have room for a TLS session in its future.
        let (requests, connection) = pinned(|| self.dial()).await?;
        Ok((requests, Driver::new(connection)))
    }

    async fn dial(&self) -> Result<(Requests, Box<Driven>), BoxError> {
        let dialed = self.dialer.clone().dial(self.base_url.clone()).await;
        match &dialed {
            Ok(_) => self.breaker.note_success(),
            Err(error) => (self.breaker).note_failure(&self.dialer, &self.base_url, error),
        }
        let (requests, connection) = self.http.handshake(dialed?).await?;
        Ok((requests, Box::new(connection)))
    }
}

impl Connection {
    /// Sends a request. Dropped before its answer, it closes the connection.
    ///
    /// # Errors
    /// With the request, if no byte of it was sent.
    pub(super) fn send(
        &mut self,
        request: http::Request<OutgoingBody>,
    ) -> impl Future<
        Output = Result<
            http::Response<Incoming>,
            hyper::client::conn::TrySendError<http::Request<OutgoingBody>>,
        >,
    > + use<> {
        self.requests.try_send_request(request)
    }

    /// Keeps it for further requests. It may still be busy with the end of an answer.
    pub(super) fn keep(self) {
        Kept::put(&self.kept, self.requests, self.alarm);
    }
}

/// The connections that are not in use, oldest first.
#[derive(Debug, Default)]
struct Kept(Mutex<KeptList>);

#[derive(Debug, Default)]
struct KeptList {
    unused: VecDeque<Unused>,
    /// A task closes those that are unused for too long.
    is_watched: bool,
}

#[derive(Debug)]
struct Unused {
    requests: Requests,
    alarm: Alarm,
    since: Instant,
}

impl Kept {
    /// The one that was used last, if it is ready.
    fn take(&self) -> Option<Unused> {
        let mut list = self.0.lock();
        list.close_old(Instant::now());
        // One that was closed is not ready.
        let idx = list.unused.iter().rposition(|it| it.requests.is_ready())?;
        list.unused.remove(idx)
    }

    fn put(kept: &Arc<Self>, requests: Requests, alarm: Alarm) {
        // At the end of the process an answer may be dropped after the runtime.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if requests.is_closed() {
            return;
        }
        let mut list = kept.0.lock();
        if list.unused.len() >= KEPT_MAX {
            list.unused.pop_front();
        }
        list.unused.push_back(Unused {
            requests,
            alarm,
            since: Instant::now(),
        });
        if !std::mem::replace(&mut list.is_watched, true) {
            runtime.spawn(close_unused(Arc::downgrade(kept)));
        }
    }
}

impl KeptList {
    fn close_old(&mut self, now: Instant) {
        let is_old = |it: &mut Unused| now.duration_since(it.since) >= KEPT_FOR;
        while self.unused.pop_front_if(is_old).is_some() {}
    }
}

/// Closes what is unused for too long, until nothing is kept.
async fn close_unused(kept: Weak<Kept>) {
    loop {
        let due = {
            let Some(kept) = kept.upgrade() else {
                return;
            };
            let mut list = kept.0.lock();
            list.close_old(Instant::now());
            let Some(oldest) = list.unused.front() else {
                list.is_watched = false;
                return;
            };
            oldest.since + KEPT_FOR
        };
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use accounts_fetcher::{Credentials, tls_client_config};
    use http::{HeaderMap, Method};
    use http_body_util::{BodyExt, Empty};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        events::Events,
        upstream::{Traffic, Upstream},
    };

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

    struct Stage {
        listener: TcpListener,
        upstream: Upstream,
    }

    impl Stage {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let base_url = format!("http://{}", listener.local_addr().unwrap());
            let minute = Duration::from_secs(60);
            let settings = UpstreamSettings {
                base_url: base_url.parse().unwrap(),
                credentials: Credentials::new(&"t".into()).unwrap(),
                connect_timeout: minute,
                request_timeout: minute,
                idle_timeout: minute,
                requests_max: 9,
                events: Events::default(),
            };
            let tls = tls_client_config(&settings.base_url, &[]).unwrap();
            let upstream = Upstream::new(settings, tls).unwrap();
            Self { listener, upstream }
        }

        async fn accept(&self) -> TcpStream {
            self.listener.accept().await.unwrap().0
        }

        /// Asks, and reads the answer.
        async fn ask(&self, traffic: Traffic) {
            let (headers, body) = (HeaderMap::new(), Empty::new());
            let sent = self.upstream.send(traffic, Method::GET, "/", headers, body);
            let answer = sent.await.unwrap().into_body().collect().await.unwrap();
            assert_eq!(answer.to_bytes(), b"{}"[..]);
        }
    }

    /// Answers one request.
    async fn answer(stream: &mut TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        stream.write_all(ANSWER).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_is_used_again_unless_a_job_is_started() {
        let stage = Stage::new().await;
        let answered = async {
            let mut first = stage.accept().await;
            answer(&mut first).await;
            answer(&mut first).await;
            let mut second = stage.accept().await;
            answer(&mut second).await;
            // The connection of a job start is not kept.
            assert_eq!(second.read(&mut [0]).await.unwrap(), 0);
            answer(&mut first).await;
        };
        let asked = async {
            stage.ask(Traffic::Other).await;
            stage.ask(Traffic::Question).await;
            stage.ask(Traffic::JobStart).await;
            stage.ask(Traffic::Other).await;
        };
        tokio::join!(answered, asked);
    }

    #[tokio::test]
    async fn a_kept_connection_that_was_closed_costs_no_request() {
        let stage = Stage::new().await;
        let answered = async {
            for _ in 0..9 {
                let mut stream = stage.accept().await;
                answer(&mut stream).await;
            }
        };
        let asked = async {
            for _ in 0..9 {
                stage.ask(Traffic::Other).await;
            }
        };
        tokio::join!(answered, asked);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_closes_its_connection() {
        let stage = Stage::new().await;
        let (headers, body) = (HeaderMap::new(), Empty::new());
        let sent = (stage.upstream).send(Traffic::Other, Method::GET, "/", headers, body);
        let answered = async {
            let mut stream = stage.accept().await;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{";
            stream.write_all(begun).await.unwrap();
            stream
        };
        let (sent, mut stream) = tokio::join!(sent, answered);
        drop(sent.unwrap());
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn unused_connections_are_closed_after_a_while() {
        let stage = Stage::new().await;
        let answered = async {
            let mut stream = stage.accept().await;
            answer(&mut stream).await;
            stream
        };
        let (mut stream, ()) = tokio::join!(answered, stage.ask(Traffic::Other));
        let kept_since = Instant::now();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(kept_since.elapsed().as_secs(), KEPT_FOR.as_secs());
        assert!(!stage.upstream.connections.kept.0.lock().is_watched);
    }
}
