//! The upstream's answers on their way back to the client.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{
    error::Error,
    kling::ANSWER_BYTES_MAX,
    records::Delivery,
    upstream::{Answer, BoxError, IdleError},
};

/// Which account answered, and after how many attempts.
const ACCOUNT: HeaderName = HeaderName::from_static("x-kling-account");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-kling-attempts");

/// What is percent-encoded in a header value. The percent sign is, too, so that the value can be decoded.
const INVISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// An answer of the upstream.
pub type Carried = Response<CarriedBody>;

/// The body of an answer of the upstream.
pub type CarriedBody = UnsyncBoxBody<Bytes, BoxError>;

/// `answer`, streamed as it comes.
pub(super) fn carried<B>(answer: Response<B>) -> Carried
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    answer.map(|body| {
        let failure = None;
        LateFailure { body, failure }.boxed_unsync()
    })
}

/// A body that fails one poll late: hyper drops what it has not written yet when a body fails, and the head of the
/// answer with it.
struct LateFailure<B> {
    body: B,
    failure: Option<BoxError>,
}

impl<B> Body for LateFailure<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Err(failure)) = frame else {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        };
        self.failure = Some(failure.into());
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// `answer`, delivered with its last byte.
pub(super) fn delivered(answer: Carried, delivery: Delivery) -> Carried {
    answer.map(|body| delivery.of(body).boxed_unsync())
}

/// Names the account that answered, if it is known, and one attempt.
pub(super) fn name_account<B>(answer: &mut Response<B>, email: Option<&str>) {
    let headers = answer.headers_mut();
    headers.insert(ATTEMPTS, attempts_value(1));
    let value = email.map(|email| {
        // Most e-mails are written as they are.
        if (email.bytes()).all(|byte| byte.is_ascii_graphic() && byte != b'%') {
            return HeaderValue::from_str(email);
        }
        HeaderValue::try_from(utf8_percent_encode(email, INVISIBLE).to_string())
    });
    if let Some(Ok(value)) = value {
        headers.insert(ACCOUNT, value);
    }
}

/// Tells how many attempts the answer took.
pub(super) fn count_attempts<B>(answer: &mut Response<B>, attempts: u32) {
    answer
        .headers_mut()
        .insert(ATTEMPTS, attempts_value(attempts));
}

/// Most calls take one attempt, which is written without an allocation.
fn attempts_value(attempts: u32) -> HeaderValue {
    match attempts {
        1 => HeaderValue::from_static("1"),
        _ => HeaderValue::from(attempts),
    }
}

/// A body that was read to its end, or up to [`ANSWER_BYTES_MAX`].
pub(super) struct PeekedBody {
    pub(super) bytes: Bytes,
    /// Few answers have them, and each answer is moved a few times.
    trailers: Option<Box<HeaderMap>>,
    end: PeekEnd,
    /// Whether the upstream announced its length.
    is_sized: bool,
    /// The rest. `None` once the answer came whole: then its place is free.
    rest: Option<Answer>,
}

/// How the reading of a body ended.
enum PeekEnd {
    Whole,
    /// It goes on beyond [`ANSWER_BYTES_MAX`].
    Longer,
    /// It broke off.
    Broken(IdleError),
}

/// Reads a body to its end, or up to [`ANSWER_BYTES_MAX`].
pub(super) async fn peek(mut body: Answer) -> PeekedBody {
    let is_sized = body.size_hint().exact().is_some();
    // Most answers come in one piece.
    let (mut bytes, mut joined) = (Bytes::new(), BytesMut::new());
    let mut trailers = None;
    let end = loop {
        match body.frame().await {
            None => break PeekEnd::Whole,
            Some(Err(error)) => break PeekEnd::Broken(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if bytes.is_empty() && joined.is_empty() => bytes = data,
                Ok(data) => {
                    joined.extend_from_slice(&mem::take(&mut bytes));
                    joined.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok().map(Box::new),
            },
        }
        // Of an answer with a length its end is known before it is asked for.
        if body.is_end_stream() {
            break PeekEnd::Whole;
        }
        if bytes.len() + joined.len() > ANSWER_BYTES_MAX {
            break PeekEnd::Longer;
        }
    };
    if bytes.is_empty() {
        bytes = joined.freeze();
    }
    PeekedBody {
        bytes,
        trailers,
        is_sized,
        rest: Some(body).filter(|_| !matches!(end, PeekEnd::Whole)),
        end,
    }
}

impl PeekedBody {
    /// Whether it came to its end.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.end, PeekEnd::Whole)
    }

    /// The decoded text, as far as it came. `None` if it cannot be decoded.
    pub(super) fn text(&self, headers: &HeaderMap) -> Option<Bytes> {
        accounts_fetcher::decoded(headers, self.bytes.clone(), ANSWER_BYTES_MAX)
    }

    /// Whether it broke off.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.end, PeekEnd::Broken(_))
    }
}

/// The answer for the client: what was read, and then the rest as it comes.
///
/// # Errors
/// [`Error::OutcomeUnknown`] if it broke off.
pub(super) fn into_response(answer: Response<PeekedBody>) -> Result<Carried, Error> {
    let (head, read) = answer.into_parts();
    if let PeekEnd::Broken(error) = read.end {
        tracing::debug!(%error, "an answer did not come whole");
        return Err(Error::OutcomeUnknown);
    }
    let body = PeekedThenRest {
        read: Some(read.bytes).filter(|read| !read.is_empty()),
        trailers: read.trailers,
        is_sized: read.is_sized,
        rest: read.rest,
    };
    Ok(carried(Response::from_parts(head, body)))
}

/// A body of which the beginning was read.
struct PeekedThenRest {
    read: Option<Bytes>,
    /// `None` if there is a `rest`.
    trailers: Option<Box<HeaderMap>>,
    /// Whether the upstream announced its length: then so do we.
    is_sized: bool,
    rest: Option<Answer>,
}

impl Body for PeekedThenRest {
    type Data = Bytes;
    type Error = IdleError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IdleError>>> {
        let read = self.read.take().map(Frame::data);
        let trailers = || Some(Frame::trailers(*self.trailers.take()?));
        match read.or_else(trailers) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => match &mut self.rest {
                Some(rest) => Pin::new(rest).poll_frame(cx),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_rest_over = self.rest.as_ref().is_none_or(Body::is_end_stream);
        self.read.is_none() && self.trailers.is_none() && is_rest_over
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.as_ref().map_or(0, |read| read.len() as u64);
        let rest = self.rest.as_ref().map(Body::size_hint);
        let rest = rest.unwrap_or_else(|| SizeHint::with_exact(0));
        let mut size = SizeHint::new();
        size.set_lower(rest.lower() + read);
        if let Some(upper) = rest.upper().filter(|_| self.is_sized) {
            size.set_upper(upper + read);
        }
        size
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use accounts_fetcher::{Credentials, tls_client_config};
    use http::Method;
    use http_body_util::Empty;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        events::Events,
        upstream::{Traffic, Upstream, UpstreamSettings},
    };

    #[tokio::test]
    async fn an_answer_that_came_whole_gives_its_place_back_before_it_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let patience = Duration::from_secs(20);
        let settings = UpstreamSettings {
            base_url: format!("http://{}", listener.local_addr().unwrap())
                .parse()
                .unwrap(),
            credentials: Credentials::new(&"t".into()).unwrap(),
            connect_timeout: patience,
            request_timeout: patience,
            idle_timeout: patience,
            requests_max: 1,
            events: Events::default(),
        };
        let tls = tls_client_config(&settings.base_url, &[]).unwrap();
        let upstream = Upstream::new(settings, tls).unwrap();
        let ask = async || {
            let asked = upstream.send(
                Traffic::Other,
                Method::GET,
                "/",
                HeaderMap::new(),
                Empty::<Bytes>::new(),
            );
            let answered = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert!(stream.read_buf(&mut request).await.unwrap() > 0);
                }
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
                stream.write_all(answer).await.unwrap();
            };
            let (answer, ()) = tokio::join!(asked, answered);
            peek(answer.unwrap().into_body()).await
        };
        let first = ask().await;
        let second = ask().await;
        assert!(first.is_whole() && second.is_whole());
    }
}
