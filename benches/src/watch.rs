//! Those who watch a sidecar while others pick: pages that ask for `/status` once a second, and readers of `/events`.
//! They have a process of their own, which leaves the client its thread.

use std::{
    env,
    io::{self, ErrorKind},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, sink},
    net::TcpStream,
    runtime,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{Fault, child::input_end};

/// How often a page asks.
const PAGE_INTERVAL: Duration = Duration::from_secs(1);
/// More than the text of a hundred thousand accounts.
const TEXT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Who watches.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Watchers {
    /// Pages that ask for /status once a second, in the rows `watched`
    #[arg(long, default_value = "10")]
    pub(crate) pages: u32,
    /// Readers of /events in these rows
    #[arg(long, default_value = "100")]
    pub(crate) streams: u32,
}

/// The arguments of the process.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    #[arg(long)]
    addr: SocketAddr,
    #[command(flatten)]
    watchers: Watchers,
}

/// The process. It ends when its input ends.
#[derive(Debug)]
pub(crate) struct Watching(Child);

impl Watchers {
    /// Begins to watch the sidecar at `addr`.
    pub(crate) fn watch(self, addr: SocketAddr) -> Result<Watching, Fault> {
        let child = Command::new(env::current_exe()?)
            .arg("watch")
            .args(["--addr", &addr.to_string()])
            .args(["--pages", &self.pages.to_string()])
            .args(["--streams", &self.streams.to_string()])
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Watching(child))
    }
}

impl Watching {
    /// Ends it. An error if a watcher was not served.
    pub(crate) fn stop(mut self) -> Result<(), Fault> {
        drop(self.0.stdin.take());
        if self.0.wait()?.success() {
            Ok(())
        } else {
            Err("those who watched were not served".into())
        }
    }
}

/// Watches until the input ends.
pub(crate) fn watch(args: &Watch) -> Result<(), Fault> {
    let Watch { addr, watchers } = *args;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut watching = JoinSet::new();
        for page in 0..watchers.pages {
            // They ask at different times.
            let offset = PAGE_INTERVAL * page / watchers.pages;
            watching.spawn(show_page(addr, offset));
        }
        for _ in 0..watchers.streams {
            watching.spawn(read_events(addr));
        }
        tokio::select! {
            Some(ended) = watching.join_next() => Ok(ended??),
            () = input_end() => Ok(()),
        }
    })
}

async fn show_page(addr: SocketAddr, offset: Duration) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(addr).await?);
    let mut known = String::new();
    let mut turns = interval_at(Instant::now() + offset, PAGE_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let request =
            format!("GET /status HTTP/1.1\r\nHost: {addr}\r\nIf-None-Match: \"{known}\"\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (status, length, tag) = read_head(&mut stream).await?;
        if !matches!(status, 200 | 304) {
            return Err(io::Error::other(format!("/status: {status}")));
        }
        if status == 200 {
            let text = copy(&mut (&mut stream).take(length), &mut sink()).await?;
            if text != length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        known = tag;
    }
}

/// Status, length and tag of an answer.
async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, u64, String)> {
    let (mut status, mut length, mut tag) = (0, 0, String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((status, length, tag));
        }
        let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            let code = rest.get(..3).unwrap_or_default();
            status = code.parse().map_err(io::Error::other)?;
        } else if let Some(rest) = line.strip_prefix("content-length: ") {
            length = number(rest)?.min(TEXT_BYTES_MAX);
        } else if let Some(rest) = line.strip_prefix("etag: ") {
            tag = rest.trim_matches('"').to_owned();
        }
    }
}

async fn read_events(addr: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /events HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    copy(&mut stream, &mut sink()).await?;
    Err(io::Error::other("/events has ended"))
}
