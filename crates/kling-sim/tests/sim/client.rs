//! A client without a library in it: what it shows is what was on the wire.

use std::io::ErrorKind;

use kling_sim::Sim;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer as far as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// How the connection ended, unless it was closed in order.
    pub(crate) error: Option<ErrorKind>,
}

impl Answer {
    pub(crate) fn parse(wire: &[u8], error: Option<ErrorKind>) -> Self {
        let end = wire
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a whole head");
        let head = String::from_utf8(wire[..end].to_vec())
            .unwrap()
            .to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head,
            body: wire[end + 4..].to_vec(),
            error,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn content_length(&self) -> usize {
        self.header("content-length").unwrap().parse().unwrap()
    }
}

/// Sends a request with the right token and returns its connection.
pub(crate) async fn open(sim: &Sim, method: &str, path: &str, body: &str) -> TcpStream {
    let (token, length) = (sim.token(), body.len());
    let head = format!("Authorization: Bearer {token}\r\nContent-Length: {length}\r\n");
    let mut stream = open_raw(sim, method, &format!("/v1/kling{path}"), &head).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    stream
}

async fn open_raw(sim: &Sim, method: &str, path: &str, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(sim.addr()).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n{head}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads until the connection ends, one way or the other.
pub(crate) async fn read(mut stream: TcpStream) -> Answer {
    let mut wire = Vec::new();
    let error = stream
        .read_to_end(&mut wire)
        .await
        .err()
        .map(|error| error.kind());
    Answer::parse(&wire, error)
}

/// Sends a request without a body, with these headers and no token but theirs.
pub(crate) async fn call_raw(sim: &Sim, method: &str, path: &str, head: &str) -> Answer {
    read(open_raw(sim, method, path, head).await).await
}

pub(crate) async fn get(sim: &Sim, path: &str) -> Answer {
    read(open(sim, "GET", path, "").await).await
}

pub(crate) async fn delete(sim: &Sim, path: &str) -> Answer {
    read(open(sim, "DELETE", path, "").await).await
}

/// Starts a job with the given body.
pub(crate) async fn submit(sim: &Sim, body: &Value) -> Answer {
    read(open(sim, "POST", "/videos/text2video", &body.to_string()).await).await
}
