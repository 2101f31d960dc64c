//! What a client still sends when it is answered.
//!
//! hyper closes a connection whose request was not read to its end, and does not say so: the client's next request
//! meets a closed connection. RFC 9112 §9.6 wants the end announced. So a call leaves what it did not read of its
//! [`RequestBody`] to a [`Rest`], which reads it if it is little, and else tells that the connection closes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::timeout,
};

/// The most bytes that are read of a request after its answer is known: what a system's socket buffers hold
/// anyway. For more, a new connection costs the client less.
const REST_BYTES_MAX: usize = 64 * 1024;
/// How long they may take. The answer waits for them, since its head says whether the connection closes.
const REST_TIME_MAX: Duration = Duration::from_secs(1);

/// The body of a client's request. Dropped before its end, it leaves what was not read to its [`Rest`].
///
/// The default is what stays where one is taken from, and is not used.
#[derive(Debug, Default)]
pub(crate) struct RequestBody {
    /// There until the drop.
    incoming: Option<Incoming>,
    /// Gone once the body has ended.
    rest: Option<oneshot::Sender<Left>>,
    /// Whether the client waits for `100 Continue`, which hyper says when the body is first asked for.
    is_held_back: bool,
}

/// What is left of a body.
#[derive(Debug)]
enum Left {
    Unread(Incoming),
    /// All of it: the client sends it only if it is asked to.
    HeldBack,
}

/// What a call leaves unread of its request.
#[derive(Debug, Default)]
pub(crate) struct Rest(Option<oneshot::Receiver<Left>>);

impl RequestBody {
    /// Takes the body of a request, so that what is left of it can be read later: by `rest`.
    pub(crate) fn split(request: Request<Incoming>, rest: &mut Rest) -> Request<Self> {
        // Most calls have no body, and nothing is left of it.
        let has_ended = request.body().is_end_stream();
        let is_held_back =
            !has_ended && request.version() > Version::HTTP_10 && asks_first(request.headers());
        let (unread, left) = (!has_ended).then(oneshot::channel).unzip();
        *rest = Rest(left);
        request.map(|incoming| Self {
            incoming: Some(incoming),
            rest: unread,
            is_held_back,
        })
    }

    fn incoming(&self) -> &Incoming {
        self.incoming.as_ref().expect("it is there until the drop")
    }
}

/// Whether the client waits for `100 Continue` before it sends its body, RFC 9110 §10.1.1.
fn asks_first(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::EXPECT).iter();
    lines.any(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_held_back = false;
        let incoming = self.incoming.as_mut();
        let incoming = incoming.expect("it is there until the drop");
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        // After an error hyper closes the connection, and says so.
        if !matches!(frame, Some(Ok(_))) || self.is_end_stream() {
            self.rest = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming().size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let (Some(rest), Some(incoming)) = (self.rest.take(), self.incoming.take()) else {
            return;
        };
        let left = if self.is_held_back {
            Left::HeldBack
        } else {
            Left::Unread(incoming)
        };
        // The answer may be on its way already; then it has said that the connection closes.
        drop(rest.send(left));
    }
}

impl Rest {
    /// Whether the request had no body.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the request has been read to its end.
    pub(crate) fn has_ended(&mut self) -> bool {
        let left = self.0.as_mut().map(oneshot::Receiver::try_recv);
        matches!(left, None | Some(Err(TryRecvError::Closed)))
    }

    /// Reads what the call has left, if it is little and comes soon. Whether the request has been read to its end
    /// then: only then can the connection carry another one. Cancel-safe.
    pub(crate) async fn read(mut self) -> bool {
        match self.0.as_mut().map(oneshot::Receiver::try_recv) {
            None | Some(Err(TryRecvError::Closed)) => true,
            Some(Ok(Left::Unread(body))) => timeout(REST_TIME_MAX, read_little(body))
                .await
                .unwrap_or(false),
            // Held back, or still in use: an upstream that failed may not have been told yet.
            Some(Ok(Left::HeldBack) | Err(TryRecvError::Empty)) => false,
        }
    }
}

async fn read_little(mut body: Incoming) -> bool {
    let mut allowed = REST_BYTES_MAX;
    while body.size_hint().lower() <= allowed as u64 {
        match body.frame().await {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(left) = allowed.checked_sub(length) else {
                    return false;
                };
                allowed = left;
            }
            Some(Err(_)) => return false,
            None => return true,
        }
    }
    false
}
