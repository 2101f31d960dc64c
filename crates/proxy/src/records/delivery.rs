//! An answer on its way to its client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};

use super::{JobRecords, Outcome, RecordId, State, receipts::Written};
use crate::peer::Client;

/// The answer to a job start, until it is known whether its client has it. Dropped before it was taken for
/// writing, the client was gone.
#[derive(Debug)]
pub(crate) struct Delivery {
    records: Arc<JobRecords>,
    to: Addressee,
    client: Client,
    is_taken: bool,
}

/// To whom the answer of a record goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressee {
    pub(super) id: RecordId,
    /// Counts those that it was promised to. 0: the client of the call that the record is about.
    pub(super) number: u32,
}

impl Delivery {
    pub(super) fn new(records: Arc<JobRecords>, to: Addressee, client: Client) -> Self {
        Self {
            records,
            to,
            client,
            is_taken: false,
        }
    }

    /// The record of the call.
    pub(crate) fn id(&self) -> RecordId {
        self.to.id
    }

    /// The client is told that there is no job, or that it is not known.
    pub(crate) fn take_error(mut self) {
        if self.client.is_gone() {
            return;
        }
        let record = self.records.get(self.to.id);
        match record.map(|record| record.outcome) {
            // Its client would know of no job.
            Some(Outcome::Accepted(_)) => {}
            // There may be a job: a client that was not told so may not start another one.
            Some(Outcome::Uncertain(_)) => self.take(),
            Some(
                Outcome::Waiting | Outcome::Submitting | Outcome::Refused(_) | Outcome::Unsent,
            )
            | None => {
                self.is_taken = true;
                self.records.note_taken(self.to, State::UsedUp);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn to(&self) -> Addressee {
        self.to
    }

    /// `body`, delivered with its last byte.
    pub(crate) fn of<B: Body>(self, body: B) -> DeliveredBody<B> {
        DeliveredBody {
            body,
            delivery: self,
        }
    }

    /// The last byte was taken for writing. Whether it reaches the client shows in a moment.
    fn take(&mut self) {
        if self.is_taken {
            return;
        }
        self.is_taken = true;
        let number = self.client.note_taken();
        let client = self.client.clone();
        self.records
            .note_taken(self.to, State::Written(client.clone()));
        self.records.watch(Written::new(self.to, client, number));
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.is_taken {
            self.records.note_taken(self.to, State::Undelivered);
        }
    }
}

/// A body that tells when its last byte was taken for writing.
#[derive(Debug)]
pub(crate) struct DeliveredBody<B: Body> {
    body: B,
    delivery: Delivery,
}

impl<B: Body> Drop for DeliveredBody<B> {
    fn drop(&mut self) {
        // An empty body is never asked for.
        if self.body.size_hint().exact() == Some(0) {
            self.delivery.take();
        }
    }
}

impl<B: Body + Unpin> Body for DeliveredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let is_last = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if is_last {
            self.delivery.take();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
