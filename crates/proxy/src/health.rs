//! `kling-balancer healthcheck`: asks a running sidecar whether it is ready.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time};

use crate::config::Config;

/// How long the sidecar may take to answer: it looks at its own memory.
const DEADLINE: Duration = Duration::from_secs(3);
/// The most we read of its answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Asks the sidecar that runs with these settings.
///
/// # Errors
/// If it is not ready, with what it says, or cannot be asked.
pub async fn check(config: &Config) -> Result<(), Box<dyn Error>> {
    let addr = reachable(config.metrics_listen.unwrap_or(config.listen));
    match time::timeout(DEADLINE, ask(addr)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{addr} did not answer within {DEADLINE:?}").into()),
    }
}

async fn ask(addr: SocketAddr) -> Result<(), Box<dyn Error>> {
    let stream = TcpStream::connect(addr).await.map_err(|error| {
        format!("nothing listens on {addr} ({error}); is kling-balancer running?")
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    // A sidecar without client tokens serves loopback names only.
    let request = Request::get("/readyz?verbose")
        .header(header::HOST, format!("127.0.0.1:{}", addr.port()))
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    connection.abort();
    if status.is_success() {
        return Ok(());
    }
    let said = body.map(|body| body.to_bytes()).unwrap_or_default();
    Err(format!("not ready\n{}", String::from_utf8_lossy(&said).trim_end()).into())
}

/// An address to call: a listener on every address is reached on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listen.port())
}
