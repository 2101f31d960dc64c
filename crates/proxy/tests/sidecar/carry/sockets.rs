//! Sockets that tests read and write byte by byte: a client that shows every byte, and an upstream
//! that does exactly what its test says.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use harness::{Running, eventually, within};
use http::StatusCode;
use kling_sim::Sim;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

use super::framing::{Message, field};

/// The path of the upstream's base URL, which precedes every path.
pub(super) const BASE: &str = "/base";
/// A call that the sidecar carries unread.
pub(super) const ANY: &str = "/v1/kling/any";
/// A call that starts a job.
pub(super) const START: &str = "/v1/kling/videos/text2video";
/// A call about a task. The sidecar reads its answer.
pub(super) const TASK: &str = "/v1/kling/tasks/7";
/// A call whose answer the sidecar overhears while it passes.
pub(super) const HEARD: &str = "/v1/kling/assets";
/// The one account of a [`Stage`], and how many jobs it may run.
pub(super) const ACCOUNT: &str = "a@x";
pub(super) const SLOTS: usize = 50;

/// A sidecar in front of an upstream that the test plays. Only carried calls reach the upstream.
pub(super) struct Stage {
    pub(super) running: Running,
    listener: TcpListener,
    _accounts: NamedTempFile,
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// `settings` as in the environment, without the prefix.
    pub(super) async fn with(settings: &[(&str, &str)]) -> Self {
        let list = format!(r#"{{"{ACCOUNT}":{{"maxJobs":{SLOTS}}}}}"#);
        let stage = Self::beside(&list, settings).await;
        let path = format!("/accounts/{ACCOUNT}");
        eventually(async || {
            let answer = stage.running.get(&path).await;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
        stage
    }

    /// A sidecar that never learns of an account.
    pub(super) async fn without_accounts() -> Self {
        Self::beside("not a list", &[]).await
    }

    async fn beside(list: &str, settings: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let base_url = format!("http://{}{BASE}", listener.local_addr().unwrap());
        let accounts = NamedTempFile::new().unwrap();
        std::fs::write(&accounts, list).unwrap();
        let mut all = vec![
            ("UPSTREAM__BASE_URL", base_url.as_str()),
            ("ACCOUNTS__FILE", accounts.path().to_str().unwrap()),
            ("RECONCILE__INTERVAL", "0"),
        ];
        all.extend(settings);
        let running = Running::beside(Sim::builder().start().await.unwrap(), &all).await;
        Self {
            running,
            listener,
            _accounts: accounts,
        }
    }

    /// The upstream's host and port.
    pub(super) fn upstream_addr(&self) -> String {
        self.running.upstream.clone()
    }

    /// A new connection of a client.
    pub(super) async fn client(&self) -> Wire {
        Wire::connect(self.running.addr).await
    }

    /// A new client that has sent `bytes`.
    pub(super) async fn client_sends(&self, bytes: impl AsRef<[u8]>) -> Wire {
        let mut client = self.client().await;
        client.send(bytes).await;
        client
    }

    /// The next connection that the sidecar opens to the upstream.
    pub(super) async fn upstream(&self) -> Wire {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        Wire::new(stream)
    }

    /// Carries one call over connections of its own. Returns what the upstream and the client got.
    pub(super) async fn exchange(
        &self,
        request: impl AsRef<[u8]>,
        answer: impl AsRef<[u8]>,
    ) -> (Message, Message) {
        let mut client = self.client_sends(request).await;
        let mut upstream = tokio::select! {
            upstream = self.upstream() => upstream,
            told = client.message() => panic!("the sidecar answered by itself: {told:?}"),
        };
        let seen = upstream.message().await;
        upstream.send(answer).await;
        let told = client.message().await;
        // The next call must not meet a connection that is about to close.
        upstream.close().await;
        (seen, told)
    }

    /// Closes the upstream's port.
    pub(super) fn close_upstream(self) -> Running {
        self.running
    }
}

/// One end of a connection. Dropped, it closes.
pub(super) struct Wire {
    reading: OwnedReadHalf,
    /// `None` once another task sends.
    sending: Option<OwnedWriteHalf>,
    /// Bytes that were read and not asked for yet.
    read: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (reading, sending) = stream.into_split();
        Self {
            reading,
            sending: Some(sending),
            read: Vec::new(),
        }
    }

    pub(super) async fn connect(addr: SocketAddr) -> Self {
        Self::new(TcpStream::connect(addr).await.unwrap())
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends to another side that may close before it has taken all.
    pub(super) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sending = self.sending.as_mut().unwrap();
        within(sending.write_all(bytes.as_ref())).await
    }

    /// Sends without a deadline, to another side that reads slowly.
    pub(super) async fn send_patiently(&mut self, bytes: impl AsRef<[u8]>) {
        let sending = self.sending.as_mut().unwrap();
        sending.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends `piece` again and again in a task of its own, until the other side takes no more.
    pub(super) fn flood(&mut self, piece: Vec<u8>) -> Flood {
        let mut sending = self.sending.take().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            while sending.write_all(&piece).await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Flood { task, sent }
    }

    /// Waits until the other side has sent something. False if it has closed instead.
    pub(super) async fn has_more(&mut self) -> bool {
        matches!(self.reading.read_buf(&mut self.read).await, Ok(1..))
    }

    /// Closes, and waits until the other side has noticed.
    pub(super) async fn close(mut self) {
        self.sending = None;
        self.ended().await;
    }

    /// Waits until the other side is gone, without reading what it sent.
    pub(super) async fn until_gone(&mut self) {
        let sending = self.sending.as_ref().unwrap();
        let is_gone = async || {
            let sent = sending.try_write(b"x");
            let error = sent
                .err()
                .filter(|error| error.kind() != ErrorKind::WouldBlock);
            error.map(drop)
        };
        eventually(is_gone).await;
    }

    /// Reads a head with its empty line.
    pub(super) async fn head(&mut self) -> Message {
        let head = self.line_end(b"\r\n\r\n").await;
        let text: String = head.iter().copied().map(char::from).collect();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap().to_owned();
        Message {
            first,
            lines: lines.map(field).collect(),
            ..Message::default()
        }
    }

    /// Reads a head and the body that it announces.
    pub(super) async fn message(&mut self) -> Message {
        let mut message = self.head().await;
        if message.is("transfer-encoding", "chunked") {
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break;
                }
                message.content.extend(chunk);
            }
            message.trailers = self.trailers().await;
        } else if let [length] = message.values("content-length")[..] {
            message.content = self.take(length.parse().unwrap()).await;
        }
        message
    }

    /// Reads one chunk, or only the size if it is the last.
    pub(super) async fn chunk(&mut self) -> Vec<u8> {
        let size = self.line_end(b"\r\n").await;
        let size = String::from_utf8(size).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        if size == 0 {
            return Vec::new();
        }
        let mut chunk = self.take(size + 2).await;
        assert!(chunk.ends_with(b"\r\n"));
        chunk.truncate(size);
        chunk
    }

    async fn trailers(&mut self) -> Vec<(String, String)> {
        let mut trailers = Vec::new();
        loop {
            let line = String::from_utf8(self.line_end(b"\r\n").await).unwrap();
            match line.trim_end() {
                "" => return trailers,
                line => trailers.push(field(line)),
            }
        }
    }

    /// Reads so many bytes.
    pub(super) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            self.more().await;
        }
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    /// Reads everything up to the end of the connection, and tells whether the end was orderly.
    pub(super) async fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let end = within(self.reading.read_to_end(&mut self.read)).await;
        (std::mem::take(&mut self.read), end.map(drop))
    }

    /// Discards everything until the connection ends in any way.
    pub(super) async fn ended(&mut self) {
        let mut scrap = vec![0; 64 * 1024];
        let ended = async { while matches!(self.reading.read(&mut scrap).await, Ok(1..)) {} };
        within(ended).await;
    }

    async fn line_end(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            let found = self.read.windows(end.len()).position(|it| it == end);
            if let Some(start) = found {
                return self.take(start + end.len()).await;
            }
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let count = within(self.reading.read_buf(&mut self.read)).await.unwrap();
        let text = String::from_utf8_lossy(&self.read);
        assert_ne!(count, 0, "the connection ended after {text:?}");
    }
}

/// A task that sends without end until this is dropped.
pub(super) struct Flood {
    task: JoinHandle<()>,
    sent: Arc<AtomicUsize>,
}

impl Flood {
    /// Waits until all buffers on the way are full: no more is sent, however often other tasks run.
    pub(super) async fn until_blocked(&self) {
        let mut last = None;
        loop {
            let sent = self.sent.load(Ordering::Relaxed);
            if last.replace(sent) == Some(sent) && sent > 0 {
                return;
            }
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.task.abort();
    }
}
