//! Answers on their way back.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::upstream::{Answer, BoxError, IdleError};

/// The most of an answer that is read before it goes on: every work of a task takes about 1 KiB, and
/// a task has a dozen at most.
pub(super) const ANSWER_READ_MAX: usize = 1024 * 1024;

/// Which account answered, and after how many attempts.
const ACCOUNT: &str = "x-kling-account";
const ATTEMPTS: &str = "x-kling-attempts";

/// What cannot stand in a header as it is. The percent sign stays readable the other way round.
const INVISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// An answer of the upstream.
pub type Carried = Response<CarriedBody>;

/// The body of an answer of the upstream.
pub type CarriedBody = UnsyncBoxBody<Bytes, BoxError>;

/// `answer` as it comes.
pub(super) fn carried<B>(answer: Response<B>) -> Carried
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// Says on the answer which account it is of, if that is known.
pub(super) fn name_account<B>(answer: &mut Response<B>, email: Option<&str>) {
    let headers = answer.headers_mut();
    headers.insert(ATTEMPTS, HeaderValue::from(1));
    let value = email.map(|email| utf8_percent_encode(email, INVISIBLE).to_string());
    if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
        headers.insert(ACCOUNT, value);
    }
}

/// Says on the answer how many attempts it took.
pub(super) fn count_attempts<B>(answer: &mut Response<B>, attempts: u32) {
    answer
        .headers_mut()
        .insert(ATTEMPTS, HeaderValue::from(attempts));
}

/// An answer that was read to its end, or as far as [`ANSWER_READ_MAX`].
pub(super) struct Beginning {
    pub(super) bytes: Bytes,
    trailers: Option<HeaderMap>,
    end: End,
    rest: Answer,
}

/// How the reading of an answer ended.
enum End {
    Whole,
    /// It goes on beyond [`ANSWER_READ_MAX`].
    Longer,
    /// Its rest does not come.
    Broken(IdleError),
}

/// Reads an answer to its end, or as far as [`ANSWER_READ_MAX`].
pub(super) async fn begin(mut body: Answer) -> Beginning {
    let mut bytes = BytesMut::new();
    let mut trailers = None;
    let end = loop {
        match body.frame().await {
            None => break End::Whole,
            Some(Err(error)) => break End::Broken(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
        if bytes.len() > ANSWER_READ_MAX {
            break End::Longer;
        }
    };
    Beginning {
        bytes: bytes.freeze(),
        trailers,
        end,
        rest: body,
    }
}

impl Beginning {
    /// Whether it is the whole answer.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.end, End::Whole)
    }

    /// The answer as it came, and as its rest comes. Its length is known if the upstream told it.
    ///
    /// # Errors
    /// Why the rest does not come.
    pub(super) fn resume(self) -> Result<Resumed, IdleError> {
        match self.end {
            End::Broken(error) => Err(error),
            End::Whole | End::Longer => Ok(Resumed {
                read: Some(self.bytes).filter(|read| !read.is_empty()),
                trailers: self.trailers,
                rest: self.rest,
            }),
        }
    }
}

/// An answer of which the beginning was read.
pub(super) struct Resumed {
    read: Option<Bytes>,
    /// There only if nothing is left in `rest`.
    trailers: Option<HeaderMap>,
    rest: Answer,
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = IdleError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IdleError>>> {
        let read = self.read.take().map(Frame::data);
        match read.or_else(|| self.trailers.take().map(Frame::trailers)) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.trailers.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.as_ref().map_or(0, |read| read.len() as u64);
        let rest = self.rest.size_hint();
        let mut size = SizeHint::new();
        if let Some(upper) = rest.upper() {
            size.set_upper(upper + read);
        }
        size.set_lower(rest.lower() + read);
        size
    }
}
