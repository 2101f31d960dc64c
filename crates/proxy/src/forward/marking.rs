//! Marks on job starts: the `replyRef` that is put in, and what the upstream's answer says about it.

use std::{borrow::Cow, sync::Arc};

use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{
    buffered::OutgoingRequest,
    response::{self, PeekedBody},
    submissions::{JobStart, Reservation, Submissions},
};
use crate::{
    ledger::{MarkSubmission, NoteMarkFault},
    metrics::RetryReason,
    pool::{LeaseId, Mark, MarkFault, Settlement},
    upstream::SendError,
};

/// By this an answer that refuses a call names the mark.
const FIELD: &str = "replyRef";

/// A submission as it was sent last, and what came back.
pub(super) struct Exchange {
    pub(super) sent_at: Instant,
    /// The account that it was sent to.
    pub(super) email: Option<Arc<str>>,
    pub(super) answer: Result<Response<PeekedBody>, SendError>,
    /// What it was sent with.
    pub(super) mark: Option<Mark>,
    /// It was refused with a mark before, for the mark's sake.
    pub(super) is_repeated: bool,
}

impl Submissions {
    /// The mark that a job start is sent with. It has none where the client has its own `replyRef` or
    /// `replyUrl`, or the vendor documents none, or it is not known yet what the upstream does with marks.
    pub(super) async fn mark(&self, start: &JobStart, reservation: &Reservation) -> Option<Mark> {
        let Reservation::Slot(slot) = reservation else {
            return None;
        };
        if !start.request.takes_mark(&start.call) {
            return None;
        }
        let lease = slot.lease().id;
        self.ledger.call(MarkSubmission { lease }).await.ok()?
    }

    /// Sends a submission, and once more without its mark if it was refused for that.
    pub(super) async fn exchange(
        &self,
        start: &JobStart,
        lease: LeaseId,
        outgoing: OutgoingRequest,
        mark: Option<Mark>,
    ) -> Exchange {
        let mut exchange = self.send(start, outgoing).await;
        exchange.mark = mark;
        let is_refused = match &exchange.answer {
            Ok(answer) => mark.is_some() && names_mark(answer),
            Err(_) => false,
        };
        let email = exchange.email.as_ref();
        if is_refused && let Ok(unmarked) = start.request.outgoing(&start.call, email, None) {
            self.note_fault(lease, MarkFault::Refused).await;
            // The refused answer holds a place of a request to the upstream.
            drop(exchange);
            self.sender.count_retry(RetryReason::Mark);
            exchange = self.send(start, unmarked).await;
            exchange.is_repeated = true;
        }
        exchange
    }

    /// Tells the ledger what an answer says about the mark, before the submission is settled.
    pub(super) async fn judge_mark(
        &self,
        lease: LeaseId,
        exchange: (Option<Mark>, bool),
        status: StatusCode,
        settlement: &Settlement,
    ) {
        let fault = match (exchange, settlement) {
            ((None, true), Settlement::Accepted { .. }) => MarkFault::AcceptedWithout,
            ((Some(_), _), Settlement::Refused(_)) if is_server_error(status) => {
                MarkFault::ServerError
            }
            _ => return,
        };
        self.note_fault(lease, fault).await;
    }

    async fn note_fault(&self, lease: LeaseId, fault: MarkFault) {
        // Marks only help: if the ledger cannot be reached, the same shows again.
        _ = self.ledger.call(NoteMarkFault { lease, fault }).await;
    }

    async fn send(&self, start: &JobStart, outgoing: OutgoingRequest) -> Exchange {
        let OutgoingRequest {
            email,
            target,
            headers,
            body,
        } = outgoing;
        let sent_at = Instant::now();
        let sender = &self.sender;
        let call = &start.call;
        let target = target.map_or_else(|| call.target().into(), Cow::Owned);
        let sent = sender.send(call, target, headers, body, email.as_deref());
        let answer = match sent.await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok(Response::from_parts(head, response::peek(body).await))
            }
            Err(error) => Err(error),
        };
        Exchange {
            sent_at,
            email,
            answer,
            mark: None,
            is_repeated: false,
        }
    }
}

/// Whether an answer proves that a call was refused, and says that its mark is why.
fn names_mark(answer: &Response<PeekedBody>) -> bool {
    let refuses = matches!(
        answer.status(),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
    );
    let text = || answer.body().text(answer.headers()).unwrap_or_default();
    refuses && memchr::memmem::find(&text(), FIELD.as_bytes()).is_some()
}

/// Whether a status is an error of the server itself: 596 is one of an account.
fn is_server_error(status: StatusCode) -> bool {
    status.is_server_error() && status.as_u16() != 596
}
