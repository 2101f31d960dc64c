use std::{error::Error, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time};
use tokio_util::task::AbortOnDropHandle;

use crate::PATIENCE;

/// An answer, with its body as text.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its header lines.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

impl Answer {
    /// The body, which must be JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The lease of a pick, which must be granted.
    #[track_caller]
    pub fn lease(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }

    /// Checks the whole shape of one of our own errors.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, reason: &str) {
        assert_eq!(
            (self.status.as_u16(), self.json()["reason"].as_str()),
            (status, Some(reason)),
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(body["code"], status);
        assert!(!body["error"].as_str().unwrap().is_empty());
        assert_eq!(body["requestId"], self.header("x-request-id"));
        assert!(
            self.header("proxy-status")
                .starts_with("kling-balancer; error=")
        );
        let comes_back = matches!(status, 429 | 503 | 409) || reason == "upstream-unreachable";
        assert_eq!(
            self.headers.contains_key(header::RETRY_AFTER),
            comes_back,
            "{self:?}"
        );
        assert_eq!(body["retryAfterMs"].is_u64(), comes_back, "{self:?}");
        if comes_back {
            let seconds: u64 = self.header("retry-after").parse().unwrap();
            let millis = body["retryAfterMs"].as_u64().unwrap();
            assert!(seconds >= 1 && seconds * 1000 >= millis && millis > 0);
        }
    }

    /// The value of a header line, which must be there.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .to_str()
            .unwrap()
    }
}

/// Sends a request whose answer must come whole.
pub async fn send(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let answered = try_send(addr, method, path, headers, body);
    let answer = time::timeout(PATIENCE, answered).await.expect("no answer");
    answer.unwrap()
}

/// Sends a request whose answer may not come whole. Dropped, its client has left.
///
/// # Errors
///
/// If no whole answer came.
pub async fn try_send(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::builder().method(method).uri(path);
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request = request.header(header::HOST, addr.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let text = body.collect().await?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        text: String::from_utf8(text.to_vec())?,
    })
}
