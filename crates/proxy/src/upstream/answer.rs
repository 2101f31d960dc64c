//! The body of an answer. It holds the request's place and its upload.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Idle, IdleError,
    connections::Connection,
    outgoing::Upload,
    places::{Listed, Place},
    received::Received,
};

/// The body of an answer, as it comes.
///
/// Dropping it frees the request's place and ends the rest of the request's own body: an upstream that
/// answered will not read it. Where places are short, an answer that is not read ends early.
#[derive(Debug)]
pub struct Answer {
    held: Arc<Held>,
    _listed: Option<Listed>,
}

/// What an answer holds, unless it gave its place away.
#[derive(Debug)]
pub(super) struct Held(Mutex<Option<Parts>>);

#[derive(Debug)]
struct Parts {
    body: Idle<Received>,
    /// Since when a piece of it is not asked for. `None` while a reader waits for the upstream.
    unread_since: Option<Instant>,
    _upload: Option<Upload>,
    /// `None`: it closes after the answer.
    connection: Option<Connection>,
    _place: Place,
}

impl Drop for Parts {
    fn drop(&mut self) {
        // An answer that was not read to its end closes it.
        if let Some(connection) = self.connection.take() {
            connection.keep();
        }
    }
}

impl Answer {
    pub(super) fn new(
        body: Idle<Received>,
        connection: Option<Connection>,
        upload: Option<Upload>,
        place: Place,
    ) -> Self {
        let mut listed = None;
        let held = Arc::new_cyclic(|held| {
            listed = place.list(held.clone());
            Held(Mutex::new(Some(Parts {
                body,
                unread_since: Some(Instant::now()),
                connection,
                _upload: upload,
                _place: place,
            })))
        });
        Self {
            held,
            _listed: listed,
        }
    }
}

impl Held {
    /// Since when its reader takes nothing. `None` if the reader waits, or there is nothing to take any more.
    pub(super) fn unread_since(&self) -> Option<Instant> {
        self.0.lock().as_ref()?.unread_since
    }

    /// Closes the connection to the upstream, unless the reader waits for a piece now.
    pub(super) fn give_way(&self) {
        let mut parts = self.0.lock();
        if parts
            .as_ref()
            .is_some_and(|parts| parts.unread_since.is_some())
        {
            *parts = None;
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = IdleError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IdleError>>> {
        let mut parts = self.held.0.lock();
        let Some(parts) = &mut *parts else {
            return Poll::Ready(Some(Err(IdleError::GaveWay)));
        };
        let polled = Pin::new(&mut parts.body).poll_frame(cx);
        parts.unread_since = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        let parts = self.held.0.lock();
        parts
            .as_ref()
            .is_some_and(|parts| parts.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let parts = self.held.0.lock();
        let hint = parts.as_ref().map(|parts| parts.body.size_hint());
        hint.unwrap_or_default()
    }
}
