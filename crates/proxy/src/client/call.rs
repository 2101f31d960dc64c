//! One call of a running sidecar.

use std::{error::Error as StdError, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::{net::TcpStream, time};

use super::error::ClientError;
use crate::config::{ClientConfig, in_words};

/// How long the sidecar may take to answer from its memory. A pick may wait for as long as it asks.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);
/// The most we read of an answer: the status of ten thousand accounts of 700 bytes, nine times over.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A header of a call.
pub(super) type Header = (HeaderName, HeaderValue);

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A client of one sidecar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    pub(super) config: &'a ClientConfig,
}

/// A part of a path, or the value of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A query of names and values.
pub(super) fn query(pairs: &[(&'static str, String)]) -> String {
    let pairs = pairs.iter();
    let pairs = pairs.map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

impl Client<'_> {
    /// The body of an answer of 2xx, which comes from the sidecar's memory.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        self.accepted(self.within(Method::GET, path, None).await?)
    }

    /// The JSON of an answer of 2xx.
    pub(super) fn json(&self, body: &[u8]) -> Result<Value, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.unexpected(error))
    }

    /// The body of an answer, if it is one of 2xx.
    pub(super) fn accepted(&self, answer: Answer) -> Result<Bytes, ClientError> {
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let json = serde_json::from_slice(&answer.body).unwrap_or_default();
        let refusal = self.refusal(answer.status, &json);
        Err(refusal.unwrap_or_else(|| self.unexpected(format!("it answers {}", answer.status))))
    }

    /// What a refusal says, in the words of a command line; `None` if it is not one of the sidecar's.
    pub(super) fn refusal(&self, status: StatusCode, json: &Value) -> Option<ClientError> {
        let (error, reason) = (json["error"].as_str()?, json["reason"].as_str()?);
        let not_allowed = match (reason, &self.config.token) {
            ("unauthorized", None) => {
                Some("it asks for a client token; name a file that holds one with --token-file")
            }
            ("unauthorized", Some(_)) => Some(
                "it does not take this client token; name a file that holds another one with \
                 --token-file",
            ),
            ("read-only", _) => Some(
                "this client token may only look; name a file that holds another one with --token-file",
            ),
            ("wrong-host", _) => Some(
                "it is not called by this name; use its address in --url, or add the name to its \
                 auth.allowed_hosts",
            ),
            _ => None,
        };
        let mut said = format!("{} ({status}, {reason})", not_allowed.unwrap_or(error));
        if let Some(after) = json["retryAfterMs"].as_u64() {
            // In whole seconds, like the header.
            let after = Duration::from_secs(after.div_ceil(1000));
            said += &format!("; come back in {}", in_words(after));
        }
        Some(if not_allowed.is_some() {
            ClientError::NotAllowed { said }
        } else {
            let comes_back = json["retryAfterMs"].is_u64();
            ClientError::Refused { said, comes_back }
        })
    }

    /// An answer that comes from the sidecar's memory.
    pub(super) async fn within(
        &self,
        method: Method,
        path: &str,
        header: Option<Header>,
    ) -> Result<Answer, ClientError> {
        let called = time::timeout(DEADLINE, self.call(method, path, header)).await;
        called.unwrap_or_else(|_elapsed| Err(ClientError::TimedOut(self.place())))
    }

    /// A whole answer, for which it waits as long as it takes.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        header: Option<Header>,
    ) -> Result<Answer, ClientError> {
        self.collected(self.open(method, path, header).await?).await
    }

    /// An answer with its whole body.
    pub(super) async fn collected(
        &self,
        answer: Response<Incoming>,
    ) -> Result<Answer, ClientError> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.unexpected(error))?.to_bytes();
        let (status, headers) = (head.status, head.headers);
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    /// An answer whose body has yet to come.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        header: Option<Header>,
    ) -> Result<Response<Incoming>, ClientError> {
        let url = &self.config.url;
        let stream = TcpStream::connect((url.host(), url.port)).await;
        let stream = stream.map_err(|source| ClientError::Unreachable {
            place: self.place(),
            source,
        })?;
        let answer = self.exchange(stream, method, path, header).await;
        answer.map_err(|error| self.unexpected(error))
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        method: Method,
        path: &str,
        header: Option<Header>,
    ) -> Result<Response<Incoming>, Box<dyn StdError + Send + Sync>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.config.url.authority());
        if let Some(token) = &self.config.token {
            let bearer = format!("Bearer {}", token.expose_secret());
            request = request.header(header::AUTHORIZATION, bearer);
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?)
    }

    pub(super) fn unexpected(
        &self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> ClientError {
        ClientError::Unexpected {
            place: self.place(),
            source: source.into(),
        }
    }

    pub(super) fn lost(&self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> ClientError {
        ClientError::Lost {
            place: self.place(),
            source: source.into(),
        }
    }

    pub(super) fn place(&self) -> String {
        self.config.url.to_string()
    }
}
