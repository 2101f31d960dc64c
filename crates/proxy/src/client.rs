//! A small client of a running sidecar: `kling-balancer pick`, `accounts`, `release`, `healthcheck`.

mod accounts;
mod state;
mod table;

use std::{error::Error as StdError, io, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde_json::Value;
use thiserror::Error;
use tokio::{net::TcpStream, time};

use crate::{
    cli::CliAsk,
    config::{ClientConfig, in_words},
};

/// How long the sidecar may take to answer from its memory. A pick may wait for as long as it asks.
const DEADLINE: Duration = Duration::from_secs(3);
/// The most we read of an answer: ten thousand accounts, of which a page has far fewer.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What to print, and what is wrong all the same.
#[derive(Debug)]
pub struct Said {
    /// For standard output.
    pub text: String,
    /// Why the answer is not what was hoped for.
    pub problem: Option<ClientError>,
}

/// Why the sidecar's answer cannot be shown, or is none.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error("nothing answers at {place}; is kling-balancer running there? See --url")]
    Unreachable {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// Something listens there, but does not answer as a sidecar.
    #[error("{place} does not answer as kling-balancer does; see --url")]
    Unexpected {
        /// Where.
        place: String,
        /// What is unexpected.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It did not answer.
    #[error("{0} did not answer within {DEADLINE:?}")]
    TimedOut(String),
    /// It refused, and says why.
    #[error("{said}")]
    Refused {
        /// What it says.
        said: String,
    },
    /// There is no account to show.
    #[error("no account is known yet: {why}")]
    NoAccount {
        /// Why not.
        why: String,
    },
    /// A pick would be refused now.
    #[error("no account can be picked now")]
    NoneEligible,
}

/// Asks a running sidecar.
///
/// # Errors
/// [`ClientError`] if it refuses, or cannot be asked.
pub async fn ask(config: &ClientConfig, ask: &CliAsk) -> Result<Said, ClientError> {
    let client = Client { config };
    match ask {
        CliAsk::Health { is_live } => {
            let path = if *is_live {
                "/livez"
            } else {
                "/readyz?verbose"
            };
            let (status, said) = client.within(Method::GET, path).await?;
            if status.is_success() {
                return Ok(Said::whole(String::new()));
            }
            let said = String::from_utf8_lossy(&said);
            let state = if *is_live { "not alive" } else { "not ready" };
            let said = format!("{state}\n{}", said.trim_end());
            Err(ClientError::Refused { said })
        }
        CliAsk::Accounts { is_json } => {
            let json = client.accounts().await?;
            let is_empty = json["accounts"].as_array().is_none_or(Vec::is_empty);
            let problem = if is_empty {
                Some(client.why_no_account().await?)
            } else {
                None
            };
            let text = match (is_json, is_empty) {
                (false, true) => String::new(),
                _ => shown(&json, *is_json, table::accounts),
            };
            Ok(Said { text, problem })
        }
        CliAsk::Pick { query, is_json } => {
            let path = format!("/pick?{}", written(query));
            let json = client.json(Method::POST, &path, false).await?;
            let none_eligible = json["eligible"].as_array().is_some_and(Vec::is_empty);
            let text = shown(&json, *is_json, table::picked);
            let problem = none_eligible.then_some(ClientError::NoneEligible);
            Ok(Said { text, problem })
        }
        CliAsk::State { is_json } => {
            let text = client.text("/metrics").await?;
            let state = state::of_metrics(&text);
            let table = |state: &Value| state::table(state, Timestamp::now());
            Ok(Said::whole(shown(&state, *is_json, table)))
        }
        CliAsk::Release { lease_id } => {
            let id = utf8_percent_encode(lease_id, NON_ALPHANUMERIC);
            let path = format!("/leases/{id}");
            client.json(Method::DELETE, &path, true).await?;
            Ok(Said::whole("released\n".to_owned()))
        }
    }
}

impl Said {
    fn whole(text: String) -> Self {
        let problem = None;
        Self { text, problem }
    }
}

fn shown(json: &Value, is_json: bool, table: impl FnOnce(&Value) -> String) -> String {
    let text = if is_json {
        json.to_string()
    } else {
        table(json)
    };
    text + "\n"
}

fn written(query: &[(&'static str, String)]) -> String {
    let pairs = query.iter().map(|(name, value)| {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        format!("{name}={value}")
    });
    pairs.collect::<Vec<_>>().join("&")
}

struct Client<'a> {
    config: &'a ClientConfig,
}

impl Client<'_> {
    /// The JSON of an answer of 2xx.
    async fn json(&self, method: Method, path: &str, is_quick: bool) -> Result<Value, ClientError> {
        let (status, body) = if is_quick {
            self.within(method, path).await?
        } else {
            self.call(method, path).await?
        };
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let json: Value = serde_json::from_slice(&body).map_err(|error| self.unexpected(error))?;
        if status.is_success() {
            return Ok(json);
        }
        match self.refusal(status, &json) {
            Some(said) => Err(ClientError::Refused { said }),
            None => Err(self.unexpected(format!("it answers {status}"))),
        }
    }

    /// The text of an answer of 2xx.
    async fn text(&self, path: &str) -> Result<String, ClientError> {
        let (status, body) = self.within(Method::GET, path).await?;
        if status.is_success() {
            return String::from_utf8(body.into()).map_err(|error| self.unexpected(error));
        }
        let json = serde_json::from_slice(&body).unwrap_or_default();
        match self.refusal(status, &json) {
            Some(said) => Err(ClientError::Refused { said }),
            None => Err(self.unexpected(format!("it answers {status}"))),
        }
    }

    /// What a refusal says, in the words of a command line; `None` if it is not one of the sidecar's.
    fn refusal(&self, status: StatusCode, json: &Value) -> Option<String> {
        let (error, reason) = (json["error"].as_str()?, json["reason"].as_str()?);
        let error = match (reason, &self.config.token) {
            ("unauthorized", None) => {
                "it asks for a client token; name a file that holds one with --token-file"
            }
            ("unauthorized", Some(_)) => {
                "it does not take this client token; name a file that holds another one with \
                 --token-file"
            }
            ("read-only", _) => {
                "this client token may only look; name a file that holds another one with --token-file"
            }
            ("wrong-host", _) => {
                "it is not called by this name; use its address in --url, or add the name to its \
                 auth.allowed_hosts"
            }
            _ => error,
        };
        let mut said = format!("{error} ({status}, {reason})");
        if let Some(after) = json["retryAfterMs"].as_u64() {
            // In whole seconds, like the header.
            let after = Duration::from_secs(after.div_ceil(1000));
            said += &format!("; come back in {}", in_words(after));
        }
        Some(said)
    }

    /// Why there is no account.
    async fn why_no_account(&self) -> Result<ClientError, ClientError> {
        let (status, body) = self.within(Method::GET, "/readyz").await?;
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        let refusal = json.and_then(|json| self.refusal(status, &json));
        let why = refusal.unwrap_or_else(|| "the account list is empty".to_owned());
        Ok(ClientError::NoAccount { why })
    }

    async fn within(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let called = time::timeout(DEADLINE, self.call(method, path)).await;
        called.unwrap_or_else(|_elapsed| Err(ClientError::TimedOut(self.place())))
    }

    async fn call(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let url = &self.config.url;
        let stream = TcpStream::connect((url.host(), url.port)).await;
        let stream = stream.map_err(|source| ClientError::Unreachable {
            place: self.place(),
            source,
        })?;
        let answer = self.exchange(stream, method, path).await;
        let answer = answer.map_err(|error| self.unexpected(error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body
            .collect()
            .await
            .map_err(|error| self.unexpected(error))?;
        Ok((status, body.to_bytes()))
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        method: Method,
        path: &str,
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
        let request = request.body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?)
    }

    fn unexpected(&self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> ClientError {
        ClientError::Unexpected {
            place: self.place(),
            source: source.into(),
        }
    }

    fn place(&self) -> String {
        self.config.url.to_string()
    }
}
