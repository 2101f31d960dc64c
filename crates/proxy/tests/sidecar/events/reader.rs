//! A client that reads events.

use std::net::SocketAddr;

use harness::{Running, within};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
};

/// An event as it came.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) id: u64,
    pub(super) kind: String,
    pub(super) data: Value,
}

pub(super) struct Reader {
    stream: BufReader<TcpStream>,
    pub(super) head: String,
}

impl Reader {
    /// Reads the events that happen from now on, unless `headers` say otherwise.
    pub(super) async fn open(addr: SocketAddr, headers: &[(&str, &str)]) -> Self {
        // The body comes as it is, not in chunks.
        let reader = Self::request(addr, "HTTP/1.0", headers).await;
        assert!(reader.head.contains(" 200 OK\r\n"), "{}", reader.head);
        reader
    }

    /// Reads those after this one, too.
    pub(super) async fn after(running: &Running, id: u64) -> Self {
        Self::open(running.addr, &[("last-event-id", &id.to_string())]).await
    }

    pub(super) async fn request(addr: SocketAddr, version: &str, headers: &[(&str, &str)]) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap(), version, headers).await
    }

    /// The same. The system keeps little of what this client does not read.
    pub(super) async fn narrow(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(addr).await.unwrap(), "HTTP/1.0", &[]).await
    }

    async fn over(mut stream: TcpStream, version: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = format!("GET /events {version}\r\nHost: localhost\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let count = within(stream.read_line(&mut head)).await.unwrap();
            assert_ne!(count, 0, "{head}");
        }
        Self { stream, head }
    }

    /// The next event. `None` at the end. It is read by the rules for event streams of WHATWG HTML.
    pub(super) async fn next(&mut self) -> Option<Told> {
        // As a whole: heartbeats come as long as the stream lives.
        within(self.read()).await
    }

    async fn read(&mut self) -> Option<Told> {
        let (mut id, mut kind, mut data) = (None, String::new(), String::new());
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).await;
            if read.unwrap_or(0) == 0 {
                return None;
            }
            let line = line.strip_suffix('\n')?;
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => id = Some(value.parse().unwrap()),
                "event" => kind.push_str(value),
                "data" => data.push_str(value),
                "retry" => assert_eq!(value, "1000"),
                "" if line.is_empty() => {
                    if let Some(id) = id {
                        let data = serde_json::from_str(&data).unwrap();
                        return Some(Told { id, kind, data });
                    }
                }
                "" => {}
                _ => panic!("{line}"),
            }
        }
    }

    /// All that still comes.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        within(self.stream.read_to_string(&mut rest)).await.unwrap();
        rest
    }
}

impl Reader {
    /// The connection itself.
    pub(super) fn stream(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.stream
    }
}
