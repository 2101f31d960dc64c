//! A request's body on its way, and when it last moved.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;

use super::BoxError;

/// When a request with a body last moved, and whether its body failed or is of no more use.
#[derive(Debug)]
pub(super) struct Progress {
    last: Mutex<Instant>,
    has_failed: AtomicBool,
    /// The answer is over: what is left of the body is not sent.
    is_cut_off: AtomicBool,
    /// Who waits for the next piece of the body.
    sender: AtomicWaker,
}

impl Progress {
    fn begin() -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            has_failed: AtomicBool::new(false),
            is_cut_off: AtomicBool::new(false),
            sender: AtomicWaker::new(),
        }
    }

    pub(super) fn mark(&self) {
        *self.last.lock() = Instant::now();
    }

    pub(super) fn last(&self) -> Instant {
        *self.last.lock()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Acquire)
    }
}

/// The upload of a request that is answered. Dropped with the answer, it ends.
#[derive(Debug)]
pub(super) struct Upload(pub(super) Arc<Progress>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.is_cut_off.store(true, Ordering::Release);
        self.0.sender.wake();
    }
}

/// Any body. `None`: there is nothing to send, as in most requests.
pub(super) struct OutgoingBody(Option<UnsyncBoxBody<Bytes, BoxError>>);

/// A body that is sent. Every piece of it that is taken marks progress.
///
/// It fails once the answer is dropped: otherwise hyper would wait for the rest of the body and
/// neither close nor reuse the connection, <https://github.com/hyperium/hyper/issues/4176>.
struct Sent<B> {
    body: B,
    progress: Arc<Progress>,
}

/// The upstream does not read the rest of the request.
#[derive(Debug, Error)]
#[error("the answer came before the end of the request")]
struct Answered;

impl OutgoingBody {
    /// `body`, and its progress, if there is something to send.
    pub(super) fn new<B>(body: B) -> (Self, Option<Arc<Progress>>)
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        if body.is_end_stream() {
            return (Self(None), None);
        }
        let progress = Arc::new(Progress::begin());
        let sent = Sent {
            body,
            progress: Arc::clone(&progress),
        };
        (Self(Some(UnsyncBoxBody::new(sent))), Some(progress))
    }
}

impl<B> Body for Sent<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.progress.mark();
            if let Some(Err(_)) = &frame {
                self.progress.has_failed.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.progress.sender.register(cx.waker());
        if self.progress.is_cut_off() {
            return Poll::Ready(Some(Err(Answered.into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.0.as_ref().map_or_else(none, Body::size_hint)
    }
}
