//! Answers and their bodies: whole ones, and ones that go wrong on purpose.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue},
};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::refusal::{Form, Refusal};

/// Why an answer ends early, and how the server then ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    #[error("the script closes the connection before the end of the answer")]
    Close,
    #[error("the script resets the connection before the end of the answer")]
    Reset,
}

/// The body of an answer.
pub(crate) type ReplyBody = BoxBody<Bytes, Cut>;

/// An answer of the simulator.
pub(crate) type Reply = Response<ReplyBody>;

/// The extension that marks an answer which a script wants sent unchanged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsScripted;

/// An answer with a whole body.
pub(crate) fn whole(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into())
        .map_err(|never| match never {})
        .boxed();
    with_body(status, media, body)
}

/// An answer whose body is JSON text.
pub(crate) fn json_text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    whole(status, "application/json", body)
}

/// A `200` with a JSON body.
pub(crate) fn ok(body: &Value) -> Reply {
    json_text(StatusCode::OK, body.to_string())
}

/// A `201` with a JSON body.
pub(crate) fn created(body: &Value) -> Reply {
    json_text(StatusCode::CREATED, body.to_string())
}

/// An answer after which the connection closes, since the rest of the request is not read.
pub(crate) fn closing(mut reply: Reply) -> Reply {
    let close = HeaderValue::from_static("close");
    reply.headers_mut().insert(CONNECTION, close);
    reply
}

/// A `204`.
pub(crate) fn no_content() -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// A JSON error with its status as `code`.
pub(crate) fn error(status: StatusCode, text: &str) -> Reply {
    json_text(
        status,
        json!({ "error": text, "code": status.as_u16() }).to_string(),
    )
}

/// An answer with any body.
pub(crate) fn with_body(status: StatusCode, media: &'static str, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    reply
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let (status, text) = (refusal.status(), refusal.to_string());
        match refusal.form() {
            Form::Text => whole(status, "text/plain; charset=utf-8", text),
            Form::Error => json_text(status, json!({ "error": text }).to_string()),
            Form::ErrorWithCode => error(status, &text),
            Form::ErrorWithMessage => {
                let message = "Service busy (CM_EXT.POther)";
                json_text(
                    status,
                    json!({ "error": text, "message": message }).to_string(),
                )
            }
        }
    }
}

/// How a [`Scripted`] body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order, after the last chunk.
    Whole,
    /// The connection is cut.
    Cut(Cut),
    /// Never: the connection stays open and silent.
    Stall,
}

/// A body sent chunk by chunk, and ended as the script says.
pub(crate) struct Scripted<I> {
    chunks: I,
    /// From a chunk to the next one.
    pause: Option<Duration>,
    /// Until the next chunk is due. A busy machine may be late, but not later with every chunk.
    pausing: Option<Pin<Box<Sleep>>>,
    end: End,
    is_flushed: bool,
}

impl<I> Scripted<I> {
    pub(crate) fn new(chunks: I, end: End) -> Self {
        Self {
            chunks,
            pause: None,
            pausing: None,
            end,
            is_flushed: false,
        }
    }

    pub(crate) fn pause(self, pause: Duration) -> Self {
        Self {
            pause: Some(pause),
            ..self
        }
    }
}

impl<I: Iterator<Item = Bytes> + Unpin> Body for Scripted<I> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(pausing) = &mut self.pausing {
            ready!(pin!(pausing).poll(cx));
        }
        if let Some(chunk) = self.chunks.next() {
            self.pausing = self.pause.map(|pause| {
                let due = self.pausing.as_ref().map(|it| it.deadline());
                Box::pin(sleep_until(due.unwrap_or_else(Instant::now) + pause))
            });
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Stall => Poll::Pending,
            End::Cut(cut) if self.is_flushed => Poll::Ready(Some(Err(cut))),
            End::Cut(_) => {
                // hyper flushes its buffer when a body is pending, and drops it when a body fails.
                self.is_flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
