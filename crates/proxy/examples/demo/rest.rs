//! Plain HTTP as any client would speak it: a method, a path, JSON there, JSON back.
//!
//! Every status but 2xx is a [`Failure`] that names the call; nothing is sent twice.

use std::{borrow::Cow, error::Error, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;
use tokio::time;

/// How long an ordinary call may take: both servers answer from memory.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// The largest answer read: `/metrics` of three accounts is a hundredth of it.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How much of a refusal is shown.
const SAID_CHARS_MAX: usize = 300;

/// A call that did not end in 2xx.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It was refused.
    #[error("{call}: {status}: {said}")]
    Refused {
        /// Method and path.
        call: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        said: String,
    },
    /// There was no whole answer, or not the one that is documented.
    #[error("{call}: {problem}")]
    Unanswered {
        /// Method and path.
        call: String,
        /// What came instead.
        problem: Box<dyn Error + Send + Sync>,
    },
}

impl Failure {
    /// Whether the upstream provably did nothing: the call was wrong, or the account is full or broken (596).
    pub(crate) fn is_refusal(&self) -> bool {
        self.status()
            .is_some_and(|status| status.is_client_error() || status.as_u16() == 596)
    }

    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unanswered { .. } => None,
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The account that it is of, as the sidecar says; empty if it does not.
    pub(crate) account: String,
    /// How many accounts a job start was sent to; 1 if it does not say.
    pub(crate) attempts: u32,
    body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// One server to call.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    client: Client<HttpConnector, Full<Bytes>>,
    base_url: String,
    authorization: Option<HeaderValue>,
}

impl Server {
    /// A server below `base_url` that wants no token.
    pub(crate) fn new(base_url: String) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base_url,
            authorization: None,
        }
    }

    /// The same server with a header `Authorization` in every call.
    pub(crate) fn authorized(self, authorization: HeaderValue) -> Self {
        Self {
            authorization: Some(authorization),
            ..self
        }
    }

    /// Where it is.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Calls and returns the body of the answer.
    ///
    /// # Errors
    /// [`Failure`] if the answer is not 2xx, or there is none in time.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, Failure> {
        self.call_within(ANSWER_TIME_MAX, method, path, body).await
    }

    /// Like [`Server::call`], for calls that the server is asked to hold open.
    pub(crate) async fn call_within(
        &self,
        time_max: Duration,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, Failure> {
        let call = format!("{method} {path}");
        let answer = match time::timeout(time_max, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {time_max:?}").into()),
        };
        match answer {
            Ok((status, answer)) if status.is_success() => Ok(answer),
            Ok((status, answer)) => Err(Failure::Refused {
                call,
                status,
                said: beginning(&answer.text()),
            }),
            Err(problem) => Err(Failure::Unanswered { call, problem }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Answer), Box<dyn Error + Send + Sync>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_url));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let body = match body {
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(json.to_string())
            }
            None => Bytes::new(),
        };
        let (head, body) = self
            .client
            .request(request.body(Full::new(body))?)
            .await?
            .into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
        let account = head.headers.get("x-kling-account");
        let account = account.map_or(String::new(), |account| {
            String::from_utf8_lossy(account.as_bytes()).into_owned()
        });
        let attempts = head.headers.get("x-kling-attempts");
        let attempts = attempts.and_then(|count| count.to_str().ok()?.parse().ok());
        let answer = Answer {
            account,
            attempts: attempts.unwrap_or(1),
            body: body.to_bytes(),
        };
        Ok((head.status, answer))
    }
}

/// Reads the answer to `call` as JSON.
///
/// # Errors
/// [`Failure`] if it is not what is documented.
pub(crate) fn read<T: DeserializeOwned>(call: &str, answer: &Answer) -> Result<T, Failure> {
    serde_json::from_slice(&answer.body).map_err(|problem| Failure::Unanswered {
        call: call.to_owned(),
        problem: problem.into(),
    })
}

fn beginning(text: &str) -> String {
    text.trim().chars().take(SAID_CHARS_MAX).collect()
}
