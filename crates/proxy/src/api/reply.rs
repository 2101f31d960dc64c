//! What we answer with: JSON, text, and the one envelope of all our errors.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use serde::Serialize;

use super::{
    slices::Slices,
    status::{SharedText, StatusText},
};
use crate::{
    error::{Error, Facts},
    events::Subscription,
    forward::{Carried, CarriedBody},
    ledger::Hold,
    peer::{Progress, RunningCall},
    pool::TaskId,
    upstream::BoxError,
};

/// The product's name in `Proxy-Status`, RFC 9209 §2.
const PROXY_NAME: &str = "kling-balancer";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Every answer is about this moment; a cached lease would give one slot to two clients.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Enough for a refusal, or for a lease without a job.
const JSON_BYTES_USUAL: usize = 320;

/// The body of an answer, and the slot that it grants.
///
/// The slot is kept once the bytes are taken for writing. If the answer is dropped before that, its
/// slot goes back: no client can have learned of the lease.
///
/// It is moved some thirty times on its way to hyper, so it is kept small: what is in it has a box.
#[derive(Debug, Default)]
pub(crate) struct ReplyBody {
    /// `None`: nothing.
    inside: Option<Box<Inside>>,
    call: Option<RunningCall>,
}

#[derive(Debug, Default)]
struct Inside {
    content: Content,
    slot: Option<Hold>,
}

#[derive(Debug)]
enum Content {
    /// Ours, in one piece.
    Own(Option<Bytes>),
    /// Ours, slice by slice.
    Sliced(Box<Slices>),
    /// Ours, and others read it, too.
    Shared(SharedText),
    /// What happens, as long as the client reads it.
    Events(Subscription),
    /// The upstream's, as it comes.
    Carried(CarriedBody),
}

impl Default for Content {
    fn default() -> Self {
        Self::Own(None)
    }
}

impl ReplyBody {
    fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(Content::Own(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    fn of(content: Content) -> Self {
        let inside = Inside {
            content,
            slot: None,
        };
        Self {
            inside: Some(Box::new(inside)),
            call: None,
        }
    }

    fn content(&self) -> Option<&Content> {
        self.inside.as_ref().map(|inside| &inside.content)
    }

    /// Whether it is the upstream's.
    pub(crate) fn is_carried(&self) -> bool {
        matches!(self.content(), Some(Content::Carried(_)))
    }

    /// Whether it has no end of its own.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(self.content(), Some(Content::Events(_)))
    }

    /// Keeps the call open until this body has been taken for writing.
    ///
    /// An answer of ours reaches a client that has closed its sending side. One of the upstream ends with its client,
    /// since it may still be long in coming; so does one without an end.
    pub(crate) fn belong_to(&mut self, call: RunningCall) {
        call.note_answer(match self.content() {
            None | Some(Content::Own(_)) => Progress::Whole,
            Some(Content::Sliced(_) | Content::Shared(_)) => Progress::InPieces,
            Some(Content::Carried(_) | Content::Events(_)) => Progress::EndsWithClient,
        });
        self.call = Some(call);
    }

    /// Ties `slot` to the delivery of this body.
    pub(super) fn carry(&mut self, slot: Hold) {
        self.inside.get_or_insert_default().slot = Some(slot);
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(inside) = &mut self.inside else {
            return Poll::Ready(None);
        };
        if let Some(slot) = inside.slot.take() {
            slot.keep();
        }
        match &mut inside.content {
            Content::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Sliced(slices) => {
                let slice = slices.poll_next(cx);
                slice.map(|slice| Some(slice?.map(Frame::data).map_err(Into::into)))
            }
            Content::Shared(text) => {
                let piece = text.poll_next();
                piece.map(|piece| Some(piece?.map(Frame::data).map_err(Into::into)))
            }
            Content::Events(subscription) => {
                let next = subscription.poll_next(cx);
                next.map(|next| Some(next?.map(Frame::data).map_err(Into::into)))
            }
            Content::Carried(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content().is_none_or(|content| match content {
            Content::Own(bytes) => bytes.is_none(),
            Content::Sliced(slices) => slices.is_ended(),
            Content::Shared(text) => text.left() == 0,
            Content::Events(_) => false,
            Content::Carried(body) => body.is_end_stream(),
        })
    }

    fn size_hint(&self) -> SizeHint {
        match self.content() {
            None => SizeHint::with_exact(0),
            Some(Content::Own(bytes)) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Some(Content::Shared(text)) => SizeHint::with_exact(text.left()),
            Some(Content::Sliced(_) | Content::Events(_)) => SizeHint::default(),
            Some(Content::Carried(body)) => body.size_hint(),
        }
    }
}

/// An answer of ours.
pub(crate) type Reply = Response<ReplyBody>;

pub(super) fn json(value: &impl Serialize) -> Reply {
    let mut bytes = Vec::with_capacity(JSON_BYTES_USUAL);
    serde_json::to_writer(&mut bytes, value)
        .expect("our answers have string keys and no failing parts");
    written_json(bytes)
}

/// JSON that was written before.
pub(super) fn written_json(bytes: Vec<u8>) -> Reply {
    with_body(StatusCode::OK, JSON, ReplyBody::new(bytes))
}

pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    with_body(status, TEXT, ReplyBody::new(text))
}

pub(super) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Reply {
    let content_type = HeaderValue::from_static(content_type);
    with_body(status, content_type, ReplyBody::new(bytes))
}

/// An answer that is written slice by slice.
pub(super) fn sliced(content_type: &'static str, slices: Slices) -> Reply {
    let body = ReplyBody::of(Content::Sliced(Box::new(slices)));
    with_body(StatusCode::OK, HeaderValue::from_static(content_type), body)
}

/// An answer that others read, too.
pub(super) fn shared(content_type: &'static str, text: StatusText) -> Reply {
    let body = ReplyBody::of(Content::Shared(SharedText::new(text)));
    with_body(StatusCode::OK, HeaderValue::from_static(content_type), body)
}

/// An answer that tells what happens until the client leaves.
pub(super) fn events(subscription: Subscription) -> Reply {
    let body = ReplyBody::of(Content::Events(subscription));
    let content_type = HeaderValue::from_static("text/event-stream");
    let mut reply = with_body(StatusCode::OK, content_type, body);
    // nginx would hold events back until its buffer is full.
    let unbuffered = HeaderValue::from_static("no");
    reply.headers_mut().insert("x-accel-buffering", unbuffered);
    reply
}

fn with_body(status: StatusCode, content_type: HeaderValue, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    reply
}

/// An answer of the upstream.
pub(super) fn carried(answer: Carried) -> Reply {
    answer.map(|body| ReplyBody::of(Content::Carried(body)))
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::default());
    *reply.status_mut() = status;
    reply
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    error: String,
    code: u16,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u128>,
    request_id: &'a str,
    /// The tasks that the call may have become. Ids are strings, since many readers of JSON round
    /// numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<&'a str>,
}

pub(super) fn error(error: &Error, request_id: &str) -> Reply {
    let facts = error.facts();
    let mut reply = json(&Envelope {
        error: error.message(),
        code: facts.status.as_u16(),
        reason: facts.reason,
        retry_after_ms: facts.retry_after.map(|after| after.as_millis()),
        request_id,
        tasks: error.tasks().iter().map(TaskId::as_str).collect(),
    });
    refuse(&mut reply, facts);
    reply
}

/// Gives a reply the status and the headers of an error.
pub(super) fn refuse(reply: &mut Reply, facts: Facts) {
    *reply.status_mut() = facts.status;
    let headers = reply.headers_mut();
    let proxy_status = format!("{PROXY_NAME}; error={}", facts.proxy_error);
    if let Ok(value) = HeaderValue::try_from(proxy_status) {
        headers.insert("proxy-status", value);
    }
    if let Some(after) = facts.retry_after {
        // Whole seconds, rounded up: RFC 9110 §10.2.3.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    headers.extend(facts.header);
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::ledger::tests::{any_account, held, ledger_of, pick};

    async fn held_after(deliver: impl AsyncFnOnce(ReplyBody)) -> u32 {
        let (ledger, request) = (ledger_of(1), any_account());
        let mut body = ReplyBody::new("{}");
        let (_, hold) = pick(&ledger, &request).await.unwrap().into_parts();
        body.carry(hold);
        deliver(body).await;
        held(&ledger).await
    }

    #[test]
    fn the_body_of_an_answer_is_cheap_to_move() {
        // Up to 128 bytes, the compiler moves a value by itself, and beyond them by a call of `memcpy`.
        let bytes = size_of::<Reply>();
        assert!(bytes <= 128, "{bytes}");
    }

    #[tokio::test]
    async fn an_answer_that_is_written_leaves_the_slot_to_its_lease() {
        let deliver = async |body: ReplyBody| drop(body.collect().await.unwrap());
        assert_eq!(held_after(deliver).await, 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_never_written_takes_its_slot_along() {
        assert_eq!(held_after(async |body| drop(body)).await, 0);
    }
}
