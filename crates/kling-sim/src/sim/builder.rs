//! A simulator before it starts.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
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
    world::{HistoryStyle, JobDuration, Settings, World},
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
    world: Settings,
    api: ApiSettings,
    addr: SocketAddr,
}

impl Default for SimBuilder {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            world: Settings::default(),
            api: ApiSettings {
                token: DEFAULT_TOKEN.to_owned(),
                compresses: true,
                mcp_pause: Duration::from_millis(50),
            },
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
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
        let mut world = World::new(self.world, Timestamp::now());
        for (email, max_jobs) in self.accounts {
            world.set_account(email, max_jobs);
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
