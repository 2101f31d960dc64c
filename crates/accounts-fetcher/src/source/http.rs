//! `GET {base_url}/accounts`.
//!
//! Invariants: the token is sent to the configured host only, since redirects are never followed;
//! nothing is read beyond a limit or past a deadline. Each fetch has a connection of its own: with
//! one fetch per interval a pool would only add stale connections and hide DNS changes.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{self, ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap},
};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::ClientConfig;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};

use super::{encoding::Encoding, head::read_leniently, retry_after};
use crate::{
    Credentials, USER_AGENT,
    error::FetchError,
    judge::Answer,
    limits::{DECODED_BYTES_MAX, REFUSAL_BYTES_MAX, WIRE_BYTES_MAX},
    list::List,
};

/// The beginning, in any letter case, of a 404 that means that the token has no accounts.
const NOT_CONFIGURED: &str = "configuration not found";

/// The upstream's account list over HTTP.
pub struct HttpSource {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    uri: Uri,
    credentials: Credentials,
    idle_timeout: Duration,
}

impl HttpSource {
    /// A source under `base_url`, an absolute `http` or `https` URL, with or without a final slash.
    ///
    /// `connect_timeout` bounds a TCP connect, `idle_timeout` the pause between two pieces of a
    /// body. With a relative URL every fetch fails.
    #[must_use]
    pub fn new(
        base_url: Uri,
        credentials: Credentials,
        connect_timeout: Duration,
        idle_timeout: Duration,
        tls: Arc<ClientConfig>,
    ) -> HttpSource {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        HttpSource {
            client: read_leniently(&mut Client::builder(TokioExecutor::new()))
                .pool_max_idle_per_host(0)
                .build(HttpsConnector::from((tcp, tls))),
            uri: accounts_uri(base_url),
            credentials,
            idle_timeout,
        }
    }

    /// Tells when the token is replaced, from now on.
    pub(crate) fn token_replaced(&self) -> watch::Receiver<HeaderValue> {
        self.credentials.subscribe()
    }

    /// Fetches the list. `deadline` covers everything up to the last byte; decoding and parsing
    /// follow it on a blocking thread and are bounded by size.
    pub(crate) async fn fetch(&self, deadline: Duration) -> Result<Answer, FetchError> {
        let late = FetchError::Timeout("the deadline of the whole fetch passed");
        match timeout(deadline, self.exchange())
            .await
            .unwrap_or(Err(late))?
        {
            Reply::NotConfigured => Ok(Answer::NotConfigured),
            Reply::List(encoding, bytes) => spawn_blocking(move || {
                List::parse(&encoding.decode(bytes, DECODED_BYTES_MAX)?).map(Answer::Listed)
            })
            .await
            .expect("parsing does not panic"),
        }
    }

    async fn exchange(&self) -> Result<Reply, FetchError> {
        let response = self.client.request(self.request()).await;
        let (head, body) = response.map_err(FetchError::of_client)?.into_parts();
        match head.status {
            StatusCode::OK => {
                if !is_json(&head.headers) {
                    return Err(FetchError::ContentType);
                }
                let encoding = Encoding::of(&head.headers)?;
                let bytes = self.read(body, WIRE_BYTES_MAX).await?;
                Ok(Reply::List(encoding, bytes))
            }
            StatusCode::NOT_FOUND if self.is_not_configured(&head.headers, body).await => {
                Ok(Reply::NotConfigured)
            }
            status => Err(FetchError::Refused {
                status,
                is_json: is_json(&head.headers),
                retry_after: retry_after::of(&head.headers),
            }),
        }
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.credentials.authorization());
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        request
    }

    /// Reads the whole of `body`. Stops once it announces or contains more than `limit` bytes.
    async fn read(&self, mut body: Incoming, limit: usize) -> Result<Bytes, FetchError> {
        let unit = "bytes on the wire";
        if body.size_hint().lower() > limit as u64 {
            return Err(FetchError::TooLarge { limit, unit });
        }
        let mut bytes = BytesMut::new();
        loop {
            let stall = FetchError::Timeout("its body stalled");
            let frame = timeout(self.idle_timeout, body.frame()).await;
            let Some(frame) = frame.map_err(|_elapsed| stall)? else {
                return Ok(bytes.freeze());
            };
            // Trailers hold no accounts.
            let data = frame.map_err(FetchError::Body)?.into_data();
            let data = data.unwrap_or_default();
            if bytes.len() + data.len() > limit {
                return Err(FetchError::TooLarge { limit, unit });
            }
            bytes.extend_from_slice(&data);
        }
    }

    /// Whether a 404 means "no accounts" and not just "wrong URL". An unreadable body means
    /// neither.
    async fn is_not_configured(&self, headers: &HeaderMap, body: Incoming) -> bool {
        let limit = REFUSAL_BYTES_MAX;
        let text = async { Encoding::of(headers)?.decode(self.read(body, limit).await?, limit) };
        says_not_configured(&text.await.unwrap_or_default())
    }
}

/// Whether a 404 says that there are no accounts, in plain text or as the `error` of an envelope.
/// A page that merely contains the words does not.
#[must_use]
pub fn says_not_configured(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope {
        error: String,
    }
    let text = match serde_json::from_slice(body) {
        Ok(Envelope { error }) => error,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let head = text.trim_start().get(..NOT_CONFIGURED.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(NOT_CONFIGURED))
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the whole URL: its user information would be a secret.
        f.debug_struct("HttpSource")
            .field("host", &self.uri.host())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

enum Reply {
    List(Encoding, Bytes),
    NotConfigured,
}

fn accounts_uri(base_url: Uri) -> Uri {
    let path = format!("{}/accounts", base_url.path().trim_end_matches('/'));
    let mut parts = base_url.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    // A relative URL stays one, and the client refuses it.
    Uri::from_parts(parts).unwrap_or(base_url)
}

/// Whether the content type is JSON or missing.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence == "application/json" || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_one_segment_below_the_base_url() {
        for base_url in [
            "http://h:1/v1/kling",
            "http://h:1/v1/kling/",
            "http://h:1/v1/kling//?q=1",
        ] {
            assert_eq!(
                accounts_uri(base_url.parse().unwrap()),
                "http://h:1/v1/kling/accounts"
            );
        }
        assert_eq!(
            accounts_uri("http://h".parse().unwrap()),
            "http://h/accounts"
        );
        assert_eq!(
            accounts_uri("h:1".parse().unwrap()),
            "h:1",
            "a relative one stays relative"
        );
    }

    #[test]
    fn json_by_any_of_its_names_or_none_is_json() {
        let json = |value: &'static str| {
            is_json(&HeaderMap::from_iter([(
                CONTENT_TYPE,
                HeaderValue::from_static(value),
            )]))
        };
        assert!(json("application/json"));
        assert!(json("Application/JSON; charset=utf-8"));
        assert!(json("application/problem+json"));
        assert!(is_json(&HeaderMap::new()));
        assert!(!json("text/html"));
        assert!(!json("text/plain; application/json"));
        assert!(!json("application/jsonp"));
        assert!(!json(""));
    }

    #[test]
    fn only_the_upstreams_own_words_mean_that_there_are_no_accounts() {
        for said in [
            "Configuration not found. To create configuration use POST /accounts.",
            " configuration NOT found",
            r#"{"error":"Configuration not found.","code":404}"#,
        ] {
            assert!(says_not_configured(said.as_bytes()), "{said}");
        }
        for said in [
            "",
            "<html>configuration not found</html>",
            "Account configuration not found.",
            r#"{"error":"no such thing","message":"configuration not found"}"#,
        ] {
            assert!(!says_not_configured(said.as_bytes()), "{said}");
        }
    }
}
