//! The least that a reverse proxy on hyper does: the request goes to the upstream as it came, and the answer back.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, Request, Response, Uri, uri::Scheme};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpStream;

use crate::{Fault, child::Server};

/// What carries a call to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The client of hyper-util, with its pool
    Legacy,
    /// A stack of connections
    Own,
    /// The same, but a POST has a new connection, as a job start of the sidecar has
    Fresh,
}

/// The arguments of the process.
#[derive(Debug, clap::Args)]
pub(crate) struct Proxy {
    #[arg(long, value_enum)]
    kind: Kind,
    #[arg(long)]
    upstream: SocketAddr,
    #[arg(long)]
    workers: usize,
}

/// Connections to the upstream that wait for a request, the one used last on top.
#[derive(Clone, Debug)]
struct Pool {
    upstream: SocketAddr,
    idle: Arc<Mutex<Vec<SendRequest<Incoming>>>>,
    posts_connect: bool,
}

/// Starts it in front of `upstream`.
pub(crate) fn start(kind: Kind, upstream: SocketAddr, workers: usize) -> Result<Server, Fault> {
    let kind = match kind {
        Kind::Legacy => "legacy",
        Kind::Own => "own",
        Kind::Fresh => "fresh",
    };
    let (upstream, workers) = (upstream.to_string(), workers.to_string());
    let args = [
        "--kind",
        kind,
        "--upstream",
        &upstream,
        "--workers",
        &workers,
    ];
    Server::own("serve-proxy", &args)
}

/// Runs it until the input ends.
pub(crate) fn run(proxy: &Proxy) -> Result<(), Fault> {
    let upstream = proxy.upstream;
    match proxy.kind {
        Kind::Legacy => {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            let client: Client<_, Incoming> =
                Client::builder(TokioExecutor::new()).build(connector);
            let authority: http::uri::Authority = upstream.to_string().parse()?;
            let carry = service_fn(move |mut request: Request<Incoming>| {
                let (client, authority) = (client.clone(), authority.clone());
                async move {
                    let mut parts = request.uri().clone().into_parts();
                    (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority));
                    *request.uri_mut() = Uri::from_parts(parts)?;
                    Ok::<_, Fault>(client.request(request).await?)
                }
            });
            super::serve(proxy.workers, carry)
        }
        Kind::Own | Kind::Fresh => {
            let pool = Pool {
                upstream,
                idle: Arc::default(),
                posts_connect: proxy.kind == Kind::Fresh,
            };
            let carry = service_fn(move |request| {
                let pool = pool.clone();
                async move { pool.carry(request).await }
            });
            super::serve(proxy.workers, carry)
        }
    }
}

impl Pool {
    async fn carry(&self, request: Request<Incoming>) -> Result<Response<Incoming>, Fault> {
        if self.posts_connect && request.method() == Method::POST {
            return Ok(self.connect().await?.send_request(request).await?);
        }
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = sender.send_request(request).await?;
        // It is ready again once the answer was read.
        self.lock().push(sender);
        Ok(answer)
    }

    /// The connection used last of those that are ready.
    fn take(&self) -> Option<SendRequest<Incoming>> {
        let mut idle = self.lock();
        let at = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.swap_remove(at))
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, Fault> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Incoming>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
