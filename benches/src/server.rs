//! The two servers, as children of this process and from within.
//!
//! A child prints its address in the first line of its output and ends when its input ends, so it
//! cannot outlive its parent, however that one ends.
#![expect(clippy::print_stdout, reason = "a child tells its parent the address")]

use std::{
    convert::Infallible,
    env,
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy::{cli, config::Config, sidecar::Sidecar, sockets::PassedSockets, telemetry};
use tokio::{net::TcpListener, runtime, task};
use tokio_util::sync::CancellationToken;

use crate::{Fault, machine};

/// The settings of a connection, those of the sidecar's own listener.
const HEAD_TIME_MAX: Duration = Duration::from_secs(100);
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An answer as it came over the wire, to be given again.
#[derive(Clone, Debug)]
pub(crate) struct Canned {
    raw: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Canned {
    /// Reads an HTTP/1.1 answer. The date is left to the server that gives it again.
    pub(crate) fn new(raw: &[u8]) -> Result<Self, Fault> {
        let raw = String::from_utf8(raw.to_vec())?;
        let (head, body) = raw.split_once("\r\n\r\n").ok_or("the head has no end")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.ok_or("the head has no status")?.parse()?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or("a header has no value")?;
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        headers.remove(header::DATE);
        let body = Bytes::from(body.to_owned());
        Ok(Self {
            raw,
            status,
            headers,
            body,
        })
    }

    fn answer(&self) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::new(self.body.clone()));
        *answer.status_mut() = self.status;
        answer.headers_mut().clone_from(&self.headers);
        answer
    }
}

/// How a sidecar is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind<'a> {
    /// Where its list is.
    pub(crate) base_url: &'a str,
    pub(crate) token: &'a str,
    pub(crate) workers: NonZeroUsize,
    /// How often it fetches its list.
    pub(crate) refresh: &'a str,
    /// The file of its book. `None`: in memory.
    pub(crate) state: Option<&'a Path>,
    /// The `pick-load` of another commit, whose sidecar it is. `None`: this one.
    pub(crate) program: Option<&'a Path>,
}

/// A server in a process of its own.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    /// A sidecar.
    pub(crate) fn sidecar(kind: Kind<'_>) -> Result<Self, Fault> {
        let mut args = vec![
            "--base-url",
            kind.base_url,
            "--token",
            kind.token,
            "--refresh",
            kind.refresh,
        ];
        if let Some(path) = kind.state {
            args.extend(["--state", path.to_str().ok_or("the path is no text")?]);
        }
        Self::spawn(kind.program, "serve-sidecar", &args, kind.workers)
    }

    /// A hyper server that gives the same two answers again and again.
    pub(crate) fn bare(
        pick: &Canned,
        release: &Canned,
        workers: NonZeroUsize,
    ) -> Result<Self, Fault> {
        Self::spawn(
            None,
            "serve-bare",
            &["--pick", &pick.raw, "--release", &release.raw],
            workers,
        )
    }

    fn spawn(
        program: Option<&Path>,
        name: &str,
        args: &[&str],
        workers: NonZeroUsize,
    ) -> Result<Self, Fault> {
        let program = program.map_or_else(env::current_exe, |path| Ok(path.to_owned()))?;
        let mut child = Command::new(program)
            .arg(name)
            .args(args)
            .args(["--workers", &workers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("the child has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let addr = line.trim().parse();
        let addr = addr.map_err(|_error| format!("{name} did not start"))?;
        Ok(Self { child, addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        machine::cpu_time(self.child.id())
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it and waits until it is gone. If it is dropped, it ends by itself.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// The arguments of the bare server.
#[derive(Debug, clap::Args)]
pub(crate) struct Bare {
    /// The answer to a GET
    #[arg(long)]
    pick: String,
    /// The answer to anything else
    #[arg(long)]
    release: String,
    #[arg(long)]
    workers: NonZeroUsize,
}

/// The arguments of the sidecar.
#[derive(Debug, clap::Args)]
pub(crate) struct Upstream {
    #[arg(long)]
    base_url: String,
    #[arg(long)]
    token: String,
    #[arg(long)]
    refresh: String,
    #[arg(long)]
    state: Option<String>,
    #[arg(long)]
    workers: NonZeroUsize,
}

/// Runs the bare server until the input ends.
pub(crate) fn serve_bare(bare: &Bare) -> Result<(), Fault> {
    let answers = [
        Canned::new(bare.pick.as_bytes())?,
        Canned::new(bare.release.as_bytes())?,
    ];
    let answers: &'static [Canned; 2] = Box::leak(Box::new(answers));
    on_runtime(bare.workers, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        tokio::select! {
            served = accept(listener, answers) => Ok(served?),
            () = input_end() => Ok(()),
        }
    })
}

async fn accept(listener: TcpListener, answers: &'static [Canned; 2]) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = service_fn(move |request: Request<Incoming>| async move {
            let [pick, release] = answers;
            let canned = if request.method() == Method::GET {
                pick
            } else {
                release
            };
            Ok::<_, Infallible>(canned.answer())
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(connection);
    }
}

/// Runs the sidecar until the input ends.
pub(crate) fn serve_sidecar(upstream: &Upstream) -> Result<(), Fault> {
    let settings = [
        ("KLB_LISTEN", "127.0.0.1:0"),
        ("KLB_UPSTREAM__BASE_URL", &upstream.base_url),
        ("KLB_UPSTREAM__TOKEN", &upstream.token),
        ("KLB_ACCOUNTS__REFRESH_INTERVAL", &upstream.refresh),
        // Nothing ends by itself while we measure.
        ("KLB_LEASES__TTL", "1h"),
        // Logs as little per call as the default filter does.
        ("KLB_LOG__FILTER", "warn"),
    ];
    let state = upstream.state.as_deref();
    let settings = settings
        .into_iter()
        .chain(state.map(|path| ("KLB_STATE__PATH", path)))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags = cli::command().get_matches_from(["pick-load"]);
    let config = Config::load(&flags, settings, None)?;
    telemetry::start(&config);
    on_runtime(upstream.workers, async {
        let end = CancellationToken::new();
        let sidecar = Sidecar::start(&config, PassedSockets::default(), end.clone()).await?;
        println!("{}", sidecar.addr()?);
        // So that what is kept on disk is closed.
        tokio::spawn(async move {
            input_end().await;
            end.cancel();
        });
        Ok(sidecar.run().await?)
    })
}

/// A runtime of the kind the sidecar's own program has.
fn on_runtime(
    workers: NonZeroUsize,
    task: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    runtime::Builder::new_multi_thread()
        .worker_threads(workers.get())
        .enable_all()
        .build()?
        .block_on(task)
}

/// Waits until the parent closes our input, or is gone.
pub(crate) async fn input_end() {
    let read = task::spawn_blocking(|| io::copy(&mut io::stdin().lock(), &mut io::sink()));
    if let Ok(Err(error)) = read.await {
        println!("the input cannot be read: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canned_answer_is_the_one_it_was_read_from_but_for_the_date() {
        let raw = b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 2\r\ndate: now\r\n\r\nhi";
        let canned = Canned::new(raw).unwrap();
        assert_eq!(canned.status, StatusCode::OK);
        assert_eq!(canned.headers["x-a"], "1");
        assert_eq!(canned.headers.len(), 2);
        assert_eq!(&canned.body[..], b"hi");
    }
}
