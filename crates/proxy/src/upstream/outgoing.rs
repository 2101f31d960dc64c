//! A request's body on its way, and when it last moved.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::BoxError;

/// When a request last moved, and whether its body failed.
#[derive(Debug)]
pub(super) struct Progress {
    last: Mutex<Instant>,
    has_failed: AtomicBool,
}

impl Progress {
    pub(super) fn begin() -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            has_failed: AtomicBool::new(false),
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
}

/// Any body. Every piece of it that is taken marks progress.
///
/// It fails once the answer is dropped: otherwise hyper would wait for the rest of the body and
/// neither close nor reuse the connection, <https://github.com/hyperium/hyper/issues/4176>.
pub(super) struct OutgoingBody {
    body: UnsyncBoxBody<Bytes, BoxError>,
    progress: Arc<Progress>,
    answered: CancellationToken,
    /// Set once the body waits for its next piece.
    cut_off: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// The upstream does not read the rest of the request.
#[derive(Debug, Error)]
#[error("the answer came before the end of the request")]
struct Answered;

impl OutgoingBody {
    pub(super) fn new<B>(body: B, progress: Arc<Progress>, answered: CancellationToken) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            body: body.map_err(Into::into).boxed_unsync(),
            progress,
            answered,
            cut_off: None,
        }
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let outgoing = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut outgoing.body).poll_frame(cx) {
            outgoing.progress.mark();
            if let Some(Err(_)) = &frame {
                outgoing.progress.has_failed.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(frame);
        }
        let answered = &outgoing.answered;
        let cut_off = outgoing
            .cut_off
            .get_or_insert_with(|| Box::pin(answered.clone().cancelled_owned()));
        ready!(cut_off.as_mut().poll(cx));
        Poll::Ready(Some(Err(Answered.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
