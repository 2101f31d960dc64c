//! Questions of our own to the upstream: a whole JSON answer, in time and within a limit.

use std::time::Duration;

use accounts_fetcher::USER_AGENT;
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{self, ACCEPT, ACCEPT_ENCODING},
};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use thiserror::Error;
use tokio::time::timeout;

use super::{Answer, IdleError, SendError, Traffic, Upstream};

/// The time for one question and its whole answer. It is far more than any answer takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// It was not sent, or no answer came.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The answer has another status than 200 and 404.
    #[error("the upstream answered with status {0}")]
    Refused(StatusCode),
    /// The answer is encoded in a way that cannot be decoded.
    #[error(
        "the upstream's answer is encoded, though that was not asked for, and cannot be decoded"
    )]
    Encoded,
    /// The answer is longer than the limit.
    #[error("the upstream's answer exceeds {0} bytes")]
    TooLarge(usize),
    /// The answer broke off.
    #[error("the upstream's answer ended early")]
    Incomplete(#[from] IdleError),
    /// The answer took too long.
    #[error("the upstream did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
}

impl Upstream {
    /// Asks with a `GET` of `path`, below the base URL. Returns status and body of an answer of 200 or
    /// 404, of at most `bytes_max` bytes. Cancel-safe.
    ///
    /// # Errors
    /// [`AskError`] if there is no such answer within 30 s.
    pub async fn ask(
        &self,
        traffic: Traffic,
        path: &str,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), AskError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let asked = async {
            let sent = self.send(traffic, Method::GET, path, headers, Empty::new());
            let response = sent.await?;
            let status = response.status();
            if !matches!(status, StatusCode::OK | StatusCode::NOT_FOUND) {
                return Err(AskError::Refused(status));
            }
            let (head, body) = response.into_parts();
            let bytes = read(body, bytes_max).await?;
            let text = accounts_fetcher::decoded(&head.headers, bytes, bytes_max);
            Ok((status, text.ok_or(AskError::Encoded)?))
        };
        let answered = timeout(ANSWER_TIMEOUT, asked).await;
        answered.unwrap_or(Err(AskError::TimedOut))
    }
}

async fn read(mut body: Answer, max: usize) -> Result<Bytes, AskError> {
    if body.size_hint().lower() > max as u64 {
        return Err(AskError::TooLarge(max));
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are no part of the content.
        let data = frame?.into_data().unwrap_or_default();
        if bytes.len() + data.len() > max {
            return Err(AskError::TooLarge(max));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}
