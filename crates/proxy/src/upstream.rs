//! The only HTTP client of the upstream.
//!
//! Invariants: scheme and host always come from the base URL, never from a request, so the token
//! goes nowhere else; redirects are never followed. A request is sent at most once: it is repeated
//! only if a reused connection closed before its first byte. Every wait has a deadline, and places of each
//! kind bound the requests under way. While connections keep failing, requests are refused at once.
//!
//! The caller decides what an answer means.

mod alarm;
mod answer;
mod ask;
mod breaker;
mod connections;
mod dialer;
mod idle;
mod outgoing;
mod places;
mod received;
mod stream;

use std::{
    error::Error as StdError,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use accounts_fetcher::Credentials;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri,
    header::{AUTHORIZATION, HOST},
    uri::{PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::client::conn::TrySendError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::time::Instant;

pub use answer::Answer;
pub use ask::AskError;
pub use breaker::FAILURES_MAX;
pub use connections::KEPT_MAX;
pub use idle::{Idle, IdleError};
pub use places::{GIVES_WAY_AFTER, Traffic};

use crate::events::Events;
use alarm::Alarm;
use breaker::Breaker;
use connections::{Connection, Connections};
use outgoing::{OutgoingBody, Progress, Upload};
use places::Places;
use received::Received;

/// The characters that are encoded in a query to the upstream: everything but the unreserved
/// characters of RFC 3986 §2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `text` as the value of a field in a query to the upstream.
pub fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Any error of a body or a connector.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The address of the upstream, our token for it, and the timeouts.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// An absolute `http` or `https` URL, with or without a final slash.
    pub base_url: Uri,
    /// Shown with every request.
    pub credentials: Credentials,
    /// For one connection: name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the last piece of the request to the head of the answer, and between two pieces.
    pub request_timeout: Duration,
    /// Between two pieces of an answer's body, and for each piece of a request's to be taken.
    pub idle_timeout: Duration,
    /// The most requests under way at once, of all kinds: each has a connection of its own.
    pub requests_max: usize,
    /// Told when connecting begins to fail, and when it works again.
    pub events: Events,
}

/// Why no client can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UpstreamError {
    /// The base URL lacks its scheme or its host.
    #[error("the base URL of the upstream is not absolute")]
    RelativeUrl,
}

/// Why a request got no answer.
#[derive(Debug, Error)]
pub enum SendError {
    /// No byte of the request left: there was no connection, or the target is no URL.
    #[error("the request to the upstream was not sent")]
    NotSent(#[source] BoxError),
    /// No byte of the request left: as many requests of its kind are under way as may be.
    #[error("as many requests to the upstream are under way as may be")]
    NoPlace,
    /// The connection ended after bytes may have been sent.
    #[error("the connection to the upstream was lost")]
    Lost(#[source] BoxError),
    /// The request's own body ended early.
    #[error("the request body ended early")]
    Unfinished(#[source] BoxError),
    /// The upstream did not answer in time. It may have acted all the same.
    #[error("the upstream did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// What is asked for: a path with its query, which begins with `/`, is relative to the base URL and goes as it is.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The path with its query.
    pub text: &'a str,
    /// The target of a client's call. It is not written and read again where the upstream has the same path as we, as the
    /// vendor's has: that took 1,200 instructions of a call.
    pub came: Option<&'a PathAndQuery>,
}

impl<'a> From<&'a str> for Target<'a> {
    fn from(text: &'a str) -> Self {
        Self { text, came: None }
    }
}

/// A client of the upstream. Share it: its connections are pooled.
pub struct Upstream {
    connections: Connections,
    breaker: Arc<Breaker>,
    base_url: Uri,
    /// What requests name as their host.
    host: HeaderValue,
    /// The path of the base URL, without a final slash.
    base_path: String,
    credentials: Credentials,
    connect_timeout: Duration,
    request_timeout: Duration,
    idle_timeout: Duration,
    places: Places,
}

impl Upstream {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// [`UpstreamError`] if the settings can never make a request.
    pub fn new(settings: UpstreamSettings, tls: Arc<ClientConfig>) -> Result<Self, UpstreamError> {
        let base_url = settings.base_url.clone();
        if base_url.scheme().is_none() || base_url.host().is_none() {
            return Err(UpstreamError::RelativeUrl);
        }
        let breaker = Arc::new(Breaker::new(settings.events.clone()));
        let connections = Connections::new(&settings, tls, Arc::clone(&breaker));
        Ok(Self {
            connections,
            host: host(&base_url).ok_or(UpstreamError::RelativeUrl)?,
            breaker,
            base_path: base_url.path().trim_end_matches('/').to_owned(),
            base_url,
            credentials: settings.credentials,
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            idle_timeout: settings.idle_timeout,
            places: Places::new(settings.requests_max),
        })
    }

    /// False once [`FAILURES_MAX`] connections in a row could not be opened, until one can again.
    pub fn is_reachable(&self) -> bool {
        !self.breaker.is_open()
    }

    /// `text` without our token, where an answer repeats it.
    pub fn without_token(&self, text: &str) -> String {
        let shown = self.credentials.authorization();
        let token = shown.as_bytes().strip_prefix(b"Bearer ");
        match token.and_then(|token| std::str::from_utf8(token).ok()) {
            Some(token) if !token.is_empty() => text.replace(token, "<redacted>"),
            Some(_) | None => text.to_owned(),
        }
    }

    /// Sends a request and returns the head of its answer.
    ///
    /// Our `Authorization` and the upstream's `Host` replace those in `headers`. If too many requests of
    /// its kind are under way, this one waits for a place, at most as long as for a connection.
    /// Dropping the call closes the connection; then it is unknown whether the upstream acts.
    ///
    /// # Errors
    /// [`SendError`] says whether the upstream can have seen the request.
    pub async fn send<B>(
        &self,
        traffic: Traffic,
        method: Method,
        target: impl Into<Target<'_>>,
        mut headers: HeaderMap,
        body: B,
    ) -> Result<Response<Answer>, SendError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let uri = self.uri(target.into()).map_err(SendError::NotSent)?;
        if !self.is_reachable() {
            return Err(SendError::NotSent(
                "the last connections failed; connecting is retried in the background".into(),
            ));
        }
        let place = self.places.take(traffic, self.connect_timeout);
        let place = place.await.ok_or(SendError::NoPlace)?;
        headers.insert(HOST, self.host.clone());
        headers.insert(AUTHORIZATION, self.credentials.authorization());
        let (body, progress) = OutgoingBody::new(body);
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        *request.headers_mut() = headers;
        // Pinned, not moved: it holds the whole request.
        let progress_of_body = progress.as_deref();
        // A server may close a kept connection at the moment of the next request. Then it is unknown whether there is a
        // job: so each job start gets a connection of its own.
        let (answer, connection) = if traffic == Traffic::JobStart {
            (
                pin!(self.exchange_alone(request, progress_of_body)).await?,
                None,
            )
        } else {
            let exchange = pin!(self.exchange(request, progress_of_body));
            let (answer, connection) = exchange.await?;
            (answer, Some(connection))
        };
        if answer.status().is_informational() {
            return Err(SendError::Lost(
                "the upstream switched to another protocol".into(),
            ));
        }
        Ok(answer.map(|body| {
            let body = Idle::new(body, self.idle_timeout);
            Answer::new(body, connection, progress.map(Upload), place)
        }))
    }

    /// Sends a request on a connection that is kept, or else on a new one that is to be kept.
    /// `progress`: that of its body, if it has one.
    async fn exchange(
        &self,
        mut request: Request<OutgoingBody>,
        progress: Option<&Progress>,
    ) -> Result<(Response<Received>, Connection), SendError> {
        loop {
            let connection = self.connections.get().await;
            let mut connection = connection.map_err(SendError::NotSent)?;
            if let Some(progress) = progress {
                progress.mark();
            }
            // Not moved any more: it holds the whole request.
            let sending = pin!(connection.send(request));
            let sent = self.in_time(sending, &mut connection.alarm, progress);
            let mut error = match sent.await? {
                Ok(answer) => {
                    let answer = answer.map(|body| Received::new(body, None));
                    return Ok((answer, connection));
                }
                Err(error) => error,
            };
            match error.take_message() {
                // It was closed before a byte of the request was sent.
                Some(unsent) if connection.is_reused => request = unsent,
                unsent => return Err(failure(error, unsent.is_some(), progress)),
            }
        }
    }

    /// Sends a request on a new connection, which closes after the answer.
    async fn exchange_alone(
        &self,
        request: Request<OutgoingBody>,
        progress: Option<&Progress>,
    ) -> Result<Response<Received>, SendError> {
        let opened = self.connections.open().await;
        let (mut requests, mut driver) = opened.map_err(SendError::NotSent)?;
        if let Some(progress) = progress {
            progress.mark();
        }
        let mut sending = pin!(requests.try_send_request(request));
        let exchanging = pin!(poll_fn(|cx| {
            driver.drive(cx);
            sending.as_mut().poll(cx)
        }));
        let mut alarm = Alarm::default();
        match self.in_time(exchanging, &mut alarm, progress).await? {
            Ok(answer) => Ok(answer.map(|body| Received::new(body, Some(driver)))),
            Err(mut error) => {
                let is_unsent = error.take_message().is_some();
                Err(failure(error, is_unsent, progress))
            }
        }
    }

    /// The deadline of a request starts once it has a connection, and restarts with every piece of its body.
    async fn in_time<T>(
        &self,
        mut sending: Pin<&mut impl Future<Output = T>>,
        alarm: &mut Alarm,
        progress: Option<&Progress>,
    ) -> Result<T, SendError> {
        let begun = Instant::now();
        poll_fn(|cx| {
            if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                return Poll::Ready(Ok(sent));
            }
            let moved = progress.map_or(begun, Progress::last);
            ready!(alarm.poll_passed(cx, moved + self.request_timeout));
            Poll::Ready(Err(SendError::TimedOut(self.request_timeout)))
        })
        .await
    }

    /// The target of a request, as it stands in its first line.
    fn uri(&self, target: Target<'_>) -> Result<Uri, BoxError> {
        let Target { text, came } = target;
        if !text.starts_with('/') {
            return Err("the path does not begin with a slash".into());
        }
        let is_ours = |came: &&PathAndQuery| {
            let below = came.as_str().strip_prefix(&*self.base_path);
            below == Some(text)
        };
        if let Some(came) = came.filter(is_ours) {
            return Ok(Uri::from(came.clone()));
        }
        let mut whole = String::with_capacity(self.base_path.len() + text.len());
        whole.push_str(&self.base_path);
        whole.push_str(text);
        let whole = PathAndQuery::from_maybe_shared(Bytes::from(whole))?;
        Ok(Uri::from(whole))
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the whole URL: its user information would be a secret.
        f.debug_struct("Upstream")
            .field("host", &self.base_url.host())
            .finish_non_exhaustive()
    }
}

/// Why a request got no answer. `is_unsent`: no byte of it was sent.
fn failure(
    error: TrySendError<Request<OutgoingBody>>,
    is_unsent: bool,
    progress: Option<&Progress>,
) -> SendError {
    let error = error.into_error().into();
    if is_unsent {
        SendError::NotSent(error)
    } else if progress.is_some_and(Progress::has_failed) {
        SendError::Unfinished(error)
    } else {
        SendError::Lost(error)
    }
}

/// The host of a URL, with its port unless that is the usual one of the scheme. RFC 9110 §7.2.
fn host(url: &Uri) -> Option<HeaderValue> {
    let host = url.host()?;
    let usual = match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => 443,
        Some(_) | None => 80,
    };
    let named = match url.port_u16() {
        Some(port) if port != usual => format!("{host}:{port}"),
        Some(_) | None => host.to_owned(),
    };
    HeaderValue::try_from(named).ok()
}
