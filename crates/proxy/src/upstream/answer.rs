//! The body of an answer. It holds the request's permit and its upload.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::DropGuard;

use super::{Idle, IdleError};

/// The body of an answer, as it comes.
///
/// Dropping it returns the request's permit and ends the rest of the request's own body: an
/// upstream that answered will not read it.
#[derive(Debug)]
pub struct Answer {
    body: Idle<Incoming>,
    _upload: DropGuard,
    _permit: OwnedSemaphorePermit,
}

impl Answer {
    pub(super) fn new(
        body: Idle<Incoming>,
        upload: DropGuard,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            body,
            _upload: upload,
            _permit: permit,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = IdleError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IdleError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
