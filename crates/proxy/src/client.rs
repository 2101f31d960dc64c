//! A small client of a running sidecar: `kling-balancer pick`, `accounts`, `release`, `healthcheck`.

mod accounts;
mod table;

use std::{
    error::Error as StdError,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use thiserror::Error;
use tokio::{net::TcpStream, time};

use crate::{cli::CliAsk, config::ClientConfig};

/// How long the sidecar may take to answer from its memory. A pick may wait for as long as it asks.
const DEADLINE: Duration = Duration::from_secs(3);
/// The most we read of an answer: ten thousand accounts, of which a page has far fewer.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why the sidecar's answer cannot be shown.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error("nothing listens on {addr}; is kling-balancer running there? See --listen")]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Something listens there, but does not answer as a sidecar.
    #[error("{addr} does not answer as kling-balancer does")]
    Unexpected {
        /// Where.
        addr: SocketAddr,
        /// What is unexpected.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It did not answer.
    #[error("{0} did not answer within {DEADLINE:?}")]
    TimedOut(SocketAddr),
    /// It refused, and says why.
    #[error("{said}")]
    Refused {
        /// What it says.
        said: String,
    },
}

/// Asks a running sidecar, and returns the text to print.
///
/// # Errors
/// [`ClientError`] if it refuses, or cannot be asked.
pub async fn ask(config: &ClientConfig, ask: &CliAsk) -> Result<String, ClientError> {
    match ask {
        CliAsk::Health => {
            let addr = config.metrics_listen.unwrap_or(config.listen);
            let client = Client::new(addr, None);
            let (status, said) = client.within(Method::GET, "/readyz?verbose").await?;
            if status.is_success() {
                return Ok(String::new());
            }
            let said = String::from_utf8_lossy(&said);
            let said = format!("not ready\n{}", said.trim_end());
            Err(ClientError::Refused { said })
        }
        CliAsk::Accounts { is_json } => {
            let client = Client::new(config.listen, config.token.as_ref());
            let json = client.accounts().await?;
            Ok(shown(json, *is_json, table::accounts))
        }
        CliAsk::Pick { query, is_json } => {
            let client = Client::new(config.listen, config.token.as_ref());
            let path = format!("/pick?{}", written(query));
            let json = client.json(Method::POST, &path, false).await?;
            Ok(shown(json, *is_json, table::picked))
        }
        CliAsk::Release { lease_id } => {
            let client = Client::new(config.listen, config.token.as_ref());
            let path = format!(
                "/leases/{}",
                utf8_percent_encode(lease_id, NON_ALPHANUMERIC)
            );
            client.json(Method::DELETE, &path, true).await?;
            Ok("released\n".to_owned())
        }
    }
}

fn shown(json: Value, is_json: bool, table: impl FnOnce(&Value) -> String) -> String {
    let text = if is_json {
        json.to_string()
    } else {
        table(&json)
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
    addr: SocketAddr,
    token: Option<&'a SecretString>,
}

impl<'a> Client<'a> {
    fn new(listen: SocketAddr, token: Option<&'a SecretString>) -> Self {
        let addr = reachable(listen);
        Self { addr, token }
    }

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
        let (Some(error), Some(reason)) = (json["error"].as_str(), json["reason"].as_str()) else {
            return Err(self.unexpected(format!("it answers {status}")));
        };
        let said = format!("{error} ({status}, {reason})");
        Err(ClientError::Refused { said })
    }

    async fn within(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let called = time::timeout(DEADLINE, self.call(method, path)).await;
        called.unwrap_or(Err(ClientError::TimedOut(self.addr)))
    }

    async fn call(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = TcpStream::connect(self.addr).await;
        let stream = stream.map_err(|source| ClientError::Unreachable {
            addr: self.addr,
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
        // A sidecar without client tokens serves loopback names only.
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("127.0.0.1:{}", self.addr.port()));
        if let Some(token) = self.token {
            let bearer = format!("Bearer {}", token.expose_secret());
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?)
    }

    fn unexpected(&self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> ClientError {
        ClientError::Unexpected {
            addr: self.addr,
            source: source.into(),
        }
    }
}

/// An address to call: a listener on all addresses is called on the loopback address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listen.port())
}
