//! A client without an HTTP library: it shows exactly what was on the wire.

use std::{io::ErrorKind, time::Duration};

use kling_sim::Sim;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// An answer as far as it arrived.
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
    open_with(sim, method, path, "", body.as_bytes()).await
}

/// As [`open`], with more header lines and any bytes.
pub(crate) async fn open_with(
    sim: &Sim,
    method: &str,
    path: &str,
    head: &str,
    body: &[u8],
) -> TcpStream {
    let mut stream = open_head(sim, method, path, head, body.len()).await;
    stream.write_all(body).await.unwrap();
    stream
}

/// As [`open_with`], with the body still to come.
pub(crate) async fn open_head(
    sim: &Sim,
    method: &str,
    path: &str,
    head: &str,
    length: usize,
) -> TcpStream {
    let token = sim.token();
    let head = format!("Authorization: Bearer {token}\r\nContent-Length: {length}\r\n{head}");
    open_raw(sim, method, &format!("/v1/kling{path}"), &head).await
}

pub(crate) async fn open_raw(sim: &Sim, method: &str, path: &str, head: &str) -> TcpStream {
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

/// Sends a request without a body, with these headers and without any other token.
pub(crate) async fn call_raw(sim: &Sim, method: &str, path: &str, head: &str) -> Answer {
    read(open_raw(sim, method, path, head).await).await
}

pub(crate) async fn get(sim: &Sim, path: &str) -> Answer {
    read(open(sim, "GET", path, "").await).await
}

pub(crate) async fn delete(sim: &Sim, path: &str) -> Answer {
    read(open(sim, "DELETE", path, "").await).await
}

/// Calls an operation with a JSON body.
pub(crate) async fn post(sim: &Sim, path: &str, body: &Value) -> Answer {
    read(open(sim, "POST", path, &body.to_string()).await).await
}

/// Calls an operation with a multipart body.
pub(crate) async fn post_form(sim: &Sim, path: &str, parts: &[(&str, &str)]) -> Answer {
    let part = |(name, value): &(&str, &str)| {
        format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body = parts.iter().map(part).collect::<String>() + "--xx--\r\n";
    let head = "Content-Type: multipart/form-data; boundary=xx\r\n";
    read(open_with(sim, "POST", path, head, body.as_bytes()).await).await
}

/// Starts a job with the given body.
pub(crate) async fn submit(sim: &Sim, body: &Value) -> Answer {
    post(sim, "/videos/text2video", body).await
}

/// Waits until the simulator shows what `is_so` looks for.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    let wait_max = Duration::from_secs(10);
    timeout(wait_max, wait).await.expect("it comes to be");
}
