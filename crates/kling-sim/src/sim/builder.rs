//! A simulator before it starts.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Sim;
use crate::{
    server,
    shared::{ApiSettings, Shared},
    task_id::TaskIds,
    world::{HistoryStyle, JobDuration, PublicUrl, Settings, World},
};

/// The token of a simulator for which none was set.
pub const DEFAULT_TOKEN: &str = "user:1-sim";

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}")]
pub struct StartError {
    addr: SocketAddr,
    source: io::Error,
}

/// The settings of a simulator that has not started. See [`Sim::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SimBuilder {
    accounts: Vec<(String, u32)>,
    hung: Vec<String>,
    world: Settings,
    api: ApiSettings,
    addr: SocketAddr,
    public_url: Option<String>,
}

impl Default for SimBuilder {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            hung: Vec::new(),
            world: Settings::default(),
            api: ApiSettings {
                token: DEFAULT_TOKEN.to_owned(),
                compresses: true,
                mcp_pause: Duration::from_millis(50),
            },
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            public_url: None,
        }
    }
}

impl Sim {
    /// Begins a simulator, at first without accounts.
    pub fn builder() -> SimBuilder {
        SimBuilder::default()
    }
}

impl SimBuilder {
    /// Adds an account, or changes the cap of an existing one.
    ///
    /// Any cap is accepted, even one outside the upstream's 1 to 50.
    pub fn account(mut self, email: impl Into<String>, max_jobs: u32) -> Self {
        self.accounts.push((email.into(), max_jobs));
        self
    }

    /// Hangs an account from the start; see [`Sim::set_account_hung`]. The account must be among
    /// those of [`SimBuilder::account`], else this has no effect.
    pub fn hung(mut self, email: impl Into<String>) -> Self {
        self.hung.push(email.into());
        self
    }

    /// Sets the token every call must carry. The default is [`DEFAULT_TOKEN`].
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.api.token = token.into();
        self
    }

    /// Sets the seed of task ids, job durations and release lags. The default is 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.world.seed = seed;
        self
    }

    /// Sets how long jobs take. The default is 5 s to 20 s.
    pub fn job_duration(mut self, job_duration: JobDuration) -> Self {
        self.world.job_duration = job_duration;
        self
    }

    /// Sets how long after a job became final in `GET /tasks/{id}` the account's counter and the
    /// scheduler release it; each job draws its own lag. The default is no lag.
    ///
    /// `DELETE /scheduler/{id}` frees the slot at once, whatever the lag.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn release_lag(mut self, range: RangeInclusive<Duration>) -> Self {
        assert!(!range.is_empty(), "a lag from the lower to the higher");
        self.world.release_lag = range;
        self
    }

    /// Judges each job start over the limit by what was known this many rounds before it arrived;
    /// see [`AccountAudit::over_limit_ours`](crate::AccountAudit::over_limit_ours). The default is 0.
    ///
    /// A job start is decided before it arrives. On a busy machine rounds pass in between, since
    /// they take connections that are open already.
    pub fn reaction_rounds(mut self, rounds: u64) -> Self {
        self.world.reaction_rounds = rounds;
        self
    }

    /// Sets how long a job is tracked. After that it holds no slot, though it may still run. The
    /// default is 60 minutes.
    pub fn tracking(mut self, tracking: Duration) -> Self {
        self.world.tracking = tracking;
        self
    }

    /// Sets what `GET /tasks` shows of how a task was made. The default is [`HistoryStyle::Full`].
    /// See [`Sim::set_history`].
    pub fn history(mut self, style: HistoryStyle) -> Self {
        self.world.history = style;
        self
    }

    /// Sets what task ids look like. The default is 15 digits.
    pub fn task_ids(mut self, task_ids: TaskIds) -> Self {
        self.world.task_ids = task_ids;
        self
    }

    /// Makes task ids of 18 digits, or of 15: short for [`SimBuilder::task_ids`].
    pub fn ids_of_18_digits(self, is_long: bool) -> Self {
        self.task_ids(if is_long {
            TaskIds::Digits18
        } else {
            TaskIds::Digits15
        })
    }

    /// Accepts job starts that name these ids, as if every account had the element, the avatar, the
    /// work or the task. With [`SAMPLE_IDS`](crate::SAMPLE_IDS) the vendor's sample scripts run
    /// whole. All other calls answer that there is no such thing.
    pub fn accept_ids(mut self, ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let ids = ids.into_iter().map(Into::into);
        self.world.accepted_ids.extend(ids);
        self
    }

    /// Sets whether JSON is compressed for clients that accept gzip. By default it is.
    pub fn compression(mut self, compresses: bool) -> Self {
        self.api.compresses = compresses;
        self
    }

    /// Sets the time between two events of `POST /mcp`. The default is 50 ms. With an hour, a proxy
    /// that buffers the answer passes nothing on.
    pub fn mcp_pause(mut self, pause: Duration) -> Self {
        self.api.mcp_pause = pause;
        self
    }

    /// Sets the address to listen on. The default is a free port of the loopback interface.
    pub fn listen(self, addr: SocketAddr) -> Self {
        Self { addr, ..self }
    }

    /// Sets where clients reach the simulator, such as `http://127.0.0.1:9090`: the URLs of results
    /// begin with it. The default is the address it listens on; if that is the address of all
    /// interfaces, it is the loopback address.
    pub fn public_url(self, url: impl Into<String>) -> Self {
        let public_url = Some(url.into());
        Self { public_url, ..self }
    }

    /// Binds the address and serves it on the current Tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] if the address cannot be bound.
    pub async fn start(self) -> Result<Sim, StartError> {
        let cannot_listen = |source| StartError {
            addr: self.addr,
            source,
        };
        let listener = TcpListener::bind(self.addr).await.map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let public_url = self.public_url.unwrap_or_else(|| url_of(addr));
        let settings = Settings {
            public_url: PublicUrl(public_url.trim_end_matches('/').to_owned()),
            ..self.world
        };
        let mut world = World::new(settings, Timestamp::now());
        for (email, max_jobs) in self.accounts {
            world.set_account(email, max_jobs);
        }
        for email in self.hung {
            world.set_account_hung(&email, true);
        }
        let shared = Arc::new(Shared::new(world, self.api));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(server::serve(
            listener,
            Arc::clone(&shared),
            tasks.clone(),
            stop.clone(),
        ));
        tracing::info!(%addr, "simulator listens");
        Ok(Sim {
            addr,
            shared,
            tasks,
            stop,
        })
    }
}

/// The URL by which a client on this machine reaches a listener.
fn url_of(mut listener: SocketAddr) -> String {
    if listener.ip().is_unspecified() {
        listener.set_ip(match listener.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{listener}")
}
