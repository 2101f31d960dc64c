//! Job starts over sockets of our own: a client that gives up has read no byte of its answer.

use std::{net::SocketAddr, time::Duration};

use accounts_fetcher::decoded;
use harness::{Answer, within};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const JOB: &str = "/v1/kling/videos/text2video";
/// More than any answer takes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A job start as it is sent. `id`: its request id.
pub(crate) fn job_start(id: &str, media: &str, body: &str) -> String {
    format!(
        "POST {JOB} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {id}\r\nConnection: close\r\n\
         Content-Type: {media}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a request that closes its connection. `None`: no byte of the answer came in time, and the client has
/// left.
pub(crate) async fn answer_within(
    patience: Duration,
    addr: SocketAddr,
    request: &str,
) -> Option<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
        stream
    };
    let mut stream = timeout(patience, exchange).await.ok()?;
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    Some(parse(bytes))
}

/// An answer that ends with its connection, decoded.
fn parse(mut bytes: Vec<u8>) -> Answer {
    let separator = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = bytes.split_off(separator.unwrap() + 4);
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let lines = lines.map(|line| line.split_once(':').unwrap());
    let headers: HeaderMap = lines
        .map(|(name, value)| {
            (
                name.parse::<HeaderName>().unwrap(),
                value.trim().parse().unwrap(),
            )
        })
        .collect();
    assert!(!headers.contains_key("transfer-encoding"), "{headers:?}");
    let body = decoded(&headers, body.into(), ANSWER_BYTES_MAX).unwrap();
    Answer {
        status: status.parse::<StatusCode>().unwrap(),
        headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}
