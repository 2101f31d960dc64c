//! A scripted upstream: each connection gets one request read and the next [`Reply`] played.
//!
//! It speaks HTTP by hand, so that it can also speak it badly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// What is played after a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The connection is closed after the body.
    Close,
    /// The connection stays open and silent.
    Stall,
    /// The body is sent byte by byte, with this pause after each.
    Drip(Duration),
    /// The connection is reset after the body.
    Reset,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            ending: Ending::Close,
        }
    }

    pub(crate) fn json(body: impl Into<Vec<u8>>) -> Reply {
        Reply::status(200)
            .header("content-type", "application/json")
            .body(body)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// Without a `content-length`, the body ends with the connection.
    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            body: body.into(),
            ..self
        }
    }

    /// Announces `len` bytes, whatever is sent.
    pub(crate) fn announce(self, len: usize) -> Reply {
        self.header("content-length", len.to_string())
    }

    pub(crate) fn then_stall(self) -> Reply {
        Reply {
            ending: Ending::Stall,
            ..self
        }
    }

    pub(crate) fn then_reset(self) -> Reply {
        Reply {
            ending: Ending::Reset,
            ..self
        }
    }

    pub(crate) fn dripping(self, pause: Duration) -> Reply {
        Reply {
            ending: Ending::Drip(pause),
            ..self
        }
    }

    /// Plays the reply; an error only means that the fetcher has left.
    async fn play<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all((head + "\r\n").as_bytes()).await?;
        if let Ending::Drip(pause) = self.ending {
            for byte in &self.body {
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
        } else {
            stream.write_all(&self.body).await?;
            stream.flush().await?;
        }
        match self.ending {
            Ending::Stall => std::future::pending().await,
            Ending::Close | Ending::Drip(_) => stream.shutdown().await,
            Ending::Reset => Ok(()),
        }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) head: String,
}

#[derive(Debug, Default)]
struct Record {
    requests: Vec<Request>,
    connection_count: usize,
    open_count: usize,
    open_peak: usize,
}

/// A running upstream; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    record: Arc<Mutex<Record>>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Plays `replies` in turn, the last one again and again.
    pub(crate) async fn start(replies: impl Into<Vec<Reply>>) -> Upstream {
        Upstream::start_with(replies.into(), None).await
    }

    pub(crate) async fn start_tls(replies: impl Into<Vec<Reply>>, tls: TlsAcceptor) -> Upstream {
        Upstream::start_with(replies.into(), Some(tls)).await
    }

    async fn start_with(replies: Vec<Reply>, tls: Option<TlsAcceptor>) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let record = Arc::new(Mutex::new(Record::default()));
        let accepting = tokio::spawn(accept(listener, replies, tls, Arc::clone(&record)));
        Upstream {
            addr,
            record,
            accepting,
        }
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.record.lock().unwrap().requests.clone()
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.record.lock().unwrap().connection_count
    }

    /// The most connections that were ever open at once.
    pub(crate) fn open_peak(&self) -> usize {
        self.record.lock().unwrap().open_peak
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    replies: Vec<Reply>,
    tls: Option<TlsAcceptor>,
    record: Arc<Mutex<Record>>,
) {
    let mut connections = JoinSet::new();
    for idx in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let reply = replies[idx.min(replies.len() - 1)].clone();
        let open = Open::new(&record);
        let tls = tls.clone();
        connections.spawn(async move {
            let served = match tls {
                Some(tls) => serve_tls(stream, &tls, &reply, &open).await,
                None => serve_tcp(stream, &reply, &open).await,
            };
            // The fetcher may leave at any point; other tests cover that.
            served.unwrap_or_default();
        });
    }
}

async fn serve_tls(
    stream: TcpStream,
    tls: &TlsAcceptor,
    reply: &Reply,
    open: &Open,
) -> std::io::Result<()> {
    serve(&mut tls.accept(stream).await?, reply, open).await
}

async fn serve_tcp(mut stream: TcpStream, reply: &Reply, open: &Open) -> std::io::Result<()> {
    if matches!(reply.ending, Ending::Reset) {
        stream.set_zero_linger()?;
    }
    serve(&mut stream, reply, open).await
}

async fn serve<S>(stream: &mut S, reply: &Reply, open: &Open) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    open.note(Request {
        at: Instant::now(),
        head: String::from_utf8(head).unwrap(),
    });
    reply.play(stream).await
}

/// One open connection in the record.
struct Open(Arc<Mutex<Record>>);

impl Open {
    fn new(record: &Arc<Mutex<Record>>) -> Open {
        let mut counts = record.lock().unwrap();
        counts.connection_count += 1;
        counts.open_count += 1;
        counts.open_peak = counts.open_peak.max(counts.open_count);
        Open(Arc::clone(record))
    }

    fn note(&self, request: Request) {
        self.0.lock().unwrap().requests.push(request);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open_count -= 1;
    }
}
