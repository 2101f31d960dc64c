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

use crate::{
    error::Error,
    upstream::{Answer, BoxError, IdleError},
};

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
    /// Whether the upstream told its length.
    is_sized: bool,
    /// What is left to come. Nothing, and the place is given back, once the answer came whole.
    rest: Option<Answer>,
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
    let is_sized = body.size_hint().exact().is_some();
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
        is_sized,
        rest: Some(body).filter(|_| !matches!(end, End::Whole)),
        end,
    }
}

impl Beginning {
    /// Whether it is the whole answer.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.end, End::Whole)
    }

    /// Whether its rest does not come.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.end, End::Broken(_))
    }
}

/// An answer as it came, and as its rest comes.
///
/// # Errors
/// [`Error::OutcomeUnknown`] if its rest does not come.
pub(super) fn resumed(answer: Response<Beginning>) -> Result<Carried, Error> {
    let (head, read) = answer.into_parts();
    if let End::Broken(error) = read.end {
        tracing::debug!(%error, "an answer did not come whole");
        return Err(Error::OutcomeUnknown);
    }
    let body = Resumed {
        read: Some(read.bytes).filter(|read| !read.is_empty()),
        trailers: read.trailers,
        is_sized: read.is_sized,
        rest: read.rest,
    };
    Ok(carried(Response::from_parts(head, body)))
}

/// An answer of which the beginning was read.
struct Resumed {
    read: Option<Bytes>,
    /// There only if there is no `rest`.
    trailers: Option<HeaderMap>,
    /// Whether the upstream told its length: then so do we.
    is_sized: bool,
    rest: Option<Answer>,
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

    use accounts_fetcher::tls_client_config;
    use http::Method;
    use http_body_util::Empty;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::upstream::{Upstream, UpstreamSettings};

    #[tokio::test]
    async fn an_answer_that_came_whole_gives_its_place_back_before_it_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let patience = Duration::from_secs(20);
        let settings = UpstreamSettings {
            base_url: format!("http://{}", listener.local_addr().unwrap())
                .parse()
                .unwrap(),
            token: "t".into(),
            connect_timeout: patience,
            request_timeout: patience,
            idle_timeout: patience,
            requests_max: 1,
        };
        let upstream = Upstream::new(settings, tls_client_config().unwrap()).unwrap();
        let ask = async || {
            let asked = upstream.send(Method::GET, "/", HeaderMap::new(), Empty::<Bytes>::new());
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
            begin(answer.unwrap().into_body()).await
        };
        let first = ask().await;
        let second = ask().await;
        assert!(first.is_whole() && second.is_whole());
    }
}
