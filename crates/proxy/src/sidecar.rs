//! The sidecar as a whole: a fetcher, a ledger and a surface, wired and running.

use std::{io, net::SocketAddr, sync::Arc};

use accounts_fetcher::{Fetcher, HttpSource, Listing, Source, Timing, TlsError, tls_client_config};
use secrecy::SecretString;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Api, Door},
    config::Config,
    ledger::{Ledger, memory::Memory},
    metrics::Metrics,
    pool::Limits,
    server,
};

/// Why the sidecar could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}; is another process using it? see --listen")]
    Bind {
        /// Which one.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS to the upstream cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The metrics cannot be set up.
    #[error("metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
}

/// A sidecar that listens and is ready to run.
#[derive(Debug)]
pub struct Sidecar {
    api: Arc<Api>,
    ledger: Arc<Ledger>,
    listing: watch::Receiver<Listing>,
    fetcher: Fetcher,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
    shutdown: CancellationToken,
}

impl Sidecar {
    /// Builds every part and binds the listeners. `shutdown` will begin the drain.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way.
    pub async fn start(config: &Config, shutdown: CancellationToken) -> Result<Self, StartError> {
        let (fetcher, listing) = Fetcher::new(source(config)?, timing(config));
        let limits = Limits {
            waiters_max: config.selection.waiters_max,
            job_ttl: config.leases.job_ttl,
        };
        let ledger = Arc::new(Ledger::Memory(Memory::new(limits)));
        let metrics = Arc::new(Metrics::new()?);
        let listener = bind(config.listen).await?;
        let metrics_listener = match config.metrics_listen {
            Some(addr) => Some(bind(addr).await?),
            None => None,
        };
        let api = Api::new(
            config,
            Arc::clone(&ledger),
            listing.clone(),
            metrics,
            shutdown.clone(),
        );
        Ok(Self {
            api: Arc::new(api),
            ledger,
            listing,
            fetcher,
            listener,
            metrics_listener,
            shutdown,
        })
    }

    /// Where the API listens: the port is known even if the setting left it open.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where the metrics listener listens, if there is one.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// Runs until the shutdown begins and every running call has been answered.
    ///
    /// The metrics listener goes on telling "not ready" until then. The caller bounds the drain.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.fetcher.run());
        tasks.spawn(follow(self.listing, Arc::clone(&self.ledger)));
        tasks.spawn({
            let ledger = Arc::clone(&self.ledger);
            async move { ledger.keep_time().await }
        });
        let drained = CancellationToken::new();
        if let Some(listener) = self.metrics_listener {
            let api = Arc::clone(&self.api);
            tasks.spawn(server::serve(
                listener,
                api,
                Door::Monitoring,
                drained.clone(),
            ));
        }
        server::serve(self.listener, self.api, Door::Main, self.shutdown).await;
        tasks.shutdown().await;
    }
}

/// Applies every new snapshot to the book.
async fn follow(mut listing: watch::Receiver<Listing>, ledger: Arc<Ledger>) {
    let mut applied = None;
    loop {
        let newest = listing.borrow_and_update().snapshot.clone();
        if let Some(snapshot) = newest
            && !applied
                .as_ref()
                .is_some_and(|applied| Arc::ptr_eq(applied, &snapshot))
        {
            ledger.apply(&snapshot).await;
            applied = Some(snapshot);
        }
        if listing.changed().await.is_err() {
            return;
        }
    }
}

async fn bind(addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr)
        .await
        .map_err(|source| StartError::Bind { addr, source })
}

fn source(config: &Config) -> Result<Source, TlsError> {
    if let Some(path) = &config.accounts.file {
        return Ok(Source::File(path.clone()));
    }
    let upstream = &config.upstream;
    let token = upstream
        .token
        .clone()
        .unwrap_or_else(|| SecretString::from(""));
    Ok(Source::Http(HttpSource::new(
        upstream.base_url.clone(),
        token,
        upstream.connect_timeout,
        upstream.idle_timeout,
        tls_client_config()?,
    )))
}

fn timing(config: &Config) -> Timing {
    Timing {
        refresh_interval: config.accounts.refresh_interval,
        timeout: config.accounts.timeout,
        backoff_max: config.accounts.backoff_max,
    }
}
