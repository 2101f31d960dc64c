//! The sidecar as a whole: its parts, wired and running.

mod inventory;
mod limits;
mod list;
mod state;
mod transitions;

use std::{
    future, io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use accounts_fetcher::{
    Credentials, Fetcher, HttpSource, Listing, Source, Timing, TlsError, UnsendableToken,
    tls_client_config,
};
use rustix::system::uname;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::{
    join,
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use inventory::Inventory;
use limits::{ConnectionLimits, MONITORING_CONNECTIONS_MAX};
use state::Restored;
pub use state::StateError;

use crate::{
    api::{Api, ApiDeps, Gate, ListenerKind, UpstreamDeps},
    book::Writer,
    config::{Auth, Config},
    events::Events,
    forward::{Forward, ForwardDeps},
    jobs::{Histories, Rounds},
    journal::sqlite::Sqlite,
    keyed_hash::HashKey,
    ledger::Ledger,
    metrics::Metrics,
    picker::Picker,
    pool::Limits,
    records::JobRecords,
    reload::{Reload, Reloader},
    server::{self, Listener, Shutdown},
    sockets::PassedSockets,
    upstream::{Upstream, UpstreamError, UpstreamSettings},
};

/// Why the sidecar could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The sidecar cannot listen on an address.
    #[error("cannot listen on {addr}; is another process using it? See --listen")]
    Bind {
        /// Which one.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A passed socket cannot be used.
    #[error("a passed socket cannot be used")]
    Passed(#[from] io::Error),
    /// Without client tokens it listens on this machine only, and a passed socket is reached from others.
    #[error(
        "the passed socket {addr} is reached from other machines, where anyone could spend your credits; set \
         KLB_AUTH__TOKENS_FILE, or pass a socket of 127.0.0.1, or say auth.allow_unauthenticated = true"
    )]
    Unauthenticated {
        /// Where it listens.
        addr: SocketAddr,
    },
    /// There can be no client of the upstream.
    #[error("the upstream cannot be called")]
    Upstream(#[from] UpstreamError),
    /// The token of the upstream cannot be shown.
    #[error("upstream.token cannot be used")]
    Token(#[from] UnsendableToken),
    /// There is neither a token to fetch the list with nor a file that holds it.
    #[error("upstream.token is missing")]
    NoToken,
    /// TLS to the upstream cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The metrics cannot be set up.
    #[error("metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
}

/// A task that must run for ever has ended. Without it the sidecar would soon be wrong.
#[derive(Debug, Error)]
#[error("a background task ended; this is a bug, please report it")]
pub struct TaskEnded(#[source] Option<JoinError>);

/// A sidecar that listens and is ready to run.
#[derive(Debug)]
pub struct Sidecar {
    api: Arc<Api>,
    /// `None`: the state ends with the process.
    writer: Option<Writer<Sqlite>>,
    reloader: Reloader,
    ledger: Arc<Ledger>,
    listing: watch::Receiver<Listing>,
    fetcher: Fetcher,
    picker: Arc<Picker>,
    events: Events,
    forward: Option<Arc<Forward>>,
    rounds: Option<(Arc<Rounds>, Duration)>,
    histories: Option<Histories>,
    listener: Listener,
    metrics_listener: Option<Listener>,
    connections_max: usize,
    /// Asks for the shutdown.
    end: CancellationToken,
    shutdown: Shutdown,
}

impl Sidecar {
    /// Builds every part and binds the listeners that were not passed. `end` will begin the shutdown.
    ///
    /// # Errors
    /// [`StartError`] says why it cannot start.
    #[expect(
        clippy::too_many_lines,
        reason = "one part is wired after the other, and nothing is decided"
    )]
    pub async fn start(
        config: &Config,
        passed: PassedSockets,
        end: CancellationToken,
    ) -> Result<Self, StartError> {
        let (shutdown, events) = (Shutdown::default(), Events::new(config.logs_jobs));
        let connection_limits = ConnectionLimits::of(config.selection.waiters_max);
        let token = config.upstream.token.as_ref();
        let credentials = token.map(Credentials::new).transpose()?;
        let (listener, metrics_listener) = listeners(config, passed)?;
        let state = state::open(config, (&listener, metrics_listener.as_ref())).await?;
        let upstream_url = &config.upstream.base_url;
        let tls = tls_client_config(upstream_url, &config.upstream.extra_roots)?;
        let (fetcher, listing) = fetcher(config, credentials.clone(), Arc::clone(&tls))?;
        let (wake, hashes) = (fetcher.waker(), state.hash_key());
        let (reloader, clients) = Reloader::new(config, credentials.clone(), wake, hashes.clone());
        let client = upstream(
            config,
            credentials.clone(),
            tls,
            connection_limits.requests_max,
            &events,
        )?;
        // Only the upstream can say which jobs run.
        let interval = config.reconcile.interval.filter(|_| client.is_some());
        let mark_key = mark_key(config, interval.is_some(), &hashes);
        let limits = pool_limits(config, &connection_limits, interval.is_some());
        let metrics = Arc::new(Metrics::new()?);
        let (redeliver, counted) = (config.forward.redeliver, Arc::clone(&metrics));
        let records = JobRecords::new(redeliver, counted, events.clone());
        let Restored {
            ledger,
            owners,
            book,
            writer,
        } = state.restore(limits, mark_key.as_ref(), &records, &metrics, &events);
        let rounds = client.as_ref().map(|client| {
            let (ledger, owners) = (Arc::clone(&ledger), Arc::clone(&owners));
            Arc::new(Rounds::new(Arc::clone(client), ledger, owners))
        });
        let picker = Arc::new(Picker::new(
            Arc::clone(&ledger),
            listing.clone(),
            Arc::clone(&metrics),
            shutdown.begun.clone(),
            config.accounts.file.is_some(),
            interval.and(rounds.clone()),
            mark_key,
        ));
        let carrying = client.clone().zip(rounds.clone());
        let forward = carrying.map(|(upstream, rounds)| {
            let deps = ForwardDeps {
                upstream,
                ledger: Arc::clone(&ledger),
                picker: Arc::clone(&picker),
                owners,
                rounds,
                listing: listing.clone(),
                fetcher: fetcher.waker(),
                metrics: Arc::clone(&metrics),
                records,
            };
            Arc::new(Forward::new(config, deps))
        });
        let histories = client
            .zip(interval)
            .map(|(client, interval)| Histories::new(client, Arc::clone(&ledger), interval));
        let rounds = rounds.zip(interval);
        let upstream_deps = forward.clone().map(|forward| UpstreamDeps {
            forward,
            rounds: rounds.as_ref().map(|(rounds, _)| Arc::clone(rounds)),
        });
        let addr = listener.socket.local_addr()?;
        let gate = Gate::new(&config.auth, addr, clients, credentials);
        let deps = ApiDeps {
            instance: instance(addr),
            ledger: Arc::clone(&ledger),
            book,
            listing: listing.clone(),
            metrics,
            events: events.clone(),
            event_readers_max: connection_limits.event_readers_max,
            picker: Arc::clone(&picker),
            upstream: upstream_deps,
        };
        let api = Api::new(config, gate, deps);
        Ok(Self {
            api: Arc::new(api),
            writer,
            reloader,
            ledger,
            listing,
            fetcher,
            picker,
            events,
            forward,
            rounds,
            histories,
            listener,
            metrics_listener,
            connections_max: connection_limits.connections_max,
            end,
            shutdown,
        })
    }

    /// Where the API listens: the port is known even if the setting left it open.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.socket.local_addr()
    }

    /// Where the metrics listener listens, if there is one.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_listener
            .as_ref()
            .and_then(|listener| listener.socket.local_addr().ok())
    }

    /// What asks for token files and the account list to be read again.
    pub fn reload(&self) -> Reload {
        self.reloader.handle()
    }

    /// Runs until the shutdown begins and every running call has been answered.
    ///
    /// The metrics listener answers "not ready" until then. The caller bounds the drain.
    ///
    /// # Errors
    /// [`TaskEnded`] if a background task ended.
    pub async fn run(self) -> Result<(), TaskEnded> {
        let mut tasks = JoinSet::new();
        tasks.spawn(transitions::tell(
            self.events.clone(),
            self.listing.clone(),
            self.picker,
            Arc::clone(&self.ledger),
        ));
        tasks.spawn(self.fetcher.run());
        tasks.spawn(self.reloader.run());
        tasks.spawn(list::follow(self.listing, Arc::clone(&self.ledger)));
        tasks.spawn(keep_up(Arc::clone(&self.ledger), Arc::clone(&self.api)));
        if let Some((rounds, interval)) = self.rounds {
            tasks.spawn(async move { rounds.run(interval).await });
        }
        if let Some(histories) = self.histories {
            tasks.spawn(async move { histories.run().await });
        }
        if let Some(listener) = self.metrics_listener {
            let api = Arc::clone(&self.api);
            tasks.spawn(serve_metrics(listener, api, self.shutdown.clone()));
        }
        let all_written = CancellationToken::new();
        let mut writing = self.writer.map(|writer| {
            let end = all_written.clone();
            tokio::spawn(async move { writer.run(end).await.close().await })
        });
        let shutdown = self.shutdown.clone();
        let serving = server::serve(
            self.listener,
            self.api,
            ListenerKind::Main,
            self.connections_max,
            self.shutdown,
        );
        let submissions_answered = async || {
            if let Some(forward) = &self.forward {
                forward.drained().await;
            }
        };
        let ending = async {
            self.end.cancelled().await;
            let running = Inventory::take(&self.ledger).await;
            shutdown.begin();
            transitions::tell_end(&self.events);
            running.log(
                "draining: no more jobs are started; all else is served until the submissions that are \
                 under way are answered",
            );
            submissions_answered().await;
            shutdown.closing.cancel();
            self.events.end();
        };
        let ended = async {
            join!(serving, ending);
            // One may have begun in the moment of the signal, and its client may be gone.
            submissions_answered().await;
            Inventory::take(&self.ledger).await.log("drained");
        };
        tokio::select! {
            () = ended => {}
            ended = tasks.join_next() => return Err(TaskEnded(ended.and_then(Result::err))),
            ended = writer_ended(&mut writing) => return Err(TaskEnded(ended.err())),
        }
        tasks.shutdown().await;
        all_written.cancel();
        match writing {
            Some(writing) => writing.await.map_err(|error| TaskEnded(Some(error))),
            None => Ok(()),
        }
    }
}

/// Ends leases on time, and keeps what is shown of the past.
async fn keep_up(ledger: Arc<Ledger>, api: Arc<Api>) {
    join!(ledger.keep_time(), api.keep_past());
}

/// Serves the metrics listener to the end.
async fn serve_metrics(listener: Listener, api: Arc<Api>, shutdown: Shutdown) {
    let kind = ListenerKind::Monitoring;
    let shutdown = shutdown.without_closing();
    server::serve(listener, api, kind, MONITORING_CONNECTIONS_MAX, shutdown).await;
}

/// What marks are made with, if there are any: only rounds show them. With a key that is drawn anew, those of an
/// earlier run are a stranger's.
fn mark_key(config: &Config, reconciles: bool, hashes: &HashKey) -> Option<HashKey> {
    let has_marks = config.forward.marks && reconciles;
    has_marks.then(|| hashes.clone())
}

fn pool_limits(config: &Config, connection_limits: &ConnectionLimits, reconciles: bool) -> Limits {
    Limits {
        waiters_max: connection_limits.waiters_max,
        job_ttl: config.leases.job_ttl,
        reconciles,
        settle: config.reconcile.settle,
        ties_picks: config.reconcile.ties_picks,
    }
}

/// Waits until the task that writes has ended; for ever, if there is none.
async fn writer_ended(task: &mut Option<JoinHandle<()>>) -> Result<(), JoinError> {
    match task {
        Some(task) => task.await,
        None => future::pending().await,
    }
}

/// What this sidecar is called: the name of the machine, or of the pod or container, and its port.
fn instance(addr: SocketAddr) -> String {
    let system = uname();
    let host = system.nodename().to_string_lossy();
    format!("{host}:{}", addr.port())
}

/// The listeners of the API and of metrics: those that were passed, and else those of the settings.
fn listeners(
    config: &Config,
    passed: PassedSockets,
) -> Result<(Listener, Option<Listener>), StartError> {
    let api = match passed.api {
        Some(socket) => take_over(socket, &config.auth)?,
        None => bind(config.listen)?,
    };
    let metrics = match (passed.metrics, config.metrics_listen) {
        (Some(socket), _) => Some(passed_on(socket)?),
        (None, Some(addr)) => Some(bind(addr)?),
        (None, None) => None,
    };
    Ok((api, metrics))
}

/// Takes over a passed socket for the API. It may be reached from elsewhere than the settings say.
fn take_over(socket: StdListener, auth: &Auth) -> Result<Listener, StartError> {
    let addr = socket.local_addr()?;
    if !auth.admits(addr) {
        return Err(StartError::Unauthenticated { addr });
    }
    Ok(passed_on(socket)?)
}

fn passed_on(socket: StdListener) -> io::Result<Listener> {
    let socket = TcpListener::from_std(socket)?;
    let is_passed = true;
    Ok(Listener { socket, is_passed })
}

fn bind(addr: SocketAddr) -> Result<Listener, StartError> {
    Listener::bind(addr).map_err(|source| StartError::Bind { addr, source })
}

fn fetcher(
    config: &Config,
    credentials: Option<Credentials>,
    tls: Arc<ClientConfig>,
) -> Result<(Fetcher, watch::Receiver<Listing>), StartError> {
    let source = match &config.accounts.file {
        Some(path) => Source::File(path.clone()),
        None => Source::Http(HttpSource::new(
            config.upstream.base_url.clone(),
            credentials.ok_or(StartError::NoToken)?,
            config.upstream.connect_timeout,
            config.upstream.idle_timeout,
            tls,
        )),
    };
    let timing = Timing {
        refresh_interval: config.accounts.refresh_interval,
        timeout: config.accounts.timeout,
        backoff_max: config.accounts.backoff_max,
    };
    Ok(Fetcher::new(source, timing))
}

/// The client of the upstream, if there is a token to show it.
fn upstream(
    config: &Config,
    credentials: Option<Credentials>,
    tls: Arc<ClientConfig>,
    requests_max: usize,
    events: &Events,
) -> Result<Option<Arc<Upstream>>, StartError> {
    let Some(credentials) = credentials else {
        tracing::warn!(
            "upstream.token is not set: only picks work. Calls are not carried, and running jobs are \
             not followed"
        );
        return Ok(None);
    };
    let settings = UpstreamSettings {
        base_url: config.upstream.base_url.clone(),
        credentials,
        connect_timeout: config.upstream.connect_timeout,
        request_timeout: config.upstream.request_timeout,
        idle_timeout: config.upstream.idle_timeout,
        requests_max,
        events: events.clone(),
    };
    let upstream = Upstream::new(settings, tls)?;
    Ok(Some(Arc::new(upstream)))
}
