//! The body of an answer, and what reads its connection.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use accounts_fetcher::Chain;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http1};

use super::{dialer, outgoing::OutgoingBody};

/// A connection as hyper drives it: polled, it writes the request and reads the answer.
pub(super) type Driven = http1::Connection<dialer::Connection, OutgoingBody>;

/// Drives a connection of one request within the call that waits for it. Dropped, it closes the connection.
///
/// A task of its own took 4,000 instructions of each job start: it and the call woke each other for each piece.
pub(super) struct Driver {
    /// There until its end.
    connection: Option<Box<Driven>>,
}

impl Driver {
    pub(super) fn new(connection: Box<Driven>) -> Self {
        Self {
            connection: Some(connection),
        }
    }

    /// Has what can go on go on. The task is woken for the rest.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Poll::Ready(ended) = Pin::new(connection).poll(cx) {
            note_end(ended);
            self.connection = None;
        }
    }
}

/// A connection has ended. The request that it carries is told, too.
pub(super) fn note_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = %Chain(&error), "a connection to the upstream broke off");
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = self.connection.is_some();
        f.debug_struct("Driver").field("is_open", &is_open).finish()
    }
}

/// The body of an answer, as it comes on its connection.
#[derive(Debug)]
pub(super) struct Received {
    body: Incoming,
    /// `None`: a task drives the connection.
    driver: Option<Driver>,
}

impl Received {
    /// The body that comes on a connection that a task drives, or else `driver`.
    pub(super) fn new(body: Incoming, driver: Option<Driver>) -> Self {
        Self { body, driver }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, driver } = &mut *self;
        let polled = Pin::new(&mut *body).poll_frame(cx);
        match driver {
            // The second poll takes what the connection has just read.
            Some(driver) if polled.is_pending() => {
                driver.drive(cx);
                Pin::new(body).poll_frame(cx)
            }
            Some(_) | None => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
